# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that takes the role nftables_conf from its variables to what its template writes."""

from __future__ import annotations

import re
import typing as t
from dataclasses import replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _boot, _conf_file, _conf_plan, _marks
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._misspelt import misspelt
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse

_WRITES = re.compile(r"-j MARK --set-x?mark|-j CONNMARK --restore-mark|\bmeta mark set\b")
_HARMLESS = re.compile(r"ip6? (?:raw \w+|mangle (?:PREROUTING|FORWARD|OUTPUT|POSTROUTING)|\w+ (?:OUTPUT|POSTROUTING)) ")
#: The base chains that the file declares, as nftables_info names them behind their family.
_BASES = {
    f"{table} {name}"
    for table, bases in (("filter", _conf_plan.FILTER_BASES), ("nat", _conf_plan.NAT_BASES))
    for name, _hook, _priority in bases
}
_FOUND_ON_HOST = ("table", "enabled_service", "path", "mode")
#: Every variable that the role reads.
KNOWN = tuple(
    f"nftables_conf_{name}"
    for name in (
        "state layout path mark_bit forward_policy output_policy rules tables includes replaces legacy repair"
        " repair_restarts_containers"
    ).split()
)


def conf_plan(
    variables: dict[str, t.Any],
    policy: dict[str, t.Any],
    facts: dict[str, t.Any],
    names: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """Give everything the role asks before it changes a host: mistakes, the layout, and the tables of its file."""
    plan: dict[str, t.Any] = {"errors": [], "refusal": "", "layout": {}, "tables": []}
    errors = misspelt(names, KNOWN)
    try:
        conf = _conf_plan.read(variables)
    except _conf_plan.ConfError as error:
        return _refused(plan, errors + error.errors)
    try:
        known = parse(policy)
    except PolicyError:
        # The policy is refused by its own role, with its own words.
        known = Policy()
    errors += _conf_plan.conflicts(conf, known, _backend(facts))
    errors += _in_the_way(conf, facts)
    if errors:
        return _refused(plan, errors)
    try:
        bits = _bits(conf, facts)
    except _marks.MarkBitError as error:
        return _refused(plan, [f"nftables_conf_mark_bit: {error}"])
    layout = _conf_plan.layout(conf, known, *bits)
    stops = [name for name in conf.replaces if _running(name, facts)]
    return {
        **plan,
        "layout": _given(layout),
        # Until the other service is gone, INPUT's policy may not be ours.
        "first_layout": _given(replace(layout, drops_input=layout.drops_input or (conf.compat and bool(stops)))),
        "tables": _conf_plan.tables(conf, known, layout),
        "path": variables.get("path") or _path(facts),
        "header": _conf_file.HEADER,
        "include": _boot.INCLUDE,
        "nft": "/usr/sbin/nft",
        "further": conf.tables,
        "includes": list(conf.includes),
        "stops": stops,
    }


def _given(layout: Layout) -> dict[str, t.Any]:
    """Write a layout for the module; the rest is for the host to find out."""
    return {key: value for key, value in layout.as_dict().items() if key not in _FOUND_ON_HOST}


def _path(facts: dict[str, t.Any]) -> str:
    """Find the file that nftables.service loads, or loaded before it was given our own."""
    before = (facts.get("layout") or {}).get("path")
    return str(before or (facts.get("conf") or {}).get("path") or _boot.DISTRIBUTION_FILES[0])


def _bits(conf: _conf_plan.Conf, facts: dict[str, t.Any]) -> tuple[int, int]:
    if not conf.compat:
        return 0, 0
    before = facts.get("layout") or {}
    used = int((facts.get("marks") or {}).get("used_mask", 0))
    uses = [_marks.MarkUse(**use) for use in (facts.get("marks") or {}).get("uses", [])]
    # What the host has chosen before stays, as long as nobody else has come to use it.
    kept = int(before.get("mark_bit") or 0)
    wanted = conf.mark_bit or (kept if kept and not kept & used else 0)
    bit = _marks.free_bit(used, wanted or None, uses)
    if _conf_plan.DOCKER_MARK not in conf.tables:
        return bit, 0
    kept = int(before.get("docker_bit") or 0)
    docker = _marks.free_bit(used | bit, kept if kept and not kept & (used | bit) else None, uses)
    return bit, docker


def _backend(facts: dict[str, t.Any]) -> str | None:
    """Only Docker's nftables backend has tables of this name; the other one deletes them."""
    names = {table.get("name") for table in facts.get("tables") or []}
    return "nftables" if "docker-bridges" in names else None


def _running(name: str, facts: dict[str, t.Any]) -> bool:
    return bool(((facts.get("firewall_services") or {}).get(name) or {}).get("active"))


def _in_the_way(conf: _conf_plan.Conf, facts: dict[str, t.Any]) -> list[str]:
    """List other managers of the firewall that run, and iptables of the old kind."""
    found = [
        f"{name} runs on this host and would fight with this role over the same rules; leave the host to it, or set"
        f" nftables_conf_replaces: [{name}] to have it stopped and disabled"
        for name in _conf_plan.SERVICES
        if _running(name, facts) and name not in conf.replaces
    ]
    legacy = facts.get("legacy_rules") or {}
    lines = [*(legacy.get("ipv4") or []), *(legacy.get("ipv6") or [])]
    if lines and conf.legacy == "refuse":
        found.append(
            f"this host has {len(lines)} rules in the old xtables, which nft does not show and every packet passes too"
            f" (the first: {lines[0]!s:.100}); set nftables_conf_legacy to move to take them to nf_tables, or to keep"
        )
    found += _overwriting((facts.get("marks") or {}).get("uses", [])) if conf.compat else []
    found += _declared_otherwise(facts.get("warnings_found") or []) if conf.compat else []
    variant = (facts.get("iptables") or {}).get("variant")
    if conf.compat and variant == "legacy" and conf.legacy != "move":
        found.append(
            "iptables on this host is iptables-legacy, which sees nothing of the tables this layout writes; set"
            " nftables_conf_legacy: move to switch it to iptables-nft"
        )
    return found


def _declared_otherwise(warnings: t.Iterable[dict[str, t.Any]]) -> list[str]:
    """List base chains with a name of iptables and another place: nft does not change the hook or priority of a chain."""
    found = []
    for warning in warnings:
        family, _space, chain = str(warning.get("where")).partition(" ")
        if warning.get("code") == "FOREIGN_PRIORITY" and family in ("ip", "ip6") and chain in _BASES:
            what = str(warning.get("text")).partition(". ")[0]
            found.append(
                f"{what[:1].lower()}{what[1:160]}, and nft does not change that in a chain that exists; move its rules to"
                f" the policy, take it out of what loads it, and delete it (nft delete chain {family} {chain})"
            )
    return found


def _overwriting(uses: t.Iterable[dict[str, t.Any]]) -> list[str]:
    """List who writes the whole mark where that could undo a refusal: a packet without it is taken for an accepted one.

    What runs before the own table (mangle PREROUTING) or behind INPUT cannot.
    """
    return [
        f"{use['where']} writes the whole packet mark ({use['text']!s:.120}), so that what the policy refuses could be"
        " taken for accepted on its way to INPUT; give that rule a mask, or use nftables_conf_layout: own_table"
        for use in uses
        if use.get("whole") and _WRITES.search(str(use["text"])) and not _HARMLESS.match(str(use["where"]))
    ]


def _refused(plan: dict[str, t.Any], errors: list[str]) -> dict[str, t.Any]:
    words = "1 reason" if len(errors) == 1 else f"{len(errors)} reasons"
    text = f"nftables_conf refuses this host for {words}; nothing was changed.\n"
    return {**plan, "errors": errors, "refusal": text + "\n".join(f"  - {sentence}" for sentence in errors)}


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filter by name."""
        return {"conf_plan": conf_plan}
