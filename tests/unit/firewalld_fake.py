# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewalld in memory behind the API of the real one, with its habits as they were measured on 1.3, 2.3 and 2.5."""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _firewalld
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld import Firewalld
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner

Key = t.Tuple[str, str]
SHOW = ["systemctl", "show", "--property=LoadState,ActiveState,ExecMainStartTimestampMonotonic", "firewalld.service"]
_LISTS = ("services", "ports", "source_ports", "protocols", "forward_ports")
_OF = {"zone": ("interfaces", "sources", "rules_str"), "policy": ("ingress_zones", "egress_zones", "rich_rules")}


class Refusal(Exception):
    """firewall.errors.FirewallError, or what comes over D-Bus."""


def settings_of(kind: str, **given: t.Any) -> dict[str, t.Any]:
    values: dict[str, t.Any] = {key: [] for key in (*_LISTS, *_OF[kind], "icmp_blocks")}
    values.update(masquerade=False, description="", short="", version="")
    values.update({"target": "default", "forward": False} if kind == "zone" else {"target": "CONTINUE", "priority": -1})
    unknown = set(given) - set(values)
    assert not unknown, unknown
    return {**values, **given}


class Settings:
    """FirewallClientZoneSettings and FirewallClientPolicySettings."""

    def __init__(self, values: dict[str, t.Any]) -> None:
        self.values = values

    def getSettingsDict(self) -> dict[str, t.Any]:
        return self.values

    def setSettingsDict(self, values: dict[str, t.Any]) -> None:
        unknown = set(values) - set(self.values)
        assert not unknown, unknown
        self.values.update(values)

    def setDescription(self, text: str) -> None:
        self.values["description"] = text


