# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The own table on top of rules that Docker 29.7.2 made: what is allowed goes on as Docker has it, the rest does not.

Random policies are held against decide(), and one policy with direct, routed and outgoing traffic against a list.
Every connection ends as without our table, or as the policy says. BULKHEAD_SEED repeats a run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import typing as t
from collections import Counter

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Decision, Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_translate import translate
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import replace_script
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render
from world import build
from world.capture import load
from world.flows import CALLERS, neighbours
from world.switch import ACCEPT, BEFORE, with_mark
from world.wire import DST, LAN, LIMITED, ROUTED, SRC, Flow, Outcome, Wires

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nft need root")

#: A captured host whose DOCKER-USER has become a table beside Docker's.
CARRIED_OVER = "switch-3-nftables-cleaned with DOCKER-USER"
CAPTURES = (CARRIED_OVER, "docker-29.7.2-nftables", "switch-3-nftables-cleaned", "docker-29.7.2-nftables-firewalld")
POLICIES, DIALS = 40, 100
PUBLISHED = {
    *(("tcp", port) for port in (8080, 8081, 8083, 8084, 8085, 8090, *range(7000, 7010))),
    ("udp", 8082),
}
#: Docker-proxy alone serves the others over IPv6, so a rule for the host may open them too (docs/policy.md).
TRANSLATED = {4: PUBLISHED, 6: {("tcp", 8081), ("tcp", 8085), ("udp", 8082)}}
PORTS = (*PUBLISHED, *PUBLISHED, ("tcp", 22), ("tcp", 80), ("udp", 53), ("tcp", 8888), ("tcp", 9000), ("udp", 8080))
INTERFACES = {LAN: "eth0", **{end: interface for end, (interface, _own, _others) in ROUTED.items()}}


class Scene:
    """A captured host, with and without our table."""

    def __init__(self, name: str) -> None:
        self.capture = load(name.partition(" ")[0])
        self.wires = Wires(self.capture, neighbours())
        build.load_rules(self.wires.host, self.capture)
        if name == CARRIED_OVER:
            self._carry_over()
        self.addresses = [build.bare(address) for address in self.capture.interfaces[0].addresses]

        self.docker_alone = name != CARRIED_OVER and "firewalld" not in name

    def _carry_over(self) -> None:
        saves = load(BEFORE).iptables
        drops = ("ip", "ip6")
        carried = translate(
            *(saves["iptables"], saves["ip6tables"], {}, ACCEPT), bridges=self.capture.bridges(), drop_policy=drops
        )
        assert carried.text is not None, carried.untranslatable
        build.load(self.wires.host, f"flush ruleset\n{with_mark(self.capture.native, ACCEPT)}{carried.text}")

    def own(self, address: str) -> str:
        """The same address of this host, if it is one of the other host's."""
        return {"198.51.100.12": self.addresses[0], SIX: self.addresses[1]}.get(address, address)

    def table(self, text: str | None) -> None:
        build.load(self.wires.host, replace_script("inet", "bulkhead", text))

    def compiled(self, policy: Policy) -> str:
        interfaces = ("lo", *INTERFACES.values(), *self.capture.bridges())
        state = HostState(networks=self.capture.networks(), interfaces=interfaces, published=tuple(sorted(PUBLISHED)))
        return render(compile_policy(policy, state))

    def both(self, text: str, flows: t.Sequence[Flow]) -> t.Iterator[tuple[Flow, Outcome, Outcome]]:
        """Each connection as Docker alone has it, and with our table."""
        self.table(None)
        alone = self.wires.exchange(flows)
        self.table(text)
        return zip(flows, alone, self.wires.exchange(flows))


@pytest.fixture(scope="module", params=CAPTURES)
def scene(request: pytest.FixtureRequest) -> t.Iterator[Scene]:
    made = Scene(request.param)
    with made.wires:
        if made.wires.limited:
            pytest.skip(LIMITED)
        yield made


SOURCES = (
    "198.51.100.50", "198.51.100.64/26", "198.51.100.200-198.51.100.203", "198.51.100.0/25", "203.0.113.0/24",
    "0.0.0.0/0", "192.0.2.10", "2001:db8::50", "2001:db8::/64", "2001:db8:1::/64", "2001:db8:5::10", "::/0",
)  # fmt: skip
RULE_PORTS = (8080, 8081, 8082, 8090, 22, 80, "8080-8085", "7000-7004", "1-1024", "1-65535", 53, 8888)


