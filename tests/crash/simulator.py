# SPDX-License-Identifier: Apache-2.0
"""A simulated node: real files below a directory; units, containers, cgroups and an API server that behave.

What it knows of the real ones, each seen on the lab (`tests/lab/test_simulator.py` holds the two together):

- a unit starts only if its guard allows it, as systemd last read it; a boot reads everything again and starts what is enabled
- a runtime runs with the file that was on disk when it started; dockerd ends its containers when it stops, containerd does not
- dockershim's kubelet ends when drivers differ; containerd's goes on, and its containers land in literal `…slice:` directories
- the kubelet makes its pods from their manifests; a sandbox made under the other driver fails, and is not made again
- a pod cgroup that is there already is taken for the pod's: containerd's containers then stay in the tree of the other driver
- the API server is there while its container is, if the node carries it
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

from migrator.cgroups import Driver
from migrator.containers import RuntimeContainer
from migrator.doors import Doors
from migrator.drain import DrainEvent, DrainOptions
from migrator.errors import HostError
from migrator.findings import Finding, Severity
from migrator.host import Host, Output
from migrator.kube import ANNOTATION, KubeControl, KubeError
from migrator.systemd import ListedUnit, UnitControl, UnitState
from migrator.verify import CheckResult, Verification
from tests.crash.disk import Disk, remove_cgroup

CONTROLLERS = ("memory", "systemd")
"""Two hierarchies stand for the ten of a real node."""
MOUNTS = "".join(
    f"{number} 20 0:{number} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{option}\n"
    for number, (name, option) in enumerate(
        zip(CONTROLLERS, ("memory", "xattr,name=systemd"), strict=True), 30
    )
)
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
RUNTIME_FILES = {"docker": "/etc/docker/daemon.json", "containerd": "/etc/containerd/config.toml"}
MANIFESTS = "/etc/kubernetes/manifests"
JOBS = ("refused", "down", "late")
"""How a unit's job fails: nothing was done; the unit is down, and failed; or all was done, and nobody waited for it."""


@dataclass(slots=True)
class SimUnit:
    """A unit: `read` are its drop-ins as systemd last read them, `config` what its daemon runs with."""

    name: str
    active: str = "inactive"
    invocation: str = ""
    pid: int = 0
    read: tuple[str, ...] = ()
    config: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimPod:
    """A pod of this node: static ones have a manifest, the others come from the API server."""

    namespace: str
    name: str
    uid: str
    slice: str
    """Below a mount, in systemd's spelling."""
    containers: tuple[str, ...]
    static: bool = True
    owner: str = ""
    """`DaemonSet`, `ReplicaSet`, or empty."""

    def place(self, driver: str) -> str:
        """Return the pod's cgroup under a driver."""
        if driver == "systemd":
            return self.slice
        last = self.slice.rpartition("/")[2].removesuffix(".slice").split("-")
        return "/" + "/".join([*last[:-1], last[-1].replace("_", "-")])


@dataclass(slots=True)
class SimContainer:
    """A container or sandbox, and the tree that it lives in."""

    id: str
    pod: SimPod
    name: str
    driver: str
    cgroup: str
    state: str = "running"


