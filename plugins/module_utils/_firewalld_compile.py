# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy for a host with firewalld: what firewalld holds of it, and what is left for the own table.

Private to the collection: not meant to be used from anywhere else. May change at any time.

firewalld lets everything pass that has been through DNAT, so published ports are the own table's. Which rule is held
by which of the two, and why, is in docs/adr/0009-firewalld-role.md.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _interfaces
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    DOCKER_ZONE,
    DOCKERS,
    POLICY,
    PREFIX,
    ZONE,
    is_docker_bridge,
    is_ours,
    version_number,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_rules import (
    Line,
    Lists,
    always_open,
    for_addresses,
    inexpressible,
    log_drops,
    overlap,
    write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import CONTAINERS, OUTSIDE, Policy, Rule

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState

TABLE = "own table"
FIREWALLD = "firewalld"
BOTH = f"{TABLE} and {FIREWALLD}"
TO_HOST = f"{PREFIX}to-host"
EGRESS = f"{PREFIX}egress"
NETWORKS = f"{PREFIX}networks"
#: Behind `bulkhead-r-` are seven characters left in the name of a policy, before firewalld 2.5.
_LABEL = 7
_STRICT = ("StrictForwardPorts", "2.3")
#: A forward-port needs an address, which Docker's DNAT is faster than; this one nobody has (RFC 7600).
_NOWHERE = "192.0.0.8"
#: The distribution's own policy for neighbour discovery.
_HARMLESS = ("allow-host-ipv6", DOCKERS[POLICY])
_TARGETS = {"accept": "ACCEPT", "drop": "DROP", "reject": "REJECT"}


@dataclass(frozen=True)
class Other:
    """A zone or a policy of somebody else's, both of its configurations in one."""

    kind: str
    name: str
    interfaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ingress_zones: tuple[str, ...] = ()
    egress_zones: tuple[str, ...] = ()
    opens: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What of firewalld and of the host has a say in what is made for them.

    `interfaces` are those that packets can come in by: no loopback, no port of a bridge.
    """

    version: str
    interfaces: tuple[str, ...]
    others: tuple[Other, ...] = ()
    icmp_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wants:
    """What the role's own variables say."""

    strict_forward_ports: bool = False
    take_interfaces: bool = False


@dataclass
class Halves:
    """Both halves of a policy: arguments for the module firewalld_policy, and a policy for the own table."""

    table: Policy
    zones: list[dict[str, t.Any]] = field(default_factory=list)
    policies: list[dict[str, t.Any]] = field(default_factory=list)
    settings: dict[str, t.Any] = field(default_factory=dict)
    #: Who holds what, in the order of the policy and then the defaults.
    held: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Class:
    """Outside interfaces that the same zones of the policy name."""

    label: str
    zones: frozenset[str]
    interfaces: tuple[str, ...]

    @property
    def name(self) -> str:
        return PREFIX + self.label

    def lines(self, rules: t.Iterable[Rule], plain: t.Container[int]) -> list[Line]:
        """The rules that can match what comes in by these interfaces."""
        found = []
        for rule in rules:
            zones = tuple(zone for zone in rule.zones if not zone.interfaces or zone.name in self.zones)
            if zones:
                found.append(Line(rule, zones, rule.index in plain))
        return found


def halve(policy: Policy, state: HostState, around: Surroundings, wants: Wants = Wants()) -> Halves:
    """Say what firewalld is to have, and what is left for the own table."""
    return _Compiler(policy, state, around, wants).run()


class _Compiler:
    def __init__(self, policy: Policy, state: HostState, around: Surroundings, wants: Wants) -> None:
        self.policy = policy
        self.state = state
        self.around = around
        self.wants = wants
        self.done = Halves(policy)
        self.groups: dict[str, list[Rule]] = {"outside": [], "to_host": [], "egress": [], "routed": [], "network": []}
        for rule in policy.rules:
            self.groups[_group(rule)].append(rule)
        #: Groups that the own table holds as a whole, with what it is that firewalld cannot do.
        self.whole = {
            group: reason for group in ("to_host", "egress", "routed") if (reason := self._beyond(group)) is not None
        }
        self.kept = self._kept()

    def run(self) -> Halves:
        classes = self._classes()
        self._zones(classes)
        if not self.done.errors:
            self._to_host()
            self._egress(classes)
            self._routed(classes)
            self._networks(classes)
        self._strict()
        self._bypasses()
        self.done.table = self._own_table()
        self.done.held = self._held()
        return self.done

    # -- who holds what ------------------------------------------------------------------------------------------------

    def _beyond(self, group: str) -> str | None:
        """What in a group firewalld has no words for. Rules before and behind it cannot be torn apart."""
        for rule in self.groups[group]:
            if rule.limit is not None:
                return f"{rule.path}.limit: firewalld passes what is beyond a limit on to the next rule"
            if any(name != CONTAINERS for name in rule.networks):
                return f"{rule.path}.from: firewalld cannot tell Docker's networks apart"
            if rule.towards:
                return f"{rule.path}.towards: firewalld cannot tell where a packet leaves within a policy"
            reason = inexpressible(rule)
            if reason is not None:
                return f"{rule.path}: {reason}"
        return None

    def _kept(self) -> frozenset[int]:
        """The `published` rules, and the `host` rules that the own table needs for them to mean the same.

        On a port that both name the first of them decides. What a `host` rule refuses has to be refused as it says on
        ports that containers have, and a limit is counted once.
        """
        now = tuple(_port(protocol, port) for protocol, port in self.state.published)
        kept = [rule for rule in self.groups["outside"] if rule.target == "published" or rule.limit is not None]
        left = [rule for rule in self.groups["outside"] if rule.target == "host" and rule.limit is None]
        for rule in list(left):
            if rule.action != "accept" and any(overlap(rule, port) for port in now):
                kept.append(rule)
                left.remove(rule)
        growing = True
        while growing:
            growing = False
            for rule in list(left):
                if any(_verdict(rule) != _verdict(other) and overlap(rule, other) for other in kept):
                    kept.append(rule)
                    left.remove(rule)
                    growing = True
        return frozenset(rule.index for rule in kept)

    def _own_table(self) -> Policy:
        policy = self.policy
        rules = tuple(
            rule
            for rule in policy.rules
            if rule.index in self.kept or _group(rule) == "network" or _group(rule) in self.whole
        )
        return replace(
            policy,
            rules=rules,
            host_default="accept",
            containers_to_host_default=policy.containers_to_host_default if "to_host" in self.whole else "accept",
            egress_default=policy.egress_default if "egress" in self.whole else "accept",
            routed_default=policy.routed_default if "routed" in self.whole else "accept",
        )

    def _held(self) -> list[dict[str, str]]:
        found = []
        for rule in self.policy.rules:
            group, why = _group(rule), ""
            if group == "outside":
                by = BOTH if rule.index in self.kept else FIREWALLD
                if rule.target == "published":
                    why = "firewalld lets every port pass that Docker forwards, and decides where docker-proxy answers"
                elif rule.index in self.kept:
                    why = "it has a limit, or the order beside published rules matters"
            elif group == "network":
                by, why = TABLE, "firewalld cannot tell Docker's networks apart"
            else:
                by, why = (TABLE, self.whole[group]) if group in self.whole else (FIREWALLD, "")
            found.append({"what": rule.path, "to": _target(rule), "action": rule.action, "by": by, "why": why})
        policy = self.policy
        for name, group, action in (
            ("host_default", "", policy.host_default),
            ("containers_to_host_default", "to_host", policy.containers_to_host_default),
            ("egress_default", "egress", policy.egress_default),
            ("routed_default", "routed", policy.routed_default),
        ):
            by = TABLE if group in self.whole else FIREWALLD
            found.append({"what": f"docker_firewall_{name}", "to": "", "action": action, "by": by, "why": ""})
        found.append({"what": "published ports that no rule names", "to": "", "action": "drop", "by": TABLE, "why": ""})
        return found

    # -- zones ---------------------------------------------------------------------------------------------------------

    def _classes(self) -> list[_Class]:
        named = {zone.name: zone for rule in self.policy.rules for zone in rule.zones if zone.interfaces}
        grouped: dict[frozenset[str], list[str]] = {}
        for name in self._outside():
            key = frozenset(
                zone.name for zone in named.values() if any(_interfaces.matches(each, name) for each in zone.interfaces)
            )
            grouped.setdefault(key, []).append(name)
        found: list[_Class] = []
        taken: set[str] = set() if frozenset() in grouped else {OUTSIDE}
        for key in sorted(grouped, key=sorted):
            label = _label(sorted(key), taken)
            taken.add(label)
            found.append(_Class(label, key, tuple(grouped[key])))
        return found

    def _outside(self) -> list[str]:
        """Interfaces that lead out of the host, and patterns of those that may come later."""
        policy, state = self.policy, self.state
        own = [name for name in state.networks.values() if name not in state.shared_bridges]
        bridges, foreign = _interfaces.bridge_sets(policy.bridges, own, self.around.interfaces)
        found = [
            name
            for name in self.around.interfaces
            if name in foreign or not any(_interfaces.matches(pattern, name) for pattern in bridges)
        ]
        if policy.outside_interfaces:
            found = [n for n in found if any(_interfaces.matches(each, n) for each in policy.outside_interfaces)]
        return found + self._patterns()

    def _patterns(self) -> list[str]:
        named = [each for rule in self.policy.rules for zone in rule.zones for each in zone.interfaces]
        patterns = sorted({each for each in (*named, *self.policy.outside_interfaces) if each.endswith("*")})
        found = []
        for pattern in patterns:
            text = pattern[:-1] + "+"
            if any(other != pattern and _interfaces.matches(other, pattern[:-1]) for other in patterns):
                self.done.warnings.append(
                    f"'{pattern}': another pattern begins alike, and firewalld has no order among them; interfaces that come "
                    "later get into a zone at the next run"
                )
            elif len(text) > 1 and not is_docker_bridge(text):
                found.append(text)
        return found

    def _zones(self, classes: list[_Class]) -> None:
        drops = self.policy.host_default == "drop"
        for rule in self.groups["outside"]:
            reason = inexpressible(rule)
            if reason is not None:
                self.done.errors.append(f"{rule.path}: {reason}; leave ports out there, or name other protocols only")
        open_to_all = self._always_open() + for_addresses(self.state.published)
        for each in classes:
            lists = write(each.lines(self.groups["outside"], self.kept))
            rich = open_to_all + lists.rich_rules
            if drops and self.policy.log_drops:
                rich.append(log_drops("outside"))
            self.done.zones.append(
                {
                    "name": each.name,
                    "target": "DROP" if drops else "ACCEPT",
                    "forward": False,
                    "masquerade": False,
                    "interfaces": list(each.interfaces),
                    **lists._replace(rich_rules=rich)._asdict(),
                }
            )
        self._take([name for each in classes for name in each.interfaces])

    def _always_open(self) -> list[str]:
        return always_open(self.policy.ping, "mld-listener-query" in self.around.icmp_types)

    def _take(self, interfaces: list[str]) -> None:
        """Whoever bound an outside interface to a zone of his own meant something by it."""
        for other in self.around.others:
            theirs = [name for name in interfaces if name in other.interfaces]
            if other.kind != ZONE or not theirs:
                continue
            if self.wants.take_interfaces:
                self.done.zones.append({"name": other.name, "absent": {"interfaces": theirs}})
            else:
                self.done.errors.append(
                    f"the zone {other.name} has the outside interface{'s' if len(theirs) > 1 else ''} {', '.join(theirs)}: "
                    "set firewalld_take_interfaces to true to have them moved to this policy's zones, or take them out there"
                )

    # -- policies ------------------------------------------------------------------------------------------------------

    def _to_host(self) -> None:
        if "to_host" in self.whole:
            return
        lists = write([Line(rule) for rule in self.groups["to_host"]])
        default = self.policy.containers_to_host_default
        if not any(lists) and default == "accept":
            return
        rich = always_open(True, "mld-listener-query" in self.around.icmp_types) + lists.rich_rules
        self._policy(TO_HOST, [DOCKER_ZONE], ["HOST"], default, lists._replace(rich_rules=rich), "container to host")

    def _egress(self, classes: list[_Class]) -> None:
        lists = write([Line(rule) for rule in self.groups["egress"]])
        default = self.policy.egress_default
        if "egress" not in self.whole and (any(lists) or default != "accept"):
            self._policy(EGRESS, [DOCKER_ZONE], [each.name for each in classes], default, lists, "egress")

    def _routed(self, classes: list[_Class]) -> None:
        """A policy for each class: within one firewalld cannot tell interfaces apart."""
        whole = "routed" in self.whole
        for each in classes:
            lists = Lists([], [], []) if whole else write(each.lines(self.groups["routed"], frozenset()))
            default = "accept" if whole else self.policy.routed_default
            name = f"{PREFIX}r-{each.label}"
            self._policy(name, [each.name], [other.name for other in classes], default, lists, "routed", True)

    def _networks(self, classes: list[_Class]) -> None:
        """What the own table lets through to containers' own addresses has to pass firewalld, too."""
        if any(rule.action == "accept" for rule in self.groups["network"]):
            zones = [each.name for each in classes]
            self._policy(NETWORKS, zones, [DOCKER_ZONE], "accept", Lists([], [], []), "network", True)

    def _policy(
        self, name: str, ingress: list[str], egress: list[str], default: str, lists: Lists, words: str, says_yes: bool = False
    ) -> None:
        if not ingress or not egress:
            return
        rich = list(lists.rich_rules)
        if default != "accept" and self.policy.log_drops:
            rich.append(log_drops(words))
        # Docker's zone accepts; for what a policy of ours leaves open, others may have policies behind it.
        target = "CONTINUE" if default == "accept" and not says_yes else _TARGETS[default]
        self.done.policies.append(
            {
                "name": name,
                "ingress_zones": ingress,
                "egress_zones": egress,
                "target": target,
                "priority": -1,
                **lists._replace(rich_rules=rich)._asdict(),
            }
        )

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _strict(self) -> None:
        if not self.wants.strict_forward_ports:
            return
        key, since = _STRICT
        if version_number(self.around.version) < version_number(since):
            self.done.warnings.append(
                f"firewalld_strict_forward_ports: firewalld {self.around.version} has no {key}, which came with {since}; the own "
                "table alone holds published ports"
            )
            return
        self.done.settings[key] = "yes"
        accepted = [rule for rule in self.groups["outside"] if rule.target == "published" and rule.action == "accept"]
        ports = [
            f"port={port}:proto={protocol}:toaddr={_NOWHERE}"
            for protocol, port in self.state.published
            if any(overlap(rule, _port(protocol, port)) for rule in accepted)
        ]
        for zone in self.done.zones:
            if ports and is_ours(zone["name"]):
                zone["forward_ports"] = ports

    def _bypasses(self) -> None:
        for other in self.around.others:
            if other.kind == ZONE and other.sources and other.name != DOCKER_ZONE:
                self.done.warnings.append(
                    f"the zone {other.name} has sources ({', '.join(other.sources)}): firewalld looks at it before the zones of "
                    "interfaces, so what comes from there is decided by it and not by this policy"
                )
            if other.kind == POLICY and other.opens and other.name not in _HARMLESS:
                if "ANY" in other.ingress_zones or any(is_ours(name) for name in other.ingress_zones):
                    self.done.warnings.append(
                        f"the policy {other.name} lets in by itself what comes from {', '.join(other.ingress_zones)}"
                    )


def _port(protocol: str, port: int) -> Rule:
    """One port, to hold rules against."""
    return Rule(-1, "published", "accept", protocols=(protocol,), ports=((port, port),))


def _group(rule: Rule) -> str:
    if rule.target == "host":
        return "to_host" if rule.networks else "outside"
    if rule.target == "published":
        return "outside"
    return rule.target if rule.target in ("egress", "routed") else "network"


def _target(rule: Rule) -> str:
    return rule.target if rule.target_network is None else f"network:{rule.target_network}"


def _verdict(rule: Rule) -> tuple[t.Any, ...]:
    return rule.action, rule.log, rule.limit


def _label(names: list[str], taken: t.Container[str]) -> str:
    """A short name for a class of interfaces that no other has."""
    start = re.sub(r"[^A-Za-z0-9_-]", "", "-".join(names))[:_LABEL].rstrip("-") if names else OUTSIDE
    label, number = start, 1
    while label in taken:
        number += 1
        label = f"{start[: _LABEL - len(str(number))]}{number}"
    return label
