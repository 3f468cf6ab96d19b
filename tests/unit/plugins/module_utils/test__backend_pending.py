# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch that waits for its confirmation: who may take it, who has to wait, and what an interrupted one leaves."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_units as units
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_pending import Pending, PendingError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, Result

TIMER, SERVICE = f"{units.REVERT}.timer", f"{units.REVERT}.service"
COMMANDS = [["/bin/true"]]


class Systemd:
    """A runner that knows the states of two units, and notes what is asked of systemd."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.asked: list[str] = []
        self.fails = ""

    def find(self, name: str) -> str:
        return f"/bin/{name}"

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        assert stdin is None
        assert timeout
        verb = "run" if argv[0] == "systemd-run" else argv[1]
        if verb == self.fails:
            raise CommandError(argv, 1, "", "no space left")
        if verb == "is-active":
            return Result(
                0 if argv[2] in self.active else 3, "active\n" if argv[2] in self.active else "inactive\n", ""
            )
        self.asked.append(verb)
        if verb == "stop":
            self.active.discard(argv[2])
        elif verb == "run":
            self.active.add(TIMER)
        return Result(0, "", "")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def pending(tmp_path: Path, systemd: Systemd) -> Pending:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return Pending(t.cast(t.Any, systemd), str(tmp_path))


def armed(pending: Pending) -> str:
    token = pending.arm({"table.nft": "x"}, COMMANDS, {"backend": "nftables"})
    pending.wait(60)
    return token


def names(pending: Pending) -> set[str]:
    return {path.name for path in Path(pending.directory).iterdir()}


def test_a_change_that_waits_keeps_others_away(pending: Pending) -> None:
    pending.refuse()
    armed(pending)
    assert not pending.interrupted()
    with pytest.raises(PendingError, match="still waits"):
        pending.refuse()


def test_a_way_back_under_way_keeps_others_away(pending: Pending, systemd: Systemd) -> None:
    """Its timer is gone by then."""
    token = armed(pending)
    systemd.active = {SERVICE}
    assert not pending.interrupted()
    with pytest.raises(PendingError, match="going back just now"):
        pending.refuse()
    with pytest.raises(PendingError, match="too late"):
        pending.take(token)


def test_a_confirmation_that_dies_leaves_a_host_that_goes_back(pending: Pending, systemd: Systemd) -> None:
    token = armed(pending)
    systemd.asked.clear()
    assert pending.take(token)["backend"] == "nftables"
    assert systemd.asked[-1] == "run"
    assert pending.waits()
    pending.forget()
    assert not pending.waits()
    assert names(pending) == set() if Path(pending.directory).exists() else True


def test_another_confirmation_is_none(pending: Pending) -> None:
    armed(pending)
    with pytest.raises(PendingError, match="no change with this confirmation"):
        pending.take("x")
    assert pending.waits()


def test_what_was_interrupted_is_noticed(pending: Pending, systemd: Systemd) -> None:
    assert not pending.interrupted()
    armed(pending)
    systemd.active.clear()
    assert pending.interrupted()
    pending.refuse()
    pending.go_back(5)
    assert "start" in systemd.asked
    assert not pending.interrupted()


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_note_that_cannot_be_read_is_a_note(pending: Pending, systemd: Systemd, text: str) -> None:
    token = armed(pending)
    (Path(pending.directory) / "pending.json").write_text(text)
    with pytest.raises(PendingError, match="no change with this confirmation"):
        pending.take(token)
    systemd.active.clear()
    assert pending.interrupted()


def test_the_last_of_a_way_back_is_that_nothing_of_it_is_left(pending: Pending) -> None:
    armed(pending)
    lines = (Path(pending.root + units.REVERT_UNIT)).read_text().splitlines()
    assert lines[-2] == "ExecStart=-/bin/true"
    for name in (f"{units.DIRECTORY}/pending.json", f"{units.DIRECTORY}/table.nft", units.REVERT_UNIT):
        assert name in lines[-1].split()
    assert units.CONFIG not in lines[-1].split(), "dockerd reads it"


def test_what_cannot_be_written_down_leaves_nothing(pending: Pending, systemd: Systemd) -> None:
    systemd.fails = "daemon-reload"
    with pytest.raises(CommandError):
        pending.arm({"table.nft": "x"}, COMMANDS, {})
    systemd.fails = ""
    assert not pending.interrupted()
    assert not Path(pending.root + units.REVERT_UNIT).exists()
