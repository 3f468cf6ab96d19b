# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge one match of a native rule: whether iptables tools read it back as it is.

A closed list: what is not known to come back exactly is named as a problem. Private to the collection: not meant to be
used from anywhere else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Iterator

#: The ways to name the protocol above IP.
PROTOCOLS = ("meta l4proto", "ip protocol", "ip6 nexthdr")

_ZERO_NAMES = ("ip", "hopopt")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@=,~^%#$&()!+-]{1,15}\*?\Z")
_NO_INPUT = ("OUTPUT", "POSTROUTING")
_NO_OUTPUT = ("PREROUTING", "INPUT")
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
_SIX_FLAGS = 0x3F
_MAX_PORT = 65535

_WORDS = {
    "concat": "a concatenation",
    "exthdr": "an extension header",
    "ip option": "an IP option",
    "tcp option": "a TCP option",
}

Check = Callable[[str, str, Any, Any], Iterator[str]]


def pair(statement: Any) -> tuple[str, Any]:
    """The only key of a JSON object and its value."""
    if not isinstance(statement, dict) or len(statement) != 1:
        return "a statement that nft prints in no known form", None
    ((kind, value),) = statement.items()
    return str(kind), value


def is_known(field: str) -> bool:
    """Whether iptables knows the field, and what it is compared with decides."""
    return field in _MATCHES


def field_of(left: Any) -> tuple[str, Any]:
    """What a match looks at, in nft's words, and the mask."""
    kind, value = pair(left)
    if kind == "meta" and isinstance(value, dict):
        return f"meta {value.get('key')}", None
    if kind == "payload" and isinstance(value, dict):
        if "protocol" in value:
            return _payload(str(value["protocol"]), str(value.get("field"))), None
        return ("raw payload of layer 2" if value.get("base") == "ll" else "raw payload"), None
    if kind == "&" and isinstance(value, list) and len(value) == 2:
        return field_of(value[0])[0], value[1]
    if kind in ("&", "|", "^", "<<", ">>"):
        return "arithmetic", None
    if kind == "ct" and isinstance(value, dict):
        return f"ct {value.get('dir') or value.get('key')}", None
    return _WORDS.get(kind, kind), None


def _payload(protocol: str, field: str) -> str:
    if protocol == "ether":
        return "ether type" if field == "type" else "ether address"
    return "th" if protocol == "th" else f"{protocol} {field}"


def foreign_field(left: Any) -> Iterator[str]:
    """What is a problem whatever it is compared with."""
    name, _mask = field_of(left)
    if name == "a concatenation":
        for part in left["concat"] if isinstance(left.get("concat"), list) else ():
            yield from (found for found in foreign_field(part) if found != "th")
    if name not in _MATCHES:
        yield name


def match_problems(match: Any, family: str, chain: str) -> Iterator[str]:
    if not isinstance(match, dict):
        yield "a match that nft prints in no known form"
        return
    name, mask = field_of(match.get("left"))
    foreign = list(foreign_field(match.get("left")))
    yield from foreign
    right, op = match.get("right"), str(match.get("op"))
    if _is(right, "set"):
        yield "a set"
    elif isinstance(right, str) and right.startswith("@"):
        yield "a named set"
    elif not foreign:
        yield from _interface_place(name, chain)
        yield from _MATCHES[name](family, op, right, mask)


def _is(right: Any, kind: str) -> bool:
    return isinstance(right, dict) and kind in right


def _interface_place(name: str, chain: str) -> Iterator[str]:
    if name in ("meta iifname", "meta iif") and chain in _NO_INPUT:
        yield "an input interface in this chain"
    if name in ("meta oifname", "meta oif") and chain in _NO_OUTPUT:
        yield "an output interface in this chain"


def _plain(op: str, right: Any, mask: Any) -> str | None:
    """What is wrong where only one value may be compared, with == or !=."""
    if mask is not None:
        return "a mask"
    if _is(right, "range"):
        return "a range"
    if op not in ("==", "!="):
        return "a comparison"
    return None


