# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: one question about a host, and the packets that are still under way in its answer.

A flow is a box of packets: all sources and source ports in it have gone the same way so far. Everything else about
them is one concrete state. May change at any time.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

NO_CT, NEW, UNTRACKED = 0, 1, 2
SNAT_BIT, DNAT_BIT, SRC_NAT_DONE, DST_NAT_DONE, CONFIRMED = 16, 32, 128, 256, 8


class Query(t.NamedTuple):
    """First packets of connections: where they come in, and to what. Interface names and addresses are numbers."""

    iif: int
    family: int
    proto: int
    daddr: int
    dport: int = 0
    # Of an echo request when `proto` is ICMP.
    icmp_type: int = 0
    icmp_code: int = 0


class State(t.NamedTuple):
    """What the box's packets have in common at one point of the way."""

    daddr: int
    dport: int
    oif: int = 0
    mark: int = 0
    ct: int = NO_CT
    ct_mark: int = 0
    ct_status: int = 0
    # A translated source; None as long as it is the box's own.
    saddr: int | None = None
    sport: int | None = None


class Step(t.NamedTuple):
    """One step of the way: a rule or a chain's policy with its verdict, or a note of the host's own doing."""

    family: str
    table: str
    chain: str
    handle: int
    verdict: str


class Flow:
    """A box of packets with its state, its way (newest step first, as a linked list) and the doubts met on it."""

    __slots__ = ("saddr", "sport", "state", "way", "doubts")

    def __init__(self, saddr: Ranges, sport: Ranges, state: State, way: t.Any, doubts: frozenset[str]) -> None:
        self.saddr = saddr
        self.sport = sport
        self.state = state
        self.way = way
        self.doubts = doubts

    def boxed(self, saddr: Ranges, sport: Ranges) -> Flow:
        return Flow(saddr, sport, self.state, self.way, self.doubts)

    def changed(self, state: State) -> Flow:
        return Flow(self.saddr, self.sport, state, self.way, self.doubts)

    def stepped(self, step: Step) -> Flow:
        return Flow(self.saddr, self.sport, self.state, (self.way, step), self.doubts)

    def doubted(self, reason: str) -> Flow:
        return Flow(self.saddr, self.sport, self.state, self.way, self.doubts | {reason})

    @property
    def steps(self) -> list[Step]:
        found = []
        way = self.way
        while way is not None:
            way, step = way
            found.append(step)
        return found[::-1]


class End(t.NamedTuple):
    """What becomes of a flow, and the step that decides it (the last of its way)."""

    flow: Flow
    verdict: str
    detail: str = ""


def joined(flows: list[Flow]) -> list[Flow]:
    """Put flows together that differ in their doubts only.

    A condition that is not understood sends a flow both ways; where both meet again, the answer is one.
    """
    if len(flows) < 2 or not any(flow.doubts for flow in flows):
        return flows
    found: dict[t.Any, Flow] = {}
    for flow in flows:
        key = (flow.saddr, flow.sport, flow.state)
        before = found.get(key)
        if before is None:
            found[key] = flow
        else:
            found[key] = Flow(flow.saddr, flow.sport, flow.state, before.way, before.doubts | flow.doubts)
    return list(found.values())
