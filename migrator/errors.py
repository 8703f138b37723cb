# SPDX-License-Identifier: Apache-2.0
"""The one family of errors that a user can meet; each knows its exit code.

The table of codes is part of the contract: scripts branch on them, so a published number never changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Outcome of a command; one number for one outcome."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    BLOCKED = 3
    CONFLICT = 4
    ROLLED_BACK = 5
    DIRTY = 6
    INTERRUPTED = 7


EXIT_CODE_MEANING: dict[ExitCode, str] = {
    ExitCode.DONE: "done, or nothing to do",
    ExitCode.INTERNAL: "internal error; the traceback is in the log",
    ExitCode.USAGE: "usage error, input of the command that cannot be read (a plan, a path), or a missing answer",
    ExitCode.BLOCKED: "blockers found; nothing was changed",
    ExitCode.CONFLICT: "the node or the plan is not as expected; nothing was changed",
    ExitCode.ROLLED_BACK: "failed, and rolled back cleanly",
    ExitCode.DIRTY: "hands needed: failed and the rollback is incomplete, or settled with commands left to do, which are named",
    ExitCode.INTERRUPTED: "interrupted: `cgmigrate resume` or `cgmigrate rollback`",
}


class CgmigrateError(Exception):
    """Something the operator can act on: what was attempted, on what, and what to do (`hint`)."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        # What a daemon said is in here, and goes into the journal, the log and tickets.
        from migrator.configs.secrets import mask_shapes  # noqa: PLC0415 - late: a good run makes no error

        self.message = mask_shapes(message)
        self.hint = mask_shapes(hint)
        super().__init__(self.message)


class UsageError(CgmigrateError):
    """A wrong argument, an input that cannot be read, or a missing right to do the work."""

    exit_code = ExitCode.USAGE


class BlockedError(CgmigrateError):
    """The node has a blocker, so there is no plan to make or apply."""

    exit_code = ExitCode.BLOCKED


class ConflictError(CgmigrateError):
    """The node, the plan or another run is not as expected; nothing was changed."""

    exit_code = ExitCode.CONFLICT


class RolledBackError(CgmigrateError):
    """The run failed and the node is back where it was."""

    exit_code = ExitCode.ROLLED_BACK


class DirtyError(CgmigrateError):
    """The run failed and the way back did too; the message carries the commands left to do."""

    exit_code = ExitCode.DIRTY


class LeftToDoError(CgmigrateError):
    """The run is settled, forward or back, and something is left that it could not do; the message has the commands."""

    exit_code = ExitCode.DIRTY


class InterruptedRunError(CgmigrateError):
    """The run stopped in the middle and waits for `resume` or `rollback`."""

    exit_code = ExitCode.INTERRUPTED


class StepError(CgmigrateError):
    """An effect of a step failed; the engine decides what follows (rollback, or stop)."""


class SkipNodeError(StepError):
    """The operator chose to leave the node as it is; the run is taken back without another question."""


class HostError(CgmigrateError):
    """The machine refused something that was asked of it (a file, a unit job, a runtime call)."""

    exit_code = ExitCode.CONFLICT
