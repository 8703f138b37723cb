# SPDX-License-Identifier: Apache-2.0
"""The engine: takes a run forward or back, one journalled step at a time.

Forward: the undo of a step is on disk before its change, and a record follows each change. Back: every step that has an
undo is reverted in reverse order; one that fails does not stop the others. After a crash both go on where the journal
ends: what lives only until a reboot (a unit's state) is looked at again when the boot is another one.
"""

from __future__ import annotations

import contextlib
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from migrator.errors import (
    CgmigrateError,
    ConflictError,
    DirtyError,
    HostError,
    InterruptedRunError,
    LeftToDoError,
    RolledBackError,
    StepError,
)
from migrator.facts.units import GUARD
from migrator.journal import Journal
from migrator.plan_steps import PlannedStep
from migrator.records import Kind, Status
from migrator.steps import Hands, Step, Where
from migrator.steps.awake import wake

MAX_ATTEMPTS = 3
_SEEN_AGAIN = frozenset({"assert-driver", "wait-healthy", "wait-ready", "verify", "uncordon"})
"""Steps that only look, or undo a cordon of ours where there is one. A resume looks again: what was seen before says little
of what somebody, or a way back that the disk let nobody write down, has done since."""
_NO_LESS_TAKEN_BACK = frozenset({"wait-healthy", "wait-ready"})
"""Steps whose failing revert leaves the node with its old files and units, and is told at the end."""
_STOPS_THE_WAY_BACK = {
    # The switch would stop the pods against a budget.
    "drain": (
        "at its drain, and nothing but that was done",
        "the node stays cordoned meanwhile; `cgmigrate rollback` tries again, with --no-drain it stops the pods as they are",
    ),
    # A reboot in the middle would start units with one file of each driver.
    "release-guard": (
        "before its first change, because it could not guard the node against a reboot in the middle",
        "the node stays as it is; mend what is named (a full disk needs room for a few small files), then `cgmigrate rollback` again",
    ),
}
"""Step, no revert before which touches a unit or a file of the node → where the way back stands when it fails; what to do."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One thing that the engine tells: `verb` is apply, skip, defer, revert, fail; `index` counts from 1."""

    verb: str
    index: int
    total: int
    step: PlannedStep
    seconds: float = 0.0
    message: str = ""


