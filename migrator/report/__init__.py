# SPDX-License-Identifier: Apache-2.0
"""A run as one page: what was done, why, when, with what outage, and what both witnesses said of it.

Pure; `sources.read` gathers what the run's directory holds. A run that is open, torn or damaged has a report too: it says
what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from migrator import __version__
from migrator.cgroups import Kind as Level
from migrator.cgroups import parse
from migrator.plan_table import Translation
from migrator.records import Kind, RunState, Status, fold
from migrator.report.model import Change, Failure, Json, Node, Report, Todo
from migrator.report.sources import Sources
from migrator.report.timeline import between, outages, timeline
from migrator.statedir import STATE
from migrator.trees import branches
from migrator.verify.view import speaks_of

_DEEPEST = 50
"""Levels of a cgroup that a tree shows; what is deeper is no pod's."""
_LONGEST = 1e6
"""Seconds; nobody watches longer."""
_WITNESSED = frozenset({"assert-driver", "verify"})


def report(found: Sources, made: str) -> Report:
    """Return the report of a run; pure. `made` is the time at which it is made."""
    state, plan = fold(found.records), found.plan or {}
    steps = {step["id"]: step for step in plan.get("steps", ())}
    status = "damaged" if found.damaged else str(state.status)
    verification, missing = _verification(found)
    known = bool(found.records) and not found.damaged
    changes = tuple(_changes(plan, state, known))
    down = outages(found.records, steps)
    root = found.facts.kubelet.cgroup_root if found.facts else ""
    return Report(
        tool=__version__,
        made=made,
        run=found.run,
        status=status,
        settled=state.status.settled and not found.damaged,
        summary=_summary(found, state, changes),
        reason=state.reason if status != "committed" else "",
        started=state.started,
        ended=state.ended,
        boots=len({record.boot for record in found.records}),
        image=state.offline,
        scope=str(plan.get("scope", "")),
        from_driver=str(plan.get("from") or ""),
        to_driver=str(plan.get("to", "")),
        node=_node(found),
        verdict=str(plan.get("recommendation", {}).get("verdict", "")),
        reasons=tuple(plan.get("recommendation", {}).get("reasons", ())),
        missing=(*found.missing, *missing),
        failed=tuple(
            Failure(step=step, error=error) for step, error in (state.failed | state.unwell).items()
        ),
        left=(*state.left, *_restarts(changes)),
        next=(*_next(found, state), *_traceback(found, state)),
        timeline=timeline(found.records, steps, found.log),
        outages=None if not down and (not known or found.plan is None) else down,
        changes=changes,
        tree_before=branches(
            {row["from_path"]: Translation(**row).label for row in plan.get("translations", ())}
        ),
        tree_after=branches(_seen(verification, root or "/")),
        moves=tuple(plan.get("moves", ())),
        translations=tuple(plan.get("translations", ())),
        verification=verification,
        unverified="" if verification else _unverified(found),
        findings=tuple(plan.get("findings", ())),
        cannot_be_undone=tuple(plan.get("cannot_be_undone", ())),
    )


def _summary(found: Sources, state: RunState, changes: Sequence[Change]) -> str:
    begun = bool(state.begun)
    if found.damaged:
        return "The journal of this run is damaged: this page tells what stands before the damage."
    if found.worker and not state.status.settled:
        return f"The run is open, and a cgmigrate is at work on this node: process {found.worker}."
    left = state.left or [*_restarts(changes)]
    match state.status:
        case Status.COMMITTED:
            return _outcome(found, state) + (" Something is left to do by hand." if left else "")
        case Status.ROLLED_BACK:
            return _taken_back(found, state, left) if begun else "Nothing was changed."
        case Status.DIRTY:
            return "The rollback is incomplete: hands are needed."
        case Status.ROLLING_BACK:
            return "The way back has begun and is not at its end."
        case Status.APPLYING:
            return (
                "The run has begun and is not at its end."
                if begun
                else "The run has begun; nothing was changed yet."
            )
        case Status.PLANNED:
            if any("verb" in entry for entry in found.log):
                return "The journal has no record of this run, although its log tells of steps: what was changed is not known."
            return "The journal has no record of this run: it has not begun, or the journal is lost."


