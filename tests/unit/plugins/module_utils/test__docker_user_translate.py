# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DOCKER-USER as nft text (tests/unit/golden_docker_user, refreshed with --update-golden only), and as nft takes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_translate import (
    Mark,
    Problem,
    Translation,
    parse_ipsets,
    translate,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import check_single_table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.tests.unit import docker_user_rules as rules
from ansible_collections.bulkhead.docker_nftables.tests.unit.docker_user_rules import ACCEPT, MARK, save, translated
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import needs_nft

UNIT = Path(__file__).parents[2]
CAPTURE = UNIT / "fixtures/reading/switch-1-iptables-with-docker-user"
GOLDEN = UNIT / "golden_docker_user"
TABLE = "bulkhead_docker_user"
BRIDGES = ("docker0", "br-*")


def chain(text: str | None, name: str) -> list[str]:
    """The rules of one chain."""
    found = re.search(rf"^    chain {name} \{{\n(.*?)^    \}}$", text or "", re.M | re.S)
    assert found is not None, text
    return [line.strip() for line in found.group(1).splitlines() if not line.strip().startswith("comment ")]


def one(*lines: str, v6: str = "", drop: tuple[str, ...] = (), **words: tuple[str, ...] | str) -> Translation:
    """Translate IPv4 rules with Docker's usual bridges."""
    return translate(save(*lines, **words), v6, {}, MARK, bridges=BRIDGES, drop_policy=drop)  # type: ignore[arg-type]


RICH = one(
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-s 10.0.0.0/8 -i eth0 -j office",
    "-i eth0 -p udp -m multiport --ports 53,5353 -j DROP",
    '-m comment --comment "say \\"no\\"; } drop" -g last',
    "-A office -p tcp -m tcp --dport 22 -j ACCEPT",
    "-A office -j RETURN",
    '-A last -m limit --limit 5/min -j LOG --log-prefix "docker-user: "',
    "-A last -j REJECT --reject-with icmp-admin-prohibited",
    "-j RETURN",
    "-A routed -d 192.0.2.0/24 -j ACCEPT",
    "-A routed -j LOG",
    forward=("-j DOCKER-USER", "-j DOCKER-FORWARD", "-i eth0 -o eth1 -j routed", "-i eth2 -j DROP"),
    policy="DROP",
    drop=("ip",),
    v6=save("! -s 2001:db8::/64 -i eth0 -j DROP"),
)


@pytest.mark.parametrize("name", ["switch-1", "rich"])
def test_tables_are_as_they_were(name: str, request: pytest.FixtureRequest) -> None:
    if name == "rich":
        done = RICH
    else:
        v4, v6 = ((CAPTURE / f"{tool}-save.txt").read_text() for tool in ("iptables", "ip6tables"))
        done = translate(v4, v6, {}, MARK, bridges=BRIDGES, drop_policy=("ip", "ip6"))
    assert done.untranslatable == ()
    assert done.uses_mark
    golden = GOLDEN / name / "golden.nft"
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(str(done.text))
    assert done.text == golden.read_text()


@pytest.mark.parametrize(("family", "matches", "expected"), rules.MATCHES)
def test_every_match_has_its_expression(family: int, matches: str, expected: tuple[str, ...]) -> None:
    done = translated(family, f"{matches} -j DROP", "-j DROP")
    assert done.untranslatable == ()
    wanted = [f"{text} counter drop".strip() for text in expected]
    assert chain(done.text, f"v{family}_1") == [*wanted, "counter drop"]


@pytest.mark.parametrize(("family", "rule", "expected"), rules.TARGETS)
def test_every_target_has_its_statement(family: int, rule: str, expected: str) -> None:
    done = translated(family, rule, "-j DROP")
    assert done.untranslatable == ()
    assert chain(done.text, f"v{family}_1") == [expected, "counter drop"]


