# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that nftables.service loads: where it is, whose it is, and whether it flushes.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from typing import Any, Iterable

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files

#: The first line of a file that the role writes, or the second after a line that names the interpreter.
HEADER = "# Managed by Ansible, role bulkhead.docker_nftables.nftables_conf."

DEBIAN = "/etc/nftables.conf"
RED_HAT = "/etc/sysconfig/nftables.conf"
#: openSUSE has the unit of nftables' own source.
SUSE = "/etc/nftables/rules/main.nft"
_BY_FAMILY = {"rhel": RED_HAT, "fedora": RED_HAT, "centos": RED_HAT, "suse": SUSE, "opensuse": SUSE, "sles": SUSE}

_FLUSH = re.compile(r"\bflush\s+ruleset\b")
_STRING_OR_COMMENT = re.compile(r'("[^"\n]*")|#[^\n]*')
_STRING = re.compile(r'"[^"\n]*"')
_INCLUDE = re.compile(r'(?:^|;)\s*include\s+"([^"\n]+)"', re.MULTILINE)
_LOADED = re.compile(r"""(?:^|\s)(?:-f|--file)[ =]["']?([^\s"';]+)|\binclude\s+\\?["']([^"'\\]+)""")
#: What our drop-in has the unit load in the place of the file.
_OURS = "/etc/bulkhead/"
#: More files than anybody includes; a file that includes itself ends here.
_MOST_FILES = 200


@dataclass(frozen=True)
class ConfFile:
    path: str
    exists: bool = False
    managed: bool = False
    flushes: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"path": self.path, "exists": self.exists, "managed": self.managed, "flushes": self.flushes}


def conf_path(commands: Iterable[str], os_release: str) -> str:
    """The file that the unit's commands load, else the one of the distribution's family."""
    for command in commands:
        loaded = loaded_path(command)
        if loaded is not None and not loaded.startswith(_OURS):
            return loaded
    settings = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    words = " ".join(settings.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")).lower().split()
    return next((_BY_FAMILY[word] for word in words if word in _BY_FAMILY), DEBIAN)


def loaded_path(command: str) -> str | None:
    """The file that a command line of nft loads, None where it names none."""
    match = _LOADED.search(command)
    path = (match.group(1) or match.group(2)) if match else None
    return path if path is not None and path.startswith("/") and not path.startswith("/dev/") else None


def command_flushes(command: str) -> bool:
    """Whether a command line of nft empties the ruleset."""
    return _FLUSH.search(command) is not None


def flushes(text: str) -> bool:
    """Whether nft text empties the ruleset of everybody; comments and strings do not."""
    bare = _STRING.sub('""', _without_comments(text))
    return _FLUSH.search(bare) is not None


def included(text: str) -> list[str]:
    """The files that nft text includes, as it names them."""
    return _INCLUDE.findall(_without_comments(text))


def managed(text: str) -> bool:
    """Whether the role wrote the file."""
    lines = text.splitlines()[:2]
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    return bool(lines) and lines[0].startswith(HEADER)


def _without_comments(text: str) -> str:
    return _STRING_OR_COMMENT.sub(lambda match: match.group(1) or "", text.replace("\\\n", " "))


def read_conf(path: str, root: str = "") -> ConfFile:
    """What is to be known of the file. `root` is put before every path."""
    text = _text(root + path)
    if text is None:
        return ConfFile(path)
    return ConfFile(path, True, managed(text), flushing_file(path, root) is not None)


def flushing_include(text: str, root: str = "") -> str | None:
    """A file that nft text includes, or one that such a file includes, if it empties the ruleset."""
    return _flushing(_matching(included(text), root), root)


def flushing_file(path: str, root: str = "") -> str | None:
    """This file or one it includes, if it empties the ruleset."""
    return _flushing([path], root)


def _matching(names: Iterable[str], root: str) -> list[str]:
    patterns = [name if name.startswith("/") else f"/etc/{name}" for name in names]
    return [found[len(root) :] for pattern in patterns for found in sorted(glob.glob(root + pattern))]


def _flushing(waiting: list[str], root: str) -> str | None:
    seen: set[str] = set()
    while waiting and len(seen) < _MOST_FILES:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.add(one)
        text = _text(root + one)
        if text is None:
            continue
        if flushes(text):
            return one
        waiting.extend(_matching(included(text), root))
    return None


def _text(path: str) -> str | None:
    try:
        return _files.read(path)
    except OSError:
        return None
