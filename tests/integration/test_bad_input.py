# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong is said in clear sentences, all at once, and the host stays as it was."""

from __future__ import annotations

import os
import typing as t
from contextlib import contextmanager

import pytest

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import ContainerSet, Network
from lab.host import Host
from lab.topology import Lab

SSH = {"to": "host", "ports": [22]}

#: A network is enough here; rules may name it.
NETWORK_ONLY = ContainerSet("network", (), (Network("front", "172.30.1.0/24"),))

FINGERPRINT = """
import hashlib, os, subprocess, sys
print(subprocess.run(["nft", "-s", "list", "ruleset"], stdout=subprocess.PIPE, text=True).stdout)
for top in ("/etc", "/run/bulkhead", "/run/systemd/transient"):
    for place, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(place, name)
            if os.path.islink(path):
                print(path, "->", os.readlink(path))
            else:
                print(path, oct(os.stat(path).st_mode), hashlib.sha256(open(path, "rb").read()).hexdigest())
for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
    print(key, open("/proc/sys/" + key).read())
"""


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    """One host of one release for all mistakes: none of them may change it, and the release plays no part."""
    with Lab(f"mistakes{os.getpid()}") as lab:
        found = lab.add_host("host", "bookworm")
        found.boot()
        found.wait_docker()
        found.containers_up(NETWORK_ONLY)
        yield found


def fingerprint(host: Host) -> str:
    """Everything on the host that a run could have changed."""
    return host.run(["python3", "-c", FINGERPRINT]).stdout


def files_of(host: Host) -> list[str]:
    """The part of the fingerprint that is about files and sysctls."""
    return [line for line in fingerprint(host).splitlines() if line.startswith(("/", "net/"))]


def harden(host: Host, variables: dict[str, t.Any], **options: t.Any) -> PlaybookResult:
    """Run the playbook; whether it fails is up to the caller."""
    return run_playbook(host.lab, "bulkhead.docker_nftables.harden", hosts=host.name, extra_vars=variables, **options)


def refused(host: Host, variables: dict[str, t.Any], **options: t.Any) -> str:
    """Run the playbook, which has to fail and change nothing; give what it says."""
    before = fingerprint(host)
    result = harden(host, variables, **options)
    said = result.messages(host.name)
    assert result.rc == 2, f"it was not refused:\n{result.stdout[-3000:]}"
    assert "Traceback" not in result.stdout + result.stderr
    assert fingerprint(host) == before
    return said


BAD_RULES = {
    "unknown zone": (
        {"rules": [SSH, {"from": "offce", "to": "published", "ports": 80}]},
        "docker_firewall_rules[1].from: unknown zone 'offce'; known are outside, containers, network:NAME",
    ),
    "port out of range": (
        {"rules": [{"to": "host", "ports": [22, 70000]}]},
        "docker_firewall_rules[0].ports[1]: '70000' is out of range; accepted are 1 to 65535,"
        " or a range such as '8000-8010'",
    ),
    "reversed range": (
        {"rules": [{"to": "host", "ports": "90-80"}]},
        "docker_firewall_rules[0].ports: '90-80' is reversed; write '80-90'",
    ),
    "host bits": (
        {"zones": {"office": {"sources": ["192.0.2.1/24"]}}, "rules": [SSH]},
        "docker_firewall_zones.office.sources[0]: '192.0.2.1/24' has host bits set;"
        " write 192.0.2.0/24 or the single address",
    ),
    "IPv4 in an IPv6 rule": (
        {"rules": [{"to": "host", "ports": 22, "family": "ipv6", "destination": "192.0.2.1"}]},
        "docker_firewall_rules[0].destination: '192.0.2.1' is an IPv4 address in a rule with family ipv6",
    ),
    "range across families": (
        {"zones": {"office": {"sources": ["192.0.2.1-2001:db8::1"]}}, "rules": [SSH]},
        "docker_firewall_zones.office.sources[0]: '192.0.2.1-2001:db8::1' mixes IPv4 and IPv6;"
        " both ends of a range belong to one family",
    ),
    "allowed and denied": (
        {"rules": [SSH, {"to": "host", "ports": ["20-25"], "action": "drop"}]},
        "docker_firewall_rules[1]: tcp port 22 is said to drop here and to accept in docker_firewall_rules[0]"
        " for the same zone and target; keep one of them",
    ),
    "unknown key": (
        {"rules": [{"to": "host", "port": 22}]},
        "docker_firewall_rules[0].port: unknown key; accepted are from, to, towards, ports, protocol, action,"
        " destination, family, log, limit, burst, comment",
    ),
    "unknown network": (
        {"rules": [SSH, {"to": "network:frnt", "ports": 80}]},
        "docker_firewall_rules[1].to: network 'frnt' is unknown, Docker has no such bridge network;"
        " known are bridge, front",
    ),
}


