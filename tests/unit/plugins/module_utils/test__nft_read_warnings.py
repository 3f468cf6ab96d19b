# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset, parse_ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_iptables import (
    MISREAD,
    UNREADABLE,
    rule_readability,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_warnings import find_all
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence, Finding
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import parse_interfaces
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"
DOCKER = DockerPresence(running=True, bridges={"docker0": ("172.17.0.1/16",), "br-0123456789ab": ("172.20.0.1/24",)})

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="loading a ruleset needs root and nft"
)
needs_iptables = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("iptables-nft") is None, reason="needs root and iptables-nft"
)


def loaded(text: str) -> Ruleset:
    runner = Runner()
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        return read_ruleset(runner)


def document(name: str) -> Ruleset:
    return loaded((FIXTURES / "documents" / name).read_text())


def captured(name: str) -> tuple[Ruleset, DockerPresence]:
    folder = FIXTURES / name
    bridges = {
        each.name: each.addresses
        for each in parse_interfaces((folder / "ip-addr.json").read_text())
        if each.name.startswith(("docker0", "br-"))
    }
    ruleset = parse_ruleset((folder / "ruleset.json").read_text())
    return ruleset, DockerPresence(running=True, bridges=bridges)


def places(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.where.partition(",")[0]) for finding in findings]


@needs_nft
def test_the_listing_an_administrator_asked_about() -> None:
    findings = find_all(document("input_at_minus_450.nft"), DOCKER)
    found = places(findings)
    assert found.count(("FOREIGN_PRIORITY", "ip filter INPUT")) == 1
    assert found.count(("FOREIGN_PRIORITY", "ip filter OUTPUT")) == 1
    assert [each for each in found if each[0] == "FOREIGN_PRIORITY"] == [
        ("FOREIGN_PRIORITY", "ip filter INPUT"),
        ("FOREIGN_PRIORITY", "ip filter OUTPUT"),
    ]
    texts = {finding.where: finding.text for finding in findings}
    assert "priority -450 instead of 0" in texts["ip filter INPUT"]
    assert "priority -1 instead of 0" in texts["ip filter OUTPUT"]
    jumps = [each for each in findings if each.code == "DUPLICATE_RULES" and "nat PREROUTING" in each.where]
    assert [each.text.endswith("has the same rule 5 times: fib daddr type local counter jump DOCKER") for each in jumps]
    assert len(jumps) == 1
    assert ("DUPLICATE_RULES", "ip nat POSTROUTING") in found
    assert ("UNREADABLE_BY_IPTABLES", "ip filter INPUT") in found
    assert ("UNREADABLE_BY_IPTABLES", "ip nat PREROUTING") in found
    assert "LEGACY_XTABLES" not in [code for code, _where in found]
    # The file replaced ip filter, and with it Docker's chains in there.
    assert ("DOCKER_RULES_MISSING", "ip filter DOCKER") in found


@needs_nft
def test_builtin_names_with_native_rules() -> None:
    findings = find_all(document("builtin_names_native_rules.nft"), DOCKER)
    found = places(findings)
    assert [each for each in found if each[0] == "FOREIGN_PRIORITY"] == [("FOREIGN_PRIORITY", "ip nat INPUT")]
    assert ("UNREADABLE_BY_IPTABLES", "ip filter INPUT") in found
    assert ("UNREADABLE_BY_IPTABLES", "ip6 filter INPUT") in found
    assert ("FORWARD_DROP_CUTS_DOCKER", "ip filter FORWARD") in found
    assert ("FORWARD_DROP_CUTS_DOCKER", "ip6 filter FORWARD") not in found, "Docker has no IPv6 network there"
    assert ("DOCKER_RULES_MISSING", "ip nat DOCKER") in found


@needs_nft
def test_an_ipv6_forward_drop_counts_where_docker_has_ipv6() -> None:
    docker = DockerPresence(running=True, bridges={"docker0": ("172.17.0.1/16", "fd00::1/64")})
    found = places(find_all(document("builtin_names_native_rules.nft"), docker))
    assert ("FORWARD_DROP_CUTS_DOCKER", "ip6 filter FORWARD") in found


