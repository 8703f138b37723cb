# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.cgroups import (
    CgroupName,
    CgroupNameError,
    Driver,
    Kind,
    Place,
    QoS,
    Runtime,
    RuntimeUnknownError,
    container_place,
    expand_slice,
    from_cgroupfs,
    from_systemd,
    parse,
    pod_slice,
    translate_path,
)

UID = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
UID_ = "0798b0e6_e445_4738_87b6_91bc5cc5e57f"
STATIC = "63126c2e4a7df5a5e0fc9b1be8f2d1ac"
ID = "33dff8e5" * 7 + "33df70a6"
SLICES = "/kubepods.slice/kubepods-burstable.slice"
POD = f"{SLICES}/kubepods-burstable-pod{UID_}.slice"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", "/"),
        ("a.slice", "/a.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("kube_reserved.slice", "/kube_reserved.slice"),
        ("kube-reserved.slice", "/kube.slice/kube-reserved.slice"),
    ],
)
def test_a_slice_lies_below_the_slices_its_name_starts_with(name: str, path: str) -> None:
    assert path == expand_slice(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        ".slice",
        "-a.slice",
        "a-.slice",
        "a--b.slice",
        "a/b.slice",
        "a.scope",
        "a-" * 20_000 + "a.slice",
    ],
)
def test_a_name_that_systemd_refuses_is_refused(name: str) -> None:
    with pytest.raises(CgroupNameError, match="invalid slice name"):
        expand_slice(name)


NAMES: list[tuple[tuple[str, ...], str, str]] = [
    ((), "/", "/"),
    (("kubepods",), "/kubepods", "/kubepods.slice"),
    (("kubepods", "burstable"), "/kubepods/burstable", SLICES),
    (("kubepods", "burstable", f"pod{UID}"), f"/kubepods/burstable/pod{UID}", POD),
    (
        ("kubepods", f"pod{STATIC}"),
        f"/kubepods/pod{STATIC}",
        f"/kubepods.slice/kubepods-pod{STATIC}.slice",
    ),
    (
        ("kubelet", "kubepods", "besteffort"),
        "/kubelet/kubepods/besteffort",
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice",
    ),
    (("kube-reserved",), "/kube-reserved", "/kube_reserved.slice"),
]


@pytest.mark.parametrize(("components", "cgroupfs", "systemd"), NAMES)
def test_a_name_has_two_spellings(components: tuple[str, ...], cgroupfs: str, systemd: str) -> None:
    name = CgroupName(components)

    assert (cgroupfs, systemd) == (name.to_cgroupfs(), name.to_systemd())
    assert (name, name) == (from_cgroupfs(cgroupfs), from_systemd(systemd))


def test_a_slice_is_read_from_its_name_alone() -> None:
    assert CgroupName(("kubepods", f"pod{UID}")) == from_systemd(f"kubepods-pod{UID_}.slice")


def test_a_pod_uid_with_underscores_is_the_same_pod() -> None:
    assert CgroupName(("kubepods", f"pod{UID}")) == from_cgroupfs(f"/kubepods/pod{UID_}")


@pytest.mark.parametrize("components", [("",), ("a", ""), (".",), ("..",), ("a/b",), ("a\nb",), ("a\0",)])
def test_what_cannot_be_a_directory_is_no_component(components: tuple[str, ...]) -> None:
    with pytest.raises(CgroupNameError, match="cannot be a component"):
        CgroupName(components)


def test_a_unit_gets_no_second_suffix() -> None:
    with pytest.raises(CgroupNameError, match="already is the name of a systemd unit"):
        from_cgroupfs("/pods.slice/kubepods").to_systemd()


def test_a_slice_in_the_wrong_place_is_no_name() -> None:
    with pytest.raises(CgroupNameError, match=r"which is /kubepods\.slice/kubepods-burstable\.slice"):
        from_systemd("/system.slice/kubepods-burstable.slice")


components = st.text(
    st.characters(codec="utf-8", exclude_characters="/_.", exclude_categories=("C", "Z")), min_size=1
)


