# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: from a text to a table that is live, and on disk once it is confirmed.

Of the module object only C(check_mode) and what is passed in are used. May change at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files, _layout, _nft_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import Boot, BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RUN_DIRECTORY, Revert, RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable, require_nft

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

#: Stands in a table that marks instead of dropping, see _carry.py.
MARKS = "chain left_to_input {"


@dataclass
class Outcome:
    """What was done or would be done; `changed`, `diff` and `actions` come from the same record."""

    actions: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    confirmation: dict[str, t.Any] | None = None
    table_changed: bool = False

    @property
    def changed(self) -> bool:
        """Tell whether anything differs from what was asked for."""
        return bool(self.actions)

    def record(self, action: str, where: str, before: str | None, after: str | None) -> None:
        """Note one difference."""
        self.actions.append(action)
        self.diff.append(
            {"before_header": where, "after_header": where, "before": before or "", "after": after or ""}
        )


def refuse_pending(revert: Revert) -> None:
    """Raise RevertError while an earlier apply waits for its confirmation."""
    pending = revert.pending()
    if pending is not None:
        raise RevertError(
            "an earlier apply still waits for its confirmation and reverts by itself within"
            f" {pending['seconds']} seconds of being applied; try again after that"
        )


class Apply:
    """Everything the module nftables_ruleset does."""

    def __init__(self, runner: RunnerLike, family: str, name: str, boot: bool, root: str = "") -> None:
        self.runner = runner
        self.root = root
        self.version = require_nft(runner)
        self.table = OwnTable(runner, family, name)
        self.boot = Boot(runner, root) if boot else None
        self.revert = Revert(runner, self.table, root)

    def _normal(self, text: str, remember: bool) -> str:
        """Normalise text, or take what an earlier run found for the same text and the same nft."""
        path = f"{self.root}{RUN_DIRECTORY}/{self.table.family}-{self.table.name}.normal"
        digest = hashlib.sha256(f"{self.version}\n{text}".encode()).hexdigest()
        cached = _files.read(path)
        if cached is not None:
            record = json.loads(cached)
            if record.get("digest") == digest:
                return str(record["normal"])
        normal = self.table.normalise(text)
        if remember:
            _files.write(path, json.dumps({"digest": digest, "normal": normal}), 0o600)
        return normal

    def present(self, text: str, check_mode: bool, confirm_timeout: int) -> Outcome:
        """Make the table what text says.

        With `confirm_timeout` (seconds) above 0 a changed table goes live but not to disk, and the
        outcome has a confirmation; without one, or when only files differ, everything is done at once.
        """
        _nft_text.check_single_table(text, self.table.family, self.table.name)
        if self.boot is not None or confirm_timeout:
            Boot(self.runner, self.root).require_systemd()
        self._refuse_lost_layout(text)
        if check_mode:
            return self._present(text, True, confirm_timeout)
        with self.revert.lock():
            refuse_pending(self.revert)
            return self._present(text, False, confirm_timeout)

    def _refuse_lost_layout(self, text: str) -> None:
        """Raise BootError where the table on disk marks for iptables' chains, this one does not, and nobody knows why."""
        if self.boot is None or os.path.lexists(self.root + _layout.PATH):
            return
        if MARKS in (self.boot.saved(self.table.family, self.table.name) or "") and MARKS not in text:
            raise BootError(
                f"{_layout.PATH} is missing, and chains of iptables on this host accept only what the table marks: one"
                " that does not would cut the host off; run the role nftables_conf first, which writes that file again"
            )

    def _present(self, text: str, check_mode: bool, confirm_timeout: int) -> Outcome:
        outcome = Outcome()
        wanted = self._normal(text, remember=not check_mode)
        live = self.table.live()
        if live != wanted:
            outcome.table_changed = True
            action = "create" if live is None else "replace"
            outcome.record(
                f"{action} table {self.table.family} {self.table.name}",
                f"table {self.table.family} {self.table.name} (kernel)",
                live,
                wanted,
            )
            self.table.check(_nft_text.replace_script(self.table.family, self.table.name, text))
        saved = self._saved_text(text)
        files = self.boot.wanted(self.table.family, self.table.name, saved) if self.boot else {}
        missing = self.boot.missing(files) if self.boot else {}
        for path, (before, after) in sorted(missing.items()):
            outcome.record(f"write {path}", path, before, after)
        enable = self.boot is not None and not self.boot.enabled()
        if enable:
            outcome.record("enable bulkhead.service", "bulkhead.service", "disabled\n", "enabled\n")
        if check_mode or not outcome.changed:
            return outcome
        if outcome.table_changed and confirm_timeout:
            outcome.confirmation = self._unconfirmed(text, wanted, confirm_timeout)
            return outcome
        old = None
        if outcome.table_changed:
            old = _nft_text.replace_script(self.table.family, self.table.name, self.table.restorable())
            self.table.replace(text)
        if missing or enable:
            self._save(files, missing, old)
        return outcome

    def _save(self, files: dict[str, tuple[str, int]], missing: t.Iterable[str], old: str | None) -> None:
        """Write the disk. What the next boot would not load must not stay live either: `old` puts it back."""
        if self.boot is None:
            return
        try:
            self.boot.save(files, missing)
        except BaseException:
            if old is not None:
                self.runner.run(["nft", "-f", "-"], stdin=old)
            raise

    def _unconfirmed(self, text: str, wanted: str, seconds: int) -> dict[str, t.Any]:
        record = self.revert.arm(seconds, wanted)
        try:
            self.table.replace(text)
        except BaseException:
            self.revert.disarm()
            raise
        return {"token": record["token"], "seconds": seconds}

    def _saved_text(self, text: str) -> str:
        return _nft_text.replace_script(self.table.family, self.table.name, text)

    def confirm(self, text: str, token: str) -> Outcome:
        """Keep an unconfirmed apply and write it to disk."""
        outcome = Outcome()
        with self.revert.lock():
            files = {}
            if self.boot is not None:
                files = self.boot.wanted(self.table.family, self.table.name, self._saved_text(text))
            missing = self.boot.missing(files) if self.boot is not None else {}
            old = "".join(self.revert.scripts()) or None
            self.revert.confirm(token)
            outcome.actions.append(f"confirm table {self.table.family} {self.table.name}")
            self._save(files, missing, old)
        return outcome

    def put_back(self, token: str) -> Outcome:
        """Undo an unconfirmed apply without waiting for the timer."""
        with self.revert.lock():
            self.revert.now(token)
        return Outcome(actions=[f"put back table {self.table.family} {self.table.name}"])

    def absent(self, check_mode: bool) -> Outcome:
        """Take the table away, from the kernel and from the disk."""
        outcome = Outcome()
        live = self.table.live()
        if live is not None:
            outcome.table_changed = True
            where = f"table {self.table.family} {self.table.name} (kernel)"
            outcome.record(f"delete table {self.table.family} {self.table.name}", where, live, None)
        leftovers = self.boot.leftovers(self.table.family, self.table.name) if self.boot else {}
        for path, stays in leftovers.items():
            outcome.record(f"clean {path}", path, _files.read(self.root + path), stays)
        if check_mode or not outcome.changed:
            return outcome
        with self.revert.lock():
            self.revert.disarm()
            if self.boot is not None:
                self.boot.remove(self.table.family, self.table.name)
            if live is not None:
                self.table.replace(None)
        self._forget()
        return outcome

    def _forget(self) -> None:
        directory = self.root + RUN_DIRECTORY
        _files.remove(f"{directory}/{self.table.family}-{self.table.name}.normal")
        _files.remove(f"{directory}/lock")
        _files.remove_if_empty(directory)
