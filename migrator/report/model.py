# SPDX-License-Identifier: Apache-2.0
"""The shape of a report: all that a change ticket wants to know of a run; `report-1.schema.json` describes each property."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrator.trees import Branch

REPORT_VERSION = 1

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the timeline: a step, or an event of the whole run (`step` is empty)."""

    time: str
    """UTC, to the second; a clock that was set in between shows here."""
    step: str = ""
    direction: str = "forward"
    what: str
    """Why the step is there, or what happened."""
    outcome: str = ""
    """`done`, `failed`, `interrupted`, `unfinished`; empty for an event."""
    seconds: int | None = None
    """None where it did not end, or the clock went back."""
    error: str = ""
    said: tuple[str, ...] = ()
    """What the step told while it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which the kubelet was stopped, until it was healthy again and the static pods ran."""

    direction: str
    began: str
    """Empty: not known, because the node was booted in the middle of the run."""
    ended: str = ""
    """Empty: nothing in the journal says that it ended."""
    seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file or ConfigMap that the plan changes, and where it stands."""

    name: str
    why: str
    diff: str
    state: str
    """`not written`, `being written`, `written`, `restored`, `not restored`, `unknown`."""
    restart: tuple[str, ...] = ()
    """Units that have read it and that no step restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """A command, and what it does."""

    command: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A step that could not be taken back."""

    step: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The machine as it was when the run began; empty where it is not known."""

    name: str = ""
    machine_id: str = ""
    os: str = ""
    kernel: str = ""
    cgroups: str = ""
    systemd: str = ""
    kubelet: str = ""
    runtime: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run as a page tells it."""

    format: str = "cgmigrate-report"
    version: int = REPORT_VERSION
    tool: str
    made: str
    run: str
    status: str
    """As `cgmigrate status` says it; `damaged` where the journal is."""
    settled: bool
    summary: str
    reason: str
    """Why it failed or went back; empty where it did not."""
    started: str
    ended: str
    """When its last record was written."""
    boots: int
    image: bool
    """Only the files of an image were changed."""
    scope: str
    from_driver: str
    to_driver: str
    node: Node
    verdict: str
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    """What could not be read, so that the report does not tell it."""
    failed: tuple[Failure, ...]
    """What the way back could not do, so far; also that the node was not healthy after it."""
    left: tuple[str, ...]
    """Commands left to the operator."""
    next: tuple[Todo, ...]
    timeline: tuple[Entry, ...]
    outages: tuple[Outage, ...] | None
    """None: what would tell is missing or damaged."""
    changes: tuple[Change, ...]
    tree_before: tuple[Branch, ...]
    tree_after: tuple[Branch, ...]
    """As verification saw it on the way forward; empty where the run did not come to it."""
    moves: tuple[Json, ...]
    translations: tuple[Json, ...]
    verification: Json | None
    unverified: str
    """Why there is no verification here; empty where there is one."""
    findings: tuple[Json, ...]
    cannot_be_undone: tuple[str, ...]

    @property
    def title(self) -> str:
        """What was switched, from what to what."""
        what = "ConfigMap of the kubelets" if self.scope == "cluster" else self.node.name or "Unknown node"
        return f"{what}: {self.from_driver or 'unknown'} → {self.to_driver or 'unknown'}"

    @property
    def proof(self) -> tuple[str, str]:
        """The colour and the word of the verification: a proof is one of now only for a run that is finished."""
        if not (self.verification or {}).get("ok"):
            return "bad", "NOT PROVEN"
        return ("good", "proven") if self.status == "committed" else ("note", "was proven")

    @property
    def since(self) -> str:
        """What there is to say of what verification saw, beyond its time; may be empty."""
        rows = (self.verification or {}).get("checks", ())
        said = []
        if not all(row["ok"] for row in rows):
            said.append("A place of which a comparison does not hold is not in the tree.")
        match self.status:
            case "committed":
                pass
            case "rolled-back" | "rolling-back" | "dirty":
                said.append("The way back began afterwards: this is no longer what is there.")
            case "damaged":
                said.append("The journal is damaged: what followed is not known.")
            case _:
                said.append("The run is not at its end.")
        return " ".join(said)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return dataclasses.asdict(self)
