# SPDX-License-Identifier: Apache-2.0
"""Facts of a node that nothing is wrong with, and a way to say what is different about another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from migrator.facts.model import (
    Cgroups,
    Container,
    Driver,
    Facts,
    File,
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

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
DAEMON_JSON = "/etc/docker/daemon.json"
FLAGS_ENV = "/var/lib/kubelet/kubeadm-flags.env"

DEFAULT = Source(kind="default", value="cgroupfs")


def source(value: str | None, path: str, line: int = 0, kind: str = "config-file") -> Source:
    return Source(kind=kind, value=value, path=path, line=line)


def driver(value: str | None, path: str = KUBELET_CONFIG, line: int = 7) -> Driver:
    """A driver that a file decides."""
    return Driver(value=value, chain=(DEFAULT, source(value, path, line)) if value else ())


def unit(name: str, state: str = "active", sub: str = "running") -> Unit:
    return Unit(name=name, load_state="loaded", active_state=state, sub_state=sub, unit_file_state="enabled")


def config(path: str) -> File:
    return File(path=path, real_path=path, present=True, sha256="0" * 64, size=1, mode=0o644)


RUNC = Handler(name="runc", runtime_type="io.containerd.runc.v2", systemd_cgroup=False, is_default=True)

QUIET = Facts(
    version=1,
    node=Node(
        hostname="worker-1",
        machine_id="2e1c",
        boot_id="b007",
        os="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0-28-amd64",
        architecture="x86_64",
        uid=0,
        live=True,
        init_systemd=True,
        systemd_version=252,
        cgroup_mode="unified",
        hierarchies=(Hierarchy(mount="/sys/fs/cgroup", version=2),),
        distribution="kubeadm",
        distribution_evidence=FLAGS_ENV,
    ),
    kubelet=Kubelet(
        present=True,
        version="1.28.3",
        unit=unit("kubelet.service"),
        argv=("/usr/bin/kubelet", f"--config={KUBELET_CONFIG}"),
        config_file=KUBELET_CONFIG,
        driver=driver("cgroupfs"),
        driver_running=driver("cgroupfs"),
        runtime_endpoint="unix:///run/containerd/containerd.sock",
        kubeconfig="/etc/kubernetes/kubelet.conf",
    ),
    runtime=Runtime(
        kind="containerd",
        version="1.6.20",
        socket="/run/containerd/containerd.sock",
        cri_version="v1",
        units=(unit("containerd.service"),),
        config_file=CONTAINERD_CONFIG,
        config_version=2,
        driver=driver("cgroupfs", CONTAINERD_CONFIG, 9),
        driver_reported=driver("cgroupfs", "/run/containerd/containerd.sock", 0),
        handlers=(RUNC,),
    ),
    cgroups=Cgroups(),
    files=(config(KUBELET_CONFIG), config(CONTAINERD_CONFIG)),
)
"""containerd on cgroup v2, both sides on cgroupfs, nothing running: no finding at all."""

DOCKER = replace(
    QUIET,
    runtime=Runtime(
        kind="docker",
        shim="dockershim",
        version="20.10.24",
        socket="/run/docker.sock",
        units=(unit("docker.socket"), unit("docker.service")),
        config_file=DAEMON_JSON,
        driver=driver("cgroupfs", DAEMON_JSON, 2),
        driver_reported=driver("cgroupfs", "/run/docker.sock", 0),
    ),
    kubelet=replace(QUIET.kubelet, version="1.21.14"),
    files=(config(KUBELET_CONFIG), config(DAEMON_JSON)),
)
"""Docker with a kubelet that has dockershim; otherwise as quiet."""

UID = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
ID = "33dff8e5" * 8
SANDBOX_ID = "5a9db0c5" * 8
STATIC_UID = "c4d5" * 8


def pod(name: str = "web-1", *, uid: str = UID, static: bool = False, live: bool = True) -> Pod:
    """A besteffort pod of one container and its sandbox, in cgroupfs' spelling."""
    here = f"/kubepods/besteffort/pod{uid}"
    state, pids = ("running", (41,)) if live else ("exited", ())
    return Pod(
        uid=uid,
        name=name,
        namespace="default",
        qos="besteffort",
        static=static,
        sandbox_id=SANDBOX_ID,
        sandbox_state=state,
        containers=(
            Container(
                id=ID,
                name="app",
                pod_uid=uid,
                state=state,
                pids=pids,
                cgroups=(f"{here}/{ID}",) if live else (),
            ),
            Container(
                id=SANDBOX_ID,
                name="",
                pod_uid=uid,
                state=state,
                sandbox=True,
                pids=pids,
                cgroups=(f"{here}/{SANDBOX_ID}",) if live else (),
            ),
        ),
        driver="cgroupfs",
    )


def tree(spelling: str, populated: int = 0, mount: str = "/sys/fs/cgroup") -> Tree:
    path = "/kubepods" if spelling == "cgroupfs" else "/kubepods.slice"
    return Tree(driver=spelling, mount=mount, path=path, directories=5, populated=populated)


def unknown(subject: str, reason: str = "permission denied", line: int = 0) -> Unknown:
    return Unknown(subject=subject, reason=reason, line=line)


def but(
    facts: Facts = QUIET,
    *,
    node: Mapping[str, object] | None = None,
    kubelet: Mapping[str, object] | None = None,
    runtime: Mapping[str, object] | None = None,
    cgroups: Mapping[str, object] | None = None,
    manager: Mapping[str, object] | None = None,
    **rest: object,
) -> Facts:
    """The same facts but for the fields given, part by part."""
    return replace(
        facts,
        node=replace(facts.node, **(node or {})),  # type: ignore[arg-type]
        kubelet=replace(facts.kubelet, **(kubelet or {})),  # type: ignore[arg-type]
        runtime=replace(facts.runtime, **(runtime or {})),  # type: ignore[arg-type]
        cgroups=replace(facts.cgroups, **(cgroups or {})),  # type: ignore[arg-type]
        manager=replace(facts.manager, **(manager or {})),  # type: ignore[arg-type]
        **rest,  # type: ignore[arg-type]
    )


def switched(facts: Facts = QUIET) -> Facts:
    """The same node with both sides on systemd."""
    handlers = tuple(replace(each, systemd_cgroup=True) for each in facts.runtime.handlers)
    return but(
        facts,
        kubelet={"driver": driver("systemd"), "driver_running": driver("systemd")},
        runtime={
            "driver": driver("systemd", facts.runtime.config_file, 9),
            "driver_reported": driver("systemd", facts.runtime.socket, 0),
            "handlers": handlers,
        },
    )
