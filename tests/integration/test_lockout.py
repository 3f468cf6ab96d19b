# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A policy that would lock Ansible out is refused before anything on the host has changed."""

from __future__ import annotations

import typing as t

import pytest
from integration.fleet import ruleset
from integration.scene import HARDEN, LOCKOUT, RULES, SSH, etc, is_root, one_suite, variables

from lab.ansible import close_connections, run_playbook
from lab.host import Host
from lab.network import LAN

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

OPERATOR = "deploy"
PEER_SUFFIX = 50


@pytest.fixture
def host(lab_host: Host) -> t.Iterator[Host]:
    """A host on which nothing may be changed: neither its ruleset nor what it will do at the next boot."""
    before = (ruleset(lab_host), etc(lab_host))
    yield lab_host
    assert (ruleset(lab_host), etc(lab_host)) == before
    assert "bulkhead" not in lab_host.run(["systemctl", "list-unit-files"]).stdout


@pytest.fixture
def operator(lab_host: Host) -> t.Iterator[str]:
    """A user who is not root but may become it."""
    keys = f"/home/{OPERATOR}/.ssh"
    lab_host.run(["useradd", "--create-home", "--shell", "/bin/sh", OPERATOR])
    lab_host.run(["install", "-d", "-o", OPERATOR, "-m", "700", keys])
    lab_host.run(["install", "-o", OPERATOR, "-m", "600", "/root/.ssh/authorized_keys", f"{keys}/authorized_keys"])
    lab_host.write(f"/etc/sudoers.d/{OPERATOR}", f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    yield OPERATOR
    close_connections(lab_host.lab)
    lab_host.run(["rm", f"/etc/sudoers.d/{OPERATOR}"])
    lab_host.run(["userdel", "--force", "--remove", OPERATOR], check=False)


def refusal(host: Host, rules: t.Any, zones: t.Any = None, **extra_vars: t.Any) -> str:
    """Run the playbook, which has to end with a refusal; gives what it says."""
    given = {**variables(rules, zones=zones or {}), **extra_vars}
    result = run_playbook(host.lab, HARDEN, hosts=host.name, extra_vars=given)
    assert result.rc != 0, result.stdout[-2000:]
    assert result.changed(host.name) == 0
    return result.messages(host.name)


def test_policy_without_ssh(host: Host) -> None:
    said = refusal(host, LOCKOUT)
    assert f"from {LAN.address4(PEER_SUFFIX)} to {host.address4} port 22" in said
    assert "docker_firewall_allow_lockout" in said
    assert "Nothing was changed" in said


@one_suite
def test_policy_that_lets_only_others_in(host: Host) -> None:
    zones = {"elsewhere": {"sources": ["203.0.113.0/24"]}}
    said = refusal(host, [{"from": "elsewhere", "to": "host", "ports": [22]}, *LOCKOUT], zones)
    assert f"to {host.address4} port 22" in said


@one_suite
def test_the_rule_that_would_do_it_is_named(host: Host) -> None:
    zones = {"lan": {"sources": [f"{LAN.address4(0)}/24"]}}
    said = refusal(host, [{"from": "lan", "to": "host", "ports": ["20-30"], "action": "reject"}, *RULES], zones)
    assert "would reject" in said
    assert "docker_firewall_rules[0]" in said


@one_suite
def test_connection_over_ipv6(host: Host) -> None:
    said = refusal(host, [{"to": "host", "ports": [22], "family": "ipv4"}], ansible_host=host.address6)
    assert f"from {LAN.address6(PEER_SUFFIX)} to {host.address6} port 22" in said


def test_connection_is_found_behind_sudo(operator: str, host: Host) -> None:
    """sudo takes SSH_CONNECTION out of the environment; the refusal has to find it all the same."""
    said = refusal(host, LOCKOUT, ansible_user=operator)
    assert f"from {LAN.address4(PEER_SUFFIX)} to {host.address4} port 22" in said
    allowed = run_playbook(
        host.lab, HARDEN, hosts=host.name, extra_vars={**variables(SSH), "ansible_user": operator}, check=True
    )
    assert allowed.rc == 0, allowed.messages()
    assert allowed.changed(host.name) > 0
