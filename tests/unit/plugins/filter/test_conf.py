# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of nftables.service's file, and the file itself (tests/unit/golden_conf, --update-golden writes it anew)."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.bulkhead.docker_nftables.plugins.filter.conf import KNOWN, FilterModule, conf_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _boot, _conf_file, _conf_text, _marks
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_state import ConfState
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_iptables import foreign_base_chains
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import OwnTable
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import needs_nft
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render_conf

UNIT = Path(__file__).resolve().parents[2]
ROLE = UNIT.parents[1] / "roles/nftables_conf"
GOLDEN = UNIT / "golden_conf"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
COMPAT = {"layout": "iptables_compat"}
MARKED = {**COMPAT, "tables": "table inet a {\n\tchain c {\n\t\tmeta mark & $docker_mark != 0 accept\n\t}\n}"}


def variables(case: str) -> dict[str, t.Any]:
    return yaml.safe_load((GOLDEN / case / "variables.yml").read_text(encoding="utf-8"))


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / case / "golden.conf"
    plan = conf_plan(variables(case), {}, {})
    assert plan["errors"] == []
    text = render_conf(plan)
    # The first line is left out of the golden files: a test file that starts so would be taken for a program.
    first, _newline, rest = text.partition("\n")
    assert first == "#!/usr/sbin/nft -f"
    if request.config.getoption("--update-golden"):
        golden.write_text(rest, encoding="utf-8")
    assert rest.splitlines() == golden.read_text(encoding="utf-8").splitlines()
    _conf_text.check(text, "inet", variables(case).get("table", "bulkhead"))
    assert _conf_file.managed(text) and not _conf_file.flushes(text)


@needs_nft
@pytest.mark.parametrize("case", CASES)
def test_nft_loads_it_and_iptables_reads_it(case: str) -> None:
    name = variables(case).get("table", "bulkhead")
    text = (GOLDEN / case / "golden.conf").read_text(encoding="utf-8")
    runner = Runner()
    own = OwnTable(runner, "inet", name)
    found = ConfState(runner, own).want(f"table inet {name} {{\n}}\n", text)
    plan = conf_plan(variables(case), {}, {})
    assert list(found.shared) == [(item["family"], item["name"]) for item in plan["tables"]]
    for item in plan["tables"]:
        wanted = found.shared[item["family"], item["name"]]
        assert {chain["name"]: len(chain["rules"]) for chain in item["own"]} == {
            name: len(rules) for name, rules in wanted.own.items()
        }
        assert wanted.policies == {chain["name"]: chain["policy"] for chain in item["bases"] if chain["policy"]}
        assert sorted(wanted.jumps) == sorted((chain["from"], chain["name"]) for chain in item["own"])
        assert (sorted(wanted.bases), wanted.plain) == (sorted(chain["name"] for chain in item["bases"]), item["plain"])
    with runner.scratch_network():
        # Further loads repeat jumps and nothing else.
        script = _conf_text.effective(text, f"table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n}}\n", False)
        own.load(script)
        once = runner.run(["nft", "-s", "list", "ruleset"]).stdout
        own.load(script)
        twice = runner.run(["nft", "-s", "list", "ruleset"]).stdout
    assert sorted(set(once.splitlines())) == sorted(set(twice.splitlines()))


def test_the_cases_cover_every_variable_that_is_in_the_file() -> None:
    named = {name for case in CASES for name in variables(case)}
    assert named == {
        "layout",
        "path",
        "mark_bit",
        "forward_policy",
        "output_policy",
        "rules",
        "tables",
        "includes",
        "table",
    }


# -- the plan ------------------------------------------------------------------------------------------------------


def test_a_plan_for_the_own_table() -> None:
    assert conf_plan({}, {}, {}) == {
        "errors": [],
        "refusal": "",
        "layout": {
            "layout": "own_table",
            "mark_bit": 0,
            "docker_bit": 0,
            "drops_input": False,
            "output": False,
            "policies": (),
        },
        "first_layout": conf_plan({}, {}, {})["layout"],
        "tables": [],
        "path": "/etc/nftables.conf",
        "header": _conf_file.HEADER,
        "include": _boot.INCLUDE,
        "nft": "/usr/sbin/nft",
        "further": "",
        "includes": [],
        "stops": [],
    }


