# SPDX-License-Identifier: Apache-2.0
"""TOML documents with positions: what is needed to change or add one key in place.

`tomllib` says what a document means, and proves after an edit that only the intended keys differ; the scanner here says
where a key stands, in any of TOML's spellings: table headers, dotted keys, inline tables, either quote.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from migrator.configs.text import (
    BOM,
    MAX_DEPTH,
    ConfigSyntaxError,
    LineIndex,
    deepest_line,
    is_deeper,
    line_at,
    syntax_error,
)

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY_PART = re.compile(r"\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\n]*'|[A-Za-z0-9_-]+")
_STRING = (
    r"\"\"\"(?:[^\\]|\\.)*?\"{3,5}|'''.*?'{3,5}|"
    r"\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\n]*'"
)
_STRING_START = re.compile(_STRING, re.DOTALL)
_NESTED = re.compile(_STRING + r"|#[^\n]*|[\[\]{}]", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\r\n]*[^,\]}#\s]")
_WHERE = re.compile(r"\(at line (\d+), column (\d+)\)")
_LONG_NUMBER = re.compile(r"\d{4000,}")
_DEEP_KEY = re.compile(rf"^[ \t\[]*+(?:[\w\"'-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}", re.MULTILINE)
"""tomllib walks a table's whole name for every key in it."""


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of a dotted key: its plain name, and where it is written."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A `[table]` line; the root table has one without text. `end` is where its line ends."""

    path: Path
    parts: tuple[KeyPart, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A `key = value`; `inline` when it stands inside an inline table."""

    path: Path
    parts: tuple[KeyPart, ...]
    value_start: int
    value_end: int
    header: Header
    inline: bool


@dataclass(frozen=True, slots=True)
class InlineTable:
    """A `{ … }` value: where it opens, and start and end of each of its items."""

    path: Path
    opening: int
    closing: int
    items: tuple[tuple[int, int], ...]


class _Places:
    """What is asked of a document again and again: the first of each name."""

    def __init__(self, text: str, headers: tuple[Header, ...], pairs: tuple[Pair, ...]) -> None:
        self.lines = LineIndex(text)
        self.headers = {header.path: header for header in reversed(headers)}
        self.pairs = {pair.path: pair for pair in reversed(pairs)}
        self.first_below = {
            pair.path[:length]: pair for pair in reversed(pairs) for length in range(len(pair.path) + 1)
        }


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML text: its meaning, and where everything stands."""

    text: str
    data: dict[str, object]
    headers: tuple[Header, ...]
    """In file order; the first is the root table's."""
    pairs: tuple[Pair, ...]
    inline_tables: Mapping[Path, InlineTable] = field(default_factory=dict)
    _places: _Places = field(default_factory=lambda: _Places("", (), ()))

    def pair(self, path: Path) -> Pair | None:
        """Return the pair that sets exactly this path."""
        return self._places.pairs.get(path)

    def header(self, path: Path) -> Header | None:
        """Return the header of exactly this table."""
        return self._places.headers.get(path)

    def value(self, path: Path) -> object:
        """Return the value at a path; None when there is none."""
        return value_at(self.data, path)

    def line(self, path: Path) -> int:
        """Return the line of a key, or of what stands nearest above it; 1 when nothing does."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            pair, header = self.pair(part), self.header(part)
            if pair:
                return self._places.lines.line(pair.parts[-1].start)
            if header:
                return self._places.lines.line(header.start)
            below = self._places.first_below.get(part)
            if below:
                return self._places.lines.line(below.parts[0].start)
        return 1


def parse(text: str) -> Document:
    """Parse a TOML document.

    Raises:
        ConfigSyntaxError: not TOML.
    """
    data = _load(text)
    scanner = _Scanner(text)
    scanner.scan()
    headers, pairs = tuple(scanner.headers), tuple(scanner.pairs)
    return Document(text, data, headers, pairs, scanner.inline_tables, _Places(text, headers, pairs))


def value_at(data: object, path: Path) -> object:
    """Return the value at a path of plain data; None when there is none."""
    for name in path:
        if not isinstance(data, dict) or name not in data:
            return None
        data = data[name]
    return data


def with_value(data: Mapping[str, object], path: Path, value: object) -> dict[str, object]:
    """Return a copy of plain data with one value set, tables made as needed."""
    copied = copy.deepcopy(dict(data))
    table: dict[str, object] = copied
    for name in path[:-1]:
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            return copied
        table = below
    table[path[-1]] = value
    return copied


def same(left: object, right: object) -> bool:
    """Say two documents the same? Unlike `==`, not-a-number equals itself, and true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


def quoted_key(name: str) -> str:
    """Return a key as it must be written."""
    if _BARE.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def dotted(path: Path) -> str:
    """Return a path as a dotted key."""
    return ".".join(quoted_key(name) for name in path)


def _load(text: str) -> dict[str, object]:
    body = text.removeprefix(BOM)
    if deep := _DEEP_KEY.search(text):
        raise syntax_error(text, deep.start(), "nested too deeply")
    try:
        data = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        found = _WHERE.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else (line_at(text, len(text.rstrip())), 1)
        message = _WHERE.sub("", str(error)).replace("(at end of document)", "at the end of the file").strip()
        raise ConfigSyntaxError(f"not TOML: {message}", line=line, column=column) from error
    except RecursionError as error:
        raise ConfigSyntaxError("nested too deeply", line=deepest_line(text)) from error
    except ValueError as error:
        found = _LONG_NUMBER.search(text)
        raise syntax_error(text, found.start() if found else 0, f"not TOML: {error}") from error
    if is_deeper(data):
        raise ConfigSyntaxError("nested too deeply", line=deepest_line(text))
    return data


class _Scanner:
    """Finds headers, pairs and inline tables in a text that `tomllib` has accepted."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = len(BOM) if text.startswith(BOM) else 0
        self.headers: list[Header] = [Header((), (), self.position, self.position)]
        self.pairs: list[Pair] = []
        self.inline_tables: dict[Path, InlineTable] = {}
        self.array_sizes: dict[Path, int] = {}

    def scan(self) -> None:
        while self.position < len(self.text):
            self.blanks(" \t\r\n")
            if self.position >= len(self.text):
                break
            if self.text[self.position] == "#":
                self.to_line_end()
            elif self.text[self.position] == "[":
                self.scan_header()
            else:
                self.scan_pair(self.headers[-1].path, inline=False)

    def scan_header(self) -> None:
        start = self.position
        is_array = self.text.startswith("[[", start)
        self.position += 2 if is_array else 1
        parts = self.key()
        path = tuple(part.name for part in parts)
        if is_array:
            # An index that no key can be: whatever is inside is never what we look for.
            count = self.array_sizes[path] = self.array_sizes.get(path, -1) + 1
            path = (*path, f"[{count}]")
        self.to_line_end()
        self.headers.append(Header(path, parts, start, self.position))

    def scan_pair(self, table: Path, *, inline: bool) -> tuple[int, int]:
        parts = self.key()
        path = (*table, *(part.name for part in parts))
        self.position += 1
        self.blanks(" \t")
        start = self.position
        if self.text.startswith("{", start):
            self.scan_inline_table(path)
        else:
            self.position = self.value_end(start)
        self.pairs.append(Pair(path, parts, start, self.position, self.headers[-1], inline))
        return parts[0].start, self.position

    def scan_inline_table(self, path: Path) -> None:
        opening = self.position
        self.position += 1
        items = []
        self.blanks(" \t\r\n")
        while not self.text.startswith("}", self.position):
            items.append(self.scan_pair(path, inline=True))
            self.blanks(" \t\r\n,")
        self.inline_tables[path] = InlineTable(path, opening, self.position, tuple(items))
        self.position += 1

    def key(self) -> tuple[KeyPart, ...]:
        """Read a dotted key, and stop at the `=` or `]` after it."""
        parts = []
        while True:
            self.blanks(" \t")
            found = _KEY_PART.match(self.text, self.position)
            if found is None:
                raise syntax_error(self.text, self.position, "a key is expected here")
            parts.append(KeyPart(_plain(found[0]), found.start(), found.end()))
            self.position = found.end()
            self.blanks(" \t")
            if not self.text.startswith(".", self.position):
                return tuple(parts)
            self.position += 1

    def value_end(self, start: int) -> int:
        string = _STRING_START.match(self.text, start)
        if string:
            return string.end()
        if not self.text.startswith("[", start):
            scalar = _SCALAR.match(self.text, start)
            return scalar.end() if scalar else start
        depth = 0
        for token in self.nested(start):
            depth += (token[0] in "[{") - (token[0] in "]}")
            if not depth:
                return token.end()
        return len(self.text)

    def nested(self, start: int) -> Iterator[re.Match[str]]:
        return (
            token for token in _NESTED.finditer(self.text, start) if len(token[0]) == 1 and token[0] != "#"
        )

    def blanks(self, characters: str) -> None:
        while self.position < len(self.text) and self.text[self.position] in characters:
            self.position += 1

    def to_line_end(self) -> None:
        newline = self.text.find("\n", self.position)
        self.position = len(self.text) if newline < 0 else newline + 1


def _plain(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    if not part.startswith('"'):
        return part
    return part[1:-1] if "\\" not in part else str(tomllib.loads(f"key = {part}")["key"])
