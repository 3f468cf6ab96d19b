# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's disk: what it writes lies over the cached image; images and containers lie in plain directories.

Docker from 29 on keeps them with containerd, and neither can lay an overlay over the host's own.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from lab import paths
from lab.process import LabError, run

_SSHD = "UseDNS no\nPermitRootLogin prohibit-password\nMaxStartups 200\n"


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below a directory, deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(directory) or point.startswith(f"{directory}/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


class Disk:
    """The file systems of one host."""

    def __init__(self, lab: str, host: str) -> None:
        self.directory = paths.DISKS / lab / host
        self.root = self.directory / "root"
        self.docker = self.directory / "docker"
        self.containerd = self.directory / "containerd"
        self.console = self.directory / "console.log"

    def create(self, image: Path, public_key: str, daemon_json: str | None) -> None:
        for part in ("upper", "work", "root", "docker", "containerd"):
            (self.directory / part).mkdir(parents=True)
        layers = f"lowerdir={image},upperdir={self.directory}/upper,workdir={self.directory}/work"
        run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)])
        name = self.directory.name
        self.write("/etc/machine-id", f"{uuid.uuid4().hex}\n")  # without one, systemd would enable every service
        self.write("/etc/hostname", f"{name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost {name}\n::1 localhost ip6-localhost\n")
        self.write("/etc/resolv.conf", "")
        self.write("/etc/ssh/sshd_config.d/lab.conf", _SSHD)
        self.write("/root/.ssh/authorized_keys", public_key, 0o600)
        if daemon_json is not None:
            self.write("/etc/docker/daemon.json", daemon_json)

    def _inside(self, path: str) -> Path:
        if not path.startswith("/"):
            raise LabError(f"{path}: an absolute path inside the host is wanted")
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        return self._inside(path).read_text()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        target.write_text(text)
        os.chmod(target, mode)

    def find(self, *candidates: str) -> str:
        """The first of these paths that the image has; the first of all when it has none."""
        for path in candidates:
            if self._inside(path).exists():
                return path
        return candidates[0]


def destroy(directory: Path) -> None:
    """Unmount and remove everything below a directory."""
    for point in mounts_below(directory):
        if run(["umount", point], check=False).returncode != 0:
            run(["umount", "--lazy", point])
    if directory.exists():
        shutil.rmtree(directory)
