# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the whole way of a packet through a host, from the interface to delivery or onward.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import End, Flow, State, Step
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_hooks import Hooks
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import ACCEPT, DROP, UNKNOWN
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import WITH_PORTS
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import Reader
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_route import BITS, LINK_LOCAL6, Routing
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import full, meet, minus

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import Query
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_host import Host
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Program
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

# How a way ends that no rule ends.
DELIVERED, FORWARDED = "delivered", "forwarded"
# The network 0.0.0.0/8 has been ordinary, but for its first address, since Linux 5.3.
MULTICAST4, LOOPBACK4, ZERO4 = (0xE0000000, 0xEFFFFFFF), (0x7F000000, 0x7FFFFFFF), (0, 0)
BROADCAST4 = 0xFFFFFFFF
_NEVER4: Ranges = (MULTICAST4, (BROADCAST4, BROADCAST4))
# Sources that IPv6 drops before any hook: loopback and multicast.
_NEVER6: Ranges = ((1, 1), (0xFF << 120, (1 << 128) - 1))


class Exposure:
    """Answers queries about one host."""

    def __init__(self, program: Program, host: Host) -> None:
        self.program = program
        self.host = host
        self.hooks = Hooks(program)
        self.routing = Routing(host)
        self.doubts = frozenset(
            f"chains of the family {chain.family} at the hook {chain.hook}"
            for chain in program.chains.values()
            if chain.hook
            and (chain.rules or chain.policy != ACCEPT)
            and (chain.family in ("netdev", "bridge") or chain.hook in ("ingress", "egress"))
        )

    def ask(self, query: Query) -> list[End]:
        """Every way that such packets go: boxes of sources that are disjoint, except where there are doubts."""
        sport = full(16) if query.proto in WITH_PORTS else ((0, 0),)
        state = State(query.daddr, query.dport)
        start = Flow(full(BITS[query.family]), sport, state, None, self.doubts)
        ends: list[End] = []
        flows = self._arrive(query, start, ends)
        flows = self._hook("prerouting", query, flows, ends)
        inward: list[Flow] = []
        onward: list[Flow] = []
        for flow in flows:
            (self._route4 if query.family == 4 else self._route6)(query, flow, inward, onward, ends)
        ends.extend(End(flow, DELIVERED) for flow in self._hook("input", query, inward, ends))
        onward = self._hook("forward", query, onward, ends)
        ends.extend(End(flow, FORWARDED) for flow in self._hook("postrouting", query, onward, ends))
        return ends

    def _hook(self, hook: str, query: Query, flows: list[Flow], ends: list[End]) -> list[Flow]:
        if not flows:
            return []
        passed = []
        for end in self.hooks.run(hook, Reader(query, hook, self.routing), self.routing, flows):
            if end.verdict == ACCEPT:
                passed.append(end.flow)
            else:
                ends.append(end)
        return passed

    def _arrive(self, query: Query, flow: Flow, ends: list[End]) -> list[Flow]:
        """What the kernel drops before any hook."""
        if query.family == 4:
            return [flow]
        taken, gone = _cut(flow, _NEVER6)
        if gone is not None:
            ends.append(_dropped(gone, "a source that IPv6 never takes"))
        if taken is not None and query.daddr == 1:
            ends.append(_dropped(taken, "the loopback address from outside"))
            return []
        return [] if taken is None else [taken]

    def _route4(self, query: Query, flow: Flow, inward: list[Flow], onward: list[Flow], ends: list[End]) -> None:
        daddr, iif = flow.state.daddr, query.iif
        if flow.state.saddr is not None:
            ends.append(End(flow.doubted("a source translated before routing"), UNKNOWN))
            return
        localnet = self.routing.setting("route_localnet", iif)
        never = _NEVER4 if daddr == BROADCAST4 else (ZERO4, *_NEVER4)
        if not localnet and daddr != BROADCAST4 and daddr >> 24 != 127:
            never = tuple(sorted((*never, LOOPBACK4)))
        going, gone = _cut(flow, never)
        known = self.routing.known(iif, "route_localnet")
        if gone is not None and not known and meet(gone.saddr, (LOOPBACK4,)):
            ends.append(End(gone.doubted("route_localnet is not known"), UNKNOWN))
        elif gone is not None:
            ends.append(_dropped(gone, "martian source"))
        if going is None:
            return
        if daddr >> 24 == 127 and not localnet and not known:
            ends.append(End(going.doubted("route_localnet is not known"), UNKNOWN))
        elif daddr >> 28 == 14:
            ends.append(End(going.doubted("a multicast destination"), UNKNOWN))
        elif daddr == 0 or (daddr >> 24 == 127 and not localnet):
            ends.append(_dropped(going, "martian destination"))
        elif daddr == BROADCAST4:
            self._believed(query, going, 0, inward, ends)
        else:
            for ranges, way in self.routing.ways(4, daddr, going.saddr, iif, going.state.mark):
                part = going.boxed(meet(going.saddr, ranges), going.sport)
                if not part.saddr:
                    continue
                if way.doubt:
                    ends.append(End(part.doubted(way.doubt), UNKNOWN))
                elif way.kind in ("local", "broadcast"):
                    self._believed(query, part, 0, inward, ends)
                elif way.kind != "unicast" or not way.devices:
                    ends.append(_dropped(part, f"no route ({way.kind or 'none found'})"))
                elif self._forwards(4, iif, part, ends):
                    self._believed(query, part, way.devices[0], onward, ends)

    def _believed(self, query: Query, flow: Flow, oif: int, going: list[Flow], ends: list[End]) -> None:
        """Reverse path filter and sources that are the host's own."""
        good = self.routing.believes(query.iif, oif, flow.state.daddr, flow.state.mark)
        kept = meet(flow.saddr, good)
        if kept:
            part = flow.boxed(kept, flow.sport)
            going.append(part.changed(part.state._replace(oif=oif)))
        gone = minus(flow.saddr, good)
        if gone and not self.routing.known(query.iif, "rp_filter", "accept_local", "send_redirects", "src_valid_mark"):
            ends.append(End(flow.boxed(gone, flow.sport).doubted("rp_filter is not known"), UNKNOWN))
        elif gone:
            strict = self.routing.setting("rp_filter", query.iif)
            reason = f"rp_filter={strict} or a source of the host's own" if strict else "a source of the host's own"
            ends.append(_dropped(flow.boxed(gone, flow.sport), reason))

    def _forwards(self, family: int, iif: int, flow: Flow, ends: list[End]) -> bool:
        """Tell whether the host forwards what comes in there; if not, the flow ends."""
        interface = self.host.interfaces.get(iif)
        name = interface.name if interface is not None else ""
        found = self.host.sysctl(f"net/ipv4/conf/{name}/forwarding" if family == 4 else "net/ipv6/conf/all/forwarding")
        if found is None:
            ends.append(End(flow.doubted("whether the host forwards is not known"), UNKNOWN))
        elif not found:
            ends.append(_dropped(flow, "forwarding is off"))
        return bool(found)

    def _route6(self, query: Query, flow: Flow, inward: list[Flow], onward: list[Flow], ends: list[End]) -> None:
        daddr, iif = flow.state.daddr, query.iif
        if flow.state.saddr is not None:
            ends.append(End(flow.doubted("a source translated before routing"), UNKNOWN))
            return
        if daddr >> 120 == 0xFF:
            ends.append(End(flow.doubted("a multicast destination"), UNKNOWN))
            return
        only = iif if LINK_LOCAL6[0] <= daddr <= LINK_LOCAL6[1] else 0
        for ranges, way in self.routing.ways(6, daddr, flow.saddr, iif, flow.state.mark, only):
            part = flow.boxed(meet(flow.saddr, ranges), flow.sport)
            if not part.saddr:
                continue
            if way.doubt:
                ends.append(End(part.doubted(way.doubt), UNKNOWN))
            elif way.kind in ("local", "anycast"):
                inward.append(part)
            elif way.kind != "unicast" or not way.devices:
                ends.append(_dropped(part, f"no route ({way.kind or 'none found'})"))
            elif self._forwards(6, iif, part, ends):
                going: Flow | None = part
                if way.devices[0] != iif:
                    going, gone = _cut(part, ((0, 0), LINK_LOCAL6))
                    if gone is not None:
                        ends.append(_dropped(gone, "a source that is never forwarded"))
                if going is not None:
                    onward.append(going.changed(going.state._replace(oif=way.devices[0])))


def _cut(flow: Flow, never: Ranges) -> tuple[Flow | None, Flow | None]:
    """A flow without some sources, and with only those."""
    kept, gone = minus(flow.saddr, never), meet(flow.saddr, never)
    return (
        flow.boxed(kept, flow.sport) if kept else None,
        flow.boxed(gone, flow.sport) if gone else None,
    )


def _dropped(flow: Flow, reason: str) -> End:
    """A drop between the hooks, which no chain shows."""
    return End(flow.stepped(Step("", "", "", 0, reason)), DROP, reason)
