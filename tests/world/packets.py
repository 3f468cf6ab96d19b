# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packets by hand that say which flow they belong to, whatever address translation does to them."""

from __future__ import annotations

import dataclasses
import ipaddress
import struct

from integration import frames
from integration.frames import ACK, RST, SYN, TCP, UDP, packed

ICMP, ICMP6 = 1, 58
_PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
_TAG = b"bulkhead"
#: Where a flow's number stands in sequence numbers of those who call, and of those who answer.
_CALLER, _ANSWERER = 0x10000000, 0x20000000
_ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_ECHO = {4: (8, 0), 6: (128, 129)}


@dataclasses.dataclass(frozen=True)
class Packet:
    """What a far end has seen."""

    number: int
    source: str
    destination: str
    protocol: str
    sport: int
    dport: int
    flags: int
    #: Type and code of an ICMP message that is no echo.
    error: str
    raw: bytes

    @property
    def dscp(self) -> int:
        """Where a test's own rules write down a packet's mark."""
        service = self.raw[1] if self.raw[0] >> 4 == 4 else struct.unpack("!H", self.raw[:2])[0] >> 4 & 0xFF
        return service >> 2


def version(address: str) -> int:
    return 6 if ":" in address else 4


def _summed(source: str, destination: str, protocol: int, data: bytes, at: int) -> bytes:
    """Fill in a checksum; that of ICMP has no pseudo header, that of ICMPv6 has."""
    if protocol == ICMP:
        pseudo = b""
    elif version(source) == 6:
        pseudo = packed(source) + packed(destination) + struct.pack("!IHBB", len(data), 0, 0, protocol)
    else:
        pseudo = packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, len(data))
    return data[:at] + struct.pack("!H", frames.checksum(pseudo + data) or 0xFFFF) + data[at + 2 :]


def _ip(source: str, destination: str, protocol: int, data: bytes, at: int) -> bytes:
    return frames.ip(source, destination, protocol, _summed(source, destination, protocol, data, at))


def _tcp(source: str, destination: str, sport: int, dport: int, seq: int, ack: int, flags: int) -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 64240, 0, 0)
    return _ip(source, destination, TCP, head, 16)


def _tagged(number: int) -> bytes:
    return _TAG + struct.pack("!I", number)


def with_tos(packet: bytes, tos: int) -> bytes:
    """The same with another type of service, or traffic class."""
    if packet[0] >> 4 == 6:
        first = struct.unpack("!I", packet[:4])[0] & ~(0xFF << 20) | tos << 20
        return struct.pack("!I", first) + packet[4:]
    at = (packet[0] & 15) * 4
    head = packet[:1] + bytes((tos,)) + packet[2:10] + b"\0\0" + packet[12:at]
    return head[:10] + struct.pack("!H", frames.checksum(head)) + head[12:] + packet[at:]


def call(
    number: int, source: str, destination: str, protocol: str, sport: int, dport: int, again: bool, flags: int = SYN
) -> bytes:
    """The caller's first packet, or one that follows the answer."""
    if protocol == "tcp":
        seq = _CALLER | number << 4
        if again:
            answer = _ANSWERER | number << 4
            return _tcp(source, destination, sport, dport, seq + 1, answer + 1, ACK)
        return _tcp(source, destination, sport, dport, seq, 0, flags)
    if protocol == "udp":
        head = struct.pack("!HHHH", sport, dport, 8 + len(_tagged(number)), 0)
        return _ip(source, destination, UDP, head + _tagged(number), 6)
    return _echo(source, destination, 0, sport, 1 + again, number)


def _echo(source: str, destination: str, which: int, ident: int, sequence: int, number: int) -> bytes:
    family = version(source)
    head = struct.pack("!BBHHH", _ECHO[family][which], 0, 0, ident, sequence) + _tagged(number)
    return _ip(source, destination, ICMP6 if family == 6 else ICMP, head, 2)


def answer(seen: Packet) -> bytes:
    """What a server sends to a first packet."""
    if seen.protocol == "tcp":
        seq = _CALLER | seen.number << 4
        mine = _ANSWERER | seen.number << 4
        return _tcp(seen.destination, seen.source, seen.dport, seen.sport, mine, seq + 1, SYN | ACK)
    if seen.protocol == "udp":
        return call(seen.number, seen.destination, seen.source, "udp", seen.dport, seen.sport, True)
    return _echo(seen.destination, seen.source, 1, seen.sport, 1, seen.number)


def complaint(seen: Packet) -> bytes:
    """Port unreachable, from whom the packet was for."""
    six = version(seen.source) == 6
    head = struct.pack("!BBHI", 1 if six else 3, 4 if six else 3, 0, 0) + seen.raw
    return _ip(seen.destination, seen.source, ICMP6 if six else ICMP, head, 2)


def _number(tagged: bytes) -> int | None:
    return struct.unpack("!I", tagged[8:12])[0] if tagged[:8] == _TAG and len(tagged) >= 12 else None


def parse(raw: bytes) -> Packet | None:
    """Read one of these packets; None for all others."""
    family = raw[0] >> 4
    if family == 4:
        at, kind = (raw[0] & 15) * 4, raw[9]
        raw = raw[: struct.unpack("!H", raw[2:4])[0]]
        source, destination = (".".join(map(str, raw[place : place + 4])) for place in (12, 16))
    elif family == 6:
        at, kind = 40, raw[6]
        raw = raw[: 40 + struct.unpack("!H", raw[4:6])[0]]
        source, destination = (_six(raw[place : place + 16]) for place in (8, 24))
    else:
        return None
    rest = raw[at:]
    if kind == TCP and len(rest) >= 8:
        return _parse_tcp(raw, rest, source, destination)
    if kind == UDP and len(rest) >= 8:
        number = _number(rest[8:])
        sport, dport = struct.unpack("!HH", rest[:4])
        return None if number is None else Packet(number, source, destination, "udp", sport, dport, 0, "", raw)
    if kind in (ICMP, ICMP6) and len(rest) >= 8:
        if rest[0] in _ECHO[family]:
            number = _number(rest[8:])
            ident = struct.unpack("!H", rest[4:6])[0]
            return None if number is None else Packet(number, source, destination, "icmp", ident, 0, rest[0], "", raw)
        about = parse(rest[8:]) if rest[0] in _ERRORS[family] and len(rest) > 28 else None
        if about is not None:
            return Packet(about.number, source, destination, "error", 0, 0, 0, f"{rest[0]}/{rest[1]}", raw)
    return None


def _parse_tcp(raw: bytes, rest: bytes, source: str, destination: str) -> Packet | None:
    """A packet cited by an ICMP error may end behind its sequence number."""
    sport, dport, seq = struct.unpack("!HHI", rest[:8])
    ack, flags = (struct.unpack("!I", rest[8:12])[0], rest[13]) if len(rest) >= 14 else (0, 0)
    mark = ack if flags & RST and flags & ACK else seq
    if mark & 0xF0000000 not in (_CALLER, _ANSWERER):
        return None
    return Packet((mark & 0x0FFFFFFF) >> 4, source, destination, "tcp", sport, dport, flags, "", raw)


def _six(data: bytes) -> str:
    return str(ipaddress.IPv6Address(data))
