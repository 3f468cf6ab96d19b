# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules
from ansible_collections.bulkhead.docker_nftables.plugins.modules import docker_firewall_info, nftables_info

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:
    # ansible-core before 2.19 has no helper for this.
    @contextmanager
    def patch_module_args(args: dict[str, Any]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode())
            yield


needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="loading a ruleset needs root and nft"
)


def run(module: Any, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    capsys.readouterr()
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    printed = capsys.readouterr().out.strip()
    assert "Traceback" not in printed
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


@pytest.fixture(name="nft_that_says")
def _nft_that_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a program named nft in front of everything else; None means that there is none at all."""

    def place(script: str | None) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(_runner, "EXTRA_PATH", ())
        if script is not None:
            program = tmp_path / "nft"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    return place


@needs_nft
def test_nftables_info_of_a_loaded_ruleset(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner()
    text = """
        table inet bulkhead {
            set ports {
                type inet_service
                elements = { 22, 80 }
            }
            chain prerouting {
                type filter hook prerouting priority -110; policy accept;
                tcp dport @ports accept comment "open"
            }
        }
        table ip other {
        }
        """
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        result = run(nftables_info, capsys, _ansible_check_mode=True)
        limited = run(nftables_info, capsys, tables=["inet  bulkhead"], rules=False, elements=True)
    assert result["changed"] is False
    assert [(each["family"], each["name"], each["owner"]) for each in result["tables"]] == [
        ("inet", "bulkhead", "bulkhead"),
        ("ip", "other", "other"),
    ]
    table = result["tables"][0]
    assert table["chains"][0]["rules"] == [
        {"handle": 3, "text": 'tcp dport @ports accept comment "open"', "comment": "open"}
    ]
    assert "elements" not in table["sets"][0]
    assert [each["chain"] for each in result["hooks"]["ip6"]["prerouting"]] == ["prerouting"]
    assert [each["name"] for each in limited["tables"]] == ["bulkhead"]
    assert limited["tables"][0]["sets"][0]["elements"] == [22, 80]
    assert "rules" not in limited["tables"][0]["chains"][0]
    assert limited["tables"][0]["rule_count"] == 1


@needs_nft
def test_nftables_info_of_the_marks_of_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner()
    text = """
        table inet bulkhead {
            chain c {
                meta mark set meta mark | 0x10000000
            }
        }
        table inet vpn {
            set marks {
                type mark
                elements = { 0x40, 0x80 }
            }
            chain c {
                meta mark @marks accept
            }
        }
        """
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        result = run(nftables_info, capsys)
    assert result["marks"] == {
        "used_mask": 0xC0,
        "uses": [
            {
                "where": "inet vpn c handle 3",
                "value": None,
                "mask": 0xC0,
                "text": "meta mark @marks accept",
                "whole": True,
            }
        ],
    }
    assert result["layout"] is None
    assert result["conf"]["path"].startswith("/etc/")
    assert set(result["firewall_services"]) >= {"firewalld", "ufw", "nftables"}


def test_the_bits_of_the_layout_are_the_collections_own() -> None:
    assert nftables_info.own_bits(None) == 0
    assert nftables_info.own_bits({"layout": "x", "mark_bit": 4, "other_bit": 1, "policies": []}) == 5


def test_what_docker_lost_is_looked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that comes up while the ruleset is read has a proxy and no rule yet."""
    rulesets = [Ruleset(), Ruleset()]
    presence = DockerPresence(running=True, bridges={"docker0": ("172.17.0.1/16",)})
    answers = {
        "read_interfaces": lambda _runner: [],
        "docker_presence": lambda _interfaces: presence,
        "proxied_ports": lambda _presence: frozenset(),
        "legacy_table_names": lambda: ((), ()),
        "read_ruleset": lambda _runner, _elements: rulesets.pop(),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(nftables_info, name, answer)
    _ruleset, findings = nftables_info.look_for_dangers(Runner(), False, {}, LegacyRules())
    assert ([each.code for each in findings], rulesets) == (["DOCKER_RULES_MISSING"], [])
    rulesets.extend([Ruleset()])
    units = {"docker": {"ActiveState": ["activating"]}}
    assert nftables_info.look_for_dangers(Runner(), False, units, LegacyRules())[1] == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "nft is not installed on this host"),
        ("echo 'nftables v0.9.0 (Fearless Fosdick)'", "nft 0.9.0 is too old"),
        (
            '[ "$1" = --version ] && echo "nftables v1.0.6" || { echo "Operation not permitted" >&2; exit 1; }',
            "needs root",
        ),
        ('[ "$1" = --version ] && echo "nftables v1.0.6" || echo "{\\"nftables\\": [{"', "cut off"),
        ('[ "$1" = --version ] && echo "nftables v1.0.6"; [ "$1" = --version ]', "exit code 1: it printed nothing"),
    ],
)
def test_nftables_info_fails_with_one_sentence(
    script: str | None, said: str, nft_that_says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    nft_that_says(script)
    result = run(nftables_info, capsys)
    assert result["failed"] is True
    assert said in result["msg"]
    assert "\n" not in result["msg"]


def test_docker_firewall_info_goes_on_without_docker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon_json = tmp_path / "daemon.json"
    daemon_json.write_text('{"icc": false,}')
    result = run(docker_firewall_info, capsys, docker_host=f"unix://{tmp_path}/none", daemon_json=str(daemon_json))
    assert (result["available"], result["changed"], result["engine"]) == (False, False, None)
    assert result["reason_code"] in ("not_installed", "daemon_unreachable")
    assert (result["networks"], result["published"]) == ([], [])
    assert "lo" in [each["name"] for each in result["interfaces"]]
    assert "line 1, column 1" in result["daemon_json"]["error"]
    assert [each["code"] for each in result["warnings_found"]] == ["DAEMON_JSON_BROKEN"]


def test_docker_firewall_info_fails_where_docker_is_required(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(docker_firewall_info, capsys, docker_host=f"unix://{tmp_path}/none", required=True)
    assert result["failed"] is True
    assert result["msg"].startswith("Docker cannot be asked: ")


@pytest.mark.parametrize("module", [nftables_info, docker_firewall_info])
def test_what_is_returned_is_what_is_documented(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if module is nftables_info and (os.geteuid() != 0 or shutil.which("nft") is None):
        pytest.skip("reading a ruleset needs root and nft")
    yaml = pytest.importorskip("yaml")
    arguments = {} if module is nftables_info else {"docker_host": f"unix://{tmp_path}/none"}
    with Runner().scratch_network():
        result = run(module, capsys, **arguments)
    documented = yaml.safe_load(module.RETURN)
    # Ansible keeps what other tests of this process have warned of.
    assert set(result) - {"changed", "invocation", "warnings"} == set(documented)
    for key, entry in documented.items():
        assert "sample" in entry or "contains" in entry, f"{key} has no sample"
