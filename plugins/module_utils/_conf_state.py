# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: everything that one /etc/nftables.conf says, and what of it the kernel has.

That is the own table, our chains in the tables of iptables, and further tables of the file's own. May change at any time.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _compat,
    _conf_text,
    _iptables_readable,
    _nft_listing,
    _nft_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatTable, TableKey
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_listing import ListedChain
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable, TableError

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

_FILTER_HOOKS = (("INPUT", "input"), ("FORWARD", "forward"), ("OUTPUT", "output"))
Shared = t.Dict[TableKey, t.Dict[str, ListedChain]]


@dataclass
class Wanted:
    """What the file says: the own table's text, and the rest as nft lists it."""

    text: str
    shared: dict[TableKey, CompatTable] = field(default_factory=dict)
    further: dict[TableKey, str] = field(default_factory=dict)


@dataclass
class Difference:
    """One thing that is not as the file says."""

    what: str
    where: str
    before: str | None
    after: str | None


@dataclass
class Change:
    """Lines of nft: `hook` changes no verdict and goes first, `fill` does the rest; and what differs, to be told."""

    hook: list[str] = field(default_factory=list)
    fill: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


class ConfState:
    """Reads both sides, writes the change, and knows the way back; can be armed like an own table."""

    def __init__(self, runner: RunnerLike, own: OwnTable) -> None:
        self.runner = runner
        self.own = own
        self.family = own.family
        self.name = own.name
        #: Tables of its own that the file before had; those that the new one has not are deleted.
        self.former: tuple[TableKey, ...] = ()
        self._wanted = Wanted("")
        self._undo = ""
        self._unhook = ""
        self._rescue: list[str] = []
        self._filled = False

    # -- what the file says ------------------------------------------------------------------------------------

    def want(self, content: str | None, file: str) -> Wanted:
        """Load the file into an empty network namespace and see what becomes of it.

        Raises CompatError for what may not stand in tables of iptables, TableError for what nft refuses.
        """
        text = "" if content is None else content
        script = _conf_text.effective(file, text, others=False)
        wanted = Wanted(text)
        with self.runner.scratch_network():
            self._load(_preset("drop") + script)
            keys = self._tables()
            listed = self._shared(keys)
            self._check_readable()
            for key in keys:
                if not _compat.is_shared(*key) and key != (self.family, self.name):
                    wanted.further[key] = _nft_text.canonical(self._nft("-s", "list", "table", *key).stdout)
        stated = self._stated(script, listed)
        preset = _shared_keys(script)
        for key, chains in listed.items():
            if key in preset:
                wanted.shared[key] = _compat.wanted(key, chains, stated.get(key, ()))
        self._wanted = wanted
        return wanted

    def _stated(self, script: str, listed: Shared) -> dict[TableKey, tuple[str, ...]]:
        """Find the policies of filter chains that the file states: those that do not follow what was there before."""
        with self.runner.scratch_network():
            self._load(_preset("accept") + script)
            again = self._shared(listed)
        return {
            key: tuple(
                name
                for name, chain in chains.items()
                if chain.base is not None and chain.policy == again[key][name].policy
            )
            for key, chains in listed.items()
            if key[1] == "filter"
        }

    def _check_readable(self) -> None:
        """Refuse what iptables tools could not read back, by what nft says it is and by trying the tools themselves."""
        listing = json.loads(self._nft("-j", "list", "ruleset").stdout)
        errors = _iptables_readable.check_ruleset(listing, self._nft("-s", "-a", "list", "ruleset").stdout)
        for tool in () if errors else ("iptables-save", "ip6tables-save"):
            path = self.runner.find(tool)
            if path is None:
                continue
            result = self.runner.run([path], check=False)
            said = [line for line in (result.stdout + result.stderr).splitlines() if "incompatible" in line]
            if result.rc or said:
                errors.append(f"{tool} cannot read what the file says: {(said or [result.stderr.strip()])[0][:300]}")
        if errors:
            raise _compat.CompatError(errors)

    # -- what the kernel has -----------------------------------------------------------------------------------

    def _nft(self, *arguments: str) -> t.Any:
        return self.runner.run(["nft", *arguments])

    def _shared(self, keys: t.Iterable[TableKey]) -> Shared:
        return {key: self._chains(key) for key in keys if _compat.is_shared(*key)}

    def _chains(self, key: TableKey) -> dict[str, ListedChain]:
        result = self.runner.run(["nft", "-s", "-a", "list", "table", *key], check=False)
        if result.rc:
            if "No such file or directory" in result.stderr:
                return {}
            raise TableError(f"nft cannot list table {' '.join(key)}: {result.stderr.strip()[:500]}")
        return _nft_listing.chains(result.stdout)

    def _further(self, key: TableKey) -> str | None:
        found = OwnTable(self.runner, *key).live()
        return None if found is None else _nft_text.without_learned(found)

    def _obsolete(self) -> list[TableKey]:
        own = (self.family, self.name)
        return [key for key in self.former if key not in self._wanted.further and key != own]

    def _tables(self) -> list[TableKey]:
        return list(_nft_listing.tables(self._nft("list", "tables").stdout))

    def shared(self) -> Shared:
        """Give the chains of every table of iptables, also where the file wants nothing any more."""
        return self._shared(dict.fromkeys([*self._tables(), *self._wanted.shared]))

    def live(self) -> str:
        """Give everything that is compared, as one text."""
        parts = [self.own.live() or "", _compat.canonical(self.shared(), self._wanted.shared)]
        parts += [self._further(key) or "" for key in sorted([*self._wanted.further, *self._obsolete()])]
        return "\n".join(parts)

    # -- from one to the other ---------------------------------------------------------------------------------

    def change(self, normal: str | None, released: t.Mapping[TableKey, CompatTable]) -> Change:
        """Compare the kernel with the file.

        `normal` is the own table in canonical form, None where it shall go; `released` has policies that an earlier
        file stated, for those that this one does not.
        """
        result = Change()
        own = self.own.live()
        label = f"table {self.family} {self.name}"
        if own != normal:
            text = None if normal is None else self._wanted.text
            result.fill += _nft_text.replace_script(self.family, self.name, text).splitlines()
            verb = "delete" if normal is None else "create" if own is None else "replace"
            result.differences.append(Difference(f"{verb} {label}", f"{label} (kernel)", own, normal))
        for key, text in sorted(self._wanted.further.items()):
            found, wanted = self._further(key), _nft_text.without_learned(text)
            if found != wanted:
                result.fill += _nft_text.replace_script(key[0], key[1], text).splitlines()
                verb = "create" if found is None else "replace"
                where = f"table {' '.join(key)}"
                result.differences.append(Difference(f"{verb} {where}", f"{where} (kernel)", found, wanted))
        for key in self._obsolete():
            found = self._further(key)
            if found is not None:
                result.fill += _nft_text.replace_script(key[0], key[1], None).splitlines()
                where = f"table {' '.join(key)}"
                result.differences.append(Difference(f"delete {where}", f"{where} (kernel)", found, None))
        live = self.shared()
        for key, chains in live.items():
            want = self._wanted_of(key, released, chains)
            differing = _compat.change(key, want, chains)
            result.hook += differing.hook
            result.fill += differing.fill
            if differing.said:
                result.differences.append(_difference(key, differing.said, chains, want))
        return result

    def _wanted_of(
        self, key: TableKey, released: t.Mapping[TableKey, CompatTable], live: t.Container[str]
    ) -> CompatTable:
        want = self._wanted.shared.get(key, CompatTable())
        return _compat.releasing(want, released[key], live) if key in released else want

    def hook(self, change: Change, released: t.Mapping[TableKey, CompatTable]) -> None:
        """Load what changes no verdict, and write the way back while the handles of new jumps are known."""
        before = self.shared()
        if change.hook:
            self._load("\n".join(change.hook) + "\n")
        hooked = self.shared() if change.hook else before
        lines = [self.own.undo_script()]
        further = [*self._wanted.further, *self._obsolete()]
        lines += [_nft_text.replace_script(*key, OwnTable(self.runner, *key).restorable()) for key in further]
        unhook: list[str] = []
        rescue = list(lines)
        jumps: list[list[str]] = []
        for key in before:
            want = self._wanted_of(key, released, before[key])
            lines += _compat.undo(key, before[key], hooked[key], want)
            unhook += _compat.unhook(key, before[key], hooked[key])
            was = _compat.as_it_was(before[key], want)
            rescue += _compat.reload_text(key, was)
            jumps += _compat.jump_texts(key, was).values()
        self._undo = "\n".join(line.rstrip("\n") for line in lines) + "\n"
        self._unhook = "\n".join(unhook) + "\n"
        self._rescue = ["\n".join(line.rstrip("\n") for line in part) + "\n" for part in (rescue, *jumps)]
        self._filled = False

    def fill(self, change: Change) -> None:
        """Load the change itself, in one transaction."""
        if change.fill:
            self._load("\n".join(change.fill) + "\n")
        self._filled = True

    def undo_script(self) -> str:
        """Give the transaction that leads back to where things stood before the hooking."""
        return self._undo

    def rescue_scripts(self) -> list[str]:
        """Give what leads back without handles, which are no longer true where somebody restored or flushed a table.

        The first goes before the way back proper. Each of the others puts a jump where it is missing, behind that.
        """
        return self._rescue

    def check(self, script: str) -> None:
        """Let nft check a script against the running ruleset, without loading it."""
        self.own.check(script)

    def undo(self) -> None:
        """Go the way back now, from wherever things stand."""
        if not self._filled:
            # What stays where that is refused changes no verdict.
            self.runner.run(["nft", "-f", "-"], stdin=self._unhook, check=False)
            return
        self._load(self._rescue[0])
        for script in (self._undo, *self._rescue[1:]):
            self.runner.run(["nft", "-f", "-"], stdin=script, check=False)

    def _load(self, script: str) -> None:
        self.own.load(script)