@needs_nft
def test_a_native_forward_drop_cuts_docker_and_a_mark_lets_it_through() -> None:
    cut = places(find_all(document("native_forward_drop.nft"), DOCKER))
    assert ("FORWARD_DROP_CUTS_DOCKER", "inet filter forward") in cut
    marked = places(find_all(document("native_forward_drop_with_mark.nft"), DOCKER))
    assert ("FORWARD_DROP_CUTS_DOCKER", "inet filter forward") not in marked


@needs_nft
def test_without_docker_a_forward_drop_is_nobodys_business() -> None:
    assert find_all(document("native_forward_drop.nft"), DockerPresence()) == []


@needs_nft
@pytest.mark.parametrize(
    ("rules", "cuts"),
    [
        ("policy drop;", True),
        ("policy accept;", False),
        ("policy drop; ct state established,related accept", True),
        ("policy drop; ct status dnat accept", False),
        ("policy drop; ct state established,related accept\nct status & dnat == dnat accept", False),
        ('policy drop; oifname "docker0" accept', False),
        ('policy drop; oifname "docker*" accept', False),
        ('policy drop; iifname { "eth0", "br-*" } accept', False),
        ('policy drop; oifname "eth7" accept', True),
        ('policy drop; iifname != "eth0" accept', False),
        ('policy drop; iifname != "docker0" drop', True),
        ("policy drop; ip daddr 172.16.0.0/12 accept", False),
        ("policy drop; ip daddr 10.0.0.0/8 accept", True),
        ("policy drop; ip saddr 172.20.0.2 accept", False),
        ("policy drop; tcp dport 443 accept", True),
        ("policy drop; accept", False),
        ("policy drop; jump deeper", False),
        ('policy drop; iifname vmap { "docker0" : accept }', False),
        ('policy drop; iifname vmap { "eth7" : accept }', True),
        ('policy drop; oifname vmap { "docker0" : jump established_only }', False),
        ("policy drop; jump established_only", True),
        ("policy drop; oifname @names accept", False),
        ("policy accept; goto end", True),
        ("policy accept; counter reject", True),
        ("policy accept; tcp dport 25 drop", False),
    ],
)
def test_which_forward_chains_cut_docker(rules: str, cuts: bool) -> None:
    ruleset = loaded(
        f"""
        table inet host {{
            set names {{
                type ifname
            }}
            chain deeper {{
                oifname "docker0" accept
            }}
            chain established_only {{
                ct state established accept
            }}
            chain end {{
                counter drop
            }}
            chain forward {{
                type filter hook forward priority 0; {rules}
            }}
        }}
        """
    )
    found = [code for code, _where in places(find_all(ruleset, DOCKER)) if code == "FORWARD_DROP_CUTS_DOCKER"]
    assert found == (["FORWARD_DROP_CUTS_DOCKER"] if cuts else [])


@needs_nft
@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("chain forward { type filter hook forward priority 0; }", "only FORWARD, and case matters"),
        ("chain MINE { type filter hook input priority 5; }", "no chain of that name"),
        ("chain INPUT { type filter hook input priority -450; }", "priority -450 instead of 0"),
        ("chain OUTPUT { type route hook output priority 0; }", "type route instead of filter"),
        ("chain INPUT { type filter hook input priority filter; }", None),
        ("chain not_a_base_chain { }", None),
    ],
)
def test_which_base_chains_are_foreign_to_iptables(chain: str, said: str | None) -> None:
    findings = [each for each in find_all(loaded(f"table ip filter {{\n{chain}\n}}"), DOCKER) if "FOREIGN" in each.code]
    assert [said in each.text for each in findings if said] == ([True] if said else [])
    assert len(findings) == (1 if said else 0)
    inet = loaded(f"table inet filter {{\n{chain}\n}}")
    assert not any(each.code == "FOREIGN_PRIORITY" for each in find_all(inet, DOCKER)), "iptables never sees inet"