@pytest.mark.parametrize(("policy", "message"), BAD_RULES.values(), ids=BAD_RULES)
def test_a_mistake_in_the_policy_is_named_and_changes_nothing(
    host: Host, policy: dict[str, t.Any], message: str
) -> None:
    said = refused(host, {f"docker_firewall_{key}": value for key, value in policy.items()})
    assert "The firewall policy has 1 mistake; nothing was changed." in said
    assert message in said


def test_a_misspelt_variable_is_a_mistake(host: Host) -> None:
    said = refused(host, {"docker_firewall_rules": [SSH], "docker_firewall_egress_defalt": "drop"})
    assert (
        "docker_firewall_egress_defalt: there is no such variable; did you mean docker_firewall_egress_default?" in said
    )


def test_a_variable_of_the_users_own_is_no_mistake(host: Host) -> None:
    own = {"docker_firewall_rules": "{{ docker_firewall_rules_base }}", "docker_firewall_rules_base": [SSH]}
    assert harden(host, own, check=True).rc == 0


def test_all_mistakes_are_named_at_once(host: Host) -> None:
    policy = {
        "docker_firewall_zones": {"office": {"sources": ["192.0.2.1/24"]}},
        "docker_firewall_rules": [{"to": "host", "ports": [70000]}, {"from": "nowhere", "to": "moon"}],
        "docker_firewall_ping": "perhaps",
    }
    del policy["docker_firewall_ping"]
    said = refused(host, policy)
    assert "4 mistakes" in said
    for place in ("zones.office.sources[0]", "rules[0].ports[0]", "rules[1].from", "rules[1].to"):
        assert f"docker_firewall_{place}: " in said


def test_a_pattern_without_an_interface_is_a_warning(host: Host) -> None:
    policy = {
        "docker_firewall_zones": {"vpn": {"interfaces": ["wg*"]}},
        "docker_firewall_rules": [SSH, {"from": "vpn", "to": "published", "ports": 80}],
    }
    result = harden(host, policy, check=True)
    assert result.rc == 0
    assert "docker_firewall_zones.vpn.interfaces: no interface of this host matches 'wg*' now" in result.stdout


def test_a_policy_without_ssh_is_refused_with_address_and_port(host: Host) -> None:
    said = refused(host, {"docker_firewall_rules": [{"to": "published", "ports": 80}]})
    assert f"new SSH connections from {host.lab.peer.address4} to {host.address4} port 22" in said


@contextmanager
def moved(host: Host, *paths: str) -> t.Iterator[None]:
    """Have files away for a while. What is a mount itself, as the dockerd of LAB_DOCKERD, is hidden under a device."""
    there = [path for path in paths if host.run(["test", "-e", path], check=False).returncode == 0]
    assert there, f"none of {paths} is on the host"
    mounts = [path for path in there if host.run(["mountpoint", "-q", path], check=False).returncode == 0]
    for path in there:
        host.run(["mount", "--bind", "/dev/null", path] if path in mounts else ["mv", path, f"{path}.away"])
    try:
        yield
    finally:
        for path in there:
            host.run(["umount", path] if path in mounts else ["mv", f"{path}.away", path])


