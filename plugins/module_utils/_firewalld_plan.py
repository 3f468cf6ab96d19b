# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From wishes, and what firewalld has permanently and at runtime, to what has to change in both.

Private to the collection: not meant to be used from anywhere else. May change at any time.

What is ours by its name is made exactly as it is wished. In everything else a run starts from what it would be without
us, by the record of what earlier runs did, and does its wishes to that.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    BOUND,
    BY_RELOAD,
    DOCKER_ZONE,
    ENDS,
    KINDS,
    LISTS,
    SCALARS,
    SYMBOLIC,
    ZONE,
    Entries,
    Item,
    Key,
    Seen,
    Wanted,
    Wishes,
    canonical,
    is_ours,
    minus,
    plus,
    same,
    same_item,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_record import Changes, Record, Was

PERMANENT = "permanent"
RUNTIME = "runtime"


class Operation(t.NamedTuple):
    """One thing that changes, for the user. `value` is an entry, a single value, or empty."""

    scope: str
    kind: str
    name: str
    action: str
    key: str = ""
    value: str = ""


class Move(t.NamedTuple):
    """An interface or a source that goes from one zone to another at runtime."""

    key: str
    entry: str
    before: str
    after: str


@dataclass
class Plan:
    """What will be. In `permanent` a None is removed; only what differs is in it, and in `runtime`."""

    permanent: dict[Key, Item | None] = field(default_factory=dict)
    runtime: dict[Key, Item] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    record: Record = field(default_factory=Record)
    #: Why a reload is needed, in words.
    reload: list[str] = field(default_factory=list)
    #: What others have at runtime only, which a reload takes away.
    lost: list[str] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def make_plan(wishes: Wishes, seen: Seen, record: Record, may_reload: bool) -> Plan:
    """What has to change; without a reload the runtime gets what it can get."""
    return _Planner(wishes, seen, record, may_reload).run()


