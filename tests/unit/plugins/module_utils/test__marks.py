# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import (
    PREFERRED,
    MarkBitError,
    MarkUse,
    free_bit,
    number_of,
    parse_names,
    unread_marks,
    used_mask,
    uses_in_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    Chain,
    Rule,
    Ruleset,
    Table,
    parse_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"
BIT = 0x10000000

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="loading a ruleset needs root and nft"
)


def loaded(text: str, elements: bool = True) -> Ruleset:
    runner = Runner()
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        return read_ruleset(runner, elements)


def with_rule(rule: str) -> str:
    return f"""
        table inet t {{
            set marks {{
                type mark
                elements = {{ 0x7, 0x100 }}
            }}
            map by_source {{
                type ipv4_addr : mark
                elements = {{ 10.0.0.1 : 0x20, 10.0.0.2 : 0x40 }}
            }}
            chain c {{
                {rule}
            }}
        }}
        """


def ruleset_of(*expr: Any) -> Ruleset:
    """A ruleset of one rule, for what no nft would print."""
    return Ruleset((Table("inet", "t", chains=(Chain("c", 1, rules=(Rule(5, expr),)),)),))


# rule -> value, mask, whole
READ = [
    ("meta mark 0x5 accept", (5, 5, True)),
    ("meta mark != 0x5 accept", (5, 5, True)),
    ("meta mark 0 accept", (0, 0, True)),
    ("meta mark > 0x5 accept", (5, 5, True)),
    ("meta mark & 0xff == 0x10 accept", (0x10, 0xFF, False)),
    ("meta mark & 0x10 == 0x10 accept", (0x10, 0x10, False)),
    ("meta mark & 0x10 != 0 accept", (0, 0x10, False)),
    ("meta mark & 0xffff0000 == 0 accept", (0, 0xFFFF0000, False)),
    ("ct mark & 0xfffffff0 != 0x10 accept", (0x10, 0xFFFFFFF0, False)),
    ("meta mark & 0xffff0000 == { 0x10000, 0x20000 } accept", (None, 0xFFFF0000, False)),
    ("meta mark { 0x1, 0x4-0x9 } accept", (None, 0xF, True)),
    ("meta mark 0x100-0x1ff accept", (None, 0x1FF, True)),
    ("meta mark @marks accept", (None, 0x107, True)),
    ("meta mark vmap { 0x1 : accept, 0x8 : drop }", (None, 9, True)),
    ('meta mark . iifname { 0x3 . "eth0", 0x8 . "eth1" } accept', (None, 0xB, True)),
    ("ip saddr . meta mark vmap { 10.0.0.1 . 0x8 : accept }", (8, 8, True)),
    ("ct mark 0x77 accept", (0x77, 0x77, True)),
    ("ct mark & 0x1 == 0x1 accept", (1, 1, False)),
    ("meta mark set 0x5", (5, 5, True)),
    ("meta mark set 0", (0, 0, True)),
    ("meta mark set meta mark | 0x10", (0x10, 0x10, False)),
    ("meta mark set meta mark & 0xfffffffe", (0, 1, False)),
    ("meta mark set meta mark & 0xffffff00 | 0x5", (5, 0xFF, False)),
    ("meta mark set meta mark & 0xff", (0, 0xFFFFFF00, False)),
    ("meta mark set meta mark xor 0x5", (None, 5, False)),
    ("meta mark set ct mark", (None, 0, True)),
    ("meta mark set ct mark & 0xff", (None, 0xFF, True)),
    ("ct mark set meta mark", (None, 0, True)),
    ("ct mark set ct mark | 0x100", (0x100, 0x100, False)),
    ("ct mark set 0x200", (0x200, 0x200, True)),
    ("meta mark set ip saddr map @by_source", (None, 0x60, True)),
    ("meta mark set ip saddr map { 10.0.0.1 : 0x400, 10.0.0.2 : 0x800 }", (None, 0xC00, True)),
    ("meta mark set numgen inc mod 4 offset 16", (None, 0x1F, True)),
    ("meta mark set jhash ip saddr mod 8", (None, 7, True)),
    ("meta nfproto ipv4 dnat ip to meta mark map { 0x33 : 10.0.0.9 }", (0x33, 0x33, True)),
]


@needs_nft
@pytest.mark.parametrize(("rule", "expected"), READ)
def test_what_a_rule_does_with_marks(rule: str, expected: tuple[int | None, int, bool]) -> None:
    (use,) = uses_in_ruleset(loaded(with_rule(rule)), "bulkhead")
    assert (use.value, use.mask, use.whole) == expected
    assert use.where.startswith("inet t c handle ")
    assert "mark" in use.text


