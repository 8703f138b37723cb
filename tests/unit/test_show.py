# SPDX-License-Identifier: Apache-2.0
"""What `status` shows: a table of runs where one can be drawn, lines elsewhere, and no run's name in pieces."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.records import RunState, Status
from migrator.show import status_view
from tests.unit.terminals import SGR, Terminal

HERE = Path(__file__).parents[2]
ONE, TWO, OPEN, DAMAGED = (f"20261123T1258{number:02}Z-c7c290f6" for number in range(4))
RUNS: list[tuple[str, RunState | None]] = [
    (ONE, RunState(status=Status.ROLLED_BACK, ended="2026-11-23T12:58:11Z", reason="asked by the operator")),
    (TWO, RunState(status=Status.COMMITTED, ended="2026-11-23T12:58:15Z")),
    (
        OPEN,
        RunState(
            status=Status.DIRTY,
            ended="2026-11-23T12:59:15Z",
            failed={"drain": "budget\x1b[2J web"},
            leaving=[("drain", "kubectl uncordon web")],
        ),
    ),
    (DAMAGED, None),
]
BELOW = [
    f"{OPEN}  dirty",
    "    drain: budget\\x1b[2J web",
    "    was left to do by hand: kubectl uncordon web",
    f"{DAMAGED}  damaged journal; the saved files are in /var/lib/cgmigrate/runs/{DAMAGED}/blobs",
    "open: `cgmigrate resume` goes on, `cgmigrate rollback` goes back",
]
LINES = [f"{ONE}  rolled-back  (asked by the operator)", f"{TWO}  committed", *BELOW]


def shown(
    stream: io.StringIO, found: list[tuple[str, RunState | None]] = RUNS, worker: str = ""
) -> list[str]:
    with contextlib.redirect_stdout(stream):
        status_view(found, worker)
    return [line.rstrip() for line in SGR.sub("", stream.getvalue()).splitlines()]


@pytest.mark.parametrize("columns", [61, 80, 200])
def test_a_terminal_gets_a_table_of_runs_and_below_it_what_is_to_be_said_of_one(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(Terminal())

    assert lines[:5] == [
        "run                        status       last record",
        f"{ONE}  rolled-back  2026-11-23T12:58:11Z",
        f"{TWO}  committed    2026-11-23T12:58:15Z",
        f"{OPEN}  dirty        2026-11-23T12:59:15Z",
        f"{DAMAGED}  damaged",
    ]
    said = " ".join(" ".join(lines[5:]).split())
    assert said == " ".join(" ".join([LINES[0], *BELOW]).split())


@pytest.mark.parametrize("columns", [30, 40, 60, 61, 80])
def test_a_runs_name_is_never_in_pieces_and_no_line_is_too_wide_but_for_a_path(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(Terminal())

    assert all(any(name in line.split() for line in lines) for name, _ in RUNS)
    assert [] == [line for line in lines if len(line) > columns and "/blobs" not in line]
    assert (lines[0].split()[0] == "run") is (columns > 60)


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("CGMIGRATE_PLAIN", "1"), ("FORCE_COLOR", "1")])
def test_where_nothing_may_be_drawn_there_are_lines(
    setting: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(*setting)

    assert LINES == shown(io.StringIO() if setting[0] == "FORCE_COLOR" else Terminal())


def test_a_run_at_work_and_none_at_all_are_told_the_same_everywhere() -> None:
    for stream in (io.StringIO, Terminal):
        assert ["no runs on this node"] == shown(stream(), [])
        assert "in progress: process 7" == shown(stream(), worker="7")[-1]


def test_what_is_piped_does_not_load_what_draws() -> None:
    script = f"import sys; from migrator.show import status_view; status_view([({ONE!r}, None)], ''); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=HERE)
    loaded = set(done.stdout.decode().split())

    assert "migrator.console" in loaded
    assert set() == loaded & {"rich", "questionary", "prompt_toolkit"}
