# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters: their values now, and the files that set them at boot.
PRIVATE to the collection: may change or disappear at any time.

A key is always written with slashes, as below /proc/sys: an interface name may hold dots, never a slash.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import typing as t

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

# Where systemd-sysctl and procps look. A file hides files of the same name in the directories after its own.
SYSCTL_DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
# Read last by "sysctl --system", and by systemd-sysctl only where a link in sysctl.d leads to it.
SYSCTL_CONF = "/etc/sysctl.conf"
FILE_MODE = 0o644

# Two names of one value in the kernel.
_ALIASES = {"net/ipv4/conf/all/forwarding": "net/ipv4/ip_forward"}


class SysctlError(Exception):
    """A parameter or a file could not be read or written; the text says which and why."""


class Assignment(t.NamedTuple):
    """One ``key = value`` of a file."""

    path: str
    line: int
    key: str
    value: str


def normalize_key(text: str) -> str:
    """The key with slashes. The first separator decides what dots and slashes in the rest mean (sysctl.d(5))."""
    first = re.search(r"[./]", text)
    if first is not None and first.group() == ".":
        return text.translate({ord("."): "/", ord("/"): "."})
    return text


def file_key(key: str) -> str:
    """The key as a sysctl.d file spells it: with dots, or with slashes where a part of it has a dot itself."""
    return key if "." in key else key.replace("/", ".")


def parse_assignments(text: str, path: str) -> list[Assignment]:
    """Every explicit assignment, in order. Patterns are left out: an explicit key wins over any pattern."""
    found = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        name, separator, value = line.partition("=")
        name = name.strip()
        if name.startswith("-"):
            name = name[1:].strip()
        if separator and name and not re.search(r"[*?\[]", name):
            found.append(Assignment(path, number, normalize_key(name), value.strip()))
    return found


class SysctlTree:
    """The parameters and files of one host, found below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, absolute: str) -> str:
        return os.path.join(self.root, absolute.lstrip("/"))

    def get(self, key: str) -> str | None:
        """The kernel's value now, or None where the kernel has no such parameter."""
        text = self.read("/proc/sys/" + key)
        return None if text is None else text.strip()

    def set(self, key: str, value: str) -> None:
        path = "/proc/sys/" + key
        try:
            # No O_CREAT: a parameter that is not there must be an error, also below a test's root.
            descriptor = os.open(self.path(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(descriptor, (value + "\n").encode())
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise SysctlError(f"Cannot set {file_key(key)} to {value}: {_reason(exc, path)}") from exc
        now = self.get(key)
        if now != value:
            raise SysctlError(f"Cannot set {file_key(key)} to {value}: the kernel took the value and still says {now}")

    def children(self, key: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path("/proc/sys/" + key)))
        except FileNotFoundError:
            return []

    def read(self, path: str) -> str | None:
        """A file's text, None where there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="surrogateescape") as handle:
                return handle.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise SysctlError(f"Cannot read {path}: {exc.strerror}") from exc

    def is_plain(self, path: str) -> bool:
        """Whether the path is a regular file with the mode that files of sysctl.d have."""
        try:
            mode = os.lstat(self.path(path)).st_mode
        except OSError:
            return False
        return stat.S_ISREG(mode) and stat.S_IMODE(mode) == FILE_MODE

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

    def write(self, path: str, text: str) -> None:
        """Replace the file in one step: a reader, or a power loss, meets the old text or the new, never a part."""
        target = self.path(path)
        try:
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            _files.replace(target, text, FILE_MODE)
        except OSError as exc:
            raise SysctlError(f"Cannot write {path}: {_reason(exc, path)}") from exc

    def remove(self, path: str) -> None:
        try:
            os.unlink(self.path(path))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise SysctlError(f"Cannot remove {path}: {_reason(exc, path)}") from exc

    def boot_files(self) -> list[str]:
        """The files read at boot, in the order in which they are read; /etc/sysctl.conf comes last."""
        by_name: dict[str, str] = {}
        for directory in SYSCTL_DIRECTORIES:
            try:
                names = os.listdir(self.path(directory))
            except OSError:
                continue
            for name in names:
                if name.endswith(".conf"):
                    by_name.setdefault(name, f"{directory}/{name}")
        ordered = [by_name[name] for name in sorted(by_name)]
        conf = os.path.realpath(self.path(SYSCTL_CONF))
        if os.path.exists(conf) and not any(os.path.realpath(self.path(path)) == conf for path in ordered):
            ordered.append(SYSCTL_CONF)
        return ordered

    def overrides(self, own: str, wanted: dict[str, str]) -> list[Assignment]:
        """Assignments read after the file ``own`` that leave a wanted key with another value at boot."""
        later = [path for path in self.boot_files() if path == SYSCTL_CONF or _name(path) > _name(own)]
        last: dict[str, Assignment] = {}
        for path in later:
            for assignment in parse_assignments(self.read(path) or "", path):
                key = _ALIASES.get(assignment.key, assignment.key)
                if key in wanted:
                    last[key] = assignment
        return [assignment for key, assignment in last.items() if assignment.value != wanted[key]]


def _name(path: str) -> str:
    return os.path.basename(path)


def _reason(exc: OSError, path: str) -> str:
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"{exc.strerror}. This module needs root (become: true)"
    if exc.errno == errno.EROFS:
        return f"{path} is on a read-only file system (a container without its own /proc/sys?)"
    if exc.errno == errno.ENOENT:
        return "the running kernel has no such parameter"
    return exc.strerror or str(exc)
