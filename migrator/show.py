# SPDX-License-Identifier: Apache-2.0
"""What the commands show: results on stdout, the progress of a run on stderr. Text from the node is never raw."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from migrator.console import console_on, draws, table
from migrator.drain import Move
from migrator.findings import Finding, Severity
from migrator.plan_table import Translation
from migrator.records import RunState, Status
from migrator.terminal import note as note  # noqa: PLC0414 - the commands tell with it, beside what they show
from migrator.terminal import plain, wrap
from migrator.views import (
    render_audit,
    render_diff,
    render_findings,
    render_moves,
    render_steps,
    render_translations,
)

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.audit import Audit
    from migrator.engine import Progress
    from migrator.facts.kubelets import NodeDriver
    from migrator.facts.model import KubeletConfigMap
    from migrator.questions import Question
    from migrator.session import Voice
    from migrator.verify import Verification

_STATUS_STYLE = {Status.COMMITTED: "green", Status.ROLLED_BACK: "cyan", Status.DIRTY: "bold red"}
_STATUS_AND_TIME = 36
"""Columns that a run takes besides its name."""


def _out(line: str = "", *, whole: bool = False) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not whole else sys.maxsize
    sys.stdout.write("".join(f"{piece}\n" for piece in wrap(plain(line), width)))


def outcome(line: str, *, whole: bool = False) -> None:
    """Tell on stdout how a run ended; it has ended so whether or not anybody listens. A command to copy stays `whole`."""
    try:
        _out(line, whole=whole)
        sys.stdout.flush()
    except ValueError:
        pass
    except OSError:  # what was not taken would be tried again at the end, and decide the exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def audit_view(found: Audit) -> None:
    """Show an audit."""
    render_audit(found, sys.stdout)


def plan_view(document: Mapping[str, Any]) -> None:
    """Show a plan: outcome, steps, diffs, what moves where, what cannot be undone."""
    steps = document["steps"]
    if document["scope"] == "cluster":
        _cluster_plan(steps)
        return
    if not steps:
        _out(f"{document['node']}: nothing to do ({document['recommendation']['verdict']})")
        for reason in document["recommendation"]["reasons"]:
            _out(f"  - {reason}")
        return
    files = [step for step in steps if step["kind"] == "write-file"]
    back = [step for step in steps if step["params"].get("direction") == "back"]
    switches = any(step["kind"] == "stop-unit" for step in steps)
    aim = f"{document['from']} → {document['to']}" if switches else "host files name the new cgroups"
    _out(
        f"{document['node']}: {aim} in {len(steps) - len(back)} steps"
        f" ({len(files)} files change; {len(back)} more steps act only on the way back)"
    )
    _out()
    later = dict.fromkeys(document["deferred"], " (first boot)")
    render_steps([(f"{step['id']}{later.get(step['id'], '')}", step["why"]) for step in steps], sys.stdout)
    for step in (*files, *(each for each in steps if each["kind"] == "cluster-config")):
        _out()
        if real := step["params"].get("real_path"):
            _out(f"{step['params']['path']} leads to {real}, which is what is written:")
        render_diff(step["params"]["diff"], sys.stdout)
    moves = [Move(**row) for row in document["moves"]]
    if moves:
        _out()
        render_moves(moves, sys.stdout)
    if document["translations"]:
        _out()
        render_translations([Translation(**row) for row in document["translations"]], sys.stdout, moves=moves)
    if document["findings"]:
        _out()
        findings = [
            Finding(**{**finding, "severity": Severity(finding["severity"])})
            for finding in document["findings"]
        ]
        render_findings(findings, sys.stdout)
    if document["cannot_be_undone"]:
        _out()
        _out("Cannot be undone:")
    for line in document["cannot_be_undone"]:
        _out(f"  - {line}")


def _cluster_plan(steps: Sequence[Mapping[str, Any]]) -> None:
    if not steps:
        _out("nothing to do: the ConfigMap says systemd already")
    for step in steps:
        _out(f"{step['id']}: {step['why']}")
        _out()
        render_diff(step["params"]["diff"], sys.stdout)


def cluster_view(
    found: KubeletConfigMap,
    gives: str,
    consequences: Callable[[str, tuple[NodeDriver, ...]], list[str]],
    nodes: tuple[NodeDriver, ...],
) -> None:
    """Show what the ConfigMap says, each node's own driver, and what kubeadm makes of them, now and after the change.

    `gives` is the driver that kubeadm writes for the ConfigMap as it is, also where that states none.
    """
    _out(f"ConfigMap kube-system/{found.name}: cgroupDriver {found.driver or 'not stated'}")
    for title, driver in (("As it is now", gives), ("After the change", "systemd")):
        if title != "As it is now" and found.driver == "systemd":
            continue
        _out()
        _out(f"{title}:")
        for line in consequences(driver, nodes):
            _out(f"  - {line}")
    _out()


def voice(given: Mapping[str, str] | None = None, *, ask: bool = False) -> Voice:
    """Return the teller of a run: one line a step, its progress indented, on stderr.

    What is not answered in advance it may `ask` on a terminal.
    """
    from migrator import prompts  # noqa: PLC0415 - late
    from migrator.session import Voice  # noqa: PLC0415 - late: a view needs no engine

    start = time.monotonic()

    def say(line: str) -> None:
        note(f"         {line}")

    def tell(progress: Progress) -> None:
        at = f"{time.monotonic() - start:6.1f}s  "
        place = f"[{progress.index:2}/{progress.total}]"
        match progress.verb:
            case "apply" if progress.step.params.get("direction") == "back":
                pass  # it has its part in a rollback
            case "apply":
                note(f"{at}{place} {progress.step.id}: {progress.step.why}")
            case "revert":
                note(f"{at}{place} back: {progress.step.id}")
            case "skip":
                note(f"{at}{place} {progress.step.id}: done already")
            case "defer":
                note(f"{at}{place} {progress.step.id}: left to the first boot")
            case "done":
                pass
            case _:
                note(f"{at}{place} {progress.step.id}: FAILED: {progress.message}")

    def choose(question: Question) -> str:
        if answer := (given or {}).get(question.key):
            return answer
        return prompts.ask(question) if ask and prompts.terminal() else question.default

    return Voice(say=say, tell=tell, ask=choose)


def done(run: str, document: Mapping[str, Any], *, root: Path) -> None:
    """Show the summary after a run: what changed, what is left, how to go back; `root` is `/` or the image's directory."""
    live = str(root) == "/"
    files = [step["params"]["path"] for step in document["steps"] if step["kind"] == "write-file"]
    if document["scope"] == "cluster":
        names = [step["params"]["name"] for step in document["steps"]]
        outcome(f"changed: ConfigMap {', '.join(names)}")
        outcome(f"  way back: cgmigrate rollback {run}")
        return
    steps = document["steps"]
    outcome(
        f"{document['node']}: the files name the cgroups of {document['to']}; no pod was touched"
        if all(step["kind"] != "stop-unit" for step in steps)
        else f"{document['node']} is on {document['to']}; verified by cgroupfs and systemd"
        if live
        else f"{document['node']}: the image's files say {document['to']}"
    )
    outcome(f"  changed: {', '.join(files)}")
    if units := sorted({unit for step in steps for unit in step["params"].get("restart", ())}):
        outcome(
            f"  left to you: what has read a changed file goes on with the old one: systemctl restart {shlex.join(units)}"
        )
    if document["options"]["already_drained"]:
        outcome("  left to you: uncordon it where you drained it")
    if not live:
        back = {step["id"] for step in document["steps"] if step["params"].get("direction") == "back"}
        left = [each for each in document["deferred"] if each not in back]
        outcome(f"  left to the first boot: {', '.join(left)}")
    image = () if live else ("--root", str(root))
    outcome(f"  way back: {shlex.join(('cgmigrate', 'rollback', run, *image))}", whole=True)


