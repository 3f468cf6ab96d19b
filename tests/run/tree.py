# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of the collection where Ansible's tools want it: ``ansible_collections/NAMESPACE/NAME``, with its own git.

ansible-test refuses symbolic links to the checkout and lists files from git, so the copy has what git would track
(new files included, ignored ones not).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, NAME = "bulkhead", "docker_nftables"


def git_files(root: Path) -> list[Path]:
    """List the files that are, or would be, in the repository and still exist."""
    argv = ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "-c", "-o", "--exclude-standard"]
    done = subprocess.run(argv, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    names = sorted(set(filter(None, done.stdout.split("\0"))))
    return [Path(name) for name in names if (root / name).is_symlink() or (root / name).is_file()]


def copy_collection(top: Path) -> Path:
    """Copy the collection below ``top`` and give the path of the copy."""
    target = top / "ansible_collections" / NAMESPACE / NAME
    for name in git_files(ROOT):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed between the listing and now
    for argv in (["git", "init", "-q"], ["git", "add", "-A", "-f"]):
        subprocess.run(argv, cwd=target, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


def python_files(root: Path, *names: str) -> list[str]:
    """Name those of the given directories that exist and hold Python."""
    return [name for name in names if any((root / name).rglob("*.py"))]
