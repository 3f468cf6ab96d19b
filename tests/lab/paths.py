# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the test hosts live on the machine that runs them, and how their parts are named."""

from __future__ import annotations

import os
import re
from pathlib import Path

RUN = Path("/run/bulkhead-lab")
DISKS = Path("/var/lib/bulkhead-lab")
PREFIX = "bhl-"
REPOSITORY = Path(__file__).resolve().parents[2]

_LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
_PART_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


def cache() -> Path:
    """The directory of finished root filesystems; kept between runs."""
    return Path(os.environ.get("BULKHEAD_LAB_CACHE") or "/var/cache/bulkhead-lab")


def check_lab_name(name: str) -> str:
    """A lab's name holds no dash, so that one lab's prefix is never the beginning of another's."""
    if not _LAB_NAME.fullmatch(name):
        raise ValueError(f"lab name {name!r}: a small letter, then at most 15 small letters or digits")
    return name


def check_part_name(name: str) -> str:
    if not _PART_NAME.fullmatch(name):
        raise ValueError(f"host or peer name {name!r}: a small letter, then at most 19 small letters, digits or dashes")
    return name


def prefix(lab: str) -> str:
    """What the names of all namespaces and machines of a lab begin with."""
    return f"{PREFIX}{lab}-"


def cgroup_root() -> Path:
    """The cgroup v2 tree, whether the machine uses it alone or beside version 1."""
    unified = Path("/sys/fs/cgroup/unified")
    return (unified if (unified / "cgroup.procs").exists() else Path("/sys/fs/cgroup")) / "bulkhead-lab"


def cgroup_roots() -> list[Path]:
    """Everywhere a cgroup of a lab may be: systemd-nspawn copies it to the version 1 tree of systemd."""
    return [cgroup_root(), Path("/sys/fs/cgroup/systemd/bulkhead-lab")]
