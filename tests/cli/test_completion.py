# SPDX-License-Identifier: Apache-2.0
"""TAB in real shells completes what can stand next; the script comes from `completion`, which writes no file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.commands_shell import Shell
from migrator.statedir import STATE
from tests.cli.screens import Screens

PROGRAMS = Path(sys.executable).parent
SHELLS = {
    Shell.BASH: ("--norc", "--noprofile", "-i"),
    Shell.ZSH: ("-f", "-i"),
    Shell.FISH: ("--no-config", "-i"),
}
BEGIN = {
    Shell.BASH: "source ./script; PS1='ready> '",
    Shell.ZSH: "autoload -Uz compinit; compinit -u -D; source ./script; PS1='ready> '",
    Shell.FISH: "source ./script; function fish_prompt; echo 'ready> '; end",
}
RUN = "20261122T140501Z-0123abcd"
HOSTILE = (
    r"2026\$(touch owned)",
    "2026$(touch${IFS}owned)",
    "2026`touch${IFS}owned`",
    "2026;touch${IFS}owned;",
    "2026'$(touch owned)'",
    f"{RUN};touch${{IFS}}owned",
    f"{RUN}\n$(touch owned)",
)
"""Names of directories in an image that somebody else made; each begins as runs do."""


def script(shell: Shell, home: Path) -> str:
    done = subprocess.run(
        [PROGRAMS / "cgmigrate", "completion", shell],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.fixture(params=Shell)
def shell(request: pytest.FixtureRequest) -> Shell:
    asked: Shell = request.param
    if shutil.which(asked) is None:
        pytest.skip(f"{asked} is not installed here")
    return asked


@pytest.fixture
def terminal(shell: Shell, tmp_path: Path) -> Iterator[Screens]:
    """A shell that has read its script."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "script").write_text(script(shell, home), encoding="utf-8")
    assert [] == list(home.iterdir())
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    with Screens(
        tmp_path, [shell, *SHELLS[shell]], columns=120, env={"HOME": str(home), "PATH": path}
    ) as screens:
        screens.keys(BEGIN[shell], "Enter")
        screens.until("\nready>")
        yield screens


def asked(shell: Shell, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask as the script of a shell does, without the shell."""
    return subprocess.run(
        [PROGRAMS / "cgmigrate"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "_CGMIGRATE_COMPLETE": f"complete_{shell}", **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def complete(terminal: Screens, begun: str, whole: str) -> None:
    terminal.keys("--", begun)
    terminal.until(begun)
    terminal.keys("Tab")
    terminal.until(whole)


def test_tab_completes_commands_options_values_and_runs(terminal: Screens, tmp_path: Path) -> None:
    (tmp_path / f"image{STATE}/runs/{RUN}").mkdir(parents=True)
    (tmp_path / "plan-of-worker-3.json").touch()

    for begun, whole in (
        ("cgmigrate rollb", "cgmigrate rollback"),
        ("--no-d", "cgmigrate rollback --no-drain"),
        ("--root image 2026", f"cgmigrate rollback --no-drain --root image {RUN}"),
    ):
        complete(terminal, begun, whole)
    terminal.keys("C-u")
    terminal.wait(lambda: RUN not in terminal.screen(), "an empty line")
    for begun, whole in (
        ("cgmigrate apply --on-failure sto", "cgmigrate apply --on-failure stop"),
        ("plan-of", "cgmigrate apply --on-failure stop plan-of-worker-3.json"),
    ):
        complete(terminal, begun, whole)


def test_tab_knows_the_image_that_is_written_behind_an_equals_sign(terminal: Screens, tmp_path: Path) -> None:
    (tmp_path / f"image:1{STATE}/runs/{RUN}").mkdir(parents=True)

    complete(terminal, "cgmigrate rollback --root=image:1 2026", f"cgmigrate rollback --root=image:1 {RUN}")


def test_no_name_in_an_image_is_run_by_tab_and_enter(terminal: Screens, tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        (tmp_path / f"evil{number}{STATE}/runs/{name}").mkdir(parents=True)

        terminal.keys(f"cgmigrate rollback --root evil{number} 2026", "Tab", "Enter")
        terminal.keys("C-u", f"echo after-{number}", "Enter")
        terminal.until(f"\nafter-{number}")

        assert (name, []) == (name, list(tmp_path.glob("owned*")))


def test_no_name_but_that_of_a_run_is_completed(tmp_path: Path) -> None:
    for name in (*HOSTILE, RUN, f"{RUN}-2", f".{RUN}", f"{RUN}-", "lost+found"):
        (tmp_path / f"image{STATE}/runs" / name).mkdir(parents=True)

    done = asked(Shell.BASH, tmp_path, _TYPER_COMPLETE_ARGS="cgmigrate rollback --root image ")

    assert [RUN, f"{RUN}-2"] == done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("shell", Shell)
def test_who_asks_without_a_line_hears_of_no_error(shell: Shell, tmp_path: Path) -> None:
    done = asked(shell, tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
