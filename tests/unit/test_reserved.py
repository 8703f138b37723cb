# SPDX-License-Identifier: Apache-2.0
"""Reserved cgroups and the kubelet's root: what they are under systemd, which setting changes, what is made for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.changes import file_changes
from migrator.configs import kubelet
from migrator.configs.quantity import limits, number
from migrator.errors import BlockedError
from migrator.facts.model import Driver as EffectiveDriver
from migrator.facts.model import Facts, Hierarchy
from migrator.plan_steps import trees
from migrator.reserved import made_by, renames, wanted
from tests.unit.facts_base import KUBELET_CONFIG, but, source, unit

FRAGMENT = "/etc/systemd/system/kubelet.service"
ENVIRONMENT = "/etc/default/kubelet"
DROP_IN = "/etc/systemd/system/kubelet.service.d/20-cgmigrate-slices.conf"
CONTROLLERS = ("cpu,cpuacct", "cpuset", "memory", "pids", "blkio", "name=systemd")
V1 = tuple(
    Hierarchy(
        mount=f"/sys/fs/cgroup/{each.removeprefix('name=')}", version=1, controllers=tuple(each.split(","))
    )
    for each in CONTROLLERS
)
INSISTED = [each.mount for each in V1 if "blkio" not in each.controllers]
HEAD = b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs\n"
RESERVED = HEAD + (
    b"kubeReserved: {cpu: 250m, memory: 0.5Gi, ephemeral-storage: 1Gi}\n"
    b'kubeReservedCgroup: "/kube-reserved"  # ours\n'
    b"kubeletCgroups: /kube-reserved/kubelet\n"
    b"enforceNodeAllocatable: [pods, kube-reserved]\n"
)
DAEMON = b"version = 2\n"


def node(
    *,
    reserved: tuple[tuple[str, str], ...] = (("kubeReservedCgroup", "/kube-reserved"),),
    root: str = "",
    absent: tuple[str, ...] = (),
    **kubelet: object,
) -> Facts:
    """A node on cgroup v1 whose files are all at hand."""
    facts = but(
        node={"cgroup_mode": "legacy", "hierarchies": V1},
        kubelet={
            "version": "1.20.2",
            "unit": unit("kubelet.service"),
            "driver": EffectiveDriver(value="cgroupfs", chain=(source("cgroupfs", KUBELET_CONFIG, 3),)),
            "reserved_cgroups": reserved,
            "enforce_node_allocatable": ("pods", "kube-reserved"),
            "cgroup_root": root,
        }
        | kubelet,
        cgroups={"reserved_absent": tuple(f"{mount}{place}" for place in absent for mount in INSISTED)},
    )
    return but(facts, files=())


def written(facts: Facts, texts: Mapping[str, bytes]) -> dict[str, str]:
    """What the plan writes, but for the runtime's file."""
    changes = file_changes(facts, lambda path: texts.get(path, DAEMON if "containerd" in path else None))
    return {each.path: each.after.decode() for each in changes if "containerd" not in each.path}


@pytest.mark.parametrize(
    ("value", "place", "obstacle"),
    [
        ("/kube-reserved", "/kube_reserved.slice", ""),
        ("kube", "/kube.slice", ""),
        ("/a/b-c", "/a.slice/a-b_c.slice", ""),
        ("/kube-reserved.slice", "/kube.slice/kube-reserved.slice", ""),
        ("/system.slice/kubelet.service", "", "a service has none"),
        ("/user", "/user.slice", "systemd's own"),
        ("/a.slice/b", "", "look for b.slice"),
        ("/systemd/system.slice", "", "look for system.slice, at /system.slice"),
        ("/system.slice/kube.slice", "", "look for kube.slice, at /kube.slice"),
        ("/a/b.slice", "", "look for b.slice"),
        ("/a b", "/a b.slice", "no unit can have"),
        ("/a/../b", "", "no name there"),
    ],
)
def test_a_name_becomes_the_full_path_of_its_slice_or_is_refused(
    value: str, place: str, obstacle: str
) -> None:
    (found,) = wanted(node(reserved=(("kubeReservedCgroup", value),)))
    assert found.place == place
    assert obstacle in found.obstacle
    assert bool(obstacle) == bool(found.obstacle)


