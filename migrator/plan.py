# SPDX-License-Identifier: Apache-2.0
"""Plan: from facts to the steps that switch a node, as a reviewed promise.

Pure but for the files' texts, which come through `read` and whose digests are in the facts: the same facts give the same
plan, byte for byte. The plan is a palindrome. Each half-turn of it is the same procedure: stop, remove what one driver
made, change files, start; so rolling back is reverting each step in reverse order. Steps that act only on the way back
are in the plan too, and say so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migrator import __version__
from migrator.audit import Audit
from migrator.cgroups import CgroupName, Driver
from migrator.changes import Change, file_changes
from migrator.errors import BlockedError, ConflictError, UsageError
from migrator.facts.model import Facts
from migrator.findings import Severity
from migrator.steps.registry import KINDS

PLAN_VERSION = 1
HEALTHY_SECONDS = 300
WINDOW_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step as data: `id` is unique in the plan, `why` is for the operator, `params` for the step."""

    id: str
    kind: str
    why: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan as data; `document` is what is written and validated."""

    document: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    contents: tuple[bytes, ...] = ()
    """Old and new bytes of every file that it writes; never part of the document."""

    @property
    def deferred(self) -> tuple[str, ...]:
        """Ids of the steps that wait for the image's first boot."""
        return tuple(self.document["deferred"])


def make_plan(audit: Audit, digest: str, read: Callable[[str], bytes | None]) -> Plan:
    """Plan the switch of an audited node to systemd; a node that needs none gets a plan without steps.

    `digest` is the facts' own; `read` gives a file's bytes, or None when it is absent.

    Raises:
        BlockedError: the audit found blockers.
        ConflictError: a file changed between audit and plan.
    """
    blockers = [finding for finding in audit.findings if finding.severity is Severity.BLOCKER]
    if blockers:
        raise BlockedError(
            "no plan can be made: " + "; ".join(f"{each.subject}: {each.summary}" for each in blockers),
            hint=blockers[0].remediation,
        )
    facts = audit.facts
    steps: tuple[PlannedStep, ...] = ()
    changes: tuple[Change, ...] = ()
    if audit.recommendation.verdict in ("migrate", "optional", "stay"):
        changes = file_changes(facts, read)
        steps = tuple(_steps(facts, audit, changes))
    document = {
        "format": "cgmigrate-plan",
        "version": PLAN_VERSION,
        "tool": __version__,
        "node": facts.node.hostname,
        "machine_id": facts.node.machine_id,
        "facts_digest": digest,
        "from": facts.kubelet.driver.value,
        "to": Driver.SYSTEMD.value,
        "recommendation": {
            "verdict": str(audit.recommendation.verdict),
            "reasons": list(audit.recommendation.reasons),
        },
        "findings": [_plain(finding) for finding in audit.findings],
        "translations": [_plain(row) for row in audit.translations],
        "steps": [_plain(step) for step in steps],
        "deferred": [] if facts.node.live else [step.id for step in steps if not KINDS[step.kind].offline],
        "cannot_be_undone": list(_irreversible(facts)) if steps else [],
    }
    contents = tuple(data for change in changes for data in (change.before, change.after) if data is not None)
    return Plan(document=document, steps=steps, contents=contents)


def _steps(facts: Facts, audit: Audit, changes: Sequence[Change]) -> Iterator[PlannedStep]:
    kubelet = facts.kubelet.unit.name if facts.kubelet.unit else "kubelet.service"
    services = [
        unit.name
        for unit in facts.runtime.units
        if not (facts.node.live and unit.name.endswith(".socket") and unit.active_state != "active")
    ]
    runtime = {"runtime": facts.runtime.kind, "socket": facts.runtime.socket, "units": services}
    guarded = {"units": [kubelet, *services]}
    reload = any(change.unit_file for change in changes)
    health = {
        "unit": kubelet,
        "healthz": facts.kubelet.healthz,
        "runtime": facts.runtime.kind,
        "socket": facts.runtime.socket,
        "static_pod_path": facts.kubelet.static_pod_path,
        "timeout_seconds": HEALTHY_SECONDS,
    }
    static = {pod.uid for pod in facts.pods if pod.static}
    places = [
        {"namespace": row.namespace, "pod": row.pod, "pod_uid": row.pod_uid, "cgroup": row.to_path}
        for row in audit.translations
        if row.kind == "pod" and row.pod_uid in static
    ]

    def step(kind: str, why: str, params: Mapping[str, Any], name: str = "") -> PlannedStep:
        back = params.get("direction") == "back"
        name = f"{kind}:{name}" if name else kind
        return PlannedStep(id=name + ("(back)" if back else ""), kind=kind, why=why, params=params)

    yield step("guard", "keep kubelet and runtime down if the node reboots in the middle", guarded)
    yield step(
        "wait-healthy",
        "on the way back: the kubelet answers and the pods run again",
        health | {"direction": "back"},
    )
    yield step(
        "stop-unit",
        "nothing may start or judge pods while the driver changes",
        {"units": [kubelet], "needs": services},
        "kubelet",
    )
    yield step(
        "remove-cgroups",
        "on the way back: the slices of the new driver",
        {"trees": trees(facts.kubelet.cgroup_root)[1:], "direction": "back"},
    )
    yield step(
        "remove-sandboxes",
        "sandboxes made under cgroupfs cannot be restarted under systemd (F08)",
        runtime | {"foreign_parent": "systemd"},
    )
    yield step(
        "stop-unit",
        f"{facts.runtime.kind} reads its driver at start only",
        {"units": services},
        facts.runtime.kind,
    )
    if reload:
        yield step(
            "daemon-reload", "on the way back: unit files are the old ones again", {"direction": "back"}
        )
    for change in changes:
        yield step("write-file", change.why, change.params(), change.path)
    if reload:
        yield step("daemon-reload", "unit files changed", {})
    yield step(
        "remove-cgroups",
        "nobody else removes the old tree (F26), and a stale one of the new spelling keeps pods in the old place",
        {"trees": trees(facts.kubelet.cgroup_root)},
    )
    yield step(
        "start-unit", f"{facts.runtime.kind} with the new driver", {"units": services}, facts.runtime.kind
    )
    yield step("assert-driver", "the runtime itself must say systemd", {"driver": Driver.SYSTEMD.value})
    yield step(
        "remove-sandboxes",
        "on the way back: what systemd's driver made",
        runtime | {"direction": "back", "foreign_parent": "systemd"},
    )
    yield step("start-unit", "the kubelet makes its pods anew, in slices", {"units": [kubelet]}, "kubelet")
    yield step("wait-healthy", "the new kubelet answers, and the static pods run again", health)
    yield step(
        "verify",
        "cgroupfs and systemd must agree on every pod's place and limits",
        {"driver": Driver.SYSTEMD.value, "window_seconds": WINDOW_SECONDS, "pods": places},
    )
    yield step("release-guard", "the run is settled", guarded)


