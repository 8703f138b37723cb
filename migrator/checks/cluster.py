# SPDX-License-Identifier: Apache-2.0
"""Checks of what the API server says about this node: whether it can be drained, and whether the control plane bears it.

Nothing is found where no API server was asked, nor on a node that is on systemd already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrator.checks.base import (
    BLOCKER,
    INFO,
    WARNING,
    Check,
    command,
    is_switched,
    plural,
)
from migrator.drain import DELETE_DATA, FORCE, DrainOptions, Move, preview
from migrator.facts.model import Cluster, Facts
from migrator.findings import Finding

_ELSEWHERE = "drain the node elsewhere and say --already-drained"


def reached(facts: Facts) -> Cluster | None:
    """Return what the API server says where it matters: nothing of a node that is on systemd already will move."""
    return facts.cluster if facts.cluster and facts.cluster.reached and not is_switched(facts) else None


def api_unreachable(facts: Facts) -> Iterator[Finding]:
    """Find an API server that cannot be asked."""
    cluster = facts.cluster
    if cluster is None or cluster.reached or is_switched(facts):
        return
    yield Finding(
        id="api-unreachable",
        severity=WARNING,
        subject=cluster.server or cluster.kubeconfig or "kubeconfig",
        summary="the API server cannot be asked, so this node can be neither cordoned nor drained from here",
        detail=cluster.reason,
        remediation=f"give a kubeconfig that works: --kubeconfig FILE; or {_ELSEWHERE}",
        reference="F36",
    )


def api_rights_missing(facts: Facts) -> Iterator[Finding]:
    """Find rights that a drain needs and the kubeconfig's user lacks."""
    cluster = reached(facts)
    if cluster is None:
        return
    budgets = () if cluster.budgets_known else ("list poddisruptionbudgets.policy",)
    lacking = (*cluster.missing_rights, *budgets)
    if lacking:
        yield Finding(
            id="api-rights-missing",
            severity=WARNING,
            subject=cluster.kubeconfig,
            summary=f"the user of {cluster.kubeconfig} may not: {', '.join(lacking)}",
            detail="A drain from here needs them."
            if cluster.missing_rights
            else "A drain works without it; which pods a budget keeps shows only then.",
            remediation=f"give the kubeconfig of somebody who may: --kubeconfig FILE; or {_ELSEWHERE}",
            reference="F33",
        )


def api_node_mismatch(facts: Facts) -> Iterator[Finding]:
    """Find a Node object that is not this machine's, or none at all."""
    cluster = reached(facts)
    if cluster is None:
        return
    node, here = cluster.node, facts.node.machine_id
    if node is None:
        told = {unknown.subject for unknown in facts.unknowns}
        if "get nodes" in cluster.missing_rights or "cluster.node" in told:
            return
        summary = f"{cluster.server} has no Node {cluster.node_name}"
        detail = "The name is the one that the kubelet is given, or the hostname in lower case."
    elif node.machine_id and here and node.machine_id != here:
        summary = f"the Node {node.name} of {cluster.server} is another machine"
        detail = f"Its machine id is {node.machine_id}, this machine's is {here}."
    else:
        return
    yield Finding(
        id="api-node-mismatch",
        severity=BLOCKER,
        subject=f"node/{cluster.node_name}",
        summary=summary,
        detail=f"{detail} Cordon and drain would hit the wrong node, or nothing.",
        remediation="name the Node of this machine: --node NAME; or give the kubeconfig of its cluster: "
        "--kubeconfig FILE",
    )


def node_cordoned(facts: Facts) -> Iterator[Finding]:
    """Tell that the node is cordoned already."""
    cluster = reached(facts)
    if cluster and cluster.node and cluster.node.unschedulable:
        by = f" by the run {cluster.node.run.partition(':')[0]}" if cluster.node.run else ""
        yield Finding(
            id="node-cordoned",
            severity=INFO,
            subject=f"node/{cluster.node.name}",
            summary=f"the node is cordoned already{by}"
            + ("" if by else ", and will stay so after the switch: somebody else did it"),
            remediation="" if by else command("kubectl", "uncordon", cluster.node.name),
        )


def drain_blocked(facts: Facts) -> Iterator[Finding]:
    """Find pods that a budget keeps now."""
    kept = [move for move in _moves(facts) if move.budget]
    if kept:
        namespaces = sorted({move.namespace for move in kept})
        yield Finding(
            id="drain-blocked",
            severity=WARNING,
            subject=_label(kept[0]),
            summary=f"{plural(len(kept), 'pod')} may not be evicted now: "
            + "; ".join(f"{_label(move)} (budget {move.budget})" for move in kept),
            detail="The drain tries again every 5 s until its timeout; if nothing changes, the run is taken back.",
            remediation="; ".join(command("kubectl", "get", "pdb", "-n", each) for each in namespaces),
            reference="F34",
        )


def drain_lost(facts: Facts) -> Iterator[Finding]:
    """Find pods that nothing makes anew."""
    lost = [move for move in _moves(facts) if move.lost]
    if lost:
        yield Finding(
            id="drain-lost",
            severity=WARNING,
            subject=_label(lost[0]),
            summary=f"{plural(len(lost), 'pod')} would be gone for good: {_reasons(lost)}",
            detail="A drain refuses to begin while they are here, unless it is told to evict them.",
            remediation=f"move them first, or plan with {FORCE}",
            reference="F36",
        )