@pytest.mark.parametrize(("family", "rule", "reason"), rules.REFUSED)
def test_what_has_no_exact_counterpart_is_refused_with_the_rule(family: int, rule: str, reason: str) -> None:
    done = translated(family, "-j ACCEPT", rule)
    (problem,) = done.untranslatable
    assert problem.rule == f"-A DOCKER-USER {rule}"
    assert reason in problem.reason
    assert done.text is None


def test_every_rule_that_cannot_be_translated_is_named_at_once() -> None:
    done = translated(4, "-m recent --rcheck -j DROP", "-i eth0 -j DROP", "-m time --timestart 1 -j DROP")
    assert [problem.rule.split()[3] for problem in done.untranslatable] == ["recent", "time"]


def _all_tables() -> list[str]:
    """One table for each rule, so that ipsets are numbered alike."""
    cases = [(family, f"{match} -j DROP") for family, match, _expected in rules.MATCHES]
    cases += [(family, rule) for family, rule, _expected in rules.TARGETS]
    texts = [translated(family, rule, "-i eth9 -j ACCEPT").text for family, rule in cases]
    held = translate(save("-j MARK --set-xmark 0x1/0x1"), "", {}, Mark(1, 1), mark_held=True)
    whole = translate(save("-j ACCEPT"), "", {}, Mark(1, 0xFFFFFFFF), bridges=("a;b", "br-*"), drop_policy=("ip",))
    texts += [RICH.text, held.text, whole.text]
    texts += [(GOLDEN / name / "golden.nft").read_text() for name in ("switch-1", "rich")]
    return [str(text) for text in texts]


def test_every_text_is_one_table_and_nothing_else() -> None:
    for text in _all_tables():
        check_single_table(text, "inet", TABLE)


@needs_nft
def test_every_text_is_taken_by_nft_and_its_listing_too() -> None:
    texts = _all_tables()
    named = [text.replace(f"table inet {TABLE}", f"table inet t{number}") for number, text in enumerate(texts)]
    with Runner().scratch_network():
        result = Runner().run(["nft", "-f", "-"], stdin="\n".join(named), check=False)
        listing = Runner().run(["nft", "-s", "list", "ruleset"]).stdout
        again = Runner().run(["nft", "-f", "-"], stdin=f"flush ruleset\n{listing}", check=False)
        listed = Runner().run(["nft", "-s", "list", "ruleset"]).stdout
    assert result.rc == 0, result.stderr
    assert listing.count("table inet ") == len(texts)
    assert again.rc == 0, again.stderr
    assert listed == listing


@needs_nft
def test_chains_may_be_as_deep_as_those_of_iptables() -> None:
    def deep(levels: int) -> Translation:
        steps = [f"-A c{number} -j c{number + 1}" for number in range(1, levels)]
        return one("-j c1", *steps, f"-A c{levels} -j DROP")

    done = deep(14)
    with Runner().scratch_network():
        Runner().run(["nft", "-f", "-"], stdin=str(done.text))
    assert [problem.rule for problem in deep(15).untranslatable] == ["chain DOCKER-USER (IPv4)"]
    assert "deeper" in deep(200).untranslatable[0].reason

    def forward(levels: int) -> Translation:
        steps = [f"-A c{number} -j c{number + 1}" for number in range(1, levels)]
        return one("-A c99 -j DROP", *steps, f"-A c{levels} -j ACCEPT", forward=("-j c1",), policy="DROP", drop=("ip",))

    with Runner().scratch_network():
        Runner().run(["nft", "-f", "-"], stdin=str(forward(13).text))
    assert [problem.rule for problem in forward(14).untranslatable] == ["chain FORWARD (IPv4)"]


def test_a_circle_of_chains_ends() -> None:
    done = one("-j a", "-A a -j b", "-A b -j a")
    assert "circle" in done.untranslatable[0].reason


