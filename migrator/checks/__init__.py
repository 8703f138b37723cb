# SPDX-License-Identifier: Apache-2.0
"""Checks: pure functions from facts to findings, all in one dict.

A check looks at facts only, never at the node, and never raises: what is unknown is judged as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrator.checks import (
    cluster,
    configuration,
    containerd,
    distribution,
    drivers,
    files,
    gvisor,
    kubeadm,
    leftovers,
    manager,
    node,
    references,
    restart,
    runc,
    services,
    workloads,
)
from migrator.checks.base import Check
from migrator.facts.model import Facts
from migrator.findings import Finding, Severity

CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        *node.CHECKS,
        *distribution.CHECKS,
        *services.CHECKS,
        *drivers.CHECKS,
        *configuration.CHECKS,
        *files.CHECKS,
        *containerd.CHECKS,
        *gvisor.CHECKS,
        *leftovers.CHECKS,
        *manager.CHECKS,
        *runc.CHECKS,
        *restart.CHECKS,
        *references.CHECKS,
        *workloads.CHECKS,
        *cluster.CHECKS,
        *kubeadm.CHECKS,
    )
}
"""Every finding an audit can make, by id; an id is stable and never used again for something else."""

_ORDER = tuple(Severity)


def run_checks(facts: Facts) -> tuple[Finding, ...]:
    """Return all findings about a node: blockers, warnings, information; in the registry's order within each."""
    return in_order(finding for check in CHECKS.values() for finding in check.find(facts))


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings with the weightiest first, otherwise as they come."""
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))