def _outcome(found: Sources, state: RunState) -> str:
    """Return what a finished run has done, as far as its plan and journal prove it."""
    plan = found.plan
    if plan is None:
        return "The run was finished; what it did is not known."
    name = plan["node"] or "the node"
    if plan["scope"] == "cluster":
        return "The ConfigMap of the kubelets says systemd; no node was touched."
    if state.offline:
        return f"The files of the image of {name} say systemd; what needs a running node is left to its first boot."
    if not any(step["kind"] in _WITNESSED for step in plan["steps"]):
        return f"The files of {name} name the cgroups of systemd; no pod was touched."
    return f"{name} is on systemd; verified by cgroupfs and systemd."


def _taken_back(found: Sources, state: RunState, left: Sequence[str]) -> str:
    """Return what a way back brought back, as far as plan and journal prove it."""
    plan = found.plan
    if state.unwell:
        return "Everything was taken back, but the node was not as healthy afterwards as before: hands are needed."
    if plan is None:
        return "The run was rolled back; what it had changed is not known."
    if left:
        return "The run was rolled back, but for what is left to do by hand."
    subject = plan["node"] or "the node"
    if plan["scope"] == "cluster":
        subject = "the ConfigMap of the kubelets"
    elif state.offline:
        subject = f"each file of the image of {subject}"
    elif not any(step["kind"] in _WITNESSED for step in plan["steps"]):
        subject = f"each changed file of {subject}"
    return f"The run was rolled back: {subject} is as it was before."


def _next(found: Sources, state: RunState) -> Iterator[Todo]:
    image = " --root DIR" if state.offline else ""
    if found.damaged or (found.newer and not state.status.settled):
        yield Todo(command=f"cgmigrate status{image}", what="says what can be done")
        return
    plan = found.plan or {}
    provable = plan.get("scope") == "node" and not state.offline and not found.newer
    match state.status:
        case Status.COMMITTED:
            if provable:
                yield Todo(command="cgmigrate verify", what="proves it once more, from both sides")
            if found.newer:
                yield Todo(
                    command=f"cgmigrate rollback {found.newer}{image}",
                    what="takes back the later run, which stands on this one; then this one can be",
                )
            else:
                yield Todo(command=f"cgmigrate rollback {found.run}{image}", what="takes it back")
        case Status.ROLLED_BACK:
            if provable and state.begun and plan["from"]:
                yield Todo(
                    command=f"cgmigrate verify --expect {plan['from']}",
                    what="proves the way back from both sides",
                )
            yield Todo(
                command=f"cgmigrate forget {found.run}{image}",
                what="deletes this record with its saved files",
            )
        case Status.DIRTY:
            yield Todo(
                command=f"cgmigrate rollback{image}",
                what="goes on with the way back, once what failed is mended",
            )
        case _ if not found.worker:
            yield Todo(command=f"cgmigrate resume{image}", what="goes on")
            yield Todo(command=f"cgmigrate rollback{image}", what="goes back")
        case _:
            yield Todo(command=f"cgmigrate status{image}", what="tells whether it is still at work")


def _traceback(found: Sources, state: RunState) -> Iterator[Todo]:
    if found.has_traceback:
        image = "DIR" if state.offline else ""
        yield Todo(
            command=f"cat {image}{STATE}/runs/{found.run}/traceback.txt",
            what="shows where cgmigrate failed by a fault of its own; please report it",
        )


def _node(found: Sources) -> Node:
    facts, plan = found.facts, found.plan or {}
    name, machine = str(plan.get("node", "")), str(plan.get("machine_id", ""))
    if facts is None:
        return Node(name=name, machine_id=machine)
    return Node(
        name=facts.node.hostname or name,
        machine_id=facts.node.machine_id or machine,
        os=facts.node.os or "",
        kernel=facts.node.kernel or "",
        cgroups=str(facts.node.cgroup_mode or ""),
        systemd=str(facts.node.systemd_version or ""),
        kubelet=facts.kubelet.version or "",
        runtime=f"{facts.runtime.kind} {facts.runtime.version or ''}".strip(),
    )


