# SPDX-License-Identifier: Apache-2.0
"""Pods and containers: what the runtime knows, what the cgroup tree holds, and where the processes really are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from migrator import cgroups
from migrator.containers import RuntimeContainer
from migrator.facts.cgroup import PodDirectories
from migrator.facts.look import Look
from migrator.facts.model import Container, Pod
from migrator.host import Reader

DAEMON_SET = "pod-template-generation"
"""Label that the DaemonSet controller gives to its pods, the only owner that the runtime can tell of."""

_ID = re.compile(r"[0-9a-f]{64}")
_STATIC_UID = re.compile(r"[0-9a-f]{32}")
_CGROUP_FILE = 1 << 16  # bytes: a dozen hierarchies with a path of at most 4096 each


@dataclass(slots=True)
class Places:
    """Where the processes of one container are: their ids, and the distinct cgroup paths that name the container."""

    pids: set[int] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Processes:
    """One pass over /proc: the places by container id, and the ids of the containers found in pods' cgroups by uid."""

    containers: Mapping[str, Places] = field(default_factory=dict)
    pods: Mapping[str, frozenset[str]] = field(default_factory=dict)


def gather_workloads(
    look: Look,
    known: Iterable[RuntimeContainer] | None,
    directories: Mapping[str, PodDirectories],
    cgroup_root: str = "",
) -> tuple[tuple[Pod, ...], tuple[Container, ...]]:
    """Return the pods, and the containers outside Kubernetes.

    `known` is None when no runtime could be asked: then every pod cgroup is a pod without a name, and its containers are
    those whose processes were found. With an answer, a pod cgroup that the runtime does not know and nothing lives in
    is a leftover (a fact of the tree), not a pod.
    """
    processes = scan_processes(look.reader, cgroup_root)
    listed = tuple(known) if known is not None else ()
    by_pod: dict[str, list[RuntimeContainer]] = {}
    for each in listed:
        by_pod.setdefault(each.pod_uid, []).append(each)
    others = tuple(
        _container(each, processes) for each in sorted(by_pod.pop("", []), key=lambda each: each.id)
    )
    in_tree = directories if known is None else ()
    uids = sorted({*by_pod, *processes.pods, *in_tree})
    pods = [_pod(uid, by_pod.get(uid, []), directories.get(uid), processes, cgroup_root) for uid in uids]
    return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name, pod.uid))), others


def scan_processes(reader: Reader, cgroup_root: str = "") -> Processes:
    """Read every `/proc/PID/cgroup` once; a process that ends meanwhile is skipped.

    A path that lies in another node's tree (a node inside a container) names no pod of this one.
    """
    containers: dict[str, Places] = {}
    pods: dict[str, set[str]] = {}
    read: dict[str, tuple[tuple[str, str], ...]] = {}
    for pid in reader.processes():
        text = reader.text(f"/proc/{pid}/cgroup", _CGROUP_FILE)
        if not text:
            continue
        if text not in read:
            read[text] = tuple(_named(text))
            _note_pods(pods, read[text], cgroup_root)
        for container, path in read[text]:
            places = containers.setdefault(container, Places())
            places.pids.add(pid)
            places.paths.add(path)
    return Processes(containers, {uid: frozenset(ids) for uid, ids in pods.items()})


def _named(text: str) -> Iterable[tuple[str, str]]:
    """Return (container id, path) of each path in the text of one `/proc/PID/cgroup` that names a container."""
    for line in text.split("\n"):  # a cgroup's name may hold what `splitlines` takes for an end of line
        path = line.split(":", 2)[-1] if line.count(":") >= 2 else ""
        for container in dict.fromkeys(_ID.findall(path)):
            yield container, path


def _note_pods(pods: dict[str, set[str]], named: Iterable[tuple[str, str]], cgroup_root: str) -> None:
    for container, path in named:
        for root in dict.fromkeys((cgroup_root or "/", "/")):
            place = cgroups.parse(path, root)
            if place and not place.prefix and place.pod_uid and place.container_id == container:
                pods.setdefault(place.pod_uid, set()).add(container)
                break


def _pod(
    uid: str,
    known: list[RuntimeContainer],
    directories: PodDirectories | None,
    processes: Processes,
    cgroup_root: str,
) -> Pod:
    containers = [_container(each, processes) for each in known]
    found = processes.pods.get(uid, frozenset()) - {each.id for each in containers}
    containers += [_unlisted(each, uid, processes) for each in found]
    # The newest sandbox is the pod's: older ones are dead and wait to be collected.
    sandboxes = sorted(
        (each for each in known if each.sandbox),
        key=lambda each: (each.state == "running", each.attempt, each.id),
    )
    sandbox = sandboxes[-1] if sandboxes else None
    named = next((each for each in (sandbox, *known) if each and each.pod_name), None)
    static = any(each.static for each in known if each.sandbox) or bool(_STATIC_UID.fullmatch(uid))
    return Pod(
        uid=uid,
        name=named.pod_name if named else "",
        namespace=named.pod_namespace if named else "",
        qos=directories.qos if directories else _qos(containers, cgroup_root),
        static=static,
        sandbox_id=sandbox.id if sandbox else "",
        sandbox_state=sandbox.state if sandbox else "",
        containers=tuple(sorted(containers, key=lambda each: (not each.sandbox, each.name, each.id))),
        driver=_driver(directories.drivers if directories else frozenset()),
        daemon_set=sandbox is not None and DAEMON_SET in sandbox.labels,
    )


def _container(known: RuntimeContainer, processes: Processes) -> Container:
    places = processes.containers.get(known.id, Places())
    pids = places.pids | ({known.pid} if known.pid and known.state == "running" else set())
    return Container(
        id=known.id,
        name=known.name,
        pod_uid=known.pod_uid,
        state=known.state,
        sandbox=known.sandbox,
        pids=tuple(sorted(pids)),
        cgroups=tuple(sorted(places.paths)),
        cgroup_parent=known.cgroup_parent,
        restart_policy=known.restart_policy,
    )


def _unlisted(container: str, uid: str, processes: Processes) -> Container:
    """Return a container that only its processes tell of; they live, so it runs."""
    places = processes.containers[container]
    return Container(
        id=container,
        name="",
        pod_uid=uid,
        state="running",
        pids=tuple(sorted(places.pids)),
        cgroups=tuple(sorted(places.paths)),
    )


def _qos(containers: Iterable[Container], cgroup_root: str) -> str:
    """Return the QoS class that the containers' places, or the parent stored at their creation, tell."""
    for container in containers:
        for path in (*container.cgroups, _as_path(container.cgroup_parent)):
            place = cgroups.parse(path, cgroup_root or "/") if path else None
            if place and place.pod_uid == container.pod_uid and place.qos:
                return place.qos.value
    return ""


def _as_path(cgroup_parent: str) -> str:
    """Return a stored cgroup parent as a path: under the systemd driver it is the name of a slice."""
    if cgroup_parent.startswith("/") or not cgroup_parent.endswith(cgroups.SLICE):
        return cgroup_parent
    try:
        return cgroups.expand_slice(cgroup_parent)
    except cgroups.CgroupNameError:
        return ""


def _driver(drivers: frozenset[str]) -> str:
    return "both" if len(drivers) > 1 else next(iter(drivers), "")
