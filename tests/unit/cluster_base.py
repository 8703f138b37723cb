# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster that nothing is wrong with: what its API server says, and how to say what is different."""

from __future__ import annotations

from dataclasses import replace

from migrator.facts.model import Budget, Cluster, ClusterNode, ClusterPod, KubeletConfigMap

ADMIN = "/etc/kubernetes/admin.conf"


def cluster_node(name: str = "worker-1", **fields: object) -> ClusterNode:
    usual = ClusterNode(name=name, uid=f"{name}-uid", machine_id="2e1c", ready=True, kubelet_version="1.20.2")
    return replace(usual, **fields)  # type: ignore[arg-type]


def cluster_pod(name: str = "web-5d4-x", **fields: object) -> ClusterPod:
    """A pod of a ReplicaSet, running and ready, without budget and data."""
    usual = ClusterPod(
        namespace="default",
        name=name,
        uid=f"{name}-uid",
        phase="Running",
        ready=True,
        owner_kind="ReplicaSet",
        owner_name="web-5d4",
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


BARE = cluster_pod("bare", owner_kind="", owner_name="")
AGENT = cluster_pod("agent-x", owner_kind="DaemonSet", owner_name="agent")
ORPHAN = replace(AGENT, owner_exists=False)
MIRROR = cluster_pod(
    "etcd-worker-1", namespace="kube-system", mirror=True, owner_kind="Node", owner_name="worker-1"
)
SCRATCH = cluster_pod("scratch-7c-y", local_data=True)
KEPT = cluster_pod("strict-7c-z", budgets=("strict",))
STRICT = Budget(namespace="default", name="strict", allowed=0, healthy=1, desired=1, expected=1)

REACHED = Cluster(
    kubeconfig=ADMIN,
    origin="admin",
    reached=True,
    server="https://10.99.0.2:6443",
    version="1.20.2",
    kubectl="1.20.2",
    node_name="worker-1",
    node=cluster_node(),
    control_plane=(cluster_node("cp1", control_plane=True),),
    etcd_members=1,
    config_map=KubeletConfigMap(name="kubelet-config-1.20", present=True, driver="systemd"),
)
"""A worker, nothing on it that a drain would meet; the ConfigMap is what the node will be."""


def cluster(**fields: object) -> Cluster:
    return replace(REACHED, **fields)  # type: ignore[arg-type]
