# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _compat, _nft_listing
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import (
    CompatError,
    CompatTable,
    TableChange,
    canonical,
    change,
    is_shared,
    jump_target,
    jump_texts,
    releasing,
    reload_text,
    undo,
    unhook,
    wanted,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_listing import ListedChain, ListedRule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import needs_nft
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = ("ip", "filter")
INPUT = ("filter", "input", "filter")
FORWARD = ("filter", "forward", "filter")
JUMP_A, JUMP_B, JUMP_C = (f"counter jump BULKHEAD-{name}" for name in "ABC")


def chain(name: str, *rules: str, base: tuple[str, str, str] | None = None, policy: str | None = None) -> ListedChain:
    """Make a chain whose rules have handles of their own: the first letter's number times 100, and on."""
    start = 100 * (ord(name.rpartition("-")[2][0]) - 64)
    policy = policy or ("accept" if base else None)
    return ListedChain(name, base, policy, [ListedRule(start + index, rule) for index, rule in enumerate(rules)])


def table(*chains: ListedChain) -> dict[str, ListedChain]:
    return {item.name: item for item in chains}


def want(**changes: t.Any) -> CompatTable:
    """One base chain with a policy, DOCKER-USER, and a chain of ours for each of them."""
    return CompatTable(
        **{
            "bases": {"INPUT": INPUT},
            "policies": {"INPUT": "drop"},
            "own": {"BULKHEAD-A": ["tcp dport 22 accept"], "BULKHEAD-B": ["counter drop"]},
            "plain": ["DOCKER-USER"],
            "jumps": [("INPUT", "BULKHEAD-A"), ("DOCKER-USER", "BULKHEAD-B")],
            **changes,
        }
    )


def settled(*others: ListedChain) -> dict[str, ListedChain]:
    """What want() becomes in the kernel."""
    return table(
        chain("INPUT", JUMP_A, base=INPUT, policy="drop"),
        chain("DOCKER-USER", JUMP_B),
        chain("BULKHEAD-A", "tcp dport 22 accept"),
        chain("BULKHEAD-B", "counter drop"),
        *others,
    )


@pytest.mark.parametrize(
    ("family", "name", "shared"),
    [
        ("ip", "filter", True),
        ("ip6", "nat", True),
        ("ip", "raw", True),
        ("ip", "mangle", True),
        ("ip6", "security", True),
        ("inet", "filter", False),
        ("ip", "docker-bridges", False),
        ("arp", "filter", False),
    ],
)
def test_whose_tables_these_are(family: str, name: str, shared: bool) -> None:
    assert is_shared(family, name) is shared


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("counter jump BULKHEAD-A", "BULKHEAD-A"),
        ("jump BULKHEAD-INPUT", "BULKHEAD-INPUT"),
        ("counter jump DOCKER-USER", None),
        ("counter goto BULKHEAD-A", None),
        ("ip saddr 192.0.2.1 counter jump BULKHEAD-A", None),
        ("counter jump BULKHEAD-A comment", None),
        ("counter jump X-BULKHEAD-A", None),
    ],
)
def test_a_jump_that_asks_for_nothing(rule: str, target: str | None) -> None:
    assert jump_target(ListedRule(1, rule)) == target


# -- what the file wants -------------------------------------------------------------------------------------------


def test_wanted() -> None:
    live = table(
        chain("INPUT", JUMP_A, base=INPUT, policy="drop"),
        chain("FORWARD", base=FORWARD),
        chain("DOCKER-USER", "jump BULKHEAD-B"),
        chain("BULKHEAD-A", "tcp dport 22 accept", JUMP_C),
        chain("BULKHEAD-B"),
        chain("BULKHEAD-C", "counter drop"),
    )
    assert wanted(KEY, live, ("INPUT",)) == CompatTable(
        bases={"INPUT": INPUT, "FORWARD": FORWARD},
        policies={"INPUT": "drop"},
        own={"BULKHEAD-A": ["tcp dport 22 accept", JUMP_C], "BULKHEAD-B": [], "BULKHEAD-C": ["counter drop"]},
        plain=["DOCKER-USER"],
        jumps=[("INPUT", "BULKHEAD-A"), ("DOCKER-USER", "BULKHEAD-B")],
    )


