# SPDX-License-Identifier: Apache-2.0
"""The real command is killed at every fsync; what it leaves goes on to the end and back to the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.command import Prepared, kill, settle

SHARES = 6
"""Parts of the table that run beside each other."""


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("direction", ["apply", "rollback", "resume"])
def test_killed_at_any_fsync_it_goes_on_and_goes_back(
    prepared: Prepared, tmp_path: Path, direction: str, share: int
) -> None:
    wrong = []
    fsyncs = [each for each in prepared.effects(direction) if each.call == "fsync"]
    for effect in fsyncs[share::SHARES]:
        node, words = prepared.begin(direction, tmp_path / "node")
        done = kill(effect, *words)
        ends = [f"exit code {done.code}"] if done.code != -9 else []
        wrong += [f"{effect}: {each}" for each in [*ends, *settle(prepared, node, tmp_path / "resumed")]]

    assert len(fsyncs) > SHARES
    assert not wrong, "\n".join(wrong)
