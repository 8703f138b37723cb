# SPDX-License-Identifier: Apache-2.0
"""Pods from what the runtime says, what the tree holds, and where processes are; any of the three may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.containers import RuntimeContainer
from migrator.facts.cgroup import PodDirectories
from migrator.facts.look import Look
from migrator.facts.model import Container, Pod
from migrator.facts.workloads import gather_workloads, scan_processes
from tests.unit.nodes import lay

POD = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
STATIC = "0123456789abcdef0123456789abcdef"
SANDBOX, WEB, PLAIN = "aa" * 32, "bb" * 32, "cc" * 32
OLD = f"/kubepods/besteffort/pod{POD}"
NEW = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD.replace('-', '_')}.slice"
IN_OLD_TREE = {POD: PodDirectories("besteffort", frozenset({"cgroupfs"}))}

KNOWN = (
    RuntimeContainer(
        id=SANDBOX,
        name="",
        pod_uid=POD,
        pod_name="web-1",
        pod_namespace="shop",
        sandbox=True,
        state="running",
        cgroup_parent=OLD,
    ),
    RuntimeContainer(
        id=WEB,
        name="web",
        pod_uid=POD,
        pod_name="web-1",
        pod_namespace="shop",
        state="running",
        pid=31,
        cgroup_parent=OLD,
    ),
    RuntimeContainer(id=PLAIN, name="registry", state="exited", restart_policy="always"),
)


def cgroup_file(path: str) -> str:
    return f"4:memory:{path}\n1:name=systemd:{path}\n0::/\n"


def processes(places: dict[int, str]) -> dict[str, str]:
    return {f"/proc/{pid}/cgroup": text for pid, text in places.items()}


def test_one_pass_finds_every_process_of_a_container_and_its_distinct_places(tmp_path: Path) -> None:
    literal = f"/kubepods-besteffort-pod{POD.replace('-', '_')}.slice:cri-containerd:{WEB}"
    reader = lay(
        tmp_path,
        processes(
            {
                1: "0::/init.scope\n",
                30: cgroup_file(f"{OLD}/{WEB}"),
                31: cgroup_file(f"{OLD}/{WEB}"),
                32: f"4:memory:{OLD}/{WEB}\n1:name=systemd:{NEW}/docker-{WEB}.scope/init.scope\n",
                40: f"0::{literal}\n",
            }
        ),
    )
    found = scan_processes(reader)
    assert list(found.containers) == [WEB]
    assert found.containers[WEB].pids == {30, 31, 32, 40}
    assert found.containers[WEB].paths == {f"{OLD}/{WEB}", f"{NEW}/docker-{WEB}.scope/init.scope", literal}
    assert found.pods == {POD: frozenset({WEB})}


def test_only_a_newline_ends_a_line_of_a_processs_cgroup_file(tmp_path: Path) -> None:
    """A container may give a cgroup of its own a name that `splitlines` would take for two."""
    found = scan_processes(lay(tmp_path, processes({9: f"0::/mine/x\x0b0::{OLD}/{WEB}\n"})))
    assert {} == found.pods


def test_a_pod_of_a_node_inside_a_container_is_not_ours(tmp_path: Path) -> None:
    found = scan_processes(lay(tmp_path, processes({9: f"0::/docker/{PLAIN}{OLD}/{WEB}\n"})))
    assert found.pods == {}
    assert found.containers[PLAIN].pids == {9}


@given(st.binary())
def test_no_junk_in_a_processs_cgroup_file_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    reader = lay(tmp_path_factory.mktemp("node"), {"/proc/5/cgroup": junk})
    assert all(len(container) == 64 for container in scan_processes(reader).containers)


def test_what_the_runtime_knows_and_where_it_really_is_come_together(tmp_path: Path) -> None:
    reader = lay(tmp_path, processes({30: cgroup_file(f"{OLD}/{SANDBOX}"), 32: cgroup_file(f"{OLD}/{WEB}")}))
    pods, others = gather_workloads(Look(reader), KNOWN, IN_OLD_TREE)
    assert pods == (
        Pod(
            uid=POD,
            name="web-1",
            namespace="shop",
            qos="besteffort",
            sandbox_id=SANDBOX,
            sandbox_state="running",
            driver="cgroupfs",
            containers=(
                Container(
                    id=SANDBOX,
                    name="",
                    pod_uid=POD,
                    state="running",
                    sandbox=True,
                    pids=(30,),
                    cgroups=(f"{OLD}/{SANDBOX}",),
                    cgroup_parent=OLD,
                ),
                Container(
                    id=WEB,
                    name="web",
                    pod_uid=POD,
                    state="running",
                    pids=(31, 32),
                    cgroups=(f"{OLD}/{WEB}",),
                    cgroup_parent=OLD,
                ),
            ),
        ),
    )
    assert others == (Container(id=PLAIN, name="registry", state="exited", restart_policy="always"),)


def test_without_a_runtime_the_tree_and_the_processes_tell_the_pods(tmp_path: Path) -> None:
    reader = lay(tmp_path, processes({32: cgroup_file(f"{OLD}/{WEB}")}))
    directories = {**IN_OLD_TREE, STATIC: PodDirectories("guaranteed", frozenset({"cgroupfs", "systemd"}))}
    pods, others = gather_workloads(Look(reader), None, directories)
    assert pods == (
        Pod(uid=STATIC, qos="guaranteed", static=True, driver="both"),
        Pod(
            uid=POD,
            qos="besteffort",
            driver="cgroupfs",
            containers=(
                Container(
                    id=WEB, name="", pod_uid=POD, state="running", pids=(32,), cgroups=(f"{OLD}/{WEB}",)
                ),
            ),
        ),
    )
    assert others == ()


def test_an_empty_leftover_directory_is_no_pod_when_the_runtime_does_not_know_it(tmp_path: Path) -> None:
    assert ((), ()) == gather_workloads(Look(lay(tmp_path, {})), (), IN_OLD_TREE)


def test_a_process_in_a_pods_cgroup_makes_it_a_pod_even_if_the_runtime_does_not_know_it(
    tmp_path: Path,
) -> None:
    reader = lay(tmp_path, processes({32: cgroup_file(f"{OLD}/{WEB}")}))
    pods, _ = gather_workloads(Look(reader), (), IN_OLD_TREE)
    assert [(pod.uid, pod.name, [each.id for each in pod.containers]) for pod in pods] == [(POD, "", [WEB])]


@pytest.mark.parametrize(
    ("parent", "qos"),
    [
        (OLD, "besteffort"),
        (NEW.rpartition("/")[2], "besteffort"),
        (f"/kubepods/pod{POD}", "guaranteed"),
        (f"/kubepods/burstable/pod{STATIC}", ""),
        ("system.slice", ""),
        ("--.slice", ""),
        ("", ""),
    ],
)
def test_the_class_of_an_exited_pod_comes_from_its_stored_parent(
    tmp_path: Path, parent: str, qos: str
) -> None:
    known = [
        RuntimeContainer(id=SANDBOX, name="", pod_uid=POD, sandbox=True, state="exited", cgroup_parent=parent)
    ]
    pods, _ = gather_workloads(Look(lay(tmp_path, {})), known, {})
    assert [qos] == [pod.qos for pod in pods]


def sandbox(sandbox_id: str, state: str, attempt: int) -> RuntimeContainer:
    return RuntimeContainer(id=sandbox_id, name="", pod_uid=POD, sandbox=True, state=state, attempt=attempt)


@pytest.mark.parametrize(
    ("known", "newest"),
    [
        ([sandbox("a", "exited", 0), sandbox("b", "running", 1)], ("b", "running")),
        ([sandbox("b", "running", 0), sandbox("a", "exited", 1)], ("b", "running")),
        ([sandbox("b", "exited", 0), sandbox("a", "exited", 1)], ("a", "exited")),
        ([RuntimeContainer(id="c", name="web", pod_uid=POD)], ("", "")),
    ],
)
def test_the_sandbox_of_a_pod_is_the_one_that_runs_or_the_newest(
    tmp_path: Path, known: Sequence[RuntimeContainer], newest: tuple[str, str]
) -> None:
    pods, _ = gather_workloads(Look(lay(tmp_path, {})), known, {})
    assert [newest] == [(pod.sandbox_id, pod.sandbox_state) for pod in pods]


@pytest.mark.parametrize(
    ("uid", "annotations", "static"),
    [
        (STATIC, {}, True),
        (POD, {}, False),
        (POD, {"kubernetes.io/config.source": "file"}, True),
        (POD, {"kubernetes.io/config.source": "api"}, False),
    ],
)
def test_a_static_pod_is_told_by_its_annotation_or_its_uid(
    tmp_path: Path, uid: str, annotations: dict[str, str], *, static: bool
) -> None:
    known = [RuntimeContainer(id=SANDBOX, name="", pod_uid=uid, sandbox=True, annotations=annotations)]
    pods, _ = gather_workloads(Look(lay(tmp_path, {})), known, {})
    assert [static] == [pod.static for pod in pods]
