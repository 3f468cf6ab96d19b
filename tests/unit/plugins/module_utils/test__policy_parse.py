# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _policy_parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Limit, Policy, PolicyError, Zone
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from hypothesis import given, settings
from hypothesis import strategies as st

R = "docker_firewall_rules[0]"
Z = "docker_firewall_zones"
PORT = "accepted are 1 to 65535, or a range such as '8000-8010'"
ADDRESS = "accepted are an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"
TARGET = "accepted are host, published, egress, routed, or network:NAME for a Docker network"
KEYS = "from, to, towards, ports, protocol, action, destination, family, log, limit, burst, comment"
PROTOCOL = (
    "accepted are tcp, udp, sctp, dccp, udplite, icmp, ipv6-icmp, igmp, gre, esp, ah, vrrp, ospf, ipip,"
    " a number from 0 to 255, or any"
)
INTERFACE = "is not an interface name; accepted are up to 15 characters such as 'eth0', or a pattern that ends in * such as 'wg*'"
COMMENT = "accepted are up to 100 characters without quotes, backslashes and control characters"
LOG = "accepted are true, false, or a prefix of at most 60 letters, digits, blanks and ._,:;()[]/+=-"
RATE = "is not a rate; accepted is a number and one of second, minute, hour, day, such as '20/minute'"
LEAVES = "it says by which way packets leave the host and is accepted with to: routed and to: egress"
INWARDS = "what reaches containers is to: network:NAME or to: published"
NETWORK = "is not a name Docker gives to a network"


def errors(variables: t.Any) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse(variables)
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


