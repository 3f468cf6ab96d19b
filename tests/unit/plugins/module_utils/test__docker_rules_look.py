# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_rules_look as looking
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerAnswers
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import DaemonSettings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Rule, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence

NETWORK = "ab" * 32
CONTAINER = {
    "Id": "c" * 64,
    "Name": "/web",
    "State": {"Running": True},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
        "Networks": {"bridge": {"NetworkID": NETWORK, "IPAddress": "172.17.0.2"}},
    },
}
DNAT = Rule(9, ({"xt": {"type": "target", "name": "DNAT"}},), "tcp dport 8080 counter dnat to 172.17.0.2:80")


def jump(handle: int, target: str) -> Rule:
    return Rule(handle, ({"counter": None}, {"jump": {"target": target}}), f"counter jump {target}")


def ruleset(dnat: bool = True, user: str = "first", nat: bool = True) -> Ruleset:
    """What Docker 26.1 makes, and DOCKER-USER where it should be, behind what Docker accepts, or never asked."""
    prerouting = Chain("PREROUTING", 1, "nat", "prerouting", -100, rules=(jump(2, "DOCKER"),))
    output = Chain("OUTPUT", 11, "nat", "output", -100, rules=(jump(12, "DOCKER"),))
    docker = Chain("DOCKER", 3, rules=(DNAT,) if dnat else ())
    tables = [Table("ip", "nat", chains=(prerouting, output, docker))] if nat else []
    rules = [jump(10, "DOCKER-ISOLATION-STAGE-1"), jump(5, "DOCKER")] if nat else []
    if user != "never":
        rules.insert(0 if user == "first" else len(rules), jump(4, "DOCKER-USER"))
    forward = Chain("FORWARD", 6, "filter", "forward", 0, rules=tuple(rules))
    chains = [forward, Chain("DOCKER-USER", 7)]
    chains += [Chain("DOCKER", 8), Chain("DOCKER-ISOLATION-STAGE-1", 9)] if nat else []
    return Ruleset((*tables, Table("ip", "filter", chains=tuple(chains))))


Look = t.Callable[..., looking.Seen]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Look at a host with one container that publishes a port."""

    def call(
        loaded: Ruleset,
        settings: dict[str, t.Any] | None = None,
        legacy: tuple[str, ...] = (),
        backend: str | None = None,
    ) -> looking.Seen:
        version = {"ApiVersion": "1.45", "Version": "26.1.5"}
        info: dict[str, t.Any] = {"ServerVersion": "26.1.5", "LiveRestoreEnabled": True}
        if backend:
            info["FirewallBackend"] = {"Driver": backend}
        networks = [
            {
                "Name": "bridge",
                "Id": NETWORK,
                "Driver": "bridge",
                "Options": {"com.docker.network.bridge.name": "docker0"},
            }
        ]
        presence = DockerPresence(True, 1, ("dockerd",), {"docker0": ("172.17.0.1/16",)})
        answers = DockerAnswers(version, info, networks, [CONTAINER])
        daemon = DaemonSettings("/etc/docker/daemon.json", True, True, None, settings or {})
        for name, value in {
            "read_interfaces": [],
            "docker_presence": presence,
            "ask_docker": answers,
            "read_ruleset": loaded,
            "read_daemon_settings": daemon,
            "legacy_table_names": (legacy, ()),
        }.items():
            monkeypatch.setattr(looking, name, lambda *_args, _value=value, **_options: _value)
        return looking.Edges(t.cast(t.Any, None)).look()

    return call


def test_a_whole_host(look: Look) -> None:
    seen = look(ruleset())
    assert seen.missing == []
    assert seen.running == {"c" * 64: "web"}
    assert (seen.version, seen.backend, seen.swarm) == ((26, 1, 5), "iptables", False)


def test_everything_gone_is_one_sentence(look: Look) -> None:
    (said,) = look(ruleset(nat=False)).missing
    assert "its rules are gone" in said


def test_dnat_and_docker_user_are_looked_at(look: Look) -> None:
    seen = look(ruleset(dnat=False, user="last"))
    assert seen.lost == [
        "Published ports without DNAT for IPv4: 8080/tcp of web. docker-proxy answers for them on the input path, if "
        "anything does."
    ]
    assert [each.text for each in seen.misplaced] == [
        "Docker accepts packets in table ip filter FORWARD before DOCKER-USER is asked."
    ]
    assert seen.missing == [*seen.lost, seen.misplaced[0].text]


@pytest.mark.parametrize("user", ["last", "never"])
def test_docker_user_alone_is_no_loss_of_dockers(look: Look, user: str) -> None:
    """Engines before 28.0.1 would not put that jump back at a restart that finds containers running."""
    seen = look(ruleset(user=user))
    assert seen.lost == [] and len(seen.misplaced) == 1


@pytest.mark.parametrize(("settings", "legacy"), [({"iptables": False}, ()), ({}, ("filter", "nat"))])
def test_where_docker_makes_no_rules_that_nft_shows(
    look: Look, settings: dict[str, t.Any], legacy: tuple[str, ...]
) -> None:
    assert look(ruleset(dnat=False, user="last"), settings, legacy).missing == []


def test_the_nftables_backend_has_no_docker_user(look: Look) -> None:
    seen = look(ruleset(user="last"), backend="nftables+firewalld")
    assert seen.missing == [] and seen.backend == "nftables"
