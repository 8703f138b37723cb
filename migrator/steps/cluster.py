# SPDX-License-Identifier: Apache-2.0
"""Steps that talk to the API server: cordon, drain, wait for Ready, uncordon.

Forward, an API that does not answer stops the run before the outage. After the outage, and on the way back, it does not
decide: the step waits for a while, then leaves its command to the operator, because the node itself is in order.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from migrator.drain import DrainEvent, DrainOptions, Move, preview
from migrator.errors import SkipNodeError, StepError
from migrator.facts.api import CONTROL_PLANE
from migrator.kube import ANNOTATION, KubeError
from migrator.questions import BUDGET
from migrator.steps import Hands, Params, Sight, Undo, Where, on_the_way_back
from migrator.steps.guard import ensure_active

PAUSE = 1.0
HOPELESS = frozenset({"kubeconfig", "kubectl", "not-found"})
"""Kinds of KubeError that waiting does not mend. An API server that has just started refuses rights that it gives later."""


class OnNode:
    """What the steps here have in common: one Node object, reached through one kubeconfig."""

    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.node: str = params["node"]
        self.uid: str = params["uid"]
        self.kubeconfig: str = params["kubeconfig"]
        self.patience: float = params["api_timeout_seconds"]
        self.back = on_the_way_back(params)

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """BEFORE: each of these may be done again."""
        return Where.BEFORE

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep."""
        return {}

    def found(self, look: Sight) -> Mapping[str, Any]:
        """Return the Node object, which must be the one of the plan.

        Raises:
            StepError: there is another one of this name by now.
            KubeError: the API server gave none.
        """
        node: Mapping[str, Any] = look.kube(self.kubeconfig).get("node", self.node)
        if node["metadata"]["uid"] != self.uid:
            raise StepError(
                f"node {self.node} was deleted and made anew since the plan",
                hint="make the plan again: `cgmigrate plan -o FILE`",
            )
        return node

    def wait_for_api(self, hands: Hands) -> None:
        """Wait until the API server answers, for as long as it is waited for at all; the next step tells if it does not."""
        patiently(hands, "API server", self.patience, lambda: self.known(hands))

    def known(self, look: Hands) -> bool:
        """Tell whether the Node is still the one of the plan; another one is left alone, and said.

        Raises:
            KubeError: the API server gave none.
        """
        try:
            self.found(look)
        except StepError as error:
            look.say(f"{error.message}; it is left alone")
            return False
        return True

    def kubectl(self, *words: str) -> str:
        """Return a command line for the operator."""
        return shlex.join(("kubectl", "--kubeconfig", self.kubeconfig, *words))

    def lift(self, hands: Hands, *, kept: bool) -> None:
        """Uncordon what this run has cordoned, and nothing else, and take its mark away; `kept`: it was cordoned before."""
        try:
            node = self.found(hands)
        except StepError as error:
            hands.say(f"not uncordoned: {error.message}")
            return
        mark = annotation(node)
        control = hands.kube_control(self.kubeconfig)
        if mark == f"{hands.run}:ours":
            control.uncordon(self.node)
            hands.say(f"{self.node} is uncordoned")
        elif mark == f"{hands.run}:kept":
            hands.say(f"{self.node} was cordoned before this run, and stays so")
        else:
            if node.get("spec", {}).get("unschedulable") and not kept:
                hands.say(
                    f"{self.node} is cordoned, and somebody took the mark of this run away: "
                    "uncordon it unless they want it so"
                )
                hands.left(self.kubectl("uncordon", self.node))
            return
        control.unmark(self.node)

    def close(self, hands: Hands) -> None:
        """Cordon, and mark who did it."""
        node = self.found(hands)
        control = hands.kube_control(self.kubeconfig)
        if annotation(node).startswith(f"{hands.run}:"):
            if annotation(node).endswith(":ours"):
                control.cordon(self.node)
            return
        before = bool(node.get("spec", {}).get("unschedulable"))
        # The mark comes first: a crash between the two must not leave a cordon that nobody dares to lift.
        control.mark(self.node, f"{hands.run}:{'kept' if before else 'ours'}")
        if before:
            hands.say(f"{self.node} is cordoned already, and will stay so")
            return
        control.cordon(self.node)
        hands.say(f"{self.node} is cordoned")

    def lift_patiently(self, hands: Hands, *, kept: bool) -> None:
        """Lift, or leave to the operator what does the same, as long as the API server is away."""
        unmark = self.kubectl("annotate", "node", self.node, f"{ANNOTATION}-")
        left = (unmark,) if kept else (self.kubectl("uncordon", self.node), unmark)
        patiently(hands, "uncordon", self.patience, lambda: self.lift(hands, kept=kept), *left)


