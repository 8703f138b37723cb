# SPDX-License-Identifier: Apache-2.0
"""Asks the questions of `migrator.questions` on the terminal and only there; what Enter does is said, and is safe."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from migrator.answers import describe
from migrator.errors import UsageError
from migrator.questions import Question
from migrator.terminal import note, plain, plain_mode, wrap

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


def columns() -> int:
    """Return how wide a line may be."""
    return shutil.get_terminal_size().columns


def tell(text: str, indent: int = 0) -> None:
    """Tell a text on stderr in the terminal's width."""
    for line in text.split("\n"):
        for piece in wrap(" " * indent + plain(line), columns()):
            note(piece)


def ask(question: Question, also: Mapping[str, str] | None = None) -> str:
    """Ask on stderr; Enter gives the default. The caller has made sure that there is a terminal.

    `also` has more answers, which are about the asking itself, as choices have.

    Raises:
        KeyboardInterrupt: nobody answers, and the question has no answer for that.
    """
    with contextlib.suppress(OSError, ValueError, termios.error):
        # What was typed before the question was seen is no answer to it.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    try:
        with _heard():
            answer = (_read if plain_mode() else _drawn)(question, also or {})
    except _NO_ANSWER:
        if plain_mode():
            note("")
        if not question.gone:
            raise KeyboardInterrupt from None
        return question.gone
    return answer.strip() or question.default


def _hint(question: Question, also: Mapping[str, str]) -> str:
    """Return what Enter does, and what can be typed where nothing can be chosen."""
    answers, default = list(question.choices), question.default
    more = f", or {', '.join(also)}" if also else ""
    if not answers:
        return f"(Enter: {default}{more})"
    if len(answers) == 1:
        return f"(type {plain(answers[0])} to agree, Enter: no{more})"
    if set(answers) == {"yes", "no"} and not also:
        return "(Y/n, Enter: yes)" if default == "yes" else "(y/N, Enter: no)"
    return f"(Enter: {default})"


def _read(question: Question, also: Mapping[str, str]) -> str:
    """Ask in lines: the choices, each with what follows, then one line to answer on."""
    answers = {**question.choices, **also} if len(question.choices) > 1 else {}
    tell(question.text)
    for line in describe(replace(question, choices=answers or question.choices)):
        tell(line, 2)
    while True:
        sys.stderr.write(f"{_hint(question, also)}: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        typed = line.strip()
        short = [answer for answer in answers if answer.startswith(typed)]
        if typed in ("", *answers, *also) or not _wrong(question, typed):
            return typed
        if len(short) == 1:
            return short[0]
        tell(f"that is none of {', '.join(answers)}" if answers else _wrong(question, typed))


def _wrong(question: Question, typed: str) -> str:
    """Return what is wrong with what was typed; in words anything may be said, and only one thing agrees."""
    if len(question.choices) == 1 or question.accepts(typed):
        return ""
    return "a number of seconds, from 1 to 999999"


def _drawn(question: Question, also: Mapping[str, str]) -> str:
    """Ask with the library: a line to type on, yes or no, or a list to choose from."""
    import questionary  # noqa: PLC0415 - late: 80 ms, and most runs ask nothing
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    output = create_output(stdout=sys.stderr)
    hint, default = _hint(question, also), question.default
    if len(question.choices) < 2:
        text = _beside(question.text, f"{hint} {next(iter(question.choices), '')}")
        tell(question.means or next(iter(question.choices.values())))

        def judged(typed: str) -> bool | str:
            return typed.strip() in ("", *also) or _wrong(question, typed.strip()) or True

        asked = questionary.text(text, instruction=hint, validate=judged, output=output)
        return str(_with_keys(asked).unsafe_ask())
    if set(question.choices) == {"yes", "no"} and not also:
        text = _beside(question.text, f"{hint} yes")
        tell(question.choices["yes"])
        yes = questionary.confirm(text, default=default == "yes", instruction=hint, output=output)
        return "yes" if _with_keys(yes).unsafe_ask() else "no"
    answers = {**question.choices, **also}
    titles = {answer: plain(f"{answer}: {follows}") for answer, follows in answers.items()}
    if any(len(title) + 4 > columns() for title in titles.values()):
        tell(question.text)
        for title in titles.values():
            tell(title, 2)
        titles, text = {answer: plain(answer) for answer in answers}, ""
    else:
        text = _beside(question.text, max(hint, *titles.values(), key=len))
    choices = [questionary.Choice(title, value=answer) for answer, title in titles.items()]
    chosen = next(choice for choice in choices if choice.value == default)
    asked = questionary.select(text, choices=choices, default=chosen, instruction=hint, output=output)
    return str(_with_keys(asked).unsafe_ask())


def _with_keys(asked: Asked) -> Asked:
    """Have the keys that end and suspend any command do so at a question too, and none search what nobody has typed."""
    from prompt_toolkit.input.typeahead import clear_typeahead  # noqa: PLC0415
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings  # noqa: PLC0415

    clear_typeahead(asked.application.input)
    keys = KeyBindings()

    @keys.add("c-d", eager=True)
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    @keys.add("c-z", eager=True)
    def _(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    @keys.add("c-r", eager=True)
    @keys.add("c-s", eager=True)
    def _(_: KeyPressEvent) -> None:
        pass

    bound = asked.application.key_bindings
    asked.application.key_bindings = merge_key_bindings([bound, keys] if bound else [keys])
    return asked


def _beside(text: str, longest: str) -> str:
    """Return a text that leaves room beside it for what will stand there; else tell it, and return nothing."""
    if len(f"? {plain(text)} {longest}") < columns():
        return plain(text)
    tell(text)
    return ""


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Have TERM, HUP, QUIT and Ctrl-C, where a run handles them, end a question too: nobody may come to answer it.

    Where none does, they end the command as ever, but first the terminal is what it was before the question.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}

    def hear(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if handler is signal.SIG_DFL:
            raise SystemExit(128 + number)
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
