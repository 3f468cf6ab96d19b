# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import Carry
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_plan import (
    Conf,
    ConfError,
    RawRule,
    carry,
    conflicts,
    layout,
    read,
    tables,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse

COMPAT = "iptables_compat"
BIT = 0x10000000
MINE = "table inet mine {\n\tchain c {\n\t}\n}"
MADE_ANEW = "table inet mine\ndelete table inet mine\n"


def errors(**values: t.Any) -> list[str]:
    with pytest.raises(ConfError) as caught:
        read(values)
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


def compat(**values: t.Any) -> Conf:
    return read({"layout": COMPAT, **values})


def test_nothing_said_is_the_own_table_alone() -> None:
    assert read({}) == Conf()
    assert (Conf().layout, Conf().compat) == ("own_table", False)


def test_everything_said() -> None:
    conf = compat(
        table="fence",
        mark_bit="0x20000000",
        forward_policy="drop",
        output_policy="accept",
        rules=[
            {"chain": "INPUT", "rule": " tcp dport 22 accept "},
            {"chain": "DOCKER-USER", "rule": "drop", "family": "ipv4"},
            {"chain": "FORWARD", "rule": "drop", "family": "ipv6"},
        ],
        tables=f"\n{MINE}\n",
        includes=["/etc/nft.d/*.nft"],
        replaces=["ufw", "firewalld"],
        legacy="move",
    )
    assert conf == Conf(
        COMPAT,
        "fence",
        0x20000000,
        "drop",
        "accept",
        (
            RawRule(0, "INPUT", ("ip", "ip6"), "tcp dport 22 accept"),
            RawRule(1, "DOCKER-USER", ("ip",), "drop"),
            RawRule(2, "FORWARD", ("ip6",), "drop"),
        ),
        MADE_ANEW + MINE,
        ("/etc/nft.d/*.nft",),
        ("ufw", "firewalld"),
        "move",
    )
    assert conf.compat


@pytest.mark.parametrize("name", ["rules", "includes", "replaces", "tables"])
def test_null_is_nothing(name: str) -> None:
    assert compat(**{name: None}) == compat()


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("layout", "own_table, iptables_compat"),
        ("forward_policy", "keep, accept, drop"),
        ("output_policy", "keep, accept, drop"),
        ("legacy", "refuse, keep, move"),
    ],
)
@pytest.mark.parametrize("value", ["x", None, ["keep"], 1, "x" * 100])
def test_one_of_several(name: str, accepted: str, value: t.Any) -> None:
    shown = repr(value)[:60]
    found = errors(**{"layout": COMPAT, name: value})
    assert found[0] == f"nftables_conf_{name}: accepted are {accepted}, not {shown}"
    assert len(found) == 1


@pytest.mark.parametrize(
    ("value", "bit"),
    [(0, 0), ("0", 0), (BIT, BIT), ("0x10000000", BIT), ("268435456", BIT), (1, 1), (1 << 31, 1 << 31)],
)
def test_a_bit(value: t.Any, bit: int) -> None:
    assert compat(mark_bit=value).mark_bit == bit


@pytest.mark.parametrize("value", [-1, 3, 1 << 32, 8.0, True, None, "", "x", "0x3", [], "010"])
def test_no_bit(value: t.Any) -> None:
    assert errors(mark_bit=value) == [
        "nftables_conf_mark_bit: accepted are 0, for a bit that is free on the host, or a number with one bit set such as"
        f" 0x10000000, not {value!r}"
    ]


@pytest.mark.parametrize("name", ["rules", "includes", "replaces"])
@pytest.mark.parametrize("value", ["x", {"a": 1}, 5])
def test_a_list(name: str, value: t.Any) -> None:
    assert f"nftables_conf_{name}: a list is needed, not {type(value).__name__}" in errors(**{"layout": COMPAT, name: value})


NO_RULE = "nftables_conf_rules[0].rule: a rule in nft's words of at most 500 characters is needed"