def test_mistakes_of_names_and_values_are_said_together() -> None:
    plan = conf_plan({"layout": "x", "mark_bit": 3}, {}, {}, ["nftables_conf_layuot", "nftables_conf_rules"])
    assert [line.split(":")[0] for line in plan["errors"]] == [
        "nftables_conf_layuot",
        "nftables_conf_layout",
        "nftables_conf_mark_bit",
    ]
    assert plan["refusal"].splitlines() == [
        "nftables_conf refuses this host for 3 reasons; nothing was changed.",
        *(f"  - {line}" for line in plan["errors"]),
    ]
    assert (plan["layout"], plan["tables"]) == ({}, [])
    one = conf_plan({}, {}, {}, ["nftables_conf_layuot"])
    assert one["refusal"].startswith("nftables_conf refuses this host for 1 reason; nothing was changed.\n  - nftables_conf_l")


def test_every_variable_of_the_role_is_known() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    assert set(defaults) == set(KNOWN)
    assert conf_plan({}, {}, {}, [*KNOWN, "nftables_conf_layout_of_mine"])["errors"] == []


def test_a_policy_with_mistakes_is_left_to_its_own_role() -> None:
    assert conf_plan(COMPAT, {"rules": 5}, {})["errors"] == []


@pytest.mark.parametrize(
    ("given", "facts", "path"),
    [
        ({}, {}, "/etc/nftables.conf"),
        ({"path": ""}, {"conf": {"path": "/etc/sysconfig/nftables.conf"}}, "/etc/sysconfig/nftables.conf"),
        ({}, {"conf": {"path": "/b"}, "layout": {"path": "/a"}}, "/a"),
        ({}, {"conf": {"path": "/b"}, "layout": None}, "/b"),
        ({"path": "/c"}, {"conf": {"path": "/b"}, "layout": {"path": "/a"}}, "/c"),
        ({}, {"conf": None}, "/etc/nftables.conf"),
    ],
)
def test_which_file(given: dict[str, t.Any], facts: dict[str, t.Any], path: str) -> None:
    assert conf_plan(given, {}, facts)["path"] == path


# -- the bits ------------------------------------------------------------------------------------------------------

FIRST, SECOND, THIRD = _marks.PREFERRED[:3]


def marks(used: int, text: str = "set by hand") -> dict[str, t.Any]:
    use = _marks.MarkUse("ip mangle PREROUTING handle 3", used, used, text)
    return {"used_mask": used, "uses": [use.as_dict()]}


@pytest.mark.parametrize(
    ("given", "facts", "bits"),
    [
        ({}, {"marks": marks(0), "layout": {"mark_bit": FIRST}}, (0, 0)),
        (COMPAT, {}, (FIRST, 0)),
        (COMPAT, {"marks": marks(FIRST)}, (SECOND, 0)),
        (MARKED, {}, (FIRST, SECOND)),
        (MARKED, {"marks": marks(SECOND)}, (FIRST, THIRD)),
        (COMPAT, {"layout": {"mark_bit": THIRD}}, (THIRD, 0)),
        (COMPAT, {"layout": {"mark_bit": THIRD}, "marks": marks(THIRD)}, (FIRST, 0)),
        (MARKED, {"layout": {"mark_bit": FIRST, "docker_bit": THIRD}}, (FIRST, THIRD)),
        (MARKED, {"layout": {"mark_bit": FIRST, "docker_bit": THIRD}, "marks": marks(THIRD)}, (FIRST, SECOND)),
        (MARKED, {"layout": {"mark_bit": 0, "docker_bit": FIRST}}, (FIRST, SECOND)),
        (COMPAT, {"layout": {"mark_bit": FIRST, "docker_bit": THIRD}}, (FIRST, 0)),
        ({**COMPAT, "mark_bit": 4}, {"layout": {"mark_bit": FIRST}}, (4, 0)),
        (COMPAT, {"layout": None, "marks": None}, (FIRST, 0)),
    ],
)
def test_which_bits(given: dict[str, t.Any], facts: dict[str, t.Any], bits: tuple[int, int]) -> None:
    plan = conf_plan(given, {}, facts)
    assert plan["errors"] == []
    assert (plan["layout"]["mark_bit"], plan["layout"]["docker_bit"]) == bits