#: Native rules, and whether iptables-nft shows them, refuses the chain, or shows something else.
READABILITY = [
    ('iifname "eth0" accept', None),
    ('iifname "br-*" oifname != "lo" accept', None),
    ("ip saddr 10.0.0.0/8 tcp dport 22 accept", None),
    ("ip daddr != 10.0.0.1 udp sport 1-1024 counter drop", None),
    ("tcp flags syn / fin,syn,rst,ack accept", None),
    ("meta mark & 0xff == 0x1 accept", None),
    ("meta l4proto udp accept", None),
    ("ip protocol icmp icmp type echo-request accept", None),
    ("limit rate 5/second burst 7 packets accept", None),
    ('log prefix "x" group 2', None),
    ('counter comment "x"', None),
    ("jump other", None),
    ("ct state established,related accept", UNREADABLE),
    ("ct state { new, established } accept", UNREADABLE),
    ("ct status dnat accept", UNREADABLE),
    ("ct mark 1 accept", UNREADABLE),
    ("fib daddr type local accept", UNREADABLE),
    ("meta l4proto { tcp, udp } th dport 53 accept", UNREADABLE),
    ("limit rate over 5/second drop", UNREADABLE),
    ('log prefix "x"', UNREADABLE),
    ("reject", UNREADABLE),
    ("ct count over 5 drop", UNREADABLE),
    ("quota over 10 mbytes drop", UNREADABLE),
    ("add @seen { ip saddr }", UNREADABLE),
    ("ct state vmap { established : accept, invalid : drop }", UNREADABLE),
    ("ip saddr { 10.0.0.1, 10.0.0.2 } drop", MISREAD),
    ("ip saddr @named drop", MISREAD),
    ("tcp dport { 22, 80 } accept", MISREAD),
    ('iifname { "eth0", "eth1" } accept', MISREAD),
    ('iifname vmap { "eth0" : accept }', MISREAD),
]


def with_rule(rule: str) -> str:
    return f"""
        table ip filter {{
            set named {{
                type ipv4_addr
                elements = {{ 10.9.9.9 }}
            }}
            set seen {{
                type ipv4_addr
                size 10
                flags dynamic
            }}
            chain other {{
            }}
            chain FORWARD {{
                type filter hook forward priority 0; policy accept;
                {rule}
            }}
        }}
        """


@needs_nft
@pytest.mark.parametrize(("rule", "kind"), READABILITY)
def test_what_iptables_can_read(rule: str, kind: str | None) -> None:
    chain = loaded(with_rule(rule)).tables[0].chain("FORWARD")
    assert chain is not None
    assert [rule_readability(each) for each in chain.rules] == [kind]


@needs_iptables
@pytest.mark.parametrize(("rule", "kind"), READABILITY)
def test_iptables_itself_agrees(rule: str, kind: str | None) -> None:
    runner = Runner()
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=with_rule(rule))
        shown = runner.run(["iptables-nft", "-S", "FORWARD"], check=False)
        again = runner.run(["iptables-nft", "-S", "FORWARD"], check=False)
        if kind != UNREADABLE:
            # Put back exactly what iptables showed, and see whether the kernel then has the same rule.
            before = runner.run(["nft", "-s", "list", "chain", "ip", "filter", "FORWARD"]).stdout
            runner.run(["iptables-nft", "-F", "FORWARD"])
            lines = [line for line in shown.stdout.splitlines() if line.startswith("-A")]
            text = "\n".join(["*filter", *lines, "COMMIT", ""])
            restored = runner.run(["iptables-nft-restore", "--noflush"], stdin=text, check=False)
            after = runner.run(["nft", "-s", "list", "chain", "ip", "filter", "FORWARD"]).stdout
    assert shown.rc == again.rc
    if kind == UNREADABLE:
        assert shown.rc != 0
        assert "incompatible" in shown.stderr or "Parsing nftables rule failed" in shown.stderr
    else:
        assert shown.rc == 0
        assert restored.rc == 0, restored.stderr
    if kind == MISREAD:
        assert ("{" in before or "@" in before) and not ("{ 1" in after or '{ "' in after or "@" in after)


