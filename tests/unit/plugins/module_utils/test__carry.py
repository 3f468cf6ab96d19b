# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._blocks import Endings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import (
    LATE,
    REFUSES,
    Carry,
    forward_endings,
    input_endings,
    late_chains,
    output_chain,
    verdict_chains,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import FILTER
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Chain

BIT = 0x10000000
SET, CLEAR = "meta mark set meta mark | 0x10000000", "meta mark set meta mark & 0xefffffff"


@pytest.mark.parametrize(
    ("carry", "forward", "inbound"),
    [
        (None, Endings("accept", "counter drop"), Endings("accept", "counter drop")),
        (
            Carry(BIT),
            Endings("accept", "counter goto refused"),
            Endings("goto accepted", "counter goto left_to_input"),
        ),
        (
            Carry(BIT, docker=2),
            Endings("goto passed", "counter goto refused"),
            Endings("goto accepted", "counter goto left_to_input"),
        ),
    ],
)
def test_how_rules_end(carry: Carry | None, forward: Endings, inbound: Endings) -> None:
    assert (forward_endings(carry), input_endings(carry)) == (forward, inbound)


def test_before_routing_nobody_is_let_past_other_tables() -> None:
    assert (REFUSES.accept, REFUSES.drop) == ("accept", "counter goto refused")


@pytest.mark.parametrize(
    ("carry", "left", "passed"),
    [
        (Carry(BIT), f"{CLEAR} accept", None),
        (Carry(BIT, drops_input=True), "counter drop", None),
        (Carry(BIT, docker=0x20000000), f"{CLEAR} accept", "meta mark set meta mark | 0x20000000 accept"),
    ],
)
def test_the_chains_that_write_the_bits(carry: Carry, left: str, passed: str | None) -> None:
    chains = {chain.name: chain.rules for chain in verdict_chains(carry)}
    expected = {"refused": [f"{SET} accept"], "accepted": [f"{SET} accept"], "left_to_input": [left]}
    assert chains == {**expected, **({"passed": [passed]} if passed else {})}


@pytest.mark.parametrize("output", [False, True])
def test_behind_the_chains_of_iptables_the_bit_is_gone(output: bool) -> None:
    chains = late_chains(Carry(BIT, output=output))
    assert chains[0] == Chain(
        "late_forward", ["meta mark & 0x10000000 == 0x10000000 counter drop"], hook="forward", priority=5
    )
    assert chains[1:] == [Chain("late_input", [CLEAR], hook="input", priority=5)] + (
        [Chain("late_output", [CLEAR], hook="output", priority=5)] if output else []
    )
    # iptables' chains are at 0 and firewalld's at 10.
    assert FILTER < 0 < LATE < 10


@pytest.mark.parametrize("bit", [1, 0x1000, 1 << 31])
def test_one_bit_and_no_other(bit: int) -> None:
    carry = Carry(bit)
    assert carry.refused == f"meta mark & {bit:#010x} == {bit:#010x}"
    assert verdict_chains(carry)[2].rules == [f"meta mark set meta mark & {0xFFFFFFFF - bit:#010x} accept"]


def test_what_the_host_itself_sends_and_is_answered() -> None:
    chain = output_chain(Carry(BIT, output=True), -10)
    assert (chain.name, chain.hook, chain.priority) == ("output", "output", -10)
    assert chain.rules[:2] == ["ct state established,related goto accepted", 'oifname "lo" goto accepted']
    assert chain.rules[2].startswith("icmpv6 type { nd-router-solicit, nd-neighbor-solicit,")
    assert all(rule.endswith("goto accepted") for rule in chain.rules)
