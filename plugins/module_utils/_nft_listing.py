# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: chains and rules in what `nft -s -a list table` prints, as text and with handles.

For text that goes back into nft. Facts are read from JSON, see _nft_read.py. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

_BLOCK = re.compile(r"^\t(chain|set|map|flowtable|counter|quota|limit|ct \S+|secmark|synproxy|tunnel) (\S+) \{")
_BASE = re.compile(
    r"^type (?P<kind>\w+) hook (?P<hook>\w+) (?:device \S+ )?priority (?P<priority>[^;]+);(?: policy (?P<policy>\w+);)?"
)
_HANDLE = re.compile(r"\s*# handle (\d+)$")
_COMMENT_INSIDE = re.compile(r'^((?:[^"]|"[^"]*")*?)comment ("[^"]*") ([^"].*)$')


@dataclass(frozen=True)
class ListedRule:
    """One rule: its text with single spaces, and its handle in the kernel."""

    handle: int
    text: str


@dataclass
class ListedChain:
    """One chain; `base` is (type, hook, priority as nft writes it) for a base chain."""

    name: str
    base: tuple[str, str, str] | None = None
    policy: str | None = None
    rules: list[ListedRule] = field(default_factory=list)

    def texts(self) -> list[str]:
        """Give the rules without their handles."""
        return [rule.text for rule in self.rules]


def chains(listing: str) -> dict[str, ListedChain]:
    """Read the chains of one table; sets and other objects are passed over."""
    found: dict[str, ListedChain] = {}
    current: ListedChain | None = None
    inside = False
    for line in _whole_lines(listing):
        block = _BLOCK.match(line)
        if block and not inside:
            inside = True
            current = ListedChain(block.group(2)) if block.group(1) == "chain" else None
            if current is not None:
                found[current.name] = current
        elif line == "\t}":
            inside, current = False, None
        elif current is not None:
            _read_line(current, line.strip())
    return found


def _whole_lines(listing: str) -> t.Iterator[str]:
    """Give lines, those that a quoted text runs over as one: a comment may hold what looks like the end of a chain.

    A handle ends a rule also where quotes do not match, since comments of iptables may hold one.
    """
    waiting = ""
    for line in listing.split("\n"):
        waiting = f"{waiting}\n{line}" if waiting else line
        if waiting.count('"') % 2 == 0 or _HANDLE.search(waiting):
            yield waiting
            waiting = ""
    if waiting:
        yield waiting


def _read_line(chain: ListedChain, line: str) -> None:
    base = _BASE.match(line)
    if base:
        chain.base = (base.group("kind"), base.group("hook"), base.group("priority").strip())
        chain.policy = base.group("policy") or "accept"
        return
    handle = _HANDLE.search(line)
    if handle:
        chain.rules.append(ListedRule(int(handle.group(1)), _comment_last(_spaced(line[: handle.start()]))))


def _spaced(text: str) -> str:
    """Write one space where there are several, except inside quotes."""
    parts = re.split(r'("[^"]*")', text.strip())
    return "".join(part if index % 2 else re.sub(r"\s+", " ", part) for index, part in enumerate(parts))


def _comment_last(text: str) -> str:
    """Write a comment where nft reads one: those of iptables 1.8.13 it lists in the middle of a rule."""
    match = _COMMENT_INSIDE.match(text)
    return f"{match.group(1)}{match.group(3)} comment {match.group(2)}" if match else text


def tables(listing: str) -> t.Iterator[tuple[str, str]]:
    """Give (family, name) for every line of `nft list tables`."""
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["table"] and len(words) >= 3:
            yield words[1], words[2]