def test_nothing_is_made_of_nothing() -> None:
    for v4 in ("", save(), save("-j RETURN"), "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"):
        assert translate(v4, "", {}, MARK) == Translation(None, False, (), (), 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (save("-j DROP")[:-8], "no end"),
        ("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n-X\nCOMMIT\n", "line 4"),
        (save('-m comment --comment "a\n-A DOCKER-USER -j ACCEPT" -j DROP'), "cannot be understood"),
        ("# Table `filter' is incompatible, use 'nft' tool.\n", "cannot read"),
    ],
)
def test_a_text_that_is_not_whole_is_refused(text: str, reason: str) -> None:
    done = translate("", text, {}, MARK)
    assert done.text is None
    assert done.untranslatable[0].rule == "ip6tables-save"
    assert reason in done.untranslatable[0].reason


def test_a_comment_stays_a_comment() -> None:
    long = "ü" * 100
    done = one(f'-m comment --comment "{long}" -j DROP', '-m comment --comment "\\"; drop; }\t#" -j DROP')
    first, second = chain(done.text, "v4_1")
    assert first == f'counter drop comment "{"ü" * 60}"'
    assert second == 'counter drop comment "\'; drop; }?#"'


def test_chains_are_called_by_names_of_ours() -> None:
    done = one("-j deny.list", "-A deny.list -j DROP")
    assert chain(done.text, "v4_1") == ["counter jump v4_2"]
    assert '        comment "deny.list"\n' in str(done.text)
    assert done.rules == 2


def test_only_accept_needs_the_mark() -> None:
    assert not one("-j DROP").uses_mark
    done = one("-s 10.0.0.0/8 -j deep", "-A deep -j ACCEPT")
    assert done.uses_mark
    assert chain(done.text, "v4_2") == [f"counter {ACCEPT}"]
    # What a connection has remembered must not be taken for an ACCEPT.
    assert chain(done.text, "forward")[1].startswith("meta mark & 0x10000000 == 0x10000000 meta mark set")


@pytest.mark.parametrize("mark", [Mark(0, 1), Mark(2, 1), Mark(1 << 32, 1 << 32)])
def test_a_mark_that_nothing_can_carry_is_refused(mark: Mark) -> None:
    done = translate(save("-j ACCEPT"), "", {}, mark)
    assert "by such a mark" in done.untranslatable[0].reason
    assert translate(save("-j DROP"), "", {}, mark).untranslatable == ()


def test_a_mark_that_docker_accepts_by_already_may_be_set_by_rules() -> None:
    lines = ("-i eth0 -j ACCEPT", "-m mark --mark 0x1/0x1 -j DROP", "-j MARK --set-xmark 0x1/0x1")
    assert len(translate(save(*lines), "", {}, Mark(1, 1)).untranslatable) == 2
    # Nor without any ACCEPT: who knows what Docker was told.
    assert len(translate(save(*lines[2:]), "", {}, Mark(1, 1)).untranslatable) == 1
    done = translate(save(*lines), "", {}, Mark(1, 1), mark_held=True)
    assert chain(done.text, "v4_1")[1:] == [
        "meta mark & 0x1 == 0x1 counter drop",
        "counter meta mark set meta mark & 0xfffffffe | 0x1",
    ]
    assert chain(done.text, "forward")[1:] == ["meta nfproto ipv4 counter jump v4_1"]


def test_a_mark_that_comes_from_the_connection_is_not_an_accept() -> None:
    line = "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
    assert chain(one(line, "-j ACCEPT").text, "v4_1")[0] == "counter meta mark set ct mark & 0xefffffff"


def test_only_what_forward_sends_there_is_asked() -> None:
    done = one("-j DROP", forward=("-i eth0 -j DOCKER-USER", "-o docker0 -g DOCKER-USER", "-j DOCKER-FORWARD"))
    assert chain(done.text, "forward")[1:] == [
        'meta nfproto ipv4 iifname "eth0" counter jump v4_1',
        'meta nfproto ipv4 oifname "docker0" counter goto v4_1',
    ]
    assert one("-j DROP", "-A INPUT -j DOCKER-USER").untranslatable == (
        Problem("chain INPUT (IPv4)", "it leads to DOCKER-USER, as only FORWARD may"),
    )