@needs_nft
@pytest.mark.parametrize(
    "rule", ["tcp dport 22 accept", 'counter accept comment "meta mark 0x5"', "meta priority set 1:2", "ct state new"]
)
def test_what_has_nothing_to_do_with_marks(rule: str) -> None:
    assert uses_in_ruleset(loaded(with_rule(rule)), "bulkhead") == []


@needs_nft
def test_a_map_from_marks_to_marks_is_read_and_written() -> None:
    uses = uses_in_ruleset(loaded(with_rule("meta mark set ct mark map { 0x1 : 0x10, 0x2 : 0x20 }")), "bulkhead")
    assert [(use.mask, use.whole) for use in uses] == [(3, True), (0x30, True)]


@needs_nft
def test_a_mark_that_goes_into_a_set_counts_without_bits() -> None:
    text = with_rule("add @seen { meta mark }").replace(
        "set marks", "set seen { type mark; size 5; flags dynamic; }\nset x"
    )
    (use,) = uses_in_ruleset(loaded(text), "bulkhead")
    assert (use.value, use.mask, use.whole) == (None, 0, True)


@needs_nft
def test_own_rules_do_not_count() -> None:
    text = """
        table inet TABLE {
            chain c {
                meta mark set meta mark | 0x10000000
            }
        }
        table ip filter {
            chain BULKHEAD-INPUT {
                meta mark & 0x10000000 == 0x10000000 accept
            }
            chain bulkhead-input {
                meta mark & 0x2 == 0x2 accept
            }
        }
        table inet other {
            chain BULKHEAD-INPUT {
                meta mark & 0x4 == 0x4 accept
            }
        }
        """
    assert used_mask(uses_in_ruleset(loaded(text.replace("TABLE", "bulkhead")), "bulkhead")) == 6
    assert used_mask(uses_in_ruleset(loaded(text.replace("TABLE", "fence")), "fence")) == 6
    assert used_mask(uses_in_ruleset(loaded(text.replace("TABLE", "fence")), "bulkhead")) == BIT | 6


@needs_nft
def test_sets_of_marks_have_to_be_read_with_their_elements() -> None:
    rule = "meta mark @marks accept"
    assert unread_marks(loaded(with_rule(rule), elements=False))
    assert not unread_marks(loaded(with_rule(rule)))
    assert not unread_marks(loaded("table inet t {\nset ports {\ntype inet_service\n}\n}", elements=False))
    typeof = "table inet t {\nset m {\ntypeof meta mark\n}\n}"
    assert unread_marks(loaded(typeof, elements=False))
    concatenated = "table inet t {\nset m {\ntype ipv4_addr . mark\n}\n}"
    assert unread_marks(loaded(concatenated, elements=False))


def test_names_of_iproute2_are_understood() -> None:
    names = parse_names("# marks\n0x20 vpn\n5\tlan # mine\n\nnonsense\n1 2 3\n-1 minus\nx y\n")
    assert names == {"vpn": 0x20, "lan": 5}
    match = {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": "vpn"}}
    assert [use.mask for use in uses_in_ruleset(ruleset_of(match), "bulkhead", names)] == [0x20]
    assert [(use.value, use.mask) for use in uses_in_ruleset(ruleset_of(match), "bulkhead")] == [(None, 0)]


META = {"meta": {"key": "mark"}}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ({"match": {"left": META}}, (None, 0, True)),
        ({"match": {"left": {"&": [META]}, "right": 1}}, (1, 1, True)),
        ({"match": {"left": {"&": [META, 0xFF, 0x0F]}, "right": 1}}, (1, 0xF, False)),
        ({"match": {"left": {"&": [META, {"|": [1, 2]}]}, "right": 1}}, (1, 3, False)),
        ({"match": {"left": {"<<": [META, 4]}, "right": 1}}, (1, 1, True)),
        ({"match": {"left": META, "right": {"set": "@nowhere"}}}, (None, 0, True)),
        ({"match": {"left": META, "right": [1, {"elem": {"val": 4}}]}}, (None, 5, True)),
        ({"match": {"left": {"concat": [META, {"meta": {"key": "iif"}}]}, "right": {"set": [7]}}}, (None, 0, True)),
        ({"match": {"left": META, "right": {"prefix": {"addr": 16, "len": 28}}}}, (16, 0xFFFFFFF0, False)),
        ({"match": {"left": META, "right": {"prefix": {"addr": 16, "len": 99}}}}, (None, 0, True)),
        ({"match": {"left": META, "right": {"set": [1, {"prefix": {"addr": 16, "len": 30}}]}}}, (None, 0x13, True)),
        ({"mangle": {"key": META}}, (None, 0, True)),
        ({"mangle": {"key": META, "value": True}}, (None, 0, True)),
        ({"mangle": {"key": META, "value": {"|": []}}}, (None, 0, True)),
        ({"mangle": {"key": META, "value": {"numgen": {"mod": "x"}}}}, (None, 0, True)),
        ({"mangle": {"key": META, "value": -1}}, (0xFFFFFFFF, 0xFFFFFFFF, True)),
        (
            {
                "mangle": {
                    "key": META,
                    "value": {"|": [{"&": [META, ~0xFF & 0xFFFFFFFF]}, {"&": [{"ct": {"key": "mark"}}, 0xF]}]},
                }
            },
            (None, 0xFF, False),
        ),
        ({"socket": {"key": "mark"}}, (None, 0, True)),
    ],
)
def test_odd_expressions_are_no_crash(statement: dict[str, Any], expected: tuple[int | None, int, bool]) -> None:
    (use,) = uses_in_ruleset(ruleset_of(statement, "accept", None), "bulkhead")
    assert (use.value, use.mask, use.whole) == expected
    assert use.text == "handle 5"


