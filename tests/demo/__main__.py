# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python3 -m demo: run it. python3 -m demo --clean: take away everything it left."""

from __future__ import annotations

import argparse
import os
import sys

from demo.leave import clean
from demo.story import tell
from lab.images import SUITES
from lab.process import LabError


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--clean", action="store_true", help="remove the demo and the images that it built")
    options = parser.parse_args()
    suite = os.environ.get("DEMO_SUITE") or "bookworm"
    if os.geteuid() != 0:
        print("demo: root is needed for namespaces and mounts", file=sys.stderr)
        return 1
    if suite not in SUITES:
        print(f"demo: DEMO_SUITE={suite}: one of {', '.join(SUITES)}", file=sys.stderr)
        return 1
    try:
        if options.clean:
            clean()
            return 0
        return tell(suite)
    except LabError as exc:
        print(f"demo: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; the host is gone", file=sys.stderr)
    return 1


sys.exit(main())
