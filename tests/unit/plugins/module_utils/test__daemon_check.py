# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import (
    Check,
    Engine,
    Wanted,
    changes,
    needed,
    pending,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import merged
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import version

PATH = "/etc/docker/daemon.json"


def engine(text: str = "29.7.2", **facts: t.Any) -> Engine:
    """An engine on a host that forwards."""
    return Engine(**{"number": version(text), "text": text, "forwarding4": True, "forwarding6": True, **facts})


def check(settings: dict[str, t.Any], old: dict[str, t.Any] | None = None, on: Engine | None = None, **more: t.Any) -> Check:
    wanted = Wanted(settings, **more)
    after = merged(old or {}, settings, wanted.remove, wanted.replace)
    return Check(PATH, wanted, after, on or engine()).run()


NFTABLES = {"firewall-backend": "nftables"}

# Settings, engine, the one key that is named, and what is said.
BROKEN: dict[str, tuple[dict[str, t.Any], Engine, str, str]] = {
    "unknown key": ({"iptabels": True}, engine(), "iptabels", "no engine up to 29.7 knows this key.*did you mean iptables?"),
    "flag's name": ({"label": ["a=b"]}, engine(), "label", "does nothing with it; what it reads is labels"),
    "proxy outside": ({"http-proxy": "http://p"}, engine(), "http-proxy", "what it reads is proxies"),
    "odd proxy": ({"proxies": {"ftp-proxy": "x"}}, engine(), "proxies", "ftp-proxy is not accepted; accepted are http-proxy"),
    "backend on 20.10": (NFTABLES, engine("20.10.24"), "firewall-backend", "from 29.0 on; this is 20.10.24"),
    "backend on 28.5": (NFTABLES, engine("28.5.2"), "firewall-backend", "from 29.0 on; this is 28.5.2.*DOCKER_FIREWALL_BACKEND"),
    "fwmark on 28.5": ({"bridge-accept-fwmark": "1"}, engine("28.5.2"), "bridge-accept-fwmark", "from 29.0 on"),
    "direct on 28.1": ({"allow-direct-routing": True}, engine("28.1.1"), "allow-direct-routing", "from 28.2 on"),
    "options on 23": ({"default-network-opts": {}}, engine("23.0.6"), "default-network-opts", "from 24.0 on"),
    "cors on 28": ({"api-cors-header": "*"}, engine("28.5.2"), "api-cors-header", "until before 28.0 only"),
    "text for a boolean": ({"icc": "false"}, engine(), "icc", "the text 'false' is not accepted; accepted is true or false"),
    "number for a boolean": ({"icc": 0}, engine(), "icc", "the number 0 is not accepted"),
    "boolean for a number": ({"mtu": True}, engine(), "mtu", "the boolean true is not accepted; accepted is a whole number"),
    "text for a number": ({"mtu": "1400"}, engine(), "mtu", "the text '1400' is not accepted"),
    "null": ({"icc": None}, engine(), "icc", "null is not accepted"),
    "number in log-opts": ({"log-opts": {"max-file": 3}}, engine(), "log-opts", "an object is not accepted; accepted is an object whose values are texts"),
    "text for a list": ({"dns": "9.9.9.9"}, engine(), "dns", "accepted is a list of IP addresses"),
    "backend's name": ({"firewall-backend": "nft"}, engine(), "firewall-backend", "accepted is iptables or nftables"),
    "mark too wide": ({"bridge-accept-fwmark": "0x1ffffffff"}, engine(), "bridge-accept-fwmark", "at most 32 bits"),
    "mark with two masks": ({"bridge-accept-fwmark": "1/2/3"}, engine(), "bridge-accept-fwmark", "accepted is a mark such as"),
    "mark as a number": ({"bridge-accept-fwmark": 1}, engine(), "bridge-accept-fwmark", "as a text"),
    "no address": ({"ip": "localhost"}, engine(), "ip", "accepted is an IP address"),
    "bip without prefix": ({"bip": "172.30.0.1"}, engine(), "bip", "with its prefix length"),
    "bip of IPv6": ({"bip": "fd00::1/64"}, engine(), "bip", "accepted is an IPv4 address"),
    "cidr of IPv4": ({"fixed-cidr-v6": "10.0.0.0/8"}, engine(), "fixed-cidr-v6", "an IPv6 subnet"),
    "pool too small": ({"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}, engine(), "default-address-pools", "not below"),
    "pool without size": ({"default-address-pools": [{"base": "10.0.0.0/16"}]}, engine(), "default-address-pools", "'size'"),
    "boolean option": ({"default-network-opts": {"bridge": {"x": True}}}, engine(), "default-network-opts", "whose values are texts"),
    "size as number": ({"default-shm-size": 64}, engine(), "default-shm-size", "such as '64M'"),
    "label": ({"labels": ["x"]}, engine(), "labels", "such as 'key=value'"),
    "flag too": ({"icc": True}, engine(flags={"icc": ["true"]}), "icc", "as the flag --icc.*even with equal values"),
    "flag of another name": ({"dns-opts": []}, engine(flags={"dns-opts": ["x"]}), "dns-opts", "the flag --dns-opt,"),
    "proxy as a flag": ({"proxies": {"no-proxy": "x"}}, engine(flags={"no-proxy": ["y"]}), "proxies", "the flag --no-proxy"),
    "hosts": ({"hosts": ["tcp://127.0.0.1"]}, engine(flags={"hosts": ["fd://"]}), "hosts", "starts dockerd with -H fd://.*drop-in"),
    "icc without rules": ({"icc": False}, engine(flags={"iptables": ["false"]}), "icc", "icc false and iptables false"),
    "icc without IPv6 rules": ({"icc": False}, engine(flags={"ip6tables": ["0"]}), "icc", "icc false and ip6tables false"),
    "ip6tables on 26.1": ({"ip6tables": True}, engine("26.1.5"), "ip6tables", "in experimental mode only.*set experimental"),
    "bridge and bip": ({"bridge": "br0", "bip": "10.0.0.1/24"}, engine(), "bip", "bridge is 'br0'"),
    "bridge none and bip": ({"bridge": "none", "bip": "10.0.0.1/24"}, engine(), "bip", "bridge is 'none'"),
    "no iptables": ({"iptables": False}, engine(), "iptables", "no isolation.*allow_iptables_false"),
    "swarm and live-restore": ({"live-restore": True}, engine(swarm=True), "live-restore", "this node is in a swarm"),
    "swarm and nftables": (NFTABLES, engine(swarm=True), "firewall-backend", "does not start there.*swarm-nftables only silences"),
    "no forwarding": (NFTABLES, engine(forwarding4=False), "firewall-backend", "net.ipv4.ip_forward is 0.*ip_forwarding"),
    "no forwarding of IPv6": (NFTABLES, engine(forwarding6=False, ipv6_networks=("front",)), "firewall-backend", "on front"),
    "no nft": (NFTABLES, engine(nft=False), "firewall-backend", "needs the program nft"),
}


@pytest.mark.parametrize(("settings", "on", "key", "said"), BROKEN.values(), ids=BROKEN)
def test_each_mistake_is_one_clear_error(settings: dict[str, t.Any], on: Engine, key: str, said: str) -> None:
    errors = check(settings, on=on).errors
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"settings.{key}: ")
    assert re.search(said, errors[0]), errors[0]


def test_all_are_said_at_once() -> None:
    errors = check({"icc": "x", "iptabels": 1, "bip": "y"}, remove=("icc",), replace=("mtu",)).errors
    assert [error.split(":")[0] for error in errors] == [
        "remove",
        "replace",
        "settings.icc",
        "settings.iptabels",
        "settings.bip",
    ]


GOOD: dict[str, tuple[dict[str, t.Any], Engine]] = {
    "nftables": (NFTABLES, engine()),
    "nftables without the check of forwarding": ({**NFTABLES, "ip-forward": False}, engine(forwarding4=False)),
    "IPv6 off and no IPv6": (NFTABLES, engine(forwarding6=False)),
    "marks": ({"bridge-accept-fwmark": "0x10000000/0x10000000"}, engine()),
    "mark": ({"bridge-accept-fwmark": "010"}, engine()),
    "all kinds": (
        {
            "bip": "172.30.0.1/24",
            "bip6": "fd00::1/64",
            "ip": "::1",
            "dns": ["9.9.9.9", "2620:fe::fe"],
            "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}, {"base": "fd00::/48", "size": 64}],
            "default-network-opts": {"bridge": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}},
            "log-opts": {"max-file": "3"},
            "features": {"containerd-snapshotter": True},
            "default-shm-size": "64MiB",
            "log-level": "DEBUG",
            "shutdown-timeout": -1,
            "builder": {"gc": {"enabled": True}},
        },
        engine(),
    ),
    "ip6tables with experimental": ({"ip6tables": True, "experimental": True}, engine("20.10.24")),
    "ip6tables on 27": ({"ip6tables": True}, engine("27.0.1")),
    "icc false without ip6tables on 26.1": ({"icc": False}, engine("26.1.5")),
    "runtimes in both places": ({"runtimes": {}}, engine(flags={"runtimes": ["x=y"]})),
    "an engine nobody knows": ({**NFTABLES, "bip6": "fd00::1/64"}, Engine()),
    "empty is the default": ({"bridge": "", "bip": "", "firewall-backend": ""}, engine()),
}


