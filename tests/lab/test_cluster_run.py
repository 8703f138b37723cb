# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a real kubeadm cluster: workers under traffic, the control plane, and the ConfigMap between them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.crash.cases import back, forward

from .cluster import Cluster
from .conftest import MakeCluster
from .cycle import PLAN, assert_no_guard, cgmigrate, document, files
from .machine import until
from .node import KUBELET_CONFIG, Node
from .test_killed import journal
from .test_simulator import originals_of, records, twin
from .traffic import traffic

ADMIN = "/root/admin.conf"
# etcd's own API as JSON, past the API server; keys and values are in base64 there.
ETCD = (
    "curl --silent --fail --cacert /etc/kubernetes/pki/etcd/ca.crt"
    " --cert /etc/kubernetes/pki/apiserver-etcd-client.crt --key /etc/kubernetes/pki/apiserver-etcd-client.key"
    " https://127.0.0.1:2379/v3/kv"
)
KEY, VALUE = (base64.b64encode(text).decode() for text in (b"survivor", b"value"))


def node_of(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("node", name)
    return found


def is_schedulable(cluster: Cluster, name: str) -> bool:
    return not node_of(cluster, name)["spec"].get("unschedulable", False)


def marks(cluster: Cluster) -> list[str]:
    return [
        mark
        for node in cluster.get("nodes")
        if (mark := node["metadata"].get("annotations", {}).get("cgmigrate/run"))
    ]


def places(node: Node) -> set[str]:
    """Return the top of every cgroup that a container of the node lives in, in all hierarchies."""
    return {path.split("/")[1] for paths in node.cgroups().values() for path in paths}


def pod_slice(pod: dict[str, Any]) -> str:
    """Return the slice that the systemd driver gives a pod of the API."""
    uid = pod["metadata"].get("annotations", {}).get("kubernetes.io/config.hash", pod["metadata"]["uid"])
    qos = {"Guaranteed": "", "Burstable": "burstable", "BestEffort": "besteffort"}[pod["status"]["qosClass"]]
    parent = f"/kubepods-{qos}.slice" if qos else ""
    name = f"kubepods-{qos}-pod" if qos else "kubepods-pod"
    return f"/kubepods.slice{parent}/{name}{uid.replace('-', '_')}.slice"


def pods_on(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    found = cluster.get("pods", "-A", "--field-selector", f"spec.nodeName={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def assert_all_at_their_place(cluster: Cluster, name: str) -> None:
    """Every pod that the API binds to the node is in the very slice that its uid and QoS class give."""
    node = cluster.nodes[name]
    node.wait_pods()  # the API tells of before for a while
    memory = set(node.cgroups()["memory"])
    wanted = {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod_slice(pod)
        for pod in pods_on(cluster, name)
    }
    assert {} == {pod: place for pod, place in wanted.items() if place not in memory}
    assert {"kubepods.slice"} == places(node)


def kept(cluster: Cluster, name: str) -> set[str]:
    """Return the uids of the DaemonSets' pods of a node: they keep them through everything."""
    return {
        pod["metadata"]["uid"]
        for pod in pods_on(cluster, name)
        if pod["metadata"].get("ownerReferences", [{}])[0].get("kind") == "DaemonSet"
    }


def plan(cluster: Cluster, name: str, *options: str, admin: bool = True) -> None:
    if admin and name != "cp1":
        cluster.give_admin(name, ADMIN)
        options = ("--kubeconfig", ADMIN, *options)
    cgmigrate(cluster.nodes[name], "plan", "-o", PLAN, *options)


def move_one_here(cluster: Cluster, name: str) -> None:
    """Have one pod of the Deployment made anew on a node: evicted pods do not come back by themselves."""
    other = {"w1": "w2", "w2": "w1"}[name]
    cluster.kubectl("cordon", other)
    [pod, *_] = [
        pod["metadata"]["name"]
        for pod in pods_on(cluster, other)
        if pod["metadata"]["name"].startswith("web-")
    ]
    cluster.kubectl("delete", "pod", pod)
    cluster.kubectl("uncordon", other)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    assert any(pod["metadata"]["name"].startswith("web-") for pod in pods_on(cluster, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["w1", "w2"])
def test_a_worker_is_switched_and_taken_back_while_a_service_is_called(
    make_cluster: MakeCluster, tmp_path: Path, name: str
) -> None:
    """No request to the Service is lost, and its budget holds at every moment, forward and back.

    The simulated node that crashes are tested on goes the same way, record for record.
    """
    cluster = make_cluster()
    node = cluster.nodes[name]
    originals = originals_of(node)
    before, own = files(node), kept(cluster, name)
    assert own
    plan(cluster, name)
    with traffic(cluster) as seen:
        done = cgmigrate(node, "apply", PLAN, "--yes")
    assert "evicted" in done.stderr
    assert ({"200"}, True) == (set(seen.answers), seen.requests > 100), seen.answers
    assert min(seen.ready) >= 2, seen.ready
    assert is_schedulable(cluster, name)
    assert [] == marks(cluster)
    assert own == kept(cluster, name)
    cluster.wait()
    assert_all_at_their_place(cluster, name)
    assert_no_guard(node)
    assert document(node, "verify", "--format", "json")["ok"]
    machine, run = twin(node, originals, tmp_path / "twin")
    assert ("done", journal(node)) == (forward(machine, run), records(run))

    move_one_here(cluster, name)
    with traffic(cluster) as seen:
        done = cgmigrate(node, "rollback", "--yes")
    assert "evicted" in done.stderr
    assert ({"200"}, True) == (set(seen.answers), seen.requests > 100), seen.answers
    assert min(seen.ready) >= 2, seen.ready
    assert before == files(node)
    assert is_schedulable(cluster, name)
    assert [] == marks(cluster)
    cluster.wait()
    assert own == kept(cluster, name)
    assert {"kubepods"} == places(node)
    assert ("rolled back", journal(node)) == (back(machine, run), records(run))


@pytest.mark.slow
def test_the_control_plane_is_switched_and_taken_back(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """Its own API server goes away in the middle; a key in etcd and an object are there afterwards, both times."""
    cluster = make_cluster()
    node = cluster.nodes["cp1"]
    originals = originals_of(node)
    before, own = files(node), kept(cluster, "cp1")
    cluster.kubectl("create", "configmap", "survivor", "--from-literal=key=value")
    node.run(f"{ETCD}/put -d '{json.dumps({'key': KEY, 'value': VALUE})}'")
    audit = document(node, "audit")
    assert {"control-plane"} <= {finding["id"] for finding in audit["findings"]}
    plan(cluster, "cp1")

    def holds() -> None:
        assert "value" == cluster.get("configmap", "survivor")["data"]["key"]
        answer = json.loads(node.run(f"{ETCD}/range -d '{json.dumps({'key': KEY})}'").stdout)
        assert [VALUE] == [each["value"] for each in answer["kvs"]]
        assert is_schedulable(cluster, "cp1")
        assert [] == marks(cluster)
        assert own == kept(cluster, "cp1")

    done = cgmigrate(node, "apply", PLAN, "--yes")
    assert "cp1 is uncordoned" in done.stderr
    holds()
    cluster.wait()
    assert_all_at_their_place(cluster, "cp1")
    machine, run = twin(node, originals, tmp_path / "twin")
    assert ("done", journal(node)) == (forward(machine, run), records(run))

    cgmigrate(node, "rollback", "--yes")
    holds()
    assert before == files(node)
    cluster.wait()
    assert {"kubepods"} == places(node)
    assert ("rolled back", journal(node)) == (back(machine, run), records(run))


@pytest.mark.slow
def test_an_api_server_that_goes_away_in_the_middle_leaves_a_settled_node_and_commands(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    node, cp1 = cluster.nodes["w1"], cluster.nodes["cp1"]
    plan(cluster, "w1", "--api-timeout", "10")
    with node.popen(["cgmigrate", "apply", PLAN, "--yes"]) as run:
        until("the kubelet to be stopped", lambda: not node.healthy(), 120, 0.1)
        cp1.run("mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/; systemctl stop kubelet")
        cp1.run("docker kill $(docker ps -q --filter label=io.kubernetes.container.name=kube-apiserver)")
        _, said = run.communicate(timeout=300)
    assert 6 == run.returncode, said
    commands = re.findall(r"^ +(kubectl .*)$", said, re.MULTILINE)
    assert any("uncordon w1" in command for command in commands), said
    [entry] = json.loads(cgmigrate(node, "status", "--format", "json").stdout)
    assert ("committed", True, commands) == (entry["status"], entry["settled"], entry["left"])
    assert_no_guard(node)

    cp1.run("mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/; systemctl start kubelet")
    until(
        "the API server",
        lambda: cluster.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok",
        120,
        1,
    )
    assert not is_schedulable(cluster, "w1")
    until(
        "the commands that were left",
        lambda: all(node.run(command, check=False).returncode == 0 for command in commands),
        180,
        1,
    )
    assert is_schedulable(cluster, "w1")
    assert [] == marks(cluster)
    cluster.wait()
    assert_all_at_their_place(cluster, "w1")


@pytest.mark.slow
def test_a_mixed_cluster_is_told_what_kubeadm_will_do_and_kubeadm_does_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    w1, w2, cp1 = (cluster.nodes[name] for name in ("w1", "w2", "cp1"))
    before = cluster.get("configmap", "kubelet-config-1.20", "-n", "kube-system")["data"]["kubelet"]
    plan(cluster, "w1")
    cgmigrate(w1, "apply", PLAN, "--yes")

    def told(node: Node, *options: str) -> str:
        audit = document(node, "audit", *options)
        return " ".join(
            f"{finding['summary']} {finding['detail']}"
            for finding in audit["findings"]
            if finding["id"] == "config-map-differs"
        )

    said = told(w1, "--kubeconfig", ADMIN)
    assert "cgroupfs" in said
    assert KUBELET_CONFIG in said
    ours = w1.read(KUBELET_CONFIG)
    w1.run(["kubeadm", "upgrade", "node", "phase", "kubelet-config"])
    assert "cgroupDriver: cgroupfs" in w1.read(KUBELET_CONFIG)
    w1.write(KUBELET_CONFIG, ours)

    shown = cgmigrate(cp1, "cluster", "plan", "-o", "/root/cluster.json").stdout
    assert re.search(r"^-\s*cgroupDriver: cgroupfs$", shown, re.MULTILINE)
    assert re.search(r"w1: runs with systemd; the next .kubeadm upgrade node. there writes cgroupfs", shown)
    assert re.search(r"cp1: runs with cgroupfs, whatever the ConfigMap says: kubeadm before 1.22 asks", shown)
    assert re.search(r"w2: runs with cgroupfs; .kubeadm upgrade node. changes nothing", shown)
    cgmigrate(cp1, "cluster", "apply", "/root/cluster.json", "--yes")
    after = cluster.get("configmap", "kubelet-config-1.20", "-n", "kube-system")["data"]["kubelet"]
    assert before.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd") == after
    assert "" == told(w1, "--kubeconfig", ADMIN)
    assert "does not follow the ConfigMap: kubeadm before 1.22 asks `docker info`" in told(cp1)
    cluster.give_admin("w2", ADMIN)
    assert "writes `cgroupDriver: systemd`" in told(w2, "--kubeconfig", ADMIN)
    w1.run(["kubeadm", "upgrade", "node", "phase", "kubelet-config"])
    assert "cgroupDriver: systemd" in w1.read(KUBELET_CONFIG)
    for node, driver in ((cp1, "cgroupfs"), (w2, "systemd")):
        theirs = node.read(KUBELET_CONFIG)
        node.run(["kubeadm", "upgrade", "node", "phase", "kubelet-config"])
        assert f"cgroupDriver: {driver}" in node.read(KUBELET_CONFIG)
        node.write(KUBELET_CONFIG, theirs)

    assert "nothing to do" in cgmigrate(cp1, "cluster", "plan").stdout
    cgmigrate(cp1, "rollback", "--yes")
    assert before == cluster.get("configmap", "kubelet-config-1.20", "-n", "kube-system")["data"]["kubelet"]
