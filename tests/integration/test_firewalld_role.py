# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same policy on hosts with firewalld: what neighbours and containers reach is what the policy says."""

from __future__ import annotations

import os
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from integration.fleet import Key, Table, from_container, own_table, table, target
from integration.scene import is_root, never_through

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import STANDARD, Target, running, standard_targets
from lab.host import Host
from lab.network import INTERNET4, INTERNET_HTTP, INTERNET_UDP
from lab.process import wait_for
from lab.topology import Lab

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

FIREWALLD = "bulkhead.docker_nftables.firewalld"
Variables = t.Dict[str, t.Any]
OFFICE = 60
BACKUP = 70
#: A port of the second network's neighbour at which nobody listens: it answers that, if it hears of it.
NOBODY = 9

#: Published ports for some sources only, a service of the host's, a rejection, containers, and the way through the host.
POLICY: Variables = {
    "docker_firewall_zones": {
        "office": {"sources": ["198.51.100.60", "2001:db8::60"]},
        "second": {"interfaces": ["eth1"]},
    },
    "docker_firewall_rules": [
        {"to": "host", "ports": [22]},
        {"to": "published", "ports": [80, 443]},
        {"from": "office", "to": "published", "ports": [8080, "7001-7002"]},
        {"from": "office", "to": "published", "ports": [8082], "protocol": "udp"},
        {"from": "office", "to": "host", "ports": [8888]},
        {"from": "office", "to": "host", "ports": [9999], "action": "reject"},
        {"from": "second", "to": "host", "ports": [8888]},
        {"from": "containers", "to": "host", "ports": [8888]},
        {"from": "containers", "to": "egress", "ports": [INTERNET_HTTP], "action": "reject"},
        {"from": "office", "to": "routed", "ports": [NOBODY]},
    ],
    "docker_firewall_containers_to_host_default": "drop",
    "firewalld_strict_forward_ports": True,
}
#: What somebody else has, which is to stay as it is.
THEIRS = (
    ["--permanent", "--new-zone=theirs"],
    ["--permanent", "--zone=theirs", "--add-source=192.0.2.77"],
    ["--permanent", "--zone=theirs", "--add-port=4444/tcp"],
    ["--permanent", "--zone=public", "--add-rich-rule=rule family=ipv4 source address=192.0.2.78 drop"],
    ["--permanent", "--zone=work", "--change-interface=eth1"],
    ["--reload"],
)


@pytest.fixture(scope="module")
def host(suite: str) -> t.Iterator[Host]:
    """firewalld with a zone and a rule of its owner's. In the newest release Docker misses it at the boot."""
    with Lab(f"fwr{suite[0]}{os.getpid()}") as lab:
        host = lab.add_host("host", suite, variant="firewalld", second_nic=True)
        lab.add_peer("office", OFFICE)
        lab.add_peer("backup", BACKUP, second_network=True)
        host.boot()
        host.wait_docker()
        for arguments in THEIRS:
            host.run(["firewall-cmd", *arguments])
        host.containers_up(STANDARD)
        for name in ("peer", "office"):
            lab.peers[name].route_via(host)
            for each in (lab.peers["backup"].address4, lab.peers["backup"].address6):
                lab.peers[name].namespace.ip(f"route replace {each} via {host.address6 if ':' in each else host.address4}")
                back = lab.peers[name].address6 if ":" in each else lab.peers[name].address4
                gateway = host.second_address6 if ":" in each else host.second_address4
                lab.peers["backup"].namespace.ip(f"route replace {back} via {gateway}")
        yield host


def play(host: Host, variables: Variables, **options: t.Any) -> PlaybookResult:
    return run_playbook(host.lab, FIREWALLD, hosts=host.name, extra_vars=variables, **options)


def played(host: Host, variables: Variables, **options: t.Any) -> PlaybookResult:
    result = play(host, variables, **options)
    assert result.rc == 0, f"{result.messages()}\n{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return result


def changed_modules(host: Host, result: PlaybookResult) -> list[str]:
    return [event["action"].rpartition(".")[2] for event in result.tasks(host.name) if event["changed"]]