@pytest.mark.parametrize("capture", ["docker-26.1.5-iptables-firewalld", "docker-29.7.2-nftables"])
def test_docker_and_firewalld_use_no_marks(capture: str) -> None:
    ruleset = parse_ruleset((FIXTURES / capture / "ruleset.json").read_text())
    assert uses_in_ruleset(ruleset, "bulkhead") == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x10", 16), ("0XfF", 255), ("10", 10), ("010", 10), ("0xffffffff", 0xFFFFFFFF), ("0x100000000", None)]
    + [(text, None) for text in ("", "-1", "0x", "x", "1/2", "lan", "0x1_g")],
)
def test_numbers_as_tools_print_them(text: str, number: int | None) -> None:
    assert number_of(text) == number


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_a_host_without_marks_gets_the_first_bit() -> None:
    assert free_bit(0) == BIT == PREFERRED[0]


def test_the_order_is_kept_and_known_tools_are_avoided() -> None:
    taken, order = 0, []
    for _bit in PREFERRED:
        order.append(free_bit(taken))
        taken |= order[-1]
    assert tuple(order) == PREFERRED
    tools = 0x00FF0000 | 0xD0C4E3 | 0xC000 | 0xCA6C | 0x2000 | 0x0F00 | 0x80 | 0xFF
    assert not taken & tools
    # Calico's range as a whole is avoided when it is in use.
    assert free_bit(0xFFFF0000) == 0x1000


def test_every_bit_is_one_bit() -> None:
    assert all(bin(bit).count("1") == 1 and bit < 1 << 32 for bit in PREFERRED)
    assert len(set(PREFERRED)) == len(PREFERRED)


def test_a_wanted_bit_is_taken_wherever_it_is() -> None:
    assert free_bit(0x10, wanted=0x20) == 0x20
    assert free_bit(0, wanted=1 << 31) == 1 << 31


USES = [
    MarkUse("ip rule 5210", 0x80000, 0xFF0000, "fwmark 0x80000/0xff0000 lookup main"),
    MarkUse("inet vpn out handle 7", 5, 5, "meta mark set 5", whole=True),
]


def test_a_wanted_bit_in_use_names_who_uses_it() -> None:
    with pytest.raises(MarkBitError) as caught:
        free_bit(used_mask(USES), 0x40000, USES)
    assert str(caught.value) == (
        "bit 0x40000 of the packet mark is in use by ip rule 5210 (fwmark 0x80000/0xff0000 lookup main)"
    )


@pytest.mark.parametrize("wanted", [0, 3, -1, 1 << 32, 0xFFFFFFFF])
def test_what_is_not_one_bit_is_refused(wanted: int) -> None:
    with pytest.raises(MarkBitError, match="is not one bit of the packet mark"):
        free_bit(0, wanted)


def test_no_free_bit_is_an_error_that_names_some_users() -> None:
    uses = [MarkUse(f"ip rule {number}", None, 0xFFFFFFFF, "all") for number in range(9)]
    with pytest.raises(MarkBitError) as caught:
        free_bit(0xFFFFFFFF, None, uses)
    assert "0x10000000, 0x20000000" in str(caught.value)
    assert "by ip rule 0 (all), " in str(caught.value) and str(caught.value).endswith("ip rule 4 (all) and 4 more")


def test_an_exception_for_the_own_bit_is_nobody_elses_use() -> None:
    exception = MarkUse("ip filter DOCKER-USER handle 9", 0, BIT, "MARK and 0xefffffff")
    wider = MarkUse("ip filter DOCKER-USER handle 9", 0, BIT | 1, "MARK and 0xeffffffe")
    whole = MarkUse("ip filter DOCKER-USER handle 9", BIT, BIT, "MARK set 0x10000000", whole=True)
    assert used_mask([exception], BIT) == 0
    assert used_mask([exception]) == BIT
    assert used_mask([wider], BIT) == BIT | 1
    assert used_mask([whole], BIT) == BIT
    assert used_mask([]) == 0
