# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One step: a program that runs with its output in the stage's log, and counts at its end."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from run.report import Counts, clock, from_exit

PRINT_LOCK = threading.Lock()
STARTED = time.monotonic()
RUNNING: set[subprocess.Popen[str]] = set()


@dataclasses.dataclass
class Step:
    """A program to run, and how to count what it did; ``skip`` says why it can't run at all."""

    name: str
    argv: list[str] = dataclasses.field(default_factory=list)
    cwd: Path | None = None
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    count: t.Callable[[str, int, str], Counts] | None = None
    skip: str | None = None
    live: bool = False
    timeout: float = 1800.0


class Room:
    """Where a stage writes: its log file, and progress lines on the terminal."""

    def __init__(self, stage: str, log: Path) -> None:
        self.stage = stage
        self.path = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log.open("w", encoding="utf-8")

    def say(self, text: str) -> None:
        """Print a progress line and keep it in the log."""
        with PRINT_LOCK:
            print(f"[{clock(time.monotonic() - STARTED)} {self.stage}] {text}", flush=True)
        self.note(text)

    def note(self, text: str) -> None:
        """Write a line to the log only."""
        self.log.write(text + "\n")
        self.log.flush()

    def show(self, lines: t.Iterable[str]) -> None:
        """Print lines together, without another stage's in between."""
        with PRINT_LOCK:
            for line in lines:
                print(f"    {line}", flush=True)


def run_step(step: Step, room: Room, nice: int) -> Counts:
    """Run one step to its end and say how it went; never raises for what the program did."""
    if step.skip is not None:
        room.say(f"{step.name}: SKIPPED: {step.skip}")
        return Counts.skip(f"{room.stage}: {step.name}: {step.skip}")
    started = time.monotonic()
    room.say(f"{step.name} ...")
    room.note("$ " + " ".join(step.argv))
    code, output = execute(step, room, nice)
    took = clock(time.monotonic() - started)
    counts = step.count(step.name, code, output) if step.count else from_exit(step.name, code)
    counts.failures = [f"{room.stage}: {line}" for line in counts.failures]
    counts.skips = [f"{room.stage}: {line}" for line in counts.skips]
    room.say(f"{step.name}: {'FAILED' if counts.failed else 'ok'} in {took} ({counts})")
    if counts.failed:
        room.show(telling_lines(output.splitlines()))
    return counts


def telling_lines(lines: list[str]) -> list[str]:
    """Choose what to show of a failed step: the lines marked as errors where there are, and its end."""
    errors = [line for line in lines[:-20] if line.startswith(("ERROR", "FATAL", "CRITICAL", "fatal:", "E  "))]
    return errors[:60] + lines[-20:] if errors else lines[-60:]


def execute(step: Step, room: Room, nice: int) -> tuple[int, str]:
    """Start the program, copy its output to the log, and to the terminal if it is a long one."""
    argv = ["nice", "-n", str(nice), *step.argv] if nice else step.argv
    try:
        # A session of its own, so that a timeout ends what the program started, too.
        process = subprocess.Popen(
            argv,
            cwd=step.cwd,
            env={**os.environ, **step.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as problem:
        return 127, f"{argv[0]}: {problem}"
    timer = threading.Timer(step.timeout, end_late, [process, room, step.timeout])
    timer.start()
    RUNNING.add(process)
    lines: list[str] = []
    try:
        for line in t.cast(t.IO[str], process.stdout):
            lines.append(line)
            if step.live and line.strip():
                room.say(line.rstrip())
            else:
                room.note(line.rstrip("\n"))
        return process.wait(), "".join(lines)
    finally:
        timer.cancel()
        RUNNING.discard(process)


def end_all() -> None:
    """End what still runs, when the whole run is interrupted: the steps have sessions of their own."""
    for process in list(RUNNING):
        end_group(process)


def end_late(process: subprocess.Popen[str], room: Room, limit: float) -> None:
    """End a step that took too long."""
    room.say(f"not done after {limit:.0f} s: ending it")
    end_group(process)


def end_group(process: subprocess.Popen[str]) -> None:
    """End a step's whole process group: first politely, so that it can clean up, then for good."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=30)
        except (ProcessLookupError, PermissionError):
            return
        except subprocess.TimeoutExpired:
            continue
        return
