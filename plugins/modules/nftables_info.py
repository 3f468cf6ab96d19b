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
  - Also returns what else on the host has a hand in the firewall, namely services, variants of iptables, the old xtables,
    the file that C(nftables.service) loads, and who uses packet marks.
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
    that: ruleset.warnings_found | selectattr('severity', 'eq', 'error') | length == 0
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
legacy_rules:
  description:
    - The rules of the old xtables and their policies other than ACCEPT, each as the arguments of C(iptables-legacy) that
      make it.
    - C(iptables-legacy-save) is only started where RV(legacy_tables) has tables, because the legacy tools make those that
      are missing.
    - V(null) for a family whose rules cannot be read, because C(iptables-legacy-save) or C(ip6tables-legacy-save) is not
      installed or fails.
  returned: success
  type: dict
  contains:
    ipv4:
      description: Those for IPv4.
      type: list
      elements: str
    ipv6:
      description: Those for IPv6.
      type: list
      elements: str
  sample:
    ipv4: [-t filter -P FORWARD DROP, -t filter -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT]
    ipv6: []
iptables:
  description: The program C(iptables) that is found first.
  returned: success
  type: dict
  contains: &tool
    present:
      description: Whether there is one.
      type: bool
    version:
      description: Its version; V(null) when it cannot be read.
      type: str
    variant:
      description: V(nf_tables), V(legacy), or V(null) when it cannot be read. Before 1.8 all were V(legacy).
      type: str
    path:
      description: Its path, not followed through links.
      type: str
  sample: &tool_sample
    present: true
    version: 1.8.11
    variant: nf_tables
    path: /usr/sbin/iptables
ip6tables:
  description: The same for C(ip6tables).
  returned: success
  type: dict
  contains: *tool
  sample: *tool_sample
firewall_services:
  description:
    - The services that load firewall rules on one distribution or another.
    - Without systemd they are only looked for on the disk, and what systemd would say is V(null).
  returned: success
  type: dict
  contains:
    firewalld: &service
      description: One of the services; all look the same.
      type: dict
      contains:
        installed:
          description: Whether there is a unit.
          type: bool
        active:
          description:
            - Whether it is active now, also as a service that has done its work and ended.
            - ufw is active when C(/etc/ufw/ufw.conf) says C(ENABLED=yes) and its chain C(ufw-before-input) is there; its
              unit is active either way.
          type: bool
        enabled:
          description:
            - Whether the next boot starts it.
            - For ufw C(/etc/ufw/ufw.conf) has to say C(ENABLED=yes) as well.
          type: bool
        masked:
          description: Whether it is masked.
          type: bool
    ufw: *service
    nftables: *service
    netfilter-persistent: *service
    iptables: *service
    ip6tables: *service
  sample:
    nftables:
      installed: true
      active: false
      enabled: false
      masked: false
