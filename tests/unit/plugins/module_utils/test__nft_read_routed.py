# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_warnings import find_all
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import parse_interfaces
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading"
CODE = "FORWARD_DROP_CUTS_ROUTED"
DOCKER = DockerPresence(running=True, bridges={"docker0": ("172.17.0.1/16",)})

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="loading a ruleset needs root and nft"
)


def own(routed: str) -> str:
    return f"table inet bulkhead {{\nchain routed {{\n{routed}\n}}\n}}\n"


def found(nft: str, saved: dict[str, str] | None = None, presence: DockerPresence = DOCKER) -> list[str]:
    runner = Runner()
    with runner.scratch_network():
        for tool, text in (saved or {}).items():
            runner.run([f"{tool}-nft-restore"], stdin=text)
        runner.run(["nft", "-f", "-"], stdin=nft)
        findings = find_all(read_ruleset(runner), presence)
    assert all(each.severity == "warning" for each in findings if each.code == CODE)
    return [each.where for each in findings if each.code == CODE]


@pytest.mark.parametrize(
    ("routed", "families"),
    [
        ("counter drop", []),
        ("", []),
        ('iifname "eth1" reject\ncounter drop', []),
        ("accept", ["ip", "ip6"]),
        ('iifname "eth1" oifname "eth0" accept\ncounter drop', ["ip", "ip6"]),
        ("ip saddr . ip daddr { 192.0.2.1 . 192.0.2.2 } accept", ["ip"]),
        ("ip6 daddr 2001:db8::/64 accept", ["ip6"]),
        ("meta nfproto ipv6 accept", ["ip6"]),
        ("ip saddr 192.0.2.1 accept\nip6 daddr 2001:db8::/64 accept", ["ip", "ip6"]),
    ],
)
def test_only_where_the_policy_lets_something_be_forwarded(routed: str, families: list[str]) -> None:
    forward = "chain FORWARD {{\ntype filter hook forward priority 0; policy {};\n}}"
    drops = "".join(f"table {family} filter {{\n{forward.format('drop')}\n}}\n" for family in ("ip", "ip6"))
    assert found(drops + own(routed)) == [f"{family} filter FORWARD" for family in families]
    assert found(drops + own(routed), presence=DockerPresence()) == [f"{family} filter FORWARD" for family in families]
    assert found(drops.replace("drop", "accept") + own(routed)) == []
    assert found(drops + own(routed).replace("bulkhead", "another")) == []


@pytest.mark.parametrize(
    ("rules", "cuts"),
    [
        ("policy drop;", True),
        ("policy drop; ct state established,related accept", True),
        ("policy drop; ct state { established, related } accept", True),
        ("policy drop; ct state established,new accept", False),
        ('policy drop; iifname "docker0" accept\noifname "docker0" jump deeper', True),
        ("policy drop; jump deeper", False),
        ('policy drop; iifname "eth1" oifname "eth0" accept', False),
        ("policy drop; tcp dport 443 accept", False),
        ("policy accept;", False),
        ("policy accept; jump deeper\ncounter reject", False),
        ("policy accept; tcp dport 443 drop\ncounter reject with icmpx admin-prohibited", True),
    ],
)
def test_which_forward_chains_cut_it(rules: str, cuts: bool) -> None:
    chains = f"chain deeper {{\naccept\n}}\nchain forward {{\ntype filter hook forward priority 0; {rules}\n}}"
    wanted = ["inet host forward"] if cuts else []
    assert found(f"table inet host {{\n{chains}\n}}\n{own('accept')}") == wanted


@pytest.mark.skipif(shutil.which("iptables-nft") is None, reason="needs iptables-nft")
@pytest.mark.parametrize(
    ("capture", "exception", "families"),
    [
        ("docker-20.10.24-iptables-firewalld", "", ["ip"]),
        ("docker-26.1.5-iptables-firewalld", "", ["ip"]),
        ("docker-26.1.5-iptables-firewalld", "-m conntrack --ctstate RELATED,ESTABLISHED", ["ip"]),
        ("docker-26.1.5-iptables-firewalld", "-i eth1 -o eth0", []),
        # These have such an exception in IPv4's DOCKER-USER already.
        ("switch-1-iptables-with-docker-user", "", ["ip6"]),
        ("switch-2-nftables-after-restart", "", ["ip6"]),
    ],
)
def test_dockers_own_rules_let_nothing_else_pass(capture: str, exception: str, families: list[str]) -> None:
    saved = {tool: (FIXTURES / capture / f"{tool}-save.txt").read_text() for tool in ("iptables", "ip6tables")}
    if exception:
        first = saved["iptables"].index("-A DOCKER-USER")
        added = f"-A DOCKER-USER {exception} -j ACCEPT\n"
        saved["iptables"] = saved["iptables"][:first] + added + saved["iptables"][first:]
    interfaces = parse_interfaces((FIXTURES / capture / "ip-addr.json").read_text())
    bridges = {each.name: each.addresses for each in interfaces if each.name.startswith(("docker0", "br-"))}
    where = found(own("accept"), saved, DockerPresence(running=True, bridges=bridges))
    assert where == [f"{family} filter FORWARD" for family in families]
