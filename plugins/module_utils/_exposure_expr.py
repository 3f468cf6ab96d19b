# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: turn one expression of nft's JSON into operations.

May change at any time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import (
    ACCEPT,
    CONTINUE,
    DROP,
    GOTO,
    JUMP,
    REJECT,
    RETURN,
    Calculated,
    Element,
    Lookup,
    Match,
    Nat,
    Notrack,
    Opaque,
    Verdict,
    Write,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import (
    FIELDS,
    Unreadable,
    number,
    ranges,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import NONE, single
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_xt import by_name
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._intervals import merge

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_ir import Op, Value
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_names import Field
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._exposure_sets import Ranges

    # Finds the elements of a named set, or says that they change with the packets.
    Finder = t.Callable[[str], t.List[t.Any]]

_PLAIN = (ACCEPT, DROP, CONTINUE, RETURN)
# Statements that change neither a verdict nor anything that this model reads.
_NO_EFFECT = frozenset(("counter", "log", "comment", "last"))
# What may be written without being read again: reading it is opaque.
_HARMLESS = frozenset(("meta nftrace", "meta priority", "ct label", "ip dscp", "ip6 dscp", "tcp option", "ip ttl", "ip6 hoplimit"))
_MAYBE = frozenset(("limit", "quota", "ct count", "connlimit"))
_REJECT_FAMILY = {"icmp": 2, "icmpv6": 10}
_WRITABLE = ("meta mark", "ct mark")


def operations(expression: t.Any, find: Finder, family: str) -> list[Op]:
    """The operations of one expression; none for what has no effect. What is not understood is `Opaque`."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return [Opaque("an expression of an unknown form", final=True)]
    ((kind, value),) = expression.items()
    try:
        if kind in _NO_EFFECT:
            return []
        if kind in _PLAIN:
            return [Verdict(kind)]
        if kind in (JUMP, GOTO):
            return [Verdict(kind, value["target"])]
        if kind == REJECT:
            return _reject(str((value or {}).get("type", "")))
        if kind == "notrack":
            return [Notrack()]
        if kind in ("dnat", "snat", "masquerade", "redirect"):
            return [_nat(kind, value or {}, find, family)]
        if kind == "mangle":
            return _mangle(value, find)
        if kind == "vmap":
            return [_lookup(value["key"], value["data"], find, _verdict)]
        if kind == "xt":
            return by_name(value)
        if kind == "match":
            return [_match(value, find)]
    except Unreadable as exc:
        return [Opaque(f"{kind}: {exc}", final=kind not in ("match",))]
    except (KeyError, TypeError, ValueError, AttributeError):
        return [Opaque(f"{kind}: an unknown form", final=True)]
    if kind in _MAYBE:
        return [Opaque(f"{kind} depends on earlier packets")]
    if kind == "set":
        # Filling a set can be refused when it is full, which ends the rule.
        return [Opaque("a set that packets fill")]
    return [Opaque(f"the statement {kind}", final=True)]


def _reject(kind: str) -> list[Op]:
    """A reject with ICMP is for that family only; nft leaves the condition out of its listing."""
    verdict = Verdict(REJECT, detail=kind)
    if kind in _REJECT_FAMILY:
        return [Match("meta nfproto", single(_REJECT_FAMILY[kind])), verdict]
    return [verdict]


def key_of(value: t.Any) -> str:
    """The name of a field."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, body),) = value.items()
        name = ""
        if kind == "meta":
            name = f"meta {body['key']}"
        elif kind == "payload" and "protocol" in body:
            name = f"{body['protocol']} {body['field']}"
        elif kind == "ct":
            name = f"ct {body['dir']} {body['key']}" if "dir" in body else f"ct {body['key']}"
        elif kind == "fib":
            flags = body["flags"] if isinstance(body["flags"], list) else [body["flags"]]
            name = f"fib {','.join(sorted(flags, key=lambda flag: (flag not in ('saddr', 'daddr'), flag)))} {body['result']}"
        elif kind in ("numgen", "jhash", "symhash", "socket", "osf", "rt", "ipsec", "exthdr", "tcp option", "xt"):
            name = kind
        if name in FIELDS:
            return name
        if name:
            raise Unreadable(f"the field {name} is not in the model")
    raise Unreadable("a field that is not in the model")


def _keys(value: t.Any) -> tuple[str, ...]:
    if isinstance(value, dict) and list(value) == ["concat"]:
        return tuple(key_of(part) for part in value["concat"])
    return (key_of(value),)


def _match(value: dict[str, t.Any], find: Finder) -> Op:
    left, right, operator = value["left"], value["right"], value["op"]
    mask = None
    if isinstance(left, dict) and list(left) == ["&"]:
        left, flags = left["&"]
        mask = number(FIELDS[key_of(left)], flags)
    keys = _keys(left)
    negated = operator == "!="
    field = FIELDS[keys[0]]
    if len(keys) == 1 and not (isinstance(right, str) and right.startswith("@")):
        if field.kind == "name" and isinstance(right, bool):
            return Match(keys[0], ((0, 0),), right != negated)
        if isinstance(right, dict) and list(right) == ["set"]:
            return Match(keys[0], _union(field, right["set"]), negated, mask)
        if operator == "in":
            return Match(keys[0], ((0, 0),), True, number(field, right) if mask is None else mask & number(field, right))
        if operator in ("==", "!="):
            return _masked(Match(keys[0], ranges(field, right), negated, mask), field)
        return Match(keys[0], _compared(operator, field, right), False, mask)
    if mask is not None:
        raise Unreadable("a mask on a concatenation or a set")
    lookup = _lookup(left, right, find, lambda data: None)
    if operator not in ("==", "!=", "in"):
        raise Unreadable(f"the operator {operator}")
    if len(keys) == 1 and lookup.other is None:
        found = tuple(merge(item for element in lookup.elements for item in element.key[0]))
        return Match(keys[0], found, negated)
    return Lookup(lookup.keys, lookup.elements, lookup.other, negated)


def _masked(match: Match, field: Field) -> Match:
    """Write a mask that is a prefix as an interval: only those can be asked of a source that is a set."""
    if match.mask is None or field.kind != "address" or len(match.ranges) != 1:
        return match
    rest = (~match.mask) & ((1 << field.bits) - 1)
    low, high = match.ranges[0]
    if rest & (rest + 1) or low != high:
        return match
    if low & rest:
        return Match(match.key, NONE, match.negated)
    return Match(match.key, ((low, low | rest),), match.negated)


def _compared(operator: str, field: Field, right: t.Any) -> Ranges:
    limit = number(field, right)
    top = (1 << field.bits) - 1
    low, high = {"<": (0, limit - 1), "<=": (0, limit), ">": (limit + 1, top), ">=": (limit, top)}.get(operator, (-1, 0))
    if low < 0:
        raise Unreadable(f"the operator {operator}")
    return ((low, high),) if low <= high else NONE


def _union(field: Field, values: list[t.Any]) -> Ranges:
    return tuple(merge(item for value in values for item in ranges(field, _bare(value))))


def _bare(value: t.Any) -> t.Any:
    """An element without its timeout, counter or comment."""
    if isinstance(value, dict) and list(value) == ["elem"]:
        return value["elem"]["val"]
    return value


def _lookup(key: t.Any, data: t.Any, find: Finder, read: t.Callable[[t.Any], t.Any]) -> Lookup:
    keys = _keys(key)
    values = find(data[1:]) if isinstance(data, str) and data.startswith("@") else data["set"]
    found: list[Element] = []
    other = None
    for value in values:
        # An element of a map is a pair; of a set, it is its key alone.
        pair = isinstance(value, list) and len(value) == 2
        bare = _bare(value[0] if pair else value)
        held = read(value[1]) if pair else None
        if bare == "*" and not (len(keys) == 1 and FIELDS[keys[0]].kind == "name" and not pair):
            other = held if pair else True
            continue
        parts = bare["concat"] if isinstance(bare, dict) and list(bare) == ["concat"] else [bare]
        if len(parts) != len(keys):
            raise Unreadable("an element that does not fit its key")
        found.append(Element(tuple(ranges(FIELDS[name], part) for name, part in zip(keys, parts)), held))
    return Lookup(keys, tuple(found), other)


def _verdict(value: t.Any) -> Verdict:
    ((kind, body),) = value.items()
    if kind in _PLAIN:
        return Verdict(kind)
    if kind in (JUMP, GOTO):
        return Verdict(kind, body["target"])
    raise Unreadable(f"the verdict {kind}")


def _mangle(value: dict[str, t.Any], find: Finder) -> list[Op]:
    ((kind, body),) = value["key"].items()
    name = kind
    if kind in ("meta", "ct"):
        name = f"{kind} {body['key']}"
    elif kind == "payload":
        name = f"{body.get('protocol', '')} {body.get('field', '')}"
    if name in _HARMLESS:
        return []
    if name not in _WRITABLE:
        raise Unreadable(f"writing {name}")
    return [Write(name, _value(value["value"], FIELDS[name], find))]


def _value(value: t.Any, field: Field, find: Finder) -> Value:
    """What a statement writes: a number, a map's data, or bits of a mark."""
    if isinstance(value, dict) and list(value) == ["map"]:
        body = value["map"]
        return _lookup(body["key"], body["data"], find, lambda data: _data(data, field))
    if isinstance(value, dict) and len(value) == 1:
        ((operator, parts),) = value.items()
        top = (1 << field.bits) - 1
        if operator in ("&", "|", "^"):
            left, right = _value(parts[0], field, find), number(field, parts[1])
            if not isinstance(left, Calculated):
                raise Unreadable("a calculation on something else than a field")
            mask, xor = {"&": (right, 0), "|": (top & ~right, right), "^": (top, right)}[operator]
            return Calculated(left.key, left.mask & mask, (left.xor & mask) ^ xor)
        if operator in ("meta", "ct"):
            key = key_of(value)
            if FIELDS[key].kind != "number" or FIELDS[key].bits != field.bits:
                raise Unreadable(f"writing from {key}")
            return Calculated(key, top, 0)
    return number(field, value)


def _data(value: t.Any, field: Field) -> t.Any:
    """What a map holds: a number, or an address with a port."""
    if isinstance(value, dict) and list(value) == ["concat"]:
        parts = value["concat"]
        if len(parts) != 2:
            raise Unreadable("a map of more than an address and a port")
        return (number(field, parts[0]), number(FIELDS["th dport"], parts[1]))
    return number(field, value)


def _nat(kind: str, value: dict[str, t.Any], find: Finder, table: str) -> Op:
    unknown = set(value) - {"family", "addr", "port", "flags"}
    if unknown:
        raise Unreadable(f"the option {sorted(unknown)[0]}")
    if value.get("flags"):
        raise Unreadable("flags")
    family = {"ip": 4, "ip6": 6}.get(value.get("family", table), 0)
    addr, port = value.get("addr"), value.get("port")
    address: Value | None = None
    if addr is not None:
        found = family or (6 if isinstance(addr, str) and ":" in addr else 4)
        address = _value(addr, FIELDS["ip daddr" if found == 4 else "ip6 daddr"], find)
    return Nat(kind, family, address, None if port is None else _value(port, FIELDS["th dport"], find))
