# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iptables tools read back exactly what the judge lets pass, and every construct it names is a problem for them."""

from __future__ import annotations

import json
import os
import random
import shlex
import typing as t
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_problems import KNOWN
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_readable import (
    UNREADABLE,
    check_ruleset,
    judge,
    judge_chain_name,
)
from integration import readback

from lab.host import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")

RULES = 150
SEED = 20
DOC = Path(__file__).parents[2] / "docs/iptables_readable.md"

Order = t.Dict[str, t.Any]
Pair = t.Tuple[str, str]


def order(*rules: str, family: str = "ip", **others: t.Any) -> Order:
    """Rules to load into one chain, and to read back."""
    place = {"table": "filter", "chain": "X", "other": "OTHER", "check": False}
    return {"do": "read back", "family": family, "rules": list(rules), **place, **others}


def ask(host: Host, orders: list[Order]) -> list[Order]:
    """Have the host's own nft and iptables do it."""
    source = Path(readback.__file__).read_text(encoding="utf-8")
    done = host.run(["/usr/bin/python3", "-I", "-c", source], input=json.dumps(orders), timeout=120)
    return json.loads(done.stdout)


def words(line: str) -> Counter[str]:
    """What a line of iptables says, whatever its order is."""
    return Counter(shlex.split(line))


# -- what is read back -------------------------------------------------------------------------------------------------

#: nft's words and those of iptables for the same.
INTERFACES = [("eth0", "eth0"), ("br-*", "br-+"), ("br-0123456789ab", "br-0123456789ab"), ("eth0.10", "eth0.10")]
ADDRESSES = {
    "ip": ["10.0.0.0/8", "192.0.2.0/23", "172.16.0.0/12", "198.51.100.7/32", "0.0.0.0/1"],
    "ip6": ["2001:db8::/32", "fe80::/10", "2001:db8::7/128", "2001:db8::/33", "::1/128"],
}
MARKS = [
    ("meta mark 0x1", "-m mark --mark 0x1"),
    ("meta mark != 0x0", "-m mark ! --mark 0x0"),
    ("meta mark & 0x10000000 == 0x10000000", "-m mark --mark 0x10000000/0x10000000"),
    ("meta mark & 0x80000000 == 0x80000000", "-m mark --mark 0x80000000/0x80000000"),
    ("meta mark & 0x11 != 0x1", "-m mark ! --mark 0x1/0x11"),
]
PORTS = [
    ("22", "22", ""),
    ("!= 53", "53", "!"),
    ("8000-8099", "8000:8099", ""),
    ("!= 1024-65535", "1024:65535", "!"),
    ("0-1023", "0:1023", ""),
    (">= 1024", "1024:65535", ""),
    ("< 1024", "0:1023", ""),
]
FLAGS = [
    ("tcp flags & (fin | syn | rst | ack) == syn", "--tcp-flags FIN,SYN,RST,ACK SYN"),
    ("tcp flags & (syn | ack) != syn", "! --tcp-flags SYN,ACK SYN"),
    ("tcp flags syn", "! --tcp-flags SYN NONE"),
    ("tcp flags & (fin | syn) == (fin | syn)", "--tcp-flags FIN,SYN FIN,SYN"),
]
PROTOCOLS = [("50", "esp"), ("!= 51", "ah"), ("132", "sctp"), ("253", "253")]
ICMP = {
    "ip": [
        ("icmp type echo-request", "-p icmp -m icmp --icmp-type 8"),
        ("icmp type 3 icmp code 4", "-p icmp -m icmp --icmp-type 3/4"),
        ("meta l4proto icmp", "-p icmp"),
    ],
    "ip6": [
        ("icmpv6 type nd-neighbor-solicit", "-p ipv6-icmp -m icmp6 --icmpv6-type 135"),
        ("icmpv6 type 1 icmpv6 code 4", "-p ipv6-icmp -m icmp6 --icmpv6-type 1/4"),
        ("meta l4proto ipv6-icmp", "-p ipv6-icmp"),
    ],
}
OTHER_MATCHES = {
    "ip": [
        ("ip ttl 64", "-m ttl --ttl-eq 64"),
        ("ip ttl < 5", "-m ttl --ttl-lt 5"),
        ("ip ttl != 255", "-m ttl ! --ttl-eq 255"),
        ("ip frag-off & 0x1fff == 0", "! -f"),
        ("meta pkttype broadcast", "-m pkttype --pkt-type broadcast"),
    ],
    "ip6": [
        ("ip6 hoplimit 255", "-m hl --hl-eq 255"),
        # Not > 64: nft 1.0.6 lists that behind a < of another field as one match on a range.
        ("ip6 hoplimit >= 65", "-m hl --hl-gt 64"),
        ("meta pkttype != multicast", "-m pkttype ! --pkt-type multicast"),
    ],
}
LIMITS = [
    ("limit rate 5/second", "-m limit --limit 5/sec"),
    ("limit rate 10/minute burst 20 packets", "-m limit --limit 10/min --limit-burst 20"),
    ("limit rate 7/hour burst 1 packets", "-m limit --limit 7/hour --limit-burst 1"),
]
TARGETS = [
    ("accept", "-j ACCEPT"),
    ("drop", "-j DROP"),
    ("return", "-j RETURN"),
    ("jump OTHER", "-j OTHER"),
    ("goto OTHER", "-g OTHER"),
    ("continue", ""),
    ('log prefix "two words" group 2', '-j NFLOG --nflog-prefix "two words" --nflog-group 2'),
    ("log group 3 snaplen 80 queue-threshold 4", "-j NFLOG --nflog-group 3 --nflog-size 80 --nflog-threshold 4"),
]
COMMENTS = [
    ("", ""),
    (' comment "plain"', "-m comment --comment plain"),
    (' comment "a b"', '-m comment --comment "a b"'),
]


