# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that read, on real hosts over SSH: as Docker left them, and with everything wrong the modules warn of."""

from __future__ import annotations

import os
import re
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from integration.fleet import fleet

from lab.ansible import run_playbook
from lab.host import Host
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")

ENGINE = {"bookworm": "20.10.", "trixie": "26.1.", "forky": "28.5."}
PLAYBOOK = """
- hosts: docker_hosts
  gather_facts: false
  tasks:
    - bulkhead.docker_nftables.nftables_info:
    - bulkhead.docker_nftables.docker_firewall_info:
"""
FORWARD_DROP = """
table inet mine {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
    }
}
"""

Facts = t.Dict[str, t.Any]


@pytest.fixture(name="lab", scope="module")
def _lab() -> t.Iterator[Lab]:
    with fleet("read") as lab:
        yield lab


@pytest.fixture(name="playbook")
def _playbook(tmp_path: Path) -> str:
    path = tmp_path / "read.yml"
    path.write_text(PLAYBOOK)
    return str(path)


def read(lab: Lab, playbook: str, **extra_vars: t.Any) -> dict[str, tuple[Facts, Facts]]:
    """What both modules say, by host."""
    result = run_playbook(lab, playbook, extra_vars=extra_vars)
    assert result.rc == 0, result.messages() + result.stdout[-2000:]
    said = {}
    for name in lab.hosts:
        ruleset, docker = [event["result"] for event in result.tasks(name)]
        assert not ruleset["changed"]
        assert not docker["changed"]
        said[name] = (ruleset, docker)
    return said


def codes(facts: Facts) -> list[tuple[str, str]]:
    return [(each["code"], each["where"]) for each in facts["warnings_found"]]


def on_all(lab: Lab, work: t.Callable[[Host], object]) -> None:
    """Do the same on every host at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(work, lab.hosts.values()))


def restart_docker(host: Host) -> None:
    host.run(["systemctl", "restart", "docker.socket", "docker.service"])
    host.wait_docker()


def break_docker(host: Host) -> None:
    host.run(["systemctl", "stop", "docker.service", "docker.socket"])
    host.write("/etc/docker/daemon.json", '{\n  "icc": false\n  "iptables": true\n}\n', 0o644)


def repair_docker(host: Host) -> None:
    host.run(["rm", "/etc/docker/daemon.json"])
    restart_docker(host)


def dnat(host: Host) -> dict[tuple[str, int], tuple[str, int]]:
    """Where Docker's own rules send each host port."""
    saved = host.run(["iptables-save", "-t", "nat"]).stdout
    found = re.finditer(r"-p (\w+) .*--dport (\d+) -j DNAT --to-destination ([\d.]+):(\d+)", saved)
    return {(match[1], int(match[2])): (match[3], int(match[4])) for match in found}


def engine(host: Host) -> str:
    """How the version of the host's engine begins: that of its release, or of the one that takes its place."""
    if "LAB_DOCKERD" not in os.environ:
        return ENGINE[host.suite]
    return re.findall(r"version ([\d.]+)", host.run(["dockerd", "--version"]).stdout)[0]


def test_hosts_as_docker_left_them(lab: Lab, playbook: str) -> None:
    for name, (ruleset, docker) in read(lab, playbook).items():
        host = lab.hosts[name]
        assert codes(ruleset) == codes(docker) == []
        assert docker["engine"]["version"].startswith(engine(host))
        assert docker["engine"]["firewall_backend"] == "iptables"
        published = {
            (each["protocol"], each["host_port"]): (each["container_address"], each["container_port"])
            for each in docker["published"]
        }
        assert len(published) > 8
        assert published == dnat(host)
        bridges = {each["bridge"] for each in docker["networks"] if each["bridge"]}
        assert bridges == {each["name"] for each in docker["interfaces"] if each["docker_bridge"]}
        assert len(bridges) >= 4
        assert [each["name"] for each in docker["host_network_containers"]] == ["hostnet"]
        tables = {f"{each['family']} {each['name']}": each for each in ruleset["tables"]}
        assert tables["ip nat"]["owner"] == "iptables-nft"
        assert tables["ip nat"]["used_by"] == ["docker"]
        rules = [rule for table in tables.values() for chain in table["chains"] for rule in chain["rules"]]
        assert len(rules) > 50
        assert all(rule["text"] for rule in rules)
        assert sum(rule["text"].count("dnat to ") for rule in rules) >= len(published)


