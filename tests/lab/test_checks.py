# SPDX-License-Identifier: Apache-2.0
"""What the audit says of a restart of the kubelet, and of what is left over: the real kubelet and systemd agree."""

from __future__ import annotations

import time

from .conftest import MakeNode
from .cycle import PLAN, cgmigrate, document
from .node import KUBELET_CONFIG, Node

STATE = "/var/lib/kubelet/cpu_manager_state"
RESERVED = "systemReservedCgroup: /system.slice\nenforceNodeAllocatable: [pods, system-reserved]\n"
REMOVE = (
    "from migrator.cri import CriControl\n"
    "with CriControl('/run/containerd/containerd.sock') as cri:\n"
    "    cri.remove_kubernetes(print, 1)\n"
)
HIERARCHIES = "cpu cpuacct cpuset memory pids hugetlb systemd"


def found(node: Node) -> dict[str, str]:
    """Return the findings of an audit now, the first summary of each id."""
    findings = document(node, "audit", check=None)["findings"]
    return {finding["id"]: finding["summary"] for finding in reversed(findings)}


def restarted(node: Node, says: str = "") -> bool:
    """Restart the kubelet; tell whether it answers, or say that it ended with these words."""
    node.run("systemctl reset-failed kubelet; systemctl restart kubelet", check=False)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        log = node.run("journalctl -u kubelet -o cat --since=-90s")
        if says and says in log.stdout:
            return False
        if not says and node.healthy():
            return True
        time.sleep(1)
    return False


def test_a_checkpoint_of_another_policy_keeps_the_kubelet_down_as_the_audit_says(make_node: MakeNode) -> None:
    node = make_node("containerd")
    kept = node.read(STATE)
    assert "checkpoint-policy" not in found(node)

    node.write(STATE, kept.replace('"none"', '"static"'))

    assert "checkpoint-policy" in found(node)
    assert not restarted(node, 'configured policy "none" differs from state checkpoint policy "static"')
    node.write(STATE, kept)
    assert restarted(node)
    assert "checkpoint-policy" not in found(node)


def test_a_reserved_slice_must_be_in_every_hierarchy_as_the_audit_says(make_node: MakeNode) -> None:
    node = make_node("containerd")
    config = node.read(KUBELET_CONFIG)

    node.write(KUBELET_CONFIG, config + RESERVED)

    assert {"reserved-cgroup-missing", "reserved-limits-reset"} <= set(found(node))
    assert not restarted(node, '["system"] cgroup does not exist')
    node.run(f"for each in {HIERARCHIES}; do mkdir -p /sys/fs/cgroup/$each/system.slice; done", check=False)
    assert "reserved-cgroup-missing" not in found(node)
    assert restarted(node)


def test_only_what_the_switch_left_over_is_found_after_it(make_node: MakeNode) -> None:
    node = make_node("containerd")
    cgmigrate(node, "plan", "-o", PLAN)
    cgmigrate(node, "apply", PLAN, "--yes")
    left = {"leaked-pod-units", "slice-unit-files", "kubelet-slice-drop-ins"}
    assert left & set(found(node)) == set()

    node.run(["systemctl", "stop", "kubelet"])
    node.write("/root/remove.py", REMOVE)
    node.run("PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib python3 -P /root/remove.py")
    node.run(["mkdir", "-p", "/etc/systemd/system/kubepods-.slice.d"])
    node.write("/etc/systemd/system/kubepods-.slice.d/x.conf", "[Slice]\nTasksMax=99\n")
    node.write("/etc/systemd/system/kubepods.slice", "[Slice]\n")

    findings = found(node)
    assert left <= set(findings)
    assert findings["leaked-pod-units"].startswith("3 slices and 0 scopes ")
