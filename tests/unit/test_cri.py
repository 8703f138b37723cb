# SPDX-License-Identifier: Apache-2.0
"""The CRI client, against a gRPC server on a real socket that keeps sandboxes and containers as a runtime does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from migrator.containers import RuntimeContainer
from migrator.cri import Cri, CriControl
from migrator.cri_messages import messages
from migrator.errors import HostError

POD = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"


class Runtime:
    """A CRI runtime with one API; `calls` is what it was asked, `refusals` and `driver` are set by the test."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.calls: list[str] = []
        self.refusals: dict[str, tuple[Any, str]] = {}
        self.patience: int | None = None
        """How many calls are refused before it answers; None: all."""
        self.driver: int | None = None
        self.sandboxes: dict[str, Any] = {}
        self.containers: dict[str, Any] = {}
        self.infos: dict[str, dict[str, object]] = {}
        self.stopped: dict[str, int] = {}
        self.immortal: set[str] = set()
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        service, _, name = details.method.strip("/").partition("/")
        known = {each.removesuffix("Request") for each in messages() if each.endswith("Request")}
        if service != f"runtime.{self.api}.RuntimeService" or name not in known:
            return None  # gRPC answers UNIMPLEMENTED
        if name == "RuntimeConfig" and self.driver is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(name, request, context),
            request_deserializer=messages()[f"{name}Request"].FromString,
            response_serializer=messages()[f"{name}Response"].SerializeToString,
        )

    def _answer(self, name: str, request: Any, context: Any) -> Any:
        with self._lock:
            self.calls.append(name)
            if name in self.refusals and self.patience != 0:
                self.patience = self.patience and self.patience - 1
                context.abort(*self.refusals[name])
            return messages()[f"{name}Response"](**self._fields(name, request, context))

    def _fields(self, name: str, request: Any, context: Any) -> dict[str, Any]:
        if name in ("ContainerStatus", "PodSandboxStatus"):
            key = request.container_id if name == "ContainerStatus" else request.pod_sandbox_id
            if key not in self.infos:
                context.abort(grpc.StatusCode.NOT_FOUND, "gone meanwhile")
            return {"info": pairs({"info": json.dumps(self.infos[key])}) if request.verbose else []}
        if name == "StopContainer":
            self.stopped[request.container_id] = request.timeout
        if name == "RemovePodSandbox" and request.pod_sandbox_id not in self.immortal:
            self.sandboxes.pop(request.pod_sandbox_id, None)
            left = {k: v for k, v in self.containers.items() if v["pod_sandbox_id"] != request.pod_sandbox_id}
            self.containers = left
        if name == "RemoveContainer":
            self.containers.pop(request.container_id, None)
        ready = {"type": "RuntimeReady", "status": True}
        network = {"type": "NetworkReady", "reason": "NetworkPluginNotReady", "message": "no CNI"}
        told = {"golang": "go1.19", "config": '{"systemdCgroup": false}'}
        answers: dict[str, dict[str, Any]] = {
            "Version": {"runtime_name": "fake", "runtime_version": "1.2.3"},
            "Status": {
                "status": {"conditions": [ready, network]},
                "info": pairs(told) if getattr(request, "verbose", False) else [],
            },
            "RuntimeConfig": {} if self.driver == -1 else {"linux": {"cgroup_driver": self.driver}},
            "ListPodSandbox": {"items": [*self.sandboxes.values()]},
            "ListContainers": {"containers": [*self.containers.values()]},
        }
        return answers.get(name, {})


def pairs(table: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in table.items()]


def info(parent: str, container: str, pid: int = 0, **resources: object) -> dict[str, object]:
    separator = ":cri-containerd:" if parent.endswith(".slice") else "/"
    path = f"{parent}{separator}{container}"
    return {"pid": pid, "runtimeSpec": {"linux": {"cgroupsPath": path, "resources": resources}}}


