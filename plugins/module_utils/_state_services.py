# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services of a host load firewall rules, and what nftables.service does to everybody's.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Dict, Iterator, List

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _conf_file, _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

FIREWALLS = ("firewalld", "ufw", "nftables", "netfilter-persistent", "iptables", "ip6tables")
_ASKED = (*FIREWALLS, "docker")
_COMMANDS = {
    "ExecStartPre": "start",
    "ExecStart": "start",
    "ExecStartPost": "start",
    "ExecReload": "reload",
    "ExecStop": "stop",
    "ExecStopPost": "stop",
}
_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", *_COMMANDS)
_UNIT_DIRECTORIES = ("/usr/lib/systemd/system", "/lib/systemd/system")
_ARGV = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
_UFW_CONF = "/etc/ufw/ufw.conf"
_UFW_CHAIN = "ufw-before-input"
_UFW_ENABLED = re.compile(r"^\s*ENABLED\s*=\s*[\"']?yes[\"']?\s*$", re.IGNORECASE | re.MULTILINE)

#: What systemd says of a unit: its properties, each with all of its lines.
Unit = Dict[str, List[str]]


def read_units(runner: RunnerLike) -> dict[str, Unit]:
    """What systemd says of these services and of Docker's, nothing where systemd does not run."""
    argv = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", *(f"{name}.service" for name in _ASKED)]
    try:
        return parse_units(runner.run(argv).stdout, _ASKED)
    except CommandError:
        return {}


def parse_units(printed: str, names: tuple[str, ...]) -> dict[str, Unit]:
    """Units from `systemctl show`, in the order in which they were asked for: a unit may answer to two names."""
    blocks = [block for block in re.split(r"\n\s*\n", printed.strip("\n")) if block.strip()]
    if len(blocks) != len(names):
        return {}
    found = {}
    for name, block in zip(names, blocks):
        unit: Unit = {}
        for line in block.splitlines():
            key, equals, value = line.partition("=")
            if equals and value:
                unit.setdefault(key, []).append(value)
        found[name] = unit
    return found


def commands(unit: Unit, key: str) -> list[str]:
    """The command lines of one property such as ExecStart."""
    return [match.group(1) for line in unit.get(key, ()) for match in _ARGV.finditer(line)]


def starting(unit: Unit) -> bool:
    """Whether the service is just starting or reloading."""
    return _one(unit, "ActiveState") in ("activating", "reloading")


def describe_services(
    units: dict[str, Unit], ruleset: Ruleset, legacy: LegacyRules, root: str = ""
) -> dict[str, dict[str, bool | None]]:
    """What the services are now and at the next boot; None for what only systemd could tell."""
    found = {name: _describe(name, units.get(name), root) for name in FIREWALLS}
    # The unit of ufw is always on; whether ufw is, its own file and its chains tell.
    wanted = _UFW_ENABLED.search(_read(root + _UFW_CONF)) is not None
    found["ufw"]["active"] = wanted and _ufw_chains(ruleset, legacy)
    if found["ufw"]["enabled"] is not None:
        found["ufw"]["enabled"] = wanted and found["ufw"]["enabled"]
    return found


def _describe(name: str, unit: Unit | None, root: str) -> dict[str, bool | None]:
    on_disk = any(os.path.lexists(f"{root}{directory}/{name}.service") for directory in _UNIT_DIRECTORIES)
    if unit is None:
        return {"installed": on_disk, "active": None, "enabled": None, "masked": None}
    masked = _one(unit, "LoadState") == "masked"
    return {
        # A mask hides the unit from systemd, also one that is not there.
        "installed": on_disk if masked else _one(unit, "LoadState") not in ("not-found", ""),
        "active": _one(unit, "ActiveState") in ("active", "reloading"),
        "enabled": _one(unit, "UnitFileState") in ("enabled", "enabled-runtime"),
        "masked": masked,
    }


def _ufw_chains(ruleset: Ruleset, legacy: LegacyRules) -> bool:
    table = ruleset.table("ip", "filter")
    if table is not None and table.chain(_UFW_CHAIN) is not None:
        return True
    return any(_UFW_CHAIN in line.split() for line in legacy.ipv4 or ())


def service_flushes(unit: Unit, docker: bool, root: str = "") -> Iterator[Finding]:
    """nftables.service will be started or stopped some day, and empties Docker's tables with its own."""
    enabled = _one(unit, "UnitFileState") in ("enabled", "enabled-runtime")
    active = _one(unit, "ActiveState") in ("active", "reloading")
    if not docker or not (enabled or active):
        return
    how = list(dict.fromkeys(_how(unit, root)))
    if how:
        state = " and ".join(word for word, holds in (("enabled", enabled), ("active", active)) if holds)
        yield Finding(
            "NFTABLES_SERVICE_FLUSHES",
            f"nftables.service is {state}, and it empties the ruleset of everybody: {'; '.join(how)}. Docker does not "
            f"notice: its rules stay away until it is restarted.",
            "nftables.service",
            "Do not stop, restart or reload it while Docker runs. Let its file replace its own tables only, without "
            "flush ruleset, and let a drop-in set ExecStop= and ExecReload= to do the same.",
        )


def _how(unit: Unit, root: str) -> Iterator[str]:
    for key, verb in _COMMANDS.items():
        for command in commands(unit, key):
            path = _conf_file.loaded_path(command)
            if _conf_file.command_flushes(command):
                yield f"its {verb} runs flush ruleset"
            elif path is not None:
                file = _conf_file.flushing_file(path, root)
                if file is not None:
                    yield f"its {verb} loads {file}, where flush ruleset stands"


def _one(unit: Unit, key: str) -> str:
    return (unit.get(key) or [""])[0]


def _read(path: str) -> str:
    try:
        return _files.read(path) or ""
    except OSError:
        return ""
