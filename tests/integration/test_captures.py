# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Captured hosts rebuilt in namespaces: what a neighbour reaches is what was measured on the real ones."""

from __future__ import annotations

import os
import typing as t

import pytest
from world import World, captures
from world.build import load as load_nft
from world.capture import load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nft need root")

QUICK, PATIENT = 0.4, 3.0
MEASURED = [name for name in captures() if load(name).reach]
FIREWALLD = "docker-29.7.2-nftables-firewalld"
Cell = t.Tuple[str, int]


def differences(world: World, expected: t.Mapping[Cell, str]) -> dict[Cell, str]:
    """The cells that are not as expected; a busy machine may answer late, so those get more time."""
    found = world.reach(expected, QUICK)
    again = [cell for cell, result in found.items() if result != expected[cell]]
    return {cell: result for cell, result in world.reach(again, PATIENT).items() if result != expected[cell]}


def elsewhere(name: str, cell: Cell) -> bool:
    """Cells that rules and networks do not explain.

    With firewalld the real host answered no IPv6 at all, not even on port 22, which its rules open. The same rules
    in a namespace answer; what kept the real one silent is not in what was captured.
    """
    return name == FIREWALLD and cell[0].startswith("2001:db8:")


def test_there_are_measured_captures() -> None:
    assert len(MEASURED) == 5


@pytest.mark.parametrize("name", MEASURED)
def test_a_rebuilt_host_is_reached_as_the_real_one_was(name: str) -> None:
    capture = load(name)
    expected = {cell: result for cell, result in capture.reach.items() if not elsewhere(name, cell)}
    assert len(expected) >= (69 if name == FIREWALLD else 90)
    with World(capture) as world:
        world.load_capture()
        assert differences(world, expected) == {}


def test_a_rule_that_is_missing_shows() -> None:
    """Without Docker's last rule in each network's chain, exactly the unpublished port of the routed network opens."""
    capture = load("switch-3-nftables-cleaned")
    rule = '\t\tcounter drop comment "UNPUBLISHED PORT DROP"\n'
    assert capture.native.count(rule) == 7
    with World(capture) as world:
        load_nft(world.host, capture.native.replace(rule, ""))
        assert differences(world, capture.reach) == {("172.24.0.2", 81): "refused", ("172.24.0.2", 7): "refused"}