class Engine:
    """Takes one run through its steps."""

    def __init__(
        self,
        *,
        steps: Sequence[tuple[PlannedStep, Step]],
        journal: Journal,
        hands: Hands,
        tell: Callable[[Progress], None],
    ) -> None:
        self.steps = steps
        self.journal = journal
        self.hands = hands
        self.tell = tell
        self.live = hands.reader.live
        self._mute = False
        self._resumed = bool(journal.state.begun)

    def forward(self, *, new: bool = False) -> None:
        """Begin, or go on after a crash, to the end; `new`: nothing of this run was ever begun, so no record can be lost.

        Raises:
            InterruptedRunError: a signal asked to stop.
            ConflictError: the node is neither where the run left it nor where it goes.
            CgmigrateError: a step failed; the run is open and waits for `resume` or `rollback`.
        """
        if not new:
            self._hold_nothing_undone()
            if self._is_finished():
                self.journal.write(Kind.COMMITTED)
                self._hold_nothing_left("done and verified")
                return
        try:
            if self.journal.state.status is Status.PLANNED:
                self.journal.write(Kind.BEGIN)
            self._capture_files()
        except CgmigrateError:
            if not self.journal.state.begun:  # nothing was changed: leave no open run behind
                with contextlib.suppress(HostError):
                    self.journal.write(Kind.ROLLED_BACK)
            raise
        try:
            self._wake()
            for index, (planned, step) in enumerate(self.steps, start=1):
                self.hands.check()
                with self._own_faults(planned):
                    self._apply(index, planned, step)
        except InterruptedRunError as stop:
            with contextlib.suppress(HostError):
                self.journal.write(Kind.INTERRUPTED, error=stop.message)
            raise
        except CgmigrateError as error:
            with contextlib.suppress(HostError):  # the journal may be what failed
                self.journal.write(Kind.FAILED, error=error.message)
            raise
        self.journal.write(Kind.COMMITTED)
        self._hold_nothing_left("done and verified")

    def _wake(self) -> None:
        """Have the node live again when a boot found the guard in force and nothing had been stopped before it.

        What comes next may need it: a control-plane node carries the API server that cordons and uncordons it.
        """
        state = self.journal.state
        if not self.live or any(
            each.kind == "stop-unit" and each.id in state.begun for each, _ in self.steps
        ):
            return
        for planned, _ in self.steps:
            if planned.kind == "guard" and planned.id in state.undo:
                with self._own_faults(planned):
                    wake(self.hands, [step for _, step in self.steps], state.undo[planned.id]["active"])

    def _hold_nothing_left(self, how: str) -> None:
        """End with the commands that are left to the operator, if there are any.

        Raises:
            LeftToDoError: there are.
        """
        if left := self._leftovers():
            raise LeftToDoError(f"the run is {how}{left}")

    def _leftovers(self) -> str:
        """Return what is left to the operator as the end of a message."""
        left = self.hands.leftovers()
        return "; left to do by hand:\n" + "\n".join(f"  {command}" for command in left) if left else ""

    def _is_finished(self) -> bool:
        """Tell whether everything was done and seen, and only the record of the end is missing.

        What changed since is then the operator's, and no reason to go back. Files that are as before the run are: a way
        back of which the disk took no word.
        """
        here = [(planned, step) for planned, step in self.steps if self.live or step.offline]
        if not here or here[-1][0].kind not in ("release-guard", "write-file"):
            return False
        (last, guard), state = here[-1], self.journal.state
        if state.status is not Status.APPLYING or last.id not in state.applied:
            return False
        with self._own_faults(last):
            if last.kind == "release-guard" and guard.where(self.hands, None) is not Where.AFTER:
                return False
            files = [step for planned, step in here if planned.kind == "write-file"]
            return all(step.where(self.hands, None) is not Where.BEFORE for step in files)

    def _hold_nothing_undone(self) -> None:
        """Refuse a journal that does not know of what is done: its records are lost, or somebody did it by hand.

        Raises:
            ConflictError: a file is as this run makes it, or the guard is there, and no record says so; nothing was changed.
        """
        run, state = self.journal.run, self.journal.state
        # By where the bytes are: another step may have written them under another name.
        written = {_real_path(planned) for planned, _ in self.steps if planned.id in state.begun}
        for planned, step in self.steps:
            if step.kind == "write-file" and _real_path(planned) not in written:
                with contextlib.suppress(HostError, StepError), self._own_faults(planned):
                    if step.where(self.hands, None) is Where.AFTER:
                        path, before = planned.params["path"], planned.params["before"]["sha256"]
                        here = str(self.hands.reader.resolve(path))  # of an image, where the image has it
                        saved = f"{run.directory}/blobs/{before}"
                        back = shlex.join(("cp", saved, here) if before else ("rm", here))
                        raise ConflictError(
                            f"{run.journal} is not whole, or somebody else wrote {path}: it is as this run makes it, "
                            "and the journal does not know of it; nothing was changed",
                            hint=f"the old bytes: `{back}`; then `cgmigrate rollback` again. Where nothing of the run was done: "
                            f"`cgmigrate forget {run.name}`",
                        )
            with contextlib.suppress(StepError), self._own_faults(planned):
                if self.live and step.kind == "guard" and planned.id not in state.undo and self._is_guarded():
                    raise ConflictError(
                        f"{run.journal} is not whole: the guard of a run is there, and the journal does not know of it; nothing was changed",
                        hint=f"the old files are in {run.directory}/blobs, their names in plan.json beside it: put them back by hand; "
                        f"then rm /var/lib/cgmigrate/active /etc/systemd/system/*.d/{GUARD}, systemctl daemon-reload, "
                        "and start the runtime and the kubelet",
                    )

    def _is_guarded(self) -> bool:
        """Tell whether anything of a guard is there."""
        return any(
            step.kind == "release-guard" and step.where(self.hands, None) is not Where.AFTER
            for _, step in self.steps
        )

    def _capture_files(self) -> None:
        """Journal the undo of every file before the first change of any."""
        for planned, step in self.steps:
            if step.kind == "write-file" and planned.id not in self.journal.state.undo:
                with self._own_faults(planned):
                    if step.where(self.hands, None) is not Where.BEFORE:
                        raise ConflictError(f"{planned.params['path']} is not as the plan found it")
                    self.journal.write(Kind.CAPTURED, planned.id, undo=step.capture(self.hands))

    def _apply(self, index: int, planned: PlannedStep, step: Step) -> None:
        state = self.journal.state
        if self._is_applied(planned, step):
            if step.kind == "write-file" and step.where(self.hands, None) is not Where.AFTER:
                # A way back that the disk let nobody write down, or somebody's hand.
                raise ConflictError(f"{planned.params['path']} is no longer as the run left it")
            return
        if not self.live and not step.offline:
            self._tell("defer", index, planned)
            return
        undo = state.undo.get(planned.id)
        if undo is None:
            self.journal.write(Kind.CAPTURED, planned.id, undo=step.capture(self.hands))
        again = planned.id in state.begun
        if again:
            match step.where(self.hands, undo):
                case Where.AFTER:
                    if step.kind == "write-file":  # it is there, and may not be on the disk
                        step.apply(self.hands)
                    self.journal.write(Kind.APPLIED, planned.id)
                    self._tell("skip", index, planned)
                    return
                case Where.ELSEWHERE:
                    raise ConflictError(
                        f"step {planned.id}: the node is neither as before it nor as after it",
                        hint="somebody changed it since; `cgmigrate rollback` keeps their version beside",
                    )
                case Where.BEFORE:
                    pass
        if state.attempts.get(planned.id, 0) >= MAX_ATTEMPTS:
            raise StepError(
                f"step {planned.id} was tried {MAX_ATTEMPTS} times and never finished",
                hint="`cgmigrate rollback`",
            )
        self.journal.write(Kind.APPLYING, planned.id)
        self._tell("apply", index, planned)
        start = time.monotonic()
        step.apply(self.hands)
        self.journal.write(Kind.APPLIED, planned.id)
        self._tell("done", index, planned, time.monotonic() - start)

    def back(self, reason: str) -> None:
        """Revert every step that has an undo, in reverse order, from wherever the run is.

        Needs the journal and the disk, nothing else; goes on when the journal cannot be written.

        Raises:
            DirtyError: some reverts failed; the message names them and the commands left to do.
            InterruptedRunError: a signal asked to stop.
        """
        begun = self.journal.state.status
        if begun is Status.ROLLED_BACK:
            # By another one, while this one asked. A record that the disk refused then would be a step to revert now.
            return
        self._hold_nothing_undone()
        self._note(Kind.ROLLING_BACK, reason=reason)
        state = self.journal.state
        self._wake_for_the_way_back()
        failures: list[tuple[PlannedStep, CgmigrateError]] = []
        untried: list[str] = []
        unhealthy = ""
        for index, (planned, step) in reversed(list(enumerate(self.steps, start=1))):
            if planned.id not in state.undo or self._is_reverted(planned, step):
                continue
            if _rests_on(planned, [failed for failed, _ in failures]):
                untried.append(planned.id)
                continue
            try:
                self.hands.check()
                with self._own_faults(planned):
                    self._revert(index, planned, step)
            except InterruptedRunError as stop:
                self._note(Kind.INTERRUPTED, error=stop.message)
                raise
            except CgmigrateError as error:
                self._tell("fail", index, planned, message=error.message)
                if planned.kind in _STOPS_THE_WAY_BACK:
                    self._stop_the_way_back(planned, error, begun)
                if planned.kind in _NO_LESS_TAKEN_BACK:
                    unhealthy = error.message
                    self._note(Kind.REVERTED, planned.id, error=error.message)
                    continue
                failures.append((planned, error))
                self._note(Kind.REVERT_FAILED, planned.id, error=error.message)
        if failures:
            self._note(Kind.DIRTY)
            left = "".join(
                f"\n  {planned.id}: {error.message}" + (f"\n    {error.hint}" if error.hint else "")
                for planned, error in failures
            )
            waits = f"\n  not tried until then: {', '.join(untried)}" if untried else ""
            raise DirtyError(
                f"the rollback is incomplete; {len(failures)} steps could not be taken back:{left}{waits}{self._leftovers()}",
                hint="mend what is named, then `cgmigrate rollback` again; it goes on from there",
            )
        self._note(Kind.ROLLED_BACK)
        if self.journal.state.status is not Status.ROLLED_BACK:
            raise DirtyError(
                "everything is taken back, but the journal could not be written and does not say so"
                + (f"; and the node is not as healthy as it was: {unhealthy}" if unhealthy else "")
                + self._leftovers(),
                hint=f"once {self.journal.run.directory} can be written, `cgmigrate rollback` again settles it",
            )
        if unhealthy:
            raise DirtyError(
                f"everything is taken back, but the node is not as healthy as it was: {unhealthy}{self._leftovers()}"
            )
        self._hold_nothing_left("taken back")

    def _stop_the_way_back(self, planned: PlannedStep, error: CgmigrateError, begun: Status) -> NoReturn:
        """End a way back that cannot begin; a finished run stays one.

        Raises:
            ConflictError: nothing was changed, and the run is finished as it was.
            InterruptedRunError: the way back has begun, and waits.
        """
        where, hint = _STOPS_THE_WAY_BACK[planned.kind]
        held = f"the way back stopped {where}: {error.message}"
        self._note(Kind.INTERRUPTED, error=held)
        if begun is Status.COMMITTED and planned.kind == "release-guard" and not self._is_guarded():
            self._note(Kind.COMMITTED)
            raise ConflictError(f"{held}; nothing was changed", hint=hint) from error
        raise InterruptedRunError(held, hint=hint) from error

    def _wake_for_the_way_back(self) -> None:
        """Wake, if it can be: a node that does not live is taken back all the same."""
        try:
            self._wake()
        except InterruptedRunError as stop:
            self._note(Kind.INTERRUPTED, error=stop.message)
            raise
        except CgmigrateError as error:
            self.hands.say(error.message)

    def _is_reverted(self, planned: PlannedStep, step: Step) -> bool:
        state = self.journal.state
        boot = state.reverted.get(planned.id)
        # Once the guard is being released a boot starts the units as they should be: nothing is to be done again.
        released = any(each.kind == "guard" and each.id in state.reverting for each, _ in self.steps)
        return boot is not None and (not step.volatile or boot == self.journal.boot or released)

    def _is_applied(self, planned: PlannedStep, step: Step) -> bool:
        state = self.journal.state
        stops = [each.id for each, _ in self.steps if each.kind == "stop-unit"]
        # Pods may have come since; only a stop that has begun makes it too late to look again.
        if planned.kind == "drain" and not any(stop in state.begun for stop in stops):
            return False
        boot = state.applied.get(planned.id)
        if boot is not None and self.live and self._resumed:
            if planned.kind in _SEEN_AGAIN:
                return False
            if (
                planned.kind in ("start-unit", "release-guard")
                and step.where(self.hands, state.undo[planned.id]) is not Where.AFTER
            ):
                return False
        released = any(each.kind == "release-guard" and each.id in state.begun for each, _ in self.steps)
        return boot is not None and (not step.volatile or boot == self.journal.boot or released)

    def _revert(self, index: int, planned: PlannedStep, step: Step) -> None:
        self._note(Kind.REVERTING, planned.id)
        self._tell("revert", index, planned)
        start = time.monotonic()
        step.revert(self.hands, self.journal.state.undo[planned.id])
        self._note(Kind.REVERTED, planned.id)
        self._tell("done", index, planned, time.monotonic() - start)

    @contextmanager
    def _own_faults(self, planned: PlannedStep) -> Iterator[None]:
        """Turn a fault of our own into a failed step: the node is in the middle, and the way back must be taken.

        Raises:
            StepError: in the place of what is no CgmigrateError; the traceback is kept with the run.
        """
        try:
            yield
        except CgmigrateError:
            raise
        except Exception as error:
            with (
                contextlib.suppress(OSError),
                self.journal.run.append("traceback.txt") as log,
            ):
                traceback.print_exc(file=log)
            raise StepError(
                f"internal error in step {planned.id}: {type(error).__name__}: {error}",
                hint=f"please report it, with {self.journal.run.directory}/traceback.txt",
            ) from error

    def _note(self, kind: Kind, step: str = "", **data: object) -> None:
        """Write a record of a rollback, which goes on without its journal when the disk refuses."""
        try:
            self.journal.write(kind, step, **data)
        except HostError as error:
            if not self._mute:
                self.hands.say(f"{error.message}; the rollback goes on without its journal")
            self._mute = True

    def _tell(
        self, verb: str, index: int, planned: PlannedStep, seconds: float = 0.0, message: str = ""
    ) -> None:
        self.tell(
            Progress(
                verb=verb,
                index=index,
                total=len(self.steps),
                step=planned,
                seconds=seconds,
                message=message,
            )
        )


