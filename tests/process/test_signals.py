# SPDX-License-Identifier: Apache-2.0
"""TERM, INT and HUP at every fsync of the real command: the record in hand is finished, and the run can go both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.records import decode
from tests.process.command import STATE, Prepared, here, settle, signalled, snapshot, standing

SHARES = 4
MAKING = "/runs/.RUN"
"""Where a run is made, before it is one: no step begins there, and whatever comes is heard at the first."""
SIGNALS = ("TERM", "INT", "HUP")


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("direction", ["apply", "rollback", "resume"])
def test_a_signal_finishes_the_record_in_hand_and_stops(
    prepared: Prepared, tmp_path: Path, direction: str, share: int
) -> None:
    """Each signal in turn; every second time it comes again at the next fsync, which is the operator's second Ctrl-C."""
    wrong = []
    fsyncs = [
        each for each in prepared.effects(direction) if each.call == "fsync" and MAKING not in each.path
    ]
    for index, effect in list(enumerate(fsyncs))[share::SHARES]:
        node, words = prepared.begin(direction, tmp_path / "node")
        name = SIGNALS[index % 3]
        more = f"..{effect.when + 1}" if index % 2 else ""
        done = signalled(effect, name, *words, more=more)
        found = []
        told = standing(node)
        ends = "rolled-back" if direction == "rollback" else "committed"
        if (done.code, told == ends) not in ((7, False), (0, True)):
            found.append(f"exit code {done.code}, and the run is {told}: {done.err}")
        if done.code == 7 and f"stopped by SIG{name}" not in done.err:
            found.append(f"it does not say why: {done.err}")
        if done.crashed:
            found.append(f"crashed: {done.err}")
        if torn(node):
            found.append("the journal's last line is torn")
        found += settle(prepared, node, tmp_path / "resumed")
        wrong += [f"{effect} {name}{more}: {each}" for each in found]

    assert len(fsyncs) > SHARES
    assert not wrong, "\n".join(wrong)


def torn(node: Path) -> bool:
    """Tell whether a journal's last line is not whole."""
    journals = [path.read_bytes() for path in (node / STATE / "runs").glob("*/journal.jsonl")]
    return any(decode(data, "journal")[1] < len(data) for data in journals)


IGNORED = [
    (("nohup",), "HUP", True),
    (("nohup",), "TERM", False),
    (("env", "--ignore-signal=INT"), "INT", True),
    ((), "HUP", False),
]


@pytest.mark.parametrize(("by", "name", "ignored"), IGNORED, ids=[f"{row[0]} {row[1]}" for row in IGNORED])
def test_what_was_ignored_before_it_began_does_not_stop_a_run(
    prepared: Prepared, tmp_path: Path, by: tuple[str, ...], name: str, ignored: bool
) -> None:
    node, words = prepared.begin("apply", tmp_path / "node")
    middle = next(each for each in prepared.forward if each.call == "fsync" and "kubelet" in each.path)

    done = signalled(middle, name, *words, by=by)

    assert ((0, "committed") if ignored else (7, "applying")) == (done.code, standing(node)), done.err


CLOSED = [
    (">/dev/full", "a full disk"),
    ("2>/dev/full", "nothing takes its progress"),
    (">&- 2>&-", "no output"),
    ("<&- >&- 2>&-", "nothing open at all"),
]


@pytest.mark.parametrize("shell", [row[0] for row in CLOSED], ids=[row[1] for row in CLOSED])
def test_ssh_gone_stops_the_run_open_and_no_text_gets_into_a_file(
    prepared: Prepared, tmp_path: Path, shell: str
) -> None:
    """A closed descriptor is given to the next file that is opened, and what is meant for stderr must not go there."""
    node, words = prepared.begin("apply", tmp_path / "node")
    middle = next(each for each in prepared.forward if each.call == "fsync" and "kubelet" in each.path)

    done = signalled(middle, "HUP", *words, shell=shell)

    assert (7, "applying", False) == (done.code, standing(node), torn(node))
    state = json.loads(here("status", "--root", node, "--format", "json").out)
    assert "stopped by SIGHUP; the node is in the middle of a run" == state[0]["reason"]
    assert (node / STATE / "lock").read_text().strip().isdigit()
    assert [] == settle(prepared, node, tmp_path / "resumed")


@pytest.mark.parametrize("shell", [row[0] for row in CLOSED], ids=[row[1] for row in CLOSED])
@pytest.mark.parametrize("direction", ["apply", "rollback"])
def test_without_anybody_listening_a_run_ends_as_ever(
    prepared: Prepared, tmp_path: Path, direction: str, shell: str
) -> None:
    node, words = prepared.begin(direction, tmp_path / "node")
    last = [each for each in prepared.effects(direction) if each.call == "fsync"][-1]

    done = signalled(last, "HUP", *words, shell=shell)

    ends = "committed" if direction == "apply" else "rolled-back"
    assert (0, ends) == (done.code, standing(node)), done.err
    assert prepared.tree(ends) == snapshot(node)
