# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what the analyser keeps of a ruleset.

A rule is a row of operations, in the order in which the kernel runs them. What is not understood stays in its place as
`Opaque`, with the reason. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

    Op = t.Union["Match", "NotBoth", "Lookup", "Verdict", "Write", "Nat", "Notrack", "Opaque"]
    # What a statement writes: a number, a field with bits taken and turned over, or what a map holds.
    Value = t.Union[int, "Calculated", "Lookup"]

ACCEPT, DROP, CONTINUE, RETURN, JUMP, GOTO, REJECT = "accept", "drop", "continue", "return", "jump", "goto", "reject"
ENDS = (ACCEPT, DROP, REJECT)
# Not a verdict of the kernel's: what becomes of the packet is not known.
UNKNOWN = "unknown"
# Nor is this: a rule that may have matched, which makes no difference.
PERHAPS = "perhaps"


@dataclass(frozen=True)
class Match:
    """Go on if the field, with a mask on it, is among the numbers (or not among them)."""

    key: str
    ranges: Ranges
    negated: bool = False
    mask: int | None = None


@dataclass(frozen=True)
class NotBoth:
    """Two negated conditions that nft may have made one of, which holds unless both fields are equal."""

    first: Match
    second: Match


@dataclass(frozen=True)
class Element:
    """One element of a set or map: numbers for each part of the key, and what the map holds."""

    key: tuple[Ranges, ...]
    data: t.Any = None


@dataclass(frozen=True)
class Lookup:
    """Look the fields up; a miss ends the rule. Data of a verdict map is a `Verdict`."""

    keys: tuple[str, ...]
    elements: tuple[Element, ...]
    # Any other key, for the element `*`; None if there is none.
    other: t.Any = None
    negated: bool = False


@dataclass(frozen=True)
class Verdict:
    kind: str
    target: str = ""
    # For a reject: with what.
    detail: str = ""


@dataclass(frozen=True)
class Calculated:
    """A field's number, with some bits taken and some turned over."""

    key: str
    mask: int
    xor: int


@dataclass(frozen=True)
class Write:
    """Set the packet's or the connection's mark."""

    key: str
    value: Value


@dataclass(frozen=True)
class Nat:
    """Translate: `dnat`, `snat`, `masquerade` or `redirect`. `family` is 0 where the packet's own holds."""

    kind: str
    family: int = 0
    address: Value | None = None
    port: Value | None = None


@dataclass(frozen=True)
class Notrack:
    pass


@dataclass(frozen=True)
class Opaque:
    """Something not understood: a condition that may hold or not, or (`final`) something that may do anything."""

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Rule:
    family: str
    table: str
    chain: str
    handle: int
    ops: tuple[Op, ...]

    @property
    def idle(self) -> bool:
        """Tell whether it makes no difference that the rule matches."""
        return all(isinstance(op, (Match, NotBoth)) or (isinstance(op, Opaque) and not op.final) for op in self.ops)


@dataclass(frozen=True)
class Chain:
    """A chain; `hook` is empty unless it is a base chain."""

    family: str
    table: str
    name: str
    rules: tuple[Rule, ...]
    type: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = ACCEPT
    devices: tuple[str, ...] = ()


@dataclass
class Coverage:
    """How many expressions were read, and which were not understood."""

    total: int = 0
    opaque: dict[str, int] = field(default_factory=dict)

    def miss(self, reason: str) -> None:
        self.opaque[reason] = self.opaque.get(reason, 0) + 1

    @property
    def understood(self) -> int:
        return self.total - sum(self.opaque.values())


@dataclass(frozen=True)
class Program:
    """All chains of a host by family, table and name, in the order of the listing."""

    chains: dict[tuple[str, str, str], Chain]
    coverage: Coverage
    # IP families in which a rule asks for connection tracking; without one there is none, and no translation.
    tracked: frozenset[int] = frozenset((4, 6))

    def base_chains(self, hook: str, families: t.Collection[str]) -> list[Chain]:
        return [chain for chain in self.chains.values() if chain.hook == hook and chain.family in families]
