# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a bare Debian able to run the commands of the Makefile: system packages and a virtual environment.

Runs on the system's Python before anything is installed, so: standard library only, and nothing newer than 3.8.
Every step looks first and does nothing when nothing is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
APT_LISTS = ("tests/run/requirements-apt.txt", "tests/lab/requirements-apt.txt")
PIP_LISTS = {"lab": ("tests/requirements-lab.txt",), "test": ("tests/requirements-lab.txt", "tests/requirements.txt")}


class SetupError(Exception):
    """Something the user has to know; the text says what to do."""


def say(text):
    """Print one progress line."""
    print("[setup] " + text, flush=True)


def call(argv, what, env=None):
    """Run a program, quiet unless it fails."""
    started = time.monotonic()
    say(what + " ...")
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, check=False)
    if done.returncode != 0:
        raise SetupError("{0} failed ({1}):\n{2}".format(what, " ".join(argv), done.stdout[-4000:]))
    say("{0}: done in {1:.0f} s".format(what, time.monotonic() - started))


def listed_packages():
    """Read the package lists: one name per line, comments after #."""
    names = []
    for path in APT_LISTS:
        file = ROOT / path
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        names += [line.split("#", 1)[0].strip() for line in lines]
    return sorted({name for name in names if name})


def missing_packages(names):
    """Tell which of the Debian packages are not installed."""
    if not names:
        return []
    argv = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"] + names
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    present = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in present]


def install_packages(names):
    """Install the missing Debian packages, updating the package index only then."""
    missing = missing_packages(names)
    if not missing:
        return
    if os.geteuid() != 0:
        raise SetupError("these packages are missing and installing them needs root: " + " ".join(missing))
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    call(["apt-get", "update", "-q"], "update the package index", env)
    argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends"] + missing
    call(argv, "install " + " ".join(missing), env)


def usable(python):
    """Tell whether this interpreter has a supported version, and can make virtual environments."""
    code = "import ensurepip, json, sys, venv; print(json.dumps([list(sys.version_info[:2]), sys.executable]))"
    try:
        done = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    version, path = json.loads(done.stdout.decode())
    return path if OLDEST_PYTHON <= tuple(version) <= NEWEST_PYTHON else None


def find_python():
    """Find an interpreter for the virtual environment; the real path, never a shim."""
    names = [sys.executable, "/usr/bin/python3", "python3.13", "python3.12", "python3.11"]
    for name in names:
        found = shutil.which(name)
        path = usable(found) if found else None
        if path:
            return path
    return None


def fingerprint(python, lists):
    """Digest of everything that decides what is in the environment."""
    digest = hashlib.sha256(python.encode())
    for path in lists:
        digest.update((ROOT / path).read_bytes())
    return digest.hexdigest()


def make_environment(venv, sets):
    """Create or complete the virtual environment; start afresh when a list it was made from has changed."""
    stamp = venv / "bulkhead-stamp.json"
    old = {}
    if stamp.is_file() and usable(str(venv / "bin" / "python")):
        old = json.loads(stamp.read_text(encoding="utf-8"))
    python = old.get("python") or find_python()
    if python is None:
        install_packages(["python3-venv"])
        python = find_python()
    if python is None:
        raise SetupError("no Python 3.11 to 3.13 with venv found; on Debian: apt-get install python3-venv")
    wanted = {name: fingerprint(python, PIP_LISTS[name]) for name in PIP_LISTS}
    known = old.get("sets", {})
    if not old or any(wanted.get(name) != value for name, value in known.items()):
        shutil.rmtree(str(venv), ignore_errors=True)
        call([python, "-m", "venv", str(venv)], "create {0} from {1}".format(venv.name, python))
        known = {}
    for name in sets:
        if name in known:
            continue
        argv = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        for path in PIP_LISTS[name]:
            argv += ["-r", str(ROOT / path)]
        call(argv, "install the Python packages for '{0}' (about a minute)".format(name))
        known[name] = wanted[name]
        stamp.write_text(json.dumps({"python": python, "sets": known}), encoding="utf-8")


def main():
    """Entry point of ``python3 tests/run/bootstrap.py``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", default=".venv", type=Path)
    parser.add_argument("sets", nargs="+", choices=sorted(PIP_LISTS))
    options = parser.parse_args()
    try:
        if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
            raise SetupError("this is not a Debian system: install these by hand: " + " ".join(listed_packages()))
        install_packages(listed_packages())
        make_environment((ROOT / options.venv).absolute(), options.sets)
    except SetupError as problem:
        print("[setup] FAILED: {0}".format(problem), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
