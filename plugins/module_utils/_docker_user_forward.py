# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FORWARD around DOCKER-USER: which rules are the user's, and what becomes of them without Docker's.

Private to the collection: not meant to be used from anywhere else. May change at any time.

These rules stay in ip filter. There they are asked whatever Docker and DOCKER-USER say, which is new for those that
stood behind them, and they cannot keep Docker from dropping, which is new for those that stood in front.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user import (
    CHAIN,
    JUMP,
    Mark,
    ends,
    reached,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_targets import overwritten
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._interfaces import matches
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_legacy import (
    DOCKER_CHAINS,
    named_by_docker,
    not_dockers,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import (
    RuleError,
    leads_to,
    parse_rule,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import SaveError, words

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import Saved

FORWARD = "FORWARD"
_MOST_EVENTS = 5000
_SETTERS = {"MARK", "CONNMARK"}


@dataclass(frozen=True)
class Placed:
    """A rule of the user's in FORWARD, and whether it stands behind a jump to DOCKER-USER or a rule of Docker's."""

    line: str
    behind_user: bool
    behind_docker: bool


@dataclass(frozen=True)
class Around:
    """FORWARD without Docker's rules: what leads to DOCKER-USER, and the rest."""

    jumps: tuple[str, ...] = ()
    rules: tuple[Placed, ...] = ()
    dockers: bool = False
    policy: str = "ACCEPT"


def around(saved: Saved, patterns: t.Sequence[str]) -> Around:
    """Divide FORWARD."""
    table = saved["filter"]
    lines = table.chains.get(FORWARD, ())
    bridges = _bridges(saved, lines, patterns)
    users = set(not_dockers(saved, "filter", FORWARD, bridges)) if lines else set()
    jumps: list[str] = []
    rules: list[Placed] = []
    docker = False
    for line in lines:
        if line == JUMP or leads_to(line, table.chains) == CHAIN:
            jumps.append(line)
        elif line in users:
            rules.append(Placed(line, bool(jumps), docker))
        else:
            docker = True
    return Around(tuple(jumps), tuple(rules), docker, table.policies.get(FORWARD, "ACCEPT"))


def _bridges(saved: Saved, lines: t.Iterable[str], patterns: t.Sequence[str]) -> dict[str, t.Sequence[str]]:
    """Bridges of Docker's that rules name: those in Docker's own chains, and those that look like one."""
    named = {after for line in lines for word, after in _pairs(line) if word in ("-i", "-o")}
    found = named_by_docker(saved) | {name for name in named if any(matches(each, name) for each in patterns)}
    return dict.fromkeys(found, ())


def _pairs(line: str) -> list[tuple[str, str]]:
    try:
        found = words(line)
    except SaveError:
        return []
    return list(zip(found, found[1:]))


def notes(saved: Saved, there: Around, mark: Mark | None, accepts: bool, dropped: bool, name: str) -> list[str]:
    """What will be otherwise, one sentence for each rule.

    `mark` is None where it is not used; `accepts` tells that DOCKER-USER has an ACCEPT, `dropped` that a policy DROP
    is taken over.
    """
    chains = saved["filter"].chains
    found: list[str] = []
    asked = any(line != f"-A {CHAIN} -j RETURN" for line in chains.get(CHAIN, ()))
    if asked and not there.jumps:
        found.append(
            f"{CHAIN} ({name}): no rule of FORWARD leads to it, so its rules did nothing; in the table they do"
        )
    if dropped:
        found.append(
            f":FORWARD DROP ({name}): the table drops instead; rules and bridges of other names that come later open nothing"
        )
    elif there.policy == "DROP":
        found.append(f":FORWARD DROP ({name}): the policy also drops what Docker accepts")
    if accepts and _has_internal(chains):
        found.append(
            f"{CHAIN} ({name}): what it accepts is no longer let into and out of internal networks of Docker's"
        )
    for placed in there.rules:
        for effect in _effects(chains, placed, there, mark, asked, accepts):
            found.append(f"{placed.line} ({name}): {effect}")
    return found


def _has_internal(chains: t.Mapping[str, t.Sequence[str]]) -> bool:
    lines = [line for chain in chains if chain.startswith("DOCKER-I") for line in chains[chain]]
    return any((" ! -s " in line or " ! -d " in line) and line.endswith("-j DROP") for line in lines)


def _effects(
    chains: t.Mapping[str, tuple[str, ...]],
    placed: Placed,
    there: Around,
    mark: Mark | None,
    asked: bool,
    accepts: bool,
) -> t.Iterator[str]:
    results = verdicts(chains, placed.line)
    if "ACCEPT" in results or _leaves(placed.line):
        if asked and there.jumps and not placed.behind_user:
            yield "what it accepts is now asked for by DOCKER-USER's rules too, and by Docker's"
        elif not placed.behind_docker:
            yield "what it accepts, Docker may drop now"
    if results & {"DROP", "REJECT"}:
        if placed.behind_docker:
            yield "it stood behind Docker's rules and now also drops what they accept"
        elif placed.behind_user and accepts:
            yield "it stood behind DOCKER-USER and now also drops what that accepts"
    if mark is not None and _overwrites(chains, placed.line, mark):
        yield "it overwrites the mark by which Docker is to accept what DOCKER-USER accepts"


def too_early(
    chains: t.Mapping[str, tuple[str, ...]], there: Around, users: t.Sequence[str], dropped: bool
) -> t.Iterator[tuple[str, str]]:
    """Rules of FORWARD without which DOCKER-USER, asked before them, would let more through; and why.

    `users` are the rules of DOCKER-USER, `dropped` tells that a policy DROP is taken over.
    """
    asks = any("--mark" in words(line) for line in users)
    for placed in there.rules:
        if placed.behind_user and placed.behind_docker:
            continue
        if asks and not placed.behind_user and verdicts(chains, placed.line) & _SETTERS:
            yield (
                placed.line,
                "it sets a mark in front of DOCKER-USER, where rules ask for one; the table is asked first",
            )
        if dropped and _leaves(placed.line):
            yield (
                placed.line,
                "it takes packets to the policy DROP past DOCKER-USER or Docker's rules, which nftables cannot",
            )


def _leaves(line: str) -> bool:
    """Whether packets do not come back from a rule to those behind it, and go to the policy."""
    try:
        rule = parse_rule(line, _Anything())
    except RuleError:
        return leads_to(line, ()) == "RETURN" or "-g" in words(line)
    return rule.goto or rule.target == "RETURN"


class _Anything:
    """Every chain is known."""

    def __contains__(self, _name: object) -> bool:
        return True


def verdicts(chains: t.Mapping[str, tuple[str, ...]], line: str) -> set[str]:
    """The targets that a rule can lead to, other than chains of Docker's."""
    target = leads_to(line, chains)
    if target is None or target in DOCKER_CHAINS or target == CHAIN:
        return set()
    if target not in chains:
        return {target}
    own = {name: lines for name, lines in chains.items() if name not in DOCKER_CHAINS and name != CHAIN}
    return {end for chain in reached(own, target) for end in ends(own, chain) if end not in chains}


def _overwrites(chains: t.Mapping[str, tuple[str, ...]], line: str, mark: Mark) -> bool:
    target = leads_to(line, chains)
    lines = [line]
    if target in chains and target is not None:
        lines = [each for chain in reached(chains, target) for each in chains[chain]]
    for each in lines:
        try:
            if overwritten(parse_rule(each, chains)) & mark.mask:
                return True
        except RuleError:
            if leads_to(each, chains) in ("MARK", "CONNMARK"):
                return True
    return False


def marks_in_order(chains: t.Mapping[str, tuple[str, ...]], there: Around) -> bool:
    """Whether all rules that set marks come before those of FORWARD that ask for them.

    Then asking again, after all were set, gives the same answers.
    """
    front = [placed.line for placed in there.rules if not placed.behind_user]
    lines = [*front, JUMP, *(placed.line for placed in there.rules if placed.behind_user)]
    user_sets = any(_SETTERS & set(ends(chains, chain)) for chain in reached(chains, CHAIN))
    if not user_sets and not any(verdicts(chains, line) & _SETTERS for line in lines):
        return True
    asked = False
    for count, line in enumerate(_events(chains, lines)):
        if count >= _MOST_EVENTS:
            return False
        found, target = words(line), leads_to(line, chains)
        setter = target in _SETTERS or (target == CHAIN and user_sets)
        if setter and (asked or "--mark" in found):
            return False
        asked = asked or "--mark" in found
    return True


def _events(chains: t.Mapping[str, tuple[str, ...]], lines: t.Sequence[str]) -> t.Iterator[str]:
    """Rules in the order packets meet them; chains must not lead in a circle."""
    for line in lines:
        yield line
        target = leads_to(line, chains)
        if target in chains and target is not None and target != CHAIN and target not in DOCKER_CHAINS:
            yield from _events(chains, chains[target])