def test_rules_in_chains_of_others_are_refused_all_at_once() -> None:
    live = table(chain("INPUT", "tcp dport 22 accept", JUMP_A, base=INPUT), chain("X", "drop"), chain("BULKHEAD-A"))
    with pytest.raises(CompatError) as caught:
        wanted(KEY, live, ())
    assert caught.value.errors == [
        f"table ip filter, chain {name}: '{rule}' stands in a chain that other tools write to; only a jump to a chain"
        " BULKHEAD-... may stand there"
        for name, rule in (("INPUT", "tcp dport 22 accept"), ("X", "drop"))
    ]
    assert str(caught.value) == "\n  - ".join(["The file is refused; nothing was changed.", *caught.value.errors])


@pytest.mark.parametrize(
    ("chains", "ways"),
    [
        ([chain("INPUT", JUMP_A, JUMP_A, base=INPUT), chain("BULKHEAD-A")], 2),
        ([chain("INPUT", JUMP_A, base=INPUT), chain("FORWARD", JUMP_A, base=FORWARD), chain("BULKHEAD-A")], 2),
        ([chain("INPUT", JUMP_A, base=INPUT), chain("BULKHEAD-A"), chain("BULKHEAD-B", "tcp dport 1 " + JUMP_A)], 2),
        ([chain("INPUT", JUMP_A, base=INPUT), chain("BULKHEAD-A"), chain("BULKHEAD-B", "goto BULKHEAD-A", JUMP_A)], 3),
    ],
)
def test_two_ways_into_one_chain_are_refused(chains: list[ListedChain], ways: int) -> None:
    with pytest.raises(CompatError) as caught:
        wanted(KEY, table(*chains), ())
    assert caught.value.errors == [
        f"table ip filter: {ways} rules lead to chain BULKHEAD-A, which more than one must not where a chain of iptables"
        " jumps to it; give each of them a chain of its own"
    ]


def test_words_in_a_comment_are_no_way() -> None:
    live = table(
        chain("INPUT", JUMP_A, base=INPUT), chain("BULKHEAD-A"), chain("BULKHEAD-B", 'accept comment "x jump BULKHEAD-A x"')
    )
    assert wanted(KEY, live, ()).jumps == [("INPUT", "BULKHEAD-A")]


@pytest.mark.parametrize("name", ["BULKHEAD-", "BULKHEAD-a/../../x", "BULKHEAD-a.b", "BULKHEAD-a\\x"])
def test_a_name_that_is_no_part_of_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(CompatError) as caught:
        wanted(KEY, {name: ListedChain(name)}, ())
    assert caught.value.errors == [
        f"table ip filter: a chain of the file's own is called BULKHEAD- and letters, digits, _ and -, not {name}"
    ]


def test_what_is_released_and_still_there() -> None:
    released = CompatTable(
        bases={"INPUT": ("filter", "input", "0"), "FORWARD": FORWARD, "OUTPUT": FORWARD},
        policies={"INPUT": "accept", "FORWARD": "accept", "OUTPUT": "accept"},
    )
    found = releasing(want(), released, ("INPUT", "FORWARD"))
    assert found == want(
        bases={"INPUT": INPUT, "FORWARD": FORWARD}, policies={"INPUT": "drop", "FORWARD": "accept"}
    )
    assert releasing(CompatTable(), released, ()) == CompatTable()


# -- from the kernel to the file -----------------------------------------------------------------------------------


def test_into_an_empty_kernel() -> None:
    assert change(KEY, want(), {}) == TableChange(
        hook=[
            "table ip filter {",
            "\tchain INPUT {",
            "\t\ttype filter hook input priority filter;",
            "\t}",
            "\tchain DOCKER-USER {",
            "\t}",
            "\tchain BULKHEAD-A {",
            "\t}",
            "\tchain BULKHEAD-B {",
            "\t}",
            "}",
            "add rule ip filter INPUT counter jump BULKHEAD-A",
            "add rule ip filter DOCKER-USER counter jump BULKHEAD-B",
        ],
        fill=[
            "table ip filter {",
            "\tchain INPUT {",
            "\t\ttype filter hook input priority filter; policy drop;",
            "\t}",
            "}",
            "flush chain ip filter BULKHEAD-A",
            "table ip filter {",
            "\tchain BULKHEAD-A {",
            "\t\ttcp dport 22 accept",
            "\t}",
            "}",
            "flush chain ip filter BULKHEAD-B",
            "table ip filter {",
            "\tchain BULKHEAD-B {",
            "\t\tcounter drop",
            "\t}",
            "}",
        ],
        said=[
            "create chains in table ip filter",
            "jump from INPUT to BULKHEAD-A in table ip filter",
            "jump from DOCKER-USER to BULKHEAD-B in table ip filter",
            "set the policy of chain INPUT in table ip filter to drop",
            "replace chain BULKHEAD-A in table ip filter",
            "replace chain BULKHEAD-B in table ip filter",
        ],
    )


