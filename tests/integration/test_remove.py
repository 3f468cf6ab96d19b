# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `remove`: the host is as it was before it was hardened, and stays so."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

import pytest
from integration.fleet import (
    ONLY_SSH_AND_WEB,
    PATIENCE,
    SUITES,
    Table,
    both,
    fleet,
    play,
    ruleset,
    table,
    target,
    tree,
)

from lab.ansible import PlaybookResult, ping
from lab.containers import Container, ContainerSet, Network
from lab.host import Host
from lab.topology import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")
each_suite = pytest.mark.parametrize("suite", SUITES)

PORTS = (22, 80, 8080, 8081)
SMALL = ContainerSet(
    "small",
    networks=(Network("front", "172.30.1.0/24", "fd00:b1:1::/64"),),
    containers=(
        Container("web80", ("80:80",)),
        Container("web", ("8080:80",)),
        Container("web6", ("8081:80",), ("front",)),
    ),
)
# What lives its own life while nothing is hardened: the journal, sessions, units and containers that run.
_RESTLESS = (
    "/run/log/",
    "/run/docker/",
    "/run/containerd/",
    "/run/systemd/journal/",
    "/run/systemd/sessions",
    "/run/systemd/units",
    "/run/systemd/users",
    "/run/udev/",
)


@dataclass
class Trace:
    """Everything of a host in which the collection could leave a trace."""

    files: dict[str, list[t.Any]]
    ruleset: str
    enabled: str
    units: str
    open: Table


def trace(lab: Lab, host: Host) -> Trace:
    found = tree(host, "/etc", "/run", "/usr/local", "/var/lib/systemd", "/root", "/tmp", "/var/tmp")
    units = host.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "*bulkhead*"]).stdout
    return Trace(
        files={path: what for path, what in found.items() if not path.startswith(_RESTLESS)},
        ruleset=ruleset(host),
        enabled=host.run(["systemctl", "list-unit-files", "--no-legend", "--no-pager"]).stdout,
        units=units,
        open=table(lab.peer.probe([target(*key) for key in sorted(both(host, "tcp", *PORTS))], PATIENCE)),
    )


@dataclass
class Story:
    lab: Lab
    before: dict[str, Trace]
    hardened: dict[str, Trace]
    after: dict[str, Trace]
    check: PlaybookResult
    removed: PlaybookResult
    again: PlaybookResult


@pytest.fixture(scope="module")
def story(say: t.Callable[[str], None]) -> t.Iterator[Story]:
    with fleet("remove", SMALL) as lab:
        assert ping(lab).rc == 0  # a first login may leave something of its own

        def traces() -> dict[str, Trace]:
            return {name: trace(lab, host) for name, host in lab.hosts.items()}

        before = traces()
        play(lab, "harden", ONLY_SSH_AND_WEB)
        hardened = traces()
        say("the hosts are hardened")
        check = play(lab, "remove", ONLY_SSH_AND_WEB, check=True, diff=True)
        assert traces() == hardened
        removed = play(lab, "remove", ONLY_SSH_AND_WEB, diff=True)
        yield Story(lab, before, hardened, traces(), check, removed, play(lab, "remove", ONLY_SSH_AND_WEB))


@each_suite
def test_there_was_something_to_remove(story: Story, suite: str) -> None:
    before, hardened, host = story.before[suite], story.hardened[suite], story.lab.hosts[suite]
    new = {path for path, what in hardened.files.items() if before.files.get(path) != what}
    assert new >= {"/etc/bulkhead", "/etc/systemd/system/bulkhead.service", "/etc/nftables.conf"}
    assert hardened.ruleset != before.ruleset
    assert hardened.enabled != before.enabled
    assert before.open == dict.fromkeys(both(host, "tcp", *PORTS), "open")
    assert hardened.open == {
        **dict.fromkeys(before.open, "timeout"),
        **dict.fromkeys(both(host, "tcp", 22, 80), "open"),
    }


@each_suite
def test_no_file_is_left(story: Story, suite: str) -> None:
    before, after = story.before[suite].files, story.after[suite].files
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    assert {path: (before.get(path), after.get(path)) for path in differing} == {}


@each_suite
def test_ruleset_and_units_are_as_before(story: Story, suite: str) -> None:
    before, after = story.before[suite], story.after[suite]
    assert after.ruleset == before.ruleset
    assert after.enabled == before.enabled
    assert after.units == before.units


@each_suite
def test_ports_are_open_again(story: Story, suite: str) -> None:
    assert story.after[suite].open == story.before[suite].open


@each_suite
def test_check_mode_says_what_removing_does_and_a_second_time_there_is_nothing(story: Story, suite: str) -> None:
    def said(result: PlaybookResult) -> list[t.Any]:
        return [(event["task"], event["result"].get("diff")) for event in result.tasks(suite) if event["changed"]]

    assert said(story.check) == said(story.removed)
    assert story.removed.changed(suite) == 2
    assert story.again.changed(suite) == 0
