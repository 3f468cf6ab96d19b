# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: a policy and what was read from the host become one table.

Why the chains stand where they stand is in docs/adr/0002-own-table.md. May change at any time.
"""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _interfaces, _intervals
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._blocks import (
    ALL_PORTS,
    DECIDES,
    Endings,
    Entry,
    Verdict,
    compile_entries,
    default_rules,
    quoted,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import (
    REFUSES,
    Carry,
    forward_endings,
    input_endings,
    late_chains,
    output_chain,
    verdict_chains,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import (
    CONTAINERS,
    OUTSIDE,
    Policy,
    PolicyError,
    Rule,
    Zone,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Chain, Ruleset, Set

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

#: Before DNAT (-100) and after conntrack (-200): the port is still the one the client dialled.
PREROUTING = -110
#: Before Docker's and iptables' chains at 0, so that our verdict can be read in one place.
FILTER = -10

TABLE = "bulkhead"

_ICMP4 = "destination-unreachable, time-exceeded, parameter-problem"
_ICMP6 = (
    "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, mld-listener-query,"
    " mld-listener-report, mld-listener-done, nd-router-solicit, nd-router-advert, nd-neighbor-solicit,"
    " nd-neighbor-advert, nd-redirect, mld2-listener-report"
)


@dataclass(frozen=True)
class HostState:
    """What the compiler needs to know of the host.

    `networks` maps Docker network names to bridge names; `interfaces` are all interfaces
    that exist, `other_bridges` those of them that are bridges but not Docker's, `shared_bridges`
    bridges of Docker networks that also have a port which is not a container's, such as a network
    card; `published` are (protocol, port) pairs that Docker publishes now.
    """

    networks: t.Mapping[str, str]
    interfaces: tuple[str, ...] = ()
    published: tuple[tuple[str, int], ...] = ()
    docker_known: bool = True
    other_bridges: tuple[str, ...] = ()
    shared_bridges: tuple[str, ...] = ()


def _verdict(rule: Rule) -> Verdict:
    return Verdict(rule.action, rule.log, rule.limit)


def _destinations(rule: Rule, goal: Zone) -> tuple[t.Sequence[Interval], t.Sequence[Interval]] | None:
    """Give the addresses of either family that both the rule and the zone its packets leave for name, None for any."""
    named = bool(rule.destinations4 or rule.destinations6)
    if goal.any_source:
        return (rule.destinations4, rule.destinations6) if named else None
    if not named:
        return goal.sources4, goal.sources6
    return (
        _intervals.common(rule.destinations4, goal.sources4),
        _intervals.common(rule.destinations6, goal.sources6),
    )


def _families(
    rule: Rule, sources4: t.Sequence[Interval], sources6: t.Sequence[Interval], goal: Zone
) -> t.Iterator[tuple[int | None, Interval | None, Interval | None]]:
    """Give (family, source, destination) for every pair that can meet in one packet."""
    wanted = {"ipv4": (4,), "ipv6": (6,)}.get(rule.family or "", (4, 6))
    limited = bool(sources4 or sources6)
    places = _destinations(rule, goal)
    if not limited and places is None:
        yield (wanted[0] if rule.family else None), None, None
        return
    for family in wanted:
        sources: t.Sequence[Interval | None] = (sources4 if family == 4 else sources6) if limited else (None,)
        destinations: t.Sequence[Interval | None] = (None,) if places is None else places[0 if family == 4 else 1]
        for source in sources:
            for destination in destinations:
                yield family, source, destination


def _entries(rule: Rule, bridges: t.Mapping[str, str]) -> list[Entry]:
    """Expand a rule into one entry for each zone, source and destination, and each zone that packets leave for."""
    base = Entry(_verdict(rule), rule.index, protocols=rule.protocols, ports=rule.ports, comment=rule.comment)
    if rule.target_network is not None:
        base = replace(base, oifs=(bridges[rule.target_network],))
    origins = [(zone.interfaces, zone.sources4, zone.sources6) for zone in rule.zones]
    origins += [(() if network == CONTAINERS else (bridges[network],), (), ()) for network in rule.networks]
    entries = []
    for iifs, sources4, sources6 in origins:
        for goal in rule.towards or (Zone(OUTSIDE),):
            left = replace(base, iifs=iifs, oifs=goal.interfaces or base.oifs)
            for family, source, destination in _families(rule, sources4, sources6, goal):
                entries.append(replace(left, family=family, source=source, destination=destination))
    return entries


def _check_host(policy: Policy, state: HostState, own: t.Sequence[str]) -> None:
    """Refuse what this host does not have; `own` are Docker's bridges."""
    errors = []
    known = ", ".join(sorted(state.networks)) or "none"
    for rule in policy.rules:
        named = [("from", name) for name in rule.networks if name != CONTAINERS]
        if rule.target_network is not None:
            named.append(("to", rule.target_network))
        for key, name in named:
            if name not in state.networks:
                where = "Docker has no such bridge network" if state.docker_known else "Docker cannot be asked now"
                errors.append(f"{rule.path}.{key}: network '{name}' is unknown, {where}; known are {known}")
        for zone in rule.towards:
            if zone.interfaces and set(own).issuperset(zone.interfaces):
                errors.append(
                    f"{rule.path}.towards: the zone '{zone.name}' has no interfaces but bridges of Docker's"
                    f" ({', '.join(zone.interfaces)}); accepted are others, what reaches containers is to: network:NAME"
                )
    if errors:
        raise PolicyError(errors)


