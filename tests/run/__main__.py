# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m run [STAGE...]``: run the stages, cheap ones beside those on test hosts, and sum up."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from run.report import Counts, clock
from run.stages import STAGES, Place, Stage
from run.step import Room, end_all, run_step
from run.tree import ROOT, copy_collection


def run_stage(stage: Stage, place: Place, nice: int) -> tuple[Counts, float]:
    """Run the steps of a stage one after another, also after a failed one."""
    room = Room(stage.name, place.output / f"{stage.name}.log")
    started = time.monotonic()
    counts = Counts()
    room.say(f"===== {stage.title} =====")
    try:
        for step in stage.steps(place):
            counts.add(run_step(step, room, nice))
    except Exception as problem:
        # A mistake in the test run itself is a failure of this stage, not the end of the others.
        room.note(traceback.format_exc())
        counts.add(Counts.bad(f"{stage.name}: the test run itself: {type(problem).__name__}: {problem}"))
    took = time.monotonic() - started
    room.say(f"===== {stage.name}: {counts}, {clock(took)} =====")
    return counts, took


def run_lanes(chosen: list[Stage], place: Place) -> dict[str, tuple[Counts, float]]:
    """Run two lanes at once: stages on test hosts, and the others with less weight beside them."""
    results: dict[str, tuple[Counts, float]] = {}
    lanes = [[stage for stage in chosen if stage.hosts], [stage for stage in chosen if not stage.hosts]]
    both = all(lanes)

    def lane(stages: list[Stage]) -> None:
        for stage in stages:
            results[stage.name] = run_stage(stage, place, 10 if both and not stage.hosts else 0)

    threads = [threading.Thread(target=lane, args=(stages,), daemon=True) for stages in lanes if stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=1)
    return results


def summary(chosen: list[Stage], results: dict[str, tuple[Counts, float]], took: float) -> Counts:
    """Print what failed, what was skipped and why, a line for each stage, and the sum."""
    total = Counts()
    for counts, _took in results.values():
        total.add(counts)
    for title, lines in (("Skipped", total.skips), ("Failed", total.failures)):
        if lines:
            print(f"\n{title} ({len(lines)}):")
            for line in lines:
                print(f"  - {line}")
    print("\nStage        time   result")
    for stage in chosen:
        counts, spent = results[stage.name]
        print(f"{stage.name:<12} {clock(spent):>5}  {'FAILED  ' if counts.failed else ''}{counts}")
    print(f"\nLogs: .test-output/STAGE.log; {clock(took)} in all")
    print(total, flush=True)
    return total


def main() -> int:
    """Entry point."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(prog="make test", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"any of: {' '.join(names)} (all)")
    parser.add_argument("--list", action="store_true", help="say what the stages are")
    options = parser.parse_args()
    if options.list:
        print("\nStages of make test:")
        for stage in STAGES:
            print(f"  {stage.name:<12} {stage.title}")
        return 0
    unknown = sorted(set(options.stages) - set(names))
    if unknown:
        parser.error(f"no such stage: {' '.join(unknown)}; the stages are: {' '.join(names)}")
    chosen = [stage for stage in STAGES if not options.stages or stage.name in options.stages]
    # Ansible's tools start each other by name.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
    try:
        place = Place(copy_collection(work), Path(sys.prefix) / "bin", ROOT / ".test-output", work)
        results = run_lanes(chosen, place)
    except KeyboardInterrupt:
        print("\ninterrupted: ending what runs", flush=True)
        return 130
    finally:
        end_all()
        shutil.rmtree(work, ignore_errors=True)
    total = summary(chosen, results, time.monotonic() - started)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
