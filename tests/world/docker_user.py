# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random rules of DOCKER-USER, in words that iptables-restore takes and about packets that the tests send."""

from __future__ import annotations

import dataclasses
import random
import typing as t

BRIDGE = "br-bac64a73a10a"
#: Names that iptables allows and nft does not.
CHAINS = ("deny.list", "office@vpn", "a:b")
INTERFACES = ("eth0", "eth0", "eth+", "src_if", "dst_if", "docker0", BRIDGE, "br-+", "named0", "+", "gone0", "br-5+")
STATES = (
    "NEW",
    "ESTABLISHED",
    "RELATED",
    "RELATED,ESTABLISHED",
    "INVALID",
    "NEW,ESTABLISHED",
    "DNAT",
    "SNAT",
    "NEW,DNAT",
)
#: A mark that the table has to set itself.
TAKEN = "0x20000000"
MARKS = (f"{TAKEN}/{TAKEN}", "0x0", "0x1", "0x1/0x1", "0x0/0xf", "0x2/0x3", "0x10/0xff", "0x7")

ADDRESSES = {
    4: (
        "198.51.100.50", "198.51.100.0/25", "198.51.100.0/24", "198.51.100.64/26", "192.0.2.0/25", "192.0.2.128/25",
        "172.20.0.0/24", "172.16.0.0/12", "172.17.0.2", "172.20.0.5", "172.24.0.0/24", "203.0.113.0/24", "0.0.0.0/0",
        "198.51.0.50/255.255.0.255", "172.0.0.2/255.0.0.255",
    ),
    6: (
        "2001:db8::50", "2001:db8::/64", "2001:db8::/32", "2001:db8:1::/64", "2001:db8:5::/64", "2001:db8:6::200",
        "fd00:20::/64", "fd00:20::5", "fd00:20::2", "::/0", "2001:db8::40/ffff:ffff:ffff:ffff::ffc0",
    ),
}  # fmt: skip
RANGES = {
    4: (
        "198.51.100.50-198.51.100.66",
        "198.51.100.200-198.51.100.203",
        "172.17.0.2-172.20.0.4",
        "192.0.2.10-192.0.2.10",
    ),
    6: ("2001:db8::50-2001:db8::66", "fd00:20::3-fd00:20::5", "2001:db8:5::-2001:db8:6::ffff"),
}
DIALLED = {4: ("198.51.100.12", "198.51.100.0/24", "172.24.0.2"), 6: ("2001:db8::12", "fd00:20::/64", "2001:db8::/32")}
ICMP_TYPES = {
    4: ("8", "8/0", "echo-request", "0", "3", "3/3", "any", "destination-unreachable"),
    6: ("128", "129", "1", "1/4", "echo-request", "destination-unreachable", "128/0"),
}
REJECTS = {
    4: ("", "icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable", "icmp-proto-unreachable",
        "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited"),
    6: ("", "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable",
        "icmp6-policy-fail", "icmp6-reject-route"),
}  # fmt: skip
COMMENTS = ("web from lab", 'say \\"no\\"', "a; drop }", "$HOME `id` #", "x" * 255, "ümläut", "{{ jinja }}")
#: What `ipset restore` takes; the sets that rules of either family may name, with their directions.
SETS_TEXT = """\
create friends hash:net family inet
add friends 198.51.100.50
add friends 198.51.100.128/25
add friends 172.20.0.0/29
create hosts hash:ip family inet
add hosts 198.51.100.66
add hosts 172.17.0.2
add hosts 192.0.2.10
create doors hash:ip,port family inet
add doors 172.17.0.2,tcp:80
add doors 172.20.0.5,udp:80
add doors 172.24.0.2,tcp:80
create ports bitmap:port range 0-65535
add ports 80-81
add ports 443
create friends6 hash:net family inet6
add friends6 2001:db8::50
add friends6 2001:db8:5::/64
add friends6 fd00:20::4/126
create doors6 hash:ip,port family inet6
add doors6 fd00:20::5,tcp:80
add doors6 fd00:20::2,tcp:80
"""
SETS = {
    4: (
        ("friends", ("src", "dst")),
        ("hosts", ("src", "dst")),
        ("doors", ("dst,dst", "src,dst")),
        ("ports", ("dst", "src")),
    ),
    6: (("friends6", ("src", "dst")), ("doors6", ("dst,dst",)), ("ports", ("dst",))),
}

