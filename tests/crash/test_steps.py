# SPDX-License-Identifier: Apache-2.0
"""What the matrix found in steps and engine, each in its smallest form, so that it is found again in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.interrupt import Interrupt
from migrator.session import engine_of
from migrator.steps import Where
from migrator.steps.cgroup import RemoveCgroups, _tops
from migrator.steps.file import WriteFile, digest
from migrator.steps.unit import StartUnit, StopUnit
from tests.crash.cases import QUIET, back, begin, difference, forward, machine_of, snapshot
from tests.crash.disk import Fate
from tests.crash.matrix import good
from tests.crash.simulator import doors

FOREVER = float("inf")


def test_a_unit_that_runs_as_it_did_before_was_not_started(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    step = StartUnit({"units": ["docker.service"]})

    with engine_of(doors(machine), begin(machine, "docker"), QUIET, Interrupt()) as engine:
        captured = step.capture(engine.hands)
        assert Where.BEFORE is step.where(engine.hands, captured)
        engine.hands.control.restart("docker.service")
        assert Where.AFTER is step.where(engine.hands, captured)
    machine.disk.close()


def test_undoing_a_stop_starts_anew_what_somebody_has_started_meanwhile(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    step = StopUnit({"units": ["kubelet.service"]})

    with engine_of(doors(machine), begin(machine, "docker"), QUIET, Interrupt()) as engine:
        captured = step.capture(engine.hands)
        step.apply(engine.hands)
        machine.start("kubelet.service")
        theirs = machine.units["kubelet.service"].invocation
        step.revert(engine.hands, captured)
    machine.disk.close()

    assert "active" == machine.units["kubelet.service"].active
    assert theirs != machine.units["kubelet.service"].invocation


@pytest.mark.parametrize("variant", ["docker", "containerd"])
def test_the_guard_keeps_every_unit_down_on_a_boot_in_the_middle(tmp_path: Path, variant: str) -> None:
    machine = machine_of(variant, tmp_path / "node")
    run = begin(machine, variant)
    stop = next(e.number for e in good(variant).forward if e.call == "stop")
    assert {"active"} == {each.active for each in machine.units.values()}

    assert "crashed" == forward(machine, run, Fate(crash_at=stop))
    machine.cut_power(forget=True)

    assert {"inactive"} == {each.active for each in machine.units.values()}
    machine.disk.close()


def test_a_slice_that_somebody_moved_processes_into_stays_on_the_way_back_and_the_others_go(
    tmp_path: Path,
) -> None:
    machine = machine_of("docker", tmp_path / "node")
    trees = ["/kube_reserved.slice", "/system_reserved.slice"]
    step = RemoveCgroups({"trees": trees, "leave_populated": True, "direction": "back"})

    with engine_of(doors(machine), begin(machine, "docker"), QUIET, Interrupt()) as engine:
        mount = _tops(engine.hands, ["/"])[0].rstrip("/")
        for tree, pids in zip(trees, ("4242\n", ""), strict=True):
            directory = machine.root / mount[1:] / tree[1:]
            directory.mkdir()
            (directory / "cgroup.procs").write_text(pids)
        step.revert(engine.hands, {})
        left = engine.hands.leftovers()
        stays = _tops(engine.hands, trees)
    machine.disk.close()

    assert [f"{mount}/kube_reserved.slice"] == stays
    assert ["ps -fp 4242"] == [each.partition("  #")[0] for each in left]


def test_a_file_that_was_not_there_goes_again_and_its_directories_with_it(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    run = begin(machine, "docker")
    after = run.put_blob(b"new")
    step = WriteFile({"path": "/etc/new/a/file", "before": {"sha256": ""}, "after": {"sha256": after}})

    with engine_of(doors(machine), run, QUIET, Interrupt()) as engine:
        captured = step.capture(engine.hands)
        step.apply(engine.hands)
        assert b"new" == (machine.root / "etc/new/a/file").read_bytes()
        step.revert(engine.hands, captured)

    assert not (machine.root / "etc/new").exists()
    machine.disk.close()


def test_a_file_that_was_edited_since_is_kept_beside_what_comes_back(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    run = begin(machine, "docker")
    file = machine.root / "etc/docker/daemon.json"
    old = file.read_bytes()
    params = {"path": "/etc/docker/daemon.json", "before": {"sha256": digest(old)}}
    step = WriteFile({**params, "after": {"sha256": run.put_blob(b"new")}})
    run.put_blob(old)

    with engine_of(doors(machine), run, QUIET, Interrupt()) as engine:
        captured = step.capture(engine.hands)
        step.apply(engine.hands)
        file.write_bytes(b"theirs")
        step.revert(engine.hands, captured)

    assert (old, b"theirs") == (file.read_bytes(), file.with_name("daemon.json.cgmigrate-saved").read_bytes())
    machine.disk.close()


def test_a_run_that_was_taken_back_is_not_taken_back_again(tmp_path: Path) -> None:
    """Two can ask to roll back, and one of them answers later than the other has done it."""
    machine = machine_of("docker", tmp_path / "node")
    first = snapshot(machine)
    run = begin(machine, "docker")
    forward(machine, run)
    stop = next(e.number for e in good("docker").back if e.call == "stop" and e.what == "kubelet.service")
    noted = next(
        e.number for e in good("docker").back if e.number > stop and e.call == "write" and "journal" in e.what
    )
    assert "rolled back" == back(machine, run, Fate(fail_at=noted, error=5))
    records = len(run.records())

    assert "rolled back" == back(machine, run)

    assert records == len(run.records())
    assert "" == difference(first, snapshot(machine))
    machine.disk.close()


def test_what_a_resume_starts_after_the_guard_is_gone_leaves_no_marker_in_run(tmp_path: Path) -> None:
    machine = machine_of("docker", tmp_path / "node")
    run = begin(machine, "docker")
    assert "crashed" == forward(machine, run, Fate(crash_at=len(good("docker").forward)))
    machine.stop("kubelet.service")

    assert "done" == forward(machine, run)

    assert "" == difference(good("docker").last, snapshot(machine))
    machine.disk.close()


@pytest.mark.parametrize(("variant", "uncordons"), [("worker", 1), ("cordoned", 0)])
def test_who_is_left_to_end_a_run_uncordons_only_what_the_run_has_cordoned(
    tmp_path: Path, variant: str, uncordons: int
) -> None:
    machine = machine_of(variant, tmp_path / "node")
    run = begin(machine, variant)

    # Away from the request on that looks for the run's mark: behind it are the uncordon, if there is one, and the unmarking.
    assert "left" == forward(
        machine, run, Fate(away_at=good(variant).asked[0] - uncordons - 1, away_for=FOREVER)
    )

    assert uncordons == sum(" uncordon " in each for each in run.state().left)
    assert 1 == sum(" annotate " in each for each in run.state().left)
    machine.disk.close()


def test_a_cordon_of_before_is_nobodys_to_lift_when_its_mark_is_gone(tmp_path: Path) -> None:
    machine = machine_of("cordoned", tmp_path / "node")
    run = begin(machine, "cordoned")
    forward(machine, run)
    assert machine.api is not None

    # Its mark cannot be set: the API server is away for that moment, and there again at the end.
    assert "rolled back" == back(machine, run, Fate(away_at=3, away_for=45))

    assert [] == run.state().left
    assert {"unschedulable": True} == machine.api.node["spec"]
    machine.disk.close()
