# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _daemon_keys as keys
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_values import ACCEPTED
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_read_daemon import FIREWALL_KEYS

DOCS = Path(__file__).parents[4] / "docs/docker_daemon.md"

# Every flag that `dockerd --help` of 20.10.24 lists and that daemon.json takes under its own name.
FLAGS_OF_20_10 = (
    "api-cors-header bip bridge cgroup-parent containerd containerd-namespace containerd-plugins-namespace cpu-rt-period "
    "cpu-rt-runtime cri-containerd data-root debug default-cgroupns-mode default-gateway default-gateway-v6 "
    "default-ipc-mode default-runtime default-shm-size experimental exec-root fixed-cidr fixed-cidr-v6 group "
    "host-gateway-ip icc init init-path ip ip-forward ip-masq ip6tables iptables ipv6 live-restore log-driver log-level "
    "max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu "
    "no-new-privileges oom-score-adjust pidfile raw-logs rootless seccomp-profile selinux-enabled shutdown-timeout "
    "storage-driver swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy "
    "userland-proxy-path userns-remap"
).split()


def test_every_key_has_a_kind_that_is_explained_and_a_need_that_is_known() -> None:
    for key in keys.KEYS.values():
        assert key.kind == "choice" or key.kind in ACCEPTED, key.name
        assert (key.kind == "choice") is bool(key.choices), key.name
        assert key.needs in keys.NEEDS, key.name


def test_all_of_docker_20_10_is_known_and_what_facts_read_too() -> None:
    assert [name for name in FLAGS_OF_20_10 if not keys.KEYS[name].known_to((20, 10, 24))] == []
    assert [name for name in FIREWALL_KEYS if name not in keys.KEYS] == []


@pytest.mark.parametrize(
    ("name", "before", "since"),
    [
        ("proxies", (20, 10, 24), (23, 0, 0)),
        ("default-network-opts", (23, 0, 6), (24, 0, 0)),
        ("bip6", (27, 5, 1), (28, 0, 0)),
        ("ip-forward-no-drop", (27, 5, 1), (28, 0, 0)),
        ("allow-direct-routing", (28, 1, 1), (28, 2, 0)),
        ("firewall-backend", (28, 5, 2), (29, 0, 0)),
        ("bridge-accept-fwmark", (28, 5, 2), (29, 0, 0)),
    ],
)
def test_a_key_is_known_from_its_version_on(name: str, before: tuple[int, ...], since: tuple[int, ...]) -> None:
    assert not keys.KEYS[name].known_to(before)
    assert keys.KEYS[name].known_to(since)
    assert keys.KEYS[name].known_to(()), "of an engine nobody knows, nothing is refused"


def test_a_key_that_went_away() -> None:
    assert keys.KEYS["oom-score-adjust"].known_to((20, 10, 24))
    assert not keys.KEYS["oom-score-adjust"].known_to((26, 1, 5))


def test_no_key_of_the_firewall_is_applied_by_a_reload() -> None:
    reloaded = {key.name for key in keys.KEYS.values() if key.needs == keys.RELOAD}
    assert reloaded & set(FIREWALL_KEYS) == {"live-restore"}


def test_default_bridge_settings_need_a_restart_without_containers() -> None:
    for name in ("bip", "fixed-cidr", "icc", "ip", "ip-masq", "mtu"):
        assert keys.KEYS[name].needs == keys.RESTART_EMPTY


def test_ip6tables_came_on_with_27() -> None:
    assert keys.KEYS["ip6tables"].default((26, 1, 5)) is False
    assert keys.KEYS["ip6tables"].default((27, 0, 1)) is True


def test_the_worst_need() -> None:
    assert keys.worst([]) == keys.NOTHING
    assert keys.worst([keys.RELOAD, keys.RESTART_EMPTY, keys.RESTART]) == keys.RESTART_EMPTY


@pytest.mark.parametrize(
    ("text", "number"),
    [("26.1.5+dfsg1", (26, 1, 5)), ("20.10.24+dfsg1", (20, 10, 24)), ("29.0", (29, 0)), ("dev", ()), (None, ())],
)
def test_version(text: str | None, number: tuple[int, ...]) -> None:
    assert keys.version(text) == number


def test_flags_get_the_names_of_the_file() -> None:
    line = "dockerd -H fd:// -Hunix:///x --host=tcp://y -Dl warn --label a=b --label=c=d --icc --iptables=false --dns 9.9.9.9"
    assert keys.flags_given([*line.split(), "--config-file", "/x", "-G", "docker", "--tlsverify"]) == {
        "hosts": ["fd://", "unix:///x", "tcp://y"],
        "debug": ["true"],
        "log-level": ["warn"],
        "labels": ["a=b", "c=d"],
        "icc": ["true"],
        "iptables": ["false"],
        "dns": ["9.9.9.9"],
        "config-file": ["/x"],
        "group": ["docker"],
        "tlsverify": ["true"],
    }


def test_a_switch_takes_no_next_word() -> None:
    assert keys.flags_given(["dockerd", "--icc", "false"]) == {"icc": ["true"]}


def test_names_of_flags_that_docker_misreads() -> None:
    assert keys.MISREAD["host"] == "hosts" and keys.MISREAD["insecure-registry"] == "insecure-registries"
    assert not set(keys.MISREAD) & set(keys.KEYS)


def test_the_table_of_the_documentation_is_this_one() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", DOCS.read_text(encoding="utf-8"), re.M)
    said = {name: (since.strip(), needs.strip()) for name, _kind, since, needs in rows}
    assert said == {key.name: (_times(key), key.needs.replace("_", " ")) for key in keys.KEYS.values()}


def _times(key: keys.Key) -> str:
    since = keys.spelled(key.since)
    return since if not key.until else f"before {keys.spelled(key.until)}"