def cannot(what: str) -> str:
    return (
        f"nftables_conf_rules[0].rule: {what} cannot stand in a chain that iptables tools read; write several rules, or put"
        " it into a table of your own in nftables_conf_tables"
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("drop", "nftables_conf_rules[0]: a mapping with chain and rule is needed, not str"),
        (
            {"chain": "INPUT", "rule": "drop", "famly": "ipv4", "x": 1},
            "nftables_conf_rules[0]: accepted are chain, rule and family, not famly, x",
        ),
        (
            {"chain": "POSTROUTING", "rule": "drop"},
            "nftables_conf_rules[0].chain: accepted are INPUT, FORWARD, OUTPUT, DOCKER-USER, not 'POSTROUTING'",
        ),
        (
            {"rule": "drop"},
            "nftables_conf_rules[0].chain: accepted are INPUT, FORWARD, OUTPUT, DOCKER-USER, not None",
        ),
        (
            {"chain": "INPUT", "rule": "drop", "family": "inet"},
            "nftables_conf_rules[0].family: accepted are ipv4, ipv6, both, not 'inet'",
        ),
        ({"chain": "INPUT"}, NO_RULE),
        ({"chain": "INPUT", "rule": 5}, NO_RULE),
        ({"chain": "INPUT", "rule": "  "}, NO_RULE),
        ({"chain": "INPUT", "rule": "a" * 501}, NO_RULE),
        ({"chain": "INPUT", "rule": "tcp dport { 1, 2 } drop"}, cannot("a set")),
        ({"chain": "INPUT", "rule": "drop }"}, cannot("a set")),
        ({"chain": "INPUT", "rule": "drop; flush ruleset"}, cannot("a second statement")),
        ({"chain": "INPUT", "rule": "drop # x"}, cannot("a comment sign")),
        ({"chain": "INPUT", "rule": "drop\nflush ruleset"}, cannot(repr("\n"))),
        ({"chain": "INPUT", "rule": "drop\rx"}, cannot(repr("\r"))),
        ({"chain": "INPUT", "rule": "drop \\"}, cannot(repr("\\"))),
        ({"chain": "INPUT", "rule": 'include "/etc/x"'}, cannot("'include'")),
        ({"chain": "INPUT", "rule": "define x = 1"}, cannot("'define'")),
        ({"chain": "INPUT", "rule": 'accept comment "x'}, cannot("half a pair of quotes")),
        ({"chain": "INPUT", "rule": 'accept "; flush ruleset; " comment "'}, cannot("half a pair of quotes")),
        (
            {"chain": "INPUT", "rule": " -s 192.0.2.7 -p tcp --dport 22 -j ACCEPT"},
            "nftables_conf_rules[0].rule: this is a rule in iptables' words; iptables-translate says it in nft's, of which"
            " the part behind the chain belongs here",
        ),
    ],
)
def test_a_rule_that_is_none(rule: t.Any, message: str) -> None:
    assert errors(layout=COMPAT, rules=[rule]) == [message]


@pytest.mark.parametrize(
    ("text", "given", "wanted"),
    [
        ("ip saddr 192.0.2.7 accept", "both", "ipv4"),
        ("ip saddr 192.0.2.7 accept", "ipv6", "ipv4"),
        ("tcp dport 22 ip6 daddr 2001:db8::1 accept", "both", "ipv6"),
        ("icmp type echo-request accept", "both", "ipv4"),
        ("icmpv6 type echo-request accept", "ipv4", "ipv6"),
        ("ip saddr 192.0.2.7 accept", "ipv4", None),
        ("ip6 hoplimit 255 accept", "ipv6", None),
        ("tcp dport 22 accept", "both", None),
        ('accept comment "ip saddr 192.0.2.7"', "both", None),
        ('iifname "ip6 saddr" accept', "both", None),
    ],
)
def test_a_rule_for_another_family(text: str, given: str, wanted: str | None) -> None:
    rules = [{"chain": "INPUT", "rule": text, "family": given}]
    if wanted:
        message = f"nftables_conf_rules[0].family: the rule matches {wanted} only; set family: {wanted}"
        assert errors(layout=COMPAT, rules=rules) == [message]
    else:
        assert [rule.text for rule in compat(rules=rules).rules] == [text]


