# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks of the demo, with their tasks as progress."""

from __future__ import annotations

import time
import typing as t

from demo.table import styled
from lab.ansible import PlaybookResult, start_playbook
from lab.process import LabError
from lab.topology import Lab

COLLECTION = "bulkhead.docker_nftables"


def command(playbook: str, extra: t.Mapping[str, str]) -> str:
    """The command as one types it."""
    words = [f"ansible-playbook -i inventory.json {COLLECTION}.{playbook}"]
    words += [f"-e {name}={value}" for name, value in extra.items()]
    return " \\\n        ".join(words)


def play(lab: Lab, playbook: str, extra: t.Mapping[str, str]) -> PlaybookResult:
    """Run a playbook of the collection from the neighbour's network and print each task as it ends."""
    print(styled(f"  $ {command(playbook, extra)}", "bold"), flush=True)
    started = start_playbook(lab, f"{COLLECTION}.{playbook}", extra_vars=extra)
    begin = time.monotonic()
    shown = 0
    while True:
        ended = started.process.poll() is not None
        events = [event for event in started.events() if "host" in event]
        for event in events[shown:]:
            _line(event, time.monotonic() - begin)
        shown = len(events)
        if ended:
            break
        if time.monotonic() - begin > 300:
            started.kill()
            raise LabError(f"the playbook {playbook} did not end in 300 s")
        time.sleep(0.05)
    result = started.wait()
    for host, counts in sorted(result.stats.items()):
        numbers = "  ".join(f"{name}={counts[name]}" for name in ("ok", "changed", "unreachable", "failures"))
        print(styled(f"  {host}: {numbers}  ({time.monotonic() - begin:.0f} s)", "bold"), flush=True)
    return result


def _line(event: dict[str, t.Any], seconds: float) -> None:
    if event["status"] == "skipped":
        return
    status = "changed" if event["changed"] and event["status"] == "ok" else event["status"]
    task = event["task"].rpartition(" : ")[2].partition(" - ")[0]
    style = {"changed": "green", "failed": "red", "unreachable": "red"}.get(status, "dim")
    print(f"    {seconds:5.1f} s  {styled(status.ljust(11), style)}  {event['host']}: {task}", flush=True)
    if event["action"] == "ansible.builtin.debug" and isinstance(event["result"].get("msg"), list):
        print("".join(f"{'':24}{line}\n" for line in event["result"]["msg"]), end="", flush=True)


def require(result: PlaybookResult, what: str) -> None:
    """A playbook that failed ends the demo with what Ansible said."""
    if result.rc != 0:
        said = result.messages() or (result.stdout + result.stderr)[-3000:]
        raise LabError(f"{what} failed (exit code {result.rc}):\n{said}")
