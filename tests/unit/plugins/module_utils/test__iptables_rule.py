# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import (
    Match,
    Option,
    RuleError,
    leads_to,
    parse_rule,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_words import comment, quotable


def test_options_belong_to_the_match_they_follow() -> None:
    rule = parse_rule(
        "-A X ! -s 10.0.0.0/8 -p tcp -m tcp --dport 80 -m set ! --match-set a src,dst -m comment -i eth0 -j LOG "
        '--log-prefix "-j DROP"',
        (),
    )
    assert rule.matches == (
        Match("", (Option("-s", ("10.0.0.0/8",), True), Option("-p", ("tcp",)), Option("-i", ("eth0",)))),
        Match("tcp", (Option("--dport", ("80",)),)),
        Match("set", (Option("--match-set", ("a", "src,dst"), True),)),
        Match("comment", ()),
    )
    assert (rule.target, rule.goto, rule.options) == ("LOG", False, (Option("--log-prefix", ("-j DROP",)),))
    assert rule.protocol == "tcp"


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("-A X -m comment --comment -j -g mine", "mine"),
        ("-A X -m comment --comment -g -j DROP", "DROP"),
        ("-A X -m set --match-set -j mine -j DROP", "DROP"),
        ("-A X -m comment --comment -j", None),
        # Of a rule that cannot be read whole.
        ("-A X -m recent --name -j --rcheck -j DROP", "DROP"),
        ("-A X -m recent --rcheck -j mine", "mine"),
        ("-A X -j NFQUEUE --queue-num 2", "NFQUEUE"),
        ("-A X -m recent --rcheck", None),
    ],
)
def test_words_that_look_like_a_jump_are_none(line: str, target: str | None) -> None:
    assert leads_to(line, ("mine",)) == target


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-I X -j DROP", "not a rule"),
        ("-A X -j mine", "target mine"),
        ("-A X -j DROP --dport 5", "option --dport of the target DROP"),
        ("-A X -j REJECT ! --reject-with tcp-reset", "option --reject-with"),
        ("-A X -m", "nothing behind -m"),
        ("-A X -m tcp --dports 5", "option --dports of the match tcp"),
        ("-A X -5", "option -5 cannot"),
        ('-A X -i e"x', "quotes"),
    ],
)
def test_what_is_not_known_is_refused(line: str, reason: str) -> None:
    with pytest.raises(RuleError, match=reason):
        parse_rule(line, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web from lab", '"web from lab"'),
        ('say "no"', "\"say 'no'\""),
        ("a\nb\x00c\u2028", '"a?b?c?"'),
        ("x" * 200, f'"{"x" * 120}"'),
        ("\udcff", '"?"'),
        ("\\", '"\\"'),
    ],
)
def test_a_comment_is_one_word(text: str, expected: str) -> None:
    assert comment(text) == expected


def test_only_plain_text_is_quotable() -> None:
    assert quotable("docker-user: [x]\\")
    assert not any(quotable(text) for text in ("$x", 'a"b', "a\nb", "ü"))
