# SPDX-License-Identifier: Apache-2.0
"""The commands that only look: audit, plan, verify, status, translate, schema."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cgroups import Driver, Runtime
from migrator.errors import ConflictError, ExitCode, HostError, UsageError
from migrator.journal import Run
from migrator.options import (
    AnswersOption,
    Format,
    FormatOption,
    KubeconfigOption,
    NodeOption,
    RootOption,
    VerboseOption,
    answers_of,
    be_verbose,
    is_json,
    kubeconfig_of,
    node_name_of,
    progress,
    root_of,
    write_json,
)
from migrator.records import RunState

if TYPE_CHECKING:
    from migrator.host import Reader
    from migrator.plan import Plan


def audit(  # noqa: PLR0917 - one parameter for each option, as typer wants it
    kubeconfig: KubeconfigOption = None,
    node: NodeOption = "",
    write_answers: Annotated[
        Path | None,
        typer.Option(
            "--write-answers",
            metavar="FILE",
            help="Write the questions that matter on this node here, each with its safe answer, for --answers.",
        ),
    ] = None,
    root: RootOption = None,
    output: FormatOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Look at this node: what it is, and whether it should move. Also what stands in the way, with its remedy.

    In a cluster it also asks the API server which pods a drain would move, and what would block it.

    Changes nothing. Exit code 3 when there are blockers.

    Example: cgmigrate audit --format json
    """
    from migrator import audit as judged  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.plan_options import PlanOptions  # noqa: PLC0415
    from migrator.session import look  # noqa: PLC0415

    be_verbose(verbose)
    options = PlanOptions(kubeconfig=kubeconfig_of(kubeconfig), node_name=node_name_of(node))
    reader = Reader(root_of(root))
    _tell_open_run(reader)
    found = look(reader, progress, options)
    if write_answers is not None:
        from migrator import answers  # noqa: PLC0415

        write_file(write_answers, answers.write_answers(found).encode("utf-8", "backslashreplace"))
    if is_json(output):
        write_json(judged.to_json(found))
    else:
        from migrator import show  # noqa: PLC0415

        show.audit_view(found)
        if write_answers is not None:
            show.note(f"written: {write_answers}")
    raise typer.Exit(found.exit_code)


