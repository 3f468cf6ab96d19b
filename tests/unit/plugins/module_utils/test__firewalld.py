# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _firewalld
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld import UNREAD, Firewalld
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import FirewalldError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_record import PATH, Changes, Record
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import SHOW, World

ACTIVE = "LoadState=loaded\nActiveState=active\nExecMainStartTimestampMonotonic=1000\n"


def connect(shown: str) -> Firewalld:
    return Firewalld(FakeRunner([Call(SHOW, stdout=shown)])).connect()


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("LoadState=not-found\nActiveState=inactive\n", "firewalld is not installed"),
        ("LoadState=masked\nActiveState=inactive\n", "firewalld.service is masked"),
        ("LoadState=loaded\nActiveState=inactive\n", "firewalld does not run .* is inactive"),
        ("LoadState=loaded\nActiveState=failed\n", "firewalld does not run .* is failed"),
        ("", "firewalld is not installed"),
    ],
)
def test_a_firewalld_that_cannot_be_used(shown: str, said: str) -> None:
    with pytest.raises(FirewalldError, match=said):
        connect(shown)


def test_no_systemd() -> None:
    with pytest.raises(FirewalldError, match="state of firewalld.service cannot be told: systemctl is not installed"):
        Firewalld(FakeRunner(missing=("systemctl",))).connect()


def test_a_python_without_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(_firewalld, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(
        FirewalldError, match=r"has no firewalld API \(No module named firewall.client\).*/usr/bin/python3"
    ):
        connect(ACTIVE)


def test_a_state_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.state = "FAILED"
    world.install(monkeypatch)
    with pytest.raises(FirewalldError, match="firewalld is in the state FAILED"):
        connect(ACTIVE)


def test_an_answer_that_comes_late_or_never(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.connected = False
    world.install(monkeypatch)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        world.connected = clock[0] > 2

    monkeypatch.setattr(_firewalld, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    connect(ACTIVE)
    assert 2 < clock[0] < 3

    world.connected = False
    monkeypatch.setattr(
        _firewalld,
        "time",
        SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda each: clock.append(clock.pop() + each)),
    )
    with pytest.raises(FirewalldError, match="does not answer on D-Bus"):
        connect(ACTIVE)


def test_bridges_are_those_with_dockers_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    World().install(monkeypatch)
    assert World().firewalld(tmp_path).seen().bridges == ("br-0123456789ab", "docker0")


def test_the_record_is_private_and_goes_when_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    World().install(monkeypatch)
    firewalld = World().firewalld(tmp_path)
    record = Record({("zone", "public"): Changes(added={"ports": ("1/tcp",)})})
    firewalld.write_record(record)
    path = tmp_path / PATH.lstrip("/")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert firewalld.read_record() == record
    firewalld.write_record(Record())
    assert not path.parent.exists()


def test_a_reload_is_owed_until_firewalld_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.install(monkeypatch)
    firewalld = world.firewalld(tmp_path)
    assert not firewalld.seen().unread
    firewalld.set_unread(True)
    assert firewalld.seen().unread
    started = int((time.monotonic() + 60) * 1e6)
    later = Firewalld(FakeRunner([Call(SHOW, stdout=ACTIVE.replace("=1000", f"={started}"))]), str(tmp_path))
    assert not later.connect().seen().unread
    firewalld.set_unread(False)
    assert not firewalld.seen().unread and not os.path.exists(str(tmp_path) + UNREAD)
