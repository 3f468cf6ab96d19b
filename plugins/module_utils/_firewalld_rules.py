# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of a policy in firewalld's words: open ports where their order cannot matter, rich rules everywhere else.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A rich rule with a priority below 0 comes before a zone's ports and its target, in the order of the priorities. Rules
that come from one rule of the policy share one: they have the same verdict.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _intervals
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import (
    PORT_PROTOCOLS,
    PROTOCOL_NUMBERS,
    Rule,
    Zone,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

#: Protocols whose ports firewalld knows.
PORTS = ("tcp", "udp", "sctp", "dccp")
_OPEN = -32000
_FIRST = -30000
_LAST = 32767
_EVERYTHING = ((0, _intervals.MAX_PORT),)
_LOG_RATE = "10/s"
_ERRORS = ("destination-unreachable", "time-exceeded", "parameter-problem")
_ICMP6 = (
    "packet-too-big",
    "router-solicitation",
    "router-advertisement",
    "neighbour-solicitation",
    "neighbour-advertisement",
    "redirect",
)
_MLD = ("mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report")


class Lists(t.NamedTuple):
    """What a zone or a policy gets."""

    ports: list[str]
    protocols: list[str]
    rich_rules: list[str]


class Line(t.NamedTuple):
    """One rule of the policy, as far as it is about one zone or policy of firewalld.

    `zones` are those that can match here; with `plain` its log and limit are left to somebody else.
    """

    rule: Rule
    zones: tuple[Zone, ...] = ()
    plain: bool = False

    @property
    def any_source(self) -> bool:
        return not self.zones or any(zone.any_source for zone in self.zones)


def overlap(one: Rule, other: Rule) -> bool:
    """Whether there may be packets that both rules match, by protocol, port and family."""
    if one.family is not None and other.family is not None and one.family != other.family:
        return False
    if one.protocols is None or other.protocols is None:
        shared: t.Iterable[str] = one.protocols or other.protocols or PORT_PROTOCOLS
    else:
        shared = set(one.protocols) & set(other.protocols)
    for protocol in shared:
        if protocol not in PORT_PROTOCOLS:
            return True
        for mine in one.ports or _EVERYTHING:
            if any(_intervals.overlap(mine, theirs) for theirs in other.ports or _EVERYTHING):
                return True
    return False


def inexpressible(rule: Rule) -> str | None:
    """Why firewalld cannot open what the rule opens."""
    if rule.ports is not None and "udplite" in (rule.protocols or ()):
        return "firewalld knows no ports of udplite"
    return None


def write(lines: t.Sequence[Line]) -> Lists:
    """Write rules in their order."""
    found = Lists([], [], [])
    for line in lines:
        if _is_simple(line, lines):
            _simple(line.rule, found)
        else:
            found.rich_rules.extend(_rich(line))
    return Lists(*(list(dict.fromkeys(entries)) for entries in found))


def _is_simple(line: Line, lines: t.Sequence[Line]) -> bool:
    """Whether the order cannot matter: nobody else says something different of the same packets."""
    rule = line.rule
    if rule.action != "accept" or rule.protocols is None or rule.family is not None or not line.any_source:
        return False
    if rule.destinations4 or rule.destinations6 or (rule.log is not None and not line.plain):
        return False
    return not any(_differs(other) and overlap(rule, other.rule) for other in lines)


def _differs(line: Line) -> bool:
    return line.rule.action != "accept" or (line.rule.log is not None and not line.plain)


def _simple(rule: Rule, found: Lists) -> None:
    for protocol in rule.protocols or ():
        if protocol in PORTS and rule.ports is not None:
            found.ports.extend(f"{_intervals.number_text(port)}/{protocol}" for port in rule.ports)
        else:
            found.protocols.append(_protocol(protocol))


def _protocol(name: str) -> str:
    return str(PROTOCOL_NUMBERS.get(name, name))


def _rich(line: Line) -> t.Iterator[str]:
    rule = line.rule
    log = "" if rule.log is None or line.plain else f" {log_text(rule.log)}"
    for family, source, destination in _addresses(line):
        for element in _elements(rule):
            parts = [family, source, destination, element]
            match = "".join(f" {part}" for part in parts if part)
            yield f'rule priority="{_FIRST + rule.index}"{match}{log} {rule.action}'


def log_text(prefix: str) -> str:
    """A log, not oftener than the own table has one. firewalld's parser takes no = in a value."""
    return f'log prefix="{prefix.replace("=", ":")}" level="info" limit value="{_LOG_RATE}"'


def _elements(rule: Rule) -> t.Iterator[str]:
    if rule.protocols is None:
        yield ""
    for protocol in rule.protocols or ():
        if rule.ports is None or protocol not in PORTS:
            yield f'protocol value="{_protocol(protocol)}"'
            continue
        for port in rule.ports:
            yield f'port port="{_intervals.number_text(port)}" protocol="{protocol}"'


def _addresses(line: Line) -> t.Iterator[tuple[str, str, str]]:
    """Family, source and destination of every rich rule that a rule needs, as their texts."""
    rule = line.rule
    limited = bool(rule.destinations4 or rule.destinations6)
    if line.any_source and not limited:
        yield (f'family="{rule.family}"' if rule.family else ""), "", ""
        return
    for family, destinations in ((4, rule.destinations4), (6, rule.destinations6)):
        if rule.family not in (None, f"ipv{family}"):
            continue
        sources = [""] if line.any_source else [f'source address="{net}"' for net in _sources(line.zones, family)]
        ends = [f'destination address="{net}"' for net in networks(destinations, family)] if limited else [""]
        for source in sources:
            for end in ends:
                yield f'family="ipv{family}"', source, end


def _sources(zones: t.Iterable[Zone], family: int) -> list[str]:
    return networks((each for zone in zones for each in (zone.sources4 if family == 4 else zone.sources6)), family)


def networks(intervals: t.Iterable[Interval], family: int) -> list[str]:
    """Write intervals of addresses as the networks that cover them, for firewalld has no ranges."""
    make: t.Any = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    found = []
    for low, high in _intervals.merge(intervals):
        for network in ipaddress.summarize_address_range(make(low), make(high)):
            single = network.prefixlen == network.max_prefixlen
            found.append(str(network.network_address) if single else str(network))
    return found


# -- what no policy closes ---------------------------------------------------------------------------------------------


def always_open(ping: bool, multicast_types: bool) -> list[str]:
    """The ICMP that a host does not work without, and ping if wanted.

    Older firewalld has no names for multicast listener messages. They come from link-local addresses.
    """
    both = [*_ERRORS, *(["echo-request"] if ping else [])]
    found = [_open(f'icmp-type name="{name}"') for name in both]
    found += [_open(f'family="ipv6" icmp-type name="{name}"') for name in _ICMP6]
    if multicast_types:
        return found + [_open(f'family="ipv6" icmp-type name="{name}"') for name in _MLD]
    return [*found, _open('family="ipv6" source address="fe80::/10" protocol value="ipv6-icmp"')]


def for_addresses(published: t.Collection[tuple[str, int]]) -> list[str]:
    """IGMP, and answers of DHCP servers unless a container has the port; firewalld cannot look at both ports."""
    found = [_open('protocol value="igmp"')]
    if ("udp", 68) not in published:
        found.append(_open('family="ipv4" port port="68" protocol="udp"'))
    if ("udp", 546) not in published:
        found.append(_open('family="ipv6" source address="fe80::/10" port port="546" protocol="udp"'))
    return found


def log_drops(words: str) -> str:
    """A log of what gets as far as the target."""
    return f'rule priority="{_LAST}" {log_text(f"bulkhead {words}: ")}'


def _open(match: str) -> str:
    return f'rule priority="{_OPEN}" {match} accept'