def _warnings(policy: Policy, state: HostState, foreign: tuple[str, ...]) -> list[str]:
    found = []
    named = [(f"docker_firewall_zones.{zone.name}.interfaces", zone.interfaces) for zone in policy.zones.values()]
    named.append(("docker_firewall_outside_interfaces", policy.outside_interfaces))
    for path, patterns in named:
        for pattern in patterns:
            if not any(_interfaces.matches(pattern, name) for name in state.interfaces):
                found.append(f"{path}: no interface of this host matches '{pattern}' now")
    for name in state.shared_bridges:
        found.append(
            f"Docker uses the bridge '{name}', but other interfaces than containers' are in it too; it counts as outside"
        )
    for name in foreign:
        if name in state.shared_bridges:
            continue
        found.append(
            f"docker_firewall_bridges: '{name}' looks like a bridge of Docker's but is not one; it counts as outside"
        )
    return found


def _published_groups(
    entries: t.Sequence[Entry], sets: list[Set], endings: Endings
) -> tuple[list[Chain], list[str]]:
    """Compile the second layer for published ports.

    The port the client dialled is read from conntrack (`ct original proto-dst`). nft 1.0.6 cannot
    put it into a concatenation or a typed set, but an anonymous map to chains works, so ports
    that have the same clients share a chain.
    """
    by_protocol: dict[str, list[tuple[Interval, Entry]]] = {}
    for entry in entries:
        for protocol in entry.protocols or ():
            for port in entry.ports if entry.ports is not None else (ALL_PORTS,):
                by_protocol.setdefault(protocol, []).append((port, entry))
    chains: list[Chain] = []
    maps: list[str] = []
    names: dict[tuple[Entry, ...], str] = {}
    for protocol in sorted(by_protocol):
        mapped: list[list[t.Any]] = []
        for port, covering in _intervals.slabs(by_protocol[protocol]):
            content = tuple(
                replace(
                    entry, protocols=None, ports=None, rule=0, comment=None, verdict=Verdict(entry.verdict.action)
                )
                for entry in covering
            )
            content = tuple(dict.fromkeys(content))
            if content not in names:
                names[content] = f"published_{protocol}_{port[0]}"
                plain = [
                    replace(entry, protocols=None, ports=None, verdict=Verdict(entry.verdict.action))
                    for entry in covering
                ]
                chains.append(Chain(names[content], _dialled_rules(names[content], plain, sets, endings)))
            name = names[content]
            if mapped and mapped[-1][1] == name and mapped[-1][0][1] + 1 == port[0]:
                mapped[-1][0] = (mapped[-1][0][0], port[1])
            else:
                mapped.append([port, name])
        elements = ", ".join(f"{_intervals.number_text(port)} : goto {name}" for port, name in mapped)
        maps.append(f"meta l4proto {protocol} ct original proto-dst vmap {{ {elements} }}")
    return chains, maps


