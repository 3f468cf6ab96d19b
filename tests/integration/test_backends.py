# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One policy on routers with either firewall backend of Docker's: the same answer to every dial, cell by cell.

A host of every suite has the iptables backend. The host `nftables` is there where the engine has that backend.
"""

from __future__ import annotations

import os
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from integration.fleet import PATIENCE, SUITES, from_container, own_table, play, ruleset, target
from integration.scene import hardened

from lab import containers
from lab.containers import TCP_ECHO, UDP, Container, ContainerSet, Network, addresses, running, subnets
from lab.host import Host
from lab.network import INTERNET4, INTERNET_HTTP, INTERNET_UDP, LAN, SECOND
from lab.process import wait_for
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
NFTABLES = "nftables"
ECHO = Path(containers.__file__).with_name("echo.py")
each_host = pytest.mark.parametrize("name", [*SUITES, NFTABLES])
#: With Docker 29, one engine; the suites before differ in nothing that this is about.
each_backend = pytest.mark.parametrize("name", [SUITES[-1], NFTABLES])

OFFICE, BRANCH = 60, 70
PEERS = ("peer", "office", "branch")
#: A router before Docker starts. Docker then leaves FORWARD at ACCEPT, and its nftables backend starts at all.
ROUTER = "".join(
    f"net.{key}=1\n" for key in ("ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv6.conf.default.forwarding")
)


class Routed(Network):
    """A network whose containers are dialled directly. Engines before 27.0 keep the options and do nothing with them."""

    def argv(self) -> list[str]:
        *argv, name = super().argv()
        for family in ("ipv4", "ipv6"):
            argv += ["-o", f"com.docker.network.bridge.gateway_mode_{family}=routed"]
        return [*argv, name]


CONTAINERS = ContainerSet(
    "backends",
    networks=(Network("front", "172.30.1.0/24", "fd00:b1:1::/64"), Routed("campus", "172.30.4.0/24", "fd00:b1:4::/64")),
    containers=(
        Container("web", ("80:80", "8080:80", "443:80")),
        Container("web6", ("8081:80", "8082:82/udp", "8083:83"), ("front",), echo=True),
        Container("hostnet", (), ("host",), http_ports=(8888,)),
        Container("direct", ("8084:80", "8085:82/udp", "8086:83"), ("campus",), echo=True),
    ),
)
PUBLISHED = (("tcp", 80), ("tcp", 443), ("tcp", 8080), ("tcp", 8081), ("udp", 8082), ("tcp", 8083))
OF_THE_HOST = (("tcp", 22), ("tcp", 8888))
OF_CONTAINERS = (("tcp", 80), ("udp", UDP), ("tcp", TCP_ECHO))
OF_NEIGHBOURS = (("udp", UDP), ("tcp", TCP_ECHO))

SECOND_NETWORK = [f"{SECOND.prefix4}.0/24", f"{SECOND.prefix6}::/64"]
VLANS = ("vlan10", "vlan20", "vlan30")
ZONES = {
    "office": {"sources": [LAN.address4(OFFICE), LAN.address6(OFFICE)]},
    "desks": {
        "sources": [
            f"{LAN.address4(OFFICE - 5)}-{LAN.address4(OFFICE + 5)}",
            f"{LAN.address6(OFFICE - 5)}-{LAN.address6(OFFICE + 5)}",
        ]
    },
    "branch": {"interfaces": ["eth1"], "sources": SECOND_NETWORK},
    "uplink": {"interfaces": ["eth0"]},
    "second": {"interfaces": ["eth1"]},
    "elsewhere": {"interfaces": ["eth0"], "sources": SECOND_NETWORK},
    # Not there: with so many pairs of interfaces, their names are looked up in a set.
    **{name: {"interfaces": [name]} for name in VLANS},
}
RULES: list[dict[str, t.Any]] = [
    {"to": "host", "ports": [22]},
    {"from": "branch", "to": "host", "ports": [8888]},
    {"to": "published", "ports": [80]},
    {"to": "published", "ports": [443], "action": "reject"},
    {"from": "office", "to": "published", "ports": [8080]},
    {"from": "branch", "to": "published", "ports": ["8080-8081"], "destination": SECOND_NETWORK},
    {"from": "desks", "to": "published", "ports": [8082], "protocol": "udp"},
    {"to": "published", "ports": [8083], "family": "ipv6"},
    {"from": "office", "to": "network:campus", "ports": [80]},
    {"from": "branch", "to": "network:campus", "ports": [UDP], "protocol": "udp"},
    {"from": "containers", "to": "egress", "ports": [INTERNET_HTTP], "action": "reject"},
]
EXCEPTIONS: list[dict[str, t.Any]] = [
    {"to": "routed", "towards": "elsewhere", "protocol": "any"},
    {"from": "office", "to": "routed", "towards": "branch", "ports": [TCP_ECHO]},
    {"from": ["second", *VLANS], "to": "routed", "towards": "uplink", "ports": [UDP], "protocol": "udp"},
    {"from": "containers", "to": "egress", "towards": "branch", "protocol": "any", "action": "drop"},
]

#: Who dials, over what, which of the host's, the container's or a neighbour's addresses, and which port.
Cell = t.Tuple[str, str, str, int]
Cells = t.Dict[Cell, str]


# -- what is tried -----------------------------------------------------------------------------------------------------


def named(host: Host) -> dict[str, str]:
    """The addresses by names that are the same for every host."""
    office, branch = (host.lab.peers[name] for name in ("office", "branch"))
    found = {
        "first v4": host.address4,
        "first v6": host.address6,
        "second v4": str(host.second_address4),
        "second v6": str(host.second_address6),
        "office v4": office.address4,
        "office v6": office.address6,
        "branch v4": branch.address4,
        "branch v6": branch.address6,
    }
    return {**found, **{f"campus v{6 if ':' in one else 4}": one for one in addresses(host)["direct"]}}


DIALLED: list[Cell] = [
    (peer, protocol, f"{place} {family}", port)
    for peer in PEERS
    for place in ("first", "second")
    for family in ("v4", "v6")
    for protocol, port in [*OF_THE_HOST, *PUBLISHED]
    # docker-proxy, which serves UDP over IPv6 on older engines, answers from the first address whichever was dialled.
    if (protocol, place, family) != ("udp", "second", "v6")
]
DIRECT: list[Cell] = [
    (peer, protocol, f"campus {family}", port)
    for peer in PEERS
    for family in ("v4", "v6")
    for protocol, port in OF_CONTAINERS
]
#: From one outside interface to the other.
FORWARDED: list[Cell] = [
    (source, protocol, f"{destination} {family}", port)
    for source, destination in (("office", "branch"), ("peer", "branch"), ("branch", "office"))
    for family in ("v4", "v6")
    for protocol, port in OF_NEIGHBOURS
]


def route_via(host: Host) -> None:
    """Every neighbour sends to the other network, and to the containers, through this host."""
    lab = host.lab
    for name in ("peer", "office"):
        lab.peers[name].route_via(host)
        lab.peers[name].route_via(host, *SECOND_NETWORK)
    for prefix in [*subnets(host), f"{LAN.prefix4}.0/24", f"{LAN.prefix6}::/64"]:
        gateway = host.second_address6 if ":" in prefix else host.second_address4
        lab.peers["branch"].namespace.ip(f"route replace {prefix} via {gateway}")


def look(host: Host, cells: t.Sequence[Cell]) -> Cells:
    """Dial all of them."""
    route_via(host)
    places = named(host)

    def dial(peer: str) -> Cells:
        own = [cell for cell in cells if cell[0] == peer]
        tried = host.lab.peers[peer].probe([target(proto, places[at], port) for _who, proto, at, port in own], PATIENCE)
        return {cell: entry["result"] for cell, entry in zip(own, tried)}

    with ThreadPoolExecutor() as pool:
        return {cell: result for found in pool.map(dial, PEERS) for cell, result in found.items()}


# -- what the policy says ----------------------------------------------------------------------------------------------

RESULTS = {"accept": "open", "drop": "timeout", "reject": "refused"}


def decided(host: Host) -> Cells:
    """What `decide` says of every dial to one of the host's own addresses."""
    policy = parse({"zones": ZONES, "rules": RULES})
    places = named(host)

    def verdict(cell: Cell) -> str:
        peer = host.lab.peers[cell[0]]
        source = peer.address6 if cell[2].endswith("v6") else peer.address4
        dial = Dial(source, places[cell[2]], cell[1], cell[3], peer.network.interface)
        return decide(policy, dial, published=(cell[1], cell[3]) in PUBLISHED).verdict

    return {cell: RESULTS[verdict(cell)] for cell in DIALLED}


