# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.bulkhead.docker_nftables.plugins.action import nftables_conf as plugin
from ansible_collections.bulkhead.docker_nftables.plugins.action import nftables_ruleset

APPLIED = {
    "changed": True,
    "backup": "/etc/nftables.conf.before-bulkhead",
    "actions": ["write /etc/nftables.conf"],
    "confirmation": {"token": "t0", "seconds": 30},
}
ARGUMENTS = {"content": "table", "file": "text", "layout": {"layout": "own_table"}, "name": "x", "confirm_timeout": 30}


class Run:
    """One task: answers of the host in their order, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[t.Any], **arguments: t.Any) -> None:
        self.asked: list[t.Any] = []
        self.answers = answers
        self.now = 0.0
        clock = types.SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(nftables_ruleset, "time", clock)
        monkeypatch.setattr(ActionBase, "run", lambda *_a, **_k: {})
        self.action = plugin.ActionModule.__new__(plugin.ActionModule)
        self.action._task = types.SimpleNamespace(args={**ARGUMENTS, **arguments})
        self.action._connection = types.SimpleNamespace(reset=lambda: self.asked.append("reset"))
        self.action._execute_module = self.execute

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def execute(self, module_args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        assert "module_name" not in task_vars
        self.asked.append(module_args)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


def test_it_confirms_over_a_new_connection_with_everything_the_host_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [APPLIED, {"changed": True, "backup": None}])
    result = run.action.run(None, {})
    assert run.asked == [ARGUMENTS, "reset", {**ARGUMENTS, "confirmation": "t0", "keep": True}]
    assert (result["changed"], result["confirmed"], result["backup"]) == (True, True, APPLIED["backup"])


def test_a_probe_that_fails_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables_ruleset, "probe", lambda _address, _port: False)
    run = Run(monkeypatch, [APPLIED, {"changed": True}], probes=[{"port": 22}])
    result = run.action.run(None, {"ansible_host": "192.0.2.1"})
    assert run.asked[-1]["keep"] is False
    assert (result["failed"], result["changed"], result["confirmed"]) == (True, False, False)
    assert "port 22 of 192.0.2.1 is closed where open was expected" in result["msg"]


def test_without_a_new_connection_the_host_reverts(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [APPLIED, AnsibleConnectionFailure("ssh said no")])
    result = run.action.run(None, {})
    assert (result["failed"], result["confirmed"]) == (True, False) and 35 < run.now < 40


@pytest.mark.parametrize("answer", [{"changed": False}, {"failed": True, "msg": "no"}, {"changed": True}])
def test_where_there_is_nothing_to_confirm(monkeypatch: pytest.MonkeyPatch, answer: dict[str, t.Any]) -> None:
    run = Run(monkeypatch, [answer])
    assert run.action.run(None, {}) == answer and run.asked == [ARGUMENTS]
