# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewalld itself, by its own Python API over D-Bus, and what is remembered of it on the disk.

Private to the collection: not meant to be used from anywhere else. May change at any time.

The API is a package of the host's own Python. It is imported when it is needed, so that everything else here can be
tested without it.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import FirewalldError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_check import (
    RPFILTER_WORDS as _RPFILTER_WORDS,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import (
    DOCKER_ZONE,
    LISTS,
    SCALARS,
    ZONE,
    Item,
    Key,
    Seen,
    forward_port_parts,
    forward_port_text,
    is_docker_bridge,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_record import (
    PATH,
    Record,
    RecordError,
    parse,
    render,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, Runner

#: Holds the moment, on the clock that begins with the boot, at which something was written without a reload.
UNREAD = "/run/bulkhead/firewalld-reload"
_UNIT = "firewalld.service"
_ABOUT = "Kept by the module bulkhead.docker_nftables.firewalld_policy; its next run overwrites what is changed here."
#: The unit of firewalld 2.5 is called active before it answers on D-Bus.
_PATIENCE = 10.0
_REJECT = "%%REJECT%%"
_RPFILTER = "IPv6_rpfilter"


class Firewalld:
    """A running firewalld; `connect` comes first. Methods raise FirewalldError."""

    def __init__(self, runner: Runner, root: str = "") -> None:
        self.runner = runner
        self.root = root
        self._started = 0.0
        self._client: t.Any = None
        self._refusals: tuple[type[Exception], ...] = ()

    def connect(self) -> Firewalld:
        self._look_at_unit()
        try:
            client = importlib.import_module("firewall.client")
            self._refusals = (
                importlib.import_module("dbus.exceptions").DBusException,
                importlib.import_module("firewall.errors").FirewallError,
            )
        except ImportError as exc:
            raise FirewalldError(
                f"{sys.executable} has no firewalld API ({exc}); it comes with the package python3-firewall for the Python "
                "of the distribution, so set ansible_python_interpreter to that, mostly /usr/bin/python3"
            ) from exc
        until = time.monotonic() + _PATIENCE
        self._client = self._call(client.FirewallClient)
        while not self._client.connected:
            if time.monotonic() > until:
                raise FirewalldError(f"{_UNIT} is active, but does not answer on D-Bus")
            time.sleep(0.2)
            self._client = self._call(client.FirewallClient)
        state = self._call(self._client.get_property, "state")
        if state != "RUNNING":
            raise FirewalldError(f"firewalld is in the state {state}: look for the reason in its log, and restart it")
        return self

    def _look_at_unit(self) -> None:
        names = "LoadState,ActiveState,ExecMainStartTimestampMonotonic"
        try:
            shown = self.runner.run(["systemctl", "show", f"--property={names}", _UNIT]).stdout
        except CommandError as exc:
            raise FirewalldError(f"the state of {_UNIT} cannot be told: {exc}") from exc
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        if found.get("LoadState") == "masked":
            raise FirewalldError(f"{_UNIT} is masked: firewalld is not to run here (systemctl unmask firewalld)")
        if found.get("LoadState") != "loaded":
            raise FirewalldError("firewalld is not installed: there is no firewalld.service")
        if found.get("ActiveState") != "active":
            raise FirewalldError(
                f"firewalld does not run ({_UNIT} is {found.get('ActiveState')}): start it, and then restart Docker, which "
                "looks for firewalld at its own start only"
            )
        self._started = int(found.get("ExecMainStartTimestampMonotonic") or 0) / 1e6

    def _call(self, function: t.Callable[..., t.Any], *arguments: t.Any) -> t.Any:
        try:
            return function(*arguments)
        except self._refusals as exc:
            told = getattr(exc, "get_dbus_message", None)
            raise FirewalldError(f"firewalld refuses: {told() if told is not None else exc}") from exc

    @property
    def _config(self) -> t.Any:
        return self._call(self._client.config)

    # -- reading -------------------------------------------------------------------------------------------------------

    def seen(self) -> Seen:
        client, config = self._client, self._config
        permanent: dict[Key, Item] = {}
        runtime: dict[Key, Item] = {}
        for kind, names in ((ZONE, config.getZoneNames), ("policy", config.getPolicyNames)):
            for name in self._call(names):
                permanent[(kind, name)] = _item(kind, name, self._call(self._object((kind, name)).getSettings))
        for kind, names, settings in (
            (ZONE, client.getZones, client.getZoneSettings),
            ("policy", client.getPolicies, client.getPolicySettings),
        ):
            for name in self._call(names):
                runtime[(kind, name)] = _item(kind, name, self._call(settings, name))
        properties = {key: str(value) for key, value in self._call(config.get_properties).items()}
        if _RPFILTER_WORDS in properties:
            properties[_RPFILTER] = properties[_RPFILTER_WORDS]
        return Seen(
            version=self._call(client.get_property, "version"),
            permanent=permanent,
            runtime=runtime,
            settings=properties,
            services=frozenset(self._call(config.getServiceNames)),
            runtime_services=frozenset(self._call(client.listServices)),
            ipsets=frozenset(self._call(config.getIPSetNames)),
            default_zone=self._call(client.getDefaultZone),
            bridges=self._bridges(),
            unread=self._unread(),
        )

    def dockers(self) -> tuple[str, ...]:
        if DOCKER_ZONE not in self._call(self._client.getZones):
            return ()
        return tuple(self._call(self._client.getInterfaces, DOCKER_ZONE))

    def _bridges(self) -> tuple[str, ...]:
        return tuple(sorted(name for _index, name in socket.if_nameindex() if is_docker_bridge(name)))

    def _object(self, key: Key) -> t.Any:
        config = self._config
        return self._call(config.getZoneByName if key[0] == ZONE else config.getPolicyByName, key[1])

    # -- what firewalld says of texts ----------------------------------------------------------------------------------

    def name_problem(self, kind: str, name: str) -> str | None:
        module = importlib.import_module(f"firewall.core.io.{kind}")
        checked = module.Zone() if kind == ZONE else module.Policy()
        try:
            self._call(checked.check_name, name)
        except FirewalldError as exc:
            return str(exc.__cause__)
        return None

    def rich_rule(self, text: str) -> str:
        rule = importlib.import_module("firewall.core.rich").Rich_Rule
        # Its parser is not made for every text.
        refusals: tuple[type[Exception], ...] = (*self._refusals, ValueError, LookupError, TypeError, AttributeError)
        try:
            return str(rule(rule_str=text))
        except refusals as exc:
            raise ValueError(str(exc) or type(exc).__name__) from exc

    def is_protocol(self, text: str) -> bool:
        return bool(importlib.import_module("firewall.functions").checkProtocol(text))

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, item: Item) -> None:
        config = self._config
        names = self._call(config.getZoneNames if item.kind == ZONE else config.getPolicyNames)
        if item.name in names:
            found = self._object(item.key)
            self._call(found.update, _with(self._call(found.getSettings), item))
            return
        settings = _with(self._new(item.kind), item)
        settings.setDescription(_ABOUT)
        self._call(config.addZone if item.kind == ZONE else config.addPolicy, item.name, settings)

    def _new(self, kind: str) -> t.Any:
        client = importlib.import_module("firewall.client")
        return client.FirewallClientZoneSettings() if kind == ZONE else client.FirewallClientPolicySettings()

    def remove(self, key: Key) -> None:
        self._call(self._object(key).remove)

    def keep(self, key: Key) -> object:
        config = self._config
        if key[1] not in self._call(config.getZoneNames if key[0] == ZONE else config.getPolicyNames):
            return None
        found = self._object(key)
        return self._call(found.getSettings), self._call(found.get_properties).get("path", "")

    def put_back(self, key: Key, kept: object) -> None:
        now = t.cast("tuple[t.Any, str] | None", self.keep(key))
        before = t.cast("tuple[t.Any, str] | None", kept)
        if before is None:
            if now is not None:
                self.remove(key)
            return
        settings, path = before
        if now is None:
            config = self._config
            self._call(config.addZone if key[0] == ZONE else config.addPolicy, key[1], settings)
        elif path != now[1]:
            # It was the distribution's; what stands in /etc now is our copy of it.
            self._call(self._object(key).loadDefaults)
        elif settings.getSettingsDict() != now[0].getSettingsDict():
            self._call(self._object(key).update, settings)

    def set_runtime(self, item: Item) -> None:
        client = self._client
        get, put = (
            (client.getZoneSettings, client.setZoneSettings)
            if item.kind == ZONE
            else (client.getPolicySettings, client.setPolicySettings)
        )
        self._call(put, item.name, _with(self._call(get, item.name), item))

    def move(self, key: str, entry: str, zone: str) -> None:
        client = self._client
        self._call(client.changeZoneOfInterface if key == "interfaces" else client.changeZoneOfSource, zone, entry)

    def set_setting(self, name: str, value: str) -> None:
        config = self._config
        if name == _RPFILTER and _RPFILTER_WORDS in self._call(config.get_properties):
            name = _RPFILTER_WORDS
        self._call(config.set_property, name, value)

    def check_permanent(self) -> None:
        self._call(self._client.checkPermanentConfig)

    def reload(self) -> None:
        self._call(self._client.reload)

    # -- the disk ------------------------------------------------------------------------------------------------------

    def _unread(self) -> bool:
        try:
            return float(_files.read(self.root + UNREAD) or 0) > self._started
        except (OSError, ValueError):
            return True

    def set_unread(self, unread: bool) -> None:
        path = self.root + UNREAD
        try:
            if unread:
                _files.private_directory(os.path.dirname(path))
                _files.replace(path, f"{time.monotonic():.6f}\n", 0o600)
            else:
                _files.remove(path)
        except OSError as exc:
            raise FirewalldError(f"{UNREAD} cannot be written: {exc.strerror}") from exc

    def read_record(self) -> Record:
        try:
            return parse(_files.read(self.root + PATH))
        except OSError as exc:
            raise FirewalldError(f"{PATH} cannot be read: {exc.strerror}") from exc
        except RecordError as exc:
            raise FirewalldError(str(exc)) from exc

    def write_record(self, record: Record) -> None:
        path, text = self.root + PATH, render(record)
        try:
            if text is None:
                _files.remove(path)
                _files.remove_if_empty(os.path.dirname(path))
            else:
                _files.private_directory(os.path.dirname(path))
                _files.replace(path, text, 0o600)
        except OSError as exc:
            raise FirewalldError(f"{PATH} cannot be written: {exc.strerror}") from exc

    # -- the clock -----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


# -- firewalld's form of values ----------------------------------------------------------------------------------------


def _item(kind: str, name: str, settings: t.Any) -> Item:
    found = settings.getSettingsDict()
    lists = {key: tuple(_text(key, entry) for entry in found.get(_theirs(kind, key), ())) for key in LISTS[kind]}
    scalars = {key: found.get(key, default) for key, default in SCALARS[kind].items()}
    if scalars["target"] == _REJECT:
        scalars["target"] = "REJECT"
    return Item(kind, name, lists, {key: _plain(value) for key, value in scalars.items()})


def _with(settings: t.Any, item: Item) -> t.Any:
    """Their settings with ours in them; what this collection does not know stays."""
    values: dict[str, t.Any] = {
        _theirs(item.kind, key): [_entry(key, entry) for entry in item.entries(key)] for key in LISTS[item.kind]
    }
    values.update((key, item.scalar(key)) for key in SCALARS[item.kind])
    if item.kind == ZONE and values["target"] == "REJECT":
        values["target"] = _REJECT
    settings.setSettingsDict(values)
    return settings


def _theirs(kind: str, key: str) -> str:
    return "rules_str" if (kind, key) == (ZONE, "rich_rules") else key


def _text(key: str, entry: t.Any) -> str:
    if key in ("ports", "source_ports"):
        return f"{entry[0]}/{entry[1]}"
    if key == "forward_ports":
        return forward_port_text(*(str(part) for part in entry))
    return str(entry)


def _entry(key: str, text: str) -> t.Any:
    if key in ("ports", "source_ports"):
        return tuple(text.split("/", 1))
    if key == "forward_ports":
        return forward_port_parts(text)
    return text


def _plain(value: t.Any) -> t.Any:
    """D-Bus has types of its own for numbers and truth values."""
    if isinstance(value, str):
        return str(value)
    return bool(value) if type(value).__name__ in ("bool", "Boolean") else int(value)
