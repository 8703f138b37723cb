# SPDX-License-Identifier: Apache-2.0
"""A file of answers: YAML or JSON, one key for each question. It is somebody else's text until it has been read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ruamel.yaml.events import ScalarEvent

from migrator.audit import Audit
from migrator.configs import yamltext
from migrator.configs.text import ConfigSyntaxError, decode, line_at
from migrator.errors import UsageError
from migrator.questions import (
    APPLY,
    NODE_NAME,
    QUESTIONS,
    Question,
    is_control_plane,
    like_yes_or_no,
    matter,
)
from migrator.terminal import plain

FORMAT = "cgmigrate-answers"
VERSION = 1
MAX_SIZE = 64 * 1024
"""Bytes; what `--write-answers` writes has a twentieth of it."""

_BY_KEY = {question.key: question for question in QUESTIONS}
_WORDS = {"true": "yes", "false": "no"}
_HINT = "`cgmigrate audit --write-answers FILE` makes one; `cgmigrate schema answers-1` describes it"


def read_answers(data: bytes, name: str) -> dict[str, str]:
    """Return the answers in a file, by key; each is an answer to its question.

    Raises:
        UsageError: not such a file, an unknown key, a key without an answer or with a wrong one; the message says where.
    """
    if len(data) > MAX_SIZE:
        raise UsageError(f"{name}: larger than {MAX_SIZE} bytes", hint=_HINT)
    try:
        mapping = yamltext.parse_mapping(decode(data))
    except ConfigSyntaxError as error:
        raise UsageError(
            f"{name}:{error.line}: not a file of answers: {error.message}", hint=_HINT
        ) from error
    if mapping is None:
        raise UsageError(f"{name}:1: not a file of answers: it is empty", hint=_HINT)
    found: dict[str, str] = {}
    for entry in mapping.entries:
        at = f"{name}:{line_at(mapping.text, yamltext.start_of(entry.key_event))}: "
        value = entry.value[0]
        if not isinstance(value, ScalarEvent) or yamltext.is_null(value):
            raise UsageError(f"{at}{_short(entry.key)}: one answer is needed, and this is none", hint=_HINT)
        found[entry.key] = _checked(entry.key, str(value.value), at)
    for key, wanted in (("format", FORMAT), ("version", str(VERSION))):
        if found.pop(key, None) != wanted:
            raise UsageError(f"{name}:1: not a file of answers: `{key}: {wanted}` is missing", hint=_HINT)
    return found


def _checked(key: str, text: str, at: str) -> str:
    """Return an answer in the one way of spelling it."""
    if key in ("format", "version"):
        wanted = FORMAT if key == "format" else str(VERSION)
        if text != wanted:
            raise UsageError(f"{at}{key} {_short(text)}; this cgmigrate reads {wanted}", hint=_HINT)
        return text
    question = _BY_KEY.get(key)
    if question is None:
        raise UsageError(f"{at}{_short(key)}: no such question; there are {', '.join(_BY_KEY)}", hint=_HINT)
    answer = _WORDS.get(text, text)
    name = question is APPLY and NODE_NAME.fullmatch(answer) and not like_yes_or_no(answer)
    if question.accepts(answer) or name:
        return answer
    raise UsageError(f"{at}{key}: {_short(text)} is no answer; {_allowed(question)}", hint=_HINT)


def _short(text: str) -> str:
    return repr(text[:40])


def _allowed(question: Question) -> str:
    if not question.choices:
        return "a number of seconds, from 1 to 999999"
    return f"one of {', '.join(question.choices)}"


def describe(question: Question) -> Iterator[str]:
    """Yield the choices of a question with what follows from each, a line for each."""
    for answer, follows in question.choices.items():
        yield f"{answer}: {follows}" + (" (default)" if answer == question.default else "")
    if not question.choices:
        yield f"{question.means} (default: {question.default})"


def write_answers(found: Audit, given: Mapping[str, str] | None = None) -> str:
    """Return a file with every question that matters on an audited node, and the answer given or that loses nothing."""
    return "".join(f"{plain(line)}\n" for line in _lines(found, given or {}))


def _lines(found: Audit, given: Mapping[str, str]) -> Iterator[str]:
    yield f"# Answers for {found.facts.node.hostname or 'a node'}: every question that matters there, with {'the answer given, or ' if given else ''}the answer that loses nothing."
    yield "# Change what you decide otherwise, then give this file to `cgmigrate plan` and `cgmigrate apply` with --answers."
    yield f"format: {FORMAT}"
    yield f"version: {VERSION}"
    for question in matter(found):
        yield ""
        yield f"# {question.text}"
        yield f"#   about: {', '.join(question.concerns(found))}"
        for line in describe(question):
            yield f"#   {line}"
        if question is APPLY and is_control_plane(found):
            yield "#   On this control-plane node its name has to stand here instead of yes."
        yield f"{question.key}: {given.get(question.key, question.default)}"
