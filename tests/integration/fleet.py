# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three hosts, one for each Debian release, hardened by one playbook run, and what can be reached from anywhere."""

from __future__ import annotations

import json
import os
import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import images
from lab import probe as prober
from lab.ansible import PlaybookResult, run_playbook
from lab.containers import STANDARD, ContainerSet, Target
from lab.host import Host
from lab.topology import Lab

SUITES = tuple(os.environ.get("LAB_SUITES", "").replace(",", " ").split()) or images.SUITES
#: Longer than any answer takes on a busy machine; what is dropped is never answered.
PATIENCE = 2.0

Key = t.Tuple[str, str, int]
Table = t.Dict[Key, str]
Policy = t.Dict[str, t.Any]

#: The question this collection began with: only these from outside, whatever containers publish.
ONLY_SSH_AND_WEB: Policy = {
    "docker_firewall_rules": [{"to": "host", "ports": [22]}, {"to": "published", "ports": [80, 443]}]
}


@contextmanager
def fleet(name: str, containers: ContainerSet = STANDARD, second_nic: bool = False) -> t.Iterator[Lab]:
    """A lab with a host of every suite, named after it, with containers up."""
    with Lab(f"{name}{os.getpid()}") as lab:
        for number, suite in enumerate(SUITES):
            lab.add_host(suite, suite, 11 + number, second_nic=second_nic)
        lab.boot()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda host: host.containers_up(containers), lab.hosts.values()))
        yield lab


def play(lab: Lab, name: str, policy: Policy, **options: t.Any) -> PlaybookResult:
    """Run one of the collection's playbooks on all hosts; it has to succeed."""
    result = run_playbook(lab, f"bulkhead.docker_nftables.{name}", hosts="docker_hosts", extra_vars=policy, **options)
    assert result.rc == 0, f"{name} failed\n{result.messages()}\n{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return result


def both(host: Host, proto: str, *ports: int) -> set[Key]:
    """These ports on the host's address of either family."""
    return {(proto, address, port) for address in (host.address4, host.address6) for port in ports}


def target(proto: str, address: str, port: int) -> Target:
    """One thing to try."""
    return {"proto": proto, "address": address, "port": port}


def table(results: t.Iterable[Target]) -> Table:
    """What was tried, and what came of it."""
    return {(item["proto"], item["address"], item["port"]): item["result"] for item in results}


def only(wanted: t.Iterable[Target], open_: set[Key], refused: t.AbstractSet[Key] = frozenset()) -> Table:
    """The table in which what is named is open or refused, and all else is dropped."""
    keys = {(item["proto"], item["address"], item["port"]) for item in wanted}
    assert open_ <= keys, f"never tried: {open_ - keys}"
    assert refused <= keys, f"never tried: {refused - keys}"
    return {key: "open" if key in open_ else "refused" if key in refused else "timeout" for key in keys}


def _run_probe(host: Host, enter: list[str], targets: t.Sequence[Target]) -> list[Target]:
    source = Path(prober.__file__).read_text(encoding="utf-8")
    order = json.dumps({"targets": list(targets), "timeout": PATIENCE}) + "\n"
    return json.loads(host.run([*enter, "/usr/bin/python3", "-I", "-c", source, "once"], input=order).stdout)


def from_host(host: Host, targets: t.Sequence[Target]) -> list[Target]:
    """Try from the host itself."""
    return _run_probe(host, [], targets)


def from_container(host: Host, name: str, targets: t.Sequence[Target]) -> list[Target]:
    """Try from a container's network."""
    pid = host.run(["docker", "inspect", "--format", "{{.State.Pid}}", name]).stdout.strip()
    return _run_probe(host, ["nsenter", "-t", pid, "-n", "--"], targets)


def ruleset(host: Host) -> str:
    """The whole ruleset without counters."""
    return host.run(["nft", "-s", "list", "ruleset"]).stdout


def own_table(host: Host) -> str:
    """The collection's own table without counters."""
    return host.run(["nft", "-s", "list", "table", "inet", "bulkhead"]).stdout


_TREE = """
import hashlib, json, os, stat, sys

def describe(path, status):
    what = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as handle:
            what.append(hashlib.sha256(handle.read()).hexdigest())
    elif stat.S_ISLNK(status.st_mode):
        what.append(os.readlink(path))
    return what

found = {}
for top in sys.argv[1:]:
    device = os.stat(top).st_dev
    for where, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(where, name)
            try:
                status = os.lstat(path)
                if status.st_dev == device:
                    found[path] = describe(path, status)
                elif name in directories:
                    directories.remove(name)
            except FileNotFoundError:
                pass
json.dump(found, sys.stdout)
"""


def tree(host: Host, *tops: str) -> dict[str, list[t.Any]]:
    """Every file and directory below, other file systems left out: mode, owner and content."""
    return json.loads(host.run(["/usr/bin/python3", "-I", "-c", _TREE, *tops]).stdout)
