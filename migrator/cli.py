# SPDX-License-Identifier: Apache-2.0
"""The command line: parses, calls `migrator.session`, shows the result on stdout and everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from migrator.errors import (
    CgmigrateError,
    ConflictError,
    ExitCode,
    InterruptedRunError,
    UsageError,
)

app = typer.Typer(
    name="cgmigrate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Switch a Kubernetes node from the cgroupfs to the systemd cgroup driver, with proof and a way back.",
)


class Format(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


class OnFailure(StrEnum):
    """What a run does when a step fails."""

    ASK = "ask"
    ROLLBACK = "rollback"
    STOP = "stop"


class DriverChoice(StrEnum):
    """The two cgroup drivers."""

    SYSTEMD = "systemd"
    CGROUPFS = "cgroupfs"


class RuntimeChoice(StrEnum):
    """Whose container names are meant."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    CRIO = "crio"


RootOption = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Work on the node image in DIR instead of this machine."),
]
FormatOption = Annotated[Format | None, typer.Option("--format", help="Result as text or JSON.")]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")
]
OnFailureOption = Annotated[
    OnFailure | None,
    typer.Option("--on-failure", help="When a step fails. Default: ask on a terminal, else rollback."),
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="Name of the run, or its beginning.")
]


class Shared:
    """Options that may stand before the command or after it."""

    root: Path | None = None
    format: Format | None = None
    verbose: bool = False


@app.callback()
def common(
    root: RootOption = None,
    output: FormatOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Take the options that stand before the command."""
    if version:
        from migrator import __version__  # noqa: PLC0415 - late

        typer.echo(f"cgmigrate {__version__}")
        raise typer.Exit
    Shared.root, Shared.format, Shared.verbose = root, output, verbose


def _root(root: Path | None) -> str:
    chosen = root or Shared.root or Path("/")
    if not chosen.is_dir():
        raise UsageError(
            f"--root {chosen}: no such directory", hint="give the root directory of a node's image"
        )
    return str(chosen)


def _is_json(output: Format | None) -> bool:
    return (output or Shared.format) is Format.JSON


def _progress(line: str) -> None:
    if Shared.verbose or sys.stderr.isatty():
        typer.echo(f"  {line}", err=True)


def _write_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, sort_keys=True))


@app.command()
def audit(root: RootOption = None, output: FormatOption = None) -> None:
    """Look at this node and say what it is, what stands in the way, and whether it should move.

    Changes nothing. Exit code 3 when there are blockers.

    Example: cgmigrate audit --format json
    """
    from migrator import audit as judged  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.session import look  # noqa: PLC0415

    found = look(Reader(_root(root)), _progress)
    if _is_json(output):
        _write_json(judged.to_json(found))
    else:
        from migrator import show  # noqa: PLC0415

        show.audit_view(found)
    raise typer.Exit(found.exit_code)


@app.command()
def plan(
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the plan here, for review and apply."),
    ] = None,
    root: RootOption = None,
    output: FormatOption = None,
) -> None:
    """Show every step and every changed line of the switch; with -o, write it for `apply`.

    Changes nothing. The same facts give the same plan, byte for byte.

    Example: cgmigrate plan -o plan.json
    """
    from migrator.host import Reader  # noqa: PLC0415 - late
    from migrator.plan import render  # noqa: PLC0415
    from migrator.session import look, plan_node  # noqa: PLC0415

    reader = Reader(_root(root))
    made = plan_node(reader, look(reader, _progress))
    data = render(made.document)
    if target is not None:
        _write_file(target, data)
    if _is_json(output):
        typer.echo(data.decode(), nl=False)
    else:
        from migrator import show  # noqa: PLC0415

        show.plan_view(made.document)
        if target is not None:
            typer.echo(f"written: {target}\nnext: cgmigrate apply {target}", err=True)


def _write_file(target: Path, data: bytes) -> None:
    try:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as stream:
            stream.write(data)
        Path(stream.name).rename(target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error


def _need_root() -> None:
    if os.geteuid() != 0:
        raise UsageError("changing a node needs root", hint="sudo cgmigrate …")


def _confirm(question: str, consequence: str, yes: bool) -> None:
    """Ask once, safe by default; without a terminal the answer must have been given.

    Raises:
        UsageError: no terminal and no --yes, or the answer was no.
    """
    if yes:
        return
    from migrator import prompts  # noqa: PLC0415 - late

    if not prompts.terminal():
        raise UsageError(f"missing answer: {question}", hint="there is no terminal to ask on; say --yes")
    typer.echo(consequence, err=True)
    if not prompts.confirm(question, default=False):
        raise UsageError("not confirmed; nothing was changed")


@app.command()
def apply(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A plan of this node, made by `plan -o`.")
    ],
    yes: YesOption = False,
    on_failure: OnFailureOption = None,
    root: RootOption = None,
) -> None:
    """Carry out a reviewed plan; refuses (exit 4) unless it still is the plan that this node needs.

    Each change is journalled with its undo before it is made. Interrupted? `resume` or `rollback`.

    Example: cgmigrate apply plan.json --yes --on-failure rollback
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.engine import Interrupt  # noqa: PLC0415
    from migrator.host import Host  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415
    from migrator.plan import parse_plan  # noqa: PLC0415
    from migrator.session import begin, engine_of  # noqa: PLC0415

    _need_root()
    data = _read_plan(plan_file)
    document = parse_plan(data, str(plan_file))
    host = Host(_root(root))
    count = len(document["steps"])
    _confirm(
        f"Apply the {count} steps of {plan_file} to {document['node']} now?",
        "Every pod container on the node is stopped and made anew. `cgmigrate rollback` takes it back.",
        yes or not count,
    )
    with Interrupt().installed() as interrupt, Runs(host).lock():
        run, _ = begin(host, data, str(plan_file))
        typer.echo(f"run {run.name}", err=True)
        with engine_of(host, run, show.voice(), interrupt) as engine:
            _forward(engine, on_failure)
    show.done(run.name, document, live=host.live)


def _read_plan(path: Path) -> bytes:
    from migrator.host import MAX_FILE  # noqa: PLC0415 - late

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the plan {path}: {error.strerror}", hint="`cgmigrate plan -o FILE` makes one"
        ) from error
    if len(data) > MAX_FILE:
        raise UsageError(f"{path}: larger than {MAX_FILE} bytes; this is no plan")
    return data


