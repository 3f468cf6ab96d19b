# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what the Docker API answers into the facts a firewall needs.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import DaemonSettings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding, usable_interface_name

_BRIDGE = "com.docker.network.bridge."
_BACKEND_IN_INFO = (1, 49)
_GATEWAY_MODES = (1, 46)
#: Drivers that put containers on the wire beside the host's own IP hooks.
_UNFILTERED = ("macvlan", "ipvlan")


def api_version(version: dict[str, Any]) -> tuple[int, int]:
    parts = str(version.get("ApiVersion") or "0.0").split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(p.isdigit() for p in parts) else (0, 0)


def read_engine(version: dict[str, Any], info: dict[str, Any], daemon: DaemonSettings) -> dict[str, Any]:
    """The engine; its firewall backend is only in the API since engine 28.1, before it always was iptables."""
    given = info.get("FirewallBackend")
    backend: dict[str, Any] = given if isinstance(given, dict) else {}
    details = {pair[0]: pair[1] for pair in backend.get("Info") or () if isinstance(pair, list) and len(pair) == 2}
    proxy = daemon.effective("userland-proxy", True)
    if details.get("EnableUserlandProxy") in ("true", "false"):
        proxy = details["EnableUserlandProxy"] == "true"
    swarm = info.get("Swarm") or {}
    return {
        "version": info.get("ServerVersion") or version.get("Version"),
        "api_version": version.get("ApiVersion"),
        "firewall_backend": backend.get("Driver") or "iptables",
        "firewall_backend_reported": api_version(version) >= _BACKEND_IN_INFO and bool(backend.get("Driver")),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "swarm": swarm.get("LocalNodeState") or "inactive",
        "userland_proxy": bool(proxy),
        "rootless": any(
            str(option).partition(",")[0] == "name=rootless" for option in info.get("SecurityOptions") or ()
        ),
        "ipv4_forwarding": info.get("IPv4Forwarding"),
    }


