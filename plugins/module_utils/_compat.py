# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: our chains in tables that iptables tools manage too, and how to replace only those.

Ours are the regular chains whose names start with BULKHEAD-, one jump to each, and the policies the file states.
Everything else in these tables belongs to Docker and other tools and stays where it is. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_listing import ListedChain, ListedRule

PREFIX = "BULKHEAD-"
FAMILIES = ("ip", "ip6")
#: Names that iptables-nft takes for its own (iptables 1.8.13, iptables/nft.c).
TABLES = ("raw", "mangle", "filter", "nat", "security")

#: What such a chain may be called, as its name becomes part of a file's.
_OWN_NAME = re.compile(rf"^{PREFIX}[A-Za-z0-9_-]+\Z")
_REFERENCE = re.compile(r"(?:^| )(?:jump|goto) (\S+)")
_JUMP = re.compile(r"^(?:counter )?jump (\S+)$")
#: Verdicts without a match: what stands behind them is dead.
_LAST = re.compile(r"^(?:counter )?(?:accept|drop|return|reject\b.*|queue\b.*|goto \S+)(?: comment \"[^\"]*\")?$")

TableKey = t.Tuple[str, str]
Chains = t.Mapping[str, "ListedChain"]


@dataclass
class CompatTable:
    """What the file wants in one table: base chains, chains of ours with their rules, and the jumps to them.

    `bases` maps a name to (type, hook, priority); `policies` holds only those that the file states; `plain` are chains
    that have to exist and belong to somebody else, such as DOCKER-USER.
    """

    bases: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    own: dict[str, list[str]] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    jumps: list[tuple[str, str]] = field(default_factory=list)


def releasing(want: CompatTable, released: CompatTable, live: t.Container[str]) -> CompatTable:
    """Give what is wanted, with policies that an earlier file stated and this one does not as `released` says.

    Chains that are gone are not made again for that.
    """
    names = [name for name in released.policies if name in live]
    return replace(
        want,
        bases={**{name: released.bases[name] for name in names}, **want.bases},
        policies={**{name: released.policies[name] for name in names}, **want.policies},
    )


class CompatError(Exception):
    """The file does what it must not do in a table of iptables; `errors` holds one sentence each."""

    def __init__(self, errors: list[str]) -> None:
        unique = list(dict.fromkeys(errors))
        super().__init__("\n  - ".join(["The file is refused; nothing was changed.", *unique]))
        self.errors = unique


def is_shared(family: str, table: str) -> bool:
    """Tell whether iptables tools manage a table of this name."""
    return family in FAMILIES and table in TABLES


def jump_target(rule: ListedRule) -> str | None:
    """Give the chain of ours that a rule jumps to without asking for anything."""
    match = _JUMP.match(rule.text)
    return match.group(1) if match and match.group(1).startswith(PREFIX) else None


def wanted(key: TableKey, chains: Chains, stated: t.Container[str]) -> CompatTable:
    """Take what the file wants from what it became in an empty network namespace.

    `stated` names the base chains whose policy the file states. Raises CompatError where it puts rules of its own
    into chains that are not ours: a reload could not tell them from other people's.
    """
    result = CompatTable()
    errors = []
    for chain in chains.values():
        if chain.name.startswith(PREFIX):
            result.own[chain.name] = chain.texts()
            continue
        if chain.base is not None:
            result.bases[chain.name] = chain.base
            if chain.name in stated:
                result.policies[chain.name] = str(chain.policy)
        else:
            result.plain.append(chain.name)
        for rule in chain.rules:
            target = jump_target(rule)
            if target is None:
                errors.append(
                    f"table {key[0]} {key[1]}, chain {chain.name}: '{rule.text}' stands in a chain that other tools"
                    f" write to; only a jump to a chain {PREFIX}... may stand there"
                )
            else:
                result.jumps.append((chain.name, target))
    errors += [
        f"table {key[0]} {key[1]}: a chain of the file's own is called {PREFIX} and letters, digits, _ and -, not {name}"
        for name in result.own
        if not _OWN_NAME.match(name)
    ]
    errors += _shared_targets(key, result)
    if errors:
        raise CompatError(errors)
    return result


def _shared_targets(key: TableKey, want: CompatTable) -> list[str]:
    """Refuse two ways into one chain: nft would say 'busy' by the one when the other is missing, see jump_texts."""
    rules = [re.sub(r'"[^"]*"', "", rule) for rules in want.own.values() for rule in rules]
    ways = [target for _name, target in want.jumps] + [name for rule in rules for name in _REFERENCE.findall(rule)]
    return [
        f"table {key[0]} {key[1]}: {ways.count(target)} rules lead to chain {target}, which more than one must not where"
        " a chain of iptables jumps to it; give each of them a chain of its own"
        for target in dict.fromkeys(target for _name, target in want.jumps)
        if ways.count(target) > 1
    ]


