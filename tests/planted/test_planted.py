# SPDX-License-Identifier: Apache-2.0
"""The list of planted bugs does not rot: each can still be planted. That each is caught, `make planted` shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bugs import BUGS

PRODUCT = Path(__file__).resolve().parents[2] / "migrator"


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_can_be_planted(name: str) -> None:
    bug = BUGS[name]

    assert 1 == (PRODUCT / bug.file).read_text().count(bug.old)
    compile((PRODUCT / bug.file).read_text().replace(bug.old, bug.new), bug.file, "exec")


def test_there_are_more_than_twelve() -> None:
    assert len(BUGS) > 12
