# SPDX-License-Identifier: Apache-2.0
"""The crash matrix as data: every scenario is counted from a good run, none is listed by hand.

A scenario is a row of acts on a node that is as it was: take the run forward or back under a fate, tear the journal's last
line, cut the power, and say how the node must be then. `play` plays one, and returns what is wrong.
"""

from __future__ import annotations

import errno
import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from migrator.journal import Run
from migrator.records import Status
from tests.crash.cases import (
    back,
    begin,
    difference,
    forward,
    machine_of,
    obey,
    snapshot,
    stale_units,
)
from tests.crash.disk import Event, Fate
from tests.crash.simulator import Machine

ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES)
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Go:
    """Take the run `forward` (apply, resume) or `back` (rollback); 0: nothing happens on the way."""

    way: str
    crash_at: int = 0
    fail_at: int = 0
    error: int = 0
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Tear:
    """Of the journal's last line keep only this share, in quarters; 4 keeps all but the newline."""

    quarters: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Power goes and comes back; `forget`: what was not flushed is lost."""

    forget: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """Do what an operator does after a failure until the run is settled: `rollback`, or `resume`; then the commands left."""

    by: str = "rollback"


@dataclass(frozen=True, slots=True)
class Expect:
    """The node is as it was (`first`), as after a good run (`last`), or as the run's status says (`either`)."""

    what: str


Act: TypeAlias = Go | Tear | Cut | Settle | Expect
Scenario: TypeAlias = tuple[Act, ...]


@dataclass(frozen=True)
class Good:
    """A run in which nothing happens: its events, and the node before and after it."""

    forward: tuple[Event, ...]
    back: tuple[Event, ...]
    first: dict[str, Any]
    last: dict[str, Any]


@functools.cache
def good(variant: str) -> Good:
    """Take a variant's node forward and back once."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        machine = machine_of(variant, Path(folder) / "node")
        first = snapshot(machine)
        run = begin(machine, variant)
        there, here = Fate(), Fate()
        assert forward(machine, run, there) == "done"
        last = snapshot(machine)
        assert back(machine, run, here) == "rolled back"
        assert not difference(first, snapshot(machine))
        assert not machine.violations
        machine.disk.close()
        return Good(tuple(there.events), tuple(here.events), first, last)


def play(variant: str, scenario: Scenario) -> str:
    """Play a scenario; return what is wrong, or nothing."""
    folder = tempfile.mkdtemp(dir=MEMORY)
    machine = machine_of(variant, Path(folder) / "node")
    run = begin(machine, variant)
    endings: list[str] = []
    try:
        for act in scenario:
            if wrong := _act(act, machine, run, variant, endings):
                return f"{act}: {wrong}"
    finally:
        machine.disk.close()
        shutil.rmtree(folder)
    return ""


def _act(act: Act, machine: Machine, run: Run, variant: str, endings: list[str]) -> str:
    """Do one thing; return what is wrong. `endings` are what the run has told so far."""
    match act:
        case Go():
            fate = Fate(act.crash_at, act.fail_at, act.error, act.lasting)
            told = (forward if act.way == "forward" else back)(machine, run, fate)
            endings.append(told)
            return f"ended {told} before its crash" if act.crash_at and told != "crashed" else ""
        case Tear():
            _tear(run.journal, act.quarters)
        case Cut():
            machine.cut_power(forget=act.forget)
        case Settle():
            for _ in range(3):
                # A disk that refused everything holds no word of the failure; the exit code told it.
                if not run.state().status.settled or endings[-1] in ("dirty", "interrupted"):
                    goes_on = act.by == "resume" and run.state().status is Status.APPLYING
                    endings.append((forward if goes_on else back)(machine, run))
            if machine.api:
                obey(machine, run.state().left)
        case Expect():
            return _unlike(act.what, machine, run, variant)
    return ""


def _unlike(wanted: str, machine: Machine, run: Run, variant: str) -> str:
    """Return how a node differs from what it should be."""
    status = run.state().status
    if not status.settled:
        return f"not settled: {status} ({run.state().reason})"
    if wanted == "either":
        wanted = {"committed": "last", "rolled-back": "first"}[status]
    found = good(variant)
    wrong = [difference(found.first if wanted == "first" else found.last, snapshot(machine))]
    wrong += [f"{unit} runs with what is not on the disk" for unit in stale_units(machine)]
    wrong += machine.violations[:1]
    return "; ".join(each for each in wrong if each)


def _tear(journal: Path, quarters: int) -> None:
    data = journal.read_bytes()
    whole = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    last = data[len(whole) :]
    journal.write_bytes(whole + last[: (len(last) - 1) * quarters // 4])


def _modes() -> tuple[tuple[Act, ...], ...]:
    """Return what can follow a crash: nothing, or a boot, with or without what was not flushed."""
    return (), (Cut(forget=False),), (Cut(forget=True),)


def _both_ways(begun: Scenario) -> Iterator[Scenario]:
    """Settle by rollback, and in another round by resume and then a rollback on top of it."""
    yield (*begun, Go("back"), Expect("first"))
    yield (*begun, Go("forward"), Expect("last"), Go("back"), Expect("first"))


def crashes(variant: str) -> Iterator[Scenario]:
    """Yield: the process ends before each event of a good run, and after the last one."""
    for number in range(1, len(good(variant).forward) + 1):
        for mode in _modes():
            yield from _both_ways((Go("forward", crash_at=number), *mode))


def torn(variant: str) -> Iterator[Scenario]:
    """Yield: power goes while a journal line is being written, and a part of it is on the disk."""
    for event in good(variant).forward:
        if event.call == "fsync" and event.what.endswith("journal.jsonl"):
            for quarters in range(5):
                begun = (Go("forward", crash_at=event.number), Tear(quarters), Cut(forget=False))
                yield from _both_ways(begun)


def crashes_on_the_way_back(variant: str) -> Iterator[Scenario]:
    """Yield: the process ends before each event of a finished run's rollback."""
    for number in range(1, len(good(variant).back) + 1):
        for mode in _modes():
            yield (Go("forward"), Go("back", crash_at=number), *mode, Go("back"), Expect("first"))