def transport(family: str, rng: random.Random) -> list[Pair]:
    """Matches on what is above IP."""
    kind = rng.choice(["none", "tcp", "tcp", "udp", "icmp", "other"])
    if kind == "none":
        return []
    if kind == "icmp":
        return [rng.choice(ICMP[family])]
    if kind == "other":
        number, name = rng.choice(PROTOCOLS)
        return [(f"meta l4proto {number}", f"{'! ' if '!' in number else ''}-p {name}")]
    found = [("", f"-p {kind} -m {kind}")]
    for side in rng.sample(["sport", "dport"], rng.randint(1, 2)):
        port, listed, negated = rng.choice(PORTS)
        found.append((f"{kind} {side} {port}", f"{negated} --{side} {listed}"))
    if kind == "tcp" and rng.random() < 0.4:
        found.append(rng.choice(FLAGS))
    return found


def a_rule(family: str, rng: random.Random) -> Pair:
    """One rule of what the judge lets pass, and the words iptables has for it."""
    found = transport(family, rng)
    for key, option in (("iifname", "-i"), ("oifname", "-o")):
        if rng.random() < 0.4:
            name, listed = rng.choice(INTERFACES)
            negated = rng.random() < 0.3
            found.append((f'{key} {"!= " if negated else ""}"{name}"', f"{'! ' if negated else ''}{option} {listed}"))
    for key, option in (("saddr", "-s"), ("daddr", "-d")):
        if rng.random() < 0.4:
            address = rng.choice(ADDRESSES[family])
            negated = rng.random() < 0.3
            said = f"{'!= ' if negated else ''}{address}"
            found.append((f"{family} {key} {said}", f"{'! ' if negated else ''}{option} {address}"))
    found += rng.sample(MARKS, rng.choice([0, 0, 1, 2]))
    found += rng.sample(OTHER_MATCHES[family], rng.choice([0, 0, 0, 1]))
    rng.shuffle(found)
    found += rng.sample(LIMITS, rng.choice([0, 0, 0, 1]))
    if rng.random() < 0.6:
        found.append(("counter", ""))
    found.append(rng.choice(TARGETS))
    comment, listed = rng.choice(COMMENTS)
    return " ".join(text for text, _listed in found if text) + comment, " ".join([*(each[1] for each in found), listed])


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_what_the_judge_lets_pass_is_read_back(lab_host: Host, family: str) -> None:
    rng = random.Random(f"{family} {SEED}")
    pairs = [a_rule(family, rng) for _number in range(RULES)]
    (answer,) = ask(lab_host, [order(*(rule for rule, _listed in pairs), family=family, check=True)])
    assert "refused" not in answer, answer
    judged = [judge(rule["expr"], family, comment=rule.get("comment")) for rule in answer["rules"]]
    assert {pair[0]: problems for pair, problems in zip(pairs, judged) if problems} == {}
    assert (answer["listed"], answer["said"], answer["restored"]) == (0, "", 0)
    assert len(answer["lines"]) == RULES
    for (rule, listed), line in zip(pairs, answer["lines"]):
        assert words(line) == words(f"-A X {listed}"), f"nft: {rule}\niptables: {line}\nexpected: {listed}"
    assert answer["found"] == [0] * RULES
    assert answer["again"] == answer["lines"]


