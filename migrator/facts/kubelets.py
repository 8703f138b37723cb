# SPDX-License-Identifier: Apache-2.0
"""What driver each kubelet of a cluster runs with, as it says itself through the API server (`configz`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from migrator.errors import HostError
from migrator.kube import Kube


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDriver:
    """A node of the cluster; `driver` is empty where its kubelet did not say, and `reason` tells why."""

    node: str
    driver: str = ""
    reason: str = ""
    runtime: str = ""
    """As the Node object has it: `docker://20.10.24`, `containerd://1.6.20`."""


def ask_kubelets(kube: Kube, progress: Callable[[str], None] = lambda _: None) -> tuple[NodeDriver, ...]:
    """Ask every kubelet for its effective configuration; needs the right to `get nodes/proxy`.

    Raises:
        KubeError: the nodes cannot be listed.
    """
    found = []
    for node in kube.get("nodes")["items"]:
        name = str(node["metadata"]["name"])
        runtime = str(node["status"].get("nodeInfo", {}).get("containerRuntimeVersion", ""))
        progress(f"the kubelet of {name}")
        try:
            config = json.loads(kube.raw(f"/api/v1/nodes/{name}/proxy/configz"))["kubeletconfig"]
            found.append(NodeDriver(node=name, driver=str(config.get("cgroupDriver", "")), runtime=runtime))
        except HostError as error:
            found.append(NodeDriver(node=name, reason=error.message, runtime=runtime))
        except (ValueError, KeyError, TypeError):
            found.append(NodeDriver(node=name, reason="its answer could not be read", runtime=runtime))
    return tuple(found)


def consequences(driver: str, nodes: tuple[NodeDriver, ...]) -> list[str]:
    """Return, one line each, what kubeadm makes of each node while the ConfigMap says `driver`. Pure."""
    lines = []
    for node in nodes:
        if not node.driver:
            lines.append(f"{node.node}: its kubelet could not be asked ({node.reason})")
        elif node.driver == driver:
            lines.append(
                f"{node.node}: runs with {node.driver}; `kubeadm upgrade node` changes nothing there"
            )
        else:
            after = (
                "and then does not start: its runtime still uses the other driver"
                if node.runtime.startswith("docker:")
                else "and then puts pods at a wrong place without an error: its runtime still uses the other driver"
            )
            lines.append(
                f"{node.node}: runs with {node.driver}; the next `kubeadm upgrade node` there writes {driver} into "
                f"/var/lib/kubelet/config.yaml, the kubelet takes it at its next start, {after}"
            )
    lines.append(f"a new node joins with {driver}, so its runtime must use {driver} too")
    return lines
