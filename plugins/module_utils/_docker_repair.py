# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put back Docker's rules where they are gone, in the gentlest way there is, and wait until they are back.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_journal import last_words
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_read import engine_version
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import (
    KEY,
    DaemonFile,
    Kept,
    LiveRestoreError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._service_order import (
    Change,
    Facts,
    Kind,
    Step,
    in_order,
)

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges, Seen
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence

DOCKER = "docker.service"
FIREWALLD = "firewalld.service"
_RUN_DIRECTORY = "/run/bulkhead"
#: The first engine that can check its configuration without starting.
_VALIDATES = (23, 0)
#: How long what is missing has to be missing: Docker may be about to make it.
_SETTLE = 1.0
_RELOAD_TIMEOUT = 15.0
_FIREWALLD_TIMEOUT = 20.0
_ANSWER_TIMEOUT = 10.0
_POLL = 0.2
_LINE_LENGTH = 300
_NAMES_SHOWN = 10


class RepairError(Exception):
    """Docker's rules cannot be put back; the message says why, and what to do."""


@dataclass(frozen=True)
class Wishes:
    """The module's options."""

    method: str = "auto"
    live_restore: str = "temporary"
    allow_container_restart: bool = False
    start_stopped: bool = True
    force: bool = False
    timeout: int = 120


@dataclass
class Outcome:
    """What was found and done; `actions` in order."""

    changed: bool = False
    missing: list[str] = field(default_factory=list)
    method: str = "none"
    actions: list[str] = field(default_factory=list)
    seconds: float = 0.0
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Repair:
    """One run. `root` is put before the paths of files, for tests."""

    def __init__(self, edges: Edges, wishes: Wishes, root: str = "") -> None:
        self.edges = edges
        self.runner = edges.runner
        self.wishes = wishes
        self.root = root
        self.out = Outcome()
        self.kept: Kept | None = None
        self.file = DaemonFile("", root)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep two runs from restarting Docker at once; the second one waits."""
        directory = self.root + _RUN_DIRECTORY
        _files.private_directory(directory)
        handle = os.open(f"{directory}/docker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def present(self, check_mode: bool) -> Outcome:
        """Look, and put back what is missing; raises RepairError."""
        begin = self.edges.now()
        try:
            if check_mode:
                self._present(check_mode)
            else:
                with self._lock():
                    self._present(check_mode)
        except DockerUnavailable as exc:
            raise RepairError(f"Docker cannot be asked: {exc}") from exc
        except (LiveRestoreError, CommandError) as exc:
            raise RepairError(str(exc)) from exc
        self.out.seconds = round(self.edges.now() - begin, 1)
        self.out.changed = bool(self.out.actions)
        return self.out

    def _present(self, check_mode: bool) -> None:
        left = self.file.kept()
        presence = self.edges.presence()
        if left is not None:
            self._finish_earlier(left, presence, check_mode)
        if not presence.running:
            return
        seen = self.edges.look()
        if seen.missing and self.wishes.method != "none":
            self.edges.sleep(_SETTLE)
            seen = self.edges.look()
        self.out.missing = seen.missing
        if self.wishes.method == "none" or not (seen.missing or self.wishes.force):
            return
        if check_mode:
            steps = self._plan(seen)
            self._name_method(steps, seen)
            self.out.actions += [step.kind.value for step in steps if self._is_action(step)]
            return
        self._put_back(seen)

    def _finish_earlier(self, left: Kept, presence: DockerPresence, check_mode: bool) -> None:
        """A run was cut off between changing daemon.json and putting it back."""
        if self.wishes.method == "none":
            self.out.warnings.append(f"An earlier run could not put {left.path} back; the next one that may will.")
            return
        self.out.actions.append(f"put {left.path} back, which an earlier run could not")
        if check_mode:
            return
        self.kept = left
        self._live_restore_back(presence.running)

    # -- planning ------------------------------------------------------------------------------------------------------

    def _plan(self, seen: Seen, hears_firewalld: bool | None = None) -> list[Step]:
        """What to do; raises RepairError where it would stop containers without permission."""
        changes = set()
        if seen.lost:
            changes.add(Change.DOCKER_RULES_MISSING)
        if seen.misplaced:
            changes.add(Change.DOCKER_USER_MISPLACED)
        if self.wishes.force:
            changes.add(Change.DAEMON_RESTART)
        obstacle = self._obstacle(seen)
        facts = Facts(
            engine=seen.version,
            backend=seen.backend,
            containers=len(seen.running),
            live_restore=bool(seen.engine["live_restore"]),
            live_restore_switchable=obstacle is None,
            swarm=seen.swarm,
        )
        if seen.lost:
            facts = self._with_firewalld(facts, seen)
            if hears_firewalld is not None:
                facts = replace(facts, docker_hears_firewalld=hears_firewalld)
        steps = in_order(changes, facts)
        for step in steps:
            if step.kind is Kind.RESTART_DOCKER:
                self._may_restart(step, seen, obstacle)
        return steps

    def _obstacle(self, seen: Seen) -> str | None:
        """Why live-restore cannot be switched on for a restart."""
        if self.wishes.live_restore != "temporary":
            return f"live_restore is {self.wishes.live_restore}"
        if seen.swarm:
            return "the node is part of a swarm, and Docker allows no live-restore there"
        if KEY in seen.daemon.flags:
            return f"--{KEY} is on dockerd's command line, and Docker does not start with the key in both places"
        return None

    def _with_firewalld(self, facts: Facts, seen: Seen) -> Facts:
        shown = self._units()
        self._own_daemon(shown, seen)
        firewalld, docker = shown.get(FIREWALLD, {}), shown.get(DOCKER, {})
        active = firewalld.get("ActiveState") == "active"
        if not active or self.wishes.method == "restart":
            return facts
        hears = _number(firewalld, "ActiveEnterTimestampMonotonic") < _number(docker, "ExecMainStartTimestampMonotonic")
        said = self.runner.run(["firewall-cmd", "--version"], check=False).stdout
        return replace(facts, firewalld=True, firewalld_version=engine_version(said), docker_hears_firewalld=hears)

    def _units(self) -> dict[str, dict[str, str]]:
        """What systemd says of the units, by their names."""
        names = "Id,ActiveState,MainPID,ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic"
        shown = self.runner.run(["systemctl", "show", f"--property={names}", DOCKER, FIREWALLD]).stdout
        units = {}
        for block in shown.split("\n\n"):
            pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            units[pairs.get("Id", "")] = pairs
        return units

    def _own_daemon(self, shown: dict[str, dict[str, str]], seen: Seen) -> None:
        pid = shown.get(DOCKER, {}).get("MainPID")
        if pid != str(seen.presence.pid):
            raise RepairError(
                f"Docker has to be restarted, and the dockerd that runs (process {seen.presence.pid}) is not the one of "
                f"{DOCKER}: restart it the way it was started"
            )

    def _may_restart(self, step: Step, seen: Seen, obstacle: str | None) -> None:
        if seen.daemon.error is not None:
            raise RepairError(f"Docker has to be restarted, and would not start again: {seen.daemon.error}")
        if step.disrupts and not self.wishes.allow_container_restart:
            names = sorted(seen.running.values())
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            raise RepairError(
                f"Docker has to be restarted ({step.reason[:1].lower()}{step.reason[1:-1]}), which stops its running "
                f"containers ({', '.join(names[:_NAMES_SHOWN])}{more}), because live-restore is off and cannot be "
                f"switched on for the moment: {obstacle}. Set allow_container_restart to true when they may stop, or "
                f'switch live-restore on for good ("{KEY}": true in daemon.json)'
            )

    def _is_action(self, step: Step) -> bool:
        """Whether a step changes something, as far as can be told before."""
        if step.kind is Kind.START_CONTAINERS:
            return self.wishes.start_stopped
        return step.kind is not Kind.WAIT_FOR_DOCKER

    def _name_method(self, steps: list[Step], seen: Seen) -> None:
        kinds = _kinds(steps)
        if Kind.RESTART_DOCKER not in kinds:
            self.out.method = "firewalld_reload" if Kind.RELOAD_FIREWALLD in kinds else "docker_user"
        elif Kind.LIVE_RESTORE_ON in kinds:
            self.out.method = "temporary_live_restore"
        elif seen.engine["live_restore"]:
            self.out.method = "live_restore"
        else:
            self.out.method = "container_restart" if seen.running else "restart"

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _put_back(self, seen: Seen) -> None:
        steps = self._plan(seen)
        self._name_method(steps, seen)
        if Kind.RELOAD_FIREWALLD in _kinds(steps) and not self._by_firewalld():
            steps = self._plan(seen, hears_firewalld=False)
            self._name_method(steps, seen)
        self._run(steps, seen)
        if Kind.RESTART_DOCKER in _kinds(steps):
            self._containers(seen, start=self.wishes.start_stopped and Kind.START_CONTAINERS in _kinds(steps))

    def _by_firewalld(self) -> bool:
        """Whether a reload of firewalld made Docker put its rules back."""
        self._do(Kind.RELOAD_FIREWALLD)
        self.runner.run(["firewall-cmd", "--reload"], timeout=self.wishes.timeout)
        until = self.edges.now() + min(_FIREWALLD_TIMEOUT, self.wishes.timeout)
        while self.edges.look().lost:
            if self.edges.now() > until:
                return False
            self.edges.sleep(_POLL)
        return True

    def _do(self, kind: Kind) -> None:
        self.out.actions.append(kind.value)

    def _run(self, steps: list[Step], seen: Seen) -> None:
        kinds = _kinds(steps)
        if Kind.RESTART_DOCKER in kinds:
            self._own_daemon(self._units(), seen)
            self._validate(seen)
            try:
                if Kind.LIVE_RESTORE_ON in kinds:
                    self._live_restore_on(seen)
                self._restart()
                if Kind.PLACE_DOCKER_USER in kinds:
                    self._place_docker_user()
            finally:
                if self.kept is not None:
                    self._do(Kind.LIVE_RESTORE_BACK)
                    self._live_restore_back(self.edges.presence().running)
        elif Kind.PLACE_DOCKER_USER in kinds:
            self._place_docker_user()

    def _validate(self, seen: Seen) -> None:
        """Refuse a restart after which Docker would not come up."""
        arguments = list(seen.presence.arguments)
        if seen.version < _VALIDATES:
            return
        result = self.runner.run([arguments[0], "--validate", *arguments[1:]], check=False)
        if result.rc != 0:
            said = (result.stderr.strip() or result.stdout.strip())[:_LINE_LENGTH]
            raise RepairError(f"Docker has to be restarted, and would not start with its configuration: {said}")

    def _live_restore_on(self, seen: Seen) -> None:
        self._do(Kind.LIVE_RESTORE_ON)
        # Where the file says so already, the daemon has only to hear of it, and it stays.
        if seen.daemon.settings.get(KEY) is not True:
            self.file = DaemonFile(seen.daemon.path, self.root)
            self.kept = self.file.switch_on()
        self._reload(True)

    def _reload(self, wanted: bool) -> None:
        """Have Docker read daemon.json, and make sure that it took live-restore from it."""
        self.runner.run(["systemctl", "reload", DOCKER])
        until = self.edges.now() + _RELOAD_TIMEOUT
        while self.edges.live_restore() is not wanted:
            if self.edges.now() > until:
                state = "on" if wanted else "off"
                raise RepairError(
                    f"Docker did not switch live-restore {state} when it was told to.{last_words(self.runner)}"
                )
            self.edges.sleep(_POLL)

    def _live_restore_back(self, running: bool) -> None:
        """Switch live-restore off in the daemon and make daemon.json what it was, the latter come what may."""
        kept, self.kept = self.kept, None
        if kept is None:
            return
        try:
            if running and self.file.switch_off(kept):
                self._reload(False)
        except (RepairError, CommandError, DockerUnavailable) as exc:
            self.out.warnings.append(f"live-restore may be on in the running daemon until its next start: {exc}")
        finally:
            warning = self.file.put_back(kept)
            if warning is not None:
                self.out.warnings.append(warning)

    def _restart(self) -> None:
        self._do(Kind.RESTART_DOCKER)
        until = self.edges.now() + self.wishes.timeout
        # As shipped, systemd starts Docker only three times a minute, and then leaves it stopped.
        self.runner.run(["systemctl", "reset-failed", DOCKER], check=False)
        try:
            self.runner.run(["systemctl", "restart", DOCKER], timeout=self.wishes.timeout)
        except CommandError:
            # systemd tries again by itself; what becomes of it is seen below.
            pass
        missing: list[str] = []
        while True:
            try:
                missing = self.edges.look(_ANSWER_TIMEOUT).lost
                if not missing:
                    return
            except DockerUnavailable as exc:
                missing = [str(exc)]
                if self._state() == "failed":
                    text = f"Docker did not come up again after a restart.{self._run_on()}{last_words(self.runner)}"
                    raise RepairError(text) from exc
            if self.edges.now() > until:
                raise RepairError(
                    f"Docker was restarted, and {self.wishes.timeout} seconds later its rules are not all back: "
                    f"{' '.join(missing)}{self._run_on()}{last_words(self.runner)}"
                )
            self.edges.sleep(_POLL)

    def _state(self) -> str:
        return self.runner.run(["systemctl", "is-active", DOCKER], check=False).stdout.strip()

    def _run_on(self) -> str:
        """What becomes of the containers when a restart with live-restore fails."""
        if self.kept is None:
            return ""
        return " The containers run on; a start of Docker without live-restore stops them."

    def _place_docker_user(self) -> None:
        misplaced = self.edges.look().misplaced
        if not misplaced:
            return
        self._do(Kind.PLACE_DOCKER_USER)
        commands = [command for each in misplaced for command in each.commands]
        # One transaction: there is no moment without the jump.
        self.runner.run(["nft", "-f", "-"], stdin="".join(f"{command}\n" for command in commands))

    def _containers(self, seen: Seen, start: bool) -> None:
        """Start what the restart ended and did not start again; name what then does not run."""
        running = self.edges.look().running
        ended = [(name, identity) for identity, name in seen.running.items() if identity not in running]
        for name, identity in sorted(ended):
            if not start:
                self.out.stopped.append(name)
                continue
            try:
                self.edges.start_container(identity)
                self.out.started.append(name)
                self.out.actions.append(f"start container {name}")
            except DockerUnavailable as exc:
                self.out.stopped.append(name)
                self.out.warnings.append(f"Container {name} ran before the restart and cannot be started: {exc}")


def _kinds(steps: list[Step]) -> list[Kind]:
    return [step.kind for step in steps]


def _number(shown: dict[str, str], key: str) -> int:
    value = shown.get(key, "")
    return int(value) if value.isdigit() else 0