Random = random.Random


@dataclasses.dataclass(frozen=True)
class Rules:
    """DOCKER-USER and its chains in both families, and whether FORWARD drops what nobody accepts."""

    chains: t.Mapping[int, tuple[str, ...]]
    lines: t.Mapping[int, tuple[str, ...]]
    drops: bool
    #: Rules that stand in FORWARD, behind Docker's.
    forward: t.Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        text = [f"policy of FORWARD: {'DROP' if self.drops else 'ACCEPT'}"]
        for family, lines in self.lines.items():
            text += [f"IPv{family}:", *lines, *self.forward.get(family, ())]
        return "\n".join(text)


def _not(random_: Random, share: float = 0.2) -> str:
    return "! " if random_.random() < share else ""


def _address(random_: Random, family: int) -> str:
    address = random_.choice(ADDRESSES[family])
    negated = "" if address.endswith("/0") else _not(random_)
    return f"{negated}{random_.choice(('-s', '-d'))} {address}"


def _interface(random_: Random, _family: int) -> str:
    return f"{_not(random_)}{random_.choice(('-i', '-i', '-o'))} {random_.choice(INTERFACES)}"


def _range(random_: Random, family: int) -> str:
    which = random_.choice(("--src-range", "--dst-range"))
    return f"-m iprange {_not(random_)}{which} {random_.choice(RANGES[family])}"


def _ports(random_: Random) -> str:
    port, other = random_.choices(("80", "80", "81", "80:90", "443", ":79", "82:", "1:65535", "53"), k=2)
    text = f"{_not(random_)}{random_.choice(('--dport', '--dport', '--sport'))} {port}"
    if "--dport" in text and random_.random() < 0.2:
        # iptables 1.8.9 makes one comparison of two ports that are not to be met: it forbids too much.
        negated = "" if text.startswith("!") else _not(random_, 0.6)
        text = f"{negated}--sport {other} {text}"
    return text


def _multiport(random_: Random) -> str:
    ports = random_.choice(("80,443", "80:85,443,8080", "81", "1:79,90:65535", "53,80"))
    which = random_.choice(("--dports", "--dports", "--sports", "--ports"))
    return f"-m multiport {_not(random_)}{which} {ports}"


def _protocol(random_: Random, family: int) -> str:
    """A protocol with what may be said of it."""
    icmp = "icmp" if family == 4 else "ipv6-icmp"
    name = random_.choice(("tcp", "tcp", "tcp", "udp", "udp", icmp, "other"))
    if name == "other":
        number = random_.choice(("6", "17", "sctp", "all", "0", "1", "58", "132", "gre"))
        return f"{_not(random_, 0.4) if number not in ('all', '0') else ''}-p {number}"
    text = f"-p {name}"
    what = random_.random()
    if what < 0.15:
        return f"{_not(random_, 0.5)}{text}"
    if name == icmp:
        option = "-m icmp {}--icmp-type" if family == 4 else "-m icmp6 {}--icmpv6-type"
        kind = random_.choice(ICMP_TYPES[family])
        return f"{text} {option.format(_not(random_) if kind != 'any' else '')} {kind}"
    if what < 0.55:
        return f"{text} -m {name} {_ports(random_)}"
    if what < 0.8 or name == "udp":
        return f"{text} {_multiport(random_)}"
    flags = random_.choice(("--syn", "--tcp-flags SYN,RST,ACK SYN", "--tcp-flags ALL SYN,ACK", "--tcp-flags ACK ACK",
                            "--tcp-flags SYN,FIN NONE"))  # fmt: skip
    return f"{text} -m tcp {_not(random_)}{flags}"


