# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to stop: the record in hand is finished first. Ctrl-Z asks for nothing: a node would stay half done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from migrator.errors import InterruptedRunError

STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""What asks a run to stop; where none is at work it ends the command, with the exit code 128 + its number."""


class Interrupt:
    """Turns TERM, INT, HUP and QUIT into a flag: the record in hand is finished, then the run stops."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's shape
        """Remember the signal."""
        self.name = signal.Signals(number).name

    def check(self) -> None:
        """Stop the run where it can be stopped.

        Raises:
            InterruptedRunError: a signal came.
        """
        if self.name:
            raise InterruptedRunError(
                f"stopped by {self.name}; the node is in the middle of a run",
                hint="`cgmigrate resume` goes on, `cgmigrate rollback` goes back",
            )

    @contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Handle these signals inside, and ignore Ctrl-Z; what was ignored before (nohup, a job in the background) stays so."""
        heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = [(number, self) for number in heard] + [(signal.SIGTSTP, signal.SIG_IGN)]
        before = [(number, signal.signal(number, handler)) for number, handler in handlers]
        try:
            yield self
        finally:
            for number, handler in before:
                signal.signal(number, handler)
