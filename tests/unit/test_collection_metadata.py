# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("[a-z]*.py"))


def test_every_module_can_get_defaults_through_the_action_group() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["docker_nftables"] == MODULES


def test_the_collection_stands_alone() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"] == {}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_documented_with_examples_and_results(name: str) -> None:
    text = (ROOT / f"plugins/modules/{name}.py").read_text()
    assert all(f'{part} = r"""' in text for part in ("DOCUMENTATION", "EXAMPLES", "RETURN")), name
    assert "bulkhead.docker_nftables." + name in text


def test_only_the_runner_starts_processes() -> None:
    starters = [
        path.name
        for path in (ROOT / "plugins").rglob("*.py")
        if any(word in path.read_text() for word in ("import subprocess", "os.system(", "os.popen(", ".run_command("))
    ]
    assert starters == ["_runner.py"]
