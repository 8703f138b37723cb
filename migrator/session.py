# SPDX-License-Identifier: Apache-2.0
"""One sitting at a node: look, plan, apply, go on, go back. What the commands share, without a command line."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from migrator.audit import Audit, audit
from migrator.checks import in_order
from migrator.configs.secrets import mask_shapes
from migrator.containerd_dump import judge_plan
from migrator.doors import Doors
from migrator.engine import Engine, Progress
from migrator.errors import BlockedError, CgmigrateError, ConflictError, HostError, UsageError
from migrator.facts.cluster import Ask
from migrator.facts.gather import gather
from migrator.facts.model import Facts
from migrator.facts.store import digest as facts_digest
from migrator.facts.store import dump as dump_facts
from migrator.facts.store import from_json as facts_of
from migrator.findings import Finding
from migrator.host import Host, Reader
from migrator.interrupt import Interrupt
from migrator.journal import Journal, Run, Runs, boot_id, utc_now
from migrator.kube import Kube
from migrator.plan import (
    Plan,
    drift,
    make_cluster_plan,
    make_plan,
    parse_plan,
    plan_digest,
    planned_steps,
    render,
)
from migrator.plan_options import PlanOptions
from migrator.plan_steps import PlannedStep
from migrator.questions import Question
from migrator.records import Kind, Status
from migrator.steps import Hands
from migrator.steps.registry import KINDS


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a run tells what it does: one line of a step, each change of step, and a question in the middle."""

    say: Callable[[str], None]
    tell: Callable[[Progress], None]
    ask: Callable[[Question], str] = lambda question: question.default
    paused: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Leave the terminal to somebody else meanwhile."""


def look(
    reader: Reader, progress: Callable[[str], None] = lambda _: None, options: PlanOptions | None = None
) -> Audit:
    """Gather the facts of a node and judge them; `options` say how to reach its API server."""
    options = options or PlanOptions()
    return audit(gather(reader, progress, Ask(kubeconfig=options.kubeconfig, node_name=options.node_name)))


def plan_node(reader: Reader, found: Audit, options: PlanOptions | None = None) -> Plan:
    """Plan the node that was just looked at; on a running one its containerd is asked what it makes of the edit.

    Raises:
        BlockedError: it has blockers, or containerd makes something else of it.
    """
    options = options or PlanOptions()

    def read(path: str) -> bytes | None:
        try:
            return reader.read(path)
        except FileNotFoundError:
            return None

    text = config_map_text(reader, found.facts) if options.cluster_config else None
    made = make_plan(found, facts_digest(found.facts), read, options, text)
    judged = judge_plan(reader, found.facts, made)
    if not judged:
        return made
    found = replace(found, findings=in_order((*found.findings, *judged)))
    return make_plan(found, facts_digest(found.facts), read, options, text)


def plan_cluster(reader: Reader, facts: Facts, options: PlanOptions) -> Plan:
    """Plan the change of the kubelet's ConfigMap alone.

    Raises:
        BlockedError: it cannot be reached, is not there, may not be changed, or cannot be edited safely.
    """
    return make_cluster_plan(facts, facts_digest(facts), options, config_map_text(reader, facts))


def config_map_text(reader: Reader, facts: Facts) -> bytes | None:
    """Return data.kubelet of the ConfigMap that the facts name, or None where there is none.

    Raises:
        KubeError: the API server does not give it.
    """
    cluster = facts.cluster
    if cluster is None or not cluster.reached or cluster.config_map is None or not cluster.config_map.present:
        return None
    found = Kube(reader, cluster.kubeconfig).get(
        "configmap", cluster.config_map.name, "--namespace", "kube-system"
    )
    return str(found.get("data", {}).get("kubelet", "")).encode()


def begin(host: Host, reviewed: bytes, name: str) -> tuple[Run, Plan]:
    """Hold a reviewed plan against the node of this moment and, if it still is the plan, make a run of it.

    Nothing is changed but the state directory. The caller holds the lock.

    Raises:
        UsageError: the plan cannot be read.
        ConflictError: it is not the plan of this node at this moment, or another run is open.
        BlockedError: the node has blockers by now.
    """
    document = parse_plan(reviewed, name)
    runs = Runs(host)
    if (left := runs.unsettled()) is not None:
        raise ConflictError(
            f"the run {left.name} is {left.state().status}",
            hint="`cgmigrate resume` or `cgmigrate rollback` first",
        )
    options = PlanOptions.from_json(document["options"])
    found = look(host, options=options)
    machine = found.facts.node.machine_id
    if document["machine_id"] != machine:
        raise ConflictError(
            f"{name} is a plan for node {document['node']} (machine id {document['machine_id']}), "
            f"and this is {found.facts.node.hostname} ({machine})",
            hint="make a plan on this node: `cgmigrate plan -o FILE`",
        )
    try:
        of_cluster = document["scope"] == "cluster"
        now = plan_cluster(host, found.facts, options) if of_cluster else plan_node(host, found, options)
    except BlockedError as error:
        raise ConflictError(
            f"{name} no longer holds: {error.message}", hint=error.hint or "`cgmigrate audit` shows more"
        ) from error
    if difference := drift(document, now.document):
        raise ConflictError(
            f"{name} is not the plan that this node needs now; nothing was changed:\n"
            + "\n".join(difference),
            hint="look at the difference; make and review a new plan: `cgmigrate plan -o FILE`",
        )
    if not now.steps:
        raise UsageError("the plan has no steps: there is nothing to apply")
    run = runs.create(
        plan_digest(now.document), render(now.document), dump_facts(found.facts).encode(), now.contents
    )
    return run, now


@contextlib.contextmanager
def engine_of(
    doors: Doors, run: Run, voice: Voice, interrupt: Interrupt, *, no_drain: bool = False
) -> Iterator[Engine]:
    """Open a run's journal and give its engine, which changes the machine behind `doors`; `no_drain`: on the way back pods are not evicted first.

    Raises:
        ConflictError: the run's own plan or journal is damaged.
    """
    host, units = doors.host, doors.units
    document = run.load("plan.json")
    if not isinstance(document, dict) or plan_digest(document)[:8] not in run.name.split("-"):
        raise ConflictError(
            f"{run.directory}/plan.json is not the plan that this run was made of; nothing was changed",
            hint=f"put it back from a backup; the old files are in {run.directory}/blobs",
        )
    if host.live and run.state().offline:
        raise ConflictError(
            f"{run.name} changed an image, and this node runs: its units would go on with the files of now",
            hint="take it back with --root before the boot, or plan this node anew",
        )
    if not host.live and run.state().begun and not run.state().offline:
        raise ConflictError(
            f"{run.name} is the run of a running node, and {host.root} is its disk: only the node itself can start and stop its units",
            hint="boot it (the guard keeps kubelet and runtime down), then `cgmigrate resume` or `cgmigrate rollback` there",
        )
    journal = Journal(run, boot_id(host))
    log = _open_log(run)

    def say(line: str) -> None:
        line = mask_shapes(line)
        _log(log.write, log.flush, {"time": utc_now(), "say": line})
        voice.say(line)

    def tell(progress: Progress) -> None:
        entry = {
            "time": utc_now(),
            "verb": progress.verb,
            "step": progress.step.id,
            "message": progress.message,
        }
        _log(log.write, log.flush, entry)
        voice.tell(progress)

    untold: list[str] = []

    def left(command: str) -> None:
        try:
            journal.write(Kind.LEFT, command=command)
        except HostError:  # it is told at the end all the same
            untold.append(command)

    @functools.cache
    def begun() -> Facts:
        return facts_of(run.load("facts.json"))

    def verify(driver: str, pods: Sequence[Mapping[str, Any]], window: float) -> Sequence[Finding]:
        from migrator.verify.view import to_json  # noqa: PLC0415 - late: only a real run needs it

        proof = doors.verify(driver, pods, window)
        _log(log.write, log.flush, {"time": utc_now(), "verification": _masked(to_json(proof))})
        return proof.blockers

    hands = Hands(
        reader=host,
        units=units,
        runtime_reader=doors.runtime_reader,
        say=say,
        check=interrupt.check,
        run=run.name,
        begun=begun,
        kube=doors.kube,
        answers=doors.answers,
        driver_in_force=doors.driver_in_force,
        verify=verify,
        host=host,
        control=units,
        blob=run.blob,
        runtime_control=doors.runtime_control,
        kube_control=doors.kube_control,
        ask=voice.ask,
        left=left,
        leftovers=lambda: [*journal.state.left, *untold],
        no_drain=no_drain,
    )
    if host.live:
        _load_early()
        with contextlib.suppress(CgmigrateError):  # the step that needs it tells what is wrong
            begun()
    steps = [(planned, KINDS[planned.kind](planned.params)) for planned in planned_steps(document)]
    try:
        yield Engine(steps=steps, journal=journal, hands=hands, tell=tell)
    finally:
        journal.close()
        units.close()
        with contextlib.suppress(OSError):
            log.close()


def _load_early() -> None:
    """Load what the steps import late, before the node is out of service rather than while it is."""
    import importlib  # noqa: PLC0415

    for name in (
        "migrator.facts.gather",
        "migrator.verify",
        "migrator.witness",
        "migrator.cri",
        "migrator.docker",
    ):
        importlib.import_module(name)


def _open_log(run: Run) -> TextIO:
    """Open the run's log; where the disk refuses, what would be in it is lost, and nothing else."""
    try:
        return run.append("log.jsonl")
    except OSError:
        return Path(os.devnull).open("a", encoding="utf-8")


