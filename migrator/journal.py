# SPDX-License-Identifier: Apache-2.0
"""The journal of a run: what was about to be done, and what was done, on disk before and after each effect.

A run is a directory `/var/lib/cgmigrate/runs/<utc>-<digest8>/` (0700) with `plan.json`, `facts.json`, `journal.jsonl`,
`log.jsonl` and `blobs/<sha256>` (0600). The journal is append-only: one record is one line, one write and one fsync, and
carries a checksum. The state of a run is a pure fold over its records (`migrator.records.fold`).

A crash leaves at most a torn last line, which is dropped and truncated: its effect was not begun (a record comes before
its effect) or is looked for again (`where`). Damage anywhere else stops the tool, because the undo of an effect may be
in the damaged part.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from migrator.configs.text import is_deeper
from migrator.errors import ConflictError, HostError, UsageError
from migrator.host import Reader, sync_directory
from migrator.records import Kind, Record, RunState, decode, encode, fold
from migrator.statedir import RUN_NAME, StateDirectory

_READERS_SECONDS = 0.5
"""How long whoever changes the node waits for those who look who is at work."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Run:
    """One run on disk: its directory, its blobs, its journal."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.directory / "journal.jsonl"

    @property
    def order(self) -> tuple[str, int]:
        """What runs are sorted by; a later run has a greater one, also where the clock went back (`Runs.create`)."""
        match = RUN_NAME.fullmatch(self.name)
        return (match[1], int(match[2] or 1)) if match else ("", 0)

    def records(self) -> list[Record]:
        """Return the whole records on disk.

        Raises:
            ConflictError: damaged in the middle.
            HostError: unreadable.
        """
        return decode(self.lines(), str(self.journal))[0]

    def lines(self) -> bytes:
        """Return the journal's bytes, none before its first record.

        Raises:
            HostError: unreadable.
        """
        try:
            return self.journal.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise HostError(f"cannot read {self.journal}: {error.strerror}") from error

    def state(self) -> RunState:
        """Return where the run stands, from the disk."""
        return fold(self.records())

    def load(self, name: str) -> Any:
        """Return a JSON document of the run (`plan.json`, `facts.json`).

        Raises:
            ConflictError: absent or damaged.
        """
        try:
            document = json.loads((self.directory / name).read_bytes())
            if is_deeper(document):
                raise ValueError("nested too deeply")
        except (OSError, ValueError, RecursionError) as error:
            raise ConflictError(
                f"cannot read {self.directory / name}: {error}; nothing was changed"
            ) from error
        return document

    def save(self, name: str, data: bytes) -> None:
        """Write a document of the run durably, 0600."""
        _write_private(self.directory / name, data)

    def append(self, name: str) -> TextIO:
        """Open a text of the run (its log) for more, 0600.

        Raises:
            OSError: the disk refuses.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.directory / name, flags, 0o600), "a", encoding="utf-8")

    def put_blob(self, data: bytes) -> str:
        """Keep bytes durably under their sha256 and return it."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.directory / "blobs" / digest
        if not path.exists():
            _write_private(path, data)
        return digest

    def blob(self, digest: str) -> bytes:
        """Return the bytes kept under a sha256.

        Raises:
            ConflictError: absent, or no longer what they were.
        """
        if not _DIGEST.fullmatch(digest):
            raise ConflictError(f"{self.journal} names a saved file {digest!r}, which is no sha256")
        path = self.directory / "blobs" / digest
        try:
            if path.is_symlink() or not path.is_file():
                raise ConflictError(f"cannot read the saved file {path}: it is absent, or no regular file")
            data = path.read_bytes()
        except OSError as error:
            raise ConflictError(f"cannot read the saved file {path}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise ConflictError(f"the saved file {path} is damaged: its sha256 is not its name")
        return data


class Journal:
    """The open journal of a run: appends records durably and keeps their fold.

    One that cannot be written opens all the same, because a rollback needs only what is in it: `write` refuses.
    """

    def __init__(self, run: Run, boot: str) -> None:
        self.run = run
        self.boot = boot
        data = run.lines()
        records, whole = decode(data, str(run.journal))
        self._number = len(records)
        self._records = records
        self.previous_boot = records[-1].boot if records else boot
        self._refused: OSError | None = None
        self._descriptor = -1
        try:
            self._descriptor = os.open(run.journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if whole < len(data):
                os.ftruncate(self._descriptor, whole)
                os.fsync(self._descriptor)
            for directory in (
                run.directory,
                run.directory.parent,
            ):  # who made the run may have been killed before
                sync_directory(directory)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            self._refused = error

    @property
    def state(self) -> RunState:
        """The fold of what is on disk."""
        return fold(self._records)

    def write(self, kind: Kind, step: str = "", **data: Any) -> None:
        """Append one record: one write, one fsync.

        Raises:
            HostError: the disk refused; nothing may be changed on the strength of this record.
        """
        if self._refused is not None:
            raise HostError(f"cannot write {self.run.journal}: {self._refused.strerror}")
        record = Record(
            number=self._number + 1, time=utc_now(), boot=self.boot, kind=kind, step=step, data=data
        )
        line = encode(record)
        start = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(28, "short write")
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            # The next record replaces what could not be cut off.
            os.lseek(self._descriptor, start, os.SEEK_SET)
            raise HostError(f"cannot write {self.run.journal}: {error.strerror}") from error
        self._number += 1
        self._records.append(record)

    def close(self) -> None:
        """Close the file; every record is on disk already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Runs:
    """The state directory: all runs, and the lock that lets one process change the node at a time."""

    def __init__(self, reader: Reader) -> None:
        self._state = StateDirectory(reader)
        self.base = self._state.path

    def all(self) -> list[Run]:
        """Return the runs, oldest first.

        Raises:
            ConflictError: others than root could have written them.
            HostError: unreadable.
        """
        directory = self.base / "runs"
        self._state.check()
        try:
            names = sorted(name for name in os.listdir(directory) if RUN_NAME.fullmatch(name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HostError(f"cannot read {directory}: {error.strerror}") from error
        self._state.check(directory / name for name in names)
        return sorted((Run(directory / name) for name in names), key=lambda run: run.order)

    def get(self, name: str) -> Run:
        """Return the run with this name, or whose name starts so.

        Raises:
            UsageError: none, or more than one.
        """
        found = [run for run in self.all() if run.name == name] or [
            run for run in self.all() if name and run.name.startswith(name)
        ]
        if len(found) != 1:
            known = ", ".join(run.name for run in self.all()) or "none"
            raise UsageError(
                f"{name or 'the empty name'}: {'no such run' if not found else 'more than one run'}; known runs: {known}"
            )
        return found[0]

    def unsettled(self) -> Run | None:
        """Return the run that was left half-way, if there is one."""
        return next((run for run in reversed(self.all()) if not run.state().status.settled), None)

    def create(
        self, digest: str, plan: bytes, facts: bytes, blobs: Sequence[bytes], when: str | None = None
    ) -> Run:
        """Make a run's directory with its documents and blobs, all durable, under a name that sorts after all others.

        Where the clock is not past the newest run, the new one takes that run's time and the next number: which run
        stands on which is what a rollback goes by, and a clock can go back. The caller holds the lock.

        Raises:
            HostError: the disk refused; nothing is left of it.
        """
        runs = self.base / "runs"
        order = ((when or utc_now()).replace("-", "").replace(":", "")[:15] + "Z", 1)
        if (known := self.all()) and order <= known[-1].order:
            order = (known[-1].order[0], known[-1].order[1] + 1)
        name = f"{order[0]}-{digest[:8]}" + (f"-{order[1]}" if order[1] > 1 else "")
        building = Run(runs / f".{name}")
        try:
            self._state.make()
            _sweep(runs)
            building.directory.mkdir(mode=0o700)
            (building.directory / "blobs").mkdir(mode=0o700)
            building.save("plan.json", plan)
            building.save("facts.json", facts)
            for blob in blobs:
                building.put_blob(blob)
            sync_directory(building.directory / "blobs")
            sync_directory(building.directory)
            building.directory.rename(runs / name)
            sync_directory(runs)
        except OSError as error:
            with contextlib.suppress(OSError):  # the name may be there, and not durable
                (runs / name).rename(building.directory)
            with contextlib.suppress(OSError):
                _sweep(runs)
            raise HostError(f"cannot make the run in {runs}: {error.strerror}") from error
        return Run(runs / name)

    def forget(self, run: Run) -> None:
        """Delete a settled run and its blobs; afterwards it cannot be rolled back.

        One whose journal is damaged is of no use to `resume` and `rollback`, and goes too.

        One of which nothing was begun, and no guard is there, has nothing to put back.

        Raises:
            ConflictError: the run is not settled.
            HostError: the disk refused.
        """
        try:
            state: RunState | None = run.state()
        except ConflictError:
            state = None
        guarded = (self.base / "active").exists()
        if state is not None and not state.status.settled and (state.begun or guarded):
            raise ConflictError(
                f"{run.name} is not settled ({state.status})",
                hint="`cgmigrate resume` or `cgmigrate rollback` first",
            )
        runs = run.directory.parent
        try:  # its name goes first: half of a run is none
            run.directory.rename(runs / f".{run.name}")
            sync_directory(runs)
            _sweep(runs)
        except OSError as error:
            raise HostError(f"cannot delete {run.directory}: {error.strerror}") from error

    def worker(self) -> str:
        """Return the process id of the cgmigrate that is at work on this node, or nothing."""
        try:
            descriptor = os.open(self.base / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        finally:
            os.close(descriptor)
        return ""

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the node's lock, also on a disk that takes nothing more: a rollback can do without.

        Raises:
            ConflictError: another cgmigrate holds it.
            HostError: there is none, and none can be made.
        """
        path, flags = self.base / "lock", os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._state.make()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
        except OSError as error:
            try:
                descriptor = os.open(path, os.O_RDONLY | flags)
            except OSError:
                raise HostError(f"cannot use {self.base}: {error.strerror}") from error
        try:
            if not _locked(descriptor):
                owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise ConflictError(
                    f"another cgmigrate is at work on this node (pid {owner or 'unknown'})",
                    hint="wait for it, or look with `cgmigrate status`",
                )
            with contextlib.suppress(OSError):  # only told to others
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; `worker` holds it for a moment while it looks, and is waited for."""
    deadline = time.monotonic() + _READERS_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_READERS_SECONDS / 20)
        else:
            return True


def _sweep(runs: Path) -> None:
    """Remove what was being made or deleted when a process died: it has no name that counts, but it has saved files.

    Raises:
        OSError: the disk refuses.
    """
    for name in os.listdir(runs):
        if name.startswith(".") and RUN_NAME.fullmatch(name[1:]):
            shutil.rmtree(runs / name)
    sync_directory(runs)


def utc_now() -> str:
    """Return the time as `2026-11-22T14:05:09Z`."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def boot_id(reader: Reader) -> str:
    """Return the boot id of a live node; an image has none (`image`).

    Raises:
        HostError: the kernel does not tell; without it a reboot in the middle of a run would not be noticed.
    """
    if not reader.live:
        return "image"
    path = "/proc/sys/kernel/random/boot_id"
    try:
        return reader.read(path).decode("ascii", "replace").strip()
    except FileNotFoundError as error:
        raise HostError(f"{path} is missing: is /proc mounted?") from error


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
