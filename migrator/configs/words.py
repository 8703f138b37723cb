# SPDX-License-Identifier: Apache-2.0
"""Command-line words that remember where each of their characters stands.

A flag may reach a process from a unit's `ExecStart=`, its `Environment=`, or an environment file, each with quoting of
its own. Decoding keeps the place of every character, so that a value can be replaced where it is written, and an
operator can be shown `file:line`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from migrator.configs.text import Splice, unsupported


@dataclass(frozen=True, slots=True)
class Origin:
    """The file and 1-based line where something is written."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Char:
    """A decoded character and the raw characters `[start, end)` of its file that spell it."""

    text: str
    start: int
    end: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Word:
    """One word as the process sees it."""

    chars: tuple[Char, ...]
    origin: Origin

    @property
    def text(self) -> str:
        """The word itself."""
        return "".join(char.text for char in self.chars)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Flag:
    """How a program spells its driver on the command line.

    `option` is set where the value is itself `option=value`, as in dockerd's `--exec-opt native.cgroupdriver=…`.
    `underscores`: the program takes `_` in a name for `-`, as the kubelet does (k8s `WordSepNormalizeFunc`).
    """

    name: str
    option: str = ""
    first_wins: bool = False
    single_dash: bool = False
    underscores: bool = False

    def is_spelled(self, given: str) -> bool:
        """Tell whether what stands before a word's `=` is this flag."""
        if self.underscores and given.startswith("--"):
            given = "--" + given[2:].replace("_", "-")
        return given == self.name or (self.single_dash and given == self.name[1:])


KUBELET_DRIVER = Flag("--cgroup-driver", underscores=True)
DOCKER_DRIVER = Flag("--exec-opt", option="native.cgroupdriver", first_wins=True)
CRIO_DRIVER = Flag("--cgroup-manager", single_dash=True)


@dataclass(frozen=True, slots=True)
class FlagValue:
    """One place where a flag is given; `origin` is where the value is written."""

    value: str
    origin: Origin
    chars: tuple[Char, ...]
    after: Char
    """The character before the value: where an empty value would go."""


def flag_values(words: Sequence[Word], flag: Flag) -> tuple[FlagValue, ...]:
    """Return every value that these words give to a flag, as `--flag=value` or `--flag value`, in order."""
    found = []
    position = 0
    while position < len(words):
        word = words[position]
        name, equals, _ = word.text.partition("=")
        position += 1
        if not flag.is_spelled(name):
            if word.text == "--":
                break
            continue
        if equals:
            chars, before = word.chars[len(name) + 1 :], word.chars[len(name)]
        elif position < len(words):
            value = words[position]
            position += 1
            chars, before = value.chars, value.chars[0] if value.chars else word.chars[-1]
        else:
            break
        if flag.option:
            text = "".join(char.text for char in chars)
            key, equals, _ = text.partition("=")
            if not equals or key.strip().lower() != flag.option:
                continue
            chars, before = chars[len(key) + 1 :], chars[len(key)]
        origin = chars[0].origin if chars else before.origin
        found.append(FlagValue("".join(char.text for char in chars), origin, chars, before))
    return tuple(found)


def effective(values: Sequence[FlagValue], flag: Flag) -> FlagValue | None:
    """Return the value that counts: the last, or the first for a list that dockerd searches from its start."""
    if not values:
        return None
    return values[0] if flag.first_wins else values[-1]


def plain_words(argv: Iterable[str], origin: Origin) -> tuple[Word, ...]:
    """Return the words of a real argv, such as a process's."""
    return tuple(
        Word(tuple(Char(character, at, at + 1, origin) for at, character in enumerate(word)), origin)
        for word in argv
    )


def value_splice(text: str, found: FlagValue, new: str, path_in_file: str) -> Splice | None:
    """Return the splice that replaces a flag's value where it is written; None when it is already so.

    Raises:
        UnsupportedShapeError: the value comes from a variable, or is quoted in pieces.
    """
    if found.value == new:
        return None
    if re.search(r"\$[A-Za-z_{]", found.value):
        message = f"the value {found.value} comes from a variable; change the variable, or write {new} here"
        raise unsupported(text, found.chars[0].start, message)
    if any(left.end != right.start for left, right in pairwise(found.chars)):
        raise unsupported(
            text, found.chars[0].start, f"the value {found.value} is quoted in pieces; write {new} by hand"
        )
    start = found.chars[0].start if found.chars else found.after.end
    end = found.chars[-1].end if found.chars else start
    return Splice(start, end, new, path_in_file, found.value, new)


def split_words(chars: Sequence[Char]) -> tuple[Word, ...]:
    """Split a variable's value as systemd does for `$NAME` in `ExecStart=`: at blanks, with quotes and backslashes.

    As in systemd (`EXTRACT_RELAX`), an open quote goes to the end of the value, and a backslash there is dropped.
    """
    words: list[Word] = []
    current: list[Char] = []
    started = False
    quote = ""
    position = 0
    while position < len(chars):
        char = chars[position]
        position += 1
        if char.text == "\\":
            current += chars[position : position + 1]
            position += 1
            started = True
        elif quote:
            if char.text == quote:
                quote = ""
            else:
                current.append(char)
        elif char.text in "\"'":
            quote, started = char.text, True
        elif char.text.isspace():
            if started or current:
                words.append(Word(tuple(current), (current or [char])[0].origin))
            current, started = [], False
        else:
            current.append(char)
    if started or current:
        words.append(Word(tuple(current), (current or list(chars))[0].origin))
    return tuple(words)
