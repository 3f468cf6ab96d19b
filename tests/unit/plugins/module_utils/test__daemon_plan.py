# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the role docker_daemon, and what a switch to nftables would leave behind."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_plan as daemon_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import KEYS

ROLE = Path(__file__).resolve().parents[4] / "roles/docker_daemon"
BINDING = "com.docker.network.bridge.host_binding_ipv4"
ICC = "com.docker.network.bridge.enable_icc"


def facts(version: str = "29.7.2", backend: str = "iptables", **file: t.Any) -> dict[str, t.Any]:
    return {
        "running": True,
        "available": True,
        "engine": {"version": version, "firewall_backend": backend},
        "daemon_json": {"settings": file, "flags": {}},
    }


def read(found: dict[str, t.Any] | None = None, **values: t.Any) -> daemon_plan.Plan:
    return daemon_plan.read(values, facts() if found is None else found)


# -- settings ------------------------------------------------------------------------------------------------------


def test_nothing_set_is_nothing_wanted() -> None:
    nothing = dict.fromkeys((*daemon_plan.SWITCHES, *daemon_plan.NETWORK_SWITCHES))
    plan = read(settings={}, remove=[], restart="auto", **nothing)
    assert (plan.settings, plan.remove, plan.errors) == ({}, [], [])
    # What null becomes in ansible-core before 2.19.
    assert read(**dict.fromkeys(nothing, "")).settings == {}


def test_every_switch_is_a_key_and_documented() -> None:
    assert set(daemon_plan.SWITCHES.values()) <= set(KEYS)
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    documented = set(specs["argument_specs"]["main"]["options"])
    assert documented | {"docker_daemon_pending"} == set(daemon_plan.KNOWN)
    handed = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__docker_daemon_variables"]
    assert {f"docker_daemon_{name}" for name in handed} == documented
    assert all(f"docker_daemon_{name} " in text or f"docker_daemon_{name} }}" in text for name, text in handed.items())


def test_switches_become_keys() -> None:
    pools = [{"base": "10.200.0.0/16", "size": 24}]
    plan = read(
        firewall_backend="nftables",
        default_bind_address="127.0.0.1",
        icc=False,
        live_restore="yes",
        userland_proxy=False,
        default_address_pools=pools,
        settings={"debug": True},
    )
    assert plan.errors == []
    assert plan.settings == {
        "firewall-backend": "nftables",
        "ip": "127.0.0.1",
        "icc": False,
        "live-restore": True,
        "userland-proxy": False,
        "default-address-pools": pools,
        "debug": True,
    }


@pytest.mark.parametrize(("value", "written"), [(1, "0x1"), (0x10, "0x10"), ("0x1/0x3", "0x1/0x3")])
def test_a_mark_may_be_a_number(value: t.Any, written: str) -> None:
    assert read(bridge_accept_fwmark=value).settings == {"bridge-accept-fwmark": written}


@pytest.mark.parametrize("values", [{"userland_proxy": True}, {"settings": {"userland-proxy": True}}])
def test_the_proxy_is_switched_on_by_leaving_the_key_out(values: dict[str, t.Any]) -> None:
    plan = read(**values)
    assert (plan.settings, plan.remove, plan.errors) == ({}, ["userland-proxy"], [])


def test_a_proxy_with_its_path_stays_in_the_file() -> None:
    wanted = {"userland-proxy": True, "userland-proxy-path": "/usr/bin/docker-proxy"}
    assert read(settings=wanted).settings == wanted


def test_later_networks() -> None:
    plan = read(new_networks_bind_address="127.0.0.1", new_networks_icc=False)
    assert plan.settings == {"default-network-opts": {"bridge": {BINDING: "127.0.0.1", ICC: "false"}}}
    assert plan.variables["default-network-opts"].startswith("docker_daemon_new_networks_bind_address and docker_daemon_new")


