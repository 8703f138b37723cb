# SPDX-License-Identifier: Apache-2.0
"""Two witnesses: what both say is held against the driver, and each contradiction has its own finding."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from migrator.cgroups import Driver
from migrator.errors import UsageError
from migrator.facts.model import (
    Cgroups,
    Container,
    Facts,
    Handler,
    Hierarchy,
    Kubelet,
    Node,
    Pod,
    Runtime,
    Source,
    Tree,
    Unit,
    Unknown,
)
from migrator.facts.model import Driver as DriverFact
from migrator.findings import Severity
from migrator.host import Reader
from migrator.limits import UNLIMITED
from migrator.plan_table import Translation
from migrator.schemas import load_schema
from migrator.systemd import parse_show
from migrator.verify import RULES, Evidence, Verification, judge, verify
from migrator.verify.returned import running
from migrator.verify.view import speaks_of, to_json, write
from migrator.witness import (
    Cgroup,
    Manifest,
    ask_health,
    changed,
    look_at_processes,
    look_at_tree,
    process_start,
    read_manifests,
    tree_root,
    unit_patterns,
)
from tests.unit.nodes import lay
from tests.unit.terminals import SGR, Terminal

UID = "c4f55183c9426d25bde5a58760ad1eca"
ID, SANDBOX_ID = "6764c841" * 8, "d55d328e" * 8
MEMORY, CPU, PIDS, SYSTEMD = (f"/sys/fs/cgroup/{name}" for name in ("memory", "cpu", "pids", "systemd"))
HIERARCHIES = (
    Hierarchy(mount=MEMORY, version=1, controllers=("memory",)),
    Hierarchy(mount=CPU, version=1, controllers=("cpu",)),
    Hierarchy(mount=PIDS, version=1, controllers=("pids",)),
    Hierarchy(mount=SYSTEMD, version=1, controllers=("name=systemd",)),
)
UNIFIED = (Hierarchy(mount="/sys/fs/cgroup", version=2),)
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice"
POD = {Driver.SYSTEMD: SLICE, Driver.CGROUPFS: f"/kubepods/burstable/pod{UID}"}
PLACE = {
    Driver.SYSTEMD: f"{SLICE}/docker-{ID}.scope",
    Driver.CGROUPFS: f"/kubepods/burstable/pod{UID}/{ID}",
}
SANDBOX = {
    Driver.SYSTEMD: f"{SLICE}/docker-{SANDBOX_ID}.scope",
    Driver.CGROUPFS: f"/kubepods/burstable/pod{UID}/{SANDBOX_ID}",
}
PARENT = {Driver.SYSTEMD: SLICE.rpartition("/")[2], Driver.CGROUPFS: POD[Driver.CGROUPFS]}
V1_LIMITS = {"memory": 33_554_432, "shares": 10, "quota": 25_000, "period": 100_000, "tasks": 28_909}
V2_LIMITS = {"memory": 33_554_432, "weight": 39, "quota": 25_000, "period": 100_000, "tasks": 28_909}
V1_UNIT = {
    "MemoryLimit": "33554432",
    "MemoryMax": "infinity",
    "CPUShares": "10",
    "CPUWeight": "[not set]",
    "CPUQuotaPerSecUSec": "250ms",
    "TasksMax": "28909",
}
V2_UNIT = {
    "MemoryLimit": "infinity",
    "MemoryMax": "33554432",
    "CPUShares": "[not set]",
    "CPUWeight": "39",
    "CPUQuotaPerSecUSec": "250ms",
    "TasksMax": "28909",
}
HOLDS: list[str] = []


def driver(value: str, path: str) -> DriverFact:
    return DriverFact(value=value, chain=(Source(kind="config-file", value=value, path=path, line=3),))


def facts(on: Driver, hierarchies: tuple[Hierarchy, ...] = HIERARCHIES) -> Facts:
    def container(name: str, identity: str, pid: int, place: str) -> Container:
        return Container(
            id=identity,
            name=name,
            pod_uid=UID,
            state="running",
            sandbox=not name,
            pids=(pid,),
            cgroups=(place,),
            cgroup_parent=PARENT[on],
        )

    pod = Pod(
        uid=UID,
        name="web-node1",
        namespace="default",
        qos="burstable",
        static=True,
        sandbox_id=SANDBOX_ID,
        sandbox_state="running",
        containers=(container("", SANDBOX_ID, 100, SANDBOX[on]), container("app", ID, 101, PLACE[on])),
        driver=on,
    )
    return Facts(
        version=1,
        node=Node(
            hostname="node1",
            machine_id="m",
            boot_id="b",
            os="Debian 12",
            kernel="6.1",
            architecture="x86_64",
            uid=0,
            live=True,
            init_systemd=True,
            systemd_version=252,
            cgroup_mode="legacy" if hierarchies is HIERARCHIES else "unified",
            hierarchies=hierarchies,
        ),
        kubelet=Kubelet(
            present=True,
            version="1.20.2",
            unit=Unit(name="kubelet.service", active_state="active", main_pid=7),
            argv=("/usr/bin/kubelet",),
            config_file="/var/lib/kubelet/config.yaml",
            driver=driver(on, "/var/lib/kubelet/config.yaml"),
            driver_running=driver(on, "/var/lib/kubelet/config.yaml"),
        ),
        runtime=Runtime(
            kind="docker",
            units=(Unit(name="docker.socket"), Unit(name="docker.service")),
            config_file="/etc/docker/daemon.json",
            driver=driver(on, "/etc/docker/daemon.json"),
            driver_reported=DriverFact(value=on, chain=(Source(kind="daemon", value=on),)),
        ),
        cgroups=Cgroups(
            trees=tuple(
                Tree(driver=on, mount=each.mount, path=tree_root(on), directories=6, populated=2)
                for each in hierarchies
            )
        ),
        pods=(pod,),
    )


def levels(on: Driver) -> tuple[str, ...]:
    pod = POD[on]
    qos = pod.rpartition("/")[0]
    return (qos.rpartition("/")[0], qos, pod)


def sound(on: Driver = Driver.SYSTEMD, hierarchies: tuple[Hierarchy, ...] = HIERARCHIES) -> Evidence:
    """Return what a node says on which all is well, with its only container limited in every way."""
    v2 = hierarchies is UNIFIED
    mounts = tuple(each.mount for each in hierarchies)
    limits = V2_LIMITS if v2 else V1_LIMITS
    cgroups = {
        path: Cgroup(path=path, mounts=mounts, pids=frozenset({100, 101}), limits=limits)
        for path in levels(on)
    }
    for place, pid in ((PLACE[on], 101), (SANDBOX[on], 100)):
        cgroups[place] = Cgroup(path=place, mounts=mounts, pids=frozenset({pid}), limits=limits)
    shown = {}
    if on is Driver.SYSTEMD:
        for path in cgroups:
            unit = path.rpartition("/")[2]
            shown[unit] = {"Id": unit, "ActiveState": "active", "ControlGroup": path} | (
                V2_UNIT if v2 else V1_UNIT
            )
    keys = [",".join(each.controllers) for each in hierarchies]
    return Evidence(
        facts=facts(on, hierarchies),
        cgroups=cgroups,
        processes={pid: dict.fromkeys(keys, place) for pid, place in ((100, SANDBOX[on]), (101, PLACE[on]))},
        shown=shown,
        listed=dict.fromkeys(shown, "active"),
        kubelet_started=1000.0,
        written={"/var/lib/kubelet/config.yaml": 900.0},
        manifests=(
            Manifest(path="/etc/kubernetes/manifests/web.yaml", name="web", containers=("app",)),
            Manifest(path="/etc/kubernetes/manifests/w.yaml", name="w", containers=()),
        )[:1],
        before={UID: {"": SANDBOX_ID, "app": ID}},
    )


def ids(verification: Verification) -> list[str]:
    return sorted({finding.id for finding in verification.findings})


def kubelet(evidence: Evidence, **changes: object) -> Evidence:
    node = replace(evidence.facts, kubelet=replace(evidence.facts.kubelet, **changes))  # type: ignore[arg-type]
    return replace(evidence, facts=node)


def runtime(evidence: Evidence, **changes: object) -> Evidence:
    node = replace(evidence.facts, runtime=replace(evidence.facts.runtime, **changes))  # type: ignore[arg-type]
    return replace(evidence, facts=node)


NVIDIA = Handler(name="nvidia", runtime_type="io.containerd.runc.v2")
GVISOR = Handler(
    name="g", runtime_type="io.containerd.runsc.v1", config_path="/r.toml", path="/r.toml", line=1
)


def tree(evidence: Evidence, **changes: object) -> Evidence:
    node = replace(evidence.facts, cgroups=replace(evidence.facts.cgroups, **changes))  # type: ignore[arg-type]
    return replace(evidence, facts=node)


def container(evidence: Evidence, **changes: object) -> Evidence:
    """Change the container `app`, not its sandbox."""
    pod = evidence.facts.pods[0]
    sandbox, app = pod.containers
    pod = replace(pod, containers=(sandbox, replace(app, **changes)))  # type: ignore[arg-type]
    return replace(evidence, facts=replace(evidence.facts, pods=(pod,)))


def process(evidence: Evidence, **paths: str) -> Evidence:
    """Move the container's process in some hierarchies."""
    return replace(evidence, processes={**evidence.processes, 101: {**evidence.processes[101], **paths}})


