# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Apply
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import TextError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import TableError
from ansible_collections.bulkhead.docker_nftables.tests.unit.fake_host import FakeHost

CONF = b"#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n}\n"
KEY = ("inet", "x")


def table(rule: str, name: str = "x") -> str:
    return f"table inet {name} {{\n\tchain c {{\n\t\t{rule}\n\t}}\n}}\n"


ONE, TWO = table("tcp dport 1 accept"), table("tcp dport 2 accept")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/nftables.conf").write_bytes(CONF)
    return FakeHost(tmp_path)


def job(host: FakeHost, name: str = "x", boot: bool = True) -> Apply:
    return Apply(host, "inet", name, boot, str(host.root))


def settle(host: FakeHost, text: str = ONE, name: str = "x") -> None:
    job(host, name).present(text, False, 0)
    host.events.clear()


def pending(host: FakeHost, text: str = TWO) -> str:
    outcome = job(host).present(text, False, 30)
    assert outcome.confirmation is not None and outcome.confirmation["seconds"] == 30
    return str(outcome.confirmation["token"])


def test_without_a_confirmation_it_is_live_and_on_disk_at_once(host: FakeHost) -> None:
    outcome = job(host).present(ONE, False, 0)
    assert outcome.actions == [
        "create table inet x",
        "write /etc/bulkhead/flush.conf",
        "write /etc/bulkhead/load.conf",
        "write /etc/bulkhead/tables/inet-x.nft",
        "write /etc/nftables.conf",
        "write /etc/systemd/system/bulkhead.service",
        "write /etc/systemd/system/nftables.service.d/bulkhead.conf",
        "enable bulkhead.service",
    ]
    assert host.tables[KEY] == ONE and host.enabled == {"bulkhead.service"}
    saved = host.root / "etc/bulkhead/tables/inet-x.nft"
    assert saved.read_text() == f"table inet x\ndelete table inet x\n{ONE}"
    assert (saved.stat().st_mode & 0o777, saved.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [event for event in host.events if event in ("load", "arm", "enable")] == ["load", "enable"]


def test_a_second_run_changes_nothing(host: FakeHost) -> None:
    settle(host)
    for check in (True, False):
        outcome = job(host).present(ONE, check, 30)
        assert (outcome.changed, outcome.diff, outcome.confirmation) == (False, [], None)
    assert host.events == []


def test_check_mode_says_what_the_run_then_does_and_leaves_no_trace(host: FakeHost) -> None:
    before = host.files()
    said = job(host).present(ONE, True, 30)
    assert host.files() == before and not host.tables and not (host.root / "run/bulkhead").exists()
    done = job(host).present(ONE, False, 30)
    assert (said.actions, said.diff) == (done.actions, done.diff)
    assert said.confirmation is None


def test_a_hand_edit_is_found_and_repaired(host: FakeHost) -> None:
    settle(host)
    host.tables[KEY] = table("accept")
    outcome = job(host).present(ONE, False, 0)
    assert outcome.actions == ["replace table inet x"] and host.tables[KEY] == ONE
    assert outcome.diff[0]["before"] == table("accept")


@pytest.mark.parametrize(
    ("path", "edit"),
    [
        ("etc/bulkhead/tables/inet-x.nft", b""),
        ("etc/bulkhead/flush.conf", None),
        ("etc/nftables.conf", CONF),
        ("etc/systemd/system/nftables.service.d/bulkhead.conf", b"[Service]\n"),
    ],
)
def test_a_file_that_differs_is_written_again_and_nothing_is_loaded(
    host: FakeHost, path: str, edit: bytes | None
) -> None:
    settle(host)
    wanted = host.files()
    target = host.root / path
    if edit is None:
        target.unlink()
    else:
        target.write_bytes(edit)
    outcome = job(host).present(ONE, False, 30)
    assert outcome.actions == [f"write /{path}"] and outcome.confirmation is None
    assert host.files() == wanted and "load" not in host.events


def test_the_timer_runs_before_the_table_is_loaded_and_nothing_is_on_disk(host: FakeHost) -> None:
    settle(host)
    before = host.files()
    pending(host)
    assert [event for event in host.events if event in ("arm", "load")] == ["arm", "load"]
    assert host.tables[KEY] == TWO and host.files() == before


def test_confirmed(host: FakeHost) -> None:
    settle(host)
    token = pending(host)
    outcome = job(host).confirm(TWO, token)
    assert outcome.actions == ["confirm table inet x"]
    assert not host.timers and host.tables[KEY] == TWO
    assert TWO in (host.root / "etc/bulkhead/tables/inet-x.nft").read_text()
    assert not list((host.root / "run/bulkhead").glob("*.pending")) + list((host.root / "run/bulkhead").glob("*.nft"))
    assert job(host).present(TWO, False, 30).changed is False


@pytest.mark.parametrize("first", [False, True])
def test_not_confirmed_it_is_as_before(host: FakeHost, first: bool) -> None:
    if not first:
        settle(host)
    host.tables["ip", "nat"] = "table ip nat {\n}\n"
    before, files = dict(host.tables), host.files()
    token = pending(host)
    host.tables["ip", "docker"] = "table ip docker {\n}\n"
    host.fire()
    assert host.tables == {**before, ("ip", "docker"): "table ip docker {\n}\n"} and host.files() == files
    with pytest.raises(RevertError, match="^the confirmation came too late: the host has put back the table it had"):
        job(host).confirm(TWO, token)
    assert host.files() == files


def test_a_table_that_somebody_changed_meanwhile_is_not_confirmed(host: FakeHost) -> None:
    settle(host)
    files = host.files()
    token = pending(host)
    host.tables[KEY] = table("accept")
    with pytest.raises(RevertError, match="^the table is not what was applied"):
        job(host).confirm(TWO, token)
    assert host.tables[KEY] == ONE and host.files() == files and not host.timers


def test_a_reboot_before_the_confirmation(host: FakeHost) -> None:
    settle(host)
    token = pending(host)
    host.reboot()
    with pytest.raises(RevertError, match="there is no apply with this confirmation on the host"):
        job(host).confirm(TWO, token)
    assert ONE in (host.root / "etc/bulkhead/tables/inet-x.nft").read_text()


def test_put_back_at_once(host: FakeHost) -> None:
    settle(host)
    token = pending(host)
    assert job(host).put_back(token).actions == ["put back table inet x"]
    assert host.tables[KEY] == ONE and not host.timers
    with pytest.raises(RevertError, match="it has already been reverted"):
        job(host).put_back(token)


@pytest.mark.parametrize("verb", ["confirm", "put_back"])
def test_a_wrong_token_changes_nothing(host: FakeHost, verb: str) -> None:
    settle(host)
    pending(host)
    with pytest.raises(RevertError, match="there is no apply with this confirmation on the host"):
        job(host).confirm(TWO, "0" * 32) if verb == "confirm" else job(host).put_back("0" * 32)
    assert host.timers and host.tables[KEY] == TWO


def test_a_second_apply_waits_for_the_first(host: FakeHost) -> None:
    pending(host)
    with pytest.raises(RevertError) as caught:
        job(host).present(ONE, False, 30)
    assert str(caught.value) == (
        "an earlier apply still waits for its confirmation and reverts by itself within 30 seconds of being applied;"
        " try again after that"
    )
    assert host.tables[KEY] == TWO
    host.fire()
    assert job(host).present(ONE, False, 0).changed is True


def test_a_load_that_fails_disarms(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(host)
    files = host.files()
    host.refuse_loads = True
    apply = job(host)
    monkeypatch.setattr(apply, "_normal", lambda text, remember: text)
    with pytest.raises(TableError, match="nft refuses the ruleset"):
        apply.present(TWO, False, 30)
    assert not host.timers and host.tables[KEY] == ONE and host.files() == files
    assert host.events.index("arm") < host.events.index("disarm")


@pytest.mark.parametrize("timeout", [0, 30])
def test_a_text_that_nft_refuses_changes_nothing(host: FakeHost, timeout: int) -> None:
    settle(host)
    files = host.files()
    with pytest.raises(TableError, match="line 1: no"):
        job(host).present(table("BAD"), False, timeout)
    assert host.tables == {KEY: ONE} and host.files() == files and not host.timers


def test_a_text_with_more_than_the_table_is_refused(host: FakeHost) -> None:
    with pytest.raises(TextError, match="flush ruleset"):
        job(host).present(f"flush ruleset\n{ONE}", False, 0)
    assert host.events == []


@pytest.mark.parametrize(
    "content",
    [
        CONF,
        CONF.rstrip(b"\n"),
        b"",
        b"\n",
        b"\n\n",
        CONF.replace(b"\n", b"\r\n"),
        b"# \xff\xfe latin\n",
        b"flush ruleset",
    ],
)
def test_absent_leaves_nothing_and_every_byte_of_the_distributions_file(host: FakeHost, content: bytes) -> None:
    conf = host.root / "etc/nftables.conf"
    conf.write_bytes(content)
    conf.chmod(0o755)
    before = host.files()
    settle(host)
    assert host.files() != before
    assert job(host).present(ONE, False, 0).changed is False
    outcome = job(host).absent(False)
    assert outcome.actions[0] == "delete table inet x"
    assert host.files() == before and conf.stat().st_mode & 0o777 == 0o755
    assert not host.tables and not host.enabled and not (host.root / "run/bulkhead").exists()
    assert sorted(path.name for path in (host.root / "etc").rglob("*")) == ["nftables.conf", "system", "systemd"]
    assert job(host).absent(False).changed is False


def test_lines_that_somebody_added_later_stay(host: FakeHost) -> None:
    conf = host.root / "etc/nftables.conf"
    conf.write_bytes(b"flush ruleset")
    settle(host)
    conf.write_bytes(conf.read_bytes() + b"# mine\n")
    job(host).absent(False)
    assert conf.read_bytes() == b"flush ruleset\n# mine\n"


def test_the_diff_of_a_removal_shows_that_only_our_line_goes(host: FakeHost) -> None:
    settle(host)
    outcome = job(host).absent(True)
    shown = {item["before_header"]: item for item in outcome.diff}
    assert shown["/etc/nftables.conf"]["after"] == CONF.decode()
    assert shown["/etc/systemd/system/bulkhead.service"]["after"] == ""


def test_a_linked_nftables_conf_stays_a_link(host: FakeHost) -> None:
    conf = host.root / "etc/nftables.conf"
    (host.root / "etc/nft.d").mkdir()
    conf.rename(host.root / "etc/nft.d/real.conf")
    conf.symlink_to("nft.d/real.conf")
    before = host.files()
    settle(host)
    assert conf.is_symlink() and b"bulkhead" in conf.read_bytes()
    job(host).absent(False)
    assert host.files() == before


def test_a_host_without_nftables_conf_gets_none(host: FakeHost) -> None:
    (host.root / "etc/nftables.conf").unlink()
    settle(host)
    assert not (host.root / "etc/nftables.conf").exists()
    job(host).absent(False)
    assert host.files() == {}


def test_of_two_tables_one_goes(host: FakeHost) -> None:
    before = host.files()
    settle(host)
    files = host.files()
    settle(host, table("accept", "y"), "y")
    outcome = job(host, "y").absent(False)
    assert outcome.actions == ["delete table inet y", "clean /etc/bulkhead/tables/inet-y.nft"]
    assert host.files() == files and list(host.tables) == [KEY] and host.enabled
    job(host).absent(False)
    assert host.files() == before


def test_absent_in_check_mode(host: FakeHost) -> None:
    settle(host)
    files = host.files()
    said = job(host).absent(True)
    assert host.files() == files and host.tables == {KEY: ONE}
    done = job(host).absent(False)
    assert (said.actions, said.diff) == (done.actions, done.diff)


def test_absent_ends_a_pending_apply(host: FakeHost) -> None:
    settle(host)
    pending(host)
    job(host).absent(False)
    host.fire()
    assert not host.tables


def test_without_boot_nothing_is_written(host: FakeHost) -> None:
    before = host.files()
    job(host, boot=False).present(ONE, False, 0)
    assert host.tables[KEY] == ONE and host.files() == before


@pytest.mark.parametrize(("boot", "timeout", "fails"), [(True, 0, True), (False, 9, True), (False, 0, False)])
def test_without_systemd(host: FakeHost, boot: bool, timeout: int, fails: bool) -> None:
    os.rmdir(host.root / "run/systemd/system")

    def call() -> t.Any:
        return job(host, boot=boot).present(ONE, False, timeout)

    if fails:
        with pytest.raises(BootError, match="^systemd does not run on this host"):
            call()
        assert not host.tables
    else:
        assert call().changed is True


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("nftables v0.9.8 (E.D.S.)\n", "nft 1.0.1 or later is needed (found 0.9.8)"),
        ("nftables v1.0 (x)\n", "nft 1.0.1 or later is needed (found 1.0)"),
        ("what\n", "nft --version printed no version: what"),
        (None, "nft is not installed on this host; install the package nftables"),
    ],
)
def test_nft_that_cannot_be_used(host: FakeHost, version: str | None, message: str) -> None:
    host.version, host.missing = version or "", () if version else ("nft",)
    with pytest.raises(TableError) as caught:
        job(host)
    assert str(caught.value) == message


