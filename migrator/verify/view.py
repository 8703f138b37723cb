# SPDX-License-Identifier: Apache-2.0
"""A verification as text for an operator, and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrator.checks.base import plural
from migrator.findings import Finding, Severity
from migrator.terminal import plain
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


def render(verification: Verification, *, verbose: bool = False) -> str:
    """Return a verification as plain text: the outcome, what to do, and (verbose) every comparison.

    What comes from the node is shown with its control characters escaped.
    """
    return "\n".join(_lines(verification, verbose=verbose)) + "\n"


def _lines(verification: Verification, *, verbose: bool) -> Iterator[str]:
    held = sum(check.ok for check in verification.checks)
    when = " after a daemon-reload" if verification.reloaded else ""
    yield (
        f"{'ok' if verification.ok else 'NOT PROVEN'}: node on {verification.expected}{when}, "
        f"{held} of {plural(len(verification.checks), 'comparison')} hold"
        + "".join(f"; {each.summary}" for each in verification.findings if each.id == "verify-no-pods")
    )
    for severity in Severity:
        for finding in (each for each in verification.findings if each.severity is severity):
            yield ""
            yield from _finding(finding)
    if verbose:
        yield ""
        yield from _table(verification.checks)


def witnesses(verification: Verification, width: int) -> Iterator[str]:
    """Yield a table of `width` columns: what both witnesses said, side by side; of what is long, its end."""
    name = (width - 7) // 2
    cell = (width - 7 - name) // 2
    said = (check for check in verification.checks if check.cgroupfs and check.systemd)
    rows = [("ok" if each.ok else "NO", each.name, each.cgroupfs, each.systemd) for each in said]
    for held, what, *sides in [("", "compared", "cgroupfs", "systemd"), *rows]:
        cells = (_end(plain(what), name), *(_end(plain(side), cell) for side in sides))
        yield f"{held:3}{'  '.join(cells)}".rstrip()


def _end(text: str, width: int) -> str:
    return f"{text:{width}}" if len(text) <= width else f"…{text[1 - width :]}"


def _finding(finding: Finding) -> Iterator[str]:
    reference = f" ({finding.reference})" if finding.reference else ""
    yield f"{finding.severity}: {plain(finding.summary)}  [{finding.id}{reference}]"
    if finding.subject and finding.subject not in finding.summary:
        yield f"  at: {plain(finding.subject)}"
    for line in finding.detail.splitlines():
        yield f"  {plain(line)}"
    if finding.remediation:
        yield f"  do: {plain(finding.remediation)}"


def _table(checks: Sequence[CheckResult]) -> Iterator[str]:
    yield "held  what | place | cgroupfs says | systemd says"
    for check in checks:
        cells = (check.name, check.place, check.cgroupfs, check.systemd)
        yield f"{'yes' if check.ok else 'NO':4}  " + " | ".join(plain(cell) or "-" for cell in cells)