# 255 characters are the longest name of a unit, `.slice` included.
@given(st.lists(components).filter(lambda parts: len("-".join(parts)) <= 249))
def test_what_the_kubelet_may_name_survives_both_spellings(parts: list[str]) -> None:
    name = CgroupName(tuple(parts))

    assert name == from_systemd(name.to_systemd())
    assert name == from_cgroupfs(name.to_cgroupfs())


PLACES: list[tuple[QoS, str, Runtime, str, str]] = [
    (QoS.GUARANTEED, UID, Runtime.DOCKER, f"/kubepods/pod{UID}/{ID}", f"/kubepods.slice/kubepods-pod{UID_}.slice/docker-{ID}.scope"),
    (QoS.BURSTABLE, UID, Runtime.CONTAINERD, f"/kubepods/burstable/pod{UID}/{ID}", f"{POD}/cri-containerd-{ID}.scope"),
    (QoS.BURSTABLE, UID, Runtime.CRIO, f"/kubepods/burstable/pod{UID}/crio-{ID}", f"{POD}/crio-{ID}.scope"),
    (
        QoS.BESTEFFORT,
        STATIC,
        Runtime.DOCKER,
        f"/kubepods/besteffort/pod{STATIC}/{ID}",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{STATIC}.slice/docker-{ID}.scope",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("qos", "uid", "runtime", "cgroupfs", "systemd"), PLACES)
def test_a_container_has_one_place_under_each_driver(
    qos: QoS, uid: str, runtime: Runtime, cgroupfs: str, systemd: str
) -> None:
    assert cgroupfs == container_place(uid, qos, ID, runtime, Driver.CGROUPFS)
    assert systemd == container_place(uid, qos, ID, runtime, Driver.SYSTEMD)
    assert cgroupfs.rpartition("/")[0] == pod_slice(uid, qos, Driver.CGROUPFS)
    assert systemd.rpartition("/")[0] == pod_slice(uid, qos, Driver.SYSTEMD)


@pytest.mark.parametrize(("qos", "uid", "runtime", "cgroupfs", "systemd"), PLACES)
def test_a_place_reads_back_as_its_container(
    qos: QoS, uid: str, runtime: Runtime, cgroupfs: str, systemd: str
) -> None:
    for path in (cgroupfs, systemd):
        place = parse(path)

        assert place is not None
        assert (qos, uid, ID, Kind.CONTAINER) == (place.qos, place.pod_uid, place.container_id, place.kind)
        assert cgroupfs == place.spelled(Driver.CGROUPFS, runtime)
        assert systemd == place.spelled(Driver.SYSTEMD, runtime)


def test_a_cgroup_root_stands_above_kubepods_in_both_spellings() -> None:
    assert f"/a/b-c/kubepods/pod{STATIC}" == pod_slice(
        STATIC, QoS.GUARANTEED, Driver.CGROUPFS, cgroup_root="/a/b-c"
    )
    assert (
        f"/a.slice/a-b_c.slice/a-b_c-kubepods.slice/a-b_c-kubepods-pod{STATIC}.slice/crio-{ID}.scope"
        == container_place(STATIC, QoS.GUARANTEED, ID, Runtime.CRIO, Driver.SYSTEMD, cgroup_root="/a/b-c")
    )


@pytest.mark.parametrize(
    ("path", "prefix", "root", "kind", "tail"),
    [
        ("/kubepods", "", (), Kind.KUBEPODS, ""),
        ("/kubepods.slice", "", (), Kind.KUBEPODS, ""),
        ("kubepods/burstable/", "", (), Kind.QOS, "/"),
        ("/sys/fs/cgroup/kubepods", "/sys/fs/cgroup", (), Kind.KUBEPODS, ""),
        ("/sys/fs/cgroup/memory/kubepods/burstable/cpu.shares", "/sys/fs/cgroup/memory", (), Kind.QOS, "/cpu.shares"),
        ("/sys/fs/cgroup/cpu,cpuacct/kubepods/besteffort", "/sys/fs/cgroup/cpu,cpuacct", (), Kind.QOS, ""),
        ("/host/sys/fs/cgroup/unified/kubepods.slice", "/host/sys/fs/cgroup/unified", (), Kind.KUBEPODS, ""),
        ("/rootfs/sys/fs/cgroup/systemd/kubepods", "/rootfs/sys/fs/cgroup/systemd", (), Kind.KUBEPODS, ""),
        ("/run/cilium/cgroupv2/kubepods", "/run/cilium/cgroupv2", (), Kind.KUBEPODS, ""),
        ("memory/kubepods/burstable", "memory", (), Kind.QOS, ""),
        ("../../kubepods/burstable", "../..", (), Kind.QOS, ""),
        ("4:memory:/kubepods/burstable", "4:memory:", (), Kind.QOS, ""),
        ("1:name=systemd:/kubelet/kubepods", "1:name=systemd:", ("kubelet",), Kind.KUBEPODS, ""),
        ("0::/kubelet.slice/kubelet-kubepods.slice", "0::", ("kubelet",), Kind.KUBEPODS, ""),
        ("/sys/fs/cgroup/memory/kubelet/kubepods", "/sys/fs/cgroup/memory", ("kubelet",), Kind.KUBEPODS, ""),
        ("/sys/fs/cgroup/kubelet/kubepods", "/sys/fs/cgroup", ("kubelet",), Kind.KUBEPODS, ""),
        (f"/docker/{ID}/kubelet/kubepods/burstable", f"/docker/{ID}", ("kubelet",), Kind.QOS, ""),
        (f"/system.slice/docker-{ID}.scope/kubelet/kubepods", f"/system.slice/docker-{ID}.scope", ("kubelet",), Kind.KUBEPODS, ""),
        (f"{POD}/crio-conmon-{ID}.scope", "", (), Kind.CONMON, ""),
        (f"/kubepods/pod{UID}/crio-conmon-{ID}", "", (), Kind.CONMON, ""),
        (f"{POD}/crio-{ID}.scope/container", "", (), Kind.CHILD, "/container"),
        (f"/kubepods/pod{UID}/{ID}/init.scope", "", (), Kind.CHILD, "/init.scope"),
        (f"/kubepods/pod{UID}/{ID}/memory.limit_in_bytes", "", (), Kind.CONTAINER, "/memory.limit_in_bytes"),
        (f"{POD}/{ID}", "", (), Kind.CONTAINER, ""),
        (f"{POD}/libpod-{ID}.scope", "", (), Kind.CHILD, f"/libpod-{ID}.scope"),
        ("/kubepods/burstable/other", "", (), Kind.CHILD, "/other"),
    ],
)  # fmt: skip
def test_a_path_tells_where_its_tree_starts_and_what_it_names(
    path: str, prefix: str, root: tuple[str, ...], kind: Kind, tail: str
) -> None:
    place = parse(path)

    assert place is not None
    assert (prefix, root, kind, tail) == (place.prefix, place.root, place.kind, place.tail)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/system.slice/docker.service",
        "/user.slice",
        "kubepods-burstable.slice",
        "/kubepods-burstable.slice",
        "/mykubepods/burstable",
        "/a-kubepods.slice",
        f"/docker/{ID}",
    ],
)
def test_what_is_not_in_a_kubelets_tree_is_no_place(path: str) -> None:
    assert parse(path) is None


