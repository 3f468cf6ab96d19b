# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short run: what `make fuzz` does for longer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
needs_kernel = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None,
    reason="packets are sent in network namespaces, which takes root and nft",
)


def fuzz(*arguments: str) -> int:
    """Run the command, which moves to namespaces of its own, and show what it says."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    argv = [sys.executable, "-m", "fuzz", *arguments]
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=900)
    print(done.stdout)
    return done.returncode


@needs_kernel
def test_the_analyser_and_the_kernel_agree() -> None:
    """Random rulesets, all kept cases, and mistakes built into the analyser that these must show."""
    assert fuzz("--mutants", "--rulesets", os.environ.get("FUZZ_RULESETS", "300")) == 0
