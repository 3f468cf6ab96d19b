# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test hosts themselves: what every other integration test stands on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from lab import STANDARD, Host, Lab, LabError, ansible, cleanup, netns, paths, standard_targets, state
from lab.containers import published_targets, running
from lab.disk import mounts_below
from lab.images import image
from lab.network import INTERNET4, INTERNET6, INTERNET_HTTP, INTERNET_UDP

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root for namespaces and mounts")

VERSIONS = {"bookworm": ("20.10", "1.0.6"), "trixie": ("26.1", "1.1.3"), "forky": ("28.5", "1.1.7")}
# Published on one address only: closed elsewhere even where nothing filters.
ELSEWHERE = {("bound", 6), ("lo", 4), ("lo", 6)}


def _family(target: dict[str, t.Any]) -> int:
    return 6 if ":" in target["address"] else 4


def _input_chain(table: str, *rules: str) -> str:
    lines = [f"table inet {table} {{", "chain input {", "type filter hook input priority 0;", *rules, "}", "}"]
    return "\n".join(lines) + "\n"


def test_a_host_is_what_the_release_ships(lab_host: Host) -> None:
    docker, nft = VERSIONS[lab_host.suite]
    assert lab_host.failed_units() == []
    assert lab_host.run(["systemctl", "is-active", "docker", "ssh"]).stdout.split() == ["active", "active"]
    assert lab_host.run(["systemctl", "is-enabled", "nftables"], check=False).stdout.strip() == "disabled"
    if not lab_host.config["dockerd"]:
        version = lab_host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout
        assert version.startswith(docker), version
    assert f"v{nft}" in lab_host.run(["nft", "--version"]).stdout
    assert lab_host.run(["hostname"]).stdout == "host\n"


def test_the_standard_containers_run_on_several_networks(lab_host: Host) -> None:
    assert running(lab_host) == {container.name for container in STANDARD.containers}
    assert len(running(lab_host)) >= 8
    networks = lab_host.run(["docker", "network", "ls", "--format", "{{.Name}}"]).stdout.split()
    assert {"bridge", "front", "back", "sealed"} <= set(networks)