@given(st.text(), st.none() | st.text())
def test_parse_takes_any_text(path: str, root: str | None) -> None:
    assert parse(path, root) is None or "kubepods" in path


@given(
    st.lists(
        st.sampled_from(
            ["/", "kubepods", "pod", "-", ".slice", ":", "docker", "a", "\0", "burstable", UID, ID]
        )
    )
)
def test_parse_takes_any_mixture(fragments: list[str]) -> None:
    path = "".join(fragments)
    place = parse(path)

    assert place is None or place.kind is Kind.LITERAL or path == place.spelled(place.driver, Runtime.DOCKER)


def test_a_literal_directory_is_recognised_and_its_right_place_known() -> None:
    path = f"/sys/fs/cgroup/memory/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}"

    place = parse(path)

    assert place == Place(
        prefix="/sys/fs/cgroup/memory",
        driver=Driver.SYSTEMD,
        root=(),
        kind=Kind.LITERAL,
        qos=QoS.BURSTABLE,
        pod_uid=UID,
        container_id=ID,
        runtime=Runtime.CONTAINERD,
    )
    assert f"/sys/fs/cgroup/memory{POD}/cri-containerd-{ID}.scope" == place.spelled(Driver.SYSTEMD)
    assert path == translate_path(path, Driver.SYSTEMD)
    assert path == translate_path(path, Driver.CGROUPFS)


