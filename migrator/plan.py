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
from itertools import islice
from typing import Any

from migrator import __version__
from migrator.audit import Audit
from migrator.cgroups import Driver
from migrator.changes import Change, file_changes
from migrator.configs.text import is_deeper
from migrator.drain import Move
from migrator.errors import BlockedError, ConflictError, UsageError
from migrator.facts.model import Facts
from migrator.findings import Severity
from migrator.plan_cluster import ConfigMapChange, config_map_change, gate, irreversible
from migrator.plan_options import PlanOptions
from migrator.plan_steps import PlannedStep, cluster_steps, file_steps, node_steps
from migrator.reference_changes import reference_changes
from migrator.steps.registry import KINDS
from migrator.terminal import ascii_json

PLAN_VERSION = 1
_MAX_FAULTS = 100  # of a document; one is told


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


def make_plan(
    audit: Audit,
    digest: str,
    read: Callable[[str], bytes | None],
    options: PlanOptions | None = None,
    config_map: bytes | None = None,
) -> Plan:
    """Plan the switch of an audited node to systemd; a node that needs none gets a plan without steps.

    `digest` is the facts' own; `read` gives a file's bytes, or None when it is absent; `config_map` is the text of the
    kubelet's ConfigMap, where the options want it changed.

    Raises:
        BlockedError: the audit found blockers, or the node cannot be drained as the options say.
        ConflictError: a file changed between audit and plan.
    """
    options = options or PlanOptions()
    blockers = [finding for finding in audit.findings if finding.severity is Severity.BLOCKER]
    if blockers:
        raise BlockedError(
            "no plan can be made: " + "; ".join(f"{each.subject}: {each.summary}" for each in blockers),
            hint=blockers[0].remediation,
        )
    facts = audit.facts
    steps: tuple[PlannedStep, ...] = ()
    changes: tuple[Change, ...] = ()
    moves: tuple[Move, ...] = ()
    settings: ConfigMapChange | None = None
    if audit.recommendation.verdict in ("migrate", "optional", "stay"):
        moves = gate(facts, options)
        changes = file_changes(facts, read)
        if options.references:
            changes += reference_changes(facts, read)
        settings = config_map_change(facts, options, config_map)
        steps = tuple(node_steps(facts, audit, changes, options=options, moves=moves, settings=settings))
    elif audit.recommendation.verdict == "already-migrated" and options.references:
        changes = reference_changes(facts, read)
        steps = tuple(file_steps(changes))
    document = {
        "format": "cgmigrate-plan",
        "version": PLAN_VERSION,
        "scope": "node",
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
        "options": options.to_json(),
        "moves": [_plain(move) for move in moves],
        "translations": [_plain(row) for row in audit.translations],
        "steps": [_plain(step) for step in steps],
        "deferred": [] if facts.node.live else [step.id for step in steps if not KINDS[step.kind].offline],
        "cannot_be_undone": list(_irreversible(facts, steps, moves)),
    }
    texts: list[Change | ConfigMapChange] = [*changes, *([settings] if settings else [])]
    contents = tuple(data for each in texts for data in (each.before, each.after) if data is not None)
    return Plan(document=document, steps=steps, contents=contents)


def make_cluster_plan(facts: Facts, digest: str, options: PlanOptions, config_map: bytes | None) -> Plan:
    """Plan the change of the kubelet's ConfigMap alone; a cluster that needs none gets a plan without steps.

    Raises:
        BlockedError: it cannot be reached, is not there, may not be changed, or cannot be edited safely.
        ConflictError: it changed since the facts were gathered.
    """
    change = config_map_change(facts, options, config_map)
    steps = tuple(cluster_steps(change, facts.cluster, options)) if facts.cluster else ()
    found = facts.cluster.config_map if facts.cluster else None
    document = {
        "format": "cgmigrate-plan",
        "version": PLAN_VERSION,
        "scope": "cluster",
        "tool": __version__,
        "node": facts.node.hostname,
        "machine_id": facts.node.machine_id,
        "facts_digest": digest,
        "from": (found.driver if found else "") or None,
        "to": Driver.SYSTEMD.value,
        "recommendation": {"verdict": "migrate" if steps else "already-migrated", "reasons": []},
        "findings": [],
        "options": options.to_json(),
        "moves": [],
        "translations": [],
        "steps": [_plain(step) for step in steps],
        "deferred": [],
        "cannot_be_undone": [],
    }
    return Plan(
        document=document, steps=steps, contents=(change.before, change.after) if change is not None else ()
    )


def _irreversible(facts: Facts, steps: Sequence[PlannedStep], moves: Sequence[Move]) -> Iterator[str]:
    if all(step.kind != "stop-unit" for step in steps):
        return  # no pod is touched
    yield "Every pod container is removed and made anew, on the way forward and back: its writable layer and its log are lost."
    if moves:
        yield from irreversible(moves)
    elif any(not pod.static for pod in facts.pods):
        yield "Pods that are not static come back only if the API server still wants them on this node."


def _plain(value: Any) -> dict[str, Any]:
    import dataclasses  # noqa: PLC0415 - late

    return {
        key: str(item) if isinstance(item, Severity) else item
        for key, item in dataclasses.asdict(value).items()
    }


def render(document: Mapping[str, Any]) -> bytes:
    """Return a plan's one spelling as bytes."""
    return ascii_json(document).encode() + b"\n"


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
        if is_deeper(document):
            raise RecursionError
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
            f"{name}: plan version {document.get('version')!r:.40}; this cgmigrate reads {PLAN_VERSION}"
        )
    validator = Draft202012Validator(load_schema("plan-1"))
    faults = islice(validator.iter_errors(document), _MAX_FAULTS)
    for fault in sorted(faults, key=lambda fault: list(map(str, fault.absolute_path))):
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
