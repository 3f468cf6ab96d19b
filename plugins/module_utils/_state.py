# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small values that every reader of the host hands on.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: What may stand inside a quoted name in a ruleset without meaning anything there.
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.:@+=,~^%#!$&()-]{1,15}\Z")


#: The host fails open, or Docker's ports and containers are cut off, right now.
ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """Something about the host its admin should know, with what to do about it."""

    code: str
    text: str
    where: str
    remedy: str
    severity: str = WARNING

    def as_dict(self) -> dict[str, str]:
        return {
            "code": self.code,
            "severity": self.severity,
            "text": self.text,
            "where": self.where,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class DockerPresence:
    """What can be seen of Docker without asking it: its process and its bridges with their prefixes.

    `proxied` are the protocols and ports its docker-proxy processes listen on for IPv4 addresses of containers.
    """

    running: bool = False
    pid: int | None = None
    arguments: tuple[str, ...] = ()
    bridges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    proxied: frozenset[tuple[str, int]] = frozenset()


def usable_interface_name(name: object) -> bool:
    """Whether a name can be an interface of this kernel and can be quoted in a ruleset.

    Docker lets anybody who can create a network choose the name of its bridge.
    """
    return isinstance(name, str) and name not in (".", "..") and _INTERFACE_NAME.match(name) is not None