def _declared(name: str, base: tuple[str, str, str] | None, policy: str | None = None) -> list[str]:
    """Write a chain's declaration; without a policy an existing chain keeps the one it has."""
    lines = [f"\tchain {name} {{"]
    if base is not None:
        stated = f" policy {policy};" if policy else ""
        lines.append(f"\t\ttype {base[0]} hook {base[1]} priority {base[2]};{stated}")
    return [*lines, "\t}"]


def _in_table(key: TableKey, lines: t.Iterable[str]) -> list[str]:
    body = list(lines)
    return [f"table {key[0]} {key[1]} {{", *body, "}"] if body else []


def _place(chain: ListedChain | None) -> int | None:
    """Give the handle of the first rule behind which nothing is reached, None to go to the end."""
    return next((rule.handle for rule in chain.rules if _LAST.match(rule.text)), None) if chain else None


def _alive(chain: ListedChain, jump: ListedRule) -> bool:
    """Tell whether a packet can get as far as the jump."""
    before = chain.rules[: chain.rules.index(jump)]
    return not any(_LAST.match(rule.text) for rule in before)


def _kept(want: CompatTable, chain: ListedChain | None, target: str) -> ListedRule | None:
    """Give the jump that stays: where one is wanted, the first that a packet can get to."""
    if chain is None or (chain.name, target) not in want.jumps:
        return None
    return next((rule for rule in chain.rules if jump_target(rule) == target and _alive(chain, rule)), None)


def _superfluous(want: CompatTable, live: Chains) -> list[tuple[ListedChain, ListedRule, str]]:
    """List the jumps to chains of ours that have to go. Those in our own chains go when these are emptied."""
    return [
        (chain, rule, target)
        for chain in live.values()
        if not chain.name.startswith(PREFIX)
        for rule, target in ((rule, jump_target(rule)) for rule in chain.rules)
        if target is not None and rule is not _kept(want, chain, target)
    ]


@dataclass
class TableChange:
    """What one table needs, as lines of nft.

    `hook` changes no verdict: chains that are missing, empty, and the jumps to them. `fill` is the rest. `said` names
    what differs, for people.
    """

    hook: list[str] = field(default_factory=list)
    fill: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def change(key: TableKey, want: CompatTable, live: Chains) -> TableChange:
    """Compare one table with what it should be."""
    result = TableChange()
    label = f"{key[0]} {key[1]}"
    missing: list[str] = []
    for name, base in want.bases.items():
        if name not in live:
            missing += _declared(name, base)
    for name in [*want.plain, *want.own]:
        if name not in live:
            missing += _declared(name, None)
    result.hook += _in_table(key, missing)
    if missing:
        result.said.append(f"create chains in table {label}")
    _change_jumps(key, want, live, result)
    for name, policy in want.policies.items():
        if name not in live or live[name].policy != policy:
            result.fill += _in_table(key, _declared(name, want.bases[name], policy))
            result.said.append(f"set the policy of chain {name} in table {label} to {policy}")
    for name, rules in want.own.items():
        if name not in live or live[name].texts() != rules:
            result.fill.append(f"flush chain {label} {name}")
            result.fill += _in_table(key, [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}"])
            result.said.append(f"replace chain {name} in table {label}")
    _change_obsolete(key, want, live, result)
    return result


def _change_jumps(key: TableKey, want: CompatTable, live: Chains, result: TableChange) -> None:
    label = f"{key[0]} {key[1]}"
    for name, target in want.jumps:
        chain = live.get(name)
        if _kept(want, chain, target) is None:
            place = _place(chain)
            where = f"insert rule {label} {name} handle {place}" if place is not None else f"add rule {label} {name}"
            result.hook.append(f"{where} counter jump {target}")
            result.said.append(f"jump from {name} to {target} in table {label}")
    for chain, rule, target in _superfluous(want, live):
        result.fill.append(f"delete rule {label} {chain.name} handle {rule.handle}")
        if target in want.own:
            which = "a second" if (chain.name, target) in want.jumps else "the"
            result.said.append(f"remove {which} jump from {chain.name} to {target} in table {label}")


def _change_obsolete(key: TableKey, want: CompatTable, live: Chains, result: TableChange) -> None:
    """Take away chains of ours that are no longer wanted. All are emptied first: they may jump to one another."""
    label = f"{key[0]} {key[1]}"
    obsolete = [name for name in live if name.startswith(PREFIX) and name not in want.own]
    for verb in ("flush", "delete"):
        result.fill += [f"{verb} chain {label} {name}" for name in obsolete]
    result.said += [f"remove chain {name} from table {label}" for name in obsolete]


def _without_hooks(key: TableKey, before: Chains, hooked: Chains) -> list[str]:
    """Write what takes away the jumps that hooking made, which are known by their handles."""
    known = {rule.handle for chain in before.values() for rule in chain.rules}
    return [
        f"delete rule {key[0]} {key[1]} {chain.name} handle {rule.handle}"
        for chain in hooked.values()
        for rule in chain.rules
        if jump_target(rule) is not None and rule.handle not in known
    ]


def unhook(key: TableKey, before: Chains, hooked: Chains) -> list[str]:
    """Write what makes a table of `before` out of `hooked`, as long as it has not been filled."""
    lines = _without_hooks(key, before, hooked)
    return lines + [
        f"delete chain {key[0]} {key[1]} {name}" for name in hooked if name.startswith(PREFIX) and name not in before
    ]


def undo(key: TableKey, before: Chains, hooked: Chains, want: CompatTable) -> list[str]:
    """Write what makes a table of `before` out of what it is after hooking and filling.

    `before` and `hooked` are the table before and after the hooking. Base chains stay: iptables tools make them anyway,
    and they are empty.
    """
    label = f"{key[0]} {key[1]}"
    lines = _without_hooks(key, before, hooked)
    for name in want.policies:
        policy = before[name].policy if name in before else "accept"
        lines += _in_table(key, _declared(name, want.bases[name], policy))
    had = [name for name in before if name.startswith(PREFIX)]
    # The change deletes those that are not wanted. All are emptied before any is filled or deleted: they may jump to
    # one another.
    lines += _in_table(key, [line for name in had if name not in want.own for line in _declared(name, None)])
    ours = [*had, *(name for name in want.own if name not in before)]
    lines += [f"flush chain {label} {name}" for name in ours]
    for name in had:
        lines += _in_table(key, [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in before[name].texts()), "\t}"])
    lines += [f"delete chain {label} {name}" for name in ours if name not in before]
    for chain, rule, target in _superfluous(want, before):
        place = _place(chain) if _alive(chain, rule) else None
        where = f"add rule {label} {chain.name}" if place is None else f"insert rule {label} {chain.name} handle {place}"
        lines.append(f"{where} counter jump {target}")
    return lines