def _some(random_: random.Random, choices: t.Sequence[t.Any], most: int) -> list[t.Any]:
    return random_.sample(choices, random_.randint(1, most))


def _rule(random_: random.Random, zones: list[str]) -> dict[str, t.Any]:
    rule: dict[str, t.Any] = {
        "to": random_.choice(("host", "published", "published", "published", "network:back", "egress", "routed")),
        "action": random_.choice(("accept", "accept", "accept", "drop", "reject")),
        "protocol": random_.choice(("tcp", "tcp", "udp", ["tcp", "udp"])),
    }
    if rule["to"] != "egress" and random_.random() < 0.8:
        rule["from"] = _some(random_, [*zones, "outside"], 2)
    if random_.random() < 0.85:
        rule["ports"] = _some(random_, RULE_PORTS, 4)
    if random_.random() < 0.2:
        rule["family"] = random_.choice(("ipv4", "ipv6"))
    return rule


def _policy(random_: random.Random) -> tuple[dict[str, t.Any], Policy]:
    while True:
        zones: dict[str, t.Any] = {f"z{number}": {"sources": _some(random_, SOURCES, 4)} for number in range(3)}
        zones["z3"] = {"interfaces": _some(random_, list(INTERFACES.values()), 2)}
        variables = {
            "zones": zones,
            "rules": [_rule(random_, list(zones)) for _rest in range(random_.randint(1, 9))],
            "host_default": random_.choice(("drop", "drop", "accept")),
        }
        try:
            return variables, parse(variables)
        except PolicyError:
            continue


def _flow(random_: random.Random, scene: Scene) -> Flow:
    end = random_.choice((LAN, LAN, SRC, DST))
    family = random_.choice((4, 4, 6))
    other = [address for address in ROUTED.get(end, ("", (), ()))[2] if (":" in address) == (family == 6)]
    protocol, port = random_.choice(PORTS)
    destination = next(address for address in scene.addresses if (":" in address) == (family == 6))
    return Flow(end, random_.choice(other or CALLERS[family]), destination, protocol, port)


def _decided(policy: Policy, flow: Flow) -> Decision:
    """What the policy says; a published port is never open by a default, whoever serves it."""
    port = flow.protocol, flow.port
    dial = Dial(flow.source, flow.destination, *port, INTERFACES[flow.end])
    said = decide(policy, dial, published=port in TRANSLATED[6 if ":" in flow.source else 4])
    if said.reason == "docker_firewall_host_default" and port in PUBLISHED:
        return decide(policy, dial, published=True)
    return said


def _as_said(verdict: str, alone: Outcome, found: Outcome) -> bool:
    if verdict == "accept":
        return found == alone
    if verdict == "drop":
        return found == ("dropped", "dropped", "dropped")
    return found[1:] == ("dropped", "dropped") and (" is told ICMP " in found[0] or " gets a reset " in found[0])