def test_options_of_later_networks_join_those_of_the_file_and_of_the_free_settings() -> None:
    mtu, group = "com.docker.network.driver.mtu", "com.docker.network.bridge.inhibit_ipv4"
    file = {"default-network-opts": {"bridge": {mtu: "1400", ICC: "true"}, "macvlan": {"parent": "eth0"}}}
    free = {"default-network-opts": {"bridge": {group: "true"}}}
    plan = read(facts(**file), new_networks_icc=False, settings=free)
    assert plan.errors == []
    assert plan.settings == {"default-network-opts": {"bridge": {mtu: "1400", group: "true", ICC: "false"}}}
    # Only in the free settings: what the file has for the driver stays too.
    assert read(facts(**file), settings=free).settings["default-network-opts"]["bridge"][mtu] == "1400"


@pytest.mark.parametrize("odd", ["text", {"bridge": ["a"]}, None])
def test_odd_options_of_the_file_or_the_settings_are_left_to_the_module(odd: t.Any) -> None:
    assert read(facts(**{"default-network-opts": odd}), new_networks_icc=True).errors == []
    settings = {"default-network-opts": odd}
    if odd is not None:
        assert read(settings=settings).settings == settings


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"icc": "perhaps"}, r"docker_daemon_icc: the text 'perhaps' .*true or false"),
        ({"firewall_backend": "ipfw"}, r"docker_daemon_firewall_backend: .*iptables or nftables"),
        ({"bridge_accept_fwmark": "high"}, r"docker_daemon_bridge_accept_fwmark: .*a mark such as"),
        ({"bridge_accept_fwmark": True}, r"docker_daemon_bridge_accept_fwmark: the boolean true"),
        ({"default_bind_address": "::1"}, r"docker_daemon_default_bind_address: .*an IPv4 address"),
        ({"default_bind_address": ["127.0.0.1"]}, r"docker_daemon_default_bind_address: a list"),
        ({"new_networks_bind_address": "lo"}, r"docker_daemon_new_networks_bind_address: .*an IPv4 address"),
        ({"new_networks_icc": 3}, r"docker_daemon_new_networks_icc: the number 3"),
        ({"default_address_pools": [{"base": "10.0.0.0/8", "size": 4}]}, r"docker_daemon_default_address_pools: "),
        ({"settings": "icc=false"}, r"docker_daemon_settings: the text 'icc=false' .*an object"),
        ({"settings": ["icc"]}, r"docker_daemon_settings: a list"),
        ({"remove": "icc"}, r"docker_daemon_remove: the text 'icc' .*a list of keys"),
        ({"remove": [1]}, r"docker_daemon_remove: a list"),
        ({"remove": ["live-restore"]}, r"docker_daemon_remove: .*set docker_daemon_live_restore to false"),
        ({"restart": "later"}, r"docker_daemon_restart: accepted are auto and never"),
        ({"switch_backend": "later"}, r"docker_daemon_switch_backend: the text 'later'"),
        ({"icc": True, "settings": {"icc": False}}, r"docker_daemon_icc: icc is in docker_daemon_settings as well"),
        ({"icc": True, "remove": ["icc"]}, r"docker_daemon_remove: icc is set by docker_daemon_icc \(icc\) as well"),
        (
            {"new_networks_icc": True, "settings": {"default-network-opts": {"bridge": {ICC: "true"}}}},
            r"docker_daemon_new_networks_icc: .*enable_icc is in docker_daemon_settings.default-network-opts",
        ),
    ],
)
def test_a_mistake_is_named_with_its_variable(values: dict[str, t.Any], said: str) -> None:
    (error,) = read(**values).errors
    assert re.match(said, error), error


def test_mistakes_come_together_and_the_rest_is_still_wanted() -> None:
    plan = read(icc="perhaps", settings={"mtu": 1400}, remove=3, live_restore=True)
    assert len(plan.errors) == 2
    assert plan.settings == {"live-restore": True, "mtu": 1400}


def test_a_docker_that_cannot_be_asked_is_a_mistake_only_where_something_is_wanted() -> None:
    mute = {"running": True, "available": False, "reason": "the Docker SDK is not installed"}
    assert read(mute).errors == []
    (error,) = read(mute, icc=False).errors
    assert "cannot be asked" in error and "SDK" in error
    assert read({"running": False, "available": False}, icc=False).errors == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("settings.ip: too old", "docker_daemon_default_bind_address (ip): too old"),
        ("settings.mtu: a: b", "docker_daemon_settings.mtu: a: b"),
        ("settings.iptables: set allow_iptables_false", "docker_daemon_settings.iptables: set docker_daemon_allow_iptables_false"),
        ("settings.default-network-opts: no", "docker_daemon_new_networks_icc (default-network-opts): no"),
        ("remove: no", "docker_daemon_remove: no"),
        ("mtu in /etc/docker/daemon.json: no", "mtu in /etc/docker/daemon.json: no"),
    ],
)
def test_the_module_s_words_get_the_role_s_names(error: str, said: str) -> None:
    plan = read(default_bind_address="127.0.0.1", new_networks_icc=True, settings={"mtu": 1, "iptables": False})
    assert daemon_plan.in_variables(error, plan) == said


