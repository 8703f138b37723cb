# SPDX-License-Identifier: Apache-2.0
"""A journal damaged anywhere but at its end stops every command; a saved file that is gone stops only its own step."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.command import STATE, Prepared, copy, here, reports, snapshot, standing

Lines = list[bytes]


def flipped(lines: Lines, at: int) -> Lines:
    """One bit of one byte in the middle is another one."""
    line = bytearray(lines[at])
    line[len(line) // 2] ^= 0x01
    return [*lines[:at], bytes(line), *lines[at + 1 :]]


def removed(lines: Lines, at: int) -> Lines:
    return [*lines[:at], *lines[at + 1 :]]


def swapped(lines: Lines, at: int) -> Lines:
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def zeroed(lines: Lines, at: int) -> Lines:
    """A block of NULs, which is what some filesystems make of what was never written."""
    return [*lines[:at], b"\0" * len(lines[at]), *lines[at + 1 :]]


def doubled(lines: Lines, at: int) -> Lines:
    return [*lines[: at + 1], lines[at], *lines[at + 1 :]]


def blank(lines: Lines, at: int) -> Lines:
    return [*lines[:at], b"\n", *lines[at:]]


DAMAGE: list[tuple[Callable[[Lines, int], Lines], int, int]] = [
    (flipped, 0, -1),
    (removed, 0, -1),
    (swapped, 0, -1),
    (zeroed, 0, -1),
    (doubled, 1, 0),
    (blank, 0, 0),
]
"""(what happens to a line, by how many lines later it is seen, which lines at the end are not tried)."""


@pytest.mark.parametrize(("damage", "later", "last"), DAMAGE, ids=[row[0].__name__ for row in DAMAGE])
def test_a_journal_damaged_before_its_last_line_stops_every_command_and_changes_nothing(
    prepared: Prepared, tmp_path: Path, damage: Callable[[Lines, int], Lines], later: int, last: int
) -> None:
    node = copy(prepared.committed, tmp_path / "node")
    journal = next((node / STATE / "runs").glob("*/journal.jsonl"))
    good = journal.read_bytes().splitlines(keepends=True)
    blobs = sorted(path.name for path in (journal.parent / "blobs").iterdir())
    wrong = []
    for at in range(len(good) + last):
        damaged = b"".join(damage(good, at))
        journal.write_bytes(damaged)
        for words in (
            ("resume", "--root", node),
            ("rollback", "--root", node, "--yes"),
            ("apply", "--root", node, prepared.plan, "--yes"),
        ):
            done = here(*words)
            if (done.code, f"{journal}:{at + 1 + later}: damaged" in done.err) != (4, True):
                wrong.append(f"line {at + 1}, {words[0]}: {done}")
        told = here("status", "--root", node)
        if (told.code, "damaged journal" in told.out) != (4, True):
            wrong.append(f"line {at + 1}: status does not tell")
        if (journal.read_bytes(), snapshot(node)) != (damaged, prepared.last):
            wrong.append(f"line {at + 1}: something was changed")

    assert blobs == sorted(path.name for path in (journal.parent / "blobs").iterdir())
    assert not wrong, "\n".join(wrong)


NO_PLAN = [b"[" * 100_000, b"[" * 900 + b"]" * 900, b'{"a": ' * 500 + b"1" + b"}" * 500, b"{", b"[]", b"\xff"]


@pytest.mark.parametrize("data", NO_PLAN, ids=lambda data: f"{len(data)} of {data[:2]!r}")
@pytest.mark.parametrize("direction", ["resume", "rollback"])
def test_a_run_whose_plan_is_none_goes_nowhere(
    prepared: Prepared, tmp_path: Path, direction: str, data: bytes
) -> None:
    node, words = prepared.begin(direction, tmp_path / "node")
    plan = next((node / STATE / "runs").glob("*/plan.json"))
    before = snapshot(node)
    plan.write_bytes(data)

    done = here(*words)

    assert (4, True, False) == (done.code, str(plan) in done.err, done.crashed), done.err
    assert before == snapshot(node)


def test_a_run_whose_facts_are_none_is_taken_back(prepared: Prepared, tmp_path: Path) -> None:
    node, words = prepared.begin("rollback", tmp_path / "node")
    next((node / STATE / "runs").glob("*/facts.json")).write_bytes(b"[" * 100_000)

    assert 0 == here(*words).code
    assert prepared.first == snapshot(node)


def torn(line: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what a crash can leave of the last line: any of its beginnings, NULs in the place of its end, or a flipped bit."""
    for length in range(len(line)):
        yield f"{length} bytes", line[:length]
    yield "NULs", line[:20] + b"\0" * 100
    yield "only NULs", b"\0" * 4096
    yield "a flipped bit", flipped([line], 0)[0]


def test_whatever_is_left_of_the_last_line_costs_that_line_only(prepared: Prepared, tmp_path: Path) -> None:
    """The run was committed and its last record says so; without it `resume` commits again."""
    node = copy(prepared.committed, tmp_path / "node")
    journal = next((node / STATE / "runs").glob("*/journal.jsonl"))
    *before, line = journal.read_bytes().splitlines(keepends=True)
    wrong = []
    for name, rest in torn(line):
        journal.write_bytes(b"".join(before) + rest)
        told = standing(node)
        done = here("resume", "--root", node)
        after = journal.read_bytes().splitlines(keepends=True)
        if (told, done.code, standing(node), after[:-1]) != ("applying", 0, "committed", before):
            wrong.append(f"{name}: {told}, {done}")
    back = here("rollback", "--root", node, "--yes")

    assert not wrong, "\n".join(wrong)
    assert (0, prepared.first) == (back.code, snapshot(node))


