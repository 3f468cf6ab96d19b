#!/usr/bin/python

# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_conf
short_description: Make /etc/nftables.conf and the kernel say the same, without flushing anybody's tables
version_added: 0.1.0
description:
  - Takes the complete text of the file that C(nftables.service) loads, and the collection's own table that the file
    includes, and makes the kernel, the disk and the service agree with both.
  - In tables that iptables tools manage too (C(filter) and C(nat) of the families C(ip) and C(ip6)), only what belongs to
    the file is touched, in one transaction. That is chains whose names start with C(BULKHEAD-), one jump to each of them,
    and policies that the file states. Rules of Docker and of other tools stay where they are.
  - A jump is put in front of the first rule behind which nothing is reached, such as the C(RETURN) that Docker Engine before
    28.2 appends to C(DOCKER-USER). A jump that is there already stays in its place.
  - What iptables tools cannot read back exactly is refused in those tables, with the construct named, before anything is
    changed. It is tried in an empty network namespace, with nft and with the host's own C(iptables-save).
  - With O(confirm_timeout) the change goes live first and to disk only when a new connection to the host has succeeded.
    Otherwise a timer on the host puts back what was there.
  - A drop-in keeps start, restart, reload and stop of C(nftables.service) from flushing tables of others.
options:
  name:
    description:
      - The own table's name, in the family C(inet).
    type: str
    default: bulkhead
  content:
    description:
      - The own table in nft's syntax, as for M(bulkhead.docker_nftables.nftables_ruleset).
      - Required with O(state=present).
    type: str
  file:
    description:
      - The whole text of the file. It has to have the role's header and the line that includes the own table, and must not
        contain C(flush ruleset).
      - Required with O(state=present).
    type: str
  path:
    description:
      - The file that C(nftables.service) loads on this host.
      - By default the one that an earlier run has replaced, else F(/etc/nftables.conf).
    type: path
  layout:
    description:
      - In which layout the file is, for other modules of this collection on this host.
    type: dict
    suboptions:
      layout:
        description: The layout's name.
        type: str
        choices: [own_table, iptables_compat]
        required: true
      mark_bit:
        description: The bit of the packet mark that carries verdicts; 0 for none.
        type: int
        default: 0
      docker_bit:
        description: The bit that packets of containers carry, for other tables of the file; 0 for none.
        type: int
        default: 0
      drops_input:
        description: Whether the own table drops what is refused on its way into the host.
        type: bool
        default: false
      output:
        description: Whether the host's own packets are marked.
        type: bool
        default: false
      policies:
        description: Chains of the filter tables whose policy the file states.
        type: list
        elements: str
        choices: [INPUT, FORWARD, OUTPUT]
        default: []
  state:
    description:
      - V(present) makes the host what O(file) and O(content) say.
      - V(absent) takes the own table, the chains, jumps and policies away and puts back the file that was there before.
    type: str
    choices: [present, absent]
    default: present
  confirm_timeout:
    description:
      - Seconds within which a change has to be confirmed over a new connection. The action plugin of this module does that
        by itself. With V(0) the change is kept at once.
    type: int
    default: 0
  probes:
    description:
      - TCP connections that are tried from the controller before a change is confirmed. One that does not turn out as
        expected has the old state put back at once.
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
    type: str
  keep:
    description:
      - With O(confirmation), V(false) puts back what was there instead of keeping the change.
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
  - systemd and nftables.service on the host
notes:
  - A file of somebody else's is kept once beside the new one, with C(.before-bulkhead) after its name, and put back by
    O(state=absent).
  - Loading the file by hand a second time (C(nft -f)) repeats its jumps, which changes no verdict; reload the service
    instead. The next run of this module takes repeated jumps away.
seealso:
  - module: bulkhead.docker_nftables.nftables_ruleset
  - module: bulkhead.docker_nftables.nftables_info
author:
  - bulkhead contributors (@bulkhead-firewall)
"""

EXAMPLES = r"""
- name: Make /etc/nftables.conf what the role's templates say, confirmed over a new connection
  bulkhead.docker_nftables.nftables_conf:
    content: "{{ lookup('ansible.builtin.template', 'table.nft.j2') }}"
    file: "{{ lookup('ansible.builtin.template', 'nftables.conf.j2') }}"
    layout:
      layout: own_table
    confirm_timeout: 60

- name: Give the host back the file it had before
  bulkhead.docker_nftables.nftables_conf:
    state: absent
"""

RETURN = r"""
actions:
  description: What was changed, or would be in check mode, one sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - replace chain BULKHEAD-INPUT in table ip filter
    - write /etc/nftables.conf
table_changed:
  description: Whether anything in the kernel differed.
  returned: success
  type: bool
  sample: true
