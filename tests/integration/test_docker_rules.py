# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody flushes Docker's rules: the module puts them back, and no container notices."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.fleet import SUITES, fleet, target
from integration.scene import wait_open

from lab.ansible import PlaybookResult, run_playbook, start_playbook
from lab.containers import Container, ContainerSet, Network, Target
from lab.host import Host
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
each_suite = pytest.mark.parametrize("suite", SUITES)

DAEMON_JSON = "/etc/docker/daemon.json"
RECORD = "/etc/bulkhead/daemon.json.kept"
#: Written by somebody with habits of his own, and not for everybody to read.
ODD = '{ "icc": true,\r\n\t"labels" : ["ort=Köln"]}'
CONTAINERS = ContainerSet(
    "rules",
    networks=(Network("front", "172.30.1.0/24", "fd00:b1:1::/64"),),
    containers=(
        Container("web", ("8080:80",)),
        Container("web80", ("80:80",), ("front",)),
        Container("lo", ("127.0.0.1:9001:80",)),
        Container("job", ("{address4}:8090:80",), options=("--restart=no",)),
        Container("unpub", (), ("front",)),
    ),
)
FLUSH = ("nft flush ruleset",)
ON = "switch live-restore on for the restart"
RESTART = "restart Docker"
BACK = "put daemon.json back and live-restore off"
PLACE = "put the jump to DOCKER-USER in front of Docker's rules"


@dataclass(frozen=True)
class Loss:
    """What somebody does, and how it has to be repaired; `daemon_json` is what Docker was started with."""

    name: str
    commands: tuple[str, ...]
    method: str
    daemon_json: str | None = None
    #: What DOCKER-USER holds afterwards.
    user: str = ""


LOSSES = (
    Loss("everything", FLUSH, "temporary_live_restore"),
    Loss(
        "the DNAT of the ports, and FORWARD",
        ("iptables -t nat -F DOCKER", "iptables -F FORWARD"),
        "temporary_live_restore",
        ODD,
    ),
    # As a file of nftables.service brings the chain, or iptables-restore: behind whatever Docker inserts.
    Loss(
        "everything, and DOCKER-USER is there first",
        (
            *FLUSH,
            "iptables -N DOCKER-USER",
            "iptables -A DOCKER-USER -s 192.0.2.1 -j DROP",
            "iptables -A FORWARD -j DOCKER-USER",
        ),
        "live_restore",
        '{"live-restore": true}',
        "-A DOCKER-USER -s 192.0.2.1/32 -j DROP",
    ),
)


def docker_rules(lab: Lab, check: bool = False, **arguments: t.Any) -> PlaybookResult:
    return run_playbook(lab, playbook(**arguments), check=check)


def playbook(hosts: str = "docker_hosts", **arguments: t.Any) -> list[dict[str, t.Any]]:
    task = {"name": "repair", "bulkhead.docker_nftables.docker_rules": arguments}
    return [{"hosts": hosts, "gather_facts": False, "become": True, "tasks": [task]}]


def result(run: PlaybookResult, host: str) -> dict[str, t.Any]:
    (event,) = run.tasks(host)
    return event["result"]


def pids(host: Host) -> dict[str, str]:
    """The process of every container."""
    names = [container.name for container in CONTAINERS.containers]
    listed = host.run(["docker", "inspect", "--format", "{{.State.Pid}}", *names]).stdout.split()
    return dict(zip(names, listed))


def rules(host: Host, *tables: str) -> list[str]:
    """All that iptables knows of these tables; the order of networks is by chance."""
    listed = [host.run(["iptables", "-t", table, "-S"]).stdout.splitlines() for table in tables or ("filter", "nat")]
    listed.append(host.run(["ip6tables", "-S"]).stdout.splitlines())
    return sorted(
        line for lines in listed for line in lines if not re.match(r"-P|-[AN] (FORWARD -j )?DOCKER-USER", line)
    )


