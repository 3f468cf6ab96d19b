# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import (
    Assignment,
    SysctlError,
    SysctlTree,
    file_key,
    normalize_key,
    parse_assignments,
)

OWN = "/etc/sysctl.d/60-bulkhead-forwarding.conf"


def put(root: Path, path: str, text: str) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.mark.parametrize(
    ("written", "key", "spelled"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv6/conf/eth0.10/accept_ra", "net/ipv6/conf/eth0.10/accept_ra", "net/ipv6/conf/eth0.10/accept_ra"),
        ("net.ipv6.conf.eth0/10.accept_ra", "net/ipv6/conf/eth0.10/accept_ra", "net/ipv6/conf/eth0.10/accept_ra"),
        ("single", "single", "single"),
    ],
)
def test_the_first_separator_decides_what_dots_mean(written: str, key: str, spelled: str) -> None:
    assert normalize_key(written) == key
    assert file_key(key) == spelled
    assert normalize_key(spelled) == key


def test_reads_what_assigns_and_nothing_else() -> None:
    text = "\n".join(
        [
            "# net.ipv4.ip_forward = 0",
            "; net.ipv4.ip_forward = 0",
            "",
            "  net.ipv4.ip_forward=1  ",
            "-net.ipv4.conf.all.rp_filter = 2",
            "net.ipv4.conf.*.rp_filter = 1",
            "-net.ipv4.conf.all.rp_filter",
        ]
    )
    assert parse_assignments(text, "f") == [
        Assignment("f", 4, "net/ipv4/ip_forward", "1"),
        Assignment("f", 5, "net/ipv4/conf/all/rp_filter", "2"),
    ]


def test_values_are_read_and_written(tmp_path: Path) -> None:
    put(tmp_path, "/proc/sys/net/ipv4/ip_forward", "0\n")
    tree = SysctlTree(str(tmp_path))
    assert tree.get("net/ipv4/ip_forward") == "0"
    tree.set("net/ipv4/ip_forward", "1")
    assert tree.get("net/ipv4/ip_forward") == "1"
    assert tree.get("net/ipv4/nothing") is None


def test_a_parameter_the_kernel_lacks_is_an_error_and_not_created(tmp_path: Path) -> None:
    put(tmp_path, "/proc/sys/net/ipv4/ip_forward", "0\n")
    with pytest.raises(SysctlError) as caught:
        SysctlTree(str(tmp_path)).set("net/ipv4/nothing", "1")
    assert str(caught.value) == "Cannot set net.ipv4.nothing to 1: the running kernel has no such parameter"
    assert not (tmp_path / "proc/sys/net/ipv4/nothing").exists()


def test_a_file_is_replaced_whole_with_its_mode_and_without_leftovers(tmp_path: Path) -> None:
    tree = SysctlTree(str(tmp_path))
    old = os.umask(0o077)
    try:
        tree.write(OWN, "one\n")
        tree.write(OWN, "two\n")
    finally:
        os.umask(old)
    assert tree.read(OWN) == "two\n"
    assert tree.is_plain(OWN)
    assert [entry.name for entry in (tmp_path / "etc/sysctl.d").iterdir()] == [os.path.basename(OWN)]


def test_a_link_in_the_files_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "/etc/other", "precious\n")
    (tmp_path / "etc/sysctl.d").mkdir()
    (tmp_path / OWN.lstrip("/")).symlink_to(tmp_path / "etc/other")
    tree = SysctlTree(str(tmp_path))
    assert not tree.is_plain(OWN)
    tree.write(OWN, "ours\n")
    assert tree.is_plain(OWN)
    assert tree.read("/etc/other") == "precious\n"


def test_write_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / OWN.lstrip("/")).mkdir(parents=True)
    with pytest.raises(SysctlError, match="^Cannot write /etc/sysctl.d/60-bulkhead-forwarding.conf: "):
        SysctlTree(str(tmp_path)).write(OWN, "ours\n")
    assert [entry.name for entry in (tmp_path / "etc/sysctl.d").iterdir()] == [os.path.basename(OWN)]


def test_boot_order_is_by_name_and_an_earlier_directory_hides_a_later(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/sysctl.d/50-default.conf", "")
    put(tmp_path, "/usr/lib/sysctl.d/90-vendor.conf", "")
    put(tmp_path, "/etc/sysctl.d/90-vendor.conf", "")
    put(tmp_path, "/run/sysctl.d/70-run.conf", "")
    put(tmp_path, "/etc/sysctl.d/80-no.conf.bak", "")
    put(tmp_path, "/etc/sysctl.conf", "")
    assert SysctlTree(str(tmp_path)).boot_files() == [
        "/usr/lib/sysctl.d/50-default.conf",
        "/run/sysctl.d/70-run.conf",
        "/etc/sysctl.d/90-vendor.conf",
        "/etc/sysctl.conf",
    ]


def test_the_distributions_link_to_sysctl_conf_counts_once(tmp_path: Path) -> None:
    put(tmp_path, "/etc/sysctl.conf", "")
    (tmp_path / "etc/sysctl.d").mkdir()
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert SysctlTree(str(tmp_path)).boot_files() == ["/etc/sysctl.d/99-sysctl.conf"]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("/etc/sysctl.d/99-a.conf", "# x\nnet.ipv4.ip_forward = 0\n", [("/etc/sysctl.d/99-a.conf", 2, "0")]),
        ("/etc/sysctl.conf", "net/ipv4/ip_forward=0\n", [("/etc/sysctl.conf", 1, "0")]),
        ("/usr/lib/sysctl.d/60-c.conf", "net.ipv4.ip_forward=0\n", [("/usr/lib/sysctl.d/60-c.conf", 1, "0")]),
        # the other name of the same value
        ("/etc/sysctl.d/99-a.conf", "net.ipv4.conf.all.forwarding=0\n", [("/etc/sysctl.d/99-a.conf", 1, "0")]),
        # read before ours, the same value, the last of two is the same value, another key
        ("/etc/sysctl.d/10-a.conf", "net.ipv4.ip_forward = 0\n", []),
        ("/etc/sysctl.d/99-a.conf", "net.ipv4.ip_forward = 1\n", []),
        ("/etc/sysctl.d/99-a.conf", "net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward = 1\n", []),
        ("/etc/sysctl.d/99-a.conf", "net.ipv4.tcp_syncookies = 0\n", []),
    ],
)
def test_finds_who_wins_at_boot(tmp_path: Path, path: str, text: str, found: list[tuple[str, int, str]]) -> None:
    put(tmp_path, OWN, "net.ipv4.ip_forward = 1\n")
    put(tmp_path, path, text)
    overrides = SysctlTree(str(tmp_path)).overrides(OWN, {"net/ipv4/ip_forward": "1"})
    assert [(item.path, item.line, item.value) for item in overrides] == found
