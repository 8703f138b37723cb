# SPDX-License-Identifier: Apache-2.0
"""Steps that only look, and stop the run when the new state is not what was promised."""

from __future__ import annotations

import contextlib
import shlex
import time
from typing import ClassVar

from migrator.errors import CgmigrateError, HostError, StepError
from migrator.steps import Hands, Params, Sight, Undo, Where, on_the_way_back

POLL = 0.5


class _Look:
    """A step without an effect: done again after a reboot, nothing to take back."""

    volatile: ClassVar[bool] = True
    offline: ClassVar[bool] = False

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """BEFORE: evidence is gathered anew."""
        return Where.BEFORE

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep."""
        return {}

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Nothing to take back."""


class AssertDriver(_Look):
    """The runtime itself must say that it uses the driver, before the kubelet is started against it."""

    kind: ClassVar[str] = "assert-driver"

    def __init__(self, params: Params) -> None:
        self.driver: str = params["driver"]

    def apply(self, hands: Hands) -> None:
        """Ask the running daemon, and nothing more: the node is out of service.

        One that cannot tell is judged by its effective configuration.

        Raises:
            StepError: it says, or is configured for, another driver.
        """
        kind = socket = ""
        with contextlib.suppress(CgmigrateError):
            runtime = hands.begun().runtime
            kind, socket = runtime.kind, runtime.socket
        kind, said = hands.driver_in_force(kind, socket)
        if said != self.driver:
            raise StepError(
                f"{kind} was restarted and says its driver is {said or 'unknown'}, not {self.driver}",
                hint="another file or flag decides; `cgmigrate audit` names it",
            )
        hands.say(f"{kind} reports the driver {said}")


class WaitHealthy(_Look):
    """Wait until the kubelet answers and its static pods run."""

    kind: ClassVar[str] = "wait-healthy"

    def __init__(self, params: Params) -> None:
        self.unit: str = params["unit"]
        self.healthz: str = params["healthz"]
        self.runtime: str = params["runtime"]
        self.socket: str = params["socket"]
        self.static_pods: str = params["static_pod_path"]
        self.timeout: float = params["timeout_seconds"]
        self.back = on_the_way_back(params)

    def capture(self, look: Sight) -> Undo:
        """Return whether the kubelet is healthy now: a node that was not is not waited for on the way back."""
        return {"healthy": not self._missing(look)}

    def apply(self, hands: Hands) -> None:
        """Wait, on the way forward."""
        if not self.back:
            self.wait(hands)

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Wait, on the way back, if there was something to wait for."""
        if self.back and undo.get("healthy"):
            self.wait(hands)

    def wait(self, hands: Hands) -> None:
        """Wait.

        Raises:
            StepError: not within the timeout.
        """
        deadline = time.monotonic() + self.timeout
        told = ""
        while missing := self._missing(hands):
            hands.check()
            if missing != told:
                hands.say(f"waiting: {missing}")
                told = missing
            if time.monotonic() > deadline:
                raise StepError(
                    f"after {self.timeout:g} s: {missing}",
                    hint=f"journalctl -u {shlex.quote(self.unit)} -n 50",
                )
            time.sleep(POLL)
        hands.say(f"{self.unit} is healthy, the static pods run")

    def _missing(self, look: Sight) -> str:
        """Return what is not yet there, or nothing.

        What must run is asked of the static pods' files as they are now: on the way back, weeks later, some may be
        gone or edited, and a pod is known by its name, because an edit changes its uid.
        """
        from migrator.witness import read_manifests  # noqa: PLC0415 - late: a YAML parser

        state = look.units.state(self.unit)
        if state.active_state != "active":
            return f"{self.unit} is {state.active_state}"
        if self.healthz and not look.answers(self.healthz):
            return f"{self.healthz} does not answer ok"
        try:
            containers = look.runtime_reader(self.runtime, self.socket).containers()
        except HostError as error:
            return error.message
        running = {
            (each.pod_namespace, each.pod_name, each.name)
            for each in containers
            if each.state == "running" and not each.sandbox
        }
        manifests, _ = read_manifests(look.reader, self.static_pods)
        late = {
            f"{manifest.namespace}/{manifest.name}"
            for manifest in manifests
            for name in manifest.containers
            if not any(
                (space, container) == (manifest.namespace, name) and pod.startswith(f"{manifest.name}-")
                for space, pod, container in running
            )
        }
        return f"static pods not running yet: {', '.join(sorted(late))}" if late else ""


class Verify(_Look):
    """Both witnesses must agree that the node is on the driver; see `migrator.verify`."""

    kind: ClassVar[str] = "verify"

    def __init__(self, params: Params) -> None:
        self.driver: str = params["driver"]
        self.window: float = params["window_seconds"]
        self.table: list[dict[str, str]] = list(params["pods"])

    def apply(self, hands: Hands) -> None:
        """Look from both sides, after systemd has read its units again: limits must hold beyond that (F42, F55).

        Raises:
            StepError: a finding, with its remedy.
        """
        hands.control.reload()
        failed = hands.verify(self.driver, self.table, self.window)
        if failed:
            raise StepError(
                "verification failed: " + "; ".join(f"{each.subject}: {each.summary}" for each in failed),
                hint=failed[0].remediation,
            )
        hands.say("verified by both witnesses, cgroupfs and systemd")
