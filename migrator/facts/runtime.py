# SPDX-License-Identifier: Apache-2.0
"""The container runtime: which one the kubelet talks to, and what it says of itself while it runs.

What its configuration says is in `runtime_config.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from migrator.configs.containerd import RUNC_TYPES
from migrator.configs.containerd_merge import daemon_version
from migrator.containers import RuntimeContainer
from migrator.cri import CONTAINERD, CRIO, Cri
from migrator.docker import SOCKET as DOCKER
from migrator.docker import Docker
from migrator.errors import CgmigrateError
from migrator.facts.look import Look
from migrator.facts.model import Driver, Kubelet, Node, Runtime, Source, Unit
from migrator.facts.packages import package_version
from migrator.facts.runtime_config import containerd_configured, crio_configured, docker_configured
from migrator.facts.units import gather_unit
from migrator.host import Reader
from migrator.systemd import Units

CRI_DOCKERD = "/run/cri-dockerd.sock"

# In the order in which they are stopped: a socket left alone starts its service again.
_UNITS = {
    "docker": ("docker.socket", "docker.service"),
    "cri-dockerd": ("cri-docker.socket", "docker.socket", "cri-docker.service", "docker.service"),
    "containerd": ("containerd.service",),
    "crio": ("crio.service",),
}
_PACKAGES = {
    "docker": ("docker-ce", "docker.io"),
    "containerd": ("containerd.io", "containerd"),
    "crio": ("cri-o",),
}
"""Debian packages that tell a runtime's version on an image, where nothing runs that could be asked."""

_NAMED = {"containerd": "containerd", "cri-o": "crio", "docker": "docker"}
"""Runtimes by the name that they give themselves in CRI Version."""


@dataclass(frozen=True, slots=True)
class RuntimeLook:
    """The runtime; `containers` is None when it could not be asked.

    `told` is its answer to the kubelet's RuntimeConfig, None where it has none (F09).
    """

    runtime: Runtime
    containers: tuple[RuntimeContainer, ...] | None = None
    told: str | None = None


def gather_runtime(look: Look, units: Units | None, node: Node, kubelet: Kubelet) -> RuntimeLook:
    """Return the runtime that the kubelet talks to."""
    socket = socket_of(kubelet.runtime_endpoint)
    kind, shim = kind_of(kubelet.runtime_endpoint)
    if not kind:
        socket, kind, shim = _probe(look, socket)
    if not kind:
        where = kubelet.runtime_endpoint or "without a known endpoint"
        look.unknown(
            "runtime.kind", f"the runtime that the kubelet talks to ({where}) is none that is known here"
        )
        return RuntimeLook(Runtime(kind="unknown", socket=socket))
    known = [gather_unit(look, units, name) for name in _UNITS[shim if shim == "cri-dockerd" else kind]]
    found = tuple(unit for unit in known if unit.load_state != "not-found")
    service = known[-1]
    if service not in found:
        look.unknown("runtime.units", f"there is no {service.name}")
    runtime = Runtime(
        kind=kind,
        shim=shim,
        units=found,
        socket=DOCKER if kind == "docker" else socket,
        version=None if look.reader.live else package_version(look, *_PACKAGES[kind]),
    )
    match kind:
        case "docker":
            return _docker(look, node, docker_configured(look, runtime, service, node), service, socket)
        case "containerd":
            return _cri(
                look, runtime, lambda asked: containerd_configured(look, asked, service), _containerd_says
            )
        case _:
            return _cri(look, runtime, lambda asked: crio_configured(look, asked, service), lambda _: None)


def ask_driver(reader: Reader, kind: str, socket: str) -> str | None:
    """Return the driver that a running daemon tells, and ask it nothing else; None when it does not tell.

    Raises:
        HostError: it did not answer.
    """
    if kind == "docker":
        said = Docker(reader, socket).info().get("CgroupDriver")
        return said if isinstance(said, str) else None
    with Cri(socket) as cri:
        return cri.runtime_config() or (_containerd_says(cri) if kind == "containerd" else None)


def socket_of(endpoint: str) -> str:
    """Return the path of a CRI endpoint: `unix:///run/x.sock` or a plain path."""
    return endpoint.removeprefix("unix://")


def kind_of(endpoint: str) -> tuple[str, str]:
    """Return runtime and shim behind an endpoint, by the socket's usual name; empty for one that has another."""
    name = socket_of(endpoint).rpartition("/")[2]
    return {
        "dockershim.sock": ("docker", "dockershim"),
        "cri-dockerd.sock": ("docker", "cri-dockerd"),
        "containerd.sock": ("containerd", ""),
        "crio.sock": ("crio", ""),
    }.get(name, ("", ""))


