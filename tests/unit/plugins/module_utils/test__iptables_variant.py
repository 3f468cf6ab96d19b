# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import pytest
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant import Move
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_variant_plan import (
    BACKUPS,
    Plan,
    VariantError,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._runner import (
    CommandError,
    CommandMissing,
    Result,
)

BUILTIN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
}
USERS = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -s 192.0.2.7/32 -j DROP
-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP
COMMIT
"""
USERS_V6 = USERS.replace("192.0.2.7/32", "2001:db8::7/128")
ID = "a" * 64

Chains = dict  # table -> chain -> rules; and policies under (table, chain)


class Xtables:
    """One set of tables, old or new, as iptables-save and iptables-restore treat it."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, list[str]]] = {}
        self.policies: dict[tuple[str, str], str] = {}

    def copy(self) -> Xtables:
        other = Xtables()
        other.rules = {
            table: {chain: list(lines) for chain, lines in chains.items()} for table, chains in self.rules.items()
        }
        other.policies = dict(self.policies)
        return other

    def lines(self) -> list[str]:
        return [line for chains in self.rules.values() for lines in chains.values() for line in lines]

    def save(self) -> str:
        out = []
        for table, chains in self.rules.items():
            out.append(f"*{table}")
            out += [f":{chain} {self.policies.get((table, chain), '-')} [0:0]" for chain in chains]
            out += [line for lines in chains.values() for line in lines]
            out.append("COMMIT")
        return "".join(f"{line}\n" for line in out)

    def restore(self, text: str, flush: bool) -> None:
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            if "geoip" in line:
                raise ValueError(f"Couldn't load match `geoip':No such file\n\nError occurred at line: {number}\n")
            if line.startswith("*"):
                table = line[1:]
                if flush:
                    self.rules.pop(table, None)
                for chain in BUILTIN[table]:
                    self.rules.setdefault(table, {}).setdefault(chain, [])
                    self.policies.setdefault((table, chain), "ACCEPT")
            elif line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                if policy == "-":
                    self.rules[table][chain] = []
                else:
                    self.policies[table, chain] = policy
            elif line.startswith("-"):
                self.rule(table, line)

    def rule(self, table: str, line: str) -> None:
        verb, chain, rest = line.split(" ", 2)
        lines = self.rules[table][chain]
        if verb == "-A":
            lines.append(line)
        elif verb == "-D":
            lines.remove(f"-A {chain} {rest}")
        else:
            place, rule = rest.split(" ", 1)
            lines.insert(int(place) - 1, f"-A {chain} {rule}")


