# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import used_mask
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks_text import (
    marks_in_words,
    uses_in_ip_rules,
    uses_in_legacy_rules,
    uses_in_xfrm,
    uses_in_xt_rules,
    xt_families,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

ALL = 0xFFFFFFFF
needs_iptables = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("iptables-nft") is None, reason="needs root and iptables-nft"
)
XT_MARK = {"xt": {"type": "target", "name": "MARK"}}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m mark --mark 0x1 -j ACCEPT", [(1, 1, True)]),
        ("-m mark ! --mark 0x1/0xff -j ACCEPT", [(1, 0xFF, False)]),
        ("-m mark --mark 0x0/0x10000000", [(0, 0x10000000, False)]),
        ("-m connmark --mark 5/0xf", [(5, 0xF, False)]),
        ("-j MARK --set-xmark 0x5/0xffffffff", [(5, 5, True)]),
        ("-j MARK --set-xmark 0x0/0x10", [(0, 0x10, False)]),
        ("-j MARK --set-xmark 0xfe/0xfe", [(0xFE, 0xFE, False)]),
        ("-j MARK --set-xmark 0x3/0x1", [(None, 3, False)]),
        ("-j MARK --set-xmark 0xfe/0x0", [(None, 0xFE, False)]),
        ("-j MARK --set-mark 7", [(7, 7, True)]),
        ("-j MARK --and-mark 0xfffffffe", [(0, 1, False)]),
        ("-j MARK --or-mark 0x10", [(0x10, 0x10, False)]),
        ("-j MARK --xor-mark 0x10", [(None, 0x10, False)]),
        ("-j CONNMARK --set-xmark 0x5/0xf", [(5, 0xF, False)]),
        ("-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", [(None, 0, True)]),
        ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf00", [(None, 0xFFF, False)]),
        ("-j CONNMARK --restore-mark --mask 0xf0", [(None, 0xF0, False)]),
        ("-j CONNMARK --restore-mark", [(None, 0, True)]),
        ("-j TPROXY --on-port 5 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1", [(1, 1, False)]),
        ("-j mark --mark-set 0x55 --mark-target ACCEPT", [(0x55, 0x55, True)]),
        ("-j mark --mark-or 0x8 --mark-target ACCEPT", [(8, 8, False)]),
        ("-j mark --mark-and 0xffffff7f", [(0, 0x80, False)]),
        ("-m mark --mark 0x1/0x1 -j MARK --set-xmark 0x2/0x2", [(1, 1, False), (2, 2, False)]),
        # Nothing to do with marks, whatever it looks like.
        ("-p tcp --dport 22 -j ACCEPT", []),
        ("-m comment --comment --mark -j ACCEPT", []),
        ("-m comment --comment --set-mark -m mark --mark 0x4", [(4, 4, True)]),
        ("-j LOG --log-prefix --set-mark", []),
        ("-m recent --name x --mask 255.255.255.255 --rsource", []),
        # Broken or from a later release: somebody uses marks, how cannot be told.
        ("-m mark --mark", []),
        ("-m mark --mark lan/0xff", [(None, 0, True)]),
        ("-m mark --mark 0x1/", [(None, 0, True)]),
        ("-m mark --mark 0x1ffffffff", [(None, 0, True)]),
        ("", []),
    ],
)
def test_arguments_of_iptables(words: str, expected: list[tuple[int | None, int, bool]]) -> None:
    assert list(marks_in_words(words.split())) == expected


COMMANDS = [
    ("iptables-nft", "-t mangle -A PREROUTING -j MARK --set-mark 0x100"),
    ("iptables-nft", "-t mangle -A PREROUTING -p tcp -j ACCEPT"),
    ("iptables-nft", "-t mangle -A PREROUTING -j CONNMARK --restore-mark --mask 0x200"),
    ("iptables-nft", "-t mangle -A PREROUTING -m connmark --mark 0x400/0x400 -m comment --comment --mark -j ACCEPT"),
    ("iptables-nft", "-A FORWARD -m mark --mark 0x800/0x800 -j ACCEPT"),
    ("iptables-nft", "-N BULKHEAD-FORWARD"),
    ("iptables-nft", "-A BULKHEAD-FORWARD -m connmark --mark 0x1/0x1 -j ACCEPT"),
    ("ip6tables-nft", "-t mangle -A OUTPUT -j MARK --or-mark 0x1000"),
]


def loaded(commands: list[tuple[str, str]], script: str = "") -> tuple[Ruleset, dict[str, str]]:
    runner = Runner()
    with runner.scratch_network():
        for tool, command in commands:
            runner.run([tool, *command.split()])
        if script:
            runner.run(["nft", "-f", "-"], stdin=script)
        saved = {
            "ip": runner.run(["iptables-nft-save"]).stdout,
            "ip6": runner.run(["ip6tables-nft-save"]).stdout,
        }
        return read_ruleset(runner), saved


@needs_iptables
def test_rules_of_iptables_are_read_from_what_it_saves() -> None:
    ruleset, saved = loaded(COMMANDS)
    assert xt_families(ruleset, "bulkhead") == {"ip", "ip6"}
    four = uses_in_xt_rules(ruleset, "ip", saved["ip"], "bulkhead")
    six = uses_in_xt_rules(ruleset, "ip6", saved["ip6"], "bulkhead")
    places = {use.where.rpartition(" handle ")[0]: use for use in [*four, *six]}
    assert used_mask(four) & ~0x800 == 0x700
    assert used_mask(six) == 0x1000
    assert places["ip6 mangle OUTPUT"].text == "-A OUTPUT -j MARK --set-xmark 0x1000/0x1000"
    mangle = ruleset.table("ip", "mangle")
    assert mangle is not None
    first = [chain.rules[0].handle for chain in mangle.chains if chain.name == "PREROUTING"]
    assert f"ip mangle PREROUTING handle {first[0]}" in [use.where for use in four if use.mask == 0x100]


