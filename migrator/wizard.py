# SPDX-License-Identifier: Apache-2.0
"""The guided path: look, decide, plan, agree, apply, prove; with a way back and a way out at every question.

It adds no second way to do anything. Each part is the function of a command, and what is asked is of `migrator.questions`; what
is here is only the order. Nothing is changed before the last question is answered.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from migrator import prompts, show
from migrator.answers import write_answers
from migrator.checks.base import plural
from migrator.commands_change import carry_out, go_on, rollback
from migrator.commands_look import write_file
from migrator.errors import BlockedError, CgmigrateError, ConflictError, UsageError
from migrator.findings import Severity
from migrator.host import Host
from migrator.journal import Run, Runs
from migrator.options import OnFailure, answers_of, need_root, progress
from migrator.plan import render
from migrator.plan_options import PlanOptions
from migrator.questions import BUDGET, ON_FAILURE, PLANNING, Question, of_plan
from migrator.session import look, plan_node
from migrator.terminal import plain_mode

if TYPE_CHECKING:
    from migrator.audit import Audit
    from migrator.plan import Plan
    from migrator.session import Voice

_BACK = {"back": "the question before"}
_QUIT = {"quit": "leave; that changes nothing"}
_AGAIN = {"again": "look at the node once more"}

_WELCOME = """cgmigrate takes this node from the cgroupfs to the systemd cgroup driver.

What happens: it looks at the node, says whether it should move at all, asks what it cannot know, and shows every step and every
changed line. Only after your last word the pods are drained, kubelet and runtime are stopped, their files are changed, and both
are started again. Then cgroupfs and systemd have to agree on every pod.

