# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of what the neighbour reaches."""

from __future__ import annotations

import sys
import typing as t

Target = t.Dict[str, t.Any]
Socket = t.Tuple[str, str, int]
_STYLES = {"red": "31", "green": "32", "bold": "1", "dim": "2"}
_WIDTHS = (34, 10, 19, 19)
_HEAD = ("what", "port", "IPv4", "IPv6")


def styled(text: str, style: str) -> str:
    """Colour, on a terminal only."""
    return f"\033[{_STYLES[style]}m{text}\033[0m" if sys.stdout.isatty() else text


def socket_of(target: Target) -> Socket:
    return target["proto"], target["address"], target["port"]


def reached(results: t.Iterable[Target]) -> set[Socket]:
    """The sockets that answered."""
    return {socket_of(target) for target in results if target["result"] == "open"}


def _label(target: Target) -> str:
    name = target["container"]
    if name is None:
        return "sshd of the host"
    if target.get("direct"):
        return f"container {name}, own address"
    return f"container {name}"


def _rows(results: t.Iterable[Target]) -> dict[tuple[str, str, int], dict[str, list[Target]]]:
    """Targets by what they are: a row has the IPv4 and the IPv6 addresses of the same port."""
    rows: dict[tuple[str, str, int], dict[str, list[Target]]] = {}
    for target in results:
        # A container on two networks has two addresses of a family, and so two rows.
        place = 0
        family = "6" if ":" in target["address"] else "4"
        key = (_label(target), f"{target['port']}/{target['proto']}", place)
        while family in rows.get(key, {}):
            key = (*key[:2], key[2] + 1)
        rows.setdefault(key, {})[family] = [target]
    return rows


def _word(target: Target) -> str:
    """A refusal is an answer of a host that nobody listens on; silence is what a firewall gives."""
    return {"open": "OPEN", "timeout": "closed", "refused": "not listening"}.get(target["result"], "closed")


def _cell(targets: list[Target] | None, before: t.Mapping[Socket, Target] | None) -> str:
    if not targets:
        return "-".ljust(_WIDTHS[2])
    target = targets[0]
    now = _word(target)
    was = now if before is None else _word(before[socket_of(target)])
    if was == "OPEN" and now != "OPEN":
        return styled("OPEN -> closed".ljust(_WIDTHS[2]), "green")
    if now == "OPEN":
        text = "OPEN" if was == now else "closed -> OPEN"
        return styled(text.ljust(_WIDTHS[2]), "red" if before is None else "bold")
    return styled(("closed" if before is not None else now).ljust(_WIDTHS[2]), "dim")


def show(results: list[Target], before: list[Target] | None = None) -> None:
    """Print the table; with `before` it marks what has changed."""
    earlier = None if before is None else {socket_of(target): target for target in before}
    rule = "  " + "  ".join("-" * width for width in _WIDTHS)
    print("  " + "  ".join(head.ljust(width) for head, width in zip(_HEAD, _WIDTHS)).rstrip())
    print(rule)
    for (label, port, _place), families in _rows(results).items():
        cells = [label.ljust(_WIDTHS[0]), port.ljust(_WIDTHS[1])]
        cells += [_cell(families.get(family), earlier) for family in ("4", "6")]
        print("  " + "  ".join(cells).rstrip())
    print(rule)
    line = f"  The neighbour reaches {len(reached(results))} of {len(results)} sockets"
    if before is not None:
        line += f"; before it reached {len(reached(before))}"
    print(styled(line + ".", "bold"), flush=True)
