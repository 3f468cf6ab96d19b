# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which iptables a host has, and what is in the old xtables.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

NF_TABLES = "nf_tables"
LEGACY = "legacy"
_VERSION = re.compile(r"\bv(\d[\w.-]*)(?:\s+\((\w+)\))?")


@dataclass(frozen=True)
class Tool:
    """One of iptables and ip6tables; `variant` is None where its version cannot be read."""

    path: str | None = None
    version: str | None = None
    variant: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "present": self.path is not None,
            "version": self.version,
            "variant": self.variant,
            "path": self.path,
        }


@dataclass(frozen=True)
class LegacyRules:
    """Rules of the old xtables; None for a family whose rules cannot be read."""

    ipv4: tuple[str, ...] | None = ()
    ipv6: tuple[str, ...] | None = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "ipv4": None if self.ipv4 is None else list(self.ipv4),
            "ipv6": None if self.ipv6 is None else list(self.ipv6),
        }


def read_tools(runner: RunnerLike) -> dict[str, Tool]:
    """Both tools; where they are the same program under two names it is asked once."""
    four, six = runner.find("iptables"), runner.find("ip6tables")
    first = _tool(runner, "iptables", four)
    if four is not None and six is not None and os.path.realpath(four) == os.path.realpath(six):
        return {"iptables": first, "ip6tables": Tool(six, first.version, first.variant)}
    return {"iptables": first, "ip6tables": _tool(runner, "ip6tables", six)}


def _tool(runner: RunnerLike, name: str, path: str | None) -> Tool:
    if path is None:
        return Tool()
    try:
        version, variant = parse_version(runner.run([name, "--version"]).stdout)
    except CommandError:
        version, variant = None, None
    return Tool(path, version, variant)


def parse_version(printed: str) -> tuple[str | None, str | None]:
    """Version and variant; before 1.8 there was only the old one, and it did not say so."""
    match = _VERSION.search(printed)
    if match is None:
        return None, None
    variant = match.group(2) or LEGACY
    return match.group(1), variant if variant in (NF_TABLES, LEGACY) else None


def read_legacy_rules(
    runner: RunnerLike, names4: tuple[str, ...], names6: tuple[str, ...], tools: dict[str, Tool]
) -> LegacyRules:
    """The rules of the old xtables. Without such tables nothing is started: the tools would make them."""
    return LegacyRules(
        _legacy(runner, "iptables", names4, tools["iptables"]), _legacy(runner, "ip6tables", names6, tools["ip6tables"])
    )


def _legacy(runner: RunnerLike, name: str, tables: tuple[str, ...], tool: Tool) -> tuple[str, ...] | None:
    if not tables:
        return ()
    names = [f"{name}-legacy-save", *([f"{name}-save"] if tool.variant == LEGACY else [])]
    found = next((each for each in names if runner.find(each)), None)
    if found is None:
        return None
    try:
        return tuple(legacy_lines(runner.run([found]).stdout))
    except CommandError:
        return None


def legacy_lines(saved: str) -> list[str]:
    """The rules and the policies other than ACCEPT in a saved text, each as what follows the name of the tool."""
    found = []
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            words = line[1:].split()
            if len(words) > 1 and words[1] not in ("-", "ACCEPT"):
                found.append(f"-t {table} -P {words[0]} {words[1]}")
        elif line.startswith("-A "):
            found.append(f"-t {table} {line}")
    return found
