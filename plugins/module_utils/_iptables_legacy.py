# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the old xtables as values: which are Docker's, which have to move, and where they stand afterwards.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A rule of the user's that is taken for Docker's would be lost, so only what Docker writes to the letter is taken for
its own. The other way round does no harm: Docker looks for its rule before it adds it, and finds the one that moved.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import (
    Saved,
    SaveError,
    Table,
    parse_save,
)

#: Reading is shared; whoever moves rules finds it here.
__all__ = ["SaveError", "Saved", "Table", "parse_save"]

USER_CHAIN = "DOCKER-USER"
#: Docker's own chains: what is in them goes with a restart. DOCKER-USER belongs to the user.
DOCKER_CHAINS = frozenset(
    (
        "DOCKER",
        "DOCKER-BRIDGE",
        "DOCKER-CT",
        "DOCKER-FORWARD",
        "DOCKER-INGRESS",
        "DOCKER-INTERNAL",
        "DOCKER-ISOLATION",
        "DOCKER-ISOLATION-STAGE-1",
        "DOCKER-ISOLATION-STAGE-2",
    )
)
#: Docker before 28.2 ends DOCKER-USER with it.
USER_RETURN = f"-A {USER_CHAIN} -j RETURN"
USER_JUMP = f"-A FORWARD -j {USER_CHAIN}"

_JUMP = "-j (?:" + "|".join(sorted(DOCKER_CHAINS, key=len, reverse=True)) + ")"
_PORT = r"-p (?P<proto>\S+) -m \S+ --dport (?P<port>\d+)"
#: table, chain -> what Docker puts there. `b` has to be a bridge of its own, `net` a network of that bridge.
_IN_BUILTIN: dict[tuple[str, str], tuple[str, ...]] = {
    ("filter", "FORWARD"): (
        _JUMP,
        r"-o (?P<b>\S+) -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        r"-o (?P<b>\S+) -j DOCKER",
        r"-i (?P<b>\S+) ! -o (?P=b) -j ACCEPT",
        r"-i (?P<b>\S+) -o (?P=b) -j ACCEPT",
        r"-m set --match-set docker-ext-bridges-v[46] dst (?:-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT|"
        + _JUMP
        + ")",
    ),
    ("nat", "PREROUTING"): (r"-m addrtype --dst-type LOCAL " + _JUMP,),
    ("nat", "OUTPUT"): (r"(?:! -d (?:127\.0\.0\.0/8|::1/128) )?-m addrtype --dst-type LOCAL " + _JUMP,),
    ("nat", "POSTROUTING"): (
        r"-s (?P<net>\S+) ! -o (?P<b>\S+) -j (?:MASQUERADE|SNAT --to-source \S+)",
        r"-s (?P<a>\S+) -d (?P=a) " + _PORT + " -j MASQUERADE",
        r"-o (?P<b>\S+) -m addrtype --src-type LOCAL -j MASQUERADE",
    ),
    ("raw", "PREROUTING"): (
        r"-d (?P<in_net>\S+) ! -i (?P<b>\S+) (?:" + _PORT + " )?-j DROP",
        r"-d 127\.0\.0\.1/32 ! -i lo -p (?P<proto>\S+) -m \S+ --dport (?P<local>\d+) -j DROP",
    ),
}
#: How Docker drops in its own chains: by bridge, and by what is not its network.
_DOCKER_DROPS = re.compile(r"-A \S+(?: ! -[sd] \S+)?(?: (?:! )?-i \S+)?(?: -o \S+)? -j DROP")
_DOCKER_NAMES = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
_CLOSES = re.compile(r".* -j (?:DROP|REJECT)(?: .*)?")
_INTERFACE = re.compile(r"(?<!\S)-[io] (\S+)")
_LOCAL_DNAT = re.compile(r"-A DOCKER -d 127\.0\.0\.1/32 .*?-p (\S+) -m \S+ --dport (\d+) -j DNAT .*")
_IPSET = re.compile(r"--(?:match-set|add-set|del-set|map-set) (\S+)")

#: Bridges of Docker's, with their addresses.
Bridges = t.Mapping[str, t.Sequence[str]]


def has_rules(saved: Saved) -> bool:
    """Whether anything in it decides about a packet; empty chains and ACCEPT policies do not."""
    return any(any(table.chains.values()) or _closed(table) for table in saved.values())