def _real_path(planned: PlannedStep) -> str:
    """Return where the bytes are that a step writes; nothing for a step that writes no file."""
    return str(planned.params.get("real_path") or planned.params.get("path", ""))


def _rests_on(planned: PlannedStep, failed: Sequence[PlannedStep]) -> bool:
    """Tell whether a revert has to wait until another that failed is mended.

    Without its files, and without systemd having read them, no unit is started and the guard stays; nor while a unit runs
    on that could not be stopped, because the others would meet it with another driver. Without its unit nothing is waited
    for.
    """
    if any(each.kind in ("write-file", "daemon-reload", "start-unit") for each in failed):
        return planned.kind != "write-file"
    return planned.kind == "wait-healthy" and bool(failed)


def fail_back(engine: Engine, error: CgmigrateError) -> RolledBackError:
    """Roll a failed run back and return the error that tells both.

    Raises:
        DirtyError: the way back failed too, or it is back but for what it leaves to the operator.
    """
    try:
        engine.back(error.message)
    except LeftToDoError as left:  # no summary of a finished run may follow
        raise DirtyError(f"{error.message}\n{left.message}", hint=error.hint) from error
    except DirtyError as dirty:
        raise DirtyError(f"{error.message}\n{dirty.message}", hint=dirty.hint) from error
    return RolledBackError(
        f"{error.message}\nThe run was rolled back: the node is as it was before", hint=error.hint
    )
