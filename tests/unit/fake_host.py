# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host as a runner sees it: tables in a kernel, units and timers of systemd, and what happened in which order."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    Result,
)

_STATEMENT = re.compile(r"^table (\w+) (\S+) \{\n(?:.*\n)*?\}$|^table (\w+) (\S+)$|^delete table (\w+) (\S+)$", re.M)


class FakeHost:
    """Plays nft and systemd on a directory. Rules are kept as they are given, each table without its comments."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "run/systemd/system").mkdir(parents=True)
        self.tables: dict[tuple[str, str], str] = {}
        self.timers: dict[str, list[str]] = {}
        self.enabled: set[str] = set()
        self.events: list[str] = []
        self.refuse_loads = False
        self.version = "nftables v1.0.6 (Lester Gooch #5)\n"
        self.missing: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        return None if name in self.missing else f"/usr/sbin/{name}"

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        if argv[0] in self.missing:
            raise CommandMissing(argv)
        result = self._nft(argv[1:], stdin) if argv[0].endswith("nft") else self._systemd(argv)
        if check and result.rc:
            raise CommandError(argv, result.rc, result.stdout, result.stderr)
        return result

    @contextmanager
    def scratch_network(self) -> Iterator[None]:
        kept, self.tables = self.tables, {}
        events = list(self.events)
        try:
            yield
        finally:
            self.tables, self.events = kept, events

    def _nft(self, argv: list[str], stdin: str | None) -> Result:
        if argv == ["--version"]:
            return Result(0, self.version, "")
        dry = argv[0] == "-c"
        words = [word for word in argv if word not in ("-c", "-s")]
        if words[0] == "list":
            text = self.tables.get((words[2], words[3]))
            return Result(1, "", "Error: No such file or directory") if text is None else Result(0, text, "")
        script = stdin if words[1] == "-" else Path(words[1]).read_text(encoding="utf-8")
        assert script is not None
        if "BAD" in script or (self.refuse_loads and not dry):
            return Result(1, "", "/dev/stdin:1:1-5: Error: no\n")
        after = dict(self.tables)
        for match in _STATEMENT.finditer(script):
            if match.group(1):
                after[match.group(1), match.group(2)] = match.group(0) + "\n"
            elif match.group(3):
                after.setdefault((match.group(3), match.group(4)), f"table {match.group(3)} {match.group(4)} {{\n}}\n")
            else:
                del after[match.group(5), match.group(6)]
        self.events.append("check" if dry else "load")
        if not dry:
            self.tables = after
        return Result(0, "", "")

    def _systemd(self, argv: list[str]) -> Result:
        if argv[0] == "systemd-run":
            unit = next(word[7:] for word in argv if word.startswith("--unit="))
            self.timers[f"{unit}.timer"] = argv
            self.events.append("arm")
            return Result(0, "", "")
        verb, unit = argv[1], argv[-1]
        if verb == "is-active":
            return Result(0, "active\n", "") if unit in self.timers else Result(3, "inactive\n", "")
        if verb == "is-enabled":
            return Result(0, "enabled\n", "") if unit in self.enabled else Result(1, "disabled\n", "")
        if verb == "stop":
            self.timers.pop(unit, None)
        elif verb == "enable":
            self.enabled.add(unit)
        elif verb == "disable":
            self.enabled.discard(unit)
        self.events.append("disarm" if verb == "stop" else verb)
        return Result(0, "", "")

    def fire(self) -> None:
        """Let every timer run out."""
        while self.timers:
            _unit, argv = self.timers.popitem()
            around = [word.split("=-", 1)[1].split() for word in argv if word.startswith("--property=Exec")]
            for number, words in enumerate([*around[:1], argv[-3:], *around[1:]]):
                self.run(["nft", *words[1:]], check=not around or not number)

    def reboot(self) -> None:
        """Lose what is in memory."""
        self.timers.clear()
        self.tables.clear()
        for path in (self.root / "run/bulkhead").glob("*"):
            path.unlink()

    def files(self) -> dict[str, bytes]:
        """Everything below /etc, links with where they point."""
        return {
            str(path.relative_to(self.root)): (
                b"-> " + str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            )
            for path in sorted((self.root / "etc").rglob("*"))
            if path.is_symlink() or path.is_file()
        }
