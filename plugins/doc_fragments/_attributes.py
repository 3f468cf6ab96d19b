# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes every module of the collection documents.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations


class ModuleDocFragment:
    """The modules say what they support; this says what the words mean."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change without changing it.
  diff_mode:
    description: Says in C(--diff) mode exactly what changed, or what would change.
  idempotent:
    description: Running it a second time with the same arguments reports no change.
  platform:
    description: The systems it can work on.
    support: full
    platforms: linux
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change without changing it.
    support: full
    details:
      - This module only reads.
  diff_mode:
    description: Says in C(--diff) mode exactly what changed, or what would change.
    support: N/A
    details:
      - This module only reads.
  idempotent:
    description: Running it a second time with the same arguments reports no change.
    support: full
    details:
      - This module only reads.
"""
