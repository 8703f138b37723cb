# SPDX-License-Identifier: Apache-2.0
"""Judge a node: facts in, findings, a recommendation and the translation table out. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from migrator import __version__
from migrator.checks import run_checks
from migrator.checks.recommend import Recommendation, recommend
from migrator.errors import ExitCode
from migrator.facts.model import Driver, Facts
from migrator.findings import Finding, Severity
from migrator.plan_table import Translation, translations

AUDIT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is known of a node and what follows from it."""

    facts: Facts
    findings: tuple[Finding, ...]
    """Blockers first, then warnings, then information."""
    recommendation: Recommendation
    translations: tuple[Translation, ...]

    @property
    def exit_code(self) -> ExitCode:
        """3 where a blocker stands in the way, else 0."""
        blocked = any(finding.severity is Severity.BLOCKER for finding in self.findings)
        return ExitCode.BLOCKED if blocked else ExitCode.DONE


def audit(facts: Facts) -> Audit:
    """Judge a node by its facts alone."""
    findings = run_checks(facts)
    return Audit(
        facts=facts,
        findings=findings,
        recommendation=recommend(facts, findings),
        translations=translations(facts),
    )


def to_json(audit: Audit) -> dict[str, object]:
    """Return the audit as JSON data of `audit-1.schema.json`; the facts themselves are a document of their own."""
    facts = audit.facts
    return {
        "format": "cgmigrate-audit",
        "version": AUDIT_VERSION,
        "tool": __version__,
        "exit_code": int(audit.exit_code),
        "recommendation": {
            "verdict": audit.recommendation.verdict.value,
            "reasons": list(audit.recommendation.reasons),
        },
        "node": {
            "hostname": facts.node.hostname,
            "live": facts.node.live,
            "os": facts.node.os,
            "kernel": facts.node.kernel,
            "init_systemd": facts.node.init_systemd,
            "systemd_version": facts.node.systemd_version,
            "cgroup_mode": facts.node.cgroup_mode,
            "distribution": facts.node.distribution,
        },
        "kubelet": {
            "present": facts.kubelet.present,
            "version": facts.kubelet.version,
            "decides": facts.kubelet.decides,
            "driver": _driver(facts.kubelet.driver),
            "driver_running": _driver(facts.kubelet.driver_running),
        },
        "runtime": {
            "kind": facts.runtime.kind,
            "shim": facts.runtime.shim,
            "version": facts.runtime.version,
            "socket": facts.runtime.socket,
            "driver": _driver(facts.runtime.driver),
            "driver_running": _driver(facts.runtime.driver_reported),
        },
        "trees": [asdict(tree) for tree in facts.cgroups.trees],
        "findings": [asdict(finding) | {"severity": finding.severity.value} for finding in audit.findings],
        "translations": [asdict(row) for row in audit.translations],
    }


def _driver(driver: Driver) -> dict[str, object]:
    decides = driver.decided_by
    return {
        "value": driver.value,
        "decided_by": asdict(decides) if decides else None,
        "chain": [asdict(source) for source in driver.chain],
    }
