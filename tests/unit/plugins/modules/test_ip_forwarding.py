# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import SysctlTree
from ansible_collections.bulkhead.docker_nftables.plugins.modules import ip_forwarding

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that forwards nothing, in a directory."""
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding"):
        target = tmp_path / "proc/sys/net" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("0\n")
    monkeypatch.setattr(ip_forwarding, "SysctlTree", lambda: SysctlTree(str(tmp_path)))
    return tmp_path


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main() and give back its exit code and its result."""

    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        arguments.update(_ansible_check_mode=check, _ansible_diff=True)
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            ip_forwarding.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def test_check_mode_says_what_the_run_then_does(run: Run, root: Path) -> None:
    live = root / "proc/sys/net/ipv4/ip_forward"
    file = root / ip_forwarding.SYSCTL_FILE.lstrip("/")

    code, said = run(check=True, ipv6="true")
    assert code == 0 and said["changed"] is True
    assert live.read_text() == "0\n" and not file.exists()

    code, done = run(ipv6="true")
    said.pop("invocation"), done.pop("invocation")
    assert done == said
    assert live.read_text() == "1\n"
    assert file.read_text() == done["diff"][0]["after"]
    assert done["diff"][1]["before"].startswith("net.ipv4.ip_forward = 0\n")
    assert done["live_changes"][0] == {"key": "net.ipv4.ip_forward", "before": "0", "after": "1"}

    for check in (False, True):
        code, again = run(check=check, ipv6="true")
        assert again["changed"] is False and again["live_changes"] == []
        assert again["diff"][0]["before"] == again["diff"][0]["after"]


def test_absent_says_that_the_kernel_keeps_its_values(run: Run, root: Path) -> None:
    run()
    _code, result = run(state="absent")
    assert result["changed"] is True
    assert result["msg"] == (
        "/etc/sysctl.d/60-bulkhead-forwarding.conf is removed; "
        "the running kernel keeps its values until the next boot."
    )
    assert (root / "proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    _code, result = run(state="absent")
    assert result["changed"] is False


def test_booleans_are_taken_for_ipv6(run: Run) -> None:
    assert run(ipv6=True, check=True)[1]["ipv6"] is True
    assert run(ipv6=False, check=True)[1]["ipv6"] is False


def test_a_later_file_is_a_warning_and_a_result(run: Run, root: Path) -> None:
    other = root / "etc/sysctl.d/99-x.conf"
    other.parent.mkdir(parents=True)
    other.write_text("net.ipv4.ip_forward=0\n")
    _code, result = run()
    assert result["overrides"] == [
        {"path": "/etc/sysctl.d/99-x.conf", "line": 1, "key": "net.ipv4.ip_forward", "value": "0"}
    ]
    assert "/etc/sysctl.d/99-x.conf:1" in json.dumps(result["warnings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ipv4": False, "ipv6": False}, "ipv4 and ipv6 are both false"),
        ({"accept_ra": ["../../../etc"]}, "accept_ra: '../../../etc' is not an interface name"),
        ({"accept_ra": ["sixteen-letters-"]}, "accept_ra: 'sixteen-letters-' is not an interface name"),
        ({"accept_ra": [".."]}, "accept_ra: '..' is not an interface name"),
    ],
)
def test_bad_input_names_the_value_and_changes_nothing(
    run: Run, root: Path, arguments: dict[str, t.Any], message: str
) -> None:
    code, result = run(**arguments)
    assert code == 1 and result["failed"] is True
    assert result["msg"].startswith(message)
    assert (root / "proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert not (root / "etc").exists()
