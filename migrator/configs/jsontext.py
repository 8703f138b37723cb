# SPDX-License-Identifier: Apache-2.0
"""JSON documents with positions: what is needed to add or change one member in place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from migrator.configs.text import (
    BOM,
    ConfigSyntaxError,
    Splice,
    deepest_line,
    indent_at,
    insert_item,
    is_deeper,
    line_start,
    newline_at,
    syntax_error,
)

# A string that is never closed goes to the end at once: looking for its end from each of its quotes would take for ever.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_MAX_DIGITS = 4000
"""Python refuses to convert longer integers."""


@dataclass(frozen=True, slots=True)
class Member:
    """One `"key": value` of an object, as offsets of the document."""

    key: str
    start: int
    key_end: int
    value_start: int
    end: int


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The top-level object of a document: where its braces and members stand, and what it means."""

    text: str
    opening: int
    closing: int
    members: tuple[Member, ...]
    data: dict[str, object]

    def member(self, key: str) -> Member | None:
        """Return the member of this key."""
        return next((member for member in self.members if member.key == key), None)


def parse_object(text: str) -> JsonObject:
    """Parse a document whose top level must be an object.

    Raises:
        ConfigSyntaxError: not JSON, not an object, or a top-level key stands twice (Go takes the last, people the first).
    """
    data = _load(text)
    body = len(BOM) if text.startswith(BOM) else 0
    opening = body + len(text[body:]) - len(text[body:].lstrip())
    if not isinstance(data, dict):
        raise syntax_error(text, opening, "the top level must be an object, { … }")
    tokens = list(_TOKEN.finditer(text, opening))
    members, closing = _members(tokens)
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            message = f'the key "{member.key}" stands twice; keep one of them'
            raise syntax_error(text, member.start, message)
        seen.add(member.key)
    return JsonObject(text, opening, closing, tuple(members), data)


def elements(text: str, opening: int) -> tuple[list[tuple[int, int]], int]:
    """Return start and end of every element of the list that opens here, and where it closes."""
    tokens = iter(_TOKEN.finditer(text, opening + 1))
    found: list[tuple[int, int]] = []
    for token in tokens:
        if token[0] == "]":
            return found, token.start()
        if token[0] != ",":
            end = token.end()
            depth = int(token[0] in "[{")
            while depth:
                inner = next(tokens)
                depth += (inner[0] in "[{") - (inner[0] in "]}")
                end = inner.end()
            found.append((token.start(), end))
    raise syntax_error(text, opening, "the list is not closed")


def append_member(document: JsonObject, key: str, value: str, *, path: str, after: str) -> Splice:
    """Return the splice that adds a member at the end, in the style of its neighbours.

    Args:
        document: the object to add to.
        key: the plain key.
        value: the value as JSON text.
        path: `Edit.path_in_file`.
        after: `Edit.after`.
    """
    text = document.text
    if document.members:
        last = document.members[-1]
        colon = text[last.key_end : last.value_start]
        item = f"{json.dumps(key)}{colon if colon.strip(' ') == ':' else ': '}{value}"
        spans = [(member.start, member.end) for member in document.members]
        place, new, edit_at = insert_item(text, document.opening, spans, item)
        if colon == ":" and len(spans) == 1 and new.startswith(", "):
            new, edit_at = "," + item, 1
        return Splice(place, place, new, path, None, after, edit_at)
    item = f"{json.dumps(key)}: {value}"
    inside = text[document.opening + 1 : document.closing]
    newline = newline_at(text, document.opening)
    lead = newline + indent_at(text, document.opening) + "  "
    tail = "" if "\n" in inside else newline + indent_at(text, document.opening)
    end = document.opening + 1 if "\n" in inside else document.closing
    return Splice(document.opening + 1, end, lead + item + tail, path, None, after, len(lead))


def append_element(text: str, opening: int, value: str, *, path: str, after: str) -> Splice:
    """Return the splice that adds an element at the end of the list that opens here."""
    spans, closing = elements(text, opening)
    if spans:
        place, new, edit_at = insert_item(text, opening, spans, value)
        return Splice(place, place, new, path, None, after, edit_at)
    place = opening + 1
    if "\n" in text[place:closing]:
        lead = newline_at(text, opening) + indent_at(text, closing) + "  "
        return Splice(place, place, lead + value, path, None, after, len(lead))
    return Splice(place, closing, value, path, None, after)


def _members(tokens: list[re.Match[str]]) -> tuple[list[Member], int]:
    members: list[Member] = []
    depth = 0
    key: re.Match[str] | None = None
    value: re.Match[str] | None = None
    before = tokens[0]
    for token in tokens:
        mark = token[0]
        if depth == 1 and mark in ",}":
            if key and value:
                name = json.loads(key[0])
                members.append(Member(name, key.start(), key.end(), value.start(), before.end()))
            key = value = None
        elif depth == 1 and key is None:
            key = token
        elif depth == 1 and mark != ":" and value is None:
            value = token
        depth += (mark in "[{") - (mark in "]}")
        before = token
    return members, before.start()


def _load(text: str) -> object:
    for token in _TOKEN.finditer(text):
        if token[0] in {"NaN", "Infinity", "-Infinity"}:
            raise syntax_error(text, token.start(), f"{token[0]} is not JSON")
    try:
        data: object = json.loads(text.removeprefix(BOM), parse_int=_integer)
    except json.JSONDecodeError as error:
        offset = error.pos + (len(text) - len(text.removeprefix(BOM)))
        raise ConfigSyntaxError(
            f"not JSON: {error.msg}",
            line=error.lineno,
            column=offset - line_start(text, offset) + 1,
        ) from error
    except RecursionError as error:
        raise ConfigSyntaxError("nested too deeply", line=deepest_line(text)) from error
    if is_deeper(data):
        raise ConfigSyntaxError("nested too deeply", line=deepest_line(text))
    return data


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)
