# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_read import Chain, Ruleset, Table
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_iptables import LegacyRules
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._state_services import (
    FIREWALLS,
    Unit,
    commands,
    describe_services,
    parse_units,
    read_units,
    service_flushes,
    starting,
)
from ansible_collections.bulkhead.docker_nftables.tests.unit.fakes import Call, FakeRunner

SHOW = [
    "systemctl",
    "show",
    "--property=LoadState,ActiveState,UnitFileState,ExecStartPre,ExecStart,ExecStartPost,ExecReload,ExecStop,ExecStopPost",
    *(f"{name}.service" for name in (*FIREWALLS, "docker")),
]
REST = "ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
NOWHERE = "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"
DOCKER = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"


def exec_line(key: str, argv: str) -> str:
    return f"{key}={{ path={argv.split()[0]} ; argv[]={argv} ; {REST}\n"


DEBIAN = (
    exec_line("ExecStart", "/usr/sbin/nft -f /etc/nftables.conf")
    + exec_line("ExecReload", "/usr/sbin/nft -f /etc/nftables.conf")
    + exec_line("ExecStop", "/usr/sbin/nft flush ruleset")
)
RED_HAT = (
    exec_line("ExecStart", "/sbin/nft -f /etc/sysconfig/nftables.conf")
    + exec_line("ExecReload", '/sbin/nft flush ruleset; include "/etc/sysconfig/nftables.conf";')
    + exec_line("ExecStop", "/sbin/nft flush ruleset")
)
HARMLESS = exec_line("ExecStart", "/usr/sbin/nft -f /etc/nftables.conf") + exec_line(
    "ExecReload", "/usr/sbin/nft -f /etc/nftables.conf"
)


def unit(commands_: str, load: str = "loaded", active: str = "inactive", file: str = "disabled") -> str:
    return f"{commands_}LoadState={load}\nActiveState={active}\nUnitFileState={file}\n"


def shown(**blocks: str) -> str:
    names = [name.replace("-", "_") for name in FIREWALLS]
    return "\n".join([*(blocks.get(name, NOWHERE) for name in names), blocks.get("docker", DOCKER)])


def parsed(printed: str) -> dict[str, Unit]:
    return parse_units(printed, (*FIREWALLS, "docker"))


def nftables(printed: str) -> Unit:
    return parsed(shown(nftables=printed))["nftables"]


def described(root: Path, printed: str, ruleset: Ruleset | None = None, legacy: LegacyRules | None = None) -> dict:
    return describe_services(parsed(printed), ruleset or Ruleset(), legacy or LegacyRules(), str(root))


def test_all_units_are_asked_for_at_once() -> None:
    runner = FakeRunner([Call(SHOW, stdout=shown(nftables=unit(DEBIAN)))])
    units = read_units(runner)
    runner.done()
    assert list(units) == [*FIREWALLS, "docker"]
    assert commands(units["nftables"], "ExecStop") == ["/usr/sbin/nft flush ruleset"]
    assert commands(units["firewalld"], "ExecStop") == []


