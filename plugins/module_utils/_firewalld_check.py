# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a task's options to wishes for firewalld, with every mistake that shows without looking at the plan.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    DOCKERS,
    LISTS,
    PLURAL,
    POLICY,
    PORTS,
    PREFIX,
    PROTOCOLS,
    SCALARS,
    SYMBOLIC,
    TARGETS,
    ZONE,
    Entries,
    Seen,
    Wanted,
    Wishes,
    canonical,
    forward_port_parts,
    forward_port_text,
    is_docker_bridge,
    is_mac,
    is_ours,
    parse_port,
    plus,
    version_number,
)

_YES_NO = ("yes", "no")
#: Where firewalld tells this, IPv6_rpfilter is more than yes and no, and only this tells what.
RPFILTER_WORDS = "IPv6_rpfilter2"
#: Settings of firewalld.conf with what they may be and the release that brought them.
SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "CleanupModulesOnExit": (_YES_NO, ""),
    "CleanupOnExit": (_YES_NO, ""),
    "FlushAllOnReload": (_YES_NO, ""),
    "IPv6_rpfilter": (("yes", "no", "strict", "loose", "strict-forward", "loose-forward"), ""),
    "IndividualCalls": (_YES_NO, ""),
    "LogDenied": (("all", "unicast", "broadcast", "multicast", "off"), ""),
    "NftablesCounters": (_YES_NO, "2.3"),
    "NftablesTableOwner": (_YES_NO, "2.2"),
    "RFC3964_IPv4": (_YES_NO, ""),
    "StrictForwardPorts": (_YES_NO, "2.3"),
}
_OUR_NAME = re.compile(rf"{PREFIX}[A-Za-z0-9_-]+\Z")
_PRIORITIES = range(-32768, 32768)
_ACCEPTED = {
    "ports": "a port or a range and a protocol, such as 443/tcp or 6000-6010/udp",
    "source_ports": "a port or a range and a protocol, such as 68/udp",
    "interfaces": "a name of 1 to 15 characters without /, !, * and spaces, at its end + for any others",
    "sources": "an address, a network such as 192.0.2.0/24, a MAC address, or ipset:NAME",
    "forward_ports": "port=8080:proto=tcp:toport=80:toaddr=192.0.2.10, with toport or toaddr or both",
    "protocols": "a name of /etc/protocols or a number",
}


class Judge(t.Protocol):
    """What the installed firewalld itself finds of names and rules."""

    def name_problem(self, kind: str, name: str) -> str | None: ...

    def rich_rule(self, text: str) -> str:
        """The rule as firewalld writes it; raises ValueError."""

    def is_protocol(self, text: str) -> bool: ...


