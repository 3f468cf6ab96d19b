# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody edits the live table by hand: `audit` reports it and changes nothing, the next `harden` repairs it.

What makes a host fail open fails the audit too, after its report.
"""

from __future__ import annotations

import os
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from integration.fleet import ONLY_SSH_AND_WEB, SUITES, both, fleet, own_table, play, ruleset, table, target, tree

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import Container, ContainerSet
from lab.host import Host
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
each_suite = pytest.mark.parametrize("suite", SUITES)

SMALL = ContainerSet("small", (Container("web80", ("80:80",)), Container("web", ("8080:80",))))
REPORT = "Report what differs from the policy"


@dataclass(frozen=True)
class Edit:
    """What somebody types on the host, and what the audit has to say."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    actions: tuple[str, ...]
    line: str
    strict: bool = False


EDITS = (
    Edit(
        "a rule too many",
        (("nft", "insert", "rule", "inet", "bulkhead", "prerouting", "tcp", "dport", "8080", "accept"),),
        ("replace table inet bulkhead",),
        "-\t\ttcp dport 8080 accept",
    ),
    Edit(
        "an element too few, a file edited and the unit disabled",
        (
            ("nft", "delete", "element", "inet", "bulkhead", "docker_bridges", '{ "docker0" }'),
            ("sh", "-c", "echo >> /etc/bulkhead/load.conf"),
            ("systemctl", "disable", "bulkhead.service"),
        ),
        ("replace table inet bulkhead", "write /etc/bulkhead/load.conf", "enable bulkhead.service"),
        '"docker0"',
    ),
    Edit(
        "no table",
        (("nft", "delete", "table", "inet", "bulkhead"),),
        ("create table inet bulkhead",),
        "+table inet bulkhead",
        strict=True,
    ),
)


def state(host: Host) -> dict[str, t.Any]:
    """All that an audit must leave alone."""
    return {
        "ruleset": ruleset(host),
        "files": tree(host, "/etc", "/usr/local", "/run/bulkhead", "/root"),
        "sysctls": host.run(
            ["sysctl", "-a", "-r", r"^net\.ipv[46]\.(ip_forward$|conf\..*\.(forwarding|accept_ra)$)"]
        ).stdout,
        "timers": host.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "bulkhead*.timer"]).stdout,
    }


def report(result: PlaybookResult, host: str) -> dict[str, t.Any]:
    """What the audit says of one host."""
    (event,) = [event for event in result.tasks(host) if event["task"] == REPORT]
    return event["result"]["msg"]


@pytest.fixture(scope="module")
def lab(say: t.Callable[[str], None]) -> t.Iterator[Lab]:
    with fleet("audit", SMALL) as lab:
        play(lab, "harden", ONLY_SSH_AND_WEB)
        say("the hosts are hardened")
        yield lab


@dataclass
class Audited:
    """One edit on all hosts, audited and repaired."""

    edit: Edit
    lab: Lab
    hardened: dict[str, str]
    before: dict[str, dict[str, t.Any]]
    after: dict[str, dict[str, t.Any]]
    audit: PlaybookResult
    repair: PlaybookResult
    repaired: dict[str, str]


@pytest.fixture(scope="module", params=EDITS, ids=lambda edit: edit.name)
def audited(lab: Lab, request: pytest.FixtureRequest) -> Audited:
    hosts = lab.hosts.items()
    hardened = {name: own_table(host) for name, host in hosts}
    for host in lab.hosts.values():
        for command in request.param.commands:
            host.run(command)
    before = {name: state(host) for name, host in hosts}
    policy = {**ONLY_SSH_AND_WEB, "docker_firewall_audit_strict": request.param.strict}
    audit = run_playbook(lab, "bulkhead.docker_nftables.audit", hosts="docker_hosts", extra_vars=policy)
    after = {name: state(host) for name, host in hosts}
    repair = play(lab, "harden", ONLY_SSH_AND_WEB)
    repaired = {name: own_table(host) for name, host in hosts}
    return Audited(request.param, lab, hardened, before, after, audit, repair, repaired)


@each_suite
def test_without_an_edit_there_is_nothing_to_report(lab: Lab, clean_audit: PlaybookResult, suite: str) -> None:
    found = report(clean_audit, suite)
    assert found == {"differs_from_policy": [], "lines_of_the_live_table": [], "dangers": []}
    assert clean_audit.changed(suite) == 0


@pytest.fixture(scope="module")
def clean_audit(lab: Lab) -> PlaybookResult:
    """An audit of hosts that are as they should be; strict, and still without a failure."""
    return play(lab, "audit", {**ONLY_SSH_AND_WEB, "docker_firewall_audit_strict": True})


@each_suite
def test_an_edit_is_reported(audited: Audited, suite: str) -> None:
    found = report(audited.audit, suite)
    assert found["differs_from_policy"] == list(audited.edit.actions)
    assert any(audited.edit.line in line for line in found["lines_of_the_live_table"])


@each_suite
def test_only_a_strict_audit_fails_where_a_host_differs(audited: Audited, suite: str) -> None:
    sentence = f"This host differs from its policy: {'; '.join(audited.edit.actions)}"
    assert audited.audit.messages(suite) == (sentence if audited.edit.strict else "")
    assert (audited.audit.rc != 0) == audited.edit.strict


@each_suite
def test_an_audit_changes_nothing(audited: Audited, suite: str) -> None:
    assert audited.after[suite] == audited.before[suite]


