# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's nftables backend, there and back: the same truth table in every state, and nothing left behind.

The host needs a dockerd of release 29 or later in LAB_DOCKERD. What stands in the way is tested on every engine.
"""

from __future__ import annotations

import json
import re
import subprocess
import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from integration.conftest import Say
from integration.fleet import from_container, ruleset, table, target, tree
from integration.scene import is_root, never_through

from lab.ansible import PlaybookResult, run_playbook, start_playbook
from lab.containers import Container, ContainerSet, Network, addresses, standard_targets
from lab.host import Host
from lab.process import LabError, wait_for
from lab.topology import Lab

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

MIGRATE = "bulkhead.docker_nftables.migrate"
NEWEST = "forky"
DAEMON_JSON = "/etc/docker/daemon.json"
RECORD = "/etc/bulkhead/docker-backend.json"
#: Containers are reached directly, too, so that what DOCKER-USER accepts can overrule what Docker drops.
SETTINGS = {"allow-direct-routing": True, "log-level": "info"}
SCENE = ContainerSet(
    "migrate",
    networks=(
        Network("front", "172.30.1.0/24", "fd00:b1:1::/64"),
        Network("back", "172.30.2.0/24"),
    ),
    containers=(
        Container("web", ("8080:80",)),
        Container(
            "web6",
            ("8081:80", "8082:82/udp", "8083:83"),
            ("front",),
            echo=True,
            options=("--ip", "172.30.1.11", "--ip6", "fd00:b1:1::11"),
        ),
        Container("named", ("8084:80",), ("back",), options=("--ip", "172.30.2.11")),
        Container("unpub", (), ("front",), options=("--ip", "172.30.1.12", "--ip6", "fd00:b1:1::12")),
        Container("db", (), ("back",), options=("--ip", "172.30.2.12")),
    ),
)
#: 198.51.100.50 is the neighbour, .60 another one.
RULES4 = """*filter
:DOCKER-USER - [0:0]
:lan - [0:0]
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -i eth0 -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -m comment --comment "only the \\"inner\\" ones" -j lan
-A DOCKER-USER -i eth0 -o br-+ -m iprange --src-range 198.51.100.60-198.51.100.69 -p tcp -m multiport --dports 80,83 -j DROP
-A DOCKER-USER -i eth0 -d 172.30.1.12/32 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -i br-+ -d 172.30.2.12/32 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -i eth0 -p udp -m udp --dport 82 -j REJECT --reject-with icmp-port-unreachable
-A lan ! -s 198.51.100.60/32 -j DROP
-A lan -j RETURN
COMMIT
"""
RULES6 = """*filter
:DOCKER-USER - [0:0]
-A DOCKER-USER -i eth0 ! -s 2001:db8::60/128 -p tcp -m tcp --dport 83 -j DROP
COMMIT
"""

#: Kills who holds the lock as soon as the file named is back on iptables, while the note of the change is still there.
KILLER = """
import os, sys, time
LOCK, NOTE = "/run/bulkhead/docker.lock", "/run/bulkhead/docker-backend/pending.json"

def holder():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == LOCK for fd in os.listdir(f"/proc/{pid}/fd")):
                return int(pid)
        except OSError:
            pass

until = time.monotonic() + 50
while time.monotonic() < until:
    if os.path.exists(NOTE) and "nftables" not in open(sys.argv[1]).read():
        os.kill(holder(), 9)
        print("killed")
        break
"""

NEEDS_29 = "needs Docker 29 or newer, LAB_DOCKERD=PATH puts one in place"


def engine(host: Host) -> tuple[int, ...]:
    said = host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


def info(host: Host) -> dict[str, t.Any]:
    """What the daemon says of itself; the client of an older release does not show all of it."""
    python = "import json,docker;print(json.dumps(docker.APIClient(version='auto').info()))"
    return json.loads(host.run(["/usr/bin/python3", "-c", python]).stdout)


def backend(host: Host) -> str:
    return str((info(host).get("FirewallBackend") or {}).get("Driver"))


def migrate(host: Host, to: str = "nftables", check: bool = False, **others: t.Any) -> PlaybookResult:
    variables = {"docker_backend_target": to, **{f"docker_backend_{key}": each for key, each in others.items()}}
    return run_playbook(host.lab, MIGRATE, hosts=host.name, extra_vars=variables, check=check, diff=True)


def migrated(host: Host, to: str = "nftables", **others: t.Any) -> dict[str, t.Any]:
    """Run the playbook, which has to succeed; gives the module's result."""
    result = migrate(host, to, **others)
    assert result.rc == 0, f"{result.messages()}\n{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return next(e["result"] for e in result.tasks(host.name) if e["action"].endswith("docker_backend"))


