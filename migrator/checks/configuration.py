# SPDX-License-Identifier: Apache-2.0
"""Checks of the configuration around the driver, of Docker, CRI-O and the kubelet: what breaks or outlives a change."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.cgroups import CgroupNameError, Driver, translate_path
from migrator.checks.base import (
    BLOCKER,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    command,
    is_switched,
    plural,
    where,
)
from migrator.checks.drivers import FLAG_KINDS
from migrator.facts.kubelet_state import ENFORCED_BY
from migrator.facts.model import Facts
from migrator.findings import Finding


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
            remediation=f"remove --exec-opt from {where(flags[-1])}, "
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
    """Find cgroup names in the kubelet's settings that are spelled otherwise under systemd."""
    if is_switched(facts):
        return
    for setting, value in facts.kubelet.reserved_cgroups:
        if setting in ENFORCED_BY and ENFORCED_BY[setting] not in {
            each.removesuffix("-compressible") for each in facts.kubelet.enforce_node_allocatable
        }:
            continue
        if value.endswith(".service"):
            reference, becomes = "F39", "the kubelet makes a slice of it, and a service has none"
        else:
            try:
                translated = translate_path(value, Driver.SYSTEMD)
            except CgroupNameError as error:
                reference, becomes = "F40", f"it has no name there: {error}"
            else:
                if translated == value:
                    continue
                reference = "F44" if setting not in ENFORCED_BY else "F40" if "-" in value else "F38"
                becomes = f"its name there is {translated}"
        enforced = setting in ENFORCED_BY
        yield Finding(
            id="reserved-cgroups",
            severity=BLOCKER if enforced else WARNING,
            subject=f"{facts.kubelet.config_file or 'kubelet'}: {setting}",
            summary=f"{setting} = `{value}` means another cgroup under systemd: {becomes}",
            detail="The kubelet enforces it, does not make the cgroup, and exits where it is missing."
            if enforced
            else "The kubelet accounts under the new name, which does not hold the processes of the old one.",
            remediation=f"make the slice a unit of its own and give its name, or remove {setting}",
            reference=reference,
        )


def cgroup_root(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet that keeps its pods below a cgroup root of its own."""
    root = facts.kubelet.cgroup_root
    if root in ("", "/") or is_switched(facts):
        return
    if root.endswith(".slice"):
        yield Finding(
            id="cgroup-root",
            severity=BLOCKER,
            subject=f"{facts.kubelet.config_file or 'kubelet'}: cgroupRoot",
            summary=f"cgroupRoot = `{root}` gets a second .slice under systemd, and the kubelet does not start",
            detail="The kubelet adds the suffix itself.",
            remediation=f"cgroupRoot: {root.removesuffix('.slice')}",
            reference="F43",
        )
        return
    try:
        renamed = translate_path(root, Driver.SYSTEMD)
    except CgroupNameError as error:
        yield Finding(
            id="cgroup-root",
            severity=BLOCKER,
            subject=f"{facts.kubelet.config_file or 'kubelet'}: cgroupRoot",
            summary=f"the kubelet's cgroup root `{root}` has no name under systemd: {error}",
            remediation="give the kubelet a cgroup root whose name a slice can have, or none",
            reference="F43",
        )
        return
    absent = [each for each in facts.cgroups.reserved_absent if each.endswith(renamed)]
    yield Finding(
        id="cgroup-root",
        severity=BLOCKER if absent else WARNING,
        subject=f"{facts.kubelet.config_file or 'kubelet'}: cgroupRoot",
        summary=f"the kubelet's cgroup root `{root}` becomes {renamed}"
        + (", which is not there: the kubelet would not start" if absent else ""),
        detail="The kubelet does not make its root: it must exist under the new name before the kubelet starts. "
        "The setting itself keeps its value." + (f" Missing: {', '.join(absent)}" if absent else ""),
        remediation="make it before: a slice unit that is started with the kubelet, and on cgroup v1 ExecStartPre=mkdir -p in a "
        "drop-in of the kubelet for the hierarchies that systemd leaves out"
        if absent
        else "",
        reference="F43",
    )


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
        ("F43",),
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
