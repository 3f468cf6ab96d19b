# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what iptables tools cannot read, or read wrongly, in the tables they manage.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import Iterator, List, Tuple

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_judge import judge
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_problems import (
    MISREAD,
    UNREADABLE,
    Problem,
)
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
_SHOWN_HANDLES = 10

Judged = Tuple[Rule, List[Problem]]


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
            judged = [
                (rule, judge(rule.expr, table.family, table.name, chain.name, rule.comment)) for rule in chain.rules
            ]
            refused = [(rule, problems) for rule, problems in judged if _worst(problems) == UNREADABLE]
            misread = [(rule, problems) for rule, problems in judged if _worst(problems) == MISREAD]
            if refused or misread:
                yield _unreadable_finding(table, chain, refused, misread)


def _unreadable_finding(table: Table, chain: Chain, refused: list[Judged], misread: list[Judged]) -> Finding:
    said = []
    if refused:
        said.append(
            f"iptables cannot list chain {chain.name} of table {table.label} ({_shown(refused)}) and iptables-save "
            f"leaves the whole table out"
        )
    if misread:
        said.append(
            f"iptables shows rules of chain {chain.name} of table {table.label} as others than they are "
            f"({_shown(misread)}), so that iptables-save and restore would load rules that match something else"
        )
    if chain.name in _DOCKER_TOUCHES.get(table.name, ()) or chain.name.startswith("DOCKER"):
        said.append(
            "Docker manages this chain with iptables: its checks fail or hit the wrong rule, so its rules are "
            "doubled, never deleted, or end up in front of yours"
        )
    handles = ", ".join(str(rule.handle) for rule, _problems in [*refused, *misread][:_SHOWN_HANDLES])
    return Finding(
        "UNREADABLE_BY_IPTABLES",
        ". ".join(said) + ".",
        f"{table.label} {chain.name}, handle {handles}",
        "Move these rules to a table of your own name (inet), where everything nftables can do is allowed.",
    )


def _shown(judged: list[Judged]) -> str:
    constructs = sorted({each.construct for _rule, problems in judged for each in problems})
    first = judged[0][0]
    count = "1 rule" if len(judged) == 1 else f"{len(judged)} rules, the first"
    text = first.text if first.text is not None else f"handle {first.handle}"
    return f"it has {', '.join(constructs)}; {count}: {text}"


def _worst(problems: list[Problem]) -> str | None:
    kinds = [each.kind for each in problems]
    if UNREADABLE in kinds:
        return UNREADABLE
    return MISREAD if MISREAD in kinds else None


def rule_readability(rule: Rule, family: str = "ip", table: str = "filter", chain: str = "") -> str | None:
    """None when iptables reads the rule exactly, else UNREADABLE or MISREAD."""
    return _worst(judge(rule.expr, family, table, chain, rule.comment))
