# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role nftables_conf refuses: it says why, all mistakes at once, and the host stays as it was."""

from __future__ import annotations

import typing as t
from contextlib import contextmanager

import pytest
from integration.conf_scene import CONF, conf, saved
from integration.fleet import ruleset
from integration.scene import RULES, etc, is_root, one_suite, variables

from lab.ansible import run_playbook
from lab.host import Host

pytestmark = [pytest.mark.skipif(not is_root(), reason="test hosts need root"), one_suite]

MARKED = ("fwmark", "0x20000000/0x20000000", "lookup", "main")


@pytest.fixture
def host(lab_host: Host) -> t.Iterator[Host]:
    """A host on which nothing may be changed."""
    before = (ruleset(lab_host), saved(lab_host), etc(lab_host))
    yield lab_host
    assert (ruleset(lab_host), saved(lab_host), etc(lab_host)) == before


def refusal(host: Host, firewall: t.Mapping[str, t.Any] | None = None, **others: t.Any) -> str:
    """Run the playbook, which has to end with a refusal; gives what it says."""
    before = etc(host)
    extra = conf(variables(RULES, **(firewall or {})), **{"layout": "iptables_compat", **others})
    result = run_playbook(host.lab, CONF, hosts=host.name, extra_vars=extra)
    assert result.rc == 2, result.stdout[-2000:]
    assert result.changed(host.name) == 0
    assert "Traceback" not in result.stdout + result.stderr
    assert etc(host) == before
    return result.messages(host.name)


def test_mistakes_in_variables_are_named_all_at_once(host: Host) -> None:
    """First what the role's arguments declare, then the rest."""
    rules = [{"chain": "INPT", "rule": "accept"}, {"chain": "INPUT", "family": "inet", "comment": "web"}]
    said = refusal(host, rules=rules, replaces=["iptables"], layout="both")
    for words in ("INPT", "inet", "nftables_conf_rules.comment", "nftables_conf_replaces", "nftables_conf_layout"):
        assert words in said, words
    rules = [
        {"chain": "INPUT", "rule": "tcp dport { 80, 81 } accept"},
        {"chain": "INPUT", "rule": "accept\n}\nflush ruleset"},
        {"chain": "INPUT", "rule": ""},
    ]
    said = refusal(host, rules=rules, ruls=[], mark_bit=3, tables="table ip filter {\n}\nflush ruleset")
    for words in (
        "nftables_conf_ruls: there is no such variable; did you mean nftables_conf_rules?",
        "nftables_conf_mark_bit: accepted are 0",
        "nftables_conf_rules[0].rule: a set cannot stand in a chain that iptables tools read",
        "nftables_conf_rules[1].rule: ",
        "nftables_conf_rules[2].rule: ",
        "nftables_conf_tables, line 1: table ip filter is managed by iptables tools too",
        "nftables_conf_tables, line 3: only 'table FAMILY NAME { ... }' may stand here, not 'flush ruleset'",
    ):
        assert words in said, words


def test_a_forward_policy_that_would_cut_what_may_be_routed(host: Host) -> None:
    said = refusal(host, {"routed_default": "accept"}, forward_policy="drop")
    assert "nftables_conf_forward_policy: drop would also cut" in said
    assert "docker_firewall_routed_default" in said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"rules": [{"chain": "INPUT", "rule": "tcp dport accept"}]}, "tcp dport accept"),
        ({"tables": "table inet mine {\n\tchain c {\n\t\tbogus\n\t}\n}\n"}, "bogus"),
    ],
    ids=["rules", "tables"],
)
def test_what_nft_refuses_is_shown_with_its_line(host: Host, given: dict[str, t.Any], shown: str) -> None:
    said = refusal(host, **given)
    assert "nft refuses the ruleset" in said
    assert any(shown in line and "|" in line for line in said.splitlines())


@contextmanager
def somebody_marks(host: Host) -> t.Iterator[None]:
    host.run(["ip", "rule", "add", *MARKED])
    try:
        yield
    finally:
        host.run(["ip", "rule", "del", *MARKED])


def test_a_bit_of_the_mark_that_somebody_uses(host: Host) -> None:
    with somebody_marks(host):
        said = refusal(host, mark_bit=0x20000000)
    assert "nftables_conf_mark_bit: bit 0x20000000 of the packet mark is in use by ip rule" in said


def test_a_masked_service(host: Host) -> None:
    host.run(["systemctl", "mask", "nftables.service"])
    try:
        said = refusal(host)
    finally:
        host.run(["systemctl", "unmask", "nftables.service"])
    assert "nftables.service is masked, so nothing would load /etc/nftables.conf" in said
