# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine and its daemons: what must be there before a driver can be switched at all."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    BLOCKER,
    INFO,
    WARNING,
    Check,
    plural,
    quoted,
    version,
)
from migrator.facts.model import Facts
from migrator.findings import Finding

MEMORY_CGROUP_IDS = 65_535
"""How many memory cgroups a kernel can tell apart, dying ones included; past that mkdir fails (F28)."""


def not_root(facts: Facts) -> Iterator[Finding]:
    """Find an audit that was not run by root."""
    if facts.node.live and facts.node.uid != 0:
        yield Finding(
            id="not-root",
            severity=BLOCKER,
            subject=f"uid {facts.node.uid}",
            summary="the audit did not run as root, so much of the node is unknown",
            remediation="sudo cgmigrate audit",
        )


def no_systemd(facts: Facts) -> Iterator[Finding]:
    """Find a node that systemd does not run."""
    if not facts.node.init_systemd:
        yield Finding(
            id="no-systemd",
            severity=BLOCKER,
            subject="init",
            summary="systemd does not run this node, so its cgroup driver cannot be used",
            detail="/run/systemd/system is absent; kubelet and runtime refuse the systemd driver without it.",
            remediation="stay on cgroupfs, or run the node with systemd as init",
            reference="F57",
        )


def lacks_transient_slices(systemd: int | None) -> bool:
    """Tell whether a systemd is known to be without the transient slices of the driver; 228 is the first with them.

    Red Hat carries them in its 219 too, from a release number on that `systemctl --version` does not tell.
    """
    return systemd is not None and systemd < 228 and systemd != 219


def systemd_too_old(facts: Facts) -> Iterator[Finding]:
    """Find a systemd that cannot make transient slices, or not all that the driver asks for."""
    running = facts.node.systemd_version
    if running is None or running >= 244 or (running >= 228 and facts.node.cgroup_mode != "unified"):
        return
    if running >= 228:
        severity, summary = WARNING, f"systemd {running} does not delegate the cpuset controller on cgroup v2"
        detail, remedy = "244 is the first that does.", "upgrade systemd to 244 or later"
    elif not lacks_transient_slices(running):
        severity, summary = WARNING, "systemd 219 works with this driver only from 219-30.el7_3.9 on"
        detail, remedy = "An older one fails with `Cannot set property TasksAccounting`.", "rpm -q systemd"
    else:
        severity, summary = BLOCKER, f"systemd {running} cannot make the slices of the systemd driver"
        detail = "228 is the first with transient slices; before: `Unit type slice does not support transient units.`"
        remedy = "upgrade systemd to 228 or later, or stay on cgroupfs"
    yield Finding(
        id="systemd-too-old",
        severity=severity,
        subject=f"systemd {running}",
        summary=summary,
        detail=detail,
        remediation=remedy,
        reference="F47",
    )


def cgroup_v1_maintenance(facts: Facts) -> Iterator[Finding]:
    """Find cgroup v1, which newer kubelets refuse."""
    mode, kubelet = facts.node.cgroup_mode, version(facts.kubelet.version)
    if mode not in ("legacy", "hybrid"):
        return
    if kubelet is not None and kubelet >= (1, 35) and facts.kubelet.fail_cgroup_v1 is not False:
        yield Finding(
            id="cgroup-v1-maintenance",
            severity=BLOCKER,
            subject="cgroup v1",
            summary=f"kubelet {facts.kubelet.version} refuses to start on cgroup v1",
            detail=f"The node is in {mode} mode, and failCgroupV1 is true by default from 1.35 on. "
            "The restart that the switch needs would be the end of this kubelet, whatever the driver.",
            remediation="move the node to cgroup v2, or set `failCgroupV1: false` in "
            + (quoted(facts.kubelet.config_file) or "the kubelet's configuration"),
            reference="F61",
        )
        return
    yield Finding(
        id="cgroup-v1-maintenance",
        severity=INFO,
        subject="cgroup v1",
        summary=f"the node uses cgroup v1 ({mode}), which Kubernetes only maintains since 1.31",
        detail="Kubelet 1.35 and later refuse it by default; systemd 258 and RHEL 10 have dropped it.",
        reference="F61",
    )


def swap(facts: Facts) -> Iterator[Finding]:
    """Find swap that may keep the kubelet from starting again."""
    if facts.node.swap and facts.kubelet.present and facts.kubelet.fail_swap_on is not False:
        yield Finding(
            id="swap",
            severity=WARNING,
            subject="/proc/swaps",
            summary="swap is on and failSwapOn is not false: the kubelet may refuse to start again",
            remediation="swapoff -a, or set `failSwapOn: false`",
            reference="F62",
        )


def leaked_cgroups(facts: Facts) -> Iterator[Finding]:
    """Find so many cgroups that the kernel may soon refuse new ones."""
    total = facts.cgroups.descendants + facts.cgroups.dying
    if total > MEMORY_CGROUP_IDS // 2:
        yield Finding(
            id="leaked-cgroups",
            severity=WARNING,
            subject="/sys/fs/cgroup",
            summary=f"{total} cgroups exist, {facts.cgroups.dying} of them dying; "
            f"at {MEMORY_CGROUP_IDS} the kernel refuses new ones",
            remediation="find who leaks them (`systemd-cgls`, `cat /proc/cgroups`), or reboot",
            reference="F28",
        )


def extra_cgroup_mounts(facts: Facts) -> Iterator[Finding]:
    """Find cgroup hierarchies that are mounted a second time."""
    if facts.node.extra_cgroup_mounts:
        yield Finding(
            id="extra-cgroup-mounts",
            severity=INFO,
            subject=facts.node.extra_cgroup_mounts[0],
            summary=f"{plural(len(facts.node.extra_cgroup_mounts), 'further cgroup mount')} "
            "beside the system's own",
            detail="A leaked one has made the kubelet fail with `root container [kubepods] doesn't exist`: "
            + ", ".join(facts.node.extra_cgroup_mounts),
            reference="F21",
        )


CHECKS = (
    Check("not-root", (BLOCKER,), (), "The audit did not run as root.", not_root),
    Check("no-systemd", (BLOCKER,), ("F57",), "systemd is not the init of this node.", no_systemd),
    Check(
        "systemd-too-old",
        (BLOCKER, WARNING),
        ("F47",),
        "systemd is too old for the driver.",
        systemd_too_old,
    ),
    Check(
        "cgroup-v1-maintenance",
        (BLOCKER, INFO),
        ("F61",),
        "The node uses cgroup v1, which newer kubelets refuse.",
        cgroup_v1_maintenance,
    ),
    Check("swap", (WARNING,), ("F62",), "Swap is on and may keep the kubelet from starting again.", swap),
    Check(
        "leaked-cgroups",
        (WARNING,),
        ("F28",),
        "More than half of the kernel's memory cgroups are in use.",
        leaked_cgroups,
    ),
    Check(
        "extra-cgroup-mounts",
        (INFO,),
        ("F21",),
        "A cgroup hierarchy is mounted more than once.",
        extra_cgroup_mounts,
    ),
)
