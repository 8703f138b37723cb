# SPDX-License-Identifier: Apache-2.0
"""Remove stale kubepods cgroups of both spellings: units first, then directories in every hierarchy."""

from __future__ import annotations

import contextlib
import shlex
import time
from typing import ClassVar

from migrator.errors import HostError, StepError
from migrator.facts.cgroup import walk
from migrator.facts.node import own_hierarchies, parse_mountinfo
from migrator.steps import Hands, Params, Sight, Undo, Where, on_the_way_back

PATIENCE = 20.0
"""Seconds for the last processes to leave: a container's cgroup empties a moment after its runtime says it stopped."""


class RemoveCgroups:
    """Depth first, plain rmdir, only when nothing lives there.

    Forward both spellings go, while both services are down. On the way back it is the new spelling alone, and late: after
    the old runtime has removed what a dead new one could not, and before the kubelet makes its own tree again.

    A stale pod slice of the target driver is not dirt: containerd's pods then stay in the other tree, without an error,
    because the kubelet only asks whether the pod's cgroup exists.
    """

    kind: ClassVar[str] = "remove-cgroups"
    volatile: ClassVar[bool] = True
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.trees: list[str] = list(params["trees"])
        self.back = on_the_way_back(params)
        self.leaves_populated = bool(params.get("leave_populated"))

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """AFTER when no tree is left, nor a unit."""
        if self.back:
            return Where.BEFORE
        left = _tops(look, self.trees) or look.units.list(*_patterns(self.trees))
        return Where.BEFORE if left else Where.AFTER

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep: the kubelet makes its tree when it starts."""
        return {}

    def apply(self, hands: Hands) -> None:
        """Remove, on the way forward.

        Raises:
            StepError: processes live in a tree; none of it was touched (F27).
        """
        if not self.back:
            self._remove(hands, self.trees)

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Remove what the new driver left, on the way back."""
        if self.back:
            trees = self._unpopulated(hands) if self.leaves_populated else self.trees
            if trees:
                self._remove(hands, trees)

    def _unpopulated(self, hands: Hands) -> list[str]:
        """Return the trees in which nothing lives, and tell of the others: stopping a slice would stop what is in it."""
        empty = []
        for tree in self.trees:
            if alive := _alive(hands, [tree]):
                where, pids = next(iter(alive.items()))
                numbers = " ".join(map(str, pids))
                hands.say(f"{tree} stays: processes live in {where}: {numbers}")
                hands.left(
                    f"ps -fp {numbers}  # they live in {where}: move them to where they were before the switch"
                )
            else:
                empty.append(tree)
        return empty

    def _remove(self, hands: Hands, trees: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while alive := _alive(hands, trees):
            hands.check()
            if time.monotonic() > deadline:
                where, pids = next(iter(alive.items()))
                raise StepError(
                    f"processes still live in {where}: {', '.join(map(str, pids))}",
                    hint=f"ps -fp {' '.join(map(str, pids))}; stop what they belong to, then try again",
                )
            time.sleep(0.2)
        for unit in sorted(hands.units.list(*_patterns(trees)), key=lambda unit: -unit.name.count("-")):
            with contextlib.suppress(HostError):  # a parent's stop has taken it along
                hands.control.stop(unit.name)
            with contextlib.suppress(
                HostError
            ):  # only a failed unit can be reset, and systemd unloads the rest
                hands.control.reset_failed(unit.name)
        for top in _tops(hands, trees):
            hands.say(f"removing {top}")
            directories = [path for path, _ in walk(str(hands.reader.resolve(top)))]
            for path in sorted(directories, key=lambda path: -path.count("/") if path else 1):
                if not hands.host.remove_cgroup(top + path):
                    raise StepError(
                        f"{top + path} is busy and cannot be removed",
                        hint=shlex.join(("cat", f"{top + path}/cgroup.procs")),
                    )


def _patterns(trees: list[str]) -> list[str]:
    slices = [tree.rpartition("/")[2] for tree in trees if tree.endswith(".slice")]
    return [pattern for name in slices for pattern in (name, name.removesuffix(".slice") + "-*.slice")]


def _tops(look: Sight, trees: list[str]) -> list[str]:
    """Return the existing trees as absolute directories, in every hierarchy."""
    hierarchies, _ = own_hierarchies(parse_mountinfo(look.reader.text("/proc/self/mountinfo") or ""))
    mounts = [hierarchy.mount for hierarchy in hierarchies]
    return [mount + tree for mount in mounts for tree in trees if look.reader.exists(mount + tree)]


def _alive(look: Sight, trees: list[str]) -> dict[str, list[int]]:
    """Return directory → process ids for what is populated."""
    found: dict[str, list[int]] = {}
    for top in _tops(look, trees):
        for path, populated in walk(str(look.reader.resolve(top))):
            if populated:
                text = look.reader.text(f"{top}{path}/cgroup.procs") or ""
                pids = [int(word) for word in text.split() if word.isdigit()]
                if pids:
                    found[top + path] = pids
    return found
