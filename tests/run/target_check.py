# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile and import what runs on managed hosts; started by the oldest Python that a host may have.

Usage: python3.8 target_check.py TREE ANSIBLE_PARENT, where TREE holds ``ansible_collections`` and ANSIBLE_PARENT the
``ansible`` package. Modules and module_utils only: the other plugins run on the controller.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

PACKAGE = Path("ansible_collections/bulkhead/docker_nftables/plugins")


def main():
    """Import every target-side file and say which ones fail."""
    tree, ansible_parent = Path(sys.argv[1]), sys.argv[2]
    sys.path[:0] = [str(tree), ansible_parent]
    sys.dont_write_bytecode = True
    bad = good = 0
    for kind in ("module_utils", "modules"):
        for path in sorted((tree / PACKAGE / kind).rglob("*.py")):
            name = ".".join(path.relative_to(tree).with_suffix("").parts)
            try:
                compile(path.read_text(encoding="utf-8"), str(path), "exec")
                importlib.import_module(name)
                good += 1
            except Exception as problem:  # whatever a broken file raises is the finding
                bad += 1
                print("{0}: {1}: {2}".format(name, type(problem).__name__, problem))
    print("Python {0}: {1} files import, {2} do not".format(sys.version.split()[0], good, bad))
    if not good and not bad:
        print("there is nothing to import: is {0} the right tree?".format(tree))
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
