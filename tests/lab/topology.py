# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab: hosts and neighbours on one LAN, made and removed together."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import cleanup, inventory, paths, state
from lab.host import Host, override
from lab.images import say
from lab.network import Wiring
from lab.peer import Peer
from lab.process import LabError, run


class Lab:
    """`with Lab("name") as lab:` makes the wires and one neighbour, `lab.peer`; leaving removes everything.

    A lab of the same name that a dead process left behind is removed first. `detach()` keeps the lab after the
    process has ended; `Lab.attach(name)` finds it again.
    """

    def __init__(self, name: str) -> None:
        self.name = paths.check_lab_name(name)
        self.directory: Path = state.directory(name)
        self.wiring = Wiring(paths.prefix(name) + "lan")
        self.hosts: dict[str, Host] = {}
        self.peers: dict[str, Peer] = {}
        self._detached = False
        self._owner = state.owner()

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        if not self._detached:
            self.destroy()

    def start(self) -> Lab:
        record = state.load(self.name)
        if record is not None and record["detached"]:
            raise LabError(f"lab {self.name} is already up; `python3 -m lab down {self.name}` removes it")
        if record is not None and state.owned_by_living(record):
            raise LabError(f"lab {self.name} is in use by process {record['owner']['pid']}")
        cleanup.remove(self.name)
        for orphan in cleanup.remove_orphans():
            say(f"removed lab {orphan}, whose process is gone")
        self.directory.mkdir(parents=True, mode=0o700)
        self.save()
        try:
            self._make_key()
            self.wiring.create()
            self.wiring.start_internet(self.directory / "internet.log")
            self.add_peer("peer", 50)
        except BaseException:
            self.destroy()
            raise
        return self

    @classmethod
    def attach(cls, name: str) -> Lab:
        """A lab that is up."""
        record = state.load(name)
        if record is None:
            raise LabError(f"no lab {name}; up are: {', '.join(state.known()) or 'none'}")
        lab = cls(name)
        lab._detached = record["detached"]
        lab._owner = record["owner"]
        lab.hosts = {key: Host(lab, key, config) for key, config in record["hosts"].items()}
        lab.peers = {key: Peer(lab, key, config) for key, config in record["peers"].items()}
        return lab

    def detach(self) -> None:
        """Leave the lab up when this process ends."""
        self._detached = True
        self.save()

    def destroy(self) -> None:
        cleanup.remove(self.name)
        self.hosts.clear()
        self.peers.clear()

    def save(self) -> None:
        record = {
            "owner": self._owner,
            "detached": self._detached,
            "hosts": {name: host.config for name, host in self.hosts.items()},
            "peers": {name: peer.config for name, peer in self.peers.items()},
        }
        state.save(self.name, record)

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> Peer:
        return self.peers["peer"]

    def add_peer(self, name: str, suffix: int, second_network: bool = False) -> Peer:
        """Another neighbour on the LAN, or on the second network."""
        self._new_part(name)
        peer = Peer(self, name, {"suffix": suffix, "second_network": second_network})
        self.peers[name] = peer
        self.save()
        peer.create()
        inventory.write(self)
        return peer

    def add_host(
        self,
        name: str,
        suite: str,
        address_suffix: int = 11,
        second_nic: bool = False,
        dockerd: str | None = None,
        docker_proxy: str | None = None,
        variant: str = "",
        daemon_json: dict[str, t.Any] | None = None,
    ) -> Host:
        """A host with its disk laid; `boot()` switches it on. The binaries default to LAB_DOCKERD, LAB_DOCKER_PROXY."""
        self._new_part(name)
        config = {
            "suite": suite,
            "suffix": address_suffix,
            "second_nic": second_nic,
            "dockerd": dockerd or override("LAB_DOCKERD"),
            "docker_proxy": docker_proxy or override("LAB_DOCKER_PROXY"),
            "variant": variant,
            "daemon_json": daemon_json,
        }
        host = Host(self, name, config)
        host.create()
        self.hosts[name] = host
        self.save()
        inventory.write(self)
        return host

    def _new_part(self, name: str) -> None:
        if name in self.hosts or name in self.peers or name == "lan":
            raise LabError(f"lab {self.name} already has a {name}")

    def boot(self, *hosts: Host) -> None:
        """Boot hosts side by side, by default all that are off."""
        off = hosts or [host for host in self.hosts.values() if not host.running]
        with ThreadPoolExecutor(max(1, len(off))) as pool:
            list(pool.map(lambda host: host.boot(), off))

    # -- SSH -------------------------------------------------------------------------------------------------------

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    def _make_key(self) -> None:
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{self.name}", "-f", str(self.key)])

    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text()
