# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import (
    full,
    holds,
    meet,
    minus,
    single,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import merge
from hypothesis import given
from hypothesis import strategies as st

TOP = 15


def ranges() -> st.SearchStrategy[t.Any]:
    pair = st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(lambda ends: (min(ends), max(ends)))
    return st.lists(pair, max_size=6).map(lambda items: tuple(merge(items)))


def numbers(found: t.Any) -> set[int]:
    listed = [number for low, high in found for number in range(low, high + 1)]
    assert listed == sorted(set(listed))
    return set(listed)


@given(ranges(), ranges())
def test_both_parts_of_a_set_are_the_set(one: t.Any, other: t.Any) -> None:
    assert numbers(meet(one, other)) == numbers(one) & numbers(other)
    assert numbers(minus(one, other)) == numbers(one) - numbers(other)


@given(ranges())
def test_holds(found: t.Any) -> None:
    assert {number for number in range(TOP + 1) if holds(found, number)} == numbers(found)


def test_sets_of_addresses() -> None:
    assert minus(full(128), single(0)) == ((1, 2**128 - 1),)
    assert holds(full(32), 2**32 - 1)
    assert not holds(full(32), 2**32)
