# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.bulkhead.docker_nftables.plugins.filter.expectations import FilterModule

FILTERS = FilterModule().filters()
PROBES = "__probes"
FACTS: dict[str, t.Any] = {
    "interfaces": [{"name": "eth0", "up": True, "addresses": ["198.51.100.11/24"]}],
    "published": [{"protocol": "tcp", "host_port": 8080, "host_addresses": ["0.0.0.0"]}],
}
POLICY: dict[str, t.Any] = {"rules": [{"to": "host", "ports": [22]}]}


@pytest.mark.parametrize(
    ("hosts", "probers", "pattern"),
    [
        ("", "", "all"),
        ("", "edge", "all:!edge"),
        ("", ["a", "b"], "all:!a:!b"),
        ("", "a:b", "all:!a:!b"),
        ("docker", "edge", "docker"),
        (["d1", "d2"], ["d1"], "d1:d2"),
    ],
)
def test_which_hosts_are_verified(hosts: t.Any, probers: t.Any, pattern: str) -> None:
    assert FILTERS["verify_hosts"](hosts, probers) == pattern


@pytest.mark.parametrize(("probers", "pattern"), [("", "all"), ("edge", "edge"), (["a", "b"], "a:b")])
def test_which_hosts_probe(probers: t.Any, pattern: str) -> None:
    assert FILTERS["verify_probers"](probers) == pattern


def test_a_plan_has_ping_and_ports_for_every_address() -> None:
    planned = FILTERS["verify_plan"](POLICY, FACTS, ports=[9000, "53/udp"])
    targets = [(one["address"], one["protocol"], one.get("port")) for one in planned["targets"]]
    ports = [("icmp", None), ("tcp", 22), ("tcp", 8080), ("tcp", 9000), ("udp", 53)]
    assert set(targets) >= {("198.51.100.11", *port) for port in ports}
    assert planned["explicit"] == []


def test_named_addresses_replace_those_of_the_host() -> None:
    planned = FILTERS["verify_plan"](POLICY, FACTS, addresses="192.0.2.80")
    assert {one["address"] for one in planned["targets"]} == {"192.0.2.80"}
    assert planned["explicit"] == ["192.0.2.80"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ports": ["70000"]}, "docker_firewall_verify_ports[0]: '70000' is not a port; accepted are 1 to 65535"),
        ({"ports": [80, "80/sctp"]}, "docker_firewall_verify_ports[1]: '80/sctp' is not a port"),
        ({"addresses": ["web.example"]}, "docker_firewall_verify_addresses[0]: 'web.example' is not an IPv4 or IPv6"),
    ],
)
def test_bad_input_names_the_variable(arguments: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        FILTERS["verify_plan"](POLICY, FACTS, **arguments)
    assert message in str(caught.value)


def test_a_bad_policy_and_a_host_without_addresses_are_told() -> None:
    with pytest.raises(AnsibleFilterError, match="docker_firewall_rules"):
        FILTERS["verify_plan"]({"rules": [{"to": "moon"}]}, FACTS)
    with pytest.raises(AnsibleFilterError, match="no address that somebody outside could dial"):
        FILTERS["verify_plan"](POLICY, {"interfaces": []})


def test_nobody_probes_itself_and_only_hosts_with_a_plan_are_probed() -> None:
    variables = {"d1": {"p": {"targets": [1]}}, "d2": {"p": {"targets": [2]}}, "edge": {}}
    assert FILTERS["verify_jobs"](variables, variables, "d1", "p") == [{"host": "d2", "targets": [2]}]
    assert [job["host"] for job in FILTERS["verify_jobs"](variables, variables, "edge", "p")] == ["d1", "d2"]


def probed(port: int, result: str, protocol: str = "tcp") -> dict[str, t.Any]:
    return {
        "address": "198.51.100.11",
        "protocol": protocol,
        "port": port,
        "result": result,
        "detail": "",
        "source_address": "198.51.100.50",
    }


def compared(
    *found: dict[str, t.Any], strict: bool = False, policy: t.Any = None, host: str = "d1"
) -> dict[str, t.Any]:
    variables = {"d1": {}, "edge": {PROBES: {"results": [{"item": {"host": host}, "probed": list(found)}]}}}
    planned = {"explicit": [], "left_out": 0}
    return FILTERS["verify_compare"](
        policy or POLICY, FACTS, planned, variables, list(variables), "d1", PROBES, strict=strict
    )


def test_agreement_is_no_failure() -> None:
    result = compared(probed(22, "open"), probed(8080, "timeout"), probed(0, "open", "icmp"))
    assert result["failures"] == [] and result["counts"]["agrees"] == 3


def test_disagreements_are_failures() -> None:
    result = compared(probed(22, "timeout"), probed(8080, "open"))
    assert result["failures"] == [
        "from edge expected passed, found timeout: tcp 22",
        "from edge expected closed, found open: tcp 8080",
    ]
    assert [one["port"] for one in result["disagreements"]] == [22, 8080]


def test_silent_udp_fails_only_when_strict() -> None:
    policy = {"rules": [{"to": "host", "ports": [53], "protocol": "udp"}]}
    found = (probed(53, "timeout", "udp"), probed(0, "open", "icmp"))
    relaxed, strict = (compared(*found, policy=policy, strict=strict) for strict in (False, True))
    assert relaxed["failures"] == [] and relaxed["counts"]["inconclusive"] == 1
    assert any("udp port 53" in line for line in relaxed["report"])
    assert strict["failures"] == ["from edge expected passed, found timeout: udp 53"]


def test_silence_alone_is_not_a_proof() -> None:
    result = compared(probed(8080, "timeout"), probed(1, "timeout"))
    assert result["counts"]["disagrees"] == 0
    assert result["failures"] == [
        "nothing answered at all, so nothing is proven: nothing at 198.51.100.11 answered edge"
    ]


def test_nobody_who_probed_is_a_failure() -> None:
    assert "no host probed d1" in compared(probed(22, "open"), host="other")["failures"][0]


def test_a_probe_that_failed_is_a_failure() -> None:
    variables = {"edge": {PROBES: {"results": [{"item": {"host": "d1"}, "failed": True, "msg": "no python"}]}}}
    result = FILTERS["verify_compare"](POLICY, FACTS, {}, variables, ["edge"], "d1", PROBES)
    assert result["failures"] == ["edge could not probe: no python"]
