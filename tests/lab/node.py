# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes node: standalone kubelet 1.20.2 with static pods, Docker (dockershim) or containerd 1.6."""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from . import cache, recipes
from .cache import LabError
from .kubernetes import KUBELET
from .machine import CGROUP, HERE, Machine, machines, nodes_dir, until
from .packages import host_packages
from .process import start_time, this_process

# The pods of files/standalone/etc/kubernetes/manifests.
PODS = {"besteffort": ("main",), "burstable": ("app", "sidecar"), "guaranteed": ("main",)}
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
RUNTIME_CONFIG = {"docker": "/etc/docker/daemon.json", "containerd": "/etc/containerd/config.toml"}


@dataclass(frozen=True)
class Container:
    """A running container of a pod: names, id, and its first process's pid as seen inside the node."""

    pod: str
    name: str
    id: str
    pid: int


_LABEL = '{{index .Config.Labels "io.kubernetes.%s.name"}}'
_DOCKER_CONTAINERS = f"""
ids=$(docker ps -q --filter label=io.kubernetes.docker.type=container)
[ -z "$ids" ] || docker inspect --format '{_LABEL % "pod"} {_LABEL % "container"} {{{{.Id}}}} {{{{.State.Pid}}}}' $ids 2>/dev/null ||
    true  # one of them has gone meanwhile
"""
_CONTAINERD_CONTAINERS = """
ctr -n k8s.io tasks ls | while read -r id pid status; do
    [ "$status" = RUNNING ] || continue
    config="/run/containerd/io.containerd.runtime.v2.task/k8s.io/$id/config.json"
    [ -e "$config" ] || continue  # it has ended meanwhile
    jq -r --arg id "$id" --arg pid "$pid" '.annotations
        | select(."io.kubernetes.cri.container-type" == "container")
        | "\\(."io.kubernetes.cri.sandbox-name") \\(."io.kubernetes.cri.container-name") \\($id) \\($pid)"' \
        "$config" 2>/dev/null || true
done
"""


