# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose nft and iptables are real, in a network namespace of the test's own; systemd is played on a directory."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _boot, _conf_files, _nft_listing
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_listing import ListedChain
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    Result,
    Runner,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fake_host import FakeHost

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None,
    reason="rules are tried in a network namespace, which takes root and nft",
)

_INCLUDE = re.compile(r'^include "([^"]+)".*$', re.M)


class NftHost(FakeHost):
    """To be used inside `scratch_network()` only: what is loaded goes to the kernel."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "etc/systemd/system").mkdir(parents=True)
        self.real = Runner()
        self.states = {_conf_files.SERVICE: "disabled"}
        self.started: set[str] = set()
        self.refused: str | None = None

    def find(self, name: str) -> str | None:
        return None if name in self.missing else self.real.find(name)

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        """Refuse loads in which `refused` stands, as a kernel would that cannot do something nft can check."""
        name = os.path.basename(argv[0])
        if name in self.missing:
            raise CommandMissing(argv)
        if name in ("systemctl", "systemd-run"):
            return super().run(argv, stdin, check, timeout)
        script = stdin if argv[-1] == "-" else Path(argv[-1]).read_text(encoding="utf-8") if "-f" in argv else None
        dry = "-c" in argv
        if script is not None:
            self.events.append("check" if dry else "load")
            if self.refused is not None and self.refused in script and not dry:
                if check:
                    raise CommandError(argv, 1, "", "/dev/stdin:1:1-5: Error: no\n")
                return Result(1, "", "Error: no\n")
        return self.real.run(argv, stdin, check, timeout)

    @contextmanager
    def scratch_network(self) -> Iterator[None]:
        events = list(self.events)
        refused, self.refused = self.refused, None
        try:
            with self.real.scratch_network():
                yield
        finally:
            self.events, self.refused = events, refused

    def _systemd(self, argv: list[str]) -> Result:
        verb, unit = argv[1], argv[-1]
        if unit not in self.states or argv[0] == "systemd-run":
            return super()._systemd(argv)
        if verb == "is-enabled":
            return Result(0 if self.states[unit] == "enabled" else 1, self.states[unit] + "\n", "")
        if verb == "is-active":
            return Result(0, "active\n", "") if unit in self.started else Result(3, "inactive\n", "")
        if verb in ("enable", "disable"):
            self.states[unit] = f"{verb}d"
        if verb == "start":
            self.started.add(unit)
            self.service("ExecStart")
        if "--now" in argv:
            self.started.discard(unit)
        self.events.append(f"{verb} {unit}")
        return Result(0, "", "")

    def service(self, setting: str) -> list[int]:
        """Do what nftables.service does with our drop-in; gives the exit codes of its commands."""
        text = (self.root / _conf_files.DROP_IN[1:]).read_text(encoding="utf-8")
        commands = re.findall(rf"^{setting}=(-?)\S*nft -f (\S+)$", text, re.M)
        codes = []
        for may_fail, path in commands:
            result = self.real.run(["nft", "-f", "-"], stdin=self.loaded(path), check=False)
            assert may_fail or not result.rc, result.stderr
            codes.append(result.rc)
        return codes

    def loaded(self, path: str) -> str:
        """Give a file as nft reads it, with what it includes."""

        def included(match: re.Match[str]) -> str:
            found = sorted(self.root.glob(match.group(1)[1:]))
            return "\n".join(self.loaded(f"/{item.relative_to(self.root)}") for item in found)

        return _INCLUDE.sub(included, (self.root / path[1:]).read_text(encoding="utf-8"))

    def nft(self, script: str) -> None:
        """Load something into the namespace the test is in."""
        self.real.run(["nft", "-f", "-"], stdin=script)

    def ruleset(self) -> str:
        """Give everything in the kernel, in the order of the tables' names and without numbers that change."""
        listing = self.real.run(["nft", "-s", "list", "ruleset"]).stdout
        return "\n".join(sorted(re.findall(r"^table .*?^}$", listing, re.M | re.S)))

    def chains(self, family: str, table: str) -> dict[str, ListedChain]:
        """Give one table's chains."""
        result = self.real.run(["nft", "-s", "-a", "list", "table", family, table], check=False)
        return _nft_listing.chains(result.stdout)


#: Where the own table's file is on the disk.
SAVED = f"{_boot.TABLES}/inet-x.nft"
