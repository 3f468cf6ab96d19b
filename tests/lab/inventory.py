# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Ansible inventory of a lab, usable by hand from anywhere on the machine.

SSH always starts in the neighbour's network namespace, so a host that locks its neighbours out locks Ansible out.
"""

from __future__ import annotations

import json
import shlex
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from lab.topology import Lab

_SSH = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5"
    " -o ControlMaster=auto -o ControlPersist=60s"
)


def path(lab: Lab) -> Path:
    return lab.directory / "inventory.json"


def _wrapper(lab: Lab, name: str, namespace: str, program: str) -> str:
    """A program that runs in a namespace, with its /sys too, where facts come from; gives its path."""
    file = lab.directory / name
    enter = shlex.join(["exec", "ip", "netns", "exec", namespace, program])
    file.write_text(f'#!/bin/sh\n{enter} "$@"\n')
    file.chmod(0o755)
    return str(file)


def host_variables(lab: Lab, name: str) -> dict[str, t.Any]:
    host = lab.hosts[name]
    return {
        "ansible_host": host.address4,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab.key),
        "ansible_ssh_executable": _wrapper(lab, "ssh", lab.peer.namespace.name, "ssh"),
        # sftp and scp would start outside the neighbour's namespace once no shared connection is open.
        "ansible_ssh_transfer_method": "piped",
        "ansible_ssh_args": _SSH,
        "ansible_control_path_dir": str(lab.directory / "cp"),
        "ansible_python_interpreter": "/usr/bin/python3",
        "lab_address4": host.address4,
        "lab_address6": host.address6,
    }


def peer_variables(lab: Lab, name: str) -> dict[str, t.Any]:
    """A neighbour is this machine seen from another namespace: its Python runs there."""
    peer = lab.peers[name]
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": _wrapper(lab, f"python-{name}", peer.namespace.name, "/usr/bin/python3"),
        "lab_address4": peer.address4,
        "lab_address6": peer.address6,
    }


def write(lab: Lab) -> Path:
    """Write the inventory: the hosts in `docker_hosts`, the neighbours in `neighbours`."""
    content = {
        "all": {
            "children": {
                "docker_hosts": {"hosts": {name: host_variables(lab, name) for name in lab.hosts}},
                "neighbours": {"hosts": {name: peer_variables(lab, name) for name in lab.peers}},
            }
        }
    }
    target = path(lab)
    target.write_text(json.dumps(content, indent=2) + "\n")
    return target
