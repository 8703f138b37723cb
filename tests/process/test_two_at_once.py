# SPDX-License-Identifier: Apache-2.0
"""One process at a time changes a node: the other is refused and told who works; the clock does not decide what is newest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.commands_change import go_on
from migrator.errors import ConflictError
from migrator.host import Host
from migrator.journal import Runs
from migrator.records import Status
from migrator.session import open_run
from tests.cli.test_prompts import typed
from tests.process.command import (
    CGMIGRATE,
    ENVIRONMENT,
    STATE,
    Done,
    Prepared,
    copy,
    here,
    reports,
    snapshot,
    standing,
)


@contextmanager
def at_work(prepared: Prepared, direction: str, place: Path) -> Iterator[Path]:
    """Start a command, hold it up in its first fsync after it took the lock, and give its node meanwhile."""
    node, words = prepared.begin(direction, place)
    effects = prepared.effects(direction)
    locked = next(at for at, effect in enumerate(effects) if effect.call == "pwrite64")
    held = next(effect for effect in effects[locked:] if effect.call == "fsync")
    inject = f"inject=fsync:delay_enter=60000000:when={held.when}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", inject, str(CGMIGRATE)]
    with subprocess.Popen(
        [*command, *map(str, words)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        worker = ""
        while process.poll() is None and not worker.isdigit():
            time.sleep(0.05)
            worker = Runs(Host(node)).worker()
        try:
            yield node
        finally:
            os.kill(int(worker), signal.SIGKILL)
            process.kill()
            while Runs(Host(node)).worker():  # the kernel gives the lock back when the process is gone
                time.sleep(0.05)


@pytest.mark.parametrize("first", ["apply", "rollback", "resume"])
def test_the_second_is_refused_and_told_who_works_and_status_tells_it_too(
    prepared: Prepared, tmp_path: Path, first: str
) -> None:
    with at_work(prepared, first, tmp_path / "node") as node:
        words: dict[str, tuple[str | Path, ...]] = {
            "apply": ("apply", "--root", node, prepared.plan, "--yes"),
            "rollback": ("rollback", "--root", node, "--yes"),
            "resume": ("resume", "--root", node),
            "forget": ("forget", "2", "--root", node, "--yes"),
        }
        before = snapshot(node)
        worker = Runs(Host(node)).worker()
        refused = {name: here(*each) for name, each in words.items() if name == first or reports(node)}
        told = here("status", "--root", node)
        assert before == snapshot(node)

    assert first in refused
    expected = f"another cgmigrate is at work on this node (pid {worker})"
    assert [] == [
        (name, done) for name, done in refused.items() if (done.code, expected in done.err) != (4, True)
    ]
    assert f"in progress: process {worker}" in told.out
    assert "" == Runs(Host(node)).worker()


def test_two_started_at_once_end_as_one(prepared: Prepared, tmp_path: Path) -> None:
    node = copy(prepared.node, tmp_path / "node")
    command = [str(word) for word in (CGMIGRATE, "apply", "--root", node, prepared.plan, "--yes")]
    both = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) for _ in range(2)]
    ends = []
    for each in both:
        _, err = each.communicate(timeout=120)
        ends.append(Done(each.returncode, "", err.decode()))

    assert [0, 4] == sorted(done.code for done in ends), ends
    assert ["committed"] == [each.status for each in reports(node)]
    assert prepared.last == snapshot(node)


@dataclass(frozen=True)
class Shown:
    """A node whose newest run is shown to an operator; `older` is committed, and another run may stand on it."""

    node: Path
    older: str
    newer: str

    def do(self, *words: str) -> int:
        """Run another command meanwhile."""
        return here(*words, "--root", self.node).code


MEANWHILE: list[tuple[str, str, Callable[[Shown], object], tuple[int, str]]] = [
    (
        "the run goes, and an older one would be next",
        "newer",
        lambda it: it.do("forget", it.newer, "--yes"),
        (4, "is no longer there"),
    ),
    (
        "a newer run comes",
        "older",
        lambda it: Runs(Host(it.node)).create("cd" * 32, b"{}", b"{}", []),
        (4, "stands on it"),
    ),
    ("the open run is finished", "begun", lambda it: it.do("resume"), (4, "is committed by now")),
    ("the run is rolled back", "older", lambda it: it.do("rollback", "--yes"), (0, "is rolled back")),
    ("nothing", "older", lambda _: None, (0, "is rolled back")),
]


@pytest.mark.parametrize(
    ("which", "meanwhile", "expected"), [row[1:] for row in MEANWHILE], ids=[row[0] for row in MEANWHILE]
)
def test_what_is_rolled_back_is_what_was_asked_about(
    prepared: Prepared,
    tmp_path: Path,
    which: str,
    meanwhile: Callable[[Shown], object],
    expected: tuple[int, str],
) -> None:
    node = copy(prepared.begun if which == "begun" else prepared.committed, tmp_path / "node")
    (older,) = Runs(Host(node)).all()
    newer = Runs(Host(node)).create("ab" * 32, b"{}", b"{}", []).name if which == "newer" else ""
    shown = Shown(node, older.name, newer)
    before = None

    def other() -> None:
        nonlocal before
        meanwhile(shown)
        before = snapshot(node)

    command = [sys.executable, "-m", "migrator", "rollback", "--root", str(node)]
    code, said = typed(command, [(b"Enter:", b"y")], other)

    assert (expected[0], True) == (code, expected[1] in " ".join(said.split())), said
    assert (before if code else prepared.first) == snapshot(node)


def test_the_guided_path_goes_on_with_the_run_that_it_has_shown_or_with_none(
    prepared: Prepared, tmp_path: Path
) -> None:
    node = copy(prepared.begun, tmp_path / "node")
    (shown,) = Runs(Host(node)).all()
    assert 0 == here("rollback", "--root", node, "--yes").code
    open_now = Runs(Host(node)).create("ab" * 32, b"{}", b"{}", [])

    with pytest.raises(ConflictError, match=f"{shown.name} was open when it was shown"):
        go_on(Host(node), None, shown=shown)

    assert (Status.PLANNED, prepared.first) == (open_now.state().status, snapshot(node))


CLOCKS = [
    (("2026-11-22T14:05:09Z", "2026-11-22T14:05:10Z"), "it goes on"),
    (("2026-11-22T14:05:09Z", "2026-11-22T14:05:09Z"), "two in one second"),
    (("2036-11-22T14:05:09Z", "2026-11-22T14:05:09Z", "2026-11-22T14:05:10Z"), "it was years ahead"),
    (("2026-11-22T14:05:09Z", "1970-01-01T00:00:07Z"), "its battery is empty"),
    (tuple(f"2026-11-22T14:05:{59 - second}Z" for second in range(12)), "it goes back all the time"),
]


@pytest.mark.parametrize("times", [row[0] for row in CLOCKS], ids=[row[1] for row in CLOCKS])
def test_a_later_run_is_the_newer_one_whatever_the_clock_says(tmp_path: Path, times: tuple[str, ...]) -> None:
    host = Host(tmp_path)
    digests = ["fe" * 32, "01" * 32]
    made = [
        Runs(host).create(digests[number % 2], b"{}", b"{}", [], when=when).name
        for number, when in enumerate(times)
    ]

    assert made == [run.name for run in Runs(host).all()]
    assert made[-1] == open_run(host, None).name
    unsettled = Runs(host).unsettled()
    assert unsettled is not None
    assert made[-1] == unsettled.name


def test_a_run_that_another_stands_on_is_not_rolled_back_though_its_name_is_later(
    prepared: Prepared, tmp_path: Path
) -> None:
    """The clock was years ahead when the first was made; its name must not make it the newest."""
    node = copy(prepared.committed, tmp_path / "node")
    runs = node / STATE / "runs"
    old = next(runs.iterdir())
    old.rename(runs / f"20361122T140509Z-{old.name[17:25]}")
    later = Runs(Host(node)).create("ab" * 32, b"{}", b"{}", [], when="2026-11-22T14:05:09Z")

    refused = here("rollback", "20361122T140509Z-" + old.name[17:25], "--root", node, "--yes")

    assert (4, True) == (refused.code, f"while {later.name} stands on it" in refused.err), refused.err
    assert prepared.last == snapshot(node)
    assert "planned" == standing(node)
