# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rule of iptables-save as a value: its matches with their options, and where it leads.

Private to the collection: not meant to be used from anywhere else. May change at any time.

How many words an option takes has to be known: what follows it may be anything, also what looks like an option. So an
option that is not listed here ends the reading, and the rule is not translated.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import SaveError, words

#: What a rule has without a match of its own.
BASIC = {"-s": 1, "-d": 1, "-i": 1, "-o": 1, "-p": 1, "-f": 0}
_PORTS = {"--sport": 1, "--dport": 1}
MATCHES: dict[str, dict[str, int]] = {
    "addrtype": {"--src-type": 1, "--dst-type": 1, "--limit-iface-in": 0, "--limit-iface-out": 0},
    "comment": {"--comment": 1},
    "connmark": {"--mark": 1},
    "conntrack": {
        "--ctstate": 1,
        "--ctproto": 1,
        "--ctorigsrc": 1,
        "--ctorigdst": 1,
        "--ctreplsrc": 1,
        "--ctrepldst": 1,
        "--ctorigsrcport": 1,
        "--ctorigdstport": 1,
        "--ctreplsrcport": 1,
        "--ctrepldstport": 1,
        "--ctstatus": 1,
        "--ctdir": 1,
    },
    "dccp": _PORTS,
    "dscp": {"--dscp": 1},
    "hl": {"--hl-eq": 1, "--hl-lt": 1, "--hl-gt": 1},
    "icmp": {"--icmp-type": 1},
    "icmp6": {"--icmpv6-type": 1},
    "iprange": {"--src-range": 1, "--dst-range": 1},
    "length": {"--length": 1},
    "limit": {"--limit": 1, "--limit-burst": 1},
    "mac": {"--mac-source": 1},
    "mark": {"--mark": 1},
    "multiport": {"--sports": 1, "--dports": 1, "--ports": 1},
    "pkttype": {"--pkt-type": 1},
    "sctp": _PORTS,
    "set": {"--match-set": 2},
    "state": {"--state": 1},
    "tcp": {**_PORTS, "--tcp-flags": 2},
    "tos": {"--tos": 1},
    "ttl": {"--ttl-eq": 1, "--ttl-lt": 1, "--ttl-gt": 1},
    "udp": _PORTS,
    "udplite": _PORTS,
}
TARGETS: dict[str, dict[str, int]] = {
    "ACCEPT": {},
    "CONNMARK": {
        "--set-xmark": 1,
        "--set-mark": 1,
        "--and-mark": 1,
        "--or-mark": 1,
        "--xor-mark": 1,
        "--save-mark": 0,
        "--restore-mark": 0,
        "--nfmask": 1,
        "--ctmask": 1,
    },
    "DROP": {},
    "LOG": {
        "--log-prefix": 1,
        "--log-level": 1,
        "--log-tcp-sequence": 0,
        "--log-tcp-options": 0,
        "--log-ip-options": 0,
        "--log-uid": 0,
        "--log-macdecode": 0,
    },
    "MARK": {"--set-xmark": 1, "--set-mark": 1, "--and-mark": 1, "--or-mark": 1, "--xor-mark": 1},
    "NFLOG": {"--nflog-prefix": 1, "--nflog-group": 1, "--nflog-size": 1, "--nflog-threshold": 1},
    "REJECT": {"--reject-with": 1},
    "RETURN": {},
}


class RuleError(ValueError):
    """A rule cannot be translated; the message is why."""


@dataclass(frozen=True)
class Option:
    """One option, with the words it takes."""

    name: str
    values: tuple[str, ...] = ()
    negated: bool = False

    @property
    def value(self) -> str:
        return self.values[0]


@dataclass(frozen=True)
class Match:
    """One match with its options in their order; the name is empty for what needs none."""

    name: str
    options: tuple[Option, ...]

    def one(self, name: str) -> Option | None:
        """The option of that name."""
        return next((option for option in self.options if option.name == name), None)


