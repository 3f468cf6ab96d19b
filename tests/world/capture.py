# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests/captures says of a host, as values."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "captures"
_TABLE = re.compile(r"^table (\S+) (\S+) \{.*?^\}\n", re.M | re.S)
#: Newer nft's spelling, and one that nft 1.0.6 takes too. With its owner flag the table would go with the nft that
#: loads it.
_OLDER = (
    (re.compile(r"(hook output priority) dstnat \+ 10;"), r"\1 -90;"),
    (re.compile(r"(hook output priority) dstnat;"), r"\1 -100;"),
    (re.compile(r"iif check missing"), "iif oif missing"),
    (re.compile(r"^\tflags owner,persist\n", re.M), ""),
)
_BUILT_IN = {(family, name) for family in ("ip", "ip6") for name in ("raw", "mangle", "nat", "filter", "security")}


@dataclasses.dataclass(frozen=True)
class Interface:
    """One of the host's, with its addresses and their prefix lengths."""

    name: str
    bridge: bool
    addresses: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class End:
    """A container's end of a wire to a bridge."""

    network: str
    bridge: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Capture:
    """One host at one moment."""

    name: str
    interfaces: tuple[Interface, ...]
    gateways: tuple[str, ...]
    sysctls: t.Mapping[str, str]
    containers: t.Mapping[str, tuple[End, ...]]
    listening: tuple[tuple[str, int], ...]
    #: Everything but the tables of iptables, which nft lists but cannot always load.
    native: str
    iptables: t.Mapping[str, str]
    reach: t.Mapping[tuple[str, int], str]

    def networks(self) -> dict[str, str]:
        """Bridges by the names of their networks."""
        return {end.network: end.bridge for ends in self.containers.values() for end in ends}

    def bridges(self) -> list[str]:
        return [interface.name for interface in self.interfaces if interface.bridge]


def _read(folder: Path, name: str) -> str:
    path = folder / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _native(ruleset: str) -> str:
    text = "".join(found.group(0) for found in _TABLE.finditer(ruleset) if found.groups() not in _BUILT_IN)
    for pattern, replacement in _OLDER:
        text = pattern.sub(replacement, text)
    return text


def load(name: str) -> Capture:
    """Read one folder."""
    folder = HERE / name
    host = json.loads(_read(folder, "host.json"))
    everywhere = [(address, port) for port in host["services"] for address in ("0.0.0.0", "::")]
    return Capture(
        name=name,
        interfaces=tuple(Interface(i["name"], i["bridge"], tuple(i["addresses"])) for i in host["interfaces"]),
        gateways=tuple(host["gateways"]),
        sysctls=host["sysctls"],
        containers={
            one["name"]: tuple(
                End(end["network"], end["bridge"], tuple(end["addresses"]), tuple(end["gateways"]))
                for end in one["ends"]
            )
            for one in host["containers"]
        },
        listening=(*everywhere, *((address, port) for address, port in host["docker_proxy"])),
        native=_native(_read(folder, "ruleset.nft")),
        iptables={family: _read(folder, f"{family}-save.txt") for family in ("iptables", "ip6tables")},
        reach={(address, port): result for address, port, result in json.loads(_read(folder, "reach.json") or "[]")},
    )


def captures() -> list[str]:
    """The names of all folders."""
    return sorted(path.parent.name for path in HERE.glob("*/host.json"))
