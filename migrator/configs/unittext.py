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


def unquoted(setting: Setting) -> list[Word]:
    """Split a value at blanks, with quotes, C escapes and `%%`; other specifiers stay as written.

    Raises:
        ConfigSyntaxError: a quote that is never closed.
    """
    words: list[Word] = []
    current: list[Char] = []
    opening: Char | None = None
    started = False
    position = 0
    chars = setting.chars
    while position < len(chars):
        char = chars[position]
        position += 1
        if char.text == "\\":
            decoded, length = _escape(chars, position)
            end = chars[position + length - 1].end if length else char.end
            current.append(Char(decoded, char.start, end, char.origin))
            position += length
            started = True
        elif char.text == "%" and position < len(chars) and chars[position].text == "%":
            current.append(Char("%", char.start, chars[position].end, char.origin))
            position += 1
        elif opening is not None:
            if char.text == opening.text:
                opening = None
            else:
                current.append(char)
        elif char.text in "\"'":
            opening, started = char, True
        elif char.text in _BLANKS:
            if started or current:
                words.append(Word(tuple(current), (current or [char])[0].origin))
            current, started = [], False
        else:
            current.append(char)
    if opening is not None:
        raise ConfigSyntaxError(f"the quote {opening.text} is never closed", line=opening.origin.line)
    if started or current:
        words.append(Word(tuple(current), (current or list(chars))[0].origin))
    return words


def _escape(chars: Sequence[Char], position: int) -> tuple[str, int]:
    """Return what an escape stands for, and how many characters after the backslash belong to it.

    An unknown one stands for itself, as systemd has it after a warning.
    """
    rest = "".join(char.text for char in chars[position : position + 9])
    if rest[:1] in _ESCAPES:
        return _ESCAPES[rest[0]], 1
    if rest[:1] == ";":
        return ";", 1
    found = _NUMERIC_ESCAPE.match(rest)
    if found:
        digits = found[0].lstrip("xuU")
        code = int(digits, 8 if digits == found[0] else 16)
        if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code), len(found[0])
    return "\\", 0
