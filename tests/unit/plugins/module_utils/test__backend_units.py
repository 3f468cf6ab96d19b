# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units in /run, and the commands of the way back."""

from __future__ import annotations

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_units as units
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_iptables import user_chain
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_way import Former, Way, guard
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import parse_save

UNIT = """# /usr/lib/systemd/system/docker.service
[Unit]
ExecStart=/not/this
[Service]
Type=notify
# ExecStart=/nor/this
EnvironmentFile=-/etc/default/docker
ExecStart=/usr/sbin/dockerd -H fd:// \\
   $DOCKER_OPTS
ExecReload=/bin/kill -s HUP $MAINPID
"""
SAVED = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -s 192.0.2.1/32 -j DROP
COMMIT
"""


def test_the_command_is_taken_as_it_was_written() -> None:
    assert units.exec_start(UNIT) == "/usr/sbin/dockerd -H fd://  $DOCKER_OPTS"


def test_a_drop_in_replaces_the_command() -> None:
    text = (
        UNIT
        + "\n# /etc/systemd/system/docker.service.d/a.conf\n[Service]\nExecStart=\nExecStart=-/opt/dockerd --x %H\n"
    )
    assert units.exec_start(text) == "-/opt/dockerd --x %H"


@pytest.mark.parametrize("text", ["", "[Service]\nType=notify\n", UNIT + "[Service]\nExecStart=/second\n"])
def test_a_unit_without_one_command_is_refused(text: str) -> None:
    with pytest.raises(units.UnitError, match="one is needed"):
        units.exec_start(text)


def test_the_file_in_run_is_read_last() -> None:
    assert units.drop_in("/usr/sbin/dockerd $OPTS").splitlines()[-2:] == [
        "ExecStart=",
        f"ExecStart=/usr/sbin/dockerd $OPTS --config-file {units.CONFIG}",
    ]


def test_no_word_of_a_command_means_anything_to_systemd() -> None:
    text = units.revert_unit([["/bin/x", "plain", "a b", '%h$x"\\', ""]])
    assert 'ExecStart=-/bin/x plain "a b" "%%h$$x\\"\\\\" ""' in text.splitlines()


def find(name: str) -> str:
    return f"/bin/{name}"


def user() -> dict[str, object]:
    return {"ip": user_chain(parse_save(SAVED))}


def programs(former: Former, restart: bool = True, lent: bool = False) -> list[str]:
    way = Way(find, former, restart, lent).make()
    for command in way.commands:
        for word in command:
            if word.startswith(units.DIRECTORY) and word != units.CONFIG:
                assert word.rpartition("/")[2] in way.files
    return [" ".join(word.rpartition("/")[2] for word in command) for command in way.commands]


def test_back_to_iptables_the_rules_are_there_before_docker_is() -> None:
    former = Former(
        "iptables",
        {},
        "/etc/docker/daemon.json",
        user(),
        "delete table inet x",
        (("a.b", "0"),),
        published=(("0.0.0.0", "tcp", 80), ("::", "tcp", 80), ("0.0.0.0", "udp", 53)),
    )
    assert programs(former, lent=True) == [
        "iptables-restore --noflush chains.ip",
        "nft -f guard.nft",
        "cp --remove-destination former.json daemon.json",
        "systemctl daemon-reload",
        "systemctl reset-failed docker.service",
        "systemctl restart docker.service",
        "iptables-restore --noflush policy.ip",
        "nft -f table.nft",
        "sysctl -w a.b=0",
        "nft -f unguard.nft",
        "cp --remove-destination former-off.json daemon.json",
        "systemctl reload docker.service",
        "sleep 3",
        "ln -sfn daemon.json daemon.json",
        "rm -f zz-bulkhead-backend.conf",
        "systemctl daemon-reload",
    ]


def test_back_to_nftables_the_table_is_there_before_docker_is() -> None:
    sysctls = (("a.b", "1"),)
    former = Former("nftables", {}, "/etc/docker/daemon.json", user(), "table inet x {}", sysctls, running=("abc",))
    found = programs(former)
    assert found.index("sysctl -w a.b=1") < found.index("systemctl restart docker.service")
    assert found[0] == "nft -f table.nft"
    assert found.index("systemctl restart docker.service") < found.index("iptables-restore --noflush no-jump.ip")
    assert "docker start abc" in found
    assert "ip6tables-restore --noflush no-chains.ip6" in found


def test_without_a_restart_docker_has_its_jump() -> None:
    former = Former("iptables", {}, "/etc/docker/daemon.json", user(), "x")
    assert programs(former, restart=False) == [
        "iptables-restore --noflush chains.ip",
        "iptables-restore --noflush policy.ip",
        "nft -f table.nft",
    ]


def test_what_was_only_cleaned_away_comes_back_with_its_jump() -> None:
    former = Former("nftables", {}, "/etc/docker/daemon.json", user(), "x")
    assert programs(former, restart=False) == [
        "iptables-restore --noflush chains.ip",
        "iptables-restore --noflush jumps.ip",
        "iptables-restore --noflush policy.ip",
        "nft -f table.nft",
    ]


def test_a_forward_that_dropped_for_others_goes_on_dropping() -> None:
    found = programs(Former("nftables", {}, "/d", user(), "x", dropping=("ip6",)))
    assert "iptables-restore --noflush no-policy.ip" in found
    assert "ip6tables-restore --noflush no-policy.ip6" not in found
    assert "ip6tables-restore --noflush no-jump.ip6" in found


def test_the_backend_is_said_even_where_the_file_did_not() -> None:
    way = Way(find, Former("iptables", {"icc": True}, "/d", {}, ""), True, True).make()
    assert (
        way.files["former.json"] == '{\n  "icc": true,\n  "firewall-backend": "iptables",\n  "live-restore": true\n}\n'
    )
    assert '"live-restore": false' in way.files["former-off.json"]


def test_a_program_that_is_missing_is_left_out() -> None:
    former = Former("iptables", {}, "/d", user(), "x")
    way = Way(lambda name: None if name.startswith("ip") else f"/bin/{name}", former, True, False).make()
    assert not [command for command in way.commands if "restore" in command[0]]


def test_published_ports_are_guarded_on_the_input_path() -> None:
    text = guard([("0.0.0.0", "udp", 53), ("0.0.0.0", "tcp", 80), ("::", "tcp", 80)])
    assert "        meta l4proto . th dport { tcp . 80, udp . 53 } counter drop" in text
    assert guard([]) == ""


def test_a_port_published_on_one_address_is_guarded_there_alone() -> None:
    """sshd may have port 22 of all the others."""
    text = guard([("192.0.2.1", "tcp", 22), ("2001:db8::1", "tcp", 22)])
    assert "        ip daddr . meta l4proto . th dport { 192.0.2.1 . tcp . 22 } counter drop" in text
    assert "        ip6 daddr . meta l4proto . th dport { 2001:db8::1 . tcp . 22 } counter drop" in text
    assert "\n        meta l4proto" not in text
