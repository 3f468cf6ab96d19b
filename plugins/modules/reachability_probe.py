#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reachability_probe
short_description: Try addresses and ports from this host and say what came back
version_added: 0.1.0
author:
  - The bulkhead contributors (@bulkhead-firewall)
description:
  - Sends packets from the host it runs on to each of O(targets), all side by side, and returns what came back. It starts
    no program and changes nothing.
  - What came back is a fact; whether it is what a policy wants is for the playbook
    C(bulkhead.docker_nftables.verify) to say.
  - Several hundred targets take about as long as O(timeout) times one more than O(retries).
requirements:
  - Linux and Python 3.8 or later; root only for targets with protocol V(icmp)
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
    details:
      - Packets are sent in check mode too, because they change nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - It never reports a change.
options:
  targets:
    description: What to try.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: An IPv4 or IPv6 address; names are not resolved.
        type: str
        required: true
      protocol:
        description:
          - V(tcp) opens a connection and closes it again.
          - V(udp) sends a datagram - a DNS query to port 53, an NTP request to port 123, a short text to any other.
          - V(icmp) sends an echo request (ping); it needs root.
        type: str
        choices: [tcp, udp, icmp]
        default: tcp
      port:
        description: The port; not used with V(icmp), needed otherwise.
        type: int
  timeout:
    description: Seconds to wait for an answer, from 0.1 to 60.
    type: float
    default: 2
  retries:
    description: How often a target that nothing came back from is tried again, from 0 to 10.
    type: int
    default: 1
notes:
  - A Linux host sends a client only about one ICMP error a second after a burst of six. Of many UDP ports without a
    service only the first few therefore come back as V(refused), the others as V(timeout).
seealso:
  - module: bulkhead.docker_nftables.docker_firewall_info
  - module: ansible.builtin.wait_for
"""

EXAMPLES = r"""
- name: Try three things on a neighbour
  bulkhead.docker_nftables.reachability_probe:
    targets:
      - {address: 198.51.100.11, port: 443}
      - {address: "2001:db8::11", port: 53, protocol: udp}
      - {address: 198.51.100.11, protocol: icmp}
  register: probe

- name: Show which TCP and UDP ports answered
  ansible.builtin.debug:
    msg: >-
      {{ probe.probed | selectattr('result', 'eq', 'open') | rejectattr('protocol', 'eq', 'icmp')
         | map(attribute='port') }}

- name: Make sure that a database is closed, with a shorter wait
  bulkhead.docker_nftables.reachability_probe:
    targets: [{address: 198.51.100.11, port: 5432}]
    timeout: 0.5
  register: database
  failed_when: database.probed[0].result != 'timeout'
"""

RETURN = r"""
probed:
  description: One entry for each of O(targets), in their order.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      type: str
    protocol:
      description: The protocol.
      type: str
    port:
      description: The port; V(0) with V(icmp).
      type: int
    result:
      description:
        - V(open) when an answer came.
        - V(refused) when a TCP reset or ICMP port unreachable came - the packet passed and nobody listens, or a firewall
          rejected it.
        - V(timeout) when nothing came.
        - V(unreachable) when another ICMP error came.
        - V(error) when nothing could be sent, for example without a route.
      type: str
    detail:
      description: The error's name, and which attempt succeeded when it was not the first.
      type: str
    source_address:
      description: The address the packets were sent from; V(null) when none were.
      type: str
  sample:
    - address: 198.51.100.11
      protocol: tcp
      port: 443
      result: open
      detail: ""
      source_address: 198.51.100.50
counts:
  description: How often each result came.
  returned: success
  type: dict
  sample: {open: 3, refused: 0, timeout: 40, unreachable: 0, error: 0}
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 4.1
"""

import ipaddress
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._probe import PROTOCOLS, Target, probe

OUTCOMES = ("open", "refused", "timeout", "unreachable", "error")


def _targets(items: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[list[Target], list[str]]:
    """Read the targets; gives them, and a sentence for each mistake."""
    targets, errors = [], []
    for position, item in enumerate(items):
        where = f"targets[{position}]"
        try:
            address = str(ipaddress.ip_address(item["address"]))
        except ValueError:
            errors.append(f"{where}.address: '{item['address']}' is not an IPv4 or IPv6 address")
            continue
        port = item["port"]
        if item["protocol"] == "icmp":
            port = 0
        elif port is None or not 1 <= port <= 65535:
            errors.append(f"{where}.port: {item['protocol']} needs a port from 1 to 65535, not {port}")
            continue
        targets.append(Target(address, item["protocol"], port))
    return targets, errors


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "targets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "address": {"type": "str", "required": True},
                    "protocol": {"type": "str", "default": "tcp", "choices": list(PROTOCOLS)},
                    "port": {"type": "int"},
                },
            },
            "timeout": {"type": "float", "default": 2},
            "retries": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    params = module.params
    targets, errors = _targets(params["targets"])
    if not 0.1 <= params["timeout"] <= 60:
        errors.append(f"timeout: {params['timeout']} is not from 0.1 to 60 seconds")
    if not 0 <= params["retries"] <= 10:
        errors.append(f"retries: {params['retries']} is not from 0 to 10")
    if errors:
        module.fail_json(msg="Nothing was sent. " + "; ".join(errors))

    started = time.monotonic()
    results = probe(targets, params["timeout"], params["retries"])
    counts = dict.fromkeys(OUTCOMES, 0)
    for result in results:
        counts[result.outcome] += 1
    module.exit_json(
        changed=False,
        probed=[
            {
                "address": result.target.address,
                "protocol": result.target.protocol,
                "port": result.target.port,
                "result": result.outcome,
                "detail": result.detail,
                "source_address": result.source_address,
            }
            for result in results
        ],
        counts=counts,
        seconds=round(time.monotonic() - started, 3),
    )


if __name__ == "__main__":
    main()
