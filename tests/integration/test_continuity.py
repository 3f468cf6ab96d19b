# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A neighbour who tries all the time never gets through, and nobody who may stay is cut off.

One host for each Debian release goes through everything that happens to a host: changes of its policy, restarts of
Docker and of nftables.service, reboots, power loss. Each test leaves the host with its table and its containers up;
Docker's own rules may be gone after a flush, when docker-proxy serves what it publishes.
"""

from __future__ import annotations

import time
import typing as t

import pytest
from integration.fleet import SUITES
from integration.scene import (
    RULES,
    Rules,
    closed_targets,
    hardened,
    is_root,
    live_table,
    never_through,
    open_targets,
    talking,
    variables,
    wait_open,
    watched,
    words,
)

from lab.ansible import run_playbook
from lab.containers import STANDARD, Target, running
from lab.host import Host
from lab.process import wait_for

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

UNIT = "bulkhead.service"
DISTRIBUTION_FILE = "/etc/nftables.conf"


@pytest.fixture(scope="module")
def closed(module_host: Host) -> list[Target]:
    """What no rule opens, taken down before the policy is applied: then it was open, so that being closed says something."""
    targets = closed_targets(module_host)
    open_before = {
        (entry["address"], entry["port"])
        for entry in module_host.lab.peer.probe(targets, timeout=2.0)
        if entry["result"] == "open"
    }
    own = {(entry["address"], entry["port"]) for entry in targets if "direct" not in entry}
    missing = {key for key in own if key[0] in (module_host.address4, module_host.address6)} - open_before
    assert not missing, f"these are not even open without the policy: {missing}"
    hardened(module_host)
    return targets


@pytest.fixture
def host(module_host: Host, closed: list[Target]) -> t.Iterator[Host]:
    """The hardened host, whole before and after each test."""
    yield module_host
    assert live_table(module_host), "the table is gone"
    whole(module_host)


def whole(host: Host) -> None:
    """Docker runs, all containers run, and what the policy opens answers."""
    host.wait_docker()
    names = {container.name for container in STANDARD.containers}
    wait_for("all containers run", lambda: names <= running(host), 40, interval=0.2)
    wait_open(host, open_targets(host))


def systemctl(host: Host, *arguments: str) -> None:
    # As shipped, systemd starts these services only so many times in a row; it is made to forget the count.
    host.run(["systemctl", "reset-failed", "nftables.service", "docker.service"], check=False)
    host.run(["systemctl", *arguments])


def load_distribution_file(host: Host) -> None:
    host.run(["nft", "-f", DISTRIBUTION_FILE])


# -- changes -----------------------------------------------------------------------------------------------------------


def test_changes_of_the_policy_open_nothing_and_cut_nobody(host: Host, closed: list[Target]) -> None:
    """Changes in a row, each with other rules, sets and chains than the one before, while neighbours talk and try."""
    others: list[Rules] = [
        [{"to": "published", "ports": [8085]}],
        [{"to": "published", "ports": ["7000-7003"], "limit": "100/second"}],
        [{"from": "lan", "to": "published", "ports": [8085], "action": "reject"}],
        [{"to": "egress", "ports": [25], "action": "drop"}],
        [{"to": "network:front", "ports": [81]}],
        [{"from": "lan", "to": "host", "ports": [9100], "family": "ipv6"}],
        [{"to": "published", "protocol": "udp", "ports": [53]}, {"to": "routed", "ports": [9999]}],
        [],
    ]
    if host.suite != SUITES[0]:
        others = others[:2] + others[-1:]
    zones = {"lan": {"sources": ["198.51.100.0/24", "2001:db8::/64"]}}
    role = {"name": "bulkhead.docker_nftables.docker_firewall"}
    tasks = [
        {"ansible.builtin.include_role": role, "vars": variables([*RULES, *rules], zones=zones)} for rules in others
    ]
    play = [{"hosts": host.name, "gather_facts": False, "become": True, "tasks": tasks}]
    with never_through(host, closed, f"{len(others)} changes of the policy"), talking(host):
        result = run_playbook(host.lab, play)
    assert result.rc == 0, result.messages()
    # The first differs from what is there as well, the last brings that back.
    assert result.changed(host.name) == len(others)


# -- services ----------------------------------------------------------------------------------------------------------


def test_docker_restart(host: Host, closed: list[Target]) -> None:
    with never_through(host, closed, "systemctl restart docker"):
        systemctl(host, "restart", "docker")
        whole(host)
        time.sleep(1)


def test_nftables_service(host: Host, closed: list[Target]) -> None:
    """The shipped file begins with a flush, the shipped unit ends with one."""
    assert any(line.strip() == "flush ruleset" for line in host.read(DISTRIBUTION_FILE).splitlines())
    before = live_table(host)
    with never_through(host, closed, "everything that nftables.service and its file do"):
        for enablement in ("enable", "disable"):
            systemctl(host, enablement, "nftables")
            for verb in ("start", "restart", "reload", "stop"):
                systemctl(host, verb, "nftables")
                assert words(live_table(host)) == words(before), f"{enablement}d nftables.service: {verb}"
                time.sleep(0.1)
            load_distribution_file(host)
            assert words(live_table(host)) == words(before), "nft -f of the distribution's file"
        time.sleep(0.5)


def test_nftables_service_with_somebody_elses_file(host: Host) -> None:
    """Whoever replaces /etc/nftables.conf takes the include away; the unit's drop-in still brings the table back."""
    own = host.read(DISTRIBUTION_FILE)
    host.write(DISTRIBUTION_FILE, "#!/usr/sbin/nft -f\nflush ruleset\ntable inet somebody { }\n", 0o755)
    try:
        for verb in ("start", "restart", "reload", "stop"):
            systemctl(host, verb, "nftables")
            assert live_table(host), f"systemctl {verb} nftables took the table away"
    finally:
        host.write(DISTRIBUTION_FILE, own, 0o755)


