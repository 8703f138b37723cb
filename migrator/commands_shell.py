# SPDX-License-Identifier: Apache-2.0
"""What a shell asks the command line: the script for its TAB, and what can stand next."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

ASKED_IN = "_CGMIGRATE_COMPLETE"
"""The variable of the environment in which a script of `completion` asks; typer makes its name from the command's."""

_BASH = f"""\
_cgmigrate_completion() {{
    local IFS=$'\\n'
    COMPREPLY=($(_TYPER_COMPLETE_ARGS="${{COMP_LINE:0:COMP_POINT}}" {ASKED_IN}=complete_bash "$1"))
}}
complete -o default -F _cgmigrate_completion cgmigrate"""
"""typer's own gives the words as bash splits them, at `=` and `:` too: `--root=DIR` is three of them."""


class Shell(StrEnum):
    """The shells that a script is tested with."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="Whose script.")]) -> None:
    """Print the script for TAB in a shell. It completes commands, options, their values and runs.

    It goes where the shell looks for it: /etc/bash_completion.d/cgmigrate for bash, _cgmigrate in a directory of zsh's fpath,
    /etc/fish/completions/cgmigrate.fish for fish. This command itself writes no file.

    Example: cgmigrate completion bash > /etc/bash_completion.d/cgmigrate
    """
    # typer's own options for this write to files in the user's home, and know only the shell they are called from.
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - late

    typer.echo(
        _BASH
        if shell is Shell.BASH
        else get_completion_script(prog_name="cgmigrate", complete_var=ASKED_IN, shell=shell)
    )


def be_asked() -> None:
    """Let typer answer a shell that asks what can stand next, if one does."""
    if ASKED_IN in os.environ:
        from typer import _completion_classes as classes  # noqa: PLC0415 - late

        class Bash(classes.ZshComplete):
            """As for zsh, the line is given; what can stand next is told as bash takes it."""

            def complete(self) -> str:
                return "\n".join(item.value for item in self.get_completions(*self.get_completion_args()))

        classes.completion_init()
        # Where it comes from differs between versions of typer.
        classes.add_completion_class(Bash, Shell.BASH)  # type: ignore[attr-defined]
