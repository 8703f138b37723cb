# SPDX-License-Identifier: Apache-2.0
"""The guided path on a cluster's nodes: a budget in the drain, Ctrl-C there, and the last word on the control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.screens import Screens

from .cluster import Cluster
from .cycle import files
from .node import Node
from .test_cluster_refused import unchanged, workload
from .test_cluster_run import ADMIN, is_schedulable
from .test_wizard import ENVIRONMENT

pytestmark = pytest.mark.timeout(2400)


def wizard(node: Node, folder: Path, *options: str) -> Screens:
    return Screens(folder, ["cgmigrate", *options], into=node.enter([]), env=ENVIRONMENT)


def to_the_choices(terminal: Screens) -> None:
    terminal.choose("Look at this node now?", "look")
    terminal.choose("Go on all the same?", "go-on")


def test_ctrl_c_in_a_drain_that_a_budget_holds_is_taken_back_from_the_next_start(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.give_admin("w1", ADMIN)
    w1 = cluster.nodes["w1"]
    with workload(cluster, "strict"), unchanged(cluster, w1):
        with wizard(w1, tmp_path, "--kubeconfig", ADMIN) as terminal:
            to_the_choices(terminal)
            terminal.type("How long may the drain take?", "900")
            terminal.type("after the switch?", "")
            terminal.choose("Change kubeadm's ConfigMap of the kubelets too?", "no")
            terminal.choose("What if a step fails?", "rollback")
            terminal.choose("What while a budget keeps a pod from being evicted?", "wait")
            terminal.choose("What now?", "apply")
            assert "evicted before that" in terminal.everything()
            terminal.choose("to w1 now?", "yes")
            terminal.drawn("[>] drain")
            terminal.until("\nevicted  ")
            terminal.keys("C-c")
            assert "stopped by SIGINT" in terminal.ended(7)
        assert not is_schedulable(cluster, "w1")

        with wizard(w1, tmp_path) as terminal:
            terminal.choose("A run was left in the middle.", "rollback")
            terminal.until("(y/N, Enter: no)")
            terminal.keys("y")
            terminal.ended(0)


def test_the_control_plane_is_agreed_to_with_its_name_and_with_nothing_else(
    cluster: Cluster, tmp_path: Path
) -> None:
    cp1 = cluster.nodes["cp1"]
    before = files(cp1)
    with wizard(cp1, tmp_path) as terminal:
        to_the_choices(terminal)
        terminal.type("after the switch?", "")
        terminal.choose("Change kubeadm's ConfigMap of the kubelets too?", "no")
        terminal.choose("What if a step fails?", "rollback")
        for wrong in ("yes", "w1", ""):
            terminal.choose("What now?", "apply")
            terminal.until("type cp1 to agree, Enter: no", after="to cp1 now?")
            terminal.keys(wrong, "Enter") if wrong else terminal.keys("Enter")
            terminal.asked("What now?")
        assert before == files(cp1)
        terminal.choose("What now?", "quit")
        assert "The API server of this node is away meanwhile." in terminal.ended(0)
    assert before == files(cp1)
