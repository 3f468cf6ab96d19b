# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the fields that the analyser knows, and the numbers behind nft's words.

May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

NAME_BYTES = 16
PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6-route": 43, "gre": 47, "esp": 50,
    "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "comp": 108, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip
WITH_PORTS = frozenset((6, 17, 33, 132, 136))
CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUS = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
}  # fmt: skip
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
ROUTE_TYPES = {
    "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
    "unreachable": 7, "prohibit": 8, "throw": 9,
}  # fmt: skip
ICMP = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip
ICMPV6 = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
    "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
    "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
    "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip


class Field(t.NamedTuple):
    """How a field's value is written, how many bits it has, and which packets have it."""

    kind: str
    bits: int
    # 0 for both IP families.
    family: int = 0
    # Transport protocols; none for all.
    protocols: frozenset[int] = frozenset()
    words: t.Mapping[str, int] = {}


def _fields() -> dict[str, Field]:
    known = {
        "meta iifname": Field("name", 128),
        "meta oifname": Field("name", 128),
        "meta iif": Field("name", 128),
        "meta oif": Field("name", 128),
        "meta mark": Field("number", 32),
        "meta nfproto": Field("number", 8, words={"ipv4": 2, "ipv6": 10}),
        "meta protocol": Field("number", 16, words={"ip": 0x0800, "ip6": 0x86DD, "arp": 0x0806, "vlan": 0x8100}),
        "meta l4proto": Field("number", 8, words=PROTOCOLS),
        "ip protocol": Field("number", 8, 4, words=PROTOCOLS),
        "ip6 nexthdr": Field("number", 8, 6, words=PROTOCOLS),
        "ct state": Field("number", 32, words=CT_STATES),
        "ct status": Field("number", 32, words=CT_STATUS),
        "ct direction": Field("number", 8, words={"original": 0, "reply": 1}),
        "ct mark": Field("number", 32),
        "ct original proto-src": Field("number", 16),
        "ct original proto-dst": Field("number", 16),
        "ct original protocol": Field("number", 8, words=PROTOCOLS),
        "ct original l3proto": Field("number", 8, words={"ipv4": 2, "ipv6": 10}),
        "tcp flags": Field("number", 8, 0, frozenset((6,)), TCP_FLAGS),
        "icmp type": Field("number", 8, 4, frozenset((1,)), ICMP),
        "icmp code": Field("number", 8, 4, frozenset((1,))),
        "icmpv6 type": Field("number", 8, 6, frozenset((58,)), ICMPV6),
        "icmpv6 code": Field("number", 8, 6, frozenset((58,))),
    }
    for end in ("saddr", "daddr"):
        known[f"ip {end}"] = Field("address", 32, 4)
        known[f"ip6 {end}"] = Field("address", 128, 6)
        known[f"ct original ip {end}"] = Field("address", 32, 4)
        known[f"ct original ip6 {end}"] = Field("address", 128, 6)
    for end in ("sport", "dport"):
        known[f"th {end}"] = Field("number", 16)
        for name in ("tcp", "udp", "dccp", "sctp", "udplite"):
            known[f"{name} {end}"] = Field("number", 16, 0, frozenset((PROTOCOLS[name],)))
    # The flags of fib are sorted: who is looked up, and which interface is asked for.
    for flags in (
        "daddr", "daddr,iif", "daddr,oif", "saddr", "saddr,iif", "saddr,oif",
        "daddr,mark", "saddr,mark", "saddr,iif,mark", "saddr,mark,oif",
    ):  # fmt: skip
        known[f"fib {flags} type"] = Field("number", 32, words=ROUTE_TYPES)
        # The name of the interface that the route leads to; none (zero) without a route.
        known[f"fib {flags} oif"] = known[f"fib {flags} oifname"] = Field("name", 128)
    return known


FIELDS = _fields()


class Unreadable(Exception):
    """A value whose number is not known; the message says why."""


def name_ranges(text: str) -> Ranges:
    """The numbers of an interface name; `eth*` is all names that begin with eth."""
    if "\\" in text:
        raise Unreadable("an interface name with a backslash")
    if text.endswith("*"):
        start = text[:-1].encode()
        rest = 8 * (NAME_BYTES - len(start))
        low = int.from_bytes(start, "big") << rest
        return ((low, low | ((1 << rest) - 1)),)
    value = name_number(text)
    return ((value, value),)


def name_number(text: str) -> int:
    """An interface name as the kernel compares it: 16 bytes, filled up with zeros."""
    encoded = text.encode()
    if len(encoded) >= NAME_BYTES:
        raise Unreadable("an interface name that is too long")
    return int.from_bytes(encoded.ljust(NAME_BYTES, b"\0"), "big")


def number(field: Field, value: t.Any) -> int:
    """The number behind one value of nft's JSON; flags in a list are put together."""
    if isinstance(value, bool) or value is None:
        raise Unreadable("a value of an unknown form")
    if isinstance(value, int):
        return value
    if isinstance(value, list):
        result = 0
        for part in value:
            result |= number(field, part)
        return result
    if isinstance(value, dict) and list(value) == ["|"]:
        return number(field, value["|"])
    if isinstance(value, str):
        if field.kind == "address":
            return address(value, field.bits)
        if field.kind == "name":
            return name_number(value)
        if value in field.words:
            return field.words[value]
        try:
            return int(value, 0)
        except ValueError:
            pass
        raise Unreadable(f"the word {value:.30} is not known")
    raise Unreadable("a value of an unknown form")


def address(text: str, bits: int) -> int:
    """An address as a number."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError as exc:
        raise Unreadable("a value that is no address") from exc
    if found.max_prefixlen != bits:
        raise Unreadable("an address of the other family")
    return int(found)


def ranges(field: Field, value: t.Any) -> Ranges:
    """The numbers that one value, prefix or range of nft's JSON stands for."""
    if isinstance(value, dict) and list(value) == ["prefix"]:
        low = number(field, value["prefix"]["addr"])
        rest = field.bits - int(value["prefix"]["len"])
        return ((low, low | ((1 << rest) - 1)),)
    if isinstance(value, dict) and list(value) == ["range"]:
        low, high = value["range"]
        return ((number(field, low), number(field, high)),)
    if field.kind == "name" and isinstance(value, str):
        return name_ranges(value)
    found = number(field, value)
    return ((found, found),)