@pytest.mark.parametrize("path", ["etc/systemd/system/bulkhead.service", "etc/nftables.conf"])
def test_a_link_to_a_device_is_never_replaced(host: FakeHost, path: str) -> None:
    """A masked unit is such a link; following it would put a file in the place of the host's /dev/null."""
    device = host.root / "null"
    os.mkfifo(device)
    (host.root / path).unlink(missing_ok=True)
    (host.root / path).symlink_to(device)
    if path.endswith(".service"):
        with pytest.raises(BootError, match="systemctl unmask"):
            job(host).present(ONE, False, 30)
        assert KEY not in host.tables and not host.timers
    else:
        job(host).present(ONE, False, 0)
    assert device.is_fifo() and (host.root / path).is_symlink()


def test_what_cannot_be_written_does_not_stay_live(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(host)
    before = host.files()
    token = pending(host)
    real = _files.write

    def full(path: str, text: str, mode: int) -> None:
        if TWO in text and "tables" in path:
            raise OSError(28, "No space left on device", path)
        real(path, text, mode)

    monkeypatch.setattr(_files, "write", full)
    with pytest.raises(OSError, match="No space"):
        job(host).confirm(TWO, token)
    assert host.tables[KEY] == ONE and not host.timers
    assert host.files() == before


@pytest.mark.parametrize("first", [True, False], ids=["the first table", "a changed table"])
def test_without_a_confirmation_neither(host: FakeHost, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    if not first:
        settle(host)
    before, tables = host.files(), dict(host.tables)

    real = _files.write

    def full(path: str, text: str, mode: int) -> None:
        if "tables" in path:
            raise OSError(28, "No space left on device", path)
        real(path, text, mode)

    monkeypatch.setattr(_files, "write", full)
    with pytest.raises(OSError, match="No space"):
        job(host).present(TWO, False, 0)
    assert "load" in host.events and host.tables == tables and host.files() == before