@needs_iptables
def test_rules_made_by_iptables_are_never_called_unreadable_or_doubled() -> None:
    runner = Runner()
    commands = [
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -p tcp -m multiport --dports 80,443 -j ACCEPT",
        "-A FORWARD -m iprange --src-range 198.51.100.1-198.51.100.9 -j DROP",
        "-A FORWARD -m iprange --src-range 198.51.100.11-198.51.100.19 -j DROP",
        "-A FORWARD -m limit --limit 5/min -j LOG --log-prefix one",
        "-A FORWARD -m limit --limit 5/min -j LOG --log-prefix two",
        "-A FORWARD -m addrtype --dst-type LOCAL -j REJECT",
        "-A FORWARD -i eth0 -o eth1 -p udp --dport 53 -m comment --comment x -j RETURN",
    ]
    with runner.scratch_network():
        for command in commands:
            runner.run(["iptables-nft", *command.split()])
        assert find_all(read_ruleset(runner), DockerPresence()) == []
        runner.run(["iptables-nft", *commands[1].split()])
        doubled = find_all(read_ruleset(runner), DockerPresence())
    assert places(doubled) == [("DUPLICATE_RULES", "ip filter FORWARD")]


@needs_nft
def test_counters_do_not_hide_a_duplicate_and_different_rules_are_none() -> None:
    ruleset = loaded(
        """
        table inet t {
            chain c {
                tcp dport 22 counter packets 5 bytes 9 accept
                tcp dport 22 counter packets 7 bytes 1 accept
                tcp dport 23 counter accept
                udp dport 22 counter accept
            }
            chain d {
                tcp dport 23 counter accept
            }
        }
        """
    )
    findings = find_all(ruleset, DockerPresence())
    assert places(findings) == [("DUPLICATE_RULES", "inet t c")]
    assert "2 times: tcp dport 22 counter accept" in findings[0].text


def test_legacy_tables_are_named() -> None:
    findings = find_all(Ruleset(), DockerPresence(), ("filter", "nat"), ("filter",))
    assert [(each.code, each.where) for each in findings] == [
        ("LEGACY_XTABLES", "/proc/net/ip_tables_names"),
        ("LEGACY_XTABLES", "/proc/net/ip6_tables_names"),
    ]
    assert "filter, nat" in findings[0].text


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("docker-20.10.24-iptables-firewalld", []),
        ("docker-26.1.5-iptables-firewalld", []),
        ("docker-29.7.2-nftables", []),
        ("switch-1-iptables-with-docker-user", []),
        ("switch-4-nftables-flushed", [("DOCKER_RULES_MISSING", "ip nat DOCKER")]),
    ],
)
def test_what_is_wrong_on_real_hosts(capture: str, expected: list[tuple[str, str]]) -> None:
    ruleset, presence = captured(capture)
    assert places(find_all(ruleset, presence)) == expected


@needs_iptables
@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("docker-20.10.24-iptables-firewalld", []),
        ("docker-26.1.5-iptables-firewalld", []),
        ("switch-1-iptables-with-docker-user", []),
        (
            "switch-2-nftables-after-restart",
            [
                ("FORWARD_DROP_CUTS_DOCKER", "ip filter FORWARD"),
                ("FORWARD_DROP_CUTS_DOCKER", "ip6 filter FORWARD"),
                ("DOCKER_RULES_MISSING", "ip nat DOCKER"),
            ],
        ),
    ],
)
def test_rules_of_real_hosts_loaded_by_iptables_itself(capture: str, expected: list[tuple[str, str]]) -> None:
    """The captured listings have no handles; loading the saved rules gives every rule its text."""
    _ruleset, presence = captured(capture)
    runner = Runner()
    with runner.scratch_network():
        for tool in ("iptables", "ip6tables"):
            saved = (FIXTURES / capture / f"{tool}-save.txt").read_text()
            runner.run([f"{tool}-nft-restore"], stdin=saved)
        ruleset = read_ruleset(runner)
    assert all(rule.text for table in ruleset.tables for chain in table.chains for rule in chain.rules)
    assert places(find_all(ruleset, presence)) == expected


