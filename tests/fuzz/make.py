# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random rulesets: small worlds, so that rules and packets meet, and every construct of the model in them."""

from __future__ import annotations

import random
import typing as t
from dataclasses import dataclass, field

HOSTS4 = (
    "198.51.100.12", "198.51.100.50", "10.0.1.1", "10.0.1.7", "172.17.0.1", "172.17.0.2", "172.18.0.1", "172.18.0.3",
    "10.9.0.5", "10.66.0.1", "8.8.8.8", "127.0.0.1",
)  # fmt: skip
NETS4 = ("10.0.0.0/8", "10.0.1.0/24", "172.16.0.0/12", "172.17.0.0/16", "198.51.100.0/24", "0.0.0.0/1", "128.0.0.0/2")
SPANS4 = ("10.0.1.5-10.0.1.9", "172.17.0.2-172.18.0.2", "192.0.2.1-198.51.100.49")
HOSTS6 = (
    "2001:db8:0:1::12", "2001:db8:0:1::50", "fd00:1::1", "fd00:1::7", "fd00:17::1", "fd00:17::2", "fd00:18::3",
    "fd00:9::5", "fd00:66::1", "2001:db8:9::9", "fe80::5",
)  # fmt: skip
NETS6 = ("fd00::/8", "fd00:1::/64", "2001:db8::/32", "fd00:17::/64", "::/1", "fe80::/10")
SPANS6 = ("fd00:1::5-fd00:1::9", "2001:db8:0:1::10-2001:db8:0:1::5f")
PORTS = (22, 53, 80, 443, 8080, 9000)
PORT_SPANS = ("20-25", "80-443", "1024-65535", "8000-8999")
LINKS = ("eth0", "eth1", "docker0", "br-a", "lo", "eth*", "br-*")
MARKS = (0, 1, 2, 0x10, 0xFF)
PRIORITIES = (-450, -300, -250, -180, -150, -142, -95, -50, 0, 5, 10, 50, 110, 150)
HOOKS = ("prerouting", "input", "forward", "postrouting")


@dataclass
class Chain:
    name: str
    head: str
    rules: list[str] = field(default_factory=list)


@dataclass
class Table:
    family: str
    name: str
    sets: list[str] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"table {self.family} {self.name} {{", *(f"\t{item}" for item in self.sets)]
        for chain in self.chains:
            lines.append(f"\tchain {chain.name} {{")
            lines.extend(f"\t\t{line}" for line in ([chain.head] if chain.head else []) + chain.rules)
            lines.append("\t}")
        return "\n".join([*lines, "}"]) + "\n"


