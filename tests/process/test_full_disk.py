# SPDX-License-Identifier: Apache-2.0
"""The state directory's disk is full, at any point, or takes nothing any more: forward stops, the way back goes on.

The disk is a tmpfs of a few pages in a mount namespace of its own, which ends with the process that holds it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import pytest

from migrator.journal import utc_now
from migrator.records import Kind, Record, encode
from tests.process.command import CGMIGRATE, ENVIRONMENT, STATE, Done, Prepared, copy, snapshot

PAGE = 4096


class Machine:
    """A mount namespace with a small disk on the state directory of a node."""

    def __init__(self, node: Path, pages: int, state: Path | None = None) -> None:
        self.node, self.disk = node, node / STATE
        self.disk.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        if self._holder.stdout is None or not self._holder.stdout.readline():
            raise AssertionError("no mount namespace")
        self.sh(f"mount -t tmpfs -o mode=700,size={pages * PAGE} tmpfs {self.disk}")
        if state:
            self.sh(f"cp -a {state}/. {self.disk}/")

    def sh(self, script: str) -> None:
        done = self._enter("sh", "-c", script)
        if done.code:
            raise AssertionError(done)

    def cgmigrate(self, *words: str | Path) -> Done:
        return self._enter(CGMIGRATE, *words)

    def _enter(self, *words: str | Path) -> Done:
        done = subprocess.run(
            ["nsenter", "--mount", f"--target={self._holder.pid}", *words],
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@contextmanager
def machine(node: Path, pages: int, state: Path | None = None) -> Iterator[Machine]:
    made = Machine(node, pages, state)
    try:
        yield made
    finally:
        made.close()


def test_a_disk_that_holds_no_whole_run_leaves_none_and_nothing_changed(
    prepared: Prepared, tmp_path: Path
) -> None:
    """From an almost empty one, page by page from shortly below what a run takes to the first on which it ends."""
    files = [path for path in (prepared.committed / STATE).rglob("*") if path.is_file()]
    takes = sum(-(-path.stat().st_size // PAGE) for path in files)
    wrong, codes = [], []
    for pages in chain([takes // 3], count(takes - 6)):
        node = copy(prepared.node, tmp_path / f"node{pages}")
        with machine(node, pages) as at:
            done = at.cgmigrate("apply", "--root", node, prepared.plan, "--yes")
            codes.append(done.code)
            told = at.cgmigrate("status", "--root", node)
            expected = prepared.last if done.code == 0 else prepared.first
            if done.crashed or done.code not in (0, 4) or snapshot(node) != expected:
                wrong.append(f"{pages} pages: {done}")
            at.sh(f"mount -o remount,size=16m {at.disk}")
            if told.code == 7:
                back = at.cgmigrate("rollback", "--root", node, "--yes")
                if (back.code, snapshot(node)) != (0, prepared.first):
                    wrong.append(f"{pages} pages, rollback: {back}")
        if not done.code:
            break
    again = copy(prepared.node, tmp_path / "again")
    with machine(again, takes // 2) as at:
        at.cgmigrate("apply", "--root", again, prepared.plan, "--yes")
        at.sh(f"mount -o remount,size=16m {at.disk}")
        at.sh(f"! ls -A {at.disk}/runs | grep .")
        wrong += [
            each.err for each in [at.cgmigrate("apply", "--root", again, prepared.plan, "--yes")] if each.code
        ]

    assert not wrong, "\n".join(wrong)
    assert {0, 4} == set(codes)
    assert prepared.last == snapshot(again)


def filled(journal: Path, room: int) -> None:
    """Have a journal end `room` bytes before its page does, with a record of a failure that says much."""
    lines = journal.read_bytes() if journal.exists() else b""
    number = lines.count(b"\n")
    add = [Record(number=number + 1, time=utc_now(), boot="image", kind=Kind.BEGIN)] if not number else []
    number += len(add)

    def failed(text: str) -> Record:
        return Record(number=number + 1, time=utc_now(), boot="image", kind=Kind.FAILED, data={"error": text})

    lines += b"".join(map(encode, add))
    lines += encode(failed("x" * (PAGE - room - len(lines) - len(encode(failed(""))))))
    journal.write_bytes(lines)
    journal.chmod(0o600)


@pytest.mark.parametrize("room", range(0, 2500, 350))
@pytest.mark.parametrize("command", ["resume", "rollback"])
def test_full_in_the_middle_a_run_is_taken_back_and_says_what_it_could_not_write(
    prepared: Prepared, tmp_path: Path, command: str, room: int
) -> None:
    """The records go into the page that the journal has, until that is full; then the disk is."""
    node = copy(prepared.begun if command == "resume" else prepared.committed, tmp_path / "node")
    filled(next((node / STATE / "runs").iterdir()) / "journal.jsonl", room)
    words = ("resume", "--root", node) if command == "resume" else ("rollback", "--root", node, "--yes")
    with machine(node, 64, copy(node / STATE, tmp_path / "state")) as at:
        at.sh(FILL.format(disk=at.disk))
        done = at.cgmigrate(*words)
        told = at.cgmigrate("status", "--root", node)

        assert not done.crashed, done.err
        ends = {0} | ({4, 5, 6} if command == "resume" else {6})
        assert done.code in ends, done
        assert (prepared.last if (command, done.code) == ("resume", 0) else prepared.first) == snapshot(node)
        assert (done.code == 6) == ("journal could not be written" in done.err), done.err
        if done.code in (0, 5):
            assert 0 == told.code, told.out
        at.sh(GROW.format(disk=at.disk))
        again = at.cgmigrate("rollback", "--root", node, "--yes")
        told = at.cgmigrate("status", "--root", node)
        assert (0, 0, prepared.first) == (again.code, told.code, snapshot(node)), again.err
        assert "rolled-back" in told.out


FILL = "dd if=/dev/zero of={disk}/filler bs=4096; true"
GROW = "rm {disk}/filler; mount -o remount,size=16m {disk}"
NO_MORE = [
    (FILL, GROW, "full"),
    ("mount -o remount,ro {disk}", "mount -o remount,rw {disk}", "read-only"),
]


@pytest.mark.parametrize(("harm", "mend", "name"), NO_MORE, ids=[row[2] for row in NO_MORE])
def test_a_rollback_goes_on_without_its_journal_says_so_and_is_settled_later(
    prepared: Prepared, tmp_path: Path, harm: str, mend: str, name: str
) -> None:
    node = copy(prepared.committed, tmp_path / "node")
    with machine(node, 64, prepared.committed / STATE) as at:
        at.sh(harm.format(disk=at.disk))
        done = at.cgmigrate("rollback", "--root", node, "--yes")

        assert prepared.first == snapshot(node)
        assert not done.crashed, done.err
        if name == "read-only":  # the last page of a journal may hold all the records of a way back
            assert 6 == done.code, done.err
        if done.code:
            assert "the rollback goes on without its journal" in done.err
            assert "`cgmigrate rollback` again settles it" in done.err
            at.sh(mend.format(disk=at.disk))
            again = at.cgmigrate("rollback", "--root", node, "--yes")
            assert 0 == again.code, again.err
        told = at.cgmigrate("status", "--root", node)
        assert (0, True) == (told.code, "rolled-back" in told.out)
        assert prepared.first == snapshot(node)


@pytest.mark.parametrize("how", NO_MORE, ids=[row[2] for row in NO_MORE])
@pytest.mark.parametrize("command", ["apply", "resume"])
def test_forward_changes_nothing_without_its_journal(
    prepared: Prepared, tmp_path: Path, command: str, how: tuple[str, str, str]
) -> None:
    harm, mend, name = how
    begins = prepared.begun if command == "resume" else prepared.node
    node = copy(begins, tmp_path / "node")
    state = begins / STATE if command == "resume" else None
    words = (
        ("resume", "--root", node)
        if command == "resume"
        else ("apply", "--root", node, prepared.plan, "--yes")
    )
    with machine(node, 64, state) as at:
        at.sh(harm.format(disk=at.disk))
        done = at.cgmigrate(*words)

        assert (4, prepared.first) == (done.code, snapshot(node)), f"{name}: {done.err}"
        assert ("Read-only file system" if name == "read-only" else "No space left") in done.err
        at.sh(mend.format(disk=at.disk))
        again = at.cgmigrate(*words)
        assert (0, prepared.last) == (again.code, snapshot(node)), again.err
