# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the variables of the role nftables_conf, and the tables its template writes.

Knows no host: what is free or in the way there is asked by its caller. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _compat,
    _iptables_readable,
    _layout,
    _nft_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import Carry
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy

#: The base chains of iptables-nft that the file declares, as iptables 1.8.9 to 1.8.13 make them (iptables/nft.c).
FILTER_BASES = (("INPUT", "input", 0), ("FORWARD", "forward", 0), ("OUTPUT", "output", 0))
NAT_BASES = (
    ("PREROUTING", "prerouting", -100),
    ("INPUT", "input", 100),
    ("OUTPUT", "output", -100),
    ("POSTROUTING", "postrouting", 100),
)

CHAINS = ("INPUT", "FORWARD", "OUTPUT", "DOCKER-USER")
POLICIES = ("keep", "accept", "drop")
FAMILIES = {"ipv4": ("ip",), "ipv6": ("ip6",), "both": ("ip", "ip6")}
SERVICES = ("firewalld", "ufw")
#: What the file's own tables may write for the mark that containers' packets carry.
DOCKER_MARK = "$docker_mark"

_RULE_KEYS = {"chain", "rule", "family"}
_NOT_IN_A_RULE = re.compile(r"[\n\r;{}#\\\"]|\binclude\b|\bdefine\b")
_WHY = {"{": "a set", "}": "a set", "#": "a comment sign", ";": "a second statement", '"': "half a pair of quotes"}
_OF_ONE_FAMILY = re.compile(r"\b(?:ip|icmp)(6|v6)? (?:saddr|daddr|protocol|nexthdr|ttl|hoplimit|frag-off|type|code)\b")
_INCLUDE = re.compile(r"^/[A-Za-z0-9_./*?\[\]@:+-]+\Z")
_MAX_RULE = 500


@dataclass(frozen=True)
class RawRule:
    """One rule in nft's own words, for chains of iptables' filter tables."""

    index: int
    chain: str
    families: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Conf:
    """The role's variables, checked."""

    layout: str = _layout.OWN_TABLE
    table: str = _layout.DEFAULT_TABLE
    mark_bit: int = 0
    forward_policy: str = "keep"
    output_policy: str = "keep"
    rules: tuple[RawRule, ...] = ()
    tables: str = ""
    includes: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    legacy: str = "refuse"

    @property
    def compat(self) -> bool:
        """Tell whether chains of iptables are used."""
        return self.layout == _layout.IPTABLES_COMPAT


