# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a plan for firewalld true, permanently and at runtime, or puts back what it had done.

Private to the collection: not meant to be used from anywhere else. May change at any time.

First the permanent configuration, which nothing acts on; then a reload where one is needed; then the runtime, where
every zone and policy first gets what is new and then loses what is old, so that nothing allowed by both is refused between.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_check import Check, Judge
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    BOUND,
    ENDS,
    KINDS,
    LISTS,
    POLICY,
    ZONE,
    Item,
    Key,
    Seen,
    Wishes,
    minus,
    plus,
    same_item,
    version_number,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_plan import Plan, make_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_record import Record

#: From this release on a reload leaves alone what iptables made.
KEEPS_IPTABLES = (2, 0)
#: Docker's bridges are back in its zone within a second; a busy host takes longer.
_PATIENCE = 30.0
_PAUSE = 0.2


class FirewalldError(Exception):
    """firewalld cannot be used, or refused something."""


class Mistakes(Exception):
    """The task cannot be done as it is given."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class Daemon(Judge, t.Protocol):
    """firewalld, as it is used here. All of these raise FirewalldError."""

    def seen(self) -> Seen: ...

    def write(self, item: Item) -> None: ...

    def remove(self, key: Key) -> None: ...

    def keep(self, key: Key) -> object:
        """What `put_back` needs to make a permanent zone or policy again what it is now."""

    def put_back(self, key: Key, kept: object) -> None: ...

    def set_runtime(self, item: Item) -> None: ...

    def move(self, key: str, entry: str, zone: str) -> None: ...

    def set_setting(self, name: str, value: str) -> None: ...

    def check_permanent(self) -> None: ...

    def reload(self) -> None: ...

    def set_unread(self, unread: bool) -> None:
        """Remember, until firewalld starts again, whether something permanent waits for a reload."""

    def dockers(self) -> tuple[str, ...]: ...

    def read_record(self) -> Record: ...

    def write_record(self, record: Record) -> None: ...

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


@dataclass
class Outcome:
    """What was seen before, what was planned, and what happened."""

    seen: Seen
    plan: Plan
    reloaded: bool = False
    #: What is in Docker's zone in the end.
    dockers: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


class Apply:
    """One run of the module."""

    def __init__(self, daemon: Daemon, may_reload: bool) -> None:
        self.daemon = daemon
        self.may_reload = may_reload
        self._undo: list[tuple[str, t.Callable[[], None]]] = []
        self._reloaded = False

    def run(self, options: dict[str, t.Any], check_mode: bool) -> Outcome:
        """Raises Mistakes before anything changes, and FirewalldError after everything is put back."""
        seen = self.daemon.seen()
        record = self.daemon.read_record()
        check = Check(seen, self.daemon)
        wishes = check.run(options["zones"], options["policies"], options["settings"])
        plan = make_plan(wishes, seen, record, self.may_reload)
        if check.errors or plan.errors:
            raise Mistakes(list(dict.fromkeys([*check.errors, *plan.errors])))
        outcome = Outcome(seen, plan, dockers=seen.dockers)
        self._warn(outcome)
        if check_mode:
            return outcome
        if plan.operations or plan.record != record:
            try:
                self._do(wishes, outcome, record)
            except FirewalldError as exc:
                raise FirewalldError(f"{exc}. {self._take_back(outcome)}") from exc
        return outcome

    def _warn(self, outcome: Outcome) -> None:
        plan = outcome.plan
        if not (plan.reload and self.may_reload):
            return
        if plan.lost:
            outcome.warnings.append(
                "The reload of firewalld takes away what is only in its running configuration: " + "; ".join(plan.lost)
            )
        if version_number(outcome.seen.version) < KEEPS_IPTABLES and outcome.seen.dockers:
            outcome.warnings.append(
                f"A reload of firewalld {outcome.seen.version} wipes Docker's rules. Docker puts them back within seconds, but "
                "before 25.0.13 not those that keep its networks apart, and DOCKER-USER behind its own; the module "
                "docker_rules with force=true puts all of them back."
            )

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _do(self, wishes: Wishes, outcome: Outcome, record: Record) -> None:
        daemon, plan, seen = self.daemon, outcome.plan, outcome.seen
        # Before the changes: what is remembered and was never done is harmless, the other way round it stays for ever.
        self._step("the record", lambda: daemon.write_record(plan.record), lambda: daemon.write_record(record))
        self._permanent(plan, seen)
        if plan.reload:
            # What somebody's zone got back for one of these cannot be told later from what its owner wants.
            self._step("the owed reload", lambda: daemon.set_unread(True), lambda: daemon.set_unread(seen.unread))
        if plan.reload and self.may_reload:
            daemon.check_permanent()
            self._reloaded = True
            daemon.reload()
            daemon.set_unread(False)
            outcome.reloaded = True
            self._wait_for_docker(outcome)
            seen = daemon.seen()
            plan = make_plan(wishes, seen, plan.record, may_reload=False)
            if plan.errors:
                raise FirewalldError("; ".join(plan.errors))
        self._runtime(plan, seen)
        outcome.dockers = daemon.dockers()

    def _step(self, what: str, forward: t.Callable[[], None], back: t.Callable[[], None]) -> None:
        # Before it is tried: half of it may have happened when it fails.
        self._undo.append((what, back))
        forward()

    def _permanent(self, plan: Plan, seen: Seen) -> None:
        for item in _losing(plan, seen):
            self._write(item)
        for kind in KINDS:
            for key, goal in plan.permanent.items():
                if key[0] == kind and goal is not None:
                    self._write(goal)
        for kind in (POLICY, ZONE):
            for key, goal in plan.permanent.items():
                if key[0] == kind and goal is None:
                    self._change(key, partial(self.daemon.remove, key))
        for name, value in plan.settings.items():
            self._set(name, value, seen.settings[name])

    def _write(self, item: Item) -> None:
        self._change(item.key, lambda: self.daemon.write(item))

    def _change(self, key: Key, forward: t.Callable[[], None]) -> None:
        kept = self.daemon.keep(key)
        self._step(f"{key[0]} {key[1]}", forward, lambda: self.daemon.put_back(key, kept))

    def _set(self, name: str, value: str, before: str) -> None:
        daemon = self.daemon
        self._step(name, lambda: daemon.set_setting(name, value), lambda: daemon.set_setting(name, before))

    def _wait_for_docker(self, outcome: Outcome) -> None:
        """Docker hears of the reload and puts its bridges into its zone again."""
        until = self.daemon.now() + _PATIENCE
        while True:
            missing = [name for name in outcome.seen.dockers if name not in self.daemon.dockers()]
            if not missing:
                return
            if self.daemon.now() >= until:
                break
            self.daemon.sleep(_PAUSE)
        outcome.warnings.append(
            f"{', '.join(missing)} of Docker's did not come back to its zone within {_PATIENCE:g} s after the reload, so "
            "firewalld refuses what their containers start; restart Docker"
        )

    def _runtime(self, plan: Plan, seen: Seen) -> None:
        live = dict(seen.runtime)
        for move in plan.moves:
            self._move(move.key, move.entry, move.before, move.after)
            before, after = live[(ZONE, move.before)], live[(ZONE, move.after)]
            live[before.key] = before.with_lists(**{move.key: minus(move.key, before.entries(move.key), (move.entry,))})
            live[after.key] = after.with_lists(**{move.key: plus(move.key, after.entries(move.key), (move.entry,))})
        for key, goal in plan.runtime.items():
            self._set_runtime(live, _wide(live[key], goal))
        for goal in plan.runtime.values():
            self._set_runtime(live, goal)

    def _move(self, key: str, entry: str, before: str, after: str) -> None:
        daemon = self.daemon
        self._step(entry, lambda: daemon.move(key, entry, after), lambda: daemon.move(key, entry, before))

    def _set_runtime(self, live: dict[Key, Item], goal: Item) -> None:
        daemon, before = self.daemon, live[goal.key]
        if not same_item(before, goal):
            what = f"{goal.kind} {goal.name} at runtime"
            self._step(what, lambda: daemon.set_runtime(goal), lambda: daemon.set_runtime(before))
            live[goal.key] = goal

    # -- undoing -------------------------------------------------------------------------------------------------------

    def _take_back(self, outcome: Outcome) -> str:
        left = [what for what, back in reversed(self._undo) if not _succeeds(back)]
        said = "What was done before it was put back"
        if self._reloaded:
            # What came with the reload goes with another one.
            left += [] if _succeeds(self.daemon.reload) else ["the running configuration"]
            for key in outcome.plan.runtime:
                before = outcome.seen.runtime.get(key)
                if before is not None and not _succeeds(partial(self.daemon.set_runtime, before)):
                    left.append(f"{key[0]} {key[1]} at runtime")
            said += ", and firewalld reloaded again"
        if left:
            return f"{said}, but not: {', '.join(dict.fromkeys(left))}"
        return f"{said}."


def _succeeds(back: t.Callable[[], None]) -> bool:
    try:
        back()
    except FirewalldError:
        return False
    return True


def _losing(plan: Plan, seen: Seen) -> t.Iterator[Item]:
    """Zones without the interfaces and sources they lose: firewalld refuses to have one in two, even for a moment."""
    for key, goal in plan.permanent.items():
        now = seen.permanent.get(key)
        if key[0] != ZONE or now is None:
            continue
        left = {}
        for bound in BOUND:
            lost = minus(bound, now.entries(bound), () if goal is None else goal.entries(bound))
            left[bound] = minus(bound, now.entries(bound), lost)
        if any(len(left[bound]) < len(now.entries(bound)) for bound in BOUND):
            yield now.with_lists(**left)


def _wide(now: Item, goal: Item) -> Item:
    """All that is there and all that shall be; the ends of a policy do not bear that (ANY stands alone)."""
    lists = {key: plus(key, now.entries(key), goal.entries(key)) for key in LISTS[now.kind] if key not in ENDS}
    return now.with_lists(**lists)
