# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Docker gets what its file says: by a reload, a restart of one sort or the other, or later."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_steps as daemon_steps
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_plan import Plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_steps import Running, Steps

NOW = Running(running=True, pid="10", bridge="b1", containers=3)
LIVE = replace(NOW, live_restore=True, in_file=True)
SWARM = replace(NOW, swarm=True)
ALLOWED = Plan(allow_container_restart=True)
RELOAD = {"live-restore": "reload"}
RESTART = {"userland-proxy": "restart"}
EMPTY = {"ip": "restart_without_containers"}


def result(*keys: dict[str, str], **others: t.Any) -> dict[str, t.Any]:
    changed = [{"key": key, "needs": needs} for each in keys for key, needs in each.items()]
    return {"keys_changed": changed, "pending": [], "changed": bool(changed), **others}


def steps(*keys: dict[str, str], plan: Plan | None = None, now: Running = NOW, record: t.Any = None) -> Steps:
    return daemon_steps.steps(plan or Plan(), result(*keys), record or {}, now)


def pending(found: Steps) -> list[str]:
    return [each["key"] for each in found.pending]


def test_nothing_changed_is_nothing_to_do() -> None:
    assert steps() == Steps()
    assert steps({"icc": "nothing"}) == Steps()


def test_a_reload() -> None:
    found = steps(RELOAD)
    assert (found.reload, found.restart, found.pending, found.remember) == (True, "", [], None)


def test_a_restart_keeps_the_containers_and_applies_what_a_reload_would() -> None:
    found = steps(RELOAD, RESTART)
    assert (found.reload, found.restart, found.pending) == (False, "keeping", [])
    assert found.remember == {"process": "10", "bridge": "b1", "keys": RESTART} and found.afterwards == {}


@pytest.mark.parametrize("now", [NOW, LIVE, SWARM])
def test_what_needs_an_empty_start_waits_without_permission(now: Running) -> None:
    found = steps(EMPTY, now=now)
    assert (found.reload, found.restart, pending(found)) == (False, "", ["ip"])
    assert found.remember is not None and found.remember["keys"] == EMPTY
    assert "PENDING" in found.report[0] and "ip." in found.report[0]
    assert "docker_daemon_allow_container_restart: true" in found.report[0]


def test_the_rest_does_not_wait_with_it() -> None:
    found = steps(RESTART, EMPTY)
    assert (found.restart, pending(found)) == ("keeping", ["ip"])
    assert found.remember["keys"] == {**RESTART, **EMPTY} and found.afterwards["keys"] == EMPTY
    assert found.report[0].endswith("for: userland-proxy.")


@pytest.mark.parametrize("plan", [Plan(), ALLOWED])
@pytest.mark.parametrize("now", [NOW, LIVE, SWARM])
def test_where_no_container_runs_any_restart_applies_all(plan: Plan, now: Running) -> None:
    found = steps(RESTART, EMPTY, plan=plan, now=replace(now, containers=0))
    assert (found.restart, found.suspend, found.pending, found.afterwards) == ("keeping", False, [], {})


def test_with_permission_containers_stop_only_where_that_is_needed() -> None:
    assert steps(RESTART, plan=ALLOWED).restart == "keeping"
    found = steps(RESTART, EMPTY, plan=ALLOWED)
    assert (found.restart, found.suspend, found.pending, found.afterwards) == ("stopping", False, [], {})
    assert "stops its containers" in found.report[0]


def test_live_restore_is_off_for_a_restart_that_stops_containers() -> None:
    found = steps(EMPTY, plan=ALLOWED, now=LIVE)
    assert (found.restart, found.suspend, found.resume) == ("stopping", True, True)
    # The daemon has it although the file does not: it is not put into the file.
    assert not steps(EMPTY, plan=ALLOWED, now=replace(LIVE, in_file=False)).resume
    wanted = replace(ALLOWED, settings={"live-restore": True})
    assert steps(EMPTY, plan=wanted, now=replace(LIVE, in_file=False)).resume


def test_live_restore_on_the_command_line_cannot_be_switched() -> None:
    found = steps(RESTART, EMPTY, plan=ALLOWED, now=replace(LIVE, fixed=True))
    assert (found.restart, pending(found)) == ("keeping", ["ip"])
    assert "command line" in found.pending[0]["reason"]


@pytest.mark.parametrize("now", [SWARM, replace(NOW, fixed=True)])
def test_where_a_restart_would_stop_containers_it_waits_for_permission(now: Running) -> None:
    found = steps(RESTART, now=now)
    assert (found.restart, pending(found)) == ("", ["userland-proxy"])
    assert "stops the containers" in found.pending[0]["reason"]
    assert steps(RESTART, plan=ALLOWED, now=now).restart == "stopping"


