# SPDX-License-Identifier: Apache-2.0
"""The questions that a command may ask, on the terminal and only there; the answer on Enter is the safe one, and said."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from migrator.terminal import plain

_NO_ANSWER = (KeyboardInterrupt, EOFError, OSError, termios.error)
"""Ctrl-C, Ctrl-D, a signal, and a terminal that is gone."""


def terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def choose(question: str, answers: Mapping[str, str], default: str) -> str:
    """Ask for one of `answers` (key → what it does) on stderr; Enter gives `default`, Ctrl-C the last one.

    The caller has made sure that there is a terminal.
    """
    import questionary  # noqa: PLC0415 - late: 80 ms, and most runs ask nothing
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    choices = [questionary.Choice(plain(f"{key}: {what}"), value=key) for key, what in answers.items()]
    chosen = next(choice for choice in choices if choice.value == default)
    asked = questionary.select(
        plain(question),
        choices=choices,
        default=chosen,
        instruction=f"(Enter: {default})",
        output=create_output(stdout=sys.stderr),
    )
    try:
        with _heard():
            return str(asked.unsafe_ask())
    except _NO_ANSWER:
        return list(answers)[-1]


def confirm(question: str, *, default: bool) -> bool:
    """Ask a yes-or-no question on stderr; Enter gives `default`, Ctrl-C is no.

    The caller has made sure that there is a terminal.
    """
    import questionary  # noqa: PLC0415 - late: 80 ms, and most runs ask nothing
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    hint = "(Y/n, Enter: yes)" if default else "(y/N, Enter: no)"
    asked = questionary.confirm(
        plain(question), default=default, instruction=hint, output=create_output(stdout=sys.stderr)
    )
    try:
        with _heard():
            return bool(asked.unsafe_ask())
    except _NO_ANSWER:
        return False


@contextmanager
def _heard() -> Iterator[None]:
    """Have TERM and HUP, where a run handles them, end a question too: nobody may come to answer it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def hear(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    handled = [number for number, handler in before.items() if callable(handler)]
    for number in handled:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
