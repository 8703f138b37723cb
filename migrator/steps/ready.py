# SPDX-License-Identifier: Apache-2.0
"""Wait until the API server knows the node as it is now: Ready by the new kubelet, its own pods by their new containers."""

from __future__ import annotations

import datetime as dt
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from migrator.errors import StepError
from migrator.facts.api import is_mirror, is_ready, uid_of
from migrator.kube import KubeError
from migrator.steps import Hands, Params, Undo
from migrator.steps.cluster import PAUSE, OnNode

LEASES = "kube-node-lease"


class WaitReady(OnNode):
    """Nothing that the API server says after a restart is believed unless it names the new kubelet or its containers.

    For 40 s it goes on to call a node Ready whose kubelet is down, and its pods Running with their old containers. So the
    heartbeat and the lease must be younger than the kubelet's process, and each container id one that runs now.
    """

    kind: ClassVar[str] = "wait-ready"
    volatile: ClassVar[bool] = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.unit: str = params["unit"]
        self.runtime: str = params["runtime"]
        self.socket: str = params["socket"]
        self.timeout: float = params["timeout_seconds"]

    def apply(self, hands: Hands) -> None:
        """Wait, on the way forward.

        Raises:
            StepError: the API server answers, and the node or a pod of its own is not back within the timeout.
        """
        if not self.back:
            self._wait(hands)

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Wait, on the way back."""
        if not self.back:
            return
        try:
            if not self.known(hands):
                return
        except KubeError as error:
            hands.say(error.message)
        self._wait(hands)

    def _wait(self, hands: Hands) -> None:
        start = answered = time.monotonic()
        patience = 0 if hands.leftovers() else self.patience
        told = ""
        while True:
            try:
                missing = self._missing(hands)
                answered, patience = time.monotonic(), self.patience
            except KubeError as error:
                missing = error.message
                if time.monotonic() > min(answered + patience, start + self.timeout):
                    hands.say(f"the API server was not there to tell whether {self.node} is Ready: {missing}")
                    hands.left(self.kubectl("wait", "--for=condition=Ready", f"node/{self.node}"))
                    return
            if not missing:
                hands.say(f"{self.node} is Ready by its new kubelet, and so are its own pods")
                return
            if missing != told:
                hands.say(f"waiting: {missing}")
                told = missing
            if time.monotonic() > start + self.timeout:
                raise StepError(
                    f"after {self.timeout:g} s: {missing}",
                    hint=f"journalctl -u {shlex.quote(self.unit)} -n 50",
                )
            hands.check()
            time.sleep(PAUSE)

    def _missing(self, hands: Hands) -> str:
        """Return what the API server does not know yet, or nothing."""
        from migrator.witness import process_start  # noqa: PLC0415 - late

        pid = hands.units.state(self.unit).main_pid
        started = process_start(hands.reader, pid) if pid else None
        if started is None:
            return f"{self.unit} does not run"
        kube = hands.kube(self.kubeconfig)
        lease = kube.get("lease", self.node, "--namespace", LEASES)
        if not younger(lease["spec"].get("renewTime"), started):
            return f"no lease of {self.node} since its kubelet was started"
        if problem := not_ready(self.found(hands), started):
            return problem
        containers = hands.runtime_reader(self.runtime, self.socket).containers()
        running = {each.id for each in containers if each.state == "running"}
        listed = kube.get("pods", "--all-namespaces", "--field-selector", f"spec.nodeName={self.node}")
        late = list(stale(listed["items"], self._own(hands), running))
        return f"not Ready with a container that runs now: {', '.join(late)}" if late else ""

    def _own(self, hands: Hands) -> frozenset[str]:
        """Return the uids of the pods that stay through a drain and were Ready when the run began."""
        cluster = hands.begun().cluster
        pods = cluster.pods if cluster else ()
        return frozenset(
            each.uid for each in pods if each.ready and (each.mirror or each.owner_kind == "DaemonSet")
        )


def not_ready(node: Mapping[str, Any], started: float) -> str:
    """Return why a Node object is no proof that the kubelet started at `started` (seconds since the epoch) is Ready.

    Its times are whole seconds, so one of the same second counts; the lease, in microseconds, settles it.
    """
    name = node["metadata"]["name"]
    conditions = {each["type"]: each for each in node["status"].get("conditions", ())}
    ready = conditions.get("Ready")
    if ready is None or not younger(ready.get("lastHeartbeatTime"), int(started)):
        return f"no status of {name} since its kubelet was started"
    if ready["status"] != "True":
        return f"{name} is not Ready: {ready.get('message', ready.get('reason', ready['status']))}"
    return ""


def stale(
    pods: Sequence[Mapping[str, Any]], own: frozenset[str], running: frozenset[str] | set[str]
) -> Iterator[str]:
    """Yield `namespace/name` of the pods in `own` that are not Ready, or whose containers are not among those that run.

    A static pod need not be Ready: the kubelet tells it up to 90 s late (seen with 1.20), and the node would stay cordoned for
    nothing. That the API server answers again is the better proof for its own.
    """
    for pod in pods:
        metadata, status = pod["metadata"], pod["status"]
        if uid_of(pod) not in own or "deletionTimestamp" in metadata:
            continue
        ids = {
            str(each.get("containerID", "")).rpartition("//")[2]
            for each in status.get("containerStatuses", ())
        }
        if not ids or not ids <= running or not (is_mirror(pod) or is_ready(pod)):
            yield f"{metadata['namespace']}/{metadata['name']}"


def younger(stamp: str | None, than: float) -> bool:
    """Tell whether a time of the API (RFC 3339, UTC) is at or after a moment in seconds since the epoch."""
    if not stamp:
        return False
    return dt.datetime.fromisoformat(stamp).timestamp() >= than
