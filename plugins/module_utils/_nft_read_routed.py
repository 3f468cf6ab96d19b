# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find forward chains that drop what the own table lets a router forward.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_docker import (
    docker_bridges_in,
    how_it_drops,
    interface_matches,
    verdicts,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_hooks import owner_of
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence, Finding

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table

#: What the compiler sends traffic between outside interfaces through.
_ROUTED = "routed"
_STATES = re.compile(r"\bct state ([a-z,{} ]+)")


def routed_drops(ruleset: Ruleset, presence: DockerPresence) -> Iterator[Finding]:
    """Forward chains that drop what they do not know and know nothing of traffic between outside interfaces."""
    wanted = _wanted(ruleset)
    bridges = {*presence.bridges, *docker_bridges_in(ruleset)}
    for table in ruleset.tables:
        families = {"ip": {4}, "ip6": {6}, "inet": {4, 6}}.get(table.family, set())
        if not families & wanted or owner_of(table) in ("docker", "bulkhead"):
            continue
        for chain in table.chains:
            if chain.hook != "forward" or chain.type != "filter":
                continue
            how = how_it_drops(table, chain)
            if how and not _passes(table, chain, bridges, set()):
                yield Finding(
                    "FORWARD_DROP_CUTS_ROUTED",
                    f"Forward chain {chain.name} of table {table.label} drops what it does not accept ({how}) and "
                    f"accepts nothing but containers' traffic: what the policy lets the host forward from one outside "
                    f"interface to another is cut.",
                    f"{table.label} {chain.name}",
                    "Set this chain to policy accept (for iptables `iptables -P FORWARD ACCEPT`, likewise ip6tables): "
                    "the role's table drops all that the policy does not allow. Or accept in it what is to be forwarded.",
                )


def _wanted(ruleset: Ruleset) -> set[int]:
    """The families of which the own table lets anything be forwarded between outside interfaces."""
    found: set[int] = set()
    for table in ruleset.tables:
        chain = table.chain(_ROUTED) if owner_of(table) == "bulkhead" else None
        for rule in chain.rules if chain is not None else ():
            if ("accept", "") in verdicts(rule):
                found |= _families(rule)
    return found


def _families(rule: Rule) -> set[int]:
    text = json.dumps(rule.expr)
    for family, words in ((4, ('"protocol": "ip"', '"ipv4"')), (6, ('"protocol": "ip6"', '"ipv6"'))):
        if any(word in text for word in words):
            return {family}
    return {4, 6}


def _passes(table: Table, chain: Chain, bridges: set[str], seen: set[str]) -> bool:
    """Look for an accept that new connections between outside interfaces can meet; what cannot be told is one."""
    if chain.name in seen:
        return False
    seen.add(chain.name)
    for rule in chain.rules:
        if _only_answers(rule) or any(value in bridges for _key, value in interface_matches(rule)):
            continue
        for verdict, target in verdicts(rule):
            further = table.chain(target) if verdict in ("jump", "goto") else None
            if verdict == "accept" or (further is not None and _passes(table, further, bridges, seen)):
                return True
    return False


def _only_answers(rule: Rule) -> bool:
    """Tell whether a rule is about connections that there are already."""
    states = _STATES.search(rule.text or "")
    return states is not None and "new" not in states.group(1) and "untracked" not in states.group(1)