def unit(evidence: Evidence, name: str, **properties: str) -> Evidence:
    return replace(evidence, shown={**evidence.shown, name: {**evidence.shown[name], **properties}})


def without(mapping: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in mapping.items() if name != key}


SCOPE = PLACE[Driver.SYSTEMD].rpartition("/")[2]
EXTRA = Container(id="f" * 64, name="db", state="running", cgroup_parent="/db")
OLD = Container(id="e" * 64, name="app", pod_uid=UID, state="exited", cgroup_parent=POD[Driver.CGROUPFS])
OLD_TREES = tuple(
    Tree(driver="cgroupfs", mount=each.mount, path="/kubepods", directories=5, populated=0)
    for each in HIERARCHIES
)
LITERAL = f"/kubepods-burstable-pod{UID}.slice:cri-containerd:{ID}"
LATER = replace(
    sound().facts.pods[0], containers=(replace(OLD, id=ID, cgroup_parent=PARENT[Driver.SYSTEMD]),)
)

CONTRADICTIONS: dict[str, tuple[Callable[[Evidence], Evidence], list[str]]] = {
    "nothing": (lambda it: it, HOLDS),
    "a silent bus": (lambda it: replace(it, silent=(("systemd on D-Bus", "gone"),)), ["verify-incomplete"]),
    "a runtime that is down": (
        lambda it: runtime(it, units=(Unit(name="docker.service", active_state="failed"),)),
        ["verify-incomplete"],
    ),
    "a runtime that would not list its containers": (
        lambda it: replace(
            it, facts=replace(it.facts, unknowns=(Unknown(subject="runtime.containers", reason="EOF"),))
        ),
        ["verify-incomplete"],
    ),
    "a look without root's rights": (
        lambda it: replace(it, facts=replace(it.facts, node=replace(it.facts.node, uid=1000))),
        ["verify-incomplete"],
    ),
    "a static pod's file that is no YAML": (
        lambda it: replace(it, unread=(("/m/x.yaml", "line 1"),)),
        ["verify-manifest-unread"],
    ),
    "a kubelet configured for cgroupfs": (
        lambda it: kubelet(it, driver=driver("cgroupfs", "/etc/default/kubelet")),
        ["verify-kubelet-driver"],
    ),
    "a kubelet of an unknown driver": (
        lambda it: kubelet(it, driver=DriverFact(value=None)),
        ["verify-kubelet-driver"],
    ),
    "a kubelet started with cgroupfs": (
        lambda it: kubelet(it, driver_running=driver("cgroupfs", "/proc/7/cmdline")),
        ["verify-kubelet-driver"],
    ),
    "a kubelet that asked a runtime on cgroupfs": (
        lambda it: kubelet(
            it, decides="runtime", driver=driver("cgroupfs", "/run/containerd/containerd.sock")
        ),
        ["verify-kubelet-driver"],
    ),
    "a kubelet that keeps the runtime's answer to itself": (
        lambda it: kubelet(it, decides="runtime", driver_running=DriverFact(value=None)),
        HOLDS,
    ),
    "a kubelet that does not run": (
        lambda it: kubelet(it, argv=(), driver_running=driver("cgroupfs", "/proc/7/cmdline")),
        HOLDS,
    ),
    "a pod whose runtime is unknown": (lambda it: runtime(it, kind="unknown"), ["verify-incomplete"]),
    "a kubelet older than its configuration": (
        lambda it: replace(it, written={"/var/lib/kubelet/config.yaml": 1002.0}),
        ["verify-kubelet-stale"],
    ),
    "a kubelet started in the second of the write": (
        lambda it: replace(it, written={"/var/lib/kubelet/config.yaml": 1000.5}),
        HOLDS,
    ),
    "a node without a pod": (
        lambda it: replace(it, facts=replace(it.facts, pods=()), manifests=()),
        ["verify-no-pods"],
    ),
    "a node without a pod as far as could be heard": (
        lambda it: replace(
            it,
            facts=replace(it.facts, pods=(), unknowns=(Unknown(subject="runtime.containers", reason="EOF"),)),
            manifests=(),
        ),
        ["verify-incomplete"],
    ),
    "a sick kubelet": (lambda it: replace(it, health="500 syncloop"), ["verify-kubelet-health"]),
    "a runtime configured for cgroupfs": (
        lambda it: runtime(it, driver=driver("cgroupfs", "/etc/docker/daemon.json")),
        ["verify-runtime-driver"],
    ),
    "a runtime that reports cgroupfs": (
        lambda it: runtime(it, driver_reported=DriverFact(value="cgroupfs")),
        ["verify-runtime-driver"],
    ),
    "a runtime that reports nothing": (
        lambda it: runtime(it, driver_reported=DriverFact(value=None)),
        HOLDS,
    ),
    "a handler left behind, on a runtime of other scopes": (
        lambda it: runtime(it, kind="containerd", handlers=(NVIDIA,)),
        ["verify-handler-driver", "verify-place"],
    ),
    "an old tree": (lambda it: tree(it, trees=it.facts.cgroups.trees + OLD_TREES), ["verify-old-tree"]),
    "a literal directory": (
        lambda it: tree(it, literal=(f"{MEMORY}{LITERAL}",)),
        ["verify-literal-cgroup"],
    ),
    "a process in a literal cgroup": (
        lambda it: process(it, memory=LITERAL, cpu=LITERAL, pids=LITERAL),
        ["verify-literal-cgroup", "verify-place"],
    ),
    "a failed scope": (
        lambda it: replace(it, listed={**it.listed, "docker-0.scope": "failed"}),
        ["verify-failed-unit"],
    ),
    "a failed unit in the facts alone": (
        lambda it: tree(it, failed_units=("docker-0.scope",)),
        ["verify-failed-unit"],
    ),
    "an exited container of the old driver": (
        lambda it: replace(
            it,
            facts=replace(
                it.facts,
                pods=(replace(it.facts.pods[0], containers=(*it.facts.pods[0].containers, OLD)),),
            ),
        ),
        ["verify-old-container"],
    ),
    "a container of somebody else": (
        lambda it: replace(it, facts=replace(it.facts, other_containers=(EXTRA,))),
        ["verify-foreign-container"],
    ),
    "a container of somebody else without a parent": (
        lambda it: replace(it, facts=replace(it.facts, other_containers=(replace(EXTRA, cgroup_parent=""),))),
        HOLDS,
    ),
    "a static pod that is not back": (
        lambda it: replace(it, manifests=(*it.manifests, Manifest(path="/m/db.yaml", name="db"))),
        ["verify-pod-missing"],
    ),
    "a static pod with a container too few": (
        lambda it: replace(it, manifests=(replace(it.manifests[0], containers=("app", "sidecar")),)),
        ["verify-pod-missing"],
    ),
    "a static pod whose name begins like another": (
        lambda it: replace(it, manifests=(*it.manifests, Manifest(path="/m/w.yaml", name="web-node1"))),
        ["verify-pod-missing"],
    ),
    "a container that was made anew": (
        lambda it: replace(it, before={UID: {"": SANDBOX_ID, "app": "0" * 64}}),
        ["verify-restart"],
    ),
    "a container that ended": (
        lambda it: replace(it, before={UID: {"": SANDBOX_ID, "app": ID, "sidecar": "1" * 64}}),
        ["verify-restart"],
    ),
    "a pod that was deleted meanwhile": (
        lambda it: replace(it, before={**it.before, "gone": {"app": "2" * 64}}),
        HOLDS,
    ),
    "a pod that ended meanwhile": (
        lambda it: replace(
            it,
            facts=replace(
                it.facts, pods=(replace(LATER, containers=(replace(LATER.containers[0], state="exited"),)),)
            ),
            manifests=(),
        ),
        ["verify-no-pods", "verify-restart"],
    ),
    "a process in the old place of one hierarchy": (
        lambda it: process(it, memory=PLACE[Driver.CGROUPFS]),
        ["verify-place"],
    ),
    "a process at the root of a managed hierarchy": (lambda it: process(it, cpu="/"), ["verify-place"]),
    "a process elsewhere in a hierarchy of nobody": (
        lambda it: process(it, misc="/system.slice/docker.service"),
        HOLDS,
    ),
    "a process in a child of its container": (
        lambda it: process(it, memory=f"{PLACE[Driver.SYSTEMD]}/container"),
        HOLDS,
    ),
    "a process in a scope whose name only begins alike": (
        lambda it: process(it, memory=f"{PLACE[Driver.SYSTEMD]}x"),
        ["verify-place"],
    ),
    "a process that systemd moved up to its slice among the devices": (
        lambda it: process(it, devices=SLICE),
        ["verify-trimmed-place"],
    ),
    "a sandbox that systemd moved up to its slice among the devices": (
        lambda it: replace(it, processes={**it.processes, 100: {**it.processes[100], "devices": SLICE}}),
        HOLDS,
    ),
    "CRI-O's monitor of the container": (
        lambda it: process(it, memory=f"/system.slice/crio-conmon-{ID}.scope"),
        HOLDS,
    ),
    "a process among the devices of another pod": (
        lambda it: process(it, devices=SLICE.replace(UID, "0" * 32)),
        ["verify-place"],
    ),
    "a process that was moved up to its slice where limits are": (
        lambda it: process(it, memory=SLICE),
        ["verify-place"],
    ),
    "a process in the old place of a hierarchy of nobody": (
        lambda it: process(it, misc=PLACE[Driver.CGROUPFS]),
        ["verify-place"],
    ),
    "a running container without a process": (
        lambda it: container(it, pids=(), cgroups=()),
        ["verify-place"],
    ),
    "a pod's cgroup that is missing in a hierarchy": (
        lambda it: replace(
            it, cgroups={**it.cgroups, SLICE: replace(it.cgroups[SLICE], mounts=(CPU, PIDS, SYSTEMD))}
        ),
        ["verify-place"],
    ),
    "a unit that systemd keeps elsewhere": (
        lambda it: unit(it, SCOPE, ControlGroup=f"/system.slice/{SCOPE}"),
        ["verify-unit-place"],
    ),
    "a scope that systemctl does not know": (
        lambda it: replace(it, shown=without(it.shown, SCOPE)),  # type: ignore[arg-type]
        ["verify-population", "verify-unit-place"],
    ),
    "a scope that D-Bus does not know": (
        lambda it: replace(it, listed=without(it.listed, SCOPE)),  # type: ignore[arg-type]
        ["verify-population", "verify-unit-place"],
    ),
    "a scope in which nothing lives": (
        lambda it: replace(
            it,
            cgroups={
                **it.cgroups,
                PLACE[Driver.SYSTEMD]: replace(it.cgroups[PLACE[Driver.SYSTEMD]], pids=frozenset()),
            },
        ),
        ["verify-population"],
    ),
    "a page of memory more": (
        lambda it: unit(it, SCOPE, MemoryLimit=str(33_554_432 + 4096)),
        ["verify-memory-limit"],
    ),
    "less than a page of memory more": (
        lambda it: unit(it, SCOPE, MemoryLimit=str(33_554_432 + 4095)),
        HOLDS,
    ),
    "a memory limit that systemd does not know": (
        lambda it: unit(it, SCOPE, MemoryLimit="infinity"),
        ["verify-memory-limit"],
    ),
    "a memory limit by the newer property": (
        lambda it: unit(it, SCOPE, MemoryLimit="infinity", MemoryMax="33554432"),
        HOLDS,
    ),
    "a quota rounded up": (
        lambda it: replace(
            unit(it, SCOPE, CPUQuotaPerSecUSec="1.240000s"),
            cgroups={
                **it.cgroups,
                PLACE[Driver.SYSTEMD]: replace(
                    it.cgroups[PLACE[Driver.SYSTEMD]], limits=V1_LIMITS | {"quota": 123_456}
                ),
            },
        ),
        HOLDS,
    ),
    "another quota": (lambda it: unit(it, SCOPE, CPUQuotaPerSecUSec="260ms"), ["verify-cpu-quota"]),
    "no quota": (lambda it: unit(it, SCOPE, CPUQuotaPerSecUSec="infinity"), ["verify-cpu-quota"]),
    "other shares": (lambda it: unit(it, SCOPE, CPUShares="11"), ["verify-cpu-weight"]),
    "shares that nobody stated": (lambda it: unit(it, SCOPE, CPUShares="[not set]"), HOLDS),
    "another number of tasks": (lambda it: unit(it, SCOPE, TasksMax="infinity"), ["verify-tasks-max"]),
    "a leaked slice": (
        lambda it: replace(
            it,
            cgroups={
                **it.cgroups,
                f"{SLICE[:-7]}0.slice": Cgroup(path=f"{SLICE[:-7]}0.slice", mounts=(CPU,)),
            },
        ),
        ["verify-leaked-cgroup"],
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_each_contradiction_has_its_own_finding(what: str) -> None:
    change, expected = CONTRADICTIONS[what]
    verification = judge(change(sound()), Driver.SYSTEMD)
    assert ids(verification) == expected
    for finding in verification.findings:
        assert (finding.severity, finding.reference) == (
            RULES[finding.id].severity,
            RULES[finding.id].reference,
        )
        assert finding.summary


def test_every_rule_is_broken_by_some_row_of_the_table() -> None:
    broken = {rule for _, rules in CONTRADICTIONS.values() for rule in rules}
    assert broken | {"verify-old-unit"} == set(RULES)


@pytest.mark.parametrize(
    ("weight", "unit_weight", "expected"),
    [
        ("39", "100", HOLDS),
        ("100", "39", HOLDS),
        ("39", "174", ["verify-cpu-weight"]),
        ("39", "[not set]", HOLDS),
    ],
)
def test_on_v2_a_weight_by_either_formula_holds(weight: str, unit_weight: str, expected: list[str]) -> None:
    it = unit(sound(hierarchies=UNIFIED), SCOPE, CPUWeight=unit_weight)
    place = PLACE[Driver.SYSTEMD]
    cgroup = replace(it.cgroups[place], limits=V2_LIMITS | {"weight": int(weight)})
    assert ids(judge(replace(it, cgroups={**it.cgroups, place: cgroup}), Driver.SYSTEMD)) == expected


def test_on_v2_everything_of_a_sound_node_holds() -> None:
    verification = judge(sound(hierarchies=UNIFIED), Driver.SYSTEMD)
    assert ids(verification) == HOLDS
    assert all(check.ok for check in verification.checks)


def test_on_v2_and_on_a_hybrid_host_cgroup2_counts_differently() -> None:
    v2 = sound(hierarchies=UNIFIED)
    assert ids(judge(process(v2, **{"": "/system.slice"}), Driver.SYSTEMD)) == ["verify-place"]
    assert ids(judge(process(v2, **{"": SLICE}), Driver.SYSTEMD)) == ["verify-place"]
    assert ids(judge(replace(v2, cgroups={}), Driver.SYSTEMD)) == ["verify-place", "verify-population"]
    hybrid = sound(hierarchies=HIERARCHIES + UNIFIED)
    assert ids(judge(process(hybrid, **{"": "/system.slice/docker.service"}), Driver.SYSTEMD)) == HOLDS
    assert ids(judge(process(hybrid, **{"": PLACE[Driver.CGROUPFS]}), Driver.SYSTEMD)) == ["verify-place"]


def test_a_node_on_cgroupfs_is_held_to_cgroupfs_after_a_rollback() -> None:
    verification = judge(sound(Driver.CGROUPFS), Driver.CGROUPFS)
    assert ids(verification) == HOLDS
    assert verification.ok


def test_a_node_on_cgroupfs_is_not_on_systemd() -> None:
    it = sound(Driver.CGROUPFS)
    verification = judge(replace(it, cgroups={}), Driver.SYSTEMD)
    assert not verification.ok
    assert ids(verification) == [
        "verify-kubelet-driver",
        "verify-old-container",
        "verify-old-tree",
        "verify-place",
        "verify-runtime-driver",
    ]


def test_units_left_by_systemd_are_found_after_a_rollback() -> None:
    left = {"kubepods.slice": "active", f"docker-{ID}.scope": "active", "docker-other.scope": "active"}
    left["kubepods-besteffort.slice"] = "inactive"
    [finding] = judge(replace(sound(Driver.CGROUPFS), listed=left), Driver.CGROUPFS).findings
    assert finding.id == "verify-old-unit"
    assert finding.remediation == f"systemctl stop docker-{ID}.scope kubepods.slice"


ROW = Translation(
    kind="pod",
    namespace="default",
    pod="web-node1",
    pod_uid=UID,
    from_path=POD[Driver.CGROUPFS],
    to_path=POD[Driver.SYSTEMD],
)


@pytest.mark.parametrize(
    ("row", "on", "expected"),
    [
        (ROW, Driver.SYSTEMD, HOLDS),
        (ROW, Driver.CGROUPFS, HOLDS),
        (replace(ROW, pod_uid="0" * 32), Driver.SYSTEMD, ["verify-pod-missing"]),
        (
            replace(ROW, to_path=SLICE.replace("burstable", "besteffort")),
            Driver.SYSTEMD,
            ["verify-pod-missing"],
        ),
        (replace(ROW, kind="container", container_id="0" * 64), Driver.SYSTEMD, HOLDS),
    ],
)
def test_a_pod_of_the_table_is_back_exactly_where_the_table_says(
    row: Translation, on: Driver, expected: list[str]
) -> None:
    assert ids(judge(sound(on), on, (row,))) == expected


@pytest.mark.parametrize(
    ("kind", "handler", "left"),
    [
        pytest.param("containerd", NVIDIA, True, id="left behind"),
        pytest.param("containerd", replace(NVIDIA, systemd_cgroup=True), False, id="moved"),
        pytest.param(
            "containerd", replace(NVIDIA, runtime_type="io.containerd.kata.v2"), False, id="another kind"
        ),
        pytest.param("containerd", GVISOR, True, id="gVisor left behind"),
        pytest.param("containerd", replace(GVISOR, systemd_cgroup=True), False, id="gVisor moved"),
        pytest.param(
            "containerd", replace(GVISOR, config_path=""), False, id="gVisor that cannot, as the audit tells"
        ),
        pytest.param(
            "crio", Handler(name="runc", runtime_type=""), False, id="CRI-O's, which have no driver"
        ),
    ],
)
def test_a_handler_that_stayed_behind_is_found(kind: str, handler: Handler, *, left: bool) -> None:
    moved = runtime(sound(), kind=kind, handlers=(handler,))
    on_v2 = replace(moved, facts=replace(moved.facts, node=replace(moved.facts.node, cgroup_mode="unified")))
    assert left == ("verify-handler-driver" in ids(judge(on_v2, Driver.SYSTEMD)))


def test_a_custom_cgroup_root_moves_every_place() -> None:
    assert tree_root(Driver.SYSTEMD, "/kubelet") == "/kubelet.slice/kubelet-kubepods.slice"
    assert tree_root(Driver.CGROUPFS, "/kubelet") == "/kubelet/kubepods"
    assert unit_patterns("/kubelet")[0] == "kubelet-kubepods*.slice"
    assert unit_patterns("")[0] == "kubepods*.slice"


def test_with_a_cgroup_root_a_tree_at_the_top_is_stale_in_either_spelling() -> None:
    below = replace(OLD_TREES[0], driver="systemd", path="/pods.slice/pods-kubepods.slice")
    top = [
        replace(OLD_TREES[0], driver=name, path=path)
        for name, path in (("cgroupfs", "/kubepods"), ("systemd", "/kubepods.slice"))
    ]
    evidence = tree(sound(), trees=(below, *top))
    facts = replace(evidence.facts, kubelet=replace(evidence.facts.kubelet, cgroup_root="/pods"))
    found = [
        each
        for each in judge(replace(evidence, facts=facts), Driver.SYSTEMD).findings
        if each.id == "verify-old-tree"
    ]
    assert [(each.subject, each.remediation.split(";")[0]) for each in found] == [
        ("/kubepods", f"find {MEMORY}/kubepods -depth -type d -exec rmdir '{{}}' '"),
        ("/kubepods.slice", "systemctl stop kubepods.slice"),
    ]


def test_only_an_old_tree_in_which_nothing_lives_is_removed_without_its_pods() -> None:
    empty = judge(tree(sound(), trees=OLD_TREES[:1]), Driver.SYSTEMD).findings[0]
    assert empty.remediation == f"find {MEMORY}/kubepods -depth -type d -exec rmdir '{{}}' ';'"
    populated = tuple(replace(each, populated=2) for each in OLD_TREES[:1])
    finding = judge(tree(sound(), trees=populated), Driver.SYSTEMD).findings[0]
    assert (
        finding.remediation
        == f"docker rm -f $(docker ps -aq --filter label=io.kubernetes.pod.uid) && {empty.remediation}"
    )


def _containerd(evidence: Evidence, *, systemd_cgroup: bool | None = None) -> Evidence:
    runc = Handler(
        name="runc", runtime_type="io.containerd.runc.v2", is_default=True, systemd_cgroup=systemd_cgroup
    )
    file = "/etc/containerd/config.toml"
    return runtime(evidence, kind="containerd", handlers=(runc,), config_file=file, units=())


def test_a_literal_container_is_one_finding_whose_remedy_is_what_is_still_to_do() -> None:
    """The handler first, where it is wrong; then the pods, which nothing else moves; a mere directory is removed."""
    everywhere = (f"{CPU}{LITERAL}", f"{MEMORY}/system.slice{LITERAL}")
    living = tree(process(sound(), memory=LITERAL), literal=everywhere)

    def remedy(evidence: Evidence, on: Driver = Driver.SYSTEMD) -> str:
        [finding] = [each for each in judge(evidence, on).findings if each.id == "verify-literal-cgroup"]
        assert finding.summary.startswith("1 container in a literal cgroup")
        assert finding.detail == LITERAL[1:]
        return finding.remediation

    remove = f"crictl rmp -f {SANDBOX_ID}"
    assert remedy(_containerd(living, systemd_cgroup=True)) == remove
    assert remedy(_containerd(living)) == (
        "set SystemdCgroup = true in the options of handler runc in /etc/containerd/config.toml, "
        f"then systemctl restart containerd.service, then {remove}"
    )
    assert remedy(_containerd(living), Driver.CGROUPFS) == remove
    gone = f"/kubepods-podx.slice:cri-containerd:{'0' * 64}"
    empty = tree(_containerd(sound(), systemd_cgroup=True), literal=(f"{CPU}{gone}",))
    [finding] = [each for each in judge(empty, Driver.SYSTEMD).findings if each.id == "verify-literal-cgroup"]
    assert finding.remediation == f"find {CPU}{gone} -depth -type d -exec rmdir '{{}}' ';'"


# --- the witnesses -----------------------------------------------------------------------------


def test_the_cgroupfs_witness_reads_places_population_and_limits_of_v1(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            f"{MEMORY}/kubepods.slice/memory.limit_in_bytes": "9223372036854771712\n",
            f"{MEMORY}{SLICE}/memory.limit_in_bytes": "134217728\n",
            f"{MEMORY}{SLICE}/{SCOPE}/memory.limit_in_bytes": "33554432\n",
            f"{MEMORY}{SLICE}/{SCOPE}/cgroup.procs": "101\n102\n",
            f"{CPU}{SLICE}/{SCOPE}/cpu.shares": "10\n",
            f"{CPU}{SLICE}/{SCOPE}/cpu.cfs_quota_us": "-1\n",
            f"{CPU}{SLICE}/{SCOPE}/cpu.cfs_period_us": "100000\n",
            f"{PIDS}/kubepods.slice/pids.max": "max\n",
            f"{MEMORY}/kubepods/burstable/cgroup.procs": "103\n",
        },
    )
    found = look_at_tree(reader, HIERARCHIES, "/kubepods.slice")
    assert sorted(found) == sorted(
        ["/kubepods.slice", levels(Driver.SYSTEMD)[1], SLICE, PLACE[Driver.SYSTEMD]]
    )
    assert found[PLACE[Driver.SYSTEMD]] == Cgroup(
        path=PLACE[Driver.SYSTEMD],
        mounts=(MEMORY, CPU),
        pids=frozenset({101, 102}),
        limits={"memory": 33_554_432, "shares": 10, "quota": UNLIMITED, "period": 100_000},
    )
    assert found["/kubepods.slice"] == Cgroup(
        path="/kubepods.slice",
        mounts=(MEMORY, CPU, PIDS),
        pids=frozenset({101, 102}),
        limits={"memory": UNLIMITED, "tasks": UNLIMITED},
    )


def test_the_cgroupfs_witness_reads_limits_of_v2(tmp_path: Path) -> None:
    scope = f"/sys/fs/cgroup{PLACE[Driver.SYSTEMD]}"
    reader = lay(
        tmp_path,
        {
            f"{scope}/memory.max": "33554432\n",
            f"{scope}/cpu.weight": "39\n",
            f"{scope}/cpu.max": "25000 100000\n",
            f"{scope}/pids.max": "28909\n",
            f"{scope}/container/cgroup.procs": "101\n",
        },
    )
    found = look_at_tree(reader, UNIFIED, "/kubepods.slice")
    assert found[PLACE[Driver.SYSTEMD]] == Cgroup(
        path=PLACE[Driver.SYSTEMD],
        mounts=("/sys/fs/cgroup",),
        pids=frozenset({101}),
        limits=V2_LIMITS,
    )


def test_a_tree_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert look_at_tree(lay(tmp_path, {}), HIERARCHIES, "/kubepods.slice") == {}


def test_a_process_is_told_by_hierarchy_and_a_zombie_is_none(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            "/proc/101/cgroup": f"12:memory:{LITERAL}\n3:cpu,cpuacct:/a\n1:name=systemd:/b (deleted)\n0::/c\n",
            "/proc/101/stat": "101 (a ) b) S 1 1 1\n",
            "/proc/102/cgroup": "12:memory:/\n",
            "/proc/102/stat": "102 (sh) Z 1 1 1\n",
        },
    )
    assert look_at_processes(reader, [101, 102, 103]) == {
        101: {"memory": LITERAL, "cpu,cpuacct": "/a", "name=systemd": "/b", "": "/c"}
    }