def test_a_host_without_systemd_says_so_with_null(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/nftables.service").touch()
    for runner in (FakeRunner([], missing=("systemctl",)), FakeRunner([Call(SHOW, rc=1, stderr="not been booted")])):
        found = describe_services(read_units(runner), Ruleset(), LegacyRules(), str(tmp_path))
        assert found["nftables"] == {"installed": True, "active": None, "enabled": None, "masked": None}
        assert found["firewalld"]["installed"] is False
        assert found["ufw"] == {"installed": False, "active": False, "enabled": None, "masked": None}


@pytest.mark.parametrize("printed", ["", "LoadState=loaded\n", "garbage", shown() + "\n\nLoadState=loaded\n"])
def test_an_answer_of_another_shape_is_no_answer(printed: str) -> None:
    assert parsed(printed) == {}


def test_states(tmp_path: Path) -> None:
    found = described(
        tmp_path,
        shown(
            firewalld=unit("", active="active", file="enabled"),
            nftables=unit(DEBIAN),
            netfilter_persistent=unit("", load="masked", file="masked"),
            iptables=unit("", active="reloading", file="enabled-runtime"),
            ip6tables=unit("", active="failed", file="static"),
        ),
    )
    assert found["firewalld"] == {"installed": True, "active": True, "enabled": True, "masked": False}
    assert found["nftables"] == {"installed": True, "active": False, "enabled": False, "masked": False}
    assert found["netfilter-persistent"] == {"installed": False, "active": False, "enabled": False, "masked": True}
    assert found["iptables"] == {"installed": True, "active": True, "enabled": True, "masked": False}
    assert found["ip6tables"] == {"installed": True, "active": False, "enabled": False, "masked": False}
    assert found["ufw"] == {"installed": False, "active": False, "enabled": False, "masked": False}


def test_a_masked_unit_that_is_there_is_installed(tmp_path: Path) -> None:
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    (tmp_path / "lib/systemd/system/firewalld.service").touch()
    found = described(tmp_path, shown(firewalld=unit("", load="masked", file="masked")))
    assert found["firewalld"] == {"installed": True, "active": False, "enabled": False, "masked": True}


UFW = unit("", active="active", file="enabled")
CHAINS = Ruleset((Table("ip", "filter", chains=(Chain("ufw-before-input", 1),)),))


@pytest.mark.parametrize(
    ("conf", "ruleset", "legacy", "active", "enabled"),
    [
        ("# conf\nENABLED=yes\n", CHAINS, LegacyRules(), True, True),
        ('ENABLED="yes"\n', CHAINS, LegacyRules(), True, True),
        ("ENABLED=no\n", CHAINS, LegacyRules(), False, False),
        ("#ENABLED=yes\n", CHAINS, LegacyRules(), False, False),
        ("ENABLED=yes\n", Ruleset(), LegacyRules(), False, True),
        ("ENABLED=yes\n", Ruleset(), LegacyRules(("-t filter -A INPUT -j ufw-before-input",)), True, True),
        ("ENABLED=yes\n", Ruleset(), LegacyRules(None), False, True),
        (None, CHAINS, LegacyRules(), False, False),
    ],
)
def test_ufw_is_on_when_its_file_and_its_chains_say_so(
    tmp_path: Path, conf: str | None, ruleset: Ruleset, legacy: LegacyRules, active: bool, enabled: bool
) -> None:
    (tmp_path / "etc/ufw").mkdir(parents=True)
    if conf is not None:
        (tmp_path / "etc/ufw/ufw.conf").write_text(conf)
    found = described(tmp_path, shown(ufw=UFW), ruleset, legacy)["ufw"]
    assert found == {"installed": True, "active": active, "enabled": enabled, "masked": False}


@pytest.mark.parametrize(
    ("state", "expected"), [("active", False), ("activating", True), ("reloading", True), ("inactive", False)]
)
def test_a_docker_that_is_just_starting(state: str, expected: bool) -> None:
    assert starting(parsed(shown(docker=f"LoadState=loaded\nActiveState={state}\n"))["docker"]) is expected
    assert not starting({})


# -- flushing ----------------------------------------------------------------------------------------------------------

FLUSHING = "#!/usr/sbin/nft -f\nflush ruleset\n"
PLAIN = "table inet t\n"


def finding(root: Path, printed: str, conf: str, docker: bool = True) -> str | None:
    for path in ("etc/nftables.conf", "etc/sysconfig/nftables.conf"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(conf)
    found = list(service_flushes(nftables(printed), docker, str(root)))
    assert all((each.code, each.severity) == ("NFTABLES_SERVICE_FLUSHES", "warning") for each in found)
    return found[0].text if found else None


def test_a_service_that_is_never_started_flushes_nothing(tmp_path: Path) -> None:
    assert finding(tmp_path, unit(DEBIAN), FLUSHING) is None
    assert finding(tmp_path, unit(DEBIAN, file="masked"), FLUSHING) is None


def test_without_docker_it_is_nobodys_business(tmp_path: Path) -> None:
    assert finding(tmp_path, unit(DEBIAN, file="enabled", active="active"), FLUSHING, docker=False) is None


def test_debian_flushes_at_a_stop_and_with_its_file(tmp_path: Path) -> None:
    text = finding(tmp_path, unit(DEBIAN, file="enabled"), FLUSHING)
    assert text is not None and text.startswith("nftables.service is enabled, and")
    assert "its start loads /etc/nftables.conf, where flush ruleset stands" in text
    assert "its reload loads /etc/nftables.conf" in text
    assert "its stop runs flush ruleset" in text
    assert finding(tmp_path, unit(DEBIAN, active="active"), PLAIN) == (
        "nftables.service is active, and it empties the ruleset of everybody: its stop runs flush ruleset. Docker does "
        "not notice: its rules stay away until it is restarted."
    )


def test_red_hat_flushes_at_a_reload_whatever_the_file_says(tmp_path: Path) -> None:
    text = finding(tmp_path, unit(RED_HAT, file="enabled", active="active"), PLAIN)
    assert text is not None and "is enabled and active" in text
    assert "its reload runs flush ruleset; its stop runs flush ruleset" in text


def test_a_drop_in_makes_it_harmless(tmp_path: Path) -> None:
    assert finding(tmp_path, unit(HARMLESS, file="enabled", active="active"), PLAIN) is None
    # A file with a flush makes it harmful again.
    assert finding(tmp_path, unit(HARMLESS, file="enabled"), FLUSHING) is not None


def test_a_stop_that_loads_a_file_with_a_flush(tmp_path: Path) -> None:
    (tmp_path / "etc/bulkhead").mkdir(parents=True)
    (tmp_path / "etc/bulkhead/flush.conf").write_text('flush ruleset\ninclude "/etc/bulkhead/tables/*.nft"\n')
    stop = exec_line("ExecStop", "/usr/sbin/nft -f /etc/bulkhead/flush.conf")
    text = finding(tmp_path, unit(HARMLESS + stop, file="enabled"), PLAIN)
    assert text is not None and "its stop loads /etc/bulkhead/flush.conf, where flush ruleset stands" in text


def test_no_unit_at_all(tmp_path: Path) -> None:
    assert list(service_flushes({}, True, str(tmp_path))) == []
