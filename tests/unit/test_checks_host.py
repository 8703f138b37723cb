# SPDX-License-Identifier: Apache-2.0
"""What a host can have around the driver: systemd, its bus, runc, devices, and what a restart of the kubelet meets.

One row for every way to meet, not to meet, and not to know each finding.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.checks import run_checks
from migrator.checks.restart import microseconds
from migrator.checks.runc import runc_release
from migrator.facts.model import Container, Driver, Facts, Hierarchy
from migrator.findings import Severity
from tests.unit.facts_base import (
    DEFAULT,
    ID,
    KUBELET_CONFIG,
    SANDBOX_ID,
    UID,
    but,
    driver,
    pod,
    source,
    switched,
    unknown,
)

B, W, I = Severity.BLOCKER, Severity.WARNING, Severity.INFO  # noqa: E741 (columns of the table)

Found = set[tuple[str, Severity, str]]

V1 = {"cgroup_mode": "hybrid"}
ON_V1 = ("cgroup-v1-maintenance", I, "F61")
CPU_STATE = "/var/lib/kubelet/cpu_manager_state"
MEMORY_STATE = "/var/lib/kubelet/memory_manager_state"
SLICE = f"kubepods-besteffort-pod{UID.replace('-', '_')}.slice"
SCOPE = f"cri-containerd-{ID}.scope"
GPU = {"gpus": ("/dev/nvidia0", "/dev/nvidiactl")}
SYSTEM_RESERVED = {
    "reserved_cgroups": (("systemReservedCgroup", "/system.slice"),),
    "enforce_node_allocatable": ("pods", "system-reserved"),
}


def koordlet(**fields: object) -> tuple[object, ...]:
    """A pod of Koordinator's agent."""
    here = pod("koordlet-x7")
    app, pause = here.containers
    return (replace(here, daemon_set=True, containers=(replace(app, name="koordlet", **fields), pause)),)  # type: ignore[arg-type]


def told(configured: str, decided: str) -> Driver:
    """A driver that the runtime decides over what the file says."""
    return Driver(
        value=decided,
        chain=(DEFAULT, source(configured, KUBELET_CONFIG, 3), source(decided, "/run/x.sock", 0, "runtime")),
    )


