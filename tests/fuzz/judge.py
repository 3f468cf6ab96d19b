# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predict, send, and compare: verdict, translation, mark and every rule on the way."""

from __future__ import annotations

import random
import socket
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import name_number

from fuzz import packets, place
from fuzz.compare import OWN, Trial, answers_for, difference, query_of
from fuzz.packets import Packet, Seen

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import End, Query
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_path import Exposure

    from fuzz.trace import Event, Tracer

#: The judge's own table: it starts each trace, and takes every packet out at its end.
PROBE = """flush ruleset
table inet zz_probe {
    chain first { type filter hook prerouting priority -2000; policy accept; meta nftrace set 1; }
    chain delivered { type filter hook input priority 2000; policy drop; }
    chain forwarded { type filter hook postrouting priority 2000; policy drop; }
}
"""
SENTINEL = 0xFFFF


@dataclass
class Tally:
    """What was compared."""

    rulesets: int = 0
    refused: int = 0
    packets: int = 0
    unknown: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    expressions: int = 0
    understood: int = 0
    steps: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def count(self, packet: Packet, ends: list[End], seen: Seen | None) -> None:
        self.packets += 1
        verdict = "host" if seen is None else seen.verdict
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        doubts = frozenset().union(*(end.flow.doubts for end in answers_for(packet, ends)))
        self.unknown += bool(doubts)
        for reason in doubts:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Judge:
    """Compares the analyser with the kernel, one ruleset after the other."""

    def __init__(self, where: place.Place, tracer: Tracer) -> None:
        self.place = where
        self.tracer = tracer
        self.tally = Tally()
        self.facts = where.facts()
        # What was tried, if it is to be kept.
        self.trials: list[Trial] | None = None
        self.names = {item["ifindex"]: name_number(item["ifname"]) for item in self.facts[0]}
        self.macs = {name: bytes.fromhex(f"0200000000{number:02x}") for number, name in enumerate(place.LINKS)}

    def settle(self, sysctls: t.Mapping[str, str], rules: list[str]) -> None:
        """Change the host's settings and routing rules, and read the host anew."""
        self.place.settle(sysctls, rules)
        self.facts = self.place.facts()

    def ruleset(
        self, text: str, old: t.Mapping[str, str], seed: str, count: int, chosen: list[Packet] | None = None
    ) -> list[tuple[Packet | None, str]]:
        """Load a ruleset, with rules of iptables beside it, send packets and give the differences."""
        try:
            self.place.load(PROBE + text)
            self.place.restore(old)
        except RuntimeError as exc:
            self.tally.refused += 1
            return [(None, f"refused: {exc}")] if chosen is not None else []
        trial = Trial(self.place.listing(), self.place.saves() if old else None, self.facts)
        exposure, program = trial.analyser()
        self.tally.rulesets += 1
        self.tally.expressions += program.coverage.total
        self.tally.understood += program.coverage.understood
        answers: dict[Query, list[End]] = {}
        trial.sent = chosen if chosen is not None else draw(random.Random(seed), exposure, answers, count)
        trial.seen = self.send(trial.sent)
        if self.trials is not None:
            self.trials.append(trial)
        wrong: list[tuple[Packet | None, str]] = []
        for number, packet in enumerate(trial.sent):
            query = query_of(packet)
            if query not in answers:
                answers[query] = exposure.ask(query)
            seen = trial.seen.get(number)
            self.tally.count(packet, answers[query], seen)
            found = difference(packet, answers[query], seen)
            if found:
                wrong.append((packet, f"{packet.told()}: {found}"))
        return wrong

    def send(self, sent: list[Packet]) -> dict[int, Seen]:
        """Send packets, and gather what the kernel says of each."""
        stop = Packet("eth0", 4, packets.UDP, 0xC6336432, 0xC633640C, 9, 9)
        seen: dict[int, Seen] = {}
        for start in range(0, len(sent), 250):
            batch = sent[start : start + 250]
            for number, packet in enumerate(batch, start):
                self._emit(packet, number)
            self._emit(stop, SENTINEL)
            self._gather(seen)
        return seen

    def _emit(self, packet: Packet, number: int) -> None:
        data = packets.frame(packet, number, self.macs[packet.link])
        for _attempt in range(100):
            try:
                self.place.senders[packet.link].send(data)
                return
            except (BlockingIOError, OSError) as exc:
                if not isinstance(exc, socket.timeout) and exc.errno != 105:
                    raise
                time.sleep(0.001)
        raise RuntimeError("the link takes no packet")

    def _gather(self, seen: dict[int, Seen]) -> None:
        events: list[Event] = []
        number = -1
        while True:
            for event in self.tracer.events():
                if event.table != OWN or event.chain != "first":
                    events.append(event)
                elif event.network:
                    if number >= 0:
                        seen[number] = self._seen(events)
                    number, events = packets.number_of(event.network), []
                    if number == SENTINEL:
                        return

    def _seen(self, events: list[Event]) -> Seen:
        steps = tuple(
            event[:5]
            for event in events
            if event.table != OWN and (event.handle or event.verdict.startswith("policy"))
        )
        self.tally.steps += len(steps)
        stations = [event.chain for event in events if event.table == OWN]
        if stations[-1:] in (["delivered"], ["forwarded"]):
            last = next(event for event in events[::-1] if event.network)
            oif = self.names.get(last.oif, 0)
            return Seen(stations[-1], steps, (*packets.ends_of(last.network, last.transport), oif, last.mark))
        if not steps or not (steps[-1][4] == "drop" or steps[-1][4] == "policy drop"):
            return Seen("host", steps, None)
        return Seen("drop", steps, None)


def draw(pick: random.Random, exposure: Exposure, answers: dict[Query, list[End]], count: int) -> list[Packet]:
    """Packets from the analyser's own classes and their borders, and some at random."""
    from fuzz.universe import addresses, ports

    found: list[Packet] = []
    while len(found) < count:
        family = pick.choice((4, 4, 6))
        proto = pick.choice((packets.TCP, packets.TCP, packets.UDP, packets.ICMP if family == 4 else packets.ICMPV6))
        link = pick.choice(list(place.LINKS))
        daddr = pick.choice(addresses(family))
        with_ports = proto in (packets.TCP, packets.UDP)
        dport = pick.choice(ports()) if with_ports else 0
        query = query_of(Packet(link, family, proto, 0, daddr, 0, dport))
        if query not in answers:
            answers[query] = exposure.ask(query)
        points: set[tuple[int, int]] = set()
        top = (1 << (32 if family == 4 else 128)) - 1
        for end in answers[query]:
            for _number in range(2):
                saddr = _point(pick, end.flow.saddr, top)
                points.add((saddr, _point(pick, end.flow.sport, 65535) if with_ports else 0))
        points.add((pick.choice(addresses(family)), pick.choice((0, 1024, 65535, 53)) if with_ports else 0))
        for saddr, sport in pick.sample(sorted(points), min(len(points), 12)):
            found.append(Packet(link, family, proto, saddr, daddr, sport, dport))
    return found[:count]


def _point(pick: random.Random, ranges: t.Any, top: int) -> int:
    low, high = pick.choice(ranges)
    return min(max(pick.choice((low, high, low - 1, high + 1, pick.randint(low, high))), 0), top)