class Cordon(OnNode):
    """Keep new pods away; revert lets them come again, if it was this run that kept them away."""

    kind: ClassVar[str] = "cordon"

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.control_plane: bool = params["control_plane"]

    def capture(self, look: Sight) -> Undo:
        """Return whether it was cordoned before."""
        return {"unschedulable": bool(self.found(look).get("spec", {}).get("unschedulable"))}

    def apply(self, hands: Hands) -> None:
        """Mark and cordon; of the control plane only one node at a time.

        Raises:
            StepError: another node of the control plane carries the mark of a run.
        """
        self.close(hands)
        if not self.control_plane:
            return
        for node in hands.kube(self.kubeconfig).get("nodes")["items"]:
            name = node["metadata"]["name"]
            labels = node["metadata"].get("labels", {})
            if name != self.node and annotation(node) and set(CONTROL_PLANE) & set(labels):
                raise StepError(
                    f"{name} of the control plane is in a run of cgmigrate ({annotation(node)}): one at a time",
                    hint=f"wait for it, or look there: `cgmigrate status` on {name}",
                )

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Uncordon; an API server that is away is waited for, then the command is left to the operator."""
        self.lift_patiently(hands, kept=undo["unschedulable"])


class Uncordon(OnNode):
    """The end of a run; revert cordons again, because the way back stops the pods too."""

    kind: ClassVar[str] = "uncordon"

    def apply(self, hands: Hands) -> None:
        """Uncordon, as soon as the API server is back."""
        cluster = hands.begun().cluster
        self.lift_patiently(
            hands, kept=cluster is not None and cluster.node is not None and cluster.node.unschedulable
        )

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Cordon; a rollback needs no API server, so one that does not answer is said and not waited for."""
        try:
            if self.known(hands):
                self.close(hands)
        except KubeError as error:
            hands.say(f"not cordoned: {error.message}")


