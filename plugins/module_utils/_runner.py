# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start processes: the only place in plugins/ that does.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from typing import ContextManager, Protocol

    class RunnerLike(Protocol):
        """What the rest of the collection may ask of a runner; tests hand in a scripted one."""

        def find(self, name: str) -> str | None: ...

        def run(
            self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60
        ) -> Result: ...

        def scratch_network(self) -> ContextManager[None]: ...


EXTRA_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_CLONE_NEWNET = 0x40000000
_MESSAGE_LIMIT = 1000


@dataclass(frozen=True)
class Result:
    """What a finished process left behind."""

    rc: int
    stdout: str
    stderr: str


class CommandError(Exception):
    """A process ended with an exit code the caller did not want."""

    def __init__(self, argv: list[str], rc: int, stdout: str = "", stderr: str = "") -> None:
        self.argv = argv
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(argv, rc, stdout, stderr)

    def __str__(self) -> str:
        said = (self.stderr.strip() or self.stdout.strip() or "it printed nothing")[:_MESSAGE_LIMIT]
        return f"{' '.join(self.argv)} ended with exit code {self.rc}: {said}"


class CommandMissing(CommandError):
    """The program is not installed."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__(argv, 127)

    def __reduce__(self) -> tuple[type[CommandMissing], tuple[list[str]]]:
        return type(self), (self.argv,)

    def __str__(self) -> str:
        return f"{self.argv[0]} is not installed: it is neither in PATH nor in {':'.join(EXTRA_PATH)}"


class CommandTimeout(CommandError):
    """The process did not end in time and was killed."""

    def __str__(self) -> str:
        return f"{' '.join(self.argv)} did not finish in time and was killed"


class ScratchNetworkError(Exception):
    """A private network namespace cannot be entered here."""


class Runner:
    """Runs programs of the host, without a shell and always in the C locale."""

    def find(self, name: str) -> str | None:
        """The absolute path of a program, or None when it is not installed."""
        if "/" in name:
            return name if os.path.isfile(name) and os.access(name, os.X_OK) else None
        path = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
        return shutil.which(name, path=os.pathsep.join([*path, *EXTRA_PATH]))

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        """Run one program to its end.

        Raises CommandMissing, CommandTimeout, and CommandError when check is set and the exit code is not 0.
        """
        binary = self.find(argv[0])
        if binary is None:
            raise CommandMissing(argv)
        environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}
        try:
            done = subprocess.run(
                [binary, *argv[1:]],
                stdin=subprocess.DEVNULL if stdin is None else None,
                input=None if stdin is None else stdin.encode("utf-8", "surrogateescape"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise CommandTimeout(argv, -9, _text(exc.stdout), _text(exc.stderr)) from exc
        except OSError as exc:
            raise CommandError(argv, 126, stderr=f"cannot be started: {exc.strerror}") from exc
        result = Result(done.returncode, _text(done.stdout), _text(done.stderr))
        if check and result.rc != 0:
            raise CommandError(argv, result.rc, result.stdout, result.stderr)
        return result

    @contextmanager
    def scratch_network(self) -> Iterator[None]:
        """Stay in a new, empty network namespace as long as the context lasts.

        Programs run inside see no interfaces but a loopback that is down, and no ruleset: what they load there
        never touches the host. Only the calling thread and the processes it starts are moved.
        """
        home = os.open(_own_namespace(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", _CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", home, _CLONE_NEWNET)
        finally:
            os.close(home)


def _text(raw: bytes | str | None) -> str:
    return raw if isinstance(raw, str) else (raw or b"").decode("utf-8", "replace")


def _own_namespace() -> str:
    thread = "/proc/thread-self/ns/net"
    return thread if os.path.exists(thread) else "/proc/self/ns/net"


def _call(name: str, *arguments: int) -> None:
    """A namespace call of the C library; Python has its own only from 3.12 on."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EPERM:
        raise ScratchNetworkError(
            "a private network namespace to try rules in needs root (CAP_SYS_ADMIN); become root to go on"
        )
    raise ScratchNetworkError(f"a private network namespace cannot be used here: {name}: {os.strerror(number)}")
