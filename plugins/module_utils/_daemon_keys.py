# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of daemon.json on Linux: from which engine on, of which type, and what a change of one needs.

Private to the collection: not meant to be used from anywhere else. May change at any time.

Measured: which keys Docker 26.1.5 and 28.5.2 take and of which types, with `dockerd --validate` on a file for each key;
the flags of 20.10.24. From moby's source, up to 29.7.2: what came later, and what SIGHUP applies (daemon/reload.go,
reload_unix.go, command/daemon.go; no key about networks is among it). docs/docker_daemon.md shows the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

NOTHING = "nothing"
RELOAD = "reload"
RESTART = "restart"
#: With live-restore and running containers a restart leaves the default bridge, and what holds them, as it was.
RESTART_EMPTY = "restart_without_containers"
NEEDS = (NOTHING, RELOAD, RESTART, RESTART_EMPTY)

#: Newer engines may have keys that are not in the table.
NEWEST = (29, 7)
#: From this engine on dockerd checks a file by itself.
VALIDATES = (23, 0)
NFTABLES_BACKEND = (29, 0)
#: From this engine on ip6tables needs no experimental mode, and is on by default.
IP6TABLES_STABLE = (27, 0)


class _Unknown:
    """The default is not one value, or nobody compares with it."""


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Key:
    """One key; `flag` is what the same setting is called on the command line, None where it has no flag."""

    name: str
    kind: str
    needs: str = RESTART
    initial: Any = UNKNOWN
    since: tuple[int, ...] = ()
    until: tuple[int, ...] = ()
    flag: str | None = ""
    short: str = ""
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str | None:
        return self.name if self.flag == "" else self.flag

    def known_to(self, engine: tuple[int, ...]) -> bool:
        return not engine or (engine >= self.since and (not self.until or engine < self.until))

    def default(self, engine: tuple[int, ...]) -> Any:
        if self.name == "ip6tables":
            return engine >= IP6TABLES_STABLE if engine else UNKNOWN
        return self.initial