BAD_RULES: list[tuple[t.Any, str]] = [
    ({"from": "lan", "to": "host"}, f"{R}.from: unknown zone 'lan'; known are outside, containers, network:NAME"),
    ({"from": ["outside", 7], "to": "host"}, f"{R}.from[1]: unknown zone '7'; known are outside, containers, network:NAME"),
    ({"from": [], "to": "host"}, f"{R}.from: the list is empty; leave it out for outside"),
    ({"from": ["outside", "containers"], "to": "host"}, f"{R}.from: zones and containers cannot share a rule; write one rule for each"),
    ({"from": "containers", "to": "published"}, f"{R}.from: containers are limited on their way to the host or out (to: host, to: egress), not to: published"),
    ({"from": "outside", "to": "egress"}, f"{R}.from: egress rules start at containers or network:NAME, not at the zone 'outside'"),
    ({"from": "network:a b", "to": "host"}, f"{R}.from: 'a b' {NETWORK}"),
    ({"from": "network:", "to": "host"}, f"{R}.from: '' {NETWORK}"),
    ({}, f"{R}.to: missing; {TARGET}"),
    ({"to": "hosts"}, f"{R}.to: 'hosts' is not a target; {TARGET}"),
    ({"to": ["host"]}, f"{R}.to: '['host']' is not a target; {TARGET}"),
    ({"to": "network:web\n"}, f"{R}.to: 'web\n' {NETWORK}"),
    ({"to": "host", "ports": 70000}, f"{R}.ports: '70000' is out of range; {PORT}"),
    ({"to": "host", "ports": [22, 0]}, f"{R}.ports[1]: '0' is out of range; {PORT}"),
    ({"to": "host", "ports": ["90-80"]}, f"{R}.ports[0]: '90-80' is reversed; write '80-90'"),
    ({"to": "host", "ports": ["80:90"]}, f"{R}.ports[0]: '80:90' is not a port; {PORT}"),
    ({"to": "host", "ports": "80\n"}, f"{R}.ports: '80\n' is not a port; {PORT}"),
    ({"to": "host", "ports": [True]}, f"{R}.ports[0]: 'True' is not a port; {PORT}"),
    ({"to": "host", "ports": [80.5]}, f"{R}.ports[0]: '80.5' is not a port; {PORT}"),
    ({"to": "host", "ports": [None]}, f"{R}.ports[0]: 'None' is not a port; {PORT}"),
    ({"to": "host", "ports": {"tcp": 80}}, f"{R}.ports: '{{'tcp': 80}}' is not a port; {PORT}"),
    ({"to": "host", "ports": []}, f"{R}.ports: the list is empty; leave it out for every port, otherwise {PORT}"),
    ({"to": "host", "ports": 80, "protocol": "icmp"}, f"{R}.ports: ports need a protocol that has ports (tcp, udp, sctp, dccp, udplite), not icmp"),
    ({"to": "host", "ports": 80, "protocol": "any"}, f"{R}.ports: ports need a protocol that has ports (tcp, udp, sctp, dccp, udplite), not any"),
    ({"to": "host", "protocol": "http"}, f"{R}.protocol: 'http' is not a protocol; {PROTOCOL}"),
    ({"to": "host", "protocol": ["tcp", 256]}, f"{R}.protocol[1]: '256' is not a protocol; {PROTOCOL}"),
    ({"to": "host", "protocol": []}, f"{R}.protocol: no protocol is named; leave it out for tcp, otherwise {PROTOCOL}"),
    ({"to": "host", "protocol": None}, f"{R}.protocol: no protocol is named; leave it out for tcp, otherwise {PROTOCOL}"),
    ({"to": "published", "protocol": "gre"}, f"{R}.protocol: Docker publishes tcp, udp and sctp only"),
    ({"to": "host", "destination": "192.0.2.1", "family": "ipv6"}, f"{R}.destination: '192.0.2.1' is an IPv4 address in a rule with family ipv6"),
    ({"to": "host", "destination": ["::1"], "family": "ipv4"}, f"{R}.destination[0]: '::1' is an IPv6 address in a rule with family ipv4"),
    ({"to": "host", "destination": "192.0.2.1/24"}, f"{R}.destination: '192.0.2.1/24' has host bits set; write 192.0.2.0/24 or the single address"),
    ({"to": "host", "destination": "2001:db8::1/64"}, f"{R}.destination: '2001:db8::1/64' has host bits set; write 2001:db8::/64 or the single address"),
    ({"to": "host", "destination": "192.0.2.9-192.0.2.3"}, f"{R}.destination: '192.0.2.9-192.0.2.3' is reversed; write 192.0.2.3-192.0.2.9"),
    ({"to": "host", "destination": "192.0.2.9-::1"}, f"{R}.destination: '192.0.2.9-::1' mixes IPv4 and IPv6; both ends of a range belong to one family"),
    ({"to": "host", "destination": "192.0.2.9-x"}, f"{R}.destination: '192.0.2.9-x' is not an address range; {ADDRESS}"),
    ({"to": "host", "destination": "example.com"}, f"{R}.destination: 'example.com' is not an address; {ADDRESS}"),
    ({"to": "host", "destination": ""}, f"{R}.destination: '' is not an address; {ADDRESS}"),
    ({"to": "host", "destination": 3232235777}, f"{R}.destination: '3232235777' is not text; write addresses in quotes"),
    ({"to": "host", "family": "v6"}, f"{R}.family: 'v6' is not accepted; accepted are ipv4, ipv6"),
    ({"to": "host", "action": "allow"}, f"{R}.action: 'allow' is not accepted; accepted are accept, drop, reject"),
    ({"to": "host", "action": True}, f"{R}.action: 'True' is not accepted; accepted are accept, drop, reject"),
    ({"to": "host", "limit": "20"}, f"{R}.limit: '20' {RATE}"),
    ({"to": "host", "limit": "0/second"}, f"{R}.limit: '0/second' {RATE}"),
    ({"to": "host", "limit": "5/hour", "burst": 0}, f"{R}.burst: '0' is not a number of packets from 1 to 999999"),
    ({"to": "host", "limit": "5/hour", "action": "drop"}, f"{R}.limit: a limit belongs to action accept; what exceeds it is dropped"),
    ({"to": "host", "burst": 5}, f"{R}.burst: burst has a meaning only together with limit"),
    ({"to": "host", "log": 'a"b'}, f"{R}.log: 'a\"b' is not accepted; {LOG}"),
    ({"to": "host", "log": 1}, f"{R}.log: '1' is not accepted; {LOG}"),
    ({"to": "host", "comment": "a\n"}, f"{R}.comment: 'a\n' is not accepted; {COMMENT}"),
    ({"to": "host", "comment": "x" * 101}, f"{R}.comment: '{'x' * 60}...' is not accepted; {COMMENT}"),
    ({"to": "host", "comment": "\ud800"}, f"{R}.comment: '\ud800' is not accepted; {COMMENT}"),
    ({"to": "host", "port": 22}, f"{R}.port: unknown key; accepted are {KEYS}"),
    ({"to": "host", 5: 22}, f"{R}.5: unknown key; accepted are {KEYS}"),
    ({"to": "host", "towards": "outside"}, f"{R}.towards: {LEAVES}, not with to: host"),
    ({"to": "published", "towards": ["outside"]}, f"{R}.towards: {LEAVES}, not with to: published"),
    ({"to": "network:web", "towards": "outside"}, f"{R}.towards: {LEAVES}, not with to: network"),
    ({"to": "routed", "towards": "lan"}, f"{R}.towards: unknown zone 'lan'; known are outside"),
    ({"to": "egress", "towards": ["outside", 7]}, f"{R}.towards[1]: unknown zone '7'; known are outside"),
    ({"to": "routed", "towards": ["containers"]}, f"{R}.towards[0]: 'containers' is no zone; {INWARDS}"),
    ({"to": "routed", "towards": "network:web"}, f"{R}.towards: 'network:web' is no zone; {INWARDS}"),
    ({"to": "routed", "towards": []}, f"{R}.towards: the list is empty; leave it out for outside"),
    ("host", f"{R}: a rule is a mapping with the keys {KEYS}"),
    (None, f"{R}: a rule is a mapping with the keys {KEYS}"),
]  # fmt: skip

