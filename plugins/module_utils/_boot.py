# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what has to be on disk so that an own table is there at every boot.

Also what keeps it there when somebody restarts, reloads or stops nftables.service, whose
shipped units flush the whole ruleset. docs/adr/0004-boot-and-flush.md says why each file is there.
May change at any time.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

DIRECTORY = "/etc/bulkhead"
TABLES = f"{DIRECTORY}/tables"
LOAD = f"{DIRECTORY}/load.conf"
FLUSH = f"{DIRECTORY}/flush.conf"
UNIT = "bulkhead.service"
UNITS = "/etc/systemd/system/"
UNIT_PATH = f"{UNITS}{UNIT}"
DROP_IN_DIRECTORY = f"{UNITS}nftables.service.d"
DROP_IN = f"{DROP_IN_DIRECTORY}/bulkhead.conf"
#: Where distributions keep the file that nftables.service loads: Debian, Arch and SUSE; then RHEL.
DISTRIBUTION_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")
#: The pattern lets the distribution's file load even when this collection's files are gone.
INCLUDE = f'include "{DIRECTORY}/load*.conf" # bulkhead: a flush and the tables after it are one transaction'
#: The same for a file whose last line had no end, which is taken away again with the line.
INCLUDE_JOINED = f"{INCLUDE} (the line above had no end)"

_HEADER = "# Managed by Ansible, module bulkhead.docker_nftables.nftables_ruleset. Changes made here are replaced.\n"
_LOAD_TEXT = f'{_HEADER}include "{TABLES}/*.nft"\n'
_FLUSH_TEXT = f'{_HEADER}flush ruleset\ninclude "{TABLES}/*.nft"\n'

_UNIT_TEXT = """{header}[Unit]
Description=Load bulkhead's nftables tables
Documentation=man:nft(8)
DefaultDependencies=no
RequiresMountsFor={directory}
After=nftables.service
Before=network-pre.target docker.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
# However often Docker restarts: systemd never declines to load them.
StartLimitIntervalSec=0

[Service]
# Not RemainAfterExit: starting it again always loads the tables again, in one transaction.
Type=oneshot
ExecStart={nft} -f {load}

[Install]
WantedBy=sysinit.target docker.service
"""

_DROP_IN_TEXT = """{header}[Service]
ExecStartPost={nft} -f {load}
ExecReload={nft} -f {load}
ExecStop=
ExecStop={nft} -f {flush}
"""


class BootError(Exception):
    """The host cannot load a table at boot; the message says why."""


def table_path(family: str, table: str) -> str:
    """Where the text of one table lives."""
    return f"{TABLES}/{family}-{table}.nft"


def included(text: str) -> bool:
    """Tell whether a distribution's file loads our tables."""
    lines = text.split("\n")
    return INCLUDE in lines or INCLUDE_JOINED in lines


def excluded(text: str) -> str:
    """Take our line out of a distribution's file; every other byte stays."""
    joined = f"\n{INCLUDE_JOINED}\n"
    if text.endswith(joined):
        return text[: -len(joined)]
    lines = text.split("\n")
    return "\n".join(line for line in lines if line not in (INCLUDE, INCLUDE_JOINED))


