# SPDX-License-Identifier: Apache-2.0
"""Run one input through one target, and say what is wrong: an undocumented error, too slow, too large."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.targets import Target

SECONDS = 10.0
"""Of CPU for one input; not of the wall, which on a shared machine says nothing of us."""

MEMORY = 200 * 1024 * 1024
"""Bytes of address space beyond what the process had when it began."""

_PACKAGE = Path(__file__).resolve().parents[2]


class TooSlowError(BaseException):
    """The CPU time of an input is used up; no `except Exception` of a parser may swallow it."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What an input broke; `signature` is the same for inputs that broke the same thing."""

    target: str
    signature: str
    data: bytes
    detail: str

    @property
    def name(self) -> str:
        """Name of its file in the corpus."""
        return hashlib.sha256(self.data).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused` is a documented error, which is an answer like any other."""

    refused: bool
    crash: Crash | None


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Let this process have no more than `MEMORY` from here on, and answer the CPU timer by `TooSlowError`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, handler)


def judge(target: Target, data: bytes) -> Verdict:
    """Run one input; inside `limits` it is also held to time and memory."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS if signal.getsignal(signal.SIGPROF) is _late else 0)
    try:
        target.run(data)
    except target.may_raise:
        return Verdict(refused=True, crash=None)
    except (Exception, TooSlowError) as error:  # noqa: BLE001 this is what is looked for
        signal.setitimer(signal.ITIMER_PROF, 0)
        return Verdict(refused=False, crash=_crash(target, data, error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Verdict(refused=False, crash=None)


def shrunk(target: Target, crash: Crash, seconds: float = 5) -> Crash:
    """Return a smaller input that breaks the same thing, as far as `seconds` of CPU go."""
    best = crash
    deadline = time.process_time() + seconds
    size = len(crash.data) // 2
    while size and time.process_time() < deadline:
        at = 0
        while at < len(best.data) and time.process_time() < deadline:
            found = judge(target, best.data[:at] + best.data[at + size :]).crash
            if found and found.signature == crash.signature:
                best = found
            else:
                at += size
        size //= 2
    return best


def _late(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError


def _crash(target: Target, data: bytes, error: BaseException) -> Crash:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "migrator/" in frame.filename] or frames
    where = ours[-1]
    what = type(error).__name__
    # Where the clock or the stack ran out is chance; who began the work is not.
    if isinstance(error, TooSlowError | RecursionError | MemoryError):
        where = ours[0]
    name = Path(where.filename)
    shown = name.relative_to(_PACKAGE) if name.is_relative_to(_PACKAGE) else name.name
    signature = f"{what} in {shown}:{where.name}"
    if what == "BrokenError":
        signature = f"{error}".partition(":")[0]
    return Crash(target.name, signature, data, _one_line(error))


def _one_line(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:300]
    except Exception:  # noqa: BLE001 an error that cannot say what it is
        return type(error).__name__