def own_tables(text: str) -> tuple[TableKey, ...]:
    """Name the tables that a file declares and no iptables tool manages."""
    declared = [words for _line, words in _nft_text.statements(text) if words[:1] == ["table"] and len(words) == 3]
    return tuple(dict.fromkeys((words[1], words[2]) for words in declared if not _compat.is_shared(words[1], words[2])))


def _preset(policy: str) -> str:
    """Declare iptables' filter chains with a policy, to see which of them the file states itself."""
    lines = []
    for family in _compat.FAMILIES:
        lines.append(f"table {family} filter {{")
        for name, hook in _FILTER_HOOKS:
            lines += [f"\tchain {name} {{", f"\t\ttype filter hook {hook} priority 0; policy {policy};", "\t}"]
        lines.append("}")
    return "\n".join(lines) + "\n"


def _shared_keys(script: str) -> set[TableKey]:
    """Name the tables of iptables that the file itself writes to."""
    statements = [words for _line, words in _nft_text.statements(script)]
    bare = [words[1:] if words[0] in ("add", "create", "insert") else words for words in statements]
    return {
        (words[1], words[2])
        for words in bare
        if words[:1] in (["table"], ["chain"], ["rule"]) and len(words) > 2 and _compat.is_shared(words[1], words[2])
    }


def _difference(key: TableKey, said: list[str], live: dict[str, ListedChain], want: CompatTable) -> Difference:
    before = _compat.canonical({key: live}, {key: want})
    after = {name: ListedChain(name, base, want.policies.get(name)) for name, base in want.bases.items()}
    for name in want.plain:
        after[name] = ListedChain(name)
    for chain, target in want.jumps:
        after[chain].rules.append(_nft_listing.ListedRule(0, f"counter jump {target}"))
    for name, rules in want.own.items():
        after[name] = ListedChain(name, rules=[_nft_listing.ListedRule(0, rule) for rule in rules])
    where = f"chains of this role in table {key[0]} {key[1]} (kernel)"
    return Difference("; ".join(said), where, before, _compat.canonical({key: after}, {key: want}))
