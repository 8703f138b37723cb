# SPDX-License-Identifier: Apache-2.0
"""Checks of what an earlier attempt, a rollback or the other driver has left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.checks.base import (
    CGROUPFS,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    command,
    is_switched,
    on_disk,
    other,
    plural,
    pod_label,
    settled_driver,
)
from migrator.facts.model import Container, Facts, Pod, Tree
from migrator.findings import Finding
from migrator.plan_table import SANDBOX

_POD_SLICE = re.compile(r"kubepods-(?:(?:besteffort|burstable)-)?pod([^/]+)\.slice$")
_SCOPE_PREFIX = {"docker": "docker-", "containerd": "cri-containerd-", "crio": "crio-(?:conmon-)?"}


def literal_cgroups(facts: Facts) -> Iterator[Finding]:
    """Find cgroups that are literally named like runc's slice:prefix:name."""
    # On cgroup v1 the same name stands in every hierarchy.
    found = {path.rpartition("/")[2]: path for path in reversed(facts.cgroups.literal)}
    if found:
        first = next(reversed(found.values()))
        yield Finding(
            id="literal-cgroups",
            severity=WARNING,
            subject=first,
            summary=f"{plural(len(found), 'container')} in a literal `...slice:cri-containerd:<id>` cgroup, "
            "outside the limits of the pod",
            detail="The kubelet spoke systemd while this handler of containerd was on cgroupfs. A later correction "
            "does not move such containers; only making their pods anew does. All: "
            + ", ".join(sorted(found)),
            remediation="set SystemdCgroup = true on that handler, restart containerd, then delete the pods",
            reference="F06",
        )


def stale_target_tree(facts: Facts) -> Iterator[Finding]:
    """Find a kubepods.slice tree or kubepods units on a node that uses cgroupfs."""
    if settled_driver(facts) != CGROUPFS:
        return
    trees, units = _trees(facts, SYSTEMD), facts.cgroups.kubepods_units
    if not trees and not units:
        return
    populated = sum(each.populated for each in trees)
    yield Finding(
        id="stale-target-tree",
        severity=WARNING if populated else INFO,
        subject=trees[0].path if trees else units[0],
        summary="kubepods.slice of an earlier attempt is still there"
        + (f", with processes in {plural(populated, 'directory')}" if populated else "; the plan removes it"),
        detail="Left in place, containerd's pods would stay in the old tree without any error. "
        + _where(trees)
        + (f" Units: {', '.join(units)}." if units else ""),
        # v1 controller directories outlive the units, hence the second half: lab, 6.5.
        remediation=_emptied(facts, populated)
        + "systemctl stop 'kubepods*.slice'"
        + (f"; {_rmdir(facts, trees)}" if trees else ""),
        reference="F22",
    )


def old_tree_left(facts: Facts) -> Iterator[Finding]:
    """Find a /kubepods tree on a node where both sides use systemd."""
    trees = _trees(facts, CGROUPFS)
    if not is_switched(facts) or not trees:
        return
    populated = sum(each.populated for each in trees)
    yield Finding(
        id="old-tree-left",
        severity=WARNING,
        subject=trees[0].path,
        summary="the old tree of cgroupfs is still there beside kubepods.slice"
        + (f", with processes in {plural(populated, 'directory')}" if populated else ", empty"),
        detail="The kubelet never looks at it again, and it keeps its share of the CPU. " + _where(trees),
        remediation=_emptied(facts, populated) + _rmdir(facts, trees),
        reference="F30" if populated else "F26",
    )


def old_containers_left(facts: Facts) -> Iterator[Finding]:
    """Find containers that hold the cgroup parent of the other driver."""
    driver = settled_driver(facts)
    if driver not in (CGROUPFS, SYSTEMD):
        return
    found = [
        (pod, each)
        for pod in facts.pods
        for each in pod.containers
        if each.cgroup_parent and spelling(each.cgroup_parent) == other(driver)
    ]
    if found:
        yield Finding(
            id="old-containers-left",
            severity=WARNING,
            subject=_label(*found[0]),
            summary=f"{plural(len(found), 'container')} stored the cgroup parent of the {other(driver)} driver "
            "and cannot be started again",
            detail="All: " + ", ".join(f"{_label(pod, each)} ({each.cgroup_parent})" for pod, each in found),
            remediation=_removal(facts.runtime.kind, [each for _, each in found]),
            reference="F08",
        )


def failed_scopes(facts: Facts) -> Iterator[Finding]:
    """Find failed slices and scopes, whose names runc could not use again."""
    failed = facts.cgroups.failed_units
    if failed:
        yield Finding(
            id="failed-scopes",
            severity=WARNING,
            subject=failed[0],
            summary=f"{plural(len(failed), 'failed unit')} of pods or containers: runc before 1.1.6 "
            "would not place a container of the same name",
            detail=", ".join(failed),
            remediation=command("systemctl", "reset-failed", *failed),
            reference="F24",
        )


def slice_unit_files(facts: Facts) -> Iterator[Finding]:
    """Find unit files of slices that only the kubelet should make."""
    files = facts.cgroups.slice_files
    if files:
        transient = [each for each in files if each.startswith("/run/")]
        units = [each.rpartition("/")[2] for each in files]
        yield Finding(
            id="slice-unit-files",
            severity=WARNING,
            subject=files[0],
            summary=f"{plural(len(files), 'unit file')} of slices that the kubelet makes itself",
            detail="Making such a slice can fail: `Unit kubepods.slice was already loaded or has a fragment file`. All: "
            + ", ".join(files),
            remediation=command("systemctl", "stop", *units)
            if transient == list(files)
            else "put its settings into a drop-in, remove the file, then "
            + command("systemctl", "daemon-reload"),
            reference="F23",
        )


