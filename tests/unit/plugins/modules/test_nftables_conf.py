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
from ansible_collections.bulkhead.docker_nftables.plugins.filter.conf import conf_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.modules import nftables_conf
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import NftHost, needs_nft
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render_conf

pytestmark = needs_nft

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]
CONF = b"flush ruleset\n"


def arguments(layout: str = "iptables_compat", rule: str = "tcp dport 1 accept") -> dict[str, t.Any]:
    plan = conf_plan({"layout": layout}, {}, {})
    return {
        "content": f"table inet bulkhead {{\n\tchain c {{\n\t\t{rule}\n\t}}\n}}\n",
        "file": render_conf(plan),
        "layout": {**plan["layout"], "policies": list(plan["layout"]["policies"])},
    }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[NftHost]:
    with Runner().scratch_network():
        made = NftHost(tmp_path)
        (tmp_path / "etc/nftables.conf").write_bytes(CONF)
        monkeypatch.setattr(nftables_conf, "Runner", lambda: made)
        monkeypatch.setattr(nftables_conf, "ConfApply", functools.partial(nftables_conf.ConfApply, root=str(tmp_path)))
        yield made


@pytest.fixture
def run(host: NftHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(check: bool = False, diff: bool = True, **given: object) -> tuple[int, dict[str, t.Any]]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, "_ansible_diff": diff, **given}})
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            nftables_conf.main()
        result = json.loads(capsys.readouterr().out)
        # Ansible keeps warnings for a process, those of other tests too.
        result.pop("warnings", None)
        return int(caught.value.code or 0), result

    return call


def without(result: dict[str, t.Any], *names: str) -> dict[str, t.Any]:
    return {key: value for key, value in result.items() if key not in ("invocation", *names)}


@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_from_nothing_to_confirmed_to_nothing(run: Run, host: NftHost, layout: str) -> None:
    given = arguments(layout)
    code, said = run(check=True, **given, confirm_timeout=30)
    assert code == 0 and said["changed"] is True and "confirmation" not in said and host.ruleset() == ""
    code, done = run(**given, confirm_timeout=30)
    assert without(done, "confirmation") == without(said)
    assert (done["table_changed"], done["confirmation"]["seconds"]) == (True, 30)
    assert done["backup"] == "/etc/nftables.conf.before-bulkhead" and done["nft_version"][0].isdigit()
    assert done["table_difference"] == ["+" + line for line in given["content"].splitlines()]
    assert [item["after_header"] for item in done["diff"]][0] == "table inet bulkhead (kernel)"
    token = done["confirmation"]["token"]
    assert run(**given, confirmation=token, check=True)[1]["changed"] is False and host.timers
    code, kept = run(**given, confirmation=token)
    assert code == 0 and kept["changed"] is True and not host.timers
    code, again = run(**given, confirm_timeout=30)
    assert without(again, "nft_version") == {
        "changed": False,
        "actions": [],
        "table_changed": False,
        "backup": None,
    }
    code, gone = run(state="absent")
    assert code == 0 and gone["changed"] is True and host.files() == {"etc/nftables.conf": CONF}
    assert "bulkhead" not in host.ruleset().lower()
    assert run(state="absent")[1]["changed"] is False


def test_keep_false_puts_the_old_state_back(run: Run, host: NftHost) -> None:
    run(**arguments())
    before = host.ruleset()
    given = arguments(rule="drop")
    _code, done = run(**given, confirm_timeout=30)
    assert host.ruleset() != before
    code, back = run(**given, confirmation=done["confirmation"]["token"], keep=False)
    assert code == 0 and back["actions"] == ["put back table inet bulkhead and what goes with it"]
    assert host.ruleset() == before


def test_without_diff_mode_there_is_none(run: Run) -> None:
    assert "diff" not in run(diff=False, **arguments())[1]


def test_a_long_difference_is_cut(run: Run) -> None:
    given = arguments(rule="\n\t\t".join(f"tcp dport {port} accept" for port in range(1, 99)))
    result = run(check=True, **given)[1]
    assert len(result["table_difference"]) == nftables_conf.SHOWN_LINES == 50


PATH = "path: accepted is an absolute path of letters, digits and _ . / -, but not below /etc/bulkhead"
NAME = "name: accepted are a letter and then up to 30 letters, digits, - and _"
BIT = "accepted are 0 and a number with one of 32 bits set"


