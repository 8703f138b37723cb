# SPDX-License-Identifier: Apache-2.0
"""The shape of a verification: the rules it holds a node to, the evidence, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.cgroups import Driver
from migrator.facts.model import Facts
from migrator.findings import Finding, Rule, Severity
from migrator.witness import Cgroup, Manifest

VERIFY_VERSION = 1

BLOCKER, WARNING, INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO


# fmt: off
RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("verify-incomplete", BLOCKER, "", "A witness could not be heard, so that something is not proven."),
        Rule("verify-kubelet-driver", BLOCKER, "F17", "The kubelet is configured for, or runs with, another driver."),
        Rule("verify-kubelet-stale", WARNING, "F17", "The running kubelet is older than a file of its configuration, so it may have been started with other content."),
        Rule("verify-kubelet-health", BLOCKER, "", "The kubelet does not run, or its healthz endpoint is not ok."),
        Rule("verify-runtime-driver", BLOCKER, "F01", "The runtime is configured for, or reports, another driver."),
        Rule("verify-handler-driver", WARNING, "F11", "A runtime handler besides the default one was left on another driver."),
        Rule("verify-old-tree", BLOCKER, "F26", "The other driver's kubepods tree is left in a cgroup hierarchy."),
        Rule("verify-old-unit", BLOCKER, "F22", "A unit of Kubernetes is loaded although cgroupfs is the driver."),
        Rule("verify-literal-cgroup", BLOCKER, "F06", "A directory or process is in a cgroup literally named `…slice:cri-containerd:<id>`."),
        Rule("verify-failed-unit", BLOCKER, "F24", "A slice of Kubernetes or a container's scope is in the failed state."),
        Rule("verify-old-container", BLOCKER, "F08", "A container, running or not, was created under the other driver and cannot start again."),
        Rule("verify-foreign-container", WARNING, "F64", "A container outside Kubernetes has a cgroup parent that the driver cannot use."),
        Rule("verify-pod-missing", BLOCKER, "F33", "A pod that must be on this node does not run, or not with all its containers."),
        Rule("verify-manifest-unread", WARNING, "F33", "A static pod's file cannot be read, so that nobody knows whether its pod should run."),
        Rule("verify-no-pods", WARNING, "", "No pod runs on this node, so that place and limits are unproven."),
        Rule("verify-place", BLOCKER, "F30", "A pod's cgroup is missing, or a process of a container is not in its pod's cgroup."),
        Rule("verify-trimmed-place", WARNING, "F55", "Systemd moved a container's processes up to their pod's cgroup in a v1 hierarchy without limits (`devices`, systemd#37044)."),
        Rule("verify-unit-place", BLOCKER, "F31", "Systemd has no such active unit, or keeps it elsewhere than the kernel does."),
        Rule("verify-population", BLOCKER, "F24", "A scope is active without processes, or processes live without their scope."),
        Rule("verify-memory-limit", BLOCKER, "F55", "Kernel and systemd disagree on a memory limit by at least a page."),
        Rule("verify-cpu-quota", BLOCKER, "F56", "Kernel and systemd disagree on a CPU quota, rounding to 1 % allowed for."),
        Rule("verify-cpu-weight", BLOCKER, "F55", "Kernel and systemd disagree on CPU shares or weight, by every known conversion."),
        Rule("verify-tasks-max", BLOCKER, "F55", "Kernel and systemd disagree on the greatest number of processes."),
        Rule("verify-restart", BLOCKER, "F07", "A container ended or was made anew while verification watched."),
        Rule("verify-leaked-cgroup", INFO, "F28", "A pod's cgroup is left without a pod."),
    )
}
# fmt: on
"""Every finding of a verification; an id is never reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One comparison: what is compared, at which place, and what each witness says of it (empty: has no say)."""

    name: str
    place: str
    cgroupfs: str
    systemd: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that judgement may know: the facts, and both witnesses' statements of the same moment."""

    facts: Facts
    cgroups: Mapping[str, Cgroup] = field(default_factory=dict)
    """The expected driver's kubepods tree, by path below the mounts."""
    processes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """`/proc/PID/cgroup` of every process of a container: path by hierarchy."""
    shown: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`systemctl show`: properties by unit."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """D-Bus: active state by unit."""
    kubelet_started: float | None = None
    written: Mapping[str, float] = field(default_factory=dict)
    """When each file that decides the kubelet's driver was last written."""
    health: str = ""
    """Why the kubelet is not healthy; empty when it is."""
    manifests: tuple[Manifest, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    """Static pods' files that could not be read, and why."""
    before: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Containers that ran when the window began: pod uid → container name → id."""
    silent: tuple[tuple[str, str], ...] = ()
    """(who could not be heard, why)."""


@dataclass(slots=True)
class Ledger:
    """What is held so far; the one place where a row and its finding are made together."""

    evidence: Evidence
    expected: Driver
    rows: list[CheckResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def hold(
        self,
        rule: str,
        ok: bool,
        name: str,
        place: str = "",
        *,
        said: tuple[str, str] = ("", ""),
        subject: str = "",
        summary: str = "",
        detail: str = "",
        remediation: str = "",
    ) -> None:
        """Note one comparison; when it does not hold, the finding of `rule` too."""
        self.note(ok, name, place, said)
        if not ok:
            self.find(rule, subject or place or name, summary, detail, remediation)

    def note(self, ok: bool, name: str, place: str = "", said: tuple[str, str] = ("", "")) -> None:
        """Note one comparison alone; a finding speaks of several."""
        self.rows.append(CheckResult(name=name, place=place, cgroupfs=said[0], systemd=said[1], ok=ok))

    def find(self, rule: str, subject: str, summary: str, detail: str = "", remediation: str = "") -> None:
        """Note a finding of `rule` that no row shows."""
        self.findings.append(
            Finding(
                id=rule,
                severity=RULES[rule].severity,
                subject=subject,
                summary=summary,
                detail=detail,
                remediation=remediation,
                reference=RULES[rule].reference,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was compared and what was found; `ok` when nothing found is a blocker."""

    expected: Driver
    reloaded: bool
    """The caller had systemd reload its units first (F42, F55)."""
    settle: float
    """Seconds that running containers were watched."""
    checks: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """What keeps the node from being proven to be on the expected driver."""
        return tuple(finding for finding in self.findings if finding.severity is BLOCKER)

    @property
    def ok(self) -> bool:
        """Whether the node is proven to be on the expected driver."""
        return not self.blockers
