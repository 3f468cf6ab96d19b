# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies as text (tests/unit/golden, refreshed with --update-golden only), and as a real nft takes them."""

from __future__ import annotations

import os
import re
import shutil
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _nft_text, _policy_parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import Carry
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
STATE = HostState(networks={"web": "br-web"}, interfaces=("lo", "eth0", "br-web"))

real_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None,
    reason="loading the golden files takes root and nft",
)


def read(case: str, name: str) -> dict[str, t.Any]:
    return yaml.safe_load((GOLDEN / case / name).read_text(encoding="utf-8"))


def compiled(case: str) -> Ruleset:
    state = read(case, "state.yml")
    return compile_policy(
        parse(read(case, "policy.yml")),
        HostState(
            networks=state["networks"],
            interfaces=tuple(state["interfaces"]),
            published=tuple((protocol, port) for protocol, port in state.get("published", [])),
            docker_known=state.get("docker_known", True),
            other_bridges=tuple(state.get("other_bridges", [])),
        ),
        carry=Carry(**read(case, "carry.yml")) if (GOLDEN / case / "carry.yml").exists() else None,
    )


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / case / "golden.nft"
    ruleset = compiled(case)
    text = "".join(f"# warning: {line}\n" for line in ruleset.warnings) + render(ruleset)
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text.splitlines() == golden.read_text(encoding="utf-8").splitlines()
    _nft_text.check_single_table(text, "inet", "bulkhead")


@real_nft
@pytest.mark.parametrize("case", CASES)
def test_nft_loads_it_and_loads_its_own_listing_again(case: str) -> None:
    text = (GOLDEN / case / "golden.nft").read_text(encoding="utf-8")
    runner = Runner()
    table = OwnTable(runner, "inet", "bulkhead")
    with runner.scratch_network():
        table.replace(text)
        live, listing = table.live(), table.restorable()
        assert live is not None and listing is not None
        table.replace(listing)
        assert table.live() == live
        table.replace(listing)
        assert table.live() == live
    for kind in ("set", "chain"):
        assert sorted(re.findall(rf"^\t{kind} (\S+)", live, re.M)) == sorted(
            re.findall(rf"^\t{kind} (\S+)", text, re.M)
        )
    assert table.normalise(text) == live == table.normalise(listing)


@pytest.mark.parametrize("case", CASES)
def test_every_name_is_defined_once_and_every_set_used(case: str) -> None:
    ruleset = compiled(case)
    rules = "\n".join(rule for chain in ruleset.chains for rule in chain.rules)
    for names in ([item.name for item in ruleset.sets], [chain.name for chain in ruleset.chains]):
        assert len(names) == len(set(names))
    assert set(re.findall(r"@(\w+)", rules)) == {item.name for item in ruleset.sets}
    defined = {chain.name for chain in ruleset.chains}
    assert set(re.findall(r"goto (\w+)", rules)) | {c.name for c in ruleset.chains if c.hook} == defined


def test_the_golden_files_cover_every_variable_and_every_target() -> None:
    policies = [read(case, "policy.yml") for case in CASES]
    rules = [rule for policy in policies for rule in policy.get("rules", [])]
    named = {key for policy in policies for key in policy}
    assert named == {
        "zones",
        "rules",
        "outside_interfaces",
        "bridges",
        "host_default",
        "egress_default",
        "containers_to_host_default",
        "routed_default",
        "ping",
        "log_drops",
    }
    assert {rule["to"].split(":")[0] for rule in rules} == {*_policy_parse.TARGETS, "network"}
    assert {key for rule in rules for key in rule} == set(_policy_parse.RULE_KEYS)
    assert {rule.get("action", "accept") for rule in rules} == set(_policy_parse.ACTIONS)


def test_the_order_of_rules_that_share_a_verdict_does_not_change_the_sets() -> None:
    rules = [{"to": "host", "ports": [port]} for port in (443, 22, 8080)]
    texts = [
        {item.name: item for item in compile_policy(parse({"rules": order}), STATE).sets}
        for order in (rules, list(reversed(rules)))
    ]
    assert texts[0] == texts[1]
    assert texts[0]["outside_open_ports"].elements == ("tcp . 22", "tcp . 443", "tcp . 8080")


def test_ten_thousand_entries_are_a_handful_of_rules() -> None:
    sources = [f"10.{number // 250}.{number % 250}.0/25" for number in range(1000)]
    ports = list(range(1000, 1020, 2))
    variables = {
        "zones": {"many": {"sources": sources}},
        "rules": [{"from": "many", "to": "published", "ports": ports}],
    }
    ruleset = compile_policy(parse(variables), STATE)
    assert max(len(item.elements) for item in ruleset.sets) == 10000
    assert sum(len(chain.rules) for chain in ruleset.chains) < 60


def routed(variables: dict[str, t.Any]) -> tuple[list[str], Ruleset]:
    ruleset = compile_policy(parse(variables), STATE)
    return next(chain.rules for chain in ruleset.chains if chain.name == "routed"), ruleset


def test_ten_thousand_pairs_of_interfaces_are_one_lookup() -> None:
    zones = {f"z{number}": {"interfaces": [f"vlan{number}"]} for number in range(100)}
    pairs = [{"from": one, "to": "routed", "towards": list(zones), "ports": 22} for one in zones]
    rules, ruleset = routed({"zones": zones, "rules": pairs})
    assert len(rules) == 2
    assert rules[0].startswith("iifname . oifname . meta l4proto . th dport @routed_interfaces accept")
    assert max(len(item.elements) for item in ruleset.sets) == 10000


