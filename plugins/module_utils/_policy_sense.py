# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: rules that are well written and yet make no sense, alone or together.

Gives pairs of a variable and a sentence. May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _intervals
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import FAMILIES, LEAVING, OUTSIDE

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Rule, Zone

_SHOWN = {"ipv4": "IPv4", "ipv6": "IPv6"}


def _same_place(one: Rule, other: Rule) -> bool:
    """Tell whether two rules speak of the same traffic but for ports and protocols."""
    if one.target != other.target or one.target_network != other.target_network:
        return False
    if one.family is not None and other.family is not None and one.family != other.family:
        return False
    if (one.destinations4, one.destinations6) != (other.destinations4, other.destinations6):
        return False
    if one.target in LEAVING and not _towards(one) & _towards(other):
        return False
    zones = {zone.name for zone in one.zones} & {zone.name for zone in other.zones}
    return bool(zones or set(one.networks) & set(other.networks))


def _towards(rule: Rule) -> set[str]:
    return {zone.name for zone in rule.towards} or {OUTSIDE}


def _shared_port(one: Rule, other: Rule) -> str | None:
    """Name a protocol and port that both rules cover."""
    if one.protocols is None or other.protocols is None:
        names = one.protocols or other.protocols or ("any",)
    else:
        names = tuple(name for name in one.protocols if name in other.protocols)
    if not names:
        return None
    everything = ((0, _intervals.MAX_PORT),)
    for mine in one.ports or everything:
        for theirs in other.ports or everything:
            if _intervals.overlap(mine, theirs):
                if one.ports is None and other.ports is None:
                    return f"protocol {names[0]}"
                shared = (max(mine[0], theirs[0]), min(mine[1], theirs[1]))
                return f"{names[0]} port {_intervals.number_text(shared)}"
    return None


def contradictions(rules: t.Sequence[Rule]) -> t.Iterator[tuple[str, str]]:
    """Report every port that the same zone is both allowed and denied."""
    denials = [rule for rule in rules if rule.action != "accept"]
    for denied in denials:
        for allowed in rules:
            if allowed.action != "accept" or not _same_place(denied, allowed):
                continue
            shared = _shared_port(denied, allowed)
            if shared is not None:
                first, second = sorted((denied, allowed), key=lambda rule: rule.index)
                yield (
                    second.path,
                    f"{shared} is said to {second.action} here and to {first.action} in {first.path}"
                    " for the same zone and target; keep one of them",
                )


def _families(intervals4: t.Sequence[Interval], intervals6: t.Sequence[Interval]) -> set[str]:
    """Name the families of addresses; without any address it is both."""
    if not intervals4 and not intervals6:
        return set(FAMILIES)
    return {family for family, found in zip(FAMILIES, (intervals4, intervals6)) if found}


def unmatched(rule: Rule) -> t.Iterator[tuple[str, str]]:
    """Report every zone of `towards` that no packet of the rule's can leave for."""
    wanted = {rule.family} if rule.family is not None else set(FAMILIES)
    wanted &= _families(rule.destinations4, rule.destinations6)
    if rule.zones:
        wanted &= set().union(*(_families(zone.sources4, zone.sources6) for zone in rule.zones))
    for zone in rule.towards:
        shared = wanted & _families(zone.sources4, zone.sources6)
        if wanted and not shared:
            (family,) = wanted
            yield (
                f"{rule.path}.towards",
                f"the zone '{zone.name}' has no {_SHOWN[family]} addresses, and the rule is about {_SHOWN[family]} only;"
                f" accepted are zones with {_SHOWN[family]} addresses, or with interfaces and no addresses",
            )
        elif shared and not any(_meet(rule, zone, family) for family in shared):
            yield (
                f"{rule.path}.towards",
                f"no address in the rule's destination is one of the zone '{zone.name}'; accepted are a destination in"
                " its sources, or none for all of them",
            )


def _meet(rule: Rule, zone: Zone, family: str) -> bool:
    places = (rule.destinations4, zone.sources4) if family == "ipv4" else (rule.destinations6, zone.sources6)
    return not all(places) or bool(_intervals.common(*places))
