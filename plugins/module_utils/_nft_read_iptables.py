# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what iptables tools cannot read, or read wrongly, in the tables they manage.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_hooks import (
    IPTABLES_FAMILIES,
    IPTABLES_TABLES,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding

#: table -> chain -> (type, hook, priority) as iptables-nft creates them.
_BUILTIN: dict[str, dict[str, tuple[str, str, int]]] = {
    "raw": {"PREROUTING": ("filter", "prerouting", -300), "OUTPUT": ("filter", "output", -300)},
    "mangle": {
        "PREROUTING": ("filter", "prerouting", -150),
        "INPUT": ("filter", "input", -150),
        "FORWARD": ("filter", "forward", -150),
        "OUTPUT": ("route", "output", -150),
        "POSTROUTING": ("filter", "postrouting", -150),
    },
    "filter": {
        "INPUT": ("filter", "input", 0),
        "FORWARD": ("filter", "forward", 0),
        "OUTPUT": ("filter", "output", 0),
    },
    "nat": {
        "PREROUTING": ("nat", "prerouting", -100),
        "INPUT": ("nat", "input", 100),
        "OUTPUT": ("nat", "output", -100),
        "POSTROUTING": ("nat", "postrouting", 100),
    },
    "security": {
        "INPUT": ("filter", "input", 150),
        "FORWARD": ("filter", "forward", 150),
        "OUTPUT": ("filter", "output", 150),
    },
}
#: Chains that Docker checks, inserts into and deletes from with iptables.
_DOCKER_TOUCHES = {
    "filter": ("FORWARD",),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING",),
}
#: Statements that iptables-nft understands whatever their arguments are.
_READABLE = ("accept", "drop", "return", "jump", "goto", "continue", "counter", "comment", "xt")
_READABLE_META = ("iifname", "oifname", "iif", "oif", "mark", "l4proto", "pkttype", "protocol", "nfproto")

UNREADABLE = "unreadable"
MISREAD = "misread"


def iptables_tables(ruleset: Ruleset) -> Iterator[Table]:
    for table in ruleset.tables:
        if table.family in IPTABLES_FAMILIES and table.name in IPTABLES_TABLES:
            yield table


def foreign_base_chains(ruleset: Ruleset) -> Iterator[Finding]:
    """Base chains in a table named like one of iptables that iptables would not have made."""
    for table in iptables_tables(ruleset):
        for chain in table.chains:
            if chain.hook is None:
                continue
            wrong = _foreign(table, chain)
            if wrong:
                yield Finding(
                    "FOREIGN_PRIORITY",
                    f"Base chain {chain.name} of table {table.label} is not the one iptables uses: {wrong}. "
                    f"iptables tools and Docker do not see it, they make a chain of their own beside it or refuse "
                    f"the table; both chains then filter.",
                    f"{table.label} {chain.name}",
                    "Keep own chains in a table of your own name, or give this one the name, type and priority "
                    f"iptables expects{_expected(table, chain)}.",
                )


def _foreign(table: Table, chain: Chain) -> str:
    builtin = _BUILTIN[table.name].get(chain.name)
    if builtin is None:
        same = next((name for name in _BUILTIN[table.name] if name.lower() == chain.name.lower()), None)
        hint = f", only {same}, and case matters" if same else ""
        return f"iptables has no chain of that name there{hint}"
    wrong = []
    for word, has, wants in zip(("type", "hook", "priority"), (chain.type, chain.hook, chain.priority), builtin):
        if has != wants:
            wrong.append(f"{word} {has} instead of {wants}")
    return ", ".join(wrong)


def _expected(table: Table, chain: Chain) -> str:
    for name, (kind, hook, priority) in _BUILTIN[table.name].items():
        if name.lower() == chain.name.lower():
            return f" (chain {name}: type {kind} hook {hook} priority {priority})"
    return ""


def unreadable_chains(ruleset: Ruleset) -> Iterator[Finding]:
    """Chains in tables of iptables with rules that iptables tools refuse, or show as something else."""
    for table in iptables_tables(ruleset):
        for chain in table.chains:
            kinds = [(rule, rule_readability(rule)) for rule in chain.rules]
            refused = [rule for rule, kind in kinds if kind == UNREADABLE]
            misread = [rule for rule, kind in kinds if kind == MISREAD]
            if refused or misread:
                yield _unreadable_finding(table, chain, refused, misread)


def _unreadable_finding(table: Table, chain: Chain, refused: list[Rule], misread: list[Rule]) -> Finding:
    said = []
    if refused:
        said.append(
            f"iptables cannot list chain {chain.name} of table {table.label} ({_count(refused)} with native "
            f"expressions, the first: {_shown(refused[0])}) and iptables-save leaves the whole table out"
        )
    if misread:
        said.append(
            f"iptables shows {_count(misread)} of chain {chain.name} of table {table.label} without the set or map "
            f"they match on (the first: {_shown(misread[0])}), so that iptables-save and restore would load rules "
            f"that match more"
        )
    if chain.name in _DOCKER_TOUCHES.get(table.name, ()) or chain.name.startswith("DOCKER"):
        said.append(
            "Docker manages this chain with iptables: its checks fail or hit the wrong rule, so its rules are "
            "doubled, never deleted, or end up in front of yours"
        )
    handles = ", ".join(str(rule.handle) for rule in [*refused, *misread][:10])
    return Finding(
        "UNREADABLE_BY_IPTABLES",
        ". ".join(said) + ".",
        f"{table.label} {chain.name}, handle {handles}",
        "Move these rules to a table of your own name (inet), where everything nftables can do is allowed.",
    )


def _count(rules: list[Rule]) -> str:
    return "1 rule" if len(rules) == 1 else f"{len(rules)} rules"


def _shown(rule: Rule) -> str:
    return rule.text if rule.text is not None else f"handle {rule.handle}"


def rule_readability(rule: Rule) -> str | None:
    """None when iptables reads the rule exactly, else UNREADABLE or MISREAD."""
    kinds = [_statement_readability(statement) for statement in rule.expr]
    if UNREADABLE in kinds:
        return UNREADABLE
    return MISREAD if MISREAD in kinds else None


def _statement_readability(statement: Any) -> str | None:
    if not isinstance(statement, dict) or len(statement) != 1:
        return UNREADABLE
    ((kind, value),) = statement.items()
    if kind in _READABLE:
        return None
    if kind == "match":
        return _match_readability(value)
    if kind == "limit":
        return UNREADABLE if value.get("inv") or value.get("rate_unit", "packets") != "packets" else None
    if kind == "log":
        return None if isinstance(value, dict) and "group" in value else UNREADABLE
    if kind == "vmap":
        return MISREAD if _field_readable(value.get("key")) else UNREADABLE
    if kind == "mangle":
        # `meta mark set` is shown as MARK from iptables 1.8.10 on, older ones refuse it.
        return UNREADABLE
    return UNREADABLE


def _match_readability(match: dict[str, Any]) -> str | None:
    if not _field_readable(match.get("left")):
        return UNREADABLE
    right = match.get("right")
    if isinstance(right, dict) and "set" in right:
        return MISREAD
    if isinstance(right, str) and right.startswith("@"):
        return MISREAD
    return None


def _field_readable(left: Any) -> bool:
    if not isinstance(left, dict) or len(left) != 1:
        return False
    ((kind, value),) = left.items()
    if kind == "meta":
        return value.get("key") in _READABLE_META
    if kind == "payload":
        return value.get("protocol") not in ("th", "ether", None)
    if kind == "&" and isinstance(value, list) and value:
        return _field_readable(value[0])
    return False
