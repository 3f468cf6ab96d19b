# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the Docker daemon through its SDK.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

try:
    import docker
    from docker import errors as docker_errors

    SDK_PROBLEM = None
except ImportError as exc:
    SDK_PROBLEM = str(exc)

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

DEFAULT_HOST = "unix:///var/run/docker.sock"


class DockerUnavailable(Exception):
    """Docker cannot be asked; `code` names the reason, the message is a sentence for the user."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class DockerAnswers:
    """What the API said, as it said it."""

    version: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    networks: list[dict[str, Any]] = field(default_factory=list)
    containers: list[dict[str, Any]] = field(default_factory=list)


def ask_docker(runner: RunnerLike, host: str = DEFAULT_HOST, timeout: int = 30) -> DockerAnswers:
    """Everything the firewall facts are made of, or DockerUnavailable."""
    if host.startswith("unix://"):
        _knock(runner, "/" + host[len("unix://") :].lstrip("/"), timeout)
    if SDK_PROBLEM is not None:
        raise DockerUnavailable(
            "sdk_missing",
            f"the Docker SDK for Python is missing ({SDK_PROBLEM}): install python3-docker on the host, or the "
            "package docker for the Python that Ansible uses there",
        )
    try:
        client = docker.APIClient(base_url=host, version="auto", timeout=timeout)
        try:
            return DockerAnswers(client.version(), client.info(), client.networks(), _inspect_running(client))
        finally:
            client.close()
    except (docker_errors.DockerException, OSError, ValueError) as exc:
        raise DockerUnavailable("api_error", f"Docker at {host} did not answer as it should: {_one_line(exc)}") from exc


def _inspect_running(client: Any) -> list[dict[str, Any]]:
    found = []
    for entry in client.containers():
        try:
            found.append(client.inspect_container(entry["Id"]))
        except docker_errors.NotFound:
            # It ended since it was listed.
            continue
    return found


def _knock(runner: RunnerLike, path: str, timeout: int) -> None:
    """Tell apart why a daemon does not answer; the SDK says the same for all of them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(timeout)
        try:
            knocking.connect(path)
        except PermissionError as exc:
            raise DockerUnavailable(
                "permission_denied", f"no permission to use {path}: run the task with become"
            ) from exc
        except OSError as exc:
            # A socket file stays behind when Docker is removed: it proves nothing.
            programs = [runner.find(name) for name in ("dockerd", "docker")]
            if programs == [None, None] or (programs[0] is None and not os.path.exists(path)):
                raise DockerUnavailable("not_installed", "Docker is not installed on this host") from exc
            raise DockerUnavailable(
                "daemon_unreachable",
                f"the Docker daemon is not reachable at {path} ({exc.strerror or exc}): see `systemctl status docker`",
            ) from exc


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]
