# SPDX-License-Identifier: Apache-2.0
"""The guided path on a real terminal, on an image: each way out changes nothing, each screen fits, each word is answered."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrator.cli import run
from migrator.host import Host
from migrator.journal import Runs
from tests.cli.screens import Screens
from tests.cli.test_offline import cgmigrate, snapshot
from tests.cli.test_prompts import typed
from tests.hostile.base import EVIL, copy, raw
from tests.hostile.test_terminal import SGR

HERE = Path(__file__).resolve().parents[2]
SAMPLE = "docker-20.10-kubelet-1.20"
PATH = (
    ("Look at this node now?", "look"),
    ("Go on all the same?", "go-on"),
    ("What if a step fails?", "rollback"),
    ("What now?", "apply"),
    ("Apply the 16 steps of this plan to sample-docker now?", "yes"),
)
"""Every question on this node, and the answer that goes on."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return copy(SAMPLE, tmp_path / "image")


def wizard(image: Path, *, columns: int = 80, lines: int = 24, **env: str) -> Screens:
    command = [sys.executable, "-m", "migrator", "--root", str(image)]
    return Screens(image.parent, command, columns=columns, lines=lines, env={"PYTHONPATH": str(HERE), **env})


def fits(text: str, columns: int) -> list[str]:
    """Return the lines that the terminal broke; diffs and paths, which are to be copied, may be longer."""
    return [line for line in text.split("\n") if len(line) > columns and not re.search(r"\S{40}", line)]


def test_the_whole_path_at_80x24_and_the_way_back(image: Path) -> None:
    original = snapshot(image)
    with wizard(image) as terminal:
        for question, answer in PATH:
            assert original == snapshot(image)
            terminal.choose(question, answer)
        said = terminal.ended(0)

    assert original != snapshot(image)
    assert [] == fits(said, 80)
    assert "no file is\nchanged that you have not seen" in said
    assert "-cgroupDriver: cgroupfs\n+cgroupDriver: systemd" in said
    assert "Expected outage: none; no pod is touched." in said
    assert re.search(r"way back: cgmigrate rollback \S+ --root \S+\n.*the old files are in", said, re.DOTALL)
    assert 0 == run(["rollback", "--root", str(image), "--yes"])
    assert original == snapshot(image)


@pytest.mark.parametrize("at", range(len(PATH)), ids=[question for question, _ in PATH])
@pytest.mark.parametrize("way", ["quit", "Ctrl-C"])
def test_leaving_at_any_question_changes_nothing(image: Path, at: int, way: str) -> None:
    original = snapshot(image)
    with wizard(image) as terminal:
        for question, answer in PATH[:at]:
            terminal.choose(question, answer)
        if way == "quit":
            terminal.choose(PATH[at][0], "quit")
            terminal.ended(0)
        else:
            terminal.asked(PATH[at][0])
            terminal.keys("C-c")
            if at == len(PATH) - 1:  # the same as no
                terminal.choose("What now?", "quit")
            terminal.ended(0 if at == len(PATH) - 1 else 130)

    assert original == snapshot(image)
    assert not (image / "var/lib/cgmigrate/runs").exists()


def test_back_leads_through_every_question_to_the_first(image: Path) -> None:
    original = snapshot(image)
    with wizard(image) as terminal:
        for question, answer in PATH[:-1]:
            terminal.choose(question, answer)
        for question, _ in reversed(PATH[1:]):
            terminal.choose(question, "back")
        terminal.choose(PATH[0][0], "quit")
        terminal.ended(0)

    assert original == snapshot(image)


def test_what_stands_in_the_way_is_mended_and_looked_at_again(image: Path) -> None:
    daemon = image / "etc/docker/daemon.json"
    good = daemon.read_bytes()
    daemon.write_bytes(good[:-3])
    with wizard(image) as terminal:
        terminal.choose(*PATH[0])
        shown = terminal.asked("with what to do. Mend it, then look again.")
        assert re.search(r"Blockers \(\d\)", terminal.everything())
        assert "go-on" not in shown
        daemon.write_bytes(good)
        terminal.choose("with what to do. Mend it, then look again.", "again")
        terminal.choose(PATH[1][0], "quit")
        terminal.ended(0)


