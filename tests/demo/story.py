# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo from beginning to end."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from demo import leave
from demo.play import COLLECTION, play, require
from demo.table import Socket, Target, reached, show, styled
from lab import inventory, paths
from lab.containers import STANDARD, standard_targets
from lab.host import Host
from lab.process import LabError
from lab.topology import Lab

_POLICY = Path(__file__).with_name("policy.yml")
# What the policy says, written down a second time on purpose: the collection's own reading of it proves nothing.
_ALLOWED = (22, 80, 443)
_HOSTS = {"docker_firewall_hosts": "docker_hosts"}
_LAB = "PYTHONPATH=tests .venv/bin/python -m lab"


def _head(number: int, text: str) -> None:
    print(f"\n{styled(f'{number}. {text}', 'bold')}\n", flush=True)


def tell(suite: str) -> int:
    """Boot, look, harden, look again, harden again, verify. Gives the exit code."""
    begin = time.monotonic()
    if leave.remove_lab():
        print("Removed the host of an earlier demo.", flush=True)
    leave.image(suite)
    with Lab(leave.NAME) as lab:
        host = _boot(lab, suite)
        targets = standard_targets(host)
        before = _before(lab, host, targets)
        problems = _harden(lab)
        after = lab.peer.probe(targets)
        _head(4, "What the neighbour reaches now")
        show(after, before)
        problems += _compare(after, _expected(host))
        problems += _again(lab)
        lab.detach()
    for problem in problems:
        print(styled(f"  WRONG: {problem}", "red"))
    _farewell(lab, time.monotonic() - begin, not problems)
    return 1 if problems else 0


def _boot(lab: Lab, suite: str) -> Host:
    _head(1, f"A Docker host (Debian {suite}) and a neighbour on its LAN")
    begin = time.monotonic()
    host = lab.add_host("host", suite)
    host.boot()
    print(f"  {time.monotonic() - begin:5.1f} s  systemd, sshd and Docker are up", flush=True)
    host.containers_up(STANDARD)
    lab.peer.route_via(host)
    count, networks = len(STANDARD.containers), len(STANDARD.networks)
    print(f"  {time.monotonic() - begin:5.1f} s  {count} containers on {networks + 2} networks are up")
    engine = host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout.strip()
    print(f"  host {host.address4}, {host.address6}: Docker {engine}, {host.run(['nft', '--version']).stdout.strip()}")
    print(f"  neighbour {lab.peer.address4}, {lab.peer.address6}", flush=True)
    return host


def _before(lab: Lab, host: Host, targets: list[Target]) -> list[Target]:
    _head(2, "What the neighbour reaches, as Docker leaves it")
    before = lab.peer.probe(targets)
    show(before)
    print("  Docker rewrites a packet's destination before the INPUT chain is asked: no INPUT rule of the host")
    print("  closes a published port. Whoever sets a route also reaches containers at their own addresses.")
    missing = _expected(host) - reached(before)
    if missing:
        raise LabError(f"the demo's host is not as it should be; these do not answer: {_sockets(missing)}")
    return before


def _harden(lab: Lab) -> list[str]:
    _head(3, "The policy, and the playbook over SSH")
    print("  group_vars/docker_hosts.yml")
    print("".join(f"    {line}\n" for line in _POLICY.read_text().splitlines()[1:]))
    group_vars = inventory.path(lab).parent / "group_vars"
    group_vars.mkdir(exist_ok=True)
    shutil.copy(_POLICY, group_vars / "docker_hosts.yml")
    result = play(lab, "harden", _HOSTS)
    require(result, "the playbook")
    return [] if result.changed("host") else ["the first run changed nothing"]


def _again(lab: Lab) -> list[str]:
    problems = []
    _head(5, "The same playbook a second time")
    second = play(lab, "harden", _HOSTS)
    require(second, "the second run")
    if second.changed("host"):
        problems.append(f"the second run changed {second.changed('host')}")
    _head(6, "The playbook verify: packets from the neighbour against the policy")
    verified = play(lab, "verify", {**_HOSTS, "docker_firewall_verify_from": "neighbours"})
    if verified.rc != 0:
        problems.append(f"verify: {verified.messages() or verified.stdout[-2000:]}")
    return problems


def _expected(host: Host) -> set[Socket]:
    return {("tcp", address, port) for address in (host.address4, host.address6) for port in _ALLOWED}


def _compare(after: list[Target], expected: set[Socket]) -> list[str]:
    """Where the packets and the policy disagree."""
    found = reached(after)
    problems = []
    if found - expected:
        problems.append(f"open, and must be closed: {_sockets(found - expected)}")
    if expected - found:
        problems.append(f"closed, and must be open: {_sockets(expected - found)}")
    if not problems:
        print("  That is exactly what the policy says: 22, 80 and 443, IPv4 and IPv6, and nothing else.")
    return problems


def _sockets(sockets: set[Socket]) -> str:
    return ", ".join(f"{address} {port}/{proto}" for proto, address, port in sorted(sockets))


def _farewell(lab: Lab, seconds: float, good: bool) -> None:
    _head(7, f"{'Done' if good else 'FAILED'} in {seconds:.0f} s. The host stays up; look around")
    print(
        f"""\
  {_LAB} exec {lab.name} host bash
      a shell on the host. For instance:
      nft list table inet bulkhead                  the table; comments name the rules
      docker run -d -p 9000:80 lab/web httpd -f     published, and closed without another run
  {_LAB} probe {lab.name}
      what the neighbour reaches
  make demo-clean
      takes all of it away; the inventory is {inventory.path(lab)}

{styled("On your own hosts", "bold")} (controller: ansible-core 2.17 or later)

  ansible-galaxy collection install git+file://{paths.REPOSITORY}
      and the lines above, with your own networks, in group_vars/all.yml beside your inventory
  ansible-playbook -i inventory {COLLECTION}.harden --check --diff
      says what would change
  ansible-playbook -i inventory {COLLECTION}.harden
      refuses to lock you out, and puts the old rules back when it is not reached afterwards
  ansible-playbook -i inventory {COLLECTION}.verify -e docker_firewall_hosts=HOST
      sends packets to HOST from the inventory's other hosts
""",
        flush=True,
    )
