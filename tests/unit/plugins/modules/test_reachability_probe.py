# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import socket
import sys
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.bulkhead.docker_nftables.plugins.modules import reachability_probe

Run = t.Callable[..., t.Tuple[int, t.Dict[str, t.Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main() and give back its exit code and its result."""

    def call(check: bool = False, **arguments: object) -> tuple[int, dict[str, t.Any]]:
        arguments.update(_ansible_check_mode=check)
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            reachability_probe.main()
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("check", [False, True])
def test_packets_are_sent_in_check_mode_too(run: Run, check: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(2)
        code, result = run(check=check, targets=[{"address": "127.0.0.1", "port": port}], timeout=0.5)
        server.accept()[0].close()

    assert code == 0 and result["changed"] is False
    assert result["probed"] == [
        {
            "address": "127.0.0.1",
            "protocol": "tcp",
            "port": port,
            "result": "open",
            "detail": "",
            "source_address": "127.0.0.1",
        }
    ]
    assert result["counts"] == {"open": 1, "refused": 0, "timeout": 0, "unreachable": 0, "error": 0}


def test_all_mistakes_are_told_at_once_and_nothing_is_sent(run: Run) -> None:
    targets = [{"address": "db.example", "port": 1}, {"address": "::1"}, {"address": "::1", "port": 70000}]

    code, result = run(targets=targets, timeout=0, retries=11)

    assert code == 1
    assert result["msg"] == (
        "Nothing was sent. targets[0].address: 'db.example' is not an IPv4 or IPv6 address;"
        " targets[1].port: tcp needs a port from 1 to 65535, not None;"
        " targets[2].port: tcp needs a port from 1 to 65535, not 70000;"
        " timeout: 0.0 is not from 0.1 to 60 seconds; retries: 11 is not from 0 to 10"
    )
