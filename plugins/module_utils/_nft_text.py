# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: nft text as text: lexing, comparing, explaining errors.

May change at any time.
"""

from __future__ import annotations

import difflib
import re
import typing as t

_TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|[{};,\n"]|[^\s{};,"#]+')
_LOCATION = re.compile(r"^(?:/dev/stdin|[^\s:]+):(\d+):(\d+)(?:-(\d+))?: (?:Error|error): (.*)$")
_BLOCK = re.compile(r"^\t(?:set|map) .*?^\t\}$", re.MULTILINE | re.DOTALL)
_LEARNS = re.compile(r"^\t\tflags .*\b(?:dynamic|timeout)\b", re.MULTILINE)
_ELEMENTS = re.compile(r"^\t\telements = \{\n(?:\t\t\t.*\n)*\t\t\}\n", re.MULTILINE)


class TextError(Exception):
    """The given text is not what it has to be; the message is one sentence."""


def _tokens(text: str) -> t.Iterator[tuple[str, int]]:
    """Give (token, line number); comments are left out, line ends are tokens."""
    line = 1
    for match in _TOKEN.finditer(text):
        token = match.group(0)
        if not token.startswith("#"):
            yield token, line
        if token == "\n":
            line += 1


def statements(text: str) -> t.Iterator[tuple[int, list[str]]]:
    """Give (line, words) of every statement that stands outside of braces; a block by the words before its brace."""
    depth = 0
    words: list[str] = []
    for token, line in _tokens(text):
        if token == "{":
            if depth == 0 and words:
                yield line, words
            depth, words = depth + 1, []
        elif token == "}":
            depth, words = max(depth - 1, 0), []
        elif token == '"':
            # nft lets a string run on to the next line; what is text and what is not has to be plain here.
            raise TextError(f"line {line}: a closing quote is missing")
        elif depth == 0 and token == "\n" and words and words[-1].endswith("\\"):
            words = [*words[:-1], words[-1][:-1]] if words[-1] != "\\" else words[:-1]
        elif depth == 0 and token in ("\n", ";"):
            if words:
                yield line, words
            words = []
        elif depth == 0:
            words.append(token)
    if words:
        yield text.count("\n") + 1, words


def check_single_table(text: str, family: str, table: str) -> None:
    """Make sure that text defines one table and does nothing else.

    Raises TextError for any other statement (C(flush ruleset), another table, C(include), C(define)), with its line.
    """
    depth = 0
    statement: list[str] = []
    seen = False
    for token, line in _tokens(text):
        if token == '"':
            # nft lets a string run on to the next line; what is text and what is not has to be plain here.
            raise TextError(f"line {line}: a closing quote is missing")
        if depth == 0:
            if token == "{":
                if statement != ["table", family, table]:
                    raise TextError(
                        f"line {line}: only 'table {family} {table} {{ ... }}' may stand here,"
                        f" not '{' '.join(statement)[:80]}'"
                    )
                depth, seen, statement = 1, True, []
            elif token in ("\n", ";"):
                if statement and statement != ["table", family, table]:
                    raise TextError(
                        f"line {line}: only 'table {family} {table} {{ ... }}' may stand here,"
                        f" not '{' '.join(statement)[:80]}'"
                    )
            elif token == "}":
                raise TextError(f"line {line}: a closing brace too many")
            else:
                statement.append(token)
            continue
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
        elif token in ("include", "define", "redefine", "undefine"):
            raise TextError(f"line {line}: '{token}' is not accepted; write the table out")
    if depth:
        raise TextError("a closing brace is missing at the end")
    if statement:
        raise TextError(f"the end: only 'table {family} {table} {{ ... }}' may stand here, not '{' '.join(statement)}'")
    if not seen:
        raise TextError(f"there is no 'table {family} {table} {{ ... }}' in it")


def replace_script(family: str, table: str, text: str | None) -> str:
    """Write the transaction that makes one table what text says; None takes the table away.

    Declaring, deleting and defining again works on every nft; C(destroy) needs nft 1.0.8 and kernel 6.3.
    """
    script = f"table {family} {table}\ndelete table {family} {table}\n"
    return script if text is None else script + text.rstrip("\n") + "\n"


def canonical(listing: str) -> str:
    """Bring a listing into a form in which equal tables are equal texts.

    Sets without order are listed in the kernel's order, which differs from load to load,
    so elements are sorted and written one a line. Both sides have to come from the same nft.
    """
    result: list[str] = []
    position = 0
    for match in re.finditer(r"^\s*elements = \{", listing, re.MULTILINE):
        if match.start() < position:
            continue
        end = _closing(listing, match.end())
        result.append(listing[position : match.end()])
        elements = sorted(_elements(listing[match.end() : end]))
        result.append("\n" + "".join(f"\t\t\t{element},\n" for element in elements) + "\t\t")
        position = end
    result.append(listing[position:])
    return "".join(result).strip() + "\n"


def without_learned(text: str) -> str:
    """Leave out the elements of sets that packets fill or that run out; `text` is in canonical form."""

    def bare(block: t.Match[str]) -> str:
        return _ELEMENTS.sub("", block.group(0)) if _LEARNS.search(block.group(0)) else block.group(0)

    return _BLOCK.sub(bare, text)


def _closing(text: str, start: int) -> int:
    """Find the brace that closes the one before start."""
    depth = 1
    for match in re.compile(r'"[^"\n]*"|[{}]').finditer(text, start):
        if match.group(0) == "{":
            depth += 1
        elif match.group(0) == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    raise TextError("the listing ends inside a set")


def _elements(text: str) -> list[str]:
    parts: list[str] = [""]
    for match in re.finditer(r'"[^"\n]*"|,|[^,"]+', text):
        if match.group(0) == ",":
            parts.append("")
        else:
            parts[-1] += match.group(0)
    return [" ".join(part.split()) for part in parts if part.strip()]


def explain(stderr: str, script: str, shown: int = 5) -> str:
    """Put the numbered lines of the script under nft's errors, with a mark below what is wrong."""
    lines = script.split("\n")
    said: list[str] = []
    found = 0
    for line in stderr.splitlines():
        match = _LOCATION.match(line)
        if match is None:
            continue
        found += 1
        if found > shown:
            continue
        number, start = int(match.group(1)), int(match.group(2))
        end = int(match.group(3) or start)
        if not 1 <= number <= len(lines):
            # nft has no place for errors that only the kernel finds.
            said.append(match.group(4))
            continue
        source = lines[number - 1]
        said.append(f"line {number}: {match.group(4)}")
        said.append(f"{number:>6} | {source[:200]}".replace("\t", " "))
        if start <= 200:
            said.append(" " * (8 + start) + "^" * max(1, min(end, 200) - start + 1))
    if found > shown:
        said.append(f"and {found - shown} more errors")
    if not said:
        said = [line for line in stderr.strip().splitlines() if line.strip()] or ["nft printed nothing"]
    return "\n".join(said)


def difference(before: str | None, after: str | None) -> list[str]:
    """List the lines that differ, each with + or - in front; empty when nothing does."""
    old = (before or "").splitlines()
    new = (after or "").splitlines()
    return [
        line
        for line in difflib.unified_diff(old, new, lineterm="", n=0)
        if line[:1] in "+-" and not line.startswith(("+++", "---"))
    ]
