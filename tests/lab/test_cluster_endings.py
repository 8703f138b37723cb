# SPDX-License-Identifier: Apache-2.0
"""The three endings of a containerd worker: by hand, as verification sees them and mends them, and with cgmigrate.

By hand is the documented procedure: drain, stop the kubelet, stop containerd, edit both files, start both, uncordon. The
pods that matter are the DaemonSets': they keep their uids, and containerd's containers live through its stop.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .cache import LabError
from .cluster import Cluster
from .cycle import PLAN, assert_no_guard, cgmigrate, config_files, document
from .machine import until
from .members import lacking
from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node

ADMIN = "/root/admin.conf"
CONTAINERD_CONFIG = RUNTIME_CONFIG["containerd"]
OWN = {("agent", "agent"), ("kube-proxy", "kube-proxy")}
LASTING = 15  # seconds: a kubelet looks at all its pods at once when it starts

# Debian has no crictl. This does what remedies ask of it; what the kubelet has collected meanwhile is no failure here.
CRICTL = """#!/bin/sh
exec env PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib python3 -P - "$@" <<'END'
import sys
from migrator.cri import CriControl
verb, flag, *ids = sys.argv[1:]
kind, field = {"rm": ("Container", "container_id"), "rmp": ("PodSandbox", "pod_sandbox_id")}[verb]
with CriControl() as cri:
    if flag == "-fa":
        ids = [each.id for each in cri._call(f"List{kind}").items]
    asked = [{field: each} for each in ids]
    missing = [id_ for id_, found in zip(ids, cri._all(f"{kind}Status", asked)) if found is None]
    if verb == "rmp":
        cri._each("StopPodSandbox", asked, 60)
    cri._remove(f"Remove{kind}", asked)  # what is just being started refuses: an operator tries again
if missing:
    print("not found:", *missing, file=sys.stderr)