#: Rules as programs make them with iptables: the judge finds nothing in them, whatever iptables makes of them.
COMMANDS = [
    "filter INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "filter INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT",
    "filter INPUT -m iprange --src-range {address}-{address} -j DROP",
    "filter INPUT -m limit --limit 5/min --limit-burst 8 -j LOG --log-prefix one",
    "filter INPUT -m limit --limit 5/min -m mark --mark 1 -j ACCEPT",
    "filter INPUT -p tcp -m limit --limit 300/sec -m tcp --dport 22 -j ACCEPT",
    "filter INPUT -m addrtype --dst-type LOCAL -j REJECT",
    "filter INPUT -p tcp --syn -j NFLOG --nflog-group 3 --nflog-prefix x --nflog-threshold 2",
    "filter INPUT -p tcp ! --dport 0:1023 -j ACCEPT",
    "filter INPUT -p udp --sport 1024: -j ACCEPT",
    "filter INPUT -p {icmp} -j ACCEPT",
    "filter INPUT -s {address} -i eth+ -m comment --comment text -j RETURN",
    "filter INPUT -m mac --mac-source 02:00:00:00:00:01 -j ACCEPT",
    "filter INPUT -m pkttype --pkt-type multicast -j DROP",
    "filter INPUT -m connmark --mark 1/1 -g OTHER",
    "filter INPUT -m recent --set --name x",
    "filter FORWARD -i docker0 -o docker0 -j ACCEPT",
    "mangle PREROUTING -j MARK --set-xmark 0x0/0x10000000",
    "mangle PREROUTING -j CONNMARK --restore-mark",
    "raw PREROUTING -p tcp -j TRACE",
    "raw PREROUTING -p udp -j CT --notrack",
    "nat PREROUTING -m addrtype --dst-type LOCAL -j OTHER",
    "nat POSTROUTING -s {address} ! -o docker0 -j MASQUERADE",
    "nat OTHER -p tcp --dport 80 -j DNAT --to-destination {target}",
    "nat OTHER -p tcp --dport 81 -j REDIRECT --to-ports 8081",
]


def test_rules_made_by_iptables_are_no_problem(lab_host: Host) -> None:
    orders = []
    for tool, known in (
        ("iptables", {"address": "192.0.2.1", "target": "192.0.2.1:80", "icmp": "icmp --icmp-type 3/4"}),
        ("ip6tables", {"address": "2001:db8::1", "target": "[2001:db8::1]:80", "icmp": "ipv6-icmp --icmpv6-type 135"}),
    ):
        commands = [[tool, "-t", table, "-N", "OTHER"] for table in ("filter", "nat")]
        commands += [[tool, "-t", *_appended(line.format(**known))] for line in COMMANDS]
        orders.append({"do": "made by iptables", "commands": commands})
    for answer in ask(lab_host, orders):
        assert "failed" not in answer, answer
        assert check_ruleset(answer["json"], answer["text"]) == []


