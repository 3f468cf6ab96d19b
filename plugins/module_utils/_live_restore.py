# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json for the time of one restart: live-restore is in it, and afterwards it is what it was, byte for byte.

Private to the collection: not meant to be used from anywhere else. May change at any time.

What the file was is on the disk before it is touched, so that whoever comes after a crash or a power loss can put
it back. A key that is taken out of the file keeps its value in the daemon, so that "off" has to be said as well.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

DIRECTORY = "/etc/bulkhead"
RECORD = f"{DIRECTORY}/daemon.json.kept"
KEY = "live-restore"


class LiveRestoreError(Exception):
    """daemon.json cannot be changed, or not be put back; the message says why."""


@dataclass(frozen=True)
class Kept:
    """What a file was (`text` None: it was not there), and what was written over it."""

    path: str
    text: str | None
    mode: int
    uid: int
    gid: int
    on: str
    off: str


def with_live_restore(text: str | None, value: bool) -> str:
    """The file's text with the key; raises ValueError where that is no JSON object."""
    document = json.loads(text.lstrip("\ufeff")) if text and text.strip("\ufeff \t\r\n") else {}
    if not isinstance(document, dict):
        raise ValueError(f"an object with settings is needed, not a {type(document).__name__}")
    return json.dumps({**document, KEY: value}, indent=2) + "\n"


class DaemonFile:
    """The file that dockerd reads. `root` is put before every path, for tests."""

    def __init__(self, path: str, root: str = "") -> None:
        self.path = path
        self.root = root

    def _at(self, path: str) -> str:
        return self.root + path

    def kept(self) -> Kept | None:
        """What an earlier run did not put back; raises LiveRestoreError where that cannot be read."""
        try:
            text = _files.read(self._at(RECORD))
            return None if text is None else Kept(**json.loads(text))
        except (OSError, ValueError, TypeError) as exc:
            raise LiveRestoreError(
                f"{RECORD} should hold what daemon.json was before a restart, and cannot be read: {exc}. Compare "
                f"daemon.json with your own copy, then remove {RECORD}"
            ) from exc

    def switch_on(self) -> Kept:
        """Keep what the file is and write live-restore into it; raises LiveRestoreError, and all is as it was."""
        try:
            kept = self._describe()
            _files.private_directory(self._at(DIRECTORY))
            _files.write(self._at(RECORD), json.dumps(asdict(kept)) + "\n", 0o600)
            try:
                os.makedirs(os.path.dirname(self._at(self.path)), mode=0o755, exist_ok=True)
                self._write(kept, kept.on)
            except BaseException:
                self._forget()
                raise
        except (OSError, ValueError) as exc:
            raise LiveRestoreError(f"{self.path} cannot be changed: {exc}") from exc
        return kept

    def _describe(self) -> Kept:
        text = _files.read(self._at(self.path))
        if text is None:
            return Kept(self.path, None, 0o644, 0, 0, with_live_restore(None, True), with_live_restore(None, False))
        found = os.stat(self._at(self.path))
        on, off = with_live_restore(text, True), with_live_restore(text, False)
        return Kept(self.path, text, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, on, off)

    def switch_off(self, kept: Kept) -> bool:
        """Say "off" for the next reload; false where the file is no longer ours to change."""
        if _files.read(self._at(kept.path)) not in (kept.on, kept.off):
            return False
        self._write(kept, kept.off)
        return True

    def put_back(self, kept: Kept) -> str | None:
        """Make the file what it was and forget about it; a sentence where somebody else has changed it meanwhile."""
        found = _files.read(self._at(kept.path))
        warning = None
        if found in (kept.on, kept.off):
            if kept.text is None:
                _files.remove(os.path.realpath(self._at(kept.path)))
            else:
                self._write(kept, kept.text)
        elif found != kept.text:
            warning = (
                f"{kept.path} was changed by somebody while live-restore was switched on for a restart; it is left "
                f"as it is. See whether {KEY} in it is what you want."
            )
        self._forget()
        return warning

    def _write(self, kept: Kept, text: str) -> None:
        place = self._at(kept.path)
        _files.write(place, text, kept.mode)
        found = os.stat(place)
        if kept.text is not None and (found.st_uid, found.st_gid) != (kept.uid, kept.gid):
            os.chown(place, kept.uid, kept.gid)

    def _forget(self) -> None:
        if _files.remove(self._at(RECORD)):
            _files.sync_directory(self._at(DIRECTORY))
        _files.remove_if_empty(self._at(DIRECTORY))
