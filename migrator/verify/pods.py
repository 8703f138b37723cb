# SPDX-License-Identifier: Apache-2.0
"""Verification of every living pod and container: place, population and limits, by both witnesses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from migrator.cgroups import CgroupNameError, Driver, Kind, QoS, Runtime, container_place, parse, pod_slice
from migrator.checks.base import command, pod_label
from migrator.facts.model import Container, Facts, Pod
from migrator.plan_table import is_live, live_pods
from migrator.verify.model import Ledger
from migrator.verify.node import remove_pods
from migrator.verify.units import compare_unit, control_group, unit_state

_STRICT = frozenset({"cpu", "cpuacct", "cpuset", "memory", "pids", "name=systemd"})
"""v1 hierarchies that carry limits, or systemd's own account of its units: a process must be in its container's cgroup."""

_UNMANAGED = frozenset({"misc", "rdma", "debug"})
"""v1 hierarchies that not every runtime puts its containers into: there only another pod's or driver's place is wrong."""


def check_pods(ledger: Ledger) -> None:
    """Hold every living pod and container to its place and limits."""
    facts = ledger.evidence.facts
    for path in _levels(ledger):
        compare_unit(ledger, path.rpartition("/")[2], path)
    for pod in live_pods(facts):
        _pod(ledger, pod)
    if ledger.expected is Driver.SYSTEMD:
        _abandoned_scopes(ledger)
    _leaked(ledger)


def _levels(ledger: Ledger) -> Iterator[str]:
    """Yield the cgroups above all pods: kubepods and the QoS classes."""
    root = ledger.evidence.facts.kubelet.cgroup_root
    for path in sorted(ledger.evidence.cgroups):
        place = parse(path, root or "/")
        if place and place.kind in {Kind.KUBEPODS, Kind.QOS}:
            yield path


def _pod(ledger: Ledger, pod: Pod) -> None:
    facts, label = ledger.evidence.facts, pod_label(pod)
    try:
        places = _pod_places(pod, facts, ledger.expected)
        runtime = Runtime(facts.runtime.kind)
    except (CgroupNameError, ValueError) as error:
        ledger.find(
            "verify-incomplete",
            label,
            f"{label} has no place that is known under {ledger.expected}",
            str(error),
        )
        return
    place = next((path for path in places if path in ledger.evidence.cgroups), places[0])
    cgroup = ledger.evidence.cgroups.get(place)
    wanted = _wanted(facts)
    missing = [mount for mount in wanted if cgroup is None or mount not in cgroup.mounts]
    where = "every hierarchy" if missing == wanted else ", ".join(missing)
    said = f"missing in {where}" if missing else "exists"
    ledger.note(not missing, label, place, (said, control_group(ledger, place)))
    if cgroup:
        compare_unit(ledger, label, place)
    wrong = [f"{place} is missing in {where}"] if missing else []
    for container in pod.containers:
        if is_live(container):
            wrong += _container(ledger, pod, container, runtime, places)
    if wrong:
        ledger.find(
            "verify-place",
            place,
            f"{label} is not, or not with all its processes, at {place}",
            "\n".join(wrong),
            remove_pods(facts, _ids(pod, facts)),
        )


def _wanted(facts: Facts) -> list[str]:
    """Return the hierarchies in which the kubelet makes a pod's cgroup: those of v1 that count, else cgroup2."""
    hierarchies = facts.node.hierarchies
    return [each.mount for each in hierarchies if _STRICT & set(each.controllers)] or [
        each.mount for each in hierarchies if each.version == 2
    ]


def _pod_places(pod: Pod, facts: Facts, driver: Driver) -> tuple[str, ...]:
    """Return where a pod may be; without a known QoS class, one place for each."""
    classes = (QoS(pod.qos),) if pod.qos in list(QoS) else tuple(QoS)
    root = facts.kubelet.cgroup_root or "/"
    return tuple(pod_slice(pod.uid, qos, driver, cgroup_root=root) for qos in classes)


