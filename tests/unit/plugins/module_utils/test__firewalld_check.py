# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import Apply, Mistakes
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import is_docker_bridge
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import World

Mistake = t.Callable[..., t.List[str]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.install(monkeypatch)
    return world


@pytest.fixture
def mistakes(world: World, tmp_path: Path) -> Mistake:
    """All mistakes of a task; nothing is changed for it."""

    def find(**options: t.Any) -> list[str]:
        given = {"zones": [], "policies": [], "settings": {}, **options}
        world.calls.clear()
        try:
            Apply(world.firewalld(tmp_path), True).run(given, False)
        except Mistakes as exc:
            assert not world.calls and not (tmp_path / "etc/bulkhead").exists()
            return exc.errors
        return []

    return find


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        ("ports", "80", "a port or a range and a protocol"),
        ("ports", "0/tcp", "a port or a range"),
        ("ports", "65536/tcp", "a port or a range"),
        ("ports", "90-80/tcp", "a port or a range"),
        ("ports", "80/icmp", "a port or a range"),
        ("ports", "80/tcp\n", "a port or a range"),
        ("ports", "\u0661/tcp", "a port or a range"),
        ("source_ports", "http", "68/udp"),
        ("services", "sshh", "there is no such service; did you mean ssh"),
        ("interfaces", "a name that is long", "1 to 15 characters"),
        ("interfaces", "eth0/1", "1 to 15 characters"),
        ("interfaces", "", "1 to 15 characters"),
        ("interfaces", "+", "a bridge of Docker's"),
        ("interfaces", "e+h", "1 to 15 characters"),
        ("interfaces", "docker0", "a bridge of Docker's"),
        ("interfaces", "br-0123456789ab", "a bridge of Docker's"),
        ("interfaces", "br-+", "a bridge of Docker's"),
        ("sources", "192.0.2.1/24", "the network is 192.0.2.0/24"),
        ("sources", "2001:db8::/129", "an address, a network"),
        ("sources", "example.com", "an address, a network"),
        ("sources", "ipset:block", "there is no such ipset; did you mean blocked"),
        ("protocols", "nope", "a name of /etc/protocols"),
        ("rich_rules", "allow all", "firewalld 2.3.1 says INVALID_RULE: allow all"),
        ("forward_ports", "8080", "toport or toaddr or both"),
        ("forward_ports", "port=80:proto=tcp", "toport or toaddr or both"),
        ("forward_ports", "port=80:proto=tcp:toport=99999", "toport or toaddr or both"),
        ("forward_ports", "port=80:proto=xyz:toport=9", "toport or toaddr or both"),
        ("forward_ports", "port=80:proto=tcp:toaddr=192.0.2", "toport or toaddr or both"),
    ],
)
def test_entries(mistakes: Mistake, key: str, entry: str, said: str) -> None:
    (error,) = mistakes(zones=[{"name": "work", key: [entry]}])
    assert error.startswith(f"zones[0] (work).{key}: {entry!r} is not accepted; ") and said in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"zones": [{"name": "docker", "services": ["ssh"]}]}, "this zone is Docker's own"),
        ({"policies": [{"name": "docker-forwarding"}]}, "this policy is Docker's own"),
        ({"zones": [{"name": "nosuch"}]}, "there is no such zone; those this module makes begin with bulkhead-"),
        ({"zones": [{"name": "bulkhead-toolonganame"}]}, "21 chars, max is 17"),
        ({"zones": [{"name": "bulkhead-../x"}]}, "letters, digits, _ and - only"),
        ({"zones": [{"name": "bulkhead-a"}, {"name": "bulkhead-a"}]}, "bulkhead-a is given twice"),
        ({"zones": [{"name": "bulkhead-a", "absent": {"ports": ["1/tcp"]}}]}, "has only what is named anyway"),
        (
            {"zones": [{"name": "work", "services": ["ssh"], "absent": {"services": ["ssh"]}}]},
            "ssh is in services and in absent.services",
        ),
        (
            {"zones": [{"name": "work", "sources": ["192.0.2.1"]}, {"name": "public", "sources": ["192.0.2.1/32"]}]},
            "192.0.2.1 is in sources of work and of public",
        ),
        (
            {"policies": [{"name": "bulkhead-p", "ingress_zones": ["nix"], "egress_zones": ["HOST"]}]},
            "policies (bulkhead-p).ingress_zones: there is no zone nix",
        ),
        (
            {"policies": [{"name": "bulkhead-p", "ingress_zones": ["ANY", "work"], "egress_zones": ["HOST"]}]},
            "HOST and ANY stand alone",
        ),
        ({"policies": [{"name": "bulkhead-p", "ingress_zones": ["ANY"]}]}, "egress_zones: a policy without any"),
        ({"policies": [{"name": "allow-host-ipv6", "priority": 0}]}, "priority: 0 is not accepted"),
        ({"policies": [{"name": "allow-host-ipv6", "priority": 32768}]}, "priority: 32768 is not accepted"),
        ({"settings": {"StrictForwardPort": "yes"}}, "did you mean StrictForwardPorts?"),
        ({"settings": {"StrictForwardPorts": "maybe"}}, "'maybe' is not accepted; it is one of yes or no"),
        ({"settings": {"NftablesTableOwner": True}}, "firewalld 2.3.1 does not have it"),
        ({"settings": {"FirewallBackend": "nftables"}}, "this module does not set it"),
    ],
)
def test_the_rest(mistakes: Mistake, options: dict[str, t.Any], said: str) -> None:
    (error,) = mistakes(**options)
    assert said in error


