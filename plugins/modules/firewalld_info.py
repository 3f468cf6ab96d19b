#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewalld_info
short_description: Read firewalld's zones, policies and settings as facts
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Returns the zones and policies of firewalld, permanent and at runtime, its settings, and which of Docker's bridges are
    in Docker's zone.
  - Fails with one sentence where firewalld is not installed, masked, or does not answer.
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes.info
notes:
  - Needs firewalld's Python API on the host, as Debian's C(python3-firewall) has it for C(/usr/bin/python3).
seealso:
  - module: bulkhead.docker_nftables.firewalld_policy
    description: Changes them.
options: {}
"""

EXAMPLES = r"""
- name: Read firewalld
  bulkhead.docker_nftables.firewalld_info:
  register: firewalld

- name: Name the zone of each interface
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.interfaces | join(', ') }}"
  loop: "{{ firewalld.zones | selectattr('interfaces') }}"
"""

RETURN = r"""
version:
  description: The version of firewalld.
  returned: success
  type: str
  sample: 2.3.1
default_zone:
  description: The zone of interfaces that are in no other.
  returned: success
  type: str
  sample: public
zones:
  description: All zones. What is permanent and what is at runtime is in one list each.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
    ours:
      description: Whether it is one of this collection's.
      type: bool
    interfaces:
      description: Interfaces in it, without those that are in the default zone at runtime only.
      type: list
      elements: str
    sources:
      description: Sources in it.
      type: list
      elements: str
    target:
      description: Its permanent target.
      type: str
  sample:
    - name: public
      ours: false
      interfaces: [eth0]
      sources: []
      target: default
policies:
  description: All policies.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
    ours:
      description: Whether it is one of this collection's.
      type: bool
    ingress_zones:
      description: Where packets come from.
      type: list
      elements: str
    egress_zones:
      description: Where they go.
      type: list
      elements: str
    target:
      description: Its permanent target.
      type: str
    opens:
      description: Whether it lets anything in, by its target or by what is in it.
      type: bool
  sample: []
settings:
  description: The settings of C(firewalld.conf) that this release tells.
  returned: success
  type: dict
  sample:
    StrictForwardPorts: "no"
icmp_types:
  description: The names of types of ICMP that it knows.
  returned: success
  type: list
  elements: str
  sample: [echo-request, neighbour-advertisement]
docker_zone:
  description: Docker's own zone at runtime.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether there is one. Docker makes it when it is started while firewalld runs.
      type: bool
    interfaces:
      description: What is in it.
      type: list
      elements: str
    missing:
      description: Bridges of the host with a name that Docker gives, which are not in it.
      type: list
      elements: str
  sample:
    exists: true
    interfaces: [docker0]
    missing: []
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld import Firewalld
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import FirewalldError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    DOCKER_ZONE,
    ZONE,
    Item,
    Seen,
    is_ours,
    plus,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner

_ICMP_TYPES = ("/usr/lib/firewalld/icmptypes", "/etc/firewalld/icmptypes")
_OPENING = ("services", "ports", "source_ports", "protocols", "forward_ports", "rich_rules")


def icmp_types(directories: tuple[str, ...] = _ICMP_TYPES) -> list[str]:
    found: set[str] = set()
    for directory in directories:
        if os.path.isdir(directory):
            found.update(name[:-4] for name in os.listdir(directory) if name.endswith(".xml"))
    return sorted(found)


def _items(seen: Seen, kind: str) -> list[Item]:
    """Zones or policies, each with what either configuration has."""
    names = [key for key in {**seen.permanent, **seen.runtime} if key[0] == kind]
    found = []
    for key in sorted(names):
        permanent, runtime = seen.permanent.get(key, Item(*key)), seen.runtime.get(key, Item(*key))
        first = permanent if key in seen.permanent else runtime
        lists = {
            name: plus(name, permanent.entries(name), runtime.entries(name))
            for name in {**permanent.lists, **runtime.lists}
        }
        if key == (ZONE, seen.default_zone):
            # NetworkManager puts there what nobody bound.
            lists["interfaces"] = permanent.entries("interfaces")
        found.append(Item(kind, key[1], lists, first.scalars))
    return found


def describe(seen: Seen) -> dict[str, Any]:
    return {
        "version": seen.version,
        "default_zone": seen.default_zone,
        "settings": seen.settings,
        "zones": [
            {
                "name": item.name,
                "ours": is_ours(item.name),
                "interfaces": list(item.entries("interfaces")),
                "sources": list(item.entries("sources")),
                "target": item.scalar("target"),
            }
            for item in _items(seen, ZONE)
        ],
        "policies": [
            {
                "name": item.name,
                "ours": is_ours(item.name),
                "ingress_zones": list(item.entries("ingress_zones")),
                "egress_zones": list(item.entries("egress_zones")),
                "target": item.scalar("target"),
                "opens": item.scalar("target") == "ACCEPT" or any(item.entries(key) for key in _OPENING),
            }
            for item in _items(seen, "policy")
        ],
        "docker_zone": {
            "exists": (ZONE, DOCKER_ZONE) in seen.runtime,
            "interfaces": sorted(seen.dockers),
            "missing": [name for name in seen.bridges if name not in seen.dockers],
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="firewalld can be read by root only; use become")
    try:
        seen = Firewalld(Runner()).connect().seen()
    except FirewalldError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, icmp_types=icmp_types(), **describe(seen))


if __name__ == "__main__":
    main()
