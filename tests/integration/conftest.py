# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real hosts for tests. LAB_SUITES (for instance "trixie forky") chooses the Debian releases; all three by default."""

from __future__ import annotations

import itertools
import os
import time
import typing as t
from contextlib import ExitStack

import pytest

from lab import STANDARD, ContainerSet, Host, Lab
from lab.images import SUITES

CHOSEN = os.environ.get("LAB_SUITES", "").replace(",", " ").split() or list(SUITES)
_serial = itertools.count()

Say = t.Callable[[str], None]
NewHost = t.Callable[..., Host]


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Print a line of progress past pytest's capture."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"  lab: {text}")

    return line


def _lab_name(kind: str) -> str:
    """Unique on the machine, so that several test runs go side by side."""
    return f"{kind}{next(_serial)}x{os.getpid()}"


def _boot(stack: ExitStack, say: Say, kind: str, suite: str, containers: ContainerSet | None, **options: t.Any) -> Host:
    if os.geteuid() != 0:
        pytest.skip("test hosts need root for namespaces and mounts")
    begin = time.monotonic()
    lab = stack.enter_context(Lab(_lab_name(kind)))
    host = lab.add_host("host", suite, **options)
    host.boot()
    host.wait_docker()
    if containers:
        host.containers_up(containers)
        lab.peer.route_via(host)
    say(f"{suite} host is up in {time.monotonic() - begin:.1f} s")
    return host


@pytest.fixture(scope="session", params=CHOSEN)
def suite(request: pytest.FixtureRequest) -> str:
    """The Debian release under test."""
    return request.param


@pytest.fixture(scope="session")
def lab_host(suite: str, say: Say) -> t.Iterator[Host]:
    """One host for the whole run with the standard containers: a test leaves it as it found it."""
    with ExitStack() as stack:
        yield _boot(stack, say, "shared", suite, STANDARD)


@pytest.fixture(scope="module")
def module_host(suite: str, say: Say) -> t.Iterator[Host]:
    """A pristine host with the standard containers for one test file."""
    with ExitStack() as stack:
        yield _boot(stack, say, "module", suite, STANDARD)


@pytest.fixture
def own_host(suite: str, say: Say) -> t.Iterator[Host]:
    """A pristine host with the standard containers for one test."""
    with ExitStack() as stack:
        yield _boot(stack, say, "own", suite, STANDARD)


@pytest.fixture
def new_host(say: Say) -> t.Iterator[NewHost]:
    """A function that boots a host in a lab of its own: new_host("trixie", containers=None, second_nic=True)."""
    with ExitStack() as stack:

        def boot(suite: str, containers: ContainerSet | None = STANDARD, **options: t.Any) -> Host:
            return _boot(stack, say, "new", suite, containers, **options)

        yield boot
