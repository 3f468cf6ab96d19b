# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send one ICMPv6 router advertisement (RFC 4861) from the namespace this program runs in.

    ip netns exec NAME python3 router_advertisement.py INTERFACE PREFIX/64 [ROUTER_LIFETIME [PREFIX_LIFETIME]]

Stands in for the LAN's router: a default route and one prefix for address autoconfiguration.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

ROUTER_ADVERTISEMENT = 134
PREFIX_INFORMATION = 3
ON_LINK_AND_AUTONOMOUS = 0xC0


def advertisement(prefix: str, router_lifetime: int = 1800, prefix_lifetime: int = 3600) -> bytes:
    """The message, its checksum left to the kernel (which fills it in on ICMPv6 raw sockets)."""
    network = ipaddress.IPv6Network(prefix)
    head = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, router_lifetime, 0, 0)
    option = struct.pack(
        "!BBBBIII",
        PREFIX_INFORMATION,
        4,
        network.prefixlen,
        ON_LINK_AND_AUTONOMOUS,
        prefix_lifetime,
        prefix_lifetime,
        0,
    )
    return head + option + network.network_address.packed


def send(interface: str, message: bytes) -> None:
    """Multicast the message to all nodes on the interface's link, from its link-local address."""
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.sendto(message, ("ff02::1", 0, 0, index))


def main(argv: list[str]) -> int:
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    send(argv[1], advertisement(argv[2], *(int(value) for value in argv[3:5])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
