# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that firewalld or ufw manages is left to it, or handed over whole, by choice."""

from __future__ import annotations

import typing as t

import pytest
from integration.conftest import NewHost
from integration.fleet import SUITES, both, ruleset, target, tree
from integration.scene import is_root, never_through, variables, wait_open

from lab.ansible import PlaybookResult, run_playbook
from lab.containers import Target, running
from lab.host import Host
from lab.process import wait_for

pytestmark = pytest.mark.skipif(not is_root(), reason="test hosts need root")

#: firewalld 1.3 of bookworm empties Docker's chains when it stops; newer ones leave them.
SUITE = SUITES[0]
CONF = "bulkhead.docker_nftables.nftables_conf"
RULES = [{"to": "host", "ports": [22]}, {"to": "published", "ports": [80, 443]}]


def conf(host: Host, **others: t.Any) -> PlaybookResult:
    extra = {**variables(RULES), "nftables_conf_layout": "iptables_compat"}
    extra.update({f"nftables_conf_{key}": value for key, value in others.items()})
    return run_playbook(host.lab, CONF, hosts=host.name, extra_vars=extra)


def open_(host: Host) -> list[Target]:
    return [target(*key) for key in sorted(both(host, "tcp", 22, 80, 443))]


def closed(host: Host) -> list[Target]:
    return [target(*key) for key in sorted(both(host, "tcp", 8080, 8081, 8888))]


def is_active(host: Host, unit: str) -> bool:
    return host.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"


def docker_publishes(host: Host) -> bool:
    return "--dport 8080 -j DNAT" in host.run(["iptables", "-t", "nat", "-S", "DOCKER"], check=False).stdout


@pytest.fixture
def managed(new_host: NewHost) -> Host:
    """A host on which firewalld runs, with containers."""
    host = new_host(SUITE, variant="firewalld")
    assert is_active(host, "firewalld.service")
    return host


def test_firewalld_then_ufw_are_refused_and_then_handed_over(managed: Host) -> None:
    host = managed
    names = running(host)
    _refused(host, "firewalld")
    result = conf(host, replaces=["firewalld"])
    assert result.rc == 0, result.messages()
    assert not is_active(host, "firewalld.service")
    assert is_active(host, "nftables.service")
    assert host.run(["systemctl", "is-enabled", "firewalld.service"], check=False).stdout.strip() == "disabled"
    _holds(host, names)
    again = conf(host, replaces=["firewalld"])
    assert (again.rc, again.changed(host.name)) == (0, 0), again.messages()

    # ufw on the same host: what it finds is taken over by it, as an administrator would do.
    host.run(["ufw", "allow", "22/tcp"])
    host.run(["ufw", "--force", "enable"])
    wait_for("ufw is active", lambda: "Status: active" in host.run(["ufw", "status"]).stdout, 20)
    _refused(host, "ufw")
    with never_through(host, closed(host), "handing over from ufw"):
        result = conf(host, replaces=["ufw"])
    assert result.rc == 0, result.messages()
    assert "Status: inactive" in host.run(["ufw", "status"]).stdout
    _holds(host, names)
    again = conf(host, replaces=["ufw"])
    assert (again.rc, again.changed(host.name)) == (0, 0), again.messages()


def _refused(host: Host, name: str) -> None:
    before = ruleset(host), tree(host, "/etc")
    result = conf(host)
    assert result.rc != 0
    assert f"{name} runs on this host" in result.messages()
    assert f"nftables_conf_replaces: [{name}]" in result.messages()
    assert (ruleset(host), tree(host, "/etc")) == before


def _holds(host: Host, names: set[str]) -> None:
    assert running(host) == names
    assert docker_publishes(host), "Docker's own rules are not back"
    wait_open(host, open_(host))
    results = host.lab.peer.probe(closed(host), timeout=1.5)
    assert {item["result"] for item in results} == {"timeout"}, results
    assert host.run(["iptables", "-S", "INPUT"]).stdout.startswith("-P INPUT DROP\n")
