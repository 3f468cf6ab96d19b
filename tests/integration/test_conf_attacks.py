# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What locked a host in the layout iptables_compat out for good. One host for each Debian release."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest
from integration.conf_scene import CONF, TOOLS, conf, policies, restore_what_was_saved
from integration.fleet import both, table, target
from integration.scene import PENDING, RULES, SSH, is_root, timer, variables

from lab.ansible import PlaybookResult, close_connections, run_playbook, start_playbook
from lab.containers import Target
from lab.host import Host
from lab.process import wait_for

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

#: Seconds until a change that locks out is taken back.
LIMIT = 4
LAYOUT = "/etc/bulkhead/layout.json"


def role(host: Host, **others: t.Any) -> PlaybookResult:
    """Run the playbook, whatever comes of it."""
    return run_playbook(host.lab, CONF, hosts=host.name, extra_vars=conf(variables(RULES), **others))


def ssh(host: Host) -> list[Target]:
    return [target(*key) for key in sorted(both(host, "tcp", 22))]


def assert_reachable(host: Host) -> None:
    assert set(table(host.lab.peer.probe(ssh(host), 1.5)).values()) == {"open"}


def waits(host: Host) -> bool:
    record = Path(f"/proc/{host.ns_pid}/root{PENDING}")
    return timer(host) == "active" and record.exists() and bool(json.loads(record.read_text())["applied"])


def test_a_host_on_which_handles_change_and_things_get_lost(module_host: Host) -> None:
    """Each step ends with a host that its administrator gets to."""
    host = module_host
    # The first change locks out; while it waits, somebody saves and restores with iptables: other handles.
    extra = conf(variables(RULES[len(SSH) :], allow_lockout=True, confirm_timeout=LIMIT))
    run = start_playbook(host.lab, CONF, hosts=host.name, extra_vars=extra)
    wait_for("the change waits for its confirmation", lambda: waits(host), 60, interval=0.05)
    restore_what_was_saved(host)
    assert set(table(host.lab.peer.probe(ssh(host), 0.5)).values()) == {"timeout"}
    assert run.wait().rc != 0
    wait_for("the change is taken back", lambda: timer(host) == "inactive", LIMIT, interval=0.1)
    time.sleep(0.5)
    assert_reachable(host)
    assert "DROP" not in {policies(host)[f"{tool} INPUT"] for tool in TOOLS}
    close_connections(host.lab)

    # Nobody knows any more whose the policy of INPUT is.
    assert role(host).rc == 0
    host.run(["rm", LAYOUT])
    removed = role(host, state="absent")
    assert removed.rc == 0, removed.messages(host.name)
    assert_reachable(host)
    assert "DROP" not in {policies(host)[f"{tool} INPUT"] for tool in TOOLS}
