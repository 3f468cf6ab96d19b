# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what in a ruleset cuts Docker off, or what Docker lost.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_hooks import owner_of
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import ERROR, DockerPresence, Finding

_NETWORK_CHAIN = "filter-forward-in__"
_FINAL = ("accept", "drop", "reject", "return", "jump", "goto", "continue")
#: Matches of iptables that never are about Docker.
_HARMLESS_XT = (
    "tcp",
    "udp",
    "multiport",
    "icmp",
    "icmp6",
    "limit",
    "hashlimit",
    "recent",
    "comment",
    "time",
    "pkttype",
)
_PORT = re.compile(r"\b(tcp|udp|sctp) dport (\d+)\b")
_SHOWN_PORTS = 10
_NO_CONDITION = (*_FINAL, "counter", "log", "comment", "mangle")


def docker_bridges_in(ruleset: Ruleset) -> set[str]:
    """Bridges that Docker's own rules name, so that renamed ones are known too."""
    names: set[str] = set()
    for table in ruleset.tables:
        if owner_of(table) == "docker":
            names.update(
                chain.name[len(_NETWORK_CHAIN) :] for chain in table.chains if chain.name.startswith(_NETWORK_CHAIN)
            )
        elif table.name == "filter" and table.chain("DOCKER") is not None:
            for chain in table.chains:
                for rule in chain.rules:
                    if ("jump", "DOCKER") in verdicts(rule):
                        names.update(value for key, value in interface_matches(rule) if key == "oifname")
    return names


def forward_drops(ruleset: Ruleset, presence: DockerPresence) -> Iterator[Finding]:
    """Forward chains that drop what they do not know and know nothing of Docker's bridges."""
    bridges = {*presence.bridges, *docker_bridges_in(ruleset)}
    if not bridges and not presence.running:
        return
    docker_v6 = _docker_has_v6(ruleset, presence)
    for table in ruleset.tables:
        if table.family not in ("ip", "ip6", "inet") or owner_of(table) in ("docker", "bulkhead"):
            continue
        if table.family == "ip6" and not docker_v6:
            continue
        for chain in table.chains:
            if chain.hook != "forward" or chain.type != "filter":
                continue
            how = how_it_drops(table, chain)
            if how and not _Accepts(table, bridges, presence).anywhere_in(chain):
                yield Finding(
                    "FORWARD_DROP_CUTS_DOCKER",
                    f"Forward chain {chain.name} of table {table.label} drops what it does not accept ({how}) and "
                    f"accepts nothing for Docker's bridges: published ports and the containers' way out are cut, "
                    f"whatever Docker's own chains accept.",
                    f"{table.label} {chain.name}",
                    "Leave the decision about Docker's traffic to the role's table and set this chain to policy "
                    'accept, or accept the bridges in it (oifname "docker0", oifname "br-*" and iifname likewise). In a '
                    "table from nftables_conf_tables, accept $docker_mark.",
                    ERROR,
                )


def rules_missing(
    ruleset: Ruleset,
    presence: DockerPresence,
    legacy: tuple[str, ...] = (),
    managed: bool = True,
    legacy_rules: tuple[str, ...] | None = None,
) -> Iterator[Finding]:
    """Docker runs, and rules it made at its start or for a container are no longer loaded.

    `legacy` are the tables of the old xtables, `legacy_rules` what is in them; None where that cannot be read.
    """
    if not presence.running or not presence.bridges or not managed:
        return
    if legacy_rules is None and "nat" in legacy:
        return
    lost = list(_lost(ruleset, presence, legacy_rules or ()))
    if lost:
        yield Finding(
            "DOCKER_RULES_MISSING",
            f"Docker runs, but its rules are gone: {'; '.join(what for what, _where in lost)}. Somebody flushed them "
            f"after Docker started; Docker does not notice. Published ports are then answered by docker-proxy on the "
            f"input path, and container addresses may be reachable directly on all ports.",
            lost[0][1],
            "Run `systemctl restart docker` (containers go on running with live-restore), and see to it that nothing "
            "uses `flush ruleset` on this host.",
            ERROR,
        )