@pytest.mark.parametrize("words", ["ip6 nexthdr", "ether  type"])
def test_what_iptables_would_read_as_something_else(words: str) -> None:
    assert errors(layout=COMPAT, rules=[{"chain": "INPUT", "rule": f"{words} 6 drop"}]) == [
        f"nftables_conf_rules[0].rule: iptables tools read '{' '.join(words.split())}' as something else; say the same with"
        " ip protocol or the port's own match"
    ]


@pytest.mark.parametrize(
    "text",
    ["a" * 500, 'accept comment "{ drop; # include }"', "tcp dport included accept", 'log prefix "x" drop'],
)
def test_a_rule_is_left_to_nft(text: str) -> None:
    assert compat(rules=[{"chain": "INPUT", "rule": text}]).rules == (RawRule(0, "INPUT", ("ip", "ip6"), text),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "nftables_conf_tables: text in nft's words is needed, not int"),
        (
            "flush ruleset",
            "nftables_conf_tables, line 1: only 'table FAMILY NAME { ... }' may stand here, not 'flush ruleset'",
        ),
        (
            f"{MINE}\ntable mine {{\n}}",
            "nftables_conf_tables, line 5: only 'table FAMILY NAME { ... }' may stand here, not 'table mine'",
        ),
        (
            'include "/x"',
            "nftables_conf_tables, line 1: only 'table FAMILY NAME { ... }' may stand here, not 'include \"/x\"'",
        ),
        (
            "table ip filter {\n}",
            "nftables_conf_tables, line 1: table ip filter is managed by iptables tools too; nftables_conf_rules is the"
            " place for rules in it",
        ),
        (
            "table inet bulkhead {\n}",
            "nftables_conf_tables, line 1: table inet bulkhead is the policy's own; the docker_firewall_* variables are the"
            " place for rules in it",
        ),
        ('table inet a {\n\tcomment "\n}', "nftables_conf_tables, line 2: a closing quote is missing"),
    ],
)
def test_tables_of_ones_own_and_nothing_else(text: t.Any, message: str) -> None:
    assert errors(tables=text) == [message]


def test_the_own_table_by_another_name() -> None:
    assert "table inet fence is the policy's own" in errors(table="fence", tables="table inet fence {\n}")[0]
    assert read({"table": "fence", "tables": "table inet bulkhead {\n}"}).tables
    assert read({"tables": "table ip bulkhead {\n}"}).tables


def test_each_table_is_made_anew_once() -> None:
    text = f"{MINE}\ntable ip6 other {{ }}\n{MINE}\n"
    assert read({"tables": text}).tables == (
        f"{MADE_ANEW}table ip6 other\ndelete table ip6 other\n{text.strip()}"
    )
    assert read({"tables": " \n# nothing\n"}).tables == ""


@pytest.mark.parametrize("value", ["etc/x", "/etc/x y", '/etc/"', "/etc/x\n", 5, "/etc/$x", ""])
def test_no_path(value: t.Any) -> None:
    assert errors(includes=["/etc/a[0-9]?.nft", value]) == [
        f"nftables_conf_includes[1]: an absolute path is needed, patterns allowed, not {value!r}"
    ]


def test_a_service_that_is_not_known() -> None:
    assert errors(replaces=["ufw", "shorewall", 5]) == [
        "nftables_conf_replaces: accepted are firewalld, ufw, not 'shorewall'",
        "nftables_conf_replaces: accepted are firewalld, ufw, not 5",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rules", [{"chain": "INPUT", "rule": "drop"}]),
        ("forward_policy", "drop"),
        ("output_policy", "accept"),
    ],
)
def test_what_takes_the_other_layout(name: str, value: t.Any) -> None:
    assert errors(**{name: value}) == [f"nftables_conf_{name}: this needs nftables_conf_layout: iptables_compat"]
    assert read({name: [] if name == "rules" else "keep"}) == Conf()


def test_the_mark_of_containers_takes_the_other_layout() -> None:
    text = "table inet a {\n\tchain c {\n\t\tmeta mark & $docker_mark != 0 accept\n\t}\n}"
    assert errors(tables=text) == ["nftables_conf_tables: $docker_mark needs nftables_conf_layout: iptables_compat"]
    assert compat(tables=text).tables.endswith(text)


