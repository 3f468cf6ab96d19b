# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start systemd-nspawn for a host, in a cgroup of the host's own."""

from __future__ import annotations

import errno
import os
import subprocess
import typing as t
from pathlib import Path

from lab import paths
from lab.netns import guard
from lab.process import LabError, children, kill, wait_for

if t.TYPE_CHECKING:
    from lab.host import Host

# dockerd and runc need these calls, which nspawn keeps from its machines by default.
_CALLS = "add_key keyctl request_key bpf perf_event_open"
_SETTINGS = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
_NSPAWN = Path("/run/systemd/nspawn")


def _make_cgroup(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    # On a machine with cgroup v2 alone the controllers must be handed down; beside version 1 there are none to hand.
    for parent in reversed(directory.parents):
        if parent == paths.cgroup_root() or paths.cgroup_root() in parent.parents:
            for controller in (parent / "cgroup.controllers").read_text().split():
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _below(directory: Path) -> list[Path]:
    """A cgroup and all in it, the innermost first; others may remove some meanwhile."""
    return [Path(path) for path, _dirs, _files in os.walk(directory, topdown=False)]


def _members(cgroup: Path) -> list[int]:
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split() if pid != "0"]
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise


def remove_cgroup(directory: Path) -> None:
    """Kill what still runs in a cgroup and below, and remove it."""

    def gone() -> bool:
        for cgroup in _below(directory):
            for pid in _members(cgroup):
                kill(pid)
            try:
                cgroup.rmdir()
            except FileNotFoundError:
                continue
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise
        return not directory.exists()

    wait_for(f"the cgroup {directory} is gone", gone, 20)


def start(host: Host) -> subprocess.Popen[bytes]:
    """Boot the host; its network namespace must be ready."""
    disk, config = host.disk, host.config
    machine = host.namespace.name
    argv = ["systemd-nspawn", "--quiet", "-D", str(disk.root), "--boot", "--register=no", "--keep-unit"]
    argv += [f"--network-namespace-path={guard(host.namespace.path)}", "--capability=all"]
    argv += [f"--system-call-filter={_CALLS}", f"--machine={machine}", f"--hostname={host.name}"]
    argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
    argv += [f"--bind={disk.docker}:/var/lib/docker", f"--bind={disk.containerd}:/var/lib/containerd"]
    if Path("/lib/modules").is_dir():
        argv += ["--bind-ro=/lib/modules"]
    for key, places in (
        ("dockerd", ("/usr/sbin/dockerd", "/usr/bin/dockerd")),
        ("docker_proxy", ("/usr/sbin/docker-proxy", "/usr/bin/docker-proxy", "/usr/libexec/docker/docker-proxy")),
    ):
        if config.get(key):
            argv += [f"--bind-ro={config[key]}:{disk.find(*places)}"]
    group = paths.cgroup_root() / host.lab.name / host.name
    _make_cgroup(group)

    def enter() -> None:
        with open(group / "cgroup.procs", "w", encoding="ascii") as procs:
            procs.write("0")

    with open(disk.console, "ab") as console:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_SETTINGS},
            start_new_session=True,
            preexec_fn=enter,
        )


def init_pid(nspawn: int) -> int | None:
    """The host's process 1 once it is systemd; None before."""
    for pid in children(nspawn):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if fields["NSpid"].split()[-1] == "1" and fields["Name"].strip() == "systemd":
            return pid
    return None


def remove_traces(machines: t.Iterable[str], roots: t.Iterable[Path]) -> None:
    """What nspawn itself leaves under /run when it is killed."""
    for machine in machines:
        for parent in ("propagate", "unix-export"):
            try:
                (_NSPAWN / parent / machine).rmdir()
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise LabError(f"cannot remove what nspawn left of {machine}: {exc}") from exc
    for root in roots:
        found = root.stat()
        (_NSPAWN / "locks" / f"inode-{found.st_dev}:{found.st_ino}").unlink(missing_ok=True)
