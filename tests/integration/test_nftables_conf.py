# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role nftables_conf on real hosts: one policy, the same in every layout, in chains that iptables tools can read."""

from __future__ import annotations

import os
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from integration.conf_scene import (
    CONF,
    FORWARD_BY_MARK,
    TOOLS,
    conf,
    meaning,
    policies,
    read_back,
    restore_what_was_saved,
    rules_of,
    saved,
)
from integration.fleet import SUITES, Policy, Table, both, fleet, only, play, ruleset, target, tree
from integration.test_harden import (
    DETAILED,
    ENGINES_OWN,
    OFFICE,
    changes,
    detailed_targets,
    engine,
    inside,
    seen_from,
)

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import Target
from lab.host import Host
from lab.network import INTERNET4, INTERNET6, INTERNET_HTTP
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
each_suite = pytest.mark.parametrize("suite", SUITES)

BACKUP = 70
#: On the second network, dialled through the host; nobody listens there, so that who gets through is refused.
ROUTED, NOT_ROUTED = 7070, 7071
EXTRA = "table inet extra {\n\tchain forward {\n\t\ttype filter hook forward priority 20\n\t\tcounter\n\t}\n}\n"
BY_HAND = "#!/usr/sbin/nft -f\n# by hand\nflush ruleset\ntable inet mine {\n\tchain c {\n\t}\n}\n"

#: Zones, sources, both families, TCP and UDP, reject, log, limit, egress, containers and the host, routing.
STRICT: Policy = {
    **DETAILED,
    "docker_firewall_rules": [
        *DETAILED["docker_firewall_rules"],
        {"from": "office", "to": "routed", "ports": [ROUTED]},
    ],
}
#: Everything the other way round: what is not named stays open, but for containers.
LENIENT: Policy = {
    "docker_firewall_zones": DETAILED["docker_firewall_zones"],
    "docker_firewall_rules": [
        {"to": "host", "ports": [8888], "action": "drop"},
        {"to": "published", "ports": [80]},
        {"from": "office", "to": "published", "ports": [8080]},
        {"from": "containers", "to": "egress", "ports": [INTERNET_HTTP], "destination": [INTERNET4, INTERNET6]},
        {"to": "network:front", "ports": [80]},
    ],
    "docker_firewall_host_default": "accept",
    "docker_firewall_egress_default": "drop",
    "docker_firewall_routed_default": "accept",
    "docker_firewall_log_drops": True,
}

#: Each of them cannot be read back by some release of iptables-nft; the words name it to whoever wrote it.
UNREADABLE = {
    "ct state established accept": "ct state",
    "udp dport 9 reject": "reject",
    "fib daddr type local accept": "fib",
    'tcp dport 22 log prefix "seen: "': "log",
    "meta l4proto tcp ct original proto-dst 22 accept": "ct original",
    "meta mark set 0x1": "mark",
    "limit rate over 5/second drop": "limit",
}


# -- what is seen ------------------------------------------------------------------------------------------------------


def routed_targets(lab: Lab) -> list[Target]:
    backup = lab.peers["backup"]
    return [target("tcp", a, port) for a in (backup.address4, backup.address6) for port in (ROUTED, NOT_ROUTED)]


def outside(host: Host, *peers: str) -> dict[str, Table]:
    """What each neighbour gets to, the second network behind the host among it."""

    def look(name: str) -> Table:
        wanted = detailed_targets(host)
        if name != "backup":
            peer, backup = host.lab.peers[name], host.lab.peers["backup"]
            peer.route_via(host, f"{backup.address4}/32", f"{backup.address6}/128")
            wanted = wanted + routed_targets(host.lab)
        return seen_from(host, name, wanted)

    with ThreadPoolExecutor() as pool:
        return dict(zip(peers, pool.map(look, peers)))


def strictly(host: Host, peer: str, keys: t.Iterable[tuple[str, str, int]]) -> Table:
    """What STRICT allows."""
    second = (str(host.second_address4), str(host.second_address6))
    open_ = both(host, "tcp", 22, 80, 8888) | {("tcp", address, port) for address in second for port in (22, 8888)}
    refused = both(host, "tcp", 8085, 8889)
    if peer == "office":
        open_ |= both(host, "tcp", 8080, 7000, 7001) | both(host, "udp", 8082)
        open_ |= {("tcp", address, 8080) for address in second}
        refused |= {key for key in keys if key[2] == ROUTED}
    return only([target(*key) for key in keys], open_, refused)


