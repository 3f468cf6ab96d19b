# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module does to a host: the kernel is real (a network namespace), systemd and the disk are played."""

from __future__ import annotations

import functools
import json
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.filter.conf import conf_plan
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _conf_plan, _files
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._boot import BootError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compat import CompatError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._compile import HostState, compile_policy
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_apply import ConfApply, Request
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._conf_text import ConfTextError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import Layout, LayoutError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._nft_text import TextError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._revert import RevertError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import CommandError, Result, Runner
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._table import TableError
from ansible_collections.bulkhead.docker_nftables.tests.unit.nft_host import NftHost, needs_nft
from ansible_collections.bulkhead.docker_nftables.tests.unit.rendering import render, render_conf

pytestmark = needs_nft

CONF = b"#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n}\n"
SERVICE = "nftables.service"
FILTER, FILTER6 = ("ip", "filter"), ("ip6", "filter")
BIT = "0x10000000"
DOCKERS = """table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority 0; policy accept;
\t\ttcp dport 1 counter accept
\t}
\tchain DOCKER-USER {
\t\tcounter return
\t}
}
table ip nat {
\tchain DOCKER {
\t\tiifname "docker0" counter return
\t}
}
"""


@functools.lru_cache(maxsize=None)
def asked(layout: str = "iptables_compat", ports: tuple[int, ...] = (22,), **variables: t.Any) -> Request:
    """What the role asks the module for."""
    rules = [{"to": "host", "ports": list(ports)}]
    plan = conf_plan({"layout": layout, **variables}, {"rules": rules}, {})
    assert plan["errors"] == []
    found = Layout(**plan["layout"])
    ruleset = compile_policy(parse({"rules": rules}), HostState(networks={"web": "br-web"}), carry=_conf_plan.carry(found))
    return Request(render(ruleset), render_conf(plan), found)


@pytest.fixture
def host(tmp_path: Path) -> t.Iterator[NftHost]:
    with Runner().scratch_network():
        made = NftHost(tmp_path)
        (tmp_path / "etc/nftables.conf").write_bytes(CONF)
        yield made


def job(host: NftHost, path: str | None = None) -> ConfApply:
    return ConfApply(host, "bulkhead", path, str(host.root))


def settle(host: NftHost, request: Request | None = None) -> None:
    job(host).present(request or asked(), False, 0)
    host.events.clear()


def pending(host: NftHost, request: Request) -> str:
    outcome = job(host).present(request, False, 30)
    assert outcome.confirmation is not None and outcome.confirmation["seconds"] == 30
    return str(outcome.confirmation["token"])


def traces(host: NftHost) -> tuple[t.Any, ...]:
    """Everything that a change could leave behind."""
    modes = {name: (host.root / name).stat().st_mode for name in host.files() if (host.root / name).is_file()}
    return host.ruleset(), host.files(), modes, dict(host.states), set(host.started), set(host.enabled), dict(host.timers)


