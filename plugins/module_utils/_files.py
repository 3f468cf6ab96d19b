# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: reading and writing small files of the host, whole or not at all.

May change at any time.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile


def read(path: str) -> str | None:
    """Give a file's text, None where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: str, text: str, mode: int) -> None:
    """Replace a file in one step; it is on the disk when this returns.

    A link is followed, so that a linked configuration file stays a link; what it leads to has to be
    a file: a masked unit is a link to /dev/null, which must never be replaced.
    """
    target = os.path.realpath(path)
    if os.path.lexists(target) and not os.path.isfile(target):
        raise FileExistsError(errno.EEXIST, f"it leads to {target}, which is no regular file", path)
    replace(target, text, mode)


def replace(path: str, text: str, mode: int) -> None:
    """Replace a file, or the link that is there, in one step; it is on the disk when this returns."""
    directory = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".bulkhead-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory last through a power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def private_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory that only root may look into; refuse one that somebody else owns."""
    os.makedirs(path, mode=mode, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not a directory of user {os.geteuid()}'s own")
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(path, mode)


def remove(path: str) -> bool:
    """Remove a file; tell whether there was one."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove_if_empty(path: str) -> None:
    """Remove a directory unless something is in it."""
    try:
        os.rmdir(path)
    except OSError:
        return