@each_suite
def test_the_next_run_repairs_an_edit(audited: Audited, suite: str) -> None:
    host = audited.lab.hosts[suite]
    assert audited.repair.changed(suite) == 1
    assert audited.repaired[suite] == audited.hardened[suite]
    assert host.run(["systemctl", "is-enabled", "bulkhead.service"]).stdout.strip() == "enabled"
    targets = [target(*key) for key in sorted(both(host, "tcp", 80, 8080))]
    assert table(audited.lab.peer.probe(targets)) == {
        **dict.fromkeys(both(host, "tcp", 80), "open"),
        **dict.fromkeys(both(host, "tcp", 8080), "timeout"),
    }


def test_a_missing_sysctl_file_is_reported_and_repaired(lab: Lab) -> None:
    name, host = next(iter(lab.hosts.items()))
    host.run(["rm", "/etc/sysctl.d/60-bulkhead-forwarding.conf"])
    policy = {**ONLY_SSH_AND_WEB, "docker_firewall_audit_strict": True}
    audit = run_playbook(lab, "bulkhead.docker_nftables.audit", hosts=name, extra_vars=policy)
    assert audit.messages(name) == "This host differs from its policy: set the forwarding sysctls"
    assert play(lab, "harden", ONLY_SSH_AND_WEB).changed(name) == 1
    assert "net.ipv4.ip_forward = 1" in host.read("/etc/sysctl.d/60-bulkhead-forwarding.conf")


Finding = t.Tuple[str, str, str, str]


@dataclass(frozen=True)
class Danger:
    """What somebody types on the host, how it is taken back, and what is found: code, where, text and remedy."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    undo: tuple[tuple[str, ...], ...]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...] = ()


RESTART = ("systemctl", "restart", "docker.socket", "docker.service")
DANGERS = (
    Danger(
        "a native rule in DOCKER-USER, half of Docker's rules, and a service that flushes",
        (
            ("nft", "insert", "rule", "ip", "filter", "DOCKER-USER", "ct", "state", "established", "accept"),
            ("iptables", "-t", "nat", "-F", "DOCKER"),
            ("iptables", "-F", "FORWARD"),
            ("systemctl", "enable", "nftables.service"),
        ),
        (
            ("nft", "flush", "chain", "ip", "filter", "DOCKER-USER"),
            ("systemctl", "disable", "nftables.service"),
            RESTART,
        ),
        (
            (
                "UNREADABLE_BY_IPTABLES",
                "ip filter DOCKER-USER, handle ",
                "ct state established accept",
                "Move these rules to a table of your own name",
            ),
            (
                "DOCKER_RULES_MISSING",
                "ip nat DOCKER",
                "no rule sends published port 80/tcp, 8080/tcp to its container; "
                "nothing in table ip filter FORWARD jumps to chain DOCKER-",
                "Run `systemctl restart docker`",
            ),
        ),
        (
            (
                "NFTABLES_SERVICE_FLUSHES",
                "nftables.service",
                "its stop loads /etc/bulkhead/flush.conf, where flush ruleset stands",
                "Do not stop, restart or reload it while Docker runs",
            ),
        ),
    ),
    Danger(
        "none of Docker's rules",
        (("nft", "delete", "table", "ip", "nat"), ("nft", "delete", "table", "ip", "filter")),
        (RESTART,),
        (
            (
                "DOCKER_RULES_MISSING",
                "ip nat DOCKER",
                "there is no chain DOCKER in table ip nat and no table ip docker-bridges",
                "Run `systemctl restart docker`",
            ),
        ),
    ),
)


@dataclass
class Endangered:
    """One danger on all hosts, audited and taken back."""

    danger: Danger
    before: dict[str, dict[str, t.Any]]
    after: dict[str, dict[str, t.Any]]
    audit: PlaybookResult


@pytest.fixture(scope="module", params=DANGERS, ids=lambda danger: danger.name)
def endangered(lab: Lab, request: pytest.FixtureRequest) -> Endangered:
    hosts = lab.hosts.items()
    for host in lab.hosts.values():
        for command in request.param.commands:
            host.run(command)
    before = {name: state(host) for name, host in hosts}
    audit = run_playbook(lab, "bulkhead.docker_nftables.audit", hosts="docker_hosts", extra_vars=ONLY_SSH_AND_WEB)
    after = {name: state(host) for name, host in hosts}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: [host.run(command) for command in request.param.undo], lab.hosts.values()))
    return Endangered(request.param, before, after, audit)


@each_suite
def test_a_danger_fails_the_audit_after_its_report(endangered: Endangered, suite: str) -> None:
    danger = endangered.danger
    reported = report(endangered.audit, suite)
    assert reported["differs_from_policy"] == []
    # Where Docker has set the policy of FORWARD to drop, what is left of the chain is one more danger.
    found = {each["code"]: each for each in reported["dangers"] if each["code"] != "FORWARD_DROP_CUTS_DOCKER"}
    wanted = [(*each, "error") for each in danger.errors] + [(*each, "warning") for each in danger.warnings]
    assert set(found) == {each[0] for each in wanted}
    for code, where, text, remedy, severity in wanted:
        assert found[code]["severity"] == severity
        assert found[code]["where"].startswith(where)
        assert text in found[code]["text"]
        assert remedy in found[code]["remedy"]
    errors = [each for each in reported["dangers"] if each["severity"] == "error"]
    assert endangered.audit.rc != 0
    assert endangered.audit.messages(suite) == "\n".join(f"{each['text']} {each['remedy']}" for each in errors)


@each_suite
def test_an_audit_of_a_danger_changes_nothing(endangered: Endangered, suite: str) -> None:
    assert endangered.after[suite] == endangered.before[suite]
