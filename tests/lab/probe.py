# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try many targets at once from wherever this process runs. Needs nothing but Python's standard library.

probe.py once   reads {"targets": [...], "timeout": s} from standard input, writes the targets with their results
probe.py watch  the same input plus "rate"; prints a line, then tries again and again until standard input closes,
                and writes what it saw

A target is {"proto": "tcp" or "udp", "address": IP, "port": number}; other keys are handed through. Results:
  open         TCP: connected. UDP: the datagram came back.
  refused      TCP reset, or ICMP says that the port is unreachable
  unreachable  another ICMP error or no route; "errno" names it
  timeout      nothing came
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import resource
import select
import socket
import sys
import time
import typing as t

Target = t.Dict[str, t.Any]
Done = t.Callable[["Attempt", str, t.Optional[str]], None]
_MAX_OPEN = 1000
# IP_RECVERR and IPV6_RECVERR, which the socket module does not name
_REPORT_ERRORS = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_PAYLOAD = b"bulkhead probe\n"


class Attempt:
    """One new socket for one target."""

    def __init__(self, target: Target, index: int, timeout: float) -> None:
        self.target = target
        self.index = index
        self.began = time.time()
        self.udp = target["proto"] == "udp"
        family = socket.AF_INET6 if ":" in target["address"] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM if self.udp else socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(*_REPORT_ERRORS[family], 1)  # else the kernel keeps many ICMP errors to itself
        now = time.monotonic()
        self.deadline = now + timeout
        # A datagram may be lost while addresses are being resolved: send again until the time is over.
        self.resend = [now + timeout * part for part in (0.3, 0.6)] if self.udp else []

    def start(self) -> int:
        """An errno; EINPROGRESS when an answer is awaited."""
        code = self.socket.connect_ex((self.target["address"], self.target["port"]))
        if self.udp and code == 0:
            return self._send() or errno.EINPROGRESS
        return code

    def _send(self) -> int:
        try:
            self.socket.send(_PAYLOAD)
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    def again(self, now: float) -> int:
        """Send a datagram once more when it is time; an errno or 0."""
        if self.resend and now >= self.resend[0]:
            self.resend.pop(0)
            return self._send()
        return 0

    def ready(self) -> int | None:
        """What the socket says: an errno, 0 for open, None for wait on."""
        if not self.udp:
            return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0


def verdict(code: int) -> tuple[str, str | None]:
    """An errno in the words of this tool."""
    if code == 0:
        return "open", None
    if code == errno.ECONNREFUSED:
        return "refused", None
    if code == errno.ETIMEDOUT:
        return "timeout", None
    return "unreachable", errno.errorcode.get(code, str(code))


class Prober:
    """Runs attempts side by side; `done` hears each result."""

    def __init__(self, timeout: float, done: Done) -> None:
        self.timeout = timeout
        self.done = done
        self.open: dict[int, Attempt] = {}
        self.poll = select.poll()
        self.times: list[tuple[float, int, Attempt]] = []
        self._serial = 0

    def start(self, target: Target, index: int) -> Attempt:
        attempt = Attempt(target, index, self.timeout)
        code = attempt.start()
        if code != errno.EINPROGRESS:
            self._finish(attempt, code)
            return attempt
        number = attempt.socket.fileno()
        self.open[number] = attempt
        self.poll.register(number, select.POLLIN if attempt.udp else select.POLLOUT)
        for moment in (*attempt.resend, attempt.deadline):
            self._serial += 1
            heapq.heappush(self.times, (moment, self._serial, attempt))
        return attempt

    def step(self, longest: float) -> None:
        """Wait at most so long for something to happen, and deal with it."""
        now = time.monotonic()
        if self.times:
            longest = min(longest, max(0.0, self.times[0][0] - now))
        for number, _events in self.poll.poll(longest * 1000):
            attempt = self.open.get(number)
            code = attempt.ready() if attempt else None
            if attempt and code is not None:
                self._finish(attempt, code)
        now = time.monotonic()
        while self.times and self.times[0][0] <= now:
            attempt = heapq.heappop(self.times)[2]
            if attempt.socket.fileno() < 0:
                continue
            code = errno.ETIMEDOUT if now >= attempt.deadline else attempt.again(now)
            if code:
                self._finish(attempt, code)

    def _finish(self, attempt: Attempt, code: int) -> None:
        number = attempt.socket.fileno()
        if self.open.pop(number, None) is not None:
            self.poll.unregister(number)
        attempt.socket.close()
        self.done(attempt, *verdict(code))


def probe(targets: list[Target], timeout: float) -> list[Target]:
    """Every target once, side by side."""
    results: list[Target] = [{} for _rest in targets]

    def done(attempt: Attempt, result: str, name: str | None) -> None:
        taken = round(time.time() - attempt.began, 4)
        results[attempt.index] = {**attempt.target, "result": result, "errno": name, "seconds": taken}

    prober = Prober(timeout, done)
    waiting = list(enumerate(targets))
    while waiting or prober.open:
        while waiting and len(prober.open) < _MAX_OPEN:
            index, target = waiting.pop(0)
            prober.start(target, index)
        if prober.open:
            prober.step(timeout)
    return results


def watch(targets: list[Target], timeout: float, rate: float, stop_fd: int) -> dict[str, t.Any]:
    """Start attempts at an even rate, target after target, until stop_fd has something to read."""
    successes: list[dict[str, t.Any]] = []
    counts: list[dict[str, int]] = [{} for _rest in targets]
    last: list[float] = [0.0] * len(targets)
    gaps: list[float] = [0.0] * len(targets)
    attempts = skipped = 0

    def done(attempt: Attempt, result: str, name: str | None) -> None:
        key = f"{result}:{name}" if name else result
        counts[attempt.index][key] = counts[attempt.index].get(key, 0) + 1
        if result == "open":
            successes.append({"time": attempt.began, "answered": time.time(), "target": attempt.target})

    prober = Prober(timeout, done)
    begin = due = time.monotonic()
    began = time.time()
    turn = 0
    while not select.select([stop_fd], [], [], 0)[0]:
        now = time.monotonic()
        while due <= now:
            due = max(due + 1 / rate, now - 0.2)  # after a stall catch up a little, not everything
            if len(prober.open) >= _MAX_OPEN:
                skipped += 1
                break
            index = turn % len(targets)
            turn += 1
            started = time.monotonic()
            if last[index]:
                gaps[index] = max(gaps[index], started - last[index])
            last[index] = started
            attempts += 1
            prober.start(targets[index], index)
        prober.step(max(0.0, due - time.monotonic()))
    seconds = time.monotonic() - begin
    while prober.open:
        prober.step(timeout)
    per_target = [{**target, "results": counts[i], "max_gap": gaps[i]} for i, target in enumerate(targets)]
    return {
        "began": began,
        "seconds": seconds,
        "attempts": attempts,
        "skipped": skipped,
        "max_gap": max(gaps),
        "successes": successes,
        "targets": per_target,
    }


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN + 100
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
    line = b""
    while not line.endswith(b"\n"):  # not sys.stdin: its buffer would hide the end that watch waits for
        chunk = os.read(0, 1 << 16)
        if not chunk:
            break
        line += chunk
    order = json.loads(line)
    if sys.argv[1] == "watch":
        print("watching", flush=True)
        answer: t.Any = watch(order["targets"], order["timeout"], order["rate"], 0)
    else:
        answer = probe(order["targets"], order["timeout"])
    json.dump(answer, sys.stdout)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
