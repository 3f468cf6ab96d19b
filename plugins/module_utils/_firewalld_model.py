# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones and policies of firewalld as values, and how their lists are added, subtracted and compared.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A zone and a policy differ only in their keys, so both are an `Item`. Every entry of a list is a text, in the form that
firewall-cmd takes. Ports are compared as numbers: firewalld joins and splits ranges as it likes.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _intervals

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

ZONE = "zone"
POLICY = "policy"
KINDS = (ZONE, POLICY)
PLURAL = {ZONE: "zones", POLICY: "policies"}
#: Zones and policies with such a name are made, kept exactly and removed by us.
PREFIX = "bulkhead-"
DOCKER_ZONE = "docker"
#: By kind, what Docker makes and looks after.
DOCKERS = {ZONE: DOCKER_ZONE, POLICY: "docker-forwarding"}
SYMBOLIC = ("HOST", "ANY")

_BOTH = ("services", "ports", "source_ports", "protocols", "forward_ports", "rich_rules")
LISTS = {ZONE: ("interfaces", "sources", *_BOTH), POLICY: ("ingress_zones", "egress_zones", *_BOTH)}
#: What belongs to one zone at a time.
BOUND = ("interfaces", "sources")
#: The zones of a policy.
ENDS = ("ingress_zones", "egress_zones")
#: Single values with what a new zone or policy has.
SCALARS: dict[str, dict[str, t.Any]] = {
    ZONE: {"target": "default", "forward": False, "masquerade": False},
    POLICY: {"target": "CONTINUE", "priority": -1, "masquerade": False},
}
TARGETS = {ZONE: ("default", "ACCEPT", "DROP", "REJECT"), POLICY: ("CONTINUE", "ACCEPT", "DROP", "REJECT")}
#: firewalld has no way to change these but a reload; asked to, it says nothing and changes nothing.
BY_RELOAD = ("target", "priority")
PORTS = ("ports", "source_ports")
PROTOCOLS = ("tcp", "udp", "sctp", "dccp")

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?/([a-z]+)\Z", re.ASCII)
_FORWARD_PORT = re.compile(
    r"port=(?P<port>[0-9-]+):proto=(?P<protocol>[a-z]+)(?::toport=(?P<toport>[0-9-]*))?(?::toaddr=(?P<toaddr>[0-9A-Fa-f.:]*))?\Z"
)
_DOCKER_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")

Entries = t.Tuple[str, ...]
#: Kind and name.
Key = t.Tuple[str, str]


