# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes systemd start another dockerd until a switch is confirmed, and what it does when it is not.

Private to the collection: not meant to be used from anywhere else. May change at any time.

All of it lives in /run: a reboot before the confirmation starts the old backend with the old daemon.json.
"""

from __future__ import annotations

import typing as t

DIRECTORY = "/run/bulkhead/docker-backend"
#: What dockerd reads until the switch is confirmed, and a link to the real file afterwards.
CONFIG = f"{DIRECTORY}/daemon.json"
UNITS = "/run/systemd/system"
DROP_IN = f"{UNITS}/docker.service.d/zz-bulkhead-backend.conf"
REVERT = "bulkhead-revert-docker-backend"
REVERT_UNIT = f"{UNITS}/{REVERT}.service"
_SECONDS = 900


class UnitError(Exception):
    """docker.service cannot be understood; the message says why."""


def exec_start(printed: str) -> str:
    """The command line of a service as it was written, from `systemctl cat`; raises UnitError."""
    section = ""
    found: list[str] = []
    for line in _whole_lines(printed):
        if line.startswith("[") and line.endswith("]"):
            section = line
            continue
        key, equals, value = line.partition("=")
        if section != "[Service]" or not equals or key.strip() != "ExecStart":
            continue
        # An empty one forgets those before it.
        found = [*found, value.strip()] if value.strip() else []
    if len(found) != 1:
        raise UnitError(f"docker.service has {len(found) or 'no'} lines with ExecStart, and one is needed")
    return found[0]


def _whole_lines(text: str) -> t.Iterator[str]:
    """Lines without comments; one that ends with a backslash goes on in the next."""
    begun = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(("#", ";")):
            continue
        if stripped.endswith("\\"):
            begun += stripped[:-1] + " "
            continue
        yield (begun + stripped).strip()
        begun = ""


def drop_in(command: str) -> str:
    """The drop-in that has dockerd read CONFIG; of two --config-file it takes the last."""
    return (
        "# Written by bulkhead.docker_nftables.docker_backend until its change is confirmed; gone with the next boot.\n"
        f"[Service]\nExecStart=\nExecStart={command} --config-file {CONFIG}\n"
    )


def revert_unit(commands: t.Iterable[t.Sequence[str]]) -> str:
    """The service that goes back: each command runs, whatever became of those before it."""
    lines = "".join(f"ExecStart=-{' '.join(map(_quoted, command))}\n" for command in commands)
    return (
        "[Unit]\n"
        "Description=Go back to Docker's former firewall backend, as the change was not confirmed\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"TimeoutStartSec={_SECONDS}\n{lines}"
    )


def _quoted(word: str) -> str:
    """A word for a command line of systemd's, in which %, $, quotes and backslashes mean something."""
    text = word.replace("%", "%%").replace("$", "$$")
    if text and all(letter.isalnum() or letter in "-_./=:,@+%$" for letter in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