def _dialled_rules(name: str, entries: t.Sequence[Entry], sets: list[Set], endings: Endings) -> list[str]:
    """Compile the clients of one group of ports, in order; the address they dialled comes from conntrack."""
    rules: list[str] = []
    batch: list[Entry] = []
    place: tuple[int | None, Interval | None] = (None, None)
    batches = 0

    def flush() -> None:
        nonlocal batches
        if not batch:
            return
        extra = ""
        if place[1] is not None:
            word = "ip" if place[0] == 4 else "ip6"
            extra = f"ct original {word} daddr {_intervals.address_text(place[1], place[0] or 4)} "
        batches += 1
        # Runs inside a batch are numbered too: the letter keeps sets of two batches from sharing a name.
        prefix = name if batches == 1 else f"{name}_d{batches}"
        rules.extend(compile_entries(prefix, list(batch), sets, stateful=False, extra=extra, endings=endings))
        batch.clear()

    for entry in entries:
        where = (entry.family if entry.destination is not None else None, entry.destination)
        if where != place:
            flush()
            place = where
        batch.append(replace(entry, destination=None))
    flush()
    rules.append(endings.drop)
    return rules


def _outside_chain(
    policy: Policy, entries: t.Sequence[Entry], state: HostState, sets: list[Set], endings: Endings
) -> Chain:
    """Compile what outsiders may dial on the host's own addresses."""
    ping4, ping6 = (", echo-request", ", echo-request") if policy.ping else ("", "")
    chain = Chain("outside", ["ip daddr 127.0.0.0/8 counter drop"])
    # What the first rules accept needs no look at the routes: packets that are only routed are accepted below too.
    accepted = list(itertools.takewhile(lambda entry: entry.verdict == Verdict("accept"), entries))
    chain.rules += compile_entries("outside_open", accepted, sets)
    chain.rules += [
        "fib daddr type unicast accept",
        f"icmp type {{ {_ICMP4}{ping4} }} accept",
        f"icmpv6 type {{ {_ICMP6}{ping6} }} accept",
        "meta l4proto igmp accept",
    ]
    # Where a container has a DHCP client's port, an answer to it would be a packet for docker-proxy.
    answers = {68: "udp sport 67 udp dport 68 accept", 546: "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"}
    chain.rules += [rule for port, rule in answers.items() if ("udp", port) not in state.published]
    chain.rules += compile_entries("outside", entries[len(accepted) :], sets, endings=endings)
    log = "bulkhead outside: " if policy.log_drops else None
    if policy.host_default == "drop":
        chain.rules += default_rules("drop", log, endings)
    elif state.published:
        closed = [
            Entry(Verdict("drop", log), 0, protocols=(protocol,), ports=((port, port),))
            for protocol, port in sorted(state.published)
        ]
        written = compile_entries("published_now", closed, sets, endings=endings)
        chain.rules += [rule.split(" comment ")[0] for rule in written]
    return chain


