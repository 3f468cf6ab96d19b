# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what the analyser knows of a host besides its rules.

May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import name_number

TABLES = {"local": 255, "main": 254, "default": 253}
# Keys of `ip -j rule` that are understood; with any other the rule's match is not known.
_RULE_KEYS = frozenset(
    ("priority", "src", "srclen", "dst", "dstlen", "iif", "iif_detached", "fwmark", "fwmask", "table", "protocol")
)


@dataclass(frozen=True)
class Interface:
    name: str
    index: int
    loopback: bool
    # In the kernel's order, with the length of their prefix; secondary ones are left out.
    addresses4: tuple[tuple[int, int], ...] = ()
    addresses6: tuple[tuple[int, int], ...] = ()
    # All IPv4 addresses, also secondary ones.
    all4: tuple[int, ...] = ()


@dataclass(frozen=True)
class Route:
    low: int
    high: int
    length: int
    kind: str
    devices: tuple[int, ...]
    gateway: int | None
    metric: int
    protocol: str = ""


@dataclass(frozen=True)
class RoutingRule:
    """A rule of `ip rule`; `doubt` says what of it is not understood."""

    priority: int
    table: int
    source: tuple[int, int]
    destination: tuple[int, int]
    iif: int
    mark: int
    mask: int
    doubt: str = ""


@dataclass
class Host:
    """Interfaces by number of their name, routes by family and table, rules by family, sysctls by path."""

    interfaces: dict[int, Interface]
    routes: dict[int, dict[int, list[Route]]]
    rules: dict[int, list[RoutingRule]]
    sysctls: dict[str, str] = field(default_factory=dict)

    def sysctl(self, path: str) -> int | None:
        try:
            return int(self.sysctls[path])
        except (KeyError, ValueError):
            return None


def read_host(
    addresses: list[t.Any],
    routes: t.Mapping[int, list[t.Any]],
    rules: t.Mapping[int, list[t.Any]],
    sysctls: t.Mapping[str, str],
) -> Host:
    """From `ip -j addr`, `ip -j -4|-6 route show table all`, `ip -j -4|-6 rule` and files under /proc/sys."""
    interfaces = {}
    for entry in addresses:
        found = _interface(entry)
        interfaces[name_number(found.name)] = found
    tables: dict[int, dict[int, list[Route]]] = {}
    for family, entries in routes.items():
        mine: dict[int, list[Route]] = {}
        for entry in entries:
            mine.setdefault(_table(entry.get("table", "main")), []).append(_route(entry, family))
        for listed in mine.values():
            listed.sort(key=lambda route: (-route.length, route.metric))
        tables[family] = mine
    return Host(
        interfaces,
        tables,
        {family: [_rule(entry, family) for entry in entries] for family, entries in rules.items()},
        dict(sysctls),
    )


def _interface(entry: dict[str, t.Any]) -> Interface:
    found: dict[str, list[tuple[int, int]]] = {"inet": [], "inet6": []}
    every = []
    for item in entry.get("addr_info", ()):
        if item.get("family") not in found or "local" not in item:
            continue
        value = int(ipaddress.ip_address(item["local"]))
        if item["family"] == "inet":
            every.append(value)
        if not item.get("secondary"):
            found[item["family"]].append((value, int(item["prefixlen"])))
    return Interface(
        entry["ifname"],
        int(entry["ifindex"]),
        "LOOPBACK" in entry.get("flags", ()),
        tuple(found["inet"]),
        tuple(found["inet6"]),
        tuple(every),
    )


def prefix(text: str, family: int) -> tuple[int, int, int]:
    """First and last address of a prefix as `ip` prints it, and its length."""
    if text in ("default", "all"):
        text = "0.0.0.0/0" if family == 4 else "::/0"
    network = ipaddress.ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address), network.prefixlen


def _table(value: t.Any) -> int:
    found = TABLES.get(str(value))
    return int(value) if found is None else found


def _route(entry: dict[str, t.Any], family: int) -> Route:
    low, high, length = prefix(entry["dst"], family)
    hops = [hop for hop in entry.get("nexthops") or [entry] if "dead" not in hop.get("flags", ())]
    gateway = entry.get("gateway")
    return Route(
        low,
        high,
        length,
        entry.get("type", "unicast"),
        tuple(name_number(hop["dev"]) for hop in hops if "dev" in hop),
        int(ipaddress.ip_address(gateway)) if gateway else None,
        int(entry.get("metric", 0)),
        str(entry.get("protocol", "")),
    )


def _rule(entry: dict[str, t.Any], family: int) -> RoutingRule:
    unknown = sorted(set(entry) - _RULE_KEYS)
    doubt = f"the routing rule {entry.get('priority')} with {', '.join(unknown)}" if unknown else ""

    def ends(name: str) -> tuple[int, int]:
        text = entry.get(name, "all")
        length = entry.get(f"{name}len")
        return prefix(text if text == "all" or length is None else f"{text}/{length}", family)[:2]

    mark = int(str(entry.get("fwmark", "0")), 0)
    mask = int(str(entry.get("fwmask", "0xffffffff" if "fwmark" in entry else "0")), 0)
    table = 0
    try:
        table = _table(entry["table"])
    except (KeyError, ValueError):
        doubt = doubt or f"the routing rule {entry.get('priority')} without a known table"
    iif = name_number(entry["iif"]) if "iif" in entry else 0
    return RoutingRule(int(entry.get("priority", 0)), table, ends("src"), ends("dst"), iif, mark, mask, doubt)
