# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import Engine
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import Host
from ansible_collections.bulkhead.docker_nftables.plugins.modules import docker_daemon_config

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]
OLD = '{\n    "log-opts": {"tag": "x"},\n    "mtu": 1400,\n    "debug": true\n}\n'


class Played:
    """A host whose dockerd says what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        self.engine = Engine((26, 1, 5), "26.1.5", forwarding4=True, forwarding6=True)
        self.says: str | None = None
        self.asked: list[str] = []
        played = self

        def look(self: Host) -> Host:
            self.engine = played.engine
            return self

        def objection(self: Host, text: str, path: str) -> str | None:
            played.asked.append(text)
            return played.says

        monkeypatch.setattr(Host, "look", look)
        monkeypatch.setattr(Host, "objection", objection)
        monkeypatch.setattr(Host, "path", lambda self: str(played.path))
        monkeypatch.setattr(Host, "validates", property(lambda self: self.engine.number >= (23, 0)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.json"
    path.write_text(OLD)
    return path


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, file: Path) -> Played:
    return Played(monkeypatch, file)


@pytest.fixture
def run(played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main() as root and give back its exit code and its result."""
    monkeypatch.setattr(docker_daemon_config.os, "geteuid", lambda: 0)

    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            docker_daemon_config.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def test_check_mode_says_what_the_run_then_does(run: Run, file: Path, played: Played) -> None:
    wanted = {"settings": {"ip": "127.0.0.1", "log-opts": {"max-file": "3"}}, "remove": ["debug"]}
    code, said = run(check=True, **wanted)
    assert (code, said["changed"], said["backup_file"]) == (0, True, None)
    assert file.read_text() == OLD and list(file.parent.iterdir()) == [file]

    code, done = run(**wanted)
    backup = done.pop("backup_file")
    for result in (said, done):
        # Ansible adds these of every path in a result.
        for name in ("invocation", "backup_file", "size"):
            result.pop(name, None)
    assert done == said
    assert file.read_text() == done["diff"]["after"] == played.asked[-1]
    assert json.loads(file.read_text()) == {
        "log-opts": {"tag": "x", "max-file": "3"},
        "mtu": 1400,
        "ip": "127.0.0.1",
    }
    assert file.read_text().startswith('{\n    "log-opts": {\n        "tag"')
    assert Path(backup).read_text() == OLD
    assert [(each["key"], each["needs"]) for each in done["keys_changed"]] == [
        ("log-opts", "restart"),
        ("debug", "restart"),
        ("ip", "restart_without_containers"),
    ]
    assert done["needs"] == "restart_without_containers"
    assert done["engine_version"] == "26.1.5"

    code, again = run(**wanted)
    assert (again["changed"], again["needs"], again["backup_file"], again["keys_changed"]) == (False, "nothing", None, [])


def test_nothing_to_change_leaves_the_bytes_alone(run: Run, file: Path) -> None:
    before = file.stat()
    code, result = run(settings={"mtu": 1400})
    assert (code, result["changed"]) == (0, False)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_was_never_applied_is_pending(run: Run, played: Played) -> None:
    played.engine = Engine((26, 1, 5), "26.1.5", tells={"debug": False})
    _code, result = run(settings={"debug": True})
    assert (result["changed"], result["needs"]) == (False, "reload")
    assert result["pending"] == [{"key": "debug", "before": False, "after": True, "needs": "reload"}]


def test_all_mistakes_at_once_and_nothing_changed(run: Run, file: Path, played: Played) -> None:
    code, result = run(settings={"firewall-backend": "nftables", "icc": "false"}, remove=["icc"])
    assert code == 1 and file.read_text() == OLD and list(file.parent.iterdir()) == [file]
    assert "there are 3 mistakes:\n- remove: icc" in result["msg"]
    assert len(result["errors"]) == 3 and "settings.firewall-backend: Docker knows this key from 29.0 on" in result["msg"]
    assert played.asked == [], "what is known to be wrong needs no dockerd to look at it"


def test_what_dockerd_says_counts(run: Run, file: Path, played: Played) -> None:
    played.says = "odd"
    code, result = run(settings={"mtu": 1300})
    assert code == 1 and file.read_text() == OLD
    assert "dockerd 26.1.5 does not find it valid: odd" in result["msg"]
    assert run(settings={"mtu": 1300}, validate=False)[0] == 0
    played.engine = Engine((20, 10, 24), "20.10.24")
    assert run(settings={"mtu": 1200})[0] == 0
    assert len(played.asked) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "icc": }\n', "line 2, column 10"),
        ('{\n  "icc": true, // x\n}', "JSON has no comments"),
        ('{"icc": true, "icc": true}', "twice"),
        ("[]", "an object with settings"),
    ],
)
def test_a_broken_file_is_left_as_it_is(run: Run, file: Path, text: str, said: str) -> None:
    file.write_text(text)
    code, result = run(settings={"debug": True})
    assert code == 1 and said in result["msg"] and "correct the file first" in result["msg"]
    assert file.read_text() == text


def test_another_path(run: Run, file: Path) -> None:
    other = file.parent / "other.json"
    code, result = run(path=str(other), settings={"debug": True})
    assert (code, result["path"]) == (0, str(other))
    assert json.loads(other.read_text()) == {"debug": True}
    assert f"Docker reads {file}, not {other}." in json.dumps(result["warnings"])


def test_no_backup_when_none_is_wanted(run: Run, file: Path) -> None:
    assert run(settings={"mtu": 1300}, backup=False)[1]["backup_file"] is None
    assert list(file.parent.iterdir()) == [file]


def test_passwords_are_in_no_result(run: Run, file: Path) -> None:
    code, result = run(settings={"proxies": {"http-proxy": "http://me:secret@proxy"}})
    result.pop("invocation")
    assert code == 0 and "secret" not in json.dumps(result) and "secret" in file.read_text()


def test_only_root_may(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_daemon_config.os, "geteuid", lambda: 1000)
    code, result = run()
    assert code == 1 and "use become" in result["msg"]


def test_an_old_engine_gets_no_byte_order_mark(run: Run, file: Path, played: Played) -> None:
    file.write_text("\ufeff" + OLD)
    assert run()[1]["changed"] is False and file.read_text() == "\ufeff" + OLD
    played.engine = Engine((20, 10, 24), "20.10.24")
    _code, result = run()
    assert (result["changed"], result["keys_changed"], result["needs"]) == (True, [], "nothing")
    assert file.read_text() == OLD.replace('{"tag": "x"}', '{\n        "tag": "x"\n    }')
