# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of a switch, and what would be done."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_plan import (
    Facts,
    Plan,
    Planner,
    Wishes,
    parse_mark,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_record import Record
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import Engine
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import PREFERRED, MarkUse

EMPTY = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-USER -i eth0 -s 192.0.2.1/32 -j ACCEPT
-A DOCKER-USER -i eth0 -j DROP
COMMIT
"""
#: What Docker's iptables backend makes, with nobody's rules in it.
AFTER = "\n".join(line for line in RULES.splitlines() if "192.0.2.1" not in line and "DOCKER-USER -i" not in line)
ON = '{"live-restore": true}'
NEW = Engine((29, 7, 2), "29.7.2", forwarding4=True, forwarding6=True)
HOST = Facts(engine=NEW, backend="iptables", saved={"ip": RULES, "ip6": EMPTY})


def plan(facts: Facts = HOST, backend: str = "nftables", **wishes: t.Any) -> Plan:
    return Planner(facts, Wishes(backend, **wishes)).make()


def codes(facts: Facts, backend: str = "nftables", **wishes: t.Any) -> list[str]:
    return [each.code for each in plan(facts, backend, **wishes).obstacles]


def test_a_plain_host_is_switched() -> None:
    made = plan()
    assert made.obstacles == []
    assert made.restart
    assert made.rules == 2
    bit = f"{PREFERRED[0]:#x}/{PREFERRED[0]:#x}"
    assert made.settings == {"firewall-backend": "nftables", "bridge-accept-fwmark": bit}
    assert made.table is not None
    assert made.table.startswith("table inet bulkhead_docker_user {")
    assert made.record is not None
    assert made.record.before == {"firewall-backend": None, "bridge-accept-fwmark": None}
    assert made.record.made_daemon_json
    assert set(made.user) == {"ip"}


def test_without_rules_there_is_no_table_and_no_mark() -> None:
    made = plan(replace(HOST, saved={"ip": EMPTY, "ip6": EMPTY}))
    assert (made.obstacles, made.table, made.user) == ([], None, {})
    assert made.settings == {"firewall-backend": "nftables"}


def test_other_settings_keep_their_place_and_the_text_its_form() -> None:
    made = plan(replace(HOST, daemon_json='{\n    "icc": true,\n    "mtu": 1400\n}'))
    assert made.text is not None
    assert made.text.startswith('{\n    "icc": true,\n    "mtu": 1400,\n    "firewall-backend"')
    assert not made.record or not made.record.made_daemon_json


OBSTACLES = {
    "old engine": (
        replace(HOST, engine=replace(NEW, number=(28, 5, 2), text="28.5.2")),
        ["daemon_json", "daemon_json"],
    ),
    "swarm": (replace(HOST, engine=replace(NEW, swarm=True)), ["swarm"]),
    "flag": (replace(HOST, engine=replace(NEW, flags={"firewall-backend": ["iptables"]})), ["daemon_json"]),
    "broken file": (replace(HOST, daemon_json="{,"), ["daemon_json"]),
    "unknown key": (replace(HOST, daemon_json='{"iptabels": true}'), ["daemon_json"]),
    "no nft": (replace(HOST, engine=replace(NEW, nft=False)), ["daemon_json"]),
    "docker down": (replace(HOST, backend="", trouble=("Docker does not run",)), ["docker"]),
    "legacy": (replace(HOST, legacy=("IPv4: -t filter -P FORWARD DROP",)), ["legacy"]),
    "layout": (replace(HOST, layout=Layout("iptables_compat", mark_bit=1)), ["layout"]),
    "kubernetes": (replace(HOST, kubernetes=("chains named KUBE-",)), ["kubernetes"]),
    "saved": (replace(HOST, saved_files=("/etc/iptables/rules.v4",)), ["saved_rules"]),
    "ufw": (replace(HOST, ufw_forward="DROP"), ["ufw"]),
    "unreadable": (replace(HOST, unreadable=("a set",)), ["iptables"]),
    "no rules at all": (replace(HOST, saved={"ip": "nonsense"}), ["iptables"]),
    "flag of live-restore": (replace(HOST, containers=2, live_restore_flag=True), ["containers"]),
    "jump": (
        replace(HOST, saved={"ip": RULES.replace("COMMIT", "-A FORWARD -i eth1 -j DOCKER-USER\nCOMMIT")}),
        ["jumps"],
    ),
    "no jump": (replace(HOST, saved={"ip": RULES.replace("-A FORWARD -j DOCKER-USER\n", "")}), ["jumps"]),
    "rules": (
        replace(HOST, saved={"ip": RULES.replace("-s 192.0.2.1/32", "-m recent --rcheck --name x")}),
        ["rule"],
    ),
    "marks": (
        replace(HOST, marks=(MarkUse("everywhere", None, 0xFFFFFFFF, "x"),)),
        ["mark"],
    ),
}


@pytest.mark.parametrize(("facts", "wanted"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_stands_in_the_way(facts: Facts, wanted: list[str]) -> None:
    assert codes(facts) == wanted


def test_all_of_it_is_said_at_once() -> None:
    facts = replace(
        HOST,
        engine=replace(NEW, swarm=True),
        kubernetes=("x",),
        ufw_forward="DROP",
        legacy=("y",),
        layout=Layout("iptables_compat", mark_bit=1),
        saved={"ip": RULES.replace("-s 192.0.2.1/32", "-m recent --rcheck --name x")},
    )
    assert set(codes(facts)) == {"swarm", "kubernetes", "ufw", "legacy", "layout", "rule"}


def test_only_some_of_it_can_be_overruled() -> None:
    facts = replace(HOST, kubernetes=("x",), ufw_forward="DROP", saved_files=("/z",), legacy=("y",))
    assert codes(facts, ignore=("kubernetes", "saved_rules", "ufw")) == ["legacy"]


def test_forwarding_that_is_off_is_switched_on_and_stops_nobody() -> None:
    assert codes(replace(HOST, engine=replace(NEW, forwarding4=False, forwarding6=False, ipv6_networks=("a",)))) == []


def test_policies_that_were_open_stay_open() -> None:
    made = plan(replace(HOST, saved={"ip": RULES.replace("FORWARD DROP", "FORWARD ACCEPT")}))
    assert made.table is not None
    closed = plan().table
    assert closed is not None
    assert "priority filter + 1" in closed
    assert "priority filter + 1" not in made.table


def test_a_host_that_did_not_forward_is_no_router_afterwards() -> None:
    open_ = RULES.replace("FORWARD DROP", "FORWARD ACCEPT")
    made = plan(replace(HOST, saved={"ip": open_, "ip6": EMPTY}, closed=("ip",)))
    assert made.table is not None
    assert "priority filter + 1" in made.table
    assert made.record is not None
    later = plan(replace(switched(), daemon_json=made.text, record=made.record))
    assert later.table == made.table, "it forwards by then"


# -- marks -------------------------------------------------------------------------------------------------------------


def test_a_bit_that_somebody_uses_is_left_alone() -> None:
    made = plan(replace(HOST, marks=(MarkUse("ip rule 1", PREFERRED[0], PREFERRED[0], "fwmark"),)))
    assert made.settings["bridge-accept-fwmark"] == f"{PREFERRED[1]:#x}/{PREFERRED[1]:#x}"


def test_the_mark_that_docker_has_is_taken() -> None:
    made = plan(replace(HOST, daemon_json='{"bridge-accept-fwmark": "0x1/0x3"}'))
    assert made.settings["bridge-accept-fwmark"] == "0x1/0x3"
    assert made.record is not None
    assert made.record.accept_mark == "0x1/0x3"


def test_a_wanted_mark_must_be_free() -> None:
    facts = replace(HOST, marks=(MarkUse("ip rule 1", 1, 1, "fwmark 1"),))
    made = plan(facts, accept_mark="0x1/0x1")
    assert [each.code for each in made.obstacles] == ["mark"]
    assert "ip rule 1 (fwmark 1)" in made.obstacles[0].text
    assert plan(facts, accept_mark="0x2/0x2").settings["bridge-accept-fwmark"] == "0x2/0x2"


@pytest.mark.parametrize("text", ["", "x", "0", "0x100000000", "1/2", "1/", "0x1/0x100000000", "-1"])
def test_marks_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="mark"):
        parse_mark(text)


def test_marks() -> None:
    assert (parse_mark("1").value, parse_mark("1").mask) == (1, 0xFFFFFFFF)
    assert (parse_mark("0x10/0x30").value, parse_mark("0x10/0x30").mask) == (0x10, 0x30)


# -- containers --------------------------------------------------------------------------------------------------------


def test_live_restore_is_lent_where_it_is_off() -> None:
    assert plan(replace(HOST, containers=2)).lend_live_restore
    assert not plan(replace(HOST, containers=2, live_restore=True, daemon_json=ON)).lend_live_restore
    assert not plan(replace(HOST, containers=2, live_restore=True, live_restore_flag=True)).lend_live_restore
    assert not plan(HOST).lend_live_restore


def test_live_restore_that_the_next_daemon_would_not_have_is_lent() -> None:
    """It is on in the daemon that runs, and its file does not say so."""
    assert plan(replace(HOST, containers=2, live_restore=True)).lend_live_restore
    assert plan(
        replace(HOST, containers=2, live_restore=True, daemon_json=ON.replace("true", "false"))
    ).lend_live_restore


def test_containers_may_be_stopped_where_that_is_allowed() -> None:
    made = plan(replace(HOST, containers=2, live_restore_flag=True), allow_container_restart=True)
    assert (made.obstacles, made.lend_live_restore) == ([], False)


# -- a second run, and back --------------------------------------------------------------------------------------------


def switched() -> Facts:
    """The host after a switch."""
    made = plan()
    return replace(
        HOST, backend="nftables", daemon_json=made.text, saved={"ip": EMPTY, "ip6": EMPTY}, record=made.record
    )


def test_a_second_run_finds_nothing_to_do() -> None:
    made = plan(switched())
    assert (made.obstacles, made.restart, made.written, made.user) == ([], False, False, {})
    assert made.table == plan().table
    assert made.record == switched().record


def test_a_new_bridge_is_known_after_another_run() -> None:
    made = plan(replace(switched(), bridges=("docker0", "lab0")))
    assert made.table is not None
    assert '"lab0"' in made.table


def test_rules_that_come_back_as_they_were_are_removed_again() -> None:
    made = plan(replace(switched(), saved={"ip": RULES, "ip6": EMPTY}))
    assert made.obstacles == []
    assert set(made.user) == {"ip"}
    assert made.table == plan().table


def test_other_rules_in_the_chain_are_not_guessed_about() -> None:
    other = RULES.replace("192.0.2.1", "192.0.2.9")
    assert codes(replace(switched(), saved={"ip": other})) == ["again"]


def test_a_policy_that_somebody_closed_is_not_opened() -> None:
    text = EMPTY.replace("FORWARD ACCEPT", "FORWARD DROP")
    assert codes(replace(switched(), saved={"ip": EMPTY, "ip6": text})) == ["again"]


def test_a_host_that_was_switched_by_hand_is_cleaned() -> None:
    made = plan(replace(HOST, backend="nftables", daemon_json='{"firewall-backend": "nftables"}'))
    assert made.obstacles == []
    assert made.restart, "the mark is new to Docker"
    assert set(made.user) == {"ip"}


def test_the_way_back() -> None:
    made = plan(switched(), "iptables")
    assert (made.obstacles, made.restart, made.table, made.record) == ([], True, None, None)
    assert (made.settings, made.text) == ({}, None)
    assert made.user["ip"].rules == 2
    assert made.user["ip"].policy == "DROP"


def test_the_way_back_keeps_what_was_set_meanwhile() -> None:
    facts = switched()
    text = (facts.daemon_json or "").replace("{", '{"debug": true,', 1)
    made = plan(replace(facts, daemon_json=text), "iptables")
    assert made.settings == {"debug": True}
    assert made.text is not None


def test_the_way_back_puts_former_values_back() -> None:
    record = Record({}, "", None, {"firewall-backend": "iptables", "bridge-accept-fwmark": "0x4"})
    facts = replace(HOST, backend="nftables", daemon_json='{"firewall-backend": "nftables"}', record=record)
    assert plan(facts, "iptables").settings == {"firewall-backend": "iptables", "bridge-accept-fwmark": "0x4"}


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("runs", ["nftables", "iptables"])
def test_a_table_that_nobody_knows_the_origin_of_is_left_alone(backend: str, runs: str) -> None:
    """Its rules would be lost."""
    facts = replace(switched(), record=None, carried=True, backend=runs)
    assert codes(facts, backend) == ["record"]
    assert codes(replace(switched(), carried=True), backend) == []


def test_rules_come_back_where_somebody_went_back_by_hand() -> None:
    facts = replace(switched(), backend="iptables", daemon_json=None, saved={"ip": AFTER, "ip6": EMPTY})
    made = plan(facts, "iptables")
    assert (made.obstacles, made.restart, made.record) == ([], False, None)
    assert made.user["ip"].rules == 2
    assert set(made.user) == {"ip"}


def test_rules_that_came_back_by_themselves_are_left_alone() -> None:
    made = plan(
        replace(switched(), backend="iptables", daemon_json=None, saved={"ip": RULES, "ip6": EMPTY}), "iptables"
    )
    assert (made.obstacles, made.user) == ([], {})


@pytest.mark.parametrize("runs", ["nftables", "iptables"])
def test_rules_of_somebody_elses_are_not_replaced_by_the_way_back(runs: str) -> None:
    facts = replace(switched(), backend=runs, saved={"ip": RULES.replace("192.0.2.1", "192.0.2.9"), "ip6": EMPTY})
    assert codes(facts, "iptables") == ["again"]


def test_the_way_back_without_a_record() -> None:
    made = plan(replace(HOST, backend="nftables", daemon_json='{"firewall-backend": "nftables"}'), "iptables")
    assert (made.obstacles, made.settings, made.user) == ([], {}, {})


def test_there_is_no_way_back_without_iptables() -> None:
    assert codes(replace(switched(), saved={}), "iptables") == ["iptables"]


def test_nothing_is_to_be_done_on_iptables() -> None:
    made = plan(HOST, "iptables")
    assert (made.obstacles, made.restart, made.written, made.user, made.table) == ([], False, False, {}, None)
