# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A captured host whose neighbours, containers and routers are wire ends: a test puts packets on and sees what comes.

Nothing behind a wire end answers by itself, so every packet there is one of the test's or of the host's. No clock
decides that a packet was dropped. A kernel hands packets between veth interfaces through one queue per CPU; the test
stays on one CPU and sends markers through the same queue, until all that came before has gone its whole way.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import typing as t
from contextlib import contextmanager

from integration import frames

from world import packets
from world.build import PLAIN, UNLIMITED, bare, host_lines, six
from world.capture import Capture
from world.packets import Packet
from world.rooms import Room

_ALL, _MARKER = 0x0003, 0x88B5
#: A packet and what it causes never pass more wires and bridges than this.
_HOPS = 6
LIMITED = "this kernel limits ICMP errors for all network namespaces together"
LAN, SRC, DST = "lan", "src", "dst"
#: Two more networks the host routes between; switch-1 has a rule for interfaces of these names.
ROUTED = {
    SRC: ("src_if", ("192.0.2.1/25", "2001:db8:5::1/64"), ("192.0.2.10", "2001:db8:5::10")),
    DST: ("dst_if", ("192.0.2.129/25", "2001:db8:6::1/64"), ("192.0.2.200", "2001:db8:6::200")),
}
#: A second container in the network without communication between containers.
SECOND = ("noicc2", "172.22.0.3", "noicc-0")


@dataclasses.dataclass(frozen=True)
class Flow:
    """A connection somebody tries: from a wire end, with any source address."""

    end: str
    source: str
    destination: str
    protocol: str
    port: int
    #: The server answers with an ICMP error instead.
    complain: bool = False
    tos: int = 0
    #: Of the first TCP segment.
    flags: int = frames.SYN

    def __str__(self) -> str:
        port = f" port {self.port}" if self.port else ""
        odd = "".join(f" {name} {value:#x}" for name, value in (("tos", self.tos), ("flags", self.flags)) if value)
        return f"{self.protocol} from {self.source} ({self.end}) to {self.destination}{port}{odd}"


#: What the far ends saw of the call, of the answer, and of the call's next packet.
Outcome = t.Tuple[str, str, str]


def _mac(kind: int, number: int) -> bytes:
    return bytes((2, 0xB4, 0, 0, kind, number))


def _text(mac: bytes) -> str:
    return mac.hex(":")


@dataclasses.dataclass(frozen=True)
class End:
    """A far end: its own MAC address, the one it sends to, and the interface of the host behind it."""

    mac: bytes
    gateway: bytes
    interface: str


