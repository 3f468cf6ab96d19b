# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what iptables tools cannot read in a whole ruleset.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_judge import judge, judge_chain_name
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_problems import (
    MISREAD,
    UNREADABLE,
    Problem,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Table, parse_ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_iptables import (
    foreign_base_chains,
    iptables_tables,
)

__all__ = ("MISREAD", "UNREADABLE", "Problem", "check_ruleset", "check_source", "judge", "judge_chain_name")

#: nft takes these for what the next match needs anyway and does not list them, but iptables sees them in the kernel.
_HIDDEN = re.compile(r"\b(ip6\s+nexthdr|ether\s+type)\b")


def check_ruleset(listing_json: dict[str, Any], listing: str = "") -> list[str]:
    """All problems in the tables of iptables as sentences, from `nft -j list ruleset` and `nft -a list ruleset`."""
    ruleset = parse_ruleset(json.dumps(listing_json), listing)
    found = [f"{finding.text} {finding.remedy}" for finding in foreign_base_chains(ruleset)]
    for table in iptables_tables(ruleset):
        for chain in table.chains:
            found.extend(_chain(table, chain))
    return found


def _chain(table: Table, chain: Chain) -> Iterator[str]:
    place = f"table {table.label}, chain {chain.name}"
    for each in judge_chain_name(chain.name):
        yield f"{place}: {each}."
    for rule in chain.rules:
        shown = f"rule {rule.text!r}" if rule.text is not None else f"the rule with handle {rule.handle}"
        for each in judge(rule.expr, table.family, table.name, chain.name, rule.comment):
            yield f"{place}, {shown}: {each}."


def check_source(text: str) -> list[str]:
    """What a rule's own text has and nft's listings do not show, as constructs; for text that is loaded as it is."""
    return sorted({" ".join(match.group(1).split()) for match in _HIDDEN.finditer(text)})