class World:
    """What firewalld has; a method named in `failing` refuses at that call of it (0 is the first)."""

    def __init__(self) -> None:
        self.version = "2.3.1"
        self.state = "RUNNING"
        self.connected = True
        public = settings_of("zone", services=["ssh", "dhcpv6-client"], forward=True)
        docker = settings_of("zone", target="ACCEPT")
        self.defaults: dict[Key, dict[str, t.Any]] = {
            ("zone", "public"): public,
            ("zone", "work"): settings_of("zone", services=["ssh"]),
            ("policy", "allow-host-ipv6"): settings_of("policy", ingress_zones=["ANY"], egress_zones=["HOST"]),
        }
        self.permanent = copy.deepcopy({**self.defaults, ("zone", "docker"): docker})
        self.copied: set[Key] = {("zone", "docker")}
        self.runtime = copy.deepcopy(self.permanent)
        self.runtime[("zone", "docker")]["interfaces"] = ["docker0"]
        self.conf = {"FirewallBackend": "nftables", "StrictForwardPorts": "no", "LogDenied": "off"}
        self.services = ["ssh", "dhcpv6-client", "dns", "http", "https"]
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self.docker_returns = True

    def said(self, name: str) -> None:
        """Count a call that changes something."""
        self.calls.append(name)
        if name in self.failing and self.calls.count(name) - 1 == self.failing[name]:
            raise Refusal(f"{name} FAILED")

    def check(self, config: dict[Key, dict[str, t.Any]], key: Key, values: dict[str, t.Any]) -> None:
        """What firewalld refuses, permanently and at runtime."""
        for other, found in config.items():
            if key[0] != "zone" or other == key or other[0] != "zone":
                continue
            for bound in ("interfaces", "sources"):
                if set(found[bound]) & set(values[bound]):
                    raise Refusal(f"ZONE_CONFLICT: {set(found[bound]) & set(values[bound])}")
        for name in values["services"]:
            if name not in self.services:
                raise Refusal(f"INVALID_SERVICE: {name}")
        for end in ("ingress_zones", "egress_zones"):
            for name in values.get(end, []):
                if name not in ("HOST", "ANY") and ("zone", name) not in config:
                    raise Refusal(f"INVALID_ZONE: {name}")

    def reload(self) -> None:
        self.said("reload")
        self.runtime = copy.deepcopy(self.permanent)
        if self.docker_returns:
            self.runtime[("zone", "docker")]["interfaces"] = ["docker0"]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this what `import firewall` finds."""
        modules = {
            "firewall.client": SimpleNamespace(
                FirewallClient=lambda: Client(self),
                FirewallClientZoneSettings=lambda: Settings(settings_of("zone")),
                FirewallClientPolicySettings=lambda: Settings(settings_of("policy")),
            ),
            "dbus.exceptions": SimpleNamespace(DBusException=Refusal),
            "firewall.errors": SimpleNamespace(FirewallError=Refusal),
            "firewall.core.io.zone": SimpleNamespace(Zone=lambda: Named(17)),
            "firewall.core.io.policy": SimpleNamespace(Policy=lambda: Named(18)),
            "firewall.core.rich": SimpleNamespace(Rich_Rule=Rule),
            "firewall.functions": SimpleNamespace(checkProtocol=lambda name: name in ("gre", "47")),
        }
        names = ("lo", "eth0", "docker0", "br-lan", "br-0123456789ab")
        monkeypatch.setattr(_firewalld, "socket", SimpleNamespace(if_nameindex=lambda: list(enumerate(names, 1))))
        monkeypatch.setattr(_firewalld, "importlib", SimpleNamespace(import_module=modules.__getitem__))

    def firewalld(self, root: Path) -> Firewalld:
        """The edge, connected to this."""
        (root / "etc").mkdir(exist_ok=True)
        (root / "run").mkdir(exist_ok=True)
        shown = "LoadState=loaded\nActiveState=active\nExecMainStartTimestampMonotonic=1000\n"
        return Clockless(FakeRunner([Call(SHOW, stdout=shown)]), str(root)).connect()


class Clockless(Firewalld):
    """Waits without any time going by for anybody else."""

    clock = 0.0

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds


class Named:
    def __init__(self, longest: int) -> None:
        self.longest = longest

    def check_name(self, name: str) -> None:
        if len(name) > self.longest:
            raise Refusal(f"INVALID_NAME: {len(name)} chars, max is {self.longest}")


class Rule:
    """Takes what begins with rule, and writes it in its own way."""

    def __init__(self, rule_str: str) -> None:
        if not rule_str.startswith("rule "):
            raise Refusal(f"INVALID_RULE: {rule_str}")
        self.text = " ".join(rule_str.replace('"', "").split())

    def __str__(self) -> str:
        return self.text


class Object:
    """FirewallClientConfigZone and FirewallClientConfigPolicy."""

    def __init__(self, world: World, key: Key) -> None:
        self.world = world
        self.key = key

    def getSettings(self) -> Settings:
        return Settings(copy.deepcopy(self.world.permanent[self.key]))

    def get_properties(self) -> dict[str, t.Any]:
        top = "/etc/firewalld" if self.key in self.world.copied else "/usr/lib/firewalld"
        return {"path": f"{top}/{self.key[0]}s"}

    def update(self, settings: Settings) -> None:
        self.world.said("update")
        self.world.check(self.world.permanent, self.key, settings.values)
        self.world.permanent[self.key] = copy.deepcopy(settings.values)
        self.world.copied.add(self.key)

    def loadDefaults(self) -> None:
        self.world.said("loadDefaults")
        self.world.permanent[self.key] = copy.deepcopy(self.world.defaults[self.key])
        self.world.copied.remove(self.key)

    def remove(self) -> None:
        self.world.said("remove")
        for key, values in self.world.permanent.items():
            ends = [*values.get("ingress_zones", []), *values.get("egress_zones", [])]
            if self.key[0] == "zone" and self.key[1] in ends:
                raise Refusal(f"INVALID_ZONE: {key[1]} has {self.key[1]}")
        del self.world.permanent[self.key]
        self.world.copied.discard(self.key)


class Config:
    def __init__(self, world: World) -> None:
        self.world = world

    def _names(self, kind: str) -> list[str]:
        return [name for found, name in self.world.permanent if found == kind]

    def getZoneNames(self) -> list[str]:
        return self._names("zone")

    def getPolicyNames(self) -> list[str]:
        return self._names("policy")

    def getServiceNames(self) -> list[str]:
        return self.world.services

    def getIPSetNames(self) -> list[str]:
        return ["blocked"]

    def getZoneByName(self, name: str) -> Object:
        return Object(self.world, ("zone", name))

    def getPolicyByName(self, name: str) -> Object:
        return Object(self.world, ("policy", name))

    def _add(self, kind: str, name: str, settings: Settings) -> None:
        self.world.said(f"add {kind}")
        self.world.check(self.world.permanent, (kind, name), settings.values)
        self.world.permanent[(kind, name)] = copy.deepcopy(settings.values)
        self.world.copied.add((kind, name))

    def addZone(self, name: str, settings: Settings) -> None:
        self._add("zone", name, settings)

    def addPolicy(self, name: str, settings: Settings) -> None:
        self._add("policy", name, settings)

    def get_properties(self) -> dict[str, str]:
        return dict(self.world.conf)

    def set_property(self, name: str, value: str) -> None:
        self.world.said("set_property")
        assert name in self.world.conf
        self.world.conf[name] = value
        if name == "IPv6_rpfilter2":
            self.world.conf["IPv6_rpfilter"] = "no" if value == "no" else "yes"


def _joined(now: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is not wanted goes, then ranges come: not into one that is there, and those they overlap become one with them."""
    there = [entry for entry in now if entry in wanted]
    for text, protocol in wanted:
        if (text, protocol) in now:
            continue
        low, high = _range(text)
        for other in [entry for entry in there if entry[1] == protocol]:
            first, last = _range(other[0])
            if first <= low and high <= last:
                raise Refusal(f"ALREADY_ENABLED: {text} in {other[0]}")
            if first <= high and low <= last:
                there.remove(other)
                low, high = min(low, first), max(high, last)
        there.append((str(low) if low == high else f"{low}-{high}", protocol))
    return there


