# SPDX-License-Identifier: Apache-2.0
"""The process is killed in the middle of each step, forward and back; `resume` and `rollback` both end right.

The steps and how long each takes are read from a good run, so a new step is covered by being there.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from .cycle import ALL, PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, files
from .node import Node

RECORDS = {"apply": ("applying", "applied"), "rollback": ("reverting", "reverted")}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_in_the_middle_of_each_step(node: Node) -> None:
    """For each step: killed → resume; killed on the way back → rollback; killed → rollback."""
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    forward = watched(node, "apply", PLAN)
    assert_on_systemd(node)
    back = watched(node, "rollback")
    assert_on_cgroupfs(node)
    steps = [step["id"] for step in json.loads(node.read(PLAN))["steps"]]
    assert steps == list(forward)
    assert list(reversed(steps)) == list(back)

    for number, step in enumerate(steps):
        turn = (number + (node.flavour == "docker")) % 2
        if ALL or turn == 0:
            killed(node, step, forward[step] / 2, "apply", PLAN)
            cgmigrate(node, "resume")
            assert_on_systemd(node)
            killed(node, step, back[step] / 2, "rollback")
            cgmigrate(node, *(["resume"] if number // 2 % 2 else ["rollback", "--yes"]))
            assert_on_cgroupfs(node)
            assert original == files(node), f"killed in {step}, resumed, rolled back"
        if ALL or turn == 1:
            killed(node, step, forward[step] / 2, "apply", PLAN)
            cgmigrate(node, "rollback", "--yes")
            assert_on_cgroupfs(node)
            assert original == files(node), f"killed in {step}, rolled back"


def journal(node: Node) -> list[tuple[str, str]]:
    """Return (kind, step) of the newest run's records, as they are on the node's disk now."""
    runs = sorted((Path(node.root) / "var/lib/cgmigrate/runs").glob("2*"))
    newest = runs[-1] / "journal.jsonl" if runs else None
    lines = newest.read_bytes().splitlines() if newest and newest.exists() else []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        found.append((record["kind"], record["step"]))
    return found


def watched(node: Node, command: str, *arguments: str) -> dict[str, float]:
    """Run to the end and return how many seconds each step took, in their order."""
    begun, ended = RECORDS[command]
    process = node.popen(["cgmigrate", command, *arguments, "--yes"])
    start: dict[str, float] = {}
    took: dict[str, float] = {}
    while process.poll() is None:
        records = journal(node)
        for kind, step in records:
            if kind == begun:
                start.setdefault(step, time.monotonic())
            elif kind == ended and step in start:
                took.setdefault(step, time.monotonic() - start[step])
        time.sleep(0.005)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    for kind, step in journal(node):
        if kind == ended:
            took.setdefault(step, 0.0)
    return took


def killed(node: Node, step: str, after: float, command: str, *arguments: str) -> None:
    """Start the command and kill it `after` seconds into the step (or wherever it is by then)."""
    begun = (RECORDS[command][0], step)
    old = journal(node).count(begun) if command == "rollback" else 0
    runs = node.root / "var/lib/cgmigrate/runs"
    before = {path.name for path in runs.glob("2*")}
    process = node.popen(["cgmigrate", command, *arguments, "--yes"])
    while process.poll() is None:
        fresh = command == "rollback" or {path.name for path in runs.glob("2*")} != before
        if fresh and journal(node).count(begun) > old:
            break
        time.sleep(0.002)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    status = json.loads(cgmigrate(node, "status", "--format", "json", check=None).stdout)[-1]["status"]
    # The last step's record and the run's end are a millisecond apart: killed there, the run may be settled.
    expected = {"apply": ("applying", "committed"), "rollback": ("rolling-back", "rolled-back")}[command]
    assert status == expected[0] or (status == expected[1] and step in ("release-guard", "guard")), status
    if status == "committed":
        assert_on_systemd(node)