def serve(runtime: Runtime, socket: Path) -> Any:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((runtime,))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def fill(runtime: Runtime) -> None:
    names = {
        "io.kubernetes.pod.uid": POD,
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
    }
    runtime.sandboxes["s1"] = {
        "id": "s1",
        "metadata": {"name": "web", "uid": POD, "namespace": "shop", "attempt": 1},
        "state": 0,
        "labels": pairs({"app": "web"}),
        "annotations": pairs({"kubernetes.io/config.source": "api"}),
    }
    runtime.sandboxes["s2"] = {
        "id": "s2",
        "metadata": {"name": "etcd", "uid": "0f34b63c8220eb11d699dab89cb3a605", "namespace": "kube-system"},
        "state": 1,
        "annotations": pairs({"kubernetes.io/config.source": "file"}),
    }
    runtime.containers["c1"] = {
        "id": "c1",
        "pod_sandbox_id": "s1",
        "metadata": {"name": "main", "attempt": 3},
        "state": 1,
        "labels": pairs(names),
        "annotations": pairs({"io.kubernetes.container.restartCount": "3"}),
    }
    runtime.containers["c2"] = {"id": "c2", "pod_sandbox_id": "s1", "metadata": {"name": "init"}, "state": 2}
    runtime.infos["s1"] = info(f"/kubepods/burstable/pod{POD}", "s1", 260)
    runtime.infos["s2"] = info("kubepods-besteffort-pod0f34b63c8220eb11d699dab89cb3a605.slice", "s2")
    cpu = {"shares": 204, "quota": 20000, "period": 100000}
    runtime.infos["c1"] = info(
        f"/kubepods/burstable/pod{POD}", "c1", 373, memory={"limit": 67108864}, cpu=cpu
    )


