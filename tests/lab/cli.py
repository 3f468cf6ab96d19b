# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: bring a lab up and leave it up, use it, remove it."""

from __future__ import annotations

import argparse
import json
import os
import sys

from lab import cleanup, images, inventory, state
from lab.containers import SETS, standard_targets
from lab.images import say
from lab.process import LabError
from lab.topology import Lab


def _up(args: argparse.Namespace) -> None:
    with Lab(args.lab) as lab:
        suites = args.suite or ["bookworm"]
        for number, suite in enumerate(suites):
            name = args.host if len(suites) == 1 else f"{args.host}-{suite}"
            lab.add_host(name, suite, address_suffix=11 + number, second_nic=args.second_nic, variant=args.variant)
        say(f"booting {', '.join(lab.hosts)}")
        lab.boot()
        for host in lab.hosts.values():
            if args.containers:
                seconds = host.containers_up(SETS[args.containers])
                say(f"{host.name}: {len(SETS[args.containers].containers)} containers in {seconds:.0f} s")
                lab.peer.route_via(host)
            say(f"{host.name}: {host.suite}, {host.address4}, {host.address6}")
        lab.detach()
    say(f"inventory {inventory.path(lab)}; `down {lab.name}` removes all of it")


def _down(args: argparse.Namespace) -> None:
    cleanup.remove(args.lab)
    say(f"lab {args.lab} is gone")


def _clean(_args: argparse.Namespace) -> None:
    for lab in state.known():
        cleanup.remove(lab)
        say(f"lab {lab} is gone")


def _list(_args: argparse.Namespace) -> None:
    for name in state.known():
        if state.load(name) is None:
            print(f"{name}  (remains)")
            continue
        lab = Lab.attach(name)
        for host in lab.hosts.values():
            power = "up" if host.running else "off"
            print(f"{name}  {host.name}  {host.suite}  {power}  {host.address4}  {host.address6}")


def _exec(args: argparse.Namespace) -> None:
    lab = Lab.attach(args.lab)
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if args.host in lab.peers:
        command = lab.peers[args.host].namespace.command(argv)
    elif args.host in lab.hosts:
        command = lab.hosts[args.host].command(argv)
    else:
        raise LabError(f"lab {args.lab} has no {args.host}; it has {', '.join([*lab.hosts, *lab.peers])}")
    os.execvp(command[0], command)


def _inventory(args: argparse.Namespace) -> None:
    print(inventory.path(Lab.attach(args.lab)).read_text(), end="")


def _probe(args: argparse.Namespace) -> None:
    lab = Lab.attach(args.lab)
    for host in lab.hosts.values():
        results = lab.peer.probe(standard_targets(host), timeout=args.timeout)
        if args.json:
            print(json.dumps({host.name: results}))
            continue
        for entry in results:
            what = entry["container"] or "host"
            print(f"{host.name}  {entry['result']:<11}  {entry['proto']}  {entry['address']}  {entry['port']}  {what}")


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = main_parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="boot hosts and a neighbour, and leave them up")
    up.add_argument("lab")
    up.add_argument("--suite", action="append", choices=images.SUITES, help="may be given several times")
    up.add_argument("--host", default="host", help="name of the host (several suites: the beginning of the names)")
    up.add_argument("--containers", choices=sorted(SETS))
    up.add_argument("--second-nic", action="store_true")
    up.add_argument("--variant", default="", help="image variant, for instance firewalld")
    up.set_defaults(call=_up)

    for name, call, text in (
        ("down", _down, "remove a lab"),
        ("inventory", _inventory, "print the Ansible inventory"),
        ("probe", _probe, "what the neighbour reaches"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("lab")
        command.set_defaults(call=call)
        if name == "probe":
            command.add_argument("--timeout", type=float, default=1.0)
            command.add_argument("--json", action="store_true")

    commands.add_parser("clean", help="remove all labs").set_defaults(call=_clean)
    commands.add_parser("list", help="what is up").set_defaults(call=_list)
    execute = commands.add_parser("exec", help="run a command in a host or at a neighbour")
    execute.add_argument("lab")
    execute.add_argument("host")
    execute.add_argument("argv", nargs=argparse.REMAINDER)
    execute.set_defaults(call=_exec)
    return main_parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if os.geteuid() != 0:
        print("lab: root is needed for namespaces and mounts", file=sys.stderr)
        return 1
    try:
        args.call(args)
    except (LabError, ValueError) as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 1
    return 0