def test_a_policy_drop_lets_through_what_forward_and_docker_accept() -> None:
    done = one(
        "-i src_if -o dst_if -j ACCEPT",
        "-A mine -p tcp -j ACCEPT",
        "-A mine -j LOG",
        "-A noise -j LOG",
        forward=(
            "-j DOCKER-USER",
            "-j DOCKER-FORWARD",
            "-m recent --rcheck -j DROP",
            "-i lan0 -j mine",
            "-j noise",
            "-i wan0 -g mine",
            "-i x -j RETURN",
            "-m conntrack --ctstate ESTABLISHED -j ACCEPT",
        ),
        policy="DROP",
        drop=("ip",),
    )
    assert done.untranslatable == ()
    assert chain(done.text, "forward_policy") == [
        "type filter hook forward priority filter + 1; policy accept;",
        "meta nfproto ipv4 jump v4_policy",
    ]
    assert chain(done.text, "v4_policy") == [
        "meta mark & 0x10000000 == 0x10000000 counter accept",
        'iifname "docker0" counter accept',
        'iifname "br-*" counter accept',
        'oifname "docker0" counter accept',
        'oifname "br-*" counter accept',
        "jump v4_forward_1",
        "counter drop",
    ]
    assert chain(done.text, "v4_forward_1") == [
        'iifname "lan0" counter jump v4_forward_2',
        'iifname "wan0" counter goto v4_forward_2',
        'iifname "x" counter return',
        "ct state established counter accept",
    ]
    assert chain(done.text, "v4_forward_2") == ["meta l4proto tcp counter accept"]


def test_bridges_are_named_as_they_are() -> None:
    done = translate(save(policy="DROP"), "", {}, MARK, bridges=("a;b", "x+", "br-*"), drop_policy=("ip",))
    lines = chain(done.text, "v4_policy")
    assert lines[:3] == [f'iifname "{name}" counter accept' for name in ("a;b", "x+", "br-*")]
    done = translate(save(policy="DROP"), "", {}, MARK, bridges=('a"b',), drop_policy=("ip",))
    assert {problem.rule for problem in done.untranslatable} == {'bridge a"b'}


def test_a_policy_drop_alone_is_taken_over() -> None:
    done = one(policy="DROP", drop=("ip",))
    assert not done.uses_mark
    assert chain(done.text, "v4_policy")[-1] == "counter drop"
    assert "chain forward {" not in str(done.text)


@pytest.mark.parametrize(
    ("user", "forward", "refused"),
    [
        ("-j DROP", ("-j MARK --set-xmark 0x1/0x1", "-m mark --mark 0x1/0x1 -j ACCEPT"), False),
        ("-j DROP", ("-m mark --mark 0x1/0x1 -j ACCEPT", "-j MARK --set-xmark 0x1/0x1"), True),
        ("-j DROP", ("-m mark --mark 0x0 -j MARK --set-xmark 0x1/0x1", "-j ACCEPT"), True),
        ("-j MARK --set-xmark 0x1/0x1", ("-j DOCKER-USER", "-m mark --mark 0x1/0x1 -j ACCEPT"), False),
        ("-j MARK --set-xmark 0x1/0x1", ("-m mark --mark 0x1/0x1 -j ACCEPT", "-j DOCKER-USER"), True),
    ],
)
def test_marks_are_asked_for_again_only_where_the_answer_is_the_same(
    user: str, forward: tuple[str, ...], refused: bool
) -> None:
    jumps = () if "-j DOCKER-USER" in forward else ("-j DOCKER-USER",)
    done = one(user, forward=(*jumps, *forward), policy="DROP", drop=("ip",))
    assert [problem.rule for problem in done.untranslatable] == (["-P FORWARD DROP (IPv4)"] if refused else [])


