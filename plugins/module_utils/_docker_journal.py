# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last that Docker said, for the message of a failure.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

UNIT = "docker.service"
_LINES = 15
_LINE_LENGTH = 300


def last_words(runner: RunnerLike) -> str:
    """The last lines of the unit in the journal, to be put behind a sentence; where to look when there is no journal."""
    argv = ["journalctl", f"--unit={UNIT}", f"--lines={_LINES}", "--no-pager", "--output=cat"]
    try:
        said = runner.run(argv, check=False, timeout=20).stdout
    except CommandError:
        return f" See `journalctl -u {UNIT}`."
    lines = [line[:_LINE_LENGTH] for line in said.splitlines()[-_LINES:]]
    return "\n".join(["", f"The last lines of {UNIT} in the journal:", *lines]) if lines else ""
