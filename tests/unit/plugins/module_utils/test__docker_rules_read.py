# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Docker's rules look like through nft, made by iptables itself in a namespace of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_read import (
    dnat_missing,
    engine_version,
    user_chain_misplaced,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

needs_iptables = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("nft") and shutil.which("iptables-nft-restore")),
    reason="needs root, nft and iptables-nft",
)
NAT = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53
COMMIT
"""
FILTER = """*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
{chain}{rules}COMMIT
"""
USER = ":DOCKER-USER - [0:0]\n-A DOCKER-USER -s 192.0.2.1/32 -j DROP\n-A DOCKER-USER -j RETURN\n"
DOCKERS = "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n-A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 -j ACCEPT\n"
JUMP = "-A FORWARD -j DOCKER-USER\n"
NO_JUMP = "Nothing in table ip filter FORWARD sends all packets to DOCKER-USER."


def port(number: int, proto: str = "tcp", host: str = "0.0.0.0", container: str = "172.17.0.2") -> dict[str, Any]:
    return {
        "protocol": proto,
        "host_port": number,
        "container": "web",
        "host_addresses": [host],
        "container_addresses": [container],
    }


@pytest.fixture
def namespace() -> Iterator[Runner]:
    runner = Runner()
    with runner.scratch_network():
        yield runner


def load(runner: Runner, text: str, family: str = "") -> Ruleset:
    runner.run([f"ip{family}tables-nft-restore", "--noflush"], stdin=text)
    return read_ruleset(runner)


@needs_iptables
def test_ports_with_and_without_dnat(namespace: Runner) -> None:
    ruleset = load(namespace, NAT)
    assert list(dnat_missing(ruleset, [port(8080), port(53, "udp", "127.0.0.1")])) == []
    assert list(dnat_missing(ruleset, [port(8080), port(8080, "udp"), port(443)])) == [
        "Published ports without DNAT for IPv4: 8080/udp of web, 443/tcp of web. docker-proxy answers for them on the "
        "input path, if anything does."
    ]
    (many,) = dnat_missing(ruleset, [port(number) for number in range(1, 10)])
    assert "5/tcp of web and 4 more." in many


@needs_iptables
def test_ports_that_have_no_dnat_by_design(namespace: Runner) -> None:
    """IPv6 to a container without IPv6, and IPv6 where Docker makes no rules for it."""
    ruleset = load(namespace, NAT)
    assert list(dnat_missing(ruleset, [port(1, host="::"), port(2, host="::", container="fd00::2")])) == []
    ruleset = load(namespace, NAT.replace("127.0.0.1/32", "::1/128").replace("172.17.0.2", "[fd00::2]"), "6")
    (found,) = dnat_missing(ruleset, [port(2, host="::", container="fd00::2")])
    assert found.startswith("Published ports without DNAT for IPv6: 2/tcp of web.")


@needs_iptables
def test_an_empty_chain_has_no_dnat(namespace: Runner) -> None:
    load(namespace, NAT)
    namespace.run(["iptables-nft", "-t", "nat", "-F", "DOCKER"])
    assert len(list(dnat_missing(read_ruleset(namespace), [port(8080)]))) == 1


@needs_iptables
def test_dnat_of_the_nftables_backend(namespace: Runner) -> None:
    namespace.run(
        ["nft", "-f", "-"],
        stdin="table ip docker-bridges {\n\tchain nat-prerouting-and-output {\n"
        '\t\tiifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"\n\t}\n}\n',
    )
    ruleset = read_ruleset(namespace)
    assert list(dnat_missing(ruleset, [port(8080)])) == []
    assert len(list(dnat_missing(ruleset, [port(8081)]))) == 1


@pytest.mark.parametrize("text", [None, 'ip protocol tcp xt match "tcp" counter xt target "DNAT"'])
def test_what_nft_cannot_show_is_not_missing(text: str | None) -> None:
    rule = Rule(1, ({"xt": {"type": "target", "name": "DNAT"}},), text)
    ruleset = Ruleset((Table("ip", "nat", chains=(Chain("DOCKER", 1, rules=(rule,)),)),))
    assert list(dnat_missing(ruleset, [port(8080)])) == []


def test_without_docker_nothing_is_missing() -> None:
    assert list(dnat_missing(Ruleset(), [port(8080)])) == []
    assert list(user_chain_misplaced(Ruleset(), (26, 1, 5))) == []


@needs_iptables
@pytest.mark.parametrize(
    ("chain", "rules", "wrong"),
    [
        (USER, JUMP + DOCKERS, None),
        # A start with containers running leaves the isolation first, which only drops.
        (USER, DOCKERS.replace("\n", "\n" + JUMP, 1), None),
        (USER, DOCKERS + JUMP, "Docker accepts packets in table ip filter FORWARD before DOCKER-USER is asked."),
        (USER, DOCKERS, NO_JUMP),
        (USER, "-A FORWARD -p tcp -j DOCKER-USER\n" + DOCKERS, NO_JUMP),
        ("", DOCKERS, "There is no chain DOCKER-USER in table ip filter."),
        ("", "", None),
    ],
)
def test_docker_user_is_put_in_front(namespace: Runner, chain: str, rules: str, wrong: str | None) -> None:
    ruleset = load(namespace, FILTER.format(chain=chain, rules=rules))
    found = list(user_chain_misplaced(ruleset, (26, 1, 5)))
    assert [each.text for each in found] == ([] if wrong is None else [wrong])
    if wrong is None:
        return
    namespace.run(["nft", "-f", "-"], stdin="\n".join(found[0].commands) + "\n")
    assert list(user_chain_misplaced(read_ruleset(namespace), (26, 1, 5))) == []
    listed = namespace.run(["iptables-nft", "-S"]).stdout.splitlines()
    forward = [line for line in listed if line.startswith("-A FORWARD")]
    assert forward[0] == "-A FORWARD -j DOCKER-USER"
    assert forward.count("-A FORWARD -j DOCKER-USER") == 1
    assert listed.count("-A DOCKER-USER -j RETURN") == 1
    assert ("-A DOCKER-USER -s 192.0.2.1/32 -j DROP" in listed) == bool(chain)
    namespace.run(["iptables-nft", "-C", "FORWARD", "-j", "DOCKER-USER"])


@needs_iptables
def test_what_iptables_can_read_it_can_take_away(namespace: Runner) -> None:
    """Docker deletes and inserts this jump with iptables."""
    (found,) = user_chain_misplaced(load(namespace, FILTER.format(chain="", rules=DOCKERS)), (26, 1, 5))
    namespace.run(["nft", "-f", "-"], stdin="\n".join(found.commands) + "\n")
    namespace.run(["iptables-nft", "-D", "FORWARD", "-j", "DOCKER-USER"])
    with pytest.raises(CommandError):
        namespace.run(["iptables-nft", "-C", "FORWARD", "-j", "DOCKER-USER"])


@needs_iptables
@pytest.mark.parametrize(("engine", "expected"), [((26, 1, 5), 0), ((27, 0), 1), ((28, 5, 2), 1)])
def test_docker_user_for_ipv6_by_engine(namespace: Runner, engine: tuple[int, ...], expected: int) -> None:
    ruleset = load(namespace, FILTER.format(chain="", rules=DOCKERS), "6")
    found = list(user_chain_misplaced(ruleset, engine))
    assert len(found) == expected
    for each in found:
        assert ("add rule ip6 filter DOCKER-USER counter return" in each.commands) == (engine < (28, 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("26.1.5+dfsg1", (26, 1, 5)),
        ("20.10.24", (20, 10, 24)),
        ("1.3.0\n", (1, 3, 0)),
        ("dev", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_versions(text: str | None, expected: tuple[int, ...]) -> None:
    assert engine_version(text) == expected
