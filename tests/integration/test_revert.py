# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Confirm or revert: what is not confirmed over a new connection goes away by itself, and only that goes away.

The moment at which a new table is live but not confirmed is seen on the host itself; there the controller is killed,
the link drops or the power fails.
"""

from __future__ import annotations

import time
import typing as t

import pytest
from integration.fleet import both, target
from integration.scene import (
    LOCKOUT,
    PENDING,
    RULES,
    SSH,
    etc,
    foreign_tables,
    harden,
    hardened,
    is_root,
    live_table,
    one_suite,
    start_hardening,
    timer,
    wait_open,
    wait_pending,
    wait_reverted,
    words,
)

from lab.ansible import PlaybookResult, close_connections
from lab.containers import IMAGE
from lab.host import Host

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

#: The time limit of the tests, in seconds, and how much later than that a busy machine may be.
LIMIT = 8
LATE = 3.0
OTHER: list[dict[str, t.Any]] = [*SSH, {"to": "published", "ports": [80, 8085]}]

#: Each takes seconds, in which the change waits and something may happen to it.
SLOW = [{"port": 8081, "expect": "closed"}] * 2


@pytest.fixture
def host(module_host: Host) -> t.Iterator[Host]:
    """A host that waits for nothing and lets the neighbour in, before and after each test."""
    module_host.wait_docker()
    close_connections(module_host.lab)
    yield module_host
    close_connections(module_host.lab)
    wait_open(module_host, ssh_targets(module_host))
    assert timer(module_host) == "inactive"
    assert module_host.failed_units() == []


@pytest.fixture
def installed(host: Host) -> Host:
    """A host that has a confirmed policy."""
    hardened(host)
    return host


class Before:
    """The host as it is: its own table, everybody else's, and the disk."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.table = live_table(host)
        self.foreign = foreign_tables(host)
        self.etc = etc(host)

    def assert_back(self, foreign: str | None = None) -> None:
        """The own table and the disk are what they were; the others are too, or what they became in the window."""
        assert words(live_table(self.host)) == words(self.table)
        assert foreign_tables(self.host) == (foreign or self.foreign)
        assert etc(self.host) == self.etc


def ssh_targets(host: Host) -> list[dict[str, t.Any]]:
    return [target(*key) for key in both(host, "tcp", 22)]


def results(host: Host) -> set[str]:
    """What comes of dialling sshd anew."""
    return {entry["result"] for entry in host.lab.peer.probe(ssh_targets(host))}


def add_by_others(host: Host, number: int) -> str:
    """What Docker and an admin do while an apply waits; gives everybody's tables afterwards."""
    argv = ["docker", "run", "-d", "--name", f"late{number}", "-p", f"{9500 + number}:80", IMAGE, "sleep", "1000"]
    host.run(argv)
    host.run(["nft", "add", "table", "ip", f"other{number}"])
    found = foreign_tables(host)
    assert f"dport {9500 + number}" in found
    assert f"table ip other{number}" in found
    return found


def assert_said(result: PlaybookResult, host: Host) -> None:
    """The run has failed, and says what became of the host."""
    assert result.rc != 0
    said = result.messages(host.name)
    assert "has put back the table it had before" in said
    assert "nothing on disk was changed" in said


# -- first-ever install ------------------------------------------------------------------------------------------------


@one_suite
def test_first_install_that_locks_out(host: Host) -> None:
    """The run goes on to its end and fails; the host lets the neighbour in again in time."""
    before = Before(host)
    assert before.table is None
    run = start_hardening(host, LOCKOUT, allow_lockout=True, confirm_timeout=LIMIT)
    live = wait_pending(host)
    assert results(host) == {"timeout"}, "the policy should have locked everybody out"
    during = add_by_others(host, 1)
    back = wait_reverted(host, None, LIMIT + LATE)
    print(f"{host.suite}: locked out for {back - live:.1f} s of at most {LIMIT}")
    assert results(host) == {"open"}
    assert_said(run.wait(), host)
    before.assert_back(during)
    # The same policy without its mistake is applied as if nothing had been.
    hardened(host, RULES, confirm_timeout=LIMIT)
    assert live_table(host) is not None
    host.run(["nft", "delete", "table", "ip", "other1"])


@one_suite
def test_first_install_and_power_loss(host: Host) -> None:
    """The controller is killed and the power fails before anything is confirmed: as if nothing had been."""
    remove_all(host)
    before = Before(host)
    run = start_hardening(host, LOCKOUT, allow_lockout=True, confirm_timeout=60)
    wait_pending(host)
    run.kill()
    host.reboot(hard=True)
    host.wait_docker()
    assert live_table(host) is None
    assert etc(host) == before.etc
    assert results(host) == {"open"}


def remove_all(host: Host) -> None:
    """Back to a host that never had a policy."""
    result = harden(host, [], state="absent")
    assert result.rc == 0, result.messages()
    assert live_table(host) is None


