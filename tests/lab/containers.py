# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of containers, stated as data, and what a neighbour may try on them."""

from __future__ import annotations

import io
import json
import tarfile
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.probing import Target

if t.TYPE_CHECKING:
    from lab.host import Host

IMAGE = "lab/web"
_APPLETS = "sh httpd nc wget cat sleep ip ping ping6 nslookup ps echo mkdir ls id true".split()
HTTP = 80
UDP = 82
TCP_ECHO = 83
# The host's /usr, read only, gives an echoing container the Python that busybox is not.
_ECHO_OPTIONS = ("-v", "/usr:/usr:ro", "-e", f"UDP={UDP}", "-e", f"TCP={TCP_ECHO}")
_ECHO_SCRIPT = Path(__file__).with_name("echo.py")


@dataclass(frozen=True)
class Network:
    """A Docker network on a bridge."""

    name: str
    subnet4: str
    subnet6: str | None = None
    internal: bool = False

    def argv(self) -> list[str]:
        argv = ["docker", "network", "create", "--subnet", self.subnet4]
        argv += ["--ipv6", "--subnet", self.subnet6] if self.subnet6 else []
        argv += ["--internal"] if self.internal else []
        return [*argv, self.name]


@dataclass(frozen=True)
class Container:
    """A container that serves its own name on TCP port 80; with `echo` also UDP port 82 and TCP port 83 echo.

    In `publish`, {address4} and {address6} stand for the host's own addresses.
    """

    name: str
    publish: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("bridge",)
    echo: bool = False
    http_ports: tuple[int, ...] = (HTTP,)
    options: tuple[str, ...] = ()

    def argv(self, host: Host) -> list[str]:
        first, *others = self.http_ports
        serve = f"mkdir -p /www; echo {self.name} > /www/index.html; "
        serve += "".join(f"httpd -p {port} -h /www; " for port in others) + f"exec httpd -f -p {first} -h /www"
        argv = ["docker", "run", "-d", "--name", self.name, "--restart=always", "--stop-signal=KILL"]
        argv += ["--network", self.networks[0], *self.options]
        for port in self.publish:
            argv += ["-p", port.format(address4=host.address4, address6=f"[{host.address6}]")]
        if self.echo:
            argv += [*_ECHO_OPTIONS, "-e", f"SCRIPT={_ECHO_SCRIPT.read_text()}"]
            serve = '/usr/bin/python3 -c "$SCRIPT" & ' + serve
        return [*argv, IMAGE, "sh", "-c", serve]


@dataclass(frozen=True)
class ContainerSet:
    """Networks and the containers on them."""

    name: str
    containers: tuple[Container, ...]
    networks: tuple[Network, ...] = field(default=())


STANDARD = ContainerSet(
    "standard",
    networks=(
        Network("front", "172.30.1.0/24", "fd00:b1:1::/64"),
        Network("back", "172.30.2.0/24"),
        Network("sealed", "172.30.3.0/24", internal=True),
    ),
    containers=(
        Container("web", ("8080:80",)),
        Container("web80", ("80:80",)),
        Container("tls", ("443:80",), ("back",)),
        Container("web6", ("8081:80", "8082:82/udp", "8083:83"), ("front",), echo=True),
        Container("bound", ("{address4}:8090:80",)),
        Container("lo", ("127.0.0.1:9001:80",)),
        Container("inner", (), ("sealed",)),
        Container("hostnet", (), ("host",), http_ports=(8888,)),
        Container("unpub", (), ("front",), echo=True),
        Container("multi", ("8085:80",), ("front", "back")),
        Container("range", ("7000-7003:7000-7003",), ("back",), http_ports=(7000, 7001, 7002, 7003)),
    ),
)
SETS = {"standard": STANDARD}

# daemon.json that lets Docker before 27 filter IPv6 too; newer ones do it unasked.
IP6TABLES = {"experimental": True, "ip6tables": True}


