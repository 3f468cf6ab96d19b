# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: from the text of /etc/nftables.conf to a kernel and a disk that say the same.

What is shared with one own table alone is in _apply.py. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _conf_text,
    _files,
    _layout,
    _nft_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Outcome, refuse_pending
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import DISTRIBUTION_FILES, Boot
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import (
    FAMILIES,
    CompatTable,
    TableKey,
    jump_target,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import flushing_include, managed
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_files import ConfFiles
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_state import (
    Change,
    ConfState,
    own_tables,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RUN_DIRECTORY, Revert
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable, require_nft

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

_HOOKS = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
#: How the file states a policy of a chain of iptables.
_STATED = re.compile(r"^\tchain (INPUT|FORWARD|OUTPUT) \{\n\t\ttype filter hook \w+ priority 0; policy ", re.MULTILINE)


@dataclass
class Request:
    """What the module was asked for: the own table's text, the file's text, and the layout they are for."""

    content: str
    file: str
    layout: Layout


def _released(policies: t.Iterable[str]) -> dict[TableKey, CompatTable]:
    """Give the policies that an earlier layout set, so that a later one can let go of them."""
    names = [name for name in policies if name in _HOOKS]
    if not names:
        return {}
    bases = {name: ("filter", _HOOKS[name], "0") for name in names}
    return {
        (family, "filter"): CompatTable(bases=bases, policies=dict.fromkeys(names, "accept"))
        for family in FAMILIES
    }


class ConfApply:
    """Everything the module nftables_conf does."""

    def __init__(self, runner: RunnerLike, name: str, path: str | None, root: str = "") -> None:
        self.runner = runner
        self.root = root
        layout = self._layout()
        if path is None:
            path = layout.path if layout is not None else DISTRIBUTION_FILES[0]
        self.version = require_nft(runner)
        self.own = OwnTable(runner, "inet", name)
        self.state = ConfState(runner, self.own)
        self.boot = Boot(runner, root)
        self.files = ConfFiles(runner, self.boot, path, root)
        self.revert = Revert(runner, self.state, root)
        self.backup: str | None = None

    def _saved_text(self, content: str) -> str:
        return _nft_text.replace_script(self.own.family, self.own.name, content)

    def _wanted_files(self, request: Request) -> dict[str, tuple[str, int]]:
        self.state.former = self._former()
        wanted = self.state.want(self._saved_text(request.content), request.file)
        table = (self.own.family, self.own.name)
        saved = self._saved_text(request.content)
        before = self._layout()
        by_us = before.enabled_service if before is not None else not self.files.enabled()
        mode = before.mode if before is not None else self.files.mode()
        layout = replace(request.layout, enabled_service=by_us, path=self.files.path, mode=mode)
        return self.files.wanted(table, saved, request.file, layout, wanted.shared, wanted.further)

    def present(self, request: Request, check_mode: bool, confirm_timeout: int) -> Outcome:
        """Make kernel and disk what the request says; see _apply.Apply.present for `confirm_timeout`."""
        _nft_text.check_single_table(request.content, self.own.family, self.own.name)
        _conf_text.check(request.file, self.own.family, self.own.name)
        flushing = flushing_include(request.file, self.root)
        if flushing is not None:
            raise _conf_text.ConfTextError(
                f"{flushing}, which the file includes: 'flush ruleset' takes away what Docker and other tools have loaded"
            )
        self.boot.require_systemd()
        self.files.require_service()
        if check_mode:
            return self._present(request, True, confirm_timeout)
        with self.revert.lock():
            refuse_pending(self.revert)
            return self._present(request, False, confirm_timeout)

    def _present(self, request: Request, check_mode: bool, confirm_timeout: int) -> Outcome:
        outcome = Outcome()
        files = self._wanted_files(request)
        normal = self.own.normalise(request.content)
        released = _released(self._policies(self._layout()))
        change = self.state.change(normal, released)
        for item in change.differences:
            outcome.record(item.what, item.where, item.before, item.after)
        outcome.table_changed = bool(change.differences)
        missing = self.boot.missing(files)
        for path, (before, after) in sorted(missing.items()):
            outcome.record(f"write {path}", path, before, after)
        outcome.actions += [f"remove {path}" for path in self.files.obsolete(files)]
        for is_so, unit in ((self.boot.enabled(), "bulkhead.service"), (self.files.enabled(), "nftables.service")):
            if not is_so:
                outcome.record(f"enable {unit}", unit, "disabled\n", "enabled\n")
        if not self.files.active():
            outcome.record("start nftables.service", "nftables.service", "inactive\n", "active\n")
        if outcome.changed:
            self.own.check("\n".join([*change.hook, *change.fill]) + "\n")
            self.own.check(_conf_text.effective(request.file, self._saved_text(request.content), others=True))
        self.backup = self.files.backup_due()
        if check_mode or not outcome.changed:
            return outcome
        if not outcome.table_changed:
            self.files.save(files, missing)
            return outcome
        self.state.hook(change, released)
        try:
            if confirm_timeout:
                outcome.confirmation = self._unconfirmed(change, confirm_timeout)
            else:
                self.state.fill(change)
                # What the next boot would not load must not stay live either.
                self.files.save(files, missing)
        except BaseException:
            self.state.undo()
            self.revert.disarm()
            raise
        return outcome

    def _unconfirmed(self, change: Change, seconds: int) -> dict[str, t.Any]:
        record = self.revert.arm(seconds, "")
        self.state.fill(change)
        self.revert.applied(record, self.state.live())
        return {"token": record["token"], "seconds": seconds}

    def _former(self) -> tuple[TableKey, ...]:
        """Name the file's own tables as it is on disk; none where somebody else wrote it."""
        found = _files.read(self.root + self.files.path)
        try:
            return own_tables(found) if found is not None and managed(found) else ()
        except _nft_text.TextError:
            # Somebody has broken it; it is about to be replaced.
            return ()

    def _layout(self) -> Layout | None:
        return _layout.read(self.root)

    def _policies(self, layout: Layout | None) -> tuple[str, ...]:
        """Name the chains whose policy is ours. Where the layout is lost, the file says it, or else the jump from INPUT.

        Without its jump, a policy that stayed would cut the host off.
        """
        if layout is not None:
            return layout.policies
        found = _files.read(self.root + self.files.path)
        if found is not None and managed(found):
            return tuple(dict.fromkeys(_STATED.findall(found)))
        chains = [chains["INPUT"] for chains in self.state.shared().values() if "INPUT" in chains]
        hooked = any(jump_target(rule) for chain in chains for rule in chain.rules)
        return ("INPUT",) if hooked else ()

    def confirm(self, request: Request, token: str) -> Outcome:
        """Keep an unconfirmed apply and write it to disk."""
        outcome = Outcome()
        with self.revert.lock():
            files = self._wanted_files(request)
            missing = self.boot.missing(files)
            undo = self.revert.scripts()
            self.revert.confirm(token)
            outcome.actions.append(f"confirm table {self.own.family} {self.own.name} and {self.files.path}")
            try:
                self.backup = self.files.save(files, missing)
            except BaseException:
                self.revert.go_back(undo)
                raise
        return outcome

    def put_back(self, token: str) -> Outcome:
        """Undo an unconfirmed apply without waiting for the timer."""
        with self.revert.lock():
            self.revert.now(token)
        return Outcome(actions=[f"put back table {self.own.family} {self.own.name} and what goes with it"])

    def _end_pending(self) -> None:
        """Put back what waits for its confirmation: the disk does not know yet which policies it set."""
        if self.revert.pending() is None:
            return
        with self.revert.lock():
            record = self.revert.pending()
            if record is not None:
                self.revert.now(str(record["token"]))

    def absent(self, check_mode: bool) -> Outcome:
        """Take the own table, our chains and the file away, and put back the file that was there before."""
        outcome = Outcome()
        if not check_mode:
            self._end_pending()
        layout = self._layout()
        released = _released(self._policies(layout))
        self.state.former = self._former()
        change = self.state.change(None, released)
        for item in change.differences:
            outcome.record(item.what, item.where, item.before, item.after)
        outcome.table_changed = bool(change.differences)
        leftovers = {**self.boot.leftovers(self.own.family, self.own.name), **self.files.leftovers()}
        for path, stays in leftovers.items():
            outcome.record(f"clean {path}", path, _files.read(self.root + path), stays)
        if check_mode or not outcome.changed:
            return outcome
        with self.revert.lock():
            self.revert.disarm()
            # The disk goes last: it knows which policies are ours, should this have to be done again.
            self.state.fill(change)
            known = layout or Layout(_layout.OWN_TABLE)
            self.files.remove(disable=known.enabled_service, mode=known.mode)
            self.boot.remove(self.own.family, self.own.name)
        directory = self.root + RUN_DIRECTORY
        _files.remove(f"{directory}/{self.own.family}-{self.own.name}.normal")
        _files.remove(f"{directory}/lock")
        _files.remove_if_empty(directory)
        return outcome