@pytest.mark.parametrize(("settings", "on"), GOOD.values(), ids=GOOD)
def test_what_docker_starts_with_is_not_refused(settings: dict[str, t.Any], on: Engine) -> None:
    found = check(settings, on=on)
    assert (found.errors, found.warnings) == ([], [])


def test_mistakes_of_the_file_itself_name_the_file() -> None:
    errors = check({"debug": True}, {"iptabels": True, "mtu": "1400"}).errors
    assert [error.partition(": ")[0] for error in errors] == [f"iptabels in {PATH}", f"mtu in {PATH}"]
    assert check({"debug": True}, {"iptabels": True}, remove=("iptabels",)).errors == []


def test_what_docker_overlooks_in_a_file_is_a_warning() -> None:
    found = check({}, {"label": ["a=b"], "icc": None})
    assert found.errors == []
    assert len(found.warnings) == 1 and f"label in {PATH}" in found.warnings[0]


def test_a_flag_that_is_newer_than_the_engine_is_an_unknown_key() -> None:
    for old in ({"http-proxy": "x"}, {"feature": "x"}, {"default-network-opt": "x"}):
        found = check({}, old, on=engine("20.10.24"))
        assert len(found.errors) == 1 and "would not start; did you mean" in found.errors[0]


def test_iptables_false_that_is_there_or_allowed_is_a_warning() -> None:
    for found in (check({}, {"iptables": False}), check({"iptables": False}, allow_iptables_false=True)):
        assert found.errors == []
        assert "no isolation" in found.warnings[0]