def test_where_all_is_as_the_file_says_nothing_changes() -> None:
    others = [chain("FORWARD", "counter jump DOCKER-USER", base=FORWARD, policy="drop"), chain("DOCKER", "accept")]
    assert change(KEY, want(), settled(*others)) == TableChange()
    assert change(KEY, CompatTable(), table(*others)) == TableChange()
    assert change(KEY, CompatTable(), {}) == TableChange()


def test_rules_of_others_around_a_jump_do_not_matter() -> None:
    live = settled()
    live["DOCKER-USER"] = chain("DOCKER-USER", "ip saddr 192.0.2.1 counter drop", JUMP_B, "counter return")
    live["INPUT"] = chain("INPUT", "tcp dport 1 accept", JUMP_A, base=INPUT, policy="drop")
    assert change(KEY, want(), live) == TableChange()


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("INPUT", ["\tchain INPUT {", "\t\ttype filter hook input priority filter;", "\t}"]),
        ("DOCKER-USER", ["\tchain DOCKER-USER {", "\t}"]),
    ],
)
def test_a_chain_that_is_missing_is_made_without_a_verdict(name: str, declared: list[str]) -> None:
    live = settled()
    del live[name]
    target = dict(want().jumps)[name]
    found = change(KEY, want(), live)
    assert found.hook == ["table ip filter {", *declared, "}", f"add rule ip filter {name} counter jump {target}"]
    policy = ["set the policy of chain INPUT in table ip filter to drop"] if name == "INPUT" else []
    jump = f"jump from {name} to {target} in table ip filter"
    assert found.said == ["create chains in table ip filter", jump, *policy]
    assert bool(found.fill) is (name == "INPUT")


def test_a_chain_of_ours_that_is_missing_is_filled_too() -> None:
    live = settled()
    del live["BULKHEAD-B"]
    live["DOCKER-USER"] = chain("DOCKER-USER")
    found = change(KEY, want(), live)
    assert found.hook[:4] == ["table ip filter {", "\tchain BULKHEAD-B {", "\t}", "}"]
    assert found.fill[0] == "flush chain ip filter BULKHEAD-B" and "\t\tcounter drop" in found.fill
    assert found.said[-1] == "replace chain BULKHEAD-B in table ip filter"


def test_a_policy_that_differs_alone() -> None:
    live = settled()
    live["INPUT"].policy = "accept"
    found = change(KEY, want(), live)
    assert found.hook == [] and found.fill[2] == "\t\ttype filter hook input priority filter; policy drop;"
    assert found.said == ["set the policy of chain INPUT in table ip filter to drop"]
    assert change(KEY, want(policies={}), live) == TableChange()


@pytest.mark.parametrize("rules", [[], ["counter drop", "tcp dport 22 accept"], ["tcp dport 23 accept"]])
def test_a_chain_of_ours_that_differs_is_made_anew(rules: list[str]) -> None:
    live = settled()
    live["BULKHEAD-A"] = chain("BULKHEAD-A", *rules)
    assert change(KEY, want(), live) == TableChange(
        fill=[
            "flush chain ip filter BULKHEAD-A",
            "table ip filter {",
            "\tchain BULKHEAD-A {",
            "\t\ttcp dport 22 accept",
            "\t}",
            "}",
        ],
        said=["replace chain BULKHEAD-A in table ip filter"],
    )


LAST = [
    "return",
    "counter return",
    "counter accept",
    "counter drop",
    "counter reject",
    "reject with icmp type host-prohibited",
    "counter goto X",
    "counter queue num 1",
    "queue num 1-3 bypass",
    'counter drop comment "the \\ end"',
]
PASSED = [
    "ip saddr 192.0.2.1 counter return",
    "counter",
    'counter log prefix "drop"',
    "counter jump X",
    "counter meta mark set 0x1",
    "tcp dport 1 reject",
    'counter comment "drop"',
]


