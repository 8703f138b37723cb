# SPDX-License-Identifier: Apache-2.0
"""Flags that decide the driver: in a running process's argv, and in environment files.

Environment files are `kubeadm-flags.env`, `/etc/default/kubelet`, `/etc/sysconfig/docker` and the like, read with
systemd's rules for `EnvironmentFile=`. A flag beats the configuration file (F17); only one that is there is changed,
none is ever added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrator.cgroups import Driver
from migrator.configs.text import (
    BOM,
    Edited,
    LineIndex,
    decode_any,
    encode_any,
    splice,
    syntax_error,
    unsupported,
)
from migrator.configs.words import (
    CRIO_DRIVER,
    DOCKER_DRIVER,
    KUBELET_DRIVER,
    Char,
    Flag,
    FlagValue,
    Origin,
    Word,
    effective,
    flag_values,
    plain_words,
    split_words,
    value_splice,
)

__all__ = [
    "CRIO_DRIVER",
    "DOCKER_DRIVER",
    "KUBELET_DRIVER",
    "Assignment",
    "Flag",
    "FlagValue",
    "Origin",
    "Word",
    "driver_from_args",
    "effective",
    "flag_values",
    "flags_in_env_file",
    "parse_env_file",
    "set_driver",
    "set_flag",
    "value_from_args",
]

_BLANKS = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One `NAME=value` of an environment file, decoded."""

    name: str
    chars: tuple[Char, ...]
    origin: Origin

    @property
    def value(self) -> str:
        """The value as the process gets it."""
        return "".join(char.text for char in self.chars)


def driver_from_args(argv: Sequence[str], flag: Flag | str = KUBELET_DRIVER) -> str | None:
    """Return the driver that an argv asks for, exactly as the program sees it, stray quotes included (F03)."""
    chosen = flag if isinstance(flag, Flag) else Flag(flag)
    found = effective(flag_values(plain_words(argv, Origin("argv", 1)), chosen), chosen)
    return found.value if found else None


def value_from_args(argv: Sequence[str], name: str) -> str | None:
    """Return the last value that an argv gives to a flag such as `--config`."""
    return driver_from_args(argv, Flag(name))


def parse_env_file(text: bytes, path: str = "") -> tuple[Assignment, ...]:
    """Return the assignments of an environment file, in order; a later one of the same name wins.

    Rules: systemd.exec(5), `EnvironmentFile=`. Lines without `=` and names that are none (`export A`) are ignored, as
    systemd does. A comment ends with its line (systemd 254 and later; before, a backslash carried it on).

    Raises:
        ConfigSyntaxError: a quote that is never closed.
    """
    return tuple(_EnvFile(decode_any(text), path).assignments())


def flags_in_env_file(text: bytes, flag: Flag, path: str = "") -> tuple[FlagValue, ...]:
    """Return every place of an environment file that gives a value to this flag.

    Raises:
        ConfigSyntaxError: see `parse_env_file`.
    """
    return tuple(
        value
        for assignment in parse_env_file(text, path)
        for value in flag_values(split_words(assignment.chars), flag)
    )


def set_driver(text: bytes, driver: Driver, flag: Flag = KUBELET_DRIVER) -> Edited:
    """Set the driver in every place of an environment file where this flag is given; see `set_flag`."""
    return set_flag(text, flag, driver.value)


def set_flag(text: bytes, flag: Flag, value: str) -> Edited:
    """Set the value in every place of an environment file where this flag is given; adds none.

    Raises:
        ConfigSyntaxError: see `parse_env_file`.
        UnsupportedShapeError: the value is a variable, or is quoted in pieces.
    """
    decoded = decode_any(text)
    found = flags_in_env_file(text, flag)
    return replace_values(decoded, found, value, flag, lambda new: _said(new, flag))