def test_ten_thousand_addresses_behind_one_interface_are_one_lookup() -> None:
    sources = [f"10.{number // 250}.{number % 250}.0/25" for number in range(1000)]
    zones = {"many": {"sources": sources}, "dmz": {"interfaces": ["eth2"], "sources": ["192.0.2.0/24"]}}
    rule = {"from": "many", "to": "routed", "towards": "dmz", "ports": list(range(1000, 1020, 2))}
    rules, ruleset = routed({"zones": zones, "rules": [rule]})
    assert len(rules) == 2
    assert rules[0].startswith('oifname "eth2" ip saddr . ip daddr . meta l4proto . th dport @routed_v4_to_address accept')
    assert max(len(item.elements) for item in ruleset.sets) == 10000


@pytest.mark.parametrize(
    ("zones", "most", "written"),
    [
        # Three pairs, or patterns: a rule for each reads better, or is all that there is.
        ({f"z{number}": {"interfaces": [f"eth{number}"]} for number in range(3)}, 4, 'iifname "eth0" oifname "eth0" '),
        ({f"z{number}": {"interfaces": [f"eth{number}*"]} for number in range(4)}, 17, 'iifname "eth0*" oifname "eth0*" '),
        # Two names, two IPv6 addresses and a port are longer than what the kernel looks up.
        (
            {f"z{number}": {"interfaces": [f"eth{number}"], "sources": ["2001:db8::/64"]} for number in range(4)},
            17,
            'iifname "eth0" oifname "eth0" ip6 saddr . ip6 daddr ',
        ),
    ],
)
def test_pairs_of_interfaces_that_have_a_rule_each(zones: dict[str, t.Any], most: int, written: str) -> None:
    pairs = [{"from": one, "to": "routed", "towards": one, "ports": 22} for one in zones]
    if most > 4:
        pairs = [{**pair, "towards": list(zones)} for pair in pairs]
    rules, _ruleset = routed({"zones": zones, "rules": pairs})
    assert (len(rules), rules[0][: len(written)]) == (most, written)


def test_a_zone_of_docker_bridges_is_no_way_out() -> None:
    """All mistakes about the host at once; a bridge that a network card is in too is a way out."""
    variables = {
        "zones": {"web": {"interfaces": ["br-web"]}, "some": {"interfaces": ["br-web", "eth0"]}},
        "rules": [{"to": "routed", "towards": ["some", "web"]}, {"to": "network:db"}],
    }
    with pytest.raises(PolicyError) as caught:
        compile_policy(parse(variables), STATE)
    assert caught.value.errors == [
        "docker_firewall_rules[0].towards: the zone 'web' has no interfaces but bridges of Docker's (br-web); accepted"
        " are others, what reaches containers is to: network:NAME",
        "docker_firewall_rules[1].to: network 'db' is unknown, Docker has no such bridge network; known are web",
    ]
    state = HostState(networks={"web": "br-web"}, interfaces=STATE.interfaces, shared_bridges=("br-web",))
    assert compile_policy(parse({**variables, "rules": variables["rules"][:1]}), state).chains


@pytest.mark.parametrize(
    ("rule", "known", "message"),
    [
        (
            {"from": "network:db", "to": "egress"},
            True,
            "docker_firewall_rules[0].from: network 'db' is unknown, Docker has no such bridge network; known are web",
        ),
        (
            {"to": "network:db"},
            True,
            "docker_firewall_rules[0].to: network 'db' is unknown, Docker has no such bridge network; known are web",
        ),
        (
            {"to": "network:db"},
            False,
            "docker_firewall_rules[0].to: network 'db' is unknown, Docker cannot be asked now; known are none",
        ),
    ],
)
def test_an_unknown_network(rule: dict[str, t.Any], known: bool, message: str) -> None:
    state = HostState(networks=STATE.networks if known else {}, docker_known=known)
    with pytest.raises(PolicyError) as caught:
        compile_policy(parse({"rules": [rule]}), state)
    assert caught.value.errors == [message]


def test_warnings() -> None:
    variables = {"zones": {"lan": {"interfaces": ["eth9", "eth*"]}}, "outside_interfaces": ["ppp*", "eth0"]}
    state = HostState(networks={"web": "br-web"}, interfaces=("lo", "eth0", "br-web", "br-lan"))
    assert compile_policy(parse(variables), state).warnings == [
        "docker_firewall_zones.lan.interfaces: no interface of this host matches 'eth9' now",
        "docker_firewall_outside_interfaces: no interface of this host matches 'ppp*' now",
        "docker_firewall_bridges: 'br-lan' looks like a bridge of Docker's but is not one; it counts as outside",
    ]


def test_each_named_set_belongs_to_one_rule_list() -> None:
    """Two batches of one port, one with two runs: their sets must not share a name."""
    accept, drop = ({"to": "published", "ports": [80], "action": action} for action in ("accept", "drop"))
    variables = {
        "zones": {"a": {"sources": ["192.0.2.0/24"]}, "b": {"sources": ["198.51.100.0/24"]}},
        "rules": [
            {**accept, "from": "a"},
            {**drop, "from": "b"},
            {**accept, "from": "b", "destination": "203.0.113.1"},
        ],
    }
    names = [item.name for item in compile_policy(parse(variables), STATE).sets]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("port", "closed"), [(68, "udp dport 68"), (546, "udp dport 546"), (69, None)])
def test_a_container_on_a_port_of_dhcp_closes_it(port: int, closed: str | None) -> None:
    """An answer of a DHCP server would be one for docker-proxy."""
    policy = parse({"rules": [{"to": "host", "ports": [22]}]})
    rules = next(
        chain.rules
        for chain in compile_policy(policy, HostState(networks={}, published=(("udp", port),))).chains
        if chain.name == "outside"
    )
    answered = {name for name in ("udp dport 68", "udp dport 546") if any(name in rule for rule in rules)}
    assert answered == {"udp dport 68", "udp dport 546"} - {closed}