BAD_VARIABLES: list[tuple[t.Any, str]] = [
    ({"rules": {"to": "host"}}, "docker_firewall_rules: rules are a list"),
    ({"rules": "host"}, "docker_firewall_rules: rules are a list"),
    ({"zones": ["lan"]}, f"{Z}: zones are a mapping from a zone's name to its interfaces and sources"),
    ({"zones": {"lan": "eth0"}}, f"{Z}.lan: a zone is a mapping with the keys interfaces, sources, comment"),
    ({"zones": {"lan": {}}}, f"{Z}.lan: a zone needs interfaces, sources, or both"),
    ({"zones": {"lan": {"interfaces": ["eth0"], "source": 1}}}, f"{Z}.lan.source: unknown key; accepted are interfaces, sources, comment"),
    ({"zones": {"outside": {"interfaces": ["eth0"]}}}, f"{Z}.outside: the zone 'outside' exists by itself and cannot be declared"),
    ({"zones": {"1": {"interfaces": ["eth0"]}}}, f"{Z}.1: a zone's name starts with a letter and has letters, digits, - and _ (63 at most)"),
    ({"zones": {"lan": {"sources": ["192.0.2.1/24"]}}}, f"{Z}.lan.sources[0]: '192.0.2.1/24' has host bits set; write 192.0.2.0/24 or the single address"),
    ({"zones": {"lan": {"interfaces": ["eth0\n"]}}}, f"{Z}.lan.interfaces[0]: 'eth0\n' {INTERFACE}"),
    ({"zones": {"lan": {"interfaces": ["averyveryverylong"]}}}, f"{Z}.lan.interfaces[0]: 'averyveryverylong' {INTERFACE}"),
    ({"zones": {"lan": {"interfaces": ["e*h"]}}}, f"{Z}.lan.interfaces[0]: 'e*h' {INTERFACE}"),
    ({"zones": {"lan": {"interfaces": ["lo"]}}}, f"{Z}.lan.interfaces[0]: the loopback interface belongs to no zone; its traffic is never filtered"),
    ({"outside_interfaces": [["eth0"]]}, f"docker_firewall_outside_interfaces[0]: '['eth0']' {INTERFACE}"),
    ({"bridges": "*"}, f"docker_firewall_bridges[0]: '*' {INTERFACE}"),
    ({"host_default": "reject"}, "docker_firewall_host_default: 'reject' is not accepted; accepted are accept, drop"),
    ({"egress_default": 1}, "docker_firewall_egress_default: '1' is not accepted; accepted are accept, drop, reject"),
    ({"containers_to_host_default": []}, "docker_firewall_containers_to_host_default: '[]' is not accepted; accepted are accept, drop, reject"),
    ({"routed_default": "no"}, "docker_firewall_routed_default: 'no' is not accepted; accepted are accept, drop"),
    ({"ping": "yes"}, "docker_firewall_ping: 'yes' is not accepted; accepted are true and false"),
    ({"log_drops": 1}, "docker_firewall_log_drops: '1' is not accepted; accepted are true and false"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "message"), BAD_RULES)
