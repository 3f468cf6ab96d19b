# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host before and after Docker's change from iptables to nftables, side by side."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_translate import (
    IpSet,
    Mark,
    Translation,
    parse_ipsets,
    translate,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import replace_script

from world import build, docker_user
from world.capture import load
from world.docker_user import Rules
from world.flows import neighbours
from world.wire import Flow, Outcome, Wires

BEFORE, AFTER = "switch-1-iptables-with-docker-user", "switch-3-nftables-cleaned"
TABLE = "bulkhead_docker_user"
ACCEPT = Mark(0x20000000, 0x20000000)
#: Docker has its rule for the mark in front of this one, in every network that is not internal.
_ICC = re.compile(r'^(?=\t\tiifname "\S+" counter (?:accept|drop) comment "ICC"$)', re.M)
#: The last four bits of a mark are seen from outside: rules of a later table may ask for them.
SPY = (
    "table inet spy {\n\tchain postrouting {\n\t\ttype filter hook postrouting priority 300;\n"
    + "".join(
        f"\t\tmeta mark and 0xf == {bits} {family} dscp set {bits}\n"
        for bits in range(1, 16)
        for family in ("ip", "ip6")
    )
    + "\t}\n}\n"
)
_FAMILIES = {4: "iptables", 6: "ip6tables"}


def with_mark(native: str, mark: Mark) -> str:
    """Docker's rules as with the key bridge-accept-fwmark."""
    rule = f'\t\tmeta mark and 0x{mark.mask:x} == 0x{mark.value:x} counter accept comment "ALLOW FW MARK"\n'
    text, count = _ICC.subn(rule, native)
    if count != 8:
        raise AssertionError(f"{count} chains have a rule for communication between containers, not 8")
    return text


def internal(flow: Flow) -> bool:
    """Whether a connection has to do with the network made with --internal."""
    return any(address.startswith("172.21.") for address in (flow.source, flow.destination))


class Switch:
    """To be used in a with statement."""

    def __init__(self) -> None:
        one, other = load(BEFORE), load(AFTER)
        self.before, self.after = Wires(one, neighbours()), Wires(other, neighbours())
        self.before.host.run("ipset", "restore", text=docker_user.SETS_TEXT)
        build.load_rules(self.before.host, one)
        build.load(self.before.host, SPY)
        self.docker(ACCEPT)

    def docker(self, mark: Mark | None) -> None:
        """Give Docker's rules anew, with or without a mark that they accept."""
        native = self.after.capture.native
        build.load(self.after.host, "flush ruleset\n" + (with_mark(native, mark) if mark else native) + SPY)

    def fill(self, made: Rules) -> None:
        """Put rules into DOCKER-USER."""
        for family, program in _FAMILIES.items():
            text = docker_user.save(self.before.capture.iptables[program], made, family)
            build.restore(self.before.host, program, text)

    def take_out(self, lines: t.Collection[str]) -> None:
        """Do without some rules, as iptables-save writes them."""
        for family, program in _FAMILIES.items():
            kept = [line for line in self.saved(family).splitlines() if line not in lines]
            build.restore(self.before.host, program, "\n".join([*kept, ""]))

    def saved(self, family: int) -> str:
        return self.before.host.run(f"{_FAMILIES[family]}-save", "-t", "filter")

    def sets(self) -> dict[str, IpSet]:
        return parse_ipsets(self.before.host.run("ipset", "save"))

    def translated(self) -> Translation:
        """What becomes of the rules as they are now."""
        v4, v6 = self.saved(4), self.saved(6)
        drops = {name for name, text in (("ip", v4), ("ip6", v6)) if ":FORWARD DROP" in text}
        bridges = self.before.capture.bridges()
        return translate(v4, v6, self.sets(), ACCEPT, table=TABLE, bridges=bridges, drop_policy=drops)

    def migrate(self, translation: Translation) -> None:
        self.load_own(translation.text)

    def load_own(self, text: str | None) -> None:
        build.load(self.after.host, replace_script("inet", TABLE, text))

    def both(self, flows: t.Sequence[Flow]) -> tuple[list[Outcome], list[Outcome]]:
        return self.before.exchange(flows), self.after.exchange(flows)

    def compare(self, flows: t.Sequence[Flow]) -> dict[Flow, tuple[Outcome, Outcome]]:
        """The connections that do not end as before."""
        return {flow: (old, new) for flow, old, new in zip(flows, *self.both(flows)) if old != new}

    def close(self) -> None:
        self.before.close()
        self.after.close()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()
