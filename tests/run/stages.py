# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stages of a test run: what each one starts, and whether it needs the test hosts."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

from run.step import Step
from run.tree import ROOT, python_files


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run happens: the copy of the collection, the tools, the output, and a scratch directory."""

    tree: Path
    bin_dir: Path
    output: Path
    work: Path


@dataclasses.dataclass(frozen=True)
class Stage:
    """A named part of the run. Stages with ``hosts`` share a lane, as they share the test hosts."""

    name: str
    title: str
    steps: t.Callable[[Place], list[Step]]
    hosts: bool = False


def pytest_step(place: Place, name: str, what: str, *, live: bool, timeout: float = 1800.0) -> Step:
    """Make a pytest step that counts by its JUnit file."""
    from run.compat import counter

    junit = place.output / f"{name}.xml"
    verbose = ["-v", "--durations=15"] if live else ["-q"]
    argv = [str(place.bin_dir / "python"), "-m", "pytest", *verbose, "-rs", what, f"--junitxml={junit}", "--color=no"]
    return Step(f"pytest {what}", argv, ROOT, {}, counter(junit), live=live, timeout=timeout)


def unit(place: Place) -> list[Step]:
    """Unit tests here, and the target-side files on the oldest Python that a host may have."""
    from run.pythons import find_pythons

    steps = [pytest_step(place, "unit", "tests/unit", live=False)]
    title = "target-side files on Python 3.8"
    oldest = find_pythons().get("3.8")
    if oldest is None:
        return [*steps, Step(title, skip="no Python 3.8 on this machine; sanity checks the versions there are")]
    import ansible

    only_ansible = place.work / "only-ansible"
    only_ansible.mkdir(exist_ok=True)
    link = only_ansible / "ansible"
    if not link.is_symlink():
        link.symlink_to(Path(ansible.__path__[0]))
    argv = [str(oldest), "-I", str(ROOT / "tests/run/target_check.py"), str(place.tree.parents[2]), str(only_ansible)]
    return [*steps, Step(title, argv, place.work)]


def lint(place: Place) -> list[Step]:
    """Static checks, each with its own configuration file at the root."""
    tree = place.tree

    def tool(name: str) -> str:
        return str(place.bin_dir / name)

    types = {"MYPYPATH": f"{tree.parents[2]}:{tree / 'tests'}"}
    mypy = [tool("mypy"), "--cache-dir", str(place.output / "mypy"), "--config-file", str(tree / "pyproject.toml")]
    plugins = "ansible_collections.bulkhead.docker_nftables.plugins.module_utils"
    packages = [name for name in ("lab", "run", "demo", "bench", "fuzz", "world") if python_files(tree, f"tests/{name}")]
    steps = [
        Step("ruff", [tool("ruff"), "check", "--no-cache", "."], tree),
        Step("mypy plugins/module_utils", [*mypy, "-p", plugins], tree, types),
        Step(f"mypy tests: {' '.join(packages)}", [*mypy, *sum((["-p", name] for name in packages), [])], tree, types),
        Step("yamllint", [tool("yamllint"), "--strict", "."], tree),
    ]
    books = [name for name in ("roles", "playbooks", "molecule") if (tree / name).is_dir()]
    env = {"ANSIBLE_COLLECTIONS_PATH": str(tree.parents[2]), "ANSIBLE_HOME": str(place.work / "ansible-lint")}
    argv = [tool("ansible-lint"), "--offline", "--profile", "production", "--strict", "--nocolor", *books]
    if books:
        steps.append(Step(f"ansible-lint (production): {' '.join(books)}", argv, tree, env))
    else:
        steps.append(Step("ansible-lint", skip="there are no roles, playbooks or scenarios yet"))
    steps.append(Step("antsibull-changelog lint", [tool("antsibull-changelog"), "lint"], tree))
    docs = [tool("antsibull-docs"), "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", str(tree)]
    steps.append(Step("antsibull-docs lint", docs, tree, env))
    shell = [".ci/run"] if (tree / ".ci/run").is_file() else []
    steps.append(Step("shellcheck", ["shellcheck", *shell], tree))
    return steps


def sanity(place: Place) -> list[Step]:
    """All of ansible-test sanity."""
    from run.sanity import sanity_steps

    return sanity_steps(place.tree, place.bin_dir)


def importer(place: Place) -> list[Step]:
    """Galaxy's own checks on the built artefact."""
    from run.importer import importer_steps

    return importer_steps(place.tree, place.bin_dir, place.work / "importer")


def compat(place: Place) -> list[Step]:
    """Older controllers."""
    from run.compat import compat_steps

    return compat_steps(place.tree, place.output)


def integration(place: Place) -> list[Step]:
    """Tests on real hosts."""
    if os.geteuid() != 0:
        return [Step("pytest tests/integration", skip="test hosts need root")]
    return [pytest_step(place, "integration", "tests/integration", live=True, timeout=3900)]


def fuzz(place: Place) -> list[Step]:
    """The analyser of exposure against the running kernel."""
    return [pytest_step(place, "fuzz", "tests/fuzz", live=True)]


def molecule(place: Place) -> list[Step]:
    """Molecule from the repository root: its scenarios use the same test hosts."""
    scenarios = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
    if not scenarios:
        return [Step("molecule", skip="there are no scenarios in molecule/ yet")]
    if os.geteuid() != 0:
        return [Step("molecule", skip="test hosts need root")]
    env = {
        "ANSIBLE_HOME": str(place.work / "molecule"),
        "ANSIBLE_COLLECTIONS_PATH": str(place.tree.parents[2]),
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
    }
    argv = [str(place.bin_dir / "molecule"), "test", "--all"]
    return [Step(f"molecule test: {' '.join(scenarios)}", argv, ROOT, env, live=True, timeout=1500)]


STAGES = (
    Stage("unit", "unit tests, and target-side Python on 3.8", unit),
    Stage("lint", "ruff, mypy, yamllint, ansible-lint, changelog and documentation", lint),
    Stage("sanity", "ansible-test sanity", sanity),
    Stage("importer", "the built collection and galaxy-importer", importer),
    Stage("fuzz", "random rulesets and packets against the kernel", fuzz),
    Stage("compat", "unit tests and playbook syntax on older ansible-core", compat),
    Stage("integration", "tests on real hosts", integration, hosts=True),
    Stage("molecule", "molecule scenarios on real hosts", molecule, hosts=True),
)
