# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random rules in DOCKER-USER and what becomes of them, by packets: Docker's iptables rules here, its nftables rules there.

BULKHEAD_SEED repeats a run, BULKHEAD_RULESETS changes how many there are.
"""

from __future__ import annotations

import os
import random
import re
import typing as t
from collections import Counter

import pytest
from world import docker_user
from world.docker_user import Rules
from world.flows import everything
from world.switch import Switch, internal
from world.wire import LIMITED, Flow, Outcome

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nft need root")

RULESETS = int(os.environ.get("BULKHEAD_RULESETS") or 200)
FLOWS = 200
#: What may be refused, as the rule and the reason read; the rest of its ruleset is then tried without it.
MAY_BE_REFUSED = re.compile(
    r"0x20000000"
    r"|--ctstatus NONE"
    r"|! --match-set (ports|doors)"
    r"|--(src|dst)-type .*IPv6"
    r"|-m limit .* limit"
)
#: Of an internal network only what does not depend on Docker's backend.
POOL = [flow for flow in everything() if not flow.source.startswith("172.21.")]


@pytest.fixture(scope="module")
def switch() -> t.Iterator[Switch]:
    with Switch() as made:
        if made.before.limited:
            pytest.skip(LIMITED)
        yield made


def closed(flow: Flow, _old: Outcome, new: Outcome) -> bool:
    """ACCEPT opens no internal network once Docker uses nftables (docs/docker_user.md)."""
    return internal(flow) and new == ("dropped", "dropped", "dropped")


def _shown(made: Rules, text: str | None, wrong: list[str], seed: int, number: int) -> str:
    return "\n".join([f"BULKHEAD_SEED={seed}, ruleset {number}:", *wrong, str(made), text or ""])


def test_random_rules_are_carried_over(switch: Switch, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\n  BULKHEAD_SEED={seed}: {RULESETS} rulesets, {FLOWS} connections each", flush=True)
    random_ = random.Random(seed)
    seen: Counter[str] = Counter()
    carried = refused = 0
    for number in range(RULESETS):
        made = docker_user.rules(random_)
        switch.fill(made)
        translation = switch.translated()
        if translation.untranslatable:
            problems = [f"{problem.rule}: {problem.reason}" for problem in translation.untranslatable]
            strange = [said for said in problems if not MAY_BE_REFUSED.search(said)]
            assert translation.text is None and not strange, _shown(made, None, strange, seed, number)
            refused += len(problems)
            switch.take_out({problem.rule for problem in translation.untranslatable})
            translation = switch.translated()
            assert not translation.untranslatable, _shown(made, None, problems, seed, number)
        carried += translation.rules
        try:
            switch.migrate(translation)
        except AssertionError as problem:
            raise AssertionError(_shown(made, None, [str(problem)], seed, number)) from problem
        flows = random_.sample(POOL, FLOWS)
        olds, news = switch.both(flows)
        wrong = []
        for flow, old, new in zip(flows, olds, news):
            seen[_kind(old)] += 1
            if old != new and not closed(flow, old, new):
                wrong.append(f"{flow}: {old} before, {new} after")
        assert not wrong, _shown(made, translation.text, wrong, seed, number)
    assert carried > 10 * refused, f"{carried} rules were carried over, {refused} were not"
    if RULESETS >= 100:
        assert min(seen[kind] for kind in ("through", "dropped", "reset", "told")) > RULESETS // 20, seen


def _kind(outcome: Outcome) -> str:
    first = outcome[0]
    words = {" gets it from ": "through", " gets a reset ": "reset", " is told ICMP ": "told"}
    return next((kind for words_, kind in words.items() if words_ in first), "dropped")
