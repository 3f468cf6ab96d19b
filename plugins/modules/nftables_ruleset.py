#!/usr/bin/python

# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_ruleset
short_description: Make one nftables table of your own what a text says, safely
version_added: 0.1.0
description:
  - Makes one table, and only that one, what O(content) says. The table is replaced in one transaction, so there is no
    moment at which it is missing or half there, and no other table is touched.
  - Whether something has to change is decided against the table in the kernel, not against a file. A change that
    somebody made by hand is found, shown in the diff and repaired.
  - With O(confirm_timeout) a changed table goes live first and to disk only when a new connection to the host has
    succeeded. Otherwise a timer on the host puts the old table back, also when the controller has died meanwhile.
    A reboot before the confirmation brings the old table back too, because nothing on disk was changed.
  - With O(boot) the table is loaded at every boot before the network and before Docker, and it stays when
    nftables.service is restarted, reloaded or stopped, although the shipped units of that service flush all tables.
options:
  name:
    description:
      - The table's name.
    type: str
    default: bulkhead
  family:
    description:
      - The table's family.
    type: str
    choices: [inet, ip, ip6, arp, bridge, netdev]
    default: inet
  content:
    description:
      - The table in nft's own syntax, C(table FAMILY NAME { ... }). Nothing else may stand in it, C(flush ruleset),
        C(include) and C(define) are refused.
      - Required with O(state=present).
    type: str
  state:
    description:
      - V(present) makes the table what O(content) says.
      - V(absent) removes it from the kernel and, with O(boot), everything of it from the disk.
    type: str
    choices: [present, absent]
    default: present
  boot:
    description:
      - Write the table and a systemd unit to disk, so that it is there at the next boot, and let nftables.service
        keep it when that service flushes the ruleset.
    type: bool
    default: true
  confirm_timeout:
    description:
      - Seconds within which a changed table has to be confirmed over a new connection. The action plugin of this
        module does that by itself.
      - With V(0) the change is kept at once.
      - It needs systemd on the host.
    type: int
    default: 0
  probes:
    description:
      - TCP connections that are tried from the controller before a change is confirmed. One that does not turn out as
        expected has the old table put back at once.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description:
          - Where to connect to. By default the address at which Ansible reaches the host.
        type: str
      port:
        description:
          - The TCP port.
        type: int
        required: true
      expect:
        description:
          - Whether the connection has to succeed.
        type: str
        choices: [open, closed]
        default: open
  confirmation:
    description:
      - The token of an earlier result, RV(confirmation.token), which is confirmed now. The action plugin uses it.
        Set it yourself only where you drive the confirmation by hand.
    type: str
  keep:
    description:
      - With O(confirmation), V(false) puts the old table back instead of keeping the new one.
    type: bool
    default: true
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - nft 1.0.1 or later on the host
  - systemd on the host, with O(boot=true) or O(confirm_timeout) above 0
notes:
  - The table is compared with what the same nft makes of O(content) in an empty network namespace of its own, so root
    is needed also in check mode.
  - Counters start at zero when the table is replaced. Established connections are not touched.
seealso:
  - module: bulkhead.docker_nftables.nftables_info
author:
  - bulkhead contributors (@bulkhead-firewall)
"""

EXAMPLES = r"""
- name: Keep a small table of our own, confirmed over a new connection
  bulkhead.docker_nftables.nftables_ruleset:
    name: guard
    confirm_timeout: 30
    content: |
      table inet guard {
        chain input {
          type filter hook input priority -5; policy accept;
          tcp dport 23 counter drop
        }
      }

- name: Show what the table would become, without changing it
  bulkhead.docker_nftables.nftables_ruleset:
    name: guard
    content: "{{ lookup('ansible.builtin.template', 'guard.nft.j2') }}"
  check_mode: true
  diff: true

- name: Keep the change only if port 443 still answers and port 8080 does not
  bulkhead.docker_nftables.nftables_ruleset:
    name: guard
    confirm_timeout: 60
    content: "{{ lookup('ansible.builtin.template', 'guard.nft.j2') }}"
    probes:
      - port: 443
      - port: 8080
        expect: closed

- name: Remove it again, from the kernel and from the disk
  bulkhead.docker_nftables.nftables_ruleset:
    name: guard
    state: absent
"""

RETURN = r"""
actions:
  description: What was changed, or would be in check mode, one sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - replace table inet bulkhead
    - write /etc/bulkhead/tables/inet-bulkhead.nft
table_changed:
  description: Whether the table in the kernel differed from O(content).
  returned: success
  type: bool
  sample: true
