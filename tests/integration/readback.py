# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in a host: load native rules into new network namespaces and have iptables tools list, check and restore them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import subprocess
import sys
import typing as t

_NEW_NETWORK = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_HOOKS = {
    "INPUT": "type filter hook input priority 0;",
    "OUTPUT": "type filter hook output priority 0;",
}

Order = t.Dict[str, t.Any]


def new_network() -> None:
    """Leave for an empty network namespace; the kernel removes the one before."""
    if _LIBC.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "unshare")


def run(argv: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program; what it says comes back whatever bytes it is."""
    return subprocess.run(
        argv, input=text, capture_output=True, text=True, errors="surrogateescape", check=False, env={**os.environ, "LC_ALL": "C"}
    )


def table(order: Order) -> str:
    """The table with all rules in the chain, beside a chain to jump to, sets, a map and a counter."""
    kind = "ipv4_addr" if order["family"] == "ip" else "ipv6_addr"
    return "\n".join(
        [
            f"table {order['family']} {order['table']} {{",
            f"set named {{ type {kind}; }}",
            f"set seen {{ type {kind}; size 10; flags dynamic; }}",
            f"map verdicts {{ type {kind} : verdict; }}",
            "counter counted { }",
            f"chain {order['other']} {{ }}",
            f"chain {order['chain']} {{",
            _HOOKS.get(order["chain"], ""),
            *order["rules"],
            "}",
            "}",
            "",
        ]
    )


def read_back(order: Order) -> Order:
    """What iptables lists, finds and restores of native rules; `refused` is what nft says where it cannot load them."""
    tool = "iptables" if order["family"] == "ip" else "ip6tables"
    place = ["-t", order["table"]]
    new_network()
    if re.search(r'\b[io]if [!= ]*"eth0"', table(order)):  # an index needs an interface
        run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])
    loaded = run(["nft", "-f", "-"], table(order))
    if loaded.returncode:
        return {"refused": loaded.stderr}
    shown = run(["nft", "-j", "list", "chain", order["family"], order["table"], order["chain"]])
    listed = run([tool, *place, "-S", order["chain"]])
    answer = {
        "rules": [entry["rule"] for entry in json.loads(shown.stdout)["nftables"] if "rule" in entry],
        "listed": listed.returncode,
        "said": listed.stderr,
        "lines": appended(listed.stdout),
    }
    if listed.returncode:
        return answer
    if order["check"]:
        answer["found"] = [run([tool, *place, "-C", *shlex.split(line)[1:]]).returncode for line in answer["lines"]]
    saved = run([f"{tool}-save", *place])
    new_network()
    restored = run([f"{tool}-restore"], saved.stdout)
    again = run([tool, *place, "-S", order["chain"]])
    return {**answer, "restored": restored.returncode, "again": appended(again.stdout)}


def appended(listing: str) -> list[str]:
    """The rules of a listing."""
    return [line for line in listing.splitlines() if line.startswith("-A ")]


def made_by_iptables(order: Order) -> Order:
    """The ruleset, as nft prints it, after iptables commands."""
    new_network()
    for command in order["commands"]:
        done = run(command)
        if done.returncode:
            return {"failed": f"{shlex.join(command)}: {done.stderr}"}
    return {
        "json": json.loads(run(["nft", "-j", "list", "ruleset"]).stdout),
        "text": run(["nft", "-s", "-a", "list", "ruleset"]).stdout,
    }


if __name__ == "__main__":
    DO = {"read back": read_back, "made by iptables": made_by_iptables}
    json.dump([DO[order["do"]](order) for order in json.load(sys.stdin)], sys.stdout)