class Host:
    """A Debian host with Docker, seen through a runner. The `fail_at`-th change fails."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.old = {"iptables": Xtables(), "ip6tables": Xtables()}
        self.new = {"iptables": Xtables(), "ip6tables": Xtables()}
        self.alternatives = {name: f"/usr/sbin/{name}-legacy" for name in ("iptables", "ip6tables")}
        self.docker_runs = True
        self.live_restore = False
        self.backend: dict[str, str] | None = None
        self.address = 2
        self.active = {"docker.service", "docker.socket"}
        self.containers = {ID: "web"}
        self.comes_back = True
        self.missing: set[str] = set()
        self.bad_start = False
        self.events: list[str] = []
        self.fail_at = 0
        self.changes = 0
        self.scratch = False
        (root / "run").mkdir()
        (root / "run/docker.pid").write_text("77\n")
        (root / "proc/77").mkdir(parents=True)
        (root / "proc/77/cmdline").write_bytes(b"/usr/sbin/dockerd\0")
        (root / "proc/net").mkdir()
        self.old["iptables"].restore(USERS, flush=True)
        self.old["ip6tables"].restore(USERS_V6, flush=True)
        self.docker_writes(self.old)
        self.names()

    def names(self) -> None:
        for tool, name in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
            (self.root / "proc/net" / name).write_text("".join(f"{table}\n" for table in self.old[tool].rules))

    def docker_writes(self, where: dict[str, Xtables]) -> None:
        """As the engine before 28 does at its start."""
        for tables in where.values():
            user = tables.rules.get("filter", {}).get("DOCKER-USER", [])
            tables.restore("*filter\n:DOCKER - [0:0]\nCOMMIT\n*nat\n:DOCKER - [0:0]\nCOMMIT\n", flush=False)
            tables.rules["filter"]["DOCKER-USER"] = user
            forward = tables.rules["filter"]["FORWARD"]
            jump = "-A FORWARD -j DOCKER-USER"
            own = ["-A FORWARD -o docker0 -j DOCKER", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"]
            rest = [line for line in forward if line not in own]
            if not self.live_restore or where is self.old:
                rest = [line for line in rest if line != jump]
                own = [jump, *own]
            tables.rules["filter"]["FORWARD"] = [*own, *rest] if where is self.new else [*rest, *own]
            dnat = (
                f"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.{self.address}:80"
            )
            tables.rules["nat"]["DOCKER"] = [dnat]
            local = "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"
            if local not in tables.rules["nat"]["PREROUTING"]:
                tables.rules["nat"]["PREROUTING"].append(local)

    # -- the runner ----------------------------------------------------------------------------------------------------

    def find(self, name: str) -> str | None:
        return None if name in self.missing else f"/nowhere/{name}"

    @contextmanager
    def scratch_network(self) -> Iterator[None]:
        kept, self.new = self.new, {"iptables": Xtables(), "ip6tables": Xtables()}
        self.scratch = True
        try:
            yield
        finally:
            self.new, self.scratch = kept, False

    def run(self, argv: list[str], stdin: str | None = None, check: bool = True, timeout: float | None = 60) -> Result:
        if argv[0] in self.missing:
            raise CommandMissing(argv)
        result = self._run(argv, stdin)
        self.holds(argv)
        if check and result.rc:
            raise CommandError(argv, result.rc, result.stdout, result.stderr)
        return result

    def changing(self, event: str) -> bool:
        """Count a change of the host; false where it fails."""
        if self.scratch:
            return True
        self.changes += 1
        if self.changes == self.fail_at:
            return False
        self.events.append(event)
        return True

    def holds(self, argv: list[str]) -> None:
        """At no moment is anything open that was closed: the old tables drop, or the new ones do and are complete."""
        for tool, tables in () if self.scratch else self.new.items():
            old, user = (
                self.old[tool],
                "-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP",
            )
            in_old = old.policies.get(("filter", "INPUT")) == "DROP" and user in old.lines()
            forward = tables.rules.get("filter", {}).get("FORWARD", [])
            closed = [tables.policies.get(("filter", chain)) for chain in ("INPUT", "FORWARD")] == ["DROP", "DROP"]
            in_new = closed and user in tables.lines() and "-A FORWARD -j DOCKER-USER" in forward[:2]
            assert in_old or in_new, f"after {argv} {tool} was open"
        if self.docker_runs and not self.scratch:
            addresses = {line.split()[-1] for line in self.old["iptables"].lines() if "DNAT" in line}
            assert addresses <= {f"172.17.0.{self.address}:80"}, "the old DNAT leads to another container"

    def _run(self, argv: list[str], stdin: str | None) -> Result:
        name, words = argv[0], argv[1:]
        tool = name.split("-")[0]
        if name == "ip":
            bridge = {"ifname": "docker0", "flags": ["UP"], "linkinfo": {"info_kind": "bridge"}}
            return Result(0, json.dumps([{**bridge, "addr_info": [{"local": "172.17.0.1", "prefixlen": 16}]}]), "")
        if name == "update-alternatives":
            return self._alternatives(words)
        if name == "systemctl":
            return self._systemctl(words)
        if name == "docker":
            return self._docker(words)
        if words == ["--version"]:
            variant = "legacy" if self.alternatives.get(name, "").endswith("legacy") else "nf_tables"
            return Result(0, f"{name} v1.8.9 ({variant})\n", "")
        tables = self.old[tool] if "-legacy" in name else self.new[tool]
        if name.endswith("-save"):
            return Result(0, tables.save(), "")
        if name.endswith("-restore"):
            return self._restore(name, tables, words, stdin or "")
        assert words[:4] == ["--wait", "-t", "nat", "-F"], argv
        if not self.changing(f"{tool}: flush {'old' if name.endswith('-legacy') else 'new'} nat {words[4]}"):
            return Result(4, "", "no")
        if "nat" not in tables.rules:
            return Result(1, "", "No chain/target/match by that name")
        tables.rules["nat"][words[4]] = []
        return Result(0, "", "")

    def _restore(self, name: str, tables: Xtables, words: list[str], text: str) -> Result:
        trial = tables.copy()
        try:
            trial.restore(text, flush="--noflush" not in words)
        except ValueError as exc:
            return Result(2, "", f"{name} v1.8.9 (nf_tables): {exc}")
        if "--test" in words:
            return Result(0, "", "")
        if not self.changing(f"{name} {' '.join(line for line in text.split() if line.startswith('*'))}"):
            return Result(4, "", "no")
        tables.rules, tables.policies = trial.rules, trial.policies
        return Result(0, "", "")

    def _alternatives(self, words: list[str]) -> Result:
        if words[0] == "--query":
            if words[1] not in self.alternatives:
                return Result(2, "", "error: no alternatives")
            offered = "".join(
                f"\nAlternative: /usr/sbin/{words[1]}-{kind}\nPriority: 1\n" for kind in ("legacy", "nft")
            )
            return Result(0, f"Name: {words[1]}\nValue: {self.alternatives[words[1]]}\n{offered}", "")
        if not self.changing(f"{words[1]} is {words[2]}"):
            return Result(2, "", "no")
        self.alternatives[words[1]] = words[2]
        return Result(0, "", "")

    def _systemctl(self, words: list[str]) -> Result:
        if words[0] == "is-active":
            return Result(0, "active\n" if words[1] in self.active else "inactive\n", "")
        if words[0] == "reset-failed":
            return Result(0, "", "")
        new = self.alternatives["iptables"].endswith("nft")
        if not self.changing(f"{words[0]} {words[1]}") or (self.bad_start and new and words[0] != "stop"):
            return Result(1, "", "Job for docker.service failed")
        if words[0] in ("stop", "restart"):
            self.docker_runs = False
        if words[0] in ("start", "restart"):
            # Without live-restore containers come up in another order, and get others' addresses.
            self.address += not self.live_restore
            self.docker_runs = True
            if not self.comes_back:
                self.containers = {}
            self.docker_writes(self.new if new else self.old)
        return Result(0, "", "")

    def _docker(self, words: list[str]) -> Result:
        if words[0] == "info":
            return Result(0, json.dumps({"LiveRestoreEnabled": self.live_restore, "FirewallBackend": self.backend}), "")
        if words[0] == "ps":
            return Result(0, "".join(f"{key} {name}\n" for key, name in self.containers.items()), "")
        assert words[0] == "start"
        self.events.append(f"start container {words[1][:1]}")
        if words[1] == ID:
            self.containers[ID] = "web"
        return Result(0 if words[1] == ID else 1, "", "No such container")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def move(host: Host) -> Move:
    return Move(host, str(host.root), str(host.root / "proc"))


def reasons(host: Host, **options: Any) -> str:
    before = json.dumps([host.old["iptables"].save(), host.new["iptables"].save(), host.alternatives])
    with pytest.raises(VariantError) as caught:
        move(host).plan(**options)
    assert json.dumps([host.old["iptables"].save(), host.new["iptables"].save(), host.alternatives]) == before
    assert host.events == []
    return str(caught.value)


def failure(host: Host, plan: Plan) -> str:
    try:
        move(host).apply(plan, 60)
    except VariantError as exc:
        return str(exc)
    return ""


def arrived(host: Host) -> None:
    """Everything is in nf_tables, nothing in the old tables."""
    for tool, users in (("iptables", USERS), ("ip6tables", USERS_V6)):
        assert host.old[tool].lines() == []
        assert set(host.old[tool].policies.values()) == {"ACCEPT"}
        new = host.new[tool]
        for line in users.splitlines():
            assert not line.startswith("-A") or new.lines().count(line) == 1, line
        forward = new.rules["filter"]["FORWARD"]
        assert forward[0].endswith("/32 -j DROP" if tool == "iptables" else "/128 -j DROP")
        assert forward[1] == "-A FORWARD -j DOCKER-USER"
        assert new.policies["filter", "INPUT"] == new.policies["filter", "FORWARD"] == "DROP"
    assert set(host.alternatives.values()) == {"/usr/sbin/iptables-nft", "/usr/sbin/ip6tables-nft"}
    assert host.docker_runs and host.containers == {ID: "web"}


# -- the order ---------------------------------------------------------------------------------------------------------


def test_nothing_is_open_in_between(host: Host) -> None:
    """The fake host looks after every single command; here the order is read."""
    plan = move(host).plan()
    assert host.events == []
    move(host).apply(plan, 60)
    arrived(host)
    assert host.events == [
        "iptables-nft-restore *filter",
        "ip6tables-nft-restore *filter",
        "iptables is /usr/sbin/iptables-nft",
        "ip6tables is /usr/sbin/ip6tables-nft",
        "stop docker.service",
        "iptables: flush old nat DOCKER",
        "ip6tables: flush old nat DOCKER",
        "start docker.socket",
        "iptables-nft-restore *filter",
        "ip6tables-nft-restore *filter",
        "iptables-legacy-restore *filter *nat",
        "ip6tables-legacy-restore *filter *nat",
    ]
    assert plan.before == "legacy"
    assert plan.docker_rules == 10
    assert "iptables -t filter -P INPUT DROP" in plan.moved
    assert len(plan.moved) == 12


def test_the_second_run_has_nothing_to_do(host: Host) -> None:
    move(host).apply(move(host).plan(), 60)
    again = move(host).plan()
    assert (again.actions, again.moved, again.docker_rules, again.diff(), again.before) == ([], [], 0, [], "nf_tables")


def test_the_diff_is_what_comes_of_it(host: Host) -> None:
    plan = move(host).plan()
    wanted = {part["after_header"]: part["after"] for part in plan.diff()}
    move(host).apply(plan, 60)
    # A rule more in the old tables makes another plan, whose diff begins with what is there.
    host.old["iptables"].rule("filter", "-A OUTPUT -j LOG")
    (part,) = move(host).plan().diff()
    assert part["before"] == wanted["iptables-nft-save"]
    assert "+" not in part["before"] and part["after"] == part["before"] + "-A OUTPUT -j LOG\n"


def test_with_live_restore_docker_restarts_under_its_containers(host: Host) -> None:
    host.live_restore = True
    move(host).apply(move(host).plan(), 60)
    arrived(host)
    assert "restart docker.service" in host.events
    assert not any("flush" in event or "stop" in event for event in host.events)


def test_the_other_family_keeps_its_order_when_docker_restarts(host: Host) -> None:
    """IPv6 is in nf_tables already, as after a move that was killed at its end."""
    host.live_restore = True
    move(host).apply(move(host).plan(), 60)
    order = host.new["ip6tables"].rules["filter"]["FORWARD"][:2]
    host.old["iptables"].restore(USERS, flush=True)
    host.docker_writes(host.old)
    host.old["ip6tables"] = Xtables()
    host.old["ip6tables"].restore("*filter\nCOMMIT\n", flush=True)
    host.holds = lambda argv: None
    move(host).apply(move(host).plan(), 60)
    assert "restart docker.service" in host.events[-6:]
    assert host.new["ip6tables"].rules["filter"]["FORWARD"][:2] == order
    arrived(host)


@pytest.mark.parametrize("live_restore", [False, True])
def test_a_run_that_broke_off_anywhere_is_finished_by_the_next(tmp_path: Path, live_restore: bool) -> None:
    """Each change fails once; never is anything open, and the next run gets to the same end."""
    number, failures = 0, 0
    while True:
        number += 1
        place = tmp_path / str(number)
        place.mkdir()
        host = Host(place)
        host.live_restore = live_restore
        host.fail_at = number
        plan = move(host).plan()
        said = failure(host, plan)
        if said:
            failures += 1
            assert "The old rules still decide" in said
            host.fail_at = 0
            move(host).apply(move(host).plan(), 60)
        arrived(host)
        if number > host.changes:
            break
    assert failures >= 8


def test_a_docker_that_does_not_start_gets_its_old_iptables_back(host: Host) -> None:
    host.bad_start = True
    plan = move(host).plan()
    with pytest.raises(VariantError, match="the alternatives were set back and it was started again"):
        move(host).apply(plan, 60)
    assert set(host.alternatives.values()) == {"/usr/sbin/iptables-legacy", "/usr/sbin/ip6tables-legacy"}
    assert host.docker_runs
    assert "iptables: flush new nat DOCKER" in host.events
    assert "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT" in host.old["iptables"].lines()


def test_containers_that_do_not_come_back_are_started_and_named(host: Host) -> None:
    host.containers["b" * 64] = "once"
    host.comes_back = False
    outcome = move(host).apply(move(host).plan(), 60)
    assert (outcome.started, outcome.lost) == (["web"], ["once"])


# -- backups -----------------------------------------------------------------------------------------------------------


def test_backups_are_private_and_never_overwritten(host: Host) -> None:
    first = host.old["iptables"].save()
    outcome = move(host).apply(move(host).plan(), 60)
    assert outcome.backup == [f"{BACKUPS}/iptables.save", f"{BACKUPS}/ip6tables.save"]
    path = host.root / outcome.backup[0].lstrip("/")
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    host.old["iptables"].rule("filter", "-A OUTPUT -j LOG")
    assert move(host).apply(move(host).plan(), 60).backup == [f"{BACKUPS}/iptables.save.1"]
    assert path.read_text() == first


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_everything_that_stands_against_it_is_said_at_once(host: Host) -> None:
    host.active.add("firewalld.service")
    host.old["iptables"].rule("filter", "-A INPUT -m geoip --source-country XX -j DROP")
    host.old["iptables"].rule("filter", "-A DOCKER -s 192.0.2.1/32 -j DROP")
    host.new["iptables"].restore("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n", flush=False)
    said = reasons(host, restart_docker=False)
    assert "firewalld runs" in said
    assert (
        "iptables: -A INPUT -m geoip --source-country XX -j DROP is refused by nf_tables: Couldn't load match" in said
    )
    assert "iptables -t filter -A DOCKER -s 192.0.2.1/32 -j DROP stands in a chain of Docker's own" in said
    assert "chain INPUT of table filter has rules of iptables in nf_tables too (-A INPUT -j ACCEPT)" in said
    assert "docker_restart is false, but Docker runs" in said


def test_a_host_without_alternatives_is_left_alone(host: Host) -> None:
    host.missing.add("update-alternatives")
    assert "Only hosts where it is one, such as Debian and Ubuntu, can be moved by this module" in reasons(host)


def test_containers_that_only_the_old_rules_protect_are_not_bared(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.root / "run/docker.pid").unlink()
    run = host._run

    def with_a_container(argv: list[str], stdin: str | None) -> Result:
        result = run(argv, stdin)
        if argv[0] != "ip":
            return result
        veth = {"ifname": "veth1", "flags": ["UP"], "master": "docker0", "link_type": "ether"}
        return Result(0, json.dumps([*json.loads(result.stdout), veth]), "")

    monkeypatch.setattr(host, "_run", with_a_container)
    assert "containers run without dockerd" in reasons(host)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("docker", "Docker has to be asked for its containers"),
        ("iptables-nft-save", "iptables-nft-save is not installed"),
        ("ip6tables-legacy-save", "there is no ip6tables-legacy-save to read them with"),
    ],
)
def test_a_missing_program_is_named(host: Host, missing: str, expected: str) -> None:
    host.missing.add(missing)
    assert expected in reasons(host)


@pytest.mark.parametrize("told", ["backend", "daemon.json"])
def test_what_a_docker_without_iptables_has_left_behind_goes(host: Host, told: str) -> None:
    if told == "backend":
        host.backend = {"Driver": "nftables"}
    else:
        (host.root / "etc/docker").mkdir(parents=True)
        (host.root / "etc/docker/daemon.json").write_text('{"iptables": false, "ip6tables": false}')
    move(host).apply(move(host).plan(restart_docker=False), 60)
    assert not any("docker" in event for event in host.events)
    arrived(host)


def test_a_docker_that_would_not_start_again_is_not_stopped(host: Host) -> None:
    (host.root / "etc/docker").mkdir(parents=True)
    (host.root / "etc/docker/daemon.json").write_text('{"live-restore": tru}')
    assert "Docker would not start again" in reasons(host)


def test_a_ban_during_the_move_is_no_obstacle(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that use iptables write into nf_tables as soon as the alternatives lead there."""
    systemctl = host._systemctl

    def banning(words: list[str]) -> Result:
        if words[0] == "start":
            host.new["iptables"].rule("filter", "-I INPUT 1 -s 192.0.2.66/32 -j DROP")
        return systemctl(words)

    monkeypatch.setattr(host, "_systemctl", banning)
    move(host).apply(move(host).plan(), 60)
    arrived(host)
    assert "-A INPUT -s 192.0.2.66/32 -j DROP" in host.new["iptables"].lines()


