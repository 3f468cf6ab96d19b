# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout iptables_compat through everything that happens to a host, beside tools that use iptables themselves.

One host for each Debian release. Each test leaves it with its policy in force and its containers up.
BULKHEAD_SEED repeats an order of restarts.
"""

from __future__ import annotations

import json
import os
import random
import time
import typing as t
from pathlib import Path

import pytest
from integration.conf_scene import (
    BIT,
    CONF,
    FORWARD_BY_MARK,
    TOOLS,
    Banning,
    assert_no_rule_twice,
    conf,
    counted,
    policies,
    rules_of,
    saved,
)
from integration.fleet import both, from_container, table, target
from integration.scene import (
    PENDING,
    RULES,
    Rules,
    closed_targets,
    etc,
    foreign_tables,
    is_root,
    never_through,
    one_suite,
    talking,
    timer,
    variables,
    wait_open,
)

from lab.ansible import PlaybookResult, close_connections, run_playbook, start_playbook
from lab.containers import Container, Target, standard_targets
from lab.host import Host
from lab.network import INTERNET4, INTERNET_HTTP
from lab.peer import Peer
from lab.process import wait_for

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

OTHER_PEER = 60
#: A service on the host's network that the policy opens: sshd punishes those who dial it and say nothing.
SERVICE = Container("service", (), ("host",), http_ports=(8889,))
#: Published while everything restarts: one of them on a network that is not there before.
LATE_CLOSED = Container("late1", ("9500:80",))
LATE_OPEN = Container("late2", ("9600:80",), ("latenet",))
POLICY: Rules = [*RULES, {"to": "host", "ports": [8889]}, {"to": "published", "ports": [9600]}]
#: Seconds until a change that locks out is taken back, and how much later than that a busy machine may be.
LIMIT, LATE = 6, 4.0

RESTARTS: list[tuple[str, ...]] = [
    *[("restart", "nftables.service")] * 4,
    *[("reload", "nftables.service")] * 2,
    *[("stop", "nftables.service")] * 2,
    ("restart", "docker.service"),
    ("restart", "docker.service", "nftables.service"),
]


def run_role(host: Host, policy: Rules, check: bool = True, **others: t.Any) -> PlaybookResult:
    """Run the playbook; it has to succeed unless told otherwise."""
    firewall = {key: others.pop(key) for key in ("probes", "confirm_timeout", "allow_lockout") if key in others}
    result = run_playbook(host.lab, CONF, hosts=host.name, extra_vars=conf(variables(policy, **firewall), **others))
    assert result.rc == 0 or not check, f"{result.messages()}\n{result.stdout[-3000:]}"
    return result


def systemctl(host: Host, *arguments: str) -> None:
    host.run(["systemctl", "reset-failed", "nftables.service", "docker.service"], check=False)
    host.run(["systemctl", *arguments])


def open_targets(host: Host) -> list[Target]:
    return [target(*key) for key in sorted(both(host, "tcp", 80, 443, 8083, 8889))]


def truth(host: Host) -> dict[tuple[str, str, int], str]:
    """What the neighbour gets to; containers by their names, as their addresses change at a restart."""
    found = host.lab.peer.probe(standard_targets(host) + open_targets(host), 2.0)
    return {(item["proto"], _place(item), item["port"]): item["result"] for item in found}


def _place(item: Target) -> str:
    address = str(item["address"])
    network = address.rpartition(":" if ":" in address else ".")[0]
    return f"{item['container']} on {network}" if item.get("direct") else address


@pytest.fixture(scope="module")
def closed(module_host: Host) -> list[Target]:
    """What no rule opens: open before the role has run, so that being closed says something."""
    module_host.run(SERVICE.argv(module_host))
    module_host.lab.add_peer("other", OTHER_PEER)
    targets = closed_targets(module_host)
    own = both(module_host, "tcp", 8080, 8081, 8888) | both(module_host, "udp", 8082)
    before = table(module_host.lab.peer.probe(targets, 2.0))
    assert {before[key] for key in own} == {"open"}
    run_role(module_host, POLICY)
    return [*targets, *(target(*key) for key in sorted(both(module_host, "tcp", 9500)))]


@pytest.fixture
def host(module_host: Host, closed: list[Target]) -> t.Iterator[Host]:
    """The host, whole before and after each test."""
    yield module_host
    whole(module_host)


@pytest.fixture
def other(module_host: Host, closed: list[Target]) -> Peer:
    """A second neighbour."""
    return module_host.lab.peers["other"]


def whole(host: Host) -> None:
    """Docker and containers run, what the policy opens answers, and each chain has what it should have."""
    host.wait_containers()
    wait_open(host, [*open_targets(host), target("tcp", host.address4, 22)])
    assert policies(host)["iptables INPUT"] == policies(host)["ip6tables INPUT"] == "DROP"
    assert_no_rule_twice(host)
    assert rules_of(host, "iptables", "FORWARD")[0] == "-j DOCKER-USER"
    for tool in TOOLS:
        for chain in ("INPUT", "DOCKER-USER"):
            found = rules_of(host, tool, chain)
            assert f"-j BULKHEAD-{chain}" in found
            assert "-j RETURN" not in found[: found.index(f"-j BULKHEAD-{chain}")]


class always_open:
    """Every attempt on what the policy opens succeeds while the block runs."""

    def __init__(self, host: Host) -> None:
        self._watch = host.lab.peer.watch(open_targets(host), timeout=8.0, rate=100)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        report = self._watch.stop()
        if kind is None:
            failed = [item for item in report["targets"] if set(item["results"]) != {"open"}]
            assert not failed, f"of {report['attempts']} attempts failed: {failed}"


# -- changes and reloads -----------------------------------------------------------------------------------------------


def test_reloads_and_changes_under_load(host: Host, closed: list[Target]) -> None:
    """Nobody is cut off, nobody who dials what is open waits, and nothing else opens."""
    role = {"name": CONF}
    changes: list[Rules] = [
        [*POLICY, {"to": "published", "ports": [8085]}],
        [*POLICY, {"to": "egress", "ports": [25], "action": "drop"}],
        POLICY,
    ]
    tasks = [{"ansible.builtin.include_role": role, "vars": conf(variables(rules))} for rules in changes]
    play = [{"hosts": host.name, "gather_facts": False, "become": True, "tasks": tasks}]
    with never_through(host, closed, "reloads and changes"), always_open(host), talking(host):
        for _again in range(10):
            host.run(["systemctl", "reload", "nftables"])
        result = run_playbook(host.lab, play)
        # Without its jump nothing in DOCKER-USER drops; what stands behind it does.
        returns = "-j RETURN" in rules_of(host, "iptables", "DOCKER-USER")
        for tool in TOOLS:
            host.run([tool, "-F", "DOCKER-USER"])
        time.sleep(0.5)
        if returns:
            host.run(["iptables", "-A", "DOCKER-USER", "-j", "RETURN"])
        host.run(["systemctl", "reload", "nftables"])
    assert result.rc == 0, result.messages()
    assert result.changed(host.name) == len(changes)


def test_exceptions_by_iptables(host: Host, other: Peer) -> None:
    """One rule opens a port of the host's, one takes the mark from a neighbour's packets."""
    wanted = [target(*key) for key in sorted(both(host, "tcp", 8080, 8888))]
    bit = json.loads(host.read("/etc/bulkhead/layout.json"))["mark_bit"]
    assert bit == BIT
    accept = ["INPUT", "-p", "tcp", "--dport", "8888", "-j", "ACCEPT"]
    unmark = ["DOCKER-USER", "-s", other.address4, "-j", "MARK", "--set-xmark", f"0x0/{bit:#x}"]
    assert set(table(other.probe(wanted, 1.5)).values()) == {"timeout"}
    for rule in (accept, unmark):
        host.run(["iptables", "-I", *rule])
    try:
        opened = {("tcp", host.address4, 8888), ("tcp", host.address4, 8080)}
        everybodys = {("tcp", host.address4, 8888)}
        for peer, expected in ((other, opened), (host.lab.peer, everybodys)):
            found = table(peer.probe(wanted, 1.5))
            assert {key for key, result in found.items() if result == "open"} == expected, peer.name
        # They are the host's own use of the bit: no reason to take another one.
        assert run_role(host, POLICY).changed(host.name) == 0
    finally:
        for rule in (accept, unmark):
            host.run(["iptables", "-D", *rule])


# -- restarts ----------------------------------------------------------------------------------------------------------


def late_containers(host: Host) -> None:
    """Publish two more ports, one of them on a new network."""
    host.run(["docker", "network", "create", "--subnet", "172.30.9.0/24", "latenet"])
    for container in (LATE_CLOSED, LATE_OPEN):
        host.run(container.argv(host))
    wait_open(host, [target("tcp", host.address4, 9600)])


def no_late_containers(host: Host) -> None:
    host.run(["docker", "rm", "-f", LATE_CLOSED.name, LATE_OPEN.name])
    host.run(["docker", "network", "rm", "latenet"])


def test_restarts_in_any_order_beside_a_tool_that_bans(host: Host, closed: list[Target], other: Peer) -> None:
    """Ten restarts and a change of the policy: nothing opens, nobody's rules go, none is there twice or left behind."""
    seed = int(os.environ.get("BULKHEAD_SEED", random.SystemRandom().randrange(10**6)))
    order = list(RESTARTS)
    random.Random(seed).shuffle(order)
    print(f"{host.suite}: BULKHEAD_SEED={seed}, {order}")
    before = counted(host)
    own = [target(*key) for key in sorted(both(host, "tcp", 22, 80, 443))]
    banning = Banning(host, "f2b-test")
    banning.start()
    banning.ban(other.address4, other.address6)
    with never_through(host, closed, "restarts"):
        late_containers(host)
        for number, arguments in enumerate(order):
            others = foreign_tables(host)
            systemctl(host, *arguments)
            if arguments[0] == "stop":
                assert foreign_tables(host) == others
                systemctl(host, "start", *arguments[1:])
            if "docker.service" not in arguments:
                assert foreign_tables(host) == others, arguments
            assert_no_rule_twice(host)
            banning.assert_in_front()
            if number == len(order) // 2:
                run_role(host, [*POLICY, {"to": "published", "ports": [8085]}])
                banning.assert_in_front()
        whole(host)
        wait_open(host, [target("tcp", host.address4, 9600)])
        assert set(table(other.probe(own, 1.5)).values()) == {"timeout"}
        no_late_containers(host)
    banning.unban(other.address4, other.address6)
    assert set(table(other.probe(own, 1.5)).values()) == {"open"}
    banning.stop()
    assert counted(host) == before
    assert not repeated_rules(host, POLICY)


