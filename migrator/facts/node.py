# SPDX-License-Identifier: Apache-2.0
"""The machine: system, cgroup mode and hierarchies, systemd, and whose Kubernetes distribution it is."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Hierarchy, Node

UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where a unit's file and drop-ins are looked for, first wins: systemd.unit(5), "Unit File Load Path"."""

CGROUP_ROOT = "/sys/fs/cgroup"
NO_KUBELET = "!kubelet.service"

# cgroups(7) and the kernel's cgroup_subsys.h: what else stands among a v1 mount's options is an option.
_V1_CONTROLLERS = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "debug", "devices", "freezer", "hugetlb"),
        *("memory", "misc", "net_cls", "net_prio", "perf_event", "pids", "rdma"),
    )
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How one distribution is told, and which of its files or settings decide the driver there (failure-modes 2.4)."""

    name: str
    marks: tuple[tuple[str, ...], ...]
    """Alternatives, of each all must be there, or with `!` not: absolute paths, or names below systemd's unit directories.

    `*` in the folder of a unit is any; what stands after `=` is in the file. An empty directory tells nothing: one made it and
    went. What a product left behind tells nothing either where a kubelet is a service of its own, for two kubelets do not
    run on one node; a service of the product tells there, if it starts at boot.
    """
    decides: tuple[str, ...] = ()
    """Its own files that decide the driver, or would if they were there; `*` in the last component."""


def _starts(*units: str) -> Iterator[tuple[str, ...]]:
    """Yield the marks of services that are a kubelet themselves."""
    for unit in units:
        yield from ((unit, NO_KUBELET), (unit, f"*.wants/{unit}"))


# First match wins: a product that brings its own kubelet or writes a kubelet's files at each boot before kubeadm,
# whose files some of them leave as well (F19).
DISTRIBUTIONS: tuple[Distribution, ...] = (
    Distribution(
        "rke2",
        (
            *_starts("rke2-server.service", "rke2-agent.service"),
            ("/var/lib/rancher/rke2/agent/kubelet.kubeconfig", NO_KUBELET),
        ),
        (
            "/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.tmpl",
            "/var/lib/rancher/rke2/agent/etc/containerd/config.toml.tmpl",
            "/etc/rancher/rke2/config.yaml",
        ),
    ),
    Distribution(
        "k3s",
        (
            *_starts("k3s.service", "k3s-agent.service"),
            ("/var/lib/rancher/k3s/agent/kubelet.kubeconfig", NO_KUBELET),
        ),
        (
            "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl",
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl",
            "/etc/rancher/k3s/config.yaml",
        ),
    ),
    Distribution(
        "microk8s",
        (
            *_starts("snap.microk8s.daemon-kubelite.service", "snap.microk8s.daemon-kubelet.service"),
            ("/var/snap/microk8s/current/args/kubelet", NO_KUBELET),
        ),
        (
            "/var/snap/microk8s/current/args/kubelet",
            "/var/snap/microk8s/current/args/containerd-template.toml",
        ),
    ),
    Distribution(
        "k8s-snap",
        (*_starts("snap.k8s.kubelet.service"), ("/var/snap/k8s/common/args/kubelet", NO_KUBELET)),
        ("/var/snap/k8s/common/args/kubelet",),
    ),
    Distribution(
        "k0s",
        (*_starts("k0sworker.service", "k0scontroller.service"), ("/var/lib/k0s/kubelet.conf", NO_KUBELET)),
        ("/etc/k0s/k0s.yaml", "/etc/k0s/containerd.d/*.toml", "/etc/k0s/containerd.toml"),
    ),
    Distribution(
        "openshift",
        (("machine-config-daemon-firstboot.service",), ("/etc/machine-config-daemon/currentconfig",)),
    ),
    Distribution(
        "kops",
        (("kops-configuration.service",), ("/opt/kops/conf/kube_env.yaml", NO_KUBELET)),
        ("/opt/kops/conf/kube_env.yaml",),
    ),
    Distribution(
        "eks-nodeadm",
        (("nodeadm-config.service",), ("nodeadm-run.service",)),
        ("/etc/eks/nodeadm.d/*.yaml",),
    ),
    Distribution("eks", (("/etc/eks/bootstrap.sh",),), ("/etc/kubernetes/kubelet/kubelet-config.json",)),
    Distribution(
        "minikube",
        (
            ("/var/lib/minikube/certs/ca.crt", NO_KUBELET),
            ("/var/lib/minikube/certs/ca.crt", "kubelet.service.d/10-kubeadm.conf=/var/lib/minikube/"),
        ),
    ),
    Distribution("kind", (("/kind/kubeadm.conf",), ("/kind/version",)), ("/kind/kubeadm.conf",)),
    Distribution("kubespray", (("/etc/kubernetes/kubelet.env", "/etc/kubernetes/kubelet-config.yaml"),)),
    Distribution(
        "kubeadm",
        (
            ("/var/lib/kubelet/kubeadm-flags.env",),
            ("kubelet.service.d/10-kubeadm.conf", "/etc/kubernetes/kubelet.conf"),
        ),
    ),
    Distribution("standalone", (("kubelet.service",),)),
)
BY_SYSTEM = ("talos", "bottlerocket")
"""Systems that are one distribution's, by the ID of os-release(5)."""


