# SPDX-License-Identifier: Apache-2.0
"""Checks of what runs on the node, and what the switch means for it."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    INFO,
    WARNING,
    Check,
    command,
    is_live,
    is_switched,
    live_pods,
    plural,
    pod_label,
)
from migrator.facts.model import Facts, Pod
from migrator.findings import Finding
from migrator.plan_table import translations

DRIVER_READERS = ("koordlet", "volcano-agent")
"""Agents that read the kubelet's driver once, at their start, to find the pods' cgroups (koordinator#820)."""


def static_pods_outage(facts: Facts) -> Iterator[Finding]:
    """List the static pods, which no drain moves."""
    static = [pod_label(pod) for pod in live_pods(facts) if pod.static]
    if static and not is_switched(facts):
        yield Finding(
            id="static-pods-outage",
            severity=INFO,
            subject=static[0],
            summary=f"{plural(len(static), 'static pod')} will be stopped and made anew by the switch",
            detail="No drain moves them: " + ", ".join(static),
            reference="F33",
        )


def static_pod_not_running(facts: Facts) -> Iterator[Finding]:
    """Find static pods of which the runtime says that the sandbox or a container does not run (F33).

    A pod that only its cgroup tells of has no known state, and is not judged.
    """
    idle = {pod_label(pod): parts for pod in facts.pods if pod.static and (parts := _idle_parts(pod))}
    if idle and not is_switched(facts):
        yield Finding(
            id="static-pod-not-running",
            severity=WARNING,
            subject=next(iter(idle)),
            summary=f"{plural(len(idle), 'static pod')} not running, or not with every container: "
            + "; ".join(f"{label} ({', '.join(parts)})" for label, parts in idle.items()),
            detail="Init containers that have completed look the same and are fine, "
            "and so do the remains of a manifest that was changed or removed. "
            "Anything else should be mended first: verification after the switch would fail, "
            "and roll the node back after the outage.",
            reference="F33",
        )


def _idle_parts(pod: Pod) -> tuple[str, ...]:
    """Return `sandbox` and the names of the containers that are known and do not run."""
    states: dict[str, set[str]] = {}
    for each in pod.containers:
        if each.name and not each.sandbox:
            states.setdefault(each.name, set()).add(each.state)
    sandbox = ("sandbox",) if pod.sandbox_state not in ("", "running") else ()
    return (*sandbox, *(name for name, found in states.items() if "running" not in found))


def control_plane(facts: Facts) -> Iterator[Finding]:
    """Find an API server among the static pods."""
    names = [pod_label(pod) for pod in facts.pods if pod.static and pod.name.startswith("kube-apiserver")]
    members = facts.cluster.etcd_members if facts.cluster else 0
    if names and not is_switched(facts):
        yield Finding(
            id="control-plane",
            severity=WARNING,
            subject=names[0],
            summary="this is a control-plane node: its API server is away for a while during the switch",
            detail="One control-plane node at a time, and only while etcd is healthy without this member. "
            + (
                f"etcd has {plural(members, 'member')} and no majority without this one, "
                "so the whole cluster has no API meanwhile."
                if members in (1, 2)
                else "With a single one, the whole cluster has no API meanwhile."
            ),
            remediation="kubectl get --raw /readyz/etcd",
            reference="F33",
        )


def api_node_not_drained(facts: Facts) -> Iterator[Finding]:
    """Find pods that the API could still move away, where the API itself does not tell of them."""
    if facts.cluster is not None and facts.cluster.reached:
        return
    pods = [pod_label(pod) for pod in live_pods(facts) if not pod.static]
    if facts.kubelet.kubeconfig and pods and not is_switched(facts):
        yield Finding(
            id="api-node-not-drained",
            severity=WARNING,
            subject=pods[0],
            summary=f"{plural(len(pods), 'pod')} of the API server on this node will be killed by the switch",
            detail="Those with restartPolicy Never, and bare ones, do not come back; "
            "those of DaemonSets stay through a drain. All: " + ", ".join(pods),
            remediation=command("kubectl", "drain", facts.node.hostname, "--ignore-daemonsets"),
            reference="F36",
        )


def pod_place_unknown(facts: Facts) -> Iterator[Finding]:
    """Find live pods that the translation table cannot hold."""
    placed = {row.pod_uid for row in translations(facts) if row.kind == "pod"}
    unknown = [pod_label(pod) for pod in live_pods(facts) if pod.uid not in placed]
    if unknown:
        yield Finding(
            id="pod-place-unknown",
            severity=WARNING,
            subject=unknown[0],
            summary=f"{plural(len(unknown), 'live pod')} at no place that could be computed: not in the table, "
            "so verification cannot hold the node to it",
            detail="The QoS class is not known, the pod is under both drivers at once, or its uid makes no slice. "
            "All: " + ", ".join(unknown),
        )


def other_containers(facts: Facts) -> Iterator[Finding]:
    """Find containers outside Kubernetes, which the switch of the runtime touches too."""
    if not facts.other_containers or is_switched(facts):
        return
    stuck = [
        each
        for each in facts.other_containers
        if facts.runtime.kind == "docker" and each.cgroup_parent and not each.cgroup_parent.endswith(".slice")
    ]
    if stuck:
        yield Finding(
            id="other-containers",
            severity=WARNING,
            subject=stuck[0].name or stuck[0].id[:12],
            summary=f"{plural(len(stuck), 'container')} outside Kubernetes cannot start again under systemd: "
            "the stored cgroup parent is no slice",
            detail=", ".join(f"{each.name or each.id[:12]} ({each.cgroup_parent})" for each in stuck),
            remediation="make them anew with `--cgroup-parent=NAME.slice`",
            reference="F02",
        )
    live = [each.name or each.id[:12] for each in facts.other_containers if is_live(each)]
    if live:
        yield Finding(
            id="other-containers",
            severity=WARNING,
            subject=live[0],
            summary=f"{plural(len(live), 'container')} outside Kubernetes will be restarted, "
            "or outlive the restart of the runtime",
            detail="Their default parent moves from /docker to system.slice, so limits put on /docker "
            "no longer hold. All: " + ", ".join(live),
            reference="F64",
        )


def agents_read_driver(facts: Facts) -> Iterator[Finding]:
    """Find pods that read the driver once, at their start."""
    found = [
        pod
        for pod in facts.pods
        if any(is_live(each) and each.name in DRIVER_READERS for each in pod.containers if not each.sandbox)
    ]
    stated = [each.value for each in facts.kubelet.driver.chain if each.kind != "runtime" and each.value]
    misled = facts.kubelet.decides == "runtime" and stated[-1:] != [facts.kubelet.driver.value]
    if not found or (is_switched(facts) and not misled):
        return
    names = ", ".join(pod_label(pod) for pod in found)
    yield Finding(
        id="agents-read-driver",
        severity=WARNING if misled else INFO,
        subject=pod_label(found[0]),
        summary=f"{names} read the driver once, at the start"
        + (", from a file that does not decide it" if misled else ""),
        detail=f"The kubelet's own setting says {stated[-1]}, and the runtime decides {facts.kubelet.driver.value}."
        if misled and stated
        else "The plan makes pods on this node anew, so an agent in a pod reads it again; "
        "one that runs as a service must be restarted.",
        remediation="set cgroupDriver in the kubelet's configuration to what the runtime decides, "
        "and restart the agent"
        if misled
        else "",
        reference="F66",
    )


CHECKS = (
    Check(
        "static-pods-outage",
        (INFO,),
        ("F33",),
        "Static pods are stopped and made anew by the switch.",
        static_pods_outage,
    ),
    Check(
        "static-pod-not-running",
        (WARNING,),
        ("F33",),
        "A static pod does not run, or not with every container.",
        static_pod_not_running,
    ),
    Check("control-plane", (WARNING,), ("F33",), "The node runs an API server.", control_plane),
    Check(
        "api-node-not-drained",
        (WARNING,),
        ("F36",),
        "Pods of the API server still run on the node, and it could not be asked about them.",
        api_node_not_drained,
    ),
    Check(
        "pod-place-unknown",
        (WARNING,),
        (),
        "A live pod's place cannot be computed.",
        pod_place_unknown,
    ),
    Check(
        "other-containers",
        (WARNING,),
        ("F02", "F64"),
        "Containers outside Kubernetes are touched by the switch too.",
        other_containers,
    ),
    Check(
        "agents-read-driver",
        (WARNING, INFO),
        ("F66",),
        "An agent on this node reads the driver once, at its start.",
        agents_read_driver,
    ),
)
