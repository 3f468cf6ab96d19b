# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DOCKER-USER as the iptables backend leaves it behind: what belongs to it, taking it away, putting it back.

Private to the collection: not meant to be used from anywhere else. May change at any time.

From 29.0 on dockerd with the nftables backend removes its own chains of iptables at its start. Chain DOCKER-USER, the
jump to it and the policy of FORWARD it leaves alone (measured on 29.7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import Saved, words

CHAIN = "DOCKER-USER"
JUMP = f"-A FORWARD -j {CHAIN}"
#: What engines before 28.2 append by themselves, and means nothing.
RETURN = f"-A {CHAIN} -j RETURN"
_ENDS = ("-j", "-g", "--jump", "--goto")


@dataclass(frozen=True)
class UserChain:
    """One family's DOCKER-USER: its rules and those of chains that nothing else leads to, as they were printed.

    `exists` is false where there is no such chain. `jumps` are the rules elsewhere that lead to it.
    """

    exists: bool = False
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    jumps: tuple[str, ...] = ()
    policy: str = "ACCEPT"

    @property
    def rules(self) -> int:
        """How many rules there are that somebody made."""
        return sum(line != RETURN for lines in self.chains.values() for line in lines)

    @property
    def left(self) -> bool:
        """Whether anything is there that has no meaning, or a wrong one, under the nftables backend."""
        return self.exists or self.policy == "DROP"


def user_chain(saved: Saved) -> UserChain:
    """What belongs to DOCKER-USER in a saved text."""
    table = saved.get("filter")
    if table is None:
        return UserChain()
    policy = table.policies.get("FORWARD", "ACCEPT")
    if CHAIN not in table.chains:
        return UserChain(policy=policy)
    own = _reached(table.chains)
    while True:
        # A chain that others use as well stays, and so does all that it leads to.
        shared = {
            name
            for chain, lines in table.chains.items()
            if chain not in own
            for name in _targets(lines)
            if name in own and name != CHAIN
        }
        if not shared:
            break
        own -= shared
    jumps = [
        line for chain, lines in table.chains.items() if chain not in own for line in lines if CHAIN in _targets([line])
    ]
    chains = {name: lines for name, lines in table.chains.items() if name in own}
    return UserChain(True, chains, tuple(jumps), policy)


def _reached(chains: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    rest = [CHAIN]
    while rest:
        name = rest.pop()
        if name in chains and name not in found:
            found.add(name)
            rest.extend(_targets(chains[name]))
    return found


def _targets(lines: tuple[str, ...] | list[str]) -> set[str]:
    """The chains that rules lead to; a comment that looks like a jump is none."""
    found: set[str] = set()
    for line in lines:
        parts = words(line)
        found.update(after for word, after in zip(parts, parts[1:]) if word in _ENDS)
    return found


def removal(there: UserChain) -> str:
    """For iptables-restore --noflush: no DOCKER-USER, and FORWARD lets pass what no rule of it stops."""
    lines = [":FORWARD ACCEPT [0:0]"] if there.policy == "DROP" else []
    lines += [f"-D {line[len('-A ') :]}" for line in there.jumps]
    lines += [f"-F {name}" for name in there.chains]
    lines += [f"-X {name}" for name in there.chains]
    return _text(lines)


def restoration(was: UserChain) -> str:
    """For iptables-restore --noflush: the chains with their rules. The jump is Docker's to make."""
    lines = [f":{name} - [0:0]" for name in was.chains]
    lines += [line for rules in was.chains.values() for line in rules]
    return _text(lines)


def policy(was: UserChain) -> str:
    """For iptables-restore --noflush: the policy of FORWARD."""
    return _text([f":FORWARD {was.policy} [0:0]"] if was.policy == "DROP" else [])


def jumps(was: UserChain) -> str:
    """For iptables-restore --noflush: the jump in front of everything, where Docker does not make it."""
    return _text([f"-I FORWARD -j {CHAIN}"] if was.jumps else [])


def away(was: dict[str, UserChain]) -> dict[str, dict[str, str]]:
    """The same as removal() in parts, by family: each is refused as a whole where something of it is not there."""
    found = {}
    for family in ("ip", "ip6"):
        names = list(was.get(family, UserChain()).chains) or [CHAIN]
        found[family] = {
            "no-jump": _text([f"-D FORWARD -j {CHAIN}"]),
            "no-policy": _text([":FORWARD ACCEPT [0:0]"]),
            "no-chains": _text([f"-F {name}" for name in names] + [f"-X {name}" for name in names]),
        }
    return found


def _text(lines: list[str]) -> str:
    return "\n".join(["*filter", *lines, "COMMIT", ""]) if lines else ""