@pytest.mark.parametrize(
    ("lines", "forward", "refused"),
    [
        # What FORWARD marks first, DOCKER-USER would miss: the table is asked before FORWARD.
        (("-m mark --mark 0x1/0x1 -j DROP",), ("-i a -j MARK --set-xmark 0x1/0x1", "-j DOCKER-USER"), True),
        (("-m connmark --mark 0x1 -j DROP",), ("-j set", "-j DOCKER-USER"), True),
        (("-j DROP",), ("-j MARK --set-xmark 0x1/0x1", "-j DOCKER-USER"), False),
        (("-m mark --mark 0x1/0x1 -j DROP",), ("-j DOCKER-USER", "-j MARK --set-xmark 0x1/0x1"), False),
        # Past DOCKER-USER and its ACCEPT to the policy DROP.
        (("-j ACCEPT",), ("-i a -j RETURN", "-j DOCKER-USER"), True),
        (("-j ACCEPT",), ("-i a -g away", "-j DOCKER-USER"), True),
        (("-j ACCEPT",), ("-m recent --rcheck -g away", "-j DOCKER-USER"), True),
        (("-j ACCEPT",), ("-j DOCKER-USER", "-j RETURN", "-j DOCKER-FORWARD"), True),
        (("-j ACCEPT",), ("-j DOCKER-USER", "-j DOCKER-FORWARD", "-j RETURN"), False),
        (("-j ACCEPT",), ("-i a -j DROP", "-j DOCKER-USER"), False),
    ],
)
def test_what_would_open_something_in_front_of_docker_user_is_refused(
    lines: tuple[str, ...], forward: tuple[str, ...], refused: bool
) -> None:
    own = ("-A away -j LOG", "-A set -j CONNMARK --set-xmark 0x1/0xffffffff")
    done = one(*lines, *own, forward=forward, policy="DROP", drop=("ip",))
    assert [problem.rule for problem in done.untranslatable] == ([f"-A FORWARD {_first(forward)}"] if refused else [])


def _first(forward: tuple[str, ...]) -> str:
    return next(rule for rule in forward if "DOCKER" not in rule)


def test_ipsets_become_sets_of_the_table() -> None:
    done = translated(4, "-m set --match-set nets src -j DROP", "-m set --match-set nets dst -j DROP")
    assert str(done.text).count("set ipset_") == 1
    assert "elements = {\n            10.0.0.0/8,\n            192.0.2.1,\n        }" in str(done.text)
    assert done.notes == (
        "ipset nets: the table has a copy of its elements; what is added to the ipset later is not in it",
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("create x hash:ip family inet timeout 300\n", "option timeout"),
        ("create x hash:ip family inet counters\n", "option counters"),
        ("create x hash:ip family inet netmask 24\n", "option netmask"),
        ("create x hash:net family inet\nadd x 10.0.0.0/8 nomatch\n", "option nomatch"),
        ("create x hash:ip,mark family inet\n", "type hash:ip,mark"),
        ("create x list:set size 8\n", "type list:set"),
        ("create x hash:net,iface family inet\n", "type hash:net,iface"),
        ("create x hash:ip,port family inet\nadd x 10.0.0.1,icmp:echo-request\n", "no port"),
        ("create x hash:net,net family inet\nadd x 10.0.0.0/8,1.0.0.0/8\nadd x 10.1.0.0/16,1.1.0.0/16\n", "overlap"),
    ],
)
def test_ipsets_that_are_no_sets_of_nftables_are_refused(lines: str, reason: str) -> None:
    sets = parse_ipsets(lines)
    done = translate(save("-m set --match-set x src,src -j DROP"), "", sets, MARK)
    assert reason in done.untranslatable[0].reason
    assert translate(save("-j DROP"), "", sets, MARK).untranslatable == ()


@pytest.mark.parametrize("text", ["add x 1.2.3.4\n", "destroy x\n", 'create x hash:ip comment "a\n'])
def test_what_ipset_does_not_print_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="understood"):
        parse_ipsets(text)