def _log(write: Callable[[str], int], flush: Callable[[], None], entry: Mapping[str, Any]) -> None:
    """Write a line of the run's log, which never decides an outcome."""
    with contextlib.suppress(OSError):
        write(json.dumps(entry, sort_keys=True) + "\n")
        flush()


def _masked(value: object) -> object:
    """Return JSON data with what has the shape of a credential in its texts hidden: a daemon may have said one."""
    match value:
        case dict():
            return {key: _masked(inner) for key, inner in value.items()}
        case list():
            return [_masked(inner) for inner in value]
        case str():
            return mask_shapes(value)
        case _:
            return value


def open_run(host: Host, name: str | None) -> Run:
    """Return the named run, or the newest one that can go back (open, or committed); else the newest.

    Raises:
        UsageError: there is none.
        ConflictError: a newer run stands on top of it.
    """
    runs = Runs(host)
    alive = [run for run in runs.all() if run.state().status is not Status.ROLLED_BACK]
    if name is None:
        if not runs.all():
            raise UsageError("no run to roll back on this node")
        return (alive or runs.all())[-1]
    run = runs.get(name)
    newer = [each.name for each in alive if each.order > run.order]
    if newer and run.name in {each.name for each in alive}:
        raise ConflictError(
            f"{run.name} cannot be rolled back while {newer[-1]} stands on it",
            hint=f"cgmigrate rollback {newer[-1]}",
        )
    return run


def hold_shown(host: Host, shown: Run, status: Status) -> None:
    """Refuse, under the lock, what is not what was asked about: another process may have been faster.

    A run that is rolled back by now is as it was asked for.

    Raises:
        ConflictError: the run is gone, has gone on since, or a newer one stands on it.
    """
    try:
        now = open_run(host, shown.name).state().status
    except UsageError:
        said = "is no longer there"
    else:
        if now in (status, Status.ROLLED_BACK):
            return
        said = f"is {now} by now"
    raise ConflictError(
        f"{shown.name} was {status} when it was shown, and {said}; nothing was changed",
        hint="`cgmigrate status` shows the runs as they are",
    )


def deferred(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """Return the steps that an image leaves to its first boot."""
    return [step for step in steps if not KINDS[step.kind].offline]
