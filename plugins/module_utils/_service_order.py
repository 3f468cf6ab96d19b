# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services a change needs, and in which order: nftables, then firewalld, then Docker.

Private to the collection: not meant to be used from anywhere else. docs/adr/0006-service-order.md says why.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Iterable

#: From this engine on the daemon itself puts the jump to DOCKER-USER in front at every start.
PLACES_DOCKER_USER = (28, 0, 1)
#: Before this release every reload of firewalld flushes all that iptables made.
_FIREWALLD_KEEPS_IPTABLES = (2, 0)


class Change(enum.Enum):
    """What was changed, or was found changed."""

    OWN_TABLE = "the own table was replaced in a transaction"
    COMPAT_CHAINS = "own chains in iptables' tables were refilled in a transaction"
    CONF_FILE = "the file of nftables.service says something else than what is loaded"
    NFTABLES_DROP_IN = "the drop-in of nftables.service changed"
    DOCKER_RULES_MISSING = "Docker's rules are gone"
    DOCKER_USER_MISPLACED = "chain DOCKER-USER is missing or asked too late"
    DAEMON_RELOAD = "a daemon.json key changed that a reload applies"
    DAEMON_RESTART = "a daemon.json key changed that a restart applies"
    DAEMON_RESTART_EMPTY = "a daemon.json key changed that only a restart without running containers applies"
    FIREWALLD_PERMANENT = "firewalld's permanent configuration changed"
    FIREWALLD_SETTINGS = "firewalld.conf changed"
    FIREWALLD_LATE = "firewalld was started after Docker"
    FIREWALL_BACKEND = "Docker's firewall backend changed"
    IPTABLES_VARIANT = "iptables was switched between legacy and nft"


class Kind(enum.Enum):
    """What can be done, in the order in which it is done.

    A restart of nftables.service is not among it: it flushes on its way, and nothing needs it.
    """

    RELOAD_SYSTEMD = "reload systemd's units"
    RELOAD_NFTABLES = "load nftables.service's file again"
    RELOAD_FIREWALLD = "reload firewalld"
    RESTART_FIREWALLD = "restart firewalld"
    STOP_CONTAINERS = "stop the containers"
    LIVE_RESTORE_ON = "switch live-restore on for the restart"
    RELOAD_DOCKER = "reload Docker"
    RESTART_DOCKER = "restart Docker"
    WAIT_FOR_DOCKER = "wait until Docker's rules are back"
    PLACE_DOCKER_USER = "put the jump to DOCKER-USER in front of Docker's rules"
    LIVE_RESTORE_BACK = "put daemon.json back and live-restore off"
    START_CONTAINERS = "start the containers that the restart stopped"


@dataclass(frozen=True)
class Facts:
    """What the order depends on. A version that is not known is an empty tuple and counts as old."""

    engine: tuple[int, ...] = ()
    backend: str = "iptables"
    docker_running: bool = True
    containers: int = 0
    live_restore: bool = False
    #: Whether live-restore may and can be switched on by daemon.json and a reload.
    live_restore_switchable: bool = False
    swarm: bool = False
    firewalld: bool = False
    firewalld_version: tuple[int, ...] = ()
    #: Whether this dockerd was started after firewalld; only then it hears of firewalld's reloads.
    docker_hears_firewalld: bool = False


@dataclass(frozen=True)
class Step:
    """Something to do, with the changes that need it; `disrupts` where containers stop by it."""

    kind: Kind
    causes: tuple[Change, ...]
    reason: str
    disrupts: bool = False


def in_order(changes: Iterable[Change], facts: Facts) -> list[Step]:
    """What these changes need on such a host, first to last; nothing where the kernel has it all already."""
    given = set(changes)
    plan = _Plan(facts)
    for change in Change:
        if change in given:
            plan.take(change)
    plan.settle()
    return plan.steps()


