# SPDX-License-Identifier: Apache-2.0
"""The command line's application, and the options and small helpers that its commands share."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migrator.errors import HostError, UsageError
from migrator.terminal import ascii_json, note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrator.questions import Question

app = typer.Typer(
    name="cgmigrate",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Switch a Kubernetes node from the cgroupfs to the systemd cgroup driver, with proof and a way back.\n\n"
    "Without a command, on a terminal, it guides through all of it.\n\n"
    "Example: cgmigrate audit",
)


class Format(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


class ReportFormat(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


class OnFailure(StrEnum):
    """What a run does when a step fails."""

    ASK = "ask"
    ROLLBACK = "rollback"
    STOP = "stop"


RootOption = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Work on the node image in DIR instead of this machine."),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")]
FormatOption = Annotated[Format | None, typer.Option("--format", help="Result as text or JSON.")]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")
]
OnFailureOption = Annotated[
    OnFailure | None,
    typer.Option("--on-failure", help="When a step fails. Default: ask on a terminal, else rollback."),
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="How to reach the API server. Default: the admin's or the kubelet's own file on this node.",
    ),
]
AnswersOption = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        metavar="FILE",
        help="Answers to what would be asked, as `audit --write-answers` writes them.",
    ),
]
NodeOption = Annotated[
    str,
    typer.Option(
        "--node", metavar="NAME", help="Name of this node in the API. Default: as the kubelet registers."
    ),
]


def _runs(context: typer.Context) -> list[str]:
    """Return the runs of the node, or of the image behind --root, for a shell that completes a name."""
    from migrator.statedir import RUN_NAME, STATE  # noqa: PLC0415 - late

    root = context.params.get("root") or context.find_root().params.get("root") or ""
    with suppress(OSError):
        return sorted(name for name in os.listdir(f"{root}{STATE}/runs") if RUN_NAME.fullmatch(name))
    return []


RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="Name of the run, or its beginning.", autocompletion=_runs),
]
SettledRunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of the run, or its beginning.", autocompletion=_runs)
]


class Shared:
    """Options that may stand before the command or after it."""

    root: Path | None = None
    format: Format | None = None
    verbose: bool = False
    kubeconfig: Path | None = None
    answers: Path | None = None


@app.callback(invoke_without_command=True)
def common(  # noqa: PLR0917 - one parameter for each option, as typer wants it
    context: typer.Context,
    root: RootOption = None,
    output: FormatOption = None,
    verbose: VerboseOption = False,
    kubeconfig: KubeconfigOption = None,
    answers: AnswersOption = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Take the options that stand before the command."""
    if version:
        from migrator import __version__  # noqa: PLC0415 - late

        typer.echo(f"cgmigrate {__version__}")
        raise typer.Exit
    Shared.root, Shared.format, Shared.verbose = root, output, verbose
    Shared.kubeconfig, Shared.answers = kubeconfig, answers
    if context.invoked_subcommand is None:
        from migrator import wizard  # noqa: PLC0415 - late: its libraries are large

        wizard.run(root_of(None), kubeconfig_of(None), answers_of(None) or {})


def root_of(root: Path | None) -> str:
    """Return the root directory that was chosen, before or after the command.

    Raises:
        UsageError: there is no such directory.
    """
    chosen = root or Shared.root or Path("/")
    if not chosen.is_dir():
        raise UsageError(
            f"--root {chosen}: no such directory", hint="give the root directory of a node's image"
        )
    return str(chosen)


def kubeconfig_of(path: Path | None) -> str:
    """Return the kubeconfig that was chosen, before or after the command; empty for none.

    Raises:
        UsageError: there is no such file.
    """
    chosen = path or Shared.kubeconfig
    if chosen is None:
        return ""
    if not chosen.is_file():
        raise UsageError(f"--kubeconfig {chosen}: no such file")
    return str(chosen.absolute())


def node_name_of(name: str) -> str:
    """Return the name of a Node that was given; empty for none.

    Raises:
        UsageError: no Node can have this name (RFC 1123).
    """
    if name and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
        raise UsageError(f"--node {name}: not a name that a Node can have")
    return name


def is_json(output: Format | None) -> bool:
    """Tell whether the result is wanted as JSON."""
    return (output or Shared.format) is Format.JSON


def be_verbose(verbose: bool) -> None:
    """Tell more from now on, if that was asked after the command; before it, it holds already."""
    Shared.verbose = Shared.verbose or verbose


def progress(line: str) -> None:
    """Tell what is looked at now, where somebody watches."""
    if Shared.verbose or sys.stderr.isatty():
        note(f"  {line}")


def write_json(document: Any) -> None:
    """Write a result as JSON."""
    typer.echo(ascii_json(document))


def need_root() -> None:
    """Refuse to begin what only root can finish.

    Raises:
        UsageError: not root.
    """
    if os.geteuid() != 0:
        raise UsageError("changing a node needs root", hint="sudo cgmigrate …")


def answers_of(path: Path | None) -> dict[str, str] | None:
    """Return the answers of the file that was chosen, before or after the command; None for none.

    Raises:
        UsageError: it cannot be read, or is no file of answers.
    """
    chosen = path or Shared.answers
    if chosen is None:
        return None
    from migrator.answers import MAX_SIZE, read_answers  # noqa: PLC0415 - late
    from migrator.host import Reader  # noqa: PLC0415

    try:
        return read_answers(Reader().read(str(chosen.absolute()), MAX_SIZE), str(chosen))
    except FileNotFoundError as error:
        raise UsageError(f"cannot read the answers {chosen}: there is no such file") from error
    except HostError as error:
        raise UsageError(f"cannot read the answers {chosen}: {error.message}") from error


def confirm(questions: Sequence[Question], given: Mapping[str, str] | None, yes: bool) -> Mapping[str, str]:
    """Settle the questions, the first of which lets the change begin, and return the answers; --yes agrees, and asks nothing.

    With a file of answers (`given`) all must have one there, or are asked for; without it only the first is.

    Raises:
        UsageError: an answer is missing and there is no terminal, or the answer is not to begin.
    """
    if yes:
        return given or {}
    from migrator import prompts  # noqa: PLC0415 - late

    first = questions[0]
    answers = dict(given or {}) | prompts.settle(
        questions if given is not None else [first],
        given or {},
        "say --yes, or answer in a file: --answers FILE (`cgmigrate audit --write-answers FILE` makes one)",
    )
    if not first.agreed(answers[first.key]):
        agreed = next(iter(first.choices))
        raise UsageError(
            "not confirmed; nothing was changed",
            hint=f"the answer that agrees is the name of the node: {agreed}"
            if agreed != "yes"
            else f"{first.key}: {answers[first.key]} is not yes"
            if answers[first.key] not in first.choices
            else "",
        )
    return answers
