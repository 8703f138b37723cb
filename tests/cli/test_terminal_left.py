# SPDX-License-Identifier: Apache-2.0
"""Whatever ends a question or the live view, the terminal is as it was; what nobody meant as an answer is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.cli import run
from migrator.interrupt import Interrupt
from tests.cli.screens import Screens
from tests.cli.test_offline import snapshot
from tests.cli.test_wizard import HERE, PATH, SAMPLE, wizard
from tests.hostile.base import copy


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return copy(SAMPLE, tmp_path / "image")


def press(terminal: Screens, image: Path, key: str) -> None:
    """Press a key, or send a signal to the command alone."""
    if not key.startswith("SIG"):
        terminal.keys(key)
        return
    found = subprocess.run(
        ["pgrep", "-f", f"^{sys.executable} -m migrator.*--root {image}$"], check=True, capture_output=True
    )
    for pid in found.stdout.split():
        os.kill(int(pid), signal.Signals[key])


@pytest.mark.parametrize(
    ("key", "code"), [("C-c", 130), ("C-d", 130), ("C-q", 130), ("SIGTERM", 143), ("SIGHUP", 129)]
)
def test_what_ends_a_list_leaves_the_terminal_as_it_was(image: Path, key: str, code: int) -> None:
    with wizard(image) as terminal:
        terminal.choose(*PATH[0])
        terminal.asked(PATH[1][0])
        press(terminal, image, key)
        said = terminal.ended(code)

    assert ("nothing was changed by that" in said) == (code == 130)


@pytest.mark.parametrize(("key", "code"), [("C-c", 130), ("C-d", 130), ("C-\\", 131), ("SIGTERM", 143)])
def test_what_ends_a_question_in_lines_leaves_the_terminal_as_it_was(
    image: Path, key: str, code: int
) -> None:
    with wizard(image, TERM="dumb") as terminal:
        terminal.until("(Enter: look):")
        press(terminal, image, key)
        said = terminal.ended(code)

    assert ("\nstopped; nothing was changed by that\n" in said) == (code == 130)


@pytest.mark.parametrize(("key", "code"), [("C-c", 2), ("C-d", 2), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_what_ends_a_yes_or_no_leaves_the_terminal_as_it_was(image: Path, key: str, code: int) -> None:
    plan = image.parent / "plan.json"
    assert 0 == run(["plan", "--root", str(image), "-o", str(plan)])
    original = snapshot(image)
    command = [sys.executable, "-m", "migrator", "apply", str(plan), "--root", str(image)]
    with Screens(image.parent, command, env={"PYTHONPATH": str(HERE)}) as terminal:
        terminal.until("(y/N, Enter: no)")
        press(terminal, image, key)
        terminal.ended(code)

    assert original == snapshot(image)


def test_keys_that_mean_nothing_do_nothing(image: Path) -> None:
    with wizard(image) as terminal:
        terminal.choose(*PATH[0])
        terminal.asked(PATH[1][0])
        terminal.keys("Escape", "Left", "x", "1", "C-s", "C-w", "C-\\", "F1", "é")
        terminal.resize(40, 12)
        terminal.resize(200, 50)
        terminal.resize(80, 24)
        terminal.choose(PATH[1][0], "go-on")
        terminal.choose(PATH[2][0], "quit")
        said = terminal.ended(0)

    assert "left; nothing was changed by that" in said


def test_keys_in_advance_answer_nothing(image: Path) -> None:
    with wizard(image) as terminal:
        terminal.asked(PATH[0][0])
        terminal.keys("Enter", "Enter", "Enter")
        terminal.choose(PATH[1][0], "go-on")
        terminal.choose(PATH[2][0], "quit")
        terminal.ended(0)


def test_at_40_columns_each_answer_can_be_chosen_and_read(image: Path) -> None:
    with wizard(image, columns=40) as terminal:
        terminal.choose(*PATH[0])
        shown = terminal.asked("all the same?")
        assert "  go-on: to the choices; nothing is\n  changed yet\n" in shown
        terminal.choose("all the same?", "quit")
        said = terminal.ended(0)

    assert [] == [line for line in said.split("\n") if len(line.rstrip()) > 40]


def test_ctrl_z_suspends_at_a_question_and_what_comes_back_is_the_question(image: Path) -> None:
    command = ["bash", "--norc", "-i"]
    with Screens(image.parent, command, env={"PYTHONPATH": str(HERE), "PS1": "shell> "}) as terminal:
        terminal.until("shell>")
        terminal.keys(f"{sys.executable} -m migrator --root {image}", "Enter")
        terminal.choose(*PATH[0])
        terminal.asked(PATH[1][0])
        terminal.keys("C-z")
        terminal.until("Stopped", "shell>", after=PATH[1][0])
        terminal.keys("clear; stty -a | grep -o ' -*echo '", "Enter")
        terminal.until(" echo", "shell>")
        terminal.keys("fg", "Enter")
        terminal.until("» quit")
        terminal.keys("Enter")
        terminal.until("left; nothing was changed by that")
        terminal.keys("exit", "Enter")
        terminal.ended(0)


def test_ctrl_z_does_not_suspend_a_run() -> None:
    before = signal.getsignal(signal.SIGTSTP)
    with Interrupt().installed():
        assert signal.SIG_IGN is signal.getsignal(signal.SIGTSTP)
    assert before is signal.getsignal(signal.SIGTSTP)


ASKING = """
import sys, time
from pathlib import Path
from migrator import prompts
from migrator.interrupt import Interrupt
from migrator.journal import Journal, Run
from migrator.live import LiveView
from migrator.questions import FAILED
directory = Path(sys.argv[1]) / "20261122T163131Z-f7b5f178"
directory.mkdir()
run = Run(directory)
Journal(run, "boot").close()
with Interrupt().installed() as interrupt, LiveView(run, (), lambda: "", prompts.ask, {}) as voice:
    while not (Path(sys.argv[1]) / "go").exists():
        time.sleep(0.05)
    answer = voice.ask(FAILED)
print("answered", answer, interrupt.name)
"""


def test_what_was_typed_into_the_live_view_answers_no_question(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKING, str(tmp_path)]
    with Screens(tmp_path, command, env={"PYTHONPATH": str(HERE), "COLUMNS": "200"}) as terminal:
        terminal.until("Ctrl-C stops at the next record")
        terminal.keys("C-z", "C-\\")
        terminal.drawn("^\\")
        # After them: the kernel throws away what was typed before a signal's key.
        terminal.keys("y", "Enter", "y")
        terminal.drawn("y\ny")
        (tmp_path / "go").touch()
        terminal.until("(Y/n, Enter: yes)")
        terminal.keys("n")
        said = terminal.ended(0)

    assert "answered no SIGQUIT\n" in said
