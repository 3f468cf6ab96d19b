# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _docker_read_api
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_api import (
    DockerUnavailable,
    ask_docker,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import FakeRunner

FIXTURES = Path(__file__).parents[2] / "fixtures" / "reading" / "docker-26.1.5-iptables-firewalld"

needs_sdk = pytest.mark.skipif(
    _docker_read_api.SDK_PROBLEM is not None, reason="the Docker SDK for Python is not installed here"
)


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Answers on a unix socket as the daemon of a captured host did."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.broken: str | None = None
        self.gone: str | None = None
        self.info = self.load("info")
        self.containers = self.load("containers")
        super().__init__(path, Answer)

    @staticmethod
    def load(name: str) -> Any:
        return json.loads((FIXTURES / f"docker-{name}.json").read_text())

    def answer(self, path: str) -> tuple[int, Any]:
        path = "/" + path.split("?")[0].split("/", 2)[2] if path.startswith("/v1.") else path.split("?")[0]
        if path == self.broken:
            return 500, {"message": "it broke"}
        if path == "/version":
            return 200, self.load("version")
        if path == "/info":
            return 200, self.info
        if path == "/networks":
            return 200, self.load("networks")
        if path == "/containers/json":
            return 200, [{"Id": each["Id"]} for each in self.containers]
        for each in self.containers:
            if path == f"/containers/{each['Id']}/json" and each["Name"] != self.gone:
                return 200, each
        return 404, {"message": "no such thing"}


class Answer(BaseHTTPRequestHandler):
    server: Daemon

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        status, value = self.server.answer(self.path)
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(str(tmp_path / "docker.sock")) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, daemon=True)
        thread.start()
        yield daemon
        daemon.shutdown()
        thread.join()


def host(daemon: Daemon) -> str:
    return f"unix://{daemon.server_address}"


@needs_sdk
def test_everything_is_asked_for(daemon: Daemon) -> None:
    answers = ask_docker(FakeRunner(), host(daemon))
    assert answers.info["ServerVersion"] == "26.1.5+dfsg1"
    assert answers.version["ApiVersion"] == "1.45"
    assert len(answers.networks) == 10
    assert sorted(each["Name"] for each in answers.containers)[:2] == ["/bound", "/hostnet"]


@needs_sdk
def test_a_container_that_ends_while_it_is_read_is_left_out(daemon: Daemon) -> None:
    daemon.gone = "/bound"
    names = [each["Name"] for each in ask_docker(FakeRunner(), host(daemon)).containers]
    assert len(names) == len(daemon.containers) - 1
    assert "/bound" not in names


@needs_sdk
def test_a_daemon_that_answers_with_an_error_is_one_sentence(daemon: Daemon) -> None:
    daemon.broken = "/networks"
    with pytest.raises(DockerUnavailable, match="did not answer as it should.*it broke") as caught:
        ask_docker(FakeRunner(), host(daemon))
    assert caught.value.code == "api_error"
    assert "\n" not in str(caught.value)


@needs_sdk
def test_something_that_is_no_docker(tmp_path: Path) -> None:
    class Mute(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)

    path = str(tmp_path / "docker.sock")
    with socketserver.ThreadingUnixStreamServer(path, Mute) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(DockerUnavailable) as caught:
            ask_docker(FakeRunner(), f"unix://{path}", timeout=5)
        server.shutdown()
        thread.join()
    assert caught.value.code == "api_error"


def test_a_missing_sdk_is_named(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_docker_read_api, "SDK_PROBLEM", "No module named 'docker'")
    with pytest.raises(DockerUnavailable, match="No module named 'docker'.*install python3-docker") as caught:
        ask_docker(FakeRunner(), host(daemon))
    assert caught.value.code == "sdk_missing"


def test_docker_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(DockerUnavailable, match="not installed") as caught:
        ask_docker(FakeRunner(missing=("dockerd",)), f"unix://{tmp_path}/none")
    assert caught.value.code == "not_installed"


def test_a_daemon_that_is_down(tmp_path: Path) -> None:
    with pytest.raises(DockerUnavailable, match="not reachable .*No such file.*systemctl status docker") as caught:
        ask_docker(FakeRunner(), f"unix://{tmp_path}/none")
    assert caught.value.code == "daemon_unreachable"
    path = str(tmp_path / "docker.sock")
    with Daemon(path):
        pass
    assert os.path.exists(path), "a killed daemon leaves its socket behind"
    with pytest.raises(DockerUnavailable, match="not reachable .*refused") as caught:
        ask_docker(FakeRunner(missing=("dockerd",)), f"unix://{path}")
    assert caught.value.code == "daemon_unreachable"


@pytest.mark.skipif(os.geteuid() != 0, reason="changing to a user without permission needs root")
def test_a_socket_without_permission(daemon: Daemon) -> None:
    os.chmod(str(daemon.server_address), 0o600)
    os.chmod(Path(str(daemon.server_address)).parent, 0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "no error"
        try:
            for folder in Path(str(daemon.server_address)).parents:
                if str(folder).startswith("/tmp/"):
                    os.chmod(folder, 0o755)
            os.setgroups([])
            os.setuid(65534)
            ask_docker(FakeRunner(), host(daemon))
        except DockerUnavailable as exc:
            said = f"{exc.code}: {exc}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    os.close(writer)
    assert said.startswith("permission_denied: no permission to use")
