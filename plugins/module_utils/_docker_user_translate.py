# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DOCKER-USER and what hangs on FORWARD's policy, as one table of nftables.

Private to the collection: not meant to be used from anywhere else. May change at any time.

In iptables an ACCEPT in DOCKER-USER ends FORWARD, so that Docker is not asked. In nftables it ends only its own chain.
Here it also sets a mark, and Docker is told to accept what carries it. The chain stands in front of Docker's.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_user_matches as matches
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user import (
    CHAIN,
    IpSet,
    Mark,
    Problem,
    Translation,
    ends,
    reached,
    too_deep,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_conntrack import joined, product
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_expressions import (
    Expressions,
    apart,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_forward import (
    FORWARD,
    Around,
    around,
    marks_in_order,
    notes,
    too_early,
    verdicts,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_sets import Sets, parse_ipsets
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_targets import (
    Targets,
    accept_marked,
    carries,
    set_bits,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_legacy import DOCKER_CHAINS
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import (
    Rule,
    RuleError,
    parse_rule,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import (
    Saved,
    SaveError,
    parse_save,
    unread_tables,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import ALL
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_words import comment

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import Alternatives

__all__ = ["IpSet", "Mark", "Problem", "Translation", "parse_ipsets", "translate"]

_RETURN = f"-A {CHAIN} -j RETURN"
_TOOLS = {4: "iptables-save", 6: "ip6tables-save"}
_FAMILIES = {4: "ip", 6: "ip6"}
_LIMIT = "limit rate "
#: Targets after which a packet is not seen again, or that leave nothing to see. Asking a second time skips them.
_DONE = ("DROP", "REJECT", "LOG", "NFLOG", "MARK", "CONNMARK", None)


@dataclass
class _Family:
    """What is known of one family, and the chains that are made of it."""

    number: int
    saved: Saved
    around: Around = Around()
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"IPv{self.number}"

    @property
    def prefix(self) -> str:
        return f"v{self.number}"

    @property
    def guard(self) -> str:
        return f"meta nfproto ipv{self.number}"

    def user_lines(self) -> int:
        """How many rules DOCKER-USER is made of; the RETURN at its end means nothing."""
        return sum(len(self.chains[chain]) for chain in reached(self.chains, CHAIN))

    def accepts(self) -> bool:
        """Whether anything in DOCKER-USER overrides Docker."""
        return any("ACCEPT" in ends(self.chains, chain) for chain in reached(self.chains, CHAIN))


def translate(
    v4: str,
    v6: str,
    sets: t.Mapping[str, IpSet],
    accept_mark: Mark,
    *,
    table: str = "bulkhead_docker_user",
    bridges: t.Sequence[str] = (),
    drop_policy: t.Collection[str] = (),
    mark_held: bool = False,
) -> Translation:
    """Make one table of what iptables-save and ip6tables-save print, and of what `ipset save` prints.

    `drop_policy` has the families (ip, ip6) whose policy DROP of FORWARD is taken over, `bridges` the names and patterns
    of Docker's bridges. `mark_held` tells that Docker already accepts by this mark: then rules may set it on purpose.
    """
    problems: list[Problem] = []
    families = [each for each in (_family(4, v4, bridges, problems), _family(6, v6, bridges, problems)) if each]
    uses_mark = any(each.accepts() for each in families)
    if uses_mark and (not accept_mark.value or accept_mark.value & ~accept_mark.mask or accept_mark.mask > ALL):
        problems.append(
            Problem(f"{accept_mark.value:#x}/{accept_mark.mask:#x}", "nothing can be accepted by such a mark")
        )
    guarded = 0 if mark_held else accept_mark.mask
    work = _Work(Sets(sets), accept_mark if uses_mark else None, guarded, problems)
    for family in families:
        lines = [line for chain in reached(family.chains, CHAIN) for line in family.chains[chain]]
        dropped = _FAMILIES[family.number] in drop_policy
        problems += [Problem(*each) for each in too_early(family.chains, family.around, lines, dropped)]
    early = [line for family in families for line in work.user(family)]
    late = [
        line for family in families if _FAMILIES[family.number] in drop_policy for line in work.policy(family, bridges)
    ]
    said = [
        note
        for family in families
        for note in notes(
            family.saved,
            family.around,
            accept_mark if uses_mark else None,
            family.accepts(),
            _FAMILIES[family.number] in drop_policy,
            family.name,
        )
    ]
    said += [note for family in families for note in _shared(family)]
    said += [
        f"ipset {name}: the table has a copy of its elements; what is added to the ipset later is not in it"
        for name in work.sets.names
    ]
    if problems or not (early or late):
        return Translation(None, uses_mark, tuple(problems), tuple(said), 0)
    if early and uses_mark and not mark_held:
        early.insert(0, _taken_back(accept_mark))
    return Translation(_table(table, work, early, late), uses_mark, (), tuple(said), work.rules)


def _family(number: int, text: str, bridges: t.Sequence[str], problems: list[Problem]) -> _Family | None:
    if "filter" in unread_tables(text):
        problems.append(Problem(_TOOLS[number], "the table filter has rules that iptables cannot read"))
        return None
    try:
        saved = parse_save(text)
    except SaveError as exc:
        problems.append(Problem(_TOOLS[number], str(exc)))
        return None
    if "filter" not in saved:
        return None
    chains = dict(saved["filter"].chains)
    own = list(chains.get(CHAIN, ()))
    while own and own[-1] == _RETURN:
        own.pop()
    chains[CHAIN] = tuple(own)
    return _Family(number, saved, around(saved, bridges), chains)


def _shared(family: _Family) -> t.Iterator[str]:
    """Chains that others lead to as well: what is changed there later is not changed in the table."""
    own = reached(family.chains, CHAIN)
    for chain in own[1:]:
        if any(chain in ends(family.chains, other) for other in family.chains if other not in own):
            yield f"chain {chain} ({family.name}): rules outside DOCKER-USER lead to it too; the table has a copy of it"


def _taken_back(mark: Mark) -> str:
    """Connections may remember marks, and give packets one that nobody has decided about yet."""
    return f'{carries(mark)} {set_bits("meta mark", ALL & ~mark.mask, 0)} comment "accepted by nobody yet"'


def _table(name: str, work: _Work, early: list[str], late: list[str]) -> str:
    parts = [*work.limits, *work.sets.texts]
    if early:
        parts.append(_chain("forward", "", ["type filter hook forward priority filter - 1; policy accept;", *early]))
    if late:
        parts.append(
            _chain("forward_policy", "", ["type filter hook forward priority filter + 1; policy accept;", *late])
        )
    parts += [_chain(*each) for each in work.made]
    return f"table inet {name} {{\n" + "\n\n".join(parts) + "\n}\n"


def _chain(name: str, theirs: str, lines: t.Sequence[str]) -> str:
    inner = [f"comment {comment(theirs)}", *lines] if theirs else list(lines)
    return "\n".join([f"    chain {name} {{", *(f"        {line}" for line in inner), "    }"])


@dataclass
class _Work:
    """Makes the chains, and gathers all that cannot be made."""

    sets: Sets
    mark: Mark | None
    guarded: int
    problems: list[Problem]
    made: list[tuple[str, str, list[str]]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    rules: int = 0

    def user(self, family: _Family) -> list[str]:
        """DOCKER-USER's chains; gives the rules of the base chain that lead to them."""
        if not family.user_lines():
            return []
        elsewhere = [chain for chain in family.chains if chain != FORWARD and CHAIN in ends(family.chains, chain)]
        for chain in elsewhere:
            self.problems.append(
                Problem(f"chain {chain} ({family.name})", "it leads to DOCKER-USER, as only FORWARD may")
            )
        if too_deep(family.chains, CHAIN, 1):
            self._too_deep(family, CHAIN)
            return []
        accept = accept_marked(self.mark) if self.mark else "accept"
        writer = _Writer(self, family, Targets(family.number, accept, self.guarded), family.prefix)
        jumps = (
            [text for line in family.around.jumps for text in writer.guarded(line)]
            if family.around.jumps
            else [f"{family.guard} jump {writer.name(CHAIN)}"]
        )
        writer.write()
        return jumps

    def policy(self, family: _Family, bridges: t.Sequence[str]) -> list[str]:
        """What a policy DROP leaves through: what DOCKER-USER, Docker or a rule of FORWARD has accepted."""
        lines = [f"{carries(self.mark)} counter accept"] if self.mark else []
        for key in ("iifname", "oifname"):
            for bridge in bridges:
                try:
                    lines.append(f"{matches.named(key, bridge)} counter accept")
                except RuleError as exc:
                    self.problems.append(Problem(f"bridge {bridge}", str(exc)))
        own = {name: rules for name, rules in family.chains.items() if name not in DOCKER_CHAINS and name != CHAIN}
        rules = tuple(each.line for each in family.around.rules)
        if any("ACCEPT" in verdicts(family.chains, line) for line in rules):
            own[FORWARD] = rules
            if too_deep(own, FORWARD, 2):
                self._too_deep(family, FORWARD)
                return []
            if not marks_in_order(family.chains, family.around):
                self.problems.append(
                    Problem(f"-P FORWARD DROP ({family.name})", "rules of FORWARD set marks that others ask for before")
                )
            copy = _Family(family.number, family.saved, family.around, own)
            writer = _Writer(self, copy, Targets(family.number, "accept"), f"{family.prefix}_forward", again=True)
            lines.append(f"jump {writer.name(FORWARD)}")
            writer.write()
        self.made.append((f"{family.prefix}_policy", "", [*lines, "counter drop"]))
        return [f"{family.guard} jump {family.prefix}_policy"]

    def shared(self, part: Alternatives) -> Alternatives:
        """The same for more than one rule: a limit that they draw from together."""
        if len(part) != 1 or not part[0].startswith(_LIMIT):
            return part
        name = f"limit_{len(self.limits) + 1}"
        self.limits.append(f"    limit {name} {{\n        {part[0][len('limit ') :]}\n    }}")
        return (f'limit name "{name}"',)

    def _too_deep(self, family: _Family, chain: str) -> None:
        reason = "its chains lead deeper than nftables goes, or in a circle"
        self.problems.append(Problem(f"chain {chain} ({family.name})", reason))


@dataclass
class _Writer:
    """Writes the chains of one family. `again` asks a second time what has been decided: only ACCEPT is of interest."""

    work: _Work
    family: _Family
    targets: Targets
    prefix: str
    again: bool = False
    names: dict[str, str] = field(default_factory=dict)

    def name(self, chain: str) -> str:
        """What a chain is called in the table: its own name may be anything."""
        return self.names.setdefault(chain, f"{self.prefix}_{len(self.names) + 1}")

    def write(self) -> None:
        """Write every chain that has a name, and those that they lead to."""
        done = 0
        while done < len(self.names):
            chain = list(self.names)[done]
            lines = [text for line in self.family.chains[chain] for text in self._rule(line)]
            self.work.made.append((self.names[chain], chain, lines))
            done += 1

    def guarded(self, line: str) -> list[str]:
        """A rule of FORWARD that leads to DOCKER-USER, for the base chain."""
        return [f"{self.family.guard} {text}" for text in self._rule(line, counted=False)]

    def _rule(self, line: str, counted: bool = True) -> list[str]:
        try:
            if self.again and self._skipped(line):
                return []
            rule = parse_rule(line, self.family.chains)
            found = self._texts(rule)
        except RuleError as exc:
            self.work.problems.append(Problem(line, str(exc)))
            return []
        self.work.rules += counted
        return found

    def _skipped(self, line: str) -> bool:
        """Whether a rule cannot let anything through, and does not keep others from it either."""
        found = verdicts(self.family.chains, line)
        try:
            rule = parse_rule(line, self.family.chains)
        except RuleError:
            return not found & {"ACCEPT", "RETURN"}
        if rule.target in self.family.chains:
            return not rule.goto and "ACCEPT" not in found
        return rule.target in _DONE

    def _texts(self, rule: Rule) -> list[str]:
        if rule.target in DOCKER_CHAINS:
            raise RuleError("it leads to a chain of Docker's, which goes with Docker's iptables rules")
        parts = Expressions(self.family.number, self.work.sets, self.targets.guarded).of(rule)
        alternatives = product(parts)
        if len(alternatives) > 1:
            alternatives = product(self.work.shared(part) for part in parts)
        said = " ".join(option.value for option in rule.all_options("comment"))
        statement = self._statement(rule)
        remark = f"comment {comment(said)}" if said else ""
        return [joined([apart(text), "counter", statement, remark]) for text in alternatives]

    def _statement(self, rule: Rule) -> str:
        if rule.target in self.family.chains:
            return f"{'goto' if rule.goto else 'jump'} {self.name(str(rule.target))}"
        return self.targets.statements(rule)