def gather_node(look: Look) -> Node:
    """Return what the machine is; what an image cannot tell is noted as unknown."""
    reader = look.reader
    hierarchies, extra = _hierarchies(look)
    distribution, evidence, decides = detect_distribution(look)
    system = os.uname() if reader.live else None
    kernel = system.release if system else _line(look, "/proc/sys/kernel/osrelease")
    if not kernel:
        look.unknown("node.kernel", "the image holds no /proc/sys/kernel/osrelease")
    return Node(
        hostname=system.nodename if system else _line(look, "/etc/hostname"),
        machine_id=_line(look, "/etc/machine-id"),
        boot_id=_line(look, "/proc/sys/kernel/random/boot_id"),
        os=os_name(reader.text("/etc/os-release") or reader.text("/usr/lib/os-release") or ""),
        kernel=kernel,
        architecture=system.machine if system else _line(look, "/proc/sys/kernel/arch"),
        uid=os.geteuid(),
        live=reader.live,
        init_systemd=reader.exists("/run/systemd/system") or (not reader.live and _init_is_systemd(look)),
        systemd_version=_systemd_version(look),
        cgroup_mode=cgroup_mode(hierarchies),
        hierarchies=hierarchies,
        controllers=_controllers(look, hierarchies),
        extra_cgroup_mounts=extra,
        selinux=_selinux(look),
        swap=_swap(look),
        cpus=_cpus(look),
        page_size=os.sysconf("SC_PAGE_SIZE") if reader.live else 4096,
        distribution=distribution,
        distribution_evidence=evidence,
        distribution_files=decides,
    )


def os_name(text: str) -> str:
    """Return the system's name from the text of os-release(5), or empty."""
    values = dict(line.strip().split("=", 1) for line in text.splitlines() if re.match(r"\s*[A-Z_]+=", line))
    name = values.get("PRETTY_NAME") or values.get("NAME") or values.get("ID") or ""
    return name.strip("\"'")


def parse_mountinfo(text: str) -> tuple[Hierarchy, ...]:
    """Return every cgroup mount in the text of proc_pid_mountinfo(5), in its order; other lines and junk are skipped."""
    found = []
    for line in text.split("\n"):  # a mount point may hold what `splitlines` takes for an end of line
        before, separator, after = line.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(types) < 3 or types[0] not in ("cgroup", "cgroup2"):
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        if types[0] == "cgroup2":
            found.append(Hierarchy(mount=mount, version=2))
            continue
        options = types[2].split(",")
        names = [name for name in options if name in _V1_CONTROLLERS or name.startswith("name=")]
        found.append(Hierarchy(mount=mount, version=1, controllers=tuple(sorted(names))))
    return tuple(found)


def own_hierarchies(
    mounts: Iterable[Hierarchy],
) -> tuple[tuple[Hierarchy, ...], tuple[str, ...]]:
    """Split cgroup mounts into the system's own and the mount points of further ones (F21).

    A hierarchy can be mounted many times (cilium mounts cgroup2 for itself, containers see bind mounts). The system's
    own are below /sys/fs/cgroup, one per set of controllers; without any there, the first of each set.
    """
    mounts = tuple(mounts)
    at_home = [each for each in mounts if (each.mount + "/").startswith(CGROUP_ROOT + "/")]
    own: dict[tuple[int, tuple[str, ...]], Hierarchy] = {}
    for each in at_home or mounts:
        own.setdefault((each.version, each.controllers), each)
    chosen = tuple(sorted(own.values(), key=lambda each: each.mount))
    extra = sorted({each.mount for each in mounts} - {each.mount for each in chosen})
    return chosen, tuple(extra)


def cgroup_mode(hierarchies: Iterable[Hierarchy]) -> str:
    """Return `legacy`, `hybrid`, `unified` or `unknown`; systemd's CGROUP_DELEGATION.md says how to tell."""
    versions = {each.version for each in hierarchies}
    return {(1,): "legacy", (1, 2): "hybrid", (2,): "unified"}.get(tuple(sorted(versions)), "unknown")


