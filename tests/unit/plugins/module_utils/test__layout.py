# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout, LayoutError

COMPAT = Layout("iptables_compat", "bulkhead", 0x10000000)


def written(root: Path, text: str) -> str:
    path = Path(f"{root}{_layout.PATH}")
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return str(root)


WHOLE = Layout("iptables_compat", "fence", 1 << 31, 1 << 4, True, True, ("INPUT", "OUTPUT"), True, "/etc/sysconfig/nftables.conf", 0o600)


@pytest.mark.parametrize("layout", [COMPAT, Layout("own_table"), WHOLE])
def test_what_is_written_is_read_back(tmp_path: Path, layout: Layout) -> None:
    assert _layout.read(written(tmp_path, _layout.text(layout))) == layout


def test_the_text_is_the_same_json_every_time() -> None:
    assert _layout.text(COMPAT) == (
        '{\n  "layout": "iptables_compat",\n  "table": "bulkhead",\n  "mark_bit": 268435456,\n  "docker_bit": 0,\n'
        '  "drops_input": false,\n  "output": false,\n  "policies": [],\n  "enabled_service": false,\n'
        '  "path": "/etc/nftables.conf",\n  "mode": 493\n}\n'
    )


def test_a_host_without_the_file_has_no_layout(tmp_path: Path) -> None:
    assert _layout.read(str(tmp_path)) is None


def test_what_a_later_release_adds_is_left_alone() -> None:
    assert _layout.parse('{"layout": "own_table", "since": 2}') == Layout("own_table")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("[]", "holds no object"),
        ("null", "holds no object"),
        ("{}", "layout is None, not one of own_table, iptables_compat"),
        ('{"layout": ["own_table"]}', "layout is ['own_table']"),
        ('{"layout": "own_table", "table": "a; flush ruleset"}', "table is 'a; flush ruleset'"),
        ('{"layout": "own_table", "table": "b\\n"}', "table is 'b\\n'"),
        ('{"layout": "own_table", "table": 5}', "table is 5"),
        ('{"layout": "iptables_compat"}', "mark_bit is 0"),
        ('{"layout": "iptables_compat", "mark_bit": 3}', "mark_bit is 3"),
        ('{"layout": "iptables_compat", "mark_bit": -1}', "mark_bit is -1"),
        ('{"layout": "iptables_compat", "mark_bit": true}', "mark_bit is True"),
        ('{"layout": "iptables_compat", "mark_bit": 8.0}', "mark_bit is 8.0"),
        ('{"layout": "own_table", "docker_bit": 6}', "docker_bit is 6"),
        ('{"layout": "own_table", "output": 1}', "output is 1, not true or false"),
        ('{"layout": "own_table", "policies": ["PREROUTING"]}', "policies is ['PREROUTING']"),
        ('{"layout": "own_table", "mode": 4096}', "mode is 4096, not the mode of a file"),
        ('{"layout": "own_table", "mode": "0755"}', "mode is '0755'"),
        ('{"layout": "own_table", "path": "nftables.conf"}', "path is 'nftables.conf', not an absolute path"),
        ('{"layout": "own_table", "path": "/etc/a\\n/b"}', "not an absolute path"),
        ('{"layout": "own_table", "policies": "INPUT"}', "policies is 'INPUT'"),
        ('{"layout": "iptables_compat", "mark_bit": "8"}', "mark_bit is '8'"),
        ('{"layout": "iptables_compat", "mark_bit": 4294967296}', "mark_bit is 4294967296"),
    ],
)
def test_a_broken_file_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(LayoutError) as caught:
        _layout.parse(text)
    assert str(caught.value).startswith(_layout.PATH)
    assert said in str(caught.value)


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(LayoutError, match=r"layout is .*; table is .*; mark_bit is "):
        _layout.parse('{"layout": 1, "table": 2, "mark_bit": "x"}')


def test_a_directory_in_its_place_is_an_error_not_a_crash(tmp_path: Path) -> None:
    Path(f"{tmp_path}{_layout.PATH}").mkdir(parents=True)
    with pytest.raises(LayoutError, match="cannot be read: Is a directory"):
        _layout.read(str(tmp_path))
