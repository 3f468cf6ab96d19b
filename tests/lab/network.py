# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wires of a lab: a bridge per network in one `lan` namespace, which is also the way to the internet.

Only documentation addresses (RFC 5737, RFC 3849) are used.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.netns import Namespace
from lab.process import LabError, wait_for

INTERNET4 = "192.0.2.80"
INTERNET6 = "2001:db8:80::80"
INTERNET_HTTP = 80
INTERNET_UDP = 7


@dataclass(frozen=True)
class Network:
    """One network: its bridge and its addresses, made from a number between 2 and 254."""

    bridge: str
    interface: str
    prefix4: str
    prefix6: str
    number: int

    def address4(self, suffix: int) -> str:
        return f"{self.prefix4}.{suffix}"

    def address6(self, suffix: int) -> str:
        """The number reads the same in both families: .50 and ::50."""
        return f"{self.prefix6}::{suffix}"

    def mac(self, suffix: int) -> str:
        """The same at every boot, as a network card's: neighbours remember it."""
        return f"02:00:5e:00:{self.number:02x}:{suffix:02x}"


LAN = Network("br0", "eth0", "198.51.100", "2001:db8", 0)
SECOND = Network("br1", "eth1", "203.0.113", "2001:db8:1", 1)
NETWORKS = (LAN, SECOND)


class Wiring:
    """The `lan` namespace of one lab."""

    def __init__(self, name: str) -> None:
        self.namespace = Namespace(name)

    def create(self) -> None:
        self.namespace.create()
        self.namespace.sysctl({"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"})
        lines = [f"address add {INTERNET4}/32 dev lo", f"address add {INTERNET6}/128 dev lo nodad"]
        for net in NETWORKS:
            lines += [
                f"link add {net.bridge} address {net.mac(1)} type bridge stp_state 0 forward_delay 0",
                f"link set {net.bridge} up",
                f"address add {net.address4(1)}/24 dev {net.bridge}",
                f"address add {net.address6(1)}/64 dev {net.bridge} nodad",
            ]
        self.namespace.ip(*lines)

    def start_internet(self, log: Path) -> None:
        """A web server and a UDP echo behind the gateway. They end when something ends them."""
        script = Path(__file__).with_name("internet.py")
        argv = [sys.executable, "-I", str(script), INTERNET4, INTERNET6, str(INTERNET_HTTP), str(INTERNET_UDP)]
        with open(log, "wb") as out:
            server = subprocess.Popen(
                self.namespace.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def ready() -> bool:
            if server.poll() is not None:
                raise LabError(f"the internet server ended: {log.read_text()}")
            return b"ready" in log.read_bytes()

        wait_for("the internet server listens", ready, 10)

    def plug(self, port: str, namespace: Namespace, net: Network, suffix: int, default_route: bool = True) -> None:
        """Connect a namespace to a network; the port is the name of the wire's end at the bridge."""
        self.unplug(port)
        self.namespace.ip(
            f"link add {port} type veth peer name {net.interface} address {net.mac(suffix)} netns {namespace.name}",
            f"link set {port} master {net.bridge} up",
        )
        lines = [
            f"link set {net.interface} up",
            f"address add {net.address4(suffix)}/24 dev {net.interface}",
            f"address add {net.address6(suffix)}/64 dev {net.interface} nodad",
        ]
        if default_route:
            lines += [
                f"route add default via {net.address4(1)}",
                f"route add default via {net.address6(1)} dev {net.interface}",
            ]
        namespace.ip(*lines)

    def unplug(self, port: str) -> None:
        self.namespace.run(["ip", "link", "delete", port], check=False)
