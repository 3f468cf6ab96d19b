# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interpreters on this machine: real ones that start, never a shim that only knows a name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TARGET_VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


def find_pythons() -> dict[str, Path]:
    """Map each version of Python that a target may have to an interpreter here that really is that version."""
    found: dict[str, Path] = {}
    for version in TARGET_VERSIONS:
        for candidate in candidates(version):
            real = starts(candidate, version)
            if real:
                found[version] = real
                break
    return found


def candidates(version: str) -> list[str]:
    """List the places to look for one version: the PATH, then pyenv's and Debian's own directories."""
    name = f"python{version}"
    places = [shutil.which(name) or "", f"/usr/bin/{name}", f"/usr/local/bin/{name}"]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/{name}"))]
    return [place for place in places if place and os.access(place, os.X_OK)]


def starts(path: str, version: str) -> Path | None:
    """Start the interpreter and ask it; a shim without the version behind it fails here."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix == sys.base_prefix, sys.executable)"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.split()
    return Path(answer[2]) if done.returncode == 0 and answer[:2] == [version, "True"] else None
