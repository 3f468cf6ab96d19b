# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what to try on a host, and what its policy says must come back.

Asks _decide, never the compiler, so that packets are held against a second opinion. May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Decision, Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._interfaces import matches

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy

#: Ports that hosts seldom use; closed unless the policy says otherwise.
SENTINELS = (("tcp", 7), ("tcp", 2375), ("tcp", 5432), ("tcp", 65432), ("udp", 7), ("udp", 65432))
#: Of a policy with very many ports so many are tried, beside those that Docker publishes.
MOST_RULE_PORTS = 400

Port = t.Tuple[str, int]


@dataclass(frozen=True)
class View:
    """What docker_firewall_info says of the host, as far as it matters here.

    `interfaces` maps outside interfaces to their addresses, `published` maps (protocol, port) to host addresses.
    """

    interfaces: t.Mapping[str, tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]]
    own: frozenset[str]
    published: t.Mapping[Port, frozenset[str]]
    other_ports: tuple[Port, ...] = ()
    ssh_address: str | None = None


@dataclass(frozen=True)
class Expectation:
    """`verdict` is accept, drop, reject or unknown; `reason` names the variable that decides, or why it is unknown."""

    verdict: str
    reason: str
    limited: bool = False


def view(facts: t.Mapping[str, t.Any]) -> View:
    """Read the result of docker_firewall_info."""
    own: set[str] = set()
    interfaces: dict[str, tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]] = {}
    for item in facts.get("interfaces") or []:
        addresses = tuple(ipaddress.ip_interface(text) for text in item.get("addresses") or [])
        own.update(str(address.ip) for address in addresses)
        usable = tuple(one for one in addresses if not (one.ip.is_link_local or one.ip.is_loopback))
        if item["name"] != "lo" and item.get("up", True) and not item.get("docker_bridge"):
            interfaces[str(item["name"])] = usable
    published: dict[Port, set[str]] = {}
    for item in facts.get("published") or []:
        if item.get("host_port"):
            place = published.setdefault((str(item["protocol"]), int(item["host_port"])), set())
            place.update(str(address) for address in item.get("host_addresses") or [item.get("host_address") or ""])
    other = {
        (text.partition("/")[2] or "tcp", int(text.partition("/")[0]))
        for container in facts.get("host_network_containers") or []
        for text in container.get("exposed_ports") or []
        if text.partition("/")[0].isdigit()
    }
    connection = facts.get("ssh_connection")
    if connection:
        other.add(("tcp", int(connection["server_port"])))
    return View(
        interfaces=interfaces,
        own=frozenset(own),
        published={port: frozenset(addresses) for port, addresses in published.items()},
        other_ports=tuple(sorted(other)),
        ssh_address=str(connection["server_address"]) if connection else None,
    )


def outside_addresses(host: View) -> list[str]:
    """List the host's addresses that somebody outside could dial, IPv4 first."""
    found = {one.ip for addresses in host.interfaces.values() for one in addresses}
    return [str(address) for address in sorted(found, key=lambda ip: (ip.version, int(ip)))]


def _rule_ports(policy: Policy) -> list[Port]:
    """Both ends of every range in the policy, and the ports just outside of it."""
    found: dict[Port, None] = {}
    for rule in policy.rules:
        if rule.target not in ("host", "published") or not rule.zones:
            continue
        for protocol in ("tcp", "udp"):
            if rule.protocols is not None and protocol not in rule.protocols:
                continue
            for low, high in rule.ports or ():
                for port in (low, high, low - 1, high + 1):
                    if 1 <= port <= 65535:
                        found[protocol, port] = None
    return list(found)


def plan(policy: Policy, host: View, extra: t.Sequence[Port]) -> tuple[list[Port], int]:
    """Choose the ports to try on every address; also gives how many of the policy's were left out."""
    wanted: dict[Port, None] = dict.fromkeys(port for port in host.published if port[0] in ("tcp", "udp"))
    wanted.update(dict.fromkeys(port for port in host.other_ports if port[0] in ("tcp", "udp")))
    wanted.update(dict.fromkeys(extra))
    wanted.update(dict.fromkeys(SENTINELS))
    rules = [port for port in _rule_ports(policy) if port not in wanted]
    # Spread over the whole policy, not only its beginning.
    step = max(1, -(-len(rules) // MOST_RULE_PORTS))
    wanted.update(dict.fromkeys(rules[::step]))
    return sorted(wanted), len(rules) - len(rules[::step])


def on_link(host: View, source: str) -> str | None:
    """Name the interface whose prefix holds the source, the longest prefix first."""
    address = ipaddress.ip_address(source)
    best: tuple[int, str] | None = None
    for name, addresses in host.interfaces.items():
        for one in addresses:
            if one.version == address.version and address in one.network:
                if best is None or one.network.prefixlen > best[0]:
                    best = (one.network.prefixlen, name)
    return best[1] if best else None


def arrivals(host: View, source: str, destination: str) -> list[str | None]:
    """Name the interfaces packets may arrive at: one where that is clear, else every outside interface."""
    near = on_link(host, source)
    if near is not None:
        return [near]
    wanted = ipaddress.ip_address(destination)
    for name, addresses in host.interfaces.items():
        if any(one.ip == wanted for one in addresses):
            return [name]
    names: list[str | None] = [*sorted(host.interfaces)]
    return names or [None]


def is_published(host: View, protocol: str, port: int, destination: str) -> bool:
    """Tell whether Docker publishes the port on this address."""
    places = host.published.get((protocol, port), frozenset())
    wildcard = "::" if ":" in destination else "0.0.0.0"
    return bool(places & {destination, wildcard, ""})


def _decision(policy: Policy, host: View, dial: Dial) -> Decision:
    outside = policy.outside_interfaces
    inside = outside and dial.interface and not any(matches(pattern, dial.interface) for pattern in outside)
    if dial.protocol == "icmp":
        if policy.ping and not inside:
            return Decision("accept", "docker_firewall_ping")
        name = "ipv6-icmp" if ":" in dial.destination else "icmp"
        return decide(policy, Dial(dial.source, dial.destination, name, 0, dial.interface), published=False)
    published = is_published(host, dial.protocol, dial.port, dial.destination)
    decision = decide(policy, dial, published=published)
    if decision == Decision("accept", "docker_firewall_host_default") and (dial.protocol, dial.port) in host.published:
        # An open host stays closed for every port that Docker publishes, on whichever address.
        return Decision("drop", "no rule to: published (Docker publishes the port on another address)")
    return decision


def expect(policy: Policy, host: View, source: str | None, destination: str, protocol: str, port: int) -> Expectation:
    """Say what the policy wants for one try."""
    if source is None:
        return Expectation("unknown", "nothing was sent")
    if source in host.own or ipaddress.ip_address(source).is_loopback:
        return Expectation("unknown", f"{source} is the host itself, whose own connections are not filtered")
    found = [
        _decision(policy, host, Dial(source, destination, protocol, port, name))
        for name in arrivals(host, source, destination)
    ]
    if len({decision.verdict for decision in found}) > 1:
        return Expectation(
            "unknown",
            f"the policy depends on the interface that packets from {source} arrive at, which cannot be told:"
            f" no interface of the host has {destination}",
        )
    return Expectation(found[0].verdict, found[0].reason, any(decision.limited for decision in found))
