# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import (
    RECORD,
    DaemonFile,
    LiveRestoreError,
    with_live_restore,
)

PATH = "/etc/docker/daemon.json"
TEXTS = {
    "plain": b'{\n  "icc": false\n}\n',
    "odd spaces, no last line end": b'\t{"log-opts" : {"max-size":"10m"},\r\n"icc":false }',
    "byte order mark": b'\xef\xbb\xbf{"icc": false}\n',
    "off in it": b'{"live-restore": false}\n',
    "off in it, as it is written here": b'{\n  "live-restore": false\n}\n',
    "not ASCII": '{"labels": ["ort=Köln"]}'.encode(),
    "empty": b"",
    "only a line end": b"\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / PATH.lstrip("/")
    place.parent.mkdir(parents=True)
    return place


def record(root: Path) -> Path:
    return root / RECORD.lstrip("/")


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o640])
def test_there_and_back(place: Path, tmp_path: Path, name: str, mode: int) -> None:
    place.write_bytes(TEXTS[name])
    place.chmod(mode)
    file = DaemonFile(PATH, str(tmp_path))

    kept = file.switch_on()
    assert json.loads(place.read_text())["live-restore"] is True
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert stat.S_IMODE(record(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(record(tmp_path).parent.stat().st_mode) == 0o700

    assert file.switch_off(kept)
    assert json.loads(place.read_text())["live-restore"] is False

    assert file.put_back(kept) is None
    assert place.read_bytes() == TEXTS[name]
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert not record(tmp_path).parent.exists()
    assert [entry.name for entry in place.parent.iterdir()] == ["daemon.json"]


def test_a_file_that_was_not_there_is_gone_again(place: Path, tmp_path: Path) -> None:
    file = DaemonFile(PATH, str(tmp_path))
    kept = file.switch_on()
    assert place.read_text() == '{\n  "live-restore": true\n}\n'
    assert file.put_back(kept) is None
    assert not place.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(place: Path, tmp_path: Path) -> None:
    place.write_text("{}")
    os.chown(place, 12, 34)
    file = DaemonFile(PATH, str(tmp_path))
    kept = file.switch_on()
    assert (place.stat().st_uid, place.stat().st_gid) == (12, 34)
    file.put_back(kept)
    assert (place.stat().st_uid, place.stat().st_gid) == (12, 34)


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing yet"])
def test_a_link_stays_a_link(place: Path, tmp_path: Path, there: bool) -> None:
    real = tmp_path / "real.json"
    if there:
        real.write_text('{"icc": false}')
    place.symlink_to(real)
    file = DaemonFile(PATH, str(tmp_path))
    kept = file.switch_on()
    assert "live-restore" in real.read_text()
    file.put_back(kept)
    assert place.is_symlink()
    assert real.exists() == there and (not there or real.read_text() == '{"icc": false}')


@pytest.mark.parametrize("step", ["switched on", "switched off", "put back"])
def test_the_next_run_finishes_what_a_crash_left(place: Path, tmp_path: Path, step: str) -> None:
    place.write_bytes(TEXTS["plain"])
    file = DaemonFile(PATH, str(tmp_path))
    kept = file.switch_on()
    if step == "switched off":
        file.switch_off(kept)
    elif step == "put back":
        place.write_bytes(TEXTS["plain"])

    later = DaemonFile("", str(tmp_path))
    found = later.kept()
    assert found == kept
    assert later.switch_off(kept) is (step != "put back")
    assert later.put_back(kept) is None
    assert place.read_bytes() == TEXTS["plain"]
    assert later.kept() is None


def test_what_somebody_wrote_meanwhile_is_left(place: Path, tmp_path: Path) -> None:
    place.write_text("{}")
    file = DaemonFile(PATH, str(tmp_path))
    kept = file.switch_on()
    place.write_text('{"live-restore": true, "icc": false}')
    assert not file.switch_off(kept)
    warning = file.put_back(kept)
    assert warning is not None and "changed by somebody" in warning
    assert place.read_text() == '{"live-restore": true, "icc": false}'
    assert file.kept() is None


@pytest.mark.parametrize("text", ["[1]", "{", '"x"'])
def test_a_broken_file_is_left_alone(place: Path, tmp_path: Path, text: str) -> None:
    place.write_text(text)
    with pytest.raises(LiveRestoreError, match="daemon.json cannot be changed"):
        DaemonFile(PATH, str(tmp_path)).switch_on()
    assert place.read_text() == text
    assert not record(tmp_path).exists()


def test_a_file_that_cannot_be_written_leaves_no_record(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_text("{}")
    write = _files.write

    def refuse(path: str, text: str, mode: int) -> None:
        if path.endswith("daemon.json"):
            raise OSError(30, "Read-only file system")
        write(path, text, mode)

    monkeypatch.setattr(_files, "write", refuse)
    with pytest.raises(LiveRestoreError, match="Read-only"):
        DaemonFile(PATH, str(tmp_path)).switch_on()
    assert not record(tmp_path).exists()


def test_a_device_is_not_replaced(place: Path, tmp_path: Path) -> None:
    place.symlink_to("/dev/null")
    with pytest.raises(LiveRestoreError, match="no regular file"):
        DaemonFile(PATH, str(tmp_path)).switch_on()
    assert place.is_symlink() and not Path("/dev/null").is_file()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": "/x"}', '{"path": "/x", "surprise": 1}'])
def test_a_record_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    record(tmp_path).parent.mkdir(parents=True)
    record(tmp_path).write_text(text)
    with pytest.raises(LiveRestoreError, match="daemon.json.kept"):
        DaemonFile("", str(tmp_path)).kept()


def test_only_an_object_takes_a_key() -> None:
    assert with_live_restore('{"a": 1}', True) == '{\n  "a": 1,\n  "live-restore": true\n}\n'
    with pytest.raises(ValueError, match="not a list"):
        with_live_restore("[]", True)
