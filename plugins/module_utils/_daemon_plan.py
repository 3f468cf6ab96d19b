# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the variables of the role docker_daemon, and the settings they make. May change at any time.

What an engine takes is the module's to say; here a variable is held against its type, and against the other variables.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import kind_of
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_keys import (
    KEYS,
    NFTABLES_BACKEND,
    version,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_values import ACCEPTED, problem

PREFIX = "docker_daemon_"
#: The switches, and what daemon.json calls them.
SWITCHES = {
    "firewall_backend": "firewall-backend",
    "bridge_accept_fwmark": "bridge-accept-fwmark",
    "default_bind_address": "ip",
    "userland_proxy": "userland-proxy",
    "icc": "icc",
    "live_restore": "live-restore",
    "ip_forward": "ip-forward",
    "ip_forward_no_drop": "ip-forward-no-drop",
    "ip6tables": "ip6tables",
    "no_new_privileges": "no-new-privileges",
    "default_address_pools": "default-address-pools",
}
NETWORK_OPTS = "default-network-opts"
_DRIVER = "bridge"
#: Options of networks that are made later; of daemon.json's keys of the same meaning only the default bridge hears.
NETWORK_SWITCHES = {
    "new_networks_bind_address": "com.docker.network.bridge.host_binding_ipv4",
    "new_networks_icc": "com.docker.network.bridge.enable_icc",
}
BACKEND = "firewall-backend"
LIVE_RESTORE = "live-restore"
PROXY, PROXY_PATH = "userland-proxy", "userland-proxy-path"
RESTARTS = ("auto", "never")
_FLAGS = ("allow_iptables_false", "allow_container_restart", "switch_backend")
#: Every variable that the role reads, and the fact it leaves.
KNOWN = tuple(
    PREFIX + name for name in (*SWITCHES, *NETWORK_SWITCHES, *_FLAGS, "settings", "remove", "restart", "pending")
)

_TRUE = ("true", "yes", "on", "1", "t", "y")
_FALSE = ("false", "no", "off", "0", "f", "n")
_PLAIN_RETURN = re.compile(r"(?:counter )?return\Z")


@dataclass
class Plan:
    """What is wanted of daemon.json; with `errors` the rest is what could be understood."""

    settings: dict[str, t.Any] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    allow_iptables_false: bool = False
    allow_container_restart: bool = False
    restart: str = "auto"
    #: Whether a daemon that runs with iptables is to come back with nftables, and nobody has said that it may.
    leaves_iptables: bool = False
    #: For messages: which variable a key came from.
    variables: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def read(values: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> Plan:
    """Take the variables, named without their prefix, and what runs on the host; never raises."""
    plan = Plan()
    _flags(values, plan)
    free = _free(values.get("settings"), plan)
    for name, key in SWITCHES.items():
        if not _unset(values.get(name)):
            _switch(name, key, values[name], free, plan)
    _network_options(values, free, facts, plan)
    for key, value in free.items():
        plan.settings.setdefault(key, value)
        plan.variables.setdefault(key, f"{PREFIX}settings.{key}")
    _remove(values.get("remove"), plan)
    _say_the_default_by_silence(plan)
    plan.leaves_iptables = _leaves_iptables(values, facts, plan)
    if facts.get("running") and not facts.get("available") and (plan.settings or plan.remove):
        plan.errors.append(
            f"Docker runs and cannot be asked, so that nobody knows what a change would need: {facts.get('reason')}"
        )
    return plan


def _unset(value: t.Any) -> bool:
    """Tell whether a variable is left alone; ansible-core before 2.19 makes an empty text of null."""
    return value is None or (isinstance(value, str) and value == "")


def _truth(value: t.Any) -> t.Any:
    """Read a boolean also where it came as text, such as by -e; anything else stays what it is."""
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    return value


def _flags(values: t.Mapping[str, t.Any], plan: Plan) -> None:
    for name in _FLAGS:
        value = _truth(values.get(name, False))
        if not isinstance(value, bool):
            plan.errors.append(f"{PREFIX}{name}: {kind_of(value)} is not accepted; accepted is true or false")
    plan.allow_iptables_false = _truth(values.get("allow_iptables_false")) is True
    plan.allow_container_restart = _truth(values.get("allow_container_restart")) is True
    plan.restart = str(values.get("restart") or "auto")
    if plan.restart not in RESTARTS:
        plan.errors.append(f"{PREFIX}restart: accepted are {' and '.join(RESTARTS)}, not {plan.restart!r:.60}")


def _free(value: t.Any, plan: Plan) -> dict[str, t.Any]:
    if _unset(value):
        return {}
    if not isinstance(value, dict):
        text = f"{PREFIX}settings: {kind_of(value):.60} is not accepted; accepted is an object with keys of daemon.json"
        plan.errors.append(text)
        return {}
    return {str(key): each for key, each in value.items()}


def _switch(name: str, key: str, value: t.Any, free: dict[str, t.Any], plan: Plan) -> None:
    variable = PREFIX + name
    if key in free:
        plan.errors.append(f"{variable}: {key} is in {PREFIX}settings as well; keep it in one of the two")
        del free[key]
    if KEYS[key].kind == "bool":
        value = _truth(value)
    elif key == "bridge-accept-fwmark" and isinstance(value, int) and not isinstance(value, bool):
        # YAML reads 0x1 as a number, Docker takes a text.
        value = hex(value)
    if key == "ip":
        wrong = _wrong_address(value)
    else:
        wrong = problem(KEYS[key], value)
    if wrong is not None:
        plan.errors.append(f"{variable}: {wrong}")
        return
    plan.settings[key] = value
    plan.variables[key] = f"{variable} ({key})"


def _wrong_address(value: t.Any) -> str | None:
    return problem(KEYS["default-gateway"], value)


def _network_options(
    values: t.Mapping[str, t.Any], free: dict[str, t.Any], facts: t.Mapping[str, t.Any], plan: Plan
) -> None:
    """Put the switches for later networks into one object with what the file and the free settings have there."""
    wanted: dict[str, str] = {}
    for name, option in NETWORK_SWITCHES.items():
        value = values.get(name)
        if _unset(value):
            continue
        value = _truth(value) if name == "new_networks_icc" else value
        if name == "new_networks_icc":
            good, takes = isinstance(value, bool), ACCEPTED["bool"]
            wrong = None if good else f"{kind_of(value)} is not accepted; accepted is {takes}"
        else:
            wrong = _wrong_address(value)
        if wrong is not None:
            plan.errors.append(f"{PREFIX}{name}: {wrong}")
            continue
        wanted[option] = str(value).lower()
        plan.variables[NETWORK_OPTS] = " and ".join(
            word for word in (plan.variables.get(NETWORK_OPTS), PREFIX + name) if word
        )
    given = free.get(NETWORK_OPTS)
    if not wanted and given is None:
        return
    if given is not None and (not isinstance(given, dict) or not isinstance(given.get(_DRIVER, {}), dict)):
        # The module says what is wrong with it.
        return
    both = {**(given or {})}
    for name, option in NETWORK_SWITCHES.items():
        if option in wanted and option in both.get(_DRIVER, {}):
            text = f"{PREFIX}{name}: {option} is in {PREFIX}settings.{NETWORK_OPTS} as well; keep it in one of the two"
            plan.errors.append(text)
    if wanted:
        both[_DRIVER] = {**both.get(_DRIVER, {}), **wanted}
    # The module puts objects together one level deep; here what the file has for a driver is to stay as well.
    there = ((facts.get("daemon_json") or {}).get("settings") or {}).get(NETWORK_OPTS)
    for driver, options in (there if isinstance(there, dict) else {}).items():
        if isinstance(options, dict) and isinstance(both.get(driver), dict):
            both[driver] = {**options, **both[driver]}
    free.pop(NETWORK_OPTS, None)
    plan.settings[NETWORK_OPTS] = both
    named = plan.variables.get(NETWORK_OPTS, f"{PREFIX}settings")
    plan.variables[NETWORK_OPTS] = f"{named} ({NETWORK_OPTS})"


def _remove(value: t.Any, plan: Plan) -> None:
    if _unset(value):
        return
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        plan.errors.append(f"{PREFIX}remove: {kind_of(value):.60} is not accepted; accepted is a list of keys")
        return
    for key in value:
        if key in plan.settings:
            named = plan.variables[key]
            plan.errors.append(f"{PREFIX}remove: {key} is set by {named} as well; keep it in one of the two")
        elif key == LIVE_RESTORE:
            plan.errors.append(
                f"{PREFIX}remove: a daemon that runs keeps {key} until its next start, and that start would stop the"
                f" containers; set {PREFIX}live_restore to false instead"
            )
        else:
            plan.remove.append(key)


def _say_the_default_by_silence(plan: Plan) -> None:
    """Docker (seen with 26.1 and 28.5) starts with a file that says userland-proxy true, and refuses to reload it."""
    if plan.settings.get(PROXY) is True and PROXY_PATH not in plan.settings:
        del plan.settings[PROXY]
        plan.remove.append(PROXY)


# -- a switch of the firewall backend ----------------------------------------------------------------------------------


def _leaves_iptables(values: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any], plan: Plan) -> bool:
    engine = facts.get("engine") or {}
    there = ((facts.get("daemon_json") or {}).get("settings") or {}).get(BACKEND)
    if BACKEND not in plan.settings and BACKEND not in plan.remove and (plan.settings or plan.remove):
        # Somebody wrote it and never restarted Docker; a restart for another key would switch as well.
        wanted = there
        plan.variables[BACKEND] = f"{BACKEND} in daemon.json"
    else:
        wanted = plan.settings.get(BACKEND)
    return (
        wanted == "nftables"
        and bool(facts.get("running"))
        and str(engine.get("firewall_backend") or "").partition("+")[0] == "iptables"
        # An engine that has no other backend is refused by the module.
        and version(str(engine.get("version") or "")) >= NFTABLES_BACKEND
        and _truth(values.get("switch_backend")) is not True
    )


def left_behind(plan: Plan, ruleset: t.Mapping[str, t.Any]) -> list[str]:
    """List what Docker would leave of its iptables rules on a switch to nftables, and what that does to packets."""
    if not plan.leaves_iptables:
        return []
    families = [family for family, found in _own_rules(ruleset).items() if found]
    drops = [family for family, found in _dropping(ruleset).items() if found]
    found = []
    if families:
        found.append(
            f"DOCKER-USER has rules of somebody's ({', '.join(families)}), which Docker's nftables backend does not ask"
            " after the next boot"
        )
    if drops:
        found.append(
            f"the policy of FORWARD is DROP ({', '.join(drops)}), which stays and then drops what is published"
        )
    if not found:
        return []
    return [
        f"{plan.variables[BACKEND]}: this host runs with the iptables backend, and {'; '.join(found)}. The playbook"
        " bulkhead.docker_nftables.migrate carries that over. Set"
        f" {PREFIX}switch_backend to true to switch without that"
    ]


def _chain(ruleset: t.Mapping[str, t.Any], family: str, name: str) -> dict[str, t.Any]:
    for table in ruleset.get("tables") or []:
        if (table.get("family"), table.get("name")) == (family, "filter"):
            for chain in table.get("chains") or []:
                if chain.get("name") == name:
                    return dict(chain)
    return {}


def _legacy(ruleset: t.Mapping[str, t.Any], family: str, start: str) -> list[str]:
    lines = (ruleset.get("legacy_rules") or {}).get("ipv4" if family == "ip" else "ipv6") or []
    return [line[len(start) :] for line in map(str, lines) if line.startswith(start)]


def _own_rules(ruleset: t.Mapping[str, t.Any]) -> dict[str, bool]:
    """Whether DOCKER-USER has more than the RETURN that Docker itself puts there."""
    found = {}
    for family, title in (("ip", "IPv4"), ("ip6", "IPv6")):
        texts = [rule.get("text") for rule in _chain(ruleset, family, "DOCKER-USER").get("rules") or []]
        own = [text for text in texts if _PLAIN_RETURN.match(str(text)) is None]
        own += [text for text in _legacy(ruleset, family, "-t filter -A DOCKER-USER") if text.strip() != "-j RETURN"]
        found[title] = bool(own)
    return found


def _dropping(ruleset: t.Mapping[str, t.Any]) -> dict[str, bool]:
    return {
        title: _chain(ruleset, family, "FORWARD").get("policy") == "drop"
        or "DROP" in _legacy(ruleset, family, "-t filter -P FORWARD ")
        for family, title in (("ip", "IPv4"), ("ip6", "IPv6"))
    }


# -- the module's words ------------------------------------------------------------------------------------------------


def in_variables(error: str, plan: Plan) -> str:
    """Say a mistake that the module found with the role's variable instead of the module's option."""
    option, _colon, rest = error.partition(": ")
    key = option[len("settings.") :] if option.startswith("settings.") else ""
    named = plan.variables.get(key)
    if named is not None:
        error = f"{named}: {rest}"
    elif option == "remove":
        error = f"{PREFIX}remove: {rest}"
    return re.sub(r"\ballow_iptables_false\b", f"{PREFIX}allow_iptables_false", error)