class Maker:
    """Makes one ruleset from one seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def tables(self) -> list[Table]:
        count = self.random.choice((1, 1, 2, 3))
        return [self.table(self.random.choice(("ip", "ip6", "inet", "inet")), f"t{number}") for number in range(count)]

    def table(self, family: str, name: str) -> Table:
        pick = self.random
        table = Table(family, name)
        self.family = family
        self.jumps = [f"c{number}" for number in range(pick.randint(0, 4))]
        self.named: dict[str, list[str]] = {}
        self.sets(table)
        # A chain must be declared before a jump to it: the last one first.
        bodies = []
        for number in reversed(range(len(self.jumps))):
            self.targets = self.jumps[number + 1 :]
            bodies.append(Chain(self.jumps[number], "", [self.rule("") for _number in range(pick.randint(0, 5))]))
        self.targets = self.jumps
        table.chains = bodies
        for number in range(pick.randint(1, 4)):
            hook = pick.choice(HOOKS)
            policy = pick.choice(("accept", "accept", "drop"))
            head = f"type filter hook {hook} priority {self.priority()}; policy {policy};"
            rules = [self.rule(hook) for _number in range(pick.randint(0, 8))]
            table.chains.append(Chain(f"b{number}", head, rules))
        self.extra(table)
        self.maps(table)
        return table

    def priority(self) -> int:
        """A priority, mostly one that no other chain has."""
        found = self.random.choice(PRIORITIES)
        return found if self.random.random() < 0.2 else found + self.random.randint(0, 40)

    def extra(self, table: Table) -> None:
        """Further chains of a table."""

    def sets(self, table: Table) -> None:
        """Named sets, by the field that they are for."""
        families = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}[self.family]
        for version in families:
            kind = f"ipv{version}_addr"
            elements = self.some(self.disjoint(version), 4)
            table.sets.append(self.declare(f"s{version}", kind, elements, f"a{version}"))
            pairs = [f"{address} . {port}" for address in self.some(self.disjoint(version), 2) for port in (22, 80)]
            table.sets.append(self.declare(f"p{version}", f"{kind} . inet_service", pairs, f"ap{version}"))
        table.sets.append(self.declare("ports", "inet_service", ["20-25", "443", "8000-8999"], "port"))

    def maps(self, table: Table) -> None:
        """Verdict maps are declared behind the chains they lead to."""

    def declare(self, name: str, kind: str, elements: list[str], use: str) -> str:
        self.named.setdefault(use, []).append(f"@{name}")
        flags = "flags interval; " if "-" in " ".join(elements) or "/" in " ".join(elements) else ""
        listed = f"elements = {{ {', '.join(elements)} }}; " if elements else ""
        return f"set {name} {{ type {kind}; {flags}{listed}}}"

    def disjoint(self, version: int) -> list[str]:
        """Addresses, prefixes and ranges of which no two overlap."""
        if version == 4:
            return ["10.0.1.0/24", "172.17.0.2", "172.18.0.1-172.18.0.9", "198.51.100.50", "10.9.0.0/16", "128.0.0.0/3"]
        return ["fd00:1::/64", "fd00:17::2", "fd00:18::1-fd00:18::9", "2001:db8:0:1::50", "fd00:9::/64"]

    def some(self, values: t.Sequence[str], most: int) -> list[str]:
        return self.random.sample(list(values), self.random.randint(1, min(most, len(values))))

    def rule(self, hook: str) -> str:
        """Some conditions that do not contradict each other, perhaps a statement, perhaps a verdict."""
        pick = self.random
        self.version = {"ip": 4, "ip6": 6}.get(self.family, pick.choice((0, 4, 6)))
        self.proto = pick.choice(("", "", "tcp", "udp", "tcp, udp"))
        parts: list[str] = []
        if self.proto == "tcp, udp":
            parts.append("meta l4proto { tcp, udp }")
        for _number in range(pick.choice((0, 1, 1, 2, 3))):
            condition = self.condition(hook)
            if condition:
                parts.append(condition)
        statement = self.statement(hook)
        if statement:
            parts.insert(pick.randint(1 if self.proto == "tcp, udp" else 0, len(parts)), statement)
        parts.append(self.verdict(hook))
        return " ".join(part for part in parts if part) or "counter"

    def condition(self, hook: str) -> str:
        return self.random.choice(self.conditions(hook))()

    def conditions(self, hook: str) -> list[t.Callable[[], str]]:
        found: list[t.Callable[[], str]] = [self.link, self.protocol]
        if self.version:
            found += [self.address, self.address, self.address]
        if self.proto:
            found += [self.port, self.port]
            if self.version and self.proto != "tcp, udp":
                found.append(self.pair)
        return found

    def sign(self) -> str:
        return self.random.choice(("", "", "!= "))

    def address(self) -> str:
        pick = self.random
        side = pick.choice(("saddr", "saddr", "daddr"))
        word = "ip" if self.version == 4 else "ip6"
        hosts, nets, spans = (HOSTS4, NETS4, SPANS4) if self.version == 4 else (HOSTS6, NETS6, SPANS6)
        value = pick.choice((
            lambda: pick.choice(hosts),
            lambda: pick.choice(nets),
            lambda: pick.choice(spans),
            lambda: "{ " + ", ".join(self.some(self.disjoint(self.version), 3)) + " }",
            lambda: pick.choice(self.named[f"a{self.version}"]),
        ))()
        return f"{word} {side} {self.sign()}{value}"

    def port(self) -> str:
        pick = self.random
        side = pick.choice(("dport", "dport", "sport"))
        word = "th" if self.proto == "tcp, udp" else self.proto
        value = pick.choice((
            lambda: str(pick.choice(PORTS)),
            lambda: pick.choice(PORT_SPANS),
            lambda: "{ " + ", ".join(str(port) for port in self.some([str(p) for p in PORTS], 3)) + " }",
            lambda: pick.choice(self.named["port"]),
        ))()
        return f"{word} {side} {self.sign()}{value}"

    def pair(self) -> str:
        word = "ip" if self.version == 4 else "ip6"
        sides = self.random.choice((("saddr", "dport"), ("daddr", "dport"), ("saddr", "sport")))
        named = self.random.choice(self.named[f"ap{self.version}"])
        return f"{word} {sides[0]} . {self.proto} {sides[1]} {self.sign()}{named}"

    def link(self) -> str:
        pick = self.random
        key = pick.choice(("iifname", "oifname", "iif", "oif"))
        if key in ("iif", "oif"):
            return f"{key} {self.sign()}{pick.choice(('eth0', 'eth1', 'docker0', 'lo'))}"
        value = pick.choice((pick.choice(LINKS), "{ eth0, br-a }", "{ \"eth*\", lo }"))
        return f"{key} {self.sign()}{value}" if value.startswith("{") else f'{key} {self.sign()}"{value}"'

    def protocol(self) -> str:
        if not self.proto:
            return self.random.choice(("meta l4proto != tcp", "meta l4proto { icmp, ipv6-icmp }", "meta l4proto != 17"))
        if self.family == "inet" and not self.version:
            return self.random.choice(("meta nfproto ipv4", "meta nfproto != ipv6", "meta protocol ip6"))
        return ""

    def statement(self, hook: str) -> str:
        return self.random.choice(("",) * 64 + ("counter",) * 14 + ("limit rate 1000000/second burst 100000 packets",))

    def verdict(self, hook: str) -> str:
        pick = self.random
        kinds = ["accept", "accept", "drop", "drop", "return", "continue", "", "vmap"]
        if self.targets:
            kinds += ["jump", "jump", "goto"]
        if hook in ("input", "forward"):
            kinds.append("reject")
        kind = pick.choice(kinds)
        if kind in ("jump", "goto"):
            return f"{kind} {pick.choice(self.targets)}"
        if kind == "vmap":
            return self.vmap()
        return kind

    def outcome(self) -> str:
        kinds = ["accept", "drop", "continue", "return"] + [f"jump {name}" for name in self.targets]
        kinds += [f"goto {name}" for name in self.targets]
        return self.random.choice(kinds)

    def vmap(self) -> str:
        """A verdict by interface, address or port, with or without an entry for the rest."""
        pick = self.random
        keys: list[tuple[str, list[str]]] = [
            ("iifname", ["eth0", "eth1", "docker0", '"br-*"']),
            ("oifname", ["eth0", "docker0", "br-a"]),
        ]
        if self.version:
            word = "ip" if self.version == 4 else "ip6"
            keys += [(f"{word} {side}", self.disjoint(self.version)) for side in ("saddr", "saddr", "daddr")]
        if self.proto in ("tcp", "udp"):
            keys += [(f"{self.proto} dport", ["22", "80", "8000-8999"])]
        key, values = pick.choice(keys)
        listed = [f"{value} : {self.outcome()}" for value in self.some(values, 3)]
        if pick.random() < 0.3:
            listed.append(f"* : {self.outcome()}")
        return f"{key} vmap {{ {', '.join(listed)} }}"
