# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: sets of numbers as sorted, disjoint intervals, both ends included.

Addresses, ports, marks and interface names (as 16 bytes) are all numbers here, so that one arithmetic serves them all.
May change at any time.
"""

from __future__ import annotations

import bisect
import typing as t

if t.TYPE_CHECKING:
    Ranges = t.Tuple[t.Tuple[int, int], ...]

NONE: Ranges = ()


def single(value: int) -> Ranges:
    """The set of one number."""
    return ((value, value),)


def full(bits: int) -> Ranges:
    """All numbers of so many bits."""
    return ((0, (1 << bits) - 1),)


def holds(ranges: Ranges, value: int) -> bool:
    """Tell whether a number is in the set."""
    if len(ranges) == 1:
        return ranges[0][0] <= value <= ranges[0][1]
    at = bisect.bisect_right(ranges, (value, 1 << 129)) - 1
    return at >= 0 and ranges[at][1] >= value


def meet(one: Ranges, other: Ranges) -> Ranges:
    """What both sets share."""
    if len(one) > len(other):
        one, other = other, one
    found: list[tuple[int, int]] = []
    for low, high in one:
        at = max(bisect.bisect_right(other, (low, 1 << 129)) - 1, 0)
        while at < len(other) and other[at][0] <= high:
            if other[at][1] >= low:
                found.append((max(low, other[at][0]), min(high, other[at][1])))
            at += 1
    return tuple(found)


def minus(one: Ranges, other: Ranges) -> Ranges:
    """What is in the first set only."""
    found: list[tuple[int, int]] = []
    for low, high in one:
        at = max(bisect.bisect_right(other, (low, 1 << 129)) - 1, 0)
        while at < len(other) and other[at][0] <= high:
            if other[at][1] >= low:
                if other[at][0] > low:
                    found.append((low, other[at][0] - 1))
                low = other[at][1] + 1
            at += 1
        if low <= high:
            found.append((low, high))
    return tuple(found)