@pytest.fixture(params=["v1", "v1alpha2"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(request.param)
    fill(runtime)
    server = serve(runtime, tmp_path / "cri.sock")
    yield runtime
    server.stop(None).wait()


@pytest.fixture
def cri(runtime: Runtime, tmp_path: Path) -> Iterator[CriControl]:
    assert runtime.calls == []
    with CriControl(f"unix://{tmp_path}/cri.sock") as cri:
        yield cri


def test_the_api_is_v1_or_else_v1alpha2(cri: CriControl, runtime: Runtime) -> None:
    assert cri.version() == ("fake", "1.2.3", runtime.api)


def test_a_daemon_without_cri_is_an_error_that_says_so(tmp_path: Path) -> None:
    server = serve(Runtime("v2"), tmp_path / "cri.sock")
    with Cri(str(tmp_path / "cri.sock")) as cri:
        with pytest.raises(HostError, match="has no CRI service, neither v1 nor v1alpha2"):
            cri.version()
        with pytest.raises(HostError, match="has no CRI service, neither v1 nor v1alpha2"):
            cri.runtime_config()
    server.stop(None).wait()


@pytest.mark.parametrize(("told", "driver"), [(None, None), (-1, None), (0, "systemd"), (1, "cgroupfs")])
def test_the_driver_is_what_runtime_config_tells(
    cri: CriControl, runtime: Runtime, told: int | None, driver: str | None
) -> None:
    runtime.driver = told
    assert cri.runtime_config() == driver


def test_a_driver_of_the_future_is_an_error(cri: CriControl, runtime: Runtime) -> None:
    runtime.driver = 2
    with pytest.raises(HostError, match="unknown cgroup driver 2"):
        cri.runtime_config()


def test_a_status_has_conditions_and_on_request_the_decoded_info(cri: CriControl) -> None:
    conditions = {
        "RuntimeReady": {"status": True, "reason": "", "message": ""},
        "NetworkReady": {"status": False, "reason": "NetworkPluginNotReady", "message": "no CNI"},
    }
    assert cri.status() == {"conditions": conditions, "info": {}}
    config = {"golang": "go1.19", "config": {"systemdCgroup": False}}
    assert cri.status(verbose=True) == {"conditions": conditions, "info": config}


def test_sandboxes_and_containers_are_listed_with_what_decides_their_place(cri: CriControl) -> None:
    sandbox, static, container, gone = cri.containers()
    parent = f"/kubepods/burstable/pod{POD}"
    expected = RuntimeContainer(
        id="s1",
        name="",
        pod_uid=POD,
        pod_name="web",
        pod_namespace="shop",
        sandbox=True,
        state="running",
        attempt=1,
        cgroup_parent=parent,
        pid=260,
        labels={"app": "web"},
        annotations={"kubernetes.io/config.source": "api"},
    )
    assert expected == sandbox
    expected = RuntimeContainer(
        id="c1",
        name="main",
        pod_uid=POD,
        pod_name="web",
        pod_namespace="shop",
        sandbox_id="s1",
        state="running",
        attempt=3,
        cgroup_parent=parent,
        pid=373,
        memory_limit=67108864,
        cpu_quota=20000,
        cpu_period=100000,
        cpu_shares=204,
        labels=container.labels,
        annotations={"io.kubernetes.container.restartCount": "3"},
    )
    assert expected == container
    slice_ = "kubepods-besteffort-pod0f34b63c8220eb11d699dab89cb3a605.slice"
    assert (static.state, static.static, static.cgroup_parent) == ("exited", True, slice_)
    assert (sandbox.static, container.static) == (False, False)
    assert (gone.state, gone.pid, gone.cgroup_parent, gone.memory_limit) == ("exited", 0, "", None)


def test_removal_stops_containers_with_grace_and_removes_sandboxes_also_those_not_ready(
    cri: CriControl, runtime: Runtime
) -> None:
    said: list[str] = []
    assert cri.remove_kubernetes(said.append, grace_seconds=7) == 4
    assert (runtime.sandboxes, runtime.containers, runtime.stopped) == ({}, {}, {"c1": 7})
    assert said == ["stopping 1 containers", "removing 2 sandboxes"]
    order = [name for name in dict.fromkeys(runtime.calls) if "Stop" in name or "Remove" in name]
    assert order == ["StopContainer", "StopPodSandbox", "RemovePodSandbox"]
    assert cri.remove_kubernetes(said.append) == 0


def test_removal_takes_containers_whose_sandbox_is_gone(cri: CriControl, runtime: Runtime) -> None:
    runtime.sandboxes.clear()
    assert cri.remove_kubernetes(lambda _text: None) == 2
    assert runtime.containers == {}


@pytest.mark.parametrize("call", ["StopContainer", "StopPodSandbox", "RemovePodSandbox"])
def test_what_goes_meanwhile_is_fine(cri: CriControl, runtime: Runtime, call: str) -> None:
    runtime.refusals[call] = (grpc.StatusCode.NOT_FOUND, "no such thing")
    if call == "RemovePodSandbox":
        runtime.sandboxes.clear()
        runtime.containers.clear()
    cri.remove_kubernetes(lambda _text: None)
    assert runtime.sandboxes == {}


def test_removal_is_not_done_while_something_is_left(cri: CriControl, runtime: Runtime) -> None:
    runtime.immortal = {"s1"}
    with pytest.raises(HostError, match="still has sandboxes or containers after their removal: s1"):
        cri.remove_kubernetes(lambda _text: None)


@pytest.mark.parametrize("state", ["already in removing state", "in starting state, can't be removed"])
def test_what_is_started_or_removed_for_somebody_else_is_waited_for(
    cri: CriControl, runtime: Runtime, state: str
) -> None:
    refusal = f"failed to set removing state: container is {state}"
    runtime.refusals["RemovePodSandbox"] = (grpc.StatusCode.UNKNOWN, refusal)
    runtime.patience = 3

    assert 4 == cri.remove_kubernetes(lambda _text: None)
    assert {} == runtime.sandboxes
    assert runtime.calls.count("RemovePodSandbox") > 3


def test_an_error_tells_socket_call_and_code(cri: CriControl, runtime: Runtime, tmp_path: Path) -> None:
    runtime.refusals["StopPodSandbox"] = (grpc.StatusCode.UNKNOWN, "cni plugin not initialized")
    with pytest.raises(HostError) as caught:
        cri.remove_kubernetes(lambda _text: None)
    assert (
        caught.value.message
        == f"StopPodSandbox at {tmp_path}/cri.sock failed (UNKNOWN): cni plugin not initialized"
    )


def test_a_missing_socket_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        Cri(str(tmp_path / "none.sock")) as cri,
        pytest.raises(HostError, match=r"there is no socket .*none.sock"),
    ):
        cri.version()


def test_a_runtime_that_was_restarted_is_found_again_at_once(tmp_path: Path) -> None:
    socket = tmp_path / "cri.sock"
    first = serve(Runtime("v1"), socket)
    with Cri(str(socket)) as cri:
        assert cri.version()[2] == "v1"
        first.stop(None).wait()
        socket.unlink(missing_ok=True)
        for _ in range(2):
            with pytest.raises(HostError, match="there is no socket"):
                cri.runtime_config()
        second = serve(Runtime("v1alpha2"), socket)
        assert cri.version()[2] == "v1alpha2"
        second.stop(None).wait()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE])
