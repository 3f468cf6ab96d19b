# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_listing import (
    ListedChain,
    ListedRule,
    chains,
    tables,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import needs_nft

LISTING = """table ip filter { # handle 3
\tset s { # handle 1
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 192.0.2.1,\n\t\t\t     192.0.2.2 }
\t}

\tmap m { # handle 2
\t\ttype inet_service : verdict
\t\telements = { 22 : goto X }
\t}

\tcounter c { # handle 9
\t\tpackets 0 bytes 0
\t}

\tct helper h { # handle 10
\t\ttype "ftp" protocol tcp
\t\tl3proto ip
\t}

\tchain INPUT { # handle 4
\t\ttype filter hook input priority filter; policy drop;
\t\tcounter jump BULKHEAD-INPUT # handle 7\n\t\t  ip saddr 192.0.2.1   counter  accept # handle 12
\t}

\tchain DOCKER-USER { # handle 5
\t\tcomment "not a rule"
\t}

\tchain X { # handle 6
\t\tlog prefix "two  spaces # handle 1" # handle 8
\t}
}
"""


def test_chains_and_their_rules() -> None:
    found = chains(LISTING)
    assert found == {
        "INPUT": ListedChain(
            "INPUT",
            ("filter", "input", "filter"),
            "drop",
            [ListedRule(7, "counter jump BULKHEAD-INPUT"), ListedRule(12, "ip saddr 192.0.2.1 counter accept")],
        ),
        "DOCKER-USER": ListedChain("DOCKER-USER"),
        "X": ListedChain("X", rules=[ListedRule(8, 'log prefix "two  spaces # handle 1"')]),
    }
    assert list(found) == ["INPUT", "DOCKER-USER", "X"]
    assert found["INPUT"].texts() == ["counter jump BULKHEAD-INPUT", "ip saddr 192.0.2.1 counter accept"]


@pytest.mark.parametrize(
    ("line", "base", "policy"),
    [
        ("type nat hook prerouting priority dstnat; policy accept;", ("nat", "prerouting", "dstnat"), "accept"),
        ("type filter hook forward priority filter - 10; policy drop;", ("filter", "forward", "filter - 10"), "drop"),
        ("type filter hook output priority -300;", ("filter", "output", "-300"), "accept"),
        ("type filter hook ingress device eth0 priority 0; policy accept;", ("filter", "ingress", "0"), "accept"),
        ("typed filter hook input priority 0;", None, None),
    ],
)
def test_base_chains(line: str, base: tuple[str, str, str] | None, policy: str | None) -> None:
    found = chains(f"table ip x {{\n\tchain c {{ # handle 1\n\t\t{line}\n\t}}\n}}\n")["c"]
    assert (found.base, found.policy, found.rules) == (base, policy, [])


@pytest.mark.parametrize(
    ("listed", "loads"),
    [
        ('tcp dport 1 comment "a b" counter accept', 'tcp dport 1 counter accept comment "a b"'),
        ('comment "a  b" counter drop', 'counter drop comment "a  b"'),
        ('log prefix "x comment y" comment "a" accept', 'log prefix "x comment y" accept comment "a"'),
        ('counter accept comment "a"', 'counter accept comment "a"'),
        ('log prefix "comment" accept', 'log prefix "comment" accept'),
    ],
)
def test_a_comment_stands_where_nft_reads_one(listed: str, loads: str) -> None:
    listing = f"table ip x {{\n\tchain c {{\n\t\t{listed} # handle 4\n\t}}\n}}\n"
    assert chains(listing)["c"].rules == [ListedRule(4, loads)]


def test_an_empty_listing() -> None:
    assert chains("") == {} == chains("table ip filter {\n}\n")


def test_a_line_in_a_set_that_looks_like_a_chain() -> None:
    listing = 'table ip x {\n\tset s {\n\tchain evil {\n\t\tdrop # handle 1\n\t}\n\tchain c {\n\t\taccept # handle 2\n\t}\n}\n'
    assert list(chains(listing)) == ["c"]


def test_tables() -> None:
    assert list(tables("table ip filter\ntable inet x # handle 4\n\nset\ntable\n")) == [
        ("ip", "filter"),
        ("inet", "x"),
    ]


def test_a_comment_with_a_line_end_ends_no_chain() -> None:
    found = chains(
        'table ip filter {\n\tchain A { # handle 1\n\t\taccept comment "x\n\t}\n\tchain B {\n" # handle 2\n'
        "\t\tdrop # handle 3\n\t}\n}\n"
    )
    assert list(found) == ["A"]
    assert [rule.handle for rule in found["A"].rules] == [2, 3]


def test_a_quote_in_a_comment_hides_no_rule() -> None:
    found = chains('table ip filter {\n\tchain A { # handle 1\n\t\taccept comment "5" # handle 2\n\t\tdrop # handle 3\n\t}\n}\n')
    odd = chains('table ip filter {\n\tchain A { # handle 1\n\t\taccept comment "5"" # handle 2\n\t\tdrop # handle 3\n\t}\n}\n')
    for listing in (found, odd):
        assert [rule.handle for rule in listing["A"].rules] == [2, 3]


@needs_nft
def test_what_nft_lists_is_what_was_loaded() -> None:
    text = """table ip filter {
\tset s { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6 }; }
\tchain FORWARD { type filter hook forward priority 0; policy drop; }
\tchain A {
\t\ttcp dport { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22 } counter accept
\t\tlog prefix "a  { b" comment "# handle 3"
\t\tip saddr @s jump B
\t}
\tchain B { }
}
"""
    runner = Runner()
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        found = chains(runner.run(["nft", "-s", "-a", "list", "table", "ip", "filter"]).stdout)
        named = list(tables(runner.run(["nft", "list", "tables"]).stdout))
    assert named == [("ip", "filter")]
    assert sorted(found) == ["A", "B", "FORWARD"]
    assert (found["FORWARD"].base, found["FORWARD"].policy) == (("filter", "forward", "filter"), "drop")
    assert found["A"].texts()[1:] == ['log prefix "a  { b" comment "# handle 3"', "ip saddr @s jump B"]
    assert found["A"].texts()[0].endswith("19, 20, 22 } counter accept")
    assert len({rule.handle for rule in found["A"].rules}) == 3
