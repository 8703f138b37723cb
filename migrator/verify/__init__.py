# SPDX-License-Identifier: Apache-2.0
"""Verification by two witnesses: cgroupfs and systemd must tell the same story of every pod and container.

It judges a node as it is now, whoever migrated it: after `apply`, after a rollback (`expected` is cgroupfs then), or after
somebody's own hands. It is given a `Reader`, so it only looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from migrator.cgroups import CgroupNameError, Driver
from migrator.errors import UsageError
from migrator.facts.model import Facts
from migrator.findings import Finding, Severity
from migrator.host import Reader
from migrator.plan_table import Translation
from migrator.verify.model import RULES, VERIFY_VERSION, CheckResult, Evidence, Ledger, Verification
from migrator.verify.node import check_node
from migrator.verify.pods import check_pods
from migrator.verify.returned import check_returned, running
from migrator.witness import (
    Cgroup,
    ask_health,
    changed,
    look_at_processes,
    look_at_systemd,
    look_at_tree,
    process_start,
    read_manifests,
    tree_root,
)

__all__ = [
    "RULES",
    "VERIFY_VERSION",
    "CheckResult",
    "Evidence",
    "Verification",
    "judge",
    "look",
    "verify",
    "verify_pods",
]

SETTLE = 10.0
"""Seconds that containers are watched by default; a restart loop of failure F07 takes minutes, give more for that."""

_LOOKS = 3
_AGAIN = 1.0  # seconds between two looks at a node on which something moves
_WATCHES = 3
_PASSING = frozenset({"verify-restart", "verify-pod-missing"})
"""Rules that a kubelet breaks while it is still making its pods."""


def verify(
    reader: Reader,
    expected: Driver = Driver.SYSTEMD,
    table: Sequence[Translation] = (),
    settle: float = SETTLE,
    reload: bool = False,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Judge whether the node is on the `expected` driver, by both witnesses.

    Args:
        reader: a running node.
        expected: the driver whose place, population and limits everything must have.
        table: pods that must be back at their place (`to_path`, or `from_path` after a rollback).
        settle: seconds between the first and the last look; containers must live through them.
        reload: the caller had systemd reload its units before; noted in the result.
        progress: told what is looked at.

    A pod that comes or goes between the looks of two witnesses seems to be a contradiction, so a look that finds one is
    repeated, twice at most: one look in which everything agrees is the proof.

    Raises:
        UsageError: `reader` is an image: nothing lives there.
    """
    if not reader.live:
        raise UsageError(
            f"{reader.root} is an image: verification needs a running node", hint="cgmigrate audit --root DIR"
        )
    before = running(_facts(reader, progress)) if settle > 0 else {}
    if settle > 0:
        progress(f"watching the containers for {settle:g} s")
        time.sleep(settle)
    looks = 0
    while True:
        verification = judge(look(reader, expected, before, progress), expected, table, settle, reload=reload)
        looks += 1
        if verification.ok or looks == _LOOKS:
            return verification
        time.sleep(_AGAIN)


def look(
    reader: Reader,
    expected: Driver,
    before: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """Gather the facts, and what both witnesses say right now; what cannot be heard is part of the evidence."""
    facts = _facts(reader, progress)
    root, page_size = facts.kubelet.cgroup_root or "/", facts.node.page_size
    progress("asking systemd for its units")
    systemd = look_at_systemd(reader, root)
    progress("reading the cgroup tree")
    cgroups: dict[str, Cgroup] = {}
    silent = systemd.silent
    try:
        cgroups = look_at_tree(reader, facts.node.hierarchies, tree_root(expected, root), page_size)
    except CgroupNameError as error:
        silent += (("cgroupfs", f"the node's cgroup root {root} has no place under {expected}: {error}"),)
    pids = [pid for pod in facts.pods for container in pod.containers for pid in container.pids]
    manifests, unread = read_manifests(reader, facts.kubelet.static_pod_path)
    return Evidence(
        facts=facts,
        cgroups=cgroups,
        processes=look_at_processes(reader, pids),
        shown=systemd.shown,
        listed=systemd.listed,
        kubelet_started=process_start(reader, facts.kubelet.unit.main_pid) if facts.kubelet.unit else None,
        written=_written(reader, facts),
        health=_health(facts),
        manifests=manifests,
        before=before or {},
        unread=unread,
        silent=silent,
    )


def judge(
    evidence: Evidence,
    expected: Driver,
    table: Sequence[Translation] = (),
    settle: float = 0,
    *,
    reload: bool = False,
) -> Verification:
    """Judge evidence; pure. Blockers come first."""
    ledger = Ledger(evidence, expected)
    check_node(ledger)
    check_returned(ledger, table)
    check_pods(ledger)
    return Verification(
        expected=expected,
        reloaded=reload,
        settle=settle,
        checks=tuple(ledger.rows),
        findings=_sorted(ledger.findings),
    )


def verify_pods(
    reader: Reader, driver: str, pods: Sequence[Mapping[str, str]], settle: float = SETTLE
) -> Verification:
    """Verify for a step of a plan, which has had systemd read its units again.

    `pods` are rows with `namespace`, `pod`, `pod_uid` and `cgroup`, the place below the mounts where each must be.

    A kubelet that has just started may still be making a pod, or may replace a sandbox that it made a moment ago: a node
    that shows this is watched again, twice at most.
    """
    table = [
        Translation(
            kind="pod",
            namespace=row["namespace"],
            pod=row["pod"],
            pod_uid=row["pod_uid"],
            from_path="",
            to_path=row["cgroup"],
        )
        for row in pods
    ]
    for _ in range(_WATCHES - 1):
        found = verify(reader, Driver(driver), table, settle=settle, reload=True)
        if not {finding.id for finding in found.blockers} & _PASSING:
            return found
    return verify(reader, Driver(driver), table, settle=settle, reload=True)


def _facts(reader: Reader, progress: Callable[[str], None]) -> Facts:
    from migrator.facts.gather import gather  # noqa: PLC0415 late: judging alone needs no parser

    facts: Facts = gather(reader, progress, host_files=False)
    return facts


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    weight = list(Severity)
    order = list(RULES)
    return tuple(
        sorted(findings, key=lambda each: (weight.index(each.severity), order.index(each.id), each.subject))
    )


def _written(reader: Reader, facts: Facts) -> dict[str, float]:
    """Return when each file that decides the kubelet's driver was last written."""
    paths = {source.path for source in facts.kubelet.driver.chain if source.path.startswith("/")}
    found = {
        path: changed(reader, path)
        for path in paths | {facts.kubelet.config_file}
        if path and not path.startswith("/proc/")
    }
    return {path: written for path, written in found.items() if written is not None}


def _health(facts: Facts) -> str:
    if not facts.kubelet.present:
        return "there is no kubelet"
    if facts.kubelet.unit and facts.kubelet.unit.active_state != "active":
        return f"{facts.kubelet.unit.name} is {facts.kubelet.unit.active_state or 'not loaded'}"
    return ask_health(facts.kubelet.healthz) if facts.kubelet.healthz else ""
