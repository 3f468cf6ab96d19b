# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Older controllers: the unit tests and a syntax check of every playbook with each supported ansible-core."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from run.report import Counts, from_junit
from run.step import Step
from run.tree import ROOT

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
        if not (venv / "ready").is_file():
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
            steps += [
                Step(f"{core}: virtual environment", [sys.executable, "-m", "venv", "--clear", str(venv)], ROOT),
                Step(f"{core}: packages", [*pip, f"ansible-core=={core}", "-r", "tests/requirements-compat.txt"], ROOT),
                Step(f"{core}: mark complete", ["touch", str(venv / "ready")], ROOT),
            ]
        junit = output / f"compat-{core}.xml"
        pytest = [str(python), "-m", "pytest", "-q", "-rs", "tests/unit", f"--junitxml={junit}", "-p", "no:cacheprovider"]
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


def counter(junit: Path):  # noqa: ANN201 - the type is Step.count's
    """Count a pytest run by its JUnit file, which must not be one of an earlier run."""
    junit.unlink(missing_ok=True)

    def count(name: str, code: int, _output: str) -> Counts:
        return from_junit(name, code, junit)

    return count
