# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: role variables in, a Policy out, or every mistake at once.

Each message names the variable and the item and says what is accepted. May change at any time.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _intervals
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import (
    ACTIONS,
    CONTAINERS,
    FAMILIES,
    LEAVING,
    NETWORK_PREFIX,
    OTHER_PROTOCOLS,
    OUTSIDE,
    PORT_PROTOCOLS,
    PROTOCOL_NAMES,
    TARGETS,
    Limit,
    Policy,
    PolicyError,
    Rule,
    Zone,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_sense import (
    contradictions,
    unmatched,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import Interval

PREFIX = "docker_firewall_"

#: A Linux interface name has at most 15 bytes, no slash and no blank
#: (kernel: dev_valid_name, IFNAMSIZ); a trailing * is nft's wildcard.
INTERFACE = re.compile(r"^(?!\.{1,2}\Z)[A-Za-z0-9_.:@+-]{1,15}\Z")
INTERFACE_PATTERN = re.compile(r"^[A-Za-z0-9_.:@+-]{1,14}\*\Z")
ZONE_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
#: Docker's own rule for names of networks and containers.
NETWORK_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
LOG_TEXT = re.compile(r"^[A-Za-z0-9 _.,:;()\[\]/+=-]{1,60}\Z")
COMMENT_TEXT = re.compile(r"^[^\x00-\x1f\x7f-\x9f\"\\\u2028\u2029\ud800-\udfff]{1,100}\Z")
LIMIT = re.compile(r"^([1-9][0-9]{0,5})/(second|minute|hour|day)\Z")

ZONE_KEYS = ("interfaces", "sources", "comment")
RULE_KEYS = (
    "from",
    "to",
    "towards",
    "ports",
    "protocol",
    "action",
    "destination",
    "family",
    "log",
    "limit",
    "burst",
    "comment",
)


class _Errors:
    """Collects sentences, each with the path of the value it is about."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, sentence: str) -> None:
        self.found.append(f"{path}: {sentence}")


def _listed(value: t.Any) -> list[t.Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _shown(value: t.Any) -> str:
    text = str(value)
    return f"'{text[:60]}...'" if len(text) > 60 else f"'{text}'"


def _one_of(words: t.Iterable[str]) -> str:
    return ", ".join(words)


def _interfaces(value: t.Any, path: str, errors: _Errors) -> tuple[str, ...]:
    names = []
    for position, item in enumerate(_listed(value)):
        where = f"{path}[{position}]"
        if not isinstance(item, str) or not (INTERFACE.match(item) or INTERFACE_PATTERN.match(item)):
            errors.add(
                where,
                f"{_shown(item)} is not an interface name; accepted are up to 15 characters"
                " such as 'eth0', or a pattern that ends in * such as 'wg*'",
            )
        elif item == "lo":
            errors.add(where, "the loopback interface belongs to no zone; its traffic is never filtered")
        else:
            names.append(str(item))
    return tuple(sorted(set(names)))


def _address(text: str, path: str, errors: _Errors) -> tuple[int, Interval] | None:
    """Read one address, prefix or range: the family (4 or 6) and the interval."""
    accepted = "accepted are an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"
    if "-" in text:
        low_text, _dash, high_text = text.partition("-")
        try:
            low = ipaddress.ip_address(low_text.strip())
            high = ipaddress.ip_address(high_text.strip())
        except ValueError:
            errors.add(path, f"{_shown(text)} is not an address range; {accepted}")
            return None
        if low.version != high.version:
            errors.add(path, f"{_shown(text)} mixes IPv4 and IPv6; both ends of a range belong to one family")
            return None
        if int(low) > int(high):
            errors.add(path, f"{_shown(text)} is reversed; write {high}-{low}")
            return None
        return low.version, (int(low), int(high))
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError:
        try:
            wide = ipaddress.ip_network(text, strict=False)
        except ValueError:
            errors.add(path, f"{_shown(text)} is not an address; {accepted}")
            return None
        errors.add(path, f"{_shown(text)} has host bits set; write {wide} or the single address")
        return None
    return network.version, (int(network.network_address), int(network.broadcast_address))


def _addresses(
    value: t.Any, path: str, errors: _Errors, family: str | None = None
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    by_family: dict[int, list[Interval]] = {4: [], 6: []}
    for position, item in enumerate(_listed(value)):
        where = f"{path}[{position}]" if isinstance(value, (list, tuple)) else path
        if not isinstance(item, str):
            errors.add(where, f"{_shown(item)} is not text; write addresses in quotes")
            continue
        read = _address(str(item), where, errors)
        if read is None:
            continue
        version, interval = read
        if family is not None and family != f"ipv{version}":
            errors.add(where, f"{_shown(item)} is an IPv{version} address in a rule with family {family}")
            continue
        by_family[version].append(interval)
    return tuple(_intervals.merge(by_family[4])), tuple(_intervals.merge(by_family[6]))


def _zone(name: str, value: t.Any, path: str, errors: _Errors) -> Zone | None:
    if not isinstance(value, dict):
        errors.add(path, f"a zone is a mapping with the keys {_one_of(ZONE_KEYS)}")
        return None
    before = len(errors.found)
    for key in value:
        if key not in ZONE_KEYS:
            errors.add(f"{path}.{key}", f"unknown key; accepted are {_one_of(ZONE_KEYS)}")
    if not value.get("interfaces") and not value.get("sources"):
        errors.add(path, "a zone needs interfaces, sources, or both")
        return None
    interfaces = _interfaces(value.get("interfaces"), f"{path}.interfaces", errors)
    sources4, sources6 = _addresses(value.get("sources"), f"{path}.sources", errors)
    return Zone(name, interfaces, sources4, sources6) if len(errors.found) == before else None


def _zones(value: t.Any, errors: _Errors) -> dict[str, Zone]:
    path = f"{PREFIX}zones"
    zones = {OUTSIDE: Zone(OUTSIDE)}
    if value is None:
        return zones
    if not isinstance(value, dict):
        errors.add(path, "zones are a mapping from a zone's name to its interfaces and sources")
        return zones
    for name, content in value.items():
        where = f"{path}.{name}"
        if not isinstance(name, str) or not ZONE_NAME.match(name):
            errors.add(where, "a zone's name starts with a letter and has letters, digits, - and _ (63 at most)")
            continue
        if name in (OUTSIDE, CONTAINERS):
            errors.add(where, f"the zone '{name}' exists by itself and cannot be declared")
            continue
        zone = _zone(str(name), content, where, errors)
        # A zone with mistakes in it still exists, so that its rules are not reported too.
        zones[str(name)] = zone if zone is not None else Zone(str(name))
    return zones


def _ports(value: t.Any, path: str, errors: _Errors) -> tuple[Interval, ...] | None:
    accepted = "accepted are 1 to 65535, or a range such as '8000-8010'"
    intervals = []
    for position, item in enumerate(_listed(value)):
        where = f"{path}[{position}]" if isinstance(value, (list, tuple)) else path
        match = re.match(r"^([0-9]{1,9})(?:-([0-9]{1,9}))?\Z", str(item)) if not isinstance(item, bool) else None
        if match is None:
            errors.add(where, f"{_shown(item)} is not a port; {accepted}")
            continue
        low = int(match.group(1))
        high = int(match.group(2)) if match.group(2) else low
        if not 1 <= low <= _intervals.MAX_PORT or not 1 <= high <= _intervals.MAX_PORT:
            errors.add(where, f"{_shown(item)} is out of range; {accepted}")
        elif low > high:
            errors.add(where, f"{_shown(item)} is reversed; write '{high}-{low}'")
        else:
            intervals.append((low, high))
    if value is None:
        return None
    if not _listed(value):
        errors.add(path, f"the list is empty; leave it out for every port, otherwise {accepted}")
    return tuple(_intervals.merge(intervals))


def _protocols(value: t.Any, path: str, errors: _Errors) -> tuple[str, ...] | None:
    accepted = f"accepted are {_one_of(PORT_PROTOCOLS + OTHER_PROTOCOLS)}, a number from 0 to 255, or any"
    names = []
    if not _listed(value):
        errors.add(path, f"no protocol is named; leave it out for tcp, otherwise {accepted}")
    for position, item in enumerate(_listed(value)):
        where = f"{path}[{position}]" if isinstance(value, (list, tuple)) else path
        text = str(item)
        if text == "any" and len(_listed(value)) == 1:
            return None
        if text in PORT_PROTOCOLS + OTHER_PROTOCOLS:
            names.append(text)
        elif re.match(r"^[0-9]{1,3}\Z", text) and int(text) <= 255:
            # One protocol has one name here, so that '6' and 'tcp' are compared as what they are.
            names.append(PROTOCOL_NAMES.get(int(text), str(int(text))))
        else:
            errors.add(where, f"{_shown(item)} is not a protocol; {accepted}")
    return tuple(sorted(set(names)))


def _limit(rule: dict[str, t.Any], path: str, errors: _Errors) -> Limit | None:
    value, burst = rule.get("limit"), rule.get("burst", 5)
    if value is None:
        if "burst" in rule:
            errors.add(f"{path}.burst", "burst has a meaning only together with limit")
        return None
    match = LIMIT.match(str(value))
    if match is None:
        errors.add(
            f"{path}.limit",
            f"{_shown(value)} is not a rate; accepted is a number and one of second, minute, hour, day,"
            " such as '20/minute'",
        )
        return None
    if isinstance(burst, bool) or not re.match(r"^[1-9][0-9]{0,5}\Z", str(burst)):
        errors.add(f"{path}.burst", f"{_shown(burst)} is not a number of packets from 1 to 999999")
        return None
    return Limit(int(match.group(1)), match.group(2), int(burst))


def _target(value: t.Any, path: str, errors: _Errors) -> tuple[str, str | None] | None:
    accepted = f"accepted are {_one_of(TARGETS)}, or {NETWORK_PREFIX}NAME for a Docker network"
    if isinstance(value, str) and value in TARGETS:
        return str(value), None
    if isinstance(value, str) and value.startswith(NETWORK_PREFIX):
        name = str(value)[len(NETWORK_PREFIX) :]
        if NETWORK_NAME.match(name):
            return "network", name
        errors.add(path, f"{_shown(name)} is not a name Docker gives to a network")
        return None
    errors.add(path, f"{_shown(value)} is not a target; {accepted}" if value is not None else f"missing; {accepted}")
    return None


def _origins(
    value: t.Any, target: str | None, zones: dict[str, Zone], path: str, errors: _Errors
) -> tuple[tuple[Zone, ...], tuple[str, ...]]:
    """Read a rule's `from`: zones, or containers."""
    found: list[Zone] = []
    networks: list[str] = []
    default = CONTAINERS if target == "egress" else OUTSIDE
    for position, item in enumerate(_listed(default if value is None else value)):
        where = f"{path}[{position}]" if isinstance(value, (list, tuple)) else path
        if isinstance(item, str) and (item == CONTAINERS or item.startswith(NETWORK_PREFIX)):
            name = str(item)[len(NETWORK_PREFIX) :] if item != CONTAINERS else CONTAINERS
            if target in ("published", "routed", "network"):
                errors.add(
                    where,
                    f"containers are limited on their way to the host or out (to: host, to: egress), not to: {target}",
                )
            elif not NETWORK_NAME.match(name):
                errors.add(where, f"{_shown(name)} is not a name Docker gives to a network")
            else:
                networks.append(name)
        elif isinstance(item, str) and item in zones:
            if target == "egress":
                errors.add(
                    where, f"egress rules start at {CONTAINERS} or {NETWORK_PREFIX}NAME, not at the zone {_shown(item)}"
                )
            else:
                found.append(zones[item])
        else:
            known = _one_of(sorted(zones) + [CONTAINERS, f"{NETWORK_PREFIX}NAME"])
            errors.add(where, f"unknown zone {_shown(item)}; known are {known}")
    if value is not None and not _listed(value):
        errors.add(path, f"the list is empty; leave it out for {default}")
    if found and networks:
        errors.add(path, "zones and containers cannot share a rule; write one rule for each")
    return tuple(found), tuple(sorted(set(networks)))


def _towards(
    value: t.Any, target: str | None, zones: dict[str, Zone], path: str, errors: _Errors
) -> tuple[Zone, ...]:
    """Read a rule's `towards`: zones that its packets leave for."""
    if value is None:
        return ()
    if target is not None and target not in LEAVING:
        accepted = " and ".join(f"to: {name}" for name in sorted(LEAVING, reverse=True))
        errors.add(path, f"it says by which way packets leave the host and is accepted with {accepted}, not with to: {target}")
    found: list[Zone] = []
    for position, item in enumerate(_listed(value)):
        where = f"{path}[{position}]" if isinstance(value, (list, tuple)) else path
        if isinstance(item, str) and item in zones:
            found.append(zones[item])
        elif isinstance(item, str) and (item == CONTAINERS or item.startswith(NETWORK_PREFIX)):
            errors.add(where, f"{_shown(item)} is no zone; what reaches containers is to: {NETWORK_PREFIX}NAME or to: published")
        else:
            errors.add(where, f"unknown zone {_shown(item)}; known are {_one_of(sorted(zones))}")
    if not _listed(value):
        errors.add(path, f"the list is empty; leave it out for {OUTSIDE}")
    return tuple(found)


def _text(value: t.Any, pattern: t.Pattern[str], path: str, accepted: str, errors: _Errors) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not pattern.match(value):
        errors.add(path, f"{_shown(value)} is not accepted; {accepted}")
        return None
    return str(value)


def _log(value: t.Any, index: int, path: str, errors: _Errors) -> str | None:
    if value is None or value is False:
        return None
    if value is True:
        return f"bulkhead rule {index}: "
    accepted = "accepted are true, false, or a prefix of at most 60 letters, digits, blanks and ._,:;()[]/+=-"
    return _text(value, LOG_TEXT, path, accepted, errors)


def _word(value: t.Any, words: tuple[str, ...], default: str, path: str, errors: _Errors) -> str:
    if value is None:
        return default
    if not isinstance(value, str) or value not in words:
        errors.add(path, f"{_shown(value)} is not accepted; accepted are {_one_of(words)}")
        return default
    return str(value)


def _rule(index: int, value: t.Any, zones: dict[str, Zone], errors: _Errors) -> Rule | None:
    path = f"{PREFIX}rules[{index}]"
    if not isinstance(value, dict):
        errors.add(path, f"a rule is a mapping with the keys {_one_of(RULE_KEYS)}")
        return None
    before = len(errors.found)
    for key in value:
        if key not in RULE_KEYS:
            errors.add(f"{path}.{key}", f"unknown key; accepted are {_one_of(RULE_KEYS)}")
    target = _target(value.get("to"), f"{path}.to", errors)
    kind = target[0] if target else None
    from_zones, networks = _origins(value.get("from"), kind, zones, f"{path}.from", errors)
    towards = _towards(value.get("towards"), kind, zones, f"{path}.towards", errors)
    family = value.get("family")
    if family is not None:
        family = _word(family, FAMILIES, FAMILIES[0], f"{path}.family", errors)
    ports = _ports(value.get("ports"), f"{path}.ports", errors)
    protocols = _protocols(value.get("protocol", "tcp"), f"{path}.protocol", errors)
    portless = [] if protocols is None else [name for name in protocols if name not in PORT_PROTOCOLS]
    if ports is not None and (protocols is None or portless):
        errors.add(
            f"{path}.ports",
            f"ports need a protocol that has ports ({_one_of(PORT_PROTOCOLS)}), not"
            f" {_one_of(portless) if portless else 'any'}",
        )
    if kind == "published" and (protocols is None or portless):
        errors.add(f"{path}.protocol", "Docker publishes tcp, udp and sctp only")
    destinations4, destinations6 = _addresses(value.get("destination"), f"{path}.destination", errors, family)
    action = _word(value.get("action"), ACTIONS, "accept", f"{path}.action", errors)
    limit = _limit(value, path, errors)
    if limit is not None and action != "accept":
        errors.add(f"{path}.limit", "a limit belongs to action accept; what exceeds it is dropped")
    comment_accepted = "accepted are up to 100 characters without quotes, backslashes and control characters"
    rule = Rule(
        index=index,
        target=kind or "host",
        action=action,
        zones=from_zones,
        networks=networks,
        towards=towards,
        target_network=target[1] if target else None,
        protocols=protocols,
        ports=ports,
        destinations4=destinations4,
        destinations6=destinations6,
        family=family,
        log=_log(value.get("log"), index, f"{path}.log", errors),
        limit=limit,
        comment=_text(value.get("comment"), COMMENT_TEXT, f"{path}.comment", comment_accepted, errors),
    )
    if len(errors.found) != before:
        return None
    for place, sentence in unmatched(rule):
        errors.add(place, sentence)
    return rule


def _boolean(value: t.Any, default: bool, path: str, errors: _Errors) -> bool:
    if value is None:
        return default
    if not isinstance(value, bool):
        errors.add(path, f"{_shown(value)} is not accepted; accepted are true and false")
        return default
    return value


def parse(variables: dict[str, t.Any]) -> Policy:
    """Read the policy from role variables (names without the role's prefix).

    Raises PolicyError with every mistake found.
    """
    errors = _Errors()
    zones = _zones(variables.get("zones"), errors)
    value = variables.get("rules")
    rules: list[Rule] = []
    if value is not None and not isinstance(value, (list, tuple)):
        errors.add(f"{PREFIX}rules", "rules are a list")
    else:
        read = [_rule(index, item, zones, errors) for index, item in enumerate(value or [])]
        rules = [rule for rule in read if rule is not None]
    for place, sentence in contradictions(rules):
        errors.add(place, sentence)
    two = ("accept", "drop")
    three = ("accept", "drop", "reject")
    policy = Policy(
        zones=zones,
        rules=tuple(rules),
        outside_interfaces=_interfaces(
            variables.get("outside_interfaces"), f"{PREFIX}outside_interfaces", errors
        ),
        bridges=_interfaces(variables.get("bridges", Policy.bridges), f"{PREFIX}bridges", errors),
        host_default=_word(variables.get("host_default"), two, "drop", f"{PREFIX}host_default", errors),
        egress_default=_word(variables.get("egress_default"), three, "accept", f"{PREFIX}egress_default", errors),
        containers_to_host_default=_word(
            variables.get("containers_to_host_default"),
            three,
            "accept",
            f"{PREFIX}containers_to_host_default",
            errors,
        ),
        routed_default=_word(variables.get("routed_default"), two, "drop", f"{PREFIX}routed_default", errors),
        ping=_boolean(variables.get("ping"), True, f"{PREFIX}ping", errors),
        log_drops=_boolean(variables.get("log_drops"), False, f"{PREFIX}log_drops", errors),
    )
    if errors.found:
        raise PolicyError(errors.found)
    return policy