def fail_writes(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    real = _files.write

    def full(path: str, text: str, mode: int) -> None:
        if part in path:
            raise OSError(28, "No space left on device", path)
        real(path, text, mode)

    monkeypatch.setattr(_files, "write", full)


def fail_commands(host: NftHost, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    real = host.run

    def run(argv: list[str], *args: t.Any, **named: t.Any) -> Result:
        if argv[: len(words)] == list(words) and argv[-1] != "bulkhead.service":
            raise CommandError(argv, 1, "", "no")
        return real(argv, *args, **named)

    monkeypatch.setattr(host, "run", run)


# -- from nothing to settled ---------------------------------------------------------------------------------------


def test_the_own_table_alone(host: NftHost) -> None:
    outcome = job(host).present(asked("own_table"), False, 0)
    assert outcome.actions == [
        "create table inet bulkhead",
        "write /etc/bulkhead/flush.conf",
        "write /etc/bulkhead/layout.json",
        "write /etc/bulkhead/load.conf",
        "write /etc/bulkhead/tables/inet-bulkhead.nft",
        "write /etc/nftables.conf",
        "write /etc/systemd/system/bulkhead.service",
        "write /etc/systemd/system/nftables.service.d/bulkhead.conf",
        "write /etc/systemd/system/nftables.service.d/nftables_conf.conf",
        "enable bulkhead.service",
        "enable nftables.service",
        "start nftables.service",
    ]
    assert (host.root / "etc/nftables.conf").read_text() == asked("own_table").file
    assert host.states == {SERVICE: "enabled"} and host.started == {SERVICE} and host.enabled == {"bulkhead.service"}
    assert host.ruleset().startswith("table inet bulkhead {") and "table ip" not in host.ruleset()


def test_in_the_layout_of_iptables(host: NftHost) -> None:
    host.nft(DOCKERS)
    outcome = job(host).present(asked(), False, 0)
    assert [action for action in outcome.actions if "write" not in action] == [
        "create table inet bulkhead",
        "create chains in table ip filter; jump from INPUT to BULKHEAD-INPUT in table ip filter; jump from DOCKER-USER to"
        " BULKHEAD-DOCKER-USER in table ip filter; set the policy of chain INPUT in table ip filter to drop; replace chain"
        " BULKHEAD-INPUT in table ip filter; replace chain BULKHEAD-DOCKER-USER in table ip filter",
        "create chains in table ip nat",
        "create chains in table ip6 filter; jump from INPUT to BULKHEAD-INPUT in table ip6 filter; jump from DOCKER-USER to"
        " BULKHEAD-DOCKER-USER in table ip6 filter; set the policy of chain INPUT in table ip6 filter to drop; replace"
        " chain BULKHEAD-INPUT in table ip6 filter; replace chain BULKHEAD-DOCKER-USER in table ip6 filter",
        "create chains in table ip6 nat",
        "enable bulkhead.service",
        "enable nftables.service",
        "start nftables.service",
    ]
    chains = host.chains(*FILTER)
    assert chains["INPUT"].texts() == ["tcp dport 1 counter accept", "counter jump BULKHEAD-INPUT"]
    assert chains["DOCKER-USER"].texts() == ["counter jump BULKHEAD-DOCKER-USER", "counter return"]
    assert [f"meta mark & {BIT} == {BIT} counter drop" in chains["BULKHEAD-DOCKER-USER"].texts()[0]] == [True]
    assert 'iifname "docker0" counter return' in host.ruleset()
    assert (host.root / "etc/bulkhead/reload.conf").exists()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (host.root / "etc/bulkhead").iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}
    layout = json.loads((host.root / "etc/bulkhead/layout.json").read_text())
    assert layout == {
        "layout": "iptables_compat",
        "table": "bulkhead",
        "mark_bit": 0x10000000,
        "docker_bit": 0,
        "drops_input": False,
        "output": False,
        "policies": ["INPUT"],
        "enabled_service": True,
        "path": "/etc/nftables.conf",
        "mode": 0o644,
    }


@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_a_second_run_changes_nothing(host: NftHost, layout: str) -> None:
    settle(host, asked(layout))
    before = traces(host)
    for check in (True, False):
        outcome = job(host).present(asked(layout), check, 30)
        assert (outcome.changed, outcome.diff, outcome.confirmation, outcome.table_changed) == (False, [], None, False)
    assert "load" not in host.events and traces(host) == before


@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_check_mode_says_what_the_run_then_does_and_leaves_no_trace(host: NftHost, layout: str) -> None:
    host.nft(DOCKERS)
    before = traces(host)
    first = job(host)
    said = first.present(asked(layout), True, 30)
    assert traces(host) == before and not (host.root / "run/bulkhead").exists()
    second = job(host)
    done = second.present(asked(layout), False, 30)
    assert (said.actions, said.diff, said.table_changed) == (done.actions, done.diff, True)
    assert first.backup == second.backup == "/etc/nftables.conf.before-bulkhead" and said.confirmation is None


def test_a_file_that_differs_is_written_again_and_nothing_is_loaded(host: NftHost) -> None:
    settle(host)
    wanted = traces(host)
    (host.root / "etc/bulkhead/reload.conf").write_text("")
    (host.root / "etc/nftables.conf").chmod(0o644)
    outcome = job(host).present(asked(), False, 30)
    assert outcome.actions == ["write /etc/bulkhead/reload.conf", "write /etc/nftables.conf"]
    assert (outcome.table_changed, outcome.confirmation) == (False, None)
    assert traces(host) == wanted and "load" not in host.events


@pytest.mark.parametrize("lost", ["enabled", "started"])
def test_a_service_that_is_not_as_it_has_to_be(host: NftHost, lost: str) -> None:
    settle(host)
    wanted = traces(host)
    if lost == "enabled":
        host.states[SERVICE] = "disabled"
    else:
        host.started.clear()
    outcome = job(host).present(asked(), False, 30)
    assert outcome.actions == [f"{'enable' if lost == 'enabled' else 'start'} nftables.service"]
    assert traces(host) == wanted


def test_nothing_is_loaded_that_nft_would_refuse_later(host: NftHost) -> None:
    """An administrator's own file is not part of the change, but of what the service loads."""
    before = traces(host)
    missing = f"{host.root}/missing.nft"
    with pytest.raises(TableError, match="missing.nft"):
        job(host).present(asked(includes=(missing,)), False, 0)
    assert traces(host) == before and "load" not in host.events


# -- with a confirmation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["own_table", "iptables_compat"])
def test_confirmed(host: NftHost, layout: str) -> None:
    host.nft(DOCKERS)
    files = host.files()
    token = pending(host, asked(layout))
    assert host.files() == files and host.timers and host.states == {SERVICE: "disabled"}
    # Chains and jumps change no verdict and come first; their handles are what the way back knows them by.
    loads = [event for event in host.events if event in ("arm", "load")]
    assert loads == (["arm", "load"] if layout == "own_table" else ["load", "arm", "load"])
    first = job(host)
    outcome = first.confirm(asked(layout), token)
    assert outcome.actions == ["confirm table inet bulkhead and /etc/nftables.conf"]
    assert first.backup == "/etc/nftables.conf.before-bulkhead"
    assert not host.timers and host.states == {SERVICE: "enabled"} and host.started == {SERVICE}
    assert not list((host.root / "run/bulkhead").glob("*.*"))
    assert job(host).present(asked(layout), False, 30).changed is False


@pytest.mark.parametrize("settled", [False, True], ids=["the first time", "a changed policy"])
def test_not_confirmed_it_is_as_before(host: NftHost, settled: bool) -> None:
    host.nft(DOCKERS)
    if settled:
        settle(host)
    before, others = traces(host), host.chains(*FILTER)["DOCKER-USER"].rules
    token = pending(host, asked(ports=(22, 443), forward_policy="accept"))
    host.fire()
    with pytest.raises(RevertError, match="^the confirmation came too late: the host has put back the table it had"):
        job(host).confirm(asked(ports=(22, 443), forward_policy="accept"), token)
    assert host.chains(*FILTER)["DOCKER-USER"].rules == others
    if settled:
        assert traces(host) == before
        return
    assert traces(host)[1:] == before[1:]
    assert "bulkhead" not in host.ruleset().lower() and "policy drop" not in host.ruleset()


def test_what_somebody_changed_meanwhile_is_not_confirmed(host: NftHost) -> None:
    settle(host)
    before = traces(host)
    token = pending(host, asked(ports=(443,)))
    host.nft("flush chain ip filter BULKHEAD-INPUT\n")
    with pytest.raises(RevertError, match="^the table is not what was applied"):
        job(host).confirm(asked(ports=(443,)), token)
    assert traces(host) == before


def test_what_others_did_meanwhile_is_no_obstacle(host: NftHost) -> None:
    host.started.add(SERVICE)
    request = asked(tables="table inet mine {\n\tset s {\n\t\ttype ipv4_addr\n\t\tflags dynamic\n\t}\n}")
    token = pending(host, request)
    host.nft("add rule ip filter DOCKER-USER counter return\nadd chain ip filter DOCKER\n")
    host.nft("add element inet mine s { 192.0.2.1 }\n")
    job(host).confirm(request, token)
    assert job(host).present(request, False, 30).changed is False
    assert "192.0.2.1" in host.ruleset()


def test_put_back_at_once(host: NftHost) -> None:
    settle(host)
    before = traces(host)
    token = pending(host, asked(ports=(443,)))
    assert job(host).put_back(token).actions == ["put back table inet bulkhead and what goes with it"]
    assert traces(host) == before
    with pytest.raises(RevertError, match="it has already been reverted"):
        job(host).put_back(token)


@pytest.mark.parametrize("verb", ["confirm", "put_back"])
def test_a_wrong_token_changes_nothing(host: NftHost, verb: str) -> None:
    pending(host, asked())
    before = traces(host)
    with pytest.raises(RevertError, match="there is no apply with this confirmation on the host"):
        job(host).confirm(asked(), "0" * 32) if verb == "confirm" else job(host).put_back("0" * 32)
    assert traces(host) == before and host.timers


def test_a_second_apply_waits_for_the_first(host: NftHost) -> None:
    pending(host, asked())
    before = traces(host)
    with pytest.raises(RevertError, match="^an earlier apply still waits for its confirmation"):
        job(host).present(asked("own_table"), False, 0)
    assert traces(host) == before


# -- what fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 30])
@pytest.mark.parametrize("settled", [False, True], ids=["the first time", "a changed policy"])
def test_a_fill_that_the_kernel_refuses_leaves_nothing(host: NftHost, timeout: int, settled: bool) -> None:
    host.nft(DOCKERS)
    if settled:
        settle(host)
    before = traces(host)
    host.refused = "delete table inet bulkhead"
    with pytest.raises(TableError, match="nft refuses the ruleset"):
        job(host).present(asked(ports=(443,)), False, timeout)
    assert traces(host)[1:] == before[1:]
    assert not list((host.root / "run/bulkhead").glob("*.*"))
    assert "bulkhead" in host.ruleset().lower() if settled else "bulkhead" not in host.ruleset().lower()
    assert ("arm" in host.events) is bool(timeout)
    if settled:
        assert host.ruleset() == before[0]


@pytest.mark.parametrize("what", ["systemd-run", "pending", "revert.nft"])
def test_a_timer_that_cannot_be_armed_leaves_nothing(host: NftHost, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    host.nft(DOCKERS)
    before = traces(host)
    if what == "systemd-run":
        fail_commands(host, monkeypatch, "systemd-run")
    else:
        fail_writes(monkeypatch, what)
    with pytest.raises((CommandError, OSError)):
        job(host).present(asked(), False, 30)
    assert traces(host)[1:] == before[1:] and "bulkhead" not in host.ruleset().lower()
    assert not list((host.root / "run/bulkhead").glob("*.*"))


def _no_space(*_args: object) -> None:
    raise OSError(28, "No space left")


def test_what_was_applied_and_cannot_be_noted_is_undone(host: NftHost, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(host)
    before = traces(host)
    apply = job(host)
    monkeypatch.setattr(apply.revert, "applied", _no_space)
    with pytest.raises(OSError, match="No space left"):
        apply.present(asked(ports=(443,)), False, 30)
    assert traces(host) == before


PLACES = ["layout.json", "reload.conf", "nftables.conf", "nftables.conf.before-bulkhead", "tables", "nftables_conf.conf"]


@pytest.mark.parametrize("part", PLACES)
@pytest.mark.parametrize("timeout", [0, 30])
def test_what_cannot_be_written_does_not_stay_live(
    host: NftHost, monkeypatch: pytest.MonkeyPatch, part: str, timeout: int
) -> None:
    host.nft(DOCKERS)
    before = traces(host)
    token = pending(host, asked()) if timeout else ""
    fail_writes(monkeypatch, part)
    with pytest.raises(OSError, match="No space"):
        job(host).confirm(asked(), token) if timeout else job(host).present(asked(), False, 0)
    assert "bulkhead" not in host.ruleset().lower() and "policy drop" not in host.ruleset()
    assert host.files() == before[1] and traces(host)[2] == before[2] and not host.timers


@pytest.mark.parametrize("verb", ["enable", "start"])
@pytest.mark.parametrize("timeout", [0, 30])
def test_a_service_that_refuses_takes_back_the_disk_too(
    host: NftHost, monkeypatch: pytest.MonkeyPatch, verb: str, timeout: int
) -> None:
    settle(host, asked("own_table"))
    host.states[SERVICE] = "disabled"
    host.started.clear()
    before = traces(host)
    token = pending(host, asked()) if timeout else ""
    fail_commands(host, monkeypatch, "systemctl", verb)
    with pytest.raises(CommandError, match=f"systemctl {verb}"):
        job(host).confirm(asked(), token) if timeout else job(host).present(asked(), False, 0)
    assert host.files() == before[1] and traces(host)[2] == before[2]
    assert "BULKHEAD" not in host.ruleset() and "table inet bulkhead" in host.ruleset()
    ends = ["daemon-reload", "load", "load"] if timeout else ["daemon-reload", "load", "load", "disarm"]
    assert host.events[-len(ends) :] == ends


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            "masked",
            "nftables.service is masked, so nothing would load /etc/nftables.conf; systemctl unmask nftables.service takes"
            " that back",
        ),
        (
            "masked-runtime",
            "nftables.service is masked, so nothing would load /etc/nftables.conf; systemctl unmask nftables.service takes"
            " that back",
        ),
        ("not-found", "there is no nftables.service on this host, so nothing would load /etc/nftables.conf"),
        ("", "there is no nftables.service on this host, so nothing would load /etc/nftables.conf"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_service_that_cannot_load_the_file(host: NftHost, state: str, message: str, check: bool) -> None:
    host.states[SERVICE] = state
    before = traces(host)
    with pytest.raises(BootError) as caught:
        job(host).present(asked(), check, 30)
    assert str(caught.value) == message and traces(host) == before


def test_without_systemd(host: NftHost) -> None:
    os.rmdir(host.root / "run/systemd/system")
    with pytest.raises(BootError, match="^systemd does not run on this host"):
        job(host).present(asked(), False, 0)
    assert host.ruleset() == ""


@pytest.mark.parametrize(
    "path",
    ["nftables.conf", "systemd/system/bulkhead.service", "systemd/system/nftables.service.d/nftables_conf.conf"],
)
@pytest.mark.parametrize("timeout", [0, 30])
def test_a_link_to_a_device_is_never_replaced(host: NftHost, path: str, timeout: int) -> None:
    device = host.root / "null"
    # As /dev/null does, it ends whoever reads it at once.
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    link = host.root / "etc" / path
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(device)
    before = traces(host)
    with pytest.raises(BootError, match=f"^/etc/{path} leads to .*null, which is no regular file.*; nothing was changed"):
        job(host).present(asked(), False, timeout)
    assert traces(host) == before and device.is_char_device() and link.is_symlink()


@pytest.mark.parametrize("text", ["", "{", '{"layout": "iptables_compat"}', '{"layout": "own_table", "policies": 1}'])
def test_a_broken_layout_is_no_reason_to_change_anything(host: NftHost, text: str) -> None:
    settle(host)
    (host.root / "etc/bulkhead/layout.json").write_text(text)
    before = traces(host)
    with pytest.raises(LayoutError, match="^/etc/bulkhead/layout.json"):
        job(host)
    assert traces(host) == before


@pytest.mark.parametrize(
    ("content", "file", "error"),
    [
        ("flush ruleset\n", "", TextError),
        ("", "flush ruleset\n", ConfTextError),
        ("", "table ip filter {\n\tchain INPUT {\n\t\ttcp dport 1 accept\n\t}\n}\n", CompatError),
        ("", "table inet mine {\n\tchain c {\n\t\tnonsense\n\t}\n}\n", TableError),
    ],
)
def test_a_text_that_must_not_be_loaded_changes_nothing(host: NftHost, content: str, file: str, error: type) -> None:
    before = traces(host)
    request = Request(content + asked().content, asked().file + file, asked().layout)
    for check in (True, False):
        with pytest.raises(error):
            job(host).present(request, check, 30)
    assert traces(host) == before and "load" not in host.events


# -- the file that was there before --------------------------------------------------------------------------------


def test_somebodys_file_is_kept_once(host: NftHost) -> None:
    backup = host.root / "etc/nftables.conf.before-bulkhead"
    first = job(host)
    first.present(asked(), False, 0)
    assert first.backup == "/etc/nftables.conf.before-bulkhead"
    assert backup.read_bytes() == CONF and backup.stat().st_mode & 0o777 == 0o600
    second = job(host)
    second.present(asked(ports=(443,)), False, 0)
    assert second.backup is None and backup.read_bytes() == CONF
    (host.root / "etc/nftables.conf").write_text("# somebody's second file\n")
    third = job(host)
    third.present(asked(), False, 0)
    assert third.backup is None and backup.read_bytes() == CONF


def test_a_file_that_only_names_us_is_somebodys(host: NftHost) -> None:
    text = "#!/usr/sbin/nft -f\n# mine\n" + asked().file.splitlines()[1] + "\n"
    (host.root / "etc/nftables.conf").write_text(text)
    settle(host)
    assert (host.root / "etc/nftables.conf.before-bulkhead").read_text() == text


def test_a_host_without_the_file_has_no_backup(host: NftHost) -> None:
    (host.root / "etc/nftables.conf").unlink()
    first = job(host)
    first.present(asked(), False, 0)
    assert first.backup is None and not (host.root / "etc/nftables.conf.before-bulkhead").exists()
    job(host).absent(False)
    assert host.files() == {}


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        ("own_table", CONF.rstrip(b"\n")),
        ("own_table", b""),
        ("iptables_compat", CONF.replace(b"\n", b"\r\n")),
        ("iptables_compat", b"# \xff\xfe latin\n\n\n"),
    ],
)
def test_absent_leaves_nothing_and_every_byte_of_the_file_before(host: NftHost, layout: str, content: bytes) -> None:
    conf = host.root / "etc/nftables.conf"
    conf.write_bytes(content)
    conf.chmod(0o640)
    host.nft(DOCKERS)
    before, input_rules = traces(host), host.chains(*FILTER)["INPUT"]
    settle(host, asked(layout))
    outcome = job(host).absent(False)
    assert outcome.actions[0] == "delete table inet bulkhead" and outcome.table_changed
    assert traces(host)[1:] == before[1:]
    assert "bulkhead" not in host.ruleset().lower() and "policy drop" not in host.ruleset()
    assert host.chains(*FILTER)["INPUT"] == input_rules
    assert sorted(path.name for path in (host.root / "etc").rglob("*")) == ["nftables.conf", "system", "systemd"]
    assert not (host.root / "run/bulkhead").exists()
    assert job(host).absent(False).changed is False


def test_absent_in_check_mode(host: NftHost) -> None:
    settle(host)
    before = traces(host)
    said = job(host).absent(True)
    assert traces(host) == before
    done = job(host).absent(False)
    assert (said.actions, said.diff) == (done.actions, done.diff)
    shown = {item["before_header"]: item for item in said.diff}
    assert shown["/etc/nftables.conf"]["after"] == CONF.decode() and shown["/etc/bulkhead/layout.json"]["after"] == ""


@pytest.mark.parametrize(("state", "left"), [("disabled", "disabled"), ("enabled", "enabled")])
def test_the_service_starts_at_boot_only_if_it_did_before(host: NftHost, state: str, left: str) -> None:
    host.states[SERVICE] = state
    settle(host)
    settle(host, asked(ports=(443,)))
    assert host.states[SERVICE] == "enabled"
    job(host).absent(False)
    assert host.states[SERVICE] == left
    assert (SERVICE in host.started) is (left == "enabled")


def test_absent_on_a_host_whose_service_is_gone(host: NftHost) -> None:
    settle(host)
    host.states[SERVICE] = "not-found"
    host.events.clear()
    job(host).absent(False)
    assert not [event for event in host.events if event.startswith("disable nft")] and host.ruleset().count("policy drop") == 0


@pytest.mark.parametrize("settled", [False, True])
def test_absent_first_puts_back_what_waits_for_its_confirmation(host: NftHost, settled: bool) -> None:
    """The disk does not know the policies of an unconfirmed apply: without this, INPUT would go on dropping."""
    if settled:
        settle(host, asked("own_table"))
    pending(host, asked(forward_policy="drop"))
    assert host.ruleset().count("policy drop") == 4
    job(host).absent(True)
    assert host.timers
    job(host).absent(False)
    assert not host.timers and "policy drop" not in host.ruleset() and "bulkhead" not in host.ruleset().lower()
    assert host.files() == {"etc/nftables.conf": CONF}


def test_a_removal_that_the_kernel_refuses_can_be_done_again(host: NftHost) -> None:
    settle(host)
    before = traces(host)
    host.refused = "delete table inet bulkhead"
    with pytest.raises(TableError):
        job(host).absent(False)
    assert traces(host) == before
    host.refused = None
    job(host).absent(False)
    assert "policy drop" not in host.ruleset() and host.files() == {"etc/nftables.conf": CONF}


def test_a_jump_with_a_match_that_somebody_made_stops_a_removal_before_anything_changes(host: NftHost) -> None:
    settle(host)
    host.nft("add rule ip filter FORWARD ip saddr 192.0.2.1 counter jump BULKHEAD-INPUT\n")
    before = traces(host)
    with pytest.raises(TableError, match="busy"):
        job(host).absent(False)
    assert traces(host) == before


@pytest.mark.parametrize("removed", [True, False])
def test_a_table_that_the_file_no_longer_has_goes(host: NftHost, removed: bool) -> None:
    settle(host, asked(tables="table inet mine {\n\tchain c {\n\t}\n}\ntable inet other {\n}"))
    host.nft("table inet theirs {\n}\n")
    outcome = job(host).absent(False) if removed else job(host).present(asked(tables="table inet other {\n}"), False, 0)
    assert "delete table inet mine" in outcome.actions
    names = [line.split()[2] for line in host.ruleset().splitlines() if line.startswith("table inet")]
    assert names == (["theirs"] if removed else ["bulkhead", "other", "theirs"])


def test_a_table_that_goes_comes_back_where_that_is_not_confirmed(host: NftHost) -> None:
    settle(host, asked(tables="table inet mine {\n\tchain c {\n\t\tcounter drop\n\t}\n}"))
    before = traces(host)
    pending(host, asked())
    assert "inet mine" not in host.ruleset()
    host.fire()
    assert traces(host) == before


def test_a_file_of_ours_that_somebody_broke_is_replaced(host: NftHost) -> None:
    settle(host)
    wanted = traces(host)
    with (host.root / "etc/nftables.conf").open("a") as stream:
        stream.write('table inet mine { comment "')
    assert job(host).present(asked(), False, 0).actions == ["write /etc/nftables.conf"]
    assert traces(host) == wanted


# -- from one layout to the other ----------------------------------------------------------------------------------


def test_from_the_layout_of_iptables_to_the_own_table(host: NftHost) -> None:
    host.nft(DOCKERS)
    settle(host)
    outcome = job(host).present(asked("own_table"), False, 0)
    assert [action for action in outcome.actions if action.startswith("remove")] == [
        f"remove /etc/{path}"
        for path in (
            "systemd/system/bulkhead.service.d/nftables_conf.conf",
            "bulkhead/jump-ip-filter-BULKHEAD-DOCKER-USER.conf",
            "bulkhead/jump-ip-filter-BULKHEAD-INPUT.conf",
            "bulkhead/jump-ip6-filter-BULKHEAD-DOCKER-USER.conf",
            "bulkhead/jump-ip6-filter-BULKHEAD-INPUT.conf",
            "bulkhead/reload.conf",
        )
    ]
    assert "BULKHEAD" not in host.ruleset() and "policy drop" not in host.ruleset()
    assert not [name for name in host.files() if "jump-" in name or "reload" in name or "bulkhead.service.d" in name]
    assert job(host).present(asked("own_table"), False, 30).changed is False
    job(host).absent(False)
    assert host.files() == {"etc/nftables.conf": CONF}


@pytest.mark.parametrize("how", ["not confirmed", "refused"])
def test_a_change_of_layouts_that_fails_leaves_the_jumps_where_packets_get_to_them(host: NftHost, how: str) -> None:
    host.nft(DOCKERS)
    settle(host)
    before = host.ruleset()
    if how == "refused":
        host.refused = "delete chain ip filter BULKHEAD-INPUT"
        with pytest.raises(TableError):
            job(host).present(asked("own_table"), False, 30)
    else:
        pending(host, asked("own_table"))
        assert "BULKHEAD" not in host.ruleset()
        host.fire()
    chains = host.chains(*FILTER)
    assert chains["DOCKER-USER"].texts() == ["counter jump BULKHEAD-DOCKER-USER", "counter return"]
    assert chains["INPUT"].texts() == ["tcp dport 1 counter accept", "counter jump BULKHEAD-INPUT"]
    assert sorted(host.ruleset().splitlines()) == sorted(before.splitlines())


def test_a_policy_that_is_no_longer_stated_accepts_again(host: NftHost) -> None:
    settle(host, asked(forward_policy="drop", output_policy="drop"))
    assert host.ruleset().count("policy drop") == 6
    settle(host)
    assert {name: item.policy for name, item in host.chains(*FILTER6).items() if item.base} == {
        "INPUT": "drop",
        "FORWARD": "accept",
        "OUTPUT": "accept",
    }
    assert job(host).present(asked(), False, 30).changed is False


def test_the_path_is_the_one_of_before(host: NftHost) -> None:
    other = host.root / "etc/sysconfig/nftables.conf"
    other.parent.mkdir()
    other.write_text("# theirs\n")
    before = host.files()
    job(host, "/etc/sysconfig/nftables.conf").present(asked(), False, 0)
    assert (host.root / "etc/sysconfig/nftables.conf.before-bulkhead").exists()
    assert b"include" in (host.root / "etc/nftables.conf").read_bytes()
    assert job(host).files.path == "/etc/sysconfig/nftables.conf"
    job(host).absent(False)
    assert host.files() == before and job(host).files.path == "/etc/nftables.conf"


# -- what the service does -----------------------------------------------------------------------------------------

WHOLE: dict[str, t.Any] = {
    "output_policy": "drop",
    "rules": ({"chain": "INPUT", "rule": "tcp dport 9 drop"}, {"chain": "FORWARD", "rule": "tcp dport 9 drop"}),
    "tables": "table inet mine {\n\tchain c {\n\t\tmeta mark & $docker_mark != 0 accept\n\t}\n}",
}


def whole() -> Request:
    rules = [{"to": "host", "ports": [22]}]
    plan = conf_plan({"layout": "iptables_compat", **WHOLE, "rules": list(WHOLE["rules"])}, {"rules": rules}, {})
    found = Layout(**plan["layout"])
    ruleset = compile_policy(parse({"rules": rules}), HostState(networks={"web": "br-web"}), carry=_conf_plan.carry(found))
    return Request(render(ruleset), render_conf(plan), found)


@pytest.mark.parametrize("setting", ["ExecStart", "ExecReload"])
def test_restarts_and_reloads_repeat_nothing(host: NftHost, setting: str) -> None:
    host.nft(DOCKERS)
    settle(host, whole())
    before = host.ruleset()
    for _turn in range(3):
        codes = host.service(setting)
        assert codes == [0] + [1] * 8
        assert host.ruleset() == before
    assert job(host).present(whole(), False, 30).changed is False


def test_a_start_on_an_empty_host_is_complete(host: NftHost) -> None:
    settle(host, whole())
    wanted = host.ruleset()
    host.nft("flush ruleset\n")
    assert host.service("ExecStart") == [0] * 9
    assert host.ruleset() == wanted
    assert job(host).present(whole(), False, 30).changed is False


def test_a_start_puts_back_what_was_flushed(host: NftHost) -> None:
    host.nft(DOCKERS)
    settle(host, whole())
    host.nft("flush chain ip filter INPUT\nflush chain ip filter BULKHEAD-OUTPUT\ndelete table inet mine\n")
    assert host.service("ExecReload").count(0) == 2
    assert job(host).present(whole(), False, 30).changed is False
    assert host.chains(*FILTER)["INPUT"].texts() == ["counter jump BULKHEAD-INPUT"]


def test_the_file_by_hand_on_an_empty_host_is_complete_too(host: NftHost) -> None:
    settle(host, whole())
    wanted = host.ruleset()
    host.nft("flush ruleset\n")
    host.nft(host.loaded("/etc/nftables.conf"))
    assert job(host).present(whole(), False, 30).changed is False
    host.nft(host.loaded("/etc/nftables.conf"))
    assert job(host).present(whole(), False, 0).table_changed is True
    assert sorted(host.ruleset().splitlines()) == sorted(wanted.splitlines())
