# SPDX-License-Identifier: Apache-2.0
"""The crash matrix as data: every scenario is counted from a good run, none is listed by hand.

A scenario is a row of acts on a node that is as it was: take the run forward or back under a fate, tear the journal's last
line, cut the power, and say how the node must be then. `play` plays one, and returns what is wrong.
"""

from __future__ import annotations

import errno
import functools
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from migrator.journal import Run
from migrator.records import Status
from tests.crash.cases import (
    VARIANTS,
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
from tests.crash.simulator import JOBS, Machine

ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES)
MEMORY = Path("/dev/shm")
WHOLE = slice(None)
FAR = 11
"""Second faults are tried at each so manyth event."""
LASTS = 3
"""Of them, each so manyth is a fault that lasts."""
AWAY = (45.0, 400.0, math.inf)
"""Seconds: less than the API server is waited for, more, and until the command has ended."""


@dataclass(frozen=True, slots=True)
class Go:
    """Take the run `forward` (apply, resume) or `back` (rollback); 0: nothing happens on the way."""

    way: str
    crash_at: int = 0
    fail_at: int = 0
    error: int = 0
    lasting: bool = False
    how: str = ""
    away_at: int = 0
    away_for: float = 0.0


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
    asked: tuple[int, int]
    """Requests to the API server, forward and back."""
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
        return Good(tuple(there.events), tuple(here.events), (there.asked, here.asked), first, last)


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
            fate = fate_of(act)
            told = (forward if act.way == "forward" else back)(machine, run, fate)
            endings.append(told)
            return f"ended {told} before its crash" if act.crash_at and told != "crashed" else ""
        case Tear():
            _tear(run.journal, act.quarters)
        case Cut():
            machine.cut_power(forget=act.forget)
        case Settle():
            machine.broken.clear()
            for _ in range(3):
                # A disk that refused everything holds no word of the failure; the exit code told it.
                if not run.state().status.settled or endings[-1] in ("dirty", "interrupted", "refused"):
                    goes_on = act.by == "resume" and run.state().status is Status.APPLYING
                    endings.append((forward if goes_on else back)(machine, run))
            if machine.api:
                obey(machine, run.state().left)
        case Expect():
            return _unlike(act.what, machine, run, variant)
    return ""


def fate_of(act: Go) -> Fate:
    """Return what happens on the way of an act."""
    return Fate(act.crash_at, act.fail_at, act.error, act.lasting, act.how, act.away_at, act.away_for)


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


