# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of nftables_ruleset: come back over a new connection, probe, confirm."""

from __future__ import annotations

import socket
import time
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

#: Seconds that one probe may take; a dropped connection is not answered at all.
PROBE_TIMEOUT = 3.0


def probe(address: str, port: int) -> bool:
    """Tell whether a TCP connection from the controller succeeds."""
    try:
        with socket.create_connection((address, port), timeout=PROBE_TIMEOUT):
            return True
    except OSError:
        return False


class ActionModule(ActionBase):
    """Runs the module, and confirms what it applied."""

    #: What is confirmed, and what the host has done where it is not.
    new = "new table"
    back = "put back the table it had before"

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the task."""
        variables = task_vars or {}
        result = super().run(tmp, variables)
        del tmp
        arguments = dict(self._task.args)
        result.update(self._execute_module(module_args=arguments, task_vars=variables))
        confirmation = result.get("confirmation")
        if result.get("failed") or not confirmation or arguments.get("confirmation"):
            return result
        started = time.monotonic()
        result["confirmed"] = False
        problem = self._confirm(result, arguments, started, variables)
        if problem is None:
            result["confirmed"] = True
            return result
        result.update(failed=True, changed=False, msg=problem)
        return result

    def _confirm(
        self,
        result: dict[str, t.Any],
        arguments: dict[str, t.Any],
        started: float,
        variables: dict[str, t.Any],
    ) -> str | None:
        """Confirm over a new connection. Gives None, or a sentence about what went wrong."""
        confirmation = result["confirmation"]
        deadline = started + float(confirmation["seconds"])
        last = "no new connection could be made"
        while True:
            remaining = deadline - time.monotonic()
            display.vv(f"confirming over a new connection, {remaining:.0f} s until the host reverts")
            try:
                self._connection.reset()
                failed = self._probes(arguments, variables)
                answer = self._execute_module(
                    module_args={**arguments, "confirmation": confirmation["token"], "keep": not failed},
                    task_vars=variables,
                )
            except AnsibleError as error:
                last = str(error)
            else:
                if answer.get("unreachable"):
                    last = str(answer.get("msg"))
                elif answer.get("failed"):
                    return f"The {self.new} was not kept: {answer.get('msg')}"
                elif failed:
                    return f"The host has {self.back}, because " + "; ".join(failed)
                else:
                    # The disk is written by the confirmation only.
                    result.update({key: answer[key] for key in ("backup",) if answer.get(key)})
                    return None
            if time.monotonic() > deadline + 5:
                return (
                    f"No new connection to the host succeeded within {confirmation['seconds']} seconds of the change,"
                    f" so it has {self.back} by itself; nothing on disk was changed ({last})"
                )
            time.sleep(1)

    def _probes(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> list[str]:
        """Try the probes; list those that did not turn out as expected."""
        failed = []
        for item in arguments.get("probes") or []:
            address = item.get("address") or variables.get("ansible_host") or variables.get("inventory_hostname")
            port, expected = int(item["port"]), item.get("expect", "open")
            found = "open" if probe(str(address), port) else "closed"
            if found != expected:
                failed.append(f"port {port} of {address} is {found} where {expected} was expected")
        return failed
