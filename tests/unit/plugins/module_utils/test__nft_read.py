# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    RulesetError,
    parse_rule_texts,
    parse_ruleset,
)

TABLE = {"table": {"family": "ip", "name": "t", "handle": 1}}
CHAIN = {"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1}}


def printed(*objects: object) -> str:
    return json.dumps({"nftables": [{"metainfo": {"json_schema_version": 1}}, *objects]})


def rule(handle: int, *expr: object, **more: object) -> dict[str, object]:
    return {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": handle, "expr": list(expr), **more}}


def test_an_empty_ruleset_has_no_tables() -> None:
    assert parse_ruleset(printed()).tables == ()


def test_rules_get_their_text_by_handle_and_not_by_position() -> None:
    listing = "table ip t { # handle 1\n\tchain c { # handle 1\n\t\tdrop # handle 9\n\t\taccept # handle 5\n\t}\n}\n"
    ruleset = parse_ruleset(printed(TABLE, CHAIN, rule(5, {"accept": None}), rule(9, {"drop": None})), listing)
    chain = ruleset.tables[0].chain("c")
    assert chain is not None
    assert [(each.handle, each.text) for each in chain.rules] == [(5, "accept"), (9, "drop")]


def test_a_rule_that_is_not_in_the_listing_has_no_text() -> None:
    chain = parse_ruleset(printed(TABLE, CHAIN, rule(5, {"accept": None}))).tables[0].chain("c")
    assert chain is not None
    assert chain.rules[0].text is None


def test_a_comment_that_looks_like_a_handle_does_not_mislead() -> None:
    listing = 'table ip t {\n\tchain c {\n\t\taccept comment "x # handle 7" # handle 5\n\t}\n}\n'
    assert parse_rule_texts(listing) == {("ip", "t", "c", 5): 'accept comment "x # handle 7"'}


def test_a_rule_over_several_lines_is_one_rule() -> None:
    listing = "table ip t {\n\tchain c {\n\t\ttype filter hook input priority 0; policy accept;\n"
    listing += "\t\ttcp dport { 1,\n\t\t\t     2 } accept # handle 5\n\t\tdrop # handle 6\n\t}\n}\n"
    assert parse_rule_texts(listing) == {
        ("ip", "t", "c", 5): "tcp dport { 1, 2 } accept",
        ("ip", "t", "c", 6): "drop",
    }


def test_the_elements_of_a_set_are_no_rules() -> None:
    listing = "table ip t {\n\tset s { # handle 2\n\t\ttype ipv4_addr\n\t\telements = { 1.2.3.4 }\n\t}\n}\n"
    assert parse_rule_texts(listing) == {}


def test_a_table_keeps_its_flags_and_sets() -> None:
    table = {"table": {"family": "inet", "name": "t", "handle": 1, "flags": ["owner", "persist"]}}
    one = {"set": {"family": "inet", "table": "t", "name": "s", "type": ["inet_proto", "inet_service"], "size": 8}}
    two = {
        "map": {"family": "inet", "table": "t", "name": "m", "type": "ifname", "map": "verdict", "flags": "interval"}
    }
    read = parse_ruleset(printed(table, one, two)).tables[0]
    assert read.flags == ("owner", "persist")
    assert [(s.kind, s.type, s.data_type, s.flags, s.size) for s in read.sets] == [
        ("set", "inet_proto . inet_service", None, (), 8),
        ("map", "ifname", "verdict", ("interval",), None),
    ]


def test_elements_are_only_kept_when_asked_for() -> None:
    one = {"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": ["1.2.3.4"]}}
    assert parse_ruleset(printed(TABLE, one)).tables[0].sets[0].elements is None
    assert parse_ruleset(printed(TABLE, one), elements=True).tables[0].sets[0].elements == ("1.2.3.4",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nftables": [{"table": {"family": "ip", ', "cannot be read .* cut off"),
        ("", "cannot be read"),
        ("[]", "no list named nftables"),
        ('{"nftables": 5}', "no list named nftables"),
        ('{"nftables": [5]}', "no object"),
        ('{"nftables": [{"table": {"family": "ip"}}]}', "a table that has no name"),
        ('{"nftables": [{"rule": {"family": "ip"}}]}', "a rule that has no table and no chain and no handle"),
    ],
)
def test_broken_output_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(RulesetError, match=said) as caught:
        parse_ruleset(text)
    assert "\n" not in str(caught.value)