def test_a_bad_rule(rule: t.Any, message: str) -> None:
    assert errors({"rules": [rule]}) == [message]


@pytest.mark.parametrize(("variables", "message"), BAD_VARIABLES)
def test_a_bad_variable(variables: t.Any, message: str) -> None:
    assert errors(variables) == [message]


ACCEPT = {"to": "published", "ports": ["80-90"]}
ROUTED = {"to": "routed", "ports": [22]}


def contradiction(place: str, second: str, first: str) -> list[str]:
    return [
        f"docker_firewall_rules[1]: {place} is said to {second} here and to {first} in {R}"
        " for the same zone and target; keep one of them"
    ]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (ACCEPT, {**ACCEPT, "action": "drop"}, contradiction("tcp port 80-90", "drop", "accept")),
        ({**ACCEPT, "action": "reject"}, {**ACCEPT, "ports": 85}, contradiction("tcp port 85", "accept", "reject")),
        (ACCEPT, {**ACCEPT, "action": "drop", "protocol": "6"}, contradiction("tcp port 80-90", "drop", "accept")),
        (
            {"to": "host", "protocol": "any"},
            {"to": "host", "protocol": "gre", "action": "drop"},
            contradiction("protocol gre", "drop", "accept"),
        ),
        ({"to": "host"}, {"to": "host", "ports": 22, "action": "drop"}, contradiction("tcp port 22", "drop", "accept")),
        (ACCEPT, {**ACCEPT, "action": "drop", "ports": 91}, []),
        (ACCEPT, {**ACCEPT, "action": "drop", "protocol": "udp"}, []),
        (ACCEPT, {**ACCEPT, "action": "drop", "to": "host"}, []),
        (ACCEPT, {**ACCEPT, "action": "drop", "from": "lan"}, []),
        (ACCEPT, {**ACCEPT, "action": "drop", "destination": "192.0.2.1"}, []),
        ({**ACCEPT, "family": "ipv4"}, {**ACCEPT, "action": "drop", "family": "ipv6"}, []),
        (ROUTED, {**ROUTED, "action": "drop", "towards": "lan"}, []),
        (
            {**ROUTED, "towards": ["outside", "lan"]},
            {**ROUTED, "action": "drop", "towards": "lan"},
            contradiction("tcp port 22", "drop", "accept"),
        ),
        (ROUTED, {**ROUTED, "action": "drop", "towards": "outside"}, contradiction("tcp port 22", "drop", "accept")),
    ],
)
def test_allowed_and_denied(one: t.Any, other: t.Any, found: list[str]) -> None:
    variables = {"zones": {"lan": {"interfaces": ["eth1"]}}, "rules": [one, other]}
    if found:
        assert errors(variables) == found
    else:
        assert len(parse(variables).rules) == 2


def no_addresses(zone: str, family: str) -> str:
    return (
        f"the zone '{zone}' has no {family} addresses, and the rule is about {family} only;"
        f" accepted are zones with {family} addresses, or with interfaces and no addresses"
    )