def test_a_given_cgroup_root_settles_what_is_prefix() -> None:
    path = "/lab-w1/memory/kubepods/burstable"

    assert (
        "/lab_w1.slice/lab_w1-memory.slice/lab_w1-memory-kubepods.slice/lab_w1-memory-kubepods-burstable.slice"
        == (translate_path(path, Driver.SYSTEMD))
    )
    assert f"/lab-w1/memory{SLICES}" == translate_path(path, Driver.SYSTEMD, cgroup_root="/")
    assert "/lab-w1/memory.slice/memory-kubepods.slice/memory-kubepods-burstable.slice" == translate_path(
        path, Driver.SYSTEMD, cgroup_root="/memory"
    )


def test_a_root_with_an_underscore_comes_back_only_where_it_is_given() -> None:
    there = translate_path("/my_root/kubepods/burstable", Driver.SYSTEMD)

    assert "/my_root.slice/my_root-kubepods.slice/my_root-kubepods-burstable.slice" == there
    assert "/my-root/kubepods/burstable" == translate_path(there, Driver.CGROUPFS)
    assert "/my_root/kubepods/burstable" == translate_path(there, Driver.CGROUPFS, cgroup_root="/my_root")


def test_a_kubelet_in_a_container_belongs_to_that_container() -> None:
    inner = f"/kubelet/kubepods/burstable/pod{UID}/{ID}"

    assert f"{POD}/docker-{ID}.scope{inner}" == translate_path(
        f"/kubepods/burstable/pod{UID}/{ID}{inner}", Driver.SYSTEMD, Runtime.DOCKER
    )
    assert f"{POD}/docker-{ID}.scope{inner}" == translate_path(
        f"{POD}/docker-{ID}.scope{inner}", Driver.SYSTEMD
    )


@pytest.mark.parametrize("container", ["33dff8e5…70a6", ID])
def test_the_example_of_the_design_holds_to_the_letter(container: str) -> None:
    assert (
        "/sys/fs/cgroup/memory/kubepods.slice/kubepods-besteffort.slice"
        f"/kubepods-besteffort-pod0798b0e6_e445_4738_87b6_91bc5cc5e57f.slice/docker-{container}.scope"
    ) == translate_path(
        f"/sys/fs/cgroup/memory/kubepods/besteffort/pod0798b0e6_e445_4738_87b6_91bc5cc5e57f/{container}",
        Driver.SYSTEMD,
        Runtime.DOCKER,
    )


def test_a_plain_container_needs_its_runtime_towards_systemd_and_nothing_else_does() -> None:
    path = f"/kubepods/burstable/pod{UID}"

    with pytest.raises(RuntimeUnknownError, match=ID):
        translate_path(f"{path}/{ID}", Driver.SYSTEMD)
    assert POD == translate_path(path, Driver.SYSTEMD)
    assert f"{POD}/crio-{ID}.scope" == translate_path(f"{path}/crio-{ID}", Driver.SYSTEMD)
    assert f"{path}/{ID}" == translate_path(f"{POD}/cri-containerd-{ID}.scope", Driver.CGROUPFS)