def test_a_runtime_that_is_still_starting_is_waited_for(cri: CriControl, runtime: Runtime, code: Any) -> None:
    runtime.refusals["Version"] = (code, "server is not initialized yet")
    runtime.patience = 3
    assert cri.version()[2] == runtime.api
    assert runtime.calls.count("Version") > 3


def test_a_socket_that_nobody_serves_is_an_error_and_says_nothing_on_the_terminal(tmp_path: Path) -> None:
    script = (
        "import socket, sys; from migrator.cri import Cri; from migrator.errors import HostError\n"
        "path = sys.argv[1]; socket.socket(socket.AF_UNIX).bind(path)\n"
        "try: Cri(path).version()\n"
        "except HostError as error: print(error.message)\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "cri.sock")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.startswith(f"Version at {tmp_path}/cri.sock failed (UNAVAILABLE): ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "fields", "wire"),
    [
        ("VersionResponse", {"runtime_name": "a", "runtime_version": "b"}, b"\x12\x01a\x1a\x01b"),
        ("StatusRequest", {"verbose": True}, b"\x08\x01"),
        (
            "StatusResponse",
            {
                "status": {"conditions": [{"type": "t", "status": True, "reason": "r", "message": "m"}]},
                "info": [{"key": "k", "value": "v"}],
            },
            b"\x0a\x0d\x0a\x0b\x0a\x01t\x10\x01\x1a\x01r\x22\x01m\x12\x06\x0a\x01k\x12\x01v",
        ),
        ("RuntimeConfigResponse", {"linux": {"cgroup_driver": 1}}, b"\x0a\x02\x08\x01"),
        (
            "PodSandboxMetadata",
            {"name": "n", "uid": "u", "namespace": "s", "attempt": 2},
            b"\x0a\x01n\x12\x01u\x1a\x01s\x20\x02",
        ),
        (
            "PodSandbox",
            {"id": "i", "metadata": {}, "state": 1, "labels": [{}], "annotations": [{}]},
            b"\x0a\x01i\x12\x00\x18\x01\x2a\x00\x32\x00",
        ),
        ("ListPodSandboxResponse", {"items": [{}]}, b"\x0a\x00"),
        ("PodSandboxStatusRequest", {"pod_sandbox_id": "i", "verbose": True}, b"\x0a\x01i\x10\x01"),
        ("PodSandboxStatusResponse", {"info": [{}]}, b"\x12\x00"),
        ("StopPodSandboxRequest", {"pod_sandbox_id": "i"}, b"\x0a\x01i"),
        ("RemovePodSandboxRequest", {"pod_sandbox_id": "i"}, b"\x0a\x01i"),
        ("ContainerMetadata", {"name": "n", "attempt": 2}, b"\x0a\x01n\x10\x02"),
        (
            "Container",
            {
                "id": "i",
                "pod_sandbox_id": "s",
                "metadata": {},
                "state": 1,
                "labels": [{}],
                "annotations": [{}],
            },
            b"\x0a\x01i\x12\x01s\x1a\x00\x30\x01\x42\x00\x4a\x00",
        ),
        ("ListContainersResponse", {"containers": [{}]}, b"\x0a\x00"),
        ("ContainerStatusRequest", {"container_id": "i", "verbose": True}, b"\x0a\x01i\x10\x01"),
        ("ContainerStatusResponse", {"info": [{}]}, b"\x12\x00"),
        ("StopContainerRequest", {"container_id": "i", "timeout": 30}, b"\x0a\x01i\x10\x1e"),
        ("RemoveContainerRequest", {"container_id": "i"}, b"\x0a\x01i"),
    ],
)
def test_messages_have_the_numbers_of_the_public_definition(
    name: str, fields: dict[str, Any], wire: bytes
) -> None:
    assert messages()[name](**fields).SerializeToString() == wire
