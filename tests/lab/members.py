# SPDX-License-Identifier: Apache-2.0
"""The three nodes of one cluster: on disk, on the wire, and what its API says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import network, recipes
from .cache import LabError, copy_tree
from .machine import HERE, until
from .node import Container, Node

if TYPE_CHECKING:
    import subprocess

FILES = HERE / "files/cluster"
ADMIN = "/etc/kubernetes/admin.conf"
SERVICES = "10.96.0.0/12"
WEB = "http://10.96.0.80/"  # files/cluster/web.yaml
OBJECTS = "nodes,leases.coordination.k8s.io,pods,endpoints,deployments,statefulsets,daemonsets"
Json = dict[str, Any]
Objects = Mapping[str, Sequence[Json]]
T = TypeVar("T")
LEADERS = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Seat:
    """One node's place in a cluster: what it calls itself, its runtime, address and pods' addresses."""

    hostname: str
    flavour: str
    address: str
    pods: str


SEATS = (
    Seat("cp1", "docker", "10.99.0.2", "10.244.0.0/24"),
    Seat("w1", "docker", "10.99.0.3", "10.244.1.0/24"),
    Seat("w2", "containerd", "10.99.0.4", "10.244.2.0/24"),
)
CNI = Path("etc/cni/net.d/10-lab.conflist")


def _routes(*but: Seat) -> list[str]:
    return [f"{seat.pods} via {seat.address}" for seat in SEATS if seat not in but]


def _since(stamp: str | None) -> float:
    """Return a time of the API in seconds since the epoch; 0 for none."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0


class Member(Node):
    """A node of a cluster."""

    @property
    def cluster(self) -> str:
        """Return the name of the cluster."""
        return str(self.state["network"])

    @property
    def booted(self) -> float:
        """Return when it was switched on last, in seconds since the epoch."""
        return float(str(self.state["booted"]))

    def wait_pods(self, timeout: float = 180) -> list[Container]:
        """Wait until the kubelet is healthy and runs, ready, what the API binds to this node; return that."""
        members = Members(self.cluster)
        found: list[Container] = []

        def lacks() -> list[str]:
            if not self.healthy():
                return ["the kubelet's healthz"]
            objects = members.objects()
            if missing := lacking(objects, {self.hostname: self.booted}):
                return missing
            wanted = sorted(
                (pod["metadata"]["name"].removesuffix(f"-{self.hostname}"), container["name"])
                for pod in objects["Pod"]
                if pod["spec"].get("nodeName") == self.hostname and pod["status"]["phase"] == "Running"
                for container in pod["spec"]["containers"]
            )
            found[:] = self.containers()
            running = [(container.pod, container.name) for container in found]
            return [] if running == wanted else [f"the runtime runs {running}, the API wants {wanted}"]

        members.until_nothing_lacks(f"pods of {self.name}", lacks, timeout)
        return found


def lacking(objects: Objects, booted: Mapping[str, float]) -> list[str]:
    """Return what keeps nodes, and all that is bound to them, from being ready.

    The API tells the truth of before a reboot until it hears anew (a node stays Ready for 40 s, its pods for
    longer), so nothing counts that is older than the node's boot. A static pod counts as soon as it runs: the
    kubelet calls one with a startup probe ready only a minute later, when it looks at it again.

    Args:
        objects: kind → objects.
        booted: node → seconds since the epoch; other nodes and their pods do not count.
    """
    missing = []
    leases = {each["metadata"]["name"]: _since(each["spec"].get("renewTime")) for each in objects["Lease"]}
    for name, since in booted.items():
        if leases.get(name, 0) < since:
            missing.append(f"node {name}: no heartbeat")
    for node in objects["Node"]:
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
        if node["metadata"]["name"] in booted and conditions.get("Ready") != "True":
            missing.append(f"node {node['metadata']['name']}: not Ready")
    for pod in objects["Pod"]:
        node = pod["spec"].get("nodeName")
        if node in booted and pod["status"]["phase"] not in ("Succeeded", "Failed"):
            missing += _lacking_pod(pod, booted[node])
    return missing