def replace_values(
    text: str,
    found: Sequence[FlagValue],
    value: str,
    flag: Flag,
    said: Callable[[bytes], Sequence[object]],
) -> Edited:
    """Replace the values of a flag, and prove that the file then says the same but for them.

    Args:
        text: the file.
        found: where the flag is given.
        value: the new one.
        flag: how it is spelled.
        said: what the bytes of such a file say, with every value of this flag taken out.
    """
    name = f"{flag.name} {flag.option}".rstrip()
    changes = (value_splice(text, each, value, name) for each in found)
    splices = [change for change in changes if change is not None]
    edited = splice(text, splices)
    if said(edited.text) != said(encode_any(text)):
        raise unsupported(text, splices[0].start, f"{name} is quoted in pieces; write {value} by hand")
    return edited


def blanked(words: Sequence[Word], flag: Flag) -> list[str]:
    """Return the words with every value of this flag taken out, to compare what stands around them."""
    values = {id(char) for value in flag_values(words, flag) for char in value.chars}
    return ["".join("" if id(char) in values else char.text for char in word.chars) for word in words]


def _said(text: bytes, flag: Flag) -> list[str]:
    said = []
    for assignment in parse_env_file(text):
        words = split_words(assignment.chars)
        said += [assignment.name, *(blanked(words, flag) if flag_values(words, flag) else [assignment.value])]
    return said


class _EnvFile:
    """systemd's reader of environment files (`src/basic/env-file.c`), with the place of every character."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.lines = LineIndex(text)
        self.position = len(BOM) if text.startswith(BOM) else 0

    def assignments(self) -> list[Assignment]:
        found = []
        while self.position < len(self.text):
            self.skip(_BLANKS)
            if self.position >= len(self.text):
                break
            if self.text[self.position] in "#;":
                self.to_newline()
                continue
            start = self.position
            while self.position < len(self.text) and self.text[self.position] not in "=\r\n":
                self.position += 1
            name = self.text[start : self.position].rstrip()
            if not self.text.startswith("=", self.position):
                continue
            self.position += 1
            chars = self.value()
            if _is_name(name):
                found.append(Assignment(name, tuple(chars), self.origin(start)))
        return found

    def value(self) -> list[Char]:
        """Read a value: pieces in quotes, then a bare rest in which quotes are ordinary characters."""
        chars: list[Char] = []
        while True:
            self.skip(" \t")
            if self.position >= len(self.text) or self.text[self.position] in "\r\n":
                return chars
            quote = self.text[self.position]
            if quote == "'":
                chars += self.quoted(quote, escapes="")
            elif quote == '"':
                chars += self.quoted(quote, escapes='"\\`$')
            else:
                return chars + self.bare()

    def quoted(self, quote: str, escapes: str) -> list[Char]:
        chars: list[Char] = []
        opening = self.position
        self.position += 1
        while self.position < len(self.text):
            at = self.position
            character = self.text[at]
            self.position += 1
            if character == quote:
                return chars
            following = self.text[at + 1 : at + 2]
            if character == "\\" and escapes and following:
                self.position += 1
                if following in escapes:
                    chars.append(self.char(following, at, at + 2))
                elif following != "\n":
                    chars += [self.char(character, at, at + 1), self.char(following, at + 1, at + 2)]
            else:
                chars.append(self.char(character, at, at + 1))
        raise syntax_error(self.text, opening, f"the quote {quote} is never closed")

    def bare(self) -> list[Char]:
        chars: list[Char] = []
        kept = 0
        while self.position < len(self.text) and self.text[self.position] not in "\r\n":
            at = self.position
            character = self.text[at]
            self.position += 1
            if character == "\\" and self.position < len(self.text):
                following = self.text[self.position]
                self.position += 1
                if following not in "\r\n":
                    chars.append(self.char(following, at, at + 2))
                kept = len(chars)
                continue
            chars.append(self.char(character, at, at + 1))
            if character not in _BLANKS:
                kept = len(chars)
        return chars[:kept]

    def char(self, text: str, start: int, end: int) -> Char:
        return Char(text, start, end, self.origin(start))

    def origin(self, offset: int) -> Origin:
        return Origin(self.path, self.lines.line(offset))

    def skip(self, characters: str) -> None:
        while self.position < len(self.text) and self.text[self.position] in characters:
            self.position += 1

    def to_newline(self) -> None:
        end = self.text.find("\n", self.position)
        self.position = len(self.text) if end < 0 else end


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()
