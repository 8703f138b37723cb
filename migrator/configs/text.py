# SPDX-License-Identifier: Apache-2.0
"""What every editor of a configuration file shares: data about an edit, positions, and the splice itself.

An editor never writes a document out again. It parses to find the place, replaces those characters, and parses again
to prove that nothing else changed; so comments, key order, line ends and a byte order mark survive.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOM = "\ufeff"

MAX_DOCUMENT = 1024 * 1024
"""Bytes of a JSON, TOML or YAML file; etcd takes no larger ConfigMap, and a node's own files have some ten thousand."""

MAX_LINES = 64 * 1024
"""Bytes of a unit or environment file, of which every character is kept with its place."""

MAX_DEPTH = 64
"""Of tables and lists in each other. A parser takes more; whoever copies, compares or writes it down again may not."""


class ConfigSyntaxError(Exception):
    """A configuration file that its own program would not read as meant; says where, the caller knows the file."""

    def __init__(self, message: str, *, line: int, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class UnsupportedShapeError(ConfigSyntaxError):
    """A valid file whose setting is written in a way that cannot be changed safely; the operator has to."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One changed setting: values as they stand in the file, None where the key was or will be absent."""

    path_in_file: str
    before: str | None
    after: str | None
    line: int
    """1-based, in the new text."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text; no `edits` means that it is already so, and the text is the old one byte for byte."""

    text: bytes
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace `[start, end)` of a text by `new`; `edit_at` is the offset inside `new` where the setting stands."""

    start: int
    end: int
    new: str
    path_in_file: str
    before: str | None
    after: str | None
    edit_at: int = 0


def decode(data: bytes) -> str:
    """Return the text of a file that must be UTF-8.

    Raises:
        ConfigSyntaxError: with the line of the first byte that is not; larger than `MAX_DOCUMENT`.
    """
    _refuse_larger(data, MAX_DOCUMENT)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigSyntaxError(message, line=line, column=column) from error


def decode_any(data: bytes) -> str:
    """Return the text of a file whose encoding nobody promises (unit and environment files); see `encode_any`.

    Raises:
        ConfigSyntaxError: larger than `MAX_LINES`.
    """
    _refuse_larger(data, MAX_LINES)
    return data.decode("utf-8", "surrogateescape")


def encode_any(text: str) -> bytes:
    """Return the bytes that `decode_any` came from."""
    return text.encode("utf-8", "surrogateescape")


def _refuse_larger(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise ConfigSyntaxError(
            f"the file has {len(data)} bytes, more than the {limit} that are read of such a file; make it shorter",
            line=data.count(b"\n", 0, limit) + 1,
        )


def is_deeper(document: object, levels: int = MAX_DEPTH) -> bool:
    """Tell whether plain data has more tables and lists in each other than this; shared ones are looked at once."""
    layer: list[object] = [document]
    for _ in range(levels + 1):
        inner: dict[int, object] = {}
        for each in layer:
            values = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            inner.update((id(value), value) for value in values if isinstance(value, dict | list))
        if not inner:
            return False
        layer = list(inner.values())
    return True


class LineIndex:
    """Lines of offsets, for the many questions of a parser that keeps every place."""

    def __init__(self, text: str) -> None:
        self._newlines = [at for at, character in enumerate(text) if character == "\n"]

    def line(self, offset: int) -> int:
        """Return the 1-based line of an offset."""
        return bisect_left(self._newlines, offset) + 1


def line_at(text: str, offset: int) -> int:
    """Return the 1-based line of an offset."""
    return text.count("\n", 0, offset) + 1


def line_start(text: str, offset: int) -> int:
    """Return where the line of an offset begins."""
    return text.rfind("\n", 0, offset) + 1


def line_end(text: str, offset: int) -> int:
    """Return the offset after the newline of a line, or the end of the text."""
    newline = text.find("\n", offset)
    return len(text) if newline < 0 else newline + 1


def newline_at(text: str, offset: int) -> str:
    """Return the newline that is in use around an offset: of its line, else of the line before, else a line feed."""
    found = text.find("\n", offset)
    if found < 0:
        found = text.rfind("\n", 0, offset)
    return "\r\n" if found > 0 and text[found - 1] == "\r" else "\n"


def indent_at(text: str, offset: int) -> str:
    """Return the blanks at the start of the line of an offset."""
    start = line_start(text, offset)
    if text.startswith(BOM, start):
        start += 1
    end = start
    while end < len(text) and text[end] in " \t":
        end += 1
    return text[start:end]


def syntax_error(text: str, offset: int, message: str) -> ConfigSyntaxError:
    """Return an error that points at an offset."""
    return ConfigSyntaxError(
        message, line=line_at(text, offset), column=offset - line_start(text, offset) + 1
    )


def unsupported(text: str, offset: int, message: str) -> UnsupportedShapeError:
    """Return a refusal that points at an offset."""
    return UnsupportedShapeError(
        message, line=line_at(text, offset), column=offset - line_start(text, offset) + 1
    )


def deepest_line(text: str) -> int:
    """Return the line where brackets nest deepest: what to name when a parser ran out of stack."""
    depth = deepest = line_of_deepest = 0
    line = 1
    for character in text:
        if character in "[{":
            depth += 1
            if depth > deepest:
                deepest, line_of_deepest = depth, line
        elif character in "]}":
            depth -= 1
        elif character == "\n":
            line += 1
    return line_of_deepest or 1


def new_line_after(text: str, offset: int, content: str) -> tuple[int, str, int]:
    """Return place, text and inner offset to put whole lines after the line that ends at `offset`.

    A file that lacks its last newline goes on lacking it.
    """
    newline = newline_at(text, max(offset - 1, 0))
    content = content.replace("\n", newline)
    if text[:offset].removeprefix(BOM) and not text.endswith("\n", 0, offset):
        return offset, newline + content, len(newline)
    return offset, content + newline, 0


def splice(text: str, splices: Iterable[Splice]) -> Edited:
    """Apply splices that do not overlap, and say where each setting stands afterwards."""
    ordered = sorted(splices, key=lambda item: item.start)
    pieces: list[str] = []
    edits: list[Edit] = []
    done = 0
    line = 1
    for item in ordered:
        pieces += [text[done : item.start], item.new]
        line += text.count("\n", done, item.start)
        at = line + item.new.count("\n", 0, item.edit_at)
        edits.append(Edit(item.path_in_file, item.before, item.after, at))
        line += item.new.count("\n")
        done = item.end
    pieces.append(text[done:])
    return Edited(encode_any("".join(pieces)), tuple(edits))


def insert_item(text: str, opening: int, items: Sequence[tuple[int, int]], item: str) -> tuple[int, str, int]:
    """Return place, text and inner offset to append an item to a bracketed, comma-separated list.

    Args:
        text: the document.
        opening: where `[` or `{` stands.
        items: start and end of every item there is, at least one.
        item: the new one.
    """
    last_start, last_end = items[-1]
    if len(items) > 1:
        separator = text[items[-2][1] : last_start]
    else:
        lead = text[opening + 1 : last_start]
        separator = "," + lead if "\n" in lead else ", "
    if "#" in separator:
        lines = "\n" in separator
        separator = "," + newline_at(text, last_start) + indent_at(text, last_start) if lines else ", "
    return last_end, separator + item, len(separator)
