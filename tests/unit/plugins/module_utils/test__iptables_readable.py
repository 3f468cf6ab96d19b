# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The judge by itself; tests/integration/test_iptables_readable.py holds it against iptables."""

from __future__ import annotations

import json
import random
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_judge import rate_survives
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_problems import KNOWN
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_readable import (
    MISREAD,
    UNREADABLE,
    check_ruleset,
    check_source,
    judge,
    judge_chain_name,
)

Json = t.Dict[str, t.Any]


def meta(key: str, right: t.Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def payload(field: str, right: t.Any, op: str = "==", mask: t.Any = None) -> Json:
    protocol, name = field.split()
    left: Json = {"payload": {"protocol": protocol, "field": name}}
    return {"match": {"op": op, "left": left if mask is None else {"&": [left, mask]}, "right": right}}


def marked(right: t.Any, mask: t.Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": {"&": [{"meta": {"key": "mark"}}, mask]}, "right": right}}


def limit(rate: int, per: str, **others: t.Any) -> Json:
    return {"limit": {"rate": rate, "burst": 5, "per": per, **others}}


ACCEPT: Json = {"accept": None}
COUNTER: Json = {"counter": {"packets": 3, "bytes": 180}}
LOG: Json = {"log": {"group": 2}}
TCP22 = payload("tcp dport", 22)
PREFIX = {"prefix": {"addr": "10.0.0.0", "len": 8}}
BIT = 268435456


def constructs(*expr: t.Any, **place: t.Any) -> list[str]:
    return [each.construct for each in judge(list(expr), **place)]


@pytest.mark.parametrize(
    "expr",
    [
        [ACCEPT],
        [COUNTER, {"jump": {"target": "BULKHEAD-DOCKER-USER"}}],
        [marked(BIT, BIT), COUNTER, {"drop": None}],
        [marked(BIT, BIT), marked(0, 1), meta("mark", 7, "!="), ACCEPT],
        [meta("mark", {"prefix": {"addr": 2147483648, "len": 1}}), ACCEPT],
        [meta("iifname", "br-*", "!="), meta("oifname", "eth0"), payload("ip saddr", PREFIX), TCP22, COUNTER, ACCEPT],
        [meta("iif", "lo"), ACCEPT],
        [payload("ip saddr", "10.0.3.0", mask="255.0.255.0"), ACCEPT],
        [meta("l4proto", "tcp"), limit(5, "minute"), TCP22, ACCEPT],
        [payload("ip protocol", "icmp"), payload("icmp code", 4), payload("icmp type", "destination-unreachable")],
        [payload("tcp flags", "syn", mask=["fin", "syn", "rst", "ack"]), ACCEPT],
        [payload("tcp flags", {"|": ["fin", "syn"]}, mask={"|": ["fin", "syn"]}), ACCEPT],
        [payload("tcp flags", ["syn", "ack"], "in"), ACCEPT],
        [payload("tcp flags", "syn", "!"), ACCEPT],
        [payload("tcp dport", {"range": [0, 1023]}), payload("tcp sport", 1023, ">"), ACCEPT],
        [payload("ip ttl", 5, "<"), payload("ip ttl", 1, "!="), ACCEPT],
        [payload("ip frag-off", 0, "!=", 8191), {"drop": None}],
        [limit(10, "minute", burst=20), COUNTER, {"log": {"prefix": "two words", "group": 2, "snaplen": 80}}],
        [{"xt": {"type": "match", "name": "conntrack"}}, COUNTER, {"xt": {"type": "target", "name": "REJECT"}}],
        [COUNTER, {"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 1}}],
    ],
)
def test_what_passes(expr: list[Json]) -> None:
    assert judge(expr) == []


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["new"]}}, ACCEPT], ["ct state"]),
        (
            [{"match": {"op": "==", "left": {"ct": {"key": "proto-dst", "dir": "original"}}, "right": 80}}],
            ["ct original"],
        ),
        ([payload("ip saddr", {"set": ["10.0.0.1"]}), ACCEPT], ["a set"]),
        ([payload("ip saddr", "@lan"), ACCEPT], ["a named set"]),
        ([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": []}}}], ["a verdict map", "ct state"]),
        ([{"reject": None}], ["reject"]),
        ([meta("iifname", "a", "!="), meta("iifname", "b", "!="), ACCEPT], ["a field twice"]),
        ([payload("ip protocol", "tcp"), meta("l4proto", "tcp"), ACCEPT], ["a field twice"]),
        ([meta("l4proto", "udp", "!="), TCP22, ACCEPT], ["two protocols"]),
        ([meta("l4proto", 6), payload("udp dport", 53), ACCEPT], ["two protocols"]),
        ([payload("ip6 nexthdr", "tcp"), ACCEPT], ["ip6 nexthdr"]),
        ([payload("ip saddr", "10.0.0.1", mask="255.0.0.0"), ACCEPT], ["address bits outside the prefix"]),
        ([payload("ip saddr", {"prefix": {"addr": "0.0.0.0", "len": 0}}, "!="), ACCEPT], ["a prefix of length 0"]),
        ([payload("ip saddr", {"range": ["10.0.0.1", "10.0.0.9"]}), ACCEPT], ["a range of addresses"]),
        ([payload("tcp dport", 1, "<"), ACCEPT], ["all ports or none"]),
        ([payload("tcp dport", {"range": [0, 1023]}, "!="), ACCEPT], ["a negated range from port 0"]),
        ([payload("tcp dport", 22, mask=255), ACCEPT], ["a mask"]),
        ([payload("tcp flags", "syn"), ACCEPT], ["tcp flags without a mask"]),
        ([payload("tcp flags", "cwr", mask=["ecn", "cwr"]), ACCEPT], ["tcp flags ecn and cwr"]),
        ([payload("icmp type", 8, "!="), ACCEPT], ["a negated ICMP type"]),
        ([payload("icmp code", 3), ACCEPT], ["an ICMP code without a type"]),
        ([payload("ip ttl", 255, "<="), ACCEPT], ["all values or none"]),
        ([meta("iif", "eth0"), ACCEPT], ["iif"]),
        ([meta("iifname", "eth+"), ACCEPT], ["an interface name that ends with +"]),
        ([meta("iifname", "a b"), ACCEPT], ["an interface name with odd characters"]),
        ([meta("skuid", 0), ACCEPT], ["meta skuid"]),
        ([LOG, ACCEPT], ["log with a verdict"]),
        ([{"log": {"prefix": "x"}}], ["log without a group"]),
        ([{"log": None}], ["log without a group"]),
        ([LOG, TCP22], ["log in front of a match"]),
        ([limit(5, "second", inv=True), ACCEPT], ["limit over"]),
        ([limit(300, "second"), ACCEPT], ["an uneven rate"]),
        ([limit(1, "second", burst=10001), ACCEPT], ["a burst over 10000"]),
        ([limit(5, "minute"), TCP22, ACCEPT], ["a limit in front of a match"]),
        ([limit(5, "minute"), meta("l4proto", "tcp"), TCP22, ACCEPT], ["a limit in front of a match"]),
        ([limit(5, "minute"), payload("ip saddr", "10.0.0.1"), ACCEPT], ["a limit in front of a match"]),
        ([COUNTER, TCP22, ACCEPT], ["a counter in front of a match"]),
        ([COUNTER, COUNTER, ACCEPT], ["a second counter"]),
        ([{"jump": {"target": "LOG"}}], ["a chain name like a target"]),
        ([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}], ["meta mark set"]),
        ([{"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 0}}], ["meta nftrace set"]),
        ([{"something new": {}}, ACCEPT], ["something new"]),
        ([meta("something new", 1), ACCEPT], ["meta something new"]),
    ],
)
def test_what_does_not(expr: list[Json], found: list[str]) -> None:
    assert constructs(*expr) == found


def test_where_a_rule_stands_matters() -> None:
    assert constructs(meta("oifname", "eth0"), ACCEPT, chain="INPUT") == ["an output interface in this chain"]
    assert constructs(meta("iifname", "eth0"), ACCEPT, chain="POSTROUTING") == ["an input interface in this chain"]
    assert constructs(meta("oifname", "eth0"), ACCEPT, chain="FORWARD") == []
    assert constructs({"drop": None}, table="nat") == ["drop in table nat"]
    assert constructs(payload("icmp type", 8), ACCEPT, family="ip6") == ["ICMP of the other family"]
    assert constructs(payload("icmpv6 type", 128), ACCEPT, family="ip6") == []
    assert constructs(ACCEPT, comment="it's") == ["a single quote in a text"]


def test_a_refusal_is_one_and_a_silence_is_another() -> None:
    kinds = {each.construct: each.kind for each in judge([payload("ip saddr", "@lan"), {"reject": None}])}
    assert kinds == {"a named set": MISREAD, "reject": UNREADABLE}


def test_every_problem_says_what_happens_and_what_to_do() -> None:
    for construct, (kind, why, instead) in KNOWN.items():
        assert kind in (MISREAD, UNREADABLE)
        assert why.startswith("iptables ") and not why.endswith("."), construct
        assert instead and not instead.endswith("."), construct


@pytest.mark.parametrize(
    ("rate", "per", "survives"),
    [
        (1, "second", True),
        (60, "minute", True),
        (7, "hour", True),
        (10000, "second", True),
        (300, "second", False),
        (20000, "second", False),
        (1, "week", False),
        (0, "second", False),
        ("5", "second", False),
    ],
)
def test_rates(rate: t.Any, per: str, survives: bool) -> None:
    assert rate_survives(rate, per) is survives


def test_chain_names() -> None:
    assert judge_chain_name("BULKHEAD-DOCKER-USER") == []
    assert [each.construct for each in judge_chain_name(29 * "x")] == ["a chain name over 28 characters"]
    assert [each.construct for each in judge_chain_name("ACCEPT")] == ["a chain name like a target"]


# -- a whole ruleset ---------------------------------------------------------------------------------------------------


def listing(*objects: Json) -> Json:
    return {"nftables": [{"metainfo": {"json_schema_version": 1}}, *objects]}


def place(family: str, name: str = "filter", chain: str = "X", **others: t.Any) -> list[Json]:
    return [
        {"table": {"family": family, "name": name, "handle": 1}},
        {"chain": {"family": family, "table": name, "name": chain, "handle": 1, **others}},
    ]


def in_rule(family: str, *expr: Json, table: str = "filter", chain: str = "X") -> Json:
    return {"rule": {"family": family, "table": table, "chain": chain, "handle": 7, "expr": list(expr)}}


REJECT = in_rule("ip", TCP22, {"reject": None})


def test_a_ruleset_in_sentences() -> None:
    text = "table ip filter { # handle 1\n\tchain X { # handle 1\n\t\ttcp dport 22 reject # handle 7\n\t}\n}\n"
    (said,) = check_ruleset(listing(*place("ip"), REJECT), text)
    assert said == (
        "table ip filter, chain X, rule 'tcp dport 22 reject': reject: iptables refuses to list the chain, "
        "iptables-save leaves the whole table out; write the rule in a table of your own."
    )
    (said,) = check_ruleset(listing(*place("ip"), REJECT))
    assert said.startswith("table ip filter, chain X, the rule with handle 7: reject: ")


def test_tables_that_iptables_does_not_know_may_have_anything() -> None:
    for family, table in (("inet", "filter"), ("ip", "mine")):
        objects = place(family, table)
        assert check_ruleset(listing(*objects, in_rule(family, {"reject": None}, table=table))) == []


def test_base_chains_and_names_are_judged_too() -> None:
    base = {"type": "filter", "hook": "input", "prio": 5, "policy": "accept"}
    (said,) = check_ruleset(listing(*place("ip", chain="INPUT", **base)))
    assert "priority 5 instead of 0" in said
    (said,) = check_ruleset(listing(*place("ip6", chain=30 * "x")))
    assert said.startswith(f"table ip6 filter, chain {30 * 'x'}: a chain name over 28 characters: ")
    assert check_ruleset(listing(*place("ip", chain="INPUT", **{**base, "prio": 0}))) == []


def test_what_listings_hide_is_found_in_the_source() -> None:
    assert check_source("ip6 nexthdr tcp tcp dport 22 accept") == ["ip6 nexthdr"]
    assert check_source("ether  type ip ip saddr 10.0.0.1 accept") == ["ether type"]
    assert check_source('meta l4proto tcp tcp dport 22 accept comment "x"') == []


def test_no_json_breaks_the_judge() -> None:
    """What nft prints can be anything in a later release: then it is a problem, never an exception."""
    rng = random.Random(1)
    names = (
        "match vmap mangle limit log counter jump meta payload ct concat & | key field protocol op left right".split()
    )
    names += "range set prefix addr len rate per burst target iifname saddr dport flags type ip tcp icmp mark".split()

    def value(depth: int) -> t.Any:
        kind = rng.randrange(4 if depth else 2)
        if kind == 0:
            return rng.choice([None, True, 0, 22, -1, "", "eth0", "@x", *names])
        if kind == 1:
            return rng.choice(names)
        if kind == 2:
            return [value(depth - 1) for _each in range(rng.randrange(3))]
        return {rng.choice(names): value(depth - 1) for _each in range(rng.randrange(4))}

    def match() -> Json:
        left = rng.choice([value(3), TCP22["match"]["left"], payload("ip saddr", 1)["match"]["left"]])
        return {"match": {"op": rng.choice(["==", "<", None, 5]), "left": left, "right": value(3)}}

    for _each in range(5000):
        expr = [rng.choice([match, lambda: value(4)])() for _statement in range(rng.randrange(1, 4))]
        for problem in judge(json.loads(json.dumps(expr))):
            assert problem.kind in (MISREAD, UNREADABLE)
