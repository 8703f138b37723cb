# SPDX-License-Identifier: Apache-2.0
"""What a node's files tell of its bus, devices, OCI runtime, slices, and of what the kubelet has left for its next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.cgroup import absent, enabled_controllers, slice_drop_ins, slice_files
from migrator.facts.devices import gather_gpus
from migrator.facts.kubelet import gather_kubelet
from migrator.facts.kubelet_state import gather_checkpoints, insisted_paths, places_of
from migrator.facts.look import Look
from migrator.facts.manager import gather_manager
from migrator.facts.model import Driver, Handler, Hierarchy, Kubelet, Manager, Runtime, Unit
from migrator.facts.oci import gather_oci
from tests.unit.facts_base import STATIC_UID, UID
from tests.unit.nodes import Link, lay

LIMIT = '<busconfig><limit name="max_connections_per_user">{}</limit></busconfig>'
UNIFIED = Hierarchy(mount="/sys/fs/cgroup", version=2)
CPU = Hierarchy(mount="/sys/fs/cgroup/cpu", version=1, controllers=("cpu", "cpuacct"))
CPUSET = Hierarchy(mount="/sys/fs/cgroup/cpuset", version=1, controllers=("cpuset",))
BLKIO = Hierarchy(mount="/sys/fs/cgroup/blkio", version=1, controllers=("blkio",))
NAMED = Hierarchy(mount="/sys/fs/cgroup/systemd", version=1, controllers=("name=systemd",))
LOST = Hierarchy(mount="/sys/fs/cgroup/memory", version=1, controllers=("memory",))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 256),
        ({"/usr/share/dbus-1/system.conf": LIMIT.format(512)}, 512),
        (
            {
                "/usr/share/dbus-1/system.conf": LIMIT.format(512),
                "/etc/dbus-1/system-local.conf": LIMIT.format(1024),
            },
            1024,
        ),
        (
            {
                "/etc/dbus-1/system.d/a.conf": LIMIT.format(300),
                "/etc/dbus-1/system.d/b.conf": LIMIT.format(400),
                "/etc/dbus-1/system.d/c.txt": LIMIT.format(500),
            },
            400,
        ),
        ({"/etc/dbus-1/system-local.conf": f"<!-- {LIMIT.format(9)} -->"}, 256),
        ({"/etc/dbus-1/system-local.conf": LIMIT.format("many")}, 256),
        ({"/etc/dbus-1/system-local.conf": "<limit name='max_connections_per_user'> 77 </limit>"}, 77),
    ],
)
def test_the_bus_grants_what_its_last_file_says(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    assert gather_manager(Look(lay(tmp_path, files)), None).bus_limit == limit


def test_an_image_tells_its_mounts_and_nothing_of_a_running_systemd(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {"/proc/self/mountinfo": "1 2\n3 4\n"}))
    assert gather_manager(look, None) == Manager(bus_limit=256, mounts=2)
    assert look.unknowns == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ((), None)),
        (
            {"/usr/bin/nvidia-container-runtime": ""},
            (("/usr/bin/nvidia-container-runtime",), None),
        ),
        (
            {"/dev/nvidia0": "", "/dev/nvidiactl": "", "/dev/nvidia-caps": None, "/dev/null": ""},
            (("/dev/nvidia0", "/dev/nvidiactl"), False),
        ),
        (
            {"/dev/nvidia0": "", "/dev/nvidiactl": "", "/dev/char/195:0": Link("../nvidia0")},
            (("/dev/nvidia0", "/dev/nvidiactl"), False),
        ),
        (
            {
                "/dev/nvidia0": "",
                "/dev/nvidiactl": "",
                "/dev/char/195:0": Link("../nvidia0"),
                "/dev/char/195:255": Link("../nvidiactl"),
            },
            (("/dev/nvidia0", "/dev/nvidiactl"), True),
        ),
        (
            {"/dev/nvidia0": "", "/dev/char/195:0": Link("195:0")},  # a loop
            (("/dev/nvidia0",), False),
        ),
    ],
)
def test_gpus_are_their_nodes_and_links(
    tmp_path: Path, files: dict[str, str | bytes | Link | None], expected: tuple[tuple[str, ...], bool | None]
) -> None:
    assert gather_gpus(Look(lay(tmp_path, files))) == expected


RUNC = "Package: runc\nStatus: install ok installed\nDescription: x\n more\nVersion: 1.1.5+ds1-1+b1\n\n"
CRUN = "Package: crun\nStatus: install ok installed\nVersion: 1:1.8.1-1\n\n"


@pytest.mark.parametrize(
    ("kind", "handler", "oci"),
    [
        ("docker", None, "runc 1.1.5+ds1-1+b1"),
        (
            "containerd",
            Handler(name="runc", runtime_type="io.containerd.runc.v2", is_default=True),
            "runc 1.1.5+ds1-1+b1",
        ),
        ("crio", Handler(name="crun", runtime_type="oci", is_default=True), "crun 1.8.1-1"),
        (
            "containerd",
            Handler(name="x", runtime_type="", binary_name="/usr/bin/crun", is_default=True),
            "crun 1.8.1-1",
        ),
        ("containerd", Handler(name="nvidia", runtime_type="", binary_name="/x/nvidia", is_default=True), ""),
        ("unknown", None, ""),
    ],
)
def test_an_image_tells_the_oci_runtime_by_its_package(
    tmp_path: Path, kind: str, handler: Handler | None, oci: str
) -> None:
    look = Look(lay(tmp_path, {"/var/lib/dpkg/status": RUNC + CRUN}))
    runtime = Runtime(kind=kind, handlers=(handler,) if handler else ())
    assert gather_oci(look, runtime).oci == oci


@pytest.mark.parametrize(
    ("binary", "version"), [("", "20240807.0"), ("/opt/runsc", "20240807.0"), ("/opt/run", "")]
)
def test_a_gvisor_handler_has_the_version_of_its_runsc(tmp_path: Path, binary: str, version: str) -> None:
    status = "Package: runsc\nStatus: install ok installed\nVersion: 20240807.0\n"
    gvisor = Handler(name="x", runtime_type="io.containerd.runsc.v1", binary_name=binary)
    kata = Handler(name="kata", runtime_type="io.containerd.kata.v2")
    look = Look(lay(tmp_path, {"/var/lib/dpkg/status": status}))
    found = gather_oci(look, Runtime(kind="containerd", handlers=(gvisor, kata)))
    assert (version, "") == tuple(each.version for each in found.handlers)


@pytest.mark.parametrize(
    ("text", "found", "unknown"),
    [
        (
            '{"policyName":"static","defaultCpuSet":"0-3"}',
            (("/var/lib/kubelet/cpu_manager_state", "static"),),
            [],
        ),
        ("", (), []),
        (None, (), []),
        ("{}", (), ["kubelet.checkpoints"]),
        ("[" * 100_000, (), ["kubelet.checkpoints"]),
        ('{"policyName": 7}', (), ["kubelet.checkpoints"]),
        ('{"policyName": "static\\u001b[2J"}', (), ["kubelet.checkpoints"]),
    ],
)
def test_a_checkpoint_tells_its_policy(
    tmp_path: Path, text: str | None, found: tuple[tuple[str, str], ...], unknown: list[str]
) -> None:
    look = Look(lay(tmp_path, {} if text is None else {"/var/lib/kubelet/cpu_manager_state": text}))
    assert gather_checkpoints(look, None) == found
    assert [each.subject for each in look.unknowns] == unknown


def test_the_kubelets_settings_and_checkpoints_are_where_its_flags_say(tmp_path: Path) -> None:
    kubelet = gather_kubelet(
        Look(
            lay(
                tmp_path,
                {
                    "/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet --config=/k.yaml "
                    "--root-dir=/data/kubelet/ --cpu-cfs-quota-period=50ms\n",
                    "/k.yaml": "memoryManagerPolicy: Static\ncpuCFSQuotaPeriod: 10ms\n",
                    "/data/kubelet/memory_manager_state": '{"policyName": "None"}',
                    f"/data/kubelet/pods/{UID}/volumes": None,
                    f"/data/kubelet/pods/{STATIC_UID}": None,
                    "/data/kubelet/pods/lost+found": None,
                    "/var/lib/kubelet/cpu_manager_state": '{"policyName": "static"}',
                },
            )
        ),
        None,
    ).kubelet
    assert (kubelet.memory_manager_policy, kubelet.cpu_quota_period) == ("Static", "50ms")
    assert kubelet.checkpoints == (("/data/kubelet/memory_manager_state", "None"),)
    assert kubelet.pod_directories == (UID, STATIC_UID)


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        (
            "9:cpu,cpuacct:/\n4:memory:/system.slice/kubelet.service\n1:name=systemd:/system.slice/kubelet.service\n",
            (("cpu", "/"), ("memory", "/system.slice/kubelet.service")),
        ),
        ("0::/system.slice/kubelet.service\n", ()),
        ("junk\n1\n", ()),
        ("", ()),
    ],
)
def test_a_process_has_a_place_in_each_v1_hierarchy(
    tmp_path: Path, lines: str, places: tuple[tuple[str, str], ...]
) -> None:
    look = Look(lay(tmp_path, {"/proc/7/cgroup": lines}))
    assert (places_of(look, 7), places_of(look, 0), places_of(look, 8)) == (places, (), ())


def test_unit_files_of_slices_count_once_and_transient_ones_only_without_their_unit(tmp_path: Path) -> None:
    reader = lay(
        tmp_path,
        {
            "/usr/lib/systemd/system/kubepods.slice": "",
            "/lib": Link("usr/lib"),
            "/etc/systemd/system/kubepods.slice.d/x.conf": "",
            "/etc/systemd/system/my-kubepods-x.slice": "",
            "/etc/systemd/system/notkubepods.slice": "",
            "/run/systemd/transient/kubepods-burstable.slice": "",
            "/run/systemd/transient/kubepods-besteffort.slice": "",
        },
    )
    assert slice_files(reader, ["kubepods-burstable.slice"]) == (
        "/run/systemd/transient/kubepods-besteffort.slice",
        "/usr/lib/systemd/system/kubepods.slice",
        "/etc/systemd/system/my-kubepods-x.slice",
    )


def test_a_drop_in_counts_once_where_lib_is_usr_lib(tmp_path: Path) -> None:
    reader = lay(tmp_path, {"/usr/lib/systemd/system/kubepods.slice.d/x.conf": "", "/lib": Link("usr/lib")})
    assert slice_drop_ins(reader) == ("/usr/lib/systemd/system/kubepods.slice.d/x.conf",)


@pytest.mark.parametrize(
    ("hierarchies", "enabled"),
    [((UNIFIED,), ("cpu", "memory")), ((CPU, UNIFIED), None), ((CPU,), None), ((), None)],
)
def test_only_cgroup_v2_alone_gives_controllers_to_children(
    tmp_path: Path, hierarchies: tuple[Hierarchy, ...], enabled: tuple[str, ...] | None
) -> None:
    reader = lay(tmp_path, {"/sys/fs/cgroup/cgroup.subtree_control": "memory cpu\n"})
    assert enabled_controllers(reader, hierarchies) == enabled


def test_an_unreadable_top_gives_nothing_known(tmp_path: Path) -> None:
    assert enabled_controllers(lay(tmp_path, {}), (UNIFIED,)) is None


def test_a_reserved_cgroup_is_looked_for_in_every_hierarchy_that_the_kubelet_looks_into(
    tmp_path: Path,
) -> None:
    kubelet = Kubelet(
        present=True,
        reserved_cgroups=(
            ("kubeReservedCgroup", "/kube"),
            ("systemReservedCgroup", "system.slice"),
            ("runtimeCgroups", "/runtime"),
        ),
        enforce_node_allocatable=("pods", "kube-reserved", "system-reserved-compressible"),
    )
    look = Look(
        lay(
            tmp_path,
            {
                "/sys/fs/cgroup/cpu/kube.slice": None,
                "/sys/fs/cgroup/cpu/system.slice": None,
                "/sys/fs/cgroup/cpuset": None,
                "/sys/fs/cgroup/blkio": None,
                "/sys/fs/cgroup/systemd/system.slice": None,
            },
        )
    )
    paths = insisted_paths(kubelet)
    assert paths == {"kubeReservedCgroup": "/kube.slice", "systemReservedCgroup": "/system.slice"}
    # memory is not mounted here, and blkio is none that the kubelet asks for
    assert absent(look, (BLKIO, CPU, CPUSET, LOST, NAMED), paths.values()) == (
        "/sys/fs/cgroup/cpuset/kube.slice",
        "/sys/fs/cgroup/systemd/kube.slice",
        "/sys/fs/cgroup/cpuset/system.slice",
    )


def test_on_cgroup_v2_there_is_one_place_to_look(tmp_path: Path) -> None:
    look = Look(
        lay(
            tmp_path,
            {
                "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n",
                "/sys/fs/cgroup/whole.slice/cgroup.controllers": "cpuset cpu memory hugetlb pids\n",
                "/sys/fs/cgroup/systemds.slice/cgroup.controllers": "cpu io memory pids\n",
                "/sys/fs/cgroup/empty.slice": None,
            },
        )
    )
    places = ("/whole.slice", "/systemds.slice", "/empty.slice", "/none.slice")
    assert absent(look, (UNIFIED,), places) == tuple(f"/sys/fs/cgroup{each}" for each in places[1:])


def test_on_cgroup_v2_a_controller_that_the_top_has_not_is_not_asked_for(tmp_path: Path) -> None:
    texts = {
        "/sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        "/sys/fs/cgroup/a.slice/cgroup.controllers": "cpu memory\n",
    }
    assert absent(Look(lay(tmp_path, texts)), (UNIFIED,), ("/a.slice",)) == ()


def test_what_the_kubelets_unit_makes_before_each_start_is_there(tmp_path: Path) -> None:
    path = "/etc/systemd/system/kubelet.service.d/20-cgmigrate-slices.conf"
    text = "[Unit]\nWants=a.slice\n[Service]\nExecStartPre=/bin/mkdir -p /sys/fs/cgroup/cpuset/a.slice /x\n"
    hierarchies = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuset", "/sys/fs/cgroup/systemd")
    look = Look(lay(tmp_path, {path: text, **dict.fromkeys(hierarchies)}))
    kubelet = Unit(name="kubelet.service", drop_ins=(path,))
    assert absent(look, (CPU, CPUSET, NAMED), ("/a.slice",), kubelet) == ("/sys/fs/cgroup/cpu/a.slice",)


@pytest.mark.parametrize(
    ("value", "driver", "place"),
    [
        ("/kube-reserved", "cgroupfs", "/kube_reserved.slice"),
        ("/kube-reserved", "systemd", "/kube.slice/kube-reserved.slice"),
        ("/kube.slice/kube-reserved.slice", "systemd", "/kube.slice/kube-reserved.slice"),
        ("/systemd/system.slice", "systemd", "/system.slice"),
        ("/systemd/system.slice", "cgroupfs", None),
        ("/system.slice/kube.slice", "cgroupfs", None),
    ],
)
def test_a_reserved_cgroup_is_where_the_kubelet_looks_for_it(
    value: str, driver: str, place: str | None
) -> None:
    kubelet = Kubelet(
        present=True,
        driver=Driver(value=driver),
        reserved_cgroups=(("kubeReservedCgroup", value),),
        enforce_node_allocatable=("kube-reserved",),
    )
    assert insisted_paths(kubelet).get("kubeReservedCgroup") == place


@pytest.mark.parametrize(
    ("root", "per_qos", "place"),
    [
        ("/pods", True, "/pods.slice"),
        ("/a-b/c", True, "/a_b.slice/a_b-c.slice"),
        ("/pods", False, None),
        ("/x.slice/y", True, None),
        ("/", True, None),
    ],
)
def test_a_root_is_where_the_kubelet_looks_for_it(root: str, per_qos: bool, place: str | None) -> None:
    kubelet = Kubelet(present=True, cgroup_root=root, cgroups_per_qos=per_qos)
    assert insisted_paths(kubelet).get("cgroupRoot") == place