TABLE: list[tuple[str, Facts, Found]] = [
    # kubeadm's patches
    *(
        (
            f"a patch that states {driver}",
            but(
                kubelet={
                    "patches": (
                        ("/etc/kubernetes/patches/kubeletconfiguration.yaml:1", "cgroupDriver", driver),
                    )
                }
            ),
            {("kubeadm-patches", severity, "F18")},
        )
        for driver, severity in (("cgroupfs", W), ("systemd", I))
    ),
    # systemd and its bus
    *(
        (
            f"{used} connections of {limit}",
            but(manager={"bus_connections": used, "bus_limit": limit}),
            found,
        )
        for used, limit, found in (
            (31, 256, Found()),
            (128, 256, Found()),
            (129, 256, {("bus-connections", W, "F48")}),
            (129, 1024, Found()),
            (129, None, Found()),
            (None, 256, Found()),
        )
    ),
    *(
        (f"the bus and kubelet {release}", but(kubelet={"version": release}), found)
        for release, found in (
            ("1.20.15", {("bus-restart", I, "F49")}),
            ("1.21.0", Found()),
            (None, Found()),
        )
    ),
    *(
        (f"systemd with {manager}", but(manager=manager), found)
        for manager, found in (
            ({"mounts": 5000}, {("systemd-busy", W, "F50")}),
            ({"units": 10_000}, {("systemd-busy", W, "F50")}),
            ({"cpu_percent": 10}, {("systemd-busy", W, "F50")}),
            ({"mounts": 4999, "units": 9999, "cpu_percent": 9, "run_scopes": 100}, Found()),
            ({"run_scopes": 101}, {("leaked-run-scopes", W, "F51")}),
            ({"mounts": None, "units": None, "cpu_percent": None, "run_scopes": None}, Found()),
        )
    ),
    ("limits on system.slice", but(kubelet=SYSTEM_RESERVED), {("reserved-limits-reset", W, "F42")}),
    (
        "limits on system.slice that are only accounted",
        but(kubelet=SYSTEM_RESERVED | {"enforce_node_allocatable": ("pods",)}),
        set(),
    ),
    # runc
    *(
        (f"with {oci}", but(runtime={"oci": oci}), found)
        for oci, found in (
            ("runc 1.0.0-rc94", {("runc-version", W, "F48"), ("runc-version", I, "F24")}),
            ("runc 1.0.0~rc95+ds1", {("runc-version", I, "F24")}),
            ("runc 1.1.3", {("runc-version", W, "F55"), ("runc-version", I, "F24")}),
            ("runc 1.1.5+ds1", {("runc-version", I, "F24")}),
            ("runc 1.1.6", Found()),
            ("runc 1.3.2", Found()),
            ("crun 1.8.1", Found()),
            ("", Found()),
        )
    ),
    (
        "an old runc and pinned CPUs",
        but(node={"cpus": 16}, kubelet={"cpu_manager_policy": "static"}, runtime={"oci": "runc 1.1.5"}),
        {("runc-version", W, "F58"), ("runc-version", I, "F24")},
    ),
    (
        "an old runc and eight CPUs",
        but(node={"cpus": 8}, kubelet={"cpu_manager_policy": "static"}, runtime={"oci": "runc 1.1.5"}),
        {("runc-version", I, "F24")},
    ),
    # devices
    ("GPUs without links", but(node=GPU | {"gpu_links": False}), {("gpu-node", W, "F55")}),
    ("GPUs, links unknown", but(node=GPU), {("gpu-node", W, "F55")}),
    *(
        (
            f"GPUs with links, and {runc or 'an unknown runc'}",
            but(node=GPU | {"gpu_links": True}, runtime={"oci": runc}),
            {("gpu-node", severity, "F55")},
        )
        for runc, severity in (("runc 1.1.7", I), ("runc 1.3.0-rc.1", I), ("", W), ("crun 1.8.1-1", W))
    ),
    (
        "GPUs with links and an old runc",
        but(node=GPU | {"gpu_links": True}, runtime={"oci": "runc 1.1.6"}),
        {("gpu-node", W, "F55")},
    ),
    # agents
    ("koordlet", but(kubelet={"kubeconfig": ""}, pods=koordlet()), {("agents-read-driver", I, "F66")}),
    ("koordlet, dead", but(kubelet={"kubeconfig": ""}, pods=koordlet(state="exited", pids=())), set()),
    ("koordlet, already moved", but(switched(), kubelet={"kubeconfig": ""}, pods=koordlet()), set()),
    (
        "koordlet reads a file that does not decide",
        but(
            switched(),
            kubelet={
                "kubeconfig": "",
                "decides": "runtime",
                "driver": told("cgroupfs", "systemd"),
                "driver_running": told("cgroupfs", "systemd"),
            },
            pods=koordlet(),
        ),
        {("agents-read-driver", W, "F66"), ("runtime-decides", I, "F09")},
    ),
    # what a restart of the kubelet meets
    *(
        (
            f"checkpoint {path.rpartition('/')[2]} of {kept}, configured {policy}",
            but(kubelet={"checkpoints": ((path, kept),), name: policy}),
            found,
        )
        for path, kept, name, policy, found in (
            (CPU_STATE, "none", "cpu_manager_policy", "none", Found()),
            (CPU_STATE, "none", "cpu_manager_policy", "static", {("checkpoint-policy", B, "F60")}),
            (CPU_STATE, "static", "cpu_manager_policy", "none", {("checkpoint-policy", B, "F60")}),
            (MEMORY_STATE, "None", "memory_manager_policy", "none", Found()),
            (MEMORY_STATE, "None", "memory_manager_policy", "Static", {("checkpoint-policy", B, "F60")}),
        )
    ),
    ("static CPUs and no checkpoint", but(kubelet={"cpu_manager_policy": "static"}), set()),
    *(
        (
            f"period {period}, systemd {systemd}, {mode}",
            but(node={"cgroup_mode": mode, "systemd_version": systemd}, kubelet={"cpu_quota_period": period}),
            found,
        )
        for period, systemd, mode, found in (
            ("10ms", 252, "unified", Found()),
            ("10ms", 252, "hybrid", {("cpu-quota-period", W, "F56"), ON_V1}),
            ("10ms", 241, "hybrid", {("cpu-quota-period", W, "F56"), ON_V1}),
            ("10ms", 241, "unified", {("cpu-quota-period", W, "F56"), ("systemd-too-old", W, "F47")}),
            ("10ms", None, "unified", Found()),
            ("100ms", 252, "hybrid", {ON_V1}),
            ("0.1s", 252, "hybrid", {ON_V1}),
            ("0s", 252, "hybrid", {ON_V1}),
            ("", 252, "hybrid", {ON_V1}),
        )
    ),
    (
        "CPU accounting off",
        but(node=V1, kubelet={"places": (("cpu", "/"), ("memory", "/system.slice/kubelet.service"))}),
        {("accounting-off", I, "F45"), ON_V1},
    ),
    (
        "CPU accounting off, and the kubelet's cgroup given",
        but(
            node=V1,
            kubelet={
                "places": (("cpu", "/"), ("memory", "/system.slice/kubelet.service")),
                "reserved_cgroups": (("kubeletCgroups", "/system.slice/x.slice"),),
            },
        ),
        {ON_V1},
    ),
    (
        "both accounted",
        but(node=V1, kubelet={"places": (("cpu", "/system.slice"), ("memory", "/system.slice"))}),
        {ON_V1},
    ),
    (
        "no pids controller",
        but(node={"controllers": ("cpu", "cpuset", "memory")}),
        {("controllers-missing", W, "F21")},
    ),
    ("controllers unknown", but(cgroups={"enabled": ()}), set()),
    (
        "cpu not given to children",
        but(
            node={"controllers": ("cpu", "cpuset", "hugetlb", "memory", "pids")},
            cgroups={"enabled": ("cpuset", "memory", "pids")},
        ),
        {("controllers-missing", W, "F53")},
    ),
    (
        "the same without a kubelet that runs",
        but(
            node={"controllers": ("cpu", "cpuset", "memory", "pids")},
            kubelet={"argv": ()},
            cgroups={"enabled": ("cpuset", "memory", "pids")},
        ),
        set(),
    ),
    (
        "all given to children",
        but(
            node={"controllers": ("cpu", "cpuset", "memory", "pids")},
            cgroups={"enabled": ("cpu", "cpuset", "memory", "pids")},
        ),
        set(),
    ),
    (
        "a reserved slice in some hierarchies only",
        but(
            node=V1 | {"hierarchies": (Hierarchy(mount="/sys/fs/cgroup/cpuset", version=1),)},
            kubelet=SYSTEM_RESERVED,
            cgroups={"reserved_absent": ("/sys/fs/cgroup/cpuset/system.slice",)},
        ),
        {("reserved-cgroup-missing", B, "F41"), ("reserved-limits-reset", W, "F42"), ON_V1},
    ),
    (
        "a reserved slice that is nowhere",
        but(kubelet=SYSTEM_RESERVED, cgroups={"reserved_absent": ("/sys/fs/cgroup/system.slice",)}),
        {("reserved-cgroup-missing", B, "F38"), ("reserved-limits-reset", W, "F42")},
    ),
    (
        "a kubelet on systemd whose reserved slice, by the last component, is nowhere",
        but(
            kubelet=SYSTEM_RESERVED
            | {
                "reserved_cgroups": (("systemReservedCgroup", "/a-b"),),
                "driver": driver("systemd"),
                "driver_running": driver("systemd"),
            },
            cgroups={"reserved_absent": ("/sys/fs/cgroup/a.slice/a-b.slice",)},
        ),
        {("reserved-cgroup-missing", B, "F38"), ("drivers-differ", B, "F06")},
    ),
    (
        "a switched kubelet whose root is nowhere",
        but(
            switched(),
            kubelet={"cgroup_root": "/pods"},
            cgroups={"reserved_absent": ("/sys/fs/cgroup/pods.slice",)},
        ),
        {("reserved-cgroup-missing", B, "F38")},
    ),
    (
        "a reserved cgroup that is to be translated is another finding",
        but(
            kubelet=SYSTEM_RESERVED | {"reserved_cgroups": (("systemReservedCgroup", "/sys"),)},
            cgroups={"reserved_absent": ("/sys/fs/cgroup/sys.slice",)},
        ),
        {("reserved-cgroups", B, "F38")},
    ),
    # what is left over
    *(
        (f"unit file {path}", but(cgroups={"slice_files": (path,)}), {("slice-unit-files", W, "F23")})
        for path in ("/etc/systemd/system/kubepods.slice", "/run/systemd/transient/kubepods-burstable.slice")
    ),
    (
        "slices and scopes of pods that are",
        but(
            switched(),
            kubelet={"kubeconfig": ""},
            pods=(replace(pod(), driver="systemd"),),
            cgroups={
                "kubepods_units": ("kubepods.slice", "kubepods-besteffort.slice", SLICE),
                "container_scopes": (SCOPE, f"cri-containerd-{SANDBOX_ID}.scope", "docker-buildkit.scope"),
            },
        ),
        set(),
    ),
    (
        "slices of a pod that is no more",
        but(switched(), cgroups={"kubepods_units": ("kubepods.slice", SLICE)}),
        {("leaked-pod-units", I, "F25")},
    ),
    (
        "the slice of a pod that waits for a volume",
        but(
            switched(),
            kubelet={"pod_directories": (UID,)},
            cgroups={"kubepods_units": ("kubepods.slice", SLICE)},
        ),
        set(),
    ),
    (
        "the slice of a pod that a kubelet knew which no longer runs",
        but(
            switched(),
            kubelet={"pod_directories": (UID,), "argv": ()},
            cgroups={"kubepods_units": ("kubepods.slice", SLICE)},
        ),
        {("leaked-pod-units", I, "F25")},
    ),
    (
        "scopes of a container that is no more",
        but(switched(), cgroups={"container_scopes": (SCOPE,)}),
        {("leaked-pod-units", I, "F25")},
    ),
    (
        "the scope of another runtime's container",
        but(switched(), cgroups={"container_scopes": (f"docker-{ID}.scope",)}),
        set(),
    ),
    (
        "the scope of a container outside Kubernetes",
        but(
            switched(),
            cgroups={"container_scopes": (SCOPE,)},
            other_containers=(Container(id=ID, name="registry"),),
        ),
        set(),
    ),
    *(
        (f"slices, {why}", but(switched(), cgroups={"kubepods_units": (SLICE,)}, **rest), found)
        for why, rest, found in (
            ("of an image", {"node": {"live": False}}, Found()),
            ("the runtime not asked", {"runtime": {"version": None}}, Found()),
            (
                "its containers unknown",
                {"unknowns": (unknown("runtime.containers"),)},
                {("facts-unknown", W, "")},
            ),
        )
    ),
]


