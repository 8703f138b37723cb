# SPDX-License-Identifier: Apache-2.0
"""The state directory: what `rollback` finds there it writes to the node as root, so it is used only if it is root's alone.

A journal proves that it is whole, not who wrote it. So whatever others could have made or replaced is refused, never
mended: what is in it may be theirs already. See docs/decisions/0011-state-that-others-could-write-is-refused.md.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import ConflictError, HostError
from migrator.host import Reader, sync_directory

STATE = "/var/lib/cgmigrate"
RUN_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}(?:-([0-9]+))?")
"""Of a directory in `runs`; whatever else is in there is not ours, and is not even named: a shell that is given the name
of an image's directory to complete may run what is in it."""


class StateDirectory:
    """The directory `path` of a node, all of which belongs to root (or to whoever runs the tool) and to nobody else."""

    def __init__(self, reader: Reader) -> None:
        parent, _, name = STATE.rpartition("/")
        self._root = reader.root
        self.path = reader.resolve(parent) / name  # its own name is not followed, should it be a link

    def make(self) -> None:
        """Make it and its `runs`, 0700 whatever the umask.

        Raises:
            ConflictError: it is there and is not private.
            OSError: the disk refuses.
        """
        self.check()
        missing = [self.path.parent]
        while not missing[-1].is_dir():
            missing.append(missing[-1].parent)
        made = [(each, 0o755) for each in reversed(missing[:-1])]
        for each, mode in (*made, (self.path, 0o700), (self.path / "runs", 0o700)):
            each.mkdir(mode=mode, exist_ok=True)
            each.chmod(mode)
            # Else the whole state is gone after a power cut, whatever was flushed in it.
            sync_directory(each.parent)

    def check(self, runs: Iterable[Path] = ()) -> None:
        """Refuse what others than root could have written: the directory itself, `runs` in it, and all in each run.

        Raises:
            ConflictError: named, with what to do.
            HostError: it cannot be looked at.
        """
        above = [each for each in self.path.parents if each.is_relative_to(self._root)]
        try:
            for each in above:
                _refuse_open(each)
            for each in (self.path, self.path / "runs"):
                self._refuse(each)
            for run in runs:
                for each in (run, *_below(run), *_below(run / "blobs")):
                    self._refuse(each, is_directory=each in (run, run / "blobs"))
        except OSError as error:
            raise HostError(f"cannot look at {error.filename}: {error.strerror}") from error

    def _refuse(self, path: Path, *, is_directory: bool = True) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        mode, state = found.st_mode, shlex.quote(str(self.path))
        away = f"move it away; cgmigrate makes {STATE} itself"
        own = f"look at it; if it is what you put there: chown -R root: {state} && chmod -R go-rwx {state}"
        if stat.S_ISLNK(mode):
            what, hint = "is a symbolic link", away
        elif not (stat.S_ISDIR(mode) if is_directory else stat.S_ISREG(mode)):
            what, hint = f"is no {'directory' if is_directory else 'regular file'}", away
        elif found.st_uid not in (0, os.geteuid()):
            what, hint = f"belongs to user {found.st_uid}", own
        elif mode & (stat.S_IWGRP | stat.S_IWOTH):
            what, hint = f"can be written by others (mode {stat.S_IMODE(mode):04o})", own
        else:
            return
        raise ConflictError(
            f"{path} {what}: what is kept there to be put back as root could be forged; nothing was changed",
            hint=hint,
        )


def _refuse_open(above: Path) -> None:
    try:
        mode = above.stat().st_mode
    except FileNotFoundError:
        return
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConflictError(
            f"{above} can be written by everybody (mode {stat.S_IMODE(mode):04o}), and the state of runs is below it; "
            "nothing was changed",
            hint=f"chmod o-w {shlex.quote(str(above))}",
        )


def _below(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
