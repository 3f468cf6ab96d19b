# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repair on a host that is played: its daemon reads daemon.json, stops containers and makes rules as a real one."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import DaemonSettings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_repair import (
    Outcome,
    Repair,
    RepairError,
    Wishes,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges, Seen
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_read import Misplaced
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import RECORD, DaemonFile
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, Result
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence

DAEMON_JSON = "/etc/docker/daemon.json"
GONE = "Docker runs, but its rules are gone."
BEHIND = Misplaced("DOCKER-USER comes too late.", ("insert rule ip filter FORWARD counter jump DOCKER-USER",))
KEEPS_RUNNING = [
    "switch live-restore on for the restart",
    "restart Docker",
    "put the jump to DOCKER-USER in front of Docker's rules",
    "put daemon.json back and live-restore off",
]


@dataclass
class Container:
    restarts: bool = True
    removed: bool = False
    runs: bool = True


@dataclass
class FakeDocker(Edges):
    """A host with Docker; time passes only when somebody sleeps."""

    root: Path
    version: str = "26.1.5+dfsg1"
    backend: str = "iptables"
    swarm: str = "inactive"
    live: bool = False
    running: bool = True
    pid: int = 100
    unit_pid: int | None = None
    arguments: tuple[str, ...] = ("/usr/sbin/dockerd", "-H", "fd://")
    flags: dict[str, t.Any] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=lambda: {"web": Container()})
    lost: list[str] = field(default_factory=list)
    misplaced: list[Misplaced] = field(default_factory=list)
    daemon_error: str | None = None
    firewalld_since: int | None = None
    hears: bool = True
    deaf_to_reload: bool = False
    never_starts: bool = False
    never_restores: bool = False
    refuses: str = ""
    heals_at: float | None = None
    clock: float = 0.0
    calls: list[str] = field(default_factory=list)
    seen_files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = t.cast(t.Any, self)
        self.now = lambda: self.clock
        (self.root / "run").mkdir()
        (self.root / "etc/docker").mkdir(parents=True)

    @property
    def file(self) -> Path:
        return self.root / DAEMON_JSON.lstrip("/")

    def settings(self) -> dict[str, t.Any]:
        return json.loads(self.file.read_text() or "{}") if self.file.exists() else {}

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        if self.heals_at is not None and self.clock >= self.heals_at:
            self.lost = []

    # -- what Edges has ------------------------------------------------------------------------------------------------

    def presence(self) -> DockerPresence:
        if not self.running:
            return DockerPresence()
        return DockerPresence(True, self.pid, self.arguments, {"docker0": ("172.17.0.1/16",)})

    def look(self, timeout: float = 30) -> Seen:
        if not self.running:
            raise DockerUnavailable("daemon_unreachable", "the Docker daemon is not reachable")
        daemon = DaemonSettings(DAEMON_JSON, self.file.exists(), self.daemon_error is None, self.daemon_error)
        daemon = DaemonSettings(
            DAEMON_JSON, self.file.exists(), daemon.valid, daemon.error, self.settings(), dict(self.flags)
        )
        engine = {
            "version": self.version,
            "firewall_backend": self.backend,
            "swarm": self.swarm,
            "live_restore": self.live,
        }
        running = {f"id-{name}": name for name, each in self.containers.items() if each.runs}
        misplaced = [] if self.lost else list(self.misplaced)
        return Seen(self.presence(), daemon, engine, running, list(self.lost), misplaced)

    def live_restore(self) -> bool:
        return self.live

    def start_container(self, identity: str) -> None:
        container = self.containers[identity[len("id-") :]]
        if container.removed:
            raise DockerUnavailable("api_error", "No such container")
        container.runs = True

    # -- what a runner has ---------------------------------------------------------------------------------------------

    def find(self, name: str) -> str | None:
        return name

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        self.calls.append(" ".join(argv))
        result = self._answer(argv, stdin)
        if check and result.rc:
            raise CommandError(argv, result.rc, result.stdout, result.stderr)
        return result

    def _answer(self, argv: list[str], stdin: str | None) -> Result:
        what = " ".join(argv[:2])
        if what == "systemctl show":
            return Result(0, self._shown(), "")
        if what == "systemctl reload":
            self.seen_files.append(self.file.read_text())
            if not self.deaf_to_reload:
                self.live = self.settings().get("live-restore", self.live)
        elif what == "systemctl restart":
            return self._restart()
        elif what == "systemctl is-active":
            return Result(0, "active" if self.running else "failed", "")
        elif argv[0] == "journalctl":
            return Result(0, "".join(f"line {number} {'x' * 400}\n" for number in range(40)), "")
        elif argv[0] == "nft":
            assert stdin == "".join(f"{command}\n" for command in BEHIND.commands)
            self.misplaced = []
        elif what == "firewall-cmd --version":
            return Result(0, "2.3.0\n", "")
        elif what == "firewall-cmd --reload":
            self.lost = [] if self.hears else self.lost
        elif what.endswith("--validate"):
            return Result(1, "", self.refuses) if self.refuses else Result(0, "", "configuration OK")
        return Result(0, "", "")

    def _shown(self) -> str:
        docker = {"Id": "docker.service", "ActiveState": "active", "MainPID": str(self.unit_pid or self.pid)}
        docker["ExecMainStartTimestampMonotonic"] = "500"
        active = self.firewalld_since is not None
        firewalld = {"Id": "firewalld.service", "ActiveState": "active" if active else "inactive"}
        firewalld["ActiveEnterTimestampMonotonic"] = str(self.firewalld_since or 0)
        return "\n\n".join("\n".join(f"{key}={value}" for key, value in each.items()) for each in (docker, firewalld))

    def _restart(self) -> Result:
        self.seen_files.append(self.file.read_text() if self.file.exists() else "")
        if self.never_starts:
            self.running = False
            return Result(1, "", "Job for docker.service failed")
        kept = self.live
        self.live = bool(self.settings().get("live-restore", self.flags.get("live-restore", False)))
        for container in self.containers.values():
            container.runs = container.runs and (kept or container.restarts)
        self.pid += 1
        if not self.never_restores:
            self.lost = []
        if kept and self.backend == "iptables" and self.version < "28":
            self.misplaced = [BEHIND]
        return Result(0, "", "")


