# SPDX-License-Identifier: Apache-2.0
"""A report as text of 80 columns; what would break by folding (a command, a path, a line of a diff) stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from unicodedata import combining, east_asian_width

from migrator.checks.base import plural
from migrator.report.model import Entry, Json, Outage, Report
from migrator.terminal import plain
from migrator.trees import Branch, short

WIDTH = 80


def render(report: Report) -> str:
    """Return the text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield from _fold(report.title)
    yield from _fold(f"{report.status.upper()}: {report.summary}")
    for line in report.reason.split("\n") if report.reason else ():
        yield from _fold(line, 2)
    yield from _section("Missing in this report", (_item(each) for each in report.missing))
    failed = (_item(f"{each.step}: {each.error}") for each in report.failed)
    yield from _section("What the way back could not do", failed)
    yield from _section("Left to do by hand", ([f"  {plain(each)}"] for each in report.left))
    yield from _section("What", [_what(report)])
    if report.verdict:
        reasons = (_item(each) for each in report.reasons)
        yield from _section(f"Why (the audit's recommendation: {report.verdict})", reasons)
    none = (
        "none: the kubelet was not stopped"
        if report.outages is not None
        else "not known: what would tell is missing or damaged"
    )
    outages = map(_outage, report.outages) if report.outages else [_fold(none, 2)]
    yield from _section("Outage (kubelet stopped until healthy)", outages)
    yield from _section(
        "Changed files", (_change(each.name, each.state, each.diff) for each in report.changes)
    )
    yield from _section("Timeline (UTC)", map(_entry, report.timeline))
    yield from _section("Cgroup tree before", map(_branch, report.tree_before))
    yield from _section("Cgroup tree after, as verification saw it", map(_branch, report.tree_after))
    yield from _section("Verification", [_verification(report)])
    moves = (
        _item(f"{row['namespace']}/{row['name']}: {'evicted' if row['goes'] else 'stays'} ({row['why']})")
        for row in report.moves
    )
    yield from _section("Drain", moves)
    yield from _section("Findings of the audit", map(_finding, report.findings))
    yield from _section(
        "What a rollback does not bring back", (_item(each) for each in report.cannot_be_undone)
    )
    yield from _section(
        "What can be done next", ([f"  {plain(each.command)}", *_fold(each.what, 6)] for each in report.next)
    )
    yield ""
    yield from _fold(f"Made by cgmigrate {report.tool} at {report.made}.")


def _section(title: str, parts: Iterable[Iterable[str]]) -> Iterator[str]:
    lines = [line for part in parts for line in part]
    if lines:
        yield ""
        yield plain(title)
        yield "-" * min(len(title), WIDTH)
        yield from lines


def _what(report: Report) -> Iterator[str]:
    node = report.node
    rows = [
        ("run", report.run),
        ("began", report.started),
        ("last record", report.ended),
        ("boots", str(report.boots) if report.boots > 1 else ""),
        (
            "node",
            " ".join(filter(None, [node.name, f"(machine id {node.machine_id})" if node.machine_id else ""])),
        ),
        (
            "system",
            ", ".join(
                filter(None, [node.os, node.kernel, f"cgroups {node.cgroups}" if node.cgroups else ""])
            ),
        ),
        ("systemd", node.systemd),
        ("kubelet", node.kubelet),
        ("runtime", node.runtime),
    ]
    for name, value in rows:
        if value:
            first, *others = _fold(value, 15)
            yield f"  {name:<13}{first[15:]}"
            yield from others


def _outage(outage: Outage) -> list[str]:
    during = "switch" if outage.direction == "forward" else "way back"
    took = "unknown" if outage.seconds is None else f"{outage.seconds} s"
    began = outage.began or "(not known: the node was booted again)"
    return _fold(f"{during}: {took}, from {began} until {outage.ended or '(no end in the record)'}", 2)


def _change(name: str, state: str, diff: str) -> Iterator[str]:
    yield from _fold(f"{name}: {state}", 2)
    for line in diff.removesuffix("\n").split("\n"):
        yield "    " + "\t".join(map(plain, line.split("\t")))


def _entry(entry: Entry) -> Iterator[str]:
    step = ("back: " if entry.direction == "back" else "") + entry.step + ": " if entry.step else ""
    took = f", {entry.seconds} s" if entry.seconds is not None else ""
    ended = f" [{entry.outcome}{took}]" if entry.outcome else ""
    yield from _fold(f"{entry.time}  {step}{entry.what}{ended}", 2, hang=24)
    for line in entry.error.split("\n") if entry.error else ():
        yield from _fold(line, 24)
    for line in entry.said:
        yield from _fold(f"- {line}", 24)


def _branch(branch: Branch) -> list[str]:
    depth = branch.path.count("/")
    name = short(branch.path.rpartition("/")[2])
    return _fold(f"{name}  {branch.what}".rstrip(), 2 * depth)


def _verification(report: Report) -> Iterator[str]:
    proof = report.verification
    if proof is None:
        yield from _fold(report.unverified, 2)
        return
    held = sum(row["ok"] for row in proof["checks"])
    yield from _fold(
        f"{report.proof[1]}: node on {proof['expected']} at {proof['time']}, "
        f"{held} of {plural(len(proof['checks']), 'comparison')} hold (what | cgroupfs says | systemd says):",
        2,
    )
    if report.since:
        yield from _fold(report.since, 2)
    for finding in proof["findings"]:
        yield from _finding(finding)
    for row in sorted(proof["checks"], key=lambda row: bool(row["ok"])):
        said = [row["cgroupfs"], "the same place" if row["systemd"] == row["place"] != "" else row["systemd"]]
        name = f"{row['name']} | {' | '.join(short(each) or '-' for each in said)}"
        yield from _fold(f"{'yes' if row['ok'] else 'NO '}  {name}", 2, hang=7)
        if not row["ok"] and row["place"]:
            yield from _fold(f"at {row['place']}", 7)


def _finding(finding: Json) -> Iterator[str]:
    reference = f", {finding['reference']}" if finding["reference"] else ""
    yield from _item(
        f"{finding['severity']}: {finding['summary']} ({finding['id']}{reference}: {finding['subject']})"
    )
    for line in filter(None, finding["detail"].split("\n")):
        yield from _fold(line, 4)
    if finding["remediation"]:
        yield f"    -> {plain(finding['remediation'])}"


def _item(line: str) -> list[str]:
    return _fold(f"- {line}", 2, hang=4)


def _fold(line: str, indent: int = 0, *, hang: int = 0) -> list[str]:
    """Return a line as lines of at most 80 cells, of words that stay whole."""
    folded = [" " * indent]
    for word in re.findall(r"\s*\S+", plain(line)):
        if folded[-1].strip() and _cells(folded[-1] + word) > WIDTH:
            folded.append(" " * (hang or indent))
        folded[-1] += word if folded[-1].strip() else word.lstrip()
    return folded if line.strip() else [""]


def _cells(line: str) -> int:
    """Return how wide a terminal shows a line: two cells for what is wide, none for a mark on what is before it."""
    return (
        len(line)
        if line.isascii()
        else sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in line)
    )