class Boot:
    """The files and the unit. `root` is put before every path, for tests."""

    def __init__(self, runner: RunnerLike, root: str = "") -> None:
        self.runner = runner
        self.root = root

    def _at(self, path: str) -> str:
        return self.root + path

    def require_systemd(self) -> None:
        """Raise BootError on a host that systemd does not run."""
        if not os.path.isdir(self._at("/run/systemd/system")):
            raise BootError(
                "systemd does not run on this host, so nothing would load the table at boot"
                " and nothing could revert it; set boot to false and confirm_timeout to 0 to go on without"
            )

    def saved(self, family: str, table: str) -> str | None:
        """Give the text that the next boot would load."""
        return _files.read(self._at(table_path(family, table)))

    def wanted(self, family: str, table: str, text: str) -> dict[str, tuple[str, int]]:
        """Give every file that has to be there: path to (text, mode)."""
        nft = self.runner.find("nft") or "/usr/sbin/nft"
        names = {"header": _HEADER, "nft": nft, "load": LOAD, "flush": FLUSH, "directory": DIRECTORY}
        files = {
            table_path(family, table): (text, 0o600),
            LOAD: (_LOAD_TEXT, 0o600),
            FLUSH: (_FLUSH_TEXT, 0o600),
            UNIT_PATH: (_UNIT_TEXT.format(**names), 0o644),
            DROP_IN: (_DROP_IN_TEXT.format(**names), 0o644),
        }
        for path in DISTRIBUTION_FILES:
            # One that is linked to /dev/null loads nothing; the unit loads the tables by itself.
            found = _files.read(self._at(path)) if os.path.isfile(self._at(path)) else None
            if found is not None and not included(found):
                joined = bool(found) and not found.endswith("\n")
                line = f"\n{INCLUDE_JOINED}\n" if joined else f"{INCLUDE}\n"
                files[path] = (found + line, self._mode(path))
        return files

    def _mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(self._at(path)).st_mode)

    def missing(self, files: dict[str, tuple[str, int]]) -> dict[str, tuple[str | None, str]]:
        """Give what differs: path to (text now, text wanted).

        Raises BootError where a path leads to something that must not be replaced.
        """
        result = {}
        for path, (text, mode) in files.items():
            target = os.path.realpath(self._at(path))
            if os.path.lexists(target) and not os.path.isfile(target):
                hint = f"; systemctl unmask {UNIT} takes that back" if path == UNIT_PATH else ""
                raise BootError(f"{path} leads to {target}, which is no regular file{hint}; nothing was changed")
            found = _files.read(self._at(path))
            if found != text or self._mode(path) != mode:
                result[path] = (found, text)
        return result

    def enabled(self) -> bool:
        """Tell whether the next boot starts the unit."""
        return self.runner.run(["systemctl", "is-enabled", UNIT], check=False).stdout.strip() == "enabled"

    def save(self, files: dict[str, tuple[str, int]], paths: t.Iterable[str]) -> None:
        """Write the named files, and have systemd know of them; where that fails the files are as they were."""
        before = self.snapshot(paths)
        try:
            self._save(files, list(before))
        except BaseException:
            self.take_back(before)
            raise

    def snapshot(self, paths: t.Iterable[str]) -> dict[str, tuple[str, int] | None]:
        """Give files as they are: path to (text, mode), None where there is none."""
        texts = {path: _files.read(self._at(path)) for path in paths}
        return {path: None if text is None else (text, self._mode(path)) for path, text in texts.items()}

    def take_back(self, before: t.Mapping[str, tuple[str, int] | None]) -> None:
        """Make files what they were, as far as the disk lets us."""
        for path, item in before.items():
            try:
                if item is None:
                    _files.remove(self._at(path))
                elif self.snapshot([path])[path] != item:
                    _files.write(self._at(path), *item)
            except OSError:
                # The disk is what failed; what is still to be told is why.
                continue

    def _save(self, files: dict[str, tuple[str, int]], changed: list[str]) -> None:
        _files.private_directory(self._at(DIRECTORY))
        _files.private_directory(self._at(TABLES))
        os.makedirs(self._at(DROP_IN_DIRECTORY), mode=0o755, exist_ok=True)
        for path in changed:
            text, mode = files[path]
            _files.write(self._at(path), text, mode)
        if any(path.startswith(UNITS) for path in changed):
            self.runner.run(["systemctl", "daemon-reload"])
        if not self.enabled():
            self.runner.run(["systemctl", "enable", UNIT])

    def leftovers(self, family: str, table: str) -> dict[str, str | None]:
        """Give what `remove` would take away or edit: path to the text that stays, None where the file goes."""
        found: dict[str, str | None] = {}
        if self.saved(family, table) is not None:
            found[table_path(family, table)] = None
        if self._others(family, table):
            return found
        found.update({path: None for path in (LOAD, FLUSH, UNIT_PATH, DROP_IN) if os.path.lexists(self._at(path))})
        for path in DISTRIBUTION_FILES:
            text = _files.read(self._at(path)) or ""
            if included(text):
                found[path] = excluded(text)
        return found

    def _others(self, family: str, table: str) -> list[str]:
        """List the tables of ours that stay when this one goes."""
        try:
            names = os.listdir(self._at(TABLES))
        except FileNotFoundError:
            return []
        mine = os.path.basename(table_path(family, table))
        return [name for name in names if name.endswith(".nft") and name != mine]

    def remove(self, family: str, table: str) -> list[str]:
        """Take away every trace of one table; with the last one the unit goes too. Lists what was touched."""
        found = self.leftovers(family, table)
        last = UNIT_PATH in found or DROP_IN in found
        if UNIT_PATH in found:
            self.runner.run(["systemctl", "disable", UNIT], check=False)
        for path, stays in found.items():
            if stays is not None:
                _files.write(self._at(path), stays, self._mode(path))
            else:
                _files.remove(self._at(path))
        for directory in (TABLES, DIRECTORY, DROP_IN_DIRECTORY):
            _files.remove_if_empty(self._at(directory))
        if last:
            self.runner.run(["systemctl", "daemon-reload"])
        return list(found)
