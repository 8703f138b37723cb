# SPDX-License-Identifier: Apache-2.0
"""A whole node captured as files, looked at in one go."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.facts import store
from migrator.facts.gather import gather
from migrator.facts.model import Container, Driver, Manager, Pod, Source, Tree
from migrator.host import MAX_FILE
from tests.unit.nodes import Link, lay

POD = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
ID = "a1" * 32
PLACE = f"/kubepods/burstable/pod{POD}/{ID}"

CAPTURED: dict[str, str | bytes | Link | None] = {
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "/etc/hostname": "worker-7\n",
    "/etc/machine-id": "c3014b3140575cb7699f3bb52cd63120\n",
    "/proc/sys/kernel/osrelease": "5.10.0-21-amd64\n",
    "/proc/swaps": "Filename Type Size Used Priority\n",
    "/proc/self/mountinfo": (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    ),
    f"/sys/fs/cgroup/memory{PLACE}/cgroup.procs": "412\n",
    f"/sys/fs/cgroup/systemd{PLACE}/cgroup.procs": "412\n",
    "/proc/1/cgroup": "4:memory:/\n1:name=systemd:/init.scope\n",
    "/proc/412/cgroup": f"4:memory:{PLACE}\n1:name=systemd:{PLACE}\n",
    "/usr/lib/systemd/libsystemd-shared-247.so": "",
    "/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml --network-plugin=cni\n",
    "/var/lib/kubelet/config.yaml": "kind: KubeletConfiguration\ncgroupDriver: cgroupfs\n",
    "/var/lib/kubelet/kubeadm-flags.env": "",
    "/lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n",
    "/lib/systemd/system/docker.socket": "[Socket]\n",
    "/var/lib/kubelet/cpu_manager_state": '{"policyName":"none"}',
    "/etc/dbus-1/system-local.conf": '<limit name="max_connections_per_user">512</limit>',
    "/var/lib/dpkg/status": "Package: runc\nStatus: install ok installed\nVersion: 1.1.5+ds1-1\n",
    "/etc/docker/daemon.json": '{"exec-opts": ["native.cgroupdriver=systemd"]}\n',
}


def test_a_captured_node_tells_everything_that_its_files_hold(tmp_path: Path) -> None:
    said: list[str] = []
    facts = gather(lay(tmp_path, CAPTURED), said.append)
    assert said == [
        "the node",
        "the kubelet",
        "the container runtime",
        "the cgroup tree",
        "pods and containers",
        "host files that name the old tree",
    ]
    assert (facts.node.hostname, facts.node.cgroup_mode, facts.node.distribution) == (
        "worker-7",
        "legacy",
        "kubeadm",
    )
    in_file = Source(kind="config-file", value="cgroupfs", path="/var/lib/kubelet/config.yaml", line=2)
    assert facts.kubelet.driver == Driver(
        value="cgroupfs", chain=(Source(kind="default", value="cgroupfs"), in_file)
    )
    assert (facts.runtime.kind, facts.runtime.shim, facts.runtime.driver.value) == (
        "docker",
        "dockershim",
        "systemd",
    )
    assert facts.kubelet.checkpoints == (("/var/lib/kubelet/cpu_manager_state", "none"),)
    assert (facts.runtime.oci, facts.manager) == (
        "runc 1.1.5+ds1-1",
        Manager(bus_limit=512, mounts=3),
    )
    assert facts.cgroups.trees == tuple(
        Tree(driver="cgroupfs", mount=f"/sys/fs/cgroup/{each}", path="/kubepods", directories=4, populated=1)
        for each in ("memory", "systemd")
    )
    container = Container(id=ID, name="", pod_uid=POD, state="running", pids=(412,), cgroups=(PLACE,))
    assert facts.pods == (Pod(uid=POD, qos="burstable", driver="cgroupfs", containers=(container,)),)
    assert [unknown.subject for unknown in facts.unknowns] == ["kubelet.version"]
    assert [file.path for file in facts.files] == [
        "/etc/docker/daemon.json",
        "/etc/systemd/system/kubelet.service",
        "/lib/systemd/system/docker.service",
        "/var/lib/kubelet/config.yaml",
    ]


def test_two_looks_at_a_quiet_node_give_the_same_facts(tmp_path: Path) -> None:
    reader = lay(tmp_path, CAPTURED)
    assert store.dump(gather(reader)) == store.dump(gather(reader))


def test_an_empty_directory_is_a_node_of_which_nothing_is_known(tmp_path: Path) -> None:
    facts = gather(lay(tmp_path, {}))
    assert (facts.kubelet.present, facts.runtime.kind, facts.pods, facts.cgroups.trees) == (
        False,
        "unknown",
        (),
        (),
    )
    assert {"node.cgroup_mode", "runtime.kind"} <= {unknown.subject for unknown in facts.unknowns}
    assert store.load(store.dump(facts)) == facts


def test_a_file_that_is_too_large_to_be_a_configuration_is_unknown(tmp_path: Path) -> None:
    reader = lay(tmp_path, CAPTURED)
    os.truncate(tmp_path / "etc/docker/daemon.json", MAX_FILE + 1)
    facts = gather(reader)
    assert "/etc/docker/daemon.json" in [unknown.subject for unknown in facts.unknowns]
    assert facts.runtime.driver.value is None


def test_a_directory_in_the_place_of_a_file_is_unknown(tmp_path: Path) -> None:
    facts = gather(lay(tmp_path, CAPTURED | {"/etc/docker/daemon.json": None}))
    assert "/etc/docker/daemon.json" in [unknown.subject for unknown in facts.unknowns]
    assert facts.runtime.driver.value is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(path for path, what in CAPTURED.items() if isinstance(what, str))),
    st.binary(max_size=200),
)
def test_no_junk_in_any_file_of_a_node_is_an_error(tmp_path: Path, path: str, junk: bytes) -> None:
    for each, what in CAPTURED.items():
        lay(tmp_path, {each: what})
    lay(tmp_path, {path: junk})
    facts = gather(lay(tmp_path, {path: junk}))
    assert store.load(store.dump(facts)) == facts
