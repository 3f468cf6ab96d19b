# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    Chain,
    NamedSet,
    Rule,
    Ruleset,
    Table,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_marks import read_mark_uses
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner

RULE4 = Call(["ip", "-j", "rule"], stdout='[{"priority": 5, "fwmark": "0x1"}]')
RULE6 = Call(["ip", "-6", "-j", "rule"], stdout='[{"priority": 5, "fwmark": "0x2"}]')
XFRM = Call(["ip", "-force", "-batch", "-"], stdin="xfrm policy list\nxfrm state list nokeys\n")
ROUTING = [RULE4, RULE6, XFRM]


def one_rule(family: str, table: str, chain: str, *expr: object) -> Ruleset:
    return Ruleset((Table(family, table, chains=(Chain(chain, 1, rules=(Rule(4, expr),)),)),))


def test_a_host_as_docker_leaves_it_costs_three_processes(tmp_path: Path) -> None:
    runner = FakeRunner(list(ROUTING))
    uses = read_mark_uses(runner, Ruleset(), "bulkhead", LegacyRules(), str(tmp_path))
    runner.done()
    assert [(use.where, use.mask) for use in uses] == [("ip rule 5", 1), ("ip -6 rule 5", 2)]


def test_a_host_without_ip_or_without_ipsec(tmp_path: Path) -> None:
    missing = FakeRunner([], missing=("ip",))
    assert read_mark_uses(missing, Ruleset(), "bulkhead", LegacyRules(), str(tmp_path)) == []
    broken = [
        Call(["ip", "-j", "rule"], rc=2, stderr="not supported"),
        Call(["ip", "-6", "-j", "rule"], rc=2, stderr="not supported"),
        Call(XFRM.argv, stdin=XFRM.stdin, rc=1, stderr="Cannot open netlink socket: Protocol not supported"),
    ]
    assert read_mark_uses(FakeRunner(broken), Ruleset(), "bulkhead", LegacyRules(), str(tmp_path)) == []


def test_save_tools_are_asked_only_for_rules_that_need_them(tmp_path: Path) -> None:
    ruleset = one_rule("ip6", "mangle", "OUTPUT", {"xt": {"type": "target", "name": "MARK"}})
    saved = "*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j MARK --set-xmark 0x40/0x40\nCOMMIT\n"
    runner = FakeRunner([Call(["ip6tables-nft-save"], stdout=saved), *ROUTING])
    uses = read_mark_uses(runner, ruleset, "bulkhead", LegacyRules(), str(tmp_path))
    runner.done()
    assert (uses[0].where, uses[0].mask) == ("ip6 mangle OUTPUT handle 4", 0x40)
    renamed = FakeRunner([Call(["ip6tables-save"], stdout=saved), *ROUTING], missing=("ip6tables-nft-save",))
    assert read_mark_uses(renamed, ruleset, "bulkhead", LegacyRules(), str(tmp_path)) == uses


def test_rules_of_ebtables(tmp_path: Path) -> None:
    ruleset = one_rule("bridge", "filter", "FORWARD", {"xt": {"type": "target", "name": "mark"}})
    saved = "*filter\n:FORWARD ACCEPT\n-A FORWARD -j mark --mark-set 0x55 --mark-target ACCEPT\n"
    runner = FakeRunner([Call(["ebtables-nft-save"], stdout=saved), *ROUTING])
    uses = read_mark_uses(runner, ruleset, "bulkhead", LegacyRules(), str(tmp_path))
    assert (uses[0].mask, uses[0].whole) == (0x55, True)


def test_elements_are_read_where_marks_are_in_sets(tmp_path: Path) -> None:
    expr = {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": "@marks"}}
    table = Table(
        "inet", "t", chains=(Chain("c", 1, rules=(Rule(4, (expr,)),)),), sets=(NamedSet("marks", "set", "mark"),)
    )
    document = {
        "nftables": [
            {"table": {"family": "inet", "name": "t", "handle": 1}},
            {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 1}},
            {"set": {"family": "inet", "table": "t", "name": "marks", "type": "mark", "elem": [16, 32]}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 4, "expr": [expr]}},
        ]
    }
    script = [
        Call(["nft", "-j", "list", "ruleset"], stdout=json.dumps(document)),
        Call(["nft", "-s", "-a", "-t", "list", "ruleset"]),
        *ROUTING,
    ]
    runner = FakeRunner(script)
    uses = read_mark_uses(runner, Ruleset((table,)), "bulkhead", LegacyRules(), str(tmp_path))
    runner.done()
    assert uses[0].mask == 48


def test_names_of_marks_come_from_iproute2(tmp_path: Path) -> None:
    for folder, number in (("usr/share", "0x1"), ("etc", "0x80")):
        (tmp_path / folder / "iproute2").mkdir(parents=True)
        (tmp_path / folder / "iproute2/rt_marks").write_text(f"{number} vpn\n")
    ruleset = one_rule("inet", "t", "c", {"match": {"left": {"meta": {"key": "mark"}}, "right": "vpn"}})
    uses = read_mark_uses(FakeRunner(list(ROUTING)), ruleset, "bulkhead", LegacyRules(), str(tmp_path))
    assert uses[0].value == 0x80


def test_rules_of_the_old_xtables_count(tmp_path: Path) -> None:
    legacy = LegacyRules(("-t mangle -A OUTPUT -j MARK --or-mark 0x8",), None)
    uses = read_mark_uses(FakeRunner(list(ROUTING)), Ruleset(), "bulkhead", legacy, str(tmp_path))
    assert (uses[0].where, uses[0].mask) == ("legacy ip mangle OUTPUT", 8)
