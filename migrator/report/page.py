# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML page for a change ticket: it needs no network and no script, prints, and reads in light and dark.

The page is ASCII: whatever carries it cannot garble it.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Sequence

from migrator.checks.base import plural
from migrator.report.markup import Markup, badge, bullets, details, scroll, table, tag, text
from migrator.report.model import Change, Entry, Json, Outage, Report
from migrator.report.style import STYLE
from migrator.trees import Branch, short

_STATUS = {
    "committed": ("good", "finished"),
    "rolled-back": ("good", "rolled back"),
    "dirty": ("bad", "hands needed"),
    "damaged": ("bad", "damaged journal"),
}
_OUTCOME = {"done": "good", "failed": "bad", "interrupted": "warn", "unfinished": "warn"}
_SEVERITY = {"blocker": "bad", "warning": "warn", "info": "note"}
_STATE = {"written": "good", "restored": "good", "not restored": "bad", "not written": "note"}


def render(report: Report) -> str:
    """Return the page; the same report gives the same bytes."""
    title = f"cgmigrate: {report.node.name or 'node'}, run {report.run}"
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    sections = [each for each in _sections(report) if each[2]]
    head = text(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    body = text(
        _header(report),
        tag(
            "nav",
            tag("ul", (tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections)),
            aria_label="Sections",
        ),
        tag(
            "main",
            (
                tag("section", tag("h2", title, id=name), inner, aria_labelledby=name)
                for name, title, inner in sections
            ),
        ),
        tag(
            "footer",
            tag(
                "p",
                f"Made by cgmigrate {report.tool} at {report.made} from the record of the run {report.run}. ",
                "Times are UTC.",
            ),
        ),
    )
    page = f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _sections(report: Report) -> Iterator[tuple[str, str, Markup]]:
    yield "missing", "What is missing here", bullets(report.missing)
    yield "failed", "What the way back could not do", _failed(report)
    yield "left", "Left to do by hand", _commands(report.left)
    yield "what", "What", _what(report)
    yield "why", "Why", _why(report)
    yield "outage", "Outage", _outage(report.outages)
    yield "changes", "Changed files", text(map(_change, report.changes))
    yield "timeline", "Timeline", _timeline(report.timeline)
    yield "trees", "Cgroup tree", _trees(report)
    yield "verification", "Verification", _verification(report)
    yield "pods", "Pods", _pods(report)
    yield "findings", "Findings of the audit", text(map(_finding, report.findings))
    yield "irreversible", "What a rollback does not bring back", bullets(report.cannot_be_undone)
    yield "next", "What can be done next", _todo(report)


def _header(report: Report) -> Markup:
    kind, word = _STATUS.get(report.status, ("warn", f"open: {report.status}"))
    if kind == "good" and (report.left or report.failed or not report.scope):
        kind = "warn"
    return tag(
        "header",
        tag("h1", report.title),
        tag("p", badge(kind, word), " ", report.summary, class_="summary"),
        tag("p", *_lines(report.reason), class_="reason") if report.reason else "",
    )


def _what(report: Report) -> Markup:
    node = report.node
    rows = [
        ("Run", report.run),
        ("Began", report.started),
        ("Last record", report.ended),
        ("Boots of the node", str(report.boots) if report.boots > 1 else ""),
        ("Node", node.name),
        ("Machine id", node.machine_id),
        ("System", node.os),
        ("Kernel", node.kernel),
        ("Cgroups", node.cgroups),
        ("systemd", node.systemd),
        ("Kubelet", node.kubelet),
        ("Runtime", node.runtime),
        ("Kind of run", "an image: files alone" if report.image else ""),
    ]
    said = ((tag("dt", name), tag("dd", value)) for name, value in rows if value)
    return tag("dl", (part for row in said for part in row))


def _why(report: Report) -> Markup:
    if not report.verdict:
        return Markup()
    return text(
        tag("p", "The audit's recommendation: ", tag("strong", report.verdict), "."), bullets(report.reasons)
    )


def _outage(outages: Sequence[Outage] | None) -> Markup:
    if outages is None:
        return tag("p", "Not known: what would tell is missing or damaged.")
    if not outages:
        return tag("p", "None: the kubelet was not stopped.")
    rows = [
        (
            "switch" if each.direction == "forward" else "way back",
            each.began or badge("warn", "not known: the node was booted again"),
            each.ended or badge("warn", "no end in the record"),
            _seconds(each.seconds),
        )
        for each in outages
    ]
    told = "From the stop of the kubelet until it was healthy again and the static pods ran, to the second."
    return text(
        tag("p", told), table("Times without kubelet and pods", ("during", "from", "until", "took"), rows)
    )


def _change(change: Change) -> Markup:
    return text(
        tag("h3", change.name),
        tag("p", badge(_STATE.get(change.state, "warn"), change.state), " ", change.why),
        scroll(
            f"Changed lines of {change.name}", tag("pre", (_diff_line(line) for line in _lines(change.diff)))
        ),
    )


def _diff_line(line: str) -> Markup:
    name = {"+": "ins", "-": "del"}.get(line[:1], "span")
    if line.startswith(("+++", "---")):
        name = "b"
    # A tab is as harmless here as in a file, and plain() would spell it out.
    return text(
        tag(
            name,
            (text(part, Markup("\t")) for part in line.split("\t")[:-1]),
            line.rsplit("\t", maxsplit=1)[-1],
        ),
        Markup("\n"),
    )


def _timeline(entries: Sequence[Entry]) -> Markup:
    rows = [
        (
            tag("time", each.time.replace("T", " ").removesuffix("Z"), datetime=each.time),
            text(tag("strong", ("back: " if each.direction == "back" else "") + each.step), " ")
            if each.step
            else "",
            text(
                each.what,
                tag("p", *_lines(each.error), class_="error") if each.error else "",
                _said(each.said),
            ),
            text(
                badge(_OUTCOME.get(each.outcome, "note"), each.outcome) if each.outcome else "",
                text(" ", tag("span", _seconds(each.seconds), class_="whole"))
                if each.seconds is not None
                else "",
            ),
        )
        for each in entries
    ]
    return (
        table("What happened, step by step", ("time (UTC)", "step", "what", "outcome"), rows)
        if rows
        else Markup()
    )


def _said(said: Sequence[str]) -> Markup:
    if not said:
        return Markup()
    lines = bullets(said)
    return lines if len(said) <= 3 else details(f"{plural(len(said), 'message')}", len(said), lines)


def _trees(report: Report) -> Markup:
    if not report.tree_before and not report.tree_after:
        return Markup()
    after = (
        _tree(report.tree_after)
        if report.tree_after
        else tag("p", report.unverified or "Not known: no comparison of a place holds.")
    )
    before = tag("p", "No pod ran." if report.scope else "Not known: plan.json is missing.")
    proof = report.verification
    seen = f", as both witnesses saw it at {proof['time']}" if proof and report.tree_after else ""
    since = tag("p", report.since) if report.since and report.tree_after else ""
    return tag(
        "div",
        tag("div", tag("h3", "Before"), _tree(report.tree_before) if report.tree_before else before),
        tag("div", tag("h3", f"After{seen}"), since, after),
        class_="beside",
    )


def _tree(branches: Sequence[Branch]) -> Markup:
    """Return a tree as nested lists; a branch's parent stands before it."""
    below: dict[str, list[Branch]] = {}
    for each in branches:
        below.setdefault(each.path.rpartition("/")[0], []).append(each)

    def level(parent: str) -> Markup:
        return tag("ul", (item(each) for each in below[parent])) if parent in below else Markup()

    def item(branch: Branch) -> Markup:
        name = tag("code", short(branch.path.rpartition("/")[2]))
        return tag("li", name, text(" ", tag("em", branch.what)) if branch.what else "", level(branch.path))

    return details(
        plural(len(branches), "cgroup"),
        len(branches),
        scroll("Cgroup tree", tag("div", level(""), class_="tree")),
    )


def _verification(report: Report) -> Markup:
    proof = report.verification
    if proof is None:
        return tag("p", report.unverified)
    held = sum(row["ok"] for row in proof["checks"])
    rows = [
        (
            badge("good", "holds") if row["ok"] else badge("bad", "DOES NOT HOLD"),
            row["name"],
            tag("code", short(row["place"])) if row["place"] else "",
            short(row["cgroupfs"]),
            "the same place" if row["systemd"] == row["place"] != "" else short(row["systemd"]),
        )
        for row in sorted(proof["checks"], key=lambda row: bool(row["ok"]))
    ]
    count = len(rows)
    comparisons = table(
        "Every comparison, those that do not hold first",
        ("held", "what", "place", "cgroupfs says", "systemd says"),
        rows,
    )
    return text(
        tag(
            "p",
            badge(*report.proof),
            f" Node on {proof['expected']}{' after a daemon-reload' if proof['reloaded'] else ''}, at {proof['time']}: "
            f"{held} of {plural(count, 'comparison')} hold; containers were watched for {proof['settle_seconds']:g} s. {report.since}",
        ),
        map(_finding, proof["findings"]),
        details(plural(count, "comparison"), count, comparisons) if rows else "",
    )


def _pods(report: Report) -> Markup:
    moves = [
        (
            f"{row['namespace']}/{row['name']}",
            "evicted" if row["goes"] else "stays, made anew",
            row["why"],
            ", ".join(
                word
                for word, holds in (
                    ("gone for good", row["lost"]),
                    ("emptyDir data deleted", row["data_deleted"]),
                )
                if holds
            ),
        )
        for row in report.moves
    ]
    places = [
        (
            f"{row['namespace']}/{row['pod']}" if row["pod"] else row["pod_uid"],
            row["container"] or (row["container_id"][:12] if row["kind"] == "container" else "the pod"),
            tag("code", short(row["from_path"])),
            tag("code", short(row["to_path"])),
        )
        for row in report.translations
    ]
    drain = table("What the plan's drain does to each pod", ("pod", "fate", "why", "loss"), moves)
    head = ("pod", "container", "from", "to")
    moved = table("Where the plan moves each cgroup (containers get new ids)", head, places)
    return text(
        drain if moves else "",
        details(plural(len(places), "cgroup"), len(places), moved) if places else "",
    )


def _finding(finding: Json) -> Markup:
    reference = f" ({finding['reference']})" if finding["reference"] else ""
    return text(
        tag(
            "h3",
            badge(_SEVERITY.get(finding["severity"], "note"), finding["severity"]),
            " ",
            finding["summary"],
        ),
        tag("p", f"{finding['id']}{reference}: {finding['subject']}", class_="quiet"),
        (tag("p", line) for line in _lines(finding["detail"]) if line),
        tag("p", "Remedy: ", tag("code", finding["remediation"])) if finding["remediation"] else "",
    )


def _todo(report: Report) -> Markup:
    return tag("ul", (tag("li", tag("code", each.command), f" {each.what}") for each in report.next))


def _failed(report: Report) -> Markup:
    lines = (
        tag("li", tag("strong", each.step), ": ", tag("span", each.error, class_="error"))
        for each in report.failed
    )
    return tag("ul", lines) if report.failed else Markup()


def _commands(commands: Sequence[str]) -> Markup:
    return tag("ul", (tag("li", tag("code", each)) for each in commands)) if commands else Markup()


def _lines(whole: str) -> list[str]:
    return whole.removesuffix("\n").split("\n")


def _seconds(seconds: int | None) -> str:
    return (
        "unknown"
        if seconds is None
        else f"{seconds // 60} min {seconds % 60} s"
        if seconds >= 60
        else f"{seconds} s"
    )
