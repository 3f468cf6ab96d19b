# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the role nftables_conf share: its variables, and the host as iptables tools see it."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

from lab.host import Host

CONF = "bulkhead.docker_nftables.nftables_conf"
#: The bit of the mark that the role takes on a host on which nobody uses marks.
BIT = 0x10000000
TOOLS = ("iptables", "ip6tables")

#: A table of the host's own that lets nothing pass from one interface to another but what carries the mark.
FORWARD_BY_MARK = """
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        meta mark & $docker_mark == $docker_mark accept
    }
}
"""


def conf(policy: t.Mapping[str, t.Any], layout: str = "iptables_compat", **others: t.Any) -> dict[str, t.Any]:
    """The variables of both roles; of `others`, each is named without its beginning."""
    return {
        **policy,
        "nftables_conf_layout": layout,
        **{f"nftables_conf_{key}": value for key, value in others.items()},
    }


# -- what iptables tools say -------------------------------------------------------------------------------------------


def _without_numbers(line: str) -> str:
    return re.sub(r" \[\d+:\d+\]$", "", line)


def saved(host: Host) -> dict[str, list[str]]:
    """What iptables-save and its twin say: tables, chains, policies and rules, without counters."""
    found = {}
    for tool in TOOLS:
        lines = host.run([f"{tool}-save"]).stdout.splitlines()
        found[tool] = [_without_numbers(line) for line in lines if not line.startswith("#")]
    return found


def rules_of(host: Host, tool: str, chain: str) -> list[str]:
    """A chain's rules as iptables lists them."""
    lines = host.run([tool, "-S", chain]).stdout.splitlines()
    return [line.removeprefix(f"-A {chain} ") for line in lines if line.startswith("-A ")]


def policies(host: Host) -> dict[str, str]:
    """The policies of the filter chains, named after the tool and the chain."""
    found = {}
    for tool in TOOLS:
        for line in host.run([tool, "-S"]).stdout.splitlines():
            if line.startswith("-P "):
                _flag, chain, policy = line.split()
                found[f"{tool} {chain}"] = policy
    return found


def meaning(lines: t.Mapping[str, t.Sequence[str]]) -> dict[str, list[str]]:
    """What is left of a save without chains that do nothing: rules, each after its table, and policies that drop."""
    found: dict[str, list[str]] = {}
    for tool, text in lines.items():
        table, found[tool] = "", []
        for line in text:
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("-A ") or (line.startswith(":") and line.endswith(" DROP")):
                found[tool].append(f"{table} {line}")
    return found


def counted(host: Host) -> dict[str, int]:
    """How many rules each chain has, so that none is left behind and none is there twice."""
    found: dict[str, int] = {}
    for tool, lines in meaning(saved(host)).items():
        for line in lines:
            table, _flag, chain = line.split()[:3]
            found[f"{tool} {table} {chain}"] = found.get(f"{tool} {table} {chain}", 0) + 1
    return found


def assert_no_rule_twice(host: Host) -> None:
    for tool, lines in meaning(saved(host)).items():
        twice = sorted({line for line in lines if lines.count(line) > 1})
        assert not twice, f"{host.suite}, {tool}: {twice}"


_READ_BACK = """
import json, shlex, subprocess


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)

said = []
for tool in ("iptables", "ip6tables"):
    lists = [[tool + "-save"], *([tool, "-t", table, "-S"] for table in ("filter", "nat"))]
    for argv in lists:
        done = run(*argv)
        odd = [line for line in done.stdout.splitlines() if "incompatible" in line or "Warning" in line]
        if done.returncode or odd:
            said.append([argv, done.returncode, odd])
    table, place, rules = "", {}, 0
    for line in run(tool + "-save").stdout.splitlines():
        if line.startswith("*"):
            table = line[1:]
        if not line.startswith("-A "):
            continue
        words = shlex.split(line)[1:]
        chain = words[0]
        place[table, chain] = number = place.get((table, chain), 0) + 1
        steps = [["-C", *words]]
        if not chain.startswith("BULKHEAD-"):
            steps += [["-D", *words], ["-I", chain, str(number), *words[1:]], ["-C", *words]]
        for step in steps:
            done = run(tool, "-w", "-t", table, *step)
            if done.returncode or done.stdout:
                said.append([[tool, "-t", table, *step], done.returncode, done.stdout])
        rules += 1
    if rules < 4:
        said.append([[tool], 0, "only %d rules" % rules])
print(json.dumps(said))
"""


def read_back(host: Host) -> list[t.Any]:
    """List every rule, find it, delete it and put it back at its place; gives what went wrong."""
    return json.loads(host.run(["/usr/bin/python3", "-I", "-c", _READ_BACK]).stdout)


def restore_what_was_saved(host: Host) -> None:
    for tool in TOOLS:
        host.run([f"{tool}-restore"], input=host.run([f"{tool}-save"]).stdout)


# -- a tool that bans --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Banning:
    """What fail2ban does with iptables: a chain, a jump to it in front of everything, a rule for each address."""

    host: Host
    chain: str
    where: tuple[str, ...] = ("INPUT", "DOCKER-USER")

    def _all(self, *arguments: str) -> None:
        for tool in TOOLS:
            self.host.run([tool, "-w", *arguments])

    def start(self) -> None:
        self._all("-N", self.chain)
        self._all("-A", self.chain, "-j", "RETURN")
        for chain in self.where:
            self._all("-I", chain, "-j", self.chain)

    def ban(self, address4: str, address6: str) -> None:
        for tool, address in zip(TOOLS, (address4, address6)):
            self.host.run([tool, "-w", "-I", self.chain, "1", "-s", address, "-j", "DROP"])

    def unban(self, address4: str, address6: str) -> None:
        for tool, address in zip(TOOLS, (address4, address6)):
            self.host.run([tool, "-w", "-D", self.chain, "-s", address, "-j", "DROP"])

    def stop(self) -> None:
        for chain in self.where:
            self._all("-D", chain, "-j", self.chain)
        self._all("-F", self.chain)
        self._all("-X", self.chain)

    def assert_in_front(self) -> None:
        for tool in TOOLS:
            for chain in self.where:
                found = rules_of(self.host, tool, chain)
                assert found[:2] == [f"-j {self.chain}", f"-j BULKHEAD-{chain}"], f"{self.host.suite}, {tool}: {found}"