def opened(cells: t.Sequence[Cell], *open_: Cell) -> Cells:
    """These are open, of either family, and nothing else."""
    wanted = {(who, proto, f"{at} {family}", port) for who, proto, at, port in open_ for family in ("v4", "v6")}
    assert wanted <= set(cells)
    return {cell: "open" if cell in wanted else "timeout" for cell in cells}


TO_CONTAINERS = opened(DIRECT, ("office", "tcp", "campus", 80), ("branch", "udp", "campus", UDP))
NAMED = opened(FORWARDED, ("office", "tcp", "branch", TCP_ECHO), ("branch", "udp", "office", UDP))


# -- the story ---------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """Hosts with the policy, and what was seen: forwarding without it and without its exceptions, then every dial."""

    lab: Lab
    before: dict[str, Cells]
    closed: dict[str, Cells]
    table: dict[str, Cells]

    def host(self, name: str) -> Host:
        if name not in self.lab.hosts:
            version = ".".join(str(part) for part in engine(self.lab.hosts[SUITES[-1]]))
            pytest.skip(f"needs Docker 29 or newer, LAB_DOCKERD=PATH puts one in place; this is {version}")
        return self.lab.hosts[name]


def engine(host: Host) -> tuple[int, ...]:
    version = host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


def backend(host: Host) -> str:
    return host.run(["docker", "info", "--format", "{{with .FirewallBackend}}{{.Driver}}{{end}}"]).stdout.strip()