def test_the_connection_the_module_came_through(lab: Lab, playbook: str) -> None:
    for name, (_ruleset, docker) in read(lab, playbook).items():
        connection = docker["ssh_connection"]
        assert connection.pop("client_port") > 1023
        assert connection == {
            "client_address": str(lab.peer.address4),
            "server_address": str(lab.hosts[name].address4),
            "server_port": 22,
            "interface": "eth0",
        }


def test_the_connection_of_a_plain_user_with_sudo_over_ipv6(lab: Lab, playbook: str) -> None:
    for host in lab.hosts.values():
        host.run(["useradd", "--create-home", "--shell", "/bin/sh", "deploy"])
        host.run(["install", "-d", "-o", "deploy", "-m", "0700", "/home/deploy/.ssh"])
        keys = "/home/deploy/.ssh/authorized_keys"
        host.run(["install", "-o", "deploy", "-m", "0600", "/root/.ssh/authorized_keys", keys])
        host.write("/etc/sudoers.d/deploy", "deploy ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    said = read(lab, playbook, ansible_user="deploy", ansible_become=True, ansible_host="{{ lab_address6 }}")
    for name, (_ruleset, docker) in said.items():
        connection = docker["ssh_connection"]
        assert (connection["client_address"], connection["interface"]) == (str(lab.peer.address6), "eth0")
        assert connection["server_address"] == str(lab.hosts[name].address6)
        assert docker["available"]


def test_a_plain_user_is_told_to_become_root(lab: Lab, tmp_path: Path) -> None:
    for host in lab.hosts.values():
        host.run(["useradd", "--create-home", "--shell", "/bin/sh", "guest"])
    book = tmp_path / "guest.yml"
    book.write_text(PLAYBOOK.replace("gather_facts: false", "gather_facts: false\n  ignore_errors: true"))
    # Becoming somebody who is not root, from root: the modules run without any right.
    extra = {"ansible_become": True, "ansible_become_user": "guest", "ansible_become_method": "su"}
    result = run_playbook(lab, str(book), extra_vars=extra)
    for name in lab.hosts:
        ruleset, docker = [event["result"] for event in result.tasks(name)]
        assert "needs root" in ruleset["msg"], ruleset
        assert "Traceback" not in str(ruleset)
        assert docker["reason_code"] == "permission_denied"
        assert [each["name"] for each in docker["interfaces"] if each["docker_bridge"]]


def test_rules_somebody_flushed_are_missed(lab: Lab, playbook: str) -> None:
    for host in lab.hosts.values():
        host.run(["nft", "flush", "ruleset"])
    flushed = read(lab, playbook)
    on_all(lab, restart_docker)
    for name, (ruleset, docker) in read(lab, playbook).items():
        assert codes(flushed[name][0]) == [("DOCKER_RULES_MISSING", "ip nat DOCKER")]
        assert flushed[name][1]["published"], "Docker goes on as if nothing had happened"
        assert codes(ruleset) == codes(docker) == []


def test_a_native_forward_drop_is_seen_and_really_cuts(lab: Lab, playbook: str) -> None:
    for host in lab.hosts.values():
        host.run(["nft", "-f", "-"], input=FORWARD_DROP)
    cut = read(lab, playbook)
    reached = {
        name: lab.peer.probe([{"proto": "tcp", "address": str(host.address4), "port": 8080}], timeout=1.5)
        for name, host in lab.hosts.items()
    }
    for name, host in lab.hosts.items():
        host.run(["nft", "delete", "table", "inet", "mine"])
        assert ("FORWARD_DROP_CUTS_DOCKER", "inet mine forward") in codes(cut[name][0])
        assert [each["result"] for each in reached[name]] == ["timeout"]


def test_a_docker_that_is_down_with_a_broken_daemon_json(lab: Lab, playbook: str) -> None:
    on_all(lab, break_docker)
    said = read(lab, playbook)
    on_all(lab, repair_docker)
    for ruleset, docker in said.values():
        assert (docker["available"], docker["running"]) == (False, False)
        assert docker["reason_code"] == "daemon_unreachable"
        assert docker["daemon_json"]["error"].startswith("/etc/docker/daemon.json: line 3, column 3")
        assert codes(docker) == [("DAEMON_JSON_BROKEN", "/etc/docker/daemon.json")]
        assert "docker0" in [each["name"] for each in docker["interfaces"] if each["docker_bridge"]]
        assert not any(code == "DOCKER_RULES_MISSING" for code, _where in codes(ruleset))