def test_a_neighbour_reaches_every_published_port_before_hardening(lab_host: Host) -> None:
    results = lab_host.lab.peer.probe(published_targets(lab_host))
    assert {(_family(entry), entry["proto"]) for entry in results} == {(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")}
    wrong = [
        entry
        for entry in results
        if entry["result"] != ("refused" if (entry["container"], _family(entry)) in ELSEWHERE else "open")
    ]
    assert wrong == []


def test_the_answer_comes_from_the_container(lab_host: Host) -> None:
    peer = lab_host.lab.peer
    assert [peer.get(address, 8081) for address in (lab_host.address4, lab_host.address6)] == ["web6", "web6"]
    assert peer.get(lab_host.address4, 8888) == "hostnet"


def test_containers_reach_the_internet(lab_host: Host) -> None:
    page = lab_host.run(["docker", "exec", "web", "wget", "-q", "-O-", f"http://{INTERNET4}:{INTERNET_HTTP}/"]).stdout
    assert page == f"internet sees {lab_host.address4}\n"


def test_the_host_and_its_neighbour_reach_the_internet(lab_host: Host) -> None:
    targets = [
        {"proto": proto, "address": address, "port": port}
        for address in (INTERNET4, INTERNET6)
        for proto, port in (("tcp", INTERNET_HTTP), ("udp", INTERNET_UDP))
    ]
    for results in (lab_host.probe(targets), lab_host.lab.peer.probe(targets)):
        assert [entry["result"] for entry in results] == ["open"] * 4


def test_probes_tell_the_ways_of_being_closed_apart(lab_host: Host) -> None:
    rules = _input_chain(
        "lab_probe",
        "meta l4proto { tcp, udp } th dport 5001 drop",
        "meta l4proto { tcp, udp } th dport 5002 reject with icmpx host-unreachable",
    )
    lab_host.run(["nft", "-f", "-"], input=rules)
    try:
        targets = [
            {"proto": proto, "address": address, "port": port}
            for port in (5001, 5002, 5003)
            for proto in ("tcp", "udp")
            for address in (lab_host.address4, lab_host.address6)
        ]
        results = lab_host.lab.peer.probe(targets, timeout=0.6)
    finally:
        lab_host.run(["nft", "delete", "table", "inet", "lab_probe"])
    found = {(entry["port"], entry["proto"], entry["result"]) for entry in results}
    assert {item for item in found if item[0] != 5002} == {
        (5001, "tcp", "timeout"),
        (5001, "udp", "timeout"),
        (5003, "tcp", "refused"),
        (5003, "udp", "refused"),
    }
    assert {item[2] for item in found if item[0] == 5002} == {"unreachable"}


def test_a_watch_sees_a_door_that_opens_for_a_moment(lab_host: Host) -> None:
    rules = _input_chain("lab_watch", "tcp dport 5005 drop")
    lab_host.run(["nft", "-f", "-"], input=rules)
    target = {"proto": "tcp", "address": lab_host.address4, "port": 5005}
    listener = lab_host.popen(["python3", "-m", "http.server", "5005"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        with lab_host.lab.peer.watch([target]) as closed:
            time.sleep(1)
        with lab_host.lab.peer.watch([target]) as watch:
            time.sleep(0.5)
            lab_host.run(["nft", "flush", "chain", "inet", "lab_watch", "input"])
            time.sleep(0.1)
            lab_host.run(["nft", "add", "rule", "inet", "lab_watch", "input", "tcp", "dport", "5005", "drop"])
            time.sleep(0.5)
    finally:
        listener.kill()
        listener.wait()
        lab_host.run(["pkill", "-f", "http.server 5005"], check=False)
        lab_host.run(["nft", "delete", "table", "inet", "lab_watch"])
    never, report = closed.stop(), watch.stop()
    assert never["successes"] == []
    assert never["attempts"] >= 100
    assert never["max_gap"] < 0.2
    assert 0 < len(report["successes"]) < report["attempts"]


def test_ansible_reaches_the_host_from_the_neighbour(lab_host: Host) -> None:
    result = ansible.ping(lab_host.lab)
    assert (result.rc, result.changed("host"), result.failed("host")) == (0, 0, 0), result.stdout + result.stderr
    task = [{"ansible.builtin.command": {"cmd": "cat /etc/hostname"}}, {"ansible.builtin.fail": {"msg": "as wanted"}}]
    plays = [{"hosts": "docker_hosts", "gather_facts": False, "tasks": task}]
    failing = ansible.run_playbook(lab_host.lab, plays)
    assert failing.rc == 2
    assert (failing.changed("host"), failing.failed("host")) == (1, 1)
    assert failing.tasks("host")[0]["result"]["stdout"] == "host"
    assert failing.messages() == "as wanted"


def test_a_lock_out_locks_ansible_out(lab_host: Host) -> None:
    rules = _input_chain("lab_lock", "tcp dport 22 drop")
    ansible.close_connections(lab_host.lab)
    lab_host.run(["nft", "-f", "-"], input=rules)
    try:
        assert ansible.ping(lab_host.lab).rc == 4
    finally:
        lab_host.run(["nft", "delete", "table", "inet", "lab_lock"])
    assert ansible.ping(lab_host.lab).rc == 0


@pytest.mark.parametrize("hard", [True, False], ids=["power loss", "reboot"])
def test_rules_in_the_kernel_do_not_outlive_a_reboot_but_the_disk_does(lab_host: Host, hard: bool) -> None:
    lab_host.run(["nft", "add", "table", "inet", "lab_lost"])
    lab_host.write("/root/kept", f"{hard}\n")
    before = lab_host.read("/proc/sys/kernel/random/boot_id"), netns.identity(lab_host.namespace.path)
    lab_host.reboot(hard=hard)
    lab_host.wait_containers()
    assert netns.identity(lab_host.namespace.path) != before[1]
    assert lab_host.read("/root/kept") == f"{hard}\n"
    tables = lab_host.run(["nft", "list", "tables"]).stdout
    assert "lab_lost" not in tables
    assert "nat" in tables
    (door,) = lab_host.lab.peer.probe([{"proto": "tcp", "address": lab_host.address4, "port": 8080}])
    assert door["result"] == "open"


def test_a_file_can_be_written_while_the_host_is_off(lab_host: Host) -> None:
    lab_host.poweroff()
    try:
        lab_host.write("/etc/lab-off", "written\n")
        with pytest.raises(LabError, match="not running"):
            lab_host.run(["true"])
    finally:
        lab_host.boot()
    assert lab_host.read("/etc/lab-off") == "written\n"
    lab_host.wait_containers()


def test_a_second_lab_of_the_same_name_is_refused(lab_host: Host) -> None:
    with pytest.raises(LabError, match="in use by process"):
        Lab(lab_host.lab.name).start()
    assert lab_host.run(["true"]).returncode == 0


def test_nothing_runs_outside_the_namespaces_of_a_lab() -> None:
    with pytest.raises(LabError, match="not a network namespace of a lab"):
        netns.guard("/proc/self/ns/net")
    with pytest.raises(LabError, match="not a network namespace of a lab"):
        netns.require_lab_namespace()


def _machine() -> dict[str, str]:
    """The machine's own network, read only."""
    commands = {
        "rules": ["nft", "list", "ruleset"],
        "links": ["ip", "-o", "link"],
        "addresses": ["ip", "-o", "-4", "address"],
        "routes": ["ip", "route"],
        "sysctls": ["sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter"],
    }
    return {
        name: subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout
        for name, argv in commands.items()
    }


_CHILD = """
import sys, time
from lab import STANDARD, Lab
lab = Lab(sys.argv[1]).start()
host = lab.add_host("host", sys.argv[2], second_nic=True)
host.boot()
host.containers_up(STANDARD)
watch = lab.peer.watch([{"proto": "tcp", "address": host.address4, "port": 8080}])
print("up", flush=True)
time.sleep(600)
"""


def _remains(name: str) -> dict[str, list[str]]:
    """Everything on the machine that bears the lab's name."""
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"{paths.prefix(name)}" in command:
                commands.append(command)
    places = [paths.DISKS / name, state.directory(name), *(root / name for root in paths.cgroup_roots())]
    nspawn = Path("/run/systemd/nspawn")
    traces = [*nspawn.glob(f"*/{paths.prefix(name)}*")]
    return {
        "processes": commands,
        "namespaces": netns.names(paths.prefix(name)),
        "mounts": mounts_below(paths.DISKS / name),
        "directories": [str(place) for place in (*places, *traces) if place.exists()],
    }


def test_nothing_is_left_of_a_lab_whose_owner_was_killed(suite: str) -> None:
    before = _machine()
    name = f"killed{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY / "tests")}
    owner = subprocess.Popen(
        [sys.executable, "-c", _CHILD, name, suite], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        lines = iter(owner.stdout.readline, "")
        assert "up\n" in lines
        record = state.load(name)
        spaces = {netns.identity(netns.DIRECTORY / space) for space in netns.names(paths.prefix(name))}
        assert len(netns.processes(spaces)) > 15
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert record is not None
    left = _remains(name)
    assert all(left.values()), left
    removed = cleanup.remove_orphans()
    assert name in removed or state.load(name) is None
    assert _remains(name) == {"processes": [], "namespaces": [], "mounts": [], "directories": []}
    assert netns.processes(spaces) == []
    assert _machine() == before


def test_another_dockerd_takes_the_packaged_ones_place(new_host: t.Callable[..., Host]) -> None:
    """trixie's daemon in forky: what LAB_DOCKERD and LAB_DOCKER_PROXY do with a newer one."""
    older = image("trixie") / "usr/sbin"
    host = new_host("forky", dockerd=str(older / "dockerd"), docker_proxy=str(older / "docker-proxy"))
    assert host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout.startswith("26.1")
    door = {"proto": "tcp", "address": host.address6, "port": 8080}
    assert [entry["result"] for entry in host.lab.peer.probe([door])] == ["open"]


def test_the_command_line_brings_a_lab_up_and_down(suite: str) -> None:
    name = f"cli{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY / "tests")}

    def call(*argv: str) -> str:
        command = [sys.executable, "-m", "lab", *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        call("up", name, "--suite", suite, "--containers", "standard")
        assert f"{name}  host  {suite}  up  198.51.100.11" in call("list")
        assert call("exec", name, "host", "--", "hostname") == "host\n"
        assert "198.51.100.50" in call("exec", name, "peer", "--", "ip", "-4", "address")
        assert "open         tcp  198.51.100.11  8080  web" in call("probe", name)
        assert '"docker_hosts"' in call("inventory", name)
        assert ansible.ping(Lab.attach(name)).rc == 0
    finally:
        call("down", name)
    assert _remains(name) == {"processes": [], "namespaces": [], "mounts": [], "directories": []}


def test_targets_cover_hosts_services_and_containers(lab_host: Host) -> None:
    targets = standard_targets(lab_host)
    kinds = {(entry["proto"], _family(entry), bool(entry.get("direct"))) for entry in targets}
    assert kinds == {
        (proto, family, direct) for proto in ("tcp", "udp") for family in (4, 6) for direct in (True, False)
    }
    assert {22, 80, 443, 8888} <= {entry["port"] for entry in targets}
