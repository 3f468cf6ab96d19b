# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the SSH connection a module was started through.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import ipaddress
import json
import os
from typing import TYPE_CHECKING, Any, Iterator

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

_VARIABLE = b"SSH_CONNECTION="
_DEEPEST = 64


def read_ssh_connection(runner: RunnerLike, proc: str = "/proc", pid: int | None = None) -> dict[str, Any] | None:
    """The connection sshd made this process for, or None when there is none in its line of parents.

    sudo drops the variable from the environment of what it starts, but the shell that sshd started still has it.
    """
    for value in _values(proc, os.getpid() if pid is None else pid):
        connection = parse_ssh_connection(value)
        if connection is not None:
            zone = connection.pop("zone")
            return {**connection, "interface": zone or _interface_to(runner, connection["client_address"])}
    return None


def parse_ssh_connection(value: str) -> dict[str, Any] | None:
    """Both ends from the variable's four words; None when it is anything else."""
    words = value.split()
    if len(words) != 4:
        return None
    client, zone = _address(words[0])
    server, server_zone = _address(words[2])
    if client is None or server is None or not (_is_port(words[1]) and _is_port(words[3])):
        return None
    return {
        "client_address": client,
        "client_port": int(words[1]),
        "server_address": server,
        "server_port": int(words[3]),
        "zone": zone or server_zone,
    }


def _values(proc: str, pid: int) -> Iterator[str]:
    for _step in range(_DEEPEST):
        if pid <= 0:
            return
        for entry in _read(f"{proc}/{pid}/environ").split(b"\0"):
            if entry.startswith(_VARIABLE):
                yield entry[len(_VARIABLE) :].decode("utf-8", "replace")
        pid = _parent(proc, pid)


def _parent(proc: str, pid: int) -> int:
    for line in _read(f"{proc}/{pid}/status").splitlines():
        if line.startswith(b"PPid:"):
            number = line[5:].strip()
            return int(number) if number.isdigit() else 0
    return 0


def _address(text: str) -> tuple[str | None, str | None]:
    bare, _percent, zone = text.partition("%")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None, None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), zone or None


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) < 65536


def _interface_to(runner: RunnerLike, address: str) -> str | None:
    try:
        routes = json.loads(runner.run(["ip", "-j", "route", "get", address]).stdout)
    except (CommandError, ValueError):
        return None
    if isinstance(routes, list) and routes and isinstance(routes[0], dict):
        return routes[0].get("dev")
    return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
