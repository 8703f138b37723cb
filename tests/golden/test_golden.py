# SPDX-License-Identifier: Apache-2.0
"""The plans of the sample nodes are what is committed, byte for byte, and hold what every plan promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.audit import audit
from migrator.facts.store import dump, load
from migrator.host import Reader
from migrator.plan import drift, parse_plan, planned_steps, render
from migrator.session import look, plan_node
from migrator.steps.registry import KINDS
from tools.gen_plans import NODES, PLANS, golden, names

SAMPLES = names()


def test_there_are_samples_of_both_flavours() -> None:
    assert {"docker", "containerd"} <= {name.split("-")[0] for name in SAMPLES}
    assert sorted(f"{name}.json" for name in SAMPLES) == sorted(path.name for path in PLANS.glob("*.json"))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_plan_is_the_golden_one_each_time(name: str) -> None:
    expected = (PLANS / f"{name}.json").read_bytes()

    assert expected == render(golden(name).document)
    assert expected == render(golden(name).document)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_golden_plan_is_valid_and_has_no_drift_against_itself(name: str) -> None:
    document = parse_plan((PLANS / f"{name}.json").read_bytes(), name)

    assert [] == drift(document, golden(name).document)
    assert planned_steps(document) == golden(name).steps
    assert {step.kind for step in planned_steps(document)} <= set(KINDS)


@pytest.mark.parametrize("name", SAMPLES)
def test_facts_survive_their_file(name: str) -> None:
    text = (NODES / name / "facts.json").read_text()

    assert text == dump(load(text))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_image_alone_gives_the_same_changes(name: str) -> None:
    """Offline, behind --root, the same lines change; what needs a running node waits for the first boot."""
    reader = Reader(NODES / name / "root")
    live = json.loads((PLANS / f"{name}.json").read_bytes())
    offline = plan_node(reader, look(reader)).document

    def diffs(document: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
        return [step["params"]["diff"] for step in document["steps"] if "diff" in step["params"]]

    assert diffs(live) == diffs(dict(offline))
    assert [] == live["deferred"]
    assert "write-file" not in {step.split(":")[0] for step in offline["deferred"]}
    assert {"guard", "stop-unit:kubelet", "verify"} <= set(offline["deferred"])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_plan_is_a_palindrome(name: str) -> None:
    """Every kind that changes the node before the files has its counterpart after them."""
    kinds = [step.kind for step in golden(name).steps]
    counterpart = {
        "guard": "release-guard",
        "stop-unit": "start-unit",
        "remove-sandboxes": "remove-sandboxes",
        "wait-healthy": "wait-healthy",
    }
    before = kinds[: kinds.index("write-file")]
    after = kinds[len(kinds) - kinds[::-1].index("write-file") :]

    mirrored = [counterpart[kind] for kind in reversed(before) if kind in counterpart]

    assert mirrored == [kind for kind in after if kind in counterpart.values()]


def test_the_audit_of_a_sample_is_pure() -> None:
    facts = load((NODES / SAMPLES[0] / "facts.json").read_bytes())

    assert audit(facts) == audit(facts)


def test_every_sample_says_what_is_special() -> None:
    text = Path(NODES / "README.md").read_text()

    assert all(f"| `{name}` |" in text for name in SAMPLES)