def detect_distribution(look: Look) -> tuple[str, str, tuple[str, ...]]:
    """Return the distribution that owns this node's kubelet, the path that told it, and its files that decide the driver.

    Of those only what is there.
    """
    release = look.reader.text("/etc/os-release") or look.reader.text("/usr/lib/os-release") or ""
    for name in BY_SYSTEM:
        if re.search(rf"^ID=[\"']?{name}\b", release, re.MULTILINE):
            return name, "/etc/os-release", ()
    for each in DISTRIBUTIONS:
        for needed in each.marks:
            found = [_find(look, path.removeprefix("!")) for path in needed]
            if all(bool(path) is not mark.startswith("!") for path, mark in zip(found, needed, strict=True)):
                return each.name, found[0], tuple(_existing(look, each.decides))
    return "unknown", "", ()


def _existing(look: Look, patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        directory, _, name = pattern.rpartition("/")
        if "*" in name:
            yield from (f"{directory}/{each}" for each in fnmatch.filter(look.reader.names(directory), name))
        elif look.reader.exists(pattern):
            yield pattern


def _find(look: Look, path: str) -> str:
    """Return where a mark is (see `Distribution`); empty when nowhere."""
    path, _, text = path.partition("=")
    candidates = [path] if path.startswith("/") else [f"{directory}/{path}" for directory in UNIT_DIRECTORIES]
    if "*" in path:
        folder, _, name = path.partition("/")
        candidates = [
            f"{directory}/{each}/{name}"
            for directory in UNIT_DIRECTORIES
            for each in fnmatch.filter(look.reader.names(directory), folder)
        ]
    found = next((each for each in candidates if look.reader.exists(each)), "")
    return found if not text or text in (look.reader.text(found) or "") else ""


def _hierarchies(look: Look) -> tuple[tuple[Hierarchy, ...], tuple[str, ...]]:
    text = look.reader.text("/proc/self/mountinfo")
    if text is None:
        look.unknown("node.cgroup_mode", "there is no /proc/self/mountinfo to read")
        return (), ()
    own, extra = own_hierarchies(parse_mountinfo(text))
    if not own:
        look.unknown("node.cgroup_mode", "no cgroup hierarchy is mounted")
    return own, extra


def _controllers(look: Look, hierarchies: tuple[Hierarchy, ...]) -> tuple[str, ...]:
    found = {name for each in hierarchies for name in each.controllers if not name.startswith("name=")}
    for each in hierarchies:
        if each.version == 2:
            found.update((look.reader.text(f"{each.mount}/cgroup.controllers") or "").split())
    return tuple(sorted(found))


def _systemd_version(look: Look) -> int | None:
    """Return systemd's version as it says, or, in an image, as the name of its private library does."""
    if look.reader.live:
        try:
            said = look.reader.run(["systemctl", "--version"])
        except HostError as error:
            look.unknown("node.systemd_version", error)
            return None
        match = re.match(r"systemd (\d+)", said.stdout)
    else:
        libraries = [
            f"/usr/lib/{name}/systemd" for name in look.reader.names("/usr/lib") if "-linux-" in name
        ]
        names = [
            name
            for directory in ("/usr/lib/systemd", "/lib/systemd", *libraries)
            for name in look.reader.names(directory)
        ]
        found = (re.match(r"libsystemd-shared-(\d+)\b.*\.so$", name) for name in names)
        match = next((each for each in found if each), None)
    if match is None:
        look.unknown("node.systemd_version", "no systemd was found that tells its version")
        return None
    return int(match[1])


def _init_is_systemd(look: Look) -> bool:
    try:
        return look.reader.resolve("/sbin/init").name == "systemd"
    except HostError:
        return False


def _selinux(look: Look) -> str:
    enforce = look.reader.text("/sys/fs/selinux/enforce")
    if enforce is not None:
        return "enforcing" if enforce.strip() == "1" else "permissive"
    configured = re.search(
        r"^\s*SELINUX\s*=\s*(\w+)", look.reader.text("/etc/selinux/config") or "", re.MULTILINE
    )
    if configured is None:
        return ""
    return "disabled" if look.reader.live else configured[1].lower()


def _swap(look: Look) -> bool:
    text = look.reader.text("/proc/swaps")
    if text is None:
        look.unknown("node.swap", "there is no /proc/swaps to read")
        return False
    return any(line.split() for line in text.splitlines()[1:])


def _cpus(look: Look) -> int:
    if look.reader.live:
        return os.cpu_count() or 0
    return len(re.findall(r"^processor\s*:", look.reader.text("/proc/cpuinfo") or "", re.MULTILINE))


def _line(look: Look, path: str) -> str:
    # The kernel refuses to read more than it can allocate at once from a sysctl, however short the value is.
    return (look.reader.text(path, limit=1 << 16) or "").strip()
