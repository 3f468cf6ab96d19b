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
from ansible_collections.bulkhead.docker_nftables.plugins.modules import firewalld_info
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import World

Run = t.Callable[[], t.Tuple[int, t.Dict[str, t.Any]]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.install(monkeypatch)
    return world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path) -> Run:
    """Run the module's main() as root and give back its exit code and its result."""
    monkeypatch.setattr(firewalld_info.os, "geteuid", lambda: 0)

    class Connected:
        def __init__(self, *_arguments: object) -> None:
            pass

        def connect(self) -> object:
            if world.state != "RUNNING":
                raise FirewalldError("firewalld is in the state FAILED")
            return world.firewalld(tmp_path)

    monkeypatch.setattr(firewalld_info, "Firewalld", Connected)

    def call() -> tuple[int, dict[str, t.Any]]:
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": {}}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            firewalld_info.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def test_both_configurations_are_in_one_list(run: Run, world: World) -> None:
    world.permanent[("zone", "public")]["interfaces"] = ["eth0"]
    world.runtime[("zone", "public")]["interfaces"] = ["eth0", "eth1"]
    world.runtime[("zone", "work")]["interfaces"] = ["eth2"]
    world.permanent[("zone", "work")]["sources"] = ["192.0.2.0/24"]
    world.permanent[("policy", "allow-host-ipv6")]["rich_rules"] = ["rule family=\"ipv6\" accept"]
    code, found = run()
    assert (code, found["changed"]) == (0, False)
    zones = {zone["name"]: zone for zone in found["zones"]}
    # What is in the default zone at runtime only was bound by nobody.
    assert zones["public"] == {"name": "public", "ours": False, "interfaces": ["eth0"], "sources": [], "target": "default"}
    assert (zones["work"]["interfaces"], zones["work"]["sources"]) == (["eth2"], ["192.0.2.0/24"])
    assert zones["docker"]["target"] == "ACCEPT"
    assert [(each["name"], each["opens"], each["ingress_zones"]) for each in found["policies"]] == [
        ("allow-host-ipv6", True, ["ANY"])
    ]
    assert found["docker_zone"] == {"exists": True, "interfaces": ["docker0"], "missing": ["br-0123456789ab"]}
    assert (found["version"], found["default_zone"], found["settings"]["LogDenied"]) == ("2.3.1", "public", "off")


def test_documented_is_what_is_returned(run: Run) -> None:
    documented = yaml.safe_load(firewalld_info.RETURN)
    found = run()[1]
    assert set(documented) <= set(found)
    for name in ("zones", "policies"):
        assert set(documented[name]["contains"]) == set(found[name][0])
    assert set(documented["docker_zone"]["contains"]) == set(found["docker_zone"])


def test_a_firewalld_that_does_not_answer(run: Run, world: World) -> None:
    world.state = "FAILED"
    code, found = run()
    assert code == 1 and "FAILED" in found["msg"]


def test_types_of_icmp_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for name in ("echo-request.xml", "README"):
        (tmp_path / name).touch()
    (tmp_path / "own" / "mld-listener-query.xml").touch()
    directories = (str(tmp_path), str(tmp_path / "own"), str(tmp_path / "none"))
    assert firewalld_info.icmp_types(directories) == ["echo-request", "mld-listener-query"]
