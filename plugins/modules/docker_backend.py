#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_backend
short_description: Switch Docker between its iptables and its nftables backend, and carry DOCKER-USER along
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Looks for everything that stands in the way of a switch and says all of it at once; then nothing is changed.
  - On the way to V(nftables) the rules of chain C(DOCKER-USER), which Docker's nftables backend does not ask, become
    table C(inet bulkhead_docker_user). Forwarding is switched on, Docker is restarted with the other backend, and what
    it leaves behind of iptables is removed, that is C(DOCKER-USER), the jump to it and a policy C(DROP) of C(FORWARD).
  - On the way back all of that is put back as it was.
  - Containers run on. Where C(live-restore) is off it is switched on for the restart alone.
  - Until the change is confirmed nothing on disk is changed. Docker reads a C(daemon.json) in C(/run) meanwhile. Without
    a confirmation over a new connection within O(confirm_timeout) seconds the host goes back to the old backend with the
    old rules by itself; so does a reboot.
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
    details:
      - Obstacles are errors in check mode too.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  backend:
    description: The backend that Docker is to have, now and at the next boot.
    type: str
    required: true
    choices: [nftables, iptables]
  accept_fwmark:
    description:
      - The mark for packets that a rule of C(DOCKER-USER) accepts although Docker would drop them, as C(MARK) or
        C(MARK/MASK); Docker gets it as C(bridge-accept-fwmark). It must not be in use on the host.
      - Without it the one that C(daemon.json) has, else a bit that is free on the host. It is only set where a rule needs
        it.
    type: str
  ignore:
    description:
      - Obstacles, by RV(obstacles[].code), that are none on this host.
    type: list
    elements: str
    choices: [kubernetes, saved_rules, ufw]
    default: []
  allow_container_restart:
    description:
      - Whether running containers may be stopped where C(live-restore) is off and cannot be switched on, because
        C(--live-restore) is on the command line of dockerd.
    type: bool
    default: false
  timeout:
    description: How many seconds Docker may take to come up with its rules, 1 to 3600.
    type: int
    default: 120
  confirm_timeout:
    description:
      - Seconds within which the change has to be confirmed over a new connection, counted from the moment at which Docker
        is back with its rules. The action plugin of this module does that by itself.
      - With V(0) the change is kept at once.
    type: int
    default: 60
  probe_published:
    description:
      - Whether the controller tries every TCP port that Docker publishes before and after the change. The change is taken
        back where one of them was open and is closed afterwards, or the other way round.
    type: bool
    default: true
  probes:
    description:
      - TCP connections that are tried from the controller before the change is confirmed. One that does not turn out as
        expected has the host go back at once.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: Where to connect to. By default the address at which Ansible reaches the host.
        type: str
      port:
        description: The TCP port.
        type: int
        required: true
      expect:
        description: Whether the connection has to succeed.
        type: str
        choices: [open, closed]
        default: open
  confirmation:
    description:
      - The token of an earlier result, RV(confirmation.token), which is confirmed now. The action plugin uses it.
    type: str
  keep:
    description: With O(confirmation), whether to keep the change or to go back now.
    type: bool
    default: true
notes:
  - The nftables backend needs Docker 29.0 or later. Docker calls it experimental, and allows it outside of a swarm only.
  - The Docker SDK for Python has to be on the host.
  - What was carried over is kept in C(/etc/bulkhead/docker-backend.json), readable by root only, for the way back.
  - The rules of C(DOCKER-USER) do not outlive a reboot by themselves. Those that were carried over do.
seealso:
  - module: bulkhead.docker_nftables.docker_daemon_config
  - module: bulkhead.docker_nftables.docker_rules
  - name: Docker with nftables
    description: What Docker says about its nftables backend.
    link: https://docs.docker.com/engine/network/firewall-nftables/
"""

EXAMPLES = r"""
- name: Say what stands in the way of Docker's nftables backend, and what would be done
  bulkhead.docker_nftables.docker_backend:
    backend: nftables
  check_mode: true
  diff: true

- name: Switch to it, and go back by itself if port 443 is closed afterwards
  bulkhead.docker_nftables.docker_backend:
    backend: nftables
    probes:
      - port: 443

- name: Go back to iptables, with the rules of DOCKER-USER as they were
  bulkhead.docker_nftables.docker_backend:
    backend: iptables
"""

RETURN = r"""
obstacles:
  description: What stands in the way; empty on success. Also returned on failure.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description:
        - What kind of an obstacle it is.
        - V(again), V(containers), V(daemon_json), V(docker), V(iptables), V(jumps), V(kubernetes), V(layout), V(legacy),
          V(mark), V(record), V(rule), V(saved_rules), V(swarm) or V(ufw).
      type: str
    text:
      description: What it is, and what to do about it.
      type: str
  sample: []
actions:
  description: What was done, or would be in check mode, in order.
  returned: success
  type: list
  elements: str
  sample:
    - load table inet bulkhead_docker_user
    - restart Docker with the backend nftables, and wait for its rules
    - remove DOCKER-USER and the policy of FORWARD (IPv4)
    - write /etc/docker/daemon.json
rules:
  description: How many rules of C(DOCKER-USER) the table carries on.
  returned: success
  type: int
  sample: 7
notes:
  description: What is to be known about the rules that were carried over.
  returned: success
  type: list
  elements: str
  sample: []
backend_before:
  description: The backend that Docker had; empty where it does not answer.
  returned: success
  type: str
  sample: iptables
