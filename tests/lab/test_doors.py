# SPDX-License-Identifier: Apache-2.0
"""The doors to systemd and the runtimes, opened on real nodes: each script runs inside one and prints JSON."""

import json
from typing import Any

import pytest

from .conftest import MakeNode
from .node import PODS, Node

RUNTIME_UNIT = {"docker": "docker.service", "containerd": "containerd.service"}

_PROLOGUE = """
import json, subprocess, threading, time
from dataclasses import asdict
from migrator.containers import RuntimeContainer
from migrator.cri import Cri, CriControl
from migrator.docker import Docker, DockerControl
from migrator.errors import HostError
from migrator.host import Host
from migrator.systemd import UnitControl, Units

def tell(value):
    print(json.dumps(value, default=str))

def refused(call, *arguments):
    try:
        call(*arguments)
    except HostError as error:
        return error.message
    return None

def restart_bus(after):
    def restart():
        time.sleep(after)
        subprocess.run(["systemctl", "restart", "dbus.service"], check=True)
    threading.Thread(target=restart).start()

reader = Host()
"""
_RUNTIME = {"docker": "runtime = DockerControl(reader)\n", "containerd": "runtime = CriControl()\n"}


def ask(node: Node, script: str, *, opener: str = "") -> Any:
    """Run a script in the node; return what it told. Anything on stderr is a defect: it would be the operator's terminal."""
    done = node.run(
        [
            "env",
            "PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib",
            "python3",
            "-P",
            "-c",
            _PROLOGUE + opener + script,
        ],
        timeout=120,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def show(node: Node, unit: str, *properties: str) -> list[str]:
    return [node.run(["systemctl", "show", "-P", each, unit]).stdout.strip() for each in properties]


def test_a_state_is_what_systemctl_shows(node: Node) -> None:
    units = ["kubelet.service", RUNTIME_UNIT[node.flavour], "nope.service"]
    told = ask(node, f"with Units(reader) as units: tell([asdict(each) for each in units.states({units})])")
    for unit, state in zip(units, told, strict=True):
        names = (
            "Id",
            "LoadState",
            "ActiveState",
            "SubState",
            "UnitFileState",
            "FragmentPath",
            "InvocationID",
        )
        fields = (
            "name",
            "load_state",
            "active_state",
            "sub_state",
            "unit_file_state",
            "fragment_path",
            "invocation_id",
        )
        assert [state[field] for field in fields] == show(node, unit, *names)
        pid = show(node, unit, "MainPID", "ControlGroup", "NRestarts")
        assert [str(state["main_pid"]), state["control_group"], str(state["n_restarts"])] == pid
    assert told[0]["drop_in_paths"] == ["/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"]
    assert told[2]["load_state"] == "not-found"


def test_show_and_list_take_patterns_and_name_what_matches(node: Node) -> None:
    script = """
with Units(reader) as units:
    shown = units.show(["kubel*.service", "nope*.slice", "init.scope"], ["ControlGroup", "MemoryLimit", "CPUShares"])
    tell([shown, [asdict(each) for each in units.list("kubel*", "nope*")], units.properties("kubelet.service")["MainPID"]])
"""
    shown, listed, pid = ask(node, script)
    assert {name: each["ControlGroup"] for name, each in shown.items()} == {
        "kubelet.service": "/system.slice/kubelet.service",
        "init.scope": "/init.scope",
    }
    assert shown["init.scope"]["MemoryLimit"] == "infinity"
    assert [(each["name"], each["active_state"], each["job_type"]) for each in listed] == [
        ("kubelet.service", "active", "")
    ]
    assert [str(pid)] == show(node, "kubelet.service", "MainPID")


def test_units_start_and_stop_while_the_bus_is_restarted_between_the_calls(node: Node) -> None:
    runtime = RUNTIME_UNIT[node.flavour]
    script = f"""
seen = []
with UnitControl(reader) as units:
    for verb, unit in (("stop", "kubelet.service"), ("stop", "kubelet.service"), ("stop", {runtime!r}),
                       ("start", {runtime!r}), ("start", "kubelet.service"), ("restart", "kubelet.service")):
        state = getattr(units, verb)(unit)
        seen.append([verb, unit, state.active_state, state.main_pid > 0, state.invocation_id])
        subprocess.run(["systemctl", "restart", "dbus.service"], check=True)
        units.reload()
tell(seen)
"""
    before = show(node, "kubelet.service", "InvocationID")[0]
    told = ask(node, script)
    assert [each[:4] for each in told] == [
        ["stop", "kubelet.service", "inactive", False],
        ["stop", "kubelet.service", "inactive", False],
        ["stop", runtime, "inactive", False],
        ["start", runtime, "active", True],
        ["start", "kubelet.service", "active", True],
        ["restart", "kubelet.service", "active", True],
    ]
    assert len({before, told[4][4], told[5][4]}) == 3
    node.wait_pods()


def test_a_job_that_is_under_way_when_the_bus_goes_is_waited_for(make_node: MakeNode) -> None:
    node = make_node("containerd")
    node.write(
        "/run/systemd/system/slow.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 3\nExecStop=/bin/sleep 2\n",
    )
    node.write(
        "/run/systemd/system/bad.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 2; exit 1'\n"
    )
    node.write(
        "/run/systemd/system/unmet.service",
        "[Unit]\nConditionPathExists=/nope\n[Service]\nExecStart=/bin/true\n",
    )
    script = """
with UnitControl(reader) as units:
    units.reload()
    seen = []
    for verb in ("start", "restart", "stop"):
        restart_bus(0.7)
        seen.append(getattr(units, verb)("slow.service").active_state)
    restart_bus(0.7)
    seen.append(refused(units.start, "bad.service"))
    seen.append(units.start("unmet.service").active_state)
    seen.append(refused(units.start, "nope.service"))
    seen.append(refused(units.start, "slow.service", 0.5))
    units.reset_failed("bad.service")
    seen.append(units.state("bad.service").active_state)
    tell(seen)
"""
    started, restarted, stopped, bad, unmet, nope, slow, reset = ask(node, script)
    assert (started, restarted, stopped, unmet, reset) == (
        "active",
        "active",
        "inactive",
        "inactive",
        "inactive",
    )
    assert bad.startswith("cannot start bad.service: ")
    assert nope == "cannot start nope.service: Unit nope.service not found."
    assert (
        slow == "cannot start slow.service: no result within 0.5 s; its job goes on (`systemctl list-jobs`)"
    )


def test_containers_are_those_that_run_where_their_cgroup_says(node: Node) -> None:
    told = ask(
        node,
        "tell([asdict(each) | {'static': each.static} for each in runtime.containers()])",
        opener=_RUNTIME[node.flavour],
    )
    sandboxes = {each["id"]: each for each in told if each["sandbox"]}
    containers = [each for each in told if not each["sandbox"]]
    expected = {(each.pod, each.name, each.id, each.pid) for each in node.containers()}
    assert {(pod_of(each), each["name"], each["id"], each["pid"]) for each in containers} == expected
    assert {pod_of(each) for each in sandboxes.values()} == set(PODS)
    assert all(each["static"] and each["state"] == "running" for each in sandboxes.values())
    for each in told:
        places = node.read(f"/proc/{each['pid']}/cgroup").splitlines()
        [memory] = [line.partition(":memory:")[2] for line in places if ":memory:" in line]
        assert memory == f"{each['cgroup_parent']}/{each['id']}"
        assert each["pod_uid"] in each["cgroup_parent"]
    for each in containers:
        assert sandboxes[each["sandbox_id"]]["pod_uid"] == each["pod_uid"]
        assert each["memory_limit"] == limit(node, each, "memory", "memory.limit_in_bytes")
        assert each["cpu_quota"] == limit(node, each, "cpu", "cpu.cfs_quota_us")
        assert each["cpu_shares"] == limit(node, each, "cpu", "cpu.shares")
    assert {each["cpu_quota"] for each in containers if pod_of(each) == "guaranteed"} != {None}


def pod_of(container: dict[str, Any]) -> str:
    return str(container["pod_name"]).removesuffix(f"-{container['pod_name'].split('-', 1)[1]}")


def limit(node: Node, container: dict[str, Any], controller: str, file: str) -> int | None:
    value = int(
        node.read(f"/sys/fs/cgroup/{controller}{container['cgroup_parent']}/{container['id']}/{file}")
    )
    return value if 0 < value < 2**62 else None  # v1 writes "no limit" as -1 or as the largest page


def test_removal_takes_every_pod_and_nothing_else_and_the_kubelet_makes_them_anew(node: Node) -> None:
    if node.flavour == "docker":
        node.run(["docker", "run", "--detach", "--name=mine", "--network=none", "bb:1", "sleep", "1000"])
        node.run(["docker", "kill", node.containers()[0].id])  # an exited one goes too
    script = """
with UnitControl(reader) as units:
    units.stop("kubelet.service")
    before = len([each for each in runtime.containers() if each.pod_uid])
    said = []
    removed = runtime.remove_kubernetes(said.append, 10)
    left = [each.name for each in runtime.containers()]
    again = runtime.remove_kubernetes(said.append, 10)
    units.start("kubelet.service")
    tell([before, removed, left, again, said])
"""
    ids = {each.id for each in node.containers()}
    before, removed, left, again, said = ask(node, script, opener=_RUNTIME[node.flavour])
    assert before >= 3 + sum(map(len, PODS.values()))
    assert (removed, again) == (before, 0)
    assert left == (["mine"] if node.flavour == "docker" else [])
    assert len(said) == {"docker": 1, "containerd": 2}[node.flavour]
    assert not ids & {each.id for each in node.wait_pods()}


def test_containers_end_by_sigterm_and_not_by_sigkill(make_node: MakeNode) -> None:
    # The pods of the lab trap TERM and end at once; containerd's StopPodSandbox alone would kill them without asking.
    node = make_node("containerd")
    script = """
ends = []
with UnitControl(reader) as units:
    units.stop("kubelet.service")
    events = subprocess.Popen(["ctr", "-n", "k8s.io", "events"], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    names = {each.id: each.sandbox for each in runtime.containers()}
    runtime.remove_kubernetes(lambda text: None, 10)
    time.sleep(1)
    events.terminate()
    for line in events.stdout:
        if " /tasks/exit " in line:
            event = json.loads(line[line.index("{"):])
            if not names[event["container_id"]]:
                ends.append(event.get("exit_status", 0))
tell(ends)
"""
    assert ask(node, script, opener=_RUNTIME["containerd"]) == [0] * sum(map(len, PODS.values()))


def test_a_stopped_dockerd_is_not_woken_by_a_look(make_node: MakeNode) -> None:
    node = make_node("docker")
    script = """
with UnitControl(reader) as units:
    units.stop("kubelet.service")
    units.stop("docker.service")
    said = [refused(call) for call in (runtime.info, runtime.containers)] + [refused(runtime.remove_kubernetes, print)]
    time.sleep(1)
    states = [units.state(unit).active_state for unit in ("docker.socket", "docker.service")]
    units.start("docker.service")
    tell([said, states, runtime.info()["CgroupDriver"]])
"""
    said, states, driver = ask(node, script, opener=_RUNTIME["docker"])
    assert said == ["docker.service is not running"] * 3
    assert states == ["active", "inactive"]
    assert driver == "cgroupfs"


@pytest.mark.parametrize(
    ("flavour", "socket", "expected"),
    [
        ("containerd", "/run/containerd/containerd.sock", ["containerd", "1.6.", "v1"]),
        ("docker", "/run/containerd/containerd.sock", ["containerd", "1.6.", "v1"]),
        ("docker", "/var/run/dockershim.sock", ["docker", "20.10.", "v1alpha2"]),
    ],
)
def test_the_cri_tells_its_version_and_no_driver_before_containerd_2(
    make_node: MakeNode, flavour: str, socket: str, expected: list[str]
) -> None:
    node = make_node(flavour)
    script = f"""
with Cri({socket!r}) as cri:
    tell([cri.version(), cri.runtime_config(), cri.status()["conditions"]["RuntimeReady"]["status"], len(cri.containers())])
"""
    (name, version, api), driver, ready, count = ask(node, script)
    assert ([name, api], driver, ready) == ([expected[0], expected[2]], None, True)
    assert version.startswith(expected[1])
    assert count == (
        0 if (flavour, expected[0]) == ("docker", "containerd") else 3 + sum(map(len, PODS.values()))
    )


def test_a_restarted_containerd_is_found_again_by_the_same_connection(make_node: MakeNode) -> None:
    node = make_node("containerd")
    script = """
with UnitControl(reader) as units:
    before = len(runtime.containers())
    units.stop("containerd.service")
    said = refused(runtime.containers)
    units.start("containerd.service")
    tell([before, said, len(runtime.containers())])
"""
    before, said, after = ask(node, script, opener=_RUNTIME["containerd"])
    assert (before, after) == (7, 7)
    assert "/run/containerd/containerd.sock" in said
