# SPDX-License-Identifier: Apache-2.0
"""The crash matrix: whatever is cut, torn, refused or forgotten, the node is as it was, or as it should be.

Each test plays one share of one family of scenarios on one kind of node; `matrix.py` says what a scenario is. The families
that are largest are played by every so manyth scenario on the kinds of node that differ little from the first two;
`CGMIGRATE_MATRIX=all` plays all of them on all. The count is told at the end of a run of pytest.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.cases import VARIANTS, back, begin, difference, forward, machine_of, snapshot
from tests.crash.disk import Fate
from tests.crash.matrix import Expect, Go, families, good, play, scenarios

SHARES = 4
ALL = os.environ.get("CGMIGRATE_MATRIX") == "all"
FIRST = ("docker", "containerd")
EVERY = {
    "crashes": (1, 5),
    "torn": (1, 3),
    "torn-on-the-way-back": (3, 7),
    "crashes-on-the-way-back": (1, 5),
    "crashes-twice": (7, 11),
    "refusals": (5, 7),
    "refusals-on-the-way-back": (5, 7),
    "refusals-then-resume": (1, 3),
    "refusals-then-crashes": (5, 7),
    "refusals-in-the-second-go": (5, 7),
    "cuts-after-the-end": (3, 5),
    "units-that-do-not": (2, 4),
    "api-away": (5, 5),
}
"""Family → each so manyth scenario on the first two kinds of node, and on the others. Coprime to how many scenarios a family has for
each event, so that no mode, way, error or kind of fault is left out."""


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize(("variant", "family"), [(v, f) for v in VARIANTS for f in families(v)])
def test_every_scenario_ends_right(
    variant: str, family: str, share: int, record_property: Callable[[str, object], None]
) -> None:
    every = 1 if ALL else EVERY[family][variant not in FIRST]
    known = scenarios(variant, family, share, SHARES)
    # The first of them moves with the kind of node, so that together they meet all.
    mine = known[list(VARIANTS).index(variant) % every :: every]
    assert mine
    record_property("scenarios", len(mine))
    record_property("scenarios in all", len(known))

    wrong = [f"{scenario}\n  {said}" for scenario in mine if (said := play(variant, scenario))]

    assert not wrong, f"{len(wrong)} of {len(mine)}:\n" + "\n".join(wrong[:10])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_good_run_passes_through_hundreds_of_events_both_ways(variant: str) -> None:
    run = good(variant)

    assert min(len(run.forward), len(run.back)) > 150
    assert {"fsync", "rename", "start", "stop", "reload", "remove a container"} <= {
        e.call for e in run.forward
    }
    assert run.first != run.last


def test_a_scenario_that_ends_wrong_is_told() -> None:
    assert "files: " in play("docker", (Go("forward"), Go("back"), Expect("last")))
    assert "units: " in play("docker", (Go("forward"), Expect("first")))
    assert "not settled" in play("docker", (Go("forward", crash_at=100), Expect("first")))
    assert "before its crash" in play("docker", (Go("forward", crash_at=100_000), Expect("last")))


@pytest.mark.parametrize("variant", ["worker", "control-plane"])
def test_a_node_that_was_cordoned_before_stays_so_both_ways_and_bears_no_mark(
    tmp_path: Path, variant: str
) -> None:
    machine = machine_of(variant, tmp_path / "node")
    assert machine.api is not None
    machine.api.node["spec"]["unschedulable"] = True
    run = begin(machine, variant)

    for way, ending in ((forward, "done"), (back, "rolled back")):
        assert ending == way(machine, run)
        assert {"unschedulable": True} == machine.api.node["spec"]
        assert {} == machine.api.node["metadata"]["annotations"]
    machine.disk.close()


def test_what_an_api_server_that_is_away_leaves_is_told_until_it_is_done(tmp_path: Path) -> None:
    machine = machine_of("worker", tmp_path / "node")
    assert machine.api is not None
    run = begin(machine, "worker")
    assert "done" == forward(machine, run)
    machine.api.away = True

    assert "left" == back(machine, run)

    assert ["wait", "edit"] == [
        word for each in run.state().left for word in ("edit", "wait") if f" {word} " in each
    ]
    machine.disk.close()


def test_a_way_back_that_cannot_be_guarded_changes_nothing(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    run = begin(machine, "docker")
    assert "done" == forward(machine, run)
    finished = snapshot(machine)

    assert "interrupted" == back(machine, run, Fate(fail_at=1, error=errno.ENOSPC, lasting=True))

    assert "" == difference(finished, snapshot(machine))
    machine.cut_power(forget=True)
    assert "" == difference(finished, snapshot(machine))
    assert "rolled back" == back(machine, run)
    assert [] == machine.violations
    machine.disk.close()
