# Copyright (c) 2026, bulkhead contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from run.importer import count_importer, count_strays
from run.report import from_junit
from run.sanity import count_sanity

CASES = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="no"/></testcase>
<testcase classname="a" name="broken"><error message="fixture"/></testcase>
<testcase classname="a" name="left_out"><skipped type="pytest.skip" message="needs root"/></testcase>
</testsuite></testsuites>"""

SANITY = """Running sanity test "compile" on Python 3.8
Running sanity test "pylint"
ERROR: Found 1 pylint issue(s) which need to be resolved:
Running sanity test "pslint"
No tests applicable.
Running sanity test "shellcheck"
WARNING: Required program "shellcheck" not found.
WARNING: Skipping sanity test "import" on Python 3.9 because it could not be found.
"""
FATAL = "FATAL: The 1 sanity test(s) listed below (out of 4) failed. See error output above for details.\npylint\n"


def test_a_junit_file_is_counted_case_by_case(tmp_path: Path) -> None:
    file = tmp_path / "x.xml"
    file.write_text(CASES)
    counts = from_junit("x", 1, file)
    assert (counts.passed, counts.failed, counts.skipped) == (1, 2, 1)
    assert counts.failures == ["a::bad", "a::broken"]
    assert counts.skips == ["a::left_out: needs root"]


def test_pytest_that_dies_without_a_failed_test_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "x.xml"
    file.write_text(CASES.replace("failure", "system-out").replace("error", "system-err"))
    assert from_junit("x", 3, file).failed == 1
    assert from_junit("x", 0, file).failed == 0
    assert from_junit("x", 2, tmp_path / "absent.xml").failed == 1


def test_no_tests_at_all_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "x.xml"
    file.write_text("<testsuites/>")
    assert from_junit("x", 5, file).failed == 1


def test_sanity_counts_what_ran_and_names_what_could_not() -> None:
    counts = count_sanity("sanity", 1, SANITY + FATAL)
    assert (counts.passed, counts.failed, counts.skipped) == (1, 1, 2)
    assert counts.failures == ["ansible-test sanity --test pylint"]


def test_sanity_that_stops_early_is_a_failure() -> None:
    assert count_sanity("sanity", 1, 'Running sanity test "compile" on Python 3.8\nTraceback\n').failed == 1
    assert count_sanity("sanity", 0, "").failed == 1


def test_the_importer_must_say_that_it_was_successful() -> None:
    good = "WARNING: something\nImporter processing completed successfully\n"
    assert count_importer("x", 0, good).failed == 0
    assert count_importer("x", 0, "").failed == 1
    assert count_importer("x", 0, "ERROR: no readme\n" + good).failed == 1


def test_working_files_in_the_artefact_are_found() -> None:
    assert count_strays("x", 0, "plugins/modules/a.py\nroles/x/tasks/main.yml\n").failed == 0
    assert count_strays("x", 0, "plugins/modules/a.py\n.venv/bin/python\n").failed == 1
    assert count_strays("x", 0, "plugins/__pycache__/a.pyc\n").failed == 1
