# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ethernet frames made by hand, for what no socket would send."""

from __future__ import annotations

import socket
import struct
import typing as t

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
HOP_BY_HOP, IPIP, TCP, UDP, DCCP, ROUTING, FRAGMENT, GRE, ICMP, OPTIONS, SCTP = 0, 4, 6, 17, 33, 43, 44, 47, 1, 60, 132
_SIX = ":"


def checksum(data: bytes) -> int:
    """The internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address: str) -> bytes:
    """An address of either family."""
    return socket.inet_pton(socket.AF_INET6 if _SIX in address else socket.AF_INET, address)


def _filled(segment: bytes, at: int, source: str, destination: str, protocol: int) -> bytes:
    if _SIX in source:
        pseudo = packed(source) + packed(destination) + struct.pack("!IHBB", len(segment), 0, 0, protocol)
    else:
        pseudo = packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, len(segment))
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment) or 0xFFFF) + segment[at + 2 :]


def tcp(source: str, destination: str, sport: int, dport: int, flags: int) -> bytes:
    """A TCP segment without data."""
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1, 1 if flags & ACK else 0, 5 << 4, flags, 64240, 0, 0)
    return _filled(segment, 16, source, destination, TCP)


def udp(source: str, destination: str, sport: int, dport: int, data: bytes = b"bulkhead" * 8) -> bytes:
    """A UDP datagram."""
    segment = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return _filled(segment, 6, source, destination, UDP)


def icmp(kind: int, data: bytes = b"\0" * 16) -> bytes:
    """An ICMP message of IPv4."""
    message = struct.pack("!BBH", kind, 0, 0) + data
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def ip4(
    source: str,
    destination: str,
    protocol: int,
    data: bytes,
    offset: int = 0,
    more: bool = False,
    options: bytes = b"",
    ident: int = 0,
) -> bytes:
    """An IPv4 packet; `offset` is in bytes."""
    words = 5 + len(options) // 4
    fragment = (0x2000 if more else 0) | offset // 8
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(data), ident, fragment, 64, protocol, 0)
    head += packed(source) + packed(destination) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data


def ip6(source: str, destination: str, protocol: int, data: bytes) -> bytes:
    """An IPv6 packet; extension headers are part of the data."""
    return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + packed(source) + packed(destination) + data


def ip(source: str, destination: str, protocol: int, data: bytes) -> bytes:
    """A packet of the family of its addresses."""
    return (ip6 if _SIX in source else ip4)(source, destination, protocol, data)


def fragments4(source: str, destination: str, protocol: int, data: bytes, ident: int, size: int) -> list[bytes]:
    """The same in pieces of `size` bytes of data."""
    pieces = range(0, len(data), size)
    return [
        ip4(source, destination, protocol, data[at : at + size], at, at + size < len(data), ident=ident)
        for at in pieces
    ]


def fragments6(source: str, destination: str, protocol: int, data: bytes, ident: int, size: int) -> list[bytes]:
    """The same with IPv6's fragment header; one piece makes an atomic fragment."""
    result = []
    for at in range(0, len(data), size):
        more = at + size < len(data)
        head = struct.pack("!BBHI", protocol, 0, at | more, ident)
        result.append(ip6(source, destination, FRAGMENT, head + data[at : at + size]))
    return result


def extended(kinds: t.Sequence[int], protocol: int, data: bytes) -> tuple[int, bytes]:
    """Put empty extension headers before the data; gives the first header's number and everything."""
    following = protocol
    for kind in reversed(kinds):
        # A routing header of type 4 without segments left is skipped, as one of padding is.
        option = (4, 0, 0) if kind == ROUTING else (1, 4, 0)
        body = struct.pack("!BBBBI", following, 0, *option)
        data, following = body + data, kind
    return following, data


def ethernet(source: bytes, destination: bytes, packet: bytes, vlan: int | None = None) -> bytes:
    """A frame around a packet."""
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return destination + source + tag + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet
