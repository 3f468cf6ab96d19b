# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo leaves on the machine, and how it is taken away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lab import cleanup, images, paths, state
from lab.process import LabError

NAME = "demo"


def _record() -> Path:
    return paths.cache() / "demo.json"


def _built() -> list[str]:
    """The images that a demo has built; others were here before and stay."""
    try:
        return list(json.loads(_record().read_text()))
    except FileNotFoundError:
        return []


def image(suite: str) -> None:
    """Have the image ready, and remember it if it was not there before."""
    place = paths.cache() / "images"
    before = {entry.name for entry in place.iterdir()} if place.is_dir() else set()
    name = images.image(suite).name
    if name not in before:
        _record().write_text(json.dumps(sorted({*_built(), name})) + "\n")


def remove_lab() -> bool:
    """Remove the hosts of an earlier demo; tells whether there were any."""
    record = state.load(NAME)
    if record is not None and not record["detached"] and state.owned_by_living(record):
        raise LabError(f"another demo is running (process {record['owner']['pid']})")
    there = NAME in state.known()
    cleanup.remove(NAME)
    return there


def clean() -> None:
    """Remove the demo's hosts and namespaces, and the images that it built, unless somebody's host stands on one."""
    print("The demo's host and neighbour are gone." if remove_lab() else "There was no demo.")
    place = paths.cache() / "images"
    mounts = Path("/proc/self/mounts").read_text()
    kept = []
    for name in _built():
        if str(place / name) in mounts:
            kept.append(name)
            continue
        shutil.rmtree(place / name, ignore_errors=True)
        print(f"Image {name} is gone.")
    if kept:
        _record().write_text(json.dumps(kept) + "\n")
        print(f"Other hosts use {', '.join(kept)}: run this again when they are gone.")
    else:
        _record().unlink(missing_ok=True)
    if place.is_dir() and not any(entry.is_dir() for entry in place.iterdir()):
        shutil.rmtree(place, ignore_errors=True)
    try:
        paths.cache().rmdir()
    except OSError:  # the tests' images are there, or nothing is
        pass
    print("What is left: the Debian packages that were installed, and .venv (`make clean` removes it).")
