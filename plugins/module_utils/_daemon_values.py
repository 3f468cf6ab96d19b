# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value is one that a key of daemon.json takes, and what it takes where not.

Private to the collection: not meant to be used from anywhere else. May change at any time.

For some of these dockerd ends at its start only, with a file that it found valid before (a bip that is no address),
and some it takes and never uses. So this is stricter than `dockerd --validate`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import kind_of
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import Key

_SIZE = re.compile(r"\d+(\.\d+)? ?([kmgtp]i?)?b?\Z", re.IGNORECASE)
_NUMBER = re.compile(r"(0x[0-9a-f]+|0o?[0-7]+|0b[01]+|[1-9]\d*)\Z", re.IGNORECASE)

#: What is said to be accepted, by kind.
ACCEPTED = {
    "bool": "true or false, without quotes",
    "int": "a whole number of at least 0, without quotes",
    "integer": "a whole number, without quotes",
    "str": "a text",
    "path": "an absolute path",
    "list": "a list of texts",
    "labels": "a list of texts such as 'key=value'",
    "size": "a text such as '64M'",
    "fwmark": "a mark such as '1' or '0x1', or mark and mask such as '0x1/0x1', each of at most 32 bits, as a text",
    "address": "an IP address",
    "address4": "an IPv4 address",
    "address6": "an IPv6 address",
    "addresses": "a list of IP addresses",
    "interface4": "an IPv4 address with its prefix length, such as '172.30.0.1/24'",
    "interface6": "an IPv6 address with its prefix length, such as 'fd00:30::1/64'",
    "subnet4": "an IPv4 subnet such as '172.30.0.0/25'",
    "subnet6": "an IPv6 subnet such as 'fd00:30::/64'",
    "pools": "a list of objects with 'base', a subnet, and 'size', a prefix length that is not below the subnet's",
    "strings": "an object whose values are texts (in quotes, numbers and booleans too)",
    "switches": "an object whose values are true or false, without quotes",
    "options": "an object of drivers, each an object whose values are texts (in quotes, numbers and booleans too)",
    "object": "an object",
}

_EMPTY_IS_DEFAULT = (
    *("str", "path", "choice", "fwmark", "address", "address4", "address6"),
    *("interface4", "interface6", "subnet4", "subnet6"),
)


def problem(key: Key, value: Any) -> str | None:
    """What is wrong with a value, None where nothing is; an empty text is the default to dockerd."""
    if value == "" and key.kind in _EMPTY_IS_DEFAULT:
        return None
    if key.kind == "choice":
        takes = " or ".join((", ".join(key.choices[:-1]), key.choices[-1]))
        good = isinstance(value, str) and (value.lower() if key.name == "log-level" else value) in key.choices
    else:
        takes, good = ACCEPTED[key.kind], _CHECKS[key.kind](value)
    return None if good else f"{kind_of(value)} is not accepted; accepted is {takes}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_size(value: Any) -> bool:
    return isinstance(value, str) and _SIZE.match(value) is not None


def _is_mark(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else []
    return len(parts) in (1, 2) and all(_is_number(part) for part in parts)


def _is_number(text: str) -> bool:
    """A number as Go reads it, with 0x, 0o, 0b or a leading 0."""
    if _NUMBER.match(text) is None and text != "0":
        return False
    octal = re.match(r"0[0-7]", text) is not None
    return int(text, 8 if octal else 0) < 1 << 32


def _family(value: Any, read: Callable[[str], Any], families: tuple[int, ...]) -> bool:
    try:
        return isinstance(value, str) and read(value).version in families
    except ValueError:
        return False


def _is_address(value: Any, *families: int) -> bool:
    return _family(value, ipaddress.ip_address, families or (4, 6))


def _is_interface(value: Any, family: int) -> bool:
    return isinstance(value, str) and "/" in value and _family(value, ipaddress.ip_interface, (family,))


def _is_subnet(value: Any, *families: int) -> bool:
    if not isinstance(value, str) or "/" not in value:
        return False
    return _family(value, lambda text: ipaddress.ip_network(text, strict=False), families or (4, 6))


def _is_pool(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"base", "size"} or not _is_subnet(value["base"]):
        return False
    base = ipaddress.ip_network(value["base"], strict=False)
    return _is_count(value["size"]) and base.prefixlen <= value["size"] <= base.max_prefixlen


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(each) for each in value)


def _object_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(check(each) for each in value.values())


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": _is_count,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "str": _is_text,
    "path": _is_path,
    "list": _list_of(_is_text),
    "labels": _list_of(lambda value: isinstance(value, str) and "=" in value[1:]),
    "size": _is_size,
    "fwmark": _is_mark,
    "address": _is_address,
    "address4": lambda value: _is_address(value, 4),
    "address6": lambda value: _is_address(value, 6),
    "addresses": _list_of(_is_address),
    "interface4": lambda value: _is_interface(value, 4),
    "interface6": lambda value: _is_interface(value, 6),
    "subnet4": lambda value: _is_subnet(value, 4),
    "subnet6": lambda value: _is_subnet(value, 6),
    "pools": _list_of(_is_pool),
    "strings": _object_of(_is_text),
    "switches": _object_of(lambda value: isinstance(value, bool)),
    "options": _object_of(_object_of(_is_text)),
    "object": lambda value: isinstance(value, dict),
}
