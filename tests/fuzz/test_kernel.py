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


@needs_kernel
def test_the_analyser_and_the_kernel_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """Random rulesets, all kept cases, and mistakes built into the analyser that these must show."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    rulesets = os.environ.get("FUZZ_RULESETS", "300")
    argv = [sys.executable, "-m", "fuzz", "--mutants", "--rulesets", rulesets]
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=900)
    with capsys.disabled():
        # The seed and the figures are worth a look also when all is well.
        print("", *(line for line in done.stdout.splitlines() if not line.startswith("ok ")), sep="\n")
    assert done.returncode == 0
