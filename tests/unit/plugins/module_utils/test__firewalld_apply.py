# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _firewalld_record as records
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld import UNREAD
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import (
    Apply,
    FirewalldError,
    Mistakes,
    Outcome,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import World, settings_of

PUBLIC = ("zone", "public")
WORK = ("zone", "work")
OFFICE = ("zone", "bulkhead-office")
TO_HOST = ("policy", "bulkhead-to-host")
POLICY: dict[str, t.Any] = {
    "name": "bulkhead-to-host",
    "ingress_zones": ["docker"],
    "egress_zones": ["HOST"],
    "target": "DROP",
    "services": ["dns"],
}
ALL: dict[str, t.Any] = {
    "zones": [
        {"name": "public", "absent": {"services": ["ssh"]}, "ports": ["8080/tcp"], "forward": False},
        {"name": "bulkhead-office", "sources": ["192.0.2.0/24"], "services": ["ssh"], "interfaces": ["eth7"]},
    ],
    "policies": [POLICY],
    "settings": {"StrictForwardPorts": True},
}


class Place:
    """One host over several runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = World()

    def run(self, check: bool = False, reload: bool = True, **options: t.Any) -> Outcome:
        self.world.calls.clear()
        given = {"zones": [], "policies": [], "settings": {}, **copy.deepcopy(options)}
        return Apply(self.world.firewalld(self.root), reload).run(given, check)

    def state(self) -> tuple[t.Any, ...]:
        world = self.world
        record = self.root / records.PATH.lstrip("/")
        text = record.read_text() if record.exists() else None
        return copy.deepcopy((world.permanent, world.runtime, world.conf, world.copied, text))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    place.world.install(monkeypatch)
    return place


def test_all_of_it_there_again_and_back(place: Place) -> None:
    before = place.state()
    foretold = place.run(check=True, **ALL)
    assert place.state() == before and not place.world.calls

    done = place.run(**ALL)
    assert done.plan.operations == foretold.plan.operations
    world = place.world
    assert world.calls.count("reload") == 1
    for config in (world.permanent, world.runtime):
        assert config[PUBLIC]["services"] == ["dhcpv6-client"] and config[PUBLIC]["ports"] == [("8080", "tcp")]
        assert config[PUBLIC]["forward"] is False
        assert config[OFFICE]["sources"] == ["192.0.2.0/24"] and config[OFFICE]["interfaces"] == ["eth7"]
        assert config[TO_HOST]["target"] == "DROP" and config[TO_HOST]["priority"] == -1
    assert world.conf["StrictForwardPorts"] == "yes"
    assert world.runtime[("zone", "docker")]["interfaces"] == ["docker0"]
    record = place.root / records.PATH.lstrip("/")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_text())["zones"]["public"]["removed"] == {"services": ["ssh"]}
    assert not (place.root / UNREAD.lstrip("/")).exists()

    again = place.run(**ALL)
    assert not again.plan.operations and not world.calls

    assert place.run().plan.operations
    assert sorted(world.permanent[PUBLIC].pop("services")) == sorted(before[0][PUBLIC].pop("services"))
    assert sorted(world.runtime[PUBLIC].pop("services")) == sorted(before[1][PUBLIC].pop("services"))
    after = place.state()
    assert (after[0], after[1], after[2], after[4]) == (before[0], before[1], before[2], before[4])


def test_entries_go_to_both_without_a_reload_and_first_in_then_out(place: Place) -> None:
    place.run(zones=[{"name": "public", "ports": ["22/tcp"]}])
    assert place.world.calls == ["update", "set zone"]
    place.run(zones=[{"name": "public", "services": ["http"]}])
    # Both at once, and only then without the old one.
    assert place.world.calls == ["update", "set zone", "set zone"]
    for config in (place.world.permanent, place.world.runtime):
        assert config[PUBLIC]["ports"] == [] and config[PUBLIC]["services"] == ["ssh", "dhcpv6-client", "http"]


def test_others_entries_stay(place: Place) -> None:
    world = place.world
    world.runtime[PUBLIC]["rules_str"] = ["rule a"]
    world.permanent[WORK]["ports"] = [("80-90", "tcp")]
    world.runtime[WORK]["ports"] = [("80-90", "tcp")]
    place.run(zones=[{"name": "public", "ports": ["1/udp"]}, {"name": "work", "ports": ["85-95/tcp"]}])
    assert world.runtime[PUBLIC]["rules_str"] == ["rule a"] and world.permanent[PUBLIC]["rules_str"] == []
    assert world.permanent[WORK]["ports"] == [("80-90", "tcp"), ("91-95", "tcp")]
    place.run()
    assert world.permanent[WORK]["ports"] == world.runtime[WORK]["ports"] == [("80-90", "tcp")]


def test_a_part_of_a_range_goes_and_comes_back(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[WORK]["ports"] = [("80-90", "tcp")]
    place.run(zones=[{"name": "work", "absent": {"ports": ["85/tcp"]}}])
    assert place.world.permanent[WORK]["ports"] == [("80-84", "tcp"), ("86-90", "tcp")]
    assert not place.run(zones=[{"name": "work", "absent": {"ports": ["85/tcp"]}}]).plan.operations
    place.run()
    assert set(place.world.runtime[WORK]["ports"]) == {("80-84", "tcp"), ("85", "tcp"), ("86-90", "tcp")}


def test_exclusive_lists_hold_nothing_else_and_the_others_are_left_alone(place: Place) -> None:
    place.world.runtime[PUBLIC]["ports"] = [("99", "udp")]
    place.run(zones=[{"name": "public", "services": ["http"], "exclusive": True}])
    for config in (place.world.permanent, place.world.runtime):
        assert config[PUBLIC]["services"] == ["http"]
    assert place.world.runtime[PUBLIC]["ports"] == [("99", "udp")]
    place.run()
    assert sorted(place.world.permanent[PUBLIC]["services"]) == ["dhcpv6-client", "ssh"]
    assert sorted(place.world.runtime[PUBLIC]["services"]) == ["dhcpv6-client", "ssh"]


def test_what_was_there_before_us_is_never_taken_away(place: Place) -> None:
    place.run(zones=[{"name": "public", "services": ["ssh", "http"]}])
    place.run()
    assert place.world.permanent[PUBLIC]["services"] == ["ssh", "dhcpv6-client"]


def test_a_value_somebody_changed_since_is_left_to_them(place: Place) -> None:
    place.run(zones=[{"name": "public", "target": "DROP"}], settings={"LogDenied": "all"})
    place.world.permanent[PUBLIC]["target"] = "ACCEPT"
    place.world.conf["LogDenied"] = "unicast"
    place.run()
    assert place.world.permanent[PUBLIC]["target"] == "ACCEPT" and place.world.conf["LogDenied"] == "unicast"


def test_interfaces_and_sources_change_places(place: Place) -> None:
    zones = [
        {"name": "bulkhead-a", "interfaces": ["eth1"], "sources": ["192.0.2.1"]},
        {"name": "bulkhead-b", "interfaces": ["eth2"]},
    ]
    place.run(zones=zones)
    zones[0]["interfaces"], zones[1]["interfaces"] = ["eth2"], ["eth1"]
    zones[0]["sources"], zones[1]["sources"] = [], ["192.0.2.1"]
    place.run(zones=zones)
    assert place.world.calls.count("move") == 3 and "reload" not in place.world.calls
    for config in (place.world.permanent, place.world.runtime):
        assert config[("zone", "bulkhead-a")]["interfaces"] == ["eth2"]
        assert config[("zone", "bulkhead-b")]["interfaces"] == ["eth1"]
        assert config[("zone", "bulkhead-b")]["sources"] == ["192.0.2.1"]


def test_out_of_one_zone_into_another_in_one_task(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[WORK]["interfaces"] = ["eth1"]
    wanted = {"name": "public", "interfaces": ["eth1"]}
    with pytest.raises(Mistakes, match=r"eth1 is permanently in zone work.*absent.interfaces of work") as caught:
        place.run(zones=[wanted])
    assert len(caught.value.errors) == 1
    place.run(zones=[wanted, {"name": "work", "absent": {"interfaces": ["eth1"]}}])
    for config in (place.world.permanent, place.world.runtime):
        assert config[PUBLIC]["interfaces"] == ["eth1"] and config[WORK]["interfaces"] == []


def test_an_interface_that_nobody_chose_a_zone_for_is_taken_from_the_default_zone(place: Place) -> None:
    place.world.runtime[PUBLIC]["interfaces"] = ["eth0"]
    place.run(zones=[{"name": "work", "interfaces": ["eth0"]}])
    assert place.world.runtime[WORK]["interfaces"] == ["eth0"] and place.world.runtime[PUBLIC]["interfaces"] == []
    assert not place.run(zones=[{"name": "work", "interfaces": ["eth0"]}]).plan.operations


def test_one_that_somebody_put_elsewhere_at_runtime_is_not(place: Place) -> None:
    place.world.runtime[WORK]["interfaces"] = ["eth0"]
    with pytest.raises(Mistakes, match="eth0 is at runtime in zone work"):
        place.run(zones=[{"name": "public", "interfaces": ["eth0"]}])
    assert not place.world.calls


def test_what_would_come_back_but_is_elsewhere_by_now_stays_there(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[WORK].update(interfaces=["eth1", "eth2"], sources=["192.0.2.1"])
    place.run(zones=[{"name": "work", "absent": {"interfaces": ["eth1", "eth2"], "sources": ["192.0.2.1"]}}])
    for config in (place.world.permanent, place.world.runtime):
        config[PUBLIC]["interfaces"] = ["eth1"]
    place.world.runtime[PUBLIC]["sources"] = ["192.0.2.1"]
    place.run()
    for config in (place.world.permanent, place.world.runtime):
        assert config[PUBLIC]["interfaces"] == ["eth1"] and config[WORK]["interfaces"] == ["eth2"]
    assert place.world.permanent[WORK]["sources"] == ["192.0.2.1"]
    assert not place.run().plan.operations


def test_at_runtime_too(place: Place) -> None:
    other = ("zone", "home")
    for config in (place.world.permanent, place.world.runtime):
        config[WORK]["sources"] = ["192.0.2.1"]
        config[other] = settings_of("zone")
    place.run(zones=[{"name": "work", "absent": {"sources": ["192.0.2.1"]}}])
    place.world.runtime[other]["sources"] = ["192.0.2.1"]
    place.run()
    assert place.world.permanent[WORK]["sources"] == ["192.0.2.1"]
    assert place.world.runtime[WORK]["sources"] == [] and place.world.runtime[other]["sources"] == ["192.0.2.1"]
    assert not place.run().plan.operations


def test_back_from_a_zone_of_ours_that_goes_at_the_next_reload(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[WORK]["interfaces"] = ["eth1"]
    place.run(
        zones=[{"name": "work", "absent": {"interfaces": ["eth1"]}}, {"name": "bulkhead-a", "interfaces": ["eth1"]}]
    )
    assert place.world.runtime[WORK]["interfaces"] == []
    place.run(reload=False)
    for config in (place.world.permanent, place.world.runtime):
        assert config[WORK]["interfaces"] == ["eth1"]
    place.run()
    assert ("zone", "bulkhead-a") not in place.world.runtime


def test_the_reverse_path_filter_has_words_in_newer_releases(place: Place) -> None:
    place.world.conf.update(IPv6_rpfilter="yes", IPv6_rpfilter2="loose")
    place.run(settings={"IPv6_rpfilter": "yes"})
    assert place.world.conf["IPv6_rpfilter2"] == "strict"
    assert not place.run(settings={"IPv6_rpfilter": True}).plan.operations
    place.run()
    assert place.world.conf["IPv6_rpfilter2"] == "loose"
    del place.world.conf["IPv6_rpfilter2"]
    with pytest.raises(Mistakes, match="'loose' is not accepted; it is one of yes or no"):
        place.run(settings={"IPv6_rpfilter": "loose"})
    place.run(settings={"IPv6_rpfilter": "no"})
    assert place.world.conf["IPv6_rpfilter"] == "no"


def test_without_a_reload_the_rest_waits_and_is_no_change_the_second_time(place: Place) -> None:
    done = place.run(reload=False, **ALL)
    world = place.world
    assert done.plan.reload and "reload" not in world.calls
    assert OFFICE in world.permanent and OFFICE not in world.runtime and TO_HOST not in world.runtime
    assert world.runtime[PUBLIC]["ports"] == [("8080", "tcp")]
    again = place.run(reload=False, **ALL)
    assert not again.plan.operations and again.plan.reload
    assert {"zone bulkhead-office is new", "an earlier run left something to the next reload"} <= set(again.plan.reload)

    later = place.run(**ALL)
    assert [operation.action for operation in later.plan.operations][-1] == "reload"
    assert OFFICE in world.runtime and not place.run(**ALL).plan.operations


def test_an_interface_stays_where_it_is_until_its_new_zone_is_loaded(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[WORK]["interfaces"] = ["eth1"]
    zones = [
        {"name": "work", "absent": {"interfaces": ["eth1"]}},
        {"name": "bulkhead-a", "interfaces": ["eth1"]},
    ]
    place.run(reload=False, zones=zones)
    assert place.world.runtime[WORK]["interfaces"] == ["eth1"]
    assert not place.run(reload=False, zones=zones).plan.operations
    place.run(zones=zones)
    assert place.world.runtime[("zone", "bulkhead-a")]["interfaces"] == ["eth1"]


def test_what_a_reload_takes_from_others_is_told(place: Place) -> None:
    place.world.runtime[WORK]["rules_str"] = ["rule ban"]
    done = place.run(zones=[{"name": "bulkhead-a"}])
    assert "zone work: rich_rules rule ban" in done.warnings[0]
    assert len(done.warnings) == 1


def test_an_old_firewalld_is_warned_of(place: Place) -> None:
    place.world.version = "1.3.3"
    assert "wipes Docker's rules" in place.run(check=True, zones=[{"name": "bulkhead-a"}]).warnings[0]
    assert not place.run(zones=[{"name": "public", "ports": ["1/tcp"]}]).warnings


def test_bridges_that_do_not_come_back_are_told(place: Place) -> None:
    place.world.docker_returns = False
    assert "docker0 of Docker's did not come back" in place.run(zones=[{"name": "bulkhead-a"}]).warnings[0]


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        ("add zone", 0),
        ("add policy", 0),
        ("update", 0),
        ("remove", 0),
        ("set_property", 0),
        ("set_property", 1),
        ("check", 0),
    ],
)
def test_a_failure_half_way_leaves_nothing(place: Place, call: str, nth: int) -> None:
    place.run(zones=[{"name": "bulkhead-old", "sources": ["192.0.2.9"]}], settings={"LogDenied": "all"})
    place.world.runtime[WORK]["ports"] = [("7", "tcp")]
    before = place.state()
    place.world.failing = {call: nth}
    with pytest.raises(FirewalldError, match=rf"{call} FAILED\. What was done before it was put back\.$"):
        place.run(**ALL)
    assert place.state() == before


def test_a_failed_reload_is_followed_by_one_of_what_was(place: Place) -> None:
    place.run(zones=[{"name": "bulkhead-old", "sources": ["192.0.2.9"]}])
    before = place.state()
    place.world.failing = {"reload": 0}
    with pytest.raises(FirewalldError, match=r"reload FAILED.*put back, and firewalld reloaded again\.$"):
        place.run(**ALL)
    assert place.state() == before


def test_a_failure_at_runtime_puts_both_back(place: Place) -> None:
    before = place.state()
    place.world.failing = {"set zone": 1}
    with pytest.raises(FirewalldError, match="set zone FAILED"):
        place.run(zones=[{"name": "public", "ports": ["1/tcp"]}, {"name": "work", "services": ["http"]}])
    assert place.state() == before


def test_what_cannot_be_put_back_is_named(place: Place) -> None:
    place.world.failing = {"set zone": 1}
    world = place.world

    def refuse(*_arguments: object) -> None:
        raise FirewalldError("no")

    daemon = world.firewalld(place.root)
    daemon.put_back = refuse
    given = {"zones": [{"name": "public", "ports": ["1/tcp"]}, {"name": "work", "ports": ["2/tcp"]}]}
    with pytest.raises(FirewalldError, match=r"but not: zone work, zone public"):
        Apply(daemon, True).run({**given, "policies": [], "settings": {}}, False)


def test_a_zone_that_others_need_is_not_taken_away(place: Place) -> None:
    place.run(zones=[{"name": "bulkhead-a"}])
    for config in (place.world.permanent, place.world.runtime):
        config[("policy", "theirs")] = settings_of("policy", ingress_zones=["bulkhead-a"], egress_zones=["HOST"])
    with pytest.raises(Mistakes, match="ingress_zones of the policy theirs has it"):
        place.run()
    assert not place.world.calls


def test_what_this_collection_does_not_know_of_a_zone_stays(place: Place) -> None:
    for config in (place.world.permanent, place.world.runtime):
        config[PUBLIC]["icmp_blocks"] = ["echo-request"]
    place.run(zones=[{"name": "public", "ports": ["1/tcp"]}])
    assert place.world.permanent[PUBLIC]["icmp_blocks"] == ["echo-request"]
    assert place.world.runtime[PUBLIC]["icmp_blocks"] == ["echo-request"]


def test_forms_of_firewalld(place: Place) -> None:
    zone = {
        "name": "bulkhead-a",
        "target": "REJECT",
        "forward_ports": ["port=80:proto=tcp:toaddr=2001:db8::1", "port=81:proto=udp:toport=82"],
        "source_ports": ["68/udp"],
        "protocols": ["gre"],
        "rich_rules": ['rule  "a" accept'],
        "masquerade": True,
    }
    place.run(zones=[zone])
    found = place.world.runtime[("zone", "bulkhead-a")]
    assert found["target"] == "%%REJECT%%" and found["masquerade"] is True
    assert found["forward_ports"] == [("80", "tcp", "", "2001:db8::1"), ("81", "udp", "82", "")]
    assert found["rules_str"] == ["rule a accept"] and found["source_ports"] == [("68", "udp")]
    assert not place.run(zones=[zone]).plan.operations


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2}',
        '{"version": 1, "zones": {"a": {}}}',
        '{"version": 1, "zones": [], "policies": {}}',
    ],
)
def test_a_broken_record_ends_the_run(place: Place, text: str) -> None:
    record = place.root / records.PATH.lstrip("/")
    record.parent.mkdir(parents=True)
    record.write_text(text)
    with pytest.raises(FirewalldError, match=r"firewalld\.json (cannot be read as a record|was written by a later)"):
        place.run(**ALL)
    assert not place.world.calls
