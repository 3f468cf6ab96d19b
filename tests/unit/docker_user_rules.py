# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of DOCKER-USER as iptables-save prints them, and what they are in nft."""

from __future__ import annotations

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_translate import (
    Mark,
    Translation,
    parse_ipsets,
    translate,
)

MARK = Mark(0x10000000, 0x10000000)
ACCEPT = "meta mark set meta mark & 0xefffffff | 0x10000000 accept"
#: Protocols of which conntrack has something like a port.
PORTED = ("icmp", "tcp", "udp", "33", "47", "ipv6-icmp", "132", "136")
OTHERS = "meta l4proto != { 1, 6, 17, 33, 47, 58, 132, 136 } ct original protocol != 255"

IPSETS = """\
create good hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0xb576c9b9
add good 10.0.0.2
add good 10.0.0.1
add good 10.0.0.9
create good6 hash:ip family inet6 hashsize 1024 maxelem 65536
add good6 fd00::1
create nets hash:net family inet hashsize 1024 maxelem 65536 comment
add nets 10.0.0.0/8 comment "the office; } drop"
add nets 10.1.0.0/16
add nets 192.0.2.1
create service hash:ip,port family inet hashsize 1024 maxelem 65536
add service 10.0.0.1,tcp:80
add service 10.0.0.1,udp:53
create netport hash:net,port family inet hashsize 1024 maxelem 65536
add netport 10.0.0.0/8,tcp:80
add netport 11.0.0.0/8,tcp:80
create macs hash:mac hashsize 1024 maxelem 65536
add macs AA:BB:CC:DD:EE:FF
create high bitmap:port range 1-1000
add high 80
add high 81
create pair hash:net,net family inet hashsize 1024 maxelem 65536
add pair 10.0.0.0/8,172.20.0.0/24
create range bitmap:ip range 10.0.0.0-10.0.0.255
add range 10.0.0.7
create triple hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add triple 10.0.0.1,tcp:80,10.0.0.2
create empty hash:net family inet hashsize 1024 maxelem 65536
create odd;{ hash:ip family inet hashsize 1024 maxelem 65536
add odd;{ 10.0.0.1
"""

