# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting: what a step gave, from its exit code, its JUnit file or its output."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path


@dataclasses.dataclass
class Counts:
    """Passed, failed and skipped, with the names of what failed and the reasons for each skip."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    skips: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Add another count to this one."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.skips += other.skips

    @classmethod
    def ok(cls) -> Counts:
        """One thing passed."""
        return cls(passed=1)

    @classmethod
    def bad(cls, what: str) -> Counts:
        """One thing failed."""
        return cls(failed=1, failures=[what])

    @classmethod
    def skip(cls, why: str) -> Counts:
        """One thing was not run, and why."""
        return cls(skipped=1, skips=[why])

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def from_exit(name: str, code: int) -> Counts:
    """Count a program that counts as one test."""
    return Counts.ok() if code == 0 else Counts.bad(f"{name} (exit code {code})")


def from_junit(name: str, code: int, path: Path) -> Counts:
    """Count a pytest run from its JUnit file; a run that failed without a failed test counts as one failure."""
    counts = Counts()
    try:
        cases = list(ET.parse(path).getroot().iter("testcase"))
    except (OSError, ET.ParseError):
        return Counts.bad(f"{name}: pytest wrote no results (exit code {code})")
    for case in cases:
        title = f"{case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.add(Counts.bad(title))
        elif skipped is not None and skipped.get("type") == "pytest.xfail":
            counts.add(Counts.ok())
        elif skipped is not None:
            counts.add(Counts.skip(f"{title}: {skipped.get('message')}"))
        else:
            counts.add(Counts.ok())
    if not cases and code == 5:
        return Counts.bad(f"{name}: pytest found no tests")
    if code != 0 and not counts.failed:
        counts.add(Counts.bad(f"{name}: pytest ended with exit code {code}"))
    return counts


def clock(seconds: float) -> str:
    """Show a duration as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