APART = (
    "no address in the rule's destination is one of the zone '{}'; accepted are a destination in its sources,"
    " or none for all of them"
)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"towards": "four", "family": "ipv6"}, [no_addresses("four", "IPv6")]),
        ({"towards": "four", "destination": "::1"}, [no_addresses("four", "IPv6")]),
        ({"towards": "six", "from": ["lan4", "four"]}, [no_addresses("six", "IPv4")]),
        ({"towards": ["lan", "six", "lan4"], "from": "six"}, [no_addresses("lan4", "IPv4").replace("IPv4", "IPv6")]),
        ({"towards": "four", "destination": ["198.51.100.1", "::1"]}, [APART.format("four")]),
        ({"towards": ["four", "six"], "destination": "198.51.100.1"}, [APART.format("four"), no_addresses("six", "IPv4")]),
        ({"towards": "both", "destination": ["198.51.100.1", "2001:db8::/32"]}, []),
        ({"towards": ["four", "six"], "from": "both"}, []),
        ({"towards": "outside", "family": "ipv6"}, []),
        ({"towards": "lan", "destination": "198.51.100.1"}, []),
        ({"towards": "four", "from": "four"}, []),
    ],
)
def test_a_zone_that_no_packet_can_leave_for(rule: t.Any, found: list[str]) -> None:
    zones = {
        "lan": {"interfaces": ["eth1"]},
        "lan4": {"interfaces": ["eth1"], "sources": ["192.0.2.0/24"]},
        "four": {"sources": ["192.0.2.0/24"]},
        "six": {"sources": ["2001:db8::/64"]},
        "both": {"sources": ["192.0.2.0/24", "2001:db8::/64"]},
    }
    variables = {"zones": zones, "rules": [{"to": "routed", **rule}]}
    if found:
        assert errors(variables) == [f"{R}.towards: {sentence}" for sentence in found]
    else:
        assert [zone.name for zone in parse(variables).rules[0].towards] == [*_policy_parse._listed(rule["towards"])]


def test_a_zone_with_mistakes_is_reported_once() -> None:
    variables = {
        "zones": {"dmz": {"sources": ["192.0.2.0/24", "2001:db8::1/64"]}},
        "rules": [{"to": "routed", "towards": "dmz", "family": "ipv6"}],
    }
    assert errors(variables) == [
        f"{Z}.dmz.sources[1]: '2001:db8::1/64' has host bits set; write 2001:db8::/64 or the single address"
    ]


def test_all_mistakes_at_once() -> None:
    assert errors(
        {
            "zones": {"lan": {"sources": ["192.0.2.1/24", "10.0.0.9-10.0.0.1"]}},
            "rules": [
                {"from": "dmz", "to": "host", "ports": [70000]},
                {"from": "lan", "to": "published", "destination": "192.0.2.1", "family": "ipv6", "prot": 1},
            ],
            "ping": "maybe",
        }
    ) == [
        f"{Z}.lan.sources[0]: '192.0.2.1/24' has host bits set; write 192.0.2.0/24 or the single address",
        f"{Z}.lan.sources[1]: '10.0.0.9-10.0.0.1' is reversed; write 10.0.0.1-10.0.0.9",
        f"{R}.from: unknown zone 'dmz'; known are lan, outside, containers, network:NAME",
        f"{R}.ports[0]: '70000' is out of range; {PORT}",
        f"docker_firewall_rules[1].prot: unknown key; accepted are {KEYS}",
        "docker_firewall_rules[1].destination: '192.0.2.1' is an IPv4 address in a rule with family ipv6",
        "docker_firewall_ping: 'maybe' is not accepted; accepted are true and false",
    ]


def test_nothing_said_is_the_default() -> None:
    assert parse({}) == parse({"zones": None, "rules": None}) == parse({"rules": []})
    assert parse({}) == Policy(zones={"outside": Zone("outside")}, bridges=("br-*", "docker0", "docker_gwbridge"))


