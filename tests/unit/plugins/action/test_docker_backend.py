# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller tries before and after a switch of Docker's backend."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.bulkhead.docker_nftables.plugins.action import docker_backend as plugin
from ansible_collections.bulkhead.docker_nftables.plugins.action import nftables_ruleset

PUBLISHED = [
    {"address": "0.0.0.0", "port": 8080},
    {"address": "::", "port": 8080},
    {"address": "127.0.0.1", "port": 9001},
    {"address": "2001:db8::7", "port": 8090},
]
LOOK = {"changed": True, "published": PUBLISHED}
APPLIED = {"changed": True, "confirmation": {"token": "t0", "seconds": 30}}
KEPT = {"changed": True}
HOST = "198.51.100.11"


class Run:
    """One task: answers of the host in their order, and ports as each look at them finds them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        answers: list[dict[str, t.Any]],
        looks: list[dict[t.Any, bool]],
        check: bool = False,
        **arguments: t.Any,
    ) -> None:
        self.events: list[t.Any] = []
        self.answers, self.looks = list(answers), list(looks)
        clock = types.SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda seconds: None)
        monkeypatch.setattr(plugin, "time", clock)
        monkeypatch.setattr(nftables_ruleset, "time", clock)
        monkeypatch.setattr(plugin, "try_all", self.look)
        monkeypatch.setattr(ActionBase, "run", lambda *_a, **_k: {})
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = types.SimpleNamespace(args={"backend": "nftables", **arguments}, check_mode=check)
        action._connection = types.SimpleNamespace(reset=lambda: self.events.append("reset"))
        action._execute_module = self.execute
        self.action = action

    def look(self, wanted: list[t.Any]) -> dict[t.Any, bool]:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {each: found.get(each, False) for each in wanted}

    def execute(self, module_args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        self.events.append((self.action._task.check_mode, module_args.get("confirmation"), module_args.get("keep")))
        return dict(self.answers.pop(0))

    def result(self) -> dict[str, t.Any]:
        return self.action.run(None, {"ansible_host": HOST})


OPEN = {(HOST, 8080): True, ("2001:db8::7", 8090): False}


def test_the_same_ports_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [LOOK, APPLIED, KEPT], [OPEN])
    result = run.result()
    assert run.events == [(True, None, None), (False, None, None), "reset", (False, "t0", True)]
    assert result["confirmed"]
    assert result["probed"] == [
        {"address": HOST, "port": 8080, "before": "open", "after": "open"},
        {"address": "2001:db8::7", "port": 8090, "before": "closed", "after": "closed"},
    ]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({(HOST, 8080): False}, f"port 8080 of {HOST} was open and is closed"),
        ({**OPEN, ("2001:db8::7", 8090): True}, "port 8090 of 2001:db8::7 was closed and is open"),
    ],
)
def test_a_port_that_differs_has_the_host_go_back(monkeypatch: pytest.MonkeyPatch, after: t.Any, said: str) -> None:
    run = Run(monkeypatch, [LOOK, APPLIED, KEPT], [OPEN, after])
    result = run.result()
    assert run.events[-1] == (False, "t0", False)
    assert (result["failed"], result["changed"], result["confirmed"]) == (True, False, False)
    assert result["msg"] == f"The host has gone back to the backend it had before, because {said}"


def test_a_port_that_is_late_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {(HOST, 8080): False}
    assert Run(monkeypatch, [LOOK, APPLIED, KEPT], [OPEN, late, late, OPEN]).result()["confirmed"]


def test_nothing_is_tried_where_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for look in ({"changed": False}, {"failed": True, "msg": "swarm"}, {"unreachable": True}):
        run = Run(monkeypatch, [look], [{}])
        assert run.result() == look
        assert run.events == [(True, None, None)]


@pytest.mark.parametrize("options", [{"check": True}, {"probe_published": "no"}, {"confirmation": "t9"}])
def test_where_the_module_alone_is_asked(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    run = Run(monkeypatch, [{"changed": False}], [{}], **options)
    assert run.result() == {"changed": False}
    assert len(run.events) == 1
    assert run.action._task.check_mode is options.get("check", False)


def test_targets_are_what_somebody_else_can_dial() -> None:
    assert plugin.targets(PUBLISHED, HOST) == [(HOST, 8080), ("2001:db8::7", 8090)]
