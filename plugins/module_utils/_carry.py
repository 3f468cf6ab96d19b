# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the own table decides, and chains that iptables tools manage carry it out.

In the layout iptables_compat the own table sets one bit of the packet's mark where it would drop, and
DOCKER-USER drops what has it; on the way into the host the same bit says yes, and INPUT accepts it. Why one bit is
enough for both is in docs/adr/0005-compat-layout.md. May change at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._blocks import DECIDES, Endings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Chain

#: After iptables' chains at 0 and before firewalld's at 10.
LATE = 5


@dataclass(frozen=True)
class Carry:
    """The bits of the mark that carry verdicts.

    `bit` says no to forwarded packets and yes to those for the host. `docker` is set on what containers may send and
    receive, for hosts with another table whose forward chain has to let it pass; 0 sets nothing. With `output`, the
    host's own packets are marked too, for an OUTPUT chain with policy drop. `drops_input` tells that what is refused
    on its way into the host is dropped here, because INPUT's policy lets it pass.
    """

    bit: int
    docker: int = 0
    output: bool = False
    drops_input: bool = False

    @property
    def refused(self) -> str:
        """Match packets that have been refused."""
        return f"meta mark & {self.bit:#010x} == {self.bit:#010x}"


#: Before routing and when forwarding: mark it, and leave it to DOCKER-USER.
REFUSES = Endings(drop="counter goto refused")


def forward_endings(carry: Carry | None) -> Endings:
    """What decides about forwarded packets of containers."""
    if carry is None:
        return DECIDES
    return Endings(accept="goto passed" if carry.docker else "accept", drop=REFUSES.drop)


def input_endings(carry: Carry | None) -> Endings:
    """What decides about packets for the host."""
    if carry is None:
        return DECIDES
    return Endings(accept="goto accepted", drop="counter goto left_to_input")


def verdict_chains(carry: Carry) -> list[Chain]:
    """Give the chains that write the bits."""
    chains = [
        Chain("refused", [f"meta mark set meta mark | {carry.bit:#010x} accept"]),
        Chain("accepted", [f"meta mark set meta mark | {carry.bit:#010x} accept"]),
        Chain(
            "left_to_input",
            ["counter drop" if carry.drops_input else f"meta mark set meta mark & {_without(carry.bit)} accept"],
        ),
    ]
    if carry.docker:
        chains.append(Chain("passed", [f"meta mark set meta mark | {carry.docker:#010x} accept"]))
    return chains


def late_chains(carry: Carry) -> list[Chain]:
    """Give the base chains behind iptables' own.

    What is still refused there has not come by DOCKER-USER: Docker puts its jump to it below its other rules
    while it starts (28.0.1 to 29.7), and `iptables -F` empties it.
    """
    forward = Chain("late_forward", [f"{carry.refused} counter drop"], hook="forward", priority=LATE)
    clear = f"meta mark set meta mark & {_without(carry.bit)}"
    chains = [forward, Chain("late_input", [clear], hook="input", priority=LATE)]
    if carry.output:
        chains.append(Chain("late_output", [clear], hook="output", priority=LATE))
    return chains


def output_chain(carry: Carry, priority: int) -> Chain:
    """Give the chain that lets an OUTPUT with policy drop see what belongs to a connection."""
    return Chain(
        "output",
        [
            "ct state established,related goto accepted",
            'oifname "lo" goto accepted',
            "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }"
            " goto accepted",
        ],
        hook="output",
        priority=priority,
    )


def _without(bit: int) -> str:
    return f"{0xFFFFFFFF ^ bit:#010x}"
