# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import INCLUDE
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import HEADER
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_text import ConfTextError, check, effective
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import TextError

TOP = f"#!/usr/sbin/nft -f\n{HEADER} More words.\n{INCLUDE}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# flush ruleset\n",
        "table ip filter {\n\tchain BULKHEAD-A {\n\t}\n}\nflush chain ip filter BULKHEAD-A\n",
        "flush chain ip filter BULKHEAD-A; delete chain ip filter BULKHEAD-A\n",
        "table inet mine\ndelete table inet mine\ntable inet mine {\n\tchain c {\n\t}\n}\n",
        "flush chain inet mine c\n",
        "delete chain inet x c\n",
        "add chain ip filter INPUT\n",
        "chain ip filter INPUT {\n}\n",
        "flush set ip filter s\n",
        "delete chain ip filter\n",
        'table inet mine {\n\tchain c {\n\t\taccept comment "flush ruleset; delete table ip filter"\n\t}\n}\n',
        'include "/etc/nft.d/*.nft"\ndefine a = 1\n',
    ],
)
def test_what_takes_nothing_away_from_others(text: str) -> None:
    check(TOP + text, "inet", "x")


RULESET = "'flush ruleset' takes away what Docker and other tools have loaded"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flush ruleset\n", f"line 4: {RULESET}"),
        ("flush   ruleset ip\n", f"line 4: {RULESET}"),
        ("table inet a { }; flush ruleset;\n", f"line 4: {RULESET}"),
        ("\n\nflush ruleset", f"line 6: {RULESET}"),
        ("flush \\\nruleset\n", f"line 5: {RULESET}"),
        ("flush\\\n  ruleset\n", f"line 5: {RULESET}"),
        ("delete table ip filter\n", "line 4: 'delete table ip filter' takes away what others have in that table"),
        ("flush table ip6 nat\n", "line 4: 'flush table ip6 nat' takes away what others have in that table"),
        ("destroy table ip raw\n", "line 4: 'destroy table ip raw' takes away what others have in that table"),
        ("delete table inet x\n", "line 4: 'delete table inet x' takes away what others have in that table"),
        ("flush chain ip filter INPUT\n", "line 4: 'flush chain ip filter INPUT' takes away what others have in that chain"),
        (
            "delete chain ip filter DOCKER-USER\n",
            "line 4: 'delete chain ip filter DOCKER-USER' takes away what others have in that chain",
        ),
        (
            "destroy chain ip nat DOCKER\n",
            "line 4: 'destroy chain ip nat DOCKER' takes away what others have in that chain",
        ),
        (
            "flush chain ip filter X-BULKHEAD-A\n",
            "line 4: 'flush chain ip filter X-BULKHEAD-A' takes away what others have in that chain",
        ),
    ],
)
def test_what_takes_something_away_from_others(text: str, said: str) -> None:
    with pytest.raises(ConfTextError) as caught:
        check(TOP + text, "inet", "x")
    assert str(caught.value) == said


def test_everything_is_said_at_once() -> None:
    with pytest.raises(ConfTextError) as caught:
        check("flush ruleset\ndelete table ip nat\n", "inet", "x")
    assert str(caught.value).split("; ") == [
        f"the line '{HEADER}' is missing at the top",
        f"the line '{INCLUDE}' is missing",
        f"line 1: {RULESET}",
        "line 2: 'delete table ip nat' takes away what others have in that table",
    ]


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (f"{HEADER}\n{INCLUDE}\n", True),
        (f"#!/usr/sbin/nft -f\n{HEADER}\n{INCLUDE}\n", True),
        (f"# mine\n{HEADER}\n{INCLUDE}\n", False),
        (f"{HEADER}\n {INCLUDE}\n", False),
        (f"{HEADER}\n# {INCLUDE}\n", False),
    ],
)
def test_the_lines_that_name_the_owner_and_load_the_own_table(text: str, ok: bool) -> None:
    if ok:
        check(text, "inet", "x")
    else:
        with pytest.raises(ConfTextError, match="is missing"):
            check(text, "inet", "x")


def test_a_quote_that_nft_would_close_on_another_line() -> None:
    """What this file would take for a comment, nft would load."""
    text = 'table inet a { chain c { accept comment "x\n { { " } }\nflush ruleset\n'
    with pytest.raises(TextError, match="^line 4: a closing quote is missing$"):
        check(TOP + text, "inet", "x")


def test_effective() -> None:
    text = f'{TOP}include "/etc/nft.d/*.nft"\n\tinclude "/x"\n# include "/y"\ntable inet a {{\n}}\n'
    own = "table inet x {\n}\n\n"
    assert effective(text, own, others=True) == text.replace(INCLUDE, "table inet x {\n}")
    assert effective(text, own, others=False).splitlines() == [
        *TOP.splitlines()[:2],
        "table inet x {",
        "}",
        '# include "/y"',
        "table inet a {",
        "}",
    ]
    assert effective(f"{INCLUDE} \n", own, others=False) == ""
