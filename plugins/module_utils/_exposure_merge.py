# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: rules whose listing does not tell what they do.

nft compares neighbouring fields in one go. Some versions (1.0.6 is one) do so with negated ones as well, and then
`tcp sport != 1 tcp dport != 2` matches unless both are equal. The listing is the same either way.
May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Match, NotBoth

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Op

_PAYLOADS = ("ip", "ip6", "tcp", "udp", "th", "dccp", "sctp", "udplite", "icmp", "icmpv6")
_NEIGHBOURS = {"sport": "dport", "type": "code"}


def joined(parts: list[tuple[bool, list[Op]]]) -> list[Op]:
    """The operations of a rule, from those of each expression with whether it is a condition."""
    ops: list[Op] = []
    # The last condition on one value of a payload, and its place.
    last: tuple[int, Match] | None = None
    for condition, found in parts:
        if not condition:
            last = None
            ops.extend(found)
            continue
        for op in found:
            if isinstance(op, Match) and _on_a_value(op):
                if last is not None and _merged(last[1], op):
                    ops[last[0]] = NotBoth(last[1], op)
                    last = None
                    continue
                last = (len(ops), op)
            ops.append(op)
    return ops


def _on_a_value(op: Match) -> bool:
    one = len(op.ranges) == 1 and op.ranges[0][0] == op.ranges[0][1]
    return one and op.mask is None and op.key.split(" ")[0] in _PAYLOADS


def _merged(one: Match, other: Match) -> bool:
    protocol, field = one.key.split(" ")
    return one.negated and other.negated and other.key == f"{protocol} {_NEIGHBOURS.get(field)}"
