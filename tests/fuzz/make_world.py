# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random rulesets with translation, marks, connection tracking and fib, and random settings of the host."""

from __future__ import annotations

import typing as t

from fuzz.make import HOSTS4, HOSTS6, MARKS, NETS4, NETS6, Chain, Maker, Table
from fuzz.place import LINKS

_FIB_TYPES = ("local", "unicast", "broadcast", "{ local, broadcast }", "unreachable", "!= local")


class Worldly(Maker):
    """Adds what changes packets and connections, and what reads it."""

    # The hook of the nat chain that is being made.
    hook_of = ""

    def conditions(self, hook: str) -> list[t.Callable[[], str]]:
        found = [*super().conditions(hook), self.mark, self.connection, self.fib]
        if hook in ("prerouting", "input", "forward"):
            found.append(self.way_back)
        return found

    def mark(self) -> str:
        pick = self.random
        value = hex(pick.choice(MARKS))
        return pick.choice((
            f"meta mark {self.sign()}{value}",
            f"meta mark & {hex(pick.choice((1, 0xF, 0xF0)))} {pick.choice(('==', '!='))} {pick.choice((0, 1, 0x10))}",
            f"meta mark {self.sign()}1-16",
            "meta mark < 0x2",
            f"ct mark {self.sign()}{value}",
            f"ct mark & 0xf0 == {pick.choice(('0x10', '0x0'))}",
        ))  # fmt: skip

    def connection(self) -> str:
        pick = self.random
        states = pick.choice(("new", "established,related", "invalid,untracked", "new,untracked"))
        found = [
            f"ct state {states}",
            f"ct state {pick.choice(('{ new, established }', '{ invalid }', '!= new', '== new', '!= untracked'))}",
            f"ct status {pick.choice(('dnat', 'snat', 'snat,dnat', '!= dnat', '== dnat'))}",
            f"ct direction {pick.choice(('original', 'reply', '!= reply'))}",
        ]
        if self.version:
            hosts, nets = (HOSTS4, NETS4) if self.version == 4 else (HOSTS6, NETS6)
            word = "ip" if self.version == 4 else "ip6"
            side = pick.choice(("saddr", "daddr"))
            found.append(f"ct original {word} {side} {self.sign()}{pick.choice((*hosts, *nets))}")
        if self.proto in ("tcp", "udp"):
            side = pick.choice(("proto-src", "proto-dst"))
            found.append(f"meta l4proto {self.proto} ct original {side} {self.sign()}{pick.choice((22, 80, 8080))}")
        return pick.choice(found)

    def fib(self) -> str:
        flags = self.random.choice(("daddr", "daddr", "saddr"))
        return f"fib {flags} type {self.random.choice(_FIB_TYPES)}"

    def way_back(self) -> str:
        pick = self.random
        return pick.choice((
            f"fib daddr . iif type {pick.choice(_FIB_TYPES)}",
            f"fib saddr . iif oif {pick.choice(('missing', 'exists'))}",
            f"fib saddr oif {pick.choice(('missing', 'exists', 'eth0'))}",
            'fib saddr oifname "docker0"',
            f"fib saddr . mark . iif oif {pick.choice(('missing', 'exists'))}",
        ))  # fmt: skip

    def statement(self, hook: str) -> str:
        pick = self.random
        if pick.random() > 0.25:
            return super().statement(hook)
        value = hex(pick.choice(MARKS))
        found = [
            f"meta mark set {value}",
            f"meta mark set {value}",
            f"meta mark set meta mark & {hex(pick.choice((0xF, 0xF0)))} | {hex(pick.choice((1, 0x10)))}",
            "meta mark set meta mark ^ 0x11",
            f"ct mark set {value}",
            "ct mark set meta mark",
            "meta mark set ct mark",
            "notrack",
        ]
        if self.version:
            word = "ip" if self.version == 4 else "ip6"
            pairs = ", ".join(f"{item} : {hex(pick.choice(MARKS))}" for item in self.some(self.disjoint(self.version), 3))
            found.append(f"meta mark set {word} saddr map {{ {pairs} }}")
        return pick.choice(found)

    def extra(self, table: Table) -> None:
        """Chains that translate, and one that they jump to."""
        if self.random.random() < 0.4:
            return
        self.targets = []
        body = [self.translation(self.random.choice(("dnat", "dnat", "none"))) for _number in range(3)]
        table.chains.append(Chain("n", "", body))
        for number in range(self.random.randint(1, 3)):
            hook = self.random.choice(("prerouting", "prerouting", "postrouting", "input"))
            policy = self.random.choice(("accept", "accept", "accept", "drop"))
            early = hook == "prerouting"
            priority = self.random.choice((-100, -100, -110, -150, 0) if early else (100, 100, 90, 150, -50))
            if self.random.random() < 0.8:
                priority += self.random.randint(1, 20) * (1 if early else 2)
            head = f"type nat hook {hook} priority {priority}; policy {policy};"
            self.targets = ["n"] if early else []
            self.hook_of = hook
            kind = "dnat" if early else "snat"
            rules = [
                self.translation(kind) if self.random.random() < 0.7 else self.rule("nat")
                for _number in range(self.random.randint(1, 5))
            ]
            table.chains.append(Chain(f"n{number}", head, rules))

    def translation(self, kind: str) -> str:
        """A rule that translates, unless its conditions hold it back."""
        pick = self.random
        if kind == "none":
            return self.rule("nat")
        self.version = {"ip": 4, "ip6": 6}.get(self.family, pick.choice((4, 6)))
        self.proto = pick.choice(("tcp", "tcp", "udp", ""))
        parts = [self.condition("nat") for _number in range(pick.choice((0, 1, 1, 2)))]
        if self.proto:
            parts.append(pick.choice((self.port(), f"{self.proto} dport {pick.choice((22, 80, 443))}")))
        parts.append(self.target(kind))
        return " ".join(part for part in parts if part)

    def target(self, kind: str) -> str:
        pick = self.random
        word = "ip" if self.version == 4 else "ip6"
        named = f"{word} " if self.family == "inet" else ""
        hosts = ("172.17.0.2", "172.18.0.3", "10.0.1.7", "10.0.1.1") if self.version == 4 else (
            "fd00:17::2", "fd00:18::3", "fd00:1::7", "fd00:1::1",
        )  # fmt: skip
        host = pick.choice(hosts)
        port = pick.choice((80, 8080, 9000))
        found = [f"{kind} {named}to {host}"]
        if self.proto:
            both = f"{host}:{port}" if self.version == 4 else f"[{host}]:{port}"
            found += [f"{kind} {named}to {both}"] * 2
            if kind == "dnat":
                found += [f"dnat to :{port}", f"redirect to :{port}"]
                pairs = f"80 : {hosts[0]}, 443 : {hosts[1]}, 22 : {hosts[2]}"
                found.append(f"dnat {named}to {self.proto} dport map {{ {pairs} }}")
                found.append(f"{self.proto} dport 22-443 redirect to :{port}")
        if kind == "dnat":
            found.append("redirect")
            pairs = ", ".join(f"{item} : {pick.choice(hosts)}" for item in self.some(self.disjoint(self.version), 3))
            found.append(f"dnat {named}to {word} saddr map {{ {pairs} }}")
        else:
            found += ["masquerade"] if self.hook_of == "postrouting" else []
        return pick.choice(found)


