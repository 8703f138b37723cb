# SPDX-License-Identifier: Apache-2.0
"""A disk that counts what is done to it, and can stop, refuse or forget.

Every change that a process makes below `root` through the `os` module passes here first, and is one event. A power cut
keeps what POSIX promises and no more: a file's bytes are those of its last fsync, a directory's names those of the
directory's last fsync. A file that was never flushed is empty, and a name that was never flushed is not there.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOST = ("run", "proc", "sys")
"""Top-level directories that no disk holds."""
CHANGES = (
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
    "fchmod",
    "fchown",
    "ftruncate",
    "write",
    "fsync",
    "open",
)
"""The calls by which the product changes files; pathlib calls them by these names too."""


class Crash(BaseException):
    """Nothing after this is executed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change that is about to be made: `call` and what it is made to (a path below the root, or a unit, a pod …)."""

    number: int
    call: str
    what: str


@dataclass(slots=True)
class Fate:
    """What happens at which event; `events` are those that were met."""

    crash_at: int = 0
    fail_at: int = 0
    error: int = 0
    """errno of the failing call."""
    lasting: bool = False
    """All that follows of the same kind fails too, until somebody mends it."""
    how: str = ""
    """The failing call is a unit's job, and this is how it fails (`simulator.JOBS`)."""
    away_at: int = 0
    """The request to the API server from which on it does not answer."""
    away_for: float = 0.0
    """For how many seconds."""
    asked: int = 0
    """Requests to the API server, answered or not."""
    back_at: float = 0.0
    """When it answers again."""
    events: list[Event] = field(default_factory=list)
    failed: str = ""
    """The call that was failed."""

    def meet(self, call: str, what: str, refuse: Callable[[int], BaseException] | None = None) -> None:
        """Count an event; stop or refuse here if that is its fate.

        Raises:
            Crash: the process ends before the event.
            OSError: it is refused; `refuse` makes another exception of the errno.
        """
        event = Event(len(self.events) + 1, call, what)
        self.events.append(event)
        if 0 < self.crash_at <= event.number:
            raise Crash
        if self.how:
            return
        if event.number == self.fail_at or (self.lasting and self.failed == kind_of(call)):
            self.failed = kind_of(call)
            raise refuse(self.error) if refuse else OSError(self.error, os.strerror(self.error), what)

    @property
    def breaks(self) -> bool:
        """Tell whether the event that was just met is the job that fails."""
        return bool(self.how) and len(self.events) == self.fail_at

    def ask(self, now: float) -> bool:
        """Count a request to the API server; tell whether it answers."""
        self.asked += 1
        if self.asked == self.away_at:
            self.back_at = now + self.away_for
        return now >= self.back_at


def kind_of(call: str) -> str:
    """Return which calls fail together while a fault lasts: all that the disk does, or one other thing."""
    return "disk" if call in CHANGES else call


class Disk:
    """The files below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fate = Fate()
        self.asleep = False
        self._files: dict[int, tuple[bytes, int]] = {}
        self._directories: dict[int, dict[str, tuple[int, bool]]] = {}
        self._links: dict[int, str] = {}
        self._held: list[int] = []
        weakref.finalize(self, _give_back, self._held)  # for a test that does not close it
        self.settle()

    def close(self) -> None:
        """Give back what keeps inode numbers from being used again."""
        _give_back(self._held)

    def settle(self) -> None:
        """Take everything that is there now as flushed."""
        self.close()
        self._files.clear()
        self._directories.clear()
        self._links.clear()
        for directory in self._kept(self.root):
            self._note_directory(directory)
            for path in directory.iterdir():
                if path.is_file() and not path.is_symlink():
                    self._note_file(path)

    def cut_power(self) -> None:
        """Forget all that was not flushed."""
        files, directories, links = dict(self._files), dict(self._directories), dict(self._links)
        top = self.root.stat().st_ino
        for path in self.root.iterdir():
            if path.name in LOST:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

        def lay(directory: Path, names: dict[str, tuple[int, bool]]) -> None:
            for name, (number, is_directory) in names.items():
                path = directory / name
                if is_directory:
                    path.mkdir(exist_ok=True)
                    lay(path, directories.get(number, {}))
                elif number in links:
                    path.symlink_to(links[number])
                else:
                    data, mode = files.get(number, (b"", 0o600))
                    path.write_bytes(data)
                    path.chmod(mode)

        lay(self.root, {name: at for name, at in directories[top].items() if name not in LOST})
        self.settle()

    def flushed(self, descriptor: int) -> None:
        """Remember what an fsync makes durable."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self._note_directory(path)
        else:
            self._note_file(path)

    def _kept(self, directory: Path) -> Iterator[Path]:
        yield directory
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink() and not (directory == self.root and path.name in LOST):
                yield from self._kept(path)

    def _note_directory(self, directory: Path) -> None:
        with os.scandir(directory) as entries:
            names = {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}
        for name, (number, _) in names.items():
            if (directory / name).is_symlink():
                self._links[number] = os.readlink(directory / name)
                self._held.append(_open(directory / name, os.O_PATH | os.O_NOFOLLOW))
        self._directories[directory.stat().st_ino] = names
        self._held.append(_open(directory, os.O_RDONLY))

    def _note_file(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            found = path.stat()
            self._files[found.st_ino] = (path.read_bytes(), stat.S_IMODE(found.st_mode))
            self._held.append(_open(path, os.O_RDONLY))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let every change below the root pass here first."""
        before = {name: getattr(os, name) for name in CHANGES}
        for name in CHANGES:
            setattr(os, name, self._watch(name, before[name]))
        try:
            yield
        finally:
            for name, original in before.items():
                setattr(os, name, original)

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Have what is done inside pass by: it is the node's own doing, not the tool's."""
        before, self.asleep = self.asleep, True
        try:
            yield
        finally:
            self.asleep = before

    def _watch(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **named: Any) -> Any:
            if self.asleep or (name == "open" and not (rest and rest[0] & (os.O_CREAT | os.O_TRUNC))):
                return original(target, *rest, **named)
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
            below = self._below(str(path))
            if below is None:
                return original(target, *rest, **named)
            if name == "rmdir" and below.startswith("/sys/fs/cgroup/"):
                self.fate.meet("rmdir of a cgroup", below)
                return remove_cgroup(Path(path))
            self.fate.meet(name, below)
            if name == "fsync":
                self.flushed(target)
                return None
            return original(target, *rest, **named)

        return call

    def _below(self, path: str) -> str | None:
        top = str(self.root)
        return path[len(top) :] if path.startswith(top + "/") else None


def _give_back(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def remove_cgroup(path: Path) -> None:
    """Remove a cgroup as the kernel does: its control files go with it, processes and children keep it.

    Raises:
        OSError: EBUSY.
    """
    files = [child for child in path.iterdir() if not child.is_dir()]
    if any(child.is_dir() for child in path.iterdir()) or any(child.stat().st_size for child in files):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
    for child in files:
        _unlink(child)
    _rmdir(path)


_open = os.open
_unlink = os.unlink
_rmdir = os.rmdir
