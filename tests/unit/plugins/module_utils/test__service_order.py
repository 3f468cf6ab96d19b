# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every set of changes on hosts of every sort: the order always holds, and nothing is done without a cause."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._service_order import (
    Change,
    Facts,
    Kind,
    Step,
    in_order,
)

PLAIN = Facts(engine=(26, 1, 5), containers=11, live_restore_switchable=True)
FIREWALLD_1 = Facts(engine=(20, 10, 24), containers=3, live_restore=True, firewalld=True, firewalld_version=(1, 3, 0))
FIREWALLD_2 = Facts(
    engine=(28, 5, 2),
    containers=3,
    live_restore_switchable=True,
    firewalld=True,
    firewalld_version=(2, 3, 0),
    docker_hears_firewalld=True,
)
HOSTS = {
    "switchable": PLAIN,
    "live-restore": Facts(engine=(28, 5, 2), containers=11, live_restore=True),
    "neither": Facts(engine=(20, 10, 24), containers=11),
    "swarm": Facts(engine=(26, 1, 5), containers=11, live_restore_switchable=True, swarm=True),
    "no containers": Facts(engine=(27, 0, 0), live_restore_switchable=True),
    "nftables backend": Facts(engine=(29, 7, 2), backend="nftables", containers=2, live_restore_switchable=True),
    "no Docker": Facts(docker_running=False, firewalld=True, firewalld_version=(1, 3, 0)),
    "firewalld 1.x, started late": FIREWALLD_1,
    "firewalld 2.x": FIREWALLD_2,
}
#: What has to come before what, wherever both are there.
BEFORE = [
    (Kind.RELOAD_SYSTEMD, Kind.RELOAD_NFTABLES),
    *itertools.product((Kind.RELOAD_NFTABLES,), (Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD)),
    *itertools.product(
        (Kind.RELOAD_NFTABLES, Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD),
        (Kind.RELOAD_DOCKER, Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER),
    ),
    (Kind.STOP_CONTAINERS, Kind.RESTART_DOCKER),
    (Kind.LIVE_RESTORE_ON, Kind.RESTART_DOCKER),
    (Kind.RELOAD_DOCKER, Kind.WAIT_FOR_DOCKER),
    (Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER),
    (Kind.WAIT_FOR_DOCKER, Kind.PLACE_DOCKER_USER),
    (Kind.WAIT_FOR_DOCKER, Kind.LIVE_RESTORE_BACK),
    (Kind.WAIT_FOR_DOCKER, Kind.START_CONTAINERS),
]
RULES_ONLY = {Change.OWN_TABLE, Change.COMPAT_CHAINS}
SERVICES = (Kind.RELOAD_NFTABLES, Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD, Kind.RELOAD_DOCKER)


def kinds(steps: list[Step]) -> list[Kind]:
    return [step.kind for step in steps]


def check(changes: frozenset[Change], facts: Facts, steps: list[Step]) -> None:
    """What holds for every set of changes on every host."""
    order = kinds(steps)
    place = {kind: order.index(kind) for kind in order}
    assert len(place) == len(order), "nothing is done twice, a restart of Docker least of all"
    for first, then in BEFORE:
        assert first not in place or then not in place or place[first] < place[then]
    for step in steps:
        assert step.causes and set(step.causes) <= changes and step.reason.endswith(".")
    assert not {Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD} <= set(order)
    assert not {Kind.RELOAD_DOCKER, Kind.RESTART_DOCKER} <= set(order)
    assert (Kind.LIVE_RESTORE_ON in place) == (Kind.LIVE_RESTORE_BACK in place)
    if Kind.RESTART_DOCKER in place:
        assert all(place[kind] < place[Kind.RESTART_DOCKER] for kind in SERVICES if kind in place)
        assert order[place[Kind.RESTART_DOCKER] + 1] is Kind.WAIT_FOR_DOCKER
    if Kind.RELOAD_DOCKER in place:
        assert Kind.WAIT_FOR_DOCKER in place
    if Kind.LIVE_RESTORE_ON in place:
        assert not facts.swarm and not facts.live_restore and Change.DAEMON_RESTART_EMPTY not in changes
    disrupting = [step for step in steps if step.disrupts]
    assert len(disrupting) <= 1 and bool(disrupting) == (Kind.START_CONTAINERS in place)
    if not facts.docker_running:
        assert not [kind for kind in order if "DOCKER" in kind.name or "CONTAINERS" in kind.name]
    if not facts.containers:
        assert not disrupting and Kind.LIVE_RESTORE_ON not in place