@pytest.mark.parametrize("last", LAST)
def test_a_jump_goes_in_front_of_what_ends_the_chain(last: str) -> None:
    live = settled()
    live["DOCKER-USER"] = chain("DOCKER-USER", "ip saddr 192.0.2.1 counter drop", last, "counter return")
    found = change(KEY, want(), live)
    assert found.hook == ["insert rule ip filter DOCKER-USER handle 2101 counter jump BULKHEAD-B"]
    assert found.fill == [] and found.said == ["jump from DOCKER-USER to BULKHEAD-B in table ip filter"]


@pytest.mark.parametrize("rule", PASSED)
def test_a_jump_goes_behind_what_packets_pass(rule: str) -> None:
    live = settled()
    live["DOCKER-USER"] = chain("DOCKER-USER", rule)
    assert change(KEY, want(), live).hook == ["add rule ip filter DOCKER-USER counter jump BULKHEAD-B"]
    live["DOCKER-USER"] = chain("DOCKER-USER", rule, JUMP_B)
    assert change(KEY, want(), live) == TableChange()


def test_a_jump_that_no_packet_gets_to_is_made_again_and_then_goes() -> None:
    live = settled()
    live["DOCKER-USER"] = chain("DOCKER-USER", "counter return", JUMP_B)
    assert change(KEY, want(), live) == TableChange(
        hook=["insert rule ip filter DOCKER-USER handle 2100 counter jump BULKHEAD-B"],
        fill=["delete rule ip filter DOCKER-USER handle 2101"],
        said=[
            "jump from DOCKER-USER to BULKHEAD-B in table ip filter",
            "remove a second jump from DOCKER-USER to BULKHEAD-B in table ip filter",
        ],
    )


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        ([JUMP_B, JUMP_B], [2101]),
        ([JUMP_B, "counter return", JUMP_B], [2102]),
        (["counter", "jump BULKHEAD-B", JUMP_B, JUMP_B], [2102, 2103]),
    ],
)
def test_of_several_jumps_the_first_one_stays(rules: list[str], gone: list[int]) -> None:
    live = settled()
    live["DOCKER-USER"] = chain("DOCKER-USER", *rules)
    found = change(KEY, want(), live)
    assert found.hook == []
    assert found.fill == [f"delete rule ip filter DOCKER-USER handle {handle}" for handle in gone]
    assert found.said == ["remove a second jump from DOCKER-USER to BULKHEAD-B in table ip filter"] * len(gone)


def test_a_jump_from_somewhere_else_goes() -> None:
    live = settled(chain("FORWARD", "counter", JUMP_B, base=FORWARD))
    assert change(KEY, want(), live) == TableChange(
        fill=["delete rule ip filter FORWARD handle 601"],
        said=["remove the jump from FORWARD to BULKHEAD-B in table ip filter"],
    )


def test_chains_of_ours_that_are_not_wanted_go_with_the_jumps_to_them() -> None:
    assert change(KEY, CompatTable(), settled()) == TableChange(
        fill=[
            "delete rule ip filter INPUT handle 900",
            "delete rule ip filter DOCKER-USER handle 2100",
            "flush chain ip filter BULKHEAD-A",
            "flush chain ip filter BULKHEAD-B",
            "delete chain ip filter BULKHEAD-A",
            "delete chain ip filter BULKHEAD-B",
        ],
        said=["remove chain BULKHEAD-A from table ip filter", "remove chain BULKHEAD-B from table ip filter"],
    )


def test_jumps_inside_our_chains_go_and_stay_with_their_chains() -> None:
    """Deleting one by its handle would fail, because the chain has been emptied before."""
    inside = want(own={"BULKHEAD-A": [JUMP_C], "BULKHEAD-B": ["counter drop"], "BULKHEAD-C": []})
    live = settled(chain("BULKHEAD-C"))
    live["BULKHEAD-A"] = chain("BULKHEAD-A", JUMP_C)
    assert change(KEY, inside, live) == TableChange()
    found = change(KEY, want(), live)
    assert [line for line in found.fill if not line.startswith(("\t", "table", "}"))] == [
        "flush chain ip filter BULKHEAD-A",
        "flush chain ip filter BULKHEAD-C",
        "delete chain ip filter BULKHEAD-C",
    ]


# -- and back ------------------------------------------------------------------------------------------------------


