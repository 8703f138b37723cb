# SPDX-License-Identifier: Apache-2.0
"""The command line: runs a command, shows the result on stdout and everything else on stderr, gives the exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

import typer

from migrator.commands_change import apply, forget, resume, rollback
from migrator.commands_look import audit, plan, schema, status, translate, verify
from migrator.errors import CgmigrateError, ExitCode
from migrator.options import app as app  # noqa: PLC0414 - the application with all its commands

for command in (audit, plan, apply, resume, rollback, verify, status, forget, translate, schema):
    app.command()(command)


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
