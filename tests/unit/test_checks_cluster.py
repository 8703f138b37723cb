# SPDX-License-Identifier: Apache-2.0
"""What the API server says, to findings: one row for every way to meet every finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.checks import run_checks
from migrator.facts.model import Cluster, Driver, Facts, KubeletConfigMap
from migrator.findings import Finding, Severity
from tests.unit.cluster_base import (
    ADMIN,
    AGENT,
    BARE,
    KEPT,
    MIRROR,
    ORPHAN,
    SCRATCH,
    STRICT,
    cluster,
    cluster_node,
    cluster_pod,
)
from tests.unit.facts_base import (
    DEFAULT,
    DOCKER,
    FLAGS_ENV,
    KUBELET_CONFIG,
    QUIET,
    STATIC_UID,
    but,
    driver,
    pod,
    source,
    switched,
    unknown,
)

B, W, I = Severity.BLOCKER, Severity.WARNING, Severity.INFO  # noqa: E741 (columns of the table)

AWAY = Cluster(kubeconfig=ADMIN, reason="connection refused", server="https://10.99.0.2:6443")
MASTER = cluster_node(control_plane=True)
CP2 = cluster_node("cp2", control_plane=True)
API_SERVER = replace(pod("kube-apiserver-worker-1", uid=STATIC_UID, static=True), namespace="kube-system")
NO_FINDING: set[tuple[str, Severity, str]] = set()


def on(facts: Facts = QUIET, **fields: object) -> Facts:
    """A node whose API server says this."""
    return but(facts, cluster=cluster(**fields))


def quorum(members: int, unready: tuple[str, ...] = ()) -> Facts:
    """A node of the control plane among several with etcd."""
    return on(
        node=MASTER, control_plane=(MASTER, CP2), pods=(MIRROR,), etcd_members=members, etcd_unready=unready
    )


def config_map(driver_of_it: str, name: str = "kubelet-config-1.20") -> KubeletConfigMap:
    return KubeletConfigMap(name=name, present=True, driver=driver_of_it)


GONE = KubeletConfigMap(name="kubelet-config-1.20", present=False)
BY_FLAG = Driver(value="cgroupfs", chain=(DEFAULT, source("cgroupfs", FLAGS_ENV, 1, "env-file")))
BY_DROP_IN = Driver(
    value="cgroupfs", chain=(DEFAULT, source("cgroupfs", "/etc/k.d/9.conf", 1, "config-drop-in"))
)
UNFIT = (("config-map-differs", W, "F18"),)
FITS = ("config-map-differs", I, "F18")

TABLE: list[tuple[str, Facts, set[tuple[str, Severity, str]]]] = [
    ("a worker of a cluster", on(), {FITS}),
    ("one that nobody asked about", QUIET, NO_FINDING),
    ("one on systemd", on(switched()), NO_FINDING),
    # whether it can be asked
    ("an API server that is away", but(cluster=AWAY), {("api-unreachable", W, "F36")}),
    ("the same, on systemd", but(switched(), cluster=AWAY), NO_FINDING),
    (
        "the same, with a pod",
        but(cluster=AWAY, pods=(pod(),)),
        {("api-unreachable", W, "F36"), ("api-node-not-drained", W, "F36")},
    ),
    ("pods that the API server tells of", but(on(), pods=(pod(),)), {FITS}),
    (
        "a right that is missing",
        on(missing_rights=("create pods/eviction",)),
        {FITS, ("api-rights-missing", W, "F33")},
    ),
    ("budgets that may not be seen", on(budgets_known=False), {FITS, ("api-rights-missing", W, "F33")}),
    (
        "rights that a node on systemd does not need",
        on(switched(), missing_rights=("patch nodes",), budgets_known=False),
        NO_FINDING,
    ),
    ("no such Node", on(node=None), {FITS, ("api-node-mismatch", B, "")}),
    (
        "a Node that may not be seen",
        on(node=None, missing_rights=("get nodes",)),
        {FITS, ("api-rights-missing", W, "F33")},
    ),
    (
        "a Node that was not told",
        but(on(node=None), unknowns=(unknown("cluster.node"),)),
        {FITS, ("facts-unknown", W, "")},
    ),
    ("another machine", on(node=cluster_node(machine_id="9f")), {FITS, ("api-node-mismatch", B, "")}),
    ("a Node without a machine id", on(node=cluster_node(machine_id="")), {FITS}),
    ("a machine without an id", but(on(), node={"machine_id": ""}), {FITS}),
    ("another machine, on systemd", on(switched(), node=cluster_node(machine_id="9f")), NO_FINDING),
    ("a cordoned node", on(node=cluster_node(unschedulable=True)), {FITS, ("node-cordoned", I, "")}),
    ("a cordoned node, on systemd", on(switched(), node=cluster_node(unschedulable=True)), NO_FINDING),
    # the drain
    ("a pod that goes", on(pods=(cluster_pod(),)), {FITS}),
    ("a pod that stays", on(pods=(AGENT,)), {FITS}),
    ("a pod that a budget keeps", on(pods=(KEPT,), budgets=(STRICT,)), {FITS, ("drain-blocked", W, "F34")}),
    (
        "a pod of two budgets",
        on(pods=(replace(KEPT, budgets=("a", "b")),)),
        {FITS, ("drain-blocked", W, "F34")},
    ),
    ("a budget that lets it go", on(pods=(KEPT,), budgets=(replace(STRICT, allowed=1),)), {FITS}),
    ("a bare pod", on(pods=(BARE,)), {FITS, ("drain-lost", W, "F36")}),
    ("an orphan", on(pods=(ORPHAN,)), {FITS, ("drain-lost", W, "F36")}),
    ("a bare pod that has finished", on(pods=(replace(BARE, phase="Succeeded"),)), {FITS}),
    ("a pod with data", on(pods=(SCRATCH,)), {FITS, ("drain-local-data", W, "F35")}),
    (
        "a bare pod with data, kept",
        on(pods=(replace(KEPT, owner_kind="", local_data=True),), budgets=(STRICT,)),
        {FITS, ("drain-blocked", W, "F34"), ("drain-lost", W, "F36"), ("drain-local-data", W, "F35")},
    ),
    ("all of them, on systemd", on(switched(), pods=(BARE, SCRATCH, KEPT), budgets=(STRICT,)), NO_FINDING),
    # the control plane
    ("an etcd of three", quorum(3), {FITS}),
    ("an etcd of three, this one not ready", quorum(3, ("worker-1",)), {FITS}),
    ("an etcd of three, another not ready", quorum(3, ("cp2",)), {FITS, ("etcd-quorum", B, "F33")}),
    ("an etcd of five, another not ready", quorum(5, ("cp2",)), {FITS}),
    ("an etcd of five, two others not ready", quorum(5, ("cp2", "cp3")), {FITS, ("etcd-quorum", B, "F33")}),
    ("an etcd of four, another not ready", quorum(4, ("cp2",)), {FITS, ("etcd-quorum", B, "F33")}),
    ("an etcd of one", quorum(1), {FITS}),
    ("an etcd of two", quorum(2, ("cp2",)), {FITS}),
    ("an etcd that is elsewhere", on(etcd_members=3, etcd_unready=("cp2",)), {FITS}),
    (
        "a pod that is only called like it",
        on(etcd_members=3, etcd_unready=("cp2",), pods=(replace(MIRROR, mirror=False),)),
        {FITS},
    ),
    (
        "an etcd that is not healthy",
        on(node=MASTER, etcd_healthy=False),
        {FITS, ("etcd-unhealthy", B, "F33")},
    ),
    (
        "an etcd that is not healthy, so that nothing else is told",
        but(cluster=replace(AWAY, etcd_healthy=False), pods=(API_SERVER,)),
        {
            ("etcd-unhealthy", B, "F33"),
            ("api-unreachable", W, "F36"),
            ("control-plane", W, "F33"),
            ("static-pods-outage", I, "F33"),
        },
    ),
    (
        "the same, on a worker",
        but(cluster=replace(AWAY, etcd_healthy=False)),
        {("api-unreachable", W, "F36")},
    ),
    ("an etcd that nobody could ask", on(node=MASTER, etcd_healthy=None), {FITS}),
    ("an etcd that is not healthy, before a worker", on(etcd_healthy=False), {FITS}),
    (
        "another node of the control plane in a run",
        on(node=MASTER, control_plane=(MASTER, replace(CP2, run="r1:ours"))),
        {FITS, ("control-plane-busy", B, "F33")},
    ),
    *(
        (
            f"another node of the control plane, ready: {ready}",
            on(node=MASTER, control_plane=(MASTER, replace(CP2, ready=ready))),
            {FITS, ("control-plane-busy", B, "F33")},
        )
        for ready in (False, None)
    ),
    (
        "this node of the control plane in a run",
        on(
            node=replace(MASTER, run="r1:ours", ready=False),
            control_plane=(replace(MASTER, run="r1:ours"), CP2),
        ),
        {FITS},
    ),
    ("a busy control plane, before a worker", on(control_plane=(replace(CP2, run="r1:ours"),)), {FITS}),
    # the ConfigMap
    ("no ConfigMap at all", on(config_map=None), NO_FINDING),
    ("a ConfigMap on cgroupfs", on(config_map=config_map("cgroupfs")), {*UNFIT}),
    ("the same, a node on systemd", on(switched(), config_map=config_map("cgroupfs")), {*UNFIT}),
    ("a silent one of an old kubeadm", on(DOCKER, config_map=config_map("")), {*UNFIT}),
    ("a silent one of an old kubeadm, on systemd", on(switched(DOCKER), config_map=config_map("")), {*UNFIT}),
    (
        "a silent one of kubeadm 1.22",
        on(but(kubelet={"version": "1.22.0"}), config_map=config_map("")),
        {FITS},
    ),
    (
        "a silent one of kubeadm 1.22, on systemd",
        on(but(switched(), kubelet={"version": "1.22.0"}), config_map=config_map("")),
        NO_FINDING,
    ),
    (
        "a silent one of kubeadm 1.21",
        on(but(kubelet={"version": "1.21.14"}), config_map=config_map("")),
        {*UNFIT},
    ),
    (
        "one that cannot be read",
        but(on(config_map=config_map("")), unknowns=(unknown("cluster.config_map"),)),
        {("facts-unknown", W, "")},
    ),
    (
        "one on cgroupfs that a flag beats",
        on(but(kubelet={"driver": BY_FLAG}), config_map=config_map("cgroupfs")),
        {FITS},
    ),
    (
        "one on cgroupfs that a drop-in beats",
        on(but(kubelet={"driver": BY_DROP_IN}), config_map=config_map("cgroupfs")),
        {FITS},
    ),
    (
        "one on cgroupfs for a file that is not read",
        on(but(kubelet={"config_file": "/etc/kubelet.yaml"}), config_map=config_map("cgroupfs")),
        {FITS},
    ),
    (
        "one on cgroupfs where the runtime decides",
        on(but(kubelet={"version": "1.34.0", "decides": "runtime"}), config_map=config_map("cgroupfs")),
        {FITS, ("runtime-decides", I, "F09")},
    ),
    ("one that is not there", on(config_map=GONE), {("config-map-missing", W, "F20")}),
    (
        "one that is not there, and no kubeadm",
        on(but(node={"distribution": "standalone"}), config_map=GONE),
        {("config-map-missing", I, "F20")},
    ),
    ("one that is not there, on systemd", on(switched(), config_map=GONE), NO_FINDING),
]


@pytest.mark.parametrize(("facts", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_the_api_server_says_gives_these_findings_and_no_others(
    facts: Facts, expected: set[tuple[str, Severity, str]]
) -> None:
    assert expected == {(each.id, each.severity, each.reference) for each in run_checks(facts)}


def finding(facts: Facts, name: str) -> Finding:
    (found,) = (each for each in run_checks(facts) if each.id == name)
    return found


def test_the_rights_that_are_missing_are_named_with_the_kubeconfig() -> None:
    found = finding(
        on(missing_rights=("patch nodes", "get daemonsets.apps"), budgets_known=False), "api-rights-missing"
    )
    assert found.summary == (
        f"the user of {ADMIN} may not: patch nodes, get daemonsets.apps, list poddisruptionbudgets.policy"
    )


def test_a_pod_that_is_kept_is_named_with_its_budget_and_the_command_to_see_it() -> None:
    found = finding(on(pods=(KEPT,), budgets=(STRICT,)), "drain-blocked")
    assert (found.subject, found.remediation) == ("default/strict-7c-z", "kubectl get pdb -n default")
    assert found.summary == (
        "1 pod may not be evicted now: default/strict-7c-z (budget strict: 0 allowed, 1 of 1 healthy, 1 desired)"
    )


def test_the_pods_that_would_be_lost_are_named_with_the_reason() -> None:
    found = finding(on(pods=(BARE, ORPHAN)), "drain-lost")
    assert found.summary == (
        "2 pods would be gone for good: default/agent-x (DaemonSet agent, which is gone), default/bare (nothing owns it)"
    )


def test_who_cordoned_the_node_is_told() -> None:
    by_hand = finding(on(node=cluster_node(unschedulable=True)), "node-cordoned")
    by_run = finding(on(node=cluster_node(unschedulable=True, run="20201122-ab:ours")), "node-cordoned")
    assert [by_hand.summary, by_run.summary] == [
        "the node is cordoned already, and will stay so after the switch: somebody else did it",
        "the node is cordoned already by the run 20201122-ab",
    ]


def test_every_other_busy_node_of_the_control_plane_is_named() -> None:
    nodes = (MASTER, replace(CP2, run="r1:ours"), replace(CP2, name="cp3", ready=None))
    found = [
        each.summary
        for each in run_checks(on(node=MASTER, control_plane=nodes))
        if each.id == "control-plane-busy"
    ]
    assert found == [
        "cp2 of the control plane is in the run r1 of cgmigrate, and only one at a time may be away",
        "cp3 of the control plane is not Ready, and only one at a time may be away",
    ]


@pytest.mark.parametrize(
    ("members", "says"), [(1, "etcd has 1 member"), (2, "etcd has 2 members"), (3, "With a single")]
)
def test_how_many_members_etcd_has_decides_what_the_switch_means_for_the_cluster(
    members: int, says: str
) -> None:
    facts = but(on(node=MASTER, etcd_members=members), pods=(API_SERVER,))
    assert says in finding(facts, "control-plane").detail


JOIN = "A node that joins by `kubeadm join` gets {} whatever its runtime uses."
WRITES = f"The next `kubeadm upgrade node` here writes {{}} to {KUBELET_CONFIG}. "
EXITS = (
    "the kubelet exits with `misconfiguration: kubelet cgroup driver: "
    '"{}" is different from docker cgroup driver: "{}"` (F03). '
)
AGAIN = "When the kubelet starts again after that: "
BEFORE = "When the kubelet starts again before the switch after that: "

RENAMED = ("cgroupRoot: /pods (/pods.slice)",)
CONFIG_MAPS = [
    (
        "docker",
        on(switched(DOCKER), config_map=config_map("cgroupfs")),
        WRITES.format("`cgroupDriver: cgroupfs`")
        + AGAIN
        + EXITS.format("cgroupfs", "systemd")
        + JOIN.format("cgroupfs"),
    ),
    (
        "docker, before the switch",
        on(DOCKER, config_map=config_map("systemd")),
        WRITES.format("`cgroupDriver: systemd`")
        + BEFORE
        + EXITS.format("systemd", "cgroupfs")
        + JOIN.format("systemd"),
    ),
    (
        "docker, silent",
        on(DOCKER, config_map=config_map("")),
        WRITES.format("no cgroupDriver, so that the kubelet's default, cgroupfs, holds,")
        + AGAIN
        + EXITS.format("cgroupfs", "systemd")
        + JOIN.format("cgroupfs"),
    ),
    (
        "containerd",
        on(switched(), config_map=config_map("cgroupfs")),
        WRITES.format("`cgroupDriver: cgroupfs`")
        + AGAIN
        + "the runtime refuses to create sandboxes (F01). "
        + JOIN.format("cgroupfs"),
    ),
    (
        "containerd, before the switch, silent",
        on(config_map=config_map("", "kubelet-config")),
        WRITES.format("`cgroupDriver: systemd`, kubeadm's default since 1.22,")
        + BEFORE
        + "nothing fails, and containers run outside the limits of their pods, "
        "in literal `...slice:cri-containerd:<id>` cgroups (F06). " + JOIN.format("systemd"),
    ),
    (
        "a flag",
        on(but(kubelet={"driver": BY_FLAG}), config_map=config_map("cgroupfs")),
        WRITES.format("`cgroupDriver: cgroupfs`")
        + f"Here that decides nothing: {FLAGS_ENV}:1 wins over it (F17). "
        + JOIN.format("cgroupfs"),
    ),
    (
        "containerd, cgroups that are other ones under systemd",
        on(switched(), config_map=replace(config_map("cgroupfs"), renamed=RENAMED)),
        WRITES.format("`cgroupDriver: cgroupfs`")
        + AGAIN
        + "the runtime refuses to create sandboxes (F01). "
        + JOIN.format("cgroupfs")
        + " Under systemd these of it are other cgroups, which a new node must have before it joins: "
        "cgroupRoot: /pods (/pods.slice) (F38, F43). So `cluster plan` refuses it: change driver and names together, by hand.",
    ),
]


@pytest.mark.parametrize(
    ("facts", "detail"), [row[1:] for row in CONFIG_MAPS], ids=[row[0] for row in CONFIG_MAPS]
)
def test_what_kubeadm_would_do_is_told_exactly(facts: Facts, detail: str) -> None:
    assert detail == finding(facts, "config-map-differs").detail


@pytest.mark.parametrize(
    ("facts", "summary", "remediation"),
    [
        (
            on(config_map=config_map("cgroupfs")),
            "says cgroupfs: after the switch this node differs from it, and kubeadm would take it back",
            "cgmigrate cluster plan -o FILE",
        ),
        (
            on(switched(), config_map=config_map("cgroupfs")),
            "says cgroupfs, this node is on systemd: kubeadm would take it back",
            "cgmigrate cluster plan -o FILE",
        ),
        (
            on(config_map=replace(config_map("cgroupfs"), renamed=RENAMED)),
            "says cgroupfs: after the switch this node differs from it, and kubeadm would take it back",
            "kubectl -n kube-system edit configmap kubelet-config-1.20",
        ),
        (
            on(config_map=replace(config_map("systemd"), renamed=RENAMED)),
            "says systemd: this node, on cgroupfs, agrees with it once it is switched",
            "",
        ),
        (on(), "says systemd: this node, on cgroupfs, agrees with it once it is switched", ""),
    ],
)
def test_the_config_map_and_the_node_are_compared_as_they_will_be(
    facts: Facts, summary: str, remediation: str
) -> None:
    found = finding(facts, "config-map-differs")
    name = "the ConfigMap kube-system/kubelet-config-1.20 "
    assert (name + summary, remediation) == (found.summary, found.remediation)


def test_an_api_server_that_is_away_is_told_with_its_reason() -> None:
    found = finding(but(cluster=AWAY), "api-unreachable")
    assert (found.subject, found.detail) == ("https://10.99.0.2:6443", "connection refused")


def test_a_driver_that_is_not_known_is_not_compared() -> None:
    facts = but(on(config_map=config_map("cgroupfs")), kubelet={"driver": driver(None)})
    assert "config-map-differs" not in {each.id for each in run_checks(facts)}
