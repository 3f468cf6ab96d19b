# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host still has the chains, jumps and policies that its layout stands on.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import IPTABLES_COMPAT, Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import ERROR, Finding

_FAMILIES = ("ip", "ip6")
_HOOKED = ("INPUT", "DOCKER-USER")
_REMEDY = (
    "Run the role nftables_conf again; systemctl restart nftables puts it back too. Find out who took it away, for"
    " instance iptables -F or -P, or iptables-restore."
)


def layout_lost(ruleset: Ruleset, layout: Layout | None) -> Iterator[Finding]:
    """What of the layout is gone, one finding for each table."""
    if layout is None:
        return
    if ruleset.table("inet", layout.table) is None:
        yield _finding(f"inet {layout.table}", ["the table is not loaded, so nothing enforces the policy"])
    if layout.layout != IPTABLES_COMPAT:
        return
    for family in _FAMILIES:
        table = ruleset.table(family, "filter")
        chains = {} if table is None else {chain.name: chain for chain in table.chains}
        lost = list(_lost(chains, layout))
        if lost:
            yield _finding(f"{family} filter", lost)


def _lost(chains: dict[str, Chain], layout: Layout) -> Iterator[str]:
    for name in _HOOKED:
        own = chains.get(f"BULKHEAD-{name}")
        if own is None or not own.rules:
            yield f"chain BULKHEAD-{name} is empty or gone"
        if name not in chains or not any(_jumps(chains[name], f"BULKHEAD-{name}")):
            yield f"nothing jumps from {name} to BULKHEAD-{name}"
    policy = chains["INPUT"].policy if "INPUT" in chains else None
    if "INPUT" in layout.policies and not layout.drops_input and policy != "drop":
        yield f"the policy of INPUT is {policy or 'gone'} instead of drop, so that what the policy refuses gets in"


def _jumps(chain: Chain, target: str) -> Iterator[bool]:
    for rule in chain.rules:
        for statement in rule.expr:
            verdict = statement.get("jump") if isinstance(statement, dict) else None
            yield isinstance(verdict, dict) and verdict.get("target") == target


def _finding(where: str, lost: list[str]) -> Finding:
    text = f"This host keeps its policy partly in table {where}, and some of it is lost: {'; '.join(lost)}."
    if not where.startswith("inet"):
        text += " Closed ports of the host may be open, or all of them cut off."
    return Finding("LAYOUT_LOST", text, where, _REMEDY, ERROR)
