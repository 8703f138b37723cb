# SPDX-License-Identifier: Apache-2.0
"""gVisor beside runc: its driver is a flag of runsc, in a file that the handler's options name (F11)."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.changes import gvisor_handlers, why_left
from migrator.checks.base import (
    INFO,
    WARNING,
    Check,
    is_switched,
    quoted,
    where,
)
from migrator.configs.gvisor import FIRST_SYSTEMD, release
from migrator.facts.model import Facts, Source
from migrator.findings import Finding

_SETTING = '`systemd-cgroup = "true"` in [runsc_config]'
_OUTSIDE = "Where the kubelet gives slices and runsc takes them for paths, pods run in literal `...slice:cri-containerd:<id>` "
_OUTSIDE += "cgroups, outside the limits of their pods, and nothing says so (gvisor#10371)."


def gvisor_driver(facts: Facts) -> Iterator[Finding]:
    """Tell of each handler of gVisor what becomes of its driver."""
    for each in gvisor_handlers(facts):
        place = where(Source(kind="config-file", value=None, path=each.path, line=each.line))
        reason = why_left(facts, each)
        switched = is_switched(facts)
        severity, remedy = WARNING, ""
        if reason:
            summary = (
                f"handler {each.name} is gVisor, and the plan cannot give it the systemd driver: {reason}"
            )
            detail = _OUTSIDE
            remedy = f"{_SETTING} of a file that ConfigPath in the options of the handler names, cgroup v2, systemd "
            remedy += f"{FIRST_SYSTEMD} and a runsc of May 2022 or later; until it has them all, keep its pods off this node"
        elif each.systemd_cgroup and not switched:
            summary = f"handler {each.name} is gVisor and uses systemd already, before the node does"
            detail = "Its pods fail now: runsc expects slice:prefix:name and is given a path. The plan moves the rest."
        elif each.systemd_cgroup:
            continue
        elif switched:
            summary = f"handler {each.name} is gVisor and was left on cgroupfs while the node uses systemd"
            detail = _OUTSIDE
            remedy = f"set {_SETTING} of {quoted(each.path)}, and delete the pods that use it"
        else:
            known = release(each.version) is not None
            severity = INFO if known else WARNING
            summary = f"handler {each.name} is gVisor: the plan sets {_SETTING} of {each.path}"
            detail = _OUTSIDE
            if not known:
                summary += ", and the version of its runsc is not known"
                detail += " A runsc from before May 2022 has no such driver, and starts no pod with the flag."
                remedy = "look for -systemd-cgroup in what `runsc flags` prints"
        yield Finding(
            id="gvisor-driver",
            severity=severity,
            subject=place,
            summary=summary,
            detail=detail,
            remediation=remedy,
            reference="F11",
        )


CHECKS = (
    Check(
        "gvisor-driver",
        (WARNING, INFO),
        ("F11",),
        "A handler of gVisor has its driver in a file of its own, which the plan changes where it can.",
        gvisor_driver,
    ),
)
