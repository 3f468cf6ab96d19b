# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bits of the packet mark are in use on a host, and which one is free.

Packet marks, connection marks and marks of sockets are one thing here: they are copied from one to another.
Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import NamedSet, Rule, Ruleset, Table

ALL = 0xFFFFFFFF
#: Chains of the collection in tables of iptables begin so.
OWN_CHAINS = "BULKHEAD-"
#: Tried in this order. The uppermost byte first: of the well-known tools only Calico's default range reaches there,
#: and of that it takes a few of the lower bits. Then bit 12, which none of them takes. The others are left alone even
#: where nothing uses them yet: Tailscale 0xff0000, Docker's encrypted overlays 0xd0c4e3, Kubernetes 0xc000, wg-quick
#: 0xca6c, CNI and Podman 0x2000, Cilium 0x0f00, AWS 0x80, and the small numbers people choose by hand.
PREFERRED = (
    0x10000000,
    0x20000000,
    0x80000000,
    0x40000000,
    0x08000000,
    0x04000000,
    0x02000000,
    0x01000000,
    0x00001000,
)

_KINDS = ("meta", "ct", "socket")
_MARK = re.compile(r"\bmark\b")
_NAMED = 5


class MarkBitError(Exception):
    """There is no bit to be had; the message says who has it."""


@dataclass(frozen=True)
class MarkUse:
    """Somebody who reads or writes marks.

    `mask` has the bits that count. Who is `whole` looks at or writes all 32 of them; counted are those of the value.
    `value` is None where it is not one number.
    """

    where: str
    value: int | None
    mask: int
    text: str
    whole: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "value": self.value,
            "mask": self.mask,
            "text": self.text,
            "whole": self.whole,
        }


def used_mask(uses: Iterable[MarkUse], own_bits: int = 0) -> int:
    """All bits that somebody uses.

    Who touches nothing but the bits this collection chose does so because of it: that is how to make an exception.
    """
    return reduce(int.__or__, (use.mask for use in uses if use.whole or use.mask & ~own_bits), 0)


def free_bit(used: int, wanted: int | None = None, uses: Iterable[MarkUse] = ()) -> int:
    """The wanted bit, or the first of PREFERRED that is free; raises MarkBitError where it is taken."""
    if wanted is None:
        for bit in PREFERRED:
            if not bit & used:
                return bit
        users = _users(uses, reduce(int.__or__, PREFERRED, 0))
        tried = ", ".join(hex(bit) for bit in PREFERRED)
        raise MarkBitError(f"no bit of the packet mark is free: {tried} are all in use{users}")
    if not 0 < wanted <= ALL or wanted & (wanted - 1):
        raise MarkBitError(f"{wanted:#x} is not one bit of the packet mark: 1, 2, 4 and so on up to 0x80000000 are")
    if wanted & used:
        raise MarkBitError(f"bit {wanted:#x} of the packet mark is in use{_users(uses, wanted)}")
    return wanted


def _users(uses: Iterable[MarkUse], bits: int) -> str:
    found = [f"{use.where} ({use.text})" for use in uses if use.mask & bits]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f" by {', '.join(found[:_NAMED])}{more}" if found else ""


def is_own(table: Table, chain: str, own_table: str) -> bool:
    """Whether the rules of a chain are this collection's."""
    if table.family == "inet" and table.name == own_table:
        return True
    return table.family in ("ip", "ip6") and chain.startswith(OWN_CHAINS)


def unread_marks(ruleset: Ruleset) -> bool:
    """Whether marks are kept in named sets or maps whose elements were not read."""
    sets = [each for table in ruleset.tables for each in table.sets if each.elements is None]
    return any(_MARK.search(f"{each.type} {each.data_type}") for each in sets)


def uses_in_ruleset(ruleset: Ruleset, own_table: str, names: Mapping[str, int] | None = None) -> list[MarkUse]:
    """Who reads or writes marks with expressions of nft; rules of iptables' own kind have no arguments here.

    `names` are those iproute2 gives to marks, nft prints them too.
    """
    found: list[MarkUse] = []
    for table in ruleset.tables:
        reader = _Reader(table, names or {})
        for chain in table.chains:
            if is_own(table, chain.name, own_table):
                continue
            for rule in chain.rules:
                found.extend(reader.uses(rule, f"{table.label} {chain.name} handle {rule.handle}"))
    return found