MakeHost = t.Callable[..., FakeDocker]


@pytest.fixture
def new(tmp_path: Path) -> MakeHost:
    def make(daemon_json: str | None = None, **state: t.Any) -> FakeDocker:
        host = FakeDocker(root=tmp_path, **state)
        if daemon_json is not None:
            host.file.write_text(daemon_json)
        return host

    return make


def repair(host: FakeDocker, check: bool = False, **wishes: t.Any) -> Outcome:
    return Repair(host, Wishes(**wishes), str(host.root)).present(check)


def refused(host: FakeDocker, **wishes: t.Any) -> tuple[str, Repair]:
    job = Repair(host, Wishes(**wishes), str(host.root))
    with pytest.raises(RepairError) as caught:
        job.present(False)
    return str(caught.value), job


def untouched(host: FakeDocker) -> bool:
    """Nothing was started but what reads."""
    return all(call.startswith(("systemctl show", "/usr/sbin/dockerd --validate")) for call in host.calls)


@pytest.mark.parametrize("check", [False, True])
def test_a_healthy_host_is_only_read(new: MakeHost, check: bool) -> None:
    host = new()
    assert repair(host, check) == Outcome()
    assert host.calls == []


@pytest.mark.parametrize("check", [False, True])
def test_a_docker_that_does_not_run_is_left_alone(new: MakeHost, check: bool) -> None:
    host = new(running=False, lost=[GONE])
    assert repair(host, check, force=True) == Outcome()
    assert host.calls == []


@pytest.mark.parametrize("text", [None, "", '{"icc":false}', '{"live-restore": false}'])
def test_containers_run_on_and_the_file_is_the_same(new: MakeHost, text: str | None) -> None:
    host = new(text, lost=[GONE])
    said = repair(host, check=True)
    assert untouched(host) and host.lost
    out = repair(host)
    assert (out.changed, out.missing, out.method) == (True, [GONE], "temporary_live_restore")
    assert out.actions == said.actions == KEEPS_RUNNING
    assert host.containers["web"].runs and not out.stopped and not out.warnings
    assert not host.live and not host.lost and not host.misplaced
    assert (host.file.read_text() if host.file.exists() else None) == text
    assert [json.loads(seen)["live-restore"] for seen in host.seen_files] == [True, True, False]
    assert not (host.root / RECORD.lstrip("/")).exists()
    assert repair(host) == Outcome()


def test_live_restore_as_it_is(new: MakeHost) -> None:
    host = new('{"live-restore": true}', lost=[GONE], live=True)
    out = repair(host)
    assert (out.method, out.actions) == ("live_restore", ["restart Docker", KEEPS_RUNNING[2]])
    assert host.live and host.containers["web"].runs


