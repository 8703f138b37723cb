# SPDX-License-Identifier: Apache-2.0
"""The table from -> to: what has a row, where it leads, and in which order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.facts.model import Facts
from migrator.plan_table import Translation, translations
from tests.unit.facts_base import DOCKER, ID, QUIET, SANDBOX_ID, STATIC_UID, UID, but, pod, switched

UID_ = UID.replace("-", "_")
OLD = f"/kubepods/besteffort/pod{UID}"
NEW = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice"


def places(facts: Facts, to: Driver = Driver.SYSTEMD) -> list[tuple[str, str, str]]:
    return [(row.container or row.kind, row.from_path, row.to_path) for row in translations(facts, to)]


def at(*cgroups: str) -> Facts:
    """The quiet node with a pod whose only live container is at these places."""
    whole = pod()
    return but(pods=(replace(whole, containers=(replace(whole.containers[0], cgroups=cgroups),)),))


def test_a_pod_and_its_containers_are_led_from_one_spelling_to_the_other() -> None:
    assert places(but(pods=(pod(),))) == [
        ("pod", OLD, NEW),
        ("POD", f"{OLD}/{SANDBOX_ID}", f"{NEW}/cri-containerd-{SANDBOX_ID}.scope"),
        ("app", f"{OLD}/{ID}", f"{NEW}/cri-containerd-{ID}.scope"),
    ]


def test_the_runtime_gives_the_scope_its_name() -> None:
    (row,) = (row for row in translations(but(DOCKER, pods=(pod(),))) if row.container == "app")
    assert row.to_path == f"{NEW}/docker-{ID}.scope"


def test_the_uid_of_a_static_pod_has_no_dashes_to_lose() -> None:
    (row, *_) = translations(but(pods=(pod(uid=STATIC_UID, static=True),)))
    assert row.to_path.endswith(f"/kubepods-besteffort-pod{STATIC_UID}.slice")


def test_the_root_of_the_kubelet_is_led_along() -> None:
    whole = pod()
    moved = tuple(
        replace(each, cgroups=tuple(f"/kubelet{path}" for path in each.cgroups)) for each in whole.containers
    )
    facts = but(kubelet={"cgroup_root": "/kubelet"}, pods=(replace(whole, containers=moved),))
    below = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"
    slice_ = f"{below}/kubelet-kubepods-besteffort-pod{UID_}.slice"
    assert places(facts)[0] == ("pod", f"/kubelet{OLD}", slice_)


def test_what_is_there_already_stays() -> None:
    assert places(at(f"{NEW}/cri-containerd-{ID}.scope")) == [
        ("pod", NEW, NEW),
        ("app", f"{NEW}/cri-containerd-{ID}.scope", f"{NEW}/cri-containerd-{ID}.scope"),
    ]


def test_the_way_back_is_the_same_table_turned() -> None:
    facts = switched(at(f"{NEW}/cri-containerd-{ID}.scope"))
    assert places(facts, Driver.CGROUPFS) == [
        ("pod", NEW, OLD),
        ("app", f"{NEW}/cri-containerd-{ID}.scope", f"{OLD}/{ID}"),
    ]


def test_cgroups_that_a_container_made_itself_are_not_its_own_place() -> None:
    assert places(at(f"{OLD}/{ID}/init.scope"))[1] == (
        "app",
        f"{OLD}/{ID}",
        f"{NEW}/cri-containerd-{ID}.scope",
    )


def test_a_literal_cgroup_leads_to_where_the_container_belongs() -> None:
    literal = f"/system.slice/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{ID}"
    assert places(at(literal)) == [
        ("pod", NEW, NEW),
        ("app", literal, f"{NEW}/cri-containerd-{ID}.scope"),
    ]


def test_a_container_in_two_places_has_a_row_for_each() -> None:
    rows = places(at(f"{OLD}/{ID}", f"/system.slice/docker-{ID}.scope"))
    assert [row[1] for row in rows] == [OLD, f"{OLD}/{ID}", f"/system.slice/docker-{ID}.scope"]


def test_without_processes_to_look_at_the_directory_of_the_pod_tells_the_driver() -> None:
    assert places(at())[1] == ("app", f"{OLD}/{ID}", f"{NEW}/cri-containerd-{ID}.scope")


def test_dead_pods_and_what_cannot_be_placed_have_no_row() -> None:
    assert translations(but(pods=(pod(live=False), replace(pod(), qos=""), pod(uid="a/b")))) == ()


def test_containers_of_an_unknown_runtime_have_no_row_but_their_pod_has() -> None:
    assert places(but(runtime={"kind": "unknown"}, pods=(pod(),))) == [("pod", OLD, NEW)]


def test_a_pod_comes_before_its_containers_and_pods_come_by_name() -> None:
    facts = but(pods=(pod("b", uid=STATIC_UID), pod("a")))
    assert [(row.pod, row.kind) for row in translations(facts)] == [
        (name, kind) for name in ("a", "b") for kind in ("pod", "container", "container")
    ]


@given(
    uid=st.text(max_size=40),
    qos=st.sampled_from(["", "guaranteed", "burstable", "besteffort", "x"]),
    spelling=st.sampled_from(["", "both", "cgroupfs", "systemd"]),
    paths=st.lists(st.text(max_size=60).map(lambda tail: "/" + tail), max_size=2),
    root=st.text(max_size=8),
    kind=st.sampled_from(["docker", "containerd", "crio", "unknown"]),
)
def test_junk_of_a_node_gives_rows_or_none_and_never_an_error(  # noqa: PLR0917 (one strategy each)
    uid: str, qos: str, spelling: str, paths: list[str], root: str, kind: str
) -> None:
    junk = replace(pod(uid=uid), qos=qos, driver=spelling)
    junk = replace(junk, containers=(replace(junk.containers[0], cgroups=tuple(paths)),))
    rows = translations(but(QUIET, kubelet={"cgroup_root": root}, runtime={"kind": kind}, pods=(junk,)))
    assert {type(row) for row in rows} <= {Translation}
