# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One test host: real systemd, sshd and dockerd on a disk and in a network namespace of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import typing as t

from lab import images, machine, paths, probing
from lab.containers import STANDARD, ContainerSet, answering, bring_up
from lab.disk import Disk
from lab.netns import Namespace, guard
from lab.network import LAN, SECOND
from lab.process import LabError, alive, kill, run, start_time, wait_for

if t.TYPE_CHECKING:
    from lab.topology import Lab

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Host:
    """A host of a lab; `Lab.add_host` makes it."""

    def __init__(self, lab: Lab, name: str, config: dict[str, t.Any]) -> None:
        self.lab = lab
        self.name = paths.check_part_name(name)
        self.config = config
        self.suite: str = config["suite"]
        self.namespace = Namespace(paths.prefix(lab.name) + name)
        self.disk = Disk(lab.name, name)

    # -- addresses -------------------------------------------------------------------------------------------------

    @property
    def suffix(self) -> int:
        return self.config["suffix"]

    @property
    def address4(self) -> str:
        return LAN.address4(self.suffix)

    @property
    def address6(self) -> str:
        return LAN.address6(self.suffix)

    @property
    def second_address4(self) -> str | None:
        return SECOND.address4(self.suffix) if self.config["second_nic"] else None

    @property
    def second_address6(self) -> str | None:
        return SECOND.address6(self.suffix) if self.config["second_nic"] else None

    # -- power -----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Lay the disk; nothing runs yet."""
        image = images.image(self.suite, self.config["variant"])
        daemon_json = self.config["daemon_json"]
        text = None if daemon_json is None else json.dumps(daemon_json, indent=2) + "\n"
        self.disk.create(image, self.lab.public_key(), text)

    @property
    def running(self) -> bool:
        return alive(self.config.get("pid"), self.config.get("began"))

    @property
    def ns_pid(self) -> int:
        """The pid, seen from the machine, of the host's process 1."""
        pid = machine.init_pid(self.config["pid"]) if self.running else None
        if pid is None:
            raise LabError(f"host {self.name} is not running")
        return pid

    def boot(self, wait: bool = True, timeout: float = 90) -> None:
        """Switch the host on in a new network namespace: rules in the kernel of an earlier life are gone."""
        if self.running:
            raise LabError(f"host {self.name} is already running")
        self._new_namespace()
        process = machine.start(self)
        self.config["pid"] = process.pid
        self.config["began"] = start_time(process.pid)
        self.lab.save()
        self._process = process  # reaped through poll() once it ends
        if wait:
            self.wait_ready(timeout)

    def _new_namespace(self) -> None:
        wiring = self.lab.wiring
        ports = [(f"h{self.suffix}a", LAN)] + ([(f"h{self.suffix}b", SECOND)] if self.config["second_nic"] else [])
        for port, _net in ports:
            wiring.unplug(port)
        self.namespace.delete()
        self.namespace.create()
        for port, net in ports:
            wiring.plug(port, self.namespace, net, self.suffix, default_route=net is LAN)

    def wait_ready(self, timeout: float = 90) -> None:
        """Until systemd has started everything; failed units do not stop the wait, `failed_units` names them."""

        def ready() -> bool:
            if not self.running:
                raise LabError(f"host {self.name} ended while booting; last lines:\n{self._console_end()}")
            if machine.init_pid(self.config["pid"]) is None:
                return False
            state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            return state in ("running", "degraded")

        try:
            wait_for(f"host {self.name} is up", ready, timeout, interval=0.2)
        except LabError as exc:
            jobs = self.run(["systemctl", "list-jobs", "--no-pager"], check=False).stdout if self.running else ""
            raise LabError(f"{exc}\n{jobs}{self._console_end()}") from exc

    def failed_units(self) -> list[str]:
        listing = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]).stdout
        return [line.split()[0] for line in listing.splitlines() if line.strip()]

    def wait_docker(self, timeout: float = 60) -> None:
        """Until the daemon answers."""
        wait_for(
            f"Docker on {self.name} answers",
            lambda: self.run(["docker", "version"], check=False).returncode == 0,
            timeout,
            interval=0.2,
        )

    def poweroff(self, timeout: float = 60) -> None:
        """Shut down in good order."""
        self.run(["systemctl", "poweroff"], check=False)
        self._wait_gone(timeout)

    def kill(self) -> None:
        """Power loss: every process of the host dies at the same moment, nothing is told."""
        kill(self.ns_pid, signal.SIGKILL)
        self._wait_gone(20)

    def reboot(self, hard: bool = False, wait: bool = True) -> None:
        """Off and on again with the same disk; hard means the power is lost.

        `systemctl reboot` inside the host would keep the network namespace and the rules in it: use this instead.
        """
        self.kill() if hard else self.poweroff()
        self.boot(wait=wait)

    def _wait_gone(self, timeout: float) -> None:
        process = getattr(self, "_process", None)

        def gone() -> bool:
            if process is not None:
                process.poll()
            return not self.running

        wait_for(f"host {self.name} is off", gone, timeout)
        self.config["pid"] = self.config["began"] = None
        self.lab.save()

    def _console_end(self) -> str:
        try:
            return "\n".join(self.disk.console.read_text(errors="replace").splitlines()[-25:])
        except FileNotFoundError:
            return ""

    # -- use -------------------------------------------------------------------------------------------------------

    def command(self, argv: t.Sequence[str]) -> list[str]:
        """The command as the machine must start it to run inside the host."""
        pid = self.ns_pid
        guard(f"/proc/{pid}/ns/net")
        return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv]

    def run(
        self,
        argv: t.Sequence[str],
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root."""
        return run(self.command(argv), check=check, input=input, timeout=timeout, env=_ENVIRONMENT)

    def popen(self, argv: t.Sequence[str], **options: t.Any) -> subprocess.Popen[t.Any]:
        """Start a command inside and go on."""
        return subprocess.Popen(self.command(argv), env=_ENVIRONMENT, **options)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the host, on or off."""
        if self.running:
            self.run(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", path], input=text)
        else:
            self.disk.write(path, text, mode)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout if self.running else self.disk.read(path)

    def containers_up(self, containers: ContainerSet) -> float:
        """Make networks and containers of a set, those that are missing; gives the seconds until all answered."""
        begin = time.monotonic()
        self.wait_docker()
        bring_up(self, containers)
        self.wait_containers(containers)
        return time.monotonic() - begin

    def wait_containers(self, containers: ContainerSet = STANDARD, timeout: float = 60) -> None:
        """Until every container of a set runs and answers the host itself."""
        wait_for(f"the containers on {self.name} answer", lambda: answering(self, containers), timeout, interval=0.2)

    def probe(self, targets: t.Sequence[probing.Target], timeout: float = 1.0) -> list[probing.Target]:
        """What the host itself reaches."""
        return probing.probe(self.namespace, targets, timeout)

    def sockets(self) -> str:
        return self.run(["ss", "-Hlntup"]).stdout


def override(name: str) -> str | None:
    """A binary named by the environment that replaces the packaged one."""
    path = os.environ.get(name)
    if path and not os.access(path, os.X_OK):
        raise LabError(f"{name}={path}: not an executable file")
    return os.path.abspath(path) if path else None
