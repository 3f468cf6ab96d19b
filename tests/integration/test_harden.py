# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `harden` on real hosts: what can be reached before, after, and after containers have changed."""

from __future__ import annotations

import os
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from integration.fleet import (
    ONLY_SSH_AND_WEB,
    PATIENCE,
    SUITES,
    Policy,
    Table,
    both,
    fleet,
    from_container,
    from_host,
    only,
    own_table,
    play,
    table,
    target,
)

from lab.ansible import PlaybookResult
from lab.containers import STANDARD, Container, ContainerSet, Target, addresses, running, standard_targets, subnets
from lab.host import Host
from lab.network import INTERNET4, INTERNET6, INTERNET_HTTP, INTERNET_UDP, LAN, SECOND
from lab.process import wait_for
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
each_suite = pytest.mark.parametrize("suite", SUITES)

OFFICE = 60
BACKUP = 70

# What a container or the host may try although Docker itself keeps networks apart. It only has to stay as it was.
ENGINES_OWN = {"web: a container of another network", "tls: a published port of another network"}


# -- what is tried -----------------------------------------------------------------------------------------------------


def outside_targets(host: Host, containers: ContainerSet = STANDARD) -> list[Target]:
    """All that a neighbour may dial: services, published ports, containers, and the host's second pair of addresses."""
    second = [host.second_address4, host.second_address6]
    ports = (22, 80, 443, 8080, 8888)
    return standard_targets(host, containers) + [target("tcp", str(a), port) for a in second for port in ports]


def seen_from(host: Host, peer: str, targets: t.Sequence[Target]) -> Table:
    """What one neighbour gets to, with routes to the host's containers.

    From the host's first network its second pair of addresses is dialled at the first interface. Between the networks
    there is a router: what a neighbour of the second network sends to the first pair arrives at the first interface.
    """
    neighbour = host.lab.peers[peer]
    if neighbour.network is LAN:
        neighbour.route_via(host)
        neighbour.route_via(host, f"{SECOND.prefix4}.0/24", f"{SECOND.prefix6}::/64")
    else:
        for prefix in subnets(host):
            gateway = host.second_address6 if ":" in prefix else host.second_address4
            neighbour.namespace.ip(f"route replace {prefix} via {gateway}")
    return table(neighbour.probe(targets, PATIENCE))


def internet_answers(host: Host) -> None:
    """Give the internet its way back to containers that an engine does not hide behind the host's address."""
    host.lab.wiring.namespace.ip(f"route replace fd00:b1:1::/64 via {host.address6}")


