#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewalld_policy
short_description: Zones, policies and settings of firewalld in one step, permanently and at runtime
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Takes all zones, policies and settings that a host is to have from this collection, compares them with what firewalld
    has permanently and at runtime, and changes what differs in both.
  - Zones and policies whose name begins with V(bulkhead-) belong to this module. They are made exactly as given, and those
    that are not given any more are removed.
  - All other zones and policies belong to somebody else. There the module adds what is given, removes what is named in
    C(absent), and remembers both in C(/etc/bulkhead/firewalld.json), so that a later run without them puts it back.
  - Everything is checked before anything changes. If firewalld refuses a change nevertheless, all changes are put back.
  - Docker's zone V(docker), its policy V(docker-forwarding) and its bridges are never touched.
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  zones:
    description:
      - The zones that the module has something to say of.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The zone's name. Behind V(bulkhead-) it is a new one, at most 17 characters in all (96 from firewalld 2.5 on);
            any other has to exist.
        type: str
        required: true
      target:
        description:
          - What happens to packets that nothing in the zone names. Needs a reload.
          - V(default) for a new zone.
        type: str
        choices: [default, ACCEPT, DROP, REJECT]
      interfaces:
        description:
          - Interfaces in this zone. One can be in one zone only; a bridge of Docker's is refused.
          - An interface that is in the default zone at runtime only, as NetworkManager does it, is moved from there.
        type: list
        elements: str
      sources:
        description: Addresses, networks, MAC addresses, and V(ipset:NAME), in this zone.
        type: list
        elements: str
      services:
        description: Services of firewalld that are open.
        type: list
        elements: str
      ports:
        description: Open ports, such as V(443/tcp) or V(6000-6010/udp).
        type: list
        elements: str
      source_ports:
        description: Ports from which everything is open.
        type: list
        elements: str
      protocols:
        description: Open protocols by name or number.
        type: list
        elements: str
      forward_ports:
        description:
          - Forwarded ports in the form of C(firewall-cmd), such as V(port=8080:proto=tcp:toport=80:toaddr=192.0.2.10).
        type: list
        elements: str
      rich_rules:
        description: Rules in firewalld's rich language.
        type: list
        elements: str
      forward:
        description: Whether packets go between the interfaces of this zone. V(false) for a new zone.
        type: bool
      masquerade:
        description: Whether what leaves by this zone gets the host's address. V(false) for a new zone.
        type: bool
      exclusive:
        description:
          - Whether the lists that are given here are to hold nothing else, in a zone of somebody else's. Lists that are
            not given are left alone.
          - A zone whose name begins with V(bulkhead-) always has only what is given.
        type: bool
        default: false
      absent:
        description: What is to be taken out of a zone of somebody else's, for as long as it is named here.
        type: dict
        suboptions:
          interfaces:
            description: Interfaces.
            type: list
            elements: str
          sources:
            description: Sources.
            type: list
            elements: str
          services:
            description: Services, such as V(ssh), which is open in most of the distribution's zones.
            type: list
            elements: str
          ports:
            description: Ports; a part of a range splits it.
            type: list
            elements: str
          source_ports:
            description: Source ports.
            type: list
            elements: str
          protocols:
            description: Protocols.
            type: list
            elements: str
          forward_ports:
            description: Forwarded ports.
            type: list
            elements: str
          rich_rules:
            description: Rich rules.
            type: list
            elements: str
  policies:
    description:
      - The policies, which are about packets from some zones to others.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The policy's name. Behind V(bulkhead-) it is a new one, at most 18 characters in all (128 from firewalld 2.5 on);
            any other has to exist.
        type: str
        required: true
      ingress_zones:
        description: Where packets come from, names of zones, or alone V(HOST) or V(ANY).
        type: list
        elements: str
      egress_zones:
        description: Where packets go, names of zones, or alone V(HOST) or V(ANY).
        type: list
        elements: str
      target:
        description:
          - What happens to packets that nothing in the policy names. Needs a reload.
          - V(CONTINUE) for a new policy.
        type: str
        choices: [CONTINUE, ACCEPT, DROP, REJECT]
      priority:
        description:
          - From V(-32768) to V(32767), but not V(0). Below it a policy comes before the zones. Needs a reload.
          - V(-1) for a new policy.
        type: int
      services:
        description: Services that are let through.
        type: list
        elements: str
      ports:
        description: Ports that are let through.
        type: list
        elements: str
      source_ports:
        description: Ports from which everything is let through.
        type: list
        elements: str
      protocols:
        description: Protocols that are let through.
        type: list
        elements: str
      forward_ports:
        description: Forwarded ports.
        type: list
        elements: str
      rich_rules:
        description: Rules in firewalld's rich language.
        type: list
        elements: str
      masquerade:
        description: Whether packets get the host's address. V(false) for a new policy.
        type: bool
      exclusive:
        description: As O(zones[].exclusive).
        type: bool
        default: false
      absent:
        description: As O(zones[].absent), for a policy.
        type: dict
        suboptions:
          ingress_zones:
            description: Zones from which packets come.
            type: list
            elements: str
          egress_zones:
            description: Zones to which they go.
            type: list
            elements: str
          services:
            description: Services.
            type: list
            elements: str
          ports:
            description: Ports; a part of a range splits it.
            type: list
            elements: str
          source_ports:
            description: Source ports.
            type: list
            elements: str
          protocols:
            description: Protocols.
            type: list
            elements: str
          forward_ports:
            description: Forwarded ports.
            type: list
            elements: str
          rich_rules:
            description: Rich rules.
            type: list
            elements: str
  settings:
    description:
      - Settings of C(/etc/firewalld/firewalld.conf), as they are called there, with V(yes), V(no) or a word. They need a
        reload.
      - Accepted are C(StrictForwardPorts) and C(NftablesCounters) (from firewalld 2.3 on), C(NftablesTableOwner) (2.2),
        C(LogDenied), C(FlushAllOnReload), C(IPv6_rpfilter), C(RFC3964_IPv4), C(IndividualCalls), C(CleanupOnExit) and
        C(CleanupModulesOnExit).
      - C(IPv6_rpfilter) can be V(strict), V(loose), V(strict-forward) or V(loose-forward) where firewalld knows these words.
      - What a setting was before is put back by a run that does not name it any more.
    type: dict
    default: {}
  reload:
    description:
      - V(auto) reloads firewalld where nothing else makes a change effective, which is for new and removed zones and
        policies, their targets and priorities, and settings.
      - V(never) changes at runtime what it can, and says in RV(reload_needed) that the rest is permanent only.
      - A reload takes away what others have at runtime only, which is told in a warning, and before firewalld 2.0 wipes
        Docker's rules, which Docker then puts back.
    type: str
    default: auto
    choices: [auto, never]
  state:
    description:
      - V(absent) takes away all zones and policies of this module's, and puts back what it changed in others and in the
        settings. No zones, policies and settings can be given with it.
    type: str
    default: present
    choices: [present, absent]
