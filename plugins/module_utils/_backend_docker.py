# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart Docker with another daemon.json that lives in /run, with its containers running on, and wait for its rules.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_units, _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_journal import last_words
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_repair import DOCKER
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import KEY, DaemonFile
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges

_POLL = 0.2
_RELOAD_TIMEOUT = 15.0
_ANSWER_TIMEOUT = 10.0


class DockerError(Exception):
    """Docker did not do what it was to do; the message says what."""


def config_text(settings: dict[str, t.Any], backend: str, live_restore: bool | None) -> str:
    """A daemon.json that says the backend, and live-restore where it is lent."""
    lent = {} if live_restore is None else {KEY: live_restore}
    return json.dumps({**settings, "firewall-backend": backend, **lent}, indent=2) + "\n"


class DockerService:
    """docker.service and the file it reads for the moment. `root` is put before the paths of files, for tests."""

    def __init__(self, edges: Edges, root: str = "") -> None:
        self.edges = edges
        self.runner = edges.runner
        self.root = root

    def command(self) -> str:
        """The line that starts dockerd, as its unit has it; raises UnitError."""
        return _backend_units.exec_start(self.runner.run(["systemctl", "cat", DOCKER]).stdout)

    def lend_live_restore(self, path: str, on: bool = True) -> None:
        """Switch live-restore on in the running daemon, or off again; its file is what it was when this returns."""
        file = DaemonFile(path, self.root)
        kept = file.switch_on()
        try:
            if not on:
                file.switch_off(kept)
            self.reload(on)
        finally:
            file.put_back(kept)

    def tidy(self) -> str | None:
        """Take away what an earlier run was kept from: the drop-in, and live-restore in daemon.json; gives a warning."""
        self.drop_file()
        file = DaemonFile("", self.root)
        kept = file.kept()
        return None if kept is None else file.put_back(kept)

    def reload(self, wanted: bool) -> None:
        """Have Docker read its file again, and make sure that it took live-restore from it."""
        self.runner.run(["systemctl", "reload", DOCKER])
        until = self.edges.now() + _RELOAD_TIMEOUT
        while self.edges.live_restore() is not wanted:
            if self.edges.now() > until:
                state = "on" if wanted else "off"
                raise DockerError(
                    f"Docker did not switch live-restore {state} when it was told to.{last_words(self.runner)}"
                )
            self.edges.sleep(_POLL)

    def take_file(self, command: str) -> None:
        """Have the next start of dockerd read the file in /run; raises DockerError where a drop-in forbids it."""
        path = self.root + _backend_units.DROP_IN
        _files.private_directory(path.rpartition("/")[0], 0o755)
        _files.replace(path, _backend_units.drop_in(command), 0o644)
        self.runner.run(["systemctl", "daemon-reload"])
        shown = self.runner.run(["systemctl", "show", "--property=ExecStart", DOCKER]).stdout
        if _backend_units.CONFIG not in shown:
            raise DockerError(f"{_backend_units.DROP_IN} has no effect: a drop-in of docker.service that is read later")

    def give_file(self, path: str) -> None:
        """From now on the running daemon reads the real file when it is reloaded."""
        directory = self.root + _backend_units.DIRECTORY
        self.runner.run(["ln", "-sfn", "--", path, f"{directory}/daemon.json"])

    def drop_file(self) -> None:
        """The next daemon starts with its real file, too. Not before there is no way back any more: that needs this."""
        if _files.remove(self.root + _backend_units.DROP_IN):
            self.runner.run(["systemctl", "daemon-reload"])

    def restart(self, backend: str, timeout: int) -> None:
        """Restart Docker, and wait until it has the backend and all of its rules."""
        until = self.edges.now() + timeout
        # As shipped, systemd starts Docker only three times a minute, and then leaves it stopped.
        self.runner.run(["systemctl", "reset-failed", DOCKER], check=False)
        try:
            self.runner.run(["systemctl", "restart", DOCKER], timeout=timeout)
        except CommandError:
            # systemd tries again by itself; what becomes of it is seen below.
            pass
        while True:
            try:
                seen = self.edges.look(_ANSWER_TIMEOUT)
                missing = list(seen.lost)
                if seen.backend != backend:
                    missing.append(f"Docker runs with the backend {seen.backend}.")
                if not missing:
                    return
            except DockerUnavailable as exc:
                missing = [str(exc)]
                if self._state() == "failed":
                    raise DockerError(
                        f"Docker did not come up with the backend {backend}.{last_words(self.runner)}"
                    ) from exc
            if self.edges.now() > until:
                raise DockerError(
                    f"Docker was restarted, and {timeout} seconds later it is not all there: {' '.join(missing)}{last_words(self.runner)}"
                )
            self.edges.sleep(_POLL)

    def _state(self) -> str:
        return self.runner.run(["systemctl", "is-active", DOCKER], check=False).stdout.strip()
