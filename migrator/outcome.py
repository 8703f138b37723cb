# SPDX-License-Identifier: Apache-2.0
"""From what happened to an exit code: each error is shown once, with what to do, and never as a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from migrator.errors import CgmigrateError, ExitCode
from migrator.terminal import note, paragraph


def exit_code(work: Callable[[], None]) -> int:
    """Do the work of a command and return the exit code that its end has; errors go to stderr."""
    try:
        work()
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(ExitCode.INTERNAL)
    except CgmigrateError as error:
        paragraph(f"cgmigrate: {error.message}")
        if error.hint:
            paragraph(f"  → {error.hint}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        note("cgmigrate: stopped; nothing was changed")
        return 130
    except BrokenPipeError:
        # The reader has what it wanted. Python flushes once more at its end, and must find something there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            note(f"cgmigrate: cannot write the result: {error.strerror}")
            return int(ExitCode.USAGE)
        return _internal_error()
    except Exception:  # noqa: BLE001 - the last resort: an internal error is ours, never the operator's
        return _internal_error()
    return int(ExitCode.DONE)


def _internal_error() -> int:
    import tempfile  # noqa: PLC0415 - late: no good run needs it
    import traceback  # noqa: PLC0415

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="cgmigrate-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            traceback.print_exc(file=log)
        where = f"the traceback is in {log.name}"
    except OSError as error:
        where = f"its traceback could not be saved: {error.strerror}"
    note(f"cgmigrate: internal error, please report it; {where}")
    return int(ExitCode.INTERNAL)
