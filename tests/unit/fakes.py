# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for the edges of the collection."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    Result,
)


@dataclass
class Call:
    """One expected call and what it answers. stdin None means that nothing may be given."""

    argv: list[str]
    stdin: str | None = None
    rc: int = 0
    stdout: str = ""
    stderr: str = ""
    missing: bool = False
    raises: Exception | None = None


@dataclass
class FakeRunner:
    """Plays a script of calls in order; the first call that is not the next of the script fails the test.

    Programs in `missing` are not found. `done()` fails when calls of the script never came.
    """

    script: list[Call] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    scratch_error: Exception | None = None
    played: int = 0
    scratch_depth: int = 0
    scratch_uses: int = 0

    def find(self, name: str) -> str | None:
        return None if name in self.missing else f"/usr/sbin/{name}"

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        if argv[0] in self.missing:
            raise CommandMissing(argv)
        if self.played >= len(self.script):
            raise AssertionError(f"call {self.played + 1} is not in the script: {argv}")
        expected = self.script[self.played]
        self.played += 1
        if argv != expected.argv:
            raise AssertionError(f"call {self.played}: expected {expected.argv}, got {argv}")
        if stdin != expected.stdin:
            raise AssertionError(f"call {self.played} {argv}: expected stdin {expected.stdin!r}, got {stdin!r}")
        if expected.raises is not None:
            raise expected.raises
        if expected.missing:
            raise CommandMissing(argv)
        if check and expected.rc != 0:
            raise CommandError(argv, expected.rc, expected.stdout, expected.stderr)
        return Result(expected.rc, expected.stdout, expected.stderr)

    @contextmanager
    def scratch_network(self) -> Iterator[None]:
        if self.scratch_error is not None:
            raise self.scratch_error
        self.scratch_depth += 1
        self.scratch_uses += 1
        try:
            yield
        finally:
            self.scratch_depth -= 1

    def done(self) -> None:
        if self.played != len(self.script):
            raise AssertionError(f"never called: {[call.argv for call in self.script[self.played :]]}")
