# SPDX-License-Identifier: Apache-2.0
"""What a report tells of a run: by its records, by runs of the real engine, and by what is missing or damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from migrator.cgroups import Driver
from migrator.host import Host
from migrator.journal import Run, Runs
from migrator.plan_table import Translation
from migrator.records import Kind, Record
from migrator.report import report
from migrator.report.lines import WIDTH
from migrator.report.lines import render as lines
from migrator.report.markup import Markup, tag
from migrator.report.model import Outage, Report
from migrator.report.page import render as page
from migrator.report.sources import Sources, read
from migrator.report.style import STYLE
from migrator.report.timeline import outages, timeline
from migrator.schemas import load_schema
from migrator.verify import judge
from migrator.verify.view import to_json
from tests.cli.test_offline import cgmigrate
from tests.crash.cases import forward
from tests.hostile.base import DOCKER, EVIL, copy, planned
from tests.report.runs import RUNS, node
from tests.unit.test_verify import PLACE, SLICE, UID, sound

ROOT = Path(__file__).resolve().parents[2]
MADE = "2026-11-23T12:00:00Z"
KUBELET = {"units": ["kubelet.service"]}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "wait-healthy(back)": {
        "kind": "wait-healthy",
        "why": "on the way back: it answers",
        "params": {"unit": "kubelet.service", "direction": "back"},
    },
    "stop-unit:kubelet": {"kind": "stop-unit", "why": "it must not judge", "params": KUBELET},
    "stop-unit:docker": {"kind": "stop-unit", "why": "once", "params": {"units": ["docker.service"]}},
    "start-unit:kubelet": {"kind": "start-unit", "why": "anew", "params": KUBELET},
    "wait-healthy": {"kind": "wait-healthy", "why": "it answers", "params": {"unit": "kubelet.service"}},
}
FORWARD = [
    (0, Kind.BEGIN, ""),
    (1, Kind.APPLYING, "wait-healthy(back)"),
    (1, Kind.APPLIED, "wait-healthy(back)"),
    (2, Kind.APPLYING, "stop-unit:kubelet"),
    (3, Kind.APPLIED, "stop-unit:kubelet"),
    (3, Kind.APPLYING, "stop-unit:docker"),
    (9, Kind.APPLIED, "stop-unit:docker"),
    (10, Kind.APPLYING, "start-unit:kubelet"),
    (11, Kind.APPLIED, "start-unit:kubelet"),
    (11, Kind.APPLYING, "wait-healthy"),
    (26, Kind.APPLIED, "wait-healthy"),
    (27, Kind.COMMITTED, ""),
]
BACK = [
    (40, Kind.ROLLING_BACK, ""),
    (40, Kind.REVERTING, "wait-healthy"),
    (40, Kind.REVERTED, "wait-healthy"),
    (41, Kind.REVERTING, "start-unit:kubelet"),
    (42, Kind.REVERTED, "start-unit:kubelet"),
    (43, Kind.REVERTING, "stop-unit:kubelet"),
    (44, Kind.REVERTED, "stop-unit:kubelet"),
    (44, Kind.REVERTING, "wait-healthy(back)"),
    (59, Kind.REVERTED, "wait-healthy(back)"),
    (59, Kind.ROLLED_BACK, ""),
]


def at(second: int) -> str:
    return f"2026-11-22T14:05:{second:02}Z"


def records(*life: tuple[Any, ...]) -> list[Record]:
    """Make records of (second, kind, step[, data[, boot]])."""
    made = []
    for number, each in enumerate(life, start=1):
        filled: tuple[Any, ...] = (*each, *({}, "boot-1")[len(each) - 3 :])
        second, kind, step, data, boot = filled
        made.append(Record(number=number, time=at(second), boot=boot, kind=kind, step=step, data=data))
    return made


OUTAGES = {
    "a run that is finished": (FORWARD, [("forward", 2, 26, 24)]),
    "a finished run and its way back": ([*FORWARD, *BACK], [("forward", 2, 26, 24), ("back", 41, 59, 18)]),
    "killed in the middle": (FORWARD[:6], [("forward", 2, None, None)]),
    "failed in the middle, and back": ([*FORWARD[:6], *BACK], [("forward", 2, 59, 57)]),
    "nothing was stopped": ([*FORWARD[:3], *BACK[-1:]], []),
    "seen again by a resume": ([*FORWARD[:-1], (30, Kind.APPLIED, "wait-healthy")], [("forward", 2, 26, 24)]),
    "back, and not as healthy as before": (
        [*FORWARD, *BACK[:-2], (58, Kind.REVERTED, "wait-healthy(back)", {"error": "after 300 s"})],
        [("forward", 2, 26, 24), ("back", 41, None, None)],
    ),
    "the clock went back": (
        [*FORWARD[:4], (1, Kind.APPLIED, "wait-healthy")],
        [("forward", 2, 1, None)],
    ),
}


@pytest.mark.parametrize(("life", "expected"), OUTAGES.values(), ids=OUTAGES)
def test_an_outage_is_from_the_stop_of_the_kubelet_until_it_was_waited_for(
    life: list[Any], expected: list[tuple[str, int, int | None, int | None]]
) -> None:
    assert [
        Outage(direction=way, began=at(began), ended="" if ended is None else at(ended), seconds=seconds)
        for way, began, ended, seconds in expected
    ] == list(outages(records(*life), STEPS))


def told(*life: tuple[Any, ...], log: list[dict[str, Any]] | None = None) -> list[tuple[str, str, str, Any]]:
    return [
        (each.step, each.direction, each.outcome or each.what, each.seconds)
        for each in timeline(records(*life), STEPS, log or [])
    ]


def test_the_timeline_has_each_step_once_with_its_time_and_none_that_only_acts_on_the_way_back() -> None:
    assert [
        ("", "", "the run began", None),
        ("stop-unit:kubelet", "forward", "done", 1),
        ("stop-unit:docker", "forward", "done", 6),
        ("start-unit:kubelet", "forward", "done", 1),
        ("wait-healthy", "forward", "done", 15),
        ("", "", "the run was finished", None),
    ] == told(*FORWARD)


def test_a_step_without_an_end_is_unfinished_and_a_boot_is_told() -> None:
    resumed: tuple[Any, ...] = (20, Kind.APPLYING, "stop-unit:kubelet", {}, "boot-2")

    assert [
        ("stop-unit:kubelet", "forward", "unfinished", None),
        ("", "", "the node was booted again", None),
        ("stop-unit:kubelet", "forward", "unfinished", None),
    ] == told(FORWARD[3], resumed)


def test_a_failure_is_told_once_at_its_step() -> None:
    error = {"error": "it does not stop"}
    found = timeline(
        records(
            FORWARD[3], (4, Kind.FAILED, "", error), (4, Kind.ROLLING_BACK, "", {"reason": error["error"]})
        ),
        STEPS,
        [],
    )

    assert [("failed", "it does not stop"), ("", ""), ("", "")] == [
        (each.outcome, each.error) for each in found
    ]
    assert ["it must not judge", "the run failed", "the way back began"] == [each.what for each in found]


def test_a_command_that_a_step_leaves_stands_behind_it_and_the_step_still_ends() -> None:
    left = (4, Kind.LEFT, "", {"command": "kubectl uncordon n"})

    assert [
        ("stop-unit:kubelet", "forward", "done", 3),
        ("", "", "left to the operator: kubectl uncordon n", None),
    ] == told(FORWARD[3], left, (5, Kind.APPLIED, "stop-unit:kubelet"))


def test_messages_of_the_log_stand_at_their_step() -> None:
    log: list[dict[str, Any]] = [
        {"verb": "apply", "step": "stop-unit:kubelet"},
        {"say": "stopping"},
        {"say": "stopping"},
        {"verb": "done", "step": "stop-unit:kubelet"},
        {"say": "of nobody"},
        {"say": 5},
        {"verb": "revert", "step": "stop-unit:kubelet"},
        {"say": "starting"},
    ]

    found = timeline(records(*FORWARD, *BACK), STEPS, log)

    assert {("forward", ("stopping",)), ("back", ("starting",))} == {
        (each.direction, each.said) for each in found if each.said
    }


# ---- runs of the real engine


@pytest.fixture(scope="module", params=RUNS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run, Report]:
    root = tmp_path_factory.mktemp("run") / "node"
    root.mkdir()
    run = RUNS[request.param](root)
    return request.param, run, report(read(run), MADE)


STATUS = {
    "finished": "committed",
    "taken back": "rolled-back",
    "failed": "rolled-back",
    "dirty": "dirty",
    "crashed": "applying",
    "not begun": "planned",
}
OUTAGE_ENDS = {
    "finished": [True],
    "taken back": [True, True],
    "failed": [True],
    "dirty": [True, False],
    "crashed": [False],
    "not begun": [],
}


@dataclass
class Outline(HTMLParser):
    """What a page is made of; refuses what is not closed."""

    headings: list[tuple[int, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    captions: int = 0
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [
            value or "" for key, value in attrs if key in ("href", "src", "srcset", "action", "style")
        ]
        if tag != "meta":
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, so_far = self.headings[-1]
            self.headings[-1] = (level, so_far + data)


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    assert [] == parser._open
    return parser


def test_a_run_is_told_as_it_ended(made: tuple[str, Run, Report]) -> None:
    name, run, found = made

    assert (STATUS[name], run.name, ()) == (found.status, found.run, found.missing)
    assert OUTAGE_ENDS[name] == [bool(each.ended) for each in found.outages or ()]
    assert (name in {"finished", "taken back", "failed"}) is found.settled
    assert bool(found.failed) is (name == "dirty")
    assert found.next
    assert {"file": True, "tree": True} == {
        "file": "/var/lib/kubelet/config.yaml" in {each.name for each in found.changes},
        "tree": "/kubepods" in {each.path for each in found.tree_before},
    }


def test_what_the_witnesses_said_is_kept_with_the_run_and_makes_the_tree_after(
    made: tuple[str, Run, Report],
) -> None:
    name, _, found = made
    verified = name in {"finished", "taken back", "dirty"}

    assert verified is (found.verification is not None)
    assert verified is (
        "/kubepods.slice/kubepods-besteffort.slice" in {each.path for each in found.tree_after}
    )
    if found.verification:
        assert (True, "systemd") == (found.verification["ok"], found.verification["expected"])


def test_each_changed_file_is_where_the_run_left_it(made: tuple[str, Run, Report]) -> None:
    name, _, found = made
    states = {"finished": "written", "crashed": "written", "not begun": "unknown"}

    assert {states.get(name, "restored")} == {each.state for each in found.changes}


def test_json_holds_to_its_schema(made: tuple[str, Run, Report]) -> None:
    document = json.loads(json.dumps(made[2].to_json()))

    assert [] == list(Draft202012Validator(load_schema("report-1")).iter_errors(document))


def test_the_page_is_whole_needs_nothing_else_and_has_its_headings_in_order(
    made: tuple[str, Run, Report],
) -> None:
    text = page(made[2])
    found = outline(text)
    levels = [level for level, _ in found.headings]

    assert text.isascii()
    assert 1 == levels[0] == levels.count(1)
    assert [] == [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1]
    assert {"header", "nav", "main", "footer", "title"} <= set(found.tags)
    assert set() == {"script", "img", "link", "iframe", "object", "style:"} & set(found.tags)
    assert [] == [url for url in found.urls if not re.fullmatch(r"#[a-z]+", url)]
    assert found.tags.count("table") == found.tags.count("caption")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert made[2].summary in found.text


def test_the_text_fits_eighty_columns_but_for_what_must_not_be_folded(made: tuple[str, Run, Report]) -> None:
    found = made[2]
    whole = {line for each in found.changes for line in each.diff.split("\n")}
    whole |= {f"-> {each['remediation']}" for each in found.findings}

    wide = [line for line in lines(found).split("\n") if len(line) > WIDTH]

    assert [] == [
        line for line in wide if line.strip() not in {each.strip() for each in whole} and " " in line.strip()
    ]


def test_all_three_tell_the_same_outcome_reasons_and_errors(made: tuple[str, Run, Report]) -> None:
    found = made[2]
    flat = [" ".join(text.split()) for text in (outline(page(found)).text, lines(found))]
    said = [found.summary, *found.reasons, *(each.error for each in found.failed), *found.cannot_be_undone]
    said += [each.error for each in found.timeline]

    assert [] == [(each, text[:60]) for each in said for text in flat if " ".join(each.split()) not in text]


# ---- what is missing


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "node").mkdir()
    return RUNS["finished"](tmp_path / "node")


def damage_line(run: Run, number: int) -> None:
    lines_ = run.journal.read_bytes().split(b"\n")
    lines_[number - 1] = b"x" + lines_[number - 1]
    run.journal.write_bytes(b"\n".join(lines_))


def test_a_damaged_journal_is_told_up_to_the_damage(run: Run) -> None:
    damage_line(run, 12)
    found = report(read(run), MADE)

    assert ("damaged", False) == (found.status, found.settled)
    assert ["journal.jsonl: line 12 is damaged; what it and the lines after it say is left out"] == list(
        found.missing
    )
    assert 1 < len(found.timeline) < 12
    assert {"unknown"} == {each.state for each in found.changes}
    assert "line 12 is damaged" in page(found)
    assert "line 12 is damaged" in lines(found)


def test_a_torn_journal_is_told_without_its_last_record(run: Run) -> None:
    run.journal.write_bytes(run.journal.read_bytes()[:-5])
    found = report(read(run), MADE)

    assert ("applying", 1, True) == (found.status, len(found.missing), "torn" in found.missing[0])


MISSING = {
    "plan.json": ("plan.json", ["from_driver", "changes", "findings", "tree_before", "verdict"]),
    "facts.json": ("facts.json", []),
    "journal.jsonl": ("journal", ["timeline", "outages", "settled"]),
    "log.jsonl": ("witnesses", ["verification", "tree_after"]),
}


@pytest.mark.parametrize("how", ["gone", "empty", "not JSON", "of another shape"])
@pytest.mark.parametrize("name", MISSING)
def test_what_cannot_be_read_is_named_and_the_rest_is_told(run: Run, name: str, how: str) -> None:
    path = run.directory / name
    path.unlink()
    if how != "gone":
        path.write_bytes({"empty": b"", "not JSON": b"\0{[\xff", "of another shape": b'[{"a": [1]}]\n'}[how])
    said, lost = MISSING[name]

    found = report(read(run), MADE)

    assert bool(said) <= bool(found.missing)
    assert [] == [each for each in found.missing if said not in each]
    assert [] == [each for each in lost if getattr(found, each)]
    for render in (page, lines):
        assert run.name in render(found)
        assert [] == [each for each in found.missing if each.split(":")[0] not in render(found)]
    document = json.loads(json.dumps(found.to_json()))
    assert [] == list(Draft202012Validator(load_schema("report-1")).iter_errors(document))


def test_without_a_plan_nobody_says_that_the_kubelet_was_not_stopped(run: Run) -> None:
    (run.directory / "plan.json").unlink()
    found = report(read(run), MADE)

    assert found.outages is None
    assert ["not stopped" in text for text in (page(found), lines(found))] == [False, False]


def test_the_tree_after_is_what_a_verification_found_where_it_should_be(run: Run) -> None:
    """The real one, with its rows of units, limits and populations; the simulated node has a simpler one."""
    row = Translation(
        kind="pod", namespace="default", pod="web-node1", pod_uid=UID, from_path="/x", to_path=SLICE
    )
    proof = to_json(judge(sound(), Driver.SYSTEMD, [row]))
    with run.append("log.jsonl") as log:
        log.write(json.dumps({"time": run.state().ended, "verification": proof}) + "\n")

    found = report(read(run), MADE)

    levels = {"/kubepods.slice": "", "/kubepods.slice/kubepods-burstable.slice": ""}
    after = {each.path: each.what for each in found.tree_after}
    sandbox = next(path for path, what in after.items() if what == "sandbox")
    assert SLICE == sandbox.rpartition("/")[0]
    assert {**levels, SLICE: "default/web-node1", PLACE[Driver.SYSTEMD]: "app", sandbox: "sandbox"} == after
    assert found.verification is not None
    assert (run.state().ended, proof["checks"]) == (found.verification["time"], found.verification["checks"])


def test_a_log_that_takes_nothing_decides_nothing_and_is_told_as_missing(tmp_path: Path) -> None:
    machine, run = node("docker", tmp_path)
    (run.directory / "log.jsonl").mkdir()

    assert "done" == forward(machine, run)
    found = report(read(run), MADE)
    assert ("committed", None) == (found.status, found.verification)
    begun = sum(record.kind is Kind.APPLYING for record in run.records())
    assert (
        "log.jsonl: Is a directory",
        f"log.jsonl: {begun} of the {begun} steps that the journal begins are not in what can be read of it; messages, and what the witnesses said, may be missing",
        "log.jsonl does not hold what the witnesses said",
    ) == found.missing


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(["apply", "revert", *STEPS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["verb", "step", "say", "time", "message", "verification"])
RECORDS = st.builds(
    Record,
    number=st.just(1),
    time=st.text(max_size=5) | st.sampled_from([at(1), at(9)]),
    boot=st.sampled_from(["a", "b"]),
    kind=st.sampled_from(Kind),
    step=st.sampled_from(["", "unheard of", *STEPS]),
    data=st.dictionaries(st.sampled_from(["error", "reason", "command", "undo"]), ANYTHING, max_size=2),
)


@settings(max_examples=30)
@given(
    life=st.lists(RECORDS, max_size=9),
    log=st.lists(st.dictionaries(KEYS, ANYTHING), max_size=9),
    damaged=st.booleans(),
)
def test_whatever_a_journal_and_a_log_hold_there_is_a_report_of_the_documented_form(
    life: list[Record], log: list[dict[str, Any]], damaged: bool
) -> None:
    plan = json.loads((ROOT / "plans" / f"{DOCKER}.json").read_bytes())
    sources = Sources(
        run="x", records=life, damaged=damaged, plan=plan, facts=None, log=log, missing=(), worker=""
    )

    found = report(sources, MADE)

    document = json.loads(json.dumps(found.to_json()))
    assert [] == list(Draft202012Validator(load_schema("report-1")).iter_errors(document))
    outline(page(found))
    assert lines(found)


def test_a_plan_that_is_not_the_runs_own_is_not_believed(run: Run) -> None:
    document = run.load("plan.json")
    run.save("plan.json", json.dumps({**document, "node": "another"}).encode())
    found = report(read(run), MADE)

    assert (
        "plan.json is not the plan that this run was made of: what it says is left out",
        "facts.json cannot be held against plan.json: what it says is left out",
    ) == found.missing
    assert "another" not in page(found) + lines(found)


def test_a_record_of_the_witnesses_that_is_no_verification_is_not_believed(run: Run) -> None:
    with run.append("log.jsonl") as log:
        log.write('{"verification": {"ok": true, "checks": 5}}\n')

    assert ("log.jsonl: what the witnesses said is damaged",) == report(read(run), MADE).missing


# ---- the page


def test_nothing_becomes_markup_that_was_not_made_here() -> None:
    evil = '<script>alert("x")</script>&\'\x1b'

    assert (
        '<p data-label="&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#x27;\\x1b">'
        "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#x27;\\x1b<b>&lt;i&gt;</b></p>"
    ) == tag("p", evil, Markup("<b>&lt;i&gt;</b>"), data_label=evil)


def evil(value: Any) -> Any:
    """Put markup and control characters into every text of a document."""
    match value:
        case dict():
            return {key: evil(inner) for key, inner in value.items()}
        case list() | tuple():
            return type(value)(evil(inner) for inner in value)
        case str():
            return f'{value}"><script>x</script><img src=x onerror=x>{EVIL}'
        case _:
            return value


def test_a_report_of_hostile_texts_has_the_elements_of_a_harmless_one(run: Run) -> None:
    from dataclasses import fields, replace  # noqa: PLC0415

    harmless = report(read(run), MADE)

    def poisoned(value: Any) -> Any:
        if hasattr(value, "__dataclass_fields__"):
            return replace(
                value, **{each.name: poisoned(getattr(value, each.name)) for each in fields(value)}
            )
        if isinstance(value, tuple):
            return tuple(map(poisoned, value))
        return evil(value)

    hostile = poisoned(harmless)
    found = outline(page(hostile))

    # A path that is hostile from its first letter on is in no tree; the outcomes of steps have no colour of their own then.
    assert set() == set(found.tags) - set(outline(page(harmless)).tags)
    assert [] == [url for url in found.urls if not re.fullmatch(r"#[a-z]+", url)]
    assert page(hostile).isascii()
    assert "\x1b" not in page(hostile) + lines(hostile)
    assert "\u202e" not in lines(hostile)


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


PAIRS = [(name, f"{name}-ground") for name in ("good", "bad", "warn", "note")] + [
    (name, ground) for name in ("text", "quiet", "link", "bad", "good") for ground in ("ground", "box")
]


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_every_text_has_a_contrast_of_at_least_four_and_a_half(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))

    low = {}
    for text, ground in PAIRS:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        low[text, ground] = (light + 0.05) / (dark + 0.05)

    assert 3 == len(blocks)
    assert {} == {pair: ratio for pair, ratio in low.items() if ratio < 4.5}


# ---- the command


def test_the_command_tells_the_newest_run_of_an_image_and_that_its_services_wait(tmp_path: Path) -> None:
    image = copy(DOCKER, tmp_path / "image")
    none = cgmigrate("report", "--root", image)
    cgmigrate("apply", "--root", image, planned(image, tmp_path / "plan.json"), "--yes")
    run = Runs(Host(image)).all()[-1].name

    newest, named, unknown = (
        cgmigrate("report", "--root", image),
        cgmigrate("--root", image, "report", run[:15], "--format", "html"),
        cgmigrate("report", "--root", image, "1999"),
    )
    data = json.loads(cgmigrate("--format", "json", "report", "--root", image).stdout)

    assert (2, 0, 0, 2) == tuple(each.returncode for each in (none, newest, named, unknown))
    assert "no run on this node" in none.stderr
    assert "no such run" in unknown.stderr
    assert ("committed", True, None) == (data["status"], data["image"], data["verification"])
    assert "first boot" in newest.stdout
    assert named.stdout.startswith("<!DOCTYPE html>")


def test_the_exit_code_is_that_of_status(tmp_path: Path) -> None:
    codes = {}
    for name in ("finished", "crashed", "dirty"):
        root = tmp_path / name / "node"
        root.mkdir(parents=True)
        run = RUNS[name](root)
        codes[name] = [cgmigrate(command, "--root", root).returncode for command in ("status", "report")]
        damage_line(run, 3)
        codes[f"{name}, damaged"] = [
            cgmigrate(command, "--root", root).returncode for command in ("status", "report")
        ]

    assert {
        "finished": [0, 0],
        "finished, damaged": [4, 4],
        "crashed": [7, 7],
        "crashed, damaged": [4, 4],
        "dirty": [7, 7],
        "dirty, damaged": [4, 4],
    } == codes
