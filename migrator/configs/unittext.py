# SPDX-License-Identifier: Apache-2.0
"""The syntax of systemd's unit files, with the place of every character.

Rules: systemd.syntax(7) for lines, systemd.service(5) "Command lines" for words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrator.configs.text import BOM, ConfigSyntaxError, LineIndex
from migrator.configs.words import Char, Origin, Word

_BLANKS = " \t\r\n"
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_NUMERIC_ESCAPE = re.compile(r"x[0-9A-Fa-f]{2}|[0-7]{3}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One `Key=value` line, continuation lines joined."""

    section: str
    key: str
    chars: tuple[Char, ...]
    origin: Origin

    @property
    def value(self) -> str:
        """The value, quotes and escapes as written."""
        return "".join(char.text for char in self.chars)


def unit_settings(text: str, path: str) -> Iterator[Setting]:
    """Yield every `Key=value` of a unit file, in order.

    Raises:
        ConfigSyntaxError: a section header that is not closed; systemd rejects the whole file.
    """
    section = ""
    for chars in _logical_lines(text, path):
        line = "".join(char.text for char in chars)
        if line.startswith("["):
            if not line.endswith("]"):
                origin = chars[0].origin
                raise ConfigSyntaxError(f"invalid section header {line}", line=origin.line)
            section = line[1:-1]
            continue
        key, equals, _ = line.partition("=")
        if equals:
            yield Setting(section, key.strip(), _stripped(chars[len(key) + 1 :]), chars[0].origin)


def _logical_lines(text: str, path: str) -> Iterator[tuple[Char, ...]]:
    """Join continued lines; a comment in between is skipped and does not end them."""
    lines = LineIndex(text)
    start = len(BOM) if text.startswith(BOM) else 0
    pending: list[Char] = []
    while start < len(text):
        newline = text.find("\n", start)
        after = len(text) if newline < 0 else newline + 1
        line = text[start:after].rstrip("\r\n")
        if not line.lstrip(_BLANKS).startswith(("#", ";")):
            origin = Origin(path, lines.line(start))
            pending += [
                Char(character, start + at, start + at + 1, origin) for at, character in enumerate(line)
            ]
            backslashes = len(line) - len(line.rstrip("\\"))
            if backslashes % 2:
                pending[-1] = Char(" ", start + len(line) - 1, after, origin)
            else:
                if stripped := _stripped(pending):
                    yield stripped
                pending = []
        start = after
    if stripped := _stripped(pending):
        yield stripped


def _stripped(chars: Sequence[Char]) -> tuple[Char, ...]:
    start, end = 0, len(chars)
    while start < end and chars[start].text in _BLANKS:
        start += 1
    while start < end and chars[end - 1].text in _BLANKS:
        end -= 1
    return tuple(chars[start:end])


def split_commands(setting: Setting) -> list[list[Word]]:
    """Return the words of every command of a setting; a bare `;` between blanks parts two commands.

    Raises:
        ConfigSyntaxError: see `unquoted`.
    """
    chars = setting.chars
    commands: list[list[Word]] = [[]]
    position = 0
    while (found := _next_word(chars, position)) is not None:
        word, position = found
        raw = chars[position - 1]
        if word.text == ";" and len(word.chars) == 1 and word.chars[0] is raw:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def unquoted(setting: Setting) -> list[Word]:
    """Split a value at blanks, with quotes, C escapes and `%%`; other specifiers stay as written.

    Raises:
        ConfigSyntaxError: a quote that is never closed.
    """
    words: list[Word] = []
    position = 0
    while (found := _next_word(setting.chars, position)) is not None:
        words.append(found[0])
        position = found[1]
    return words


def _next_word(chars: Sequence[Char], position: int) -> tuple[Word, int] | None:
    """Return the word that follows a position, and the position after it."""
    while position < len(chars) and chars[position].text in _BLANKS:
        position += 1
    if position == len(chars):
        return None
    first = chars[position]
    decoded: list[Char] = []
    opening: Char | None = None
    if _is_escaped_semicolon(chars, position):
        return Word(
            (Char(";", first.start, chars[position + 1].end, first.origin),), first.origin
        ), position + 2
    while position < len(chars) and (opening is not None or chars[position].text not in _BLANKS):
        char = chars[position]
        length = 1
        if char.text == "\\":
            spelled, length = _escape(chars, position)
            decoded += spelled
        elif char.text == "%" and position + 1 < len(chars) and chars[position + 1].text == "%":
            decoded.append(Char("%", char.start, chars[position + 1].end, char.origin))
            length = 2
        elif opening is not None and char.text == opening.text:
            opening = None
        elif opening is None and char.text in "\"'":
            opening = char
        else:
            decoded.append(char)
        position += length
    if opening is not None:
        raise ConfigSyntaxError(f"the quote {opening.text} is never closed", line=opening.origin.line)
    return Word(tuple(decoded), (decoded or [first])[0].origin), position


def _is_escaped_semicolon(chars: Sequence[Char], position: int) -> bool:
    """Is this word a backslash and a semicolon, which parts no commands?"""
    after = "".join(char.text for char in chars[position : position + 3])
    return after[:2] == "\\;" and (len(after) == 2 or after[2] in _BLANKS)


def _escape(chars: Sequence[Char], position: int) -> tuple[list[Char], int]:
    """Decode the escape at a backslash, and say how many characters it takes.

    An unknown one stands for itself, both characters of it, as systemd has it after a warning.
    """
    backslash = chars[position]
    rest = "".join(char.text for char in chars[position + 1 : position + 10])
    text, length = "", 0
    if rest[:1] in _ESCAPES:
        text, length = _ESCAPES[rest[0]], 1
    elif found := _NUMERIC_ESCAPE.match(rest):
        digits = found[0].lstrip("xuU")
        code = int(digits, 8 if digits == found[0] else 16)
        if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            text, length = chr(code), len(found[0])
    if not text:
        return list(chars[position : position + 2]), len(chars[position : position + 2])
    return [Char(text, backslash.start, chars[position + length].end, backslash.origin)], length + 1
