# SPDX-License-Identifier: Apache-2.0
"""The engine on real files: the order of records and effects, crashes between them, failures on the way forward and back.

The steps here write lines into one file, so that the file is the history of effects. `Crash` ends a run where a process
would have been killed: nothing after it is executed, as after SIGKILL.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from migrator.engine import MAX_ATTEMPTS, Engine, Progress, fail_back
from migrator.errors import (
    ConflictError,
    DirtyError,
    HostError,
    InterruptedRunError,
    LeftToDoError,
    StepError,
)
from migrator.host import Host
from migrator.interrupt import Interrupt
from migrator.journal import Journal, Run, Runs
from migrator.kube import Kube, KubeControl
from migrator.plan_steps import PlannedStep
from migrator.records import Kind, Status
from migrator.steps import Hands, Sight, Undo, Where
from migrator.systemd import UnitControl


class Crash(BaseException):
    """The process is gone."""


class Line:
    """A step whose effect is one line in /state, and whose undo is that it is gone."""

    kind: ClassVar[str] = "line"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = True

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.name: str = params["name"]
        self.faults: dict[str, BaseException] = params.get("faults", {})

    def _fault(self, at: str) -> None:
        if fault := self.faults.pop(at, None):
            raise fault

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        self._fault("where")
        return Where.AFTER if self.name in lines(look.reader.root) else Where.BEFORE

    def capture(self, look: Sight) -> Undo:
        self._fault("capture")
        return {"before": sorted(lines(look.reader.root))}

    def apply(self, hands: Hands) -> None:
        self._fault("apply before")
        write(hands.host.root, [*lines(hands.host.root), self.name])
        self._fault("apply after")

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        self._fault("revert before")
        write(hands.host.root, [line for line in lines(hands.host.root) if line != self.name])
        self._fault("revert after")


class VolatileLine(Line):
    """The same, of a kind that a reboot takes away."""

    kind: ClassVar[str] = "volatile"
    volatile: ClassVar[bool] = True


def lines(root: Path) -> list[str]:
    state = root / "state"
    return state.read_text().split() if state.exists() else []


def write(root: Path, content: list[str]) -> None:
    (root / "state").write_text("".join(f"{line}\n" for line in content))


def make_run(tmp_path: Path) -> Run:
    return Runs(Host(tmp_path)).create("cd" * 32, b"{}", b"{}", [])


def engine(run: Run, tmp_path: Path, *steps: Line, boot: str = "boot-1") -> Engine:
    host = Host(tmp_path)
    units = UnitControl(host)
    journal = Journal(run, boot)

    def no_facts() -> Any:
        raise HostError("no facts")

    def no_runtime(kind: str, socket: str) -> Any:
        raise HostError(f"no {kind} at {socket}")

    told: list[Progress] = []
    hands = Hands(
        reader=host,
        units=units,
        runtime_reader=no_runtime,
        say=lambda _: None,
        check=Interrupt().check,
        run=run.name,
        begun=no_facts,
        kube=lambda kubeconfig: Kube(host, kubeconfig),
        answers=lambda _: False,
        driver_in_force=lambda kind, _: (kind, ""),
        verify=lambda *_: (),
        host=host,
        control=units,
        blob=run.blob,
        runtime_control=no_runtime,
        kube_control=lambda kubeconfig: KubeControl(host, kubeconfig),
        ask=lambda question: question.default,
        left=lambda command: journal.write(Kind.LEFT, command=command),
        leftovers=lambda: journal.state.left,
    )
    planned = [
        (PlannedStep(id=step.name, kind=step.kind, why="", params={"path": f"/{step.name}"}), step)
        for step in steps
    ]
    return Engine(steps=planned, journal=journal, hands=hands, tell=told.append)


def step(name: str, cls: type[Line] = Line, **faults: BaseException) -> Line:
    return cls({"name": name, "faults": {key.replace("_", " "): value for key, value in faults.items()}})


def kinds(run: Run) -> list[tuple[str, str]]:
    return [(record.kind.value, record.step) for record in run.records()]


def test_undo_is_on_disk_before_the_change_and_a_record_follows_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    engine(run, tmp_path, step("a"), step("b")).forward()

    each = [("captured", "applying", "applied"), ("captured", "applying", "applied")]
    assert [
        ("begin", ""),
        *[(kind, name) for name, kinds in zip("ab", each, strict=True) for kind in kinds],
        ("committed", ""),
    ] == kinds(run)
    assert ["a", "b"] == lines(tmp_path)


@pytest.mark.parametrize("at", ["apply before", "apply after"])
@pytest.mark.parametrize("then", ["resume", "rollback", "resume and rollback"])
@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_a_crash_in_a_step_ends_right_whatever_comes_then(
    tmp_path: Path, at: str, then: str, boot: str
) -> None:
    write(tmp_path, ["original"])
    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, step("a"), Line({"name": "b", "faults": {at: Crash()}}), step("c")).forward()

    steps = step("a"), step("b"), step("c")
    if "resume" in then:
        engine(run, tmp_path, *steps, boot=boot).forward()
        assert ["original", "a", "b", "c"] == lines(tmp_path)
        assert Status.COMMITTED is run.state().status
    if "rollback" in then:
        engine(run, tmp_path, *steps, boot=boot).back("test")
        assert ["original"] == lines(tmp_path)
        assert Status.ROLLED_BACK is run.state().status


@pytest.mark.parametrize("at", ["revert before", "revert after"])
def test_a_crash_on_the_way_back_goes_on_there(tmp_path: Path, at: str) -> None:
    run = make_run(tmp_path)
    engine(run, tmp_path, step("a"), step("b")).forward()
    with pytest.raises(Crash):
        engine(run, tmp_path, step("a"), Line({"name": "b", "faults": {at: Crash()}})).back("test")

    engine(run, tmp_path, step("a"), step("b")).back("again")

    assert [] == lines(tmp_path)
    assert Status.ROLLED_BACK is run.state().status


def test_after_a_reboot_what_it_took_away_is_done_again_and_the_rest_is_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(
            run,
            tmp_path,
            step("unit", VolatileLine),
            step("file"),
            Line({"name": "last", "faults": {"apply before": Crash()}}),
        ).forward()
    write(tmp_path, ["file"])  # the reboot

    engine(run, tmp_path, step("unit", VolatileLine), step("file"), step("last"), boot="boot-2").forward()

    assert ["file", "unit", "last"] == lines(tmp_path)


def test_a_failing_step_leaves_the_run_open_with_its_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    with pytest.raises(StepError, match="no way"):
        engine(run, tmp_path, step("a"), step("b", apply_before=StepError("no way"))).forward()

    state = run.state()
    assert (Status.APPLYING, "no way") == (state.status, state.reason)


def test_a_fault_of_our_own_is_a_failed_step_with_its_traceback_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    with pytest.raises(StepError, match="internal error in step a"):
        engine(run, tmp_path, step("a", apply_before=ZeroDivisionError("oops"))).forward()

    assert "ZeroDivisionError: oops" in (run.directory / "traceback.txt").read_text()


@pytest.mark.parametrize("at", ["capture", "apply_before", "apply_after"])
def test_a_fault_of_our_own_anywhere_in_a_step_is_taken_back(tmp_path: Path, at: str) -> None:
    run = make_run(tmp_path)
    failing = engine(run, tmp_path, step("a"), step("b", Line, **{at: ZeroDivisionError("oops")}))

    with pytest.raises(StepError, match="internal error in step b") as failed:
        failing.forward()

    assert ("failed", "") == kinds(run)[-1]
    assert "rolled back" in fail_back(failing, failed.value).message
    assert (Status.ROLLED_BACK, []) == (run.state().status, lines(tmp_path))


class FileLine(Line):
    """Stands for a file, of which a resume and a rollback look where it is before they do anything."""

    kind: ClassVar[str] = "write-file"


@pytest.mark.parametrize("kind", [Line, FileLine, VolatileLine])
def test_a_fault_of_our_own_in_a_look_is_taken_back_as_well(tmp_path: Path, kind: type[Line]) -> None:
    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, step("a"), step("b", kind, apply_after=Crash())).forward()
    resumed = engine(run, tmp_path, step("a"), step("b", kind, where=ZeroDivisionError("oops")))

    with pytest.raises(StepError, match="internal error in step b") as failed:
        resumed.forward()

    assert "rolled back" in fail_back(resumed, failed.value).message
    assert (Status.ROLLED_BACK, []) == (run.state().status, lines(tmp_path))


def test_a_fault_of_our_own_before_the_first_change_leaves_no_open_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    with pytest.raises(StepError, match="internal error in step b"):
        engine(run, tmp_path, step("a"), step("b", FileLine, where=ZeroDivisionError("oops"))).forward(
            new=True
        )

    assert (Status.ROLLED_BACK, []) == (run.state().status, lines(tmp_path))


def test_a_rollback_is_not_stopped_by_a_fault_of_our_own_in_a_look(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, step("a"), step("b", FileLine), step("c", apply_after=Crash())).forward()

    class Unbegun(FileLine):
        """A file whose step was never begun."""

    last = step("d", Unbegun, where=ZeroDivisionError("oops"))
    engine(run, tmp_path, step("a"), step("b", FileLine), step("c"), last).back("asked")

    assert (Status.ROLLED_BACK, []) == (run.state().status, lines(tmp_path))


def test_more_than_three_attempts_stop_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Crash):
            engine(run, tmp_path, step("a", apply_before=Crash())).forward()

    with pytest.raises(StepError, match="tried 3 times"):
        engine(run, tmp_path, step("a")).forward()
    engine(run, tmp_path, step("a")).back("gave up")

    assert Status.ROLLED_BACK is run.state().status


def test_a_failing_revert_does_not_stop_the_others_and_is_tried_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    engine(run, tmp_path, step("a"), step("b"), step("c")).forward()

    with pytest.raises(DirtyError, match="1 steps could not be taken back:\n  b: stuck"):
        engine(run, tmp_path, step("a"), step("b", revert_before=StepError("stuck")), step("c")).back("test")
    assert (["b"], Status.DIRTY) == (lines(tmp_path), run.state().status)

    engine(run, tmp_path, step("a"), step("b"), step("c")).back("test")
    assert ([], Status.ROLLED_BACK) == (lines(tmp_path), run.state().status)


def test_forward_stops_when_the_journal_cannot_be_written_and_nothing_is_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    going = engine(run, tmp_path, step("a"))
    break_journal(going)

    with pytest.raises(HostError, match="cannot write"):
        going.forward()

    assert [] == lines(tmp_path)


def test_rollback_goes_on_without_its_journal(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    engine(run, tmp_path, step("a"), step("b")).forward()
    going = engine(run, tmp_path, step("a"), step("b"))
    break_journal(going)

    with pytest.raises(DirtyError, match="the journal could not be written"):
        going.back("disk full")
    assert [] == lines(tmp_path)
    assert Status.COMMITTED is run.state().status

    engine(run, tmp_path, step("a"), step("b")).back("once more")
    assert Status.ROLLED_BACK is run.state().status


def break_journal(going: Engine) -> None:
    """Give the journal a disk that is full."""
    import os  # noqa: PLC0415

    os.close(going.journal._descriptor)
    going.journal._descriptor = os.open("/dev/full", os.O_RDWR)


def test_a_signal_stops_between_steps_and_the_run_can_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    interrupt = Interrupt()
    going = engine(run, tmp_path, step("a"))
    object.__setattr__(going.hands, "check", interrupt.check)
    interrupt(15, None)

    with pytest.raises(InterruptedRunError, match="SIGTERM"):
        going.forward()
    assert ("interrupted", "") == kinds(run)[-1]

    engine(run, tmp_path, step("a")).forward()
    assert ["a"] == lines(tmp_path)


class Elsewhere(Line):
    """A step that finds the node neither before nor after it."""

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        return Where.ELSEWHERE


def test_a_node_that_is_neither_before_nor_after_is_a_conflict_on_resume(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, step("a", apply_before=Crash())).forward()

    with pytest.raises(ConflictError, match="neither as before"):
        engine(run, tmp_path, Elsewhere({"name": "a"})).forward()


def test_every_kind_of_record_is_known_to_the_fold() -> None:
    """A record that the fold does not know would be lost on resume."""
    from migrator.records import Record, fold  # noqa: PLC0415

    for kind in Kind:
        fold([Record(number=1, time="", boot="", kind=kind, step="a", data={"undo": {}})])


class Leaves(Line):
    """A step that leaves a command to the operator, in the direction that it is told."""

    kind: ClassVar[str] = "leaves"

    def apply(self, hands: Hands) -> None:
        super().apply(hands)
        if "forward" in self.name:
            hands.left(f"do {self.name}")

    def revert(self, hands: Hands, undo: Undo) -> None:
        super().revert(hands, undo)
        if "back" in self.name:
            hands.left(f"undo {self.name}")


def test_a_run_that_leaves_a_command_is_committed_and_says_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    with pytest.raises(LeftToDoError, match="do forward"):
        engine(run, tmp_path, step("forward", Leaves), step("b")).forward()

    assert (Status.COMMITTED, ["do forward"]) == (run.state().status, run.state().left)
    assert ["forward", "b"] == lines(tmp_path)


def test_what_was_left_on_the_way_forward_is_no_longer_left_on_the_way_back(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(LeftToDoError):
        engine(run, tmp_path, step("forward", Leaves)).forward()

    engine(run, tmp_path, step("forward", Leaves)).back("asked")

    assert (Status.ROLLED_BACK, []) == (run.state().status, run.state().left)


def test_a_failed_run_that_is_back_and_leaves_a_command_tells_both(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    failing = engine(run, tmp_path, step("back", Leaves), step("b", apply_before=StepError("no disk")))
    with pytest.raises(StepError) as failed:
        failing.forward()

    with pytest.raises(DirtyError, match=r"(?s)no disk.*undo back"):
        fail_back(failing, failed.value)

    assert Status.ROLLED_BACK is run.state().status


class DrainLine(Line):
    """Stands for the drain on the way back: what fails there must stop the rollback before the outage."""

    kind: ClassVar[str] = "drain"

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        return Where.BEFORE


def test_a_rollback_stops_where_the_drain_is_held_and_goes_on_later(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    engine(run, tmp_path, step("a"), step("drain", DrainLine)).forward()
    held = engine(run, tmp_path, step("a"), step("drain", DrainLine, revert_before=StepError("budget web")))

    with pytest.raises(InterruptedRunError, match="budget web"):
        held.back("asked")

    assert ["a", "drain"] == lines(tmp_path)
    engine(run, tmp_path, step("a"), step("drain", DrainLine)).back("asked")
    assert (Status.ROLLED_BACK, []) == (run.state().status, lines(tmp_path))


class StopLine(Line):
    """Stands for the stop of the kubelet, the first step that makes the node's pods go."""

    kind: ClassVar[str] = "stop-unit"


def test_a_drain_is_done_again_by_a_resume_until_a_unit_is_being_stopped(tmp_path: Path) -> None:
    def steps(**faults: BaseException) -> tuple[Line, Line, Line]:
        faulty = {name: {"apply_before": fault} for name, fault in faults.items()}
        return (
            step("d", DrainLine),
            step("m", Line, **faulty.get("m", {})),
            step("s", StopLine, **faulty.get("s", {})),
        )

    run = make_run(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, *steps(m=Crash())).forward()
    assert ["d"] == lines(tmp_path)
    with pytest.raises(Crash):
        engine(run, tmp_path, *steps(s=Crash())).forward()
    assert ["d", "d", "m"] == lines(tmp_path)
    engine(run, tmp_path, *steps()).forward()
    assert ["d", "d", "m", "s"] == lines(tmp_path)