def repeated_rules(host: Host, rules: Rules) -> list[str]:
    """Bring the policy back, and ask the collection itself whether any rule is there twice."""
    tasks = [
        {"ansible.builtin.include_role": {"name": CONF}, "vars": conf(variables(rules))},
        {"bulkhead.docker_nftables.nftables_info": {}, "register": "facts"},
    ]
    result = run_playbook(host.lab, [{"hosts": host.name, "gather_facts": False, "become": True, "tasks": tasks}])
    assert result.rc == 0, result.messages()
    found = [event["result"]["warnings_found"] for event in result.tasks(host.name) if "hooks" in event["result"]][-1]
    return [item["where"] for item in found if item["code"] == "DUPLICATE_RULES"]


# -- taking back -------------------------------------------------------------------------------------------------------


class Before:
    """The host as it is: everybody's rules and the disk."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.saved, self.etc = saved(host), etc(host)

    def assert_back(self) -> None:
        assert saved(self.host) == self.saved
        assert etc(self.host) == self.etc
        assert timer(self.host) == "inactive"


#: With chains and policies that are not there before.
OTHER: dict[str, t.Any] = {
    "output_policy": "drop",
    "rules": [{"chain": "FORWARD", "rule": "ip daddr 192.0.2.77 counter drop", "family": "ipv4"}],
}


def test_a_probe_that_fails_puts_everything_back_at_once(host: Host) -> None:
    before = Before(host)
    probes = [{"port": 80, "expect": "closed"}]
    result = run_role(host, POLICY, check=False, probes=probes, confirm_timeout=100, **OTHER)
    assert result.rc != 0
    assert f"port 80 of {host.address4} is open where closed was expected" in result.messages(host.name)
    before.assert_back()


@one_suite
def test_a_policy_that_locks_out_is_taken_back(host: Host) -> None:
    """The host does it by itself, in time."""
    before = Before(host)
    ssh = [target(*key) for key in both(host, "tcp", 22)]
    extra = conf(variables(POLICY[1:], allow_lockout=True, confirm_timeout=LIMIT), **OTHER)
    begin = time.monotonic()
    run = start_playbook(host.lab, CONF, hosts=host.name, extra_vars=extra)
    wait_for("the change waits for its confirmation", lambda: waits(host), 60, interval=0.05)
    live = time.monotonic()
    assert set(table(host.lab.peer.probe(ssh, 1.5)).values()) == {"timeout"}
    wait_for("the change is taken back", lambda: timer(host) == "inactive", LIMIT + LATE, interval=0.1)
    print(f"{host.suite}: live after {live - begin:.1f} s, locked out for {time.monotonic() - live:.1f} s")
    result = run.wait()
    assert result.rc != 0
    assert "has put back the table it had before" in result.messages(host.name)
    before.assert_back()
    close_connections(host.lab)


def waits(host: Host) -> bool:
    record = Path(f"/proc/{host.ns_pid}/root{PENDING}")
    return timer(host) == "active" and record.exists() and bool(json.loads(record.read_text())["applied"])


# -- power -------------------------------------------------------------------------------------------------------------


def test_reboot(host: Host, closed: list[Target]) -> None:
    """From the moment the link is up until everything runs."""
    before = truth(host)
    with never_through(host, closed, "a reboot") as seen:
        host.reboot()
        whole(host)
    assert seen.counted("refused") > 0, f"the watch missed the beginning: {seen.report['targets']}"
    assert host.failed_units() == []
    assert truth(host) == before
    assert run_role(host, POLICY).changed(host.name) == 0


def test_another_table_that_drops_all_but_what_is_marked(host: Host, closed: list[Target]) -> None:
    """A forward chain of the host's own with policy drop: nothing that iptables accepts would pass it."""
    before = truth(host)
    run_role(host, POLICY, tables=FORWARD_BY_MARK)
    assert "policy drop" in host.run(["nft", "list", "chain", "inet", "filter", "forward"]).stdout
    with never_through(host, closed, "a table with policy drop, a restart of Docker and power loss"):
        works(host)
        systemctl(host, "restart", "docker.service")
        whole(host)
        works(host)
        host.reboot(hard=True)
        whole(host)
        works(host)
    assert truth(host) == before
    assert host.failed_units() == []


def works(host: Host) -> None:
    """A container gets to the internet, and a neighbour to what is published."""
    found = from_container(host, "web", [target("tcp", INTERNET4, INTERNET_HTTP)])
    assert [item["result"] for item in found] == ["open"]
    assert host.lab.peer.get(host.address4, 80) == "web80"
