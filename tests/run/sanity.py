# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ansible-test sanity`` without the open internet.

ansible-test makes small virtual environments with pinned linters and wants get-pip.py from Ansible's CI file host
for each. It takes a file from its cache instead when there is one: ours unpacks the pip that comes with Python. The
packages themselves then come from the package index that pip is configured for.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from run.pythons import find_pythons
from run.report import Counts
from run.step import Step
from run.tree import ROOT

SHIM = '''"""Stands in for get-pip.py: the pip that Python itself carries."""
import ensurepip
ensurepip.bootstrap()
'''

FAILED_LINE = r"^[a-z0-9_-]+( --python [0-9.]+)?$"


def pip_version() -> str:
    """Read which get-pip.py this ansible-test asks for."""
    import ansible_test

    source = Path(ansible_test.__path__[0]) / "_internal" / "python_requirements.py"
    found = re.search(r"pip='([0-9.]+)'", source.read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError(f"{source} no longer says which pip it wants")
    return found.group(1)


def sanity_steps(tree: Path, bin_dir: Path) -> list[Step]:
    """All sanity tests, compile and import on every Python that a target may have and this machine has."""
    home = ROOT / ".test-output" / "ansible-test-home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"get_pip_{pip_version().replace('.', '_')}.py").write_text(SHIM, encoding="utf-8")
    pythons = find_pythons()
    path = [str(bin_dir), *(str(python.parent) for python in pythons.values()), *system_path()]
    env = {"HOME": str(home), "PATH": os.pathsep.join(path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if "PIP_CONFIG_FILE" not in os.environ:
        for user in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
            if user.is_file():
                env["PIP_CONFIG_FILE"] = str(user)
    argv = [str(bin_dir / "ansible-test"), "sanity", "--color", "no", "-v"]
    return [Step(f"ansible-test sanity (Python {', '.join(pythons)})", argv, tree, env, count_sanity)]


def system_path() -> list[str]:
    """The machine's PATH without directories of shims."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [part for part in parts if part and "shims" not in Path(part).parts]


def count_sanity(name: str, code: int, output: str) -> Counts:
    """Count each sanity test (per Python version) that ran, failed or could not run.

    A test that has nothing to look at ("No tests applicable") counts as nothing; one that can't run here is a skip.
    """
    counts = Counts()
    started = len(re.findall(r'^Running sanity test "', output, re.MULTILINE))
    nothing_to_do = len(re.findall(r"^No tests applicable\.$", output, re.MULTILINE))
    summary = re.search(r"^FATAL: The \d+ sanity test\(s\) listed.*\n((?:[a-z0-9_-]+.*\n?)+)", output, re.MULTILINE)
    failed = [line for line in (summary.group(1).splitlines() if summary else []) if re.match(FAILED_LINE, line)]
    in_vain = 0
    for line in re.findall(r"^WARNING: (.*)$", output, re.MULTILINE):
        if "disabled by default" in line or not re.search(r"[Ss]kipping|[Rr]equired program|could not be found", line):
            continue
        counts.add(Counts.skip(line))
        in_vain += "because it could not be found" not in line and "collection version checks" not in line
    for line in failed:
        counts.add(Counts.bad(f"ansible-test sanity --test {line}"))
    counts.passed = max(0, started - nothing_to_do - len(failed) - in_vain)
    if not started or (code != 0 and not failed):
        counts.add(Counts.bad(f"{name} (exit code {code})"))
    return counts
