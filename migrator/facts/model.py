# SPDX-License-Identifier: Apache-2.0
"""The shape of the facts. Version 1; a change of shape is a new version, here and in `facts-1.schema.json`."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrator.configs.secrets import mask_shapes

FACTS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A fact that could not be had: what was looked for, and why it is not known."""

    subject: str
    """Dotted name of the fact, e.g. `runtime.driver_reported`, or a path."""
    reason: str
    line: int = 0
    """Line of the file that could not be parsed; 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that says something about a value, and what it says."""

    kind: str
    """`default`, `config-file`, `config-drop-in`, `env-file`, `unit`, `unit-drop-in`, `process`, `runtime`, `daemon`."""
    value: str | None
    """The driver it names, or None where the place exists and is silent."""
    path: str = ""
    """File (or socket, or `/proc/PID/cmdline`); empty for a built-in default."""
    line: int = 0

    def __post_init__(self) -> None:
        # What else stands there was not meant to be shown.
        if self.value not in (None, "cgroupfs", "systemd"):
            object.__setattr__(self, "value", mask_shapes(self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """An effective driver with its whole precedence chain, lowest first; the last source with a value decides."""

    value: str | None
    """`cgroupfs`, `systemd`, any other text that the node really holds, or None: unknown."""
    chain: tuple[Source, ...] = ()

    @property
    def decided_by(self) -> Source | None:
        """The source that decides, or None when nothing is known."""
        return next((source for source in reversed(self.chain) if source.value is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that decides something: what it is now. Never its bytes, which may hold credentials."""

    path: str
    """As configured; `real_path` is where the bytes are, after symbolic links."""
    real_path: str
    present: bool
    sha256: str = ""
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    links: int = 1
    """Names that its bytes have (hard links)."""
    exposed_by: str = ""
    """What lets everybody change it: the path of itself or of a directory above it; empty for nothing."""
    managed_by: str = ""
    """Who writes it, as its own header or the agent's list of files says: `Ansible`, `Puppet`, `Chef`, …; else empty."""
    managed_line: int = 0
    """Line of that header; 0 where the agent's own list tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit as systemd (or, offline, the unit files) knows it."""

    name: str
    load_state: str = ""
    active_state: str = ""
    sub_state: str = ""
    unit_file_state: str = ""
    """`enabled`, `disabled`, `masked`, … decides what a reboot starts."""
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()
    main_pid: int = 0
    invocation_id: str = ""
    need_daemon_reload: bool = False
    """Its files changed since systemd read them."""
    triggers: tuple[str, ...] = ()
    """Triggering conditions of its own (`Condition…=|…`), each with file and line: any one that holds lets it start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A mounted cgroup hierarchy: its `mount` point, `controllers` of v1 (`name=systemd` too), empty for cgroup2."""

    mount: str
    version: int
    controllers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The machine."""

    hostname: str
    machine_id: str
    boot_id: str
    os: str
    kernel: str
    architecture: str
    uid: int
    """Effective uid that looked; not 0 means that much below is unknown."""
    live: bool
    """False for an image behind `--root`."""
    init_systemd: bool
    systemd_version: int | None
    cgroup_mode: str
    """`legacy`, `hybrid`, `unified`, or `unknown`."""
    hierarchies: tuple[Hierarchy, ...] = ()
    """The system's own, one per set of controllers."""
    controllers: tuple[str, ...] = ()
    """Available in any hierarchy, without v1's named ones (F21)."""
    gpus: tuple[str, ...] = ()
    """Paths that tell of an accelerator: device nodes, or its container tools (F55)."""
    gpu_links: bool | None = None
    """Every device node of NVIDIA has its link in /dev/char; None: there is none, or it could not be seen (F55)."""
    extra_cgroup_mounts: tuple[str, ...] = ()
    """Mount points of further cgroup mounts: a leaked one misleads the kubelet (F21)."""
    selinux: str = ""
    """`enforcing`, `permissive`, `disabled`, or empty: no SELinux."""
    swap: bool = False
    cpus: int = 0
    page_size: int = 4096
    distribution: str = "unknown"
    """`kubeadm`, `k3s`, `rke2`, `microk8s`, `k0s`, `talos`, `kubespray`, …, `standalone` (a kubelet without any), `unknown`."""
    distribution_evidence: str = ""
    """The path that told it."""
    distribution_files: tuple[str, ...] = ()
    """The distribution's own files that decide the driver, those that are there."""
    agents: tuple[str, ...] = ()
    """Agents of a configuration management that run, or start at boot, e.g. `puppet.service`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubelet:
    """The kubelet; `driver` is what it would use if it started now, `driver_running` what the running one was started with."""

    present: bool
    version: str | None = None
    """`1.20.2`, without the `v`."""
    unit: Unit | None = None
    argv: tuple[str, ...] = ()
    """Of the running process, with what looks like a secret masked; empty when it does not run."""
    config_file: str = ""
    config_format: str = "yaml"
    config_dir: str = ""
    """Of `--config-dir`; its `*.conf` are drop-ins of the configuration file."""
    driver: Driver = field(default_factory=lambda: Driver(value=None))
    driver_running: Driver = field(default_factory=lambda: Driver(value=None))
    decides: str = "kubelet"
    """`kubelet`, or `runtime` where the kubelet takes the driver from CRI RuntimeConfig (F09)."""
    runtime_endpoint: str = ""
    cgroup_root: str = ""
    cgroups_per_qos: bool = True
    static_pod_path: str = ""
    healthz: str = "http://127.0.0.1:10248/healthz"
    """Empty when it is switched off (port 0)."""
    reserved_cgroups: tuple[tuple[str, str], ...] = ()
    """(setting, value) of kubeReservedCgroup, systemReservedCgroup, kubeletCgroups, runtimeCgroups, systemCgroups."""
    enforce_node_allocatable: tuple[str, ...] = ("pods",)
    fail_cgroup_v1: bool | None = None
    fail_swap_on: bool | None = None
    cpu_manager_policy: str = "none"
    memory_manager_policy: str = "none"
    cpu_quota_period: str = ""
    """cpuCFSQuotaPeriod as written, e.g. `10ms`; empty: the default of 100ms (F56)."""
    checkpoints: tuple[tuple[str, str], ...] = ()
    """(file, policy) of each manager's checkpoint, which the next start compares with the configuration (F60)."""
    places: tuple[tuple[str, str], ...] = ()
    """(controller, cgroup) of the running kubelet in the v1 hierarchies of `cpu` and `memory` (F45)."""
    pod_directories: tuple[str, ...] = ()
    """Uids of the pods that it keeps a directory for, those too that wait for a volume and have no sandbox yet (F25)."""
    patches: tuple[tuple[str, str, str], ...] = ()
    """(`file:line`, setting, value) of driver and cgroup names in files that kubeadm lays over its configuration (F18)."""
    kubeconfig: str = ""
    """Empty: standalone, no API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A runtime handler of containerd or CRI-O; `systemd_cgroup` None means not stated: the runtime's default, false."""

    name: str
    runtime_type: str
    systemd_cgroup: bool | None = None
    binary_name: str = ""
    is_default: bool = False
    path: str = ""
    """File and line that decide `systemd_cgroup`, or else where the handler stands; empty for one that is implicit."""
    line: int = 0
    misspelt: tuple[str, ...] = ()
    """Keys that look like `SystemdCgroup` and are not (F13)."""
    config_path: str = ""
    """File of its own that its options name (ConfigPath). gVisor's tells `systemd_cgroup`, and `path` is that file then."""
    version: str = ""
    """Of gVisor's runsc, e.g. `release-20240807.0`; empty: another handler, or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The container runtime that the kubelet talks to."""

    kind: str
    """`docker`, `containerd`, `crio`, `unknown`."""
    shim: str = ""
    """`dockershim`, `cri-dockerd`, or empty."""
    version: str | None = None
    socket: str = ""
    """Path of the runtime's own API: the CRI socket, or docker's."""
    cri_version: str = ""
    """`v1`, `v1alpha2`, or empty."""
    units: tuple[Unit, ...] = ()
    """In the order in which they are stopped: sockets first (`docker.socket`), then services."""
    config_file: str = ""
    config_version: int = 0
    driver: Driver = field(default_factory=lambda: Driver(value=None))
    """As configured on disk: what it would use if it started now (default handler for containerd)."""
    oci: str = ""
    """The OCI runtime of the default handler and its version, e.g. `runc 1.1.5`; empty: not known (F24, F48, F55, F58)."""
    driver_reported: Driver = field(default_factory=lambda: Driver(value=None))
    """As the running daemon says: `docker info`, CRI RuntimeConfig or Status; None when it cannot or does not say."""
    handlers: tuple[Handler, ...] = ()
    live_restore: bool = False
    cgroup_parent: str = ""
    imports: tuple[str, ...] = ()
    disabled_plugins: tuple[str, ...] = ()
    legacy_systemd_cgroup: bool = False
    ignored_cri_tables: tuple[str, ...] = ()
    """CRI tables of another config version than the file's own, which containerd ignores without a word (F13)."""
    conmon_cgroup: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container that the runtime knows. `pod_uid` empty: not Kubernetes'. `sandbox` marks the pause container."""

    id: str
    name: str
    pod_uid: str = ""
    state: str = ""
    """`running`, `exited`, `created`, `unknown`."""
    sandbox: bool = False
    pids: tuple[int, ...] = ()
    """Every process found in a cgroup that names this container, wherever it is."""
    cgroups: tuple[str, ...] = ()
    """Distinct places of those processes below the hierarchies' mounts, e.g. `/kubepods/besteffort/pod…/<id>`."""
    cgroup_parent: str = ""
    """As the runtime stored it at creation (docker HostConfig.CgroupParent), empty when not known."""
    restart_policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod on this node, from the runtime's sandboxes, or from the cgroup tree alone (then `name` is empty)."""

    uid: str
    """As the kubelet's cgroup name has it: dashed, or 32 hex digits of a static pod."""
    name: str = ""
    namespace: str = ""
    qos: str = ""
    """`guaranteed`, `burstable`, `besteffort`, or empty: not known."""
    static: bool = False
    sandbox_id: str = ""
    sandbox_state: str = ""
    containers: tuple[Container, ...] = ()
    driver: str = ""
    """Driver in whose spelling its cgroup exists: `cgroupfs`, `systemd`, `both`, or empty."""
    daemon_set: bool = False
    """Its sandbox has the label that the DaemonSet controller gives to its pods (`pod-template-generation`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One kubepods tree in one hierarchy: what is there and whether anything lives in it."""

    driver: str
    """Spelling: `cgroupfs` (`/kubepods`) or `systemd` (`/kubepods.slice`)."""
    mount: str
    path: str
    """Below the mount, e.g. `/kubepods.slice`."""
    directories: int
    populated: int
    """Directories that hold at least one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    """The kubepods trees of both spellings, and what should not be there at all."""

    trees: tuple[Tree, ...] = ()
    literal: tuple[str, ...] = ()
    """Directories named `…slice:cri-containerd:<id>` (F06), as mount + path."""
    kubepods_units: tuple[str, ...] = ()
    """Loaded `kubepods*.slice` units."""
    container_scopes: tuple[str, ...] = ()
    """Loaded `docker-*.scope`, `cri-containerd-*.scope`, `crio-*.scope` units."""
    failed_units: tuple[str, ...] = ()
    """Failed units among the two above."""
    slice_drop_ins: tuple[str, ...] = ()
    """Drop-ins that systemd applies to the kubelet's slices once it makes them (F46)."""
    slice_files: tuple[str, ...] = ()
    """Unit files of the kubelet's slices: an administrator's, or a transient one whose unit is not loaded (F23)."""
    enabled: tuple[str, ...] | None = None
    """Controllers that the top of cgroup v2 gives to its children; None: no cgroup v2 alone, or not readable (F53)."""
    reserved_absent: tuple[str, ...] = ()
    """Cgroups that the kubelet will insist on under systemd and that are not there, or on v2 lack a controller, as mount + path."""
    descendants: int = 0
    dying: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """systemd and its bus: how much they carry. None is not known; only a running node can tell most of it."""

    bus_connections: int | None = None
    bus_limit: int | None = None
    """Connections that one user may have; None with dbus-broker, which counts otherwise (F48)."""
    units: int | None = None
    """Names of units that are loaded (F50)."""
    mounts: int | None = None
    """Lines of /proc/self/mountinfo; each is a unit of systemd's (F50)."""
    run_scopes: int | None = None
    """Loaded `run-*.scope` units: what `systemd-run` made, one for each mount of an old kubelet (F51)."""
    cpu_percent: int | None = None
    """Share of one CPU that process 1 has used since the boot (F50)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A Node object of the API: this node, or another one of the control plane."""

    name: str
    uid: str
    machine_id: str = ""
    """status.nodeInfo.machineID: tells whether it is this machine."""
    unschedulable: bool = False
    ready: bool | None = None
    """Condition Ready; None when it is Unknown, as after 40 s without a heartbeat."""
    control_plane: bool = False
    kubelet_version: str = ""
    run: str = ""
    """Annotation `cgmigrate/run`: the run that has cordoned it, empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPod:
    """A pod that the API binds to this node."""

    namespace: str
    name: str
    uid: str
    """metadata.uid; of a static pod's mirror the hash that the kubelet uses (annotation kubernetes.io/config.hash)."""
    phase: str = ""
    """`Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`."""
    ready: bool = False
    terminating: bool = False
    mirror: bool = False
    """The API's image of a static pod."""
    owner_kind: str = ""
    """Kind of the controller, e.g. `ReplicaSet`, `DaemonSet`; empty: nothing would make the pod anew."""
    owner_name: str = ""
    owner_exists: bool = True
    """False when the DaemonSet that it names is gone."""
    local_data: bool = False
    """It has an emptyDir volume."""
    budgets: tuple[str, ...] = ()
    """Names of the PodDisruptionBudgets of its namespace whose selector it meets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget that covers a pod of this node; the numbers are its status."""

    namespace: str
    name: str
    allowed: int = 0
    """status.disruptionsAllowed."""
    healthy: int = 0
    desired: int = 0
    expected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfigMap:
    """The ConfigMap of kube-system from which kubeadm writes a kubelet's configuration file (F18, F20)."""

    name: str
    """`kubelet-config`, or `kubelet-config-1.X` before 1.24: the one that this cluster's kubeadm reads."""
    present: bool
    driver: str = ""
    """cgroupDriver in data.kubelet; empty: not stated, kubeadm's and the kubelet's defaults decide."""
    sha256: str = ""
    """Of data.kubelet."""
    renamed: tuple[str, ...] = ()
    """What data.kubelet insists on that is another cgroup under systemd, as `setting: value (its place there)` (F38, F43)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the API server says about this node; `reached` False: why not is in `reason`, and most else is empty."""

    kubeconfig: str = ""
    """The file that was used, empty: none was found."""
    origin: str = ""
    """Who named it: `option`, `admin` (/etc/kubernetes/admin.conf), `kubelet` (the kubelet's own)."""
    reached: bool = False
    reason: str = ""
    server: str = ""
    """URL of the API server."""
    version: str = ""
    """Of the API server, e.g. `1.20.2`."""
    kubectl: str = ""
    """Version of kubectl, e.g. `1.20.2`."""
    node_name: str = ""
    missing_rights: tuple[str, ...] = ()
    """What the user of the kubeconfig may not do of what a drain needs, e.g. `create pods/eviction`."""
    config_map_rights: tuple[str, ...] = ()
    """What it may not do of what a change of the kubelet's ConfigMap needs."""
    node: ClusterNode | None = None
    control_plane: tuple[ClusterNode, ...] = ()
    """All nodes of the control plane, this one too if it is one."""
    pods: tuple[ClusterPod, ...] = ()
    budgets: tuple[Budget, ...] = ()
    """Those that cover a pod of this node."""
    budgets_known: bool = True
    """False: the user of the kubeconfig may not list them, so what a budget keeps shows only in the drain."""
    etcd_unready: tuple[str, ...] = ()
    """Nodes whose etcd static pod is not Ready."""
    etcd_members: int = 0
    """etcd static pods in kube-system; 0: etcd is elsewhere."""
    etcd_healthy: bool | None = None
    """`/readyz/etcd` of the API server; None when it could not be asked."""
    config_map: KubeletConfigMap | None = None
    """None: no kubeadm cluster, or it may not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A place in a host file that names the tree of the cgroupfs driver (F65)."""

    line: int
    old: str
    """As it stands, with what looks like a credential masked."""
    new: str = ""
    """What it becomes on request; empty: it is left to a person, and `reason` says why."""
    reason: str = ""
    """`pattern`, `built`, `handed`, `word`, `unsure`, `runtime`, `tested`, `beside`: see `references.MEANING`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferringFile:
    """A file of the host, not of the kubelet or the runtime, that names the tree of the cgroupfs driver (F65)."""

    file: File
    kind: str
    """`cron`, `unit`, `environment`, `script`, `agent`, `kubernetes`, `system`."""
    references: tuple[Reference, ...]
    readers: tuple[str, ...] = ()
    """Units that read it when they start, as far as names and unit files tell; the kubelet's and the runtime's not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that checks, plan and verification may know about a node."""

    version: int
    node: Node
    kubelet: Kubelet
    runtime: Runtime
    cgroups: Cgroups
    manager: Manager = field(default_factory=Manager)
    pods: tuple[Pod, ...] = ()
    other_containers: tuple[Container, ...] = ()
    """Containers outside Kubernetes (F64)."""
    files: tuple[File, ...] = ()
    """Every file that was read to find an effective value, or that the plan could change."""
    unknowns: tuple[Unknown, ...] = ()
    cluster: Cluster | None = None
    """What the API server says; None for a standalone kubelet, an image, or when nobody asked."""
    references: tuple[ReferringFile, ...] = ()
    """Files of monitoring, cron jobs, units and agents that name the tree of the cgroupfs driver, by path."""
