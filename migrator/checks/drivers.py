# SPDX-License-Identifier: Apache-2.0
"""Checks of the two drivers: whether they are known, agree, run as written, and who decides them."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    BLOCKER,
    CGROUPFS,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    command,
    kubelet_driver,
    kubelet_unit,
    other,
    quoted,
    runtime_service,
    version,
    where,
)
from migrator.checks.services import is_configuration
from migrator.facts.model import Driver, Facts, Unit
from migrator.findings import Finding

FLAG_KINDS = frozenset({"env-file", "unit", "unit-drop-in"})
"""Sources that are command-line flags: they win over every file (F17)."""


def drivers_differ(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet and a runtime that are configured for different drivers."""
    kubelet, runtime = facts.kubelet.driver, facts.runtime.driver
    if facts.kubelet.decides == "runtime" or {kubelet.value, runtime.value} != {CGROUPFS, SYSTEMD}:
        return
    reference, effect = effect_of_difference(facts, kubelet.value or CGROUPFS)
    yield Finding(
        id="drivers-differ",
        severity=BLOCKER,
        subject=where(kubelet.decided_by),
        summary=f"kubelet uses {kubelet.value}, {facts.runtime.kind} uses {runtime.value}",
        detail=f"The kubelet's driver is decided by {where(kubelet.decided_by)}, "
        f"the runtime's by {where(runtime.decided_by)}. Effect: {effect}.",
        remediation="make both sides agree first, so that there is one state to start from and to come back to: "
        f"change {quoted(where(kubelet.decided_by))} or {quoted(where(runtime.decided_by))}, then "
        + command("systemctl", "restart", runtime_service(facts), kubelet_unit(facts)),
        reference=reference,
    )


def effect_of_difference(facts: Facts, kubelet: str) -> tuple[str, str]:
    """Return the F-number and the effect of this node's kubelet on `kubelet` and its runtime on the other driver."""
    return effect(facts.runtime.kind, facts.runtime.shim, kubelet)


def effect(kind: str, shim: str, kubelet: str) -> tuple[str, str]:
    """Return the F-number and the effect of a kubelet on `kubelet` and a runtime on the other driver.

    How it shows depends on the runtime and on the side that is ahead: failure-modes 3a.
    """
    if kind == "docker" and shim == "cri-dockerd":
        return "F03", "containers land in odd paths"
    if kind == "docker":
        return "F03", (
            f'the kubelet exits with `misconfiguration: kubelet cgroup driver: "{kubelet}" is different from '
            f'docker cgroup driver: "{other(kubelet)}"`'
        )
    if kind == "crio":
        return "F04", "CRI-O refuses to create sandboxes"
    if kubelet == CGROUPFS:
        return "F01", "the runtime refuses to create sandboxes"
    return "F06", (
        "nothing fails, and containers run outside the limits of their pods, "
        "in literal `...slice:cri-containerd:<id>` cgroups"
    )


def driver_unknown(facts: Facts) -> Iterator[Finding]:
    """Find a side whose driver is not known, or is a text that names no driver."""
    sides: list[tuple[str, Driver]] = []
    if facts.kubelet.present and facts.kubelet.decides != "runtime":
        sides.append(("kubelet", facts.kubelet.driver))
    if facts.runtime.kind != "unknown":
        sides.append((facts.runtime.kind, facts.runtime.driver))
    for name, driver in sides:
        if driver.value is None:
            yield Finding(
                id="driver-unknown",
                severity=BLOCKER,
                subject=name,
                summary=f"the cgroup driver of {name} is not known",
                detail=_reasons(facts, "kubelet" if name == "kubelet" else "runtime"),
                remediation="make the sources named in the detail readable, or state the driver in a file, "
                "then run `cgmigrate audit` again",
            )
        elif driver.value not in (CGROUPFS, SYSTEMD):
            yield Finding(
                id="driver-unknown",
                severity=BLOCKER,
                subject=where(driver.decided_by),
                summary=f"{name} is given the cgroup driver `{driver.value}`, which is none",
                detail="A driver is `cgroupfs` or `systemd`. Quotes that reach the program literally are a known cause.",
                remediation=f"correct {quoted(where(driver.decided_by))}",
                reference="F03",
            )


def _reasons(facts: Facts, part: str) -> str:
    """Return why a side's driver is not known: its own unknown facts, and files that are not surely the other side's."""
    of_other = _files(facts, "runtime" if part == "kubelet" else "kubelet")
    reasons = [
        f"{each.subject}: {each.reason}"
        for each in facts.unknowns
        if each.subject.startswith(part) or (is_configuration(each) and each.subject not in of_other)
    ]
    return "; ".join(reasons) or "No source of it was found."


def _files(facts: Facts, part: str) -> set[str]:
    if part == "kubelet":
        units: tuple[Unit, ...] = (facts.kubelet.unit,) if facts.kubelet.unit else ()
        own = {facts.kubelet.config_file}
    else:
        units = facts.runtime.units
        own = {facts.runtime.config_file, *facts.runtime.imports}
    return own.union(*({unit.fragment, *unit.drop_ins} for unit in units))