@pytest.mark.parametrize(
    ("root", "obstacle"),
    [
        ("/pods", ""),
        ("/pods/", ""),
        ("pods", ""),
        ("/pods.slice", "second"),
        ("/kubepods/a", "stale one"),
        ("/kubelet.slice/pods", "has no slice of its own"),
        ("/x.scope/y", "has no slice of its own"),
        ("/pods.slice/a-b", "has no slice of its own"),
        ("/kubepods.slice/x", "has no slice of its own"),
        ("/a.slice/../b", "cannot be a component"),
        ("/system", "own"),
    ],
)
def test_a_root_has_a_slice_or_is_refused(root: str, obstacle: str) -> None:
    (found,) = wanted(node(reserved=(), root=root))
    assert obstacle in found.obstacle
    assert bool(obstacle) == bool(found.obstacle)


def test_without_a_root_and_without_what_is_enforced_there_is_nothing_to_do() -> None:
    assert wanted(node(reserved=(), root="/")) == ()
    assert wanted(node(enforce_node_allocatable=("pods",))) == ()


def test_a_root_without_cgroups_for_qos_is_refused_and_nothing_is_made() -> None:
    facts = node(reserved=(), root="/pods", cgroups_per_qos=False)
    assert ["cgroupsPerQOS" in each.obstacle for each in wanted(facts)] == [True]
    assert sorted(written(facts, {KUBELET_CONFIG: HEAD})) == [KUBELET_CONFIG]


def test_a_kubelet_that_is_on_systemd_reads_its_names_already() -> None:
    """Its slice lives: a new name would leave it behind."""
    facts = node(driver=EffectiveDriver(value="systemd"))
    assert (wanted(facts), renames(facts)) == ((), {})


@pytest.mark.parametrize(
    ("values", "root", "refused"),
    [
        (("/both", "/both"), "", ["kubeReservedCgroup", "systemReservedCgroup"]),
        (("/both", "/both.slice"), "", ["kubeReservedCgroup"]),
        (("/pods", "/other"), "/pods", ["cgroupRoot", "kubeReservedCgroup"]),
        (("/one", "/other"), "/pods", []),
    ],
)
def test_one_cgroup_for_two_settings_is_refused(
    values: tuple[str, str], root: str, refused: list[str]
) -> None:
    facts = node(
        reserved=tuple(zip(("kubeReservedCgroup", "systemReservedCgroup"), values, strict=True)),
        enforce_node_allocatable=("kube-reserved", "system-reserved"),
        root=root,
    )
    assert [each.setting for each in wanted(facts) if "names the same one" in each.obstacle] == refused


@pytest.mark.parametrize("value", ["/kube.slice", "/kube.slice/kube-reserved.slice"])
def test_what_is_a_slice_already_keeps_its_name(value: str) -> None:
    facts = node(reserved=(("kubeReservedCgroup", value),), absent=(value,))
    assert (wanted(facts), renames(facts)) == ((), {})


@pytest.mark.parametrize(
    ("version", "obstacle"),
    [("1.15.12", "1.16 and later"), (None, "1.16 and later"), ("1.34.1", "")],
)
def test_a_kubelet_that_reads_names_otherwise_is_refused(version: str | None, obstacle: str) -> None:
    (found,) = wanted(node(version=version))
    assert obstacle in found.obstacle
    assert bool(obstacle) == bool(found.obstacle)