def leniently(host: Host, peer: str, keys: t.Iterable[tuple[str, str, int]]) -> Table:
    """What LENIENT allows: on ports that nobody publishes, the host answers for itself."""
    second = (str(host.second_address4), str(host.second_address6))
    open_ = both(host, "tcp", 22, 80) | {("tcp", address, port) for address in second for port in (22, 80)}
    refused = both(host, "tcp", 8889)
    # From 28 on the engine itself lets nobody dial a container.
    front = ("172.30.1.", "fd00:b1:1:") if engine(host) < 28 else ()
    fronts = {key for key in keys if key[2] == 80 and key[1].startswith(front)}
    if peer == "office":
        open_ |= both(host, "tcp", 8080) | {("tcp", address, 8080) for address in second}
    if peer != "backup":
        refused |= {key for key in keys if key[2] in (ROUTED, NOT_ROUTED)}
    return only([target(*key) for key in keys], open_ | fronts, refused)


STRICTLY_CLOSED_INSIDE = {
    "web: the internet": "refused",
    "web6: the internet": "refused",
    "tls: the internet": "refused",
    "web: the host at the network's gateway": "timeout",
    "web: the host at its own address": "timeout",
    "web6: the host, IPv6": "timeout",
}
LENIENTLY_CLOSED_INSIDE = {"web: the internet, UDP": "timeout", "web6: the internet, IPv6, UDP": "timeout"}


@dataclass
class Seen:
    """One host after one run."""

    outside: dict[str, Table]
    inside: dict[str, str] = field(default_factory=dict)


def look(lab: Lab, *peers: str) -> dict[str, Seen]:
    """What neighbours, containers and each host itself get to. One host after the other: their networks are the same."""
    found = {name: Seen(outside(host, *peers)) for name, host in lab.hosts.items()}
    if len(peers) > 1:
        for name, host in lab.hosts.items():
            found[name].inside = inside(host)
    return found


@dataclass
class Trace:
    """Everything of a host that a run could change."""

    etc: dict[str, list[t.Any]]
    saved: dict[str, list[str]]
    ruleset: str
    enabled: str


def trace(host: Host) -> Trace:
    enabled = host.run(["systemctl", "list-unit-files", "--no-legend", "--no-pager", "--state=enabled,masked"]).stdout
    return Trace(tree(host, "/etc"), saved(host), ruleset(host), enabled)


def tables(host: Host) -> list[str]:
    """Every table of the family that iptables tools do not know."""
    return [line for line in host.run(["nft", "list", "tables"]).stdout.splitlines() if line.startswith("table inet")]


def traces(lab: Lab) -> dict[str, Trace]:
    return {name: trace(host) for name, host in lab.hosts.items()}


# -- the story ---------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What the runs said, in their order, and what was seen after each."""

    lab: Lab
    before: dict[str, Trace]
    check: PlaybookResult
    after_check: dict[str, Trace]
    unreadable: PlaybookResult
    after_unreadable: dict[str, Trace]
    first: PlaybookResult
    again: PlaybookResult
    docker_user: dict[str, dict[str, list[str]]]
    policies: dict[str, dict[str, str]]
    read_back: dict[str, list[t.Any]]
    strict: dict[str, Seen]
    restored: dict[str, Seen]
    changed: PlaybookResult
    lenient: dict[str, Seen]
    changed_again: PlaybookResult
    hardened: dict[str, Seen]
    extra: dict[str, list[str]]
    own_table: dict[str, Seen]
    no_extra: dict[str, list[str]]
    backups: dict[str, str]
    after: dict[str, Trace]


def prepare(host: Host) -> None:
    """Make it a host that somebody has looked after: a file of his own, and rules in DOCKER-USER on both sides of RETURN."""
    host.write("/etc/nftables.conf", BY_HAND, 0o755)
    # Docker's own policy would hide what becomes of packets that are only routed.
    for tool in TOOLS:
        host.run([tool, "-P", "FORWARD", "ACCEPT"])
    for flag, address in (("-I", "192.0.2.8"), ("-A", "192.0.2.9")):
        host.run(["iptables", flag, "DOCKER-USER", "-s", address, "-j", "DROP"])