def listed(host: Host) -> dict[str, str]:
    """Every zone and policy of either configuration."""
    found = {}
    for where in ("", "--permanent"):
        for what in ("--list-all-zones", "--list-all-policies"):
            name = ""
            for line in host.run(["firewall-cmd", *filter(None, [where]), what]).stdout.splitlines():
                if line[:1].strip():
                    name = f"{where or 'runtime'} {line.split()[0]}"
                    found[name] = ""
                elif line.strip():
                    found[name] += f"{line.strip()}\n"
    return {key: "\n".join(sorted(" ".join(sorted(line.split())) for line in text.splitlines())) for key, text in found.items()}


def theirs(found: dict[str, str], *names: str) -> dict[str, str]:
    return {key: text for key, text in found.items() if key.split()[1] in names}


def dialled(host: Host) -> list[Target]:
    """What a neighbour tries: all of the standard containers, and a port at which nobody is."""
    return [*standard_targets(host), target("tcp", host.address4, 9999), target("tcp", host.address6, 9999)]


def said(variables: Variables, source4: str, source6: str, interface: str, targets: t.Sequence[Target]) -> Table:
    """What the policy says, by the decider, which knows nothing of firewalld."""
    prefix = "docker_firewall_"
    policy = parse({key[len(prefix) :]: value for key, value in variables.items() if key.startswith(prefix)})
    found: dict[Key, str] = {}
    for item in targets:
        key = (item["proto"], item["address"], item["port"])
        if item.get("direct"):
            found[key] = "timeout"
            continue
        source = source6 if ":" in item["address"] else source4
        published = item.get("container") not in (None, "hostnet")
        dial = Dial(source, item["address"], item["proto"], item["port"], interface)
        verdict = decide(policy, dial, published=published).verdict
        found[key] = {"accept": "open", "drop": "timeout", "reject": "refused"}[verdict]
    return found


def differences(seen: Table, wanted: Table) -> dict[Key, tuple[str, str]]:
    """Where packets and policy disagree: what came back, what was said."""
    return {key: (seen[key], wanted[key]) for key in wanted if seen[key] != wanted[key]}


def holds(host: Host, variables: Variables) -> None:
    """Everything that neighbours of the first network try comes out as the policy says."""
    for name in ("peer", "office"):
        first = wrong(host, variables, name)
        # A container that was started anew needs a moment before it answers; nothing is open too much meanwhile.
        assert not any(seen == "open" for seen, _said in first.values()), f"{name}: {first}"
        if first:
            _wait_right(host, variables, name)


def _wait_right(host: Host, variables: Variables, name: str) -> None:
    wait_for(f"{name} reaches what the policy says", lambda: not wrong(host, variables, name), 20)


def wrong(host: Host, variables: Variables, name: str) -> dict[Key, tuple[str, str]]:
    """Where what a neighbour reaches differs from what the policy says."""
    targets, peer = dialled(host), host.lab.peers[name]
    wanted = said(variables, peer.address4, peer.address6, "eth0", targets)
    assert {"open", "timeout"} <= set(wanted.values())
    return differences(table(peer.probe(targets, 1.5)), wanted)


def test_an_interface_of_somebody_elses_zone_is_not_taken_unasked(host: Host) -> None:
    before = listed(host)
    result = play(host, {**POLICY, "firewalld_take_interface": True})
    assert result.rc != 0
    assert "the zone work has the outside interface eth1: set firewalld_take_interfaces" in result.messages()
    assert "firewalld_take_interface: there is no such variable; did you mean firewalld_take_interfaces?" in result.messages()
    assert "nothing was changed" in result.messages()
    assert listed(host) == before
    assert host.run(["nft", "list", "table", "inet", "bulkhead"], check=False).returncode != 0


def test_neighbours_and_containers_reach_what_the_policy_says(host: Host, suite: str) -> None:
    variables = {**POLICY, "firewalld_take_interfaces": True}
    before, names = listed(host), running(host)
    foretold = played(host, variables, check=True, diff=True)
    assert listed(host) == before, "check mode changed firewalld"
    assert host.run(["nft", "list", "table", "inet", "bulkhead"], check=False).returncode != 0
    done = played(host, variables)
    assert changed_modules(host, foretold) == changed_modules(host, done)
    assert "firewalld_policy" in changed_modules(host, done)
    again = played(host, variables, options=["-vvv"])
    assert again.changed(host.name) == 0, changed_modules(host, again)
    assert 2 <= again.stdout.count(f"<{host.address4}> SSH: EXEC") <= 8
    assert running(host) == names
    _says_who_holds_what(host, done)

    holds(host, variables)
    _containers(host)
    _through_the_host(host)
    _second_network(host)
    after = listed(host)
    assert theirs(after, "theirs", "public", "drop") == theirs(before, "theirs", "public", "drop")
    # A zone per class of interfaces, which anybody can read.
    assert "interfaces: eth0" in after["--permanent bulkhead-outside"].replace("eth0 interfaces:", "interfaces: eth0")
    assert "22/tcp" in after["runtime bulkhead-outside"]
    strict = host.run(["grep", "^StrictForwardPorts=", "/etc/firewalld/firewalld.conf"], check=False).stdout.strip()
    assert strict == ("" if suite == "bookworm" else "StrictForwardPorts=yes")
    _after_a_reload(host, variables)


