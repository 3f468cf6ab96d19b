# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A captured host as namespaces: the host, a neighbour on its network, and a room for each container."""

from __future__ import annotations

import socket
import typing as t
from contextlib import ExitStack

from lab.probe import probe
from world.capture import Capture, End
from world.rooms import Room

PEER = ("198.51.100.50/24", "2001:db8::50/64")
#: What the neighbour reaches through the host without a published port.
BEHIND = ("172.16.0.0/12", "fd00:20::/64")
#: A test sends more errors a second than a kernel would by itself.
UNLIMITED = {
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv4.icmp_msgs_per_sec": "100000",
    "net.ipv4.icmp_msgs_burst": "100000",
    "net.ipv6.icmp.ratelimit": "0",
}
PLAIN = {
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
SERVED = 80


def six(address: str) -> bool:
    return ":" in address


def bare(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]


def _address(address: str, device: str) -> str:
    return f"address add {address} dev {device}{' nodad' if six(address) else ''}"


def host_lines(capture: Capture) -> list[str]:
    """For ip(8): the host's bridges, addresses and routes; eth0 is there."""
    lines = []
    for interface in capture.interfaces:
        if interface.bridge:
            lines.append(f"link add {interface.name} type bridge forward_delay 0 mcast_snooping 0")
        lines.append(f"link set {interface.name} up")
        lines += [_address(address, interface.name) for address in interface.addresses]
    return [*lines, *(f"route add default via {gateway}" for gateway in capture.gateways)]


def _listener(address: str, port: int) -> socket.socket:
    """A socket the kernel accepts connections for by itself."""
    server = socket.socket(socket.AF_INET6 if six(address) else socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if six(address):
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((address, port))
    server.listen(4096)
    return server


def load(host: Room, text: str) -> None:
    """Add nft text to a host's rules."""
    host.run("nft", "-f", "-", text=text)


def restore(host: Room, family: str, text: str) -> None:
    """Load a save of iptables or ip6tables; each table in it replaces the one there is."""
    host.run(f"{family}-restore", text=text)


def load_rules(host: Room, capture: Capture) -> None:
    """All rules that were captured."""
    for family, text in capture.iptables.items():
        if text:
            restore(host, family, text)
    if capture.native:
        load(host, capture.native)


class World:
    """To be used in a with statement."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.host, self.peer = Room(), Room()
        self.containers: dict[str, Room] = {}
        self._sockets: list[socket.socket] = []
        self._wire_lan()
        for name, ends in capture.containers.items():
            self._wire_container(name, ends)
        self.host.sysctl(capture.sysctls)
        for address, port in capture.listening:
            self.listen(self.host, address, port)

    def _wire_lan(self) -> None:
        host, peer = self.host, self.peer
        for room in (host, peer):
            room.sysctl({**PLAIN, **UNLIMITED})
        host.ip(f"link add eth0 type veth peer name eth0 netns {peer.path}", *host_lines(self.capture))
        through = {six(address): bare(address) for address in self.capture.interfaces[0].addresses}
        peer.ip(
            "link set eth0 up",
            *[_address(address, "eth0") for address in PEER],
            *[f"route add {prefix} via {through[six(prefix)]}" for prefix in BEHIND],
        )

    def _wire_container(self, name: str, ends: t.Sequence[End]) -> None:
        room = self.containers[name] = Room()
        room.sysctl({**PLAIN, **UNLIMITED})
        outer, inner = [], []
        for number, end in enumerate(ends):
            device, wire = f"eth{number}", f"v{number}-{name}"
            outer += [
                f"link add {wire} type veth peer name {device} netns {room.path}",
                f"link set {wire} master {end.bridge} up",
            ]
            inner += [f"link set {device} up", *[_address(address, device) for address in end.addresses]]
            if not number:
                inner += [f"route add default via {gateway}" for gateway in end.gateways]
        self.host.ip(*outer)
        room.ip(*inner)
        for end in ends[:1]:
            for address in sorted({"::" if six(address) else "0.0.0.0" for address in end.addresses}):
                self.listen(room, address, SERVED)

    def listen(self, room: Room, address: str, port: int) -> None:
        with room.entered():
            self._sockets.append(_listener(address, port))

    def load_capture(self) -> None:
        load_rules(self.host, self.capture)

    def reach(self, targets: t.Iterable[tuple[str, int]], timeout: float) -> dict[tuple[str, int], str]:
        """What the neighbour gets from each address and port."""
        asked = [{"proto": "tcp", "address": address, "port": port} for address, port in targets]
        with self.peer.entered():
            answers = probe(asked, timeout)
        return {(one["address"], one["port"]): one["errno"] or one["result"] for one in answers}

    def close(self) -> None:
        with ExitStack() as stack:
            for room in (self.host, self.peer, *self.containers.values()):
                stack.callback(room.close)
            for server in self._sockets:
                stack.callback(server.close)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()
