# SPDX-License-Identifier: Apache-2.0
"""TAB in real shells completes what can stand next; the script comes from `completion`, which writes no file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def script(shell: Shell, home: Path) -> str:
    done = subprocess.run(
        [PROGRAMS / "cgmigrate", "completion", shell],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", Shell)
def test_tab_completes_commands_options_values_and_runs(shell: Shell, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / f"image{STATE}/runs/{RUN}").mkdir(parents=True)
    (tmp_path / "plan-of-worker-3.json").touch()
    (tmp_path / "script").write_text(script(shell, home), encoding="utf-8")
    assert [] == list(home.iterdir())

    path = f"{PROGRAMS}:{os.environ['PATH']}"
    with Screens(
        tmp_path, [shell, *SHELLS[shell]], columns=120, env={"HOME": str(home), "PATH": path}
    ) as terminal:
        terminal.keys(BEGIN[shell], "Enter")
        terminal.until("\nready>")
        for begun, whole in (
            ("cgmigrate rollb", "cgmigrate rollback"),
            ("--no-d", "cgmigrate rollback --no-drain"),
            ("--root image 2026", f"cgmigrate rollback --no-drain --root image {RUN}"),
        ):
            terminal.keys("--", begun)
            terminal.until(begun)
            terminal.keys("Tab")
            terminal.until(whole)
        terminal.keys("C-u")
        terminal.wait(lambda: RUN not in terminal.screen(), "an empty line")
        for begun, whole in (
            ("cgmigrate apply --on-failure sto", "cgmigrate apply --on-failure stop"),
            ("plan-of", "cgmigrate apply --on-failure stop plan-of-worker-3.json"),
        ):
            terminal.keys("--", begun)
            terminal.until(begun)
            terminal.keys("Tab")
            terminal.until(whole)
