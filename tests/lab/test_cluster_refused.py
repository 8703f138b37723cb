# SPDX-License-Identifier: Apache-2.0
"""What must not happen on a cluster's node: each refusal says what and why, with its exit code, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .cluster import Cluster
from .cycle import PLAN, assert_no_guard, cgmigrate, document, files
from .machine import until
from .members import FILES
from .node import Node
from .test_cluster_run import ADMIN, is_schedulable, marks, pods_on


@pytest.fixture
def w1(cluster: Cluster) -> Node:
    """Give the Docker worker, with the admin's kubeconfig beside."""
    cluster.give_admin("w1", ADMIN)
    return cluster.nodes["w1"]


@contextmanager
def unchanged(cluster: Cluster, node: Node) -> Iterator[None]:
    """Nothing of the node is touched inside: files, units, containers, cordon, marks."""

    def look() -> tuple[object, ...]:
        units = node.run("systemctl show -p InvocationID kubelet docker").stdout
        return files(node), units, is_schedulable(cluster, "w1"), marks(cluster)

    before = look()
    yield
    assert before == look()
    assert_no_guard(node)


@contextmanager
def workload(cluster: Cluster, name: str) -> Iterator[None]:
    """Have a workload on w1 inside."""
    cluster.apply(name)
    try:
        until(f"the pod of {name}", lambda: _ready(cluster, name), 60, 0.5)
        yield
    finally:
        cluster.kubectl("delete", "-f", "-", "--wait", input=(FILES / f"{name}.yaml").read_text())
        until(f"the pod of {name} to go", lambda: not _pods(cluster, name), 60, 0.5)


def _pods(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    return [pod for pod in pods_on(cluster, "w1") if pod["metadata"]["name"].split("-")[0] == name]


def _ready(cluster: Cluster, name: str) -> bool:
    conditions = [each for pod in _pods(cluster, name) for each in pod["status"].get("conditions", ())]
    return {"type": "Ready", "status": "True"} in [
        {key: each[key] for key in ("type", "status")} for each in conditions
    ]


def test_the_preview_says_of_each_pod_what_a_drain_does(cluster: Cluster, w1: Node) -> None:
    with (
        workload(cluster, "bare"),
        workload(cluster, "scratch"),
        workload(cluster, "job"),
        unchanged(cluster, w1),
    ):
        found = document(w1, "audit", "--kubeconfig", ADMIN)
        assert {"drain-lost", "drain-local-data"} <= {finding["id"] for finding in found["findings"]}
        shown = cgmigrate(w1, "audit", "--kubeconfig", ADMIN).stdout
        assert "default/bare: holds the drain (nothing owns it); --force would override" in shown
        assert "--delete-emptydir-data would override" in shown
        refused = cgmigrate(w1, "plan", "--kubeconfig", ADMIN, check=3)
        assert "default/bare (nothing owns it) needs --force" in refused.stderr
        assert "needs --delete-emptydir-data" in refused.stderr

        options = ("--force", "--delete-emptydir-data")
        cgmigrate(w1, "plan", "--kubeconfig", ADMIN, *options, "-o", PLAN)
        plan = json.loads(w1.read(PLAN))
        moves = {move["name"].split("-")[0]: move for move in plan["moves"]}
        uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods_on(cluster, "w1")}
        assert {move["name"]: move["uid"] for move in plan["moves"]} == uids
        assert (True, True, False) == tuple(moves["bare"][key] for key in ("goes", "lost", "data_deleted"))
        assert (True, False, True) == tuple(moves["scratch"][key] for key in ("goes", "lost", "data_deleted"))
        assert (False, "DaemonSet agent") == (moves["agent"]["goes"], moves["agent"]["why"])
        assert (True, False) == (moves["job"]["goes"], moves["job"]["lost"])
        assert any("default/bare is gone for good" in line for line in plan["cannot_be_undone"])


def test_a_pod_that_came_since_the_plan_and_would_be_lost_stops_it(cluster: Cluster, w1: Node) -> None:
    cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--force", "-o", PLAN)
    with workload(cluster, "bare"), unchanged(cluster, w1):
        refused = cgmigrate(w1, "apply", PLAN, "--yes", check=4)
        assert "not the plan that this node needs now" in refused.stderr


def test_a_budget_that_allows_nothing_is_named_within_the_deadline_and_the_node_taken_back(
    cluster: Cluster, w1: Node
) -> None:
    with workload(cluster, "strict"):
        found = document(w1, "audit", "--kubeconfig", ADMIN)
        [blocked] = [finding for finding in found["findings"] if finding["id"] == "drain-blocked"]
        assert "strict" in blocked["summary"] + blocked["detail"]
        cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--drain-timeout", "15", "-o", PLAN)
        with unchanged(cluster, w1):
            failed = cgmigrate(w1, "apply", PLAN, "--yes", check=5)
            assert "default/strict-" in failed.stderr
            assert "budget" in failed.stderr.splitlines()[-2] + failed.stderr.splitlines()[-1] + failed.stderr
            assert "The run was rolled back" in failed.stderr
        assert is_schedulable(cluster, "w1")


