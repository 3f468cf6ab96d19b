# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role `docker_daemon` on a host of every release: one story, in which each test begins where the one before ended."""

from __future__ import annotations

import json
import os
import re
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.fleet import fleet

from lab.ansible import PlaybookResult, run_playbook
from lab.host import Host
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")

ROLE = "bulkhead.docker_nftables.docker_daemon"
DAEMON_JSON = "/etc/docker/daemon.json"
RECORD = "/run/bulkhead-docker-daemon.json"
BINDING = "com.docker.network.bridge.host_binding_ipv4"
NETWORK_OPTS = {"bridge": {BINDING: "127.0.0.1"}}
LOOPBACK = "127.0.0.1"

Variables = t.Dict[str, t.Any]

#: What the README recommends. Docker 20.10 does not know one of them, an empty text is what is not set.
RECOMMENDED: Variables = {
    "docker_daemon_live_restore": True,
    "docker_daemon_default_bind_address": LOOPBACK,
    "docker_daemon_new_networks_bind_address": "{{ '127.0.0.1' if inventory_hostname in newer else '' }}",
    "docker_daemon_no_new_privileges": True,
    "docker_daemon_settings": {"log-opts": {"max-size": "10m", "max-file": "3"}},
}

_LOOK = """
import glob, json, subprocess

def docker(*argv):
    return subprocess.run(["docker", *argv], stdout=subprocess.PIPE, check=True).stdout.decode()

def text(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None

ids = docker("ps", "-q", "--no-trunc").split()
commands = [(text(path) or "").split("\\0")[0] for path in glob.glob("/proc/[0-9]*/cmdline")]
print(json.dumps({
    "dockerd": text("/run/docker.pid"),
    "containers": {each["Name"]: each["State"]["Pid"] for each in json.loads(docker("inspect", *ids))},
    "info": json.loads(docker("info", "--format", "{{json .}}")),
    "bridge": json.loads(docker("network", "inspect", "bridge"))[0]["Options"],
    "file": text("/etc/docker/daemon.json"),
    "record": text("/run/bulkhead-docker-daemon.json"),
    "proxies": sum(command.endswith("/docker-proxy") for command in commands),
}))
"""


class Look:
    """What runs on a host."""

    def __init__(self, host: Host) -> None:
        seen = json.loads(host.run(["python3", "-c", _LOOK]).stdout)
        self.dockerd: str = seen["dockerd"]
        self.containers: dict[str, int] = seen["containers"]
        self.info: dict[str, t.Any] = seen["info"]
        self.bridge: dict[str, str] = seen["bridge"]
        self.text: str | None = seen["file"]
        self.record: str | None = seen["record"]
        self.proxies: int = seen["proxies"]

    @property
    def settings(self) -> dict[str, t.Any]:
        return json.loads(self.text or "{}")

    def untouched(self) -> tuple[t.Any, ...]:
        return (self.dockerd, self.containers, self.text, self.record)


def looks(lab: Lab) -> dict[str, Look]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(lab.hosts, pool.map(Look, lab.hosts.values())))


def engine(look: Look) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", look.info["ServerVersion"])[:2])


@pytest.fixture(scope="module")
def lab() -> t.Iterator[Lab]:
    with fleet("daemon") as found:
        yield found


@pytest.fixture(scope="module")
def newer(lab: Lab) -> list[str]:
    """The hosts whose Docker knows default-network-opts."""
    return [name for name, look in looks(lab).items() if engine(look) >= (24, 0)]


def run(lab: Lab, variables: Variables, hosts: str = "docker_hosts", **options: t.Any) -> PlaybookResult:
    """Run the role on all hosts; it has to succeed."""
    task = {"ansible.builtin.include_role": {"name": ROLE}}
    show = {"ansible.builtin.debug": {"var": "docker_daemon_pending"}}
    plays = [{"hosts": hosts, "gather_facts": False, "become": True, "tasks": [task, show]}]
    result = run_playbook(lab, plays, extra_vars=variables, **options)
    assert result.rc == 0, f"{result.messages()}\n{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return result


def changed(result: PlaybookResult) -> dict[str, int]:
    return {name: result.changed(name) for name in result.stats}


def pending(result: PlaybookResult, host: str) -> list[str]:
    return [each["key"] for each in result.tasks(host)[-1]["result"]["docker_daemon_pending"]]