#: Family, the rule's matches, and the alternatives that they are in nft.
MATCHES: list[tuple[int, str, tuple[str, ...]]] = [
    (4, "", ("",)),
    (4, "-i eth0 -o docker0", ('iifname "eth0" oifname "docker0"',)),
    (4, "! -i eth+ ! -o br-+", ('iifname != "eth*" oifname != "br-*"',)),
    (4, "-i +", ("",)),
    (4, "! -i +", ()),
    (4, "-i e'x;}{#*", ('iifname "e\'x;}{#\\*"',)),
    (4, "-s 10.0.0.1/32 -d 172.20.0.0/16", ("ip saddr 10.0.0.1 ip daddr 172.20.0.0/16",)),
    (4, "! -s 10.0.0.0/8 ! -d 1.2.3.4/32", ("ip saddr != 10.0.0.0/8 ip daddr != 1.2.3.4",)),
    (4, "-s 10.0.5.0/255.0.255.0", ("ip saddr & 255.0.255.0 == 10.0.5.0",)),
    (4, "! -d 10.0.5.0/255.0.255.0", ("ip daddr & 255.0.255.0 != 10.0.5.0",)),
    (4, "-s 10.0.0.0/255.255.0.0", ("ip saddr 10.0.0.0/16",)),
    (4, "! -s 0.0.0.0/0", ()),
    (6, "! -s 2001:db8::/64 -d fd00::1/128", ("ip6 saddr != 2001:db8::/64 ip6 daddr fd00::1",)),
    (6, "-s 2001::/ffff:0:ffff::", ("ip6 saddr & ffff:0:ffff:: == 2001::",)),
    (4, "-p tcp", ("meta l4proto tcp",)),
    (4, "! -p udp", ("meta l4proto != udp",)),
    (4, "-p ospf", ("meta l4proto 89",)),
    (4, "! -p 255", ("meta l4proto != 255",)),
    (4, "-p 0", ("",)),
    (6, "-p ipv6-icmp", ("meta l4proto ipv6-icmp",)),
    (4, "-f", ("ip frag-off & 0x1fff != 0x0",)),
    (4, "! -f -p tcp", ("ip frag-off & 0x1fff == 0x0 meta l4proto tcp",)),
    (4, "-p tcp -m tcp", ("meta l4proto tcp tcp sport 0-65535",)),
    (4, "-p tcp -m tcp --sport 1024:65535 ! --dport 80", ("meta l4proto tcp tcp sport 1024-65535 tcp dport != 80",)),
    (4, "-p udp -m udp ! --dport 53:54", ("meta l4proto udp udp dport != 53-54",)),
    (4, "-p sctp -m sctp --dport 5", ("meta l4proto 132 sctp dport 5",)),
    (4, "-p dccp -m dccp --sport 5", ("meta l4proto 33 dccp sport 5",)),
    (4, "-p udplite -m udplite --sport 5", ("meta l4proto 136 udplite sport 5",)),
    (4, "-p tcp -m multiport --dports 443,80,81", ("meta l4proto tcp tcp dport { 80-81, 443 }",)),
    (4, "-p tcp -m multiport ! --sports 10:20,15:30", ("meta l4proto tcp tcp sport != 10-30",)),
    (
        4,
        "-p udp -m multiport --ports 5,7",
        ("meta l4proto udp udp sport { 5, 7 }", "meta l4proto udp udp sport != { 5, 7 } udp dport { 5, 7 }"),
    ),
    # nft 1.0.6 would make one comparison of two single ports.
    (4, "-p udp -m multiport ! --ports 5", ("meta l4proto udp udp sport != 5 udp dport != 5-5",)),
    (4, "-p udp -m multiport ! --ports 5,7", ("meta l4proto udp udp sport != { 5, 7 } udp dport != { 5, 7 }",)),
    (
        4,
        "-p tcp -m tcp ! --dport 81 -m mark --mark 0x1 -m multiport ! --sports 80",
        ("meta l4proto tcp tcp dport != 81-81 meta mark 0x1 tcp sport != 80",),
    ),
    (
        4,
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        ("meta l4proto tcp tcp flags & (fin | syn | rst | ack) == syn",),
    ),
    (
        4,
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE",
        ("meta l4proto tcp tcp flags & (fin | syn | rst | psh | ack | urg) != 0x0",),
    ),
    (4, "-p tcp -m tcp --tcp-flags SYN SYN", ("meta l4proto tcp tcp flags & syn == syn",)),
    (4, "-p icmp -m icmp --icmp-type 8", ("meta l4proto icmp icmp type 8",)),
    (4, "-p icmp -m icmp ! --icmp-type 8", ("meta l4proto icmp icmp type != 8",)),
    (4, "-p icmp -m icmp --icmp-type 3/4", ("meta l4proto icmp icmp type 3 icmp code 4",)),
    (4, "-p icmp -m icmp ! --icmp-type 3/4", ("meta l4proto icmp icmp type . icmp code != { 3 . 4 }",)),
    (4, "-p icmp -m icmp --icmp-type any", ("meta l4proto icmp icmp type 0-255",)),
    (6, "-p ipv6-icmp -m icmp6 --icmpv6-type 128", ("meta l4proto ipv6-icmp icmpv6 type 128",)),
    (
        6,
        "-p ipv6-icmp -m icmp6 ! --icmpv6-type 1/4",
        ("meta l4proto ipv6-icmp icmpv6 type . icmpv6 code != { 1 . 4 }",),
    ),
    (4, "-m iprange --src-range 10.0.0.1-10.0.0.9", ("ip saddr 10.0.0.1-10.0.0.9",)),
    (
        4,
        "-m iprange ! --src-range 10.0.0.1-10.0.0.9 --dst-range 1.1.1.1-1.1.1.1",
        ("ip saddr != 10.0.0.1-10.0.0.9 ip daddr 1.1.1.1",),
    ),
    (6, "-m iprange ! --dst-range fd00::1-fd00::5", ("ip6 daddr != fd00::1-fd00::5",)),
    (4, "-m conntrack --ctstate RELATED,ESTABLISHED", ("ct state established,related",)),
    (4, "-m conntrack ! --ctstate NEW", ("ct state established,related,invalid,untracked",)),
    (4, "-m state --state NEW", ("ct state new",)),
    (4, "-m state ! --state INVALID", ("ct state new,established,related,untracked",)),
    (4, "-m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED", ("",)),
    (4, "-m conntrack --ctstate DNAT", ("ct state new,established,related ct status & dnat != 0x0",)),
    (
        4,
        "-m conntrack --ctstate NEW,DNAT",
        ("ct state new", "ct state established,related ct status & dnat != 0x0"),
    ),
    (
        4,
        "-m conntrack ! --ctstate NEW,SNAT,DNAT",
        ("ct state established,related ct status & (snat | dnat) == 0x0", "ct state invalid,untracked"),
    ),
    # Where there is no connection iptables asks for the state alone.
    (
        4,
        "-m conntrack --ctstate INVALID,NEW --ctdir ORIGINAL",
        ("ct state new ct direction original", "ct state invalid"),
    ),
    (4, "-m conntrack --ctstate NEW --ctdir REPLY", ("ct state new ct direction reply",)),
    (
        4,
        "-p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL",
        ("meta l4proto tcp ct original proto-dst 8080 ct direction original",),
    ),
    (
        4,
        "-m conntrack --ctorigdstport 8080",
        tuple(f"meta l4proto {each} ct original proto-dst 8080" for each in PORTED),
    ),
    (
        4,
        "-m conntrack ! --ctorigdstport 8080:8090 --ctreplsrcport 0:80",
        (
            *(f"meta l4proto {each} ct original proto-dst != 8080-8090 ct reply proto-src 0-80" for each in PORTED),
            OTHERS,
        ),
    ),
    (4, "-p icmp -m conntrack --ctreplsrcport 80", ("meta l4proto icmp ct reply proto-src 80",)),
    (4, "-p esp -m conntrack --ctorigdstport 80", ()),
    (4, "-p esp -m conntrack ! --ctorigdstport 80", ("meta l4proto 50 ct original protocol != 255",)),
    (
        4,
        "! -p tcp -m conntrack --ctrepldstport 0",
        (
            *(f"meta l4proto != tcp meta l4proto {each} ct reply proto-dst 0" for each in PORTED),
            f"meta l4proto != tcp {OTHERS}",
        ),
    ),
    (
        4,
        "-m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdst 198.51.100.12",
        ("ct original ip saddr 10.0.0.0/8 ct original ip daddr != 198.51.100.12",),
    ),
    (4, "-m conntrack --ctreplsrc 0.0.0.0/0", ("ct original protocol != 255",)),
    (
        6,
        "-m conntrack --ctorigdst fd00::/8 ! --ctrepldst fd00::1",
        ("ct original ip6 daddr fd00::/8 ct reply ip6 daddr != fd00::1",),
    ),
    (4, "-m conntrack --ctproto 6", ("ct original protocol tcp",)),
    (4, "-m conntrack ! --ctproto 47", ("ct original protocol != 47",)),
    (4, "-p tcp -m conntrack --ctproto 6", ("meta l4proto tcp ct original protocol != 255",)),
    (4, "-p tcp -m conntrack --ctproto 17", ()),
    (4, "-p tcp -m conntrack ! --ctproto 17", ("meta l4proto tcp ct original protocol != 255",)),
    (4, "-p icmp -m conntrack --ctproto 17", ("meta l4proto icmp ct original protocol udp",)),
    (4, "-m conntrack --ctstatus EXPECTED,ASSURED", ("ct status & (expected | assured) != 0x0",)),
    (4, "-m conntrack ! --ctstatus SEEN_REPLY", ("ct status & seen-reply == 0x0",)),
    (4, "-m conntrack --ctstatus NONE", ()),
    (4, "-m conntrack ! --ctstatus NONE", ("ct original protocol != 255",)),
    (
        4,
        "-p udp -m multiport --ports 5 -m limit --limit 5/min",
        (
            'meta l4proto udp udp sport 5 limit name "limit_1"',
            'meta l4proto udp udp sport != 5 udp dport 5 limit name "limit_1"',
        ),
    ),
    (4, "-m mark --mark 0x5", ("meta mark 0x5",)),
    (4, "-m mark ! --mark 0x5/0xff", ("meta mark & 0xff != 0x5",)),
    (4, "-m mark --mark 0x0/0xf0000000", ("meta mark & 0xf0000000 == 0x0",)),
    (4, "-m connmark ! --mark 0x1", ("ct mark != 0x1",)),
    (4, "-m connmark --mark 0x10000000/0x10000000", ("ct mark & 0x10000000 == 0x10000000",)),
    (4, "-m limit --limit 5/min", ("limit rate 5/minute burst 5 packets",)),
    (4, "-m limit --limit 10/sec --limit-burst 7", ("limit rate 10/second burst 7 packets",)),
    (4, "-m addrtype --dst-type LOCAL", ("fib daddr type local",)),
    (
        4,
        "-m addrtype --src-type UNICAST ! --dst-type LOCAL,BROADCAST",
        ("fib saddr type unicast fib daddr type != { local, broadcast }",),
    ),
    (4, "-m addrtype --src-type LOCAL --limit-iface-in", ("fib saddr . iif type local",)),
    (4, "-m addrtype --dst-type LOCAL --limit-iface-out", ("fib daddr . oif type local",)),
    (6, "-m addrtype ! --dst-type LOCAL", ("fib daddr type != local",)),
    (6, "-m addrtype --dst-type LOCAL --limit-iface-in", ("fib daddr . iif type local",)),
    (
        6,
        "-m addrtype --src-type UNICAST,LOCAL ! --dst-type MULTICAST,LOCAL",
        (
            "ip6 saddr != { ::, ::ffff:0.0.0.0/96, ff00::/8 } fib saddr type local ip6 daddr != ff00::/8",
            "ip6 saddr != { ::, ::ffff:0.0.0.0/96, ff00::/8 } fib saddr type local ip6 daddr ff00::/8 fib daddr type != local",
        ),
    ),
    (
        6,
        "-m addrtype --src-type UNICAST ! --dst-type MULTICAST",
        ("ip6 saddr != { ::, ::ffff:0.0.0.0/96, ff00::/8 } ip6 daddr != ff00::/8",),
    ),
    (
        6,
        "-m addrtype ! --src-type UNICAST --dst-type UNSPEC --limit-iface-out",
        ("ip6 saddr { ::, ::ffff:0.0.0.0/96, ff00::/8 } ip6 daddr ::",),
    ),
    (4, "-m mac ! --mac-source AA:bb:cc:dd:ee:0f", ("ether saddr != aa:bb:cc:dd:ee:0f",)),
    (4, "-m pkttype ! --pkt-type broadcast", ("meta pkttype != broadcast",)),
    (4, "-m pkttype --pkt-type unicast", ("meta pkttype host",)),
    (4, "-m length --length 100:65535", ("ip length 100-65535",)),
    (6, "-m length ! --length 20:100", ("ip6 length != 0-60",)),
    (4, "-m tos --tos 0x10/0x3f", ("ip dscp { 0x4, 0x14, 0x24, 0x34 } ip ecn 0x0",)),
    (4, "-m tos --tos 0xb8/0xfc", ("ip dscp 0x2e",)),
    (6, "-m tos ! --tos 0x11/0xff", ("ip6 dscp != 0x4", "ip6 dscp 0x4 ip6 ecn != 0x1")),
    (4, "-m tos ! --tos 0x01/0x01", ("ip ecn != { 0x1, 0x3 }",)),
    (4, "-m tos --tos 0x10/0x0f", ()),
    (4, "-m tos --tos 0x00/0x00", ("",)),
    (4, "-m tos ! --tos 0x00/0x00", ()),
    (4, "-m dscp ! --dscp 0x0a", ("ip dscp != 0xa",)),
    (6, "-m dscp --dscp 0x2e", ("ip6 dscp 0x2e",)),
    (4, "-m ttl --ttl-lt 5", ("ip ttl < 5",)),
    (4, "-m ttl ! --ttl-eq 5", ("ip ttl != 5",)),
    (6, "-m hl --hl-gt 4", ("ip6 hoplimit > 4",)),
    (4, "-m set --match-set good src", ("ip saddr @ipset_1",)),
    (4, "-m set ! --match-set nets dst", ("ip daddr != @ipset_1",)),
    (
        4,
        "-m set ! --match-set good src -m set --match-set service dst,dst",
        ("ip saddr != @ipset_1 ip daddr . meta l4proto . th dport @ipset_2",),
    ),
    (4, "-m set --match-set netport src,dst", ("ip saddr . meta l4proto . th dport @ipset_1",)),
    (4, "-m set --match-set macs src", ("ether saddr @ipset_1",)),
    (4, "-p tcp -m set --match-set high dst", ("meta l4proto tcp th dport @ipset_1",)),
    (4, "-p icmp -m set --match-set high dst", ()),
    (4, "-p udp -m udp -m set ! --match-set high dst", ("meta l4proto udp udp sport 0-65535 th dport != @ipset_1",)),
    (4, "-p sctp -m sctp -m set ! --match-set high dst", ("meta l4proto 132 sctp sport 0-65535",)),
    (
        4,
        "-p tcp -m tcp -m set ! --match-set service src,dst",
        ("meta l4proto tcp tcp sport 0-65535 ip saddr . meta l4proto . th dport != @ipset_1",),
    ),
    (4, "-m set --match-set high src", ("meta l4proto { 6, 17 } th sport @ipset_1",)),
    (4, "-m set ! --match-set pair src,dst", ("ip saddr . ip daddr != @ipset_1",)),
    (4, "-m set --match-set range src", ("ip saddr @ipset_1",)),
    (
        4,
        "-m set --match-set triple src,dst,dst",
        ("ip saddr . meta l4proto . th dport . ip daddr @ipset_1",),
    ),
    (4, "-m set --match-set empty src,dst", ("ip saddr @ipset_1",)),
    (6, "-m set --match-set good6 src", ("ip6 saddr @ipset_1",)),
    (6, "-m set --match-set high dst", ("meta l4proto { 6, 17 } th dport @ipset_1",)),
    (4, "-m set --match-set odd;{ src", ("ip saddr @ipset_1",)),
]

