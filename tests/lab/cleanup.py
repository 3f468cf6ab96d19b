# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove a lab whatever became of it: everything is found by the lab's name, nothing need be remembered."""

from __future__ import annotations

import shutil

from lab import machine, netns, paths, state
from lab.disk import destroy
from lab.process import kill, run, wait_for


def remove(lab: str) -> None:
    """End its processes, delete its namespaces, unmount and delete its disks."""
    paths.check_lab_name(lab)
    names = netns.names(paths.prefix(lab))
    for root in paths.cgroup_roots():
        machine.remove_cgroup(root / lab)
    namespaces = {netns.identity(netns.guard(netns.DIRECTORY / name)) for name in names}

    def nobody_left() -> bool:
        left = netns.processes(namespaces)
        for pid in left:
            kill(pid)
        return not left

    wait_for(f"no process of lab {lab} is left", nobody_left, 20)
    for name in names:
        run(["ip", "netns", "delete", name])
    machine.remove_traces(names, sorted((paths.DISKS / lab).glob("*/root")))
    destroy(paths.DISKS / lab)
    shutil.rmtree(state.directory(lab), ignore_errors=True)
    for parent in (paths.RUN, paths.DISKS, *paths.cgroup_roots()):
        try:
            parent.rmdir()
        except OSError:  # another lab is there, or nothing is
            continue


def remove_orphans() -> list[str]:
    """Remove labs whose owner died without saying goodbye; labs that were left up on purpose stay."""
    removed = []
    for lab in state.known():
        record = state.load(lab)
        if record is not None and (record["detached"] or state.owned_by_living(record)):
            continue
        if record is None and state.directory(lab).is_dir() and not state.is_settled(lab):
            continue
        remove(lab)
        removed.append(lab)
    return removed