def test_all_mistakes_at_once() -> None:
    found = errors(layout="x", mark_bit=3, rules=[5, {}], tables="x", includes=[1], replaces=[2], legacy="x")
    assert [line.split(":")[0] for line in found] == [
        "nftables_conf_layout",
        "nftables_conf_mark_bit",
        "nftables_conf_rules[0]",
        "nftables_conf_rules[1].chain",
        "nftables_conf_rules[1].rule",
        "nftables_conf_tables, line 1",
        "nftables_conf_includes[0]",
        "nftables_conf_replaces",
        "nftables_conf_legacy",
        "nftables_conf_rules",
    ]


# -- file and policy together --------------------------------------------------------------------------------------

ROUTED = {"rules": [{"to": "routed", "ports": [80]}, {"to": "routed", "ports": [81], "action": "drop"}]}


@pytest.mark.parametrize(
    ("conf", "policy", "backend", "named"),
    [
        (compat(forward_policy="drop"), {}, None, []),
        (compat(forward_policy="drop"), {}, "iptables", []),
        (compat(forward_policy="drop"), ROUTED, None, ["(docker_firewall_rules[0])"]),
        (compat(forward_policy="drop"), {"routed_default": "accept"}, None, ["(docker_firewall_routed_default)"]),
        (
            compat(forward_policy="drop"),
            {**ROUTED, "routed_default": "accept"},
            "nftables",
            ["(docker_firewall_rules[0], docker_firewall_routed_default)", "Docker's nftables backend"],
        ),
        (compat(forward_policy="accept"), ROUTED, "nftables", []),
        (compat(), ROUTED, "nftables", []),
        (Conf(forward_policy="drop"), ROUTED, "nftables", []),
    ],
)
def test_a_forward_policy_that_cuts_too_much(
    conf: Conf, policy: dict[str, t.Any], backend: str | None, named: list[str]
) -> None:
    found = conflicts(conf, parse(policy), backend)
    assert len(found) == len(named)
    for sentence, words in zip(found, named):
        assert sentence.startswith("nftables_conf_forward_policy: drop would") and words in sentence
        assert sentence.endswith("at keep or accept, the own table drops what the policy does not allow") or backend


def test_at_most_five_rules_are_named() -> None:
    rules = [{"to": "routed", "ports": [port]} for port in range(80, 89)]
    found = conflicts(compat(forward_policy="drop"), parse({"rules": rules}), None)[0]
    assert "docker_firewall_rules[4])" in found and "rules[5]" not in found


@pytest.mark.parametrize(
    ("conf", "policy", "expected"),
    [
        (Conf(table="fence"), Policy(), Layout("own_table", "fence")),
        (compat(), Policy(), Layout(COMPAT, "bulkhead", BIT, 4, policies=("INPUT",))),
        (
            compat(forward_policy="accept", output_policy="accept"),
            parse({"host_default": "accept"}),
            Layout(COMPAT, "bulkhead", BIT, 4, drops_input=True, policies=("INPUT", "FORWARD", "OUTPUT")),
        ),
        (
            compat(output_policy="drop"),
            Policy(),
            Layout(COMPAT, "bulkhead", BIT, 4, output=True, policies=("INPUT", "OUTPUT")),
        ),
    ],
)
def test_what_the_host_remembers(conf: Conf, policy: Policy, expected: Layout) -> None:
    assert layout(conf, policy, BIT, 4) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        (Layout("own_table", mark_bit=BIT), None),
        (Layout(COMPAT, "x", BIT), Carry(BIT)),
        (
            Layout(COMPAT, "x", BIT, 4, drops_input=True),
            Carry(BIT, docker=4, output=False, drops_input=True),
        ),
        (Layout(COMPAT, "x", BIT, output=True), Carry(BIT, output=True)),
    ],
)
def test_what_the_own_table_writes_for_a_layout(found: Layout | None, expected: Carry | None) -> None:
    assert carry(found) == expected