accept_fwmark:
  description: The mark that overrides Docker's drops; V(null) where no rule needs one.
  returned: success
  type: str
  sample: "0x10000000/0x10000000"
engine_version:
  description: The version of Docker.
  returned: success
  type: str
  sample: 29.7.2
published:
  description: The TCP ports that Docker publishes, with the addresses of the host.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address of the host; V(0.0.0.0) and V(::) are all of them.
      type: str
    port:
      description: The port.
      type: int
  sample:
    - address: 0.0.0.0
      port: 8080
probed:
  description: What the controller found at the published ports.
  returned: when the change was made and O(probe_published) is true
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      type: str
    port:
      description: The port.
      type: int
    before:
      description: V(open) or V(closed) before the change.
      type: str
    after:
      description: The same after it.
      type: str
  sample:
    - address: 198.51.100.11
      port: 8080
      before: open
      after: open
confirmation:
  description: What has to be confirmed. With the action plugin it is confirmed when the task ends.
  returned: when O(confirm_timeout) is above 0 and something was changed
  type: dict
  contains:
    token:
      description: Goes into O(confirmation).
      type: str
      sample: 3f9d0c5f7a6e4b1c8d2e5f60718293a4
    seconds:
      description: After how many seconds the host goes back.
      type: int
      sample: 60
confirmed:
  description: Whether the change was confirmed over a new connection.
  returned: when O(confirm_timeout) is above 0 and something was changed
  type: bool
  sample: true
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_docker import DockerError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_pending import PendingError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_plan import (
    IGNORABLE,
    Wishes,
    parse_mark,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_record import RecordError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_switch import (
    BackendError,
    Switch,
    Switched,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_units import UnitError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._confirm_arguments import confirm_arguments
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import DaemonConfigError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import DockerUnavailable
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import SaveError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import LiveRestoreError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import RulesetError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    Runner,
    ScratchNetworkError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import SysctlError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import TableError

ERRORS = (
    BackendError,
    BootError,
    CommandError,
    DaemonConfigError,
    DockerError,
    DockerUnavailable,
    LiveRestoreError,
    OSError,
    PendingError,
    RecordError,
    RulesetError,
    SaveError,
    ScratchNetworkError,
    SysctlError,
    TableError,
    UnitError,
)


def argument_spec() -> dict[str, t.Any]:
    """The module's arguments."""
    return {
        "backend": {"type": "str", "required": True, "choices": ["nftables", "iptables"]},
        "accept_fwmark": {"type": "str"},
        "ignore": {"type": "list", "elements": "str", "choices": list(IGNORABLE), "default": []},
        "allow_container_restart": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 120},
        "probe_published": {"type": "bool", "default": True},
        **confirm_arguments(60),
    }


def mistakes(params: dict[str, t.Any]) -> list[str]:
    """List what is wrong with the arguments."""
    found = []
    if params["accept_fwmark"] is not None:
        try:
            parse_mark(params["accept_fwmark"])
        except ValueError as error:
            found.append(f"accept_fwmark: {error}")
    if not 1 <= params["timeout"] <= 3600:
        found.append("timeout: accepted are 1 to 3600 seconds")
    if not 0 <= params["confirm_timeout"] <= 3600:
        found.append("confirm_timeout: accepted are 0 to 3600 seconds")
    found += [
        f"probes[{number}].port: accepted are 1 to 65535"
        for number, each in enumerate(params["probes"])
        if not 1 <= each["port"] <= 65535
    ]
    if os.geteuid() != 0:
        found.append("Docker's firewall backend can only be changed by root; set become to true")
    return found


def act(params: dict[str, t.Any], check_mode: bool, edges: Edges) -> Switched:
    """Do what the arguments ask for."""
    wishes = Wishes(
        params["backend"], params["accept_fwmark"], tuple(params["ignore"]), params["allow_container_restart"]
    )
    switch = Switch(edges, wishes, params["timeout"])
    if params["confirmation"] is None:
        return switch.present(check_mode, params["confirm_timeout"])
    if check_mode:
        return Switched()
    return switch.confirm(params["confirmation"]) if params["keep"] else switch.put_back(params["confirmation"])


def published(entries: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """TCP ports with the addresses of the host, each once."""
    found = {
        (address, each["host_port"])
        for each in entries
        if each["protocol"] == "tcp"
        for address in each["host_addresses"]
    }
    return [{"address": address, "port": port} for address, port in sorted(found)]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    found = mistakes(module.params)
    if found:
        module.fail_json(msg="; ".join(found), obstacles=[])
    try:
        out = act(module.params, module.check_mode, Edges(Runner()))
    except ERRORS as error:
        module.fail_json(msg=str(error), obstacles=[])
    obstacles = [each.as_dict() for each in out.plan.obstacles]
    if obstacles:
        lines = "\n".join(f"- {each['text']}" for each in obstacles)
        wanted = module.params["backend"]
        module.fail_json(
            msg=f"Docker stays with the backend it has; {wanted} is not possible here, and nothing was changed:\n{lines}",
            obstacles=obstacles,
        )
    for warning in out.warnings:
        module.warn(warning)
    record = out.plan.record
    result: dict[str, t.Any] = {
        "changed": out.changed,
        "obstacles": [],
        "actions": out.actions,
        "rules": out.plan.rules,
        "notes": out.plan.notes,
        "backend_before": out.before,
        "accept_fwmark": None if record is None else record.accept_mark,
        "engine_version": out.engine,
        "published": published(out.published),
    }
    if out.confirmation is not None:
        result["confirmation"] = out.confirmation
    if out.diff and module._diff:
        result["diff"] = out.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
