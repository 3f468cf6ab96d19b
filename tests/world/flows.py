# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections worth trying at the captured host 198.51.100.12: from outside, through it, and among its containers."""

from __future__ import annotations

import dataclasses
import typing as t

from integration.frames import ACK, FIN, SYN

from world.wire import DST, LAN, SRC, Flow

#: Callers on the host's own network, and two that come through its gateway.
CALLERS = {
    4: (
        "198.51.100.50", "198.51.100.66", "198.51.100.64", "198.51.100.63", "198.51.100.127", "198.51.100.128",
        "198.51.100.199", "198.51.100.200", "198.51.100.203", "198.51.100.204", "203.0.113.7", "198.51.7.50",
    ),
    6: ("2001:db8::50", "2001:db8::66", "2001:db8::3f", "2001:db8:0:0:1::5", "2001:db8:1::9", "2001:db7::9"),
}  # fmt: skip
HOST = {4: "198.51.100.12", 6: "2001:db8::12"}
#: What Docker publishes by address translation.
TCP = {4: (8080, 8081, 8083, 8084, 8085, 8090, 7000, 7001, 7009), 6: (8081, 8085)}
UDP = 8082
#: Addresses of containers, dialled through the host.
DIRECT = {
    4: ("172.24.0.2", "172.25.0.2", "172.17.0.2", "172.21.0.2", "172.20.0.5", "172.22.0.3"),
    6: ("fd00:20::5", "fd00:20::2"),
}
_BACK_ENDS = {
    "172.20.0.2": "multi-0", "172.20.0.3": "unpub-0", "172.20.0.4": "lo-0", "172.20.0.5": "web6-0",
    "fd00:20::2": "multi-0", "fd00:20::3": "unpub-0", "fd00:20::5": "web6-0",
}  # fmt: skip
#: Containers that talk across networks, and where they are.
_OTHERS = {
    "172.17.0.2": "web-0", "172.23.0.3": "range-0", "172.24.0.2": "rt-0", "172.25.0.2": "unprot-0",
    "172.21.0.2": "inner-0", "172.22.0.2": "noicc-0", "172.22.0.3": "noicc2",
}  # fmt: skip
_ROUTERS = {4: ("192.0.2.10", "192.0.2.200"), 6: ("2001:db8:5::10", "2001:db8:6::200")}
INTERNAL = ("172.21.0.2",)


def _each(end: str, source: str, destination: str, ports: t.Iterable[int]) -> t.Iterator[Flow]:
    for port in ports:
        yield Flow(end, source, destination, "tcp", port)
        yield Flow(end, source, destination, "udp", port, complain=port == 81)
    yield Flow(end, source, destination, "icmp", 0)


def from_outside(family: int) -> list[Flow]:
    """Published ports, and containers by their own addresses."""
    found = []
    for caller in CALLERS[family]:
        found += [Flow(LAN, caller, HOST[family], "tcp", port) for port in TCP[family]]
        found += [Flow(LAN, caller, HOST[family], "udp", UDP, complain) for complain in (False, True)]
        for address in DIRECT[family]:
            found += _each(LAN, caller, address, (80, 81, 443))
    return found


def routed(family: int) -> list[Flow]:
    """Between the networks that the host routes for."""
    one, other = _ROUTERS[family]
    found = [*_each(SRC, one, other, (80, 81, 443)), *_each(DST, other, one, (80, 81, 443))]
    for caller in CALLERS[family][:3]:
        found += [*_each(LAN, caller, other, (80,)), *_each(DST, other, caller, (443,))]
    return found


def containers(family: int) -> list[Flow]:
    """Among containers and from them to the outside."""
    found: list[Flow] = []
    ends = dict(_BACK_ENDS if family == 6 else {**_BACK_ENDS, **_OTHERS})
    mine = [(address, end) for address, end in ends.items() if (":" in address) == (family == 6)]
    for address, end in mine:
        found += [flow for other, _end in mine if other != address for flow in _each(end, address, other, (80, 81))]
        for outside in (CALLERS[family][0], CALLERS[family][-1], _ROUTERS[family][1]):
            found += _each(end, address, outside, (80, 443))
    return found


def odd(flows: t.Iterable[Flow]) -> list[Flow]:
    """Some of them again with another type of service, and with segments that open no connection."""
    found = []
    for number, flow in enumerate(flows):
        if number % 4 == 0:
            found.append(dataclasses.replace(flow, tos=(0x28, 0x10)[number // 4 % 2]))
        if flow.protocol == "tcp" and number % 3 == 0:
            found.append(dataclasses.replace(flow, flags=(0, SYN | FIN, ACK, FIN | ACK)[number // 3 % 4]))
    return found


def everything() -> list[Flow]:
    """All of them."""
    found = []
    for family in (4, 6):
        across = [*from_outside(family), *routed(family)]
        found += [*across, *odd(across), *containers(family)]
    return found


def neighbours() -> list[str]:
    """Addresses on the host's own network."""
    return [*CALLERS[4][:10], *CALLERS[6][:4]]
