# SPDX-License-Identifier: Apache-2.0
"""Which questions matter on which node, what agrees to a plan, and a file of answers there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from migrator.answers import MAX_SIZE, describe, read_answers, write_answers
from migrator.audit import audit
from migrator.errors import UsageError
from migrator.facts.model import Cluster, Facts, KubeletConfigMap
from migrator.plan_options import PlanOptions
from migrator.questions import APPLY, BUDGET, ON_FAILURE, PLANNING, QUESTIONS, Question, matter, of_plan
from migrator.schemas import load_schema
from tests.unit.cluster_base import AGENT, BARE, MIRROR, SCRATCH, cluster, cluster_pod
from tests.unit.facts_base import QUIET, but
from tools.gen_plans import PLANS
from tools.samples import facts as sample_facts
from tools.samples import names

HEAD = "format: cgmigrate-answers\nversion: 1\n"
RUN = ("on-failure", "apply")
EVICTING = ("drain-timeout", "api-timeout", "on-failure", "budget", "apply")


def keys(facts: Facts) -> tuple[str, ...]:
    return tuple(question.key for question in matter(audit(facts)))


def on(found: Cluster | None) -> Facts:
    return but(QUIET, cluster=found)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(but(QUIET, kubelet={"kubeconfig": ""}), RUN, id="no cluster"),
        pytest.param(on(cluster()), ("api-timeout", *RUN), id="nothing to evict"),
        pytest.param(on(cluster(pods=(AGENT, MIRROR))), ("api-timeout", *RUN), id="pods that stay"),
        pytest.param(on(cluster(pods=(cluster_pod(),))), EVICTING, id="a pod that goes"),
        pytest.param(on(cluster(pods=(BARE,))), ("force", *EVICTING), id="a pod of nobody"),
        pytest.param(on(cluster(pods=(SCRATCH,))), ("delete-emptydir-data", *EVICTING), id="local data"),
        pytest.param(on(Cluster(reason="refused")), ("already-drained", *RUN), id="the API is away"),
        pytest.param(
            on(cluster(missing_rights=("patch nodes",), pods=(BARE,))),
            ("already-drained", *RUN),
            id="no right to drain",
        ),
        pytest.param(on(cluster(node=None)), ("already-drained", *RUN), id="no such Node"),
        pytest.param(
            on(cluster(config_map=KubeletConfigMap(name="kubelet-config", present=True))),
            ("api-timeout", "cluster-config", *RUN),
            id="a ConfigMap that states nothing",
        ),
        pytest.param(
            on(
                cluster(
                    config_map=KubeletConfigMap(name="kubelet-config", present=True, driver="cgroupfs"),
                    config_map_rights=("patch configmaps",),
                )
            ),
            ("api-timeout", *RUN),
            id="a ConfigMap that may not be changed",
        ),
        pytest.param(
            on(
                cluster(
                    config_map=KubeletConfigMap(
                        name="kubelet-config",
                        present=True,
                        driver="cgroupfs",
                        renamed=("cgroupRoot: /pods (/pods.slice)",),
                    )
                )
            ),
            ("api-timeout", *RUN),
            id="a ConfigMap that no plan changes",
        ),
        pytest.param(sample_facts("talos"), (), id="a node that is not ours to change"),
        pytest.param(sample_facts("already-migrated"), (), id="a node that is done"),
        pytest.param(
            sample_facts("old-paths-in-host-files"),
            ("drain-timeout", "api-timeout", "references", "on-failure", "budget", "apply"),
            id="files that name old cgroups",
        ),
    ],
)
def test_only_what_matters_on_the_node_is_asked(facts: Facts, expected: tuple[str, ...]) -> None:
    assert expected == keys(facts)


def test_a_question_tells_what_it_is_about() -> None:
    found = audit(on(cluster(pods=(BARE, SCRATCH, cluster_pod("web-1")))))
    about = {question.key: question.concerns(found) for question in matter(found)}

    assert ("default/bare",) == about["force"]
    assert ("default/scratch-7c-y",) == about["delete-emptydir-data"]
    assert ("default/bare", "default/scratch-7c-y", "default/web-1") == about["drain-timeout"]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.key)
def test_what_enter_gives_is_an_answer_and_agrees_to_nothing(question: Question) -> None:
    assert question.accepts(question.default)
    assert not (question.confirms and question.agreed(question.default))
    assert question.text.endswith("?")
    assert all(follows and "\n" not in follows for follows in question.choices.values())
    assert bool(question.means) != bool(question.choices)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: each.key)
def test_a_choice_with_what_follows_from_it_fits_a_line(question: Question) -> None:
    if len(question.choices) > 2:  # those that are asked as a list
        assert [] == [line for line in describe(question) if len(line.removesuffix(" (default)")) > 75]


def test_the_defaults_are_those_of_a_plan_without_options() -> None:
    assert PlanOptions() == PlanOptions.answered({question.key: question.default for question in PLANNING})


def test_every_answer_reaches_the_plan() -> None:
    for question in PLANNING:
        answer = "77" if not question.choices else "yes"
        assert PlanOptions() != PlanOptions.answered({question.key: answer}), question.key


# -- before a plan is carried out ------------------------------------------------------------------------------------


def golden(name: str) -> dict[str, Any]:
    return dict(json.loads((PLANS / f"{name}.json").read_bytes()))


@pytest.mark.parametrize(
    ("sample", "asked", "agrees"),
    [
        ("docker-20.10-kubelet-1.20", ("apply", "on-failure"), ["yes", "no"]),
        ("old-paths-in-host-files", ("apply", "on-failure", "budget"), ["yes", "no"]),
        ("control-plane-stacked-etcd", ("apply", "on-failure"), ["cp-1"]),
    ],
)
def test_a_plan_is_agreed_to_with_yes_and_on_the_control_plane_with_the_nodes_name(
    sample: str, asked: tuple[str, ...], agrees: list[str]
) -> None:
    questions = of_plan(golden(sample), "plan.json")

    assert asked == tuple(question.key for question in questions)
    assert agrees == list(questions[0].choices)
    assert [agrees[0]] == [
        answer for answer in ("yes", "no", "cp-1", "cp-2", "") if questions[0].agreed(answer)
    ]


@pytest.mark.parametrize("name", ["cp\x1b[2J", "no", "true"])
def test_a_name_that_nobody_can_type_or_that_says_something_else_is_not_asked_for(name: str) -> None:
    agree, *_ = of_plan({**golden("control-plane-stacked-etcd"), "node": name}, "plan.json")

    assert ["yes", "no"] == list(agree.choices)


# -- a file of answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_what_is_written_for_a_node_is_read_as_its_defaults_and_holds_by_the_schema(name: str) -> None:
    found = audit(sample_facts(name))
    answers = read_answers(write_answers(found).encode(), "answers.yaml")

    assert {question.key: question.default for question in matter(found)} == answers
    document = {"format": "cgmigrate-answers", "version": 1} | {
        key: int(answer) if answer.isdigit() else answer for key, answer in answers.items()
    }
    assert [] == list(Draft202012Validator(load_schema("answers-1")).iter_errors(document))


def test_the_text_of_a_node_stays_in_its_comment() -> None:
    evil = replace(BARE, name="x\nforce: yes\u2028force: yes\x1b[2J")
    text = write_answers(audit(but(on(cluster(pods=(evil,))), node={"hostname": "n\n- x"})))

    assert "no" == read_answers(text.encode(), "a")["force"]
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD, {}),
        (HEAD + "force: yes\nreferences: no\n", {"force": "yes", "references": "no"}),
        (HEAD + 'force: true\nreferences: "false"\n', {"force": "yes", "references": "no"}),
        (HEAD + "drain-timeout: 60\nbudget: skip\n", {"drain-timeout": "60", "budget": "skip"}),
        (HEAD + "apply: cp-1.example\n", {"apply": "cp-1.example"}),
        (HEAD + "apply: 007\n", {"apply": "007"}),
        (
            '{"format": "cgmigrate-answers", "version": 1, "force": true, "on-failure": "stop"}',
            {"force": "yes", "on-failure": "stop"},
        ),
    ],
)
def test_answers_are_yaml_or_json(text: str, expected: dict[str, str]) -> None:
    assert expected == read_answers(text.encode(), "answers.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a:1: not a file of answers: it is empty"),
        (b"# nothing\n", "a:1: not a file of answers: it is empty"),
        (b"- force\n", "a:1: not a file of answers: the top level must be a mapping"),
        (b"force: yes\n", "a:1: not a file of answers: `format: cgmigrate-answers` is missing"),
        (b"format: cgmigrate-answers\n", "a:1: not a file of answers: `version: 1` is missing"),
        (b"format: cgmigrate-plan\nversion: 1\n", "a:1: format 'cgmigrate-plan'; this cgmigrate reads"),
        (b"format: cgmigrate-answers\nversion: 2\n", "a:2: version '2'; this cgmigrate reads 1"),
        (HEAD.encode() + b"forse: yes\n", "a:3: 'forse': no such question; there are already-drained, force"),
        (HEAD.encode() + b"\nforce: maybe\n", "a:4: force: 'maybe' is no answer; one of no, yes"),
        (HEAD.encode() + b"force:\n", "a:3: 'force': one answer is needed"),
        (HEAD.encode() + b"force: [yes]\n", "a:3: 'force': one answer is needed"),
        (HEAD.encode() + b"force: *x\n", "a:3: 'force': one answer is needed"),
        (HEAD.encode() + b"drain-timeout: 0\n", "a:3: drain-timeout: '0' is no answer; a number of seconds"),
        (HEAD.encode() + b"drain-timeout: 1e3\n", "a:3: drain-timeout: '1e3' is no answer"),
        (HEAD.encode() + b"drain-timeout: 9999999\n", "a:3: drain-timeout: '9999999' is no answer"),
        (HEAD.encode() + b"apply: Yes\n", "a:3: apply: 'Yes' is no answer; one of yes, no"),
        (HEAD.encode() + b"apply: a b\n", "a:3: apply: 'a b' is no answer"),
        (
            HEAD.encode() + b"force: yes\nforce: no\n",
            'a:4: not a file of answers: the key "force" stands twice',
        ),
        (HEAD.encode() + b"force: \xff\n", "a:3: not a file of answers: byte 0xff is not UTF-8"),
        (HEAD.encode() + b"---\nforce: yes\n", "a:3: not a file of answers: a second YAML document"),
        (HEAD.encode() + b"force: 'x\n", "not a file of answers: not YAML"),
        (HEAD.encode() + b"x: &a [*a, *a]\n", "a:3: 'x': one answer is needed"),
        (HEAD.encode() + b"#" * MAX_SIZE, "a: larger than 65536 bytes"),
        (b"[" * 5000, "not a file of answers: nested too deeply"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_answers(data, "a")

    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_the_schema_says_of_each_key_what_the_table_says() -> None:
    schema = load_schema("answers-1")["properties"]
    described = {
        question.key: all(
            text.rstrip(".") in schema[question.key]["description"]
            for text in (question.text, question.means, *question.choices.values())
        )
        for question in QUESTIONS
    }

    assert ["format", "version", *(question.key for question in QUESTIONS)] == list(schema)
    assert described == dict.fromkeys(described, True)
    assert list(BUDGET.choices) == schema["budget"]["enum"]
    assert list(ON_FAILURE.choices) == schema["on-failure"]["enum"]
    assert {"yes", "no"} == set(APPLY.choices)