@pytest.mark.parametrize(
    ("where", "obstacle"),
    [
        (
            {"cgroup_mode": "unified", "hierarchies": (Hierarchy(mount="/sys/fs/cgroup", version=2),)},
            "cgroup v2",
        ),
        ({"cgroup_mode": "unknown", "hierarchies": ()}, "not known"),
        ({"live": False, "hierarchies": ()}, "not known"),
    ],
)
@pytest.mark.parametrize("root", ["", "/kube_reserved"])
def test_what_was_not_tried_is_refused_and_says_so(
    where: dict[str, object], obstacle: str, root: str
) -> None:
    facts = but(
        node(absent=("/kube_reserved.slice",), root=root, **({"reserved": ()} if root else {})),
        node=where,
        cgroups={
            "reserved_absent": (
                "/sys/fs/cgroup/kube_reserved.slice",
                "/sys/fs/cgroup/memory/kube_reserved.slice",
            )
        },
    )
    (found,) = wanted(facts)
    assert obstacle in found.obstacle


def test_the_setting_is_rewritten_and_its_slice_made_with_the_kubelets_own_limits() -> None:
    facts = node(
        reserved=(("kubeReservedCgroup", "/kube-reserved"), ("kubeletCgroups", "/kube-reserved/kubelet")),
        absent=("/kube_reserved.slice",),
    )
    files = written(facts, {KUBELET_CONFIG: RESERVED})
    assert files[KUBELET_CONFIG].encode() == (
        RESERVED.replace(b"cgroupDriver: cgroupfs", b"cgroupDriver: systemd")
        .replace(b'"/kube-reserved"', b'"/kube_reserved.slice"')
        .replace(b"/kube-reserved/kubelet", b"/kube_reserved.slice/kubelet")
    )
    settings = [line for line in files["/etc/systemd/system/kube_reserved.slice"].split("\n") if "=" in line]
    assert settings[1:] == [
        "CPUAccounting=yes",
        "MemoryAccounting=yes",
        "TasksAccounting=yes",
        "CPUShares=256",
        "MemoryLimit=536870912",
    ]
    assert files[DROP_IN].split("\n")[1:] == [
        "[Unit]",
        "Wants=kube_reserved.slice",
        "After=kube_reserved.slice",
        "",
        "[Service]",
        "ExecStartPre=/bin/mkdir -p "
        + " ".join(f"{mount}/kube_reserved.slice" for mount in INSISTED if not mount.endswith("systemd")),
        "",
    ]
    assert made_by(facts, files) == ["/kube_reserved.slice"]


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("/kube-reserved", "/kube_reserved.slice"),
        ("kube-reserved/", "/kube_reserved.slice"),
        ("/kube-reserved/kubelet.service", "/kube_reserved.slice/kubelet.service"),
        ("/kube-reserved2", None),
        ("/system.slice/kubelet.service", None),
        ("/", None),
    ],
)
def test_what_is_taken_literally_moves_only_with_the_cgroup_it_lies_in(
    value: str, becomes: str | None
) -> None:
    facts = node(
        reserved=(
            ("kubeReservedCgroup", "/kube-reserved"),
            ("kubeletCgroups", value),
            ("systemCgroups", value),
        )
    )
    assert renames(facts).get("kubeletCgroups") == becomes
    assert "systemCgroups" not in renames(facts)


def test_a_cgroup_root_keeps_its_value_and_gets_a_slice() -> None:
    facts = node(reserved=(), root="/pods", absent=("/pods.slice",))
    files = written(facts, {KUBELET_CONFIG: HEAD + b"cgroupRoot: /pods\n"})
    assert "cgroupRoot: /pods\n" in files[KUBELET_CONFIG]
    assert sorted(files) == [DROP_IN, "/etc/systemd/system/pods.slice", KUBELET_CONFIG]
    assert "Limit" not in files["/etc/systemd/system/pods.slice"]
    assert trees("/pods") == [
        "/pods/kubepods",
        "/pods.slice/pods-kubepods.slice",
        "/kubepods",
        "/kubepods.slice",
    ]
    assert trees("/") == trees("") == ["/kubepods", "/kubepods.slice"]


