# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the file that nftables.service loads, as text.

May change at any time.
"""

from __future__ import annotations

import re

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _nft_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import INCLUDE
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import PREFIX, is_shared
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import HEADER, managed

_INCLUDE = re.compile(r'^\s*include\s+"')
_SHOWN = 80


class ConfTextError(Exception):
    """The file may not be loaded as it is; the message is a sentence."""


def check(text: str, family: str, table: str) -> None:
    """Make sure that the file names its owner, loads the own table, and takes nothing of other people's away."""
    wrong = []
    if not managed(text):
        wrong.append(f"the line '{HEADER}' is missing at the top")
    if INCLUDE not in text.split("\n"):
        wrong.append(f"the line '{INCLUDE}' is missing")
    for line, words in _nft_text.statements(text):
        if words[:2] == ["flush", "ruleset"]:
            wrong.append(f"line {line}: 'flush ruleset' takes away what Docker and other tools have loaded")
        elif words[:1] in (["delete"], ["flush"], ["destroy"]) and len(words) >= 4 and words[1] == "table":
            if is_shared(words[2], words[3]) or words[2:4] == [family, table]:
                wrong.append(f"line {line}: '{' '.join(words)[:_SHOWN]}' takes away what others have in that table")
        elif words[:1] in (["delete"], ["flush"], ["destroy"]) and words[1:2] == ["chain"] and len(words) >= 5:
            if is_shared(words[2], words[3]) and not words[4].startswith(PREFIX):
                wrong.append(f"line {line}: '{' '.join(words)[:_SHOWN]}' takes away what others have in that chain")
    if wrong:
        raise ConfTextError("; ".join(wrong))


def effective(text: str, own: str, others: bool) -> str:
    """Put the own table's text in the place of the line that loads it.

    With `others` False, the administrator's own include lines are left out, so that only what the file itself
    says remains.
    """
    lines = []
    for line in text.split("\n"):
        if line == INCLUDE:
            lines.append(own.rstrip("\n"))
        elif others or not _INCLUDE.match(line):
            lines.append(line)
    return "\n".join(lines)
