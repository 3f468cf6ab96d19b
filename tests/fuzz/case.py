# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One ruleset with its packets as a file, so that what was once wrong is tried in every run; and how to make it small."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import typing as t
from pathlib import Path

from fuzz.packets import Packet
from fuzz.place import LINKS

if t.TYPE_CHECKING:
    from fuzz.judge import Judge

#: The settings of a case, unless it says otherwise: a router without any checks.
DEFAULTS = {
    f"net/ipv4/conf/{name}/{setting}": value
    for name in ("all", *LINKS)
    for setting, value in (
        ("rp_filter", "0"),
        ("route_localnet", "0"),
        ("accept_local", "0"),
        ("send_redirects", "0"),
        ("src_valid_mark", "0"),
        ("forwarding", "1"),
    )
    if (name, setting) != ("all", "forwarding")
}
DEFAULTS["net/ipv6/conf/all/forwarding"] = "1"
DIRECTORY = Path(__file__).parent / "regressions"


@dataclasses.dataclass
class Case:
    """Everything that one comparison takes."""

    why: str
    nft: list[str]
    packets: list[Packet]
    old: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    sysctls: dict[str, str] = dataclasses.field(default_factory=dict)
    rules: list[str] = dataclasses.field(default_factory=list)

    def run(self, judge: Judge) -> list[str]:
        """The differences, as text; a ruleset that nft refuses is one as well."""
        judge.settle({**DEFAULTS, **self.sysctls}, self.rules)
        old = {family: "\n".join(lines) + "\n" for family, lines in self.old.items()}
        found = judge.ruleset("\n".join(self.nft) + "\n", old, "", 0, self.packets)
        return [text for _packet, text in found]

    def save(self, path: Path) -> None:
        value = {**dataclasses.asdict(self), "packets": [_written(packet) for packet in self.packets]}
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Case:
    value = json.loads(path.read_text(encoding="utf-8"))
    return Case(**{**value, "packets": [_read(packet) for packet in value["packets"]]})


def _written(packet: Packet) -> list[t.Any]:
    make = ipaddress.IPv4Address if packet.family == 4 else ipaddress.IPv6Address
    return [packet.link, packet.proto, str(make(packet.saddr)), packet.sport, str(make(packet.daddr)), packet.dport]


def _read(value: list[t.Any]) -> Packet:
    link, proto, saddr, sport, daddr, dport = value
    source = ipaddress.ip_address(saddr)
    return Packet(link, source.version, proto, int(source), int(ipaddress.ip_address(daddr)), sport, dport)


def shrink(judge: Judge, case: Case) -> Case:
    """Leave out rules, chains and lines of iptables as long as some packet still differs."""
    best = case
    while True:
        smaller = next((item for item in _smaller(best) if _differs(judge, item)), None)
        if smaller is None:
            return best
        best = smaller


def _differs(judge: Judge, case: Case) -> bool:
    found = case.run(judge)
    return bool(found) and not found[0].startswith("refused")


def _smaller(case: Case) -> t.Iterator[Case]:
    if case.old:
        yield dataclasses.replace(case, old={})
    for start, end in _blocks(case.nft):
        yield dataclasses.replace(case, nft=case.nft[:start] + case.nft[end:])
    for number, line in enumerate(case.nft):
        if line.startswith("\t\t") and not line.startswith("\t\ttype "):
            yield dataclasses.replace(case, nft=case.nft[:number] + case.nft[number + 1 :])
    for family, lines in case.old.items():
        for number, line in enumerate(lines):
            if line.startswith("-A"):
                yield dataclasses.replace(case, old={**case.old, family: lines[:number] + lines[number + 1 :]})
    for number in range(len(case.packets) if len(case.packets) > 1 else 0):
        yield dataclasses.replace(case, packets=[case.packets[number]])
    for number in range(len(case.rules)):
        yield dataclasses.replace(case, rules=case.rules[:number] + case.rules[number + 1 :])


def _blocks(lines: list[str]) -> t.Iterator[tuple[int, int]]:
    """Where tables and chains begin and end."""
    for closing, opening in (("}", "table "), ("\t}", "\tchain ")):
        start = 0
        for number, line in enumerate(lines):
            if line.startswith(opening):
                start = number
            elif line == closing:
                yield start, number + 1