class Drain(OnNode):
    """Have `kubectl drain` evict what can live elsewhere; there is one for each direction."""

    kind: ClassVar[str] = "drain"

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.options = DrainOptions(
            force=params["force"],
            delete_emptydir_data=params["delete_emptydir_data"],
            timeout_seconds=params["timeout_seconds"],
        )
        self.units: list[str] = list(params["units"])
        self.lost = frozenset(params["lost"])
        self.data = frozenset(params["data"])

    def apply(self, hands: Hands) -> None:
        """Drain, on the way forward.

        Raises:
            StepError: a pod is there whose loss the plan did not show, or pods did not go within the deadline.
        """
        if self.back:
            return
        self._drain(hands, self._moves(hands))

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Drain, before a finished run is taken back; without an API server the pods go down with the node's services."""
        if not self.back:
            return
        if hands.no_drain:
            hands.say("not drained, as asked: the pods go down with the switch")
            return
        try:
            if not self.known(hands):
                return
            self.close(hands)  # the API server may have been away when the way back began
            moves = self._moves(hands)
        except KubeError as error:
            hands.say(f"not drained: {error.message}; the pods go down with the switch")
            return
        self._drain(hands, moves)

    def _moves(self, hands: Hands) -> tuple[Move, ...]:
        from migrator.facts.cluster import look_at_pods  # noqa: PLC0415 - late

        return preview(look_at_pods(hands.kube(self.kubeconfig), self.node), self.options)

    def _hold_shown(self, moves: tuple[Move, ...]) -> None:
        """Let nothing be lost that the plan did not show, on the way back either.

        Raises:
            StepError: such a pod is there.
        """
        unseen = [
            each
            for each in moves
            if (each.lost and each.uid not in self.lost) or (each.data_deleted and each.uid not in self.data)
        ]
        if unseen:
            names = ", ".join(f"{each.namespace}/{each.name} ({each.why})" for each in unseen)
            raise StepError(
                f"pods came to the node since the plan that would be lost, or lose their data: {names}",
                hint="delete or move them yourself; "
                + (
                    "then `cgmigrate rollback` again"
                    if self.back
                    else "make the plan again: `cgmigrate plan -o FILE`"
                ),
            )

    def _drain(self, hands: Hands, moves: tuple[Move, ...]) -> None:
        self._hold_shown(moves)
        # A reboot since the guard was installed left them down, and only a kubelet that runs ends a pod that is evicted.
        ensure_active(hands, self.units)
        going = [each for each in moves if each.goes]
        if not going:
            hands.say("no pod to evict")
            self._hold_empty(hands)
            return
        budgets = {(each.namespace, each.name): each.budget for each in going if each.budget}
        done: set[tuple[str, str]] = set()

        def tell(event: DrainEvent) -> None:
            pod = (event.namespace, event.name)
            if event.kind == "evicted":
                done.add(pod)
            budget = budgets.get(pod, "") if event.kind == "blocked" else ""
            kept = f" (budget {budget})" if budget else ""
            hands.say(f"[{len(done)}/{len(going)} gone] {event.text}{kept}")

        answer = ""

        def decide(event: DrainEvent) -> str:
            nonlocal answer
            text = f"{event.namespace}/{event.name} is kept by a budget: what now?"
            answer = hands.ask(replace(BUDGET, text=text))
            return answer

        hands.say(f"evicting {len(going)} pods, at most {self.options.timeout_seconds} s")
        try:
            hands.kube_control(self.kubeconfig).drain(
                self.node, self.options, tell=tell, check=hands.check, decide=decide, held=budgets
            )
        except StepError as error:
            if answer == "skip":
                raise SkipNodeError(error.message, hint=error.hint) from error
            raise
        self._hold_empty(hands)

    def _hold_empty(self, hands: Hands) -> None:
        """Look once more, after the drain: somebody may have let pods come meanwhile.

        Raises:
            StepError: the node is not cordoned any more, or pods are on it again.
        """
        if not self.found(hands).get("spec", {}).get("unschedulable"):
            raise StepError(
                f"{self.node} was uncordoned by somebody else during the drain",
                hint="agree on it, then begin again",
            )
        if came := [
            f"{each.namespace}/{each.name}" for each in self._moves(hands) if each.goes or each.needs
        ]:
            raise StepError(
                f"pods came to {self.node} during the drain: {', '.join(came)}",
                hint="they tolerate a cordoned node, or were put there by name; move them, then begin again",
            )


def annotation(node: Mapping[str, Any]) -> str:
    """Return the mark of a run on a Node object, empty without one."""
    return str(node["metadata"].get("annotations", {}).get(ANNOTATION, ""))


def patiently(hands: Hands, what: str, patience: float, work: Callable[[], object], *left: str) -> None:
    """Do what needs the API server; while it is away wait, up to `patience` seconds, then leave the commands.

    Once one step has waited in vain, the next ones try once.
    """
    deadline = time.monotonic() + (0 if hands.leftovers() else patience)
    told = False
    while True:
        try:
            work()
        except KubeError as error:
            if error.kind in HOPELESS or time.monotonic() > deadline:
                hands.say(f"{what}: {error.message}" + (f"; left to you: {'; '.join(left)}" if left else ""))
                for command in left:
                    hands.left(command)
                return
            if not told:
                hands.say(f"{what}: waiting up to {patience:g} s for the API server")
                told = True
            hands.check()
            time.sleep(PAUSE)
        else:
            return
