#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_rules
short_description: Put back Docker's own firewall rules where they are gone
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Docker makes its rules when it starts and never looks again. After C(nft flush ruleset), a stop of nftables.service or
    an C(iptables -F) published ports are answered by docker-proxy, and containers are open to whoever can route to them,
    until Docker is restarted.
  - Finds out whether Docker's rules are there. Where they are gone it puts them back in the gentlest way there is, and
    waits until Docker answers and every published port has its DNAT again.
  - Containers run on. Where C(live-restore) is off it is switched on for the restart alone, and C(daemon.json) is put
    back byte for byte.
  - Chain C(DOCKER-USER) is put back in front of Docker's rules. Engines before 28.0.1 do not do that at a start that finds
    containers running. What others had in the chain cannot be known; whoever filled it has to fill it again.
  - Nothing is started or written where all is there, or where Docker does not run.
extends_documentation_fragment:
  - bulkhead.docker_nftables._attributes
attributes:
  check_mode:
    support: full
    details:
      - RV(actions) may name a step for C(DOCKER-USER) that turns out to be needless.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - With O(force=true) Docker is restarted every time.
options:
  method:
    description:
      - V(auto) reloads firewalld where that is enough (Docker's iptables backend, and a daemon that was started after
        firewalld), and restarts Docker everywhere else. A reload of firewalld loses what is only in its running
        configuration.
      - V(restart) never reloads firewalld.
      - V(none) only says what is missing.
    type: str
    default: auto
    choices: [auto, restart, none]
  live_restore:
    description:
      - V(temporary) switches C(live-restore) on for the restart where it is off, by C(daemon.json) and a reload. Not on a
        node of a swarm, and not where C(--live-restore) is on the command line of dockerd; Docker allows neither.
      - V(as_configured) leaves it as it is.
    type: str
    default: temporary
    choices: [temporary, as_configured]
  allow_container_restart:
    description:
      - Whether running containers may be stopped where C(live-restore) is off and cannot be switched on. Without it the
        module fails there and nothing is changed.
    type: bool
    default: false
  start_stopped:
    description:
      - Whether containers that ran, were stopped by the restart and have no restart policy are started again.
    type: bool
    default: true
  force:
    description:
      - Whether Docker is restarted even if nothing is missing, with the same care. For whoever has changed a setting
        that Docker reads at its start. A Docker that does not run is not started.
    type: bool
    default: false
  timeout:
    description:
      - How many seconds Docker may take to come up with its rules, 1 to 3600. With many containers it takes long.
    type: int
    default: 120
notes:
  - If the module dies in the middle, C(daemon.json) is a valid file with C(live-restore) in it, and what it was is in
    C(/etc/bulkhead/daemon.json.kept). The next run puts it back first.
  - The Docker SDK for Python has to be on the host.
seealso:
  - module: bulkhead.docker_nftables.nftables_info
    description: Says whether Docker's rules are gone, and what else is wrong with a ruleset.
"""

EXAMPLES = r"""
- name: Put back Docker's rules if somebody flushed them
  bulkhead.docker_nftables.docker_rules:

- name: Only say what is missing
  bulkhead.docker_nftables.docker_rules:
    method: none
  register: docker_rules

- name: On a node of a swarm, where containers have to be stopped for it
  bulkhead.docker_nftables.docker_rules:
    allow_container_restart: true
    timeout: 300

- name: Restart Docker for a changed setting, with the containers running
  bulkhead.docker_nftables.docker_rules:
    force: true
"""

RETURN = r"""
missing:
  description: What was missing, in sentences; empty where all was there.
  returned: success
  type: list
  elements: str
  sample:
    - >-
      Docker runs, but its rules are gone: there is no chain DOCKER in table ip nat and no table ip docker-bridges.
      Somebody flushed them after Docker started; Docker does not notice. Published ports are then answered by
      docker-proxy on the input path, and container addresses may be reachable directly on all ports.
method:
  description:
    - How the rules were put back, or would be in check mode.
    - V(none), there was nothing to do, or O(method=none).
    - V(docker_user), only the jump to C(DOCKER-USER) had to be put right.
    - V(firewalld_reload), by a reload of firewalld.
    - V(live_restore), by a restart of Docker, whose containers ran on because C(live-restore) is on.
    - V(temporary_live_restore), the same with C(live-restore) switched on for the restart alone.
    - V(container_restart), by a restart of Docker that stopped the containers.
    - V(restart), by a restart of Docker without running containers.
  returned: success
  type: str
  sample: temporary_live_restore
actions:
  description: What was done, or would be in check mode, in order. Also returned on failure.
  returned: always
  type: list
  elements: str
  sample:
    - switch live-restore on for the restart
    - restart Docker
    - put the jump to DOCKER-USER in front of Docker's rules
    - put daemon.json back and live-restore off
seconds:
  description: How long it took from the first look until Docker and its rules were back.
  returned: success
  type: float
  sample: 3.1
started_containers:
  description: Containers that the restart stopped and that were started again.
  returned: success
  type: list
  elements: str
  sample: []
stopped_containers:
  description: Containers that ran before the restart and do not run now.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_repair import (
    Repair,
    RepairError,
    Wishes,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_look import Edges
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import RulesetError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner


def mistakes(params: dict[str, t.Any]) -> list[str]:
    """List what is wrong with the arguments."""
    found = []
    if not 1 <= params["timeout"] <= 3600:
        found.append("timeout: accepted are 1 to 3600 seconds")
    if params["force"] and params["method"] == "none":
        found.append("force: accepted with method auto and restart; method none only looks")
    if os.geteuid() != 0:
        found.append("Docker's rules can only be read and put back by root; set become to true")
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": {"type": "str", "default": "auto", "choices": ["auto", "restart", "none"]},
            "live_restore": {"type": "str", "default": "temporary", "choices": ["temporary", "as_configured"]},
            "allow_container_restart": {"type": "bool", "default": False},
            "start_stopped": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    found = mistakes(module.params)
    if found:
        module.fail_json(msg="; ".join(found), actions=[])
    repair = Repair(Edges(Runner()), Wishes(**module.params))
    failure = None
    try:
        repair.present(module.check_mode)
    except (RepairError, RulesetError, OSError) as exc:
        failure = str(exc)
    out = repair.out
    for warning in out.warnings:
        module.warn(warning)
    if failure is not None:
        module.fail_json(msg=failure, actions=out.actions, changed=bool(out.actions))
    module.exit_json(
        changed=out.changed,
        missing=out.missing,
        method=out.method,
        actions=out.actions,
        seconds=out.seconds,
        started_containers=out.started,
        stopped_containers=out.stopped,
    )


if __name__ == "__main__":
    main()
