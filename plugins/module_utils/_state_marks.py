# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask this host who uses packet marks.

Private to the collection: not meant to be used from anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _files, _marks, _marks_text
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import MarkUse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Ruleset
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_ruleset import read_ruleset

if TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import RunnerLike

_NAMES = ("/usr/share/iproute2/rt_marks", "/etc/iproute2/rt_marks")
_SAVE = {
    "ip": ("iptables-nft-save", "iptables-save"),
    "ip6": ("ip6tables-nft-save", "ip6tables-save"),
    "bridge": ("ebtables-nft-save", "ebtables-save"),
}
#: One process for both; the keys stay where they are.
_XFRM = "xfrm policy list\nxfrm state list nokeys\n"


def read_mark_uses(
    runner: RunnerLike, ruleset: Ruleset, own_table: str, legacy: LegacyRules, root: str = ""
) -> list[MarkUse]:
    """Everybody who reads or writes marks, this collection left out. `root` is put before the paths of files."""
    if _marks.unread_marks(ruleset):
        ruleset = read_ruleset(runner, elements=True)
    found = _marks.uses_in_ruleset(ruleset, own_table, _names(root))
    for family in sorted(_marks_text.xt_families(ruleset, own_table)):
        saved = _saved(runner, family)
        found.extend(_marks_text.uses_in_xt_rules(ruleset, family, saved, own_table))
    for label, lines in (("ip", legacy.ipv4), ("ip6", legacy.ipv6)):
        found.extend(_marks_text.uses_in_legacy_rules(label, list(lines or ())))
    found.extend(_marks_text.uses_in_ip_rules(_printed(runner, ["ip", "-j", "rule"])))
    found.extend(_marks_text.uses_in_ip_rules(_printed(runner, ["ip", "-6", "-j", "rule"]), "ip -6 rule"))
    found.extend(_marks_text.uses_in_xfrm(_printed(runner, ["ip", "-force", "-batch", "-"], _XFRM)))
    return found


def _saved(runner: RunnerLike, family: str) -> str:
    tool = next((name for name in _SAVE.get(family, ()) if runner.find(name)), None)
    return "" if tool is None else _printed(runner, [tool])


def _names(root: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in _NAMES:
        try:
            found.update(_marks.parse_names(_files.read(root + path) or ""))
        except OSError:
            continue
    return found


def _printed(runner: RunnerLike, argv: list[str], stdin: str | None = None) -> str:
    """What a tool says; a kernel without policy routing or IPsec, or no tool at all, has no marks there."""
    try:
        return runner.run(argv, stdin=stdin, check=False).stdout
    except CommandError:
        return ""