def test_static_pods_are_read_as_the_kubelet_reads_them(tmp_path: Path) -> None:
    yaml = "kind: Pod\nmetadata: {name: web, namespace: shop}\nspec:\n  containers: [{name: app}, {name: sidecar}]\n"
    reader = lay(
        tmp_path,
        {
            "/m/a.yaml": yaml,
            "/m/b.json": json.dumps({"kind": "Pod", "metadata": {"name": "b"}, "spec": {"containers": []}}),
            "/m/c.yaml": "kind: Pod\nmetadata: {name: once}\nspec: {restartPolicy: Never, containers: [{name: x}]}\n",
            "/m/.d.yaml.swp": "kind: [",
            "/m/e.yaml": "kind: [",
            "/m/f.yaml": "kind: Pod\n",
            "/m/g.txt": "kind: ConfigMap\n",
            "/m/h.yaml": "kind: Pod\nmetadata: {name: h}\nspec: {containers: 1}\n",
            "/m/i.yaml": "kind: Pod\nmetadata: {name: [i]}\nspec: {}\n",
            "/m/j.yaml": "a: " + "[" * 100_000,
            "/m/k.txt": "a word",
            "/m/l.txt": "",
            "/m/sub/h.yaml": yaml,
        },
    )
    found, unread = read_manifests(reader, "/m")
    assert found == (
        Manifest(path="/m/a.yaml", name="web", namespace="shop", containers=("app", "sidecar")),
        Manifest(path="/m/b.json", name="b"),
        Manifest(path="/m/c.yaml", name="once"),
    )
    assert [path for path, _ in unread] == [f"/m/{name}.yaml" for name in "efhij"]
    assert read_manifests(reader, "") == ((), ())
    assert read_manifests(reader, "/absent") == ((), ())
    assert [manifest.name for manifest in read_manifests(reader, "/m/a.yaml")[0]] == ["web"]


