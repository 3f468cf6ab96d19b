#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_info
short_description: Read the loaded nftables ruleset as facts
version_added: 0.1.0
author:
  - The bulkhead contributors (@bulkhead-firewall)
description:
  - Returns the tables of the host with the program that manages each of them, the base chains of every hook in the
    order the kernel runs them, the named sets, and the rules with their text and handle.
  - Warns of what makes a firewall beside Docker do something else than it says, see RV(warnings_found).
  - Works with rules made by nft and by iptables-nft. The arguments of rules made by iptables are only in their text.
requirements:
  - nft 0.9.3 or newer with JSON support, as every supported distribution ships it
  - root
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
  - bulkhead.docker_nftables._attributes.info
options:
  tables:
    description:
      - Return only these tables, each as family and name with a blank between them.
      - RV(hooks) and RV(warnings_found) are always about the whole ruleset.
      - Default is all tables.
    type: list
    elements: str
  rules:
    description: Whether to return the rules of each chain.
    type: bool
    default: true
  elements:
    description:
      - Whether to return the elements of named sets and maps.
      - A set can have tens of thousands of them.
    type: bool
    default: false
seealso:
  - module: bulkhead.docker_nftables.docker_firewall_info
"""

EXAMPLES = r"""
- name: Read the ruleset
  bulkhead.docker_nftables.nftables_info:
  register: ruleset

- name: Refuse to go on where the firewall does not do what it says
  ansible.builtin.assert:
    that: ruleset.warnings_found | length == 0
    fail_msg: "{{ ruleset.warnings_found | map(attribute='text') | join('\n') }}"

- name: Show what runs for a forwarded IPv4 packet, first to last
  ansible.builtin.debug:
    msg: "{{ item.priority }} {{ item.family }} {{ item.table }} {{ item.chain }} (policy {{ item.policy }})"
  loop: "{{ ruleset.hooks.ip.forward | default([]) }}"

- name: Read one table with the elements of its sets
  bulkhead.docker_nftables.nftables_info:
    tables:
      - inet bulkhead
    elements: true
"""

RETURN = r"""
nft_version:
  description: The version of nft on the host.
  returned: success
  type: str
  sample: 1.0.6
tables:
  description: The tables in the order of the listing.
  returned: success
  type: list
  elements: dict
  contains:
    family:
      description: The address family.
      type: str
      sample: ip
    name:
      description: The name.
      type: str
      sample: nat
    owner:
      description:
        - The program that manages the table, as far as its family and name tell.
        - V(docker), V(iptables-nft) (a table that iptables tools manage, whoever made it), V(firewalld), V(bulkhead),
          V(libvirt), V(podman), V(fail2ban) or V(other).
      type: str
      sample: iptables-nft
    used_by:
      description: Programs that keep chains of their own in the table, known by their chain names.
      type: list
      elements: str
      sample: [docker]
    flags:
      description: The flags of the table.
      type: list
      elements: str
      sample: []
    rule_count:
      description: How many rules the table has.
      type: int
      sample: 2
    chains:
      description: The chains; RV(tables[].chains[].hook) is V(null) for all that are no base chain.
      type: list
      elements: dict
      contains:
        name:
          description: The name.
          type: str
        handle:
          description: The handle.
          type: int
        type:
          description: V(filter), V(nat) or V(route).
          type: str
        hook:
          description: The hook.
          type: str
        priority:
          description: The priority as a number.
          type: int
        policy:
          description: The policy.
          type: str
        devices:
          description: Devices of a chain at the ingress or egress hook.
          type: list
          elements: str
        rule_count:
          description: How many rules the chain has.
          type: int
        rules:
          description: The rules in order.
          returned: O(rules=true)
          type: list
          elements: dict
          contains:
            handle:
              description: The handle, unique in its table.
              type: int
            text:
              description: The rule as nft lists it, without counters; V(null) when it changed while it was read.
              type: str
            comment:
              description: The comment of a rule made by nft.
              type: str
      sample:
        - name: PREROUTING
          handle: 1
          type: nat
          hook: prerouting
          priority: -100
          policy: accept
          devices: []
          rule_count: 1
          rules:
            - handle: 2
              text: fib daddr type local counter jump DOCKER
              comment: null
        - name: DOCKER
          handle: 3
          type: null
          hook: null
          priority: null
          policy: null
          devices: []
          rule_count: 1
          rules:
            - handle: 4
              text: iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80
              comment: null
    sets:
      description: The named sets and maps.
      type: list
      elements: dict
      contains:
        name:
          description: The name.
          type: str
        kind:
          description: V(set) or V(map).
          type: str
        type:
          description: The type of its keys.
          type: str
        data_type:
          description: The type of what a map maps to.
          type: str
        flags:
          description: The flags.
          type: list
          elements: str
        size:
          description: The size limit, V(null) when it has none.
          type: int
        elements:
          description: The elements in nft's JSON form.
          returned: O(elements=true)
          type: list
          elements: raw
      sample:
        - name: published4
          kind: set
          type: inet_proto . inet_service
          data_type: null
          flags: [interval]
          size: null