def _closed(table: Table) -> bool:
    return any(policy != "ACCEPT" for policy in table.policies.values())


def named_by_docker(saved: Saved) -> set[str]:
    """Interfaces that rules in Docker's own chains name: bridges with a name of somebody's choice are found so."""
    return {
        name
        for table in saved.values()
        for chain, lines in table.chains.items()
        if chain in DOCKER_CHAINS
        for line in lines
        for name in _INTERFACE.findall(line)
    }


@dataclass(frozen=True)
class Part:
    """One chain of the old xtables, divided; `policy` is None for a chain that is not builtin."""

    table: str
    chain: str
    policy: str | None
    lines: tuple[str, ...]
    mine: tuple[str, ...]

    @property
    def docker(self) -> int:
        """How many of the rules are Docker's own."""
        made = self.lines.count(USER_JUMP) + (USER_RETURN in self.mine[-1:])
        return len(self.lines) - len(self.mine) + made

    @property
    def shared(self) -> bool:
        """Whether it is a builtin chain that Docker writes into: the order in it counts."""
        return self.policy is not None and self.docker > 0

    @property
    def closed(self) -> bool:
        return self.policy not in (None, "ACCEPT")

    @property
    def users(self) -> tuple[str, ...]:
        """What the user wrote: all that moves, but for what Docker makes of its own accord."""
        lines = self.mine[:-1] if USER_RETURN in self.mine[-1:] else self.mine
        return tuple(line for line in lines if line != USER_JUMP)


def divide(saved: Saved, bridges: Bridges) -> list[Part]:
    """Every chain that has something to move or something of Docker's.

    The jump to DOCKER-USER moves as well: engines before 28.0.1 do not make it at a start that finds containers
    running, and without it the rules in DOCKER-USER are never asked.
    """
    return [
        Part(name, chain, table.policies.get(chain), lines, not_dockers(saved, name, chain, bridges))
        for name, table in saved.items()
        for chain, lines in table.chains.items()
        if lines or table.policies.get(chain) != "ACCEPT"
    ]


def not_dockers(saved: Saved, table: str, chain: str, bridges: Bridges) -> tuple[str, ...]:
    """The rules of one chain that a restart of Docker does not bring."""
    if chain in DOCKER_CHAINS:
        return ()
    patterns = _IN_BUILTIN.get((table, chain), ())
    return tuple(line for line in saved[table].chains[chain] if not _of_docker(line, chain, patterns, saved, bridges))


def _of_docker(line: str, chain: str, patterns: tuple[str, ...], saved: Saved, bridges: Bridges) -> bool:
    matches = [re.fullmatch(f"-A {chain} {pattern}", line) for pattern in patterns]
    return any(match is not None and _proven(match.groupdict(), saved, bridges) for match in matches)


def _proven(found: dict[str, str], saved: Saved, bridges: Bridges) -> bool:
    """Whether what looks like a rule of Docker's speaks of what Docker has."""
    if "local" in found:
        return (found["proto"], found["local"]) in _local_ports(saved)
    if "b" not in found:
        return True
    networks = _networks(bridges.get(found["b"], ()))
    if "net" in found:
        return found["net"] in {str(network) for network in networks}
    if "in_net" in found:
        return _inside(found["in_net"], networks)
    return found["b"] in bridges


def _local_ports(saved: Saved) -> set[tuple[str, str]]:
    nat = saved.get("nat")
    lines = nat.chains.get("DOCKER", ()) if nat else ()
    return {(match.group(1), match.group(2)) for match in map(_LOCAL_DNAT.fullmatch, lines) if match}


_Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def _networks(addresses: t.Iterable[str]) -> list[_Network]:
    return [ipaddress.ip_interface(address).network for address in addresses]


def _inside(prefix: str, networks: list[_Network]) -> bool:
    try:
        address = ipaddress.ip_network(prefix)
    except ValueError:
        return False
    return address.num_addresses == 1 and any(address.network_address in network for network in networks)


def strange_drops(parts: t.Iterable[Part], bridges: Bridges) -> list[str]:
    """Rules in Docker's own chains that close something and are not Docker's: its restart would lose them."""
    return [
        f"-t {part.table} {line}"
        for part in parts
        if part.chain in DOCKER_CHAINS
        for line in part.lines
        if _CLOSES.fullmatch(line) and not _drop_of_docker(line, bridges)
    ]


