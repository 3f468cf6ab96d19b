# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json
import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    Calculated,
    Match,
    Nat,
    Notrack,
    Opaque,
    Verdict,
    Write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import Unreadable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_parse import parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_xt import operations

HEAD = ":PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n"
DNAT = {"xt": {"type": "target", "name": "DNAT"}}
ADDRTYPE = {"xt": {"type": "match", "name": "addrtype"}}
JUMP = {"jump": {"target": "DOCKER"}}


def ops_of(exprs: list[list[t.Any]], lines: list[str]) -> tuple[list[t.Any], int]:
    """The operations of chain PREROUTING of `ip nat`, and how many expressions were not understood."""
    place = {"family": "ip", "table": "nat"}
    found: list[t.Any] = [{"table": {"family": "ip", "name": "nat"}}]
    for name in ("DOCKER", "PREROUTING"):
        found.append({"chain": {**place, "name": name}})
    for number, expr in enumerate(exprs):
        found.append({"rule": {**place, "chain": "PREROUTING", "handle": number, "expr": expr}})
    text = "\n".join(f"-A PREROUTING {line}" for line in lines)
    program = parse(json.dumps({"nftables": found}), {"ip": f"*nat\n{HEAD}{text}\nCOMMIT\n"})
    rules = program.chains[("ip", "nat", "PREROUTING")].rules
    return [rule.ops for rule in rules], sum(program.coverage.opaque.values())


def test_the_arguments_come_from_the_line_of_the_same_number() -> None:
    found, opaque = ops_of(
        [[ADDRTYPE, JUMP], [DNAT]],
        ["-m addrtype --dst-type LOCAL -j DOCKER", "-d 10.0.0.0/8 -p tcp -j DNAT --to-destination 172.17.0.2:80"],
    )
    assert opaque == 0
    assert found[0] == (Match("fib daddr type", ((2, 2),)), Verdict("jump", "DOCKER"))
    assert found[1][-1] == Nat("dnat", 4, int(ipaddress.ip_address("172.17.0.2")), 80)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["-j DNAT --to-destination 172.17.0.2:80"],
        ["-j DNAT --to-destination 172.17.0.2:80", "-m addrtype --dst-type LOCAL -j DOCKER"],
        ["-m addrtype --dst-type LOCAL -j OTHER", "-j DNAT --to-destination 172.17.0.2:80"],
        ['-m comment --comment "-j DOCKER" -m addrtype --dst-type LOCAL', "-j DNAT --to-destination 172.17.0.2:80"],
    ],
    ids=["none", "too few", "swapped", "another jump", "a jump in a comment"],
)
def test_lines_that_do_not_fit_are_not_taken(lines: list[str]) -> None:
    found, opaque = ops_of([[ADDRTYPE, JUMP], [DNAT]], lines)
    assert opaque == 2
    assert isinstance(found[0][0], Opaque) and not found[0][0].final
    assert isinstance(found[1][0], Opaque) and found[1][0].final


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("-j MARK --set-xmark 0x10/0xf0", Write("meta mark", Calculated("meta mark", 0xFFFFFF0F, 0x10))),
        ("-j CT --notrack", Notrack()),
        ("! -i docker0 -j RETURN", Verdict("return")),
        ("-m conntrack ! --ctstate NEW,INVALID", Match("ct state", ((0, 0),), False, 9)),
        ("-m conntrack --ctstate DNAT", Match("ct status", ((0, 0),), True, 32)),
        ("-p tcp -m multiport ! --dports 22,80:90", Match("tcp dport", ((22, 22), (80, 90)), True)),
        ('-m comment --comment "-j ACCEPT" -g DOCKER', Verdict("goto", "DOCKER")),
        ("-m mark ! --mark 0x1/0x3", Match("meta mark", ((1, 1),), True, 3)),
    ],
)
def test_lines(line: str, last: t.Any) -> None:
    assert operations(f"-A PREROUTING {line}", "ip")[-1] == last


@pytest.mark.parametrize(
    "line",
    [
        "-m recent --update --name x -j DROP",
        "-m conntrack --ctstate INVALID --ctdir ORIGINAL -j DROP",
        "-j DNAT --to-destination 10.0.0.1-10.0.0.9",
        "-j DNAT --to-destination 10.0.0.1 --random",
        "-j TPROXY --on-port 1",
        "-p tcp -m tcp --dport",
    ],
)
def test_what_is_not_understood_is_refused(line: str) -> None:
    with pytest.raises((Unreadable, ValueError)):
        operations(f"-A PREROUTING {line}", "ip")
