# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who made a table, and in which order the kernel runs base chains.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Ruleset, Table

IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
IPTABLES_FAMILIES = ("ip", "ip6")

_DOCKER_TABLES = ("docker-bridges", "docker-dns", "docker-overlay")
_OWNERS = {
    ("inet", "bulkhead"): "bulkhead",
    ("inet", "firewalld"): "firewalld",
    ("ip", "firewalld"): "firewalld",
    ("ip6", "firewalld"): "firewalld",
    ("ip", "libvirt_network"): "libvirt",
    ("ip6", "libvirt_network"): "libvirt",
    ("inet", "netavark"): "podman",
    ("inet", "f2b-table"): "fail2ban",
    ("bridge", "filter"): "iptables-nft",
    ("bridge", "nat"): "iptables-nft",
    ("arp", "filter"): "iptables-nft",
}
_CHAIN_PREFIXES = (
    ("DOCKER", "docker"),
    ("ufw", "ufw"),
    ("LIBVIRT_", "libvirt"),
    ("KUBE-", "kubernetes"),
    ("ts-", "tailscale"),
    ("f2b-", "fail2ban"),
    ("NETAVARK", "podman"),
)

#: Which tables share the list of base chains of a hook.
_GROUPS = {"ip": ("ip", "inet"), "ip6": ("ip6", "inet"), "arp": ("arp",), "bridge": ("bridge",), "netdev": ("netdev",)}
_HOOKS = ("ingress", "prerouting", "input", "forward", "output", "postrouting", "egress")
#: Chains of type nat are called by the NAT core, at its own place in the hook.
_NAT_CORE = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}


def owner_of(table: Table) -> str:
    """Which program manages a table, as far as its name tells."""
    if table.family in IPTABLES_FAMILIES:
        if table.name in _DOCKER_TABLES:
            return "docker"
        if table.name in IPTABLES_TABLES:
            return "iptables-nft"
    if table.family == "inet" and table.name.startswith("firewalld_policy_"):
        return "firewalld"
    return _OWNERS.get((table.family, table.name), "other")


def used_by(table: Table) -> list[str]:
    """Programs that keep chains of their own in a table."""
    found = {who for chain in table.chains for prefix, who in _CHAIN_PREFIXES if chain.name.startswith(prefix)}
    return sorted(found)


def hooks_in_order(ruleset: Ruleset) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All base chains by family group and hook, first run first.

    IPv4 packets meet the chains of ip and inet tables in one list, IPv6 packets those of ip6 and inet tables.
    Where two chains have the same priority the kernel promises no order: `order_certain` is False on both.
    """
    result: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group, families in _GROUPS.items():
        for hook in _HOOKS:
            chains = [
                (table, chain)
                for table in ruleset.tables
                for chain in table.chains
                if chain.hook == hook and _in_group(table, chain, group, families)
            ]
            if chains:
                result.setdefault(group, {})[hook] = _ordered(chains)
    return result


def _in_group(table: Table, chain: Chain, group: str, families: tuple[str, ...]) -> bool:
    if table.family == "inet" and chain.hook in ("ingress", "egress"):
        return group == "netdev"
    return table.family in families


def _ordered(chains: list[tuple[Table, Chain]]) -> list[dict[str, Any]]:
    keys = [_run_key(chain) for _table, chain in chains]
    entries = []
    for (table, chain), key in sorted(zip(chains, keys), key=lambda pair: pair[1]):
        entries.append(
            {
                "family": table.family,
                "table": table.name,
                "chain": chain.name,
                "type": chain.type,
                "priority": chain.priority,
                "runs_at": key[0],
                "policy": chain.policy,
                "devices": list(chain.devices),
                "order_certain": sum(1 for other in keys if _tied(key, other)) == 1,
            }
        )
    return entries


def _run_key(chain: Chain) -> tuple[int, int, int]:
    own = chain.priority or 0
    if chain.type == "nat" and chain.hook in _NAT_CORE:
        return (_NAT_CORE[chain.hook], 1, own)
    return (own, 0, 0)


def _tied(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Two nat chains are ordered by their own priority; a nat chain and a filter chain only by where they run."""
    return one[0] == other[0] and (one[1] != other[1] or one[2] == other[2])
