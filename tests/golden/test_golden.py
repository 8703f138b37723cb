# SPDX-License-Identifier: Apache-2.0
"""What is said of the sample nodes is what is committed, byte for byte, and holds what every plan promises."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from migrator.audit import audit
from migrator.changes import file_changes
from migrator.errors import BlockedError
from migrator.facts.gather import gather
from migrator.facts.node import BY_SYSTEM, DISTRIBUTIONS
from migrator.facts.store import dump, load
from migrator.host import Reader
from migrator.plan import drift, parse_plan, planned_steps
from migrator.schemas import load_schema
from migrator.session import look, plan_node
from migrator.steps.registry import KINDS
from tools.gen_plans import GROUPS, PLANS, document, golden, page, table, written
from tools.samples import NODES, facts, lay, look_at, names, over, reader, sample

SAMPLES = names()
PLANNED = [name for name in SAMPLES if "refused" not in json.loads((PLANS / f"{name}.json").read_bytes())]
REFUSED = [name for name in SAMPLES if name not in PLANNED]
CHANGED = [name for name in PLANNED if "write-file:" in (PLANS / f"{name}.json").read_text()]
CAPTURED = [name for name in SAMPLES if sample(name).is_captured]


planned = functools.cache(golden)


def committed(name: str) -> dict[str, Any]:
    return dict(json.loads((PLANS / f"{name}.json").read_bytes()))


def test_there_are_many_samples_of_every_runtime_and_of_every_distribution() -> None:
    seen = [facts(name) for name in SAMPLES]

    assert len(SAMPLES) >= 40
    assert {"docker", "containerd", "crio"} <= {each.runtime.kind for each in seen}
    assert {*BY_SYSTEM, *(each.name for each in DISTRIBUTIONS)} == {each.node.distribution for each in seen}


def test_nothing_else_is_in_the_folder_of_plans_and_the_table_is_current() -> None:
    expected = {"README.md", *(f"{name}.{kind}" for name in SAMPLES for kind in ("json", "md"))}

    assert expected == {path.name for path in PLANS.iterdir()}
    assert (PLANS / "README.md").read_text("utf-8") == table({name: committed(name) for name in SAMPLES})


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_said_is_the_golden_text_each_time(name: str) -> None:
    expected = (PLANS / f"{name}.json").read_bytes()

    made = document(name)

    assert expected == written(made), "run `make docs`, and look at what changed"
    assert expected == written(document(name))
    assert (PLANS / f"{name}.md").read_bytes() == page(name, made).encode()


@pytest.mark.parametrize("name", PLANNED)
def test_a_golden_plan_is_valid_and_has_no_drift_against_itself(name: str) -> None:
    plan = parse_plan((PLANS / f"{name}.json").read_bytes(), name)

    assert [] == drift(plan, planned(name).document)
    assert planned_steps(plan) == planned(name).steps
    assert {step.kind for step in planned_steps(plan)} <= set(KINDS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why_and_what_to_do(name: str) -> None:
    said = committed(name)

    with pytest.raises(BlockedError) as refusal:
        golden(name)
    assert (refusal.value.message, refusal.value.hint, 3) == (
        said["refused"]["message"],
        said["refused"]["hint"],
        said["refused"]["exit_code"],
    )
    assert [] == [
        each.message for each in Draft202012Validator(load_schema("audit-1")).iter_errors(said["audit"])
    ]


@pytest.mark.parametrize("name", CAPTURED)
def test_the_facts_of_a_captured_node_survive_their_file(name: str) -> None:
    text = (NODES / name / "facts.json").read_text()

    assert text == dump(load(text))


@pytest.mark.parametrize("name", CHANGED)
def test_the_image_alone_gives_the_same_changes(name: str) -> None:
    """Offline, behind --root, the same lines change; what needs a running node waits for the first boot."""
    live = committed(name)
    offline = plan_node(reader(name), look(reader(name))).document

    def diffs(plan: dict[str, Any]) -> list[str]:
        return [step["params"]["diff"] for step in plan["steps"] if "diff" in step["params"]]

    assert diffs(live) == diffs(dict(offline))
    assert facts(name).node.live is not bool(live["deferred"])
    assert "write-file" not in {step.split(":")[0] for step in offline["deferred"]}
    assert {"guard", "stop-unit:kubelet", "verify"} <= set(offline["deferred"])


@pytest.mark.parametrize("name", CHANGED)
def test_with_its_files_changed_a_node_says_systemd_on_both_sides_and_needs_no_other_change(
    name: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(reader(name).root, root, symlinks=True)
    image = Reader(root)

    def read(path: str) -> bytes | None:
        return image.read(path) if image.exists(path) else None

    for change in file_changes(gather(image), read):
        place = image.resolve(change.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(change.after)

    after = gather(image)
    assert ("systemd", "systemd") == (after.kubelet.driver.value, after.runtime.driver.value)
    assert () == file_changes(after, read)


@pytest.mark.parametrize("name", CHANGED)
def test_the_plan_is_a_palindrome(name: str) -> None:
    """Every kind that changes the node before the files has its counterpart after them."""
    kinds = [step.kind for step in planned(name).steps]
    counterpart = {
        "guard": "release-guard",
        "cordon": "uncordon",
        "drain": "drain",
        "wait-ready": "wait-ready",
        "daemon-reload": "daemon-reload",
        "stop-unit": "start-unit",
        "remove-sandboxes": "remove-sandboxes",
        "wait-healthy": "wait-healthy",
    }
    before = kinds[: kinds.index("write-file")]
    after = kinds[len(kinds) - kinds[::-1].index("write-file") :]

    mirrored = sorted(counterpart[kind] for kind in before if kind in counterpart)

    assert mirrored == sorted(kind for kind in after if kind in counterpart.values())


def test_the_audit_of_a_sample_is_pure() -> None:
    assert audit(facts(SAMPLES[0])) == audit(facts(SAMPLES[0]))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_says_in_a_sentence_what_is_special(name: str) -> None:
    each = sample(name)

    assert each.special.endswith(".")
    assert 30 < len(each.special) < 220
    assert each.group in GROUPS
    assert "|" not in each.special


def test_no_two_samples_say_the_same() -> None:
    assert len({sample(name).special for name in SAMPLES}) == len(SAMPLES)


def test_a_node_is_laid_over_its_base_and_takes_files_away(tmp_path: Path) -> None:
    lay(sample("crio-1.30-kubelet-1.30"), tmp_path / "root")

    assert not (tmp_path / "root/etc/containerd").exists()
    assert (tmp_path / "root/etc/crio/crio.conf").is_file()
    assert (tmp_path / "root/var/lib/kubelet/config.yaml").read_bytes() == (
        NODES / "containerd-1.7-kubelet-1.28/root/var/lib/kubelet/config.yaml"
    ).read_bytes()


@pytest.mark.parametrize("name", CAPTURED)
def test_a_node_that_differs_in_nothing_is_planned_like_the_real_one_below_it(
    name: str, tmp_path: Path
) -> None:
    """What is made up of a running node is what the real one told."""
    above = replace(sample(name), name="above", folders=(*sample(name).folders, tmp_path))
    lay(above, tmp_path / "laid")
    image = Reader(tmp_path / "laid")
    plan = plan_node(image, audit(look_at(above, image))).document
    keys = ("findings", "from", "recommendation", "steps", "translations")

    assert {key: planned(name).document[key] for key in keys} == {key: plan[key] for key in keys}


@pytest.mark.parametrize(
    ("below", "above", "both"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_data_lies_over_data_key_by_key(below: object, above: object, both: object) -> None:
    assert both == over(below, above)
