# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random policies, compiled and loaded into a kernel, against what decide() says of random connections.

Everything happens in namespaces made for the test: a client with two interfaces, a host that publishes ports of a
container behind a bridge the way Docker does, that container, and servers that the host forwards to by two more
interfaces. BULKHEAD_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import typing as t
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _blocks
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import (
    Decision,
    Dial,
    decide,
    decide_routed,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import replace_script
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nft need root")

POLICIES = 40
DIALS = 40
QUICK, PATIENT = 0.3, 3.0
LINKS = {"lan0": ("192.0.2.", "2001:db8:1::"), "wan0": ("198.51.100.", "2001:db8:2::")}
#: Where the host forwards to, and the last parts of the servers' addresses there.
BEYOND = {"dmz0": ("203.0.113.", "2001:db8:3::"), "far0": ("203.0.114.", "2001:db8:4::")}
SERVERS = (2, 9, 70)
CLIENTS = (2, 3, 9, 70)
#: The host's addresses; every one is dialled from both sides.
HOST = ("192.0.2.1", "192.0.2.5", "198.51.100.1", "2001:db8:1::1", "2001:db8:1::5", "2001:db8:2::1")
CONTAINER = ("172.30.0.2", "fd00:30::2")
LISTENING = (("tcp", 22), ("tcp", 80), ("tcp", 443), ("tcp", 5000), ("udp", 53), ("udp", 5000))
#: What the client dials and where it ends; 8443 ends at a port that the host has too.
PUBLISHED = {("tcp", 8080): 80, ("tcp", 8081): 8081, ("tcp", 8443): 22, ("udp", 5353): 53, ("udp", 8080): 8080}
EXPECTED = {"accept": "open", "drop": "timeout", "reject": "refused"}


class Room:
    """One network namespace, kept by a sleeping process."""

    def __init__(self) -> None:
        argv = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 900"]
        self.holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.helpers: list[subprocess.Popen[str]] = []
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "ready\n"
        assert os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net")

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *argv]

    def run(self, *argv: str, text: str | None = None) -> str:
        done = subprocess.run(self.argv(*argv), input=text, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}: {done.stderr}\n{text or ''}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def sysctl(self, **values: str) -> None:
        self.run("sysctl", "-q", "-e", "-w", *[f"{key.replace('__', '.')}={value}" for key, value in values.items()])

    def helper(self, what: str) -> subprocess.Popen[str]:
        argv = self.argv(sys.executable, str(Path(__file__).with_name("dialer.py")), what)
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.helpers.append(process)
        return process

    def serve(self, sockets: list[tuple[str, str, int]]) -> None:
        said = ask(self.helper("serve"), sockets)
        assert said == "ready\n", said

    def close(self) -> None:
        for process in [*self.helpers, self.holder]:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def ask(process: subprocess.Popen[str], what: t.Any) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return process.stdout.readline()


def nat(family: str, to: str) -> str:
    rules = "\n".join(
        f"fib daddr type local {protocol} dport {port} dnat to {to}:{inner}"
        for (protocol, port), inner in PUBLISHED.items()
    )
    return f"table {family} nat {{\nchain PREROUTING {{\ntype nat hook prerouting priority -100;\n{rules}\n}}\n}}\n"