@dataclass(slots=True)
class Api:
    """What the API server keeps; it outlives the node unless the node carries it."""

    node: dict[str, Any]
    config_map: dict[str, Any]
    gone: set[str] = field(default_factory=set)
    """Uids of pods that were evicted."""
    away: bool = False


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float | SupportsIndex) -> None:
        """Let time pass."""
        self.now += float(seconds)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Give this clock to everybody inside."""
        before = time.sleep, time.monotonic
        time.sleep, time.monotonic = self.sleep, lambda: self.now
        try:
            yield
        finally:
            time.sleep, time.monotonic = before


def by_itself(method: Callable[..., None]) -> Callable[..., None]:
    """Mark what the node does without the tool."""

    @functools.wraps(method)
    def alone(machine: Machine, *arguments: Any) -> None:
        with machine.disk.unwatched():
            method(machine, *arguments)

    return alone


class Machine:
    """The node. `violations` names what must never be: it is looked at whenever a unit changes."""

    def __init__(self, root: Path, runtime: str, pods: Sequence[SimPod], api: Api | None = None) -> None:
        self.root = root
        self.runtime = runtime
        self.pods = tuple(pods)
        self.api = api
        self.clock = Clock()
        self.serial = itertools.count(100)
        self.booted = 0
        sockets = ("docker.socket",) if runtime == "docker" else ()
        names = (*sockets, f"{runtime}.service", "kubelet.service")
        self.units = {name: SimUnit(name) for name in names}
        self.containers: dict[str, SimContainer] = {}
        self.violations: list[str] = []
        self.api_pod = ""
        """Name of the pod that is the API server; empty: it is on another node."""
        self.broken: dict[str, str] = {}
        """Unit → how each of its jobs fails until somebody mends it."""
        self.disk: Disk
        (root / "proc/self").mkdir(parents=True, exist_ok=True)
        (root / "proc/self/mountinfo").write_text(MOUNTS)
        (root / "proc/uptime").write_text("100.0 100.0\n")
        for name in CONTROLLERS:
            (root / "sys/fs/cgroup" / name).mkdir(parents=True, exist_ok=True)
        (root / "run").mkdir(exist_ok=True)
        self.disk = Disk(root)
        self.boot()

    # ---- the machine as a whole

    @by_itself
    def boot(self) -> None:
        """Power comes: nothing runs, nothing is in /run, systemd reads its files and starts what is enabled."""
        self.booted += 1
        for path in ("run", *(f"sys/fs/cgroup/{name}" for name in CONTROLLERS)):
            _empty(self.root / path)
        for container in self.containers.values():
            container.state = "exited"
        for unit in self.units.values():
            unit.active, unit.pid = "inactive", 0
        (self.root / "proc/self").mkdir(parents=True, exist_ok=True)
        boot_id = self.root / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True, exist_ok=True)
        boot_id.write_text(f"boot-{self.booted}\n")
        self.reload()
        for name in self.units:
            self.start(name)

    def cut_power(self, *, forget: bool) -> None:
        """Power goes, and comes back; `forget`: what was not flushed is lost."""
        if forget:
            self.disk.cut_power()
        self.boot()

    # ---- systemd

    def reload(self) -> None:
        """Read the drop-ins again."""
        for unit in self.units.values():
            directory = self.root / f"etc/systemd/system/{unit.name}.d"
            texts = (
                [path.read_text() for path in sorted(directory.glob("*.conf"))] if directory.is_dir() else []
            )
            unit.read = tuple(texts)

    def allowed(self, unit: SimUnit) -> bool:
        """Tell whether a unit's triggering conditions let it start."""
        conditions = re.findall(r"^ConditionPathExists=\|(!?)(.+)$", "\n".join(unit.read), re.MULTILINE)
        return not conditions or any(
            (self.root / path.removeprefix("/")).exists() != bool(negated) for negated, path in conditions
        )

    @by_itself
    def start(self, name: str) -> None:
        """Start a unit that does not run; what it needs comes first."""
        unit = self.units[name]
        if unit.active == "active" or not self.allowed(unit):
            return
        if name == "docker.service":
            self.start("docker.socket")
        if self.broken.get(name) == "down":
            unit.active = "failed"
            return
        unit.active, unit.pid = "active", next(self.serial)
        unit.invocation = f"{unit.pid:032x}"
        self._show_process(unit)
        if name == f"{self.runtime}.service":
            unit.config, unit.driver = self.on_disk("runtime")
        if name == "kubelet.service":
            unit.config, unit.driver = self.on_disk("kubelet")
        self.live()

    @by_itself
    def stop(self, name: str) -> None:
        """Stop a unit."""
        unit = self.units[name]
        unit.active, unit.pid = "inactive", 0
        if name == "docker.service":
            for container in self.containers.values():
                self.end(container)
        self.live()

    def on_disk(self, which: str) -> tuple[str, str]:
        """Return digest and driver of what a unit would run with if it started now."""
        path = KUBELET_CONFIG if which == "kubelet" else RUNTIME_FILES[self.runtime]
        try:
            data = (self.root / path.removeprefix("/")).read_bytes()
        except FileNotFoundError:
            data = b""
        names = ("kubelet.service",) if which == "kubelet" else (f"{self.runtime}.service",)
        flags = "".join(text for name in names for text in self.units[name].read if "cgmigrate" not in text)
        return hashlib.sha256(data + flags.encode()).hexdigest(), _driver(path, data, flags)

    def socket_activates(self) -> None:
        """Somebody connects: systemd starts the service behind its socket."""
        if "docker.socket" in self.units and self.units["docker.socket"].active == "active":
            self.start("docker.service")

    # ---- runtime and kubelet

    @property
    def runs(self) -> bool:
        """Whether the runtime answers."""
        return self.units[f"{self.runtime}.service"].active == "active"

    @by_itself
    def live(self) -> None:
        """Let the kubelet do what it does by itself, and look for what must not be."""
        kubelet = self.units["kubelet.service"]
        runtime = self.units[f"{self.runtime}.service"]
        if kubelet.active not in ("active", "activating"):
            return
        if not self.runs:
            return
        if kubelet.driver != runtime.driver:
            self.violations.append(f"kubelet on {kubelet.driver} runs against a runtime on {runtime.driver}")
            kubelet.active = "activating" if self.runtime == "docker" else "active"
            return
        kubelet.active = "active"
        for pod in self.own_pods():
            self._run_pod(pod, kubelet.driver)

    def own_pods(self) -> Iterator[SimPod]:
        """Yield the pods that the kubelet should run."""
        for pod in self.pods:
            if self.api is None or pod.uid not in self.api.gone:
                yield pod

    def _run_pod(self, pod: SimPod, driver: str) -> None:
        mine = [each for each in self.containers.values() if each.pod == pod]
        if any(each.driver != driver and each.state != "running" for each in mine):
            return  # F08: a sandbox of the other driver fails to start, again and again
        if any(each.driver != driver for each in mine):
            return  # it runs where it is, and nobody moves it
        stale = self.runtime == "containerd" and not mine and self._exists(pod.place(driver))
        for name in ("", *pod.containers):
            at = next((each for each in mine if each.name == name), None)
            if at is None:
                number = f"{next(self.serial):064x}"
                at = SimContainer(number, pod, name, driver, "", state="created")
                self.containers[number] = at
            if at.state != "running":
                home = "cgroupfs" if stale and driver == "systemd" else driver
                leaf = (
                    f"docker-{at.id}.scope" if self.runtime == "docker" else f"cri-containerd-{at.id}.scope"
                )
                at.cgroup = f"{pod.place(home)}/{leaf if home == 'systemd' else at.id}"
                at.state = "running"
                for controller in CONTROLLERS:
                    directory = self.root / f"sys/fs/cgroup/{controller}{at.cgroup}"
                    directory.mkdir(parents=True, exist_ok=True)
                    (directory / "cgroup.procs").write_text("4242\n")

    def _exists(self, place: str) -> bool:
        return any((self.root / f"sys/fs/cgroup/{name}{place}").is_dir() for name in CONTROLLERS)

    @by_itself
    def end(self, container: SimContainer) -> None:
        """End a container's processes; its own cgroup goes with them, its pod's stays."""
        if container.state != "running":
            return
        container.state = "exited"
        for controller in CONTROLLERS:
            directory = self.root / f"sys/fs/cgroup/{controller}{container.cgroup}"
            if directory.is_dir():
                (directory / "cgroup.procs").write_text("")
                remove_cgroup(directory)

    def remove_kubernetes(self, progress: Callable[[str], None]) -> int:
        """Stop and remove every container, as `docker rm` and CRI do."""
        self.need_runtime()
        count = 0
        for container in sorted(self.containers.values(), key=lambda each: not each.name):
            self.disk.fate.meet("remove a container", container.pod.name, _runtime_refuses)
            self.end(container)
            del self.containers[container.id]
            count += 1
        progress(f"{count} containers")
        return count

    def need_runtime(self) -> None:
        """Let a request come through the socket.

        Raises:
            HostError: nobody answers.
        """
        self.socket_activates()
        if not self.runs:
            raise HostError(f"{self.runtime} does not answer")

    def listed(self) -> list[RuntimeContainer]:
        """Return what the runtime tells of its containers."""
        self.need_runtime()
        sandbox = {each.pod: each.id for each in self.containers.values() if not each.name}
        return [
            RuntimeContainer(
                id=each.id,
                name=each.name,
                pod_uid=each.pod.uid,
                pod_name=each.pod.name,
                pod_namespace=each.pod.namespace,
                sandbox=not each.name,
                sandbox_id=sandbox.get(each.pod, "") if each.name else "",
                state=each.state,
                cgroup_parent=_parent(each),
            )
            for each in self.containers.values()
        ]

    def healthy(self) -> bool:
        """Tell whether the kubelet answers."""
        self.live()
        return self.units["kubelet.service"].active == "active" and self.runs

    # ---- the API server

    def api_answers(self) -> Api:
        """Return the API server's objects.

        Raises:
            KubeError: it is away, or its own container is down.
        """
        answers = self.disk.fate.ask(self.clock.now)
        if self.api is None or self.api.away or not answers or not self._carries_a_running_api_server():
            raise KubeError("connection refused", kind="unreachable")
        return self.api

    def _carries_a_running_api_server(self) -> bool:
        return not self.api_pod or any(
            (each.pod.name, each.state) == (self.api_pod, "running") and each.name
            for each in self.containers.values()
        )

    def _show_process(self, unit: SimUnit) -> None:
        directory = self.root / f"proc/{unit.pid}"
        directory.mkdir(parents=True, exist_ok=True)
        fields = ["S", *["0"] * 18, str(int(99.0 * os.sysconf("SC_CLK_TCK"))), *["0"] * 5]
        (directory / "stat").write_text(f"{unit.pid} ({unit.name}) {' '.join(fields)}\n")


