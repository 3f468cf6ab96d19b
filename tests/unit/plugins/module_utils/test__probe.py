# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import threading
import time
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _probe
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._probe import Target, probe


def outcomes(targets: list[Target], timeout: float = 0.3, retries: int = 0) -> list[str]:
    return [result.outcome for result in probe(targets, timeout, retries)]


@pytest.fixture
def listener() -> t.Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def full_listener() -> t.Iterator[int]:
    """A port that swallows new connections: its queue is full, so the kernel answers nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        held = []
        for _attempt in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            held.append(one)
        time.sleep(0.1)
        yield address[1]
        for one in held:
            one.close()


class Echo:
    """A UDP service; the first `deaf` datagrams are lost."""

    def __init__(self, deaf: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.deaf = deaf
        self.heard: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Echo:
        self.thread.start()
        return self

    def _serve(self) -> None:
        while True:
            data, address = self.socket.recvfrom(2048)
            if data == b"stop":
                return
            self.heard.append(data)
            if len(self.heard) > self.deaf:
                self.socket.sendto(data, address)

    def __exit__(self, *_exc: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"stop", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()


def test_tcp(listener: int, closed_port: int, full_listener: int) -> None:
    targets = [Target("127.0.0.1", "tcp", port) for port in (listener, closed_port, full_listener)]

    results = probe(targets, 0.3, 0)

    assert [result.outcome for result in results] == ["open", "refused", "timeout"]
    assert [result.target for result in results] == targets
    assert {result.source_address for result in results} == {"127.0.0.1"}


def test_udp(closed_port: int) -> None:
    with Echo() as echo, Echo(deaf=9) as silent:
        targets = [Target("127.0.0.1", "udp", port) for port in (echo.port, closed_port, silent.port)]
        assert outcomes(targets) == ["open", "refused", "timeout"]
        assert echo.heard == [_probe.datagram(echo.port)]


def test_a_lost_datagram_is_sent_again() -> None:
    with Echo(deaf=1) as echo:
        result = probe([Target("127.0.0.1", "udp", echo.port)], 0.2, 1)[0]
    assert (result.outcome, result.detail) == ("open", "attempt 2")


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        result = probe([Target("::1", "tcp", server.getsockname()[1])], 0.3, 0)[0]
    assert (result.outcome, result.source_address) == ("open", "::1")


@pytest.mark.skipif(os.geteuid() != 0, reason="ping needs root")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ping(address: str) -> None:
    assert outcomes([Target(address, "icmp")]) == ["open"]


def test_what_cannot_be_sent_is_an_error_and_not_silence() -> None:
    result = probe([Target("255.255.255.255", "tcp", 9)], 0.3, 0)[0]
    assert result.outcome == "error" and "nothing was sent" in result.detail


def test_all_at_once_and_more_than_there_are_file_descriptors(
    listener: int, full_listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_probe, "_room", lambda: 40)
    targets = [Target("127.0.0.1", "tcp", full_listener)] * 80 + [Target("127.0.0.1", "tcp", listener)] * 20
    began = time.monotonic()

    found = outcomes(targets, 0.3)

    assert found == ["timeout"] * 80 + ["open"] * 20
    assert 0.5 < time.monotonic() - began < 2


def test_the_limit_on_open_files_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, 512))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: asked.append(limits))
    assert _probe._room() == 462
    assert asked == [(512, 512)]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, "open"),
        (errno.ECONNREFUSED, "refused"),
        (errno.ECONNRESET, "refused"),
        (errno.ETIMEDOUT, "timeout"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EACCES, "unreachable"),
        (errno.EMFILE, "error"),
    ],
)
def test_errors_have_one_meaning(code: int, outcome: str) -> None:
    assert _probe.judge(code)[0] == outcome


def test_datagrams_suit_the_service() -> None:
    query = _probe.datagram(53)
    assert struct.unpack("!HHHHHH", query[:12])[1:] == (0x0100, 1, 0, 0, 0)
    assert query[12:] == b"\x00\x00\x02\x00\x01"  # NS of the root, class IN
    assert len(_probe.datagram(123)) == 48 and _probe.datagram(123)[0] == 0x23
    assert _probe.datagram(7).isascii()


def test_echo_requests_carry_a_checksum_that_verifies() -> None:
    packet = _probe.echo_request(socket.AF_INET, 4660)
    assert _probe.checksum(packet) == 0
    assert packet[0] == 8


@pytest.mark.parametrize(
    ("packet", "is_ours"),
    [
        (b"\x45" + bytes(19) + struct.pack("!BBHHH", 0, 0, 0, 7, 1), True),
        (b"\x45" + bytes(19) + struct.pack("!BBHHH", 0, 0, 0, 8, 1), False),
        (b"\x45" + bytes(19) + struct.pack("!BBHHH", 8, 0, 0, 7, 1), False),
        (b"\x46" + bytes(23) + struct.pack("!BBHHH", 0, 0, 0, 7, 1), True),
        (b"\x45" + bytes(5), False),
        (b"", False),
    ],
)
def test_only_our_own_echo_counts(packet: bytes, is_ours: bool) -> None:
    assert _probe.is_echo_reply(socket.AF_INET, packet, 7) is is_ours
