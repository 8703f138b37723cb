# SPDX-License-Identifier: Apache-2.0
"""The notebook of one look at a node: every file that was read, and every fact that could not be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from migrator.errors import CgmigrateError
from migrator.facts.model import File, Unknown
from migrator.host import Reader


@dataclass(slots=True)
class Look:
    """A `Reader` and what was noted while it was used; `progress` is told what is looked at next."""

    reader: Reader
    progress: Callable[[str], None] = lambda _: None
    files: dict[str, File] = field(default_factory=dict)
    unknowns: list[Unknown] = field(default_factory=list)

    def unknown(self, subject: str, reason: object, line: int = 0) -> None:
        """Note that a fact is not known, once per subject and line."""
        found = Unknown(subject=subject, reason=_plain(reason), line=line)
        if all((found.subject, found.line) != (other.subject, other.line) for other in self.unknowns):
            self.unknowns.append(found)

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes and note the file; None when it is absent, or unreadable, which is noted too."""
        try:
            state = self.reader.state(path)
            data = self.reader.read(path) if state.kind == "file" else None
        except FileNotFoundError:
            return None
        except CgmigrateError as error:
            self.unknown(path, error)
            return None
        self.files[path] = File(
            path=path,
            real_path=state.path,
            present=data is not None,
            sha256=state.sha256,
            size=state.size,
            mode=state.mode,
            uid=state.uid,
            gid=state.gid,
        )
        return data


def _plain(reason: object) -> str:
    """Return a reason as one line of text: an exception's own message, or its kind where it has none."""
    text = str(reason) or type(reason).__name__
    return " ".join(text.split())
