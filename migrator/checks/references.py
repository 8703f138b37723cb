# SPDX-License-Identifier: Apache-2.0
"""Checks of what the host's own files say about the tree of the cgroupfs driver."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import (
    WARNING,
    Check,
    command,
    is_switched,
    plural,
    quoted,
)
from migrator.facts.model import Facts, Reference, ReferringFile
from migrator.findings import Finding
from migrator.reference_changes import kept
from migrator.references import MEANING, Reason

_SHOWN = 20
"""Lines of one file that a finding tells."""


def old_paths_referenced(facts: Facts) -> Iterator[Finding]:
    """Find cron jobs, units, agents and scripts that name cgroups in the spelling of cgroupfs."""
    for each in facts.references:
        why_kept = kept(facts, each)
        sure = [] if why_kept else [found for found in each.references if found.new]
        left = len(each.references) - len(sure)
        rewritten = str(len(sure)) if left else "it" if len(sure) == 1 else "them"
        outcome = [f"`plan --references` rewrites {rewritten}"] if sure else []
        if left:
            outcome.append(f"{left} {'is' if left == 1 else 'are'} left to you")
        yield Finding(
            id="old-paths-referenced",
            severity=WARNING,
            subject=f"{each.file.path}:{each.references[0].line}",
            summary=f"{plural(len(each.references), 'reference')} to the tree of cgroupfs, "
            f"which {'nothing is in any more' if is_switched(facts) else 'a switch removes'}; {' and '.join(outcome)}",
            detail=_told(each, why_kept),
            remediation=_remedy(each, changed=bool(sure), left=bool(left)),
            reference="F65",
        )


def _told(each: ReferringFile, why_kept: str) -> str:
    """Return what becomes of each reference, line by line."""
    told = [_line(found) for found in each.references[:_SHOWN]]
    more = len(each.references) - len(told)
    return (
        (f"The file is not rewritten: {why_kept}. " if why_kept else "")
        + "; ".join(told)
        + (f"; and {more} more" if more else "")
    )


def _line(found: Reference) -> str:
    if found.new:
        return f"line {found.line}: {found.old} → {found.new}"
    told = MEANING[Reason(found.reason)] if found.reason in set(Reason) else "left to you"
    return f"line {found.line}: {found.old}: {told}"


def _remedy(each: ReferringFile, *, changed: bool, left: bool) -> str:
    restart = f"then {command('systemctl', 'restart', *each.readers)}" if each.readers else ""
    words = [
        "cgmigrate plan --references -o plan.json" if changed else "",
        f"edit {quoted(each.file.path)} by hand" if left else "",
    ]
    return ", ".join(filter(None, (" and ".join(filter(None, words)), restart)))


CHECKS = (
    Check(
        "old-paths-referenced",
        (WARNING,),
        ("F65",),
        "A file of the host (cron job, unit, configuration of an agent, script) names cgroups of the old tree; what is a "
        "pattern or put together by a program is reported and never rewritten.",
        old_paths_referenced,
    ),
)