hooks:
  description:
    - The base chains by family group and hook, in the order the kernel runs them.
    - Family groups are V(ip) (chains of ip and inet tables), V(ip6) (ip6 and inet), V(arp), V(bridge) and V(netdev).
    - Groups and hooks without chains are left out.
  returned: success
  type: dict
  contains:
    ip:
      description: As an example, what IPv4 packets meet. The other groups look the same.
      returned: when there is such a chain
      type: dict
      contains:
        prerouting:
          description: As an example, the chains at the prerouting hook. The other hooks look the same.
          returned: when there is such a chain
          type: list
          elements: dict
          contains:
            family:
              description: Family of the table.
              type: str
            table:
              description: Name of the table.
              type: str
            chain:
              description: Name of the chain.
              type: str
            type:
              description: Type of the chain.
              type: str
            priority:
              description: The chain's own priority.
              type: int
            runs_at:
              description:
                - The priority at which it really runs.
                - Chains of type nat run where the kernel's NAT is (V(-100) or V(100)); their own priority only orders
                  them among themselves.
              type: int
            policy:
              description: The policy.
              type: str
            devices:
              description: Devices of a chain at the ingress or egress hook.
              type: list
              elements: str
            order_certain:
              description:
                - V(false) when another chain has the same place.
                - The kernel defines no order for them.
              type: bool
  sample:
    ip:
      prerouting:
        - family: inet
          table: bulkhead
          chain: prerouting
          type: filter
          priority: -110
          runs_at: -110
          policy: accept
          devices: []
          order_certain: true
        - family: ip
          table: nat
          chain: PREROUTING
          type: nat
          priority: -100
          runs_at: -100
          policy: accept
          devices: []
          order_certain: true
legacy_tables:
  description: Tables of the old xtables that exist in the kernel beside nftables.
  returned: success
  type: dict
  contains:
    ipv4:
      description: Names for IPv4.
      type: list
      elements: str
    ipv6:
      description: Names for IPv6.
      type: list
      elements: str
  sample:
    ipv4: []
    ipv6: []
