# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout_held import layout_lost
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table

COMPAT = Layout("iptables_compat", mark_bit=0x10000000, policies=("INPUT",))
OWN = Table("inet", "bulkhead")


def jump(target: str) -> Rule:
    return Rule(1, ({"counter": {"packets": 0}}, {"jump": {"target": target}}), f"counter jump {target}")


def whole(family: str) -> Table:
    marked = Rule(2, ({"accept": None},), "accept")
    return Table(
        family,
        "filter",
        chains=(
            Chain("INPUT", 1, "filter", "input", 0, "drop", rules=(jump("f2b"), jump("BULKHEAD-INPUT"))),
            Chain("DOCKER-USER", 2, rules=(jump("BULKHEAD-DOCKER-USER"),)),
            Chain("BULKHEAD-INPUT", 3, rules=(marked,)),
            Chain("BULKHEAD-DOCKER-USER", 4, rules=(marked,)),
        ),
    )


def changed(table: Table, name: str, **others: object) -> Table:
    return replace(table, chains=tuple(replace(c, **others) if c.name == name else c for c in table.chains))


WHOLE = (OWN, whole("ip"), whole("ip6"))


@pytest.mark.parametrize("layout", [None, COMPAT, Layout("own_table"), replace(COMPAT, drops_input=True)])
def test_nothing_is_lost_where_all_is_there(layout: Layout | None) -> None:
    assert list(layout_lost(Ruleset(WHOLE), layout)) == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (changed(whole("ip6"), "INPUT", policy="accept"), "the policy of INPUT is accept instead of drop"),
        (changed(whole("ip6"), "INPUT", rules=()), "nothing jumps from INPUT to BULKHEAD-INPUT"),
        (changed(whole("ip6"), "DOCKER-USER", rules=()), "nothing jumps from DOCKER-USER to BULKHEAD-DOCKER-USER"),
        (changed(whole("ip6"), "BULKHEAD-INPUT", rules=()), "chain BULKHEAD-INPUT is empty or gone"),
        (Table("ip6", "filter"), "the policy of INPUT is gone instead of drop"),
        (Table("ip6", "mangle"), "chain BULKHEAD-DOCKER-USER is empty or gone"),
    ],
)
def test_what_is_lost_is_named(table: Table, said: str) -> None:
    (finding,) = layout_lost(Ruleset((OWN, whole("ip"), table)), COMPAT)
    assert (finding.code, finding.severity, finding.where) == ("LAYOUT_LOST", "error", "ip6 filter")
    assert said in finding.text


def test_a_policy_that_is_not_the_layouts_is_nobodys_business() -> None:
    tables = (OWN, changed(whole("ip"), "INPUT", policy="accept"), whole("ip6"))
    assert list(layout_lost(Ruleset(tables), replace(COMPAT, drops_input=True))) == []
    assert list(layout_lost(Ruleset(tables), replace(COMPAT, policies=()))) == []


@pytest.mark.parametrize("layout", [COMPAT, Layout("own_table")])
def test_an_own_table_that_is_gone_is_lost_in_any_layout(layout: Layout) -> None:
    (finding,) = layout_lost(Ruleset(WHOLE[1:]), layout)
    assert finding.where == "inet bulkhead" and "nothing enforces the policy" in finding.text
