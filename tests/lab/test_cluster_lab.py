# SPDX-License-Identifier: Apache-2.0
"""The lab's clusters: what one is, that two do not see each other, and that nothing of one is left."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import machine as machines
from . import network
from .cluster import Cluster
from .conftest import MakeCluster
from .members import SEATS, WEB, lacking, lacking_together
from .node import KUBELET_CONFIG

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "tests.lab"]
STATIC = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
STATUS = ["curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}", WEB]


def kinds(pods: list[str]) -> set[str]:
    """Return names of pods without what a controller put behind them."""
    return {re.sub(r"-([0-9a-f]{8,10}-)?[0-9a-z]{5}$|-\d$", "", pod) for pod in pods}


def test_kubeadm_made_three_ready_nodes_of_the_two_runtimes(cluster: Cluster) -> None:
    found = {
        node["metadata"]["name"]: (
            node["status"]["nodeInfo"]["containerRuntimeVersion"].partition(":")[0],
            node["status"]["addresses"][0]["address"],
            node["spec"]["podCIDR"],
            {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"],
            [taint["key"] for taint in node["spec"].get("taints", [])],
        )
        for node in cluster.get("nodes")
    }
    master = {"cp1": ["node-role.kubernetes.io/master"]}
    assert {
        seat.hostname: (seat.flavour, seat.address, seat.pods, "True", master.get(seat.hostname, []))
        for seat in SEATS
    } == found
    assert "ok" == cluster.kubectl("get", "--raw", "/readyz").stdout


def test_everything_is_on_cgroupfs(cluster: Cluster) -> None:
    drivers = {
        hostname: node.run(
            ["docker", "info", "--format", "{{.CgroupDriver}}"]
            if node.flavour == "docker"
            else "containerd config dump | grep -o 'SystemdCgroup.*'"
        ).stdout.strip()
        for hostname, node in cluster.nodes.items()
    }
    assert {"cp1": "cgroupfs", "w1": "cgroupfs", "w2": "SystemdCgroup = false"} == drivers
    config = cluster.get("configmap", "kubelet-config-1.20", "-n", "kube-system")["data"]["kubelet"]
    for text in (config, *(node.read(KUBELET_CONFIG) for node in cluster.nodes.values())):
        assert "cgroupDriver: cgroupfs\n" in text
    for node in cluster.nodes.values():
        assert {"kubepods"} == {path.split("/")[1] for paths in node.cgroups().values() for path in paths}


def test_the_workloads_run_where_they_should(cluster: Cluster) -> None:
    running = {
        hostname: kinds([container.pod for container in node.wait_pods()])
        for hostname, node in cluster.nodes.items()
    }
    assert {"agent", "kube-proxy", *STATIC} == running["cp1"]
    assert {"agent", "kube-proxy", "web", "db"} == running["w1"] == running["w2"]
    classes = {
        pod["metadata"]["labels"]["app"]: pod["status"]["qosClass"]
        for pod in cluster.get("pods", "-n", "default")
    }
    assert {"web": "Burstable", "agent": "Guaranteed", "db": "BestEffort"} == classes
    budgets = {each["metadata"]["name"]: each["status"]["disruptionsAllowed"] for each in cluster.get("pdb")}
    assert {"web": 1, "db": 1} == budgets


def test_the_service_answers_every_node_and_a_client_outside(cluster: Cluster) -> None:
    answers = {hostname: node.run(STATUS).stdout for hostname, node in cluster.nodes.items()}
    assert dict.fromkeys(("cp1", "w1", "w2"), "200") == answers
    assert "200" == cluster.exec_net(STATUS).stdout


def test_each_node_is_itself(cluster: Cluster) -> None:
    nodes = cluster.nodes
    assert list(nodes) == [node.run("hostname").stdout.strip() for node in nodes.values()]
    assert len({node.read("/etc/machine-id") for node in nodes.values()}) == len(nodes)
    cluster.give_admin("w1", "/root/admin.conf")
    assert "-rw-------" == nodes["w1"].run("stat -c %A /root/admin.conf").stdout.strip()
    kubectl = "kubectl --kubeconfig {} auth can-i delete nodes"
    answers = [
        nodes["w1"].run(kubectl.format(path), check=False).stdout.strip()
        for path in ("/root/admin.conf", "/etc/kubernetes/kubelet.conf")
    ]
    assert ["yes", "no"] == answers
    found = nodes["w2"].run("ls /etc/kubernetes").stdout.split()
    assert ["kubelet.conf", "manifests", "pki"] == found


def test_a_strict_budget_stops_a_drain(cluster: Cluster) -> None:
    cluster.apply("strict")
    try:
        cluster.wait()
        drain = cluster.kubectl("drain", "w1", "--ignore-daemonsets", "--pod-selector=app=strict", "--timeout=8s", check=False)  # fmt: skip
        assert drain.returncode != 0
        assert "violate the pod's disruption budget" in drain.stderr
    finally:
        cluster.kubectl("uncordon", "w1")
        cluster.kubectl("delete", "deployment,pdb", "strict", "--wait")
    cluster.wait()


@pytest.mark.parametrize(("hostname", "how"), [("w1", "power_cut"), ("w2", "reboot")])
def test_a_worker_goes_and_comes_back(cluster: Cluster, hostname: str, how: str) -> None:
    node = cluster.nodes[hostname]
    boot = node.read("/proc/sys/kernel/random/boot_id")
    if how == "power_cut":
        node.power_cut()
        node.boot()
    else:
        node.reboot()
    cluster.wait()
    assert boot != node.read("/proc/sys/kernel/random/boot_id")
    assert {"agent", "kube-proxy", "web", "db"} == kinds([container.pod for container in node.wait_pods()])


def traces(name: str) -> dict[str, list[str]]:
    """Return all that is left of a cluster on this machine."""
    namespace = network.NAMESPACES / f"{network.PREFIX}{name}"
    links = subprocess.run(
        ["ip", "-n", namespace.name, "-brief", "link"], capture_output=True, text=True, check=False
    )
    mounted = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "network": [str(namespace)] if namespace.exists() else [],
        "links": [line.split()[0] for line in links.stdout.splitlines()],
        "mounts": [line for line in mounted if f"/{name}-" in line or line.endswith(namespace.name)],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*lab-{name}-*")],
        "files": [str(path) for path in machines.nodes_dir().glob(f"*{name}-*")],
        "processes": [
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if f"--machine={name}-" in _text(path)
        ],
    }


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_two_clusters_at_once_do_not_see_each_other_and_nothing_is_left_of_one(
    cluster: Cluster, make_cluster: MakeCluster
) -> None:
    here = sorted(Path("/sys/class/net").iterdir())
    other = make_cluster()
    for each, letter in ((cluster, "a"), (other, "b")):
        each.kubectl("create", "configmap", "whose", f"--from-literal=letter={letter}")
    found = [
        json.loads(each.kubectl("get", "configmap", "whose", "-o", "json").stdout)["data"]["letter"]
        for each in (cluster, other)
    ]
    assert ["a", "b"] == found
    before = traces(other.name)
    assert [] == [kind for kind, some in before.items() if not some]
    other.destroy()
    assert {} == {kind: found for kind, found in traces(other.name).items() if found}
    assert here == sorted(Path("/sys/class/net").iterdir())
    cluster.kubectl("delete", "configmap", "whose")
    cluster.wait()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("clusters_lab")
def test_an_interrupted_cluster_up_leaves_nothing(sent: signal.Signals) -> None:
    name = f"interrupted-{os.getpid()}"
    argv = [*LAB, "cluster-up", "--name", name]
    with subprocess.Popen(argv, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        wait_until_on(name)
        process.send_signal(sent)
        assert process.wait(120) == 128 + sent
    assert {} == {kind: found for kind, found in traces(name).items() if found}


def wait_until_on(name: str) -> None:
    nodes = Cluster(name).nodes.values()
    machines.until(f"{name} to be on", lambda: all(node.init is not None for node in nodes), 120)


@pytest.mark.usefixtures("clusters_lab")
def test_prune_tears_down_the_cluster_of_a_killed_process() -> None:
    name = f"orphan-{os.getpid()}"
    code = f"from tests.lab.cluster import Cluster; c = Cluster.create({name!r}); input()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdin=subprocess.PIPE) as process:
        wait_until_on(name)
        process.kill()
    before = traces(name)
    assert [] == [kind for kind, some in before.items() if not some]
    subprocess.run([*LAB, "prune"], cwd=CHECKOUT, check=True)
    assert {} == {kind: found for kind, found in traces(name).items() if found}


# --- what is waited for, without a cluster ---------------------------------------------------------

BOOT = 1_700_000_000.5
BEFORE, AFTER = "2023-11-14T22:13:19Z", "2023-11-14T22:13:21Z"


def objects(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    """Return what the API says of one node with one ready pod of each kind, with changes."""
    said = {
        "heartbeat": AFTER,
        "ready": "True",
        "started": AFTER,
        "pod_ready": True,
        "mirror": {},
        "node": {"nodeName": "w1"},
        "phase": "Running",
        "gone": {},
        "leader": AFTER,
        "replicas": 1,
        "endpoint": "10.244.1.2",
        **changes,
    }
    lease = dict.fromkeys(("kube-controller-manager", "kube-scheduler"), said["leader"])
    lease["w1"] = said["heartbeat"]
    running = {"state": {"running": {"startedAt": said["started"]}}, "ready": said["pod_ready"]}
    target = {"namespace": "default", "name": "p"}
    return {
        "Node": [
            {
                "metadata": {"name": "w1"},
                "status": {"conditions": [{"type": "Ready", "status": said["ready"]}]},
            }
        ],
        "Lease": [{"metadata": {"name": name}, "spec": {"renewTime": time}} for name, time in lease.items()],
        "Pod": [
            {
                "metadata": {**target, "annotations": said["mirror"], **said["gone"]},
                "spec": {**said["node"], "containers": [{}]},
                "status": {"phase": said["phase"], "podIP": "10.244.1.2", "containerStatuses": [running]},
            }
        ],
        "Deployment": [
            {
                "metadata": {"name": "d", "generation": 1},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 1, "readyReplicas": said["replicas"]},
            }
        ],
        "StatefulSet": [],
        "DaemonSet": [],
        "Endpoints": [
            {
                "metadata": {"name": "e"},
                "subsets": [{"addresses": [{"ip": said["endpoint"], "targetRef": target}]}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"heartbeat": BEFORE}, ["node w1: no heartbeat"]),
        ({"heartbeat": None}, ["node w1: no heartbeat"]),
        ({"ready": "Unknown"}, ["node w1: not Ready"]),
        ({"started": BEFORE}, ["pod p: not started anew"]),
        ({"started": None}, ["pod p: not started"]),
        ({"pod_ready": False}, ["pod p: not ready"]),
        ({"pod_ready": False, "mirror": {"kubernetes.io/config.mirror": "x"}}, []),
        ({"started": BEFORE, "phase": "Succeeded"}, []),
        ({"node": {}}, ["pod p: no node yet"]),
        ({"node": {"nodeName": "w2"}, "started": BEFORE}, []),
        ({"gone": {"deletionTimestamp": AFTER}}, ["pod p: terminating"]),
        ({"leader": BEFORE}, ["leader kube-controller-manager: none yet", "leader kube-scheduler: none yet"]),
        ({"replicas": 0}, ["Deployment d: 0 of 1 ready"]),
        ({"endpoint": "10.244.1.9"}, ["endpoint e: 10.244.1.9 is no more"]),
    ],
    ids=str,
)
def test_only_what_was_said_after_the_boot_counts(changes: dict[str, Any], expected: list[str]) -> None:
    said = objects(**changes)
    assert expected == [*lacking(said, {"w1": BOOT}), *lacking_together(said, BOOT)]