warnings_found:
  description: What is wrong or surprising in the ruleset.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description:
        - A name that does not change between releases.
        - V(FOREIGN_PRIORITY), a base chain in a table of iptables that has not the name, type or priority of iptables.
        - V(UNREADABLE_BY_IPTABLES), rules in a chain of iptables that iptables tools refuse or misread.
        - V(DUPLICATE_RULES), the same rule more than once in a chain.
        - V(LEGACY_XTABLES), rules of the old xtables that nft does not show.
        - V(FORWARD_DROP_CUTS_DOCKER), a forward chain that drops the traffic of Docker's bridges.
        - V(DOCKER_RULES_MISSING), Docker runs and its rules are gone.
        - V(NFT_TOO_OLD), this nft can be read but cannot load the table of this collection.
      type: str
    text:
      description: What was found and what it does.
      type: str
    where:
      description: The table and chain, with handles where rules are meant.
      type: str
    remedy:
      description: What to do about it.
      type: str
  sample:
    - code: FOREIGN_PRIORITY
      text: >-
        Base chain INPUT of table ip filter is not the one iptables uses: priority -450 instead of 0. iptables tools and
        Docker do not see it, they make a chain of their own beside it or refuse the table; both chains then filter.
      where: ip filter INPUT
      remedy: >-
        Keep own chains in a table of your own name, or give this one the name, type and priority iptables expects
        (chain INPUT: type filter hook input priority 0).
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import read_daemon_settings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, RulesetError, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_hooks import (
    hooks_in_order,
    owner_of,
    used_by,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_warnings import find_all
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import Finding
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import (
    docker_presence,
    legacy_table_names,
    read_interfaces,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import (
    NEEDS_FOR_OWN_TABLE,
    dotted,
    read_nft_version,
    read_ruleset,
)


def describe_table(table: Table, rules: bool, elements: bool) -> dict[str, Any]:
    return {
        "family": table.family,
        "name": table.name,
        "owner": owner_of(table),
        "used_by": used_by(table),
        "flags": list(table.flags),
        "rule_count": sum(len(chain.rules) for chain in table.chains),
        "chains": [describe_chain(chain, rules) for chain in table.chains],
        "sets": [
            {
                "name": each.name,
                "kind": each.kind,
                "type": each.type,
                "data_type": each.data_type,
                "flags": list(each.flags),
                "size": each.size,
                **({"elements": list(each.elements or ())} if elements else {}),
            }
            for each in table.sets
        ],
    }


def describe_chain(chain: Chain, rules: bool) -> dict[str, Any]:
    listed = [{"handle": rule.handle, "text": rule.text, "comment": rule.comment} for rule in chain.rules]
    return {
        "name": chain.name,
        "handle": chain.handle,
        "type": chain.type,
        "hook": chain.hook,
        "priority": chain.priority,
        "policy": chain.policy,
        "devices": list(chain.devices),
        "rule_count": len(chain.rules),
        **({"rules": listed} if rules else {}),
    }


def gather(runner: Runner, tables: list[str] | None, rules: bool, elements: bool) -> dict[str, Any]:
    version = read_nft_version(runner)
    ruleset = read_ruleset(runner, elements)
    wanted = None if tables is None else {" ".join(label.split()) for label in tables}
    presence = docker_presence(read_interfaces(runner))
    legacy4, legacy6 = legacy_table_names()
    daemon = read_daemon_settings(arguments=presence.arguments)
    findings = find_all(ruleset, presence, legacy4, legacy6, daemon.effective("iptables", True) is not False)
    if version < NEEDS_FOR_OWN_TABLE:
        findings.append(
            Finding(
                "NFT_TOO_OLD",
                f"nft {dotted(version)} cannot load the table of this collection.",
                "nft",
                f"Install nftables {dotted(NEEDS_FOR_OWN_TABLE)} or newer.",
            )
        )
    return {
        "nft_version": dotted(version),
        "tables": [
            describe_table(table, rules, elements)
            for table in ruleset.tables
            if wanted is None or table.label in wanted
        ],
        "hooks": hooks_in_order(ruleset),
        "legacy_tables": {"ipv4": list(legacy4), "ipv6": list(legacy6)},
        "warnings_found": [finding.as_dict() for finding in findings],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "tables": {"type": "list", "elements": "str"},
            "rules": {"type": "bool", "default": True},
            "elements": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        facts = gather(Runner(), module.params["tables"], module.params["rules"], module.params["elements"])
    except RulesetError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