def crashes_twice(variant: str) -> Iterator[Scenario]:
    """Yield: in the middle of each step the process ends; then a resume, or a rollback, ends at every so manyth event."""
    for at in steps(good(variant).forward):
        begun = Go("forward", crash_at=at)
        mode = _modes()[at % 3]
        for way in ("forward", "back"):
            fate = count(variant, (begun, *mode), way)
            for number in range(1 + at % 7, fate + 1, 7):
                for again in _modes():
                    crashed = (begun, *mode, Go(way, crash_at=number), *again)
                    if way == "back":
                        yield (*crashed, Go("back"), Expect("first"))
                    else:
                        yield from _both_ways(crashed)


def steps(events: tuple[Event, ...]) -> list[int]:
    """Return one event from the middle between each two journal records."""
    marks = [0] + [e.number for e in events if e.call == "fsync" and e.what.endswith("journal.jsonl")]
    return sorted({(a + b + 1) // 2 for a, b in itertools.pairwise(marks) if b - a > 2})


def count(variant: str, begun: Scenario, way: str) -> int:
    """Return how many events a resume or rollback of a crashed run has."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        machine = machine_of(variant, Path(folder) / "node")
        run = begin(machine, variant)
        for act in begun:
            if isinstance(act, Go):
                forward(machine, run, Fate(act.crash_at))
            elif isinstance(act, Cut):
                machine.cut_power(forget=act.forget)
        fate = Fate()
        (forward if way == "forward" else back)(machine, run, fate)
        machine.disk.close()
        return len(fate.events)


def refusals(variant: str) -> Iterator[Scenario]:
    """Yield: each event is refused, once, or from there on until somebody mends it."""
    for number in range(1, len(good(variant).forward) + 1):
        for error in ERRORS:
            for lasting in (False, True):
                fate = Go("forward", fail_at=number, error=error, lasting=lasting)
                yield (fate, Settle(), Expect("either"), Go("back"), Expect("first"))


def refusals_on_the_way_back(variant: str) -> Iterator[Scenario]:
    """Yield: each event of a rollback is refused, once, or from there on until somebody mends it."""
    for number in range(1, len(good(variant).back) + 1):
        for error in ERRORS:
            for lasting in (False, True):
                fate = Go("back", fail_at=number, error=error, lasting=lasting)
                yield (Go("forward"), fate, Settle(), Expect("first"))


def refusals_then_resume(variant: str) -> Iterator[Scenario]:
    """Yield: an event is refused from there on, so that perhaps no word of the way back is written; then a resume."""
    for number in range(1, len(good(variant).forward) + 1):
        fate = Go("forward", fail_at=number, error=ERRORS[number % len(ERRORS)], lasting=True)
        yield (fate, Settle("resume"), Expect("either"), Go("back"), Expect("first"))


def cuts_after_the_end(variant: str) -> Iterator[Scenario]:
    """Yield: killed anywhere and settled at once; then the power goes, and what nobody flushed is lost."""
    for number in range(1, len(good(variant).forward) + 1):
        begun = Go("forward", crash_at=number)
        yield (begun, Go("back"), Cut(forget=True), Settle(), Expect("first"))
        yield (
            begun,
            Go("forward"),
            Cut(forget=True),
            Settle("resume"),
            Expect("either"),
            Go("back"),
            Expect("first"),
        )


FAMILIES = {
    "crashes": crashes,
    "torn": torn,
    "crashes-on-the-way-back": crashes_on_the_way_back,
    "crashes-twice": crashes_twice,
    "refusals": refusals,
    "refusals-on-the-way-back": refusals_on_the_way_back,
    "refusals-then-resume": refusals_then_resume,
    "cuts-after-the-end": cuts_after_the_end,
}
