# SPDX-License-Identifier: Apache-2.0
"""The golden cluster: kubeadm really makes it once, with its workloads, and every other one is a copy."""

from __future__ import annotations

import hashlib
import inspect
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from . import cache, recipes
from .cache import Artefact, LabError, progress
from .cluster_images import CLUSTER_IMAGES, COREDNS_IMAGE
from .kubernetes import COMMANDS, KUBELET
from .machine import HERE
from .members import FILES, LEADERS, SEATS, Member, Members, each_at_once
from .process import this_process

WORKLOADS = ("web", "agent", "db")
TOKEN = "abcdef.0123456789abcdef"  # noqa: S105 -- of files/cluster/kubeadm.yaml; the network is the cluster's own
IMAGES = "/mnt"
LAYERS = (COMMANDS, KUBELET, recipes.ROOTFS)


def layers() -> list[Path]:
    """Return the read-only layers of a node below cgmigrate's libraries."""
    return [COMMANDS.path / "node", KUBELET.path, recipes.ROOTFS.path]


def _load(member: Member) -> None:
    """Load into a node's runtime the images that kubeadm's pods need there."""
    if member.flavour == "containerd":
        member.run(["ctr", "-n", "k8s.io", "images", "import", f"{IMAGES}/kube-proxy.tar"])
        return
    everything = member.hostname == SEATS[0].hostname
    member.run(
        f"set -e; for each in {IMAGES}/{'*' if everything else 'kube-proxy'}.tar; do docker load -i $each; done"
    )
    if everything:
        member.run(["docker", "tag", recipes.POD_IMAGE, COREDNS_IMAGE])


def _join(member: Member) -> None:
    socket = ["--cri-socket", "/run/containerd/containerd.sock"] if member.flavour == "containerd" else []
    trust = ["--token", TOKEN, "--discovery-token-unsafe-skip-ca-verification"]
    argv = ["kubeadm", "join", f"{SEATS[0].address}:6443", *trust, *socket, "--ignore-preflight-errors=all"]
    member.run(argv, timeout=300)


def _settle(cluster: Members) -> None:
    """Shut down, workers first, so that a copy finds no lease of a leader that is no more (15 s each)."""
    first, *workers = cluster.nodes.values()
    each_at_once(lambda node: node.run(["systemctl", "stop", "kubelet"]), [first, *workers])
    each_at_once(lambda node: node.poweroff(180), workers)
    for name in LEADERS:
        first.run(f"docker stop $(docker ps -q --filter label=io.kubernetes.container.name={name})")
    cluster.kubectl("delete", "leases", "-n", "kube-system", *LEADERS)
    first.poweroff(180)


def _make_golden(out: Path) -> None:
    """Run `kubeadm init` and `kubeadm join` twice, start the workloads, shut down, keep the nodes."""
    cluster = Members(f"golden-{os.getpid()}")

    def step(text: str) -> None:
        if cache.interrupted():
            raise LabError("interrupted")
        progress(f"golden: {text}")

    with ExitStack() as stack:
        stack.callback(cluster.destroy)
        cluster.make(layers(), this_process(), None)
        step("booting three nodes and loading the images")
        cluster.boot(f"--bind-ro={CLUSTER_IMAGES.path}:{IMAGES}")
        each_at_once(_load, list(cluster.nodes.values()))
        first, *workers = cluster.nodes.values()
        step("kubeadm init")
        first.write("/root/kubeadm.yaml", (FILES / "kubeadm.yaml").read_text())
        init = ["kubeadm", "init", "--config", "/root/kubeadm.yaml", "--skip-phases=addon/coredns"]
        first.run([*init, "--ignore-preflight-errors=all"], timeout=480)
        for worker in workers:  # one by one: the pods' subnets are given out in this order
            step(f"kubeadm join {worker.hostname}")
            _join(worker)
        cluster.wait()
        step("starting the workloads")
        for name in WORKLOADS:
            cluster.kubectl("apply", "-f", "-", input=(FILES / f"{name}.yaml").read_text())
        cluster.wait()
        step("shutting down")
        _settle(cluster)
        cluster.keep(out)


def _digest(*paths: Path) -> str:
    """Return a hash of files, and of all files below folders."""
    found = hashlib.sha256()
    for top in paths:
        for path in sorted((top, *top.rglob("*"))):
            if path.is_file():
                found.update(
                    f"{path.relative_to(HERE)}\0{path.stat().st_mode}\0".encode() + path.read_bytes()
                )
    return found.hexdigest()


GOLDEN = Artefact(
    "golden",
    _make_golden,
    made_from=(
        # The certificates in it are good for a year.
        f"{datetime.now(UTC).year}",
        _digest(*(HERE / "files" / part for part in ("common", "docker", "containerd", "cluster/root"))),
        _digest(FILES / "kubeadm.yaml", *(FILES / f"{name}.yaml" for name in WORKLOADS)),
        _digest(Path(__file__)),
        inspect.getsource(Members.make),
        repr(SEATS),
    ),
    inputs=(*LAYERS, CLUSTER_IMAGES, *recipes.STORAGE.values()),
)


def artefacts() -> list[Artefact]:
    """Return everything that clusters need."""
    return [*recipes.artefacts(), GOLDEN]