class World:
    """Client, host and container."""

    def __init__(self) -> None:
        self.client, self.host, self.container, self.beyond = Room(), Room(), Room(), Room()
        self.source_port = 20000
        self.wire()
        self.dialer = self.client.helper("dial")

    def wire(self) -> None:
        host = self.host
        host.sysctl(
            net__ipv4__ip_forward="1",
            net__ipv6__conf__all__forwarding="1",
            net__ipv4__conf__all__rp_filter="0",
            net__ipv4__conf__default__rp_filter="0",
            net__ipv4__icmp_ratelimit="0",
            net__ipv4__icmp_msgs_per_sec="100000",
            net__ipv4__icmp_msgs_burst="100000",
            net__ipv6__icmp__ratelimit="0",
        )
        self.client.sysctl(net__ipv4__conf__all__rp_filter="0", net__ipv4__conf__default__rp_filter="0")
        for metric, (name, (prefix4, prefix6)) in enumerate(LINKS.items(), start=1):
            inner = f"c-{name}"
            host.ip(
                f"link add {name} type veth peer name {inner} netns {self.client.holder.pid}",
                f"link set {name} up",
                *[
                    f"address add {address}/{24 if '.' in address else 64} dev {name}{'' if '.' in address else ' nodad'}"
                    for address in HOST
                    if address.startswith((prefix4, prefix6))
                ],
            )
            self.client.ip(
                f"link set {inner} up",
                *[f"address add {prefix4}{last}/24 dev {inner}" for last in CLIENTS],
                *[f"address add {prefix6}{last}/64 dev {inner} nodad" for last in CLIENTS],
                f"route add default via {prefix4}1 dev {inner} metric {metric}",
                f"route add ::/0 via {prefix6}1 dev {inner} metric {metric}",
            )
        for name, (prefix4, prefix6) in BEYOND.items():
            inner = f"s-{name}"
            host.ip(
                f"link add {name} type veth peer name {inner} netns {self.beyond.holder.pid}",
                f"link set {name} up",
                f"address add {prefix4}1/24 dev {name}",
                f"address add {prefix6}1/64 dev {name} nodad",
            )
            self.beyond.ip(
                f"link set {inner} up",
                *[f"address add {prefix4}{last}/24 dev {inner}" for last in SERVERS],
                *[f"address add {prefix6}{last}/64 dev {inner} nodad" for last in SERVERS],
            )
        self.beyond.ip("route add default via 203.0.113.1", "route add ::/0 via 2001:db8:3::1")
        host.ip(
            "link add br-web type bridge forward_delay 0",
            f"link add v-web type veth peer name eth0 netns {self.container.holder.pid}",
            "link set v-web master br-web up",
            "link set br-web up",
            "address add 172.30.0.1/24 dev br-web",
            "address add fd00:30::1/64 dev br-web nodad",
        )
        self.container.ip(
            "link set eth0 up",
            f"address add {CONTAINER[0]}/24 dev eth0",
            f"address add {CONTAINER[1]}/64 dev eth0 nodad",
            "route add default via 172.30.0.1",
            "route add ::/0 via fd00:30::1",
        )
        host.run("nft", "-f", "-", text=nat("ip", CONTAINER[0]) + nat("ip6", f"[{CONTAINER[1]}]"))
        host.serve([(address, protocol, port) for address in HOST for protocol, port in LISTENING])
        self.container.serve(
            [(address, protocol, port) for address in CONTAINER for (protocol, _dialled), port in PUBLISHED.items()]
        )

        self.beyond.serve(
            [(f"{prefix}{last}", *port) for both in BEYOND.values() for prefix in both for last in SERVERS for port in LISTENING]
        )

    def load(self, text: str | None) -> None:
        self.host.run("nft", "-f", "-", text=replace_script("inet", "bulkhead", text))

    def dial(self, dials: list[Dial], timeout: float = QUICK) -> list[str]:
        """Send one packet for each; no source port is used twice, so that no connection is an old one."""
        asked = []
        for one in dials:
            self.source_port += 1
            asked.append(
                {
                    "source": one.source,
                    "destination": one.destination,
                    "protocol": one.protocol,
                    "port": one.port,
                    "device": f"c-{one.interface}",
                    "source_port": self.source_port,
                }
            )
        return json.loads(ask(self.dialer, {"dials": asked, "timeout": timeout}))

    def close(self) -> None:
        for room in (self.client, self.host, self.container, self.beyond):
            room.close()


@pytest.fixture(scope="module")
def world() -> t.Iterator[World]:
    made = World()
    yield made
    made.close()


SOURCES = (
    "192.0.2.2", "192.0.2.0/29", "192.0.2.3-192.0.2.9", "192.0.2.64/26", "0.0.0.0/0", "198.51.100.0/24",
    "198.51.100.9-198.51.100.70", "198.51.100.3", "2001:db8:1::2", "2001:db8:1::/64", "2001:db8:2::3-2001:db8:2::70",
    "2001:db8::/32", "2001:db8:1::/125", "::/0",
)  # fmt: skip
DESTINATIONS = (
    *HOST,
    "192.0.2.0/30",
    "192.0.2.4-192.0.2.200",
    "198.51.100.0/24",
    "2001:db8:1::/126",
    "2001:db8:2::/64",
)
#: What zones and destinations beyond the host are made of.
PLACES = (
    "203.0.113.2", "203.0.113.0/24", "203.0.113.3-203.0.114.9", "203.0.114.64/26", "203.0.112.0/22", "2001:db8:3::2",
    "2001:db8:3::/64", "2001:db8:4::/125", "2001:db8:3::9-2001:db8:4::9", "2001:db8::/32",
)  # fmt: skip
PORTS = (22, 80, 443, 5000, 53, 8080, 8081, 8443, 5353, "1-1024", "5000-9000", "8080-8081", "8000-8080", "1-65535")
PROTOCOLS = ("tcp", "tcp", "udp", ["tcp", "udp"], ["tcp", "icmp"], "6", "17")


