#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iptables_variant
short_description: Move the host's iptables rules from the old xtables to nf_tables
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Loads the rules that C(iptables-legacy) and C(ip6tables-legacy) show into nf_tables, makes C(iptables) and
    C(ip6tables) lead to the programs for nf_tables, restarts Docker so that its rules are made there, and empties the
    old tables.
  - Packets have to pass the old tables and nf_tables, and a drop in either is final. The old tables go on filtering
    until nf_tables has everything, so that no port is open in between that was closed before, and are emptied last.
  - Rules of Docker's own are not moved, Docker makes them when it starts. Rules in C(DOCKER-USER) are moved, and rules
    that stood in front of Docker's stand there again.
  - Everything is tried in a network namespace of its own first. What cannot be moved is named, all of it at once, and
    nothing is changed.
requirements:
  - update-alternatives with the programs for nf_tables, as Debian and Ubuntu have them
  - the C(docker) command where Docker runs
  - systemd where Docker runs
  - root
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The diff shows the rules of nf_tables in the form of C(iptables-save), without Docker's own.
  idempotent:
    support: full
options:
  variant:
    description:
      - Where the rules have to be.
    type: str
    default: nf_tables
    choices: [nf_tables]
  docker_restart:
    description:
      - Whether Docker may be restarted. Without live-restore its containers are stopped and started again.
      - With V(false) the module fails where Docker runs and has rules in the old tables, because only a restart brings
        them to nf_tables.
    type: bool
    default: true
  timeout:
    description:
      - How many seconds Docker may take to stop, and again to start.
    type: int
    default: 120
notes:
  - The module moves what is in the kernel and writes no file that loads rules at boot. A service that restores saved
    rules, such as netfilter-persistent, uses the C(iptables-restore) that the alternatives lead to, and so loads them
    into nf_tables from the next boot on.
  - A kernel does not let go of empty old tables before the next boot, and C(iptables) mentions them until then.
  - Rules that name a container by its address are right only as long as it keeps the address. Without live-restore any
    restart of Docker may change it.
seealso:
  - module: bulkhead.docker_nftables.nftables_info
    description: Tells which iptables a host has, and what is in the old tables.
"""

EXAMPLES = r"""
- name: Say which rules would move
  bulkhead.docker_nftables.iptables_variant:
  check_mode: true
  diff: true

- name: Move all rules of iptables to nf_tables
  bulkhead.docker_nftables.iptables_variant:

- name: Move them only where Docker does not have to be restarted for it
  bulkhead.docker_nftables.iptables_variant:
    docker_restart: false
"""

RETURN = r"""
variant_before:
  description:
    - V(legacy) if C(iptables) or C(ip6tables) was the one for the old tables, else V(nf_tables).
    - V(none) where iptables is not installed.
  returned: success
  type: str
  sample: legacy
moved:
  description:
    - The user's rules and policies that were in the old tables, each as a command; in check mode those that would move.
  returned: success
  type: list
  elements: str
  sample:
    - iptables -t filter -P INPUT DROP
    - iptables -t filter -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
    - iptables -t filter -A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 -j DROP
docker_rules:
  description: How many rules in the old tables were Docker's own.
  returned: success
  type: int
  sample: 61
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: str
  sample:
    - save the old rules below /etc/bulkhead/legacy-backup
    - load 3 rules of iptables into nf_tables
    - make iptables lead to /usr/sbin/iptables-nft
    - make ip6tables lead to /usr/sbin/ip6tables-nft
    - restart Docker with its containers
    - "empty the old tables of iptables: mangle, filter, nat"
backup:
  description:
    - The files with what C(iptables-legacy-save) and C(ip6tables-legacy-save) printed before the move.
    - An earlier backup is never overwritten.
  returned: success
  type: list
  elements: str
  sample: [/etc/bulkhead/legacy-backup/iptables.save]
containers_started:
  description: Containers that ran before, did not come back with Docker, and were started again.
  returned: success
  type: list
  elements: str
  sample: []
containers_lost:
  description:
    - Containers that ran before and could not be started again, for instance because they were made with C(--rm).
    - They are a warning too.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant import Move, Outcome
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant_plan import VariantError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "variant": {"type": "str", "default": "nf_tables", "choices": ["nf_tables"]},
            "docker_restart": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    timeout = module.params["timeout"]
    if not 1 <= timeout <= 3600:
        module.fail_json(msg=f"timeout: {timeout} is not a number of seconds from 1 to 3600")
    move = Move(Runner())
    outcome = Outcome()
    try:
        plan = move.plan(module.params["docker_restart"])
    except VariantError as exc:
        module.fail_json(msg=f"{exc}. Nothing was changed.")
    if plan.actions and not module.check_mode:
        try:
            outcome = move.apply(plan, timeout)
        except VariantError as exc:
            module.fail_json(msg=str(exc), actions=plan.actions, moved=plan.moved)

    if plan.ipsets:
        module.warn(
            f"Rules that move ask ipsets ({', '.join(plan.ipsets)}). iptables shows and keeps them, but nft cannot load "
            "what it lists of them: never make a file for nft from its listing."
        )
    if outcome.lost:
        module.warn(f"These containers ran before Docker was restarted and are gone: {', '.join(outcome.lost)}.")
    module.exit_json(
        changed=bool(plan.actions),
        diff=plan.diff(),
        variant_before=plan.before,
        moved=plan.moved,
        docker_rules=plan.docker_rules,
        actions=plan.actions,
        backup=outcome.backup,
        containers_started=outcome.started,
        containers_lost=outcome.lost,
    )


if __name__ == "__main__":
    main()
