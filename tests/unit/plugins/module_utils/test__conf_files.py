# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import INCLUDE, Boot, BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatTable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import HEADER
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_files import ConfFiles
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout, text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Result
from ansible_collections.bulkhead.docker_nftables.tests.unit.fake_host import FakeHost

PATH = "/etc/nftables.conf"
OURS = f"#!/usr/sbin/nft -f\n{HEADER} x\n{INCLUDE}\n"
MANAGED = "# Managed by Ansible, module bulkhead.docker_nftables.nftables_conf. Changes made here are replaced.\n"
SHARED = {
    ("ip", "filter"): CompatTable(
        bases={"INPUT": ("filter", "input", "filter")},
        policies={"INPUT": "drop"},
        own={"BULKHEAD-INPUT": ["accept"], "BULKHEAD-DOCKER-USER": ["drop"]},
        plain=["DOCKER-USER"],
        jumps=[("INPUT", "BULKHEAD-INPUT"), ("DOCKER-USER", "BULKHEAD-DOCKER-USER")],
    ),
    ("ip", "nat"): CompatTable(bases={"OUTPUT": ("nat", "output", "-100")}),
}
DROP_IN = "/etc/systemd/system/nftables.service.d/nftables_conf.conf"
UNIT_DROP_IN = "/etc/systemd/system/bulkhead.service.d/nftables_conf.conf"
JUMPS = ["/etc/bulkhead/jump-ip-filter-BULKHEAD-INPUT.conf", "/etc/bulkhead/jump-ip-filter-BULKHEAD-DOCKER-USER.conf"]


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/nftables.conf").write_text("flush ruleset\n")
    return FakeHost(tmp_path)


def conf_files(host: FakeHost, path: str = PATH) -> ConfFiles:
    return ConfFiles(host, Boot(host, str(host.root)), path, str(host.root))


def wanted(host: FakeHost, shared: t.Any = None, further: t.Any = None, body: str = OURS) -> dict[str, tuple[str, int]]:
    layout = Layout("own_table", "x")
    return conf_files(host).wanted(("inet", "x"), "SAVED\n", body, layout, shared or {}, further or {})


def test_the_files_of_the_own_table_alone(host: FakeHost) -> None:
    files = wanted(host)
    assert {path: mode for path, (_text, mode) in files.items()} == {
        "/etc/bulkhead/flush.conf": 0o600,
        "/etc/bulkhead/layout.json": 0o600,
        "/etc/bulkhead/load.conf": 0o600,
        "/etc/bulkhead/tables/inet-x.nft": 0o600,
        PATH: 0o700,
        "/etc/systemd/system/bulkhead.service": 0o644,
        "/etc/systemd/system/nftables.service.d/bulkhead.conf": 0o644,
        DROP_IN: 0o644,
    }
    assert files[PATH][0] == OURS and files["/etc/bulkhead/tables/inet-x.nft"][0] == "SAVED\n"
    assert files["/etc/bulkhead/layout.json"][0] == text(Layout("own_table", "x"))
    assert files[DROP_IN][0] == (
        f"{MANAGED}# No start, reload or stop of this service flushes tables of Docker or of other tools.\n"
        "[Unit]\nBefore=docker.service\n\n[Service]\nExecStart=\n"
        f"ExecStart=/usr/sbin/nft -f {PATH}\nExecReload=\nExecReload=/usr/sbin/nft -f {PATH}\nExecStop=\n"
    )


def settings(unit: str) -> list[str]:
    return re.findall(r"^(Exec\w+=.*)$", unit, re.M)


def test_what_the_service_starts_and_reloads(host: FakeHost) -> None:
    loads = ["/usr/sbin/nft -f /etc/bulkhead/reload.conf", *(f"-/usr/sbin/nft -f {path}" for path in JUMPS)]
    files = wanted(host, SHARED)
    found = settings(files[DROP_IN][0])
    assert [line for line in found if line.startswith("ExecStart=")] == ["ExecStart=", *(f"ExecStart={x}" for x in loads)]
    assert [line for line in found if line.startswith("ExecReload=/") or line.startswith("ExecReload=-")] == [
        f"ExecReload={load}" for load in loads
    ]
    # An empty setting takes away what the distribution's unit and the other drop-in say: a stop that flushes.
    assert found[-1] == "ExecStop="
    assert settings(files[UNIT_DROP_IN][0]) == [f"ExecStartPost={load}" for load in loads]
    assert {path: files[path][1] for path in (DROP_IN, UNIT_DROP_IN, *JUMPS, "/etc/bulkhead/reload.conf")} == {
        DROP_IN: 0o644,
        UNIT_DROP_IN: 0o644,
        **dict.fromkeys([*JUMPS, "/etc/bulkhead/reload.conf"], 0o600),
    }
    assert UNIT_DROP_IN not in wanted(host)


