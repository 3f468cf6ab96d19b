# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a compiled policy to nft text with the role's own template, as Ansible renders it."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Ruleset
from jinja2 import Environment, StrictUndefined

TEMPLATE = Path(__file__).resolve().parents[2] / "roles/docker_firewall/templates/table.nft.j2"


def render(ruleset: Ruleset) -> str:
    """Write one table as text."""
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    names = {"docker_firewall_table": ruleset.table, "__docker_firewall_plan": {"ruleset": ruleset.as_dict()}}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(names)
