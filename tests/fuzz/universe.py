# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses and ports that packets go to."""

from __future__ import annotations

import functools
import ipaddress

from fuzz import make


@functools.lru_cache
def addresses(family: int) -> tuple[int, ...]:
    hosts = make.HOSTS4 if family == 4 else make.HOSTS6
    return tuple(int(ipaddress.ip_address(host)) for host in hosts)


def ports() -> tuple[int, ...]:
    return (*make.PORTS, 1, 1024, 65535)
