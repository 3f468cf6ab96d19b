# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DOCKER-USER of a captured host, carried over to Docker's nftables backend: the same packets get the same answers."""

from __future__ import annotations

import os
import typing as t

import pytest
from world.docker_user import CHAINS, Rules
from world.flows import everything
from world.switch import ACCEPT, Switch, internal
from world.wire import LAN, LIMITED, Flow

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nft need root")

NOBODY = Rules({4: (), 6: ()}, {4: (), 6: ()}, False)
#: What Docker's two backends do not agree on: the nftables backend accepts what the destination's network accepts
#: before it looks at the internal network that a packet comes from.
DOCKERS_OWN = {
    ("172.24.0.2", "tcp", 80), ("172.24.0.2", "icmp", 0), ("172.25.0.2", "tcp", 80), ("172.25.0.2", "udp", 80),
    ("172.25.0.2", "tcp", 81), ("172.25.0.2", "udp", 81), ("172.25.0.2", "icmp", 0),
}  # fmt: skip
#: Not published, and nothing in front of forward forbids it: only ACCEPT in DOCKER-USER opens these.
UNPUBLISHED = [
    Flow(LAN, "198.51.100.50", "172.24.0.2", "tcp", 443),
    Flow(LAN, "198.51.100.50", "172.22.0.3", "tcp", 80),
    Flow(LAN, "198.51.100.50", "172.22.0.3", "tcp", 443),
]


@pytest.fixture
def switch() -> t.Iterator[Switch]:
    with Switch() as made:
        if made.before.limited:
            pytest.skip(LIMITED)
        yield made


def _ends(flow: Flow) -> tuple[str, str, int]:
    return flow.destination, flow.protocol, flow.port


def test_what_dockers_backends_differ_in_by_themselves(switch: Switch) -> None:
    switch.fill(NOBODY)
    found = switch.compare(everything())
    assert {_ends(flow) for flow in found} == DOCKERS_OWN
    assert {flow.source for flow in found} == {"172.21.0.2"}


def test_the_captured_rules_keep_their_truth_table(switch: Switch) -> None:
    """All callers at the edges of the rules' prefixes and ranges, all ports, containers and routed networks."""
    translation = switch.translated()
    assert translation.text is not None, translation.untranslatable
    assert translation.uses_mark
    without = switch.compare(everything())
    switch.migrate(translation)
    found = switch.compare(everything())
    # ACCEPT cannot open an internal network: Docker has no rule for the mark there.
    closed = {flow: new for flow, (_old, new) in found.items() if flow.destination == "172.21.0.2"}
    assert {_ends(flow) for flow in closed} == {("172.21.0.2", "tcp", 80), ("172.21.0.2", "tcp", 443)}
    assert {flow.source for flow in closed} == {"198.51.100.50"}
    assert {new[0] for new in closed.values()} == {"dropped"}
    assert {_ends(flow) for flow in found if flow not in closed} == DOCKERS_OWN
    assert {flow.source for flow in found if flow not in closed} == {"172.21.0.2"}
    assert len(without) > 200, "the rules matter to these connections"


def test_accept_needs_the_mark_where_docker_drops(switch: Switch) -> None:
    translation = switch.translated()
    switch.docker(None)
    switch.migrate(translation)
    closed = switch.compare(UNPUBLISHED)
    assert list(closed) == UNPUBLISHED
    assert all(" gets it from " in old[0] and new[0] == "dropped" for old, new in closed.values())
    switch.docker(ACCEPT)
    switch.migrate(translation)
    assert switch.compare(UNPUBLISHED) == {}


def test_a_missing_rule_shows(switch: Switch) -> None:
    translation = switch.translated()
    assert translation.text is not None
    kept = [line for line in translation.text.splitlines() if " reject" not in line]
    assert len(kept) == len(translation.text.splitlines()) - 1
    switch.load_own("\n".join(kept))
    found = switch.compare([flow for flow in everything() if not internal(flow)])
    assert {(flow.source, _ends(flow)) for flow in found} == {("198.51.100.66", ("198.51.100.12", "tcp", 8080))}


def test_chains_of_odd_names_are_carried_over(switch: Switch) -> None:
    lines = (
        f"-A DOCKER-USER -i eth0 -j {CHAINS[0]}",
        f"-A {CHAINS[0]} -s 198.51.100.64/26 -g {CHAINS[1]}",
        f"-A {CHAINS[0]} -s 198.51.100.50/32 -j DROP",
        f"-A {CHAINS[1]} -s 198.51.100.66/32 -j RETURN",
        f"-A {CHAINS[1]} -j REJECT --reject-with icmp-admin-prohibited",
    )
    switch.fill(Rules({4: CHAINS, 6: ()}, {4: lines, 6: ()}, False))
    translation = switch.translated()
    assert translation.text is not None, translation.untranslatable
    switch.migrate(translation)
    found = switch.compare([flow for flow in everything() if flow.source != "172.21.0.2"])
    assert found == {}


#: Two neighbours that are not to be equal are one comparison in nft 1.0.6; and no nft wants a second protocol beside
#: that of a reset.
SPECIAL = (
    "-p udp -m multiport ! --ports 81 -j REJECT --reject-with icmp6-no-route",
    "-p tcp -m set --match-set ports dst -j REJECT --reject-with tcp-reset",
    "-s 2001:db8::50 -p tcp -m conntrack --ctproto udp -j REJECT --reject-with tcp-reset",
    "-p tcp -m set --match-set doors6 dst,dst -j REJECT --reject-with tcp-reset",
    "-s 2001:db8::50 -p tcp -m conntrack --ctproto tcp --ctorigdstport 8081 -j REJECT --reject-with tcp-reset",
    "-p udp -m udp ! --sport 82 --dport 81 -j DROP",
)


@pytest.mark.parametrize("rule", SPECIAL)
def test_what_nft_reads_in_a_way_of_its_own(switch: Switch, rule: str) -> None:
    switch.fill(Rules({4: (), 6: ()}, {4: (), 6: (f"-A DOCKER-USER {rule}",)}, False))
    translation = switch.translated()
    assert translation.text is not None, translation.untranslatable
    switch.migrate(translation)
    assert switch.compare([flow for flow in everything() if ":" in flow.source]) == {}
