# SPDX-License-Identifier: Apache-2.0
"""The whole machine dies in each step, forward and back; the guard holds on the next boot, and the run is settled then.

The steps are those of the plan, so a new one is covered by being there. A cut kills every process at once and takes
`/run`, the cgroups and the boot id away. What was written stays, synced or not: the page cache is the host's, and writes
that get lost are the simulated node's part (tests/crash).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from .conftest import MakeNode
from .cycle import ALL, PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, config_files, files
from .node import Node

GROUPS = 3
BEGUN = {"apply": "applying", "rollback": "reverting"}
GUARDS = ("guard", "release-guard")
FLAVOURS = ("docker", "containerd")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_power_cut_is_survived(make_node: MakeNode, flavour: str, group: int) -> None:
    """For each step: cut → rollback; cut → resume, and cut again on the way back, at the step that mirrors it."""
    node = make_node(flavour)
    original, old = files(node), config_files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    steps = [step["id"] for step in json.loads(node.read(PLAN))["steps"]]

    for number in range(group, len(steps), GROUPS):
        step, mirrored = steps[number], steps[-1 - number]
        turn = (number + FLAVOURS.index(flavour)) % 2
        if ALL or turn == 0:
            power_cut(node, step, "apply", PLAN)
            assert_held_down(node, step, old)
            assert "applying" == status(node)
            cgmigrate(node, "rollback", "--yes")
            assert_on_cgroupfs(node)
            assert original == files(node), f"power cut in {step}, rolled back"

        if ALL or turn == 1:
            power_cut(node, step, "apply", PLAN)
            assert_held_down(node, step, old)
            cgmigrate(node, "resume")  # which ends with the plan's own verification
            assert_on_systemd(node)

            power_cut(node, mirrored, "rollback")
            assert_held_down(node, mirrored, old)
            assert "rolling-back" == status(node)
            cgmigrate(node, *(["resume"] if number % 4 < 2 else ["rollback", "--yes"]))
            assert_on_cgroupfs(node)
            assert original == files(node), f"power cut in {step}, resumed; cut on the way back in {mirrored}"


def power_cut(node: Node, step: str, command: str, *arguments: str) -> None:
    """Start the command, take the power away as soon as its record of the step is written, and boot again."""
    runs = node.root / "var/lib/cgmigrate/runs"
    finished = set(runs.glob("2*")) if command == "apply" else set()
    old = len(records(runs, finished))
    init = node.init
    assert init is not None
    process = node.popen(["cgmigrate", command, *arguments, "--yes"])
    while (BEGUN[command], step) not in records(runs, finished)[old:]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)
    os.kill(init, signal.SIGKILL)
    node.power_cut()
    process.communicate(timeout=60)
    node.boot()


def records(runs: Path, finished: set[Path]) -> list[tuple[str, str]]:
    """Return (kind, step) of the newest run that had not finished before; no run, no records."""
    newest = max(set(runs.glob("2*")) - finished, default=None)
    journal = newest / "journal.jsonl" if newest else None
    lines = journal.read_bytes().splitlines(keepends=True) if journal and journal.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(record["kind"], record["step"]) for record in whole]


def status(node: Node, code: int | None = 7) -> str:
    """Return how the newest run stands; `code` is the exit code of telling it: 7 for one that is open, None for any."""
    return str(json.loads(cgmigrate(node, "status", "--format", "json", check=code).stdout)[-1]["status"])


def assert_held_down(node: Node, step: str, old: dict[str, str]) -> None:
    """No unit runs, and none can be started, whoever asks.

    Where the guard itself is being put up or taken away they may run, and then on files of one driver.
    """
    states = []
    for unit in ("kubelet", node.flavour):
        node.run(["systemctl", "start", unit], check=False)
        states.append(node.run(["systemctl", "is-active", unit], check=False).stdout.strip())
    changed = [path for path, text in config_files(node).items() if text != old[path]]
    if step in GUARDS and states != ["inactive", "inactive"]:
        assert changed in ([], list(old)), f"power cut in {step}: {states} on the files of two drivers"
    else:
        assert ["inactive", "inactive"] == states, f"power cut in {step}"
