# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Matches of iptables as expressions of nft: what is in the packet and where it comes from.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A match gives alternatives: texts of which never more than one holds for a packet. An empty text always holds, no
alternative at all never does. An expression of nft that cannot be computed does not hold, negated or not; so does a
match of iptables, and where it does not, the match is written out or refused.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import MAX_PORT, merge, number_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import Match, Option, RuleError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import ALL, number_of

if t.TYPE_CHECKING:
    Alternatives = t.Tuple[str, ...]

ALWAYS: tuple[str, ...] = ("",)
NEVER: tuple[str, ...] = ()
#: Numbers as well as names, so that no /etc/protocols is asked. iptables-save prints the names.
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ipv6-crypt": 50,
    "ah": 51,
    "ipv6-auth": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "eigrp": 88,
    "ospf": 89,
    "ipv6-mh": 135,
    "mh": 135,
    "etherip": 97,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
}
#: Protocols with ports, as nft calls their headers.
PORTED = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_FLAGS = {"FIN": "fin", "SYN": "syn", "RST": "rst", "PSH": "psh", "ACK": "ack", "URG": "urg"}
_TYPES4 = ("UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT")
#: For IPv6 iptables asks only the address for these types, and whether it is in a prefix.
_RANGES6 = {
    "MULTICAST": ("ff00::/8", "!= ff00::/8"),
    "UNICAST": ("!= { ::, ::ffff:0.0.0.0/96, ff00::/8 }", "{ ::, ::ffff:0.0.0.0/96, ff00::/8 }"),
    "UNSPEC": ("::", "!= ::"),
}
_UNITS = {"sec": "second", "second": "second", "min": "minute", "minute": "minute", "hour": "hour", "day": "day"}
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_PKTTYPES = {"unicast": "host", "broadcast": "broadcast", "multicast": "multicast"}


def sign(option: Option) -> str:
    """What stands in front of a value that must not match."""
    return "!= " if option.negated else ""


def comparison(option: Option) -> str:
    """The same for what has been masked."""
    return "!=" if option.negated else "=="


def number(text: str, limit: int, what: str) -> int:
    """A number as iptables-save prints it."""
    try:
        found = int(text, 0)
    except ValueError as exc:
        raise RuleError(f"{what} {text} is not a number") from exc
    if not 0 <= found <= limit:
        raise RuleError(f"{what} {text} is out of range")
    return found


def number_range(text: str, limit: int, what: str) -> tuple[int, int]:
    """A number, or two with a colon in between."""
    low, colon, high = text.partition(":")
    first = number(low, limit, what)
    last = number(high, limit, what) if colon else first
    if first > last:
        raise RuleError(f"{what} {text} begins behind its end")
    return first, last


def interface(option: Option) -> Alternatives:
    """-i and -o: a plus sign at the end stands for any rest, and a star for itself."""
    name, key = option.value, "iifname" if option.name == "-i" else "oifname"
    if name == "+":
        return NEVER if option.negated else ALWAYS
    if name.endswith("+"):
        pattern = name[:-1] + "*"
    elif name.endswith("*"):
        pattern = name[:-1] + "\\*"
        name = name[:-1]
    else:
        pattern = name
    quotable_name(name)
    return (f'{key} {sign(option)}"{pattern}"',)


def named(key: str, pattern: str) -> str:
    """An interface by its name or a pattern of nft's."""
    quotable_name(pattern)
    return f'{key} "{pattern}"'


def quotable_name(name: str) -> None:
    """Raise RuleError for a name that nft would read otherwise."""
    if re.search(r'[^\x21-\x7e]|["\\]', name) or not name:
        raise RuleError(f"nft cannot write the interface {name!r}")


def protocol_number(text: str) -> int:
    """A protocol by its number or name."""
    return PROTOCOLS[text] if text in PROTOCOLS else number(text, 255, "the protocol")


