# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of the role docker_daemon hand plain values to each other."""

from __future__ import annotations

import json

from ansible_collections.bulkhead.docker_nftables.plugins.filter.daemon import FilterModule

FILTERS = FilterModule().filters()
RUNNING = {"running": True, "available": True, "engine": {"version": "26.1.5", "firewall_backend": "iptables"}}


def test_a_plan_is_plain_data() -> None:
    plan = FILTERS["daemon_plan"]({"icc": False}, RUNNING, ["docker_daemon_icc"])
    assert json.loads(json.dumps(plan)) == plan
    assert FILTERS["daemon_errors"](plan) == {"errors": [], "refusal": ""}


def test_containers_of_other_kinds_become_plain_ones() -> None:
    class Lazy(dict):  # As ansible-core 2.19 has them.
        def __init__(self, content: dict) -> None:
            assert content.__class__ is dict
            super().__init__(content)

        def __reduce_ex__(self, protocol: object) -> str:
            raise NotImplementedError

    plan = FILTERS["daemon_plan"]({"settings": Lazy({"log-opts": Lazy({"max-file": "3"})})}, RUNNING)
    assert plan["settings"] == {"log-opts": {"max-file": "3"}}
    assert {type(each) for each in (plan["settings"], plan["settings"]["log-opts"])} == {dict}


def test_mistakes_of_all_sorts_come_as_one_text() -> None:
    plan = FILTERS["daemon_plan"]({"icc": "x", "settings": {"mtu": "1"}}, RUNNING, ["docker_daemon_live_restor"])
    said = {"failed": True, "errors": ["settings.mtu: the text '1' is not accepted"], "msg": "several"}
    found = FILTERS["daemon_errors"](plan, {}, said)
    starts = ["docker_daemon_live_restor: ", "docker_daemon_icc: ", "docker_daemon_settings.mtu: "]
    assert [error.startswith(start) for error, start in zip(found["errors"], starts)] == [True] * 3
    assert found["refusal"].startswith("docker_daemon refuses this host for 3 reasons; nothing was changed.\n  - ")


def test_a_module_that_died_is_a_reason_too() -> None:
    plan = FILTERS["daemon_plan"]({}, RUNNING)
    assert FILTERS["daemon_errors"](plan, None, {"msg": "no root"})["errors"] == ["no root"]
    assert len(FILTERS["daemon_errors"](plan, None, {})["errors"]) == 1
    assert FILTERS["daemon_errors"](plan, None, {"needs": "nothing"})["errors"] == []


def test_steps_from_a_plan() -> None:
    plan = FILTERS["daemon_plan"]({"live_restore": True}, RUNNING)
    result = {"keys_changed": [{"key": "live-restore", "needs": "reload"}], "pending": [], "changed": True}
    found = FILTERS["daemon_steps"](plan, result, RUNNING)
    assert found["reload"] and found["report"] == ["Docker is reloaded for: live-restore."]
    assert json.loads(json.dumps(found)) == found
