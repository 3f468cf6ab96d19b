# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses packet marks by what iptables-save and ip print.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import (
    ALL,
    OWN_CHAINS,
    MarkUse,
    is_own,
    number_of,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset

#: Matches and targets of iptables and ebtables that read or write marks.
_XT_NAMES = ("MARK", "mark", "CONNMARK", "connmark", "TPROXY", "mark_m")
#: What follows these may be anything at all, also what looks like an option.
_FREE_TEXT = (
    "--comment",
    "--log-prefix",
    "--nflog-prefix",
    "--ulog-prefix",
    "--string",
    "--hex-string",
    "--name",
    "--hashlimit-name",
    "--helper",
    "--match-set",
    "--label",
    "--led-trigger-id",
    "--path",
    "-i",
    "-o",
)
_XFRM_MARK = re.compile(r"\b((?:output-)?mark) (0x[0-9a-fA-F]+|\d+)(?:/(0x[0-9a-fA-F]+|\d+))?")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+")

_Found = Iterator["tuple[int | None, int, bool]"]


def xt_families(ruleset: Ruleset, own_table: str) -> set[str]:
    """The families with rules whose marks only the save tools can tell."""
    return {
        table.family
        for table in ruleset.tables
        for chain in table.chains
        if not is_own(table, chain.name, own_table) and any(_has_xt_mark(rule) for rule in chain.rules)
    }


def _has_xt_mark(rule: Rule) -> bool:
    parts = [statement.get("xt") for statement in rule.expr if isinstance(statement, dict)]
    return any(isinstance(xt, dict) and xt.get("name") in _XT_NAMES for xt in parts)


def uses_in_xt_rules(ruleset: Ruleset, family: str, saved: str, own_table: str) -> list[MarkUse]:
    """Who uses marks in rules of iptables' own kind, by the text of the save tool of that family.

    The first rule of a chain is its first line. A table with rules that iptables cannot read is not in the text, and
    neither is one where the count differs: there the numbers in nft's own text have to do.
    """
    lines = saved_rules(saved)
    found = []
    for table in ruleset.tables:
        if table.family != family:
            continue
        for chain in table.chains:
            if is_own(table, chain.name, own_table):
                continue
            texts = lines.get((table.name, chain.name), [])
            for number, rule in enumerate(chain.rules):
                if _has_xt_mark(rule):
                    where = f"{table.label} {chain.name} handle {rule.handle}"
                    found.extend(_uses(where, texts[number]) if _joins(chain, texts) else _guessed(where, rule))
    return found


def _joins(chain: Chain, texts: list[str]) -> bool:
    return len(texts) == len(chain.rules)


def _guessed(where: str, rule: Rule) -> list[MarkUse]:
    """A mask of many bits is one of bits that stay, so the others count."""
    text = rule.text or f"handle {rule.handle}"
    mask = 0
    for number in _NUMBER.findall(text.partition("mark")[2]):
        bits = int(number, 16) & ALL
        mask |= bits if bin(bits).count("1") <= 16 else ALL & ~bits
    return [MarkUse(where, None, mask, text, whole=not mask)]


def uses_in_legacy_rules(family: str, lines: list[str]) -> list[MarkUse]:
    """Who uses marks in rules of the old xtables, from lines as `legacy_lines` gives them."""
    found = []
    for line in lines:
        words = line.split(None, 4)
        if len(words) == 5 and words[2] == "-A" and not words[3].startswith(OWN_CHAINS):
            found.extend(_uses(f"legacy {family} {words[1]} {words[3]}", line))
    return found


def saved_rules(saved: str) -> dict[tuple[str, str], list[str]]:
    """The rules in the text of a save tool, by table and chain."""
    found: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A "):
            found.setdefault((table, (line.split(None, 2) + ["", ""])[1]), []).append(line)
    return found


def _uses(where: str, line: str) -> list[MarkUse]:
    return [MarkUse(where, value, mask, line, whole) for value, mask, whole in marks_in_words(_words(line))]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def marks_in_words(words: list[str]) -> _Found:
    """Value, mask and whether it is the whole mark, for each match and target of a rule that has to do with marks."""
    rest = list(words)
    copies, masks = False, 0
    while rest:
        word = rest.pop(0)
        if word in _FREE_TEXT:
            del rest[:1]
        elif word in ("--save-mark", "--restore-mark"):
            copies = True
        elif word in ("--nfmask", "--ctmask", "--mask") and rest:
            masks |= number_of(rest.pop(0)) or 0
        elif word in _OPTIONS and rest:
            value, slash, mask = rest.pop(0).partition("/")
            number, limit = number_of(value), number_of(mask) if slash else ALL
            yield (None, 0, True) if number is None or limit is None else _OPTIONS[word](number, limit)
    if copies:
        yield (None, 0, True) if masks in (0, ALL) else (None, masks, False)


def _compared(value: int, mask: int) -> tuple[int | None, int, bool]:
    return (value, value, True) if mask == ALL else (value, mask, False)


def _set(value: int, mask: int) -> tuple[int | None, int, bool]:
    if mask == ALL:
        return value, value, True
    # What is outside the mask is turned over, not set.
    return (None if value & ~mask else value), mask | value, False


_OPTIONS = {
    "--mark": _compared,
    "--set-xmark": _set,
    "--set-mark": _set,
    "--tproxy-mark": _set,
    "--mark-set": _set,
    "--and-mark": lambda bits, _mask: (0, ALL & ~bits, False),
    "--mark-and": lambda bits, _mask: (0, ALL & ~bits, False),
    "--or-mark": lambda bits, _mask: (bits, bits, False),
    "--mark-or": lambda bits, _mask: (bits, bits, False),
    "--xor-mark": lambda bits, _mask: (None, bits, False),
    "--mark-xor": lambda bits, _mask: (None, bits, False),
}


def uses_in_ip_rules(printed: str, command: str = "ip rule") -> list[MarkUse]:
    """Who chooses a routing table by a mark, from `ip -j rule`; nothing where that is no such list."""
    try:
        rules = json.loads(printed or "[]")
    except ValueError:
        return []
    found = []
    for rule in rules if isinstance(rules, list) else []:
        if not isinstance(rule, dict) or "fwmark" not in rule:
            continue
        value, mask = _printed(rule["fwmark"]), _printed(rule.get("fwmask", ALL))
        if value is not None and mask is not None:
            text = f"fwmark {value:#x}/{mask:#x} lookup {rule.get('table', '')}".strip()
            _value, bits, whole = _compared(value, mask)
            found.append(MarkUse(f"{command} {rule.get('priority')}", value, bits, text, whole))
    return found


def _printed(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    return value & ALL if isinstance(value, int) else number_of(str(value))


def uses_in_xfrm(printed: str) -> list[MarkUse]:
    """Who uses marks for IPsec, from `ip xfrm policy` and `ip xfrm state`; of those only what is no secret."""
    found = []
    selector, where = "", "xfrm state"
    for line in printed.splitlines():
        if line.startswith("src "):
            selector, where = " ".join(line.split()), "xfrm state"
        elif line.startswith(("\tdir ", "\tsocket ")):
            where = "xfrm policy"
        for kind, value, mask in _XFRM_MARK.findall(line) if line.startswith("\t") else ():
            number, limit = number_of(value), number_of(mask) if mask else ALL
            if number is not None and limit is not None and (number or limit):
                _value, bits, whole = _compared(number, limit)
                text = f"{selector} {kind} {number:#x}/{limit:#x}"
                found.append(MarkUse(where, number, bits, text, whole))
    return found
