# SPDX-License-Identifier: Apache-2.0
"""systemd service units and their drop-ins: the argv that a service really starts with, and where each word is written.

Rules: systemd.syntax(7), systemd.service(5) "Command lines", systemd.exec(5) "Environment".
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrator.cgroups import Driver
from migrator.configs.flags import Assignment, blanked, parse_env_file, replace_values
from migrator.configs.text import ConfigSyntaxError, Edited, decode_any
from migrator.configs.unittext import Setting, split_commands, unit_settings, unquoted
from migrator.configs.words import (
    KUBELET_DRIVER,
    Char,
    Flag,
    FlagValue,
    Origin,
    Word,
    flag_values,
    split_words,
)

_PREFIXES = "@-:+!|"
_MAX_COMMAND = 2 * 1024 * 1024
"""Characters of a command line: what execve(2) takes with the usual stack."""
_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command line, unquoted; `expands` is False where a `:` prefix switches variables off."""

    words: tuple[Word, ...]
    expands: bool
    origin: Origin

    @property
    def argv(self) -> list[str]:
        """The words, variables not yet expanded."""
        return [word.text for word in self.words]


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """One `EnvironmentFile=`; with `optional` (a `-` before the path) it may be missing."""

    path: str
    optional: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """A unit with its drop-ins applied."""

    exec_start: tuple[Command, ...]
    environment: tuple[Assignment, ...]
    environment_files: tuple[EnvironmentFile, ...]
    unset_environment: tuple[str, ...]
    settings: tuple[Setting, ...]
    """Every line of every file, in order; for single values such as `Delegate=` see `last`."""

    def last(self, key: str, section: str = "Service") -> Setting | None:
        """Return the line that decides a setting of one value."""
        found = [setting for setting in self.settings if (setting.section, setting.key) == (section, key)]
        return found[-1] if found else None


def order_drop_ins(paths: Iterable[str]) -> tuple[str, ...]:
    """Return drop-in files in the order in which systemd applies them.

    By file name; of two with the same name only the one in the more important directory counts (`/etc` before `/run`
    before `/usr`), and in one directory that of the unit before that of its type (`service.d`).
    """
    chosen: dict[str, tuple[tuple[int, int], str]] = {}
    for path in paths:
        directory, name = posixpath.split(path)
        root, unit = posixpath.split(directory)
        place = next(
            (at for at, known in enumerate(_UNIT_DIRECTORIES) if root.endswith(known)), len(_UNIT_DIRECTORIES)
        )
        rank = (-len(unit), place)
        if name not in chosen or rank < chosen[name][0]:
            chosen[name] = (rank, path)
    return tuple(chosen[name][1] for name in sorted(chosen))


def parse_unit(texts: Sequence[tuple[str, bytes]]) -> UnitConfig:
    """Read a unit file and its drop-ins, given as (path, text) in the order in which they apply.

    Raises:
        ConfigSyntaxError: a section header, quote or escape that systemd rejects too.
    """
    settings = [setting for path, text in texts for setting in unit_settings(decode_any(text), path)]
    commands: list[Command] = []
    environment: list[Assignment] = []
    files: list[EnvironmentFile] = []
    unset: list[str] = []
    for setting in settings:
        if setting.section != "Service":
            continue
        match setting.key:
            case "ExecStart":
                commands = commands + _commands(setting) if setting.chars else []
            case "Environment":
                environment = environment + _assignments(setting) if setting.chars else []
            case "EnvironmentFile":
                path = setting.value.removeprefix("-")
                is_optional = path != setting.value
                files = [*files, EnvironmentFile(path, is_optional, setting.origin)] if setting.chars else []
            case "UnsetEnvironment":
                unset = unset + [word.text for word in unquoted(setting)] if setting.chars else []
            case _:
                pass
    return UnitConfig(tuple(commands), tuple(environment), tuple(files), tuple(unset), tuple(settings))


def effective_environment(unit: UnitConfig, env_files: Mapping[str, bytes]) -> dict[str, Assignment]:
    """Return the variables that the service gets: `Environment=`, then every file over it, later ones winning.

    Args:
        unit: see `parse_unit`.
        env_files: text by path, of those of `unit.environment_files` that exist; patterns are matched against it.
    """
    variables = {assignment.name: assignment for assignment in unit.environment}
    parsed: dict[str, dict[str, Assignment]] = {}
    for pattern in _last_of_each(wanted.path for wanted in unit.environment_files):
        for path in sorted(fnmatch.filter(env_files, pattern)) or [pattern]:
            if path not in parsed:
                parsed[path] = {found.name: found for found in parse_env_file(env_files.get(path, b""), path)}
            variables |= parsed[path]
    for name in unit.unset_environment:
        key, equals, value = name.partition("=")
        if key in variables and (not equals or variables[key].value == value):
            del variables[key]
    return variables


