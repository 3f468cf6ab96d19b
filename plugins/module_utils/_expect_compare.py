# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: what came back, held against what the policy says, as a report for people.

May change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._expect import (
    Expectation,
    View,
    expect,
    on_link,
)

if t.TYPE_CHECKING:
    from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy

JUDGEMENTS = ("agrees", "disagrees", "inconclusive", "unknown")
ANSWERS = ("open", "refused")
_EXPECTED = {"accept": "passed", "drop": "closed", "reject": "rejected", "unknown": "unknown"}


@dataclass(frozen=True)
class Try:
    """One thing that a probing host tried, and what came back."""

    prober: str
    source: str | None
    address: str
    protocol: str
    port: int
    found: str
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One try with what was expected of it."""

    attempt: Try
    expected: Expectation
    judgement: str

    def line(self, host: str) -> str:
        """Tell it in one line."""
        one = self.attempt
        what = "ping" if one.protocol == "icmp" else f"{one.protocol} port {one.port}"
        source = f" ({one.source})" if one.source else ""
        detail = f" ({one.detail})" if one.detail else ""
        return (
            f"from {one.prober}{source} to {host} ({one.address}) {what}: expected"
            f" {_EXPECTED[self.expected.verdict]} (decided by {self.expected.reason}), found {one.found}{detail}"
        )


@dataclass
class Report:
    """The outcome for one hardened host."""

    findings: list[Finding] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    answered: bool = False

    def of(self, judgement: str) -> list[Finding]:
        """Give the findings with one judgement."""
        return [finding for finding in self.findings if finding.judgement == judgement]


def judge(expected: Expectation, protocol: str, found: str) -> str:
    """Hold one result against what was expected.

    Silence proves nothing where a service need not answer (UDP), where a limit may have been used up, and
    where the host may send only so many ICMP errors.
    """
    if expected.verdict == "unknown" or found == "error":
        return "unknown"
    if expected.verdict == "drop":
        return "agrees" if found == "timeout" else "disagrees"
    if expected.verdict == "reject":
        if found == "timeout" and protocol != "tcp":
            return "inconclusive"
        return "agrees" if found in ("refused", "unreachable") else "disagrees"
    if found in ANSWERS:
        return "agrees"
    if found == "timeout" and (protocol == "udp" or expected.limited):
        return "inconclusive"
    return "disagrees"


def _finding(policy: Policy, host: View, one: Try) -> Finding:
    expected = expect(policy, host, one.source, one.address, one.protocol, one.port)
    if one.found == "error":
        expected = replace(expected, verdict="unknown", reason="nothing could be sent")
    return Finding(one, expected, judge(expected, one.protocol, one.found))


def compare(policy: Policy, host: View, tries: t.Iterable[Try], certain: t.Container[str] = ()) -> Report:
    """Hold every try against the policy.

    An address from which not even ping answers may not be reachable at all. Unless it must be, being on the
    prober's own network or in `certain`, its silence then says nothing.
    """
    report = Report()
    pairs: dict[tuple[str, str], list[Try]] = {}
    for one in tries:
        pairs.setdefault((one.prober, one.address), []).append(one)
    for (prober, address), group in pairs.items():
        findings = [_finding(policy, host, one) for one in group]
        sources = {one.source for one in group if one.source}
        foreign = any(finding.expected.verdict != "unknown" for finding in findings)
        if any(one.found in ANSWERS or one.found == "unreachable" for one in group):
            report.answered = report.answered or foreign
        elif foreign:
            report.silent.append(f"nothing at {address} answered {prober}")
            near = address in certain or any(on_link(host, source) for source in sources)
            if not near:
                reason = f"nothing at {address} answered {prober}, not even to ping; there may be no route"
                findings = [
                    replace(finding, expected=Expectation("unknown", reason), judgement="unknown")
                    for finding in findings
                ]
        report.findings += findings
    return report


def table(report: Report) -> list[str]:
    """Count by probing host, family and protocol."""
    rows = [["from", "family", "protocol", "tried", "passed", "closed", "disagree", "inconclusive", "unknown"]]
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in report.findings:
        one = finding.attempt
        key = (one.prober, "IPv6" if ":" in one.address else "IPv4", one.protocol)
        groups.setdefault(key, []).append(finding)
    for key, findings in sorted(groups.items()):
        agreeing = [finding for finding in findings if finding.judgement == "agrees"]
        passed = sum(1 for finding in agreeing if finding.expected.verdict == "accept")
        rest = [sum(1 for finding in findings if finding.judgement == word) for word in JUDGEMENTS[1:]]
        numbers = [len(findings), passed, len(agreeing) - passed, *rest]
        rows.append([*key, *[str(number) for number in numbers]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def reasons(findings: t.Iterable[Finding]) -> list[str]:
    """Count findings by their reason."""
    counts: dict[str, int] = {}
    for finding in findings:
        detail = f" ({finding.attempt.detail})" if finding.attempt.found == "error" else ""
        text = f"{finding.attempt.prober}: {finding.expected.reason}{detail}"
        counts[text] = counts.get(text, 0) + 1
    return [f"{count} from {text}" for text, count in counts.items()]


def summary(findings: t.Iterable[Finding]) -> list[str]:
    """Name the ports once for each prober, protocol, expectation and result."""
    groups: dict[tuple[str, str, str, str], dict[int, None]] = {}
    for finding in findings:
        one = finding.attempt
        key = (one.prober, one.protocol, _EXPECTED[finding.expected.verdict], one.found)
        groups.setdefault(key, {})[one.port] = None
    lines = []
    for (prober, protocol, expected, found), ports in groups.items():
        what = "ping" if protocol == "icmp" else f"{protocol} {', '.join(str(port) for port in sorted(ports))}"
        lines.append(f"from {prober} expected {expected}, found {found}: {what}")
    return lines