def test_live_restore_in_the_file_that_docker_has_not_read(new: MakeHost) -> None:
    text = '{"live-restore": true}'
    host = new(text, lost=[GONE])
    out = repair(host)
    assert out.method == "temporary_live_restore" and host.containers["web"].runs
    assert host.live and host.file.read_text() == text


def test_the_jump_alone_needs_no_restart(new: MakeHost) -> None:
    host = new(misplaced=[BEHIND])
    assert repair(host, check=True).actions == [KEEPS_RUNNING[2]]
    out = repair(host)
    assert (out.method, out.actions, out.missing) == ("docker_user", [KEEPS_RUNNING[2]], [BEHIND.text])
    assert host.calls == ["nft -f -"]


def test_what_comes_back_by_itself_is_not_repaired(new: MakeHost) -> None:
    """Docker may be in the middle of starting a container."""
    host = new(lost=[GONE], heals_at=0.9)
    assert repair(host) == Outcome(seconds=1.0)
    assert host.calls == []


def test_method_none_only_looks(new: MakeHost) -> None:
    host = new(lost=[GONE])
    assert repair(host, method="none") == Outcome(missing=[GONE])
    assert host.calls == []


def test_force_restarts_a_healthy_docker(new: MakeHost) -> None:
    host = new()
    out = repair(host, force=True)
    assert out.changed and out.actions == KEEPS_RUNNING and out.missing == []
    assert host.pid == 101


def test_an_engine_that_sees_to_docker_user_itself(new: MakeHost) -> None:
    host = new(version="28.5.2", lost=[GONE])
    assert KEEPS_RUNNING[2] not in repair(host).actions


def test_the_nftables_backend(new: MakeHost) -> None:
    host = new(version="29.7.2", backend="nftables+firewalld", lost=[GONE], firewalld_since=100)
    out = repair(host)
    assert out.method == "temporary_live_restore" and "firewall-cmd --reload" not in host.calls


# -- where containers would stop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wishes", "reason"),
    [
        ({"swarm": "active"}, {}, "part of a swarm"),
        ({"swarm": "locked"}, {}, "part of a swarm"),
        ({"flags": {"live-restore": False}}, {}, "--live-restore is on dockerd's command line"),
        ({}, {"live_restore": "as_configured"}, "live_restore is as_configured"),
    ],
)
def test_containers_are_not_stopped_without_permission(
    new: MakeHost, state: dict[str, t.Any], wishes: dict[str, t.Any], reason: str
) -> None:
    containers = {"web": Container(), "job": Container(restarts=False), "once": Container(restarts=False, removed=True)}
    host = new("{}", lost=[GONE], containers=containers, **state)
    text, job = refused(host, **wishes)
    assert reason in text and "(job, once, web)" in text and "allow_container_restart" in text
    assert untouched(host) and job.out.actions == []
    with pytest.raises(RepairError):
        repair(host, check=True, **wishes)

    out = repair(host, allow_container_restart=True, **wishes)
    assert out.method == "container_restart"
    assert (out.started, out.stopped) == (["job"], ["once"])
    assert out.actions == ["restart Docker", "start container job"]
    assert "once" in out.warnings[0] and "No such container" in out.warnings[0]
    assert host.file.read_text() == "{}"


def test_stopped_containers_are_named(new: MakeHost) -> None:
    host = new(lost=[GONE], swarm="active", containers={"web": Container(), "job": Container(restarts=False)})
    out = repair(host, allow_container_restart=True, start_stopped=False)
    assert (out.started, out.stopped, out.warnings) == ([], ["job"], [])


def test_many_names_are_cut(new: MakeHost) -> None:
    host = new(lost=[GONE], swarm="active", containers={f"c{number:02}": Container() for number in range(15)})
    text, _job = refused(host)
    assert "c09 and 5 more)" in text


def test_without_containers_nothing_is_asked(new: MakeHost) -> None:
    host = new(lost=[GONE], swarm="active", containers={})
    out = repair(host)
    assert (out.method, out.actions) == ("restart", ["restart Docker"])


# -- firewalld ---------------------------------------------------------------------------------------------------------


def test_a_reload_of_firewalld_is_enough(new: MakeHost) -> None:
    host = new(lost=[GONE], firewalld_since=100)
    assert repair(host, check=True).actions == ["reload firewalld"]
    out = repair(host)
    assert (out.method, out.actions) == ("firewalld_reload", ["reload firewalld"])
    assert host.pid == 100


def test_a_docker_that_does_not_hear_of_it_is_restarted(new: MakeHost) -> None:
    host = new(lost=[GONE], firewalld_since=100, hears=False)
    out = repair(host)
    assert (out.method, out.actions) == ("temporary_live_restore", ["reload firewalld", *KEEPS_RUNNING])


