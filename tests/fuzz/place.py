# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A router and its neighbours in network namespaces that end with this process.

The process itself moves: first into one namespace, where it opens the sockets that send, then into the router's, in
which it stays. Nothing is done in the machine's own namespace, and nothing has a name that could be left behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import time
import typing as t

_CLONE_NEWNET = 0x40000000
_IGNORE_OUTGOING = 23
ROUTER_MAC = "02:00:00:00:00:{:02x}"
#: Names of the router's interfaces, their addresses, and the networks behind a gateway on them.
LINKS = {
    "eth0": ("198.51.100.12/24", "2001:db8:0:1::12/64"),
    "eth1": ("10.0.1.1/24", "fd00:1::1/64"),
    "docker0": ("172.17.0.1/16", "fd00:17::1/64"),
    "br-a": ("172.18.0.1/16", "fd00:18::1/64"),
}
_ROUTES4 = (
    "default via 198.51.100.1 dev eth0",
    "10.9.0.0/16 via 10.0.1.9 dev eth1",
    "blackhole 10.66.0.0/16",
    "172.17.0.0/24 via 10.0.1.9 dev eth1 table 100",
    "throw 172.17.0.2/32 table 100",
    "prohibit 198.51.100.50/32 table 100",
    "10.0.0.0/8 dev br-a table 100",
)
_ROUTES6 = (
    "default via 2001:db8:0:1::1 dev eth0",
    "fd00:9::/64 via fd00:1::9 dev eth1",
    "unreachable fd00:66::/64",
    "fd00:17::/64 via fd00:1::9 dev eth1 table 100",
    "blackhole fd00:18::3/128 table 100",
)