def test_a_rule_with_everything() -> None:
    rule = {
        "from": ["lan", "vpn"],
        "to": "network:web",
        "ports": [443, "80-82", 83, "81"],
        "protocol": ["udp", "tcp", "17"],
        "destination": ["172.18.0.2", "fd00::/64"],
        "log": True,
        "limit": "5/hour",
        "burst": "7",
        "comment": "web",
    }
    zones = {"lan": {"interfaces": "eth1"}, "vpn": {"sources": ["10.0.0.0/31", "10.0.0.2"]}}
    read = parse({"zones": zones, "rules": [rule]}).rules[0]
    assert [zone.name for zone in read.zones] == ["lan", "vpn"]
    assert read.zones[0] == Zone("lan", ("eth1",))
    assert read.zones[1].sources4 == ((0x0A000000, 0x0A000002),)
    assert (read.target, read.target_network, read.action) == ("network", "web", "accept")
    assert (read.ports, read.protocols) == (((80, 83), (443, 443)), ("tcp", "udp"))
    assert (read.limit, read.log, read.comment) == (Limit(5, "hour", 7), "bulkhead rule 0: ", "web")
    assert read.destinations4 == ((0xAC120002, 0xAC120002),)
    assert read.destinations6 == ((0xFD << 120, (0xFD << 120) + 2**64 - 1),)


WORDS = [
    "host", "published", "egress", "routed", "network:web", "outside", "containers", "lan", "tcp", "any", "icmp", "22",
    "80-90", "192.0.2.0/24", "2001:db8::1", "1.2.3.4-1.2.3.9", "ipv4", "ipv6", "accept", "drop", "reject", "20/minute",
    "eth0", "wg*", "",
]  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
    | st.just("\ud800")
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=8
)
NAMES = (
    "outside_interfaces", "bridges", "host_default", "egress_default", "containers_to_host_default", "routed_default",
    "ping", "log_drops",
)  # fmt: skip
rule_like = st.dictionaries(st.sampled_from(_policy_parse.RULE_KEYS), scalars | anything)
zone_like = st.dictionaries(st.sampled_from(_policy_parse.ZONE_KEYS), anything)
variables_like = st.fixed_dictionaries(
    {},
    optional={
        "zones": anything
        | st.dictionaries(st.sampled_from(["lan", "dmz"]) | scalars, zone_like | anything, max_size=3),
        "rules": anything | st.lists(rule_like | anything, max_size=4),
        **dict.fromkeys(NAMES, anything),
    },
)


def outcome(call: t.Callable[[], t.Any]) -> tuple[t.Any, list[str]]:
    """Give what a call returns, or the sentences of its PolicyError."""
    try:
        return call(), []
    except PolicyError as error:
        return None, error.errors or ["a PolicyError without a sentence"]


@settings(max_examples=300, deadline=None)
@given(variables_like)
def test_whatever_is_given_only_a_policy_error_comes_out(variables: dict[str, t.Any]) -> None:
    policy, found = outcome(lambda: parse(variables))
    assert all(sentence.startswith("docker_firewall_") for sentence in found)
    if policy is None:
        return
    ruleset, found = outcome(lambda: compile_policy(policy, HostState(networks={"web": "br-web"})))
    assert all("is unknown, Docker has no such" in sentence for sentence in found)
    assert ruleset is None or not any("\n" in rule for chain in ruleset.chains for rule in chain.rules)


@settings(max_examples=300, deadline=None)
@given(rule_like)
def test_whatever_a_rule_has_only_a_policy_error_comes_out(rule: dict[str, t.Any]) -> None:
    policy, found = outcome(
        lambda: parse({"zones": {"lan": {"interfaces": ["eth1"]}}, "rules": [{"to": "host", **rule}]})
    )
    assert all(sentence.startswith(R) for sentence in found)
    if policy is not None:
        (read,) = policy.rules
        assert read.protocols != () and read.ports != ()