# ---- doors


class SimHost(Host):
    """The node's files; it is live, although its root is a directory."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.root)
        self.live = True

    def run(self, argv: Sequence[str], timeout: float = 30, *, keep: Sequence[int] = ()) -> Output:  # noqa: ARG002
        """Refuse: no step may need a program that is not behind another door."""
        raise HostError(f"{argv[0]}: no such program on a simulated node")


class SimUnits(UnitControl):
    """systemd."""

    def __init__(self, host: Host, machine: Machine) -> None:
        super().__init__(host)
        self.machine = machine

    def close(self) -> None:
        """Nothing is open."""

    def state(self, unit: str) -> UnitState:
        """Return a unit's state."""
        found = self.machine.units.get(unit)
        known = found is not None or self._slice_exists(unit)
        return UnitState(
            name=unit,
            load_state="loaded" if known else "not-found",
            active_state=found.active if found else "active" if known else "inactive",
            sub_state="",
            unit_file_state="enabled",
            fragment_path=f"/lib/systemd/system/{unit}",
            drop_in_paths=(),
            main_pid=found.pid if found else 0,
            invocation_id=found.invocation if found else "",
            control_group="",
            result="success",
            n_restarts=0,
            need_daemon_reload=False,
        )

    def list(self, *patterns: str) -> tuple[ListedUnit, ...]:
        """Return the slices and scopes that have a cgroup."""
        names = {
            path.name
            for controller in CONTROLLERS
            for path in (self.machine.root / "sys/fs/cgroup" / controller).rglob("*")
            if path.is_dir() and path.name.endswith((".slice", ".scope"))
        }
        return tuple(
            ListedUnit(name=name, load_state="loaded", active_state="active", sub_state="active", job_type="")
            for name in sorted(names)
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        )

    def start(self, unit: str, timeout: float = 90) -> UnitState:  # noqa: ARG002
        """Start."""
        return self._do("start", unit, self.machine.start)

    def stop(self, unit: str, timeout: float = 90) -> UnitState:  # noqa: ARG002
        """Stop; a slice takes its directories along."""
        return self._do("stop", unit, self.machine.stop if unit in self.machine.units else self._stop_slice)

    def restart(self, unit: str, timeout: float = 90) -> UnitState:  # noqa: ARG002
        """Stop and start."""

        def both(name: str) -> None:
            self.machine.stop(name)
            self.machine.start(name)

        return self._do("restart", unit, both)

    def reload(self) -> None:
        """Read unit files again."""
        self.machine.disk.fate.meet("reload", "systemd", _unit_refuses)
        self.machine.reload()

    def reset_failed(self, unit: str) -> None:
        """Nothing fails here but units of the node's own."""

    def _do(self, verb: str, unit: str, work: Callable[[str], None]) -> UnitState:
        fate = self.machine.disk.fate
        fate.meet(verb, unit, _unit_refuses)
        how = fate.how if fate.breaks else self.machine.broken.get(unit, "")
        if how and fate.lasting and fate.breaks:
            self.machine.broken[unit] = how
        if how == "down":
            self.machine.stop(unit)
            self.machine.units[unit].active = "failed"
        if how in ("", "late"):
            work(unit)
        if how:
            raise HostError(f"cannot {verb} {unit}: the job failed ({how})")
        if self.state(unit).active_state == "failed":
            raise HostError(f"cannot {verb} {unit}: failed")
        return self.state(unit)

    def _slice_exists(self, unit: str) -> bool:
        return any(each.name == unit for each in self.list(unit))

    def _stop_slice(self, unit: str) -> None:
        with self.machine.disk.unwatched():
            self._remove_slice(unit)

    def _remove_slice(self, unit: str) -> None:
        for controller in CONTROLLERS:
            for path in sorted((self.machine.root / "sys/fs/cgroup" / controller).rglob(unit), reverse=True):
                for directory in sorted(path.rglob("*"), reverse=True):
                    if directory.is_dir():
                        remove_cgroup(directory)
                remove_cgroup(path)


