# SPDX-License-Identifier: Apache-2.0
"""Checks of what a kubelet meets when it starts again, whatever the driver: the switch restarts it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.checks.base import (
    BLOCKER,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    is_switched,
    kubelet_unit,
    plural,
    quoted,
)
from migrator.facts.kubelet_state import enforced, insisted_paths
from migrator.facts.model import Facts
from migrator.findings import Finding
from migrator.reserved import ROOT

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
"""What the kubelet needs below its root in either version; hugetlb only where the kernel has it (failure-modes 1.7)."""

# Go's time.ParseDuration, as far as a quota period goes.
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|μs|ns|s)")
_MICROSECONDS = {"s": 1_000_000.0, "ms": 1000.0, "us": 1.0, "µs": 1.0, "μs": 1.0, "ns": 0.001}
DEFAULT_PERIOD = 100_000.0


def checkpoint_policy(facts: Facts) -> Iterator[Finding]:
    """Find a manager's checkpoint of another policy than the configured one."""
    policies = {
        "cpu_manager_state": ("cpuManagerPolicy", facts.kubelet.cpu_manager_policy),
        "memory_manager_state": ("memoryManagerPolicy", facts.kubelet.memory_manager_policy),
    }
    for path, kept in facts.kubelet.checkpoints:
        setting, configured = policies.get(path.rpartition("/")[2], ("", ""))
        if setting and kept.lower() != configured.lower():
            yield Finding(
                id="checkpoint-policy",
                severity=BLOCKER,
                subject=path,
                summary=f"{path} is of policy `{kept}`, and {setting} is `{configured}`: the kubelet will not start again",
                detail="It refuses a checkpoint of another policy. The driver alone never needs the file removed.",
                remediation=f"put {setting} back to `{kept}`; or drain the node, stop the kubelet, remove {quoted(path)}, "
                "start the kubelet",
                reference="F60",
            )


def microseconds(duration: str) -> float | None:
    """Return a Go duration like `10ms` or `1s500ms` in microseconds; None where it is none."""
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", duration):
        return None
    return sum(float(number) * _MICROSECONDS[unit] for number, unit in _DURATION.findall(duration))


def cpu_quota_period(facts: Facts) -> Iterator[Finding]:
    """Find a quota period that systemd would not keep."""
    period = facts.kubelet.cpu_quota_period
    systemd, v1 = facts.node.systemd_version, facts.node.cgroup_mode in ("legacy", "hybrid")
    ignored = systemd is not None and systemd < 242
    if not period or microseconds(period) in (0.0, DEFAULT_PERIOD) or not (ignored or v1):
        return
    yield Finding(
        id="cpu-quota-period",
        severity=WARNING,
        subject=f"{facts.kubelet.config_file or 'kubelet'}: cpuCFSQuotaPeriod",
        summary=f"cpuCFSQuotaPeriod is `{period}`, which the systemd driver "
        + (f"does not keep with systemd {systemd}" if ignored else "may fail to set on cgroup v1"),
        detail="systemd before 242 has no CPUQuotaPeriodUSec and takes 100ms."
        if ignored
        else "runc and systemd write the period and the quota in turns, and the kernel refuses a pair that does not fit: "
        "`cpu.cfs_period_us: invalid argument`.",
        remediation="use the default of 100ms",
        reference="F56",
    )


