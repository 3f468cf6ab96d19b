#!/usr/bin/python
# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Change settings of the Docker daemon that the installed engine is sure to start with
version_added: "0.1.0"
author:
  - bulkhead contributors (@bulkhead-firewall)
description:
  - Merges settings into C(daemon.json), keeps what else is in it, and says what the change needs to take effect. The
    module never reloads or restarts Docker.
  - Before anything is written the file as it would be is checked for the installed engine. Docker does not start with
    a key that its version does not know, with a value of another type, or with a key that its unit gives as a flag as
    well, and there is more that C(dockerd --validate) finds valid and then ends on. All that is wrong is said at once,
    and nothing is changed.
  - The file keeps its form, that is the order of its keys, its indentation, its line endings, its mode and its group.
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
  settings:
    description:
      - Settings to put into the file. Keys and types are those of C(daemon.json); booleans and numbers are none when
        they come from a template as text.
      - Where a key's value is an object, here and in the file, the keys of both are put together, one level deep; of
        C(default-network-opts) also the options of each driver. See O(replace).
      - V(false) for C(iptables) needs O(allow_iptables_false).
    type: dict
    default: {}
  remove:
    description:
      - Keys to take out of the file. Of most keys that a reload applies the daemon keeps the value when the key is
        gone; such a removal needs a restart.
    type: list
    elements: str
    default: []
  replace:
    description:
      - Keys of O(settings) whose object replaces the one in the file instead of being put together with it.
    type: list
    elements: str
    default: []
  path:
    description:
      - The file. Without it the one that C(docker.service) names with C(--config-file), else
        C(/etc/docker/daemon.json).
    type: path
  backup:
    description:
      - Whether to keep what the file was, next to it, readable by root only. The same content is kept once.
    type: bool
    default: true
  validate:
    description:
      - Whether to have C(dockerd --validate) look at the file too, with the flags of C(docker.service). It is there
        from Docker 23.0 on; before that this option does nothing.
    type: bool
    default: true
  allow_iptables_false:
    description:
      - Whether C(iptables) may be set to V(false). Docker then makes no rules at all, neither those that let containers
        out nor those that keep networks apart, and does so for its nftables backend too.
    type: bool
    default: false
  state:
    description:
      - V(present) is all there is. To undo a setting see O(remove).
    type: str
    default: present
    choices: [present]
notes:
  - A file that does not exist yet is made with mode 0644. An existing one keeps its mode, but never stays writable for
    everybody.
  - A file that dockerd reads, but that no one can change safely, is an error too. That is one with a key that stands
    twice in an object.
  - The docker SDK for Python is used to ask the running daemon. Without it, RV(needs) is told from the old file.
seealso:
  - module: bulkhead.docker_nftables.docker_firewall_info
  - module: bulkhead.docker_nftables.ip_forwarding
  - name: dockerd
    description: All settings.
    link: https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
"""

EXAMPLES = r"""
- name: Publish ports of the default bridge on loopback only, and keep containers running through restarts
  bulkhead.docker_nftables.docker_daemon_config:
    settings:
      ip: 127.0.0.1
      live-restore: true
      log-opts:
        max-size: 10m
  register: daemon

- name: Have Docker take it on
  ansible.builtin.service:
    name: docker
    state: "{{ 'reloaded' if daemon.needs == 'reload' else 'restarted' }}"
  when: daemon.needs != 'nothing'

- name: See whether Docker would start with the file as it is
  bulkhead.docker_nftables.docker_daemon_config:
  check_mode: true

- name: Choose the nftables backend of Docker 29
  bulkhead.docker_nftables.docker_daemon_config:
    settings:
      firewall-backend: nftables
    remove: [ip-forward-no-drop]
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/docker/daemon.json
needs:
  description:
    - What has to happen before the running daemon has all of it. It is told from the running daemon where that says
      what it has, else from what the file was.
    - V(restart_without_containers) is a restart during which no container runs. With C(live-restore) and running
      containers the default bridge stays as it was.
    - May be other than V(nothing) without a change, when an earlier change was never applied.
  returned: success
  type: str
  sample: reload
keys_changed:
  description: The keys whose values in the file were changed, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The key.
      type: str
    before:
      description: Its value before, V(null) where it was not there. Users and passwords of addresses are hidden.
      type: raw
    after:
      description: Its value after, V(null) where it is gone.
      type: raw
    needs:
      description: What this key needs, as RV(needs).
      type: str
  sample:
    - key: live-restore
      before: null
      after: true
      needs: reload
