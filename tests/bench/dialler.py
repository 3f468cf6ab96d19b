# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make new TCP connections one after the other, for a while; print how many a second.

A handshake on one machine ends inside the call of connect, so a single blocking loop keeps
the kernel busy with packets instead of this process busy with bookkeeping.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

RESET = struct.pack("ii", 1, 0)


def main(address: str, port: int, seconds: float) -> None:
    """Count connections that were established within the time."""
    target = (address, port)
    made = 0
    start = time.monotonic()
    end = start + seconds
    while time.monotonic() < end:
        for _number in range(100):
            attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            attempt.settimeout(None)
            try:
                attempt.connect(target)
            except ConnectionResetError:
                # The other side has closed already: it was established all the same.
                pass
            attempt.close()
            made += 1
    print(made / (time.monotonic() - start))


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
