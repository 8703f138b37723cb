# SPDX-License-Identifier: Apache-2.0
"""What kubeadm makes of each node while its ConfigMap and the node disagree."""

from __future__ import annotations

from migrator.facts.kubelets import NodeDriver, consequences


def test_each_node_is_told_what_the_next_upgrade_does_to_it() -> None:
    nodes = (
        NodeDriver(node="w1", driver="systemd", runtime="docker://20.10.24"),
        NodeDriver(node="w2", driver="cgroupfs", runtime="containerd://1.6.20"),
        NodeDriver(node="w3", driver="cgroupfs", runtime="docker://20.10.24"),
        NodeDriver(node="w4", reason="no route"),
    )

    lines = consequences("systemd", nodes)

    assert [
        "w1: runs with systemd; `kubeadm upgrade node` changes nothing there",
        "w2: runs with cgroupfs; the next `kubeadm upgrade node` there writes systemd into "
        "/var/lib/kubelet/config.yaml, the kubelet takes it at its next start, and then puts pods at a wrong place "
        "without an error: its runtime still uses the other driver",
        "w3: runs with cgroupfs; the next `kubeadm upgrade node` there writes systemd into "
        "/var/lib/kubelet/config.yaml, the kubelet takes it at its next start, and then does not start: "
        "its runtime still uses the other driver",
        "w4: its kubelet could not be asked (no route)",
        "a new node joins with systemd, so its runtime must use systemd too",
    ] == lines
