# SPDX-License-Identifier: Apache-2.0
"""Artefacts that are slow to make, each kept in a directory named by the hash of what it is made from."""

import contextlib
import fcntl
import hashlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_STARTED = time.monotonic()
_children: set[int] = set()
_children_lock = threading.Lock()
_interrupted = threading.Event()


class LabError(RuntimeError):
    """The lab cannot do what was asked; the message says what was tried and what it printed."""


def cache_dir() -> Path:
    """Return the folder of all artefacts and nodes (`CGMIGRATE_LAB_CACHE`), which need not exist yet."""
    return Path(os.environ.get("CGMIGRATE_LAB_CACHE", "/var/cache/cgmigrate-lab"))


def progress(text: str) -> None:
    """Write one line about slow work to stderr, with the seconds since the start."""
    print(f"lab [{time.monotonic() - _STARTED:5.0f}s] {text}", file=sys.stderr, flush=True)


def mounts_below(path: Path) -> list[Path]:
    """Return the mount points at and below PATH, the deepest last mounted first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split(" ")[4].encode().decode("unicode_escape")) for line in lines]
    return [point for point in reversed(points) if point.is_relative_to(path)]


def remove_tree(path: Path) -> None:
    """Remove a folder, never what is mounted in it (an interrupted build may leave /dev bound there)."""
    for point in mounts_below(path):
        subprocess.run(["umount", point], check=False, stderr=subprocess.DEVNULL)
    for point in mounts_below(path):
        subprocess.run(["umount", "--lazy", point], check=False)
    if left := mounts_below(path):
        raise LabError(f"cannot unmount {', '.join(map(str, left))}; not removing {path}")
    if path.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True)


def interrupted() -> bool:
    """Tell whether the build that runs is to end early."""
    return _interrupted.is_set()


def command(
    argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run one command of a build and return its stdout; it dies with an interrupted or killed build."""
    if _interrupted.is_set():
        raise LabError("interrupted")
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *argv],
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        with _children_lock:
            _children.add(process.pid)
        try:
            out, err = process.communicate()
        finally:
            with _children_lock:
                _children.discard(process.pid)
    if process.returncode:
        tail = "\n".join((out + err).splitlines()[-20:])
        raise LabError(f"{' '.join(map(str, argv))} exited with {process.returncode}:\n{tail}")
    return out


def _interrupt_children() -> None:
    _interrupted.set()
    with _children_lock:
        for pid in _children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)


@dataclass(frozen=True)
class Artefact:
    """One cached folder: `make` fills it, `made_from` and `inputs` name it beside the source of `make`."""

    name: str
    make: Callable[[Path], None]
    made_from: tuple[str, ...] = ()
    inputs: tuple["Artefact", ...] = ()

    @cached_property
    def path(self) -> Path:
        """Return where the artefact is, or will be."""
        parts = [inspect.getsource(self.make), *self.made_from, *(i.path.name for i in self.inputs)]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return cache_dir() / f"{self.name}-{digest}"

    def build(self) -> None:
        """Make the folder if it is not there; it appears complete or not at all."""
        if self.path.exists():
            return
        partial = self.path.with_name(f".building-{self.path.name}")
        remove_tree(partial)
        partial.mkdir(parents=True)
        progress(f"{self.name}: building {self.path}")
        begin = time.monotonic()
        self.make(partial)
        partial.rename(self.path)
        progress(f"{self.name}: done in {time.monotonic() - begin:.0f} s")


def closure(wanted: Iterable[Artefact]) -> list[Artefact]:
    """Return the wanted artefacts and all they are made from, inputs first, each once."""
    ordered: dict[Path, Artefact] = {}
    for artefact in wanted:
        for needed in (*closure(artefact.inputs), artefact):
            ordered.setdefault(needed.path, needed)
    return list(ordered.values())


@contextlib.contextmanager
def locked(name: str, waiting: str = "") -> Iterator[None]:
    """Hold a lock that all processes with this cache share; WAITING is said when another holds it."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                progress(waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_lock() -> contextlib.AbstractContextManager[None]:
    """Hold the cache's build lock; another process that wants to build waits here."""
    return locked("build", "waiting for another process that builds the lab")


def build(wanted: Iterable[Artefact], prepare: Callable[[], None]) -> None:
    """Build what is missing, independent artefacts at the same time; PREPARE runs first if anything is."""
    ordered = closure(wanted)
    if all(artefact.path.exists() for artefact in ordered):
        return
    with build_lock(), ThreadPoolExecutor(len(ordered)) as pool:
        if all(artefact.path.exists() for artefact in ordered):
            return
        _interrupted.clear()
        prepare()
        made: dict[Path, Future[None]] = {}

        def make(artefact: Artefact) -> None:
            for needed in artefact.inputs:
                made[needed.path].result()
            artefact.build()

        for artefact in ordered:
            made[artefact.path] = pool.submit(make, artefact)
        try:
            for future in made.values():
                future.result()
        except BaseException:
            _interrupt_children()
            wait(made.values())
            for partial in cache_dir().glob(".building-*"):
                remove_tree(partial)
            raise


def drop_stale(keep: Iterable[Artefact]) -> list[Path]:
    """Remove every artefact that no recipe makes any more and no node stands on, and interrupted builds."""
    kept = {artefact.path for artefact in closure(keep)}
    names = {artefact.name for artefact in closure(keep)}
    with build_lock():
        mounts = Path("/proc/self/mountinfo").read_text()
        stale = [
            path
            for path in cache_dir().iterdir()
            if path.name.startswith(".building-")
            or (path.name.rpartition("-")[0] in names and path not in kept and str(path) not in mounts)
        ]
        for path in stale:
            remove_tree(path)
    return stale


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with owners, xattrs, devices and overlay whiteouts; blocks are shared where they can be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", "--", source, target], check=True)


def tool(name: str) -> bool:
    """Tell whether a command is installed on this machine."""
    return shutil.which(name) is not None
