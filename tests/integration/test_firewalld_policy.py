# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zones, policies and settings of a real firewalld beside a real Docker, there and back."""

from __future__ import annotations

import os
import re
import typing as t

import pytest
from integration.fleet import both, from_container, target, tree
from integration.scene import Conversation, is_root, ssh_argv, wait_open

from lab.ansible import run_playbook
from lab.containers import STANDARD
from lab.host import Host
from lab.process import wait_for
from lab.topology import Lab

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

Result = t.Dict[str, t.Any]
MODULE = "bulkhead.docker_nftables.firewalld_policy"
#: A source that is the neighbour's own takes it out of the zone of the interface; `other` stays there.
LAN: dict[str, t.Any] = {"name": "bulkhead-lan", "services": ["ssh"], "ports": ["8888/tcp"], "target": "DROP"}
PUBLIC: dict[str, t.Any] = {"name": "public", "absent": {"services": ["ssh"]}, "ports": ["9999/udp"]}
TO_HOST: dict[str, t.Any] = {
    "name": "bulkhead-to-host",
    "ingress_zones": ["docker"],
    "egress_zones": ["HOST"],
    "target": "DROP",
}


@pytest.fixture(scope="module")
def host(suite: str) -> t.Iterator[Host]:
    """firewalld was there before Docker, and Docker knows it."""
    with Lab(f"fwd{suite[0]}{os.getpid()}") as lab:
        host = lab.add_host("host", suite, variant="firewalld")
        lab.add_peer("other", 60)
        host.boot()
        host.wait_docker()
        if "docker" not in host.run(["firewall-cmd", "--get-zones"]).stdout.split():
            # The unit of firewalld 2.5 is active before firewalld answers, and Docker, started at that moment, misses it.
            host.run(["systemctl", "restart", "docker"])
        host.containers_up(STANDARD)
        yield host


def policy(host: Host, *calls: dict[str, t.Any], check: tuple[int, ...] = ()) -> list[Result]:
    """Run the module with each of these in one play; gives each result, failed or not."""
    tasks = [
        {MODULE: call, "check_mode": number in check, "diff": True, "ignore_errors": True}
        for number, call in enumerate(calls)
    ]
    plays = [{"hosts": host.name, "gather_facts": False, "tasks": tasks}]
    result = run_playbook(host.lab, plays)
    results = [event["result"] for event in result.tasks(host.name)]
    assert len(results) == len(calls), f"{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return results


def listed(host: Host) -> str:
    """All that firewall-cmd tells of both configurations."""
    found = []
    for where in ([], ["--permanent"]):
        for what in ("--list-all-zones", "--list-all-policies"):
            lines = host.run(["firewall-cmd", *where, what]).stdout.splitlines()
            found += [" ".join(sorted(line.split())) for line in lines]
    return "\n".join(found)


def dockers_rules(host: Host) -> list[str]:
    """What iptables has, in any order."""
    found = []
    for tool in ("iptables-save", "ip6tables-save"):
        lines = host.run([tool]).stdout.splitlines()
        found += [re.sub(r"\[\d+:\d+\]", "", line) for line in lines if not line.startswith("#")]
    return sorted(found)


def isolation(host: Host) -> set[str]:
    """The rules of Docker that keep its networks apart; those of internal networks have addresses."""
    return {
        line
        for line in dockers_rules(host)
        if line.startswith("-A DOCKER-ISOLATION") and line.endswith(("STAGE-2", "-j DROP")) and "/" not in line
    }


def reached(host: Host, peer: str) -> set[int]:
    """The host's own ports that a neighbour reaches."""
    targets = [target(*key) for key in sorted(both(host, "tcp", 22, 8888))]
    found = host.lab.peers[peer].probe(targets)
    ports = {item["port"] for item in found if item["result"] == "open"}
    assert not ports & {item["port"] for item in found if item["result"] != "open"}, f"one family only: {found}"
    return ports


def wanted(host: Host) -> dict[str, t.Any]:
    sources = [host.lab.peer.address4, host.lab.peer.address6]
    return {"zones": [PUBLIC, {**LAN, "sources": sources}], "policies": [TO_HOST]}


def wait_docker(host: Host) -> None:
    """Until Docker has put back what a reload of an old firewalld took.

    Only IPv4: where Docker has no DNAT for IPv6, what answers is docker-proxy, a program of the host, and closed.
    """
    wait_open(host, [target("tcp", host.address4, port) for port in (80, 8083)])


