# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what nft prints about the loaded ruleset into values.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_TABLE_LINE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN_LINE = re.compile(r"\tchain (\S+) \{")
_HANDLE = re.compile(r"(.*) # handle (\d+)\Z", re.DOTALL)
_NAMED_SETS = ("set", "map")


class RulesetError(Exception):
    """The ruleset cannot be read; the message is one sentence for the user."""


@dataclass(frozen=True)
class Rule:
    """One rule; `text` is None when only its JSON could be read."""

    handle: int
    expr: tuple[Any, ...]
    text: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Chain:
    """A chain; type, hook and priority are None unless it is a base chain."""

    name: str
    handle: int
    type: str | None = None
    hook: str | None = None
    priority: int | None = None
    policy: str | None = None
    devices: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class NamedSet:
    """A named set or map; `elements` is None when they were not asked for."""

    name: str
    kind: str
    type: str
    data_type: str | None = None
    flags: tuple[str, ...] = ()
    size: int | None = None
    elements: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Table:
    family: str
    name: str
    handle: int = 0
    flags: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet, ...] = ()

    def chain(self, name: str) -> Chain | None:
        return next((chain for chain in self.chains if chain.name == name), None)

    @property
    def label(self) -> str:
        return f"{self.family} {self.name}"


@dataclass(frozen=True)
class Ruleset:
    tables: tuple[Table, ...] = ()

    def table(self, family: str, name: str) -> Table | None:
        return next((table for table in self.tables if (table.family, table.name) == (family, name)), None)


def parse_ruleset(printed: str, listing: str = "", elements: bool = False) -> Ruleset:
    """A ruleset from `nft -j list ruleset`, with the text of its rules from `nft -a list ruleset`.

    The JSON decides what exists: it says what kind of expression a rule is made of. The text is only looked up
    by handle, because JSON has none of the arguments of rules made by iptables.
    """
    objects = _objects(printed)
    texts = parse_rule_texts(listing)
    chains: dict[tuple[str, str], dict[str, tuple[dict[str, Any], list[Rule]]]] = {}
    sets: dict[tuple[str, str], list[NamedSet]] = {}
    tables: list[dict[str, Any]] = []
    for kind, value in objects:
        if kind == "table":
            tables.append(value)
            continue
        place = (value.get("family", ""), value.get("table", ""))
        if kind == "chain":
            chains.setdefault(place, {})[value["name"]] = (value, [])
        elif kind == "rule":
            found = chains.get(place, {}).get(value["chain"])
            if found is not None:
                handle = int(value["handle"])
                text = texts.get((place[0], place[1], value["chain"], handle))
                found[1].append(Rule(handle, tuple(value.get("expr", ())), text, value.get("comment")))
        elif kind in _NAMED_SETS:
            sets.setdefault(place, []).append(_named_set(kind, value, elements))
    return Ruleset(
        tuple(
            Table(
                family=table["family"],
                name=table["name"],
                handle=int(table.get("handle", 0)),
                flags=_words(table.get("flags")),
                chains=tuple(
                    _chain(value, rules) for value, rules in chains.get((table["family"], table["name"]), {}).values()
                ),
                sets=tuple(sets.get((table["family"], table["name"]), ())),
            )
            for table in tables
        )
    )


def parse_rule_texts(listing: str) -> dict[tuple[str, str, str, int], str]:
    """The text of every rule by (family, table, chain, handle), from a listing with handles."""
    texts: dict[tuple[str, str, str, int], str] = {}
    table = ("", "")
    chain = ""
    pending = ""
    for line in listing.splitlines():
        match = _TABLE_LINE.match(line)
        if match:
            table = (match.group(1), match.group(2))
            chain = ""
            continue
        match = _CHAIN_LINE.match(line)
        if match:
            chain = match.group(1)
            pending = ""
            continue
        if not chain or not line.startswith("\t\t"):
            if line == "\t}":
                chain = ""
            continue
        # A rule starts at two tabs; what is indented deeper continues the line before.
        pending = f"{pending} {line.strip()}" if line.startswith("\t\t\t") else line.strip()
        match = _HANDLE.match(pending)
        if match:
            texts[(*table, chain, int(match.group(2)))] = match.group(1)
            pending = ""
    return texts


def _objects(printed: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        document = json.loads(printed)
    except ValueError as exc:
        raise RulesetError(
            f"nft printed JSON that cannot be read ({len(printed)} characters, the fault is: {exc}); "
            "it was cut off, or this nft is broken"
        ) from exc
    entries = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise RulesetError("nft printed JSON without a ruleset in it: there is no list named nftables")
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise RulesetError(f"nft printed JSON with something that is no object in its ruleset: {entry!r:.80}")
        for kind, value in entry.items():
            if kind in ("table", "chain", "rule", *_NAMED_SETS):
                _complete(kind, value)
                found.append((kind, value))
    return found


def _complete(kind: str, value: Any) -> None:
    needed = {"table": ("family", "name"), "rule": ("family", "table", "chain", "handle")}
    names = needed.get(kind, ("family", "table", "name"))
    missing = [name for name in names if not isinstance(value, dict) or name not in value]
    if missing:
        raise RulesetError(f"nft printed JSON with a {kind} that has no {' and no '.join(missing)}")


def _chain(value: dict[str, Any], rules: list[Rule]) -> Chain:
    priority = value.get("prio")
    return Chain(
        name=value["name"],
        handle=int(value.get("handle", 0)),
        type=value.get("type"),
        hook=value.get("hook"),
        priority=None if priority is None else int(priority),
        policy=value.get("policy"),
        devices=_words(value.get("dev")),
        rules=tuple(rules),
    )


def _named_set(kind: str, value: dict[str, Any], elements: bool) -> NamedSet:
    size = value.get("size")
    data = value.get("map")
    return NamedSet(
        name=value["name"],
        kind=kind,
        type=_type_name(value.get("type")),
        data_type=None if data is None else _type_name(data),
        flags=_words(value.get("flags")),
        size=None if size is None else int(size),
        elements=tuple(value.get("elem") or ()) if elements else None,
    )


def _type_name(value: Any) -> str:
    if isinstance(value, list):
        return " . ".join(_type_name(part) for part in value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _words(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value)
