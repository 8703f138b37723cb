# SPDX-License-Identifier: Apache-2.0
"""Runs to report on, made by the real engine on the simulated node; each is a directory as a node has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from migrator.journal import Run
from tests.crash.cases import VARIANTS, back, begin_with, forward, lay, machine_from, planned
from tests.crash.disk import Fate
from tests.crash.simulator import Machine


def node(name: str, root: Path) -> tuple[Machine, Run]:
    """Make a node, and a run of it that has not begun."""
    lay(root, VARIANTS[name])
    plan, facts = planned(name)
    machine = machine_from(root, plan, facts)
    return machine, begin_with(machine, plan, facts)


def finished(root: Path, name: str = "worker") -> Run:
    machine, run = node(name, root)
    assert "done" == forward(machine, run)
    return run


def taken_back(root: Path) -> Run:
    machine, run = node("docker", root)
    assert "done" == forward(machine, run)
    assert "rolled back" == back(machine, run)
    return run


def failed(root: Path) -> Run:
    """Verification did not hold, and the run went back by itself."""
    machine, run = node("containerd", root)
    machine.pods = machine.pods[1:]
    for each in [each for each in machine.containers.values() if each.pod not in machine.pods]:
        machine.end(each)
        del machine.containers[each.id]
    assert forward(machine, run) in {"rolled back", "dirty"}
    return run


def dirty(root: Path) -> Run:
    """The runtime does not start on the way back."""
    machine, run = node("docker", root)
    assert "done" == forward(machine, run)
    machine.broken["docker.service"] = "down"
    assert "dirty" == back(machine, run)
    return run


def crashed(root: Path) -> Run:
    """Killed when the runtime was to be started with its new file."""
    (root.parent / "good").mkdir()
    machine, run = node("worker", root.parent / "good")
    good = Fate()
    assert "done" == forward(machine, run, good)
    at = next(each.number for each in good.events if (each.call, each.what) == ("start", "docker.service"))
    machine, run = node("worker", root)
    assert "crashed" == forward(machine, run, Fate(crash_at=at))
    return run


def waiting(root: Path) -> Run:
    """Not begun."""
    return node("control-plane", root)[1]


def away(root: Path) -> Run:
    """The API server does not answer on the way back."""
    machine, run = node("worker", root)
    assert "done" == forward(machine, run)
    assert machine.api is not None
    machine.api.away = True
    assert "left" == back(machine, run)
    return run


def unwell(root: Path) -> Run:
    """A static pod that was added after the switch does not run; the way back waits for it in vain."""
    machine, run = node("docker", root)
    assert "done" == forward(machine, run)
    pod = {"kind": "Pod", "metadata": {"name": "late"}, "spec": {"containers": [{"name": "late"}]}}
    (root / "etc/kubernetes/manifests/late.yaml").write_text(json.dumps(pod))
    assert "dirty" == back(machine, run)
    return run


def rebooted(root: Path) -> Run:
    """Power was cut after the kubelet had been healthy, before the guard was released; resumed then."""
    (root.parent / "good").mkdir()
    machine, run = node("docker", root.parent / "good")
    good = Fate()
    assert "done" == forward(machine, run, good)
    at = [each.number for each in good.events if each.call == "reload"][-2]
    machine, run = node("docker", root)
    assert "crashed" == forward(machine, run, Fate(crash_at=at))
    machine.cut_power(forget=False)
    assert "inactive" == machine.units["kubelet.service"].active
    assert "done" == forward(machine, run)
    return run


RUNS: dict[str, Callable[[Path], Run]] = {
    "finished": finished,
    "taken back": taken_back,
    "failed": failed,
    "dirty": dirty,
    "crashed": crashed,
    "not begun": waiting,
}
