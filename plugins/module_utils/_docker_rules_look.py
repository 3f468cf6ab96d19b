# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at Docker and its rules together, and the few things that are asked of Docker's API besides.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_read_api
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read import (
    api_version,
    read_containers,
    read_engine,
    read_networks,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import (
    DEFAULT_HOST,
    DockerAnswers,
    DockerUnavailable,
    ask_docker,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import (
    DaemonSettings,
    read_daemon_settings,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_rules_read import (
    Misplaced,
    dnat_missing,
    engine_version,
    user_chain_misplaced,
    with_user_jump,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read_docker import rules_missing
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_host import (
    docker_presence,
    legacy_table_names,
    read_interfaces,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state import DockerPresence

_MESSAGE_LIMIT = 300


@dataclass(frozen=True)
class Seen:
    """Docker and its rules at one moment."""

    presence: DockerPresence
    daemon: DaemonSettings
    engine: dict[str, Any]
    #: Ids and names of running containers.
    running: dict[str, str]
    lost: list[str]
    misplaced: list[Misplaced]

    @property
    def missing(self) -> list[str]:
        return [*self.lost, *(each.text for each in self.misplaced)]

    @property
    def version(self) -> tuple[int, ...]:
        return engine_version(self.engine["version"])

    @property
    def backend(self) -> str:
        return str(self.engine["firewall_backend"]).partition("+")[0]

    @property
    def swarm(self) -> bool:
        return self.engine["swarm"] != "inactive"


class Edges:
    """What a repair touches besides the files: the host's programs, Docker's API and the clock."""

    def __init__(self, runner: RunnerLike) -> None:
        self.runner = runner
        self.now: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep

    def presence(self) -> DockerPresence:
        return docker_presence(read_interfaces(self.runner))

    def ask(self, timeout: float) -> DockerAnswers:
        return ask_docker(self.runner, timeout=max(1, int(timeout)))

    def live_restore(self) -> bool:
        """Whether the daemon has live-restore on; raises DockerUnavailable."""
        return bool(self._client(lambda client: client.info()).get("LiveRestoreEnabled"))

    def start_container(self, identity: str) -> None:
        """Start a container that has ended; raises DockerUnavailable."""
        self._client(lambda client: client.start(identity))

    def _client(self, call: Callable[[Any], Any]) -> Any:
        # Only used after ask() has found the SDK.
        errors = (_docker_read_api.docker_errors.DockerException, OSError, ValueError)
        try:
            client = _docker_read_api.docker.APIClient(base_url=DEFAULT_HOST, version="auto", timeout=30)
            try:
                return call(client)
            finally:
                client.close()
        except errors as exc:
            raise DockerUnavailable("api_error", " ".join(str(exc).split())[:_MESSAGE_LIMIT]) from exc

    def look(self, timeout: float = 30) -> Seen:
        """Docker and its rules as they are now; raises DockerUnavailable and RulesetError."""
        presence = self.presence()
        # Docker first: a daemon that is still starting answers when its rules are there.
        answers = self.ask(timeout)
        ruleset = read_ruleset(self.runner)
        daemon = read_daemon_settings(arguments=presence.arguments)
        networks, _wrong = read_networks(answers.networks, api_version(answers.version))
        published, _host_network, _addressed = read_containers(answers.containers, networks)
        engine = read_engine(answers.version, answers.info, daemon)
        managed = daemon.effective("iptables", True) is not False
        legacy4, _legacy6 = legacy_table_names()
        findings = rules_missing(with_user_jump(ruleset), presence, legacy4, managed)
        lost = [finding.text for finding in findings]
        misplaced: list[Misplaced] = []
        if managed and "nat" not in legacy4:
            lost = lost or list(dnat_missing(ruleset, published))
            if not str(engine["firewall_backend"]).startswith("nftables"):
                misplaced = list(user_chain_misplaced(ruleset, engine_version(engine["version"])))
        running = {str(each["Id"]): str(each.get("Name") or "").lstrip("/") for each in answers.containers}
        return Seen(presence, daemon, engine, running, lost, misplaced)
