# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan a switch of Docker's firewall backend: what stands in the way, and what would be done.

Private to the collection: not meant to be used from anywhere else. May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils import _backend_iptables, _daemon_json
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_iptables import UserChain, user_chain
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._backend_record import KEYS, PATH, Record
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_check import Check, Engine, Wanted
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._daemon_json import DaemonJsonError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._docker_user_translate import (
    Mark,
    Translation,
    parse_ipsets,
    translate,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._iptables_save import (
    Saved,
    SaveError,
    parse_save,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._layout import IPTABLES_COMPAT, Layout
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._live_restore import KEY
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._marks import (
    MarkBitError,
    MarkUse,
    free_bit,
    used_mask,
)

NFTABLES, IPTABLES = "nftables", "iptables"
TABLE = "bulkhead_docker_user"
FAMILIES = {"ip": "IPv4", "ip6": "IPv6"}
#: Obstacles that an administrator may know better about.
IGNORABLE = ("kubernetes", "saved_rules", "ufw")
_NAMED = 5
_BRIDGES = ("docker0", "docker_gwbridge", "br-*")


@dataclass(frozen=True)
class Obstacle:
    """Something that stands in the way of a switch, with what to do about it."""

    code: str
    text: str

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text}


@dataclass(frozen=True)
class Facts:
    """What a plan depends on, all of it read before.

    `backend` is the one that runs, empty where Docker does not answer. `saved` has the texts of iptables-save by
    family, without those whose tool is not installed. `sets` is what `ipset save` prints.
    """

    engine: Engine = field(default_factory=Engine)
    backend: str = ""
    trouble: tuple[str, ...] = ()
    path: str = "/etc/docker/daemon.json"
    daemon_json: str | None = None
    saved: dict[str, str] = field(default_factory=dict)
    sets: str = ""
    unreadable: tuple[str, ...] = ()
    legacy: tuple[str, ...] = ()
    layout: Layout | None = None
    record: Record | None = None
    #: Whether the table that carries DOCKER-USER is in the kernel or on the disk.
    carried: bool = False
    kubernetes: tuple[str, ...] = ()
    #: Files with rules for the next boot that set FORWARD to DROP or have a DOCKER-USER.
    saved_files: tuple[str, ...] = ()
    #: What ufw sets FORWARD to; empty where it is off.
    ufw_forward: str = ""
    bridges: tuple[str, ...] = ()
    marks: tuple[MarkUse, ...] = ()
    containers: int = 0
    live_restore: bool = False
    live_restore_flag: bool = False
    #: Families in which forwarding is off and has to be switched on.
    closed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """The module's options."""

    backend: str = NFTABLES
    accept_mark: str | None = None
    ignore: tuple[str, ...] = ()
    allow_container_restart: bool = False


@dataclass
class Plan:
    """What is to be done. Where there are obstacles the rest means nothing."""

    obstacles: list[Obstacle] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: daemon.json as it is to be, with its text; the text is what it was where nothing changes.
    settings: dict[str, t.Any] = field(default_factory=dict)
    former: dict[str, t.Any] = field(default_factory=dict)
    text: str | None = None
    restart: bool = False
    #: Whether live-restore is switched on for the restart alone.
    lend_live_restore: bool = False
    #: The table that carries DOCKER-USER on, None for no table.
    table: str | None = None
    rules: int = 0
    #: DOCKER-USER by family: what is to go, or, on the way back, to come.
    user: dict[str, UserChain] = field(default_factory=dict)
    record: Record | None = None

    @property
    def written(self) -> bool:
        """Whether daemon.json changes."""
        return not _daemon_json.same(self.settings, self.former)


class Planner:
    """One plan from facts and wishes."""

    def __init__(self, facts: Facts, wishes: Wishes) -> None:
        self.facts = facts
        self.wishes = wishes
        self.plan = Plan(text=facts.daemon_json)

    def make(self) -> Plan:
        """Plan the way there or back; every obstacle is named, not only the first."""
        self._common()
        saved = self._saved()
        if self.wishes.backend == NFTABLES:
            self._to_nftables(saved)
        else:
            self._to_iptables(saved)
        self._daemon()
        self._restart()
        return self.plan

    def _stop(self, code: str, text: str) -> None:
        if code not in self.wishes.ignore:
            self.plan.obstacles.append(Obstacle(code, text))

    # -- what holds for both directions --------------------------------------------------------------------------------

    def _common(self) -> None:
        for text in self.facts.trouble:
            self._stop("docker", text)
        try:
            self.plan.former = _daemon_json.parse(self.facts.daemon_json)
        except DaemonJsonError as exc:
            self._stop(
                "daemon_json", f"{self.facts.path}: {exc}. Docker does not start with it; correct the file first"
            )
        self.plan.settings = dict(self.plan.former)
        if self.facts.engine.swarm:
            self._stop(
                "swarm",
                "the node is part of a swarm: Docker's nftables backend has no rules for a swarm's networks, and refuses "
                "to start. Leave the swarm, or stay with iptables",
            )
        if self.facts.carried and self.facts.record is None:
            self._stop(
                "record",
                f"table inet {TABLE} is there, and {PATH}, which says what it was made from, is not: the rules in it would "
                "be lost. Put the file back; or, where nobody needs the rules, have the module nftables_ruleset remove the "
                f"table (name: {TABLE}, state: absent)",
            )
        if self.facts.kubernetes:
            self._stop(
                "kubernetes",
                f"Kubernetes uses this host ({', '.join(self.facts.kubernetes)}) and writes rules of iptables' own, which "
                "may rely on DOCKER-USER and on the policy of FORWARD. Set ignore to [kubernetes] if it does not",
            )

    def _saved(self) -> dict[str, Saved]:
        found = {}
        for family, text in self.facts.saved.items():
            try:
                found[family] = parse_save(text)
            except SaveError as exc:
                self._stop("iptables", f"the {FAMILIES[family]} rules of iptables cannot be read: {exc}")
        for text in self.facts.unreadable:
            self._stop(
                "iptables", f"iptables tools do not read all of its own tables, so nobody knows the rules: {text}"
            )
        return found

    # -- there ---------------------------------------------------------------------------------------------------------

    def _to_nftables(self, saved: dict[str, Saved]) -> None:
        facts = self.facts
        if facts.layout is not None and facts.layout.layout == IPTABLES_COMPAT:
            self._stop(
                "layout",
                "the role nftables_conf keeps the policy in chains of iptables on this host (layout iptables_compat), and "
                "DOCKER-USER is not asked by Docker's nftables backend. Apply it with nftables_conf_layout: own_table first",
            )
        if facts.legacy:
            self._stop(
                "legacy",
                f"there are rules of the old xtables ({', '.join(facts.legacy)}), which nothing here moves along. Move them "
                "with the module iptables_variant, or remove them",
            )
        if facts.saved_files:
            self._stop(
                "saved_rules",
                f"{', '.join(facts.saved_files)} would load a DOCKER-USER, or a FORWARD that drops, at the next boot: "
                "published ports would then be closed to everybody. Take Docker's chains and the policy out, or set ignore "
                "to [saved_rules] and save the rules anew afterwards",
            )
        if facts.ufw_forward not in ("", "ACCEPT"):
            self._stop(
                "ufw",
                f"ufw is on and sets FORWARD to {facts.ufw_forward} whenever it is loaded: published ports would be closed to "
                'everybody. Set DEFAULT_FORWARD_POLICY="ACCEPT" in /etc/default/ufw',
            )
        there = {family: user_chain(each) for family, each in saved.items()}
        for family, each in there.items():
            odd = [line for line in each.jumps if line != _backend_iptables.JUMP]
            if odd:
                self._stop(
                    "jumps",
                    f"chain DOCKER-USER ({FAMILIES[family]}) is used from elsewhere, too: {'; '.join(odd)}. Remove these rules",
                )
            if each.rules and not each.jumps and self.facts.record is None:
                self._stop(
                    "jumps",
                    f"chain DOCKER-USER ({FAMILIES[family]}) has rules and no rule of FORWARD leads to it, so they do nothing, "
                    "while in the table they would. Empty the chain, or have the module docker_rules put the jump back",
                )
        self.plan.settings["firewall-backend"] = NFTABLES
        self._carry_over(saved, there)

    def _carry_over(self, saved: dict[str, Saved], there: dict[str, UserChain]) -> None:
        """The rules that are there; where they were carried over before, those that were."""
        record = self.facts.record
        here = {family: each for family, each in there.items() if each.left}
        if record is not None and self._again(record, here):
            return
        texts = record.saved if record is not None else {family: self.facts.saved[family] for family in saved}
        sets = record.sets if record is not None else self.facts.sets
        mark = self._mark(record)
        if mark is None:
            return
        self.plan.user = here
        before = record.before if record is not None else {key: self.plan.former.get(key) for key in KEYS}
        closed = record.closed if record is not None else self.facts.closed
        done = self._translate(texts, sets, mark, before.get("bridge-accept-fwmark") is not None, closed)
        if done.untranslatable:
            for problem in done.untranslatable:
                self._stop("rule", f"{problem.rule}: {problem.reason}")
            return
        self.plan.table, self.plan.rules = done.text, done.rules
        self.plan.notes = list(done.notes)
        spelled = f"{mark.value:#x}/{mark.mask:#x}"
        if done.uses_mark and "bridge-accept-fwmark" not in self.plan.settings:
            self.plan.settings["bridge-accept-fwmark"] = spelled
        made = self.facts.daemon_json is None
        fresh = Record(texts, sets, spelled if done.uses_mark else None, before, made_daemon_json=made, closed=closed)
        self.plan.record = record if record is not None else fresh

    def _translate(
        self, texts: dict[str, str], sets: str, mark: Mark, held: bool, closed: tuple[str, ...]
    ) -> Translation:
        """Rules and sets as they were; `held` tells that Docker took this mark before.

        A host that did not forward goes on not to, but for Docker, as one whose FORWARD drops.
        """
        chains = {family: user_chain(parse_save(text)) for family, text in texts.items()}
        dropping = [family for family, each in chains.items() if each.policy == "DROP" or family in closed]
        # Networks come and go; those with names that Docker gives are known already.
        named = {each for each in self.facts.bridges if each not in _BRIDGES and not each.startswith("br-")}
        bridges = [*_BRIDGES, *sorted(named)]
        return translate(
            texts.get("ip", ""),
            texts.get("ip6", ""),
            parse_ipsets(sets),
            mark,
            table=TABLE,
            bridges=bridges,
            drop_policy=dropping,
            mark_held=held,
        )

    def _again(self, record: Record, here: dict[str, UserChain]) -> bool:
        """Whether there are rules again that are not those that were carried over."""
        known = {family: user_chain(parse_save(text)) for family, text in record.saved.items()}
        for family, each in here.items():
            was = known.get(family, UserChain())
            if each.rules and each.chains != was.chains:
                self._stop(
                    "again",
                    f"chain DOCKER-USER ({FAMILIES[family]}) has rules again, others than those that were carried over. "
                    "Docker does not ask them. Put them into the policy or go back to iptables first, then empty the chain",
                )
            elif each.policy == "DROP" and was.policy != "DROP":
                self._stop(
                    "again",
                    f"somebody has set the policy of FORWARD ({FAMILIES[family]}) to DROP since the switch: published ports "
                    "are closed by it. Whoever did it has to say what may be forwarded",
                )
        return bool(self.plan.obstacles)

    def _mark(self, record: Record | None) -> Mark | None:
        """The mark for what overrides Docker: the one that is set, the one that was chosen, the wanted, or a free bit."""
        given = self.plan.former.get("bridge-accept-fwmark") or (record and record.accept_mark)
        used = used_mask(self.facts.marks)
        try:
            if given:
                return parse_mark(str(given))
            if self.wishes.accept_mark is not None:
                wanted = parse_mark(self.wishes.accept_mark)
                if wanted.mask & used:
                    users = [f"{use.where} ({use.text})" for use in self.facts.marks if use.mask & wanted.mask]
                    raise ValueError(f"{self.wishes.accept_mark} is in use by {', '.join(users[:_NAMED])}")
                return wanted
            bit = free_bit(used, None, self.facts.marks)
        except (ValueError, MarkBitError) as exc:
            self._stop("mark", f"accept_fwmark: {exc}")
            return None
        return Mark(bit, bit)

    # -- back ----------------------------------------------------------------------------------------------------------

    def _to_iptables(self, saved: dict[str, Saved]) -> None:
        record = self.facts.record
        before = record.before if record is not None else {"firewall-backend": None}
        for key, value in before.items():
            if value is None or (key == "firewall-backend" and value == NFTABLES):
                self.plan.settings.pop(key, None)
            else:
                self.plan.settings[key] = value
        if record is not None:
            known = {family: user_chain(parse_save(text)) for family, text in record.saved.items()}
            there = {family: user_chain(each) for family, each in saved.items()}
            self.plan.user = {
                family: each
                for family, each in known.items()
                if self._lacks(family, each, there.get(family, UserChain()))
            }
        missing = sorted(
            family for family, each in self.plan.user.items() if family not in self.facts.saved and each.left
        )
        if missing:
            tools = " and ".join({"ip": "iptables", "ip6": "ip6tables"}[family] for family in missing)
            self._stop("iptables", f"{tools} is not installed, and Docker's iptables backend needs it")

    def _lacks(self, family: str, was: UserChain, there: UserChain) -> bool:
        """Whether what was carried over has to be put back; rules that somebody has made since are not replaced."""
        replaced = was.rules > 0 or self.facts.backend == NFTABLES
        if there.rules and replaced and there.chains != was.chains:
            self._stop(
                "again",
                f"chain DOCKER-USER ({FAMILIES[family]}) has rules, others than those that were carried over and would come "
                "back. Empty the chain",
            )
        if self.facts.backend == NFTABLES:
            return True
        return (was.rules > 0 and there.chains != was.chains) or (was.policy == "DROP" and there.policy != "DROP")

    # -- the daemon ----------------------------------------------------------------------------------------------------

    def _daemon(self) -> None:
        plan = self.plan
        if self.facts.backend in ("", self.wishes.backend) and not plan.written:
            return
        changed = {key: plan.settings[key] for key in KEYS if key in plan.settings}
        # Forwarding is switched on before Docker is restarted, so that it is not what stops it.
        engine = replace(self.facts.engine, forwarding4=True, forwarding6=True, swarm=False)
        for text in Check(self.facts.path, Wanted(changed, validated=True), plan.settings, engine).run().errors:
            # The words are those of another module's option.
            self._stop("daemon_json", text.replace("settings.", f"{self.facts.path}: ", 1))
        made = self.facts.record is not None and self.facts.record.made_daemon_json
        if plan.written and not plan.settings and made:
            plan.text = None
        elif plan.written:
            plan.text = _daemon_json.render(plan.settings, _daemon_json.form_of(self.facts.daemon_json))

    def _restart(self) -> None:
        facts, plan = self.facts, self.plan
        plan.restart = facts.backend != self.wishes.backend or any(
            not _daemon_json.same(plan.settings.get(key), plan.former.get(key)) for key in KEYS[1:]
        )
        # A daemon that starts without it stops the containers that the one before it left running.
        stays = facts.live_restore and (facts.live_restore_flag or plan.former.get(KEY) is True)
        if not plan.restart or stays or not facts.containers:
            return
        if facts.live_restore_flag:
            if not self.wishes.allow_container_restart:
                self._stop(
                    "containers",
                    f"Docker has to be restarted, which stops its {facts.containers} running containers: live-restore is off, "
                    "by a flag on dockerd's command line. Set allow_container_restart to true when they may stop",
                )
            return
        plan.lend_live_restore = True


def parse_mark(text: str) -> Mark:
    """A mark as Docker takes it, MARK or MARK/MASK; raises ValueError."""
    value, slash, mask = text.partition("/")
    try:
        numbers = int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF
    except ValueError:
        raise ValueError(f"{text!r} is no mark such as 0x1, or mark and mask such as 0x1/0x1") from None
    if not (0 < numbers[0] <= 0xFFFFFFFF and 0 < numbers[1] <= 0xFFFFFFFF) or numbers[0] & ~numbers[1]:
        raise ValueError(f"{text!r}: mark and mask have at most 32 bits, and the mark no bit outside of its mask")
    return Mark(*numbers)