def archive(busybox: Path) -> bytes:
    """The container image: busybox and links to it, as a tar for `docker import`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for directory in ("bin", "tmp", "www", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        data = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
        links = {f"bin/{applet}": "busybox" for applet in _APPLETS}
        for name, linkname in {**links, "lib": "usr/lib", "lib64": "usr/lib64"}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, linkname
            tar.addfile(entry)
    return out.getvalue()


def import_image(host: Host) -> None:
    if host.run(["docker", "image", "inspect", IMAGE], check=False).returncode != 0:
        data = archive(host.disk.root / host.disk.find("/usr/bin/busybox", "/bin/busybox").lstrip("/"))
        host.run(["docker", "import", "-", IMAGE], input=data)


def _names(host: Host, *argv: str) -> set[str]:
    return set(host.run(["docker", *argv]).stdout.split())


def bring_up(host: Host, wanted: ContainerSet) -> None:
    """Make what is missing; what is there already stays as it is."""
    import_image(host)
    networks = _names(host, "network", "ls", "--format", "{{.Name}}")
    for network in wanted.networks:
        if network.name not in networks:
            host.run(network.argv())
    present = _names(host, "ps", "-a", "--format", "{{.Names}}")

    def make(container: Container) -> None:
        if container.name not in present:
            host.run(container.argv(host))
            for network in container.networks[1:]:
                host.run(["docker", "network", "connect", network, container.name])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, wanted.containers))


def running(host: Host) -> set[str]:
    return _names(host, "ps", "--format", "{{.Names}}")


def addresses(host: Host) -> dict[str, list[str]]:
    """Every container's own addresses, v4 and v6."""
    ids = _names(host, "ps", "-q")
    result: dict[str, list[str]] = {}
    for entry in json.loads(host.run(["docker", "inspect", *sorted(ids)]).stdout) if ids else []:
        networks = entry["NetworkSettings"]["Networks"].values()
        found = [net.get(key) for net in networks for key in ("IPAddress", "GlobalIPv6Address")]
        result[entry["Name"].lstrip("/")] = sorted(filter(None, found))
    return result


def subnets(host: Host) -> list[str]:
    """All subnets of the host's Docker networks, for a neighbour's routes."""
    ids = _names(host, "network", "ls", "-q")
    networks = json.loads(host.run(["docker", "network", "inspect", *sorted(ids)]).stdout)
    return sorted({item["Subnet"] for net in networks for item in net["IPAM"]["Config"] or [] if "Subnet" in item})


def published_targets(host: Host, wanted: ContainerSet = STANDARD) -> list[Target]:
    """The host's addresses at every port of the set, also those that no address outside may reach."""
    found: list[Target] = []
    for container in wanted.containers:
        for spec in container.publish:
            *_address, port, _inside = spec.partition("/")[0].rsplit(":", 2)
            proto = spec.partition("/")[2] or "tcp"
            first, _dash, last = port.partition("-")
            for number in range(int(first), int(last or first) + 1):
                for address in (host.address4, host.address6):
                    found.append({"proto": proto, "address": address, "port": number, "container": container.name})
    return found


def standard_targets(host: Host, wanted: ContainerSet = STANDARD) -> list[Target]:
    """What a neighbour tries, in order: the host's services, published ports, then the containers themselves."""
    both = (host.address4, host.address6)
    found: list[Target] = [{"proto": "tcp", "address": address, "port": 22, "container": None} for address in both]
    found += published_targets(host, wanted)
    for container in wanted.containers:
        if "host" in container.networks:
            port = container.http_ports[0]
            found += [{"proto": "tcp", "address": a, "port": port, "container": container.name} for a in both]
    return found + direct_targets(host, wanted)


def direct_targets(host: Host, wanted: ContainerSet = STANDARD) -> list[Target]:
    """The containers' own addresses, as they are now."""
    found: list[Target] = []
    by_name = {container.name: container for container in wanted.containers}
    for name, own in sorted(addresses(host).items()):
        if name not in by_name:
            continue
        for address in own:
            ports = [("tcp", by_name[name].http_ports[0])] + ([("udp", UDP)] if by_name[name].echo else [])
            for proto, port in ports:
                target = {"proto": proto, "address": address, "port": port, "container": name, "direct": True}
                found.append(target)
    return found


def answering(host: Host, wanted: ContainerSet) -> bool:
    """Whether every container of the set runs and serves, seen from the host."""
    if not {container.name for container in wanted.containers} <= running(host):
        return False
    return all(entry["result"] == "open" for entry in host.probe(direct_targets(host, wanted), timeout=0.5))
