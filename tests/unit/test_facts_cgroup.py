# SPDX-License-Identifier: Apache-2.0
"""The walk over the cgroup tree, on plain directories that are laid out like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.cgroup import PodDirectories, scan, survey, walk
from migrator.facts.look import Look
from migrator.facts.model import Hierarchy, Tree
from tests.unit.nodes import Link, lay

MEMORY = Hierarchy(mount="/sys/fs/cgroup/memory", version=1, controllers=("memory",))
PIDS = Hierarchy(mount="/sys/fs/cgroup/pids", version=1, controllers=("pids",))
UNIFIED = Hierarchy(mount="/sys/fs/cgroup", version=2)
POD = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
STATIC = "0123456789abcdef0123456789abcdef"
ID = "a1" * 32
BESTEFFORT = f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD.replace('-', '_')}.slice"


def test_the_walk_yields_every_directory_once_and_who_is_populated(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "/a/b/cgroup.procs": "1\n",
            "/a/c/cgroup.procs": "",
            "/d": None,
            "/a/b/tasks": "",
            "/cgroup.procs": "7\n",
        },
    )
    assert [("", True), ("/a", False), ("/a/b", True), ("/a/c", False), ("/d", False)] == sorted(
        walk(str(tmp_path))
    )


def test_the_walk_follows_no_link(tmp_path: Path) -> None:
    lay(tmp_path, {"/a/cgroup.procs": Link("/proc/self/cmdline"), "/b": Link("a"), "/c": Link("/")})
    assert [("", False), ("/a", False)] == sorted(walk(str(tmp_path)))


@pytest.mark.parametrize("path", ["/nowhere", "/a-file"])
def test_where_nothing_can_be_walked_there_is_nothing(tmp_path: Path, path: str) -> None:
    lay(tmp_path, {"/a-file": ""})
    assert [] == list(walk(str(tmp_path) + path))


def test_trees_of_both_spellings_are_counted_in_every_hierarchy(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            f"/sys/fs/cgroup/memory/kubepods/besteffort/pod{POD}/{ID}/cgroup.procs": "12\n13\n",
            f"/sys/fs/cgroup/memory/kubepods/besteffort/pod{POD}/cgroup.procs": "",
            "/sys/fs/cgroup/memory/kubepods.slice": None,
            "/sys/fs/cgroup/memory/kubepods-is-no-tree": None,
            f"/sys/fs/cgroup/pids/{BESTEFFORT}/cri-containerd-{ID}.scope/cgroup.procs": "12\n",
            "/sys/fs/cgroup/pids/system.slice": None,
            # A node inside a container has a tree of its own, which is not ours.
            f"/sys/fs/cgroup/pids/docker/{ID}/kubepods/besteffort/pod{STATIC}": None,
        },
    )
    found = survey(Look(reader), (MEMORY, PIDS))
    assert found.cgroups.trees == (
        Tree(driver="cgroupfs", mount=MEMORY.mount, path="/kubepods", directories=4, populated=1),
        Tree(driver="systemd", mount=MEMORY.mount, path="/kubepods.slice", directories=1, populated=0),
        Tree(driver="systemd", mount=PIDS.mount, path="/kubepods.slice", directories=4, populated=1),
    )
    assert found.pods == {POD: PodDirectories("besteffort", frozenset({"cgroupfs", "systemd"}))}


def test_pods_of_every_class_are_found_below_a_configured_root(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            f"/sys/fs/cgroup/kubelet/kubepods/pod{STATIC}": None,
            f"/sys/fs/cgroup/kubelet/kubepods/burstable/pod{POD}": None,
            f"/sys/fs/cgroup/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{STATIC}.slice": None,
        },
    )
    found = survey(Look(reader), (UNIFIED,), "/kubelet")
    assert [(tree.path, tree.directories) for tree in found.cgroups.trees] == [
        ("/kubelet.slice/kubelet-kubepods.slice", 2),
        ("/kubelet/kubepods", 4),
    ]
    assert found.pods == {
        POD: PodDirectories("burstable", frozenset({"cgroupfs"})),
        STATIC: PodDirectories("guaranteed", frozenset({"cgroupfs", "systemd"})),
    }


def test_a_root_that_no_driver_can_name_is_unknown_and_the_top_is_still_looked_at(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {"/sys/fs/cgroup/kubepods": None}))
    assert [tree.path for tree in survey(look, (UNIFIED,), "/pods.slice").cgroups.trees] == ["/kubepods"]
    assert [unknown.subject for unknown in look.unknowns] == ["kubelet.cgroup_root"]


def test_literal_directories_are_found_wherever_runc_put_them(tmp_path: Path) -> None:
    literal = f"kubepods-burstable-pod{POD.replace('-', '_')}.slice:cri-containerd:{ID}"
    reader = lay(
        tmp_path,
        {
            f"/sys/fs/cgroup/memory/{literal}/below": None,
            f"/sys/fs/cgroup/memory/system.slice/containerd.service/{literal}": None,
        },
    )
    assert scan(reader, (MEMORY,)).literal == (
        f"/sys/fs/cgroup/memory/{literal}",
        f"/sys/fs/cgroup/memory/system.slice/containerd.service/{literal}",
    )


def test_drop_ins_for_slices_that_the_kubelet_makes_are_found(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            "/etc/systemd/system/kubepods.slice.d/10-memory.conf": "",
            "/etc/systemd/system/kubepods-.slice.d/x.conf": "",
            "/etc/systemd/system/kubepods-burstable.slice.d/readme": "",
            "/etc/systemd/system/slice.d/all.conf": "",
            "/usr/lib/systemd/system/kubelet-kubepods.slice.d/y.conf": "",
            "/etc/systemd/system/user-.slice.d/10-defaults.conf": "",
            "/etc/systemd/system/notkubepods.slice.d/z.conf": "",
        },
    )
    assert scan(reader, ()).slice_drop_ins == (
        "/etc/systemd/system/kubepods-.slice.d/x.conf",
        "/etc/systemd/system/kubepods.slice.d/10-memory.conf",
        "/etc/systemd/system/slice.d/all.conf",
        "/usr/lib/systemd/system/kubelet-kubepods.slice.d/y.conf",
    )


@pytest.mark.parametrize(
    ("hierarchies", "files", "counters"),
    [
        ((UNIFIED,), {"/sys/fs/cgroup/cgroup.stat": "nr_descendants 41\nnr_dying_descendants 7\n"}, (41, 7)),
        ((UNIFIED,), {"/sys/fs/cgroup/cgroup.stat": "junk\n"}, (0, 0)),
        ((UNIFIED,), {}, (0, 0)),
        (
            (MEMORY,),
            {
                "/proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t80\t1\nmemory\t4\t90\t1\n"
            },
            (90, 0),
        ),
        ((), {}, (0, 0)),
    ],
)
def test_the_kernels_counters_are_read(
    tmp_path: Path, hierarchies: tuple[Hierarchy, ...], files: dict[str, str], counters: tuple[int, int]
) -> None:
    found = scan(lay(tmp_path, files), hierarchies)
    assert counters == (found.descendants, found.dying)
