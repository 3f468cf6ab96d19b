# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read import (
    api_version,
    read_containers,
    read_engine,
    read_networks,
    read_swarm_findings,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import DaemonSettings

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"
OLD = "docker-20.10.24-iptables-firewalld"
MIDDLE = "docker-26.1.5-iptables-firewalld"
NEW = "docker-29.7.2-nftables"
ALL = (OLD, MIDDLE, NEW)
NO_FILE = DaemonSettings("/etc/docker/daemon.json", exists=False, valid=True)


def load(capture: str, name: str) -> Any:
    return json.loads((FIXTURES / capture / f"docker-{name}.json").read_text())


def networks_of(capture: str) -> list[dict[str, Any]]:
    return read_networks(load(capture, "networks"), api_version(load(capture, "version")))[0]


def network(**given: Any) -> dict[str, Any]:
    return {"Name": "n", "Id": "0123456789abcdef", "Driver": "bridge", "Scope": "local", "Options": {}, **given}


@pytest.mark.parametrize(
    ("capture", "version", "backend", "reported"),
    [(OLD, "20.10.24", "iptables", False), (MIDDLE, "26.1.5", "iptables", False), (NEW, "29.7.2", "nftables", True)],
)
def test_the_engine_of_real_hosts(capture: str, version: str, backend: str, reported: bool) -> None:
    engine = read_engine(load(capture, "version"), load(capture, "info"), NO_FILE)
    assert str(engine.pop("version")).startswith(version)
    assert engine.pop("api_version") == load(capture, "version")["ApiVersion"]
    assert engine == {
        "firewall_backend": backend,
        "firewall_backend_reported": reported,
        "live_restore": False,
        "swarm": "inactive",
        "userland_proxy": True,
        "rootless": False,
        "ipv4_forwarding": True,
    }


@pytest.mark.parametrize(
    ("info", "settings", "flags", "proxy"),
    [
        ({}, {}, {}, True),
        ({}, {"userland-proxy": False}, {}, False),
        ({}, {}, {"userland-proxy": False}, False),
        ({"FirewallBackend": {"Driver": "nftables", "Info": [["EnableUserlandProxy", "true"]]}}, {}, {}, True),
    ],
)
def test_the_userland_proxy(info: dict[str, Any], settings: dict[str, Any], flags: dict[str, Any], proxy: bool) -> None:
    daemon = DaemonSettings("x", True, True, None, settings, flags)
    assert read_engine({"ApiVersion": "1.55"}, info, daemon)["userland_proxy"] is proxy


def test_a_rootless_engine_is_known() -> None:
    info = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}
    assert read_engine({}, info, NO_FILE)["rootless"] is True


@pytest.mark.parametrize(
    ("text", "version"), [("1.41", (1, 41)), ("1.9", (1, 9)), (None, (0, 0)), ("x.y", (0, 0)), ("1.2.3", (0, 0))]
)
def test_api_versions_are_compared_as_numbers(text: str | None, version: tuple[int, int]) -> None:
    assert api_version({"ApiVersion": text}) == version


@pytest.mark.parametrize("capture", ALL)
def test_every_bridge_of_a_real_host_is_an_interface_there(capture: str) -> None:
    interfaces = {each["ifname"] for each in json.loads((FIXTURES / capture / "ip-addr.json").read_text())}
    bridges = {each["name"]: each["bridge"] for each in networks_of(capture) if each["driver"] == "bridge"}
    assert set(bridges.values()) <= interfaces
    assert bridges["bridge"] == "docker0"
    assert bridges["named"] == "named0"
    assert re.fullmatch("br-[0-9a-f]{12}", bridges["back"])
    assert {each["bridge"] for each in networks_of(capture) if each["driver"] != "bridge"} == {None}