def test_live_restore_that_goes_off_is_reloaded_before_a_restart() -> None:
    plan = Plan(settings={"live-restore": False})
    found = steps(RELOAD, RESTART, plan=plan, now=LIVE)
    assert (found.reload, found.restart, found.suspend) == (True, "keeping", False)
    found = steps(RELOAD, EMPTY, plan=replace(plan, allow_container_restart=True), now=LIVE)
    assert (found.reload, found.restart, found.suspend) == (True, "stopping", False)


def test_never_reloads_only() -> None:
    found = steps(RELOAD, RESTART, EMPTY, plan=Plan(restart="never", allow_container_restart=True))
    assert (found.reload, found.restart, pending(found)) == (True, "", ["ip", "userland-proxy"])
    assert {"never" in each["reason"] for each in found.pending} == {True}


@pytest.mark.parametrize("plan", [Plan(settings={"firewall-backend": "nftables"}), Plan(remove=["firewall-backend"])])
def test_what_the_daemon_tells_counts_as_a_change(plan: Plan) -> None:
    told = [{"key": "firewall-backend", "needs": "restart"}]
    assert daemon_steps.steps(plan, result(pending=told), {}, NOW).restart == "keeping"


def test_what_somebody_else_left_in_the_file_is_said_and_not_applied() -> None:
    told = [{"key": "firewall-backend", "needs": "restart"}, {"key": "debug", "needs": "reload"}]
    found = daemon_steps.steps(Plan(), result(pending=told), {}, NOW)
    assert (found.reload, found.restart, found.pending) == (False, "", [])
    assert found.report == ["In the file and not in force, by somebody else: debug, firewall-backend."]


def test_a_docker_that_does_not_run_waits_for_nothing() -> None:
    found = steps(RELOAD, RESTART, EMPTY, now=Running())
    assert (found.reload, found.restart, found.pending, found.remember) == (False, "", [], None)
    assert found.report == ["Docker does not run and reads the file at its next start."]


# -- what is remembered ------------------------------------------------------------------------------------------------


RECORD = {"process": "10", "bridge": "b1", "keys": {**RESTART, **EMPTY}}


def test_a_later_run_goes_on_where_one_ended() -> None:
    found = steps(record=RECORD)
    assert (found.restart, pending(found), found.remember) == ("keeping", ["ip"], None)
    assert found.afterwards is not None and found.afterwards["keys"] == EMPTY


def test_what_still_waits_is_shown_again_and_nothing_is_written() -> None:
    found = steps(record={**RECORD, "keys": EMPTY})
    assert (found.restart, pending(found), found.remember, found.afterwards) == ("", ["ip"], None, None)


def test_a_restart_by_somebody_else_applies_one_sort_and_a_new_bridge_the_other() -> None:
    restarted = replace(NOW, pid="20")
    assert daemon_steps.still_waiting(RECORD, restarted) == EMPTY
    assert daemon_steps.still_waiting(RECORD, replace(restarted, bridge="b2")) == {}
    assert daemon_steps.still_waiting(RECORD, Running()) == {}
    found = steps(record=RECORD, now=replace(restarted, bridge="b2"))
    assert (found.pending, found.remember) == ([], {})


def test_the_same_key_changed_again_is_remembered_with_the_daemon_of_now() -> None:
    found = steps(RESTART, record={**RECORD, "process": "9", "keys": RESTART}, plan=Plan(restart="never"))
    assert found.remember == {"process": "10", "bridge": "b1", "keys": RESTART}


@pytest.mark.parametrize("keys", [None, [], "x", {"ip": 3}, {"ip": "magic"}])
def test_an_odd_record_is_replaced(keys: t.Any) -> None:
    assert steps(record={"keys": keys}).pending == []


def test_reading_the_files() -> None:
    lines = ["/run/docker.pid:123", f"{daemon_steps.RECORD}:{json.dumps(RECORD)}"]
    assert daemon_steps.read_record(lines) == ("123", RECORD)
    assert daemon_steps.read_record([]) == ("", {})
    assert daemon_steps.read_record([f"{daemon_steps.RECORD}:nonsense", f"{daemon_steps.RECORD}:[1]"]) == ("", {})


def test_reading_what_runs() -> None:
    facts = {
        "running": True,
        "engine": {"live_restore": True, "swarm": "active"},
        "networks": [{"name": "a", "id": "1"}, {"name": "bridge", "id": "2"}],
        "host_network_containers": [{}],
        "containers_with_addresses": [{}, {}],
        "daemon_json": {"flags": {"live-restore": True}, "settings": {"live-restore": True}},
    }
    assert daemon_steps.read_running(facts, "7") == Running(True, "7", "2", 3, True, True, True, True)
    assert daemon_steps.read_running({"running": False, "engine": None}, "") == Running()
