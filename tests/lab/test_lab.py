# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what a node is, that nodes do not see each other, and that nothing of one is left."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from . import machine as machines
from .conftest import MakeNode
from .node import PODS, Container, Node

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "tests.lab"]
EVERY_CONTAINER = [
    ("besteffort", "main"),
    ("burstable", "app"),
    ("burstable", "sidecar"),
    ("guaranteed", "main"),
]
QOS_DIRECTORY = {"besteffort": "/besteffort", "burstable": "/burstable", "guaranteed": ""}


def names(containers: list[Container]) -> list[tuple[str, str]]:
    return [(container.pod, container.name) for container in containers]


def place(node: Node, container: Container, hierarchy: str) -> str:
    """Return where a container's process is, with the pod's uid written as UID."""
    lines = node.read(f"/proc/{container.pid}/cgroup").splitlines()
    (path,) = [path for _, name, path in (line.split(":", 2) for line in lines) if name == hierarchy]
    return re.sub(r"pod[0-9a-f]{32}", "podUID", path)


def test_every_container_runs_under_kubepods_and_nothing_under_kubepods_slice(node: Node) -> None:
    containers = node.containers()
    assert names(containers) == EVERY_CONTAINER
    for hierarchy in ("memory", "name=systemd", "pids", "cpu"):
        expected = [f"/kubepods{QOS_DIRECTORY[c.pod]}/podUID/{c.id}" for c in containers]
        assert [place(node, container, hierarchy) for container in containers] == expected
    cgroups = node.cgroups()
    assert {"memory", "systemd", "unified"} <= set(cgroups)
    assert [path for paths in cgroups.values() for path in paths if path.startswith("/kubepods.slice")] == []


def test_limits_of_the_pods_are_in_the_kernel(node: Node) -> None:
    root = node.cgroup_roots()["memory"]
    limits = {
        (container.pod, container.name): int((root / place_on_host / "memory.limit_in_bytes").read_text())
        for container in node.containers()
        for place_on_host in [
            node.read(f"/proc/{container.pid}/cgroup").split(":memory:/")[1].splitlines()[0]
        ]
    }
    del limits["besteffort", "main"]
    mebi = 1 << 20
    assert limits == {
        ("burstable", "app"): 96 * mebi,
        ("burstable", "sidecar"): 32 * mebi,
        ("guaranteed", "main"): 64 * mebi,
    }


def test_systemd_is_the_first_process_and_manages_the_v1_controllers_as_on_a_real_node(node: Node) -> None:
    assert "0::/init.scope\n" in node.read("/proc/1/cgroup")
    assert ":memory:/init.scope\n" in node.read("/proc/1/cgroup")
    assert node.run("systemctl --failed --no-legend").stdout == ""


def test_two_nodes_at_once_do_not_see_each_other(make_node: MakeNode) -> None:
    first, second = make_node("docker"), make_node("docker")
    ids = {node: {container.id for container in node.containers()} for node in (first, second)}
    assert ids[first] & ids[second] == set()
    for node, other in ((first, second), (second, first)):
        here = " ".join(path for paths in node.cgroups().values() for path in paths)
        assert [id_ for id_ in ids[node] if id_ not in here] == []
        assert [id_ for id_ in ids[other] if id_ in here] == []
        assert node.run("ip -brief address show host0").stdout.split()[2] == "10.99.0.2/24"
    first.destroy()
    assert names(second.wait_pods()) == EVERY_CONTAINER


def test_after_a_power_cut_the_node_boots_with_its_pods_and_without_the_old_cgroups(node: Node) -> None:
    node.write("/etc/marker", "before\n")
    old = {container.id for container in node.containers()}
    boot = node.read("/proc/sys/kernel/random/boot_id")
    node.power_cut()
    assert node.init is None
    assert node.read("/etc/marker") == "before\n"
    node.boot()
    assert names(node.wait_pods()) == EVERY_CONTAINER
    assert node.read("/proc/sys/kernel/random/boot_id") != boot
    here = " ".join(path for paths in node.cgroups().values() for path in paths)
    assert [id_ for id_ in old if id_ in here] == []


def test_a_reboot_brings_the_pods_back(node: Node) -> None:
    boot = node.read("/proc/sys/kernel/random/boot_id")
    node.reboot()
    assert names(node.wait_pods()) == EVERY_CONTAINER
    assert node.read("/proc/sys/kernel/random/boot_id") != boot


