#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ip_forwarding
short_description: Switch on the IP forwarding that Docker needs, now and for the next boot
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Sets C(net.ipv4.ip_forward) and, where Docker uses IPv6, C(net.ipv6.conf.all.forwarding) and
    C(net.ipv6.conf.default.forwarding) in the running kernel and in
    C(/etc/sysctl.d/60-bulkhead-forwarding.conf), in one step and without starting a program.
  - A host that forwards IPv6 stops listening to router advertisements and loses its default route at once, and its
    addresses when their lifetime ends. Interfaces that the kernel configures from router advertisements therefore get
    C(accept_ra=2) before forwarding goes on.
  - If a parameter or the file cannot be written, what was already changed is put back.
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
  ipv4:
    description:
      - Whether IPv4 is to be forwarded. With V(false) the module leaves C(net.ipv4.ip_forward) alone; it never switches
        forwarding off.
    type: bool
    default: true
  ipv6:
    description:
      - Whether IPv6 is to be forwarded. With V(false) the module leaves IPv6 alone.
      - V(auto) means V(true) if the kernel forwards IPv6 already, a bridge with one of Docker's own names (C(docker0),
        C(docker_gwbridge), C(br-) and twelve hexadecimal digits) has an IPv6 address other than a link-local one, or
        C(/etc/docker/daemon.json) says C("ipv6") is C(true).
    type: str
    default: auto
    choices: [auto, "true", "false"]
  accept_ra:
    description:
      - Interfaces that are to listen to router advertisements although the host forwards, besides those that are found.
      - Found are interfaces that hold a route or an address from a router advertisement now and whose C(accept_ra) is
        not V(0). Name one here if its router may be silent while the module runs.
      - Only used when IPv6 is forwarded.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) makes the running kernel and the file say what the options say.
      - V(absent) removes the file and leaves the running kernel as it is, because Docker or others may rely on it.
        The next boot is then as it was before this module, unless another file sets the same parameters.
      - On a host that M(bulkhead.docker_nftables.docker_backend) has switched to nftables V(absent) leaves the file, without
        which Docker does not start there. It goes with the way back to iptables.
    type: str
    default: present
    choices: [present, absent]
notes:
  - Docker's iptables backend sets the policy of the FORWARD chain to DROP only if the daemon switched forwarding on by
    itself. With forwarding on before Docker starts it does not, and Docker's nftables backend never does. The forward
    chain of this collection's own table then is what keeps the host from routing between its outside interfaces.
  - When C(net.ipv4.ip_forward) changes the kernel sets other parameters to what suits a router, such as
    C(net.ipv4.conf.all.accept_redirects=0). Settings of your own belong in files that sort after this one.
  - systemd-networkd and NetworkManager handle router advertisements themselves and set C(accept_ra=0). The module
    leaves such interfaces alone.
seealso:
  - module: ansible.posix.sysctl
    description: For any other kernel parameter.
"""

EXAMPLES = r"""
- name: Let Docker forward, now and after every boot
  bulkhead.docker_nftables.ip_forwarding:

- name: With IPv6, and listen to the router on eno1 even if it is silent just now
  bulkhead.docker_nftables.ip_forwarding:
    ipv6: true
    accept_ra: [eno1]

- name: Say what would change
  bulkhead.docker_nftables.ip_forwarding:
  check_mode: true
  diff: true

- name: Leave forwarding to others from the next boot on
  bulkhead.docker_nftables.ip_forwarding:
    state: absent
"""

RETURN = r"""
path:
  description: The file that holds the parameters for the next boot.
  returned: success
  type: str
  sample: /etc/sysctl.d/60-bulkhead-forwarding.conf
settings:
  description: Every parameter the module keeps, with its value, in the order in which they are applied.
  returned: success
  type: dict
  sample:
    net/ipv6/conf/eth0.10/accept_ra: "2"
    net.ipv4.ip_forward: "1"
    net.ipv6.conf.all.forwarding: "1"
    net.ipv6.conf.default.forwarding: "1"