def drain_local_data(facts: Facts) -> Iterator[Finding]:
    """Find pods that keep data in an emptyDir."""
    local = [move for move in _moves(facts) if move.data_deleted]
    if local:
        yield Finding(
            id="drain-local-data",
            severity=WARNING,
            subject=_label(local[0]),
            summary=f"{plural(len(local), 'pod')} would lose the data in emptyDir volumes: {_reasons(local)}",
            detail="A drain refuses to begin while they are here, unless it is told to delete it.",
            remediation=f"save what matters, or plan with {DELETE_DATA}",
            reference="F35",
        )


def _moves(facts: Facts) -> tuple[Move, ...]:
    cluster = reached(facts)
    return preview(cluster, DrainOptions()) if cluster else ()


def _label(move: Move) -> str:
    return f"{move.namespace}/{move.name}"


def _reasons(moves: Iterable[Move]) -> str:
    return ", ".join(f"{_label(move)} ({move.why})" for move in moves)


def etcd_quorum(facts: Facts) -> Iterator[Finding]:
    """Find an etcd that has no majority without the member on this node."""
    cluster = reached(facts)
    if cluster is None or cluster.etcd_members < 3:  # one or two have none without any: see control-plane
        return
    here = f"etcd-{cluster.node_name}"
    if not any(pod.mirror and (pod.namespace, pod.name) == ("kube-system", here) for pod in cluster.pods):
        return
    others = cluster.etcd_members - 1 - len(set(cluster.etcd_unready) - {cluster.node_name})
    if others <= cluster.etcd_members // 2:
        yield Finding(
            id="etcd-quorum",
            severity=BLOCKER,
            subject=f"kube-system/{here}",
            summary=f"etcd has no majority without the member on this node: "
            f"{others} of {cluster.etcd_members} would be ready",
            detail="Not ready: etcd on " + ", ".join(cluster.etcd_unready),
            remediation=command(
                "kubectl", "get", "pods", "-n", "kube-system", "-l", "component=etcd", "-o", "wide"
            ),
            reference="F33",
        )


def etcd_unhealthy(facts: Facts) -> Iterator[Finding]:
    """Find an etcd that the API server calls unhealthy, before a node of the control plane."""
    cluster = facts.cluster
    if cluster is None or cluster.etcd_healthy is not False or is_switched(facts):
        return
    # An API server without its etcd tells nothing of the Node; then the static pods here do.
    by_label = cluster.node is not None and cluster.node.control_plane
    if by_label or any(each.static and each.name.startswith("kube-apiserver") for each in facts.pods):
        yield Finding(
            id="etcd-unhealthy",
            severity=BLOCKER,
            subject=cluster.server,
            summary="the API server says that its etcd is not healthy",
            remediation=command("kubectl", "get", "--raw", "/readyz/etcd"),
            reference="F33",
        )


def control_plane_busy(facts: Facts) -> Iterator[Finding]:
    """Find another node of the control plane that is away, or in a run."""
    cluster = reached(facts)
    if cluster is None or cluster.node is None or not cluster.node.control_plane:
        return
    for each in cluster.control_plane:
        why = f"is in the run {each.run.partition(':')[0]} of cgmigrate" if each.run else "is not Ready"
        if each.name != cluster.node.name and (each.run or not each.ready):
            yield Finding(
                id="control-plane-busy",
                severity=BLOCKER,
                subject=f"node/{each.name}",
                summary=f"{each.name} of the control plane {why}, and only one at a time may be away",
                remediation=f"`cgmigrate status` on {each.name}"
                if each.run
                else command("kubectl", "get", "nodes"),
                reference="F33",
            )


CHECKS = (
    Check("api-unreachable", (WARNING,), ("F36",), "The API server cannot be asked.", api_unreachable),
    Check(
        "api-rights-missing",
        (WARNING,),
        ("F33",),
        "The kubeconfig's user may not do all that a drain needs.",
        api_rights_missing,
    ),
    Check(
        "api-node-mismatch",
        (BLOCKER,),
        (),
        "The API server's Node of this name is another machine, or there is none.",
        api_node_mismatch,
    ),
    Check("node-cordoned", (INFO,), (), "The node is cordoned already, and stays so.", node_cordoned),
    Check(
        "drain-blocked", (WARNING,), ("F34",), "A PodDisruptionBudget keeps a pod on the node.", drain_blocked
    ),
    Check("drain-lost", (WARNING,), ("F36",), "A pod would be evicted for good.", drain_lost),
    Check(
        "drain-local-data",
        (WARNING,),
        ("F35",),
        "A pod would lose what it keeps in an emptyDir.",
        drain_local_data,
    ),
    Check(
        "etcd-quorum",
        (BLOCKER,),
        ("F33",),
        "etcd has no majority without this node's member.",
        etcd_quorum,
    ),
    Check("etcd-unhealthy", (BLOCKER,), ("F33",), "The API server calls its etcd unhealthy.", etcd_unhealthy),
    Check(
        "control-plane-busy",
        (BLOCKER,),
        ("F33",),
        "Another node of the control plane is away, or in a run.",
        control_plane_busy,
    ),
)