@pytest.fixture(scope="module")
def story(say: t.Callable[[str], None]) -> t.Iterator[Story]:
    with fleet("conf", second_nic=True) as lab:
        lab.add_peer("office", OFFICE)
        lab.add_peer("backup", BACKUP, second_network=True)
        hosts = lab.hosts.items()
        for host in lab.hosts.values():
            prepare(host)
        say(f"hosts are up: {', '.join(lab.hosts)}")
        parts: dict[str, t.Any] = {"lab": lab, "before": traces(lab)}
        parts["check"] = play(lab, "nftables_conf", conf(STRICT), check=True, diff=True)
        parts["after_check"] = traces(lab)
        raw = [{"chain": "INPUT", "rule": text} for text in UNREADABLE]
        parts["unreadable"] = run_playbook(lab, CONF, hosts="docker_hosts", extra_vars=conf(STRICT, rules=raw))
        parts["after_unreadable"] = traces(lab)

        parts["first"] = play(lab, "nftables_conf", conf(STRICT), diff=True)
        parts["docker_user"] = {
            name: {tool: rules_of(host, tool, "DOCKER-USER") for tool in TOOLS} for name, host in hosts
        }
        parts["policies"] = {name: policies(host) for name, host in hosts}
        parts["again"] = play(lab, "nftables_conf", conf(STRICT))
        parts["read_back"] = {name: read_back(host) for name, host in hosts}
        parts["strict"] = look(lab, "peer", "office", "backup")
        say("the role has run")
        for host in lab.hosts.values():
            restore_what_was_saved(host)
        parts["restored"] = look(lab, "peer")

        parts["changed"] = play(lab, "nftables_conf", conf(LENIENT, tables=EXTRA))
        parts["lenient"] = look(lab, "peer", "office", "backup")
        parts["changed_again"] = play(lab, "nftables_conf", conf(LENIENT, tables=EXTRA))
        parts["extra"] = {name: tables(host) for name, host in hosts}
        play(lab, "harden", STRICT)
        parts["hardened"] = look(lab, "peer")
        play(lab, "nftables_conf", conf(STRICT, layout="own_table"))
        parts["own_table"] = look(lab, "office")
        parts["no_extra"] = {name: tables(host) for name, host in hosts}
        parts["backups"] = {name: host.read("/etc/nftables.conf.before-bulkhead") for name, host in hosts}
        play(lab, "nftables_conf", conf(STRICT, tables=FORWARD_BY_MARK))
        play(lab, "remove", {})
        parts["after"] = traces(lab)
        say("the role has been through both layouts and is removed")
        yield Story(**parts)


# -- what the runs say -------------------------------------------------------------------------------------------------


@each_suite
def test_check_mode_says_what_the_run_then_does_and_changes_nothing(story: Story, suite: str) -> None:
    assert changes(story.check, suite) == changes(story.first, suite)
    ((actions, diff),) = [(actions, diff) for _task, actions, diff in changes(story.first, suite) if actions]
    assert actions[0] == "create table inet bulkhead"
    assert {"write /etc/nftables.conf", "enable nftables.service", "start nftables.service"} <= set(actions)
    assert len(diff) == len(actions)
    assert story.after_check[suite] == story.before[suite]


@each_suite
def test_a_second_run_changes_nothing(story: Story, suite: str) -> None:
    assert story.first.changed(suite) > 0
    assert story.again.changed(suite) == 0
    assert story.changed.changed(suite) > 0
    assert story.changed_again.changed(suite) == 0


@each_suite
def test_what_iptables_cannot_read_back_is_refused_and_named(story: Story, suite: str) -> None:
    assert story.unreadable.failed(suite) == 1
    assert story.unreadable.changed(suite) == 0
    said = story.unreadable.messages(suite)
    for index, (text, construct) in enumerate(UNREADABLE.items()):
        lines = [line for line in said.replace(";", "\n").splitlines() if f"nftables_conf_rules[{index}]" in line]
        assert any(construct in line for line in lines), f"{text}: {said}"
    assert story.after_unreadable[suite] == story.before[suite]


