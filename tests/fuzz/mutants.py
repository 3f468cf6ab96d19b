# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The analyser with one mistake built in, many times over: what was recorded from the kernel must show each of them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
import traceback
import typing as t

if t.TYPE_CHECKING:
    from fuzz.compare import Trial

PACKAGE = "ansible_collections.bulkhead.docker_nftables.plugins.module_utils."

#: A name for the mistake, the file after `_exposure_`, what stands there, and what stands there instead.
MUTANTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "a rule without a verdict accepts",
        "walk",
        "        going.extend(item.stepped(step) for item in active)",
        "        self.ends.extend(End(item.stepped(step), 'accept') for item in active)",
    ),
    ("hooks are ignored", "ir", "chain.hook == hook and", "chain.hook and"),
    (
        "priorities are ignored",
        "hooks",
        "        stations.sort(key=lambda station: station.priority)",
        "        stations.sort(key=lambda station: station.kind)",
    ),
    ("policies are ignored", "walk", "End(flow.stepped(step), chain.policy)", "End(flow.stepped(step), 'accept')"),
    (
        "jumps are ignored",
        "walk",
        "going.extend(self.chain(target, [flow]))",
        "going.append(flow)",
    ),
    (
        "translation is ignored",
        "walk",
        "self.ends.append(End(_translated(op, flow, address, port).stepped(step)",
        "self.ends.append(End(flow.stepped(step)",
    ),
    ("every packet is established", "read", "_CT_STATE = {NEW: 8,", "_CT_STATE = {NEW: 2,"),
    ("untracked reads invalid", "read", "UNTRACKED: 64}", "UNTRACKED: 1}"),
    ("named sets are empty", "parse", "return list(found.elements or ())", "return []"),
    (
        "chains are chosen by their name",
        "ir",
        "chain.hook == hook and chain.family in families",
        "chain.name.lower() == hook and chain.hook and chain.family in families",
    ),
    ("only tables named filter count", "ir", "chain.family in families]", "chain.table == 'filter']"),
    ("prefixes are single addresses", "names", "return ((low, low | ((1 << rest) - 1)),)\n    if isinstance(value, dict) "
     "and list(value) == [\"range\"]", "return ((low, low),)\n    if isinstance(value, dict) "
     "and list(value) == [\"range\"]"),
    ("accept is final for the packet", "hooks", "        if end.verdict == ACCEPT:\n            flows.append(end.flow)",
     "        if end.verdict == ACCEPT and end.flow.way[1].handle == 0:\n            flows.append(end.flow)"),
    ("return goes on in the same chain", "walk", "            returned.append(flow)\n        else:",
     "            going.append(flow)\n        else:"),
    ("the source reads the destination", "read", 'found[f"{family} saddr"] = Reader._saddr',
     'found[f"{family} saddr"] = Reader._daddr'),
    ("the end of a chain is the end of all", "walk", "going.extend(self.chain(target, [flow]))",
     "self.ends.extend(End(item, 'drop') for item in self.chain(target, [flow]))"),
    ("of equal priority, the first registered runs first", "hooks", "        stations.reverse()\n", ""),
    ("a missed lookup goes on in the rule", "walk", "        missed.extend(left)\n        return found",
     "        return found + [(item, None) for item in left]"),
    ("negation needs no protocol", "walk", "        elif value is None:\n            missed.append(flow)",
     "        elif value is None:\n            (kept if op.negated else missed).append(flow)"),
    ("nat chains have a place of their own", "hooks", "NAT_PRIORITY[hook], TRANSLATE",
     "min((chain.priority for chain in nat), default=0), TRANSLATE"),
    ("a goto comes back", "walk", "returned.extend(self.chain(target, [flow]))",
     "going.extend(self.chain(target, [flow]))"),
    ("early chains see the translated destination", "hooks", '"prerouting": -100,', '"prerouting": -1000,'),
    ("nat chains run for untracked packets", "hooks", "flows = [flow for flow in flows if flow.state.ct == NEW]",
     "flows = list(flows); done = []"),
    ("accept in a nat chain ends translation", "hooks",
     "            flows = [flow for flow in flows if not flow.state.ct_status & bit]",
     "            done.extend(flow for flow in flows if not flow.state.ct_status & bit and flow.way[1].handle)\n"
     "            flows = [flow for flow in flows if not flow.state.ct_status & bit and not flow.way[1].handle]"),
    ("every nat chain translates again", "hooks", "            done.extend(flow for flow in flows if "
     "flow.state.ct_status & bit)\n            flows = [flow for flow in flows if not flow.state.ct_status & bit]\n",
     ""),
    ("ct original is the translated destination", "read",
     "        return self.query.daddr if flow.state.ct == NEW else _MISSING",
     "        return flow.state.daddr if flow.state.ct == NEW else _MISSING"),
    ("an empty interface name differs from nothing", "read",
     "        return flow.state.oif if self.with_oif else 0", "        return flow.state.oif if self.with_oif else None"),
    ("states with commas are a set", "expr", "return Match(keys[0], ((0, 0),), True, number(field, right)",
     "return Match(keys[0], ((number(field, right),) * 2,), False, None"),
    ("a set of status bits is asked bit by bit", "expr",
     '            return Match(keys[0], _union(field, right["set"]), negated, mask)',
     '            return Match(keys[0], ((0, 0),), True, sum(number(field, _bare(v)) for v in right["set"])) '
     'if keys[0] == "ct status" else Match(keys[0], _union(field, right["set"]), negated, mask)'),
    ("fib asks the original destination", "route", "family, daddr = query.family, flow.state.daddr",
     "family, daddr = query.family, query.daddr"),
    ("fib always asks for the interface", "route", 'interface = query.iif if "iif" in words else',
     'interface = query.iif if words[0] == "daddr" else'),
    ("only addresses of the own interface are local", "path",
     '                elif way.kind in ("local", "broadcast"):',
     '                elif way.kind in ("local", "broadcast") and iif in way.devices:'),
    ("routing takes the original destination", "path", "daddr, iif = flow.state.daddr, query.iif\n"
     "        if flow.state.saddr is not None:\n            ends.append(End(flow.doubted(\"a source translated before "
     "routing\"), UNKNOWN))\n            return\n        localnet",
     "daddr, iif = query.daddr, query.iif\n"
     "        if flow.state.saddr is not None:\n            ends.append(End(flow.doubted(\"a source translated before "
     "routing\"), UNKNOWN))\n            return\n        localnet"),
    ("there is no reverse path filter", "route", 'strict = self.setting("rp_filter", iif)', "strict = 0"),
    ("the host's own sources are taken", "route", "found = minus(full(32), tuple(own))", "found = full(32)"),
    ("route_localnet is ignored", "path", 'localnet = self.routing.setting("route_localnet", iif)', "localnet = 0"),
    ("marks do not route", "path", "going.saddr, iif, going.state.mark)", "going.saddr, iif, 0)"),
    ("the catch-all element is ignored", "walk", "        if op.other is not None:\n            found.extend",
     "        if False:\n            found.extend"),
    ("connection tracking is always on", "parse", "return Program(chains, coverage, frozenset(tracked))",
     "return Program(chains, coverage)"),
    ("notrack works late", "walk", "if flow.state.ct == NO_CT else flow)", ")"),
    ("state is known before connection tracking", "hooks", "CONNTRACK_PRIORITY = -200", "CONNTRACK_PRIORITY = -2000"),
    ("a reject is for both families", "expr", "if kind in _REJECT_FAMILY:", "if not kind:"),
    ("two negated ports are two conditions", "merge", "return one.negated and other.negated and", "return False and"),
    ("marks are replaced whole", "walk", "[(flow, (read & value.mask) ^ value.xor)]", "[(flow, value.xor)]"),
    ("a mark's mask is ignored", "walk", "value if op.mask is None else value & op.mask", "value"),
    ("sources are split on one side only", "walk",
     "return flow.boxed(inside, flow.sport), flow.boxed(minus(flow.saddr, ranges), flow.sport)",
     "return flow.boxed(inside, flow.sport), None"),
    ("iptables' lines are off by one", "parse", 'lines[number] if lines else ""', 'lines[number - 1] if lines else ""'),
    ("a translation keeps the port", "walk", "dport = state.dport if port is None else port", "dport = state.dport"),
    ("rules for all destinations are left out of the index", "index", "{*self.always, *self.ports", "{*self.ports"),
    ("the index takes negated ports", "index", "not op.negated and op.mask is None", "op.mask is None"),
    ("the index does not see what a rule does first", "index", "                break\n        if found is None:",
     "                continue\n        if found is None:"),
    ("forwarding is always on", "path", "        elif not found:\n            ends.append(_dropped(flow, "
     "\"forwarding is off\"))\n        return bool(found)", "        return True"),
)  # fmt: skip


