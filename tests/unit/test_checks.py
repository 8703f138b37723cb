# SPDX-License-Identifier: Apache-2.0
"""Facts to findings: one row for every way to meet every finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.checks import CHECKS, run_checks
from migrator.checks.distribution import WHERE_TO_CHANGE, WRITES_AGAIN
from migrator.checks.recommend import RULES, Verdict, recommend
from migrator.facts.model import Container, Driver, Facts, Handler, Pod, Reference, ReferringFile
from migrator.findings import Finding, Severity
from tests.unit.facts_base import (
    CONTAINERD_CONFIG,
    DAEMON_JSON,
    DEFAULT,
    DOCKER,
    FLAGS_ENV,
    ID,
    KUBELET_CONFIG,
    QUIET,
    RUNC,
    SANDBOX_ID,
    STATIC_UID,
    but,
    config,
    driver,
    pod,
    source,
    switched,
    tree,
    unit,
    unknown,
)
from tests.unit.test_checks_cluster import TABLE as CLUSTER_TABLE
from tests.unit.test_checks_host import TABLE as HOST_TABLE

B, W, I = Severity.BLOCKER, Severity.WARNING, Severity.INFO  # noqa: E741 (columns of the table)

NVIDIA = Handler(name="nvidia", runtime_type="io.containerd.runc.v2", binary_name="nvidia-container-runtime")
KATA = Handler(name="kata", runtime_type="io.containerd.kata.v2")
GVISOR = Handler(
    name="gvisor",
    runtime_type="io.containerd.runsc.v1",
    config_path="/etc/containerd/runsc.toml",
    path="/etc/containerd/runsc.toml",
    line=1,
    version="release-20240807.0",
)
FLAG = source("cgroupfs", FLAGS_ENV, 1, "env-file")
OTHER = Container(id=ID, name="registry", state="running", pids=(7,))
TRIGGERED = replace(unit("kubelet.service"), triggers=("/etc/x.conf:3: ConditionPathExists=|/etc/site",))
EDITED = replace(unit("kubelet.service"), need_daemon_reload=True)
STATIC = pod(uid=STATIC_UID, static=True)
NAMES_OLD = ReferringFile(
    file=config("/etc/cron.d/usage"),
    kind="cron",
    references=(Reference(line=3, old="/kubepods", new="/kubepods.slice"),),
)
V1: dict[str, object] = {"cgroup_mode": "hybrid"}
CRIO: dict[str, object] = {"kind": "crio", "config_file": "/etc/crio/crio.conf", "handlers": ()}

ANSIBLES = replace(config(KUBELET_CONFIG), managed_by="Ansible", managed_line=1)
PUPPETS = replace(config(CONTAINERD_CONFIG), managed_by="Puppet")


def stored(parent: str) -> tuple[object, ...]:
    """A dead pod whose container stored `parent`."""
    dead = pod(live=False)
    return (replace(dead, containers=(replace(dead.containers[0], cgroup_parent=parent),)),)


def idle(*, sandbox: str = "running", app: tuple[str, ...] = ("running",)) -> Pod:
    """A static pod whose sandbox, and whose container `app` in each of its lives, is in these states."""
    first, pause = STATIC.containers
    lives = tuple(
        replace(first, id=f"{life:064x}", state=state, pids=(41,) if state == "running" else ())
        for life, state in enumerate(app)
    )
    pause = replace(pause, state=sandbox, pids=(40,) if sandbox == "running" else ())
    return replace(STATIC, sandbox_state=sandbox, containers=(*lives, pause))


def flagged(flag: str, *files: str | None) -> Driver:
    """A kubelet's driver that a flag decides over what files say."""
    return Driver(
        value=flag,
        chain=(DEFAULT, *(source(each, KUBELET_CONFIG, 3) for each in files), replace(FLAG, value=flag)),
    )