def running_driver_differs(facts: Facts) -> Iterator[Finding]:
    """Find a daemon that was started with another driver than the one its files name now."""
    sides = [
        (facts.runtime.kind, runtime_service(facts), facts.runtime.driver, facts.runtime.driver_reported)
    ]
    if facts.kubelet.decides != "runtime":
        running = facts.kubelet.driver_running
        sides.append(("kubelet", kubelet_unit(facts), facts.kubelet.driver, running))
    for name, unit, configured, running in sides:
        if None in (configured.value, running.value) or configured.value == running.value:
            continue
        yield Finding(
            id="running-driver-differs",
            severity=BLOCKER,
            subject=unit,
            summary=f"{name} runs with {running.value}, its configuration says {configured.value}",
            detail=f"{where(configured.decided_by)} was changed and {unit} was not restarted since. "
            "A plan made from the files would not describe what runs, and its rollback would not bring that back.",
            remediation=f"put {quoted(where(configured.decided_by))} back to {running.value}, or "
            + command("systemctl", "restart", unit)
            + " if the change is meant",
            reference="F17" if name == "kubelet" else "",
        )


def runtime_decides(facts: Facts) -> Iterator[Finding]:
    """Tell that the kubelet takes the driver from the runtime."""
    if facts.kubelet.decides != "runtime":
        return
    written = facts.kubelet.driver
    stale = written.value is not None and written.value != kubelet_driver(facts)
    yield Finding(
        id="runtime-decides",
        severity=INFO,
        subject=where(facts.runtime.driver.decided_by),
        summary=f"the kubelet takes its driver ({kubelet_driver(facts) or 'unknown'}) from {facts.runtime.kind}",
        detail=f"Kubelet {facts.kubelet.version or 'of unknown version'} asks CRI RuntimeConfig once, at its start. "
        "The runtime must therefore be restarted before the kubelet."
        + (f" {where(written.decided_by)} says {written.value} and has no effect." if stale else ""),
        reference="F09",
    )


def kubelet_no_runtime_config(facts: Facts) -> Iterator[Finding]:
    """Find a runtime that a coming kubelet will refuse because it does not tell its driver."""
    kubelet = version(facts.kubelet.version)
    # 1.34 made the question to the runtime the rule (KEP-4033); the fallback is planned to go in 1.38.
    if not facts.node.live or facts.kubelet.decides == "runtime" or kubelet is None or kubelet < (1, 34):
        return  # an image's runtime cannot be asked
    yield Finding(
        id="kubelet-no-runtime-config",
        severity=WARNING,
        subject=facts.runtime.socket or facts.runtime.kind,
        summary=f"{facts.runtime.kind} {facts.runtime.version or ''}".rstrip()
        + " does not tell its driver; kubelet 1.38 is planned to refuse such a runtime",
        detail="CRI RuntimeConfig is answered by containerd 2.0, CRI-O 1.28, cri-dockerd 0.3.17 and later.",
        remediation="upgrade the runtime before the kubelet reaches 1.38",
        reference="F10",
    )


def flag_overrides_file(facts: Facts) -> Iterator[Finding]:
    """Find a kubelet flag that wins over the kubelet's configuration file."""
    decides = facts.kubelet.driver.decided_by
    if decides is None or decides.kind not in FLAG_KINDS or facts.kubelet.decides == "runtime":
        return
    files = [each for each in facts.kubelet.driver.chain if each.kind in ("config-file", "config-drop-in")]
    if not files:
        return
    stated = [each for each in files if each.value is not None]
    differs = any(each.value != decides.value for each in stated)
    below = ", ".join(f"{where(each)} ({each.value})" for each in stated) or where(files[-1])
    yield Finding(
        id="flag-overrides-file",
        severity=WARNING if differs else INFO,
        subject=where(decides),
        summary=f"the flag --cgroup-driver={decides.value} wins over the kubelet's configuration file",
        detail=f"Overridden: {below}. A change of the file alone would have no effect; the plan changes the flag too.",
        reference="F17",
    )


CHECKS = (
    Check(
        "drivers-differ",
        (BLOCKER,),
        ("F01", "F03", "F04", "F06"),
        "Kubelet and runtime are configured for different drivers.",
        drivers_differ,
    ),
    Check(
        "driver-unknown",
        (BLOCKER,),
        ("F03",),
        "The driver of the kubelet or of the runtime is not known, or names no driver.",
        driver_unknown,
    ),
    Check(
        "running-driver-differs",
        (BLOCKER,),
        ("F17",),
        "A daemon runs with another driver than its configuration names, because it was not restarted.",
        running_driver_differs,
    ),
    Check(
        "runtime-decides",
        (INFO,),
        ("F09",),
        "The kubelet takes the driver from the runtime, so its own setting has no effect.",
        runtime_decides,
    ),
    Check(
        "kubelet-no-runtime-config",
        (WARNING,),
        ("F10",),
        "The runtime does not answer RuntimeConfig, which a coming kubelet requires.",
        kubelet_no_runtime_config,
    ),
    Check(
        "flag-overrides-file",
        (WARNING, INFO),
        ("F17",),
        "A command-line flag of the kubelet wins over its configuration file.",
        flag_overrides_file,
    ),
)
