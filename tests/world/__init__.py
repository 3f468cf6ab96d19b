# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Docker hosts rebuilt from captured files in network namespaces: their rules, their networks, real packets."""

from __future__ import annotations

from world.build import World
from world.capture import Capture, captures
from world.rooms import Room

__all__ = ["Capture", "Room", "World", "captures"]
