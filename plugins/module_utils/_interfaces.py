# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: interface names and patterns, and which of them are Docker's.

May change at any time.
"""

from __future__ import annotations

import typing as t


def matches(pattern: str, name: str) -> bool:
    """Match an interface name as nft does: a trailing * stands for any rest."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def uncovered(patterns: t.Iterable[str]) -> tuple[str, ...]:
    """Leave out what another pattern already covers; an interval set refuses such an overlap."""
    unique = sorted(set(patterns))
    return tuple(
        name
        for name in unique
        if not any(
            other != name and other.endswith("*") and name.rstrip("*").startswith(other[:-1]) for other in unique
        )
    )


def bridge_sets(
    patterns: t.Iterable[str], docker_bridges: t.Iterable[str], existing: t.Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell Docker's bridges from interfaces that only look like one.

    Gives the set of Docker's bridges (names and patterns) and the interfaces that a
    pattern covers although Docker does not own them, such as an administrator's br-lan.
    """
    own = set(docker_bridges)
    every = uncovered(list(patterns) + sorted(own))
    foreign = [name for name in existing if name not in own and any(matches(pattern, name) for pattern in every)]
    return every, tuple(sorted(foreign))
