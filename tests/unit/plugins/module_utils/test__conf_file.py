# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import (
    HEADER,
    ConfFile,
    command_flushes,
    conf_path,
    flushes,
    flushing_file,
    included,
    loaded_path,
    managed,
    read_conf,
)

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
RHEL = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
SUSE = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("/usr/sbin/nft -f /etc/nftables.conf", "/etc/nftables.conf"),
        ("/sbin/nft -f /etc/sysconfig/nftables.conf", "/etc/sysconfig/nftables.conf"),
        ("/usr/sbin/nft --file=/etc/a.conf", "/etc/a.conf"),
        ('/usr/sbin/nft -f "/etc/a.conf"', "/etc/a.conf"),
        ('/sbin/nft flush ruleset; include "/etc/nftables/rules/main.nft"', "/etc/nftables/rules/main.nft"),
        ('/sbin/nft "flush ruleset; include \\"/etc/sysconfig/nftables.conf\\";"', "/etc/sysconfig/nftables.conf"),
        ("/usr/sbin/nft flush ruleset", None),
        ("/usr/sbin/nft -f -", None),
        ("/usr/sbin/nft -f /dev/stdin", None),
        ("/usr/sbin/nft -f", None),
        ("/usr/sbin/nftables-service start", None),
        ("", None),
    ],
)
def test_the_file_that_a_command_loads(command: str, path: str | None) -> None:
    assert loaded_path(command) == path


@pytest.mark.parametrize(
    ("commands", "os_release", "path"),
    [
        (["/usr/sbin/nft -f /srv/rules.nft"], RHEL, "/srv/rules.nft"),
        (["/bin/true", "/usr/sbin/nft -f /srv/rules.nft"], DEBIAN, "/srv/rules.nft"),
        ([], DEBIAN, "/etc/nftables.conf"),
        ([], "ID=arch\n", "/etc/nftables.conf"),
        ([], 'ID=ubuntu\nID_LIKE="debian"\n', "/etc/nftables.conf"),
        ([], RHEL, "/etc/sysconfig/nftables.conf"),
        ([], "ID=fedora\n", "/etc/sysconfig/nftables.conf"),
        ([], "ID=sles\n", "/etc/nftables/rules/main.nft"),
        ([], SUSE, "/etc/nftables/rules/main.nft"),
        ([], "", "/etc/nftables.conf"),
        ([], "ID\n=\nnonsense\n\0", "/etc/nftables.conf"),
    ],
)
def test_where_the_file_is(commands: list[str], os_release: str, path: str) -> None:
    assert conf_path(commands, os_release) == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flush ruleset\n", True),
        ("#!/usr/sbin/nft -f\n\nflush   ruleset;\n", True),
        ("table inet t { }\nflush ruleset inet\n", True),
        ("flush \\\nruleset\n", True),
        ('add rule inet t c comment "it\'s #1"; flush ruleset\n', True),
        ("# flush ruleset\n", False),
        ("table inet t { } # flush ruleset\n", False),
        ('add rule inet t c accept comment "flush ruleset"\n', False),
        ("flush table inet t\n", False),
        ("flush rulesets\n", False),
        ("", False),
    ],
)
def test_what_empties_the_ruleset(text: str, expected: bool) -> None:
    assert flushes(text) is expected


def test_commands_that_empty_the_ruleset() -> None:
    assert command_flushes("/usr/sbin/nft flush ruleset")
    assert command_flushes('/sbin/nft "flush ruleset; include \\"/etc/nftables.conf\\""')
    assert not command_flushes("/usr/sbin/nft -f /etc/nftables.conf")


def test_includes_are_found_where_they_count() -> None:
    text = 'include "/etc/a.nft"\n  include "b.nft" # why\n#include "/etc/c.nft"\ncomment "include \'d\'"; include "/e.nft"\n'
    assert included(text) == ["/etc/a.nft", "b.nft", "/e.nft"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEADER}\nflush ruleset\n", True),
        (f"{HEADER} Changes are replaced.\n", True),
        (f"#!/usr/sbin/nft -f\n{HEADER}\n", True),
        (f"\n{HEADER}\n", False),
        (f"# mine\n{HEADER}\n", False),
        ("#!/usr/sbin/nft -f\n", False),
        ("", False),
    ],
)
def test_whose_file_it_is(text: str, expected: bool) -> None:
    assert managed(text) is expected


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    (tmp_path / "etc/nft.d").mkdir(parents=True)
    return tmp_path


def test_a_file_that_is_not_there(root: Path) -> None:
    assert read_conf("/etc/nftables.conf", str(root)) == ConfFile("/etc/nftables.conf")


def test_a_file_as_the_role_writes_it(root: Path) -> None:
    (root / "etc/nftables.conf").write_text(f"#!/usr/sbin/nft -f\n{HEADER}\ntable inet t\n")
    assert read_conf("/etc/nftables.conf", str(root)) == ConfFile("/etc/nftables.conf", True, managed=True)


def test_a_flush_in_an_included_file_counts(root: Path) -> None:
    (root / "etc/nftables.conf").write_text('include "/etc/nft.d/*.nft"\ninclude "rel.nft"\n')
    (root / "etc/nft.d/1.nft").write_text("table inet t\n")
    assert flushing_file("/etc/nftables.conf", str(root)) is None
    (root / "etc/rel.nft").write_text("flush ruleset\n")
    assert flushing_file("/etc/nftables.conf", str(root)) == "/etc/rel.nft"
    (root / "etc/nft.d/2.nft").write_text("flush ruleset\n")
    assert flushing_file("/etc/nftables.conf", str(root)) == "/etc/nft.d/2.nft"
    assert read_conf("/etc/nftables.conf", str(root)).flushes


def test_files_that_include_each_other_come_to_an_end(root: Path) -> None:
    (root / "etc/nftables.conf").write_text('include "/etc/nft.d/a.nft"\n')
    (root / "etc/nft.d/a.nft").write_text('include "/etc/nftables.conf"\ninclude "/etc/nft.d/a.nft"\n')
    assert flushing_file("/etc/nftables.conf", str(root)) is None


def test_a_directory_and_bytes_are_no_crash(root: Path) -> None:
    (root / "etc/nftables.conf").mkdir()
    assert read_conf("/etc/nftables.conf", str(root)) == ConfFile("/etc/nftables.conf")
    (root / "etc/odd.conf").write_bytes(b"\xff\xfe\0 flush ruleset\n")
    assert read_conf("/etc/odd.conf", str(root)) == ConfFile("/etc/odd.conf", True, flushes=True)