def inside(host: Host) -> dict[str, str]:
    """What containers and the host itself get to, under names that are the same on every host."""
    internet_answers(host)
    own = addresses(host)
    (front6,) = [address for address in own["multi"] if ":" in address]
    (front4,) = [address for address in own["multi"] if address.startswith("172.30.1.")]
    wanted = {
        "web: a container of the same network": ("tcp", own["web80"][0], 80),
        "web: a container of another network": ("tcp", own["tls"][0], 80),
        "web: the internet": ("tcp", INTERNET4, INTERNET_HTTP),
        "web: the internet, UDP": ("udp", INTERNET4, INTERNET_UDP),
        "web: the host at the network's gateway": ("tcp", "172.17.0.1", 22),
        "web: the host at its own address": ("tcp", host.address4, 22),
        "web: a service on the host's network": ("tcp", host.address4, 8888),
        "web6: a container of the same user network": ("tcp", front4, 80),
        "web6: a container of the same user network, IPv6": ("tcp", front6, 80),
        "web6: the internet": ("tcp", INTERNET4, INTERNET_HTTP),
        "web6: the internet, IPv6": ("tcp", INTERNET6, INTERNET_HTTP),
        "web6: the internet, IPv6, UDP": ("udp", INTERNET6, INTERNET_UDP),
        "web6: the host, IPv6": ("tcp", host.address6, 22),
        "tls: the internet": ("tcp", INTERNET4, INTERNET_HTTP),
        "tls: a published port of another network": ("tcp", host.address4, 8080),
        "host: a container": ("tcp", own["web"][0], 80),
        "host: a container, IPv6": ("tcp", front6, 80),
        "host: a container's UDP port": ("udp", own["web6"][0], 82),
        "host: a sealed container": ("tcp", own["inner"][0], 80),
        "host: a published port of its own": ("tcp", host.address4, 8080),
        "host: a published port of its own, IPv6": ("tcp", host.address6, 8081),
        "host: a published UDP port of its own": ("udp", host.address4, 8082),
        "host: a published port on loopback": ("tcp", "127.0.0.1", 9001),
        "host: a port published everywhere, on loopback": ("tcp", "127.0.0.1", 8080),
        "host: a port published everywhere, on loopback, IPv6": ("tcp", "::1", 8080),
        "host: the internet": ("tcp", INTERNET4, INTERNET_HTTP),
        "host: the internet, IPv6": ("tcp", INTERNET6, INTERNET_HTTP),
    }

    def try_from(place: str) -> dict[str, str]:
        names = [name for name in wanted if name.startswith(f"{place}:")]
        targets = [target(*wanted[name]) for name in names]
        results = from_host(host, targets) if place == "host" else from_container(host, place, targets)
        return {name: result["result"] for name, result in zip(names, results)}

    with ThreadPoolExecutor() as pool:
        places = pool.map(try_from, ("web", "web6", "tls", "host"))
        return {name: result for place in places for name, result in place.items()}


# -- the story ---------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What was seen before hardening and what the runs said; the hosts are hardened when the tests begin."""

    lab: Lab
    before: dict[str, Table]
    inside_before: dict[str, dict[str, str]]
    check: PlaybookResult
    run: PlaybookResult
    again: PlaybookResult


@pytest.fixture(scope="module")
def story(say: t.Callable[[str], None]) -> t.Iterator[Story]:
    with fleet("harden", second_nic=True) as lab:
        lab.add_peer("office", OFFICE)
        lab.add_peer("backup", BACKUP, second_network=True)
        say(f"hosts are up: {', '.join(lab.hosts)}")
        hosts = lab.hosts.items()
        before = {name: seen_from(host, "peer", outside_targets(host)) for name, host in hosts}
        inside_before = {name: inside(host) for name, host in hosts}
        check = play(lab, "harden", ONLY_SSH_AND_WEB, check=True, diff=True)
        run = play(lab, "harden", ONLY_SSH_AND_WEB, diff=True)
        again = play(lab, "harden", ONLY_SSH_AND_WEB, options=["-vvv"])
        say("the hosts are hardened")
        yield Story(lab, before, inside_before, check, run, again)


def web_only(host: Host, targets: t.Sequence[Target]) -> Table:
    """Exactly 22, 80 and 443, on every address of the host."""
    second = {("tcp", str(a), port) for a in (host.second_address4, host.second_address6) for port in (22, 80, 443)}
    return only(targets, both(host, "tcp", 22, 80, 443) | second)


@each_suite
def test_before_every_published_port_is_open(story: Story, suite: str) -> None:
    host = story.lab.hosts[suite]
    own = (host.address4, host.address6)
    found = {key: result for key, result in story.before[suite].items() if key[1] in own}
    bound_elsewhere = {("tcp", host.address6, 8090)} | both(host, "tcp", 9001)
    assert found == {key: "refused" if key in bound_elsewhere else "open" for key in found}
    assert {port for proto, _address, port in found if proto == "udp"} == {8082}
    assert found.keys() >= both(host, "tcp", 22, 80, 443, 8080, 8081, 8083, 8085, 8888, 7000, 7001, 7002, 7003)


@each_suite
def test_before_an_older_engine_lets_neighbours_to_the_containers(story: Story, suite: str) -> None:
    host = story.lab.hosts[suite]
    own = {address for found in addresses(host).values() for address in found}
    direct = {key for key, result in story.before[suite].items() if key[1] in own and result == "open"}
    if engine(host) >= 28:
        assert not direct
    else:
        assert {proto for proto, _address, _port in direct} == {"tcp", "udp"}
        assert {":" in address for _proto, address, _port in direct} == {True, False}


