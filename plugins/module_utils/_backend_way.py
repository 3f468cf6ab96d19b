# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that go back from a switch of Docker's firewall backend, and the files they need.

Private to the collection: not meant to be used from anywhere else. May change at any time.

They are run by systemd one after the other, each whatever became of those before it, so that an apply can be taken back
from wherever it has got to.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _backend_iptables,
    _backend_units,
    _nft_text,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_docker import config_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_iptables import UserChain

DOCKER = "docker.service"
#: The table that keeps published ports off the input path while Docker is restarted.
GUARD = "bulkhead_switch"
RESTORE = {"ip": "iptables-restore", "ip6": "ip6tables-restore"}
#: How long a reload of dockerd takes at most until it has read its file; systemctl does not wait for it.
_SETTLE = "3"

Published = t.Tuple[str, str, int]


@dataclass(frozen=True)
class Former:
    """How things are before a switch."""

    backend: str
    #: What the running daemon has been told by its file, and which file that is.
    settings: dict[str, t.Any]
    path: str
    user: dict[str, UserChain] = field(default_factory=dict)
    #: The transaction that makes the own table what it is now.
    table: str = ""
    sysctls: tuple[tuple[str, str], ...] = ()
    running: tuple[str, ...] = ()
    #: Addresses, protocols and ports that Docker publishes.
    published: tuple[Published, ...] = ()
    #: Families whose FORWARD dropped, for reasons of somebody else's.
    dropping: tuple[str, ...] = ()


def guard(published: t.Iterable[Published]) -> str:
    """The transaction that loads a table for the time of a restart, and nothing where Docker publishes nothing.

    While Docker is restarted there is no DNAT, and docker-proxy answers for it on the input path, where DOCKER-USER is
    not asked: seen with 29.7.2, twice in 9,684 attempts of one switch.
    """
    rules = list(_guarded(published))
    if not rules:
        return ""
    lines = "\n".join(f"        {rule} counter drop" for rule in rules)
    return _nft_text.replace_script(
        "inet",
        GUARD,
        f"""table inet {GUARD} {{
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iifname "lo" accept
        ct state established,related accept
{lines}
    }}
}}
""",
    )


def _guarded(published: t.Iterable[Published]) -> t.Iterator[str]:
    """What packets to published ports match; a service of the host's on another address is none of them."""
    found: dict[str, set[str]] = {}
    for address, protocol, port in published:
        given = ipaddress.ip_address(address)
        if given.is_unspecified:
            found.setdefault("meta l4proto . th dport", set()).add(f"{protocol} . {port}")
        else:
            family = "ip" if given.version == 4 else "ip6"
            found.setdefault(f"{family} daddr . meta l4proto . th dport", set()).add(f"{given} . {protocol} . {port}")
    for key, elements in sorted(found.items()):
        yield f"{key} {{ {', '.join(sorted(elements))} }}"


def unguard() -> str:
    """The transaction that takes that table away, whether it is there or not."""
    return _nft_text.replace_script("inet", GUARD, None)


@dataclass
class WayBack:
    """Files by name, and commands in order."""

    files: dict[str, str] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)

    def _file(self, name: str, text: str) -> str:
        self.files[name] = text
        return f"{_backend_units.DIRECTORY}/{name}"


class Way(WayBack):
    """Puts a way back together; `find` gives the absolute path of a program, None where it is not installed."""

    def __init__(self, find: t.Callable[[str], str | None], former: Former, restart: bool, lent: bool) -> None:
        super().__init__()
        self.find = find
        self.former = former
        self.restart = restart
        self.lent = lent

    def make(self) -> WayBack:
        """All of it."""
        to_iptables = self.former.backend != "nftables"
        table = self._file("table.nft", self.former.table)
        if to_iptables or not self.restart:
            self._restore("chains", _backend_iptables.restoration)
        else:
            self._do("nft", "-f", table)
        if not to_iptables:
            # Docker's nftables backend does not start without forwarding.
            self._sysctls()
        if self.restart:
            self._restart()
        if to_iptables:
            self._restore("policy", _backend_iptables.policy)
            self._do("nft", "-f", table)
        elif self.restart:
            self._away()
        else:
            self._restore("jumps", _backend_iptables.jumps)
            self._restore("policy", _backend_iptables.policy)
            self._do("nft", "-f", table)
        if to_iptables:
            self._sysctls()
        if self.restart:
            self._do("nft", "-f", self._file("unguard.nft", unguard()))
            self._settle()
        return WayBack(self.files, self.commands)

    def _sysctls(self) -> None:
        for key, value in self.former.sysctls:
            self._do("sysctl", "-w", f"{key}={value}")

    def _do(self, program: str, *arguments: str) -> None:
        path = self.find(program)
        if path is not None:
            self.commands.append([path, *arguments])

    def _restore(self, name: str, text_of: t.Callable[[UserChain], str]) -> None:
        for family, user in self.former.user.items():
            text = text_of(user)
            if text:
                self._do(RESTORE[family], "--noflush", self._file(f"{name}.{family}", text))

    def _away(self) -> None:
        """What Docker's iptables backend, or this switch, has made; one file each, as any of it may be missing."""
        parts = _backend_iptables.away(self.former.user)
        for family in RESTORE:
            for name, text in parts.get(family, {}).items():
                if name == "no-policy" and family in self.former.dropping:
                    continue
                self._do(RESTORE[family], "--noflush", self._file(f"{name}.{family}", text))

    def _copy(self, name: str, text: str) -> None:
        self._do("cp", "--remove-destination", self._file(name, text), _backend_units.CONFIG)

    def _restart(self) -> None:
        text = guard(self.former.published)
        if text:
            self._do("nft", "-f", self._file("guard.nft", text))
        lent = True if self.lent else None
        self._copy("former.json", config_text(self.former.settings, self.former.backend, lent))
        self._do("systemctl", "daemon-reload")
        self._do("systemctl", "reset-failed", DOCKER)
        self._do("systemctl", "restart", DOCKER)

    def _settle(self) -> None:
        if self.former.running:
            self._do("docker", "start", *self.former.running)
        if self.lent:
            self._copy("former-off.json", config_text(self.former.settings, self.former.backend, False))
            self._do("systemctl", "reload", DOCKER)
            self._do("sleep", _SETTLE)
        self._do("ln", "-sfn", self.former.path, _backend_units.CONFIG)
        self._do("rm", "-f", _backend_units.DROP_IN)
        self._do("systemctl", "daemon-reload")