def crashes(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: the process ends before each event of a good run, and after the last one."""
    for number in _numbers(good(variant).forward)[share]:
        for mode in _modes():
            yield from _both_ways((Go("forward", crash_at=number), *mode))


def torn(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: power goes while a journal line is being written, and a part of it is on the disk."""
    for number in records(good(variant).forward)[share]:
        for quarters in range(5):
            begun = (Go("forward", crash_at=number), Tear(quarters), Cut(forget=False))
            yield from _both_ways(begun)


def torn_on_the_way_back(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: the same while a finished run is taken back, and whoever comes then resumes or takes it back."""
    for number in records(good(variant).back)[share]:
        for quarters in range(5):
            begun = (Go("forward"), Go("back", crash_at=number), Tear(quarters), Cut(forget=False))
            if (number + quarters) % 2:
                yield (*begun, Go("back"), Expect("first"))
            else:
                yield (*begun, Settle("resume"), Expect("either"), Go("back"), Expect("first"))


def crashes_on_the_way_back(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: the process ends before each event of a finished run's rollback."""
    for number in _numbers(good(variant).back)[share]:
        for mode in _modes():
            yield (Go("forward"), Go("back", crash_at=number), *mode, Go("back"), Expect("first"))


def crashes_twice(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: in the middle of each step the process ends; then a resume, or a rollback, ends at every so manyth event."""
    for at in steps(good(variant).forward)[share]:
        begun = Go("forward", crash_at=at)
        mode = _modes()[at % 3]
        for way in ("forward", "back"):
            events = count(variant, (begun, *mode), Go(way))
            for number in range(1 + at % 7, events + 1, 7):
                for again in _modes():
                    crashed = (begun, *mode, Go(way, crash_at=number), *again)
                    if way == "back":
                        yield (*crashed, Go("back"), Expect("first"))
                    else:
                        yield from _both_ways(crashed)


def records(events: tuple[Event, ...]) -> list[int]:
    """Return the events that make a journal record durable."""
    return [e.number for e in events if e.call == "fsync" and e.what.endswith("journal.jsonl")]


def steps(events: tuple[Event, ...]) -> list[int]:
    """Return one event from the middle between each two journal records."""
    return sorted({(a + b + 1) // 2 for a, b in itertools.pairwise([0, *records(events)]) if b - a > 2})


def _numbers(events: tuple[Event, ...]) -> range:
    return range(1, len(events) + 1)


def count(variant: str, begun: Scenario, act: Go) -> int:
    """Return how many events an act has on a node on which something else was begun."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        machine = machine_of(variant, Path(folder) / "node")
        run = begin(machine, variant)
        for each in begun:
            _act(each, machine, run, variant, [])
        fate = fate_of(act)
        (forward if act.way == "forward" else back)(machine, run, fate)
        machine.disk.close()
        return len(fate.events)


def refusals(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: each event is refused, once, or from there on until somebody mends it."""
    for number in _numbers(good(variant).forward)[share]:
        for error in ERRORS:
            for lasting in (False, True):
                fate = Go("forward", fail_at=number, error=error, lasting=lasting)
                yield (fate, Settle(), Expect("either"), Go("back"), Expect("first"))


def refusals_on_the_way_back(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: each event of a rollback is refused, once, or from there on until somebody mends it."""
    for number in _numbers(good(variant).back)[share]:
        for error in ERRORS:
            for lasting in (False, True):
                fate = Go("back", fail_at=number, error=error, lasting=lasting)
                yield (Go("forward"), fate, Settle(), Expect("first"))


def refusals_then_resume(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: an event is refused from there on, so that perhaps no word of the way back is written; then a resume."""
    for number in _numbers(good(variant).forward)[share]:
        fate = Go("forward", fail_at=number, error=ERRORS[number % len(ERRORS)], lasting=True)
        yield (fate, Settle("resume"), Expect("either"), Go("back"), Expect("first"))


def refusals_then_crashes(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: an event is refused, and somewhere behind it, mostly on the way back that is taken then, the process ends."""
    for at in _numbers(good(variant).forward)[2::5][share]:
        refused = Go("forward", fail_at=at, error=ERRORS[at % len(ERRORS)], lasting=at % LASTS == 0)
        events = count(variant, (), refused)
        for turn, number in enumerate(range(at + 1 + at % FAR, events + 1, FAR)):
            crashed = (replace(refused, crash_at=number), *_modes()[(at + turn) % 3])
            by = ("rollback", "resume")[turn % 2]
            yield (*crashed, Settle(by), Expect("either"), Go("back"), Expect("first"))


def refusals_in_the_second_go(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: in the middle of each step the process ends; then an event of the resume, or of the rollback, is refused."""
    for at in steps(good(variant).forward)[share]:
        begun = (Go("forward", crash_at=at), *_modes()[at % 3])
        for way, by in (("forward", "rollback"), ("forward", "resume"), ("back", "rollback")):
            events = count(variant, begun, Go(way))
            for turn, number in enumerate(range(1 + at % FAR, events + 1, FAR)):
                error = ERRORS[(at + turn) % len(ERRORS)]
                fate = Go(way, fail_at=number, error=error, lasting=turn % LASTS == 0)
                yield (*begun, fate, Settle(by), Expect("either"), Go("back"), Expect("first"))


def units_that_do_not(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: each job of a unit fails, in each way that one can, once, or until somebody mends the unit."""
    faults = list(itertools.product(JOBS, (False, True)))
    for number in jobs(good(variant).forward)[share]:
        for how, lasting in faults:
            fate = Go("forward", fail_at=number, how=how, lasting=lasting)
            for mode in _modes()[:2]:
                yield (fate, *mode, Settle(), Expect("either"), Go("back"), Expect("first"))
            yield (fate, Settle("resume"), Expect("either"), Go("back"), Expect("first"))
            if lasting:  # who tries again before it is mended does no harm
                yield (fate, Go("back"), Cut(forget=False), Settle(), Expect("first"))
    for number in jobs(good(variant).back)[share]:
        for how, lasting in faults:
            fate = Go("back", fail_at=number, how=how, lasting=lasting)
            for mode in _modes()[:2]:
                yield (Go("forward"), fate, *mode, Settle(), Expect("first"))
            if lasting:
                yield (Go("forward"), fate, Go("back"), Cut(forget=False), Settle(), Expect("first"))


def jobs(events: tuple[Event, ...]) -> list[int]:
    """Return the events that are a job of a unit, slices aside."""
    verbs = ("start", "stop", "restart")
    return [e.number for e in events if e.call in verbs and not e.what.endswith(".slice")]


def api_away(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: from each request on the API server is away: for less than is waited, for longer, and for days."""
    there, here = good(variant).asked
    for number in range(1, there + 1)[share]:
        for seconds in AWAY:
            fate = Go("forward", away_at=number, away_for=seconds)
            for by in ("rollback", "resume"):
                yield (fate, Settle(by), Expect("either"), Go("back"), Expect("first"))
            yield (fate, Go("back", away_at=1, away_for=seconds), Settle(), Expect("first"))
    for number in range(1, here + 1)[share]:
        for seconds in AWAY:
            fate = Go("back", away_at=number, away_for=seconds)
            yield (Go("forward"), fate, Settle(), Expect("first"))
            yield (Go("forward"), fate, *_modes()[1], Settle(), Expect("first"))


def cuts_after_the_end(variant: str, share: slice = WHOLE) -> Iterator[Scenario]:
    """Yield: killed anywhere and settled at once; then the power goes, and what nobody flushed is lost."""
    for number in _numbers(good(variant).forward)[share]:
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
    "torn-on-the-way-back": torn_on_the_way_back,
    "crashes-on-the-way-back": crashes_on_the_way_back,
    "crashes-twice": crashes_twice,
    "refusals": refusals,
    "refusals-on-the-way-back": refusals_on_the_way_back,
    "refusals-then-resume": refusals_then_resume,
    "refusals-then-crashes": refusals_then_crashes,
    "refusals-in-the-second-go": refusals_in_the_second_go,
    "cuts-after-the-end": cuts_after_the_end,
    "units-that-do-not": units_that_do_not,
    "api-away": api_away,
}
ALIKE = {
    "cordoned": ("crashes", "crashes-on-the-way-back", "refusals", "refusals-then-crashes", "api-away"),
    "two-names": ("crashes", "crashes-on-the-way-back", "refusals"),
    "no-directory": ("crashes", "torn", "crashes-on-the-way-back", "refusals", "cuts-after-the-end"),
}
"""Kinds of node that differ from another in one thing → the families they play."""
SAMPLE = dict.fromkeys(ALIKE, 7)
"""Of each family one in so many is enough for them."""


def families(variant: str) -> list[str]:
    """Return the families that a kind of node has."""
    has_api = VARIANTS[variant].in_cluster
    return [name for name in ALIKE.get(variant, FAMILIES) if has_api or name != "api-away"]


def scenarios(variant: str, family: str, share: int, shares: int) -> list[Scenario]:
    """Return one share of a family."""
    mine = slice(share, None, shares)
    return list(FAMILIES[family](variant, mine))[share % SAMPLE.get(variant, 1) :: SAMPLE.get(variant, 1)]
