# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what can be seen of a host without asking Docker: interfaces, processes, old xtables.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout, LayoutError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence, Finding

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

#: Names Docker gives to bridges by itself.
_DOCKER_BRIDGE = re.compile(r"docker0\Z|docker_gwbridge\Z|br-[0-9a-f]{12}\Z")
_UP = 0x1


@dataclass(frozen=True)
class Interface:
    """An interface of the host; addresses carry their prefix length."""

    name: str
    kind: str
    up: bool
    addresses: tuple[str, ...] = ()
    is_bridge: bool = False
    master: str | None = None
    of_docker: bool = False

    @property
    def docker_bridge(self) -> bool:
        """Whether Docker says it is its bridge, or it is a bridge with a name Docker gives by itself."""
        return self.of_docker or (self.is_bridge and _DOCKER_BRIDGE.match(self.name) is not None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "up": self.up,
            "addresses": list(self.addresses),
            "is_bridge": self.is_bridge,
            "master": self.master,
            "docker_bridge": self.docker_bridge,
        }


def read_interfaces(runner: RunnerLike, sysfs: str = "/sys") -> list[Interface]:
    """The interfaces of the host; without the program ip, those of /sys and no addresses."""
    try:
        printed = runner.run(["ip", "-d", "-j", "address", "show"]).stdout
        return parse_interfaces(printed)
    except (CommandError, ValueError):
        return _interfaces_in_sysfs(f"{sysfs}/class/net")


def parse_interfaces(printed: str) -> list[Interface]:
    """Interfaces from `ip -j address show`; raises ValueError where that is no such list."""
    entries = json.loads(printed or "[]")
    if not isinstance(entries, list):
        raise ValueError("ip printed JSON that is no list of interfaces")
    return [_interface(entry) for entry in entries if isinstance(entry, dict) and "ifname" in entry]


def _interface(entry: dict[str, Any]) -> Interface:
    kind = (entry.get("linkinfo") or {}).get("info_kind") or entry.get("link_type") or "unknown"
    return Interface(
        name=entry["ifname"],
        kind=kind,
        up="UP" in entry.get("flags", ()),
        addresses=tuple(
            f"{address['local']}/{address['prefixlen']}"
            for address in entry.get("addr_info", ())
            if "local" in address and "prefixlen" in address
        ),
        is_bridge=kind == "bridge",
        master=entry.get("master"),
    )


def _interfaces_in_sysfs(folder: str) -> list[Interface]:
    if not os.path.isdir(folder):
        return []
    found = []
    for name in sorted(os.listdir(folder)):
        place = f"{folder}/{name}"
        if not os.path.isdir(place):
            continue
        is_bridge = os.path.isdir(f"{place}/bridge")
        master = f"{place}/master"
        try:
            flags = int(_first_line(f"{place}/flags") or "0", 16)
        except ValueError:
            flags = 0
        kind = "loopback" if name == "lo" else "bridge" if is_bridge else "unknown"
        found.append(
            Interface(
                name=name,
                kind=kind,
                up=bool(flags & _UP),
                is_bridge=is_bridge,
                master=os.path.basename(os.readlink(master)) if os.path.islink(master) else None,
            )
        )
    return found


def docker_presence(
    interfaces: list[Interface], pid_file: str = "/run/docker.pid", proc: str = "/proc"
) -> DockerPresence:
    """Whether dockerd runs, how it was started, and the bridges with Docker's names."""
    bridges = {each.name: each.addresses for each in interfaces if each.docker_bridge}
    text = _first_line(pid_file)
    pid = int(text) if text and text.isdigit() else None
    arguments = _arguments(f"{proc}/{pid}/cmdline") if pid else ()
    if not arguments or os.path.basename(arguments[0]) != "dockerd":
        return DockerPresence(bridges=bridges)
    return DockerPresence(running=True, pid=pid, arguments=arguments, bridges=bridges)


def proxied_ports(presence: DockerPresence, proc: str = "/proc") -> frozenset[tuple[str, int]]:
    """Protocols and ports that docker-proxy listens on for IPv4; only children of dockerd count, a name is no proof."""
    if presence.pid is None or not os.path.isdir(proc):
        return frozenset()
    found = set()
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        arguments = _arguments(f"{proc}/{name}/cmdline")
        if not arguments or os.path.basename(arguments[0]) != "docker-proxy":
            continue
        options = dict(zip(arguments[1::2], arguments[2::2]))
        ends = (options.get("-host-ip", ""), options.get("-container-ip", ""))
        port = options.get("-host-port", "")
        if port.isdigit() and all("." in end for end in ends) and _parent(f"{proc}/{name}/status") == presence.pid:
            found.add((options.get("-proto", ""), int(port)))
    return frozenset(found)


def _parent(path: str) -> int | None:
    for line in _read(path).splitlines():
        if line.startswith("PPid:"):
            number = line[5:].strip()
            return int(number) if number.isdigit() else None
    return None


def read_layout(root: str = "") -> tuple[Layout | None, list[Finding]]:
    """The layout this host remembers, and what is wrong with the file."""
    try:
        return _layout.read(root), []
    except LayoutError as exc:
        return None, [
            Finding(
                "LAYOUT_BROKEN",
                f"{exc}. What this collection chose for the host is unknown, so its rules are taken for somebody's.",
                _layout.PATH,
                "Run the role nftables_conf again, it writes the file anew.",
            )
        ]


def read_os_release(root: str = "") -> str:
    return _read(f"{root}/etc/os-release") or _read(f"{root}/usr/lib/os-release")


def legacy_table_names(proc: str = "/proc") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tables that the old xtables hold in this network namespace, for IPv4 and IPv6."""
    return _names(f"{proc}/net/ip_tables_names"), _names(f"{proc}/net/ip6_tables_names")


def _names(path: str) -> tuple[str, ...]:
    return tuple(sorted(_read(path).split()))


def _first_line(path: str) -> str:
    lines = _read(path).splitlines()
    return lines[0].strip() if lines else ""


def _arguments(path: str) -> tuple[str, ...]:
    return tuple(part for part in _read(path).split("\0") if part)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