# -- power -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hard", "nftables"), [(False, "disable"), (True, "enable")], ids=["reboot", "power-loss-nftables-enabled"]
)
def test_boot(host: Host, closed: list[Target], hard: bool, nftables: str) -> None:
    """From the moment the link is up until everything runs."""
    systemctl(host, nftables, "nftables")
    with never_through(host, closed, "power loss and boot" if hard else "a reboot") as seen:
        host.reboot(hard=hard)
        whole(host)
        time.sleep(1)
    # Before any table can be there, the kernel itself answers for ports on which nobody listens yet: the neighbour
    # was there from the first moment.
    assert seen.counted("refused") > 0, f"the watch missed the beginning: {seen.report['targets']}"
    assert host.failed_units() == []
    systemctl(host, "disable", "nftables")


# -- a flush by root ---------------------------------------------------------------------------------------------------


def test_flush_then_start(host: Host, closed: list[Target]) -> None:
    """docs/limits.md says that a flush by root opens ports until the unit is started; it has to stay true."""
    host.run(["nft", "flush", "ruleset"])
    opened = [entry for entry in host.lab.peer.probe(closed, timeout=1.5) if entry["result"] == "open"]
    print(f"{host.suite}, between flush and start: {len(opened)} of {len(closed)} closed targets are open:")
    for entry in opened:
        print(f"  {entry['proto']} {entry['address']} port {entry['port']}")
    assert opened, "a flush by root opens nothing: docs/limits.md says otherwise"
    systemctl(host, "start", UNIT)
    with never_through(host, closed, "the time after flush and start"):
        for _again in range(8):  # more often than systemd lets other units start
            systemctl(host, "start", UNIT)
        time.sleep(2)


def test_flush_then_docker_restart(host: Host, closed: list[Target]) -> None:
    """A restart of Docker starts the unit first."""
    host.run(["nft", "flush", "ruleset"])
    with watched(host, closed) as seen:
        time.sleep(0.5)
        systemctl(host, "restart", "docker")
        whole(host)
        time.sleep(1)
    shown = host.run(["systemctl", "show", "-P", "ExecMainExitTimestampMonotonic", UNIT]).stdout
    loaded = time.time() - time.monotonic() + int(shown) / 1e6
    before = len(seen.successes()) - len(seen.successes(since=loaded))
    print(f"{host.suite}, flush and restart of Docker: {before} got through before the unit ran, {seen.attempts()}")
    assert before > 0, "nothing got through even without a table: the watch proves nothing"
    assert not seen.successes(since=loaded)
