# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge whether iptables tools read a native rule back as it is.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_matches import (
    PROTOCOLS,
    field_of,
    foreign_field,
    is_known,
    is_within,
    match_problems,
    pair,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_problems import Problem, problem

_VERDICTS = ("accept", "drop", "return", "jump", "goto", "continue")
#: Words of JSON that admins do not know.
_STATEMENTS = {
    "ct helper": "ct helper set",
    "ct timeout": "ct timeout set",
    "ct expectation": "ct expectation set",
    "set": "adding to a set",
    "flow": "a flowtable",
    "mangle": "a change of the packet",
}
_SEVERAL = ("meta mark", "meta pkttype", "ip ttl", "ip6 hoplimit")
#: Matches that iptables writes first, whatever their order was: as -i, -o and -f.
_FIRST = ("meta iifname", "meta oifname", "meta iif", "meta oif", "ip frag-off")
_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", "ipv6-icmp": "icmpv6"}

_CHAIN_NAME_LENGTH = 28
#: What -j takes for a target of its own, from the extensions of 1.8.13.
_TARGETS = frozenset(
    "ACCEPT DROP QUEUE RETURN CONTINUE AUDIT CHECKSUM CLASSIFY CLUSTERIP CONNMARK CONNSECMARK CT DNAT DNPT DSCP ECN HL "
    "HMARK IDLETIMER LED LOG MARK MASQUERADE MIRROR NETMAP NFLOG NFQUEUE NOTRACK RATEEST REDIRECT REJECT SAME SECMARK "
    "SET SNAT SNPT SYNPROXY TCPMSS TCPOPTSTRIP TEE TOS TPROXY TRACE TTL ULOG".split()
)
_MAX_BURST = 10000
#: iptables keeps a rate as the time of one packet, in units of 100 microseconds.
_TICKS = 10000
_SECONDS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def judge(
    expr: list[Any] | tuple[Any, ...],
    family: str = "ip",
    table: str = "filter",
    chain: str = "",
    comment: str | None = None,
) -> list[Problem]:
    """All that iptables does not read back exactly in one rule, as `nft -j` prints its `expr`.

    `chain` matters where it is one of iptables' own: some of them have no input or no output interface.
    """
    problems: list[Problem] = []
    for found in (*_statements(expr, family, table, chain), *_together(expr), *_text(comment)):
        each = problem(found)
        if each not in problems:
            problems.append(each)
    return problems


def judge_chain_name(name: str) -> list[Problem]:
    """What keeps iptables from having a chain of its own by this name."""
    return [problem(found) for found in _chain_name(name)]


# -- one statement -----------------------------------------------------------------------------------------------------


def _statements(expr: list[Any] | tuple[Any, ...], family: str, table: str, chain: str) -> Iterator[str]:
    for statement in expr:
        kind, value = pair(statement)
        if kind == "match":
            yield from match_problems(value, family, chain)
        elif kind == "vmap":
            yield "a verdict map"
            yield from foreign_field(value.get("key") if isinstance(value, dict) else None)
        elif kind == "mangle":
            yield from _mangle(value)
        elif kind == "limit":
            yield from _limit(value)
        elif kind == "log":
            yield from _log(value)
        elif kind == "counter":
            if isinstance(value, str):
                yield "a named counter"
        elif kind in ("jump", "goto"):
            yield from _chain_name(str(value.get("target")) if isinstance(value, dict) else "")
        elif kind == "drop" and table == "nat":
            yield "drop in table nat"
        elif kind not in (*_VERDICTS, "xt", "comment"):
            yield _STATEMENTS.get(kind, kind)


def _mangle(value: Any) -> Iterator[str]:
    name, _mask = field_of(value.get("key") if isinstance(value, dict) else None)
    # This is how iptables itself writes -j TRACE.
    if name != "meta nftrace" or value.get("value") != 1:
        yield f"{name} set"