def test_docker_rules_are_only_missed_where_docker_should_have_made_some() -> None:
    def codes(presence: DockerPresence, **more: object) -> list[str]:
        return [each.code for each in find_all(Ruleset(), presence, **more)]

    assert codes(DOCKER) == ["DOCKER_RULES_MISSING"]
    assert codes(DockerPresence(running=False, bridges=DOCKER.bridges)) == []
    assert codes(DockerPresence(running=True)) == []
    assert codes(DOCKER, docker_manages_rules=False) == []
    assert codes(DOCKER, legacy4=("nat",)) == ["LEGACY_XTABLES"]


@pytest.mark.parametrize(
    ("lost", "missed"),
    [
        (lambda entry: entry.get("chain", {}).get("hook") == "forward", "no base chain at forward"),
        (lambda entry: entry.get("table", {}).get("name") == "docker-bridges", "no chain DOCKER"),
        (lambda entry: entry.get("chain", {}).get("name") == "nothing", None),
    ],
)
def test_docker_rules_that_are_half_gone_with_the_nftables_backend(lost: object, missed: str | None) -> None:
    document = json.loads((FIXTURES / "docker-29.7.2-nftables" / "ruleset.json").read_text())
    document["nftables"] = [entry for entry in document["nftables"] if not lost(entry)]
    _ruleset, presence = captured("docker-29.7.2-nftables")
    findings = [
        each for each in find_all(parse_ruleset(json.dumps(document)), presence) if each.code == "DOCKER_RULES_MISSING"
    ]
    assert [missed in each.text for each in findings if missed] == ([True] if missed else [])
    assert bool(findings) is bool(missed)


def test_docker_rules_that_are_half_gone_with_the_iptables_backend() -> None:
    document = json.loads((FIXTURES / "docker-26.1.5-iptables-firewalld" / "ruleset.json").read_text())
    document["nftables"] = [
        entry
        for entry in document["nftables"]
        if not (entry.get("rule", {}).get("table") == "nat" and entry["rule"]["chain"] == "PREROUTING")
    ]
    _ruleset, presence = captured("docker-26.1.5-iptables-firewalld")
    findings = find_all(parse_ruleset(json.dumps(document)), presence)
    assert places(findings) == [("DOCKER_RULES_MISSING", "ip nat PREROUTING")]


PROXIED = frozenset({("tcp", 8083), ("tcp", 8090), ("tcp", 7000)})