TABLE: list[tuple[str, Facts, set[tuple[str, Severity, str]]]] = [
    ("a quiet node on containerd", QUIET, set()),
    ("a quiet node on docker", DOCKER, set()),
    ("a quiet node on systemd", switched(), set()),
    # the machine
    ("not root", but(node={"uid": 1000}), {("not-root", B, "")}),
    ("an image is read by anyone", but(node={"uid": 1000, "live": False}), set()),
    ("no systemd", but(node={"init_systemd": False}), {("no-systemd", B, "F57")}),
    ("systemd before slices", but(node={"systemd_version": 215}), {("systemd-too-old", B, "F47")}),
    *(
        (
            f"systemd {running} on cgroup {mode}",
            but(node={"systemd_version": running, "cgroup_mode": mode}),
            found,
        )
        for running, mode, found in (
            (227, "unified", {("systemd-too-old", B, "F47")}),
            (228, "unified", {("systemd-too-old", W, "F47")}),
            (243, "unified", {("systemd-too-old", W, "F47")}),
            (244, "unified", set[tuple[str, Severity, str]]()),
            (227, "hybrid", {("systemd-too-old", B, "F47"), ("cgroup-v1-maintenance", I, "F61")}),
            (228, "hybrid", {("cgroup-v1-maintenance", I, "F61")}),
        )
    ),
    ("systemd of unknown version", but(node={"systemd_version": None}), set()),
    ("Red Hat's 219", but(node={"systemd_version": 219}), {("systemd-too-old", W, "F47")}),
    ("systemd before cpuset", but(node={"systemd_version": 239}), {("systemd-too-old", W, "F47")}),
    (
        "the same on v1",
        but(node={"systemd_version": 239} | V1),
        {("cgroup-v1-maintenance", I, "F61")},
    ),
    *(
        (f"{name} owns the driver", but(node={"distribution": name}), {("managed-distribution", B, "F19")})
        for name in WHERE_TO_CHANGE
    ),
    *(
        (f"{name} writes again", but(node={"distribution": name}), {("managed-distribution", W, "F19")})
        for name in WRITES_AGAIN
    ),
    ("kubespray, already moved", but(switched(), node={"distribution": "kubespray"}), set()),
    (
        "kops, already moved",
        but(switched(), node={"distribution": "kops"}),
        {("managed-distribution", I, "F19")},
    ),
    (
        "k3s, whose kubelet is no service",
        but(node={"distribution": "k3s"}, kubelet={"present": False}),
        {("managed-distribution", B, "F19")},
    ),
    ("Ansible's file", but(files=(ANSIBLES,)), {("managed-files", W, "F19")}),
    ("Ansible's file, already moved", but(switched(), files=(ANSIBLES,)), set()),
    ("Ansible's file that decides nothing", but(files=(replace(ANSIBLES, path="/etc/hosts"),)), set()),
    ("Puppet's file and no agent", but(files=(PUPPETS,)), {("managed-files", W, "F19")}),
    (
        "Puppet's file and Chef's agent",
        but(files=(PUPPETS,), node={"agents": ("chef-client.timer",)}),
        {("managed-files", W, "F19")},
    ),
    (
        "Puppet's file and its agent",
        but(files=(PUPPETS,), node={"agents": ("puppet.service",)}),
        {("managed-files", B, "F19")},
    ),
    ("Puppet's agent and no file of it", but(node={"agents": ("puppet.service",)}), set()),
    (
        "two tools",
        but(files=(PUPPETS, ANSIBLES), node={"agents": ("puppet.service",)}),
        {("managed-files", B, "F19"), ("managed-files", W, "F19")},
    ),
    ("cgroup v1", but(node=V1), {("cgroup-v1-maintenance", I, "F61")}),
    (
        "cgroup v1 and a kubelet that refuses it",
        but(node=V1, kubelet={"version": "1.35.0", "decides": "runtime"}),
        {("cgroup-v1-maintenance", B, "F61"), ("runtime-decides", I, "F09")},
    ),
    (
        "cgroup v1 and the last kubelet that takes it",
        but(node=V1, kubelet={"version": "1.34.9", "decides": "runtime"}),
        {("cgroup-v1-maintenance", I, "F61"), ("runtime-decides", I, "F09")},
    ),
    (
        "cgroup v1 and a kubelet that was told not to",
        but(node=V1, kubelet={"version": "1.35.0", "decides": "runtime", "fail_cgroup_v1": False}),
        {("cgroup-v1-maintenance", I, "F61"), ("runtime-decides", I, "F09")},
    ),
    ("swap", but(node={"swap": True}), {("swap", W, "F62")}),
    ("swap, allowed", but(node={"swap": True}, kubelet={"fail_swap_on": False}), set()),
    ("half of all cgroups", but(cgroups={"descendants": 32_000, "dying": 767}), set()),
    ("one more", but(cgroups={"descendants": 32_000, "dying": 768}), {("leaked-cgroups", W, "F28")}),
    ("few cgroups", but(cgroups={"descendants": 30_000, "dying": 2_000}), set()),
    (
        "many cgroups",
        but(cgroups={"descendants": 800, "dying": 40_000}),
        {("leaked-cgroups", W, "F28")},
    ),
    (
        "a second mount",
        but(node={"extra_cgroup_mounts": ("/run/x",)}),
        {("extra-cgroup-mounts", I, "F21")},
    ),
    # the services
    ("no kubelet", but(kubelet={"present": False}), {("kubelet-missing", B, "")}),
    (
        "an unknown runtime",
        but(runtime={"kind": "unknown", "driver": Driver(value=None), "driver_reported": Driver(value=None)}),
        {("runtime-unknown", B, "")},
    ),
    (
        "containerd down",
        but(runtime={"units": (unit("containerd.service", "failed"),)}),
        {("runtime-daemon-down", B, "F08")},
    ),
    (
        "only the socket of docker up",
        but(DOCKER, runtime={"units": (unit("docker.socket"), unit("docker.service", "inactive"))}),
        {("runtime-daemon-down", B, "F08")},
    ),
    (
        "all down in an image",
        but(
            node={"live": False},
            kubelet={"unit": unit("kubelet.service", "")},
            runtime={"units": (unit("containerd.service", ""),)},
        ),
        set(),
    ),
    (
        "kubelet crashing",
        but(kubelet={"unit": unit("kubelet.service", "activating", "auto-restart")}),
        {("kubelet-down", B, "")},
    ),
    *(
        (
            f"kubelet {state}",
            but(kubelet={"unit": unit("kubelet.service", state, sub)}),
            {("kubelet-down", B, "")},
        )
        for state, sub in (("inactive", "dead"), ("failed", "failed"))
    ),
    (
        "a kubelet stopped in an image",
        but(node={"live": False}, kubelet={"unit": unit("kubelet.service", "inactive", "dead")}),
        set(),
    ),
    ("own triggers", but(kubelet={"unit": TRIGGERED}), {("guard-bypassed", B, "")}),
    ("the socket's own triggers", but(DOCKER, runtime={"units": (TRIGGERED,)}), {("guard-bypassed", B, "")}),
    ("kubelet's unit edited", but(kubelet={"unit": EDITED}), {("unit-reload-pending", B, "")}),
    (
        "only the socket of docker edited",
        but(DOCKER, runtime={"units": (replace(EDITED, name="docker.socket"), unit("docker.service"))}),
        {("unit-reload-pending", B, "")},
    ),
    (
        "units edited in an image",
        but(node={"live": False}, kubelet={"unit": EDITED}, runtime={"units": (EDITED,)}),
        set(),
    ),
    (
        "broken daemon.json",
        but(DOCKER, unknowns=(unknown(DAEMON_JSON, "not JSON", 3),)),
        {("config-unreadable", B, "F16")},
    ),
    (
        "an unreadable file of the kernel",
        but(unknowns=(unknown("/proc/1/cmdline"),)),
        {("facts-unknown", W, "")},
    ),
    (
        "unknown facts of an image",
        but(node={"live": False}, unknowns=(unknown("node.swap"), unknown("node.kernel"))),
        {("facts-unknown", I, "")},
    ),
    # the drivers
    (
        "kubelet behind containerd",
        but(runtime={"driver": driver("systemd"), "driver_reported": driver("systemd")}),
        {("drivers-differ", B, "F01")},
    ),
    (
        "kubelet ahead of containerd",
        but(kubelet={"driver": driver("systemd"), "driver_running": driver("systemd")}),
        {("drivers-differ", B, "F06")},
    ),
    (
        "kubelet ahead of docker",
        but(DOCKER, kubelet={"driver": driver("systemd"), "driver_running": driver("systemd")}),
        {("drivers-differ", B, "F03")},
    ),
    (
        "kubelet ahead of CRI-O",
        but(kubelet={"driver": driver("systemd"), "driver_running": driver("systemd")}, runtime=CRIO),
        {("drivers-differ", B, "F04")},
    ),
    (
        "another value in the file when the runtime decides",
        but(kubelet={"driver": driver("systemd"), "driver_running": driver("systemd"), "decides": "runtime"}),
        {("runtime-decides", I, "F09")},
    ),
    (
        "kubelet's driver unknown",
        but(kubelet={"driver": Driver(value=None), "driver_running": Driver(value=None)}),
        {("driver-unknown", B, "")},
    ),
    (
        "runtime's driver unknown",
        but(runtime={"driver": Driver(value=None), "driver_reported": Driver(value=None)}),
        {("driver-unknown", B, "")},
    ),
    (
        "a driver in literal quotes",
        but(kubelet={"driver": driver("'systemd'"), "driver_running": Driver(value=None)}),
        {("driver-unknown", B, "F03")},
    ),
    (
        "kubelet not restarted",
        but(switched(), kubelet={"driver_running": driver("cgroupfs")}),
        {("running-driver-differs", B, "F17")},
    ),
    (
        "runtime not restarted",
        but(switched(), runtime={"driver_reported": driver("cgroupfs")}),
        {("running-driver-differs", B, "")},
    ),
    (
        "a new kubelet on an old runtime",
        but(kubelet={"version": "1.34.1"}),
        {("kubelet-no-runtime-config", W, "F10")},
    ),
    ("the kubelet before it", but(kubelet={"version": "1.33.9"}), set()),
    ("a kubelet of unknown version", but(kubelet={"version": None}), set()),
    (
        "a flag over another value",
        but(kubelet={"driver": flagged("cgroupfs", "systemd")}),
        {("flag-overrides-file", W, "F17")},
    ),
    (
        "a flag over the same value",
        but(kubelet={"driver": flagged("cgroupfs", "cgroupfs")}),
        {("flag-overrides-file", I, "F17")},
    ),
    (
        "a flag over a silent file",
        but(kubelet={"driver": flagged("cgroupfs", None)}),
        {("flag-overrides-file", I, "F17")},
    ),
    ("a flag and no file", but(kubelet={"driver": flagged("cgroupfs")}), set()),
    # their surroundings
    (
        "dockerd's driver by flag and file",
        but(
            DOCKER,
            runtime={
                "driver": Driver(
                    value="cgroupfs",
                    chain=(
                        DEFAULT,
                        source("cgroupfs", DAEMON_JSON, 2),
                        source("cgroupfs", "/etc/systemd/system/docker.service.d/x.conf", 3, "unit-drop-in"),
                    ),
                )
            },
        ),
        {("dockerd-flag-conflict", B, "F15")},
    ),
    (
        "dockerd's driver by flag only",
        but(
            DOCKER, runtime={"driver": Driver(value="cgroupfs", chain=(DEFAULT, replace(FLAG, kind="unit")))}
        ),
        set(),
    ),
    (
        "a parent that is no slice",
        but(DOCKER, runtime={"cgroup_parent": "/docker"}),
        {("cgroup-parent", B, "F02")},
    ),
    (
        "a parent that is only a suffix",
        but(DOCKER, runtime={"cgroup_parent": ".slice"}),
        {("cgroup-parent", B, "F02")},
    ),
    ("a parent that is a slice", but(DOCKER, runtime={"cgroup_parent": "docker.slice"}), set()),
    (
        "containerd's version missing",
        but(runtime={"config_version": 1}),
        {("containerd-config-version-missing", W, "F13")},
    ),
    ("containerd without a file", but(runtime={"config_version": 0}, files=()), set()),
    *(
        (f"{name} disabled", but(runtime={"disabled_plugins": (name,)}), {("cri-disabled", B, "F12")})
        for name in ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
    ),
    ("another plugin disabled", but(runtime={"disabled_plugins": ("aufs",)}), set()),
    (
        "the old systemd_cgroup",
        but(runtime={"legacy_systemd_cgroup": True}),
        {("legacy-systemd-cgroup", B, "F12")},
    ),
    ("a second handler, alike", but(runtime={"handlers": (RUNC, NVIDIA)}), set()),
    (
        "a second handler, ahead",
        but(runtime={"handlers": (RUNC, replace(NVIDIA, systemd_cgroup=True))}),
        {("handlers-differ", W, "F11")},
    ),
    (
        "a second handler, left behind",
        but(switched(), runtime={"handlers": (replace(RUNC, systemd_cgroup=True), NVIDIA)}),
        {("handler-left", W, "F11")},
    ),
    (
        "a handler without a type is runc",
        but(runtime={"handlers": (RUNC, Handler(name="x", runtime_type="", systemd_cgroup=True))}),
        {("handlers-differ", W, "F11")},
    ),
    ("Kata", but(runtime={"handlers": (RUNC, KATA)}), {("handler-own-setting", W, "F11")}),
    *(
        (
            f"gVisor, {what}",
            but(facts, runtime={"handlers": (facts.runtime.handlers[0], replace(GVISOR, **changed))}),
            {("gvisor-driver", severity, "F11")} if severity else set(),
        )
        for what, facts, changed, severity in (
            ("which the plan sets", QUIET, {}, I),
            ("of an unknown version", QUIET, {"version": ""}, W),
            ("too old", QUIET, {"version": "20201216.0"}, W),
            ("where the cgroup mode is not known", but(node={"cgroup_mode": "unknown"}), {}, W),
            ("where systemd's version is not known", but(node={"systemd_version": None}), {}, W),
            ("without ConfigPath", QUIET, {"config_path": "", "path": CONTAINERD_CONFIG}, W),
            ("whose file is not there", QUIET, {"path": CONTAINERD_CONFIG}, W),
            ("ahead of the node", QUIET, {"systemd_cgroup": True}, W),
            ("left behind", switched(QUIET), {"systemd_cgroup": False}, W),
            ("switched with the node", switched(QUIET), {"systemd_cgroup": True}, None),
        )
    ),
    (
        "a default handler that is not there",
        but(runtime={"handlers": (replace(RUNC, name="nvidia", is_default=False),)}),
        {("default-handler-missing", B, "F12")},
    ),
    ("imports on 1.x", but(runtime={"imports": ("/etc/c/*.toml",)}), {("imports-present", W, "F14")}),
    ("imports on 1.7", but(runtime={"imports": ("x",), "version": "1.7.9"}), {("imports-present", W, "F14")}),
    (
        "imports on 2.0",
        but(runtime={"imports": ("x",), "version": "v2.0.0"}),
        {("imports-present", I, "F14")},
    ),
    (
        "imports on an unknown version",
        but(runtime={"imports": ("x",), "version": None}),
        {("imports-present", W, "F14")},
    ),
    (
        "imports on 2.x",
        but(runtime={"imports": ("/etc/c/*.toml",), "version": "2.1.4"}),
        {("imports-present", I, "F14")},
    ),
    (
        "conmon in a slice with cgroupfs",
        but(runtime=CRIO | {"conmon_cgroup": "system.slice"}),
        {("conmon-cgroup", W, "F05")},
    ),
    (
        "conmon in a slice with systemd",
        but(switched(but(runtime=CRIO)), runtime={"conmon_cgroup": "system.slice"}),
        {("conmon-cgroup", I, "F05")},
    ),
    ("conmon in the pod", but(runtime=CRIO | {"conmon_cgroup": "pod"}), set()),
    ("live-restore", but(DOCKER, runtime={"live_restore": True}), {("live-restore", W, "F30")}),
    ("live-restore, already moved", but(switched(DOCKER), runtime={"live_restore": True}), set()),
    *(
        (
            f"reserved {value}, enforced",
            but(
                kubelet={
                    "reserved_cgroups": (("kubeReservedCgroup", value),),
                    "enforce_node_allocatable": ("pods", word),
                }
            ),
            {("reserved-cgroups", severity, reference)},
        )
        for value, word, severity, reference in (
            ("/kubelet", "kube-reserved", W, "F38"),
            ("/kube-reserved", "kube-reserved-compressible", W, "F40"),
            ("/system.slice/kubelet.service", "kube-reserved", B, "F39"),
            ("/a.scope", "kube-reserved", B, "F39"),
            ("/system", "kube-reserved", B, "F38"),
            ("/", "kube-reserved", B, "F38"),
            ("/a b", "kube-reserved", B, "F38"),
        )
    ),
    (
        "a reserved cgroup that is not there on cgroup v2",
        but(
            kubelet={
                "reserved_cgroups": (("kubeReservedCgroup", "/kubelet"),),
                "enforce_node_allocatable": ("kube-reserved",),
            },
            cgroups={"reserved_absent": ("/sys/fs/cgroup/kubelet.slice",)},
        ),
        {("reserved-cgroups", B, "F38")},
    ),
    (
        "reserved, not enforced",
        but(kubelet={"reserved_cgroups": (("systemReservedCgroup", "/system"),)}),
        set(),
    ),
    (
        "reserved, a slice already",
        but(
            kubelet={
                "reserved_cgroups": (("systemReservedCgroup", "/system.slice"),),
                "enforce_node_allocatable": ("system-reserved",),
            }
        ),
        {("reserved-limits-reset", W, "F42")},
    ),
    (
        "the kubelet's own cgroup",
        but(kubelet={"reserved_cgroups": (("kubeletCgroups", "/system/kubelet"),)}),
        {("reserved-cgroups", W, "F44")},
    ),
    (
        "the kubelet's own unit, which is literally so under either driver",
        but(kubelet={"reserved_cgroups": (("kubeletCgroups", "/system.slice/kubelet.service"),)}),
        set(),
    ),
    ("a cgroup root", but(kubelet={"cgroup_root": "/kubelet"}), {("cgroup-root", W, "F43")}),
    (
        "processes at the top that are nobody's, beside a cgroup root",
        but(
            kubelet={"cgroup_root": "/kubelet"},
            cgroups={"trees": (tree("cgroupfs", 1),)},
        ),
        {("cgroup-root", W, "F43"), ("cgroup-root", B, "F27")},
    ),
    (
        "a cgroup root that nobody has made under its new name",
        but(
            kubelet={"cgroup_root": "/kubelet"},
            cgroups={"reserved_absent": ("/sys/fs/cgroup/kubelet.slice",)},
        ),
        {("cgroup-root", B, "F43")},
    ),
    (
        "a cgroup root that is a slice",
        but(kubelet={"cgroup_root": "/pods.slice"}),
        {("cgroup-root", B, "F43")},
    ),
    (
        "a cgroup root below a slice",
        but(kubelet={"cgroup_root": "/kubelet.slice/pods"}),
        {("cgroup-root", B, "F43")},
    ),
    (
        "a cgroup root of an image that does not tell its hierarchies",
        but(node={"live": False, "hierarchies": ()}, kubelet={"cgroup_root": "/kubelet"}),
        {("cgroup-root", B, "F43")},
    ),
    ("no cgroup root", but(kubelet={"cgroup_root": "/"}), set()),
    *(
        (
            f"a drop-in in {directory}",
            but(cgroups={"slice_drop_ins": (f"/etc/systemd/system/{directory}/50-x.conf",)}),
            {("kubelet-slice-drop-ins", W, "F46")},
        )
        for directory in ("kubepods.slice.d", "kubepods-.slice.d", "slice.d", "kubelet-kubepods.slice.d")
    ),
    (
        "a misspelt key",
        but(runtime={"handlers": (replace(RUNC, path=CONTAINERD_CONFIG, misspelt=("SystemdCGroup",)),)}),
        {("containerd-key-misspelt", W, "F13")},
    ),
    (
        "tables of another version",
        but(runtime={"ignored_cri_tables": ('plugins."io.containerd.cri.v1.runtime"',)}),
        {("containerd-tables-ignored", W, "F13")},
    ),
    (
        "a handler that is written down without a type",
        but(runtime={"handlers": (replace(RUNC, path=CONTAINERD_CONFIG, line=9, runtime_type=""),)}),
        {("runtime-type-missing", W, "F13")},
    ),
    (
        "the same on 2.0",
        but(
            runtime={
                "version": "2.0.1",
                "handlers": (replace(RUNC, path=CONTAINERD_CONFIG, line=9, runtime_type=""),),
            }
        ),
        set(),
    ),
    (
        "nvidia without a type on 2.0",
        but(
            runtime={
                "version": "2.0.1",
                "handlers": (RUNC, replace(NVIDIA, path=CONTAINERD_CONFIG, line=9, runtime_type="")),
            }
        ),
        {("runtime-type-missing", W, "F13")},
    ),
    (
        "the same of another runtime",
        but(
            runtime=CRIO | {"handlers": (replace(RUNC, path="/etc/crio/crio.conf", line=9, runtime_type=""),)}
        ),
        set(),
    ),
    # what is left over
    (
        "literal cgroups",
        but(cgroups={"literal": (f"/sys/fs/cgroup/kubepods-podx.slice:cri-containerd:{ID}",)}),
        {("literal-cgroups", W, "F06")},
    ),
    (
        "a stale tree of the target",
        but(cgroups={"trees": (tree("systemd"),)}),
        {("stale-target-tree", I, "F22")},
    ),
    (
        "stale units of the target",
        but(cgroups={"kubepods_units": ("kubepods.slice",)}),
        {("stale-target-tree", I, "F22")},
    ),
    (
        "the tree of the target, inhabited",
        but(cgroups={"trees": (tree("systemd", populated=2),)}),
        {("stale-target-tree", W, "F22")},
    ),
    ("the tree of this driver", but(cgroups={"trees": (tree("cgroupfs", populated=2),)}), set()),
    ("the old tree", but(switched(), cgroups={"trees": (tree("cgroupfs"),)}), {("old-tree-left", W, "F26")}),
    (
        "the old tree, inhabited",
        but(switched(), cgroups={"trees": (tree("cgroupfs", populated=1),)}),
        {("old-tree-left", W, "F30")},
    ),
    (
        "a cron job that names the old tree",
        but(references=(NAMES_OLD,)),
        {("old-paths-referenced", W, "F65")},
    ),
    (
        "a cron job that names the old tree, after the switch",
        but(switched(), references=(NAMES_OLD,)),
        {("old-paths-referenced", W, "F65")},
    ),
    ("containers of this driver", but(DOCKER, pods=stored("/kubepods/besteffort/podx")), set()),
    (
        "containers of the old driver",
        but(switched(DOCKER), pods=stored("/kubepods/besteffort/podx")),
        {("old-containers-left", W, "F08")},
    ),
    (
        "containers of the other driver",
        but(DOCKER, pods=stored("kubepods-besteffort-podx.slice")),
        {("old-containers-left", W, "F08")},
    ),
    (
        "failed scopes",
        but(cgroups={"failed_units": (f"cri-containerd-{ID}.scope",)}),
        {("failed-scopes", W, "F24")},
    ),
    # the files themselves
    (
        "a configuration file that everybody may write",
        but(
            files=(
                replace(config("/etc/docker/daemon.json"), mode=0o666, exposed_by="/etc/docker/daemon.json"),
            )
        ),
        {("file-writable-by-all", B, "")},
    ),
    (
        "a directory that everybody may write, on an image",
        but(
            node={"live": False},
            files=(replace(config("/etc/docker/daemon.json"), exposed_by="/etc/docker"),),
        ),
        {("file-writable-by-all", W, "")},
    ),
    (
        "a file of another user, and one that another group may write",
        but(
            files=(
                replace(config("/etc/default/kubelet"), uid=1000),
                replace(config("/etc/default/docker"), gid=998, mode=0o664),
            )
        ),
        {("file-owned-by-others", W, "")},
    ),
    (
        "files of root's group, and of the kernel, and of an image",
        but(
            node={"live": True},
            files=(
                replace(config("/etc/default/docker"), mode=0o664),
                replace(config("/proc/1/environ"), uid=1000, mode=0o666, links=2, exposed_by="/proc"),
            ),
        ),
        set(),
    ),
    (
        "a configuration file with two names, and another file with two",
        but(
            files=(replace(config(KUBELET_CONFIG), links=2), replace(config("/usr/lib/os-release"), links=2))
        ),
        {("file-hard-linked", W, "")},
    ),
    (
        "a file with two names that containerd imports",
        but(runtime={"imports": ("/i.toml",)}, files=(replace(config("/i.toml"), links=2),)),
        {("file-hard-linked", W, ""), ("imports-present", W, "F14")},
    ),
    # what runs
    ("a static pod", but(pods=(STATIC,)), {("static-pods-outage", I, "F33")}),
    ("a static pod, already moved", but(switched(), pods=(STATIC,)), set()),
    (
        "a static pod whose container exited",
        but(pods=(idle(app=("exited",)),)),
        {("static-pods-outage", I, "F33"), ("static-pod-not-running", W, "F33")},
    ),
    (
        "a static pod whose container runs again",
        but(pods=(idle(app=("exited", "running")),)),
        {("static-pods-outage", I, "F33")},
    ),
    (
        "a static pod without its sandbox",
        but(pods=(idle(sandbox="exited"),)),
        {("static-pods-outage", I, "F33"), ("static-pod-not-running", W, "F33")},
    ),
    (
        "a static pod wholly dead",
        but(pods=(idle(sandbox="exited", app=("exited",)),)),
        {("static-pod-not-running", W, "F33")},
    ),
    ("a static pod dead after the switch", but(switched(), pods=(idle(sandbox="exited"),)), set()),
    (
        "a static pod that only its cgroup tells of",
        but(pods=(Pod(uid=STATIC_UID, qos="besteffort", static=True, driver="cgroupfs"),)),
        set(),
    ),
    (
        "a control plane",
        but(pods=(pod("kube-apiserver-cp1", uid=STATIC_UID, static=True),)),
        {("static-pods-outage", I, "F33"), ("control-plane", W, "F33")},
    ),
    ("an ordinary pod", but(pods=(pod(),)), {("api-node-not-drained", W, "F36")}),
    ("a pod of a standalone kubelet", but(kubelet={"kubeconfig": ""}, pods=(pod(),)), set()),
    ("a dead pod", but(pods=(pod(live=False),)), set()),
    (
        "a pod without a class",
        but(pods=(replace(pod(), qos=""),)),
        {("api-node-not-drained", W, "F36"), ("pod-place-unknown", W, "")},
    ),
    (
        "a pod whose uid makes no cgroup",
        but(pods=(pod(uid="../../x"),)),
        {("api-node-not-drained", W, "F36"), ("pod-place-unknown", W, "")},
    ),
    ("another container", but(DOCKER, other_containers=(OTHER,)), {("other-containers", W, "F64")}),
    (
        "another container, dead",
        but(DOCKER, other_containers=(replace(OTHER, state="exited", pids=()),)),
        set(),
    ),
    (
        "another container, dead, with a parent",
        but(DOCKER, other_containers=(replace(OTHER, state="exited", pids=(), cgroup_parent="/mine"),)),
        {("other-containers", W, "F02")},
    ),
    ("another container, already moved", but(switched(DOCKER), other_containers=(OTHER,)), set()),
]


