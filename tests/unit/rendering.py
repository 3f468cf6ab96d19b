# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a compiled policy to nft text with the roles' own templates, as Ansible renders them."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._ruleset import Ruleset
from jinja2 import Environment, StrictUndefined

ROLES = Path(__file__).resolve().parents[2] / "roles"


def _render(template: str, names: dict[str, t.Any]) -> str:
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    return environment.from_string((ROLES / template).read_text(encoding="utf-8")).render(names)


def render(ruleset: Ruleset) -> str:
    """Write one table as text."""
    names = {"docker_firewall_table": ruleset.table, "__docker_firewall_plan": {"ruleset": ruleset.as_dict()}}
    return _render("docker_firewall/templates/table.nft.j2", names)


def render_conf(plan: dict[str, t.Any]) -> str:
    """Write the file that nftables.service loads."""
    return _render("nftables_conf/templates/nftables.conf.j2", {"__nftables_conf_plan": plan})
