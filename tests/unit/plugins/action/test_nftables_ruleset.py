# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.bulkhead.docker_nftables.plugins.action import nftables_ruleset as plugin

APPLIED = {"changed": True, "confirmation": {"token": "t0", "seconds": 30}}
KEPT = {"changed": True}
BACK = AnsibleConnectionFailure("ssh said no")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Run:
    """One task: answers of the host in their order, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[t.Any], **arguments: t.Any) -> None:
        self.events: list[t.Any] = []
        self.answers = list(answers)
        self.clock = Clock()
        monkeypatch.setattr(plugin, "time", self.clock)
        monkeypatch.setattr(ActionBase, "run", lambda *_a, **_k: {})
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = types.SimpleNamespace(args={"content": "table", **arguments})
        action._connection = types.SimpleNamespace(reset=lambda: self.events.append("reset"))
        action._execute_module = self.execute
        self.action = action

    def execute(self, module_args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        self.events.append((module_args.get("confirmation"), module_args.get("keep")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def result(self, **variables: t.Any) -> dict[str, t.Any]:
        return self.action.run(None, variables)


def test_it_confirms_over_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [APPLIED, KEPT])
    result = run.result()
    assert (result["changed"], result["confirmed"], result.get("failed")) == (True, True, None)
    assert run.events == [(None, None), "reset", ("t0", True)]


def test_what_the_confirmation_has_kept_of_the_file_before_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [{**APPLIED, "backup": None}, {**KEPT, "backup": "/etc/nftables.conf.before-bulkhead"}])
    assert run.result()["backup"] == "/etc/nftables.conf.before-bulkhead"


@pytest.mark.parametrize(
    ("answer", "arguments"),
    [
        ({"changed": False}, {}),
        ({"changed": True}, {"confirm_timeout": 30}),  # check mode, or only files differed
        ({"failed": True, "msg": "no", "confirmation": {"token": "t0", "seconds": 9}}, {}),
        (APPLIED, {"confirmation": "t9"}),
    ],
)
def test_where_there_is_nothing_to_confirm(monkeypatch: pytest.MonkeyPatch, answer: t.Any, arguments: t.Any) -> None:
    run = Run(monkeypatch, [answer], **arguments)
    result = run.result()
    assert "reset" not in run.events and len(run.events) == 1
    assert "confirmed" not in result


@pytest.mark.parametrize("trouble", [BACK, {"unreachable": True, "msg": "no route"}])
def test_it_tries_again_until_it_succeeds(monkeypatch: pytest.MonkeyPatch, trouble: t.Any) -> None:
    run = Run(monkeypatch, [APPLIED, trouble, trouble, KEPT])
    assert run.result()["confirmed"] is True
    assert run.events.count("reset") == 3


@pytest.mark.parametrize(("trouble", "why"), [(BACK, "ssh said no"), ({"unreachable": True, "msg": "gone"}, "gone")])
def test_it_gives_up_after_the_host_has_reverted(monkeypatch: pytest.MonkeyPatch, trouble: t.Any, why: str) -> None:
    run = Run(monkeypatch, [APPLIED, trouble])
    result = run.result()
    assert (result["failed"], result["changed"], result["confirmed"]) == (True, False, False)
    assert result["msg"] == (
        "No new connection to the host succeeded within 30 seconds of the change, so it has put back the table it had"
        f" before by itself; nothing on disk was changed ({why})"
    )
    assert 35 < run.clock.now < 40


def test_a_confirmation_that_the_host_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, [APPLIED, {"failed": True, "msg": "the confirmation came too late"}])
    result = run.result()
    assert result["msg"] == "The new table was not kept: the confirmation came too late"
    assert (result["failed"], result["confirmed"]) == (True, False)


@pytest.mark.parametrize(
    ("found", "probes", "asked", "message"),
    [
        (True, [{"port": 443}], [("web.example", 443)], None),
        (True, [{"port": 443, "address": "192.0.2.1", "expect": "open"}], [("192.0.2.1", 443)], None),
        (False, [{"port": 8080, "expect": "closed"}], [("web.example", 8080)], None),
        (False, [{"port": 443}], [("web.example", 443)], "port 443 of web.example is closed where open was expected"),
        (
            True,
            [{"port": 1, "expect": "closed"}, {"port": 2}],
            [("web.example", 1), ("web.example", 2)],
            "port 1 of web.example is open where closed was expected",
        ),
    ],
)
def test_probes_decide(
    monkeypatch: pytest.MonkeyPatch, found: bool, probes: list[t.Any], asked: list[t.Any], message: str | None
) -> None:
    tried = []

    def probe(address: str, port: int) -> bool:
        tried.append((address, port))
        return found

    monkeypatch.setattr(plugin, "probe", probe)
    run = Run(monkeypatch, [APPLIED, KEPT], probes=probes)
    result = run.result(ansible_host="web.example", inventory_hostname="web")
    assert tried == asked
    assert run.events[-1] == ("t0", message is None)
    if message is None:
        assert result["confirmed"] is True
    else:
        assert result["msg"] == f"The host has put back the table it had before, because {message}"
        assert (result["failed"], result["changed"], result["confirmed"]) == (True, False, False)


def test_a_probe_is_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert plugin.probe("127.0.0.1", port) is True
    assert plugin.probe("127.0.0.1", port) is False
