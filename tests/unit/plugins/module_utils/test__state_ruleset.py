# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import RulesetError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandTimeout, Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import (
    read_nft_version,
    read_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner

JSON = ["nft", "-j", "-t", "list", "ruleset"]
TEXT = ["nft", "-s", "-a", "-t", "list", "ruleset"]
VERSION = ["nft", "--version"]

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="loading a ruleset needs root and nft"
)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("nftables v1.0.6 (Lester Gooch #5)\n", (1, 0, 6)),
        ("nftables v1.1 (Commodore)\n", (1, 1, 0)),
        ("nftables v0.9.3 (Topsy)\n", (0, 9, 3)),
    ],
)
def test_the_version_of_nft(printed: str, version: tuple[int, int, int]) -> None:
    assert read_nft_version(FakeRunner([Call(VERSION, stdout=printed)])) == version


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (FakeRunner(missing=("nft",)), "nft is not installed on this host; install the package nftables"),
        (FakeRunner([Call(VERSION, stdout="nftables v0.9.2 (x)\n")]), "nft 0.9.2 is too old.*0.9.3 is needed"),
        (FakeRunner([Call(VERSION, stdout="busybox\n")]), "printed no version but: 'busybox'"),
    ],
)
def test_an_nft_that_cannot_be_used(runner: FakeRunner, said: str) -> None:
    with pytest.raises(RulesetError, match=said):
        read_nft_version(runner)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            Call(JSON, rc=1, stderr="Operation not permitted (you must be root)\n"),
            "needs root: run the task with become",
        ),
        (Call(JSON, rc=1, stderr="Error: JSON support not compiled-in\n"), "built without JSON support"),
        (
            Call(JSON, rc=1, stderr="Error: something else\n"),
            "nft -j -t list ruleset ended with exit code 1: Error: some",
        ),
        (Call(JSON, raises=CommandTimeout(JSON, -9)), "did not finish in time"),
    ],
)
def test_a_listing_that_fails(call: Call, said: str) -> None:
    with pytest.raises(RulesetError, match=said) as caught:
        read_ruleset(FakeRunner([call]))
    assert "\n" not in str(caught.value)


def test_truncated_json_is_one_sentence() -> None:
    runner = FakeRunner([Call(JSON, stdout='{"nftables": [{"tab'), Call(TEXT)])
    with pytest.raises(RulesetError, match="cut off"):
        read_ruleset(runner)


def test_elements_are_not_even_asked_for() -> None:
    runner = FakeRunner([Call(JSON, stdout='{"nftables": []}'), Call(TEXT)])
    assert read_ruleset(runner).tables == ()
    runner.done()


@needs_nft
def test_a_large_set_is_left_out_unless_asked_for() -> None:
    runner = Runner()
    elements = ", ".join(f"10.{n // 250}.{n % 250}.1" for n in range(5000))
    text = f"table inet t {{\n set s {{\n type ipv4_addr\n elements = {{ {elements} }}\n }}\n}}\n"
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text)
        without, with_them = read_ruleset(runner), read_ruleset(runner, elements=True)
    assert without.tables[0].sets[0].elements is None
    assert len(with_them.tables[0].sets[0].elements or ()) == 5000


@needs_nft
def test_every_rule_of_a_real_listing_gets_its_own_text() -> None:
    rules = [
        'tcp dport { 22, 80 } accept comment "} # handle 9"',
        'log prefix "table ip x { # handle 1" counter',
        "meta mark set 0x00000001",
        'iifname vmap { "eth0" : jump other, "eth1" : drop }',
    ]
    text = "table inet t {\n chain other {\n }\n chain c {\n type filter hook input priority 0\n %s\n }\n}\n"
    runner = Runner()
    with runner.scratch_network():
        runner.run(["nft", "-f", "-"], stdin=text % "\n".join(rules))
        chain = read_ruleset(runner).tables[0].chain("c")
    assert chain is not None
    assert [rule.text for rule in chain.rules] == [
        'tcp dport { 22, 80 } accept comment "} # handle 9"',
        'log prefix "table ip x { # handle 1" counter',
        "meta mark set 0x00000001",
        'iifname vmap { "eth0" : jump other, "eth1" : drop }',
    ]
