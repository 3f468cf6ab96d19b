# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of continuity, lock-out and revert share: a policy, its open and closed targets, watches, snapshots."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import typing as t
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.fleet import SUITES, both, target, tree

from lab.ansible import PlaybookResult, PlaybookRun, run_playbook, start_playbook
from lab.containers import Target, addresses
from lab.host import Host
from lab.process import wait_for

_CONVERSATION = str(Path(__file__).with_name("conversation.py"))
#: For what does not depend on the release: systemd and nft differ between them, the controller's part does not.
one_suite = pytest.mark.parametrize("suite", SUITES[:1], indirect=True)
HARDEN = "bulkhead.docker_nftables.harden"
PENDING = "/run/bulkhead/inet-bulkhead.pending"
#: Attempts a second of a watch, all targets together.
RATE = 300
#: No target goes unwatched for longer. A machine with two cores that boots hosts beside the test stalls now and then.
MAX_GAP = 2.0

Rules = t.List[t.Dict[str, t.Any]]
SSH: Rules = [{"to": "host", "ports": [22]}]
#: Ports 80, 443 and the TCP echo of the container web6 are open, whatever else containers publish.
RULES: Rules = [*SSH, {"to": "published", "ports": [80, 443, 8083]}]
#: Without SSH: whoever applies it is locked out.
LOCKOUT: Rules = [{"to": "published", "ports": [80, 443, 8083]}]


def variables(rules: Rules, **others: t.Any) -> dict[str, t.Any]:
    """The role's variables, each named without its beginning."""
    return {"docker_firewall_rules": rules, **{f"docker_firewall_{key}": value for key, value in others.items()}}


def harden(host: Host, rules: Rules, **others: t.Any) -> PlaybookResult:
    """Run the playbook to its end, whatever that is."""
    return run_playbook(host.lab, HARDEN, hosts=host.name, extra_vars=variables(rules, **others))


def hardened(host: Host, rules: Rules | None = None, **others: t.Any) -> PlaybookResult:
    """Run the playbook, with RULES unless others are given; it has to succeed."""
    result = harden(host, RULES if rules is None else rules, **others)
    assert result.rc == 0, f"{result.messages()}\n{result.stdout[-3000:]}\n{result.stderr[-1000:]}"
    return result


def start_hardening(host: Host, rules: Rules, **others: t.Any) -> PlaybookRun:
    """Start the playbook and go on."""
    return start_playbook(host.lab, HARDEN, hosts=host.name, extra_vars=variables(rules, **others))


# -- targets -----------------------------------------------------------------------------------------------------------


def closed_targets(host: Host) -> list[Target]:
    """Ports that no rule opens: published over TCP and UDP, of the host's network, and containers dialled directly."""
    keys = both(host, "tcp", 8080, 8081, 8888) | both(host, "udp", 8082)
    direct = [target("tcp", address, 80) for name in ("web6", "unpub") for address in addresses(host)[name]]
    return [target(*key) for key in sorted(keys)] + direct


def open_targets(host: Host) -> list[Target]:
    """Ports that RULES opens."""
    return [target(*key) for key in sorted(both(host, "tcp", 22, 80, 443, 8083))]


def wait_open(host: Host, targets: t.Sequence[Target], timeout: float = 30) -> None:
    """Until all of them answer the neighbour."""

    def answered() -> bool:
        return all(entry["result"] == "open" for entry in host.lab.peer.probe(targets, timeout=0.5))

    wait_for(f"all of {[(item['address'], item['port']) for item in targets]} answer", answered, timeout, interval=0.2)


# -- watching ----------------------------------------------------------------------------------------------------------


class Seen:
    """What a watch on closed targets has seen; filled in when it ends."""

    def __init__(self) -> None:
        self.report: dict[str, t.Any] = {}

    def successes(self, since: float = 0.0) -> list[dict[str, t.Any]]:
        """The attempts that got through, of those begun at this moment of the clock or later."""
        return [item for item in self.report["successes"] if item["time"] >= since]

    def counted(self, result: str) -> int:
        """How many attempts ended so."""
        return sum(entry["results"].get(result, 0) for entry in self.report["targets"])

    def attempts(self) -> str:
        """For the reader of a test's output: how much "never" means."""
        report = self.report
        return f"{report['attempts']} attempts in {report['seconds']:.1f} s, longest gap {report['max_gap']:.2f} s"


class watched:
    """Try all the time; the watch must have been a dense one, or what it did not see means nothing."""

    def __init__(self, host: Host, targets: t.Sequence[Target]) -> None:
        self._seen = Seen()
        self._watch = host.lab.peer.watch(targets, rate=RATE)

    def __enter__(self) -> Seen:
        return self._seen

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._seen.report = report = self._watch.stop()
        if kind is None:
            assert report["attempts"] > report["seconds"] * RATE / 2, f"the watch was too slow: {self._seen.attempts()}"
            assert report["max_gap"] < MAX_GAP, f"the watch slept: {self._seen.attempts()}"


