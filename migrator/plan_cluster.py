# SPDX-License-Identifier: Apache-2.0
"""The cluster's part of a plan: whether the node may leave it for a while, and the steps around the switch. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.cgroups import Driver
from migrator.checks.base import command, plural, pod_label
from migrator.checks.kubeadm import edit_by_hand, renamed_by_driver
from migrator.configs import kubelet, unified_diff
from migrator.configs.text import ConfigSyntaxError
from migrator.drain import Move, preview
from migrator.errors import BlockedError, ConflictError
from migrator.facts.model import Cluster, Facts
from migrator.plan_options import PlanOptions
from migrator.plan_table import live_pods

ELSEWHERE = "drain the node elsewhere and say --already-drained, or give --kubeconfig FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapChange:
    """What becomes of the kubelet's ConfigMap: its name, and both texts of data.kubelet."""

    name: str
    before: bytes
    after: bytes


def in_cluster(facts: Facts) -> bool:
    """Tell whether the node runs and belongs to an API server."""
    return facts.node.live and (bool(facts.kubelet.kubeconfig) or facts.cluster is not None)


def gate(facts: Facts, options: PlanOptions) -> tuple[Move, ...]:
    """Return what a drain does to each pod of the node; empty for a node of no cluster.

    Raises:
        BlockedError: the API server cannot be used for it, a pod needs an option that was not given, or a node that is
            said to be drained is not.
    """
    if not in_cluster(facts):
        return ()
    cluster = facts.cluster or Cluster(reason="nobody asked the API server")
    if options.already_drained:
        _hold_drained(facts, cluster, options)
        return preview(cluster, options.drain) if cluster.reached else ()
    if not cluster.reached:
        raise BlockedError(
            f"the API server cannot be asked to drain this node: {cluster.reason}", hint=ELSEWHERE
        )
    if cluster.missing_rights:
        raise BlockedError(
            f"{cluster.kubeconfig} may not drain this node; it lacks: {', '.join(cluster.missing_rights)}",
            hint=ELSEWHERE,
        )
    if cluster.node is None:
        raise BlockedError(
            f"the API server does not give the Node {cluster.node_name}, so it cannot be cordoned",
            hint=f"{command('kubectl', '--kubeconfig', cluster.kubeconfig, 'get', 'node', cluster.node_name)}; or name it: --node NAME; or "
            + ELSEWHERE,
        )
    moves = preview(cluster, options.drain)
    refused = [move for move in moves if move.needs]
    if refused:
        raise BlockedError(
            f"{plural(len(refused), 'pod')} would not be drained without your word: "
            + "; ".join(
                f"{each.namespace}/{each.name} ({each.why}) needs {' '.join(each.needs)}" for each in refused
            ),
            hint="move them first, or plan with the options named: what they say is lost cannot be undone",
        )
    return moves


def _hold_drained(facts: Facts, cluster: Cluster, options: PlanOptions) -> None:
    """Look whether the node is drained: by the API server where it answers, else by what the runtime knows of its pods.

    Raises:
        BlockedError: pods are left.
    """
    if cluster.reached and "list pods" not in cluster.missing_rights:
        moves = preview(cluster, options.drain)
        left = [f"{each.namespace}/{each.name}" for each in moves if each.goes or each.needs]
    else:
        left = [pod_label(pod) for pod in live_pods(facts) if not (pod.static or pod.daemon_set)]
    if left:
        raise BlockedError(
            f"the node is not drained: {', '.join(sorted(set(left)))}",
            hint="kubectl drain NODE --ignore-daemonsets, from where you have access",
        )
    if cluster.node is not None and not cluster.node.unschedulable:
        raise BlockedError(
            f"{cluster.node.name} is empty but not cordoned: pods may come at any moment",
            hint=f"{command('kubectl', 'cordon', cluster.node.name)}, from where you have access",
        )


