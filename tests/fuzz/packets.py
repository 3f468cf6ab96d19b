# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packets with a number in them that no translation changes."""

from __future__ import annotations

import ipaddress
import struct
import typing as t

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58


class Packet(t.NamedTuple):
    """The first packet of a connection."""

    link: str
    family: int
    proto: int
    saddr: int
    daddr: int
    sport: int
    dport: int

    def told(self) -> str:
        make = ipaddress.IPv4Address if self.family == 4 else ipaddress.IPv6Address
        ends = f"{make(self.saddr)} {self.sport} > {make(self.daddr)} {self.dport}"
        return f"{self.link} protocol {self.proto} {ends}"


class Seen(t.NamedTuple):
    """What became of one packet."""

    verdict: str
    # Family, table, chain, handle (0 for a policy) and verdict of every rule that matched.
    steps: tuple[tuple[str, str, str, int, str], ...]
    # Source, destination, ports, outgoing interface and mark where the way ends; none for dropped packets.
    last: tuple[int, ...] | None

    def told(self) -> str:
        steps = " ".join(f"{table}/{chain}#{handle}:{verdict}" for _family, table, chain, handle, verdict in self.steps)
        return f"[{self.verdict}: {steps}: {self.last}]"


def frame(packet: Packet, number: int, mac: bytes) -> bytes:
    """An Ethernet frame; the number is the identification of IPv4 or the flow label of IPv6."""
    upper = _upper(packet)
    if packet.family == 4:
        addresses = struct.pack("!II", packet.saddr, packet.daddr)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), number, 0, 64, packet.proto, 0) + addresses
        head = head[:10] + _sum(head) + head[12:]
        kind = b"\x08\x00"
    else:
        addresses = packet.saddr.to_bytes(16, "big") + packet.daddr.to_bytes(16, "big")
        head = struct.pack("!IHBB", 0x60000000 | number, len(upper), packet.proto, 64) + addresses
        kind = b"\x86\xdd"
    if packet.proto == ICMP:
        check = _sum(upper)
    else:
        check = _sum(addresses + struct.pack("!II", len(upper), packet.proto) + upper)
    at = {TCP: 16, UDP: 6}.get(packet.proto, 2)
    return mac + b"\x02\x00\x00\x00\xff\x00" + kind + head + upper[:at] + check + upper[at + 2 :]


def _upper(packet: Packet) -> bytes:
    if packet.proto == TCP:
        return struct.pack("!HHIIBBHHH", packet.sport, packet.dport, 1, 0, 0x50, 2, 8192, 0, 0)
    if packet.proto == UDP:
        return struct.pack("!HHHH", packet.sport, packet.dport, 12, 0) + b"ping"
    kind = 8 if packet.proto == ICMP else 128
    return struct.pack("!BBHHH", kind, 0, 0, 7, 1) + b"ping"


def _sum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    # A sum of zero is sent as all ones: zero would mean that there is none.
    return struct.pack("!H", (~total & 0xFFFF) or 0xFFFF)


def number_of(network: bytes) -> int:
    """The number in a packet's network header."""
    if network[0] >> 4 == 4:
        return int.from_bytes(network[4:6], "big")
    return int.from_bytes(network[0:4], "big") & 0xFFFFF


def ends_of(network: bytes, transport: bytes) -> tuple[int, int, int, int]:
    """Source, destination and ports (zero for ICMP) of a packet as it is now."""
    if network[0] >> 4 == 4:
        saddr, daddr = struct.unpack("!II", network[12:20])
        proto = network[9]
    else:
        saddr, daddr = int.from_bytes(network[8:24], "big"), int.from_bytes(network[24:40], "big")
        proto = network[6]
    sport, dport = struct.unpack("!HH", transport[:4]) if proto in (TCP, UDP) else (0, 0)
    return saddr, daddr, sport, dport