def test_iptables_false_with_nftables() -> None:
    settings = {**NFTABLES, "iptables": False}
    assert [error.split(":")[0] for error in check(settings).errors] == ["settings.iptables", "settings.firewall-backend"]
    found = check(settings, allow_iptables_false=True)
    assert found.errors == [] and len(found.warnings) == 2


def test_the_feature_of_29_6_makes_swarm_a_warning() -> None:
    settings = {**NFTABLES, "features": {"swarm-nftables": True}}
    found = check(settings, on=engine("29.6.0", swarm=True))
    assert found.errors == [] and "only silences the check" in found.warnings[0]
    assert len(check(settings, on=engine("29.5.0", swarm=True)).errors) == 1


def test_userland_proxy_and_bridge_none_are_warnings() -> None:
    off = {"userland-proxy": False}
    assert "br_netfilter" in check(off, on=engine(br_netfilter=False)).warnings[0]
    ignored = engine(br_netfilter=False, environment={"DOCKER_IGNORE_BR_NETFILTER_ERROR": "1"})
    assert check(off, on=ignored).warnings == []
    assert "no default bridge" in check({"bridge": "none"}).warnings[0]


def test_a_flag_of_the_running_daemon_alone_is_a_warning() -> None:
    found = check({"icc": True}, on=engine(running_flags={"icc": ["true"]}))
    assert found.errors == [] and "refuses the file at every reload" in found.warnings[0]


