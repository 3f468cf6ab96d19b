# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network namespaces, and the guard that keeps every command out of the machine's own one."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

from lab import paths
from lab.process import LabError, run

DIRECTORY = Path("/run/netns")


Identity = t.Tuple[int, int]


def identity(path: str | Path) -> Identity:
    """What tells one namespace from all others."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def names(prefix: str) -> list[str]:
    """The named namespaces that begin so."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))


def guard(path: str | Path) -> str:
    """Refuse every namespace that no lab has made, above all the machine's own; gives the path back."""
    if identity(path) not in {identity(DIRECTORY / name) for name in names(paths.PREFIX)}:
        raise LabError(f"{path} is not a network namespace of a lab; nothing of the lab may run there")
    return str(path)


def require_lab_namespace() -> None:
    """Refuse to go on when this very process runs outside the labs' namespaces."""
    guard("/proc/self/ns/net")


def processes(namespaces: t.Collection[Identity]) -> list[int]:
    """All processes that live in one of these namespaces."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if identity(f"/proc/{entry}/ns/net") in namespaces:
                    found.append(int(entry))
            except OSError:
                continue
    return found


class Namespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = DIRECTORY / name

    def exists(self) -> bool:
        return self.path.exists()

    def create(self) -> None:
        run(["ip", "netns", "add", self.name])
        guard(self.path)
        # A new namespace takes some IPv4 settings over from the machine: start from the kernel's own defaults.
        self.sysctl({"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.rp_filter": "0"})
        self.ip("link set lo up")

    def delete(self) -> None:
        if self.exists():
            run(["ip", "netns", "delete", self.name])

    def command(self, argv: t.Sequence[str]) -> list[str]:
        """The command as it must be started to run inside."""
        return ["nsenter", f"--net={guard(self.path)}", "--", *argv]

    def run(self, argv: t.Sequence[str], **options: t.Any) -> subprocess.CompletedProcess[str]:
        return run(self.command(argv), **options)

    def ip(self, *lines: str) -> None:
        """Lines for ip(8), all in one process."""
        guard(self.path)
        run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n")

    def sysctl(self, values: t.Mapping[str, str]) -> None:
        self.run(["sysctl", "-q", *(f"{key}={value}" for key, value in values.items())])