@contextmanager
def scene(name: str, say: Say) -> t.Iterator[Host]:
    """A host with Docker 29 and a DOCKER-USER of many kinds of rules, and two neighbours."""
    with Lab(name) as lab:
        host = lab.add_host("host", NEWEST, daemon_json=SETTINGS)
        lab.add_peer("other", 60)
        lab.boot()
        host.wait_docker()
        if engine(host) < (29, 0):
            pytest.skip(f"{NEEDS_29}; this is {engine(host)}")
        host.containers_up(SCENE)
        lab.peer.route_via(host)
        lab.peers["other"].route_via(host, "172.16.0.0/12", "fd00:b1::/32")
        fill(host)
        say(f"{NEWEST} host with Docker {'.'.join(map(str, engine(host)))} is up")
        yield host


def fill(host: Host) -> None:
    """The rules of DOCKER-USER, as an administrator would make them."""
    host.run(["iptables-restore", "--noflush"], input=RULES4)
    host.run(["ip6tables-restore", "--noflush"], input=RULES6)


def truth(host: Host) -> dict[str, t.Any]:
    """Who reaches what: both neighbours, a container of another network, and the host itself."""
    wanted = standard_targets(host, SCENE)
    own = addresses(host)
    inner = [target("tcp", each, port) for name in ("unpub", "db", "named") for each in own[name] for port in (80, 81)]
    with ThreadPoolExecutor() as pool:
        asked = {name: pool.submit(peer.probe, wanted, 1.0) for name, peer in host.lab.peers.items()}
        asked["web6"] = pool.submit(from_container, host, "web6", inner)
        asked["host"] = pool.submit(host.probe, wanted)
        return {name: table(each.result()) for name, each in asked.items()}


@dataclass
class Snapshot:
    """What must be the same before, and after there and back."""

    files: dict[str, list[t.Any]]
    ruleset: str
    pids: dict[str, str]


def pids(host: Host) -> dict[str, str]:
    said = host.run(["sh", "-c", "docker inspect -f '{{.Name}} {{.State.Pid}}' $(docker ps -q)"]).stdout
    return dict(line.split() for line in said.splitlines())


def snapshot(host: Host) -> Snapshot:
    files = tree(host, "/etc", "/usr/local", "/root")
    return Snapshot(files, ordered(ruleset(host)), pids(host))


def ordered(text: str) -> str:
    """A ruleset without what a restart of Docker puts in another order."""
    return "\n".join(sorted(line.strip() for line in text.splitlines()))


# -- a switch ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(say: Say) -> t.Iterator[Host]:
    with scene("migrate", say) as host:
        yield host


@pytest.fixture(scope="module")
def before(host: Host) -> dict[str, t.Any]:
    """The truth table of the iptables backend, and what it has to show for the tests below to mean anything."""
    found = truth(host)
    peer, other = found["peer"], found["other"]
    four = host.address4
    assert peer[("tcp", four, 8080)] == "timeout"
    assert other[("tcp", four, 8080)] == "open"
    assert peer[("tcp", four, 8081)] == "open"
    assert other[("tcp", four, 8081)] == "timeout"
    assert peer[("udp", four, 8082)] == "refused"
    assert peer[("tcp", "172.30.1.12", 80)] == "open", "a rule of DOCKER-USER overrules Docker"
    assert found["web6"][("tcp", "172.30.2.12", 80)] == "open"
    assert found["web6"][("tcp", "172.30.2.12", 81)] == "timeout"
    assert backend(host) == "iptables"
    return found


def differences(one: dict[str, t.Any], other: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        f"{where} {key}": (results[key], other[where].get(key))
        for where, results in one.items()
        for key in results
        if results[key] != other[where].get(key)
    }


def test_a_published_port_that_would_close_takes_the_change_back(host: Host, before: dict[str, t.Any]) -> None:
    first = snapshot(host)
    result = migrate(host, probes=[{"port": 8081, "expect": "closed"}])
    assert result.rc != 0
    assert "port 8081" in result.messages()
    assert backend(host) == "iptables"
    last = snapshot(host)
    assert (last.files, last.ruleset, last.pids) == (first.files, first.ruleset, first.pids)
    assert differences(before, truth(host)) == {}


