# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IP forwarding for Docker: which parameters it needs, what has to change, and the change itself.
PRIVATE to the collection: may change or disappear at any time.

A kernel interface with accept_ra=1 stops listening to routers the moment forwarding goes on, and its default
route is gone at once. accept_ra=2 says "listen although I forward"; it has to be there before forwarding is.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_record, _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import (
    Assignment,
    SysctlError,
    SysctlTree,
    file_key,
    parse_assignments,
)

SYSCTL_FILE = "/etc/sysctl.d/60-bulkhead-forwarding.conf"
IPV4_FORWARD = "net/ipv4/ip_forward"
IPV6_ALL_FORWARD = "net/ipv6/conf/all/forwarding"
IPV6_DEFAULT_FORWARD = "net/ipv6/conf/default/forwarding"

_HEADER = """\
# Written by bulkhead.docker_nftables.ip_forwarding. Changes made here are overwritten by its next run.
# Docker needs forwarding; accept_ra = 2 keeps the routes and addresses that routers announce.
"""
_NOT_INTERFACES = ("all", "default", "lo")
# The names Docker gives to bridges by itself.
_DOCKER_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
# Characters that mean themselves in a sysctl.d file.
_FILE_SAFE = re.compile(r"[A-Za-z0-9_.:@+-]+")
# include/uapi/linux/ipv6_route.h and if_addr.h
_RTF_ADDRCONF = 0x00040000
_IFA_F_PERMANENT = 0x80
_SCOPE_GLOBAL = 0x00


class Change(t.NamedTuple):
    """One parameter of the running kernel that has to change."""

    key: str
    before: str
    after: str


class Plan(t.NamedTuple):
    """What to do, and what to tell the user."""

    live: list[Change]
    file_before: str | None
    file_after: str | None
    file_changed: bool
    settings: dict[str, str]
    ipv6: bool
    ra_interfaces: list[str]
    overrides: list[Assignment]
    warnings: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.live) or self.file_changed


def accept_ra_key(interface: str) -> str:
    return f"net/ipv6/conf/{interface}/accept_ra"


def announced_interfaces(tree: SysctlTree) -> set[str]:
    """Interfaces that hold a route or an address which the kernel itself took from a router advertisement."""
    found = set()
    for line in (tree.read("/proc/net/ipv6_route") or "").splitlines():
        fields = line.split()
        if len(fields) == 10 and int(fields[8], 16) & _RTF_ADDRCONF:
            found.add(fields[9])
    for interface, flags in _global_addresses(tree):
        if not flags & _IFA_F_PERMANENT:
            found.add(interface)
    return found


def docker_uses_ipv6(tree: SysctlTree) -> bool:
    """Whether forwarding is on already, a bridge of Docker's has an IPv6 address, or daemon.json asks for one."""
    if tree.get(IPV6_ALL_FORWARD) is None:
        return False
    if tree.get(IPV6_ALL_FORWARD) != "0":
        return True
    if any(_DOCKER_BRIDGE.fullmatch(interface) for interface, _flags in _global_addresses(tree)):
        return True
    try:
        settings = json.loads(tree.read("/etc/docker/daemon.json") or "{}")
    except ValueError:
        return False  # A broken file is reported by the module that reads Docker's settings.
    return isinstance(settings, dict) and settings.get("ipv6") is True


def plan_present(tree: SysctlTree, ipv4: bool = True, ipv6: str = "auto", accept_ra: t.Iterable[str] = ()) -> Plan:
    """What makes the running kernel and the next boot forward.

    :raises SysctlError: if the kernel lacks a parameter that was asked for
    """
    use_ipv6 = docker_uses_ipv6(tree) if ipv6 == "auto" else ipv6 == "true"
    if use_ipv6 and tree.get(IPV6_ALL_FORWARD) is None:
        raise SysctlError("ipv6 is true, but the running kernel has no IPv6 (no /proc/sys/net/ipv6/conf/all)")
    before = tree.read(SYSCTL_FILE)
    settings: dict[str, str] = {}
    warnings: list[str] = []
    interfaces: list[str] = []
    if use_ipv6:
        interfaces = _listening_interfaces(tree, before or "", set(accept_ra))
        # First the interfaces: the file is applied from top to bottom, and so are the changes.
        settings.update((accept_ra_key(interface), "2") for interface in interfaces)
    if ipv4:
        settings[IPV4_FORWARD] = "1"
    if use_ipv6:
        settings[IPV6_ALL_FORWARD] = "1"
        settings[IPV6_DEFAULT_FORWARD] = "1"

    live = []
    for key, value in settings.items():
        now = tree.get(key)
        if now is None:
            if not key.endswith("/accept_ra"):
                raise SysctlError(f"The running kernel has no parameter {file_key(key)}")
        elif now != value:
            live.append(Change(key, now, value))

    for interface in interfaces:
        if not _FILE_SAFE.fullmatch(interface):
            warnings.append(
                f"The name of interface {interface!r} cannot be written to {SYSCTL_FILE}: its accept_ra = 2 holds "
                "until the next boot only."
            )
    after = _render(settings)
    overrides = tree.overrides(SYSCTL_FILE, settings)
    for item in overrides:
        warnings.append(
            f"{item.path}:{item.line} sets {file_key(item.key)} = {item.value} and is read after {SYSCTL_FILE}: "
            "at the next boot its value wins. Remove that line."
        )
    file_changed = before != after or (after is not None and not tree.is_plain(SYSCTL_FILE))
    return Plan(live, before, after, file_changed, settings, use_ipv6, interfaces, overrides, warnings)


