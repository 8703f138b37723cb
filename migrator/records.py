# SPDX-License-Identifier: Apache-2.0
"""The records of a run's journal, and the state that they tell. Pure.

planned ──► applying ──► committed ──► rolling-back ──► rolled-back
│                          ▲    │
└──────────────────────────┘    └─────► dirty
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from migrator.errors import ConflictError

JOURNAL_VERSION = 1


class Kind(StrEnum):
    """What a record says."""

    BEGIN = "begin"
    CAPTURED = "captured"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling-back"
    REVERTING = "reverting"
    REVERTED = "reverted"
    REVERT_FAILED = "revert-failed"
    ROLLED_BACK = "rolled-back"
    DIRTY = "dirty"
    LEFT = "left"


class Status(StrEnum):
    """Where a run stands."""

    PLANNED = "planned"
    APPLYING = "applying"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    DIRTY = "dirty"

    @property
    def settled(self) -> bool:
        """Tell whether nothing is left half-way."""
        return self in (Status.COMMITTED, Status.ROLLED_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the journal; `number` counts from 1, `time` is UTC, `boot` the boot id it was written in."""

    number: int
    time: str
    boot: str
    kind: Kind
    step: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class RunState:
    """The fold of a journal: which steps have an undo, are applied, are reverted, and how often each was tried."""

    status: Status = Status.PLANNED
    boot: str = ""
    undo: dict[str, Any] = field(default_factory=dict)
    applied: dict[str, str] = field(default_factory=dict)
    """Step → boot id in which it was applied: what lives only until a reboot must be done again after one."""
    begun: set[str] = field(default_factory=set)
    reverted: dict[str, str] = field(default_factory=dict)
    """Step → boot id in which it was reverted."""
    reverting: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    """Reverted after another revert had failed: done again in the next go, because they may rest on what was missing."""
    failed: dict[str, str] = field(default_factory=dict)
    unwell: dict[str, str] = field(default_factory=dict)
    """Reverted step → how the node, with all taken back, was not as healthy as before."""
    leaving: list[tuple[str, str]] = field(default_factory=list)
    """(step, command that it left to the operator), in order."""
    offline: bool = False
    """Begun on an image: only its files were changed."""
    attempts: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    """Why the run is rolling back, or what failed."""
    started: str = ""
    ended: str = ""

    @property
    def left(self) -> list[str]:
        """Commands that are left to the operator, in order, each once."""
        return list(dict.fromkeys(command for _, command in self.leaving))


def fold(records: Sequence[Record]) -> RunState:  # noqa: C901, PLR0912, PLR0915 - one case per kind of record
    """Return the state that a journal's records tell; pure."""
    state = RunState()
    current = ""
    for record in records:
        state.boot, state.ended = record.boot, record.time
        match record.kind:
            case Kind.BEGIN:
                state.status, state.started = Status.APPLYING, record.time
                state.offline = record.boot == "image"
            case Kind.CAPTURED:
                # The first capture counts: a later one would see our own change as the original.
                state.undo.setdefault(record.step, record.data.get("undo"))
            case Kind.APPLYING:
                state.begun.add(record.step)
                current = record.step
                state.attempts[record.step] = state.attempts.get(record.step, 0) + 1
            case Kind.APPLIED:
                state.applied[record.step] = record.boot
                state.attempts.pop(record.step, None)
            case Kind.FAILED:
                state.reason = str(record.data.get("error", ""))
            case Kind.COMMITTED:
                state.status = Status.COMMITTED
            case Kind.ROLLING_BACK:
                again = state.status in (Status.ROLLING_BACK, Status.DIRTY)
                state.status = Status.ROLLING_BACK
                state.reason = str(record.data.get("reason", "")) or state.reason
                for step in state.loose:
                    state.reverted.pop(step, None)
                # What a step left stays, unless the step is done again, or it was about the other direction.
                kept = [each for each in state.leaving if again and each[0] in state.reverted]
                state.leaving[:] = kept
                state.loose.clear()
                state.failed.clear()
            case Kind.REVERTING:
                # The record that began the way back may be the one that the disk refused.
                state.status = Status.ROLLING_BACK
                state.reverting.add(record.step)
                current = record.step
            case Kind.REVERTED:
                state.status = Status.ROLLING_BACK
                state.reverted[record.step] = record.boot
                state.unwell.pop(record.step, None)
                if record.data.get("error"):
                    state.unwell[record.step] = str(record.data["error"])
                if state.failed:
                    state.loose.add(record.step)
            case Kind.REVERT_FAILED:
                state.status = Status.ROLLING_BACK
                state.failed[record.step] = str(record.data.get("error", ""))
            case Kind.ROLLED_BACK:
                state.status = Status.ROLLED_BACK
            case Kind.DIRTY:
                state.status = Status.DIRTY
            case Kind.LEFT:
                state.leaving.append((current, str(record.data.get("command", ""))))
            case Kind.INTERRUPTED:
                state.reason = str(record.data.get("error", "")) or state.reason
    return state


def encode(record: Record) -> bytes:
    """Return a record as its line, checksum included."""
    body: dict[str, Any] = {
        "v": JOURNAL_VERSION,
        "n": record.number,
        "time": record.time,
        "boot": record.boot,
        "kind": record.kind.value,
        "step": record.step,
        "data": record.data,
    }
    return json.dumps(body | {"sum": _checksum(body)}, sort_keys=True).encode() + b"\n"


def decode(data: bytes, name: str) -> tuple[list[Record], int]:
    """Return the records of a journal's bytes, and how many bytes of it are whole: a torn last line does not count.

    Raises:
        ConflictError: a line before the last is damaged, or the numbers have a gap.
    """
    records, whole, damaged = decode_whole(data)
    if damaged:
        raise ConflictError(
            f"{name}:{damaged}: damaged record; the run's undo data cannot be trusted",
            hint=f"the saved files are in {Path(name).parent}/blobs; restore them by hand, nothing was changed now; "
            f"a run that is over, and keeps others from going on: `cgmigrate forget {Path(name).parent.name}`",
        )
    return records, whole


def decode_whole(data: bytes) -> tuple[list[Record], int, int]:
    """Return the records before the first damage, how many bytes they are, and the number of the damaged line, or 0."""
    records: list[Record] = []
    whole = 0
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]  # what stands behind the last newline is torn, or nothing
    if not lines[-1]:
        lines.pop()
    for index, line in enumerate(lines, start=1):
        record = _decode_line(line)
        if record is None or record.number != index:
            # NULs may have taken the first of two records, and the newline between them.
            whole_behind = _decode_line(line.rpartition(b"\0")[2])
            if index == len(lines) and record is None and whole_behind is None:
                break
            return records, whole, index
        records.append(record)
        whole += len(line)
    return records, whole, 0


def _decode_line(line: bytes) -> Record | None:
    try:
        body = json.loads(line)
        checksum = body.pop("sum")
        if not line.endswith(b"\n") or checksum != _checksum(body) or body["v"] != JOURNAL_VERSION:
            return None
        record = Record(
            number=body["n"],
            time=body["time"],
            boot=body["boot"],
            kind=Kind(body["kind"]),
            step=body["step"],
            data=body["data"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = (record.time, record.boot, record.step)
    is_ours = type(record.number) is int and all(isinstance(each, str) for each in texts)
    return record if is_ours and isinstance(record.data, dict) else None


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