What does not happen: nothing is changed before that last word; no file is changed that you have not seen; nothing is done that
`cgmigrate rollback` cannot take back, but for what the plan names. Ctrl-C loses nothing, at any time."""


class _LeaveError(Exception):
    """The operator quits."""


@dataclass
class Sitting:
    """What is known so far; `given` are the answers, by key."""

    host: Host
    kubeconfig: str
    given: dict[str, str] = field(default_factory=dict)
    found: Audit | None = None
    made: Plan | None = None


Stage: TypeAlias = "Callable[[Sitting], Stage | None]"


def run(root: str, kubeconfig: str, given: Mapping[str, str]) -> None:
    """Guide an operator through a node.

    Raises:
        UsageError: there is no terminal to do it on, or not root.
        CgmigrateError: as the commands.
    """
    if not (prompts.terminal() and sys.stdout.isatty()):
        raise UsageError(
            "the guided path needs a terminal",
            hint="`cgmigrate --help` lists the commands; without a terminal: audit, plan -o FILE, apply FILE --yes",
        )
    need_root()
    sitting = Sitting(Host(root), kubeconfig, dict(given))
    stage: Stage | None = _interrupted
    try:
        while stage is not None:
            stage = stage(sitting)
    except _LeaveError:
        show.note("left; nothing was changed by that")
    except KeyboardInterrupt:  # in a run it is a signal like others, and never comes here
        show.note("stopped; nothing was changed by that")
        raise


def _ask(text: str, choices: Mapping[str, str], default: str) -> str:
    """Ask where to go next."""
    return _answer(Question(key="", text=text, choices={**choices, **_QUIT}, default=default), {})


def _answer(question: Question, also: Mapping[str, str]) -> str:
    """Ask, and leave where that is the answer.

    Raises:
        _LeaveError: the operator quits.
    """
    show.note("")
    answer = prompts.ask(question, also)
    if answer == "quit":
        raise _LeaveError
    return answer


def _interrupted(s: Sitting) -> Stage | None:
    """Offer what a run needs that is open."""
    runs = Runs(s.host)
    left = runs.unsettled()
    if left is None:
        return _welcome
    worker = runs.worker()
    show.status_view([(left.name, left.state())], worker)
    if worker:
        answer = _ask("A run is at work on this node.", {"look": "see where it is now"}, "look")
    else:
        answer = _ask(
            "A run was left in the middle.",
            {
                "look": "see what it has done",
                "resume": "go on from where it stopped",
                "rollback": "take the node back to what it was",
            },
            "look",
        )
    if answer == "look":
        for record in left.records()[-12:]:
            prompts.tell(f"{record.time}  {record.kind} {record.step}", 2)
        return _interrupted
    if answer == "resume":
        go_on(s.host, answers_of(None), shown=left)
    else:
        rollback(left.name, root=s.host.root)
    return None


def _welcome(_: Sitting) -> Stage:
    for paragraph in _WELCOME.split("\n\n"):
        prompts.tell(paragraph.replace("\n", " "))
        show.note("")
    _ask("Look at this node now?", {"look": "changes nothing"}, "look")
    return _audit


def _audit(s: Sitting) -> Stage:
    s.found = look(s.host, progress, PlanOptions(kubeconfig=s.kubeconfig))
    show.audit_view(s.found)
    return _judged


def _judged(s: Sitting) -> Stage:
    """Go on from the findings, if there is a way."""
    found = _of(s.found)
    blockers = [each for each in found.findings if each.severity is Severity.BLOCKER]
    verdict = found.recommendation.verdict
    if blockers:
        text, ways, default = (
            f"{len(blockers)} in the way: each is above, with what to do. Mend it, then look again.",
            {},
            "again",
        )
    elif verdict == "migrate":
        text, ways, default = "Go on to the choices?", {"go-on": "nothing is changed yet"}, "go-on"
    elif verdict in ("optional", "stay"):
        text = f"The recommendation is: {verdict}. Go on all the same?"
        ways, default = {"go-on": "to the choices; nothing is changed yet"}, "quit"
    elif any(question.key == "references" for question in PLANNING if question.concerns(found)):
        text, ways, default = (
            "Go on, for the files that name old cgroups?",
            {"go-on": "to the choice"},
            "quit",
        )
    else:
        text, ways, default = f"There is nothing to do here: {verdict}.", {}, "quit"
    match _ask(text, {**ways, **_AGAIN, **_BACK}, default):
        case "again":
            return _audit
        case "back":
            return _welcome
        case _:
            return _choices


def _choices(s: Sitting) -> Stage:
    """Ask what matters on this node; `back` is the question before."""
    found = _of(s.found)
    asked = [each for each in (*PLANNING, ON_FAILURE, BUDGET) if each.concerns(found)]
    at = 0
    while at < len(asked):
        question = asked[at]
        show.note("")
        prompts.tell(f"[{at + 1}/{len(asked)}] about {', '.join(question.concerns(found))}")
        answer = _answer(_with_default(question, s.given.get(question.key)), {**_BACK, **_QUIT})
        if answer == "back":
            if at == 0:
                return _judged
            at -= 1
            continue
        s.given[question.key] = answer
        at += 1
    return _plan


def _with_default(question: Question, chosen: str | None) -> Question:
    """Return a question whose Enter gives what was chosen before; Ctrl-C ends the wizard, whatever it does in a run."""
    return replace(question, default=chosen or question.default, gone="")


def _plan(s: Sitting) -> Stage:
    found = _of(s.found)
    # What does not matter decides nothing, whoever answered it: a file, or this operator before the last look.
    chosen = {each.key: s.given[each.key] for each in PLANNING if each.concerns(found)}
    options = PlanOptions.answered(chosen, kubeconfig=s.kubeconfig)
    try:
        s.made = plan_node(s.host, found, options)
    except (BlockedError, ConflictError) as error:
        prompts.tell(error.message)
        if error.hint:
            prompts.tell(f"-> {error.hint}", 2)
        answer = _ask("There is no plan.", {"back": "change an answer", **_AGAIN}, "back")
        return _choices if answer == "back" else _audit
    show.plan_view(s.made.document)
    return _planned


def _planned(s: Sitting) -> Stage | None:
    made = _of(s.made)
    show.note("")
    for line in outage(made.document):
        prompts.tell(line)
    ways = {
        "apply": "asks for your last word first",
        "write": "write plan and answers to files, and apply nothing",
        "show": "the plan once more",
        **_BACK,
    }
    match _ask("What now?", ways if made.steps else {"show": ways["show"], **_BACK}, "show"):
        case "apply":
            return _agree
        case "write":
            return _write
        case "show":
            show.plan_view(made.document)
            return _planned
        case _:
            return _choices


def outage(document: Mapping[str, Any]) -> list[str]:
    """Return what is away meanwhile, and for how long about: measured on nodes with a few pods, see docs/benchmarks.md."""
    steps = document["steps"]
    if not any(step["kind"] == "stop-unit" and step["id"] not in document["deferred"] for step in steps):
        return ["Expected outage: none; no pod is touched."]
    going = sum(move["goes"] for move in document["moves"])
    stay = max(len({row["pod_uid"] for row in document["translations"]}) - going, 0)
    how_long = "for seconds up to a minute, as long as runtime and kubelet need to start them"
    lines = [f"Expected outage: the {plural(stay, 'pod')} that stay are stopped and made anew, {how_long}."]
    if going:
        lines.append(f"{plural(going, 'pod')} evicted before that, and made anew elsewhere.")
    if any(finding["id"] == "control-plane" for finding in document["findings"]):
        lines.append("The API server of this node is away meanwhile.")
    return lines


def _write(s: Sitting) -> Stage | None:
    """Write plan and answers, for review or for a run without a terminal."""
    plan, answers = Path("plan.json"), Path("answers.yaml")
    show.note(f"written here are {plan.absolute()} and {answers.absolute()}")
    if _ask("Write them?", {"write": "files of these names are replaced", **_BACK}, "write") == "back":
        return _planned
    try:
        write_file(plan, render(_of(s.made).document))
        write_file(answers, write_answers(_of(s.found), s.given).encode("utf-8", "backslashreplace"))
    except UsageError as error:
        prompts.tell(error.message)
        return _planned
    show.outcome("nothing was changed; next: cgmigrate --answers answers.yaml apply plan.json")
    return None


def _agree(s: Sitting) -> Stage | None:
    """Ask for the last word, and begin."""
    document = _of(s.made).document
    agree, *_ = of_plan(document, "this plan")
    answer = _answer(agree, {**_BACK, **_QUIT})
    if not agree.agreed(answer):
        show.note("" if answer == "back" else "not agreed; nothing was changed")
        return _planned
    run = carry_out(
        s.host,
        render(document),
        "the plan that was shown",
        OnFailure(s.given.get("on-failure", ON_FAILURE.default)),
        lambda run: _voice(s, run),
    )
    _prove(s, run)
    return None


def _voice(s: Sitting, run: Run) -> AbstractContextManager[Voice]:
    """Return who tells the run: one live view, or lines where nothing may be drawn."""
    if plain_mode():
        return contextlib.nullcontext(show.voice(s.given, ask=True))
    from migrator.live import LiveView  # noqa: PLC0415 - late

    steps = _of(s.made).steps
    units = sorted({unit for step in steps for unit in step.params.get("units", ())})

    def services() -> str:
        if not units or not s.host.live:
            return ""
        states = s.host.run(["systemctl", "is-active", *units], timeout=5).stdout.split()
        return ", ".join(f"{unit} {state}" for unit, state in zip(units, states, strict=False))

    return LiveView(run, steps, services, prompts.ask, s.given)


def _prove(s: Sitting, run: Run) -> None:
    """Show what both witnesses say, and what comes next; the run is settled, whatever happens here."""
    if s.host.live:
        from migrator import verify  # noqa: PLC0415 - late

        # The run has its own proof behind it; Ctrl-C ends this one only.
        with contextlib.suppress(CgmigrateError, KeyboardInterrupt):
            show.verification_view(verify.verify(s.host, progress=progress), witnesses=True)
    document = _of(s.made).document
    for line in (
        f"the old files are in {run.directory}/blobs",
        f"for the change ticket: cgmigrate report {run.name} --format html",
        "next node: `cgmigrate` there, workers first, the control plane last and one at a time",
    ):
        show.outcome(f"  {line}")
    if document["options"]["cluster_config"] is False and s.given.get("cluster-config"):
        show.outcome("  kubeadm's ConfigMap is as it was: `cgmigrate cluster plan` shows what to change")


def _of(value: Any) -> Any:
    """Return what an earlier stage has put there.

    Raises:
        CgmigrateError: it has not.
    """
    if value is None:
        raise CgmigrateError("a stage of the guided path came before its time")
    return value