def _drop_of_docker(line: str, bridges: Bridges) -> bool:
    names = _INTERFACE.findall(line)
    known = all(name in bridges or _DOCKER_NAMES.fullmatch(name) for name in names)
    return bool(names) and known and _DOCKER_DROPS.fullmatch(line) is not None


def ipset_of(line: str) -> str | None:
    """The ipset that a rule asks or fills."""
    match = _IPSET.search(line)
    return match.group(1) if match else None


def conflict(part: Part, there: Saved, bridges: Bridges) -> tuple[str, ...]:
    """What nf_tables has in this chain already, where it cannot be joined with what moves.

    Now both chains are asked and both have to accept. In one chain the first answer counts, so that an accept which
    stands there could open what the old chain drops. What an earlier, interrupted move has brought is no conflict.
    """
    if part.chain in DOCKER_CHAINS or _settled(part, there):
        return ()
    if part.policy is not None and not part.users and not part.closed:
        return ()
    found = tuple(line for line in _there(part, there, bridges) if line != USER_JUMP)
    if part.chain == USER_CHAIN and found == (USER_RETURN,):
        return ()
    return () if found in ((), tuple(line for line in part.mine if line != USER_JUMP)) else found


def _settled(part: Part, there: Saved) -> bool:
    """Whether it is a DOCKER-USER without a rule of the user's, and nf_tables has one."""
    return part.chain == USER_CHAIN and not part.users and part.chain in _chains(there, part.table)


def _chains(there: Saved, table: str) -> t.Mapping[str, tuple[str, ...]]:
    return there[table].chains if table in there else {}


def _there(part: Part, there: Saved, bridges: Bridges) -> tuple[str, ...]:
    """What nf_tables has in the same chain, without Docker's own rules."""
    if part.chain not in _chains(there, part.table):
        return ()
    return not_dockers(there, part.table, part.chain, bridges)


def _policy_missing(part: Part, there: Saved) -> bool:
    """A policy that closes moves; one that accepts does not, since the other may close for a reason."""
    return part.closed and (part.table not in there or there[part.table].policies.get(part.chain) != part.policy)


def early_text(parts: t.Iterable[Part], there: Saved, bridges: Bridges) -> str:
    """What iptables-nft-restore --noflush gets before Docker is touched: chains that Docker writes into are left out.

    Chains that are already as they should be are left out too: an earlier move was interrupted after this.
    """
    tables: dict[str, list[str]] = {}
    for part in parts:
        if part.shared or part.chain in DOCKER_CHAINS or _settled(part, there):
            continue
        lines = tables.setdefault(part.table, [])
        new = part.chain not in _chains(there, part.table)
        if _policy_missing(part, there):
            lines.insert(0, f":{part.chain} {part.policy} [0:0]")
        if _there(part, there, bridges) != part.mine or (new and part.policy is None):
            if part.policy is None:
                # A chain that is named so is emptied and filled again, in the same transaction.
                lines.insert(0, f":{part.chain} - [0:0]")
            lines += part.mine
    return _restore_text(tables)


def late_text(parts: t.Iterable[Part], there: Saved) -> str:
    """What it gets once Docker's rules are back: the user's rules in their places among them, and the policies."""
    tables: dict[str, list[str]] = {}
    for part in parts:
        if part.shared:
            lines = tables.setdefault(part.table, [])
            if _policy_missing(part, there):
                lines.append(f":{part.chain} {part.policy} [0:0]")
            lines += arrange(part, _chains(there, part.table).get(part.chain, ()))
    return _restore_text(tables)


def arrange(part: Part, current: t.Sequence[str]) -> list[str]:
    """Deletions and insertions that put the rules that moved where they stood: never behind a rule of Docker's that
    they stood in front of."""
    base, gone = list(current), []
    for line in part.mine:
        if line in base:
            base.remove(line)
            gone.append(line)
    places = _places(part, base)
    wanted = list(base)
    for place, line in reversed(places):
        wanted.insert(place, line)
    if wanted == list(current):
        return []
    begin = len(f"-A {part.chain}")
    deleted = [f"-D {part.chain}{line[begin:]}" for line in gone]
    return deleted + [
        f"-I {part.chain} {place + before + 1}{line[begin:]}" for before, (place, line) in enumerate(places)
    ]


