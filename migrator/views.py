# SPDX-License-Identifier: Apache-2.0
"""What an operator reads: first the outcome, then what stands in the way, then the rest, then what to do next.

Everything that comes from the node goes through `plain`, so no byte of it can steer the terminal. On a terminal, text is
wrapped and coloured (unless NO_COLOR is set), and what is a table or a tree is drawn as one, unless nothing may be drawn;
elsewhere each statement is one line, for grep. rich is imported late: a command that shows no view does not pay for it.
`width` is in columns, the terminal's own by default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from migrator.audit import Audit
from migrator.checks.base import plural, where
from migrator.checks.recommend import Verdict
from migrator.checks.services import is_configuration
from migrator.console import SEVERITY_STYLE, blank, console_on, draws, say, table, trees
from migrator.drain import DrainOptions, Move, preview
from migrator.facts.model import Driver, Facts, Tree, Unit
from migrator.findings import Finding, Severity
from migrator.plan_table import Translation
from migrator.terminal import plain
from migrator.trees import before_and_after

if TYPE_CHECKING:
    from rich.console import Console

_HEADING = {Severity.BLOCKER: "Blockers", Severity.WARNING: "Warnings", Severity.INFO: "For information"}
_VERDICT_STYLE = {
    Verdict.MIGRATE: "bold yellow",
    Verdict.OPTIONAL: "bold cyan",
    Verdict.STAY: "bold green",
    Verdict.ALREADY_MIGRATED: "bold green",
    Verdict.NOT_APPLICABLE: "bold magenta",
}
_NEXT = {
    Verdict.MIGRATE: "cgmigrate plan -o plan.json",
    Verdict.OPTIONAL: "if you decide to move: cgmigrate plan -o plan.json; if not, nothing",
    Verdict.STAY: "nothing: leave the driver as it is",
    Verdict.ALREADY_MIGRATED: "cgmigrate verify proves it from two sides",
    Verdict.NOT_APPLICABLE: "nothing to do with this tool on this node",
}
_DIFF_STYLE = {"+": "green", "-": "red", "@": "cyan"}
_SHORT_ID = 12
_STEPS = 80
"""Columns from which on a step stands beside its reason."""


def render_audit(audit: Audit, stream: TextIO, width: int | None = None) -> None:
    """Write the view of an audit."""
    console = console_on(stream, width)
    verdict = audit.recommendation.verdict
    blockers = sum(finding.severity is Severity.BLOCKER for finding in audit.findings)
    decided = audit.recommendation.decided
    said = verdict.value if decided else f"not decided ({verdict.value} for now)"
    outcome = f"Recommendation: {said}" + (f", {plural(blockers, 'blocker')} in the way" if blockers else "")
    say(console, 0, outcome, _VERDICT_STYLE[verdict] if decided else "bold magenta")
    for reason in audit.recommendation.reasons:
        say(console, 2, f"- {reason}")
    blank(console)
    _sides(console, audit)
    _findings(console, audit.findings)
    cluster = audit.facts.cluster
    moves = preview(cluster, DrainOptions()) if cluster is not None and cluster.reached else ()
    _moves(console, moves)
    _trees(console, audit.facts.cgroups.trees)
    _translations(console, audit.translations, moves)
    blank(console)
    following = (
        _NEXT[verdict] if decided else "find the driver that is not known, then run cgmigrate audit again"
    )
    if blockers:
        following = "settle the blockers above, then run cgmigrate audit again"
    say(console, 0, f"Next: {following}", "bold")


def render_findings(findings: Iterable[Finding], stream: TextIO, width: int | None = None) -> None:
    """Write findings under headings, blockers first."""
    _findings(console_on(stream, width), findings)


def render_moves(moves: Sequence[Move], stream: TextIO, width: int | None = None) -> None:
    """Write what a drain does to each pod: goes, stays, or is held, why, and what it loses."""
    _moves(console_on(stream, width), moves)


def render_translations(
    rows: Sequence[Translation], stream: TextIO, width: int | None = None, moves: Collection[Move] = ()
) -> None:
    """Write the table *from -> to*, pod by pod, or draw the tree as it is and as it will be; container ids are shortened.

    The pods of `moves` that go are in the second tree no more.
    """
    _translations(console_on(stream, width), rows, moves)


def render_steps(rows: Sequence[tuple[str, str]], stream: TextIO, width: int | None = None) -> None:
    """Write steps with the reason of each, in order."""
    console = console_on(stream, width)
    numbered = [(f"{number:3}.", *row) for number, row in enumerate(rows, start=1)]
    if draws(console, _STEPS):
        table(console, [("", row) for row in numbered])
        return
    for number, step, why in numbered:
        say(console, 0, f"{number} {step}")
        say(console, 5, why)


def render_diff(diff: str, stream: TextIO, width: int | None = None) -> None:
    """Write a unified diff, one line per line; it must be masked already."""
    console = console_on(stream, width)
    for line in diff.removesuffix("\n").split("\n"):
        style = "bold" if line.startswith(("+++", "---")) else _DIFF_STYLE.get(line[:1], "")
        say(console, 0, line, style, whole=True, tabs=True)


def _sides(console: Console, audit: Audit) -> None:
    facts = audit.facts
    rows = [
        (
            "node",
            facts.node.hostname or "unknown",
            f"{facts.node.os or 'unknown system'}, "
            f"kernel {facts.node.kernel or 'unknown'}, cgroups {facts.node.cgroup_mode}, "
            + (
                f"systemd {facts.node.systemd_version or 'of unknown version'}"
                if facts.node.init_systemd
                else "no systemd"
            )
            + f", {facts.node.distribution}",
        ),
        (
            "kubelet",
            *_side(
                facts.kubelet.driver,
                facts.kubelet.driver_running,
                facts.kubelet.version,
                unexplained=_unexplained(facts, "kubelet"),
            ),
        )
        if facts.kubelet.present
        else ("kubelet", "absent", ""),
        (
            f"runtime {facts.runtime.kind}",
            *_side(
                facts.runtime.driver,
                facts.runtime.driver_reported,
                facts.runtime.version,
                facts.runtime.shim,
                unexplained=_unexplained(facts, "runtime"),
            ),
        ),
    ]
    if facts.kubelet.decides == "runtime":
        rows[1] = (
            "kubelet",
            facts.runtime.driver.value or "unknown",
            "takes the driver from the runtime"
            + (f", version {facts.kubelet.version}" if facts.kubelet.version else ""),
        )
    if draws(console):
        table(console, [("", row) for row in rows], indent=2)
        return
    first, second = (max(len(plain(row[column])) for row in rows) for column in (0, 1))
    for a, b, c in rows:
        say(console, 2, f"{plain(a):<{first}}  {plain(b):<{second}}  {plain(c)}".rstrip())


def _side(
    driver: Driver, running: Driver, version: str | None, shim: str = "", *, unexplained: str
) -> tuple[str, str]:
    said = [unexplained if driver.value is None else f"decided by {where(driver.decided_by)}"]
    if running.value is not None and running.value != driver.value:
        said.append(f"RUNS WITH {running.value}")
    said += [f"version {version}"] if version else []
    said += [f"through {shim}"] if shim else []
    return driver.value or "unknown", ", ".join(said)


def _unexplained(facts: Facts, side: str) -> str:
    """Return why a side's driver is unknown: the file that hides it, its own before one that may be of either side."""
    kubelet, runtime = facts.kubelet, facts.runtime
    files = {
        "kubelet": {kubelet.config_file, *_unit_files([kubelet.unit] if kubelet.unit else [])},
        "runtime": {runtime.config_file, *runtime.imports, *_unit_files(runtime.units)},
    }
    own = files.pop(side)
    (others,) = files.values()
    hidden = [each for each in facts.unknowns if is_configuration(each) and each.subject not in others - own]
    for each in sorted(hidden, key=lambda each: each.subject not in own):
        return f"{each.subject}:{each.line} cannot be used" if each.line else f"{each.subject} cannot be used"
    reasons = (each.reason for each in facts.unknowns if each.subject == f"{side}.driver")
    return next(reasons, "no source of it was found")