def _forward(engine: Any, on_failure: OnFailure | None) -> None:
    """Take a run forward; on failure go back, stop, or ask."""
    from migrator import prompts  # noqa: PLC0415 - late
    from migrator.engine import fail_back  # noqa: PLC0415

    try:
        engine.forward()
    except (InterruptedRunError, ConflictError):
        raise
    except CgmigrateError as error:
        terminal = prompts.terminal()
        choice = on_failure or (OnFailure.ASK if terminal else OnFailure.ROLLBACK)
        if choice is OnFailure.ASK and terminal:
            typer.echo(f"failed: {error.message}", err=True)
            wants = prompts.confirm("Roll back now? No leaves the run open.", default=True)
            choice = OnFailure.ROLLBACK if wants else OnFailure.STOP
        if choice is OnFailure.STOP:
            raise InterruptedRunError(
                f"{error.message}\nThe run is open; the guard keeps its units down after a reboot",
                hint=f"{error.hint + '; then ' if error.hint else ''}`cgmigrate resume` or `cgmigrate rollback`",
            ) from error
        raise fail_back(engine, error) from error


@app.command()
def resume(on_failure: OnFailureOption = None, root: RootOption = None) -> None:
    """Go on with the run that was interrupted, from where its journal ends.

    Example: cgmigrate resume
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.engine import Interrupt  # noqa: PLC0415
    from migrator.host import Host  # noqa: PLC0415
    from migrator.journal import Runs, Status  # noqa: PLC0415
    from migrator.session import engine_of  # noqa: PLC0415

    _need_root()
    host = Host(_root(root))
    with Interrupt().installed() as interrupt, Runs(host).lock():
        run = Runs(host).unsettled()
        if run is None:
            typer.echo("no run is open: nothing to resume", err=True)
            return
        status = run.state().status
        typer.echo(f"run {run.name} ({status})", err=True)
        with engine_of(host, run, show.voice(), interrupt) as engine:
            if status in (Status.ROLLING_BACK, Status.DIRTY):
                engine.back("resumed")
                typer.echo(f"run {run.name} is rolled back: the node is as it was before")
                return
            _forward(engine, on_failure)
    show.done(run.name, run.load("plan.json"), live=host.live)


@app.command()
def rollback(run_name: RunArgument = None, yes: YesOption = False, root: RootOption = None) -> None:
    """Take a run back, open or finished: files byte for byte, units and pods as they were.

    Needs only the journal and the disk: no network, no API server, no valid configuration.

    Example: cgmigrate rollback --yes
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.engine import Interrupt  # noqa: PLC0415
    from migrator.host import Host  # noqa: PLC0415
    from migrator.journal import Runs, Status  # noqa: PLC0415
    from migrator.session import engine_of, open_run  # noqa: PLC0415

    _need_root()
    host = Host(_root(root))
    run = open_run(host, run_name)
    if run.state().status is Status.ROLLED_BACK:
        typer.echo(f"run {run.name} is rolled back already: nothing to do")
        return
    _confirm(
        f"Roll back {run.name} ({run.state().status}) now?",
        "Every pod container on the node is stopped and made anew under the old driver.",
        yes,
    )
    with Interrupt().installed() as interrupt, Runs(host).lock():
        run = open_run(host, run_name)
        typer.echo(f"run {run.name}", err=True)
        with engine_of(host, run, show.voice(), interrupt) as engine:
            engine.back("asked by the operator")
    typer.echo(f"run {run.name} is rolled back: the node is as it was before")


