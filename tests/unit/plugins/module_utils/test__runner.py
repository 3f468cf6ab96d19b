# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pickle

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    CommandTimeout,
    Runner,
    ScratchNetworkError,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")


def namespace() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_gives_back_what_the_program_printed() -> None:
    result = Runner().run(["sh", "-c", "cat; echo err >&2; echo $LC_ALL"], stdin="in\n")
    assert (result.rc, result.stdout, result.stderr) == (0, "in\nC\n", "err\n")


def test_no_stdin_means_end_of_file_and_not_the_terminal() -> None:
    assert Runner().run(["cat"], timeout=5).stdout == ""


def test_arguments_reach_no_shell() -> None:
    assert Runner().run(["echo", "$(id); *"]).stdout == "$(id); *\n"


def test_an_unwanted_exit_code_says_what_the_program_said() -> None:
    with pytest.raises(CommandError) as caught:
        Runner().run(["sh", "-c", "echo out; echo 'no way' >&2; exit 3"])
    assert caught.value.rc == 3
    assert caught.value.stdout == "out\n"
    assert "exit code 3: no way" in str(caught.value)


def test_an_expected_exit_code_is_a_result() -> None:
    assert Runner().run(["sh", "-c", "exit 3"], check=False).rc == 3


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandMissing, match="no-such-program is not installed"):
        Runner().run(["no-such-program"])


def test_errors_survive_pickling() -> None:
    again = pickle.loads(pickle.dumps(CommandMissing(["nft", "-v"])))
    assert (again.argv, again.rc) == (["nft", "-v"], 127)


def test_finds_administration_programs_without_them_in_path(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    tool = tmp_path / "sbin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    monkeypatch.setattr(_runner, "EXTRA_PATH", (str(tool.parent),))
    monkeypatch.setenv("PATH", "/nowhere")
    assert Runner().find("tool") is None
    tool.chmod(0o755)
    assert Runner().find("tool") == str(tool)


def test_never_finds_a_program_in_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    planted = tmp_path / "planted-nft"
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}/usr/bin")
    assert Runner().find("planted-nft") is None


def test_kills_a_program_that_does_not_end() -> None:
    with pytest.raises(CommandTimeout, match="did not finish in time"):
        Runner().run(["sleep", "30"], timeout=0.1)


def test_output_that_is_no_utf8_is_no_error() -> None:
    assert Runner().run(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_a_file_that_is_no_program_is_an_error_not_a_traceback(tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(CommandError, match="cannot be started"):
        Runner().run([str(broken)])


@needs_root
def test_a_scratch_network_is_empty_and_left_again() -> None:
    before = namespace()
    with Runner().scratch_network():
        assert namespace() != before
        assert Runner().run(["readlink", "/proc/self/ns/net"]).stdout.strip() == namespace()
        assert Runner().run(["sh", "-c", "tail -n +3 /proc/net/dev | wc -l"]).stdout.strip() == "1"
    assert namespace() == before


@needs_root
def test_a_scratch_network_is_left_after_an_error() -> None:
    before = namespace()
    with pytest.raises(ValueError), Runner().scratch_network():
        raise ValueError
    assert namespace() == before


@needs_root
def test_a_scratch_network_says_that_it_needs_root() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setuid(65534)
        try:
            with Runner().scratch_network():
                said = "entered"
        except ScratchNetworkError as exc:
            said = str(exc)
        os.write(writer, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "needs root" in os.read(reader, 1000).decode()
    os.close(reader)
    os.close(writer)