def _appended(line: str) -> list[str]:
    table, *rest = line.split()
    return [table, "-A", *rest]


def test_rules_of_docker_are_no_problem(lab_host: Host) -> None:
    found = json.loads(lab_host.run(["nft", "-j", "list", "ruleset"]).stdout)
    assert any(entry.get("chain", {}).get("name") == "DOCKER" for entry in found["nftables"])
    assert check_ruleset(found, lab_host.run(["nft", "-s", "-a", "list", "ruleset"]).stdout) == []


# -- what is not -------------------------------------------------------------------------------------------------------

REFUSED = "refused"


class Sample(t.NamedTuple):
    """A construct in a rule, and what iptables lists of it; `elsewhere` has the suites that differ.

    `loads` tells whether iptables loads again what it lists.
    """

    construct: str
    rule: str
    listed: str
    loads: bool = True
    elsewhere: dict[str, str] = {}
    place: dict[str, str] = {}


def newer(listed: str) -> dict[str, str]:
    """What 1.8.11 and later list."""
    return {"trixie": listed, "forky": listed}


LONG = 29 * "A"
IP6 = {"family": "ip6"}
SAMPLES = [
    Sample("a set", "ip saddr { 10.0.0.1, 10.0.0.2 } drop", "-j DROP"),
    Sample("a set", "tcp dport { 22, 80 } accept", "-p tcp -j ACCEPT"),
    Sample("a set", 'iifname != { "eth0", "eth1" } drop', "-j DROP"),
    Sample("a set", "ct state { established, related } accept", REFUSED),
    Sample("a named set", "ip saddr @named drop", "-j DROP"),
    Sample("a verdict map", "ip saddr vmap @verdicts", ""),
    Sample("a verdict map", 'iifname vmap { "eth0" : accept }', ""),
    Sample("a concatenation", "ip saddr . tcp dport { 10.0.0.1 . 22 } accept", "-p tcp -j ACCEPT"),
    Sample("a field twice", 'iifname != "eth0" iifname != "eth1" drop', "! -i eth1 -j DROP"),
    Sample("a field twice", "ip saddr 10.0.0.0/8 ip saddr != 10.0.0.1 accept", "! -s 10.0.0.1/32 -j ACCEPT"),
    Sample("a field twice", "tcp dport 20-24 tcp dport != 22 accept", "-p tcp -m tcp ! --dport 22 -j ACCEPT"),
    Sample("a field twice", "meta l4proto tcp meta l4proto != udp accept", "! -p udp -j ACCEPT"),
    Sample("two protocols", "meta l4proto != tcp udp dport 53 accept", "! -p udp -m udp --dport 53 -j ACCEPT"),
    Sample(
        "a range of addresses",
        "ip saddr 10.0.0.1-10.0.0.9 accept",
        "-s 10.0.0.9/32 -j ACCEPT",
        elsewhere=newer(REFUSED),
    ),
    Sample("a range", "meta l4proto 6-17 accept", "-p udp -j ACCEPT", elsewhere=newer(REFUSED)),
    Sample("a range", "ip ttl 1-64 accept", "-m ttl --ttl-gt 0 -m ttl --ttl-lt 65 -j ACCEPT", elsewhere=newer(REFUSED)),
    Sample("a comparison", "ip saddr > 10.0.0.1 accept", "-s 10.0.0.1/32 -j ACCEPT"),
    Sample("a comparison", "meta l4proto > 6 accept", "-p tcp -j ACCEPT"),
    Sample("a comparison", "meta mark > 1 accept", REFUSED),
    Sample("a mask", "tcp dport & 0xff == 0x16 accept", "-p tcp -m tcp --dport 22 -j ACCEPT"),
    Sample("a mask", "ip ttl & 0xf0 == 0x40 accept", "-m ttl --ttl-eq 64 -j ACCEPT"),
    Sample("arithmetic", "meta mark or 0x10 == 0x11 accept", "-m mark --mark 0x11/0xffffffef -j ACCEPT"),
    Sample("address bits outside the prefix", "ip saddr & 255.255.0.0 == 10.0.0.1 accept", "-s 10.0.0.1/16 -j ACCEPT"),
    Sample("a prefix of length 0", "ip saddr != 0.0.0.0/0 accept", "! -s 0.0.0.0/0 -j ACCEPT", loads=False),
    Sample("all ports or none", "tcp dport < 1 accept", "-p tcp -m tcp --dport 0:1 -j ACCEPT"),
    Sample("all ports or none", "tcp dport > 65535 accept", "-p tcp -m tcp --dport 65535 -j ACCEPT"),
    Sample("a negated range from port 0", "tcp dport != 0-1023 accept", "-p tcp -m tcp ! --dport 0:1023 -j ACCEPT"),
    Sample("all values or none", "ip ttl <= 255 accept", REFUSED),
    Sample("ip6 nexthdr", "ip6 nexthdr tcp accept", "-p tcp -m hl --hl-eq 6 -j ACCEPT", place=IP6),
    Sample("protocol 0", "meta l4proto 0 accept", "-j ACCEPT"),
    Sample("iif", 'iif "eth0" accept', "-i eth0 -j ACCEPT"),
    Sample("oif", 'oif != "eth0" accept', "! -o eth0 -j ACCEPT"),
    Sample("an interface name that ends with +", 'iifname "eth+" accept', "-i eth+ -j ACCEPT"),
    Sample("an interface name with odd characters", 'iifname "a b" accept', "-i a b -j ACCEPT", loads=False),
    Sample(
        "an input interface in this chain",
        'iifname "eth0" accept',
        "-i eth0 -j ACCEPT",
        loads=False,
        place={"chain": "OUTPUT"},
    ),
    Sample(
        "an output interface in this chain",
        'oifname != "eth0" accept',
        "! -o eth0 -j ACCEPT",
        loads=False,
        place={"chain": "INPUT"},
    ),
    Sample(
        "drop in table nat",
        "tcp dport 22 drop",
        "-p tcp -m tcp --dport 22 -j DROP",
        loads=False,
        place={"table": "nat"},
    ),
    Sample("a negated ICMP type", "icmp type != echo-request accept", "-p icmp -m icmp --icmp-type 8 -j ACCEPT"),
    Sample(
        "a negated ICMP type",
        "icmpv6 type != echo-request accept",
        "-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT",
        place=IP6,
    ),
    Sample(
        "an ICMP code without a type",
        "icmp code 3 accept",
        "-p icmp -m icmp --icmp-type any -j ACCEPT",
        elsewhere=newer("-p icmp -m icmp --icmp-type 255/3 -j ACCEPT"),
    ),
    Sample(
        "an ICMP code without a type",
        "icmp type 3 icmp code != 4 accept",
        "-p icmp -m icmp --icmp-type 3 -m icmp --icmp-type any -j ACCEPT",
        elsewhere=newer("-p icmp -m icmp --icmp-type 3 -m icmp --icmp-type 255/4 -j ACCEPT"),
    ),
    Sample("an ICMP code without a type", "icmpv6 code 3 accept", REFUSED, place=IP6),
    Sample(
        "ICMP of the other family",
        "icmpv6 type echo-request accept",
        "-p ipv6-icmp -m icmp --icmp-type 128 -j ACCEPT",
        loads=False,
    ),
    Sample(
        "ICMP of the other family",
        "icmp type echo-request accept",
        "-p icmp -m icmp6 --icmpv6-type 8 -j ACCEPT",
        loads=False,
        place=IP6,
    ),
    Sample("ICMP type 255", "icmp type 255 accept", "-p icmp -m icmp --icmp-type any -j ACCEPT"),
    Sample("tcp flags without a mask", "tcp flags == syn accept", REFUSED),
    Sample("tcp flags ecn and cwr", "tcp flags & (ecn | cwr) == cwr accept", REFUSED),
    Sample("log without a group", 'log prefix "x"', REFUSED),
    Sample("log with a verdict", "log group 2 drop", "-j DROP"),
    Sample("log with a verdict", "log group 2 jump OTHER", "-j OTHER --nflog-group 2", loads=False),
    Sample("a second log", "log group 2 log group 3", "-j NFLOG --nflog-group 3"),
    Sample("log in front of a match", "log group 2 tcp dport 22", "-p tcp -m tcp --dport 22 -j NFLOG --nflog-group 2"),
    Sample("limit over", "limit rate over 5/second drop", REFUSED),
    Sample("limit by bytes", "limit rate 10 kbytes/second accept", REFUSED),
    Sample(
        "a limit in front of a match",
        "limit rate 5/minute ip saddr 10.0.0.1 accept",
        "-s 10.0.0.1/32 -m limit --limit 5/min -j ACCEPT",
    ),
    Sample(
        "a limit in front of a match",
        "limit rate 5/minute tcp dport 22 accept",
        "-p tcp -m limit --limit 5/min -m tcp --dport 22 -j ACCEPT",
    ),
    Sample("an uneven rate", "limit rate 300/second accept", "-m limit --limit 303/sec -j ACCEPT"),
    Sample("an uneven rate", "limit rate 1/week accept", "-m limit --limit 0/day -j ACCEPT", loads=False),
    Sample(
        "a burst over 10000",
        "limit rate 5/second burst 10001 packets accept",
        "-m limit --limit 5/sec --limit-burst 10001 -j ACCEPT",
        loads=False,
    ),
    Sample("a counter in front of a match", "counter tcp dport 22 accept", "-p tcp -m tcp --dport 22 -j ACCEPT"),
    Sample("a second counter", "counter tcp dport 22 counter accept", "-p tcp -m tcp --dport 22 -j ACCEPT"),
    Sample("a single quote in a text", 'accept comment "it\'s"', '-m comment --comment "it\\\'s" -j ACCEPT'),
    Sample(
        "a single quote in a text", 'log prefix "it\'s" group 2', '-j NFLOG --nflog-prefix "it\\\'s" --nflog-group 2'
    ),
    Sample(
        "a chain name like a target", "tcp dport 22 jump LOG", "-p tcp -m tcp --dport 22 -j LOG", place={"other": "LOG"}
    ),
    Sample(
        "a chain name like a target",
        "tcp dport 22 jump ACCEPT",
        "-p tcp -m tcp --dport 22 -j ACCEPT",
        loads=False,
        place={"other": "ACCEPT"},
    ),
    Sample("a chain name over 28 characters", "accept", REFUSED, place={"chain": LONG}),
    Sample("a chain name over 28 characters", f"jump {LONG}", f"-j {LONG}", loads=False, place={"other": LONG}),
    Sample("meta mark set", "meta mark set 0x1", REFUSED, elsewhere=newer("-j MARK --set-xmark 0x1/0xffffffff")),
    Sample("ip ttl set", "ip ttl set 64", ""),
    Sample("ip dscp set", "ip dscp set ef", ""),
    Sample("ip saddr set", "ip saddr set 10.0.0.1", ""),
    Sample("ip daddr set", "ip daddr set 10.0.0.1", ""),
    Sample("ip6 hoplimit set", "ip6 hoplimit set 64", "", place=IP6),
    Sample("tcp dport set", "tcp dport set 80", "-p tcp"),
    Sample("tcp sport set", "tcp sport set 80", "-p tcp"),
    Sample("tcp sequence", "tcp sequence 1 accept", "-p tcp -j ACCEPT"),
    Sample("tcp window", "tcp window 1000 accept", "-p tcp -j ACCEPT"),
    Sample("tcp checksum", "tcp checksum 0 accept", "-p tcp -j ACCEPT"),
    Sample("tcp doff", "tcp doff 5 accept", "-p tcp -j ACCEPT"),
    Sample("udp length", "udp length 8 accept", "-p udp -j ACCEPT"),
    Sample("udp checksum", "udp checksum 0 accept", "-p udp -j ACCEPT"),
    Sample("raw payload of layer 2", "@ll,0,8 6 accept", "-j ACCEPT"),
    Sample("raw payload", "@th,160,8 1 accept", REFUSED),
    Sample("ip frag-off", "ip frag-off != 0 accept", "-f -j ACCEPT"),
    Sample("ip frag-off", "ip frag-off & 0x2000 != 0 accept", "-f -j ACCEPT"),
    Sample("ct state", "ct state established,related accept", REFUSED),
    Sample("ct state", "ct state vmap { established : accept, invalid : drop }", REFUSED),
    Sample("ct status", "ct status dnat accept", REFUSED),
    Sample("ct mark", "ct mark 1 accept", REFUSED),
    Sample("ct original", "ct original saddr 10.0.0.1 accept", REFUSED),
    Sample("ct direction", "ct direction original accept", REFUSED),
    Sample("ct count", "ct count over 5 drop", REFUSED),
    Sample("ct mark set", "ct mark set 1", REFUSED),
    Sample("fib", "fib daddr type local accept", REFUSED),
    Sample("reject", "reject", REFUSED),
    Sample("reject", "tcp dport 22 reject with tcp reset", REFUSED),
    Sample("masquerade", "masquerade", REFUSED),
    Sample("dnat", "dnat to 10.0.0.1", REFUSED),
    Sample("redirect", "tcp dport 80 redirect to :8080", REFUSED),
    Sample("notrack", "notrack", REFUSED),
    Sample("dup", "dup to 10.0.0.9", REFUSED),
    Sample("quota", "quota over 10 mbytes drop", REFUSED),
    Sample("adding to a set", "add @seen { ip saddr }", REFUSED),
    Sample("a named counter", 'counter name "counted" accept', REFUSED),
    Sample("synproxy", "meta l4proto tcp synproxy mss 1460 wscale 7", REFUSED),
    Sample("tproxy", "meta l4proto tcp tproxy to :8080", REFUSED),
    Sample("ether address", "ether saddr 02:00:00:00:00:77 accept", REFUSED),
    Sample("th", "meta l4proto { tcp, udp } th dport 53 accept", REFUSED),
    Sample("sctp dport", "sctp dport 22 accept", REFUSED),
    Sample("dccp dport", "dccp dport 22 accept", REFUSED),
    Sample("udplite dport", "udplite dport 22 accept", REFUSED),
    Sample("ah spi", "ah spi 256 accept", REFUSED),
    Sample("esp spi", "esp spi 256 accept", REFUSED),
    Sample("ip dscp", "ip dscp ef accept", REFUSED),
    Sample("ip length", "ip length > 100 accept", REFUSED),
    Sample("ip id", "ip id 1 accept", REFUSED),
    Sample("ip6 flowlabel", "ip6 flowlabel 1 accept", REFUSED, place=IP6),
    Sample("an extension header", "exthdr frag exists accept", REFUSED, place=IP6),
    Sample("an IP option", "ip option ra exists accept", REFUSED),
    Sample("a TCP option", "tcp option maxseg size 1460 accept", REFUSED),
    Sample("a TCP option set", "tcp option maxseg size set 1400", REFUSED),
    Sample("meta length", "meta length > 100 accept", REFUSED),
    Sample("meta skuid", "meta skuid 0 accept", REFUSED),
    Sample("meta cpu", "meta cpu 0 accept", REFUSED),
    Sample("meta priority", "meta priority 1 accept", REFUSED),
    Sample("meta priority set", "meta priority set 1:2", REFUSED),
    Sample("meta hour", 'meta hour "10:00"-"12:00" accept', REFUSED),
    Sample("meta protocol", "meta protocol ip6 accept", REFUSED),
    Sample("rt", "rt mtu 1500 accept", REFUSED),
    Sample("socket", "socket transparent 1 accept", REFUSED),
    Sample("osf", 'osf name "Linux" accept', REFUSED),
    Sample("ipsec", "ipsec in reqid 1 accept", REFUSED),
    Sample("numgen", "numgen inc mod 2 0 accept", REFUSED),
    Sample("jhash", "jhash ip saddr mod 2 0 accept", REFUSED),
]


