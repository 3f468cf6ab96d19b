# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move a host from the old xtables to nf_tables without a moment in which a closed port is open.

Private to the collection: not meant to be used from anywhere else. May change at any time.

A packet has to pass both the old xtables and nf_tables, and a drop in either is final. So the old tables go on
filtering until nf_tables has everything, Docker's rules too, and are emptied last; nothing can be open in between
that was closed before. Only Docker's old DNAT goes earlier, while Docker is stopped: containers that are started
again may get other addresses, and what leads to the old ones would lead to a wrong container.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _iptables_legacy as legacy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant_plan import (
    BACKUPS,
    Docker,
    Family,
    Plan,
    Planner,
    VariantError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LEGACY, read_tools

_STILL = "The old rules still decide beside what is in nf_tables already; the next run goes on from there"


@dataclass
class Outcome:
    """What was done besides what was planned."""

    backup: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Move(Planner):
    """Does what was planned."""

    def apply(self, plan: Plan, timeout: int) -> Outcome:
        """Do it; raises VariantError, and then the old rules still decide."""
        outcome = Outcome()
        try:
            if plan.families:
                outcome.backup = self._back_up(plan)
            for family in plan.families:
                self._load(family, legacy.early_text(family.parts, family.there, plan.bridges))
                self._check(family, plan.bridges, late=False)
            self._switch(plan)
            if plan.docker is not None:
                self._restart_docker(plan, plan.docker, outcome, timeout)
            for family in (*plan.families, *plan.beside):
                self._load(family, legacy.late_text(family.parts, self._saved(f"{family.tool}-nft-save")))
                self._check(family, plan.bridges, late=True)
                if plan.docker is not None and family.tool not in plan.docker.unused:
                    self._check_docker(family)
            self._empty(plan.families)
        except (CommandError, OSError, VariantError) as exc:
            raise VariantError(f"{exc}. {_STILL}") from exc
        return outcome

    def _back_up(self, plan: Plan) -> list[str]:
        """The old rules as they were saved; an earlier backup stays."""
        directory = self.root + BACKUPS
        _files.private_directory(os.path.dirname(directory))
        _files.private_directory(directory)
        written = []
        for family in plan.families:
            text = self.runner.run([f"{family.tool}-legacy-save"]).stdout
            number, path = 0, f"{directory}/{family.tool}.save"
            while os.path.lexists(path):
                number += 1
                path = f"{directory}/{family.tool}.save.{number}"
            _files.write(path, text, 0o600)
            written.append(path[len(self.root) :])
        return written

    def _load(self, family: Family, text: str) -> None:
        if text:
            self.runner.run([f"{family.tool}-nft-restore", "--noflush"], stdin=text)

    def _check(self, family: Family, bridges: legacy.Bridges, late: bool) -> None:
        there = self._saved(f"{family.tool}-nft-save")
        missing = legacy.not_arrived(family.parts, there, bridges, late)
        if missing:
            raise VariantError(f"these rules have not arrived in nf_tables: {family.tool} {', '.join(missing)}")

    def _check_docker(self, family: Family) -> None:
        missing = legacy.docker_missing(family.parts, self._saved(f"{family.tool}-nft-save"))
        if missing:
            raise VariantError(
                f"Docker was restarted and has not put its rules into nf_tables ({family.tool}: {', '.join(missing)}); "
                "see journalctl -u docker"
            )

    def _switch(self, plan: Plan) -> None:
        """All names or none: a Docker that runs uses both tools."""
        try:
            for each in plan.alternatives:
                self.runner.run(["update-alternatives", "--set", each.name, each.target])
            wrong = [name for name, tool in read_tools(self.runner).items() if tool.variant == LEGACY]
            if wrong:
                raise VariantError(
                    f"{' and '.join(wrong)} in PATH still are the old ones, whatever the alternatives say"
                )
        except (CommandError, VariantError):
            self._switch_back(plan)
            raise

    def _switch_back(self, plan: Plan) -> None:
        for each in plan.alternatives:
            self.runner.run(["update-alternatives", "--set", each.name, each.before], check=False)

    def _restart_docker(self, plan: Plan, docker: Docker, outcome: Outcome, timeout: int) -> None:
        units = ["docker.service", *(["docker.socket"] if docker.socket else [])]
        # However often it was restarted lately: systemd does not decline.
        self.runner.run(["systemctl", "reset-failed", "docker.service"], check=False)
        try:
            if docker.live_restore:
                self.runner.run(["systemctl", "restart", "docker.service"], timeout=timeout)
            else:
                self.runner.run(["systemctl", "stop", *units], timeout=timeout)
                self._forget_dnat(plan)
                self.runner.run(["systemctl", "start", *reversed(units)], timeout=timeout)
            running = self._containers()
        except CommandError as exc:
            self._docker_back(plan, units, timeout)
            raise VariantError(
                f"Docker could not be restarted ({exc}); {'the alternatives were set back and ' * bool(plan.alternatives)}"
                "it was started again, see journalctl -u docker"
            ) from exc
        for identity, name in docker.containers.items():
            if identity not in running:
                done = self.runner.run(["docker", "start", identity], check=False, timeout=timeout)
                (outcome.lost if done.rc else outcome.started).append(name)

    def _docker_back(self, plan: Plan, units: list[str], timeout: int) -> None:
        """On the old iptables Docker puts its old rules right by itself; what it began in nf_tables must not stay."""
        self._switch_back(plan)
        for family in plan.families if plan.alternatives else ():
            self.runner.run([f"{family.tool}-nft", "--wait", "-t", "nat", "-F", "DOCKER"], check=False)
        self.runner.run(["systemctl", "restart", *reversed(units)], check=False, timeout=timeout)

    def _forget_dnat(self, plan: Plan) -> None:
        for family in plan.families:
            nat = family.old.get("nat")
            for chain in sorted(legacy.DOCKER_CHAINS.intersection(nat.chains if nat else ())):
                self.runner.run([f"{family.tool}-legacy", "--wait", "-t", "nat", "-F", chain])

    def _empty(self, families: list[Family]) -> None:
        """Empty the old tables of all families, or of none."""
        held = {family.tool: self.runner.run([f"{family.tool}-legacy-save"]).stdout for family in families}
        try:
            for family in families:
                self._refill(family.tool, legacy.empty_text(family.old))
        except CommandError:
            for tool, text in held.items():
                self._refill(tool, text, check=False)
            raise

    def _refill(self, tool: str, text: str, check: bool = True) -> None:
        self.runner.run([f"{tool}-legacy-restore", "--wait"], stdin=text, check=check)