def layout(**changes: t.Any) -> dict[str, t.Any]:
    return {**arguments(), "layout": {**arguments()["layout"], **changes}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "state is present but all of the following are missing: content, file, layout"),
        ({**arguments(), "name": "1x"}, NAME),
        ({**arguments(), "name": "a\n"}, NAME),
        ({**arguments(), "name": "a" * 32}, NAME),
        ({**arguments(), "path": "etc/x"}, PATH),
        ({**arguments(), "path": "/etc/x y"}, PATH),
        ({**arguments(), "path": "/etc/x\n"}, PATH),
        ({**arguments(), "path": "/etc/bulkhead/load.conf"}, PATH),
        ({**arguments(), "path": "/etc/x/../bulkhead/load.conf"}, PATH),
        ({**arguments(), "path": "//etc/bulkhead/load.conf"}, PATH),
        ({**arguments(), "confirm_timeout": -1}, "confirm_timeout: accepted are 0 to 3600 seconds"),
        ({**arguments(), "confirm_timeout": 3601}, "confirm_timeout: accepted are 0 to 3600 seconds"),
        (layout(mark_bit=3), f"layout.mark_bit: {BIT}"),
        (layout(mark_bit=1 << 32), f"layout.mark_bit: {BIT}"),
        (layout(docker_bit=-1), f"layout.docker_bit: {BIT}"),
        (layout(mark_bit=0), "layout.mark_bit: the layout iptables_compat needs one"),
        (
            {**layout(mark_bit=0, docker_bit=3), "name": "1", "path": "x", "confirm_timeout": -1},
            f"{NAME}; {PATH}; confirm_timeout: accepted are 0 to 3600 seconds; layout.docker_bit: {BIT};"
            " layout.mark_bit: the layout iptables_compat needs one",
        ),
        ({**arguments(), "content": ""}, "there is no 'table inet bulkhead { ... }' in it"),
        (
            {**arguments(), "file": arguments()["file"] + "flush ruleset\n"},
            f"line {arguments()['file'].count(chr(10)) + 1}: 'flush ruleset' takes away what Docker and other tools have"
            " loaded",
        ),
        (
            {**arguments(), "confirmation": "t"},
            "there is no apply with this confirmation on the host; a reboot or another run ended it",
        ),
    ],
)
def test_mistakes(run: Run, host: NftHost, given: dict[str, t.Any], message: str) -> None:
    code, result = run(**given)
    assert (code, result["failed"], result["msg"]) == (1, True, message)
    assert host.ruleset() == "" and host.files() == {"etc/nftables.conf": CONF}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given.update(content=given["content"].replace("accept", "nonsense")), "nft refuses the ruleset:\nline"),
        (
            lambda given: given.update(file=given["file"] + "table ip filter {\n\tchain INPUT {\n\t\tdrop\n\t}\n}\n"),
            "table ip filter, chain INPUT: 'drop' stands in a chain that other tools write to",
        ),
    ],
)
def test_what_must_not_be_loaded_fails_with_words(run: Run, host: NftHost, change: t.Any, words: str) -> None:
    given = arguments()
    change(given)
    code, result = run(**given)
    assert code == 1 and words in result["msg"] and host.ruleset() == ""


def test_a_broken_layout_fails_with_words(run: Run, host: NftHost) -> None:
    (host.root / "etc/bulkhead").mkdir()
    (host.root / "etc/bulkhead/layout.json").write_text("{")
    for given in (arguments(), {"state": "absent"}):
        code, result = run(**given)
        assert code == 1 and result["msg"].startswith("/etc/bulkhead/layout.json is not JSON")


def test_who_is_not_root_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables_conf.os, "geteuid", lambda: 1000)
    assert run(**arguments())[1]["msg"] == "nftables can only be changed by root; set become to true"


def test_the_documentation_has_the_arguments_of_the_code() -> None:
    def compare(documented: dict[str, t.Any], spec: dict[str, t.Any]) -> None:
        assert list(documented) == list(spec)
        for name, option in spec.items():
            for key in ("default", "choices", "type", "elements", "required"):
                assert documented[name].get(key) == option.get(key), (name, key)
            compare(documented[name].get("suboptions", {}), option.get("options", {}))

    compare(yaml.safe_load(nftables_conf.DOCUMENTATION)["options"], nftables_conf.argument_spec())


def test_what_is_returned_is_documented(run: Run) -> None:
    documented = set(yaml.safe_load(nftables_conf.RETURN))
    found = set(run(**arguments(), confirm_timeout=30)[1]) - {"invocation", "changed", "diff"}
    # The action plugin adds whether it was confirmed.
    assert documented == found | {"confirmed"}
