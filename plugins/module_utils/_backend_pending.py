# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from a switch of Docker's firewall backend that nobody has confirmed.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A service of systemd's in /run, so that it outlives the module, the connection and the controller. A timer starts it; so
does whoever cannot wait. After a reboot there is nothing left to do: the disk still has the old configuration.

The note is there from the first change until the last of the way back, or of the confirmation. Where it is there and
nothing waits, somebody was interrupted.
"""

from __future__ import annotations

import json
import os
import secrets
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_units, _files

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

PENDING = "pending.json"
_WAITING = ("active", "activating")
#: How long a confirmation may take to write the disk before the host goes back after all.
_SAVING = 180


class PendingError(Exception):
    """What was to be confirmed is not there any more, or something else still waits; the message says which."""


class Pending:
    """The files and units of one unconfirmed switch. `root` is put before the paths of files, for tests."""

    def __init__(self, runner: RunnerLike, root: str = "") -> None:
        self.runner = runner
        self.root = root
        self.directory = root + _backend_units.DIRECTORY

    def path(self, name: str) -> str:
        """Where one of the files is for programs that run on the host."""
        return f"{_backend_units.DIRECTORY}/{name}"

    def record(self) -> dict[str, t.Any] | None:
        """What a switch that is not at its end has noted down; empty where that cannot be read."""
        text = _files.read(f"{self.directory}/{PENDING}")
        if text is None:
            return None
        try:
            document = json.loads(text)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def refuse(self) -> None:
        """Raise PendingError while an earlier switch waits, or goes back."""
        if self.waits():
            raise PendingError(
                "an earlier change of Docker's firewall backend still waits for its confirmation and goes back by itself; "
                "try again after that"
            )
        if self._goes_back():
            raise PendingError(
                "an earlier change of Docker's firewall backend is going back just now; try again after that"
            )

    def interrupted(self) -> bool:
        """Whether an earlier switch or its way back came to no end, and nothing will bring it to one."""
        return self.record() is not None and not self.waits() and not self._goes_back()

    def _state(self, unit: str) -> str:
        return self.runner.run(["systemctl", "is-active", unit], check=False).stdout.strip()

    def waits(self) -> bool:
        """Whether the host would go back by itself."""
        return self._state(f"{_backend_units.REVERT}.timer") in _WAITING

    def _goes_back(self) -> bool:
        return self._state(f"{_backend_units.REVERT}.service") in (*_WAITING, "deactivating")

    def arm(self, files: t.Mapping[str, str], commands: t.Iterable[t.Sequence[str]], note: dict[str, t.Any]) -> str:
        """Write down the way back, without starting its timer; gives the token of the confirmation."""
        token = secrets.token_hex(16)
        _files.private_directory(self.directory.rpartition("/")[0])
        _files.private_directory(self.directory)
        try:
            for name, text in files.items():
                _files.replace(f"{self.directory}/{name}", text, 0o600)
            # Nothing of it outlives a way back that has come to its end.
            last = ["/bin/rm", "-f", *map(self.path, (PENDING, *files)), _backend_units.REVERT_UNIT]
            unit = _backend_units.revert_unit([*commands, last])
            _files.replace(self.root + _backend_units.REVERT_UNIT, unit, 0o644)
            self.runner.run(["systemctl", "daemon-reload"])
            _files.replace(f"{self.directory}/{PENDING}", json.dumps({**note, "token": token}), 0o600)
        except BaseException:
            self.forget()
            raise
        return token

    def wait(self, seconds: int) -> None:
        """Start the timer anew: the host goes back after so many seconds from now."""
        name = _backend_units.REVERT
        self.runner.run(["systemctl", "stop", f"{name}.timer"], check=False)
        self.runner.run(["systemctl", "reset-failed", f"{name}.service", f"{name}.timer"], check=False)
        timer = ["--timer-property=AccuracySec=100ms", f"--on-active={seconds}s"]
        self.runner.run(["systemd-run", f"--unit={name}.service", *timer])

    def go_back(self, timeout: int) -> None:
        """Go back now, and wait until that is done."""
        self.runner.run(["systemctl", "stop", f"{_backend_units.REVERT}.timer"], check=False)
        self.runner.run(["systemctl", "start", f"{_backend_units.REVERT}.service"], timeout=timeout)
        self.forget()

    def take(self, token: str) -> dict[str, t.Any]:
        """Have the timer wait for the disk; raises PendingError when it is too late for a confirmation."""
        document = self.record() or {}
        if not secrets.compare_digest(str(document.get("token")), token):
            raise PendingError(
                "there is no change with this confirmation on the host: it came too late, and the host has gone back to the "
                "backend it had before, or a reboot or another run ended it; nothing on disk was changed"
            )
        waiting = self.waits()
        self.runner.run(["systemctl", "stop", f"{_backend_units.REVERT}.timer"], check=False)
        if not waiting or self._goes_back():
            raise PendingError(
                "the confirmation came too late: the host goes back to the backend it had before; nothing on disk was changed"
            )
        # Whoever is killed while writing the disk leaves a host that goes back.
        self.wait(_SAVING)
        return document

    def forget(self) -> None:
        """Take away all of it but the file that dockerd reads."""
        self.runner.run(["systemctl", "stop", f"{_backend_units.REVERT}.timer"], check=False)
        _files.remove(f"{self.directory}/{PENDING}")
        _files.remove(self.root + _backend_units.REVERT_UNIT)
        for name in _listed(self.directory):
            if name != "daemon.json":
                _files.remove(f"{self.directory}/{name}")
        _files.remove_if_empty(self.directory)
        self.runner.run(["systemctl", "daemon-reload"])


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