class _Planner:
    def __init__(self, wishes: Wishes, seen: Seen, record: Record, may_reload: bool) -> None:
        self.wishes = wishes
        self.seen = seen
        self.record = record
        self.may_reload = may_reload
        self.wanted = {item.key: item for item in wishes.items}
        self.plan = Plan()
        #: What every zone and policy of ours, or touched by us, shall be permanently; None is removed.
        self.goals: dict[Key, Item | None] = {}
        #: What each of them shall be at runtime.
        self.live: dict[Key, Item] = {}
        #: What will be our doing in zones and policies of others.
        self.changes: dict[Key, Changes] = {}

    def run(self) -> Plan:
        self._permanent()
        self._leave_taken()
        self.plan.record = Record(self.changes, self._settings())
        self._removals()
        self._bound_permanently()
        self._reload_reasons()
        if self.plan.reload and self.may_reload:
            self._after_reload()
        else:
            self._at_runtime()
        self._differences()
        return self.plan

    # -- permanent -----------------------------------------------------------------------------------------------------

    def _permanent(self) -> None:
        seen = self.seen
        keys = [key for key in (*seen.permanent, *seen.runtime) if is_ours(key[1])]
        for key in dict.fromkeys((*self.wanted, *keys, *self.record.items)):
            wanted = self.wanted.get(key)
            now = seen.permanent.get(key)
            if is_ours(key[1]):
                self.goals[key] = None if wanted is None else _exactly(wanted)
            elif now is not None:
                self.goals[key], changed = _others(now, wanted or Wanted(*key), self.record.items.get(key, Changes()))
                if changed:
                    self.changes[key] = changed

    def _settings(self) -> dict[str, Was]:
        changes = {}
        for key in dict.fromkeys((*self.wishes.settings, *self.record.settings)):
            now = self.seen.settings.get(key)
            if now is None:
                continue
            was = self.record.settings.get(key)
            original = was.before if was is not None and was.given == now else now
            goal = self.wishes.settings.get(key, original)
            if goal != now:
                self.plan.settings[key] = goal
            if goal != original:
                changes[key] = Was(original, goal)
        return changes

    def _leave_taken(self) -> None:
        """What would come back to somebody's zone, but is in another one, stays there.

        If that is by this task, a later one brings it back; if not, somebody has decided since.
        """
        for zone, key, entry in list(self._bindings()):
            now, goal = self.seen.permanent.get(zone), self.goals[zone]
            if goal is None or now is None or _has(now, key, entry) or self._wants(zone, key, entry):
                continue
            for other in {**self.seen.permanent, **self.goals}:
                holder = self.goals.get(other, self.seen.permanent.get(other))
                if other == zone or other[0] != ZONE or holder is None or not _has(holder, key, entry):
                    continue
                self.goals[zone] = goal.with_lists(**{key: minus(key, goal.entries(key), (entry,))})
                if self._wants(other, key, entry):
                    changes = self.changes.get(zone, Changes())
                    removed = {**changes.removed, key: plus(key, changes.removed.get(key, ()), (entry,))}
                    self.changes[zone] = replace(changes, removed=removed)

    def _removals(self) -> None:
        """What is ours and goes must not be needed by others."""
        gone = {name for (kind, name), goal in self.goals.items() if kind == ZONE and goal is None}
        if self.seen.default_zone in gone:
            self.plan.errors.append(
                f"zones: {self.seen.default_zone} is not wanted any more, but is firewalld's default zone; make another "
                "one the default first"
            )
        for key, now in self.seen.permanent.items():
            item = self.goals.get(key, now)
            if item is None or key in self.wanted:
                continue
            for end in ENDS:
                for name in item.entries(end):
                    if name in gone:
                        self.plan.errors.append(
                            f"zones: {name} is not wanted any more, but {end} of the policy {item.name} has it; take it out there"
                        )

    def _bound_permanently(self) -> None:
        """An interface or a source that somebody's zone keeps cannot go to another one."""
        for zone, key, entry in self._bindings():
            for other, now in self.seen.permanent.items():
                holder = self.goals.get(other, now)
                if other != zone and other[0] == ZONE and holder is not None and _has(holder, key, entry):
                    if not self._wants(other, key, entry):
                        self._conflict(zone[1], key, entry, other[1], "permanently")

    def _bindings(self) -> t.Iterator[tuple[Key, str, str]]:
        for key, goal in self.goals.items():
            if key[0] == ZONE and goal is not None:
                for bound in BOUND:
                    for entry in goal.entries(bound):
                        yield key, bound, entry

    def _conflict(self, zone: str, key: str, entry: str, other: str, how: str) -> None:
        # What is in two zones already, or shall be by the task itself, is none of this task's or said elsewhere.
        if not self._wants((ZONE, zone), key, entry):
            return
        text = f"zones ({zone}).{key}: {entry} is {how} in zone {other}, and can be in one zone only; "
        self.plan.errors.append(f"{text}name it in absent.{key} of {other}, or take it out of there")

    def _wants(self, zone: Key, key: str, entry: str) -> bool:
        wanted = self.wanted.get(zone, Wanted(*zone)).lists.get(key, ())
        return canonical(key, entry) in {canonical(key, other) for other in wanted}

    # -- the way to the runtime ----------------------------------------------------------------------------------------

    def _reload_reasons(self) -> None:
        reasons = self.plan.reload
        for key, goal in self.goals.items():
            kind, name = key
            now = self.seen.runtime.get(key)
            if goal is None:
                if now is not None:
                    reasons.append(f"{kind} {name} goes")
                continue
            if now is None:
                reasons.append(f"{kind} {name} is new")
                continue
            for scalar in self._ours_of(goal):
                if scalar in BY_RELOAD and now.scalar(scalar) != goal.scalar(scalar):
                    reasons.append(f"{scalar} of {kind} {name} changes")
        needed = {name for item in self.wishes.items for name in item.lists.get("services", ())}
        for name in sorted(needed & self.seen.services - self.seen.runtime_services):
            reasons.append(f"service {name} was never loaded")
        reasons.extend(f"{name} of firewalld.conf changes" for name in sorted(self.plan.settings))
        if self.seen.unread:
            reasons.append("an earlier run left something to the next reload")

    def _ours_of(self, goal: Item) -> t.Iterable[str]:
        """The single values that we have a say in."""
        if is_ours(goal.name):
            return SCALARS[goal.kind]
        wanted = self.wanted.get(goal.key)
        recorded = self.record.items.get(goal.key, Changes())
        return [key for key in SCALARS[goal.kind] if key in recorded.scalars or (wanted and key in wanted.scalars)]

    def _after_reload(self) -> None:
        """A reload makes the runtime what is permanent."""
        for key, goal in self.goals.items():
            if goal is not None:
                self.live[key] = goal
        for key, now in self.seen.runtime.items():
            if key in self.goals or key == (ZONE, DOCKER_ZONE):
                continue
            kept = self.seen.permanent.get(key)
            for lists in LISTS[key[0]]:
                if lists == "interfaces" and key == (ZONE, self.seen.default_zone):
                    continue  # They come back with NetworkManager, and are in the default zone without it.
                gone = minus(lists, now.entries(lists), kept.entries(lists) if kept is not None else ())
                self.plan.lost.extend(f"{key[0]} {key[1]}: {lists} {entry}" for entry in gone)

    def _at_runtime(self) -> None:
        """What can be changed without a reload."""
        there = {name for kind, name in self.seen.runtime if kind == ZONE}
        for key, goal in self.goals.items():
            now = self.seen.runtime.get(key)
            if goal is None or now is None:
                continue
            if is_ours(key[1]):
                live = goal.with_scalars(**{name: now.scalar(name) for name in BY_RELOAD if name in SCALARS[key[0]]})
            else:
                live = self._others_live(now, goal)
            for end in ENDS:
                if end in LISTS[key[0]]:
                    live = live.with_lists(**{end: tuple(z for z in live.entries(end) if z in there or z in SYMBOLIC)})
            known = tuple(name for name in live.entries("services") if name in self.seen.runtime_services)
            self.live[key] = live.with_lists(services=known)
        self._keep_until_reload()
        self._move()

    def _others_live(self, now: Item, goal: Item) -> Item:
        wanted = self.wanted.get(now.key, Wanted(*now.key))
        recorded = self.record.items.get(now.key, Changes())
        lists = {}
        for key in LISTS[now.kind]:
            given, dropped = wanted.lists.get(key, ()), wanted.absent.get(key, ())
            if wanted.exclusive and key in wanted.lists:
                lists[key] = given
                continue
            back = minus(key, recorded.removed.get(key, ()), dropped)
            if key in BOUND:
                back = tuple(entry for entry in back if _has(goal, key, entry))
            gone = plus(key, minus(key, recorded.added.get(key, ()), given), dropped)
            lists[key] = plus(key, minus(key, now.entries(key), gone), plus(key, back, given))
        scalars = {key: goal.scalar(key) for key in self._ours_of(goal) if key not in BY_RELOAD}
        return now.with_lists(**lists).with_scalars(**scalars)

    def _keep_until_reload(self) -> None:
        """What goes to a zone that only a reload brings stays where it is until then."""
        waiting = [(key, entry) for zone, key, entry in self._bindings() if zone not in self.seen.runtime]
        for zone, live in list(self.live.items()):
            for key, entry in waiting:
                if zone[0] == ZONE and _has(self.seen.runtime[zone], key, entry):
                    live = live.with_lists(**{key: plus(key, live.entries(key), (entry,))})
            self.live[zone] = live

    def _move(self) -> None:
        for zone, live in list(self.live.items()):
            if zone[0] != ZONE:
                continue
            for key in BOUND:
                for entry in live.entries(key):
                    self._move_one(zone, key, entry)

    def _move_one(self, zone: Key, key: str, entry: str) -> None:
        for other, now in self.seen.runtime.items():
            if other == zone or other[0] != ZONE or not _has(now, key, entry):
                continue
            if self.goals.get(other, now) is not None and _has(self.live.get(other, now), key, entry):
                permanent = self.seen.permanent.get(other)
                if permanent is not None and _has(self.goals.get(other, permanent) or permanent, key, entry):
                    return  # Said already, of the permanent configuration.
                # NetworkManager binds to the default zone what nobody bound; that is nobody's choice.
                if other[1] != self.seen.default_zone:
                    if not self._wants(zone, key, entry):
                        left = minus(key, self.live[zone].entries(key), (entry,))
                        self.live[zone] = self.live[zone].with_lists(**{key: left})
                    self._conflict(zone[1], key, entry, other[1], "at runtime")
                    return
                left = minus(key, self.live.get(other, now).entries(key), (entry,))
                self.live[other] = self.live.get(other, now).with_lists(**{key: left})
            self.plan.moves.append(Move(key, entry, other[1], zone[1]))
            return

    # -- differences ---------------------------------------------------------------------------------------------------

    def _differences(self) -> None:
        plan = self.plan
        for key, goal in self.goals.items():
            now = self.seen.permanent.get(key)
            if (now is None) != (goal is None) or (now is not None and goal is not None and not same_item(now, goal)):
                plan.permanent[key] = goal
                plan.operations.extend(_changes(PERMANENT, key, now, goal))
        for name, value in sorted(plan.settings.items()):
            plan.operations.append(Operation(PERMANENT, "setting", name, "set", "", value))
        by_reload = bool(plan.reload) and self.may_reload
        if by_reload:
            for key, goal in self.goals.items():
                if goal is None and key in self.seen.runtime:
                    plan.operations.extend(_changes(RUNTIME, key, self.seen.runtime[key], None))
        for key, live in self.live.items():
            before = self.seen.runtime.get(key)
            if before is None or not same_item(before, live):
                plan.runtime[key] = live
                plan.operations.extend(_changes(RUNTIME, key, before, live))
        if by_reload:
            plan.operations.append(Operation(RUNTIME, "firewalld", "", "reload"))