notes:
  - Needs firewalld's Python API on the host, as Debian's C(python3-firewall) has it for C(/usr/bin/python3).
  - firewalld lets published ports of containers through before it looks at zones and policies. What restricts those is
    this collection's own table, or C(StrictForwardPorts).
  - The module does not look whether the connection of Ansible itself goes on. Connections that are established do.
seealso:
  - module: bulkhead.docker_nftables.docker_rules
    description: Waits for Docker's rules, and puts them back where Docker did not.
  - module: ansible.posix.firewalld
    description: One setting for each task, without policies.
"""

EXAMPLES = r"""
- name: SSH from the office only, and containers reach nothing of the host but its DNS
  bulkhead.docker_nftables.firewalld_policy:
    zones:
      - name: public
        absent:
          services: [ssh]
      - name: bulkhead-office
        sources: [192.0.2.0/24, 2001:db8:1::/64]
        services: [ssh]
    policies:
      - name: bulkhead-to-host
        ingress_zones: [docker]
        egress_zones: [HOST]
        target: DROP
        services: [dns]

- name: Refuse published ports that no forward-port names
  bulkhead.docker_nftables.firewalld_policy:
    settings:
      StrictForwardPorts: true

- name: Take all of it back
  bulkhead.docker_nftables.firewalld_policy:
    state: absent
"""

RETURN = r"""
operations:
  description: What was changed, or would be in check mode, entry by entry.
  returned: success
  type: list
  elements: dict
  contains:
    scope:
      description: V(permanent) or V(runtime).
      type: str
    kind:
      description: V(zone), V(policy), V(setting) or V(firewalld).
      type: str
    name:
      description: The name of it.
      type: str
    action:
      description: V(create), V(remove), V(add), V(drop), V(set) or V(reload).
      type: str
    key:
      description: The list or the value that changes, as the module's options are called.
      type: str
    value:
      description: The entry, or the value it gets.
      type: str
  sample:
    - scope: permanent
      kind: zone
      name: public
      action: drop
      key: services
      value: ssh
