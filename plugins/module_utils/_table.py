# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: one table of our own in the kernel.

Reading it, comparing it with a text, replacing it in one transaction. May change at any time.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _nft_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

#: nft before 1.0.1 cannot read wildcards in sets of interfaces; 1.0.6 is the oldest that is tested.
OLDEST_NFT = (1, 0, 1)


class TableError(Exception):
    """nft refused something, or cannot be used here; the message says what and why."""


def require_nft(runner: RunnerLike) -> str:
    """Give nft's version as text; raise TableError where it is missing or too old."""
    try:
        said = runner.run(["nft", "--version"]).stdout
    except CommandMissing as error:
        raise TableError("nft is not installed on this host; install the package nftables") from error
    match = re.search(r"v(\d+)\.(\d+)(?:\.(\d+))?", said)
    if match is None:
        raise TableError(f"nft --version printed no version: {said.strip()[:100]}")
    version = tuple(int(part or 0) for part in match.groups())
    if version < OLDEST_NFT:
        needed = ".".join(str(part) for part in OLDEST_NFT)
        raise TableError(f"nft {needed} or later is needed (found {match.group(0)[1:]})")
    return match.group(0)[1:]


class OwnTable:
    """One table that nobody else writes to."""

    def __init__(self, runner: RunnerLike, family: str, name: str) -> None:
        self.runner = runner
        self.family = family
        self.name = name

    def _list(self, flags: list[str]) -> str | None:
        result = self.runner.run(["nft", *flags, "list", "table", self.family, self.name], check=False)
        if result.rc == 0:
            return result.stdout
        if "No such file or directory" in result.stderr:
            return None
        raise TableError(f"nft cannot list table {self.family} {self.name}: {result.stderr.strip()[:500]}")

    def live(self) -> str | None:
        """Give the kernel's table in canonical form, None where there is none."""
        listing = self._list(["-s"])
        return None if listing is None else _nft_text.canonical(listing)

    def restorable(self) -> str | None:
        """Give the kernel's table with its counters, as text that loads again."""
        return self._list([])

    def undo_script(self) -> str:
        """Write the transaction that makes the table again what it is now."""
        return _nft_text.replace_script(self.family, self.name, self.restorable())

    def rescue_scripts(self) -> list[str]:
        """Give what to load where undo_script() is refused: nothing, as nobody else writes to this table."""
        return []

    def normalise(self, text: str) -> str:
        """Give text the form that the kernel's table would be listed in.

        The text is loaded into an empty network namespace of this process's own and listed by
        the same nft, so that only differences that mean something are differences.
        """
        with self.runner.scratch_network():
            self.load(text)
            listing = self._list(["-s"])
        if listing is None:
            raise TableError(f"the text defines no table {self.family} {self.name}")
        return _nft_text.canonical(listing)

    def check(self, script: str) -> None:
        """Let nft check a whole transaction against the running ruleset, without loading it."""
        self.load(script, ["-c"])

    def replace(self, text: str | None) -> None:
        """Make the kernel's table what text says, in one transaction; None takes it away."""
        self.load(_nft_text.replace_script(self.family, self.name, text))

    def load(self, script: str, flags: list[str] | None = None) -> None:
        """Load a script in one transaction; raises TableError with the lines that nft refuses."""
        try:
            self.runner.run(["nft", *(flags or []), "-f", "-"], stdin=script)
        except CommandMissing:
            raise
        except CommandError as error:
            raise TableError("nft refuses the ruleset:\n" + _nft_text.explain(error.stderr, script)) from error
