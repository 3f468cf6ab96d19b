# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ssh import (
    parse_ssh_connection,
    read_ssh_connection,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner


def process(proc: Path, pid: int, parent: int, environment: bytes) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "environ").write_bytes(environment)
    (proc / str(pid) / "status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")


def under_sudo(proc: Path, value: str) -> None:
    """sshd's shell 10 has the variable, sudo 20 and what it started, 30, have not."""
    process(proc, 1, 0, b"")
    process(proc, 10, 1, b"HOME=/root\0SSH_CONNECTION=" + value.encode() + b"\0TERM=x\0")
    process(proc, 20, 10, b"HOME=/root\0")
    process(proc, 30, 20, b"NOT_SSH_CONNECTION=1 2 3 4\0")


def test_the_connection_is_found_behind_sudo(tmp_path: Path) -> None:
    under_sudo(tmp_path, "198.51.100.50 41234 198.51.100.13 22")
    runner = FakeRunner(
        [Call(["ip", "-j", "route", "get", "198.51.100.50"], stdout='[{"dst":"198.51.100.50","dev":"eth0"}]')]
    )
    assert read_ssh_connection(runner, str(tmp_path), 30) == {
        "client_address": "198.51.100.50",
        "client_port": 41234,
        "server_address": "198.51.100.13",
        "server_port": 22,
        "interface": "eth0",
    }
    runner.done()


@pytest.mark.parametrize(
    "call",
    [
        Call(["ip", "-j", "route", "get", "2001:db8::5"], missing=True),
        Call(["ip", "-j", "route", "get", "2001:db8::5"], rc=2, stderr="RTNETLINK answers: Network is unreachable"),
        Call(["ip", "-j", "route", "get", "2001:db8::5"], stdout="[]"),
        Call(["ip", "-j", "route", "get", "2001:db8::5"], stdout="garbage"),
    ],
)
def test_without_a_route_the_interface_is_unknown(call: Call, tmp_path: Path) -> None:
    under_sudo(tmp_path, "2001:db8::5 41234 2001:db8::13 2222")
    connection = read_ssh_connection(FakeRunner([call]), str(tmp_path), 30)
    assert connection is not None
    assert (connection["interface"], connection["server_port"]) == (None, 2222)


def test_a_link_local_client_names_its_interface(tmp_path: Path) -> None:
    under_sudo(tmp_path, "fe80::1%eth0 41234 fe80::2%eth0 22")
    connection = read_ssh_connection(FakeRunner(), str(tmp_path), 30)
    assert connection is not None
    assert (connection["client_address"], connection["interface"]) == ("fe80::1", "eth0")


def test_no_connection_without_ssh(tmp_path: Path) -> None:
    process(tmp_path, 1, 0, b"")
    process(tmp_path, 30, 1, b"HOME=/root\0")
    assert read_ssh_connection(FakeRunner(), str(tmp_path), 30) is None
    assert read_ssh_connection(FakeRunner(), str(tmp_path), 4711) is None


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    process(tmp_path, 30, 31, b"")
    process(tmp_path, 31, 30, b"")
    assert read_ssh_connection(FakeRunner(), str(tmp_path), 30) is None


def test_a_mapped_address_is_the_ipv4_address_it_maps() -> None:
    parsed = parse_ssh_connection("::ffff:198.51.100.50 1 ::ffff:198.51.100.13 22")
    assert parsed is not None
    assert (parsed["client_address"], parsed["server_address"]) == ("198.51.100.50", "198.51.100.13")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b c d",
        "1.2.3.4 5 6.7.8.9",
        "1.2.3.4 5 6.7.8.9 70000",
        "1.2.3.4 0 6.7.8.9 22",
        "1.2.3 5 6.7.8.9 22",
        "-4 1 2 3",
    ],
)
def test_anything_else_in_the_variable_is_no_connection(value: str) -> None:
    assert parse_ssh_connection(value) is None