def test_a_docker_that_systemd_does_not_run_is_not_restarted(host: Host) -> None:
    host.active.clear()
    assert "not as docker.service" in reasons(host)


def test_tables_that_iptables_cannot_read_are_no_place_to_move_to(host: Host) -> None:
    run = host._run
    text = "# Table `filter' is incompatible, use 'nft' tool.\n"
    host._run = lambda argv, stdin: Result(0, text, "") if argv == ["iptables-nft-save"] else run(argv, stdin)
    assert "Table `filter' is incompatible" in reasons(host)


def test_rules_that_read_back_as_something_else_do_not_move(host: Host) -> None:
    run = host._run

    def forgetful(argv: list[str], stdin: str | None) -> Result:
        result = run(argv, stdin)
        return Result(0, result.stdout.replace(" --dport 22", ""), "") if argv == ["iptables-nft-save"] else result

    host._run = forgetful
    assert "--dport 22 -j ACCEPT reads back from nf_tables as something else" in reasons(host)


# -- hosts with little to move -----------------------------------------------------------------------------------------


def test_a_host_on_nf_tables_runs_no_old_tool(host: Host) -> None:
    """The old tools would make the tables they look for."""
    host.alternatives = {name: f"/usr/sbin/{name}-nft" for name in ("iptables", "ip6tables")}
    host.old = {"iptables": Xtables(), "ip6tables": Xtables()}
    host.names()
    host.missing |= {"iptables-legacy-save", "ip6tables-legacy-save"}
    host.holds = lambda argv: None
    assert move(host).plan().actions == []


def test_only_the_alternatives_of_an_empty_host_change(host: Host) -> None:
    host.old = {"iptables": Xtables(), "ip6tables": Xtables()}
    host.names()
    host.holds = lambda argv: None
    move(host).apply(move(host).plan(restart_docker=False), 60)
    assert host.events == ["iptables is /usr/sbin/iptables-nft", "ip6tables is /usr/sbin/ip6tables-nft"]


def test_other_tools_with_rules_are_named(host: Host) -> None:
    host.alternatives["ebtables"] = "/usr/sbin/ebtables-legacy"
    run = host._run
    text = "*filter\n:INPUT ACCEPT\n-A INPUT -j DROP\n"
    host._run = lambda argv, stdin: Result(0, text, "") if argv == ["ebtables-legacy-save"] else run(argv, stdin)
    assert "ebtables has rules in the old xtables" in reasons(host)


def test_ipsets_are_named(host: Host) -> None:
    host.old["iptables"].rule("filter", "-A INPUT -m set --match-set bad src -j DROP")
    assert move(host).plan().ipsets == ["bad"]
