# SPDX-License-Identifier: Apache-2.0
"""A signal comes in each step of a run on a live node, forward and back; the run stops open and goes on where it was."""

from __future__ import annotations

import itertools
import json
import signal
import time

import pytest

from .cycle import PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, files
from .node import Node
from .test_killed import journal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.slow
def test_a_signal_in_each_step_leaves_a_run_that_goes_on(node: Node) -> None:
    """One run each way, stopped once in each step: no stop costs an attempt that a later one needs."""
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    steps = [step["id"] for step in json.loads(node.read(PLAN))["steps"]]

    for (begun, done), command, order, settled in (
        (("applying", "applied"), ("apply", PLAN, "--yes"), steps, assert_on_systemd),
        (("reverting", "reverted"), ("rollback", "--yes"), steps[::-1], assert_on_cgroupfs),
    ):
        stops = 0
        sending = itertools.cycle(SIGNALS if node.flavour == "docker" else SIGNALS[::-1])
        for step in order:
            # A stop is noticed between two steps, or in a wait: the step before may have ended, and this one begun.
            if (done, step) not in journal(node):
                stops += stopped(node, ("resume",) if stops else command, (begun, step), next(sending))
        if cgmigrate(node, "status", check=None).returncode:
            cgmigrate(node, "resume")
        settled(node)
        assert len(order) * 2 // 3 < stops
    assert original == files(node)


def stopped(node: Node, command: tuple[str, ...], record: tuple[str, str], sent: signal.Signals) -> bool:
    """Send a signal as soon as a record is written once more; tell whether it stopped the run, or came after its end."""
    before = journal(node).count(record)
    process = node.popen(["cgmigrate", *command])
    while journal(node).count(record) == before:
        assert process.poll() is None, (record, process.communicate())
        time.sleep(0.002)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    if process.returncode == 0:
        assert record[1] in ("guard", "release-guard"), errors
        return False
    assert 7 == process.returncode, (record, errors)
    assert f"stopped by {sent.name}" in cgmigrate(node, "status", check=7).stdout
    return True
