# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: /etc/nftables.conf as ours, and nftables.service so that it flushes nobody's tables.

docs/adr/0005-compat-layout.md says why every jump has a file of its own. May change at any time.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _boot, _compat, _files, _layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import Boot, BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import managed

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatTable, TableKey
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

#: One file for each jump: puts it where it is missing, and is refused everywhere else.
JUMP_PREFIX = "jump-"
#: Loads everything but the jumps, any number of times.
RELOAD = f"{_boot.DIRECTORY}/reload.conf"
#: Loads the administrator's own files. They come last and alone: one with a mistake must not keep ours away.
INCLUDES = f"{_boot.DIRECTORY}/includes.conf"
DROP_IN = f"{_boot.DROP_IN_DIRECTORY}/nftables_conf.conf"
UNIT_DROP_IN_DIRECTORY = f"{_boot.UNIT_PATH}.d"
UNIT_DROP_IN = f"{UNIT_DROP_IN_DIRECTORY}/nftables_conf.conf"
SERVICE = "nftables.service"
#: What was there before this role, kept beside it once.
BACKUP_SUFFIX = ".before-bulkhead"

_MANAGED = "# Managed by Ansible, module bulkhead.docker_nftables.nftables_conf. Changes made here are replaced.\n"
_JUMP_HEAD = (
    "# Puts one jump where none is. Where it is, nft refuses this file with 'Device or resource busy',\n"
    "# which is how a restart or reload leaves it in its place. That is no error.\n"
)
_DROP_IN_TEXT = """{header}# No start, reload or stop of this service flushes tables of Docker or of other tools.
[Unit]
Before=docker.service

[Service]
ExecStart=
{start}ExecReload=
{reload}ExecStop=
"""
# The own table goes first: a broken file among those that are included must not keep it away.
_UNIT_DROP_IN_TEXT = """{header}# The own table only marks: what follows the marks has to come back with it.
[Service]
{start}"""