def test_nobody_confirms(host: Host, before: dict[str, t.Any]) -> None:
    """The controller dies: the host goes back by itself."""
    first = snapshot(host)
    variables = {
        "docker_backend_confirm_timeout": 10,
        "docker_backend_probes": [{"address": "198.51.100.99", "port": 1}] * 20,
    }
    run = start_playbook(host.lab, MIGRATE, hosts="host", extra_vars=variables)
    wait_for("Docker has its nftables backend", lambda: _driver(host) == "nftables", 60)
    run.kill()
    wait_for("Docker has its iptables backend again", lambda: _driver(host) == "iptables", 60)
    wait_for("the way back is done", lambda: not _active(host), 60)
    last = snapshot(host)
    assert (last.files, last.ruleset, last.pids) == (first.files, first.ruleset, first.pids)
    assert differences(before, truth(host)) == {}
    assert not info(host)["LiveRestoreEnabled"]


def test_a_reboot_before_the_confirmation_is_a_way_back(host: Host, before: dict[str, t.Any]) -> None:
    files = snapshot(host).files
    variables = {"docker_backend_probes": [{"address": "198.51.100.99", "port": 1}] * 20}
    run = start_playbook(host.lab, MIGRATE, hosts="host", extra_vars=variables)
    wait_for("Docker has its nftables backend", lambda: _driver(host) == "nftables", 60)
    run.kill()
    host.reboot(hard=True)
    host.wait_docker()
    host.wait_containers(SCENE)
    assert backend(host) == "iptables"
    assert snapshot(host).files == files
    fill(host)
    assert differences(before, truth(host)) == {}


def test_a_dockerd_that_does_not_start_takes_the_change_back(host: Host, before: dict[str, t.Any]) -> None:
    """Something on the host that neither this collection nor `dockerd --validate` sees."""
    first = snapshot(host)
    # The nftables backend starts nft with this name; one that fails is as good as a kernel without nftables.
    host.write(
        "/usr/local/sbin/nft",
        '#!/bin/sh\n[ "$1" = -f ] && [ "$(cat /proc/$PPID/comm)" = dockerd ] && exit 1\nexec /usr/sbin/nft "$@"\n',
        0o755,
    )
    try:
        result = migrate(host, timeout=30)
    finally:
        host.run(["rm", "/usr/local/sbin/nft"])
    assert result.rc != 0
    assert "gone back to the backend iptables" in result.messages()
    last = snapshot(host)
    assert (last.files, last.ruleset, last.pids) == (first.files, first.ruleset, first.pids)
    assert differences(before, truth(host)) == {}


def test_there_and_back(host: Host, before: dict[str, t.Any]) -> None:
    first = snapshot(host)
    foretold = migrate(host, check=True)
    assert foretold.rc == 0, foretold.messages()
    assert snapshot(host) == first, "check mode changes nothing"

    closed = [target("tcp", host.address4, 8080)]
    with never_through(host, closed, "to nftables"):
        done = migrated(host)
    said = next(e["result"] for e in foretold.tasks("host") if e["action"].endswith("docker_backend"))
    assert said["actions"] == done["actions"]
    assert said["diff"] == done["diff"]
    assert done["confirmed"]
    assert {(each["port"], each["before"], each["after"]) for each in done["probed"]} == {
        (8080, "closed", "closed"),
        (8081, "open", "open"),
        (8083, "open", "open"),
        (8084, "open", "open"),
    }
    assert backend(host) == "nftables"
    assert pids(host) == first.pids, "containers run on"
    assert differences(before, truth(host)) == {}
    assert json.loads(host.read(DAEMON_JSON)) == {
        **SETTINGS,
        "firewall-backend": "nftables",
        "bridge-accept-fwmark": done["accept_fwmark"],
    }
    assert not info(host)["LiveRestoreEnabled"]
    left = host.run(["iptables-save"]).stdout + host.run(["ip6tables-save"]).stdout
    assert "DOCKER" not in left
    assert ":FORWARD DROP" not in left

    again = migrated(host)
    assert not again["changed"]

    host.reboot()
    host.wait_docker()
    host.wait_containers(SCENE)
    assert backend(host) == "nftables"
    assert host.read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
    assert host.read("/proc/sys/net/ipv6/conf/all/forwarding").strip() == "1"
    assert differences(before, truth(host)) == {}
    assert not migrated(host)["changed"]

    _refuses_without_the_record(host)

    with never_through(host, closed, "back to iptables"):
        _killed_while_it_writes_the_disk(host)
        back = migrated(host, "iptables")
    assert back["actions"][0] == "go back from an earlier change that was interrupted half way"
    assert back["confirmed"]
    assert backend(host) == "iptables"
    assert differences(before, truth(host)) == {}
    last = snapshot(host)
    assert last.files == first.files
    assert last.ruleset == first.ruleset
    assert not migrated(host, "iptables")["changed"]

    host.reboot()
    host.wait_docker()
    host.wait_containers(SCENE)
    fill(host)
    assert differences(before, truth(host)) == {}