def test_a_process_is_younger_than_what_was_written_before_it(tmp_path: Path) -> None:
    reader = Reader()
    (tmp_path / "config").touch()
    before = changed(reader, str(tmp_path / "config"))
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        started = process_start(reader, child.pid)
        child.kill()
    assert before is not None
    assert started is not None
    assert -0.5 < started - before < 30
    assert process_start(lay(tmp_path, {}), 1) is None
    assert changed(reader, str(tmp_path / "absent")) is None


class Health(BaseHTTPRequestHandler):
    """The kubelet's endpoint, as far as it is asked: `/healthz` is fine, all else is not."""

    def do_GET(self) -> None:
        well = self.path == "/healthz"
        self.send_response(200 if well else 500)
        self.end_headers()
        self.wfile.write(b"ok" if well else b"[-]syncloop failed")

    def log_message(self, *_: object) -> None:
        pass


def test_health_is_what_the_endpoint_says_and_silence_is_no_health() -> None:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        assert ask_health(f"{url}/healthz") == ""
        assert ask_health(f"{url}/livez") == "500 [-]syncloop failed"
        server.shutdown()
        thread.join()
    assert "refused" in ask_health(f"{url}/healthz")


def test_what_systemctl_prints_is_held_against_the_kernel() -> None:
    printed = "\n\n".join(
        "\n".join(f"{name}={value}" for name, value in values.items()) for values in sound().shown.values()
    )
    assert ids(judge(replace(sound(), shown=parse_show(printed)), Driver.SYSTEMD)) == HOLDS


