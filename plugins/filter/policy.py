# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that take a policy from the role's variables to a table, on the controller."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._carry import Carry
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import (
    HostState,
    compile_policy,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_plan import carry
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._decide import Dial, decide
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import parse as parse_layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._misspelt import misspelt
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import INTERFACE, parse


def _parsed(variables: dict[str, t.Any]) -> Policy:
    try:
        return parse(variables)
    except PolicyError as error:
        raise AnsibleFilterError(_message(error)) from error


def _message(error: PolicyError) -> str:
    count = len(error.errors)
    words = "1 mistake" if count == 1 else f"{count} mistakes"
    return f"The firewall policy has {words}; nothing was changed.\n" + "\n".join(
        f"  - {sentence}" for sentence in error.errors
    )


def policy_errors(variables: dict[str, t.Any]) -> list[str]:
    """List every mistake in the policy, an empty list where there is none."""
    try:
        parse(variables)
    except PolicyError as error:
        return error.errors
    return []


def policy_ruleset(variables: dict[str, t.Any], facts: dict[str, t.Any]) -> dict[str, t.Any]:
    """Compile the policy for the host that the result of docker_firewall_info describes."""
    policy = _parsed(variables)
    try:
        return compile_policy(policy, host_state(facts)).as_dict()
    except PolicyError as error:
        raise AnsibleFilterError(_message(error)) from error


def host_state(facts: dict[str, t.Any]) -> HostState:
    """Take from docker_firewall_info's result what the compiler asks for."""
    networks = {
        str(network["name"]): str(network["bridge"]) for network in facts.get("networks", []) if network.get("bridge")
    }
    bridges = set(networks.values())
    published = {
        (str(port["protocol"]), int(port["host_port"])) for port in facts.get("published", []) if port.get("host_port")
    }
    # The kernel allows quotes and stars in a name; nft would read them as the end of it and as a wildcard.
    interfaces = [item for item in facts.get("interfaces", []) if INTERFACE.match(str(item["name"]))]
    ports = [item for item in interfaces if item.get("master") in bridges and item.get("kind") not in ("veth", "unknown")]
    shared = tuple(sorted({str(item["master"]) for item in ports}))
    return HostState(
        networks=networks,
        interfaces=tuple(sorted(str(item["name"]) for item in interfaces)),
        published=tuple(sorted(published)),
        docker_known=bool(facts.get("available")),
        other_bridges=tuple(
            sorted(str(item["name"]) for item in interfaces if item.get("is_bridge") and item["name"] not in bridges)
        ),
        shared_bridges=shared,
    )


def policy_lockout(variables: dict[str, t.Any], connection: dict[str, t.Any] | None) -> str:
    """Say how the policy would drop the connection Ansible is using, or give an empty string.

    `connection` is what docker_firewall_info returns as ssh_connection.
    """
    return _lockout(_parsed(variables), connection)


def _lockout(policy: Policy, connection: dict[str, t.Any] | None) -> str:
    if not connection:
        return ""
    dial = Dial(
        source=str(connection["client_address"]),
        destination=str(connection["server_address"]),
        protocol="tcp",
        port=int(connection["server_port"]),
        interface=connection.get("interface"),
    )
    if dial.interface == "lo":
        return ""
    decision = decide(policy, dial, published=False)
    if decision.verdict == "accept":
        return ""
    return (
        f"The policy would {decision.verdict} new SSH connections from {dial.source} to"
        f" {dial.destination} port {dial.port}, which is how Ansible reaches this host"
        f" (decided by {decision.reason}). Add a rule to: host with port {dial.port} for the zone of"
        f" {dial.source}, or set docker_firewall_allow_lockout to true if that is what you want."
    )


def policy_plan(
    variables: dict[str, t.Any],
    facts: dict[str, t.Any],
    names: t.Sequence[str] = (),
    layout: dict[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Give everything the role asks of a policy in one step: its mistakes, the table, and whether it locks out.

    The table is for the layout that the host remembers, unless another `layout` is given.
    """
    plan: dict[str, t.Any] = {"errors": [], "refusal": "", "needs_docker": "", "ruleset": {}, "lockout": ""}
    plan["warnings"] = []
    unread = misspelt(names, KNOWN)
    try:
        policy = parse(variables)
        if unread:
            raise PolicyError([])
    except PolicyError as error:
        mistakes = PolicyError(unread + error.errors)
        return {**plan, "errors": mistakes.errors, "refusal": _message(mistakes)}
    try:
        ruleset = compile_policy(policy, host_state(facts), carry=_carry(layout or facts.get("layout"))).as_dict()
    except PolicyError as error:
        if facts.get("available"):
            return {**plan, "errors": error.errors, "refusal": _message(error)}
        # No mistake of the policy's: only Docker could say what these networks are.
        return {**plan, "needs_docker": "; ".join(error.errors)}
    return {
        **plan,
        "ruleset": ruleset,
        "lockout": _lockout(policy, facts.get("ssh_connection")),
        "warnings": ruleset["warnings"] + _daemon_warnings(facts),
    }


def _carry(layout: dict[str, t.Any] | None) -> Carry | None:
    return carry(parse_layout(json.dumps(layout))) if layout else None


#: Every variable that the role and the playbooks read.
KNOWN = tuple(
    f"docker_firewall_{name}"
    for name in (
        "state zones rules outside_interfaces bridges host_default egress_default containers_to_host_default"
        " routed_default ping log_drops confirm_timeout probes allow_lockout docker_required manage_forwarding table"
        " hosts audit_strict verify_from verify_addresses verify_ports verify_strict verify_timeout verify_retries"
    ).split()
)


def _daemon_warnings(facts: dict[str, t.Any]) -> list[str]:
    daemon = facts.get("daemon_json") or {}
    if not daemon.get("error"):
        return []
    return [f"{daemon.get('path')}: {daemon['error']}; Docker will not start with it"]


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filter by name."""
        return {"policy_plan": policy_plan}