class Wires:
    """To be used in a with statement."""

    def __init__(self, capture: Capture, neighbours: t.Iterable[str]) -> None:
        self.capture = capture
        self.host, self.far = Room(), Room()
        self.ends: dict[str, End] = {}
        self.owners: dict[str, str] = {}
        self._serial = 1000
        self.far.sysctl({"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
        #: Older kernels limit ICMP errors for all namespaces together: then some of them never come.
        self.limited = "net.ipv4.icmp_msgs_per_sec" in self.host.sysctl({**PLAIN, **UNLIMITED})
        self._wire(neighbours)
        self.host.sysctl(capture.sysctls)
        with self.far.entered():
            self._wire_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._wire_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._wire_socket.setblocking(False)
        with self.host.entered():
            self._marks = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_MARKER))
        self._marks.bind(("eth0", _MARKER))
        self._marks.settimeout(5)

    def _wire(self, neighbours: t.Iterable[str]) -> None:
        lines = self._veth(LAN, "eth0") + host_lines(self.capture)
        bridges = {name: _mac(3, place) for place, name in enumerate(self.capture.bridges())}
        lines += [f"link set {name} address {_text(mac)}" for name, mac in bridges.items()]
        for name, ends in self.capture.containers.items():
            for place, one in enumerate(ends):
                wire = f"{name}-{place}"
                lines += self._veth(wire, f"v-{wire}", bridges[one.bridge])
                lines += [f"link set v-{wire} master {one.bridge} up"]
                for address in one.addresses:
                    lines += self._neighbour(wire, bare(address), one.bridge)
        name, address, beside = SECOND
        bridge = self._bridge_of(beside)
        lines += [*self._veth(name, f"v-{name}", bridges[bridge]), f"link set v-{name} master {bridge} up"]
        lines += self._neighbour(name, address, bridge)
        for end, (interface, own, others) in ROUTED.items():
            lines += [*self._veth(end, interface), f"link set {interface} up"]
            lines += [f"address add {one} dev {interface}{' nodad' if six(one) else ''}" for one in own]
            for other in others:
                lines += self._neighbour(end, other, interface)
        for address in (*neighbours, *self.capture.gateways):
            lines += self._neighbour(LAN, address, "eth0")
        self.host.ip(*lines)
        self.far.ip(*(f"link set {name} up" for name in self.ends))

    def _bridge_of(self, wire: str) -> str:
        name, _dash, place = wire.rpartition("-")
        return self.capture.containers[name][int(place)].bridge

    def _veth(self, name: str, interface: str, gateway: bytes | None = None) -> list[str]:
        number = len(self.ends)
        mine, its = _mac(1, number), _mac(2, number)
        self.ends[name] = End(mine, gateway or its, interface)
        return [
            f"link add {interface} address {_text(its)} type veth peer name {name} address {_text(mine)} "
            f"netns {self.far.path}"
        ]

    def _neighbour(self, wire: str, address: str, interface: str) -> list[str]:
        self.owners[address] = wire
        return [f"neigh replace {address} lladdr {_text(self.ends[wire].mac)} dev {interface} nud permanent"]

    def _send(self, end: str, packet: bytes, to: bytes | None = None) -> None:
        one = self.ends[end]
        self._wire_socket.sendto(frames.ethernet(one.mac, to or one.gateway, packet), (end, 0))

    def _settle(self) -> list[tuple[str, Packet]]:
        """Let everything under way arrive; gives what the far ends have received."""
        one = self.ends[LAN]
        marker = one.gateway + one.mac + _MARKER.to_bytes(2, "big") + bytes(46)
        for _hop in range(_HOPS):
            self._wire_socket.sendto(marker, (LAN, 0))
            self._marks.recv(200)
        seen: list[tuple[str, Packet]] = []
        while True:
            try:
                frame, where = self._wire_socket.recvfrom(4096)
            except BlockingIOError:
                return seen
            packet = packets.parse(frame[14:]) if where[2] == socket.PACKET_HOST and len(frame) > 34 else None
            if packet is not None:
                seen.append((where[0], packet))

    def exchange(self, flows: t.Sequence[Flow]) -> list[Outcome]:
        """Try all of them at once, each as a new connection."""
        with _one_cpu():
            return self._exchange(flows)

    def _exchange(self, flows: t.Sequence[Flow]) -> list[Outcome]:
        self._settle()
        numbers: dict[int, Flow] = {}
        for flow in flows:
            self._serial += 1
            if self._serial > 65535:
                raise OverflowError("a flow's number is its source port, and none is used twice")
            numbers[self._serial] = flow
            self._call(self._serial, flow, again=False)
        called = self._settle()
        for end, packet in called:
            if packet.number in numbers and _arrived(packet):
                complain = numbers[packet.number].complain and packet.protocol == "udp"
                reply = packets.complaint(packet) if complain else packets.answer(packet)
                self._send(end, reply, self._beside(end, packet.source))
        answered = self._settle()
        for number in sorted({packet.number for _end, packet in answered if packet.protocol != "error"}):
            if number in numbers:
                self._call(number, numbers[number], again=True)
        followed = self._settle()
        return [
            (_described(called, number), _described(answered, number), _described(followed, number))
            for number in numbers
        ]

    def _call(self, number: int, flow: Flow, *, again: bool) -> None:
        where = flow.source, flow.destination, flow.protocol, number, flow.port
        packet = packets.with_tos(packets.call(number, *where, again, flow.flags), flow.tos)
        self._send(flow.end, packet, self._beside(flow.end, flow.destination))

    def _beside(self, end: str, address: str) -> bytes | None:
        """Containers of one bridge send to each other's MAC address."""
        other = self.owners.get(address)
        if other is None or other == end or not self.ends[end].interface.startswith("v-"):
            return None
        same = self.ends[other].gateway == self.ends[end].gateway
        return self.ends[other].mac if same else None

    def close(self) -> None:
        self._wire_socket.close()
        self._marks.close()
        self.host.close()
        self.far.close()

    def __enter__(self) -> Wires:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()


@contextmanager
def _one_cpu() -> t.Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _arrived(packet: Packet) -> bool:
    return packet.protocol != "error" and not packet.flags & frames.RST


def _described(seen: list[tuple[str, Packet]], number: int) -> str:
    """One phase of one flow: who has received what; nothing means dropped."""
    said = []
    for end, packet in seen:
        if packet.number != number:
            continue
        if packet.protocol == "error":
            said.append(f"{end} is told ICMP {packet.error} by {packet.source}")
        elif packet.protocol == "tcp" and packet.flags & frames.RST:
            said.append(f"{end} gets a reset from {packet.source}")
        else:
            port = "" if packet.dport in (0, number) else f" port {packet.dport}"
            marked = f" marked {packet.dscp}" if packet.dscp else ""
            said.append(f"{end} gets it from {packet.source} for {packet.destination}{port}{marked}")
    return "; ".join(sorted(said)) or "dropped"
