# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: turn `nft -j list ruleset` into what the analyser walks through.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _exposure_xt, _nft_read
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_expr import operations
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    ACCEPT,
    Chain,
    Coverage,
    Opaque,
    Program,
    Rule,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_merge import joined
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import Unreadable

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Op

_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
_TRACKING = frozenset(
    ("ct", "ct count", "ct helper", "ct timeout", "ct expectation", "dnat", "snat", "masquerade", "redirect", "flow")
    + ("synproxy",)
)
_TRACKING_XT = frozenset(
    ("conntrack", "state", "connmark", "connlimit", "connbytes", "connlabel", "helper", "cluster", "CONNMARK")
    + ("CONNSECMARK", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "SYNPROXY")
)


def parse(printed: str, saves: t.Mapping[str, str] | None = None) -> Program:
    """Read a listing; what is not understood is kept as such and counted.

    `saves` is what iptables-save (`ip`) and ip6tables-save (`ip6`) print: the arguments of iptables' own rules.
    """
    places = _exposure_xt.saved(saves or {})
    ruleset = _nft_read.parse_ruleset(printed, elements=True)
    coverage = Coverage()
    chains: dict[tuple[str, str, str], Chain] = {}
    tracked: set[int] = set()
    for table in ruleset.tables:
        if "dormant" in table.flags:
            continue
        sets = _Sets(table)
        for chain in table.chains:
            for rule in chain.rules:
                _tracks(rule.expr, _FAMILIES.get(table.family, ()), tracked)
        for chain in table.chains:
            lines = places.get((table.family, table.name, chain.name), ())
            if not _exposure_xt.fits(lines, [rule.expr for rule in chain.rules]):
                lines = ()
            rules = tuple(
                Rule(
                    table.family,
                    table.name,
                    chain.name,
                    rule.handle,
                    _ops(rule, sets, table.family, coverage, lines[number] if lines else ""),
                )
                for number, rule in enumerate(chain.rules)
            )
            chains[(table.family, table.name, chain.name)] = Chain(
                table.family,
                table.name,
                chain.name,
                rules,
                chain.type or "",
                chain.hook or "",
                chain.priority or 0,
                chain.policy or ACCEPT,
                chain.devices,
            )
    return Program(chains, coverage, frozenset(tracked))


def _tracks(value: t.Any, families: tuple[int, ...], tracked: set[int]) -> None:
    """Add the families for which an expression, or one inside of it, starts connection tracking."""
    if isinstance(value, dict):
        for kind, body in value.items():
            if kind in ("dnat", "snat") and isinstance(body, dict) and "family" in body:
                # In a table of both families, a translation of one starts it for that one only.
                tracked.update(_FAMILIES.get(body["family"], families))
            elif kind in _TRACKING or (kind == "xt" and body.get("name") in _TRACKING_XT):
                tracked.update(families)
            _tracks(body, families, tracked)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _tracks(item, families, tracked)


class _Sets:
    """The elements of a table's sets, as far as they do not change while packets pass."""

    def __init__(self, table: _nft_read.Table) -> None:
        self.sets = {item.name: item for item in table.sets}
        self.filled = {
            str(body["set"]).lstrip("@")
            for chain in table.chains
            for rule in chain.rules
            for expression in rule.expr
            if isinstance(expression, dict)
            for kind, body in expression.items()
            if kind in ("set", "map") and isinstance(body, dict) and "set" in body
        }

    def find(self, name: str) -> list[t.Any]:
        found = self.sets.get(name)
        if found is None:
            raise Unreadable(f"the set {name} is not in the listing")
        if name in self.filled or "dynamic" in found.flags:
            raise Unreadable(f"packets fill the set {name}")
        return list(found.elements or ())


def _ops(rule: _nft_read.Rule, sets: _Sets, family: str, coverage: Coverage, line: str) -> tuple[Op, ...]:
    if line and _exposure_xt.with_xt(rule.expr):
        try:
            ops = _exposure_xt.operations(line, family)
        except (Unreadable, ValueError, KeyError):
            pass
        else:
            coverage.total += len(rule.expr)
            return tuple(ops)
    found: list[tuple[bool, list[Op]]] = []
    for expression in rule.expr:
        coverage.total += 1
        ops = operations(expression, sets.find, family)
        for op in ops:
            if isinstance(op, Opaque):
                coverage.miss(op.reason)
        found.append((isinstance(expression, dict) and "match" in expression, ops))
    return tuple(joined(found))
