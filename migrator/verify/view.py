# SPDX-License-Identifier: Apache-2.0
"""A verification as text for an operator, and as JSON for a program."""

from __future__ import annotations

import re
from typing import TextIO

from migrator.checks.base import plural
from migrator.console import SEVERITY_STYLE, blank, console_on, draws, say, table
from migrator.trees import short
from migrator.verify.model import VERIFY_VERSION, CheckResult, Verification


def to_json(verification: Verification) -> dict[str, object]:
    """Return a verification as JSON data of `verify-1.schema.json`."""
    return {
        "format": "cgmigrate-verify",
        "version": VERIFY_VERSION,
        "expected": verification.expected.value,
        "ok": verification.ok,
        "reloaded": verification.reloaded,
        "settle_seconds": verification.settle,
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity.value,
                "subject": finding.subject,
                "summary": finding.summary,
                "detail": finding.detail,
                "remediation": finding.remediation,
                "reference": finding.reference,
            }
            for finding in verification.findings
        ],
        "checks": [
            {
                "name": check.name,
                "place": check.place,
                "cgroupfs": check.cgroupfs,
                "systemd": check.systemd,
                "ok": check.ok,
            }
            for check in verification.checks
        ],
    }


def speaks_of(name: str) -> tuple[str, str]:
    """Return the pod that a comparison of this name is about, or nothing, and what it compares.

    It is named `namespace/pod`, `pod namespace/pod` or `pod uid`, then the container, then what is compared.
    """
    found = re.match(r"(?:pod (?=[^ ]*/))?([^ ]*/[^ ]*|pod [^ ]+)(?: (.*))?$", name, re.DOTALL)
    return (found[1], found[2] or "") if found else ("", name)


def by_pod(verification: Verification) -> list[tuple[bool, tuple[str, str, str, str]]]:
    """Return what both witnesses said: a row for the node and for each pod, and below it one for what does not hold.

    A row is whether it holds, and the cells: how much holds, what, what cgroupfs says, what systemd says. Of a pod each says
    how many cgroups it knows of which everything holds. Those with something that does not hold come first.
    """
    about: dict[str, list[CheckResult]] = {}
    for check in verification.checks:
        about.setdefault(speaks_of(check.name)[0], []).append(check)
    rows: list[tuple[bool, tuple[str, str, str, str]]] = []
    for pod, checks in sorted(about.items(), key=lambda each: all(check.ok for check in each[1])):
        wrong = [check for check in checks if not check.ok]
        bad = {"", *(check.place for check in wrong)}
        sound = [check for check in checks if pod and check.place not in bad]
        held = f"{len(checks) - len(wrong)} of {len(checks)}"
        cgroups = len({check.place for check in sound if check.cgroupfs})
        units = len({check.place for check in sound if check.systemd})
        said = (plural(cgroups, "cgroup") if cgroups else "", plural(units, "unit") if units else "")
        rows.append((not wrong, (held, pod or "the node", *said)))
        for check in wrong:
            what = speaks_of(check.name)[1] or "its place"
            rows.append((False, ("NO", what, short(check.cgroupfs), short(check.systemd))))
    return rows


def write(
    verification: Verification, stream: TextIO, width: int | None = None, *, witnesses: bool = False
) -> None:
    """Write the outcome and what to do, after what both witnesses said where a table can be drawn; `witnesses`: also where not."""
    console = console_on(stream, width)
    rows = by_pod(verification)
    if draws(console):
        headings = ("held", "compared", "cgroupfs says", "systemd says")
        table(console, [("" if ok else "bold red", cells) for ok, cells in rows], headings)
        blank(console)
    elif witnesses:
        for _, (held, what, *said) in rows:
            sides = zip(("cgroupfs", "systemd"), said, strict=True)
            sayings = ", ".join(f"{who} says {saying}" for who, saying in sides if saying)
            say(console, 2 if held == "NO" else 0, f"{held}: {what}" + (f": {sayings}" if sayings else ""))
        blank(console)
    say(console, 0, _outcome(verification), "bold green" if verification.ok else "bold red")
    for finding in verification.findings:
        blank(console)
        reference = f" ({finding.reference})" if finding.reference else ""
        summary = f"{finding.severity}: {finding.summary}  [{finding.id}{reference}]"
        say(console, 0, summary, SEVERITY_STYLE[finding.severity])
        if finding.subject and finding.subject not in finding.summary:
            say(console, 2, f"at: {finding.subject}")
        for line in finding.detail.splitlines():
            say(console, 2, line)
        if finding.remediation:
            say(console, 2, f"do: {finding.remediation}", whole=True)


def _outcome(verification: Verification) -> str:
    held = sum(check.ok for check in verification.checks)
    when = " after a daemon-reload" if verification.reloaded else ""
    return (
        f"{'ok' if verification.ok else 'NOT PROVEN'}: node on {verification.expected}{when}, "
        f"{held} of {plural(len(verification.checks), 'comparison')} hold"
        + "".join(f"; {each.summary}" for each in verification.findings if each.id == "verify-no-pods")
    )
