# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run playbooks of this checkout against a lab: over SSH, from the neighbour's network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from lab import inventory, paths
from lab.peer import Peer
from lab.process import LabError, kill, run, stop_family

if t.TYPE_CHECKING:
    from lab.topology import Lab

_COLLECTION = Path("ansible_collections") / "bulkhead" / "docker_nftables"
_PLUGINS = Path(__file__).with_name("callback_plugins")


@dataclass
class PlaybookResult:
    """What a run gave: its exit code, its output, Ansible's counts, and every task's result on every host."""

    rc: int
    stdout: str
    stderr: str
    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    events: list[dict[str, t.Any]] = field(default_factory=list)

    def changed(self, host: str) -> int:
        return self.stats[host]["changed"]

    def failed(self, host: str) -> int:
        return self.stats[host]["failures"] + self.stats[host]["unreachable"]

    def tasks(self, host: str) -> list[dict[str, t.Any]]:
        """Results in order: `task`, `action`, `status` (ok, failed, skipped, unreachable), `changed`, `result`."""
        return [event for event in self.events if event["host"] == host]

    def messages(self, host: str | None = None) -> str:
        """The messages of failed tasks."""
        wanted = [e for e in self.events if e["status"] in ("failed", "unreachable") and host in (None, e["host"])]
        return "\n".join(str(event["result"].get("msg", event["result"])) for event in wanted)


class PlaybookRun:
    """A playbook on its way; `wait()` gives the result, `kill()` ends the controller as a crash would."""

    def __init__(self, process: subprocess.Popen[str], record: Path, out: Path, err: Path) -> None:
        self.process = process
        self._record, self._out, self._err = record, out, err

    def events(self) -> list[dict[str, t.Any]]:
        """What has happened so far."""
        if not self._record.exists():
            return []
        lines = self._record.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait(self, timeout: float = 600) -> PlaybookResult:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise LabError(f"the playbook did not end in {timeout:g} s\n{self._out.read_text()[-3000:]}") from exc
        events = self.events()
        stats: dict[str, dict[str, int]] = next((event["stats"] for event in events if "stats" in event), {})
        results = [event for event in events if "host" in event]
        return PlaybookResult(code, self._out.read_text(), self._err.read_text(), stats, results)

    def kill(self) -> None:
        """SIGKILL to the controller and all its workers at once, also those with a session of their own."""
        if self.process.poll() is None:
            family = stop_family(self.process.pid)
            for pid in family:
                kill(pid)
        self.process.wait()


def collections(lab: Lab) -> Path:
    """A tree in which the checkout has its place as a collection."""
    tree = lab.directory / "collections"
    place = tree / _COLLECTION
    if not place.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(paths.REPOSITORY)
    return tree


def environment(lab: Lab) -> dict[str, str]:
    """The environment of every Ansible command for a lab; nothing of the user's own configuration takes part."""
    config = lab.directory / "ansible.cfg"
    config.touch()
    own = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    bin_directory = str(Path(sys.executable).parent)
    return {
        **own,
        "PATH": f"{bin_directory}:{own.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(lab.directory / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections(lab)),
        "ANSIBLE_INVENTORY": str(inventory.path(lab)),
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.directory / "cp"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_CALLBACK_PLUGINS": str(_PLUGINS),
        "ANSIBLE_CALLBACKS_ENABLED": "lab_events",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _program() -> str:
    beside = Path(sys.executable).with_name("ansible-playbook")
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not found:
        raise LabError(f"ansible-playbook is neither beside {sys.executable} nor on the PATH")
    return found


def start_playbook(
    lab: Lab,
    playbook: str | Path | list[dict[str, t.Any]],
    hosts: str | None = None,
    extra_vars: t.Mapping[str, t.Any] | None = None,
    check: bool = False,
    diff: bool = False,
    peer: Peer | None = None,
    options: t.Sequence[str] = (),
    env: t.Mapping[str, str] | None = None,
) -> PlaybookRun:
    """Start a playbook: a file, the name of one of the collection's, or plays as data. `hosts` limits the run."""
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=lab.directory))
    if isinstance(playbook, list):
        file = scratch / "playbook.json"
        file.write_text(json.dumps(playbook))
        playbook = file
    argv = [_program(), "-i", str(inventory.path(lab)), str(playbook), *options]
    argv += ["--limit", hosts] if hosts else []
    if extra_vars:
        # In a file: ten thousand rules are more than a command line holds.
        variables = scratch / "extra_vars.json"
        variables.write_text(json.dumps(dict(extra_vars)))
        argv += ["--extra-vars", f"@{variables}"]
    argv += (["--check"] if check else []) + (["--diff"] if diff else [])
    out, err, record = scratch / "stdout", scratch / "stderr", scratch / "events"
    with open(out, "wb") as out_handle, open(err, "wb") as err_handle:
        process = (peer or lab.peer).popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out_handle,
            stderr=err_handle,
            text=True,
            cwd=scratch,
            env={**environment(lab), "LAB_EVENTS": str(record), **(env or {})},
            start_new_session=True,
        )
    return PlaybookRun(process, record, out, err)


def run_playbook(
    lab: Lab,
    playbook: str | Path | list[dict[str, t.Any]],
    hosts: str | None = None,
    extra_vars: t.Mapping[str, t.Any] | None = None,
    check: bool = False,
    diff: bool = False,
    peer: Peer | None = None,
    options: t.Sequence[str] = (),
    env: t.Mapping[str, str] | None = None,
    timeout: float = 600,
) -> PlaybookResult:
    """Run a playbook to its end; a failure is in the result, not an exception."""
    started = start_playbook(lab, playbook, hosts, extra_vars, check, diff, peer, options, env)
    return started.wait(timeout)


def ping(lab: Lab) -> PlaybookResult:
    """Whether Ansible gets to the hosts at all."""
    return run_playbook(
        lab, [{"hosts": "docker_hosts", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}]
    )


def close_connections(lab: Lab) -> None:
    """End SSH connections that Ansible keeps for later, so that the next task makes a new one."""
    for socket in (lab.directory / "cp").glob("*"):
        run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False)
