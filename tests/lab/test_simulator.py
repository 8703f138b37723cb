# SPDX-License-Identifier: Apache-2.0
"""The simulator that the crash matrix is played on behaves like a real node: the same plan, the same records, the same end."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from migrator.facts.model import Facts
from migrator.facts.store import load
from migrator.journal import Run
from migrator.plan import Plan, planned_steps
from tests.crash.cases import back, begin_with, forward, machine_from, snapshot
from tests.crash.disk import Fate
from tests.crash.simulator import Machine

from .conftest import MakeNode
from .cycle import PLAN, cgmigrate
from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node
from .test_killed import journal

RUNS = "/var/lib/cgmigrate/runs"


def given(node: Node) -> tuple[Plan, Facts]:
    """Return plan and facts of the node's newest run, with the bytes that were saved for it."""
    run = node.run(f"ls -d {RUNS}/* | tail -1").stdout.strip()
    document = json.loads(node.read(f"{run}/plan.json"))
    names = node.run(f"ls {run}/blobs").stdout.split()
    contents = tuple(node.read(f"{run}/blobs/{name}").encode() for name in names)
    return Plan(document=document, steps=planned_steps(document), contents=contents), load(
        node.read(f"{run}/facts.json")
    )


def simulated(root: Path, originals: dict[str, str], plan: Plan, facts: Facts) -> Machine:
    """Make the same node in the simulator."""
    for path, text in originals.items():
        real = root / path.removeprefix("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text)
    return machine_from(root, plan, facts)


def twin(node: Node, originals: dict[str, str], root: Path) -> tuple[Machine, Run]:
    """Return the simulated node of a real one's newest run, as it was before, and the same run there."""
    plan, facts = given(node)
    machine = simulated(root, originals, plan, facts)
    return machine, begin_with(machine, plan, facts)


def originals_of(node: Node) -> dict[str, str]:
    """Return the files that decide what the node does."""
    manifests = node.run("ls /etc/kubernetes/manifests/*.yaml", check=False).stdout.split()
    return {path: node.read(path) for path in (KUBELET_CONFIG, RUNTIME_CONFIG[node.flavour], *manifests)}


def of_node(node: Node, units: list[str]) -> dict[str, Any]:
    """Return what can be compared of the real node."""
    paths = {path for path in node.cgroups().get("memory", ()) if "kubepods" in path}
    guard = node.run("ls /etc/systemd/system/*.d/*cgmigrate* /run/cgmigrate", check=False).stdout
    return {
        "files": {path: digest(node.read(path)) for path in (KUBELET_CONFIG, RUNTIME_CONFIG[node.flavour])},
        "units": {
            unit: node.run(["systemctl", "is-active", unit], check=False).stdout.strip() for unit in units
        },
        "cgroups": {path for path in paths if not re.search(r"[0-9a-f]{64}", path)},
        "guard": bool(guard),
    }


def of_simulator(machine: Machine, paths: list[str]) -> dict[str, Any]:
    """Return the same of the simulated node."""
    found = snapshot(machine)
    prefix = "memory/"
    return {
        "files": {path: digest((machine.root / path.removeprefix("/")).read_text()) for path in paths},
        "units": {name: state for name, (state, _) in found["units"].items()},
        "cgroups": {"/" + each.removeprefix(prefix) for each in found["cgroups"] if each.startswith(prefix)},
        "guard": bool(found["guarded"] or found["run"]),
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def records(run: Run) -> list[tuple[str, str]]:
    return [(record.kind.value, record.step) for record in run.records()]


@pytest.mark.parametrize("flavour", ["docker", "containerd"])
def test_a_real_node_and_a_simulated_one_end_alike(make_node: MakeNode, tmp_path: Path, flavour: str) -> None:
    node = make_node(flavour)
    originals = originals_of(node)
    cgmigrate(node, "plan", "-o", PLAN)
    cgmigrate(node, "apply", PLAN, "--yes")
    machine, run = twin(node, originals, tmp_path / "node")
    paths, units = [KUBELET_CONFIG, RUNTIME_CONFIG[flavour]], list(machine.units)

    assert "done" == forward(machine, run)
    assert journal(node) == records(run)
    assert of_node(node, units) == of_simulator(machine, paths)

    cgmigrate(node, "rollback", "--yes")
    node.wait_pods()
    assert "rolled back" == back(machine, run)
    assert journal(node) == records(run)
    assert of_node(node, units) == of_simulator(machine, paths)


@pytest.mark.parametrize("flavour", ["docker", "containerd"])
@pytest.mark.parametrize("step", ["remove-sandboxes", "wait-healthy"])
def test_they_are_alike_after_a_power_cut_too(
    make_node: MakeNode, tmp_path: Path, flavour: str, step: str
) -> None:
    node = make_node(flavour)
    originals = originals_of(node)
    cgmigrate(node, "plan", "-o", PLAN)
    process = node.popen(["cgmigrate", "apply", PLAN, "--yes"])
    while ("applying", step) not in journal(node):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    node.power_cut()
    process.communicate(timeout=60)
    node.boot()
    machine, run = twin(node, originals, tmp_path / "node")
    paths, units = [KUBELET_CONFIG, RUNTIME_CONFIG[flavour]], list(machine.units)
    fate = Fate()
    assert "done" == forward(machine, run, fate)
    begun = [each for each in run.records() if (each.kind.value, each.step) == ("applying", step)]
    at = [e.number for e in fate.events if e.call == "fsync" and e.what.endswith("journal.jsonl")]
    machine, run = twin(node, originals, tmp_path / "again")

    assert "crashed" == forward(machine, run, Fate(crash_at=at[begun[0].number - 1] + 1))
    machine.cut_power(forget=True)

    assert journal(node) == records(run)
    assert of_node(node, units) == of_simulator(machine, paths)

    cgmigrate(node, "rollback", "--yes")
    node.wait_pods()
    assert "rolled back" == back(machine, run)
    assert journal(node) == records(run)
    assert of_node(node, units) == of_simulator(machine, paths)