def test_the_way_back_to_an_empty_kernel() -> None:
    hooked = table(
        chain("INPUT", JUMP_A, base=INPUT), chain("DOCKER-USER", JUMP_B), chain("BULKHEAD-A"), chain("BULKHEAD-B")
    )
    jumps = ["delete rule ip filter INPUT handle 900", "delete rule ip filter DOCKER-USER handle 2100"]
    assert undo(KEY, {}, hooked, want()) == [
        *jumps,
        "table ip filter {",
        "\tchain INPUT {",
        "\t\ttype filter hook input priority filter; policy accept;",
        "\t}",
        "}",
        "flush chain ip filter BULKHEAD-A",
        "flush chain ip filter BULKHEAD-B",
        "delete chain ip filter BULKHEAD-A",
        "delete chain ip filter BULKHEAD-B",
    ]
    assert unhook(KEY, {}, hooked) == [
        *jumps,
        "delete chain ip filter BULKHEAD-A",
        "delete chain ip filter BULKHEAD-B",
    ]


def test_the_way_back_leaves_jumps_that_were_there_and_jumps_of_others() -> None:
    before = table(chain("INPUT", "counter jump X", JUMP_A, base=INPUT), chain("X"), chain("BULKHEAD-A"))
    hooked = {**before, "X": chain("X", "counter jump Y")}
    assert unhook(KEY, before, hooked) == []
    assert not [line for line in undo(KEY, before, hooked, want()) if line.startswith("delete rule")]


def test_the_way_back_has_the_rules_and_the_policy_of_before() -> None:
    before = table(
        chain("INPUT", JUMP_A, base=INPUT, policy="drop"),
        chain("DOCKER-USER", JUMP_B),
        chain("BULKHEAD-A", "tcp dport 1 accept", "counter"),
        chain("BULKHEAD-B"),
    )
    assert undo(KEY, before, before, want(policies={"INPUT": "accept"})) == [
        "table ip filter {",
        "\tchain INPUT {",
        "\t\ttype filter hook input priority filter; policy drop;",
        "\t}",
        "}",
        "flush chain ip filter BULKHEAD-A",
        "flush chain ip filter BULKHEAD-B",
        "table ip filter {",
        "\tchain BULKHEAD-A {",
        "\t\ttcp dport 1 accept",
        "\t\tcounter",
        "\t}",
        "}",
        "table ip filter {",
        "\tchain BULKHEAD-B {",
        "\t}",
        "}",
    ]


def test_the_way_back_puts_a_chain_back_that_went_and_the_jump_to_where_it_was_reached() -> None:
    before = table(
        chain("INPUT", "counter", JUMP_A, base=INPUT),
        chain("DOCKER-USER", JUMP_B, "counter return", JUMP_B),
        chain("BULKHEAD-A", JUMP_C),
        chain("BULKHEAD-B"),
        chain("BULKHEAD-C"),
    )
    lines = undo(KEY, before, before, CompatTable())
    assert lines[:8] == [
        "table ip filter {",
        "\tchain BULKHEAD-A {",
        "\t}",
        "\tchain BULKHEAD-B {",
        "\t}",
        "\tchain BULKHEAD-C {",
        "\t}",
        "}",
    ]
    assert lines[-3:] == [
        "add rule ip filter INPUT counter jump BULKHEAD-A",
        "insert rule ip filter DOCKER-USER handle 2101 counter jump BULKHEAD-B",
        "add rule ip filter DOCKER-USER counter jump BULKHEAD-B",
    ]
    assert f"\t\t{JUMP_C}" in lines


# -- files for the service -----------------------------------------------------------------------------------------


def test_reload_text() -> None:
    assert reload_text(KEY, want(bases={"INPUT": INPUT, "FORWARD": FORWARD})) == [
        "table ip filter {",
        "\tchain INPUT {",
        "\t\ttype filter hook input priority filter; policy drop;",
        "\t}",
        "\tchain FORWARD {",
        "\t\ttype filter hook forward priority filter;",
        "\t}",
        "\tchain DOCKER-USER {",
        "\t}",
        "\tchain BULKHEAD-A {",
        "\t}",
        "\tchain BULKHEAD-B {",
        "\t}",
        "}",
        "flush chain ip filter BULKHEAD-A",
        "table ip filter {",
        "\tchain BULKHEAD-A {",
        "\t\ttcp dport 22 accept",
        "\t}",
        "}",
        "flush chain ip filter BULKHEAD-B",
        "table ip filter {",
        "\tchain BULKHEAD-B {",
        "\t\tcounter drop",
        "\t}",
        "}",
    ]
    assert reload_text(KEY, CompatTable()) == []


