# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import (
    DockerPresence,
    usable_interface_name,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import (
    Interface,
    docker_presence,
    legacy_table_names,
    parse_interfaces,
    proxied_ports,
    read_interfaces,
    read_layout,
    read_os_release,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"
IP = ["ip", "-d", "-j", "address", "show"]
BRIDGE = Interface("docker0", "bridge", True, ("172.17.0.1/16",), True)


@pytest.mark.parametrize("name", ["docker0", "br-0123456789ab", "eth0.100", "a" * 15, "wg-home_1", "veth1@2"])
def test_names_an_interface_can_have(name: str) -> None:
    assert usable_interface_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a" * 16, "a/b", "a b", "a\tb", 'a"b', "a\\b", "br0\n", "a;b", "a*", "brü", None, 5]
)
def test_names_that_are_refused(name: object) -> None:
    assert not usable_interface_name(name)


def test_interfaces_of_a_real_host() -> None:
    found = {
        each.name: each
        for each in parse_interfaces((FIXTURES / "docker-26.1.5-iptables-firewalld" / "ip-addr.json").read_text())
    }
    assert found["eth0"].up
    assert "198.51.100.13/24" in found["eth0"].addresses
    assert "2001:db8::13/64" in found["eth0"].addresses
    assert found["lo"].kind == "loopback"
    assert found["veth24d59f3"].master == "docker0"


def test_kinds_come_from_the_detailed_listing() -> None:
    printed = json.dumps(
        [
            {"ifname": "docker0", "flags": ["UP"], "link_type": "ether", "linkinfo": {"info_kind": "bridge"}},
            {"ifname": "br-lan", "flags": [], "link_type": "ether", "linkinfo": {"info_kind": "bridge"}},
            {"ifname": "br-0123456789ab", "flags": [], "link_type": "ether", "linkinfo": {"info_kind": "vlan"}},
        ]
    )
    read = read_interfaces(FakeRunner([Call(IP, stdout=printed)]))
    assert [(each.name, each.kind, each.up, each.is_bridge, each.docker_bridge) for each in read] == [
        ("docker0", "bridge", True, True, True),
        ("br-lan", "bridge", False, True, False),
        ("br-0123456789ab", "vlan", False, False, False),
    ]