def some(random_: random.Random, choices: t.Sequence[t.Any], most: int) -> list[t.Any]:
    return random_.sample(choices, random_.randint(1, most))


def random_zone(random_: random.Random) -> dict[str, t.Any]:
    zone: dict[str, t.Any] = {}
    if random_.random() < 0.5:
        zone["interfaces"] = some(random_, ("lan0", "wan0", "lan*", "w*", "ppp*"), 2)
    if not zone or random_.random() < 0.6:
        zone["sources"] = some(random_, SOURCES, 4)
    return zone


def random_rule(random_: random.Random, zones: list[str]) -> dict[str, t.Any]:
    target = random_.choice(("host", "host", "published", "published", "published", "egress", "routed", "network:web"))
    rule: dict[str, t.Any] = {"to": target, "action": random_.choice(("accept", "accept", "accept", "drop", "reject"))}
    if target != "egress" and random_.random() < 0.8:
        rule["from"] = some(random_, [*zones, "outside"], 2)
    rule["protocol"] = random_.choice(PROTOCOLS)
    if target == "published" and rule["protocol"] == ["tcp", "icmp"]:
        rule["protocol"] = "tcp"
    if target == "host" and random_.random() < 0.1:
        rule["protocol"] = "any"
    if rule["protocol"] not in ("any", ["tcp", "icmp"]) and random_.random() < 0.85:
        rule["ports"] = some(random_, PORTS, 4)
    if random_.random() < 0.35:
        rule["destination"] = some(random_, DESTINATIONS, 3)
    elif random_.random() < 0.25:
        rule["family"] = random_.choice(("ipv4", "ipv6"))
    if rule["action"] == "accept" and random_.random() < 0.15:
        rule.update(limit="100000/second", burst=1000)
    if random_.random() < 0.15:
        rule["log"] = True
    return rule


def random_policy(random_: random.Random) -> tuple[dict[str, t.Any], Policy]:
    """Make a policy that is accepted; most of those that are not allow and deny the same port."""
    while True:
        zones = {f"z{number}": random_zone(random_) for number in range(random_.randint(1, 4))}
        variables = {
            "zones": zones,
            "rules": [random_rule(random_, list(zones)) for _rest in range(random_.randint(1, 9))],
            "host_default": random_.choice(("drop", "drop", "accept")),
            "outside_interfaces": random_.choice(([], [], ["lan0"], ["lan0", "wan*"])),
            "log_drops": random_.random() < 0.2,
        }
        try:
            return variables, parse(variables)
        except PolicyError:
            continue


def random_dial(random_: random.Random) -> Dial:
    interface = random_.choice(list(LINKS))
    version = random_.choice((0, 1))
    source = f"{LINKS[interface][version]}{random_.choice(CLIENTS)}"
    destination = random_.choice([address for address in HOST if (":" in address) == (version == 1)])
    protocol, port = random_.choice([*LISTENING, *PUBLISHED, *PUBLISHED])
    return Dial(source, destination, protocol, port, interface)


def compiled(policy: Policy) -> str:
    interfaces = ("lo", "br-web", "lan0", "v-web", "wan0")
    state = HostState(networks={"web": "br-web"}, interfaces=interfaces, published=tuple(sorted(PUBLISHED)))
    return render(compile_policy(policy, state))


def test_everything_answers_without_a_table(world: World) -> None:
    world.load(None)
    dials = [
        Dial(f"{prefix}{last}", address, protocol, port, name)
        for name, prefixes in LINKS.items()
        for prefix in prefixes
        for last in CLIENTS
        for address in HOST
        if (":" in address) == (":" in prefix)
        for protocol, port in [*LISTENING, *PUBLISHED]
    ]
    # The first packets to a new neighbour may be lost while its address is being resolved.
    silent = [one for one, outcome in zip(dials, world.dial(dials, PATIENT)) if outcome != "open"]
    assert [one for one, outcome in zip(silent, world.dial(silent, PATIENT)) if outcome != "open"] == []


def differences(world: World, dials: list[Dial], said: list[Decision]) -> list[str]:
    """Dial all of them, and tell what came out otherwise than was said."""
    found = world.dial(dials)
    wrong = [place for place, one in enumerate(said) if EXPECTED[one.verdict] != found[place]]
    # A busy machine may answer late; what is wrong stays wrong when it gets more time.
    again = dict(zip(wrong, world.dial([dials[place] for place in wrong], PATIENT))) if wrong else {}
    return [
        f"{dials[place]}: {outcome}, but {said[place]}"
        for place, outcome in again.items()
        if EXPECTED[said[place].verdict] != outcome
    ]


