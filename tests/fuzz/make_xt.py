# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random rules of iptables, as iptables-restore reads them."""

from __future__ import annotations

import random

from fuzz.make import HOSTS4, HOSTS6, NETS4, NETS6

_TABLES = {
    "raw": ("PREROUTING",),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD"),
}
_STATES = ("NEW", "RELATED,ESTABLISHED", "INVALID", "INVALID,UNTRACKED", "NEW,DNAT", "DNAT")


class Old:
    """Makes the rules of one family from one seed."""

    def __init__(self, seed: str, family: int) -> None:
        self.random = random.Random(seed)
        self.family = family

    def text(self) -> str:
        lines = []
        for table in self.random.sample(list(_TABLES), self.random.randint(1, 4)):
            lines.append(f"*{table}")
            chains = [f"X{number}" for number in range(self.random.randint(0, 2))]
            for chain in _TABLES[table]:
                policy = "DROP" if table == "filter" and self.random.random() < 0.3 else "ACCEPT"
                lines.append(f":{chain} {policy} [0:0]")
            lines.extend(f":{chain} - [0:0]" for chain in chains)
            for chain in _TABLES[table]:
                for _number in range(self.random.randint(0, 5)):
                    lines.append(f"-A {chain} {self.rule(table, chain, chains)}")
            for number, chain in enumerate(chains):
                for _number in range(self.random.randint(0, 4)):
                    lines.append(f"-A {chain} {self.rule(table, '', chains[number + 1 :])}")
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def rule(self, table: str, chain: str, chains: list[str]) -> str:
        pick = self.random
        parts = []
        self.proto = pick.choice(("", "", "tcp", "udp"))
        if pick.random() < 0.5:
            hosts = (*HOSTS4, *NETS4) if self.family == 4 else (*HOSTS6, *NETS6)
            parts.append(f"{self.sign()}{pick.choice(('-s', '-s', '-d'))} {pick.choice(hosts)}")
        if pick.random() < 0.3:
            links = [("-i", name) for name in ("eth0", "docker0", "br+")] if chain not in ("POSTROUTING", "") else []
            links += [("-o", name) for name in ("eth0", "br-a", "eth+")] if chain in ("POSTROUTING", "FORWARD") else []
            if links:
                parts.append(f"{self.sign()}{' '.join(pick.choice(links))}")
        if self.proto:
            parts.append(f"-p {self.proto}")
            if pick.random() < 0.7:
                parts.append(self.ports())
        for _number in range(pick.choice((0, 0, 1, 1, 2))):
            parts.append(self.match(table))
        return " ".join([*parts, self.target(table, chain, chains)])

    def sign(self) -> str:
        return self.random.choice(("", "", "", "! "))

    def ports(self) -> str:
        pick = self.random
        side = pick.choice(("--dport", "--dport", "--sport"))
        return pick.choice((
            f"-m {self.proto} {self.sign()}{side} {pick.choice((22, 80, 443, '1024:', '20:25', '80:443'))}",
            f"-m multiport {self.sign()}{side}s {pick.choice(('22,80', '443,8000:8999', '53'))}",
        ))  # fmt: skip

    def match(self, table: str) -> str:
        pick = self.random
        found = [f"-m mark {self.sign()}--mark {pick.choice(('0x1', '0x10/0xf0', '0x0', '0x2/0x3'))}"]
        found.append(f'-m comment --comment "{pick.choice(("words", "-j DROP", "two words"))}"')
        if self.family == 4:
            found.append(f"-m addrtype {self.sign()}--dst-type {pick.choice(('LOCAL', 'UNICAST', 'BROADCAST,LOCAL'))}")
            found.append("-m addrtype --src-type LOCAL")
            found.append(f"-m iprange {self.sign()}--{pick.choice(('src', 'dst'))}-range 10.0.1.5-172.17.0.2")
        else:
            found.append("-m addrtype --dst-type LOCAL")
            found.append(f"-m iprange {self.sign()}--{pick.choice(('src', 'dst'))}-range fd00:1::5-fd00:17::2")
        found.append(f"-m conntrack {self.sign()}--ctstate {pick.choice(_STATES)}")
        found.append("-m conntrack --ctstate NEW --ctdir ORIGINAL")
        if self.proto:
            found.append(f"-m conntrack {self.sign()}--ctorigdstport {pick.choice((22, 80, '80:443'))}")
        host = pick.choice(HOSTS4 if self.family == 4 else HOSTS6)
        found.append(f"-m conntrack {self.sign()}--ctorigdst {host}")
        found.append(f"-m connmark {self.sign()}--mark {pick.choice(('0x1', '0x10/0xf0', '0x0'))}")
        return pick.choice(found)

    def target(self, table: str, chain: str, chains: list[str]) -> str:
        pick = self.random
        found = ["-j ACCEPT", "-j RETURN", ""] + [f"-j {name}" for name in chains] * 2 + [f"-g {name}" for name in chains]
        if table != "nat":
            found += ["-j DROP", "-j DROP"]
        found.append('-j LOG --log-prefix "seen "')
        if table == "mangle":
            found += ["-j MARK --set-xmark 0x1/0xffffffff", "-j MARK --set-xmark 0x10/0xf0"] * 2
            found.append("-j CONNMARK --set-xmark 0x10/0xffffffff")
        if table == "raw":
            found += ["-j NOTRACK", "-j CT --notrack"]
        if table == "filter":
            kind = "icmp-port-unreachable" if self.family == 4 else "icmp6-port-unreachable"
            found += [f"-j REJECT --reject-with {kind}", "-j REJECT --reject-with tcp-reset" if self.proto == "tcp" else ""]
        if table == "nat" and self.proto:
            host = pick.choice(("172.17.0.2", "10.0.1.7") if self.family == 4 else ("fd00:17::2", "fd00:1::7"))
            place = f"{host}:8080" if self.family == 4 else f"[{host}]:8080"
            if chain == "PREROUTING":
                found += [f"-j DNAT --to-destination {place}", f"-j DNAT --to-destination {host}"] * 3
                found += ["-j REDIRECT --to-ports 9000"]
            elif chain == "POSTROUTING":
                found += [f"-j SNAT --to-source {host}", "-j MASQUERADE"] * 2
        return pick.choice(found)