def _says_who_holds_what(host: Host, done: PlaybookResult) -> None:
    facts: dict[str, t.Any] = {}
    for event in done.tasks(host.name):
        facts.update(event["result"].get("ansible_facts") or {})
    held = {each["what"]: each["by"] for each in facts["firewalld_held"]}
    assert held["docker_firewall_rules[0]"] == "firewalld"
    assert held["docker_firewall_rules[2]"] == "own table and firewalld"
    assert held["published ports that no rule names"] == "own table"
    assert len(held) == len(POLICY["docker_firewall_rules"]) + 5
    # The own table has no word of what firewalld holds.
    assert "9999" not in own_table(host)


def _containers(host: Host) -> None:
    wanted: Table = {
        ("tcp", host.address4, 22): "timeout",
        ("tcp", host.address4, 8888): "open",
        ("tcp", INTERNET4, INTERNET_HTTP): "refused",
        ("udp", INTERNET4, INTERNET_UDP): "open",
    }
    for name in ("web", "tls"):
        seen = table(from_container(host, name, [target(*key) for key in wanted]))
        assert differences(seen, wanted) == {}, name


def _through_the_host(host: Host) -> None:
    """The host is a router for whoever the policy says, and for nobody else, once Docker does not drop it all."""
    for tool in ("iptables", "ip6tables"):
        host.run([tool, "-P", "FORWARD", "ACCEPT"])
    backup = host.lab.peers["backup"]
    targets = [target("tcp", address, NOBODY) for address in (backup.address4, backup.address6)]
    for name, wanted in (("office", ["refused", "refused"]), ("peer", ["timeout", "timeout"])):
        assert [item["result"] for item in host.lab.peers[name].probe(targets, 1.5)] == wanted, name


def _second_network(host: Host) -> None:
    """What comes in by the second interface meets the rules of its own zone."""
    addresses = (host.second_address4, host.second_address6)
    seen = table(
        host.lab.peers["backup"].probe([target("tcp", a, port) for a in addresses for port in (22, 80, 8080, 8888)], 1.5)
    )
    assert {key for key, result in seen.items() if result == "open"} == {
        ("tcp", address, port) for address in addresses for port in (22, 80, 8888)
    }


def _after_a_reload(host: Host, variables: Variables) -> None:
    """Zones keep their interfaces, and Docker's bridges come back into theirs."""
    before = listed(host)
    closed = [item for item in dialled(host) if item["port"] in (8080, 8081, 8888) or item.get("direct")]
    with never_through(host, closed, "a reload of firewalld"):
        host.run(["firewall-cmd", "--reload"])
        wait_for("zones are as before", lambda: listed(host) == before, 30)
    holds(host, variables)
    assert played(host, variables, check=True).changed(host.name) == 0


def test_all_of_it_goes_away_again(host: Host) -> None:
    played(host, {"firewalld_state": "absent", "docker_firewall_manage_forwarding": False})
    after = listed(host)
    assert not [name for name in after if "bulkhead" in name]
    assert "eth1" in after["--permanent work"] and "eth1" in after["runtime work"]
    assert host.run(["nft", "list", "table", "inet", "bulkhead"], check=False).returncode != 0
    wait_for(
        "published ports are open again",
        lambda: host.lab.peer.probe([target("tcp", host.address4, 8080)], 1.0)[0]["result"] == "open",
        20,
    )
    again = played(host, {"firewalld_state": "absent", "docker_firewall_manage_forwarding": False})
    assert again.changed(host.name) == 0, changed_modules(host, again)