def _changes(plan: Json, state: RunState, known: bool) -> Iterator[Change]:
    for step in plan.get("steps", ()):
        params = step["params"]
        if step["kind"] == "write-file":
            path, real = params["path"], params.get("real_path", "")
            name = f"{path} (leads to {real})" if real else path
        elif step["kind"] == "cluster-config":
            name = f"ConfigMap kube-system/{params['name']}"
        else:
            continue
        yield Change(
            name=name,
            why=step["why"],
            diff=params["diff"],
            state=_where(step["id"], state) if known else "unknown",
            restart=tuple(params.get("restart", ())),
        )


def _where(step: str, state: RunState) -> str:
    if step in state.failed or (step in state.reverted and step in {name for name, _ in state.leaving}):
        return "not restored"
    if step in state.reverted:
        return "restored" if step in state.begun else "not written"
    return "written" if step in state.applied else "being written" if step in state.begun else "not written"


def _restarts(changes: Sequence[Change]) -> Iterator[str]:
    import shlex  # noqa: PLC0415 - late

    units = sorted(
        {unit for each in changes if each.state in ("written", "restored") for unit in each.restart}
    )
    if units:
        yield f"systemctl restart {shlex.join(units)}"


def _verification(found: Sources) -> tuple[Json | None, Sequence[str]]:
    """Return what both witnesses said last, with its time, and what there is to say of its absence.

    It is held against the journal: a log that lost its end has only an earlier verification.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - late: 60 ms

    from migrator.schemas import load_schema  # noqa: PLC0415

    began = ["", *_verified(found)][-1]
    for entry in reversed(found.log):
        if "verification" in entry:
            proof, time = entry["verification"], entry.get("time")
            faults = islice(Draft202012Validator(load_schema("verify-1")).iter_errors(proof), 1)
            is_whole = isinstance(time, str) and not any(True for _ in faults)
            if not is_whole or not proof["settle_seconds"] < _LONGEST:  # NaN is less than nothing
                return None, ["log.jsonl: what the witnesses said is damaged"]
            if not began and not found.damaged:
                return None, ["log.jsonl: the journal does not know of what the witnesses said there"]
            if began and between(began, str(time)) is None:
                return None, ["log.jsonl: what the witnesses said last is lost"]
            kept = {key: value for key, value in proof.items() if key not in ("format", "version")}
            return {"time": time, **kept}, []
    return None, ["log.jsonl does not hold what the witnesses said"] if began else []


def _verified(found: Sources) -> list[str]:
    """Return when each verification began; the kind of a step is the beginning of its id, also where the plan is gone."""
    return [
        record.time
        for record in found.records
        if record.kind is Kind.APPLYING and re.split("[:(]", record.step)[0] == "verify"
    ]


def _unverified(found: Sources) -> str:
    if _verified(found):
        return "Not known: there is no record of what the witnesses saw."
    if found.damaged or not found.records:
        return "Not known: the journal does not tell."
    if found.plan is None:
        return "Not known: plan.json is missing."
    if not any(step["kind"] == "verify" for step in found.plan["steps"]):
        return "Not looked at: a run of this kind has no verification."
    if fold(found.records).offline:
        return "Not looked at: an image does not run."
    return "Not looked at: the run did not come to its verification."


def _seen(verification: Json | None, root: str) -> dict[str, str]:
    """Return the cgroups of which each comparison holds, and what verification calls them."""
    places: dict[str, str] = {}
    rows = verification["checks"] if verification else ()
    wrong = {row["place"] for row in rows if not row["ok"]}
    for row in rows:
        is_place = (
            row["place"].startswith("/") and row["place"] not in wrong and row["place"].count("/") < _DEEPEST
        )
        place = parse(row["place"], root) if is_place else None
        if place is None:
            continue
        pod, compared = speaks_of(row["name"])
        container = compared.split(" ")[0] if pod else ""
        places.setdefault(row["place"], {Level.POD: pod, Level.CONTAINER: container}.get(place.kind, ""))
    return places