reloaded:
  description: Whether firewalld was reloaded, or would be in check mode.
  returned: success
  type: bool
  sample: true
reload_needed:
  description: Whether something waits for a reload. Only with O(reload=never).
  returned: success
  type: bool
  sample: false
reload_reasons:
  description: Why a reload is needed.
  returned: success
  type: list
  elements: str
  sample: [zone bulkhead-office is new]
firewalld_version:
  description: The version of firewalld.
  returned: success
  type: str
  sample: 2.3.1
docker_zone:
  description: Docker's own zone at runtime, in the end.
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
      description: Bridges of the host with a name that Docker gives, which are not in it. Old Docker leaves out internal networks.
      type: list
      elements: str
  sample:
    exists: true
    interfaces: [docker0]
    missing: []
errors:
  description: All mistakes of the task, each as a sentence.
  returned: when the task cannot be done as it is given
  type: list
  elements: str
  sample: ["zones[0] (public).services: 'sssh' is not accepted; there is no such service; did you mean ssh?"]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld import Firewalld
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import (
    Apply,
    FirewalldError,
    Mistakes,
    Outcome,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    DOCKER_ZONE,
    LISTS,
    POLICY,
    TARGETS,
    ZONE,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_plan import (
    PERMANENT,
    RUNTIME,
    difference,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner


def _item_options(kind: str) -> dict[str, Any]:
    lists: dict[str, Any] = {key: {"type": "list", "elements": "str"} for key in LISTS[kind]}
    return {
        "name": {"type": "str", "required": True},
        "target": {"type": "str", "choices": list(TARGETS[kind])},
        **lists,
        **({"forward": {"type": "bool"}} if kind == ZONE else {"priority": {"type": "int"}}),
        "masquerade": {"type": "bool"},
        "exclusive": {"type": "bool", "default": False},
        "absent": {"type": "dict", "options": lists},
    }


def _argument_spec() -> dict[str, Any]:
    return {
        "zones": {"type": "list", "elements": "dict", "default": [], "options": _item_options(ZONE)},
        "policies": {"type": "list", "elements": "dict", "default": [], "options": _item_options(POLICY)},
        "settings": {"type": "dict", "default": {}},
        "reload": {"type": "str", "default": "auto", "choices": ["auto", "never"]},
        "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    }


def _diff(outcome: Outcome) -> list[dict[str, str]]:
    parts = []
    for scope, header in ((PERMANENT, "firewalld, permanent"), (RUNTIME, "firewalld, runtime")):
        before, after = difference(outcome.plan, outcome.seen, scope)
        if before != after:
            parts.append({"before_header": header, "after_header": header, "before": before, "after": after})
    return parts


def _result(outcome: Outcome, may_reload: bool) -> dict[str, Any]:
    plan, seen = outcome.plan, outcome.seen
    exists = (ZONE, DOCKER_ZONE) in seen.runtime
    return {
        "changed": bool(plan.operations),
        "diff": _diff(outcome),
        "operations": [operation._asdict() for operation in plan.operations],
        "reloaded": bool(plan.reload) and may_reload,
        "reload_needed": bool(plan.reload) and not may_reload,
        "reload_reasons": plan.reload,
        "firewalld_version": seen.version,
        "docker_zone": {
            "exists": exists,
            "interfaces": sorted(outcome.dockers),
            "missing": [name for name in seen.bridges if name not in outcome.dockers],
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec=_argument_spec(), supports_check_mode=True)
    params = module.params
    if os.geteuid() != 0:
        module.fail_json(msg="firewalld can be changed by root only; use become")
    given = [name for name in ("zones", "policies", "settings") if params[name]]
    if params["state"] == "absent" and given:
        module.fail_json(msg=f"{' and '.join(given)}: cannot be given with state=absent, which takes all of it away")
    may_reload = params["reload"] == "auto"
    try:
        outcome = Apply(Firewalld(Runner()).connect(), may_reload).run(params, module.check_mode)
    except Mistakes as exc:
        count = "is 1 mistake" if len(exc.errors) == 1 else f"are {len(exc.errors)} mistakes"
        listed = "\n".join(f"- {error}" for error in exc.errors)
        module.fail_json(msg=f"firewalld was not changed, there {count}:\n{listed}", errors=exc.errors)
    except FirewalldError as exc:
        module.fail_json(msg=str(exc))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**_result(outcome, may_reload))


if __name__ == "__main__":
    main()