def _lacking_pod(pod: Json, booted: float) -> list[str]:
    name = pod["metadata"]["name"]
    containers = pod["status"].get("containerStatuses", [])
    began = [_since(each["state"].get("running", {}).get("startedAt")) for each in containers]
    if "deletionTimestamp" in pod["metadata"]:
        return [f"pod {name}: terminating"]
    if len(began) != len(pod["spec"]["containers"]) or min(began) < int(booted):
        return [f"pod {name}: not started" + (" anew" if any(began) else "")]
    static = "kubernetes.io/config.mirror" in pod["metadata"].get("annotations", {})
    return [] if static or all(each["ready"] for each in containers) else [f"pod {name}: not ready"]


def lacking_together(objects: Objects, booted: float) -> list[str]:
    """Return what keeps controllers from having done their work: leaders, nodes for pods, replicas, endpoints.

    Args:
        objects: kind → objects.
        booted: when the control plane was, in seconds since the epoch.
    """
    leases = {each["metadata"]["name"]: _since(each["spec"].get("renewTime")) for each in objects["Lease"]}
    missing = [f"leader {name}: none yet" for name in LEADERS if leases.get(name, 0) < booted]
    missing += [
        f"pod {pod['metadata']['name']}: no node yet"
        for pod in objects["Pod"]
        if "nodeName" not in pod["spec"]
    ]
    addresses = {
        (pod["metadata"]["namespace"], pod["metadata"]["name"]): pod["status"].get("podIP")
        for pod in objects["Pod"]
    }
    for kind, wanted, there in (
        ("Deployment", "replicas", "readyReplicas"),
        ("StatefulSet", "replicas", "readyReplicas"),
        ("DaemonSet", "desiredNumberScheduled", "numberReady"),
    ):
        for each in objects[kind]:
            status = each["status"]
            number = (each["spec"] if wanted == "replicas" else status).get(wanted, 0)
            current = status.get("observedGeneration", 0) >= each["metadata"]["generation"]
            if not current or number != status.get(there, 0):
                missing.append(f"{kind} {each['metadata']['name']}: {status.get(there, 0)} of {number} ready")
    for each in objects["Endpoints"]:
        for subset in each.get("subsets", []):
            for address in (*subset.get("addresses", []), *subset.get("notReadyAddresses", [])):
                target = address.get("targetRef")
                if target and addresses.get((target["namespace"], target["name"])) != address["ip"]:
                    missing.append(f"endpoint {each['metadata']['name']}: {address['ip']} is no more")
    return missing


