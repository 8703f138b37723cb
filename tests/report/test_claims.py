# SPDX-License-Identifier: Apache-2.0
"""A report says no more than the record of the run proves; each on a run of the real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.facts.store import digest
from migrator.host import Host
from migrator.journal import Run, Runs
from migrator.plan import make_cluster_plan
from migrator.plan_options import PlanOptions
from migrator.report import report
from migrator.report.lines import WIDTH, _fold
from migrator.report.lines import render as lines
from migrator.report.model import Report
from migrator.report.page import render as page
from migrator.report.sources import LOG_LIMIT, read
from migrator.report.timeline import timeline
from tests.cli.test_offline import cgmigrate
from tests.crash.cases import SETTINGS, VARIANTS, back, begin_with, forward, lay, machine_from, planned
from tests.hostile.base import DOCKER, copy
from tests.hostile.base import planned as plan_of
from tests.report import runs

MADE = "2026-11-23T12:00:00Z"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


def told(run: Run) -> Report:
    return report(read(run), MADE)


def says(found: Report, words: str) -> list[bool]:
    """Tell for page and text whether they say so, wherever they fold."""
    return [words in " ".join(each(found).split()) for each in (page, lines)]


def is_green(found: Report) -> bool:
    return '<p class="summary"><span class="badge good">' in page(found)


def test_a_way_back_that_left_something_to_do_is_not_as_it_was_before(root: Path) -> None:
    found = told(runs.away(root))

    states = {each.name: each.state for each in found.changes}
    assert "The run was rolled back, but for what is left to do by hand." == found.summary
    assert ("rolled-back", False) == (found.status, is_green(found))
    assert any("edit configmap" in each for each in found.left)
    assert ["taken back in part"] == [
        each.what for each in found.timeline if (each.step, each.direction) == ("cluster-config", "back")
    ]
    assert [False, False] == says(found, "everything was taken back")
    assert ("not restored", {"restored"}) == (
        states.pop("ConfigMap kube-system/kubelet-config-1.20"),
        set(states.values()),
    )


def test_a_node_that_was_not_healthy_after_the_way_back_is_told_so_everywhere(root: Path) -> None:
    found = told(runs.unwell(root))
    status = cgmigrate("status", "--root", root).stdout

    assert "not as healthy afterwards" in found.summary
    assert ("rolled-back", False) == (found.status, is_green(found))
    assert ["static pods not running yet" in each.error for each in found.failed] == [True]
    assert [True, True] == says(found, "static pods not running yet: default/late")
    assert "static pods not running yet: default/late" in status


def test_a_boot_under_the_guard_is_an_outage_of_which_the_begin_is_not_known(root: Path) -> None:
    found = told(runs.rebooted(root))

    assert [("forward", True, True), ("forward", False, True)] == [
        (each.direction, bool(each.began), bool(each.ended)) for each in found.outages or ()
    ]
    assert found.outages is not None
    assert found.outages[-1].seconds is None
    assert [True, True] == says(found, "not known: the node was booted again")


GREEN: dict[str, tuple[Callable[[Path], Run], bool]] = {
    "finished": (runs.finished, True),
    "taken back": (runs.taken_back, True),
    "failed": (runs.failed, True),
    "dirty": (runs.dirty, False),
    "crashed": (runs.crashed, False),
}


@pytest.mark.parametrize(("make", "green"), GREEN.values(), ids=GREEN)
def test_only_a_run_at_its_end_is_green(root: Path, make: Callable[[Path], Run], green: bool) -> None:
    assert green is is_green(told(make(root)))


def test_without_its_plan_nobody_knows_what_a_run_did(root: Path) -> None:
    run = runs.finished(root)
    (run.directory / "plan.json").unlink()
    found = told(run)

    assert ("The run was finished; what it did is not known.", False) == (found.summary, is_green(found))
    assert "Not known: plan.json is missing." in page(found)
    assert "No pod ran" not in page(found)
    assert [f"cgmigrate rollback {run.name}"] == [each.command for each in found.next]
    assert "facts.json cannot be held against plan.json: what it says is left out" in found.missing


def test_without_the_plan_of_a_run_taken_back_nobody_says_that_all_is_as_before(root: Path) -> None:
    run = runs.taken_back(root)
    (run.directory / "plan.json").unlink()

    assert "The run was rolled back; what it had changed is not known." == told(run).summary


@pytest.mark.parametrize("torn", [False, True], ids=["gone", "torn"])
def test_a_verification_that_was_begun_is_never_told_as_not_come_to(root: Path, torn: bool) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    data = log.read_bytes()
    log.write_bytes(data[: data.index(b'"verification"')] if torn else b"")
    found = told(run)

    assert "Not known: there is no record of what the witnesses saw." == found.unverified
    assert [True, True] == says(found, found.unverified)
    assert [False, False] == says(found, "did not come to its verification")
    assert [True, torn] == [
        any("steps that the journal begins" in each for each in found.missing),
        any("1 line cannot be read" in each for each in found.missing),
    ]


UNVERIFIED = {
    "crashed": (runs.crashed, "Not looked at: the run did not come to its verification."),
    "not begun": (runs.waiting, "Not known: the journal does not tell."),
}


@pytest.mark.parametrize(("make", "why"), UNVERIFIED.values(), ids=UNVERIFIED)
def test_why_there_is_no_verification_is_said(root: Path, make: Callable[[Path], Run], why: str) -> None:
    found = told(make(root))

    assert why == found.unverified
    assert [True, True] == says(found, why)


def test_an_earlier_verification_is_not_told_as_the_last(root: Path) -> None:
    """Of a resumed run, whose log then lost its end."""
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    entries = [json.loads(line) for line in log.read_bytes().splitlines()]
    early = [each | {"time": "2020-01-01T00:00:00Z"} if "verification" in each else each for each in entries]
    log.write_text("".join(json.dumps(each) + "\n" for each in early))
    found = told(run)

    assert (None, ("log.jsonl: what the witnesses said last is lost",)) == (
        found.verification,
        found.missing,
    )


def test_a_place_of_which_a_comparison_does_not_hold_is_not_in_the_tree(root: Path) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    entries = [json.loads(line) for line in log.read_bytes().splitlines()]
    proof = next(each["verification"] for each in entries if "verification" in each)
    wrong = told(run).tree_after[-1].path
    proof["checks"].append({"name": "limit", "place": wrong, "cgroupfs": "1", "systemd": "2", "ok": False})
    log.write_text("".join(json.dumps(each) + "\n" for each in entries))
    found = told(run)

    assert wrong not in {each.path for each in found.tree_after}
    assert [True, True] == says(found, "A place of which a comparison does not hold is not in the tree.")


def test_facts_of_another_node_are_not_believed(root: Path) -> None:
    run = runs.finished(root)
    facts = run.load("facts.json")
    facts["node"]["machine_id"] = "0" * 32
    facts["node"]["kernel"] = "9.9.9"
    run.save("facts.json", json.dumps(facts).encode())
    found = told(run)

    assert ("facts.json is of another node than plan.json: what it says is left out",) == found.missing
    assert [False, False] == says(found, "9.9.9")
    assert found.node.machine_id == run.load("plan.json")["machine_id"]


@pytest.mark.parametrize("log", [True, False], ids=["with its log", "without"])
def test_a_run_without_journal_is_not_told_as_not_begun_and_status_says_the_same(
    root: Path, log: bool
) -> None:
    run = runs.finished(root)
    run.journal.unlink()
    if not log:
        (run.directory / "log.jsonl").unlink()
    found = told(run)
    status, page_ = (cgmigrate("--format", "json", each, "--root", root) for each in ("status", "report"))

    assert (7, 7) == (status.returncode, page_.returncode)
    assert "planned" == json.loads(status.stdout)[0]["status"] == json.loads(page_.stdout)["status"]
    assert found.summary.startswith("The journal has no record of this run")
    assert ("the log tells of steps" in found.missing[0]) if log else not found.missing
    assert {"unknown"} == {each.state for each in found.changes}
    assert [False, False] == says(found, "not stopped")
    assert found.outages is None


NEXT = {
    "finished": (runs.finished, ["cgmigrate verify", "cgmigrate rollback RUN"]),
    "taken back": (runs.taken_back, ["cgmigrate verify --expect cgroupfs", "cgmigrate forget RUN"]),
    "dirty": (runs.dirty, ["cgmigrate rollback"]),
    "crashed": (runs.crashed, ["cgmigrate resume", "cgmigrate rollback"]),
}


@pytest.mark.parametrize(("make", "commands"), NEXT.values(), ids=NEXT)
def test_what_can_be_done_next_can_be_done(
    root: Path, make: Callable[[Path], Run], commands: list[str]
) -> None:
    run = make(root)

    assert [each.replace("RUN", run.name) for each in commands] == [each.command for each in told(run).next]


def test_a_run_on_which_a_later_one_stands_offers_no_rollback_of_itself(root: Path) -> None:
    machine, first = runs.node("docker", root)
    assert "done" == forward(machine, first)
    plan, facts = planned("docker")
    second = begin_with(machine, plan, facts)
    data = json.loads(cgmigrate("--format", "json", "report", first.name, "--root", root).stdout)

    assert [f"cgmigrate rollback {second.name}"] == [each["command"] for each in data["next"]]


def test_the_commands_for_an_image_name_it_and_none_proves_what_does_not_run(tmp_path: Path) -> None:
    image = copy(DOCKER, tmp_path / "image")
    cgmigrate("apply", "--root", image, plan_of(image, tmp_path / "plan.json"), "--yes")
    run = Runs(Host(image)).all()[-1]
    found = told(run)
    cgmigrate("rollback", "--root", image, "--yes")
    back = told(run)

    assert [f"cgmigrate rollback {run.name} --root DIR"] == [each.command for each in found.next]
    assert [f"cgmigrate forget {run.name} --root DIR"] == [each.command for each in back.next]
    assert [False, False] == says(found, "cgmigrate verify")
    assert back.summary.startswith("The run was rolled back: each file of the image of ")


PROOF = {
    "finished": (runs.finished, ("good", "proven"), ""),
    "taken back": (runs.taken_back, ("note", "was proven"), "The way back began afterwards"),
    "dirty": (runs.dirty, ("note", "was proven"), "The way back began afterwards"),
}


@pytest.mark.parametrize(("make", "proof", "since"), PROOF.values(), ids=PROOF)
def test_a_proof_is_one_of_now_only_where_nothing_followed(
    root: Path, make: Callable[[Path], Run], proof: tuple[str, str], since: str
) -> None:
    found = told(make(root))

    assert (proof, True) == (found.proof, found.since.startswith(since))
    assert [True, True] == says(found, proof[1])
    assert [bool(since)] * 2 == says(found, "this is no longer what is there")


def test_a_proof_before_a_damage_is_told_as_such(root: Path) -> None:
    run = runs.finished(root)
    run.journal.write_bytes(run.journal.read_bytes().replace(b'"n": 3,', b'"n": 4,'))
    found = told(run)

    assert ("damaged", ("note", "was proven")) == (found.status, found.proof)
    assert [True, True] == says(found, "The journal is damaged: what followed is not known.")


def test_a_run_of_the_cluster_speaks_of_its_config_map_and_of_no_node(root: Path) -> None:
    variant, facts = VARIANTS["worker"], planned("worker")[1]
    lay(root, variant)
    machine = machine_from(root, *planned("worker"))
    plan = make_cluster_plan(facts, digest(facts), PlanOptions(cluster_config=True), SETTINGS)
    run = begin_with(machine, plan, facts)
    assert machine.api is not None

    assert "done" == forward(machine, run)
    there = told(run)
    machine.api.away = True
    assert "left" == back(machine, run)
    left = told(run)

    assert ("The ConfigMap of the kubelets says systemd; no node was touched.", True) == (
        there.summary,
        is_green(there),
    )
    assert "Not looked at: a run of this kind has no verification." == there.unverified
    assert ["not restored"] == [each.state for each in left.changes]
    assert ("The run was rolled back, but for what is left to do by hand.", False) == (
        left.summary,
        is_green(left),
    )
    assert [False, False] == [any("verify" in each.command for each in found.next) for found in (there, left)]


def test_an_empty_name_is_no_run(root: Path) -> None:
    run = runs.taken_back(root)
    found = [cgmigrate(command, "", "--root", root) for command in ("report", "forget")]

    assert [2, 2] == [each.returncode for each in found]
    assert ["the empty name: no such run" in each.stderr for each in found] == [True, True]
    assert run.journal.exists()


def test_another_process_at_work_is_not_said_to_be_at_work_on_this_run(root: Path) -> None:
    run = runs.crashed(root)
    with Runs(Host(root)).lock():
        text = cgmigrate("report", "--root", root).stdout

    assert run.name in text
    assert "the run is open, and a cgmigrate is at work on this node: process" in " ".join(
        text.lower().split()
    )


def test_a_traceback_that_was_kept_with_the_run_is_named(root: Path) -> None:
    run = runs.taken_back(root)
    with run.append("traceback.txt") as kept:
        kept.write("Traceback\n")

    assert [True, True] == says(told(run), f"cat /var/lib/cgmigrate/runs/{run.name}/traceback.txt")


# ---- a log that somebody, or a crash, has filled


class Counted(str):
    """A text that counts how often it is held against another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_messages_are_not_each_held_against_all_others(root: Path) -> None:
    records = runs.finished(root).records()
    step = records[-2].step
    said = [Counted(f"message {number}") for number in range(500)]
    line = timeline(records, {}, [{"verb": "apply", "step": step}, *({"say": each} for each in said)])

    assert tuple(said) == next(each.said for each in line if each.said)
    assert 5000 > Counted.compared


