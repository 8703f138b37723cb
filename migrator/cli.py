# SPDX-License-Identifier: Apache-2.0
"""The command line: every command, in the order in which an operator meets them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from migrator.commands_change import apply, forget, resume, rollback
from migrator.commands_cluster import cluster
from migrator.commands_look import audit, plan, schema, status, translate, verify
from migrator.commands_report import report
from migrator.commands_shell import be_asked, completion
from migrator.options import app as app  # noqa: PLC0414 - the application with all its commands
from migrator.outcome import exit_code
from migrator.terminal import take_any_text

for command in (
    audit,
    plan,
    apply,
    resume,
    rollback,
    verify,
    status,
    report,
    forget,
    translate,
    schema,
    completion,
):
    app.command()(command)
app.add_typer(cluster)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    take_any_text()
    be_asked()
    return exit_code(partial(app, args=list(arguments), prog_name="cgmigrate"))
