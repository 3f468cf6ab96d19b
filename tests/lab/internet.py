# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What answers behind the gateway: a page that names the caller, and a UDP echo. Needs nothing but Python.

internet.py ADDRESS4 ADDRESS6 HTTP_PORT UDP_PORT
"""

from __future__ import annotations

import asyncio
import sys
import typing


async def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.wait_for(reader.readline(), 5)
        body = f"internet sees {writer.get_extra_info('peername')[0]}\n".encode()
        head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(head + body)
        await writer.drain()
    except (OSError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = typing.cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def _main(addresses: list[str], http_port: int, udp_port: int) -> None:
    for address in addresses:
        await asyncio.start_server(_page, address, http_port)
        await asyncio.get_running_loop().create_datagram_endpoint(_Echo, local_addr=(address, udp_port))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])))