def forward(host: Host) -> list[str]:
    return [line for line in host.run(["iptables", "-S", "FORWARD"]).stdout.splitlines() if line.startswith("-A")]


def live_restore(host: Host) -> bool:
    return host.run(["docker", "info", "--format", "{{.LiveRestoreEnabled}}"]).stdout.strip() == "true"


def daemon_json(host: Host) -> str | None:
    """The file with its mode, byte for byte."""
    if host.run(["test", "-e", DAEMON_JSON], check=False).returncode:
        return None
    return (
        host.run(["stat", "-c", "%a", DAEMON_JSON]).stdout
        + Path(f"{host.disk.root}{DAEMON_JSON}").read_bytes().decode()
    )


def published(host: Host) -> list[Target]:
    return [target("tcp", host.address4, port) for port in (80, 8080, 8090)]


@pytest.fixture(scope="module")
def lab() -> t.Iterator[Lab]:
    with fleet("rules", CONTAINERS) as lab:
        yield lab


@dataclass
class Repaired:
    """A loss on all hosts at once, and what came of it."""

    loss: Loss
    lab: Lab
    before: dict[str, dict[str, t.Any]]
    check: PlaybookResult
    checked: dict[str, dict[str, t.Any]]
    lost: dict[str, dict[str, t.Any]]
    run: PlaybookResult
    again: PlaybookResult


def state(host: Host) -> dict[str, t.Any]:
    return {"pids": pids(host), "rules": rules(host), "daemon_json": daemon_json(host), "live": live_restore(host)}


@pytest.fixture(scope="module", params=LOSSES, ids=lambda loss: loss.name)
def repaired(lab: Lab, request: pytest.FixtureRequest) -> Repaired:
    loss: Loss = request.param
    hosts = lab.hosts.items()
    for host in lab.hosts.values():
        if loss.daemon_json is None:
            host.run(["rm", "-f", DAEMON_JSON])
        else:
            host.write(DAEMON_JSON, loss.daemon_json, 0o640)
            host.run(["systemctl", "reload", "docker"])
    before = {name: state(host) for name, host in hosts}
    for host in lab.hosts.values():
        for command in loss.commands:
            host.run(command.split())
    lost = {name: state(host) for name, host in hosts}
    check = docker_rules(lab, check=True)
    checked = {name: state(host) for name, host in hosts}
    run = docker_rules(lab)
    return Repaired(loss, lab, before, check, checked, lost, run, docker_rules(lab))


@each_suite
def test_rules_are_back_and_no_container_notices(repaired: Repaired, suite: str) -> None:
    host, before, said = repaired.lab.hosts[suite], repaired.before[suite], result(repaired.run, suite)
    assert repaired.run.rc == 0, repaired.run.messages()
    assert repaired.lost[suite]["rules"] != before["rules"], "nothing was lost: this proves nothing"
    assert said["missing"] and (said["method"], said["changed"]) == (repaired.loss.method, True)
    assert said["stopped_containers"] == said["started_containers"] == []
    assert state(host) == before
    assert host.run(["test", "-e", RECORD], check=False).returncode != 0, "the copy of daemon.json was left behind"
    assert sum("-j DNAT" in line for line in rules(host, "nat")) == 4
    wait_open(host, published(host))
    print(f"{suite}, {repaired.loss.name}: {said['method']}, {said['seconds']} s")


@each_suite
def test_docker_user_is_asked_first(repaired: Repaired, suite: str) -> None:
    host = repaired.lab.hosts[suite]
    listed = host.run(["iptables", "-S", "DOCKER-USER"]).stdout.splitlines()
    order = forward(host)
    accepting = min(n for n, line in enumerate(order) if re.search(r"-j (DOCKER|DOCKER-FORWARD|ACCEPT)$", line))
    assert order.index("-A FORWARD -j DOCKER-USER") < accepting
    assert order.count("-A FORWARD -j DOCKER-USER") == 1
    assert not repaired.loss.user or repaired.loss.user in listed


