# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: try many addresses and ports side by side and say what came back.

Sends packets and nothing else: no program is started, nothing is written. May change at any time.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
import struct
import time
import typing as t
from dataclasses import dataclass, replace

PROTOCOLS = ("tcp", "udp", "icmp")
#: Sockets open at the same time; the limit on open files may make it fewer.
MOST_SOCKETS = 1000

_PLAIN_TEXT = b"bulkhead reachability probe\r\n"
#: Errors that mean that somebody else's ICMP message came back.
_ICMP_ERRORS = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPROTO, errno.ENOPROTOOPT)
_ECHO_REQUEST: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ECHO_REPLY: dict[int, int] = {socket.AF_INET: 0, socket.AF_INET6: 129}


@dataclass(frozen=True)
class Target:
    """One thing to try; `port` is 0 for icmp, which is one echo request."""

    address: str
    protocol: str
    port: int = 0


@dataclass(frozen=True)
class Result:
    """What came back.

    `outcome` is open (an answer), refused (a TCP reset or ICMP port unreachable), timeout (nothing),
    unreachable (another ICMP error) or error (nothing could be sent).
    """

    target: Target
    outcome: str
    detail: str = ""
    source_address: str | None = None


def datagram(port: int) -> bytes:
    """Give a datagram that a service on this port is likely to answer."""
    if port == 53:
        # One question, recursion desired: the name servers of the root.
        return struct.pack("!HHHHHH", 0x6268, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 2, 1)
    if port == 123:
        # Version 4, mode client; everything else is the server's to fill in.
        return b"\x23" + bytes(47)
    return _PLAIN_TEXT


def checksum(data: bytes) -> int:
    """Compute the Internet checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(family: int, identifier: int) -> bytes:
    """Build an echo request; for IPv6 the kernel fills in the checksum."""
    head = struct.pack("!BBHHH", _ECHO_REQUEST[family], 0, 0, identifier, 1)
    if family == socket.AF_INET:
        head = struct.pack("!BBHHH", _ECHO_REQUEST[family], 0, checksum(head + _PLAIN_TEXT), identifier, 1)
    return head + _PLAIN_TEXT


def is_echo_reply(family: int, packet: bytes, identifier: int) -> bool:
    """Tell whether a packet from a raw socket answers our echo request."""
    if family == socket.AF_INET:
        packet = packet[(packet[0] & 0x0F) * 4 :] if packet else b""
    if len(packet) < 8:
        return False
    kind, _code, _sum, answered, _sequence = struct.unpack("!BBHHH", packet[:8])
    return bool(kind == _ECHO_REPLY[family] and answered == identifier)


def judge(code: int) -> tuple[str, str]:
    """Put an errno that arrived later into an outcome and its detail."""
    if code == 0:
        return "open", ""
    name = errno.errorcode.get(code, str(code))
    if code in (errno.ECONNREFUSED, errno.ECONNRESET):
        return "refused", name
    if code == errno.ETIMEDOUT:
        return "timeout", ""
    return ("unreachable" if code in _ICMP_ERRORS else "error"), name


class _Attempt:
    """One try at one target, on one non-blocking socket."""

    def __init__(self, target: Target, number: int, deadline: float) -> None:
        self.target = target
        self.number = number
        self.deadline = deadline
        self.family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        self.identifier = (os.getpid() * 31 + number) & 0xFFFF
        self.source: str | None = None
        if target.protocol == "tcp":
            self.socket = socket.socket(self.family, socket.SOCK_STREAM)
        elif target.protocol == "udp":
            self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        else:
            protocol = socket.IPPROTO_ICMP if self.family == socket.AF_INET else socket.IPPROTO_ICMPV6
            self.socket = socket.socket(self.family, socket.SOCK_RAW, protocol)
        self.socket.setblocking(False)

    @property
    def events(self) -> int:
        return selectors.EVENT_WRITE if self.target.protocol == "tcp" else selectors.EVENT_READ

    def start(self) -> int:
        """Send the first packet. Gives an errno; EINPROGRESS where an answer is awaited."""
        code = self.socket.connect_ex((self.target.address, self.target.port))
        if code not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
            return code
        try:
            self.source = self.socket.getsockname()[0]
            if self.target.protocol == "udp":
                self.socket.send(datagram(self.target.port))
            elif self.target.protocol == "icmp":
                self.socket.send(echo_request(self.family, self.identifier))
            else:
                return code
        except OSError as error:
            return error.errno or errno.EIO
        return errno.EINPROGRESS

    def ready(self) -> int | None:
        """Read what came: an errno, 0 for an answer, None to wait on."""
        if self.target.protocol == "tcp":
            return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            packet = self.socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError as error:
            return error.errno or errno.EIO
        if self.target.protocol == "icmp" and not is_echo_reply(self.family, packet, self.identifier):
            return None
        return 0


def _room() -> int:
    """How many sockets may be open, after raising this process's limit as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_SOCKETS + 100
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST_SOCKETS if soft == resource.RLIM_INFINITY else max(1, min(MOST_SOCKETS, soft - 50))


