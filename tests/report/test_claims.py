# SPDX-License-Identifier: Apache-2.0
"""A report says no more than the record of the run proves; each on a run of the real engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.journal import Run
from migrator.report import read, report
from migrator.report.lines import render as lines
from migrator.report.model import Report
from migrator.report.page import render as page
from tests.cli.test_offline import cgmigrate
from tests.report import runs

MADE = "2026-11-23T12:00:00Z"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


def told(run: Run) -> Report:
    return report(read(run), MADE)


def says(found: Report, words: str) -> list[bool]:
    """Tell for page and text whether they say so, wherever they fold."""
    return [words in " ".join(each(found).split()) for each in (page, lines)]


def is_green(found: Report) -> bool:
    return '<p class="summary"><span class="badge good">' in page(found)


def test_a_way_back_that_left_something_to_do_is_not_as_it_was_before(root: Path) -> None:
    found = told(runs.away(root))

    states = {each.name: each.state for each in found.changes}
    assert "The run was rolled back, but for what is left to do by hand." == found.summary
    assert ("rolled-back", False) == (found.status, is_green(found))
    assert any("edit configmap" in each for each in found.left)
    assert ("not restored", {"restored"}) == (
        states.pop("ConfigMap kube-system/kubelet-config-1.20"),
        set(states.values()),
    )


def test_a_node_that_was_not_healthy_after_the_way_back_is_told_so_everywhere(root: Path) -> None:
    found = told(runs.unwell(root))
    status = cgmigrate("status", "--root", root).stdout

    assert "not as healthy afterwards" in found.summary
    assert ("rolled-back", False) == (found.status, is_green(found))
    assert ["static pods not running yet" in each.error for each in found.failed] == [True]
    assert [True, True] == says(found, "static pods not running yet: default/late")
    assert "static pods not running yet: default/late" in status


def test_a_boot_under_the_guard_is_an_outage_of_which_the_begin_is_not_known(root: Path) -> None:
    found = told(runs.rebooted(root))

    assert [("forward", True, True), ("forward", False, True)] == [
        (each.direction, bool(each.began), bool(each.ended)) for each in found.outages or ()
    ]
    assert found.outages is not None
    assert found.outages[-1].seconds is None
    assert [True, True] == says(found, "not known: the node was booted again")


GREEN: dict[str, tuple[Callable[[Path], Run], bool]] = {
    "finished": (runs.finished, True),
    "taken back": (runs.taken_back, True),
    "failed": (runs.failed, True),
    "dirty": (runs.dirty, False),
    "crashed": (runs.crashed, False),
}


@pytest.mark.parametrize(("make", "green"), GREEN.values(), ids=GREEN)
def test_only_a_run_at_its_end_is_green(root: Path, make: Callable[[Path], Run], green: bool) -> None:
    assert green is is_green(told(make(root)))