def verification_view(result: Verification, *, witnesses: bool = False) -> None:
    """Show a verification; `witnesses`: and before that what both witnesses said, also where nothing may be drawn."""
    from migrator.verify.view import write  # noqa: PLC0415 - late

    write(result, sys.stdout, witnesses=witnesses)


def status_view(found: Sequence[tuple[str, RunState | None]], worker: str) -> None:
    """Show all runs, oldest first, and what to do about an open one; no state: its journal is damaged."""
    drawn = bool(found) and sys.stdout.isatty() and _runs(found)
    if not found:
        _out("no runs on this node")
    for name, state in found:
        if state is None:
            _out(f"{name}  damaged journal; the saved files are in /var/lib/cgmigrate/runs/{name}/blobs")
            continue
        if not drawn or state.reason or state.failed or state.unwell or state.left:
            _out(f"{name}  {state.status}" + (f"  ({state.reason})" if state.reason else ""))
        for step, error in (state.failed | state.unwell).items():
            _out(f"    {step}: {error}")
        for command in state.left:
            _out(f"    was left to do by hand: {command}")
    if worker:
        _out(f"in progress: process {worker}")
    elif any(state is not None and not state.status.settled for _, state in found):
        _out("open: `cgmigrate resume` goes on, `cgmigrate rollback` goes back")


def _runs(found: Sequence[tuple[str, RunState | None]]) -> bool:
    """Draw the runs as a table, and tell whether there was room for it: a run's name stays whole, to be copied."""
    console = console_on(sys.stdout)
    if not draws(console, max(len(plain(name)) for name, _ in found) + _STATUS_AND_TIME):
        return False
    rows = [
        (_STATUS_STYLE.get(state.status, "yellow"), (name, state.status, state.ended))
        if state
        else ("bold red", (name, "damaged", ""))
        for name, state in found
    ]
    table(console, rows, ("run", "status", "last record"))
    return True