# -- a switch of the backend -----------------------------------------------------------------------------------------


def ruleset(policy: str = "accept", *rules: str, family: str = "ip") -> dict[str, t.Any]:
    chains = [
        {"name": "FORWARD", "policy": policy, "rules": []},
        {"name": "DOCKER-USER", "policy": None, "rules": [{"text": text} for text in rules]},
    ]
    return {"tables": [{"family": family, "name": "filter", "chains": chains}]}


NFTABLES = {"firewall_backend": "nftables"}


@pytest.mark.parametrize("wanted", [NFTABLES, {"settings": {"firewall-backend": "nftables"}}])
@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (ruleset("drop"), r"the policy of FORWARD is DROP \(IPv4\)"),
        (ruleset("drop", family="ip6"), r"the policy of FORWARD is DROP \(IPv6\)"),
        (ruleset("accept", "ip saddr 192.0.2.0/24 drop", "return"), r"DOCKER-USER has rules of somebody's \(IPv4\)"),
        ({"legacy_rules": {"ipv4": ["-t filter -P FORWARD DROP"]}}, r"FORWARD is DROP \(IPv4\)"),
        ({"legacy_rules": {"ipv6": ["-t filter -A DOCKER-USER -j DROP"]}}, r"DOCKER-USER has rules .*\(IPv6\)"),
    ],
)
def test_what_docker_would_leave_behind_refuses_a_switch(
    wanted: dict[str, t.Any], rules: dict[str, t.Any], said: str
) -> None:
    plan = read(**wanted)
    assert plan.leaves_iptables
    (error,) = daemon_plan.left_behind(plan, rules)
    assert re.search(said, error) and "bulkhead.docker_nftables.migrate" in error and "switch_backend" in error


def test_a_switch_that_somebody_wrote_and_never_applied_comes_with_any_restart() -> None:
    written = facts(**{"firewall-backend": "nftables"})
    (error,) = daemon_plan.left_behind(read(written, icc=False), ruleset("drop"))
    assert error.startswith("firewall-backend in daemon.json: ")
    assert daemon_plan.left_behind(read(written), ruleset("drop")) == []
    assert daemon_plan.left_behind(read(written, firewall_backend="iptables"), ruleset("drop")) == []
    assert daemon_plan.left_behind(read(written, remove=["firewall-backend"]), ruleset("drop")) == []


@pytest.mark.parametrize(
    "rules",
    [
        {},
        ruleset("accept"),
        ruleset("accept", "return"),
        ruleset("accept", "counter return"),
        {"legacy_rules": {"ipv4": ["-t filter -A DOCKER-USER -j RETURN", "-t filter -P INPUT DROP"], "ipv6": None}},
    ],
)
def test_docker_s_own_return_and_an_accepting_policy_are_nothing(rules: dict[str, t.Any]) -> None:
    assert daemon_plan.left_behind(read(**NFTABLES), rules) == []


@pytest.mark.parametrize(
    ("found", "values"),
    [
        (facts(), {"firewall_backend": "iptables"}),
        (facts(backend="nftables"), NFTABLES),
        (facts(backend="nftables+firewalld"), NFTABLES),
        (facts(version="28.5.2"), NFTABLES),
        ({"running": False, "available": False}, NFTABLES),
        (facts(), {**NFTABLES, "switch_backend": True}),
        (facts(), {}),
    ],
)
def test_no_switch_or_one_that_was_allowed(found: dict[str, t.Any], values: dict[str, t.Any]) -> None:
    plan = read(found, **values)
    assert not plan.leaves_iptables and daemon_plan.left_behind(plan, ruleset("drop", "drop")) == []
