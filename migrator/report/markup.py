# SPDX-License-Identifier: Apache-2.0
"""The few kinds of elements that a report's page is made of. Text becomes part of it only through `tag` and `text`.

They escape whatever is not `Markup` made here, and pass it through `plain`, so that nothing in it is hidden or reordered.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from migrator.terminal import plain

_MANY = 40
"""Lines; print opens what is longer too."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable[str]


def tag(name: str, *children: Child, **attributes: str) -> Markup:
    """Return an element; children that are not Markup are escaped, a trailing `_` of an attribute's name is dropped."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{text(*children)}</{name}>")


def text(*children: Child) -> Markup:
    """Return children one after the other, each escaped unless it is Markup."""
    flat = (part for child in children for part in ((child,) if isinstance(child, str) else child))
    return Markup("".join(part if isinstance(part, Markup) else html.escape(plain(part)) for part in flat))


def bullets(lines: Sequence[str]) -> Markup:
    """Return a list, or nothing of nothing."""
    return tag("ul", (tag("li", line) for line in lines)) if lines else Markup()


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table that scrolls by itself; where the page is narrow each cell says the name of its column."""
    cells = (
        tag("tr", (tag("td", cell, data_label=name) for name, cell in zip(head, row, strict=True)))
        for row in rows
    )
    return scroll(
        caption,
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", (tag("th", each, scope="col") for each in head))),
            tag("tbody", cells),
        ),
    )


def scroll(label: str, inner: Markup) -> Markup:
    """Return a box that scrolls by itself, also by keyboard; the page never does sideways."""
    return tag("div", inner, class_="scroll", tabindex="0", role="group", aria_label=label)


def details(summary: str, count: int, inner: Markup) -> Markup:
    """Return what can be folded away; it is at first where it has many lines."""
    if count > _MANY:
        return tag("details", tag("summary", summary), inner)
    return Markup(f"<details open>{tag('summary', summary)}{inner}</details>")


def badge(kind: str, word: str) -> Markup:
    """Return a word in the colour of its kind: good, bad, warn, note."""
    return tag("span", word, class_=f"badge {kind}")