def engine(host: Host) -> int:
    """The engine's major version."""
    return int(host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout.partition(".")[0])


@each_suite
def test_only_22_80_and_443_are_open(story: Story, suite: str) -> None:
    host = story.lab.hosts[suite]
    targets = outside_targets(host)
    assert seen_from(host, "peer", targets) == web_only(host, targets)


@each_suite
def test_containers_and_the_host_go_on_as_before(story: Story, suite: str) -> None:
    found = inside(story.lab.hosts[suite])
    assert found == story.inside_before[suite]
    assert {name: result for name, result in found.items() if name not in ENGINES_OWN} == {
        name: "open" for name in found if name not in ENGINES_OWN
    }


# -- what runs say -----------------------------------------------------------------------------------------------------


def changes(result: PlaybookResult, host: str) -> list[tuple[str, t.Any, t.Any]]:
    """Every change of a run: the task, its actions, its diff."""
    changed = [event for event in result.tasks(host) if event["changed"]]
    return [(event["task"], event["result"].get("actions"), event["result"].get("diff")) for event in changed]


@each_suite
def test_check_mode_says_what_the_run_then_does(story: Story, suite: str) -> None:
    said, done = changes(story.check, suite), changes(story.run, suite)
    assert said == done
    ((actions, diff),) = [(actions, diff) for _task, actions, diff in done if actions]
    assert actions[0] == "create table inet bulkhead"
    assert "enable bulkhead.service" in actions
    assert "write /etc/nftables.conf" in actions
    assert len(diff) == len(actions)  # one for each


@each_suite
def test_a_second_run_changes_nothing(story: Story, suite: str) -> None:
    assert story.run.changed(suite) > 0
    assert story.again.changed(suite) == 0


@each_suite
def test_a_run_without_changes_takes_at_most_eight_module_executions(
    story: Story, suite: str, say: t.Callable[[str], None]
) -> None:
    address = story.lab.hosts[suite].address4
    executions = story.again.stdout.count(f"<{address}> SSH: EXEC")
    modules = story.again.stdout.count("Using module file")
    say(f"{suite}: a run without changes took {executions} module executions")
    assert 2 <= executions <= 8
    assert modules == executions * len(SUITES)


# -- containers that change afterwards -----------------------------------------------------------------------------------------


def start(host: Host, *containers: Container) -> None:
    for container in containers:
        host.run(container.argv(host))


def replaced(changed: t.Sequence[Container]) -> ContainerSet:
    """The standard containers with those of the same name replaced, and with the new ones."""
    names = {container.name for container in changed}
    kept = tuple(container for container in STANDARD.containers if container.name not in names)
    return ContainerSet("changed", kept + tuple(changed))


def address_on(host: Host, name: str, prefix: str) -> str:
    """A container's address in one network."""
    (found,) = [address for address in addresses(host)[name] if address.startswith(prefix)]
    return found


