#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_firewall_info
short_description: Read what a firewall beside Docker has to know about the host
version_added: 0.1.0
author:
  - The bulkhead contributors (@bulkhead-firewall)
description:
  - Returns Docker's networks with their bridges, the published ports, containers in the host's network, the engine with
    its firewall backend, and the firewall settings of C(daemon.json).
  - Returns the interfaces of the host and the SSH connection the module came through as well, so that no other facts
    are needed to write a policy's rules.
  - Where Docker is missing or does not answer, the module says which in RV(reason) and returns everything it can see
    without Docker.
  - Names and addresses are returned as Docker has them. Whoever may create containers and networks chooses them, so
    treat them as data.
requirements:
  - Docker SDK for Python on the host (Debian package C(python3-docker)) for what Docker has to be asked for
  - iproute2 for addresses and the interface of the SSH connection
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
  - bulkhead.docker_nftables._attributes.info
options:
  required:
    description: Fail when Docker cannot be asked, instead of returning RV(available) as V(false).
    type: bool
    default: false
  docker_host:
    description: Where the Docker daemon listens.
    type: str
    default: unix:///var/run/docker.sock
  daemon_json:
    description:
      - The configuration file of the daemon.
      - Default is the file the running daemon was started with, else C(/etc/docker/daemon.json).
    type: path
  timeout:
    description: Seconds to wait for each answer of the daemon.
    type: int
    default: 30
seealso:
  - module: bulkhead.docker_nftables.nftables_info
"""

EXAMPLES = r"""
- name: Read Docker's part in the firewall
  bulkhead.docker_nftables.docker_firewall_info:
  register: docker

- name: Show every published port and who is behind it
  ansible.builtin.debug:
    msg: >-
      {{ item.host_addresses | join(' ') }} {{ item.host_port }}/{{ item.protocol }}
      is {{ item.container }} port {{ item.container_port }}
  loop: "{{ docker.published }}"

- name: Stop where Docker cannot be asked
  bulkhead.docker_nftables.docker_firewall_info:
    required: true

- name: Name the interfaces that lead out of the host
  ansible.builtin.debug:
    msg: >-
      {{ docker.interfaces | rejectattr('kind', 'eq', 'loopback') | rejectattr('is_bridge') | rejectattr('master')
         | map(attribute='name') }}
"""

RETURN = r"""
available:
  description: Whether Docker answered. When V(false), everything it would have said is empty or V(null).
  returned: success
  type: bool
  sample: true
reason:
  description: One sentence why Docker did not answer.
  returned: success
  type: str
  sample: Docker is not installed on this host
reason_code:
  description:
    - The same as a name that does not change between releases.
    - V(not_installed), V(daemon_unreachable), V(permission_denied), V(sdk_missing) or V(api_error).
  returned: success
  type: str
  sample: not_installed
running:
  description: Whether a dockerd process runs, as its pid file says.
  returned: success
  type: bool
  sample: true
engine:
  description: The engine, V(null) when Docker did not answer.
  returned: success
  type: dict
  contains:
    version:
      description: Version of the engine.
      type: str
    api_version:
      description: Newest version of its API.
      type: str
    firewall_backend:
      description:
        - V(iptables), V(nftables), V(iptables+firewalld) or V(nftables+firewalld).
        - Engines before 28.1 do not say it and always use iptables.
      type: str
    firewall_backend_reported:
      description: Whether the engine itself said it.
      type: bool
    live_restore:
      description: Whether containers go on running while the daemon restarts.
      type: bool
    swarm:
      description: State of the node in a swarm.
      type: str
    userland_proxy:
      description: Whether docker-proxy listens on published ports too.
      type: bool
    rootless:
      description: Whether the engine runs without root, in a network namespace of its own.
      type: bool
    ipv4_forwarding:
      description: Whether the engine sees IPv4 forwarding on.
      type: bool
  sample:
    version: 26.1.5+dfsg1
    api_version: "1.45"
    firewall_backend: iptables
    firewall_backend_reported: false
    live_restore: false
    swarm: inactive
    userland_proxy: true
    rootless: false
    ipv4_forwarding: true
