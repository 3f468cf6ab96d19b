# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host remembers of a switch of Docker's firewall backend, so that it can go back later.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

PATH = "/etc/bulkhead/docker-backend.json"
FAMILIES = ("ip", "ip6")
#: The keys of daemon.json that a switch sets.
KEYS = ("firewall-backend", "bridge-accept-fwmark")


class RecordError(Exception):
    """The file is there and cannot be used; the message says why."""


@dataclass(frozen=True)
class Record:
    """`saved` are the texts of iptables-save by family, `sets` the one of ipset; `before` has the keys as they were."""

    saved: dict[str, str] = field(default_factory=dict)
    sets: str = ""
    accept_mark: str | None = None
    before: dict[str, t.Any] = field(default_factory=dict)
    #: Whether these files were made by the switch.
    made_sysctl_file: bool = False
    made_daemon_json: bool = False
    #: Families in which the host did not forward before.
    closed: tuple[str, ...] = ()

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read(root: str = "") -> Record | None:
    """The record of a host, None where there is none; raises RecordError. `root` is put before the path."""
    try:
        text = _files.read(root + PATH)
    except OSError as exc:
        raise RecordError(f"{PATH} cannot be read: {exc.strerror}") from exc
    return None if text is None else parse(text)


def parse(text: str) -> Record:
    """The record in a file's text; raises RecordError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RecordError(f"{PATH} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise RecordError(f"{PATH} holds no object")
    saved, before = document.get("saved", {}), document.get("before", {})
    mark, sets = document.get("accept_mark"), document.get("sets", "")
    closed = document.get("closed", [])
    made = [document.get(name, False) for name in ("made_sysctl_file", "made_daemon_json")]
    right = (
        isinstance(saved, dict)
        and all(family in FAMILIES and isinstance(each, str) for family, each in saved.items())
        and isinstance(before, dict)
        and set(before) <= set(KEYS)
        and (mark is None or isinstance(mark, str))
        and isinstance(sets, str)
        and all(isinstance(each, bool) for each in made)
        and isinstance(closed, list)
        and all(each in FAMILIES for each in closed)
    )
    if not right:
        raise RecordError(f"{PATH} does not hold what docker_backend writes into it")
    return Record(saved, sets, mark, before, made[0], made[1], tuple(closed))