def run(*argv: str, text: str | None = None) -> str:
    """Start a program in the namespace that this process is in."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[:2000]}")
    return done.stdout


def write(path: str, value: str) -> None:
    """Set a sysctl of the namespace that this process is in."""
    with open(f"/proc/sys/{path}", "w", encoding="ascii") as stream:
        stream.write(value)


class Place:
    """The namespaces, as long as this object and the process live."""

    def __init__(self, root: str = "") -> None:
        self.root = ("chroot", root) if root else ()
        self.nft = (*self.root, "/usr/sbin/nft")
        self.machine = _namespace()
        self.rules: list[str] = []
        # Once a routing rule was there, the kernel looks at sources more closely for good.
        self.routed = False
        self.read: dict[t.Any, t.Any] = {}
        self.neighbours = self._enter()
        links = list(LINKS)
        for number in range(len(links)):
            run("ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", f"x{number}")
            write(f"net/ipv6/conf/p{number}/disable_ipv6", "1")
            write(f"net/ipv6/conf/x{number}/disable_ipv6", "1")
            run("ip", "link", "set", f"p{number}", "arp", "off", "up")
        self.senders = {name: _sender(f"p{number}") for number, name in enumerate(links)}
        neighbours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.router = self._enter()
        here = f"/proc/{os.getpid()}/fd/{os.open('/proc/thread-self/ns/net', os.O_RDONLY)}"
        os.close(self._hop(neighbours))
        for number in range(len(links)):
            run("ip", "link", "set", f"x{number}", "netns", here)
        self._back()
        self._settings()
        for number, name in enumerate(links):
            self._link(number, name)
        for family, routes in (("-4", _ROUTES4), ("-6", _ROUTES6)):
            for route in routes:
                run("ip", family, "route", "add", *route.split())

        self._settled()

    def _settled(self) -> None:
        """Wait until all addresses are in the tables: a link that comes up takes its time."""
        for _attempt in range(500):
            found = [run("ip", family, "route", "show", "table", "all") for family in ("-4", "-6")]
            wanted = [[address.split("/")[0] for address in pair] for pair in LINKS.values()]
            if all(f"local {pair[number]} " in found[number] for pair in wanted for number in (0, 1)):
                return
            time.sleep(0.01)
        raise RuntimeError("the addresses do not come up")

    def _enter(self) -> tuple[int, int]:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        found = _namespace()
        if found == self.machine:
            raise RuntimeError("still in the machine's own namespace")
        self.last = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        return found

    def _hop(self, namespace: int) -> int:
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _setns(namespace)
        return namespace

    def _back(self) -> None:
        _setns(self.home)
        os.close(self.home)
        self.guard()

    def guard(self) -> None:
        """Refuse to go on anywhere but in the router's namespace."""
        if _namespace() != self.router or self.router == self.machine:
            raise RuntimeError("not in the router's namespace")

    def _settings(self) -> None:
        self.guard()
        run("ip", "link", "set", "lo", "up")
        write("net/ipv4/ip_forward", "1")
        write("net/ipv6/conf/all/forwarding", "1")
        write("net/ipv6/conf/default/accept_dad", "0")
        write("net/ipv6/conf/default/router_solicitations", "0")
        for name in ("all", "default"):
            write(f"net/ipv4/conf/{name}/rp_filter", "0")
            write(f"net/ipv4/conf/{name}/log_martians", "0")
        write("net/ipv4/icmp_ratelimit", "0")

    def _link(self, number: int, name: str) -> None:
        four, six = LINKS[name]
        run("ip", "link", "set", f"x{number}", "name", name, "address", ROUTER_MAC.format(number))
        write(f"net/ipv6/conf/{name}/disable_ipv6", "0")
        write(f"net/ipv6/conf/{name}/addr_gen_mode", "1")
        run("ip", "address", "add", four, "dev", name)
        run("ip", "link", "set", name, "up")
        run("ip", "-6", "address", "add", six, "dev", name, "nodad")

    def load(self, text: str) -> None:
        """Load rules instead of all that are there."""
        self.guard()
        run(*self.nft, "-f", "-", text=text)

    def restore(self, texts: t.Mapping[str, str]) -> None:
        """Add iptables' own tables: by `ip` for IPv4, by `ip6` for IPv6."""
        self.guard()
        for family, text in texts.items():
            run(*self.root, f"/usr/sbin/{family}tables-nft-restore", "--noflush", text=text)

    def saves(self) -> dict[str, str]:
        """What iptables says of its tables."""
        self.guard()
        return {family: run(*self.root, f"/usr/sbin/{family}tables-nft-save") for family in ("ip", "ip6")}

    def settle(self, sysctls: t.Mapping[str, str], rules: list[str]) -> None:
        """Set sysctls, and have these routing rules beside the kernel's own."""
        self.guard()
        for path, value in sysctls.items():
            write(path, value)
        if rules != self.rules:
            gone = [rule.replace("rule add", "rule del", 1) for rule in self.rules]
            for rule in [*gone, *rules]:
                run("ip", *rule.split())
            self.rules = rules
            self.routed = self.routed or bool(rules)

    def listing(self) -> str:
        self.guard()
        return run(*self.nft, "-j", "list", "ruleset")

    def listed(self) -> str:
        """The ruleset for people, with handles."""
        self.guard()
        return run(*self.nft, "-a", "list", "ruleset")

    def facts(self) -> tuple[list[t.Any], dict[int, list[t.Any]], dict[int, list[t.Any]], dict[str, str]]:
        """Addresses, routes, rules and sysctls, as the analyser takes them."""
        self.guard()
        with open("/proc/sys/net/ipv6/conf/all/forwarding", encoding="ascii") as stream:
            # What else changes the tables: a router has anycast addresses.
            key = (tuple(self.rules), stream.read())
        if key not in self.read:
            self.read[key] = (
                json.loads(run("ip", "-j", "addr")),
                {family: json.loads(run("ip", f"-{family}", "-j", "route", "show", "table", "all")) for family in (4, 6)},
                {family: json.loads(run("ip", f"-{family}", "-j", "rule")) for family in (4, 6)},
            )
        paths = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
        for name in ("all", "lo", *LINKS):
            for setting in ("rp_filter", "route_localnet", "accept_local", "src_valid_mark", "forwarding", "send_redirects"):
                paths.append(f"net/ipv4/conf/{name}/{setting}")
        sysctls = {}
        for path in paths:
            with open(f"/proc/sys/{path}", encoding="ascii") as stream:
                sysctls[path] = stream.read().strip()
        return (*self.read[key], sysctls)


def _namespace() -> tuple[int, int]:
    found = os.stat("/proc/thread-self/ns/net")
    return found.st_dev, found.st_ino


def _setns(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _sender(interface: str) -> socket.socket:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind((interface, 0))
    return sender