@needs_iptables
@pytest.mark.parametrize(
    ("capture", "forward"),
    [
        ("docker-20.10.24-iptables-firewalld", "DOCKER-ISOLATION-STAGE-1"),
        ("docker-26.1.5-iptables-firewalld", "DOCKER-ISOLATION-STAGE-1"),
        ("switch-1-iptables-with-docker-user", "DOCKER-FORWARD"),
    ],
)
@pytest.mark.parametrize(
    ("command", "where", "said"),
    [
        ("-S", None, ""),
        ("-F DOCKER-USER", None, ""),
        ("-t nat -F", "ip nat PREROUTING", "nothing in table ip nat PREROUTING jumps to chain DOCKER"),
        ("-t nat -F OUTPUT", "ip nat OUTPUT", "nothing in table ip nat OUTPUT jumps to chain DOCKER"),
        ("-t nat -F DOCKER", "ip nat DOCKER", "no rule sends published port 7000/tcp, 8083/tcp, 8090/tcp to its"),
        ("-F FORWARD", "ip filter FORWARD", "nothing in table ip filter FORWARD jumps to chain {forward}; nothing"),
        (
            "-D FORWARD -j DOCKER-USER",
            "ip filter FORWARD",
            "nothing in table ip filter FORWARD jumps to chain DOCKER-USER",
        ),
        ("delete table ip nat", "ip nat DOCKER", "there is no chain DOCKER in table ip nat. Somebody"),
        ("delete table ip filter", "ip filter DOCKER", "there is no chain DOCKER in table ip filter"),
        ("flush ruleset", "ip nat DOCKER", "no chain DOCKER in table ip nat and no table ip docker-bridges"),
    ],
)
def test_what_somebody_takes_from_docker(
    capture: str, forward: str, command: str, where: str | None, said: str
) -> None:
    _ruleset, presence = captured(capture)
    presence = replace(presence, proxied=PROXIED)
    runner = Runner()
    with runner.scratch_network():
        runner.run(["iptables-nft-restore"], stdin=(FIXTURES / capture / "iptables-save.txt").read_text())
        runner.run([*(["iptables-nft"] if command.startswith("-") else ["nft"]), *command.split()])
        findings = find_all(read_ruleset(runner), presence)
    missing = [each for each in findings if each.code == "DOCKER_RULES_MISSING"]
    assert [(each.where, each.severity) for each in missing] == ([(where, "error")] if where else [])
    assert said.format(forward=forward) in "".join(each.text for each in missing)


@needs_iptables
def test_rules_docker_made_for_ipv6_only_count_where_it_made_some() -> None:
    capture = "switch-1-iptables-with-docker-user"
    _ruleset, presence = captured(capture)
    runner = Runner()
    with runner.scratch_network():
        for tool in ("iptables", "ip6tables"):
            runner.run([f"{tool}-nft-restore"], stdin=(FIXTURES / capture / f"{tool}-save.txt").read_text())
        healthy = find_all(read_ruleset(runner), presence)
        runner.run(["ip6tables-nft", "-F", "FORWARD"])
        flushed = find_all(read_ruleset(runner), presence)
        runner.run(["nft", "delete", "table", "ip6", "filter"])
        runner.run(["nft", "delete", "table", "ip6", "nat"])
        without = find_all(read_ruleset(runner), presence)
    assert "DOCKER_RULES_MISSING" not in [each.code for each in healthy]
    assert ("DOCKER_RULES_MISSING", "ip6 filter FORWARD") in places(flushed)
    assert "DOCKER_RULES_MISSING" not in [each.code for each in without], "older engines make none"


def native(keep: Any) -> Ruleset:
    document = json.loads((FIXTURES / "docker-29.7.2-nftables" / "ruleset.json").read_text())
    document["nftables"] = [entry for entry in document["nftables"] if keep(entry)]
    return parse_ruleset(json.dumps(document))


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda entry: True, None),
        # New containers bring back the chain for raw, but no base chain for NAT.
        (lambda entry: entry.get("chain", {}).get("name") != "nat-PREROUTING", "no base chain at prerouting"),
        (lambda entry: entry.get("chain", {}).get("name") != "nat-POSTROUTING", "no base chain at postrouting"),
        (
            lambda entry: entry.get("rule", {}).get("chain") != "filter-FORWARD",
            "chain filter-FORWARD of table ip docker-bridges is empty; chain filter-FORWARD of table ip6",
        ),
        (lambda entry: "rule" not in entry, "chain nat-PREROUTING of table ip docker-bridges is empty"),
        (
            lambda entry: (
                (entry.get("chain", {}).get("family"), entry.get("chain", {}).get("hook")) != ("ip6", "forward")
            ),
            "table ip6 docker-bridges has no base chain at forward",
        ),
        (lambda entry: "raw" not in entry.get("rule", {}).get("chain", ""), None),
    ],
)
def test_what_somebody_takes_from_the_nftables_backend(keep: Any, said: str | None) -> None:
    _ruleset, presence = captured("docker-29.7.2-nftables")
    missing = [each for each in find_all(native(keep), presence) if each.code == "DOCKER_RULES_MISSING"]
    assert [each.severity for each in missing] == (["error"] if said else [])
    assert (said or "") in "".join(each.text for each in missing)