#: Family, what follows the matches, and the statements that it is in nft.
TARGETS: list[tuple[int, str, str]] = [
    (4, "-j DROP", "counter drop"),
    (4, "-m comment --comment x -j RETURN", 'counter return comment "x"'),
    (4, "-j ACCEPT", f"counter {ACCEPT}"),
    (4, "-m comment --comment only", 'counter comment "only"'),
    (4, "-j REJECT --reject-with icmp-port-unreachable", "counter reject with icmp type port-unreachable"),
    (4, "-j REJECT --reject-with icmp-net-unreachable", "counter reject with icmp type net-unreachable"),
    (4, "-j REJECT --reject-with icmp-host-unreachable", "counter reject with icmp type host-unreachable"),
    (4, "-j REJECT --reject-with icmp-proto-unreachable", "counter reject with icmp type prot-unreachable"),
    (4, "-j REJECT --reject-with icmp-net-prohibited", "counter reject with icmp type net-prohibited"),
    (4, "-j REJECT --reject-with icmp-host-prohibited", "counter reject with icmp type host-prohibited"),
    (4, "-j REJECT --reject-with icmp-admin-prohibited", "counter reject with icmp type admin-prohibited"),
    (4, "-j REJECT", "counter reject with icmp type port-unreachable"),
    (4, "-p tcp -j REJECT --reject-with tcp-reset", "meta l4proto tcp counter reject with tcp reset"),
    (
        4,
        "-p tcp -m set --match-set high dst -j REJECT --reject-with tcp-reset",
        "meta l4proto tcp th dport @ipset_1 counter reject with tcp reset",
    ),
    (
        4,
        "-p tcp -m conntrack --ctproto 6 --ctorigdstport 80 -j REJECT --reject-with tcp-reset",
        "meta l4proto tcp ct original proto-dst 80 ct original protocol != 255 counter reject with tcp reset",
    ),
    (6, "-p tcp -j REJECT --reject-with tcp-reset", "meta l4proto tcp counter reject with tcp reset"),
    (6, "-j REJECT --reject-with icmp6-no-route", "counter reject with icmpv6 type no-route"),
    (6, "-j REJECT --reject-with icmp6-adm-prohibited", "counter reject with icmpv6 type admin-prohibited"),
    (6, "-j REJECT --reject-with icmp6-addr-unreachable", "counter reject with icmpv6 type addr-unreachable"),
    (6, "-j REJECT", "counter reject with icmpv6 type port-unreachable"),
    (6, "-j REJECT --reject-with icmp6-policy-fail", "counter reject with icmpv6 type policy-fail"),
    (6, "-j REJECT --reject-with icmp6-reject-route", "counter reject with icmpv6 type reject-route"),
    (4, "-j LOG", "counter log"),
    (
        4,
        '-j LOG --log-prefix "a\\\'b: \\\\" --log-level 7 --log-tcp-sequence --log-tcp-options --log-ip-options'
        " --log-uid --log-macdecode",
        'counter log prefix "a\'b: \\" level debug flags tcp sequence flags tcp options flags ip options flags skuid'
        " flags ether",
    ),
    (4, "-j NFLOG", "counter log group 0"),
    (
        4,
        "-j NFLOG --nflog-prefix xy --nflog-group 5 --nflog-size 64 --nflog-threshold 3",
        'counter log prefix "xy" group 5 snaplen 64 queue-threshold 3',
    ),
    (4, "-j MARK --set-xmark 0x5/0xffffffff", "counter meta mark set 0x5"),
    (4, "-j MARK --set-xmark 0x5/0x7", "counter meta mark set meta mark & 0xfffffff8 | 0x5"),
    (4, "-j MARK --set-xmark 0x0/0xfffffffa", "counter meta mark set meta mark & 0x5"),
    (4, "-j MARK --set-xmark 0x5/0x0", "counter meta mark set meta mark ^ 0x5"),
    (4, "-j MARK --set-xmark 0x6/0x3", "counter meta mark set meta mark & 0xfffffffc ^ 0x6"),
    (4, "-j CONNMARK --set-xmark 0x5/0x7", "counter ct mark set ct mark & 0xfffffff8 | 0x5"),
    (4, "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", "counter ct mark set meta mark"),
    (
        4,
        "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "counter meta mark set ct mark & 0xefffffff",
    ),
]