@dataclass(frozen=True)
class SimRuntime:
    """dockerd or containerd."""

    machine: Machine

    def containers(self) -> list[RuntimeContainer]:
        """Return all containers."""
        return self.machine.listed()

    def remove_kubernetes(self, progress: Callable[[str], None], grace_seconds: int = 30) -> int:  # noqa: ARG002
        """Remove the kubelet's."""
        return self.machine.remove_kubernetes(progress)


class SimKube(KubeControl):
    """kubectl and the API server behind it."""

    def __init__(self, host: Host, machine: Machine) -> None:
        super().__init__(host, "/etc/kubernetes/admin.conf")
        self.machine = machine

    def server_version(self) -> str:
        """Return the version."""
        self.machine.api_answers()
        return "1.20.2"

    def get(self, *argv: str) -> Any:
        """Answer the few things that the steps ask."""
        api = self.machine.api_answers()
        now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
        match argv[0]:
            case "node":
                ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now.isoformat()}
                return {**json.loads(json.dumps(api.node)), "status": {"conditions": [ready]}}
            case "nodes":
                return {"items": [api.node]}
            case "lease":
                return {"spec": {"renewTime": now.isoformat()}}
            case "pods":
                return {"items": [self._pod(pod) for pod in self.machine.own_pods()]}
            case "poddisruptionbudgets" | "daemonsets" | "daemonsets.apps":
                return {
                    "items": [{"metadata": {"namespace": "default", "name": "agent", "uid": "agent-uid"}}]
                }
            case "configmap":
                return json.loads(json.dumps(api.config_map))
            case _:
                raise KubeError(f"get {argv}", kind="other")

    def cordon(self, node: str) -> None:
        """Cordon."""
        self._change("cordon", node)["spec"]["unschedulable"] = True

    def uncordon(self, node: str) -> None:
        """Uncordon."""
        self._change("uncordon", node)["spec"].pop("unschedulable", None)

    def mark(self, node: str, run_name: str) -> None:
        """Annotate."""
        self._change("mark", node)["metadata"]["annotations"][ANNOTATION] = run_name

    def unmark(self, node: str) -> None:
        """Annotate no more."""
        self._change("unmark", node)["metadata"]["annotations"].pop(ANNOTATION, None)

    def replace(self, document: Mapping[str, Any]) -> None:
        """Replace the ConfigMap."""
        self._change("replace", document["metadata"]["name"])
        api = self.machine.api_answers()
        api.config_map = json.loads(json.dumps(document))
        api.config_map["metadata"]["resourceVersion"] += "1"

    def drain(
        self,
        node: str,
        options: DrainOptions,
        *,
        tell: Callable[[DrainEvent], None],
        check: Callable[[], None],
        decide: Callable[[DrainEvent], str],
        held: Collection[tuple[str, str]] = (),
    ) -> None:
        """Evict what has an owner elsewhere."""
        del options, decide, held
        api = self.machine.api_answers()
        for pod in [each for each in self.machine.own_pods() if each.owner == "ReplicaSet"]:
            check()
            self.machine.api_answers()
            self.machine.disk.fate.meet("evict", f"{node}/{pod.name}", _api_refuses)
            api.gone.add(pod.uid)
            for container in [each for each in self.machine.containers.values() if each.pod == pod]:
                self.machine.end(container)
                del self.machine.containers[container.id]
            tell(
                DrainEvent(
                    kind="evicted", namespace=pod.namespace, name=pod.name, text=f"pod/{pod.name} evicted"
                )
            )

    def _change(self, what: str, name: str) -> dict[str, Any]:
        api = self.machine.api_answers()
        self.machine.disk.fate.meet(what, name, _api_refuses)
        return api.node

    def _pod(self, pod: SimPod) -> dict[str, Any]:
        own = [each for each in self.machine.containers.values() if each.pod == pod and each.name]
        annotations = (
            {"kubernetes.io/config.mirror": "m", "kubernetes.io/config.hash": pod.uid} if pod.static else {}
        )
        owners = (
            [{"kind": pod.owner, "name": "agent", "uid": "agent-uid", "controller": True}]
            if pod.owner
            else []
        )
        return {
            "metadata": {
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
                "annotations": annotations,
                "ownerReferences": owners,
            },
            "spec": {},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"containerID": f"x://{each.id}"} for each in own],
            },
        }