def leaked_pod_units(facts: Facts) -> Iterator[Finding]:
    """Find slices and scopes of pods and containers that neither the runtime nor the kubelet knows."""
    asked = facts.runtime.version is not None and all(
        each.subject not in ("runtime.containers", "cgroups.units") for each in facts.unknowns
    )
    if not facts.node.live or not asked or not is_switched(facts):
        return
    # A running kubelet makes a pod's slice first, and its sandbox only when its volumes are there.
    pods = {each.uid for each in facts.pods} | set(
        facts.kubelet.pod_directories if facts.kubelet.argv else ()
    )
    containers = {each.id for pod in facts.pods for each in pod.containers}
    containers |= {each.id for each in facts.other_containers}
    slices = [
        unit
        for unit in facts.cgroups.kubepods_units
        if (uid := _POD_SLICE.search(unit)) and uid[1].replace("_", "-") not in pods
    ]
    prefix = _SCOPE_PREFIX.get(facts.runtime.kind, "")
    scopes = [
        unit
        for unit in facts.cgroups.container_scopes
        if prefix
        and (found := re.fullmatch(rf"{prefix}([0-9a-f]{{64}})\.scope", unit))
        and found[1] not in containers
    ]
    leaked = [*slices, *scopes]
    if leaked:
        yield Finding(
            id="leaked-pod-units",
            severity=INFO,
            subject=leaked[0],
            summary=f"{plural(len(slices), 'slice')} and {plural(len(scopes), 'scope')} are loaded "
            "for pods or containers that neither the runtime nor the kubelet knows",
            detail="Only the kubelet removes the slice of a pod, so one that was removed while it was stopped leaves it. "
            "All: " + ", ".join(leaked),
            remediation=command("systemctl", "stop", *leaked),
            reference="F25",
        )


def spelling(parent: str) -> str:
    """Return the driver in whose spelling a stored cgroup parent is, e.g. `/kubepods/besteffort/pod…` is cgroupfs."""
    return SYSTEMD if parent.endswith(".slice") else CGROUPFS


def _label(pod: Pod, container: Container) -> str:
    return f"{pod_label(pod)}/{container.name or (SANDBOX if container.sandbox else container.id[:12])}"


def _trees(facts: Facts, driver: str) -> list[Tree]:
    return [each for each in facts.cgroups.trees if each.driver == driver]


def _where(trees: list[Tree]) -> str:
    return "; ".join(
        f"{each.mount}{each.path}: {plural(each.directories, 'directory')}, {each.populated} with processes"
        for each in trees
    ) + ("." if trees else "")


def _emptied(facts: Facts, populated: int) -> str:
    """Return the beginning of a command: what lives in a tree goes first, for rmdir refuses, and systemd would kill it.

    The kubelet makes the pods anew, in the tree of the driver it uses.
    """
    if not populated:
        return ""
    if facts.runtime.kind == "docker":
        return "docker rm -f $(docker ps -aq --filter label=io.kubernetes.pod.uid) && "
    return "crictl rmp -fa && "


def _rmdir(facts: Facts, trees: list[Tree]) -> str:
    # Plain rmdir, depth first: it cannot remove what lives.
    paths = [on_disk(facts, each.mount + each.path) for each in trees]
    return command("find", *paths, "-depth", "-type", "d") + r" -exec rmdir {} \;"


def _removal(runtime: str, containers: list[Container]) -> str:
    """Return the command that removes containers; of a CRI runtime a sandbox takes its containers along."""
    sandboxes = [each for each in containers if each.sandbox]
    if runtime == "docker":
        words, these = ("docker", "rm", "-f"), containers
    elif sandboxes:
        words, these = ("crictl", "rmp", "-f"), sandboxes
    else:
        words, these = ("crictl", "rm", "-f"), containers
    return command(*words, *(each.id[:12] for each in these))


CHECKS = (
    Check(
        "literal-cgroups",
        (WARNING,),
        ("F06",),
        "Containers run in literally named cgroups, outside the limits of their pods.",
        literal_cgroups,
    ),
    Check(
        "stale-target-tree",
        (WARNING, INFO),
        ("F22",),
        "A tree or units of the systemd driver are left over on a node that uses cgroupfs.",
        stale_target_tree,
    ),
    Check(
        "old-tree-left",
        (WARNING,),
        ("F26", "F30"),
        "The tree of the cgroupfs driver is left over on a node that uses systemd.",
        old_tree_left,
    ),
    Check(
        "old-containers-left",
        (WARNING,),
        ("F08",),
        "Containers hold the cgroup parent of the other driver.",
        old_containers_left,
    ),
    Check(
        "failed-scopes",
        (WARNING,),
        ("F24",),
        "Failed slices or scopes of pods and containers are loaded.",
        failed_scopes,
    ),
    Check(
        "slice-unit-files",
        (WARNING,),
        ("F23",),
        "There are unit files of slices that only the kubelet should make.",
        slice_unit_files,
    ),
    Check(
        "leaked-pod-units",
        (INFO,),
        ("F25",),
        "Slices or scopes are loaded for pods or containers that neither the runtime nor the kubelet knows.",
        leaked_pod_units,
    ),
)
