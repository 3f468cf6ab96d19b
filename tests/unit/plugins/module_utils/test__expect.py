# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _expect
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._expect import Expectation, View, expect, plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._expect_compare import (
    Finding,
    Try,
    compare,
    judge,
    summary,
    table,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse

FACTS: dict[str, t.Any] = {
    "available": True,
    "interfaces": [
        {"name": "lo", "up": True, "addresses": ["127.0.0.1/8", "::1/128"]},
        {"name": "eth0", "up": True, "addresses": ["198.51.100.11/24", "2001:db8::11/64", "fe80::1/64"]},
        {"name": "eth1", "up": True, "addresses": ["203.0.113.11/24"]},
        {"name": "docker0", "up": True, "addresses": ["172.17.0.1/16"], "docker_bridge": True},
    ],
    "published": [
        {"protocol": "tcp", "host_port": 8080, "host_addresses": ["0.0.0.0", "::"]},
        {"protocol": "tcp", "host_port": 8090, "host_addresses": ["198.51.100.11"]},
        {"protocol": "tcp", "host_port": 9001, "host_addresses": ["127.0.0.1"]},
        {"protocol": "udp", "host_port": 53, "host_addresses": ["0.0.0.0"]},
        {"protocol": "sctp", "host_port": 99, "host_addresses": ["0.0.0.0"]},
    ],
    "host_network_containers": [{"name": "agent", "exposed_ports": ["9100/tcp"]}],
    "ssh_connection": {"server_address": "198.51.100.11", "server_port": 2222, "client_address": "198.51.100.9"},
}
HOST = _expect.view(FACTS)
PEER, OFFICE, FAR = "198.51.100.50", "198.51.100.60", "192.0.2.77"
V4, V6, SECOND = "198.51.100.11", "2001:db8::11", "203.0.113.11"

POLICY: dict[str, t.Any] = {
    "zones": {"office": {"sources": [OFFICE, "2001:db8::60"]}, "dmz": {"interfaces": ["eth1"]}},
    "rules": [
        {"to": "host", "ports": [2222]},
        {"to": "published", "ports": [443], "limit": "3/second"},
        {"from": "office", "to": "published", "ports": [8080, 8090]},
        {"from": "dmz", "to": "host", "ports": [25]},
        {"to": "host", "ports": [9999], "action": "reject"},
        {"to": "host", "ports": [9001]},
    ],
}


def verdict(source: str, destination: str, protocol: str, port: int, **changes: t.Any) -> str:
    return expect(parse({**POLICY, **changes}), HOST, source, destination, protocol, port).verdict


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "port", "expected"),
    [
        (PEER, V4, "tcp", 2222, "accept"),
        (PEER, V4, "tcp", 8080, "drop"),
        (OFFICE, V4, "tcp", 8080, "accept"),
        ("2001:db8::60", V6, "tcp", 8080, "accept"),
        ("2001:db8::50", V6, "tcp", 8080, "drop"),
        (OFFICE, V4, "tcp", 8090, "accept"),
        (PEER, V4, "tcp", 9001, "accept"),  # published on loopback only: here it is a port of the host
        (PEER, V4, "tcp", 9999, "reject"),
        (PEER, V4, "tcp", 25, "drop"),
        ("203.0.113.50", SECOND, "tcp", 25, "accept"),
        ("203.0.113.50", V4, "tcp", 25, "accept"),  # arrives at eth1 although the address is eth0's
        (FAR, SECOND, "tcp", 25, "accept"),  # routed: the interface that has the address
        (FAR, V4, "tcp", 25, "drop"),
        (FAR, "192.0.2.1", "tcp", 25, "unknown"),  # no interface has it, and the policy differs
        (FAR, "192.0.2.1", "tcp", 2222, "accept"),  # the same on every interface
        (PEER, V4, "icmp", 0, "accept"),
        (V4, V4, "tcp", 8080, "unknown"),
        ("127.0.0.1", V4, "tcp", 8080, "unknown"),
    ],
)
def test_expectations(source: str, destination: str, protocol: str, port: int, expected: str) -> None:
    assert verdict(source, destination, protocol, port) == expected


def test_an_open_host_is_closed_for_every_port_that_docker_publishes() -> None:
    ports = [1234, 8080, 8090, 9001]
    found = [verdict(PEER, SECOND, "tcp", port, host_default="accept", rules=[]) for port in ports]
    assert found == ["accept", "drop", "drop", "drop"]


@pytest.mark.parametrize(
    ("changes", "source", "expected"),
    [
        ({"ping": False}, PEER, "drop"),
        ({"ping": False, "rules": [{"to": "host", "protocol": "icmp"}]}, PEER, "accept"),
        ({"ping": False, "outside_interfaces": ["eth1"]}, PEER, "accept"),
        ({"ping": False, "host_default": "accept"}, PEER, "accept"),
    ],
)
def test_ping(changes: dict[str, t.Any], source: str, expected: str) -> None:
    assert verdict(source, V4, "icmp", 0, **changes) == expected


def test_reasons_name_the_variable() -> None:
    policy = parse(POLICY)
    assert expect(policy, HOST, OFFICE, V4, "tcp", 8080).reason == "docker_firewall_rules[2]"
    assert expect(policy, HOST, PEER, V4, "tcp", 5).reason == "docker_firewall_host_default"
    assert expect(policy, HOST, PEER, V4, "tcp", 443).limited


def test_addresses_are_those_that_somebody_outside_can_dial() -> None:
    assert _expect.outside_addresses(HOST) == [V4, SECOND, V6]