def test_an_image_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="running node"):
        verify(Reader(tmp_path))


def test_the_containers_that_run_are_told_by_pod_and_name() -> None:
    assert running(facts(Driver.SYSTEMD)) == {UID: {"": SANDBOX_ID, "app": ID}}


# --- the views ---------------------------------------------------------------------------------


def told(
    verification: Verification,
    stream: io.StringIO | None = None,
    width: int | None = None,
    *,
    witnesses: bool = False,
) -> str:
    stream = stream or io.StringIO()
    write(verification, stream, width, witnesses=witnesses)
    return SGR.sub("", stream.getvalue())


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_json_is_valid_by_its_schema(what: str) -> None:
    change, _ = CONTRADICTIONS[what]
    document = json.loads(json.dumps(to_json(judge(change(sound()), Driver.SYSTEMD, settle=2.5))))
    Draft202012Validator(load_schema("verify-1")).validate(document)
    assert document["ok"] == all(finding["severity"] != "blocker" for finding in document["findings"])


def test_every_property_of_the_schema_is_described_by_an_example_that_is_valid() -> None:
    def properties(schema: dict[str, dict[str, object]]) -> list[dict[str, object]]:
        found = list(schema.values())
        for each in found[:]:
            items = each.get("items")
            if isinstance(items, dict):
                found += properties(items["properties"])
        return found

    schema = load_schema("verify-1")
    Draft202012Validator.check_schema(schema)
    described = properties(schema["properties"])
    assert len(described) > 15
    for each in described:
        assert each["description"]
        for example in each["examples"]:  # type: ignore[attr-defined]
            Draft202012Validator(each).validate(example)