def test_of_a_log_without_end_only_the_end_is_read(root: Path) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    log.write_bytes(b'{"say": "early"}\n' + b" " * LOG_LIMIT + b"\n" + log.read_bytes())
    found = told(run)

    assert ("log.jsonl: only its last 16 MiB are read",) == found.missing
    assert found.verification is not None


@pytest.mark.parametrize("seconds", ["NaN", "1e999", f"1{'0' * 400}"])
def test_a_number_that_is_none_is_no_verification(root: Path, seconds: str) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    text = log.read_text()
    log.write_text(re.sub(r'"settle_seconds": [0-9.]+', f'"settle_seconds": {seconds}', text))
    found = told(run)

    assert text != log.read_text()
    assert ("log.jsonl: what the witnesses said is damaged",) == found.missing
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("time", [{"a": 1}, "soon"], ids=["no text", "no time"])
def test_a_verification_without_a_time_is_not_believed(root: Path, time: object) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    entries = [json.loads(line) for line in log.read_bytes().splitlines()]
    late = [each | {"time": time} if "verification" in each else each for each in entries]
    log.write_text("".join(json.dumps(each) + "\n" for each in late))

    assert (None, 1) == (told(run).verification, len(told(run).missing))


def test_a_place_a_thousand_levels_deep_is_a_comparison_and_no_tree(root: Path) -> None:
    run = runs.finished(root)
    log = run.directory / "log.jsonl"
    entries = [json.loads(line) for line in log.read_bytes().splitlines()]
    proof = next(each["verification"] for each in entries if "verification" in each)
    before = told(run).tree_after
    deep = "/kubepods.slice" * 1200
    proof["checks"].append({"name": "deep", "place": deep, "cgroupfs": "", "systemd": deep, "ok": True})
    log.write_text("".join(json.dumps(each) + "\n" for each in entries))
    found = told(run)

    assert before == found.tree_after
    assert [True, True] == says(found, "deep")


def test_the_text_counts_the_cells_of_a_terminal() -> None:
    wide = _fold("\u5bbf\u4e3b " * 40, 2)
    marked = _fold("e\u0301e\u0301 " * 60, 2)

    assert [] == [each for each in wide if len(each) + each.count("\u5bbf") + each.count("\u4e3b") > WIDTH]
    assert 4 > len(marked)
    assert "\u5bbf\u4e3b" * 40 == "".join(wide).replace(" ", "")