def _range(text: str) -> tuple[int, int]:
    low, _dash, high = text.partition("-")
    return int(low), int(high or low)


class Client:
    def __init__(self, world: World) -> None:
        self.world = world
        self.connected = world.connected

    def config(self) -> Config:
        return Config(self.world)

    def get_property(self, name: str) -> str:
        return {"version": self.world.version, "state": self.world.state}[name]

    def getDefaultZone(self) -> str:
        return "public"

    def listServices(self) -> list[str]:
        return [name for name in self.world.services if name != "unloaded"]

    def _names(self, kind: str) -> list[str]:
        return [name for found, name in self.world.runtime if found == kind]

    def _get(self, key: Key) -> Settings:
        if key not in self.world.runtime:
            raise Refusal(f"INVALID: {key[1]}")
        return Settings(copy.deepcopy(self.world.runtime[key]))

    def getZones(self) -> list[str]:
        return self._names("zone")

    def getPolicies(self) -> list[str]:
        return self._names("policy")

    def getInterfaces(self, zone: str) -> list[str]:
        return list(self.world.runtime[("zone", zone)]["interfaces"])

    def getZoneSettings(self, name: str) -> Settings:
        return self._get(("zone", name))

    def getPolicySettings(self, name: str) -> Settings:
        return self._get(("policy", name))

    def _set(self, key: Key, settings: Settings) -> None:
        self.world.said(f"set {key[0]}")
        self.world.check(self.world.runtime, key, settings.values)
        now = self.world.runtime[key]
        # Asked to change these, firewalld says nothing and does nothing.
        kept = {name: now[name] for name in ("target", "priority") if name in now}
        ports = {name: _joined(now[name], settings.values[name]) for name in ("ports", "source_ports")}
        self.world.runtime[key] = {**copy.deepcopy(settings.values), **kept, **ports}

    def setZoneSettings(self, name: str, settings: Settings) -> None:
        self._set(("zone", name), settings)

    def setPolicySettings(self, name: str, settings: Settings) -> None:
        self._set(("policy", name), settings)

    def _move(self, bound: str, zone: str, entry: str) -> None:
        self.world.said("move")
        for key, values in self.world.runtime.items():
            if key[0] == "zone" and entry in values[bound]:
                values[bound].remove(entry)
        self.world.runtime[("zone", zone)][bound].append(entry)

    def changeZoneOfInterface(self, zone: str, entry: str) -> None:
        self._move("interfaces", zone, entry)

    def changeZoneOfSource(self, zone: str, entry: str) -> None:
        self._move("sources", zone, entry)

    def checkPermanentConfig(self) -> None:
        self.world.said("check")

    def reload(self) -> None:
        self.world.reload()
