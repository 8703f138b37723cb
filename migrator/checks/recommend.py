# SPDX-License-Identifier: Apache-2.0
"""Say whether this node should move at all, and why: not every node should.

`RULES` is read from the top. The first rule that applies gives the verdict; later rules of the same verdict that apply
too add their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from migrator.checks.base import CGROUPFS, SYSTEMD, is_switched, kubelet_driver, version
from migrator.checks.distribution import WHERE_TO_CHANGE
from migrator.checks.node import lacks_transient_slices
from migrator.facts.model import Facts
from migrator.findings import Finding, Severity

_UNDECIDED = "a driver is not known, and nothing should be changed on a guess: settle the blockers first"


class Verdict(StrEnum):
    """The answers an audit can give."""

    MIGRATE = "migrate"
    OPTIONAL = "optional"
    STAY = "stay"
    ALREADY_MIGRATED = "already-migrated"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The verdict and the reasons for it, the weightiest first."""

    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def decided(self) -> bool:
        """Whether the verdict is about the node, and not only for as long as a driver is unknown."""
        return self.reasons[:1] != (_UNDECIDED,)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table; `applies` is given the facts and the ids of the findings."""

    verdict: Verdict
    applies: Callable[[Facts, frozenset[str]], bool]
    reason: str


UNFINISHED = frozenset(
    {
        "drivers-differ",
        "failed-scopes",
        "handler-left",
        "literal-cgroups",
        "old-containers-left",
        "old-tree-left",
        "running-driver-differs",
    }
)
"""Findings that keep a node with both sides on systemd from being done."""


def _drivers(facts: Facts) -> set[str | None]:
    return {kubelet_driver(facts), facts.runtime.driver.value}


def _on_cgroupfs(facts: Facts, _: frozenset[str]) -> bool:
    return _drivers(facts) == {CGROUPFS}


def _kubelet_at_least(facts: Facts, wanted: tuple[int, int]) -> bool:
    running = version(facts.kubelet.version)
    return running is not None and running >= wanted


def _two_managers(facts: Facts, ids: frozenset[str]) -> bool:
    """Tell whether containers of both spellings are made; an empty tree of an earlier attempt does no harm."""
    both_live = any(tree.driver == SYSTEMD and tree.populated for tree in facts.cgroups.trees)
    return both_live or bool(ids & {"handlers-differ", "literal-cgroups"})


def _on_v1(facts: Facts) -> bool:
    return facts.node.cgroup_mode in ("legacy", "hybrid")


RULES = (
    Rule(
        Verdict.NOT_APPLICABLE,
        lambda facts, _: facts.node.distribution in WHERE_TO_CHANGE and not is_switched(facts),
        "a distribution owns the driver of this node and sets it in its own way",
    ),
    Rule(
        Verdict.NOT_APPLICABLE,
        lambda facts, _: not facts.kubelet.present and facts.node.distribution not in WHERE_TO_CHANGE,
        "there is no kubelet on this node, so there is no driver to switch",
    ),
    Rule(
        Verdict.STAY,
        lambda facts, _: not facts.node.init_systemd,
        "systemd does not run this node, and its driver needs systemd as init (F57)",
    ),
    Rule(
        Verdict.STAY,
        lambda facts, _: lacks_transient_slices(facts.node.systemd_version),
        "this systemd is too old for the driver (F47)",
    ),
    Rule(
        Verdict.ALREADY_MIGRATED,
        lambda facts, ids: is_switched(facts) and not ids & UNFINISHED,
        "kubelet and runtime both use systemd, and nothing of cgroupfs is left",
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, _: _drivers(facts) == {SYSTEMD},
        "both sides are configured for systemd, but the switch was not finished: the findings name what is left",
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, _: _drivers(facts) == {CGROUPFS, SYSTEMD},
        "kubelet and runtime use different drivers; systemd is the one to agree on",
    ),
    Rule(
        Verdict.STAY,
        lambda facts, _: not _drivers(facts) <= {CGROUPFS, SYSTEMD},
        _UNDECIDED,
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, ids: _on_cgroupfs(facts, ids) and facts.node.cgroup_mode == "unified",
        "on cgroup v2 systemd must be the only writer of its tree; cgroupfs makes a second one (F59)",
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, ids: _on_cgroupfs(facts, ids) and _on_v1(facts) and _two_managers(facts, ids),
        "both drivers' containers live on this node already: two managers at work in one tree",
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, ids: (
            _on_cgroupfs(facts, ids)
            and _kubelet_at_least(facts, (1, 22))
            and facts.node.distribution in ("kubeadm", "kubespray")
        ),
        "systemd is what kubeadm configures since 1.22: a `kubeadm upgrade` can switch the kubelet alone",
    ),
    Rule(
        Verdict.MIGRATE,
        lambda facts, ids: _on_cgroupfs(facts, ids) and _on_v1(facts) and _kubelet_at_least(facts, (1, 31)),
        "this kubelet only maintains cgroup v1; the way to v2 leads through systemd",
    ),
    Rule(
        Verdict.OPTIONAL,
        lambda facts, ids: _on_cgroupfs(facts, ids) and _on_v1(facts),
        "on cgroup v1 nothing is in conflict here: a node dedicated to this kubelet can rightly stay on cgroupfs",
    ),
    Rule(
        Verdict.OPTIONAL,
        lambda facts, ids: _on_cgroupfs(facts, ids) and _on_v1(facts),
        "newer kubelets, kubeadm's defaults and cgroup v2 all expect systemd, so an upgrade will bring the question back",
    ),
    Rule(
        Verdict.OPTIONAL,
        lambda facts, ids: _on_cgroupfs(facts, ids) and facts.node.cgroup_mode == "unknown",
        "both sides agree on cgroupfs; the cgroup mode is not known, so what speaks for a move is not either",
    ),
)
"""The whole policy, in order of weight."""


def recommend(facts: Facts, findings: Iterable[Finding]) -> Recommendation:
    """Return the verdict on a node, with its reasons; a blocker is named as the last reason.

    The verdict says what is right for the node, the findings say whether it can be done now: both can be true at once.
    """
    found = tuple(findings)
    ids = frozenset(finding.id for finding in found)
    applying = [rule for rule in RULES if rule.applies(facts, ids)]
    verdict = applying[0].verdict
    reasons = [rule.reason for rule in applying if rule.verdict is verdict]
    blockers = sorted({finding.id for finding in found if finding.severity is Severity.BLOCKER})
    if blockers and verdict in (Verdict.MIGRATE, Verdict.OPTIONAL):
        reasons.append(f"it cannot be done before the blockers are settled: {', '.join(blockers)}")
    return Recommendation(verdict=verdict, reasons=tuple(reasons))