def test_text_begins_with_the_outcome_and_says_what_to_do() -> None:
    verification = judge(tree(sound(), trees=OLD_TREES), Driver.SYSTEMD)
    lines = told(verification).splitlines()
    assert lines[0].startswith("NOT PROVEN: node on systemd, ")
    assert lines[2] == (
        "blocker: /kubepods is left in 4 hierarchies: 20 directories, empty of processes  [verify-old-tree (F26)]"
    )
    assert any(line.startswith("  do: find /sys/fs/cgroup/memory/kubepods") for line in lines)
    assert told(judge(sound(), Driver.SYSTEMD)).startswith("ok: node on systemd, ")


BROKEN = """\
held      compared               cgroupfs says               systemd says
20 of 21  the node
NO        static pod default/web  2 containers
20 of 21  default/web-node1      3 cgroups                   3 units
NO        kept running           6764c8416764, d55d328ed55d
""".splitlines()


def test_the_table_has_a_row_for_each_pod_and_below_it_what_does_not_hold() -> None:
    lost = judge(container(sound(), name="other"), Driver.SYSTEMD)
    lines = told(lost, Terminal(), 100).splitlines()

    assert [line.split() for line in BROKEN] == [line.split() for line in lines[:5]]
    assert lines[6].startswith("NOT PROVEN: ")


