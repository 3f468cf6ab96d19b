# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import io
import json
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.modules import nftables_ruleset
from ansible_collections.bulkhead.docker_nftables.tests.unit.fake_host import FakeHost

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]


def table(rule: str) -> str:
    return f"table inet x {{\n\tchain c {{\n\t\t{rule}\n\t}}\n}}\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    made = FakeHost(tmp_path)
    monkeypatch.setattr(nftables_ruleset, "Runner", lambda: made)
    monkeypatch.setattr(nftables_ruleset, "Apply", functools.partial(nftables_ruleset.Apply, root=str(tmp_path)))
    monkeypatch.setattr(nftables_ruleset.os, "geteuid", lambda: 0)
    return made


@pytest.fixture
def run(host: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        text = json.dumps(
            {"ANSIBLE_MODULE_ARGS": {"name": "x", "_ansible_check_mode": check, "_ansible_diff": True, **arguments}}
        )
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            nftables_ruleset.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def test_from_nothing_to_confirmed_to_nothing(run: Run, host: FakeHost) -> None:
    code, said = run(check=True, content=table("accept"), confirm_timeout=30)
    assert code == 0 and said["changed"] is True and "confirmation" not in said and not host.tables
    code, done = run(content=table("accept"), confirm_timeout=30)
    assert {key: done[key] for key in said if key != "invocation"} == {
        k: v for k, v in said.items() if k != "invocation"
    }
    assert (done["table_changed"], done["nft_version"], done["confirmation"]["seconds"]) == (True, "1.0.6", 30)
    assert done["table_difference"] == ["+" + line for line in table("accept").splitlines()]
    token = done["confirmation"]["token"]
    assert run(content=table("accept"), confirmation=token, check=True)[1]["changed"] is False and host.timers
    code, kept = run(content=table("accept"), confirmation=token)
    assert code == 0 and kept["changed"] is True and not host.timers
    assert run(content=table("accept"), confirm_timeout=30)[1]["changed"] is False
    code, gone = run(state="absent")
    assert code == 0 and gone["changed"] is True and not host.tables and host.files() == {}
    assert run(state="absent")[1]["changed"] is False


def test_keep_false_puts_the_old_table_back(run: Run, host: FakeHost) -> None:
    run(content=table("accept"))
    _code, done = run(content=table("drop"), confirm_timeout=30)
    code, back = run(content=table("drop"), confirmation=done["confirmation"]["token"], keep=False)
    assert code == 0 and back["actions"] == ["put back table inet x"]
    assert host.tables["inet", "x"] == table("accept")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": "present"}, "state is present but all of the following are missing: content"),
        ({"content": "", "name": "1x"}, "name: accepted are a letter and then up to 30 letters, digits, - and _"),
        ({"content": "", "name": "a\n"}, "name: accepted are a letter and then up to 30 letters, digits, - and _"),
        ({"content": "", "confirm_timeout": -1}, "confirm_timeout: accepted are 0 to 3600 seconds"),
        ({"content": "", "confirm_timeout": 3601}, "confirm_timeout: accepted are 0 to 3600 seconds"),
        ({"content": ""}, "there is no 'table inet x { ... }' in it"),
        (
            {"content": table("BAD")},
            "nft refuses the ruleset:\nline 1: no\n     1 | table inet x {\n         ^^^^^",
        ),
        (
            {"content": table("accept"), "confirmation": "t"},
            "there is no apply with this confirmation on the host; a reboot or another run ended it",
        ),
    ],
)
def test_mistakes(run: Run, host: FakeHost, arguments: dict[str, t.Any], message: str) -> None:
    code, result = run(**arguments)
    assert (code, result["failed"], result["msg"]) == (1, True, message)
    assert not host.tables and not host.files()


def test_who_is_not_root_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables_ruleset.os, "geteuid", lambda: 1000)
    assert run(content=table("accept"))[1]["msg"] == "nftables can only be changed by root; set become to true"


def test_the_documentation_has_the_arguments_of_the_code() -> None:
    documented = yaml.safe_load(nftables_ruleset.DOCUMENTATION)["options"]
    spec = nftables_ruleset.argument_spec()
    assert list(documented) == list(spec)
    for name, option in spec.items():
        assert documented[name].get("default") == option.get("default")
        assert documented[name].get("choices") == option.get("choices")
