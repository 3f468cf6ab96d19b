# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: interval arithmetic on addresses and ports.

A concatenated interval set of nftables refuses two elements that overlap in part,
so the compiler hands it disjoint boxes. May change at any time.
"""

from __future__ import annotations

import ipaddress
import typing as t

if t.TYPE_CHECKING:
    # Both ends belong to the interval.
    Interval = t.Tuple[int, int]
    # One interval per dimension: source, destination, port.
    Box = t.Tuple[Interval, Interval, Interval]

MAX_PORT = 65535


def merge(intervals: t.Iterable[Interval]) -> list[Interval]:
    """Give the same numbers as sorted, disjoint intervals that do not touch."""
    merged: list[list[int]] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return [(item[0], item[1]) for item in merged]


def overlap(one: Interval, other: Interval) -> bool:
    """Tell whether two intervals share a number."""
    return one[0] <= other[1] and other[0] <= one[1]


def common(ones: t.Sequence[Interval], others: t.Sequence[Interval]) -> tuple[Interval, ...]:
    """Give the numbers that are in both of two lists as `merge` gives them."""
    shared: list[Interval] = []
    first = second = 0
    while first < len(ones) and second < len(others):
        one, other = ones[first], others[second]
        if overlap(one, other):
            shared.append((max(one[0], other[0]), min(one[1], other[1])))
        if one[1] < other[1]:
            first += 1
        else:
            second += 1
    return tuple(shared)


def slabs(intervals: t.Sequence[tuple[Interval, t.Any]]) -> list[tuple[Interval, list[t.Any]]]:
    """Cut overlapping intervals at each other's ends.

    Gives disjoint intervals in ascending order, each with the payloads of all
    intervals that cover it, in the order they were given. Numbers that no
    interval covers are left out.
    """
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for position, ((low, high), _payload) in enumerate(intervals):
        starts.setdefault(low, []).append(position)
        ends.setdefault(high + 1, []).append(position)
    cuts = sorted(set(starts) | set(ends))
    active: set[int] = set()
    result: list[tuple[Interval, list[t.Any]]] = []
    for cut, following in zip(cuts, cuts[1:] + [0]):
        active.difference_update(ends.get(cut, ()))
        active.update(starts.get(cut, ()))
        if active:
            result.append(((cut, following - 1), [intervals[position][1] for position in sorted(active)]))
    return result


def disjoint(boxes: t.Iterable[Box]) -> list[Box]:
    """Give boxes that cover exactly the same points and do not overlap, in a canonical order."""
    by_port: list[tuple[Interval, tuple[tuple[Interval, Interval], ...]]] = []
    unique = sorted(set(boxes))
    for port, payloads in slabs([(box[2], box) for box in unique]):
        by_source: list[tuple[Interval, tuple[Interval, ...]]] = []
        for destination, covering in slabs([(box[1], box) for box in payloads]):
            sources = tuple(merge(box[0] for box in covering))
            if by_source and by_source[-1][1] == sources and by_source[-1][0][1] + 1 == destination[0]:
                by_source[-1] = ((by_source[-1][0][0], destination[1]), sources)
            else:
                by_source.append((destination, sources))
        layer = tuple((source, destination) for destination, sources in by_source for source in sources)
        if by_port and by_port[-1][1] == layer and by_port[-1][0][1] + 1 == port[0]:
            by_port[-1] = ((by_port[-1][0][0], port[1]), layer)
        else:
            by_port.append((port, layer))
    return [(source, destination, port) for port, layer in by_port for source, destination in layer]


def number_text(interval: Interval) -> str:
    """Write a port or port range as nft reads it."""
    return str(interval[0]) if interval[0] == interval[1] else f"{interval[0]}-{interval[1]}"


def address_text(interval: Interval, family: int) -> str:
    """Write an address interval as nft reads it: one address, a prefix, or a range.

    O(family) is 4 or 6.
    """
    make = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    bits = 32 if family == 4 else 128
    low, high = interval
    if low == high:
        return str(make(low))
    size = high - low + 1
    if size & (size - 1) == 0 and low % size == 0:
        return f"{make(low)}/{bits - size.bit_length() + 1}"
    return f"{make(low)}-{make(high)}"
