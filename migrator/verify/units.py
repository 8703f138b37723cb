# SPDX-License-Identifier: Apache-2.0
"""Comparison of one cgroup with its unit: state, place, and every limit that systemd states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from migrator.cgroups import Driver
from migrator.checks.base import command
from migrator.limits import (
    UNLIMITED,
    memory_agrees,
    parse_count,
    parse_memory,
    parse_time_span,
    quota_per_second,
    weight_agrees,
    weight_compat,
)
from migrator.verify.model import Ledger
from migrator.witness import Cgroup


def unit_state(ledger: Ledger, unit: str) -> str:
    """Return a unit's active state where both of systemd's answers agree, else both."""
    shown = ledger.evidence.shown.get(unit, {}).get("ActiveState", "")
    listed = ledger.evidence.listed.get(unit, "")
    return shown if shown == listed else f"{shown or 'absent'} in systemctl, {listed or 'absent'} on D-Bus"


def control_group(ledger: Ledger, place: str) -> str:
    """Return what systemd calls the place of this cgroup's unit; under cgroupfs it must know no such unit."""
    if ledger.expected is Driver.CGROUPFS:
        return ""
    return ledger.evidence.shown.get(place.rpartition("/")[2], {}).get("ControlGroup", "") or "no unit"


def compare_unit(ledger: Ledger, label: str, place: str) -> None:
    """Hold a slice or scope to the kernel's place and limits; under cgroupfs there is no unit to hold."""
    if ledger.expected is Driver.CGROUPFS:
        return
    name = place.rpartition("/")[2]
    state = unit_state(ledger, name)
    stated_group = control_group(ledger, place)
    ledger.hold(
        "verify-unit-place",
        state == "active" and stated_group == place,
        f"{label} unit",
        place,
        said=("exists", stated_group if state == "active" else f"{stated_group} ({state or 'not loaded'})"),
        summary=f"systemd has {name} at {stated_group}, {state or 'not loaded'}; the kernel has it at {place}",
        remediation=command("systemctl", "status", name),
    )
    unit = ledger.evidence.shown.get(name)
    if unit is None:
        return
    cgroup = ledger.evidence.cgroups[place]
    for comparison in _COMPARISONS:
        kernel = comparison.kernel(cgroup)
        stated = comparison.systemd(unit, ledger.evidence.facts.node.page_size)
        if kernel is None:
            continue
        ledger.hold(
            comparison.rule,
            stated is None or comparison.agrees(kernel, stated, ledger.evidence.facts.node.page_size),
            f"{label} {comparison.name}",
            place,
            said=(_number(kernel), _number(stated)),
            summary=f"{comparison.name} of {name} is {_number(kernel)} in the kernel and {_number(stated)} in systemd",
            detail="Systemd writes its own value at the next daemon-reload.",
            remediation=command("systemctl", "show", name),
        )


def _number(value: int | None) -> str:
    return "not stated" if value is None else "unlimited" if value == UNLIMITED else str(value)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One limit: what it is called, how each witness says it, and when both say the same."""

    rule: str
    name: str
    kernel: Callable[[Cgroup], int | None]
    systemd: Callable[[Mapping[str, str], int], int | None]
    agrees: Callable[[int, int, int], bool]


def _quota(cgroup: Cgroup) -> int | None:
    quota = cgroup.limits.get("quota")
    return None if quota is None else quota_per_second(quota, cgroup.limits.get("period", 0))


def _memory(unit: Mapping[str, str], page_size: int) -> int | None:
    """Return the stated limit: v1's property or v2's, whichever is set; systemd enforces either on both."""
    stated = [parse_memory(unit.get(name, ""), page_size) for name in ("MemoryMax", "MemoryLimit")]
    return min((value for value in stated if value is not None), default=None)


def _shares(unit: Mapping[str, str], _: int) -> int | None:
    shares, weight = (_stated(unit, name) for name in ("CPUShares", "CPUWeight"))
    return shares if shares is not None or weight is None else weight * 1024 // 100


def _weight(unit: Mapping[str, str], _: int) -> int | None:
    weight, shares = (_stated(unit, name) for name in ("CPUWeight", "CPUShares"))
    return weight if weight is not None or shares is None else weight_compat(shares)


def _stated(unit: Mapping[str, str], name: str) -> int | None:
    """Return a share or weight; UINT64_MAX is how systemd says that nobody asked for one."""
    value = parse_count(unit.get(name, ""))
    return None if value == UNLIMITED else value


_COMPARISONS = (
    _Comparison(
        "verify-memory-limit",
        "memory limit",
        lambda cgroup: cgroup.limits.get("memory"),
        _memory,
        memory_agrees,
    ),
    _Comparison(
        "verify-cpu-quota",
        "CPU quota per second",
        _quota,
        lambda unit, _: parse_time_span(unit.get("CPUQuotaPerSecUSec", "")),
        lambda kernel, stated, _: kernel == stated,
    ),
    _Comparison(
        "verify-cpu-weight",
        "CPU shares",
        lambda cgroup: cgroup.limits.get("shares"),
        _shares,
        lambda kernel, stated, _: kernel == stated,
    ),
    _Comparison(
        "verify-cpu-weight",
        "CPU weight",
        lambda cgroup: cgroup.limits.get("weight"),
        _weight,
        lambda kernel, stated, _: weight_agrees(kernel, stated),
    ),
    _Comparison(
        "verify-tasks-max",
        "tasks",
        lambda cgroup: cgroup.limits.get("tasks"),
        lambda unit, _: parse_count(unit.get("TasksMax", "")),
        lambda kernel, stated, _: kernel == stated,
    ),
)