def test_jump_texts() -> None:
    texts = jump_texts(KEY, want())
    assert list(texts) == ["BULKHEAD-A", "BULKHEAD-B"]
    assert texts["BULKHEAD-A"] == [
        "table ip filter {",
        "\tchain INPUT {",
        "\t\ttype filter hook input priority filter;",
        "\t}",
        "\tchain BULKHEAD-A {",
        "\t}",
        "}",
        "flush chain ip filter BULKHEAD-A",
        "delete chain ip filter BULKHEAD-A",
        "table ip filter {",
        "\tchain BULKHEAD-A {",
        "\t\ttcp dport 22 accept",
        "\t}",
        "}",
        "add rule ip filter INPUT counter jump BULKHEAD-A",
    ]
    assert texts["BULKHEAD-B"][:3] == ["table ip filter {", "\tchain DOCKER-USER {", "\t}"]
    assert texts["BULKHEAD-B"][-1] == "insert rule ip filter DOCKER-USER counter jump BULKHEAD-B"


def test_jumps_from_one_chain_keep_their_order() -> None:
    """What is inserted last comes to stand first."""
    places = [("DOCKER-USER", "BULKHEAD-A"), ("INPUT", "BULKHEAD-B"), ("DOCKER-USER", "BULKHEAD-C")]
    texts = jump_texts(KEY, want(jumps=places))
    assert [text[-1] for text in texts.values()] == [
        "add rule ip filter INPUT counter jump BULKHEAD-B",
        "insert rule ip filter DOCKER-USER counter jump BULKHEAD-C",
        "insert rule ip filter DOCKER-USER counter jump BULKHEAD-A",
    ]


def test_canonical_is_what_is_ours() -> None:
    live = settled(chain("FORWARD", "accept", base=FORWARD, policy="drop"), chain("DOCKER", "counter return"))
    nat = {("ip", "nat"): table(chain("BULKHEAD-C", JUMP_A))}
    assert canonical({KEY: live, **nat}, {KEY: want()}) == (
        "ip filter BULKHEAD-A\n"
        "\ttcp dport 22 accept\n"
        "ip filter BULKHEAD-B\n"
        "\tcounter drop\n"
        "ip filter DOCKER-USER jump BULKHEAD-B\n"
        "ip filter INPUT policy drop\n"
        "ip filter INPUT jump BULKHEAD-A\n"
        "ip nat BULKHEAD-C\n"
        "\tcounter jump BULKHEAD-A\n"
        "ip nat BULKHEAD-C jump BULKHEAD-A\n"
    )


# -- random tables in a real kernel --------------------------------------------------------------------------------

OWN = ("BULKHEAD-A", "BULKHEAD-B", "BULKHEAD-C")
PLACES = {"INPUT": INPUT, "FORWARD": FORWARD, "DOCKER-USER": None}
RULES = ["counter", "ip saddr 192.0.2.1 counter packets 0 bytes 0 accept", "tcp dport 80 counter drop"]
ENDS = ["counter return", "return", "counter drop", "counter reject"]
OUR_RULES = ["tcp dport 22 accept", "ip saddr 192.0.2.7 counter return", 'counter accept comment "x"']


def rules_of(texts: t.Sequence[str], most: int = 4) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), max_size=most)


@st.composite
def lives(draw: st.DrawFn) -> dict[str, ListedChain]:
    """Somebody's table: rules of others, jumps to ours anywhere and any number of times."""
    own = {name: draw(rules_of(OUR_RULES, 2)) for name in OWN if draw(st.booleans())}
    if {"BULKHEAD-A", "BULKHEAD-C"} <= set(own) and draw(st.booleans()):
        own["BULKHEAD-A"].append(JUMP_C)
    if {"BULKHEAD-B", "BULKHEAD-C"} <= set(own) and draw(st.booleans()):
        own["BULKHEAD-C"].append(JUMP_B)
    pool = RULES + ENDS + [f"counter jump {name}" for name in own] * 3
    found = {name: chain(name, *rules) for name, rules in own.items()}
    for name, base in PLACES.items():
        if draw(st.booleans()):
            policy = draw(st.sampled_from(("accept", "drop"))) if base else None
            found[name] = chain(name, *draw(rules_of(pool, 6)), base=base, policy=policy)
    return found


