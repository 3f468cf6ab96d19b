# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that takes the role firewalld from the policy to firewalld's half of it and the own table's."""

from __future__ import annotations

import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.filter.policy import host_state, policy_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_compile import (
    Halves,
    Other,
    Surroundings,
    Wants,
    halve,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._misspelt import misspelt
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import INTERFACE, parse

#: Every variable that the role reads.
KNOWN = tuple(
    f"firewalld_{name}"
    for name in "state take_interfaces strict_forward_ports repair_restarts_containers held".split()
)


def firewalld_plan(
    policy: dict[str, t.Any],
    facts: dict[str, t.Any],
    firewalld: dict[str, t.Any],
    variables: dict[str, t.Any],
    names: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """Give everything the role asks before it changes a host.

    `facts` is the result of docker_firewall_info, `firewalld` that of firewalld_info, `names` the variables that are
    set. Mistakes of the policy, a lock-out and its other warnings are those of policy_plan.
    """
    whole = policy_plan(policy, facts, [name for name in names if name.startswith("docker_firewall_")])
    plan = {**whole, "zones": [], "policies": [], "settings": {}, "held": [], "report": [], "needs_docker_zone": False}
    if whole["errors"] or whole["needs_docker"]:
        return plan
    errors = misspelt([name for name in names if name.startswith("firewalld_")], KNOWN)
    if facts.get("layout"):
        errors.append(
            "the role nftables_conf keeps this host's firewall in the file of nftables.service, which cannot run beside"
            " firewalld.service; take it away first (nftables_conf_state: absent)"
        )
    wants = Wants(bool(variables.get("strict_forward_ports")), bool(variables.get("take_interfaces")))
    state = host_state(facts)
    halves = halve(parse(policy), state, _surroundings(facts, firewalld), wants)
    errors += halves.errors
    if errors:
        return {**plan, "errors": errors, "refusal": _refusal(errors)}
    return {
        **plan,
        "ruleset": compile_policy(halves.table, state).as_dict(),
        "zones": halves.zones,
        "policies": halves.policies,
        "settings": halves.settings,
        "held": halves.held,
        "report": _report(halves),
        "warnings": whole["warnings"] + halves.warnings,
        # Without its zone Docker does not listen to firewalld either, and a reload would leave its bridges out of it.
        "needs_docker_zone": bool(facts.get("available")) and not firewalld["docker_zone"]["exists"],
    }


def _surroundings(facts: dict[str, t.Any], firewalld: dict[str, t.Any]) -> Surroundings:
    # A port of a bridge or a bond is never what a packet comes in by.
    interfaces = [
        str(item["name"])
        for item in facts.get("interfaces", [])
        if INTERFACE.match(str(item["name"])) and item.get("kind") != "loopback" and not item.get("master")
    ]
    zones = [
        Other("zone", zone["name"], tuple(zone["interfaces"]), tuple(zone["sources"]))
        for zone in firewalld["zones"]
        if not zone["ours"]
    ]
    policies = [
        Other(
            "policy",
            each["name"],
            ingress_zones=tuple(each["ingress_zones"]),
            egress_zones=tuple(each["egress_zones"]),
            opens=bool(each["opens"]),
        )
        for each in firewalld["policies"]
        if not each["ours"]
    ]
    return Surroundings(
        str(firewalld["version"]), tuple(sorted(interfaces)), (*zones, *policies), tuple(firewalld.get("icmp_types", ()))
    )


def _report(halves: Halves) -> list[str]:
    """Write who holds what, one line each."""
    lines = []
    for each in halves.held:
        words = f"{each['what']}: {each['action']}"
        words += f" to {each['to']}" if each["to"] else ""
        words += f" - held by {each['by']}"
        lines.append(f"{words} ({each['why']})" if each["why"] else words)
    return lines


def _refusal(errors: list[str]) -> str:
    words = "1 reason" if len(errors) == 1 else f"{len(errors)} reasons"
    text = f"The role firewalld refuses this host for {words}; nothing was changed.\n"
    return text + "\n".join(f"  - {sentence}" for sentence in errors)


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filter by name."""
        return {"firewalld_plan": firewalld_plan}