table_difference:
  description: The lines in which the own table in the kernel differed, at most 50 of them.
  returned: when RV(table_changed=true)
  type: list
  elements: str
  sample:
    - "-\t\ttcp dport 22 accept"
backup:
  description: Where the file that was there before is kept; null where none was replaced in this run.
  returned: success
  type: str
  sample: /etc/nftables.conf.before-bulkhead
confirmation:
  description: What has to be confirmed. With the action plugin it is confirmed when the task ends.
  returned: when O(confirm_timeout) is above 0 and the kernel was changed
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
  returned: when O(confirm_timeout) is above 0 and the kernel was changed
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
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _nft_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._apply import Outcome
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import DIRECTORY, BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_apply import ConfApply, Request
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_text import ConfTextError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._confirm_arguments import confirm_arguments
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout, LayoutError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    Runner,
    ScratchNetworkError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import TableError

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,30}\Z")
PATH = re.compile(r"^/[A-Za-z0-9_./-]+\Z")
SHOWN_LINES = 50
ERRORS = (TableError, BootError, RevertError, CompatError, ConfTextError, LayoutError, CommandError, OSError)
ERRORS += (ScratchNetworkError, _nft_text.TextError)


def argument_spec() -> dict[str, t.Any]:
    """The module's arguments."""
    return {
        "name": {"type": "str", "default": "bulkhead"},
        "content": {"type": "str"},
        "file": {"type": "str"},
        "path": {"type": "path"},
        "layout": {
            "type": "dict",
            "options": {
                "layout": {"type": "str", "choices": ["own_table", "iptables_compat"], "required": True},
                "mark_bit": {"type": "int", "default": 0},
                "docker_bit": {"type": "int", "default": 0},
                "drops_input": {"type": "bool", "default": False},
                "output": {"type": "bool", "default": False},
                "policies": {
                    "type": "list",
                    "elements": "str",
                    "choices": ["INPUT", "FORWARD", "OUTPUT"],
                    "default": [],
                },
            },
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **confirm_arguments(0),
    }


def mistakes(params: dict[str, t.Any]) -> list[str]:
    """List what is wrong with the arguments."""
    found = []
    if not NAME.match(params["name"]):
        found.append("name: accepted are a letter and then up to 30 letters, digits, - and _")
    path = params["path"]
    plain = path is None or (PATH.match(path) and path == "/" + os.path.normpath(path).lstrip("/"))
    if not plain or str(path).startswith(f"{DIRECTORY}/"):
        found.append(f"path: accepted is an absolute path of letters, digits and _ . / -, but not below {DIRECTORY}")
    if params["confirm_timeout"] < 0 or params["confirm_timeout"] > 3600:
        found.append("confirm_timeout: accepted are 0 to 3600 seconds")
    layout = params["layout"] or {}
    for key in ("mark_bit", "docker_bit"):
        bit = layout.get(key, 0)
        if not 0 <= bit < 1 << 32 or bit & (bit - 1):
            found.append(f"layout.{key}: accepted are 0 and a number with one of 32 bits set")
    if layout.get("layout") == "iptables_compat" and not layout.get("mark_bit"):
        found.append("layout.mark_bit: the layout iptables_compat needs one")
    if os.geteuid() != 0:
        found.append("nftables can only be changed by root; set become to true")
    return found


def request(params: dict[str, t.Any]) -> Request:
    """Take what is wanted from the arguments."""
    given = params["layout"]
    layout = Layout(
        layout=given["layout"],
        table=params["name"],
        mark_bit=given["mark_bit"],
        docker_bit=given["docker_bit"],
        drops_input=given["drops_input"],
        output=given["output"],
        policies=tuple(given["policies"]),
    )
    return Request(params["content"], params["file"], layout)


def act(params: dict[str, t.Any], check_mode: bool, job: ConfApply) -> Outcome:
    """Do what the arguments ask for."""
    if params["state"] == "absent":
        return job.absent(check_mode)
    if params["confirmation"] is not None:
        if check_mode:
            return Outcome()
        if params["keep"]:
            return job.confirm(request(params), params["confirmation"])
        return job.put_back(params["confirmation"])
    return job.present(request(params), check_mode, params["confirm_timeout"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ("content", "file", "layout"))],
        supports_check_mode=True,
    )
    found = mistakes(module.params)
    if found:
        module.fail_json(msg="; ".join(found))
    try:
        job = ConfApply(Runner(), module.params["name"], module.params["path"])
        outcome = act(module.params, module.check_mode, job)
    except ERRORS as error:
        module.fail_json(msg=str(error))
    result: dict[str, t.Any] = {
        "changed": outcome.changed,
        "actions": outcome.actions,
        "table_changed": outcome.table_changed,
        "backup": job.backup,
        "nft_version": job.version,
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