class Check:
    """Reads the options; `errors` is complete after `run`."""

    def __init__(self, seen: Seen, judge: Judge) -> None:
        self.seen = seen
        self.judge = judge
        self.errors: list[str] = []

    def run(
        self, zones: list[dict[str, t.Any]], policies: list[dict[str, t.Any]], settings: dict[str, t.Any]
    ) -> Wishes:
        items = [
            self._item(kind, f"{PLURAL[kind]}[{number}]", given)
            for kind, found in ((ZONE, zones), (POLICY, policies))
            for number, given in enumerate(found)
        ]
        self._twice(items)
        self._ends(items)
        wishes = Wishes(tuple(items), self._settings(settings))
        if self.seen.settings.get("FirewallBackend", "nftables") != "nftables":
            self.errors.append(
                f"firewalld uses FirewallBackend={self.seen.settings['FirewallBackend']}, and each of its reloads wipes all "
                "rules of iptables; set FirewallBackend=nftables in /etc/firewalld/firewalld.conf and restart firewalld"
            )
        return wishes

    # -- zones and policies --------------------------------------------------------------------------------------------

    def _item(self, kind: str, where: str, given: dict[str, t.Any]) -> Wanted:
        name = given["name"]
        where = f"{where} ({name})"
        self._name(kind, where, name)
        lists = {
            key: self._list(f"{where}.{key}", key, given[key]) for key in LISTS[kind] if given.get(key) is not None
        }
        dropped = given.get("absent") or {}
        absent = {
            key: self._list(f"{where}.absent.{key}", key, dropped[key], dropping=True)
            for key in LISTS[kind]
            if dropped.get(key)
        }
        for key, entries in absent.items():
            kept = {canonical(key, entry) for entry in lists.get(key, ())}
            for entry in entries:
                if canonical(key, entry) in kept:
                    self.errors.append(f"{where}: {entry} is in {key} and in absent.{key}; keep it in one of the two")
        scalars = {key: given[key] for key in SCALARS[kind] if given.get(key) is not None}
        if scalars.get("target", TARGETS[kind][0]) not in TARGETS[kind]:
            self.errors.append(
                f"{where}.target: {scalars['target']!r} is not accepted; it is one of {_or(TARGETS[kind])}"
            )
        priority = scalars.get("priority", -1)
        if priority not in _PRIORITIES or priority == 0:
            self.errors.append(
                f"{where}.priority: {priority} is not accepted; it is a number from -32768 to 32767 but 0"
            )
        if is_ours(name) and absent:
            self.errors.append(
                f"{where}.absent: a {kind} whose name begins with {PREFIX} has only what is named anyway"
            )
        if kind == POLICY and is_ours(name):
            for key in ("ingress_zones", "egress_zones"):
                if not lists.get(key):
                    self.errors.append(
                        f"{where}.{key}: a policy without any applies to nothing; name zones, HOST or ANY"
                    )
        return Wanted(kind, name, lists, absent, scalars, bool(given.get("exclusive")))

    def _name(self, kind: str, where: str, name: str) -> None:
        if name == DOCKERS[kind]:
            self.errors.append(f"{where}: this {kind} is Docker's own and is not touched; restrict it by a policy")
        elif is_ours(name):
            if _OUR_NAME.match(name) is None:
                self.errors.append(f"{where}.name: behind {PREFIX} come letters, digits, _ and - only")
                return
            problem = self.judge.name_problem(kind, name)
            if problem is not None:
                self.errors.append(f"{where}.name: firewalld {self.seen.version} does not take it: {problem}")
        elif (kind, name) not in self.seen.permanent:
            self.errors.append(f"{where}.name: there is no such {kind}; those this module makes begin with {PREFIX}")

    def _twice(self, items: list[Wanted]) -> None:
        names: set[tuple[str, str]] = set()
        for item in items:
            if item.key in names:
                self.errors.append(f"{PLURAL[item.kind]}: {item.name} is given twice; put it into one entry")
            names.add(item.key)
        for key in ("interfaces", "sources"):
            owner: dict[str, str] = {}
            for item in items:
                for entry in item.lists.get(key, ()):
                    first = owner.setdefault(canonical(key, entry), item.name)
                    if first != item.name:
                        self.errors.append(
                            f"zones: {entry} is in {key} of {first} and of {item.name}; it can be in one zone"
                        )

    def _ends(self, items: list[Wanted]) -> None:
        """The zones that policies name have to be there in the end."""
        zones = {name for kind, name in self.seen.permanent if kind == ZONE and not is_ours(name)}
        zones.update(item.name for item in items if item.kind == ZONE and is_ours(item.name))
        for item in items:
            for key in ("ingress_zones", "egress_zones"):
                named = item.lists.get(key, ())
                if len(named) > 1 and any(name in SYMBOLIC for name in named):
                    self.errors.append(f"policies ({item.name}).{key}: HOST and ANY stand alone, not with other zones")
                for name in named:
                    if name not in zones and name not in SYMBOLIC:
                        text = f"policies ({item.name}).{key}: there is no zone {name}"
                        if name == DOCKERS[ZONE]:
                            text += "; Docker makes it when it is started while firewalld runs, so restart Docker first"
                        self.errors.append(text)

    # -- entries -------------------------------------------------------------------------------------------------------

    def _list(self, where: str, key: str, given: t.Iterable[str], dropping: bool = False) -> Entries:
        """The entries as firewalld writes them."""
        found: list[str] = []
        for entry in given:
            text, problem = self._entry(key, entry, dropping)
            if problem is not None:
                self.errors.append(f"{where}: {entry!r} is not accepted; {problem}")
            else:
                found.append(text)
        return plus(key, (), found)

    def _entry(self, key: str, entry: str, dropping: bool) -> tuple[str, str | None]:
        """The entry's own form, and what is wrong with it."""
        accepted = f"it is {_ACCEPTED[key]}" if key in _ACCEPTED else ""
        if key in PORTS:
            return entry, None if parse_port(entry) else accepted
        if key == "interfaces":
            return entry, self._interface(entry, accepted)
        if key == "sources":
            return self._source(entry, accepted, dropping)
        if key == "services":
            known = dropping or entry in self.seen.services
            return entry, None if known else _near("there is no such service", entry, self.seen.services)
        if key == "protocols":
            return entry, None if self.judge.is_protocol(entry) else accepted
        if key == "forward_ports":
            return _forward_port(entry, accepted)
        if key == "rich_rules":
            try:
                return self.judge.rich_rule(entry), None
            except ValueError as exc:
                return entry, f"firewalld {self.seen.version} says {exc}"
        return entry, None

    def _interface(self, entry: str, accepted: str) -> str | None:
        if is_docker_bridge(entry) or entry in self.seen.dockers:
            return "it is a bridge of Docker's, which fails where its bridges are in a zone other than docker"
        if not 1 <= len(entry) <= 15 or re.search(r"[/!*\s]", entry) or "+" in entry[:-1] or entry in (".", "..", "+"):
            return accepted
        return None

    def _source(self, entry: str, accepted: str, dropping: bool) -> tuple[str, str | None]:
        if entry.startswith("ipset:"):
            known = dropping or entry[6:] in self.seen.ipsets
            return entry, None if known else _near("there is no such ipset", entry[6:], self.seen.ipsets)
        if is_mac(entry):
            return entry.upper(), None
        try:
            ipaddress.ip_network(entry, strict=True)
        except ValueError:
            try:
                network = ipaddress.ip_network(entry, strict=False)
            except ValueError:
                return entry, accepted
            return entry, f"the network is {network}"
        return canonical("sources", entry), None

    # -- settings ------------------------------------------------------------------------------------------------------

    def _settings(self, given: dict[str, t.Any]) -> dict[str, str]:
        settings = {}
        for key, value in given.items():
            if key not in SETTINGS:
                self.errors.append(
                    f"settings.{key}: {_near('this module does not set it', key, SETTINGS)}; it sets {_or(sorted(SETTINGS))}"
                )
                continue
            accepted, since = SETTINGS[key]
            if key == "IPv6_rpfilter" and RPFILTER_WORDS not in self.seen.settings:
                accepted = _YES_NO
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            if text not in accepted:
                self.errors.append(f"settings.{key}: {value!r} is not accepted; it is one of {_or(accepted)}")
            elif key not in self.seen.settings:
                new = (
                    f", which came with {since}"
                    if since and version_number(self.seen.version) < version_number(since)
                    else ""
                )
                self.errors.append(f"settings.{key}: firewalld {self.seen.version} does not have it{new}")
            else:
                strict = key == "IPv6_rpfilter" and text == "yes" and RPFILTER_WORDS in self.seen.settings
                settings[key] = "strict" if strict else text
        return settings


def _forward_port(entry: str, accepted: str) -> tuple[str, str | None]:
    parts = forward_port_parts(entry)
    if parts is None or parts[1] not in PROTOCOLS or not (parts[2] or parts[3]):
        return entry, accepted
    port, protocol, to_port, to_address = parts
    if any(parse_port(f"{number}/tcp") is None for number in (port, to_port or port)):
        return entry, accepted
    if to_address:
        try:
            to_address = str(ipaddress.ip_address(to_address))
        except ValueError:
            return entry, accepted
    return forward_port_text(port, protocol, to_port, to_address), None


def _near(text: str, name: str, known: t.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"{text}; did you mean {near[0]}?" if near else text


def _or(names: t.Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
