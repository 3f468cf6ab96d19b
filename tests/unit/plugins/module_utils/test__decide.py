# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reasons; that the verdicts are the kernel's is in tests/integration/test_policy_packets.py."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Dial, decide, decide_routed
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse

ZONES = {"lan": {"interfaces": ["eth1"]}, "v4": {"sources": ["192.0.2.0/24"]}}
SSH = {"to": "host", "ports": [22]}
WEB = {"to": "published", "ports": [80]}
DEFAULT = "docker_firewall_host_default"
R = "docker_firewall_rules[{}]"


@pytest.mark.parametrize(
    ("variables", "port", "published", "verdict", "reason"),
    [
        ({}, 22, False, "drop", DEFAULT),
        ({"host_default": "accept"}, 22, False, "accept", DEFAULT),
        ({"host_default": "accept"}, 80, True, "drop", "no rule to: published"),
        ({"rules": [SSH]}, 22, False, "accept", R.format(0)),
        ({"rules": [SSH]}, 22, True, "drop", "no rule to: published (docker_firewall_rules[0] is to: host)"),
        ({"rules": [{**SSH, "ports": 80}, WEB]}, 80, True, "accept", R.format(1)),
        ({"rules": [WEB]}, 80, None, "accept", R.format(0)),
        ({"rules": [{**WEB, "from": "lan", "action": "reject"}, WEB]}, 80, True, "accept", R.format(1)),
        ({"rules": [{**WEB, "from": "v4", "action": "reject"}, WEB]}, 80, True, "reject", R.format(0)),
        ({"rules": [{**SSH, "destination": "198.51.100.2"}]}, 22, False, "drop", DEFAULT),
        ({"rules": [{**SSH, "family": "ipv6"}]}, 22, False, "drop", DEFAULT),
        ({"rules": [{**SSH, "protocol": "udp"}]}, 22, False, "drop", DEFAULT),
        ({"rules": [{"to": "host", "from": "containers"}]}, 22, False, "drop", DEFAULT),
        ({"outside_interfaces": ["eth1"]}, 22, False, "accept", "interface eth0 is not in docker_firewall_outside_interfaces"),
        ({"outside_interfaces": ["eth*"]}, 22, False, "drop", DEFAULT),
    ],
)  # fmt: skip
def test_verdict_and_reason(
    variables: dict[str, t.Any], port: int, published: bool | None, verdict: str, reason: str
) -> None:
    dial = Dial("192.0.2.9", "198.51.100.1", "tcp", port, "eth0")
    decision = decide(parse({"zones": ZONES, **variables}), dial, published)
    assert (decision.verdict, decision.reason, decision.limited) == (verdict, reason, False)


@pytest.mark.parametrize(
    ("source", "destination"),
    [("::ffff:192.0.2.9", "::ffff:198.51.100.1"), ("192.0.2.9", "198.51.100.1")],
)
def test_a_mapped_address_is_ipv4(source: str, destination: str) -> None:
    policy = parse({"zones": ZONES, "rules": [{**SSH, "from": "v4", "family": "ipv4"}]})
    assert decide(policy, Dial(source, destination, "tcp", 22)).verdict == "accept"


def test_a_scope_is_no_part_of_the_address() -> None:
    policy = parse({"zones": {"near": {"sources": ["fe80::/10"]}}, "rules": [{**SSH, "from": "near"}]})
    assert decide(policy, Dial("fe80::1%eth0", "fe80::2%eth0", "tcp", 22)).verdict == "accept"


def test_a_limit_is_told() -> None:
    policy = parse({"rules": [{**SSH, "limit": "1/minute"}]})
    assert decide(policy, Dial("192.0.2.9", "198.51.100.1", "tcp", 22)).limited is True


def test_an_unknown_interface_is_in_every_zone() -> None:
    policy = parse({"zones": ZONES, "rules": [{**SSH, "from": "lan"}]})
    assert decide(policy, Dial("192.0.2.9", "198.51.100.1", "tcp", 22)).verdict == "accept"
    assert decide(policy, Dial("192.0.2.9", "198.51.100.1", "tcp", 22, "eth0")).verdict == "drop"


@pytest.mark.parametrize(
    ("rule", "leaving", "verdict", "reason"),
    [
        ({"towards": "lan"}, "eth1", "accept", R.format(0)),
        ({"towards": "lan"}, "eth0", "drop", "docker_firewall_routed_default"),
        ({"towards": "v4"}, "eth0", "drop", "docker_firewall_routed_default"),
        ({"towards": ["v4", "outside"]}, "eth0", "accept", R.format(0)),
        ({"towards": "there"}, "eth1", "accept", R.format(0)),
        ({"towards": "there"}, "eth0", "drop", "docker_firewall_routed_default"),
        ({"towards": "there", "action": "reject"}, "eth1", "reject", R.format(0)),
        ({"towards": "lan", "to": "egress", "from": "containers"}, "eth1", "drop", "docker_firewall_routed_default"),
        ({}, "eth1", "accept", R.format(0)),
    ],
)
def test_where_forwarded_packets_leave(rule: dict[str, t.Any], leaving: str, verdict: str, reason: str) -> None:
    zones = {**ZONES, "there": {"interfaces": ["eth1"], "sources": ["198.51.100.0/24"]}}
    policy = parse({"zones": zones, "rules": [{"to": "routed", "ports": [22], **rule}]})
    decision = decide_routed(policy, Dial("192.0.2.9", "198.51.100.1", "tcp", 22, "eth0"), leaving)
    assert (decision.verdict, decision.reason) == (verdict, reason)