@st.composite
def wants(draw: st.DrawFn) -> CompatTable:
    """What a file may say: at most one way into a chain of ours from a chain of iptables."""
    bases = {name: base for name, base in PLACES.items() if base and draw(st.booleans())}
    plain = ["DOCKER-USER"] if draw(st.booleans()) else []
    own = {name: draw(rules_of(OUR_RULES, 2)) for name in OWN if draw(st.booleans())}
    places = [*bases, *plain]
    jumps = [(draw(st.sampled_from(places)), name) for name in own if places and draw(st.booleans())]
    targets = {target for _name, target in jumps}
    if {"BULKHEAD-A", "BULKHEAD-C"} <= set(own) and "BULKHEAD-C" not in targets and draw(st.booleans()):
        own["BULKHEAD-A"].append(JUMP_C)
    policies = {name: draw(st.sampled_from(("accept", "drop"))) for name in bases if draw(st.booleans())}
    return CompatTable(bases, policies, own, plain, jumps)


class Kernel:
    """The table ip filter of the namespace this thread is in."""

    def __init__(self, chains: t.Mapping[str, ListedChain]) -> None:
        self.runner = Runner()
        lines = ["table ip filter {"]
        for item in chains.values():
            lines += [f"chain {item.name} {{", *([self._type(item)] if item.base else []), "}"]
        for item in chains.values():
            lines += [f"chain {item.name} {{", *item.texts(), "}"]
        self.load([*lines, "}"])

    @staticmethod
    def _type(item: ListedChain) -> str:
        assert item.base is not None
        return f"type {item.base[0]} hook {item.base[1]} priority {item.base[2]}; policy {item.policy};"

    def load(self, lines: list[str], *flags: str, check: bool = True) -> int:
        return self.runner.run(["nft", *flags, "-f", "-"], stdin="\n".join(lines) + "\n", check=check).rc

    def read(self) -> dict[str, ListedChain]:
        return _nft_listing.chains(self.runner.run(["nft", "-s", "-a", "list", "table", "ip", "filter"]).stdout)

    def hook(self, wish: CompatTable, before: dict[str, ListedChain]) -> dict[str, ListedChain]:
        self.load(change(KEY, wish, before).hook)
        return self.read()

    def settle(self, wish: CompatTable) -> dict[str, ListedChain]:
        before = self.read()
        found = change(KEY, wish, before)
        self.load(found.hook)
        self.load(found.fill)
        return self.read()


def foreign(chains: t.Mapping[str, ListedChain]) -> dict[str, list[ListedRule]]:
    """The rules of others, in their order and with their handles."""
    found = {
        name: [rule for rule in item.rules if jump_target(rule) is None]
        for name, item in chains.items()
        if not name.startswith("BULKHEAD-")
    }
    return {name: rules for name, rules in found.items() if rules}


def reached(item: ListedChain) -> list[str]:
    """The chains of ours that a packet gets to."""
    texts = itertools.takewhile(lambda text: text not in ENDS, item.texts())
    return [text.split()[-1] for text in texts if "jump BULKHEAD-" in text]


def ours(chains: t.Mapping[str, ListedChain], wish: CompatTable, names: t.Container[str]) -> list[str]:
    """What is compared, for chains of others only where they are named; the order of jumps does not matter."""
    policies = {name: policy for name, policy in wish.policies.items() if name in names}
    return sorted(canonical({KEY: chains}, {KEY: CompatTable(policies=policies)}).splitlines())


TRIED = settings(max_examples=25, deadline=None)


@needs_nft
@TRIED
@given(lives(), wants())
def test_after_hooking_and_filling_the_kernel_is_as_wanted(live: dict[str, ListedChain], wish: CompatTable) -> None:
    with Runner().scratch_network():
        kernel = Kernel(live)
        before = kernel.read()
        first = change(KEY, wish, before)
        hooked = kernel.hook(wish, before)
        for name, item in before.items():
            assert hooked[name].policy == item.policy
            assert not name.startswith("BULKHEAD-") or hooked[name].texts() == item.texts()
        assert {name for name in hooked if hooked[name].policy == "drop"} <= set(before)
        assert foreign(hooked) == foreign(before)
        kernel.load(first.fill)
        after = kernel.read()
        assert change(KEY, wish, after) == TableChange()
        assert bool(first.said) is bool(first.hook or first.fill)
        assert foreign(after) == foreign(before)
    assert {name: item.texts() for name, item in after.items() if name.startswith("BULKHEAD-")} == wish.own
    assert wish.policies == {name: after[name].policy for name in wish.policies}
    others = [item for name, item in after.items() if not name.startswith("BULKHEAD-")]
    found = [(item.name, target) for item in others for target in reached(item)]
    assert sorted(found) == sorted(wish.jumps)
    assert sum("jump BULKHEAD-" in text for item in others for text in item.texts()) == len(wish.jumps)


