# SPDX-License-Identifier: Apache-2.0
"""Checks of the kubelet and the runtime as services, and of what could not be read of them."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    BLOCKER,
    INFO,
    WARNING,
    Check,
    command,
    plural,
    quoted,
)
from migrator.checks.distribution import WHERE_TO_CHANGE
from migrator.facts.model import Facts, Unknown
from migrator.findings import Finding

# Absolute names below these are no configuration: what is unreadable there is an ordinary unknown fact.
_NO_CONFIGURATION = ("/proc/", "/sys/", "/run/", "/var/run/", "/dev/")


def kubelet_missing(facts: Facts) -> Iterator[Finding]:
    """Find a node without a kubelet; one that is part of its distribution's own program is not missing."""
    if not facts.kubelet.present and facts.node.distribution not in WHERE_TO_CHANGE:
        yield Finding(
            id="kubelet-missing",
            severity=BLOCKER,
            subject="kubelet",
            summary="there is no kubelet on this node",
            detail="Neither a running kubelet nor a unit that starts one was found.",
        )


def kubelet_down(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet that does not run, or starts and dies in a loop: nothing could prove it healthy after the switch."""
    unit = facts.kubelet.unit
    if facts.node.live and unit is not None and unit.active_state not in ("", "active"):
        yield Finding(
            id="kubelet-down",
            severity=BLOCKER,
            subject=unit.name,
            summary=f"the kubelet does not run ({unit.active_state}/{unit.sub_state})",
            detail="It could not be proven healthy after the switch, so the run would end in a rollback, "
            "and the outage would be for nothing.",
            remediation=command("systemctl", "start", unit.name)
            + "; "
            + command("journalctl", "-u", unit.name, "-n", "50"),
        )


def unit_reload_pending(facts: Facts) -> Iterator[Finding]:
    """Find units whose files were edited since systemd read them: the run reloads systemd, which puts the edit in force."""
    kubelet = () if facts.kubelet.unit is None else (facts.kubelet.unit,)
    for unit in (*kubelet, *facts.runtime.units):
        if facts.node.live and unit.need_daemon_reload:
            yield Finding(
                id="unit-reload-pending",
                severity=BLOCKER,
                subject=unit.name,
                summary=f"files of {unit.name} were edited, and systemd was not told to read them again",
                detail="The run reloads systemd, which would put that edit in force unseen, in the middle of the switch.",
                remediation=command("systemctl", "daemon-reload")
                + ", then "
                + command("systemctl", "restart", unit.name)
                + " when convenient, then `cgmigrate audit` again",
            )


def guard_bypassed(facts: Facts) -> Iterator[Finding]:
    """Find units that a boot in the middle of a run would start in spite of its guard, with half-changed files."""
    kubelet = () if facts.kubelet.unit is None else (facts.kubelet.unit,)
    for unit in (*kubelet, *facts.runtime.units):
        if unit.triggers:
            yield Finding(
                id="guard-bypassed",
                severity=BLOCKER,
                subject=unit.name,
                summary=f"{unit.name} has triggering conditions of its own, which no guard can hold down",
                detail="systemd starts a unit as soon as one of its triggering conditions holds, and those of the guard are "
                "among them. After a power cut in the middle of a run the unit would start with half-changed files: "
                + "; ".join(unit.triggers),
                remediation=f"take the `|` out of {unit.triggers[0].rpartition(': ')[0]}, or the line, then "
                + command("systemctl", "daemon-reload"),
            )


def runtime_unknown(facts: Facts) -> Iterator[Finding]:
    """Find a node whose container runtime is not known."""
    if facts.kubelet.present and facts.runtime.kind == "unknown":
        reasons = [each.reason for each in facts.unknowns if each.subject.startswith("runtime")]
        yield Finding(
            id="runtime-unknown",
            severity=BLOCKER,
            subject=facts.kubelet.runtime_endpoint or "runtime",
            summary="the container runtime of the kubelet was not recognised",
            detail="; ".join(reasons) or "It is neither Docker, containerd nor CRI-O.",
        )


def runtime_daemon_down(facts: Facts) -> Iterator[Finding]:
    """Find a runtime whose service does not run."""
    for unit in facts.runtime.units:
        if (
            facts.node.live
            and unit.name.endswith(".service")
            and unit.active_state
            and unit.active_state != "active"
        ):
            yield Finding(
                id="runtime-daemon-down",
                severity=BLOCKER,
                subject=unit.name,
                summary=f"{unit.name} does not run ({unit.active_state}), so no sandbox can be removed",
                detail="Sandboxes of the old driver must be removed while the runtime is up, or they fail under the new one.",
                remediation=command("systemctl", "start", unit.name),
                reference="F08",
            )


def config_unreadable(facts: Facts) -> Iterator[Finding]:
    """Find configuration files that cannot be read or parsed."""
    for each in filter(is_configuration, facts.unknowns):
        at = f"{each.subject}:{each.line}" if each.line else each.subject
        yield Finding(
            id="config-unreadable",
            severity=BLOCKER,
            subject=at,
            summary=f"{each.subject} cannot be used: {each.reason}",
            detail="What it says about the driver is unknown, and it could not be changed safely.",
            remediation=f"correct {quoted(at)}, then run `cgmigrate audit` again",
            reference="F16",
        )


def facts_unknown(facts: Facts) -> Iterator[Finding]:
    """List the other facts that could not be had."""
    rest = [each for each in facts.unknowns if not is_configuration(each)]
    if rest:
        yield Finding(
            id="facts-unknown",
            severity=WARNING if facts.node.live else INFO,
            subject=rest[0].subject,
            summary=f"{plural(len(rest), 'fact')} could not be had, so what depends on "
            f"{'it is' if len(rest) == 1 else 'them is'} not judged",
            detail="; ".join(f"{each.subject}: {each.reason}" for each in rest),
        )


def is_configuration(unknown: Unknown) -> bool:
    """Tell whether an unknown is a configuration file, not a fact's dotted name or a file of the kernel."""
    return unknown.subject.startswith("/") and not unknown.subject.startswith(_NO_CONFIGURATION)


CHECKS = (
    Check("kubelet-missing", (BLOCKER,), (), "There is no kubelet on this node.", kubelet_missing),
    Check(
        "kubelet-down",
        (BLOCKER,),
        (),
        "The kubelet does not run, so it could not be proven healthy after the switch.",
        kubelet_down,
    ),
    Check(
        "unit-reload-pending",
        (BLOCKER,),
        (),
        "Unit files of the kubelet or the runtime were edited without a daemon-reload.",
        unit_reload_pending,
    ),
    Check(
        "guard-bypassed",
        (BLOCKER,),
        (),
        "The kubelet's or the runtime's unit has triggering conditions, which would defeat the guard of a run.",
        guard_bypassed,
    ),
    Check("runtime-unknown", (BLOCKER,), (), "The container runtime was not recognised.", runtime_unknown),
    Check(
        "runtime-daemon-down",
        (BLOCKER,),
        ("F08",),
        "The runtime's service does not run, so old sandboxes cannot be removed.",
        runtime_daemon_down,
    ),
    Check(
        "config-unreadable",
        (BLOCKER,),
        ("F16",),
        "A configuration file cannot be read or parsed.",
        config_unreadable,
    ),
    Check(
        "facts-unknown",
        (WARNING, INFO),
        (),
        "Some facts could not be had; the finding lists them.",
        facts_unknown,
    ),
)
