# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send probes from a namespace of the lab: every target once, or again and again."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

from lab.netns import Namespace
from lab.process import LabError

_PROBE = [sys.executable, "-I", str(Path(__file__).with_name("probe.py"))]

Target = t.Dict[str, t.Any]


def probe(namespace: Namespace, targets: t.Sequence[Target], timeout: float = 1.0) -> list[Target]:
    """The targets come back in order with `result` (see probe.py), `errno` and `seconds`."""
    order = json.dumps({"targets": list(targets), "timeout": timeout}) + "\n"
    return json.loads(namespace.run([*_PROBE, "once"], input=order, timeout=60 + timeout).stdout)


class Watch:
    """New connections to the targets all the time, `rate` attempts a second in total; also a context manager."""

    def __init__(self, namespace: Namespace, targets: t.Sequence[Target], timeout: float, rate: float) -> None:
        if not targets:
            raise LabError("a watch wants at least one target")
        self.report: dict[str, t.Any] | None = None
        self._process = subprocess.Popen(
            namespace.command([*_PROBE, "watch"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        order = json.dumps({"targets": list(targets), "timeout": timeout, "rate": rate}) + "\n"
        stdin, stdout = t.cast(t.IO[bytes], self._process.stdin), t.cast(t.IO[bytes], self._process.stdout)
        stdin.write(order.encode())
        stdin.flush()
        if stdout.readline() != b"watching\n":
            self._process.kill()
            raise LabError(f"the watch did not start: exit code {self._process.wait()}")

    def stop(self) -> dict[str, t.Any]:
        """End it. The report: `successes` (time, answered, target), `attempts`, `seconds`, `max_gap` (the longest
        time without an attempt on one target) and per target the count of each result."""
        if self.report is None:
            out, _err = self._process.communicate(timeout=60)
            if self._process.returncode != 0:
                raise LabError(f"the watch ended with exit code {self._process.returncode}")
            self.report = json.loads(out)
        return self.report

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
