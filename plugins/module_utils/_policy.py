# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the policy as a validated value.

Who may reach what, in the words of the role's variables. Nothing in here knows
nftables syntax or the host it will be enforced on. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

#: Protocols whose header carries a destination port where `th dport` reads it.
PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")
#: Further protocols that may be named; any other by its number.
OTHER_PROTOCOLS = ("icmp", "ipv6-icmp", "igmp", "gre", "esp", "ah", "vrrp", "ospf", "ipip")
#: Their numbers, as `meta l4proto` reads them (IANA protocol numbers).
PROTOCOL_NUMBERS = {"vrrp": 112, "ospf": 89, "ipip": 4}
#: The name that a number is read as.
PROTOCOL_NAMES = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    89: "ospf",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}

TARGETS = ("host", "published", "egress", "routed")
#: Those of them whose packets leave the host by an outside interface.
LEAVING = ("egress", "routed")
ACTIONS = ("accept", "drop", "reject")
FAMILIES = ("ipv4", "ipv6")

#: Zones that exist without being declared.
OUTSIDE = "outside"
CONTAINERS = "containers"
NETWORK_PREFIX = "network:"


class PolicyError(Exception):
    """The policy is wrong; `errors` holds one sentence for each mistake in it."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(frozen=True)
class Zone:
    """Where traffic comes from, or where it leaves for.

    Empty `interfaces` means any outside interface. `sources4` and `sources6` are
    intervals of addresses as integers; with both empty every address belongs to it.
    """

    name: str
    interfaces: tuple[str, ...] = ()
    sources4: tuple[Interval, ...] = ()
    sources6: tuple[Interval, ...] = ()

    @property
    def any_source(self) -> bool:
        """Tell whether the zone has no limit on addresses."""
        return not self.sources4 and not self.sources6


@dataclass(frozen=True)
class Limit:
    """At most `rate` new connections per `unit`, after a burst of `burst`."""

    rate: int
    unit: str
    burst: int


@dataclass(frozen=True)
class Rule:
    """One entry of docker_firewall_rules, normalised.

    `zones` holds the zones of an outside rule, `networks` those of a container rule
    (`containers` or names of Docker networks); exactly one of the two is filled.
    `towards` holds the zones that packets leave for; empty, it does not matter which.
    `ports` None means every port; `protocols` None means every protocol.
    """

    index: int
    target: str
    action: str
    zones: tuple[Zone, ...] = ()
    networks: tuple[str, ...] = ()
    towards: tuple[Zone, ...] = ()
    target_network: str | None = None
    protocols: tuple[str, ...] | None = ("tcp",)
    ports: tuple[Interval, ...] | None = None
    destinations4: tuple[Interval, ...] = ()
    destinations6: tuple[Interval, ...] = ()
    family: str | None = None
    log: str | None = None
    limit: Limit | None = None
    comment: str | None = None

    @property
    def path(self) -> str:
        """The variable an administrator has to look at."""
        return f"docker_firewall_rules[{self.index}]"


@dataclass(frozen=True)
class Policy:
    """The whole policy of one host.

    The defaults are what happens to traffic that no rule names.
    """

    zones: dict[str, Zone] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    outside_interfaces: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ("docker0", "docker_gwbridge", "br-*")
    host_default: str = "drop"
    egress_default: str = "accept"
    containers_to_host_default: str = "accept"
    routed_default: str = "drop"
    ping: bool = True
    log_drops: bool = False