def router(lab: Lab, name: str, suite: str, **options: t.Any) -> Host:
    host = lab.add_host(name, suite, 11 + len(lab.hosts), second_nic=True, **options)
    host.disk.write("/etc/sysctl.d/50-router.conf", ROUTER)
    return host


@pytest.fixture(scope="module")
def story(say: t.Callable[[str], None]) -> t.Iterator[Story]:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(f"backends{os.getpid()}"))
        lab.add_peer("office", OFFICE)
        lab.add_peer("branch", BRANCH, second_network=True)
        for name in ("office", "branch"):
            echoing = {**os.environ, "UDP": str(UDP), "TCP": str(TCP_ECHO)}
            server = lab.peers[name].popen([sys.executable, "-I", str(ECHO)], env=echoing)
            stack.callback(server.wait)
            stack.callback(server.kill)
        for suite in SUITES:
            router(lab, suite, suite)
        lab.boot()
        last = lab.hosts[SUITES[-1]]
        last.wait_docker()
        if engine(last) >= (29, 0):
            router(lab, NFTABLES, SUITES[-1], daemon_json={"firewall-backend": "nftables"}).boot()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda host: host.containers_up(CONTAINERS), lab.hosts.values()))
        say(f"routers are up: {', '.join(lab.hosts)}")
        before = {name: look(host, FORWARDED) for name, host in lab.hosts.items()}
        backends = [lab.hosts[name] for name in (SUITES[-1], NFTABLES) if name in lab.hosts]
        for host in backends:
            hardened(host, RULES, zones=ZONES)
        closed = {host.name: look(host, FORWARDED) for host in backends}
        play(lab, "harden", {"docker_firewall_zones": ZONES, "docker_firewall_rules": [*RULES, *EXCEPTIONS]})
        say("the policy is applied")
        table = {name: look(host, [*DIALLED, *DIRECT, *FORWARDED]) for name, host in lab.hosts.items()}
        yield Story(lab, before, closed, table)


@each_host
def test_the_backend_is_the_one_that_is_meant(story: Story, name: str) -> None:
    host = story.host(name)
    found = {words.split()[2] for words in ruleset(host).splitlines() if words.startswith("table ip docker-bridges")}
    assert bool(found) == (name == NFTABLES)
    if engine(host) >= (28, 1):
        assert backend(host) in ("", "iptables") if name != NFTABLES else backend(host) == NFTABLES


@each_host
def test_before_a_router_forwards_everything_between_its_networks(story: Story, name: str) -> None:
    story.host(name)
    assert story.before[name] == dict.fromkeys(FORWARDED, "open")


@each_backend
def test_without_exceptions_a_router_forwards_nothing_between_them(story: Story, name: str) -> None:
    story.host(name)
    assert story.closed[name] == dict.fromkeys(FORWARDED, "timeout")


@each_host
def test_every_dial_ends_as_the_policy_says_on_either_backend(story: Story, name: str) -> None:
    host = story.host(name)
    assert story.table[name] == {**decided(host), **TO_CONTAINERS, **NAMED}
    assert story.table[name] == story.table[SUITES[-1]]
    assert set(story.table[name].values()) == {"open", "timeout", "refused"}
    assert "iifname . oifname . meta l4proto . th dport @routed" in own_table(host)


@each_host
def test_what_containers_start_is_decided_alike(story: Story, name: str) -> None:
    tried = [target("tcp", INTERNET4, INTERNET_HTTP), target("udp", INTERNET4, INTERNET_UDP)]
    places = named(story.host(name))
    tried += [target("tcp", places[f"{peer} v4"], TCP_ECHO) for peer in ("office", "branch")]
    results = from_container(story.host(name), "web", tried)
    assert [entry["result"] for entry in results] == ["refused", "open", "open", "timeout"]


@each_backend
def test_a_forward_policy_drop_is_final_beside_either_backend(story: Story, name: str) -> None:
    """Docker leaves one behind where it has switched forwarding on by itself; its own nftables rules do not pass it."""
    host = story.host(name)
    exception, published = ("office", "tcp", "branch v4", TCP_ECHO), ("office", "tcp", "first v4", 80)
    host.run(["iptables", "-P", "FORWARD", "DROP"])
    try:
        found = look(host, [exception, published])
    finally:
        host.run(["iptables", "-P", "FORWARD", "ACCEPT"])
    assert found == {exception: "timeout", published: "timeout" if name == NFTABLES else "open"}
    assert set(look(host, [exception, published]).values()) == {"open"}


def test_the_table_outlives_restarts_of_docker_with_its_nftables_backend(story: Story) -> None:
    host = story.host(NFTABLES)
    again = hardened(host, [*RULES, *EXCEPTIONS], zones=ZONES)
    assert again.changed(NFTABLES) == 0
    before, up = own_table(host), running(host)
    host.run(["systemctl", "restart", "docker"])
    wait_for("the containers are up again", lambda: running(host) == up, 60)
    host.wait_containers(CONTAINERS)
    assert own_table(host) == before
    assert look(host, [*DIALLED, *DIRECT, *FORWARDED]) == story.table[NFTABLES]
