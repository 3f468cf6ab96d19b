# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of Docker's rules are gone: DNAT of published ports, and DOCKER-USER in front of what Docker accepts.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table

#: The first engine that filters IPv6 unasked and has DOCKER-USER for it.
_USER_V6 = (27, 0)
#: Engines before this one end DOCKER-USER with a rule that returns.
_NO_RETURN = (28, 2)
_DPORT = re.compile(r"\b(tcp|udp|sctp) dport (\d+)\b")
#: Docker's chains in which packets are accepted; the others only drop.
_ACCEPTING = ("DOCKER", "DOCKER-FORWARD")
_SHOWN = 5


@dataclass(frozen=True)
class Misplaced:
    """What is wrong with DOCKER-USER in one table, and the nft commands that put it right."""

    text: str
    commands: tuple[str, ...]


def engine_version(text: str | None) -> tuple[int, ...]:
    """The numbers a version begins with, such as (26, 1, 5); empty where there are none."""
    match = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def dnat_missing(ruleset: Ruleset, published: list[dict[str, Any]]) -> Iterator[str]:
    """Published ports of running containers without DNAT, in the families for which Docker has its chain."""
    for family, version in (("ip", 4), ("ip6", 6)):
        known = _dnat_ports(ruleset, family)
        if known is None:
            continue
        wanted = {
            (each["protocol"], each["host_port"]): each["container"]
            for each in published
            if _has(each["host_addresses"], version) and _has(each["container_addresses"], version)
        }
        lost = [f"{port}/{proto} of {name}" for (proto, port), name in wanted.items() if (proto, port) not in known]
        if lost:
            more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            yield (
                f"Published ports without DNAT for IPv{version}: {', '.join(lost[:_SHOWN])}{more}. docker-proxy answers "
                "for them on the input path, if anything does."
            )


def _has(addresses: list[str], version: int) -> bool:
    return any((":" in address) == (version == 6) for address in addresses)


def _dnat_ports(ruleset: Ruleset, family: str) -> set[tuple[str, int]] | None:
    """The ports with DNAT in Docker's own chains; None where there is no such chain, or nft cannot show its rules."""
    native, nat = ruleset.table(family, "docker-bridges"), ruleset.table(family, "nat")
    chain = nat.chain("DOCKER") if nat is not None else None
    rules = [rule for each in native.chains for rule in each.rules] if native is not None else []
    rules += chain.rules if chain is not None else ()
    if native is None and chain is None:
        return None
    found = set()
    for rule in rules:
        if rule.text is None or "xt match" in rule.text:
            return None
        match = _DPORT.search(rule.text)
        if match and _is_dnat(rule):
            found.add((match.group(1), int(match.group(2))))
    return found


def _is_dnat(rule: Rule) -> bool:
    for statement in rule.expr:
        xt = statement.get("xt") if isinstance(statement, dict) else None
        if isinstance(statement, dict) and "dnat" in statement or isinstance(xt, dict) and xt.get("name") == "DNAT":
            return True
    return False


def user_chain_misplaced(ruleset: Ruleset, engine: tuple[int, ...]) -> Iterator[Misplaced]:
    """DOCKER-USER missing, or asked after Docker has accepted: its rules would be there and mean nothing.

    Engines before 28.0.1 see to it when a network is made, so not at a start that finds containers running.
    """
    for family in ("ip", "ip6"):
        table = ruleset.table(family, "filter")
        forward = table.chain("FORWARD") if table is not None else None
        if table is None or forward is None:
            continue
        there = table.chain("DOCKER-USER") is not None
        if family == "ip6" and not there and engine < _USER_V6:
            continue
        accepts = next((n for n, rule in enumerate(forward.rules) if _jump(rule) in _ACCEPTING), None)
        jumps = [n for n, rule in enumerate(forward.rules) if _jump(rule) == "DOCKER-USER" and _unconditional(rule)]
        if accepts is None or (there and jumps and jumps[0] < accepts):
            continue
        yield Misplaced(_what_is_wrong(family, there, bool(jumps)), _remedy(family, forward, jumps, there, engine))


def with_user_jump(ruleset: Ruleset) -> Ruleset:
    """The ruleset as if FORWARD jumped to DOCKER-USER: for that no restart of Docker is needed, nor would it help."""
    return Ruleset(tuple(_with_user_jump(table) if table.name == "filter" else table for table in ruleset.tables))


def _with_user_jump(table: Table) -> Table:
    rule = Rule(0, ({"jump": {"target": "DOCKER-USER"}},), "jump DOCKER-USER")
    chains = [
        replace(chain, rules=(rule, *chain.rules)) if chain.name == "FORWARD" else chain for chain in table.chains
    ]
    return replace(table, chains=tuple(chains))


def _what_is_wrong(family: str, there: bool, jumps: bool) -> str:
    if not there:
        return f"There is no chain DOCKER-USER in table {family} filter."
    if not jumps:
        return f"Nothing in table {family} filter FORWARD sends all packets to DOCKER-USER."
    return f"Docker accepts packets in table {family} filter FORWARD before DOCKER-USER is asked."


def _remedy(family: str, forward: Chain, jumps: list[int], there: bool, engine: tuple[int, ...]) -> tuple[str, ...]:
    commands = [] if there else [f"add chain {family} filter DOCKER-USER"]
    if not there and engine < _NO_RETURN:
        commands.append(f"add rule {family} filter DOCKER-USER counter return")
    commands.append(f"insert rule {family} filter FORWARD counter jump DOCKER-USER")
    commands += [f"delete rule {family} filter FORWARD handle {forward.rules[n].handle}" for n in jumps]
    return tuple(commands)


def _jump(rule: Rule) -> str | None:
    for statement in rule.expr:
        value = statement.get("jump") if isinstance(statement, dict) else None
        if isinstance(value, dict):
            return str(value.get("target"))
    return None


def _unconditional(rule: Rule) -> bool:
    return all(isinstance(each, dict) and set(each) <= {"counter", "jump", "comment"} for each in rule.expr)