def test_an_nft_that_lies_elsewhere(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda name: f"/usr/local/sbin/{name}")
    assert f"ExecStart=/usr/local/sbin/nft -f {PATH}\n" in wanted(host)[DROP_IN][0]
    monkeypatch.setattr(host, "find", lambda _name: None)
    assert f"ExecStart=/usr/sbin/nft -f {PATH}\n" in wanted(host)[DROP_IN][0]


def test_a_jump_of_its_own_for_each_chain(host: FakeHost) -> None:
    files = wanted(host, SHARED)
    for path, last in zip(
        JUMPS,
        (
            "add rule ip filter INPUT counter jump BULKHEAD-INPUT",
            "insert rule ip filter DOCKER-USER counter jump BULKHEAD-DOCKER-USER",
        ),
    ):
        assert files[path][0].startswith(f"{MANAGED}# Puts one jump where none is.")
        assert files[path][0].endswith(f"{last}\n")
    assert [path for path in files if "jump-" in path] == JUMPS


def test_what_a_reload_loads(host: FakeHost) -> None:
    further = {("inet", "mine"): "table inet mine {\n\tchain c {\n\t}\n}\n\n"}
    lines = wanted(host, SHARED, further)["/etc/bulkhead/reload.conf"][0].splitlines()
    assert lines[:3] == [MANAGED.rstrip("\n"), INCLUDE, "table ip filter {"]
    assert lines[-6:] == [
        "table inet mine",
        "delete table inet mine",
        "table inet mine {",
        "\tchain c {",
        "\t}",
        "}",
    ]
    assert "counter jump" not in "\n".join(lines)
    assert "\t\ttype nat hook output priority -100;" in lines and "flush chain ip filter BULKHEAD-INPUT" in lines


def test_files_of_the_administrator_are_loaded_last_and_by_themselves(host: FakeHost) -> None:
    body = OURS + 'include "/etc/nft.d/*.nft"\ntable ip filter {\n}\ndefine a = 1\n\tinclude\t"/x"\n# include "/y"\n'
    files = wanted(host, SHARED, body=body)
    included = "/etc/bulkhead/includes.conf"
    assert files[included] == (f'{MANAGED}define a = 1\ninclude "/etc/nft.d/*.nft"\n\tinclude\t"/x"\n', 0o600)
    for path, setting in ((DROP_IN, "ExecStart"), (DROP_IN, "ExecReload"), (UNIT_DROP_IN, "ExecStartPost")):
        found = [line for line in settings(files[path][0]) if line.startswith(f"{setting}=")]
        assert found[-1] == f"{setting}=/usr/sbin/nft -f {included}"
    assert included not in wanted(host, SHARED, body=OURS + "define a = 1\n")
    # In the other layout the file itself is what is loaded.
    assert included not in wanted(host, body=body)


def test_another_distributions_file_gets_its_line_and_ours_does_not(host: FakeHost) -> None:
    (host.root / "etc/sysconfig").mkdir()
    (host.root / "etc/sysconfig/nftables.conf").write_text("# theirs\n")
    files = wanted(host)
    assert files["/etc/sysconfig/nftables.conf"][0] == f"# theirs\n{INCLUDE}\n"
    assert files[PATH][0] == OURS


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("enabled\n", None),
        ("disabled\n", None),
        ("static\n", None),
        ("masked\n", "systemctl unmask nftables.service takes that back"),
        ("masked-runtime\n", "systemctl unmask nftables.service takes that back"),
        ("not-found\n", "there is no nftables.service on this host"),
        ("", "there is no nftables.service on this host"),
    ],
)
def test_a_service_that_can_load_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, state: str, message: str | None
) -> None:
    def run(argv: list[str], check: bool = True) -> Result:
        assert (argv, check) == (["systemctl", "is-enabled", "nftables.service"], False)
        return Result(1, state, "")

    monkeypatch.setattr(host, "run", run)
    files = conf_files(host)
    assert files.enabled() is (state == "enabled\n")
    if message is None:
        files.require_service()
    else:
        with pytest.raises(BootError, match=message):
            files.require_service()


@pytest.mark.parametrize(
    ("found", "backup", "foreign", "due"),
    [
        (None, None, None, False),
        (OURS, None, None, False),
        ("flush ruleset\n", None, "flush ruleset\n", True),
        ("flush ruleset\n", "kept\n", "flush ruleset\n", False),
        (f"a\n{INCLUDE}\n", None, "a\n", True),
        (f"# copied from:\n#!\n{HEADER}\n", None, f"# copied from:\n#!\n{HEADER}\n", True),
        ("", None, "", True),
    ],
)
def test_whose_file_it_is(host: FakeHost, found: str | None, backup: str | None, foreign: str | None, due: bool) -> None:
    conf = host.root / "etc/nftables.conf"
    conf.unlink()
    if found is not None:
        conf.write_text(found)
    if backup is not None:
        Path(f"{conf}.before-bulkhead").write_text(backup)
    files = conf_files(host)
    assert files.foreign() == foreign
    assert files.backup_due() == (f"{PATH}.before-bulkhead" if due else None)


