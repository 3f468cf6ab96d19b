# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _iptables_readable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import INCLUDE
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatError, CompatTable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_state import ConfState, own_tables
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Result, Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable, TableError
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import NftHost, needs_nft

pytestmark = needs_nft

FILTER = ("ip", "filter")
TABLE = "table inet x {\n\tchain c {\n\t\ttcp dport 1 accept\n\t}\n}\n"
COMPAT = """table ip filter {
\tchain BULKHEAD-INPUT {
\t}
}
flush chain ip filter BULKHEAD-INPUT
table ip filter {
\tchain BULKHEAD-INPUT {
\t\ttcp dport 22 counter accept
\t}
\tchain INPUT {
\t\ttype filter hook input priority 0; policy drop;
\t\tcounter jump BULKHEAD-INPUT
\t}
\tchain FORWARD {
\t\ttype filter hook forward priority 0;
\t}
\tchain DOCKER-USER {
\t}
}
"""
FURTHER = """table inet mine {
\tset seen {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\ttimeout 1h
\t\telements = { 192.0.2.9 }
\t}
\tset known {
\t\ttype ipv4_addr
\t\telements = { 192.0.2.2, 192.0.2.1 }
\t}
}
"""


@pytest.fixture
def host(tmp_path: Path) -> t.Iterator[NftHost]:
    with Runner().scratch_network():
        yield NftHost(tmp_path)


@pytest.fixture
def state(host: NftHost) -> ConfState:
    return ConfState(host, OwnTable(host, "inet", "x"))


def conf(*parts: str) -> str:
    return "\n".join((INCLUDE, *parts))


def settle(state: ConfState, file: str, released: t.Mapping[t.Any, CompatTable] | None = None) -> list[str]:
    """Make the kernel what a file says; gives what differed."""
    state.want(TABLE, file)
    change = state.change(state.own.normalise(TABLE), released or {})
    state.hook(change, released or {})
    state.fill(change)
    return [item.what for item in change.differences]


# -- what the file says --------------------------------------------------------------------------------------------


def test_what_a_file_says(host: NftHost, state: ConfState) -> None:
    before = host.ruleset()
    found = state.want(TABLE, conf(COMPAT, FURTHER, 'include "/nowhere/*.nft"', 'include "/nowhere.nft"'))
    assert found.text == TABLE
    assert list(found.shared) == [FILTER] and list(found.further) == [("inet", "mine")]
    assert found.shared[FILTER] == CompatTable(
        bases={name: ("filter", name.lower(), "filter") for name in ("INPUT", "FORWARD", "OUTPUT")},
        policies={"INPUT": "drop"},
        own={"BULKHEAD-INPUT": ["tcp dport 22 counter accept"]},
        plain=["DOCKER-USER"],
        jumps=[("INPUT", "BULKHEAD-INPUT")],
    )
    assert "192.0.2.9" in found.further["inet", "mine"]
    assert host.ruleset() == before == ""


@pytest.mark.parametrize("policy", ["drop", "accept"])
def test_a_policy_that_is_stated_is_told_from_one_that_is_not(state: ConfState, policy: str) -> None:
    text = COMPAT.replace("policy drop", f"policy {policy}").replace("forward priority 0;", f"forward priority 0; policy {policy};")
    assert state.want(TABLE, conf(text)).shared[FILTER].policies == {"INPUT": policy, "FORWARD": policy}


def test_policies_are_stated_in_filter_tables_only(state: ConfState) -> None:
    text = "table ip nat {\n\tchain PREROUTING {\n\t\ttype nat hook prerouting priority -100; policy accept;\n\t}\n}\n"
    assert state.want(TABLE, conf(text)).shared["ip", "nat"] == CompatTable(
        bases={"PREROUTING": ("nat", "prerouting", "dstnat")}
    )


def test_which_tables_are_the_files_own() -> None:
    text = "table inet a\ndelete table inet a\ntable inet a {\n}\ntable ip6 b {\n}\ntable ip filter {\n}\nflush chain inet c d\n"
    assert own_tables(text) == (("inet", "a"), ("ip6", "b"))
    assert own_tables('# table inet a {\ndefine x = 1\ninclude "/x"\n') == ()


def test_a_script_is_checked_and_not_loaded(host: NftHost, state: ConfState) -> None:
    state.check("table inet mine {\n}\n")
    with pytest.raises(TableError, match="nft refuses the ruleset"):
        state.check("table inet mine {\n\tnonsense\n}\n")
    assert host.ruleset() == ""


def test_a_file_with_the_own_table_alone(state: ConfState) -> None:
    found = state.want(TABLE, conf())
    assert (found.shared, found.further) == ({}, {})
    assert (state.want(None, conf()).text, state.want(None, conf()).shared) == ("", {})


