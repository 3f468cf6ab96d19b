# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose rules are in the old xtables is moved to nf_tables: what was closed stays closed all the time."""

from __future__ import annotations

import typing as t

import pytest
from integration.fleet import ruleset, target
from integration.scene import Conversation, etc, is_root, never_through, ssh_argv

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import STANDARD, Target, running, standard_targets
from lab.host import Host

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

MODULE = "bulkhead.docker_nftables.iptables_variant"
TOOLS = ("iptables", "ip6tables")
BACKUPS = "/etc/bulkhead/legacy-backup"
#: A rule in every table and place that matters; 8080, 8085, 8090 and 8888 are closed, each in another way.
RULES = """
iptables -P INPUT DROP
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -p icmp -j ACCEPT
iptables -N MINE
iptables -A INPUT -j MINE
iptables -A MINE -p tcp -m tcp --dport 22 -m comment --comment 'let "us" in' -j ACCEPT
iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP
iptables -I FORWARD -p tcp -m conntrack --ctorigdstport 8090 --ctdir ORIGINAL -j DROP
iptables -A FORWARD -i eth9 -j LOG --log-prefix 'the last: '
iptables -t mangle -A PREROUTING -p tcp -m tcp --dport 8085 -j DROP
iptables -t nat -A PREROUTING -p tcp -m tcp --dport 2222 -j REDIRECT --to-ports 22
ip6tables -P INPUT DROP
ip6tables -A INPUT -i lo -j ACCEPT
ip6tables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ip6tables -A INPUT -p ipv6-icmp -j ACCEPT
ip6tables -A INPUT -p tcp -m multiport --dports 22,80,443 -j ACCEPT
"""
COMMANDS = [line for line in RULES.splitlines() if line]
CLOSED4 = (8080, 8085, 8090, 8888)
CLOSED6 = (8080, 8888)
OPEN = (("tcp", 22), ("tcp", 80), ("tcp", 443), ("tcp", 2222))


def go_legacy(host: Host, live_restore: bool) -> None:
    """As a host is whose rules have always been there."""
    host.run(["systemctl", "reset-failed", "docker.service"], check=False)
    host.run(["systemctl", "stop", "docker.service", "docker.socket"])
    host.write("/etc/docker/daemon.json", '{"live-restore": true}\n' if live_restore else "{}\n")
    for name in TOOLS:
        host.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])
    host.run(["nft", "flush", "ruleset"])
    host.run(["systemctl", "start", "docker.service"])
    host.wait_containers()
    host.run(["sh", "-e"], input=RULES)


def old_rules(host: Host) -> dict[str, str]:
    """What the old xtables hold, without counters."""
    saved = {name: host.run([f"{name}-legacy-save"]).stdout for name in TOOLS}
    return {
        name: "".join(f"{line.partition(' [')[0]}\n" for line in text.splitlines() if not line.startswith("#"))
        for name, text in saved.items()
    }


def chain(host: Host, tool: str, *arguments: str) -> list[str]:
    return host.run([tool, *arguments]).stdout.splitlines()


def truth(host: Host) -> dict[tuple[t.Any, ...], str]:
    """What the neighbour reaches. A container may have another address afterwards, so its name stands for it."""
    wanted = [*standard_targets(host), *(target("tcp", host.address4, port) for port in (2222, 9100))]
    return {
        (
            item["proto"],
            item["port"],
            item.get("container"),
            item["address"] if not item.get("direct") else "v6" if ":" in item["address"] else "v4",
        ): item["result"]
        for item in host.lab.peer.probe(wanted)
    }


def closed_ports(host: Host) -> list[Target]:
    return [target("tcp", host.address4, port) for port in CLOSED4] + [
        target("tcp", host.address6, port) for port in CLOSED6
    ]


def pids(host: Host) -> dict[str, str]:
    names = sorted(running(host))
    return dict(zip(names, host.run(["docker", "inspect", "--format", "{{.State.Pid}}", *names]).stdout.split()))


def play(host: Host, *tasks: dict[str, t.Any]) -> PlaybookResult:
    return run_playbook(
        host.lab, [{"hosts": host.name, "gather_facts": False, "become": True, "tasks": list(tasks)}], diff=True
    )


def variants(host: Host) -> list[str]:
    return [host.run([name, "--version"]).stdout.split()[-1].strip("()") for name in TOOLS]


def moved_lines() -> list[str]:
    """What the result has to name: what was typed, with the table."""
    found = []
    for line in COMMANDS:
        tool, *words = line.replace("-I ", "-A ").replace("'let \"us\" in'", r'"let \"us\" in"').split()
        if words[0] != "-N":
            words = words if words[0] == "-t" else ["-t", "filter", *words]
            found.append(" ".join([tool, *words]).replace("'the last: '", '"the last: "'))
    return found


@pytest.fixture(scope="module")
def host(module_host: Host) -> Host:
    go_legacy(module_host, live_restore=False)
    return module_host


