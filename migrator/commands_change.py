# SPDX-License-Identifier: Apache-2.0
"""The commands that change a node: apply, resume, rollback, forget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.errors import (
    CgmigrateError,
    ConflictError,
    HostError,
    InterruptedRunError,
    LeftToDoError,
    SkipNodeError,
    UsageError,
)
from migrator.options import (
    AnswersOption,
    OnFailure,
    OnFailureOption,
    RootOption,
    RunArgument,
    SettledRunArgument,
    VerboseOption,
    YesOption,
    answers_of,
    be_verbose,
    confirm,
    need_root,
    root_of,
)

if TYPE_CHECKING:
    from migrator.engine import Engine
    from migrator.host import Host
    from migrator.journal import Run
    from migrator.session import Voice


def apply(  # noqa: PLR0917 - one parameter for each option, as typer wants it
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A plan of this node, made by `plan -o`.")
    ],
    yes: YesOption = False,
    on_failure: OnFailureOption = None,
    answers: AnswersOption = None,
    root: RootOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Carry out a reviewed plan. Refuses (exit 4) unless it still is the plan that this node needs.

    Each change is journalled with its undo before it is made. Interrupted? `resume` or `rollback`.

    Example: cgmigrate apply plan.json --yes --on-failure rollback
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.host import Host  # noqa: PLC0415
    from migrator.plan import parse_plan  # noqa: PLC0415
    from migrator.questions import of_plan  # noqa: PLC0415

    need_root()
    be_verbose(verbose)
    given = answers_of(answers)
    data = _read_plan(plan_file)
    document = parse_plan(data, str(plan_file))
    host = Host(root_of(root))
    if on_failure is not None and given is not None:
        given["on-failure"] = on_failure
    settled = confirm(of_plan(document, str(plan_file)), given, yes or not document["steps"])
    told = show.voice(settled, ask=not yes)
    carry_out(host, data, str(plan_file), _policy(on_failure, settled), lambda _: nullcontext(told))


def carry_out(
    host: Host,
    reviewed: bytes,
    name: str,
    policy: OnFailure | None,
    voice: Callable[[Run], AbstractContextManager[Voice]],
) -> Run:
    """Make a run of a reviewed plan, take it forward, and return it; `voice` gives who tells it.

    Raises:
        CgmigrateError: see `session.begin` and `Engine.forward`; a failed run is rolled back or left open, as `policy` says.
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.doors import doors_of  # noqa: PLC0415
    from migrator.interrupt import Interrupt  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415
    from migrator.session import begin, engine_of  # noqa: PLC0415

    with Interrupt().installed() as interrupt, Runs(host).lock():
        run, _ = begin(host, reviewed, name)
        show.note(f"run {run.name}")
        with (
            _summary(run, host.root),
            voice(run) as told,
            engine_of(doors_of(host), run, told, interrupt) as engine,
        ):
            _forward(engine, told, policy, new=True)
    return run


def _policy(option: OnFailure | None, answers: Mapping[str, str] | None) -> OnFailure | None:
    """Return what a failure leads to: as the option says, else as it was answered in advance."""
    answered = (answers or {}).get("on-failure")
    return option or (OnFailure(answered) if answered else None)


def _read_plan(path: Path) -> bytes:
    from migrator.host import Reader  # noqa: PLC0415 - late

    hint = "`cgmigrate plan -o FILE` makes one"
    try:
        return Reader().read(str(path.absolute()))
    except FileNotFoundError as error:
        raise UsageError(f"cannot read the plan {path}: there is no such file", hint=hint) from error
    except HostError as error:
        raise UsageError(f"cannot read the plan {path}: {error.message}", hint=hint) from error


@contextmanager
def _summary(run: Run, root: Path) -> Iterator[None]:
    """Show the summary of a run that is taken forward inside, also where it leaves something to the operator."""
    from migrator import show  # noqa: PLC0415 - late

    try:
        yield
    except LeftToDoError:
        show.done(run.name, run.load("plan.json"), root=root)
        raise
    show.done(run.name, run.load("plan.json"), root=root)


def _forward(engine: Engine, voice: Voice, on_failure: OnFailure | None, *, new: bool = False) -> None:
    """Take a run forward; on failure go back, stop, or ask."""
    from migrator import prompts, show  # noqa: PLC0415 - late
    from migrator.engine import fail_back  # noqa: PLC0415
    from migrator.questions import FAILED  # noqa: PLC0415

    try:
        engine.forward(new=new)
    except (InterruptedRunError, LeftToDoError):
        raise
    except SkipNodeError as error:
        raise fail_back(engine, error) from error
    except CgmigrateError as error:
        if not engine.journal.state.begun:
            raise
        terminal = prompts.terminal()
        choice = on_failure or (OnFailure.ASK if terminal else OnFailure.ROLLBACK)
        if choice is OnFailure.ASK and terminal:
            with voice.paused():
                show.note(f"failed: {error.message}")
                choice = OnFailure.ROLLBACK if prompts.ask(FAILED) == "yes" else OnFailure.STOP
        if choice is OnFailure.STOP:
            raise InterruptedRunError(
                f"{error.message}\nThe run is open; the guard keeps its units down after a reboot",
                hint=f"{error.hint + '; then ' if error.hint else ''}`cgmigrate resume` or `cgmigrate rollback`",
            ) from error
        raise fail_back(engine, error) from error