def test_every_construct_is_a_problem(lab_host: Host) -> None:
    answers = ask(lab_host, [order(sample.rule, **sample.place) for sample in SAMPLES])
    wrong = {}
    for sample, answer in zip(SAMPLES, answers):
        assert "refused" not in answer, (sample, answer)
        if sample.construct not in named(sample, answer):
            wrong[sample.rule] = f"judged as {named(sample, answer)}"
        elif outcome(answer) != (sample.elsewhere.get(lab_host.suite, sample.listed), sample.loads):
            wrong[sample.rule] = outcome(answer)
    assert wrong == {}


def named(sample: Sample, answer: Order) -> dict[str, str]:
    """The constructs that the judge finds, and how bad they are."""
    place = {"family": "ip", "table": "filter", "chain": "X", **sample.place}
    (rule,) = answer["rules"]
    problems = judge(rule["expr"], place["family"], place["table"], place["chain"], rule.get("comment"))
    return {each.construct: each.kind for each in [*problems, *judge_chain_name(place["chain"])]}


def outcome(answer: Order) -> tuple[str, bool]:
    """What iptables lists of one rule, and whether it loads that again; what it does not list it cannot lose."""
    if answer["listed"]:
        return REFUSED, True
    listed = " ".join(answer["lines"][0].split(" ")[2:])
    return listed, answer["restored"] == 0 and len(answer["again"]) == 1


