# SPDX-License-Identifier: Apache-2.0
"""Facts survive their file, are refused when malformed, and have a digest that time alone does not change."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from migrator.errors import UsageError
from migrator.facts import model, store
from migrator.facts.model import (
    Budget,
    Cgroups,
    Cluster,
    ClusterNode,
    ClusterPod,
    Container,
    Driver,
    Facts,
    File,
    Handler,
    Hierarchy,
    Kubelet,
    KubeletConfigMap,
    Node,
    Pod,
    Runtime,
    Source,
    Tree,
    Unit,
    Unknown,
)

UNIT = Unit(
    name="kubelet.service",
    load_state="loaded",
    active_state="active",
    sub_state="running",
    main_pid=7,
    invocation_id="ab",
)
CHAIN = (
    Source(kind="default", value="cgroupfs"),
    Source(kind="process", value="systemd", path="/proc/7/cmdline"),
)
CONTAINER = Container(
    id="c" * 64, name="web", pod_uid="u", state="running", pids=(8, 9), cgroups=("/kubepods/podu/c",)
)
CLUSTER = Cluster(
    kubeconfig="/k",
    origin="kubelet",
    reached=True,
    node_name="w",
    missing_rights=("get nodes",),
    node=ClusterNode(name="w", uid="n1", ready=True),
    control_plane=(ClusterNode(name="cp", uid="n2", ready=None, control_plane=True),),
    pods=(ClusterPod(namespace="d", name="p", uid="u", phase="Running", ready=True, budgets=("b",)),),
    budgets=(Budget(namespace="d", name="b", allowed=1, healthy=2, desired=1, expected=2),),
    etcd_members=3,
    etcd_healthy=True,
    config_map=KubeletConfigMap(name="kubelet-config", present=True, driver="cgroupfs"),
)
FACTS = Facts(
    version=1,
    node=Node(
        hostname="w\udc80\n",  # what a surrogate escape or a hostile name leaves
        machine_id="m",
        boot_id="b1",
        os="Debian",
        kernel="6.1",
        architecture="x86_64",
        uid=0,
        live=True,
        init_systemd=True,
        systemd_version=None,
        cgroup_mode="hybrid",
        hierarchies=(Hierarchy(mount="/sys/fs/cgroup/cpu", version=1, controllers=("cpu", "cpuacct")),),
    ),
    kubelet=Kubelet(
        present=True,
        unit=UNIT,
        driver_running=Driver(value="systemd", chain=CHAIN),
        reserved_cgroups=(("kubeReservedCgroup", "/kube"),),
    ),
    runtime=Runtime(
        kind="containerd",
        units=(replace(UNIT, name="containerd.service"),),
        handlers=(Handler(name="runc", runtime_type=""),),
    ),
    cgroups=Cgroups(
        trees=(Tree(driver="cgroupfs", mount="/m", path="/kubepods", directories=3, populated=2),),
        descendants=4,
    ),
    pods=(Pod(uid="u", sandbox_state="running", containers=(CONTAINER,)),),
    other_containers=(replace(CONTAINER, pod_uid=""),),
    files=(File(path="/a", real_path="/b", present=True, sha256="0" * 64, size=1),),
    unknowns=(Unknown(subject="/a", reason="no answer within 30 s", line=3),),
    cluster=CLUSTER,
)


def test_facts_come_back_from_their_file_as_they_were() -> None:
    assert store.load(store.dump(FACTS)) == FACTS
    assert store.from_json(store.to_json(FACTS)) == FACTS


def test_the_file_is_sorted_ends_with_a_newline_and_is_plain_ascii() -> None:
    text = store.dump(FACTS)
    assert text.isascii()
    assert text.endswith("}\n")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_a_field_that_older_facts_lack_has_its_default() -> None:
    document = store.to_json(FACTS)
    del document["cgroups"]["slice_drop_ins"], document["unknowns"]
    assert store.from_json(document) == replace(FACTS, unknowns=())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "malformed facts: "),
        ("{", "malformed facts: "),
        ("[" * 100_000, "malformed facts: "),
        (b"\xff\xfe\x00", "malformed facts: "),
        ('{"node":' * 300 + "1" + "}" * 300, "malformed facts: nested too deeply"),
        ('{"version": [' + "9," * 5000 + "9]}", "these facts are of version [9, 9, "),
        ("[]", "malformed facts at the top: [] is not of type 'object'"),
        ("{}", "malformed facts at the top: "),
        ('{"version": 2}', "these facts are of version 2, and this cgmigrate reads version 1"),
        ('{"version": "1"}', "these facts are of version '1', and this cgmigrate reads version 1"),
    ],
)
def test_what_is_no_facts_file_is_refused_with_the_reason(text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.load(text)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("node", "cpus"), "two", ".node.cpus"),
        (("node", "cpus"), True, ".node.cpus"),
        (("node", "cgroup_mode"), "v3", ".node.cgroup_mode"),
        (("pods", 0, "containers", 0, "pids", 1), -1, ".pods[0].containers[0].pids[1]"),
        (("kubelet", "reserved_cgroups", 0), ["kubeReservedCgroup"], ".kubelet.reserved_cgroups[0]"),
        (("kubelet", "surprise"), 1, ".kubelet"),
        (("runtime",), None, ".runtime"),
        (("files", 0, "present"), None, ".files[0].present"),
    ],
)
def test_malformed_facts_are_refused_with_the_place(
    path: tuple[str | int, ...], value: object, where: str
) -> None:
    document: Any = store.to_json(FACTS)
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    parent[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        store.from_json(document)
    assert caught.value.message.startswith(f"malformed facts at {where}: ")


def with_container(**changes: Any) -> Facts:
    changed = replace(CONTAINER, **changes)
    return replace(
        FACTS,
        pods=(replace(FACTS.pods[0], containers=(changed,)),),
        other_containers=(replace(changed, pod_uid=""),),
    )


def with_cluster(**changes: Any) -> Facts:
    return replace(FACTS, cluster=replace(CLUSTER, **changes))


def with_cluster_pod(**changes: Any) -> Facts:
    return with_cluster(pods=(replace(CLUSTER.pods[0], **changes),))


def restarted() -> Facts:
    """Return the facts after kubelet and runtime were started again: other processes, the same node."""
    unit = replace(UNIT, main_pid=70, invocation_id="cd", active_state="activating", sub_state="start")
    chain = (CHAIN[0], replace(CHAIN[1], path="/proc/70/cmdline"))
    kubelet = replace(FACTS.kubelet, unit=unit, driver_running=Driver(value="systemd", chain=chain))
    return replace(
        FACTS,
        kubelet=kubelet,
        runtime=replace(FACTS.runtime, units=(replace(unit, name="containerd.service"),)),
    )


NODE = ClusterNode(name="w", uid="n1", ready=True)

PASSES = {
    "a reboot": replace(FACTS, node=replace(FACTS.node, boot_id="b2")),
    "a restart of the services": restarted(),
    "another user looked": replace(FACTS, node=replace(FACTS.node, uid=1000)),
    "processes of a container come and go": with_container(pids=(8, 10)),
    "a container pauses": with_container(state="exited"),
    "a sandbox stops": replace(FACTS, pods=(replace(FACTS.pods[0], sandbox_state="exited"),)),
    "a cgroup empties": replace(
        FACTS, cgroups=replace(FACTS.cgroups, trees=(replace(FACTS.cgroups.trees[0], populated=1),))
    ),
    "the kernel's counters move": replace(FACTS, cgroups=replace(FACTS.cgroups, descendants=5, dying=6)),
    "a node of the control plane is away": with_cluster(
        control_plane=(replace(CLUSTER.control_plane[0], ready=False),)
    ),
    "the node is not Ready": with_cluster(node=replace(NODE, ready=None)),
    "a pod of the API is not ready": with_cluster_pod(ready=False, phase="Pending", terminating=True),
    "a budget allows something else": with_cluster(
        budgets=(Budget(namespace="d", name="b", allowed=0, healthy=1, desired=2, expected=3),)
    ),
    "etcd is not healthy": with_cluster(etcd_healthy=None, etcd_unready=("cp",)),
    "another wording of why": replace(
        FACTS, unknowns=(replace(FACTS.unknowns[0], reason="no answer within 29 s"),)
    ),
}
COUNTS = {
    "a file changes": replace(FACTS, files=(replace(FACTS.files[0], sha256="1" * 64),)),
    "another driver": replace(FACTS, runtime=replace(FACTS.runtime, driver=Driver(value="systemd"))),
    "a pod leaves": replace(FACTS, pods=()),
    "a container is made anew": with_container(id="d" * 64),
    "a container is somewhere else": with_container(cgroups=("/kubepods.slice/x",)),
    "a tree grows": replace(
        FACTS, cgroups=replace(FACTS.cgroups, trees=(replace(FACTS.cgroups.trees[0], directories=4),))
    ),
    "a unit is disabled": replace(
        FACTS, kubelet=replace(FACTS.kubelet, unit=replace(UNIT, unit_file_state="disabled"))
    ),
    "something else is unknown": replace(FACTS, unknowns=(replace(FACTS.unknowns[0], line=4),)),
    "nobody asks the API server": replace(FACTS, cluster=None),
    "the API server is not reached": with_cluster(reached=False),
    "another right": with_cluster(missing_rights=()),
    "the Node is made anew": with_cluster(node=replace(NODE, uid="n3")),
    "the node is cordoned": with_cluster(node=replace(NODE, unschedulable=True)),
    "a run has the node": with_cluster(node=replace(NODE, run="r1:ours")),
    "a pod of the API is another": with_cluster_pod(uid="u2"),
    "a pod gets another budget": with_cluster_pod(budgets=()),
    "a budget goes": with_cluster(budgets=()),
    "the ConfigMap changes": with_cluster(
        config_map=KubeletConfigMap(name="kubelet-config", present=True, driver="systemd")
    ),
    "another machine": replace(FACTS, node=replace(FACTS.node, machine_id="n")),
}


@pytest.mark.parametrize("what", PASSES)
def test_the_digest_leaves_out_what_changes_by_itself(what: str) -> None:
    assert store.digest(FACTS) == store.digest(PASSES[what])


@pytest.mark.parametrize("what", COUNTS)
def test_the_digest_covers_what_somebody_changed(what: str) -> None:
    assert store.digest(FACTS) != store.digest(COUNTS[what])


def test_the_digest_is_a_sha256_and_survives_the_file() -> None:
    assert len(store.digest(FACTS)) == 64
    assert store.digest(FACTS) == store.digest(store.load(store.dump(FACTS)))


def definitions() -> dict[str, dict[str, Any]]:
    return {"Facts": store.schema(), **store.schema()["$defs"]}


MODEL = {name: each for name, each in vars(model).items() if dataclasses.is_dataclass(each)}


def test_the_schema_is_a_schema_of_the_models_version() -> None:
    Draft202012Validator.check_schema(store.schema())
    assert store.schema()["$id"] == store.SCHEMA == f"facts-{model.FACTS_VERSION}.schema.json"
    assert store.schema()["properties"]["version"]["const"] == model.FACTS_VERSION


def test_the_schema_has_exactly_the_models_shape() -> None:
    def shape(each: Any) -> tuple[set[str], set[str]]:
        required = {f.name for f in fields(each) if f.default is f.default_factory is dataclasses.MISSING}
        return {f.name for f in fields(each)}, required

    expected = {name: shape(each) for name, each in MODEL.items()}
    found = {name: (set(each["properties"]), set(each["required"])) for name, each in definitions().items()}
    assert expected == found
    assert all(each["additionalProperties"] is False for each in definitions().values())


def test_the_schema_allows_null_exactly_where_the_model_does() -> None:
    def nullable(schema: dict[str, Any]) -> bool:
        return "null" in schema.get("type", ()) or {"type": "null"} in schema.get("anyOf", ())

    expected = {
        (name, each): type(None) in get_args(hint)
        for name, kind in MODEL.items()
        for each, hint in get_type_hints(kind).items()
    }
    found = {
        (name, each): nullable(schema)
        for name, kind in definitions().items()
        for each, schema in kind["properties"].items()
    }
    assert expected == found


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, each in definitions().items() for name in each["properties"]]
)
def test_every_property_is_described_and_has_an_example_that_is_valid(kind: str, name: str) -> None:
    described = definitions()[kind]["properties"][name]
    validator = Draft202012Validator({**described, "$defs": store.schema()["$defs"]})
    assert described["description"].endswith(".")
    assert described["examples"]
    assert [] == [
        error.message for example in described["examples"] for error in validator.iter_errors(example)
    ]
