# SPDX-License-Identifier: Apache-2.0
"""What the API server says, as recorded from a real one, and what becomes of it when it says less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.drain import DrainOptions, preview
from migrator.facts.api import config_map_names, covers, to_budget, to_node, to_pod
from migrator.facts.cluster import Ask, gather_cluster, is_asked, look_at_pods, node_name
from migrator.facts.look import Look
from migrator.facts.model import Budget, Cluster, ClusterNode, ClusterPod, KubeletConfigMap, Unknown
from migrator.host import Reader
from tests.unit.facts_base import QUIET
from tests.unit.recorded import Answer, Recorded, kubectl, recorded

NODE, KUBELET = QUIET.node, replace(QUIET.kubelet, version="1.20.2")
SERVER = "https://10.99.0.2:6443"
CP1 = ClusterNode(
    name="cp1",
    uid="0e3cd157-bc51-465b-b0c3-1a5c0c71f923",
    machine_id="06ad63cbcd40705f74b82195b8923b11",
    ready=True,
    control_plane=True,
    kubelet_version="1.20.2",
)
W1 = ClusterNode(
    name="w1",
    uid="6044eaab-1412-4047-b976-e3b4a32a4838",
    machine_id="6593564c1925ac47b7e2e539c10b473d",
    ready=True,
    kubelet_version="1.20.2",
)
CONFIG_MAP = KubeletConfigMap(
    name="kubelet-config-1.20",
    present=True,
    driver="cgroupfs",
    sha256="692207d64fae959a265f5fad9be159df7fca8c3d696ab50eeab0c4851914249c",
)
STRICT = Budget(namespace="default", name="strict", allowed=0, healthy=1, desired=1, expected=1)

NO = 'Error from server (Forbidden): {0} is forbidden: User "x" cannot list resource "{0}"\n'
UNHEALTHY = (
    'Error from server (InternalError): an error on the server ("internal server error: error getting data from etcd: '
    'context deadline exceeded") has prevented the request from succeeding\n'
)
REFUSED = (
    "The connection to the server 10.99.0.2:6443 was refused - did you specify the right host or port?\n"
)
BUDGETS = "get poddisruptionbudgets --all-namespaces --output=json"
DAEMON_SETS = "get daemonsets.apps --all-namespaces --output=json"
PODS = "get pods --all-namespaces --field-selector=spec.nodeName={} --output=json"
CREATE = "create --filename=- --validate=false --output=json"
KUBEADM_CONFIG = "get configmap kubeadm-config --namespace=kube-system --output=json"
KUBELET_CONFIG = "get configmap kubelet-config-1.20 --namespace=kube-system --output=json"
ETCD_PODS = "get pods --namespace=kube-system --selector=component=etcd --output=json"


def ask(
    folder: Path, name: str, changed: Mapping[str, Answer] | None = None, node: str = "w1"
) -> tuple[Cluster, list[Unknown], Recorded]:
    """What is gathered from a recording with some answers changed."""
    program = kubectl(folder, recorded(name) | dict(changed or {}))
    look = Look(Reader())
    asked = Ask(kubeconfig=program.kubeconfig, node_name=node, program=program.program)
    found = gather_cluster(look, KUBELET, NODE, asked)
    assert found is not None
    return found, look.unknowns, program


def test_an_administrator_is_told_everything(tmp_path: Path) -> None:
    found, unknowns, program = ask(tmp_path, "w1-admin")
    assert unknowns == []
    assert found == Cluster(
        kubeconfig=program.kubeconfig,
        origin="option",
        reached=True,
        server=SERVER,
        version="1.20.2",
        kubectl="1.20.2",
        node_name="w1",
        node=W1,
        control_plane=(CP1,),
        pods=found.pods,
        budgets=(STRICT,),
        etcd_members=1,
        etcd_healthy=True,
        config_map=CONFIG_MAP,
    )
    assert [(pod.name, pod.owner_kind, pod.local_data, pod.budgets) for pod in found.pods] == [
        ("agent-rglsl", "DaemonSet", False, ()),
        ("bare", "", False, ()),
        ("job-hbxrg", "Job", False, ()),
        ("scratch-64876f489d-c489x", "ReplicaSet", True, ()),
        ("strict-76c86ddb9c-8tw9k", "ReplicaSet", False, ("strict",)),
        ("kube-proxy-f5gj2", "DaemonSet", False, ()),
    ]


def test_the_drain_of_what_was_recorded(tmp_path: Path) -> None:
    found, _, _ = ask(tmp_path, "w1-admin")
    moves = preview(found, DrainOptions())
    assert [(move.name, move.goes, move.needs, bool(move.budget)) for move in moves] == [
        ("agent-rglsl", False, (), False),
        ("bare", False, ("--force",), False),
        ("job-hbxrg", True, (), False),
        ("scratch-64876f489d-c489x", False, ("--delete-emptydir-data",), False),
        ("strict-76c86ddb9c-8tw9k", True, (), True),
        ("kube-proxy-f5gj2", False, (), False),
    ]


def test_the_kubelets_own_user_is_told_less(tmp_path: Path) -> None:
    found, unknowns, program = ask(tmp_path, "w1-kubelet")
    assert unknowns == []
    assert found == Cluster(
        kubeconfig=program.kubeconfig,
        origin="option",
        reached=True,
        server=SERVER,
        version="1.20.2",
        kubectl="1.20.2",
        node_name="w1",
        missing_rights=("get daemonsets.apps",),
        config_map_rights=("update configmaps in kube-system",),
        node=W1,
        control_plane=(CP1,),
        pods=found.pods,
        budgets_known=False,
        etcd_members=1,
        config_map=CONFIG_MAP,
    )
    assert {pod.owner_exists for pod in found.pods} == {True}


def test_the_rights_are_asked_as_they_will_be_used(tmp_path: Path) -> None:
    _, _, program = ask(tmp_path, "w1-admin")
    reviews = [each["spec"]["resourceAttributes"] for each in program.sent(CREATE)["items"]]
    assert reviews == [
        {"verb": "patch", "resource": "nodes", "name": "w1"},
        {"verb": "get", "resource": "pods", "namespace": "default", "name": "agent-rglsl"},
        {"verb": "create", "resource": "pods", "subresource": "eviction"},
        {"verb": "get", "group": "apps", "resource": "daemonsets"},
        {
            "verb": "update",
            "resource": "configmaps",
            "namespace": "kube-system",
            "name": "kubelet-config-1.20",
        },
    ]


def test_a_node_of_the_control_plane_knows_its_etcd_and_its_static_pods(tmp_path: Path) -> None:
    found, unknowns, _ = ask(tmp_path, "cp1-admin", node="cp1")
    assert unknowns == []
    assert (found.node, found.etcd_members, found.etcd_unready, found.etcd_healthy) == (CP1, 1, (), True)
    assert [(pod.name, pod.uid) for pod in found.pods if pod.mirror][:1] == [
        ("etcd-cp1", "11ff3097bc7c1c90548b69fc6361f9e3")
    ]


@pytest.mark.parametrize(
    ("answer", "expected", "unknown"),
    [
        (
            (
                1,
                "",
                UNHEALTHY,
            ),
            False,
            [],
        ),
        ((0, "ok", ""), True, []),
        (
            (1, "", 'Error from server (Forbidden): forbidden: User "x" cannot get path "/readyz/etcd"\n'),
            None,
            ["cluster.etcd_healthy"],
        ),
        (
            (1, "", "Error from server (NotFound): the server could not find the requested resource\n"),
            None,
            [],
        ),
    ],
)
def test_etcd_is_healthy_or_not_or_nobody_knows(
    tmp_path: Path, answer: Answer, expected: bool | None, unknown: list[str]
) -> None:
    found, unknowns, _ = ask(tmp_path, "cp1-admin", {"get --raw /readyz/etcd": answer}, "cp1")
    assert (found.reached, found.etcd_healthy) == (True, expected)
    assert [each.subject for each in unknowns] == unknown


def test_an_api_server_without_its_etcd_is_not_reached_and_that_is_the_reason(tmp_path: Path) -> None:
    changed: dict[str, Answer] = {
        "get --raw /readyz/etcd": (1, "", UNHEALTHY),
        "get node cp1 --output=json": (
            1,
            "",
            "Unable to connect to the server: net/http: request canceled\n",
        ),
    }
    found, _, _ = ask(tmp_path, "cp1-admin", changed, "cp1")
    assert (found.reached, found.etcd_healthy) == (False, False)
    assert found.reason.startswith("its etcd is not healthy: `kubectl get node cp1`")


def test_a_member_of_etcd_that_is_not_ready_is_named(tmp_path: Path) -> None:
    answers = recorded("cp1-admin")
    pods: Any = answers[ETCD_PODS][1]
    pods["items"][0]["status"]["conditions"][0]["status"] = "False"
    found, _, _ = ask(tmp_path, "cp1-admin", {ETCD_PODS: (0, pods, "")}, "cp1")
    assert (found.etcd_members, found.etcd_unready) == (1, ("cp1",))


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("get --raw /version", (1, "", REFUSED), "was refused"),
        ("get node w1 --output=json", (1, "", REFUSED), "was refused"),
        (KUBELET_CONFIG, (1, "", REFUSED), "was refused"),
        (BUDGETS, (1, "", REFUSED), "was refused"),
        (DAEMON_SETS, (1, "", REFUSED), "was refused"),
        (CREATE, (1, "", REFUSED), "was refused"),
        (
            "get --raw /version",
            (1, "", "error: You must be logged in to the server (Unauthorized)\n"),
            "Unauthorized",
        ),
        ("config view --minify --output=json", (0, {"clusters": None}, ""), "names no server"),
        ("get node w1 --output=json", (0, {"kind": "Node"}, ""), "unknown form"),
        (PODS.format("w1"), (0, "<html>", ""), "unknown form"),
        (PODS.format("w1"), (0, {"items": [{"metadata": {"name": 1}, "spec": 7}]}, ""), "unknown form"),
    ],
)
def test_an_api_server_that_goes_away_at_any_time_is_not_reached(
    tmp_path: Path, command: str, answer: Answer, reason: str
) -> None:
    found, _, _ = ask(tmp_path, "w1-admin", {command: answer})
    assert (found.reached, found.node, found.pods, reason in found.reason) == (False, None, (), True), (
        found.reason
    )
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    ("command", "lacking"), [("get node w1 --output=json", "get nodes"), (PODS.format("w1"), "list pods")]
)
def test_a_look_that_was_refused_is_a_right_that_is_missing(
    tmp_path: Path, command: str, lacking: str
) -> None:
    found, _, _ = ask(tmp_path, "w1-admin", {command: (1, "", NO.format("them"))})
    assert (found.reached, found.missing_rights) == (True, (lacking,))


def test_a_node_that_is_not_there_is_none_and_nothing_unknown(tmp_path: Path) -> None:
    found, unknowns, _ = ask(
        tmp_path, "w1-admin", {"get node w1 --output=json": (1, "", "Error from server (NotFound): x\n")}
    )
    assert (found.reached, found.node, found.missing_rights, unknowns) == (True, None, (), [])


def test_rights_that_may_not_be_asked_are_unknown(tmp_path: Path) -> None:
    found, unknowns, _ = ask(tmp_path, "w1-admin", {CREATE: (1, "", NO.format("selfsubjectaccessreviews"))})
    assert (found.reached, found.missing_rights) == (True, ())
    assert [each.subject for each in unknowns] == ["cluster.missing_rights"]


def test_an_odd_answer_is_unknown_and_the_rest_is_known(tmp_path: Path) -> None:
    found, unknowns, _ = ask(tmp_path, "w1-admin", {"get node w1 --output=json": (0, "<html>", "")})
    assert (found.reached, found.node, found.config_map) == (True, None, CONFIG_MAP)
    assert [each.subject for each in unknowns] == ["cluster.node"]


def test_what_a_node_of_the_control_plane_may_not_see_of_it_is_unknown(tmp_path: Path) -> None:
    selector = "get nodes --selector=node-role.kubernetes.io/{} --output=json"
    refused = (1, "", NO.format("nodes"))
    changed = {
        selector.format("control-plane"): refused,
        selector.format("master"): refused,
        ETCD_PODS: refused,
    }
    found, unknowns, _ = ask(tmp_path, "cp1-admin", changed, "cp1")
    assert (found.control_plane, found.etcd_members) == ((), 0)
    assert [each.subject for each in unknowns] == ["cluster.control_plane", "cluster.etcd"]


def config(kubelet: str, name: str = "kubelet-config-1.20") -> Answer:
    return 0, {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"kubelet": kubelet}}, ""


def test_a_config_map_that_cannot_be_parsed_is_unknown_with_its_line(tmp_path: Path) -> None:
    found, unknowns, _ = ask(tmp_path, "w1-admin", {KUBELET_CONFIG: config("a: 1\nb: [\n")})
    assert found.config_map is not None
    assert (found.config_map.present, found.config_map.driver) == (True, "")
    assert [(each.subject, each.line) for each in unknowns] == [("cluster.config_map", 3)]


def test_a_config_map_that_is_silent_names_no_driver(tmp_path: Path) -> None:
    found, unknowns, _ = ask(tmp_path, "w1-admin", {KUBELET_CONFIG: config("kind: KubeletConfiguration\n")})
    assert found.config_map is not None
    assert (found.config_map.driver, found.config_map.renamed, unknowns) == ("", (), [])


def test_a_config_map_whose_cgroups_are_other_ones_under_systemd_tells_which(tmp_path: Path) -> None:
    text = "enforceNodeAllocatable: [pods, kube-reserved]\nkubeReservedCgroup: /kube-reserved\nsystemReservedCgroup: /s\n"
    found, unknowns, _ = ask(tmp_path, "w1-admin", {KUBELET_CONFIG: config(text)})
    assert found.config_map is not None
    assert (("kubeReservedCgroup: /kube-reserved (/kube_reserved.slice)",), []) == (
        found.config_map.renamed,
        unknowns,
    )


GONE: Answer = (1, "", 'Error from server (NotFound): configmaps "x" not found\n')
ALLOWED: Answer = (0, [{"kind": "SelfSubjectAccessReview", "status": {"allowed": True}}] * 4, "")
DENIED: Answer = (1, "", NO.format("configmaps"))


@pytest.mark.parametrize(
    ("changed", "expected", "rights"),
    [
        ({KUBELET_CONFIG: GONE}, KubeletConfigMap(name="kubelet-config-1.20", present=False), ()),
        ({KUBELET_CONFIG: GONE, KUBEADM_CONFIG: GONE}, None, ()),
        ({KUBEADM_CONFIG: GONE}, CONFIG_MAP, ()),
        ({KUBEADM_CONFIG: DENIED}, CONFIG_MAP, ()),
        ({KUBELET_CONFIG: DENIED}, None, ("get configmaps in kube-system",)),
    ],
)
def test_the_config_map_is_there_or_missing_or_not_told(
    tmp_path: Path, changed: dict[str, Answer], expected: KubeletConfigMap | None, rights: tuple[str, ...]
) -> None:
    found, unknowns, _ = ask(
        tmp_path, "w1-admin", changed | ({CREATE: ALLOWED} if KUBELET_CONFIG in changed else {})
    )
    assert (found.config_map, found.config_map_rights, unknowns) == (expected, rights, [])


NAMES = [
    ("v1.20.2", None, None, ("kubelet-config-1.20",)),
    ("v1.23.17", None, None, ("kubelet-config-1.23",)),
    ("v1.23.17", True, None, ("kubelet-config", "kubelet-config-1.23")),
    ("v1.24.0", None, None, ("kubelet-config", "kubelet-config-1.24")),
    ("v1.24.0", False, None, ("kubelet-config-1.24",)),
    ("v1.34.1", None, None, ("kubelet-config", "kubelet-config-1.34")),
    (None, None, "1.20.2", ("kubelet-config-1.20",)),
    ("stable", None, "1.25.0", ("kubelet-config", "kubelet-config-1.25")),
    (None, None, None, ()),
]


@pytest.mark.parametrize(("version", "gate", "kubelet", "expected"), NAMES)
def test_the_name_of_the_config_map_is_the_one_that_kubeadm_of_this_version_reads(
    version: str | None, gate: bool | None, kubelet: str | None, expected: tuple[str, ...]
) -> None:
    gates = {} if gate is None else {"featureGates": {"UnversionedKubeletConfigMap": gate}}
    assert expected == config_map_names({"kubernetesVersion": version, **gates}, kubelet)


LABELS = {"app": "web", "tier": "front"}
V1, BETA = "policy/v1", "policy/v1beta1"

SELECTORS: list[tuple[Mapping[str, Any] | None, str, bool]] = [
    (None, V1, False),
    (None, BETA, False),
    ({}, V1, True),
    ({}, BETA, False),
    ({"matchLabels": {}, "matchExpressions": []}, V1, True),
    ({"matchLabels": {}, "matchExpressions": []}, BETA, False),
    ({"matchLabels": {"app": "web"}}, BETA, True),
    ({"matchLabels": {"app": "web", "tier": "front"}}, V1, True),
    ({"matchLabels": {"app": "web", "tier": "back"}}, V1, False),
    ({"matchLabels": {"absent": ""}}, V1, False),
    *(
        ({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}, V1, expected)
        for key, operator, values, expected in (
            ("app", "In", ["db", "web"], True),
            ("app", "In", ["db"], False),
            ("absent", "In", ["db"], False),
            ("app", "NotIn", ["web"], False),
            ("app", "NotIn", ["db"], True),
            ("absent", "NotIn", ["db"], True),
            ("app", "Exists", None, True),
            ("absent", "Exists", None, False),
            ("app", "DoesNotExist", None, False),
            ("absent", "DoesNotExist", None, True),
            ("app", "Gt", ["1"], False),
        )
    ),
    (
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["back"]}],
        },
        V1,
        False,
    ),
    (
        {
            "matchExpressions": [
                {"key": "app", "operator": "Exists"},
                {"key": "tier", "operator": "NotIn", "values": ["back"]},
            ]
        },
        V1,
        True,
    ),
]


@pytest.mark.parametrize(("selector", "version", "expected"), SELECTORS)
def test_a_selector_meets_the_labels_or_does_not(
    selector: Mapping[str, Any] | None, version: str, expected: bool
) -> None:
    assert expected == covers(selector, LABELS, version)


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), min_size=1))
def test_a_selector_made_of_the_labels_themselves_meets_them(labels: dict[str, str]) -> None:
    assert covers({"matchLabels": labels}, labels, BETA)
    assert covers(
        {"matchExpressions": [{"key": key, "operator": "In", "values": [labels[key]]} for key in labels]},
        labels,
        BETA,
    )


def raw_pod(**changed: Any) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
        "spec": {},
        "status": {"phase": "Running"},
    }
    for key, value in changed.items():
        pod[key] = {**pod[key], **value}
    return pod


def budget(namespace: str, name: str, app: str) -> dict[str, Any]:
    return {
        "apiVersion": BETA,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}},
    }


OWNERS = [{"kind": "Node", "name": "n"}, {"kind": "DaemonSet", "name": "agent", "controller": True}]
POD = ClusterPod(namespace="shop", name="p", uid="u", phase="Running")

PODS_OF_THE_API: list[tuple[dict[str, Any], ClusterPod]] = [
    (raw_pod(), POD),
    (raw_pod(status={"conditions": [{"type": "Ready", "status": "True"}]}), replace(POD, ready=True)),
    (raw_pod(status={"conditions": [{"type": "Ready", "status": "Unknown"}]}), POD),
    (raw_pod(metadata={"deletionTimestamp": "2026-11-22T18:00:00Z"}), replace(POD, terminating=True)),
    (raw_pod(spec={"volumes": [{"name": "x", "emptyDir": {}}]}), replace(POD, local_data=True)),
    (raw_pod(spec={"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}), POD),
    (raw_pod(metadata={"ownerReferences": OWNERS[:1]}), POD),
    (
        raw_pod(metadata={"ownerReferences": OWNERS}),
        replace(POD, owner_kind="DaemonSet", owner_name="agent", owner_exists=False),
    ),
    (
        raw_pod(
            metadata={"annotations": {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h"}}
        ),
        replace(POD, uid="h", mirror=True),
    ),
    (raw_pod(metadata={"annotations": {"kubernetes.io/config.source": "api"}}), POD),
]


@pytest.mark.parametrize(("raw", "expected"), PODS_OF_THE_API)
def test_a_pod_of_the_api(raw: dict[str, Any], expected: ClusterPod) -> None:
    assert expected == to_pod(raw, daemon_sets={("default", "agent"), ("shop", "other")})


def test_a_daemon_set_is_taken_as_there_when_nobody_may_look() -> None:
    assert to_pod(raw_pod(metadata={"ownerReferences": OWNERS}), daemon_sets=None).owner_exists
    assert to_pod(raw_pod(metadata={"ownerReferences": OWNERS}), daemon_sets={("shop", "agent")}).owner_exists


def test_the_budgets_of_a_pod_are_those_of_its_namespace_that_meet_it() -> None:
    budgets = [
        budget("shop", "b", "web"),
        budget("shop", "a", "web"),
        budget("shop", "c", "db"),
        budget("x", "d", "web"),
    ]
    assert to_pod(raw_pod(), budgets).budgets == ("a", "b")


def test_a_budget_that_was_never_looked_at_allows_nothing() -> None:
    assert to_budget(budget("shop", "b", "web")) == Budget(namespace="shop", name="b")


@pytest.mark.parametrize("odd", [float("inf"), 1.5, "1", [1]])
def test_a_budget_with_what_is_no_count_is_an_answer_of_unknown_form(odd: object) -> None:
    raw = {"metadata": {"namespace": "shop", "name": "b"}, "status": {"currentHealthy": odd}}
    with pytest.raises(TypeError, match="is no count"):
        to_budget(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ClusterNode(name="n", uid="u")),
        ({"spec": {"unschedulable": True}}, ClusterNode(name="n", uid="u", unschedulable=True)),
        *(
            (
                {"status": {"conditions": [{"type": "Ready", "status": said}]}},
                ClusterNode(name="n", uid="u", ready=meant),
            )
            for said, meant in (("True", True), ("False", False), ("Unknown", None))
        ),
        (
            {"status": {"nodeInfo": {"machineID": "m", "kubeletVersion": "v1.28.3+k3s1"}}},
            ClusterNode(name="n", uid="u", machine_id="m", kubelet_version="1.28.3+k3s1"),
        ),
    ],
)
def test_a_node_of_the_api(raw: dict[str, Any], expected: ClusterNode) -> None:
    assert expected == to_node({"metadata": {"name": "n", "uid": "u"}, **raw})


@pytest.mark.parametrize("label", ["control-plane", "master"])
def test_a_node_of_the_control_plane_has_the_old_label_or_the_new_one(label: str) -> None:
    raw = {"metadata": {"name": "n", "uid": "u", "labels": {f"node-role.kubernetes.io/{label}": ""}}}
    assert to_node(raw).control_plane


def test_the_mark_of_a_run_is_read() -> None:
    assert (
        to_node({"metadata": {"name": "n", "uid": "u", "annotations": {"cgmigrate/run": "r1:ours"}}}).run
        == "r1:ours"
    )


@pytest.mark.parametrize(
    ("argv", "given", "expected"),
    [
        ((), "", "worker-1"),
        (("kubelet", "--hostname-override=W7"), "", "w7"),
        (("kubelet", "--hostname-override", "w7 "), "", "w7"),
        (("kubelet", "--hostname_override=w7"), "", "w7"),
        (("kubelet", "--hostname-override=w7"), "Other", "other"),
    ],
)
def test_the_name_of_the_node_is_given_or_the_kubelets_flag_or_the_hostname(
    argv: tuple[str, ...], given: str, expected: str
) -> None:
    node = replace(NODE, hostname="Worker-1")
    assert expected == node_name(replace(KUBELET, argv=argv), node, Ask(node_name=given))


@pytest.mark.parametrize(
    ("live", "own", "given", "expected"),
    [
        (True, "/etc/kubernetes/kubelet.conf", "", True),
        (True, "", "/root/admin.conf", True),
        (True, "", "", False),
        (False, "/etc/kubernetes/kubelet.conf", "/root/admin.conf", False),
    ],
)
def test_an_image_and_a_standalone_kubelet_have_no_api_server_to_ask(
    live: bool, own: str, given: str, expected: bool
) -> None:
    kubelet, node = replace(KUBELET, kubeconfig=own), replace(NODE, live=live)
    assert expected == is_asked(kubelet, node, Ask(kubeconfig=given))
    if not expected:
        assert gather_cluster(Look(Reader()), kubelet, node, Ask(kubeconfig=given)) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("kubelet.conf", "kubelet.conf: not an absolute path"),
        ("/nonexistent/x.conf", "/nonexistent/x.conf: there is no such file"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_the_reason(path: str, reason: str) -> None:
    found = gather_cluster(Look(Reader()), replace(KUBELET, kubeconfig="x"), NODE, Ask(kubeconfig=path))
    assert found == Cluster(kubeconfig=path, origin="option", node_name="worker-1", reason=reason)


def test_a_fresh_look_at_the_pods_alone_gives_the_same_pods(tmp_path: Path) -> None:
    found, _, program = ask(tmp_path, "w1-admin")
    fresh = look_at_pods(program.kube(), "w1")
    assert (fresh.pods, fresh.budgets, fresh.version) == (found.pods, found.budgets, "1.20.2")


def test_an_api_server_that_hangs_costs_one_request(tmp_path: Path) -> None:
    program = kubectl(tmp_path, recorded("w1-admin"))
    script = Path(program.program)
    script.write_text(script.read_text().replace("\nkey=\n", "\ncase $* in *--raw*) sleep 60;; esac\nkey=\n"))
    asked = Ask(kubeconfig=program.kubeconfig, node_name="w1", timeout=0.2, program=program.program)
    found = gather_cluster(Look(Reader()), KUBELET, NODE, asked)
    assert found is not None
    assert (found.reached, "gave no answer within 3.2 s" in found.reason) == (False, True), found.reason
