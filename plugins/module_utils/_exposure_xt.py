# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the arguments of iptables' matches and targets, which nft's JSON leaves out.

The k-th line of a chain in iptables-save is the k-th rule of that chain in the JSON. Where the numbers or the names
differ, nothing is taken over. May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    ACCEPT,
    DROP,
    GOTO,
    JUMP,
    REJECT,
    RETURN,
    Calculated,
    Match,
    Nat,
    Notrack,
    Opaque,
    Verdict,
    Write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import (
    CT_STATES,
    CT_STATUS,
    ICMP,
    PROTOCOLS,
    ROUTE_TYPES,
    TCP_FLAGS,
    Unreadable,
    name_ranges,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import single
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import merge
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import (
    SaveError,
    parse_save,
    words,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Op, Value
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

    Places = t.Dict[t.Tuple[str, str, str], t.Tuple[str, ...]]

_TOP = (1 << 32) - 1
# Targets that change nothing which this model reads.
_QUIET = frozenset(("LOG", "NFLOG", "TCPMSS", "CHECKSUM", "TRACE", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "ULOG"))
_PLAIN = {"ACCEPT": ACCEPT, "DROP": DROP, "RETURN": RETURN}


def saved(texts: t.Mapping[str, str]) -> Places:
    """The lines of every chain by family, table and chain, from iptables-save (`ip`) and ip6tables-save (`ip6`)."""
    found: Places = {}
    for family, text in texts.items():
        try:
            tables = parse_save(text)
        except SaveError:
            continue
        for name, table in tables.items():
            for chain, lines in table.chains.items():
                found[(family, name, chain)] = lines
    return found


def fits(lines: t.Sequence[str], rules: t.Sequence[t.Sequence[t.Any]]) -> bool:
    """Tell whether the lines are the rules of a chain: as many, with the same matches, targets and jumps."""
    return len(lines) == len(rules) and all(_same(words(line), expr) for line, expr in zip(lines, rules))


def _same(line: list[str], expr: t.Sequence[t.Any]) -> bool:
    pairs = list(zip(line, line[1:]))
    matches = [name for option, name in pairs if option == "-m"]
    ends = {name for option, name in pairs if option in ("-j", "-g")}
    if "NOTRACK" in ends:
        ends.add("CT")
    for item in expr:
        if not isinstance(item, dict) or len(item) != 1:
            return False
        ((kind, body),) = item.items()
        if kind == "xt" and body["type"] == "match" and body["name"] not in matches:
            return False
        if kind == "xt" and body["type"] == "target" and body["name"] not in ends:
            return False
        if kind in ("jump", "goto") and body["target"] not in ends:
            return False
    return True


def with_xt(expr: t.Sequence[t.Any]) -> bool:
    return any(isinstance(item, dict) and "xt" in item for item in expr)


def by_name(body: t.Mapping[str, t.Any]) -> list[Op]:
    """What can be said of a match or target whose arguments are not known."""
    name = str(body.get("name", ""))
    if body.get("type") == "match":
        return [] if name == "comment" else [Opaque(f"the match {name} of iptables, without its arguments")]
    if name in _QUIET:
        return []
    if name == "REJECT":
        return [Verdict(REJECT)]
    return [Opaque(f"the target {name} of iptables, without its arguments", final=True)]


def operations(line: str, family: str) -> list[Op]:
    """The operations of one line; Unreadable if any word of it is not understood."""
    return _Line(words(line)[2:], 4 if family == "ip" else 6).read()


class _Line:
    """Reads the words of one rule from left to right."""

    def __init__(self, rest: list[str], family: int) -> None:
        self.rest = rest
        self.family = family
        self.word = "ip" if family == 4 else "ip6"
        self.proto = ""
        self.match = ""
        self.negated = False
        self.ops: list[Op] = []

    def read(self) -> list[Op]:
        while self.rest:
            word = self.rest.pop(0)
            if word == "!":
                self.negated = True
                continue
            if word in ("-j", "-g"):
                self._target(word)
            elif word == "-m":
                self.match = self._take()
            else:
                method = _OPTIONS.get((self.match, word)) or _OPTIONS.get(("", word))
                if method is None:
                    raise Unreadable(f"the option {word} of the match {self.match or 'of its own'}")
                method(self)
            self.negated = False
        return self.ops

    def _take(self) -> str:
        if not self.rest:
            raise Unreadable("a line that ends early")
        return self.rest.pop(0)

    def _add(self, key: str, ranges: Ranges, mask: int | None = None) -> None:
        self.ops.append(Match(key, ranges, self.negated, mask))

    def _address(self, side: str) -> None:
        network = ipaddress.ip_network(self._take(), strict=False)
        if (network.version == 6) != (self.family == 6):
            raise Unreadable("an address of the other family")
        self._add(f"{self.word} {side}", ((int(network.network_address), int(network.broadcast_address)),))

    def source(self) -> None:
        self._address("saddr")

    def destination(self) -> None:
        self._address("daddr")

    def _link(self, key: str) -> None:
        name = self._take()
        if "*" in name:
            raise Unreadable("an interface name with a star")
        self._add(key, name_ranges(f"{name[:-1]}*" if name.endswith("+") else name))

    def iif(self) -> None:
        self._link("meta iifname")

    def oif(self) -> None:
        self._link("meta oifname")

    def protocol(self) -> None:
        name = self._take()
        number = PROTOCOLS.get(name)
        if number is None:
            number = int(name) if name.isdigit() else -1
        if number < 0:
            raise Unreadable(f"the protocol {name}")
        if not self.negated:
            self.proto = name
        self._add("meta l4proto", single(number))

    def _port(self, side: str) -> None:
        low, colon, high = self._take().partition(":")
        self._add(f"{self.match} {side}", ((int(low or 0), int((high or 65535) if colon else low)),))

    def sport(self) -> None:
        self._port("sport")

    def dport(self) -> None:
        self._port("dport")

    def tcp_flags(self) -> None:
        mask, comp = (_bits(self._take(), TCP_FLAGS, {"ALL": 255, "NONE": 0}) for _number in range(2))
        self._add("tcp flags", single(comp), mask)

    def _ports(self, side: str) -> None:
        found = []
        for item in self._take().split(","):
            low, _colon, high = item.partition(":")
            found.append((int(low), int(high or low)))
        if self.proto not in ("tcp", "udp", "sctp", "dccp", "udplite"):
            raise Unreadable("ports without a protocol")
        self._add(f"{self.proto} {side}", tuple(merge(found)))

    def sports(self) -> None:
        self._ports("sport")

    def dports(self) -> None:
        self._ports("dport")

    def comment(self) -> None:
        self._take()

    def ct_state(self) -> None:
        """Any of the states; SNAT and DNAT are bits of the status."""
        names = self._take().split(",")
        status = sum(CT_STATUS[name.lower()] for name in names if name in ("SNAT", "DNAT"))
        states = ",".join(name for name in names if name not in ("SNAT", "DNAT"))
        mask = _bits(states, CT_STATES, {}) if states else 0
        if status and (mask or self.negated):
            raise Unreadable("a state beside a translation")
        # Other conditions of the same match are not asked without a connection.
        more = next((word for word in self.rest if word in ("-m", "-j", "-g") or word.startswith("--ct")), "")
        without = bool(mask & (CT_STATES["invalid"] | CT_STATES["untracked"])) != self.negated
        if more.startswith("--ct") and without:
            raise Unreadable("a state without a connection beside other conditions")
        if status:
            self.ops.append(Match("ct status", single(0), True, status))
        else:
            self.ops.append(Match("ct state", single(0), not self.negated, mask))

    def ct_status(self) -> None:
        names = self._take()
        mask = _bits(names.replace("_", "-"), {**CT_STATUS, "seen-reply": 2}, {})
        if names == "NONE" or not mask:
            raise Unreadable("the status NONE")
        self.ops.append(Match("ct status", single(0), not self.negated, mask))

    def _ct_address(self, side: str) -> None:
        network = ipaddress.ip_network(self._take(), strict=False)
        low, high = int(network.network_address), int(network.broadcast_address)
        self._add(f"ct original {self.word} {side}", ((low, high),))

    def ct_source(self) -> None:
        self._ct_address("saddr")

    def ct_destination(self) -> None:
        self._ct_address("daddr")

    def _ct_port(self, side: str) -> None:
        low, _colon, high = self._take().partition(":")
        self._add(f"ct original {side}", ((int(low), int(high or low)),))

    def ct_source_port(self) -> None:
        self._ct_port("proto-src")

    def ct_destination_port(self) -> None:
        self._ct_port("proto-dst")

    def ct_direction(self) -> None:
        name = self._take()
        self._add("ct direction", single(0 if name == "ORIGINAL" else 1))

    def ct_protocol(self) -> None:
        name = self._take()
        self._add("ct original protocol", single(PROTOCOLS[name] if name in PROTOCOLS else int(name)))

    def _typed(self, side: str) -> None:
        names = self._take().split(",")
        if self.family == 6 and names != ["LOCAL"]:
            raise Unreadable("types of IPv6 addresses")
        flag = ""
        for option, found in (("--limit-iface-in", ",iif"), ("--limit-iface-out", ",oif")):
            if option in self.rest:
                flag = found
        numbers = [(ROUTE_TYPES[name.lower()],) * 2 for name in names]
        self._add(f"fib {side}{flag} type", tuple(merge((low, high) for low, high in numbers)))

    def source_type(self) -> None:
        self._typed("saddr")

    def destination_type(self) -> None:
        self._typed("daddr")

    def nothing(self) -> None:
        """An option that another one has looked at."""

    def _range(self, side: str) -> None:
        low, _dash, high = self._take().partition("-")
        first = int(ipaddress.ip_address(low))
        self._add(f"{self.word} {side}", ((first, int(ipaddress.ip_address(high or low))),))

    def source_range(self) -> None:
        self._range("saddr")

    def destination_range(self) -> None:
        self._range("daddr")

    def mark(self) -> None:
        value, mask = _mark(self._take())
        self._add("ct mark" if self.match == "connmark" else "meta mark", single(value), mask)

    def icmp(self) -> None:
        kind, _slash, code = self._take().partition("/")
        if kind not in ("any", "255"):
            number = ICMP.get(kind)
            self._add("icmp type", single(int(kind) if number is None else number))
            if code:
                if self.negated:
                    raise Unreadable("a negated ICMP code")
                self._add("icmp code", single(int(code)))

    def _target(self, how: str) -> None:
        name = self._take()
        if name in _PLAIN:
            self.ops.append(Verdict(_PLAIN[name]))
        elif name == "REJECT":
            self.rest.clear()
            self.ops.append(Verdict(REJECT, detail="iptables"))
        elif name in _QUIET:
            self.rest.clear()
        elif name in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT"):
            self.ops.append(self._nat(name))
        elif name in ("MARK", "CONNMARK"):
            self.ops.append(self._set_mark("meta mark" if name == "MARK" else "ct mark"))
        elif name == "NOTRACK" or (name == "CT" and self.rest == ["--notrack"]):
            self.rest.clear()
            self.ops.append(Notrack())
        elif name.isupper() and name in ("QUEUE", "NFQUEUE", "TPROXY", "CT", "SET", "SYNPROXY", "TEE", "NETMAP"):
            raise Unreadable(f"the target {name}")
        elif self.rest:
            raise Unreadable(f"the target {name} with options")
        else:
            self.ops.append(Verdict(JUMP if how == "-j" else GOTO, name))

    def _nat(self, name: str) -> Nat:
        kind = name.lower()
        address: Value | None = None
        port: Value | None = None
        while self.rest:
            option = self._take()
            if option in ("--to-destination", "--to-source"):
                address, port = _place(self._take(), self.family)
            elif option == "--to-ports":
                port = int(self._take())
            elif option != "--persistent":
                raise Unreadable(f"the option {option} of {name}")
        return Nat(kind, self.family, address, port)

    def _set_mark(self, key: str) -> Write:
        option = self._take()
        if option != "--set-xmark" or len(self.rest) != 1:
            raise Unreadable(f"the option {option}")
        value, mask = _mark(self._take())
        if key == "ct mark" and mask != _TOP:
            raise Unreadable("bits of the connection's mark")
        return Write(key, value if mask == _TOP else Calculated(key, _TOP & ~mask, value))


def _bits(text: str, known: t.Mapping[str, int], more: t.Mapping[str, int]) -> int:
    result = 0
    for name in text.split(","):
        if name in more:
            result |= more[name]
        elif name.lower() in known:
            result |= known[name.lower()]
        else:
            raise Unreadable(f"the word {name:.30}")
    return result


def _mark(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if slash else _TOP


def _place(text: str, family: int) -> tuple[int | None, int | None]:
    """An address, a port, or both, as DNAT and SNAT take them; ranges are not understood."""
    if family == 6:
        host, _bracket, port = text.lstrip("[").partition("]")
        port = port.lstrip(":")
    else:
        host, _colon, port = text.partition(":")
    try:
        found = int(ipaddress.ip_address(host)) if host else None
        return found, int(port) if port else None
    except ValueError as exc:
        raise Unreadable("a range of addresses or ports") from exc


_OPTIONS: dict[tuple[str, str], t.Callable[[_Line], None]] = {
    ("", "-s"): _Line.source,
    ("", "-d"): _Line.destination,
    ("", "-i"): _Line.iif,
    ("", "-o"): _Line.oif,
    ("", "-p"): _Line.protocol,
    ("tcp", "--tcp-flags"): _Line.tcp_flags,
    ("multiport", "--sports"): _Line.sports,
    ("multiport", "--dports"): _Line.dports,
    ("comment", "--comment"): _Line.comment,
    ("conntrack", "--ctstate"): _Line.ct_state,
    ("state", "--state"): _Line.ct_state,
    ("conntrack", "--ctorigsrc"): _Line.ct_source,
    ("conntrack", "--ctorigdst"): _Line.ct_destination,
    ("conntrack", "--ctorigsrcport"): _Line.ct_source_port,
    ("conntrack", "--ctorigdstport"): _Line.ct_destination_port,
    ("conntrack", "--ctstatus"): _Line.ct_status,
    ("conntrack", "--ctdir"): _Line.ct_direction,
    ("conntrack", "--ctproto"): _Line.ct_protocol,
    ("addrtype", "--src-type"): _Line.source_type,
    ("addrtype", "--dst-type"): _Line.destination_type,
    ("addrtype", "--limit-iface-in"): _Line.nothing,
    ("addrtype", "--limit-iface-out"): _Line.nothing,
    ("iprange", "--src-range"): _Line.source_range,
    ("iprange", "--dst-range"): _Line.destination_range,
    ("mark", "--mark"): _Line.mark,
    ("connmark", "--mark"): _Line.mark,
    ("icmp", "--icmp-type"): _Line.icmp,
}
for _protocol in ("tcp", "udp", "dccp", "sctp", "udplite"):
    _OPTIONS[(_protocol, "--sport")] = _Line.sport
    _OPTIONS[(_protocol, "--dport")] = _Line.dport