@each_suite
def test_containers_that_change_afterwards_are_covered_without_a_run(story: Story, suite: str) -> None:
    host = story.lab.hosts[suite]
    before = own_table(host)
    old = address_on(host, "web80", "172.17.")

    # Started; replaced, the old address taken by another; on a network that was not there.
    host.run(["docker", "rm", "-f", "web80", "tls"])
    filler = Container("filler", ("8070:80",))
    start(host, filler)
    host.run(
        ["docker", "network", "create", "--subnet", "172.30.9.0/24", "--ipv6", "--subnet", "fd00:b1:9::/64", "later"]
    )
    web80 = Container("web80", ("80:80",))
    tls = Container("tls", ("443:80",), ("later",))
    late = Container("late", ("8071:80", "8072:82/udp", "{address4}:8073:80"), ("later",), echo=True)
    start(host, web80, tls, late)
    changed = replaced([filler, web80, tls, late])
    assert address_on(host, "filler", "172.17.") == old
    assert address_on(host, "web80", "172.17.") != old
    targets = outside_targets(host, changed)
    assert seen_from(host, "peer", targets) == web_only(host, targets)
    assert story.lab.peer.get(host.address4, 80) == "web80"
    assert story.lab.peer.get(host.address6, 443) == "tls"

    # Another address for a container that goes on running.
    host.run(["docker", "network", "disconnect", "later", "tls"])
    host.run(["docker", "network", "connect", "--ip", "172.30.9.77", "--ip6", "fd00:b1:9::77", "later", "tls"])
    assert set(addresses(host)["tls"]) == {"172.30.9.77", "fd00:b1:9::77"}
    targets = outside_targets(host, changed)
    assert seen_from(host, "peer", targets) == web_only(host, targets)
    assert own_table(host) == before


@each_suite
def test_containers_are_covered_after_docker_is_restarted(story: Story, suite: str) -> None:
    host = story.lab.hosts[suite]
    before, up = own_table(host), running(host)
    host.run(["systemctl", "restart", "docker"])
    wait_for(f"containers of {suite} are up again", lambda: running(host) == up, 60)
    extra = [Container("filler", ("8070:80",)), Container("late", ("8071:80", "8072:82/udp", "{address4}:8073:80"))]
    targets = outside_targets(host, replaced(extra))

    def web_answers() -> bool:
        wanted = web_only(host, targets)
        seen = seen_from(host, "peer", targets)
        assert {key for key, result in seen.items() if result == "open"} <= {
            k for k, r in wanted.items() if r == "open"
        }
        return seen == wanted

    wait_for(f"the open ports of {suite} answer again", web_answers, 30)
    assert own_table(host) == before


# -- zones and every kind of rule --------------------------------------------------------------------------------------

OWN_ADDRESSES = ["{{ lab_address4 }}", "{{ lab_address6 }}"]
DETAILED: Policy = {
    "docker_firewall_zones": {
        "office": {"sources": [LAN.address4(OFFICE), LAN.address6(OFFICE)]},
        "desks": {
            "sources": [
                f"{LAN.address4(OFFICE - 5)}-{LAN.address4(OFFICE + 5)}",
                f"{LAN.address6(OFFICE - 5)}-{LAN.address6(OFFICE + 5)}",
            ]
        },
        "backup": {"interfaces": ["eth1"], "sources": [f"{SECOND.prefix4}.0/24", f"{SECOND.prefix6}::/64"]},
    },
    "docker_firewall_rules": [
        {"to": "host", "ports": [22, 8888]},
        {"to": "host", "ports": [8889], "action": "reject"},
        {"to": "published", "ports": [80], "destination": OWN_ADDRESSES},
        {"to": "published", "ports": [443], "limit": "5/minute", "burst": 3, "log": "limited: "},
        {"to": "published", "ports": [8085], "action": "reject"},
        {"from": "office", "to": "published", "ports": [8080]},
        {"from": "office", "to": "published", "ports": [8082], "protocol": "udp"},
        {"from": "desks", "to": "published", "ports": ["7000-7001"]},
        {"from": "backup", "to": "published", "ports": [8083]},
        {
            "from": "containers",
            "to": "egress",
            "ports": [INTERNET_HTTP],
            "destination": [INTERNET4],
            "action": "reject",
        },
        {"from": "network:back", "to": "egress", "protocol": "any", "action": "drop"},
        {"from": "containers", "to": "host", "ports": [8888]},
    ],
    "docker_firewall_containers_to_host_default": "drop",
}


@pytest.fixture(scope="module")
def detailed(story: Story, say: t.Callable[[str], None]) -> Lab:
    """The hosts with the detailed policy."""
    result = play(story.lab, "harden", DETAILED)
    assert all(result.changed(host) for host in story.lab.hosts)
    say("the detailed policy is applied")
    return story.lab


