# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accept connections and drop them at once; runs inside a container, on the standard library alone."""

from __future__ import annotations

import select
import socket
import struct
import sys

RESET = struct.pack("ii", 1, 0)


def main(port: int) -> None:
    """Serve until killed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it: closing resets, so that nothing is left in TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    listener.bind(("0.0.0.0", port))
    listener.listen(4096)
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    while True:
        poller.poll()
        try:
            while True:
                listener.accept()[0].close()
        except BlockingIOError:
            continue


main(int(sys.argv[1]))
