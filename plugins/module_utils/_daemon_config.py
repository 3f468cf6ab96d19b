# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed dockerd as systemd would start it, the one that runs, and the file both read.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A daemon that does not run is never asked: docker.socket would start it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import Engine
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import masked
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import (
    NFTABLES_BACKEND,
    VALIDATES,
    flags_given,
    version,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import (
    DockerUnavailable,
    ask_docker,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import DEFAULT_PATH
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import docker_presence
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_services import commands, parse_units

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

_SHOWN = ("LoadState", "ExecStart", "Environment", "EnvironmentFiles")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_IN_SWARM = ("pending", "active", "error", "locked")
_DATA_ROOT = "/var/lib/docker"


class DaemonConfigError(Exception):
    """The file cannot be read or written; the message says why."""


@dataclass(frozen=True)
class Start:
    """How dockerd is started: its command line with all variables in place, and its environment."""

    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def program(self) -> str:
        return self.arguments[0] if self.arguments else "dockerd"


@dataclass(frozen=True)
class Found:
    """A file as it is; `text` None is no file."""

    text: str | None
    mode: int = 0o644
    gid: int = 0


def read_start(runner: RunnerLike, root: str = "") -> Start:
    """What docker.service with its drop-ins would start; nothing where there is no such unit."""
    try:
        printed = runner.run(["systemctl", "show", f"--property={','.join(_SHOWN)}", "docker.service"]).stdout
    except CommandError:
        return Start()
    unit = parse_units(printed, ("docker",)).get("docker", {})
    environment = dict(_assignments(" ".join(unit.get("Environment", ()))))
    for line in unit.get("EnvironmentFiles", ()):
        environment.update(_environment_file(root + line.partition(" (")[0]))
    for command in commands(unit, "ExecStart"):
        arguments = _expand(_words(command), environment)
        if arguments and os.path.basename(arguments[0]) == "dockerd":
            return Start(tuple(arguments), environment)
    return Start((), environment)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _assignments(text: str) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for word in _words(text))
    return [(name, value) for name, equals, value in pairs if equals]


def _environment_file(path: str) -> dict[str, str]:
    """A file of systemd's kind: NAME=VALUE, with or without quotes."""
    try:
        text = (_files.read(path) or "").replace("\\\n", "")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            quoted = value.strip()[:1] in ("'", '"')
            found[name.strip()] = " ".join(_words(value)) if quoted else value.strip()
    return found


def _expand(words: list[str], environment: dict[str, str]) -> list[str]:
    """As systemd does it: $NAME as a word of its own becomes words, ${NAME} stays within its word."""
    found: list[str] = []
    for word in words:
        if re.match(r"\$\w+\Z", word):
            found.extend(_words(environment.get(word[1:], "")))
        else:
            found.append(_VARIABLE.sub(lambda match: environment.get(match.group(1), ""), word))
    return found


@dataclass
class Host:
    """What a file is checked against. `root` is put before every path, for tests."""

    runner: RunnerLike
    root: str = ""
    start: Start = field(default_factory=Start)
    running: bool = False
    #: The version that runs, where that is told.
    runs: str = ""
    engine: Engine = field(default_factory=Engine)
    warnings: list[str] = field(default_factory=list)

    def look(self) -> Host:
        """Read all of it; what cannot be told becomes a warning."""
        self.start = read_start(self.runner, self.root)
        presence = docker_presence([], f"{self.root}/run/docker.pid", f"{self.root}/proc")
        self.running = presence.running
        arguments = self.start.arguments or presence.arguments
        version_text = self._installed()
        info, networks = self._ask() if self.running else ({}, [])
        self.runs = str(info.get("ServerVersion") or "")
        text = version_text or self.runs
        if not text:
            self.warnings.append("Docker is not installed: whether an engine takes these keys is not known.")
        elif version_text and self.runs and version_text != self.runs:
            self.warnings.append(
                f"dockerd {version_text} is installed while {self.runs} still runs; the file is checked for the first."
            )
        self.engine = Engine(
            number=version(text),
            text=text,
            flags=flags_given(arguments),
            running_flags=flags_given(presence.arguments),
            environment=self.start.environment,
            swarm=self._swarm(info),
            forwarding4=self._sysctl("ipv4/ip_forward"),
            forwarding6=self._both("ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding"),
            ipv6_networks=tuple(sorted(str(each.get("Name")) for each in networks if each.get("EnableIPv6"))),
            nft=self.runner.find("nft") is not None,
            br_netfilter=os.path.exists(f"{self.root}/proc/sys/net/bridge/bridge-nf-call-iptables"),
            tells=_tells(info),
        )
        return self

    def _installed(self) -> str:
        try:
            printed = self.runner.run([self.start.program, "--version"]).stdout
        except CommandError:
            return ""
        found = re.search(r"version ([^\s,]+)", printed)
        return found.group(1) if found else ""

    def _ask(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        try:
            answers = ask_docker(self.runner)
        except DockerUnavailable as exc:
            self.warnings.append(f"What the running daemon has cannot be told, so the old file counts: {exc}.")
            return {}, []
        return answers.info, answers.networks

    def _swarm(self, info: dict[str, Any]) -> bool:
        if info:
            return (info.get("Swarm") or {}).get("LocalNodeState") in _IN_SWARM
        return os.path.exists(f"{self.root}{_DATA_ROOT}/swarm/docker-state.json")

    def _sysctl(self, name: str) -> bool | None:
        try:
            text = _files.read(f"{self.root}/proc/sys/net/{name}")
        except OSError:
            return None
        return None if text is None else text.strip() != "0"

    def _both(self, *names: str) -> bool | None:
        found = [self._sysctl(name) for name in names]
        return None if None in found else all(found)

    def path(self) -> str:
        """The file that dockerd reads."""
        return (self.engine.flags.get("config-file") or [DEFAULT_PATH])[-1]

    @property
    def validates(self) -> bool:
        return self.engine.number >= VALIDATES and self.runner.find(self.start.program) is not None

    def objection(self, text: str, path: str) -> str | None:
        """What the installed dockerd says against a file, with the flags it will be started with."""
        with tempfile.TemporaryDirectory(prefix="bulkhead-") as directory:
            place = os.path.join(directory, "daemon.json")
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
            argv = [self.start.program, "--validate", "--config-file", place, *_without_file(self.start.arguments[1:])]
            try:
                self.runner.run(argv)
            except CommandError as exc:
                said = " ".join((exc.stderr.strip() or exc.stdout.strip() or str(exc)).split())
                return masked(said.replace(place, path))[:1000]
        return None


def _without_file(arguments: tuple[str, ...]) -> list[str]:
    """A command line without --config-file, in either spelling."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--config-file":
            rest = rest[1:]
        elif not word.startswith("--config-file="):
            found.append(word)
    return found


def _tells(info: dict[str, Any]) -> dict[str, Any]:
    """Settings of the running daemon that /info has, by the names of daemon.json."""
    names = (
        ("live-restore", "LiveRestoreEnabled"),
        ("debug", "Debug"),
        ("experimental", "ExperimentalBuild"),
        ("log-driver", "LoggingDriver"),
        ("default-runtime", "DefaultRuntime"),
    )
    found = {key: info[name] for key, name in names if name in info}
    backend = info.get("FirewallBackend")
    if isinstance(backend, dict) and version(str(info.get("ServerVersion"))) >= NFTABLES_BACKEND:
        # With firewalld it is called iptables+firewalld.
        found["firewall-backend"] = str(backend.get("Driver") or "iptables").partition("+")[0]
    return found


# -- the file ----------------------------------------------------------------------------------------------------------


def read_file(path: str) -> Found:
    """The file, through a link; raises DaemonConfigError for what could not be replaced by a file later."""
    try:
        text = _files.read(path)
        if text is None:
            return Found(None)
        found = os.stat(path)
    except OSError as exc:
        raise DaemonConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    if not stat.S_ISREG(found.st_mode):
        raise DaemonConfigError(f"{path} is no regular file")
    return Found(text, stat.S_IMODE(found.st_mode), found.st_gid)


def backup_path(path: str, text: str) -> str:
    """Where a content is kept: the same name for the same content, so that it is kept once."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{path}.bulkhead-{digest[:12]}"


def write_file(path: str, found: Found, text: str, backup: bool) -> str | None:
    """Replace the file; gives the path of the copy of what was there. Owner is root, and nobody else may write."""
    kept = backup_path(path, found.text) if backup and found.text is not None else None
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if kept is not None and not _is_copy(kept, found.text):
            _files.replace(kept, found.text or "", 0o600)
        _files.write(path, text, found.mode & ~0o002)
        if found.text is not None and os.stat(path).st_gid != found.gid:
            os.chown(path, -1, found.gid)
    except OSError as exc:
        raise DaemonConfigError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return kept


def _is_copy(path: str, text: str | None) -> bool:
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    return stat.S_IMODE(os.stat(path).st_mode) == 0o600 and _files.read(path) == text
