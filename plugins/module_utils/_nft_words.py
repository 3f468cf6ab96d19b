# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody wrote, as words that nft reads and nothing else.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

_LONGEST = 120


def comment(text: str) -> str:
    """A comment in quotes: nft has no escapes and at most 128 bytes, and a line stays a line."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text.replace('"', "'"))
    cut = plain.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return f'"{cut}"'


def quotable(text: str) -> bool:
    """Whether nft takes a string as it is: it reads a dollar sign in a log prefix as a variable."""
    return all(" " <= letter <= "~" and letter not in '"$' for letter in text)
