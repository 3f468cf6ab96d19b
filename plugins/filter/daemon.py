# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that take the role docker_daemon from its variables to what Docker has to do."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_plan, _daemon_steps
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._misspelt import misspelt


def _plain(value: t.Any) -> t.Any:
    """Copy a value out of the containers that ansible-core templates lazily, which dataclasses cannot copy."""
    if isinstance(value, t.Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def daemon_plan(
    variables: dict[str, t.Any], facts: dict[str, t.Any], names: t.Sequence[str] = ()
) -> dict[str, t.Any]:
    """Give the settings that the variables make, and every mistake in them."""
    plan = _daemon_plan.read(_plain(variables), _plain(facts))
    plan.errors[:0] = misspelt(names, _daemon_plan.KNOWN)
    return asdict(plan)


def daemon_errors(
    plan: dict[str, t.Any], ruleset: dict[str, t.Any] | None = None, result: dict[str, t.Any] | None = None
) -> dict[str, t.Any]:
    """Give everything that keeps a host from its settings, as a list and as one text."""
    read = _daemon_plan.Plan(**_plain(plan))
    errors = [*read.errors, *_daemon_plan.left_behind(read, ruleset or {})]
    if result is not None and "needs" not in result:
        said = result.get("errors") or [str(result.get("msg") or "the module docker_daemon_config said nothing")]
        errors += [_daemon_plan.in_variables(str(error), read) for error in said]
    words = "1 reason" if len(errors) == 1 else f"{len(errors)} reasons"
    listed = "\n".join(f"  - {error}" for error in errors)
    return {
        "errors": errors,
        "refusal": f"docker_daemon refuses this host for {words}; nothing was changed.\n{listed}" if errors else "",
    }


def daemon_steps(
    plan: dict[str, t.Any], result: dict[str, t.Any], facts: dict[str, t.Any], lines: t.Sequence[str] = ()
) -> dict[str, t.Any]:
    """Give what Docker has to do to have its settings, and which of them have to wait."""
    pid, record = _daemon_steps.read_record(lines)
    now = _daemon_steps.read_running(facts, pid)
    return asdict(_daemon_steps.steps(_daemon_plan.Plan(**_plain(plan)), _plain(result), record, now))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filters by name."""
        return {"daemon_plan": daemon_plan, "daemon_errors": daemon_errors, "daemon_steps": daemon_steps}
