# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nft prints, walked through on a host without forwarding; the kernel itself is asked in tests/fuzz."""

from __future__ import annotations

import ipaddress
import json
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import Query
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_host import Host, read_host
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import name_number
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_parse import parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_path import Exposure

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_flow import End

ETH0 = name_number("eth0")
HERE = "198.51.100.12"
ADDRESSES = [
    {
        "ifname": "eth0",
        "ifindex": 2,
        "flags": ["UP"],
        "addr_info": [{"family": "inet", "local": HERE, "prefixlen": 24}],
    }
]
ROUTES = [
    {"type": "local", "dst": HERE, "dev": "eth0", "table": "local", "protocol": "kernel"},
    {"dst": "198.51.100.0/24", "dev": "eth0", "protocol": "kernel"},
    {"dst": "default", "gateway": "198.51.100.1", "dev": "eth0"},
]
RULES = [{"priority": 0, "src": "all", "table": "local"}, {"priority": 32766, "src": "all", "table": "main"}]
_NAMES = ("rp_filter", "route_localnet", "accept_local", "send_redirects", "src_valid_mark", "forwarding")
SYSCTLS = {f"net/ipv4/conf/{place}/{name}": "0" for place in ("all", "eth0") for name in _NAMES}
HOST = read_host(ADDRESSES, {4: ROUTES}, {4: RULES}, SYSCTLS)


