# SPDX-License-Identifier: Apache-2.0
"""Make hostile inputs out of good ones. Input `k` of a (seed, target, round) is always the same bytes.

Half of the work of a parser's author is to read what people write, so half of the inputs are a good file with a few
changes, made of what its format is made of. The rest are what a format says nothing about.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

LARGEST = 12 * 1024
"""Bytes of an input that was made by repeating; hostile sizes beyond have rows of their own in test_hostile.py."""

ANYWHERE = (
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",  # a lone surrogate in UTF-8's clothes
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b"\x0b",
    b"\x0c",
    b"\x1b[2J",
    b"\x1c",
    b"\x7f",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa6",
    b"\\",
    b'"',
    b"'",
    b"`",
    b"#",
    b";",
    b"=",
    b":",
    b",",
    b".",
    b"-",
    b"_",
    b"/",
    b"$",
    b"%",
    b"*",
    b"&",
    b"!",
    b"|",
    b">",
    b"~",
    b"@",
    b"[",
    b"]",
    b"{",
    b"}",
    b"(",
    b")",
    b"0",
    b"-1",
    b"1e999",
    b"0x7fffffffffffffff",
    b"99999999999999999999",
    b"9" * 4301,
    b"true",
    b"null",
    b"nan",
    b"systemd",
    b"cgroupfs",
)

ODD: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**19,
    1.5,
    1e308,
    float("inf"),
    "",
    "\x00",
    "\ud800",
    "\x1b[2J\n",
    "9" * 4301,
    "a" * 3000,
    "../../etc/shadow",
    [],
    {},
    [[]],
    [None],
    [1, "a", {}],
    {"": {}},
    {"a": [1]},
)


class Mutator:
    """An endless source of inputs; `json_like` targets get changes of the parsed document too."""

    def __init__(
        self, seeds: Sequence[bytes], words: Sequence[bytes], key: str, *, json_like: bool = False
    ) -> None:
        self.random = random.Random(key)
        self.seeds = tuple(seeds) or (b"",)
        self.words = (*ANYWHERE, *words, *words)
        self.documents = [json.loads(seed) for seed in self.seeds] if json_like else []
        self.ways: tuple[Callable[[bytes], bytes], ...] = (
            *(self.word,) * 4,
            *(self.replaced,) * 3,
            *(self.cut,) * 2,
            *(self.line,) * 2,
            self.flipped,
            self.spliced,
            self.doubled,
            self.repeated,
        )

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.one()

    def one(self) -> bytes:
        """Return the next input."""
        chance = self.random.random()
        if self.documents and chance < 0.7:
            data = self.document()
            return data if chance < 0.6 else self.changed(data, 1)
        if chance < 0.03:
            return self.random.randbytes(self.random.randrange(64))
        if chance < 0.06:
            return b"".join(self.random.choices(self.words, k=self.random.randrange(1, 12)))
        return self.changed(self.random.choice(self.seeds), self.random.choice((1, 1, 1, 2, 2, 3, 5, 9)))

    def changed(self, data: bytes, times: int) -> bytes:
        """Change bytes in some way, several times."""
        for _ in range(times):
            data = self.random.choice(self.ways)(data)
        return data

    def span(self, data: bytes) -> tuple[int, int]:
        """Return a short span of the data."""
        start = self.random.randrange(len(data) + 1)
        return start, min(len(data), start + self.random.choice((1, 1, 2, 4, 8, 16, 64)))

    def word(self, data: bytes) -> bytes:
        at, _ = self.span(data)
        return data[:at] + self.random.choice(self.words) + data[at:]

    def replaced(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] + self.random.choice(self.words) + data[end:]

    def cut(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] if self.random.random() < 0.2 else data[:start] + data[end:]

    def flipped(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self.random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self.random.randrange(8))]) + data[at + 1 :]

    def line(self, data: bytes) -> bytes:
        """Drop, double, move or reindent a line."""
        lines = data.split(b"\n")
        at, other = self.random.randrange(len(lines)), self.random.randrange(len(lines))
        match self.random.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = self.random.choice((b" ", b"  ", b"\t", b"- ", b"# ")) + lines[at]
            case _:
                lines[at] = lines[at].lstrip()
        return b"\n".join(lines)

    def spliced(self, data: bytes) -> bytes:
        """Put a piece of another seed into this one."""
        other = self.random.choice(self.seeds)
        start = self.random.randrange(len(other) + 1)
        at, end = self.span(data)
        return data[:at] + other[start : start + self.random.choice((8, 40, 200))] + data[end:]

    def doubled(self, data: bytes) -> bytes:
        start = self.random.randrange(len(data) + 1)
        return data[:start] + data[start : start + 200] + data[start:]

    def repeated(self, data: bytes) -> bytes:
        """Repeat a word or a piece until it hurts: depth, width, and what is quadratic in either."""
        if self.random.random() < 0.7:
            return data
        start, end = self.span(data)
        piece = self.random.choice((self.random.choice(self.words), data[start:end])) or b"["
        times = min(self.random.choice((30, 300, 1500, 4000)), LARGEST // len(piece))
        return data[:start] + piece * times + data[start:]

    def document(self) -> bytes:
        """Return a document with one to three changed values, keys or members."""
        root = self.random.choice(self.documents)
        undo: list[Callable[[], None]] = []
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.alter(root, undo)
        try:
            return json.dumps(root).encode()
        finally:
            for back in reversed(undo):
                back()

    def alter(self, holder: Json, undo: list[Callable[[], None]]) -> None:
        """Change one value somewhere in a document."""
        if isinstance(holder, dict) and holder:
            key = self.random.choice(list(holder))
            if self.is_entered(holder[key]):
                self.alter(holder[key], undo)
            else:
                self.alter_table(holder, key, undo)
        elif isinstance(holder, list) and holder:
            at = self.random.randrange(len(holder))
            if self.is_entered(holder[at]):
                self.alter(holder[at], undo)
            else:
                self.alter_list(holder, at, undo)

    def is_entered(self, inner: Json) -> bool:
        """Decide whether to change something inside of this, and not this."""
        return isinstance(inner, dict | list) and bool(inner) and self.random.random() < 0.8

    def alter_table(self, table: dict[str, Json], key: str, undo: list[Callable[[], None]]) -> None:
        before = dict(table)

        def back() -> None:
            table.clear()
            table.update(before)

        undo.append(back)
        match self.random.randrange(6):
            case 0:
                del table[key]
            case 1:
                table[self.random.choice(("", "x", "\ud800", key + "x", key.upper()))] = self.odd()
            case _:
                table[key] = self.odd()

    def alter_list(self, items: list[Json], at: int, undo: list[Callable[[], None]]) -> None:
        before = list(items)

        def back() -> None:
            items[:] = before

        undo.append(back)
        match self.random.randrange(6):
            case 0:
                del items[at]
            case 1:
                items.append(self.odd())
            case 2:
                items.append(items[at])
            case 3:
                items[:] = [items[at]] * self.random.choice((10, 300))
            case _:
                items[at] = self.odd()

    def odd(self) -> Json:
        """Return a value that is out of place, or somebody else's."""
        if self.random.random() < 0.02:
            deep: Json = []
            for _ in range(self.random.choice((20, 60, 200, 300))):
                deep = [deep] if self.random.random() < 0.5 else {"a": deep}
            return deep
        if self.random.random() < 0.15:
            return self.random.choice(self.words).decode("utf-8", "surrogateescape")
        return copy.deepcopy(self.random.choice(ODD))
