# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters of the playbook verify: what to try on a host, and what came back held against its policy."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._expect import (
    Port,
    outside_addresses,
    plan,
    view,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._expect_compare import (
    JUDGEMENTS,
    Finding,
    Report,
    Try,
    compare,
    reasons,
    summary,
    table,
)
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy import Policy, PolicyError
from ansible_collections.bulkhead.docker_nftables.plugins.module_utils._policy_parse import parse

#: How many inconclusive tries are told one by one.
MOST_LINES = 20


def _policy(variables: dict[str, t.Any]) -> Policy:
    try:
        return parse(variables)
    except PolicyError as error:
        raise AnsibleFilterError("The firewall policy has mistakes:\n" + "\n".join(error.errors)) from error


def _patterns(value: t.Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]


def verify_hosts(hosts: t.Any, probers: t.Any) -> str:
    """Give the pattern of the hosts to verify: those asked for, else all that are not only there to probe."""
    if hosts:
        return ":".join(_patterns(hosts))
    return ":".join(["all"] + [f"!{name}" for item in _patterns(probers or []) for name in item.split(":")])


def verify_probers(probers: t.Any) -> str:
    """Give the pattern of the hosts to probe from: those asked for, else all."""
    return ":".join(_patterns(probers)) if probers else "all"


def _addresses(value: t.Any) -> list[str]:
    found = []
    for position, item in enumerate(_patterns(value or [])):
        try:
            found.append(str(ipaddress.ip_address(item)))
        except ValueError as error:
            raise AnsibleFilterError(
                f"docker_firewall_verify_addresses[{position}]: '{item}' is not an IPv4 or IPv6 address"
            ) from error
    return found


def _ports(value: t.Any) -> list[Port]:
    """Read docker_firewall_verify_ports: 8080 or '8080/tcp' or '53/udp'."""
    found = []
    for position, item in enumerate(_patterns(value or [])):
        number, _slash, protocol = item.partition("/")
        if not number.isdigit() or not 1 <= int(number) <= 65535 or protocol not in ("", "tcp", "udp"):
            raise AnsibleFilterError(
                f"docker_firewall_verify_ports[{position}]: '{item}' is not a port; accepted are 1 to 65535,"
                " alone or followed by /tcp or /udp"
            )
        found.append((protocol or "tcp", int(number)))
    return found


def verify_plan(
    variables: dict[str, t.Any], facts: dict[str, t.Any], addresses: t.Any = None, ports: t.Any = None
) -> dict[str, t.Any]:
    """List what to try on the host that the result of docker_firewall_info describes."""
    host = view(facts)
    explicit = _addresses(addresses)
    places = explicit or outside_addresses(host)
    if not places:
        raise AnsibleFilterError(
            "This host has no address that somebody outside could dial; name some in docker_firewall_verify_addresses"
        )
    chosen, left_out = plan(_policy(variables), host, _ports(ports))
    targets: list[dict[str, t.Any]] = []
    for address in places:
        targets.append({"address": address, "protocol": "icmp"})
        targets += [{"address": address, "protocol": protocol, "port": port} for protocol, port in chosen]
    return {"targets": targets, "left_out": left_out, "explicit": explicit}


def verify_jobs(
    hostvars: t.Mapping[str, t.Any], hosts: t.Iterable[str], prober: str, variable: str
) -> list[dict[str, t.Any]]:
    """List the hosts that this prober has to try, with the targets of each."""
    jobs = []
    for name in hosts:
        content = hostvars[name].get(variable) if name != prober else None
        if content:
            jobs.append({"host": str(name), "targets": content["targets"]})
    return jobs


def _tries(
    hostvars: t.Mapping[str, t.Any], hosts: t.Iterable[str], name: str, variable: str
) -> tuple[list[Try], list[str]]:
    """Collect what all probers found at one host, and what kept some of them from trying."""
    tries, problems = [], []
    for prober in hosts:
        for result in (hostvars[prober].get(variable) or {}).get("results") or []:
            if result.get("item", {}).get("host") != name:
                continue
            if "probed" not in result:
                problems.append(f"{prober} could not probe: {result.get('msg', 'no result')}")
            for one in result.get("probed", ()):
                source = one.get("source_address")
                tries.append(
                    Try(
                        prober=str(prober),
                        source=str(source).partition("%")[0] if source else None,
                        address=str(one["address"]),
                        protocol=str(one["protocol"]),
                        port=int(one["port"]),
                        found=str(one["result"]),
                        detail=str(one.get("detail") or ""),
                    )
                )
    return tries, problems


def _plain(finding: Finding) -> dict[str, t.Any]:
    one = finding.attempt
    return {
        "from": one.prober,
        "source_address": one.source,
        "address": one.address,
        "protocol": one.protocol,
        "port": one.port,
        "expected": finding.expected.verdict,
        "reason": finding.expected.reason,
        "found": one.found,
        "detail": one.detail,
    }


def _lines(report: Report, name: str, left_out: int) -> list[str]:
    lines = table(report)
    disagreements = report.of("disagrees")
    if disagreements:
        lines.append("Packets and policy disagree:")
        lines += [f"  {finding.line(name)}" for finding in disagreements]
    inconclusive = report.of("inconclusive")
    if inconclusive:
        lines.append("Inconclusive, because silence proves nothing there:")
        lines += [f"  {finding.line(name)}" for finding in inconclusive[:MOST_LINES]]
        if len(inconclusive) > MOST_LINES:
            lines.append(f"  and {len(inconclusive) - MOST_LINES} more")
    unknown = report.of("unknown")
    if unknown:
        lines.append("Unknown:")
        lines += [f"  {text}" for text in reasons(unknown)]
    if left_out:
        lines.append(f"{left_out} ports of the policy were not tried; a policy this large is sampled evenly.")
    return lines


def verify_compare(
    variables: dict[str, t.Any],
    facts: dict[str, t.Any],
    planned: dict[str, t.Any],
    hostvars: t.Mapping[str, t.Any],
    hosts: t.Iterable[str],
    name: str,
    variable: str,
    strict: bool = False,
) -> dict[str, t.Any]:
    """Hold what all probers found at one host against its policy."""
    host = view(facts)
    tries, failures = _tries(hostvars, hosts, name, variable)
    certain = set(planned.get("explicit") or [])
    if host.ssh_address:
        certain.add(host.ssh_address)
    report = compare(_policy(variables), host, tries, certain)
    failures += summary(report.of("disagrees"))
    if strict:
        failures += summary(report.of("inconclusive"))
    if not tries and not failures:
        failures.append(
            f"no host probed {name}: put other hosts into the inventory and name them in docker_firewall_verify_from"
        )
    elif tries and not report.answered:
        failures.append(
            f"nothing answered at all, so nothing is proven: {'; '.join(report.silent) or 'no packet could be judged'}"
        )
    return {
        "counts": {word: len(report.of(word)) for word in JUDGEMENTS},
        "disagreements": [_plain(finding) for finding in report.of("disagrees")],
        "report": _lines(report, name, int(planned.get("left_out") or 0)),
        "failures": failures,
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filters by name."""
        return {
            "verify_hosts": verify_hosts,
            "verify_probers": verify_probers,
            "verify_plan": verify_plan,
            "verify_jobs": verify_jobs,
            "verify_compare": verify_compare,
        }
