# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a move from the old xtables to nf_tables would do, and everything that stands against it.

Private to the collection: not meant to be used from anywhere else. May change at any time.

Nothing here changes the host. What moves is loaded into an empty network namespace and read back.
"""

from __future__ import annotations

import json
import os
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _iptables_legacy as legacy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import (
    DEFAULT_PATH,
    read_daemon_settings,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    ScratchNetworkError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import (
    Interface,
    docker_presence,
    legacy_table_names,
    read_interfaces,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import (
    LEGACY,
    NF_TABLES,
    read_tools,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence

BACKUPS = "/etc/bulkhead/legacy-backup"
TOOLS = ("iptables", "ip6tables")
#: Tools of which only the alternative is moved.
OTHER_TOOLS = ("arptables", "ebtables")
#: How often a refused rule is left out to find the next one.
_MAX_REFUSED = 20
_FAILED_LINE = re.compile(r"\bline:? (\d+)", re.I)
_PREFIX = re.compile(r"^\S+-restore v\S+ \(nf_tables\):")
_CONTAINER = re.compile(r"([0-9a-f]{12,64}) (\S+)")


_NO_RESTART = (
    "docker_restart is false, but Docker runs and its rules are in the old xtables: only a restart brings them to "
    "nf_tables. Stop Docker first, or set docker_restart to true"
)


class VariantError(Exception):
    """The host cannot be moved; every reason is in the message."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))


@dataclass(frozen=True)
class Family:
    """One of iptables and ip6tables: what the old xtables hold, and what nf_tables has already."""

    tool: str
    old: legacy.Saved
    parts: tuple[legacy.Part, ...]
    there: legacy.Saved

    @property
    def full(self) -> bool:
        return legacy.has_rules(self.old)

    def moved(self) -> list[str]:
        """The user's rules as commands."""
        found = [f"{self.tool} -t {part.table} -P {part.chain} {part.policy}" for part in self.parts if part.closed]
        return found + [f"{self.tool} -t {part.table} {line}" for part in self.parts for line in part.users]

    def ipsets(self) -> set[str]:
        """The ipsets that rules which move ask or fill."""
        return {name for part in self.parts for line in part.mine for name in [legacy.ipset_of(line)] if name}


@dataclass(frozen=True)
class Docker:
    """How Docker is restarted, and what runs under it."""

    live_restore: bool
    socket: bool
    containers: dict[str, str]
    #: Tools that Docker is told not to use; what of its rules is there was left behind.
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """A name, what it leads to, and what it has to lead to."""

    name: str
    before: str
    target: str


@dataclass
class Plan:
    """What is to be done, and what is to be told of it."""

    before: str
    families: list[Family] = field(default_factory=list)
    #: Families that have nothing to move, where Docker is restarted.
    beside: list[Family] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    docker: Docker | None = None
    bridges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)

    @property
    def moved(self) -> list[str]:
        return [line for family in self.families for line in family.moved()]

    @property
    def docker_rules(self) -> int:
        return sum(part.docker for family in self.families for part in family.parts)

    @property
    def ipsets(self) -> list[str]:
        return sorted({name for family in self.families for name in family.ipsets()})

    def diff(self) -> list[dict[str, str]]:
        """The rules in nf_tables in iptables' form, without Docker's own."""
        return [
            {
                "before_header": f"{family.tool}-nft-save",
                "after_header": f"{family.tool}-nft-save",
                "before": legacy.listing(family.there, (), self.bridges),
                "after": legacy.listing(family.there, family.parts, self.bridges),
            }
            for family in self.families
        ]