def _unit_files(units: Iterable[Unit]) -> set[str]:
    return {path for unit in units for path in (unit.fragment, *unit.drop_ins)}


def _findings(console: Console, findings: Iterable[Finding]) -> None:
    found = tuple(findings)
    for severity in Severity:
        these = [finding for finding in found if finding.severity is severity]
        if not these:
            continue
        blank(console)
        say(console, 0, f"{_HEADING[severity]} ({len(these)})", SEVERITY_STYLE[severity])
        for each in these:
            reference = f" [{each.reference}]" if each.reference else ""
            say(console, 2, f"{each.summary}", "bold" if severity is Severity.BLOCKER else "")
            say(console, 4, f"{each.id}{reference}: {each.subject}", "dim")
            if each.detail:
                say(console, 4, each.detail)
            if each.remediation:
                say(console, 4, f"-> {each.remediation}", "green", whole=True)


def _trees(console: Console, found: Sequence[Tree]) -> None:
    """Write one line per tree and content: on cgroup v1 a dozen hierarchies say the same."""
    if not found:
        return
    blank(console)
    say(console, 0, "Cgroup trees", "bold")
    same: dict[tuple[str, str, int, int], list[str]] = {}
    for each in found:
        same.setdefault((each.path, each.driver, each.directories, each.populated), []).append(each.mount)
    for (path, driver, directories, populated), mounts in sorted(same.items()):
        contents = f"{plural(directories, 'directory')}, {populated} with processes"
        say(console, 2, f"{path} ({driver}): {contents}; in {', '.join(sorted(mounts))}")


