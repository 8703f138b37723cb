# SPDX-License-Identifier: Apache-2.0
"""One run of `kubectl drain`: what it says is read while it runs, and it is ended when it should not go on."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from migrator.drain import DrainEvent, DrainOptions, preview, read_line
from migrator.errors import InterruptedRunError, StepError
from migrator.kubectl import KubeError, Lines, said

if TYPE_CHECKING:
    from migrator.kube import Kube

_TICK = 0.2  # seconds between two looks at whether the run should stop
_ASK_AGAIN = 30.0  # seconds of refusals before a pod is asked about, and asked about again
_BEYOND = 10.0  # seconds after kubectl's own timeout at which a drain is given up whatever kubectl does
_TOO_LATE = "global timeout reached"  # kubectl's words for its own --timeout

Pod = tuple[str, str]  # namespace, name


class Draining:
    """One drain of one node, and what it has said so far."""

    def __init__(self, kube: Kube, node: str, options: DrainOptions) -> None:
        self._kube = kube
        self._node = node
        self._options = options
        self._last: deque[str] = deque(maxlen=20)
        self._going: set[Pod] = set()
        self._held: frozenset[Pod] = frozenset()
        self._ask_at: dict[Pod, float] = {}

    def run(
        self,
        argv: Sequence[str],
        *,
        tell: Callable[[DrainEvent], None],
        check: Callable[[], None],
        decide: Callable[[DrainEvent], str],
        held: Collection[Pod],
    ) -> None:
        """Run it to its end; see `KubeControl.drain`.

        Raises:
            StepError: it was decided to skip, pods are still there at the deadline, or kubectl gave up.
            InterruptedRunError: it was decided to abort.
            KubeError: kubectl cannot be started.
        """
        self._held = frozenset(held)
        deadline = time.monotonic() + self._options.timeout_seconds + _BEYOND
        refused: tuple[str, DrainEvent] | None = None
        with Lines(argv) as lines:
            while not refused and lines.code is None and time.monotonic() < deadline:
                check()
                refused = self._hear(lines.read(_TICK), tell, decide)
            code = lines.code
        if refused:
            raise self._decided(*refused)
        if code is None or (code and any(_TOO_LATE in line for line in self._last)):
            raise self._too_late()
        if code:
            raise StepError(
                f"`kubectl drain {shlex.quote(self._node)}` with {self._kube.kubeconfig} failed: {_errors(self._last)}",
                hint=f"kubectl get pods -A --field-selector {shlex.quote(f'spec.nodeName={self._node}')}",
            )

    def _hear(
        self, lines: Iterable[str], tell: Callable[[DrainEvent], None], decide: Callable[[DrainEvent], str]
    ) -> tuple[str, DrainEvent] | None:
        """Tell what the lines say; return an answer that ends the drain, and to what it was given."""
        for line in lines:
            event = self._event(line)
            if event is None:
                continue
            tell(event)
            answer = decide(event) if self._wants_answer(event) else "wait"
            if answer != "wait":
                return answer, event
        return None

    def _event(self, line: str) -> DrainEvent | None:
        """Return what a line tells, with the namespace that an earlier line gave where it can be only one."""
        self._last.append(line)
        event = read_line(line)
        if event is None or not event.name:
            return event
        if not event.namespace:
            known = {namespace for namespace, name in self._going if name == event.name}
            event = replace(event, namespace=known.pop()) if len(known) == 1 else event
        pod = (event.namespace, event.name)
        if event.kind == "evicted":
            self._going.discard(pod)
        else:
            self._going.add(pod)
        return event

    def _wants_answer(self, event: DrainEvent) -> bool:
        """Tell whether this is a refusal that waiting may not mend, and about which nobody was asked lately.

        A budget that let pods go when the drain began waits for one that comes up elsewhere: that is how a drain goes.
        """
        if event.kind != "blocked":
            return False
        pod, now = (event.namespace, event.name), time.monotonic()
        if now < self._ask_at.setdefault(pod, now if pod in self._held else now + _ASK_AGAIN):
            return False
        self._ask_at[pod] = now + _ASK_AGAIN
        return True

    def _decided(self, answer: str, event: DrainEvent) -> StepError | InterruptedRunError:
        pod = (event.namespace, event.name)
        kept = dict(self._left()).get(pod) or f"{_label(pod)}: {event.text}"
        hint = _look_at_budgets(pod)
        if answer == "abort":
            return InterruptedRunError(f"stopped while {self._node} is being drained: {kept}", hint=hint)
        return StepError(f"{self._node} is not drained, as was decided: {kept}", hint=hint)

    def _too_late(self) -> StepError:
        left = self._left()
        told = [text for _, text in left] or [
            f"{_label(pod)} was not gone by then (the API server does not tell why)"
            for pod in sorted(self._going)
        ]
        return StepError(
            f"{self._node} is not drained after {self._options.timeout_seconds} s: "
            + ("; ".join(told) or _errors(self._last)),
            hint="see what holds them, mend that or allow more time, then try again: "
            + _look_at_budgets(*(pod for pod, _ in left)),
        )

    def _left(self) -> list[tuple[Pod, str]]:
        """Return the pods that should have gone, each with what keeps it; none when the API server does not say."""
        from migrator.facts.cluster import look_at_pods  # noqa: PLC0415 late: it uses the door that uses this

        try:
            cluster = look_at_pods(self._kube, self._node)
        except KubeError:
            return []
        ending = {(each.namespace, each.name) for each in cluster.pods if each.terminating}
        found = []
        for move in preview(cluster, self._options):
            pod = (move.namespace, move.name)
            if move.budget:
                budget, _, numbers = move.budget.partition(": ")
                text = f"{_label(pod)} is kept by the budget {move.namespace}/{budget} ({numbers})"
            elif pod in ending:
                text = f"{_label(pod)} is terminating, and not gone yet"
            else:
                text = f"{_label(pod)} is still there"
            if move.goes:
                found.append((pod, text))
        return found


def _label(pod: Pod) -> str:
    return "/".join(filter(None, pod))


def _look_at_budgets(*pods: Pod) -> str:
    namespaces = sorted({namespace for namespace, _ in pods} - {""})
    return "; ".join(f"kubectl get pdb -n {shlex.quote(each)}" for each in namespaces) or "kubectl get pdb -A"


def _errors(lines: Sequence[str]) -> str:
    """Return the errors among the last lines of a drain, or simply the last lines."""
    plain = [line for line in lines if "command..." not in line]
    errors = [line for line in plain if line.startswith(("error", "Error", "cannot ", "Unable"))]
    return said(errors or plain)