def _container(
    ledger: Ledger, pod: Pod, container: Container, runtime: Runtime, pods: Sequence[str]
) -> Iterator[str]:
    """Hold a container to its place and what follows from it; yield what is wrong with the place."""
    facts, root = ledger.evidence.facts, ledger.evidence.facts.kubelet.cgroup_root or "/"
    name = "sandbox" if container.sandbox else container.name or container.id[:12]
    label = f"{pod_label(pod)} {name}"
    places = [
        container_place(pod.uid, qos, container.id, runtime, ledger.expected, cgroup_root=root)
        for qos in QoS
        if pod_slice(pod.uid, qos, ledger.expected, cgroup_root=root) in pods
    ]
    place = next((path for path in places if path in ledger.evidence.cgroups), places[0])
    seen = [ledger.evidence.processes[pid] for pid in container.pids if pid in ledger.evidence.processes]
    lines = sorted({(path, key) for paths in seen for key, path in paths.items()})
    unified = all(hierarchy.version == 2 for hierarchy in facts.node.hierarchies)
    strays = [line for line in lines if _is_astray(place, *line, unified=unified)]
    trimmed = [line for line in lines if line not in strays and _is_trimmed(place, line[0])]
    said = "; ".join(_paths(strays + trimmed)) or _count(seen)
    ledger.note(bool(seen) and not strays, label, place, (said, control_group(ledger, place)))
    yield from (f"{name}: {path}" for path in _paths(strays))
    if not seen:
        yield f"{name}: runs, and has no process"
    if trimmed and not container.sandbox:  # a sandbox only sleeps: no rule about it is lost
        ledger.find(
            "verify-trimmed-place",
            place,
            f"processes of {label} are in their pod's cgroup, and not in their own, in a hierarchy without limits",
            "\n".join(_paths(trimmed)),
            remove_pods(facts, _ids(pod, facts)),
        )
    if ledger.expected is Driver.SYSTEMD:
        _population(ledger, label, place, astray=bool(strays))
    if place in ledger.evidence.cgroups:
        compare_unit(ledger, label, place)


def _paths(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Return each path with the hierarchies in which it was seen."""
    return [
        f"{path} in {', '.join(key or 'cgroup2' for _, key in found)}"
        for path, found in groupby(lines, key=lambda line: line[0])
    ]


def _is_astray(place: str, path: str, hierarchy: str, *, unified: bool) -> bool:
    """Tell whether a line of `/proc/PID/cgroup` is wrong: outside of its container, or even of its pod.

    On v1 systemd moves processes of a scope up to its slice in hierarchies that it thinks the scope does not need, seen
    with `devices` (systemd#37044): there the pod's cgroup is right enough. A hybrid host's cgroup2 is nobody's.
    """
    if (
        path == place or path.startswith(f"{place}/") or "/crio-conmon-" in path
    ):  # CRI-O's monitor may be anywhere
        return False
    controllers = {*hierarchy.split(",")}
    if (hierarchy == "" and not unified) or controllers <= _UNMANAGED:
        return ("kubepods" in path and not _is_trimmed(place, path)) or ".slice:" in path
    return unified or bool(controllers & _STRICT) or not _is_trimmed(place, path)


def _is_trimmed(place: str, path: str) -> bool:
    return path == place.rpartition("/")[0]


def _count(seen: Sequence[object]) -> str:
    return f"{len(seen)} process{'' if len(seen) == 1 else 'es'}" if seen else "no process"


def _population(ledger: Ledger, label: str, place: str, *, astray: bool) -> None:
    """Hold a scope to being active if and only if processes live in it; what lives elsewhere has its finding already."""
    unit = place.rpartition("/")[2]
    cgroup = ledger.evidence.cgroups.get(place)
    state = unit_state(ledger, unit) or "not loaded"
    pids = [*cgroup.pids] if cgroup else []
    ok = bool(pids) and state == "active"
    ledger.note(ok, f"{label} population", place, (_count(pids), state))
    if not ok and not astray:
        ledger.find(
            "verify-population",
            place,
            f"{unit} is {state} in systemd and has {_count(pids)}",
            remediation=command("systemctl", "status", unit),
        )


def _abandoned_scopes(ledger: Ledger) -> None:
    """Find active scopes in the tree in which nothing lives: systemd ends a scope with its last process."""
    for path, cgroup in ledger.evidence.cgroups.items():
        unit = path.rpartition("/")[2]
        if unit.endswith(".scope") and not cgroup.pids and unit_state(ledger, unit) == "active":
            ledger.hold(
                "verify-population",
                False,
                f"{unit} population",
                path,
                said=("no process", "active"),
                summary=f"{unit} is active in systemd and has no process",
                remediation=command("systemctl", "stop", unit),
            )


def _leaked(ledger: Ledger) -> None:
    """Find pods' cgroups without a pod; on a hybrid host cgroup2 keeps those of evicted pods, whatever the driver."""
    live = {pod.uid for pod in ledger.evidence.facts.pods}
    root = ledger.evidence.facts.kubelet.cgroup_root or "/"
    for path, cgroup in ledger.evidence.cgroups.items():
        place = parse(path, root)
        if place and place.kind is Kind.POD and place.pod_uid not in live and not cgroup.pids:
            ledger.find(
                "verify-leaked-cgroup",
                path,
                f"{path} is left in {', '.join(cgroup.mounts)} without a pod",
                remediation=command(
                    "find",
                    *(f"{mount}{path}" for mount in cgroup.mounts),
                    "-depth",
                    "-type",
                    "d",
                    "-exec",
                    "rmdir",
                    "{}",
                    ";",
                ),
            )


def _ids(pod: Pod, facts: Facts) -> list[str]:
    """Return what the runtime's command needs to remove a pod: all its containers, or its sandbox."""
    if facts.runtime.kind == "docker":
        return [container.id for container in pod.containers]
    return [container.id for container in pod.containers if container.sandbox]