def _exactly(wanted: Wanted) -> Item:
    lists = {key: wanted.lists.get(key, ()) for key in LISTS[wanted.kind]}
    return Item(wanted.kind, wanted.name, lists, {**SCALARS[wanted.kind], **wanted.scalars})


def _others(now: Item, wanted: Wanted, recorded: Changes) -> tuple[Item, Changes]:
    """What somebody else's zone or policy shall be, and what of that is our doing."""
    lists: dict[str, Entries] = {}
    added: dict[str, Entries] = {}
    removed: dict[str, Entries] = {}
    for key in LISTS[now.kind]:
        left = minus(key, now.entries(key), recorded.added.get(key, ()))
        original = plus(key, left, recorded.removed.get(key, ()))
        if wanted.exclusive and key in wanted.lists:
            goal = wanted.lists[key]
        else:
            goal = plus(key, minus(key, original, wanted.absent.get(key, ())), wanted.lists.get(key, ()))
        lists[key] = now.entries(key) if same(key, goal, now.entries(key)) else goal
        for changes, entries in ((added, minus(key, goal, original)), (removed, minus(key, original, goal))):
            if entries:
                changes[key] = entries
    scalars: dict[str, t.Any] = {}
    values: dict[str, Was] = {}
    for name in SCALARS[now.kind]:
        value = now.scalar(name)
        was = recorded.scalars.get(name)
        before = was.before if was is not None and was.given == value else value
        scalars[name] = wanted.scalars.get(name, before)
        if scalars[name] != before:
            values[name] = Was(before, scalars[name])
    return Item(now.kind, now.name, lists, scalars), Changes(added, removed, values)


