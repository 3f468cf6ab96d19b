# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python -m bench: measure, print a table, and with --record PATH write it down.

Ends with 1 when a goal is missed, so that a claim in the documentation cannot outlive its truth.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import typing as t
from pathlib import Path

from lab.ansible import ping, run_playbook
from lab.containers import IMAGE, import_image
from lab.topology import Lab

if t.TYPE_CHECKING:
    from lab.host import Host

HERE = Path(__file__).parent
PORT = 8080
ENTRIES = 10_000
TABLE = "/etc/bulkhead/tables/inet-bulkhead.nft"
LINEAR = "/root/one-rule-per-entry.nft"
SMALL = {
    "docker_firewall_rules": [{"to": "host", "ports": [22]}, {"to": "published", "ports": [80, 443]}],
}
GOAL_RATIO = 0.95
GOAL_APPLY = 2.0


def policy(peer_address: str) -> dict[str, t.Any]:
    """Ten thousand source and port pairs, each port with clients of its own, the neighbour's at the end."""
    zones: dict[str, t.Any] = {"neighbour": {"sources": [peer_address]}}
    rules: list[dict[str, t.Any]] = [{"to": "host", "ports": [22]}]
    for number in range(ENTRIES // 10):
        sources = [f"10.{number // 200}.{number % 200}.{3 * item + 1}" for item in range(10)]
        zones[f"zone{number}"] = {"sources": sources}
        rules.append({"from": f"zone{number}", "to": "published", "ports": [10_000 + number]})
    rules.append({"from": "neighbour", "to": "published", "ports": [PORT]})
    return {"docker_firewall_zones": zones, "docker_firewall_rules": rules}


def linear_ruleset(variables: dict[str, t.Any]) -> str:
    """The same policy as one rule per entry, as most tools would write it."""
    lines = ["table inet linear {", "\tchain prerouting {"]
    lines.append("\t\ttype filter hook prerouting priority -110; policy accept;")
    lines.append("\t\tct state established,related accept")
    for rule in variables["docker_firewall_rules"][1:]:
        for source in variables["docker_firewall_zones"][rule["from"]]["sources"]:
            lines.append(f"\t\tip saddr {source} tcp dport {rule['ports'][0]} accept")
    return "\n".join([*lines, "\t}", "}"]) + "\n"


def start_sink(host: Host) -> None:
    """Start a container that answers as fast as one core can."""
    import_image(host)
    script = "/root/sink.py"
    host.write(script, (HERE / "sink.py").read_text(), 0o644)
    argv = ["docker", "run", "-d", "--name", "sink", "-p", f"{PORT}:{PORT}", "-v", "/usr:/usr:ro"]
    host.run([*argv, "-v", f"{script}:/sink.py:ro", IMAGE, "/usr/bin/python3", "/sink.py", str(PORT)])


def rate(lab: Lab, host: Host, seconds: float) -> float:
    """New connections per second from the neighbour through the published port."""
    argv = [sys.executable, "-I", str(HERE / "dialler.py"), host.address4, str(PORT), str(seconds)]
    return float(lab.peer.run(argv, timeout=seconds + 60).stdout)


def connections(lab: Lab, host: Host, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure the host without a table, with ours, and with one rule per entry, in turns."""
    load = {
        "no table": None,
        "own table": TABLE,
        "one rule per entry": LINEAR,
    }
    found: dict[str, list[float]] = {name: [] for name in load}
    for number in range(rounds):
        for name, file in load.items():
            for table in ("bulkhead", "linear"):
                host.run(["nft", "delete", "table", "inet", table], check=False)
            if file is not None:
                host.run(["nft", "-f", file])
            found[name].append(rate(lab, host, seconds))
            print(f"  round {number + 1}/{rounds}  {name:<20}{found[name][-1]:>9.0f} connections/s", flush=True)
    host.run(["nft", "delete", "table", "inet", "linear"], check=False)
    host.run(["systemctl", "start", "bulkhead"])
    return found


def timed(action: t.Callable[[], t.Any]) -> tuple[float, t.Any]:
    """Run something; give seconds and its result."""
    start = time.monotonic()
    result = action()
    return time.monotonic() - start, result


def fastest(action: t.Callable[[], t.Any], times: int = 3) -> float:
    """The least of a few runs: what it costs when nothing else is in the way."""
    return min(timed(action)[0] for _number in range(times))


def measure(lab: Lab, host: Host, rounds: int, seconds: float) -> tuple[list[list[str]], list[str]]:
    """Give rows for a table, and the goals that were missed."""
    variables = policy(lab.peer.address4)

    def harden(chosen: dict[str, t.Any] | None = None) -> t.Any:
        policy_of_run = variables if chosen is None else chosen
        result = run_playbook(lab, "bulkhead.docker_nftables.harden", hosts="docker_hosts", extra_vars=policy_of_run)
        if result.rc != 0:
            raise SystemExit(f"hardening failed: {result.messages()}")
        return result

    harden(SMALL)
    small = fastest(lambda: harden(SMALL))
    print(f"Applying a policy of {ENTRIES} source and port pairs over SSH", flush=True)
    first, _result = timed(harden)
    load = fastest(lambda: host.run(["nft", "-f", TABLE]))
    print(f"  first run {first:.2f} s, of which the transaction takes {load:.2f} s", flush=True)
    converged, result = timed(harden)
    if result.changed(host.name) != 0:
        raise SystemExit("the second run was not without changes")
    converged = min(converged, fastest(harden, 2))
    pinged = fastest(lambda: ping(lab))
    print(f"  converged run {converged:.2f} s, a play of one ping task {pinged:.2f} s", flush=True)
    host.write(LINEAR, linear_ruleset(variables), 0o600)
    print("New connections through a published port", flush=True)
    found = connections(lab, host, rounds, seconds)
    base = found["no table"]
    rows, ratios = [], {}
    for name, values in found.items():
        ratios[name] = statistics.median(value / reference for value, reference in zip(values, base))
        rows.append([f"new connections/s, {name}", f"{statistics.median(values):.0f}", f"{ratios[name]:.3f}"])
    rows.append([f"one transaction with {ENTRIES} entries", f"{load:.2f} s", ""])
    rows.append(["first run of the playbook, confirmed over a new connection", f"{first:.2f} s", ""])
    rows.append(["converged run of the playbook", f"{converged:.2f} s", f"{converged / pinged:.1f} × ping"])
    rows.append(["converged run with a policy of two rules", f"{small:.2f} s", f"{small / pinged:.1f} × ping"])
    rows.append(["a play of one ping task", f"{pinged:.2f} s", "1"])
    missed = []
    if ratios["own table"] < GOAL_RATIO:
        missed.append(f"the own table keeps {ratios['own table']:.3f} of the connections, the goal is {GOAL_RATIO}")
    if load > GOAL_APPLY:
        missed.append(f"applying takes {load:.2f} s, the goal is {GOAL_APPLY} s")
    return rows, missed


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how often each case is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long one measurement takes")
    parser.add_argument("--suite", default=os.environ.get("BENCH_SUITE", "bookworm"))
    parser.add_argument("--record", help="write the table to this file")
    options = parser.parse_args()
    with Lab("bench") as lab:
        host = lab.add_host("host", options.suite)
        host.boot()
        host.wait_ready()
        host.wait_docker()
        start_sink(host)
        rows, missed = measure(lab, host, options.rounds, options.seconds)
        nft = host.run(["nft", "--version"]).stdout.split()[1]
        docker = host.run(["docker", "version", "-f", "{{.Server.Version}}"]).stdout.strip()
    lines = ["| measured | value | ratio |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    print("\n".join(lines))
    if options.record:
        text = Path(options.record).read_text() if Path(options.record).exists() else ""
        head = text.partition("<!-- figures -->")[0]
        where = (
            f"Measured by `make bench` on Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores,"
            f" Debian {options.suite}, nft {nft.lstrip('v')}, Docker {docker};"
            f" {options.rounds} rounds of {options.seconds:g} s, each case in turn; medians."
        )
        Path(options.record).write_text(f"{head}<!-- figures -->\n" + "\n".join([where, "", *lines]) + "\n")
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
