# SPDX-License-Identifier: Apache-2.0
"""The journal survives every torn end, and refuses every other damage."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import ConflictError, HostError, UsageError
from migrator.host import Host
from migrator.journal import Journal, Run, Runs
from migrator.records import Kind, Record, Status, decode, encode, fold

BOOT = "boot-1"


def record(number: int, kind: Kind, step: str = "", boot: str = BOOT, **data: object) -> Record:
    return Record(number=number, time="2026-11-22T14:05:09Z", boot=boot, kind=kind, step=step, data=data)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Runs(Host(tmp_path)).create(
        "ab" * 32, b"{}\n", b"{}\n", [b"old", b"new"], when="2026-11-22T14:05:09Z"
    )


LIVES = [
    ([], Status.PLANNED, False),
    ([Kind.BEGIN], Status.APPLYING, False),
    ([Kind.BEGIN, Kind.INTERRUPTED], Status.APPLYING, False),
    ([Kind.BEGIN, Kind.FAILED], Status.APPLYING, False),
    ([Kind.BEGIN, Kind.COMMITTED], Status.COMMITTED, True),
    ([Kind.BEGIN, Kind.COMMITTED, Kind.ROLLING_BACK], Status.ROLLING_BACK, False),
    ([Kind.BEGIN, Kind.ROLLING_BACK, Kind.ROLLED_BACK], Status.ROLLED_BACK, True),
    (
        [Kind.BEGIN, Kind.COMMITTED, Kind.REVERTING],
        Status.ROLLING_BACK,
        False,
    ),  # the record before was refused
    ([Kind.BEGIN, Kind.ROLLING_BACK, Kind.DIRTY], Status.DIRTY, False),
    ([Kind.BEGIN, Kind.ROLLING_BACK, Kind.DIRTY, Kind.ROLLING_BACK], Status.ROLLING_BACK, False),
]


@pytest.mark.parametrize(("kinds", "status", "settled"), LIVES)
def test_a_run_stands_where_its_records_say(kinds: list[Kind], status: Status, settled: bool) -> None:
    state = fold([record(number, kind) for number, kind in enumerate(kinds, start=1)])

    assert (status, settled) == (state.status, state.status.settled)


def test_the_first_capture_counts() -> None:
    """A capture repeated after a crash would see our own change as the original."""
    state = fold(
        [
            record(1, Kind.CAPTURED, "a", undo={"was": "old"}),
            record(2, Kind.CAPTURED, "a", undo={"was": "ours"}),
        ]
    )

    assert {"was": "old"} == state.undo["a"]


def test_attempts_count_until_the_step_is_applied() -> None:
    tried = [record(n, Kind.APPLYING, "a") for n in (1, 2, 3)]

    assert {"a": 3} == fold(tried).attempts
    assert {} == fold([*tried, record(4, Kind.APPLIED, "a")]).attempts


def test_an_applied_step_remembers_its_boot() -> None:
    state = fold([record(1, Kind.APPLIED, "a"), record(2, Kind.APPLIED, "a", boot="boot-2")])

    assert {"a": "boot-2"} == state.applied


@given(st.integers(min_value=0), st.binary(max_size=20))
def test_whatever_tears_the_last_line_costs_that_line_only(cut: int, junk: bytes) -> None:
    whole = [record(1, Kind.BEGIN), record(2, Kind.APPLYING, "a")]
    start = b"".join(map(encode, whole))
    last = encode(record(3, Kind.APPLIED, "a"))
    torn = last[: cut % len(last)] + junk.replace(b"\n", b"?")

    records, length = decode(start + torn, "journal")

    assert (whole, len(start)) == (records, length)


@pytest.mark.parametrize("line", [0, 1])
def test_damage_before_the_last_line_stops_the_tool(line: int) -> None:
    lines = [encode(record(number, Kind.BEGIN)) for number in (1, 2, 3)]
    lines[line] = lines[line].replace(b"begin", b"begun")

    with pytest.raises(ConflictError, match=f"journal:{line + 1}: damaged"):
        decode(b"".join(lines), "journal")


@pytest.mark.parametrize(
    "wrong",
    [{"step": []}, {"step": 1}, {"data": 1}, {"data": None}, {"number": True}, {"time": {}}, {"boot": []}],
)
def test_a_record_of_another_shape_is_damaged_even_with_its_checksum(wrong: dict[str, Any]) -> None:
    lines = [encode(replace(record(1, Kind.APPLYING), **wrong)), encode(record(2, Kind.APPLIED))]
    with pytest.raises(ConflictError, match="journal:1: damaged"):
        decode(b"".join(lines), "journal")


def test_a_line_that_is_nested_beyond_reading_is_damaged() -> None:
    with pytest.raises(ConflictError, match="journal:1: damaged"):
        decode(b"[" * 100_000 + b"\n" + encode(record(2, Kind.APPLIED)), "journal")


def test_nuls_in_the_place_of_a_whole_line_stop_the_tool() -> None:
    lines = [encode(record(number, Kind.BEGIN)) for number in (1, 2, 3)]

    with pytest.raises(ConflictError, match="journal:2: damaged"):
        decode(lines[0] + b"\0" * len(lines[1]) + lines[2], "journal")


def test_a_missing_line_stops_the_tool() -> None:
    with pytest.raises(ConflictError, match="journal:2"):
        decode(encode(record(1, Kind.BEGIN)) + encode(record(3, Kind.COMMITTED)), "journal")


def test_a_torn_line_is_truncated_when_the_journal_is_opened_again(run: Run) -> None:
    journal = Journal(run, BOOT)
    journal.write(Kind.BEGIN)
    journal.close()
    good = run.journal.read_bytes()
    run.journal.write_bytes(good + b'{"n": 2, "ki')

    again = Journal(run, "boot-2")
    again.write(Kind.COMMITTED)
    again.close()

    assert run.journal.read_bytes().startswith(good)
    assert [Kind.BEGIN, Kind.COMMITTED] == [each.kind for each in run.records()]


def test_a_journal_that_cannot_be_written_says_so_and_keeps_no_half_line(run: Run) -> None:
    journal = Journal(run, BOOT)
    journal.write(Kind.BEGIN)
    before = run.journal.read_bytes()
    os.close(journal._descriptor)
    journal._descriptor = os.open("/dev/full", os.O_RDWR)

    with pytest.raises(HostError, match="No space left"):
        journal.write(Kind.APPLYING, "a")

    assert before == run.journal.read_bytes()
    assert Status.APPLYING is journal.state.status


def test_everything_of_a_run_is_private_to_root(run: Run) -> None:
    Journal(run, BOOT).close()
    modes = {
        path.relative_to(run.directory).parts[0]: path.stat().st_mode & 0o777
        for path in run.directory.rglob("*")
    }

    assert {"plan.json": 0o600, "facts.json": 0o600, "journal.jsonl": 0o600, "blobs": 0o600} == modes | {
        "blobs": {path.stat().st_mode & 0o777 for path in (run.directory / "blobs").iterdir()}.pop()
    }
    assert [0o700] * 3 == [
        path.stat().st_mode & 0o777 for path in (run.directory, run.directory / "blobs", run.directory.parent)
    ]


def test_a_blob_that_is_no_longer_itself_is_refused(run: Run) -> None:
    digest = run.put_blob(b"old")
    (run.directory / "blobs" / digest).write_bytes(b"0ld")

    with pytest.raises(ConflictError, match="damaged"):
        run.blob(digest)


def test_two_runs_in_one_second_have_two_names(tmp_path: Path) -> None:
    runs = Runs(Host(tmp_path))
    names = [runs.create("ab" * 32, b"", b"", [], when="2026-11-22T14:05:09Z").name for _ in range(2)]

    assert ["20261122T140509Z-abababab", "20261122T140509Z-abababab-2"] == names


def test_a_half_made_run_is_not_a_run(tmp_path: Path) -> None:
    """The directory gets its name when all in it is durable."""
    runs = Runs(Host(tmp_path))
    (tmp_path / "var/lib/cgmigrate/runs/.20261122T140509Z-abababab/blobs").mkdir(parents=True)

    assert [] == runs.all()
    assert (
        "20261122T140509Z-abababab" == runs.create("ab" * 32, b"", b"", [], when="2026-11-22T14:05:09Z").name
    )


def test_only_one_process_holds_the_lock(tmp_path: Path) -> None:
    runs = Runs(Host(tmp_path))

    with runs.lock(), pytest.raises(ConflictError, match=f"pid {os.getpid()}"), Runs(Host(tmp_path)).lock():
        pass
    with runs.lock():
        pass


def test_who_looks_who_is_at_work_keeps_nobody_from_it(tmp_path: Path) -> None:
    runs = Runs(Host(tmp_path))
    with runs.lock():
        pass
    looking = threading.Event()

    def look() -> None:
        with (runs.base / "lock").open() as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            looking.set()
            time.sleep(0.1)

    reader = threading.Thread(target=look)
    reader.start()
    looking.wait()
    with Runs(Host(tmp_path)).lock():
        assert str(os.getpid()) == runs.worker()
    reader.join()
    assert "" == runs.worker()


def test_an_open_run_is_not_forgotten(tmp_path: Path, run: Run) -> None:
    runs = Runs(Host(tmp_path))
    journal = Journal(run, BOOT)
    journal.write(Kind.BEGIN)
    journal.write(Kind.APPLYING, "a")

    with pytest.raises(ConflictError, match="not settled"):
        runs.forget(run)
    journal.write(Kind.COMMITTED)
    journal.close()
    runs.forget(run)

    assert [] == runs.all()


@pytest.mark.parametrize("guarded", [False, True])
def test_a_run_of_which_nothing_was_begun_is_forgotten_unless_a_guard_is_there(
    tmp_path: Path, run: Run, *, guarded: bool
) -> None:
    runs = Runs(Host(tmp_path))
    journal = Journal(run, BOOT)
    journal.write(Kind.BEGIN)
    journal.close()
    if guarded:
        (runs.base / "active").touch()

    with pytest.raises(ConflictError, match="not settled") if guarded else contextlib.nullcontext():
        runs.forget(run)

    assert guarded == bool(runs.all())


@pytest.mark.parametrize(
    "digest", ["/dev/zero", "../../../etc/shadow", "", "ab", "AB" * 32, "ab" * 32 + "\n"]
)
def test_a_saved_file_has_the_name_of_a_sha256(run: Run, digest: str) -> None:
    with pytest.raises(ConflictError, match="no sha256"):
        run.blob(digest)


@pytest.mark.parametrize("name", ["2", "20261122T140509Z-abababab", "20261122"])
def test_a_run_is_found_by_the_beginning_of_its_name(tmp_path: Path, run: Run, name: str) -> None:
    assert run.name == Runs(Host(tmp_path)).get(name).name


def test_an_unknown_run_is_an_error_that_lists_the_known(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UsageError, match=f"no such run; known runs: {run.name}"):
        Runs(Host(tmp_path)).get("1999")


def test_what_a_step_left_is_not_forgotten_by_the_next_go_unless_it_is_done_again(tmp_path: Path) -> None:
    run = Runs(Host(tmp_path)).create("cd" * 32, b"{}", b"{}", [])
    journal = Journal(run, "boot-1")
    journal.write(Kind.BEGIN)
    journal.write(Kind.APPLYING, "uncordon")
    journal.write(Kind.LEFT, command="of the way forward")
    journal.write(Kind.ROLLING_BACK)
    for step in ("files", "config-map"):
        journal.write(Kind.REVERTING, step)
        if step == "config-map":
            journal.write(Kind.LEFT, command="edit it")
        journal.write(Kind.REVERTED, step)
    journal.write(Kind.REVERTING, "reload")
    journal.write(Kind.REVERT_FAILED, "reload", error="refused")
    journal.write(Kind.REVERTING, "cordon")
    journal.write(Kind.LEFT, command="uncordon it")
    journal.write(Kind.REVERTED, "cordon")
    journal.write(Kind.DIRTY)
    assert ["edit it", "uncordon it"] == journal.state.left

    journal.write(Kind.ROLLING_BACK)

    assert ["edit it"] == journal.state.left  # the cordon rests on what failed, and is reverted again
    journal.close()