def as_it_was(before: Chains, want: CompatTable) -> CompatTable:
    """Give a table as it was before a change to `want`, without any handle: what the change brings is there, empty.

    Handles are no longer true when somebody has restored or flushed the table meanwhile.
    """
    jumps = [
        (chain.name, target)
        for chain in before.values()
        if not chain.name.startswith(PREFIX)
        for target in dict.fromkeys(map(jump_target, chain.rules))
        if target is not None
    ]
    from_ = [before[name] for name in dict.fromkeys(name for name, _target in jumps)]
    return CompatTable(
        bases={**want.bases, **{chain.name: chain.base for chain in from_ if chain.base is not None}},
        policies={name: str(before[name].policy) if name in before else "accept" for name in want.policies},
        own={
            **dict.fromkeys(want.own, []),
            **{name: chain.texts() for name, chain in before.items() if name.startswith(PREFIX)},
        },
        plain=[chain.name for chain in from_ if chain.base is None],
        jumps=jumps,
    )


def reload_text(key: TableKey, want: CompatTable) -> list[str]:
    """Write what may be loaded any number of times: chains, policies and the rules of our chains, without the jumps."""
    label = f"{key[0]} {key[1]}"
    declared: list[str] = []
    for name, base in want.bases.items():
        declared += _declared(name, base, want.policies.get(name))
    for name in [*want.plain, *want.own]:
        declared += _declared(name, None)
    lines = _in_table(key, declared)
    for name, rules in want.own.items():
        lines.append(f"flush chain {label} {name}")
        lines += _in_table(key, [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}"])
    return lines


def jump_texts(key: TableKey, want: CompatTable) -> dict[str, list[str]]:
    """Write, for each chain of ours, what puts the jump to it where none is.

    nft refuses to delete a chain that a rule jumps to (device or resource busy), and with it all of such a text.
    """
    result = {}
    label = f"{key[0]} {key[1]}"
    # Engines before 28.2 end DOCKER-USER with RETURN; elsewhere what other tools insert stays in front.
    ordered = [("add", *jump) for jump in want.jumps if jump[0] not in want.plain]
    # The last of those that are inserted comes to stand first.
    ordered += [("insert", *jump) for jump in reversed(want.jumps) if jump[0] in want.plain]
    for verb, name, target in ordered:
        lines = _in_table(key, [*_declared(name, want.bases.get(name)), *_declared(target, None)])
        lines += [f"flush chain {label} {target}", f"delete chain {label} {target}"]
        rules = want.own.get(target, [])
        lines += _in_table(key, [f"\tchain {target} {{", *(f"\t\t{rule}" for rule in rules), "\t}"])
        result[target] = [*lines, f"{verb} rule {label} {name} counter jump {target}"]
    return result


def canonical(tables: t.Mapping[TableKey, Chains], want: t.Mapping[TableKey, CompatTable]) -> str:
    """Write what is ours in these tables as text; equal texts mean that nothing of it differs."""
    lines = []
    for key in sorted(tables):
        ours = want.get(key, CompatTable())
        for name, chain in sorted(tables[key].items()):
            if name.startswith(PREFIX):
                lines += [f"{key[0]} {key[1]} {name}", *(f"\t{text}" for text in chain.texts())]
            elif name in ours.policies:
                lines.append(f"{key[0]} {key[1]} {name} policy {chain.policy}")
            lines += [f"{key[0]} {key[1]} {name} jump {target}" for target in map(jump_target, chain.rules) if target]
    return "".join(f"{line}\n" for line in lines)