def _has(item: Item, key: str, entry: str) -> bool:
    return canonical(key, entry) in {canonical(key, other) for other in item.entries(key)}


def _changes(scope: str, key: Key, before: Item | None, after: Item | None) -> t.Iterator[Operation]:
    kind, name = key
    if after is None:
        yield Operation(scope, kind, name, "remove")
        return
    if before is None:
        yield Operation(scope, kind, name, "create")
    for lists in LISTS[kind]:
        old = () if before is None else before.entries(lists)
        for entry in minus(lists, after.entries(lists), old):
            yield Operation(scope, kind, name, "add", lists, entry)
        for entry in minus(lists, old, after.entries(lists)):
            yield Operation(scope, kind, name, "drop", lists, entry)
    for scalar, default in SCALARS[kind].items():
        value = default if before is None else before.scalar(scalar)
        if value != after.scalar(scalar):
            yield Operation(scope, kind, name, "set", scalar, _text(after.scalar(scalar)))


def _text(value: t.Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# -- for --diff --------------------------------------------------------------------------------------------------------


def difference(plan: Plan, seen: Seen, scope: str) -> tuple[str, str]:
    """What the zones, policies and settings that change were, and what they will be."""
    now = seen.permanent if scope == PERMANENT else seen.runtime
    goals: t.Mapping[Key, Item | None] = plan.permanent if scope == PERMANENT else plan.runtime
    gone = {
        (kind, name) for where, kind, name, action, *_rest in plan.operations if (where, action) == (scope, "remove")
    }
    before: list[str] = []
    after: list[str] = []
    for key in sorted(set(goals) | gone, key=lambda each: (KINDS.index(each[0]), each[1])):
        before.extend(_lines(now.get(key)))
        after.extend(_lines(goals.get(key)))
    if scope == PERMANENT:
        for name, value in sorted(plan.settings.items()):
            before.append(f"{name}={seen.settings[name]}\n")
            after.append(f"{name}={value}\n")
    return "".join(before), "".join(after)


def _lines(item: Item | None) -> t.Iterator[str]:
    if item is None:
        return
    yield f"{item.kind} {item.name}\n"
    for scalar in SCALARS[item.kind]:
        yield f"  {scalar}: {_text(item.scalar(scalar))}\n"
    for key in LISTS[item.kind]:
        for entry in sorted(item.entries(key)):
            yield f"  {key}: {entry}\n"
