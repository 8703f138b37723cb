# SPDX-License-Identifier: Apache-2.0
"""What driver each kubelet of a cluster runs with, as it says itself through the API server (`configz`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from migrator.errors import HostError
from migrator.facts.api import CONTROL_PLANE
from migrator.kube import Kube


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDriver:
    """A node of the cluster; `driver` is empty where its kubelet did not say, and `reason` tells why."""

    node: str
    driver: str = ""
    reason: str = ""
    runtime: str = ""
    """As the Node object has it: `docker://20.10.24`, `containerd://1.6.20`, `cri-o://1.28.1`."""
    control_plane: bool = False
    version: str = ""
    """Of the kubelet, `v1.20.2`."""


def ask_kubelets(kube: Kube, progress: Callable[[str], None] = lambda _: None) -> tuple[NodeDriver, ...]:
    """Ask every kubelet for its effective configuration; needs the right to `get nodes/proxy`.

    Raises:
        KubeError: the nodes cannot be listed.
    """
    found = []
    for node in kube.get("nodes")["items"]:
        name = str(node["metadata"]["name"])
        info = node["status"].get("nodeInfo", {})
        each = NodeDriver(
            node=name,
            runtime=str(info.get("containerRuntimeVersion", "")),
            control_plane=bool(set(CONTROL_PLANE) & set(node["metadata"].get("labels", {}))),
            version=str(info.get("kubeletVersion", "")),
        )
        progress(f"the kubelet of {name}")
        try:
            config = json.loads(kube.raw(f"/api/v1/nodes/{name}/proxy/configz"))["kubeletconfig"]
            found.append(replace(each, driver=str(config.get("cgroupDriver", ""))))
        except HostError as error:
            found.append(replace(each, reason=error.message))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found.append(replace(each, reason="its answer could not be read"))
    return tuple(found)