conf:
  description: The file that C(nftables.service) loads.
  returned: success
  type: dict
  contains:
    path:
      description:
        - The file that C(ExecStart=) of the unit names, drop-ins counted.
        - Without such a unit it is the one of the distribution's family, C(/etc/sysconfig/nftables.conf) of Red Hat's,
          C(/etc/nftables/rules/main.nft) of SUSE's, else C(/etc/nftables.conf).
      type: str
    exists:
      description: Whether it is there.
      type: bool
    managed:
      description: Whether the role P(bulkhead.docker_nftables.nftables_conf#role) wrote it.
      type: bool
    flushes:
      description: Whether C(flush ruleset) stands in it or in a file it includes.
      type: bool
  sample:
    path: /etc/nftables.conf
    exists: true
    managed: false
    flushes: true
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
marks:
  description:
    - Who reads or writes packet marks, so that a free bit can be found. Marks of packets, connections and sockets count
      as one, they are copied to one another.
    - Read from rules of nft, of iptables and ebtables, of the old xtables, from C(ip rule) and C(ip xfrm).
    - The collection's own table and its chains named C(BULKHEAD-*) are left out.
  returned: success
  type: dict
  contains:
    used_mask:
      description:
        - All bits that are in use.
        - Who touches no other bits than those in RV(layout) does not count, such as an exception made with iptables.
      type: int
    uses:
      description: The users one by one.
      type: list
      elements: dict
      contains:
        where:
          description: The rule, by table, chain and handle where it has one.
          type: str
        value:
          description: What is compared or set; V(null) when that is not one number.
          type: int
        mask:
          description: The bits that count for RV(marks.used_mask).
          type: int
        text:
          description: What it says.
          type: str
        whole:
          description:
            - Whether all 32 bits are compared or overwritten. Only those of the value count then.
            - A rule that sets the whole mark erases everybody's bits in it.
          type: bool
  sample:
    used_mask: 16711680
    uses:
      - where: ip rule 5210
        value: 524288
        mask: 16711680
        text: "fwmark 0x80000/0xff0000 lookup main"
        whole: false
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
        - V(FORWARD_DROP_CUTS_ROUTED), a forward chain that drops what the table C(inet bulkhead) lets the host forward
          from one outside interface to another.
        - V(DOCKER_RULES_MISSING), Docker runs and its rules are gone.
        - V(DOCKER_USER_LEFT), Docker makes its rules with nftables, and chain C(DOCKER-USER), which it does not ask, has
          rules.
        - V(NFTABLES_SERVICE_FLUSHES), nftables.service would empty Docker's tables with its own.
        - V(LAYOUT_LOST), the own table, or chains, jumps or the policy that the host's layout stands on, are gone.
        - V(LAYOUT_BROKEN), C(/etc/bulkhead/layout.json) cannot be used.
        - V(NFT_TOO_OLD), this nft can be read but cannot load the table of this collection.
      type: str
    severity:
      description:
        - V(error) where the host fails open, or Docker's ports and containers are cut off, right now. That is
          V(DOCKER_RULES_MISSING), V(DOCKER_USER_LEFT) where nothing leads to the chain, V(FORWARD_DROP_CUTS_DOCKER),
          V(LAYOUT_LOST), and V(UNREADABLE_BY_IPTABLES) in a chain that Docker works on.
        - Else V(warning).
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
      severity: warning
      text: >-
        Base chain INPUT of table ip filter is not the one iptables uses: priority -450 instead of 0. iptables tools and
        Docker do not see it, they make a chain of their own beside it or refuse the table; both chains then filter.
      where: ip filter INPUT
      remedy: >-
        Keep own chains in a table of your own name, or give this one the name, type and priority iptables expects
        (chain INPUT: type filter hook input priority 0).
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_file import conf_path, read_conf
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import read_daemon_settings
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import DEFAULT_TABLE
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout_held import layout_lost
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import used_mask
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import (
    Chain,
    Ruleset,
    RulesetError,
    Table,
)
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
    proxied_ports,
    read_interfaces,
    read_layout,
    read_os_release,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import (
    LegacyRules,
    read_legacy_rules,
    read_tools,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_marks import read_mark_uses
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import (
    NEEDS_FOR_OWN_TABLE,
    dotted,
    read_nft_version,
    read_ruleset,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_services import (
    Unit,
    commands,
    describe_services,
    read_units,
    service_flushes,
    starting,
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


def look_for_dangers(
    runner: Runner, elements: bool, units: dict[str, Unit], legacy: LegacyRules
) -> tuple[Ruleset, list[Finding]]:
    """The ruleset, and what is dangerous in it.

    Containers come and go while it is read: what Docker lost is only believed when it is still gone.
    """
    legacy4, legacy6 = legacy_table_names()
    for _attempt in range(2):
        presence = docker_presence(read_interfaces(runner))
        presence = replace(presence, proxied=proxied_ports(presence))
        daemon = read_daemon_settings(arguments=presence.arguments)
        managed = daemon.effective("iptables", True) is not False
        ruleset = read_ruleset(runner, elements)
        settled = managed and not starting(units.get("docker", {}))
        findings = find_all(ruleset, presence, legacy4, legacy6, settled, legacy)
        if not any(finding.code == "DOCKER_RULES_MISSING" for finding in findings):
            break
    return ruleset, [*findings, *service_flushes(units.get("nftables", {}), presence.running and managed)]


def gather(runner: Runner, tables: list[str] | None, rules: bool, elements: bool) -> dict[str, Any]:
    version = read_nft_version(runner)
    wanted = None if tables is None else {" ".join(label.split()) for label in tables}
    units = read_units(runner)
    tools = read_tools(runner)
    legacy_names = legacy_table_names()
    legacy = read_legacy_rules(runner, *legacy_names, tools)
    ruleset, findings = look_for_dangers(runner, elements, units, legacy)
    layout, broken = read_layout()
    findings += [*broken, *layout_lost(ruleset, layout)]
    if version < NEEDS_FOR_OWN_TABLE:
        findings.append(
            Finding(
                "NFT_TOO_OLD",
                f"nft {dotted(version)} cannot load the table of this collection.",
                "nft",
                f"Install nftables {dotted(NEEDS_FOR_OWN_TABLE)} or newer.",
            )
        )
    remembered = None if layout is None else layout.as_dict()
    uses = read_mark_uses(runner, ruleset, DEFAULT_TABLE if layout is None else layout.table, legacy)
    path = conf_path(commands(units.get("nftables", {}), "ExecStart"), read_os_release())
    return {
        "nft_version": dotted(version),
        "tables": [
            describe_table(table, rules, elements)
            for table in ruleset.tables
            if wanted is None or table.label in wanted
        ],
        "hooks": hooks_in_order(ruleset),
        "legacy_tables": {"ipv4": list(legacy_names[0]), "ipv6": list(legacy_names[1])},
        "legacy_rules": legacy.as_dict(),
        **{name: tool.as_dict() for name, tool in tools.items()},
        "firewall_services": describe_services(units, ruleset, legacy),
        "conf": read_conf(path).as_dict(),
        "layout": remembered,
        "marks": {
            "used_mask": used_mask(uses, own_bits(remembered)),
            "uses": [use.as_dict() for use in uses],
        },
        "warnings_found": [finding.as_dict() for finding in findings],
    }


def own_bits(layout: dict[str, Any] | None) -> int:
    """The bits this host has chosen for the collection."""
    bits = 0
    for name, value in (layout or {}).items():
        if name.endswith("_bit"):
            bits |= value
    return bits


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
