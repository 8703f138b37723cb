# SPDX-License-Identifier: Apache-2.0
"""A terminal that can be looked at: tmux runs the command, keys are sent to it, and its screen is captured."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 60.0


class Screens:
    """One terminal of its own tmux server, of `columns` and `lines`; ends with everything in it."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        *,
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._socket = folder / "tmux"
        words = [f"{key}={value}" for key, value in (env or {}).items()]
        # Ctrl-C is for the command, which handles it; the shell, and what leads into a node, live on.
        script = f"trap '' INT; cd {shlex.quote(str(folder))}; {shlex.join(['env', *words, *command])}; echo ended $?; exec sleep 600"
        self._tmux(
            *(
                "-f",
                "/dev/null",
                "new-session",
                "-d",
                "-x",
                str(columns),
                "-y",
                str(lines),
                "sh",
                "-c",
                script,
            )
        )
        self._tmux("set-option", "-g", "history-limit", "5000")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words],
            check=False,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        if check and done.returncode:
            raise AssertionError(done.stderr.decode())
        return done.stdout.decode()

    def keys(self, *keys: str) -> None:
        """Press keys, as tmux names them; anything else is typed."""
        self._tmux("send-keys", *keys)

    def choose(self, question: str, answer: str) -> str:
        """Wait for a question, take an answer of its list, and return the screen as it was asked on."""
        shown = self.asked(question)
        for _ in range(10):
            if f"» {answer}" in self.screen():
                self.keys("Enter")
                return shown
            self.keys("Down")
            time.sleep(0.1)
        raise AssertionError(f"{answer!r} cannot be chosen:\n{self.screen()}")

    def type(self, question: str, answer: str) -> None:
        """Wait for a question that is answered in words, and answer it."""
        self.until("(", after=question)
        self.keys(answer, "Enter") if answer else self.keys("Enter")

    def asked(self, question: str) -> str:
        """Return the screen as soon as this question is the one that waits for an answer.

        Raises:
            AssertionError: it never came.
        """
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            shown = self.screen()
            _, found, below = shown.rpartition(question)
            if found and re.match(r"[^?]*(?:\n\?  )?\(Enter: [^»]*»", below):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{question!r} was not asked:\n{self.everything()}")

    def resize(self, columns: int, lines: int) -> None:
        """Make the window larger or smaller."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self) -> str:
        """Return what can be seen."""
        return self._tmux("capture-pane", "-p")

    def everything(self) -> str:
        """Return what can be seen, and what has left it upwards; a line that the terminal broke is one line."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def until(self, text: str, *, after: str = "", seconds: float = SECONDS) -> str:
        """Return the screen as soon as it holds a text, below the last place of another one.

        Raises:
            AssertionError: it never came.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shown = self.screen()
            _, found, below = shown.rpartition(after) if after else ("", " ", shown)
            if found and text in below:
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{text!r} did not come:\n{self.everything()}")
