# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written down about a lab, so that another process can find it, use it and remove it."""

from __future__ import annotations

import json
import os
import tempfile
import time
import typing as t
from pathlib import Path

from lab import paths
from lab.process import alive, start_time


def directory(lab: str) -> Path:
    return paths.RUN / lab


def load(lab: str) -> dict[str, t.Any] | None:
    try:
        return json.loads((directory(lab) / "state.json").read_text())
    except FileNotFoundError:
        return None


def save(lab: str, state: dict[str, t.Any]) -> None:
    """Replace the file in one step."""
    handle, name = tempfile.mkstemp(prefix=".state-", dir=directory(lab))
    with os.fdopen(handle, "w") as out:
        json.dump(state, out, indent=1)
    os.rename(name, directory(lab) / "state.json")


def owner() -> dict[str, t.Any]:
    """The process that a lab belongs to: this one."""
    return {"pid": os.getpid(), "began": start_time(os.getpid())}


def owned_by_living(state: dict[str, t.Any]) -> bool:
    return alive(state["owner"]["pid"], state["owner"]["began"])


def known() -> list[str]:
    """The labs that left anything on this machine."""
    found = set()
    for place in (paths.RUN, paths.DISKS, paths.cgroup_root()):
        if place.is_dir():
            found |= {entry.name for entry in place.iterdir() if entry.is_dir()}
    for entry in Path("/run/netns").glob(f"{paths.PREFIX}*"):
        found.add(entry.name[len(paths.PREFIX) :].partition("-")[0])
    return sorted(found)


def is_settled(lab: str) -> bool:
    """Whether a directory without a record is old enough not to be in the making."""
    return time.time() - directory(lab).stat().st_mtime > 60
