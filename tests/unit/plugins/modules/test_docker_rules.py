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
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_repair import (
    Outcome,
    Repair,
    RepairError,
    Wishes,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import RulesetError
from ansible_collections.bulkhead.docker_nftables.plugins.modules import docker_rules

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main() as root and give back its exit code and its result."""
    monkeypatch.setattr(docker_rules.os, "geteuid", lambda: 0)

    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            docker_rules.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


class Played:
    """What a repair is asked for, and what it then says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wishes: Wishes | None = None
        self.check: bool | None = None
        self.outcome = Outcome()
        self.error: Exception | None = None
        played = self

        def present(self: Repair, check_mode: bool) -> Outcome:
            played.wishes, played.check = self.wishes, check_mode
            self.out = played.outcome
            if played.error is not None:
                raise played.error
            return self.out

        monkeypatch.setattr(Repair, "present", present)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def test_the_options_get_to_the_repair(run: Run, played: Played) -> None:
    assert run()[0] == 0
    assert (played.wishes, played.check) == (Wishes(), False)
    options: dict[str, t.Any] = {
        "method": "restart",
        "live_restore": "as_configured",
        "allow_container_restart": True,
        "start_stopped": False,
        "force": True,
        "timeout": 7,
    }
    assert run(check=True, **options)[0] == 0
    assert (played.wishes, played.check) == (Wishes(**options), True)


def test_the_result(run: Run, played: Played) -> None:
    played.outcome = Outcome(True, ["a"], "restart", ["restart Docker"], 2.5, ["job"], ["once"], ["look out"])
    code, result = run()
    assert code == 0 and result["changed"] is True
    assert (result["missing"], result["method"], result["actions"]) == (["a"], "restart", ["restart Docker"])
    assert (result["seconds"], result["started_containers"], result["stopped_containers"]) == (2.5, ["job"], ["once"])
    assert "look out" in json.dumps(result["warnings"])


@pytest.mark.parametrize("error", [RepairError("no"), RulesetError("no"), OSError("no")])
def test_a_failure_says_what_was_done(run: Run, played: Played, error: Exception) -> None:
    played.error = error
    played.outcome = Outcome(actions=["restart Docker"], warnings=["look out"])
    code, result = run()
    assert code == 1 and result["failed"] is True and result["msg"] == "no"
    assert result["actions"] == ["restart Docker"] and "look out" in json.dumps(result["warnings"])
    # Whoever goes on after a failure has to know that something was changed.
    assert result["changed"] is True
    played.outcome = Outcome()
    assert run()[1]["changed"] is False


def test_all_mistakes_at_once(run: Run, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_rules.os, "geteuid", lambda: 1000)
    code, result = run(timeout=0, force=True, method="none")
    assert code == 1 and played.wishes is None
    assert result["msg"] == (
        "timeout: accepted are 1 to 3600 seconds; force: accepted with method auto and restart; method none only looks; "
        "Docker's rules can only be read and put back by root; set become to true"
    )


@pytest.mark.parametrize("timeout", [1, 3600])
def test_the_limits_of_the_timeout(run: Run, played: Played, timeout: int) -> None:
    assert run(timeout=timeout)[0] == 0
    assert run(timeout=3601 if timeout > 1 else 0)[0] == 1
