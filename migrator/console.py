# SPDX-License-Identifier: Apache-2.0
"""What a view is written with, and the one place that knows rich: statements, tables, and cgroup trees beside each other.

On a terminal everything is folded into its width and nothing is cut; elsewhere, and where nothing may be drawn, a statement
is one line. A text from the node is shown as `plain` has it. rich is imported late: a command without a view does not pay.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from migrator.findings import Severity
from migrator.terminal import plain, plain_mode
from migrator.trees import Branch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

BESIDE = 100
"""Columns from which on two trees stand side by side."""
_NARROWEST = 60
"""Columns below which a table has no room."""
_GUIDE, _NAME = 4, 20
"""Columns that a level of a tree takes, and that must be left for a name."""
_MARK = re.compile(r"-> |- | *[0-9]+\. ")
"""What the second line of a statement stands behind."""

SEVERITY_STYLE = {Severity.BLOCKER: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}

Row: TypeAlias = tuple[str, Sequence[str]]
"""A style, and the cells."""


def console_on(stream: TextIO, width: int | None = None) -> Console:
    """Return what writes to a stream; `width` is in columns, the terminal's own by default."""
    from rich.console import Console  # noqa: PLC0415 - late

    # Both sizes are given: without them rich takes a dumb terminal to have 80 columns, whatever it has.
    size = shutil.get_terminal_size()
    return Console(
        file=stream,
        width=width or size.columns,
        height=size.lines,
        markup=False,
        highlight=False,
        emoji=False,
    )


def draws(console: Console, columns: int = _NARROWEST) -> bool:
    """Tell whether this is a terminal that can draw what takes so many columns."""
    return _folds(console) and not plain_mode() and console.width >= columns


def say(
    console: Console, indent: int, text: str, style: str = "", *, whole: bool = False, tabs: bool = False
) -> None:
    """Write one statement, `indent` columns in: wrapped on a terminal unless it must stay `whole` (a command to copy), else as one line."""
    from rich.segment import Segment, Segments  # noqa: PLC0415 - late
    from rich.text import Text  # noqa: PLC0415

    clean = "\t".join(_shown(console, part) for part in text.split("\t")) if tabs else _shown(console, text)
    lines = [clean]
    if _folds(console) and not whole:
        found = _MARK.match(clean)
        mark = found[0] if found else ""
        room = max(console.width - indent - len(mark), 20)
        wrapped = Text(clean.removeprefix(mark)).wrap(console, room, overflow="fold")
        lines = [(" " * len(mark) if at else mark) + line.plain.rstrip() for at, line in enumerate(wrapped)]
    for line in lines:
        # Segments, not Text: rich would turn the tabs of a diff into spaces.
        segment = Segment(f"{' ' * indent}{line}\n", console.get_style(style))
        console.print(Segments([segment]), end="", soft_wrap=True)


def blank(console: Console) -> None:
    """Write an empty line."""
    console.print()


def table(console: Console, rows: Sequence[Row], headings: Sequence[str] = (), *, indent: int = 0) -> None:
    """Draw rows of as many cells as each other as columns, without lines between them."""
    from rich.padding import Padding  # noqa: PLC0415 - late
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(
        box=None, padding=(0, 2, 0, 0), show_header=bool(headings), header_style="bold", pad_edge=False
    )
    for heading in headings or [""] * len(rows[0][1]):
        drawn.add_column(heading, overflow="fold")
    for style, cells in rows:
        drawn.add_row(*(Text(_shown(console, cell)) for cell in cells), style=style)
    console.print(Padding(drawn, (0, 0, 0, indent)))


def trees(console: Console, sides: Sequence[tuple[str, Sequence[Branch]]]) -> None:
    """Draw trees under their titles: side by side where the terminal is wide enough, else one under the other."""
    from rich.table import Table  # noqa: PLC0415 - late

    if not draws(console, BESIDE):
        for at, (title, branches) in enumerate(sides):
            if at:
                blank(console)
            say(console, 0, title, "bold")
            console.print(_tree(console, branches, console.width))
        return
    grid = Table(box=None, padding=(0, 2, 0, 0), expand=True, pad_edge=False, header_style="bold")
    for title, _ in sides:
        grid.add_column(title, ratio=1)
    width = console.width // len(sides) - 2
    grid.add_row(*(_tree(console, branches, width) for _, branches in sides))
    console.print(grid)


def _tree(console: Console, branches: Sequence[Branch], width: int) -> Tree:
    """Return a tree; what is deeper than there is room stands, with the rest of its path, as deep as there is."""
    from rich.text import Text  # noqa: PLC0415 - late
    from rich.tree import Tree  # noqa: PLC0415

    root = Tree("", hide_root=True)
    nodes: dict[tuple[str, ...], Tree] = {}
    deepest = max((width - _NAME) // _GUIDE, 1)
    above = {branch.path.rpartition("/")[0] for branch in branches}
    for branch in branches:
        parts = tuple(branch.path.strip("/").split("/"))
        level = min(len(parts) - 1, deepest)
        if level < len(parts) - 1 and not branch.what and branch.path in above:
            continue
        name = Text(_shown(console, ("" if level else "/") + "/".join(parts[level:])), overflow="fold")
        if branch.what:
            name.append(f"  {_shown(console, branch.what)}", "bold")
        nodes[parts] = nodes.get(parts[:level], root).add(name, guide_style="dim")
    if not branches:
        root.add("(none of these)")
    return root


def _folds(console: Console) -> bool:
    """Tell whether lines have a width; not `is_terminal`: FORCE_COLOR makes rich take a pipe for one."""
    return console.file.isatty()


def _shown(console: Console, text: str) -> str:
    """Return a text as the terminal can show it, and as nothing in it can steer it."""
    return plain(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