pending:
  description: Keys that the file has already, but the running daemon has otherwise; as RV(keys_changed).
  returned: success
  type: list
  elements: dict
  sample: []
engine_version:
  description: The installed engine; V(null) where Docker is not installed.
  returned: success
  type: str
  sample: 26.1.5+dfsg1
backup_file:
  description: The copy of what the file was; V(null) where there is none.
  returned: success
  type: str
  sample: /etc/docker/daemon.json.bulkhead-44136fa355b3
errors:
  description: Why nothing was changed, one sentence each.
  returned: failure
  type: list
  elements: str
  sample:
    - >-
      settings.firewall-backend: Docker knows this key from 29.0 on; this is 26.1.5+dfsg1, which would not start with it
"""

import os
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_json as daemon_json
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import (
    Changed,
    Check,
    Wanted,
    changes,
    needed,
    pending,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_config import (
    DaemonConfigError,
    Host,
    read_file,
    write_file,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import Runner


def _fail(module: AnsibleModule, path: str, errors: list[str], **facts: Any) -> NoReturn:
    count = "is 1 mistake" if len(errors) == 1 else f"are {len(errors)} mistakes"
    listed = "\n".join(f"- {error}" for error in errors)
    module.fail_json(msg=f"{path} was not changed, there {count}:\n{listed}", errors=errors, **facts)


def _shown(changed: list[Changed]) -> list[dict[str, Any]]:
    return [
        {
            "key": each.key,
            "before": daemon_json.masked_value(each.before),
            "after": daemon_json.masked_value(each.after),
            "needs": each.needs,
        }
        for each in changed
    ]


def _run(module: AnsibleModule, host: Host) -> None:
    params = module.params
    path = params["path"] or host.path()
    if not os.path.isabs(path):
        _fail(module, path, [f"path: {path!r} is not an absolute path"])
    found = read_file(path)
    try:
        before = daemon_json.parse(found.text)
    except daemon_json.DaemonJsonError as exc:
        _fail(module, path, [f"{path}: {exc}. Docker does not start with it; correct the file first"])

    asked = params["validate"] and host.validates
    wanted = Wanted(
        params["settings"],
        tuple(params["remove"]),
        tuple(params["replace"]),
        params["allow_iptables_false"],
        validated=asked,
    )
    after = daemon_json.merged(before, wanted.settings, wanted.remove, wanted.replace)
    changed = changes(before, after, host.engine)
    before_text = found.text or ""
    rewritten = bool(changed) or (before_text.startswith(daemon_json.BOM) and not host.validates)
    text = daemon_json.render(after, daemon_json.form_of(found.text)) if rewritten else before_text
    check = Check(path, wanted, after, host.engine).run()
    if not check.errors and asked:
        objection = host.objection(text, path)
        if objection is not None:
            check.errors.append(f"dockerd {host.engine.text} does not find it valid: {objection}")
    if check.errors:
        _fail(module, path, check.errors, engine_version=host.engine.text or None)

    backup = None
    if rewritten and not module.check_mode:
        backup = write_file(path, found, text, params["backup"])
    for warning in (*host.warnings, *check.warnings):
        module.warn(warning)
    if params["path"] and params["path"] != host.path():
        module.warn(f"Docker reads {host.path()}, not {path}.")
    left = pending(before, after, host.engine)
    module.exit_json(
        changed=rewritten,
        path=path,
        needs=needed([*changed, *left]),
        keys_changed=_shown(changed),
        pending=_shown(left),
        engine_version=host.engine.text or None,
        backup_file=backup,
        diff={
            "before_header": path,
            "after_header": path,
            "before": daemon_json.masked(before_text),
            "after": daemon_json.masked(text),
        },
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "default": {}},
            "remove": {"type": "list", "elements": "str", "default": []},
            "replace": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path"},
            "backup": {"type": "bool", "default": True},
            "validate": {"type": "bool", "default": True},
            "allow_iptables_false": {"type": "bool", "default": False},
            "state": {"type": "str", "default": "present", "choices": ["present"]},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="daemon.json and the flags of Docker can be read by root only; use become")
    try:
        _run(module, Host(Runner()).look())
    except DaemonConfigError as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
