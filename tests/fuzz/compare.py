# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel did with a packet beside what the analyser says: verdict, translation, mark, and every rule."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _exposure_walk
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import Query
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_host import read_host
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import name_number
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_parse import parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_path import Exposure
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import holds

from fuzz import packets
from fuzz.packets import Packet, Seen

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import End
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Program

OWN = "zz_probe"
# The chains here are short; let them be looked up by destination all the same.
_exposure_walk.SHORT = 0


@dataclasses.dataclass
class Trial:
    """A ruleset as the host lists it, the host's facts, and packets with what became of them."""

    listing: str
    saves: dict[str, str] | None
    facts: t.Any
    sent: list[Packet] = dataclasses.field(default_factory=list)
    seen: dict[int, Seen] = dataclasses.field(default_factory=dict)

    def analyser(self) -> tuple[Exposure, Program]:
        """The analyser without the table that belongs to the test."""
        program = parse(self.listing, self.saves)
        chains = {key: chain for key, chain in program.chains.items() if key[1] != OWN}
        return Exposure(dataclasses.replace(program, chains=chains), read_host(*self.facts)), program

    def fails(self) -> bool:
        """Tell whether the analyser is wrong about any packet."""
        exposure, _program = self.analyser()
        answers: dict[Query, list[End]] = {}
        for number, packet in enumerate(self.sent):
            query = query_of(packet)
            if query not in answers:
                answers[query] = exposure.ask(query)
            if difference(packet, answers[query], self.seen.get(number)):
                return True
        return False


def query_of(packet: Packet) -> Query:
    kind = {packets.ICMP: 8, packets.ICMPV6: 128}.get(packet.proto, 0)
    dport = packet.dport if packet.proto in (packets.TCP, packets.UDP) else 0
    return Query(name_number(packet.link), packet.family, packet.proto, packet.daddr, dport, kind)


def answers_for(packet: Packet, ends: list[End]) -> list[End]:
    """The answers that hold for a packet: one, unless there are doubts."""
    return [end for end in ends if holds(end.flow.saddr, packet.saddr) and holds(end.flow.sport, packet.sport)]


def difference(packet: Packet, ends: list[End], seen: Seen | None) -> str:
    """Tell in which way the analyser is wrong about a packet; empty if it is right."""
    mine = answers_for(packet, ends)
    if not mine:
        return "the analyser has no answer"
    if seen is None:
        # The kernel dropped it before the first hook.
        seen = Seen("host", (), None)
    expected = [_expected(packet, end) for end in mine]
    if any(end.flow.doubts for end in mine):
        # Where both ways of a doubt have met again, only one of their paths is kept.
        possible = {(one.verdict, one.last) for one in expected}
        if any(end.verdict == "unknown" for end in mine) or (seen.verdict, seen.last) in possible:
            return ""
        return f"not among what the analyser holds possible: {seen.told()}, but {[one.told() for one in expected]}"
    if len(mine) > 1:
        return f"the analyser has {len(mine)} answers: {[one.told() for one in expected]}"
    return "" if _agrees(seen, expected[0]) else f"the kernel did {seen.told()}, the analyser says {expected[0].told()}"


def _expected(packet: Packet, end: End) -> Seen:
    state, verdict, steps = end.flow.state, end.verdict, end.flow.steps
    if verdict in ("drop", "reject"):
        verdict = "host" if steps and not steps[-1].table else "drop"
    told = tuple(
        (step.family, step.table, step.chain, step.handle, "drop" if step.verdict == "reject" else step.verdict)
        for step in steps
        if step.table
    )
    if verdict not in ("delivered", "forwarded"):
        return Seen(verdict, told, None)
    saddr = packet.saddr if state.saddr is None else state.saddr
    sport = packet.sport if state.sport is None else state.sport
    ports = (sport, state.dport) if packet.proto in (packets.TCP, packets.UDP) else (0, 0)
    return Seen(verdict, told, (saddr, state.daddr, *ports, state.oif, state.mark))


def _agrees(seen: Seen, expected: Seen) -> bool:
    """Compare; a rule that may have matched need not be on the way."""
    if (seen.verdict, seen.last) != (expected.verdict, expected.last):
        return False
    rest = list(seen.steps)
    for step in expected.steps:
        if step[4] == "perhaps":
            if rest and rest[0] == (*step[:4], "continue"):
                rest.pop(0)
        elif not rest or rest.pop(0) != step:
            return False
    return not rest
