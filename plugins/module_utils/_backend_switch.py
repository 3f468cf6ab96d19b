# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch Docker's firewall backend on a host: plan, apply, and keep it or go back.

Private to the collection: not meant to be used from anywhere else. May change at any time.

Until the confirmation nothing on disk changes: dockerd is started with a daemon.json in /run, so that a reboot, too, is
a way back.
"""

from __future__ import annotations

import fcntl
import os
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _backend_iptables,
    _backend_record,
    _backend_units,
    _daemon_json,
    _files,
    _forwarding,
    _nft_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Outcome
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_docker import (
    DockerError,
    DockerService,
    config_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_look import FORWARDING, SAVE, Look, Seen
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_pending import Pending
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_plan import (
    FAMILIES,
    NFTABLES,
    TABLE,
    Obstacle,
    Plan,
    Planner,
    Wishes,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_way import (
    RESTORE,
    Former,
    Published,
    Way,
    WayBack,
    guard,
    unguard,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import Boot, table_path
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import Found, write_file
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import parse_save
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import LiveRestoreError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import SysctlTree
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable, require_nft

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges

FAMILY = "inet"
_RUN_DIRECTORY = "/run/bulkhead"
#: Longer than any restart of Docker: who holds the timer is then gone.
_MARGIN = 120
_GO_BACK_FIRST = "go back from an earlier change that was interrupted half way"


class BackendError(Exception):
    """The switch cannot be made, or was taken back; the message says why."""


@dataclass
class Switched(Outcome):
    """What was done or would be done, and what the plan says."""

    plan: Plan = field(default_factory=Plan)
    before: str = ""
    published: list[dict[str, t.Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    engine: str = ""


class Switch:
    """One run. `root` is put before the paths of files, for tests."""

    def __init__(self, edges: Edges, wishes: Wishes, timeout: int = 120, root: str = "") -> None:
        self.edges = edges
        self.runner = edges.runner
        self.wishes = wishes
        self.timeout = timeout
        self.root = root
        self.own = OwnTable(self.runner, FAMILY, TABLE)
        self.boot = Boot(self.runner, root)
        self.docker = DockerService(edges, root)
        self.pending = Pending(self.runner, root)
        self.tree = SysctlTree(root or "/")

    @contextmanager
    def _lock(self) -> t.Iterator[None]:
        """Keep two runs from restarting Docker at once; the second one waits."""
        directory = self.root + _RUN_DIRECTORY
        _files.private_directory(directory)
        handle = os.open(f"{directory}/docker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    # -- planning ------------------------------------------------------------------------------------------------------

    def present(self, check_mode: bool, confirm_timeout: int) -> Switched:
        """Make the backend the wanted one; with obstacles nothing is changed."""
        require_nft(self.runner)
        self.boot.require_systemd()
        if check_mode:
            self.pending.refuse()
            if self.pending.interrupted():
                # What comes after that depends on what is there then.
                seen = Look(self.edges, self.root).take()
                return Switched([_GO_BACK_FIRST], before=seen.facts.backend, published=seen.published)
            return self._present(True, confirm_timeout)
        with self._lock():
            self.pending.refuse()
            first = []
            if self.pending.interrupted():
                self.pending.go_back(self.timeout + _MARGIN)
                first.append(_GO_BACK_FIRST)
            said = self.docker.tidy()
            out = self._present(False, confirm_timeout)
            out.actions[:0] = first
            out.warnings += [said] if said else []
            return out

    def _present(self, check_mode: bool, confirm_timeout: int) -> Switched:
        seen = Look(self.edges, self.root).take()
        plan = Planner(seen.facts, self.wishes).make()
        out = Switched(plan=plan, before=seen.facts.backend, published=seen.published, engine=seen.host.engine.text)
        if not plan.obstacles:
            self._validate(plan, seen)
        if plan.obstacles:
            return out
        sysctls = self._sysctls(plan.restart)
        live = self.own.live()
        wanted = None if plan.table is None else self.own.normalise(plan.table)
        self._describe(out, seen, sysctls, live, wanted)
        if check_mode or not out.changed:
            return out
        self._apply(out, seen, sysctls, confirm_timeout)
        return out

    def _validate(self, plan: Plan, seen: Seen) -> None:
        """Have dockerd itself look at the file."""
        if plan.text is None or not (plan.written and seen.host.validates):
            return
        objection = seen.host.objection(plan.text, seen.facts.path)
        if objection is not None:
            said = f"dockerd {seen.host.engine.text} does not find {seen.facts.path} valid: {objection}"
            plan.obstacles.append(Obstacle("daemon_json", said))

    def _sysctls(self, restart: bool) -> _forwarding.Plan:
        """Forwarding as Docker's nftables backend needs it; the iptables backend sees to it by itself at its start."""
        if self.wishes.backend == NFTABLES:
            return _forwarding.plan_present(self.tree)
        record = _backend_record.read(self.root)
        plan = _forwarding.Plan([], None, None, False, {}, False, [], [], [])
        if record is not None and record.made_sysctl_file:
            plan = _forwarding.plan_absent(self.tree)
        # Without the table nothing would keep the host from forwarding everything.
        keys = [FORWARDING[family] for family in (record.closed if record is not None and restart else ())]
        return plan._replace(live=[_forwarding.Change(key, "1", "0") for key in keys if self.tree.get(key) == "1"])

    def _describe(
        self, out: Switched, seen: Seen, sysctls: _forwarding.Plan, live: str | None, wanted: str | None
    ) -> None:
        """Every difference, in the order in which it is made true."""
        plan = out.plan
        label = f"table {FAMILY} {TABLE}"
        there = self.wishes.backend == NFTABLES
        if there and live != wanted:
            out.record(f"load {label}" if wanted else f"remove {label}", f"{label} (kernel)", live, wanted)
        for change in sysctls.live:
            name = change.key.replace("/", ".")
            out.record(f"set {name} to {change.after}", f"{name} (kernel)", f"{change.before}\n", f"{change.after}\n")
        if plan.restart:
            if plan.lend_live_restore:
                out.actions.append("switch live-restore on for the restart, so that containers run on")
            out.actions.append(f"restart Docker with the backend {self.wishes.backend}, and wait for its rules")
        for family, user in plan.user.items():
            if not user.left:
                continue
            text = _backend_iptables.restoration(user) + _backend_iptables.policy(user)
            where = f"DOCKER-USER and the policy of FORWARD ({FAMILIES[family]})"
            out.record(f"{'remove' if there else 'put back'} {where}", where, *((text, "") if there else ("", text)))
        if not there and live is not None:
            out.record(f"remove {label}", f"{label} (kernel)", live, None)
        if plan.written:
            before, after = _daemon_json.masked(seen.file.text or ""), _daemon_json.masked(plan.text or "")
            out.record(f"write {seen.facts.path}", seen.facts.path, before, after)
        if sysctls.file_changed:
            path = _forwarding.SYSCTL_FILE
            out.record(f"write {path}", path, sysctls.file_before, sysctls.file_after)
        for path, (found, text) in sorted(self._boot_missing(plan).items()):
            out.record(f"write {path}", path, found, text)
        for path, stays in sorted(self._boot_leftovers(plan).items()):
            out.record(f"clean {path}", path, _files.read(self.root + path), stays)
        out.warnings += [*seen.host.warnings, *sysctls.warnings]

    def _script(self, plan: Plan) -> str:
        return _nft_text.replace_script(FAMILY, TABLE, plan.table)

    def _boot_missing(self, plan: Plan) -> dict[str, tuple[str | None, str]]:
        if plan.table is None:
            return {}
        return self.boot.missing(self.boot.wanted(FAMILY, TABLE, self._script(plan)))

    def _boot_leftovers(self, plan: Plan) -> dict[str, str | None]:
        if plan.table is not None or self.boot.saved(FAMILY, TABLE) is None:
            return {}
        return self.boot.leftovers(FAMILY, TABLE)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _apply(self, out: Switched, seen: Seen, sysctls: _forwarding.Plan, confirm_timeout: int) -> None:
        plan, there = out.plan, self.wishes.backend == NFTABLES
        command = self.docker.command() if plan.restart else ""
        former = self._former(plan, seen, sysctls)
        way = Way(self.runner.find, former, plan.restart, plan.lend_live_restore).make()
        note = self._note(plan, seen)
        self.own.check(self._script(plan))
        token = self._armed(plan, seen, way, note)
        try:
            self.pending.wait(self.timeout + _MARGIN)
            if there:
                self.own.replace(plan.table)
            else:
                self._load(plan, _backend_iptables.restoration)
            _forwarding.apply(self.tree, sysctls._replace(file_changed=False))
            if plan.restart:
                self._restart(plan, seen, command)
            if there:
                self._clean()
            else:
                self._load(plan, _backend_iptables.policy)
                self.own.replace(None)
            if plan.restart:
                self.own.load(unguard())
            self._start_ended(out, seen)
            if not self.pending.waits():
                raise BackendError("It took too long, and the host has begun to go back by itself.")
            if confirm_timeout:
                self.pending.wait(confirm_timeout)
        except BaseException as exc:
            raise BackendError(f"{exc}{self._taken_back(former)}") from exc
        if confirm_timeout:
            out.confirmation = {"token": token, "seconds": confirm_timeout}
        else:
            self.confirm(token, locked=True)

    def _armed(self, plan: Plan, seen: Seen, way: WayBack, note: dict[str, t.Any]) -> str:
        """Lend live-restore, which every way back that restarts Docker needs, and write that down; gives the token."""
        if plan.lend_live_restore:
            try:
                self.docker.lend_live_restore(seen.running_path)
            except (CommandError, DockerError, LiveRestoreError) as exc:
                raise BackendError(
                    f"Nothing was changed, as live-restore cannot be switched on for the restart: {exc}"
                ) from exc
        try:
            return self.pending.arm(way.files, way.commands, note)
        except BaseException:
            if plan.lend_live_restore:
                self.docker.lend_live_restore(seen.running_path, False)
            raise

    def _former(self, plan: Plan, seen: Seen, sysctls: _forwarding.Plan) -> Former:
        user = plan.user
        live = {family: _backend_iptables.user_chain(parse_save(text)) for family, text in seen.facts.saved.items()}
        if seen.facts.backend != NFTABLES and not plan.restart:
            user = {family: live[family] for family in user if family in live}
        return Former(
            backend=seen.facts.backend,
            settings=plan.former,
            path=seen.facts.path,
            user=user,
            dropping=tuple(family for family, each in live.items() if each.policy == "DROP"),
            table=self.own.undo_script(),
            sysctls=tuple((change.key.replace("/", "."), change.before) for change in reversed(sysctls.live)),
            published=_ports(seen),
            running=tuple(seen.running) if plan.restart and not plan.lend_live_restore else (),
        )

    def _note(self, plan: Plan, seen: Seen) -> dict[str, t.Any]:
        """What the confirmation needs to know; only root can read it."""
        record = plan.record
        if (
            record is not None
            and seen.facts.record is None
            and not os.path.lexists(self.root + _forwarding.SYSCTL_FILE)
        ):
            record = replace(record, made_sysctl_file=True)
        return {
            "backend": self.wishes.backend,
            "path": seen.facts.path,
            "text": plan.text,
            "written": plan.written,
            "lent": plan.lend_live_restore,
            "restart": plan.restart,
            "settings": plan.settings,
            "table": plan.table,
            "record": None if record is None else record.text(),
        }

    def _restart(self, plan: Plan, seen: Seen, command: str) -> None:
        text = config_text(plan.settings, self.wishes.backend, True if plan.lend_live_restore else None)
        _files.replace(self.root + _backend_units.CONFIG, text, 0o600)
        self.docker.take_file(command)
        self.own.load(guard(_ports(seen)))
        self.docker.restart(self.wishes.backend, self.timeout)

    def _load(self, plan: Plan, text_of: t.Callable[[_backend_iptables.UserChain], str]) -> None:
        for family, user in plan.user.items():
            text = text_of(user)
            if text:
                self.runner.run([RESTORE[family], "--noflush"], stdin=text)

    def _clean(self) -> None:
        """Remove what is there now of DOCKER-USER: Docker has taken its own chains away meanwhile."""
        for family, tool in SAVE.items():
            if self.runner.find(tool) is None or self.runner.find(RESTORE[family]) is None:
                continue
            saved = parse_save(self.runner.run([tool, "-t", "filter"]).stdout)
            text = _backend_iptables.removal(_backend_iptables.user_chain(saved))
            if text:
                self.runner.run([RESTORE[family], "--noflush"], stdin=text)

    def _start_ended(self, out: Switched, seen: Seen) -> None:
        """Start what the restart ended and did not start again."""
        if not out.plan.restart:
            return
        running = self.edges.look().running
        for identity, name in sorted(seen.running.items(), key=lambda item: item[1]):
            if identity in running:
                continue
            try:
                self.edges.start_container(identity)
                out.actions.append(f"start container {name}")
            except DockerUnavailable as exc:
                out.warnings.append(f"Container {name} ran before the restart and cannot be started: {exc}")

    def _taken_back(self, former: Former) -> str:
        """Go back at once, and say what came of it."""
        try:
            self.pending.go_back(self.timeout + _MARGIN)
            backend = self.edges.look().backend
        except CommandError as exc:
            return f" The host was to go back to the backend {former.backend}, and is not there yet: {exc}"
        except DockerUnavailable as exc:
            return f" The host was to go back to the backend {former.backend}, and Docker cannot be asked: {exc}"
        if backend != former.backend:
            return f" The host was to go back to the backend {former.backend}, and Docker runs with {backend}."
        return f" The host has gone back to the backend {former.backend}; nothing on disk was changed."

    # -- keeping -------------------------------------------------------------------------------------------------------

    def confirm(self, token: str, locked: bool = False) -> Switched:
        """Keep an unconfirmed switch and write it to disk."""
        if not locked:
            with self._lock():
                return self.confirm(token, locked=True)
        note = self.pending.take(token)
        out = Switched(actions=["confirm the backend"])
        try:
            self._holds(note)
            self._save(note, out)
        except BaseException as exc:
            self.pending.go_back(self.timeout + _MARGIN)
            raise BackendError(f"The change could not be kept, so the host has gone back: {exc}") from exc
        self.pending.forget()
        self.docker.drop_file()
        return out

    def _holds(self, note: dict[str, t.Any]) -> None:
        """Raise BackendError where what was made is not there any more."""
        backend, wanted = self.edges.look().backend, note["table"]
        if backend != note["backend"]:
            raise BackendError(f"Docker runs with the backend {backend}.")
        if self.own.live() != (None if wanted is None else self.own.normalise(wanted)):
            raise BackendError(f"Somebody has changed table {FAMILY} {TABLE} since it was loaded.")

    def _save(self, note: dict[str, t.Any], out: Switched) -> None:
        """The disk, whole or not at all.

        In an order in which a power loss leaves no host that boots with the nftables backend and without the table, and
        no table without the record that it was made from.
        """
        table, path = note["table"], note["path"]
        files = {}
        if table is not None:
            files = self.boot.wanted(FAMILY, TABLE, _nft_text.replace_script(FAMILY, TABLE, table))
        gone = {} if table is not None else self._saved_table()
        missing = self.boot.missing(files)
        touched = [path, _backend_record.PATH, _forwarding.SYSCTL_FILE, *missing, *gone]
        before = self.boot.snapshot(touched)
        steps = [
            lambda: self._save_record(note),
            lambda: self.boot.save(files, missing) if missing else None,
            lambda: self.boot.remove(FAMILY, TABLE) if gone else None,
            lambda: _forwarding.apply(self.tree, self._sysctls(restart=False)),
            lambda: self._save_daemon_json(note),
            lambda: self._hand_over(note) if note["restart"] else None,
        ]
        if note["record"] is None:
            # The record says whether the file with sysctls is ours.
            steps = [*steps[4:], *reversed(steps[:4])]
        try:
            for step in steps:
                step()
        except BaseException:
            self._take_back(before)
            raise

    def _take_back(self, before: dict[str, tuple[str, int] | None]) -> None:
        """Make the disk what it was, as far as it lets us."""
        if before.get(table_path(FAMILY, TABLE), ()) is None:
            # Enabled units and directories are no files of the snapshot.
            with suppress(OSError, CommandError):
                self.boot.remove(FAMILY, TABLE)
        self.boot.take_back(before)
        _files.remove_if_empty(os.path.dirname(self.root + _backend_record.PATH))

    def _saved_table(self) -> dict[str, str | None]:
        return self.boot.leftovers(FAMILY, TABLE) if self.boot.saved(FAMILY, TABLE) is not None else {}

    def _save_record(self, note: dict[str, t.Any]) -> None:
        path = self.root + _backend_record.PATH
        if note["record"] is None:
            _files.remove(path)
            _files.remove_if_empty(os.path.dirname(path))
            return
        _files.private_directory(os.path.dirname(path))
        _files.write(path, note["record"], 0o600)

    def _save_daemon_json(self, note: dict[str, t.Any]) -> None:
        if not note["written"]:
            return
        path = self.root + note["path"]
        if note["text"] is None:
            _files.remove(path)
            return
        found = Found(None)
        if os.path.lexists(path):
            status = os.stat(path)
            found = Found(_files.read(path), status.st_mode & 0o7777, status.st_gid)
        write_file(path, found, note["text"], backup=False)

    def _hand_over(self, note: dict[str, t.Any]) -> None:
        """Docker reads its real file from now on; live-restore is given back first."""
        if note["lent"]:
            text = config_text(note["settings"], note["backend"], False)
            _files.replace(self.root + _backend_units.CONFIG, text, 0o600)
            self.docker.reload(False)
        self.docker.give_file(note["path"])

    def put_back(self, token: str) -> Switched:
        """Go back from an unconfirmed switch without waiting for the timer."""
        with self._lock():
            self.pending.take(token)
            self.pending.go_back(self.timeout + _MARGIN)
        return Switched(actions=["go back to the former backend"])


def _ports(seen: Seen) -> tuple[Published, ...]:
    return tuple(
        (address, each["protocol"], each["host_port"]) for each in seen.published for address in each["host_addresses"]
    )
