# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python -m fuzz: random rulesets and packets against the kernel. Ends with 1 when the analyser is wrong anywhere."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Makes the collection importable from this checkout.
importlib.import_module("conftest")

from fuzz.case import DIRECTORY, Case, load, shrink
from fuzz.judge import Judge
from fuzz.make_world import Worldly, settings
from fuzz.make_xt import Old
from fuzz.mutants import MUTANTS, survivors
from fuzz.place import Place
from fuzz.trace import Tracer


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--rulesets", type=int, default=300)
    parser.add_argument("--packets", type=int, default=170, help="packets for each ruleset")
    parser.add_argument("--seed", default=None, help="any text; a run prints its own")
    parser.add_argument("--only", type=int, default=None, help="the number of one ruleset of that seed")
    parser.add_argument("--stop", type=int, default=1, help="end after so many wrong rulesets")
    parser.add_argument("--root", default="", help="a root filesystem whose nft is to be used")
    parser.add_argument("--seconds", type=float, default=0, help="end after so long a time, wherever the run is")
    parser.add_argument("--regressions", action="store_true", help="only the kept cases")
    parser.add_argument("--mutants", action="store_true", help="see whether the cases and rulesets show built-in mistakes")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("fuzz: network namespaces take root")
        return 2
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    judge = Judge(Place(arguments.root), Tracer())
    if arguments.mutants:
        judge.trials = []
    if arguments.regressions:
        return regressions(judge)
    seed = arguments.seed or os.urandom(4).hex()
    print(f"seed {seed}: {arguments.rulesets} rulesets, {arguments.packets} packets each", flush=True)
    tally = judge.tally
    begin = time.monotonic()
    wrong = 0
    numbers = range(arguments.rulesets) if arguments.only is None else [arguments.only]
    for number in numbers:
        name = f"{seed}:{number}"
        maker = Worldly(name)
        with_rules = judge.place.routed or number >= min(arguments.rulesets // 2, 500)
        sysctls, rules = settings(maker, with_rules)
        judge.settle(sysctls, rules)
        text = "".join(table.text() for table in maker.tables())
        old = {}
        if maker.random.random() < 0.3:
            old = {word: Old(f"{name}:{word}", family).text() for word, family in (("ip", 4), ("ip6", 6))}
        differences = judge.ruleset(text, old, name, arguments.packets)
        if differences:
            wrong += 1
            print(f"\nruleset {number} of seed {seed}: {len(differences)} packets differ")
            packets = [packet for packet, _text in differences if packet is not None]
            split = {family: text.splitlines() for family, text in old.items()}
            case = shrink(judge, Case(f"{name}", text.splitlines(), packets[:5], split, sysctls, rules))
            kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / "case.json"
            case.save(kept)
            print(*case.run(judge), judge.place.listed(), f"kept in {kept}", sep="\n", flush=True)
            if wrong >= arguments.stop:
                break
        if arguments.seconds and time.monotonic() - begin > arguments.seconds:
            print(f"ended by the clock after ruleset {number}")
            break
        if number % 1000 == 999:
            print(f"{number + 1} rulesets, {tally.packets} packets, {time.monotonic() - begin:.0f} s", flush=True)
    spent = time.monotonic() - begin
    print(
        f"{tally.rulesets} rulesets, {tally.packets} packets, {tally.steps} rules on their ways, "
        f"{tally.unknown} answered unknown, {tally.refused} rulesets refused by nft, {wrong} rulesets wrong; "
        f"{tally.understood} of {tally.expressions} expressions understood; {spent:.1f} s"
    )
    print(", ".join(f"{verdict} {count}" for verdict, count in sorted(tally.verdicts.items())))
    for reason, count in sorted(tally.reasons.items(), key=lambda item: -item[1]):
        print(f"unknown {count}: {reason}")
    if judge.trials is not None:
        # Behind the random ones: a case with routing rules leaves its trace in the namespace.
        wrong += regressions(judge)
    if judge.trials is not None and not wrong:
        judge.trials.reverse()
        left = survivors(judge.trials)
        print(f"{len(MUTANTS)} mistakes built in, {len(left)} not shown", *left, sep="\n  ")
        wrong = len(left)
    return 1 if wrong else 0


def regressions(judge: Judge) -> int:
    """Run the kept cases; the number of wrong ones."""
    wrong = 0
    for path in sorted(DIRECTORY.glob("*.json")):
        case = load(path)
        differences = case.run(judge)
        print(f"{'WRONG' if differences else 'ok'} {path.stem}: {case.why}", *differences, sep="\n  ")
        wrong += bool(differences)
    print(f"{judge.tally.rulesets} cases, {judge.tally.packets} packets, {judge.tally.unknown} unknown, {wrong} wrong")
    return 1 if wrong or not judge.tally.rulesets else 0


if __name__ == "__main__":
    sys.exit(main())