def _conntrack(random_: Random, family: int) -> str:
    parts = []
    if random_.random() < 0.5:
        parts.append(f"{_not(random_)}--ctstate {random_.choice(STATES)}")
    if not parts or random_.random() < 0.5:
        dialled, source = random_.choice(DIALLED[family]), random_.choice(ADDRESSES[family][:6])
        ports = random_.choice((
            f"--ctorigdstport {random_.choice(('8080', '8081', '7000:7009', '80', '8082:8090'))}",
            f"--ctorigsrcport {random_.choice(('1024:65535', '1:9999', '81'))}",
        ))  # fmt: skip
        options = (
            f"--ctproto {random_.choice(('tcp', 'udp', '6'))} {_not(random_)}{ports}",
            f"{_not(random_)}--ctorigdst {dialled}",
            f"{_not(random_)}--ctorigsrc {source}",
            f"--ctdir {random_.choice(('ORIGINAL', 'REPLY'))}",
            f"{_not(random_)}--ctstatus {random_.choice(('SEEN_REPLY', 'CONFIRMED', 'NONE', 'ASSURED,SEEN_REPLY'))}",
        )
        parts += random_.sample(options, random_.choice((1, 1, 2)))
    return f"-m conntrack {' '.join(parts)}"


def _set(random_: Random, family: int) -> str:
    name, ways = random_.choice(SETS[family])
    return f"-m set {_not(random_)}--match-set {name} {random_.choice(ways)}"


def _odd(random_: Random, family: int) -> str:
    """What is rarely met."""
    hop = "-m ttl --ttl" if family == 4 else "-m hl --hl"
    return random_.choice(
        (
            f"-m state {_not(random_)}--state {random_.choice(STATES[:5])}",
            f"-m mark {_not(random_)}--mark {random_.choice(MARKS)}",
            f"-m mark {_not(random_)}--mark {random_.choice(MARKS)}",
            f"-m connmark {_not(random_)}--mark {random_.choice(MARKS)}",
            "-m limit --limit 9999/second --limit-burst 9999",
            f"-m addrtype {_not(random_)}{random_.choice(('--src-type', '--dst-type'))} "
            f"{random_.choice(('LOCAL', 'UNICAST', 'MULTICAST', 'UNICAST,LOCAL'))}",
            f"-m mac {_not(random_)}--mac-source 02:b4:00:00:01:0{random_.choice('0123')}",
            f"-m pkttype {_not(random_)}--pkt-type {random_.choice(('unicast', 'multicast', 'broadcast'))}",
            f"-m length {_not(random_)}--length {random_.choice(('40', '0:59', '60:', '28:44'))}",
            f"-m addrtype --dst-type UNICAST {random_.choice(('--limit-iface-in', '--limit-iface-out'))}",
            f"-m tos {_not(random_)}--tos {random_.choice(('0x00/0xff', '0x10/0x1c', '0x00/0xfc'))}",
            f"-m dscp {_not(random_)}--dscp {random_.choice(('0x00', '0x0a'))}",
            f"{hop}-{random_.choice(('eq 63', 'lt 64', 'gt 62', 'eq 64'))}",
        )
    )


MATCHES = (_address, _address, _interface, _interface, _range, _protocol, _protocol, _protocol, _conntrack, _set, _odd)


def _reject(random_: Random, family: int, matches: str) -> str:
    kind = random_.choice(REJECTS[family])
    if "-p tcp" in matches and "! -p" not in matches and random_.random() < 0.9:
        kind = "tcp-reset"
    return f"-j REJECT{f' --reject-with {kind}' if kind else ''}"