def detailed_targets(host: Host) -> list[Target]:
    """Without 443, which only so many connections may try, and with a port on which nothing listens."""
    found = [item for item in outside_targets(host) if item["port"] != 443]
    return found + [target("tcp", address, 8889) for address in (host.address4, host.address6)]


@each_suite
@pytest.mark.parametrize("peer", ["peer", "office", "backup"])
def test_each_zone_gets_to_what_its_rules_name(detailed: Lab, suite: str, peer: str) -> None:
    host = detailed.hosts[suite]
    targets = detailed_targets(host)
    second = (str(host.second_address4), str(host.second_address6))
    open_ = both(host, "tcp", 22, 80, 8888) | {("tcp", address, port) for address in second for port in (22, 8888)}
    refused = both(host, "tcp", 8085, 8889)
    if peer == "office":
        open_ |= both(host, "tcp", 8080, 7000, 7001) | both(host, "udp", 8082)
        open_ |= {("tcp", address, 8080) for address in second}
    if peer == "backup":
        targets += [target("tcp", address, 8083) for address in second]
        # A zone of an interface and a source: at the other interface the same source is a stranger.
        open_ |= {("tcp", address, 8083) for address in second}
    assert seen_from(host, peer, targets) == only(targets, open_, refused)


@each_suite
def test_rules_for_containers_decide_what_they_start(detailed: Lab, suite: str, story: Story) -> None:
    before = story.inside_before[suite]
    closed = {
        "web: the internet": "refused",
        "web6: the internet": "refused",
        "tls: the internet": "refused",
        "web: the host at the network's gateway": "timeout",
        "web: the host at its own address": "timeout",
        "web6: the host, IPv6": "timeout",
    }
    found = inside(detailed.hosts[suite])
    assert {name: found[name] for name in found if name not in ENGINES_OWN} == {
        name: closed.get(name, result) for name, result in before.items() if name not in ENGINES_OWN
    }
    to_udp = [target("udp", INTERNET4, INTERNET_UDP)]
    results = {name: from_container(detailed.hosts[suite], name, to_udp)[0]["result"] for name in ("web", "range")}
    assert results == {"web": "open", "range": "timeout"}


@each_suite
def test_a_limit_lets_so_many_connections_in(detailed: Lab, suite: str) -> None:
    host = detailed.hosts[suite]
    # Shorter than a second, after which a client would try again by itself.
    results = detailed.peer.probe([target("tcp", host.address4, 443)] * 6, 0.9)
    assert sorted(item["result"] for item in results) == ["open"] * 3 + ["timeout"] * 3
    text = own_table(host)
    assert "limit rate 5/minute burst 3 packets" in text
    assert 'log prefix "limited: "' in text


# -- at boot -----------------------------------------------------------------------------------------------------------


def moment(host: Host, unit: str, name: str) -> int:
    """A moment in the life of a unit, in microseconds since the machine's start."""
    return int(host.run(["systemctl", "show", "--value", f"--property={name}TimestampMonotonic", unit]).stdout)


@pytest.mark.parametrize("distribution", ["disabled", "enabled"])
def test_at_boot_the_table_is_there_before_the_network_and_docker(detailed: Lab, distribution: str) -> None:
    host = detailed.hosts[SUITES[0]]
    assert "\nflush ruleset\n" in host.read("/etc/nftables.conf")
    host.run(["systemctl", "enable" if distribution == "enabled" else "disable", "nftables"])
    before = own_table(host)
    host.reboot()
    host.wait_docker()
    assert own_table(host) == before
    started, ended = (moment(host, "bulkhead.service", f"ExecMain{name}") for name in ("Start", "Exit"))
    assert 0 < started < ended
    assert ended <= moment(host, "network-pre.target", "ActiveEnter")
    assert ended <= moment(host, "docker.service", "ExecMainStart")
    if distribution == "enabled":
        assert 0 < moment(host, "nftables.service", "ExecMainExit") <= started
    else:
        assert moment(host, "nftables.service", "ExecMainStart") == 0
