# SPDX-License-Identifier: Apache-2.0
"""What must not happen on a cluster's node: each refusal says what and why, with its exit code, and changes nothing."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import termios
import time
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
def w1(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Node]:
    """Give the Docker worker, with the admin's kubeconfig beside; a test that fails leaves no run to the next one."""
    cluster.give_admin("w1", ADMIN)
    node = cluster.nodes["w1"]
    failed = request.session.testsfailed
    yield node
    if request.session.testsfailed > failed:
        cgmigrate(node, "rollback", "--no-drain", "--yes", check=None)
        cluster.kubectl("uncordon", "w1", check=False)


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
    """Have a workload on w1 inside, beside the others, of which the test before may have evicted some."""
    cluster.wait()
    cluster.apply(name)
    try:
        until(f"the pod of {name}", lambda: _ready(cluster, name), 60, 0.5)
        yield
    finally:
        manifest = (FILES / f"{name}.yaml").read_text()
        # Seconds as a rule; this kubelet has been seen to take more than a minute to let a pod go.
        cluster.kubectl("delete", "-f", "-", "--wait", input=manifest, timeout=240)
        # The garbage collector deletes the pods; after an election it takes a minute to look.
        until(f"the pod of {name} to go", lambda: not _there(cluster, name), 120, 0.5)


def _there(cluster: Cluster, name: str) -> list[str]:
    """Return the pods of a workload, those that are terminating too: a drain counts them."""
    return [
        each
        for pod in cluster.get("pods", "-n", "default")
        if (each := str(pod["metadata"]["name"])).split("-")[0] == name
    ]


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
            assert "budget" in failed.stderr
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


def test_an_api_server_that_hangs_costs_one_timeout_and_is_named(cluster: Cluster, w1: Node) -> None:
    cp1 = cluster.nodes["cp1"]
    server = "docker ps -q --filter label=io.kubernetes.container.name=kube-apiserver"
    pid = cp1.run(f"docker inspect --format '{{{{.State.Pid}}}}' $({server})").stdout.strip()
    with unchanged(cluster, w1):
        cp1.run(["kill", "-STOP", pid])
        begin = time.monotonic()
        try:
            refused = cgmigrate(w1, "plan", "--kubeconfig", ADMIN, check=3)
        finally:
            cp1.run(["kill", "-CONT", pid])
        assert time.monotonic() - begin < 30
        assert "cannot be asked to drain this node" in refused.stderr
        assert re.search("(?i)time(d )?out|no answer within|deadline exceeded", refused.stderr), (
            refused.stderr
        )
        cluster.wait()  # the controllers lost their leases meanwhile


def test_a_token_that_is_wrong_and_one_without_rights_are_told_apart(cluster: Cluster, w1: Node) -> None:
    nonsense = "a.b.c"
    with unchanged(cluster, w1):
        w1.write("/root/bad.conf", WITH_BEARER.format(token=nonsense))
        w1.run("chmod 600 /root/bad.conf")
        refused = cgmigrate(w1, "plan", "--kubeconfig", "/root/bad.conf", check=3)
        assert "Unauthorized" in refused.stderr
        assert nonsense not in refused.stderr + refused.stdout

        cluster.kubectl("create", "serviceaccount", "nobody", check=False)
        until("a token", lambda: bool(cluster.get("serviceaccount", "nobody").get("secrets")), 120)
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