def test_what_nft_refuses(state: ConfState) -> None:
    with pytest.raises(TableError, match="nft refuses the ruleset"):
        state.want(TABLE, conf("table inet mine {\n\tchain c {\n\t\tnonsense\n\t}\n}\n"))


@pytest.mark.parametrize(
    "statement",
    [
        "add rule ip filter INPUT tcp dport 22 accept",
        "insert rule ip filter INPUT tcp dport 22 accept",
        "rule ip filter INPUT tcp dport 22 accept",
        "table ip filter {\n\tchain INPUT {\n\t\ttcp dport 22 accept\n\t}\n}",
    ],
)
def test_rules_in_chains_of_others_are_found_however_they_are_written(state: ConfState, statement: str) -> None:
    with pytest.raises(CompatError) as caught:
        state.want(TABLE, conf(statement))
    assert caught.value.errors == [
        "table ip filter, chain INPUT: 'tcp dport 22 accept' stands in a chain that other tools write to; only a jump to a"
        " chain BULKHEAD-... may stand there"
    ]


@pytest.mark.parametrize("statement", ["add table ip mangle", "create table ip6 mangle", "add chain ip nat BULKHEAD-A"])
def test_a_table_is_found_however_it_is_declared(state: ConfState, statement: str) -> None:
    words = statement.split()
    prefix = f"table {words[2]} {words[3]}\n" if words[1] == "chain" else ""
    assert (words[2], words[3]) in state.want(TABLE, conf(prefix + statement)).shared