#: Family, rule, and a part of the reason why it cannot be translated.
REFUSED: list[tuple[int, str, str]] = [
    (4, "-m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP", "match hashlimit"),
    (4, "-m recent --rcheck --seconds 5 --name DEFAULT --rsource -j DROP", "match recent"),
    (4, '-m string --string "-j ACCEPT" --algo bm -j DROP', "match string"),
    (4, '-m u32 --u32 "0x0=0x1" -j DROP', "match u32"),
    (4, "-m bpf --bytecode 1 -j DROP", "match bpf"),
    (4, "-m time --timestart 10:00:00 -j DROP", "match time"),
    (4, "-m owner --uid-owner 0 -j DROP", "match owner"),
    (4, "-m statistic --mode random --probability 0.5 -j DROP", "match statistic"),
    (4, "-m connlimit --connlimit-above 5 -j DROP", "match connlimit"),
    (4, "-m physdev --physdev-in x -j DROP", "match physdev"),
    (4, "-m conntrack --ctexpire 5:10 -j DROP", "option --ctexpire of the match conntrack"),
    (4, "-m conntrack --ctstate LOST -j DROP", "not a state"),
    (4, "-m conntrack --ctstatus DYING -j DROP", "the status DYING"),
    (4, "-p sctp -m sctp --dport 5 --chunk-types any DATA -j DROP", "option --chunk-types"),
    (4, "-m tcp --dport 5 -j DROP", "needs the protocol"),
    (4, "! -p tcp -m multiport --dports 5 -j DROP", "needs the protocol"),
    (4, "-p tcp -m tcp --dport 70000 -j DROP", "out of range"),
    (4, "-p tcp -m tcp --dport 9:5 -j DROP", "behind its end"),
    (4, "-p tcp -m tcp --dport", "nothing behind --dport"),
    (4, "-p weird -j DROP", "weird is not a number"),
    (4, "-s 10.0.0.0/40 -j DROP", "not an address"),
    (4, "-s fd00::1/128 -j DROP", "not an address of IPv4"),
    (6, "-s 10.0.0.1/32 -j DROP", "not an address of IPv6"),
    (4, "-i back\\slash -j DROP", "cannot write the interface"),
    (6, "-m addrtype --dst-type ANYCAST -j DROP", "only LOCAL, MULTICAST, UNICAST and UNSPEC"),
    (4, "-m addrtype --dst-type THROW -j DROP", "type THROW"),
    (4, "-m set --match-set gone src -j DROP", "is not there"),
    (4, "-m set --match-set good6 src -j DROP", "family inet6"),
    (4, "-m set --match-set service src -j DROP", "needs 2"),
    (4, "-m set ! --match-set service src,dst -j DROP", "with -m tcp or -m udp in the rule"),
    (4, "-m set ! --match-set macs src -j DROP", "no mac"),
    (4, "-m set --match-set macs dst -j DROP", "sent to"),
    (4, "-m set --match-set good src --return-nomatch -j DROP", "--return-nomatch"),
    (4, "-m mark --mark 0x10000000/0x10000000 -j ACCEPT", "choose another accept mark"),
    (4, "-j MARK --set-xmark 0x10000005/0xffffffff", "choose another accept mark"),
    (4, "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff", "single bits"),
    (4, "-j REJECT --reject-with tcp-reset", "needs -p tcp"),
    (4, "! -p tcp -j REJECT --reject-with tcp-reset", "needs -p tcp"),
    (6, "-j REJECT --reject-with icmp-port-unreachable", "no answer of IPv6"),
    (4, '-j LOG --log-prefix "it\'s $x"', "cannot write the prefix"),
    (4, '-j LOG --log-prefix "a\\"b"', "cannot write the prefix"),
    (4, "-j NFQUEUE --queue-num 2", "target NFQUEUE"),
    (4, "-j SET --add-set good src", "target SET"),
    (4, "-p tcp -j TCPMSS --clamp-mss-to-pmtu", "target TCPMSS"),
    (4, "-j DOCKER", "chain of Docker's"),
    (4, "-j NOWHERE", "target NOWHERE"),
    (4, "--frobnicate -j DROP", "option --frobnicate"),
]


def save(
    *rules: str, forward: tuple[str, ...] = ("-j DOCKER-USER", "-j DOCKER-FORWARD"), policy: str = "ACCEPT"
) -> str:
    """What iptables-save prints of rules of DOCKER-USER; one that begins with a colon belongs to another chain."""
    spelled = [rule if rule.startswith("-A ") else f"-A DOCKER-USER {rule}".rstrip() for rule in rules]
    names = {"DOCKER-USER", "DOCKER", "DOCKER-FORWARD", *(rule.split()[1] for rule in spelled)}
    return "\n".join(
        [
            "*filter",
            ":INPUT ACCEPT [0:0]",
            f":FORWARD {policy} [0:0]",
            ":OUTPUT ACCEPT [0:0]",
            *(f":{name} - [0:0]" for name in sorted(names - {"FORWARD", "INPUT"})),
            *(f"-A FORWARD {rule}" for rule in forward),
            *spelled,
            "COMMIT",
            "",
        ]
    )


def translated(family: int, *rules: str) -> Translation:
    """Translate rules of one family."""
    text = save(*rules)
    return translate(text if family == 4 else "", text if family == 6 else "", parse_ipsets(IPSETS), MARK)
