# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_json as daemon_json
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import DaemonJsonError, Form


def again(text: str, settings: dict[str, t.Any]) -> str:
    """The text with settings put into it."""
    document = daemon_json.merged(daemon_json.parse(text), settings)
    return daemon_json.render(document, daemon_json.form_of(text))


@pytest.mark.parametrize("text", [None, "", " \n", "\ufeff", "{}", "\ufeff{}\n"])
def test_nothing_is_no_settings(text: str | None) -> None:
    assert daemon_json.parse(text) == {}
    assert daemon_json.form_of(text) == Form("  ", "\n", True)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('{\n  "icc": true,\n  "ip": }\n', "line 3, column 9", "Expecting value"),
        ('{"icc": true', "line 1, column 13", "the file ends here"),
        ('{\n  // why\n  "icc": true\n}', "line 2, column 3", "JSON has no comments"),
        ('{\n  # why\n  "icc": true\n}', "line 2, column 3", "JSON has no comments"),
        ('{"icc": true, /* why */ "ip": ""}', "line 1, column 15", "JSON has no comments"),
        ('{"icc": true} // why', "line 1, column 15", "JSON has no comments"),
        ('{"icc": true,\n}', "line ", "a comma with nothing behind it"),
        ("{'icc': true}", "line 1, column 2", "double quotes only"),
        ('{"icc": true "ip": ""}', "line 1, column 14", "delimiter"),
        ('["icc"]', "an object with settings", "not a list"),
        ('"icc"', "an object with settings", "not the text 'icc'"),
        ("null", "an object with settings", "not null"),
        ('{"mtu": NaN}', "NaN", "no JSON"),
        ('{"icc": true, "icc": false}', "icc", "twice"),
        ('{"log-opts": {"tag": "a", "tag": "b"}}', "tag", "twice"),
        ('{\n"labels": ["\udcff"]}', "line 2, column 13", "not UTF-8"),
    ],
)
def test_what_docker_could_not_read_is_said_with_its_place(text: str, place: str, reason: str) -> None:
    with pytest.raises(DaemonJsonError) as caught:
        daemon_json.parse(text)
    assert place in str(caught.value) and reason in str(caught.value)


def test_newer_pythons_place_a_comma_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(text: str, **_options: t.Any) -> t.Any:
        raise json.JSONDecodeError("Illegal trailing comma before end of object", text, text.index(","))

    monkeypatch.setattr(daemon_json.json, "loads", loads)
    with pytest.raises(DaemonJsonError, match="line 1, column 13: a comma with nothing behind it"):
        daemon_json.parse('{"icc": true,\n}')


def test_the_line_itself_is_not_shown() -> None:
    with pytest.raises(DaemonJsonError) as caught:
        daemon_json.parse('{"proxies": {"http-proxy": "http://me:secret@proxy" ')
    assert "secret" not in str(caught.value)


def test_too_deep() -> None:
    with pytest.raises(DaemonJsonError, match="nested too deeply|line 1"):
        daemon_json.parse('{"a":' * 100000)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{\n    "b": 1,\n    "a": {\n        "x": "y"\n    }\n}\n', '{\n    "b": 1,\n    "a": {\n        "x": "y"\n    },\n    "icc": true\n}\n'),
        ('{\n\t"b": 1\n}', '{\n\t"b": 1,\n\t"icc": true\n}'),
        ('{"b": 1}\n', '{"b": 1, "icc": true}\n'),
        ('{\r\n  "b": 1\r\n}\r\n', '{\r\n  "b": 1,\r\n  "icc": true\r\n}\r\n'),
        ('{\n"b": "ü"\n}\n', '{\n"b": "ü",\n"icc": true\n}\n'),
        ('\ufeff{\n  "b": 1\n}\n', '{\n  "b": 1,\n  "icc": true\n}\n'),
        ("", '{\n  "icc": true\n}\n'),
    ],
    ids=["four", "tab", "line", "crlf", "none", "bom", "empty"],
)
def test_the_form_is_kept(text: str, wanted: str) -> None:
    assert again(text, {"icc": True}) == wanted


def test_keys_keep_their_places_and_unknown_ones_stay() -> None:
    old = {"z": 1, "icc": True, "a": [2]}
    assert list(daemon_json.merged(old, {"icc": False, "b": 3}).items()) == [
        ("z", 1),
        ("icc", False),
        ("a", [2]),
        ("b", 3),
    ]
    assert old["icc"] is True


def test_objects_are_put_together() -> None:
    old = {"log-opts": {"a": "1", "b": "2"}, "default-network-opts": {"bridge": {"x": "1"}, "overlay": {}}}
    new = {"log-opts": {"b": "3"}, "default-network-opts": {"bridge": {"y": "2"}}}
    assert daemon_json.merged(old, new) == {
        "log-opts": {"a": "1", "b": "3"},
        "default-network-opts": {"bridge": {"x": "1", "y": "2"}, "overlay": {}},
    }
    assert daemon_json.merged(old, new, replace=["log-opts"])["log-opts"] == {"b": "3"}


def test_lists_are_replaced_and_keys_removed() -> None:
    old = {"dns": ["9.9.9.9"], "icc": False, "mtu": 1400}
    assert daemon_json.merged(old, {"dns": []}, remove=["icc", "nothing"]) == {"dns": [], "mtu": 1400}


def test_one_is_not_true() -> None:
    assert not daemon_json.same(1, True)
    assert daemon_json.same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_passwords_are_not_shown() -> None:
    value = {"proxies": {"http-proxy": "http://me:secret@proxy:3128"}, "labels": ["a=b@c"], "mtu": 1400}
    assert daemon_json.masked_value(value) == {
        "proxies": {"http-proxy": "http://***@proxy:3128"},
        "labels": ["a=b@c"],
        "mtu": 1400,
    }


def test_options_of_a_driver_are_put_together_too() -> None:
    old = {"default-network-opts": {"bridge": {"a": "1", "b": "2"}, "macvlan": {"c": "3"}}}
    new = {"default-network-opts": {"bridge": {"b": "4"}, "ipvlan": {"d": "5"}}}
    assert daemon_json.merged(old, new) == {
        "default-network-opts": {"bridge": {"a": "1", "b": "4"}, "macvlan": {"c": "3"}, "ipvlan": {"d": "5"}}
    }