class _Plan:
    """The steps as they come together."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.found: dict[Kind, list[tuple[Change, str]]] = {}

    def add(self, kind: Kind, change: Change, reason: str) -> None:
        self.found.setdefault(kind, []).append((change, reason))

    def follow(self, kind: Kind, after: Kind, reason: str) -> None:
        """A step that is needed because of another one has the other's causes."""
        for change, _reason in list(self.found[after]):
            self.add(kind, change, reason)

    def take(self, change: Change) -> None:
        facts = self.facts
        if change is Change.CONF_FILE:
            self.add(Kind.RELOAD_NFTABLES, change, "What the file says has to be loaded, without a flush.")
        elif change is Change.NFTABLES_DROP_IN:
            self.add(Kind.RELOAD_SYSTEMD, change, "systemd acts by the old drop-in until it has read the new one.")
        elif change is Change.FIREWALLD_PERMANENT and facts.firewalld:
            self.add(Kind.RELOAD_FIREWALLD, change, "firewalld reads its permanent configuration at a reload.")
        elif change is Change.FIREWALLD_SETTINGS and facts.firewalld:
            self.add(Kind.RESTART_FIREWALLD, change, "Some settings of firewalld.conf are read at its start only.")
        elif facts.docker_running:
            self._take_docker(change)

    def _take_docker(self, change: Change) -> None:
        facts = self.facts
        if change is Change.DOCKER_RULES_MISSING:
            if facts.firewalld and facts.backend == "iptables" and facts.docker_hears_firewalld:
                self.add(Kind.RELOAD_FIREWALLD, change, "Docker puts its rules back when it hears of the reload.")
            else:
                self.add(Kind.RESTART_DOCKER, change, "Docker makes its rules at its start and never looks again.")
        elif change is Change.DOCKER_USER_MISPLACED and facts.backend == "iptables":
            self.add(Kind.PLACE_DOCKER_USER, change, "What Docker accepts before that, DOCKER-USER never sees.")
        elif change is Change.DAEMON_RELOAD:
            self.add(Kind.RELOAD_DOCKER, change, "Docker applies these keys when it is told to reload.")
        elif change is Change.DAEMON_RESTART:
            self.add(Kind.RESTART_DOCKER, change, "Docker reads these keys at its start only.")
        elif change is Change.DAEMON_RESTART_EMPTY:
            self.add(Kind.RESTART_DOCKER, change, "Docker applies these keys at a start that finds no containers.")
        elif change is Change.FIREWALLD_LATE and facts.firewalld:
            self.add(Kind.RESTART_DOCKER, change, "Docker looks for firewalld at its start only.")
        elif change is Change.FIREWALL_BACKEND:
            self.add(Kind.RESTART_DOCKER, change, "Docker chooses its firewall backend at its start only.")
        elif change is Change.IPTABLES_VARIANT:
            self.add(Kind.RESTART_DOCKER, change, "Docker's rules are in the variant that is no longer in use.")

    def settle(self) -> None:
        """What the steps so far entail, and which of them another makes needless."""
        if Kind.RESTART_DOCKER in self.found and self._only_for_docker(Kind.RELOAD_FIREWALLD):
            self._merge(Kind.RELOAD_FIREWALLD, Kind.RESTART_DOCKER)
        if Kind.RESTART_FIREWALLD in self.found and Kind.RELOAD_FIREWALLD in self.found:
            self._merge(Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD)
        for kind in (Kind.RELOAD_FIREWALLD, Kind.RESTART_FIREWALLD):
            if kind in self.found and self.facts.docker_running:
                self._after_firewalld(kind)
        if Kind.RESTART_DOCKER in self.found:
            self._around_restart()
        elif Kind.RELOAD_DOCKER in self.found and Kind.WAIT_FOR_DOCKER not in self.found:
            self.follow(Kind.WAIT_FOR_DOCKER, Kind.RELOAD_DOCKER, "The next step has to find Docker answering.")

    def _merge(self, kind: Kind, into: Kind) -> None:
        reasons = [reason for _change, reason in self.found[into]]
        for change, _reason in self.found.pop(kind):
            self.add(into, change, reasons[0])

    def _only_for_docker(self, kind: Kind) -> bool:
        return {change for change, _reason in self.found.get(kind, ())} == {Change.DOCKER_RULES_MISSING}

    def _after_firewalld(self, kind: Kind) -> None:
        facts = self.facts
        if facts.docker_hears_firewalld:
            self.follow(Kind.WAIT_FOR_DOCKER, kind, "Docker puts back what firewalld took, some moments later.")
        elif facts.backend == "iptables" and facts.firewalld_version < _FIREWALLD_KEEPS_IPTABLES:
            reason = "This firewalld flushes Docker's rules, and Docker, started before it, does not hear of it."
            for change, _reason in self.found[kind]:
                self.add(Kind.RESTART_DOCKER, change, reason)

    def _around_restart(self) -> None:
        facts = self.facts
        if Kind.RELOAD_DOCKER in self.found:
            self._merge(Kind.RELOAD_DOCKER, Kind.RESTART_DOCKER)
        self.follow(Kind.WAIT_FOR_DOCKER, Kind.RESTART_DOCKER, "Until then published ports have no DNAT.")
        if not facts.containers:
            return
        restart = Kind.RESTART_DOCKER
        if self._needs_empty():
            if facts.live_restore:
                self.follow(Kind.STOP_CONTAINERS, restart, "With live-restore they would run on through the restart.")
            self.follow(Kind.START_CONTAINERS, restart, "They ran before.")
        elif not facts.live_restore and not self._switchable():
            self.follow(Kind.START_CONTAINERS, restart, "They ran before, and not all restart by themselves.")
        else:
            if not facts.live_restore:
                self.follow(Kind.LIVE_RESTORE_ON, restart, "Otherwise the restart stops the running containers.")
                self.follow(Kind.LIVE_RESTORE_BACK, restart, "It was off before.")
            if facts.backend == "iptables" and facts.engine < PLACES_DOCKER_USER:
                reason = "At a start that finds containers running this engine does not see to DOCKER-USER."
                self.follow(Kind.PLACE_DOCKER_USER, restart, reason)

    def _needs_empty(self) -> bool:
        return any(change is Change.DAEMON_RESTART_EMPTY for change, _reason in self.found[Kind.RESTART_DOCKER])

    def _switchable(self) -> bool:
        return self.facts.live_restore_switchable and not self.facts.swarm

    def _disrupts(self, kind: Kind) -> bool:
        if kind is Kind.RESTART_DOCKER and self.facts.containers:
            return not self.facts.live_restore and Kind.LIVE_RESTORE_ON not in self.found
        return kind is Kind.STOP_CONTAINERS

    def steps(self) -> list[Step]:
        made = []
        for kind in Kind:
            if kind in self.found:
                causes = tuple(dict.fromkeys(change for change, _reason in self.found[kind]))
                reasons = dict.fromkeys(reason for _change, reason in self.found[kind])
                made.append(Step(kind, causes, " ".join(reasons), self._disrupts(kind)))
        return made
