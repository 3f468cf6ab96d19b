# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from a switch of Docker's firewall backend that nobody has confirmed.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A service of systemd's in /run, so that it outlives the module, the connection and the controller. A timer starts it; so
does whoever cannot wait. After a reboot there is nothing left to do: the disk still has the old configuration.
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
        """What a switch that waits for its confirmation has noted down."""
        text = _files.read(f"{self.directory}/{PENDING}")
        if text is None or not self._timer_waits():
            return None
        document = json.loads(text)
        return document if isinstance(document, dict) else None

    def refuse(self) -> None:
        """Raise PendingError while an earlier switch waits."""
        if self.record() is not None:
            raise PendingError(
                "an earlier change of Docker's firewall backend still waits for its confirmation and goes back by itself; "
                "try again after that"
            )

    def _state(self, unit: str) -> str:
        return self.runner.run(["systemctl", "is-active", unit], check=False).stdout.strip()

    def _timer_waits(self) -> bool:
        return self._state(f"{_backend_units.REVERT}.timer") in _WAITING

    def arm(self, files: t.Mapping[str, str], commands: t.Iterable[t.Sequence[str]], note: dict[str, t.Any]) -> str:
        """Write down the way back, without starting its timer; gives the token of the confirmation."""
        token = secrets.token_hex(16)
        _files.private_directory(self.directory.rpartition("/")[0])
        _files.private_directory(self.directory)
        for name, text in files.items():
            _files.replace(f"{self.directory}/{name}", text, 0o600)
        _files.replace(f"{self.directory}/{PENDING}", json.dumps({**note, "token": token}), 0o600)
        _files.replace(self.root + _backend_units.REVERT_UNIT, _backend_units.revert_unit(commands), 0o644)
        self.runner.run(["systemctl", "daemon-reload"])
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
        """Stop the timer for a confirmation; raises PendingError when it is too late for that."""
        text = _files.read(f"{self.directory}/{PENDING}")
        document = json.loads(text) if text is not None else None
        if not isinstance(document, dict) or not secrets.compare_digest(str(document.get("token")), token):
            raise PendingError(
                "there is no change with this confirmation on the host; a reboot or another run ended it"
            )
        waiting = self._timer_waits()
        self.runner.run(["systemctl", "stop", f"{_backend_units.REVERT}.timer"], check=False)
        if not waiting or self._state(f"{_backend_units.REVERT}.service") in (*_WAITING, "deactivating"):
            raise PendingError(
                "the confirmation came too late: the host goes back, or has gone back, to the backend it had before; "
                "nothing on disk was changed"
            )
        return document

    def forget(self) -> None:
        """Take away all of it but the file that dockerd reads."""
        self.runner.run(["systemctl", "stop", f"{_backend_units.REVERT}.timer"], check=False)
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
