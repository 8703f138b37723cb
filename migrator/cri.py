# SPDX-License-Identifier: Apache-2.0
"""The door to a CRI runtime (containerd, CRI-O, cri-dockerd, dockershim): `Cri` looks, `CriControl` looks and removes.

Only this module knows gRPC; it is imported late. The messages are in `cri_messages.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from migrator.containers import POD_NAME, POD_NAMESPACE, POD_UID, RuntimeContainer, grace, positive
from migrator.cri_messages import messages
from migrator.errors import HostError

CONTAINERD = "/run/containerd/containerd.sock"
CRIO = "/run/crio/crio.sock"

_APIS = ("v1", "v1alpha2")
"""In order of preference; both have the same messages on the wire."""
_DRIVERS = {0: "systemd", 1: "cgroupfs"}
_CONTAINER_STATES = {0: "created", 1: "running", 2: "exited"}
_SANDBOX_STATES = {0: "running", 1: "exited"}

_PASSING = ("already in removing state", "is in starting state")  # containerd's words for what ends by itself
_CALL = 30.0  # seconds
_REMOVE = 120.0  # seconds to stop or remove one sandbox: its network is torn down by CNI programs
_AT_ONCE = 8  # calls under way
_NOT_YET = "server is not initialized yet"
"""What containerd answers for a moment after systemd has called it started."""
_STARTING = 30.0  # seconds; with many containers to recover the moment is long
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),  # the kubelet's own limit
    ("grpc.enable_http_proxy", 0),
)
_QUIET = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0", "GLOG_minloglevel": "3"}
"""Read when grpc is imported: its log goes to the operator's terminal, and its fork handlers wait for calls under way."""