class _Mutated:
    """Finds one module with other text in it."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(self, name: str, path: t.Any, target: t.Any = None) -> t.Any:
        return importlib.util.spec_from_loader(name, t.cast(t.Any, self)) if name == self.name else None

    def create_module(self, spec: t.Any) -> None:
        return None

    def exec_module(self, module: t.Any) -> None:
        exec(compile(self.source, self.name, "exec"), module.__dict__)


def survivors(trials: list[Trial]) -> list[str]:
    """The mistakes that no trial shows. Each one is tried in a process of its own."""
    kept = pickle.dumps([(trial.listing, trial.saves, trial.facts, trial.sent, trial.seen) for trial in trials])
    return [mutant[0] for mutant in MUTANTS if not _killed(mutant, kept)]


def _killed(mutant: tuple[str, str, str, str], kept: bytes) -> bool:
    name, suffix, before, after = mutant
    spec = importlib.util.find_spec(f"{PACKAGE}_exposure_{suffix}")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name}: there is no file {suffix}")
    with open(spec.origin, encoding="utf-8") as stream:
        source = stream.read()
    if source.count(before) != 1:
        raise RuntimeError(f"{name}: its text stands {source.count(before)} times in {spec.origin}, not once")
    child = os.fork()
    if child == 0:
        os._exit(_shown(f"{PACKAGE}_exposure_{suffix}", source.replace(before, after), kept))
    _pid, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise RuntimeError(f"{name}: the process ended with {code}")
    return code == 1


def _shown(name: str, source: str, kept: bytes) -> int:
    """In the child: 1 if some trial fails, 0 if none does, 2 if the mistake breaks the analyser."""
    try:
        values = pickle.loads(kept)
        for loaded in [item for item in sys.modules if item.startswith(f"{PACKAGE}_exposure_") or item == "fuzz.compare"]:
            del sys.modules[loaded]
        sys.meta_path.insert(0, t.cast(t.Any, _Mutated(name, source)))
        importlib.import_module(name)
        made = importlib.import_module("fuzz.compare").Trial
        return 1 if any(made(*value).fails() for value in values) else 0
    except Exception:
        # An analyser that breaks down shows nothing about what it says.
        traceback.print_exc()
        return 2
