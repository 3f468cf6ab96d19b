# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we changed in zones, policies and settings that are not ours, so that a later run can take it back.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    KINDS,
    LISTS,
    PLURAL,
    SCALARS,
    Entries,
    Key,
)

PATH = "/etc/bulkhead/firewalld.json"


class RecordError(Exception):
    """The file is there and cannot be used; the message says why."""


class Was(t.NamedTuple):
    """A single value before us, and the one we gave it."""

    before: t.Any
    given: t.Any


@dataclass(frozen=True)
class Changes:
    """What we did to one zone or policy of somebody else's."""

    added: dict[str, Entries] = field(default_factory=dict)
    removed: dict[str, Entries] = field(default_factory=dict)
    scalars: dict[str, Was] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.scalars)


@dataclass(frozen=True)
class Record:
    """All of it; settings are those of firewalld.conf."""

    items: dict[Key, Changes] = field(default_factory=dict)
    settings: dict[str, Was] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.items or self.settings)


def render(record: Record) -> str | None:
    """The file's text; None if there is nothing to remember."""
    if not record:
        return None
    document: dict[str, t.Any] = {"version": 1}
    for kind in KINDS:
        document[PLURAL[kind]] = {
            name: {
                "added": {key: list(entries) for key, entries in sorted(changes.added.items())},
                "removed": {key: list(entries) for key, entries in sorted(changes.removed.items())},
                "values": {key: was._asdict() for key, was in sorted(changes.scalars.items())},
            }
            for (found, name), changes in sorted(record.items.items())
            if found == kind
        }
    document["settings"] = {key: was._asdict() for key, was in sorted(record.settings.items())}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse(text: str | None) -> Record:
    """The record in a file's text; None is no file. Raises RecordError."""
    if text is None:
        return Record()
    try:
        document = json.loads(text)
        if document["version"] != 1:
            raise RecordError(f"{PATH} was written by a later release of this collection")
        items = {}
        for kind in KINDS:
            for name, changes in document[PLURAL[kind]].items():
                items[(kind, str(name))] = Changes(
                    _lists(kind, changes["added"]),
                    _lists(kind, changes["removed"]),
                    _values(changes["values"], SCALARS[kind]),
                )
        return Record(items, _values(document["settings"]))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as exc:
        raise RecordError(
            f"{PATH} cannot be read as a record of this module ({type(exc).__name__}: {str(exc):.80}). Move it away if what "
            "it remembers is to stay in firewalld for good"
        ) from exc


def _lists(kind: str, found: dict[str, t.Any]) -> dict[str, Entries]:
    lists = {}
    for key, entries in found.items():
        if key not in LISTS[kind] or not isinstance(entries, list):
            raise ValueError(f"{key!r} is no list of a {kind}")
        lists[key] = tuple(str(entry) for entry in entries)
    return lists


def _values(found: dict[str, t.Any], known: t.Container[str] | None = None) -> dict[str, Was]:
    values = {}
    for key, was in found.items():
        if known is not None and key not in known:
            raise ValueError(f"{key!r} is no value")
        values[key] = Was(was["before"], was["given"])
    return values
