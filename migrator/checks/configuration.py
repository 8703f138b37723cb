# SPDX-License-Identifier: Apache-2.0
"""Checks of the configuration around the driver, of Docker, CRI-O and the kubelet: what breaks or outlives a change."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    BLOCKER,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    command,
    is_switched,
    on_disk,
    plural,
    quoted,
    where,
)
from migrator.checks.drivers import FLAG_KINDS
from migrator.facts.kubelet_state import ENFORCED_BY
from migrator.facts.model import Facts
from migrator.findings import Finding
from migrator.reserved import ROOT, absent, renames, wanted


def dockerd_flag_conflict(facts: Facts) -> Iterator[Finding]:
    """Find the driver of dockerd set by flag and by file, which dockerd refuses even if both agree."""
    if facts.runtime.kind != "docker":
        return
    stated = [each for each in facts.runtime.driver.chain if each.value is not None]
    flags = [each for each in stated if each.kind in FLAG_KINDS]
    files = [each for each in stated if each.kind == "config-file"]
    if flags and files:
        yield Finding(
            id="dockerd-flag-conflict",
            severity=BLOCKER,
            subject=where(flags[-1]),
            summary=f"exec-opts is given by flag ({where(flags[-1])}) and by file ({where(files[-1])}): "
            "dockerd will not start again",
            detail="dockerd refuses a directive that is specified both as a flag and in the configuration file, "
            "even with the same value.",
            remediation=f"remove --exec-opt from {quoted(where(flags[-1]))}, "
            "then " + command("systemctl", "daemon-reload"),
            reference="F15",
        )


def cgroup_parent(facts: Facts) -> Iterator[Finding]:
    """Find a daemon-level cgroup parent of dockerd that is no slice."""
    parent = facts.runtime.cgroup_parent
    # moby asks for the suffix and for more than the suffix.
    if facts.runtime.kind != "docker" or not parent or (parent.endswith(".slice") and len(parent) > 6):
        return
    yield Finding(
        id="cgroup-parent",
        severity=BLOCKER,
        subject=facts.runtime.config_file or facts.runtime.kind,
        summary=f"dockerd's cgroup-parent `{parent}` is no slice: dockerd will not start with the systemd driver",
        remediation="give the name of a slice, as in `cgroup-parent: docker.slice`, or remove the setting",
        reference="F02",
    )


def conmon_cgroup(facts: Facts) -> Iterator[Finding]:
    """Find a conmon_cgroup of CRI-O that one of the two drivers refuses."""
    value = facts.runtime.conmon_cgroup
    if facts.runtime.kind != "crio" or value in ("", "pod"):
        return
    slice_only = value.endswith(".slice")
    yield Finding(
        id="conmon-cgroup",
        severity=INFO if slice_only and facts.runtime.driver.value == SYSTEMD else WARNING,
        subject=facts.runtime.config_file,
        summary=f"conmon_cgroup = `{value}` is refused by CRI-O with the {'cgroupfs' if slice_only else 'systemd'} driver",
        detail="cgroupfs accepts `pod`, systemd accepts `pod` or a slice; only `pod` is good on both.",
        remediation='conmon_cgroup = "pod"',
        reference="F05",
    )


def live_restore(facts: Facts) -> Iterator[Finding]:
    """Find dockerd's live-restore, which keeps containers in their old cgroups."""
    if facts.runtime.live_restore and not is_switched(facts):
        yield Finding(
            id="live-restore",
            severity=WARNING,
            subject=facts.runtime.config_file or facts.runtime.kind,
            summary="live-restore is on: containers outlive the restart of dockerd, in their old cgroups",
            detail="The plan removes those of Kubernetes before it stops dockerd. "
            "Others stay where they are until they are restarted.",
            reference="F30",
        )


def reserved_cgroups(facts: Facts) -> Iterator[Finding]:
    """Find cgroup names in the kubelet's settings that are spelled otherwise under systemd, and those that only look so."""
    if is_switched(facts):
        return
    prepared = " The plan gives the new name, and makes the slice where there is none yet."
    if facts.node.distribution == "kubeadm":
        prepared += (
            " `kubeadm upgrade node` would write the old name back from the ConfigMap: change it there, or in a patch of this "
            "node, before the next one."
        )
    for each in wanted(facts):
        if each.setting == ROOT:
            continue
        becomes = each.obstacle or f"its name there is {each.place}"
        yield Finding(
            id="reserved-cgroups",
            severity=BLOCKER if each.obstacle else WARNING,
            subject=f"{facts.kubelet.config_file or 'kubelet'}: {each.setting}",
            summary=f"{each.setting} = `{each.value}` means another cgroup under systemd: {becomes}",
            detail="The kubelet enforces it, does not make the cgroup, and exits where it is missing."
            + ("" if each.obstacle else prepared),
            remediation=f"make a slice of its own, on cgroup v2 with every controller of the top, give {each.setting} its full path, "
            "or remove the setting"
            if each.obstacle
            else f"what else puts processes into {each.value} must put them into {each.place}",
            reference=each.reference,
        )
    renamed = renames(facts)
    for setting, value in facts.kubelet.reserved_cgroups:
        if setting in ENFORCED_BY or setting in renamed or not _looks_named(value):
            continue
        yield Finding(
            id="reserved-cgroups",
            severity=WARNING,
            subject=f"{facts.kubelet.config_file or 'kubelet'}: {setting}",
            summary=f"{setting} = `{value}` is no place of systemd's: the kubelet takes it literally under either driver",
            detail="It moves processes there, or looks for them there, in a cgroup that systemd does not know.",
            remediation=f"remove {setting}, and let systemd keep the service where it is",
            reference="F44",
        )