networks:
  description: Docker's networks.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the network.
      type: str
    id:
      description: Its id.
      type: str
    driver:
      description: Its driver.
      type: str
    scope:
      description: V(local), V(swarm) or V(global).
      type: str
    bridge:
      description: The bridge interface; V(null) for other drivers and for names no interface can have.
      type: str
    subnets:
      description: Its prefixes.
      type: list
      elements: str
    gateways:
      description: The host's addresses in it, where Docker says them.
      type: list
      elements: str
    gateway_mode_ipv4:
      description: V(nat), V(nat-unprotected), V(routed) or V(isolated); engines before 27.0 know only V(nat).
      type: str
    gateway_mode_ipv6:
      description: The same for IPv6.
      type: str
    internal:
      description: Whether it has no way out.
      type: bool
    icc:
      description: Whether its containers may talk to each other.
      type: bool
    ipv6:
      description: Whether it has IPv6.
      type: bool
    trusted_host_interfaces:
      description: Interfaces that may reach its containers directly.
      type: list
      elements: str
  sample:
    - name: back
      id: 6b58ed8eb6cb728764a5cbf2b74673aa11b6e3bd7a10d607ed753da9a61e64cd
      driver: bridge
      scope: local
      bridge: br-6b58ed8eb6cb
      subnets: [172.20.0.0/24, "fd00:20::/64"]
      gateways: [172.20.0.1, "fd00:20::1"]
      gateway_mode_ipv4: nat
      gateway_mode_ipv6: nat
      internal: false
      icc: true
      ipv6: true
      trusted_host_interfaces: []
published:
  description:
    - Ports that running containers publish, one entry for each host port, protocol and container port.
    - A port of a container in a routed network is not in it when it has no host port.
  returned: success
  type: list
  elements: dict
  contains:
    host_address:
      description: The first of RV(published[].host_addresses).
      type: str
    host_addresses:
      description: All host addresses it is published on, IPv4 first.
      type: list
      elements: str
    host_port:
      description: The port a client dials.
      type: int
    protocol:
      description: V(tcp), V(udp) or V(sctp).
      type: str
    container:
      description: Name of the container.
      type: str
    container_id:
      description: Id of the container.
      type: str
    container_address:
      description: The first of RV(published[].container_addresses).
      type: str
    container_addresses:
      description: Addresses of the container in RV(published[].network), IPv4 first.
      type: list
      elements: str
    container_port:
      description: The port inside the container.
      type: int
    network:
      description: The network the port is published through.
      type: str
  sample:
    - host_address: 0.0.0.0
      host_addresses: [0.0.0.0, "::"]
      host_port: 8081
      protocol: tcp
      container: web6
      container_id: fbc8fb8073d226012e94bcba67998651ab0a13200d2c5bf33a982b61d7a1337f
      container_address: 172.20.0.2
      container_addresses: [172.20.0.2, "fd00:20::2"]
      container_port: 80
      network: back
host_network_containers:
  description: Running containers in the host's own network; what they listen on are services of the host.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
    id:
      description: Id of the container.
      type: str
    exposed_ports:
      description: Ports its image says it uses.
      type: list
      elements: str
  sample:
    - name: hostnet
      id: 06d5c7d1b2c7f2a6e3a9f8a1b7f0c3c1b5b1f9f1c2d3e4f5a6b7c8d9e0f1a2b3
      exposed_ports: [8888/tcp]