NOTES: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("-j DROP",), ("-j DOCKER-FORWARD",), "DOCKER-USER (IPv4): no rule of FORWARD leads to it"),
    (
        ("-j DROP",),
        ("-i a -j ACCEPT", "-j DOCKER-USER", "-j DOCKER-FORWARD"),
        "-A FORWARD -i a -j ACCEPT (IPv4): what it accepts is now asked for by DOCKER-USER's rules too, and by Docker's",
    ),
    (
        ("-j DROP",),
        ("-i a -j RETURN", "-j DOCKER-USER", "-j DOCKER-FORWARD"),
        "-A FORWARD -i a -j RETURN (IPv4): what it accepts is now asked for by DOCKER-USER's rules too",
    ),
    (
        ("-j DROP",),
        ("-j DOCKER-USER", "-i a -j ACCEPT", "-j DOCKER-FORWARD"),
        "-A FORWARD -i a -j ACCEPT (IPv4): what it accepts, Docker may drop now",
    ),
    (
        ("-j DROP",),
        ("-j DOCKER-USER", "-j DOCKER-FORWARD", "-j REJECT --reject-with icmp-host-prohibited"),
        "-A FORWARD -j REJECT --reject-with icmp-host-prohibited (IPv4): it stood behind Docker's rules and now also "
        "drops what they accept",
    ),
    (
        ("-j ACCEPT",),
        ("-j DOCKER-USER", "-i a -j DROP", "-j DOCKER-FORWARD"),
        "-A FORWARD -i a -j DROP (IPv4): it stood behind DOCKER-USER and now also drops what that accepts",
    ),
    (
        ("-j ACCEPT",),
        ("-j DOCKER-USER", "-j MARK --set-xmark 0x1/0xffffffff"),
        "-A FORWARD -j MARK --set-xmark 0x1/0xffffffff (IPv4): it overwrites the mark",
    ),
    (
        ("-j ACCEPT", "-A DOCKER-INTERNAL ! -s 172.21.0.0/24 -o br-f5c20b7f9fae -j DROP"),
        ("-j DOCKER-USER",),
        "DOCKER-USER (IPv4): what it accepts is no longer let into and out of internal networks of Docker's",
    ),
    (
        ("-j shared", "-A shared -j DROP"),
        ("-j DOCKER-USER", "-j shared"),
        "chain shared (IPv4): rules outside DOCKER-USER lead to it too; the table has a copy of it",
    ),
]


@pytest.mark.parametrize(("lines", "forward", "expected"), NOTES)
def test_differences_are_said(lines: tuple[str, ...], forward: tuple[str, ...], expected: str) -> None:
    done = one(*lines, forward=forward)
    assert done.untranslatable == ()
    assert [note for note in done.notes if note.startswith(expected)], done.notes


def test_rules_that_share_a_limit_draw_from_one_bucket() -> None:
    text = str(one("-p udp -m multiport --ports 5 -m limit --limit 5/min --limit-burst 9 -j LOG").text)
    assert "    limit limit_1 {\n        rate 5/minute burst 9 packets\n    }\n" in text


def test_what_becomes_of_the_policy_is_said() -> None:
    said = (
        ":FORWARD DROP (IPv4): the table drops instead; rules and bridges of other names that come later open nothing"
    )
    assert one("-j DROP", policy="DROP", drop=("ip",)).notes == (said,)
    assert one("-j DROP", policy="DROP").notes == (":FORWARD DROP (IPv4): the policy also drops what Docker accepts",)


def test_rules_of_older_engines_are_dockers_own() -> None:
    forward = (
        "-j DOCKER-USER",
        "-j DOCKER-ISOLATION-STAGE-1",
        "-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-o docker0 -j DOCKER",
        "-i docker0 ! -o docker0 -j ACCEPT",
        "-i docker0 -o docker0 -j ACCEPT",
    )
    done = one("-j DROP", "-A DOCKER-ISOLATION-STAGE-1 -j RETURN", forward=forward, policy="DROP", drop=("ip",))
    assert [note for note in done.notes if not note.startswith(":FORWARD DROP (IPv4): the table drops")] == []
    assert "v4_forward_1" not in str(done.text)
    assert "jump v4_forward_1" in str(
        one("-j DROP", forward=(*forward, "-i docker1 -o docker1 -j ACCEPT"), policy="DROP", drop=("ip",)).text
    )