def test_a_node_that_was_cordoned_before_stays_cordoned(cluster: Cluster, w1: Node) -> None:
    with workload(cluster, "strict"):
        cluster.kubectl("cordon", "w1")
        try:
            cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--drain-timeout", "10", "-o", PLAN)
            with unchanged(cluster, w1):
                failed = cgmigrate(w1, "apply", PLAN, "--yes", check=5)
            assert "stays so" in failed.stderr
            assert not is_schedulable(cluster, "w1")
        finally:
            cluster.kubectl("uncordon", "w1")


BROKEN = {
    "no such file": ("rm -f /root/bad.conf", 2, "no such file"),
    "not YAML": ("printf 'a: [' >/root/bad.conf", 3, "/root/bad.conf:1"),
    "no clusters": ("echo 'kind: Config' >/root/bad.conf", 3, "no `clusters`"),
    "writable by others": (
        f"cp {ADMIN} /root/bad.conf; chmod 0666 /root/bad.conf",
        3,
        "can be written by others",
    ),
    "nobody listens": (f"sed s/:6443/:6444/ {ADMIN} >/root/bad.conf; chmod 600 /root/bad.conf", 3, "refused"),
    "an address that is silent": (
        f"sed s/10.99.0.2:6443/10.99.0.77:6443/ {ADMIN} >/root/bad.conf; chmod 600 /root/bad.conf",
        3,
        "10.99.0.77",
    ),
    "another cluster's certificate authority": (
        f"sed '/certificate-authority-data/d' {ADMIN} >/root/bad.conf; chmod 600 /root/bad.conf",
        3,
        "certificate signed by unknown authority",
    ),
}
WITH_BEARER = """apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "https://10.99.0.2:6443", insecure-skip-tls-verify: true}}}}]
users: [{{name: someone, user: {{token: {token}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: someone}}}}]
current-context: lab
"""


@pytest.mark.parametrize("what", BROKEN)
def test_a_kubeconfig_that_cannot_be_used_is_named(cluster: Cluster, w1: Node, what: str) -> None:
    make, code, said = BROKEN[what]
    w1.run(make)
    with unchanged(cluster, w1):
        refused = cgmigrate(w1, "plan", "--kubeconfig", "/root/bad.conf", check=code)
        assert said in refused.stderr
        assert "/root/bad.conf" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_token_that_is_wrong_and_one_without_rights_are_told_apart(cluster: Cluster, w1: Node) -> None:
    nonsense = "a.b.c"
    with unchanged(cluster, w1):
        w1.write("/root/bad.conf", WITH_BEARER.format(token=nonsense))
        w1.run("chmod 600 /root/bad.conf")
        refused = cgmigrate(w1, "plan", "--kubeconfig", "/root/bad.conf", check=3)
        assert "Unauthorized" in refused.stderr
        assert nonsense not in refused.stderr + refused.stdout

        cluster.kubectl("create", "serviceaccount", "nobody", check=False)
        until("a token", lambda: bool(cluster.get("serviceaccount", "nobody").get("secrets")), 20)
        secret = cluster.get("serviceaccount", "nobody")["secrets"][0]["name"]
        token = cluster.kubectl(
            "get", "secret", secret, "-o", "go-template={{.data.token | base64decode}}"
        ).stdout
        w1.write("/root/bad.conf", WITH_BEARER.format(token=token))
        refused = cgmigrate(w1, "plan", "--kubeconfig", "/root/bad.conf", check=3)
        for right in ("patch nodes", "create pods/eviction", "get daemonsets.apps"):
            assert right in refused.stderr
        assert token not in refused.stderr + refused.stdout


def test_the_kubelets_own_kubeconfig_lacks_what_is_named_and_a_drain_done_elsewhere_is_checked(
    cluster: Cluster, w1: Node
) -> None:
    with workload(cluster, "bare"), unchanged(cluster, w1):
        refused = cgmigrate(w1, "plan", check=3)
        assert "get daemonsets.apps" in refused.stderr
        assert "--already-drained" in refused.stderr
        refused = cgmigrate(w1, "plan", "--already-drained", check=3)
        assert "the node is not drained: default/bare" in refused.stderr


def test_a_node_name_that_the_api_does_not_know_is_named(cluster: Cluster, w1: Node) -> None:
    with unchanged(cluster, w1):
        refused = cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--node", "w7", check=3)
        assert "w7" in refused.stderr
        refused = cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--node", "w2", check=3)
        assert "is another machine" in refused.stderr


@pytest.mark.slow
def test_a_node_drained_elsewhere_is_switched_without_touching_its_cordon(cluster: Cluster, w1: Node) -> None:
    cluster.kubectl("drain", "w1", "--ignore-daemonsets", timeout=120)
    w1.run(f"rm -f {ADMIN}")
    cgmigrate(w1, "plan", "--already-drained", "-o", PLAN)
    kinds = [step["kind"] for step in json.loads(w1.read(PLAN))["steps"]]
    assert not {"cordon", "drain", "uncordon", "wait-ready"} & set(kinds)
    done = cgmigrate(w1, "apply", PLAN, "--yes")
    assert "uncordon it where you drained it" in done.stdout
    assert not is_schedulable(cluster, "w1")
    cgmigrate(w1, "rollback", "--yes")
    assert not is_schedulable(cluster, "w1")
    cluster.kubectl("uncordon", "w1")
