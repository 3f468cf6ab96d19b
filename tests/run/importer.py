# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Galaxy does with an upload: build the artefact, look into it, and run galaxy-importer on it."""

from __future__ import annotations

import re
from pathlib import Path

from run.report import Counts
from run.step import Step

STRAYS = re.compile(r"(^|/)(\.git|\.venv|\.test-output|\.ci|__pycache__|\.pytest_cache|\.ansible|tests/output)(/|$)")


def importer_steps(tree: Path, bin_dir: Path, work: Path) -> list[Step]:
    """Build, check for strays, import."""
    dist = work / "dist"
    dist.mkdir(parents=True, exist_ok=True)
    config = work / "galaxy-importer.cfg"
    config.write_text(
        "[galaxy-importer]\nlog_level_main = INFO\nrun_ansible_doc = True\nrun_ansible_lint = True\n"
        "offline_ansible_lint = True\ncheck_required_tags = True\nrun_flake8 = True\n",
        encoding="utf-8",
    )
    env = {"GALAXY_IMPORTER_CONFIG": str(config), "HOME": str(work)}
    python = str(bin_dir / "python")
    build = [str(bin_dir / "ansible-galaxy"), "collection", "build", "--force", "--output-path", str(dist), str(tree)]
    artefact = str(dist / artefact_name(tree))
    return [
        Step("ansible-galaxy collection build", build, tree, {"ANSIBLE_HOME": str(work / "ansible")}),
        Step("no stray files in the artefact", ["tar", "-tzf", artefact], work, {}, count_strays),
        Step("galaxy-importer", [python, "-m", "galaxy_importer.main", artefact], work, env, count_importer),
    ]


def artefact_name(tree: Path) -> str:
    """Name the artefact as ansible-galaxy does, from galaxy.yml."""
    text = (tree / "galaxy.yml").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(namespace|name|version): *([^\s#]+)", text, re.MULTILINE))
    return "{namespace}-{name}-{version}.tar.gz".format(**fields)


def count_strays(name: str, code: int, output: str) -> Counts:
    """Fail on anything in the artefact that belongs to a working copy and not to the collection."""
    strays = [line for line in output.splitlines() if STRAYS.search(line)]
    if code != 0 or strays:
        return Counts.bad(f"{name}: {', '.join(strays[:5]) or f'exit code {code}'}")
    return Counts.ok()


def count_importer(name: str, code: int, output: str) -> Counts:
    """Fail on any error; warnings only stay in the log, as on Galaxy."""
    errors = [line for line in output.splitlines() if re.match(r"(ERROR|CRITICAL)\b", line)]
    if code != 0 or errors or "Importer processing completed successfully" not in output:
        return Counts.bad(f"{name}: {errors[0] if errors else f'exit code {code}'}")
    return Counts.ok()