def test_what_holds_nowhere_stands_above_what_holds() -> None:
    stray = judge(tree(sound(), trees=OLD_TREES), Driver.SYSTEMD)
    whole = judge(sound(), Driver.SYSTEMD)

    assert ["held", "20", "NO", "21"] == [
        line.split()[0] for line in told(stray, Terminal(), 100).splitlines()[:4]
    ]
    assert ["held", "21", "21"] == [line.split()[0] for line in told(whole, Terminal(), 100).splitlines()[:3]]


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_no_line_but_a_command_is_wider_than_the_terminal(what: str) -> None:
    verification = judge(CONTRADICTIONS[what][0](sound()), Driver.SYSTEMD)
    for width in (40, 59, 60, 80):
        for witnesses in (False, True):
            lines = told(verification, Terminal(), width, witnesses=witnesses).splitlines()
            assert [] == [line for line in lines if len(line) > width and not line.startswith("  do: ")]
            assert lines[0].startswith("held ") is (width >= 60)


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("CGMIGRATE_PLAIN", "1"), ("FORCE_COLOR", "1")])
def test_where_nothing_may_be_drawn_what_the_witnesses_said_is_told_in_sentences_if_asked_for(
    setting: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*setting)
    stream = io.StringIO() if setting[0] == "FORCE_COLOR" else Terminal()
    lost = judge(container(sound(), name="other"), Driver.SYSTEMD)
    lines = told(lost, stream, 200, witnesses=True).splitlines()

    assert lines[:5] == [
        "20 of 21: the node",
        "  NO: static pod default/web: cgroupfs says 2 containers",
        "20 of 21: default/web-node1: cgroupfs says 3 cgroups, systemd says 3 units",
        "  NO: kept running: cgroupfs says 6764c8416764, d55d328ed55d",
        "",
    ]
    assert lines[5:] == told(lost).splitlines()