def protocol_text(found: int) -> str:
    """A protocol as it is written: the names of those that every nft knows."""
    return {6: "tcp", 17: "udp", 1: "icmp", 58: "ipv6-icmp"}.get(found, str(found))


def protocol(option: Option) -> Alternatives:
    """-p; 0 stands for all of them."""
    if option.value in ("0", "all"):
        return NEVER if option.negated else ALWAYS
    return (f"meta l4proto {sign(option)}{protocol_text(protocol_number(option.value))}",)


def address(key: str, value: str, family: int, negated: bool) -> Alternatives:
    """One address, prefix or address with any mask, looked for in what `key` names."""
    negation = "!= " if negated else ""
    plain, _slash, mask = value.partition("/")
    bits = 32 if family == 4 else 128
    make: t.Any = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    try:
        if not mask or mask.isdigit():
            net = ipaddress.ip_network(value, strict=False)
            if net.version != family:
                raise RuleError(f"{value} is not an address of IPv{family}")
            if net.prefixlen == 0:
                return NEVER if negated else ALWAYS
            text = str(net.network_address) if net.prefixlen == bits else str(net)
            return (f"{key} {negation}{text}",)
        where, which = make(plain), make(mask)
    except ValueError as exc:
        raise RuleError(f"{value} is not an address of IPv{family}") from exc
    if int(which) == 0:
        return NEVER if negated else ALWAYS
    inverse = int(which) ^ ((1 << bits) - 1)
    if inverse & (inverse + 1) == 0:
        return address(key, f"{plain}/{bits - inverse.bit_length()}", family, negated)
    return (f"{key} & {which} {'!=' if negated else '=='} {make(int(where) & int(which))}",)


def header(family: int) -> str:
    """What nft calls the header of the family."""
    return "ip" if family == 4 else "ip6"


def iprange(match: Match, family: int) -> list[Alternatives]:
    found: list[Alternatives] = []
    for option in match.options:
        low, dash, high = option.value.partition("-")
        try:
            first, last = ipaddress.ip_address(low), ipaddress.ip_address(high if dash else low)
        except ValueError as exc:
            raise RuleError(f"{option.value} is not a range of addresses") from exc
        if first.version != family or last.version != family or int(first) > int(last):
            raise RuleError(f"{option.value} is not a range of addresses of IPv{family}")
        text = f"{first}-{last}" if first != last else str(first)
        key = f"{header(family)} {'saddr' if option.name == '--src-range' else 'daddr'}"
        found.append((f"{key} {sign(option)}{text}",))
    return found


def _protocol_header(match: Match, of: int | None) -> str:
    name = PORTED.get(of or 0)
    if name is None or match.name not in ("multiport", name):
        raise RuleError(f"the match {match.name} needs the protocol with -p")
    return name


def ports(match: Match, of: int | None) -> list[Alternatives]:
    """--sport and --dport, and --tcp-flags. Without any of them the header still has to be there."""
    name = _protocol_header(match, of)
    found: list[Alternatives] = []
    for option in match.options:
        if option.name == "--tcp-flags":
            mask, wanted = (_tcp_flags(value) for value in option.values)
            found.append((f"tcp flags & {mask} {comparison(option)} {wanted}",))
        else:
            ends = number_range(option.value, MAX_PORT, "the port")
            found.append((f"{name} {option.name[2:]} {sign(option)}{number_text(ends)}",))
    return found or [(f"{name} sport 0-{MAX_PORT}",)]


def _tcp_flags(value: str) -> str:
    names = list(_FLAGS) if value == "ALL" else [] if value == "NONE" else value.split(",")
    if not set(names) <= set(_FLAGS):
        raise RuleError(f"{value} are no flags of TCP that iptables knows")
    flags = [_FLAGS[name] for name in names]
    return f"({' | '.join(flags)})" if len(flags) > 1 else flags[0] if flags else "0x0"