def is_within(value: Any, low: int, high: int) -> bool:
    """Whether it is a number from low to high."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _interface_name(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    wrong = _plain(op, right, mask)
    if wrong:
        yield wrong
    elif isinstance(right, str) and right.endswith("+"):
        yield "an interface name that ends with +"
    elif not isinstance(right, str) or not _INTERFACE.match(right):
        yield "an interface name with odd characters"


def _index(word: str) -> Check:
    # The loopback is number 1 in every network namespace; the number of any other belongs to its interface.
    def check(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
        wrong = _plain(op, right, mask)
        if wrong or right != "lo":
            yield wrong or word

    return check


def _address(of: str) -> Check:
    def check(family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
        if family != of:
            yield f"addresses of {of} in a table of {family}"
        elif _is(right, "range"):
            yield "a range of addresses"
        elif op not in ("==", "!="):
            yield "a comparison"
        else:
            yield from _address_bits(right, mask)

    return check


def _address_bits(right: Any, mask: Any) -> Iterator[str]:
    length = None
    if _is(right, "prefix") and isinstance(right["prefix"], dict):
        length, right = right["prefix"].get("len"), right["prefix"].get("addr")
    try:
        # A number would be an address too.
        address = ipaddress.ip_address(str(right))
        bits = -1 if mask is None else int(ipaddress.ip_address(str(mask)))
    except ValueError:
        yield "an address that nft prints in no known form"
        return
    width = address.max_prefixlen
    if length is not None:
        bits = (1 << width) - (1 << (width - length)) if is_within(length, 0, width) else 0
    if bits == 0:
        yield "a prefix of length 0"
    elif int(address) & ~bits:
        yield "address bits outside the prefix"


def _protocol(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    wrong = _plain(op, right, mask)
    if wrong:
        yield wrong
    elif right == 0 or (isinstance(right, str) and right.lower() in _ZERO_NAMES):
        yield "protocol 0"
    elif not isinstance(right, str) and not is_within(right, 1, 255):
        yield "a protocol that nft prints in no known form"


def _next_header(_family: str, _op: str, _right: Any, _mask: Any) -> Iterator[str]:
    yield "ip6 nexthdr"


#: The first and last value with which each comparison still says something, and that iptables lists as it is.
def _bounds(op: str, top: int) -> tuple[int, int]:
    return {"==": (0, top), "!=": (0, top), "<": (1, top), ">": (0, top - 1), "<=": (0, top - 1), ">=": (1, top)}.get(
        op, (1, 0)
    )


def _port(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    if mask is not None:
        yield "a mask"
    elif _is(right, "range"):
        low, high = right["range"] if isinstance(right["range"], list) and len(right["range"]) == 2 else (None, None)
        if op not in ("==", "!=") or not is_within(low, 0, _MAX_PORT) or not is_within(high, 0, _MAX_PORT):
            yield "a range"
        elif (low, high) == (0, _MAX_PORT):
            yield "all ports or none"
        elif op == "!=" and low == 0:
            yield "a negated range from port 0"
    else:
        low, high = _bounds(op, _MAX_PORT)
        # iptables lists < 1 as 0:1.
        if not is_within(right, low + (op == "<"), high):
            yield "all ports or none"


def _hops(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    if mask is not None:
        yield "a mask"
    elif _is(right, "range"):
        yield "a range"
    elif not is_within(right, *_bounds(op, 255)):
        yield "all values or none"


def _flags(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    value, bits = _flag_bits(right), _flag_bits(mask)
    if value is None or (mask is not None and bits is None):
        yield "tcp flags without a mask"
    elif (value | (bits or 0)) & ~_SIX_FLAGS:
        yield "tcp flags ecn and cwr"
    # `tcp flags syn` and `tcp flags ! syn` are a mask and a comparison with 0.
    elif op not in (("in", "!") if mask is None else ("==", "!=")):
        yield "tcp flags without a mask"


def _flag_bits(value: Any) -> int | None:
    if isinstance(value, str):
        return _TCP_FLAGS.get(value)
    if is_within(value, 0, 255):
        return int(value)
    parts = value.get("|") if isinstance(value, dict) else value
    if not isinstance(parts, list):
        return None
    bits = 0
    for part in parts:
        found = _flag_bits(part)
        if found is None:
            return None
        bits |= found
    return bits


def _icmp_type(of: str) -> Check:
    def check(family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
        if family != of:
            yield "ICMP of the other family"
        elif op == "!=":
            yield "a negated ICMP type"
        elif right == 255:
            yield "ICMP type 255"
        else:
            wrong = _plain(op, right, mask)
            if wrong:
                yield wrong

    return check


def _icmp_code(of: str) -> Check:
    def check(family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
        if family != of:
            yield "ICMP of the other family"
        elif op == "!=" or _plain(op, right, mask):
            yield "an ICMP code without a type"

    return check


def _mark(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    if _is(right, "range"):
        yield "a range"
    elif op not in ("==", "!="):
        yield "a comparison"
    # nft 1.0.6 prints a mask of the highest bits as a prefix.
    elif not (_is(right, "prefix") and mask is None) and not (_is_mark(right) and (mask is None or _is_mark(mask))):
        yield "arithmetic"


def _is_mark(value: Any) -> bool:
    return is_within(value, 0, 0xFFFFFFFF)


def _packet_type(_family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    wrong = _plain(op, right, mask)
    if wrong or right not in ("host", "unicast", "broadcast", "multicast", "other"):
        yield wrong or "a packet type that nft prints in no known form"


def _fragment(family: str, op: str, right: Any, mask: Any) -> Iterator[str]:
    if family != "ip" or mask != 0x1FFF or op not in ("==", "!=") or right != 0:
        yield "ip frag-off"


_MATCHES: dict[str, Check] = {
    "meta iifname": _interface_name,
    "meta oifname": _interface_name,
    "meta iif": _index("iif"),
    "meta oif": _index("oif"),
    "ip saddr": _address("ip"),
    "ip daddr": _address("ip"),
    "ip6 saddr": _address("ip6"),
    "ip6 daddr": _address("ip6"),
    "meta l4proto": _protocol,
    "ip protocol": _protocol,
    "ip6 nexthdr": _next_header,
    **{f"{protocol} {port}": _port for protocol in ("tcp", "udp") for port in ("sport", "dport")},
    "tcp flags": _flags,
    "icmp type": _icmp_type("ip"),
    "icmp code": _icmp_code("ip"),
    "icmpv6 type": _icmp_type("ip6"),
    "icmpv6 code": _icmp_code("ip6"),
    "meta mark": _mark,
    "meta pkttype": _packet_type,
    "ip ttl": _hops,
    "ip6 hoplimit": _hops,
    "ip frag-off": _fragment,
}