def parse_names(text: str) -> dict[str, int]:
    """The names in an rt_marks file of iproute2."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        number = number_of(words[0]) if len(words) == 2 else None
        if number is not None:
            found[words[1]] = number
    return found


def number_of(text: str) -> int | None:
    """A mark as tools print it, None where it is none."""
    try:
        number = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        return None
    return number if 0 <= number <= ALL else None


@dataclass(frozen=True)
class _Bits:
    """What an expression makes of a mark, bit by bit: kept as it is, one, something else, and zero in all others."""

    keep: int = 0
    one: int = 0
    other: int = 0

    @property
    def zero(self) -> int:
        return ALL & ~(self.keep | self.one | self.other)


def _rest(keep: int, one: int, zero: int) -> _Bits:
    return _Bits(keep, one, ALL & ~(keep | one | zero))


def _and(a: _Bits, b: _Bits) -> _Bits:
    return _rest((a.keep & (b.one | b.keep)) | (b.keep & a.one), a.one & b.one, a.zero | b.zero)


def _or(a: _Bits, b: _Bits) -> _Bits:
    one = a.one | b.one
    return _rest(((a.keep & (b.zero | b.keep)) | (b.keep & a.zero)) & ~one, one, a.zero & b.zero)


def _xor(a: _Bits, b: _Bits) -> _Bits:
    zero = (a.zero & b.zero) | (a.one & b.one) | (a.keep & b.keep)
    return _rest((a.keep & b.zero) | (b.keep & a.zero), (a.one & b.zero) | (b.one & a.zero), zero)


_OPERATORS = {"&": _and, "|": _or, "^": _xor}


class _Reader:
    """Reads the rules of one table."""

    def __init__(self, table: Table, names: Mapping[str, int]) -> None:
        self.sets: dict[str, NamedSet] = {each.name: each for each in table.sets}
        self.names = names

    def uses(self, rule: Rule, where: str) -> Iterator[MarkUse]:
        text = rule.text or f"handle {rule.handle}"
        for statement in rule.expr:
            if not isinstance(statement, dict):
                continue
            for value, mask, whole in self._statement(statement):
                yield MarkUse(where, value, mask, text, whole)

    def _statement(self, statement: dict[str, Any]) -> Iterator[tuple[int | None, int, bool]]:
        match, mangle = statement.get("match"), statement.get("mangle")
        if isinstance(match, dict) and _has_mark(match.get("left")):
            yield self._match(match.get("left"), match.get("right"))
            return
        lookups = [(left, data) for left, data in _lookups(statement) if _has_mark(left)]
        for left, data in lookups:
            keys = [pair[0] for pair in self._elements(data) if isinstance(pair, list) and pair]
            yield self._match(left, {"set": keys})
        if isinstance(mangle, dict) and _is_mark(mangle.get("key")):
            yield self._write(mangle["key"], mangle.get("value"))
        elif not lookups and _has_mark(statement):
            # A mark goes into a set, a log, a hash: nobody can tell which bits matter.
            yield None, 0, True

    def _write(self, own: dict[str, Any], value: Any) -> tuple[int | None, int, bool]:
        bits = self._bits(value, own)
        number = None if bits.other else bits.one
        if bits.keep:
            return number, ALL & ~bits.keep, False
        return number, bits.one | (0 if bits.other == ALL else bits.other), True

    def _match(self, left: Any, right: Any) -> tuple[int | None, int, bool]:
        parts = left["concat"] if isinstance(left, dict) and isinstance(left.get("concat"), list) else [left]
        place, part = next((number, part) for number, part in enumerate(parts) if _has_mark(part))
        values = self._elements(right)
        if len(parts) > 1:
            values = [value["concat"][place] for value in values if _is_concat(value, len(parts))]
        seen = self._bits(part, None)
        examined = seen.keep | seen.other
        prefix = _prefix(values[0]) if len(values) == 1 else None
        if prefix is not None:
            # How nft before 1.1 lists a mask of the upper bits.
            return prefix[0], examined & ~(ALL >> prefix[1]), False
        number = self._number(values[0]) if len(values) == 1 else None
        if examined == ALL:
            return number, reduce(int.__or__, (self._reach(value) for value in values), 0), True
        return number, examined, False

    def _bits(self, value: Any, own: dict[str, Any] | None) -> _Bits:
        """What a value is made of; `own` is the mark it is written to, None takes any mark for it."""
        number = self._number(value)
        if number is not None:
            return _Bits(one=number)
        if not isinstance(value, dict) or len(value) != 1:
            return _Bits(other=ALL)
        ((kind, inner),) = value.items()
        if _is_mark(value):
            return _Bits(keep=ALL) if own is None or value == own else _Bits(other=ALL)
        if kind in _OPERATORS and isinstance(inner, list) and inner:
            return reduce(_OPERATORS[kind], (self._bits(each, own) for each in inner))
        if kind == "map" and isinstance(inner, dict):
            found = [pair[1] for pair in self._elements(inner.get("data")) if isinstance(pair, list) and len(pair) == 2]
            return _Bits(other=reduce(int.__or__, (self._reach(each) for each in found), 0) or ALL)
        if kind in ("numgen", "jhash", "symhash") and isinstance(inner, dict):
            return _Bits(other=_up_to(inner.get("offset"), inner.get("mod")))
        return _Bits(other=ALL)

    def _elements(self, right: Any) -> list[Any]:
        if isinstance(right, str) and right.startswith("@"):
            named = self.sets.get(right[1:])
            right = list(named.elements or ()) if named is not None else []
        elif isinstance(right, dict) and isinstance(right.get("set"), (list, str)):
            return self._elements(right["set"])
        if not isinstance(right, list):
            right = [right]
        return [each["elem"].get("val") if _is_element(each) else each for each in right]

    def _number(self, value: Any) -> int | None:
        if isinstance(value, bool):
            return None
        if isinstance(value, int):
            return value & ALL
        if isinstance(value, str):
            return self.names.get(value, number_of(value))
        return None

    def _reach(self, value: Any) -> int:
        """All bits that the numbers of an element may have."""
        number = self._number(value)
        if number is not None:
            return number
        prefix = _prefix(value)
        if prefix is not None:
            return prefix[0] | ALL >> prefix[1]
        ends = value.get("range") if isinstance(value, dict) else None
        if isinstance(ends, list) and len(ends) == 2:
            low, high = self._number(ends[0]), self._number(ends[1])
            if low is not None and high is not None:
                return low | high | ((1 << (low ^ high).bit_length()) - 1)
        return 0


def _is_mark(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return any(isinstance(value.get(kind), dict) and value[kind].get("key") == "mark" for kind in _KINDS)


def _has_mark(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_mark(each) for each in value)
    return _is_mark(value) or (isinstance(value, dict) and any(_has_mark(each) for each in value.values()))


def _lookups(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everything that is looked up in a map inside a statement, with the map."""
    if isinstance(value, list):
        for each in value:
            yield from _lookups(each)
    elif isinstance(value, dict):
        for kind, inner in value.items():
            if kind in ("map", "vmap") and isinstance(inner, dict):
                yield inner.get("key"), inner.get("data")
            yield from _lookups(inner)


def _is_element(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("elem"), dict)


def _prefix(value: Any) -> tuple[int, int] | None:
    prefix = value.get("prefix") if isinstance(value, dict) else None
    if not isinstance(prefix, dict):
        return None
    start, length = prefix.get("addr"), prefix.get("len")
    return (start & ALL, length) if isinstance(start, int) and isinstance(length, int) and 0 < length <= 32 else None


def _is_concat(value: Any, parts: int) -> bool:
    return isinstance(value, dict) and isinstance(value.get("concat"), list) and len(value["concat"]) == parts


def _up_to(offset: Any, modulus: Any) -> int:
    if not isinstance(modulus, int) or modulus < 1 or not isinstance(offset or 0, int):
        return ALL
    return ALL & ((1 << ((offset or 0) + modulus - 1).bit_length()) - 1)
