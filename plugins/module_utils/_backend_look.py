# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read of a host what a switch of Docker's firewall backend depends on.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import (
    _backend_record,
    _backend_units,
    _files,
    _forwarding,
    _layout,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_plan import TABLE, Facts
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_record import RecordError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import Boot
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import (
    DaemonConfigError,
    Found,
    Host,
    read_file,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read import (
    api_version,
    read_containers,
    read_engine,
    read_networks,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import read_daemon_settings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import LayoutError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import KEY
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_iptables import (
    foreign_base_chains,
    unreadable_chains,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import legacy_table_names
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import (
    read_legacy_rules,
    read_tools,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_marks import read_mark_uses
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_services import (
    describe_services,
    read_units,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import SysctlTree
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules

FORWARDING = {"ip": _forwarding.IPV4_FORWARD, "ip6": _forwarding.IPV6_ALL_FORWARD}
SAVE = {"ip": "iptables-save", "ip6": "ip6tables-save"}
#: What distributions load at boot, by the service that does it.
_SAVED_FILES = {
    "netfilter-persistent": ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6"),
    "iptables": ("/etc/sysconfig/iptables", "/etc/iptables/iptables.rules"),
    "ip6tables": ("/etc/sysconfig/ip6tables", "/etc/iptables/ip6tables.rules"),
}
_CLOSES = re.compile(r"^:(?:FORWARD DROP|DOCKER-USER) ", re.MULTILINE)
_UFW_DEFAULTS = "/etc/default/ufw"
_UFW_FORWARD = re.compile(r"^\s*DEFAULT_FORWARD_POLICY\s*=\s*[\"']?(\w+)", re.MULTILINE)
_KUBERNETES = ("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml", "/var/lib/rancher/k3s/agent")


@dataclass
class Seen:
    """The facts of a plan, and what only the doing needs."""

    facts: Facts
    host: Host
    file: Found
    #: The file the running daemon reads, and whether it is the one of docker.service.
    running_path: str = ""
    pid: int | None = None
    running: dict[str, str] = field(default_factory=dict)
    published: list[dict[str, t.Any]] = field(default_factory=list)


class Look:
    """One look at the host. `root` is put before the paths of files, for tests."""

    def __init__(self, edges: Edges, root: str = "") -> None:
        self.edges = edges
        self.runner = edges.runner
        self.root = root
        self.trouble: list[str] = []

    def take(self) -> Seen:
        """Read all of it; what cannot be read becomes trouble, which stands in the way of a switch."""
        host = Host(self.runner, self.root).look()
        path = self._real(host.path())
        ruleset = read_ruleset(self.runner)
        tools = read_tools(self.runner)
        legacy = read_legacy_rules(self.runner, *legacy_table_names(), tools)
        services = describe_services(read_units(self.runner), ruleset, legacy, self.root)
        saved = {family: text for family in SAVE for text in [self._saved(family)] if text is not None}
        file = self._file(path)
        seen = Seen(Facts(), host, file)
        docker = self._docker(seen)
        seen.facts = Facts(
            engine=host.engine,
            path=path,
            daemon_json=file.text,
            saved=saved,
            sets=self._sets(saved),
            unreadable=tuple(_unreadable(ruleset)),
            legacy=tuple(_deciding(legacy)),
            layout=self._layout(),
            record=self._record(),
            carried=self._carried(),
            closed=tuple(self._closed()),
            kubernetes=tuple(self._kubernetes(saved)),
            saved_files=tuple(self._saved_files(services)),
            ufw_forward=self._ufw_forward() if services["ufw"]["active"] else "",
            marks=tuple(read_mark_uses(self.runner, ruleset, _layout.DEFAULT_TABLE, legacy, self.root)),
            live_restore_flag=KEY in host.engine.flags,
            **docker,
            trouble=tuple(self.trouble),
        )
        return seen

    def _docker(self, seen: Seen) -> dict[str, t.Any]:
        """What the running daemon says."""
        presence = self.edges.presence()
        seen.pid = presence.pid
        if not presence.running:
            self.trouble.append("Docker does not run; start it first, so that what it publishes can be known")
            return {}
        try:
            answers = self.edges.ask(30)
        except DockerUnavailable as exc:
            self.trouble.append(f"Docker cannot be asked: {exc}")
            return {}
        daemon = read_daemon_settings(arguments=presence.arguments)
        seen.running_path = self._real(daemon.path)
        engine = read_engine(answers.version, answers.info, daemon)
        networks, _findings = read_networks(answers.networks, api_version(answers.version))
        seen.published, _host_network, _addressed = read_containers(answers.containers, networks)
        seen.running = {str(each["Id"]): str(each.get("Name") or "").lstrip("/") for each in answers.containers}
        if engine["rootless"]:
            self.trouble.append("Docker runs rootless, and its rules are in a namespace of its own")
        if seen.host.runs and seen.host.engine.text and seen.host.runs != seen.host.engine.text:
            self.trouble.append(
                f"dockerd {seen.host.engine.text} is installed while {seen.host.runs} still runs; restart Docker first"
            )
        if not self._own_unit(presence.pid):
            self.trouble.append(
                f"the dockerd that runs (process {presence.pid}) is not the one of docker.service, so it cannot be restarted "
                "the way it was started"
            )
        return {
            "backend": str(engine["firewall_backend"]).partition("+")[0],
            "bridges": tuple(sorted(each["bridge"] for each in networks if each.get("bridge"))),
            "containers": len(answers.containers),
            "live_restore": bool(engine["live_restore"]),
        }

    def _real(self, path: str) -> str:
        """The file that an earlier switch has left a link to."""
        there = self.root + _backend_units.CONFIG
        return os.readlink(there) if path == _backend_units.CONFIG and os.path.islink(there) else path

    def _own_unit(self, pid: int | None) -> bool:
        shown = self.runner.run(["systemctl", "show", "--property=MainPID", "docker.service"], check=False).stdout
        return shown.strip() == f"MainPID={pid}"

    def _file(self, path: str) -> Found:
        try:
            return read_file(f"{self.root}{path}")
        except DaemonConfigError as exc:
            self.trouble.append(str(exc))
            return Found(None)

    def _saved(self, family: str) -> str | None:
        """Table filter of one family; None without the tool."""
        if self.runner.find(SAVE[family]) is None:
            return None
        try:
            return _without_counters(self.runner.run([SAVE[family], "-t", "filter"]).stdout)
        except CommandError as exc:
            self.trouble.append(str(exc))
            return None

    def _sets(self, saved: dict[str, str]) -> str:
        """All ipsets, where a rule asks one."""
        if not any("--match-set" in text for text in saved.values()):
            return ""
        try:
            return self.runner.run(["ipset", "save"]).stdout
        except CommandError as exc:
            self.trouble.append(f"rules of iptables ask ipsets, and these cannot be read: {exc}")
            return ""

    def _layout(self) -> _layout.Layout | None:
        try:
            return _layout.read(self.root)
        except LayoutError as exc:
            self.trouble.append(str(exc))
            return None

    def _record(self) -> _backend_record.Record | None:
        try:
            return _backend_record.read(self.root)
        except RecordError as exc:
            self.trouble.append(str(exc))
            return None

    def _closed(self) -> t.Iterator[str]:
        """Families in which the host does not forward, and has to for Docker's nftables backend."""
        keys = {change.key for change in _forwarding.plan_present(SysctlTree(self.root or "/")).live}
        yield from (family for family, key in FORWARDING.items() if key in keys)

    def _carried(self) -> bool:
        """Whether there is a table that carries rules of DOCKER-USER, now or at the next boot."""
        live = OwnTable(self.runner, "inet", TABLE).live() is not None
        return live or Boot(self.runner, self.root).saved("inet", TABLE) is not None

    def _kubernetes(self, saved: dict[str, str]) -> t.Iterator[str]:
        yield from (path for path in _KUBERNETES if os.path.lexists(self.root + path))
        if any(re.search(r"^:KUBE-", text, re.MULTILINE) for text in saved.values()):
            yield "chains named KUBE-"

    def _saved_files(self, services: dict[str, dict[str, bool | None]]) -> t.Iterator[str]:
        for service, paths in _SAVED_FILES.items():
            if not services.get(service, {}).get("enabled"):
                continue
            for path in paths:
                if _CLOSES.search(self._text(path)):
                    yield path

    def _ufw_forward(self) -> str:
        found = _UFW_FORWARD.search(self._text(_UFW_DEFAULTS))
        return found.group(1).upper() if found else "DROP"

    def _text(self, path: str) -> str:
        try:
            return _files.read(self.root + path) or ""
        except OSError as exc:
            self.trouble.append(f"{path} cannot be read: {exc.strerror}")
            return ""


def _unreadable(ruleset: Ruleset) -> t.Iterator[str]:
    for finding in (*foreign_base_chains(ruleset), *unreadable_chains(ruleset)):
        if " filter" in finding.where:
            yield f"{finding.text} {finding.remedy}"


def _deciding(legacy: LegacyRules) -> t.Iterator[str]:
    for family, lines in (("IPv4", legacy.ipv4), ("IPv6", legacy.ipv6)):
        if lines is None:
            yield f"{family}, which cannot be read"
        elif lines:
            yield f"{family}: {lines[0]}" + (f" and {len(lines) - 1} more" if len(lines) > 1 else "")


def _without_counters(text: str) -> str:
    """The same rules are the same text, however many packets they have seen, and whenever they were saved."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "".join(re.sub(r"^(:\S+ \S+) \[\d+:\d+\]$", r"\1 [0:0]", line) + "\n" for line in lines)