def multiport(match: Match, of: int | None) -> list[Alternatives]:
    name = _protocol_header(match, of)
    found: list[Alternatives] = []
    for option in match.options:
        ends = merge(number_range(part, MAX_PORT, "the port") for part in option.value.split(","))
        text = number_text(ends[0]) if len(ends) == 1 else f"{{ {', '.join(map(number_text, ends))} }}"
        inside, outside = text, f"!= {text}"
        if option.name != "--ports":
            found.append((f"{name} {option.name[2:-1]} {outside if option.negated else inside}",))
        elif option.negated:
            found.append((f"{name} sport {outside} {name} dport {outside}",))
        else:
            found.append((f"{name} sport {inside}", f"{name} sport {outside} {name} dport {inside}"))
    return found


def icmp(match: Match, of: int | None) -> list[Alternatives]:
    name, needs = ("icmp", 1) if match.name == "icmp" else ("icmpv6", 58)
    if of != needs:
        raise RuleError(f"the match {match.name} needs the protocol with -p")
    found: list[Alternatives] = []
    for option in match.options:
        kind, slash, code = option.value.partition("/")
        if option.value in ("any", "255"):
            if option.negated:
                raise RuleError(f"! {option.name} {option.value} matches nothing")
            found.append((f"{name} type 0-255",))
            continue
        wanted = number(kind, 254, "the type of ICMP")
        if not slash:
            found.append((f"{name} type {sign(option)}{wanted}",))
        elif option.negated:
            found.append((f"{name} type . {name} code != {{ {wanted} . {number(code, 255, 'the code')} }}",))
        else:
            found.append((f"{name} type {wanted} {name} code {number(code, 255, 'the code')}",))
    return found


def marked(key: str, option: Option) -> Alternatives:
    """--mark of a packet or a connection."""
    value, mask = value_and_mask(option.value)
    # Marks of connections cannot be read without a connection, so even what always holds has to be written out.
    if mask == ALL:
        return (f"{key} {sign(option)}{value:#x}",)
    return (f"{key} & {mask:#x} {comparison(option)} {value:#x}",)


def value_and_mask(text: str) -> tuple[int, int]:
    """A mark with its mask."""
    value, slash, mask = text.partition("/")
    found, limit = number_of(value), number_of(mask) if slash else ALL
    if found is None or limit is None:
        raise RuleError(f"{text} is not a mark")
    return found, limit


def limit(match: Match) -> Alternatives:
    """Both fill a bucket of `burst` packets at the given rate, and both begin with a full one."""
    rate, burst = match.one("--limit"), match.one("--limit-burst")
    every, slash, unit = (rate.value if rate else "3/hour").partition("/")
    if unit not in _UNITS or not slash:
        raise RuleError(f"the rate {rate.value if rate else ''} is not one that iptables prints")
    count = number(every, 10**6, "the rate")
    packets = number(burst.value, 10**6, "the burst") if burst else 5
    if not count or not packets or any(option.negated for option in match.options):
        raise RuleError("such a limit is not one that iptables prints")
    return (f"limit rate {count}/{_UNITS[unit]} burst {packets} packets",)


def addrtype(match: Match, family: int) -> list[Alternatives]:
    device = ""
    if match.one("--limit-iface-in"):
        device = " . iif"
    elif match.one("--limit-iface-out"):
        device = " . oif"
    found: list[Alternatives] = []
    for option in match.options:
        if option.name not in ("--src-type", "--dst-type"):
            continue
        kinds, key = option.value.split(","), "saddr" if option.name == "--src-type" else "daddr"
        if family == 6:
            found.append(_addrtype6(kinds, key, device, option.negated))
            continue
        if not set(kinds) <= set(_TYPES4):
            raise RuleError(f"addresses of the type {option.value} are others in nftables")
        text = kinds[0].lower() if len(kinds) == 1 else f"{{ {', '.join(kind.lower() for kind in kinds)} }}"
        found.append((f"fib {key}{device} type {sign(option)}{text}",))
    return found


