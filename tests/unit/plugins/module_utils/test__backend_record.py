# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host remembers of a switch."""

from __future__ import annotations

import pathlib
from dataclasses import replace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_record as record


def test_what_is_written_is_read_back() -> None:
    given = record.Record({"ip": "*filter\nCOMMIT\n"}, "create x hash:ip", "0x1/0x1", {"firewall-backend": None}, True)
    given = replace(given, closed=("ip", "ip6"))
    assert record.parse(given.text()) == given


def test_no_file_is_no_record(tmp_path: pathlib.Path) -> None:
    assert record.read(str(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"saved": {"arp": ""}}',
        '{"saved": {"ip": 1}}',
        '{"before": {"icc": true}}',
        '{"accept_mark": 1}',
        '{"sets": []}',
        '{"made_sysctl_file": "yes"}',
        '{"closed": "ip"}',
        '{"closed": ["arp"]}',
        "[" * 100000,
    ],
)
def test_a_broken_file_is_named(text: str) -> None:
    with pytest.raises(record.RecordError, match="docker-backend.json"):
        record.parse(text)