def _target(random_: Random, family: int, matches: str, below: t.Sequence[str]) -> str:
    if "-p tcp" in matches and random_.random() < 0.2:
        return _reject(random_, family, matches)
    what = random_.random()
    if below and what < 0.22:
        return f"{random_.choice(('-j', '-j', '-g'))} {random_.choice(below)}"
    if what < 0.42:
        return "-j DROP"
    if what < 0.57:
        return "-j ACCEPT"
    if what < 0.67:
        return "-j RETURN"
    if what < 0.8:
        return _reject(random_, family, matches)
    if what < 0.92:
        ways = ("--set-mark 0x1", "--set-xmark 0x1/0xf", "--or-mark 0x2", "--and-mark 0xfffffffe", "--xor-mark 0x3",
                "--set-mark 0x6", f"--or-mark {TAKEN}")  # fmt: skip
        return f"-j MARK {random_.choice(ways)}"
    if what < 0.95:
        return f"-j CONNMARK {random_.choice(('--set-xmark 0x1/0xf', '--save-mark', '--restore-mark'))}"
    return random_.choice(('-j LOG --log-prefix "user: " --log-level 6', "-j NFLOG --nflog-group 9", "", ""))


def _rule(random_: Random, family: int, chain: str, below: t.Sequence[str]) -> str:
    kinds = random_.sample(MATCHES, random_.choice((0, 1, 1, 1, 2, 2, 3)))
    found: dict[str, str] = {}
    for kind in kinds:
        text = kind(random_, family)
        # iptables takes an option once in a rule.
        words = text.replace("! ", "").split()
        found.setdefault(words[1] if words[0] == "-m" else words[0], text)
    if random_.random() < 0.15:
        found["comment"] = f'-m comment --comment "{random_.choice(COMMENTS)}"'
    matches = " ".join(sorted(found.values(), key=lambda text: "-p " not in text))
    parts = ("-A", chain, matches, _target(random_, family, matches, below))
    return " ".join(part for part in parts if part)


def rules(random_: Random) -> Rules:
    """5 to 15 rules a family, in DOCKER-USER and chains it leads to."""
    lines, forward = {}, {}
    for family in (4, 6):
        chains = ("DOCKER-USER", *CHAINS[: random_.randint(0, len(CHAINS))])
        made = []
        for place, chain in enumerate(chains):
            share = 5 if not place else 3
            below = chains[place + 1 :]
            made += [_rule(random_, family, chain, below) for _rest in range(random_.randint(share - 2, share))]
        lines[family] = tuple(made + [_rule(random_, family, "DOCKER-USER", chains[1:]) for _rest in range(2)])
        forward[family] = tuple(_accepting(random_, family) for _rest in range(random_.choice((0, 0, 1, 2))))
    return Rules({4: CHAINS, 6: CHAINS}, lines, random_.random() < 0.6, forward)


def _accepting(random_: Random, family: int) -> str:
    """A rule of FORWARD; what it forbids would be otherwise than before (docs/docker_user.md)."""
    return f"{_rule(random_, family, 'FORWARD', ()).partition(' -j ')[0]} -j ACCEPT"


def save(capture_text: str, made: Rules, family: int) -> str:
    """The captured table filter with these rules in DOCKER-USER, as a save."""
    table = capture_text[capture_text.index("*filter\n") :]
    lines = table[: table.index("COMMIT\n")].splitlines()
    kept = [line for line in lines if not line.startswith("-A DOCKER-USER ")]
    policy = "DROP" if made.drops else "ACCEPT"
    kept = [f":FORWARD {policy} [0:0]" if line.startswith(":FORWARD ") else line for line in kept]
    at = next(place for place, line in enumerate(kept) if line.startswith("-A "))
    chains = [f":{name} - [0:0]" for name in made.chains[family]]
    return "\n".join(
        [*kept[:at], *chains, *kept[at:], *made.lines[family], *made.forward.get(family, ()), "COMMIT", ""]
    )
