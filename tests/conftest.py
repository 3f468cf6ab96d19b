# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make ``ansible_collections.bulkhead.docker_nftables`` mean this checkout, wherever the checkout is."""

from __future__ import annotations

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def map_collection() -> None:
    """Put packages for the namespace into place, unless the checkout already lies in such a tree."""
    if ROOT.parts[-3:] == ("ansible_collections", "bulkhead", "docker_nftables"):
        sys.path.insert(0, str(ROOT.parents[2]))
        return
    parent = None
    for name, paths in (
        ("ansible_collections", []),
        ("ansible_collections.bulkhead", []),
        ("ansible_collections.bulkhead.docker_nftables", [str(ROOT)]),
    ):
        package = types.ModuleType(name)
        package.__path__ = paths
        sys.modules[name] = package
        if parent is not None:
            setattr(parent, name.rpartition(".")[2], package)
        parent = package


map_collection()
for directory in ("tests", "tests/unit"):
    sys.path.insert(0, str(ROOT / directory))
