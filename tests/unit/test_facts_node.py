# SPDX-License-Identifier: Apache-2.0
"""What is known of the machine, from the files of an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.facts.look import Look
from migrator.facts.model import Hierarchy, Unknown
from migrator.facts.node import (
    cgroup_mode,
    detect_distribution,
    gather_node,
    os_name,
    own_hierarchies,
    parse_mountinfo,
)
from tests.unit.nodes import Link, lay

V1_CPU = "33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 31 0:32 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
V1_SYSTEMD = (
    "35 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd"
)
V2_HYBRID = "36 31 0:38 / /sys/fs/cgroup/unified rw shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
CILIUM = "99 23 0:26 / /run/cilium/cgroupv2 rw,relatime - cgroup2 none rw"
SECOND_MEMORY = "77 31 0:32 / /var/lib/kubelet/left\\040over rw - cgroup cgroup rw,memory"
OTHER = "23 1 8:1 / / rw - ext4 /dev/vda1 rw"

CPU = Hierarchy(mount="/sys/fs/cgroup/cpu,cpuacct", version=1, controllers=("cpu", "cpuacct"))
MEMORY = Hierarchy(mount="/sys/fs/cgroup/memory", version=1, controllers=("memory",))
SYSTEMD = Hierarchy(mount="/sys/fs/cgroup/systemd", version=1, controllers=("name=systemd",))
UNIFIED = Hierarchy(mount="/sys/fs/cgroup/unified", version=2)
WHOLE = Hierarchy(mount="/sys/fs/cgroup", version=2)


@pytest.mark.parametrize(
    ("lines", "own", "extra", "mode"),
    [
        ([OTHER, V1_CPU, V1_MEMORY, V1_SYSTEMD], (CPU, MEMORY, SYSTEMD), (), "legacy"),
        ([V1_CPU, V1_MEMORY, V1_SYSTEMD, V2_HYBRID], (CPU, MEMORY, SYSTEMD, UNIFIED), (), "hybrid"),
        ([V2], (WHOLE,), (), "unified"),
        # cilium mounts cgroup2 for itself: on cgroup v1 that makes no hybrid
        ([V1_CPU, CILIUM], (CPU,), ("/run/cilium/cgroupv2",), "legacy"),
        ([V2, CILIUM], (WHOLE,), ("/run/cilium/cgroupv2",), "unified"),
        ([V1_MEMORY, SECOND_MEMORY], (MEMORY,), ("/var/lib/kubelet/left over",), "legacy"),
        ([CILIUM], (Hierarchy(mount="/run/cilium/cgroupv2", version=2),), (), "unified"),
        # only a newline ends a line
        (
            [V1_MEMORY.replace("memory rw", "a\x0bb rw")],
            (replace(MEMORY, mount="/sys/fs/cgroup/a\x0bb"),),
            (),
            "legacy",
        ),
        ([OTHER, "", "junk - cgroup", "1 2 3 - cgroup2 x rw", "a b c d e f - cgroup"], (), (), "unknown"),
    ],
)
def test_hierarchies_come_from_mountinfo(
    lines: list[str], own: tuple[Hierarchy, ...], extra: tuple[str, ...], mode: str
) -> None:
    found, further = own_hierarchies(parse_mountinfo("\n".join(lines)))
    assert (own, extra, mode) == (found, further, cgroup_mode(found))


@given(st.text())
def test_no_junk_in_mountinfo_is_an_error(text: str) -> None:
    own, _ = own_hierarchies(parse_mountinfo(text))
    assert cgroup_mode(own) in {"legacy", "hybrid", "unified", "unknown"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n',
            "Debian GNU/Linux 12 (bookworm)",
        ),
        ("# comment\nNAME=Flatcar\n", "Flatcar"),
        ("ID='x'\n", "x"),
        ("junk\n=\n", ""),
        ("", ""),
    ],
)
def test_the_system_has_the_name_of_os_release(text: str, name: str) -> None:
    assert name == os_name(text)


KUBEADM = {"/var/lib/kubelet/kubeadm-flags.env": "", "/etc/systemd/system/kubelet.service": ""}


@pytest.mark.parametrize(
    ("files", "distribution", "evidence"),
    [
        ({"/var/lib/kubelet/kubeadm-flags.env": ""}, "kubeadm", "/var/lib/kubelet/kubeadm-flags.env"),
        (
            {
                "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": "",
                "/etc/kubernetes/kubelet.conf": "",
            },
            "kubeadm",
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        ),
        # kubeadm installed, and the node never joined: its kubelet is nobody's
        (
            {
                "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf": "",
                "/etc/systemd/system/kubelet.service": "",
            },
            "standalone",
            "/etc/systemd/system/kubelet.service",
        ),
        ({"/etc/systemd/system/k3s-agent.service": ""}, "k3s", "/etc/systemd/system/k3s-agent.service"),
        (
            {"/var/lib/rancher/rke2/agent/kubelet.kubeconfig": ""},
            "rke2",
            "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
        ),
        (
            {"/usr/local/lib/systemd/system/rke2-server.service": ""},
            "rke2",
            "/usr/local/lib/systemd/system/rke2-server.service",
        ),
        (
            {"/var/snap/microk8s/current": Link("1234"), "/var/snap/microk8s/1234/args/kubelet": ""},
            "microk8s",
            "/var/snap/microk8s/current/args/kubelet",
        ),
        ({"/etc/systemd/system/k0sworker.service": ""}, "k0s", "/etc/systemd/system/k0sworker.service"),
        ({"/etc/os-release": "NAME=Talos\nID=talos\n"}, "talos", "/etc/os-release"),
        (
            {
                "/etc/kubernetes/kubelet.env": "",
                "/etc/kubernetes/kubelet-config.yaml": "",
                "/var/lib/kubelet/kubeadm-flags.env": "",
            },
            "kubespray",
            "/etc/kubernetes/kubelet.env",
        ),
        ({"/usr/lib/os-release": 'ID="bottlerocket"\n'}, "bottlerocket", "/etc/os-release"),
        ({"/etc/os-release": "ID=talosish\n"}, "unknown", ""),
        ({"/etc/os-release": "ID=debian\nID_LIKE=talos\n"}, "unknown", ""),
        # an EKS image that still has the old script runs the new program at each boot
        (
            {"/etc/eks/bootstrap.sh": "", "/etc/systemd/system/nodeadm-run.service": ""},
            "eks-nodeadm",
            "/etc/systemd/system/nodeadm-run.service",
        ),
        ({"/etc/eks/bootstrap.sh": ""}, "eks", "/etc/eks/bootstrap.sh"),
        # minikube and kind use kubeadm
        (
            {"/var/lib/minikube/certs/ca.crt": "", "/var/lib/kubelet/kubeadm-flags.env": ""},
            "minikube",
            "/var/lib/minikube/certs/ca.crt",
        ),
        ({"/kind/version": "", "/var/lib/kubelet/kubeadm-flags.env": ""}, "kind", "/kind/version"),
        # what others left behind is no sign of them
        *(
            ({path: None, **KUBEADM}, "kubeadm", "/var/lib/kubelet/kubeadm-flags.env")
            for path in (
                "/var/lib/k0s",
                "/opt/kops/conf",
                "/var/lib/minikube/certs",
                "/var/lib/rancher/k3s/agent",
                "/var/lib/rancher/rke2/agent",
                "/var/snap/k8s/common",
                "/etc/machine-config-daemon",
            )
        ),
        *(
            ({path: "", **KUBEADM}, "kubeadm", "/var/lib/kubelet/kubeadm-flags.env")
            for path in (
                "/var/lib/k0s/kubelet.conf",
                "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
                "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
                "/var/snap/k8s/common/args/kubelet",
                "/var/snap/microk8s/current/args/kubelet",
            )
        ),
        *(
            ({path: "", **KUBEADM}, "kubeadm", "/var/lib/kubelet/kubeadm-flags.env")
            for path in (
                "/etc/systemd/system/k3s-agent.service",
                "/usr/local/lib/systemd/system/rke2-server.service",
                "/etc/systemd/system/k0scontroller.service",
                "/etc/systemd/system/snap.microk8s.daemon-kubelite.service",
                "/etc/systemd/system/snap.k8s.kubelet.service",
                "/opt/kops/conf/kube_env.yaml",
                "/var/lib/minikube/certs/ca.crt",
            )
        ),
        (
            {
                "/var/lib/minikube/certs/ca.crt": "",
                "/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": "",
                "/etc/kubernetes/kubelet.conf": "",
                **KUBEADM,
            },
            "kubeadm",
            "/var/lib/kubelet/kubeadm-flags.env",
        ),
        # and what is in use beside a kubelet is one
        (
            {
                "/var/lib/minikube/certs/ca.crt": "",
                "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf": "[Service]\nExecStart=\n"
                "ExecStart=/var/lib/minikube/binaries/v1.28.3/kubelet --config=/var/lib/kubelet/config.yaml\n",
                **KUBEADM,
            },
            "minikube",
            "/var/lib/minikube/certs/ca.crt",
        ),
        (
            {
                "/etc/systemd/system/k3s-agent.service": "",
                "/etc/systemd/system/multi-user.target.wants/k3s-agent.service": Link("../k3s-agent.service"),
                **KUBEADM,
            },
            "k3s",
            "/etc/systemd/system/k3s-agent.service",
        ),
        (
            {
                "/opt/kops/conf/kube_env.yaml": "",
                "/lib/systemd/system/kops-configuration.service": "",
                **KUBEADM,
            },
            "kops",
            "/lib/systemd/system/kops-configuration.service",
        ),
        ({"/opt/kops/conf/kube_env.yaml": ""}, "kops", "/opt/kops/conf/kube_env.yaml"),
        (
            {
                "/etc/systemd/system/snap.microk8s.daemon-kubelite.service": "",
                "/etc/systemd/system/multi-user.target.wants/snap.microk8s.daemon-kubelite.service": "",
                **KUBEADM,
            },
            "microk8s",
            "/etc/systemd/system/snap.microk8s.daemon-kubelite.service",
        ),
        ({"/var/lib/k0s/kubelet.conf": ""}, "k0s", "/var/lib/k0s/kubelet.conf"),
        ({}, "unknown", ""),
    ],
)
def test_the_distribution_is_told_by_its_files(
    tmp_path: Path, files: dict[str, str | Link | None], distribution: str, evidence: str
) -> None:
    assert (distribution, evidence) == detect_distribution(Look(lay(tmp_path, files)))[:2]


@pytest.mark.parametrize(
    ("files", "decides"),
    [
        ({"/var/lib/k0s/kubelet.conf": ""}, ()),
        (
            {
                "/var/lib/k0s/kubelet.conf": "",
                "/etc/k0s/containerd.d/b.toml": "",
                "/etc/k0s/containerd.d/a.toml": "",
                "/etc/k0s/containerd.d/a.toml.bak": "",
                "/etc/k0s/k0s.yaml": "",
            },
            ("/etc/k0s/k0s.yaml", "/etc/k0s/containerd.d/a.toml", "/etc/k0s/containerd.d/b.toml"),
        ),
        (
            {"/var/lib/rancher/k3s/agent/kubelet.kubeconfig": "", "/etc/rancher/k3s/config.yaml": ""},
            ("/etc/rancher/k3s/config.yaml",),
        ),
    ],
)
def test_a_distribution_s_own_files_that_decide_are_named(
    tmp_path: Path, files: dict[str, str | Link | None], decides: tuple[str, ...]
) -> None:
    assert decides == detect_distribution(Look(lay(tmp_path, files)))[2]


def test_an_image_tells_what_its_files_tell(tmp_path: Path) -> None:
    look = Look(
        lay(
            tmp_path,
            {
                "/etc/os-release": "NAME=Debian\n",
                "/etc/hostname": "worker-7\n",
                "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
                "/proc/self/mountinfo": f"{V2}\n",
                "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory pids\n",
                "/proc/sys/kernel/osrelease": "6.1.0-13-amd64\n",
                "/proc/sys/kernel/arch": "x86_64\n",
                "/proc/sys/kernel/random/boot_id": "4cbd\n",
                "/proc/swaps": "Filename Type Size Used Priority\n/swapfile file 1 0 -2\n",
                "/proc/cpuinfo": "processor\t: 0\nflags\t: a\nprocessor\t: 1\n",
                "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so": "",
                "/sbin/init": Link("/lib/systemd/systemd"),
                "/lib/systemd/systemd": "",
                "/etc/selinux/config": "# x\nSELINUX=permissive\n",
            },
        )
    )
    node = gather_node(look)
    assert (node.hostname, node.os, node.kernel, node.architecture) == (
        "worker-7",
        "Debian",
        "6.1.0-13-amd64",
        "x86_64",
    )
    assert (node.machine_id, node.boot_id) == ("0123456789abcdef0123456789abcdef", "4cbd")
    assert (node.cgroup_mode, node.hierarchies) == ("unified", (WHOLE,))
    assert node.controllers == ("cpu", "cpuset", "memory", "pids")
    assert (node.systemd_version, node.init_systemd, node.live) == (252, True, False)
    assert (node.swap, node.cpus, node.selinux) == (True, 2, "permissive")
    assert look.unknowns == []


def test_what_an_empty_image_cannot_tell_is_unknown_and_says_why(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {}))
    node = gather_node(look)
    assert (node.kernel, node.cgroup_mode, node.systemd_version, node.init_systemd) == (
        "",
        "unknown",
        None,
        False,
    )
    assert look.unknowns == [
        Unknown(subject="node.cgroup_mode", reason="there is no /proc/self/mountinfo to read"),
        Unknown(subject="node.kernel", reason="the image holds no /proc/sys/kernel/osrelease"),
        Unknown(subject="node.systemd_version", reason="no systemd was found that tells its version"),
        Unknown(subject="node.swap", reason="there is no /proc/swaps to read"),
    ]
