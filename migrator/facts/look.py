# SPDX-License-Identifier: Apache-2.0
"""The notebook of one look at a node: every file that was read, and every fact that could not be had."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from migrator.configs.managed import managed_by
from migrator.configs.secrets import mask_shapes
from migrator.errors import CgmigrateError, HostError
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
        found = Unknown(subject=subject, reason=mask_shapes(_plain(reason)), line=line)
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
        except ValueError:  # a configuration named it, with a NUL or what is no character
            self.unknown(ascii(path), "no file can have this name")
            return None
        manager, line = managed_by(data or b"")
        self.files[path] = File(
            path=path,
            real_path=state.path,
            present=data is not None,
            sha256=state.sha256,
            size=state.size,
            mode=state.mode,
            uid=state.uid,
            gid=state.gid,
            links=_links(self.reader, state.path) if data is not None else 1,
            exposed_by=_exposed_by(self.reader, path, state.path),
            managed_by=manager,
            managed_line=line,
        )
        return data


def _links(reader: Reader, path: str) -> int:
    try:
        return reader.resolve(path).stat().st_nlink
    except OSError:
        return 1


def _exposed_by(reader: Reader, *paths: str) -> str:
    """Return the first of some files, and of the directories above them, that everybody may write.

    In a sticky directory only the owner replaces a file, so it counts as closed.
    """
    for path in paths:
        above = path
        while above:
            try:
                mode = reader.resolve(above).stat().st_mode
            except (OSError, HostError):
                mode = 0
            if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
                return above
            above = above.rpartition("/")[0]
    return ""


def _plain(reason: object) -> str:
    """Return a reason as one line of text: an exception's own message, or its kind where it has none."""
    text = str(reason) or type(reason).__name__
    return " ".join(text.split())
