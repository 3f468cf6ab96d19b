# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that lose something of ours, or on which somebody else writes while a change waits. The kernel is real."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Apply
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_text import ConfTextError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import NftHost, needs_nft
from ansible_collections.bulkhead.docker_nftables.tests.unit.plugins.module_utils.test__conf_apply import (
    CONF,
    DOCKERS,
    FILTER,
    FILTER6,
    asked,
    job,
    pending,
    settle,
)

pytestmark = needs_nft

LAYOUT = "etc/bulkhead/layout.json"


@pytest.fixture
def host(tmp_path: Path) -> t.Iterator[NftHost]:
    """A host with a file of somebody else's, in a network namespace of its own."""
    with Runner().scratch_network():
        made = NftHost(tmp_path)
        (tmp_path / "etc/nftables.conf").write_bytes(CONF)
        yield made


@pytest.mark.parametrize("lost", [(LAYOUT,), (LAYOUT, "etc/nftables.conf")])
@pytest.mark.parametrize("then", ["absent", "own_table"])
def test_a_host_that_has_lost_its_layout_is_not_left_with_a_policy_that_drops(
    host: NftHost, lost: tuple[str, ...], then: str
) -> None:
    host.nft(DOCKERS)
    settle(host, asked(output_policy="drop"))
    for name in lost:
        (host.root / name).unlink()
    if then == "absent":
        job(host).absent(False)
    else:
        job(host).present(asked("own_table"), False, 0)
    for key in (FILTER, FILTER6):
        chains = host.chains(*key)
        assert not any("BULKHEAD-" in rule for chain in chains.values() for rule in chain.texts()), chains
    assert "hook input priority filter; policy drop" not in host.ruleset()
    # With the file gone too nothing says whose the policy of OUTPUT is.
    assert len(lost) == 2 or "hook output priority filter; policy drop" not in host.ruleset()


def test_the_role_for_one_table_does_not_go_on_in_a_layout_that_nobody_remembers(host: NftHost) -> None:
    """Its table would drop and mark nothing, and INPUT accepts nothing without a mark."""
    settle(host)
    (host.root / LAYOUT).unlink()
    before = host.ruleset()
    with pytest.raises(BootError, match="layout.json is missing.*run the role nftables_conf first"):
        Apply(host, "inet", "bulkhead", True, str(host.root)).present(asked("own_table").content, False, 0)
    assert host.ruleset() == before
    settle(host)
    Apply(host, "inet", "bulkhead", True, str(host.root)).present(asked().content, False, 0)


def test_an_included_file_that_flushes_is_refused_where_it_is_named(host: NftHost) -> None:
    """Also one that such a file includes: nft would load it without a word, and Docker's rules would be gone."""
    directory = host.root / "etc/nftables.d"
    directory.mkdir()
    (directory / "a.nft").write_text('# flush ruleset\ninclude "/etc/more/*"\n')
    given = replace(asked(), file=f'{asked().file}include "/etc/nftables.d/*.nft"\n')
    (host.root / "etc/more").mkdir()
    (host.root / "etc/more/b").write_text("flush  ruleset\n")
    before = host.files(), host.ruleset()
    with pytest.raises(ConfTextError, match="^/etc/more/b, which the file includes: 'flush ruleset' takes away"):
        job(host).present(given, True, 0)
    assert (host.files(), host.ruleset()) == before


def written_again(host: NftHost) -> None:
    """Do to the jumps what a restore by iptables does: every rule is made again, with another handle."""
    for family, table in (FILTER, FILTER6):
        for chain in host.chains(family, table).values():
            if not chain.name.startswith("BULKHEAD-"):
                rules = "".join(f"add rule {family} {table} {chain.name} {rule}\n" for rule in chain.texts())
                host.nft(f"flush chain {family} {table} {chain.name}\n{rules}")


def flushed(host: NftHost) -> None:
    """Take everything away, as a file of somebody's own does."""
    host.nft("flush ruleset\n")


@pytest.mark.parametrize("back", ["timer", "at once", "confirmed too late"])
@pytest.mark.parametrize("meanwhile", [written_again, flushed])
@pytest.mark.parametrize("layouts", [("", "iptables_compat"), ("own_table", "iptables_compat"), ("iptables_compat",) * 2])
def test_the_way_back_needs_no_handle(
    host: NftHost, layouts: tuple[str, str], meanwhile: t.Callable[[NftHost], None], back: str
) -> None:
    host.nft(DOCKERS)
    if layouts[0]:
        settle(host, asked(layouts[0]))
    before = effective(host)
    token = pending(host, asked(layouts[1], (80,), output_policy="drop"))
    meanwhile(host)
    if back == "timer":
        host.fire()
    elif back == "at once":
        job(host).put_back(token)
    else:
        host.nft("add table inet bulkhead\nadd chain inet bulkhead by_hand\n")
        with pytest.raises(RevertError):
            job(host).confirm(asked(layouts[1], (80,), output_policy="drop"), token)
    assert not host.timers
    if meanwhile is flushed:
        before = {line for line in before if "tcp dport 1 " not in line and " return" not in line and "DOCKER" not in line}
        assert before <= effective(host)
    else:
        assert effective(host) == before


def test_the_way_back_to_a_layout_that_the_change_has_left(host: NftHost) -> None:
    """The jumps are gone with the change: behind a flush they are put back as a start of the service does."""
    host.nft(DOCKERS)
    settle(host)
    before = effective(host)
    pending(host, asked("own_table"))
    written_again(host)
    host.fire()
    assert effective(host) == before


def effective(host: NftHost) -> set[str]:
    """What decides: policies that drop and rules; not chains that are empty, nor jumps to such."""
    found = set()
    for family, table in ((*FILTER,), (*FILTER6,), ("inet", "bulkhead")):
        chains = host.chains(family, table)
        for chain in chains.values():
            found |= {f"{family} {table} {chain.name} drops" for _once in (1,) if chain.policy == "drop"}
            for rule in chain.texts():
                target = rule.rpartition("jump ")[2] if rule.startswith("counter jump BULKHEAD-") else None
                if target is None or chains[target].rules:
                    found.add(f"{family} {table} {chain.name} {rule} ")
    return found