_TABLE = (
    # The firewall and the networks: none of it is applied by a reload.
    Key("iptables", "bool", initial=True),
    Key("ip6tables", "bool"),
    Key("firewall-backend", "choice", initial="iptables", since=NFTABLES_BACKEND, choices=("iptables", "nftables")),
    Key("bridge-accept-fwmark", "fwmark", initial="", since=(29, 0)),
    Key("allow-direct-routing", "bool", initial=False, since=(28, 2)),
    Key("ip-forward", "bool", initial=True),
    Key("ip-forward-no-drop", "bool", initial=False, since=(28, 0)),
    Key("userland-proxy", "bool", initial=True),
    Key("userland-proxy-path", "path"),
    Key("default-address-pools", "pools", flag="default-address-pool"),
    Key("default-network-opts", "options", initial={}, since=(24, 0), flag="default-network-opt"),
    Key("network-control-plane-mtu", "int", initial=1500),
    Key("network-diagnostic-port", "int", RELOAD, 0),
    Key("dns", "addresses", initial=[]),
    Key("dns-opts", "list", initial=[], flag="dns-opt"),
    Key("dns-search", "list", initial=[]),
    Key("host-gateway-ip", "address"),
    Key("host-gateway-ips", "addresses", since=(28, 0), flag="host-gateway-ip"),
    # The default bridge keeps these for as long as containers run.
    Key("bip", "interface4", RESTART_EMPTY, ""),
    Key("bip6", "interface6", RESTART_EMPTY, "", (28, 0)),
    Key("bridge", "str", RESTART_EMPTY, "", short="b"),
    Key("default-gateway", "address4", RESTART_EMPTY),
    Key("default-gateway-v6", "address6", RESTART_EMPTY),
    Key("fixed-cidr", "subnet4", RESTART_EMPTY, ""),
    Key("fixed-cidr-v6", "subnet6", RESTART_EMPTY, ""),
    Key("icc", "bool", RESTART_EMPTY, True),
    Key("ip", "address", RESTART_EMPTY, "0.0.0.0"),
    Key("ip-masq", "bool", RESTART_EMPTY, True),
    Key("ipv6", "bool", RESTART_EMPTY, False),
    Key("mtu", "int", RESTART_EMPTY, 1500),
    # Where containers and their files are.
    Key("containerd-namespace", "str", RESTART_EMPTY, "moby"),
    Key("data-root", "str", RESTART_EMPTY, "/var/lib/docker"),
    Key("exec-root", "str", RESTART_EMPTY, "/var/run/docker"),
    Key("storage-driver", "str", RESTART_EMPTY, short="s"),
    Key("storage-opts", "list", RESTART_EMPTY, [], flag="storage-opt"),
    Key("userns-remap", "str", RESTART_EMPTY, ""),
    # What a reload applies.
    Key("authorization-plugins", "list", RELOAD, [], flag="authorization-plugin"),
    Key("debug", "bool", RELOAD, False, short="D"),
    Key("default-cgroupns-mode", "choice", RELOAD, choices=("host", "private")),
    Key("default-ipc-mode", "choice", RELOAD, "private", choices=("private", "shareable")),
    Key("default-runtime", "str", RELOAD, "runc"),
    Key("default-shm-size", "size", RELOAD),
    Key("default-stop-timeout", "integer", RELOAD, since=(29, 7)),
    Key("features", "switches", RELOAD, {}, flag="feature"),
    Key("insecure-registries", "list", RELOAD, [], flag="insecure-registry"),
    Key("labels", "labels", RELOAD, [], flag="label"),
    Key("live-restore", "bool", RELOAD, False),
    Key("max-concurrent-downloads", "int", RELOAD, 3),
    Key("max-concurrent-uploads", "int", RELOAD, 5),
    Key("max-download-attempts", "int", RELOAD, 5),
    Key("nri-opts", "object", RELOAD, since=(29, 0)),
    Key("registry-mirrors", "list", RELOAD, [], flag="registry-mirror"),
    Key("runtimes", "object", RELOAD, {}, flag="add-runtime"),
    Key("shutdown-timeout", "integer", RELOAD, 15),
    # Everything else is read at the start.
    Key("allow-nondistributable-artifacts", "list", initial=[]),
    Key("api-cors-header", "str", initial="", until=(28, 0)),
    Key("builder", "object", initial={}, flag=None),
    Key("cdi-spec-dirs", "list", since=(25, 0), flag="cdi-spec-dir"),
    Key("cgroup-parent", "str", initial=""),
    Key("containerd", "str", initial=""),
    Key("containerd-plugins-namespace", "str"),
    Key("cluster-advertise", "str", until=(23, 0)),
    Key("cluster-store", "str", until=(23, 0)),
    Key("cluster-store-opts", "strings", until=(23, 0), flag="cluster-store-opt"),
    Key("cpu-rt-period", "int", initial=0),
    Key("cpu-rt-runtime", "int", initial=0),
    Key("cri-containerd", "bool", initial=False),
    Key("default-ulimits", "object", initial={}, flag="default-ulimit"),
    Key("deprecated-key-path", "str"),
    Key("exec-opts", "list", initial=[], flag="exec-opt"),
    Key("experimental", "bool", initial=False),
    Key("group", "str", initial="docker", short="G"),
    Key("hosts", "list", flag="host", short="H"),
    Key("init", "bool", initial=False),
    Key("init-path", "str", initial=""),
    Key("log-driver", "str", initial="json-file"),
    Key("log-format", "choice", initial="text", since=(25, 0), choices=("text", "json")),
    Key(
        "log-level",
        "choice",
        initial="info",
        short="l",
        choices=("panic", "fatal", "error", "warn", "info", "debug", "trace"),
    ),
    Key("log-opts", "strings", initial={}, flag="log-opt"),
    Key("metrics-addr", "str", initial=""),
    Key("min-api-version", "str", since=(29, 0), flag=None),
    Key("no-new-privileges", "bool", initial=False),
    Key("node-generic-resources", "list", initial=[], flag="node-generic-resource"),
    Key("oom-score-adjust", "integer", until=(25, 0)),
    Key("pidfile", "str", initial="/var/run/docker.pid", short="p"),
    Key("proxies", "strings", initial={}, since=(23, 0), flag=None),
    Key("raw-logs", "bool", initial=False),
    Key("rootless", "bool"),
    Key("seccomp-profile", "str"),
    Key("selinux-enabled", "bool", initial=False),
    Key("swarm-default-advertise-addr", "str", initial=""),
    Key("tls", "bool", initial=False),
    Key("tlscacert", "str"),
    Key("tlscert", "str"),
    Key("tlskey", "str"),
    Key("tlsverify", "bool", initial=False),
)
KEYS = {key.name: key for key in _TABLE}
PROXIES = ("http-proxy", "https-proxy", "no-proxy")
#: dockerd takes a flag's name for a key, without a word, and then does nothing with it.
MISREAD = {key.option: key.name for key in _TABLE if key.option is not None and key.option not in KEYS}
#: The same, for keys that stand one level deeper.
MISREAD_PROXIES = {name: f"proxies: {{{name}: ...}}" for name in PROXIES}
#: From when on there are these flags; before, their names are unknown keys. For `feature` it is 27.0 at the earliest.
FLAGS_SINCE = {
    **dict.fromkeys(PROXIES, KEYS["proxies"].since),
    **{option: KEYS[name].since for option, name in MISREAD.items()},
    "feature": (27, 0),
}

_BY_FLAG = {key.option: key for key in _TABLE if key.option}
_BY_SHORT = {key.short: key for key in _TABLE if key.short}


def worst(needs: Iterable[str]) -> str:
    """The one that does all that these do."""
    return max(needs, key=NEEDS.index, default=NOTHING)


def version(text: str | None) -> tuple[int, ...]:
    """Numbers of a version such as 26.1.5+dfsg1; empty where there are none."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part) for part in found.groups() if part) if found else ()


def spelled(number: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in number)


def flags_given(arguments: Iterable[str]) -> dict[str, list[str]]:
    """What a command line of dockerd sets, by the names of daemon.json; of a flag without a value, `true`.

    What has no name there goes by the flag's own, such as config-file.
    """
    given: dict[str, list[str]] = {}
    rest = list(arguments)[1:]
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            key = _BY_FLAG.get(name)
            if not equals and not (key is not None and key.kind == "bool"):
                value = rest.pop(0) if rest and not rest[0].startswith("-") else "true"
            given.setdefault(key.name if key else name, []).append(value if equals or value else "true")
        elif word.startswith("-"):
            _take_short(word[1:], rest, given)
    return given


def _take_short(letters: str, rest: list[str], given: dict[str, list[str]]) -> None:
    """Short flags in one word: the first that takes a value takes what is left of it, or the next word."""
    for number, letter in enumerate(letters, 1):
        key = _BY_SHORT.get(letter)
        if key is None:
            return
        if key.kind == "bool":
            given.setdefault(key.name, []).append("true")
            continue
        value = letters[number:].lstrip("=") or (rest.pop(0) if rest else "")
        given.setdefault(key.name, []).append(value)
        return
