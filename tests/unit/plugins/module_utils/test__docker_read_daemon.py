# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import (
    DaemonSettings,
    daemon_findings,
    parse_daemon_json,
    parse_flags,
    read_daemon_settings,
)


def test_only_the_keys_about_the_firewall_are_returned() -> None:
    raw = b'{"iptables": false, "icc": true, "registry-mirrors": ["https://user:secret@example.org"], "labels": []}'
    assert parse_daemon_json(raw) == {"iptables": False, "icc": True}


@pytest.mark.parametrize("raw", [b"", b"  \n", b"\xef\xbb\xbf{}", b"{}"])
def test_an_empty_file_is_valid(raw: bytes) -> None:
    assert parse_daemon_json(raw) == {}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{\n  "iptables": true\n  "icc": false\n}\n', r'line 3, column 3: .* \(the line is: "icc": false\)'),
        (b'{"iptables": tru', "line 1, column"),
        (b"[1, 2]", "an object with settings is needed, not a list"),
        (b'{\n"a": "\xff"}', "line 2: not UTF-8"),
        (b'{\n"a": 1,\n', "line 3, column 1"),
    ],
)
def test_a_broken_file_names_its_line(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_daemon_json(raw)


def test_a_missing_file_is_no_fault(tmp_path: Path) -> None:
    settings = read_daemon_settings(str(tmp_path / "daemon.json"))
    assert (settings.exists, settings.valid, settings.error) == (False, True, None)
    assert daemon_findings(settings) == []


def test_a_broken_file_is_reported_and_not_raised(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{,}")
    settings = read_daemon_settings(str(path))
    assert (settings.exists, settings.valid, settings.settings) == (True, False, {})
    assert str(settings.error).startswith(f"{path}: line 1, column 2")
    assert [each.code for each in daemon_findings(settings)] == ["DAEMON_JSON_BROKEN"]


def test_a_folder_and_a_dangling_link_are_reported(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in str(read_daemon_settings(str(tmp_path)).error)
    link = tmp_path / "daemon.json"
    link.symlink_to(tmp_path / "nowhere")
    assert "cannot be read: No such file" in str(read_daemon_settings(str(link)).error)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("dockerd -H fd:// --containerd=/run/x.sock", {"hosts": ["fd://"]}),
        ("dockerd -Hunix:///x -H=fd://", {"hosts": ["unix:///x", "fd://"]}),
        ("dockerd --iptables=false --userland-proxy", {"iptables": False, "userland-proxy": True}),
        ("dockerd --firewall-backend nftables --icc=0", {"firewall-backend": "nftables", "icc": False}),
        ("dockerd --userland-proxy --bip 10.0.0.1/24", {"userland-proxy": True, "bip": "10.0.0.1/24"}),
        ("dockerd --host tcp://[::1]:1 --host=fd://", {"hosts": ["tcp://[::1]:1", "fd://"]}),
        ("dockerd", {}),
        ("", {}),
    ],
)
def test_flags_of_the_running_daemon(arguments: str, flags: dict[str, object]) -> None:
    assert parse_flags(tuple(arguments.split())) == flags


def test_the_daemon_says_which_file_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"icc": false}')
    settings = read_daemon_settings(arguments=("dockerd", "--config-file", str(path), "--iptables=false"))
    assert (settings.path, settings.settings, settings.flags) == (str(path), {"icc": False}, {"iptables": False})
    assert settings.effective("icc") is False
    assert settings.effective("iptables", True) is False
    assert settings.effective("userland-proxy", True) is True


def test_rules_that_are_switched_off_are_a_finding() -> None:
    off = DaemonSettings("/etc/docker/daemon.json", True, True, settings={"iptables": False, "ip6tables": True})
    findings = daemon_findings(off)
    assert [each.code for each in findings] == ["FIREWALL_SWITCHED_OFF"]
    assert "no IPv4 rules" in findings[0].text
