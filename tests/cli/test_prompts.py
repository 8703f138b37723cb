# SPDX-License-Identifier: Apache-2.0
"""The questions on a real terminal: what Enter does is said and is safe; nothing is changed before a yes."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from migrator.cli import run

NODE = Path(__file__).parent.parent / "nodes/docker-20.10-kubelet-1.20/root"


def typed(
    command: list[str], answers: Sequence[tuple[bytes, bytes]], meanwhile: Callable[[], object] | None = None
) -> tuple[int, str]:
    """Run a command with a terminal as all three streams; type each answer once its question has been said.

    What happens `meanwhile` happens before the last answer.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)  # noqa: S606
    said, waiting, seen = b"", list(answers), 0
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's end of a terminal whose other side is gone
            break
        if not piece:
            break
        said += piece
        if b"\x1b[6n" in piece:  # prompt_toolkit asks where the cursor is, and a real terminal answers
            os.write(terminal, b"\x1b[1;1R")
        if waiting and waiting[0][0] in said[seen:]:
            seen = len(said)
            if meanwhile and len(waiting) == 1:
                meanwhile()
            os.write(terminal, waiting.pop(0)[1])
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said.decode()


def on_a_terminal(arguments: list[str], keys: bytes) -> tuple[int, str]:
    """Run cgmigrate on a terminal; type `keys` when it asks."""
    return typed([sys.executable, "-m", "migrator", *arguments], [(b"Enter:", keys)])


@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        (b"\r", 2, "not confirmed; nothing was changed"),
        (b"n", 2, "not confirmed; nothing was changed"),
        (b"\x03", 2, "not confirmed; nothing was changed"),
        (b"y", 0, "the image's files say systemd"),
    ],
    ids=["Enter", "n", "Ctrl-C", "y"],
)
def test_apply_asks_and_only_a_yes_changes_anything(
    tmp_path: Path, keys: bytes, code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    image, plan = tmp_path / "image", tmp_path / "plan.json"
    shutil.copytree(NODE, image, symlinks=True)
    assert 0 == run(["plan", "--root", str(image), "-o", str(plan)])
    capfd.readouterr()
    before = (image / "var/lib/kubelet/config.yaml").read_bytes()

    ended, said = on_a_terminal(["apply", "--root", str(image), str(plan)], keys)

    assert (code, True) == (ended, message in said), said
    assert (code == 0) == (before != (image / "var/lib/kubelet/config.yaml").read_bytes())
    assert "(y/N, Enter: no)" in said


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGHUP", "gone"])
def test_a_signal_or_a_lost_terminal_at_a_question_in_a_run_leaves_it_open(
    tmp_path: Path, ending: str
) -> None:
    """Nobody may come to answer: the question ends with the run open, and the exit code says so."""
    image, plan = tmp_path / "image", tmp_path / "plan.json"
    shutil.copytree(NODE, image, symlinks=True)
    assert 0 == run(["plan", "--root", str(image), "-o", str(plan)])
    (image / "etc/docker/.daemon.json.cgmigrate-new").mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(  # noqa: S606
            sys.executable, [sys.executable, "-m", "migrator", "apply", "--root", str(image), str(plan)]
        )
    said = b""
    answered = 0
    while b"Roll back now?" not in said:
        said += os.read(terminal, 4096)
        if said.count(b"\x1b[6n") > answered:
            answered += 1
            os.write(terminal, b"\x1b[1;1R")
            if answered == 1:
                os.write(terminal, b"y")
    if ending == "gone":
        os.close(terminal)
    else:
        os.kill(pid, signal.Signals[ending])

    _, status = os.waitpid(pid, 0)

    assert 7 == os.waitstatus_to_exitcode(status), said
    assert 7 == run(["status", "--root", str(image)])
    assert 0 == run(["rollback", "--root", str(image), "--yes"])