@pytest.mark.parametrize(
    ("absent", "made"),
    [((), []), (("/kube_reserved.slice",), [DROP_IN])],
    ids=["everywhere", "as a unit only"],
)
def test_what_somebody_has_prepared_is_left_to_them(absent: tuple[str, ...], made: list[str]) -> None:
    """Their unit is never replaced, and nothing of theirs is removed on the way back."""
    facts = node(absent=absent)
    theirs = {KUBELET_CONFIG: RESERVED, "/usr/lib/systemd/system/kube_reserved.slice": b"[Slice]\n"}
    files = written(facts, theirs)
    assert sorted(files) == sorted([KUBELET_CONFIG, *made])
    assert made_by(facts, files) == []


def test_a_cgroup_that_is_there_in_part_is_not_removed_on_the_way_back() -> None:
    facts = but(node(), cgroups={"reserved_absent": ("/sys/fs/cgroup/cpuset/kube_reserved.slice",)})
    assert made_by(facts, written(facts, {KUBELET_CONFIG: RESERVED})) == []


def test_the_flag_is_rewritten_wherever_it_is_given() -> None:
    facts = node(
        absent=("/kube_reserved.slice",),
        unit=unit("kubelet.service").__class__(name="kubelet.service", fragment=FRAGMENT),
    )
    flag = "--kube-reserved-cgroup=/kube-reserved --kube-reserved=cpu=100m,memory=1G"
    texts = {
        KUBELET_CONFIG: HEAD,
        FRAGMENT: f"[Service]\nEnvironmentFile=-{ENVIRONMENT}\nExecStart=/usr/bin/kubelet {flag} $X\n".encode(),
        ENVIRONMENT: b"X=--kube_reserved_cgroup=/kube-reserved\n",
    }
    files = written(facts, texts)
    assert "--kube-reserved-cgroup=/kube_reserved.slice --kube-reserved=cpu" in files[FRAGMENT]
    assert files[ENVIRONMENT] == "X=--kube_reserved_cgroup=/kube_reserved.slice\n"
    assert "CPUShares=102\nMemoryLimit=1000000000\n" in files["/etc/systemd/system/kube_reserved.slice"]


def test_a_setting_that_no_file_gives_is_refused() -> None:
    with pytest.raises(BlockedError, match="no file of the kubelet gives it"):
        written(node(), {KUBELET_CONFIG: HEAD})


def by_flag(flag: str, config: bytes = HEAD) -> dict[str, str]:
    """What the plan writes where the kubelet's unit gives flags."""
    facts = node(
        absent=("/kube_reserved.slice",),
        unit=unit("kubelet.service").__class__(name="kubelet.service", fragment=FRAGMENT),
    )
    texts = {KUBELET_CONFIG: config, FRAGMENT: f"[Service]\nExecStart=/usr/bin/kubelet {flag}\n".encode()}
    return written(facts, texts)


def test_a_value_that_a_flag_overrides_stays() -> None:
    files = by_flag("--kube-reserved-cgroup=/kube-reserved", HEAD + b"kubeReservedCgroup: /other\n")
    assert "kubeReservedCgroup: /other\n" in files[KUBELET_CONFIG]
    assert "--kube-reserved-cgroup=/kube_reserved.slice" in files[FRAGMENT]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ('"--kube-reserved=cpu=250m, memory=1M"', "CPUShares=256\nMemoryLimit=1000000\n"),
        ("--kube-reserved=cpu=250m --kube-reserved=memory=1M", "CPUShares=256\nMemoryLimit=1000000\n"),
        ("--kube-reserved=cpu=250m --kube-reserved=cpu=250m", "CPUShares=256\n"),
    ],
)
def test_repeated_quantities_add_up(flags: str, expected: str) -> None:
    files = by_flag(f"--kube-reserved-cgroup=/kube-reserved {flags}")
    assert files["/etc/systemd/system/kube_reserved.slice"].endswith(expected)


def test_two_quantities_of_one_resource_are_refused() -> None:
    flags = "--kube-reserved-cgroup=/kube-reserved --kube-reserved=cpu=1 --kube-reserved=cpu=2"
    with pytest.raises(BlockedError, match="--kube-reserved gives one resource two values"):
        by_flag(flags)


