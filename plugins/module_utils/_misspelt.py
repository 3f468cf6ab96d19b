# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: variables that are set but read by nobody. May change at any time."""

from __future__ import annotations

import difflib
import typing as t


def misspelt(names: t.Iterable[str], known: t.Sequence[str]) -> list[str]:
    """Find variables that differ from a known one in a letter or two; what goes on after one is somebody's own."""
    found = []
    for name in sorted(set(map(str, names)) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.94)
        if near and not name.startswith(near[0] + "_"):
            found.append(f"{name}: there is no such variable; did you mean {near[0]}?")
    return found