def _refuses_without_the_record(host: Host) -> None:
    """Nobody else knows the rules that the table was made from."""
    host.run(["mv", RECORD, f"{RECORD}.away"])
    for to in ("nftables", "iptables"):
        result = migrate(host, to, check=True)
        failed = next(e["result"] for e in result.tasks(host.name) if e["status"] == "failed")
        assert [each["code"] for each in failed["obstacles"]] == ["record"]
    host.run(["mv", f"{RECORD}.away", RECORD])


def _killed_while_it_writes_the_disk(host: Host) -> None:
    """With nothing left that would bring it to an end, not even the timer."""
    with host.popen(["python3", "-c", KILLER, DAEMON_JSON], stdout=subprocess.PIPE, text=True) as killer:
        result = migrate(host, "iptables")
        assert killer.communicate(timeout=60)[0] == "killed\n"
    assert result.rc != 0
    timer = "bulkhead-revert-docker-backend.timer"
    assert host.run(["systemctl", "is-active", timer]).stdout == "active\n"
    host.run(["systemctl", "stop", timer])


def _driver(host: Host) -> str:
    try:
        return backend(host)
    except LabError as error:
        return str(error)


def _active(host: Host) -> bool:
    said = host.run(["systemctl", "is-active", "bulkhead-revert-docker-backend.service"], check=False).stdout
    return said.strip() in ("active", "activating")


# -- what stands in the way --------------------------------------------------------------------------------------------


def test_all_that_stands_in_the_way_is_said_at_once(lab_host: Host) -> None:
    before = (ruleset(lab_host), tree(lab_host, "/etc"))
    number = engine(lab_host)
    odd = [
        ["-A", "DOCKER-USER", "-m", "recent", "--name", "x", "--set", "-j", "DROP"],
        ["-A", "DOCKER-USER", "-m", "string", "--string", "x", "--algo", "bm", "-j", "DROP"],
    ]
    lab_host.run(["mkdir", "-p", "/etc/kubernetes"])
    lab_host.write("/etc/kubernetes/kubelet.conf", "")
    try:
        for rule in odd:
            lab_host.run(["iptables", *rule])
        filled = (ruleset(lab_host), tree(lab_host, "/etc"))
        result = migrate(lab_host)
        assert (ruleset(lab_host), tree(lab_host, "/etc")) == filled
    finally:
        for rule in odd:
            lab_host.run(["iptables", "-D", *rule[1:]])
        lab_host.run(["rm", "-r", "/etc/kubernetes"])
    assert (ruleset(lab_host), tree(lab_host, "/etc")) == before
    assert result.rc != 0
    failed = next(e["result"] for e in result.tasks(lab_host.name) if e["status"] == "failed")
    codes = [each["code"] for each in failed["obstacles"]]
    assert codes.count("rule") == 2
    assert "kubernetes" in codes
    if number < (29, 0):
        assert "29.0" in failed["msg"], "an engine that is too old is told so"
        assert "daemon_json" in codes
    assert "nothing was changed" in failed["msg"]


def test_check_mode_fails_on_obstacles_too(lab_host: Host) -> None:
    if engine(lab_host) >= (29, 0):
        pytest.skip(f"the engine is new enough to switch; this is {engine(lab_host)}")
    result = migrate(lab_host, check=True)
    assert result.rc != 0
    assert "29.0" in result.messages()


def test_the_way_back_of_a_host_that_never_left_is_nothing(lab_host: Host) -> None:
    assert not migrated(lab_host, "iptables")["changed"]