def begin(capsys: pytest.CaptureFixture[str]) -> tuple[int, random.Random]:
    seed = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\n  BULKHEAD_SEED={seed}: {POLICIES} policies, {DIALS} connections each", flush=True)
    return seed, random.Random(seed)


def test_the_kernel_does_what_the_policy_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    seed, random_ = begin(capsys)
    seen: Counter[str] = Counter()
    for number in range(POLICIES):
        variables, policy = random_policy(random_)
        text = compiled(policy)
        world.load(text)
        dials = [random_dial(random_) for _rest in range(DIALS)]
        said = [decide(policy, one, published=(one.protocol, one.port) in PUBLISHED) for one in dials]
        differ = differences(world, dials, said)
        assert not differ, "\n".join(
            [f"BULKHEAD_SEED={seed}, policy {number}:", *differ, json.dumps(variables, indent=1), text]
        )
        seen.update(decision.verdict for decision in said)
    assert min(seen[verdict] for verdict in EXPECTED) > POLICIES * DIALS // 100, seen


def random_way_zone(random_: random.Random) -> dict[str, t.Any]:
    """A zone that packets come from, leave for, or both; most have names only, which a set can hold."""
    zone: dict[str, t.Any] = {}
    if random_.random() < 0.75:
        zone["interfaces"] = some(random_, (*LINKS, *BEYOND, *LINKS, *BEYOND, "lan*", "d*", "ppp*"), 2)
    if not zone or random_.random() < 0.3:
        zone["sources"] = some(random_, random_.choice((SOURCES, PLACES, SOURCES + PLACES)), 4)
    return zone


def random_way(random_: random.Random, zones: list[str]) -> dict[str, t.Any]:
    rule = {**random_rule(random_, zones), "to": "routed"}
    rule.pop("destination", None)
    if random_.random() < 0.8:
        rule["towards"] = some(random_, [*zones, "outside"] if random_.random() < 0.2 else zones, 3)
    if "family" not in rule and random_.random() < 0.3:
        rule["destination"] = some(random_, PLACES, 3)
    return rule


def random_router(random_: random.Random) -> tuple[dict[str, t.Any], Policy]:
    """Make a policy about forwarded traffic that is accepted."""
    while True:
        zones = {f"z{number}": random_way_zone(random_) for number in range(random_.randint(3, 7))}
        variables = {
            "zones": zones,
            "rules": [random_way(random_, list(zones)) for _rest in range(random_.randint(1, 9))],
            "routed_default": random_.choice(("drop", "drop", "accept")),
        }
        try:
            return variables, parse(variables)
        except PolicyError:
            continue


def random_passage(random_: random.Random) -> tuple[Dial, str]:
    interface, leaving = random_.choice(list(LINKS)), random_.choice(list(BEYOND))
    version = random_.choice((0, 1))
    source = f"{LINKS[interface][version]}{random_.choice(CLIENTS)}"
    destination = f"{BEYOND[leaving][version]}{random_.choice(SERVERS)}"
    return Dial(source, destination, *random_.choice(LISTENING), interface), leaving


def test_the_kernel_forwards_what_the_policy_says(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From zone to zone; names of interfaces are looked up in sets for every second policy wherever they can be."""
    seed, random_ = begin(capsys)
    seen: Counter[str] = Counter()
    named = 0
    for number in range(POLICIES):
        variables, policy = random_router(random_)
        monkeypatch.setattr(_blocks, "MANY_PAIRS", 1 if number % 2 else _blocks.MANY_PAIRS)
        text = compiled(policy)
        monkeypatch.undo()
        named += "type ifname . " in text
        world.load(text)
        passages = [random_passage(random_) for _rest in range(DIALS)]
        said = [decide_routed(policy, one, leaving) for one, leaving in passages]
        differ = differences(world, [one for one, _leaving in passages], said)
        assert not differ, "\n".join(
            [f"BULKHEAD_SEED={seed}, policy {number}:", *differ, json.dumps(variables, indent=1), text]
        )
        seen.update(decision.verdict for decision in said)
    assert min(seen[verdict] for verdict in EXPECTED) > POLICIES * DIALS // 100, seen
    assert named > POLICIES // 4, f"{named} policies had names of interfaces in sets"