class never_through(watched):
    """Not one attempt gets through while the block runs."""

    def __init__(self, host: Host, targets: t.Sequence[Target], what: str) -> None:
        super().__init__(host, targets)
        self._what = f"{host.suite}, {what}"

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        if kind is not None:
            return
        through = self._seen.successes()
        places = sorted({tuple(item["target"][key] for key in ("proto", "address", "port")) for item in through})
        print(f"{self._what}: {len(through)} of {self._seen.attempts()} got through")
        assert not through, f"{self._what}: the neighbour got through {len(through)} times, to {places}"


# -- conversations -----------------------------------------------------------------------------------------------------


class Conversation:
    """A long-lived connection of the neighbour's on which something is said all the time."""

    def __init__(self, host: Host, arguments: t.Sequence[str]) -> None:
        argv = [sys.executable, "-I", _CONVERSATION, *arguments]
        self._process = host.lab.peer.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self._process.stdout.readline()
        assert first == "talking\n", f"no conversation with {' '.join(arguments)}: {first}"

    def end(self) -> dict[str, t.Any]:
        """Stop; gives `exchanges`, `longest` and `broken`."""
        out, _err = self._process.communicate(timeout=30)
        return json.loads(out)


def ssh_argv(host: Host, *command: str) -> list[str]:
    """A command over a new SSH connection that no other shares; to be run in a neighbour's namespace."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ControlPath=none"]
    flags = [word for option in [*options, "ConnectTimeout=5", "BatchMode=yes"] for word in ("-o", option)]
    return ["ssh", "-F", "none", "-i", str(host.lab.key), *flags, f"root@{host.address4}", shlex.join(command)]


@contextmanager
def talking(host: Host) -> t.Iterator[None]:
    """Connections to a published port, v4 and v6, and to sshd: none may break or stall while the block runs."""
    arguments = {
        "published v4": ["tcp", host.address4, "8083"],
        "published v6": ["tcp", host.address6, "8083"],
        "SSH": ["run", *ssh_argv(host, "cat")],
    }
    conversations = {name: Conversation(host, argv) for name, argv in arguments.items()}
    try:
        yield
    finally:
        ends = {name: conversation.end() for name, conversation in conversations.items()}
    for name, end in ends.items():
        print(f"{host.suite}, {name}: {end['exchanges']} exchanges, the longest took {end['longest']:.2f} s")
        assert end["broken"] is None, f"{name}: {end['broken']}"
        assert end["exchanges"] > 20, f"{name}: only {end['exchanges']} exchanges"


# -- the host's own view -----------------------------------------------------------------------------------------------


def live_table(host: Host) -> str | None:
    """The own table without counters, None where there is none."""
    found = host.run(["nft", "-s", "list", "table", "inet", "bulkhead"], check=False)
    return found.stdout if found.returncode == 0 else None


def words(listing: str | None) -> list[str] | None:
    """A listing's words in any order: sets are listed in another one after each load."""
    return None if listing is None else sorted(listing.replace(",", " ").split())


def foreign_tables(host: Host) -> str:
    """Every table but the own one, without counters."""
    names = [line.split()[1:] for line in host.run(["nft", "list", "tables"]).stdout.splitlines()]
    wanted = [name for name in names if name != ["inet", "bulkhead"]]
    return "".join(host.run(["nft", "-s", "list", "table", *name]).stdout for name in wanted)


def etc(host: Host) -> dict[str, list[t.Any]]:
    """Everything that is on disk for the next boot."""
    return tree(host, "/etc")


def wait_pending(host: Host, timeout: float = 60) -> float:
    """Until a new table is live and waits for its confirmation; gives that moment of the clock."""
    record = Path(f"/proc/{host.ns_pid}/root{PENDING}")
    wait_for("an apply waits for its confirmation", lambda: _is_live(host, record), timeout, interval=0.02)
    return time.time()


def _is_live(host: Host, record: Path) -> bool:
    if not record.exists():
        return False
    applied = json.loads(record.read_text())["applied"]
    return words(live_table(host)) == words(applied)


def timer(host: Host) -> str:
    """The state of the timer that takes an unconfirmed apply back."""
    return host.run(["systemctl", "is-active", "bulkhead-revert-inet-bulkhead.timer"], check=False).stdout.strip()


def wait_reverted(host: Host, before: str | None, timeout: float) -> float:
    """Until the table is again what it was before; gives that moment of the clock."""

    def over() -> bool:
        return words(live_table(host)) == words(before) and timer(host) == "inactive"

    wait_for("the host has taken the apply back", over, timeout, interval=0.1)
    return time.time()


def is_root() -> bool:
    """Whether test hosts can be booted."""
    return os.geteuid() == 0
