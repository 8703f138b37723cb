# SPDX-License-Identifier: Apache-2.0
"""Remove the kubelet's sandboxes while its runtime still runs, in the direction that the plan goes."""

from __future__ import annotations

import time
from typing import ClassVar

from migrator.errors import HostError
from migrator.facts.units import started_at
from migrator.host import Reader
from migrator.steps import Hands, Params, Sight, Undo, Where, on_the_way_back
from migrator.steps.guard import ensure_active

UNDER_WAY = 15.0  # seconds to wait for what the runtime is making
YOUNG = 60.0  # seconds; an older shim is not one of a sandbox that is being made


class RemoveSandboxes:
    """Stop and remove every pod container and sandbox: what was made under one driver fails under the other (F08).

    Nothing is captured: the kubelet makes its pods again from their manifests, which is what both directions rely on.
    """

    kind: ClassVar[str] = "remove-sandboxes"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.runtime: str = params["runtime"]
        self.socket: str = params["socket"]
        self.units: list[str] = list(params["units"])
        self.foreign_parent: str = params["foreign_parent"]
        self.back = on_the_way_back(params)

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """AFTER when the runtime runs and knows no container of a pod; what a stopped one knows cannot be seen."""
        if self.back:
            return Where.BEFORE
        try:
            left = [
                each for each in look.runtime_reader(self.runtime, self.socket).containers() if each.pod_uid
            ]
        except HostError:
            return Where.BEFORE
        return Where.BEFORE if left else Where.AFTER

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep."""
        return {}

    def apply(self, hands: Hands) -> None:
        """Remove all, on the way forward; a runtime that a reboot left down is started for it, with its old files."""
        if not self.back:
            ensure_active(hands, self.units)
            self._remove(hands)

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """On the way back, remove what the new driver made.

        The step before the services' stop does it while the new runtime runs. If that runtime is what failed, the
        step at the other end finds what is left, by the cgroup parent it was made with, under the old runtime.
        """
        if self.back:
            try:
                ensure_active(hands, self.units)
            except HostError as error:
                hands.say(f"{error.message}; its containers are removed once the old configuration runs")
                return
            self._remove(hands)
            return
        ensure_active(hands, self.units)  # a reboot before the runtime's own stop left it down, by the guard
        reader = hands.runtime_reader(self.runtime, self.socket)
        if any(each.cgroup_parent and self._foreign(each.cgroup_parent) for each in reader.containers()):
            self._remove(hands)

    def _foreign(self, parent: str) -> bool:
        is_slice = parent.rstrip("/").endswith(".slice")
        return is_slice == (self.foreign_parent == "systemd") and "kubepods" in parent

    def _remove(self, hands: Hands) -> None:
        control = hands.runtime_control(self.runtime, self.socket)
        count = control.remove_kubernetes(hands.say)
        if young_shims(hands.reader):
            hands.say("waiting for the sandboxes that the kubelet had just begun")
            deadline = time.monotonic() + UNDER_WAY
            while young_shims(hands.reader) and time.monotonic() < deadline:
                hands.check()
                time.sleep(0.1)
            count += control.remove_kubernetes(hands.say)
        hands.say(f"removed {count} containers and sandboxes")


def young_shims(reader: Reader) -> list[int]:
    """Return the process ids of containerd's shims that make a sandbox for the kubelet.

    A sandbox is in containerd's list only once it runs. The kubelet's end cancels those that are being made, and containerd
    takes them away by itself; stopped in the middle of that, it leaves a process in a cgroup that no runtime knows. A shim
    works in the bundle of its container, whose annotations tell the kubelet's from those of `ctr` and `nerdctl`.
    """
    found = []
    for pid in reader.processes():
        words = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0")
        if "containerd-shim" not in words[0] or "k8s.io" not in words:
            continue
        bundle = reader.text(f"/proc/{pid}/cwd/config.json") or ""
        if '"io.kubernetes.cri.' in bundle and (started_at(reader, pid) or 0) > time.time() - YOUNG:
            found.append(pid)
    return found
