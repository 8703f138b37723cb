# SPDX-License-Identifier: Apache-2.0
"""A run that is being made is there whole or not at all, wherever the process ends and the power goes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from migrator.errors import HostError
from migrator.host import Host
from migrator.journal import Runs
from tests.crash.cases import back, begin, forward, machine_of, snapshot
from tests.crash.disk import Crash, Fate
from tests.crash.matrix import ERRORS, MEMORY

MODES = {"a killed process": None, "a power cut": False, "a power cut that forgets": True}


def events() -> int:
    """Return how many events the making of a run has."""
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        machine = machine_of("docker", Path(folder) / "node")
        begin(machine, "docker")
        return len(machine.disk.fate.events)


COUNT = events()


@pytest.mark.parametrize("mode", MODES)
def test_a_crash_leaves_no_half_run(tmp_path: Path, mode: str) -> None:
    assert COUNT > 20
    for number in range(1, COUNT + 1):
        machine = machine_of("docker", tmp_path / f"node-{number}")
        first = snapshot(machine)
        machine.disk.fate = Fate(crash_at=number)
        with suppress(Crash):
            begin(machine, "docker")
        machine.disk.fate = Fate()
        if (forget := MODES[mode]) is not None:
            machine.cut_power(forget=forget)

        left = Runs(Host(machine.root)).all()
        assert len(left) <= 1, number
        for run in left:
            assert "rolled back" == back(machine, run), number
        assert first == snapshot(machine), number
        again = begin(machine, "docker")
        assert "done" == forward(machine, again), number
        assert "rolled back" == back(machine, again), number
        assert first == snapshot(machine), number
        machine.disk.close()


@pytest.mark.parametrize("error", ERRORS)
def test_a_disk_that_refuses_is_an_error_and_changes_nothing(tmp_path: Path, error: int) -> None:
    for number in range(1, COUNT + 1):
        machine = machine_of("docker", tmp_path / f"node-{number}")
        first = snapshot(machine)
        machine.disk.fate = Fate(fail_at=number, error=error)

        with pytest.raises(HostError):
            begin(machine, "docker")

        machine.disk.fate = Fate()
        assert [] == Runs(Host(machine.root)).all() or number > COUNT - 2, number
        assert first == snapshot(machine), number
        machine.disk.close()
