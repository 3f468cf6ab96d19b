# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any tasks in any order: foretold exactly, nothing left to do, put back after any failure, and all of it taken back."""

from __future__ import annotations

import copy
import random
import typing as t
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_apply import (
    Apply,
    FirewalldError,
    Mistakes,
    Outcome,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._firewalld_model import minus
from ansible_collections.bulkhead.docker_nftables.tests.unit.firewalld_fake import World, settings_of

OTHERS = ["public", "work", "home"]
OURS = ["bulkhead-a", "bulkhead-b"]
CALLS = [
    "update",
    "add zone",
    "add policy",
    "remove",
    "set zone",
    "set policy",
    "move",
    "reload",
    "check",
    "set_property",
]


class Chance(random.Random):
    def some(self, of: t.Sequence[str], most: int = 3) -> list[str]:
        return self.sample(of, self.randrange(min(most, len(of)) + 1))

    def ports(self) -> list[str]:
        found = []
        for _each in range(self.randrange(3)):
            low = self.randrange(1, 12)
            found.append(f"{low}-{low + self.randrange(1, 4)}/tcp" if self.random() < 0.6 else f"{low}/tcp")
        return found

    def zones(self) -> list[dict[str, t.Any]]:
        free = {"interfaces": ["eth1", "eth2", "eth3"], "sources": ["192.0.2.1", "198.51.100.0/24"]}
        zones = []
        for name in self.some(OTHERS + OURS, 5):
            zone: dict[str, t.Any] = {"name": name, "services": self.some(["ssh", "http", "dns"])}
            for key, left in free.items():
                zone[key] = self.some(left, 1)
                left[:] = [entry for entry in left if entry not in zone[key]]
            if self.random() < 0.7:
                zone["ports"] = self.ports()
            if self.random() < 0.3:
                zone["forward"] = self.random() < 0.5
            if self.random() < 0.2:
                zone["target"] = self.choice(["default", "DROP", "REJECT"])
            if name in OTHERS:
                zone["exclusive"] = self.random() < 0.2
                zone["absent"] = {
                    "services": [
                        entry for entry in self.some(["ssh", "dhcpv6-client"]) if entry not in zone["services"]
                    ],
                    "interfaces": [entry for entry in ("eth1", "eth2") if entry not in zone["interfaces"]],
                    "sources": [entry for entry in ("192.0.2.1",) if entry not in zone["sources"]],
                    "ports": [] if zone.get("ports") else self.ports(),
                }
            zones.append(zone)
        return zones

    def task(self) -> dict[str, t.Any]:
        zones = self.zones()
        known = [zone["name"] for zone in zones if zone["name"] in OURS] + ["public", "docker"]
        policies = [
            {
                "name": name,
                "ingress_zones": [self.choice(known)],
                "egress_zones": ["HOST"],
                "services": self.some(["dns"]),
            }
            for name in self.some(["bulkhead-p", "bulkhead-q"], 2)
        ]
        settings = {"LogDenied": self.choice(["all", "off"])} if self.random() < 0.3 else {}
        return {"zones": zones, "policies": policies, "settings": settings}


def world_of(chance: Chance) -> World:
    world = World()
    for name in OTHERS:
        values = settings_of("zone", services=chance.some(["ssh", "dhcpv6-client", "https"]))
        values["ports"] = [(low, "tcp") for low in chance.some(["3", "5-9", "20"], 2)]
        world.permanent[("zone", name)] = values
    world.permanent[("zone", "work")]["interfaces"] = chance.some(["eth1", "eth2"])
    world.permanent[("zone", "home")]["sources"] = chance.some(["192.0.2.1"])
    world.copied.update(("zone", name) for name in OTHERS)
    world.runtime = copy.deepcopy(world.permanent)
    world.runtime[("zone", "docker")]["interfaces"] = ["docker0"]
    return world


def meaning(config: dict[t.Any, dict[str, t.Any]]) -> dict[t.Any, t.Any]:
    """A configuration without the order of its lists and the way its ranges are cut."""
    found = {}
    for key, values in config.items():
        plain = {name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
        for name in ("ports", "source_ports"):
            ranges = [f"{port}/{protocol}" for port, protocol in values[name]]
            plain[name] = [f"{port}/tcp" for port in range(1, 40) if not minus("ports", [f"{port}/tcp"], ranges)]
        plain.pop("description")
        found[key] = plain
    return found


def in_step(permanent: dict[t.Any, t.Any], runtime: dict[t.Any, t.Any]) -> bool:
    """Whether there is nothing at runtime only, but for Docker's bridges, and nothing that waits for a reload."""
    return meaning(permanent) == meaning({**runtime, ("zone", "docker"): permanent[("zone", "docker")]})


def perform(world: World, root: Path, task: dict[str, t.Any], may_reload: bool, check: bool = False) -> Outcome:
    world.calls.clear()
    return Apply(world.firewalld(root), may_reload).run(copy.deepcopy(task), check)


@pytest.mark.parametrize("seed", range(60))
def test_any_tasks(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Chance(seed)
    world = world_of(chance)
    world.install(monkeypatch)
    first = copy.deepcopy((world.permanent, world.runtime, world.conf))
    done = 0
    refused: list[str] = []
    for _round in range(6):
        task = chance.task()
        may_reload = chance.random() < 0.7
        run = partial(perform, world, tmp_path, task, may_reload)
        before = copy.deepcopy((world.permanent, world.runtime, world.conf))
        try:
            foretold = run(check=True)
        except Mistakes as exc:
            refused.extend(exc.errors)
            continue
        assert (world.permanent, world.runtime, world.conf) == before
        world.failing = {chance.choice(CALLS): chance.randrange(3)}
        try:
            run()
        except FirewalldError as exc:
            assert meaning(world.permanent) == meaning(before[0])
            assert world.conf == before[2]
            world.failing = {}
            # Another reload brings back what is permanent, which a run without a reload had left behind.
            if "reloaded again" not in str(exc) or in_step(*before[:2]):
                refused.append(str(exc))
                assert meaning(world.runtime) == meaning(before[1])
                assert sorted(run(check=True).plan.operations) == sorted(foretold.plan.operations)
            run()
        world.failing = {}
        done += 1
        again = run()
        assert not again.plan.operations and not world.calls, again.plan.operations
        if not again.plan.reload:
            assert in_step(world.permanent, world.runtime)
    assert done
    for error in refused:
        assert "in one zone" in error or "was put back" in error and "but not" not in error, error

    Apply(world.firewalld(tmp_path), True).run({"zones": [], "policies": [], "settings": {}}, False)
    for now, then in zip((world.permanent, world.runtime), first):
        assert meaning(now) == meaning(then)
    assert world.conf == first[2]
    assert not (tmp_path / "etc/bulkhead").exists()