@pytest.mark.parametrize(
    ("name", "pod", "compared"),
    [
        ("default/web", "default/web", ""),
        ("default/web app unit", "default/web", "app unit"),
        ("pod 1-2-3 sandbox population", "pod 1-2-3", "sandbox population"),
        ("pod default/web of the table", "default/web", "of the table"),
        ("static pod default/web", "", "static pod default/web"),
        ("kubelet healthz", "", "kubelet healthz"),
        ("handler a/b: systemd", "", "handler a/b: systemd"),
        ("", "", ""),
    ],
)
def test_a_comparisons_name_tells_its_pod(name: str, pod: str, compared: str) -> None:
    assert (pod, compared) == speaks_of(name)


def test_a_node_without_a_pod_is_ok_and_the_first_line_says_what_is_unproven() -> None:
    empty = replace(sound(), facts=replace(sound().facts, pods=()), manifests=())
    verification = judge(empty, Driver.SYSTEMD)
    assert [(each.id, each.severity) for each in verification.findings] == [
        ("verify-no-pods", Severity.WARNING)
    ]
    first = told(verification).splitlines()[0]
    assert verification.ok
    assert first.startswith("ok: node on systemd, ")
    assert first.endswith(" hold; no pod runs here: place and limits are unproven")


def test_a_configuration_newer_than_the_kubelet_is_no_proof_of_a_bad_node() -> None:
    touched = replace(sound(), written={"/var/lib/kubelet/config.yaml": 1002.0})
    verification = judge(touched, Driver.SYSTEMD)
    [finding] = verification.findings
    assert (verification.ok, finding.severity) == (True, Severity.WARNING)
    assert "may have been started with other content" in finding.summary + finding.detail
    assert finding.remediation == "systemctl restart kubelet.service"


@pytest.mark.parametrize("width", [40, 80])
def test_nothing_of_the_node_reaches_the_terminal_raw(width: int) -> None:
    name = "a\x1b[31m\n\u202eb"
    hostile = container(sound(), name=name)
    hostile = replace(hostile, health=name, silent=((name, name),))
    for stream in (io.StringIO(), Terminal()):
        text = told(judge(hostile, Driver.SYSTEMD), stream, width, witnesses=True)
        assert "\\x1b[31m" in text
        assert all(letter == "\n" or letter.isprintable() for letter in text)


def test_blockers_come_first() -> None:
    it = replace(sound(), health="no", facts=replace(sound().facts, other_containers=(EXTRA,)))
    severities = [finding.severity for finding in judge(it, Driver.SYSTEMD).findings]
    assert severities == [Severity.BLOCKER, Severity.WARNING]