def match(left: t.Any, right: t.Any, operator: str = "==") -> dict[str, t.Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def payload(protocol: str, field: str) -> dict[str, t.Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def listing(rules: t.Mapping[str, list[list[t.Any]]], hook: str = "input", policy: str = "accept", **more: t.Any) -> str:
    """One table `inet t`; the chain `base` is the base chain."""
    found: list[t.Any] = [{"metainfo": {}}, {"table": {"family": "inet", "name": "t", "handle": 1}}]
    found += more.get("sets", [])
    for name in rules:
        chain = {"family": "inet", "table": "t", "name": name, "handle": 1}
        if name == "base":
            chain.update(type=more.get("type", "filter"), hook=hook, prio=more.get("prio", 0), policy=policy)
        found.append({"chain": chain})
    handle = 10
    for name, listed in rules.items():
        for expr in listed:
            handle += 1
            found.append({"rule": {"family": "inet", "table": "t", "chain": name, "handle": handle, "expr": expr}})
    return json.dumps({"nftables": found})


def ask(printed: str, daddr: str = HERE, dport: int = 80, proto: int = 6, host: Host = HOST) -> list[End]:
    query = Query(ETH0, 4, proto, int(ipaddress.ip_address(daddr)), dport)
    return Exposure(parse(printed), host).ask(query)


def verdict(ends: list[End], saddr: str = "203.0.113.9", sport: int = 40000) -> str:
    number = int(ipaddress.ip_address(saddr))
    found = [
        end
        for end in ends
        if any(low <= number <= high for low, high in end.flow.saddr)
        and any(low <= sport <= high for low, high in end.flow.sport)
    ]
    if any(end.flow.doubts for end in found):
        return "unknown: " + ", ".join(sorted({reason for end in found for reason in end.flow.doubts}))
    assert len(found) == 1
    return found[0].verdict


ACCEPT, DROP, RETURN = {"accept": None}, {"drop": None}, {"return": None}


def test_an_empty_host_delivers() -> None:
    assert verdict(ask(listing({}))) == "delivered"


def test_a_source_is_split_where_rules_tell_it_apart() -> None:
    prefix = {"prefix": {"addr": "203.0.113.0", "len": 24}}
    ends = ask(listing({"base": [[match(payload("ip", "saddr"), prefix), DROP]]}))
    assert [verdict(ends, saddr) for saddr in ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0")] == [
        "delivered", "drop", "drop", "delivered",
    ]  # fmt: skip


def test_the_way_names_every_rule_that_matched() -> None:
    rules = {
        "base": [[match(payload("udp", "dport"), 1), DROP], [{"jump": {"target": "c"}}], [DROP]],
        "c": [[{"counter": {}}], [RETURN], [ACCEPT]],
    }
    (end,) = [end for end in ask(listing(rules)) if end.flow.steps[-1].table]
    assert [(step.chain, step.handle, step.verdict) for step in end.flow.steps] == [
        ("base", 12, "jump"), ("c", 14, "continue"), ("c", 15, "return"), ("base", 13, "drop"),
    ]  # fmt: skip


def test_goto_does_not_come_back() -> None:
    rules = {"base": [[{"goto": {"target": "c"}}], [ACCEPT]], "c": [[RETURN]]}
    assert verdict(ask(listing(rules, policy="drop"))) == "drop"


def test_a_missed_verdict_map_ends_the_rule() -> None:
    table = {"vmap": {"key": payload("tcp", "dport"), "data": {"set": [[22, ACCEPT]]}}}
    assert verdict(ask(listing({"base": [[table, DROP]]}))) == "delivered"


def test_a_negated_condition_needs_its_protocol() -> None:
    rules = {"base": [[match(payload("tcp", "dport"), 22, "!="), DROP]]}
    assert verdict(ask(listing(rules), proto=17)) == "delivered"
    assert verdict(ask(listing(rules), proto=6)) == "drop"


def test_a_reject_with_icmpv6_is_for_ipv6_only() -> None:
    rules = {"base": [[{"reject": {"type": "icmpv6", "expr": "port-unreachable"}}]]}
    assert verdict(ask(listing(rules))) == "delivered"
    assert verdict(ask(listing({"base": [[{"reject": None}]]}))) == "reject"


def test_a_condition_that_is_not_understood_leaves_both_ways_open() -> None:
    rules = {"base": [[match({"meta": {"key": "cgroup"}}, 5), DROP]]}
    printed = listing(rules)
    ends = ask(printed)
    assert {end.verdict for end in ends if end.flow.doubts} == {"drop", "delivered"}
    assert verdict(ends) == "unknown: match: the field meta cgroup is not in the model"
    coverage = parse(printed).coverage
    assert (coverage.total, coverage.understood) == (2, 1)
    assert coverage.opaque == {"match: the field meta cgroup is not in the model": 1}


def test_doubts_do_not_multiply() -> None:
    maybe = {"meta": {"key": "cgroup"}}
    rules = {"base": [[match(maybe, number), {"jump": {"target": "c"}}] for number in range(40)], "c": [[RETURN]]}
    ends = [end for end in ask(listing(rules)) if end.flow.doubts]
    assert len(ends) == 1


@pytest.mark.parametrize("flags", [["dynamic"], ["timeout"]])
def test_a_set_that_packets_fill_is_in_doubt(flags: list[str]) -> None:
    body = {"family": "inet", "name": "s", "table": "t", "type": "ipv4_addr", "handle": 5, "flags": flags}
    fill = {"set": {"op": "add", "elem": payload("ip", "saddr"), "set": "@s"}}
    rules = {"base": [[match(payload("ip", "saddr"), "@s"), DROP]]}
    if "dynamic" not in flags:
        # A set with timeouts is what it is, unless a rule fills it.
        assert verdict(ask(listing(rules, sets=[{"set": body}]))) == "delivered"
        rules["other"] = [[fill]]
    assert verdict(ask(listing(rules, sets=[{"set": body}]))).startswith("unknown: match: packets fill the set s")


def test_a_statement_that_is_not_understood_may_do_anything() -> None:
    rules = {"base": [[{"tproxy": {"port": 1}}], [DROP]]}
    assert verdict(ask(listing(rules))) == "unknown: the statement tproxy"


def test_sources_of_the_hosts_own_never_come_from_outside() -> None:
    ends = ask(listing({}))
    assert verdict(ends, HERE) == "drop"
    assert verdict(ends, "127.0.0.1") == "drop"
    assert verdict(ends, "224.0.0.1") == "drop"


def test_nothing_is_forwarded_where_forwarding_is_off() -> None:
    (end,) = [end for end in ask(listing({}), daddr="192.0.2.1") if "forwarding" in end.detail]
    assert end.verdict == "drop"


def test_two_negated_ports_are_certain_only_where_both_readings_agree() -> None:
    conditions = [match(payload("tcp", "sport"), 1, "!="), match(payload("tcp", "dport"), 2, "!=")]
    printed = listing({"base": [[*conditions, DROP]]})
    assert verdict(ask(printed, dport=3), sport=4) == "drop"
    assert verdict(ask(printed, dport=2), sport=1) == "delivered"
    for sport, dport in ((1, 3), (4, 2)):
        assert verdict(ask(printed, dport=dport), sport=sport).startswith("unknown: two negated conditions")
    apart = listing({"base": [[conditions[0], {"counter": {}}, conditions[1], DROP]]})
    assert verdict(ask(apart, dport=3), sport=1) == "delivered"


def test_nat_sees_no_untracked_packet() -> None:
    dnat = [[{"dnat": {"family": "ip", "addr": "203.0.113.5", "port": 1}}]]
    printed = listing({"base": dnat}, hook="prerouting", type="nat", prio=-100)
    assert verdict(ask(printed)) == "drop"
    documents = json.loads(printed)
    chain = {"family": "inet", "table": "t", "name": "early", "handle": 1, "type": "filter", "hook": "prerouting"}
    documents["nftables"].append({"chain": {**chain, "prio": -300, "policy": "accept"}})
    place = {"family": "inet", "table": "t", "chain": "early", "handle": 99}
    documents["nftables"].append({"rule": {**place, "expr": [{"notrack": None}]}})
    assert verdict(ask(json.dumps(documents))) == "delivered"


def test_marks_are_written_bit_by_bit() -> None:
    mark = {"meta": {"key": "mark"}}
    set_bits = {"mangle": {"key": mark, "value": {"|": [{"&": [mark, 0xF0]}, 0x3]}}}
    rules = [
        [{"mangle": {"key": mark, "value": 0x4F}}],
        [set_bits],
        [match({"&": [mark, 0x0F]}, 0x3), match(mark, 0x43), DROP],
    ]
    assert verdict(ask(listing({"base": rules}))) == "drop"


def test_the_order_of_equal_priorities_is_in_doubt_only_where_it_matters() -> None:
    mark = {"meta": {"key": "mark"}}

    def both(first: list[t.Any], second: list[t.Any]) -> str:
        documents = json.loads(listing({"base": [first]}))
        chain = {"family": "inet", "table": "t", "name": "other", "handle": 2, "type": "filter", "hook": "input"}
        documents["nftables"].append({"chain": {**chain, "prio": 0, "policy": "accept"}})
        place = {"family": "inet", "table": "t", "chain": "other", "handle": 99}
        documents["nftables"].append({"rule": {**place, "expr": second}})
        return verdict(ask(json.dumps(documents)))

    assert both([ACCEPT], [DROP]) == "drop"
    doubt = "unknown: chains of one priority, whose order the listing does not tell"
    assert both([{"mangle": {"key": mark, "value": 1}}], [match(mark, 1), DROP]) == doubt


def test_a_rule_that_only_logs_leaves_no_doubt() -> None:
    rules = {"base": [[{"limit": {"rate": 1}}, {"log": None}], [DROP]]}
    assert verdict(ask(listing(rules))) == "drop"


def test_settings_that_were_not_read_leave_doubts() -> None:
    blind = read_host(ADDRESSES, {4: ROUTES}, {4: RULES}, {})
    assert verdict(ask(listing({}), host=blind)) == "delivered"
    assert verdict(ask(listing({}), host=blind), HERE) == "unknown: rp_filter is not known"
    assert verdict(ask(listing({}), "127.0.0.1", host=blind)) == "unknown: route_localnet is not known"
    assert verdict(ask(listing({}), "192.0.2.1", host=blind)) == "unknown: whether the host forwards is not known"


@pytest.mark.parametrize(("family", "hook"), [("netdev", "ingress"), ("bridge", "forward"), ("inet", "ingress")])
def test_chains_of_other_hooks_leave_a_doubt(family: str, hook: str) -> None:
    found = [{"table": {"family": family, "name": "t"}}]
    chain = {"family": family, "table": "t", "name": "c", "type": "filter", "hook": hook, "prio": 0, "policy": "drop"}
    printed = json.dumps({"nftables": [*found, {"chain": chain}]})
    assert verdict(ask(printed)) == f"unknown: chains of the family {family} at the hook {hook}"


@pytest.mark.parametrize("expression", ["drop", {}, {"a": 1, "b": 2}, None, {"match": 5}, {"vmap": {"key": {}}}])
def test_an_expression_of_an_unknown_form_is_in_doubt(expression: t.Any) -> None:
    assert verdict(ask(listing({"base": [[expression]]}))).startswith("unknown: ")
