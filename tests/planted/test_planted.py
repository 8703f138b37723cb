# SPDX-License-Identifier: Apache-2.0
"""The list of planted bugs does not rot: each can still be planted. That each is caught, `make planted` shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bugs import BUGS
from tests.planted.run import UNKNOWN, told

PRODUCT = Path(__file__).resolve().parents[2] / "migrator"


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_can_be_planted(name: str) -> None:
    bug = BUGS[name]

    assert 1 == (PRODUCT / bug.file).read_text().count(bug.old)
    compile((PRODUCT / bug.file).read_text().replace(bug.old, bug.new), bug.file, "exec")


def test_there_are_more_than_twelve() -> None:
    assert len(BUGS) > 12


SLOW = "FAILED tests/crash/test_matrix.py::test_a[x] - Failed: Timeout (>900.0s) from pytest-timeout.\n"


@pytest.mark.parametrize(
    ("out", "caught"),
    [
        (
            "FAILED tests/unit/test_host.py::test_b - AssertionError: assert 1 == 2\n",
            "tests/unit/test_host.py::test_b",
        ),
        (
            f"{SLOW}FAILED tests/unit/test_host.py::test_b - AssertionError\n",
            "tests/unit/test_host.py::test_b",
        ),
        (SLOW, f"{UNKNOWN}: tests/crash/test_matrix.py::test_a[x] took too long"),
    ],
    ids=["a failure", "a failure and a test that took too long", "a test that took too long"],
)
def test_a_test_that_takes_too_long_catches_no_bug(out: str, caught: str) -> None:
    assert caught == told(1, out, "")


def test_pytest_that_ends_without_a_failure_is_no_answer() -> None:
    with pytest.raises(SystemExit, match="no failure"):
        told(3, "INTERNALERROR", "")