def test_it_can_end_by_writing_plan_and_answers(image: Path) -> None:
    original, folder = snapshot(image), image.parent
    with wizard(image) as terminal:
        for question, answer in PATH[:2]:
            terminal.choose(question, answer)
        terminal.choose("What if a step fails?", "stop")
        terminal.choose("What now?", "write")
        terminal.choose("Write them?", "write")
        terminal.ended(0)

    assert original == snapshot(image)
    answers = folder / "answers.yaml"
    assert "\non-failure: stop\n" in answers.read_text()
    given = ("--root", image, "--answers", answers, "apply", folder / "plan.json")
    assert 2 == cgmigrate(*given).returncode
    answers.write_text(answers.read_text().replace("apply: no", "apply: yes"))
    assert 0 == cgmigrate(*given).returncode


def test_a_failed_step_asks_on_the_first_screen_and_is_taken_back(image: Path) -> None:
    (image / "etc/docker/.daemon.json.cgmigrate-new").mkdir()
    original = snapshot(image)
    with wizard(image) as terminal:
        for question, answer in PATH[:2]:
            terminal.choose(question, answer)
        terminal.choose("What if a step fails?", "ask")
        for question, answer in PATH[3:]:
            terminal.choose(question, answer)
        terminal.until("Roll back now? No leaves the run open. (Y/n, Enter: yes)")
        assert original != snapshot(image)
        terminal.keys("Enter")
        assert "The run was rolled back: the node is as it was before" in terminal.ended(5)

    assert original == snapshot(image)


@pytest.mark.parametrize("way", ["resume", "rollback"])
def test_an_interrupted_run_is_offered_first(image: Path, way: str) -> None:
    original, plan = snapshot(image), image.parent / "plan.json"
    planted = image / "etc/docker/.daemon.json.cgmigrate-new"
    planted.mkdir()
    assert 0 == run(["plan", "--root", str(image), "-o", str(plan)])
    assert 7 == run(["apply", "--root", str(image), str(plan), "--yes", "--on-failure", "stop"])
    planted.rmdir()
    with wizard(image) as terminal:
        terminal.choose("A run was left in the middle.", "look")
        terminal.until("failed", after="applying write-file:/etc/docker/daemon.json")
        terminal.choose("A run was left in the middle.", way)
        if way == "rollback":
            terminal.until("(y/N, Enter: no)")
            terminal.keys("y")
        terminal.ended(0)

    assert (way == "rollback") == (original == snapshot(image))
    assert 0 == run(["status", "--root", str(image)])


def test_a_run_that_is_at_work_can_only_be_looked_at(image: Path) -> None:
    plan = image.parent / "plan.json"
    (image / "etc/docker/.daemon.json.cgmigrate-new").mkdir()
    assert 0 == run(["plan", "--root", str(image), "-o", str(plan)])
    assert 7 == run(["apply", "--root", str(image), str(plan), "--yes", "--on-failure", "stop"])
    with Runs(Host(image)).lock(), wizard(image) as terminal:
        shown = terminal.choose("A run is at work on this node.", "look")
        assert f"in progress: process {os.getpid()}" in shown
        assert "resume" not in shown.rpartition("A run is at work")[2]
        terminal.until("failed", after="applying write-file:/etc/docker/daemon.json")
        terminal.choose("A run is at work on this node.", "quit")
        terminal.ended(0)


def test_help_and_version_do_not_load_what_only_the_guided_path_needs() -> None:
    script = "import sys; from migrator.cli import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=HERE)
    loaded = set(done.stdout.decode().split())

    assert "migrator.cli" in loaded
    assert set() == loaded & {
        "questionary",
        "prompt_toolkit",
        "rich",
        "ruamel",
        "migrator.wizard",
        "jsonschema",
    }