@needs_nft
def test_ports_of_the_nftables_backend() -> None:
    text = """
        table ip docker-bridges {
            chain nat-PREROUTING {
                type nat hook prerouting priority -100;
                fib daddr type local counter jump ports
            }
            chain ports {
                iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"
            }
            chain filter-FORWARD {
                type filter hook forward priority 0;
                accept
            }
            chain nat-POSTROUTING {
                type nat hook postrouting priority 100;
                oifname "docker0" masquerade
            }
        }
        """
    known = replace(DOCKER, proxied=frozenset({("tcp", 8080)}))
    assert find_all(loaded(text), known) == []
    lost = find_all(loaded(text), replace(DOCKER, proxied=frozenset({("tcp", 8080), ("udp", 8080)})))
    assert ["no rule sends published port 8080/udp to its container" in each.text for each in lost] == [True]


@needs_iptables
def test_many_lost_ports_are_shortened() -> None:
    many = frozenset(("tcp", port) for port in range(30))
    _ruleset, presence = captured("docker-26.1.5-iptables-firewalld")
    runner = Runner()
    with runner.scratch_network():
        saved = (FIXTURES / "docker-26.1.5-iptables-firewalld" / "iptables-save.txt").read_text()
        runner.run(["iptables-nft-restore"], stdin=saved)
        (missing,) = find_all(read_ruleset(runner), replace(presence, proxied=many))
    assert "published port 0/tcp, 1/tcp, 2/tcp" in missing.text and "9/tcp and 20 more to its" in missing.text


LEGACY_DOCKER = (
    "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    "-t filter -A FORWARD -j DOCKER-USER",
    "-t filter -A FORWARD -j DOCKER-FORWARD",
)


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        (LEGACY_DOCKER, None),
        (None, None),
        (LEGACY_DOCKER[:2], "legacy ip filter FORWARD"),
        ((*LEGACY_DOCKER[1:], "-t nat -A OUTPUT -j DOCKER"), "legacy ip nat PREROUTING"),
        (("-t filter -A INPUT -j DROP",), "ip nat DOCKER"),
        ((), "ip nat DOCKER"),
    ],
)
def test_docker_on_the_old_xtables(rules: tuple[str, ...] | None, where: str | None) -> None:
    findings = find_all(Ruleset(), DOCKER, ("filter", "nat"), (), True, LegacyRules(rules))
    missing = [each.where for each in findings if each.code == "DOCKER_RULES_MISSING"]
    assert missing == ([where] if where else [])


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (LegacyRules((), ()), []),
        (LegacyRules(("-t filter -P INPUT DROP",), ()), ["(tables filter; 1 rules and policies)"]),
        (LegacyRules(None, ()), ["iptables-legacy-save is missing or failed"]),
        (LegacyRules((), None), ["ip6tables-legacy-save is missing or failed"]),
    ],
)
def test_old_tables_that_are_empty_are_no_danger(rules: LegacyRules, said: list[str]) -> None:
    findings = find_all(Ruleset(), DockerPresence(), ("filter",), ("filter",), True, rules)
    assert [words in each.text for each, words in zip(findings, said)] == [True] * len(said)
    assert len(findings) == len(said)


@needs_nft
@pytest.mark.parametrize(
    ("table", "chain", "bridges", "severity"),
    [
        ("filter", "DOCKER-USER", True, "error"),
        ("filter", "DOCKER-USER", False, "error"),
        ("filter", "FORWARD", True, "error"),
        ("filter", "FORWARD", False, "warning"),
        ("filter", "INPUT", True, "warning"),
        ("filter", "mine", True, "warning"),
        ("nat", "PREROUTING", True, "error"),
        ("raw", "PREROUTING", True, "error"),
        ("mangle", "PREROUTING", True, "warning"),
    ],
)
def test_what_iptables_cannot_read_weighs_more_where_docker_works(
    table: str, chain: str, bridges: bool, severity: str
) -> None:
    presence = DockerPresence(bridges=DOCKER.bridges if bridges else {})
    text = f"table ip {table} {{\nchain {chain} {{\nct state established accept\n}}\n}}"
    (finding,) = find_all(loaded(text), presence)
    assert (finding.code, finding.severity) == ("UNREADABLE_BY_IPTABLES", severity)
    assert finding.as_dict()["severity"] == severity


