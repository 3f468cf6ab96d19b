# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs inside a namespace of test_policy_packets.py: `serve` answers on sockets, `dial` tries many at once.

Both read JSON from their input: `serve` one list of [address, protocol, port], `dial` one batch a line.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import sys
import time
import typing as t

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
REFUSED = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES)


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve() -> None:
    selector = selectors.DefaultSelector()
    for address, protocol, port in json.loads(sys.stdin.readline()):
        server = socket.socket(family(address), KINDS[protocol])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family(address) == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address, port))
        if protocol == "tcp":
            server.listen(200)
        selector.register(server, selectors.EVENT_READ, protocol)
    print("ready", flush=True)
    while True:
        for key, _events in selector.select():
            server = t.cast(socket.socket, key.fileobj)
            if key.data == "tcp":
                server.accept()[0].close()
            else:
                data, peer = server.recvfrom(100)
                server.sendto(data, peer)


def start(dial: dict[str, t.Any]) -> socket.socket:
    client = socket.socket(family(dial["source"]), KINDS[dial["protocol"]])
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dial["device"].encode())
    client.bind((dial["source"], dial["source_port"]))
    code = client.connect_ex((dial["destination"], dial["port"]))
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, f"cannot dial {dial}")
    if dial["protocol"] == "udp":
        client.send(b"?")
    return client


def ended(client: socket.socket, protocol: str) -> str:
    if protocol == "tcp":
        code = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    else:
        try:
            code = 0 if client.recv(100) == b"?" else errno.EBADMSG
        except OSError as problem:
            code = problem.errno or errno.EBADMSG
    return "open" if code == 0 else "refused" if code in REFUSED else errno.errorcode[code]


def batch(dials: list[dict[str, t.Any]], timeout: float) -> list[str]:
    selector = selectors.DefaultSelector()
    outcomes = ["timeout"] * len(dials)
    for number, dial in enumerate(dials):
        event = selectors.EVENT_WRITE if dial["protocol"] == "tcp" else selectors.EVENT_READ
        selector.register(start(dial), event, number)
    deadline = time.monotonic() + timeout
    while selector.get_map() and time.monotonic() < deadline:
        for key, _events in selector.select(max(0.0, deadline - time.monotonic())):
            client = t.cast(socket.socket, key.fileobj)
            outcomes[key.data] = ended(client, dials[key.data]["protocol"])
            selector.unregister(client)
            client.close()
    for key in list(selector.get_map().values()):
        t.cast(socket.socket, key.fileobj).close()
    selector.close()
    return outcomes


def dial() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(batch(asked["dials"], asked["timeout"])), flush=True)


if __name__ == "__main__":
    {"serve": serve, "dial": dial}[sys.argv[1]]()