def emptied(blob: Path) -> None:
    blob.write_bytes(b"")


def cut(blob: Path) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def changed(blob: Path) -> None:
    blob.write_bytes(blob.read_bytes() + b"# more\n")


MISSING: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "cannot read the saved file"),
    (emptied, "is damaged: its sha256 is not its name"),
    (cut, "is damaged: its sha256 is not its name"),
    (changed, "is damaged: its sha256 is not its name"),
]


@pytest.mark.parametrize(("harm", "message"), MISSING, ids=["gone", "empty", "cut", "changed"])
def test_a_saved_file_that_is_gone_stops_its_own_step_and_no_other(
    prepared: Prepared, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    """Each saved original in turn: the others are put back, the message names it, and once it is back so is everything."""
    changed_files = sorted(name for name in prepared.first if prepared.first[name] != prepared.last[name])
    assert len(changed_files) > 1
    for name in changed_files:
        node = copy(prepared.committed, tmp_path / "node")
        blob = next((node / STATE / "runs").glob(f"*/blobs/{prepared.first[name][3]}"))
        saved = blob.read_bytes()
        harm(blob)

        done = here("rollback", "--root", node, "--yes")

        assert (6, "dirty") == (done.code, standing(node)), done.err
        assert f"write-file:/{name}: " in done.err
        assert message in done.err
        assert str(blob) in done.err
        assert {name} == {each for each in changed_files if snapshot(node)[each] != prepared.first[each]}
        assert (6, "dirty") == (here("resume", "--root", node).code, standing(node))
        assert 4 == here("apply", "--root", node, prepared.plan, "--yes").code

        blob.write_bytes(saved)
        blob.chmod(0o600)
        again = here("rollback", "--root", node, "--yes")
        assert (0, "rolled-back") == (again.code, standing(node)), again.err
        assert prepared.first == snapshot(node)
        shutil.rmtree(node)


def linked(blob: Path) -> None:
    blob.rename(blob.with_name("elsewhere"))
    blob.symlink_to("elsewhere")


def made_a_directory(blob: Path) -> None:
    blob.unlink()
    blob.mkdir()


@pytest.mark.parametrize("harm", [linked, made_a_directory])
def test_something_else_in_the_place_of_a_saved_file_is_refused_before_anything_is_changed(
    prepared: Prepared, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    node = copy(prepared.committed, tmp_path / "node")
    blob = next((node / STATE / "runs").glob("*/blobs/*"))
    harm(blob)

    done = here("rollback", "--root", node, "--yes")

    assert (4, True) == (done.code, str(blob) in done.err), done.err
    assert prepared.last == snapshot(node)


def test_half_of_a_forgotten_run_is_none(prepared: Prepared, tmp_path: Path) -> None:
    """`forget` is killed at every fsync and unlink; the run is there, or it is not, and the next one tidies up."""
    from tests.process.command import effects, kill, process  # noqa: PLC0415 - of this test only

    log, wrong = tmp_path / "log", []
    node = copy(prepared.committed, tmp_path / "node")
    name = reports(node)[0].run
    assert 0 == process("forget", name, "--root", node, "--yes", log=log, trace=FORGETTING).code
    for effect in effects(log, node):
        again = copy(prepared.committed, tmp_path / "again")
        done = kill(effect, "forget", name, "--root", again, "--yes")
        told = standing(again)
        if (done.code, told in ("committed", "none")) != (-9, True):
            wrong.append(f"{effect}: {done}, then {told}")
        taken = here("rollback", "--root", again, "--yes")
        files = prepared.first if told == "committed" else prepared.last
        if (taken.code, snapshot(again)) != (0 if told == "committed" else 2, files):
            wrong.append(f"{effect}: {taken}")
        shutil.rmtree(again)

    assert not wrong, "\n".join(wrong)
    assert "none" == standing(node)


FORGETTING = "rename,fsync,rmdir"


@pytest.mark.parametrize("kept", [None, 0, 1])
def test_a_journal_that_lost_its_records_is_no_run_in_which_nothing_was_done(
    prepared: Prepared, tmp_path: Path, kept: int | None
) -> None:
    node = copy(prepared.committed, tmp_path / "node")
    journal = next((node / STATE / "runs").glob("*/journal.jsonl"))
    if kept is None:
        journal.unlink()
    else:
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:kept]))

    for words in (("resume", "--root", node), ("rollback", "--root", node, "--yes")):
        done = here(*words)
        assert (4, True) == (done.code, "is not whole" in done.err), done
        # What is suggested to be done by hand is to be done to the image.
        by_hand = re.search(r"`((?:cp|rm) [^`]+)`", done.err)
        assert by_hand, done
        assert [] == [path for path in shlex.split(by_hand[1])[1:] if not path.startswith(f"{node}/")]
        assert prepared.last == snapshot(node)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"version":1,"steps":[]}', '{"steps":[{}]}', "{"])
def test_a_plan_of_a_run_that_is_another_one_is_refused(
    prepared: Prepared, tmp_path: Path, text: str
) -> None:
    node = copy(prepared.committed, tmp_path / "node")
    plan = next((node / STATE / "runs").glob("*/plan.json"))
    plan.write_text(text)

    done = here("rollback", "--root", node, "--yes")

    assert (4, True) == (done.code, "plan.json" in done.err), done
    assert prepared.last == snapshot(node)
