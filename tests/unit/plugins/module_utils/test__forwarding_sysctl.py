# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _forwarding
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_record import Record, read
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._forwarding import (
    SYSCTL_FILE,
    Change,
    apply,
    leave_to_backend,
    plan_absent,
    plan_present,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._sysctl import SysctlError, SysctlTree

# Lines of /proc/net as kernel 6.18 prints them.
RA_DEFAULT_ROUTE = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000000467b7fffe55cba2 00000400 00000001 00000000 00450003     {}\n"
)
LINK_ROUTE = (
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     {}\n"
)
SLAAC_ADDRESS = "20010db8007700004409b7fffe946d51 02 40 00 00 {:>8}\n"
STATIC_ADDRESS = "20010db8007700000000000000000009 02 40 00 80 {:>8}\n"
LINK_ADDRESS = "fe800000000000004409b7fffe946d51 02 40 20 80 {:>8}\n"


class FakeHost:
    """A host's /proc and /etc in a directory, with the one thing the kernel does by itself."""

    def __init__(self, root: Path, interfaces: dict[str, str], forwarding: str = "0") -> None:
        self.root = root
        self.tree = WritingTree(str(root))
        self.put("/proc/sys/net/ipv4/ip_forward", forwarding)
        for name in ("all", "default", "lo", *interfaces):
            self.put(f"/proc/sys/net/ipv6/conf/{name}/forwarding", forwarding)
            self.put(f"/proc/sys/net/ipv6/conf/{name}/accept_ra", interfaces.get(name, "1"))
        self.put("/proc/net/ipv6_route", "")
        self.put("/proc/net/if_inet6", "")

    def put(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class WritingTree(SysctlTree):
    """Notes the order of writes; ``refuse`` fails like a read-only parameter."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.written: list[tuple[str, str]] = []
        self.refuse: tuple[str, str] | None = None

    def set(self, key: str, value: str) -> None:
        if (key, value) == self.refuse:
            raise SysctlError(f"Cannot set {key}")
        self.written.append((key, value))
        super().set(key, value)


def body(text: str | None) -> list[str]:
    return [line for line in (text or "").splitlines() if not line.startswith("#")]


def test_ipv4_only(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"})
    plan = plan_present(host.tree, ipv6="false")
    assert plan.live == [Change("net/ipv4/ip_forward", "0", "1")]
    assert body(plan.file_after) == ["net.ipv4.ip_forward = 1"]
    assert (plan.changed, plan.ipv6, plan.warnings) == (True, False, [])


def test_an_interface_with_a_router_listens_before_forwarding_goes_on(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "1", "eth1": "1"})
    host.put("/proc/net/ipv6_route", RA_DEFAULT_ROUTE.format("eth0") + LINK_ROUTE.format("eth1"))
    host.put("/proc/net/if_inet6", LINK_ADDRESS.format("eth1") + STATIC_ADDRESS.format("eth1"))
    apply(host.tree, plan_present(host.tree, ipv6="true"))
    assert host.tree.written == [
        ("net/ipv6/conf/eth0/accept_ra", "2"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/forwarding", "1"),
    ]
    assert body(host.tree.read(SYSCTL_FILE)) == [
        "-net.ipv6.conf.eth0.accept_ra = 2",
        "net.ipv4.ip_forward = 1",
        "net.ipv6.conf.all.forwarding = 1",
        "net.ipv6.conf.default.forwarding = 1",
    ]


def test_a_second_run_changes_nothing_and_a_lost_value_is_put_back(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"})
    host.put("/proc/net/if_inet6", SLAAC_ADDRESS.format("eth0"))
    apply(host.tree, plan_present(host.tree, ipv6="true"))
    assert not plan_present(host.tree, ipv6="true").changed

    host.put("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1")
    assert plan_present(host.tree, ipv6="true").live == [Change("net/ipv6/conf/eth0/accept_ra", "1", "2")]

    host.put("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2")
    host.tree.remove(SYSCTL_FILE)
    plan = plan_present(host.tree, ipv6="true")
    assert (plan.live, plan.file_changed) == ([], True)


def test_the_files_mode_counts(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    apply(host.tree, plan_present(host.tree))
    (tmp_path / SYSCTL_FILE.lstrip("/")).chmod(0o600)
    plan = plan_present(host.tree)
    assert plan.file_changed
    apply(host.tree, plan)
    assert not plan_present(host.tree).changed


def test_an_address_left_from_before_somebody_else_switched_forwarding_on_is_rescued(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"}, forwarding="1")
    host.put("/proc/net/if_inet6", SLAAC_ADDRESS.format("eth0"))
    assert plan_present(host.tree).live == [Change("net/ipv6/conf/eth0/accept_ra", "1", "2")]


@pytest.mark.parametrize("interface", ["docker0", "br-0123456789ab"])
def test_a_container_is_no_router(tmp_path: Path, interface: str) -> None:
    host = FakeHost(tmp_path, {interface: "1"})
    host.put("/proc/net/ipv6_route", RA_DEFAULT_ROUTE.format(interface))
    assert plan_present(host.tree, ipv6="true").ra_interfaces == []


def test_accept_ra_0_is_respected_and_leaves_the_file(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "0"})
    host.put("/proc/net/if_inet6", SLAAC_ADDRESS.format("eth0"))
    host.put(SYSCTL_FILE, "-net.ipv6.conf.eth0.accept_ra = 2\n")
    plan = plan_present(host.tree, ipv6="true")
    assert plan.ra_interfaces == []
    assert "accept_ra =" not in "".join(body(plan.file_after))


def test_a_named_interface_listens_even_if_its_router_is_silent(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"})
    plan = plan_present(host.tree, ipv6="true", accept_ra=["eth0", "wlan0"])
    assert plan.ra_interfaces == ["eth0", "wlan0"]
    assert plan.live[0] == Change("net/ipv6/conf/eth0/accept_ra", "1", "2")
    assert "-net.ipv6.conf.wlan0.accept_ra = 2" in body(plan.file_after)


def test_an_interface_that_is_away_keeps_its_line(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    host.put(SYSCTL_FILE, "-net/ipv6/conf/usb0.7/accept_ra = 2\n")
    plan = plan_present(host.tree, ipv6="true")
    assert body(plan.file_after)[0] == "-net/ipv6/conf/usb0.7/accept_ra = 2"


def test_a_name_the_file_cannot_hold_is_set_now_and_warned_of(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"we*rd": "1"})
    host.put("/proc/net/ipv6_route", RA_DEFAULT_ROUTE.format("we*rd"))
    plan = plan_present(host.tree, ipv6="true")
    assert plan.live[0] == Change("net/ipv6/conf/we*rd/accept_ra", "1", "2")
    assert "we*rd" not in (plan.file_after or "")
    assert len(plan.warnings) == 1 and "'we*rd'" in plan.warnings[0]


@pytest.mark.parametrize(
    ("addresses", "daemon_json", "forwarding", "expected"),
    [
        ("", None, "0", False),
        (STATIC_ADDRESS.format("eth0"), None, "0", False),
        (LINK_ADDRESS.format("docker0"), None, "0", False),
        (STATIC_ADDRESS.format("docker0"), None, "0", True),
        (STATIC_ADDRESS.format("br-0123456789ab"), None, "0", True),
        (STATIC_ADDRESS.format("br-lan"), None, "0", False),
        ("", {"ipv6": True}, "0", True),
        ("", {"ipv6": False}, "0", False),
        ("", "broken {", "0", False),
        ("", ["list"], "0", False),
        ("", None, "1", True),
    ],
)
def test_auto_finds_whether_docker_uses_ipv6(
    tmp_path: Path, addresses: str, daemon_json: object, forwarding: str, expected: bool
) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"}, forwarding)
    host.put("/proc/net/if_inet6", addresses)
    if daemon_json is not None:
        text = daemon_json if isinstance(daemon_json, str) else json.dumps(daemon_json)
        host.put("/etc/docker/daemon.json", text)
    assert plan_present(host.tree, ipv6="auto").ipv6 is expected


def test_a_kernel_without_ipv6(tmp_path: Path) -> None:
    tree = SysctlTree(str(tmp_path))
    target = tmp_path / "proc/sys/net/ipv4/ip_forward"
    target.parent.mkdir(parents=True)
    target.write_text("0\n")
    assert not plan_present(tree, ipv6="auto").ipv6
    with pytest.raises(SysctlError, match="^ipv6 is true, but the running kernel has no IPv6"):
        plan_present(tree, ipv6="true")


def test_a_later_file_is_named_with_its_line(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    host.put("/etc/sysctl.d/99-hardening.conf", "# CIS\nnet.ipv4.ip_forward = 0\n")
    plan = plan_present(host.tree)
    assert plan.warnings == [
        f"/etc/sysctl.d/99-hardening.conf:2 sets net.ipv4.ip_forward = 0 and is read after {SYSCTL_FILE}: "
        "at the next boot its value wins. Remove that line."
    ]


@pytest.mark.parametrize(
    "refused", [("net/ipv6/conf/all/forwarding", "1"), ("net/ipv4/ip_forward", "1")], ids=["ipv6", "ipv4"]
)
def test_a_failed_write_puts_everything_back(tmp_path: Path, refused: tuple[str, str]) -> None:
    host = FakeHost(tmp_path, {"eth0": "1"})
    host.put("/proc/net/if_inet6", SLAAC_ADDRESS.format("eth0"))
    plan = plan_present(host.tree, ipv6="true")
    host.tree.refuse = refused
    with pytest.raises(SysctlError):
        apply(host.tree, plan)
    assert all(host.tree.get(change.key) == change.before for change in plan.live)
    assert host.tree.read(SYSCTL_FILE) is None


def test_what_cannot_be_put_back_is_named(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    plan = plan_present(host.tree)
    host.put("/etc", "a file where the directory should be")
    host.tree.refuse = ("net/ipv4/ip_forward", "0")
    with pytest.raises(SysctlError, match=r"Could not be put back: net\.ipv4\.ip_forward = 1$"):
        apply(host.tree, plan)


def test_a_value_that_follows_another_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(tmp_path, {})
    plain = SysctlTree.set

    def kernel(tree: SysctlTree, key: str, value: str) -> None:
        plain(tree, key, value)
        if key == _forwarding.IPV6_ALL_FORWARD:
            plain(tree, _forwarding.IPV6_DEFAULT_FORWARD, value)

    monkeypatch.setattr(SysctlTree, "set", kernel)
    apply(host.tree, plan_present(host.tree, ipv6="true"))
    assert _forwarding.IPV6_DEFAULT_FORWARD not in [key for key, _value in host.tree.written]


def test_absent_removes_the_file_and_nothing_else(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    apply(host.tree, plan_present(host.tree))
    plan = plan_absent(host.tree)
    assert plan.changed and plan.live == []
    apply(host.tree, plan)
    assert not host.tree.exists(SYSCTL_FILE)
    assert host.tree.get("net/ipv4/ip_forward") == "1"
    assert not plan_absent(host.tree).changed


def test_the_file_stays_where_docker_does_not_start_without_it(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    apply(host.tree, plan_present(host.tree))
    assert leave_to_backend(host.tree, check_mode=False) is None
    (tmp_path / "etc/bulkhead").mkdir()
    (tmp_path / "etc/bulkhead/docker-backend.json").write_text(Record({"ip": "x"}).text())
    for check_mode, made in ((True, False), (False, True), (False, True)):
        plan = leave_to_backend(host.tree, check_mode)
        assert plan is not None and not plan.changed and "stays" in plan.warnings[0]
        assert read(str(tmp_path)) == Record({"ip": "x"}, made_sysctl_file=made)
    assert host.tree.exists(SYSCTL_FILE)


def test_a_record_that_cannot_be_read_removes_nothing(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {})
    (tmp_path / "etc/bulkhead").mkdir(parents=True)
    (tmp_path / "etc/bulkhead/docker-backend.json").write_text("{")
    with pytest.raises(SysctlError, match="was not removed"):
        leave_to_backend(host.tree, check_mode=False)