def plan(  # noqa: PLR0917 - one parameter for each option, as typer wants it
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the plan here, for review and apply."),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    node: NodeOption = "",
    already_drained: Annotated[
        bool, typer.Option("--already-drained", help="It was drained elsewhere; checked by looking.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Evict pods that nothing makes anew; they are lost.")
    ] = False,
    delete_emptydir_data: Annotated[
        bool, typer.Option("--delete-emptydir-data", help="Evict pods that lose what is in their emptyDir.")
    ] = False,
    drain_timeout: Annotated[
        int | None,
        typer.Option(
            "--drain-timeout",
            metavar="SECONDS",
            help="Deadline of the drain. Default: 300.",
            min=1,
            max=999_999,
        ),
    ] = None,
    api_timeout: Annotated[
        int | None,
        typer.Option(
            "--api-timeout",
            metavar="SECONDS",
            help="How long to wait after the switch for an API server that is away. Default: 120.",
            min=1,
            max=999_999,
        ),
    ] = None,
    cluster_config: Annotated[
        bool, typer.Option("--cluster-config", help="Change kubeadm's ConfigMap of the kubelets too.")
    ] = False,
    references: Annotated[
        bool,
        typer.Option(
            "--references", help="Rewrite cron jobs, units and agents' files that name old cgroups."
        ),
    ] = False,
    answers: AnswersOption = None,
    root: RootOption = None,
    output: FormatOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Show every step and every changed line of the switch. With -o, write it for `apply`.

    Changes nothing. The same facts give the same plan, byte for byte.

    Example: cgmigrate plan -o plan.json
    """
    from migrator.host import Reader  # noqa: PLC0415 - late
    from migrator.plan_options import PlanOptions  # noqa: PLC0415
    from migrator.questions import PLANNING  # noqa: PLC0415
    from migrator.session import look, plan_node  # noqa: PLC0415

    be_verbose(verbose)
    given = answers_of(answers)
    said = {
        "already-drained": "yes" if already_drained else "",
        "force": "yes" if force else "",
        "delete-emptydir-data": "yes" if delete_emptydir_data else "",
        "drain-timeout": str(drain_timeout or ""),
        "api-timeout": str(api_timeout or ""),
        "cluster-config": "yes" if cluster_config else "",
        "references": "yes" if references else "",
    }
    chosen = {**(given or {}), **{key: answer for key, answer in said.items() if answer}}
    name, config = node_name_of(node), kubeconfig_of(kubeconfig)
    reader = Reader(root_of(root))
    _tell_open_run(reader)
    found = look(reader, progress, PlanOptions(kubeconfig=config, node_name=name))
    if given is not None:
        from migrator import prompts  # noqa: PLC0415

        matters = [question for question in PLANNING if question.concerns(found)]
        chosen = {key: answer for key, answer in said.items() if answer} | prompts.settle(
            matters, chosen, "answer in the file, or by the option of that name"
        )
    options = PlanOptions.answered(chosen, kubeconfig=config, node_name=name)
    made = plan_node(reader, found, options)
    give(made, target, output, "cgmigrate apply")


def _tell_open_run(reader: Reader) -> None:
    """Tell that a run is open: what is found in the middle of one is its doing, and not to be mended by hand."""
    from migrator import show  # noqa: PLC0415 - late
    from migrator.journal import Runs  # noqa: PLC0415

    with contextlib.suppress(HostError, ConflictError):  # not root, or a damaged journal: `status` tells more
        left = Runs(reader).unsettled()
        if left is not None:
            show.note(f"the run {left.name} is open: `cgmigrate resume` or `cgmigrate rollback` first")


def give(made: Plan, target: Path | None, output: Format | None, following: str) -> None:
    """Show a plan, and write it where it was asked for."""
    from migrator.plan import render  # noqa: PLC0415 - late

    data = render(made.document)
    if target is not None:
        write_file(target, data)
    if is_json(output):
        typer.echo(data.decode(), nl=False)
    else:
        from migrator import show  # noqa: PLC0415

        show.plan_view(made.document)
        if target is not None:
            show.note(f"written: {target}")
            show.note(f"next: {following} {shlex.quote(str(target))}")


def _state(run: Run) -> RunState | None:
    """Return a run's state, or None when its journal is damaged."""
    try:
        return run.state()
    except ConflictError:
        return None


def write_file(target: Path, data: bytes) -> None:
    """Replace a file as a whole; a device or a pipe is written to.

    Raises:
        UsageError: it cannot be written.
    """
    from migrator.host import Host  # noqa: PLC0415 - late

    real = Path(os.path.realpath(target))
    try:
        if real.exists() and not real.is_file():
            target.write_bytes(data)
        elif not real.parent.is_dir():
            raise UsageError(f"cannot write {target}: {real.parent} is no directory")
        else:
            Host().write(str(target.absolute()), data, mode=0o600)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    except HostError as error:
        raise UsageError(error.message, hint=error.hint) from error


def verify(
    expect: Annotated[Driver, typer.Option("--expect", help="Driver to prove.")] = Driver.SYSTEMD,
    window: Annotated[
        float, typer.Option("--window", metavar="SECONDS", help="Watch restarts this long.", min=0)
    ] = 5.0,
    root: RootOption = None,
    output: FormatOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Prove that the node is on a driver. Two sides tell, cgroupfs and systemd; also of a node migrated by hand.

    Changes nothing. Exit code 3 when something is found.

    Example: cgmigrate verify
    """
    from migrator import verify as witnesses  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415

    be_verbose(verbose)
    result = witnesses.verify(Reader(root_of(root)), expected=expect, settle=window, progress=progress)
    if is_json(output):
        from migrator.verify.view import to_json  # noqa: PLC0415

        write_json(to_json(result))
    else:
        from migrator import show  # noqa: PLC0415

        show.verification_view(result)
    raise typer.Exit(ExitCode.DONE if result.ok else ExitCode.BLOCKED)


def status(root: RootOption = None, output: FormatOption = None) -> None:
    """List the runs of this node and where each stands. Exit code 7 while one is open, 4 when a journal is damaged.

    Example: cgmigrate status
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.journal import Runs  # noqa: PLC0415

    runs = Runs(Reader(root_of(root)))
    found = [(run.name, _state(run)) for run in runs.all()]
    if is_json(output):
        write_json(
            [
                {
                    "run": name,
                    "status": str(state.status) if state else "damaged",
                    "settled": state.status.settled if state else False,
                    "started": state.started if state else "",
                    "last_record": state.ended if state else "",
                    "reason": state.reason if state else "",
                    "applied": sorted(state.applied) if state else [],
                    "reverted": sorted(state.reverted) if state else [],
                    "failed": state.failed | state.unwell if state else {},
                    "left": state.left if state else [],
                }
                for name, state in found
            ]
        )
    else:
        show.status_view(found, runs.worker())
    if any(state is None for _, state in found):
        raise typer.Exit(ExitCode.CONFLICT)
    if any(state is not None and not state.status.settled for _, state in found):
        raise typer.Exit(ExitCode.INTERRUPTED)


def translate(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Cgroup paths; `-` filters stdin to stdout.")
    ],
    to: Annotated[Driver, typer.Option("--to", help="Spelling to translate to.")] = Driver.SYSTEMD,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            "--runtime", help="Whose containers; needed towards systemd where a container id stands."
        ),
    ] = None,
    cgroup_root: Annotated[
        str | None, typer.Option("--cgroup-root", metavar="PATH", help="The kubelet's --cgroup-root.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", "-i", help="PATHs are files to rewrite.")] = False,
) -> None:
    """Translate kubepods cgroup paths between the two drivers. They are arguments, stdin, or in files to rewrite.

    Example: cgmigrate translate --runtime docker /kubepods/besteffort/pod0798b0e6-e445-4738-87b6-91bc5cc5e57f
    """
    from migrator import translate as text  # noqa: PLC0415 - late

    text.run(
        paths,
        to=to,
        runtime=runtime,
        cgroup_root=cgroup_root,
        in_place=in_place,
    )


def schema(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="answers-1, audit-1, facts-1, plan-1, report-1 or verify-1."),
    ],
) -> None:
    """Print the JSON Schema of a format.

    Example: cgmigrate schema plan-1
    """
    from migrator.schemas import NAMES, schema_bytes  # noqa: PLC0415 - late

    if name not in NAMES:
        raise UsageError(f"{name}: no such schema; there are {', '.join(NAMES)}")
    typer.echo(schema_bytes(name).decode(), nl=False)