def settings(seed: Maker, with_rules: bool) -> tuple[dict[str, str], list[str]]:
    """Sysctls, and commands of ip(8) that make routing rules."""
    pick = seed.random
    found = {}
    for name in ("all", *LINKS):
        path = f"net/ipv4/conf/{name}"
        found[f"{path}/rp_filter"] = pick.choice("0000012") if name != "all" else pick.choice("00000001")
        found[f"{path}/route_localnet"] = pick.choice("0001")
        found[f"{path}/accept_local"] = pick.choice("000001")
        found[f"{path}/send_redirects"] = pick.choice("01")
        found[f"{path}/src_valid_mark"] = pick.choice("00001")
        if name != "all":
            found[f"{path}/forwarding"] = pick.choice("0111111111")
    found["net/ipv6/conf/all/forwarding"] = pick.choice("0111111111")
    if not with_rules:
        return found, []
    rules = ["rule add from 240.0.0.1 table main priority 32765"]
    if pick.random() < 0.3:
        mark = pick.choice(("0x1", "0x10/0xf0", "0x2/0x2"))
        rules.append(f"rule add fwmark {mark} table 100 priority {pick.choice((50, 1000, 40000))}")
    if pick.random() < 0.2:
        rules.append(f"rule add from {pick.choice(NETS4)} table 100 priority {pick.choice((60, 2000))}")
    if pick.random() < 0.2:
        rules.append(f"-6 rule add {pick.choice(('from fd00:1::/64', 'fwmark 0x1', 'iif eth1'))} table 100 priority 70")
    if pick.random() < 0.1:
        rules.append(f"rule add iif {pick.choice(list(LINKS))} to 172.16.0.0/12 table 100 priority 80")
    return found, rules
