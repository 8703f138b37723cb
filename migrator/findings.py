# SPDX-License-Identifier: Apache-2.0
"""What checks and verification find: data with a stable id and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs."""

    BLOCKER = "blocker"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found: `id` is stable, documented and never reused; `reference` is an F-number, or empty."""

    id: str
    severity: Severity
    subject: str
    """What it is about: a file (`/etc/docker/daemon.json:3`), a unit, a pod, a cgroup."""
    summary: str
    """One line that a tired operator understands."""
    detail: str = ""
    remediation: str = ""
    """A command where there is one."""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that verification, or the making of a plan, holds a node to; `reference` is an F-number, or empty."""

    id: str
    severity: Severity
    reference: str
    description: str
    """One sentence for the documentation: what was found."""
