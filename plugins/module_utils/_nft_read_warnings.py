# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is worth a warning in a ruleset.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Rule, Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_backend import user_chain_left
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_docker import (
    forward_drops,
    rules_missing,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_iptables import (
    foreign_base_chains,
    unreadable_chains,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_routed import routed_drops
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import (
    ERROR,
    DockerPresence,
    Finding,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules

_SHOWN_HANDLES = 10
#: Chains that Docker's iptables backend checks, inserts into and deletes from; its own begin with DOCKER.
_DOCKER_MANAGES = {
    "filter": ("FORWARD",),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING",),
}
_NOT_READ = LegacyRules(None, None)


def find_all(
    ruleset: Ruleset,
    presence: DockerPresence,
    legacy4: tuple[str, ...] = (),
    legacy6: tuple[str, ...] = (),
    docker_manages_rules: bool = True,
    legacy_rules: LegacyRules = _NOT_READ,
) -> list[Finding]:
    return [
        *foreign_base_chains(ruleset),
        *(_weighed(finding, ruleset, presence) for finding in unreadable_chains(ruleset)),
        *duplicate_rules(ruleset),
        *legacy_tables(ruleset, legacy4, legacy6, legacy_rules),
        *forward_drops(ruleset, presence),
        *routed_drops(ruleset, presence),
        *rules_missing(ruleset, presence, legacy4, docker_manages_rules, legacy_rules.ipv4),
        *user_chain_left(ruleset),
    ]


def _weighed(finding: Finding, ruleset: Ruleset, presence: DockerPresence) -> Finding:
    """What iptables cannot read in a chain that Docker works on makes Docker fail open."""
    words = finding.where.partition(",")[0].split()
    if len(words) != 3:
        return finding
    managed = bool(presence.bridges) and ruleset.table("ip", "docker-bridges") is None
    if words[2].startswith("DOCKER") or (managed and words[2] in _DOCKER_MANAGES.get(words[1], ())):
        return replace(finding, severity=ERROR)
    return finding


def duplicate_rules(ruleset: Ruleset) -> Iterator[Finding]:
    """Rules that stand more than once in the same chain."""
    for table in ruleset.tables:
        for chain in table.chains:
            same: dict[str, list[Rule]] = {}
            for rule in chain.rules:
                key = _identity(rule)
                if key is not None:
                    same.setdefault(key, []).append(rule)
            for rules in same.values():
                if len(rules) > 1:
                    handles = ", ".join(str(rule.handle) for rule in rules[:_SHOWN_HANDLES])
                    more = f" and {len(rules) - _SHOWN_HANDLES} more" if len(rules) > _SHOWN_HANDLES else ""
                    yield Finding(
                        "DUPLICATE_RULES",
                        f"Chain {chain.name} of table {table.label} has the same rule {len(rules)} times: "
                        f"{rules[0].text or f'handle {rules[0].handle}'}",
                        f"{table.label} {chain.name}, handles {handles}{more}",
                        "Keep one of them. Duplicates come from a file loaded twice without replacing its table, or "
                        "from a program whose check for its own rule fails.",
                    )


def _identity(rule: Rule) -> str | None:
    """What makes two rules the same, or None where that cannot be told.

    JSON has no arguments of xt expressions, so for those the listed text has to decide, and where nft could not
    translate one of them, nothing can.
    """
    kinds = [kind for statement in rule.expr if isinstance(statement, dict) for kind in statement]
    if "xt" in kinds:
        if rule.text is None or "xt match" in rule.text or "xt target" in rule.text:
            return None
        # Targets like LOG or MARK may be listed without all of their arguments.
        return f"text {rule.text}" if _translated_whole(rule) else None
    # A counter more or less makes no other rule.
    bare = [_stateless(statement) for statement in rule.expr if not _is_counter(statement)]
    return "json " + json.dumps(bare, sort_keys=True)


def _translated_whole(rule: Rule) -> bool:
    names = [statement["xt"] for statement in rule.expr if isinstance(statement, dict) and "xt" in statement]
    return all(isinstance(xt, dict) and xt.get("name") not in ("LOG", "recent", "hashlimit") for xt in names)


def _is_counter(statement: Any) -> bool:
    return isinstance(statement, dict) and "counter" in statement


def _stateless(statement: Any) -> Any:
    if isinstance(statement, dict) and isinstance(statement.get("quota"), dict):
        return {"quota": {key: value for key, value in statement["quota"].items() if not key.startswith("used")}}
    return statement


def legacy_tables(
    ruleset: Ruleset, legacy4: tuple[str, ...], legacy6: tuple[str, ...], rules: LegacyRules = _NOT_READ
) -> Iterator[Finding]:
    """Rules of the old xtables in the kernel: nft does not show them, and every packet passes them too.

    Tables that are known to be empty do nothing, and a kernel that has them built in does not let go of them.
    """
    for family, names, lines in (("IPv4", legacy4, rules.ipv4), ("IPv6", legacy6, rules.ipv6)):
        if names and (lines is None or lines):
            beside = " beside the nftables rules" if ruleset.tables else ""
            tool = "iptables-legacy" if family == "IPv4" else "ip6tables-legacy"
            known = (
                f"what is in them cannot be said, {tool}-save is missing or failed"
                if lines is None
                else f"{len(lines)} rules and policies"
            )
            yield Finding(
                "LEGACY_XTABLES",
                f"The old xtables of {family} are in use{beside} (tables {', '.join(names)}; {known}). nft does not "
                f"show them; packets pass both, and a drop in either is final.",
                "/proc/net/ip_tables_names" if family == "IPv4" else "/proc/net/ip6_tables_names",
                f"Look at them with {tool}-save, move what is needed to nftables, empty them ({tool} -F, -X, -P "
                f"... ACCEPT in each table) and reboot or restart Docker.",
            )
