# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import (
    TextError,
    canonical,
    check_single_table,
    difference,
    explain,
    replace_script,
)

T = "table inet guard {"
ONLY = "only 'table inet guard { ... }' may stand here, not"


@pytest.mark.parametrize(
    "text",
    [
        f"{T} }}",
        f'# flush ruleset\n{T}\n# }} include "x"\n}}\n# include "/etc/x"\n',
        f'{T} chain a {{ tcp dport 1 accept comment "}} flush ruleset; table ip x {{ #" }} }}\n',
        f"{T} set s {{ type ipv4_addr; elements = {{ 192.0.2.1, 192.0.2.2 }} }} }};",
        f"{T} chain a {{ }} }}\n{T} chain b {{ }} }}\n",
        "table   inet\tguard { }",
        f'{T} chain a {{ log prefix "include define" }} }}',
    ],
)
def test_one_table_and_nothing_else(text: str) -> None:
    check_single_table(text, "inet", "guard")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{T} }}\nflush ruleset\n", f"line 2: {ONLY} 'flush ruleset'"),
        (f"{T} }} flush ruleset", f"the end: {ONLY} 'flush ruleset'"),
        (f"{T} }}; flush ruleset;", f"line 1: {ONLY} 'flush ruleset'"),
        (f"flush ruleset\n{T} }}\n", f"line 1: {ONLY} 'flush ruleset'"),
        (f"{T} }}\ntable ip filter {{ }}\n", f"line 2: {ONLY} 'table ip filter'"),
        ("table inet other { }\n", f"line 1: {ONLY} 'table inet other'"),
        ("table ip guard { }\n", f"line 1: {ONLY} 'table ip guard'"),
        ("table inet guard\ndelete table inet guard\n", f"line 2: {ONLY} 'table inet guard delete table inet guard'"),
        (f'include "/etc/x"\n{T} }}\n', f"line 1: {ONLY} 'include \"/etc/x\"'"),
        (f'{T}\ninclude "/etc/x"\n}}\n', "line 2: 'include' is not accepted; write the table out"),
        (f"{T}\nchain a {{ define x = 1\n}} }}\n", "line 2: 'define' is not accepted; write the table out"),
        (f"{T} }} }}\n", "line 1: a closing brace too many"),
        (f"{T} chain a {{ }}\n", "a closing brace is missing at the end"),
        ("", "there is no 'table inet guard { ... }' in it"),
        ("# only words\n", "there is no 'table inet guard { ... }' in it"),
        (
            f'{T} chain a {{ accept comment "x\ny" }} }} flush ruleset #"\n',
            "line 1: a closing quote is missing",
        ),
        (f'{T} chain a {{ accept comment "x }} }}\n', "line 1: a closing quote is missing"),
        (f"add {T} }}\n", f"line 1: {ONLY} 'add table inet guard'"),
        (f"flush \\\nruleset\n{T} }}\n", f"line 1: {ONLY} 'flush \\'"),
    ],
)
def test_anything_else_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        check_single_table(text, "inet", "guard")
    assert str(caught.value) == message


def test_replace_script() -> None:
    start = "table ip6 x\ndelete table ip6 x\n"
    assert replace_script("ip6", "x", None) == start
    assert replace_script("ip6", "x", "table ip6 x { }\n\n") == start + "table ip6 x { }\n"


def listing(elements: str, comment: str = "") -> str:
    return f"table inet x {{\n\tset s {{\n\t\ttype ipv4_addr\n\t\telements = {{ {elements} }}\n\t}}\n{comment}}}\n"


def test_the_order_of_elements_does_not_matter() -> None:
    assert canonical(listing("192.0.2.1, 192.0.2.2,\n\t\t\t     192.0.2.3")) == canonical(
        listing("192.0.2.3,\n\t\t\t     192.0.2.1, 192.0.2.2")
    )
    assert canonical(listing("192.0.2.1, 192.0.2.2")) != canonical(listing("192.0.2.1"))


def test_the_order_of_rules_and_the_text_of_comments_do_matter() -> None:
    one, other = '\t\taccept comment "a, b"\n', '\t\taccept comment "b, a"\n'
    assert canonical(listing("1", one)) != canonical(listing("1", other))
    assert canonical(listing("1", one + other)) != canonical(listing("1", other + one))


def test_comments_of_elements_keep_their_commas_and_braces() -> None:
    text = canonical(listing('2 comment "a, } b", 1'))
    assert '\t\t\t1,\n\t\t\t2 comment "a, } b",\n\t\t}\n' in text


def test_a_comment_that_looks_like_a_set_is_left_alone() -> None:
    comment = '\tchain c {\n\t\taccept comment "elements = { b, a"\n\t}\n'
    assert comment in canonical(listing("1", comment))


def test_canonical_is_settled() -> None:
    once = canonical(listing("3, 1, 2"))
    assert canonical(once) == once


def test_a_listing_that_was_cut_off() -> None:
    with pytest.raises(TextError, match="the listing ends inside a set"):
        canonical("table inet x {\n\tset s {\n\t\telements = { 1, 2")


SCRIPT = "table inet x\n\ttcp dport foo\nlast"


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "/dev/stdin:2:12-14: Error: Could not resolve service\n\ttcp dport foo\n           ^^^\n",
            "line 2: Could not resolve service\n     2 |  tcp dport foo\n                    ^^^",
        ),
        ("/dev/stdin:3:1: Error: x\n", "line 3: x\n     3 | last\n         ^"),
        ("internal:0:0-0: Error: Could not process rule: No buffer\n", "Could not process rule: No buffer"),
        ("/dev/stdin:9:1-2: Error: beyond\n", "beyond"),
        ("netlink: no\n", "netlink: no"),
        ("", "nft printed nothing"),
    ],
)
def test_explain(stderr: str, said: str) -> None:
    assert explain(stderr, SCRIPT) == said


def test_explain_shows_the_first_errors_only() -> None:
    stderr = "".join(f"/dev/stdin:{number}:1-2: Error: e{number}\n" for number in (1, 2, 3))
    assert explain(stderr, SCRIPT, shown=2).splitlines()[-1] == "and 1 more errors"
    assert "e3" not in explain(stderr, SCRIPT, shown=2)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (None, "a\n", ["+a"]),
        ("a\nb\n", "a\nc\n", ["-b", "+c"]),
        ("a\n", "a\n", []),
        ("a\n", None, ["-a"]),
    ],
)
def test_difference(before: str | None, after: str | None, lines: list[str]) -> None:
    assert difference(before, after) == lines
