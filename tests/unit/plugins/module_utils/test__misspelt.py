# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._misspelt import misspelt

KNOWN = ("nftables_conf_layout", "nftables_conf_rules", "nftables_conf_forward_policy")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nftables_conf_layuot", "nftables_conf_layout"),
        ("nftables_conf_layouts", "nftables_conf_layout"),
        ("nftables_conf_rule", "nftables_conf_rules"),
        ("nftable_conf_rules", "nftables_conf_rules"),
        ("nftables_conf_foward_policy", "nftables_conf_forward_policy"),
        ("nftables_conf_layout", None),
        ("nftables_conf_layout_of_my_own", None),
        ("nftables_conf_rules_x", None),
        ("nftables_conf_something_else", None),
        ("nftables_conf_", None),
        ("layout", None),
    ],
)
def test_a_name_that_is_almost_one(name: str, meant: str | None) -> None:
    assert misspelt([name], KNOWN) == ([f"{name}: there is no such variable; did you mean {meant}?"] if meant else [])


def test_each_name_once_and_in_order() -> None:
    names = ["nftables_conf_rule", "nftables_conf_layuot", "nftables_conf_rule", "nftables_conf_rules"]
    assert [sentence.split(":")[0] for sentence in misspelt(names, KNOWN)] == [
        "nftables_conf_layuot",
        "nftables_conf_rule",
    ]
    assert misspelt([], KNOWN) == []
