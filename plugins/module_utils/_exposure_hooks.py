# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the order in which a hook's chains and the kernel's own stations see a packet.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import (
    DST_NAT_DONE,
    NEW,
    NO_CT,
    SRC_NAT_DONE,
    End,
    Flow,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    ACCEPT,
    Lookup,
    Nat,
    Notrack,
    Opaque,
    Verdict,
    Write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_walk import Walk

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_index import Index
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Chain, Program
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import Reader
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_walk import PlaceLike

CONNTRACK, TRANSLATE, FILTER = "conntrack", "nat", "filter"
CONNTRACK_PRIORITY = -200
NAT_PRIORITY = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
_DONE = {"prerouting": DST_NAT_DONE, "output": DST_NAT_DONE, "input": SRC_NAT_DONE, "postrouting": SRC_NAT_DONE}
FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}
_ORDER_DOUBT = "chains of one priority, whose order the listing does not tell"


class Station(t.NamedTuple):
    """One station of a hook: a filter chain, conntrack, or all nat chains of the hook."""

    priority: int
    kind: str
    chains: tuple[Chain, ...] = ()


class Hooks:
    """The stations of each hook of one host."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.indexes: dict[tuple[str, str, str], Index] = {}
        self.touching: dict[tuple[str, str, str], bool] = {}
        self.known: dict[tuple[str, int], list[list[Station]]] = {}

    def orders(self, hook: str, family: int) -> list[list[Station]]:
        """Every order of the stations that may make a difference: one, or two where equal priorities leave it open."""
        key = (hook, family)
        if key not in self.known:
            self.known[key] = self._orders(hook, family)
        return self.known[key]

    def _orders(self, hook: str, family: int) -> list[list[Station]]:
        chains = self.program.base_chains(hook, FAMILIES[family])
        stations = [Station(chain.priority, FILTER, (chain,)) for chain in chains if chain.type != "nat"]
        if hook in ("prerouting", "output") and family in self.program.tracked:
            stations.append(Station(CONNTRACK_PRIORITY, CONNTRACK))
        nat = sorted((chain for chain in chains if chain.type == "nat"), key=lambda chain: chain.priority)
        anywhere = any(
            chain.type == "nat" and chain.hook and chain.family in FAMILIES[family]
            for chain in self.program.chains.values()
        )
        if anywhere and hook in NAT_PRIORITY:
            stations.append(Station(NAT_PRIORITY[hook], TRANSLATE, tuple(nat)))
        # Of equal priority, the last registered runs first; of what a listing shows, that is the last as a rule.
        stations.reverse()
        stations.sort(key=lambda station: station.priority)
        first = [_reordered(station, False) for station in stations]
        groups: dict[int, list[Station]] = {}
        for station in stations:
            groups.setdefault(station.priority, []).append(station)
        open_ones = {priority for priority, group in groups.items() if len(group) > 1 and self._matters(group)}
        tied_nat = len({chain.priority for chain in nat}) < len(nat)
        if not open_ones and not tied_nat:
            return [first]
        second = []
        for priority in sorted(groups):
            group = groups[priority]
            second.extend(group[::-1] if priority in open_ones else group)
        return [first, [_reordered(station, True) for station in second]]

    def _matters(self, group: list[Station]) -> bool:
        return any(station.kind != FILTER or self._touches(station.chains[0]) for station in group)

    def _touches(self, chain: Chain, seen: frozenset[str] = frozenset()) -> bool:
        """Tell whether a chain, or one it leads to, changes something that another may read."""
        key = (chain.family, chain.table, chain.name)
        if key in self.touching:
            return self.touching[key]
        found = False
        for rule in chain.rules:
            for op in rule.ops:
                if isinstance(op, (Write, Nat, Notrack)) or (isinstance(op, Opaque) and op.final):
                    found = True
                targets: list[t.Any] = [op] if isinstance(op, Verdict) else []
                if isinstance(op, Lookup):
                    targets = [element.data for element in op.elements] + [op.other]
                for target in targets:
                    if isinstance(target, Verdict) and target.target and target.target not in seen:
                        to = self.program.chains.get((chain.family, chain.table, target.target))
                        found = found or (to is not None and self._touches(to, seen | {chain.name, target.target}))
        self.touching[key] = found
        return found

    def run(self, hook: str, reader: Reader, place: PlaceLike, flows: list[Flow]) -> list[End]:
        """Send flows through a hook; accepted ones go on to the next."""
        orders = self.orders(hook, reader.query.family)
        ends = self._pass(orders[0], hook, reader, place, flows)
        if len(orders) == 1:
            return ends
        other = self._pass(orders[1], hook, reader, place, flows)
        if _outcomes(ends) == _outcomes(other):
            return ends
        return [End(end.flow.doubted(_ORDER_DOUBT), end.verdict, end.detail) for end in ends + other]

    def _pass(self, order: list[Station], hook: str, reader: Reader, place: PlaceLike, flows: list[Flow]) -> list[End]:
        walk = Walk(self.program, self.indexes, reader, place)
        ends: list[End] = []
        for station in order:
            if not flows:
                break
            if station.kind == CONNTRACK:
                flows = [
                    flow.changed(flow.state._replace(ct=NEW)) if flow.state.ct == NO_CT else flow for flow in flows
                ]
            elif station.kind == FILTER:
                flows = _sorted(walk.base(station.chains[0], flows), ends)
            else:
                flows = self._translate(station, hook, walk, flows, ends)
        ends.extend(End(flow, ACCEPT) for flow in flows)
        return ends

    def _translate(self, station: Station, hook: str, walk: Walk, flows: list[Flow], ends: list[End]) -> list[Flow]:
        """All nat chains in turn, until one translates. Packets without a connection see none of them."""
        done = [flow for flow in flows if flow.state.ct != NEW]
        flows = [flow for flow in flows if flow.state.ct == NEW]
        bit = _DONE[hook]
        for chain in station.chains:
            flows = _sorted(walk.base(chain, flows), ends)
            done.extend(flow for flow in flows if flow.state.ct_status & bit)
            flows = [flow for flow in flows if not flow.state.ct_status & bit]
        done.extend(flow.changed(flow.state._replace(ct_status=flow.state.ct_status | bit)) for flow in flows)
        return done


def _reordered(station: Station, last_first: bool) -> Station:
    """Put nat chains of one priority the other way round."""
    if station.kind != TRANSLATE:
        return station
    chains = list(station.chains)[::-1] if not last_first else list(station.chains)
    return station._replace(chains=tuple(sorted(chains, key=lambda chain: chain.priority)))


def _sorted(found: list[End], ends: list[End]) -> list[Flow]:
    """Keep final verdicts, and give the flows that go on."""
    flows = []
    for end in found:
        if end.verdict == ACCEPT:
            flows.append(end.flow)
        else:
            ends.append(end)
    return flows


def _outcomes(ends: list[End]) -> set[t.Any]:
    return {(end.flow.saddr, end.flow.sport, end.flow.state, end.verdict, end.flow.doubts) for end in ends}