def _probe(look: Look, socket: str) -> tuple[str, str, str]:
    """Return socket, runtime and shim where the kubelet's flags do not tell: by asking, or the only one there is."""
    if socket and look.reader.live:
        try:
            with Cri(socket) as cri:
                name = cri.version()[0].lower()
        except CgmigrateError as error:
            look.unknown("runtime.kind", error)
            return socket, "", ""
        kind = _NAMED.get(name, "")
        return socket, kind, "cri-dockerd" if kind == "docker" else ""
    if socket:
        return socket, "", ""
    there = [path for path in (CRI_DOCKERD, CRIO, CONTAINERD) if look.reader.exists(path)]
    # cri-dockerd's node has containerd's socket too, below Docker.
    if there == [CRI_DOCKERD, CONTAINERD]:
        there = [CRI_DOCKERD]
    return (there[0], *kind_of(there[0])) if len(there) == 1 else ("", "", "")


def _docker(look: Look, node: Node, runtime: Runtime, service: Unit, shim_socket: str) -> RuntimeLook:
    if not node.live:
        return RuntimeLook(runtime)
    running = (lambda: service.active_state == "active") if service.active_state else None
    docker = Docker(look.reader, running=running)
    told = None
    if runtime.shim == "cri-dockerd":
        runtime, told = _shim(look, runtime, shim_socket)
    try:
        info = docker.info()
    except CgmigrateError as error:
        look.unknown("runtime.driver_reported", error)
        return RuntimeLook(runtime, told=told)
    runtime = replace(
        runtime,
        version=str(info["ServerVersion"]),
        driver_reported=_reported("daemon", info.get("CgroupDriver"), runtime.socket),
        live_restore=info.get("LiveRestoreEnabled") is True,
    )
    return RuntimeLook(runtime, _containers(look, docker.containers), told)


def _shim(look: Look, runtime: Runtime, socket: str) -> tuple[Runtime, str | None]:
    try:
        with Cri(socket) as cri:
            return replace(runtime, cri_version=cri.version()[2]), cri.runtime_config()
    except CgmigrateError as error:
        look.unknown("runtime.cri_version", error)
        return runtime, None


def _cri(
    look: Look,
    runtime: Runtime,
    configured: Callable[[Runtime], Runtime],
    says: Callable[[Cri], str | None],
) -> RuntimeLook:
    if not look.reader.live:
        return RuntimeLook(configured(runtime))
    told = said = None
    containers = None
    with Cri(runtime.socket) as cri:
        try:
            _, version, api = cri.version()
            runtime = replace(runtime, version=version, cri_version=api)
            told = cri.runtime_config()
            said = told or says(cri)
        except CgmigrateError as error:
            look.unknown("runtime.driver_reported", error)
        if runtime.version is not None:
            containers = _containers(look, cri.containers)
    kind = "runtime" if told else "daemon"
    if runtime.version is not None and said is None:
        look.unknown("runtime.driver_reported", "this runtime does not tell its driver while it runs")
    reported = _reported(kind, said, runtime.socket) if said else Driver(value=None)
    return RuntimeLook(replace(configured(runtime), driver_reported=reported), containers, told)


def _containerd_says(cri: Cri) -> str | None:
    """Return the driver of containerd's default handler as CRI Status has it; for 1.x, which has no RuntimeConfig.

    Where that is no runc, of the first one by name. None for 1.4 and older, whose Status shows no handler's options.
    """
    if (daemon_version(cri.version()[1]) or (0, 0)) < (1, 5):
        return None
    table = _inner(cri.status(verbose=True).get("info"), "config", "containerd")
    default = str(table.get("defaultRuntimeName") or "runc")
    handlers = _inner(table, "runtimes")
    for name in sorted(handlers, key=lambda name: (name != default, name)):
        handler = _inner(handlers, name)
        if handler.get("runtimeType") in RUNC_TYPES:
            return "systemd" if _inner(handler, "options").get("SystemdCgroup") is True else "cgroupfs"
    return None


def _containers(
    look: Look, ask: Callable[[], Iterable[RuntimeContainer]]
) -> tuple[RuntimeContainer, ...] | None:
    try:
        return tuple(ask())
    except CgmigrateError as error:
        look.unknown("runtime.containers", error)
        return None


def _reported(kind: str, value: object, path: str) -> Driver:
    driver = value if isinstance(value, str) and value else None
    return Driver(value=driver, chain=(Source(kind=kind, value=driver, path=path),))


def _inner(value: object, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