def test_all_at_once(mistakes: Mistake) -> None:
    found = mistakes(
        zones=[{"name": "nosuch", "ports": ["x"]}, {"name": "work", "services": ["y"]}],
        policies=[{"name": "bulkhead-p"}],
        settings={"z": 1},
    )
    assert len(found) == 6


def test_a_setting_that_came_later_is_told_with_its_release(mistakes: Mistake, world: World) -> None:
    world.version = "1.3.3"
    del world.conf["StrictForwardPorts"]
    (error,) = mistakes(settings={"StrictForwardPorts": True})
    assert error == "settings.StrictForwardPorts: firewalld 1.3.3 does not have it, which came with 2.3"


def test_the_old_backend(mistakes: Mistake, world: World) -> None:
    world.conf["FirewallBackend"] = "iptables"
    (error,) = mistakes()
    assert "FirewallBackend=iptables, and each of its reloads wipes all rules" in error


def test_a_docker_that_missed_firewalld(mistakes: Mistake, world: World) -> None:
    del world.permanent[("zone", "docker")], world.runtime[("zone", "docker")]
    policy = {"name": "bulkhead-p", "ingress_zones": ["docker"], "egress_zones": ["HOST"]}
    (error,) = mistakes(policies=[policy])
    assert "there is no zone docker; Docker makes it when it is started while firewalld runs" in error


def test_bridges_with_names_of_their_own_are_dockers_by_its_zone(mistakes: Mistake, world: World) -> None:
    world.runtime[("zone", "docker")]["interfaces"] = ["apps"]
    (error,) = mistakes(zones=[{"name": "work", "interfaces": ["apps", "br-lan"]}])
    assert "'apps' is not accepted; it is a bridge of Docker's" in error


def test_a_zone_that_goes_cannot_be_named(mistakes: Mistake) -> None:
    assert not mistakes(zones=[{"name": "bulkhead-a"}])
    policy = {"name": "bulkhead-p", "ingress_zones": ["bulkhead-a"], "egress_zones": ["HOST"]}
    (error,) = mistakes(policies=[policy])
    assert error == "policies (bulkhead-p).ingress_zones: there is no zone bulkhead-a"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("docker0", True),
        ("docker_gwbridge", True),
        ("br-0123456789ab", True),
        ("d+", True),
        ("docker+", True),
        ("br+", True),
        ("br-01+", True),
        ("br-lan", False),
        ("br-lan+", False),
        ("docker1", False),
        ("eth+", False),
    ],
)
def test_names_of_dockers(name: str, is_one: bool) -> None:
    assert is_docker_bridge(name) is is_one
