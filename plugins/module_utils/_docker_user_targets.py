# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets of iptables as statements of nft.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user import Mark
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import (
    number,
    protocol_number,
    value_and_mask,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import Option, Rule, RuleError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import ALL
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_words import quotable

_TCP_RESET = "tcp-reset"
_REJECTS = {
    4: {
        "icmp-net-unreachable": "icmp type net-unreachable",
        "icmp-host-unreachable": "icmp type host-unreachable",
        "icmp-proto-unreachable": "icmp type prot-unreachable",
        "icmp-port-unreachable": "icmp type port-unreachable",
        "icmp-net-prohibited": "icmp type net-prohibited",
        "icmp-host-prohibited": "icmp type host-prohibited",
        "icmp-admin-prohibited": "icmp type admin-prohibited",
    },
    6: {
        "icmp6-no-route": "icmpv6 type no-route",
        "icmp6-adm-prohibited": "icmpv6 type admin-prohibited",
        "icmp6-addr-unreachable": "icmpv6 type addr-unreachable",
        "icmp6-port-unreachable": "icmpv6 type port-unreachable",
        "icmp6-policy-fail": "icmpv6 type policy-fail",
        "icmp6-reject-route": "icmpv6 type reject-route",
    },
}
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
_LOG_FLAGS = {
    "--log-tcp-sequence": "flags tcp sequence",
    "--log-tcp-options": "flags tcp options",
    "--log-ip-options": "flags ip options",
    "--log-uid": "flags skuid",
    "--log-macdecode": "flags ether",
}


def set_bits(key: str, keep: int, turn: int, source: str = "") -> str:
    """Write a mark: of the old one, or of `source`, the bits to keep, and then some of them turned over."""
    if keep == 0:
        return f"{key} set {turn:#x}"
    kept = f"{source or key} & {keep:#x}" if keep != ALL else source or key
    return f"{key} set {kept}" + (f" {'^' if turn & keep else '|'} {turn:#x}" if turn else "")


def accept_marked(mark: Mark) -> str:
    """Accept, and have Docker accept."""
    return f"{set_bits('meta mark', ALL & ~mark.mask, mark.value)} accept"


def carries(mark: Mark) -> str:
    """Whether a packet has been accepted so."""
    return f"meta mark {mark.value:#x}" if mark.mask == ALL else f"meta mark & {mark.mask:#x} == {mark.value:#x}"


@dataclass(frozen=True)
class Targets:
    """Writes targets of one family. `accept` is what ACCEPT becomes; `guarded` has the bits that are not the user's."""

    family: int
    accept: str
    guarded: int = 0

    def statements(self, rule: Rule) -> str:
        """What a rule does to a packet; empty for one that only counts."""
        writers: dict[str, t.Callable[[Rule], str]] = {
            "ACCEPT": lambda _rule: self.accept,
            "CONNMARK": self._connmark,
            "DROP": lambda _rule: "drop",
            "LOG": _log,
            "MARK": self._mark,
            "NFLOG": _nflog,
            "REJECT": self._reject,
            "RETURN": lambda _rule: "return",
        }
        return writers[rule.target](rule) if rule.target else ""

    def _reject(self, rule: Rule) -> str:
        given = rule.options[0].value if rule.options else f"icmp{'6' if self.family == 6 else ''}-port-unreachable"
        if given == _TCP_RESET:
            if rule.protocol is None or protocol_number(rule.protocol) != 6:
                raise RuleError("--reject-with tcp-reset needs -p tcp")
            return "reject with tcp reset"
        if given not in _REJECTS[self.family]:
            raise RuleError(f"{given} is no answer of IPv{self.family}")
        return f"reject with {_REJECTS[self.family][given]}"

    def _mark(self, rule: Rule) -> str:
        if len(rule.options) != 1:
            raise RuleError("MARK without the mark to set")
        keep, turn = _written(rule.options[0])
        if turn & self.guarded:
            raise RuleError(
                f"it sets bits of {self.guarded:#x}, which is what Docker is to accept by; choose another accept mark"
            )
        return set_bits("meta mark", keep, turn)

    def _connmark(self, rule: Rule) -> str:
        names = {option.name for option in rule.options}
        masks = [value_and_mask(option.value)[0] for option in rule.options if option.name in ("--nfmask", "--ctmask")]
        if names & {"--save-mark", "--restore-mark"}:
            if any(mask != ALL for mask in masks) or {"--save-mark", "--restore-mark"} <= names:
                raise RuleError("nftables before 1.1 cannot copy single bits of a mark")
            if "--save-mark" in names:
                return set_bits("ct mark", ALL, 0, "meta mark")
            # A connection may remember that a packet of it was accepted. That is not the user's doing.
            return set_bits("meta mark", ALL & ~self.guarded, 0, "ct mark")
        if len(rule.options) != 1 or masks:
            raise RuleError("CONNMARK without the mark to set")
        return set_bits("ct mark", *_written(rule.options[0]))


def _written(option: Option) -> tuple[int, int]:
    """The bits that stay, and those that are turned over then."""
    value, mask = value_and_mask(option.value)
    if option.name == "--set-xmark":
        return ALL & ~mask, value
    if option.name == "--set-mark":
        return ALL & ~(mask | value), value
    if option.name == "--and-mark":
        return value, 0
    if option.name == "--or-mark":
        return ALL & ~value, value
    return ALL, value


def _log(rule: Rule) -> str:
    found = ["log"]
    for option in rule.options:
        if option.name == "--log-prefix":
            found.append(f"prefix {_prefix(option.value)}")
        elif option.name == "--log-level":
            found.append(f"level {_LEVELS[number(option.value, 7, 'the level')]}")
        else:
            found.append(_LOG_FLAGS[option.name])
    return " ".join(found)


def _nflog(rule: Rule) -> str:
    given = {option.name: option.value for option in rule.options}
    found = ["log"]
    if given.get("--nflog-prefix"):
        found.append(f"prefix {_prefix(given['--nflog-prefix'])}")
    found.append(f"group {number(given.get('--nflog-group', '0'), 65535, 'the group')}")
    if "--nflog-size" in given:
        found.append(f"snaplen {number(given['--nflog-size'], ALL, 'the size')}")
    if "--nflog-threshold" in given:
        found.append(f"queue-threshold {number(given['--nflog-threshold'], 65535, 'the threshold')}")
    return " ".join(found)


def _prefix(text: str) -> str:
    if not quotable(text):
        raise RuleError(f"nft cannot write the prefix {text!r}")
    return f'"{text}"'


def overwritten(rule: Rule) -> int:
    """The bits of a packet's mark that a rule changes."""
    if rule.target == "MARK":
        keep, turn = _written(rule.options[0])
        return (ALL & ~keep) | turn
    if rule.target == "CONNMARK" and any(option.name == "--restore-mark" for option in rule.options):
        masks = [value_and_mask(option.value)[0] for option in rule.options if option.name == "--nfmask"]
        return masks[0] if masks else ALL
    return 0
