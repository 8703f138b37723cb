# SPDX-License-Identifier: Apache-2.0
"""What kubeadm makes of each node while its ConfigMap and the node disagree."""

from __future__ import annotations

from migrator.checks.kubeadm import consequences
from migrator.facts.kubelets import NodeDriver


def test_each_node_is_told_what_the_next_upgrade_does_to_it() -> None:
    nodes = (
        NodeDriver(node="w1", driver="systemd", runtime="docker://20.10.24", version="v1.20.2"),
        NodeDriver(node="w2", driver="cgroupfs", runtime="containerd://1.6.20", version="v1.28.1"),
        NodeDriver(node="w3", driver="cgroupfs", runtime="docker://20.10.24", version="v1.20.2"),
        NodeDriver(node="w4", driver="cgroupfs", runtime="docker://26.1", version="v1.28.1"),
        NodeDriver(node="w5", reason="no route"),
        NodeDriver(
            node="cp1", driver="cgroupfs", runtime="docker://20.10.24", version="v1.20.2", control_plane=True
        ),
    )
    writes = "runs with cgroupfs; the next `kubeadm upgrade node` there writes systemd into /var/lib/kubelet/config.yaml; "
    then = "when the kubelet starts again after that, "
    own = "kubeadm before 1.22 asks `docker info` on a control-plane node and writes Docker's own driver"
    outside = (
        "nothing fails, and containers run outside the limits of their pods, "
        "in literal `...slice:cri-containerd:<id>` cgroups (F06)"
    )
    exits = (
        "the kubelet exits with `misconfiguration: kubelet cgroup driver: "
        '"systemd" is different from docker cgroup driver: "cgroupfs"` (F03)'
    )

    lines = consequences("systemd", nodes)

    assert [
        "w1: runs with systemd; `kubeadm upgrade node` changes nothing there",
        f"w2: {writes}{then}{outside}",
        f"w3: {writes}{then}{exits}",
        f"w4: {writes}{then}containers land in odd paths (F03)",
        "w5: its kubelet could not be asked (no route)",
        f"cp1: runs with cgroupfs, whatever the ConfigMap says: {own}",
        "a new node joins with systemd, so its runtime must use systemd too",
    ] == lines