def _places(part: Part, base: list[str]) -> list[tuple[int, str]]:
    """For each rule that moves, in order, before which of Docker's it has to stand."""
    places: list[tuple[int, str]] = []
    mine = list(part.mine)
    # A rule of Docker's that was not there before (another engine, a new network) counts as one that follows.
    unknown = [place for place, line in enumerate(base) if line not in part.lines]
    limit, following = len(base), False
    for line in reversed(part.lines):
        if mine and line == mine[-1]:
            mine.pop()
            place = min([limit, *(unknown if following else ())])
            places.insert(0, (place, line))
            limit = place
        else:
            following = True
            if line in base:
                limit = min(limit, base.index(line))
    return places


def trial_text(parts: t.Iterable[Part]) -> str:
    """All that moves, for an empty network namespace; without rules about ipsets, which are not there."""
    tables: dict[str, list[str]] = {}
    for part in parts:
        if part.chain in DOCKER_CHAINS:
            continue
        lines = tables.setdefault(part.table, [])
        lines.insert(0, f":{part.chain} {part.policy or '-'} [0:0]")
        lines += [line for line in part.mine if ipset_of(line) is None]
    return _restore_text(tables)


def empty_text(saved: Saved) -> str:
    """What empties the tables, each in one step: no rule, no chain, policies ACCEPT."""
    return _restore_text(
        {name: [f":{chain} ACCEPT [0:0]" for chain in table.policies] for name, table in saved.items()}
    )


def _restore_text(tables: dict[str, list[str]]) -> str:
    return "".join("\n".join([f"*{name}", *lines, "COMMIT", ""]) for name, lines in tables.items() if lines)


def not_arrived(parts: t.Iterable[Part], there: Saved, bridges: Bridges, late: bool) -> list[str]:
    """What should be in nf_tables and is not, or not in its place.

    Late, only chains that Docker writes into are looked at: the others were, and belong to the host's programs again.
    """
    missing = []
    for part in parts:
        if part.chain in DOCKER_CHAINS or part.shared != late or _settled(part, there):
            continue
        if _policy_missing(part, there):
            missing.append(f"-t {part.table} -P {part.chain} {part.policy}")
        found = _there(part, there, bridges)
        known = set(found)
        lost = [f"-t {part.table} {line}" for line in part.mine if line not in known]
        current = _chains(there, part.table).get(part.chain, ())
        if not lost and (arrange(part, current) if part.shared else found != part.mine):
            lost = [f"-t {part.table} {line} (in another place)" for line in part.mine]
        missing += lost
    return missing


def docker_missing(parts: t.Iterable[Part], there: Saved) -> list[str]:
    """Builtin chains from which a jump led to a chain of Docker's, and none does in nf_tables."""
    jump = re.compile(".* " + _JUMP)
    missing = []
    for part in parts:
        current = _chains(there, part.table).get(part.chain, ())
        if part.shared and any(map(jump.fullmatch, part.lines)) and not any(map(jump.fullmatch, current)):
            missing.append(f"{part.chain} of table {part.table}")
    return missing


def listing(there: Saved, parts: t.Iterable[Part], bridges: Bridges) -> str:
    """The rules in nf_tables with what moves, without Docker's own: the same before and after its restart."""
    policies = {name: dict(table.policies) for name, table in there.items()}
    chains = {
        name: {chain: not_dockers(there, name, chain, bridges) for chain in table.chains if chain not in DOCKER_CHAINS}
        for name, table in there.items()
    }
    for part in parts:
        if part.chain in DOCKER_CHAINS or _settled(part, there):
            continue
        if part.mine or part.closed:
            chains.setdefault(part.table, {})[part.chain] = part.mine
        if part.closed and part.policy:
            policies.setdefault(part.table, {})[part.chain] = part.policy
    lines = []
    for name in sorted(chains):
        shown = {chain: rules for chain, rules in chains[name].items() if rules}
        closed = {chain: policy for chain, policy in policies.get(name, {}).items() if policy != "ACCEPT"}
        if shown or closed:
            lines.append(f"*{name}")
            lines += [f":{chain} {policy}" for chain, policy in sorted(closed.items())]
            lines += [line for chain in sorted(shown) for line in shown[chain]]
    return "".join(f"{line}\n" for line in lines)
