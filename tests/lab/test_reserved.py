# SPDX-License-Identifier: Apache-2.0
"""A kubelet with a cgroup root, and one with a reserved cgroup: forward, back and forward again, and after a reboot."""

from __future__ import annotations

import json

import pytest

from .conftest import MakeNode
from .cycle import PLAN, cgmigrate, document, files
from .node import KUBELET_CONFIG, Node

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "systemd")
MEMORY = 200 * 1024 * 1024
RESERVED = (
    "kubeReserved: {cpu: 100m, memory: 200Mi}\nkubeReservedCgroup: /kube-reserved\n"
    "kubeletCgroups: /kube-reserved\nenforceNodeAllocatable: [pods, kube-reserved]\n"
)
BY_FLAGS = (
    "--kube-reserved=cpu=100m,memory=200Mi --kube_reserved_cgroup /a/b-c --kubelet-cgroups=/a/b-c/kubelet"
    " --enforce-node-allocatable=pods,kube-reserved"
)


def give(node: Node, settings: str, name: str, flags: str = "") -> None:
    """Have the kubelet start with these settings, and a drop-in of its owner's make the cgroup as cgroupfs spells it."""
    node.write(KUBELET_CONFIG, node.read(KUBELET_CONFIG) + settings)
    node.write("/etc/default/kubelet", f'KUBELET_EXTRA_ARGS="{flags}"\n')
    directories = " ".join(f"/sys/fs/cgroup/{each}/{name}" for each in CONTROLLERS)
    node.write(
        "/etc/systemd/system/kubelet.service.d/15-ours.conf",
        f"[Service]\nExecStartPre=/bin/mkdir -p {directories}\n",
    )
    pods = {
        "docker": "docker ps -aq | xargs -r docker rm -f",
        "containerd": "ctr -n k8s.io tasks ls -q | xargs -r -n1 ctr -n k8s.io tasks kill -s KILL",
    }
    node.run(
        f"systemctl daemon-reload; systemctl stop kubelet; {pods[node.flavour]}; systemctl start kubelet"
    )
    node.wait_pods()


def there(node: Node, name: str) -> list[str]:
    """Return the hierarchies that have a cgroup at their top."""
    found = node.run(f"ls -d /sys/fs/cgroup/*/{name} 2>/dev/null || true").stdout.split()
    return sorted(each.split("/")[4] for each in found)


def forward_back_and_forward(node: Node, place: str) -> None:
    """The whole promise; the second plan is the first one, so nothing that the first has made was taken for somebody's."""
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    steps = json.loads(node.read(PLAN))["steps"]
    cgmigrate(node, "apply", PLAN, "--yes")
    assert document(node, "verify")["ok"]
    cgmigrate(node, "rollback", "--yes")
    assert original == files(node)
    assert document(node, "verify", "--expect", "cgroupfs")["ok"]
    assert [] == there(node, place.lstrip("/"))
    cgmigrate(node, "plan", "-o", PLAN)
    assert steps == json.loads(node.read(PLAN))["steps"]
    cgmigrate(node, "apply", PLAN, "--yes")
    assert document(node, "verify")["ok"]


@pytest.mark.parametrize("flavour", ["docker", "containerd"])
def test_a_cgroup_root_has_its_slice_and_a_tree_at_the_top_is_stale(
    make_node: MakeNode, flavour: str
) -> None:
    """The tree of the kubelet's life before the root stands at the top: it goes like any other stale one."""
    node = make_node(flavour)
    give(node, "cgroupRoot: /pods\n", "pods")
    assert "memory" in there(node, "kubepods")

    forward_back_and_forward(node, "/pods.slice")

    assert [] == there(node, "kubepods") + there(node, "kubepods.slice")
    assert set(CONTROLLERS) <= set(there(node, "pods.slice"))
    for container in node.containers():
        assert ":memory:/pods.slice/pods-kubepods.slice/" in node.read(f"/proc/{container.pid}/cgroup")
    node.reboot()
    node.wait_pods()
    assert document(node, "verify")["ok"]


@pytest.mark.parametrize(
    ("flavour", "settings", "flags", "name", "place", "own"),
    [
        ("docker", RESERVED, "", "kube-reserved", "/kube_reserved.slice", ""),
        ("containerd", "", BY_FLAGS, "a/b-c", "/a.slice/a-b_c.slice", "/kubelet"),
    ],
    ids=["docker, by the file", "containerd, by flags, nested"],
)
def test_a_reserved_cgroup_is_enforced_on_its_slice_and_holds_the_kubelet(
    *, make_node: MakeNode, flavour: str, settings: str, flags: str, name: str, place: str, own: str
) -> None:
    """The limits outlive a daemon-reload, which would take back what the kubelet alone has written (F42)."""
    node = make_node(flavour)
    give(node, settings, name, flags)

    forward_back_and_forward(node, place)

    def enforced() -> tuple[int, int]:
        memory = node.read(f"/sys/fs/cgroup/memory{place}/memory.limit_in_bytes")
        return int(memory), int(node.read(f"/sys/fs/cgroup/cpu{place}/cpu.shares"))

    assert (MEMORY, 102) == enforced()
    node.run("systemctl daemon-reload")
    assert (MEMORY, 102) == enforced()
    pid = node.run("pidof kubelet").stdout.strip()
    assert f":memory:{place}{own}\n" in node.read(f"/proc/{pid}/cgroup")
    node.reboot()
    node.wait_pods()
    assert (MEMORY, 102) == enforced()
    assert document(node, "verify")["ok"]
