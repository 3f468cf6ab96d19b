# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write every task's result, and the counts at the end, as lines of JSON to the file named by LAB_EVENTS."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: lab_events
type: aggregate
short_description: Results as lines of JSON
description:
  - Writes every task's result, and the counts at the end, to the file that E(LAB_EVENTS) names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lab_events"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, event: dict[str, t.Any]) -> None:
        path = os.environ.get("LAB_EVENTS")
        if path:
            with open(path, "a", encoding="utf-8") as out:
                out.write(json.dumps(event, default=str) + "\n")

    def _result(self, status: str, result: t.Any) -> None:
        task = result._task
        self._write(
            {
                "host": result._host.get_name(),
                "task": task.get_name(),
                "action": task.action,
                "status": status,
                "changed": bool(result._result.get("changed")),
                "result": result._result,
            }
        )

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._result("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: t.Any) -> None:
        self._result("skipped", result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._result("unreachable", result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        self._write({"stats": {host: stats.summarize(host) for host in stats.processed}})
