# SPDX-License-Identifier: Apache-2.0
"""YAML documents with positions: what is needed to change or add one top-level key in place.

Works on parser events, which know where they stand, keep aliases as they are, and make it cheap to prove that an
edited document says the same but for one key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from migrator.configs.text import ConfigSyntaxError, deepest_line, line_at, syntax_error, unsupported

_MAX_DEPTH = 50
_MAX_EVENTS = 20_000
"""Of a document; ten times what a kubelet's configuration with every key has."""
_MAX_DIGITS = 4000
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
# YAML 1.1, which the kubelet's parser follows.
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"})
_INTEGER = re.compile(r"[-+]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of the top-level mapping; `value` holds the events of the whole value."""

    key: str
    key_event: ScalarEvent
    value: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class YamlMapping:
    """The only document of a text, whose top level is a mapping; offsets are the text's own."""

    text: str
    start: MappingStartEvent
    entries: tuple[Entry, ...]
    events: tuple[Event, ...]

    def entry(self, key: str) -> Entry | None:
        """Return the entry of this key."""
        return next((entry for entry in self.entries if entry.key == key), None)


def parse_mapping(text: str) -> YamlMapping | None:
    """Parse a text that holds one document with a mapping; None when it holds nothing.

    Raises:
        ConfigSyntaxError: not YAML, several documents, no mapping, or a top-level key stands twice.
    """
    events = _one_document(text)
    top = events[2] if len(events) > 2 else None
    if top is None or (isinstance(top, ScalarEvent) and is_null(top)):
        return None
    if not isinstance(top, MappingStartEvent):
        raise syntax_error(text, start_of(top), "the top level must be a mapping of keys to values")
    return YamlMapping(text, top, tuple(_entries(text, events)), events)


def plain_document(text: str) -> object:
    """Return the only document of a text as plain data, whatever its top level is; None when it holds nothing.

    Raises:
        ConfigSyntaxError: not YAML, several documents, or a key stands twice.
    """
    events = _one_document(text)
    return _Builder(text, iter(events[2:])).node() if len(events) > 2 else None


def start_of(event: Event) -> int:
    """Return the offset where an event begins."""
    return int(event.start_mark.index)


def end_of(event: Event) -> int:
    """Return the offset where an event ends."""
    return int(event.end_mark.index)


def is_null(event: ScalarEvent) -> bool:
    """Does this scalar say nothing?"""
    return event.style is None and event.value in _NULL


def meaning(events: tuple[Event, ...]) -> list[tuple[object, ...]]:
    """Return what the events say, without where they stand."""
    said: list[tuple[object, ...]] = []
    for event in events:
        anchor = event.anchor if isinstance(event, NodeEvent) else None
        tag = str(event.tag) if isinstance(event, (ScalarEvent, CollectionStartEvent)) else None
        value = (event.value, event.style is None) if isinstance(event, ScalarEvent) else None
        said.append((type(event).__name__, anchor, tag, value))
    return said


def to_plain(mapping: YamlMapping) -> dict[str, object]:
    """Return the document as plain data, read as the kubelet's parser does: YAML 1.1 booleans, merge keys."""
    builder = _Builder(mapping.text, iter(mapping.events[2:]))
    plain = builder.node()
    return plain if isinstance(plain, dict) else {}


class _Builder:
    """Turns events into plain data; aliases share one object, so a small file stays small."""

    def __init__(self, text: str, events: Iterator[Event]) -> None:
        self.text = text
        self.events = events
        self.anchors: dict[str, object] = {}

    def node(self) -> object:
        return self.build(next(self.events))

    def build(self, event: Event) -> object:
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise syntax_error(
                    self.text, start_of(event), f"the alias *{event.anchor} has no anchor before it"
                )
            return self.anchors[event.anchor]
        if isinstance(event, ScalarEvent):
            value: object = _scalar(event)
        elif isinstance(event, MappingStartEvent):
            value = self.mapping()
        else:
            value = list(self.items())
        if isinstance(event, NodeEvent) and event.anchor:
            self.anchors[str(event.anchor)] = value
        return value

    def items(self) -> Iterator[object]:
        while not isinstance(event := next(self.events), CollectionEndEvent):
            yield self.build(event)

    def mapping(self) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        while not isinstance(event := next(self.events), CollectionEndEvent):
            key = self.build(event)
            value = self.node()
            if isinstance(event, ScalarEvent) and event.style is None and event.value == "<<":
                for source in value if isinstance(value, list) else [value]:
                    if isinstance(source, dict):
                        merged = source | merged
            elif isinstance(event, ScalarEvent):
                if event.value in own:
                    message = f'the key "{event.value}" stands twice; keep one of them'
                    raise syntax_error(self.text, start_of(event), message)
                own[event.value] = value
            elif isinstance(key, str):
                own[key] = value
        return merged | own


def _scalar(event: ScalarEvent) -> object:
    text = str(event.value)
    if event.style is not None:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) and len(text) < _MAX_DIGITS:
        return int(text)
    return text


