# SPDX-License-Identifier: Apache-2.0
"""Lay out a node as a directory tree, from a table of path → content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from migrator.host import Reader


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, with its target as written."""

    target: str


def lay(root: Path, content: Mapping[str, str | bytes | Link | None]) -> Reader:
    """Make files (text or bytes), links, and directories (None) below `root`, and return a reader of that node."""
    for path, what in content.items():
        place = root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        match what:
            case None:
                place.mkdir(exist_ok=True)
            case Link():
                place.symlink_to(what.target)
            case bytes():
                place.write_bytes(what)
            case str():
                place.write_text(what)
    return Reader(root)
