# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a container answers with besides web pages: an echo on a UDP and on a TCP port. Only standard library.

It runs inside the container with the host's own Python: busybox as Debian builds it has no UDP server.
"""

from __future__ import annotations

import asyncio
import os
import socket
import typing


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = typing.cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        data = await reader.read(4096)
        if not data:
            break
        writer.write(data)
        await writer.drain()
    writer.close()


def listening(kind: int, port: int) -> socket.socket:
    """One socket for both families."""
    found = socket.socket(socket.AF_INET6, kind)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("::", port))
    return found


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Datagrams, sock=listening(socket.SOCK_DGRAM, int(os.environ["UDP"])))
    await asyncio.start_server(stream, sock=listening(socket.SOCK_STREAM, int(os.environ["TCP"])))
    await asyncio.Event().wait()


asyncio.run(main())