@pytest.mark.parametrize("host", HOSTS)
def test_every_set_of_changes(host: str) -> None:
    facts = HOSTS[host]
    others = [change for change in Change if change not in RULES_ONLY]
    for size in range(len(others) + 1):
        for chosen in itertools.combinations(others, size):
            changes = frozenset(chosen)
            steps = in_order(changes, facts)
            check(changes, facts, steps)
            assert in_order((*RULES_ONLY, *reversed(chosen)), facts) == steps


@pytest.mark.parametrize("host", HOSTS)
def test_rules_alone_need_nothing(host: str) -> None:
    assert in_order(RULES_ONLY, HOSTS[host]) == []


def test_nothing_restarts_nftables() -> None:
    assert not [kind for kind in Kind if "RESTART_NFTABLES" in kind.name]


@pytest.mark.parametrize(
    ("changes", "facts", "expected"),
    [
        ({Change.CONF_FILE, Change.NFTABLES_DROP_IN}, PLAIN, [Kind.RELOAD_SYSTEMD, Kind.RELOAD_NFTABLES]),
        (
            {Change.DOCKER_RULES_MISSING},
            PLAIN,
            [
                Kind.LIVE_RESTORE_ON,
                Kind.RESTART_DOCKER,
                Kind.WAIT_FOR_DOCKER,
                Kind.PLACE_DOCKER_USER,
                Kind.LIVE_RESTORE_BACK,
            ],
        ),
        ({Change.DOCKER_RULES_MISSING}, HOSTS["live-restore"], [Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER]),
        (
            {Change.DOCKER_RULES_MISSING},
            HOSTS["swarm"],
            [Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.START_CONTAINERS],
        ),
        (
            {Change.DOCKER_RULES_MISSING},
            HOSTS["nftables backend"],
            [Kind.LIVE_RESTORE_ON, Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.LIVE_RESTORE_BACK],
        ),
        ({Change.DOCKER_RULES_MISSING}, FIREWALLD_2, [Kind.RELOAD_FIREWALLD, Kind.WAIT_FOR_DOCKER]),
        (
            {Change.DOCKER_RULES_MISSING, Change.DAEMON_RESTART},
            FIREWALLD_2,
            [Kind.LIVE_RESTORE_ON, Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.LIVE_RESTORE_BACK],
        ),
        ({Change.DOCKER_USER_MISPLACED}, PLAIN, [Kind.PLACE_DOCKER_USER]),
        ({Change.DOCKER_USER_MISPLACED}, HOSTS["nftables backend"], []),
        ({Change.DAEMON_RELOAD}, PLAIN, [Kind.RELOAD_DOCKER, Kind.WAIT_FOR_DOCKER]),
        (
            {Change.DAEMON_RESTART_EMPTY},
            HOSTS["live-restore"],
            [Kind.STOP_CONTAINERS, Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.START_CONTAINERS],
        ),
        (
            {Change.FIREWALLD_PERMANENT},
            FIREWALLD_1,
            [Kind.RELOAD_FIREWALLD, Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.PLACE_DOCKER_USER],
        ),
        ({Change.FIREWALLD_PERMANENT}, PLAIN, []),
        (
            {Change.FIREWALLD_PERMANENT, Change.FIREWALLD_SETTINGS},
            FIREWALLD_2,
            [Kind.RESTART_FIREWALLD, Kind.WAIT_FOR_DOCKER],
        ),
        ({Change.FIREWALLD_LATE}, PLAIN, []),
        (
            {Change.FIREWALLD_LATE},
            FIREWALLD_1,
            [Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER, Kind.PLACE_DOCKER_USER],
        ),
        ({Change.FIREWALL_BACKEND}, HOSTS["live-restore"], [Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER]),
        (
            {Change.IPTABLES_VARIANT, Change.DAEMON_RELOAD},
            HOSTS["live-restore"],
            [Kind.RESTART_DOCKER, Kind.WAIT_FOR_DOCKER],
        ),
    ],
)
def test_what_a_change_needs(changes: set[Change], facts: Facts, expected: list[Kind]) -> None:
    assert kinds(in_order(changes, facts)) == expected


def test_a_step_names_every_change_that_needs_it() -> None:
    steps = in_order({Change.DAEMON_RESTART, Change.FIREWALL_BACKEND}, HOSTS["live-restore"])
    assert steps[0].causes == (Change.DAEMON_RESTART, Change.FIREWALL_BACKEND)
    assert steps[0].reason == (
        "Docker reads these keys at its start only. Docker chooses its firewall backend at its start only."
    )


def test_the_documentation_names_all_of_it() -> None:
    text = " ".join((Path(__file__).parents[4] / "docs/service_order.md").read_text(encoding="utf-8").split())
    assert [each.value for each in (*Change, *Kind) if each.value not in text] == []