@dataclass(frozen=True)
class Item:
    """A zone or a policy, all of its keys."""

    kind: str
    name: str
    lists: dict[str, Entries] = field(default_factory=dict)
    scalars: dict[str, t.Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.kind, self.name

    def entries(self, key: str) -> Entries:
        return self.lists.get(key, ())

    def scalar(self, key: str) -> t.Any:
        return self.scalars.get(key, SCALARS[self.kind][key])

    def with_lists(self, **lists: Entries) -> Item:
        return replace(self, lists={**self.lists, **lists})

    def with_scalars(self, **scalars: t.Any) -> Item:
        return replace(self, scalars={**self.scalars, **scalars})


@dataclass(frozen=True)
class Wanted:
    """What a task says of one zone or policy; a key it does not name is missing."""

    kind: str
    name: str
    lists: dict[str, Entries] = field(default_factory=dict)
    absent: dict[str, Entries] = field(default_factory=dict)
    scalars: dict[str, t.Any] = field(default_factory=dict)
    exclusive: bool = False

    @property
    def key(self) -> Key:
        return self.kind, self.name


@dataclass(frozen=True)
class Wishes:
    """All that a task asks for."""

    items: tuple[Wanted, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What firewalld and the host are before anything changes."""

    version: str
    permanent: dict[Key, Item]
    runtime: dict[Key, Item]
    #: The keys of firewalld.conf that this release tells and takes.
    settings: dict[str, str]
    #: Names that firewalld knows after a reload, and now.
    services: frozenset[str] = frozenset()
    runtime_services: frozenset[str] = frozenset()
    ipsets: frozenset[str] = frozenset()
    default_zone: str = ""
    #: Bridges of the host that have one of Docker's own names.
    bridges: tuple[str, ...] = ()
    #: Whether an earlier run wrote something that no reload has read yet.
    unread: bool = False

    @property
    def dockers(self) -> Entries:
        """What is in Docker's zone now."""
        zone = self.runtime.get((ZONE, DOCKER_ZONE))
        return () if zone is None else zone.entries("interfaces")


def is_ours(name: str) -> bool:
    return name.startswith(PREFIX)


def is_docker_bridge(name: str) -> bool:
    """Whether an interface has a name that Docker gives, or is a pattern for such names (a + at its end)."""
    if not name.endswith("+"):
        return _DOCKER_BRIDGE.fullmatch(name) is not None
    start = name[:-1]
    return (
        "docker0".startswith(start)
        or "docker_gwbridge".startswith(start)
        or "br-".startswith(start)
        or re.fullmatch(r"br-[0-9a-f]{0,12}", start) is not None
    )


def version_number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


# -- entries -----------------------------------------------------------------------------------------------------------


def parse_port(text: str) -> tuple[Interval, str] | None:
    """Numbers and protocol of `80/tcp` or `8000-8010/udp`, None if it is no such text."""
    match = _PORT.match(text)
    if match is None:
        return None
    low = int(match.group(1))
    high = int(match.group(2) or low)
    if not 1 <= low <= high <= _intervals.MAX_PORT or match.group(3) not in PROTOCOLS:
        return None
    return (low, high), match.group(3)


def forward_port_parts(text: str) -> tuple[str, str, str, str] | None:
    """Port, protocol, and where it goes, as port and address of which one may be empty; None if it is no such text."""
    match = _FORWARD_PORT.match(text)
    if match is None:
        return None
    return match.group("port"), match.group("protocol"), match.group("toport") or "", match.group("toaddr") or ""


def forward_port_text(port: str, protocol: str, to_port: str, to_address: str) -> str:
    """The text of a forward-port, with what is not empty."""
    parts = {"port": port, "proto": protocol, "toport": to_port, "toaddr": to_address}
    return ":".join(f"{name}={value}" for name, value in parts.items() if value)


def is_mac(text: str) -> bool:
    return _MAC.match(text) is not None


def canonical(key: str, entry: str) -> str:
    """One spelling for all entries that mean the same."""
    if key != "sources":
        return entry
    if is_mac(entry):
        return entry.upper()
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return entry
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def minus(key: str, entries: t.Iterable[str], others: t.Iterable[str]) -> Entries:
    """What of the entries the others do not have."""
    if key in PORTS:
        return _ports_minus(entries, others)
    known = {canonical(key, other) for other in others}
    return tuple(entry for entry in entries if canonical(key, entry) not in known)


def plus(key: str, entries: t.Iterable[str], others: t.Iterable[str]) -> Entries:
    """The entries, and behind them what the others add."""
    found = list(entries)
    for other in others:
        found.extend(minus(key, (other,), found))
    return tuple(found)


def same(key: str, entries: t.Iterable[str], others: t.Iterable[str]) -> bool:
    """Whether two lists mean the same."""
    one, other = tuple(entries), tuple(others)
    return not minus(key, one, other) and not minus(key, other, one)


def same_item(one: Item, other: Item) -> bool:
    """Whether two zones, or two policies, mean the same."""
    return all(same(key, one.entries(key), other.entries(key)) for key in LISTS[one.kind]) and all(
        one.scalar(key) == other.scalar(key) for key in SCALARS[one.kind]
    )


def _ports_minus(entries: t.Iterable[str], others: t.Iterable[str]) -> Entries:
    taken: dict[str, list[Interval]] = {}
    for other in others:
        parsed = parse_port(other)
        if parsed is not None:
            taken.setdefault(parsed[1], []).append(parsed[0])
    left: list[str] = []
    for entry in entries:
        parsed = parse_port(entry)
        if parsed is None:
            left.append(entry)
            continue
        rest = _cut(parsed[0], taken.get(parsed[1], []))
        left.extend([entry] if rest == [parsed[0]] else [_port_text(each, parsed[1]) for each in rest])
    return tuple(left)


def _cut(interval: Interval, taken: list[Interval]) -> list[Interval]:
    """What is left of an interval."""
    low, high = interval
    rest = []
    for other_low, other_high in _intervals.merge(taken):
        if other_high < low or other_low > high:
            continue
        if other_low > low:
            rest.append((low, other_low - 1))
        low = other_high + 1
    if low <= high:
        rest.append((low, high))
    return rest


def _port_text(interval: Interval, protocol: str) -> str:
    low, high = interval
    return f"{low}/{protocol}" if low == high else f"{low}-{high}/{protocol}"