@needs_nft
def test_with_the_nftables_backend_forward_is_not_dockers() -> None:
    text = "table ip filter {\nchain FORWARD {\nct state established accept\n}\n}\ntable ip docker-bridges {\n}"
    (finding,) = find_all(loaded(text), DockerPresence(bridges=DOCKER.bridges))
    assert finding.severity == "warning"


@needs_nft
def test_a_forward_drop_is_an_error_and_a_duplicate_is_not() -> None:
    findings = find_all(document("native_forward_drop.nft"), DOCKER)
    weights = {each.code: each.severity for each in findings}
    assert weights["FORWARD_DROP_CUTS_DOCKER"] == "error"
    twice = loaded("table inet t {\nchain c {\naccept\naccept\n}\n}")
    assert [each.severity for each in find_all(twice, DockerPresence())] == ["warning"]


@needs_nft
@pytest.mark.parametrize(
    ("first", "second", "doubled"),
    [
        ("counter jump BULKHEAD-INPUT", "counter jump BULKHEAD-INPUT", True),
        ("counter jump BULKHEAD-INPUT", "jump BULKHEAD-INPUT", True),
        ("counter packets 3 bytes 9 jump BULKHEAD-INPUT", 'jump BULKHEAD-INPUT comment "mine"', True),
        ("jump BULKHEAD-INPUT", 'iifname "eth0" jump BULKHEAD-INPUT', False),
        ("jump BULKHEAD-INPUT", "goto BULKHEAD-INPUT", False),
    ],
)
def test_jumps_to_own_chains_are_there_once(first: str, second: str, doubled: bool) -> None:
    text = f"table ip filter {{\nchain BULKHEAD-INPUT {{\n}}\nchain INPUT {{\n{first}\n{second}\n}}\n}}"
    assert [each.code for each in find_all(loaded(text), DockerPresence())] == ["DUPLICATE_RULES"] * doubled


@needs_iptables
def test_a_jump_of_nft_and_one_of_iptables_are_the_same() -> None:
    runner = Runner()
    with runner.scratch_network():
        script = "table ip filter {\nchain BULKHEAD-INPUT {\n}\nchain INPUT {\ntype filter hook input priority 0;\n"
        runner.run(["nft", "-f", "-"], stdin=f"{script}counter jump BULKHEAD-INPUT\n}}\n}}")
        runner.run(["iptables-nft", "-A", "INPUT", "-j", "BULKHEAD-INPUT"])
        findings = find_all(read_ruleset(runner), DockerPresence())
    assert places(findings) == [("DUPLICATE_RULES", "ip filter INPUT")]


@pytest.mark.parametrize(
    ("rules", "severity"),
    [
        ("add rule ip filter FORWARD counter jump DOCKER-USER\nadd rule ip filter DOCKER-USER counter drop", "warning"),
        ("add rule ip filter DOCKER-USER counter drop", "error"),
        ("", None),
    ],
)
def test_rules_that_the_nftables_backend_does_not_ask(rules: str, severity: str | None) -> None:
    chains = "add chain ip filter FORWARD { type filter hook forward priority 0; }\nadd chain ip filter DOCKER-USER\n"
    for docker in (True, False):
        text = "add table ip filter\n" + chains + rules + ("\nadd table ip docker-bridges" if docker else "")
        found = [each for each in find_all(loaded(text), DockerPresence()) if each.code == "DOCKER_USER_LEFT"]
        assert [each.severity for each in found] == ([severity] if severity and docker else [])