# -- a change ----------------------------------------------------------------------------------------------------------


def test_change_that_locks_out_with_the_controller_killed(installed: Host) -> None:
    """SIGKILL to the whole process group at once. What somebody did to the own table by hand comes back too."""
    host = installed
    host.run(["nft", "add", "chain", "inet", "bulkhead", "byhand"])
    rule = ["add", "rule", "inet", "bulkhead", "byhand", "counter", "packets", "7", "bytes", "700", "comment", '"mine"']
    host.run(["nft", *rule])
    by_hand = host.run(["nft", "list", "chain", "inet", "bulkhead", "byhand"]).stdout
    assert "packets 7 bytes 700" in by_hand
    host.run(["nft", "add", "rule", "ip", "filter", "DOCKER-USER", "ip", "saddr", "192.0.2.99", "counter", "drop"])
    before = Before(host)
    run = start_hardening(host, LOCKOUT, allow_lockout=True, confirm_timeout=LIMIT)
    live = wait_pending(host)
    run.kill()
    assert timer(host) == "active"
    assert "byhand" not in (live_table(host) or "")
    assert results(host) == {"timeout"}, "the policy should have locked everybody out"
    during = add_by_others(host, 2)
    back = wait_reverted(host, before.table, LIMIT + LATE)
    print(f"{host.suite}: controller killed, locked out for {back - live:.1f} s of at most {LIMIT}")
    assert results(host) == {"open"}
    before.assert_back(during)
    assert host.run(["nft", "list", "chain", "inet", "bulkhead", "byhand"]).stdout == by_hand
    # Nothing of it is pending: the next run repairs the edit by hand and is confirmed.
    close_connections(host.lab)
    assert hardened(host, OTHER, confirm_timeout=LIMIT).changed(host.name) == 1
    assert "byhand" not in (live_table(host) or "")


@one_suite
def test_second_run_while_one_waits(installed: Host) -> None:
    """It is refused and disturbs nothing; after the time limit it goes through."""
    host = installed
    before = Before(host)
    run = start_hardening(host, OTHER, confirm_timeout=15, probes=SLOW)
    wait_pending(host)
    run.kill()
    assert timer(host) == "active"
    waiting = live_table(host)
    second = harden(host, SSH, confirm_timeout=15)
    assert second.rc != 0
    assert "an earlier apply still waits for its confirmation" in second.messages(host.name)
    assert "15 seconds" in second.messages(host.name)
    assert words(live_table(host)) == words(waiting)
    wait_reverted(host, before.table, 15 + LATE)
    before.assert_back()
    assert hardened(host, OTHER, confirm_timeout=15).changed(host.name) == 1


@one_suite
def test_change_and_power_loss(installed: Host) -> None:
    """After the boot the confirmed policy is there, and nothing of the other one."""
    host = installed
    before = Before(host)
    run = start_hardening(host, LOCKOUT, allow_lockout=True, confirm_timeout=60)
    wait_pending(host)
    run.kill()
    host.reboot(hard=True)
    assert words(live_table(host)) == words(before.table)
    assert etc(host) == before.etc
    assert host.run(["test", "-e", PENDING], check=False).returncode == 1
    assert results(host) == {"open"}


@one_suite
def test_dropped_link(installed: Host) -> None:
    """The neighbour's wire is cut between the change and its confirmation, and mended when it is too late."""
    host = installed
    before = Before(host)
    run = start_hardening(host, OTHER, confirm_timeout=LIMIT, probes=SLOW)
    live = wait_pending(host)
    wire, lan = f"p{host.lab.peer.config['suffix']}br0", host.lab.wiring.namespace
    lan.ip(f"link set {wire} down")
    try:
        back = wait_reverted(host, before.table, LIMIT + LATE)
    finally:
        lan.ip(f"link set {wire} up")
    assert back - live > LIMIT / 2, "something else than the timer has taken it back"
    assert_said(run.wait(), host)
    before.assert_back()


@one_suite
def test_failing_probe(installed: Host) -> None:
    """The old table is back at once, long before the time limit."""
    host = installed
    before = Before(host)
    begin = time.monotonic()
    probes = [{"port": 80}, {"port": 443}]  # OTHER closes 443
    result = harden(host, OTHER, confirm_timeout=120, probes=probes)
    assert time.monotonic() - begin < 60
    assert result.rc != 0
    said = result.messages(host.name)
    assert f"port 443 of {host.address4} is closed where open was expected" in said
    assert "port 80 " not in said
    assert "has put back the table it had before" in said
    before.assert_back()
    assert timer(host) == "inactive"
    # One that succeeds does not stand in the way.
    assert (
        hardened(host, OTHER, confirm_timeout=120, probes=[{"port": 443, "expect": "closed"}]).changed(host.name) == 1
    )