def read_networks(answers: list[dict[str, Any]], api: tuple[int, int]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The networks, and what is wrong with them: names come from whoever may create a network."""
    findings: list[Finding] = []
    networks = []
    for answer in answers:
        network = _network(answer, api)
        name = network["name"]
        if network["driver"] == "bridge" and not usable_interface_name(network["bridge"]):
            findings.append(
                Finding(
                    "BAD_BRIDGE_NAME",
                    f"Network {name!r} names its bridge {network['bridge']!r}, which cannot be the name of an "
                    "interface; it is left out of the facts.",
                    f"network {network['id'][:12]}",
                    "Remove the network, or create it again with a bridge name of at most 15 plain characters.",
                )
            )
            network["bridge"] = None
        if network["driver"] in _UNFILTERED:
            findings.append(
                Finding(
                    "UNFILTERED_NETWORK",
                    f"Network {name!r} has the driver {network['driver']}: its containers are on the wire themselves "
                    "and no chain of the host sees their packets.",
                    f"network {network['id'][:12]}",
                    "Use a bridge network for what the host's firewall shall protect.",
                )
            )
        networks.append(network)
    return sorted(networks, key=lambda each: each["name"]), findings


def _network(answer: dict[str, Any], api: tuple[int, int]) -> dict[str, Any]:
    options = answer.get("Options") or {}
    driver = answer.get("Driver")
    is_bridge = driver == "bridge"
    identity = str(answer.get("Id") or "")
    configs = (answer.get("IPAM") or {}).get("Config") or []
    trusted = str(options.get(f"{_BRIDGE}trusted_host_interfaces") or "")
    return {
        "name": str(answer.get("Name") or ""),
        "id": identity,
        "driver": driver,
        "scope": answer.get("Scope"),
        "bridge": options.get(f"{_BRIDGE}name") or f"br-{identity[:12]}" if is_bridge else None,
        "subnets": [config["Subnet"] for config in configs if config.get("Subnet")],
        "gateways": [config["Gateway"] for config in configs if config.get("Gateway")],
        "gateway_mode_ipv4": _gateway_mode(options, "ipv4", api) if is_bridge else None,
        "gateway_mode_ipv6": _gateway_mode(options, "ipv6", api) if is_bridge else None,
        "internal": bool(answer.get("Internal")),
        "icc": str(options.get(f"{_BRIDGE}enable_icc", "true")).lower() in ("true", "1", "t"),
        "ipv6": bool(answer.get("EnableIPv6")),
        "trusted_host_interfaces": [name for name in trusted.split(":") if name],
    }


def _gateway_mode(options: dict[str, Any], family: str, api: tuple[int, int]) -> str:
    """Engines before 27.0 keep the option and do nothing with it."""
    return options.get(f"{_BRIDGE}gateway_mode_{family}") or "nat" if api >= _GATEWAY_MODES else "nat"


def read_containers(
    answers: list[dict[str, Any]], networks: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Published ports, containers in the host's network, and the addresses of all others; running ones only."""
    by_id = {network["id"]: network for network in networks}
    published: list[dict[str, Any]] = []
    host_network: list[dict[str, Any]] = []
    addressed: list[dict[str, Any]] = []
    for answer in sorted(answers, key=_name):
        if not (answer.get("State") or {}).get("Running"):
            continue
        name, identity = _name(answer), str(answer.get("Id") or "")
        mode = str((answer.get("HostConfig") or {}).get("NetworkMode") or "")
        if mode == "host":
            exposed = sorted((answer.get("Config") or {}).get("ExposedPorts") or {}, key=_port_key)
            host_network.append({"name": name, "id": identity, "exposed_ports": exposed})
            continue
        endpoints = _endpoints(answer, by_id)
        addressed.append({"name": name, "id": identity, "network_mode": mode, "networks": endpoints})
        published.extend(_published(answer, name, identity, endpoints, by_id))
    published.sort(key=lambda each: (each["host_port"], each["protocol"], each["container"], each["host_addresses"]))
    return published, host_network, addressed


def _endpoints(answer: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for name, endpoint in sorted(((answer.get("NetworkSettings") or {}).get("Networks") or {}).items()):
        network = by_id.get(str(endpoint.get("NetworkID") or ""), {})
        found.append(
            {
                "network": network.get("name", name),
                "network_id": str(endpoint.get("NetworkID") or ""),
                "bridge": network.get("bridge"),
                "ipv4": endpoint.get("IPAddress") or None,
                "ipv6": endpoint.get("GlobalIPv6Address") or None,
                "gateway_priority": int(endpoint.get("GwPriority") or 0),
            }
        )
    return found


def _published(
    answer: dict[str, Any],
    name: str,
    identity: str,
    endpoints: list[dict[str, Any]],
    by_id: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """One entry per host port, protocol and container port, with all host addresses it is published on."""
    merged: dict[tuple[int, str, int], list[str]] = {}
    for port, bindings in ((answer.get("NetworkSettings") or {}).get("Ports") or {}).items():
        number, _slash, protocol = str(port).partition("/")
        for binding in bindings or ():
            # A routed network opens the container's own address instead and has no host port.
            if number.isdigit() and str(binding.get("HostPort") or "").isdigit():
                key = (int(binding["HostPort"]), protocol or "tcp", int(number))
                merged.setdefault(key, []).append(str(binding.get("HostIp") or "0.0.0.0"))
    endpoint = _gateway_endpoint(endpoints, by_id)
    found = []
    for (host_port, protocol, container_port), given in merged.items():
        addresses = sorted(set(given), key=_address_key)
        targets = [endpoint[family] for family in ("ipv4", "ipv6") if endpoint.get(family)]
        found.append(
            {
                "host_address": addresses[0],
                "host_addresses": addresses,
                "host_port": host_port,
                "protocol": protocol,
                "container": name,
                "container_id": identity,
                "container_address": targets[0] if targets else None,
                "container_addresses": targets,
                "container_port": container_port,
                "network": endpoint.get("network"),
            }
        )
    return found


def _gateway_endpoint(endpoints: list[dict[str, Any]], by_id: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The network a container's ports are published through: the one that is its way out."""

    def order(endpoint: dict[str, Any]) -> tuple[bool, int, bool, str]:
        network = by_id.get(endpoint["network_id"], {})
        both = bool(endpoint["ipv4"] and endpoint["ipv6"])
        return (bool(network.get("internal")), -endpoint["gateway_priority"], not both, endpoint["network"])

    usable = [each for each in endpoints if each["ipv4"] or each["ipv6"]]
    return min(usable, key=order) if usable else {}


def read_swarm_findings(info: dict[str, Any]) -> list[Finding]:
    if (info.get("Swarm") or {}).get("LocalNodeState") not in ("active", "locked"):
        return []
    return [
        Finding(
            "SWARM_PORTS_NOT_LISTED",
            "This node is part of a swarm. Ports of swarm services are published through the ingress network on every "
            "node and are not in the list of published ports.",
            "swarm",
            "Look at `docker service ls` for them; the host-port rules of this collection cover them all the same.",
        )
    ]


def _name(answer: dict[str, Any]) -> str:
    return str(answer.get("Name") or "").lstrip("/")


def _port_key(port: str) -> tuple[int, str]:
    number, _slash, protocol = str(port).partition("/")
    return (int(number) if number.isdigit() else 0, protocol)


def _address_key(text: str) -> tuple[int, int, str]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return (9, 0, text)
    return (address.version, int(address), text)