class Cri:
    """Looks at a CRI runtime through its socket (a path, or `unix://` and a path). One connection, made at the first call."""

    def __init__(self, socket: str = CONTAINERD) -> None:
        self.socket = socket.removeprefix("unix://")
        self._channel: Any = None
        self._api = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the next call makes a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._api = ""

    def version(self) -> tuple[str, str, str]:
        """Return the runtime's name and version, and the API that it speaks: `v1`, or `v1alpha2` where `v1` is missing.

        Raises:
            HostError: no runtime answers at the socket, or it has no CRI (F12).
        """
        for api in _APIS:
            try:
                answer = self._call("Version", api=api)
            except _UnimplementedError:
                continue
            self._api = api
            return answer.runtime_name, answer.runtime_version, api
        raise HostError(
            f"the daemon at {self.socket} has no CRI service, neither v1 nor v1alpha2: is its CRI plugin disabled or broken?",
            hint="containerd config dump; journalctl -u containerd.service",
        )

    def status(self, *, verbose: bool = False) -> dict[str, object]:
        """Return `conditions` (type → status, reason, message) and, when `verbose`, `info` (key → decoded JSON or text).

        What containerd tells in `info` may hold registry credentials: never to be stored or shown as a whole.

        Raises:
            HostError: the runtime did not answer.
        """
        answer = self._call("Status", verbose=verbose)
        conditions = {
            each.type: {"status": each.status, "reason": each.reason, "message": each.message}
            for each in answer.status.conditions
        }
        return {"conditions": conditions, "info": {pair.key: _decoded(pair.value) for pair in answer.info}}

    def runtime_config(self) -> str | None:
        """Return the driver that the runtime tells the kubelet: `systemd`, `cgroupfs`, or None: it does not tell (F09).

        Raises:
            HostError: the runtime did not answer, or names a driver that is not known.
        """
        try:
            answer = self._call("RuntimeConfig")
        except _UnimplementedError:
            return None
        if not answer.HasField("linux"):
            return None
        number = answer.linux.cgroup_driver
        if number not in _DRIVERS:
            raise HostError(
                f"the runtime at {self.socket} answers RuntimeConfig with unknown cgroup driver {number}"
            )
        return _DRIVERS[number]

    def containers(self) -> list[RuntimeContainer]:
        """Return every sandbox and container, running or not, sandboxes first.

        Raises:
            HostError: the runtime did not answer.
        """
        sandboxes = self._call("ListPodSandbox").items
        containers = self._call("ListContainers").containers
        sandbox_details = self._all(
            "PodSandboxStatus", ({"pod_sandbox_id": each.id, "verbose": True} for each in sandboxes)
        )
        container_details = self._all(
            "ContainerStatus", ({"container_id": each.id, "verbose": True} for each in containers)
        )
        return [
            *(_sandbox(each, _info(detail)) for each, detail in zip(sandboxes, sandbox_details, strict=True)),
            *(
                _container(each, _info(detail))
                for each, detail in zip(containers, container_details, strict=True)
            ),
        ]

    def _call(self, name: str, *, api: str = "", **fields: object) -> Any:
        made_before = self._channel is not None
        deadline = time.monotonic() + _STARTING
        while True:
            try:
                return self._answer(name, self._send(name, _CALL, fields, api))
            except _UnavailableError:
                # The connection may be from before a restart of the runtime: once more, with a new one.
                if not made_before:
                    raise
                made_before = False
            except HostError as error:
                if _NOT_YET not in error.message or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _all(self, name: str, requests: Iterable[dict[str, object]], timeout: float = _CALL) -> Iterator[Any]:
        """Make the same call many times, some at once; yield answers in order, None for what is not there any more."""
        import grpc  # noqa: PLC0415 late

        todo = [*requests]
        for start in range(0, len(todo), _AT_ONCE):
            sent = [self._send(name, timeout, fields) for fields in todo[start : start + _AT_ONCE]]
            for each in sent:
                if each.code() is grpc.StatusCode.NOT_FOUND:
                    yield None
                else:
                    yield self._answer(name, each)

    def _send(self, name: str, timeout: float, fields: dict[str, object], api: str = "") -> Any:
        api = api or self._api or self.version()[2]
        kinds = messages()
        call = self._connect().unary_unary(
            f"/runtime.{api}.RuntimeService/{name}",
            request_serializer=kinds[f"{name}Request"].SerializeToString,
            response_deserializer=kinds[f"{name}Response"].FromString,
        )
        return call.future(kinds[f"{name}Request"](**fields), timeout=timeout)

    def _answer(self, name: str, sent: Any) -> Any:
        import grpc  # noqa: PLC0415 late

        try:
            return sent.result()
        except grpc.RpcError as error:
            code = sent.code()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise _UnimplementedError from error
            kind = HostError
            if code is grpc.StatusCode.UNAVAILABLE and _NOT_YET not in sent.details():
                self.close()  # gRPC would wait longer and longer before it connects again
                kind = _UnavailableError
            raise kind(
                f"{name} at {self.socket} failed ({code.name}): {sent.details()}",
                hint=f"is the runtime that owns {self.socket} running? systemctl status containerd.service crio.service",
            ) from error

    def _connect(self) -> Any:
        if self._channel is None:
            if not Path(self.socket).is_socket():
                raise HostError(f"no CRI runtime: there is no socket {self.socket}")
            for name, value in _QUIET.items():
                os.environ.setdefault(name, value)
            import grpc  # noqa: PLC0415 late

            self._channel = grpc.insecure_channel(f"unix://{self.socket}", options=_OPTIONS)
        return self._channel


