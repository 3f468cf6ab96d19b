# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run commands on the machine, tell processes apart, end them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path


class LabError(Exception):
    """Something about the test hosts went wrong; the text says what."""


def run(
    argv: t.Sequence[str],
    *,
    check: bool = True,
    input: str | bytes | None = None,
    timeout: float | None = 60,
    env: t.Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command with text output; with check a failure shows what the command said."""
    data = input.encode() if isinstance(input, str) else input
    stdin: dict[str, t.Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    try:
        raw = subprocess.run(list(argv), capture_output=True, timeout=timeout, env=env, check=False, **stdin)
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"{' '.join(argv)}: not finished after {timeout} s") from exc
    except FileNotFoundError as exc:
        raise LabError(f"{argv[0]} is not installed on this machine (see tests/lab/requirements-apt.txt)") from exc
    done = subprocess.CompletedProcess(
        raw.args, raw.returncode, raw.stdout.decode(errors="replace"), raw.stderr.decode(errors="replace")
    )
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}\n{said}")
    return done


def wait_for(what: str, condition: t.Callable[[], bool], timeout: float, interval: float = 0.05) -> float:
    """Wait until the condition holds; gives the seconds it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout:
            raise LabError(f"{what}: not so after {timeout:g} s")
        time.sleep(interval)
    return time.monotonic() - begin


def start_time(pid: int) -> str | None:
    """When a process began, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def alive(pid: int | None, began: str | None) -> bool:
    return pid is not None and began is not None and start_time(pid) == began


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def stop_family(pid: int) -> list[int]:
    """Stop a process and all that descend from it, so that none of them can start another; gives their ids."""
    kill(pid, signal.SIGSTOP)
    return [pid, *(member for child in children(pid) for member in stop_family(child))]
