# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of every module whose change is confirmed over a new connection.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

from typing import Any


def confirm_arguments(timeout: int) -> dict[str, Any]:
    """What the action plugin reads and sets; `timeout` is the default of confirm_timeout."""
    return {
        "confirm_timeout": {"type": "int", "default": timeout},
        "probes": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "address": {"type": "str"},
                "port": {"type": "int", "required": True},
                "expect": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            },
        },
        "confirmation": {"type": "str", "no_log": False},
        "keep": {"type": "bool", "default": True},
    }