@dataclass(frozen=True)
class Rule:
    """A rule. `target` is None for one that only counts."""

    line: str
    matches: tuple[Match, ...] = ()
    target: str | None = None
    goto: bool = False
    options: tuple[Option, ...] = ()

    @property
    def protocol(self) -> str | None:
        """The protocol that all its packets have."""
        found = [option for match in self.matches if not match.name for option in match.options if option.name == "-p"]
        return found[0].value if found and not found[0].negated else None

    def all_options(self, name: str) -> list[Option]:
        """The options of all matches of one kind."""
        return [option for match in self.matches if match.name == name for option in match.options]


@dataclass
class _Reader:
    """Takes the words one by one; `target` stays None as long as matches are read."""

    rest: list[str]
    matches: list[tuple[str, list[Option]]] = field(default_factory=lambda: [("", [])])
    target: str | None = None
    goto: bool = False
    options: list[Option] = field(default_factory=list)

    def read(self) -> None:
        negated = False
        while self.rest:
            word = self.rest.pop(0)
            if word == "!":
                negated = True
                continue
            if word == "-m" and self.target is None:
                self._match()
            elif word in ("-j", "-g") and self.target is None:
                self._target(word == "-g")
            else:
                self._option(word, negated)
            negated = False

    def _match(self) -> None:
        (name,) = self._take("-m", 1)
        if name not in MATCHES:
            raise RuleError(f"nftables has nothing that does exactly what the match {name} does")
        self.matches.append((name, []))

    def _target(self, goto: bool) -> None:
        (name,) = self._take("-g" if goto else "-j", 1)
        self.target, self.goto = name, goto

    def _option(self, word: str, negated: bool) -> None:
        if self.target is not None:
            known = TARGETS.get(self.target)
            if known is None:
                raise RuleError(_unknown(self.target))
            if word not in known or negated:
                raise RuleError(f"the option {word} of the target {self.target} cannot be translated")
            self.options.append(Option(word, self._take(word, known[word])))
            return
        name, options = self.matches[-1]
        known = MATCHES[name] if name else BASIC
        if word not in known and word in BASIC:
            (name, options), known = self.matches[0], BASIC
        if word not in known:
            raise RuleError(f"the option {word}{f' of the match {name}' if name else ''} cannot be translated")
        options.append(Option(word, self._take(word, known[word]), negated))

    def _take(self, word: str, number: int) -> tuple[str, ...]:
        if len(self.rest) < number:
            raise RuleError(f"there is nothing behind {word}")
        taken = tuple(self.rest[:number])
        del self.rest[:number]
        return taken


def _unknown(target: str) -> str:
    return f"nftables has nothing that does exactly what the target {target} does here"


def parse_rule(line: str, chains: t.Container[str]) -> Rule:
    """Read one line; `chains` are those that a rule may lead to. Raises RuleError for what is not known."""
    rule = _read(line)
    if rule.target is not None and rule.target not in TARGETS and rule.target not in chains:
        raise RuleError(_unknown(rule.target))
    return rule


@functools.lru_cache(maxsize=65536)
def _read(line: str) -> Rule:
    try:
        rest = words(line)
    except SaveError as exc:
        raise RuleError(str(exc)) from exc
    if len(rest) < 2 or rest[0] != "-A":
        raise RuleError("it is not a rule that iptables-save prints")
    reader = _Reader(rest[2:])
    reader.read()
    matches = tuple(Match(name, tuple(options)) for name, options in reader.matches if name or options)
    return Rule(line, matches, reader.target, reader.goto, tuple(reader.options))


def leads_to(line: str, chains: t.Collection[str]) -> str | None:
    """The target of a rule whose other words may not be known; None where it has none or it cannot be told."""
    try:
        return _read(line).target
    except RuleError:
        pass
    try:
        found = words(line)
    except SaveError:
        return None
    ends = [after for word, after in zip(found, found[1:]) if word in ("-j", "-g")]
    # A comment or a prefix may look like a jump too.
    return next((end for end in ends if end in chains or end in TARGETS), ends[0] if ends else None)