def report(result: PlaybookResult, host: str) -> str:
    shown = [event for event in result.tasks(host) if "Show what Docker has to do" in event["task"]]
    assert len(shown) == 1
    return "\n".join(shown[0]["result"].get("msg", []))


# -- nothing, and mistakes -----------------------------------------------------------------------------------------


def test_nothing_set_changes_nothing(lab: Lab) -> None:
    before = looks(lab)
    assert set(changed(run(lab, {})).values()) == {0}
    after = looks(lab)
    for name in lab.hosts:
        assert before[name].untouched() == after[name].untouched()
        assert after[name].text is None


#: Wrong in every way at once: a name, a value, a key in two places, a flag of the unit, what the engine would not take.
WRONG: Variables = {
    "docker_daemon_live_restor": True,
    "docker_daemon_default_bind_address": "::1",
    "docker_daemon_icc": True,
    "docker_daemon_userland_proxy": False,
    "docker_daemon_settings": {"icc": False, "mtu": "1400", "iptables": False},
    "docker_daemon_bridge_accept_fwmark": "0x1",
    "docker_daemon_firewall_backend": "nftables",
    "docker_daemon_new_networks_bind_address": LOOPBACK,
}
#: What is said, and below which engine, if not to all.
SAID: list[tuple[str, tuple[int, ...]]] = [
    (r"docker_daemon_live_restor: .*did you mean docker_daemon_live_restore", ()),
    (r"docker_daemon_default_bind_address: .*an IPv4 address", ()),
    (r"docker_daemon_icc: icc is in docker_daemon_settings as well", ()),
    (r"docker_daemon_userland_proxy \(userland-proxy\): docker\.service gives it as the flag --userland-proxy", ()),
    (r"docker_daemon_settings\.mtu: the text '1400' is not accepted", ()),
    (r"docker_daemon_settings\.iptables: .*no way out.*docker_daemon_allow_iptables_false", ()),
    (r"docker_daemon_bridge_accept_fwmark \(bridge-accept-fwmark\): Docker knows this key from 29\.0 on", (29, 0)),
    (r"docker_daemon_firewall_backend \(firewall-backend\): Docker knows this key from 29\.0 on", (29, 0)),
    (r"docker_daemon_new_networks_bind_address \(default-network-opts\): .* from 24\.0 on", (24, 0)),
]


def test_mistakes_are_told_together_and_nothing_happens(lab: Lab) -> None:
    for host in lab.hosts.values():
        host.write("/etc/default/docker", 'DOCKER_OPTS="--userland-proxy=true"\n', 0o644)
    before = looks(lab)

    def refused(name: str, variables: Variables) -> dict[str, t.Any]:
        role = {"ansible.builtin.include_role": {"name": ROLE}, "vars": variables}
        say = {"name": name, "ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}"}}
        return {"block": [role], "rescue": [say]}

    tasks = [
        refused("much", WRONG),
        refused("type", {"docker_daemon_settings": ["icc"]}),
        {"ansible.builtin.copy": {"content": '{"icc": true,}\n', "dest": DAEMON_JSON, "mode": "0644"}},
        refused("file", {"docker_daemon_live_restore": True}),
        {"ansible.builtin.file": {"path": DAEMON_JSON, "state": "absent"}},
    ]
    plays = [{"hosts": "docker_hosts", "gather_facts": False, "become": True, "tasks": tasks}]
    result = run_playbook(lab, plays)
    assert result.rc == 0, result.stdout[-3000:]
    after = looks(lab)

    for name, host in lab.hosts.items():
        host.write("/etc/default/docker", "", 0o644)
        assert before[name].untouched() == after[name].untouched()
        told = {event["task"]: event["result"].get("msg") for event in result.tasks(name) if event["status"] == "ok"}
        said = [each for each, below in SAID if not below or engine(before[name]) < below]
        lines = [line for line in told["much"].splitlines() if line.startswith("  - ")]
        # An engine that knows the backend says what a switch would leave behind instead.
        lines = [line for line in lines if "bulkhead.docker_nftables.migrate" not in line]
        missing = [each for each in said if not any(re.search(each, line) for line in lines)]
        assert not missing and len(lines) >= len(said), (name, missing, told["much"])
        assert engine(before[name]) >= (29, 0) or len(lines) == len(said), (name, told["much"])
        assert "docker_daemon_settings' is of type" in told["type"]
        assert told["file"].count("  - ") == 1 and "a comma with nothing behind it" in told["file"]