def test_the_plan_has_everything_that_could_be_open_and_the_ports_beside_it() -> None:
    ports, left_out = plan(parse(POLICY), HOST, [("udp", 123)])

    assert left_out == 0 and len(ports) == len(set(ports))
    wanted = {("tcp", 8080), ("tcp", 8090), ("tcp", 9001), ("udp", 53), ("tcp", 9100), ("tcp", 2222), ("udp", 123)}
    assert wanted | {("tcp", 442), ("tcp", 444), ("tcp", 24), ("tcp", 26)} | set(_expect.SENTINELS) <= set(ports)
    assert not [port for port in ports if port[0] not in ("tcp", "udp")]


def test_a_very_large_policy_is_sampled_evenly_and_says_so() -> None:
    policy = parse({"rules": [{"to": "host", "ports": list(range(1000, 9000, 4))}]})

    ports, left_out = plan(policy, HOST, [])

    numbers = [port for protocol, port in ports if protocol == "tcp" and 999 <= port <= 8998]
    assert len(ports) < _expect.MOST_RULE_PORTS + 30
    assert left_out > 5000
    assert min(numbers) < 1100 and max(numbers) > 8500


EXPECTED = {word: Expectation(word, "x") for word in ("accept", "drop", "reject", "unknown")}
EXPECTED["limited"] = Expectation("accept", "x", limited=True)


@pytest.mark.parametrize(
    ("expected", "protocol", "by_result"),
    [
        ("accept", "tcp", "agrees agrees disagrees disagrees unknown"),
        ("accept", "udp", "agrees agrees inconclusive disagrees unknown"),
        ("accept", "icmp", "agrees agrees disagrees disagrees unknown"),
        ("limited", "tcp", "agrees agrees inconclusive disagrees unknown"),
        ("drop", "tcp", "disagrees disagrees agrees disagrees unknown"),
        ("drop", "udp", "disagrees disagrees agrees disagrees unknown"),
        ("reject", "tcp", "disagrees agrees disagrees agrees unknown"),
        ("reject", "udp", "disagrees agrees inconclusive agrees unknown"),
        ("unknown", "tcp", "unknown unknown unknown unknown unknown"),
    ],
)
def test_judgements(expected: str, protocol: str, by_result: str) -> None:
    results = ("open", "refused", "timeout", "unreachable", "error")
    assert [judge(EXPECTED[expected], protocol, found) for found in results] == by_result.split()


def one(port: int, found: str, source: str | None = PEER, address: str = V4, protocol: str = "tcp") -> Try:
    return Try("peer", source, address, protocol, port, found)


def judged(host: View, *tries: Try, certain: tuple[str, ...] = ()) -> list[str]:
    return [finding.judgement for finding in compare(parse(POLICY), host, tries, certain).findings]


def test_silence_of_an_address_on_the_same_network_counts() -> None:
    assert judged(HOST, one(2222, "timeout"), one(8080, "timeout")) == ["disagrees", "agrees"]


def test_silence_of_a_routed_address_proves_nothing_unless_it_was_named() -> None:
    tries = [one(2222, "timeout", FAR), one(8080, "timeout", FAR)]
    assert judged(HOST, *tries) == ["unknown", "unknown"]
    assert judged(HOST, *tries, certain=(V4,)) == ["disagrees", "agrees"]
    assert judged(HOST, *tries, one(0, "open", FAR, protocol="icmp")) == ["disagrees", "agrees", "agrees"]


def test_whether_anything_answered_is_told() -> None:
    assert not compare(parse(POLICY), HOST, [one(8080, "timeout")]).answered
    assert compare(parse(POLICY), HOST, [one(8080, "open")]).answered
    # The host itself answers its own packets whatever the policy says.
    assert not compare(parse(POLICY), HOST, [one(8080, "open", V4)]).answered


def test_what_could_not_be_sent_is_unknown() -> None:
    report = compare(parse(POLICY), HOST, [one(8080, "error", None), one(2222, "open")])
    assert [finding.judgement for finding in report.findings] == ["unknown", "agrees"]


def test_the_line_of_a_disagreement() -> None:
    report = compare(parse(POLICY), HOST, [one(8080, "open"), one(2222, "open")])
    assert [finding.line("web1") for finding in report.of("disagrees")] == [
        "from peer (198.51.100.50) to web1 (198.51.100.11) tcp port 8080: expected closed"
        " (decided by no rule to: published), found open"
    ]


def test_the_table_and_the_summary() -> None:
    tries = [one(8080, "open"), one(8090, "open"), one(2222, "refused"), one(1, "timeout"), one(0, "timeout")]
    report = compare(parse(POLICY), HOST, [*tries[:4], Try("peer", "2001:db8::50", V6, "icmp", 0, "timeout")])
    assert [row.split() for row in table(report)[1:]] == [
        ["peer", "IPv4", "tcp", "4", "1", "1", "2", "0", "0"],
        ["peer", "IPv6", "icmp", "1", "0", "0", "1", "0", "0"],
    ]
    assert summary(report.of("disagrees")) == [
        "from peer expected closed, found open: tcp 8080, 8090",
        "from peer expected passed, found timeout: ping",
    ]


def test_findings_know_their_host() -> None:
    finding = Finding(one(53, "timeout", protocol="udp"), EXPECTED["accept"], "inconclusive")
    assert finding.line("h").startswith("from peer (198.51.100.50) to h (198.51.100.11) udp port 53: expected passed")
