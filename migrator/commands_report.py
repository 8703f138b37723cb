# SPDX-License-Identifier: Apache-2.0
"""The command that tells a run as one page."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated

import typer

from migrator.errors import ConflictError, ExitCode, UsageError
from migrator.journal import Run
from migrator.options import ReportFormat, RootOption, RunArgument, Shared, root_of, write_json
from migrator.records import Status


def report(
    run_name: RunArgument = None,
    output: Annotated[
        ReportFormat | None, typer.Option("--format", help="The report as text, JSON, or one HTML page.")
    ] = None,
    root: RootOption = None,
) -> None:
    """Tell a run as one page for the change ticket. What, why, diffs, timeline, outage, proof; by default of the newest run.

    A run that is open or damaged has a report too, which says what is missing; exit code 7 while it is open, 4 when it is
    damaged, as `status` has it.

    Example: cgmigrate report 20261122T1405 --format html > change.html
    """
    from migrator import report as made  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.journal import Runs, utc_now  # noqa: PLC0415
    from migrator.report.sources import read  # noqa: PLC0415

    runs = Runs(Reader(root_of(root)))
    known = runs.all()
    if run_name is None and not known:
        raise UsageError("no run on this node")
    run = known[-1] if run_name is None else runs.get(run_name)
    found = made.report(read(run, runs.worker(), _newer(run, known)), utc_now())
    match output or ReportFormat(Shared.format or ReportFormat.TEXT):
        case ReportFormat.JSON:
            write_json(found.to_json())
        case ReportFormat.HTML:
            from migrator.report.page import render as page  # noqa: PLC0415

            typer.echo(page(found), nl=False)
        case ReportFormat.TEXT:
            from migrator.report.lines import render as lines  # noqa: PLC0415

            typer.echo(lines(found), nl=False)
    if found.status == "damaged":
        raise typer.Exit(ExitCode.CONFLICT)
    if not found.settled:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _newer(run: Run, known: Sequence[Run]) -> str:
    """Return the name of the newest run that stands on this one, or nothing; one that is damaged may."""
    for each in reversed(known):
        if each.order > run.order:
            with contextlib.suppress(ConflictError):
                if each.state().status is Status.ROLLED_BACK:
                    continue
            return each.name
    return ""