@pytest.mark.parametrize("capture", ALL)
def test_what_the_networks_of_a_real_host_allow(capture: str) -> None:
    found = {each["name"]: each for each in networks_of(capture)}
    assert found["back"]["subnets"] == ["172.20.0.0/24", "fd00:20::/64"]
    assert found["back"]["ipv6"] is True
    assert found["inner"]["internal"] is True
    assert [name for name, each in found.items() if not each["icc"]] == ["noicc"]


@pytest.mark.parametrize(
    ("capture", "routed", "unprotected"),
    [(OLD, "nat", "nat"), (MIDDLE, "nat", "nat"), (NEW, "routed", "nat-unprotected")],
)
def test_gateway_modes_mean_nothing_to_old_engines(capture: str, routed: str, unprotected: str) -> None:
    found = {each["name"]: each["gateway_mode_ipv4"] for each in networks_of(capture)}
    assert (found["routed"], found["unprot"], found["back"], found["host"]) == (routed, unprotected, "nat", None)


@pytest.mark.parametrize("name", ["a/b", "x" * 16, "two words", 'a"; flush', "br\n0"])
def test_a_bridge_name_no_interface_can_have_is_left_out_and_reported(name: str) -> None:
    networks, findings = read_networks([network(Options={"com.docker.network.bridge.name": name})], (1, 51))
    assert networks[0]["bridge"] is None
    assert [each.code for each in findings] == ["BAD_BRIDGE_NAME"]
    assert repr(name) in findings[0].text


def test_macvlan_is_out_of_reach_of_the_hosts_chains() -> None:
    networks, findings = read_networks([network(Driver="macvlan")], (1, 51))
    assert networks[0]["bridge"] is None
    assert [each.code for each in findings] == ["UNFILTERED_NETWORK"]


def test_trusted_interfaces_are_a_list() -> None:
    options = {"com.docker.network.bridge.trusted_host_interfaces": "vxlan.1:eth3"}
    assert read_networks([network(Options=options)], (1, 51))[0][0]["trusted_host_interfaces"] == ["vxlan.1", "eth3"]


@pytest.mark.parametrize("answer", [{}, {"Name": None, "Driver": "overlay", "IPAM": None, "Options": None}])
def test_a_network_with_nothing_in_it_is_no_traceback(answer: dict[str, Any]) -> None:
    assert read_networks([answer], (0, 0))[0][0]["subnets"] == []


@pytest.mark.parametrize("capture", ALL)
def test_published_ports_of_a_real_host(capture: str) -> None:
    published, host_network, addressed = read_containers(load(capture, "containers"), networks_of(capture))
    found = {(each["protocol"], each["host_port"]): each for each in published}
    assert len(found) == len(published), "v4 and v6 are one entry"
    assert {port for _protocol, port in found} - {32768} == {
        8080,
        8081,
        8082,
        8083,
        8084,
        8085,
        8090,
        9001,
        *range(7000, 7010),
    }
    web6 = found["udp", 8082]
    assert web6["host_addresses"] == ["0.0.0.0", "::"]
    assert (web6["container"], web6["container_port"], web6["network"]) == ("web6", 80, "back")
    assert [address.rpartition(".")[0] or "v6" for address in web6["container_addresses"]] == ["172.20.0", "v6"]
    assert found["tcp", 9001]["host_addresses"] == ["127.0.0.1"]
    assert found["tcp", 8090]["host_address"].startswith("198.51.100.")
    assert [each["name"] for each in host_network] == ["hostnet"]
    assert "hostnet" not in {each["name"] for each in addressed}
    assert {each["name"] for each in addressed} >= {"unpub", "inner", "multi"}


@pytest.mark.parametrize("capture", [OLD, MIDDLE])
def test_ports_lead_where_dockers_own_rules_send_them(capture: str) -> None:
    """The container address of every entry is the one Docker wrote into its DNAT rule."""
    rules = (FIXTURES / capture / "iptables-save.txt").read_text()
    sent = {
        (match[1], int(match[2])): (match[3], int(match[4]))
        for match in re.finditer(r"-p (\w+) .*--dport (\d+) -j DNAT --to-destination ([\d.]+):(\d+)", rules)
    }
    published, _host, _addressed = read_containers(load(capture, "containers"), networks_of(capture))
    found = {
        (each["protocol"], each["host_port"]): (each["container_address"], each["container_port"]) for each in published
    }
    assert len(sent) > 10
    assert found == sent