class Planner:
    """Reads the host and plans. `root` is put before paths of files, `proc` replaces /proc, for tests."""

    def __init__(self, runner: RunnerLike, root: str = "", proc: str = "/proc") -> None:
        self.runner = runner
        self.root = root
        self.proc = proc

    def plan(self, restart_docker: bool = True) -> Plan:
        """What is to be done; raises VariantError with everything that stands against it. Changes nothing."""
        tools = read_tools(self.runner)
        variants = {tool.variant for tool in tools.values() if tool.path is not None}
        plan = Plan(before=LEGACY if LEGACY in variants else NF_TABLES if variants else "none")
        for name, tables in zip(TOOLS, legacy_table_names(self.proc)):
            family = self._family(name) if tables else None
            if family is not None and family.full:
                plan.families.append(family)
        plan.alternatives = self._alternatives([name for name in TOOLS if tools[name].variant == LEGACY])
        if not plan.families and not plan.alternatives:
            return plan
        interfaces = read_interfaces(self.runner)
        presence = docker_presence(interfaces, f"{self.root}/run/docker.pid", self.proc)
        plan.bridges = docker_bridges(interfaces, plan.families)
        plan.families = [self._divided(family, plan.bridges) for family in plan.families]
        reasons = self._against(plan, interfaces, presence)
        if presence.running and plan.docker_rules:
            try:
                plan.docker = self._docker(presence)
            except VariantError as exc:
                reasons.append(str(exc))
            if plan.docker is not None and not restart_docker:
                reasons.append(_NO_RESTART)
        if reasons:
            raise VariantError(*reasons)
        if plan.docker is not None:
            plan.beside = self._beside(plan)
        plan.actions = _actions(plan)
        return plan

    def _beside(self, plan: Plan) -> list[Family]:
        """The other family, in nf_tables already: a restart of Docker must not change the order in it either."""
        moving = {family.tool for family in plan.families}
        return [self._standing(name, plan) for name in TOOLS if name not in moving]

    def _standing(self, name: str, plan: Plan) -> Family:
        there = self._saved(f"{name}-nft-save") if self.runner.find(f"{name}-nft-save") else {}
        return Family(name, {}, tuple(legacy.divide(there, plan.bridges)), there)

    def _family(self, name: str) -> Family:
        try:
            old = self._saved(f"{name}-legacy-save")
        except CommandMissing as exc:
            raise VariantError(
                f"the kernel has tables of the old xtables, and there is no {name}-legacy-save to read them with: "
                "install it, or reboot if nothing makes them any more"
            ) from exc
        return Family(name, old, (), {})

    def _saved(self, tool: str) -> legacy.Saved:
        try:
            result = self.runner.run([tool])
        except CommandMissing:
            raise
        except CommandError as exc:
            raise VariantError(str(exc)) from exc
        incompatible = [line.lstrip("# ") for line in result.stdout.split("\n") if line.endswith("use 'nft' tool.")]
        incompatible = [line for line in incompatible if "is incompatible" in line]
        if incompatible:
            raise VariantError(
                f"{tool} cannot read all of nf_tables, so what moves there could not be checked: "
                f"{', '.join(incompatible)} Rules made by nft belong in tables with names of their own"
            )
        try:
            return legacy.parse_save(result.stdout)
        except legacy.SaveError as exc:
            raise VariantError(f"what {tool} prints cannot be read: {exc}") from exc

    def _divided(self, family: Family, bridges: legacy.Bridges) -> Family:
        try:
            there = self._saved(f"{family.tool}-nft-save")
        except CommandMissing as exc:
            raise VariantError(f"{exc}; without it nothing can be moved to nf_tables") from exc
        return Family(family.tool, family.old, tuple(legacy.divide(family.old, bridges)), there)

    def _alternatives(self, needed: list[str]) -> list[Alternative]:
        """Names and the programs they have to lead to, where they do not yet."""
        wanted = []
        for name in (*needed, *OTHER_TOOLS):
            value, target = self._alternative(name)
            if name in needed and (target is None or value in (None, target)):
                raise VariantError(
                    f"{name} is the old one and not one of several alternatives (update-alternatives knows no other "
                    "for nf_tables). Only hosts where it is one, such as Debian and Ubuntu, can be moved by this "
                    f"module; elsewhere install the package with {name}-nft"
                )
            if value and target and value != target and (name in needed or value.endswith("-legacy")):
                wanted.append(Alternative(name, value, target))
        return wanted

    def _alternative(self, name: str) -> tuple[str | None, str | None]:
        """What a name leads to now, and its program for nf_tables."""
        try:
            printed = self.runner.run(["update-alternatives", "--query", name], check=False).stdout
        except CommandMissing:
            return None, None
        fields = [line.partition(": ")[::2] for line in printed.split("\n")]
        value = next((text for key, text in fields if key == "Value"), None)
        offered = [text for key, text in fields if key == "Alternative"]
        return value, next((path for path in offered if os.path.basename(path) == f"{name}-nft"), None)

    def _against(self, plan: Plan, interfaces: list[Interface], presence: DockerPresence) -> list[str]:
        reasons = []
        if plan.families and self._active("firewalld.service"):
            reasons.append(
                "firewalld runs and makes its rules by itself: set FirewallBackend=nftables in firewalld.conf, restart "
                "it, and run this again"
            )
        for family in plan.families:
            reasons += self._against_rules(family, plan.bridges)
        reasons += self._others_in_use(plan.alternatives)
        if not plan.docker_rules:
            return reasons
        if not presence.running and any(each.master in plan.bridges and each.up for each in interfaces):
            reasons.append(
                "containers run without dockerd, protected by rules in the old xtables that only dockerd can bring to "
                "nf_tables: start Docker first"
            )
        return reasons

    def _active(self, unit: str) -> bool:
        try:
            return self.runner.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"
        except CommandMissing:
            return False

    def _against_rules(self, family: Family, bridges: legacy.Bridges) -> list[str]:
        reasons = [
            f"{family.tool} {line} stands in a chain of Docker's own, and a restart of Docker loses it: move it to "
            f"{legacy.USER_CHAIN}"
            for line in legacy.strange_drops(family.parts, bridges)
        ]
        for part in family.parts:
            found = legacy.conflict(part, family.there, bridges)
            if found:
                reasons.append(
                    f"chain {part.chain} of table {part.table} has rules of {family.tool} in nf_tables too "
                    f"({', '.join(found[:3])}{' and more' if len(found) > 3 else ''}). Now packets have to pass both "
                    "chains; in one chain the first rule would decide. Move those of one side by hand"
                )
        return reasons + self._refused(family, bridges)

    def _refused(self, family: Family, bridges: legacy.Bridges) -> list[str]:
        """Load what moves where it does no harm, and compare what comes out with what went in."""
        reasons: list[str] = []
        text = legacy.trial_text(family.parts)
        if text:
            try:
                with self.runner.scratch_network():
                    reasons += self._tried(family, text)
            except ScratchNetworkError as exc:
                return [str(exc)]
        # Names of ipsets, and chains that are there already, count only in the host's own network.
        early = legacy.early_text(family.parts, family.there, bridges)
        if early and not reasons:
            argv = [f"{family.tool}-nft-restore", "--noflush", "--test"]
            _kept, refused = self._sift(argv, early)
            reasons += [f"{family.tool}: {line}" for line in refused]
        return reasons

    def _tried(self, family: Family, text: str) -> list[str]:
        text, refused = self._sift([f"{family.tool}-nft-restore"], text)
        reasons = [f"{family.tool}: {line}" for line in refused]
        wanted, found = legacy.parse_save(text), self._saved(f"{family.tool}-nft-save")
        for name, table in wanted.items():
            for chain, lines in table.chains.items():
                got = set(found[name].chains.get(chain, ()) if name in found else ())
                reasons += [
                    f"{family.tool}: {line} reads back from nf_tables as something else"
                    for line in lines
                    if line not in got
                ]
        return reasons

    def _sift(self, argv: list[str], text: str) -> tuple[str, list[str]]:
        """Load a text, without the rules that are refused; gives what was loaded, and each of the others with why."""
        refused: list[str] = []
        while len(refused) < _MAX_REFUSED:
            result = self.runner.run(argv, stdin=text, check=False)
            if result.rc == 0:
                break
            lines = text.split("\n")
            numbers = [int(each) - 1 for each in _FAILED_LINE.findall(result.stderr)]
            number = next((each for each in numbers if each < len(lines) and lines[each].startswith("-")), None)
            if number is None:
                refused.append(f"nf_tables refuses the rules: {_why(result.stderr)}")
                break
            refused.append(f"{lines[number]} is refused by nf_tables: {_why(result.stderr)}")
            text = "\n".join([*lines[:number], *lines[number + 1 :]])
        return text, refused

    def _others_in_use(self, alternatives: list[Alternative]) -> list[str]:
        """Rules of tools that this module does not move."""
        reasons = []
        for name in (each.name for each in alternatives):
            if name not in OTHER_TOOLS or (name == "arptables" and not self._arp_tables()):
                continue
            try:
                saved = self.runner.run([f"{name}-legacy-save"], check=False).stdout
            except CommandMissing:
                continue
            if any(line.startswith("-A ") for line in saved.split("\n")):
                reasons.append(
                    f"{name} has rules in the old xtables, which this module does not move: move them by hand"
                )
        return reasons

    def _arp_tables(self) -> bool:
        return bool((_files.read(f"{self.proc}/net/arp_tables_names") or "").strip())

    def _docker(self, presence: DockerPresence) -> Docker | None:
        """What has to be known of a running Docker, None where it makes no rules of iptables.

        Raises VariantError where it could not be restarted safely.
        """
        path = f"{self.root}{DEFAULT_PATH}" if self.root else None
        daemon = read_daemon_settings(path, presence.arguments)
        unused = tuple(name for name in TOOLS if daemon.effective(name) is False)
        try:
            info = json.loads(self.runner.run(["docker", "info", "--format", "{{json .}}"]).stdout)
            containers = self._containers()
        except (CommandError, ValueError) as exc:
            raise VariantError(f"Docker has to be asked for its containers before it is restarted: {exc}") from exc
        backend = info.get("FirewallBackend") or {}
        if str(backend.get("Driver", "")).startswith("nftables") or len(unused) == len(TOOLS):
            return None
        if not self._active("docker.service"):
            raise VariantError("dockerd runs, but not as docker.service: this module cannot restart it")
        if daemon.error is not None:
            raise VariantError(f"{daemon.error}. Docker would not start again: correct the file first")
        return Docker(bool(info.get("LiveRestoreEnabled")), self._active("docker.socket"), containers, unused)

    def _containers(self) -> dict[str, str]:
        """Ids and names of what runs."""
        printed = self.runner.run(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]).stdout
        matches = [_CONTAINER.fullmatch(line) for line in printed.split("\n")]
        return {match.group(1): match.group(2) for match in matches if match}