@pytest.mark.parametrize(("since", "wishes"), [(900, {}), (100, {"method": "restart"})])
def test_firewalld_is_not_reloaded(new: MakeHost, since: int, wishes: dict[str, t.Any]) -> None:
    """It came after Docker, or the method says so."""
    host = new(lost=[GONE], firewalld_since=since)
    assert repair(host, **wishes).actions == KEEPS_RUNNING
    assert "firewall-cmd --reload" not in host.calls


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_daemon_that_stays_down(new: MakeHost) -> None:
    host = new('{"icc":false}', lost=[GONE], never_starts=True)
    text, job = refused(host)
    assert text.startswith("Docker did not come up again after a restart. The containers run on;")
    assert text.count("\nline ") == 15 and "line 39" in text and max(map(len, text.splitlines()[1:])) <= 300
    assert host.file.read_text() == '{"icc":false}'
    assert not (host.root / RECORD.lstrip("/")).exists()
    assert job.out.actions[-1] == "put daemon.json back and live-restore off"


def test_rules_that_do_not_come_back(new: MakeHost) -> None:
    host = new(lost=[GONE], never_restores=True)
    text, _job = refused(host, timeout=5)
    assert "5 seconds later its rules are not all back: " + GONE in text
    assert 5 < host.clock < 8 and not host.live and not host.file.exists()


def test_a_daemon_that_does_not_hear_a_reload_is_not_restarted(new: MakeHost) -> None:
    host = new(lost=[GONE], deaf_to_reload=True)
    text, job = refused(host)
    assert text.startswith("Docker did not switch live-restore on when it was told to.")
    assert "systemctl restart docker.service" not in host.calls and host.pid == 100
    assert not host.file.exists()
    assert job.out.actions == [KEEPS_RUNNING[0], KEEPS_RUNNING[3]]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {"daemon_error": "/etc/docker/daemon.json: line 1: no"},
            "would not start again: /etc/docker/daemon.json: line",
        ),
        ({"refuses": "unknown directive: x"}, "would not start with its configuration: unknown directive: x"),
        ({"unit_pid": 7}, "(process 100) is not the one of docker.service"),
    ],
)
@pytest.mark.parametrize("wishes", [{}, {"force": True}])
def test_no_restart_that_would_go_wrong(
    new: MakeHost, state: dict[str, t.Any], expected: str, wishes: dict[str, t.Any]
) -> None:
    host = new(lost=[GONE], **state)
    text, job = refused(host, **wishes)
    assert expected in text and untouched(host) and job.out.actions == []


def test_an_old_engine_is_not_asked_to_validate(new: MakeHost) -> None:
    host = new(version="20.10.24+dfsg1", lost=[GONE], refuses="unknown flag: --validate")
    assert repair(host).actions == KEEPS_RUNNING


@pytest.mark.parametrize("running", [True, False])
def test_what_a_killed_run_left_is_put_back_first(new: MakeHost, running: bool) -> None:
    host = new('{"icc":false}', running=running)
    DaemonFile(DAEMON_JSON, str(host.root)).switch_on()
    host.live = True
    said = repair(host, check=True)
    assert "live-restore" in host.file.read_text() and host.live
    out = repair(host)
    assert out.actions == said.actions == [f"put {DAEMON_JSON} back, which an earlier run could not"]
    assert host.file.read_text() == '{"icc":false}' and out.changed
    assert host.live is not running
    assert repair(host) == Outcome()


def test_method_none_leaves_even_that(new: MakeHost) -> None:
    host = new("{}")
    DaemonFile(DAEMON_JSON, str(host.root)).switch_on()
    out = repair(host, method="none")
    assert not out.changed and DAEMON_JSON in out.warnings[0]
    assert "live-restore" in host.file.read_text() and host.calls == []


def test_a_file_changed_meanwhile_is_a_warning(new: MakeHost) -> None:
    host = new("{}")
    DaemonFile(DAEMON_JSON, str(host.root)).switch_on()
    host.file.write_text('{"live-restore": true, "icc": false}')
    host.live = True
    out = repair(host)
    assert "changed by somebody" in out.warnings[0]
    assert host.file.read_text() == '{"live-restore": true, "icc": false}' and host.live


def test_a_record_that_cannot_be_read_stops_the_run(new: MakeHost) -> None:
    host = new(lost=[GONE])
    record = host.root / RECORD.lstrip("/")
    record.parent.mkdir(parents=True)
    record.write_text("{")
    text, _job = refused(host)
    assert RECORD in text and host.calls == []
