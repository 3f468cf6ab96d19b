# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml
from ansible_collections.bulkhead.docker_nftables.plugins.filter.firewalld import KNOWN, FilterModule, firewalld_plan

ROLE = Path(__file__).resolve().parents[4] / "roles/firewalld"
FACTS: dict[str, t.Any] = {
    "available": True,
    "networks": [{"name": "bridge", "bridge": "docker0"}],
    "published": [{"protocol": "tcp", "host_port": 8080}],
    "interfaces": [
        {"name": "lo", "kind": "loopback"},
        {"name": "eth0", "kind": None, "master": None},
        {"name": "bond0", "kind": "bond"},
        {"name": "eth1", "kind": None, "master": "bond0"},
        {"name": 'e"; x', "kind": None},
        {"name": "docker0", "is_bridge": True},
        {"name": "veth1", "master": "docker0", "kind": "veth"},
    ],
    "ssh_connection": {"client_address": "192.0.2.9", "server_address": "192.0.2.1", "server_port": 22, "interface": "eth0"},
}
SEEN: dict[str, t.Any] = {
    "version": "2.3.1",
    "zones": [
        {"name": "public", "ours": False, "interfaces": [], "sources": []},
        {"name": "bulkhead-outside", "ours": True, "interfaces": ["eth0"], "sources": []},
    ],
    "policies": [
        {
            "name": "allow-host-ipv6",
            "ours": False,
            "ingress_zones": ["ANY"],
            "egress_zones": ["HOST"],
            "target": "CONTINUE",
            "opens": True,
        }
    ],
    "icmp_types": ["mld-listener-query"],
    "docker_zone": {"exists": True, "interfaces": ["docker0"], "missing": []},
}
POLICY = {"rules": [{"to": "host", "ports": [22]}, {"to": "published", "ports": [443]}]}


def plan(
    policy: dict[str, t.Any] | None = None,
    variables: dict[str, t.Any] | None = None,
    names: t.Sequence[str] = (),
    seen: dict[str, t.Any] | None = None,
    **facts: t.Any,
) -> dict[str, t.Any]:
    return firewalld_plan(policy or POLICY, {**FACTS, **facts}, {**SEEN, **(seen or {})}, variables or {}, names)


def test_both_halves() -> None:
    found = plan()
    assert (found["errors"], found["refusal"], found["lockout"], found["warnings"]) == ([], "", "", [])
    (zone,) = found["zones"]
    # A port of a bond, or of a bridge, is never what packets come in by.
    assert zone["interfaces"] == ["bond0", "eth0"]
    assert zone["ports"] == ["22/tcp", "443/tcp"]
    text = str(found["ruleset"])
    assert "443" in text
    assert "host_default" not in text
    assert [each["by"] for each in found["held"]][:2] == ["firewalld", "own table and firewalld"]
    assert found["report"][0] == "docker_firewall_rules[0]: accept to host - held by firewalld"
    assert not found["needs_docker_zone"]


def test_what_is_published_and_not_opened_is_closed_in_the_own_table() -> None:
    """The zone does not see it, and the table's own default is to accept."""
    chain = next(each for each in plan()["ruleset"]["chains"] if each["name"] == "outside")
    assert "published_now" in str(chain)


def test_a_policy_is_refused_by_the_words_of_its_own_filter() -> None:
    found = plan({"rules": [{"to": "nowhere"}]})
    assert "docker_firewall_rules[0].to" in found["refusal"]
    assert found["zones"] == []
    assert plan({"rules": [{"to": "published", "ports": [443]}]})["lockout"].startswith("The policy would drop new SSH")
    assert plan({"rules": [{"to": "network:db", "ports": [1]}]}, available=False, networks=[])["needs_docker"] != ""


def test_hosts_that_are_refused() -> None:
    zones = [{"name": "work", "ours": False, "interfaces": ["eth0"], "sources": []}]
    found = plan(names=["firewalld_take_interface"], seen={"zones": zones}, layout={"layout": "own_table"})
    assert "3 reasons; nothing was changed" in found["refusal"]
    assert "did you mean firewalld_take_interfaces" in found["errors"][0]
    assert "nftables_conf_state: absent" in found["errors"][1]
    assert "the zone work has the outside interface eth0" in found["errors"][2]
    taken = plan(variables={"take_interfaces": True}, seen={"zones": zones})
    assert taken["errors"] == []
    assert taken["zones"][-1] == {"name": "work", "absent": {"interfaces": ["eth0"]}}


def test_a_docker_that_knows_nothing_of_firewalld() -> None:
    found = plan(seen={"docker_zone": {"exists": False, "interfaces": [], "missing": ["docker0"]}})
    assert found["needs_docker_zone"]


def test_the_roles_variables_are_those_that_are_known() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    assert set(defaults) == set(options) == set(KNOWN) - {"firewalld_held"}
    assert {name: value["default"] for name, value in options.items()} == defaults
    assert list(FilterModule().filters()) == ["firewalld_plan"]