table_difference:
  description: The lines in which the kernel's table differed, at most 50 of them.
  returned: when RV(table_changed=true)
  type: list
  elements: str
  sample:
    - "-\t\ttcp dport 22 accept"
confirmation:
  description: What has to be confirmed. With the action plugin it is confirmed when the task ends.
  returned: when O(confirm_timeout) is above 0 and the table in the kernel was changed
  type: dict
  contains:
    token:
      description: Goes into O(confirmation).
      type: str
      sample: 3f9d0c5f7a6e4b1c8d2e5f60718293a4
    seconds:
      description: After how many seconds the host reverts.
      type: int
      sample: 60
confirmed:
  description: Whether the change was confirmed over a new connection.
  returned: when O(confirm_timeout) is above 0 and the table in the kernel was changed
  type: bool
  sample: true
nft_version:
  description: The version of nft on the host.
  returned: success
  type: str
  sample: 1.0.6
"""

import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _layout, _nft_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Apply, Outcome
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._confirm_arguments import confirm_arguments
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    Runner,
    ScratchNetworkError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import TableError

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,30}\Z")
SHOWN_LINES = 50


def argument_spec() -> dict[str, t.Any]:
    """The module's arguments."""
    return {
        "name": {"type": "str", "default": "bulkhead"},
        "family": {
            "type": "str",
            "choices": ["inet", "ip", "ip6", "arp", "bridge", "netdev"],
            "default": "inet",
        },
        "content": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "boot": {"type": "bool", "default": True},
        **confirm_arguments(0),
    }


def mistakes(params: dict[str, t.Any]) -> list[str]:
    """List what is wrong with the arguments."""
    found = []
    if not NAME.match(params["name"]):
        found.append("name: accepted are a letter and then up to 30 letters, digits, - and _")
    if params["confirm_timeout"] < 0 or params["confirm_timeout"] > 3600:
        found.append("confirm_timeout: accepted are 0 to 3600 seconds")
    if os.geteuid() != 0:
        found.append("nftables can only be changed by root; set become to true")
    return found


def against_layout(params: dict[str, t.Any], check_mode: bool, layout: _layout.Layout | None) -> str:
    """Say why the table must not be replaced or removed by itself, or give an empty string.

    In the layout iptables_compat, chains of iptables follow what the table writes into the packet's mark: without it,
    INPUT would drop everything.
    """
    if layout is None or layout.layout != _layout.IPTABLES_COMPAT:
        return ""
    if (params["family"], params["name"]) != ("inet", layout.table) or params["confirmation"] is not None:
        return ""
    where = f"table inet {layout.table} of this host is in the layout iptables_compat ({_layout.PATH})"
    if params["state"] == "absent":
        return "" if check_mode else f"{where}; remove both with nftables_conf and state absent"
    if f"{layout.mark_bit:#010x}" in params["content"]:
        return ""
    return f"{where}, and the content does not write the mark {layout.mark_bit:#010x} that its chains follow"


def act(params: dict[str, t.Any], check_mode: bool, runner: Runner) -> tuple[Outcome, str]:
    """Do what the arguments ask for."""
    refused = against_layout(params, check_mode, _layout.read())
    if refused:
        raise _layout.LayoutError(refused)
    job = Apply(runner, params["family"], params["name"], params["boot"])
    if params["state"] == "absent":
        return job.absent(check_mode), job.version
    if params["confirmation"] is not None:
        if check_mode:
            return Outcome(), job.version
        if params["keep"]:
            return job.confirm(params["content"], params["confirmation"]), job.version
        return job.put_back(params["confirmation"]), job.version
    return job.present(params["content"], check_mode, params["confirm_timeout"]), job.version


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ("content",))],
        supports_check_mode=True,
    )
    found = mistakes(module.params)
    if found:
        module.fail_json(msg="; ".join(found))
    errors = (_layout.LayoutError, TableError, BootError, RevertError, _nft_text.TextError, CommandError, ScratchNetworkError, OSError)
    try:
        outcome, version = act(module.params, module.check_mode, Runner())
    except errors as error:
        module.fail_json(msg=str(error))
    result: dict[str, t.Any] = {
        "changed": outcome.changed,
        "actions": outcome.actions,
        "table_changed": outcome.table_changed,
        "nft_version": version,
    }
    if outcome.table_changed and outcome.diff:
        lines = _nft_text.difference(outcome.diff[0]["before"], outcome.diff[0]["after"])
        result["table_difference"] = lines[:SHOWN_LINES]
    if outcome.confirmation is not None:
        result["confirmation"] = outcome.confirmation
    if outcome.diff and module._diff:
        result["diff"] = outcome.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