@each_suite
def test_the_file_of_before_is_kept_once_and_named(story: Story, suite: str) -> None:
    found = [event["result"].get("backup") for event in story.first.tasks(suite)]
    assert [item for item in found if item] == ["/etc/nftables.conf.before-bulkhead"]
    assert not any(event["result"].get("backup") for event in story.changed.tasks(suite))
    assert story.backups[suite] == BY_HAND


# -- what iptables tools see -------------------------------------------------------------------------------------------


@each_suite
def test_iptables_tools_read_find_delete_and_add_every_rule(story: Story, suite: str) -> None:
    assert story.read_back[suite] == []


@each_suite
def test_the_policy_of_input_drops(story: Story, suite: str) -> None:
    assert story.policies[suite] == {
        f"{tool} {chain}": "DROP" if chain == "INPUT" else "ACCEPT"
        for tool in TOOLS
        for chain in ("INPUT", "FORWARD", "OUTPUT")
    }


@each_suite
def test_other_peoples_rules_in_docker_user_stay_where_they_are(story: Story, suite: str) -> None:
    """Ours stands in front of RETURN, which engines before 28.2 append; behind it nothing is reached."""
    found = story.docker_user[suite]["iptables"]
    theirs = ["-s 192.0.2.8/32 -j DROP", "-s 192.0.2.9/32 -j DROP"]
    ours = "-j BULKHEAD-DOCKER-USER"
    if "-j RETURN" in found:
        assert found == [theirs[0], ours, "-j RETURN", theirs[1]]
    else:
        assert found == [*theirs, ours]
    assert story.docker_user[suite]["ip6tables"][0] == ours


# -- what is reached ---------------------------------------------------------------------------------------------------


def assert_inside(found: dict[str, str], closed: dict[str, str]) -> None:
    assert {name: result for name, result in found.items() if name not in ENGINES_OWN} == {
        name: closed.get(name, "open") for name in found if name not in ENGINES_OWN
    }


@each_suite
@pytest.mark.parametrize("peer", ["peer", "office", "backup"])
def test_a_strict_policy(story: Story, suite: str, peer: str) -> None:
    found = story.strict[suite].outside[peer]
    assert found == strictly(story.lab.hosts[suite], peer, found)


@each_suite
@pytest.mark.parametrize("peer", ["peer", "office", "backup"])
def test_a_lenient_policy(story: Story, suite: str, peer: str) -> None:
    found = story.lenient[suite].outside[peer]
    assert found == leniently(story.lab.hosts[suite], peer, found)


@each_suite
def test_what_containers_and_the_host_start(story: Story, suite: str) -> None:
    assert_inside(story.strict[suite].inside, STRICTLY_CLOSED_INSIDE)
    assert_inside(story.lenient[suite].inside, LENIENTLY_CLOSED_INSIDE)


@each_suite
def test_after_saving_and_restoring_with_iptables_all_is_as_before(story: Story, suite: str) -> None:
    assert story.restored[suite].outside["peer"] == story.strict[suite].outside["peer"]


@each_suite
def test_the_role_docker_firewall_alone_goes_on_in_the_layout_of_the_host(story: Story, suite: str) -> None:
    assert story.hardened[suite].outside["peer"] == story.strict[suite].outside["peer"]


@each_suite
def test_the_same_policy_in_the_other_layout(story: Story, suite: str) -> None:
    assert story.own_table[suite].outside["office"] == story.strict[suite].outside["office"]


@each_suite
def test_a_table_that_the_file_no_longer_has_goes(story: Story, suite: str) -> None:
    assert sorted(story.extra[suite]) == ["table inet bulkhead", "table inet extra"]
    assert story.no_extra[suite] == ["table inet bulkhead"]


# -- what is left ------------------------------------------------------------------------------------------------------


@each_suite
def test_removing_leaves_nothing_but_empty_chains(story: Story, suite: str) -> None:
    before, after = story.before[suite], story.after[suite]
    differing = sorted(
        path for path in before.etc.keys() | after.etc.keys() if before.etc.get(path) != after.etc.get(path)
    )
    assert {path: (before.etc.get(path), after.etc.get(path)) for path in differing} == {}
    assert meaning(after.saved) == meaning(before.saved)
    assert "inet" not in after.ruleset
    assert after.enabled == before.enabled