def test_keys_of_newer_engines_are_left_to_dockerd() -> None:
    newer = engine("30.1.0")
    assert len(check({"moat": True}, on=newer).errors) == 1
    found = check({"moat": True}, on=newer, validated=True)
    assert found.errors == [] and "left to the check of dockerd 30.1.0" in found.warnings[0]


@pytest.mark.parametrize(
    ("before", "after", "tells", "needs"),
    [
        ({}, {"debug": True}, {}, "reload"),
        ({}, {"debug": True}, {"debug": True}, "nothing"),
        ({}, {"debug": False}, {}, "nothing"),
        ({"debug": True}, {}, {}, "restart"),
        ({"debug": False}, {}, {}, "nothing"),
        ({"authorization-plugins": ["x"]}, {}, {}, "reload"),
        ({}, {"live-restore": True}, {"live-restore": False}, "reload"),
        ({}, {"iptables": False}, {}, "restart"),
        ({}, {"ip": "127.0.0.1"}, {}, "restart_without_containers"),
        ({}, {"ip": "127.0.0.1", "debug": True}, {}, "restart_without_containers"),
        ({}, NFTABLES, {"firewall-backend": "iptables"}, "restart"),
        (NFTABLES, {}, {"firewall-backend": "iptables"}, "nothing"),
        (NFTABLES, {}, {"firewall-backend": "nftables"}, "restart"),
        ({}, {"features": {"buildkit": True}}, {}, "reload"),
        ({}, {"features": {"containerd-snapshotter": True}}, {}, "restart"),
        ({"features": {"cdi": True}}, {"features": {"cdi": True, "buildkit": True}}, {}, "reload"),
        ({"somebodys": 1}, {}, {}, "restart"),
        ({"ip6tables": True}, {}, {}, "nothing"),
        ({}, {"default-shm-size": "64M"}, {}, "reload"),
        # What was written before and never applied.
        (NFTABLES, NFTABLES, {"firewall-backend": "iptables"}, "restart"),
        ({"debug": True}, {"debug": True}, {"debug": False}, "reload"),
        ({}, {}, {"debug": True}, "restart"),
        ({}, {}, {"debug": False}, "nothing"),
    ],
)
def test_what_a_change_needs(before: dict[str, t.Any], after: dict[str, t.Any], tells: dict[str, t.Any], needs: str) -> None:
    on = engine(tells=tells)
    assert needed([*changes(before, after, on), *pending(before, after, on)]) == needs


def test_changes_are_told_in_the_order_of_the_file() -> None:
    found = changes({"b": 1, "a": 1, "mtu": 1}, {"b": 2, "a": 1, "mtu": True, "icc": False}, engine())
    assert [(each.key, each.before, each.after) for each in found] == [
        ("b", 1, 2),
        ("mtu", 1, True),
        ("icc", None, False),
    ]


def test_a_flag_hides_what_the_daemon_tells() -> None:
    on = engine(tells={"debug": True}, flags={"debug": ["true"]})
    assert pending({}, {}, on) == []


def test_the_default_of_userland_proxy_must_not_be_said() -> None:
    """Docker 26.1 and 28.5 refuse to reload a file that says it."""
    for text, warned in (("28.5.2", True), ("20.10.24", False)):
        found = check({"userland-proxy": True}, on=engine(text)).warnings
        assert any("take the key out" in each for each in found) is warned
    assert not check({"userland-proxy": True, "userland-proxy-path": "/usr/bin/docker-proxy"}).warnings