def _addrtype6(kinds: list[str], key: str, device: str, negated: bool) -> Alternatives:
    """For IPv6 iptables wants all of the types at once, where for IPv4 it wants one of them."""
    if not set(kinds) <= {"LOCAL", *_RANGES6}:
        raise RuleError("for IPv6 nftables has only LOCAL, MULTICAST, UNICAST and UNSPEC in the same meaning")
    ranges = [_RANGES6[kind] for kind in kinds if kind in _RANGES6]
    wanted = [(f"ip6 {key} {inside}", f"ip6 {key} {outside}") for inside, outside in ranges]
    if "LOCAL" in kinds:
        wanted.append((f"fib {key}{device} type local", f"fib {key}{device} type != local"))
    return _all_of(wanted, negated)


def _all_of(wanted: t.Sequence[tuple[str, str]], negated: bool) -> Alternatives:
    """Several conditions, each with its contrary; negated, the first one that does not hold."""
    if not negated:
        return (" ".join(each[0] for each in wanted),)
    return tuple(
        " ".join([*(each[0] for each in wanted[:place]), contrary]) for place, (_one, contrary) in enumerate(wanted)
    )


def mac(option: Option) -> Alternatives:
    if not _MAC.fullmatch(option.value):
        raise RuleError(f"{option.value} is not an address of Ethernet")
    return (f"ether saddr {sign(option)}{option.value.lower()}",)


def pkttype(option: Option) -> Alternatives:
    if option.value not in _PKTTYPES:
        raise RuleError(f"nftables has no packets of the type {option.value}")
    return (f"meta pkttype {sign(option)}{_PKTTYPES[option.value]}",)


def length(option: Option, family: int) -> Alternatives:
    """The length with its header; IPv6 counts what follows it."""
    low, high = number_range(option.value, MAX_PORT, "the length")
    if family == 6:
        if high < 40:
            raise RuleError(f"no packet of IPv6 has the length {option.value}")
        low, high = max(low - 40, 0), high - 40
    return (f"{header(family)} length {sign(option)}{number_text((low, high))}",)


def tos(option: Option, family: int) -> Alternatives:
    """All eight bits, which nft knows as six and two. It lists single bits of them wrongly, so values are listed."""
    value, mask = value_and_mask(option.value)
    mask = 255 if mask == ALL else mask
    if value > 255 or mask > 255:
        raise RuleError(f"{option.value} is not a type of service")
    wanted: list[tuple[str, str]] = []
    for key, shift, size in ((f"{header(family)} dscp", 2, 64), (f"{header(family)} ecn", 0, 4)):
        values = [each for each in range(size) if each & mask >> shift == value >> shift & size - 1]
        if not values:
            return ALWAYS if option.negated else NEVER
        if len(values) < size:
            text = f"{values[0]:#x}" if len(values) == 1 else f"{{ {', '.join(f'{each:#x}' for each in values)} }}"
            wanted.append((f"{key} {text}", f"{key} != {text}"))
    return _all_of(wanted, option.negated)


def dscp(option: Option, family: int) -> Alternatives:
    return (f"{header(family)} dscp {sign(option)}{number(option.value, 63, 'the DSCP'):#x}",)


def hops(option: Option, family: int) -> Alternatives:
    key = "ip ttl" if option.name.startswith("--ttl") else "ip6 hoplimit"
    if (family == 4) != (key == "ip ttl"):
        raise RuleError(f"{option.name} is not for IPv{family}")
    count = number(option.value, 255, "the number of hops")
    order = {"eq": sign(option), "lt": "< ", "gt": "> "}[option.name[-2:]]
    if option.negated and not option.name.endswith("eq"):
        raise RuleError(f"! {option.name} is not what iptables prints")
    return (f"{key} {order}{count}",)