@pytest.mark.parametrize(("facts", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_facts_give_these_findings_and_no_others(facts: Facts, expected: Found) -> None:
    assert {(each.id, each.severity, each.reference) for each in run_checks(facts)} == expected


def test_every_leaked_unit_is_in_the_command_that_stops_it() -> None:
    facts = but(switched(), cgroups={"kubepods_units": (SLICE,), "container_scopes": (SCOPE,)})
    [finding] = run_checks(facts)
    assert finding.remediation == f"systemctl stop {SLICE} {SCOPE}"


def test_a_checkpoint_names_both_policies_and_the_file() -> None:
    facts = but(kubelet={"checkpoints": ((CPU_STATE, "none"),), "cpu_manager_policy": "static"})
    [finding] = run_checks(facts)
    assert finding.summary == (
        f"{CPU_STATE} is of policy `none`, and cpuManagerPolicy is `static`: the kubelet will not start again"
    )


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("100ms", 100_000.0),
        ("0.1s", 100_000.0),
        ("1s500ms", 1_500_000.0),
        ("250us", 250.0),
        ("", None),
        ("100", None),
        ("ms", None),
        ("10 ms", None),
    ],
)
def test_a_go_duration_is_read_in_microseconds(duration: str, expected: float | None) -> None:
    assert microseconds(duration) == expected


def test_a_candidate_is_older_than_its_release() -> None:
    order = ["runc 1.0.0-rc.2", "runc 1.0.0-rc93", "runc 1.0.0~rc94+ds1", "runc 1.0.0", "runc 1.1.5+ds1-1"]
    releases = [runc_release(each) for each in order]
    assert [each for each in releases if each is not None] == sorted(each for each in releases if each)
    assert len(set(releases)) == len(order)
    assert [runc_release(each) for each in ("crun 1.8", "runc", "runc x.y.z")] == [None, None, None]
