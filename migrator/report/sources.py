# SPDX-License-Identifier: Apache-2.0
"""What a run's directory holds, and what it does not: plan, facts, journal and log, each held against the others.

Nothing of a saved file is read; what is read is masked already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.checks.base import plural
from migrator.errors import CgmigrateError, HostError
from migrator.facts.model import Facts
from migrator.facts.store import load
from migrator.journal import Run
from migrator.plan import parse_plan, plan_digest
from migrator.records import Kind, Record, decode_whole
from migrator.report.model import Json

LOG_LIMIT = 16 << 20
"""Bytes; the log of a large node's run is a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a run's directory tells; None, or empty, where it does not, and `missing` says why."""

    run: str
    records: Sequence[Record]
    damaged: bool
    plan: Json | None
    facts: Facts | None
    log: Sequence[Json]
    missing: Sequence[str]
    worker: str = ""
    """Process id of the cgmigrate that is at work on this node, or nothing."""
    newer: str = ""
    """Name of a later run that is not taken back: it stands on this one."""
    has_traceback: bool = False


def read(run: Run, worker: str = "", newer: str = "") -> Sources:
    """Read all that a run's directory holds; what cannot be read is told, and never an error."""
    missing: list[str] = []
    records, damaged = _records(run, missing)
    log = list(_log(run, missing))
    begun = sum(record.kind in (Kind.APPLYING, Kind.REVERTING) for record in records)
    known = sum(entry.get("verb") in ("apply", "revert") for entry in log)
    if known and not records:
        missing.append("journal.jsonl: it is gone, or empty, although the log tells of steps")
    if known < begun:
        missing.append(
            f"log.jsonl: {begun - known} of the {begun} steps that the journal begins are not in what can be read of it; "
            "messages, and what the witnesses said, may be missing"
        )
    plan = _document(run, "plan.json", parse_plan, missing)
    if plan is not None and plan_digest(plan)[:8] not in run.name.split("-"):
        missing.append("plan.json is not the plan that this run was made of: what it says is left out")
        plan = None
    facts: Facts | None = _document(run, "facts.json", lambda data, _: load(data), missing)
    if facts is not None and plan is None:
        missing.append("facts.json cannot be held against plan.json: what it says is left out")
        facts = None
    elif facts is not None and (facts.node.hostname, facts.node.machine_id) != (
        plan["node"],
        plan["machine_id"],
    ):
        missing.append("facts.json is of another node than plan.json: what it says is left out")
        facts = None
    return Sources(
        run=run.name,
        records=records,
        damaged=damaged,
        plan=plan,
        facts=facts,
        log=log,
        missing=missing,
        worker=worker,
        newer=newer,
        has_traceback=(run.directory / "traceback.txt").exists(),
    )


def _records(run: Run, missing: list[str]) -> tuple[Sequence[Record], bool]:
    try:
        data = run.lines()
    except HostError as error:
        missing.append(error.message)
        return [], True
    records, whole, damaged = decode_whole(data)
    if damaged:
        missing.append(
            f"journal.jsonl: line {damaged} is damaged; what it and the lines after it say is left out"
        )
    elif whole < len(data):
        missing.append("journal.jsonl: the last record is torn, as a crash leaves it, and does not count")
    return records, bool(damaged)


def _document(run: Run, name: str, parsed: Callable[[bytes, str], Any], missing: list[str]) -> Any:
    try:
        return parsed((run.directory / name).read_bytes(), name)
    except OSError as error:
        missing.append(f"{name}: {error.strerror}")
    except CgmigrateError as error:
        missing.append(error.message if name in error.message else f"{name}: {error.message}")
    return None


def _log(run: Run, missing: list[str]) -> Iterator[Json]:
    """Yield the whole lines of the run's log, which a crash may have torn anywhere."""
    try:
        with (run.directory / "log.jsonl").open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - LOG_LIMIT))
            lines = stream.read(LOG_LIMIT).split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        missing.append(f"log.jsonl: {error.strerror}")
        return
    if size > LOG_LIMIT:
        missing.append(f"log.jsonl: only its last {LOG_LIMIT >> 20} MiB are read")
        del lines[0]
    unread = 0
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            yield entry
        elif line:
            unread += 1
    if unread:
        missing.append(
            f"log.jsonl: {plural(unread, 'line')} cannot be read; what the witnesses said may have been there"
        )
