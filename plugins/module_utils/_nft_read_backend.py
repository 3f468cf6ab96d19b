# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what Docker's iptables backend has left behind on a host whose Docker makes its rules with nftables.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import ERROR, WARNING, Finding

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset, Table

_CHAIN = "DOCKER-USER"


def user_chain_left(ruleset: Ruleset) -> Iterator[Finding]:
    """Rules in DOCKER-USER that Docker does not ask, or will no longer ask after the next boot."""
    for family in ("ip", "ip6"):
        table = ruleset.table(family, "filter")
        if table is None or ruleset.table(family, "docker-bridges") is None:
            continue
        chain = table.chain(_CHAIN)
        if chain is None or not chain.rules:
            continue
        asked = _is_asked(table)
        how = (
            "They hold only as long as the jump to it does, which the iptables backend has left behind and which is not "
            "there after the next boot."
            if asked
            else "Nothing leads to them: Docker's nftables backend has no such chain, so they do nothing."
        )
        yield Finding(
            "DOCKER_USER_LEFT",
            f"Docker makes its rules with nftables, and chain {_CHAIN} of table {table.label} has {len(chain.rules)} rules. "
            f"{how}",
            f"{table.label} {_CHAIN}",
            "Run the playbook bulkhead.docker_nftables.migrate, which carries them over into a table of their own, or say "
            "the same in the policy, and remove the chain.",
            WARNING if asked else ERROR,
        )


def _is_asked(table: Table) -> bool:
    chain = table.chain("FORWARD")
    return chain is not None and any(_leads(each) for rule in chain.rules for each in rule.expr)


def _leads(statement: Any) -> bool:
    jump = statement.get("jump") or statement.get("goto") if isinstance(statement, dict) else None
    return isinstance(jump, dict) and jump.get("target") == _CHAIN