def test_a_routed_port_has_no_host_port_for_ipv4() -> None:
    published, _host, _addressed = read_containers(load(NEW, "containers"), networks_of(NEW))
    assert [each["host_addresses"] for each in published if each["container"] == "rt"] == [["::"]]


def container(name: str, **given: Any) -> dict[str, Any]:
    return {"Id": name, "Name": f"/{name}", "State": {"Running": True}, "HostConfig": {}, "Config": {}, **given}


def endpoint(identity: str, ipv4: str = "", ipv6: str = "", priority: int = 0) -> dict[str, Any]:
    return {"NetworkID": identity, "IPAddress": ipv4, "GlobalIPv6Address": ipv6, "GwPriority": priority}


@pytest.mark.parametrize(
    ("endpoints", "through"),
    [
        ({"b": endpoint("2", "10.0.2.2"), "a": endpoint("1", "10.0.1.2")}, "a"),
        ({"b": endpoint("2", "10.0.2.2", priority=5), "a": endpoint("1", "10.0.1.2")}, "b"),
        ({"b": endpoint("2", "10.0.2.2", "fd00::2"), "a": endpoint("1", "10.0.1.2")}, "b"),
        ({"inner": endpoint("9", "10.0.9.2", priority=9), "b": endpoint("2", "10.0.2.2")}, "b"),
        ({"a": endpoint("1"), "b": endpoint("2", "10.0.2.2")}, "b"),
        ({}, None),
    ],
)
def test_a_port_is_published_through_the_network_that_is_the_way_out(
    endpoints: dict[str, Any], through: str | None
) -> None:
    known = read_networks(
        [network(Name="a", Id="1"), network(Name="b", Id="2"), network(Name="inner", Id="9", Internal=True)], (1, 51)
    )[0]
    ports = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    answer = container("c", NetworkSettings={"Ports": ports, "Networks": endpoints})
    assert [each["network"] for each in read_containers([answer], known)[0]] == [through]


def test_a_stopped_container_publishes_nothing() -> None:
    ports = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    answer = container("c", State={"Running": False}, NetworkSettings={"Ports": ports})
    assert read_containers([answer], []) == ([], [], [])


def test_the_same_port_on_several_addresses_and_of_two_protocols() -> None:
    bindings = [{"HostIp": address, "HostPort": "53"} for address in ("::1", "198.51.100.9", "127.0.0.1", "::1")]
    ports = {"53/udp": bindings, "53/tcp": bindings[:1], "54/tcp": None, "x": bindings}
    published = read_containers([container("c", NetworkSettings={"Ports": ports})], [])[0]
    assert [(each["protocol"], each["host_addresses"]) for each in published] == [
        ("tcp", ["::1"]),
        ("udp", ["127.0.0.1", "198.51.100.9", "::1"]),
    ]


def test_hostile_names_are_data() -> None:
    name = '/{{ lookup("pipe", "id") }}"; flush ruleset'
    answer = container("c", Name=name, HostConfig={"NetworkMode": "host"}, Config={"ExposedPorts": {"80/tcp": {}}})
    host_network = read_containers([answer], [])[1]
    assert host_network == [{"name": name[1:], "id": "c", "exposed_ports": ["80/tcp"]}]


@pytest.mark.parametrize(("state", "count"), [("active", 1), ("locked", 1), ("inactive", 0), (None, 0)])
def test_a_swarm_node_is_told_what_is_missing(state: str | None, count: int) -> None:
    assert len(read_swarm_findings({"Swarm": {"LocalNodeState": state}})) == count
