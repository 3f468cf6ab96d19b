# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: how a running Docker gets what daemon.json says by now, and what has to wait for a restart.

Docker does not tell most of what it was started with. So what waits is remembered in a file below /run, which a reboot
empties as it applies everything: with the process that had not read it, and the default bridge that was not made with it.
May change at any time.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import (
    NEEDS,
    RELOAD,
    RESTART,
    RESTART_EMPTY,
    worst,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_plan import LIVE_RESTORE, PREFIX, Plan

RECORD = "/run/bulkhead-docker-daemon.json"
PID_FILE = "/run/docker.pid"
KEEPING = "keeping"
STOPPING = "stopping"


@dataclass(frozen=True)
class Running:
    """The daemon that runs; `pid` and `bridge` tell one start, and one default bridge, from the next."""

    running: bool = False
    pid: str = ""
    bridge: str = ""
    containers: int = 0
    live_restore: bool = False
    swarm: bool = False
    #: Whether live-restore stands on the command line, where nobody can switch it for a moment.
    fixed: bool = False
    in_file: bool = False


@dataclass
class Steps:
    """What is to be done, in this order, and what is left."""

    #: What is to be remembered before and after, None where that is known already; {} is to be forgotten.
    remember: dict[str, t.Any] | None = None
    afterwards: dict[str, t.Any] | None = None
    reload: bool = False
    restart: str = ""
    #: Whether live-restore has to be off for the restart, and whether the file has it afterwards.
    suspend: bool = False
    resume: bool = False
    pending: list[dict[str, str]] = field(default_factory=list)
    report: list[str] = field(default_factory=list)


def read_running(facts: t.Mapping[str, t.Any], pid: str) -> Running:
    """Take what docker_firewall_info says."""
    engine, daemon = facts.get("engine") or {}, facts.get("daemon_json") or {}
    bridges = [each.get("id") for each in facts.get("networks") or [] if each.get("name") == "bridge"]
    listed = [*(facts.get("host_network_containers") or []), *(facts.get("containers_with_addresses") or [])]
    return Running(
        running=bool(facts.get("running")),
        pid=pid,
        bridge=str(bridges[0]) if bridges else "",
        containers=len(listed),
        live_restore=bool(engine.get("live_restore")),
        swarm=engine.get("swarm") not in (None, "", "inactive"),
        fixed=LIVE_RESTORE in (daemon.get("flags") or {}),
        in_file=(daemon.get("settings") or {}).get(LIVE_RESTORE) is True,
    )


def read_record(lines: t.Iterable[str]) -> tuple[str, dict[str, t.Any]]:
    """Take "path:line" lines of the two files; gives the daemon's process and what was remembered."""
    pid, record = "", {}
    for line in lines:
        path, _colon, text = str(line).partition(":")
        if path == PID_FILE:
            pid = text.strip()
        elif path == RECORD:
            try:
                read = json.loads(text)
            except ValueError:
                continue
            record = read if isinstance(read, dict) else {}
    return pid, record


def still_waiting(record: t.Mapping[str, t.Any], now: Running) -> dict[str, str]:
    """Give the remembered keys that no start of Docker has taken on since."""
    keys = record.get("keys")
    if not isinstance(keys, dict) or not now.running:
        return {}
    waits = {RESTART: record.get("process") == now.pid, RESTART_EMPTY: record.get("bridge") == now.bridge}
    return {str(key): str(needs) for key, needs in keys.items() if waits.get(str(needs), False)}


def steps(plan: Plan, result: t.Mapping[str, t.Any], record: t.Mapping[str, t.Any], now: Running) -> Steps:
    """Decide from what the module docker_daemon_config gave, and from what was remembered."""
    todo = still_waiting(record, now)
    ours, theirs = _unapplied(plan, result)
    for each in (*(result.get("keys_changed") or []), *ours):
        needs = each.get("needs")
        if now.running and needs in NEEDS[1:]:
            todo[each["key"]] = worst((needs, todo.get(each["key"], needs)))
    found = Steps()
    going_off = LIVE_RESTORE in todo and now.live_restore and plan.settings.get(LIVE_RESTORE) is False
    _restart(found, todo, plan, now, going_off)
    reloads = any(needs == RELOAD for needs in todo.values())
    # A restart while the daemon has live-restore and its file no longer has it would stop the containers.
    found.reload = reloads and (not found.restart or going_off)
    left = _left(found, todo, now)
    found.pending = [{"key": key, "needs": todo[key], "reason": _why(todo[key], plan, now)} for key in sorted(left)]
    waiting = {key: needs for key, needs in todo.items() if needs != RELOAD}
    found.remember = _record(waiting, record, still_waiting(record, now), now)
    if found.restart:
        found.afterwards = _record(left, {"keys": waiting}, waiting, now)
    found.report = _report(found, todo, now, result)
    if theirs and not (found.reload or found.restart):
        found.report.append(f"In the file and not in force, by somebody else: {', '.join(theirs)}.")
    return found


def _unapplied(plan: Plan, result: t.Mapping[str, t.Any]) -> tuple[list[dict[str, t.Any]], list[str]]:
    """Part what the daemon has otherwise than the file: what the variables are about, and what is somebody else's."""
    told = result.get("pending") or []
    wanted = {*plan.settings, *plan.remove}
    ours = [each for each in told if each.get("key") in wanted]
    return ours, sorted(str(each.get("key")) for each in told if each not in ours)


def _restart(found: Steps, todo: t.Mapping[str, str], plan: Plan, now: Running, going_off: bool) -> None:
    """Choose the restart: none, one that containers live through, or one that stops them."""
    needs = set(todo.values())
    if plan.restart == "never" or not needs & {RESTART, RESTART_EMPTY}:
        return
    if now.containers == 0:
        found.restart = KEEPING
        return
    keeps = now.live_restore or not (now.swarm or now.fixed)
    stops = plan.allow_container_restart and not (now.live_restore and now.fixed)
    if stops and (RESTART_EMPTY in needs or not keeps):
        found.restart = STOPPING
        found.suspend = now.live_restore and not going_off
        found.resume = found.suspend and (now.in_file or plan.settings.get(LIVE_RESTORE) is True)
    elif keeps and RESTART in needs:
        found.restart = KEEPING


def _left(found: Steps, todo: t.Mapping[str, str], now: Running) -> dict[str, str]:
    if found.restart == STOPPING or (found.restart and now.containers == 0):
        return {}
    wait = {RESTART_EMPTY} if found.restart else {RESTART, RESTART_EMPTY}
    return {key: needs for key, needs in todo.items() if needs in wait}


def _record(
    keys: dict[str, str], old: t.Mapping[str, t.Any], waiting: t.Mapping[str, str], now: Running
) -> dict[str, t.Any] | None:
    """What is to be written: None where it is written already, {} where the file has to go."""
    if keys == (old.get("keys") or {}) == waiting:
        return None
    return {"process": now.pid, "bridge": now.bridge, "keys": keys} if keys else {}


def _why(needs: str, plan: Plan, now: Running) -> str:
    """Why a key waits, and what to do about it."""
    if plan.restart == "never":
        return f"{PREFIX}restart is never. The next start of Docker without running containers takes it on"
    allow = f"The next boot takes it on, or this role with {PREFIX}allow_container_restart: true when they may stop"
    if now.live_restore and now.fixed:
        return (
            "Docker takes it on only when it starts while no container runs, and with live-restore on its command line"
            " no restart stops them. The next boot takes it on"
        )
    if needs == RESTART_EMPTY:
        return f"Docker takes it on only when it starts while no container runs. {allow}"
    where = "on a node of a swarm" if now.swarm else "with live-restore off on dockerd's command line"
    return f"A restart of Docker stops the containers {where}. {allow}"


def _report(found: Steps, todo: t.Mapping[str, str], now: Running, result: t.Mapping[str, t.Any]) -> list[str]:
    said = []
    waiting = {each["key"] for each in found.pending}
    taken = ", ".join(key for key in sorted(todo) if key not in waiting)
    if found.restart:
        how = "stops its containers and starts them again" if found.restart == STOPPING else "keeps its containers running"
        said.append(f"Docker is restarted, which {how if now.containers else 'finds no container'}, for: {taken}.")
    elif found.reload:
        said.append(f"Docker is reloaded for: {taken}.")
    elif not now.running and result.get("changed"):
        said.append("Docker does not run and reads the file at its next start.")
    reasons: dict[str, list[str]] = {}
    for each in found.pending:
        reasons.setdefault(each["reason"], []).append(each["key"])
    said += [f"PENDING, in the file and not in force: {', '.join(keys)}. {why}." for why, keys in reasons.items()]
    return said