# -- what a change needs -------------------------------------------------------------------------------------------


def test_the_recommended_settings_leave_containers_running(lab: Lab, newer: list[str]) -> None:
    before = looks(lab)
    variables = {**RECOMMENDED, "newer": newer}
    foretold = run(lab, variables, check=True, diff=True)
    assert '"live-restore": true' in foretold.stdout
    between = looks(lab)
    result = run(lab, variables)
    after = looks(lab)
    for name in lab.hosts:
        assert between[name].untouched() == before[name].untouched()
        assert report(foretold, name) == report(result, name)
        assert pending(foretold, name) == pending(result, name) == ["ip"]
        assert foretold.changed(name) > 0

        assert after[name].containers == before[name].containers
        assert after[name].dockerd != before[name].dockerd
        assert after[name].info["LiveRestoreEnabled"] is True
        known = {"default-network-opts": NETWORK_OPTS} if name in newer else {}
        assert after[name].settings == {
            "live-restore": True,
            "ip": LOOPBACK,
            "no-new-privileges": True,
            "log-opts": {"max-size": "10m", "max-file": "3"},
            **known,
        }
        # Docker keeps the default bridge while containers run: it is said, not hidden.
        assert after[name].bridge[BINDING] == "0.0.0.0"
        assert "PENDING" in report(result, name)


def test_later_networks_publish_on_loopback_and_later_containers_gain_nothing(lab: Lab, newer: list[str]) -> None:
    for name, host in lab.hosts.items():
        host.run(["docker", "network", "create", "later"])
        argv = ["docker", "run", "--rm", "-d", "--name", "late", "--network", "later", "-p", "8099:80", "lab/web"]
        host.run([*argv, "sleep", "600"])
        published = host.run(["docker", "port", "late", "80/tcp"]).stdout.split()
        status = host.run(["docker", "exec", "late", "cat", "/proc/1/status"]).stdout
        host.run(["docker", "rm", "-f", "late"])
        host.run(["docker", "network", "rm", "later"])
        assert "NoNewPrivs:\t1" in status
        assert (published == [f"{LOOPBACK}:8099"]) is (name in newer), (name, published)


def test_what_waits_is_shown_again_and_nothing_changes(lab: Lab, newer: list[str]) -> None:
    result = run(lab, {**RECOMMENDED, "newer": newer})
    for name in lab.hosts:
        assert result.changed(name) == 0
        assert pending(result, name) == ["ip"]
        assert "PENDING" in report(result, name)


def test_with_permission_containers_stop_and_come_back(lab: Lab, newer: list[str]) -> None:
    before = looks(lab)
    variables = {**RECOMMENDED, "newer": newer}
    result = run(lab, {**variables, "docker_daemon_allow_container_restart": True})
    after = looks(lab)
    for name, host in lab.hosts.items():
        assert pending(result, name) == []
        assert after[name].bridge[BINDING] == LOOPBACK
        assert set(after[name].containers) == set(before[name].containers)
        assert not set(after[name].containers.values()) & set(before[name].containers.values())
        assert (after[name].text, after[name].record) == (before[name].text, None)
        assert after[name].info["LiveRestoreEnabled"] is True
        # A container that was there, published without an address.
        assert host.run(["docker", "port", "web", "80/tcp"]).stdout.split() == [f"{LOOPBACK}:8080"]


def test_a_restart_that_may_not_be_is_made_up_for_by_the_next_run(lab: Lab) -> None:
    before = looks(lab)
    variables = {"docker_daemon_userland_proxy": False, "docker_daemon_live_restore": False}
    never = run(lab, {**variables, "docker_daemon_restart": "never"})
    between = looks(lab)
    result = run(lab, variables)
    after = looks(lab)
    for name in lab.hosts:
        assert pending(never, name) == ["userland-proxy"]
        assert (between[name].dockerd, between[name].proxies > 0) == (before[name].dockerd, True)
        # What a reload applies did not have to wait.
        assert between[name].info["LiveRestoreEnabled"] is False

        assert pending(result, name) == [] and after[name].record is None
        assert after[name].dockerd != before[name].dockerd and after[name].proxies == 0
        assert after[name].containers == before[name].containers
        assert after[name].info["LiveRestoreEnabled"] is False and after[name].settings["live-restore"] is False


