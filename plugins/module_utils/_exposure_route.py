# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: where the kernel sends a packet, and which sources it believes.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_host import TABLES
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import (
    PROTOCOLS,
    ROUTE_TYPES,
    name_number,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import Doubt, Pieces
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import full, meet, minus
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import merge

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import Flow, Query
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_host import (
        Host,
        Interface,
        Route,
        RoutingRule,
    )
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import Reading
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

LOOPBACK = name_number("lo")
BITS = {4: 32, 6: 128}
# Addresses at which the type of an address changes without any route.
_MAPPED6 = 0xFFFF << 32
_SPECIAL = {
    4: (0, 1, 0xE0000000, 0xF0000000, 0xFFFFFFFF),
    6: (0, 1, 2, _MAPPED6, _MAPPED6 + (1 << 32), 0xFE80 << 112, 0xFEC0 << 112, 0xFF << 120),
}
LINK_LOCAL6 = (0xFE80 << 112, (0xFEC0 << 112) - 1)
_REJECTS = ("blackhole", "unreachable", "prohibit")


class Way(t.NamedTuple):
    """A route found; `kind` is empty where there is none. `doubt` says why it may be another."""

    kind: str
    devices: tuple[int, ...] = ()
    # The first address of a prefix that is on the link itself; -1 for any other route.
    first: int = -1
    doubt: str = ""


class Routing:
    """Answers of one host's routing tables."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.believed: dict[t.Any, Ranges] = {}
        self.reversed: dict[t.Any, Pieces | Doubt] = {}

    def ways(self, family: int, daddr: int, saddr: Ranges, iif: int, mark: int, only: int = 0) -> list[tuple[Ranges, Way]]:
        """The route to an address for each part of the sources; `only` is the one device asked for."""
        found: list[tuple[Ranges, Way]] = []
        left = saddr
        for rule in self.host.rules.get(family, ()):
            if not self._asks(rule, daddr, iif, mark):
                continue
            part = meet(left, (rule.source,))
            if not part:
                continue
            if rule.doubt:
                return [*found, (left, Way("", doubt=rule.doubt))]
            way = self._table(family, rule.table, daddr, only)
            if way is not None:
                found.append((part, way))
                left = minus(left, part)
            if not left:
                return found
        return [*found, (left, Way(""))]

    def one(self, family: int, daddr: int, saddr: int, iif: int, mark: int) -> Way:
        return self.ways(family, daddr, ((saddr, saddr),), iif, mark)[0][1]

    @staticmethod
    def _asks(rule: RoutingRule, daddr: int, iif: int, mark: int) -> bool:
        return (
            rule.destination[0] <= daddr <= rule.destination[1]
            and rule.iif in (0, iif)
            and (mark & rule.mask) == rule.mark
        )

    def _table(self, family: int, table: int, daddr: int, only: int) -> Way | None:
        for route in self.host.routes.get(family, {}).get(table, ()):
            if not route.low <= daddr <= route.high or (only and only not in route.devices):
                continue
            if route.kind == "throw":
                return None
            doubt = "a route with several next hops" if len(route.devices) > 1 else ""
            on_link = route.gateway is None and route.length < 127
            return Way(route.kind, route.devices, route.low if on_link else -1, doubt)
        return None

    def cuts(self, family: int) -> list[tuple[int, int]]:
        """All addresses in intervals that every route takes or leaves as a whole."""
        ends = set(_SPECIAL[family])
        for routes in self.host.routes.get(family, {}).values():
            for route in routes:
                # The first address of an IPv6 prefix has a type of its own.
                ends.update((route.low, route.low + 1, route.high + 1))
        for rule in self.host.rules.get(family, ()):
            ends.update((rule.destination[0], rule.destination[1] + 1))
        top = 1 << BITS[family]
        points = sorted(end for end in ends if end < top)
        return [(low, high - 1) for low, high in zip(points, points[1:] + [top])]

    def believes(self, iif: int, oif: int, daddr: int, mark: int) -> Ranges:
        """The IPv4 sources that pass fib_validate_source(); `oif` is 0 for packets to the host itself."""
        host = self.host
        custom = any(rule.priority not in (0, 32766, 32767) for rule in host.rules.get(4, ())) or any(
            route.kind == "local" and route.protocol != "kernel" for route in self._local()
        )
        accept_local = self.setting("accept_local", iif)
        marked = mark if self.setting("src_valid_mark", iif) else 0
        strict = self.setting("rp_filter", iif)
        # A packet that leaves where it came in is looked at closely, as it may call for a redirect.
        brief = not strict and (oif != iif or not self.setting("send_redirects", iif))
        key = (iif, (daddr, oif) if custom else 0, marked, brief)
        if key in self.believed:
            return self.believed[key]
        if brief and accept_local:
            found = full(32)
        elif brief and not custom:
            own = merge((number, number) for interface in host.interfaces.values() for number in interface.all4)
            found = minus(full(32), tuple(own))
        else:
            kept = []
            for low, high in self.cuts(4):
                way = self.one(4, low, daddr, oif or LOOPBACK, marked)
                if not way.kind or way.kind in _REJECTS:
                    good = not strict
                elif way.kind != "unicast" and not (way.kind == "local" and accept_local):
                    good = False
                else:
                    good = strict != 1 or iif in way.devices
                if good:
                    kept.append((low, high))
            found = tuple(merge(kept))
        self.believed[key] = found
        return found

    def setting(self, name: str, iif: int) -> int:
        """A setting that holds when it is set for all interfaces or for this one; the higher value wins."""
        interface = self.host.interfaces.get(iif)
        values = [self.host.sysctl(f"net/ipv4/conf/all/{name}")]
        if interface is not None:
            values.append(self.host.sysctl(f"net/ipv4/conf/{interface.name}/{name}"))
        return max(value or 0 for value in values)

    def known(self, iif: int, *names: str) -> bool:
        """Tell whether the settings were read, for all interfaces and for this one."""
        interface = self.host.interfaces.get(iif)
        return interface is not None and all(
            self.host.sysctl(f"net/ipv4/conf/{place}/{name}") is not None
            for name in names
            for place in ("all", interface.name)
        )

    def _local(self) -> list[Route]:
        return self.host.routes.get(4, {}).get(TABLES["local"], [])

    def own_address(self, kind: str, interface: int, family: int, flow: Flow) -> int | None:
        """The address that redirect and masquerade put in, where it is beyond doubt."""
        found = self.host.interfaces.get(interface)
        if found is None:
            return None
        addresses = found.addresses4 if family == 4 else found.addresses6
        if kind == "redirect":
            # Kernels differ in what they make of a destination that is not global.
            local = family == 6 and flow.state.daddr >> 120 in (0xFE, 0xFF)
            return None if local or not addresses else addresses[0][0]
        return addresses[0][0] if len(addresses) == 1 else None

    def read(self, key: str, query: Query, flow: Flow, hook: str) -> Reading:
        """What `fib` gives."""
        flags, result = key.split(" ")[1:]
        words = flags.split(",")
        interface = query.iif if "iif" in words else flow.state.oif if "oif" in words else 0
        mark = flow.state.mark if "mark" in words else 0
        # A link-local address is looked up on the device that has the packet.
        device = interface or (flow.state.oif if hook == "postrouting" else query.iif)
        family, daddr = query.family, flow.state.daddr
        if words[0] == "daddr":
            if result != "type":
                return Doubt(f"{key} is not in the model")
            if family == 4:
                return self._kind(daddr, interface)
            only = device if _link_local(daddr) else 0
            ways = self.ways(6, daddr, flow.saddr, LOOPBACK, mark, only)
            return _doubt(way for _ranges, way in ways) or Pieces(
                tuple((ranges, self._kind6(daddr, way, interface)) for ranges, way in ways)
            )
        if flow.state.saddr is not None:
            return Doubt("fib with a translated source")
        if family == 4 and result == "type":
            return Pieces(tuple((((low, high),), self._kind(low, interface)) for low, high in self.cuts(4)))
        start = flow.state.oif if hook == "forward" and "iif" in words else LOOPBACK
        # A host that has no address yet is taken for one on the link.
        if family == 6:
            early = query.proto == PROTOCOLS["icmpv6"] and (_link_local(daddr) or daddr >> 120 == 0xFF)
        else:
            early = daddr == 0xFFFFFFFF or daddr >> 8 == 0xE00000
        unnamed = query.iif if early and result != "type" else None
        cache = (family, interface, device, start, mark, daddr, result == "type", unnamed)
        if cache not in self.reversed:
            self.reversed[cache] = self._back(family, result == "type", daddr, interface, device, start, mark, unnamed)
        return self.reversed[cache]

    def _back(
        self,
        family: int,
        kind: bool,
        daddr: int,
        interface: int,
        device: int,
        start: int,
        mark: int,
        unnamed: int | None,
    ) -> Pieces | Doubt:
        """The way back to each source: the type of its address for IPv6, or the interface.

        `unnamed` is the interface of a source without an address, where that needs no route.
        """
        parts = []
        ways = []
        if family == 4 and (daddr in (0, 0xFFFFFFFF) or daddr >> 28 == 14):
            daddr = 0
        for low, high in self.cuts(family):
            only = device if family == 6 and _link_local(low) else 0
            way = self.ways(family, low, ((daddr, daddr),), start, mark, only)[0][1]
            ways.append(way)
            if low == 0 and unnamed is not None:
                found = unnamed
            else:
                found = self._kind6(low, way, interface) if kind else _towards(family, way, interface)
            parts.append((((low, high),), found))
        return _doubt(ways) or Pieces(tuple(parts))

    def _kind(self, address: int, interface: int) -> int:
        """The type of an IPv4 address, as the table `local` has it."""
        if address in (0, 0xFFFFFFFF):
            return ROUTE_TYPES["broadcast"]
        if address >> 28 == 14:
            return ROUTE_TYPES["multicast"]
        way = self._table(4, TABLES["local"], address, 0)
        if way is None or (interface and interface not in way.devices):
            return ROUTE_TYPES["unicast"]
        return ROUTE_TYPES[way.kind]

    def _kind6(self, address: int, way: Way, interface: int) -> int:
        """The type of an IPv6 address, as the route to it has it."""
        found: Interface | None = self.host.interfaces.get(interface)
        if found is not None and any(number == address for number, _length in found.addresses6):
            return ROUTE_TYPES["local"]
        if way.kind in ("blackhole", "prohibit", "anycast"):
            return ROUTE_TYPES[way.kind]
        if not way.kind or way.kind == "unreachable":
            return ROUTE_TYPES["unreachable"]
        if way.kind == "local" and not interface:
            return ROUTE_TYPES["local"]
        if address == way.first:
            return ROUTE_TYPES["anycast"]
        if address == 0 or address >> 32 == 0xFFFF:
            return ROUTE_TYPES["unspec"]
        return ROUTE_TYPES["multicast" if address >> 120 == 0xFF else "unicast"]


def _link_local(address: int) -> bool:
    return LINK_LOCAL6[0] <= address <= LINK_LOCAL6[1]


def _doubt(ways: t.Iterable[Way]) -> Doubt | None:
    return next((Doubt(way.doubt) for way in ways if way.doubt), None)


def _towards(family: int, way: Way, interface: int) -> int:
    """The interface that `fib saddr oif` gives; 0 where there is no way back, or not by that interface."""
    taken = ("unicast", "broadcast") if family == 4 else ("unicast",)
    if way.kind not in taken or not way.devices or (interface and interface not in way.devices):
        return 0
    return interface or way.devices[0]
