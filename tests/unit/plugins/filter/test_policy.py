# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.filter import policy as plugin

FACTS: dict[str, t.Any] = {
    "available": True,
    "networks": [
        {"name": "bridge", "bridge": "docker0"},
        {"name": "web", "bridge": "br-web"},
        {"name": "host", "bridge": None},
    ],
    "published": [
        {"protocol": "tcp", "host_port": 8080},
        {"protocol": "tcp", "host_port": 8080},
        {"protocol": "udp", "host_port": 53},
        {"protocol": "tcp", "host_port": None},
    ],
    "interfaces": [
        {"name": "lo"},
        {"name": "eth0"},
        {"name": "br-lan", "is_bridge": True},
        {"name": "docker0", "is_bridge": True},
        {"name": "br-web", "is_bridge": True},
        {"name": "veth1", "master": "br-web", "kind": "veth"},
    ],
}
SSH = {"client_address": "192.0.2.9", "server_address": "192.0.2.1", "server_port": 22, "interface": "eth0"}


def test_host_state() -> None:
    state = plugin.host_state(FACTS)
    assert state.networks == {"bridge": "docker0", "web": "br-web"}
    assert state.published == (("tcp", 8080), ("udp", 53))
    assert state.interfaces == ("br-lan", "br-web", "docker0", "eth0", "lo", "veth1")
    assert (state.other_bridges, state.shared_bridges, state.docker_known) == (("br-lan",), (), True)


def test_a_bridge_with_a_network_card_in_it_is_shared() -> None:
    card = {"name": "eth1", "master": "br-web", "kind": None}
    assert plugin.host_state({**FACTS, "interfaces": [*FACTS["interfaces"], card]}).shared_bridges == ("br-web",)


def test_a_host_without_docker() -> None:
    state = plugin.host_state({"available": False})
    assert (state.networks, state.published, state.docker_known) == ({}, (), False)


def test_a_plan() -> None:
    plan = plugin.policy_plan({"rules": [{"to": "host", "ports": [22]}]}, {**FACTS, "ssh_connection": SSH})
    assert (plan["errors"], plan["refusal"], plan["lockout"]) == ([], "", "")
    assert plan["ruleset"]["table"] == "bulkhead"
    assert plan["warnings"] == [
        "docker_firewall_bridges: 'br-lan' looks like a bridge of Docker's but is not one; it counts as outside"
    ]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([{"to": "host", "ports": [70000]}, {"to": "nowhere"}], "2 mistakes"),
        ([{"to": "network:db"}], "1 mistake"),
    ],
)
def test_a_plan_with_mistakes(rules: list[t.Any], words: str) -> None:
    plan = plugin.policy_plan({"rules": rules}, FACTS)
    assert plan["refusal"].startswith(
        f"The firewall policy has {words}; nothing was changed.\n  - docker_firewall_rules[0]"
    )
    assert len(plan["errors"]) == int(words[0])
    assert all(f"  - {sentence}" in plan["refusal"].splitlines() for sentence in plan["errors"])


@pytest.mark.parametrize(
    ("variables", "connection", "refused"),
    [
        ({"rules": [{"to": "host", "ports": [22]}]}, SSH, False),
        ({"rules": [{"to": "published", "ports": [22]}]}, SSH, False),
        ({"host_default": "accept"}, SSH, False),
        ({"outside_interfaces": ["eth1"]}, SSH, False),
        ({}, {**SSH, "interface": "lo"}, False),
        ({}, None, False),
        ({}, SSH, True),
        ({"rules": [{"to": "host", "ports": [2222]}]}, SSH, True),
        ({"rules": [{"to": "host", "ports": [22]}]}, {**SSH, "server_port": 2222}, True),
    ],
)
def test_a_lockout_is_seen(variables: dict[str, t.Any], connection: dict[str, t.Any] | None, refused: bool) -> None:
    said = plugin.policy_plan(variables, {**FACTS, "ssh_connection": connection})["lockout"]
    if refused and connection:
        assert said.startswith(
            "The policy would drop new SSH connections from 192.0.2.9 to"
            f" 192.0.2.1 port {connection['server_port']}, which is how Ansible reaches this host"
        )
    else:
        assert said == ""


def test_an_interface_whose_name_nft_reads_otherwise_is_left_out() -> None:
    names = ("br0", "e*", 'b"x')
    found = plugin.host_state({"interfaces": [{"name": name, "is_bridge": True} for name in names]})
    assert found.other_bridges == ("br0",) and found.interfaces == ("br0",)
