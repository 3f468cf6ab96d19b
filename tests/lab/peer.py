# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A neighbour on the LAN: a network namespace from which things are tried."""

from __future__ import annotations

import subprocess
import sys
import typing as t

from lab import paths, probing
from lab.containers import Target, subnets
from lab.netns import Namespace
from lab.network import LAN, SECOND

if t.TYPE_CHECKING:
    from lab.host import Host
    from lab.topology import Lab


class Peer:
    """A neighbour; `Lab.add_peer` makes it."""

    def __init__(self, lab: Lab, name: str, config: dict[str, t.Any]) -> None:
        self.lab = lab
        self.name = paths.check_part_name(name)
        self.config = config
        self.network = SECOND if config["second_network"] else LAN
        self.namespace = Namespace(paths.prefix(lab.name) + name)

    @property
    def address4(self) -> str:
        return self.network.address4(self.config["suffix"])

    @property
    def address6(self) -> str:
        return self.network.address6(self.config["suffix"])

    def create(self) -> None:
        self.namespace.create()
        suffix = self.config["suffix"]
        self.lab.wiring.plug(f"p{suffix}{self.network.bridge}", self.namespace, self.network, suffix)

    def run(self, argv: t.Sequence[str], **options: t.Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine in the neighbour's network."""
        return self.namespace.run(argv, **options)

    def popen(self, argv: t.Sequence[str], **options: t.Any) -> subprocess.Popen[t.Any]:
        return subprocess.Popen(self.namespace.command(argv), **options)

    def route_via(self, host: Host, *prefixes: str) -> None:
        """Reach these networks, by default all of the host's containers, through the host."""
        for prefix in prefixes or subnets(host):
            gateway = host.address6 if ":" in prefix else host.address4
            self.namespace.ip(f"route replace {prefix} via {gateway}")

    def probe(self, targets: t.Sequence[Target], timeout: float = 1.0) -> list[Target]:
        """Try every target once, side by side; the targets come back with `result`, `errno` and `seconds`."""
        return probing.probe(self.namespace, targets, timeout)

    def watch(self, targets: t.Sequence[Target], timeout: float = 1.0, rate: float = 150) -> probing.Watch:
        """Go on trying in the background until `stop()`."""
        return probing.Watch(self.namespace, targets, timeout, rate)

    def get(self, address: str, port: int = 80, timeout: int = 3) -> str:
        """The page at an address, to know who answers."""
        url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
        script = (
            "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode())"
        )
        return self.run([sys.executable, "-I", "-c", script, url, str(timeout)]).stdout.strip()
