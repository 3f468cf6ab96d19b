# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What firewalld does with one packet, for zones and policies as the module firewalld_policy takes them.

Written from firewalld's description of its rich language; shares no code with what writes the rules.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

_RULE = re.compile(
    r'rule priority="(?P<priority>-?\d+)"'
    r'(?: family="ipv(?P<family>[46])")?'
    r'(?: source address="(?P<source>[0-9a-f.:/]+)")?'
    r'(?: destination address="(?P<destination>[0-9a-f.:/]+)")?'
    r'(?: port port="(?P<port>[0-9-]+)" protocol="(?P<port_protocol>\w+)"'
    r'| protocol value="(?P<protocol>[\w-]+)"| icmp-type name="(?P<icmp>[\w-]+)")?'
    r'(?: log prefix="(?P<log>[^"=]+)" level="info" limit value="10/s")?'
    r"(?: (?P<action>accept|drop|reject))?\Z"
)
_TARGETS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject"}


@dataclasses.dataclass(frozen=True)
class Packet:
    """The first packet of a connection; a container as its source has no address that matters."""

    source: str
    destination: str
    protocol: str
    port: int

    @property
    def family(self) -> int:
        return ipaddress.ip_address(self.destination).version


def _in(address: str, net: str) -> bool:
    found = ipaddress.ip_network(net)
    one = ipaddress.ip_address(address)
    return found.version == one.version and one in found


def _between(text: str, port: int) -> bool:
    low, _dash, high = text.partition("-")
    return int(low) <= port <= int(high or low)


def _has(rule: dict[str, t.Any], packet: Packet) -> bool:
    if rule["family"] and int(rule["family"]) != packet.family:
        return False
    if (rule["source"] or rule["destination"]) and not rule["family"]:
        raise AssertionError(f"firewalld refuses an address without a family: {rule}")
    if rule["source"] and not _in(packet.source, rule["source"]):
        return False
    if rule["destination"] and not _in(packet.destination, rule["destination"]):
        return False
    if rule["icmp"]:
        return False
    if rule["protocol"]:
        return bool(rule["protocol"] == packet.protocol)
    if rule["port"]:
        return bool(rule["port_protocol"] == packet.protocol and _between(rule["port"], packet.port))
    return True


def judge(item: dict[str, t.Any], packet: Packet) -> str:
    """accept, drop or reject; continue where a policy has no say."""
    rules = []
    for text in item["rich_rules"]:
        match = _RULE.match(text)
        assert match is not None, text
        rules.append(match.groupdict())
    assert all(-32768 <= int(rule["priority"]) <= 32767 for rule in rules)
    before = [rule for rule in rules if int(rule["priority"]) < 0]
    behind = [rule for rule in rules if int(rule["priority"]) > 0]
    assert len(before) + len(behind) == len(rules)
    # Rules of one priority come in no order, so they have to agree.
    for priority in sorted({int(rule["priority"]) for rule in before}):
        actions = {rule["action"] for rule in before if int(rule["priority"]) == priority and _has(rule, packet)}
        assert len(actions) <= 1, f"rules of priority {priority} disagree"
        if actions and actions != {None}:
            return str(actions.pop())
    for text in item["ports"]:
        ports, _slash, protocol = text.partition("/")
        if protocol == packet.protocol and _between(ports, packet.port):
            return "accept"
    if packet.protocol in item["protocols"]:
        return "accept"
    assert all(rule["action"] is None for rule in behind)
    return _TARGETS.get(item["target"], "continue")
