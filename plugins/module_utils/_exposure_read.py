# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what a field reads on a flow, at one hook.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import NEW, UNTRACKED
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import (
    FIELDS,
    WITH_PORTS,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import Flow, Query
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges


class Symbol(t.NamedTuple):
    """A field that is one of the box's own sides."""

    side: str


class Pieces(t.NamedTuple):
    """A field that depends on the source: a value for each part of all sources."""

    parts: tuple[tuple[Ranges, int], ...]


class Doubt(t.NamedTuple):
    reason: str


SADDR, SPORT = Symbol("saddr"), Symbol("sport")
_MISSING = None
_SYN = 2
_NFPROTO = {4: 2, 6: 10}
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_CT_STATE = {NEW: 8, UNTRACKED: 64}

if t.TYPE_CHECKING:
    # None where the packet has no such field: that ends the rule.
    Reading = t.Union[int, None, Symbol, Pieces, Doubt]

    class FibLike(t.Protocol):
        def read(self, key: str, query: Query, flow: Flow, hook: str) -> Reading: ...


class Reader:
    """Reads fields for one query at one hook."""

    def __init__(self, query: Query, hook: str, fib: FibLike) -> None:
        self.query = query
        self.hook = hook
        self.fib = fib
        self.with_iif = hook in ("ingress", "prerouting", "input", "forward")
        self.with_oif = hook in ("forward", "output", "postrouting")
        self.known: dict[str, bool] = {}

    def has(self, key: str) -> bool:
        """Tell whether the protocols of this query's packets have the field."""
        found = self.known.get(key)
        if found is None:
            field, query = FIELDS[key], self.query
            found = not (
                (field.family and field.family != query.family)
                or (field.protocols and query.proto not in field.protocols)
            )
            self.known[key] = found
        return found

    def read(self, key: str, flow: Flow) -> Reading:
        if not self.has(key):
            return _MISSING
        method = _READERS.get(key)
        if method is not None:
            return method(self, flow)
        if key.startswith("fib "):
            return self.fib.read(key, self.query, flow, self.hook)
        return Doubt(f"the field {key} is not in the model")

    def _saddr(self, flow: Flow) -> Reading:
        return SADDR if flow.state.saddr is None else flow.state.saddr

    def _daddr(self, flow: Flow) -> Reading:
        return flow.state.daddr

    def _sport(self, flow: Flow) -> Reading:
        if self.query.proto not in WITH_PORTS:
            return Doubt("a port of a protocol without ports")
        return SPORT if flow.state.sport is None else flow.state.sport

    def _dport(self, flow: Flow) -> Reading:
        if self.query.proto not in WITH_PORTS:
            return Doubt("a port of a protocol without ports")
        return flow.state.dport

    def _iif(self, flow: Flow) -> Reading:
        return self.query.iif if self.with_iif or self.hook == "postrouting" else 0

    def _oif(self, flow: Flow) -> Reading:
        return flow.state.oif if self.with_oif else 0

    def _mark(self, flow: Flow) -> Reading:
        return flow.state.mark

    def _nfproto(self, flow: Flow) -> Reading:
        return _NFPROTO[self.query.family]

    def _protocol(self, flow: Flow) -> Reading:
        return _ETHERTYPE[self.query.family]

    def _proto(self, flow: Flow) -> Reading:
        return self.query.proto

    def _flags(self, flow: Flow) -> Reading:
        return _SYN

    def _icmp_type(self, flow: Flow) -> Reading:
        return self.query.icmp_type

    def _icmp_code(self, flow: Flow) -> Reading:
        return self.query.icmp_code

    def _ct_state(self, flow: Flow) -> Reading:
        # Without a connection it reads invalid, not missing.
        return _CT_STATE.get(flow.state.ct, 1)

    def _ct_status(self, flow: Flow) -> Reading:
        return flow.state.ct_status if flow.state.ct == NEW else _MISSING

    def _ct_mark(self, flow: Flow) -> Reading:
        return flow.state.ct_mark if flow.state.ct == NEW else _MISSING

    def _ct_direction(self, flow: Flow) -> Reading:
        return 0 if flow.state.ct == NEW else _MISSING

    def _ct_saddr(self, flow: Flow) -> Reading:
        return SADDR if flow.state.ct == NEW else _MISSING

    def _ct_daddr(self, flow: Flow) -> Reading:
        return self.query.daddr if flow.state.ct == NEW else _MISSING

    def _ct_sport(self, flow: Flow) -> Reading:
        if flow.state.ct == NEW and self.query.proto not in WITH_PORTS:
            return Doubt("a port of a protocol without ports")
        return SPORT if flow.state.ct == NEW else _MISSING

    def _ct_dport(self, flow: Flow) -> Reading:
        if self.query.icmp_type and flow.state.ct == NEW:
            return self.query.icmp_type << 8 | self.query.icmp_code
        if flow.state.ct == NEW and self.query.proto not in WITH_PORTS:
            return Doubt("a port of a protocol without ports")
        return self.query.dport if flow.state.ct == NEW else _MISSING

    def _ct_proto(self, flow: Flow) -> Reading:
        return self.query.proto if flow.state.ct == NEW else _MISSING

    def _ct_nfproto(self, flow: Flow) -> Reading:
        return _NFPROTO[self.query.family] if flow.state.ct == NEW else _MISSING


def _readers() -> dict[str, t.Callable[[Reader, Flow], Reading]]:
    found: dict[str, t.Callable[[Reader, Flow], Reading]] = {
        "meta iifname": Reader._iif,
        "meta iif": Reader._iif,
        "meta oifname": Reader._oif,
        "meta oif": Reader._oif,
        "meta mark": Reader._mark,
        "meta nfproto": Reader._nfproto,
        "meta protocol": Reader._protocol,
        "meta l4proto": Reader._proto,
        "ip protocol": Reader._proto,
        "ip6 nexthdr": Reader._proto,
        "tcp flags": Reader._flags,
        "ct state": Reader._ct_state,
        "ct status": Reader._ct_status,
        "ct mark": Reader._ct_mark,
        "ct direction": Reader._ct_direction,
        "ct original proto-src": Reader._ct_sport,
        "ct original proto-dst": Reader._ct_dport,
        "ct original protocol": Reader._ct_proto,
        "ct original l3proto": Reader._ct_nfproto,
    }
    for family in ("ip", "ip6"):
        found[f"{family} saddr"] = Reader._saddr
        found[f"{family} daddr"] = Reader._daddr
        found[f"ct original {family} saddr"] = Reader._ct_saddr
        found[f"ct original {family} daddr"] = Reader._ct_daddr
    for name in ("th", "tcp", "udp", "dccp", "sctp", "udplite"):
        found[f"{name} sport"] = Reader._sport
        found[f"{name} dport"] = Reader._dport
    for name in ("icmp", "icmpv6"):
        found[f"{name} type"] = Reader._icmp_type
        found[f"{name} code"] = Reader._icmp_code
    return found


_READERS = _readers()