def preflight() -> None:
    """Refuse early, with the reason, where no node can be booted."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root")
    if not (CGROUP / "systemd/cgroup.procs").exists() or not (CGROUP / "memory/cgroup.procs").exists():
        raise LabError("the lab needs cgroup v1 with name=systemd (legacy or hybrid) on this machine")
    if not cache.tool("apt-get"):
        raise LabError("the lab needs a Debian machine (apt-get is missing)")


def build() -> None:
    """Make everything nodes are made from; at once when it is cached."""
    preflight()
    cache.build(recipes.artefacts(), host_packages)


def abandoned() -> list[Machine]:
    """Return the nodes whose owner is dead; nodes made by hand (`up`) have none."""
    return [
        machine for machine in machines() if (owner := owner_of(machine)) and start_time(owner[0]) != owner[1]
    ]


def owned() -> list[Machine]:
    """Return the nodes that this process made and that end with it."""
    me = tuple(this_process())
    return [machine for machine in machines() if owner_of(machine) == me]


def owner_of(machine: Machine) -> tuple[int, int] | None:
    """Return pid and start time of the process that a node ends with; None for a node made by hand."""
    try:
        owner = machine.state["owner"]
    except LabError:
        return (0, 0)  # its removal was cut short
    return (owner[0], owner[1]) if isinstance(owner, list) else None


class Node(Machine):
    """One node. As a context manager it is destroyed at the end."""

    @property
    def flavour(self) -> str:
        """Return `docker` or `containerd`."""
        return str(self.state["flavour"])

    @classmethod
    def create(cls, flavour: str, name: str | None = None, *, keep: bool = False) -> Self:
        """Make a node that is off, with driver cgroupfs everywhere; call `boot` next.

        Args:
            flavour: `docker` or `containerd`.
            name: letters, digits and dashes; a fresh one by default.
            keep: do not count the node as abandoned when this process ends.
        """
        if flavour not in recipes.FLAVOURS:
            raise LabError(f"{flavour!r}: a flavour is one of {', '.join(recipes.FLAVOURS)}")
        build()
        node = cls(name or f"{flavour}-{secrets.token_hex(3)}")
        storage = recipes.STORAGE[flavour].path
        data = {folder: storage / folder for folder in recipes.storage_folders(flavour)}
        layers = [recipes.libraries().path, KUBELET.path, recipes.ROOTFS.path]
        owner = None if keep else this_process()
        try:
            node.make(layers, {**data, "var/lib/kubelet": None}, flavour=flavour, owner=owner)
            recipes.install_files(node.root, flavour, "standalone")
        except BaseException:
            if (node.dir / "state.json").exists():
                node.destroy()
            raise
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def boot(self, *options: str, timeout: float = 120) -> None:
        """Switch on, with the checkout's migrator/ and tests/ bound read-only below /opt/cgmigrate."""
        checkout = HERE.parents[1]
        bound = [f"--bind-ro={checkout / part}:/opt/cgmigrate/{part}" for part in ("migrator", "tests")]
        super().boot(*bound, *options, timeout=timeout)

    # --- files, on or off ------------------------------------------------------------------------

    def read(self, path: str) -> str:
        """Return a file's text."""
        if self.init is not None:
            return self.run(["cat", "--", path]).stdout
        return self._outside(path).read_text()

    def write(self, path: str, text: str) -> None:
        """Write a file in place; owner and mode of one that is there stay."""
        if self.init is not None:
            self.run(["sh", "-c", 'cat >"$1"', "sh", path], input=text)
        else:
            self._outside(path).write_text(text)

    def _outside(self, path: str) -> Path:
        target = self.root / path.lstrip("/")
        if not target.resolve().is_relative_to(self.root):
            raise LabError(f"{path}: an absolute symlink leads out of the node; name its target")
        return target

    # --- Kubernetes ------------------------------------------------------------------------------

    def containers(self) -> list[Container]:
        """Return the running containers of pods (no sandboxes) as the runtime tells them."""
        script = _DOCKER_CONTAINERS if self.flavour == "docker" else _CONTAINERD_CONTAINERS
        rows = [line.split() for line in self.run(script).stdout.splitlines()]
        return sorted(
            (
                Container(pod.removesuffix(f"-{self.hostname}"), name, id_, int(pid))
                for pod, name, id_, pid in rows
            ),
            key=lambda container: (container.pod, container.name),
        )

    def healthy(self) -> bool:
        """Tell whether the kubelet answers `ok` on its healthz port."""
        argv = ["curl", "-s", "-m", "2", "http://127.0.0.1:10248/healthz"]
        return self.run(argv, check=False).stdout == "ok"

    def wait_healthy(self, timeout: float = 60) -> None:
        """Wait for the kubelet's healthz."""
        until(f"healthz of the kubelet on {self.name}", self.healthy, timeout)

    def wait_pods(self, timeout: float = 180) -> list[Container]:
        """Wait until every container of every static pod runs and the kubelet is healthy; return them."""
        wanted = sorted((pod, name) for pod, names in PODS.items() for name in names)
        found: list[Container] = []

        def running() -> bool:
            found[:] = self.containers() if self.healthy() else []
            return [(container.pod, container.name) for container in found] == wanted

        try:
            until(f"static pods of {self.name}", running, timeout, 0.2)
        except LabError as error:
            log = self.run(
                "journalctl -b -u kubelet -n 30 --no-pager; systemctl --no-pager status", check=False
            )
            raise LabError(f"{error}\nrunning: {found}\n{log.stdout}") from error
        return found

    def cgroups(self) -> dict[str, list[str]]:
        """Return, per hierarchy, the cgroups at and below kubepods and kubepods.slice, as the node names them."""
        found = {}
        for hierarchy, root in self.cgroup_roots().items():
            tops = [root / "kubepods", root / "kubepods.slice"]
            directories = [Path(where) for top in tops for where, _, _ in os.walk(top)]
            found[hierarchy] = sorted(f"/{path.relative_to(root)}" for path in directories)
        return found

    def manual_migration(self) -> float:
        """Follow the documented procedure to the letter; return seconds from kubelet stop to its healthz.

        https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/configure-cgroup-driver/ (a standalone
        node has nothing to drain).
        """
        runtime = self.flavour
        begin = time.monotonic()
        self.run(["systemctl", "stop", "kubelet"])
        self.run(["systemctl", "stop", runtime])
        self.write(
            KUBELET_CONFIG,
            self.read(KUBELET_CONFIG).replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd"),
        )
        config = self.read(RUNTIME_CONFIG[runtime])
        if runtime == "docker":
            option = ["native.cgroupdriver=systemd"]
            changed = json.dumps({**json.loads(config), "exec-opts": option}, indent=4) + "\n"
        else:
            changed = re.sub(r"SystemdCgroup = false", "SystemdCgroup = true", config)
        self.write(RUNTIME_CONFIG[runtime], changed)
        self.run(["systemctl", "start", runtime])
        self.run(["systemctl", "start", "kubelet"])
        self.wait_healthy()
        return time.monotonic() - begin


def nodes() -> Iterator[Node]:
    """Yield every node that exists, on or off."""
    for path in sorted(nodes_dir().glob("[!.]*/")):
        yield Node(path.name)
