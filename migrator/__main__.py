# SPDX-License-Identifier: Apache-2.0
"""The command `cgmigrate`: answers what needs no library at once, and hands the rest to `migrator.cli`.

Start-up time is a feature: `--version`, `--help` and the `translate -` filter import nothing heavy.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

_HELP = 80
"""Columns that help.txt needs."""


def main() -> None:
    """Run the command line and exit with its code."""
    _hold_standard_streams()
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - started with it closed
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from migrator import __version__  # noqa: PLC0415 - late

        sys.stdout.write(f"cgmigrate {__version__}\n")
        sys.exit(0)
    if arguments in (["--help"], ["-h"]) and _columns() >= _HELP:
        from migrator.outcome import exit_code  # noqa: PLC0415 - late

        _leave(exit_code(_help))
    if arguments[:1] == ["translate"] and "-" in arguments:
        from migrator.outcome import exit_code  # noqa: PLC0415 - late

        _leave(exit_code(lambda: _filter(arguments)))
    _leave(_full(arguments))


def _columns() -> int:
    """Return the width that the full command would take for the terminal's: of what is no terminal, 80."""
    try:
        return int(os.environ.get("COLUMNS", "")) or _HELP
    except ValueError:
        pass
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _HELP
    except (OSError, ValueError):
        return _HELP


def _help() -> None:
    """Write the page that tools/gen_docs.py has made of what the full command says: it would load typer for this."""
    with open(os.path.join(os.path.dirname(__file__), "help.txt"), encoding="ascii") as page:  # noqa: PTH118, PTH120, PTH123 - late
        sys.stdout.write(page.read())


def _hold_standard_streams() -> None:
    """Take the descriptors 0 to 2 where they are closed: no file of ours may get one, libraries write their errors there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _filter(arguments: list[str]) -> None:
    from migrator.translate import run_plain  # noqa: PLC0415 - late

    if not run_plain(arguments[1:]):
        _leave(_full(arguments))


def _leave(code: int) -> NoReturn:
    """Exit with a code; Python would try once more to write what nobody took, and put 120 in the code's place."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _full(arguments: list[str]) -> int:
    from migrator.cli import run  # noqa: PLC0415 - late: typer takes 100 ms

    return run(arguments)


if __name__ == "__main__":
    main()