@pytest.mark.parametrize(
    "runner",
    [
        FakeRunner(missing=("ip",)),
        FakeRunner([Call(IP, rc=255, stderr="Option -j is unknown")]),
        FakeRunner([Call(IP, stdout='[{"ifname": ')]),
    ],
)
def test_without_iproute2_the_bridges_are_still_seen(runner: FakeRunner, tmp_path: Path) -> None:
    net = tmp_path / "class" / "net"
    for name in ("lo", "docker0", "veth1"):
        (net / name).mkdir(parents=True)
        (net / name / "flags").write_text("0x1003\n" if name != "veth1" else "0x1002\n")
    (net / "docker0" / "bridge").mkdir()
    (net / "veth1" / "master").symlink_to(net / "docker0")
    (net / "bonding_masters").write_text("")
    assert read_interfaces(runner, str(tmp_path)) == [
        Interface("docker0", "bridge", True, (), True),
        Interface("lo", "loopback", True),
        Interface("veth1", "unknown", False, (), False, "docker0"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="making a bridge needs root")
def test_a_bridge_of_this_kernel() -> None:
    runner = Runner()
    with runner.scratch_network():
        runner.run(["ip", "link", "add", "br-0123456789ab", "type", "bridge"])
        runner.run(["ip", "address", "add", "172.30.0.1/24", "dev", "br-0123456789ab"])
        found = {each.name: each for each in read_interfaces(runner)}
    assert found["br-0123456789ab"] == Interface("br-0123456789ab", "bridge", False, ("172.30.0.1/24",), True)
    assert sorted(found) == ["br-0123456789ab", "lo"]


def proc_with(tmp_path: Path, pid: int, *arguments: str) -> str:
    (tmp_path / str(pid)).mkdir()
    (tmp_path / str(pid) / "cmdline").write_bytes(b"".join(each.encode() + b"\0" for each in arguments))
    return str(tmp_path)


def test_a_running_daemon_is_known_by_its_pid_file(tmp_path: Path) -> None:
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text("812\n")
    proc = proc_with(tmp_path, 812, "/usr/sbin/dockerd", "-H", "fd://")
    found = docker_presence([BRIDGE, Interface("eth0", "ether", True)], str(pid_file), proc)
    assert (found.running, found.pid, found.arguments) == (True, 812, ("/usr/sbin/dockerd", "-H", "fd://"))
    assert found.bridges == {"docker0": ("172.17.0.1/16",)}


def test_a_stale_pid_file_is_no_daemon(tmp_path: Path) -> None:
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text("812")
    assert not docker_presence([], str(pid_file), str(tmp_path)).running
    other = proc_with(tmp_path, 812, "/usr/bin/vim", "dockerd")
    found = docker_presence([BRIDGE], str(pid_file), other)
    assert not found.running
    assert found.bridges, "bridges outlive the daemon"
    assert not docker_presence([], str(tmp_path / "none"), str(tmp_path)).running


def test_old_xtables_are_listed_by_family(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "ip_tables_names").write_text("nat\nfilter\n")
    assert legacy_table_names(str(tmp_path)) == (("filter", "nat"), ())


def process(proc: Path, pid: int, parent: object, *words: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_text("".join(f"{word}\0" for word in words))
    (proc / str(pid) / "status").write_text(f"Name:\tdocker-proxy\nPPid:\t{parent}\n")


def proxy(port: str, protocol: str = "tcp", host: str = "0.0.0.0", container: str = "172.17.0.2") -> tuple[str, ...]:
    ends = ("-host-ip", host, "-host-port", port, "-container-ip", container, "-container-port", "80")
    return ("/usr/sbin/docker-proxy", "-proto", protocol, *ends)


def test_ports_of_docker_proxy(tmp_path: Path) -> None:
    process(tmp_path, 200, 120, *proxy("8080"))
    process(tmp_path, 201, 120, *proxy("53", "udp", "127.0.0.1"))
    process(tmp_path, 202, 120, *proxy("8080"), "-use-listen-fd")
    # IPv6 ends have no rule of IPv4.
    process(tmp_path, 203, 120, *proxy("8081", host="::"))
    process(tmp_path, 204, 120, *proxy("8082", container="fd00::2"))
    # A container may call its process anything, but dockerd did not start it.
    process(tmp_path, 205, 1, *proxy("9999"))
    process(tmp_path, 206, "120x", *proxy("9998"))
    process(tmp_path, 207, 120, *proxy("x"))
    process(tmp_path, 208, 120, "/usr/sbin/docker-proxy", "-proto")
    process(tmp_path, 209, 120, "/usr/sbin/nginx", "-host-port", "1")
    process(tmp_path, 210, 120)
    (tmp_path / "self").mkdir()
    presence = DockerPresence(running=True, pid=120)
    assert proxied_ports(presence, str(tmp_path)) == {("tcp", 8080), ("udp", 53)}


def test_without_docker_nobody_looks_for_its_proxies(tmp_path: Path) -> None:
    process(tmp_path, 200, 120, *proxy("8080"))
    assert proxied_ports(DockerPresence(), str(tmp_path)) == frozenset()
    assert proxied_ports(DockerPresence(running=True, pid=120), str(tmp_path / "none")) == frozenset()


def test_a_broken_layout_is_a_finding(tmp_path: Path) -> None:
    assert read_layout(str(tmp_path)) == (None, [])
    (tmp_path / "etc/bulkhead").mkdir(parents=True)
    path = tmp_path / "etc/bulkhead/layout.json"
    path.write_text('{"layout": "own_table"}')
    layout, findings = read_layout(str(tmp_path))
    assert layout is not None and (layout.layout, findings) == ("own_table", [])
    path.write_text("{")
    layout, findings = read_layout(str(tmp_path))
    assert layout is None
    assert [(each.code, each.severity) for each in findings] == [("LAYOUT_BROKEN", "warning")]
    assert "is not JSON" in findings[0].text


def test_os_release_is_looked_for_in_both_places(tmp_path: Path) -> None:
    assert read_os_release(str(tmp_path)) == ""
    for folder in ("usr/lib", "etc"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "os-release").write_text(f"ID={folder}\n")
        assert read_os_release(str(tmp_path)) == f"ID={folder}\n"