def trees(cgroup_root: str) -> list[str]:
    """Return the kubelet's tree in both spellings, below a hierarchy's mount."""
    root = tuple(part for part in cgroup_root.split("/") if part)
    name = CgroupName((*root, "kubepods"))
    return [name.to_cgroupfs(), name.to_systemd()]


def _irreversible(facts: Facts) -> Iterator[str]:
    yield "Every pod container is removed and made anew, on the way forward and back: its writable layer and its log are lost."
    if any(not pod.static for pod in facts.pods):
        yield "Pods that are not static come back only if the API server still wants them on this node."


def _plain(value: Any) -> dict[str, Any]:
    import dataclasses  # noqa: PLC0415 - late

    return {
        key: str(item) if isinstance(item, Severity) else item
        for key, item in dataclasses.asdict(value).items()
    }


def render(document: Mapping[str, Any]) -> bytes:
    """Return a plan's one spelling as bytes."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def plan_digest(document: Mapping[str, Any]) -> str:
    """Return the sha256 of a plan."""
    return hashlib.sha256(render(document)).hexdigest()


def parse_plan(data: bytes, name: str) -> dict[str, Any]:
    """Read an untrusted plan: JSON of the right format and version, valid by the schema.

    Raises:
        UsageError: not JSON (truncated?), another format or version, a property missing or of the wrong type.
        ConflictError: a step that no plan of this version can hold.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - late: 60 ms

    from migrator.schemas import load_schema  # noqa: PLC0415

    try:
        document = json.loads(data)
    except RecursionError:
        raise UsageError(f"{name}: not a plan: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a plan: not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        line = getattr(error, "lineno", 0)
        what = getattr(error, "msg", str(error))
        raise UsageError(
            f"{name}:{line}: not a plan: {what}",
            hint="truncated? make it again: `cgmigrate plan -o FILE`",
        ) from error
    if not isinstance(document, dict) or document.get("format") != "cgmigrate-plan":
        raise UsageError(f"{name}: not a cgmigrate plan", hint="`cgmigrate plan -o FILE` makes one")
    if document.get("version") != PLAN_VERSION:
        raise UsageError(
            f"{name}: plan version {document.get('version')!r}; this cgmigrate reads {PLAN_VERSION}"
        )
    validator = Draft202012Validator(load_schema("plan-1"))
    for fault in sorted(
        validator.iter_errors(document), key=lambda fault: list(map(str, fault.absolute_path))
    ):
        where = ".".join(map(str, fault.absolute_path)) or "the document"
        message = f"{name}: at {where}: {fault.message[:200]}"
        if fault.absolute_path and fault.absolute_path[0] == "steps":
            raise ConflictError(message, hint="no plan of this node holds such a step; make the plan again")
        raise UsageError(message)
    return document


def planned_steps(document: Mapping[str, Any]) -> tuple[PlannedStep, ...]:
    """Return the steps of a validated document."""
    return tuple(
        PlannedStep(id=step["id"], kind=step["kind"], why=step["why"], params=step["params"])
        for step in document["steps"]
    )


def drift(reviewed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how the plan that was reviewed differs from the plan of this moment, line by line; empty when it holds."""
    import difflib  # noqa: PLC0415 - late

    found = []
    if reviewed["machine_id"] != now["machine_id"]:
        found.append(
            f"the plan is of node {reviewed['node']} (machine id {reviewed['machine_id']}), "
            f"this is {now['node']} ({now['machine_id']})"
        )
    if reviewed["steps"] != now["steps"]:
        old, new = (
            json.dumps(each["steps"], indent=2, sort_keys=True).splitlines() for each in (reviewed, now)
        )
        found.extend(difflib.unified_diff(old, new, "reviewed plan", "plan of this moment", lineterm="", n=2))
    return found
