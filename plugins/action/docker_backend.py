# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of docker_backend: try what Docker publishes before and after, then confirm."""

from __future__ import annotations

import ipaddress
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.bulkhead.docker_nftables.plugins.action.nftables_ruleset import ActionModule as Confirming
from ansible_collections.bulkhead.docker_nftables.plugins.action.nftables_ruleset import probe

#: How many connections are tried at once.
AT_ONCE = 32
#: How often a port that differs is tried again.
RETRIES = 2

Target = t.Tuple[str, int]


class ActionModule(Confirming):
    """Runs the module, and confirms what it applied if the same ports are open as before."""

    new = "new backend"
    back = "gone back to the backend it had before"
    #: What was found before the change.
    before: dict[Target, bool]

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the task. Where nothing is to be changed, or in check mode, the look ahead is all there is."""
        self.before = {}
        arguments = self._task.args
        wanted = boolean(arguments.get("probe_published", True), strict=False)
        if self._task.check_mode or not wanted or arguments.get("confirmation"):
            return super().run(tmp, task_vars)
        variables = task_vars or {}
        look = self._look(dict(arguments), variables)
        if look.get("failed") or look.get("unreachable") or not look.get("changed"):
            return look
        self.before = try_all(targets(look.get("published") or [], self._address(variables)))
        result = super().run(tmp, task_vars)
        if result.get("confirmed"):
            result["probed"] = [
                {"address": address, "port": port, "before": said(was), "after": said(was)}
                for (address, port), was in sorted(self.before.items())
            ]
        return result

    def _look(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """What the module would do."""
        self._task.check_mode = True
        try:
            return self._execute_module(module_args=arguments, task_vars=variables)
        finally:
            self._task.check_mode = False

    @staticmethod
    def _address(variables: dict[str, t.Any]) -> str:
        return str(variables.get("ansible_host") or variables.get("inventory_hostname"))

    def _probes(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> list[str]:
        """Try the probes, and what was tried before; list what did not turn out as expected."""
        failed = super()._probes(arguments, variables)
        now = try_all(list(self.before))
        for _attempt in range(RETRIES):
            differing = [each for each, was in self.before.items() if now[each] != was]
            if not differing:
                break
            # A container that was started anew may need a moment.
            time.sleep(1)
            now.update(try_all(differing))
        for (address, port), was in sorted(self.before.items()):
            if now[(address, port)] != was:
                failed.append(f"port {port} of {address} was {said(was)} and is {said(now[(address, port)])}")
        return failed


def said(is_open: bool) -> str:
    """The word for what a probe found."""
    return "open" if is_open else "closed"


def targets(published: list[dict[str, t.Any]], address: str) -> list[Target]:
    """Where to connect to: every address that is published on, and for all of them the one Ansible uses."""
    found: set[Target] = set()
    for each in published:
        given = ipaddress.ip_address(str(each["address"]))
        if given.is_loopback:
            continue
        found.add((address if given.is_unspecified else str(given), int(each["port"])))
    return sorted(found)


def try_all(wanted: list[Target]) -> dict[Target, bool]:
    """Try connections side by side."""
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(lambda target: probe(*target), wanted)))