def test_what_iptables_does_not_read_is_refused_by_what_is_known(
    state: ConfState, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def check(listing: dict[str, t.Any], text: str) -> list[str]:
        seen.update(listing=listing, text=text)
        return ["no", "not this either"]

    monkeypatch.setattr(_iptables_readable, "check_ruleset", check)
    with pytest.raises(CompatError) as caught:
        state.want(TABLE, conf(COMPAT))
    assert caught.value.errors == ["no", "not this either"]
    assert "nftables" in seen["listing"] and "# handle" in seen["text"] and "BULKHEAD-INPUT" in seen["text"]


UNREADABLE = COMPAT.replace("tcp dport 22 counter", "fib daddr type local counter")


def test_what_iptables_does_not_read_is_refused_by_trying(
    host: NftHost, state: ConfState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_iptables_readable, "check_ruleset", lambda _listing, _text: [])
    if host.find("iptables-save") is None:
        pytest.skip("iptables is not installed here")
    with pytest.raises(CompatError) as caught:
        state.want(TABLE, conf(UNREADABLE))
    assert caught.value.errors == [
        "iptables-save cannot read what the file says: # Table `filter' is incompatible, use 'nft' tool."
    ]
    host.missing = ("iptables-save", "ip6tables-save")
    state.want(TABLE, conf(UNREADABLE))


@pytest.mark.parametrize(
    ("rc", "said", "words"),
    [
        (0, "# Table `nat' is incompatible, use 'nft' tool.\n", "# Table `nat' is incompatible, use 'nft' tool."),
        (3, "Error: unknown ipv4 meta key\n", "Error: unknown ipv4 meta key"),
        (1, "x" * 500, "x" * 300),
        (0, "# Generated\n", None),
    ],
)
def test_every_tool_is_tried(
    state: ConfState, host: NftHost, monkeypatch: pytest.MonkeyPatch, rc: int, said: str, words: str | None
) -> None:
    monkeypatch.setattr(_iptables_readable, "check_ruleset", lambda _listing, _text: [])
    real, tried = host.run, []

    def run(argv: list[str], *args: t.Any, **named: t.Any) -> Result:
        if not argv[0].endswith("tables-save"):
            return real(argv, *args, **named)
        tried.append(argv)
        return Result(rc, "", said)

    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(host, "find", lambda name: f"/sbin/{name}")
    if words is None:
        state.want(TABLE, conf(COMPAT))
    else:
        with pytest.raises(CompatError) as caught:
            state.want(TABLE, conf(COMPAT))
        assert caught.value.errors == [
            f"{tool} cannot read what the file says: {words}" for tool in ("iptables-save", "ip6tables-save")
        ]
    assert tried == [["/sbin/iptables-save"], ["/sbin/ip6tables-save"]]


# -- from one to the other -----------------------------------------------------------------------------------------


def test_from_nothing_to_settled(host: NftHost, state: ConfState) -> None:
    assert settle(state, conf(COMPAT, FURTHER)) == [
        "create table inet x",
        "create table inet mine",
        "create chains in table ip filter; jump from INPUT to BULKHEAD-INPUT in table ip filter; set the policy of chain"
        " INPUT in table ip filter to drop; replace chain BULKHEAD-INPUT in table ip filter",
    ]
    chains = host.chains(*FILTER)
    assert chains["INPUT"].texts() == ["counter jump BULKHEAD-INPUT"] and chains["INPUT"].policy == "drop"
    assert chains["FORWARD"].policy == "accept"
    assert chains["BULKHEAD-INPUT"].texts() == ["tcp dport 22 counter accept"]
    assert "192.0.2.9" in host.ruleset() and "table inet x" in host.ruleset()
    before = host.ruleset()
    assert settle(state, conf(COMPAT, FURTHER)) == [] and host.ruleset() == before


def test_the_differences_show_what_is_ours_before_and_after(state: ConfState) -> None:
    state.want(TABLE, conf(COMPAT))
    found = state.change(state.own.normalise(TABLE), {}).differences
    assert [item.where for item in found] == [
        "table inet x (kernel)",
        "chains of this role in table ip filter (kernel)",
    ]
    assert found[0].before is None and found[0].after == TABLE
    assert found[1].before == "" and found[1].after == (
        "ip filter BULKHEAD-INPUT\n\ttcp dport 22 counter accept\nip filter INPUT policy drop\n"
        "ip filter INPUT jump BULKHEAD-INPUT\n"
    )


def test_after_settling_the_kernel_is_what_the_difference_promised(state: ConfState) -> None:
    state.want(TABLE, conf(COMPAT))
    promised = state.change(state.own.normalise(TABLE), {}).differences[1].after
    settle(state, conf(COMPAT))
    assert state.live() == f"{TABLE}\n{promised}"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("add rule inet x c drop", ["replace table inet x"]),
        ("delete table inet x", ["create table inet x"]),
        ("add element inet mine known { 192.0.2.3 }", ["replace table inet mine"]),
        ("delete table inet mine", ["create table inet mine"]),
        ("flush chain ip filter INPUT", ["jump from INPUT to BULKHEAD-INPUT in table ip filter"]),
        ("add rule ip filter BULKHEAD-INPUT drop", ["replace chain BULKHEAD-INPUT in table ip filter"]),
        (
            "add chain ip filter INPUT { policy accept; }",
            ["set the policy of chain INPUT in table ip filter to drop"],
        ),
        ("add chain ip filter BULKHEAD-OLD", ["remove chain BULKHEAD-OLD from table ip filter"]),
        (
            "add table ip mangle\nadd chain ip mangle BULKHEAD-OLD",
            ["remove chain BULKHEAD-OLD from table ip mangle"],
        ),
        ("add rule ip filter FORWARD drop", []),
        ("add element inet mine seen { 192.0.2.77 }\ndelete element inet mine seen { 192.0.2.9 }", []),
        ("add chain ip filter FORWARD { policy drop; }", []),
    ],
)
def test_what_somebody_changes_is_seen_and_repaired(
    host: NftHost, state: ConfState, script: str, said: list[str]
) -> None:
    settle(state, conf(COMPAT, FURTHER))
    before, ruleset = state.live(), host.ruleset()
    host.nft(script + "\n")
    assert (state.live() != before) is bool(said)
    after = host.ruleset()
    assert settle(state, conf(COMPAT, FURTHER)) == said
    assert state.live() == before
    if not said:
        assert host.ruleset() == after
    elif "mangle" not in script and "mine" not in script:
        assert host.ruleset() == ruleset


def test_a_table_of_a_former_file_goes_where_it_is_still_there(host: NftHost, state: ConfState) -> None:
    settle(state, conf(FURTHER))
    state.former = (("inet", "mine"), ("inet", "x"), ("inet", "gone"))
    assert settle(state, conf(FURTHER)) == []
    before = state.live()
    assert settle(state, conf()) == ["delete table inet mine"]
    assert "inet mine" not in host.ruleset() and "inet x" in host.ruleset() and state.live() != before
    state.undo()
    assert "inet mine" in host.ruleset() and "192.0.2.9" in host.ruleset()