def test_there_and_back(host: Host) -> None:
    before, files = listed(host), tree(host, "/etc/firewalld")
    rules, apart = dockers_rules(host), isolation(host)
    assert reached(host, "peer") == reached(host, "other") == {22}
    from_web = [target("tcp", host.address4, 22)]
    assert from_container(host, "web", from_web)[0]["result"] == "open"

    (foretold,) = policy(host, wanted(host), check=(0,))
    assert foretold["changed"] and foretold["reloaded"]
    assert listed(host) == before and tree(host, "/etc/firewalld") == files

    conversations = [
        Conversation(host, ["tcp", host.address4, "8083"]),
        Conversation(host, ["run", *ssh_argv(host, "cat")]),
    ]
    done, again = policy(host, wanted(host), wanted(host))
    wait_docker(host)
    for conversation in conversations:
        end = conversation.end()
        print(f"{host.suite}: {end['exchanges']} exchanges, the longest took {end['longest']:.2f} s")
        assert end["broken"] is None and end["exchanges"] > 20, end
    assert done["operations"] == foretold["operations"] and done["diff"] == foretold["diff"]
    assert not again["changed"] and not again["reload_reasons"], again
    assert done["docker_zone"] == again["docker_zone"]
    assert done["docker_zone"]["exists"] and "docker0" in done["docker_zone"]["interfaces"]
    assert reached(host, "peer") == {22, 8888} and reached(host, "other") == set()
    assert from_container(host, "web", from_web)[0]["result"] == "timeout"
    record = host.run(["stat", "-c", "%a %U", "/etc/bulkhead/firewalld.json"]).stdout.split()
    assert record == ["600", "root"]
    _what_the_reload_left(host, done, rules, apart)

    gone, nothing = policy(host, {"state": "absent"}, {"state": "absent"})
    wait_docker(host)
    assert gone["changed"] and not nothing["changed"]
    assert listed(host) == before
    assert host.run(["test", "-e", "/etc/bulkhead"], check=False).returncode == 1
    assert reached(host, "other") == {22}
    assert from_container(host, "web", from_web)[0]["result"] == "open"


def _what_the_reload_left(host: Host, done: Result, rules: list[str], apart: set[str]) -> None:
    """What is documented: since 2.0 firewalld leaves Docker's rules alone, and an old Docker does not put all back."""
    if done["firewalld_version"].startswith("1."):
        assert any("wipes Docker's rules" in warning for warning in done["warnings"])
        wait_for("Docker is done", lambda: len(dockers_rules(host)) == len(rules) - len(apart), timeout=60)
        assert apart and not isolation(host) & apart
    else:
        assert not done.get("warnings")
        wait_for("Docker is done", lambda: dockers_rules(host) == rules, timeout=60)


def test_without_a_reload_docker_is_not_touched(host: Host) -> None:
    before, rules = listed(host), dockers_rules(host)
    first = {
        "name": "public",
        "sources": ["192.0.2.0/24"],
        "services": ["http"],
        "ports": ["8000-8010/tcp"],
        "protocols": ["gre"],
        "source_ports": ["68/udp"],
        "rich_rules": ["rule family=ipv4 source address=192.0.2.7 port port=99 protocol=tcp accept"],
        "forward": False,
        "absent": {"services": ["dhcpv6-client"]},
    }
    # Docker's bridges stay, a source goes to another zone, a range grows, an interface comes.
    second = [
        {**first, "sources": [], "ports": ["8005-8020/tcp"]},
        {"name": "work", "sources": ["192.0.2.0/24"], "interfaces": ["eth7"]},
    ]
    last: dict[str, t.Any] = {"state": "absent"}
    results = policy(host, {"zones": [first]}, {"zones": second}, {"zones": second}, last)
    assert [(result["changed"], result["reloaded"]) for result in results] == [(True, False)] * 2 + [
        (False, False),
        (True, False),
    ], results
    assert listed(host) == before
    assert dockers_rules(host) == rules


