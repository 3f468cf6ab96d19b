# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import random
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _firewalld_compile as compiler
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_compile import (
    Halves,
    Other,
    Surroundings,
    Wants,
    halve,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._interfaces import matches
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Limit, Policy, Rule, Zone
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_judge import Packet, judge

GOLDEN = Path(__file__).resolve().parents[2] / "golden_firewalld"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
MLD = ("mld-listener-query",)
STATE = HostState(networks={"bridge": "docker0", "app": "br-0123456789ab"}, interfaces=("eth0", "wg0", "docker0"))
AROUND = Surroundings("2.3.1", ("eth0", "wg0", "docker0", "br-0123456789ab"), icmp_types=MLD)
VPN = {"vpn": {"interfaces": ["wg*"]}, "office": {"sources": ["192.0.2.0/24", "2001:db8:1::/48"]}}


def made(
    *rules: dict[str, t.Any], zones: dict[str, t.Any] | None = None, around: Surroundings = AROUND, **variables: t.Any
) -> Halves:
    policy = parse({"rules": list(rules), "zones": zones or {}, **variables})
    return halve(policy, STATE, around)


def zone(halves: Halves, name: str) -> dict[str, t.Any]:
    return next(each for each in halves.zones if each["name"] == name)


def own_rules(entry: dict[str, t.Any]) -> list[str]:
    """The rich rules without those that are always open."""
    return [text for text in entry["rich_rules"] if 'priority="-32000"' not in text]


def holders(halves: Halves) -> list[str]:
    return [each["by"] for each in halves.held if each["what"].startswith("docker_firewall_rules")]


def test_simple_rules_are_ports_that_everybody_can_read() -> None:
    found = made({"to": "host", "ports": [22, "8000-8010"]}, {"to": "published", "ports": [443]}, {"to": "host", "protocol": "esp"})
    outside = zone(found, "bulkhead-outside")
    assert outside["ports"] == ["22/tcp", "8000-8010/tcp", "443/tcp"]
    assert outside["protocols"] == ["esp"]
    assert own_rules(outside) == []
    assert (outside["target"], outside["forward"], outside["interfaces"]) == ("DROP", False, ["eth0", "wg0"])
    assert holders(found) == ["firewalld", "own table and firewalld", "firewalld"]
    assert [each["name"] for each in found.policies] == ["bulkhead-r-outside"]
    assert found.policies[0]["target"] == "DROP"
    assert found.errors == found.warnings == []


def test_where_the_order_matters_rules_have_priorities() -> None:
    found = made(
        {"from": "office", "to": "host", "ports": [22]},
        {"to": "host", "ports": [22], "action": "drop", "log": "ssh=no: "},
        {"from": "vpn", "to": "host", "protocol": "any"},
        zones=VPN,
    )
    assert own_rules(zone(found, "bulkhead-vpn")) == [
        'rule priority="-30000" family="ipv4" source address="192.0.2.0/24" port port="22" protocol="tcp" accept',
        'rule priority="-30000" family="ipv6" source address="2001:db8:1::/48" port port="22" protocol="tcp" accept',
        'rule priority="-29999" port port="22" protocol="tcp" log prefix="ssh:no: " level="info" limit value="10/s" drop',
        'rule priority="-29998" accept',
    ]


def test_interfaces_of_a_zone_make_a_zone_of_their_own() -> None:
    found = made(
        {"from": "vpn", "to": "host", "ports": [53], "protocol": "udp"},
        {"from": "vpn", "to": "routed", "protocol": "any"},
        {"to": "host", "ports": [22]},
        zones=VPN,
    )
    assert zone(found, "bulkhead-outside")["interfaces"] == ["eth0"]
    assert zone(found, "bulkhead-vpn")["interfaces"] == ["wg0", "wg+"]
    assert zone(found, "bulkhead-vpn")["ports"] == ["53/udp", "22/tcp"]
    assert zone(found, "bulkhead-outside")["ports"] == ["22/tcp"]
    by_name = {each["name"]: each for each in found.policies}
    assert by_name["bulkhead-r-outside"]["rich_rules"] == []
    assert by_name["bulkhead-r-vpn"]["rich_rules"] == ['rule priority="-29999" accept']
    assert by_name["bulkhead-r-vpn"]["egress_zones"] == ["bulkhead-outside", "bulkhead-vpn"]


def test_what_only_the_own_table_can_do_is_left_to_it() -> None:
    found = made(
        {"from": "office", "to": "published", "ports": [5432]},
        {"to": "host", "ports": [22], "limit": "30/minute", "burst": 20},
        {"from": "network:app", "to": "egress", "protocol": "any", "action": "drop"},
        {"to": "network:app", "ports": [80]},
        zones=VPN,
        routed_default="accept",
    )
    assert holders(found) == ["own table and firewalld", "own table and firewalld", "own table", "own table"]
    assert [rule.index for rule in found.table.rules] == [0, 1, 2, 3]
    assert (found.table.host_default, found.table.egress_default) == ("accept", "accept")
    # The limit is counted in one place.
    assert "22/tcp" in zone(found, "bulkhead-outside")["ports"]
    by_name = {each["name"]: each for each in found.policies}
    assert set(by_name) == {"bulkhead-networks", "bulkhead-r-outside"}
    assert by_name["bulkhead-networks"]["target"] == "ACCEPT"
    assert by_name["bulkhead-networks"]["egress_zones"] == ["docker"]
    assert compile_policy(found.table, STATE).chains


def test_by_which_way_packets_leave_is_left_to_the_own_table() -> None:
    found = made(
        {"from": "vpn", "to": "routed", "towards": "office", "protocol": "any"},
        {"to": "routed", "ports": [25], "action": "reject"},
        zones=VPN,
    )
    assert holders(found) == ["own table", "own table"]
    assert "towards" in found.held[1]["why"]
    # What the own table has let pass, firewalld is not to drop.
    assert {(each["name"], each["target"]) for each in found.policies} == {
        ("bulkhead-r-outside", "ACCEPT"),
        ("bulkhead-r-vpn", "ACCEPT"),
    }
    assert (found.table.routed_default, len(found.table.rules)) == ("drop", 2)


def test_containers_and_what_they_start() -> None:
    found = made(
        {"from": "containers", "to": "host", "ports": [53], "protocol": ["tcp", "udp"]},
        {"from": "containers", "to": "egress", "ports": [25], "action": "reject"},
        containers_to_host_default="drop",
        egress_default="accept",
        log_drops=True,
    )
    by_name = {each["name"]: each for each in found.policies}
    to_host = by_name["bulkhead-to-host"]
    assert (to_host["ingress_zones"], to_host["egress_zones"], to_host["target"]) == (["docker"], ["HOST"], "DROP")
    assert to_host["ports"] == ["53/tcp", "53/udp"]
    assert to_host["rich_rules"][-1].startswith('rule priority="32767" log prefix="bulkhead container to host: "')
    egress = by_name["bulkhead-egress"]
    assert (egress["ingress_zones"], egress["egress_zones"], egress["target"]) == (["docker"], ["bulkhead-outside"], "CONTINUE")
    assert egress["rich_rules"] == ['rule priority="-29999" port port="25" protocol="tcp" reject']
    assert found.table.containers_to_host_default == "accept"


def test_the_order_beside_published_rules_is_kept() -> None:
    """The first rule decides whether a port can be dialled at all, and firewalld does not see what Docker forwards."""
    found = made(
        {"from": "vpn", "to": "host", "protocol": "udp"},
        {"from": "office", "to": "host", "protocol": "any", "action": "drop"},
        {"to": "published", "ports": [80]},
        {"to": "host", "ports": [51820], "protocol": "udp"},
        zones=VPN,
    )
    # The second is kept for the third, and the others for the second.
    assert [rule.index for rule in found.table.rules] == [0, 1, 2, 3]
    alone = made({"to": "host", "ports": [22]}, {"to": "host", "ports": [23], "action": "reject"}, {"to": "published", "ports": [80]})
    assert [rule.index for rule in alone.table.rules] == [2]


def test_labels_are_short_and_different() -> None:
    zones = {
        "outsideleft": {"interfaces": ["eth1"]},
        "outsideright": {"interfaces": ["eth2"]},
        "both": {"interfaces": ["eth3"]},
    }
    around = replace(AROUND, interfaces=("eth1", "eth2", "eth3"))
    found = made(*({"from": name, "to": "host", "ports": [22]} for name in zones), zones=zones, around=around)
    names = [each["name"] for each in found.zones]
    assert names == ["bulkhead-both", "bulkhead-outsid2", "bulkhead-outsid3"]
    assert all(len(each["name"]) <= 18 for each in found.policies)


def test_somebody_elses_zones() -> None:
    others = (
        Other("zone", "public", interfaces=("eth0",)),
        Other("zone", "trusted", sources=("192.0.2.9",)),
        Other("policy", "let-in", ingress_zones=("ANY",), egress_zones=("HOST",), opens=True),
        Other("policy", "allow-host-ipv6", ingress_zones=("ANY",), egress_zones=("HOST",), opens=True),
    )
    around = replace(AROUND, others=others)
    refused = made(around=around)
    assert len(refused.errors) == 1
    assert "the zone public has the outside interface eth0: set firewalld_take_interfaces" in refused.errors[0]
    assert ["trusted" in each for each in refused.warnings] == [True, False]
    assert "let-in" in refused.warnings[1]
    taken = halve(Policy(), STATE, around, Wants(take_interfaces=True))
    assert taken.errors == []
    assert taken.zones[-1] == {"name": "public", "absent": {"interfaces": ["eth0"]}}


def test_strict_forward_ports_where_there_is_such_a_thing() -> None:
    wants = Wants(strict_forward_ports=True)
    assert halve(Policy(), STATE, AROUND, wants).settings == {"StrictForwardPorts": "yes"}
    policy = parse({"rules": [{"to": "published", "ports": [80, 443]}, {"to": "host", "ports": [8080]}]})
    state = replace(STATE, published=(("tcp", 80), ("tcp", 8080), ("udp", 443)))
    outside = zone(halve(policy, state, AROUND, wants), "bulkhead-outside")
    # Only what Docker publishes now and the policy opens: firewalld takes everybody else's port away from the host.
    assert outside["forward_ports"] == ["port=80:proto=tcp:toaddr=192.0.0.8"]
    old = halve(Policy(), STATE, replace(AROUND, version="1.3.3"), wants)
    assert old.settings == {}
    assert "which came with 2.3" in old.warnings[0]


def test_what_is_always_open() -> None:
    old = zone(made(ping=False, around=replace(AROUND, icmp_types=())), "bulkhead-outside")["rich_rules"]
    assert not any("echo-request" in text for text in old)
    assert any('address="fe80::/10" protocol value="ipv6-icmp"' in text for text in old)
    new = zone(made(), "bulkhead-outside")["rich_rules"]
    assert any("echo-request" in text for text in new)
    assert any("mld-listener-query" in text for text in new)
    assert any('port="68"' in text for text in new)
    taken = halve(Policy(), replace(STATE, published=(("udp", 68),)), AROUND)
    assert not any('port="68"' in text for text in zone(taken, "bulkhead-outside")["rich_rules"])


def test_patterns_that_begin_alike_have_no_order_in_firewalld() -> None:
    zones = {"one": {"interfaces": ["w*"]}, "two": {"interfaces": ["wg*"]}}
    found = made({"from": ["one", "two"], "to": "host", "ports": [22]}, zones=zones)
    assert not any("wg+" in each["interfaces"] for each in found.zones)
    assert "'wg*'" in found.warnings[0]


def test_ports_that_firewalld_does_not_know() -> None:
    found = made({"to": "host", "protocol": "udplite", "ports": [7]})
    assert found.errors == [
        "docker_firewall_rules[0]: firewalld knows no ports of udplite; leave ports out there, or name other protocols only"
    ]


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    """The policies of the own table's golden files, split (--update-golden writes the result anew)."""
    source = GOLDEN.parent / "golden" / case
    policy = parse(yaml.safe_load((source / "policy.yml").read_text(encoding="utf-8")))
    read = yaml.safe_load((source / "state.yml").read_text(encoding="utf-8"))
    state = HostState(
        networks=read["networks"],
        interfaces=tuple(read["interfaces"]),
        published=tuple((protocol, port) for protocol, port in read.get("published", [])),
    )
    around = replace(AROUND, interfaces=tuple(name for name in read["interfaces"] if name != "lo"))
    found = halve(policy, state, around)
    for each in (*found.zones, *found.policies):
        each["rich_rules"] = own_rules(each)
    parts = {
        "zones": found.zones,
        "policies": found.policies,
        "own table": [rule.path for rule in found.table.rules],
        "held": [f"{each['what']}: {each['by']}" for each in found.held],
        "errors": found.errors,
        "warnings": found.warnings,
    }
    golden = GOLDEN / case / "golden.json"
    text = json.dumps(parts, indent=1) + "\n"
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text.splitlines() == golden.read_text(encoding="utf-8").splitlines()


# -- against the decider ---------------------------------------------------------------------------------------------


ADDRESSES = ["192.0.2.9", "192.0.2.200", "203.0.113.9", "2001:db8:1::9", "2001:db8:2::9"]
HOSTS = {4: ["198.51.100.11", "198.51.100.12"], 6: ["2001:db8::11", "2001:db8::12"]}
ZONES = [
    {"interfaces": ["wg*"]},
    {"sources": ["192.0.2.0/25"]},
    {"sources": ["192.0.2.5-192.0.2.210", "2001:db8:1::/48"]},
    {"interfaces": ["eth1"], "sources": ["203.0.113.0/24", "2001:db8:2::/64"]},
    {"interfaces": ["eth1", "wg0"]},
]
CLASSES = ("eth0", "eth1", "wg0")
PLACE = replace(AROUND, interfaces=(*CLASSES, "docker0", "br-0123456789ab"))


def some_policy(chance: random.Random) -> Policy:
    variables = {f"z{number}": each for number, each in enumerate(ZONES)}
    zones = {**parse({"zones": variables}).zones, "outside": Zone("outside")}
    rules = []
    for index in range(chance.randint(0, 7)):
        target = chance.choice(["host", "host", "published", "published", "egress", "routed", "to-host"])
        inner = target in ("egress", "to-host")
        protocols = chance.choice([("tcp",), ("tcp", "udp"), ("udp",), None])
        if target == "published" and protocols is None:
            protocols = ("tcp", "udp")
        ports = None if protocols is None or chance.random() < 0.2 else tuple(chance.sample([(22, 22), (80, 90), (443, 443)], 2))
        action = chance.choice(["accept", "accept", "drop", "reject"])
        towards = parse({"zones": {"to": {"sources": [chance.choice(["198.51.100.11", "2001:db8::/64"])]}}}).zones["to"]
        there = chance.random() < 0.2
        rules.append(
            Rule(
                index,
                "host" if target == "to-host" else target,
                action,
                zones=() if inner else tuple(chance.sample(list(zones.values()), chance.randint(1, 2))),
                networks=("containers",) if inner else (),
                protocols=protocols,
                ports=ports,
                destinations4=towards.sources4 if there else (),
                destinations6=towards.sources6 if there else (),
                family=chance.choice([None, None, None, "ipv4", "ipv6"]),
                log=chance.choice([None, None, None, "seen: "]),
                limit=Limit(5, "minute", 5) if action == "accept" and chance.random() < 0.15 else None,
            )
        )
    return Policy(
        zones=zones,
        rules=tuple(rules),
        host_default=chance.choice(["drop", "drop", "accept"]),
        egress_default=chance.choice(["accept", "drop", "reject"]),
        containers_to_host_default=chance.choice(["accept", "drop"]),
        routed_default=chance.choice(["accept", "drop"]),
    )


def packets(chance: random.Random) -> t.Iterator[Packet]:
    for source in ADDRESSES:
        family = 6 if ":" in source else 4
        yield Packet(source, chance.choice(HOSTS[family]), chance.choice(["tcp", "udp"]), chance.choice([22, 80, 443, 999]))


def zone_of(halves: Halves, interface: str) -> dict[str, t.Any]:
    return next(each for each in halves.zones if interface in each["interfaces"])


def both(first: str, second: str) -> str:
    """The verdict of a packet that has to pass two."""
    return second if first == "accept" else first


def group_says(policy: Policy, group: str, default: str, packet: Packet, interface: str) -> str:
    """The first rule that matches, read as docs/policy.md says it."""
    for rule in policy.rules:
        if compiler._group(rule) != group:
            continue
        spoken = replace(rule, target="host", zones=rule.zones or (Zone("outside"),), networks=())
        alone = replace(policy, rules=(spoken,), host_default="drop")
        dial = Dial(packet.source, packet.destination, packet.protocol, packet.port, interface)
        if decide(alone, dial, published=False).reason == rule.path:
            return rule.action
    return default


def through(halves: Halves, ingress: str, egress: str, packet: Packet) -> str:
    """What the policies between two zones say, Docker's zone accepting the rest."""
    for each in halves.policies:
        if ingress in each["ingress_zones"] and egress in each["egress_zones"]:
            verdict = judge(each, packet)
            if verdict != "continue":
                return verdict
    return "accept" if ingress == "docker" else "nothing"


@pytest.mark.parametrize("seed", range(400))
def test_both_halves_together_say_what_the_policy_says(seed: int) -> None:
    chance = random.Random(seed)
    policy = some_policy(chance)
    published = (("tcp", 80), ("udp", 443))
    state = replace(STATE, interfaces=PLACE.interfaces, published=published)
    halves = halve(policy, state, PLACE)
    assert halves.errors == []
    for packet in packets(chance):
        for interface in CLASSES:
            dial = Dial(packet.source, packet.destination, packet.protocol, packet.port, interface)
            entry = zone_of(halves, interface)
            told = f"{policy}\n{packet} {interface}\n{entry}\n{halves.table}"
            # Ports that Docker forwards never come to a zone.
            forwarded = decide(policy, dial, published=True).verdict
            assert decide(halves.table, dial, published=True).verdict == forwarded, told
            if (packet.protocol, packet.port) not in published:
                wanted = decide(policy, dial, published=False)
                table = decide(halves.table, dial, published=False)
                assert both(table.verdict, judge(entry, packet)) == wanted.verdict, told
                assert wanted.limited == (table.verdict == "accept" and table.limited), told
            routed = group_says(policy, "routed", policy.routed_default, packet, interface)
            # What the own table holds alone, it was given.
            if "routed" in {compiler._group(rule) for rule in halves.table.rules}:
                assert halves.table.routed_default == policy.routed_default
                routed = "accept"
            assert through(halves, entry["name"], entry["name"], packet) == routed, told
        for group, default, towards in (
            ("egress", policy.egress_default, zone_of(halves, "eth0")["name"]),
            ("to_host", policy.containers_to_host_default, "HOST"),
        ):
            if any(compiler._group(rule) == group for rule in halves.table.rules):
                continue
            assert through(halves, "docker", towards, packet) == group_says(policy, group, default, packet, "eth0")


def test_no_interface_is_left_out() -> None:
    found = made({"from": "vpn", "to": "host", "ports": [22]}, zones=VPN)
    named = [name for each in found.zones for name in each["interfaces"]]
    assert sorted(named) == ["eth0", "wg+", "wg0"]
    assert not any(matches("br-*", name) or name == "docker0" for name in named)
