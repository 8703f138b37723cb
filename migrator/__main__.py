# SPDX-License-Identifier: Apache-2.0
"""The command `cgmigrate`: answers what needs no library at once, and hands the rest to `migrator.cli`.

Start-up time is a feature: `--version` and the `translate -` filter import nothing heavy.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - started with it closed
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from migrator import __version__  # noqa: PLC0415 - late

        sys.stdout.write(f"cgmigrate {__version__}\n")
        sys.exit(0)
    if arguments[:1] == ["translate"] and "-" in arguments:
        from migrator.outcome import exit_code  # noqa: PLC0415 - late

        sys.exit(exit_code(lambda: _filter(arguments)))
    sys.exit(_full(arguments))


def _filter(arguments: list[str]) -> None:
    from migrator.translate import run_plain  # noqa: PLC0415 - late

    if not run_plain(arguments[1:]):
        sys.exit(_full(arguments))


def _full(arguments: list[str]) -> int:
    from migrator.cli import run  # noqa: PLC0415 - late: typer takes 100 ms

    return run(arguments)


if __name__ == "__main__":
    main()
