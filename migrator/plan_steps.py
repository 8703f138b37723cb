# SPDX-License-Identifier: Apache-2.0
"""The steps of a plan, in their order. Pure.

The plan is a palindrome: read from its end it is the same procedure with the old files, so rolling back is reverting each
step in reverse order. Steps that act only on the way back are in the plan too, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.audit import Audit
from migrator.cgroups import CgroupName, Driver
from migrator.changes import Change
from migrator.drain import Move
from migrator.facts.model import Cluster, Facts
from migrator.plan_cluster import ConfigMapChange, config_map_params, drain_params, on_node
from migrator.plan_options import PlanOptions
from migrator.reserved import made_by

HEALTHY_SECONDS = 300
WINDOW_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step as data: `id` is unique in the plan, `why` is for the operator, `params` for the step."""

    id: str
    kind: str
    why: str
    params: Mapping[str, Any]


def _step(kind: str, why: str, params: Mapping[str, Any], name: str = "") -> PlannedStep:
    back = params.get("direction") == "back"
    name = f"{kind}:{name}" if name else kind
    return PlannedStep(id=name + ("(back)" if back else ""), kind=kind, why=why, params=params)


def cluster_steps(
    change: ConfigMapChange | None, cluster: Cluster, options: PlanOptions
) -> Iterator[PlannedStep]:
    """Yield the step that changes the cluster's own answer, where there is something to change."""
    if change is not None:
        yield _step(
            "cluster-config",
            "the next `kubeadm upgrade node` or `join` must not bring the old driver back (F18)",
            config_map_params(change, cluster, options),
        )


def node_steps(
    facts: Facts,
    audit: Audit,
    changes: Sequence[Change],
    *,
    options: PlanOptions,
    moves: Sequence[Move],
    settings: ConfigMapChange | None,
) -> Iterator[PlannedStep]:
    """Yield the steps that switch a node, around them those that take it out of its cluster for a while."""
    kubelet = facts.kubelet.unit.name if facts.kubelet.unit else "kubelet.service"
    services = [
        unit.name
        for unit in facts.runtime.units
        if not (facts.node.live and unit.name.endswith(".socket") and unit.active_state != "active")
    ]
    runtime = {"runtime": facts.runtime.kind, "socket": facts.runtime.socket, "units": services}
    guarded = {"units": [kubelet, *services]}
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

    here = on_node(facts, options)
    drained = drain_params(moves, options) | {"units": [*services, kubelet]}
    ready = (here or {}) | {key: health[key] for key in ("unit", "runtime", "socket", "timeout_seconds")}
    yield _step("guard", "keep kubelet and runtime down if the node reboots in the middle", guarded)
    if here and facts.cluster and facts.cluster.node:
        control_plane = {"control_plane": facts.cluster.node.control_plane}
        yield _step("cordon", "no new pod may come while the node is away", here | control_plane)
        yield _step("drain", "what can live elsewhere goes first, within its budgets", here | drained)
    if facts.cluster:
        yield from cluster_steps(settings, facts.cluster, options)
    if here:
        yield _step(
            "wait-ready",
            "on the way back: the API server knows the node as it is",
            ready | {"direction": "back"},
        )
    yield _step(
        "wait-healthy",
        "on the way back: the kubelet answers and the pods run again",
        health | {"direction": "back"},
    )
    yield _step(
        "stop-unit",
        "nothing may start or judge pods while the driver changes",
        {"units": [kubelet], "needs": services},
        "kubelet",
    )
    made = made_by(facts, (change.path for change in changes if change.before is None))
    if made:
        yield _step(
            "remove-cgroups",
            "on the way back: the slices that were made for the kubelet",
            {"trees": made, "leave_populated": True, "direction": "back"},
            "slices",
        )
    yield _step(
        "remove-cgroups",
        "on the way back: the slices of the new driver",
        {"trees": trees(facts.kubelet.cgroup_root)[1:2], "direction": "back"},
    )
    yield _step(
        "remove-sandboxes",
        "sandboxes made under cgroupfs cannot be restarted under systemd (F08)",
        runtime | {"foreign_parent": "systemd"},
    )
    yield _step(
        "stop-unit",
        f"{facts.runtime.kind} reads its driver at start only",
        {"units": services},
        facts.runtime.kind,
    )
    yield from file_steps(changes)
    yield _step(
        "remove-cgroups",
        "nobody else removes the old tree (F26), and a stale one of the new spelling keeps pods in the old place",
        {"trees": trees(facts.kubelet.cgroup_root)},
    )
    yield _step(
        "start-unit", f"{facts.runtime.kind} with the new driver", {"units": services}, facts.runtime.kind
    )
    yield _step("assert-driver", "the runtime itself must say systemd", {"driver": Driver.SYSTEMD.value})
    yield _step(
        "remove-sandboxes",
        "on the way back: what systemd's driver made",
        runtime | {"direction": "back", "foreign_parent": "systemd"},
    )
    yield _step("start-unit", "the kubelet makes its pods anew, in slices", {"units": [kubelet]}, "kubelet")
    yield _step("wait-healthy", "the new kubelet answers, and the static pods run again", health)
    if here:
        yield _step(
            "wait-ready", "Ready by the new kubelet, its DaemonSet and static pods by new containers", ready
        )
    yield _step(
        "verify",
        "cgroupfs and systemd must agree on every pod's place and limits",
        {"driver": Driver.SYSTEMD.value, "window_seconds": WINDOW_SECONDS, "pods": places},
    )
    if here:
        yield _step(
            "drain",
            "on the way back: the same, before the pods are stopped",
            here | drained | {"direction": "back"},
        )
        yield _step("uncordon", "if this run has cordoned it", here)
    yield _step("release-guard", "the run is settled", guarded)


def file_steps(changes: Sequence[Change]) -> Iterator[PlannedStep]:
    """Yield the steps that write files, and those that have systemd read its own again."""
    reload = any(change.unit_file for change in changes)
    if reload:
        yield _step(
            "daemon-reload", "on the way back: unit files are the old ones again", {"direction": "back"}
        )
    for change in changes:
        yield _step("write-file", change.why, change.params(), change.path)
    if reload:
        yield _step("daemon-reload", "unit files changed", {})


def trees(cgroup_root: str) -> list[str]:
    """Return the kubelet's tree in both spellings, below a hierarchy's mount; with a root of its own, then those at the top.

    What a kubelet without that root has left at the top is as stale as the rest (F26).
    """
    root = tuple(part for part in cgroup_root.split("/") if part)
    names = [CgroupName((*above, "kubepods")) for above in dict.fromkeys((root, ()))]
    return [spelling for name in names for spelling in (name.to_cgroupfs(), name.to_systemd())]
