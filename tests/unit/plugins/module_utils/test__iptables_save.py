# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import (
    SaveError,
    parse_save,
    unread_tables,
    words,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-A X -j DROP", ["-A", "X", "-j", "DROP"]),
        ("-A X -j LOG ", ["-A", "X", "-j", "LOG"]),
        ('--comment "a b" -j', ["--comment", "a b", "-j"]),
        ('--comment ""', ["--comment", ""]),
        (r'--comment "a\'b\"c\\d"', ["--comment", "a'b\"c\\d"]),
        # Names of interfaces are printed as they are; only double quotes mean something to iptables-restore.
        ("-i e'x -o a\\b", ["-i", "e'x", "-o", "a\\b"]),
    ],
)
def test_words_are_those_of_iptables_restore(line: str, expected: list[str]) -> None:
    assert words(line) == expected


@pytest.mark.parametrize("line", ['--comment "a', '-i e"x', '--comment "a"b', '--comment "a\\"'])
def test_quotes_that_nobody_can_read_are_refused(line: str) -> None:
    with pytest.raises(SaveError):
        words(line)


def test_an_interface_may_have_an_apostrophe() -> None:
    saved = parse_save("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i e'x -j DROP\nCOMMIT\n")
    assert saved["filter"].chains["FORWARD"] == ("-A FORWARD -i e'x -j DROP",)


def test_tables_that_iptables_cannot_read_are_found_in_a_comment() -> None:
    text = (
        "# Table `filter' is incompatible, use 'nft' tool.\n"
        "# Table `nat' contains incompatible base-chains, use 'nft' tool to list them.\n"
    )
    assert unread_tables(text) == ["filter"]
    assert parse_save(text) == {}
