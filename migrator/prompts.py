# SPDX-License-Identifier: Apache-2.0
"""Asks the questions of `migrator.questions` on the terminal and only there; what Enter does is said, and is safe."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from migrator.answers import describe
from migrator.errors import UsageError
from migrator.questions import Question
from migrator.terminal import note, plain

if TYPE_CHECKING:
    from questionary import Question as Asked

_NO_ANSWER = (KeyboardInterrupt, EOFError, OSError, termios.error)
"""Ctrl-C, Ctrl-D, a signal, and a terminal that is gone."""


def terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def settle(questions: Sequence[Question], given: Mapping[str, str], hint: str) -> dict[str, str]:
    """Return an answer to every question: as given, else as it is answered on the terminal.

    After one that would let a change begin, and does not, nothing more is asked.

    Raises:
        UsageError: there is no terminal; the message has every question without an answer, with its choices.
    """
    missing = [question for question in questions if question.key not in given]
    if missing and not terminal():
        lines = [
            f"no answer to {', '.join(question.key for question in missing)}, and no terminal to ask on:"
        ]
        for question in missing:
            lines += [f"{question.key}: {question.text}", *(f"  {line}" for line in describe(question))]
        raise UsageError("\n".join(lines), hint=hint)
    answers = {}
    for question in questions:
        answers[question.key] = given.get(question.key) or ask(question)
        if question.confirms and not question.agreed(answers[question.key]):
            break
    return answers


def ask(question: Question) -> str:
    """Ask on stderr; Enter gives the default. The caller has made sure that there is a terminal.

    Raises:
        KeyboardInterrupt: nobody answers, and the question has no answer for that.
    """
    try:
        with _heard():
            answer = _asked(question).unsafe_ask()
    except _NO_ANSWER:
        if not question.gone:
            raise KeyboardInterrupt from None
        return question.gone
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer).strip() or question.default


def _asked(question: Question) -> Asked:
    import questionary  # noqa: PLC0415 - late: 80 ms, and most runs ask nothing
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    output = create_output(stdout=sys.stderr)
    text, default, answers = plain(question.text), question.default, list(question.choices)
    if set(answers) == {"yes", "no"}:
        note(question.choices["yes"])
        hint = "(Y/n, Enter: yes)" if default == "yes" else "(y/N, Enter: no)"
        return questionary.confirm(text, default=default == "yes", instruction=hint, output=output)
    if len(answers) == 1:
        note(question.choices[answers[0]])
        hint = f"(type {plain(answers[0])} to agree, Enter: no)"
        return questionary.text(text, instruction=hint, output=output)
    if not answers:
        note(f"{question.means}")
        return questionary.text(
            text,
            instruction=f"(Enter: {default})",
            validate=lambda typed: not typed or question.accepts(typed.strip()) or "a number of seconds",
            output=output,
        )
    choices = [
        questionary.Choice(plain(f"{answer}: {follows}"), value=answer)
        for answer, follows in question.choices.items()
    ]
    chosen = next(choice for choice in choices if choice.value == default)
    return questionary.select(
        text, choices=choices, default=chosen, instruction=f"(Enter: {default})", output=output
    )


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