def test_a_bit_that_somebody_uses() -> None:
    plan = conf_plan({**COMPAT, "mark_bit": FIRST}, {}, {"marks": marks(FIRST)})
    assert plan["errors"] == [
        "nftables_conf_mark_bit: bit 0x10000000 of the packet mark is in use by ip mangle PREROUTING handle 3 (set by hand)"
    ]
    assert "1 reason" in plan["refusal"]


@pytest.mark.parametrize(
    ("where", "text", "whole", "dangerous"),
    [
        ("ip mangle INPUT handle 3", "-A INPUT -j MARK --set-mark 0x1", True, True),
        ("ip mangle INPUT handle 3", "-A INPUT -j MARK --set-xmark 0x1/0xffffffff", True, True),
        ("ip nat PREROUTING handle 3", "-A PREROUTING -j CONNMARK --restore-mark", True, True),
        ("ip6 filter INPUT handle 3", "-A INPUT -j MARK --set-xmark 0x0/0xffffffff", True, True),
        ("inet mine c handle 3", "meta mark set 0x00000001", True, True),
        ("inet mine c handle 3", "meta mark set 0x00000001", False, False),
        ("inet mine c handle 3", "meta mark 0x00000001 accept", True, False),
        ("ip mangle PREROUTING handle 3", "-A PREROUTING -j MARK --set-mark 0x1", True, False),
        ("ip6 mangle FORWARD handle 3", "-A FORWARD -j MARK --set-mark 0x1", True, False),
        ("ip raw PREROUTING handle 3", "meta mark set 0x00000001", True, False),
        ("ip nat POSTROUTING handle 3", "meta mark set 0x00000001", True, False),
        ("ip nat OUTPUT handle 3", "meta mark set 0x00000001", True, False),
    ],
)
@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_who_overwrites_what_the_own_table_decided(
    where: str, text: str, whole: bool, dangerous: bool, layout: str
) -> None:
    use = _marks.MarkUse(where, 1, 0, text, whole)
    found = conf_plan({"layout": layout}, {}, {"marks": {"used_mask": 0, "uses": [use.as_dict()]}})["errors"]
    assert found == (
        [
            f"{where} writes the whole packet mark ({text}), so that what the policy refuses could be taken for accepted on"
            " its way to INPUT; give that rule a mask, or use nftables_conf_layout: own_table"
        ]
        if dangerous and layout == "iptables_compat"
        else []
    )


@pytest.mark.parametrize(
    ("code", "where", "refused"),
    [
        ("FOREIGN_PRIORITY", "ip filter INPUT", True),
        ("FOREIGN_PRIORITY", "ip6 nat OUTPUT", True),
        ("FOREIGN_PRIORITY", "inet filter INPUT", False),
        ("FOREIGN_PRIORITY", "ip filter mine", False),
        ("OTHER", "ip filter INPUT", False),
    ],
)
@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_a_chain_of_iptables_name_in_another_place(code: str, where: str, refused: bool, layout: str) -> None:
    warning = {"code": code, "where": where, "text": f"Chain {where} is at -5. More words."}
    found = conf_plan({"layout": layout}, {}, {"warnings_found": [warning]})["errors"]
    family, chain = where.split(" ", 1)
    assert found == (
        [
            f"chain {where} is at -5, and nft does not change that in a chain that exists; move its rules to the policy,"
            f" take it out of what loads it, and delete it (nft delete chain {family} {chain})"
        ]
        if refused and layout == "iptables_compat"
        else []
    )


# -- others on the host --------------------------------------------------------------------------------------------

RUNNING = {"firewall_services": {"ufw": {"active": True}, "firewalld": {"active": False}}}
BOTH = {"firewall_services": {"ufw": {"active": True}, "firewalld": {"active": True}}}


