# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What DOCKER-USER is made of, and what stands around it in FORWARD.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import leads_to

CHAIN = "DOCKER-USER"
JUMP = f"-A FORWARD -j {CHAIN}"


@dataclass(frozen=True)
class Mark:
    """What a packet carries in the bits of `mask` if Docker is to accept it."""

    value: int
    mask: int


@dataclass(frozen=True)
class IpSet:
    """One ipset. `problem` says why its content is no set of nftables, and is empty where it can be one."""

    name: str
    type: str
    family: str
    elements: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Problem:
    """A rule that cannot be carried over, and why."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Translation:
    """The whole table, or None where there is nothing to carry over or not all of it can be.

    `uses_mark` tells that packets carry the mark, so Docker has to be told of it. `rules` is the number of rules of
    iptables that are in it. `notes` are differences that no table can make up for.
    """

    text: str | None
    uses_mark: bool
    untranslatable: tuple[Problem, ...]
    notes: tuple[str, ...]
    rules: int


#: nft counts jumps and gotos alike; a base chain is the first.
DEEPEST = 15


def reached(chains: t.Mapping[str, t.Sequence[str]], start: str) -> list[str]:
    """The chains that packets get to from one, itself first, in the order of the rules."""
    found: list[str] = []
    rest = [start]
    while rest:
        chain = rest.pop()
        if chain in chains and chain not in found:
            found.append(chain)
            rest.extend(reversed([end for end in ends(chains, chain) if end in chains]))
    return found


def ends(chains: t.Mapping[str, t.Sequence[str]], chain: str) -> list[str]:
    """The targets of a chain's rules."""
    return [end for end in (leads_to(line, chains) for line in chains[chain]) if end is not None]


def too_deep(chains: t.Mapping[str, t.Sequence[str]], start: str, level: int) -> bool:
    """Whether packets get deeper than nft allows, which they do where chains lead to themselves."""
    levels = {start: level}
    rest = [start]
    while rest:
        chain = rest.pop()
        if levels[chain] > DEEPEST:
            return True
        for end in ends(chains, chain):
            if end in chains and levels.get(end, -1) <= levels[chain]:
                levels[end] = levels[chain] + 1
                rest.append(end)
    return False
