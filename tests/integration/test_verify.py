# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook verify tells an open host from a hardened one, by packets of two neighbours."""

from __future__ import annotations

import typing as t

import pytest

from lab import Host
from lab.ansible import PlaybookResult, run_playbook

VERIFY = "bulkhead.docker_nftables.verify"

# SSH and the web for everybody; two more ports, one of them UDP, and a rejection for the office.
POLICY = {
    "docker_firewall_hosts": "docker_hosts",
    "docker_firewall_zones": {"office": {"sources": ["198.51.100.60", "2001:db8::60"]}},
    "docker_firewall_rules": [
        {"to": "host", "ports": [22]},
        {"to": "published", "ports": [80, 443]},
        {"from": "office", "to": "published", "ports": [8080, "7001-7002"]},
        {"from": "office", "to": "published", "ports": [8082], "protocol": "udp"},
        {"from": "office", "to": "host", "ports": [8888]},
        {"from": "office", "to": "host", "ports": [9999], "action": "reject"},
    ],
}


@pytest.fixture(scope="module")
def host(module_host: Host) -> Host:
    module_host.lab.add_peer("office", 60)
    return module_host


@pytest.fixture(scope="module")
def enforced(host: Host) -> dict[str, bool]:
    """What the host is known to enforce, so that it is changed only where a test needs it."""
    return {}


@pytest.fixture
def open_host(host: Host, enforced: dict[str, bool]) -> Host:
    """A host without the firewall."""
    if enforced.get("policy", False):
        removed = run_playbook(host.lab, "bulkhead.docker_nftables.remove", extra_vars=POLICY)
        assert removed.rc == 0, removed.stdout + removed.stderr
        enforced["policy"] = False
    return host


@pytest.fixture
def hardened(host: Host, enforced: dict[str, bool]) -> Host:
    """A host that enforces POLICY."""
    if not enforced.get("policy", False):
        result = run_playbook(host.lab, "bulkhead.docker_nftables.harden", extra_vars=POLICY)
        assert result.rc == 0, result.stdout + result.stderr
        enforced["policy"] = True
    return host


def verify(host: Host, check: bool = False, **extra: t.Any) -> PlaybookResult:
    variables = {**POLICY, "docker_firewall_verify_timeout": 1, **extra}
    return run_playbook(host.lab, VERIFY, extra_vars=variables, check=check)


def outcome(result: PlaybookResult) -> dict[str, t.Any]:
    """What the playbook concluded for the host."""
    for event in result.tasks("host"):
        facts = event["result"].get("ansible_facts", {})
        if "__docker_firewall_verify_result" in facts:
            return t.cast("dict[str, t.Any]", facts["__docker_firewall_verify_result"])
    raise AssertionError(f"nothing was compared\n{result.stdout}\n{result.stderr}")


def opened(result: PlaybookResult, prober: str) -> set[tuple[int, int]]:
    """The family and port of every disagreement that is an open TCP port."""
    return {
        (6 if ":" in one["address"] else 4, one["port"])
        for one in outcome(result)["disagreements"]
        if one["from"] == prober and one["found"] == "open" and one["protocol"] == "tcp"
    }


def test_an_open_host_fails_with_the_ports_named(open_host: Host) -> None:
    result = verify(open_host)

    assert result.rc != 0
    leaks = {8080, 8081, 8083, 8085, 7000, 7001, 7002, 7003}
    found = opened(result, "peer")
    assert {(4, port) for port in leaks | {8090}} <= found
    assert {(6, port) for port in leaks} <= found
    assert not {(4, 22), (4, 80), (4, 443), (6, 22), (4, 9001)} & found
    assert (4, 8080) not in opened(result, "office") and (4, 8081) in opened(result, "office")
    line = (
        f"  from peer (198.51.100.50) to host ({open_host.address4}) tcp port 8081: expected closed"
        " (decided by no rule to: published), found open"
    )
    assert line in outcome(result)["report"]
    message = result.messages("host")
    assert all(str(port) in message for port in leaks)
    udp = [
        one
        for one in outcome(result)["disagreements"]
        if one["protocol"] == "udp" and one["port"] == 8082 and one["found"] == "open"
    ]
    assert {one["from"] for one in udp} == {"peer"}


def test_a_hardened_host_passes_and_both_answers_were_seen(hardened: Host) -> None:
    result = verify(hardened)

    assert result.rc == 0, result.messages() + result.stdout[-3000:]
    counts = outcome(result)["counts"]
    assert counts["disagrees"] == 0 and counts["unknown"] == 0
    assert counts["agrees"] > 100
    assert all(stats["changed"] == 0 for stats in result.stats.values())
    rows = [line.split() for line in outcome(result)["report"]]
    closed = {(row[0], row[1]): int(row[5]) for row in rows if len(row) == 9 and row[2] == "tcp"}
    passed = {(row[0], row[1]): int(row[4]) for row in rows if len(row) == 9 and row[2] == "tcp"}
    for family in ("IPv4", "IPv6"):
        assert passed["office", family] == passed["peer", family] + 4, rows  # 8080, 7001, 7002, 8888
        assert passed["peer", family] == 3, rows
        assert closed["peer", family] >= 15, rows


def test_check_mode_verifies_too(hardened: Host) -> None:
    result = verify(hardened, check=True)

    assert result.rc == 0, result.messages() + result.stdout[-3000:]
    assert outcome(result)["counts"]["agrees"] > 100


def test_a_policy_that_was_not_enforced_fails_both_ways(hardened: Host) -> None:
    # The host still enforces POLICY: 443 is open against this policy, and 8081 closed.
    wanted = [{"to": "host", "ports": [22]}, {"to": "published", "ports": [80, 8081]}]

    result = verify(hardened, docker_firewall_rules=wanted, docker_firewall_verify_from=["peer"])

    found = {(one["port"], one["found"]) for one in outcome(result)["disagreements"]}
    assert found == {(443, "open"), (8081, "timeout")}
    assert result.rc != 0


def test_a_deleted_table_fails_again(hardened: Host, enforced: dict[str, bool]) -> None:
    enforced["policy"] = False
    hardened.run(["nft", "delete", "table", "inet", "bulkhead"])

    result = verify(hardened)

    assert result.rc != 0
    assert {(4, 8081), (6, 8081), (4, 8888), (4, 8090)} <= opened(result, "peer")


def test_nobody_to_probe_from_is_a_failure(hardened: Host) -> None:
    result = verify(hardened, docker_firewall_verify_from="host")

    assert result.rc != 0
    assert "no host probed host" in result.messages("host")