END
"""
BY_HAND = f"""
set -e
systemctl stop kubelet
systemctl stop containerd
sed -i 's/^cgroupDriver: .*/cgroupDriver: {{driver}}/' {KUBELET_CONFIG}
sed -i -E 's/SystemdCgroup = (true|false)/SystemdCgroup = {{systemd}}/' {CONTAINERD_CONFIG}
systemctl start containerd
systemctl start kubelet
"""


@pytest.fixture
def w2(cluster: Cluster) -> Iterator[Node]:
    """Give the containerd worker on cgroupfs, and take it back to that afterwards, whatever was done to it."""
    node = cluster.nodes["w2"]
    cluster.give_admin("w2", ADMIN)
    node.write("/usr/local/bin/crictl", CRICTL)
    node.run("chmod 755 /usr/local/bin/crictl")
    before = config_files(node)
    yield node
    if any(text != before[path] for path, text in config_files(node).items()) or "kubepods.slice" in tops(
        node
    ):
        node.run("systemctl stop kubelet; systemctl start containerd; crictl rmp -fa")
        for path, text in before.items():
            node.write(path, text)
        node.reboot()
    node.run("rm -rf /var/lib/cgmigrate")
    node.wait_pods()
    cluster.kubectl("uncordon", "w2")


def by_hand(cluster: Cluster, driver: str) -> None:
    """Follow the documented procedure on w2."""
    cluster.kubectl("drain", "w2", "--ignore-daemonsets", timeout=200)
    script = BY_HAND.format(driver=driver, systemd=str(driver == "systemd").lower())
    cluster.nodes["w2"].run(script)
    cluster.kubectl("uncordon", "w2")


def own(node: Node) -> dict[str, str]:
    """Return id → cgroup in the memory hierarchy of each container of the DaemonSets."""
    found = {}
    for each in node.containers():
        if each.name in dict(OWN):
            [path] = {
                path
                for _, controllers, path in (
                    line.split(":", 2) for line in node.read(f"/proc/{each.pid}/cgroup").splitlines()
                )
                if controllers == "memory"
            }
            found[each.id] = path
    return found


def tops(node: Node) -> set[str]:
    """Return the kubepods trees of the node, in any hierarchy."""
    return {path.split("/")[1] for paths in node.cgroups().values() for path in paths}


def assert_ready(cluster: Cluster, since: float) -> None:
    """The API calls the node Ready, by a heartbeat since then, and all its pods Running and ready."""
    cluster.until_nothing_lacks("w2", lambda: lacking(heard(cluster), {"w2": since}), 120)


def heard(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """Return what the API says of w2; a container need not be new to be ready."""
    objects = cluster.objects()
    for pod in objects["Pod"]:
        for each in pod["status"].get("containerStatuses", []):
            each["state"].get("running", {})["startedAt"] = "2100-01-01T00:00:00Z"
    return objects


def assert_replaced(node: Node, old: dict[str, str]) -> dict[str, str]:
    """The kubelet has made every container anew; return them."""
    found: dict[str, str] = {}

    def new() -> bool:
        found.clear()
        with contextlib.suppress(LabError):  # one of them ended while it was looked at
            found.update(own(node))
        return len(found) == len(OWN) and not found.keys() & old.keys()

    until("new containers", new, 90, 0.5)
    return found


def assert_kept(cluster: Cluster, old: dict[str, str], began: float) -> None:
    """Nothing has happened to any container, place included, and nobody complains."""
    assert_ready(cluster, began)
    time.sleep(max(0, began + LASTING - time.time()))
    assert_ready(cluster, began)
    assert old == own(cluster.nodes["w2"])


def scopes(found: dict[str, str]) -> list[bool]:
    return [
        bool(re.fullmatch(rf"/kubepods\.slice/.+\.slice/cri-containerd-{id_}\.scope", path))
        for id_, path in found.items()
    ]


def ids(found: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in found["findings"] if finding["severity"] == "blocker"}


def finding(found: dict[str, Any], id_: str) -> dict[str, Any]:
    [only] = [each for each in found["findings"] if each["id"] == id_]
    assert isinstance(only, dict)
    return only


def follow_remedies(cluster: Cluster, *expect: str) -> list[str]:
    """Do what verification says until it is content, the first thing first; return whose remedies these were."""
    node = cluster.nodes["w2"]
    followed: list[str] = []
    while not (found := document(node, "verify", *expect, check=None))["ok"]:
        assert len(followed) < 6, found["findings"]
        first = found["findings"][0]
        followed.append(first["id"])
        for word in first["remediation"].split(", then "):
            if word.startswith("set "):  # for the operator's editor
                assert f" in {CONTAINERD_CONFIG}" in word
                config = node.read(CONTAINERD_CONFIG)
                node.write(CONTAINERD_CONFIG, config.replace("SystemdCgroup = false", "SystemdCgroup = true"))
            else:
                node.run(word)
        node.wait_pods()
    assert 0 == cgmigrate(node, "verify", *expect).returncode
    return followed


def apply_plan(node: Node) -> None:
    cgmigrate(node, "plan", "--kubeconfig", ADMIN, "-o", PLAN)
    cgmigrate(node, "apply", PLAN, "--yes")
    node.wait_pods()
    assert document(node, "verify")["ok"]
    assert {"kubepods.slice"} == tops(node)
    assert all(scopes(own(node)))
    assert_no_guard(node)


@pytest.mark.slow
def test_the_clean_ending_leaves_the_old_tree_and_dead_containers(cluster: Cluster, w2: Node) -> None:
    old = own(w2)
    assert len(OWN) == len(old)
    by_hand(cluster, "systemd")
    assert all(scopes(assert_replaced(w2, old)))
    w2.wait_pods()

    assert {"verify-old-tree", "verify-old-container"} == ids(document(w2, "verify", check=3))
    assert {"kubepods", "kubepods.slice"} == tops(w2)
    follow_remedies(cluster)
    assert {"kubepods.slice"} == tops(w2)


@pytest.mark.slow
def test_a_stale_slice_keeps_pods_in_the_old_tree_silently_and_cgmigrate_does_not_leave_it(
    cluster: Cluster, w2: Node
) -> None:
    """Forward and back by hand leaves slices; the next switch by hand then moves nothing, and nobody says so."""

    def forth_and_back() -> dict[str, str]:
        """Have the pods on cgroupfs, and slices of theirs that nobody removed."""
        old = own(w2)
        if not all(scopes(old)):
            by_hand(cluster, "systemd")
            old = assert_replaced(w2, old)
        began = time.time()
        by_hand(cluster, "cgroupfs")
        if "kubepods" in tops(w2):  # the mirror image: the tree of before was never removed either
            assert_kept(cluster, old, began)
            assert all(scopes(own(w2)))
            assert "verify-place" in ids(document(w2, "verify", "--expect", "cgroupfs", check=3))
            w2.run("crictl rmp -fa")
        now = assert_replaced(w2, old)
        assert all(path.startswith("/kubepods/") for path in now.values())
        w2.wait_pods()
        assert {"kubepods", "kubepods.slice"} == tops(w2)
        return now

    old = forth_and_back()
    stale = finding(document(w2, "audit", "--kubeconfig", ADMIN), "stale-target-tree")
    assert "would stay in the old tree without any error" in stale["detail"]

    began = time.time()
    by_hand(cluster, "systemd")
    assert_kept(cluster, old, began)
    assert all(path.startswith("/kubepods/") for path in own(w2).values())
    found = document(w2, "verify", check=3)
    assert {"verify-old-tree", "verify-old-container", "verify-place"} == ids(found)
    assert finding(document(w2, "audit"), "old-tree-left")["reference"] == "F30"
    follow_remedies(cluster)
    assert all(scopes(own(w2)))

    # The same situation, and cgmigrate: forward, back, and forward again.
    forth_and_back()
    assert finding(document(w2, "audit", "--kubeconfig", ADMIN), "stale-target-tree")
    apply_plan(w2)
    cgmigrate(w2, "rollback", "--yes")
    w2.wait_pods()
    assert {"kubepods"} == tops(w2)
    assert document(w2, "verify", "--expect", "cgroupfs")["ok"]

    # What a stopped kubepods.slice leaves: directories of the very pods, and no unit.
    plan = json.loads(cgmigrate(w2, "plan", "--kubeconfig", ADMIN, "--format", "json").stdout)
    for row in plan["translations"]:
        if row["kind"] == "pod":
            w2.run(f"for each in /sys/fs/cgroup/*/; do mkdir -p $each{row['to_path']}; done")
    assert {"kubepods", "kubepods.slice"} == tops(w2)
    assert finding(document(w2, "audit", "--kubeconfig", ADMIN), "stale-target-tree")
    apply_plan(w2)


@pytest.mark.slow
def test_a_kubelet_switched_alone_is_refused_before_and_found_after(cluster: Cluster, w2: Node) -> None:
    """Its pods run in literal directories outside every limit; putting containerd right later does not move them."""
    old = own(w2)
    config = w2.read(KUBELET_CONFIG)
    w2.write(KUBELET_CONFIG, config.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd"))
    differ = finding(document(w2, "audit", check=3), "drivers-differ")
    assert ("blocker", "F06") == (differ["severity"], differ["reference"])
    assert "kubelet uses systemd" in cgmigrate(w2, "plan", "--kubeconfig", ADMIN, check=3).stderr

    cluster.kubectl("drain", "w2", "--ignore-daemonsets", timeout=200)
    began = time.time()
    w2.run("systemctl restart kubelet containerd")
    cluster.kubectl("uncordon", "w2")
    now = assert_replaced(w2, old)
    assert all(f".slice:cri-containerd:{id_}" in path for id_, path in now.items())
    assert_ready(cluster, began)

    found = document(w2, "verify", check=3)
    assert {"verify-runtime-driver", "verify-literal-cgroup", "verify-place"} <= ids(found)
    assert "4 containers" in finding(found, "verify-literal-cgroup")["summary"]
    audit = document(w2, "audit", check=3)
    assert finding(audit, "literal-cgroups")
    assert finding(audit, "drivers-differ")

    followed = follow_remedies(cluster)
    assert followed.index("verify-runtime-driver") < followed.index("verify-literal-cgroup")
    assert all(scopes(own(w2)))
    assert {"kubepods.slice"} == tops(w2)


@pytest.mark.slow
def test_cgmigrate_forward_back_and_forward_again_ends_right(cluster: Cluster, w2: Node) -> None:
    before = config_files(w2)
    apply_plan(w2)
    cgmigrate(w2, "rollback", "--yes")
    w2.wait_pods()
    assert before == config_files(w2)
    assert {"kubepods"} == tops(w2)
    apply_plan(w2)
    assert cluster.get("node", "w2")["spec"].get("unschedulable") is None
