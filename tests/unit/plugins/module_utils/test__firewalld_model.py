# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    forward_port_parts,
    forward_port_text,
    minus,
    parse_port,
    plus,
    same,
)


@pytest.mark.parametrize(
    ("entries", "others", "left"),
    [
        (["80/tcp"], ["80/udp"], ["80/tcp"]),
        (["80-90/tcp"], ["80/tcp"], ["81-90/tcp"]),
        (["80-90/tcp"], ["85-86/tcp", "90/tcp"], ["80-84/tcp", "87-89/tcp"]),
        (["80-90/tcp"], ["1-65535/tcp"], []),
        (["80/tcp", "81/tcp"], ["80-81/tcp"], []),
        (["1-65535/udp"], ["1/udp", "65535/udp"], ["2-65534/udp"]),
    ],
)
def test_ports_are_numbers(entries: list[str], others: list[str], left: list[str]) -> None:
    assert minus("ports", entries, others) == tuple(left)


def numbers(entries: tuple[str, ...]) -> set[tuple[int, str]]:
    found = set()
    for entry in entries:
        parsed = parse_port(entry)
        assert parsed is not None
        (low, high), protocol = parsed
        these = {(number, protocol) for number in range(low, high + 1)}
        assert not found & these, f"{entries} overlap"
        found |= these
    return found


def test_any_ports_at_all() -> None:
    chance = random.Random(5)

    def some() -> tuple[str, ...]:
        entries = []
        for _each in range(chance.randrange(5)):
            low = chance.randrange(1, 30)
            entries.append(f"{low}-{low + chance.randrange(6)}/{chance.choice(('tcp', 'udp'))}")
        return plus("ports", (), entries)

    for _round in range(500):
        one, other = some(), some()
        assert numbers(minus("ports", one, other)) == numbers(one) - numbers(other)
        assert numbers(plus("ports", one, other)) == numbers(one) | numbers(other)
        assert same("ports", one, other) is (numbers(one) == numbers(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.9/24", "192.0.2.0/24"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("02:00:5e:00:00:0b", "02:00:5E:00:00:0B"),
    ],
)
def test_sources_mean_the_same(one: str, other: str) -> None:
    assert same("sources", [one], [other])
    assert plus("sources", [one], [other]) == (one,)


@pytest.mark.parametrize(
    "text",
    [
        "port=80:proto=tcp:toport=81",
        "port=80-90:proto=udp:toaddr=192.0.2.1",
        "port=1:proto=tcp:toport=2:toaddr=2001:db8::1",
    ],
)
def test_forward_ports_there_and_back(text: str) -> None:
    parts = forward_port_parts(text)
    assert parts is not None and forward_port_text(*parts) == text
