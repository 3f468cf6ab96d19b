# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: an nftables table as a value, before it becomes text.

The compiler builds it, a template writes it down. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Set:
    """A named set; `kind` is its nft type, `elements` are in nft syntax."""

    name: str
    kind: str
    elements: tuple[str, ...]
    interval: bool


@dataclass
class Chain:
    """A chain; a base chain has a hook, a priority (an integer) and the policy accept."""

    name: str
    rules: list[str] = field(default_factory=list)
    hook: str | None = None
    priority: int = 0


@dataclass
class Ruleset:
    """One table, whole. `warnings` are sentences for the administrator."""

    family: str
    table: str
    sets: list[Set] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, t.Any]:
        """Give plain lists and dictionaries, for a template."""
        return {
            "family": self.family,
            "table": self.table,
            "sets": [
                {"name": item.name, "type": item.kind, "elements": list(item.elements), "interval": item.interval}
                for item in self.sets
            ],
            "chains": [
                {"name": item.name, "rules": list(item.rules), "hook": item.hook, "priority": item.priority}
                for item in self.chains
            ],
            "warnings": list(self.warnings),
        }