def test_random_policies_hold_on_top_of_docker(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\n  BULKHEAD_SEED={seed}: {POLICIES} policies, {DIALS} connections each", flush=True)
    random_ = random.Random(seed)
    seen: Counter[str] = Counter()
    for number in range(POLICIES):
        variables, policy = _policy(random_)
        text = scene.compiled(policy)
        wrong = []
        for flow, alone, found in scene.both(text, [_flow(random_, scene) for _rest in range(DIALS)]):
            said = _decided(policy, flow)
            seen[f"{said.verdict}, {'dropped' if alone[0] == 'dropped' else 'answered'} by the rest"] += 1
            if not _as_said(said.verdict, alone, found):
                wrong.append(f"{flow}: {found}, but {said}; without our table {alone}")
        assert not wrong, "\n".join([f"BULKHEAD_SEED={seed}, policy {number}:", *wrong, json.dumps(variables), text])
    assert min(seen[f"{verdict}, answered by the rest"] for verdict in ("accept", "drop", "reject")) > 50, seen


#: More than decide() speaks of: containers' own addresses, what containers start, and what the host routes.
POLICY = {
    "zones": {
        "office": {"sources": ["198.51.100.64/26", "2001:db8::66"]},
        "src": {"interfaces": ["src_if"]},
        "dst": {"interfaces": ["dst_if"]},
    },
    "rules": [
        {"to": "published", "ports": [8080, 8081]},
        {"from": "office", "to": "network:routed", "ports": [80]},
        {"from": "office", "to": "network:unprot", "ports": [81]},
        {"from": "office", "to": "network:back", "ports": [80]},
        # iptables -I DOCKER-USER -i src_if -o dst_if -j ACCEPT
        {"from": "src", "to": "routed", "towards": "dst", "protocol": "any"},
        {"from": "containers", "to": "egress", "ports": [443], "action": "reject"},
    ],
}
SIX = "2001:db8::12"
#: Whether it gets through where Docker's rules are the only others, and what the policy says.
LISTED = (
    (True, "accept", Flow(LAN, "198.51.100.50", "198.51.100.12", "tcp", 8080)),
    (True, "accept", Flow(LAN, "2001:db8::50", SIX, "tcp", 8081)),
    (True, "drop", Flow(LAN, "198.51.100.66", "198.51.100.12", "tcp", 8083)),
    (True, "drop", Flow(LAN, "198.51.100.66", "198.51.100.12", "udp", 8082)),
    (True, "drop", Flow(LAN, "2001:db8::66", SIX, "tcp", 8085)),
    (True, "accept", Flow(LAN, "198.51.100.66", "172.24.0.2", "tcp", 80)),
    (True, "drop", Flow(LAN, "198.51.100.50", "172.24.0.2", "tcp", 80)),
    (True, "drop", Flow(LAN, "198.51.100.66", "172.24.0.2", "icmp", 0)),
    (False, "accept", Flow(LAN, "198.51.100.66", "172.20.0.5", "tcp", 80)),
    (True, "accept", Flow(LAN, "198.51.100.66", "172.25.0.2", "tcp", 81)),
    (True, "drop", Flow(LAN, "198.51.100.50", "172.25.0.2", "tcp", 81)),
    (True, "drop", Flow(LAN, "198.51.100.66", "172.25.0.2", "udp", 81)),
    (False, "accept", Flow(LAN, "2001:db8::66", "fd00:20::5", "tcp", 80)),
    (True, "accept", Flow(SRC, "192.0.2.10", "192.0.2.200", "tcp", 80)),
    (True, "accept", Flow(SRC, "2001:db8:5::10", "2001:db8:6::200", "icmp", 0)),
    (True, "drop", Flow(DST, "192.0.2.200", "192.0.2.10", "tcp", 80)),
    (True, "drop", Flow(SRC, "192.0.2.10", "198.51.100.50", "tcp", 80)),
    (True, "drop", Flow(LAN, "198.51.100.50", "192.0.2.200", "udp", 80)),
    (True, "accept", Flow("unpub-0", "172.20.0.3", "198.51.100.50", "tcp", 80)),
    (True, "accept", Flow("unpub-0", "fd00:20::3", "2001:db8::50", "udp", 80)),
    (True, "reject", Flow("unpub-0", "172.20.0.3", "198.51.100.50", "tcp", 443)),
    (True, "reject", Flow("web-0", "172.17.0.2", "192.0.2.200", "tcp", 443)),
    (True, "accept", Flow("unpub-0", "172.20.0.3", "172.20.0.5", "tcp", 81)),
    (True, "accept", Flow("unpub-0", "172.20.0.3", "172.25.0.2", "tcp", 81)),
    (False, "accept", Flow("unpub-0", "172.20.0.3", "172.23.0.3", "tcp", 99)),
    (False, "accept", Flow("noicc-0", "172.22.0.2", "172.22.0.3", "tcp", 80)),
    (False, "accept", Flow("inner-0", "172.21.0.2", "198.51.100.50", "tcp", 80)),
)


def test_direct_routed_and_outgoing_traffic_on_top_of_docker(scene: Scene) -> None:
    flows = [dataclasses.replace(flow, destination=scene.own(flow.destination)) for _open, _verdict, flow in LISTED]
    text = scene.compiled(parse(POLICY))
    wrong = []
    for (opened, verdict, _listed), (flow, alone, found) in zip(LISTED, scene.both(text, flows)):
        if scene.docker_alone and opened != (" gets it from " in alone[0]):
            wrong.append(f"{flow} without our table: {alone}")
        if not _as_said(verdict, alone, found):
            wrong.append(f"{flow}: {found}, but the policy says {verdict}; without our table {alone}")
    assert not wrong, "\n".join([*wrong, text])