def test_what_only_a_reload_brings_waits_for_one(host: Host) -> None:
    before = listed(host)
    zone = {"name": "bulkhead-later", "interfaces": ["eth7"]}
    never = {"zones": [zone], "reload": "never"}
    first, again, now, _gone = policy(host, never, never, {"zones": [zone]}, {"state": "absent"})
    assert first["changed"] and first["reload_needed"] and not first["reloaded"]
    assert not again["changed"] and again["reload_needed"]
    assert now["reloaded"] and not now["reload_needed"]
    assert {operation["scope"] for operation in now["operations"]} == {"runtime"}
    wait_docker(host)
    assert listed(host) == before


def test_mistakes_are_told_together_and_change_nothing(host: Host) -> None:
    before, files = listed(host), tree(host, "/etc")
    too_long = f"bulkhead-{'x' * 100}"
    bridge = "br-" + host.run(["docker", "network", "inspect", "front", "--format", "{{.Id}}"]).stdout[:12]
    bad: dict[str, t.Any] = {
        "zones": [
            {"name": "work", "interfaces": ["docker0", bridge], "services": ["sssh"], "ports": ["80"]},
            {"name": "home", "rich_rules": ["rule bogus"], "sources": ["192.0.2.1/24"]},
            {"name": "nosuch"},
            {"name": "docker", "services": ["ssh"]},
            {"name": too_long},
        ],
        "policies": [{"name": "bulkhead-p", "ingress_zones": ["nosuch"], "egress_zones": ["HOST"]}],
        "settings": {"StrictForwardPort": True, "FirewallBackend": "iptables"},
    }
    (result,) = policy(host, bad)
    assert len(result["errors"]) == 12, result["msg"]
    for said in (
        "docker0",
        bridge,
        "sssh",
        "'80'",
        "rule bogus",
        "192.0.2.0/24",
        "no such zone",
        "Docker's own",
        too_long,
    ):
        assert said in result["msg"], said
    assert listed(host) == before and tree(host, "/etc") == files


def test_a_refusal_half_way_is_put_back(host: Host) -> None:
    before = listed(host)
    # firewalld takes each of the keys, but not the two together, and the zones come before the policies.
    refused = {**TO_HOST, "masquerade": True}
    (result,) = policy(host, {"zones": [PUBLIC, LAN], "policies": [refused], "settings": {"LogDenied": "all"}})
    assert "firewalld refuses" in result["msg"] and "was put back." in result["msg"], result["msg"]
    assert listed(host) == before
    assert "LogDenied=off" in host.read("/etc/firewalld/firewalld.conf")
    assert host.run(["test", "-e", "/etc/bulkhead"], check=False).returncode == 1
    assert host.run(["ls", "/etc/firewalld/zones"]).stdout.split().count("bulkhead-lan.xml") == 0


def test_strict_forward_ports(host: Host) -> None:
    settings = {"settings": {"StrictForwardPorts": True}}
    # Of a forward-port only the number is looked at, not its address and not its zone, as long as that is in use.
    work = {"name": "work", "forward_ports": ["port=8083:proto=tcp:toaddr=192.0.2.99"]}
    unused = {"zones": [work]}
    port = {"zones": [{**work, "sources": ["203.0.113.128/25"]}]}
    version = host.run(["firewall-cmd", "--version"]).stdout.strip()
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 3):
        (result,) = policy(host, settings)
        assert f"firewalld {version} does not have it, which came with 2.3" in result["msg"]
        return
    before = listed(host)
    published = [target("tcp", host.address4, 80), target("tcp", host.address4, 8083)]
    first, again = policy(host, settings, settings)
    assert first["reloaded"] and not again["changed"] and not again["reload_reasons"]
    assert [item["result"] for item in host.lab.peer.probe(published)] == ["unreachable"] * 2
    policy(host, {**settings, **unused})
    assert [item["result"] for item in host.lab.peer.probe(published)] == ["unreachable"] * 2
    policy(host, {**settings, **port})
    assert [item["result"] for item in host.lab.peer.probe(published)] == ["unreachable", "open"]
    policy(host, {})
    assert listed(host) == before
    assert [item["result"] for item in host.lab.peer.probe(published)] == ["open", "open"]


def test_a_firewalld_that_does_not_run(host: Host) -> None:
    host.run(["systemctl", "stop", "firewalld"])
    (stopped,) = policy(host, {"zones": [PUBLIC]})
    host.run(["systemctl", "mask", "firewalld"])
    (masked,) = policy(host, {"zones": [PUBLIC]})
    assert "firewalld does not run (firewalld.service is inactive)" in stopped["msg"]
    assert "firewalld.service is masked" in masked["msg"]