def _limit(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "limit"
        return
    if value.get("inv"):
        yield "limit over"
    if value.get("rate_unit", "packets") != "packets":
        yield "limit by bytes"
    elif not rate_survives(value.get("rate"), str(value.get("per"))):
        yield "an uneven rate"
    elif not is_within(value.get("burst", 5), 1, _MAX_BURST):
        yield "a burst over 10000"


def rate_survives(rate: Any, per: str) -> bool:
    """Whether iptables makes the same rate of it, as its print_rate and parse_rate calculate."""
    if not isinstance(rate, int) or rate < 1 or per not in _SECONDS:
        return False
    period = _TICKS * _SECONDS[per] // rate
    if period == 0:
        return False
    seconds = list(_SECONDS.values())
    unit = seconds[0]
    for longer in seconds[1:]:
        whole = _TICKS * longer
        if period > whole or whole // period < whole % period:
            break
        unit = longer
    return _TICKS * unit // period * _SECONDS[per] == rate * unit


def _log(value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or "group" not in value:
        yield "log without a group"
        return
    for key in value:
        if key not in ("prefix", "group", "snaplen", "queue-threshold"):
            yield f"log {key}"
    yield from _text(value.get("prefix"))


def _text(text: Any) -> Iterator[str]:
    if isinstance(text, str) and "'" in text:
        yield "a single quote in a text"


def _chain_name(name: str) -> Iterator[str]:
    if name in _TARGETS:
        yield "a chain name like a target"
    if len(name) > _CHAIN_NAME_LENGTH:
        yield "a chain name over 28 characters"


# -- several statements of one rule ------------------------------------------------------------------------------------


def _together(expr: list[Any] | tuple[Any, ...]) -> Iterator[str]:
    """What is right by itself and wrong in this rule: repeated, in another order, beside something else."""
    pairs = [pair(statement) for statement in expr]
    kinds = [kind for kind, _value in pairs]
    fields = [field_of(value.get("left"))[0] for kind, value in pairs if kind == "match" and isinstance(value, dict)]
    if any(fields.count(field) > 1 and is_known(field) and field not in _SEVERAL for field in fields):
        yield "a field twice"
    yield from _protocols(pairs)
    for protocol in ("icmp", "icmpv6"):
        if f"{protocol} code" in fields and f"{protocol} type" not in fields:
            yield "an ICMP code without a type"
    yield from _targets(kinds)
    yield from _order(pairs)


def _protocols(pairs: list[tuple[str, Any]]) -> Iterator[str]:
    named, meant = [], set()
    for kind, value in pairs:
        if kind != "match" or not isinstance(value, dict):
            continue
        name = field_of(value.get("left"))[0]
        if name in PROTOCOLS:
            right = value.get("right")
            named.append((value.get("op"), _NUMBERS.get(right, right) if isinstance(right, (int, str)) else None))
        elif name.split()[0] in ("tcp", "udp", "icmp", "icmpv6"):
            meant.add(name.split()[0])
    if len(named) > 1:
        yield "a field twice"
    if len(meant) > 1 or (meant and any(op != "==" or {what} != meant for op, what in named)):
        yield "two protocols"


def _targets(kinds: list[str]) -> Iterator[str]:
    if kinds.count("counter") > 1:
        yield "a second counter"
    if kinds.count("log") > 1:
        yield "a second log"
    if "log" in kinds and any(kind in kinds for kind in _VERDICTS if kind != "continue"):
        yield "log with a verdict"


def _order(pairs: list[tuple[str, Any]]) -> Iterator[str]:
    protocol_named = False
    seen: set[str] = set()
    for kind, value in pairs:
        if kind in ("match", "limit", "vmap"):
            if "counter" in seen:
                yield "a counter in front of a match"
            if "log" in seen:
                yield "log in front of a match"
        if kind == "match" and isinstance(value, dict):
            name = field_of(value.get("left"))[0]
            protocol_named = protocol_named or name in PROTOCOLS
            if "limit" in seen and not _keeps_place(name, protocol_named and "late protocol" not in seen):
                yield "a limit in front of a match"
            if "limit" in seen and name in PROTOCOLS:
                seen.add("late protocol")
        seen.add(kind)


def _keeps_place(name: str, protocol_named: bool) -> bool:
    """Whether iptables leaves a match where it is, behind a limit."""
    if name in _FIRST or name in PROTOCOLS or name.endswith(("saddr", "daddr")):
        return False
    return protocol_named or name.split()[0] not in ("tcp", "udp", "icmp", "icmpv6")