containers_with_addresses:
  description: All other running containers with their addresses.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
    id:
      description: Id of the container.
      type: str
    network_mode:
      description: Its network mode.
      type: str
    networks:
      description: Its place in each network.
      type: list
      elements: dict
      contains:
        network:
          description: Name of the network.
          type: str
        network_id:
          description: Id of the network.
          type: str
        bridge:
          description: The bridge of the network.
          type: str
        ipv4:
          description: IPv4 address.
          type: str
        ipv6:
          description: IPv6 address.
          type: str
        gateway_priority:
          description: Which network is the way out; the highest wins.
          type: int
  sample:
    - name: unpub
      id: 002f7fbb31641db8ac3cd75bd57814fdf5c733542be0d851c6c4a472ef6aeb9d
      network_mode: back
      networks:
        - network: back
          network_id: 6b58ed8eb6cb728764a5cbf2b74673aa11b6e3bd7a10d607ed753da9a61e64cd
          bridge: br-6b58ed8eb6cb
          ipv4: 172.20.0.4
          ipv6: "fd00:20::4"
          gateway_priority: 0
daemon_json:
  description: The daemon's configuration as far as it is about the firewall. Other keys are not returned.
  returned: success
  type: dict
  contains:
    path:
      description: Path of the file.
      type: str
    exists:
      description: Whether it exists.
      type: bool
    valid:
      description: Whether it can be read as JSON; V(true) when it does not exist.
      type: bool
    error:
      description: What is wrong with it, with the line.
      type: str
    settings:
      description: The keys about the firewall that are in it.
      type: dict
    flags:
      description: The same keys as given on the command line of the running daemon.
      type: dict
  sample:
    path: /etc/docker/daemon.json
    exists: true
    valid: true
    error: null
    settings:
      live-restore: true
      userland-proxy: false
    flags:
      hosts: ["fd://"]
interfaces:
  description: Interfaces of the host.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the interface.
      type: str
    kind:
      description: Its kind as iproute2 names it, like V(bridge), V(veth), V(vlan), V(ether) or V(loopback).
      type: str
    up:
      description: Whether it is switched on.
      type: bool
    addresses:
      description: Its addresses with prefix length.
      type: list
      elements: str
    is_bridge:
      description: Whether it is a bridge.
      type: bool
    master:
      description: The bridge or bond it is part of.
      type: str
    docker_bridge:
      description: Whether it is the bridge of a Docker network, or has a name Docker gives to bridges.
      type: bool
  sample:
    - name: eth0
      kind: veth
      up: true
      addresses: [198.51.100.13/24, "2001:db8::13/64"]
      is_bridge: false
      master: null
      docker_bridge: false
ssh_connection:
  description: The SSH connection this module was started through; V(null) when it was started another way.
  returned: success
  type: dict
  contains:
    client_address:
      description: Address of the client.
      type: str
    client_port:
      description: Port of the client.
      type: int
    server_address:
      description: Address of this host it is connected to.
      type: str
    server_port:
      description: Port of this host it is connected to.
      type: int
    interface:
      description: The interface that leads to the client; V(null) when the route cannot be read.
      type: str
  sample:
    client_address: 198.51.100.50
    client_port: 41234
    server_address: 198.51.100.13
    server_port: 22
    interface: eth0
