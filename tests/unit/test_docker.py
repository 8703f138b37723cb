# SPDX-License-Identifier: Apache-2.0
"""What needs no dockerd: the containers' form, and that a stopped dockerd is never woken. The rest is in tests/lab."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.containers import RuntimeContainer, number, positive
from migrator.docker import Docker, DockerControl, _container, _only_gone
from migrator.errors import HostError
from migrator.host import Host, Reader

POD = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"


def inspected(**fields: object) -> dict[str, object]:
    usual = {
        "id": "1",
        "name": "/x",
        "labels": None,
        "state": "running",
        "pid": 0,
        "parent": "",
        "policy": "no",
    }
    return usual | {"memory": 0, "quota": 0, "period": 0, "cpus": 0, "shares": 0} | fields


def test_a_container_of_a_pod_carries_what_the_kubelet_wrote_on_it() -> None:
    labels = {
        "io.kubernetes.pod.uid": POD,
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.container.name": "main",
        "io.kubernetes.docker.type": "container",
        "io.kubernetes.sandbox.id": "s1",
        "annotation.io.kubernetes.container.restartCount": "3",
    }
    limits = {"memory": 67108864, "quota": 20000, "period": 100000, "shares": 204}
    parent = f"/kubepods/burstable/pod{POD}"
    raw = inspected(name="/k8s_main_web_shop", labels=labels, pid=700, parent=parent, **limits)
    expected = RuntimeContainer(
        id="1",
        name="main",
        pod_uid=POD,
        pod_name="web",
        pod_namespace="shop",
        sandbox_id="s1",
        state="running",
        attempt=3,
        cgroup_parent=parent,
        restart_policy="no",
        pid=700,
        memory_limit=67108864,
        cpu_quota=20000,
        cpu_period=100000,
        cpu_shares=204,
        labels={key: value for key, value in labels.items() if not key.startswith("annotation.")},
        annotations={"io.kubernetes.container.restartCount": "3"},
    )
    assert expected == _container(raw)


@pytest.mark.parametrize(
    ("source", "static"), [("file", True), ("http", True), ("api", False), (None, False)]
)
def test_a_sandbox_tells_whether_its_pod_is_static(source: str | None, static: bool) -> None:
    labels = {
        "io.kubernetes.pod.uid": "u",
        "io.kubernetes.docker.type": "podsandbox",
        "io.kubernetes.container.name": "POD",
    }
    if source:
        labels["annotation.kubernetes.io/config.source"] = source
    found = _container(inspected(labels=labels))
    assert (found.sandbox, found.name, found.static) == (True, "", static)


def test_a_container_outside_kubernetes_has_its_own_name_and_no_limits_where_docker_writes_zero() -> None:
    found = _container(inspected(name="/registry", policy="always", memory=-1))
    assert (found.name, found.pod_uid, found.sandbox, found.restart_policy) == (
        "registry",
        "",
        False,
        "always",
    )
    assert (found.memory_limit, found.cpu_quota, found.cpu_period, found.cpu_shares) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("cpus", "period", "expected"),
    [(1_500_000_000, 0, (150_000, 100_000)), (500_000_000, 50_000, (25_000, 50_000))],
)
def test_cpus_are_a_quota(cpus: int, period: int, expected: tuple[int, int]) -> None:
    found = _container(inspected(cpus=cpus, period=period))
    assert (found.cpu_quota, found.cpu_period) == expected


@pytest.mark.parametrize(
    "call", [Docker.info, Docker.containers, lambda docker: docker.remove_kubernetes(print)]
)
def test_a_stopped_dockerd_is_not_woken_through_its_socket(
    tmp_path: Path, call: Callable[[DockerControl], object]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        listener.setblocking(False)
        docker = DockerControl(Host(), str(tmp_path / "docker.sock"), running=lambda: False)
        with pytest.raises(HostError, match=r"docker.service is not running") as caught:
            call(docker)
        assert caught.value.hint == "systemctl status docker.service"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("pid_file", "comm", "runs"),
    [
        ("4711", "dockerd", True),
        ("4711\n", "dockerd", True),
        ("4711", "bash", False),
        ("4711", None, False),
        (None, "dockerd", False),
        ("", "dockerd", False),
        ("../4711", "dockerd", False),
    ],
)
def test_dockerd_runs_when_its_pid_file_names_it(
    tmp_path: Path, pid_file: str | None, comm: str | None, runs: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "proc/4711").mkdir(parents=True)
    if pid_file is not None:
        (tmp_path / "run/docker.pid").write_text(pid_file)
    if comm is not None:
        (tmp_path / "proc/4711/comm").write_text(f"{comm}\n")
    assert Docker(Reader(tmp_path)).reachable() == runs


def test_an_image_has_no_docker_to_ask(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is an image, not a running node"):
        Docker(Reader(tmp_path), running=lambda: True).info()


@pytest.mark.parametrize(
    ("stderr", "gone"),
    [
        ("Error: No such container: abc\n", True),
        ("Error: No such object: abc\nError: No such object: def\n", True),
        ("Error response from daemon: No such container: abc", True),
        ("Error response from daemon: removal of container abc is already in progress\n", True),
        ("Error: No such container: abc\nError response from daemon: cannot stop container: abc\n", False),
        ("", False),
        (
            "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is the docker daemon running?",
            False,
        ),
    ],
)
def test_only_what_is_gone_anyway_is_no_failure(stderr: str, gone: bool) -> None:
    assert _only_gone(stderr) == gone


def test_limits_and_counts_are_read_or_absent() -> None:
    assert [positive(value) for value in (1, 0, -1, None, "1", True)] == [1, None, None, None, None, None]
    assert [number(text) for text in ("3", "0", "", None, "x", "²", "9" * 5000)] == [3, 0, 0, 0, 0, 0, 0]
