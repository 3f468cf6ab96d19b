# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A daemon.json that Docker would not start with is refused, for the engine at hand, and the daemon never notices.

What `dockerd --validate` says of each, or a start where it says nothing, shows that the refusal is right.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, field

import pytest

from lab.ansible import PlaybookResult, run_playbook
from lab.host import Host

MODULE = "bulkhead.docker_nftables.docker_daemon_config"
CASES = "/root/cases"
DAEMON_JSON = "/etc/docker/daemon.json"
DEFAULTS = "/etc/default/docker"
#: What Debian's unit starts dockerd with, and what the test adds.
FLAGS = ["-H", "fd://", "--containerd=/run/containerd/containerd.sock", "--label=site=a"]

VALIDATE = """
import json, subprocess, sys
found = {}
for name, flags in json.load(sys.stdin).items():
    argv = ["dockerd", "--validate", "--config-file", "/root/cases/" + name + ".whole", *flags]
    found[name] = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Case:
    """A file, what a task wants in it, and what is said."""

    said: str
    settings: dict[str, t.Any] = field(default_factory=lambda: {"debug": True})
    file: str = "{}\n"
    #: Whether dockerd itself, where it can, finds that the file is wrong.
    validated: bool = True
    #: What a dockerd that was started with it would say, where it finds the file valid before.
    dies: str = ""
    below: tuple[int, ...] = ()


BROKEN = {
    "comment": Case("line 2, column 3: JSON has no comments", file='{\n  // why\n  "icc": true\n}\n'),
    "no value": Case("line 3, column 9: Expecting value", file='{\n  "mtu": 1400,\n  "ip": }\n'),
    "comma": Case("a comma with nothing behind it", file='{\n  "mtu": 1400,\n}\n'),
    "cut off": Case("the file ends here", file='{\n  "mtu": 1400'),
    "list": Case("an object with settings", file="[]\n"),
    "twice": Case("icc stands in one object twice", file='{"icc": true, "icc": true}\n', validated=False),
    "somebody's key": Case(r"iptabels in /root/.*: no engine.*did you mean iptables", file='{"iptabels": true}\n'),
    "somebody's number": Case(r"log-opts in /root/.*: .*texts", file='{"log-opts": {"max-file": 3}}\n'),
    "unknown": Case("settings.moat: no engine up to 29.7 knows this key", {"moat": True}),
    "flag's name": Case("settings.dns-opt: .* what it reads is dns-opts", {"dns-opt": ["ndots:1"]}, validated=False),
    "text": Case("settings.icc: the text 'false' is not accepted", {"icc": "false"}),
    "boolean": Case("settings.mtu: the boolean true is not accepted", {"mtu": True}),
    "quoted": Case("settings.mtu: the text '1400' is not accepted", {"mtu": "1400"}),
    "level": Case("settings.log-level: the text 'loud' is not accepted", {"log-level": "loud"}),
    "size": Case("settings.default-shm-size: the number 64 is not accepted", {"default-shm-size": 64}),
    "bip": Case("settings.bip: .*with its prefix length", {"bip": "172.30.0.1"}, validated=False),
    "family": Case("settings.fixed-cidr-v6: .*an IPv6 subnet", {"fixed-cidr-v6": "10.0.0.0/8"}),
    "dns": Case("settings.dns: .*a list of IP addresses", {"dns": "9.9.9.9"}),
    "pool": Case(
        "settings.default-address-pools: .*a list of objects",
        {"default-address-pools": [{"base": "10.0.0.0/16", "size": 99}]},
        validated=False,
    ),
    "option": Case(
        "settings.default-network-opts: (.*texts|Docker knows this key from 24.0 on)",
        {"default-network-opts": {"bridge": {"com.docker.network.bridge.enable_icc": True}}},
    ),
    "backend": Case("settings.firewall-backend: .*from 29.0 on", {"firewall-backend": "nftables"}, below=(29, 0)),
    "mark": Case("settings.bridge-accept-fwmark: .*from 29.0 on", {"bridge-accept-fwmark": "1"}, below=(29, 0)),
    "hosts": Case("settings.hosts: .*with -H fd://", {"hosts": ["unix:///run/other.sock"]}),
    "label": Case("settings.labels: .*the flag --label,", {"labels": ["site=b"]}),
    "equal": Case(
        "settings.containerd: .*even with equal values", {"containerd": "/run/containerd/containerd.sock"}
    ),
    "no rules": Case("settings.iptables: .*allow_iptables_false", {"iptables": False}, validated=False),
    "icc": Case(
        "settings.icc: .*icc false and iptables false",
        {"icc": False},
        '{"iptables": false}\n',
        validated=False,
        dies="--iptables=false with --icc=false",
    ),
    "bridge": Case(
        "settings.bip: bridge is 'none'",
        {"bip": "172.30.0.1/24"},
        '{"bridge": "none"}\n',
        validated=False,
        dies="-b & --bip, mutually exclusive",
    ),
    "ip6tables": Case(
        "settings.ip6tables: .*experimental mode only",
        {"ip6tables": True},
        validated=False,
        dies="only available if experimental",
        below=(27, 0),
    ),
}


def number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.fixture
def engine(lab_host: Host) -> tuple[int, ...]:
    return number(lab_host.run(["docker", "version", "--format", "{{.Server.Version}}"]).stdout)


@pytest.fixture
def daemon(lab_host: Host) -> t.Iterator[Host]:
    """The shared host, whose daemon.json and flags are put back."""
    assert lab_host.run(["test", "-e", DAEMON_JSON], check=False).returncode, "the shared host should have none"
    defaults = lab_host.run(["cat", DEFAULTS]).stdout
    try:
        yield lab_host
    finally:
        lab_host.write(DEFAULTS, defaults, 0o644)
        lab_host.run(["sh", "-c", f"rm -rf {CASES} {DAEMON_JSON} {DAEMON_JSON}.bulkhead-*"])


def play(host: Host, *tasks: dict[str, t.Any], **variables: t.Any) -> PlaybookResult:
    plays = [{"hosts": host.name, "gather_facts": False, "become": True, "tasks": list(tasks)}]
    return run_playbook(host.lab, plays, extra_vars=variables)


def state(host: Host) -> tuple[str, ...]:
    """Which dockerd runs and what it says of itself, without what counts up by itself."""
    info = json.loads(host.run(["docker", "info", "--format", "{{json .}}"]).stdout)
    for name in ("SystemTime", "NFd", "NGoroutines", "NEventsListener"):
        info.pop(name, None)
    files = host.run(["sh", "-c", f"cd {CASES} 2>/dev/null && sha256sum * || true"]).stdout
    return (host.run(["cat", "/run/docker.pid"]).stdout, json.dumps(info, sort_keys=True), files)


def merged(case: Case) -> str:
    """The file as the task wants it, where that is a file at all."""
    try:
        old = json.loads(case.file)
    except ValueError:
        return case.file
    return json.dumps({**old, **case.settings}) if isinstance(old, dict) and case.said.startswith("set") else case.file


def test_what_docker_would_not_start_with_is_refused_and_nothing_happens(daemon: Host, engine: tuple[int, ...]) -> None:
    cases = {name: case for name, case in BROKEN.items() if not case.below or engine < case.below}
    assert len(cases) >= 26
    daemon.run(["mkdir", "-p", CASES])
    daemon.write(DEFAULTS, 'DOCKER_OPTS="--label=site=a"\n', 0o644)
    for name, case in cases.items():
        daemon.write(f"{CASES}/{name}", case.file, 0o600)
        daemon.write(f"{CASES}/{name}.whole", merged(case), 0o600)
    before = state(daemon)
    task = {
        MODULE: {"path": f"{CASES}/{{{{ item.name }}}}", "settings": "{{ item.settings }}"},
        "loop": "{{ cases }}",
        "loop_control": {"label": "{{ item.name }}"},
        "ignore_errors": True,
    }
    listed = [{"name": name, "settings": case.settings} for name, case in cases.items()]
    (event,) = play(daemon, task, cases=listed).tasks(daemon.name)
    assert state(daemon) == before

    results = {item["item"]["name"]: item for item in event["result"]["results"]}
    assert list(results) == list(cases)
    for name, case in cases.items():
        assert results[name]["failed"], f"{name} was not refused"
        assert len(results[name]["errors"]) == 1, results[name]["errors"]
        assert re.search(case.said, results[name]["errors"][0]), (name, results[name]["errors"])
    if (28, 0) <= engine < (29, 0):
        assert "DOCKER_FIREWALL_BACKEND" in results["backend"]["msg"]


def test_dockerd_agrees_where_it_can_validate(daemon: Host, engine: tuple[int, ...]) -> None:
    if engine < (23, 0):
        pytest.skip(f"Docker {engine} has no dockerd --validate")
    cases = {name: case for name, case in BROKEN.items() if not case.below or engine < case.below}
    daemon.run(["mkdir", "-p", CASES])
    for name, case in cases.items():
        daemon.write(f"{CASES}/{name}.whole", merged(case), 0o600)
    order = json.dumps(dict.fromkeys(cases, FLAGS))
    found = json.loads(daemon.run(["python3", "-c", VALIDATE], input=order).stdout)
    assert {name: code != 0 for name, code in found.items()} == {name: case.validated for name, case in cases.items()}


def test_dockerd_dies_of_what_it_does_not_validate(daemon: Host, engine: tuple[int, ...]) -> None:
    """In a network of its own and far from the daemon that runs: it gets as far as its own settings."""
    daemon.run(["mkdir", "-p", CASES])
    for name, case in BROKEN.items():
        if not case.dies or (case.below and engine >= case.below):
            continue
        daemon.write(f"{CASES}/{name}.whole", merged(case), 0o600)
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        argv = ["timeout", "40", "unshare", "--net", "dockerd", "--config-file", f"{CASES}/{name}.whole"]
        argv += [f"--{flag}={CASES}/{place}" for flag, place in places.items()]
        argv += ["-H", f"unix://{CASES}/sock", "--containerd=/run/containerd/containerd.sock"]
        done = daemon.run(argv, check=False)
        assert done.returncode not in (0, 124), f"{name}: it did not end"
        assert case.dies in done.stderr, (name, done.stderr[-500:])


def test_a_change_is_merged_and_told_until_it_is_applied(daemon: Host) -> None:
    old = '{\n    "log-opts": {"tag": "x"},\n    "features": {}\n}\n'
    daemon.write(DAEMON_JSON, old, 0o640)
    pid = state(daemon)[0]
    change = {MODULE: {"settings": {"live-restore": True, "log-opts": {"max-file": "3"}}}}
    applied = {**change, "register": "said", "until": "'live-restore' not in said.pending | map(attribute='key')"}
    reload = {"ansible.builtin.command": {"argv": ["systemctl", "reload", "docker"]}}
    off = {MODULE: {"settings": {"live-restore": False}}}
    result = play(
        daemon,
        {**change, "check_mode": True},
        change,
        change,
        reload,
        {**applied, "retries": 20, "delay": 1},
        off,
        reload,
        {**applied, **off, "retries": 20, "delay": 1},
    )
    assert result.rc == 0, result.messages()
    said = [event["result"] for event in result.tasks(daemon.name) if event["status"] == "ok"]
    would, first, second, _reload, third, *_rest, last = said

    assert would["changed"] and first["changed"] and would["keys_changed"] == first["keys_changed"]
    needs = {each["key"]: each["needs"] for each in first["keys_changed"]}
    assert needs == {"log-opts": "restart", "live-restore": "reload"} and first["needs"] == "restart"
    copy = first["backup_file"]
    assert daemon.run(["cat", copy]).stdout == old
    assert daemon.run(["stat", "-c", "%a %U %n", copy, DAEMON_JSON]).stdout == f"600 root {copy}\n640 root {DAEMON_JSON}\n"
    assert (second["changed"], [each["key"] for each in second["pending"]], second["needs"]) == (
        False,
        ["live-restore"],
        "reload",
    )
    assert (third["changed"], third["needs"]) == (False, "nothing")
    assert last["needs"] == "nothing"
    assert json.loads(daemon.run(["cat", DAEMON_JSON]).stdout) == {
        "log-opts": {"tag": "x", "max-file": "3"},
        "features": {},
        "live-restore": False,
    }
    assert state(daemon)[0] == pid


def test_the_nftables_backend_of_a_real_docker_29(daemon: Host, engine: tuple[int, ...]) -> None:
    if engine < (29, 0):
        pytest.skip(f"needs Docker 29 or newer, LAB_DOCKERD=PATH puts one in place; this is {engine}")
    task = {MODULE: {"settings": {"firewall-backend": "nftables"}}, "check_mode": True}
    result = play(daemon, task)
    assert result.rc == 0, result.messages()
    assert result.tasks(daemon.name)[0]["result"]["needs"] == "restart"