layout:
  description:
    - What the role P(bulkhead.docker_nftables.nftables_conf#role) has chosen for this host, from
      C(/etc/bulkhead/layout.json), with whatever else it remembers there.
    - V(null) on a host without the file, or where it is broken.
  returned: success
  type: dict
  contains:
    layout:
      description: V(own_table) or V(iptables_compat).
      type: str
    table:
      description: Name of the collection's own table.
      type: str
    mark_bit:
      description: The bit of the packet mark that carries the own table's verdict, V(0) where none is needed.
      type: int
  sample:
    layout: iptables_compat
    table: bulkhead
    mark_bit: 268435456
warnings_found:
  description: What is wrong or surprising.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description:
        - A name that does not change between releases.
        - V(BAD_BRIDGE_NAME), a network whose bridge name no interface can have.
        - V(UNFILTERED_NETWORK), a network whose containers pass by the host's chains.
        - V(SWARM_PORTS_NOT_LISTED), the node is in a swarm.
        - V(DAEMON_JSON_BROKEN), the daemon would not start with this file.
        - V(FIREWALL_SWITCHED_OFF), the daemon is told to make no firewall rules.
        - V(IPROUTE2_MISSING), addresses and routes could not be read.
        - V(LAYOUT_BROKEN), C(/etc/bulkhead/layout.json) cannot be used.
      type: str
    severity:
      description: V(error) or V(warning), as in RV(bulkhead.docker_nftables.nftables_info#module:warnings_found).
      type: str
    text:
      description: What was found and what it does.
      type: str
    where:
      description: What it is about.
      type: str
    remedy:
      description: What to do about it.
      type: str
  sample:
    - code: DAEMON_JSON_BROKEN
      severity: warning
      text: >-
        /etc/docker/daemon.json: line 3, column 3: Expecting ',' delimiter (the line is: "icc": false). A daemon that
        runs keeps its settings, but does not start again.
      where: /etc/docker/daemon.json
      remedy: Correct the file before Docker or the host is restarted.
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read import (
    api_version,
    read_containers,
    read_engine,
    read_networks,
    read_swarm_findings,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import (
    DEFAULT_HOST,
    DockerAnswers,
    DockerUnavailable,
    ask_docker,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import (
    DaemonSettings,
    daemon_findings,
    read_daemon_settings,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import (
    docker_presence,
    read_interfaces,
    read_layout,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ssh import read_ssh_connection


def describe_docker(answers: DockerAnswers, daemon: DaemonSettings) -> tuple[dict[str, Any], list[Finding]]:
    networks, findings = read_networks(answers.networks, api_version(answers.version))
    published, host_network, addressed = read_containers(answers.containers, networks)
    facts = {
        "engine": read_engine(answers.version, answers.info, daemon),
        "networks": networks,
        "published": published,
        "host_network_containers": host_network,
        "containers_with_addresses": addressed,
    }
    return facts, [*findings, *read_swarm_findings(answers.info)]


def gather(runner: Runner, docker_host: str, daemon_json: str | None, timeout: int) -> dict[str, Any]:
    interfaces = read_interfaces(runner)
    presence = docker_presence(interfaces)
    daemon = read_daemon_settings(daemon_json, presence.arguments)
    layout, broken = read_layout()
    findings = [*daemon_findings(daemon), *broken]
    if runner.find("ip") is None:
        findings.append(
            Finding(
                "IPROUTE2_MISSING",
                "The program ip is missing: interfaces are returned without addresses.",
                "interfaces",
                "Install the package iproute2.",
            )
        )
    facts: dict[str, Any] = {
        "available": True,
        "reason": None,
        "reason_code": None,
        "engine": None,
        "networks": [],
        "published": [],
        "host_network_containers": [],
        "containers_with_addresses": [],
    }
    try:
        docker_facts, docker_findings = describe_docker(ask_docker(runner, docker_host, timeout), daemon)
        facts.update(docker_facts)
        findings.extend(docker_findings)
    except DockerUnavailable as exc:
        facts.update(available=False, reason=str(exc), reason_code=exc.code)
    bridges = {network["bridge"] for network in facts["networks"] if network["bridge"]}
    return {
        **facts,
        "running": presence.running or facts["available"],
        "daemon_json": daemon.as_dict(),
        "interfaces": [replace(each, of_docker=each.name in bridges).as_dict() for each in interfaces],
        "ssh_connection": read_ssh_connection(runner),
        "layout": None if layout is None else layout.as_dict(),
        "warnings_found": [finding.as_dict() for finding in findings],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "required": {"type": "bool", "default": False},
            "docker_host": {"type": "str", "default": DEFAULT_HOST},
            "daemon_json": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    facts = gather(Runner(), module.params["docker_host"], module.params["daemon_json"], module.params["timeout"])
    if module.params["required"] and not facts["available"]:
        module.fail_json(msg=f"Docker cannot be asked: {facts['reason']}", **facts)
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
