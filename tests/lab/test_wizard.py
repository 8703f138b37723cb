# SPDX-License-Identifier: Apache-2.0
"""The guided path on real nodes, driven in tmux: the whole way, Ctrl-C, a connection that is lost, and what is offered then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.screens import Screens
from tests.cli.test_wizard import fits

from .cycle import assert_on_cgroupfs, assert_on_systemd, cgmigrate, files
from .node import Node

pytestmark = pytest.mark.timeout(2400)
TO_THE_LAST = (
    ("Look at this node now?", "look"),
    ("Go on all the same?", "go-on"),
    ("What if a step fails?", "rollback"),
    ("What now?", "apply"),
)
LAST = "now?"
ENVIRONMENT = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}


def wizard(node: Node, folder: Path) -> Screens:
    return Screens(folder, ["cgmigrate"], into=node.enter([]), env=ENVIRONMENT)


def begin(terminal: Screens) -> None:
    """Answer every question, the last one too."""
    for question, answer in TO_THE_LAST:
        terminal.choose(question, answer)
    terminal.choose(LAST, "yes")


def test_the_whole_path_with_a_resize_while_it_runs(node: Node, tmp_path: Path) -> None:
    original = files(node)
    with wizard(node, tmp_path) as terminal:
        for question, answer in TO_THE_LAST:
            terminal.choose(question, answer)
            assert original == files(node)
        terminal.choose(LAST, "yes")
        terminal.until("Ctrl-C stops at the next record; nothing is lost.")
        terminal.resize(60, 20)
        terminal.until("\n  [>] ", "\nservices ", "\nCtrl-C stops")
        terminal.wait(lambda: all(len(line) <= 60 for line in terminal.screen().split("\n")), "60 columns")
        terminal.resize(80, 24)
        terminal.drawn("[>] wait-healthy")
        said = terminal.ended(0)
    assert [] == fits(said, 80)
    assert "is on systemd; verified by cgroupfs and systemd" in said
    assert "compared  " in said
    assert "ok: node on systemd" in said
    assert_on_systemd(node)

    with wizard(node, tmp_path) as terminal:
        terminal.choose("Look at this node now?", "look")
        terminal.until("already-migrated", after="Next:")
        terminal.keys("C-c")
        terminal.ended(130)
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


@pytest.mark.parametrize("way", ["resume", "rollback"])
def test_ctrl_c_while_services_restart_is_offered_again(node: Node, tmp_path: Path, way: str) -> None:
    original = files(node)
    with wizard(node, tmp_path) as terminal:
        begin(terminal)
        terminal.drawn("[>] remove-sandboxes")
        terminal.keys("C-c")
        assert "stopped by SIGINT" in terminal.ended(7)
    cgmigrate(node, "status", check=7)

    with wizard(node, tmp_path) as terminal:
        terminal.choose("A run was left in the middle.", way)
        if way == "rollback":
            terminal.until("(y/N, Enter: no)")
            terminal.keys("y")
        terminal.ended(0)
    if way == "resume":
        assert_on_systemd(node)
        cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_a_lost_connection_stops_the_run_where_it_can_go_on(node: Node, tmp_path: Path) -> None:
    original = files(node)
    with wizard(node, tmp_path) as terminal:
        begin(terminal)
        terminal.drawn("[>] remove-sandboxes")
    while "in progress" in (said := cgmigrate(node, "status", check=7).stdout):
        time.sleep(0.5)
    assert "stopped by SIGHUP" in said

    with wizard(node, tmp_path) as terminal:
        terminal.choose("A run was left in the middle.", "rollback")
        terminal.until("(y/N, Enter: no)")
        terminal.keys("y")
        terminal.ended(0)
    assert_on_cgroupfs(node)
    assert original == files(node)
