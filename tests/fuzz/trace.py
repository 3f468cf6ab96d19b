# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Traces of packets as the kernel sends them over netlink: every rule that matched, in order."""

from __future__ import annotations

import socket
import struct
import typing as t

_NETLINK_NETFILTER, _GROUP_TRACE, _MESSAGE_TRACE = 12, 9, (10 << 8) | 17
_SOL_NETLINK, _ADD_MEMBERSHIP, _RCVBUFFORCE = 270, 1, 33
_POLICY = 1
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6", 5: "netdev", 7: "bridge"}
_VERDICTS = {0: "drop", 1: "accept", 2**32 - 1: "continue", 2**32 - 3: "jump", 2**32 - 4: "goto", 2**32 - 5: "return"}


class Event(t.NamedTuple):
    """One step, in the form of the analyser's own; the headers come with the first event of each base chain.

    An event without a handle that is no policy is the end of a chain.
    """

    family: str
    table: str
    chain: str
    handle: int
    verdict: str
    network: bytes
    transport: bytes
    oif: int
    mark: int


class Tracer:
    """Receives traces in the namespace in which it is made."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 128 << 20)
        self.socket.bind((0, 0))
        self.socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_TRACE)
        self.socket.settimeout(10)

    def events(self) -> t.Iterator[Event]:
        """Wait for the next events; ends after each buffer. Lost messages raise OSError."""
        data = self.socket.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == _MESSAGE_TRACE:
                yield _event(data, at + 16, at + length)
            at += (length + 3) & ~3


def _event(data: bytes, at: int, end: int) -> Event:
    family = _FAMILIES.get(data[at], str(data[at]))
    table = chain = verdict = ""
    handle = kind = oif = mark = policy = 0
    network = transport = b""
    at += 4
    while at + 4 <= end:
        length, number = struct.unpack_from("=HH", data, at)
        value = data[at + 4 : at + length]
        number &= 0x3FFF
        if number == 1:
            table = value[:-1].decode()
        elif number == 2:
            chain = value[:-1].decode()
        elif number == 3:
            handle = int.from_bytes(value, "big")
        elif number == 4:
            kind = int.from_bytes(value, "big")
        elif number == 5:
            verdict = _VERDICTS.get(int.from_bytes(value[4:8], "big"), "?")
        elif number == 8:
            network = value
        elif number == 9:
            transport = value
        elif number == 12:
            oif = int.from_bytes(value, "big")
        elif number == 14:
            mark = int.from_bytes(value, "big")
        elif number == 16:
            policy = int.from_bytes(value, "big")
        at += (length + 3) & ~3
    if kind == _POLICY:
        return Event(family, table, chain, 0, f"policy {_VERDICTS.get(policy, '?')}", network, transport, oif, mark)
    return Event(family, table, chain, handle, verdict, network, transport, oif, mark)