def _looks_named(value: str) -> bool:
    """Tell whether a path is none that systemd would make, slices and a unit at the end."""
    parts = [part for part in value.split("/") if part]
    return bool(parts) and not all(part.endswith((".slice", ".service", ".scope")) for part in parts)


def cgroup_root(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet that keeps its pods below a cgroup root of its own."""
    root = facts.kubelet.cgroup_root
    subject = f"{facts.kubelet.config_file or 'kubelet'}: {ROOT}"
    if is_switched(facts):
        return
    for each in wanted(facts):
        if each.setting != ROOT:
            continue
        if each.obstacle:
            yield Finding(
                id="cgroup-root",
                severity=BLOCKER,
                subject=subject,
                summary=f"the kubelet would not start with cgroupRoot = `{root}` under systemd: {each.obstacle}",
                detail="The kubelet does not make its root, and adds the suffix itself.",
                remediation=(
                    "make the cgroup before the kubelet starts, in every hierarchy that it looks into, on cgroup v2 with every "
                    "controller of the top that it uses, or give it no root"
                )
                if each.place
                else f"{ROOT}: {quoted(root.rstrip('/').removesuffix('.slice'))}"
                if root.rstrip("/").endswith(".slice")
                else "give it a root whose parts are names of no units, or none",
                reference="F43",
            )
            continue
        missing = absent(facts, each.place)
        yield Finding(
            id="cgroup-root",
            severity=WARNING,
            subject=subject,
            summary=f"the kubelet's cgroup root `{root}` becomes {each.place}"
            + (", which the plan makes" if missing else ""),
            detail="The kubelet does not make its root: it must exist under the new name before the kubelet starts. "
            "The setting itself keeps its value." + (f" Missing: {', '.join(missing)}" if missing else ""),
            reference="F43",
        )
    known = {place for pod in facts.pods for each in pod.containers for place in each.cgroups}
    for tree in facts.cgroups.trees:
        at_top = root.strip("/") and tree.path in ("/kubepods", "/kubepods.slice")
        if at_top and tree.populated and not any(place.startswith(f"{tree.path}/") for place in known):
            yield Finding(
                id="cgroup-root",
                severity=BLOCKER,
                subject=f"{tree.mount}{tree.path}",
                summary=f"processes live in {tree.path} at the top, which is not this kubelet's tree, and no container of "
                "the runtime is among them",
                detail="With a cgroup root of its own the kubelet has its tree below that. The plan removes a stale one at "
                "the top, and must not touch one that somebody uses.",
                remediation=command("systemd-cgls", on_disk(facts, f"{tree.mount}{tree.path}")),
                reference="F27",
            )
            return


def kubelet_slice_drop_ins(facts: Facts) -> Iterator[Finding]:
    """Find drop-ins of an administrator that begin to apply to the kubelet's slices."""
    found = facts.cgroups.slice_drop_ins
    if found:
        yield Finding(
            id="kubelet-slice-drop-ins",
            severity=WARNING,
            subject=found[0],
            summary=f"{plural(len(found), 'drop-in')} will apply to the kubelet's slices",
            detail=", ".join(found),
            remediation=command("systemctl", "cat", "kubepods.slice"),
            reference="F46",
        )


CHECKS = (
    Check(
        "dockerd-flag-conflict",
        (BLOCKER,),
        ("F15",),
        "The driver of dockerd is set by flag and by file.",
        dockerd_flag_conflict,
    ),
    Check("cgroup-parent", (BLOCKER,), ("F02",), "dockerd's cgroup-parent is no slice.", cgroup_parent),
    Check(
        "conmon-cgroup",
        (WARNING, INFO),
        ("F05",),
        "CRI-O's conmon_cgroup is refused by one of the two drivers.",
        conmon_cgroup,
    ),
    Check(
        "live-restore",
        (WARNING,),
        ("F30",),
        "dockerd's live-restore keeps containers in their old cgroups.",
        live_restore,
    ),
    Check(
        "reserved-cgroups",
        (BLOCKER, WARNING),
        ("F38", "F39", "F40", "F44"),
        "A cgroup named in the kubelet's settings is spelled otherwise under systemd.",
        reserved_cgroups,
    ),
    Check(
        "cgroup-root",
        (BLOCKER, WARNING),
        ("F43", "F27"),
        "The kubelet has a cgroup root of its own.",
        cgroup_root,
    ),
    Check(
        "kubelet-slice-drop-ins",
        (WARNING,),
        ("F46",),
        "Drop-ins of an administrator begin to apply to the kubelet's slices.",
        kubelet_slice_drop_ins,
    ),
)