@pytest.mark.parametrize(
    ("given", "facts", "named", "stops"),
    [
        ({}, {}, [], []),
        ({}, {"firewall_services": None}, [], []),
        ({}, RUNNING, ["ufw"], []),
        ({}, BOTH, ["firewalld", "ufw"], []),
        ({"replaces": ["ufw"]}, BOTH, ["firewalld"], []),
        ({"replaces": ["ufw"]}, RUNNING, [], ["ufw"]),
        ({"replaces": ["ufw", "firewalld"]}, RUNNING, [], ["ufw"]),
        ({"replaces": ["ufw", "firewalld"]}, {}, [], []),
    ],
)
def test_other_managers_of_the_firewall(
    given: dict[str, t.Any], facts: dict[str, t.Any], named: list[str], stops: list[str]
) -> None:
    plan = conf_plan(given, {}, facts)
    assert plan["errors"] == [
        f"{name} runs on this host and would fight with this role over the same rules; leave the host to it, or set"
        f" nftables_conf_replaces: [{name}] to have it stopped and disabled"
        for name in named
    ]
    if not named:
        assert plan["stops"] == stops


@pytest.mark.parametrize(
    ("given", "stops", "first"), [(COMPAT, True, True), (COMPAT, False, False), ({}, True, False)]
)
def test_until_another_manager_is_gone_the_own_table_drops(given: dict[str, t.Any], stops: bool, first: bool) -> None:
    plan = conf_plan({**given, "replaces": ["ufw"]}, {}, RUNNING if stops else {})
    assert plan["first_layout"] == {**plan["layout"], "drops_input": first}
    assert plan["layout"]["drops_input"] is False


LEGACY = {"legacy_rules": {"ipv4": ["-P INPUT DROP", "-A INPUT -j ACCEPT"], "ipv6": ["-P INPUT DROP"]}}


@pytest.mark.parametrize(
    ("given", "facts", "said"),
    [
        ({}, {"legacy_rules": {"ipv4": [], "ipv6": None}}, None),
        ({}, LEGACY, "this host has 3 rules in the old xtables, which nft does not show and every packet passes too (the"),
        ({"legacy": "keep"}, LEGACY, None),
        ({"legacy": "move"}, LEGACY, None),
        ({}, {"iptables": {"variant": "legacy"}}, None),
        (COMPAT, {"iptables": {"variant": "nf_tables"}}, None),
        (COMPAT, {"iptables": {"variant": "legacy"}}, "iptables on this host is iptables-legacy, which sees nothing of"),
        ({**COMPAT, "legacy": "keep"}, {"iptables": {"variant": "legacy"}}, "iptables on this host is iptables-legacy"),
        ({**COMPAT, "legacy": "move"}, {"iptables": {"variant": "legacy"}}, None),
    ],
)
def test_iptables_of_the_old_kind(given: dict[str, t.Any], facts: dict[str, t.Any], said: str | None) -> None:
    found = conf_plan(given, {}, facts)["errors"]
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


@pytest.mark.parametrize(
    ("given", "label", "place", "refused"),
    [
        (COMPAT, "ip nat INPUT", ("nat", "input", -100), True),
        (COMPAT, "ip6 filter INPUT", ("filter", "input", -450), True),
        (COMPAT, "ip nat INPUT", ("nat", "input", 100), False),
        (COMPAT, "ip filter input", ("filter", "input", 5), False),
        (COMPAT, "ip raw OUTPUT", ("filter", "output", 5), False),
        ({}, "ip nat INPUT", ("nat", "input", -100), False),
    ],
)
def test_a_chain_of_iptables_in_another_place(
    given: dict[str, t.Any], label: str, place: tuple[str, str, int], refused: bool
) -> None:
    """What nft would say of it does not tell which chain is meant, nor what to do."""
    family, table, name = label.split()
    ruleset = Ruleset((Table(family, table, chains=(Chain(name, 1, *place),)),))
    facts = {"warnings_found": [finding.as_dict() for finding in foreign_base_chains(ruleset)]}
    errors = conf_plan(given, {}, facts)["errors"]
    assert len(errors) == refused
    if refused:
        assert errors[0].startswith(f"base chain {name} of table {family} {table} is not the one iptables uses: priority -")
        assert errors[0].endswith(f"delete it (nft delete chain {label})")


@pytest.mark.parametrize("names", [["filter"], ["docker-bridges"]])
def test_docker_with_tables_of_its_own(names: list[str]) -> None:
    facts = {"tables": [{"family": "ip", "name": name} for name in names]}
    found = conf_plan({**COMPAT, "forward_policy": "drop"}, {}, facts)["errors"]
    assert len(found) == ("docker-bridges" in names)


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"conf_plan": conf_plan}
