# SPDX-License-Identifier: Apache-2.0
"""The table *from -> to*: where every live pod and container is, and where the other driver puts it.

The plan shows it, and verification holds the node to it. Paths are below the mounts of the hierarchies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrator.cgroups import (
    CgroupNameError,
    Driver,
    Kind,
    Place,
    QoS,
    Runtime,
    container_place,
    parse,
    pod_slice,
)
from migrator.facts.model import Container, Facts, Pod

SANDBOX = "POD"
"""What the kubelet calls the sandbox among a pod's containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One live pod or container: its cgroup now, and its cgroup under the other driver.

    The switch makes containers anew, with new ids: of a container's `to_path` the slice and the form of the scope's name
    hold, not the id. A static pod keeps its uid, so its row holds to the letter.
    """

    kind: str
    """`pod` or `container`."""
    namespace: str
    """Empty, like `pod`, where no runtime told it."""
    pod: str
    pod_uid: str
    container: str = ""
    """The container's name, `POD` for the sandbox, empty for a pod's own row."""
    container_id: str = ""
    from_path: str
    to_path: str

    @property
    def label(self) -> str:
        """What a reader calls it."""
        if self.kind == "pod":
            return f"{self.namespace}/{self.pod}" if self.pod else f"pod {self.pod_uid}"
        return "sandbox" if self.container == SANDBOX else self.container or self.container_id[:12]


def translations(facts: Facts, to: Driver = Driver.SYSTEMD) -> tuple[Translation, ...]:
    """Return the rows of all live pods and containers, by namespace, pod and container, each pod before its containers.

    A pod or container whose place cannot be computed (no QoS class, unknown runtime, a name that no slice can hold) has
    no row: the finding `pod-place-unknown` names it. A container that is in several places has a row for each.
    """
    rows = [row for pod in facts.pods for row in _rows(facts, pod, to)]
    return tuple(sorted(rows, key=_order))


def is_live(container: Container) -> bool:
    """Tell whether a container runs: the runtime says so, or it has processes."""
    return container.state == "running" or bool(container.pids)


def live_pods(facts: Facts) -> tuple[Pod, ...]:
    """Return the pods that have a live container; a leftover directory alone is no pod."""
    return tuple(pod for pod in facts.pods if any(map(is_live, pod.containers)))


def _order(row: Translation) -> tuple[str, str, str, bool, str, str, str]:
    is_container = row.kind == "container"
    return (row.namespace, row.pod, row.pod_uid, is_container, row.container, row.container_id, row.from_path)


def _rows(facts: Facts, pod: Pod, to: Driver) -> Iterator[Translation]:
    live = [each for each in pod.containers if is_live(each)]
    if not live or pod.qos not in set(QoS):
        return
    root, qos = facts.kubelet.cgroup_root or "/", QoS(pod.qos)
    driver = _driver(pod, live, root)
    try:
        target = pod_slice(pod.uid, qos, to, cgroup_root=root)
        present = pod_slice(pod.uid, qos, driver, cgroup_root=root) if driver else ""
    except CgroupNameError:
        return
    if present:
        yield Translation(
            kind="pod",
            namespace=pod.namespace,
            pod=pod.name,
            pod_uid=pod.uid,
            from_path=present,
            to_path=target,
        )
    runtime = Runtime(facts.runtime.kind) if facts.runtime.kind in set(Runtime) else None
    if runtime is None:
        return
    for each in live:
        target = container_place(pod.uid, qos, each.id, runtime, to, cgroup_root=root)
        places = {_own_path(path, each.id, root) for path in each.cgroups}
        if not places and driver:
            places = {container_place(pod.uid, qos, each.id, runtime, driver, cgroup_root=root)}
        for place in sorted(places):
            yield Translation(
                kind="container",
                namespace=pod.namespace,
                pod=pod.name,
                pod_uid=pod.uid,
                container=each.name or (SANDBOX if each.sandbox else ""),
                container_id=each.id,
                from_path=place,
                to_path=target,
            )


def _driver(pod: Pod, live: list[Container], root: str) -> Driver | None:
    """Return in whose spelling a pod lives: as its processes say, else as its only directory does.

    A literal cgroup (F06) names the slice that the kubelet made for the pod.
    """
    found = {place.driver for each in live for path in each.cgroups if (place := _place(path, root))}
    if len(found) == 1:
        return found.pop()
    return Driver(pod.driver) if pod.driver in set(Driver) else None


def _place(path: str, root: str) -> Place | None:
    place = parse(path, root)
    return place if place and place.pod_uid and not place.prefix else None


def _own_path(path: str, container_id: str, root: str) -> str:
    """Return the container's own cgroup of a path that may lead deeper, into cgroups that it made itself."""
    place = _place(path, root)
    if place and place.kind is not Kind.LITERAL and place.container_id == container_id:
        return path.removesuffix(place.tail) if place.tail else path
    # Elsewhere (a literal directory, docker's own parent) the first component with the id is the container's.
    found = re.match(rf".*?/[^/]*{re.escape(container_id)}[^/]*", path)
    return found[0] if found else path
