# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import sys
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_legacy import divide, parse_save
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant import Outcome
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant_plan import (
    Family,
    Plan,
    VariantError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.modules import iptables_variant

Run = t.Callable[..., t.Dict[str, t.Any]]
OLD = parse_save("*filter\n:INPUT DROP [0:0]\n-A INPUT -m set --match-set good src -j ACCEPT\nCOMMIT\n")


class FakeMove:
    """A host with one rule in the old tables."""

    applied: t.ClassVar[list[int]] = []
    against: t.ClassVar[str] = ""
    broken: t.ClassVar[str] = ""

    def __init__(self, runner: object) -> None:
        self.runner = runner

    def plan(self, restart_docker: bool) -> Plan:
        if self.against:
            raise VariantError(self.against)
        families = [] if self.applied else [Family("iptables", OLD, tuple(divide(OLD, {})), {})]
        return Plan("legacy", families, actions=["load 1 rule"] if families else [])

    def apply(self, plan: Plan, timeout: int) -> Outcome:
        if self.broken:
            raise VariantError(self.broken)
        self.applied.append(timeout)
        return Outcome(["/etc/bulkhead/legacy-backup/iptables.save"], ["web"], ["once"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main() and give back its result."""
    for name, value in (("applied", []), ("against", ""), ("broken", "")):
        monkeypatch.setattr(FakeMove, name, value)
    monkeypatch.setattr(iptables_variant, "Move", FakeMove)

    def call(check: bool = False, **arguments: object) -> dict[str, t.Any]:
        arguments.update(_ansible_check_mode=check, _ansible_diff=True)
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit):
            iptables_variant.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_check_mode_says_what_the_run_then_does(run: Run) -> None:
    said = run(check=True)
    assert FakeMove.applied == []
    done = run(timeout=7)
    assert FakeMove.applied == [7]
    for key in ("changed", "moved", "actions", "diff", "docker_rules", "variant_before"):
        assert said[key] == done[key]
    assert said["changed"] is True
    assert said["moved"] == [
        "iptables -t filter -P INPUT DROP",
        "iptables -t filter -A INPUT -m set --match-set good src -j ACCEPT",
    ]
    assert (said["backup"], done["backup"]) == ([], ["/etc/bulkhead/legacy-backup/iptables.save"])
    assert done["containers_started"] == ["web"] and done["containers_lost"] == ["once"]
    assert run()["changed"] is False


def test_ipsets_and_lost_containers_are_warnings(run: Run) -> None:
    said = json.dumps(run()["warnings"])
    assert "ipsets (good)" in said
    assert "are gone: once" in said


def test_what_stands_against_it_ends_the_run_before_anything_changes(run: Run) -> None:
    FakeMove.against = "firewalld runs"
    result = run()
    assert result["failed"] is True and result["msg"] == "firewalld runs. Nothing was changed."
    assert FakeMove.applied == []


def test_a_run_that_breaks_off_says_what_was_to_be_done(run: Run) -> None:
    FakeMove.broken = "Docker could not be restarted"
    result = run()
    assert result["failed"] is True and result["msg"] == "Docker could not be restarted"
    assert result["actions"] == ["load 1 rule"] and len(result["moved"]) == 2


@pytest.mark.parametrize("timeout", [0, 3601])
def test_a_timeout_out_of_range_is_refused(run: Run, timeout: int) -> None:
    result = run(timeout=timeout)
    assert result["msg"] == f"timeout: {timeout} is not a number of seconds from 1 to 3600"
    assert FakeMove.applied == []