def accounting_off(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet service that systemd keeps in different cgroups per controller."""
    places = dict(facts.kubelet.places)
    stated = any(setting == "kubeletCgroups" for setting, _ in facts.kubelet.reserved_cgroups)
    if not stated and len(set(places.values())) > 1:
        unit = kubelet_unit(facts)
        yield Finding(
            id="accounting-off",
            severity=INFO,
            subject=unit,
            summary="the kubelet cannot tell its own cgroup: "
            + ", ".join(f"{name} is {path}" for name, path in facts.kubelet.places),
            detail="On cgroup v1 systemd gives a service a cgroup only in the hierarchies that it accounts for. "
            "The kubelet says `cpu and memory cgroup hierarchy not unified`, and has no figures of itself.",
            remediation=f"CPUAccounting=true and MemoryAccounting=true in a drop-in of {unit}",
            reference="F45",
        )


def controllers_missing(facts: Facts) -> Iterator[Finding]:
    """Find controllers that the kubelet needs and that are not there, or not given to the cgroups below the top."""
    available, given = facts.node.controllers, facts.cgroups.enabled
    absent = [each for each in CONTROLLERS if each not in available]
    if available and absent:
        yield Finding(
            id="controllers-missing",
            severity=WARNING,
            subject=", ".join(absent),
            summary=f"the kernel offers no {', '.join(absent)} controller",
            detail="A kubelet that needs it says `root container [kubepods] doesn't exist`.",
            remediation="look at `cat /proc/cgroups` and the kernel's command line (cgroup_disable=, cgroup_enable=)",
            reference="F21",
        )
    withheld = (
        [] if given is None else [each for each in CONTROLLERS if each in available and each not in given]
    )
    if facts.kubelet.argv and withheld:
        yield Finding(
            id="controllers-missing",
            severity=WARNING,
            subject="/sys/fs/cgroup/cgroup.subtree_control",
            summary=f"the top of the cgroup tree does not give {', '.join(withheld)} to its children",
            detail="The running kubelet should have had it given. Where the kernel refuses (realtime processes outside the "
            "top cgroup keep `cpu`), the kubelet fails with `kubepods.slice/cpu.weight: no such file or directory`.",
            remediation=f"echo '{' '.join('+' + each for each in withheld)}' > /sys/fs/cgroup/cgroup.subtree_control",
            reference="F53",
        )


def reserved_cgroup_missing(facts: Facts) -> Iterator[Finding]:
    """Find reserved cgroups that the kubelet will insist on and that are not there; a name to translate is another finding."""
    values = dict(enforced(facts.kubelet))
    on_systemd = facts.kubelet.driver.value == SYSTEMD
    final = {
        path
        for setting, path in insisted_paths(facts.kubelet).items()
        if (is_switched(facts) if setting == ROOT else on_systemd or path == f"/{values[setting].strip('/')}")
    }
    absent = [each for each in facts.cgroups.reserved_absent if any(each.endswith(path) for path in final)]
    if absent:
        v1 = facts.node.cgroup_mode in ("legacy", "hybrid")
        yield Finding(
            id="reserved-cgroup-missing",
            severity=BLOCKER,
            subject=absent[0],
            summary=f"{plural(len(absent), 'cgroup')} that the kubelet insists on "
            f"{'is' if len(absent) == 1 else 'are'} not there: it will not start again",
            detail=(
                "On cgroup v1 it looks in every controller's hierarchy, and systemd makes a slice in some only. "
                if v1
                else "On cgroup v2 each controller of the top that it uses must be in the cgroup too (cgroup.controllers). "
            )
            + "The kubelet does not make it. All: "
            + ", ".join(absent),
            remediation="make it before the kubelet starts: a slice unit that is started"
            + (
                ", and ExecStartPre=mkdir -p in a drop-in of the kubelet for the hierarchies systemd leaves out"
                if v1
                else ""
            ),
            reference="F41" if v1 else "F38",
        )


CHECKS = (
    Check(
        "checkpoint-policy",
        (BLOCKER,),
        ("F60",),
        "A checkpoint of the CPU or memory manager is of another policy than the configured one.",
        checkpoint_policy,
    ),
    Check(
        "cpu-quota-period",
        (WARNING,),
        ("F56",),
        "The kubelet's quota period is one that systemd would not keep.",
        cpu_quota_period,
    ),
    Check(
        "accounting-off",
        (INFO,),
        ("F45",),
        "The kubelet's service has different cgroups for CPU and memory.",
        accounting_off,
    ),
    Check(
        "controllers-missing",
        (WARNING,),
        ("F21", "F53"),
        "A controller that the kubelet needs is not there, or not given to its cgroup.",
        controllers_missing,
    ),
    Check(
        "reserved-cgroup-missing",
        (BLOCKER,),
        ("F38", "F41"),
        "A reserved cgroup that the kubelet enforces does not exist.",
        reserved_cgroup_missing,
    ),
)