def effective_argv(unit: UnitConfig, env_files: Mapping[str, bytes]) -> tuple[tuple[Word, ...], ...]:
    """Return the argv of every `ExecStart=` as the process gets it; each word knows its file and line.

    `$NAME` as a word of its own splits at blanks, into none when the variable is unset; `${NAME}` never splits.

    Raises:
        ConfigSyntaxError: a command line that no kernel takes, because its variables make it so long.
    """
    variables = effective_environment(unit, env_files)
    left = _MAX_COMMAND
    argvs = []
    for command in unit.exec_start:
        argv: list[Word] = []
        for raw in command.words:
            words = tuple(_expanded(raw, variables, left)) if command.expands else (raw,)
            left -= sum(len(word.chars) for word in words)
            if left < 0:
                message = "with its variables the command is longer than the kernel takes"
                raise ConfigSyntaxError(message, line=raw.origin.line)
            argv += words
        argvs.append(tuple(argv))
    return tuple(argvs)


def unset_variables(unit: UnitConfig, env_files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the variables that `ExecStart=` uses and no `Environment=` or environment file sets, each once.

    Those of `UnsetEnvironment=` are none: nobody else can set them either.
    """
    known = effective_environment(unit, env_files).keys() | set(unit.unset_environment)
    used = (
        found[1] or found[2]
        for command in unit.exec_start
        if command.expands
        for word in command.words[1:]  # the program itself is never a variable
        for found in re.finditer(r"\$\$|\$\{(\w+)\}|^\$(\w+)$", word.text, re.ASCII)
    )
    return tuple(dict.fromkeys(name for name in used if name and name not in known))


def flags_in_unit(text: bytes, flag: Flag, path: str = "") -> tuple[FlagValue, ...]:
    """Return every place of one unit file that gives a value to this flag, in `ExecStart=` or `Environment=`.

    Raises:
        ConfigSyntaxError: see `parse_unit`.
    """
    return tuple(
        value
        for setting in unit_settings(decode_any(text), path)
        for words in _argvs(setting)
        for value in flag_values(words, flag)
    )


def set_driver(text: bytes, driver: Driver, flag: Flag = KUBELET_DRIVER) -> Edited:
    """Set the driver wherever one unit file gives this flag; see `set_flag`."""
    return set_flag(text, flag, driver.value)


def set_flag(text: bytes, flag: Flag, value: str) -> Edited:
    """Set the value wherever one unit file gives this flag; adds none.

    Raises:
        ConfigSyntaxError: see `parse_unit`.
        UnsupportedShapeError: the value is a variable, or is quoted in pieces.
    """
    return replace_values(
        decode_any(text),
        flags_in_unit(text, flag),
        value,
        flag,
        lambda new: _said(new, flag),
    )


def _said(text: bytes, flag: Flag) -> list[object]:
    said: list[object] = []
    for setting in unit_settings(decode_any(text), ""):
        argvs = _argvs(setting)
        has_flag = any(flag_values(words, flag) for words in argvs)
        said.append(
            (
                setting.section,
                setting.key,
                [blanked(words, flag) for words in argvs] if has_flag else setting.value,
            ),
        )
    return said


def _argvs(setting: Setting) -> list[tuple[Word, ...]]:
    if setting.section != "Service" or not setting.chars:
        return []
    if setting.key == "ExecStart":
        return [command.words for command in _commands(setting)]
    if setting.key == "Environment":
        return [split_words(assignment.chars) for assignment in _assignments(setting)]
    return []


def _last_of_each(paths: Iterable[str]) -> list[str]:
    """Return each path once, where it stands last: read again, a file says the same again."""
    return list(reversed(dict.fromkeys(reversed(list(paths)))))


def _expanded(word: Word, variables: Mapping[str, Assignment], most: int) -> Iterator[Word]:
    """Yield the words that one word becomes; no more than `most` characters and a variable."""
    text = word.text
    if text.startswith("$") and text[1:2] not in {"$", "{", ""}:
        assignment = variables.get(text[1:])
        yield from split_words(assignment.chars) if assignment else ()
        return
    chars: list[Char] = []
    position = 0
    for found in re.finditer(r"\$\$|\$\{(\w+)\}", text, re.ASCII):
        chars += word.chars[position : found.start()]
        if found[1] is None:
            chars.append(word.chars[found.start()])
        elif assignment := variables.get(found[1]):
            chars += assignment.chars
        position = found.end()
        if len(chars) > most:
            break
    yield Word((*chars, *word.chars[position:]), word.origin)


def _commands(setting: Setting) -> list[Command]:
    commands: list[Command] = []
    for words in split_commands(setting):
        first = words[0].text
        prefix = first[: len(first) - len(first.lstrip(_PREFIXES))]
        program = Word(words[0].chars[len(prefix) :], words[0].origin)
        arguments = words[2:] if "@" in prefix else words[1:]
        commands.append(Command((program, *arguments), ":" not in prefix, program.origin))
    return commands


def _assignments(setting: Setting) -> list[Assignment]:
    found = []
    for word in unquoted(setting):
        name, equals, _ = word.text.partition("=")
        if equals:
            found.append(Assignment(name, word.chars[len(name) + 1 :], word.origin))
    return found
