# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What iptables tools do with constructs of nftables that they do not read back as they are, and what to write instead.

Measured with iptables-nft 1.8.9, 1.8.11 and 1.8.13, see docs/iptables_readable.md. Private to the collection: not meant
to be used from anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

#: iptables refuses to list the rule, or crashes on it.
UNREADABLE = "unreadable"
#: iptables lists it as something else, or as something that it does not load again. This is what a construct is called
#: that one release refuses and another misreads: the silent one is the worse.
MISREAD = "misread"

_REFUSED = "iptables refuses to list the chain, iptables-save leaves the whole table out"
_LOST = "iptables lists the rule without it, so that what it saves and loads again matches more"
_CRASH = "iptables crashes on it"
_NOT_LOADED = "iptables lists what it does not load again"

_OWN_TABLE = "write the rule in a table of your own"
_ONE_RULE_EACH = "write a rule for each value, or decide in a table of your own and match on a mark here"
_PLAIN = "compare with == or != to one value"
_LAST = "write it behind all matches"


@dataclass(frozen=True)
class Problem:
    """What stands in a rule, what iptables does with it, and what to write instead."""

    construct: str
    kind: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.construct}: {self.why}; {self.instead}"


#: construct -> kind, what iptables does, what to write instead.
KNOWN: dict[str, tuple[str, str, str]] = {
    "a set": (MISREAD, _LOST, _ONE_RULE_EACH),
    "a named set": (MISREAD, _LOST, _ONE_RULE_EACH),
    "a verdict map": (MISREAD, "iptables lists the rule without it and without a target", _ONE_RULE_EACH),
    "a concatenation": (MISREAD, _LOST, "write a rule with all the matches for each element"),
    "a field twice": (MISREAD, "iptables keeps only the last of them", "write two rules, or one match"),
    "two protocols": (MISREAD, "iptables keeps only one of them", "name one protocol, with =="),
    "a range of addresses": (MISREAD, "iptables takes its end for a single address, or refuses it", "write prefixes"),
    "a range": (MISREAD, "iptables takes it for one value, or refuses it", _PLAIN),
    "a comparison": (MISREAD, "iptables takes it for ==", _PLAIN),
    "a mask": (MISREAD, "iptables lists the match without the mask", _PLAIN),
    "arithmetic": (MISREAD, "iptables lists it with a mask that matches something else", "use & with a mask"),
    "address bits outside the prefix": (MISREAD, "iptables drops them", "write an address that fits the prefix"),
    "a prefix of length 0": (MISREAD, _NOT_LOADED, "leave the match out"),
    "all ports or none": (MISREAD, "iptables lists other ports", "leave the match out, or the rule"),
    "a negated range from port 0": (MISREAD, "iptables does not find the rule by what it lists", "use > instead"),
    "all values or none": (UNREADABLE, "iptables refuses it", "leave the match out, or the rule"),
    "ip6 nexthdr": (MISREAD, "iptables also matches on the hop limit", "use meta l4proto"),
    "protocol 0": (MISREAD, _LOST, _OWN_TABLE),
    "iif": (MISREAD, "iptables lists the name that the interface has today", "use iifname"),
    "oif": (MISREAD, "iptables lists the name that the interface has today", "use oifname"),
    "an interface name that ends with +": (MISREAD, "iptables takes it for a pattern", "rename the interface"),
    "an interface name with odd characters": (MISREAD, _NOT_LOADED, "rename the interface"),
    "an input interface in this chain": (MISREAD, _NOT_LOADED, "packets there have none, leave the match out"),
    "an output interface in this chain": (MISREAD, _NOT_LOADED, "packets there have none yet, leave the match out"),
    "drop in table nat": (MISREAD, _NOT_LOADED, "drop in table filter"),
    "a negated ICMP type": (MISREAD, "iptables lists it without the negation", "write a rule for each type"),
    "an ICMP code without a type": (MISREAD, "iptables lists any type or any code", "name type and code with =="),
    "ICMP of the other family": (MISREAD, _NOT_LOADED, "use icmp in ip tables and icmpv6 in ip6 tables"),
    "ICMP type 255": (MISREAD, "iptables takes it for any type", _OWN_TABLE),
    "tcp flags without a mask": (UNREADABLE, _CRASH, "use a mask: tcp flags & (syn | ack) == syn"),
    "tcp flags ecn and cwr": (UNREADABLE, _CRASH, "leave them out of the mask"),
    "log without a group": (UNREADABLE, _REFUSED, "use log group N, and read it with ulogd or tcpdump -i nflog:N"),
    "log with a verdict": (MISREAD, "iptables lists only one of them", "write two rules"),
    "a second log": (MISREAD, "iptables lists only the last", "write two rules"),
    "log in front of a match": (MISREAD, "iptables logs only what matches", _LAST),
    "limit over": (UNREADABLE, _REFUSED, "accept within a limit and drop in the next rule"),
    "limit by bytes": (UNREADABLE, _REFUSED, "limit packets"),
    "a limit in front of a match": (MISREAD, "iptables matches first and limits what is left", _LAST),
    "an uneven rate": (MISREAD, "iptables rounds it", "use a rate that divides 10000 a second"),
    "a burst over 10000": (MISREAD, _NOT_LOADED, "use a burst of at most 10000"),
    "a counter in front of a match": (MISREAD, "iptables counts only what matches", "put it before the verdict"),
    "a second counter": (MISREAD, "iptables keeps one", "count once, before the verdict"),
    "a single quote in a text": (MISREAD, "iptables lists it as no shell reads it back", "leave it out"),
    "a chain name like a target": (MISREAD, "iptables takes it for its own target", "rename the chain"),
    "a chain name over 28 characters": (MISREAD, "iptables refuses the name", "rename the chain"),
    "meta mark set": (UNREADABLE, "iptables 1.8.9 refuses to list the chain", "set the mark in a table of your own"),
    **{
        f"{field} set": (MISREAD, "iptables lists the rule without it", _OWN_TABLE)
        for field in ("ip ttl", "ip dscp", "ip saddr", "ip daddr", "ip6 hoplimit", "tcp dport", "tcp sport")
    },
    **dict.fromkeys(
        ("tcp sequence", "tcp window", "tcp checksum", "tcp doff", "udp length", "udp checksum"),
        (MISREAD, _LOST, _OWN_TABLE),
    ),
    "raw payload of layer 2": (MISREAD, _LOST, _OWN_TABLE),
    "ip frag-off": (MISREAD, "iptables takes it for -f", "use ip frag-off & 0x1fff != 0, or == 0"),
}


def problem(construct: str) -> Problem:
    """All about a construct; what is not named above is refused."""
    return Problem(construct, *KNOWN.get(construct, (UNREADABLE, _REFUSED, _OWN_TABLE)))
