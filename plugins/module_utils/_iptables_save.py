# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What iptables-save prints, as values: tables, chains, policies, and rules as they were printed.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

_CHAIN = re.compile(r":(\S+) (\S+)(?: \[\d+:\d+\])?")
_RULE = re.compile(r"-A (\S+)(?: .*)?")
_WORD = re.compile(r' *(?:"((?:[^"\\]|\\.)*)"|([^ "]+))(?= |$)')
_UNREAD = re.compile(r"# Table `([^']+)' is incompatible, use 'nft' tool\.")


class SaveError(ValueError):
    """A saved text is not what an iptables-save prints."""


@dataclass(frozen=True)
class Table:
    """One table: policies of the builtin chains, and the rules of every chain in order, as they were printed."""

    policies: dict[str, str]
    chains: dict[str, tuple[str, ...]]


Saved = t.Dict[str, Table]


def parse_save(text: str) -> Saved:
    """The tables of a saved text.

    A line that could be anything else is refused: a comment may hold a line break, and what follows it is no rule.
    """
    policies: dict[str, dict[str, str]] = {}
    rules: dict[str, dict[str, list[str]]] = {}
    table = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("*") and table is None:
            table = line[1:]
            policies[table], rules[table] = {}, {}
        elif line == "COMMIT" and table is not None:
            table = None
        elif table is None or not _take(line, policies[table], rules[table]):
            raise SaveError(f"line {number} cannot be understood: {line[:120]!r}")
    if table is not None:
        raise SaveError(f"the table {table} has no end")
    return {
        name: Table(policies[name], {chain: tuple(lines) for chain, lines in rules[name].items()}) for name in rules
    }


def unread_tables(text: str) -> list[str]:
    """Tables that are missing in a saved text because iptables cannot read them; it says so in a comment only."""
    return _UNREAD.findall(text)


def words(line: str) -> list[str]:
    """The words of a line as iptables-restore reads them: only double quotes quote, and a backslash inside of them.

    Raises SaveError for a quote that is not closed, or stands in the middle of a word.
    """
    found, position = [], 0
    line = line.rstrip(" ")
    while position < len(line):
        match = _WORD.match(line, position)
        if match is None:
            raise SaveError(f"the quotes in it cannot be understood: {line[:120]!r}")
        found.append(match.group(2) if match.group(1) is None else re.sub(r"\\(.)", r"\1", match.group(1)))
        position = match.end()
    return found


def _take(line: str, policies: dict[str, str], rules: dict[str, list[str]]) -> bool:
    chain = _CHAIN.fullmatch(line)
    if chain is not None:
        if chain.group(2) != "-":
            policies[chain.group(1)] = chain.group(2)
        rules[chain.group(1)] = []
        return True
    rule = _RULE.fullmatch(line)
    if rule is None or rule.group(1) not in rules or not _quotes_closed(line):
        return False
    rules[rule.group(1)].append(line)
    return True


def _quotes_closed(line: str) -> bool:
    try:
        words(line)
    except SaveError:
        return False
    return True