def test_no_construct_is_called_a_problem_without_a_sample() -> None:
    assert set(KNOWN) <= {sample.construct for sample in SAMPLES}
    for construct, (kind, _why, _instead) in KNOWN.items():
        told_of = {each for sample in SAMPLES if sample.construct == construct for each in outcomes(sample)}
        assert (REFUSED in told_of) if kind == UNREADABLE else told_of - {REFUSED}, construct


def outcomes(sample: Sample) -> set[str]:
    return {sample.listed, *sample.elsewhere.values()}


def test_the_documentation_has_what_was_measured() -> None:
    assert facts() in DOC.read_text(encoding="utf-8"), f"docs/iptables_readable.md should have\n{facts()}"


def facts() -> str:
    """The samples as a table."""
    lines = ["| construct | a rule with it | what iptables lists |", "|---|---|---|"]
    for sample in SAMPLES:
        rule = f"{sample.rule.replace('|', chr(92) + '|')}"
        where = "".join(f", {key} {value}" for key, value in sample.place.items() if key != "other")
        listed = told(sample.listed, sample.loads)
        others = set(sample.elsewhere.values())
        later = "".join(f"; 1.8.11 and later: {told(each, True)}" for each in sorted(others))
        lines.append(f"| {sample.construct} | `{rule}`{where} | {listed}{later} |")
    return "\n".join(lines)


def told(listed: str, loads: bool) -> str:
    """What was listed, for a reader."""
    if listed == REFUSED:
        return "refuses the chain"
    return (f"`{listed}`" if listed else "nothing of it") + ("" if loads else ", and does not load that")