def test_what_a_reload_applies_restarts_nothing(lab: Lab) -> None:
    before = looks(lab)
    result = run(lab, {"docker_daemon_live_restore": True})
    after = looks(lab)
    for name in lab.hosts:
        assert (after[name].dockerd, after[name].containers) == (before[name].dockerd, before[name].containers)
        assert not before[name].info["LiveRestoreEnabled"] and after[name].info["LiveRestoreEnabled"]
        assert report(result, name) == "Docker is reloaded for: live-restore."
        assert pending(result, name) == []


def test_the_proxy_comes_back_in_a_way_that_docker_can_reload(lab: Lab) -> None:
    """And live-restore goes off in the same run, without a container noticing."""
    before = looks(lab)
    variables = {"docker_daemon_userland_proxy": True, "docker_daemon_live_restore": False}
    result = run(lab, variables)
    after = looks(lab)
    for name in lab.hosts:
        assert before[name].info["LiveRestoreEnabled"] and not after[name].info["LiveRestoreEnabled"]
        assert before[name].proxies == 0 < after[name].proxies and "userland-proxy" not in after[name].settings
        assert after[name].containers == before[name].containers
        assert pending(result, name) == []
    again = run(lab, variables)
    assert set(changed(again).values()) == {0}


# -- other hosts ---------------------------------------------------------------------------------------------------


def test_in_a_swarm_nothing_stops_containers_without_permission(lab: Lab) -> None:
    """On one host: what differs is Docker's answer about live-restore, which all releases give."""
    host = next(iter(lab.hosts.values()))
    host.run(["docker", "swarm", "init", "--advertise-addr", host.address4])
    try:
        before = Look(host)
        result = run(lab, {"docker_daemon_no_new_privileges": False}, hosts=host.name)
        after = Look(host)
    finally:
        host.run(["docker", "swarm", "leave", "--force"])
    assert (after.dockerd, after.containers) == (before.dockerd, before.containers)
    assert pending(result, host.name) == ["no-new-privileges"]
    assert "on a node of a swarm" in report(result, host.name)


def test_the_nftables_backend_of_a_real_docker_29(lab: Lab) -> None:
    hosts = [host for host in lab.hosts.values() if engine(Look(host)) >= (29, 0)]
    if not hosts:
        pytest.skip("needs Docker 29 or newer, LAB_DOCKERD=PATH puts one in place")
    chosen = ",".join(host.name for host in hosts)
    variables = {"docker_daemon_firewall_backend": "nftables", "docker_daemon_bridge_accept_fwmark": "0x10/0x10"}
    role = {"ansible.builtin.include_role": {"name": ROLE}, "vars": variables}
    before = {host.name: Look(host) for host in hosts}
    for host in hosts:
        host.run(["iptables", "-P", "FORWARD", "ACCEPT"])
        host.run(["ip6tables", "-P", "FORWARD", "ACCEPT"])
        host.run(["iptables", "-I", "DOCKER-USER", "-s", "192.0.2.0/24", "-j", "DROP"])
    plays = [{"hosts": chosen, "gather_facts": False, "become": True, "tasks": [role]}]
    refused = run_playbook(lab, plays)
    for host in hosts:
        assert "DOCKER-USER has rules of somebody's (IPv4)" in refused.messages(host.name)
        assert "bulkhead.docker_nftables.migrate" in refused.messages(host.name)
        assert Look(host).untouched() == before[host.name].untouched()
        host.run(["iptables", "-D", "DOCKER-USER", "1"])
    result = run(lab, variables, hosts=chosen)
    for host in hosts:
        after = Look(host)
        assert not {"firewall-backend", "bridge-accept-fwmark"} & set(pending(result, host.name))
        assert after.info["FirewallBackend"]["Driver"] == "nftables"
        assert after.containers == before[host.name].containers
        assert "table ip docker-bridges" in host.run(["nft", "list", "tables"]).stdout
    assert set(changed(run(lab, variables, hosts=chosen)).values()) == {0}
