# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which layout the collection keeps its rules on a host, as the host remembers it.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

PATH = "/etc/bulkhead/layout.json"
#: The own table drops by itself.
OWN_TABLE = "own_table"
#: The own table sets a mark bit, chains that iptables tools can read drop and accept by it.
IPTABLES_COMPAT = "iptables_compat"
LAYOUTS = (OWN_TABLE, IPTABLES_COMPAT)
DEFAULT_TABLE = "bulkhead"

_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_BUILTIN = ("INPUT", "FORWARD", "OUTPUT")
_PATH = re.compile(r"/[A-Za-z0-9_./-]+\Z")
_HIGHEST_BIT = 1 << 31


class LayoutError(Exception):
    """The file is there and cannot be used; the message says why."""


@dataclass(frozen=True)
class Layout:
    """`mark_bit` and `docker_bit` are 0 where no bit is needed.

    `drops_input` tells that INPUT's policy lets packets pass, `output` that the policy of OUTPUT does not.
    `policies` names the chains of iptables' filter tables whose policy is ours, `enabled_service` tells that
    nftables.service did not start at boot before. `path` is the file of that service's that was replaced,
    `mode` the one it had.
    """

    layout: str
    table: str = DEFAULT_TABLE
    mark_bit: int = 0
    docker_bit: int = 0
    drops_input: bool = False
    output: bool = False
    policies: tuple[str, ...] = ()
    enabled_service: bool = False
    path: str = "/etc/nftables.conf"
    mode: int = 0o755

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(root: str = "") -> Layout | None:
    """The layout of a host, None where none was written; raises LayoutError. `root` is put before the path."""
    try:
        found = _files.read(root + PATH)
    except OSError as exc:
        raise LayoutError(f"{PATH} cannot be read: {exc.strerror}") from exc
    return None if found is None else parse(found)


def parse(found: str) -> Layout:
    """The layout in a file's text; keys that are not known are left to later releases."""
    try:
        document = json.loads(found)
    except (ValueError, RecursionError) as exc:
        raise LayoutError(f"{PATH} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise LayoutError(f"{PATH} holds no object, but: {document!r:.80}")
    layout: Any = document.get("layout")
    table, bit = document.get("table", DEFAULT_TABLE), document.get("mark_bit", 0)
    wrong = []
    if layout not in LAYOUTS:
        wrong.append(f"layout is {layout!r:.80}, not one of {', '.join(LAYOUTS)}")
    if not isinstance(table, str) or not _TABLE_NAME.match(table):
        wrong.append(f"table is {table!r:.80}, not a name of a table")
    if not _usable_bit(bit, needed=layout == IPTABLES_COMPAT):
        wrong.append(f"mark_bit is {bit!r:.80}, not a number with one bit set out of 32")
    docker_bit = document.get("docker_bit", 0)
    if not _usable_bit(docker_bit, needed=False):
        wrong.append(f"docker_bit is {docker_bit!r:.80}, not a number with one bit set out of 32")
    flags = {name: document.get(name, False) for name in ("drops_input", "output", "enabled_service")}
    wrong += [f"{name} is {flag!r:.80}, not true or false" for name, flag in flags.items() if not isinstance(flag, bool)]
    policies = document.get("policies", [])
    if not isinstance(policies, list) or not set(map(str, policies)) <= set(_BUILTIN):
        wrong.append(f"policies is {policies!r:.80}, not a list of {', '.join(_BUILTIN)}")
    path = document.get("path", "/etc/nftables.conf")
    mode = document.get("mode", 0o755)
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777:
        wrong.append(f"mode is {mode!r:.80}, not the mode of a file")
    if not isinstance(path, str) or not _PATH.match(path):
        wrong.append(f"path is {path!r:.80}, not an absolute path")
    if wrong:
        raise LayoutError(f"{PATH}: {'; '.join(wrong)}")
    return Layout(layout, table, bit, docker_bit, **flags, policies=tuple(map(str, policies)), path=path, mode=mode)


def _usable_bit(bit: Any, needed: bool) -> bool:
    if not isinstance(bit, int) or isinstance(bit, bool):
        return False
    return 0 < bit <= _HIGHEST_BIT and bit & (bit - 1) == 0 or (bit == 0 and not needed)


def text(layout: Layout) -> str:
    """What to write into the file."""
    return json.dumps(layout.as_dict(), indent=2) + "\n"
