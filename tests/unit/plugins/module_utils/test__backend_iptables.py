# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DOCKER-USER as it is left behind: what belongs to it, its removal and its return."""

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_iptables import (
    UserChain,
    away,
    jumps,
    policy,
    removal,
    restoration,
    user_chain,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import parse_save

RICH = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [10:600]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:lan - [0:0]
:log - [0:0]
:shared - [0:0]
-A INPUT -j shared
-A FORWARD -j DOCKER-USER
-A FORWARD -i wg0 -j ACCEPT
-A DOCKER-USER -i eth0 -s 192.0.2.0/24 -j lan
-A DOCKER-USER -m comment --comment "see -j DOCKER" -j shared
-A DOCKER-USER -j RETURN
-A lan -p tcp -m tcp --dport 80 -g log
-A log -j DROP
-A shared -j log
COMMIT
"""


def there(text: str = RICH) -> UserChain:
    return user_chain(parse_save(text))


def test_what_only_docker_user_leads_to_belongs_to_it() -> None:
    found = there()
    # "log" is used by "shared", which INPUT uses.
    assert list(found.chains) == ["DOCKER-USER", "lan"]
    assert found.jumps == ("-A FORWARD -j DOCKER-USER",)
    assert (found.exists, found.policy, found.left) == (True, "DROP", True)


def test_docker_s_own_return_is_no_rule_of_somebody_s() -> None:
    assert there().rules == 3


def test_removal_is_one_transaction_that_leaves_other_rules_alone() -> None:
    assert removal(there()).splitlines() == [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        "-D FORWARD -j DOCKER-USER",
        "-F DOCKER-USER",
        "-F lan",
        "-X DOCKER-USER",
        "-X lan",
        "COMMIT",
    ]


def test_a_policy_that_lets_pass_is_not_set() -> None:
    assert ":FORWARD" not in removal(there(RICH.replace("FORWARD DROP", "FORWARD ACCEPT")))


def test_what_was_removed_comes_back_rule_for_rule() -> None:
    text = restoration(there())
    assert user_chain(parse_save(text)).chains == there().chains
    assert policy(there()) == "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    assert jumps(there()) == "*filter\n-I FORWARD -j DOCKER-USER\nCOMMIT\n"


def test_nothing_is_written_where_there_is_nothing() -> None:
    for text in ("", "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n", "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"):
        found = there(text)
        assert not found.left
        assert (removal(found), restoration(found), policy(found), jumps(found)) == ("", "", "", "")


def test_a_policy_alone_is_left_behind_as_well() -> None:
    found = there("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")
    assert found.left
    assert removal(found) == "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"


def test_each_part_of_the_way_back_can_fail_alone() -> None:
    parts = away({"ip": there()})
    assert list(parts["ip"]) == ["no-jump", "no-policy", "no-chains"]
    assert "-X lan" in parts["ip"]["no-chains"]
    # A family of which nothing was known may have got a chain from Docker meanwhile.
    assert "-X DOCKER-USER" in parts["ip6"]["no-chains"]


@pytest.mark.parametrize("extra", ["-A FORWARD -i eth1 -j DOCKER-USER", "-A lan -j DOCKER-USER"])
def test_other_ways_to_the_chain_are_found(extra: str) -> None:
    found = there(RICH.replace("COMMIT", f"{extra}\nCOMMIT"))
    assert (extra in found.jumps) is extra.startswith("-A FORWARD")
