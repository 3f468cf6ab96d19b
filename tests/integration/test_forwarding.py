# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forwarding against a real kernel and a real router advertisement, in namespaces made for each test.

The host of a test is a process in a network namespace of its own, with an /etc/sysctl.d of its own; its router is a
second such process. The role runs in the first as it would on a host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

SENDER = Path(__file__).with_name("router_advertisement.py")
COLLECTION = Path(__file__).parents[2]
SYSCTL_FILE = "/etc/sysctl.d/60-bulkhead-forwarding.conf"
SYSTEMD_SYSCTL = "/lib/systemd/systemd-sysctl"
NETWORK_PREFIX = "2001:db8:77:0:"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


class Room:
    """A network and a mount namespace, kept alive by one sleeping process."""

    def __init__(self) -> None:
        script = (
            "mount --make-rprivate / && mount -t tmpfs none /etc/sysctl.d && "
            "ip link set lo up && echo ready && exec sleep 600"
        )
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid
        for kind in ("net", "mnt"):
            assert os.readlink(f"/proc/{self.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")

    def run(self, *argv: str, check: bool = True, **options: t.Any) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", *argv]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
        if check and result.returncode:
            raise AssertionError(f"{argv} ended with {result.returncode}: {result.stdout}{result.stderr}")
        return result

    def get(self, key: str) -> str:
        return self.run("cat", f"/proc/sys/net/{key}").stdout.strip()

    def put(self, key: str, value: str) -> None:
        self.run("tee", f"/proc/sys/net/{key}", input=value)

    def default_routes(self) -> list[dict[str, t.Any]]:
        return json.loads(self.run("ip", "-j", "-6", "route", "show", "default").stdout or "[]")

    def slaac_lifetime(self, interface: str) -> int | None:
        """Seconds the announced address is still valid, None without one."""
        shown = json.loads(self.run("ip", "-j", "-6", "addr", "show", "dev", interface, "scope", "global").stdout)
        for entry in shown:
            for address in entry.get("addr_info", []):
                if address.get("local", "").startswith(NETWORK_PREFIX) and address.get("dynamic"):
                    return int(address["valid_life_time"])
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Lan:
    """A router that announces a prefix, and a host on the same wire."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.router = Room()
        self.host = Room()
        self.wire()
        self.link_up()

    def wire(self) -> None:
        self.router.run(
            *("ip", "link", "add", "r0", "type", "veth", "peer", "name", self.interface, "netns", str(self.host.pid))
        )
        self.router.put("ipv6/conf/r0/accept_dad", "0")
        self.host.put(f"ipv6/conf/{self.interface}/accept_dad", "0")

    def link_up(self) -> None:
        self.router.run("ip", "link", "set", "r0", "up")
        self.host.run("ip", "link", "set", self.interface, "up")
        wait(lambda: "fe80" in self.router.run("ip", "-6", "route", "show", "dev", "r0").stdout)
        wait(lambda: "fe80" in self.host.run("ip", "-6", "addr", "show", "dev", self.interface).stdout)

    def announce(self, router_lifetime: int = 1800, prefix_lifetime: int = 9000) -> None:
        self.router.run(
            *(sys.executable, str(SENDER), "r0", NETWORK_PREFIX + ":/64", str(router_lifetime), str(prefix_lifetime))
        )

    def autoconfigured(self) -> bool:
        return bool(self.host.default_routes()) and self.host.slaac_lifetime(self.interface) is not None

    def close(self) -> None:
        self.host.close()
        self.router.close()


def wait(condition: t.Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


@pytest.fixture(params=["eth0", "eth0.10"])
def lan(request: pytest.FixtureRequest) -> t.Iterator[Lan]:
    wired = Lan(request.param)
    try:
        # The first advertisement may meet a link that is just coming up.
        end = time.monotonic() + 5
        while not wired.autoconfigured():
            assert time.monotonic() < end, "the host took no router advertisement"
            wired.announce()
            time.sleep(0.2)
        yield wired
    finally:
        wired.close()


@pytest.fixture
def role(lan: Lan, tmp_path: Path) -> t.Callable[..., dict[str, t.Any]]:
    """Run the role in the host's namespaces; gives the play's counts and what it printed."""
    tree = tmp_path / "collections/ansible_collections/bulkhead"
    tree.mkdir(parents=True)
    (tree / "docker_nftables").symlink_to(COLLECTION)
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.include_role: {name: bulkhead.docker_nftables.forwarding}\n"
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_NOCOLOR": "1",
    }

    def call(*arguments: str, expect: int = 0, **variables: object) -> dict[str, t.Any]:
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        # The interpreter that a target would use: the module must need nothing but Python.
        extra = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3", **variables}
        command = [program, "-i", "host,", "-e", json.dumps(extra), *arguments, str(playbook)]
        result = lan.host.run(*command, check=False, env=environment)
        text = result.stdout + result.stderr
        assert result.returncode == expect, text
        recap = [line for line in text.splitlines() if line.startswith("host ")][-1]
        return {"changed": int(recap.split("changed=")[1].split()[0]), "text": text}

    return call


def test_the_kernel_drops_the_default_route_without_accept_ra_2(lan: Lan) -> None:
    """What the role is there for. If this fails the kernel has changed, and docs/adr/0003 with it."""
    lan.host.put("ipv6/conf/all/forwarding", "1")
    assert lan.host.default_routes() == []
    lan.announce(prefix_lifetime=20000)
    time.sleep(0.5)
    assert lan.host.default_routes() == [], "an advertisement brought the route back"
    left = lan.host.slaac_lifetime(lan.interface)
    assert left is not None and left <= 9000, "the address is there and is no longer renewed"

    # Too late: the value alone brings nothing back, the next advertisement does.
    lan.host.put(f"ipv6/conf/{lan.interface}/accept_ra", "2")
    time.sleep(0.5)
    assert lan.host.default_routes() == []
    lan.announce()
    wait(lambda: lan.host.default_routes() != [])


def test_accept_ra_of_all_and_default_does_not_help_an_interface_that_is_there(lan: Lan) -> None:
    lan.host.put("ipv6/conf/all/accept_ra", "2")
    lan.host.put("ipv6/conf/default/accept_ra", "2")
    lan.host.put("ipv6/conf/all/forwarding", "1")
    assert lan.host.default_routes() == []


def test_the_role_keeps_route_and_address_and_they_are_renewed(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    lost: list[str] = []
    watch = subprocess.Popen(
        ["nsenter", f"--target={lan.host.pid}", "--net", "--", "ip", "-6", "monitor", "route", "address"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert role("--check", "--diff", forwarding_ipv6=True)["changed"] == 1
        assert lan.host.get("ipv6/conf/all/forwarding") == "0"
        assert lan.host.run("ls", "/etc/sysctl.d").stdout == ""

        assert role(forwarding_ipv6=True)["changed"] == 1
        assert lan.host.get("ipv4/ip_forward") == "1"
        assert lan.host.get("ipv6/conf/all/forwarding") == "1"
        assert lan.host.get("ipv6/conf/default/forwarding") == "1"
        assert lan.host.get(f"ipv6/conf/{lan.interface}/accept_ra") == "2"
        assert lan.host.get("ipv6/conf/default/accept_ra") == "1", "new interfaces must not take advertisements"
        assert lan.autoconfigured()

        lan.announce(router_lifetime=5000, prefix_lifetime=20000)
        wait(lambda: (lan.host.slaac_lifetime(lan.interface) or 0) > 9000)
        assert lan.host.default_routes()[0]["expires"] > 1800
    finally:
        watch.terminate()
        lost = [line for line in watch.communicate()[0].splitlines() if line.startswith("Deleted")]
    assert [line for line in lost if "default" in line or NETWORK_PREFIX in line] == []

    assert role(forwarding_ipv6=True)["changed"] == 0
    assert role("--check", forwarding_ipv6=True)["changed"] == 0
    assert role()["changed"] == 0, "auto takes over what is on"


def test_what_comes_back_after_a_boot(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    """The file, applied as at boot to a kernel that knows nothing, before the link comes up."""
    assert os.path.exists(SYSTEMD_SYSCTL), "every Debian with systemd has it"
    role(forwarding_ipv6=True)
    text = lan.host.run("cat", SYSCTL_FILE).stdout
    assert lan.host.run("stat", "-c", "%a %U", SYSCTL_FILE).stdout == "644 root\n"

    booted = Lan.__new__(Lan)
    booted.interface, booted.router, booted.host = lan.interface, Room(), Room()
    try:
        booted.host.run("tee", SYSCTL_FILE, input=text)
        # systemd-sysctl runs before the interface is there, then udev runs it again for this interface alone.
        booted.host.run(SYSTEMD_SYSCTL, "--prefix=/net")
        assert booted.host.get("ipv6/conf/all/forwarding") == "1"
        booted.wire()
        assert booted.host.get(f"ipv6/conf/{lan.interface}/accept_ra") == "1"
        booted.host.run(SYSTEMD_SYSCTL, f"--prefix=/net/ipv6/conf/{lan.interface}")
        assert booted.host.get(f"ipv6/conf/{lan.interface}/accept_ra") == "2"
        booted.link_up()
        booted.announce()
        wait(booted.autoconfigured)
        assert booted.host.get("ipv4/ip_forward") == "1"
    finally:
        booted.close()


def test_an_interface_that_somebody_closed_to_routers_stays_closed(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    lan.host.put(f"ipv6/conf/{lan.interface}/accept_ra", "0")
    role(forwarding_ipv6=True)
    assert lan.host.get(f"ipv6/conf/{lan.interface}/accept_ra") == "0"
    assert "accept_ra =" not in "".join(
        line for line in lan.host.run("cat", SYSCTL_FILE).stdout.splitlines() if not line.startswith("#")
    )


def test_a_read_only_proc_is_one_sentence_and_no_half_state(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    lan.host.run("mount", "--bind", "/proc/sys/net/ipv6/conf/all/forwarding", "/proc/sys/net/ipv6/conf/all/forwarding")
    lan.host.run("mount", "-o", "remount,ro,bind", "/proc/sys/net/ipv6/conf/all/forwarding")
    text = role(expect=2, forwarding_ipv6=True)["text"]
    assert "Cannot set net.ipv6.conf.all.forwarding to 1: " in text and "read-only" in text
    assert "Traceback" not in text
    assert lan.host.get("ipv4/ip_forward") == "0"
    assert lan.host.get(f"ipv6/conf/{lan.interface}/accept_ra") == "1"
    assert lan.host.run("ls", "-A", "/etc/sysctl.d").stdout == ""
    assert lan.autoconfigured()


def test_absent_removes_the_file_and_leaves_the_kernel(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    role(forwarding_ipv6=True)
    assert role(forwarding_state="absent")["changed"] == 1
    assert lan.host.run("ls", "-A", "/etc/sysctl.d").stdout == ""
    assert lan.host.get("ipv4/ip_forward") == "1" and lan.autoconfigured()
    assert role(forwarding_state="absent")["changed"] == 0


def test_a_later_file_is_warned_of(lan: Lan, role: t.Callable[..., t.Any]) -> None:
    lan.host.run("tee", "/etc/sysctl.d/99-hardening.conf", input="# no routing\nnet.ipv4.ip_forward = 0\n")
    text = " ".join(role()["text"].split())
    assert "/etc/sysctl.d/99-hardening.conf:2 sets net.ipv4.ip_forward = 0" in text