def on_a_terminal(node: Node, keys: bytes) -> tuple[int, str]:
    """Apply the plan in the node on a terminal: confirm, and type `keys` when a budget holds the drain."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 200))
    said = b""
    typed = 0
    # select(2) takes no descriptor over 1023, and a worker may have had many tests before.
    heard = select.poll()
    heard.register(ours, select.POLLIN)
    run = node.popen(["cgmigrate", "apply", PLAN], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            piece = os.read(ours, 4096) if heard.poll(1000) else b""
        except OSError:  # Linux's end of a terminal whose other side is gone
            break
        said += piece
        if b"\x1b[6n" in piece:  # prompt_toolkit asks where the cursor is, and a real terminal answers
            os.write(ours, b"\x1b[1;1R")
        if typed == 0 and b"Enter: no" in said:
            os.write(ours, b"y")
            typed = 1
        if typed == 1 and b"Enter: wait" in said:
            os.write(ours, keys)
            typed = 2
        if typed == 2 and b"Enter: yes" in said:  # roll back now?
            os.write(ours, b"\r")
            typed = 3
    os.close(ours)
    run.kill()  # which does nothing to one that has ended
    return run.wait(60), said.decode()


DOWN = b"\x1b[B"


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        (DOWN + b"\r", 5, "The run was rolled back"),
        (DOWN + DOWN + b"\r", 7, "stopped while w1 is being drained"),
        (b"\x03", 7, "stopped while w1 is being drained"),
        (b"\r", 5, "w1 is not drained after 15 s"),
    ],
    ids=["skip", "abort", "Ctrl-C", "Enter waits"],
)
def test_a_terminal_is_asked_what_to_do_about_a_budget(
    cluster: Cluster, w1: Node, keys: bytes, code: int, said: str
) -> None:
    with workload(cluster, "strict"), unchanged(cluster, w1):
        cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--drain-timeout", "15", "-o", PLAN)
        ended, shown = on_a_terminal(w1, keys)
        assert (code, True) == (ended, said in shown), shown
        assert "default/strict-" in shown
        if code == 7:
            assert not is_schedulable(cluster, "w1")
            cgmigrate(w1, "rollback", "--yes")


@pytest.mark.parametrize("way_out", ["resume", "rollback"])
def test_a_kill_in_the_middle_of_a_drain_leaves_no_drain_behind_and_is_settled(
    cluster: Cluster, w1: Node, way_out: str
) -> None:
    with workload(cluster, "strict"), unchanged(cluster, w1):
        cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--drain-timeout", "15", "-o", PLAN)
        with w1.popen(["cgmigrate", "apply", PLAN, "--yes"]) as run:
            until("the drain", lambda: _draining(w1), 30)
            run.kill()
        until("kubectl to end with us", lambda: not _draining(w1), 10)
        assert not is_schedulable(cluster, "w1")
        if way_out == "resume":
            assert "default/strict-" in cgmigrate(w1, "resume", "--on-failure", "rollback", check=5).stderr
        else:
            cgmigrate(w1, "rollback", "--yes")


def _draining(node: Node) -> bool:
    return "drain w1" in node.run("pgrep -a kubectl", check=False).stdout


def test_a_rollback_that_a_budget_holds_stops_before_the_outage_unless_told_otherwise(
    cluster: Cluster, w1: Node
) -> None:
    before = files(w1)
    cgmigrate(w1, "plan", "--kubeconfig", ADMIN, "--drain-timeout", "15", "-o", PLAN)
    cgmigrate(w1, "apply", PLAN, "--yes")
    with workload(cluster, "strict"):
        on_systemd = files(w1)["sums"]
        with workload(cluster, "bare"):  # whose loss no plan has shown
            held = cgmigrate(w1, "rollback", "--yes", check=7)
            assert "that would be lost, or lose their data: default/bare" in held.stderr
            assert ["bare"] == [pod["metadata"]["name"] for pod in _pods(cluster, "bare")]
        held = cgmigrate(w1, "rollback", "--yes", check=7)
        assert "stopped at its drain" in held.stderr
        assert "--no-drain" in held.stderr
        assert on_systemd == "".join(
            line for line in files(w1)["sums"].splitlines(keepends=True) if "cgmigrate-guard" not in line
        )
        cgmigrate(w1, "rollback", "--no-drain", "--yes")
        assert is_schedulable(cluster, "w1")
    assert before == files(w1)
    assert [] == marks(cluster)