class Members:
    """All nodes of the cluster of that name, whoever made it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = {seat.hostname: Member(f"{name}-{seat.hostname}") for seat in SEATS}

    @cached_property
    def control_plane(self) -> Member:
        """Return the node with the API server."""
        return self.nodes["cp1"]

    # --- on disk and on the wire -----------------------------------------------------------------

    def make(self, layers: Sequence[Path], owner: list[int | None] | None, golden: Path | None) -> None:
        """Make the nodes, off: copies of those kept in GOLDEN, or such that kubeadm has not seen yet."""

        def make(seat: Seat) -> None:
            places = [*recipes.storage_folders(seat.flavour), "var/lib/kubelet"]
            seeds: dict[str, Path | None] = dict.fromkeys(places)
            if golden is not None:
                seeds = {place: golden / seat.hostname / Path(place).name for place in places}
            else:
                storage = recipes.STORAGE[seat.flavour].path
                seeds |= {place: storage / place for place in recipes.storage_folders(seat.flavour)}
            node = self.nodes[seat.hostname]
            node.make(
                layers,
                seeds,
                upper=golden / seat.hostname / "upper" if golden else None,
                owner=owner,
                flavour=seat.flavour,
                hostname=seat.hostname,
                network=self.name,
                address=seat.address,
                routes=";".join(_routes(seat)),
            )
            if golden is None:
                recipes.install_files(node.root, seat.flavour, "cluster/root")
                (node.root / "etc/kubernetes/manifests").mkdir(parents=True)
                (node.root / CNI).write_text((node.root / CNI).read_text().replace(SEATS[0].pods, seat.pods))

        each_at_once(make, SEATS)

    def keep(self, out: Path) -> None:
        """Copy what the nodes, which are off, have of their own to OUT."""
        for hostname, node in self.nodes.items():
            shutil.rmtree(node.root / "var/log/journal", ignore_errors=True)
            copy_tree(node.dir / "upper", out / hostname / "upper")
            for data in (node.dir / "data").iterdir():
                copy_tree(data, out / hostname / data.name)

    def boot(self, *options: str) -> None:
        """Lay the cables and switch on every node that is off."""
        network.ensure(self.name, [f"{SERVICES} via {SEATS[0].address}", *_routes()])
        off = [node for node in self.nodes.values() if node.init is None]
        each_at_once(lambda node: node.boot(*options), off)

    def destroy(self) -> None:
        """Remove the nodes and the network, and every trace of them."""
        each_at_once(lambda node: node.destroy(), list(self.nodes.values()))

    # --- Kubernetes ------------------------------------------------------------------------------

    def kubectl(
        self,
        *arguments: str,
        check: bool = True,
        input: str | None = None,  # noqa: A002 -- the name subprocess.run has for it
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl on the control plane node as the cluster's administrator; see `Machine.run`."""
        argv = ["kubectl", "--kubeconfig", ADMIN, *arguments]
        return self.control_plane.run(argv, check=check, input=input, timeout=timeout)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get` finds: an object, or the list of the objects."""
        found = json.loads(self.kubectl("get", *arguments, "--output", "json").stdout)
        return found["items"] if found["kind"] == "List" else found

    def objects(self) -> dict[str, list[Json]]:
        """Return all that waiting looks at, by kind."""
        by_kind: dict[str, list[Json]] = {
            kind: []
            for kind in ("Node", "Lease", "Pod", "Endpoints", "Deployment", "StatefulSet", "DaemonSet")
        }
        for each in self.get(OBJECTS, "--all-namespaces"):
            by_kind[each["kind"]].append(each)
        return by_kind

    def wait(self, timeout: float = 240) -> None:
        """Wait until the cluster is usable.

        That is: every node Ready, every pod ready and every workload complete since the nodes' last boot,
        and the service `web`, if there is one, answering every node.
        """

        def lacks() -> list[str]:
            objects = self.objects()
            booted = {node.hostname: node.booted for node in self.nodes.values()}
            if missing := [
                *lacking(objects, booted),
                *lacking_together(objects, booted[self.control_plane.hostname]),
            ]:
                return missing
            if all(each["metadata"]["name"] != "web" for each in objects["Endpoints"]):
                return []
            argv = [
                "curl",
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "2",
                "--output",
                "/dev/null",
                WEB,
            ]
            return [
                f"{WEB} from {hostname}: {done.stderr}"
                for hostname, node in self.nodes.items()
                if (done := node.run(argv, check=False)).returncode
            ]

        self.until_nothing_lacks(f"cluster {self.name}", lacks, timeout)

    def until_nothing_lacks(self, what: str, lacks: Callable[[], list[str]], timeout: float) -> None:
        """Wait until LACKS returns nothing; a `LabError` says what it returned last."""
        last = ["the API server does not answer"]

        def settled() -> bool:
            try:
                last[:] = lacks()
            except LabError as error:  # the API server, or the node, does not answer yet
                last[:] = [str(error)]
            return not last

        try:
            until(what, settled, timeout, 0.3)
        except LabError as error:
            raise LabError("\n".join((str(error), *last, *self._diagnosis()))) from error

    def _diagnosis(self) -> list[str]:
        log = "journalctl -b -u kubelet -n 10 --no-pager"
        return [
            self.kubectl("get", "nodes,pods", "-A", "-o", "wide", check=False).stdout,
            *(
                f"{n.name}:\n{n.run(log, check=False).stdout}"
                for n in self.nodes.values()
                if n.init is not None
            ),
        ]


def each_at_once(work: Callable[[T], object], items: Sequence[T]) -> None:
    """Do the same to each item at the same time; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(len(items) or 1) as pool:
        for future in [pool.submit(work, item) for item in items]:
            future.result()
