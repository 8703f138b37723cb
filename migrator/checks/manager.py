# SPDX-License-Identifier: Apache-2.0
"""Checks of systemd and its bus: with the systemd driver every container's start and end goes through both."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import INFO, WARNING, Check, command, plural, version
from migrator.facts.kubelet_state import enforced
from migrator.facts.model import Facts
from migrator.findings import Finding
from migrator.reserved import DROP_IN

MOUNTS = 5000
UNITS = 10_000
CPU_PERCENT = 10
"""Above any of these systemd may be too slow for runc, which waits 30 s for a slice; thresholds of this tool (F50)."""

RUN_SCOPES = 100
"""More transient `run-*.scope` units than anything but a leak makes; a threshold of this tool (F51)."""


def bus_connections(facts: Facts) -> Iterator[Finding]:
    """Find a bus on which root may soon have no connection left."""
    used, limit = facts.manager.bus_connections, facts.manager.bus_limit
    if used is not None and limit is not None and used > limit // 2:
        yield Finding(
            id="bus-connections",
            severity=WARNING,
            subject="dbus.service",
            summary=f"the system bus has {used} connections, and grants {limit} to one user",
            detail="The kubelet and every call of runc need one with the systemd driver. At the limit pods fail with "
            "`The maximum number of active connections for UID 0 has been reached`. Half of the limit is a threshold of this "
            "tool: it leaves room for as many again. Look at the number once more after the largest pods started; one that only "
            "grows is a leak.",
            remediation="find who holds them (`busctl list`), upgrade runc, or raise max_connections_per_user "
            "in /etc/dbus-1/system-local.conf and reboot",
            reference="F48",
        )


def bus_restart(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet that does not survive a restart of the bus."""
    kubelet = version(facts.kubelet.version)
    if kubelet is not None and kubelet <= (1, 20):
        yield Finding(
            id="bus-restart",
            severity=INFO,
            subject=f"kubelet {facts.kubelet.version}",
            summary="with the systemd driver this kubelet fails after a restart of dbus until it is restarted too",
            detail="It keeps one connection for ever, and then says `dbus: connection closed by user`. "
            "The kubelet after 1.20 makes a new one.",
            remediation="restart kubelet whenever dbus was restarted, or upgrade it",
            reference="F49",
        )


def systemd_busy(facts: Facts) -> Iterator[Finding]:
    """Find a systemd with so much to do that runc may wait for it in vain."""
    manager = facts.manager
    reasons = [
        text
        for value, least, text in (
            (manager.mounts, MOUNTS, f"{manager.mounts} mounts, each a unit"),
            (manager.units, UNITS, f"{manager.units} loaded units"),
            (manager.cpu_percent, CPU_PERCENT, f"{manager.cpu_percent} % of a CPU used by it since the boot"),
        )
        if value is not None and value >= least
    ]
    if reasons:
        yield Finding(
            id="systemd-busy",
            severity=WARNING,
            subject="systemd",
            summary=f"systemd is busy: {', '.join(reasons)}",
            detail="runc waits 30 s for it: `Timeout waiting for systemd to create kubepods-...slice`. The thresholds "
            f"({MOUNTS} mounts, {UNITS} units, {CPU_PERCENT} % since the boot) are this tool's own, no limits of systemd: "
            "what counts is how long it takes, as in `time systemd-run --scope true`. Far below a second it is not busy.",
            remediation="systemctl list-units --all; findmnt; look for what leaks them, or reboot, before the switch",
            reference="F50",
        )


def leaked_run_scopes(facts: Facts) -> Iterator[Finding]:
    """Find transient scopes that pile up."""
    count = facts.manager.run_scopes
    if count is not None and count > RUN_SCOPES:
        yield Finding(
            id="leaked-run-scopes",
            severity=WARNING,
            subject="run-*.scope",
            summary=f"{plural(count, 'transient scope')} of systemd-run are loaded",
            detail="An old kubelet makes one for each mount, and some systemd versions never drop them; "
            f"systemd slows down with their number. {RUN_SCOPES} is a threshold of this tool: more than anything but a leak makes.",
            remediation=command("systemctl", "list-units", "run-*.scope")
            + ", then stop those without a process",
            reference="F51",
        )


def reserved_limits_reset(facts: Facts) -> Iterator[Finding]:
    """Find limits of the kubelet on a slice that systemd writes too; a slice that a plan has made has them itself."""
    unit = facts.kubelet.unit
    if unit and any(path.endswith(f"/{DROP_IN}") for path in unit.drop_ins):
        return
    for setting, value in enforced(facts.kubelet):
        if value.endswith(".slice"):
            yield Finding(
                id="reserved-limits-reset",
                severity=WARNING,
                subject=f"{facts.kubelet.config_file or 'kubelet'}: {setting}",
                summary=f"the limits that the kubelet sets on `{value}` are lost at the next daemon-reload",
                detail="The slice is systemd's own, which writes its own values again; a run reloads systemd.",
                remediation=f"set MemoryMax= and CPUWeight= in a drop-in of {command(value.rpartition('/')[2])}",
                reference="F42",
            )


CHECKS = (
    Check(
        "bus-connections",
        (WARNING,),
        ("F48",),
        "More than half of the bus connections that one user may have are in use.",
        bus_connections,
    ),
    Check(
        "bus-restart", (INFO,), ("F49",), "The kubelet does not survive a restart of the bus.", bus_restart
    ),
    Check(
        "systemd-busy",
        (WARNING,),
        ("F50",),
        "systemd has so much to do that runc may wait for it in vain.",
        systemd_busy,
    ),
    Check(
        "leaked-run-scopes",
        (WARNING,),
        ("F51",),
        "Transient scopes of systemd-run pile up.",
        leaked_run_scopes,
    ),
    Check(
        "reserved-limits-reset",
        (WARNING,),
        ("F42",),
        "The kubelet's limits on a slice of systemd's own are lost at a daemon-reload.",
        reserved_limits_reset,
    ),
)