@needs_iptables
def test_a_table_that_iptables_cannot_save_is_still_read() -> None:
    commands = [
        ("iptables-nft", "-t mangle -A PREROUTING -j MARK --set-xmark 0x0/0x10"),
        ("iptables-nft", "-t mangle -A PREROUTING -j MARK --or-mark 0x200"),
    ]
    ruleset, saved = loaded(commands, "insert rule ip mangle PREROUTING ct state established accept")
    assert "MARK" not in saved["ip"], "iptables leaves the table out"
    uses = uses_in_xt_rules(ruleset, "ip", saved["ip"], "bulkhead")
    assert [(use.value, use.mask, use.whole) for use in uses] == [(None, 0x10, False), (None, 0x200, False)]


def test_without_any_text_a_use_is_at_least_named() -> None:
    ruleset = Ruleset((Table("ip", "mangle", chains=(Chain("PREROUTING", 1, rules=(Rule(4, (XT_MARK,)),)),)),))
    (use,) = uses_in_xt_rules(ruleset, "ip", "", "bulkhead")
    assert (use.where, use.mask, use.whole, use.text) == ("ip mangle PREROUTING handle 4", 0, True, "handle 4")


@pytest.mark.parametrize(
    "saved",
    ["-A", "-A PREROUTING", "*mangle\n-A\n-A PREROUTING -j MARK\n", '*mangle\n-A PREROUTING "unclosed --mark\n'],
)
def test_a_cut_off_text_is_no_crash(saved: str) -> None:
    ruleset = Ruleset((Table("ip", "mangle", chains=(Chain("PREROUTING", 1, rules=(Rule(4, (XT_MARK,)),)),)),))
    assert used_mask(uses_in_xt_rules(ruleset, "ip", saved, "bulkhead")) == 0


def test_hosts_without_such_rules_need_no_save_tool() -> None:
    chain = Chain("FORWARD", 1, rules=(Rule(4, ({"xt": {"type": "match", "name": "conntrack"}}, "odd")),))
    own = Chain("BULKHEAD-FORWARD", 2, rules=(Rule(5, (XT_MARK,)),))
    assert xt_families(Ruleset((Table("ip", "filter", chains=(chain, own)),)), "bulkhead") == set()


def test_rules_of_the_old_xtables() -> None:
    lines = [
        "-t filter -P FORWARD DROP",
        "-t mangle -A OUTPUT -j MARK --set-xmark 0x1/0x1",
        "-t filter -A BULKHEAD-INPUT -m mark --mark 0x2/0x2 -j ACCEPT",
        "-t filter",
    ]
    (use,) = uses_in_legacy_rules("ip", lines)
    assert (use.where, use.mask, use.text) == ("legacy ip mangle OUTPUT", 1, lines[1])


def test_policy_routing() -> None:
    rules = [
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 32764, "src": "all", "fwmark": "0x5", "table": "100"},
        {"priority": 32765, "src": "all", "fwmark": "0x10", "fwmask": "0xff", "table": "100"},
        {"priority": 32766, "fwmark": 7, "fwmask": 15},
    ]
    uses = uses_in_ip_rules(json.dumps(rules))
    assert [(use.where, use.value, use.mask, use.whole) for use in uses] == [
        ("ip rule 32764", 5, 5, True),
        ("ip rule 32765", 0x10, 0xFF, False),
        ("ip rule 32766", 7, 15, False),
    ]
    assert uses[1].text == "fwmark 0x10/0xff lookup 100"
    assert uses_in_ip_rules(json.dumps(rules[1:2]), "ip -6 rule")[0].where == "ip -6 rule 32764"


@pytest.mark.parametrize("printed", ["", "[]", "{}", "null", "5", "[1, null]", "not JSON", '[{"fwmark": "x"}]', "["])
def test_policy_routing_that_cannot_be_read_is_none(printed: str) -> None:
    assert uses_in_ip_rules(printed) == []


XFRM = """src 10.0.0.0/24 dst 10.1.0.0/24
\tdir out priority 0 ptype main
\tmark 0x5/0xff
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp reqid 0 mode tunnel
src ::/0 dst ::/0
\tsocket in priority 0 ptype main
src 1.1.1.1 dst 2.2.2.2
\tproto esp spi 0x00001000 reqid 0 mode tunnel
\treplay-window 0
\tmark 0x42/0xffffffff
\toutput-mark 0x9/0xf
\tauth-trunc hmac(sha256) 0x000102030405 128
\tenc cbc(aes) 0x01020304050607080910111213141516
src 1.1.1.1 dst 2.2.2.3
\tmark 0/0
"""


def test_ipsec() -> None:
    uses = uses_in_xfrm(XFRM)
    assert [(use.where, use.value, use.mask, use.whole) for use in uses] == [
        ("xfrm policy", 5, 0xFF, False),
        ("xfrm state", 0x42, 0x42, True),
        ("xfrm state", 9, 0xF, False),
    ]
    assert uses[0].text == "src 10.0.0.0/24 dst 10.1.0.0/24 mark 0x5/0xff"
    assert "0x0102" not in "".join(use.text for use in uses), "keys are nobody's business"
    assert uses_in_xfrm("") == uses_in_xfrm("Cannot open netlink socket: Protocol not supported\n") == []
