# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: walk flows through the chains of one hook, as the kernel walks a packet.

Each operation splits a flow into what goes on in the rule and what goes on with the next rule. What is not understood
sends the flow both ways, with the doubt noted. May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import (
    DNAT_BIT,
    DST_NAT_DONE,
    NEW,
    NO_CT,
    SNAT_BIT,
    SRC_NAT_DONE,
    UNTRACKED,
    End,
    Flow,
    Step,
    joined,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_index import SHORT, Index
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    ACCEPT,
    CONTINUE,
    ENDS,
    GOTO,
    JUMP,
    PERHAPS,
    RETURN,
    UNKNOWN,
    Calculated,
    Lookup,
    Match,
    Nat,
    NotBoth,
    Notrack,
    Opaque,
    Verdict,
    Write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import WITH_PORTS
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import (
    SADDR,
    Doubt,
    Pieces,
    Symbol,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import holds, meet, minus

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
        Chain,
        Op,
        Program,
        Rule,
        Value,
    )
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_read import Reader
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

    Indexes = t.Dict[t.Tuple[str, str, str], Index]

    class PlaceLike(t.Protocol):
        """Which addresses the host itself puts in."""

        def own_address(self, kind: str, interface: int, family: int, flow: Flow) -> int | None: ...


# With more boxes than this the answer is that there is none.
LIMIT = 4096


class Walk:
    """Walks the chains of one hook for one query."""

    def __init__(self, program: Program, indexes: Indexes, reader: Reader, place: PlaceLike) -> None:
        self.program = program
        self.indexes = indexes
        self.reader = reader
        self.place = place
        self.ends: list[End] = []

    def base(self, chain: Chain, flows: list[Flow]) -> list[End]:
        """What the chain does with the flows; accepted ones go on to the next chain of the hook."""
        self.ends = []
        for flow in self.chain(chain, flows):
            step = Step(chain.family, chain.table, chain.name, 0, f"policy {chain.policy}")
            self.ends.append(End(flow.stepped(step), chain.policy))
        return self.ends

    def chain(self, chain: Chain, flows: list[Flow]) -> list[Flow]:
        """Give the flows that come to the end of the chain, or return from it."""
        if len(chain.rules) <= SHORT or self.reader.query.proto not in WITH_PORTS:
            return self.rules(chain.rules, flows)
        key = (chain.family, chain.table, chain.name)
        if key not in self.indexes:
            self.indexes[key] = Index(chain)
        index = self.indexes[key]
        groups: dict[tuple[int, int], list[Flow]] = {}
        for flow in flows:
            groups.setdefault((flow.state.dport, flow.state.daddr), []).append(flow)
        found: list[Flow] = []
        for place, group in groups.items():
            found.extend(self.rules(index.select(*place), group))
        return found

    def rules(self, rules: t.Sequence[Rule], flows: list[Flow]) -> list[Flow]:
        """Run rules one after the other; gives what comes to their end, or returns."""
        returned: list[Flow] = []
        for rule in rules:
            if not flows:
                break
            going: list[Flow] = []
            for flow in flows:
                start = len(going)
                self.rule(rule, flow, going, returned)
                if len(going) > start + 1 and rule.idle:
                    going[start:] = _idle(rule, flow, going[start:])
            flows = joined(going)
            if len(flows) > LIMIT:
                for flow in flows:
                    self.ends.append(End(flow.doubted("too many cases"), UNKNOWN))
                flows = []
        return joined(returned + flows)

    def rule(self, rule: Rule, flow: Flow, going: list[Flow], returned: list[Flow]) -> None:
        """Run one rule; flows that go on with the next rule are added to `going`."""
        active = [flow]
        for op in rule.ops:
            kept: list[Flow] = []
            for item in active:
                if isinstance(op, Match):
                    self.match(op, item, kept, going)
                elif isinstance(op, Verdict):
                    if not self.verdict(rule, op, item, going, returned):
                        kept.append(item)
                elif isinstance(op, Lookup):
                    for part, verdict in self.look_up(op, item, going):
                        if verdict is None or not self.verdict(rule, verdict, part, going, returned):
                            kept.append(part)
                elif isinstance(op, NotBoth):
                    self.not_both(op, item, kept, going)
                else:
                    self.other(rule, op, item, kept, going)
            active = kept
            if not active:
                return
        step = Step(rule.family, rule.table, rule.chain, rule.handle, CONTINUE)
        going.extend(item.stepped(step) for item in active)

    def match(self, op: Match, flow: Flow, kept: list[Flow], missed: list[Flow]) -> None:
        value = self.reader.read(op.key, flow)
        if isinstance(value, int):
            if holds(op.ranges, value if op.mask is None else value & op.mask) != op.negated:
                kept.append(flow)
            else:
                missed.append(flow)
        elif value is None:
            missed.append(flow)
        elif isinstance(value, Doubt) or (op.mask is not None and isinstance(value, Symbol)):
            reason = value.reason if isinstance(value, Doubt) else "a mask on the source that is no prefix"
            kept.append(flow.doubted(reason))
            missed.append(flow.doubted(reason))
        elif isinstance(value, Pieces):
            mask = -1 if op.mask is None else op.mask
            for ranges, number in value.parts:
                part = meet(flow.saddr, ranges)
                if part:
                    hit = holds(op.ranges, number & mask) != op.negated
                    (kept if hit else missed).append(flow.boxed(part, flow.sport))
        else:
            inside, outside = _split(flow, value, op.ranges)
            if op.negated:
                inside, outside = outside, inside
            if inside is not None:
                kept.append(inside)
            if outside is not None:
                missed.append(outside)

    def not_both(self, op: NotBoth, flow: Flow, kept: list[Flow], missed: list[Flow]) -> None:
        """Certain only where both fields differ, or neither."""
        differ: list[Flow] = []
        equal: list[Flow] = []
        self.match(op.first, flow, differ, equal)
        one: list[Flow] = []
        for item in differ:
            self.match(op.second, item, kept, one)
        for item in equal:
            self.match(op.second, item, one, missed)
        for item in one:
            if self.reader.has(op.first.key):
                item = item.doubted("two negated conditions that nft may have made one of")
                kept.append(item)
            missed.append(item)

    def look_up(self, op: Lookup, flow: Flow, missed: list[Flow]) -> list[tuple[Flow, t.Any]]:
        """The parts of a flow that the lookup finds, each with the data; the other parts are missed."""
        values = []
        for key in op.keys:
            value = self.reader.read(key, flow)
            if value is None:
                missed.append(flow)
                return []
            if isinstance(value, (Doubt, Pieces)):
                reason = value.reason if isinstance(value, Doubt) else f"a lookup with {key}"
                return self._anything(op, flow.doubted(reason), missed)
            values.append(value)
        left = [flow]
        found: list[tuple[Flow, t.Any]] = []
        for element in op.elements:
            if not all(isinstance(value, Symbol) or holds(part, value) for value, part in zip(values, element.key)):
                continue
            rest: list[Flow] = []
            for item in left:
                inside: Flow | None = item
                for value, part in zip(values, element.key):
                    if isinstance(value, Symbol) and inside is not None:
                        inside, outside = _split(inside, value, part)
                        if outside is not None:
                            rest.append(outside)
                if inside is not None:
                    found.append((inside, element.data))
            left = rest
            if not left:
                break
        if op.other is not None:
            found.extend((item, None if op.other is True else op.other) for item in left)
            left = []
        if op.negated:
            missed.extend(item for item, data in found)
            return [(item, None) for item in left]
        missed.extend(left)
        return found

    def _anything(self, op: Lookup, flow: Flow, missed: list[Flow]) -> list[tuple[Flow, t.Any]]:
        """Every outcome that a lookup with an unknown key can have."""
        missed.append(flow)
        data = [] if op.negated else [element.data for element in op.elements]
        if op.other is not None and op.other is not True:
            data.append(op.other)
        unique: list[t.Any] = []
        for item in data or [None]:
            if item not in unique:
                unique.append(item)
        return [(flow, item) for item in unique]

    def verdict(self, rule: Rule, op: Verdict, flow: Flow, going: list[Flow], returned: list[Flow]) -> bool:
        """Carry a verdict out; False for `continue`, after which the rule goes on."""
        if op.kind == CONTINUE:
            return False
        flow = flow.stepped(Step(rule.family, rule.table, rule.chain, rule.handle, op.kind))
        if op.kind in ENDS:
            self.ends.append(End(flow, op.kind, op.detail))
        elif op.kind == RETURN:
            returned.append(flow)
        else:
            target = self.program.chains.get((rule.family, rule.table, op.target))
            if target is None:
                self.ends.append(End(flow.doubted(f"the chain {op.target} is not in the listing"), UNKNOWN))
            elif op.kind == JUMP:
                going.extend(self.chain(target, [flow]))
            elif op.kind == GOTO:
                returned.extend(self.chain(target, [flow]))
        return True

    def other(self, rule: Rule, op: Op, flow: Flow, kept: list[Flow], missed: list[Flow]) -> None:
        if isinstance(op, Opaque):
            flow = flow.doubted(op.reason)
            if op.final:
                self.ends.append(End(flow, UNKNOWN))
            else:
                kept.append(flow)
                missed.append(flow)
        elif isinstance(op, Write):
            for part, number in self.value(op.value, flow, missed):
                state = part.state
                if op.key == "meta mark":
                    kept.append(part.changed(state._replace(mark=number)))
                elif state.ct == NEW:
                    kept.append(part.changed(state._replace(ct_mark=number)))
                else:
                    kept.append(part)
        elif isinstance(op, Notrack):
            kept.append(flow.changed(flow.state._replace(ct=UNTRACKED)) if flow.state.ct == NO_CT else flow)
        elif isinstance(op, Nat):
            self.nat(rule, op, flow, kept, missed)

    def value(self, value: Value, flow: Flow, missed: list[Flow]) -> list[tuple[Flow, t.Any]]:
        """What a statement writes, for each part of the flow."""
        if isinstance(value, int):
            return [(flow, value)]
        if isinstance(value, Lookup):
            return self.look_up(value, flow, missed)
        if isinstance(value, Calculated):
            read = self.reader.read(value.key, flow)
            if read is None:
                missed.append(flow)
                return []
            if isinstance(read, int):
                return [(flow, (read & value.mask) ^ value.xor)]
            if isinstance(read, Pieces):
                parts = [(meet(flow.saddr, ranges), number) for ranges, number in read.parts]
                return [
                    (flow.boxed(part, flow.sport), (number & value.mask) ^ value.xor) for part, number in parts if part
                ]
        self.ends.append(End(flow.doubted("a mark taken from a field that is not known"), UNKNOWN))
        return []

    def nat(self, rule: Rule, op: Nat, flow: Flow, kept: list[Flow], missed: list[Flow]) -> None:
        """Translate: the kernel ends the chain with accept after it, and skips it for the other family."""
        addresses: list[tuple[Flow, t.Any]] = [(flow, None)]
        if op.address is not None:
            addresses = self.value(op.address, flow, missed)
        for part, address in addresses:
            port: t.Any = None
            if isinstance(address, tuple):
                address, port = address
            ports: list[tuple[Flow, t.Any]] = [(part, port)]
            if op.port is not None:
                ports = self.value(op.port, part, missed)
            for item, number in ports:
                if op.family and op.family != self.reader.query.family:
                    kept.append(item)
                else:
                    self._translate(rule, op, item, address, number)

    def _translate(self, rule: Rule, op: Nat, flow: Flow, address: int | None, port: int | None) -> None:
        if op.kind in ("redirect", "masquerade"):
            interface = self.reader.query.iif if op.kind == "redirect" else flow.state.oif
            address = self.place.own_address(op.kind, interface, self.reader.query.family, flow)
            if address is None:
                self.ends.append(End(flow.doubted(f"the host's own address for {op.kind}"), UNKNOWN))
                return
        step = Step(rule.family, rule.table, rule.chain, rule.handle, ACCEPT)
        self.ends.append(End(_translated(op, flow, address, port).stepped(step), ACCEPT, op.kind))


def _idle(rule: Rule, flow: Flow, found: list[Flow]) -> list[Flow]:
    """Take back the doubts that a rule without any effect has raised."""
    step = Step(rule.family, rule.table, rule.chain, rule.handle, PERHAPS)
    kept: list[Flow] = []
    doubted: list[Flow] = []
    # What misses the first condition in doubt comes first, and covers what is split further behind it.
    for item in found:
        if item.doubts == flow.doubts:
            kept.append(item)
        elif not any(
            meet(item.saddr, wider.saddr) == item.saddr and meet(item.sport, wider.sport) == item.sport
            for wider in doubted
        ):
            doubted.append(flow.boxed(item.saddr, item.sport).stepped(step))
    return kept + doubted


def _translated(op: Nat, flow: Flow, address: int | None, port: int | None) -> Flow:
    state = flow.state
    if op.kind in ("dnat", "redirect"):
        daddr = state.daddr if address is None else address
        dport = state.dport if port is None else port
        changed = DNAT_BIT if (daddr, dport) != (state.daddr, state.dport) else 0
        return flow.changed(
            state._replace(daddr=daddr, dport=dport, ct_status=state.ct_status | DST_NAT_DONE | changed)
        )
    saddr = state.saddr if address is None else address
    sport = state.sport if port is None else port
    # Whether this changes anything depends on the source; the bit is read by nobody after postrouting.
    return flow.changed(state._replace(saddr=saddr, sport=sport, ct_status=state.ct_status | SRC_NAT_DONE | SNAT_BIT))


def _split(flow: Flow, side: Symbol, ranges: Ranges) -> tuple[Flow | None, Flow | None]:
    """The part of a flow whose source (or source port) is among the numbers, and the rest."""
    if side is SADDR:
        inside = meet(flow.saddr, ranges)
        if not inside:
            return None, flow
        if inside == flow.saddr:
            return flow, None
        return flow.boxed(inside, flow.sport), flow.boxed(minus(flow.saddr, ranges), flow.sport)
    inside = meet(flow.sport, ranges)
    if not inside:
        return None, flow
    if inside == flow.sport:
        return flow, None
    return flow.boxed(flow.saddr, inside), flow.boxed(flow.saddr, minus(flow.sport, ranges))