def test_the_own_table_and_all_of_ours_go(host: NftHost, state: ConfState) -> None:
    settle(state, conf(COMPAT, "table ip6 mangle {\n\tchain BULKHEAD-A {\n\t}\n}"))
    host.nft("add rule ip filter INPUT tcp dport 1 accept\n")
    again = ConfState(host, state.own)
    released = {
        FILTER: CompatTable({"INPUT": ("filter", "input", "0")}, {"INPUT": "accept"}),
        ("ip6", "filter"): CompatTable({"INPUT": ("filter", "input", "0")}, {"INPUT": "accept"}),
    }
    change = again.change(None, released)
    assert [item.what for item in change.differences] == [
        "delete table inet x",
        "set the policy of chain INPUT in table ip filter to accept; remove chain BULKHEAD-INPUT from table ip filter",
        "remove chain BULKHEAD-A from table ip6 mangle",
    ]
    assert change.differences[0].after is None
    again.hook(change, released)
    again.fill(change)
    assert "BULKHEAD" not in host.ruleset() and "inet x" not in host.ruleset() and "ip6 filter" not in host.ruleset()
    assert (host.chains(*FILTER)["INPUT"].texts(), host.chains(*FILTER)["INPUT"].policy) == (
        ["tcp dport 1 accept"],
        "accept",
    )
    assert again.change(None, released).differences == []


@pytest.mark.parametrize("released", ["accept", None])
def test_a_policy_that_an_earlier_file_stated_is_let_go_of(
    host: NftHost, state: ConfState, released: str | None
) -> None:
    stated = COMPAT.replace("forward priority 0;", "forward priority 0; policy drop;")
    settle(state, conf(stated))
    assert host.chains(*FILTER)["FORWARD"].policy == "drop"
    bases = {"FORWARD": ("filter", "forward", "0"), "INPUT": ("filter", "input", "0")}
    let_go = {FILTER: CompatTable(bases, dict.fromkeys(bases, "accept"))} if released else {}
    settle(state, conf(COMPAT), let_go)
    chains = host.chains(*FILTER)
    assert (chains["FORWARD"].policy, chains["INPUT"].policy) == (released or "drop", "drop")


# -- and back ------------------------------------------------------------------------------------------------------

SOMEBODYS = """table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority 0; policy accept;
\t\ttcp dport 1 accept
\t}
\tchain DOCKER-USER {
\t\tcounter return
\t}
}
table inet x {
\tchain old {
\t\tcounter packets 7 bytes 9 drop
\t}
}
table inet mine {
\tchain old {
\t}
}
"""


#: Base chains that iptables tools make anyway stay; DOCKER-USER does too, it belongs to Docker.
HOOKS = {name: f"\t\ttype filter hook {name.lower()} priority filter; policy accept;" for name in ("INPUT", "FORWARD", "OUTPUT")}
STAYS = [line for name in ("FORWARD", "OUTPUT") for line in (f"\tchain {name} {{", HOOKS[name])]


@pytest.mark.parametrize(
    ("before", "left"),
    [
        ("", ["table ip filter {", "\tchain INPUT {", HOOKS["INPUT"], *STAYS, "\tchain DOCKER-USER {"]),
        (SOMEBODYS, STAYS),
    ],
    ids=["from nothing", "from somebody's rules"],
)
@pytest.mark.parametrize("filled", [True, False])
def test_the_way_back(host: NftHost, state: ConfState, before: str, left: list[str], filled: bool) -> None:
    host.nft(before + "\n")
    old = host.real.run(["nft", "list", "ruleset"]).stdout
    state.want(TABLE, conf(COMPAT, FURTHER))
    change = state.change(state.own.normalise(TABLE), {})
    state.hook(change, {})
    hooked = host.ruleset()
    assert "BULKHEAD-INPUT" in hooked and "drop;" not in hooked and "tcp dport 22" not in hooked
    state.check(state.undo_script())
    assert host.ruleset() == hooked
    if filled:
        state.fill(change)
        assert "192.0.2.9" in host.ruleset()
    state.undo()
    new = host.real.run(["nft", "list", "ruleset"]).stdout
    assert "BULKHEAD" not in new and "policy drop" not in new
    assert [line for line in new.splitlines() if line.strip("\t}") and line not in old.splitlines()] == left


def test_where_nothing_has_to_be_hooked_nothing_is_loaded(host: NftHost, state: ConfState) -> None:
    settle(state, conf())
    host.events.clear()
    assert settle(state, conf()) == []
    assert host.events == []
    host.nft("flush table inet x\n")
    settle(state, conf())
    assert host.events == ["load"]


def test_a_listing_that_fails_is_no_empty_table(host: NftHost, state: ConfState, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(state, conf(COMPAT))
    real = host.run

    def denied(argv: list[str], *args: t.Any, **named: t.Any) -> t.Any:
        result = real(argv, *args, **named)
        if argv[-2:] == ["ip", "filter"]:
            return type(result)(1, "", "Operation not permitted (you must be root)\n")
        return result

    monkeypatch.setattr(host, "run", denied)
    with pytest.raises(TableError, match="nft cannot list table ip filter: Operation not permitted"):
        state.shared()