def _why(said: str) -> str:
    """What an iptables-nft-restore says, without what is said each time."""
    lines = [_PREFIX.sub("", line).strip() for line in said.split("\n")]
    kept = [line for line in lines if line and not line.startswith(("Error occurred at line", "Try `"))]
    return " ".join(kept)[:300] or "it does not say why"


def docker_bridges(interfaces: list[Interface], families: list[Family]) -> dict[str, tuple[str, ...]]:
    """Docker's bridges with their addresses, also those whose names somebody chose."""
    named = {name for family in families for name in legacy.named_by_docker(family.old)}
    return {
        each.name: each.addresses
        for each in interfaces
        if each.is_bridge and (each.docker_bridge or each.name in named)
    }


def _actions(plan: Plan) -> list[str]:
    actions = []
    if plan.families:
        actions.append(f"save the old rules below {BACKUPS}")
    for family in plan.families:
        count = len(family.moved())
        if count:
            actions.append(f"load {count} {'rule' if count == 1 else 'rules'} of {family.tool} into nf_tables")
    actions += [f"make {each.name} lead to {each.target}" for each in plan.alternatives]
    if plan.docker is not None:
        how = "with its containers running" if plan.docker.live_restore else "with its containers"
        actions.append(f"restart Docker {how}")
    actions += [f"empty the old tables of {family.tool}: {', '.join(family.old)}" for family in plan.families]
    return actions
