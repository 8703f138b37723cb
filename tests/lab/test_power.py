# SPDX-License-Identifier: Apache-2.0
"""Power is cut in the middle of a run: the guard keeps the units down on the next boot, and the run is settled then."""

from __future__ import annotations

import json
import time

import pytest

from .conftest import MakeNode
from .cycle import PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, files
from .node import Node
from .test_killed import journal

CUTS = [
    ("docker", "remove-sandboxes", "rollback"),
    ("docker", "write-file:/etc/docker/daemon.json", "resume"),
    ("docker", "wait-healthy", "rollback"),
    ("containerd", "remove-sandboxes", "resume"),
    ("containerd", "start-unit:containerd", "rollback"),
    ("containerd", "wait-healthy", "resume"),
]


@pytest.mark.parametrize(("flavour", "step", "then"), CUTS, ids=["-".join(cut) for cut in CUTS])
def test_a_power_cut_is_survived(make_node: MakeNode, flavour: str, step: str, then: str) -> None:
    node = make_node(flavour)
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    process = node.popen(["cgmigrate", "apply", PLAN, "--yes"])
    while ("applying", step) not in journal(node):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    node.power_cut()
    process.communicate(timeout=60)
    node.boot()

    assert_held_down(node, flavour)
    assert "open:" in cgmigrate(node, "status", check=7).stdout

    if then == "resume":
        cgmigrate(node, "resume")
        assert_on_systemd(node)
        assert json.loads(cgmigrate(node, "verify", "--format", "json").stdout)["ok"]
        cgmigrate(node, "rollback", "--yes")
    else:
        cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


def assert_held_down(node: Node, runtime: str) -> None:
    """Neither unit runs, and neither can be started, whoever asks."""
    for unit in ("kubelet", runtime):
        node.run(["systemctl", "start", unit], check=False)
        assert "inactive" == node.run(["systemctl", "is-active", unit], check=False).stdout.strip(), unit
