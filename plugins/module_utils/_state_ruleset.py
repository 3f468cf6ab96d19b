# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the loaded ruleset of this host.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    Ruleset,
    RulesetError,
    parse_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, CommandMissing

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

#: The oldest nft whose JSON these readers were written for.
NEEDS_FOR_READING = (0, 9, 3)
#: The oldest nft that can load the collection's own table.
NEEDS_FOR_OWN_TABLE = (1, 0, 1)
_TIMEOUT = 120
_VERSION = re.compile(r"\bv(\d+)\.(\d+)(?:\.(\d+))?")


def read_nft_version(runner: RunnerLike) -> tuple[int, int, int]:
    """The version of the nft of this host, refusing one that is too old to read its rules."""
    printed = _nft(runner, ["nft", "--version"])
    match = _VERSION.search(printed)
    if match is None:
        raise RulesetError(f"nft --version printed no version but: {printed.strip()[:200]!r}")
    version = (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0))
    if version < NEEDS_FOR_READING:
        raise RulesetError(
            f"nft {dotted(version)} is too old: its JSON cannot be read, at least {dotted(NEEDS_FOR_READING)} is "
            f"needed (and {dotted(NEEDS_FOR_OWN_TABLE)} to load the table of this collection)"
        )
    return version


def read_ruleset(runner: RunnerLike, elements: bool = False) -> Ruleset:
    """The ruleset as the kernel has it now; elements of named sets only when asked for."""
    terse = [] if elements else ["-t"]
    printed = _nft(runner, ["nft", "-j", *terse, "list", "ruleset"])
    listing = _nft(runner, ["nft", "-s", "-a", "-t", "list", "ruleset"])
    return parse_ruleset(printed, listing, elements=elements)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _nft(runner: RunnerLike, argv: list[str]) -> str:
    try:
        return runner.run(argv, timeout=_TIMEOUT).stdout
    except CommandMissing as exc:
        raise RulesetError(
            "nft is not installed on this host; install the package nftables (at least version "
            f"{dotted(NEEDS_FOR_OWN_TABLE)})"
        ) from exc
    except CommandError as exc:
        said = f"{exc.stderr}\n{exc.stdout}"
        if "not permitted" in said or "must be root" in said:
            raise RulesetError("reading the ruleset needs root: run the task with become") from exc
        if "JSON support not compiled" in said:
            raise RulesetError("this nft was built without JSON support; install the distribution's nftables") from exc
        raise RulesetError(str(exc)) from exc
