# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: a list of policy entries becomes sets and a few rules.

Entries are taken in their order, first match wins. Neighbours that end in the same
verdict share sets, so that ten thousand entries cost one lookup. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _intervals
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._interfaces import uncovered
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import (
    PORT_PROTOCOLS,
    PROTOCOL_NUMBERS,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Set

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Limit

ALL_PORTS = (0, _intervals.MAX_PORT)
_NONE = (0, 0)
#: From so many on, pairs of interfaces are looked up in the set; fewer read better as rules of their own.
MANY_PAIRS = 4
#: The kernel looks nothing longer up in a set, in bytes (NFT_REG32_COUNT registers).
LONGEST_KEY = 64


@dataclass(frozen=True)
class Verdict:
    """What happens to a matching packet; entries with an equal verdict can share a set."""

    action: str
    log: str | None = None
    limit: Limit | None = None


@dataclass(frozen=True)
class Entry:
    """One zone of one rule: everything a packet has to match.

    `family` is 4, 6 or None for both; `ports` None means that ports do not matter;
    `protocols` None means every protocol.
    """

    verdict: Verdict
    rule: int
    iifs: tuple[str, ...] = ()
    oifs: tuple[str, ...] = ()
    family: int | None = None
    source: Interval | None = None
    destination: Interval | None = None
    protocols: tuple[str, ...] | None = None
    ports: tuple[Interval, ...] | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Endings:
    """The statements that say yes and no at the end of a rule."""

    accept: str = "accept"
    drop: str = "counter drop"


DECIDES = Endings()


def quoted(names: t.Iterable[str]) -> str:
    """Write interface names as an nft expression."""
    shown = [f'"{name}"' for name in uncovered(names)]
    return shown[0] if len(shown) == 1 else "{ " + ", ".join(shown) + " }"


def protocol_text(name: str) -> str:
    """Write a protocol as nft reads it without looking into /etc/protocols."""
    return str(PROTOCOL_NUMBERS.get(name, name))


@dataclass(frozen=True)
class _Key:
    """What a set is looked up with; entries of one run with an equal key share it.

    `iifs` and `oifs` are matched before it; `iif` and `oif` tell that names are in the set instead.
    """

    iifs: tuple[str, ...]
    oifs: tuple[str, ...]
    iif: bool
    oif: bool
    family: int | None
    source: bool
    destination: bool
    protocol: str  # "ports", "protocols" or "any"

    @property
    def length(self) -> int:
        """The bytes that are looked up."""
        names = 16 * (self.iif + self.oif)
        addresses = (4 if self.family == 4 else 16) * (self.source + self.destination)
        return names + addresses + {"any": 0, "protocols": 4, "ports": 8}[self.protocol]

    def with_names(self) -> _Key:
        """Give the key that has the names of interfaces in the set."""
        return replace(self, iifs=(), oifs=(), iif=bool(self.iifs), oif=bool(self.oifs))


#: What is written into a set as it stands: two names of interfaces, each perhaps empty, and a protocol.
_Words = t.Tuple[str, str, str]
_Boxes = t.Dict[_Key, t.Dict[_Words, t.List["_intervals.Box"]]]


def _split(entry: Entry) -> t.Iterator[tuple[_Key, str, _intervals.Box]]:
    """Cut one entry into (key, protocol, box) triples."""
    source = entry.source if entry.source is not None else _NONE
    destination = entry.destination if entry.destination is not None else _NONE

    def key(kind: str) -> _Key:
        return _Key(
            entry.iifs,
            entry.oifs,
            False,
            False,
            entry.family,
            entry.source is not None,
            entry.destination is not None,
            kind,
        )

    if entry.protocols is None:
        yield key("any"), "", (source, destination, _NONE)
        return
    for protocol in entry.protocols:
        if protocol in PORT_PROTOCOLS:
            for port in entry.ports if entry.ports is not None else (ALL_PORTS,):
                yield key("ports"), protocol, (source, destination, port)
        else:
            yield key("protocols"), protocol, (source, destination, _NONE)


def _gathered(keys: t.Iterable[_Key]) -> dict[_Key, _Key]:
    """Say which keys give way to one with the names of interfaces in its set: where many differ in these only."""
    alike: dict[_Key, list[_Key]] = {}
    for key in keys:
        # Patterns stay outside: in a set they would overlap with names.
        if (key.iifs or key.oifs) and not any(name.endswith("*") for name in key.iifs + key.oifs):
            alike.setdefault(key.with_names(), []).append(key)
    return {
        key: shared
        for shared, given in alike.items()
        if len(given) >= MANY_PAIRS and shared.length <= LONGEST_KEY
        for key in given
    }


def runs(entries: t.Sequence[Entry]) -> list[list[Entry]]:
    """Group neighbours with the same verdict. A verdict with a limit is never shared between rules."""
    result: list[list[Entry]] = []
    for entry in entries:
        last = result[-1][-1] if result else None
        alone = entry.verdict.limit is not None or entry.verdict.log is not None
        if last is not None and last.verdict == entry.verdict and (not alone or last.rule == entry.rule):
            result[-1].append(entry)
        else:
            result.append([entry])
    return result


def _element(key: _Key, words: _Words, box: _intervals.Box) -> tuple[str, bool]:
    """Write one set element; also tell whether it is an interval in any field."""
    source, destination, port = box
    iif, oif, protocol = words
    parts = [f'"{name}"' for name in (iif, oif) if name]
    interval = False
    family = key.family or 4
    for present, value in ((key.source, source), (key.destination, destination)):
        if present:
            parts.append(_intervals.address_text(value, family))
            interval = interval or value[0] != value[1]
    if key.protocol != "any":
        parts.append(protocol_text(protocol))
    if key.protocol == "ports":
        parts.append(_intervals.number_text(port))
        interval = interval or port[0] != port[1]
    return " . ".join(parts), interval


def _expression(key: _Key) -> tuple[str, str]:
    """Give the lookup expression and the set's type."""
    name = "ip" if key.family == 4 else "ip6"
    kind = "ipv4_addr" if key.family == 4 else "ipv6_addr"
    fields = []
    if key.iif:
        fields.append(("iifname", "ifname"))
    if key.oif:
        fields.append(("oifname", "ifname"))
    if key.source:
        fields.append((f"{name} saddr", kind))
    if key.destination:
        fields.append((f"{name} daddr", kind))
    if key.protocol != "any":
        fields.append(("meta l4proto", "inet_proto"))
    if key.protocol == "ports":
        fields.append(("th dport", "inet_service"))
    return " . ".join(field[0] for field in fields), " . ".join(field[1] for field in fields)


def _suffix(key: _Key) -> str:
    parts = ["interfaces"] if key.iif or key.oif else []
    parts += [] if key.family is None else [f"v{key.family}"]
    parts += ["to_address"] if key.destination else []
    parts += {"ports": [], "protocols": ["protocols"], "any": ["any"]}[key.protocol]
    return "_".join(parts) or "ports"


def _statements(match: str, verdict: Verdict, stateful: bool, comment: str, endings: Endings) -> list[str]:
    """Write the rules that a match ends in."""
    start = f"{match} " if match else ""
    rules = []
    if verdict.log is not None and stateful:
        rules.append(f'{start}limit rate 10/second burst 20 packets log prefix "{verdict.log}"')
    if verdict.action == "accept" and verdict.limit is not None and stateful:
        limit = verdict.limit
        rules.append(f"{start}limit rate {limit.rate}/{limit.unit} burst {limit.burst} packets {endings.accept}{comment}")
        rules.append(f"{start}{endings.drop}{comment}")
    elif verdict.action == "reject":
        tcp = start.replace("meta l4proto tcp ", "")
        rules.append(f"{tcp}meta l4proto tcp counter reject with tcp reset{comment}")
        rules.append(f"{start}counter reject with icmpx admin-prohibited{comment}")
    elif verdict.action == "drop":
        rules.append(f"{start}{endings.drop}{comment}")
    else:
        rules.append(f"{start}{endings.accept}{comment}")
    return rules


def default_rules(action: str, log: str | None, endings: Endings = DECIDES) -> list[str]:
    """Write the end of a chain: what happens to traffic that no rule named. Only what is refused is logged."""
    return _statements("", Verdict(action, None if action == "accept" else log), True, "", endings)


def _rule_numbers(entries: t.Sequence[Entry]) -> str:
    """Name the policy entries behind a rule, for whoever reads the live ruleset."""
    numbers = _intervals.merge((entry.rule, entry.rule) for entry in entries)
    text = ",".join(_intervals.number_text(number) for number in numbers)
    text = text if len(text) <= 60 else text[:57] + "..."
    text = f"docker_firewall_rules[{text}]"
    if len({entry.rule for entry in entries}) == 1 and entries[0].comment:
        # The kernel keeps at most 128 bytes of a comment.
        text = f"{text} {entries[0].comment}".encode()[:120].decode("utf-8", "ignore")
    return f' comment "{text}"'


def _grouped(entries: t.Sequence[Entry]) -> tuple[_Boxes, dict[_Key, list[Entry]]]:
    """Collect what goes into one set each, and the entries it is from."""
    cut = [(entry, *parts) for entry in entries for parts in _split(entry)]
    gathered = _gathered(dict.fromkeys(key for _entry, key, _protocol, _box in cut))
    boxes: _Boxes = {}
    by_key: dict[_Key, list[Entry]] = {}
    for entry, key, protocol, box in cut:
        shared = gathered.get(key, key)
        by_key.setdefault(shared, []).append(entry)
        for iif in key.iifs if shared.iif else ("",):
            for oif in key.oifs if shared.oif else ("",):
                boxes.setdefault(shared, {}).setdefault((iif, oif, protocol), []).append(box)
    return boxes, by_key


def _run(
    prefix: str, entries: t.Sequence[Entry], sets: list[Set], stateful: bool, extra: str, endings: Endings
) -> list[str]:
    grouped, by_key = _grouped(entries)
    rules: list[str] = []
    used: dict[str, int] = {}
    for key, words in grouped.items():
        expression, kind = _expression(key)
        match = f"iifname {quoted(key.iifs)} " if key.iifs else ""
        match += f"oifname {quoted(key.oifs)} " if key.oifs else ""
        match += extra
        if key.family is not None and not key.source and not key.destination:
            match += f"meta nfproto ipv{key.family} "
        if expression:
            written = [
                _element(key, word, box) for word in sorted(words) for box in _intervals.disjoint(words[word])
            ]
            name = f"{prefix}_{_suffix(key)}"
            used[name] = used.get(name, 0) + 1
            name = name if used[name] == 1 else f"{name}_{used[name]}"
            sets.append(Set(name, kind, tuple(item[0] for item in written), any(item[1] for item in written)))
            match += f"{expression} @{name}"
        rules += _statements(match.strip(), entries[0].verdict, stateful, _rule_numbers(by_key[key]), endings)
    return rules


def compile_entries(
    prefix: str,
    entries: t.Sequence[Entry],
    sets: list[Set],
    stateful: bool = True,
    extra: str = "",
    endings: Endings = DECIDES,
) -> list[str]:
    """Turn entries into rules; the sets they look up are appended to `sets`.

    `prefix` starts every set's name. With `stateful` False, logs and limits are left
    out: for a second layer that sees again what a first one has logged and counted.
    `extra` is an nft expression that every rule starts with, `endings` what it ends in.
    """
    rules: list[str] = []
    grouped = runs(entries)
    for number, run in enumerate(grouped, start=1):
        name = prefix if len(grouped) == 1 else f"{prefix}_{number}"
        rules += _run(name, run, sets, stateful, extra, endings)
    return rules