def _translations(console: Console, rows: Sequence[Translation], moves: Collection[Move]) -> None:
    if not rows:
        return
    pods = len({row.pod_uid for row in rows})
    containers = sum(row.kind == "container" for row in rows)
    blank(console)
    count = f"{plural(pods, 'pod')}, {plural(containers, 'container')}"
    if draws(console, 0):
        say(console, 0, count, "bold")
        blank(console)
        before, after = before_and_after(rows, {(move.namespace, move.name) for move in moves if move.goes})
        sides = [("As it is", before), ("With the systemd driver (new containers, new ids)", after)]
        trees(console, sides if before != after else [("As it is, and stays", before)])
        return
    say(console, 0, f"{count}: from -> to", "bold")
    for _, group in groupby(rows, key=lambda row: (row.namespace, row.pod, row.pod_uid)):
        these = list(group)
        first = these[0]
        say(console, 2, f"{first.namespace}/{first.pod}" if first.pod else f"pod {first.pod_uid}", "bold")
        pod = next((row for row in these if row.kind == "pod"), None)
        for row in these:
            if row.kind == "pod":
                say(console, 4, row.from_path)
                say(console, 4, f"-> {row.to_path}", "green")
                continue
            say(console, 4, _container(row, pod))


def _moves(console: Console, moves: Sequence[Move]) -> None:
    if not moves:
        return
    going = sum(move.goes for move in moves)
    blank(console)
    say(console, 0, f"Drain: {plural(going, 'pod')} of {len(moves)} would be evicted", "bold")
    for move in moves:
        say(console, 2, f"{move.namespace}/{move.name}: {_fate(move)}", "red" if move.needs else "")


def _fate(move: Move) -> str:
    """Return one pod's fate, with the option that decides it."""
    if move.needs:
        said = f"holds the drain ({move.why}); {' '.join(move.needs)} would override"
    elif not move.goes:
        return f"stays ({move.why})"
    else:
        said = f"evicted ({move.why})"
    losses = ["gone for good"] if move.lost else []
    losses += ["its emptyDir data is deleted"] if move.data_deleted else []
    said += f"; {', '.join(losses)}" if losses else ""
    return said + (f"; BLOCKED now by the budget {move.budget}" if move.budget else "")


def _container(row: Translation, pod: Translation | None) -> str:
    """Return a container's row; below its pod's paths only what differs is worth reading."""
    before, after = row.from_path, row.to_path
    if pod and before.startswith(f"{pod.from_path}/"):
        before = before[len(pod.from_path) + 1 :]
    if pod and after.startswith(f"{pod.to_path}/"):
        after = after[len(pod.to_path) + 1 :]
    short = row.container_id[:_SHORT_ID]
    name = row.container or short
    if row.container_id:
        before, after = (path.replace(row.container_id, short) for path in (before, after))
    return f"{name}: {before} -> {after}" if before != after else f"{name}: {before}"