class ConfFiles:
    """The files of one layout. `root` is put before every path, for tests."""

    def __init__(self, runner: RunnerLike, boot: Boot, path: str, root: str = "") -> None:
        self.runner = runner
        self.boot = boot
        self.path = path
        self.root = root

    @property
    def backup_path(self) -> str:
        """Where the file that was there before is kept."""
        return self.path + BACKUP_SUFFIX

    def require_service(self) -> None:
        """Raise BootError where nftables.service cannot load the file."""
        state = self._is_enabled()
        if state in ("masked", "masked-runtime"):
            raise BootError(
                f"{SERVICE} is masked, so nothing would load {self.path}; systemctl unmask {SERVICE} takes that back"
            )
        if state in ("", "not-found"):
            raise BootError(f"there is no {SERVICE} on this host, so nothing would load {self.path}")

    def _is_enabled(self) -> str:
        return self.runner.run(["systemctl", "is-enabled", SERVICE], check=False).stdout.strip()

    def wanted(
        self,
        table: tuple[str, str],
        saved: str,
        text: str,
        layout: Layout,
        shared: t.Mapping[TableKey, CompatTable],
        further: t.Mapping[TableKey, str],
    ) -> dict[str, tuple[str, int]]:
        """Give every file that has to be there: path to (text, mode). `saved` is the own table's transaction."""
        files = {path: item for path, item in self.boot.wanted(*table, saved).items() if path != self.path}
        nft = self.runner.find("nft") or "/usr/sbin/nft"
        loads = [f"{nft} -f {self.path}"]
        if shared:
            loads = [f"{nft} -f {RELOAD}"]
            files[RELOAD] = (self._reload_text(shared, further), 0o600)
            for key, want in shared.items():
                for target, lines in _compat.jump_texts(key, want).items():
                    path = f"{_boot.DIRECTORY}/{JUMP_PREFIX}{key[0]}-{key[1]}-{target}.conf"
                    files[path] = (_MANAGED + _JUMP_HEAD + "\n".join(lines) + "\n", 0o600)
                    loads.append(f"-{nft} -f {path}")
            included = self._included(text)
            if included:
                files[INCLUDES] = (_MANAGED + included, 0o600)
                loads.append(f"{nft} -f {INCLUDES}")
        # A reload puts the jumps back as well: with INPUT's policy alone, behind a flush, it would cut everything off.
        start = "".join(f"ExecStart={load}\n" for load in loads)
        reload = "".join(f"ExecReload={load}\n" for load in loads)
        if shared:
            post = "".join(f"ExecStartPost={load}\n" for load in loads)
            files[UNIT_DROP_IN] = (_UNIT_DROP_IN_TEXT.format(header=_MANAGED, start=post), 0o644)
        files[DROP_IN] = (_DROP_IN_TEXT.format(header=_MANAGED, start=start, reload=reload), 0o644)
        files[self.path] = (text, 0o700)
        files[_layout.PATH] = (_layout.text(layout), 0o600)
        return files

    def _reload_text(self, shared: t.Mapping[TableKey, CompatTable], further: t.Mapping[TableKey, str]) -> str:
        lines = [_boot.INCLUDE]
        for key, want in shared.items():
            lines += _compat.reload_text(key, want)
        for (family, name), listing in further.items():
            lines += [f"table {family} {name}", f"delete table {family} {name}", listing.rstrip("\n")]
        return _MANAGED + "\n".join(lines) + "\n"

    def _included(self, text: str) -> str:
        """Give the lines that include somebody's own files, and the definitions these may need."""
        lines = [line for line in text.split("\n") if line != _boot.INCLUDE]
        includes = [line for line in lines if line.split()[:1] == ["include"]]
        defines = [line for line in lines if line.split()[:1] == ["define"]]
        return "\n".join([*defines, *includes]) + "\n" if includes else ""

    def obsolete(self, files: t.Mapping[str, object]) -> list[str]:
        """List files of the other layout that are in the way."""
        return [path for path in self._helpers() if path not in files]

    def _helpers(self) -> list[str]:
        """List the files of one layout alone: what is loaded in the place of the whole file, and what has it loaded."""
        units = [UNIT_DROP_IN] if os.path.lexists(self.root + UNIT_DROP_IN) else []
        try:
            names = sorted(os.listdir(self.root + _boot.DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return units
        wanted = [name for name in names if name.startswith(JUMP_PREFIX) or f"{_boot.DIRECTORY}/{name}" in (RELOAD, INCLUDES)]
        return units + [f"{_boot.DIRECTORY}/{name}" for name in wanted]

    def enabled(self) -> bool:
        """Tell whether the next boot starts the service."""
        return self._is_enabled() == "enabled"

    def active(self) -> bool:
        """Tell whether the service counts as started, so that it can be reloaded."""
        return self.runner.run(["systemctl", "is-active", SERVICE], check=False).stdout.strip() == "active"

    def foreign(self) -> str | None:
        """Give the file's text where somebody else has written it, None where it is ours or missing."""
        found = _files.read(self.root + self.path)
        return None if found is None or managed(found) else _boot.excluded(found)

    def backup_due(self) -> str | None:
        """Give the path where somebody else's file is going to be kept, None where none is or one is kept already."""
        if self.foreign() is None or os.path.lexists(self.root + self.backup_path):
            return None
        return self.backup_path

    def save(self, files: dict[str, tuple[str, int]], missing: t.Iterable[str]) -> str | None:
        """Write the disk and have systemd know of it; gives the path of a backup that was made.

        Where that fails the files are as they were.
        """
        backup = self.backup_due()
        before = self.boot.snapshot([*missing, *self.obsolete(files)])
        try:
            if backup is not None:
                _files.write(self.root + backup, self.foreign() or "", 0o600)
            self._save(files, [path for path in before if path in files])
        except BaseException:
            self.boot.take_back(before)
            if backup is not None:
                _files.remove(self.root + backup)
            self.runner.run(["systemctl", "daemon-reload"], check=False)
            raise
        return backup

    def _save(self, files: dict[str, tuple[str, int]], missing: t.Iterable[str]) -> None:
        if UNIT_DROP_IN in files:
            os.makedirs(self.root + UNIT_DROP_IN_DIRECTORY, mode=0o755, exist_ok=True)
        self.boot.save(files, missing)
        if not self.enabled():
            self.runner.run(["systemctl", "enable", SERVICE])
        if not self.active():
            self.runner.run(["systemctl", "start", SERVICE], timeout=120)
        obsolete = self.obsolete(files)
        for path in obsolete:
            _files.remove(self.root + path)
        if UNIT_DROP_IN in obsolete:
            _files.remove_if_empty(self.root + UNIT_DROP_IN_DIRECTORY)
            self.runner.run(["systemctl", "daemon-reload"])

    def leftovers(self) -> dict[str, str | None]:
        """Give what `remove` would take away or edit: path to the text that stays, None where the file goes."""
        found: dict[str, str | None] = {
            path: None
            for path in (*self._helpers(), DROP_IN, _layout.PATH)
            if os.path.lexists(self.root + path)
        }
        backup = _files.read(self.root + self.backup_path)
        current = _files.read(self.root + self.path)
        if current is not None and managed(current):
            found[self.path] = backup
        if backup is not None:
            found[self.backup_path] = None
        return found

    def mode(self) -> int:
        """Give the mode of the file that is there, Debian's where there is none."""
        try:
            return stat.S_IMODE(os.stat(self.root + self.path).st_mode) & 0o777
        except FileNotFoundError:
            return 0o755

    def remove(self, disable: bool, mode: int) -> None:
        """Put the file back that was there before, with `mode`, and take the rest away; `disable` the service too."""
        found = self.leftovers()
        if disable and self.enabled():
            # While the drop-in is there, stopping flushes nothing.
            self.runner.run(["systemctl", "disable", "--now", SERVICE])
        for path, stays in found.items():
            if stays is None:
                _files.remove(self.root + path)
            else:
                _files.write(self.root + path, stays, mode)
        for directory in (_boot.DIRECTORY, _boot.DROP_IN_DIRECTORY, UNIT_DROP_IN_DIRECTORY):
            _files.remove_if_empty(self.root + directory)
        if DROP_IN in found:
            self.runner.run(["systemctl", "daemon-reload"])
