# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The match conntrack as expressions of nft.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A packet without a connection (INVALID, UNTRACKED) has nothing but its state. iptables then asks for nothing else, so
that a rule for a state and a port matches it whatever the port; nft, asked for a port that is not there, does not.
"""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_user_matches as matches
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import (
    number_range,
    protocol_number,
    protocol_text,
    sign,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import MAX_PORT, number_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import Match, Option, RuleError

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import Alternatives

_TRACKED = ("new", "established", "related")
_UNTRACKED = ("invalid", "untracked")
_NAT = ("snat", "dnat")
_STATUS = {"EXPECTED": "expected", "SEEN_REPLY": "seen-reply", "ASSURED": "assured", "CONFIRMED": "confirmed"}
#: Protocols of which conntrack remembers something in the place of a port. Of all others it is zero.
_WITH_PORTS = (1, 6, 17, 33, 47, 58, 132, 136)
_WITHOUT_PORTS = f"meta l4proto != {{ {', '.join(map(str, _WITH_PORTS))} }}"
#: Holds wherever there is a connection.
_ANY = "ct original protocol != 255"
#: The tuple, and what of it: --ctorigsrc and so on.
_SIDES = {"orig": "original", "repl": "reply"}


def joined(parts: t.Iterable[str]) -> str:
    """Expressions that all have to hold."""
    return " ".join(part for part in parts if part)


def product(parts: t.Iterable[Alternatives]) -> Alternatives:
    """The alternatives of matches that all have to hold."""
    return tuple(joined(each) for each in itertools.product(*parts))


def conntrack(match: Match, family: int, of: int | None) -> Alternatives:
    state = match.one("--ctstate") or match.one("--state")
    others = _others([option for option in match.options if option is not state], family, of)
    if state is None:
        return others
    listed = [value.lower() for value in state.value.split(",")]
    if not set(listed) <= {*_TRACKED, *_UNTRACKED, *_NAT}:
        raise RuleError(f"{state.value} is not a state of conntrack")
    nat = [value for value in _NAT if value in listed]
    tracked = [value for value in _TRACKED if (value in listed) != state.negated]
    untracked = [value for value in _UNTRACKED if (value in listed) != state.negated]
    if not nat and others == ("",):
        every = tracked + untracked
        return ("",) if len(every) == 5 else (f"ct state {','.join(every)}",) if every else ()
    found = list(product([_by_state(tracked, nat, state.negated), others]))
    if untracked:
        found.append(f"ct state {','.join(untracked)}")
    return tuple(found)


def _by_state(tracked: list[str], nat: list[str], negated: bool) -> Alternatives:
    """What a packet with a connection has to have; SNAT and DNAT are no states but bits of the connection."""
    states = f"ct state {','.join(tracked)}"
    bits = _bits(nat)
    if negated:
        return (joined([states, f"ct status & {bits} == 0x0" if nat else ""]),) if tracked else ()
    found = [states] if tracked else []
    rest = [value for value in _TRACKED if value not in tracked]
    if nat and rest:
        found.append(f"ct state {','.join(rest)} ct status & {bits} != 0x0")
    return tuple(found)


def _bits(names: t.Sequence[str]) -> str:
    return f"({' | '.join(names)})" if len(names) > 1 else "".join(names)


def _others(options: list[Option], family: int, of: int | None) -> Alternatives:
    """What only a packet with a connection has.

    nft 1.0.6 reads and lists a port of a connection only behind the one protocol it belongs to. An error of ICMP is part
    of the connection it is about, and has ports to be asked for too.
    """
    rest = [_other(option, family, of) for option in options if not option.name.endswith("port")]
    asked = [option for option in options if option.name.endswith("port")]
    if not asked:
        return product(rest)
    ends = [number_range(option.value, MAX_PORT, "the port") for option in asked]
    keys = [f"ct {_SIDES[option.name[4:8]]} proto-{option.name[8:11]}" for option in asked]
    texts = [f"{key} {sign(option)}{number_text(each)}" for key, option, each in zip(keys, asked, ends)]
    zero = all((each[0] == 0) != option.negated for option, each in zip(asked, ends))
    if of in _WITH_PORTS:
        return product([(joined(texts),), *rest])
    found = []
    if of is None:
        found = [joined([f"meta l4proto {protocol_text(each)}", *texts]) for each in _WITH_PORTS]
    if zero:
        found.append(joined([_WITHOUT_PORTS if of is None else "", _ANY]))
    return product([tuple(found), *rest])


def _other(option: Option, family: int, of: int | None) -> Alternatives:
    if option.name == "--ctproto":
        if of is not None and of not in (1, 58):
            # Only ICMP is part of connections of other protocols. nft 1.0.6 would take it for a contradiction.
            return (_ANY,) if (of == protocol_number(option.value)) != option.negated else matches.NEVER
        return (f"ct original protocol {sign(option)}{protocol_text(protocol_number(option.value))}",)
    if option.name == "--ctdir":
        if option.value not in ("ORIGINAL", "REPLY") or option.negated:
            raise RuleError(f"{option.value} is not a direction")
        return (f"ct direction {option.value.lower()}",)
    if option.name == "--ctstatus":
        return _status(option)
    side, end = _SIDES[option.name[4:8]], "saddr" if option.name[8:] == "src" else "daddr"
    found = matches.address(f"ct {side} {matches.header(family)} {end}", option.value, family, option.negated)
    # Any address will do, but there has to be a connection.
    return (_ANY,) if found == matches.ALWAYS else found


def _status(option: Option) -> Alternatives:
    names = option.value.split(",")
    if names == ["NONE"]:
        # No bit is never among those that are set.
        return (_ANY,) if option.negated else matches.NEVER
    if not set(names) <= set(_STATUS):
        raise RuleError(f"nothing can be said of the status {option.value}")
    bits = _bits([_STATUS[name] for name in names])
    return (f"ct status & {bits} {'==' if option.negated else '!='} 0x0",)
