# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold one conversation: send a numbered line, wait until it comes back, again and again, until standard input closes.

conversation.py tcp ADDRESS PORT    over a connection to something that echoes
conversation.py run COMMAND...      through a command that copies its input to its output

Prints "talking" after the first exchange. At the end JSON: the number of exchanges, the longest time one took, and
what broke the conversation, if anything did.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time

PATIENCE = 10.0
PAUSE = 0.02


def channel() -> tuple[int, int]:
    """Descriptors to read from and to write to."""
    if sys.argv[1] == "tcp":
        connection = socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=5)
        connection.setblocking(True)
        number = connection.detach()
        return number, number
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return process.stdout.fileno(), process.stdin.fileno()


def exchange(reader: int, writer: int, number: int) -> str | None:
    """One line there and back; a sentence when it did not come back as it went."""
    line = b"%d\n" % number
    os.write(writer, line)
    answer = b""
    deadline = time.monotonic() + PATIENCE
    while not answer.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return f"no answer to line {number} in {PATIENCE:g} s"
        part = os.read(reader, 4096)
        if not part:
            return f"the connection ended at line {number}"
        answer += part
    return None if answer == line else f"line {number} came back as {answer!r}"


def main() -> None:
    exchanges, longest, broken = 0, 0.0, None
    try:
        reader, writer = channel()
        while broken is None and not select.select([0], [], [], PAUSE)[0]:
            begin = time.monotonic()
            broken = exchange(reader, writer, exchanges)
            exchanges += broken is None
            longest = max(longest, time.monotonic() - begin)
            if exchanges == 1:
                print("talking", flush=True)
    except OSError as exc:
        broken = str(exc)
    print(json.dumps({"exchanges": exchanges, "longest": longest, "broken": broken}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