@pytest.mark.parametrize(("facts", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_facts_give_these_findings_and_no_others(
    facts: Facts, expected: set[tuple[str, Severity, str]]
) -> None:
    assert {(each.id, each.severity, each.reference) for each in run_checks(facts)} == expected


def test_every_registered_finding_severity_and_reference_is_met_by_a_row() -> None:
    registered = {(check.id, severity) for check in CHECKS.values() for severity in check.severities}
    references = {(check.id, each) for check in CHECKS.values() for each in check.references}
    met = [finding for _, _, expected in (*TABLE, *CLUSTER_TABLE, *HOST_TABLE) for finding in expected]
    assert {(name, severity) for name, severity, _ in met} == registered
    assert {(name, reference) for name, _, reference in met if reference} == references


def test_an_id_is_registered_once() -> None:
    modules = Path(__file__).parents[2] / "migrator" / "checks"
    written = [
        line.split('id="')[1].split('"')[0]
        for module in modules.glob("*.py")
        for line in module.read_text().splitlines()
        if 'id="' in line
    ]
    assert set(written) == set(CHECKS)


@pytest.mark.parametrize("facts", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_blocker_or_warning_says_what_can_be_done_or_why_it_matters(facts: Facts) -> None:
    silent = [
        each
        for each in run_checks(facts)
        if not each.subject or (each.severity is not I and not (each.remediation or each.detail))
    ]
    assert silent == []


def test_the_mismatch_names_both_values_and_both_places() -> None:
    facts = but(
        kubelet={"driver": driver("systemd", KUBELET_CONFIG, 12), "driver_running": driver("systemd")},
        runtime={"driver": driver("cgroupfs", CONTAINERD_CONFIG, 31)},
    )
    finding = _only(facts, "drivers-differ")
    assert finding.summary == "kubelet uses systemd, containerd uses cgroupfs"
    for place in (f"{KUBELET_CONFIG}:12", f"{CONTAINERD_CONFIG}:31"):
        assert place in finding.detail


def test_an_unknown_driver_names_the_file_that_hides_it_and_no_file_of_the_other_side() -> None:
    facts = but(
        DOCKER,
        kubelet={"driver": Driver(value=None), "driver_running": Driver(value=None)},
        unknowns=(unknown(DAEMON_JSON, "not JSON", 3), unknown(KUBELET_CONFIG, "not YAML", 5)),
    )
    assert _only(facts, "driver-unknown").detail == f"{KUBELET_CONFIG}: not YAML"


def test_a_literal_cgroup_counts_once_over_all_hierarchies() -> None:
    name = f"kubepods-podx.slice:cri-containerd:{ID}"
    facts = but(cgroups={"literal": tuple(f"/sys/fs/cgroup/{each}/{name}" for each in ("cpu", "memory"))})
    finding = _only(facts, "literal-cgroups")
    assert (finding.subject, finding.summary[:12]) == (f"/sys/fs/cgroup/cpu/{name}", "1 container ")


def test_nothing_is_called_a_leftover_while_the_daemons_still_run_with_the_old_driver() -> None:
    facts = but(
        switched(DOCKER),
        runtime={"driver_reported": driver("cgroupfs")},
        cgroups={"trees": (tree("cgroupfs", populated=3),)},
        pods=stored("/kubepods/besteffort/podx"),
    )
    assert [each.id for each in run_checks(facts)] == ["running-driver-differs"]


def test_an_unreadable_file_is_named_with_its_line_and_reason() -> None:
    finding = _only(but(unknowns=(unknown(DAEMON_JSON, "expected a comma", 3),)), "config-unreadable")
    assert finding.subject == f"{DAEMON_JSON}:3"
    assert "expected a comma" in finding.summary


def test_a_kubelet_that_is_down_comes_with_the_commands_to_mend_it() -> None:
    facts = but(kubelet={"unit": unit("kubelet.service", "failed", "failed")})
    assert _only(facts, "kubelet-down").remediation == (
        "systemctl start kubelet.service; journalctl -u kubelet.service -n 50"
    )


def test_every_edited_unit_is_named() -> None:
    edited = tuple(replace(EDITED, name=each) for each in ("docker.socket", "docker.service"))
    facts = but(DOCKER, kubelet={"unit": EDITED}, runtime={"units": edited})
    assert [each.subject for each in run_checks(facts) if each.id == "unit-reload-pending"] == [
        "kubelet.service",
        "docker.socket",
        "docker.service",
    ]


def test_static_pods_that_do_not_run_are_named_with_what_of_them_does_not() -> None:
    pods = (
        replace(idle(app=("exited",)), name="a"),
        replace(idle(sandbox="exited", app=("created",)), name="b"),
    )
    finding = _only(but(pods=(*pods, STATIC)), "static-pod-not-running")
    assert finding.summary == (
        "2 static pods not running, or not with every container: default/a (app); default/b (sandbox, app)"
    )


def test_all_unknown_facts_are_listed_in_one_finding() -> None:
    facts = but(unknowns=(unknown("node.swap", "no /proc"), unknown("runtime.version", "no answer")))
    assert _only(facts, "facts-unknown").detail == "node.swap: no /proc; runtime.version: no answer"


def test_a_reserved_cgroup_is_named_in_its_new_spelling() -> None:
    facts = but(
        kubelet={
            "reserved_cgroups": (("kubeReservedCgroup", "/kube-reserved"),),
            "enforce_node_allocatable": ("kube-reserved",),
        }
    )
    found = _only(facts, "reserved-cgroups")
    assert "/kube_reserved.slice" in found.summary
    assert "ConfigMap" in found.detail
    standalone = _only(but(facts, node={"distribution": "standalone"}), "reserved-cgroups")
    assert "ConfigMap" not in standalone.detail


def test_words_of_the_node_are_quoted_in_commands() -> None:
    facts = but(cgroups={"failed_units": ("docker-x;reboot.scope",)})
    assert _only(facts, "failed-scopes").remediation == "systemctl reset-failed 'docker-x;reboot.scope'"


@pytest.mark.parametrize(
    ("kind", "containers", "expected"),
    [
        ("docker", (0, 1), f"docker rm -f {ID[:12]} {SANDBOX_ID[:12]}"),
        ("containerd", (0, 1), f"crictl rmp -f {SANDBOX_ID[:12]}"),
        ("containerd", (0,), f"crictl rm -f {ID[:12]}"),
    ],
)
def test_old_containers_are_removed_with_the_runtimes_own_command(
    kind: str, containers: tuple[int, ...], expected: str
) -> None:
    dead = pod(live=False)
    old = tuple(replace(dead.containers[each], cgroup_parent="/kubepods/x") for each in containers)
    facts = but(switched(), runtime={"kind": kind, "handlers": ()}, pods=(replace(dead, containers=old),))
    assert _only(facts, "old-containers-left").remediation == expected


def test_one_command_removes_a_tree_from_all_hierarchies() -> None:
    trees = tuple(tree("cgroupfs", mount=f"/sys/fs/cgroup/{each}") for each in ("cpu", "memory"))
    finding = _only(but(switched(), cgroups={"trees": trees}), "old-tree-left")
    assert finding.remediation == (
        "find /sys/fs/cgroup/cpu/kubepods /sys/fs/cgroup/memory/kubepods -depth -type d -exec rmdir {} \\;"
    )


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("docker", "docker rm -f $(docker ps -aq --filter label=io.kubernetes.pod.uid) && "),
        ("containerd", "crictl rmp -fa && "),
    ],
)
def test_what_lives_in_a_leftover_tree_is_removed_before_the_tree(kind: str, first: str) -> None:
    """A plain rmdir refuses, and stopping the slices would kill it without its grace."""
    switching: tuple[tuple[str, Facts, str], ...] = (
        ("old-tree-left", switched(), "cgroupfs"),
        ("stale-target-tree", but(), "systemd"),
    )
    for name, facts, spelled in switching:
        empty, populated = (
            _only(
                but(
                    facts,
                    runtime={"kind": kind, "handlers": ()},
                    cgroups={"trees": (tree(spelled, populated=count),)},
                ),
                name,
            ).remediation
            for count in (0, 1)
        )
        assert populated == first + empty


def test_blockers_come_first() -> None:
    facts = but(DOCKER, node={"uid": 1, "swap": True} | V1, runtime={"cgroup_parent": "/x"})
    assert [each.severity for each in run_checks(facts)] == [B, B, W, I]


def _only(facts: Facts, name: str) -> Finding:
    (finding,) = (each for each in run_checks(facts) if each.id == name)
    return finding


OLD_KUBELET = {"version": "1.20.2"}

VERDICTS: list[tuple[str, Facts, Verdict, str]] = [
    ("cgroup v2", QUIET, Verdict.MIGRATE, "only writer"),
    ("cgroup v1, old kubelet", but(DOCKER, node=V1), Verdict.OPTIONAL, "can rightly stay"),
    (
        "cgroup v1, kubeadm of 1.21",
        but(node=V1, kubelet={"version": "1.21.9"}),
        Verdict.OPTIONAL,
        "can rightly stay",
    ),
    ("cgroup v1, kubeadm of 1.22", but(node=V1, kubelet={"version": "1.22.0"}), Verdict.MIGRATE, "kubeadm"),
    (
        "cgroup v1, a kubelet of its own",
        but(node=V1 | {"distribution": "standalone"}),
        Verdict.OPTIONAL,
        "can rightly stay",
    ),
    (
        "cgroup v1, only maintained",
        but(node=V1 | {"distribution": "standalone"}, kubelet={"version": "1.31.0"}),
        Verdict.MIGRATE,
        "only maintains cgroup v1",
    ),
    (
        "cgroup v1, two managers",
        but(DOCKER, node=V1, cgroups={"trees": (tree("systemd", populated=1),)}),
        Verdict.MIGRATE,
        "two managers",
    ),
    (
        "cgroup v1, an earlier attempt",
        but(DOCKER, node=V1, cgroups={"trees": (tree("systemd"),)}),
        Verdict.OPTIONAL,
        "can rightly stay",
    ),
    (
        "cgroup mode unknown",
        but(node={"cgroup_mode": "unknown"}, kubelet=OLD_KUBELET),
        Verdict.OPTIONAL,
        "not known",
    ),
    ("no systemd", but(node={"init_systemd": False}), Verdict.STAY, "F57"),
    ("systemd too old", but(node={"systemd_version": 215} | V1), Verdict.STAY, "F47"),
    ("Red Hat's systemd", but(node={"systemd_version": 219} | V1), Verdict.MIGRATE, "kubeadm"),
    ("a driver unknown", but(kubelet={"driver": Driver(value=None)}), Verdict.STAY, "guess"),
    ("both on systemd", switched(), Verdict.ALREADY_MIGRATED, "nothing of cgroupfs is left"),
    (
        "both on systemd by the runtime's word",
        but(switched(), kubelet={"driver": driver("cgroupfs"), "decides": "runtime"}),
        Verdict.ALREADY_MIGRATED,
        "nothing of cgroupfs is left",
    ),
    (
        "both on systemd, the old tree left",
        but(switched(), cgroups={"trees": (tree("cgroupfs"),)}),
        Verdict.MIGRATE,
        "not finished",
    ),
    (
        "both on systemd, not restarted",
        but(switched(), kubelet={"driver_running": driver("cgroupfs")}),
        Verdict.MIGRATE,
        "not finished",
    ),
    ("drivers differ", but(kubelet={"driver": driver("systemd")}), Verdict.MIGRATE, "different drivers"),
    ("k3s", but(node={"distribution": "k3s"}), Verdict.NOT_APPLICABLE, "its own way"),
    ("no kubelet", but(kubelet={"present": False}), Verdict.NOT_APPLICABLE, "no kubelet"),
]


@pytest.mark.parametrize(
    ("facts", "verdict", "reason"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS]
)
def test_the_verdict_and_its_first_reason(facts: Facts, verdict: Verdict, reason: str) -> None:
    given_ = recommend(facts, run_checks(facts))
    assert (given_.verdict, reason in given_.reasons[0]) == (verdict, True), given_.reasons


def test_every_rule_of_the_policy_is_met_by_a_row() -> None:
    met = {reason for _, facts, _, _ in VERDICTS for reason in recommend(facts, run_checks(facts)).reasons}
    assert {rule.reason for rule in RULES} - met == set()


def test_a_blocker_does_not_change_the_verdict_but_is_named_as_a_reason() -> None:
    facts = but(runtime={"disabled_plugins": ("cri",)})
    assert recommend(facts, run_checks(facts)).reasons[-1].endswith("cri-disabled")


DRIVERS = st.sampled_from([None, "cgroupfs", "systemd", "'systemd'", "\x1b[2J"]).map(driver)


@given(
    kubelet=DRIVERS,
    runtime=DRIVERS,
    decides=st.sampled_from(["kubelet", "runtime"]),
    present=st.booleans(),
    init=st.booleans(),
    mode=st.sampled_from(["legacy", "hybrid", "unified", "unknown"]),
    version=st.sampled_from([None, "junk", "1.20.2", "v1.28.3+k3s1", "1.35.0"]),
    kind=st.sampled_from(["docker", "containerd", "crio", "unknown"]),
)
def test_whatever_the_facts_there_is_a_verdict_with_a_reason(  # noqa: PLR0917 (one strategy each)
    kubelet: Driver,
    runtime: Driver,
    decides: str,
    present: bool,
    init: bool,
    mode: str,
    version: str | None,
    kind: str,
) -> None:
    facts = but(
        node={"init_systemd": init, "cgroup_mode": mode},
        kubelet={"driver": kubelet, "decides": decides, "present": present, "version": version},
        runtime={"driver": runtime, "kind": kind},
    )
    recommendation = recommend(facts, run_checks(facts))
    assert recommendation.reasons[0] in {
        rule.reason for rule in RULES if rule.verdict is recommendation.verdict
    }


def test_who_stops_puppet_knows_which_file_it_is_about() -> None:
    finding = _only(but(files=(PUPPETS,), node={"agents": ("puppet.service",)}), "managed-files")

    assert (CONTAINERD_CONFIG, "Said by /etc/containerd/config.toml.") == (
        finding.subject,
        finding.detail[:36],
    )
    assert finding.remediation.startswith("systemctl disable --now puppet.service; ")


def test_a_refused_distribution_names_its_own_files_that_decide() -> None:
    files = ("/etc/rancher/k3s/config.yaml",)
    finding = _only(but(node={"distribution": "k3s", "distribution_files": files}), "managed-distribution")

    assert "What decides on this node: /etc/rancher/k3s/config.yaml." in finding.detail