def _lost(ruleset: Ruleset, presence: DockerPresence, legacy: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if ruleset.table("ip", "docker-bridges") is not None:
        for family in ("ip", "ip6"):
            table = ruleset.table(family, "docker-bridges")
            if table is not None:
                yield from _lost_native(table, presence)
        return
    if any(_jumps(line, "DOCKER") for line in legacy):
        yield from _lost_legacy(legacy)
        return
    nat, filters = ruleset.table("ip", "nat"), ruleset.table("ip", "filter")
    if not _has_docker(nat):
        beside = "" if _has_docker(filters) else " and no table ip docker-bridges"
        yield f"there is no chain DOCKER in table ip nat{beside}", "ip nat DOCKER"
        if not _has_docker(filters):
            return
    for family in ("ip", "ip6"):
        nat, filters = ruleset.table(family, "nat"), ruleset.table(family, "filter")
        if nat is not None and _has_docker(nat):
            yield from _lost_in_nat(nat, presence if family == "ip" else DockerPresence())
        if filters is not None and _has_docker(filters):
            yield from _lost_in_filter(filters)
        elif family == "ip":
            yield "there is no chain DOCKER in table ip filter", "ip filter DOCKER"


def _has_docker(table: Table | None) -> bool:
    return table is not None and table.chain("DOCKER") is not None


def _lost_native(table: Table, presence: DockerPresence) -> Iterator[tuple[str, str]]:
    """Base chains are made at the start only; of those at prerouting only the one for NAT always has a rule."""
    gone = []
    for kind, hook in (("nat", "prerouting"), ("filter", "forward"), ("nat", "postrouting")):
        chains = [chain for chain in table.chains if chain.hook == hook and chain.type == kind]
        if not chains:
            gone.append(hook)
        elif not any(chain.rules for chain in chains):
            yield f"chain {chains[0].name} of table {table.label} is empty", f"{table.label} {chains[0].name}"
    if gone:
        yield f"table {table.label} has no base chain at {' and '.join(gone)}", table.label
    elif table.family == "ip":
        rules = [rule for chain in table.chains for rule in chain.rules]
        yield from _lost_ports(rules, presence, table.label)


def _lost_in_nat(table: Table, presence: DockerPresence) -> Iterator[tuple[str, str]]:
    for name in ("PREROUTING", "OUTPUT"):
        if not _chain_jumps(table, name, "DOCKER"):
            yield f"nothing in table {table.label} {name} jumps to chain DOCKER", f"{table.label} {name}"
    docker = table.chain("DOCKER")
    if docker is not None:
        yield from _lost_ports(list(docker.rules), presence, f"{table.label} DOCKER")


def _lost_in_filter(table: Table) -> Iterator[tuple[str, str]]:
    """From 28.0.1 on FORWARD jumps to DOCKER-FORWARD, older engines keep their rules in FORWARD itself."""
    forward = table.chain("DOCKER-FORWARD")
    wanted = "DOCKER-ISOLATION-STAGE-1" if forward is None else "DOCKER-FORWARD"
    # Without its jump the administrator's own chain filters nothing.
    for target in (wanted, *(["DOCKER-USER"] if table.chain("DOCKER-USER") is not None else [])):
        if not _chain_jumps(table, "FORWARD", target):
            yield f"nothing in table {table.label} FORWARD jumps to chain {target}", f"{table.label} FORWARD"
    if forward is not None and not forward.rules:
        yield f"chain DOCKER-FORWARD of table {table.label} is empty", f"{table.label} DOCKER-FORWARD"


def _lost_legacy(lines: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for table, chain, targets in (
        ("nat", "PREROUTING", ("DOCKER",)),
        ("filter", "FORWARD", ("DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1")),
    ):
        there = [line for line in lines if line.startswith(f"-t {table} -A {chain} ")]
        if not any(_jumps(line, target) for line in there for target in targets):
            yield (
                f"nothing in {chain} of the old xtables' {table} jumps to chain {' or '.join(targets)}",
                f"legacy ip {table} {chain}",
            )


def _lost_ports(rules: list[Rule], presence: DockerPresence, where: str) -> Iterator[tuple[str, str]]:
    """Ports a docker-proxy listens on that no rule sends to a container."""
    texts = [rule.text for rule in rules]
    if any(text is None or "xt match" in text or "xt target" in text for text in texts):
        return
    sent = {
        (protocol, int(port))
        for text in texts
        for protocol, port in _PORT.findall(text or "")
        if "dnat to" in (text or "")
    }
    lost = [f"{port}/{protocol}" for protocol, port in sorted(presence.proxied - sent)]
    if lost:
        more = f" and {len(lost) - _SHOWN_PORTS} more" if len(lost) > _SHOWN_PORTS else ""
        yield f"no rule sends published port {', '.join(lost[:_SHOWN_PORTS])}{more} to its container", where


def _chain_jumps(table: Table, name: str, target: str) -> bool:
    chain = table.chain(name)
    return chain is not None and any(("jump", target) in verdicts(rule) for rule in chain.rules)


def _jumps(line: str, target: str) -> bool:
    return line.endswith(f" -j {target}")


def _docker_has_v6(ruleset: Ruleset, presence: DockerPresence) -> bool:
    if any(":" in prefix and not prefix.startswith("fe80:") for each in presence.bridges.values() for prefix in each):
        return True
    tables = [table for table in ruleset.tables if table.family == "ip6"]
    return any(owner_of(table) == "docker" or table.chain("DOCKER") is not None for table in tables)


def how_it_drops(table: Table, chain: Chain) -> str | None:
    if chain.policy == "drop":
        return "policy drop"
    last = _last_drop(table, chain, set())
    return None if last is None else f"last rule: {last.text or f'handle {last.handle}'}"


def _last_drop(table: Table, chain: Chain, seen: set[str]) -> Rule | None:
    """The unconditional drop or reject a packet ends at that nothing before it took."""
    if not chain.rules or chain.name in seen:
        return None
    rule = chain.rules[-1]
    if not _unconditional(rule):
        return None
    for verdict, target in verdicts(rule):
        if verdict in ("drop", "reject"):
            return rule
        if verdict in ("jump", "goto"):
            further = table.chain(target)
            if further is not None:
                return _last_drop(table, further, {*seen, chain.name})
    return None


class _Accepts:
    """Looks through a chain and what it jumps to for an accept that Docker's traffic can meet.

    What cannot be decided from the ruleset (a named set of interfaces, an xt match nft cannot translate) counts as
    an accept: the warning is for chains that surely know nothing of Docker.
    """

    def __init__(self, table: Table, bridges: set[str], presence: DockerPresence) -> None:
        self.table = table
        self.bridges = bridges
        prefixes = [prefix for each in presence.bridges.values() for prefix in each]
        self.networks = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes]
        self.seen: set[tuple[str, bool]] = set()

    def anywhere_in(self, chain: Chain, for_docker: bool = False) -> bool:
        if (chain.name, for_docker) in self.seen:
            return False
        self.seen.add((chain.name, for_docker))
        return any(self._rule(rule, for_docker) for rule in chain.rules)

    def _rule(self, rule: Rule, for_docker: bool) -> bool:
        for_docker = for_docker or self._meant_for_docker(rule)
        for verdict, target in verdicts(rule):
            if verdict == "accept" and (for_docker or _unconditional(rule)):
                return True
            if verdict in ("jump", "goto"):
                further = self.table.chain(target)
                if further is not None and self.anywhere_in(further, for_docker):
                    return True
        return False

    def _meant_for_docker(self, rule: Rule) -> bool:
        for statement in rule.expr:
            if not isinstance(statement, dict):
                continue
            if "xt" in statement and self._xt(statement["xt"], rule.text):
                return True
            if "match" in statement and self._match(statement["match"]):
                return True
            if "vmap" in statement and self._vmap(statement["vmap"]):
                return True
        return False

    def _match(self, match: dict[str, Any]) -> bool:
        left, right, negated = match.get("left"), match.get("right"), match.get("op") == "!="
        key = _meta_key(left)
        if key in ("iifname", "oifname", "iif", "oif"):
            named = any(self._is_bridge(value) for value in _values(right))
            return named != negated
        if key == "mark":
            return True
        if isinstance(left, dict) and "ct" in left:
            words = [str(value) for value in _values(right)]
            return left["ct"].get("key") in ("mark", "status") and (left["ct"]["key"] == "mark" or "dnat" in words)
        if isinstance(left, dict) and "payload" in left and left["payload"].get("field") in ("saddr", "daddr"):
            return any(self._is_container(value) for value in _values(right)) != negated
        if isinstance(left, dict) and "&" in left:
            return self._match({**match, "left": left["&"][0]})
        return False

    def _vmap(self, vmap: dict[str, Any]) -> bool:
        if _meta_key(vmap.get("key")) not in ("iifname", "oifname"):
            return False
        data = vmap.get("data")
        if not isinstance(data, dict) or "set" not in data:
            return True
        return any(self._is_bridge(pair[0]) for pair in data["set"] if isinstance(pair, list))

    @staticmethod
    def _xt(value: Any, text: str | None) -> bool:
        if not isinstance(value, dict) or value.get("type") != "match":
            return False
        if value.get("name") in _HARMLESS_XT:
            return False
        if text is None or "xt match" in text:
            return True
        return value.get("name") in ("mark", "connmark") or "dnat" in text

    def _is_bridge(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if value.startswith("@"):
            return True
        if value.endswith("*"):
            return any(name.startswith(value[:-1]) for name in (*self.bridges, "docker0", "br-"))
        return value in self.bridges

    def _is_container(self, value: Any) -> bool:
        if isinstance(value, str) and value.startswith("@"):
            return True
        if isinstance(value, dict) and "prefix" in value:
            value = f"{value['prefix'].get('addr')}/{value['prefix'].get('len')}"
        elif isinstance(value, dict) and "range" in value:
            value = value["range"][0]
        try:
            given = ipaddress.ip_network(str(value), strict=False)
        except ValueError:
            return False
        return any(given.version == known.version and given.overlaps(known) for known in self.networks)


def verdicts(rule: Rule) -> list[tuple[str, str]]:
    """The verdicts a rule can end in, with the chain for jump and goto; those of a verdict map included."""
    found: list[tuple[str, str]] = []
    for statement in rule.expr:
        if not isinstance(statement, dict):
            continue
        found.extend(_verdict(statement))
        xt = statement.get("xt")
        if isinstance(xt, dict) and xt.get("type") == "target" and xt.get("name") == "REJECT":
            found.append(("reject", ""))
        data = statement["vmap"].get("data") if "vmap" in statement else None
        if isinstance(data, dict) and isinstance(data.get("set"), list):
            for pair in data["set"]:
                if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict):
                    found.extend(_verdict(pair[1]))
    return found


def _verdict(statement: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name in _FINAL:
        if name in statement:
            value = statement[name]
            found.append((name, value.get("target", "") if isinstance(value, dict) else ""))
    return found


def _unconditional(rule: Rule) -> bool:
    for statement in rule.expr:
        if not isinstance(statement, dict):
            return False
        xt = statement.get("xt")
        if isinstance(xt, dict) and xt.get("type") == "target":
            continue
        if not any(name in _NO_CONDITION for name in statement):
            return False
    return True


def interface_matches(rule: Rule) -> Iterator[tuple[str, str]]:
    for statement in rule.expr:
        match = statement.get("match") if isinstance(statement, dict) else None
        if isinstance(match, dict) and match.get("op") != "!=":
            key = _meta_key(match.get("left"))
            if key in ("iifname", "oifname"):
                for value in _values(match.get("right")):
                    if isinstance(value, str):
                        yield key, value


def _meta_key(left: Any) -> str | None:
    return left["meta"].get("key") if isinstance(left, dict) and isinstance(left.get("meta"), dict) else None


def _values(right: Any) -> list[Any]:
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    if isinstance(right, list):
        return [value["elem"].get("val") if isinstance(value, dict) and "elem" in value else value for value in right]
    return [right]