class CriControl(Cri):
    """Looks at a CRI runtime and removes what the kubelet made there."""

    def remove_kubernetes(self, progress: Callable[[str], None], grace_seconds: int = 30) -> int:
        """Stop and remove every container and sandbox, also those not ready; return how many there were.

        Containers are stopped first and with `grace_seconds`, because containerd kills what still runs when a sandbox is
        stopped. What is gone already, or goes meanwhile, is fine.

        Raises:
            HostError: the runtime did not answer or refused, or something is still there afterwards.
        """
        sandboxes = [{"pod_sandbox_id": each.id} for each in self._call("ListPodSandbox").items]
        containers = self._call("ListContainers").containers
        running = [each for each in containers if _CONTAINER_STATES.get(each.state) == "running"]
        if running:
            progress(f"stopping {len(running)} containers")
            stops = [
                {"container_id": each.id, "timeout": grace(_container(each, {}), grace_seconds)}
                for each in running
            ]
            self._each("StopContainer", stops, _CALL + grace_seconds)
        if sandboxes:
            progress(f"removing {len(sandboxes)} sandboxes")
            self._each("StopPodSandbox", sandboxes, _REMOVE)
            self._remove("RemovePodSandbox", sandboxes)
        orphans = [{"container_id": each.id} for each in self._call("ListContainers").containers]
        self._remove("RemoveContainer", orphans)
        left = [each.id for each in self._call("ListPodSandbox").items]
        left += [each.id for each in self._call("ListContainers").containers]
        if left:
            raise HostError(
                f"the runtime at {self.socket} still has sandboxes or containers after their removal: {', '.join(left)}",
                hint=f"crictl --runtime-endpoint {shlex.quote(f'unix://{self.socket}')} rmp --force --all",
            )
        return len(sandboxes) + len(containers)

    def _remove(self, name: str, requests: Sequence[dict[str, object]]) -> None:
        """Remove each; what is being started or removed still, for a kubelet or a run that is gone, is waited for."""
        deadline = time.monotonic() + _REMOVE
        while True:
            try:
                self._each(name, requests, _REMOVE)
            except HostError as error:
                passing = any(words in error.message for words in _PASSING)
                if not passing or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _each(self, name: str, requests: Sequence[dict[str, object]], timeout: float) -> None:
        for _answer in self._all(name, requests, timeout):
            pass


class _UnimplementedError(Exception):
    """The runtime does not have this call."""


class _UnavailableError(HostError):
    """Nobody answers at the socket."""


def _sandbox(listed: Any, info: dict[str, Any]) -> RuntimeContainer:
    return RuntimeContainer(
        id=listed.id,
        name="",
        pod_uid=listed.metadata.uid,
        pod_name=listed.metadata.name,
        pod_namespace=listed.metadata.namespace,
        sandbox=True,
        state=_SANDBOX_STATES.get(listed.state, "unknown"),
        attempt=listed.metadata.attempt,
        cgroup_parent=_parent(info),
        pid=positive(info.get("pid")) or 0,
        labels=_pairs(listed.labels),
        annotations=_pairs(listed.annotations),
    )


def _container(listed: Any, info: dict[str, Any]) -> RuntimeContainer:
    labels = _pairs(listed.labels)
    resources = _inner(info, "runtimeSpec", "linux", "resources")
    cpu = _inner(resources, "cpu")
    return RuntimeContainer(
        id=listed.id,
        name=listed.metadata.name,
        pod_uid=labels.get(POD_UID, ""),
        pod_name=labels.get(POD_NAME, ""),
        pod_namespace=labels.get(POD_NAMESPACE, ""),
        sandbox_id=listed.pod_sandbox_id,
        state=_CONTAINER_STATES.get(listed.state, "unknown"),
        attempt=listed.metadata.attempt,
        cgroup_parent=_parent(info),
        pid=positive(info.get("pid")) or 0,
        memory_limit=positive(_inner(resources, "memory").get("limit")),
        cpu_quota=positive(cpu.get("quota")),
        cpu_period=positive(cpu.get("period")),
        cpu_shares=positive(cpu.get("shares")),
        labels=labels,
        annotations=_pairs(listed.annotations),
    )


def _info(detail: Any) -> dict[str, Any]:
    """Return the one JSON object under `info` of a verbose status, where containerd and CRI-O put pid and runtime spec."""
    found = _decoded(_pairs(detail.info).get("info", "")) if detail is not None else None
    return found if isinstance(found, dict) else {}


def _parent(info: dict[str, Any]) -> str:
    """Return the parent in an OCI `cgroupsPath`: `SLICE:prefix:id` for systemd, else a path."""
    path = _inner(info, "runtimeSpec", "linux").get("cgroupsPath")
    if not isinstance(path, str):
        return ""
    return path.split(":", 1)[0] if ":" in path else path.rpartition("/")[0]


def _inner(table: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        value = table.get(name)
        table = value if isinstance(value, dict) else {}
    return table


def _pairs(pairs: Iterable[Any]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}


def _decoded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
