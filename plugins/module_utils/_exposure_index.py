# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the rules of a long chain that one destination can match.

A rule that asks for a port or an address of the destination, before it does anything, is left out for all others.
May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    Lookup,
    Match,
    NotBoth,
    Opaque,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Chain, Rule
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

# Shorter chains are walked whole; sets of more numbers than this are not spread out.
SHORT = 16
_SPREAD = 64
_PORTS = ("tcp dport", "udp dport", "th dport", "sctp dport", "dccp dport", "udplite dport")
_ADDRESSES = ("ip daddr", "ip6 daddr")


class Index:
    """One chain's rules by destination."""

    def __init__(self, chain: Chain) -> None:
        self.rules = chain.rules
        self.always: list[int] = []
        self.ports: dict[int, list[int]] = {}
        self.addresses: dict[int, list[int]] = {}
        for number, rule in enumerate(chain.rules):
            self._add(number, rule)
        self.known: dict[tuple[int, int], list[Rule]] = {}

    def _add(self, number: int, rule: Rule) -> None:
        found: tuple[dict[int, list[int]], Ranges] | None = None
        for op in rule.ops:
            if isinstance(op, Match) and not op.negated and op.mask is None and _few(op.ranges):
                if op.key in _PORTS:
                    found = (self.ports, op.ranges)
                    break
                if op.key in _ADDRESSES and found is None:
                    found = (self.addresses, op.ranges)
            elif not isinstance(op, (Match, NotBoth)) and not _pure(op):
                break
        if found is None:
            self.always.append(number)
            return
        for low, high in found[1]:
            for value in range(low, high + 1):
                found[0].setdefault(value, []).append(number)

    def select(self, dport: int, daddr: int) -> list[Rule]:
        """The rules, in their order, that packets to this place may match."""
        key = (dport, daddr)
        if key not in self.known:
            numbers = sorted({*self.always, *self.ports.get(dport, ()), *self.addresses.get(daddr, ())})
            self.known[key] = [self.rules[number] for number in numbers]
        return self.known[key]


def _pure(op: t.Any) -> bool:
    """Tell whether an operation does nothing but ask."""
    if isinstance(op, Lookup):
        return op.other in (None, True) and all(element.data is None for element in op.elements)
    return isinstance(op, Opaque) and not op.final


def _few(ranges: Ranges) -> bool:
    return sum(high - low + 1 for low, high in ranges) <= _SPREAD
