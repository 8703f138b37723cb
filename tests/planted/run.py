# SPDX-License-Identifier: Apache-2.0
"""Plant each bug of `bugs.py` in a copy of the checkout, one at a time, and see that the suite fails. `make planted`.

What runs is what needs no lab: the tests of engine, journal, files, steps, references, containerd's word and reserved cgroups, then the
crash matrix, each to its first failure. The copy without a bug is tried first, once and with all of them: nothing may fail there. A bug
that passes, or of which nothing is known but that a test took too long, is named, and the script ends with 1. Names as arguments choose.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.planted.bugs import BUGS, Bug  # noqa: E402 - the checkout's own

QUICK = (
    "tests/unit/test_engine.py",
    "tests/unit/test_journal.py",
    "tests/unit/test_host.py",
    "tests/crash/test_steps.py",
    "tests/unit/test_references.py",
    "tests/unit/test_containerd_dump.py",
    "tests/unit/test_reserved.py",
)
MATRIX = ("tests/crash",)
UNKNOWN = "NOT CAUGHT"
_CRASHED = re.compile(r"worker '\w+' crashed")
COPIED = ("migrator", "tests", "plans", "tools", "docs", "pyproject.toml")


def main(wanted: list[str]) -> int:
    """Plant, run, tell."""
    if failed := catch(None):
        raise SystemExit(f"{failed} fails in a copy without a bug")
    print("a copy without a bug passes", flush=True)
    missed = []
    names = [name for name in BUGS if not wanted or any(word in name for word in wanted)]
    for number, name in enumerate(names, start=1):
        begin = time.monotonic()
        caught = catch(BUGS[name])
        print(
            f"[{number}/{len(names)}] {name}: {caught or 'NOT CAUGHT: all pass'} ({time.monotonic() - begin:.0f} s)",
            flush=True,
        )
        if not caught or caught.startswith(UNKNOWN):
            missed.append(name)
    print(f"{len(names) - len(missed)} of {len(names)} planted bugs were caught")
    return 1 if missed else 0


def catch(bug: Bug | None) -> str:
    """Return the name of the first test that fails with a bug, or without one; nothing when all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for each in COPIED:
            source = ROOT / each
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "lab", "build")
                shutil.copytree(source, copy / each, ignore=ignored, symlinks=True)
            else:
                shutil.copy(source, copy / each)
        if bug:
            plant(copy, bug)
        for tests in (QUICK, MATRIX):
            if first := first_failure(copy, [each for each in tests if (copy / each).exists()]):
                return first
    return ""


def plant(copy: Path, bug: Bug) -> None:
    """Change a copy of the product."""
    path = copy / "migrator" / bug.file
    text = path.read_text()
    if text.count(bug.old) != 1:
        raise SystemExit(
            f"{bug.file} does not hold this exactly once, so the bug cannot be planted:\n{bug.old}"
        )
    path.write_text(text.replace(bug.old, bug.new))


def first_failure(copy: Path, tests: list[str]) -> str:
    """Run tests in a copy to the first failure; return its name."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "2",
        "--dist",
        "worksteal",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    # pytest cuts the reason off where the line is full.
    wide = {**os.environ, "COLUMNS": "1000"}
    done = subprocess.run(command, cwd=copy, env=wide, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return told(done.returncode, done.stdout, done.stderr)


def told(code: int, out: str, err: str) -> str:
    """Return the first failure that pytest tells of; one by the clock alone says nothing of a bug, and is `UNKNOWN`.

    Raises:
        SystemExit: pytest ended otherwise than by a test.
    """
    failed = [line for line in out.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        raise SystemExit(f"pytest ended with {code} and no failure:\n{out[-2000:]}{err[-2000:]}")
    plain = [line for line in failed if "Timeout (>" not in line and not _CRASHED.search(line)]
    return plain[0].split()[1] if plain else f"{UNKNOWN}: {failed[0].split()[1]} took too long"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
