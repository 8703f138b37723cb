# SPDX-License-Identifier: Apache-2.0
"""Verification of every living pod and container: place, population and limits, by both witnesses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    except CgroupNameError as error:
        ledger.hold(
            "verify-place", False, label, summary=f"{label} has no place under {ledger.expected}: {error}"
        )
        return
    place = next((path for path in places if path in ledger.evidence.cgroups), places[0])
    cgroup = ledger.evidence.cgroups.get(place)
    hierarchies = facts.node.hierarchies
    # The kubelet's own list of v1 controllers; without any of v1, cgroup2 is where everything is.
    wanted = [each.mount for each in hierarchies if _STRICT & set(each.controllers)] or [
        each.mount for each in hierarchies if each.version == 2
    ]
    missing = [mount for mount in wanted if cgroup is None or mount not in cgroup.mounts]
    ledger.hold(
        "verify-place",
        not missing,
        label,
        place,
        said=(f"missing in {', '.join(missing)}" if missing else "exists", control_group(ledger, place)),
        summary=f"the cgroup of {label} does not exist in {', '.join(missing)}",
        detail=f"expected {place}",
        remediation=remove_pods(facts, _ids(pod, facts)),
    )
    if cgroup:
        compare_unit(ledger, label, place)
    for container in pod.containers:
        if is_live(container):
            _container(ledger, pod, container, places)


def _pod_places(pod: Pod, facts: Facts, driver: Driver) -> tuple[str, ...]:
    """Return where a pod may be; without a known QoS class, one place for each."""
    classes = (QoS(pod.qos),) if pod.qos in list(QoS) else tuple(QoS)
    root = facts.kubelet.cgroup_root or "/"
    return tuple(pod_slice(pod.uid, qos, driver, cgroup_root=root) for qos in classes)


def _container(ledger: Ledger, pod: Pod, container: Container, pods: Sequence[str]) -> None:
    facts = ledger.evidence.facts
    label = f"{pod_label(pod)} {'sandbox' if container.sandbox else container.name or container.id[:12]}"
    runtime = Runtime(facts.runtime.kind) if facts.runtime.kind in list(Runtime) else None
    if runtime is None:
        ledger.find(
            "verify-incomplete", label, f"{label}: the runtime is unknown, and so is its container's place"
        )
        return
    root = facts.kubelet.cgroup_root or "/"
    places = [
        container_place(pod.uid, qos, container.id, runtime, ledger.expected, cgroup_root=root)
        for qos in QoS
        if pod_slice(pod.uid, qos, ledger.expected, cgroup_root=root) in pods
    ]
    seen = [ledger.evidence.processes[pid] for pid in container.pids if pid in ledger.evidence.processes]
    place = next((path for path in places if path in ledger.evidence.cgroups), places[0])
    lines = sorted({(key, path) for paths in seen for key, path in paths.items()})
    unified = all(hierarchy.version == 2 for hierarchy in facts.node.hierarchies)
    strays = [line for line in lines if _is_astray(place, *line, unified=unified)]
    trimmed = [line for line in lines if line not in strays and _is_trimmed(place, line[1])]
    ledger.hold(
        "verify-place",
        bool(seen) and not strays,
        label,
        place,
        said=(_said(strays + trimmed) or _count(seen), control_group(ledger, place)),
        summary=f"processes of {label} are outside of {place}" if seen else f"{label} runs without a process",
        detail=_said(strays, "\n"),
        remediation=remove_pods(facts, _ids(pod, facts)),
    )
    if trimmed and not container.sandbox:  # a sandbox only sleeps: no rule about it is lost
        ledger.find(
            "verify-trimmed-place",
            place,
            f"processes of {label} are in their pod's cgroup, and not in their own, in a hierarchy without limits",
            _said(trimmed, "\n"),
            remove_pods(facts, _ids(pod, facts)),
        )
    if ledger.expected is Driver.SYSTEMD:
        _population(ledger, label, place)
    if place in ledger.evidence.cgroups:
        compare_unit(ledger, label, place)


def _is_astray(place: str, hierarchy: str, path: str, *, unified: bool) -> bool:
    """Tell whether a line of `/proc/PID/cgroup` is wrong: outside of its container, or even of its pod.

    On v1 systemd moves processes of a scope up to its slice in hierarchies that it thinks the scope does not need, seen
    with `devices` (systemd#37044): there the pod's cgroup is right enough. A hybrid host's cgroup2 is nobody's.
    """
    if path == place or path.startswith(f"{place}/"):
        return False
    controllers = {*hierarchy.split(",")}
    if (hierarchy == "" and not unified) or controllers <= _UNMANAGED:
        return ("kubepods" in path and not _is_trimmed(place, path)) or ".slice:" in path
    return unified or bool(controllers & _STRICT) or not _is_trimmed(place, path)


def _is_trimmed(place: str, path: str) -> bool:
    return path == place.rpartition("/")[0]


def _said(lines: Sequence[tuple[str, str]], separator: str = ", ") -> str:
    return separator.join(f"{hierarchy or 'cgroup2'}:{path}" for hierarchy, path in lines)


def _count(seen: Sequence[object]) -> str:
    return f"{len(seen)} process{'' if len(seen) == 1 else 'es'}" if seen else "no process"


def _population(ledger: Ledger, label: str, place: str) -> None:
    unit = place.rpartition("/")[2]
    cgroup = ledger.evidence.cgroups.get(place)
    state = unit_state(ledger, unit)
    lives = bool(cgroup and cgroup.pids)
    ledger.hold(
        "verify-population",
        lives and state == "active",
        f"{label} population",
        place,
        said=(_count([*cgroup.pids] if cgroup else []), state or "not loaded"),
        summary=f"{unit} is {state or 'not loaded'} in systemd and has {'processes' if lives else 'no process'}",
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
