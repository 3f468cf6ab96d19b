# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ipsets as sets of nft.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user import IpSet
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import (
    ALWAYS,
    NEVER,
    PORTED,
    PROTOCOLS,
    header,
    number,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import (
    MAX_PORT,
    address_text,
    merge,
    number_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import Option, RuleError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import SaveError, words
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_words import comment

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import Alternatives
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

#: Options of `create` that say nothing about which packets match, with the number of words they take.
_HARMLESS = {"hashsize": 1, "maxelem": 1, "bucketsize": 1, "initval": 1, "range": 1, "comment": 0, "forceadd": 0}
#: What a set asks a packet for. A port comes with its protocol.
_TYPES = {
    "hash:ip": ("ip",),
    "bitmap:ip": ("ip",),
    "hash:net": ("net",),
    "hash:mac": ("mac",),
    "bitmap:port": ("port",),
    "hash:ip,port": ("ip", "port"),
    "hash:net,port": ("net", "port"),
    "hash:ip,port,ip": ("ip", "port", "ip"),
    "hash:net,net": ("net", "net"),
}


def parse_ipsets(text: str) -> dict[str, IpSet]:
    """The sets that `ipset save` prints. Raises SaveError for a line that could be anything else."""
    found: dict[str, IpSet] = {}
    elements: dict[str, list[str]] = {}
    for number_, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        # Names are printed as they are; only comments are quoted.
        word = line.split(None, 3)
        word[3:] = words(word[3]) if len(word) > 3 else []
        if len(word) >= 3 and word[0] == "create":
            found[word[1]] = _created(word[1], word[2], word[3:])
            elements[word[1]] = []
        elif len(word) >= 3 and word[0] == "add" and word[1] in found:
            elements[word[1]].append(word[2])
            if not found[word[1]].problem:
                problem = _element_problem(word[3:])
                found[word[1]] = IpSet(word[1], found[word[1]].type, found[word[1]].family, (), problem)
        else:
            raise SaveError(f"line {number_} of ipset save cannot be understood: {line[:120]!r}")
    return {
        name: IpSet(name, each.type, each.family, tuple(sorted(elements[name])), each.problem)
        for name, each in found.items()
    }


def _created(name: str, kind: str, options: list[str]) -> IpSet:
    family, problem, rest = "inet", "", list(options)
    while rest:
        word = rest.pop(0)
        if word == "family" and rest:
            family = rest.pop(0)
        elif word in _HARMLESS:
            del rest[: _HARMLESS[word]]
        else:
            problem = f"it has the option {word}"
            break
    return IpSet(name, kind, family, (), problem)


def _element_problem(options: list[str]) -> str:
    if not options or (options[0] == "comment" and len(options) == 2):
        return ""
    return f"an element of it has the option {options[0]}"


@dataclass
class Sets:
    """The ipsets that rules ask, as sets of the table. Names of ours, since theirs may be anything."""

    known: t.Mapping[str, IpSet]
    names: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def match(self, option: Option, family: int, of: int | None, ports: bool) -> Alternatives:
        """--match-set: the set with the parts of the packet that its flags name.

        `of` is the protocol of all packets of the rule; `ports` tells that the rule asks for something that only packets
        with ports have.
        """
        name, flags = option.values[0], option.values[1].split(",")
        ipset = self.known.get(name)
        if ipset is None:
            raise RuleError(f"the ipset {name} is not there")
        kinds = _TYPES.get(ipset.type)
        if kinds is None:
            raise RuleError(f"the ipset {name} has the type {ipset.type}, which no set of nftables has")
        if ipset.problem:
            raise RuleError(f"the ipset {name} cannot be a set of nftables: {ipset.problem}")
        if "ip" in kinds or "net" in kinds:
            if ipset.family != ("inet" if family == 4 else "inet6"):
                raise RuleError(f"the ipset {name} has the family {ipset.family}: it never matches IPv{family}")
        if len(flags) < len(kinds) or not set(flags) <= {"src", "dst"}:
            raise RuleError(f"the ipset {name} needs {len(kinds)} of src and dst")
        if option.negated and ("mac" in kinds or ("port" in kinds and not ports)):
            advice = "; with -m tcp or -m udp in the rule it could be translated" if "port" in kinds else ""
            raise RuleError(
                f"! with the ipset {name} also matches packets that have no {kinds[-1]}, and nftables cannot{advice}"
            )
        keys = " . ".join(_key(kind, flag, family) for kind, flag in zip(kinds, flags))
        negation = "!= " if option.negated else ""
        if kinds != ("port",):
            return (f"{keys.replace('th ', 'meta l4proto . th ')} {negation}@{self._of(ipset, kinds, family)}",)
        # This type knows TCP and UDP, and does not tell them apart.
        if of is not None and of not in (6, 17):
            return ALWAYS if option.negated else NEVER
        guard = "" if of else "meta l4proto { 6, 17 } "
        return (f"{guard}{keys} {negation}@{self._of(ipset, kinds, family)}",)

    def _of(self, ipset: IpSet, kinds: tuple[str, ...], family: int) -> str:
        if ipset.name not in self.names:
            elements = _elements(ipset, kinds, family)
            self.names[ipset.name] = f"ipset_{len(self.names) + 1}"
            self.texts.append(_set_text(self.names[ipset.name], ipset.name, kinds, elements, family))
        return self.names[ipset.name]


def _key(kind: str, flag: str, family: int) -> str:
    side = "s" if flag == "src" else "d"
    if kind == "mac":
        if flag == "dst":
            raise RuleError("nftables has nothing for the address of Ethernet a packet was sent to")
        return "ether saddr"
    if kind == "port":
        return f"th {side}port"
    return f"{header(family)} {side}addr"


def _elements(ipset: IpSet, kinds: tuple[str, ...], family: int) -> list[str]:
    if len(kinds) == 1 and kinds[0] in ("ip", "net"):
        return [address_text(each, family) for each in merge(_addresses(each, family) for each in ipset.elements)]
    if kinds == ("port",):
        ends = [_ends(each, MAX_PORT, "-") for each in ipset.elements]
        return [number_text(each) for each in merge(ends)]
    if kinds == ("mac",):
        return sorted({each.lower() for each in ipset.elements})
    return [" . ".join(parts) for parts in _concatenated(ipset, kinds, family)]


def _concatenated(ipset: IpSet, kinds: tuple[str, ...], family: int) -> list[list[str]]:
    """Elements of several parts. Those of nft must not overlap, and only networks could."""
    boxes: dict[tuple[t.Any, ...], list[str]] = {}
    for element in ipset.elements:
        values = element.split(",")
        if len(values) != len(kinds):
            raise RuleError(f"the ipset {ipset.name} has the element {element}")
        box: list[t.Any] = []
        parts: list[str] = []
        for kind, value in zip(kinds, values):
            if kind == "port":
                protocol, port = _protocol_and_port(value)
                box += [(protocol, protocol), (port, port)]
                parts += [str(protocol), str(port)]
            else:
                box.append(_addresses(value, family))
                parts.append(address_text(box[-1], family))
        boxes[tuple(box)] = parts
    if "net" in kinds:
        _refuse_overlaps(ipset, list(boxes))
    return [boxes[box] for box in sorted(boxes)]


def _refuse_overlaps(ipset: IpSet, boxes: list[tuple[t.Any, ...]]) -> None:
    boxes.sort()
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            if other[0][0] > one[0][1]:
                break
            if all(a[0] <= b[1] and b[0] <= a[1] for a, b in zip(one, other)):
                raise RuleError(f"the ipset {ipset.name} has networks that overlap, which sets of nftables cannot")


def _protocol_and_port(value: str) -> tuple[int, int]:
    name, _colon, port = value.partition(":")
    protocol = PROTOCOLS.get(name, 0)
    if protocol not in PORTED or name == "dccp":
        raise RuleError(f"{value} in an ipset has no port that nftables could ask for")
    return protocol, number(port, MAX_PORT, "the port")


def _ends(value: str, limit: int, between: str) -> Interval:
    low, separator, high = value.partition(between)
    first = number(low, limit, "the element")
    return first, number(high, limit, "the element") if separator else first


def _addresses(value: str, family: int) -> Interval:
    low, dash, high = value.partition("-")
    try:
        if dash:
            return int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high))
        net = ipaddress.ip_network(value, strict=False)
    except ValueError as exc:
        raise RuleError(f"{value} in an ipset is not an address") from exc
    if net.version != family:
        raise RuleError(f"{value} in an ipset is not an address of IPv{family}")
    return int(net.network_address), int(net.broadcast_address)


def _set_text(name: str, theirs: str, kinds: tuple[str, ...], elements: list[str], family: int) -> str:
    types = {"ip": f"ipv{family}_addr", "net": f"ipv{family}_addr", "mac": "ether_addr", "port": "inet_service"}
    spelled = [types[kind] for kind in kinds]
    if len(kinds) > 1:
        spelled = [f"inet_proto . {each}" if each == "inet_service" else each for each in spelled]
    lines = [f"    set {name} {{", f"        type {' . '.join(spelled)}"]
    # Neighbours are joined, so that even a set of single addresses may have intervals.
    if "net" in kinds or len(kinds) == 1 and kinds[0] != "mac":
        lines.append("        flags interval")
    lines.append(f"        comment {comment(theirs)}")
    if elements:
        lines += ["        elements = {", *(f"            {element}," for element in elements), "        }"]
    return "\n".join([*lines, "    }"])