@pytest.mark.parametrize(
    ("columns", "loads"), [({}, False), ({"COLUMNS": "200"}, False), ({"COLUMNS": "60"}, True)], ids=str
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_a_page_that_is_made_in_advance_where_it_fits(
    option: str, columns: dict[str, str], loads: bool
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "migrator"]
    environment = {key: each for key, each in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [*command, option], check=True, capture_output=True, cwd=HERE, env=environment | columns
    )
    folded = environment | (columns if loads else {"COLUMNS": "80"})
    full = subprocess.run([*command, "-v", option], check=True, capture_output=True, cwd=HERE, env=folded)

    assert full.stdout == done.stdout
    assert loads is (b"typer" in done.stderr)


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CGMIGRATE_PLAIN": "1"}], ids=str)
def test_in_plain_mode_it_is_lines_alone_and_a_hostile_name_is_only_text(
    image: Path, env: dict[str, str]
) -> None:
    (image / "etc/hostname").write_bytes(f"plant{EVIL}".encode("utf-8", "surrogateescape"))
    original = snapshot(image)
    words = ["env", *(f"{key}={value}" for key, value in env.items()), sys.executable, "-m", "migrator"]
    answers = [
        (b"(Enter: look): ", b"\r"),
        (b"(Enter: quit): ", b"what\r"),
        (b"that is none of", b"go\r"),
        (b"(Enter: rollback): ", b"b\r"),
        (b"(Enter: quit): ", b"go-on\r"),
        (b"(Enter: rollback): ", b"\r"),
        (b"(Enter: show): ", b"apply\r"),
        (b"(Enter: no): ", b"yes\r"),
    ]
    words[0] = "/usr/bin/env"
    code, said = typed([*words, "--root", str(image)], answers)

    assert 0 == code, said
    assert original != snapshot(image)
    colours = SGR.sub("", said) if "TERM" not in env else said
    assert [] == raw(colours.replace("\r\n", "\n").replace("\r", ""))


def test_without_colours_no_colour_is_sent(image: Path) -> None:
    words = [
        "/usr/bin/env",
        "NO_COLOR=1",
        "TERM=xterm",
        sys.executable,
        "-m",
        "migrator",
        "--root",
        str(image),
    ]
    _, said = typed(words, [(b"Look at this node now?", b"\r"), (b"Go on all the same?", b"\x03")])

    assert "Go on all the same?" in said
    assert [] == re.findall(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|38|9[0-7])[;m]", said)


def test_a_terminal_that_goes_away_ends_it_with_nothing_changed(image: Path) -> None:
    original = snapshot(image)
    with wizard(image) as terminal:
        terminal.choose(*PATH[0])
        terminal.asked(PATH[1][0])
        found = subprocess.run(["pgrep", "-f", f"migrator --root {image}$"], check=True, capture_output=True)
    for pid in found.stdout.split():
        while Path("/proc", pid.decode()).exists():
            time.sleep(0.1)

    assert original == snapshot(image)


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_without_a_terminal_it_says_what_to_use_instead(image: Path, closed: str) -> None:
    ours, theirs = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    streams[closed] = subprocess.DEVNULL
    command = [sys.executable, "-m", "migrator", "--root", str(image)]
    done = subprocess.run(command, check=False, **streams)  # type: ignore[call-overload]
    os.close(theirs)
    os.close(ours)

    assert 2 == done.returncode


SLOW = """
import sys, time
from pathlib import Path
from migrator.engine import Progress
from migrator.journal import Journal, Run
from migrator.live import LiveView
from migrator.plan_steps import PlannedStep
from migrator.records import Kind
directory = Path(sys.argv[1]) / "20261122T163131Z-f7b5f178"
directory.mkdir()
run = Run(directory)
journal = Journal(run, "boot")
steps = tuple(PlannedStep(id=f"step-{n:02}", kind="guard", why="because " * 20, params={}) for n in range(1, 21))
print("before")
view = LiveView(run, steps, lambda: "kubelet.service inactive", lambda question: "wait", {})
with view as voice:
    for index, step in enumerate(steps, start=1):
        voice.tell(Progress(verb="apply", index=index, total=20, step=step))
        journal.write(Kind.APPLYING, step.id)
        voice.say(f"[{index}/20 gone] something long that is said " + "word " * 20)
        while not (Path(sys.argv[1]) / f"go-{index}").exists() and index in (2, 19):
            time.sleep(0.05)
        voice.tell(Progress(verb="done", index=index, total=20, step=step))
print("after")
"""


def test_the_live_view_survives_a_resize_and_leaves_the_first_screen_as_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    with Screens(tmp_path, command, env={"PYTHONPATH": str(HERE)}) as terminal:
        shown = terminal.until(
            "evicted  2 of 20 pods", "services kubelet.service inactive", "journal  applying step-02"
        )
        assert "  [x] step-01\n  [>] step-02\n  [ ] step-03\n" in shown
        assert "before" not in shown
        for columns, lines in ((50, 14), (120, 40), (80, 24)):
            terminal.resize(columns, lines)
            before = terminal.screen().split("\n")[0]

            def fits_again() -> bool:
                first, *_, last = shown = terminal.screen().rstrip("\n").split("\n")
                return (
                    first.startswith("run 20261122T163131Z-f7b5f178  ")
                    and first != before  # noqa: B023 - called at once
                    and last == "Ctrl-C stops at the next record; nothing is lost."
                    and len(shown) == min(31, lines)  # noqa: B023
                )

            terminal.wait(fits_again, f"the view in {columns}x{lines}")
        (tmp_path / "go-2").touch()
        assert "[>] step-19" in terminal.until("journal  applying step-19")
        (tmp_path / "go-19").touch()
        terminal.ended(0)
        shown = terminal.screen()

    assert shown.startswith("before\n  [13/20 gone] something long")
    assert "\nafter\nended 0" in shown


def test_a_file_of_answers_is_what_enter_gives(image: Path) -> None:
    answers = image.parent / "answers.yaml"
    answers.write_text("format: cgmigrate-answers\nversion: 1\non-failure: stop\napply: yes\nforce: yes\n")
    command = [sys.executable, "-m", "migrator", "--root", str(image), "--answers", str(answers)]
    with Screens(image.parent, command, env={"PYTHONPATH": str(HERE)}) as terminal:
        for question, answer in PATH[:2]:
            terminal.choose(question, answer)
        assert "» stop" in terminal.asked("What if a step fails?")
        terminal.keys("Enter")
        terminal.choose("What now?", "write")
        terminal.choose("Write them?", "write")
        terminal.ended(0)
    # What does not matter here decides nothing.
    assert '"force": false' in (image.parent / "plan.json").read_text()


def test_the_last_word_is_never_taken_from_a_file(image: Path) -> None:
    answers = image.parent / "answers.yaml"
    answers.write_text("format: cgmigrate-answers\nversion: 1\napply: yes\n")
    command = [sys.executable, "-m", "migrator", "--root", str(image), "--answers", str(answers)]
    with Screens(image.parent, command, env={"PYTHONPATH": str(HERE)}) as terminal:
        for question, answer in PATH[:-1]:
            terminal.choose(question, answer)
        assert "» no" in terminal.asked(PATH[-1][0])
        terminal.keys("C-c")
        terminal.choose("What now?", "quit")
        terminal.ended(0)


def test_a_hostile_name_steers_nothing_where_questions_are_drawn(image: Path) -> None:
    (image / "etc/hostname").write_bytes(f"plant{EVIL}".encode("utf-8", "surrogateescape"))
    words = ["/usr/bin/env", "TERM=xterm", sys.executable, "-m", "migrator", "--root", str(image)]
    answers = [
        (b"Look at this node now?", b"\r"),
        (b"(Enter: quit)", b"\x1b[A\x1b[A\x1b[A\r"),
        (b"(Enter: rollback)", b"\r"),
        (b"(Enter: show)", b"\x03"),
    ]
    code, said = typed(words, answers)

    assert (130, True) == (code, "plant\\x1b[2J" in said), said
    assert [] == re.findall(r"\x1b\][0-9]+;|\x9b|[\u202e\u200b\u3164]", said)