def compile_policy(policy: Policy, state: HostState, table: str = TABLE, carry: Carry | None = None) -> Ruleset:
    """Compile the own table.

    With `carry` it marks what it refuses, for chains of iptables to carry out, instead of dropping it.
    Raises PolicyError where a rule names a Docker network that the host does not have.
    """
    # Whoever sits behind a bridge with a network card in it is no container: such a bridge counts as outside.
    own = [name for name in state.networks.values() if name not in state.shared_bridges]
    _check_host(policy, state, own)
    by_target: dict[str, list[Entry]] = {}
    for rule in policy.rules:
        target = "containers_to_host" if rule.target == "host" and rule.networks else rule.target
        by_target.setdefault(target, []).extend(_entries(rule, state.networks))
    outside = [
        entry
        for rule in policy.rules
        if rule.target in ("host", "published") and not rule.networks
        for entry in _entries(rule, state.networks)
    ]
    bridges, foreign = _interfaces.bridge_sets(policy.bridges, own, state.interfaces)
    if not state.docker_known:
        foreign = ()
    ruleset = Ruleset("inet", table, warnings=_warnings(policy, state, foreign))
    wildcard = any(name.endswith("*") for name in bridges)
    ruleset.sets.append(Set("docker_bridges", "ifname", tuple(f'"{name}"' for name in bridges), wildcard))

    def split(chain: Chain, direction: str, docker: str, outside: str) -> None:
        """Send packets from (or to) Docker's bridges one way, all others another way."""
        if foreign:
            chain.rules.append(f"{direction} {quoted(foreign)} {outside}")
        chain.rules.append(f"{direction} @docker_bridges {docker}")
        if policy.outside_interfaces and direction == "iifname":
            chain.rules.append(f"{direction} {quoted(policy.outside_interfaces)} {outside}")
        else:
            chain.rules.append(outside)

    def log(words: str) -> str | None:
        return f"bulkhead {words}: " if policy.log_drops else None

    prerouting = Chain("prerouting", hook="prerouting", priority=PREROUTING)
    prerouting.rules += ["ct state established,related accept", 'iifname "lo" accept']
    split(prerouting, "iifname", "accept", "goto outside")

    outer = DECIDES if carry is None else REFUSES
    inner = input_endings(carry)
    passing = forward_endings(carry)

    inbound = Chain("input", hook="input", priority=FILTER)
    if carry is not None:
        inbound.rules.append(f"{carry.refused} goto left_to_input")
    inbound.rules += [f"ct state established,related {inner.accept}", f'iifname "lo" {inner.accept}']
    if foreign:
        inbound.rules.append(f"iifname {quoted(foreign)} {inner.accept}")
    inbound.rules.append("iifname @docker_bridges goto containers_to_host")
    if carry is not None:
        inbound.rules.append(inner.accept)

    to_host = Chain("containers_to_host")
    to_host.rules += [
        f"icmp type {{ destination-unreachable, time-exceeded, parameter-problem, echo-request }} {inner.accept}",
        f"icmpv6 type {{ {_ICMP6}, echo-request }} {inner.accept}",
    ]
    to_host.rules += compile_entries(
        "containers_to_host", by_target.get("containers_to_host", []), ruleset.sets, endings=inner
    )
    to_host.rules += default_rules(policy.containers_to_host_default, log("container to host"), inner)

    forward = Chain("forward", hook="forward", priority=FILTER)
    if carry is not None:
        forward.rules.append(f"{carry.refused} accept")
    if carry is not None and carry.docker:
        forward.rules += [
            f"ct state established,related {direction} @docker_bridges {passing.accept}"
            for direction in ("iifname", "oifname")
        ]
    forward.rules.append("ct state established,related accept")
    split(forward, "iifname", "goto from_containers", "goto from_outside")

    from_containers = Chain("from_containers")
    if foreign:
        from_containers.rules.append(f"oifname {quoted(foreign)} goto egress")
    from_containers.rules += [f"oifname @docker_bridges {passing.accept}", "goto egress"]

    egress = Chain("egress", compile_entries("egress", by_target.get("egress", []), ruleset.sets, endings=passing))
    egress.rules += default_rules(policy.egress_default, log("egress"), passing)

    from_outside = Chain("from_outside", ["ct status dnat goto published"])
    # With bridge-nf-call-iptables=1 (Docker sets it for icc=false) frames that only cross a bridge come by here.
    from_outside.rules += [f'iifname "{name}" oifname "{name}" accept' for name in state.other_bridges]
    if foreign:
        from_outside.rules.append(f"oifname {quoted(foreign)} goto routed")
    from_outside.rules += ["oifname @docker_bridges goto networks", "goto routed"]

    groups, maps = _published_groups(by_target.get("published", []), ruleset.sets, passing)
    published = Chain("published", maps + default_rules("drop", log("published"), passing))

    direct = compile_entries("networks", by_target.get("network", []), ruleset.sets, endings=passing)
    networks = Chain("networks", direct + default_rules("drop", log("network"), passing))

    between = compile_entries("routed", by_target.get("routed", []), ruleset.sets, endings=outer)
    routed = Chain("routed", between + default_rules(policy.routed_default, log("routed"), outer))

    if carry is not None:
        ruleset.chains += verdict_chains(carry)
    ruleset.chains += [_outside_chain(policy, outside, state, ruleset.sets, outer), to_host, egress]
    ruleset.chains += groups + [published, networks, routed, from_containers, from_outside]
    ruleset.chains += [prerouting, inbound, forward]
    if carry is not None:
        ruleset.chains += late_chains(carry)
        ruleset.chains += [output_chain(carry, FILTER)] if carry.output else []
    return ruleset