def doors(machine: Machine) -> Doors:
    """Return the doors to a simulated node."""
    host = SimHost(machine)
    kube = SimKube(host, machine)

    def in_force(kind: str, socket: str) -> tuple[str, str]:
        del socket
        machine.need_runtime()
        return kind, machine.units[f"{machine.runtime}.service"].driver

    def verify(driver: str, pods: Sequence[Mapping[str, Any]], window: float) -> Verification:
        findings = tuple(_finding(text) for text in judge(machine, driver, pods))
        return Verification(
            expected=Driver(driver),
            reloaded=True,
            settle=window,
            checks=tuple(_checks(machine)),
            findings=findings,
        )

    return Doors(
        host=host,
        units=SimUnits(host, machine),
        runtime_reader=lambda kind, socket: SimRuntime(machine),  # noqa: ARG005
        runtime_control=lambda kind, socket: SimRuntime(machine),  # noqa: ARG005
        kube=lambda kubeconfig: kube,  # noqa: ARG005
        kube_control=lambda kubeconfig: kube,  # noqa: ARG005
        answers=lambda url: machine.healthy(),  # noqa: ARG005
        driver_in_force=in_force,
        verify=verify,
    )


def judge(machine: Machine, driver: str, pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with a node that should be on a driver: the simulator's own verification."""
    running = [each for each in machine.containers.values() if each.state == "running"]
    gone = machine.api.gone if machine.api else set()
    for row in pods:
        mine = [each for each in running if each.pod.uid == row["pod_uid"]]
        if row["pod_uid"] in gone:
            continue
        if not mine:
            yield f"{row['pod']} does not run"
        if any(not each.cgroup.startswith(str(row["cgroup"]) + "/") for each in mine):
            yield f"{row['pod']} is elsewhere"
    if driver == "systemd" and machine._exists("/kubepods"):
        yield "the old tree is there"
    for each in machine.containers.values():
        if each.driver != driver:
            yield f"{each.pod.name}: a container of the other driver"


def _checks(machine: Machine) -> Iterator[CheckResult]:
    """Yield where everything that runs is, as both witnesses would."""
    for each in machine.containers.values():
        if each.state == "running":
            pod = f"{each.pod.namespace}/{each.pod.name}"
            slice_ = each.cgroup.rpartition("/")[0]
            yield CheckResult(name=pod, place=slice_, cgroupfs="exists", systemd=slice_, ok=True)
            label = f"{pod} {each.name or 'sandbox'}"
            yield CheckResult(
                name=label, place=each.cgroup, cgroupfs="1 process", systemd=each.cgroup, ok=True
            )


def _finding(text: str) -> Finding:
    return Finding(
        id="verify-place",
        severity=Severity.BLOCKER,
        subject="sim",
        summary=text,
        detail="",
        remediation="",
        reference="",
    )


def _parent(container: SimContainer) -> str:
    place = container.pod.place(container.driver)
    return place.rpartition("/")[2] if container.driver == "systemd" else place


def _driver(path: str, data: bytes, flags: str) -> str:
    """Read a driver as its daemon does, with another parser than the product's."""
    if found := re.findall(r"--cgroup-driver=(\w+)", flags):
        return str(found[-1])
    if path.endswith(".yaml"):
        stated = re.search(rb"^cgroupDriver: (\w+)", data, re.MULTILINE)
        return stated[1].decode() if stated else "cgroupfs"
    if path.endswith(".toml"):
        table: Any = tomllib.loads(data.decode())
        for key in ("plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes", "runc", "options"):
            table = table.get(key, {})
        return "systemd" if table.get("SystemdCgroup") else "cgroupfs"
    options = json.loads(data or b"{}").get("exec-opts", [])
    return "systemd" if "native.cgroupdriver=systemd" in options else "cgroupfs"


def _empty(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _unit_refuses(number: int) -> HostError:
    return HostError(f"the job failed ({os.strerror(number)})")


def _runtime_refuses(number: int) -> HostError:
    return HostError(f"the runtime refused ({os.strerror(number)})")


def _api_refuses(number: int) -> KubeError:
    return KubeError(f"connection refused ({os.strerror(number)})", kind="unreachable")
