# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test hosts: Debian root filesystems booted with systemd inside network namespaces of their own."""

from __future__ import annotations

from lab.containers import STANDARD, ContainerSet, standard_targets
from lab.host import Host
from lab.peer import Peer
from lab.process import LabError
from lab.topology import Lab

__all__ = ["STANDARD", "ContainerSet", "Host", "Lab", "LabError", "Peer", "standard_targets"]