GOOD = {"docker_firewall_rules": [SSH]}


def test_without_nft_it_says_what_to_install(host: Host) -> None:
    before = fingerprint(host).splitlines()
    with moved(host, "/usr/sbin/nft"):
        result = harden(host, GOOD)
    assert result.rc == 2
    assert "nft is not installed on this host; install the package nftables" in result.messages()
    assert fingerprint(host).splitlines() == before


def test_an_old_nft_is_refused_with_both_versions(host: Host) -> None:
    before = fingerprint(host)
    with moved(host, "/usr/sbin/nft"):
        host.write("/usr/sbin/nft", "#!/bin/sh\necho 'nftables v0.9.8 (E.D.S.)'\n", 0o755)
        try:
            result = harden(host, GOOD)
        finally:
            host.run(["rm", "/usr/sbin/nft"])
    assert result.rc == 2
    assert "nft 1.0.1 or later is needed (found 0.9.8)" in result.messages()
    assert fingerprint(host) == before


def test_without_root_it_says_so(host: Host) -> None:
    host.run(["useradd", "--create-home", "--shell", "/bin/sh", "plain"])
    host.run(["cp", "-r", "/root/.ssh", "/home/plain/.ssh"])
    host.run(["chown", "-R", "plain:", "/home/plain/.ssh"])
    try:
        variables = {**GOOD, "ansible_user": "plain", "ansible_become": False}
        first = refused(host, variables)
        second = refused(host, {**variables, "docker_firewall_docker_required": False})
        third = refused(
            host,
            {
                **variables,
                "docker_firewall_docker_required": False,
                "docker_firewall_manage_forwarding": False,
            },
        )
    finally:
        host.run(["userdel", "--force", "--remove", "plain"])
    assert "no permission to use /var/run/docker.sock: run the task with become" in first
    assert "root" in second
    assert "nftables can only be changed by root; set become to true" in third


def test_without_docker_it_says_so(host: Host) -> None:
    before = files_of(host)
    host.run(["systemctl", "stop", "docker.socket", "docker.service"])
    try:
        with moved(host, "/usr/sbin/dockerd", "/usr/bin/dockerd", "/usr/bin/docker"):
            missing = harden(host, GOOD)
        down = harden(host, GOOD)
        named = {"docker_firewall_rules": [SSH, {"to": "network:front", "ports": 80}]}
        unknown = harden(host, {**named, "docker_firewall_docker_required": False})
    finally:
        host.run(["systemctl", "start", "docker.socket", "docker.service"])
        host.wait_docker()
    assert missing.rc == 2
    assert "Docker is not installed on this host" in missing.messages()
    assert down.rc == 2
    assert "docker_firewall_docker_required" in down.messages()
    assert "Docker is not installed" not in down.messages()
    assert unknown.rc == 2
    assert "docker_firewall_rules[1].to: network 'front' is unknown, Docker cannot be asked now" in unknown.messages()
    assert "mistake" not in unknown.messages()
    # Docker has written its own tables anew; ours must not be there, nor anything on disk.
    assert files_of(host) == before
    assert host.run(["nft", "list", "table", "inet", "bulkhead"], check=False).returncode != 0


def test_a_broken_daemon_json_is_reported_with_its_line(host: Host) -> None:
    host.write("/etc/docker/daemon.json", '{\n  "iptables": true,\n  "ip": }\n', 0o644)
    try:
        result = harden(host, GOOD, check=True)
    finally:
        host.run(["rm", "/etc/docker/daemon.json"])
    assert result.rc == 0
    assert "/etc/docker/daemon.json" in result.stdout
    assert "line 3" in result.stdout
    assert "Docker will not start with it" in result.stdout