@pytest.mark.parametrize("value", ['/kube-reserved/a"b', "/kube-reserved/a b", "/kube-reserved/$X"])
def test_a_followed_name_that_is_not_plain_is_refused(value: str) -> None:
    facts = node(reserved=(("kubeReservedCgroup", "/kube-reserved"), ("kubeletCgroups", value)))
    with pytest.raises(BlockedError, match="has a character that is in no plain name"):
        written(facts, {KUBELET_CONFIG: RESERVED})


def test_a_json_text_is_escaped() -> None:
    edited = kubelet.set_text(b'{"kubeletCgroups": "/a"}', "kubeletCgroups", '/a"b\\c')
    assert json.loads(edited.text) == {"kubeletCgroups": '/a"b\\c'}


EARLIER = (
    b"# ours\n[Unit]\nWants=old.slice\nAfter=old.slice\n\n[Service]\n"
    b"ExecStartPre=/bin/mkdir -p /sys/fs/cgroup/cpuset/old.slice\n"
)


def test_the_slices_of_an_earlier_drop_in_stay_in_it() -> None:
    facts = node(reserved=(), root="/pods", absent=("/pods.slice",))
    lines = written(facts, {KUBELET_CONFIG: HEAD, DROP_IN: EARLIER})[DROP_IN].split("\n")
    assert {"Wants=old.slice pods.slice", "After=old.slice pods.slice"} <= set(lines)
    assert [line.rpartition("/")[2] for line in lines if line.startswith("ExecStartPre=")] == [
        "old.slice",
        "pods.slice",
    ]


def test_a_line_of_somebody_else_in_our_drop_in_is_not_lost() -> None:
    facts = node(reserved=(), root="/pods", absent=("/pods.slice",))
    with pytest.raises(BlockedError, match=r"20-cgmigrate-slices.conf:8: .*`Environment`"):
        written(facts, {KUBELET_CONFIG: HEAD, DROP_IN: EARLIER + b"Environment=X=1\n"})


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("100m", "0.1"),
        ("1.5Gi", str(3 << 29)),
        ("2e3", "2000"),
        (".5k", "500"),
        ("7", "7"),
        ("1E", str(10**18)),
        ("", None),
        ("-1", None),
        ("1 Gi", None),
        ("Gi", None),
        ("1e999", None),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(quantity: str, value: str | None) -> None:
    assert number(quantity) == (None if value is None else Decimal(value))


def test_limits_are_those_that_the_kubelet_writes() -> None:
    given = {"cpu": "1m", "memory": "100.5", "pid": "1k", "hugepages-2Mi": "1Gi"}
    assert limits(given) == {"CPUShares": 2, "MemoryLimit": 101, "TasksMax": 1000}
    assert limits({"cpu": "some", "memory": ""}) == {}
    assert limits({"cpu": "0", "memory": "0", "pid": "0"}) == {"CPUShares": 2}
    assert limits({"cpu": "300"}) == {"CPUShares": 1 << 18}


@given(st.dictionaries(st.sampled_from(["cpu", "memory", "pid"]), st.text(max_size=12)))
def test_no_quantity_breaks_the_plan(given: dict[str, str]) -> None:
    assert set(limits(given)) <= {"CPUShares", "MemoryLimit", "TasksMax"}


@pytest.mark.parametrize(
    "text",
    [
        b"kubeReservedCgroup: /a  # kept\n",
        b"\xef\xbb\xbfx: 1\r\nkubeReservedCgroup: '/a'\r\n",
        b'{"x": 1, "kubeReservedCgroup": "/a"}',
        b"{kubeReservedCgroup: /a, x: 1}",
    ],
)
def test_any_text_of_the_configuration_is_set_in_place(text: bytes) -> None:
    edited = kubelet.set_text(text, "kubeReservedCgroup", "/b.slice")
    assert edited.text == text.replace(b"/a", b"/b.slice")
    assert kubelet.set_text(edited.text, "kubeReservedCgroup", "/b.slice").edits == ()
