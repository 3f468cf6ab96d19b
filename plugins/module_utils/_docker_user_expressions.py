# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a rule of iptables asks for, as expressions of nft.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_user_matches as matches
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_conntrack import conntrack
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_sets import Sets
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_rule import (
    Match,
    Option,
    Rule,
    RuleError,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_matches import Alternatives


_FIRST = re.compile(r" sport != \d+(?![-\d])")
_SECOND = re.compile(r"( dport != )(\d+)(?![-\d])")


@dataclass(frozen=True)
class Expressions:
    """Of one family. `guarded` has the bits of marks that are not the user's."""

    family: int
    sets: Sets
    guarded: int

    def of(self, rule: Rule) -> list[Alternatives]:
        """The alternatives of each option."""
        protocol = matches.protocol_number(rule.protocol) if rule.protocol not in (None, "0", "all") else None
        ports = any(match.name in ("multiport", *matches.PORTED.values()) for match in rule.matches)
        return [part for match in rule.matches for part in self._match(match, protocol, ports)]

    def _match(self, match: Match, of: int | None, ports: bool) -> list[Alternatives]:
        if match.name in ("conntrack", "state"):
            return [conntrack(match, self.family, of)]
        if match.name == "iprange":
            return matches.iprange(match, self.family)
        if match.name == "multiport":
            return matches.multiport(match, of)
        if match.name in ("icmp", "icmp6"):
            return matches.icmp(match, of)
        if match.name in matches.PORTED.values():
            return matches.ports(match, of)
        if match.name == "limit":
            return [matches.limit(match)]
        if match.name == "addrtype":
            return matches.addrtype(match, self.family)
        if match.name == "set":
            return [self.sets.match(option, self.family, of, ports) for option in match.options]
        return [] if match.name == "comment" else [self._option(match.name, option) for option in match.options]

    def _option(self, name: str, option: Option) -> Alternatives:
        if not name:
            return self._basic(option)
        if name == "mark":
            return self._mark(option)
        simple = {"connmark": _connmark, "mac": matches.mac, "pkttype": matches.pkttype}
        if name in simple:
            return simple[name](option)
        by_family = {"length": matches.length, "tos": matches.tos, "dscp": matches.dscp}
        return by_family.get(name, matches.hops)(option, self.family)

    def _basic(self, option: Option) -> Alternatives:
        if option.name in ("-i", "-o"):
            return matches.interface(option)
        if option.name == "-p":
            return matches.protocol(option)
        if option.name == "-f":
            return (f"ip frag-off & 0x1fff {'==' if option.negated else '!='} 0x0",)
        key = f"{matches.header(self.family)} {'saddr' if option.name == '-s' else 'daddr'}"
        return matches.address(key, option.value, self.family, option.negated)

    def _mark(self, option: Option) -> Alternatives:
        value, mask = matches.value_and_mask(option.value)
        if value & mask & self.guarded:
            raise RuleError(
                f"it asks for bits of {self.guarded:#x}, which is what Docker is to accept by; choose another accept mark"
            )
        return matches.marked("meta mark", option)


def apart(text: str) -> str:
    """nft 1.0.6 makes one comparison of two ports that are not to be equal, and matches where only one is."""
    return _SECOND.sub(r"\1\2-\2", text) if _FIRST.search(text) else text


def _connmark(option: Option) -> Alternatives:
    return matches.marked("ct mark", option)
