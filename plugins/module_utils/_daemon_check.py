# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an engine would start with a daemon.json, and what it would do to the host's packets if it did.

Private to the collection: not meant to be used from anywhere else. May change at any time.

The second half of this is what `dockerd --validate` does not look at: dockerd ends on these at its start.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import same
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import (
    FLAGS_SINCE,
    IP6TABLES_STABLE,
    KEYS,
    MISREAD,
    MISREAD_PROXIES,
    NEWEST,
    NOTHING,
    PROXIES,
    RELOAD,
    RESTART,
    Key,
    spelled,
    worst,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_values import problem

_BY_ENVIRONMENT = (28, 0)
_SWARM_SWITCH = (29, 6)
_SWITCH = "swarm-nftables"
_VALIDATES_PROXY = (23, 0)
#: What a reload takes on of `features`; the others are looked at during the start.
_LIVE_FEATURES = ("buildkit",)
#: Of these a reload takes on the removal as well.
_REMOVED_BY_RELOAD = ("authorization-plugins",)


@dataclass(frozen=True)
class Engine:
    """What the installed dockerd and its host are; None is not known."""

    number: tuple[int, ...] = ()
    text: str = ""
    #: By keys, what the unit starts dockerd with, and what the running one was started with.
    flags: dict[str, list[str]] = field(default_factory=dict)
    running_flags: dict[str, list[str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    swarm: bool = False
    forwarding4: bool | None = None
    forwarding6: bool | None = None
    ipv6_networks: tuple[str, ...] = ()
    nft: bool = True
    br_netfilter: bool = True
    #: Settings that the running daemon tells, by keys.
    tells: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a task asks for."""

    settings: dict[str, Any]
    remove: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    allow_iptables_false: bool = False
    #: Whether dockerd itself is asked about the file afterwards.
    validated: bool = False


@dataclass(frozen=True)
class Changed:
    """A key whose value in the file changes; None is a key that is not there."""

    key: str
    before: Any
    after: Any
    needs: str


class Check:
    """All that is wrong with a file for an engine, in sentences."""

    def __init__(self, path: str, wanted: Wanted, after: dict[str, Any], engine: Engine) -> None:
        self.path = path
        self.wanted = wanted
        self.after = after
        self.engine = engine
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._wrong: set[str] = set()

    def run(self) -> Check:
        self._arguments()
        for name, value in self.after.items():
            self._one(name, value)
        self._flags()
        self._iptables()
        self._bridge()
        self._swarm()
        self._proxy()
        if self._effective("firewall-backend") == "nftables" and "firewall-backend" not in self._wrong:
            self._nftables()
        return self

    # -- one key -------------------------------------------------------------------------------------------------------

    def _arguments(self) -> None:
        for name in sorted(set(self.wanted.settings) & set(self.wanted.remove)):
            self.errors.append(f"remove: {name} is in settings as well; keep it in one of the two")
        for name in self.wanted.replace:
            if not isinstance(self.wanted.settings.get(name), dict):
                self.errors.append(f"replace: {name} is no object in settings; only such a key can be replaced whole")

    def _named(self, name: str) -> str:
        return f"settings.{name}" if name in self.wanted.settings else f"{name} in {self.path}"

    def _error(self, name: str, text: str) -> None:
        self._wrong.add(name)
        self.errors.append(f"{self._named(name)}: {text}")

    def _one(self, name: str, value: Any) -> None:
        key = KEYS.get(name)
        if key is None:
            self._unknown(name)
        elif not key.known_to(self.engine.number):
            self._error(name, self._out_of_time(key))
        elif value is None and name not in self.wanted.settings:
            # To dockerd that is a key that is not there.
            return
        else:
            wrong = problem(key, value)
            if wrong is None and name == "proxies":
                wrong = _odd_proxy(value)
            if wrong is not None:
                self._error(name, wrong)

    def _unknown(self, name: str) -> None:
        right = {**MISREAD, **MISREAD_PROXIES}.get(name)
        if right is not None and (not self.engine.number or self.engine.number >= FLAGS_SINCE.get(name, ())):
            text = f"dockerd takes this flag's name without a word and does nothing with it; what it reads is {right}"
            if name in self.wanted.settings:
                self._error(name, text)
            else:
                self.warnings.append(f"{self._named(name)}: {text}")
            return
        if self.engine.number[:2] > NEWEST and self.wanted.validated:
            text = f"not known here; left to the check of dockerd {self.engine.text}"
            self.warnings.append(f"{self._named(name)}: {text}")
            return
        near = [right] if right is not None else difflib.get_close_matches(name, list(KEYS), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self._error(name, f"no engine up to {spelled(NEWEST)} knows this key, and dockerd would not start{hint}")

    def _out_of_time(self, key: Key) -> str:
        here = f"this is {self.engine.text}, which would not start with it"
        if key.until and self.engine.number >= key.until:
            return f"Docker knows this key until before {spelled(key.until)} only; {here}"
        text = f"Docker knows this key from {spelled(key.since)} on; {here}"
        if key.name == "firewall-backend" and self.engine.number >= _BY_ENVIRONMENT:
            text += ". 28.x takes the nftables backend, then still a draft, from the environment variable "
            text += "DOCKER_FIREWALL_BACKEND only"
        return text

    # -- keys with flags and with each other ---------------------------------------------------------------------------

    def _effective(self, name: str) -> Any:
        """What holds after a restart, by flag, file or default."""
        key = KEYS[name]
        if name in self.engine.flags:
            given = self.engine.flags[name][-1]
            return given.lower() in ("true", "t", "1") if key.kind == "bool" else given
        value = self.after.get(name)
        return key.default(self.engine.number) if value in (None, "") else value

    def _flags(self) -> None:
        proxies = self.after.get("proxies")
        for name in (*self.after, *(proxies if isinstance(proxies, dict) else ())):
            if name == "runtimes" or name in self._wrong:
                continue
            where = "proxies" if name in PROXIES and name not in self.after else name
            flag = "host-gateway-ips" if name == "host-gateway-ip" else name
            if flag in self.engine.flags:
                self._error(where, self._twice(name, self.engine.flags[flag]))
            elif flag in self.engine.running_flags:
                self.warnings.append(
                    f"{self._named(where)}: the running dockerd was started with this as a flag, which its unit no "
                    "longer has; until it is restarted it refuses the file at every reload"
                )

    def _twice(self, name: str, given: list[str]) -> str:
        key = KEYS.get(name)
        flag = f"--{key.option if key else name}"
        if name == "hosts":
            return (
                f"docker.service starts dockerd with -H {' -H '.join(given)}, and dockerd does not start with hosts in "
                "both places. Leave hosts out and put further -H flags into a drop-in of docker.service, or take -H "
                "out of its ExecStart first"
            )
        return (
            f"docker.service gives it as the flag {flag}, and dockerd does not start with a key in both places, even "
            "with equal values. Take the flag out of the unit, its drop-ins or DOCKER_OPTS in /etc/default/docker, or "
            "leave the key out"
        )

    def _iptables(self) -> None:
        if self._effective("iptables") is False and "iptables" not in self._wrong:
            why = (
                "with iptables false Docker makes no rules at all: containers have no way out by NAT and no isolation, "
                "published ports are answered by docker-proxy alone, which hides who connects"
            )
            if self.wanted.settings.get("iptables") is False and not self.wanted.allow_iptables_false:
                self._error(
                    "iptables",
                    f"{why}. Leave it on and let a policy decide what is reachable, or set allow_iptables_false to "
                    "true where something else makes these rules",
                )
            else:
                self.warnings.append(f"{self._named('iptables')}: {why}")
        six = self._effective("ip6tables")
        if self._effective("icc") is False:
            text = "containers can be kept apart by rules only; dockerd does not start with icc false and {} false"
            if self._effective("iptables") is False:
                self._error("icc", text.format("iptables"))
            elif six is False and self.engine.number >= IP6TABLES_STABLE:
                self._error("icc", text.format("ip6tables"))
        old = bool(self.engine.number) and self.engine.number < IP6TABLES_STABLE
        if six is True and old and not self._effective("experimental"):
            self._error(
                "ip6tables",
                f"Docker {self.engine.text} has it in experimental mode only (stable from 27.0 on) and would not "
                "start; set experimental to true as well",
            )
        if self._effective("userland-proxy") is False and not self.engine.br_netfilter:
            if self.engine.environment.get("DOCKER_IGNORE_BR_NETFILTER_ERROR") != "1":
                self.warnings.append(
                    f"{self._named('userland-proxy')}: without the proxy Docker needs the kernel module br_netfilter, "
                    "which is not loaded; where Docker cannot load it, it does not start unless its environment has "
                    "DOCKER_IGNORE_BR_NETFILTER_ERROR=1"
                )

    def _bridge(self) -> None:
        bridge = self._effective("bridge")
        if not bridge or "bridge" in self._wrong:
            return
        for name in ("bip", "bip6"):
            if self._effective(name) and name not in self._wrong:
                text = f"bridge is {bridge!r}, and dockerd does not start with bridge and {name}; keep one of the two"
                self._error(name, text)
        if bridge == "none":
            self.warnings.append(
                f"{self._named('bridge')}: with none there is no default bridge, so that containers without a network "
                "of their own have none"
            )

    def _swarm(self) -> None:
        if self.engine.swarm and self._effective("live-restore") is True:
            self._error("live-restore", "this node is in a swarm, and Docker refuses live-restore there; leave it off")

    def _proxy(self) -> None:
        """Seen with 26.1 and 28.5: a file that says so is valid at the start, and refused at every reload."""
        if self.engine.number < _VALIDATES_PROXY or self.after.get("userland-proxy") is not True:
            return
        if not self.after.get("userland-proxy-path") and "userland-proxy-path" not in self.engine.flags:
            self.warnings.append(
                f"{self._named('userland-proxy')}: true is the default, and with the key in the file Docker refuses to "
                "reload it (userland-proxy-path is not set); take the key out"
            )

    # -- the nftables backend ------------------------------------------------------------------------------------------

    def _nftables(self) -> None:
        name = "firewall-backend"
        if not self.engine.nft:
            text = "the nftables backend needs the program nft, which is not installed; install the package nftables"
            self._error(name, text)
        if self._effective("iptables") is False:
            text = (
                "iptables false switches off the IPv4 rules of the nftables backend as well; leave one of the two out"
            )
            if self.wanted.allow_iptables_false:
                self.warnings.append(f"{self._named(name)}: {text}")
            else:
                self._error(name, text)
        elif self.engine.swarm:
            self._nftables_in_swarm(name)
        if self._effective("ip-forward") is False:
            return
        remedy = (
            "The nftables backend only looks whether the host forwards and does not start where it does not. Switch it "
            "on first, such as with the module ip_forwarding"
        )
        if self.engine.forwarding4 is False:
            self._error(name, f"net.ipv4.ip_forward is 0. {remedy}")
        networks = ", ".join(self.engine.ipv6_networks[:3]) or ("the default bridge" if self._effective("ipv6") else "")
        if networks and self.engine.forwarding6 is False:
            self._error(
                name,
                "net.ipv6.conf.all.forwarding and net.ipv6.conf.default.forwarding are not both 1, and there is IPv6 "
                f"on {networks}. {remedy}",
            )

    def _nftables_in_swarm(self, name: str) -> None:
        features = self.after.get("features")
        said = isinstance(features, dict) and features.get(_SWITCH) is True
        text = f"the feature {_SWITCH} only silences the check: ports of swarm services are still published by iptables"
        if said and self.engine.number >= _SWARM_SWITCH:
            self.warnings.append(f"{self._named(name)}: this node is in a swarm; {text}")
        else:
            self._error(
                name,
                "this node is in a swarm, and the nftables backend does not start there (from "
                f"{spelled(_SWARM_SWITCH)} on {text}); leave iptables",
            )


def _odd_proxy(value: dict[str, Any]) -> str | None:
    odd = [name for name in value if name not in PROXIES]
    return f"{odd[0]} is not accepted; accepted are {', '.join(PROXIES)}" if odd else None


# -- what a change needs -----------------------------------------------------------------------------------------------


def changes(before: dict[str, Any], after: dict[str, Any], engine: Engine) -> list[Changed]:
    """The keys whose values differ, each with what its change needs."""
    found = []
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after or not same(before[name], after[name]):
            found.append(Changed(name, before.get(name), after.get(name), _needs(name, before, after, engine)))
    return found


def pending(before: dict[str, Any], after: dict[str, Any], engine: Engine) -> list[Changed]:
    """Keys that stay as they are in the file, but that the running daemon has otherwise."""
    found = []
    for name, value in engine.tells.items():
        same_in_file = same(before.get(name), after.get(name))
        if same_in_file and name not in engine.flags and not same(value, _value(name, after, engine)):
            found.append(Changed(name, value, after.get(name), _needs(name, {name: value}, after, engine)))
    return found


def needed(changed: list[Changed]) -> str:
    return worst(each.needs for each in changed)


def _value(name: str, document: dict[str, Any], engine: Engine) -> Any:
    key = KEYS[name]
    value = document.get(name)
    return key.default(engine.number) if value is None or (value == "" and key.kind != "str") else value


def _needs(name: str, before: dict[str, Any], after: dict[str, Any], engine: Engine) -> str:
    """What makes the running daemon have the new value, by what it says it has, else by the old file."""
    key = KEYS.get(name)
    if key is None:
        return RESTART
    new = _value(name, after, engine)
    old = engine.tells[name] if name in engine.tells else _value(name, before, engine)
    if _comparable(old) and _comparable(new) and same(old, new):
        return NOTHING
    if key.needs == RELOAD and name not in after and name not in _REMOVED_BY_RELOAD:
        # A reload takes on keys that are in the file; of one that is gone the daemon keeps the value.
        return RESTART
    if name == "features" and not _live_features(old, new):
        return RESTART
    return key.needs


def _comparable(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, dict))


def _live_features(old: Any, new: Any) -> bool:
    one, other = (value if isinstance(value, dict) else {} for value in (old, new))
    differing = [name for name in {**one, **other} if one.get(name) is not other.get(name)]
    return all(name in _LIVE_FEATURES for name in differing)