def test_a_link_in_the_backups_place_is_none_to_write_through(host: FakeHost) -> None:
    (host.root / "etc/nftables.conf.before-bulkhead").symlink_to("nowhere")
    assert conf_files(host).backup_due() is None


def test_the_mode_that_a_removal_gives_back(host: FakeHost) -> None:
    conf = host.root / "etc/nftables.conf"
    conf.chmod(0o4640)
    assert conf_files(host).mode() == 0o640
    conf.unlink()
    assert conf_files(host).mode() == 0o755


def save(host: FakeHost, files: dict[str, tuple[str, int]]) -> str | None:
    return conf_files(host).save(files, Boot(host, str(host.root)).missing(files))


def test_saved(host: FakeHost) -> None:
    assert save(host, wanted(host, SHARED)) == f"{PATH}.before-bulkhead"
    assert host.enabled == {"bulkhead.service", "nftables.service"}
    assert host.events == ["daemon-reload", "enable", "enable", "start"]
    assert {path: (host.root / path[1:]).read_text() for path in wanted(host, SHARED)} == {
        path: item[0] for path, item in wanted(host, SHARED).items()
    }
    host.timers["nftables.service"] = []  # it is active
    host.events.clear()
    assert save(host, wanted(host, SHARED)) is None and host.events == []


def test_files_of_the_other_layout_go(host: FakeHost) -> None:
    save(host, wanted(host, SHARED))
    (host.root / "etc/bulkhead/mine.conf").write_text("")
    found = conf_files(host).obsolete(wanted(host))
    assert sorted(found) == sorted([UNIT_DROP_IN, *JUMPS, "/etc/bulkhead/reload.conf"])
    assert conf_files(host).obsolete(wanted(host, SHARED)) == []
    host.events.clear()
    save(host, wanted(host))
    assert not [path for path in found if (host.root / path[1:]).exists()]
    assert not (host.root / UNIT_DROP_IN[1:]).parent.exists() and (host.root / "etc/bulkhead/mine.conf").exists()
    assert host.events.count("daemon-reload") == 2


@pytest.mark.parametrize("part", ["before-bulkhead", "reload.conf", "layout.json", "nftables_conf.conf"])
def test_a_disk_that_is_full_is_as_before(host: FakeHost, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    (host.root / "etc/nftables.conf").chmod(0o604)
    before = host.files()
    real = _files.write

    def full(path: str, content: str, mode: int) -> None:
        if part in path:
            raise OSError(28, "No space left on device", path)
        real(path, content, mode)

    monkeypatch.setattr(_files, "write", full)
    with pytest.raises(OSError, match="No space"):
        save(host, wanted(host, SHARED))
    assert host.files() == before
    assert (host.root / "etc/nftables.conf").stat().st_mode & 0o777 == 0o604


def test_leftovers_name_what_goes_and_what_stays(host: FakeHost) -> None:
    assert conf_files(host).leftovers() == {}
    save(host, wanted(host, SHARED))
    assert conf_files(host).leftovers() == {
        UNIT_DROP_IN: None,
        **dict.fromkeys(sorted(JUMPS)),
        "/etc/bulkhead/reload.conf": None,
        DROP_IN: None,
        "/etc/bulkhead/layout.json": None,
        PATH: "flush ruleset\n",
        f"{PATH}.before-bulkhead": None,
    }
    (host.root / "etc/nftables.conf").write_text("# somebody's new file\n")
    assert PATH not in conf_files(host).leftovers()


@pytest.mark.parametrize("disable", [True, False])
def test_removed(host: FakeHost, disable: bool) -> None:
    save(host, wanted(host, SHARED))
    host.events.clear()
    conf_files(host).remove(disable, 0o640)
    assert host.events == (["disable"] if disable else []) + ["daemon-reload"]
    conf = host.root / "etc/nftables.conf"
    assert (conf.read_text(), conf.stat().st_mode & 0o777) == ("flush ruleset\n", 0o640)
    left = {name for name in host.files() if "nftables_conf" in name or "jump" in name or "before" in name}
    assert left == set() and ("nftables.service" in host.enabled) is not disable
    host.events.clear()
    conf_files(host).remove(disable, 0o640)
    assert host.events == []


def test_a_file_that_was_not_there_goes(host: FakeHost) -> None:
    (host.root / "etc/nftables.conf").unlink()
    save(host, wanted(host))
    conf_files(host).remove(False, 0o640)
    assert not os.path.lexists(host.root / "etc/nftables.conf")