def plan_absent(tree: SysctlTree) -> Plan:
    """Only the file goes: who else needs forwarding by now, nobody can tell."""
    before = tree.read(SYSCTL_FILE)
    return Plan([], before, None, tree.exists(SYSCTL_FILE), {}, False, [], [], [])


def leave_to_backend(tree: SysctlTree, check_mode: bool) -> Plan | None:
    """Leave the file to a host whose Docker was switched to nftables, which does not start without forwarding.

    Gives None on other hosts. The record of the switch says from then on that the file goes with the way back.

    :raises SysctlError: if the record cannot be read or written
    """
    root = tree.root.rstrip("/")
    try:
        record = _backend_record.read(root)
        if record is None or not tree.exists(SYSCTL_FILE):
            return None
        if not record.made_sysctl_file and not check_mode:
            _files.write(root + _backend_record.PATH, replace(record, made_sysctl_file=True).text(), 0o600)
    except (_backend_record.RecordError, OSError) as exc:
        raise SysctlError(f"{SYSCTL_FILE} was not removed: {exc}") from exc
    warning = (
        f"{SYSCTL_FILE} stays: Docker makes its rules with nftables on this host and does not start without forwarding. "
        "It goes when the playbook migrate takes the host back to iptables."
    )
    text = tree.read(SYSCTL_FILE)
    return Plan([], text, text, False, {}, False, [], [], [warning])


def apply(tree: SysctlTree, plan: Plan) -> None:
    """Make the plan true, or put back what was changed and raise.

    :raises SysctlError: names the parameter or file
    """
    done: list[Change] = []
    try:
        for change in plan.live:
            # all/forwarding writes default/forwarding too.
            if tree.get(change.key) != change.after:
                done.append(change)
                tree.set(change.key, change.after)
        if plan.file_changed:
            if plan.file_after is None:
                tree.remove(SYSCTL_FILE)
            else:
                tree.write(SYSCTL_FILE, plan.file_after)
    except SysctlError as exc:
        kept = _put_back(tree, done)
        if kept:
            raise SysctlError(f"{exc}. Could not be put back: {', '.join(kept)}") from exc
        raise


def _put_back(tree: SysctlTree, done: list[Change]) -> list[str]:
    kept = []
    for change in reversed(done):
        try:
            if tree.get(change.key) != change.before:
                tree.set(change.key, change.before)
        except SysctlError:
            kept.append(f"{file_key(change.key)} = {change.after}")
    return kept


def _listening_interfaces(tree: SysctlTree, file_text: str, named: set[str]) -> list[str]:
    """The interfaces that must go on listening to routers.

    accept_ra=0 is somebody's decision: the admin's, or that of systemd-networkd or NetworkManager, which listen by
    themselves. It is respected, also for an interface that an earlier run wrote into the file.
    """
    present = [name for name in tree.children("net/ipv6/conf") if name not in _NOT_INTERFACES]
    # Who speaks on a bridge of Docker's is a container, and a container is no router of the host.
    announced = {name for name in announced_interfaces(tree) if not _DOCKER_BRIDGE.fullmatch(name)}
    recorded = {
        assignment.key.split("/")[3]
        for assignment in parse_assignments(file_text, SYSCTL_FILE)
        if re.fullmatch(r"net/ipv6/conf/[^/]+/accept_ra", assignment.key)
    }
    # A recorded interface that is away just now (a USB adapter, a VLAN not yet up) keeps its line.
    found = {name for name in recorded | named if name not in present}
    for name in present:
        listening = name in announced | recorded and tree.get(accept_ra_key(name)) != "0"
        if listening or name in named:
            found.add(name)
    return sorted(found)


def _global_addresses(tree: SysctlTree) -> list[tuple[str, int]]:
    """Interface and flags of every address of global scope (private ones, fd00::/8, count as global)."""
    found = []
    for line in (tree.read("/proc/net/if_inet6") or "").splitlines():
        fields = line.split()
        if len(fields) == 6 and int(fields[3], 16) == _SCOPE_GLOBAL:
            found.append((fields[5], int(fields[4], 16)))
    return found


def _render(settings: dict[str, str]) -> str | None:
    """The file's text, None if it has nothing to say."""
    lines = []
    for key, value in settings.items():
        interface = key.split("/")[3] if key.endswith("/accept_ra") else ""
        if not interface:
            lines.append(f"{file_key(key)} = {value}\n")
        elif _FILE_SAFE.fullmatch(interface):
            # The dash: an interface that is not there yet is no error; udev applies the line when it comes.
            lines.append(f"-{file_key(key)} = {value}\n")
    return _HEADER + "".join(lines) if lines else None