live_changes:
  description: The parameters of the running kernel that were changed, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The parameter.
      type: str
    before:
      description: Its value before.
      type: str
    after:
      description: Its value after.
      type: str
  sample:
    - key: net.ipv4.ip_forward
      before: "0"
      after: "1"
ipv6:
  description: Whether IPv6 is forwarded because of this module. With O(ipv6=auto) this is what was found.
  returned: success
  type: bool
  sample: true
ra_interfaces:
  description: Interfaces that go on listening to router advertisements (C(accept_ra=2)).
  returned: success
  type: list
  elements: str
  sample: [eth0.10]
overrides:
  description:
    - Lines of other files that are read after RV(path) and give one of the parameters another value at boot.
      Each is a warning too.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    line:
      description: The line's number.
      type: int
    key:
      description: The parameter.
      type: str
    value:
      description: The value that wins at the next boot.
      type: str
  sample:
    - path: /etc/sysctl.d/99-hardening.conf
      line: 3
      key: net.ipv4.ip_forward
      value: "0"
msg:
  description: What was done, in one sentence.
  returned: success
  type: str
  sample: Forwarding is on now and at the next boot.
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._forwarding import (
    SYSCTL_FILE,
    Plan,
    apply,
    leave_to_backend,
    plan_absent,
    plan_present,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import (
    SysctlError,
    SysctlTree,
    file_key,
)


def _diff(plan: Plan) -> list[dict[str, str]]:
    """The file, and the running kernel where it differs."""
    parts = [
        {
            "before_header": SYSCTL_FILE,
            "after_header": SYSCTL_FILE,
            "before": plan.file_before or "",
            "after": plan.file_after or "",
        }
    ]
    if plan.live:
        parts.append(
            {
                "before_header": "running kernel",
                "after_header": "running kernel",
                "before": "".join(f"{file_key(change.key)} = {change.before}\n" for change in plan.live),
                "after": "".join(f"{file_key(change.key)} = {change.after}\n" for change in plan.live),
            }
        )
    return parts


def _message(state: str, plan: Plan) -> str:
    if state == "absent":
        if plan.file_after is not None:
            return plan.warnings[0]
        done = f"{SYSCTL_FILE} is removed" if plan.changed else f"{SYSCTL_FILE} is not there"
        return f"{done}; the running kernel keeps its values until the next boot."
    if not plan.settings:
        return "Nothing to set: no IPv4 was asked for and no IPv6 is in use."
    return "Forwarding is on now and at the next boot."


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ipv4": {"type": "bool", "default": True},
            "ipv6": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]},
            "accept_ra": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "present":
        for name in params["accept_ra"]:
            # What the kernel takes as an interface name; anything else could lead out of its directory.
            if not 0 < len(name) <= 15 or "/" in name or name in (".", "..") or any(c.isspace() for c in name):
                module.fail_json(
                    msg=f"accept_ra: {name!r} is not an interface name (1 to 15 characters, no / or space)"
                )
        if not params["ipv4"] and params["ipv6"] == "false":
            module.fail_json(
                msg="ipv4 and ipv6 are both false: nothing is left to forward (state=absent removes the file)"
            )

    tree = SysctlTree()
    try:
        if params["state"] == "absent":
            plan = leave_to_backend(tree, module.check_mode) or plan_absent(tree)
        else:
            plan = plan_present(tree, params["ipv4"], params["ipv6"], params["accept_ra"])
        if plan.changed and not module.check_mode:
            apply(tree, plan)
    except SysctlError as exc:
        module.fail_json(msg=str(exc))

    for warning in plan.warnings:
        module.warn(warning)
    module.exit_json(
        changed=plan.changed,
        diff=_diff(plan),
        path=SYSCTL_FILE,
        settings={file_key(key): value for key, value in plan.settings.items()},
        live_changes=[{"key": file_key(c.key), "before": c.before, "after": c.after} for c in plan.live],
        ipv6=plan.ipv6,
        ra_interfaces=plan.ra_interfaces,
        overrides=[{"path": o.path, "line": o.line, "key": file_key(o.key), "value": o.value} for o in plan.overrides],
        msg=_message(params["state"], plan),
    )


if __name__ == "__main__":
    main()
