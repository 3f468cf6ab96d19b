# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import (
    address_text,
    common,
    disjoint,
    merge,
    number_text,
    overlap,
    slabs,
)
from hypothesis import example, given
from hypothesis import strategies as st

TOP = 7


def interval() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(lambda ends: (min(ends), max(ends)))


def boxes() -> st.SearchStrategy[list[t.Any]]:
    return st.lists(st.tuples(interval(), interval(), interval()), max_size=8)


def points(box: t.Any) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(low, high + 1) for low, high in box)))


@given(boxes())
def test_disjoint_covers_the_same_points_once(given_boxes: list[t.Any]) -> None:
    pieces = [points(box) for box in disjoint(given_boxes)]
    union = set().union(*pieces)
    assert union == set().union(*map(points, given_boxes))
    assert len(union) == sum(len(piece) for piece in pieces)


@given(boxes(), st.randoms(use_true_random=False))
def test_disjoint_does_not_depend_on_the_order(given_boxes: list[t.Any], random: t.Any) -> None:
    shuffled = given_boxes + given_boxes[:2]
    random.shuffle(shuffled)
    assert disjoint(shuffled) == disjoint(given_boxes)


@given(boxes())
def test_disjoint_of_disjoint_changes_nothing(given_boxes: list[t.Any]) -> None:
    once = disjoint(given_boxes)
    assert disjoint(once) == once


@given(st.lists(interval()), st.lists(interval()))
@example([(0, 5)], [(1, 1), (3, 3)])
@example([(1, 1), (3, 3)], [(0, 5)])
def test_common(ones: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def numbers(intervals: t.Iterable[tuple[int, int]]) -> set[int]:
        return {number for low, high in intervals for number in range(low, high + 1)}

    shared = common(merge(ones), merge(others))
    assert numbers(shared) == numbers(ones) & numbers(others)
    assert list(shared) == sorted(set(shared))


@given(st.lists(interval()))
def test_merge(intervals: list[tuple[int, int]]) -> None:
    merged = merge(intervals)
    assert {n for low, high in merged for n in range(low, high + 1)} == {
        n for low, high in intervals for n in range(low, high + 1)
    }
    assert all(one[1] + 1 < other[0] for one, other in zip(merged, merged[1:]))


@given(st.lists(interval()))
def test_slabs_name_everything_that_covers_a_number(intervals: list[tuple[int, int]]) -> None:
    found = {
        n: names for (low, high), names in slabs(list(zip(intervals, itertools.count()))) for n in range(low, high + 1)
    }
    for number in range(TOP + 1):
        covering = [place for place, (low, high) in enumerate(intervals) if low <= number <= high]
        assert found.get(number, []) == covering


@given(interval(), interval())
def test_overlap(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert overlap(one, other) == bool(points([one]) & points([other]))


@pytest.mark.parametrize(
    ("low", "high", "family", "text"),
    [
        (0xC0000201, 0xC0000201, 4, "192.0.2.1"),
        (0xC0000200, 0xC00002FF, 4, "192.0.2.0/24"),
        (0xC0000201, 0xC0000202, 4, "192.0.2.1-192.0.2.2"),
        (0xC0000202, 0xC0000203, 4, "192.0.2.2/31"),
        (0, 2**32 - 1, 4, "0.0.0.0/0"),
        (0, 2**128 - 1, 6, "::/0"),
        (0x20010DB8 << 96, (0x20010DB8 << 96) + 5, 6, "2001:db8::-2001:db8::5"),
        (0x20010DB8 << 96, (0x20010DB9 << 96) - 1, 6, "2001:db8::/32"),
    ],
)
def test_address_text(low: int, high: int, family: int, text: str) -> None:
    assert address_text((low, high), family) == text


@pytest.mark.parametrize(("interval_", "text"), [((80, 80), "80"), ((0, 65535), "0-65535")])
def test_number_text(interval_: tuple[int, int], text: str) -> None:
    assert number_text(interval_) == text
