# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Older controllers: the unit tests and a syntax check of every playbook with each supported ansible-core."""

from __future__ import annotations

import hashlib
import os
import sys
import typing as t
from pathlib import Path

from run.report import Counts, from_junit
from run.step import Step
from run.tree import ROOT

LIST = "tests/requirements-compat.txt"
OLDER_CORES = ("2.17.14", "2.18.19")


def wanted_cores() -> list[str]:
    """The versions to try: those in ANSIBLE_CORE, else the last of each older supported series."""
    return os.environ.get("ANSIBLE_CORE", "").split() or list(OLDER_CORES)


def compat_steps(tree: Path, output: Path) -> list[Step]:
    """Steps for each version, each in an environment of its own that stays for the next run."""
    steps: list[Step] = []
    for core in wanted_cores():
        venv = ROOT / f".venv-{core}"
        python = venv / "bin" / "python"
        ready = venv / ("ready-" + hashlib.sha256((ROOT / LIST).read_bytes()).hexdigest()[:12])
        if not ready.is_file():
            make = [sys.executable, "-m", "venv", "--clear"]
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
            steps += [
                Step(f"{core}: virtual environment", [*make, str(venv)], ROOT, {}, prepared(None)),
                Step(f"{core}: packages", [*pip, f"ansible-core=={core}", "-r", LIST], ROOT, {}, prepared(ready)),
            ]
        junit = output / f"compat-{core}.xml"
        pytest = [str(python), "-m", "pytest", "-q", "-rs", "tests/unit", f"--junitxml={junit}"]
        steps.append(Step(f"{core}: unit tests", pytest, ROOT, {}, counter(junit)))
        env = {
            "ANSIBLE_COLLECTIONS_PATH": str(tree.parents[2]),
            "ANSIBLE_HOME": str(output / f"ansible-{core}"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        }
        books = sorted((tree / "playbooks").glob("*.yml"))
        if not books:
            steps.append(Step(f"{core}: playbooks", skip="there are no playbooks yet"))
        for book in books:
            argv = [str(venv / "bin" / "ansible-playbook"), "--syntax-check", "-i", "all,", str(book)]
            steps.append(Step(f"{core}: syntax of {book.name}", argv, tree, env))
    return steps


def counter(junit: Path) -> t.Callable[[str, int, str], Counts]:
    """Count a pytest run by its JUnit file, which must not be one of an earlier run."""
    junit.unlink(missing_ok=True)

    def count(name: str, code: int, _output: str) -> Counts:
        return from_junit(name, code, junit)

    return count


def prepared(ready: Path | None) -> t.Callable[[str, int, str], Counts]:
    """Count a step that only prepares: nothing when it works; then also mark the environment as complete."""

    def count(name: str, code: int, _output: str) -> Counts:
        if code != 0:
            return Counts.bad(f"{name} (exit code {code})")
        if ready is not None:
            ready.touch()
        return Counts()

    return count
