# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network namespaces that nothing but this process holds: they are gone when it is, however it ends."""

from __future__ import annotations

import ctypes
import os
import subprocess
import typing as t
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _call(name: str, *arguments: int) -> None:
    """A namespace call of the C library; Python has its own only from 3.12 on."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Room:
    """One network namespace; `entered` moves the calling thread there and back."""

    def __init__(self) -> None:
        home = _here()
        try:
            _call("unshare", _CLONE_NEWNET)
            self._number = _here()
            _call("setns", home, _CLONE_NEWNET)
            if os.fstat(self._number).st_ino == os.fstat(home).st_ino:
                raise OSError("the new network namespace is the old one")
        finally:
            os.close(home)
        #: What ip(8) takes for this room where it moves an interface.
        self.path = f"/proc/{os.getpid()}/fd/{self._number}"
        self.ip("link set lo up")

    @contextmanager
    def entered(self) -> t.Iterator[None]:
        home = _here()
        _call("setns", self._number, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
            os.close(home)

    def run(self, *argv: str, text: str | None = None) -> str:
        """Run a program here; what it says when it fails is in the error."""
        with self.entered():
            done = subprocess.run(
                argv,
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "PATH": _PATH, "LC_ALL": "C"},
                check=False,
            )
        if done.returncode:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}\n{text or ''}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Lines for ip(8), all in one process."""
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def sysctl(self, values: t.Mapping[str, str]) -> list[str]:
        """Set what a namespace of this kernel has of these; gives the names of the rest."""
        missing = []
        with self.entered():
            for key, value in values.items():
                path = "/proc/sys/" + key.replace(".", "/")
                if not os.path.exists(path):
                    missing.append(key)
                    continue
                with open(path, "w", encoding="ascii") as file:
                    file.write(value)
        return missing

    def close(self) -> None:
        os.close(self._number)
