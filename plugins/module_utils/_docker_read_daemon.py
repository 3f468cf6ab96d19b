# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what daemon.json and the command line of dockerd say about the firewall.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding

DEFAULT_PATH = "/etc/docker/daemon.json"

#: The keys that decide about packets; nothing else of the file is read out, it may hold secrets.
FIREWALL_KEYS = (
    "allow-direct-routing",
    "bip",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "default-address-pools",
    "default-network-opts",
    "experimental",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "hosts",
    "icc",
    "ip",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "userland-proxy",
)
_TRUE = ("true", "t", "1")
_FALSE = ("false", "f", "0")


@dataclass(frozen=True)
class DaemonSettings:
    """The file, and the flags dockerd runs with; Docker refuses a key that is in both."""

    path: str
    exists: bool
    valid: bool
    error: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)

    def effective(self, key: str, default: Any = None) -> Any:
        return self.flags.get(key, self.settings.get(key, default))

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "exists": self.exists,
            "valid": self.valid,
            "error": self.error,
            "settings": self.settings,
            "flags": self.flags,
        }


def read_daemon_settings(path: str | None = None, arguments: tuple[str, ...] = ()) -> DaemonSettings:
    """The settings in a file: the given one, else the one dockerd was started with, else the usual one."""
    flags = parse_flags(arguments)
    path = path or flags.pop("config-file", None) or DEFAULT_PATH
    flags.pop("config-file", None)
    if not os.path.lexists(path):
        return DaemonSettings(path, exists=False, valid=True, flags=flags)
    try:
        with open(path, "rb") as file:
            raw = file.read()
        settings = parse_daemon_json(raw)
    except OSError as exc:
        return DaemonSettings(path, True, False, f"{path} cannot be read: {exc.strerror}", flags=flags)
    except ValueError as exc:
        return DaemonSettings(path, True, False, f"{path}: {exc}", flags=flags)
    return DaemonSettings(path, True, True, None, settings, flags)


def daemon_findings(daemon: DaemonSettings) -> list[Finding]:
    findings = []
    if daemon.error is not None:
        findings.append(
            Finding(
                "DAEMON_JSON_BROKEN",
                f"{daemon.error}. A daemon that runs keeps its settings, but does not start again.",
                daemon.path,
                "Correct the file before Docker or the host is restarted.",
            )
        )
    for key, family in (("iptables", "IPv4"), ("ip6tables", "IPv6")):
        if daemon.effective(key) is False:
            findings.append(
                Finding(
                    "FIREWALL_SWITCHED_OFF",
                    f"Docker is told to make no {family} rules ({key} is false): no NAT and no isolation between "
                    "networks, and published ports are answered by docker-proxy only.",
                    daemon.path,
                    f"Remove {key} and let this collection decide what is reachable.",
                )
            )
    return findings


def parse_daemon_json(raw: bytes) -> dict[str, Any]:
    """The firewall keys of a file; raises ValueError with the line of the fault. An empty file is valid."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8") from exc
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except json.JSONDecodeError as exc:
        shown = (text.splitlines() or [""])[min(exc.lineno, len(text.splitlines())) - 1].strip()
        raise ValueError(f"line {exc.lineno}, column {exc.colno}: {exc.msg} (the line is: {shown[:80]})") from exc
    if not isinstance(document, dict):
        raise ValueError(f"line 1: an object with settings is needed, not a {type(document).__name__}")
    return {key: document[key] for key in FIREWALL_KEYS if key in document}


def parse_flags(arguments: tuple[str, ...]) -> dict[str, Any]:
    """The firewall flags of a command line, in the types daemon.json has for them."""
    flags: dict[str, Any] = {}
    rest = list(arguments[1:])
    while rest:
        word = rest.pop(0)
        if word.startswith("-H"):
            word = f"--host={word[2:].lstrip('=')}" if len(word) > 2 else "--host"
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if name == "host":
            name = "hosts"
        if name not in (*FIREWALL_KEYS, "config-file"):
            continue
        if not equals and rest and not rest[0].startswith("-") and not _is_switch(name):
            value, equals = rest.pop(0), "="
        if name == "hosts":
            flags.setdefault("hosts", []).append(value)
        else:
            flags[name] = _typed(value) if equals else True
    return flags


def _is_switch(name: str) -> bool:
    return name in (
        "allow-direct-routing",
        "experimental",
        "icc",
        "ip-forward",
        "ip-forward-no-drop",
        "ip-masq",
        "ip6tables",
        "iptables",
        "ipv6",
        "live-restore",
        "userland-proxy",
    )


def _typed(value: str) -> Any:
    if value.lower() in _TRUE:
        return True
    return False if value.lower() in _FALSE else value