def _begin(target: Target, number: int, timeout: float) -> _Attempt | Result:
    """Start one attempt; a Result where it is over at once."""
    try:
        attempt = _Attempt(target, number, time.monotonic() + timeout)
    except OSError as error:
        return Result(target, "error", f"{errno.errorcode.get(error.errno or 0, '')} {error.strerror}".strip())
    code = attempt.start()
    if code == errno.EINPROGRESS:
        return attempt
    attempt.socket.close()
    outcome, detail = judge(code)
    if outcome == "unreachable":
        # The kernel itself refused: there is no route, and nothing was sent.
        outcome, detail = "error", f"{detail}: nothing was sent ({os.strerror(code)})"
    return Result(target, outcome, detail, attempt.source)


def _round(targets: t.Sequence[Target], timeout: float, room: int) -> list[Result]:
    results: dict[int, Result] = {}
    waiting = list(enumerate(targets))[::-1]
    flying: dict[int, _Attempt] = {}

    def finish(attempt: _Attempt, code: int) -> None:
        selector.unregister(attempt.socket)
        attempt.socket.close()
        del flying[attempt.number]
        outcome, detail = judge(code)
        results[attempt.number] = Result(attempt.target, outcome, detail, attempt.source)

    with selectors.DefaultSelector() as selector:
        while waiting or flying:
            while waiting and len(flying) < room:
                number, target = waiting.pop()
                begun = _begin(target, number, timeout)
                if isinstance(begun, Result):
                    results[number] = begun
                else:
                    flying[number] = begun
                    selector.register(begun.socket, begun.events, begun)
            if not flying:
                continue
            nearest = min(attempt.deadline for attempt in flying.values())
            for key, _events in selector.select(max(0.0, nearest - time.monotonic())):
                code = key.data.ready()
                if code is not None:
                    finish(key.data, code)
            now = time.monotonic()
            for attempt in [one for one in flying.values() if one.deadline <= now]:
                finish(attempt, errno.ETIMEDOUT)
    return [results[number] for number in range(len(targets))]


def probe(targets: t.Sequence[Target], timeout: float = 2.0, retries: int = 1) -> list[Result]:
    """Try every target, all side by side; what nothing came back from is tried again."""
    room = _room()
    results = _round(targets, timeout, room)
    for attempt in range(retries):
        silent = [number for number, result in enumerate(results) if result.outcome == "timeout"]
        if not silent:
            break
        again = _round([targets[number] for number in silent], timeout, room)
        for number, result in zip(silent, again):
            note = f"attempt {attempt + 2}" if result.outcome != "timeout" else ""
            detail = " ".join(part for part in (result.detail, note) if part)
            results[number] = replace(result, detail=detail)
    return results