def resume(
    on_failure: OnFailureOption = None,
    answers: AnswersOption = None,
    root: RootOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Go on with an interrupted run, from where its journal ends.

    Example: cgmigrate resume
    """
    from migrator.host import Host  # noqa: PLC0415 - late

    need_root()
    be_verbose(verbose)
    go_on(Host(root_of(root)), answers_of(answers), on_failure)


def go_on(
    host: Host, given: Mapping[str, str] | None, on_failure: OnFailure | None = None, shown: Run | None = None
) -> None:
    """Go on with the open run; where the operator has been shown one, with that one or none.

    Raises:
        ConflictError: it is not open any more.
        CgmigrateError: see `Engine.forward` and `Engine.back`.
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.doors import doors_of  # noqa: PLC0415
    from migrator.interrupt import Interrupt  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415
    from migrator.records import Status  # noqa: PLC0415
    from migrator.session import engine_of  # noqa: PLC0415

    with Interrupt().installed() as interrupt, Runs(host).lock():
        run = Runs(host).unsettled()
        if shown is not None and (run is None or run.name != shown.name):
            raise ConflictError(
                f"{shown.name} was open when it was shown, and is not any more; nothing was changed",
                hint="`cgmigrate status` shows the runs as they are",
            )
        if run is None:
            show.note("no run is open: nothing to resume")
            return
        status = run.state().status
        show.note(f"run {run.name} ({status})")
        told = show.voice(given)
        with engine_of(doors_of(host), run, told, interrupt) as engine:
            if status in (Status.ROLLING_BACK, Status.DIRTY):
                engine.back("resumed")
                show.outcome(f"run {run.name} is rolled back: the node is as it was before")
                return
            with _summary(run, host.root):
                _forward(engine, told, _policy(on_failure, given))


def rollback(  # noqa: PLR0917 - the same
    run_name: RunArgument = None,
    no_drain: Annotated[
        bool, typer.Option("--no-drain", help="Do not evict pods first; they are stopped with the services.")
    ] = False,
    yes: YesOption = False,
    answers: AnswersOption = None,
    root: RootOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Take a run back, open or finished. Files come back byte for byte, units and pods as they were.

    Needs only the journal and the disk: no network, no API server, no valid configuration.

    Example: cgmigrate rollback --yes
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.doors import doors_of  # noqa: PLC0415
    from migrator.host import Host  # noqa: PLC0415
    from migrator.interrupt import Interrupt  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415
    from migrator.questions import ROLLBACK  # noqa: PLC0415
    from migrator.records import Status  # noqa: PLC0415
    from migrator.session import engine_of, hold_shown, open_run  # noqa: PLC0415

    need_root()
    be_verbose(verbose)
    given = answers_of(answers)
    host = Host(root_of(root))
    run = open_run(host, run_name)
    status = run.state().status
    if status is Status.ROLLED_BACK:
        show.outcome(f"run {run.name} is rolled back already: nothing to do")
        return
    text = f"Roll back {run.name} ({status}) now?"
    settled = confirm([replace(ROLLBACK, text=text)], given, yes)
    with Interrupt().installed() as interrupt, Runs(host).lock():
        hold_shown(host, run, status)
        show.note(f"run {run.name}")
        voice = show.voice(settled, ask=not yes)
        with engine_of(doors_of(host), run, voice, interrupt, no_drain=no_drain) as engine:
            engine.back("asked by the operator")
    show.outcome(f"run {run.name} is rolled back: the node is as it was before")


def forget(
    run_name: SettledRunArgument,
    yes: YesOption = False,
    answers: AnswersOption = None,
    root: RootOption = None,
) -> None:
    """Delete a settled run and its saved files. Afterwards it cannot be rolled back.

    Example: cgmigrate forget 20261122T1405
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.host import Host  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415
    from migrator.questions import FORGET  # noqa: PLC0415

    need_root()
    given = answers_of(answers)
    host = Host(root_of(root))
    runs = Runs(host)
    with runs.lock():
        run = runs.get(run_name)
        confirm([replace(FORGET, text=f"Delete {run.name} and its saved files?")], given, yes)
        runs.forget(run)
    show.outcome(f"forgotten: {run.name}")
