# SPDX-License-Identifier: Apache-2.0
"""Set one key of a TOML document in place, or add it where a person would have written it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from migrator.configs.text import (
    BOM,
    ConfigSyntaxError,
    Edit,
    Edited,
    UnsupportedShapeError,
    encode_any,
    indent_at,
    insert_item,
    line_end,
    new_line_after,
)
from migrator.configs.tomltext import (
    Document,
    Header,
    Pair,
    Path,
    dotted,
    parse,
    quoted_key,
    same,
    value_at,
    with_value,
)

Value = str | bool | int


def set_values(text: str, wanted: Sequence[tuple[Path, Value]], *, indent: str = "") -> Edited:
    """Set every path to its value; those that have it already are left alone.

    Args:
        text: the document.
        wanted: paths and values.
        indent: of keys below a header, where the document shows no habit of its own.

    Raises:
        ConfigSyntaxError: not TOML.
        UnsupportedShapeError: a path leads through something that is no table, or no safe place was found.
    """
    document = parse(text)
    changed: list[tuple[Path, str | None, Value]] = []
    for path, value in wanted:
        if same(document.value(path), value):
            continue
        pair = document.pair(path)
        before = document.text[pair.value_start : pair.value_end] if pair else None
        document = _checked(document, _set(document, path, value, _unit(document, indent)), path, value)
        changed.append((path, _shown(before), value))
    edits = [
        Edit(dotted(path), before, value if isinstance(value, str) else _render(value), document.line(path))
        for path, before, value in changed
    ]
    return Edited(encode_any(document.text), tuple(sorted(edits, key=lambda edit: edit.line)))


def _shown(raw: str | None) -> str | None:
    return raw[1:-1] if raw and len(raw) > 1 and raw[0] in "\"'" and raw[0] == raw[-1] else raw


def _render(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return f'"{value}"'


def _checked(before: Document, text: str, path: Path, value: Value) -> Document:
    """Prove that the new text says the same but for one key."""
    try:
        after = parse(text)
    except ConfigSyntaxError:
        after = None
    if after is None or not same(after.data, with_value(before.data, path, value)):
        message = f"{dotted(path)} cannot be set safely in this file; set it to {_render(value)} by hand"
        raise UnsupportedShapeError(message, line=before.line(path))
    return after


def _set(document: Document, path: Path, value: Value, unit: str) -> str:
    text = document.text
    for length in range(1, len(path)):
        found = value_at(document.data, path[:length])
        if found is not None and not isinstance(found, dict):
            raise UnsupportedShapeError(
                f"{dotted(path[:length])} is not a table", line=document.line(path[:length])
            )
    pair = document.pair(path)
    rendered = _render(value)
    if pair:
        if isinstance(value, str) and text[pair.value_start] == "'":
            rendered = f"'{value}'"
        return text[: pair.value_start] + rendered + text[pair.value_end :]
    return _add(document, path, rendered, unit)


def _add(document: Document, path: Path, rendered: str, unit: str) -> str:
    """Add a key in the innermost place that TOML allows: inline table, its own table, dotted keys, a new table."""
    for length in range(len(path) - 1, -1, -1):
        table, rest = path[:length], path[length:]
        if table in document.inline_tables:
            return _add_inline(document, table, rest, rendered)
        header = document.header(table)
        if header and len(rest) == 1:
            pairs = _own_pairs(document, header)
            if pairs:
                return _add_line(document, pairs[-1], rest, rendered)
            return _add_first_line(document, header, f"{quoted_key(rest[0])} = {rendered}", unit)
        below = [pair for pair in document.pairs if _is_dotted_into(pair, table)]
        if below and table:
            return _add_line(document, below[-1], path[len(below[-1].header.path) :], rendered)
        if header or any(other.path[:length] == table for other in document.headers):
            break
    return _add_table(document, path, rendered, unit)


def _is_dotted_into(pair: Pair, table: Path) -> bool:
    """Does this pair make a table by its dotted key?"""
    return (
        not pair.inline
        and len(pair.header.path) < len(table) < len(pair.path)
        and pair.path[: len(table)] == table
    )


def _own_pairs(document: Document, header: Header) -> list[Pair]:
    return [pair for pair in document.pairs if pair.header == header and not pair.inline]


def _add_inline(document: Document, table: Path, rest: Path, rendered: str) -> str:
    inline = document.inline_tables[table]
    item = f"{quoted_key(rest[-1])} = {rendered}"
    for name in reversed(rest[:-1]):
        item = f"{quoted_key(name)} = {{ {item} }}"
    text = document.text
    if inline.items:
        place, new, _ = insert_item(text, inline.opening, inline.items, item)
        return text[:place] + new + text[place:]
    return text[: inline.opening + 1] + f" {item} " + text[inline.closing :]


def _add_line(document: Document, last: Pair, rest: Path, rendered: str) -> str:
    """Add a line below a pair of the same table, in its style."""
    text = document.text
    shared = 0
    while shared < min(len(rest), len(last.parts)) - 1 and last.parts[shared].name == rest[shared]:
        shared += 1
    prefix = text[last.parts[0].start : last.parts[shared].start] if shared else ""
    equals = text[last.parts[-1].end : last.value_start]
    line = f"{indent_at(text, last.parts[0].start)}{prefix}{dotted(rest[shared:])}{equals}{rendered}"
    return _with_line(text, line_end(text, last.value_end), line)


def _add_first_line(document: Document, header: Header, line: str, unit: str) -> str:
    """Add the only line of a table; of the root table, above all others but below a file that is only comments."""
    text = document.text
    if header.path:
        return _with_line(text, header.end, indent_at(text, header.start) + unit + line)
    return _with_line(text, header.end if document.data else len(text), line)


def _with_line(text: str, place: int, line: str) -> str:
    place, new, _ = new_line_after(text, place, line)
    return text[:place] + new + text[place:]


def _add_table(document: Document, path: Path, rendered: str, unit: str) -> str:
    """Add a table after the last one of its nearest relatives, its name spelled as theirs."""
    text = document.text
    table, key = path[:-1], path[-1]
    related: list[Header] = []
    length = len(table)
    while length and not related:
        related = [header for header in document.headers if header.path[:length] == table[:length]]
        length -= bool(not related)
    if related:
        last = related[-1]
        pairs = _own_pairs(document, last)
        place = line_end(text, pairs[-1].value_end) if pairs else last.end
        spelled = ".".join(text[part.start : part.end] for part in last.parts[:length])
        name = ".".join([spelled, *(quoted_key(name) for name in table[length:])])
    else:
        place = len(text)
        name = dotted(table)
    indent = _table_indent(document, table, related, unit)
    separated = not text[:place].removeprefix(BOM).strip() or text[:place].endswith(("\n\n", "\n\r\n"))
    block = ("" if separated else "\n") + f"{indent}[{name}]\n{indent}{unit}{quoted_key(key)} = {rendered}"
    return _with_line(text, place, block)


def _table_indent(document: Document, table: Path, related: Sequence[Header], unit: str) -> str:
    text = document.text
    siblings = [
        header for header in related if header.path[:-1] == table[:-1] and len(header.path) == len(table)
    ]
    if siblings:
        return indent_at(text, siblings[-1].start)
    parent = document.header(table[:-1])
    if parent and parent.path:
        nested = any(indent_at(text, header.start) for header in document.headers)
        return indent_at(text, parent.start) + (unit if nested else "")
    return indent_at(text, related[-1].start) if related else ""


def _unit(document: Document, habit: str) -> str:
    """Return by how much a key is indented below its header in this file; the habit where no table has keys."""
    text = document.text
    first: Mapping[Header, Pair] = {pair.header: pair for pair in reversed(document.pairs) if not pair.inline}
    for header, pair in first.items():
        outer, inner = indent_at(text, header.start), indent_at(text, pair.parts[0].start)
        if header.path and inner.startswith(outer) and len(inner) > len(outer):
            return inner[len(outer) :]
    return "" if any(header.path for header in first) else habit
