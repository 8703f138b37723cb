# SPDX-License-Identifier: Apache-2.0
"""Answers in a file in the place of a terminal: written, given, missing, wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.test_offline import NODES, Done, cgmigrate, snapshot
from tests.cli.test_prompts import typed
from tests.hostile.base import copy

SAMPLE = "docker-20.10-kubelet-1.20"
HEAD = "format: cgmigrate-answers\nversion: 1\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return copy(SAMPLE, tmp_path / "image")


def answers(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "answers.yaml"
    path.write_text(HEAD + text)
    return path


def write_reference(image: Path) -> None:
    """Give the node a job that names an old cgroup."""
    (image / "etc/cron.d").mkdir(parents=True, exist_ok=True)
    (image / "etc/cron.d/pods").write_text("* * * * * root ls /sys/fs/cgroup/cpu/kubepods/burstable\n")


def applied(image: Path, *words: str | Path) -> Done:
    plan = image.parent / "plan.json"
    assert 0 == cgmigrate("plan", "--root", image, "-o", plan).returncode
    return cgmigrate("apply", "--root", image, plan, *words)


def test_what_an_audit_writes_decides_a_whole_migration_once_the_operator_agrees(
    image: Path, tmp_path: Path
) -> None:
    written, plan, original = tmp_path / "answers.yaml", tmp_path / "plan.json", snapshot(image)
    audit = cgmigrate("--root", image, "audit", "--write-answers", written)
    assert (0, f"written: {written}\n") == (audit.returncode, audit.stderr)
    assert 0o600 == written.stat().st_mode & 0o777

    given = ("--root", image, "--answers", written)
    assert 0 == cgmigrate(*given, "plan", "-o", plan).returncode
    refused = cgmigrate(*given, "apply", plan)
    assert (2, "cgmigrate: not confirmed; nothing was changed\n") == (refused.returncode, refused.stderr)
    assert original == snapshot(image)

    written.write_text(
        written.read_text().replace("apply: no", "apply: yes") + "rollback: true\nforget: yes\n"
    )
    assert 0 == cgmigrate(*given, "apply", plan).returncode
    assert original != snapshot(image)
    assert 0 == cgmigrate(*given, "rollback").returncode
    assert original == snapshot(image)
    assert 0 == cgmigrate(*given, "forget", "2").returncode


def test_without_a_terminal_all_missing_answers_are_listed_at_once(image: Path, tmp_path: Path) -> None:
    original = snapshot(image)
    done = applied(image, "--answers", answers(tmp_path, "force: no\n"))

    assert 2 == done.returncode
    assert "no answer to apply, on-failure, and no terminal to ask on:" in done.stderr
    assert "\n      yes: Files are written; no pod is touched." in done.stderr
    assert "\n      rollback: The node is taken back to what it was, at once. (default)\n" in done.stderr
    assert "--answers FILE (`cgmigrate audit --write-answers FILE` makes one)" in done.stderr
    assert original == snapshot(image)


@pytest.mark.parametrize("command", ["apply", "rollback", "forget"])
def test_without_a_terminal_and_answers_the_one_that_begins_is_missing(image: Path, command: str) -> None:
    if command == "apply":
        done = applied(image)
    else:
        assert 0 == applied(image, "--yes").returncode
        done = cgmigrate(command, "--root", image, *(["2"] if command == "forget" else []))

    assert 2 == done.returncode
    assert f"cgmigrate: no answer to {command}, and no terminal to ask on:\n    {command}: " in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("apply: yes\non-failure: stop\n", [], 7),
        ("apply: yes\non-failure: rollback\n", [], 5),
        ("apply: yes\non-failure: stop\n", ["--on-failure", "rollback"], 5),
        ("apply: yes\n", ["--on-failure", "stop"], 7),
        ("on-failure: stop\n", ["--yes"], 7),
    ],
)
def test_a_failure_leads_to_what_was_answered_and_an_option_outweighs_it(
    image: Path, tmp_path: Path, text: str, options: list[str], code: int
) -> None:
    (image / "etc/docker/.daemon.json.cgmigrate-new").mkdir()
    file = answers(tmp_path, text)

    assert code == applied(image, "--answers", file, *options).returncode


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_file_may_be_named_before_the_command_or_after_it(
    image: Path, tmp_path: Path, place: str
) -> None:
    write_reference(image)
    named = ("--answers", answers(tmp_path, "references: yes\n"))
    plan = (
        cgmigrate(*named, "plan", "--root", image, "--format", "json")
        if place == "before"
        else cgmigrate("plan", "--root", image, "--format", "json", *named)
    )

    assert 0 == plan.returncode, plan.stderr
    assert '"references": true' in plan.stdout


def test_a_key_that_does_not_matter_here_decides_nothing(image: Path, tmp_path: Path) -> None:
    file = answers(
        tmp_path,
        "already-drained: yes\ncluster-config: yes\nforce: yes\nreferences: yes\ndrain-timeout: 61\n",
    )
    without = cgmigrate("plan", "--root", image, "--format", "json")
    plan = cgmigrate("plan", "--root", image, "--answers", file, "--format", "json")

    assert (0, without.stdout) == (plan.returncode, plan.stdout)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [("yess", "apply: yess is not yes"), ("some-node", "apply: some-node is not yes"), ("no", "")],
)
def test_what_does_not_agree_is_told(image: Path, tmp_path: Path, answer: str, hint: str) -> None:
    done = applied(image, "--answers", answers(tmp_path, f"apply: {answer}\non-failure: stop\n"))

    assert 2 == done.returncode
    assert "not confirmed; nothing was changed" in done.stderr
    assert hint in done.stderr


def test_an_option_of_plan_outweighs_the_file(image: Path, tmp_path: Path) -> None:
    write_reference(image)
    file = answers(tmp_path, "references: no\ndrain-timeout: 61\n")
    options = ("--references", "--drain-timeout", "62", "--force")
    plan = cgmigrate("plan", "--root", image, "--answers", file, *options, "--format", "json")

    assert '"drain_timeout_seconds": 62' in plan.stdout
    assert '"force": true' in plan.stdout
    assert '"references": true' in plan.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the answers {file}: there is no such file"),
        (b"forse: yes", "{file}:1: 'forse': no such question"),
        (HEAD.encode() + b"force: perhaps", "{file}:3: force: 'perhaps' is no answer; one of no, yes"),
        (b"x" * 70_000, "cannot read the answers {file}: {file}: larger than 65536 bytes"),
        (b"\x1b]0;x\x07: y", "{file}:1: not a file of answers: not YAML"),
    ],
)
def test_a_file_that_is_none_of_answers_ends_each_command_before_anything_is_done(
    image: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file, original = tmp_path / "answers.yaml", snapshot(image)
    if content is not None:
        file.write_bytes(content)
    plan = tmp_path / "plan.json"
    assert 0 == cgmigrate("plan", "--root", image, "-o", plan).returncode

    for words in (["plan"], ["apply", plan], ["resume"], ["rollback"], ["forget", "2"]):
        done = cgmigrate("--root", image, "--answers", file, *words)
        assert (2, "") == (done.returncode, done.stdout), words
        assert message.format(file=file) in done.stderr
    assert original == snapshot(image)


def test_on_a_terminal_what_the_file_leaves_open_is_asked(image: Path, tmp_path: Path) -> None:
    file, plan = answers(tmp_path, "on-failure: rollback\n"), tmp_path / "plan.json"
    assert 0 == cgmigrate("plan", "--root", image, "-o", plan).returncode
    code, said = typed(
        [sys.executable, "-m", "migrator", "--answers", str(file), "apply", "--root", str(image), str(plan)],
        [(b"Enter: no", b"y")],
    )

    assert 0 == code, said
    assert "What if a step fails?" not in said


ASKING = """
import json, sys
from migrator import prompts, questions
document = json.loads(open(sys.argv[1]).read())
agree, *others = questions.of_plan(document, "plan.json")
print("ANSWERED", [prompts.ask(agree), agree.agreed("cp-1")], *map(prompts.ask, [*others, questions.DRAIN_TIMEOUT]))
"""
NUMBER = b"(Enter: 300)"


@pytest.mark.parametrize(
    ("keys", "answered"),
    [
        ([b"cp-1\r", b"\r", b"\r"], "['cp-1', True] rollback 300"),
        ([b"\r", b"\x1b[B\r", b"60\r"], "['', True] stop 60"),
        ([b"y\r", b"\x1b[B\x1b[B\r", b"0\x7f61\r"], "['y', True] ask 61"),
        ([b"\x03", b"\r", b"x\r\x7f5\r"], "['no', True] rollback 5"),
    ],
)
def test_on_the_control_plane_the_nodes_name_is_typed(keys: list[bytes], answered: str) -> None:
    golden = NODES.parent.parent / "plans/control-plane-stacked-etcd.json"
    code, said = typed(
        [sys.executable, "-c", ASKING, str(golden)],
        list(zip((b"type cp-1 to agree, Enter: no", b"(Enter: rollback)", NUMBER), keys, strict=True)),
    )

    assert (0, True) == (code, f"ANSWERED {answered}" in said), said
