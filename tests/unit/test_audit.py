# SPDX-License-Identifier: Apache-2.0
"""The audit as a whole, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from jsonschema import Draft202012Validator, ValidationError

from migrator.audit import AUDIT_VERSION, audit, to_json
from migrator.errors import ExitCode
from migrator.facts.model import Driver, Facts
from migrator.plan_table import translations
from migrator.schemas import load_schema
from tests.unit.facts_base import DOCKER, QUIET, but, driver, pod, switched, tree, unknown
from tests.unit.test_checks import TABLE

SCHEMA = load_schema("audit-1")
FULL = but(DOCKER, node={"cgroup_mode": "hybrid"}, pods=(pod(),), cgroups={"trees": (tree("cgroupfs", 3),)})


def test_an_audit_holds_the_facts_and_what_follows_from_them() -> None:
    result = audit(FULL)
    assert (result.facts, result.translations) == (FULL, translations(FULL))
    assert [each.id for each in result.findings] == ["api-node-not-drained", "cgroup-v1-maintenance"]
    assert result.recommendation.verdict == "optional"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (QUIET, ExitCode.DONE),
        (switched(), ExitCode.DONE),
        (but(node={"swap": True}), ExitCode.DONE),
        (but(node={"init_systemd": False}), ExitCode.BLOCKED),
    ],
)
def test_only_a_blocker_makes_the_exit_code_3(facts: Facts, expected: ExitCode) -> None:
    assert audit(facts).exit_code is expected


@pytest.mark.parametrize(
    "facts",
    [
        *(row[1] for row in TABLE),
        FULL,
        but(node={"hostname": "\x1b[2J\n"}, unknowns=(unknown("/etc/\x07", "\ud800"),)),
        but(kubelet={"present": False, "version": None, "driver": Driver(value=None)}),
    ],
)
def test_the_json_is_valid_and_survives_a_round_trip(facts: Facts) -> None:
    document = to_json(audit(facts))
    Draft202012Validator(SCHEMA).validate(document)
    assert json.loads(json.dumps(document)) == document


def test_the_json_names_both_drivers_with_the_places_that_decide_them() -> None:
    document = json.loads(json.dumps(to_json(audit(but(kubelet={"driver": driver("systemd")})))))
    assert document["exit_code"] == 3
    assert document["kubelet"]["driver"]["value"] == "systemd"
    assert document["kubelet"]["driver"]["decided_by"] == {
        "kind": "config-file",
        "value": "systemd",
        "path": "/var/lib/kubelet/config.yaml",
        "line": 7,
    }
    assert [each["kind"] for each in document["runtime"]["driver"]["chain"]] == ["default", "config-file"]


def test_the_same_facts_give_the_same_bytes() -> None:
    assert json.dumps(to_json(audit(FULL))) == json.dumps(to_json(audit(FULL)))


def test_the_schema_refuses_another_version_and_unknown_fields() -> None:
    document = to_json(audit(QUIET))
    for wrong in ({"version": AUDIT_VERSION + 1}, {"more": 1}):
        with pytest.raises(ValidationError):
            Draft202012Validator(SCHEMA).validate(document | wrong)


def test_the_version_is_the_same_in_document_schema_and_file_name() -> None:
    assert SCHEMA["properties"]["version"]["const"] == AUDIT_VERSION
    assert SCHEMA["$id"] == f"audit-{AUDIT_VERSION}.schema.json"


def _properties(node: object, path: str = "") -> Iterator[tuple[str, Mapping[str, object]]]:
    if isinstance(node, dict):
        for name, value in node.get("properties", {}).items():
            yield f"{path}/{name}", value
        for key, value in node.items():
            yield from _properties(value, f"{path}/{key}")


def test_every_property_has_a_description_and_an_example_that_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    bare = [
        path
        for path, value in _properties(SCHEMA)
        if not value.get("description") or not value.get("examples")
    ]
    assert bare == []
    for path, value in _properties(SCHEMA):
        validator = Draft202012Validator({**value, "$defs": SCHEMA["$defs"]})
        examples = value["examples"]
        assert isinstance(examples, list)
        assert [each for each in examples if not validator.is_valid(each)] == [], path
