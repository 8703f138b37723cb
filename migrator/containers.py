# SPDX-License-Identifier: Apache-2.0
"""A container as its runtime describes it: what `docker.py` and `cri.py` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
CONFIG_SOURCE = "kubernetes.io/config.source"
GRACE = "io.kubernetes.pod.terminationGracePeriod"
"""Labels and annotations that the kubelet gives to everything it makes."""

API_SERVER = "kube-apiserver"
API_SERVER_GRACE = 10
"""Seconds. It stops listening at once and then waits for its watches, which do not end by themselves: all the rest of its
pod's 30 s is outage. Ten are what dockerd gives it at its own stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeContainer:
    """A container or sandbox that a runtime knows, running or not; limits are None where none is set."""

    id: str
    name: str
    """Kubernetes' container name; the runtime's own name where the container is not Kubernetes'; empty for a sandbox."""
    pod_uid: str = ""
    """Empty: not Kubernetes'. Dashed, or the 32 hex digits of a static pod."""
    pod_name: str = ""
    pod_namespace: str = ""
    sandbox: bool = False
    sandbox_id: str = ""
    """The sandbox that this container lives in; empty for a sandbox."""
    state: str = "unknown"
    """`running`, `exited`, `created`, `paused`, `restarting`, `removing`, `dead`, `unknown`; of a CRI sandbox `ready` is `running`."""
    attempt: int = 0
    """How often the kubelet made this container anew; for a sandbox under CRI the same of the sandbox."""
    cgroup_parent: str = ""
    """As stored at creation: `/kubepods/…` or `kubepods-….slice`; empty when the runtime does not say."""
    restart_policy: str = ""
    """Docker's own policy (`no`, `always`, …); empty under CRI, where the kubelet restarts."""
    pid: int = 0
    memory_limit: int | None = None
    """Bytes."""
    cpu_quota: int | None = None
    """Microseconds in each `cpu_period`."""
    cpu_period: int | None = None
    cpu_shares: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def static(self) -> bool:
        """Whether a sandbox's pod comes from a file or URL of the kubelet's own, so that its uid is a config hash."""
        return self.annotations.get(CONFIG_SOURCE, "api") != "api"


def grace(container: RuntimeContainer, most: int) -> int:
    """Return how many seconds a container gets to stop: what its pod asks for, up to `most`."""
    asked = number(container.annotations.get(GRACE)) or most
    return min(asked, most, API_SERVER_GRACE if container.name == API_SERVER else most)


def positive(value: object) -> int | None:
    """Return a limit, or None for what both runtimes write where there is none (absent, 0, -1)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def number(text: str | None) -> int:
    """Return the count in a label or annotation, 0 where there is none; a label may be an image's, and hold anything."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0
