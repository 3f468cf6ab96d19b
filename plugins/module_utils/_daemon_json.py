# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of daemon.json: read without losing anything of it, merged, and written in the form it had.

Private to the collection: not meant to be used from anywhere else. May change at any time.

Stricter than dockerd in one thing: of a key that stands twice dockerd takes the last, without a word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Iterable, NoReturn

#: Dropped whenever the text is written; Docker 20.10 does not read a file that begins with it.
BOM = "\ufeff"
_INDENTED = re.compile(r"\n([ \t]+)\S")
_OBJECTS_OF_OBJECTS = ("default-network-opts",)
_USER = re.compile(r"(://)[^/@\s\"]+@")


class DaemonJsonError(ValueError):
    """The text is not what dockerd could read; the message says where and why."""


@dataclass(frozen=True)
class Form:
    """How a text is laid out; `indent` None is all in one line."""

    indent: str | None = "  "
    newline: str = "\n"
    ends: bool = True


def form_of(text: str | None) -> Form:
    """The form of a text; of one with nothing in it, the usual one."""
    if text is None or not text.strip(BOM + " \t\r\n") or not re.sub(r"[\s{}]", "", text.lstrip(BOM)):
        return Form()
    body = text.rstrip(" \t\r\n")
    found = _INDENTED.search(body)
    indent = found.group(1) if found else "" if "\n" in body else None
    return Form(indent, "\r\n" if "\r\n" in text else "\n", text.endswith("\n"))


def parse(text: str | None) -> dict[str, Any]:
    """The settings in their order; {} for no file or an empty one. Raises DaemonJsonError."""
    if text is None:
        return {}
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        at = next(number for number, letter in enumerate(text) if "\udc80" <= letter <= "\udcff")
        raise DaemonJsonError(f"{_place(text, at)}: what stands here is not UTF-8")
    body = text[len(BOM) :] if text.startswith(BOM) else text
    if not body.strip(" \t\r\n"):
        return {}
    try:
        document = json.loads(body, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as exc:
        raise DaemonJsonError(f"line {exc.lineno}, column {exc.colno}: {_reason(exc)}") from exc
    except RecursionError as exc:
        raise DaemonJsonError("it is nested too deeply to be settings of dockerd") from exc
    if not isinstance(document, dict):
        raise DaemonJsonError(f"an object with settings, {{...}}, is needed, not {kind_of(document)}")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DaemonJsonError(f"{key} stands in one object twice, and dockerd would take the last; keep one")
        found[key] = value
    return found


def _constant(name: str) -> NoReturn:
    raise DaemonJsonError(f"{name} is no JSON")


def _place(text: str, at: int) -> str:
    before = text[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"


def _reason(exc: json.JSONDecodeError) -> str:
    """The parser's words, or better ones for what people do write; never the line, it may hold a password."""
    rest = exc.doc[exc.pos :].lstrip()
    before = exc.doc[: exc.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    # Python before 3.13 stumbles over the bracket, later ones name the comma.
    if (rest.startswith(("}", "]")) and before.endswith(",")) or exc.msg.startswith("Illegal trailing comma"):
        return "a comma with nothing behind it"
    if rest.startswith("'"):
        return "JSON has double quotes only"
    return exc.msg if rest else f"{exc.msg}, and the file ends here"


def kind_of(value: Any) -> str:
    """What a value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def same(one: Any, other: Any) -> bool:
    """Whether JSON tells no difference; Python finds 1 and true equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def merged(
    old: dict[str, Any], settings: dict[str, Any], remove: Iterable[str] = (), replace: Iterable[str] = ()
) -> dict[str, Any]:
    """The settings put into the old ones: keys keep their places, of two objects the keys are put together.

    Of default-network-opts, which has an object for each driver, those of the drivers are, too.
    """
    result = {key: value for key, value in old.items() if key not in set(remove)}
    whole = set(replace)
    for key, value in settings.items():
        there = result.get(key)
        if isinstance(value, dict) and isinstance(there, dict) and key not in whole:
            value = _together(there, value, 2 if key in _OBJECTS_OF_OBJECTS else 1)
        result[key] = value
    return result


def _together(old: dict[str, Any], new: dict[str, Any], depth: int) -> dict[str, Any]:
    """Both objects' keys; where both have an object for one, its keys as well, down to a depth."""
    result = dict(old)
    for key, value in new.items():
        there = old.get(key)
        deeper = depth > 1 and isinstance(value, dict) and isinstance(there, dict)
        result[key] = _together(there, value, depth - 1) if deeper and there is not None else value
    return result


def render(document: dict[str, Any], form: Form) -> str:
    """The text of settings in a form."""
    text = json.dumps(document, indent=form.indent, ensure_ascii=False)
    return text.replace("\n", form.newline) + (form.newline if form.ends else "")


def masked(text: str) -> str:
    """A text to be shown: without the users and passwords in addresses of proxies."""
    return _USER.sub(r"\1***@", text)


def masked_value(value: Any) -> Any:
    """The same, for every text in a value."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: masked_value(each) for key, each in value.items()}
    return [masked_value(each) for each in value] if isinstance(value, list) else value