@needs_nft
@TRIED
@given(lives(), wants())
def test_the_way_back_leads_back(live: dict[str, ListedChain], wish: CompatTable) -> None:
    with Runner().scratch_network():
        kernel = Kernel(live)
        before = kernel.read()
        first = change(KEY, wish, before)
        hooked = kernel.hook(wish, before)
        back = undo(KEY, before, hooked, wish)
        # This is how a revert is tried before it is armed.
        assert kernel.load(back, "-c") == 0
        kernel.load(first.fill)
        kernel.load(back)
        after = kernel.read()
        assert foreign(after) == foreign(before)
        assert ours(after, wish, before) == ours(before, wish, before)
        assert {name: reached(item) for name, item in after.items() if name in before and reached(item)} == {
            name: reached(after[name]) for name, item in before.items() if reached(item)
        }
        assert {name: sorted(reached(item)) for name, item in before.items()} == {
            name: sorted(reached(after[name])) for name in before
        }
    assert {after[name].policy for name in set(after) - set(before)} <= {"accept", None}
    assert {name for name in set(after) - set(before) if name.startswith("BULKHEAD-")} == set()


@needs_nft
@TRIED
@given(lives(), wants())
def test_hooks_alone_can_be_taken_back(live: dict[str, ListedChain], wish: CompatTable) -> None:
    with Runner().scratch_network():
        kernel = Kernel(live)
        before = kernel.read()
        hooked = kernel.hook(wish, before)
        kernel.load(unhook(KEY, before, hooked))
        after = kernel.read()
    assert {name: after[name] for name in before} == before
    assert all(not after[name].rules for name in set(after) - set(before))
    assert not [name for name in set(after) - set(before) if name.startswith("BULKHEAD-")]


@needs_nft
@TRIED
@given(wants(), st.integers(1, 3), st.integers(1, 3))
def test_the_services_files_lead_to_the_same_however_often(wish: CompatTable, reloads: int, jumps: int) -> None:
    with Runner().scratch_network():
        kernel = Kernel({})
        for _turn in range(reloads):
            kernel.load(reload_text(KEY, wish))
        codes = [
            [kernel.load(text, check=False) for text in jump_texts(KEY, wish).values()] for _turn in range(jumps)
        ]
        loaded = kernel.read()
    assert codes == [[0] * len(wish.jumps)] + [[1] * len(wish.jumps)] * (jumps - 1)
    assert change(KEY, wish, loaded) == TableChange()
    with Runner().scratch_network():
        settled_by_us = Kernel({}).settle(wish)
    assert {n: (c.base, c.policy, c.texts()) for n, c in loaded.items()} == {
        n: (c.base, c.policy, c.texts()) for n, c in settled_by_us.items()
    }


@needs_nft
@TRIED
@given(lives(), wants(), st.sets(st.sampled_from(list(PLACES))))
def test_the_services_files_put_back_what_a_flush_took(
    live: dict[str, ListedChain], wish: CompatTable, flushed: set[str]
) -> None:
    with Runner().scratch_network():
        kernel = Kernel(live)
        before = kernel.settle(wish)
        kernel.load([f"flush chain ip filter {name}" for name in sorted(flushed & set(before))])
        for _turn in range(2):
            kernel.load(reload_text(KEY, wish))
            for text in jump_texts(KEY, wish).values():
                kernel.load(text, check=False)
        after = kernel.read()
    assert change(KEY, wish, after) == TableChange()
    assert foreign(after) == {name: rules for name, rules in foreign(before).items() if name not in flushed}


@needs_nft
def test_a_chain_of_iptables_name_that_is_no_base_chain_is_refused_and_nothing_changes() -> None:
    with Runner().scratch_network():
        kernel = Kernel(table(chain("INPUT", "counter")))
        before = kernel.read()
        found = change(KEY, want(), before)
        assert kernel.load([*found.hook, *found.fill], "-c", check=False) == 1
        assert kernel.read() == before


@needs_nft
@pytest.mark.parametrize("rule", [rule for rule in LAST + PASSED if "queue" not in rule])
def test_nft_writes_verdicts_the_way_they_are_read_here(rule: str) -> None:
    with Runner().scratch_network():
        listed = Kernel(table(chain("X"), chain("DOCKER-USER", rule))).read()["DOCKER-USER"].texts()
    assert bool(_compat._LAST.match(listed[0])) is (rule in LAST)