class ConfError(Exception):
    """The variables are wrong; `errors` holds one sentence for each mistake."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass
class _Reader:
    values: t.Mapping[str, t.Any]
    errors: list[str] = field(default_factory=list)

    def choice(self, name: str, accepted: t.Sequence[str], default: str) -> str:
        value = self.values.get(name, default)
        if value not in accepted:
            self.errors.append(f"nftables_conf_{name}: accepted are {', '.join(accepted)}, not {value!r:.60}")
            return default
        return str(value)

    def listed(self, name: str) -> list[t.Any]:
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            self.errors.append(f"nftables_conf_{name}: a list is needed, not {type(value).__name__}")
            return []
        return list(value)


def read(values: t.Mapping[str, t.Any]) -> Conf:
    """Check the variables, named without their prefix; raises ConfError with every mistake."""
    reader = _Reader(values)
    layout = reader.choice("layout", _layout.LAYOUTS, _layout.OWN_TABLE)
    table = str(values.get("table", _layout.DEFAULT_TABLE))
    conf = Conf(
        layout=layout,
        table=table,
        mark_bit=_mark_bit(values.get("mark_bit", 0), reader.errors),
        forward_policy=reader.choice("forward_policy", POLICIES, "keep"),
        output_policy=reader.choice("output_policy", POLICIES, "keep"),
        rules=tuple(_rules(reader)),
        tables=_tables(values.get("tables", ""), table, reader.errors),
        includes=tuple(_includes(reader)),
        replaces=tuple(_services(reader)),
        legacy=reader.choice("legacy", ("refuse", "keep", "move"), "refuse"),
    )
    if not conf.compat:
        for name in ("rules", "forward_policy", "output_policy"):
            if values.get(name) not in (None, [], "keep"):
                reader.errors.append(f"nftables_conf_{name}: this needs nftables_conf_layout: iptables_compat")
        if DOCKER_MARK in conf.tables:
            reader.errors.append(f"nftables_conf_tables: {DOCKER_MARK} needs nftables_conf_layout: iptables_compat")
    if reader.errors:
        raise ConfError(reader.errors)
    return conf


def _mark_bit(value: t.Any, errors: list[str]) -> int:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 32 or number & (number - 1):
        errors.append(
            "nftables_conf_mark_bit: accepted are 0, for a bit that is free on the host, or a number with one bit"
            f" set such as 0x10000000, not {value!r:.60}"
        )
        return 0
    return number


def _rules(reader: _Reader) -> t.Iterator[RawRule]:
    for index, item in enumerate(reader.listed("rules")):
        path = f"nftables_conf_rules[{index}]"
        if not isinstance(item, dict):
            reader.errors.append(f"{path}: a mapping with chain and rule is needed, not {type(item).__name__}")
            continue
        unknown = sorted(str(key) for key in set(item) - _RULE_KEYS)
        if unknown:
            reader.errors.append(f"{path}: accepted are chain, rule and family, not {', '.join(unknown)[:60]}")
        chain, family, text = item.get("chain"), item.get("family", "both"), item.get("rule")
        if chain not in CHAINS:
            reader.errors.append(f"{path}.chain: accepted are {', '.join(CHAINS)}, not {chain!r:.60}")
        if family not in FAMILIES:
            reader.errors.append(f"{path}.family: accepted are {', '.join(FAMILIES)}, not {family!r:.60}")
        if not isinstance(text, str) or not text.strip() or len(text) > _MAX_RULE:
            reader.errors.append(f"{path}.rule: a rule in nft's words of at most {_MAX_RULE} characters is needed")
            continue
        if text.lstrip().startswith("-"):
            reader.errors.append(
                f"{path}.rule: this is a rule in iptables' words; iptables-translate says it in nft's, of which the part"
                " behind the chain belongs here"
            )
            continue
        unquoted = re.sub(r'"[^"\n]*"', " ", text)
        found = _NOT_IN_A_RULE.search(unquoted)
        if found:
            what = _WHY.get(found.group(0), repr(found.group(0)))
            reader.errors.append(
                f"{path}.rule: {what} cannot stand in a chain that iptables tools read; write several rules, or put it"
                " into a table of your own in nftables_conf_tables"
            )
            continue
        hidden = _iptables_readable.check_source(text)
        if hidden:
            reader.errors.append(
                f"{path}.rule: iptables tools read '{', '.join(hidden)[:60]}' as something else; say the same with"
                " ip protocol or the port's own match"
            )
            continue
        other = _other_family(unquoted, family)
        if other:
            reader.errors.append(f"{path}.family: the rule matches {other} only; set family: {other}")
            continue
        if chain in CHAINS and family in FAMILIES:
            yield RawRule(index, chain, FAMILIES[family], text.strip())


def _other_family(rule: str, family: t.Any) -> str:
    """Name the family that a rule is for by its words, where that is not the one it shall be loaded for."""
    named = {"ipv6" if six else "ipv4" for six in _OF_ONE_FAMILY.findall(rule)}
    return named.pop() if len(named) == 1 and family in FAMILIES and family not in named else ""


def _tables(value: t.Any, own: str, errors: list[str]) -> str:
    """Give the text with each table in it made new whenever the file is loaded."""
    if value is None:
        return ""
    if not isinstance(value, str):
        errors.append(f"nftables_conf_tables: text in nft's words is needed, not {type(value).__name__}")
        return ""
    lines = []
    try:
        statements = list(_nft_text.statements(value))
    except _nft_text.TextError as error:
        errors.append(f"nftables_conf_tables, {error}")
        return ""
    for line, words in statements:
        if words[0] != "table" or len(words) != 3:
            errors.append(
                f"nftables_conf_tables, line {line}: only 'table FAMILY NAME {{ ... }}' may stand here,"
                f" not '{' '.join(words)[:60]}'"
            )
        elif _compat.is_shared(words[1], words[2]):
            errors.append(
                f"nftables_conf_tables, line {line}: table {words[1]} {words[2]} is managed by iptables tools too;"
                " nftables_conf_rules is the place for rules in it"
            )
        elif words[1:] == ["inet", own]:
            errors.append(
                f"nftables_conf_tables, line {line}: table inet {own} is the policy's own; the docker_firewall_*"
                " variables are the place for rules in it"
            )
        else:
            lines += [f"table {words[1]} {words[2]}", f"delete table {words[1]} {words[2]}"]
    return "\n".join([*dict.fromkeys(lines), value.strip()]) if lines else ""


def _includes(reader: _Reader) -> t.Iterator[str]:
    for index, item in enumerate(reader.listed("includes")):
        if isinstance(item, str) and _INCLUDE.match(item):
            yield item
        else:
            reader.errors.append(
                f"nftables_conf_includes[{index}]: an absolute path is needed, patterns allowed, not {item!r:.60}"
            )


def _services(reader: _Reader) -> t.Iterator[str]:
    for item in reader.listed("replaces"):
        if item in SERVICES:
            yield item
        else:
            reader.errors.append(f"nftables_conf_replaces: accepted are {', '.join(SERVICES)}, not {item!r:.60}")


def conflicts(conf: Conf, policy: Policy, backend: str | None) -> list[str]:
    """List what the file and the policy cannot both have."""
    if not conf.compat or conf.forward_policy != "drop":
        return []
    found = []
    allowed = [rule.path for rule in policy.rules if rule.target == "routed" and rule.action == "accept"]
    if policy.routed_default == "accept":
        allowed.append("docker_firewall_routed_default")
    if allowed:
        found.append(
            "nftables_conf_forward_policy: drop would also cut what may be routed between outside interfaces"
            f" ({', '.join(allowed[:5])}), because nothing that iptables can read lets the answers back; leave it at"
            " keep or accept, the own table drops what the policy does not allow"
        )
    if backend == "nftables":
        found.append(
            "nftables_conf_forward_policy: drop would cut every container, because Docker's nftables backend accepts"
            " in tables of its own and a drop in another one is final; leave it at keep or accept"
        )
    return found


def layout(conf: Conf, policy: Policy, mark_bit: int, docker_bit: int) -> Layout:
    """Give what the host has to remember."""
    if not conf.compat:
        return Layout(_layout.OWN_TABLE, conf.table)
    policies = ["INPUT"]
    policies += [] if conf.forward_policy == "keep" else ["FORWARD"]
    policies += [] if conf.output_policy == "keep" else ["OUTPUT"]
    return Layout(
        _layout.IPTABLES_COMPAT,
        conf.table,
        mark_bit,
        docker_bit,
        drops_input=policy.host_default == "accept",
        output=conf.output_policy == "drop",
        policies=tuple(policies),
    )


def carry(found: Layout | None) -> Carry | None:
    """Give the bits that the own table writes on a host with this layout."""
    if found is None or found.layout != _layout.IPTABLES_COMPAT:
        return None
    return Carry(found.mark_bit, found.docker_bit, found.output, found.drops_input)


def tables(conf: Conf, policy: Policy, found: Layout) -> list[dict[str, t.Any]]:
    """Give the tables of iptables as the template writes them."""
    if not conf.compat:
        return []
    stated = {"INPUT": "accept" if policy.host_default == "accept" else "drop"}
    stated.update({"FORWARD": conf.forward_policy, "OUTPUT": conf.output_policy})
    result = []
    for family in ("ip", "ip6"):
        own = {name: _own_rules(conf, found, family, name) for name in CHAINS}
        result.append(
            {
                "family": family,
                "name": "filter",
                "type": "filter",
                "bases": [
                    {"name": name, "hook": hook, "priority": priority, "policy": _stated(stated[name])}
                    for name, hook, priority in FILTER_BASES
                ],
                "plain": ["DOCKER-USER"],
                "own": [{"name": f"BULKHEAD-{name}", "from": name, "rules": rules} for name, rules in own.items() if rules],
            }
        )
    for family in ("ip", "ip6"):
        bases = [{"name": name, "hook": hook, "priority": value, "policy": None} for name, hook, value in NAT_BASES]
        result.append({"family": family, "name": "nat", "type": "nat", "bases": bases, "plain": [], "own": []})
    return result


def _stated(policy: str) -> str | None:
    return None if policy == "keep" else policy


def _own_rules(conf: Conf, found: Layout, family: str, chain: str) -> list[str]:
    rules = [_commented(rule) for rule in conf.rules if rule.chain == chain and family in rule.families]
    marked = f"meta mark & {found.mark_bit:#010x} == {found.mark_bit:#010x} counter"
    decided = f"decided in table inet {found.table}"
    if chain == "INPUT" or (chain == "OUTPUT" and found.output):
        rules.append(f'{marked} accept comment "{decided}"')
    if chain == "DOCKER-USER":
        rules.append(f'{marked} drop comment "{decided}"')
    return rules


def _commented(rule: RawRule) -> str:
    """Let the rule say where it comes from, unless it says something itself."""
    return rule.text if " comment " in rule.text else f'{rule.text} comment "nftables_conf_rules[{rule.index}]"'
