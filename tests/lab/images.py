# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian root filesystems, built once by mmdebstrap and kept; every host lays its own disk over one of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import typing as t
from contextlib import contextmanager
from pathlib import Path

from lab import paths
from lab.process import LabError, run

SUITES = ("bookworm", "trixie", "forky")
_PACKAGES = (
    "systemd systemd-sysv dbus udev python3 python3-docker iproute2 iptables nftables docker.io openssh-server"
    " procps sudo conntrack busybox-static ca-certificates kmod"
).split()
_DOCKER_CLI = ("trixie", "forky")  # elsewhere the client comes with docker.io
_VARIANTS = {"": [], "firewalld": ["firewalld", "polkitd", "ufw"]}
# Documentation and translations are never read in a test host.
_LEAVE_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_FORMAT = 1  # raise when the building itself changes


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


def packages(suite: str, variant: str = "") -> list[str]:
    if suite not in SUITES:
        raise LabError(f"suite {suite!r}: one of {', '.join(SUITES)}")
    if variant not in _VARIANTS:
        raise LabError(f"image variant {variant!r}: one of {', '.join(sorted(_VARIANTS))}")
    return [*_PACKAGES, *(["docker-cli"] if suite in _DOCKER_CLI else []), *_VARIANTS[variant]]


def mirror() -> str:
    """The package archive this machine itself installs from."""
    chosen = os.environ.get("BULKHEAD_LAB_MIRROR")
    if chosen:
        return chosen
    codename = _os_release("VERSION_CODENAME")
    listing = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]).stdout
    for line in listing.splitlines():
        fields = line.split()
        if fields[1:] == [codename, "main"]:
            return fields[0]
    raise LabError(f"apt has no source for {codename} main; set BULKHEAD_LAB_MIRROR to a Debian archive")


def _os_release(key: str) -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _equals, value = line.partition("=")
        if name == key:
            return value.strip('"')
    return ""


def image(suite: str, variant: str = "") -> Path:
    """The finished root filesystem of a suite; builds it when it is missing or its recipe has changed."""
    wanted = packages(suite, variant)
    recipe = json.dumps([_FORMAT, suite, sorted(wanted), _LEAVE_OUT])
    name = "-".join(filter(None, [suite, variant, hashlib.sha256(recipe.encode()).hexdigest()[:12]]))
    images = paths.cache() / "images"
    images.mkdir(parents=True, exist_ok=True)
    target = images / name
    if target.is_dir():
        return target
    with _lock(images / f".{suite}{variant}.lock", f"image {name}"):
        if not target.is_dir():
            _build(suite, wanted, target)
            _drop_outdated(images, suite, variant, keep=name)
    return target


def _build(suite: str, wanted: list[str], target: Path) -> None:
    say(f"building the {suite} image, once (about half a minute)")
    begin = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    root = scratch / "root"
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--components=main"]
    argv += ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Languages none"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEAVE_OUT]
    argv += [f"--include={','.join(wanted)}", suite, str(root), mirror()]
    try:
        run(argv, timeout=900)
        os.rename(root, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"built the {suite} image in {time.monotonic() - begin:.0f} s")


def _drop_outdated(images: Path, suite: str, variant: str, keep: str) -> None:
    """Remove images of an older recipe that no host stands on."""
    mounts = Path("/proc/self/mounts").read_text()
    stem = "-".join(filter(None, [suite, variant]))
    for entry in images.glob(f"{stem}-*"):
        same_kind = entry.name.count("-") == keep.count("-")
        if same_kind and entry.name != keep and str(entry) not in mounts:
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _lock(path: Path, what: str) -> t.Iterator[None]:
    with open(path, "w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that builds {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
