# SPDX-License-Identifier: Apache-2.0
"""Steps: the only code that changes a node, each with its way back.

A step can be asked where it stands, and its `apply` and `revert` may be called again after a crash. Capability is in the
types: `where` and `capture` get a `Sight`, which only looks; `apply` and `revert` get `Hands`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeAlias

from migrator.containers import RuntimeContainer
from migrator.facts.model import Facts
from migrator.findings import Finding
from migrator.host import Host, Reader
from migrator.kube import Kube, KubeControl
from migrator.questions import Question
from migrator.systemd import UnitControl, Units

Undo: TypeAlias = Mapping[str, Any]
Params: TypeAlias = Mapping[str, Any]


class Where(StrEnum):
    """Where the node stands with respect to a step."""

    BEFORE = "before"
    AFTER = "after"
    ELSEWHERE = "elsewhere"
    """Neither what was found at planning nor what the step makes: somebody else was here."""


class RuntimeReader(Protocol):
    """What a step may ask of a running container runtime."""

    def containers(self) -> list[RuntimeContainer]:
        """Return every container and sandbox the runtime knows."""
        ...


class RuntimeControl(RuntimeReader, Protocol):
    """What a step may ask a running container runtime to do."""

    def remove_kubernetes(self, progress: Callable[[str], None], grace_seconds: int = 30) -> int:
        """Stop and remove every container and sandbox of the kubelet; return how many."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a step may look through."""

    reader: Reader
    units: Units
    runtime_reader: Callable[[str, str], RuntimeReader]
    """(kind, socket) → the runtime, looking only."""
    say: Callable[[str], None]
    """Tell the operator one line of progress."""
    check: Callable[[], None]
    """Raise InterruptedRunError when a signal asked to stop; called in every wait."""
    run: str
    """Name of the run."""
    begun: Callable[[], Facts]
    """The node as it was when the run began."""
    kube: Callable[[str], Kube]
    """Kubeconfig → the API server, looking only."""
    answers: Callable[[str], bool]
    """URL of a health endpoint of the node → it answers 200."""
    driver_in_force: Callable[[str, str], tuple[str, str]]
    """(kind, socket) of a running runtime → (its kind, its driver; empty where nothing tells)."""
    verify: Callable[[str, Sequence[Params], float], Sequence[Finding]]
    """(driver, pods of the plan, seconds of the window) → what both witnesses object to."""


@dataclass(frozen=True, kw_only=True)
class Hands(Sight):
    """What a step may change things with."""

    host: Host
    control: UnitControl
    blob: Callable[[str], bytes]
    """sha256 → the bytes kept with the run."""
    runtime_control: Callable[[str, str], RuntimeControl]
    kube_control: Callable[[str], KubeControl]
    ask: Callable[[Question], str]
    """Question → answer: as given in advance, else asked on a terminal, else the default."""
    left: Callable[[str], None]
    """Leave a command to the operator, because nobody else can do it now; the run goes on and is settled."""
    leftovers: Callable[[], Sequence[str]]
    """What is left so far."""
    no_drain: bool = False
    """On the way back: let the pods go down with the node's services."""


class Step(Protocol):
    """One change of the node and its way back; every method may be called again after a crash."""

    kind: ClassVar[str]
    volatile: ClassVar[bool]
    """A reboot takes the effect away (a unit's state), so a resume after one looks again and redoes."""
    offline: ClassVar[bool]
    """Can be applied to an image behind `--root`."""

    def __init__(self, params: Params) -> None: ...

    def where(self, look: Sight, undo: Undo | None) -> Where:
        """Tell whether the node is before or after this step."""
        ...

    def capture(self, look: Sight) -> Undo:
        """Return, as JSON, what `revert` needs; journalled before `apply`."""
        ...

    def apply(self, hands: Hands) -> None:
        """Make the change."""
        ...

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Put back what was captured, never a default, from any point of `apply`."""
        ...


def on_the_way_back(params: Params) -> bool:
    """Tell whether a step acts only in a rollback: the plan is a palindrome, and this is its other half."""
    return str(params.get("direction", "forward")) == "back"