def test_what_would_move_is_named_and_what_cannot_is_refused(host: Host) -> None:
    """Nothing changes on the host, whatever the answer is."""
    before = (old_rules(host), ruleset(host), etc(host))
    named = {MODULE: {}, "check_mode": True}
    restart_forbidden = {MODULE: {"docker_restart": False}, "ignore_errors": True}
    result = play(host, named, restart_forbidden)
    assert [event["status"] for event in result.tasks(host.name)] == ["ok", "ignored"]
    said, refused = (event["result"] for event in result.tasks(host.name))
    assert said["changed"] and said["variant_before"] == "legacy"
    assert sorted(said["moved"]) == sorted(moved_lines())
    assert said["docker_rules"] > 40
    assert "+-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080" in result.stdout
    assert "docker_restart is false, but Docker runs" in refused["msg"]
    assert (old_rules(host), ruleset(host), etc(host)) == before

    # Rules in both worlds, and a rule of the user's where Docker's restart would lose it.
    host.run(["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "8888", "-j", "ACCEPT"])
    host.run(["iptables", "-I", "DOCKER", "-s", "192.0.2.1/32", "-j", "DROP"])
    before = (old_rules(host), ruleset(host), etc(host))
    msg = play(host, {MODULE: {}}).messages(host.name)
    assert "chain INPUT of table filter has rules of iptables in nf_tables too" in msg
    assert "-A DOCKER -s 192.0.2.1/32 -j DROP stands in a chain of Docker's own" in msg
    assert (old_rules(host), ruleset(host), etc(host)) == before
    host.run(["iptables", "-D", "DOCKER", "-s", "192.0.2.1/32", "-j", "DROP"])
    host.run(["nft", "flush", "ruleset"])


def moves(host: Host, what: str) -> dict[str, t.Any]:
    """Move the host, watched; it is reached as before, and the next run has nothing to do."""
    before = truth(host)
    assert {before[proto, port, None, host.address4] for proto, port in OPEN if port in (22, 2222)} == {"open"}
    closed = closed_ports(host)
    result: PlaybookResult
    with never_through(host, closed, what):
        talk = Conversation(host, ["run", *ssh_argv(host, "cat")])
        result = play(host, {MODULE: {}}, {MODULE: {}})
        host.wait_containers()
        end = talk.end()
    assert result.rc == 0, f"{result.messages()}\n{result.stdout[-3000:]}"
    assert end["broken"] is None, end
    first, second = (event["result"] for event in result.tasks(host.name))
    assert first["changed"] and sorted(first["moved"]) == sorted(moved_lines())
    assert (second["changed"], second["moved"], second["actions"], second["docker_rules"]) == (False, [], [], 0)
    assert truth(host) == before
    assert variants(host) == ["nf_tables", "nf_tables"]
    assert not any(
        line.startswith("-A") or " DROP" in line for text in old_rules(host).values() for line in text.split("\n")
    )
    forward = chain(host, "iptables", "-S", "FORWARD")
    rules = [line for line in forward if line.startswith("-A")]
    assert "--ctorigdstport 8090" in rules[0]
    assert rules[1] == "-A FORWARD -j DOCKER-USER"
    assert rules[-1] == '-A FORWARD -i eth9 -j LOG --log-prefix "the last: "'
    return first


def test_a_move_opens_nothing_and_keeps_what_is_open(host: Host) -> None:
    saved = old_rules(host)
    containers = running(host)
    first = moves(host, "a move from the old xtables")
    assert running(host) == containers == {container.name for container in STANDARD.containers}
    assert first["backup"] == [f"{BACKUPS}/{name}.save" for name in TOOLS]
    for name, path in zip(TOOLS, first["backup"]):
        assert host.run(["stat", "-c", "%a %U", path]).stdout == "600 root\n"
        kept = [line.partition(" [")[0] for line in host.read(path).splitlines() if not line.startswith("#")]
        assert kept == saved[name].splitlines()


def test_the_variant_stays_after_a_reboot(host: Host) -> None:
    host.reboot()
    host.wait_containers()
    assert variants(host) == ["nf_tables", "nf_tables"]
    assert host.read("/proc/net/ip_tables_names") + host.read("/proc/net/ip6_tables_names") == ""
    assert "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER" in chain(host, "iptables", "-t", "nat", "-S")


def test_containers_go_on_with_live_restore(host: Host) -> None:
    """Docker then does not put DOCKER-USER into its place by itself, on the engines before 28."""
    go_legacy(host, live_restore=True)
    # As a run that broke off after its first step has left it.
    mangle = host.run(["iptables-legacy-save", "-t", "mangle"]).stdout
    host.run(["iptables-nft-restore", "--noflush"], input=mangle)
    before = pids(host)
    first = moves(host, "a move with live-restore")
    assert "restart Docker with its containers running" in first["actions"]
    assert pids(host) == before
    assert len(chain(host, "iptables", "-t", "mangle", "-S", "PREROUTING")) == 2
    assert first["backup"] == [f"{BACKUPS}/{name}.save.1" for name in TOOLS]
