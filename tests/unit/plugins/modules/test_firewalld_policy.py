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
import yaml
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import FirewalldError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_check import SETTINGS
from ansible_collections.bulkhead.docker_nftables.plugins.modules import firewalld_policy
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import World

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World()
    world.install(monkeypatch)

    class Connected:
        def __init__(self, *_arguments: object) -> None:
            pass

        def connect(self) -> object:
            return world.firewalld(tmp_path)

    monkeypatch.setattr(firewalld_policy, "Firewalld", Connected)
    return world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Run:
    """Run the module's main() as root and give back its exit code and its result."""
    monkeypatch.setattr(firewalld_policy.os, "geteuid", lambda: 0)

    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            firewalld_policy.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def test_what_is_said_of_a_change(run: Run) -> None:
    zones = [{"name": "public", "ports": ["8080/tcp"], "absent": {"services": ["ssh"]}}]
    code, foretold = run(check=True, zones=zones)
    assert code == 0
    assert run(zones=zones)[1]["operations"] == foretold["operations"]
    assert foretold["changed"] and not foretold["reloaded"] and not foretold["reload_needed"]
    assert foretold["firewalld_version"] == "2.3.1"
    assert foretold["docker_zone"] == {"exists": True, "interfaces": ["docker0"], "missing": ["br-0123456789ab"]}
    permanent, runtime = foretold["diff"]
    assert permanent["before_header"] == "firewalld, permanent" and runtime["after_header"] == "firewalld, runtime"
    assert "  services: ssh\n" in permanent["before"] and "  services: ssh\n" not in permanent["after"]
    assert "  ports: 8080/tcp\n" in runtime["after"] and "zone docker" not in runtime["after"]
    _code, again = run(zones=zones)
    assert not again["changed"] and again["diff"] == [] and again["operations"] == []


def test_what_waits_for_a_reload(run: Run, world: World) -> None:
    arguments: dict[str, t.Any] = {"zones": [{"name": "bulkhead-a"}], "reload": "never"}
    code, result = run(**arguments)
    assert code == 0 and result["changed"] and result["reload_needed"] and not result["reloaded"]
    assert result["reload_reasons"] == ["zone bulkhead-a is new"]
    _code, again = run(**arguments)
    assert not again["changed"] and again["reload_needed"]
    _code, reloaded = run(zones=arguments["zones"])
    assert reloaded["changed"] and reloaded["reloaded"] and not reloaded["reload_needed"]


def test_removal_in_the_difference(run: Run) -> None:
    run(zones=[{"name": "bulkhead-a", "target": "DROP"}])
    _code, result = run(state="absent")
    for part in result["diff"]:
        assert part["before"].startswith("zone bulkhead-a\n  target: DROP\n") and part["after"] == ""


def test_all_mistakes_at_once(run: Run, world: World) -> None:
    code, result = run(zones=[{"name": "nosuch", "ports": ["80"]}], settings={"x": "y"})
    assert code == 1 and len(result["errors"]) == 3
    assert result["msg"].startswith("firewalld was not changed, there are 3 mistakes:\n- zones[0] (nosuch)")
    assert not world.calls


def test_absent_takes_nothing_else(run: Run) -> None:
    code, result = run(state="absent", zones=[{"name": "public"}], settings={"LogDenied": "all"})
    assert code == 1 and "zones and settings: cannot be given with state=absent" in result["msg"]


def test_a_failure_is_told(run: Run, world: World) -> None:
    world.failing = {"update": 0}
    code, result = run(zones=[{"name": "public", "ports": ["1/tcp"]}])
    assert code == 1
    assert result["msg"] == "firewalld refuses: update FAILED. What was done before it was put back."


def test_root_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewalld_policy.os, "geteuid", lambda: 1000)
    code, result = run()
    assert code == 1 and "use become" in result["msg"]


def test_a_firewalld_that_is_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def __init__(self, *_arguments: object) -> None:
            pass

        def connect(self) -> object:
            raise FirewalldError("firewalld is not installed")

    monkeypatch.setattr(firewalld_policy, "Firewalld", Away)
    code, result = run()
    assert code == 1 and result["msg"] == "firewalld is not installed"


def test_the_documentation_names_every_setting() -> None:
    described = yaml.safe_load(firewalld_policy.DOCUMENTATION)["options"]["settings"]["description"][1]
    assert all(f"C({name})" in described for name in SETTINGS)
