# SPDX-License-Identifier: Apache-2.0
"""The catalogue of failure modes is whole, and what it names as answers exists and refers back to it."""

from __future__ import annotations

import pytest

from migrator.checks import CHECKS
from migrator.checks.catalogue import FAILURES, RECOMMENDATION, Failure
from migrator.checks.explained import EXPLAINED
from migrator.checks.recommend import RULES as VERDICTS
from migrator.containerd_dump import RULES as PLANNED
from migrator.steps.registry import KINDS
from migrator.verify import RULES

COMING: set[str] = set()
"""Ids whose checks are still to be registered; one that is must go from here."""

FOUND = {*CHECKS, *PLANNED, *RULES}
KNOWN = {*FOUND, *KINDS}
REFERENCES = [
    *((check.id, number) for check in CHECKS.values() for number in check.references),
    *((rule.id, rule.reference) for rule in (*PLANNED.values(), *RULES.values()) if rule.reference),
]


def test_all_sixty_seven_are_there_in_order() -> None:
    assert list(FAILURES) == [f"F{number:02}" for number in range(1, 68)]


@pytest.mark.parametrize("failure", FAILURES.values(), ids=lambda failure: failure.id)
def test_whatever_answers_a_failure_exists(failure: Failure) -> None:
    assert set(failure.answers) - KNOWN - COMING - {RECOMMENDATION} == set()


@pytest.mark.parametrize("failure", FAILURES.values(), ids=lambda failure: failure.id)
def test_each_failure_is_answered_or_says_why_not_and_has_a_source(failure: Failure) -> None:
    assert failure.answers or failure.how
    assert failure.what.endswith((".", "`"))
    assert failure.sources


@pytest.mark.parametrize(("name", "number"), REFERENCES)
def test_a_finding_is_among_the_answers_of_what_it_refers_to(name: str, number: str) -> None:
    assert name in FAILURES[number].answers


@pytest.mark.parametrize(
    "failure",
    [each for each in FAILURES.values() if RECOMMENDATION in each.answers],
    ids=lambda failure: failure.id,
)
def test_a_failure_that_the_verdict_answers_is_named_in_a_reason(failure: Failure) -> None:
    assert [rule for rule in VERDICTS if f"({failure.id})" in rule.reason]


def test_only_these_cannot_be_seen() -> None:
    """A failure that becomes detectable leaves this list; none joins it unnoticed."""
    assert [each.id for each in FAILURES.values() if not each.answers] == ["F52", "F54", "F67"]


def test_every_finding_is_explained_and_nothing_else() -> None:
    assert set(EXPLAINED) - COMING == FOUND - COMING
    assert [name for name, each in EXPLAINED.items() if not each.cause or not each.remedy] == []


def test_what_is_still_to_come_is_not_there_yet() -> None:
    assert COMING & KNOWN == set()