@app.command()
def verify(
    expect: Annotated[DriverChoice, typer.Option("--expect", help="Driver to prove.")] = DriverChoice.SYSTEMD,
    window: Annotated[
        float, typer.Option("--window", metavar="SECONDS", help="Watch restarts this long.", min=0)
    ] = 5.0,
    root: RootOption = None,
    output: FormatOption = None,
) -> None:
    """Prove from two sides, cgroupfs and systemd, that the node is on a driver; also one migrated by hand.

    Changes nothing. Exit code 3 when something is found.

    Example: cgmigrate verify
    """
    from migrator import verify as witnesses  # noqa: PLC0415 - late
    from migrator.cgroups import Driver  # noqa: PLC0415
    from migrator.host import Reader  # noqa: PLC0415

    result = witnesses.verify(Reader(_root(root)), expected=Driver(expect.value), settle=window)
    if _is_json(output):
        from migrator.verify.view import to_json  # noqa: PLC0415

        _write_json(to_json(result))
    else:
        from migrator import show  # noqa: PLC0415

        show.verification_view(result)
    raise typer.Exit(ExitCode.DONE if result.ok else ExitCode.BLOCKED)


@app.command()
def status(root: RootOption = None, output: FormatOption = None) -> None:
    """List the runs of this node and where each stands; exit code 7 while one is open.

    Example: cgmigrate status
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415

    found = [(run.name, run.state()) for run in Runs(Reader(_root(root))).all()]
    if _is_json(output):
        _write_json(
            [
                {
                    "run": name,
                    "status": str(state.status),
                    "settled": state.status.settled,
                    "started": state.started,
                    "last_record": state.ended,
                    "reason": state.reason,
                    "applied": sorted(state.applied),
                    "reverted": sorted(state.reverted),
                    "failed": state.failed,
                }
                for name, state in found
            ]
        )
    else:
        show.status_view(found)
    if any(not state.status.settled for _, state in found):
        raise typer.Exit(ExitCode.INTERRUPTED)


@app.command()
def forget(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or its beginning.")],
    yes: YesOption = False,
    root: RootOption = None,
) -> None:
    """Delete a settled run and its saved files; afterwards it cannot be rolled back.

    Example: cgmigrate forget 20261122T1405
    """
    from migrator.host import Host  # noqa: PLC0415 - late
    from migrator.journal import Runs  # noqa: PLC0415

    _need_root()
    host = Host(_root(root))
    runs = Runs(host)
    with runs.lock():
        run = runs.get(run_name)
        _confirm(f"Delete {run.name} and its saved files?", "It cannot be rolled back afterwards.", yes)
        runs.forget(run)
    typer.echo(f"forgotten: {run.name}")


@app.command()
def translate(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Cgroup paths; `-` filters stdin to stdout.")
    ],
    to: Annotated[
        DriverChoice, typer.Option("--to", help="Spelling to translate to.")
    ] = DriverChoice.SYSTEMD,
    runtime: Annotated[
        RuntimeChoice | None,
        typer.Option(
            "--runtime", help="Whose containers; needed towards systemd where a container id stands."
        ),
    ] = None,
    cgroup_root: Annotated[
        str | None, typer.Option("--cgroup-root", metavar="PATH", help="The kubelet's --cgroup-root.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", "-i", help="PATHs are files to rewrite.")] = False,
) -> None:
    """Translate kubepods cgroup paths between the two drivers: arguments, stdin, or files in place.

    Example: cgmigrate translate --runtime docker /kubepods/besteffort/pod0798b0e6-e445-4738-87b6-91bc5cc5e57f
    """
    from migrator import translate as text  # noqa: PLC0415 - late
    from migrator.cgroups import Driver, Runtime  # noqa: PLC0415

    text.run(
        paths,
        to=Driver(to.value),
        runtime=Runtime(runtime.value) if runtime else None,
        cgroup_root=cgroup_root,
        in_place=in_place,
    )


@app.command()
def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help="audit-1, facts-1, plan-1 or verify-1.")],
) -> None:
    """Print the JSON Schema of a format.

    Example: cgmigrate schema plan-1
    """
    from migrator.schemas import NAMES, schema_bytes  # noqa: PLC0415 - late

    if name not in NAMES:
        raise UsageError(f"{name}: no such schema; there are {', '.join(NAMES)}")
    typer.echo(schema_bytes(name).decode(), nl=False)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; no traceback for what a user can cause."""
    try:
        app(args=list(arguments), prog_name="cgmigrate")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(ExitCode.INTERNAL)
    except CgmigrateError as error:
        typer.echo(f"cgmigrate: {_plain(error.message)}", err=True)
        if error.hint:
            typer.echo(f"  → {_plain(error.hint)}", err=True)
        return int(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("cgmigrate: stopped; nothing was changed", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except Exception:  # noqa: BLE001 - the last resort: an internal error is ours, never the operator's
        return _internal_error()
    return int(ExitCode.DONE)


def _plain(text: str) -> str:
    """Return text with control characters shown, so that nothing from the node reaches the terminal raw."""
    return "".join(
        character if character.isprintable() or character == "\n" else f"\\x{ord(character):02x}"
        for character in text
    )


def _internal_error() -> int:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="cgmigrate-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            traceback.print_exc(file=log)
        where = f"the traceback is in {log.name}"
    except OSError as error:
        where = f"its traceback could not be saved: {error.strerror}"
    typer.echo(f"cgmigrate: internal error, please report it; {where}", err=True)
    return int(ExitCode.INTERNAL)
