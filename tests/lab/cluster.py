# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster 1.20.2 made by kubeadm: `cp1` and `w1` on Docker, `w2` on containerd, all on cgroupfs."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Sequence
from typing import Self

from . import cache, golden, network, recipes
from .cache import LabError
from .machine import ENVIRONMENT, machines
from .members import ADMIN, FILES, Members
from .node import preflight
from .packages import host_packages
from .process import this_process


def build() -> None:
    """Make everything clusters are made from; at once when it is cached."""
    preflight()
    cache.build(golden.artefacts(), host_packages)


class Cluster(Members):
    """One cluster: `nodes` are `cp1`, `w1` and `w2`. As a context manager it is destroyed at the end."""

    @classmethod
    def create(cls, name: str | None = None, *, keep: bool = False) -> Self:
        """Make and boot a copy of the golden cluster; call `wait` next.

        Args:
            name: letters, digits and dashes, at most 36; a fresh one by default.
            keep: do not count the cluster as abandoned when this process ends.
        """
        build()
        cluster = cls(name or f"cluster-{secrets.token_hex(3)}")
        if any(node.dir.exists() for node in cluster.nodes.values()):
            raise LabError(f"there is a cluster {cluster.name!r} already")
        owner = None if keep else this_process()
        try:
            cluster.make([recipes.libraries().path, *golden.layers()], owner, golden.GOLDEN.path)
            cluster.boot()
        except BaseException:
            cluster.destroy()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def apply(self, name: str) -> None:
        """Apply `files/cluster/NAME.yaml`; call `wait` for its pods."""
        path = FILES / f"{name}.yaml"
        if not path.exists():
            raise LabError(f"there is no {path}")
        self.kubectl("apply", "-f", "-", input=path.read_text())

    def give_admin(self, hostname: str, path: str) -> None:
        """Copy the administrator's kubeconfig to a node, as kubeadm leaves it only on `cp1`."""
        config = self.control_plane.read(ADMIN)
        self.nodes[hostname].run(["sh", "-c", 'umask 077; cat >"$1"', "sh", path], input=config)

    def exec_net(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine as a client outside of every node: routed to services and pods."""
        try:
            done = subprocess.run(
                network.inside(self.name, argv),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {' '.join(argv)}: not done in {timeout:g} s") from error
        if check and done.returncode:
            raise LabError(
                f"{self.name}: {' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done


def clusters() -> Iterator[Cluster]:
    """Yield every cluster that exists, on or off."""
    names = {str(machine.recorded.get("network")) for machine in machines() if "network" in machine.recorded}
    for name in sorted(names):
        yield Cluster(name)
