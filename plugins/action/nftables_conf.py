# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of nftables_conf: come back over a new connection, probe, confirm, as for one own table."""

from __future__ import annotations

from ansible_collections.bulkhead.docker_nftables.plugins.action.nftables_ruleset import ActionModule as Confirming


class ActionModule(Confirming):
    """Runs the module, and confirms what it applied."""
