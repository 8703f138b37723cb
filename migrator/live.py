# SPDX-License-Identifier: Apache-2.0
"""One view of a run while it is at work: its steps, what it does now, for how long, the services, the last journal record.

`screen` is pure: a scene and a size give lines that fit. The terminal's second screen is drawn anew four times a second, so
a resize leaves nothing broken. What cannot be drawn, because the terminal is gone, decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from migrator.errors import CgmigrateError
from migrator.terminal import note, plain, wrap

if TYPE_CHECKING:
    from migrator.engine import Progress
    from migrator.journal import Run
    from migrator.plan_steps import PlannedStep
    from migrator.questions import Question
    from migrator.session import Voice

_TICK = 0.25
_LOOK = 1.0
_GONE = re.compile(r"\[(\d+)/(\d+) gone\]")
_MARK = {"done": "[x]", "now": "[>]", "failed": "[!]", "": "[ ]"}


@dataclass
class Scene:
    """What is known of a run that is at work; `states` is by the step's id."""

    name: str
    steps: tuple[str, ...]
    seconds: float = 0.0
    states: dict[str, str] = field(default_factory=dict)
    now: str = ""
    why: str = ""
    back: bool = False
    evicted: str = ""
    services: str = ""
    journal: str = ""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=8))


def screen(scene: Scene, width: int, height: int) -> list[str]:
    """Return at most `height` lines of at most `width` columns; the steps around the current one come before everything else."""
    width, height = max(width, 20), max(height, 6)
    at = scene.steps.index(scene.now) if scene.now in scene.steps else 0
    way = "back: step" if scene.back else "step"
    head = [
        _fit(f"{scene.name}  {int(scene.seconds) // 60}:{int(scene.seconds) % 60:02}", width),
        _fit(f"{way} {at + 1} of {len(scene.steps)}: {scene.why or scene.now}", width),
        "",
    ]
    told = (
        ("evicted", scene.evicted),
        ("services", scene.services),
        ("journal", scene.journal),
    )
    foot = ["", *(_fit(f"{label:9}{text}", width) for label, text in told if text)]
    foot += [_fit(line, width) for line in list(scene.said)[-3:]]
    foot += ["", _fit("Ctrl-C stops at the next record; nothing is lost.", width)]
    room = height - len(head) - len(foot)
    if room < 1:
        return [*head[:2], *foot[-2:]][:height]
    first = max(0, min(at - room // 2, len(scene.steps) - room))
    steps = [
        _fit(f"  {_MARK[scene.states.get(step, '')]} {step}", width)
        for step in scene.steps[first : first + room]
    ]
    return [*head, *steps, *foot]


def _fit(text: str, width: int) -> str:
    clean = plain(text)
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


class LiveView:
    """Draws a run on the terminal's second screen, from `__enter__` on, and tells it in lines when a question comes."""

    def __init__(
        self,
        run: Run,
        steps: tuple[PlannedStep, ...],
        services: Callable[[], str],
        ask: Callable[[Question], str],
        given: Mapping[str, str],
    ) -> None:
        shown = tuple(step.id for step in steps if step.params.get("direction") != "back")
        self.scene = Scene(name=f"run {run.name}", steps=shown)
        self._run, self._services, self._ask, self._given = run, services, ask, given
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def voice(self) -> Voice:
        """Return the teller of the run."""
        from migrator.session import Voice  # noqa: PLC0415 - late

        return Voice(say=self._say, tell=self._tell, ask=self._answer, paused=self.paused)

    def __enter__(self) -> Voice:
        self._open()
        return self.voice()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Give the first screen back meanwhile."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def _answer(self, question: Question) -> str:
        if answer := self._given.get(question.key):
            return answer
        with self.paused():
            return self._ask(question)

    def _say(self, line: str) -> None:
        self.scene.said.append(line)
        if found := _GONE.match(line):
            self.scene.evicted = f"{found[1]} of {found[2]} pods"

    def _tell(self, progress: Progress) -> None:
        scene, step = self.scene, progress.step
        scene.back = scene.back or progress.verb == "revert"
        if step.id not in scene.steps:
            return
        match progress.verb:
            case "apply" | "skip" | "defer":
                scene.now, scene.why = step.id, f"{step.id}: {step.why}"
                scene.states[step.id] = "now" if progress.verb == "apply" else "done"
            case "revert":
                scene.now, scene.why = step.id, step.id
                scene.states[step.id] = "now"
            case "done":
                scene.states[step.id] = "" if scene.back else "done"
            case _:
                scene.states[step.id] = "failed"
                scene.said.append(f"{step.id}: FAILED: {progress.message}")

    def _open(self) -> None:
        # No cursor, and no wrapping: what is wider than we think is cut.
        _write("\x1b[?1049h\x1b[?25l\x1b[?7l")
        self._stop.clear()
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def _close(self) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        _write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        for line in self.scene.said:
            for piece in wrap(f"  {plain(line)}", _size()[0]):
                note(piece)
        self.scene.said.clear()

    def _draw(self) -> None:
        looked = 0.0
        while not self._stop.wait(_TICK):
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                with contextlib.suppress(CgmigrateError, OSError):
                    self.scene.services = self._services()
                with contextlib.suppress(CgmigrateError, OSError):
                    if records := self._run.records():
                        self.scene.journal = f"{records[-1].kind} {records[-1].step}"
            self.scene.seconds = time.monotonic() - self._start
            lines = screen(self.scene, *_size())
            _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")


def _size() -> tuple[int, int]:
    """Return columns and lines of the terminal itself; what COLUMNS says in the environment may be of another one."""
    with contextlib.suppress(OSError, ValueError):
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
        if columns and lines:
            return columns, lines
    return 80, 24


def _write(text: str) -> None:
    """Write to the terminal, if anybody is there."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