def own(item: dict[str, t.Any]) -> dict[str, list[str]]:
    assert all(chain["name"] == f"BULKHEAD-{chain['from']}" for chain in item["own"])
    return {chain["from"]: chain["rules"] for chain in item["own"]}


def planned(conf: Conf, policy: Policy) -> dict[tuple[str, str], dict[str, t.Any]]:
    found = tables(conf, policy, layout(conf, policy, BIT, 0))
    return {(item["family"], item["name"]): item for item in found}


ACCEPTS = 'meta mark & 0x10000000 == 0x10000000 counter accept comment "decided in table inet bulkhead"'
DROPS = ACCEPTS.replace("accept", "drop")


def test_the_tables_of_iptables() -> None:
    found = planned(compat(), Policy())
    assert list(found) == [("ip", "filter"), ("ip6", "filter"), ("ip", "nat"), ("ip6", "nat")]
    for family in ("ip", "ip6"):
        item = found[family, "filter"]
        assert [(chain["name"], chain["hook"], chain["priority"], chain["policy"]) for chain in item["bases"]] == [
            ("INPUT", "input", 0, "drop"),
            ("FORWARD", "forward", 0, None),
            ("OUTPUT", "output", 0, None),
        ]
        assert (item["type"], item["plain"]) == ("filter", ["DOCKER-USER"])
        assert own(item) == {"INPUT": [ACCEPTS], "DOCKER-USER": [DROPS]}
        nat = found[family, "nat"]
        assert [(chain["name"], chain["hook"], chain["priority"], chain["policy"]) for chain in nat["bases"]] == [
            ("PREROUTING", "prerouting", -100, None),
            ("INPUT", "input", 100, None),
            ("OUTPUT", "output", -100, None),
            ("POSTROUTING", "postrouting", 100, None),
        ]
        assert (nat["type"], nat["plain"], nat["own"]) == ("nat", [], [])
    assert tables(Conf(), Policy(), Layout("own_table")) == []


@pytest.mark.parametrize(
    ("variables", "policy", "policies"),
    [
        ({}, {"host_default": "accept"}, ["accept", None, None]),
        ({"forward_policy": "drop"}, {}, ["drop", "drop", None]),
        ({"forward_policy": "accept", "output_policy": "accept"}, {}, ["drop", "accept", "accept"]),
        ({"output_policy": "drop"}, {}, ["drop", None, "drop"]),
    ],
)
def test_policies(variables: dict[str, t.Any], policy: dict[str, t.Any], policies: list[str | None]) -> None:
    found = planned(compat(**variables), parse(policy))["ip6", "filter"]
    assert [chain["policy"] for chain in found["bases"]] == policies
    assert ("OUTPUT" in own(found)) is (policies[2] == "drop")


def test_rules_of_the_administrator_come_first_and_say_where_they_come_from() -> None:
    rules = [
        {"chain": "INPUT", "rule": "tcp dport 22 accept"},
        {"chain": "INPUT", "rule": 'tcp dport 23 drop comment "mine"', "family": "ipv4"},
        {"chain": "DOCKER-USER", "rule": "ip6 saddr 2001:db8::1 drop", "family": "ipv6"},
        {"chain": "FORWARD", "rule": "drop"},
        {"chain": "OUTPUT", "rule": "accept"},
    ]
    found = planned(compat(rules=rules, output_policy="drop"), Policy())
    assert own(found["ip", "filter"]) == {
        "INPUT": [
            'tcp dport 22 accept comment "nftables_conf_rules[0]"',
            'tcp dport 23 drop comment "mine"',
            ACCEPTS,
        ],
        "FORWARD": ['drop comment "nftables_conf_rules[3]"'],
        "OUTPUT": ['accept comment "nftables_conf_rules[4]"', ACCEPTS],
        "DOCKER-USER": [DROPS],
    }
    assert own(found["ip6", "filter"])["DOCKER-USER"] == [
        'ip6 saddr 2001:db8::1 drop comment "nftables_conf_rules[2]"',
        DROPS,
    ]
    assert len(own(found["ip6", "filter"])["INPUT"]) == 2