@each_suite
def test_check_mode_says_it_and_does_nothing(repaired: Repaired, suite: str) -> None:
    said, done = result(repaired.check, suite), result(repaired.run, suite)
    assert repaired.checked[suite] == repaired.lost[suite]
    assert (said["missing"], said["method"], said["changed"]) == (done["missing"], done["method"], True)
    assert [action for action in said["actions"] if action != PLACE] == [
        action for action in done["actions"] if action != PLACE
    ]


@each_suite
def test_a_second_run_finds_nothing_to_do(repaired: Repaired, suite: str) -> None:
    said = result(repaired.again, suite)
    assert (said["changed"], said["missing"], said["actions"]) == (False, [], [])


# -- a run that is cut off ---------------------------------------------------------------------------------------------

#: Kills the module as soon as live-restore is in daemon.json.
_KILL = f"""
import os, sys, time
until = time.monotonic() + 30
while time.monotonic() < until:
    if os.path.exists({RECORD!r}) and b"live-restore" in open({DAEMON_JSON!r}, "rb").read():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if pid == str(os.getpid()):
                continue
            words = open("/proc/" + pid + "/cmdline").read().split("\\0") if os.path.exists("/proc/" + pid) else []
            # The module comes through a pipe; the containers' programs are arguments.
            if os.path.basename(words[0]).startswith("python3") and "-c" not in words:
                os.kill(int(pid), 9)
                sys.exit(0)
    time.sleep(0.005)
sys.exit("the module never touched daemon.json")
"""


def test_what_a_killed_run_leaves_the_next_one_puts_back(lab: Lab) -> None:
    name, host = next(iter(lab.hosts.items()))
    host.write(DAEMON_JSON, '{"live-restore": false}')
    host.run(["systemctl", "reload", "docker"])
    host.write(DAEMON_JSON, ODD, 0o640)
    before = state(host)
    assert not before["live"]
    host.run(FLUSH[0].split())
    run = start_playbook(lab, playbook(name))
    host.run(["/usr/bin/python3", "-c", _KILL])
    assert run.wait().failed(name) == 1
    assert '"live-restore": true' in host.read(DAEMON_JSON)
    assert host.run(["stat", "-c", "%a", RECORD]).stdout.strip() == "600"
    host.wait_docker()

    done = docker_rules(lab, hosts=name)
    assert done.rc == 0, done.messages()
    actions = result(done, name)["actions"]
    assert actions[0] == f"put {DAEMON_JSON} back, which an earlier run could not"
    assert [action for action in actions[1:] if action != PLACE] == [ON, RESTART, BACK]
    assert state(host) == before


# -- where containers have to stop -------------------------------------------------------------------------------------


def test_containers_stop_only_with_permission(lab: Lab) -> None:
    name, host = list(lab.hosts.items())[-1]
    host.write(DAEMON_JSON, '{"live-restore": false}')
    host.run(["systemctl", "reload", "docker"])
    before = state(host)
    host.run(FLUSH[0].split())
    refused = docker_rules(lab, hosts=name, live_restore="as_configured")
    assert refused.failed(name) == 1 and result(refused, name)["changed"] is False
    assert "stops its running containers (job, lo, unpub, web, web80)" in refused.messages()
    assert pids(host) == before["pids"]

    done = docker_rules(lab, hosts=name, live_restore="as_configured", allow_container_restart=True)
    assert done.rc == 0, done.messages()
    said = result(done, name)
    assert (said["method"], said["started_containers"]) == ("container_restart", ["job"])
    assert said["actions"] == [RESTART, "start container job"]
    assert not set(pids(host).values()) & {*before["pids"].values(), "0"}
    wait_open(host, published(host))
    assert docker_rules(lab, hosts=name).changed(name) == 0
