# SPDX-License-Identifier: Apache-2.0
"""Who goes, who stays and who blocks when the node is drained; and what the lines of `kubectl drain` say.

Pure: the rules are those of kubectl's drain filters and of the API server's eviction, which are the same from 1.18 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migrator.facts.model import Budget, Cluster, ClusterPod

FORCE = "--force"
DELETE_DATA = "--delete-emptydir-data"

_FINISHED = frozenset({"Succeeded", "Failed"})
_NO_BUDGET_ASKED = _FINISHED | {"Pending"}  # the API server evicts these whatever a budget says
_UNREADY_GOES = (1, 20)  # from here on an unready pod of a budget that is met may go

_NAME = r"[a-z0-9][a-z0-9.-]*"
_EVICTING = re.compile(rf'evicting pod "?(?:({_NAME})/)?({_NAME})"?(?: \(.*\))?')
_EVICTED = re.compile(rf'pod[/ ]"?({_NAME})"? (?:evicted|deleted)(?: \(.*\))?')
_BLOCKED = re.compile(
    rf'error when evicting pods?[/ ]"({_NAME})"(?: -n "({_NAME})")? \(will retry after [0-9a-z.]+\): .*'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """What the operator allows a drain to do; each default loses nothing."""

    force: bool = False
    """Evict pods that nothing makes anew."""
    delete_emptydir_data: bool = False
    """Evict pods that keep data in an emptyDir, which is deleted with them."""
    timeout_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a drain does to one pod."""

    namespace: str
    name: str
    uid: str
    goes: bool
    """It is evicted, with the options as given."""
    why: str
    """Who makes it anew, or why it stays: `ReplicaSet web-5d4`, `DaemonSet agent`, `static pod`, `nothing owns it`."""
    lost: bool = False
    """Once evicted, nothing makes it anew."""
    data_deleted: bool = False
    """Once evicted, its emptyDir volumes are gone."""
    budget: str = ""
    """The budget that allows no eviction now: `strict: 0 allowed, 1 of 1 healthy, 1 desired`."""
    needs: tuple[str, ...] = ()
    """Options without which the drain refuses, and that were not given."""
    overrides: tuple[str, ...] = ()
    """The same, given or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainEvent:
    """One line of `kubectl drain`; `namespace` is empty where the line does not name it, `name` where it has no pod."""

    kind: str
    """`evicting`, `evicted`, `blocked` (refused for now, kubectl tries again), `other`."""
    namespace: str = ""
    name: str = ""
    text: str = ""


def preview(cluster: Cluster, options: DrainOptions) -> tuple[Move, ...]:
    """Return what a drain does to every pod of the node, by namespace and name (F32-F36)."""
    budgets = {(each.namespace, each.name): each for each in cluster.budgets}
    release = re.match(r"(\d{1,9})\.(\d{1,9})", cluster.version)
    unready_goes = release is None or (int(release[1]), int(release[2])) >= _UNREADY_GOES
    moves = (_move(pod, options, _budget(pod, budgets, unready_goes=unready_goes)) for pod in cluster.pods)
    return tuple(sorted(moves, key=lambda move: (move.namespace, move.name, move.uid)))


def refusals(moves: Iterable[Move]) -> tuple[Move, ...]:
    """Return the pods for which a drain lacks an option: it evicts none at all while there is one."""
    return tuple(move for move in moves if move.needs)


def is_finished(pod: ClusterPod) -> bool:
    """Tell whether a pod has run to its end."""
    return pod.phase in _FINISHED


def read_line(line: str) -> DrainEvent | None:
    """Return what a line of `kubectl drain`, of any version from 1.17 on, tells; None for an empty one."""
    text = " ".join(line.split())
    if not text:
        return None
    if found := _EVICTING.fullmatch(text):
        return DrainEvent(kind="evicting", namespace=found[1] or "", name=found[2], text=text)
    if found := _EVICTED.fullmatch(text):
        return DrainEvent(kind="evicted", name=found[1], text=text)
    if found := _BLOCKED.fullmatch(text):
        return DrainEvent(kind="blocked", namespace=found[2] or "", name=found[1], text=text)
    return DrainEvent(kind="other", text=text)


def _move(pod: ClusterPod, options: DrainOptions, budget: str) -> Move:
    """Apply kubectl's filters in kubectl's order: DaemonSet, mirror pod, local data, owner."""
    finished = is_finished(pod)
    orphan = pod.owner_kind == "DaemonSet" and not pod.owner_exists and not finished
    stays = ""
    if pod.owner_kind == "DaemonSet" and not finished and not orphan:
        stays = f"DaemonSet {pod.owner_name}"
    elif pod.mirror:
        stays = "static pod"
    if stays:
        return Move(namespace=pod.namespace, name=pod.name, uid=pod.uid, goes=False, why=stays)
    lost = not finished and (orphan or not pod.owner_kind)
    data = not finished and pod.local_data
    overrides = ((FORCE,) if lost else ()) + ((DELETE_DATA,) if data else ())
    given = {FORCE: options.force, DELETE_DATA: options.delete_emptydir_data}
    needs = tuple(option for option in overrides if not given[option])
    return Move(
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.uid,
        goes=not needs,
        why=_why(pod, finished=finished, orphan=orphan),
        lost=lost,
        data_deleted=data,
        budget=budget,
        needs=needs,
        overrides=overrides,
    )


def _why(pod: ClusterPod, *, finished: bool, orphan: bool) -> str:
    if finished:
        return "finished"
    if not pod.owner_kind:
        return "nothing owns it"
    owner = f"{pod.owner_kind} {pod.owner_name}"
    return f"{owner}, which is gone" if orphan else owner


def _budget(pod: ClusterPod, budgets: dict[tuple[str, str], Budget], *, unready_goes: bool) -> str:
    """Return the budget that keeps a pod now, empty for none."""
    if not pod.budgets or pod.terminating or pod.phase in _NO_BUDGET_ASKED:
        return ""
    if len(pod.budgets) > 1:
        return f"{', '.join(pod.budgets)}: the API server evicts no pod that has more than one budget"
    budget = budgets.get((pod.namespace, pod.budgets[0]))
    if budget is None or budget.allowed > 0:
        return ""
    if unready_goes and not pod.ready and budget.healthy >= budget.desired > 0:
        return ""
    return (
        f"{budget.name}: {budget.allowed} allowed, {budget.healthy} of {budget.expected} healthy, "
        f"{budget.desired} desired"
    )