def config_map_change(facts: Facts, options: PlanOptions, text: bytes | None) -> ConfigMapChange | None:
    """Return the change of the ConfigMap that was asked for, or None: not asked for, or nothing to change.

    `text` is data.kubelet as it is now.

    Raises:
        BlockedError: it cannot be reached, is not there, may not be changed, or has a shape that cannot be edited.
        ConflictError: it changed since the facts were gathered.
    """
    if not options.cluster_config:
        return None
    cluster = facts.cluster
    if cluster is None or not cluster.reached:
        reason = cluster.reason if cluster else "this node belongs to no cluster"
        raise BlockedError(
            f"--cluster-config: the API server cannot be asked: {reason}", hint="give --kubeconfig FILE"
        )
    found = cluster.config_map
    if found is None or not found.present or text is None:
        name = found.name if found else "kubelet-config"
        raise BlockedError(
            f"--cluster-config: there is no ConfigMap kube-system/{name} (F20)",
            hint="this cluster was not made by kubeadm? plan without --cluster-config",
        )
    if hashlib.sha256(text).hexdigest() != found.sha256:
        raise ConflictError(
            f"the ConfigMap {found.name} changed while it was being looked at", hint="run it again"
        )
    try:
        edited = kubelet.set_driver(text, Driver.SYSTEMD)
    except ConfigSyntaxError as error:
        raise BlockedError(
            f"kube-system/{found.name}, data.kubelet:{error.line}: {error.message}",
            hint=f"mend it: {edit_by_hand(found)}",
        ) from error
    if not edited.edits:
        return None
    _hold_reserved(facts)
    if cluster.config_map_rights:
        raise BlockedError(
            f"{cluster.kubeconfig} may not change the ConfigMap {found.name}; it lacks: "
            + ", ".join(cluster.config_map_rights),
            hint="give --kubeconfig FILE with more rights, or plan without --cluster-config",
        )
    return ConfigMapChange(name=found.name, before=text, after=edited.text)


def _hold_reserved(facts: Facts) -> None:
    """Refuse the new driver where a ConfigMap names cgroups that are other ones under it: nobody makes them for a node that joins.

    Raises:
        BlockedError: each such setting, and its place under systemd.
    """
    others = renamed_by_driver(facts)
    if others and facts.cluster and facts.cluster.config_map:
        raise BlockedError(
            f"kube-system/{facts.cluster.config_map.name}: under systemd these are other cgroups, and the kubelet of a node "
            f"that joins exits where one is not there (F38, F43): {', '.join(others)}",
            hint="when new nodes have them before they join, change driver and names together: "
            + edit_by_hand(facts.cluster.config_map),
        )


def config_map_params(change: ConfigMapChange, cluster: Cluster, options: PlanOptions) -> dict[str, Any]:
    """Return the parameters of a `cluster-config` step."""
    return {
        "name": change.name,
        "kubeconfig": cluster.kubeconfig,
        "before": {"sha256": hashlib.sha256(change.before).hexdigest()},
        "after": {"sha256": hashlib.sha256(change.after).hexdigest()},
        "diff": unified_diff(
            f"ConfigMap kube-system/{change.name}: data.kubelet", change.before, change.after
        ),
        "api_timeout_seconds": options.api_timeout_seconds,
    }


def on_node(facts: Facts, options: PlanOptions) -> dict[str, Any] | None:
    """Return the parameters that all steps about the Node object share; None when the run leaves it alone."""
    cluster = facts.cluster
    if options.already_drained or cluster is None or not cluster.reached or cluster.node is None:
        return None
    return {
        "node": cluster.node.name,
        "uid": cluster.node.uid,
        "kubeconfig": cluster.kubeconfig,
        "api_timeout_seconds": options.api_timeout_seconds,
    }


def drain_params(moves: Sequence[Move], options: PlanOptions) -> dict[str, Any]:
    """Return what a `drain` step needs beside the node: the options, and the pods whose loss the plan has shown."""
    return {
        "force": options.force,
        "delete_emptydir_data": options.delete_emptydir_data,
        "timeout_seconds": options.drain_timeout_seconds,
        "lost": sorted(each.uid for each in moves if each.goes and each.lost),
        "data": sorted(each.uid for each in moves if each.goes and each.data_deleted),
    }


def irreversible(moves: Sequence[Move]) -> Iterator[str]:
    """Yield what a drain does that no rollback takes back."""
    evicted = [each for each in moves if each.goes and not each.lost]
    if evicted:
        yield f"{plural(len(evicted), 'pod')} evicted: made anew elsewhere, and not moved back by a rollback."
    for each in moves:
        if each.goes and each.lost:
            yield f"{each.namespace}/{each.name} is gone for good: {each.why}."
        elif each.goes and each.data_deleted:
            yield f"{each.namespace}/{each.name} loses what it keeps in its emptyDir volumes."
