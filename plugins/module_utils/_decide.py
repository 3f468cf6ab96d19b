# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what a policy says about one connection.

Answers from the policy alone, so that its answer can be held against packets: it shares
no code with the compiler. May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._interfaces import matches

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, Rule, Zone


@dataclass(frozen=True)
class Dial:
    """A new connection from outside, to one of the host's own addresses unless something else is said."""

    source: str
    destination: str
    protocol: str
    port: int
    interface: str | None = None


@dataclass(frozen=True)
class Decision:
    """`verdict` is accept, drop or reject; `reason` names the variable that decides."""

    verdict: str
    reason: str
    limited: bool = False


def _inside(address: int, intervals: t.Iterable[Interval]) -> bool:
    return any(low <= address <= high for low, high in intervals)


def _zone_has(zone: Zone, source: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: str | None) -> bool:
    if zone.interfaces and interface is not None:
        if not any(matches(pattern, interface) for pattern in zone.interfaces):
            return False
    if zone.any_source:
        return True
    return _inside(int(source), zone.sources4 if source.version == 4 else zone.sources6)


def _rule_has(rule: Rule, dial: Dial) -> bool:
    source = _plain(dial.source)
    destination = _plain(dial.destination)
    if rule.family is not None and rule.family != f"ipv{destination.version}":
        return False
    if rule.destinations4 or rule.destinations6:
        wanted = rule.destinations4 if destination.version == 4 else rule.destinations6
        if not _inside(int(destination), wanted):
            return False
    if rule.protocols is not None and dial.protocol not in rule.protocols:
        return False
    if rule.ports is not None and not _inside(dial.port, rule.ports):
        return False
    return any(_zone_has(zone, source, dial.interface) for zone in rule.zones)


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; an IPv6 scope is cut off and an IPv4-mapped address becomes IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def decide(policy: Policy, dial: Dial, published: bool | None = None) -> Decision:
    """Say what happens to a connection from outside to one of the host's addresses.

    `published` tells whether Docker publishes the port; None where that is not known:
    then the answer is that of the first layer, which both have to pass.
    """
    if policy.outside_interfaces and dial.interface is not None:
        if not any(matches(pattern, dial.interface) for pattern in policy.outside_interfaces):
            return Decision("accept", f"interface {dial.interface} is not in docker_firewall_outside_interfaces")
    targets = ("host", "published")
    first = _first(policy, dial, targets)
    if first is None:
        closed = policy.host_default == "drop" or published is True
        if closed:
            return Decision("drop", "docker_firewall_host_default" if not published else "no rule to: published")
        return Decision("accept", "docker_firewall_host_default")
    if first.action == "accept" and published and first.target != "published":
        second = _first(policy, dial, ("published",))
        if second is None:
            return Decision("drop", f"no rule to: published ({first.path} is to: host)")
        first = second
    return Decision(first.action, first.path, first.limit is not None)


def decide_routed(policy: Policy, dial: Dial, leaving: str) -> Decision:
    """Say what happens to a connection that the host forwards from outside to outside, by the interface `leaving`."""
    if policy.outside_interfaces and dial.interface is not None:
        if not any(matches(pattern, dial.interface) for pattern in policy.outside_interfaces):
            return Decision("accept", f"interface {dial.interface} is not in docker_firewall_outside_interfaces")
    for rule in policy.rules:
        if rule.target != "routed" or not _rule_has(rule, dial):
            continue
        if not rule.towards or any(_zone_has(zone, _plain(dial.destination), leaving) for zone in rule.towards):
            return Decision(rule.action, rule.path, rule.limit is not None)
    return Decision(policy.routed_default, "docker_firewall_routed_default")


def _first(policy: Policy, dial: Dial, targets: tuple[str, ...]) -> Rule | None:
    for rule in policy.rules:
        if rule.target in targets and rule.zones and _rule_has(rule, dial):
            return rule
    return None
