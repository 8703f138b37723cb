# SPDX-License-Identifier: Apache-2.0
"""The crash matrix: whatever is cut, torn, refused or forgotten, the node is as it was, or as it should be.

Each test plays one share of one family of scenarios on one kind of node; `matrix.py` says what a scenario is. The families
that are largest are played by every so manyth scenario on the kinds of node that differ little from the first two;
`CGMIGRATE_MATRIX=all` plays all of them on all. The count is told at the end of a run of pytest.
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.cases import (
    VARIANTS,
    back,
    begin,
    begin_with,
    difference,
    forward,
    machine_of,
    planned,
    snapshot,
    stale_units,
)
from tests.crash.disk import Fate
from tests.crash.matrix import Expect, Go, families, good, play, scenarios, steps

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


def test_a_directory_made_for_a_new_file_goes_also_where_the_file_was_never_written() -> None:
    made = next(
        e.number for e in good("no-directory").forward if (e.call, e.what) == ("mkdir", "/etc/docker")
    )

    wrong = [
        play("no-directory", (Go("forward", crash_at=number), Go("back"), Expect("first")))
        for number in range(made, made + 8)
    ]

    assert [""] * 8 == wrong


def test_a_run_of_an_older_version_that_writes_one_file_under_two_names_ends_right(tmp_path: Path) -> None:
    plan, facts = planned("two-names")
    twice = copy.deepcopy(dict(plan.document))
    last = max(n for n, each in enumerate(twice["steps"]) if each["kind"] == "write-file")
    path = twice["steps"][last]["params"]["path"]
    link = VARIANTS["two-names"].links[0][0]
    other = copy.deepcopy(twice["steps"][last])
    other |= {"id": f"write-file:{link}", "params": other["params"] | {"path": link, "real_path": path}}
    twice["steps"].insert(last + 1, other)
    written = f"/.{Path(path).name}.cgmigrate-new"
    at = next(each.number for each in good("two-names").forward if each.what.endswith(written))
    wrong = []
    for number, way in itertools.product(range(at, at + 16), (back, forward)):
        machine = machine_of("two-names", tmp_path / f"{number}{way.__name__}")
        first = snapshot(machine)
        run = begin_with(machine, replace(plan, document=twice), facts)
        assert "crashed" == forward(machine, run, Fate(crash_at=number))
        ends = [way(machine, run), back(machine, run)]
        wrong += [f"{number} {ends}: {each}" for each in [difference(first, snapshot(machine))] if each]
        machine.disk.close()
    assert [] == wrong


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

    assert "refused" == back(machine, run, Fate(fail_at=1, error=errno.ENOSPC, lasting=True))

    assert "" == difference(finished, snapshot(machine))
    machine.cut_power(forget=True)
    assert "" == difference(finished, snapshot(machine))
    assert "rolled back" == back(machine, run)
    assert [] == machine.violations
    machine.disk.close()


@pytest.mark.parametrize("variant", ["docker", "containerd"])
def test_a_journal_that_lost_its_tail_is_refused_or_taken_back_right(tmp_path: Path, variant: str) -> None:
    """As a line-wise cut makes it, by hand or by a backup; nothing but the node tells what is missing."""
    wrong = []
    for kept in itertools.count():
        machine = machine_of(variant, tmp_path / f"node{kept}")
        first = snapshot(machine)
        run = begin(machine, variant)
        assert "done" == forward(machine, run)
        lines = run.journal.read_bytes().splitlines(keepends=True)
        run.journal.write_bytes(b"".join(lines[:kept]))
        finished = snapshot(machine)

        told = back(machine, run)

        expected = first if told == "rolled back" else finished
        wrong += [f"{kept}, {told}: {each}" for each in [difference(expected, snapshot(machine))] if each]
        wrong += [f"{kept}: {unit} runs with what is not on the disk" for unit in stale_units(machine)]
        machine.disk.close()
        if kept == len(lines):
            break
    assert [] == wrong


@pytest.mark.parametrize("kept", [0, 1])
def test_an_open_run_whose_journal_was_emptied_is_refused_or_taken_back_right(
    tmp_path: Path, kept: int
) -> None:
    wrong = []
    for at in steps(good("containerd").forward):
        machine = machine_of("containerd", tmp_path / f"node{at}")
        first = snapshot(machine)
        run = begin(machine, "containerd")
        assert "crashed" == forward(machine, run, Fate(crash_at=at))
        run.journal.write_bytes(b"".join(run.journal.read_bytes().splitlines(keepends=True)[:kept]))
        crashed = snapshot(machine)

        told = back(machine, run)

        expected = first if told == "rolled back" else crashed
        wrong += [f"{at}, {told}: {each}" for each in [difference(expected, snapshot(machine))] if each]
        machine.disk.close()
    assert [] == wrong
