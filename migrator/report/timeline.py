# SPDX-License-Identifier: Apache-2.0
"""From a journal's records to a timeline and its outages. Pure; the times are the journal's, to the second."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from migrator.records import Kind, Record
from migrator.report.model import Entry, Json, Outage

_EVENTS = {
    Kind.BEGIN: "the run began",
    Kind.COMMITTED: "the run was finished",
    Kind.ROLLING_BACK: "the way back began",
    Kind.ROLLED_BACK: "the way back came to its end",
    Kind.DIRTY: "the way back is incomplete",
    Kind.FAILED: "the run failed",
    Kind.INTERRUPTED: "the run stopped",
}
_ENDS = {
    Kind.APPLIED: "done",
    Kind.REVERTED: "done",
    Kind.REVERT_FAILED: "failed",
    Kind.FAILED: "failed",
    Kind.INTERRUPTED: "interrupted",
}
_BACK_AGAIN = "taken back"
_BACK = frozenset({Kind.REVERTING, Kind.REVERTED, Kind.REVERT_FAILED})


def timeline(records: Sequence[Record], steps: Mapping[str, Json], log: Iterable[Json]) -> tuple[Entry, ...]:
    """Return what happened, in order; `steps` are the plan's by id, `log` the lines of the run's log."""
    line = _Line(steps)
    for record in records:
        line.take(record)
    line.close("unfinished")
    return _with_said(line.entries, log)


@dataclass(slots=True)
class _Line:
    steps: Mapping[str, Json]
    entries: list[Entry] = field(default_factory=list)
    boot: str = ""
    opened: int | None = None
    """Place of the step that has not ended."""

    def take(self, record: Record) -> None:
        if self.boot and record.boot != self.boot:
            self.close("unfinished")
            self.entries.append(Entry(time=record.time, what="the node was booted again", direction=""))
        self.boot = record.boot
        error = str(record.data.get("error", "") or record.data.get("reason", ""))
        back = record.kind in _BACK
        if not back and _is_back(self.steps, record.step):
            return  # on the way forward it does nothing
        if record.kind in (Kind.APPLYING, Kind.REVERTING):
            self.close("unfinished")
            self._open(record, back=back)
            return
        if record.kind in _ENDS:
            if self.opened is None and record.step:
                self._open(record, back=back)
            is_whole = record.kind in (Kind.FAILED, Kind.INTERRUPTED)
            self.close("failed" if error and not is_whole else _ENDS[record.kind], record.time, error)
        if record.kind is Kind.LEFT:
            if self.opened is not None and self.entries[self.opened].what == _BACK_AGAIN:
                self.entries[self.opened] = replace(self.entries[self.opened], what=f"{_BACK_AGAIN} in part")
            command = str(record.data.get("command", ""))
            self.entries.append(
                Entry(time=record.time, what=f"left to the operator: {command}", direction="")
            )
        if record.kind in _EVENTS:
            known = error in {each.error for each in self.entries}
            what = _EVENTS[record.kind]
            self.entries.append(
                Entry(time=record.time, what=what, error="" if known else error, direction="")
            )

    def close(self, outcome: str, time: str = "", error: str = "") -> None:
        """End the step in hand, if there is one; commands that it left may stand behind it."""
        if self.opened is not None:
            entry = self.entries[self.opened]
            seconds = between(entry.time, time) if time else None
            self.entries[self.opened] = replace(entry, outcome=outcome, seconds=seconds, error=error)
        self.opened = None

    def _open(self, record: Record, *, back: bool) -> None:
        why = str(self.steps.get(record.step, {}).get("why", ""))
        if back and not _is_back(self.steps, record.step):
            why = _BACK_AGAIN
        self.opened = len(self.entries)
        self.entries.append(
            Entry(
                time=record.time,
                step=record.step,
                direction="back" if back else "forward",
                what=why.removeprefix("on the way back: "),
            )
        )


def _is_back(steps: Mapping[str, Json], step: str) -> bool:
    return bool(steps.get(step, {}).get("params", {}).get("direction") == "back")


def _with_said(entries: Sequence[Entry], log: Iterable[Json]) -> tuple[Entry, ...]:
    """Give the last entry of each step what the log has of it; the log may have lost lines, and decides nothing."""
    said: dict[tuple[str, str], dict[str, None]] = {}
    now = ("", "")
    for each in log:
        if each.get("verb") in ("apply", "revert"):
            now = (str(each.get("step", "")), "back" if each["verb"] == "revert" else "forward")
        elif "verb" in each:
            now = ("", "")
        elif isinstance(each.get("say"), str) and now[0]:
            said.setdefault(now, {})[each["say"]] = None
    found = list(entries)
    last = {(each.step, each.direction): number for number, each in enumerate(found)}
    for key in said.keys() & last.keys():
        found[last[key]] = replace(found[last[key]], said=tuple(said[key]))
    return tuple(found)


def outages(records: Sequence[Record], steps: Mapping[str, Json]) -> tuple[Outage, ...]:
    """Return when the kubelet was down: from before its stop until it was waited for with success.

    On the way back its stop is the revert of its start. A boot while the guard is in force takes it down too, at a time
    that no record tells.
    """
    guards, releases = (
        {name for name, step in steps.items() if step["kind"] == kind} for kind in ("guard", "release-guard")
    )
    waits = {name for name, step in steps.items() if step["kind"] == "wait-healthy"}
    kubelets = {steps[name]["params"]["unit"] for name in waits}
    stops, starts = (
        {
            name
            for name, step in steps.items()
            if step["kind"] == kind and kubelets & {*step["params"]["units"]}
        }
        for kind in ("stop-unit", "start-unit")
    )
    found: list[Outage] = []
    boot, way, guarded = "", "forward", False
    for record in records:
        is_open = bool(found) and not found[-1].ended
        if guarded and record.boot != boot and not is_open:
            found.append(Outage(direction=way, began=""))
            is_open = True
        boot = record.boot
        falls = (record.kind is Kind.APPLYING and record.step in stops) or (
            record.kind is Kind.REVERTING and record.step in starts
        )
        back = record.kind in _BACK
        way = "back" if back or record.kind is Kind.ROLLING_BACK else way
        if (record.kind is Kind.APPLYING and record.step in guards) or (
            record.kind is Kind.REVERTING and record.step in releases
        ):
            guarded = True
        if (record.kind is Kind.APPLIED and record.step in releases) or (
            record.kind is Kind.REVERTED and record.step in guards
        ):
            guarded = False
        if falls and not is_open:
            found.append(Outage(direction="back" if back else "forward", began=record.time))
        rises = record.kind in (Kind.APPLIED, Kind.REVERTED) and record.step in waits
        if rises and is_open and back == _is_back(steps, record.step) and not record.data.get("error"):
            began = found[-1].began
            found[-1] = replace(found[-1], ended=record.time, seconds=between(began, record.time))
    return tuple(found)


def between(began: str, ended: str) -> int | None:
    """Return the seconds between two times of the journal; None where one is none, or the clock went back."""
    try:
        seconds = (dt.datetime.fromisoformat(ended) - dt.datetime.fromisoformat(began)).total_seconds()
    except (ValueError, TypeError):
        return None
    return int(seconds) if seconds >= 0 else None
