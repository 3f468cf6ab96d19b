# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/unit/golden*/*/golden.* anew")


@pytest.fixture(autouse=True)
def a_module_runs_on_a_target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let modules return their warnings, although tests of plugins have made this process a controller."""
    if request.path.parent.name != "modules":
        return
    try:
        from ansible.module_utils import _internal
    except ImportError:
        return  # ansible-core before 2.19 makes no such difference
    monkeypatch.setattr(_internal, "is_controller", False, raising=False)