_BLANKS_AT_END = re.compile(r"(?<=\S)[ \t]++(?=#|\r?$)", re.MULTILINE)
"""The kubelet's parser passes over tabs between a value and a comment, and ruamel.yaml does not; places stay the same."""


def _one_document(text: str) -> tuple[Event, ...]:
    """Return the events of a text with at most one document: stream start, document start, its top, …; or both ends."""
    events = tuple(_events(text))
    documents = [event for event in events if isinstance(event, DocumentStartEvent)]
    if len(documents) > 1:
        raise unsupported(text, start_of(documents[1]), "a second YAML document starts here; one is read")
    return events


def _events(text: str) -> list[Event]:
    events: list[Event] = []
    depth = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(
            _BLANKS_AT_END.sub(lambda blanks: " " * len(blanks[0]), text)
        ):
            events.append(event)
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise syntax_error(text, start_of(event), "nested too deeply")
            if len(events) > _MAX_EVENTS:
                raise syntax_error(text, start_of(event), "more keys and values than are read of such a file")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = str(error.problem or error.context or "cannot be read")[:200]  # it quotes what it met
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigSyntaxError(f"not YAML: {what}", line=line, column=column) from error
    except ReaderError as error:
        raise syntax_error(text, int(error.position), f"not YAML: {error.reason}") from error
    except YAMLError as error:
        raise ConfigSyntaxError(f"not YAML: {error}", line=1) from error
    except (ValueError, OverflowError) as error:
        # ruamel.yaml itself stumbles, over an escape like "\U00110000".
        line = events[-1].end_mark.line + 1 if events else 1
        raise ConfigSyntaxError(f"not YAML: {error}", line=line) from error
    except RecursionError as error:
        raise ConfigSyntaxError("nested too deeply", line=deepest_line(text)) from error
    if events and not isinstance(events[-1], StreamEndEvent):
        raise ConfigSyntaxError("not YAML: it ends too early", line=line_at(text, len(text)))
    return events


def _entries(text: str, events: tuple[Event, ...]) -> Iterator[Entry]:
    seen: set[str] = set()
    position = 3
    while not isinstance(events[position], CollectionEndEvent):
        key = events[position]
        if not isinstance(key, ScalarEvent):
            raise syntax_error(text, start_of(key), "a top-level key must be a word")
        if key.value in seen:
            raise syntax_error(text, start_of(key), f'the key "{key.value}" stands twice; keep one of them')
        seen.add(key.value)
        end = _value_end(events, position + 1)
        yield Entry(str(key.value), key, events[position + 1 : end])
        position = end


def _value_end(events: tuple[Event, ...], position: int) -> int:
    depth = 0
    while True:
        depth += isinstance(events[position], CollectionStartEvent)
        depth -= isinstance(events[position], CollectionEndEvent)
        position += 1
        if not depth:
            return position