def traces(node: Node, namespace: str) -> dict[str, list[str]]:
    """Return all that is left of a node on this machine."""
    mounts = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{node.name}/" in line
    ]
    processes = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if os.readlink(path) == namespace:
                processes.append(str(path))
        except (FileNotFoundError, ProcessLookupError):
            continue
    spool = Path("/run/systemd/nspawn/propagate") / node.name
    return {
        "mounts": mounts,
        "processes in its network": processes,
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*{node.name}*")],
        "files": [str(path) for path in (node.dir, spool) if path.exists()],
    }


def test_destroy_leaves_no_process_mount_network_or_cgroup(node: Node) -> None:
    links = sorted(Path("/sys/class/net").iterdir())
    namespace = os.readlink(f"/proc/{node.init}/ns/net")
    before = traces(node, namespace)
    assert [kind for kind, found in before.items() if not found] == []
    node.destroy()
    assert traces(node, namespace) == {kind: [] for kind in before}
    assert sorted(Path("/sys/class/net").iterdir()) == links


def wait_until_on(name: str) -> Node:
    node = Node(name)
    machines.until(f"{name} to be on", lambda: node.init is not None, 60)
    return node


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("lab")
def test_an_interrupted_up_leaves_nothing(sent: signal.Signals) -> None:
    name = f"interrupted-{os.getpid()}"
    with subprocess.Popen([*LAB, "up", "--name", name], cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        node = wait_until_on(name)
        namespace = os.readlink(f"/proc/{node.init}/ns/net")
        process.send_signal(sent)
        assert process.wait(60) == 128 + sent
    assert traces(node, namespace) == {
        "mounts": [],
        "processes in its network": [],
        "cgroups": [],
        "files": [],
    }


@pytest.mark.usefixtures("lab")
def test_prune_tears_down_the_node_of_a_killed_process() -> None:
    name = f"orphan-{os.getpid()}"
    code = f"from tests.lab.node import Node; n = Node.create('docker', {name!r}); n.boot(); input()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdin=subprocess.PIPE) as process:
        node = wait_until_on(name)
        namespace = os.readlink(f"/proc/{node.init}/ns/net")
        process.kill()
    assert traces(node, namespace)["processes in its network"] != []
    subprocess.run([*LAB, "prune"], cwd=CHECKOUT, check=True)
    assert traces(node, namespace) == {
        "mounts": [],
        "processes in its network": [],
        "cgroups": [],
        "files": [],
    }


def test_the_documented_procedure_ends_healthy_and_leaves_the_old_tree(node: Node) -> None:
    before = node.cgroups()
    old = {container.id for container in node.containers()}
    seconds = node.manual_migration()
    assert 0 < seconds < 60
    # The kubelet replaces the containers some seconds after it is healthy.
    machines.until("new containers", lambda: not old & {container.id for container in node.containers()}, 60)
    containers = node.wait_pods()
    scope = {"docker": "docker", "containerd": "cri-containerd"}[node.flavour]
    for container in containers:
        qos = "" if container.pod == "guaranteed" else f"-{container.pod}"
        above = "/kubepods.slice" if container.pod == "guaranteed" else f"/kubepods.slice/kubepods{qos}.slice"
        expected = f"{above}/kubepods{qos}-podUID.slice/{scope}-{container.id}.scope"
        assert place(node, container, "memory") == expected
        assert place(node, container, "name=systemd") == expected
    after = node.cgroups()
    for hierarchy in ("memory", "systemd", "unified"):
        stale = {path for path in before[hierarchy] if path.count("/") <= 2}  # /kubepods and its QoS cgroups
        assert stale - set(after[hierarchy]) == set()


def test_a_signal_reaches_the_command_in_the_node(node: Node) -> None:
    with node.popen(["sleep", "4321"]) as process:
        machines.until(
            "sleep", lambda: node.run("pgrep -x sleep -a | grep 4321", check=False).returncode == 0, 10
        )
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert node.run("pgrep -f '^sleep 4321'", check=False).stdout == ""
    with node.popen("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(10) == 7


def test_the_checkout_is_live_in_the_node_with_its_libraries(node: Node) -> None:
    source = CHECKOUT / "migrator/__init__.py"
    assert node.read("/opt/cgmigrate/migrator/__init__.py") == source.read_text()
    libraries = "typer, questionary, dbus_next, jsonschema, ruamel.yaml, grpc, google.protobuf, rich"
    code = f"import migrator, {libraries}; print(migrator.__file__)"
    path = {"PYTHONPATH": "/opt/cgmigrate:/opt/cgmigrate/lib"}
    assert node.run(["python3", "-P", "-c", code], env=path).stdout == "/opt/cgmigrate/migrator/__init__.py\n"


def test_the_manifests_are_the_pods_that_are_waited_for() -> None:
    manifests = Path(__file__).with_name("files") / "standalone/etc/kubernetes/manifests"
    assert {path.stem for path in manifests.iterdir()} == set(PODS)