@pytest.mark.parametrize(
    "path", [f"/kubepods/burstable/pod{UID}/libpod-{ID}", "/kubepods/burstable/other/cpu.max"]
)
def test_a_directory_that_neither_kubelet_nor_runtime_makes_has_no_translation(path: str) -> None:
    with pytest.raises(CgroupNameError, match="neither the kubelet nor a runtime"):
        translate_path(path, Driver.SYSTEMD, Runtime.DOCKER)


@pytest.mark.parametrize(
    ("cgroupfs", "systemd"),
    [
        ("/system/kubelet", "/system.slice/system-kubelet.slice"),
        ("/kubelet", "/kubelet.slice"),
        ("/kube-reserved", "/kube_reserved.slice"),
        ("/memory/agents", "/memory.slice/memory-agents.slice"),
        ("/sys/fs/cgroup/memory/kubereserved", "/sys/fs/cgroup/memory/kubereserved.slice"),
        ("/sys/fs/cgroup/kubereserved/cgroup.procs", "/sys/fs/cgroup/kubereserved.slice/cgroup.procs"),
        ("/", "/"),
        ("/system.slice", "/system.slice"),
        ("/system.slice/docker.service", "/system.slice/docker.service"),
        ("/sys/fs/cgroup", "/sys/fs/cgroup"),
    ],
)
def test_a_reserved_cgroup_is_renamed_by_the_same_rule(cgroupfs: str, systemd: str) -> None:
    assert systemd == translate_path(cgroupfs, Driver.SYSTEMD)
    assert systemd == translate_path(systemd, Driver.SYSTEMD)
    assert cgroupfs == translate_path(systemd, Driver.CGROUPFS)


def test_a_reserved_slice_means_to_the_kubelet_what_its_name_says() -> None:
    assert "/kube.slice/kube-reserved.slice" == translate_path("/kube-reserved.slice", Driver.SYSTEMD)


def test_a_container_outside_kubernetes_is_not_renamed() -> None:
    with pytest.raises(CgroupNameError, match="F64"):
        translate_path(f"/docker/{ID}", Driver.SYSTEMD, Runtime.DOCKER)


prefixes = st.sampled_from(
    [
        "",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/host/sys/fs/cgroup/cpu,cpuacct",
        "7:pids:",
        "0::",
        "/x/../..",
    ]
)
roots = st.sampled_from(["", "/kubelet", "/a/b-c"])
classes = st.sampled_from(["", "/burstable", "/besteffort"])
uids = st.uuids().map(str) | st.text("0123456789abcdef", min_size=32, max_size=32)
ids = st.text("0123456789abcdef", min_size=64, max_size=64)
tails = st.sampled_from(["", "/", "/container", "/init.scope", "/system.slice/a.service", "/memory.max"])


@st.composite
def container_paths(draw: st.DrawFn) -> tuple[str, Runtime]:
    runtime = draw(st.sampled_from(Runtime))
    prefix = draw(st.sampled_from(["crio-", "crio-conmon-"])) if runtime is Runtime.CRIO else ""
    pod = f"{draw(prefixes)}{draw(roots)}/kubepods{draw(classes)}/pod{draw(uids)}"
    return f"{pod}/{prefix}{draw(ids)}{draw(tails)}", runtime


@given(container_paths())
def test_a_path_goes_there_and_back(container: tuple[str, Runtime]) -> None:
    path, runtime = container

    there = translate_path(path, Driver.SYSTEMD, runtime)

    assert path == translate_path(there, Driver.CGROUPFS)
    assert there == translate_path(there, Driver.SYSTEMD)
    assert path == translate_path(path, Driver.CGROUPFS)


@given(prefixes, roots, classes, st.sampled_from(["", "/", "/cgroup.procs"]))
def test_a_directory_without_a_pod_goes_there_and_back(prefix: str, root: str, qos: str, tail: str) -> None:
    path = f"{prefix}{root}/kubepods{qos}{tail}"

    assert path == translate_path(translate_path(path, Driver.SYSTEMD), Driver.CGROUPFS)
