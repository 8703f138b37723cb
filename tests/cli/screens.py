# SPDX-License-Identifier: Apache-2.0
"""A terminal that can be looked at: tmux runs the command, keys are sent to it, and its screen is captured."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 180.0
"""How long anything may take to appear; a loaded machine is slow, and a test must not care."""

_DEFAULT = ("env", "--default-signal=INT,QUIT,TSTP")


class Screens:
    """One terminal of its own tmux server, of `columns` and `lines`; ends with everything in it."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        *,
        into: Sequence[str] = (),
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        # A name of its own: the server before it in this folder may be on its way out.
        self._socket = folder / f"tmux-{secrets.token_hex(3)}"
        words = [f"{key}={value}" for key, value in (env or {}).items()]
        self._drawn = self._socket.with_suffix(".drawn")
        # The shell, and what leads into a node, live through a Ctrl-C; the command takes it as from any shell.
        script = (
            f"trap '' INT QUIT TSTP; cd {shlex.quote(str(folder))}; was=$(stty -g); "
            f"{shlex.join([*into, *_DEFAULT, *words, *command])}; code=$?; "
            '[ "$was" = "$(stty -g)" ] || echo left changed: $(stty -a); echo ended $code; exec sleep 3000'
        )
        self._tmux(
            *("-f", "/dev/null", "start-server", ";", "set-option", "-g", "history-limit", "5000", ";"),
            *("new-session", "-d", "-x", str(columns), "-y", str(lines), "sh", "-c", script, ";"),
            *("pipe-pane", f"cat >{shlex.quote(str(self._drawn))}"),
        )

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
        seen = {at := _pointed(shown)}
        while not at.startswith(answer):
            self.keys("Down")
            self.wait(lambda: _pointed(self.screen()) not in ("", at), "the next answer")  # noqa: B023 - called at once
            at = _pointed(self.screen())
            assert at not in seen, f"{answer!r} cannot be chosen:\n{self.screen()}"
            seen.add(at)
        self.keys("Enter")
        return shown

    def type(self, question: str, answer: str) -> None:
        """Wait for a question that is answered in words, and answer it."""
        self.until("(", after=question)
        self.keys(answer, "Enter") if answer else self.keys("Enter")

    def asked(self, question: str) -> str:
        """Return the screen as soon as this question is the one that waits for an answer, in a list."""

        def waits() -> bool:
            _, found, below = self.screen().rpartition(question)
            return bool(found and re.match(r"[^?]*(?:\n\?  )?\(Enter: [^»]*»", below))

        self.wait(waits, question)
        return self.screen()

    def resize(self, columns: int, lines: int) -> None:
        """Make the window larger or smaller."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self) -> str:
        """Return what can be seen."""
        return self._tmux("capture-pane", "-p")

    def everything(self) -> str:
        """Return what can be seen, and what has left it upwards; a line that the terminal broke is one line."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def until(self, *texts: str, after: str = "") -> str:
        """Return the screen as soon as it holds all these texts, below the last place of another one."""
        kept = [""]

        def there() -> bool:
            kept[0] = self.screen()
            _, found, below = kept[0].rpartition(after) if after else ("", " ", kept[0])
            return bool(found) and all(text in below for text in texts)

        self.wait(there, " and ".join(map(repr, texts)))
        return kept[0]

    def drawn(self, text: str) -> None:
        """Wait until a text has been on the screen, if only for a moment."""
        self.wait(lambda: text in self._drawn.read_text(errors="replace"), text)

    def ended(self, code: int) -> str:
        """Wait until the command has ended with this code, and return all it said; the terminal is as it was before."""
        self.wait(lambda: re.search(r"ended \d+$", self.screen(), re.MULTILINE) is not None, "an end")
        said = self.everything()
        assert [str(code)] == re.findall(r"ended (\d+)$", said, re.MULTILINE), said
        assert "left changed: " not in said, said
        modes = self._tmux(
            "display-message", "-p", "#{cursor_flag}#{wrap_flag}#{alternate_on}#{keypad_cursor_flag}"
        )
        assert "1100\n" == modes, f"cursor, wrapping, second screen, keypad: {modes}\n{said}"
        return said

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: it never was.
        """
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.everything()}"
            time.sleep(0.1)


def _pointed(shown: str) -> str:
    """Return the answer that Enter would give, with what stands behind it; nothing in the middle of a change."""
    pointed = re.findall("» (.*)", shown)
    return pointed[0] if len(pointed) == 1 else ""
