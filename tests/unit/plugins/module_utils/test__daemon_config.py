# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_config as daemon_config
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import (
    DaemonConfigError,
    Host,
    Start,
    backup_path,
    read_file,
    read_start,
    write_file,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import (
    DockerAnswers,
    DockerUnavailable,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    Result,
)

EXEC = "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd %s ; ignore_errors=no ; start_time=[n/a] ; pid=0 }"
DEBIAN = "-H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"


class Programs:
    """Plays systemctl and dockerd; whatever else is asked for is a mistake."""

    def __init__(self, unit: str = "", version: str = "26.1.5+dfsg1", says: str | None = None) -> None:
        self.unit, self.version, self.says = unit, version, says
        self.validated: list[tuple[list[str], str, int, int]] = []
        self.missing: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        return None if name in self.missing else name

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        if argv[0] == "systemctl":
            if not self.unit:
                raise CommandMissing(argv)
            return Result(0, self.unit, "")
        assert argv[0].endswith("dockerd")
        if not self.version:
            raise CommandMissing(argv)
        if argv[1:] == ["--version"]:
            return Result(0, f"Docker version {self.version}, build a72d7cd\n", "")
        assert argv[1:3] == ["--validate", "--config-file"]
        file, directory = os.stat(argv[3]), os.stat(os.path.dirname(argv[3]))
        text = Path(argv[3]).read_text(encoding="utf-8")
        self.validated.append((argv, text, stat.S_IMODE(file.st_mode), stat.S_IMODE(directory.st_mode)))
        if self.says is not None:
            raise CommandError(argv, 1, "", self.says.replace("FILE", argv[3]))
        return Result(0, "", "configuration OK\n")

    def scratch_network(self) -> t.ContextManager[None]:
        raise AssertionError("no rules are tried here")


def unit(line: str, **properties: str) -> str:
    said = {"LoadState": "loaded", "ExecStart": EXEC % line, **properties}
    return "".join(f"{name}={value}\n" for name, value in said.items())


def put(root: Path, path: str, text: str) -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def test_the_command_line_of_the_unit_with_its_variables(tmp_path: Path) -> None:
    put(tmp_path, "/etc/default/docker", '# DOCKER_OPTS="--icc"\nDOCKER_OPTS="--dns 9.9.9.9 --ip=127.0.0.1"\nHOST=x\n\n; y=z\n')
    shown = unit(
        f"{DEBIAN} --label=a=${{HOST}}-${{NOBODY}}",
        Environment='DOCKER_OPTS=--no "A=b c"',
        EnvironmentFiles="/etc/default/docker (ignore_errors=yes)",
    )
    start = read_start(Programs(shown), str(tmp_path))
    assert start.arguments == (
        *("/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock"),
        *("--dns", "9.9.9.9", "--ip=127.0.0.1", "--label=a=x-"),
    )
    assert start.environment["A"] == "b c"


def test_without_systemd_or_its_variables(tmp_path: Path) -> None:
    assert read_start(Programs(), str(tmp_path)) == Start()
    assert read_start(Programs(unit("-D $DOCKER_OPTS")), str(tmp_path)).arguments == ("/usr/sbin/dockerd", "-D")


def host(root: Path, programs: Programs) -> Host:
    return Host(programs, str(root)).look()


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A host on which dockerd runs."""
    put(tmp_path, "/run/docker.pid", "41\n")
    put(tmp_path, "/proc/41/cmdline", "/usr/sbin/dockerd\0-H\0fd://\0--debug\0")
    return tmp_path


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> DockerAnswers:
    info = {
        "ServerVersion": "26.1.5+dfsg1",
        "LiveRestoreEnabled": True,
        "Debug": False,
        "FirewallBackend": {"Driver": "iptables+firewalld"},
        "Swarm": {"LocalNodeState": "inactive"},
    }
    given = DockerAnswers({}, info, [{"Name": "front", "EnableIPv6": True}, {"Name": "bridge", "EnableIPv6": False}], [])
    monkeypatch.setattr(daemon_config, "ask_docker", lambda runner: given)
    return given


def test_a_running_daemon_tells_what_it_has(running: Path, answers: DockerAnswers) -> None:
    put(running, "/proc/sys/net/ipv4/ip_forward", "1\n")
    put(running, "/proc/sys/net/ipv6/conf/all/forwarding", "1\n")
    put(running, "/proc/sys/net/ipv6/conf/default/forwarding", "0\n")
    found = host(running, Programs(unit(DEBIAN)))
    engine = found.engine
    assert (engine.number, engine.text) == ((26, 1, 5), "26.1.5+dfsg1")
    assert engine.flags == {"hosts": ["fd://"], "containerd": ["/run/containerd/containerd.sock"]}
    assert engine.running_flags == {"hosts": ["fd://"], "debug": ["true"]}
    assert (engine.forwarding4, engine.forwarding6, engine.ipv6_networks) == (True, False, ("front",))
    assert engine.tells == {"live-restore": True, "debug": False}, "the backend is no setting before 29.0"
    assert (engine.swarm, engine.nft, engine.br_netfilter, found.warnings) == (False, True, False, [])

    answers.info.update(ServerVersion="29.7.2", Swarm={"LocalNodeState": "active"})
    found = host(running, Programs(unit(DEBIAN)))
    assert found.engine.tells["firewall-backend"] == "iptables" and found.engine.swarm
    assert found.engine.text == "26.1.5+dfsg1" and "29.7.2 still runs" in found.warnings[0]


def test_a_daemon_that_does_not_run_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(runner: object) -> DockerAnswers:
        raise AssertionError("docker.socket would have started it")

    monkeypatch.setattr(daemon_config, "ask_docker", ask)
    found = host(tmp_path, Programs(unit(DEBIAN)))
    assert not found.running and found.engine.number == (26, 1, 5) and found.engine.tells == {}
    assert (found.engine.swarm, found.engine.forwarding4, found.engine.forwarding6) == (False, None, None)
    put(tmp_path, "/var/lib/docker/swarm/docker-state.json", "{}")
    assert host(tmp_path, Programs(unit(DEBIAN))).engine.swarm


def test_a_daemon_that_cannot_be_asked_is_a_warning(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(runner: object) -> DockerAnswers:
        raise DockerUnavailable("sdk_missing", "the Docker SDK for Python is missing")

    monkeypatch.setattr(daemon_config, "ask_docker", ask)
    found = host(running, Programs(unit(DEBIAN)))
    assert "SDK for Python is missing" in found.warnings[0] and found.engine.number == (26, 1, 5)


def test_without_docker(tmp_path: Path) -> None:
    programs = Programs(version="")
    programs.missing = ("dockerd", "nft")
    found = host(tmp_path, programs)
    assert found.engine.number == () and not found.validates and not found.engine.nft
    assert "Docker is not installed" in found.warnings[0]
    assert found.path() == "/etc/docker/daemon.json"


def test_the_file_of_the_unit(tmp_path: Path) -> None:
    assert host(tmp_path, Programs(unit("--config-file /srv/d.json"))).path() == "/srv/d.json"


def test_dockerd_looks_at_a_private_file_with_the_flags_of_the_unit(tmp_path: Path) -> None:
    programs = Programs(unit("-H fd:// --config-file /srv/d.json --config-file=/x -D"))
    found = host(tmp_path, programs)
    assert found.validates
    assert found.objection('{"ü": 1}', "/srv/d.json") is None
    ((argv, text, mode, directory),) = programs.validated
    assert argv[4:] == ["-H", "fd://", "-D"]
    assert (text, mode, directory) == ('{"ü": 1}', 0o600, 0o700)
    assert not os.path.exists(os.path.dirname(argv[3]))

    programs.says = "unable to configure the Docker daemon with file FILE: odd\nhttp://me:secret@proxy\n"
    assert found.objection("{}", "/srv/d.json") == (
        "unable to configure the Docker daemon with file /srv/d.json: odd http://***@proxy"
    )
    assert not os.path.exists(os.path.dirname(programs.validated[-1][0][3]))


def test_old_engines_validate_nothing(tmp_path: Path) -> None:
    assert not host(tmp_path, Programs(unit(DEBIAN), version="20.10.24+dfsg1")).validates


# -- the file ----------------------------------------------------------------------------------------------------------


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "docker/daemon.json"
    assert write_file(str(path), read_file(str(path)), "{}\n", backup=True) is None
    assert path.read_text() == "{}\n" and mode_of(path) == 0o644


@pytest.mark.parametrize(("before", "after"), [(0o640, 0o640), (0o600, 0o600), (0o666, 0o664)])
def test_the_mode_is_kept_but_never_writable_for_all(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("old")
    path.chmod(before)
    write_file(str(path), read_file(str(path)), "new", backup=False)
    assert path.read_text() == "new" and mode_of(path) == after
    assert list(tmp_path.iterdir()) == [path]


def test_a_content_is_kept_once_and_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    for text in ("one", "two", "one", "two"):
        path.write_text(text)
        kept = write_file(str(path), read_file(str(path)), "three", backup=True)
        assert kept == backup_path(str(path), text) and Path(kept).read_text() == text and mode_of(kept) == 0o600
    assert len(list(tmp_path.iterdir())) == 3


def test_a_copy_that_is_a_trap_is_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "daemon.json", tmp_path / "other"
    path.write_text("one")
    other.write_text("one")
    kept = Path(backup_path(str(path), "one"))
    kept.symlink_to(other)
    write_file(str(path), read_file(str(path)), "two", backup=True)
    assert not kept.is_symlink() and kept.read_text() == "one" and mode_of(kept) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, there = tmp_path / "daemon.json", tmp_path / "there.json"
    there.write_text("one")
    path.symlink_to(there)
    write_file(str(path), read_file(str(path)), "two", backup=False)
    assert path.is_symlink() and there.read_text() == "two"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DaemonConfigError, match="cannot be read"):
        read_file(str(tmp_path))
    link = tmp_path / "daemon.json"
    link.symlink_to("/dev/null")
    with pytest.raises(DaemonConfigError, match="no regular file"):
        read_file(str(link))


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file/daemon.json")
    with pytest.raises(DaemonConfigError, match="cannot be written"):
        write_file(path, daemon_config.Found(None), "{}", backup=True)
