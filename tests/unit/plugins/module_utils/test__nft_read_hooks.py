# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    Chain,
    Ruleset,
    Table,
    parse_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_hooks import (
    hooks_in_order,
    owner_of,
    used_by,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"


def base(name: str, hook: str, priority: int, kind: str = "filter", device: str | None = None) -> Chain:
    return Chain(name, 1, kind, hook, priority, "accept", (device,) if device else ())


def order(ruleset: Ruleset, group: str, hook: str) -> list[tuple[str, bool]]:
    return [(each["chain"], each["order_certain"]) for each in hooks_in_order(ruleset)[group][hook]]


def test_chains_of_ip_and_inet_tables_share_a_hook_and_run_by_priority() -> None:
    ruleset = Ruleset(
        (
            Table("inet", "b", chains=(base("late", "forward", 10), base("early", "forward", -10))),
            Table("ip", "a", chains=(base("FORWARD", "forward", 0),)),
            Table("ip6", "a", chains=(base("FORWARD6", "forward", 0),)),
        )
    )
    assert order(ruleset, "ip", "forward") == [("early", True), ("FORWARD", True), ("late", True)]
    assert order(ruleset, "ip6", "forward") == [("early", True), ("FORWARD6", True), ("late", True)]


def test_a_nat_chain_runs_where_the_nat_core_is() -> None:
    ruleset = Ruleset(
        (
            Table("ip", "n", chains=(base("nat", "prerouting", -199, "nat"),)),
            Table("ip", "f", chains=(base("filter", "prerouting", -150),)),
        )
    )
    assert order(ruleset, "ip", "prerouting") == [("filter", True), ("nat", True)]
    entry = hooks_in_order(ruleset)["ip"]["prerouting"][1]
    assert (entry["priority"], entry["runs_at"]) == (-199, -100)


def test_nat_chains_among_themselves_run_by_their_own_priority() -> None:
    ruleset = Ruleset(
        (
            Table("inet", "firewalld", chains=(base("theirs", "prerouting", -90, "nat"),)),
            Table("ip", "nat", chains=(base("dockers", "prerouting", -100, "nat"),)),
        )
    )
    assert order(ruleset, "ip", "prerouting") == [("dockers", True), ("theirs", True)]


def test_the_same_place_means_no_certain_order() -> None:
    ruleset = Ruleset(
        (
            Table("inet", "x", chains=(base("one", "input", 0), base("three", "input", 5))),
            Table("ip", "y", chains=(base("two", "input", 0),)),
        )
    )
    assert dict(order(ruleset, "ip", "input")) == {"one": False, "two": False, "three": True}
    assert order(ruleset, "ip6", "input") == [("one", True), ("three", True)]


def test_a_filter_chain_at_the_nat_core_is_not_ordered_against_it() -> None:
    ruleset = Ruleset((Table("ip", "x", chains=(base("f", "prerouting", -100), base("n", "prerouting", -50, "nat"))),))
    assert [certain for _chain, certain in order(ruleset, "ip", "prerouting")] == [False, False]


def test_ingress_chains_belong_to_their_device() -> None:
    ruleset = Ruleset((Table("inet", "x", chains=(base("in", "ingress", 0, device="eth0"),)),))
    assert hooks_in_order(ruleset) == {
        "netdev": {
            "ingress": [
                {
                    "family": "inet",
                    "table": "x",
                    "chain": "in",
                    "type": "filter",
                    "priority": 0,
                    "runs_at": 0,
                    "policy": "accept",
                    "devices": ["eth0"],
                    "order_certain": True,
                }
            ]
        }
    }


@pytest.mark.parametrize(
    ("family", "name", "owner"),
    [
        ("ip", "docker-bridges", "docker"),
        ("ip6", "docker-bridges", "docker"),
        ("inet", "docker-bridges", "other"),
        ("ip", "filter", "iptables-nft"),
        ("ip6", "nat", "iptables-nft"),
        ("inet", "filter", "other"),
        ("inet", "firewalld", "firewalld"),
        ("inet", "firewalld_policy_drop", "firewalld"),
        ("inet", "bulkhead", "bulkhead"),
        ("ip", "bulkhead", "other"),
        ("ip", "libvirt_network", "libvirt"),
        ("inet", "anything", "other"),
    ],
)
def test_a_table_has_the_owner_its_family_and_name_tell(family: str, name: str, owner: str) -> None:
    assert owner_of(Table(family, name)) == owner


@pytest.mark.parametrize(
    ("capture", "owners"),
    [
        ("docker-26.1.5-iptables-firewalld", {"inet firewalld": "firewalld", "ip nat": "iptables-nft"}),
        ("docker-29.7.2-nftables", {"ip docker-bridges": "docker", "ip6 docker-bridges": "docker"}),
    ],
)
def test_real_hosts(capture: str, owners: dict[str, str]) -> None:
    ruleset = parse_ruleset((FIXTURES / capture / "ruleset.json").read_text())
    found = {table.label: owner_of(table) for table in ruleset.tables}
    assert {label: found.get(label) for label in owners} == owners
    rules = [
        each for each in json.loads((FIXTURES / capture / "ruleset.json").read_text())["nftables"] if "rule" in each
    ]
    assert sum(len(chain.rules) for table in ruleset.tables for chain in table.chains) == len(rules) > 50


def test_docker_runs_before_firewalld_on_a_real_host() -> None:
    ruleset = parse_ruleset((FIXTURES / "docker-26.1.5-iptables-firewalld" / "ruleset.json").read_text())
    assert order(ruleset, "ip", "forward") == [("FORWARD", True), ("filter_FORWARD", True)]
    chains = [chain for chain, _certain in order(ruleset, "ip", "prerouting")]
    assert chains.index("PREROUTING") < chains.index("nat_PREROUTING")
    table = ruleset.table("ip", "filter")
    assert table is not None
    assert used_by(table) == ["docker"]
