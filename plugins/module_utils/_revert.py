# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: a timer on the host that puts the old table back.

systemd owns the timer, so that it outlives this process, the connection and the controller.
Everything it needs lies in /run, so that after a reboot there is nothing left to revert: the
disk still has the old table. May change at any time.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import secrets
import time
import typing as t
from contextlib import contextmanager

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

    class Revertible(t.Protocol):
        """What is applied and may have to be taken back; named after the own table in it."""

        family: str
        name: str

        def live(self) -> str | None: ...

        def undo_script(self) -> str: ...

        def rescue_scripts(self) -> list[str]: ...

        def check(self, script: str) -> None: ...


RUN_DIRECTORY = "/run/bulkhead"


class RevertError(Exception):
    """The timer cannot be armed, or what it would have kept is gone; the message says which."""


class Revert:
    """The pending confirmation of one table."""

    def __init__(self, runner: RunnerLike, table: Revertible, root: str = "") -> None:
        self.runner = runner
        self.table = table
        self.directory = root + RUN_DIRECTORY
        self.name = f"{table.family}-{table.name}"
        self.unit = f"bulkhead-revert-{self.name}"

    def _path(self, kind: str) -> str:
        return f"{self.directory}/{self.name}.{kind}"

    @contextmanager
    def lock(self) -> t.Iterator[None]:
        """Keep two runs from changing the table at once; the second one waits."""
        _files.private_directory(self.directory)
        handle = os.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def pending(self) -> dict[str, t.Any] | None:
        """Give the record of an apply that waits for its confirmation."""
        text = _files.read(self._path("pending"))
        if text is None:
            return None
        if self._state(f"{self.unit}.timer") not in ("active", "activating"):
            return None
        record = json.loads(text)
        return record if isinstance(record, dict) else None

    def _state(self, unit: str) -> str:
        return self.runner.run(["systemctl", "is-active", unit], check=False).stdout.strip()

    def arm(self, seconds: int, applied: str) -> dict[str, t.Any]:
        """Start the timer that puts back the table as it is now.

        `applied` is the canonical form of what is going to be loaded. Raises RevertError, and TableError
        where the present table could not be loaded again.
        """
        script = self.table.undo_script()
        rescue = self.table.rescue_scripts()
        for text in (script, *rescue[:1]):
            self.table.check(text)
        record = {"token": secrets.token_hex(16), "seconds": seconds, "applied": applied}
        _files.private_directory(self.directory)
        self._forget()
        _files.write(self._path("revert.nft"), script, 0o600)
        for number, text in enumerate(rescue):
            _files.write(self._rescue_path(number), text, 0o600)
        _files.write(self._path("pending"), json.dumps(record), 0o600)
        nft = self.runner.find("nft") or "/usr/sbin/nft"
        # A unit of an earlier revert that failed would be in the way.
        self.runner.run(["systemctl", "reset-failed", f"{self.unit}.service"], check=False)
        self.runner.run(
            [
                "systemd-run",
                f"--unit={self.unit}",
                "--description=Put back the nftables table that an unconfirmed apply replaced",
                f"--on-active={seconds}s",
                "--timer-property=AccuracySec=100ms",
                "--property=Type=oneshot",
                *self._around(nft, len(rescue)),
                "--collect",
                nft,
                "-f",
                self._path("revert.nft"),
            ]
        )
        return record

    def applied(self, record: dict[str, t.Any], live: str) -> None:
        """Note what was loaded, where that is known only afterwards."""
        _files.write(self._path("pending"), json.dumps({**record, "applied": live}), 0o600)

    def _rescue_path(self, number: int) -> str:
        return self._path(f"rescue-{number}.nft")

    def _around(self, nft: str, rescues: int) -> list[str]:
        """Have the service load the first rescue before the way back, and the others behind it even if that fails."""
        settings = ["ExecStartPre", *["ExecStopPost"] * (rescues - 1)][:rescues]
        return [f"--property={name}=-{nft} -f {self._rescue_path(number)}" for number, name in enumerate(settings)]

    def scripts(self) -> list[str]:
        """Give what the timer would load, in order; empty where nothing waits."""
        script = _files.read(self._path("revert.nft"))
        if script is None:
            return []
        found = (_files.read(self._rescue_path(number)) for number in itertools.count())
        rescue = list(itertools.takewhile(lambda text: text is not None, found))
        return [text for text in (*rescue[:1], script, *rescue[1:]) if text is not None]

    def go_back(self, scripts: t.Sequence[str]) -> None:
        """Load what the timer would have loaded; only the first must not be refused."""
        for number, script in enumerate(scripts):
            self.runner.run(["nft", "-f", "-"], stdin=script, check=not number)

    def disarm(self) -> None:
        """Stop the timer and forget the old table."""
        self.runner.run(["systemctl", "stop", f"{self.unit}.timer"], check=False)
        self._forget()

    def _forget(self) -> None:
        for kind in ("pending", "revert.nft"):
            _files.remove(self._path(kind))
        for number in itertools.count():
            if not _files.remove(self._rescue_path(number)):
                break

    def confirm(self, token: str) -> None:
        """Keep what was applied: stop the timer and make sure that it did not run.

        Raises RevertError when there is nothing to confirm or the old table is back.
        """
        text = _files.read(self._path("pending"))
        record = json.loads(text) if text is not None else None
        if not isinstance(record, dict) or not secrets.compare_digest(str(record.get("token")), token):
            raise RevertError("there is no apply with this confirmation on the host; a reboot or another run ended it")
        waiting = self._state(f"{self.unit}.timer") in ("active", "activating")
        self.runner.run(["systemctl", "stop", f"{self.unit}.timer"], check=False)
        # A revert that has begun is let finish, so that what is compared is what stays.
        while self._state(f"{self.unit}.service") in ("activating", "active", "deactivating"):
            time.sleep(0.05)
        if self.table.live() != record["applied"]:
            if waiting:
                # Without its timer nothing else would put the old table back; loading it twice does no harm.
                self.go_back(self.scripts())
                self.disarm()
                raise RevertError(
                    "the table is not what was applied: somebody else changed it meanwhile, or the confirmation came"
                    " too late; the host has put back the table it had before; nothing on disk was changed"
                )
            raise RevertError(
                "the confirmation came too late: the host has put back the table it had before;"
                " nothing on disk was changed"
            )
        self.disarm()

    def now(self, token: str) -> None:
        """Put the old table back at once, if the apply is still unconfirmed."""
        record = self.pending()
        if record is None or not secrets.compare_digest(str(record.get("token")), token):
            raise RevertError("there is no apply with this confirmation on the host; it has already been reverted")
        self.go_back(self.scripts())
        self.disarm()
